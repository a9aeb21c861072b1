"""Requirements that are Git repositories: Lambda has no git, so they are cloned with the project."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from local.git_server import GitServer
from tests.support.git_host import Cloner, git, needs_git, publish, push
from tests.support.wheels import UV
from yo_dawg.errors import DependencyError, SourceError
from yo_dawg.process import Shell, child_environ
from yo_dawg.settings import Settings
from yo_dawg.source import Source
from yo_dawg.workshop.git.requirements import GitRequirement
from yo_dawg.workshop.package.install import Installed, RepositoriesAsked, look_at_installed
from yo_dawg.workshop.package.install import Installer as Installer_
from yo_dawg.workspace import Workspace, remove_tree

pytestmark = needs_git


TOKEN = "canary-token-91c2"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("lib @ git+https://h/a/b.git", ("https://h/a/b.git", None)),
        ("lib[x,y]@git+https://h/b@v1.2", ("https://h/b", "v1.2")),
        ("git+https://h/b.git@feature/x#egg=lib", ("https://h/b.git", "feature/x")),
        ("git+https://h/b.git@feature%2Fx%231", ("https://h/b.git", "feature/x#1")),
        ("-e git+https://h/b#egg=lib[z]&subdirectory=p/q", ("https://h/b", None, "p/q")),
        ("lib @ git+ssh://git@h/a/b.git@v1 ; python_version > '3'", ("ssh://git@h/a/b.git", "v1")),
        ("git+https://${TOKEN}@h/b@v1", ("https://h/b", "v1")),
        ("git+https://x:${TOKEN}@h/b@v1", ("https://h/b", "v1")),
        ("git+https://git@h/b@v1", ("https://h/b", "v1")),
        ("""install_requires=["lib @ git+https://h/b@v1; sys_platform == 'linux'"],""", ("https://h/b", "v1")),
    ],
)
def test_a_line_is_read(line: str, expected: tuple[str, ...]) -> None:
    assert list(GitRequirement.in_line(line)) == [GitRequirement(*expected)]


@pytest.mark.parametrize("line", ["requests", "lib @ https://h/b.whl", "-r git.txt", "", "a" * 100_000 + "git+"])
def test_other_lines_are_left_alone(line: str) -> None:
    assert list(GitRequirement.in_line(line)) == []


BACKEND = '''
"""A build backend that needs nothing."""
import os, tomllib, zipfile

def build_wheel(directory, config_settings=None, metadata_directory=None):
    project = tomllib.load(open("pyproject.toml", "rb"))["project"]
    name, extras = project["name"], project.get("optional-dependencies", {})
    needs = [f"Requires-Dist: {each}" for each in project.get("dependencies", [])]
    for extra, lines in extras.items():
        needs += [f"Provides-Extra: {extra}", *(f"Requires-Dist: {each} ; extra == '{extra}'" for each in lines)]
    wheel, info = f"{name}-1.0-py3-none-any.whl", f"{name}-1.0.dist-info"
    metadata = "\\n".join(["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", *needs, ""])
    with zipfile.ZipFile(os.path.join(directory, wheel), "w") as archive:
        archive.writestr(f"{name}.py", open("module.py").read())
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        archive.writestr(f"{info}/RECORD", f"{name}.py,,\\n{info}/METADATA,,\\n{info}/WHEEL,,\\n{info}/RECORD,,\\n")
    return wheel
'''


def library(name: str, *dependencies: str, folder: str = "", more: str = "") -> dict[str, str]:
    """Return the files of a library."""
    listed = "".join(f'"{each}",' for each in dependencies)
    pyproject = (
        f'[project]\nname = "{name}"\nversion = "1.0"\ndependencies = [{listed}]\n{more}\n'
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    files = {"pyproject.toml": pyproject, "backend.py": BACKEND, "module.py": f"NAME = {name!r}\n"}
    return {f"{folder}{path}": text for path, text in files.items()}


class Installer:
    """Clones a project and installs what it requires, as often as uv asks for more repositories."""

    def __init__(self, host: GitServer, space: Workspace, shell: Shell) -> None:
        """Clone from this host, into this workspace."""
        self.host, self.space = host, space
        environ = {"UV_OFFLINE": "1"}
        self.shell = Shell({**shell._environ, **environ}, shell._log)
        self.cloner = Cloner(space)
        self.token = ""

    def online(self) -> Installer:
        """Let uv ask the index that this machine's client configuration names."""
        settings = Settings.from_environ({**os.environ, **BARE})
        self.shell = Shell(child_environ(self.space, settings), self.shell._log)
        return self

    def __call__(self, files: Mapping[str, str | bytes], ref: str | None = None) -> Installed:
        """Publish and install a project."""
        work = publish(self.host.root, "project", {"app.py": "", **files})
        if ref:
            git(work, "tag", ref)
            push(work, self.host.root / "project.git")
        url = f"{self.host.url}/project.git"
        asked: list[tuple[str, str | None]] = []
        for self.rounds in itertools.count(1):
            checkout = self.cloner(Source(url, token=self.token), ref=ref, asked=asked)
            before = {path: path.read_bytes() for path in checkout.root.rglob("*") if path.is_file()}
            installer = Installer_(checkout, lambda: UV, "python3.13-x86_64", self.space, self.shell)
            try:
                installer.install(installer.space.staging)
                return look_at_installed(self.space.staging)
            except RepositoriesAsked as error:
                asked += [each for each in error.asked if each not in asked or pytest.fail("it has these")]
                remove_tree(self.space.cache)
            finally:
                after = {path: path.read_bytes() for path in before if path.is_file()}
                assert after.items() <= before.items(), "requirements files are put back"
        raise AssertionError


