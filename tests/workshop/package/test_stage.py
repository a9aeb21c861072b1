"""Staging: make_dist.sh decides, and without one the project is shipped less what is no use."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.support.embedded import lay_out
from yo_dawg.checkout import Checkout
from yo_dawg.errors import BuildScriptError, ConfigError, PackageError
from yo_dawg.log import Log
from yo_dawg.process import Shell, child_environ
from yo_dawg.settings import Settings
from yo_dawg.trees import walk
from yo_dawg.workshop.package.install import Installed
from yo_dawg.workshop.package.left_out import MAX_LEFT_OUT, project_junk
from yo_dawg.workshop.package.prune import LEFT_OUT, Pruned, PrunedFile, keep_imported, restore
from yo_dawg.workshop.package.rules import Rules
from yo_dawg.workshop.package.stage import Staged, offer, stage, still_left_out
from yo_dawg.workspace import Workspace, put_python_on_path, workspace

COMMIT = "0123456789" * 4
NO_RULES = Rules()


@pytest.fixture
def space(tmp_path: Path) -> Iterator[Workspace]:
    with workspace(tmp_path, tmp_is_ours=False) as space:
        yield space


def settings() -> Settings:
    return Settings("b", ("*",), "https://git.example", "", "", Path("/tmp"), tmp_is_ours=False)


@dataclass(frozen=True)
class Partial(Checkout):
    """A checkout that lacks something."""

    outside_links: Mapping[str, str] = field(default_factory=dict)
    unfetched_lfs: Mapping[str, str] = field(default_factory=dict)


def run(
    space: Workspace,
    files: Mapping[str, str],
    subdirectory: str = ".",
    rules: Rules = NO_RULES,
    handlers: Sequence[str] = (),
    outside_links: Mapping[str, str] = MappingProxyType({}),
    unfetched_lfs: Mapping[str, str] = MappingProxyType({}),
) -> Staged:
    """Stage a project of these files."""
    space.checkout.mkdir()
    lay_out(space.checkout, files)
    put_python_on_path(space)
    log = Log(())
    checkout = Partial(
        space.checkout,
        space.checkout / subdirectory,
        COMMIT,
        "main",
        frozenset(files),
        outside_links=outside_links,
        unfetched_lfs=unfetched_lfs,
    )
    return stage(checkout, rules, Shell(child_environ(space, settings()), log), log, handlers)


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def staged(space: Workspace) -> set[str]:
    return names(space.staging)


def test_make_dist_gets_the_staging_directory_and_runs_in_the_projects_folder(space: Workspace) -> None:
    (space.staging / "installed.py").write_text("")
    script = (
        'ls "$1" > "$1/listing"\npwd > "$1/pwd"\necho "$COMMIT" > "$1/commit"\ncp app.py "$1"\nrm "$1/installed.py"\n'
    )
    run(space, {"sub/make_dist.sh": script, "sub/app.py": "x"}, "sub")
    assert (space.staging / "listing").read_text().split() == ["installed.py", "listing"]
    assert (space.staging / "pwd").read_text().strip() == str(space.checkout / "sub")
    assert (space.staging / "commit").read_text().strip() == COMMIT
    assert staged(space) == {"listing", "pwd", "commit", "app.py"}


@pytest.mark.parametrize("python", ["python3", "python", '"$PYTHON"'])
def test_make_dist_finds_the_functions_python(space: Workspace, python: str) -> None:
    run(space, {"make_dist.sh": f'{python} -c "import sys; print(sys.version)" > "$1/version"\n'})
    assert (space.staging / "version").read_text().strip() == sys.version


def test_make_dist_finds_nothing_of_the_handlers_environment(space: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "canary")
    monkeypatch.setenv("SOMETHING_ELSE", "canary")
    run(space, {"make_dist.sh": 'env > "$1/env"\n'})
    found = (space.staging / "env").read_text()
    assert "HOME=" in found
    assert "canary" not in found


def test_a_make_dist_that_fails_says_how_with_its_last_lines(space: Workspace) -> None:
    with pytest.raises(BuildScriptError) as failed:
        run(space, {"make_dist.sh": "for i in $(seq 100); do echo line $i; done; echo oh no >&2; exit 3\n"})
    assert "make_dist.sh ended with exit status 3" in str(failed.value)
    assert str(failed.value).endswith("line 99\nline 100\noh no")
    assert "line 10\n" not in str(failed.value)


def test_a_make_dist_that_prints_nothing_says_so(space: Workspace) -> None:
    with pytest.raises(BuildScriptError, match="It printed nothing"):
        run(space, {"make_dist.sh": "false\n"})


def test_a_full_disk_is_the_operators_matter(space: Workspace) -> None:
    with pytest.raises(ConfigError, match="ephemeral_storage"):
        run(space, {"make_dist.sh": "echo 'cp: error writing: No space left on device' >&2; exit 1\n"})


@pytest.mark.parametrize(
    ("name", "shipped"),
    [
        pytest.param("lambda_function.py", True, id="code"),
        pytest.param("templates/docs/a.html", True, id="docs deeper down are data"),
        pytest.param("app/tests/a.py", True, id="tests deeper down may be imported"),
        pytest.param("app/requirements.txt", True, id="requirements deeper down are data"),
        pytest.param("data.lock.json", True, id="only what ends in .lock"),
        pytest.param("testing.py", True, id="a module whose name begins like a test's"),
        pytest.param("app/.hidden", True, id="dotfiles deeper down"),
        pytest.param("LICENSE", True, id="licence"),
        pytest.param("build.py", True, id="build.py"),
        pytest.param(".env", False, id="secrets of a developer"),
        pytest.param(".github/workflows/ci.yml", False, id="CI"),
        pytest.param("tests/test_app.py", False, id="tests"),
        pytest.param("test_app.py", False, id="a test"),
        pytest.param("docs/index.md", False, id="docs"),
        pytest.param("README.md", False, id="readme"),
        pytest.param("requirements-dev.txt", False, id="requirements"),
        pytest.param("uv.lock", False, id="lock file"),
        pytest.param("app/__pycache__/a.pyc", False, id="caches"),
        pytest.param("mod.pyc", True, id="a module of which there is only bytecode"),
        pytest.param("kept.pyc", False, id="bytecode beside its source"),
        pytest.param("pkg.egg-info/PKG-INFO", False, id="egg-info"),
    ],
)
def test_without_make_dist_the_project_is_shipped_less_what_is_no_use(
    space: Workspace, name: str, shipped: bool
) -> None:
    run(space, {name: "x", "kept.py": ""})
    assert staged(space) == {"kept.py", *([name] if shipped else [])}


def test_a_virtualenv_is_known_by_its_mark_not_by_its_name(space: Workspace) -> None:
    run(space, {"my-env/pyvenv.cfg": "", "my-env/lib/a.py": "", "env/config.py": ""})
    assert staged(space) == {"env/config.py"}


def test_the_projects_file_wins_over_a_dependencys(space: Workspace) -> None:
    (space.staging / "six.py").write_text("theirs")
    run(space, {"six.py": "ours"})
    assert (space.staging / "six.py").read_text() == "ours"


def test_a_file_in_the_place_of_a_dependencys_folder_is_refused(space: Workspace) -> None:
    (space.staging / "requests").mkdir()
    with pytest.raises(PackageError, match="'requests' collides"):
        run(space, {"requests": "not a folder"})


def test_links_inside_of_the_repository_are_followed_also_out_of_the_subdirectory(space: Workspace) -> None:
    space.checkout.mkdir()
    (space.checkout / "app").mkdir()
    (space.checkout / "common").mkdir()
    (space.checkout / "common/util.py").write_text("shared")
    (space.checkout / "app/common").symlink_to("../common")
    log = Log(())
    checkout = Checkout(space.checkout, space.checkout / "app", COMMIT, "main", frozenset({"common/util.py"}))
    stage(checkout, Rules(), Shell({}, log), log)
    assert (space.staging / "common/util.py").read_text() == "shared"
    assert not (space.staging / "common").is_symlink()


def test_a_link_that_a_requirements_build_made_to_outside_is_refused(space: Workspace) -> None:
    space.checkout.mkdir()
    (space.checkout / "loot.py").symlink_to("/etc/passwd")
    log = Log(())
    with pytest.raises(PackageError, match=r"'loot\.py' points at '/etc/passwd'"):
        stage(
            Checkout(space.checkout, space.checkout, COMMIT, "main", frozenset({"loot.py"})),
            Rules(),
            Shell({}, log),
            log,
        )
    assert staged(space) == set()


def test_what_the_build_of_a_requirement_left_in_the_project_is_not_the_projects(space: Workspace) -> None:
    space.checkout.mkdir()
    for name in ("app.py", "build/lib/app.py"):
        (space.checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (space.checkout / name).write_text("")
    log = Log(())
    stage(
        Checkout(space.checkout, space.checkout, COMMIT, "main", frozenset({"app.py"})),
        Rules(),
        Shell({}, log),
        log,
    )
    assert staged(space) == {"app.py"}


@pytest.mark.parametrize(
    "script",
    [
        pytest.param('rm -rf "$1"', id="removed"),
        pytest.param('rm -rf "$1"; ln -s /etc "$1"', id="replaced by a link"),
        pytest.param('mv "$1" "$1-2"; ln -s /etc "$1"', id="moved away"),
        pytest.param('cd "$1/../.." && mv yo-dawg elsewhere', id="the whole workspace moved"),
    ],
)
def test_a_staging_directory_that_is_not_ours_any_more_is_refused(space: Workspace, script: str) -> None:
    with pytest.raises(BuildScriptError, match="removed or replaced the builder's directory"):
        run(space, {"make_dist.sh": script})


def test_what_was_left_out_is_told(space: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    run(space, {"a.py": "", "tests/b.py": "", ".forged\n[8/8] deploy": ""})
    assert "copied 1 files, left out .forged�[8" in capsys.readouterr().out


def test_junk_is_told_by_the_place_too(tmp_path: Path) -> None:
    assert project_junk(tmp_path / "docs", top=True)
    assert not project_junk(tmp_path / "docs", top=False)


# --- What is left out, and may be put back ---------------------------------------------------------------


LEFT = {
    "README.md": "r", "docs/faq.md": "f", "tests/test_app.py": "t", "test_more.py": "m", "pyproject.toml": "p",
    "CHANGES_api.py": "c",
}  # fmt: skip
NEVER = {
    ".env": "s", ".git/config": "g", "venv/pyvenv.cfg": "v", "venv/lib/a.py": "v", "node_modules/a/a.js": "n",
    "tests/__pycache__/test_app.pyc": "p", "docs/.env": "s",
}  # fmt: skip


def test_what_is_left_out_lies_ready(space: Workspace) -> None:
    made = run(space, {"app.py": "", **LEFT, **NEVER})
    assert staged(space) == {"app.py"}
    assert names(space.pruned) == made.offered.keys() == LEFT.keys()
    assert made.offered["docs/faq.md"] == PrunedFile(LEFT_OUT, "docs", 1)
    assert made.offered["README.md"] == PrunedFile(LEFT_OUT, "README.md", 1)
    everything = {name.partition("/")[0] for name in {**LEFT, **NEVER}}
    assert [*made.left_out] == sorted(everything)


def test_it_is_not_counted_as_pruned_and_told_until_it_is_put_back(space: Workspace) -> None:
    made = run(space, {"app.py": "", **LEFT, **NEVER})
    pruned = offer(Pruned({"a/tests/b.py": PrunedFile("tests", "a/tests", 9)}, {}), made)
    assert (pruned.files, pruned.bytes, pruned.reasons) == (1, 9, {"tests": 9})
    assert still_left_out(made, pruned) == [*made.left_out]
    after = restore(space, pruned, {"docs": "the import of app.handler looks for it"})
    assert staged(space) == {"app.py", "docs/faq.md"}
    assert after.kept == {"docs": "0.0 kB: the import of app.handler looks for it"}
    assert still_left_out(made, after) == [name for name in made.left_out if name != "docs"]


@pytest.mark.parametrize(
    ("code", "back"),
    [
        ("def handler():\n    from tests import test_app\n", {"tests/test_app.py"}),
        ("def handler():\n    import test_more\n", {"test_more.py"}),
        ("from CHANGES_api import x\n", {"CHANGES_api.py"}),
        ("import importlib\nimportlib.import_module('test_more')\n", {"test_more.py"}),
        ("def handler():\n    return os.listdir('docs')\n", {"docs/faq.md"}),
        ("def handler():\n    return open(f'{HERE}/docs/faq.md')\n", {"docs/faq.md"}),
        ("VERSION = tomllib.load(open('pyproject.toml', 'rb'))\n", {"pyproject.toml"}),
        ("(Path(__file__).parent.parent / 'README.md').read_text()\n", {"README.md"}),
        ("load_dotenv('.env')\n", set()),
        ("# docs, see README.md and the tests\n", set()),
    ],
)
@pytest.mark.parametrize("name", ["app.py", "src/app.py"])
def test_what_the_projects_code_names_is_put_back(space: Workspace, name: str, code: str, back: set[str]) -> None:
    made = run(space, {name: code, "setup.py": "open('README.md'), 'tests'\n", **LEFT, **NEVER})
    pruned = keep_imported(walk(space.staging), Installed((), {}), offer(Pruned({}, {}), made), space)
    assert staged(space) == {name, "setup.py", *back}
    assert len(pruned.kept) == len({each.partition("/")[0] for each in back})


@pytest.mark.parametrize(
    ("handler", "name", "more"),
    [
        ("load_test.lambda_handler", "load_test.py", set()),
        ("tests.app.h", "tests/app.py", {"tests/more.txt"}),
        ("tests/app.h", "tests/app.py", {"tests/more.txt"}),
        ("docs.h", "docs/__init__.py", set()),
        ("test_app.h", "test_app.pyc", set()),
        ("conftest.h", "conftest.py", set()),
    ],
)
def test_what_the_handler_lies_in_is_never_left_out(space: Workspace, handler: str, name: str, more: set[str]) -> None:
    made = run(space, {name: "", **dict.fromkeys(more, ""), "test_other.py": ""}, handlers=["app.h", handler])
    assert staged(space) == {name, *more}
    assert [*made.left_out] == ["test_other.py"]


def test_what_is_dropped_is_not_put_back(space: Workspace) -> None:
    made = run(space, {"app.py": "", **LEFT}, rules=Rules(drop=frozenset({"docs/faq.md"})))
    assert made.offered.keys() == LEFT.keys() - {"docs/faq.md"}


@pytest.mark.parametrize(
    ("name", "is_told"),
    [
        (".env", True),
        (".env.production", True),
        (".envrc", True),
        (".env.example", False),
        (".environment", False),
        (".gitignore", False),
    ],
)
def test_a_file_of_secrets_is_told(space: Workspace, name: str, is_told: bool) -> None:
    made = run(space, {"app.py": "", name: "PASSWORD=x"})
    assert staged(space) == {"app.py"}
    assert [each.partition(" ")[0] for each in made.warnings] == ([name] if is_told else [])


def test_a_file_of_secrets_can_be_shipped(space: Workspace) -> None:
    made = run(space, {"app.py": "", ".env": "x"}, rules=Rules(keep=frozenset({".env"})))
    assert staged(space) == {"app.py", ".env"}
    assert (made.warnings, dict(made.left_out)) == ((), {})


def test_what_is_deeper_is_told_by_its_pattern(space: Workspace) -> None:
    files = {
        "app.py": "",
        "a/__pycache__/a.pyc": "",
        "b/__pycache__/b.pyc": "",
        "b/x.egg-info/y": "",
        "b/env/pyvenv.cfg": "",
    }
    assert [*run(space, files).left_out] == ["**/*.egg-info (1)", "**/__pycache__ (2)", "**/env (1)"]


def test_no_more_is_told_than_fits(space: Workspace) -> None:
    made = run(space, {"app.py": "", **{f"test_{number:03}.py": "" for number in range(250)}})
    assert len(made.left_out) == MAX_LEFT_OUT
    assert [*made.left_out][-2:] == ["test_098.py", "and 151 more"]
    assert len(made.offered) == 250


def test_with_a_make_dist_nothing_is_left_out(space: Workspace) -> None:
    assert run(space, {"make_dist.sh": 'cp README.md "$1"\n', "README.md": "", ".env": ""}) == Staged()
    assert staged(space) == {"README.md"}


def test_the_project_wins_over_a_dependency_also_in_what_is_left_out(space: Workspace) -> None:
    (space.pruned / "tests").mkdir()
    (space.pruned / "tests/helper.py").write_text("theirs")
    theirs = Pruned({"tests/helper.py": PrunedFile("tests", "tests", 6)}, {})
    made = run(space, {"app.py": "", "tests/helper.py": "ours"})
    restore(space, offer(theirs, made), {"tests": "asked for"})
    assert (space.staging / "tests/helper.py").read_text() == "ours"


# --- What the checkout could not give ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "is_refused"),
    [
        ("data/link", True),
        ("link.py", True),
        ("app/tests/link", True),
        ("venv/bin/python", False),
        ("tests/data/link", False),
        ("docs/link", False),
        (".github/link", False),
        ("a/__pycache__/link", False),
        ("dropped/link", False),
    ],
)
def test_a_link_out_of_the_repository_is_refused_where_it_would_ship(
    space: Workspace, path: str, is_refused: bool
) -> None:
    files, rules = {"app.py": "", "venv/pyvenv.cfg": "", "data/x": ""}, Rules(drop=frozenset({"dropped/link"}))
    if is_refused:
        with pytest.raises(PackageError, match=rf"{path}' points at '/usr/bin/x', outside.* drop, in") as refused:
            run(space, files, rules=rules, outside_links={path: "/usr/bin/x"})
        assert "Replace it" in str(refused.value)
    else:
        run(space, files, rules=rules, outside_links={path: "/usr/bin/x"})


def test_links_of_other_projects_in_the_repository_are_theirs(space: Workspace) -> None:
    run(space, {"api/app.py": "", "web/x": ""}, "api", outside_links={"web/link": "/etc/x", "link": "/etc/x"})
    assert staged(space) == {"app.py"}


def test_a_link_in_a_folder_that_the_project_links_to_would_ship(space: Workspace) -> None:
    (space.checkout / "api").mkdir(parents=True)
    (space.checkout / "common").mkdir()
    (space.checkout / "common/a.py").write_text("")
    (space.checkout / "api/common").symlink_to("../common")
    files = frozenset({"common/a.py"})
    checkout = Partial(space.checkout, space.checkout / "api", COMMIT, "main", files, outside_links={"common/b": "/x"})
    with pytest.raises(PackageError, match="'common/b' points at '/x'"):
        stage(checkout, NO_RULES, Shell({}, Log(())), Log(()))


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"


@pytest.mark.parametrize(
    ("path", "is_refused"), [("model.bin", True), ("a/docs/movie.mp4", True), ("docs/movie.mp4", False), ("d/x", False)]
)
def test_a_pointer_into_lfs_is_refused_where_it_would_ship(space: Workspace, path: str, is_refused: bool) -> None:
    files, rules = {"app.py": "", path: POINTER}, Rules(drop=frozenset({"d/x"}))
    if is_refused:
        with pytest.raises(PackageError, match=rf"'{path}' is a pointer into Git LFS.*: the server has none. Push it"):
            run(space, files, rules=rules, unfetched_lfs={path: "the server has none"})
    else:
        made = run(space, files, rules=rules, unfetched_lfs={path: "the server has none"})
        assert staged(space) == {"app.py"}
        assert made.offered == {}  # nobody is given a pointer


@pytest.mark.parametrize("script", ['cp model.bin "$1"', 'cp model.bin "$1/other"; chmod 0 "$1/other"'])
def test_a_pointer_that_make_dist_ships_is_refused(space: Workspace, script: str) -> None:
    files = {"make_dist.sh": script, "model.bin": POINTER}
    with pytest.raises(PackageError, match="is a pointer into Git LFS.*: no such object"):
        run(space, files, unfetched_lfs={"model.bin": "no such object"})


def test_a_pointer_that_make_dist_does_not_ship_is_nobodys_matter(space: Workspace) -> None:
    run(space, {"make_dist.sh": 'echo x > "$1/app.py"', "model.bin": POINTER}, unfetched_lfs={"model.bin": "none"})
    assert staged(space) == {"app.py"}


# --- Line ends, and time -----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ['cp app.py "$1"\r\n', '#!/bin/bash\r\nset -e\r\ncp app.py "$1"\r\n'])
def test_windows_line_ends_are_told_by_their_cause(space: Workspace, text: str) -> None:
    """The first would end well, and ship a folder whose name ends with a carriage return."""
    with pytest.raises(BuildScriptError, match=r"make_dist.sh cannot be run: .*CRLF.*eol=lf"):
        run(space, {"app.py": "", "make_dist.sh": text})


def test_some_windows_line_ends_are_told_if_it_fails(space: Workspace) -> None:
    with pytest.raises(BuildScriptError, match=r"exit status 1.*Some of its lines end so: .*CRLF"):
        run(space, {"make_dist.sh": "cd nowhere\r\n[ -d nowhere ]\n"})


def test_some_windows_line_ends_may_be_meant(space: Workspace) -> None:
    run(space, {"make_dist.sh": 'cat >"$1/a.csv" <<EOF\na;b\r\nEOF\n'})
    assert (space.staging / "a.csv").read_bytes() == b"a;b\r\n"


@pytest.mark.parametrize(("files", "told"), [({"make_dist.sh": "true\n"}, ["make_dist.sh"]), ({"app.py": ""}, [])])
def test_who_counts_the_time_is_told_of_make_dist(space: Workspace, files: dict[str, str], told: list[str]) -> None:
    space.checkout.mkdir()
    lay_out(space.checkout, files)
    done: list[str] = []
    checkout = Checkout(space.checkout, space.checkout, COMMIT, "main", frozenset(files))
    shell = Shell(child_environ(space, settings()), Log(()))
    stage(checkout, NO_RULES, shell, Log(()), doing=done.append)
    assert done == told
