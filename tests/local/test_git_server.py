"""local/git_server.py: repositories made from folders, and served as a Git host serves them."""

from __future__ import annotations

import contextlib
import http.client
import io
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from dulwich import porcelain
from dulwich.client import HTTPUnauthorized
from dulwich.errors import NotGitRepository
from dulwich.objects import Commit
from dulwich.refs import Ref
from dulwich.repo import Repo

from local.git_server import GitBackend, GitServer, find_git, make_repository

needs_git = pytest.mark.skipif(find_git() is None, reason="no Git with http-backend is installed")
Backend = Literal["git", "dulwich"]
BACKENDS = [pytest.param("git", marks=needs_git), "dulwich"]
MAIN = Ref(b"refs/heads/main")


@pytest.fixture(autouse=True)
def _git_of_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep this machine's Git settings out of the clients."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_TERMINAL_PROMPT", "0")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a project's folder."""
    root = tmp_path / "project"
    (root / "sub").mkdir(parents=True)
    (root / "app.py").write_text("print('hello')\n")
    (root / "sub" / "run.sh").write_text("#!/bin/sh\n")
    (root / "sub" / "run.sh").chmod(0o755)
    (root / "link").symlink_to("sub")
    return root


@pytest.fixture
def served(folder: Path, tmp_path: Path) -> Path:
    """Make a folder of repositories with group/project.git, which has two commits on main."""
    root = tmp_path / "served"
    first = make_repository(folder, root / "group" / "project.git")
    with contextlib.closing(Repo(str(root / "group" / "project.git"))) as repo:
        old = repo[first.encode()]
        assert isinstance(old, Commit)
        new = old.copy()
        assert isinstance(new, Commit)
        new.parents = [old.id]
        new.message = b"again\n"
        repo.object_store.add_object(new)
        repo.refs[MAIN] = new.id
    return root


def git(*arguments: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def clone_with_git(url: str, target: Path) -> tuple[list[str], bool]:
    """Clone one commit deep; return the ids of the commits that came, and whether they are all there is."""
    git("clone", "--quiet", "--depth=1", url, target)
    commits = git("rev-list", "HEAD", cwd=target).split()
    return commits, git("rev-parse", "--is-shallow-repository", cwd=target) == "false\n"


def clone_with_dulwich(url: str, target: Path) -> tuple[list[str], bool]:
    """Do the same with Dulwich."""
    with contextlib.closing(porcelain.clone(url, str(target), depth=1, errstream=io.BytesIO())) as repo:
        return [entry.commit.id.decode() for entry in repo.get_walker()], not repo.get_shallow()


# --- make_repository ------------------------------------------------------------------------------


def entries(repository: Path) -> dict[str, int]:
    """Return the names and modes of all that a bare repository's HEAD holds."""
    with contextlib.closing(Repo(str(repository))) as repo:
        commit = repo[repo.head()]
        assert isinstance(commit, Commit)
        found = repo.object_store.iter_tree_contents(commit.tree)
        return {str(entry.path, "utf-8"): entry.mode or 0 for entry in found if entry.path}


def test_keeps_executable_bits_and_links(folder: Path, tmp_path: Path) -> None:
    make_repository(folder, tmp_path / "p.git")
    assert entries(tmp_path / "p.git") == {"app.py": 0o100644, "link": 0o120000, "sub/run.sh": 0o100755}


@needs_git
def test_git_finds_nothing_wrong_with_it(folder: Path, tmp_path: Path) -> None:
    commit = make_repository(folder, tmp_path / "p.git", branch="trunk", message="First")
    git("fsck", "--strict", cwd=tmp_path / "p.git")
    assert git("log", "--format=%H %D %s", cwd=tmp_path / "p.git") == f"{commit} HEAD -> trunk First\n"


