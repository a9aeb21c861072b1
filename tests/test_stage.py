"""Staging: make_dist.sh decides, and without one the project is shipped less what is no use."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.embedded import lay_out
from yo_dawg.checkout import Checkout
from yo_dawg.errors import BuildScriptError, ConfigError, PackageError
from yo_dawg.log import Log
from yo_dawg.process import Shell, child_environ
from yo_dawg.settings import Settings
from yo_dawg.workshop.package.rules import Rules
from yo_dawg.workshop.package.stage import is_project_junk, stage
from yo_dawg.workspace import Workspace, put_python_on_path, workspace

COMMIT = "0123456789" * 4


@pytest.fixture
def space(tmp_path: Path) -> Iterator[Workspace]:
    with workspace(tmp_path, tmp_is_ours=False) as space:
        yield space


def settings() -> Settings:
    return Settings("b", ("*",), "https://git.example", "", "", Path("/tmp"), tmp_is_ours=False)


def run(space: Workspace, files: dict[str, str], subdirectory: str = ".") -> Log:
    """Stage a project of these files; return the log."""
    space.checkout.mkdir()
    lay_out(space.checkout, files)
    put_python_on_path(space)
    log = Log(())
    checkout = Checkout(space.checkout, space.checkout / subdirectory, COMMIT, "main", frozenset(files))
    stage(checkout, Rules(), Shell(child_environ(space, settings()), log), log)
    return log


def staged(space: Workspace) -> set[str]:
    return {path.relative_to(space.staging).as_posix() for path in space.staging.rglob("*") if path.is_file()}


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
        pytest.param("app/mod.pyc", False, id="bytecode"),
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
    assert is_project_junk(tmp_path / "docs", top=True)
    assert not is_project_junk(tmp_path / "docs", top=False)