BARE = {"YO_DAWG_DEPLOYMENT_BUCKET": "b", "YO_DAWG_DEPLOYABLE_FUNCTIONS": "*", "YO_DAWG_BASE_URL": "https://h/x"}


@pytest.fixture
def host(tmp_path: Path) -> Iterator[GitServer]:
    (tmp_path / "repos").mkdir()
    with GitServer(tmp_path / "repos", backend="git", users={"x-access-token": TOKEN}) as git_host:
        yield git_host


@pytest.fixture
def install(host: GitServer, space: Workspace, shell: Shell) -> Installer:
    installer = Installer(host, space, shell)
    installer.token = TOKEN
    return installer


def commit_of(host: GitServer, name: str, ref: str = "main") -> str:
    """Return the commit of a repository's ref."""
    return git(host.root / f"{name}.git", "rev-parse", f"{ref}^{{commit}}")


PROJECT = '[project]\nname = "p"\nversion = "1"\n'


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({"requirements.txt": "lib @ git+URL\n"}, id="named"),
        pytest.param({"requirements.txt": "git+URL  # why\n"}, id="without a name"),
        pytest.param({"requirements.txt": "git+URL#egg=lib\n"}, id="egg"),
        pytest.param({"requirements.txt": "-e git+URL#egg=lib\n"}, id="editable"),
        pytest.param({"requirements.txt": "lib \\\n  @ git+URL\n"}, id="on two lines"),
        pytest.param({"requirements.txt": "-r more/other.txt\n", "more/other.txt": "lib @ git+URL\n"}, id="-r"),
        pytest.param({"requirements.txt": "lib\n-c c.txt\n", "c.txt": "lib @ git+URL@main\n"}, id="-c"),
        pytest.param({"pyproject.toml": PROJECT + 'dependencies=["lib @ git+URL"]\n'}, id="pyproject.toml"),
        pytest.param(
            {
                "pyproject.toml": PROJECT
                + 'dependencies=["lib"]\n[tool.uv.sources]\nlib = {git = "URL", rev = "main"}\n'
            },
            id="tool.uv.sources",
        ),
        pytest.param({"requirements.txt": "./in\n", **library("inner", "lib @ git+URL", folder="in/")}, id="folder"),
        pytest.param(
            {
                "requirements.txt": "-e ./in[git]\n",
                **library("inner", folder="in/", more='[project.optional-dependencies]\ngit = ["lib @ git+URL"]\n'),
            },
            id="an extra of a folder",
        ),
    ],
)
def test_a_git_requirement_is_installed(install: Installer, host: GitServer, files: dict[str, str]) -> None:
    publish(host.root, "lib", library("lib"))
    url = f"{host.url}/lib.git"
    installed = install({path: text.replace("URL", url) for path, text in files.items()})
    assert f"lib @ git+{url}@{commit_of(host, 'lib')}" in installed.names
    assert (install.space.staging / "lib.py").read_text() == "NAME = 'lib'\n"


