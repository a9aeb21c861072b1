"""What a project says of its package itself: keep and drop in [tool.yo-dawg]; and what Lambda brings along."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.support.embedded import lay_out
from tests.support.wheels import UV, make_wheel
from yo_dawg.builder import RUNTIME_PROVIDES
from yo_dawg.checkout import Checkout
from yo_dawg.errors import PackageError
from yo_dawg.log import Log
from yo_dawg.process import Shell
from yo_dawg.trees import walk
from yo_dawg.workshop.package.install import Installed, Installer, leave_to_runtime, look_at_installed
from yo_dawg.workshop.package.prune import Pruned, prune
from yo_dawg.workshop.package.rules import Rules, read_rules
from yo_dawg.workshop.package.stage import stage
from yo_dawg.workspace import HERE as REPOSITORY
from yo_dawg.workspace import Workspace

PLATFORM = "python3.13-x86_64"

DEPENDENCY = {
    "pkg/__init__.py": "", "pkg/tests/test_t.py": "import unittest", "pkg/tests/data/a.json": "", "doc/manual.rst": "",
    "pkg/huge/model.bin": "", "pkg/huge/small.bin": "",
}  # fmt: skip
PROJECT = {
    "app.py": "", "README.md": "r", "docs/page.html": "p", "docs/notes.md": "n", "tests/t.py": "", "samples/a.csv": "",
}  # fmt: skip

Package = Callable[..., tuple[set[str], Pruned, Rules]]


@pytest.fixture
def package(space: Workspace, shell: Shell, log: Log) -> Package:
    """What prunes a dependency and stages a project, by the project's own rules."""

    def run(rules: str, project: Mapping[str, str] = PROJECT, folder: str = "") -> tuple[set[str], Pruned, Rules]:
        lay_out(space.staging, DEPENDENCY)
        files = {f"{folder}{name}": text for name, text in {**project, "pyproject.toml": rules}.items()}
        lay_out(space.checkout, files)
        checkout = Checkout(space.checkout, space.checkout / folder, "0" * 40, "main", frozenset(files))
        read = read_rules(Installer(checkout, lambda: UV, PLATFORM, space, shell))
        pruned = prune(walk(space.staging), Installed((), {}), read, space)
        stage(checkout, read, shell, log)
        return (
            {path.relative_to(space.staging).as_posix() for path in space.staging.rglob("*") if path.is_file()},
            pruned,
            read,
        )

    return run


CODE = {"pkg/__init__.py", "pkg/huge/model.bin", "pkg/huge/small.bin", "app.py", "samples/a.csv"}


@pytest.mark.parametrize(
    ("rules", "more", "less"),
    [
        pytest.param("", set(), set(), id="none"),
        pytest.param('keep = ["pkg/tests/"]', {"pkg/tests/test_t.py", "pkg/tests/data/a.json"}, set(), id="a folder"),
        pytest.param('keep = ["*.json"]', {"pkg/tests/data/a.json"}, set(), id="a suffix"),
        pytest.param('keep = ["pkg/tests/**", "!*.py"]', {"pkg/tests/data/a.json"}, set(), id="but not"),
        pytest.param(
            'keep = ["/README.md", "docs/*.html"]', {"README.md", "docs/page.html"}, set(), id="the project's"
        ),
        pytest.param('drop = ["pkg/huge/"]', set(), {"pkg/huge/model.bin", "pkg/huge/small.bin"}, id="drop"),
        pytest.param('drop = ["pkg/huge/*", "!small.bin"]', set(), {"pkg/huge/model.bin"}, id="drop, but not"),
        pytest.param('drop = ["samples/"]', set(), {"samples/a.csv"}, id="drop the project's"),
        pytest.param('keep = ["small.bin"]\ndrop = ["huge/"]', set(), {"pkg/huge/model.bin"}, id="keep counts more"),
    ],
)
@pytest.mark.parametrize("folder", ["", "services/api/"])
def test_patterns(package: Package, rules: str, more: set[str], less: set[str], folder: str) -> None:
    found, pruned, read = package(f"[tool.yo-dawg]\n{rules}\n", folder=folder)
    assert found == (CODE | more) - less
    assert read.warnings == ()
    assert ("dropped by the project" in pruned.reasons or not pruned.reasons) == any("pkg" in name for name in less)


def test_a_pattern_that_takes_for_ever_is_given_up(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yo_dawg.workshop.package.rules.SECONDS_TO_MATCH", 1)
    project = {**PROJECT, "a" * 200: ""}
    with pytest.raises(PackageError, match=r"may take for ever: the search was ended by SIGALRM"):
        package(f'[tool.yo-dawg]\ndrop = ["{"*a" * 12}*b"]\n', project)


def test_a_pyproject_toml_that_does_not_speak_of_us_may_be_broken(package: Package) -> None:
    assert package("[tool.other\n")[2] == Rules()


def test_what_make_dist_ships_is_not_dropped(package: Package) -> None:
    project = {**PROJECT, "make_dist.sh": 'cp -r app.py samples "$1"'}
    found, _, _ = package('[tool.yo-dawg]\ndrop = ["samples/", "pkg/huge/"]\n', project)
    assert found == {"pkg/__init__.py", "app.py", "samples/a.csv"}


def test_a_pattern_that_matches_nothing_is_told(package: Package) -> None:
    _, _, rules = package('[tool.yo-dawg]\nkeep = ["pkg/test/", "pkg/tests/", "!nothing", "["]\n')
    assert rules.warnings == (
        "the pattern 'pkg/test/' in [tool.yo-dawg] matches nothing",
        "the pattern '!nothing' in [tool.yo-dawg] matches nothing",
        "the pattern '[' in [tool.yo-dawg] matches nothing",
    )


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ("[tool.yo-dawg]\ndrop = [\n", "not valid TOML"),
        ("[tool.yo-dawg]\nkep = []\n", r"has no 'kep' \(did you mean \"keep\""),
        ('[tool.yo-dawg]\nkeep = "pkg"\n', "keep in .* must be a list of texts"),
        ("[tool.yo-dawg]\ndrop = [1]\n", "drop in .* must be a list of texts"),
        ("[tool.yo-dawg]\nruntime_boto3 = 1\n", "runtime_boto3 in .* must be true or false"),
        ('[tool.yo-dawg]\nruntime_boto3 = "yes"\n', "runtime_boto3 in .* must be true or false"),
        ("[tool.yo-dawg]\nruntime_boto = true\n", r"did you mean \"runtime_boto3\""),
        ('[tool]\nyo-dawg = "x"\n', "is no table"),
    ],
)
def test_rules_that_make_no_sense_are_refused(package: Package, rules: str, words: str) -> None:
    with pytest.raises(PackageError, match=words):
        package(rules)