def test_leaves_out_what_git_ignores(folder: Path, tmp_path: Path) -> None:
    (folder / ".gitignore").write_text("*.log\n/build/\n!kept.log\n")
    for name in ("x.log", "kept.log", "build/out", "sub/build/out", "__pycache__/a.pyc", ".git/config", "sub/.git"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    make_repository(folder, tmp_path / "p.git")
    names = {".gitignore", "app.py", "link", "kept.log", "sub/build/out", "sub/run.sh"}
    assert set(entries(tmp_path / "p.git")) == names


def test_the_same_folder_gives_the_same_commit(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy, symlinks=True)
    commit = make_repository(folder, tmp_path / "1.git")
    assert make_repository(copy, tmp_path / "2.git") == commit
    (copy / "app.py").write_text("print('changed')\n")
    assert make_repository(copy, tmp_path / "3.git") != commit


# --- GitServer ------------------------------------------------------------------------------------


@needs_git
def test_git_serves_where_it_is_installed(tmp_path: Path) -> None:
    assert GitServer(tmp_path).backend == "git"


def test_dulwich_serves_where_git_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert GitServer(tmp_path).backend == "dulwich"
    with pytest.raises(RuntimeError, match=r"install Git"):
        GitServer(tmp_path, backend="git")


def test_a_git_that_cannot_run_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "git").write_text("#!/bin/sh\necho 'install the developer tools' >&2\nexit 1\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert GitServer(tmp_path).backend == "dulwich"


@pytest.fixture(params=BACKENDS)
def server(request: pytest.FixtureRequest, served: Path) -> Iterator[GitServer]:
    """Serve with one backend after the other."""
    with GitServer(served, backend=request.param) as server:
        assert server.backend == request.param
        yield server


@pytest.mark.parametrize("clone", [pytest.param(clone_with_git, marks=needs_git), clone_with_dulwich])
def test_clones_are_as_deep_as_asked(
    server: GitServer, tmp_path: Path, clone: Callable[[str, Path], tuple[list[str], bool]]
) -> None:
    with contextlib.closing(Repo(str(server.root / "group" / "project.git"))) as repo:
        head = repo.refs[MAIN].decode()
    assert clone(f"{server.url}/group/project.git", tmp_path / "clone") == ([head], False)
    assert (tmp_path / "clone" / "sub" / "run.sh").stat().st_mode & 0o100
    assert os.readlink(tmp_path / "clone" / "link") == "sub"


@needs_git
def test_notes_what_was_asked(server: GitServer, tmp_path: Path) -> None:
    clone_with_git(f"{server.url}/group/project.git", tmp_path / "clone")
    assert server.requests[0] == "GET /group/project.git/info/refs?service=git-upload-pack 200"
    assert set(server.requests[1:]) == {"POST /group/project.git/git-upload-pack 200"}


@pytest.mark.parametrize("name", ["none.git", "group", "group/other.git"])
def test_says_that_there_is_no_such_repository(server: GitServer, name: str) -> None:
    with pytest.raises(NotGitRepository):
        porcelain.ls_remote(f"{server.url}/{name}")
    assert server.requests == [f"GET /{name}/info/refs?service=git-upload-pack 404"]


def test_serves_nothing_outside_of_its_folder(server: GitServer, folder: Path) -> None:
    make_repository(folder, server.root.parent / "outside.git")
    host = server.url.removeprefix("http://")
    for path in ("/../outside.git", "/group/../../outside.git", f"/{server.root.parent}/outside.git"):
        with contextlib.closing(http.client.HTTPConnection(host, timeout=60)) as connection:
            connection.request("GET", f"{path}/info/refs?service=git-upload-pack")
            assert connection.getresponse().status >= 400


@needs_git
def test_takes_no_pushes(served: Path, folder: Path, tmp_path: Path) -> None:
    for backend in ("git", "dulwich"):
        with GitServer(served, backend=backend, users={"me": "secret"}) as server:
            url = server.url.replace("//", "//me:secret@")
            push = ["git", "push", f"{url}/group/project.git", "main:other"]
            done = subprocess.run(push, cwd=served / "group" / "project.git", capture_output=True, text=True)
            assert "403" in done.stderr
            assert done.returncode != 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_asks_for_a_password(served: Path, backend: Backend) -> None:
    with GitServer(served, backend=backend, users={"me": "secret"}) as server:
        url = f"{server.url}/group/project.git"
        with pytest.raises(HTTPUnauthorized):
            porcelain.ls_remote(url)
        wrong: dict[str, Any] = {"username": "me", "password": "guess"}
        with pytest.raises(HTTPUnauthorized):
            porcelain.ls_remote(url, **wrong)
        right: dict[str, Any] = {"username": "me", "password": "secret"}
        assert MAIN in porcelain.ls_remote(url, **right).refs


@needs_git
def test_hands_out_any_commit_and_filters_as_hosts_do(served: Path, tmp_path: Path) -> None:
    with GitServer(served, backend="git") as server:
        url, clone = f"{server.url}/group/project.git", tmp_path / "clone"
        git("clone", "--quiet", "--depth=1", "--filter=blob:none", "--no-checkout", url, clone)
        assert git("cat-file", "--batch-all-objects", "--batch-check", cwd=clone).count("blob") == 0
        parent = git("rev-parse", "main^", cwd=served / "group" / "project.git").strip()
        git("-c", "protocol.version=0", "fetch", "--quiet", "--depth=1", url, parent, cwd=clone)
        assert git("rev-parse", "FETCH_HEAD", cwd=clone).strip() == parent


@needs_git
def test_a_client_that_goes_away_leaves_no_git_behind(folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    started: list[subprocess.Popen[bytes]] = []
    start = GitBackend.start

    def noting_start(self: GitBackend, *arguments: Any) -> subprocess.Popen[bytes]:
        started.append(start(self, *arguments))
        return started[-1]

    monkeypatch.setattr(GitBackend, "start", noting_start)
    (folder / "large").write_bytes(os.urandom(30_000_000))  # more than any socket's buffer
    commit = make_repository(folder, tmp_path / "served" / "p.git")
    with GitServer(tmp_path / "served", backend="git") as server:
        host = server.url.removeprefix("http://")
        with contextlib.closing(http.client.HTTPConnection(host, timeout=60)) as connection:
            wants = f"0032want {commit}\n00000009done\n"
            headers = {"Content-Type": "application/x-git-upload-pack-request"}
            connection.request("POST", "/p.git/git-upload-pack", wants, headers)
            assert len(connection.getresponse().read(100)) == 100
    assert [process.returncode for process in started] == [-signal.SIGKILL]


@needs_git
def test_a_body_without_a_length_is_refused(served: Path) -> None:
    with GitServer(served, backend="git") as server:
        host = server.url.removeprefix("http://")
        with contextlib.closing(http.client.HTTPConnection(host, timeout=60)) as connection:
            connection.putrequest("POST", "/group/project.git/git-upload-pack")
            connection.putheader("Transfer-Encoding", "chunked")
            connection.endheaders()
            assert connection.getresponse().status == 411


@needs_git
def test_this_machines_git_settings_change_nothing(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(os.environ["HOME"], ".gitconfig").write_text("[uploadpack]\n\thideRefs = refs/heads\n")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "uploadpack.hideRefs")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "refs/heads")
    with GitServer(served, backend="git") as server:
        assert MAIN in porcelain.ls_remote(f"{server.url}/group/project.git").refs


def test_says_that_it_is_not_serving(tmp_path: Path) -> None:
    with GitServer(tmp_path, backend="dulwich") as server:
        assert server.url.startswith("http://127.0.0.1:")
    with pytest.raises(RuntimeError, match="with statement"):
        _ = server.url