def test_a_lock_names_the_commit(install: Installer, host: GitServer) -> None:
    publish(host.root, "lib", library("lib", folder="python/"))
    commit, url = commit_of(host, "lib"), f"{host.url}/lib.git"
    lock = f"""version = 1
requires-python = ">=3.11"

[[package]]
name = "lib"
version = "1.0"
source = {{ git = "{url}?subdirectory=python&rev=main#{commit}" }}

[[package]]
name = "p"
version = "1"
source = {{ virtual = "." }}
dependencies = [{{ name = "lib" }}]
"""
    sources = f'[tool.uv.sources]\nlib = {{ git = "{url}", subdirectory = "python", rev = "main" }}\n'
    project = PROJECT + 'requires-python = ">=3.11"\ndependencies = ["lib"]\n' + sources
    installed = install({"uv.lock": lock, "pyproject.toml": project})
    assert installed.names == (f"lib @ git+{url}@{commit}#subdirectory=python",)


def test_a_tag_a_subdirectory_and_an_extra(install: Installer, host: GitServer) -> None:
    publish(host.root, "other", library("other"))
    more = f'[project.optional-dependencies]\nx = ["other @ git+{host.url}/other.git"]\ndev = ["no-such-thing"]\n'
    work = publish(host.root, "mono", library("lib", folder="python/lib/", more=more))
    git(work, "tag", "v1.5")
    (work / "python/lib/module.py").write_text("later")
    push(work, host.root / "mono.git")
    line = f"lib[x] @ git+{host.url}/mono.git@v1.5#subdirectory=python/lib\n"
    assert install({"requirements.txt": line}).names == (
        f"lib @ git+{host.url}/mono.git@{commit_of(host, 'mono', 'v1.5')}#subdirectory=python/lib",
        f"other @ git+{host.url}/other.git@{commit_of(host, 'other')}",
    )
    assert (install.space.staging / "lib.py").read_text() == "NAME = 'lib'\n"


def test_what_a_git_requirement_requires_from_git(install: Installer, host: GitServer) -> None:
    publish(host.root, "deep", library("deep", f"middle @ git+{host.url}/middle.git"))  # in a circle
    publish(host.root, "middle", library("middle", f"deep @ git+{host.url}/deep.git"))
    installed = install({"requirements.txt": f"middle @ git+{host.url}/middle.git\n"})
    assert [name.split(" ")[0] for name in installed.names] == ["deep", "middle"]
    assert "sources" not in "".join(path.read_text() for path in install.space.staging.rglob("METADATA"))


def test_what_setup_py_requires_from_git(install: Installer, host: GitServer) -> None:
    publish(host.root, "lib", library("lib"))
    setup = f'from setuptools import setup\nsetup(name="old", install_requires=["lib @ git+{host.url}/lib.git"])\n'
    publish(host.root, "old", {"setup.py": setup})
    installed = install.online()({"requirements.txt": f"git+{host.url}/old.git\n"})
    assert [name.split(" ")[0] for name in installed.names] == ["lib", "old"]


