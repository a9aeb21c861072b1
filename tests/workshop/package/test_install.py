"""Requirements are installed by the real uv, without a network: wheels and source distributions made here."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.support.distributions import BACKEND, LIB, PYPROJECT
from tests.support.embedded import lay_out
from tests.support.wheels import UV, make_wheel
from tests.support.work import PLATFORM
from yo_dawg.checkout import Checkout
from yo_dawg.errors import ConfigError, DependencyError
from yo_dawg.log import Log
from yo_dawg.process import Shell, child_environ
from yo_dawg.settings import Settings
from yo_dawg.workshop.package.install import (
    Installed,
    Installer,
    look_at_installed,
)
from yo_dawg.workshop.requirement_files import find_requirements, has_dependencies
from yo_dawg.workspace import Workspace


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """A folder of wheels, the only index there is."""
    made = tmp_path / "index"
    made.mkdir()
    make_wheel(made, "alpha", "1.0", {"alpha/__init__.py": "a = 1\n", "alpha/data.txt": "a"}, ["Beta>=1"])
    make_wheel(made, "beta", "1.0", {"beta.py": "b = 1\n"})
    make_wheel(made, "beta", "2.0", {"beta.py": "b = 2\n"})
    make_wheel(made, "gamma", "1.0", {"gamma.py": ""}, ["beta<2"])
    make_wheel(made, "native", "1.0", {"native.so": ""}, tag="cp313-cp313-win_amd64")
    return made


Install = Callable[[Mapping[str, str]], Installed]


@pytest.fixture
def install(space: Workspace, log: Log, index: Path) -> Install:
    """What installs the requirements of a project; INDEX in its files stands for the folder of wheels."""
    settings = Settings("b", ("*",), "https://git.example", "", "", space.root.parent, tmp_is_ours=True)
    shell = Shell(child_environ(space, settings) | {"UV_HTTP_RETRIES": "0"}, log)

    def run(files: Mapping[str, str]) -> Installed:
        for name, text in files.items():
            path = space.checkout / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("INDEX", str(index)), errors="surrogateescape")
        checkout = Checkout(space.checkout, space.checkout, "0" * 40, "main", frozenset(files))
        Installer(checkout, lambda: UV, PLATFORM, space, shell).install(space.staging)
        return look_at_installed(space.staging)

    return run


OFFLINE = "--no-index\n--find-links INDEX\n"
OFFLINE_TOML = '[tool.uv]\nno-index = true\nfind-links = ["INDEX"]\n'


# --- Where a project says what it needs ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "found"),
    [
        pytest.param({}, None, id="nowhere"),
        pytest.param({"requirements.txt": "", "uv.lock": "", "pylock.toml": ""}, "requirements.txt", id="first of all"),
        pytest.param({"pylock.toml": "", "uv.lock": "", "pyproject.toml": ""}, "pylock.toml", id="then pylock.toml"),
        pytest.param({"uv.lock": "", "pyproject.toml": "[project]\ndependencies=['a']"}, "uv.lock", id="then uv.lock"),
        pytest.param({"pyproject.toml": "[project]\ndependencies=['a']"}, "pyproject.toml", id="then pyproject.toml"),
        pytest.param(
            {"pyproject.toml": "[project]\ndynamic=['dependencies']"}, "pyproject.toml", id="or what its build says"
        ),
        pytest.param({"pyproject.toml": "[tool.ruff]\nline-length = 100"}, None, id="which often holds settings only"),
        pytest.param({"pyproject.toml": "[project]\nname = 'a'"}, None, id="or a project without dependencies"),
        pytest.param({"pyproject.toml": "project = 'x'"}, None, id="or what is no project"),
        pytest.param({"sub/requirements.txt": "", "requirements-dev.txt": ""}, None, id="never in another file"),
    ],
)
def test_the_first_file_that_is_there_counts(tmp_path: Path, files: dict[str, str], found: str | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert find_requirements(tmp_path) == (tmp_path / found if found else None)


@pytest.mark.parametrize("text", ["[project", "a = " + "[" * 10_000], ids=["broken", "nested too deep"])
def test_a_pyproject_that_cannot_be_read_is_said_so(tmp_path: Path, text: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(DependencyError, match=r"pyproject\.toml is not valid TOML: .+"):
        has_dependencies(tmp_path / "pyproject.toml")


def test_a_project_without_requirements_gets_nothing(install: Install, space: Workspace) -> None:
    assert install({"app.py": ""}) == Installed((), {})
    assert list(space.staging.iterdir()) == []


# --- What is installed ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({"requirements.txt": f"{OFFLINE}alpha\n"}, id="requirements.txt"),
        pytest.param({"requirements.txt": "-r more/r.txt\n", "more/r.txt": f"{OFFLINE}alpha\n"}, id="-r"),
        pytest.param({"requirements.txt": f"{OFFLINE}-c c.txt\nalpha\nbeta\n", "c.txt": "beta==2\n"}, id="-c"),
        pytest.param(
            {"requirements.txt": f"{OFFLINE}alpha\ngamma; python_version < '3'\nbeta; python_version >= '3'\n"},
            id="markers",
        ),
        pytest.param(
            {"pyproject.toml": f"[project]\nname='p'\nversion='1'\ndependencies=['alpha']\n{OFFLINE_TOML}"},
            id="pyproject.toml",
        ),
        pytest.param(
            {
                "pylock.toml": 'lock-version = "1.0"\ncreated-by = "tests"\n'
                '[[packages]]\nname = "alpha"\nversion = "1.0"\n'
                'wheels = [{path = "INDEX/alpha-1.0-py3-none-any.whl", hashes = {}}]\n'
                '[[packages]]\nname = "beta"\nversion = "2.0"\n'
                'wheels = [{path = "INDEX/beta-2.0-py3-none-any.whl", hashes = {}}]\n'
            },
            id="pylock.toml",
        ),
    ],
)
def test_requirements_and_theirs_are_installed(install: Install, space: Workspace, files: dict[str, str]) -> None:
    installed = install(files)
    assert installed.names == ("alpha==1.0", "beta==2.0")
    assert (space.staging / "alpha/data.txt").read_text() == "a"
    assert (space.staging / "beta.py").read_text() == "b = 2\n"
    assert installed.owners["alpha/data.txt"] == "alpha"
    assert installed.owners["beta.py"] == "beta"
    assert {"alpha/__init__.py", "beta.py", "alpha-1.0.dist-info/METADATA"} <= installed.owners.keys()
    assert not list(space.staging.rglob("*.pyc"))


@pytest.mark.parametrize("line", ["./lib", "-e ./lib", "lib @ file:INDEX/../tmp/yo-dawg/checkout/lib"])
def test_a_package_in_the_repository_is_copied_never_linked(install: Install, space: Workspace, line: str) -> None:
    installed = install({"requirements.txt": f"{line}\n", **LIB})
    assert installed.names == ("lib==1.0",)
    assert (space.staging / "lib.py").read_text() == "name = 'lib'\n"
    assert not list(space.staging.glob("*.pth"))


def test_a_lock_of_uv_is_installed_without_what_developers_need(
    install: Install, space: Workspace, index: Path
) -> None:
    project = (
        "[project]\nname = 'app'\nversion = '1'\nrequires-python = '>=3.11'\ndependencies = ['lib']\n"
        "[dependency-groups]\ndev = ['tool']\n[tool.uv.sources]\nlib = {path = 'lib'}\ntool = {path = 'tool'}\n"
    )
    named = "[project]\nname = '{0}'\nversion = '1.0'\n"
    backend = {f"tool{name[3:]}": text for name, text in LIB.items()}
    files = {
        "pyproject.toml": project, **LIB, **backend,
        "lib/pyproject.toml": named.format("lib") + PYPROJECT,
        "tool/pyproject.toml": named.format("tool") + PYPROJECT,
    }  # fmt: skip
    locked = index.parent / "locked"
    lay_out(locked, files)
    subprocess.run([UV, "lock", "--quiet", "--offline", "--python", sys.executable], cwd=locked, check=True)
    installed = install({**files, "uv.lock": (locked / "uv.lock").read_text()})
    assert installed.names == ("lib==1.0",)
    assert (space.staging / "lib.py").exists()


def test_hashes_that_match_are_accepted(install: Install, index: Path) -> None:
    sha256 = hashlib.sha256((index / "beta-1.0-py3-none-any.whl").read_bytes()).hexdigest()
    assert install({"requirements.txt": f"{OFFLINE}beta==1.0 --hash=sha256:{sha256}\n"}).names == ("beta==1.0",)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # importlib.metadata: a name is missing
def test_files_of_metadata_that_cannot_be_read_belong_to_nobody(
    install: Install, index: Path, space: Workspace
) -> None:
    (space.staging / "x.dist-info").mkdir()
    (space.staging / "x.dist-info/METADATA").write_text("Version: 1\n")
    (space.staging / "y.dist-info").mkdir()
    (space.staging / "y.dist-info/METADATA").write_text("Name: y\x1b[2J\nVersion: 1\n")
    (space.staging / "y.dist-info/RECORD").write_text(f'"{"x" * 200_000}"')
    installed = install({"requirements.txt": f"{OFFLINE}beta\n"})
    assert installed.names == ("beta==2.0", "y==1"), "and what a name holds cannot forge a line"
    assert set(installed.owners.values()) == {"beta"}


# --- What fails, and what is to be done -------------------------------------------------------------------


OWN_WORDS = "Does it install with uv on your own machine?"


@pytest.mark.parametrize(
    ("files", "advice", "words"),
    [
        pytest.param({"requirements.txt": f"{OFFLINE}no-such-thing\n"}, OWN_WORDS, "no-such-thing", id="name"),
        pytest.param({"requirements.txt": f"{OFFLINE}beta==9\n"}, OWN_WORDS, "beta==9", id="version"),
        pytest.param({"requirements.txt": f"{OFFLINE}gamma\nbeta==2\n"}, OWN_WORDS, "gamma", id="conflict"),
        pytest.param(
            {"requirements.txt": f"{OFFLINE}native\n"}, "no wheel for python3.13-x86_64", "native", id="other platform"
        ),
        pytest.param(
            {
                "requirements.txt": "./lib\n",
                **LIB,
                "lib/backend.py": BACKEND.replace("# before", "subprocess.check_call(['no-cc', '-shared', 'a.c'])"),
            },
            "Lambda has no compiler",
            "no-cc",
            id="compiler",
        ),
        pytest.param(
            {"requirements.txt": f"{OFFLINE}beta==1.0 --hash=sha256:{'0' * 64}\n"}, OWN_WORDS, "beta", id="hash"
        ),
        pytest.param(
            {"requirements.txt": "--index-url http://127.0.0.1:1/simple\nbeta\n"},
            "index cannot be reached",
            "127.0.0.1:1",
            id="index",
        ),
        pytest.param({"requirements.txt": "-r other.txt\n"}, OWN_WORDS, "other.txt", id="-r of nothing"),
        pytest.param({"requirements.txt": "a b c\n"}, OWN_WORDS, "requirements.txt", id="no requirement"),
        pytest.param({"requirements.txt": "--use-pep517\na\n"}, OWN_WORDS, "requirements.txt:1", id="option"),
        pytest.param(
            {"requirements.txt": "a==1 --config-settings=x=y\n"}, OWN_WORDS, "--config-settings", id="its option"
        ),
        pytest.param({"requirements.txt": "-i ${NO}\na\n"}, OWN_WORDS, "${NO}", id="variable"),
        pytest.param({"requirements.txt": "# \udce9\n"}, OWN_WORDS, "UTF-8", id="Latin"),
    ],
)
def test_what_cannot_be_installed_says_what_to_do(
    install: Install, files: dict[str, str], advice: str, words: str
) -> None:
    """In uv's own words, with one line of ours on what uv cannot know."""
    with pytest.raises(DependencyError) as refused:
        install(files)
    said = str(refused.value)
    assert said.startswith("Cannot install requirements.txt: uv ended with exit status ")
    first, _, tail = said.partition("\nIts last lines:\n")
    assert advice in first, said
    assert words in tail


def test_a_full_disk_is_the_operators_matter(install: Install) -> None:
    full = BACKEND.replace("# before", "raise OSError(28, 'No space left on device')")
    with pytest.raises(ConfigError, match="ephemeral_storage"):
        install({"requirements.txt": "./lib\n", **LIB, "lib/backend.py": full})


def test_a_build_that_puts_a_link_in_the_place_of_the_checkout_is_refused(install: Install, space: Workspace) -> None:
    swap = f"os.rename({str(space.checkout)!r}, '{space.root}/moved') or os.symlink('moved', {str(space.checkout)!r})"
    backend = BACKEND.replace("# before", swap)
    with pytest.raises(DependencyError, match="removed or replaced the builder's directory 'checkout'"):
        install({"requirements.txt": "./lib\n", **LIB, "lib/backend.py": backend})


def test_a_build_sees_nothing_of_the_handlers_environment(
    install: Install, space: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "canary")
    backend = BACKEND.replace("# before", "open('lib.py', 'w').write(repr(dict(os.environ)))")
    install({"requirements.txt": "./lib\n", **LIB, "lib/backend.py": backend})
    seen = (space.staging / "lib.py").read_text()
    assert "'PATH'" in seen
    assert "canary" not in seen