# --- What the runtime brings along ------------------------------------------------------------------------


@pytest.fixture
def install(space: Workspace, shell: Shell, tmp_path: Path) -> Callable[[str, str], Installed]:
    """What installs from a folder of wheels, in which boto3 is as here, and older."""
    (tmp_path / "index").mkdir()
    here = {name: importlib.metadata.version(name) for name in RUNTIME_PROVIDES}
    for versions in (here, dict.fromkeys(here, "1.0")):
        for name, version in versions.items():
            requires = [f"botocore=={version}"] if name == "boto3" else []
            make_wheel(tmp_path / "index", name, version, {f"{name}/__init__.py": ""}, requires)
    make_wheel(tmp_path / "index", "friend", "1.0", {"friend.py": ""}, ["botocore<1.1"])

    def run(requirements: str, rules: str = "") -> Installed:
        text = f"--no-index\n--find-links {tmp_path}/index\n{requirements}\n"
        lay_out(space.checkout, {"requirements.txt": text, "pyproject.toml": rules})
        checkout = Checkout(space.checkout, space.checkout, "0" * 40, "main", frozenset({"requirements.txt"}))
        installer = Installer(checkout, lambda: UV, PLATFORM, space, shell)
        installer.install(space.staging)
        return leave_to_runtime(installer, look_at_installed(space.staging))

    return run


HERE = importlib.metadata.version("boto3")


@pytest.mark.parametrize(
    ("requirements", "provided"),
    [
        ("boto3", {"boto3", "botocore"}),
        (f"boto3=={HERE}", {"boto3", "botocore"}),
        ("boto3>=1.0\njmespath", {"boto3", "botocore", "jmespath"}),
        (f"boto3\nurllib3=={importlib.metadata.version('urllib3')}", {"boto3", "botocore", "urllib3"}),
        ("boto3\nurllib3==1.0", set()),
        ("urllib3", set()),
        ("boto3==1.0", set()),
        ("boto3\nfriend", set()),
        ("friend", set()),
    ],
)
def test_boto3_is_left_to_the_runtime_if_its_own_is_one_that_was_asked_for(
    install: Callable[..., Installed], space: Workspace, requirements: str, provided: set[str]
) -> None:
    installed = install(requirements)
    assert installed.provided == provided
    pruned = prune(walk(space.staging), installed, Rules(runtime_boto3=True), space)
    assert {path.name for path in space.staging.iterdir()} & set(RUNTIME_PROVIDES) == (
        set() if provided else {name.split("==")[0] for name in installed.names} - {"friend"}
    )
    assert ("provided by the runtime" in pruned.reasons) == bool(provided)
    assert ("boto3" in pruned.kept) == (not provided and "boto" in str(installed.names))


@pytest.mark.parametrize("requirements", ["boto3", "boto3==1.0"])
def test_boto3_ships_unless_the_project_leaves_it_to_the_runtime(
    install: Callable[..., Installed], space: Workspace, requirements: str
) -> None:
    pruned = prune(walk(space.staging), install(requirements), Rules(), space)
    assert {"boto3", "botocore"} <= {path.name for path in space.staging.iterdir()}
    assert pruned.kept == {}


def test_a_project_can_leave_boto3_to_the_runtime(package: Package) -> None:
    assert package("[tool.yo-dawg]\nruntime_boto3 = true\n")[2].runtime_boto3
    assert not package("[tool.yo-dawg]\nruntime_boto3 = false\n")[2].runtime_boto3
    assert package('[tool.yo-dawg]\nruntime_boto3 = true\nkeep = ["pkg/tests/"]\n')[2].runtime_boto3


def test_who_wants_his_own_boto3_keeps_it(install: Callable[..., Installed], space: Workspace) -> None:
    installed = install("boto3")
    rules = Rules(keep=frozenset({"boto3/__init__.py"}), runtime_boto3=True)
    prune(walk(space.staging), installed, rules, space)
    assert {"boto3", "botocore"} <= {path.name for path in space.staging.iterdir()}


def test_the_rules_are_read_by_the_handler(tmp_path: Path) -> None:
    """Dulwich is asked in a child: here, that program by itself."""
    import subprocess

    answer = tmp_path / "answer"
    question = {"patterns": {"keep": ["a/"]}, "names": ["a/b", "b"], "answer": str(answer), "seconds": 9}
    program = [sys.executable, "-m", "yo_dawg.workshop.package.rules"]
    subprocess.run(program, input=json.dumps(question).encode(), check=True, cwd=REPOSITORY)
    assert json.loads(answer.read_text()) == {"keep": ["a/b"], "idle": []}