def test_what_is_not_needed_need_not_be_there(install: Installer, host: GitServer) -> None:
    publish(host.root, "lib", library("lib"))
    lines = f"lib @ git+{host.url}/lib.git\nnone @ git+{host.url}/none.git ; sys_platform == 'win32'\n"
    assert len(install({"requirements.txt": lines}).names) == 1


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("lib @ git+URL/nothing.git", "Cannot fetch the requirement .*nothing.git'.*no such repository"),
        ("lib @ git+URL/lib.git@v9", 'Cannot fetch the requirement .*lib.git\'.*no branch or tag "v9"'),
        ("lib @ git+https://me:canary@h.example/lib.git", "has a user name or password"),
        ("lib @ git+http://other.example/lib.git", "only https"),
        ("lib @ git+file:///etc", "only https"),
        ("lib @ git+ssh://git@other.example/lib.git", "no deploy key"),
    ],
)
def test_a_git_requirement_that_cannot_be_had(install: Installer, host: GitServer, line: str, words: str) -> None:
    publish(host.root, "lib", library("lib"))
    with pytest.raises(SourceError, match=words) as error:
        install({"requirements.txt": line.replace("URL", host.url)})
    assert "canary" not in str(error.value)


@pytest.mark.parametrize(
    ("address", "words"),
    [("URL/lib.git@v9", 'no branch or tag "v9"'), ("https://me:canary@h.example/x.git", "has a user name or password")],
)
def test_nor_where_a_build_asks_for_it(install: Installer, host: GitServer, address: str, words: str) -> None:
    publish(host.root, "lib", library("lib"))
    with pytest.raises(SourceError, match=words) as error:
        install(secretly("p", f"lib @ git+{address.replace('URL', host.url)}"))
    assert "canary" not in str(error.value)


@pytest.mark.parametrize("folder", ["../x", "none"])
def test_a_folder_that_is_not_there(install: Installer, host: GitServer, folder: str) -> None:
    publish(host.root, "lib", library("lib"))
    with pytest.raises(DependencyError, match=f"has no subdirectory `{folder}`"):
        install({"requirements.txt": f"lib @ git+{host.url}/lib.git#subdirectory={folder}\n"})


def secretly(name: str, line: str) -> dict[str, str]:
    """Return the files of a library whose build alone tells what it requires."""
    files = library(name)
    dynamic = files["pyproject.toml"].replace("dependencies = []", 'dynamic = ["dependencies"]')
    cut = len(line) // 2
    need = f'"Requires-Dist: " + {line[:cut]!r} + {line[cut:]!r}, *needs'
    return {**files, "pyproject.toml": dynamic, "backend.py": BACKEND.replace("*needs", need)}


def test_what_builds_alone_tell_is_fetched_in_more_rounds(install: Installer, host: GitServer) -> None:
    publish(host.root, "deepest", library("deepest"))
    publish(host.root, "deep", secretly("deep", f"deepest @ git+{host.url}/deepest.git@main"))
    publish(host.root, "lib", secretly("lib", f"deep @ git+{host.url}/deep.git"))
    installed = install({"requirements.txt": f"git+{host.url}/lib.git\n"})
    assert list(installed.names) == [
        f"{name} @ git+{host.url}/{name}.git@{commit_of(host, name)}" for name in ("deep", "deepest", "lib")
    ]
    assert install.rounds == 3


def test_what_is_asked_for_together_is_fetched_together(install: Installer, host: GitServer) -> None:
    names = [f"lib{number}" for number in range(5)]
    for name in names:
        publish(host.root, name, library(name))
    files = secretly("p", "none ; sys_platform == 'win32'")
    more = ", ".join(f'"Requires-Dist: {name} @ " + "git" + "+{host.url}/{name}.git"' for name in names)
    files["backend.py"] = files["backend.py"].replace(", *needs", f", {more}, *needs")
    assert len(install(files).names) == 5
    assert install.rounds <= 3


SETUP = "from setuptools import setup\n"

FORMS: dict[str, dict[str, str | bytes]] = {
    "Poetry's table": {
        "pyproject.toml": '[tool.poetry]\nname = "p"\nversion = "1"\ndescription = ""\nauthors = []\n'
        'packages = [{ include = "app.py" }]\n[tool.poetry.dependencies]\npython = "*"\n'
        'lib = { git = "URL", tag = "v1" }\n'
        '[build-system]\nrequires = ["poetry-core"]\nbuild-backend = "poetry.core.masonry.api"\n',
    },
    "a dynamic file": {
        "pyproject.toml": '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "p"\nversion = "1"\ndynamic = ["dependencies"]\n[tool.setuptools]\npy-modules = ["app"]\n'
        '[tool.setuptools.dynamic]\ndependencies = { file = ["needs/all.in"] }\n',
        "needs/all.in": "lib @ git+URL@v1\n",
    },
    "a setup.py that reads a file": {
        "setup.py": f'{SETUP}setup(name="p", install_requires=open("needs").read().split(";"), py_modules=["app"])\n',
        "needs": "lib @ git+URL@v1",
    },
    "a setup.py that builds a string": {
        "setup.py": f'{SETUP}url = "%s+%s@v%d" % ("git", "URL", 1)\n'
        'setup(name="p", install_requires=["lib @ " + url], py_modules=["app"])\n',
    },
    "pylock.toml": {
        "pylock.toml": 'lock-version = "1.0"\ncreated-by = "x"\n[[packages]]\nname = "lib"\nversion = "1.0"\n'
        'vcs = { type = "git", url = "URL", requested-revision = "v1", commit-id = "COMMIT" }\n',
    },
    "UTF-16": {"requirements.txt": "lib @ git+URL@v1\n".encode("utf-16")},
    "UTF-16, editable": {"requirements.txt": "-e git+URL@v1#egg=lib\r\n".encode("utf-16")},
    "an encoded ref": {"requirements.txt": b"lib @ git+URL@feature%2Fx%231\n"},
    "a short commit": {"requirements.txt": b"lib @ git+URL@SHORT\n"},
    "another ref": {"requirements.txt": b"lib @ git+URL@refs/pull/1/head\n"},
}
"""Where a requirement may stand: URL is its repository's, which has a tag v1, a branch feature/x#1 and a request 1."""

ROUNDS = {"a dynamic file": 2, "a setup.py that reads a file": 2, "a setup.py that builds a string": 2}


def filled(form: str, host: GitServer) -> dict[str, str | bytes]:
    """Publish the library that a form requires; return the form's files."""
    lib = publish(host.root, "lib", library("lib"))
    for ref in ("refs/tags/v1", "refs/heads/feature/x#1", "refs/pull/1/head"):
        git(host.root / "lib.git", "update-ref", ref, commit_of(host, "lib"))
    (lib / "module.py").write_text("NAME = 'later'\n")
    if form != "a short commit":  # which the server has to tell of
        push(lib, host.root / "lib.git")
    commit = commit_of(host, "lib", "v1")
    words = {"URL": f"{host.url}/lib.git", "COMMIT": commit, "SHORT": commit[:9]}

    def fill(content: str | bytes) -> str | bytes:
        if isinstance(content, bytes) and content.startswith("".encode("utf-16")):
            return str(fill(content.decode("utf-16"))).encode("utf-16")
        text = content if isinstance(content, str) else content.decode()
        for word, value in words.items():
            text = text.replace(word, value)
        return text

    return {path: fill(content) for path, content in FORMS[form].items()}


@pytest.mark.parametrize("form", FORMS)
def test_a_git_requirement_is_found_wherever_it_stands(install: Installer, host: GitServer, form: str) -> None:
    installed = install.online()(filled(form, host))
    assert f"lib @ git+{host.url}/lib.git@{commit_of(host, 'lib', 'v1')}" in installed.names
    assert (install.space.staging / "lib.py").read_text() == "NAME = 'lib'\n"
    assert install.rounds == ROUNDS.get(form, 1)


@pytest.mark.parametrize("form", [form for form, files in FORMS.items() if {"setup.py", "pyproject.toml"} & {*files}])
def test_and_in_what_comes_from_git_itself(install: Installer, host: GitServer, form: str) -> None:
    publish(host.root, "outer", {"app.py": "", **filled(form, host)})
    installed = install.online()({"requirements.txt": f"git+{host.url}/outer.git\n"})
    assert [name.split("@")[0] for name in installed.names] == ["lib ", "p "]
    assert installed.names[0] == f"lib @ git+{host.url}/lib.git@{commit_of(host, 'lib', 'v1')}"
    assert install.rounds == ROUNDS.get(form, 1)


def test_what_git_lfs_holds_is_there_where_uv_wants_it(install: Installer, host: GitServer) -> None:
    publish(host.root, "lib", library("lib"))
    source = f'[tool.uv.sources]\nlib = {{ git = "{host.url}/lib.git", lfs = true }}\n'
    assert len(install({"pyproject.toml": f'{PROJECT}dependencies = ["lib"]\n{source}'}).names) == 1


def test_the_git_program_does_not_read_what_leads_out_of_the_repository(
    install: Installer, host: GitServer, tmp_path: Path
) -> None:
    publish(host.root, "lib", library("lib"))
    (tmp_path / "secret.txt").write_text(f"lib @ git+{host.url}/lib.git\n")
    install({"requirements.txt": f"-r {tmp_path}/secret.txt\n"})
    assert install.rounds == 2, "it was uv that did"


SCM = {
    "setuptools-scm": '[build-system]\nrequires = ["setuptools>=64", "setuptools-scm>=8"]\n'
    'build-backend = "setuptools.build_meta"\n[project]\nname = "versioned"\ndynamic = ["version"]\n'
    '[tool.setuptools]\npy-modules = ["versioned"]\n[tool.setuptools_scm]\n',
    "hatch-vcs": '[build-system]\nrequires = ["hatchling", "hatch-vcs"]\nbuild-backend = "hatchling.build"\n'
    '[project]\nname = "versioned"\ndynamic = ["version"]\n[tool.hatch.version]\nsource = "vcs"\n'
    '[tool.hatch.build.targets.wheel]\ninclude = ["versioned.py"]\n',
}


@pytest.mark.parametrize("tool", SCM)
def test_builds_that_ask_git_for_their_version(install: Installer, host: GitServer, tool: str) -> None:
    publish(host.root, "versioned", {"pyproject.toml": SCM[tool], "versioned.py": ""})
    git(host.root / "versioned.git", "tag", "v2.3", "main")
    line = f"versioned @ git+{host.url}/versioned.git@v2.3\n"
    install.online()({"requirements.txt": line})
    assert [path.name for path in install.space.staging.glob("*.dist-info")] == ["versioned-2.3.dist-info"]


@pytest.mark.parametrize(("ref", "version"), [(None, "0.1.dev1+g"), ("v4.5", "4.5")])
def test_the_projects_own_version(install: Installer, ref: str | None, version: str) -> None:
    pyproject = SCM["setuptools-scm"].replace("dynamic", 'dependencies = ["six"]\ndynamic', 1)
    files = {"requirements.txt": ".\n", "pyproject.toml": pyproject, "versioned.py": ""}
    installed = install.online()(files, ref=ref)
    assert any(name.startswith(f"versioned=={version}") for name in installed.names)


def test_an_archives_own_description_is_kept(install: Installer, host: GitServer) -> None:
    mine = {".git_archival.txt": "node: 12\ndescribe-name: v7.0\n"}
    publish(host.root, "mine", {"pyproject.toml": SCM["setuptools-scm"], "versioned.py": "", **mine})
    install.online()({"requirements.txt": f"git+{host.url}/mine.git\n"})
    assert [path.name for path in install.space.staging.glob("*.dist-info")] == ["versioned-7.0.dist-info"]
