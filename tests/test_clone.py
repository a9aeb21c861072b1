"""Cloning: real Dulwich, against real repositories that are really served, and trees that no Git would make."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import socket
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from dulwich.object_store import MemoryObjectStore
from dulwich.objects import Blob, Commit, Tag, Tree
from dulwich.repo import Repo

import lambda_function as yo
from lambda_function import BuildRequest, Checkout, Log, Shell, Source, SourceError, Toolchain, Workspace, clone
from local.git_server import AUTHOR, NEW_YEAR_2025, GitServer

FILE, SCRIPT, LINK, SUBMODULE = 0o100644, 0o100755, 0o120000, 0o160000
TOKEN = "canary-token-of-the-git-host"
Entries = Sequence[tuple[bytes, int, bytes]]


def add_commit(store: Any, entries: Entries) -> bytes:
    """Store a commit of these files, whatever their names; return its id."""
    commit = Commit()
    commit.tree = add_tree(store, entries)
    commit.author = commit.committer = AUTHOR
    commit.author_time = commit.commit_time = NEW_YEAR_2025
    commit.author_timezone = commit.commit_timezone = 0
    commit.message = b"x\n"
    store.add_object(commit)
    return bytes(commit.id)


def add_tree(store: Any, entries: Entries) -> Any:
    """Store one tree: its names are taken as they are, also twice; a directory's content is its first file's."""
    raw = b""
    for name, mode, content in entries:
        if mode == 0o40000:
            sha = add_tree(store, [(b"inner.py", FILE, content)])
        elif mode == SUBMODULE:
            sha = b"1" * 40
        else:
            blob = Blob.from_string(content)
            store.add_object(blob)
            sha = blob.id
        raw += b"%o %s\0" % (mode, name) + bytes.fromhex(sha.decode())
    tree = Tree.from_string(raw)
    store.add_object(tree)
    return tree.id


class Host:
    """A Git host with one repository, and what clones from it."""

    def __init__(self, server: GitServer, space: Workspace, shell: Shell) -> None:
        self.server, self.space, self.shell = server, space, shell
        self.repo = Repo.init_bare(str(server.root / "project.git"), mkdir=True)
        self.source = Source(f"{server.url}/project.git")

    def clone(self, source: Source | None = None, **fields: Any) -> Checkout:
        toolchain = Toolchain(self.space.toolchain)  # Dulwich is among the tests' own packages
        return clone(source or self.source, BuildRequest("f", "project", **fields), toolchain, self.shell)

    def commit(self, *entries: tuple[bytes, int, bytes]) -> str:
        """Make a commit the tip of main."""
        sha = add_commit(self.repo.object_store, entries or [(b"app.py", FILE, b"x = 1\n")])
        self.point(b"refs/heads/main", sha)
        return sha.decode()

    def point(self, ref: bytes, sha: bytes) -> None:
        self.repo.refs[ref] = sha  # type: ignore[index, assignment]  # Dulwich's own types of bytes


class InProcess(Shell):
    """Does the worker's job in this process: what it does not foresee is then seen, and its lines are measured."""

    def run(self, command: yo.Command) -> str:
        with mock.patch("sys.stdin", io.StringIO(command.stdin.decode())), warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # what a worker leaves open, its end closes
            yo.git_worker()
            gc.collect()
        return ""


@pytest.fixture(params=["child", "in process"])
def host(request: pytest.FixtureRequest, tmp_path: Path, space: Workspace, shell: Shell, log: Log) -> Iterator[Host]:
    if request.param == "in process":
        shell = InProcess({}, log)
    (tmp_path / "repositories").mkdir()
    with GitServer(tmp_path / "repositories") as server:
        made = Host(server, space, shell)
        made.repo.refs.set_symbolic_ref(b"HEAD", b"refs/heads/main")  # type: ignore[arg-type]
        with contextlib.closing(made.repo):
            yield made


# --- What is checked out -----------------------------------------------------------------------------------


def test_a_checkout_is_the_commits_files_and_nothing_of_git(host: Host) -> None:
    commit = host.commit(
        (b"app.py", FILE, b"x = 1\n"), (b"folder", 0o40000, b"y = 2\n"), (b"link", LINK, b"folder/inner.py"),
        (b"run.sh", SCRIPT, b"#!/bin/sh\n"),
    )  # fmt: skip
    checkout = host.clone()
    assert (checkout.commit, checkout.ref, checkout.warnings) == (commit, "main", ())
    names = sorted(path.relative_to(checkout.root).as_posix() for path in checkout.root.rglob("*"))
    assert names == ["app.py", "folder", "folder/inner.py", "link", "run.sh"]
    assert checkout.files == set(names)
    assert os.readlink(checkout.root / "link") == "folder/inner.py"
    assert [os.access(checkout.root / name, os.X_OK) for name in ("run.sh", "app.py")] == [True, False]
    assert not host.space.objects.exists(), "/tmp is small"


@pytest.fixture
def refs(host: Host) -> dict[str, str]:
    """Refs of all kinds; the commits by name."""
    first = host.commit((b"a", FILE, b"1"))
    second = host.commit((b"a", FILE, b"2"))
    tag = Tag()
    tag.name, tag.tagger, tag.tag_time, tag.tag_timezone, tag.message = b"v2", AUTHOR, NEW_YEAR_2025, 0, b"x\n"
    tag.object = (Commit, first.encode())
    host.repo.object_store.add_object(tag)
    blob = Blob.from_string(b"1")
    for ref, sha in (("heads/feature/x", first), ("tags/v1", first), ("heads/both", first), ("tags/both", second)):
        host.point(f"refs/{ref}".encode(), sha.encode())
    host.point(b"refs/tags/v2", tag.id)
    host.point(b"refs/tags/file", blob.id)
    return {"first": first, "second": second}


@pytest.mark.parametrize(
    ("wanted", "commit", "ref"),
    [
        pytest.param(None, "second", "main", id="default branch"),
        pytest.param("main", "second", "main", id="branch"),
        pytest.param("feature/x", "first", "feature/x", id="branch with a slash"),
        pytest.param("v1", "first", "v1", id="light tag"),
        pytest.param("v2", "first", "v2", id="annotated tag"),
        pytest.param("refs/heads/both", "first", "both", id="full name of a branch"),
        pytest.param("refs/tags/both", "second", "both", id="full name of a tag"),
        pytest.param("first", "first", "first", id="commit"),
        pytest.param("second", "second", "second", id="commit at a tip"),
    ],
)
def test_what_is_asked_for_is_what_is_got(
    host: Host, refs: dict[str, str], wanted: str | None, commit: str, ref: str
) -> None:
    checkout = host.clone(ref=refs.get(wanted or "", wanted))
    assert (checkout.commit, checkout.ref) == (refs[commit], refs.get(ref, ref))
    assert (checkout.root / "a").read_text() == {"first": "1", "second": "2"}[commit]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        pytest.param("mian", 'no branch or tag "mian" .did you mean "main"', id="misspelt"),
        pytest.param("both", '"both" is a branch and a tag: ask for "refs/heads/both"', id="ambiguous"),
        pytest.param("0123abcd", "A commit must be given by its full id", id="abbreviated"),
        pytest.param("refs/heads/none", 'no branch or tag "refs/heads/none"', id="full name of nothing"),
        pytest.param("file", '"file" is no commit but a blob', id="a tag of a file"),
        pytest.param("0" * 39 + "1", r"project\.git", id="a commit that is not there"),
    ],
)
@pytest.mark.usefixtures("refs")
def test_a_ref_that_is_none_is_refused(host: Host, wanted: str, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        host.clone(ref=wanted)


def test_an_empty_repository_is_said_so(host: Host) -> None:
    with pytest.raises(SourceError, match="is empty: push a commit"):
        host.clone()


def test_a_head_without_a_branch_names_the_branches(host: Host) -> None:
    host.commit()
    host.point(b"refs/heads/develop", host.repo.refs[b"refs/heads/main"])  # type: ignore[index]
    del host.repo.refs[b"refs/heads/main"]  # type: ignore[arg-type]
    with pytest.raises(SourceError, match="is a branch that does not exist.*its branches are: develop"):
        host.clone()


def test_a_repository_that_is_not_there_is_said_so(host: Host) -> None:
    with pytest.raises(SourceError, match="no such repository, or hides it.*repo_name.*base_url"):
        host.clone(Source(f"{host.server.url}/none.git"))


@pytest.mark.parametrize(
    ("subdirectory", "words"),
    [
        pytest.param("flder", "no folder 'flder' at this commit. Its folders are: folder", id="missing"),
        pytest.param("app.py", "no folder 'app.py'", id="a file"),
        pytest.param("folder", None, id="there"),
    ],
)
def test_the_projects_folder_is_found(host: Host, subdirectory: str, words: str | None) -> None:
    host.commit((b"app.py", FILE, b""), (b"folder", 0o40000, b""))
    if words is None:
        checkout = host.clone(subdirectory=subdirectory)
        assert checkout.project == checkout.root / subdirectory
    else:
        with pytest.raises(SourceError, match=words):
            host.clone(subdirectory=subdirectory)


# --- Trees that no Git would make -----------------------------------------------------------------------------


def write(folder: Path, entries: Entries) -> list[str]:
    """Write out a tree as the worker does."""
    store = MemoryObjectStore()
    commit: Any = store[add_commit(store, entries)]  # type: ignore[index]
    return yo.write_checkout(store, commit.tree, folder / "checkout")


HOSTILE: list[Any] = [
    *(pytest.param([(name, FILE, b"x")], "unsafe", id=repr(name)) for name in (
        b".git", b".GIT", b".Git", b"git~1", b".git ", b"..", b".", b"../x", b"/x", b"a/../../x", b".git/config", b"",
    )),
    pytest.param([(b"..", 0o40000, b"x")], "unsafe", id="a directory named .."),
    # Dulwich keeps one entry of a name; but a name with a slash in it comes to the same.
    pytest.param([(b"a", FILE, b"1"), (b"a/b", FILE, b"2")], "'a/b' twice", id="a file, and a file in it"),
    pytest.param([(b"a/b", FILE, b"1"), (b"./a", 0o40000, b"2")], "unsafe", id="another spelling"),
    pytest.param([(b"a", LINK, b"/tmp"), (b"a/b", FILE, b"2")], "'a' twice", id="a link, and a file through it"),
    pytest.param([(b"a", LINK, b".."), (b"a/b", LINK, b"x")], "'a/b' twice", id="a link, and a link through it"),
    pytest.param([(b"a", LINK, b"../x")], "'a' points at '../x', outside", id="a link out"),
    pytest.param([(b"a", LINK, b"/etc/passwd")], "outside of the repository", id="an absolute link"),
    pytest.param([(b"a", LINK, b"/proc/self/environ")], "outside of the repository", id="a link to /proc"),
    pytest.param([(b"a", LINK, b"b/.."), (b"b", LINK, b"..")], "outside of the repository", id="through another link"),
    pytest.param([(b"a", LINK, b"\0")], "malformed", id="a link with a NUL"),
]  # fmt: skip


@pytest.mark.parametrize(("entries", "words"), HOSTILE)
def test_a_hostile_tree_is_refused_and_writes_nothing_elsewhere(tmp_path: Path, entries: Entries, words: str) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    with pytest.raises(SourceError, match=words):
        write(folder, entries)
    assert [path.name for path in tmp_path.iterdir()] == ["inner"]
    assert [path.name for path in folder.iterdir()] == ["checkout"]


def test_a_hostile_tree_is_refused_through_the_worker_too(host: Host) -> None:
    host.commit((b".git", 0o40000, b"[core]"))
    with pytest.raises(SourceError, match="unsafe: it holds a file named '.git/inner.py'"):
        host.clone()


def test_a_loop_of_links_and_a_link_to_nothing_are_for_packaging_to_judge(tmp_path: Path) -> None:
    assert write(tmp_path, [(b"a", LINK, b"b"), (b"b", LINK, b"a"), (b"c", LINK, b"nothing")]) == []
    assert sorted(os.listdir(tmp_path / "checkout")) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        pytest.param((b"sub", SUBMODULE, b""), "the submodule 'sub' was not fetched", id="submodule"),
        pytest.param(
            (b"a.bin", FILE, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
            "'a.bin' is a pointer",
            id="LFS",
        ),
    ],
)
def test_what_is_not_fetched_is_warned_of(tmp_path: Path, entry: tuple[bytes, int, bytes], words: str) -> None:
    (warning,) = write(tmp_path, [entry])
    assert words in warning


# --- Tokens -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("username", "token", "words"),
    [
        pytest.param("me", TOKEN, None, id="right"),
        pytest.param("", TOKEN, "the token is refused", id="the default user name is another"),
        pytest.param("me", f"{TOKEN}x", "the token is refused", id="wrong"),
        pytest.param("", "", "the host wants a token", id="missing"),
    ],
)
def test_a_private_repository_wants_the_right_token(
    host: Host, capsys: pytest.CaptureFixture[str], username: str, token: str, words: str | None
) -> None:
    host.commit()
    with GitServer(host.server.root, users={"me": TOKEN}) as guarded:
        source = Source(f"{guarded.url}/project.git", username, token)
        assert TOKEN not in repr(source)
        if words is None:
            assert host.clone(source).ref == "main"
        else:
            with pytest.raises(SourceError, match=f"{words}.*token_secret and username") as refused:
                host.clone(source)
            assert "canary" not in str(refused.value)
    assert "canary" not in capsys.readouterr().out


# --- Servers that are none ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def answering(reply: bytes) -> Iterator[str]:
    """Serve these bytes, whatever is asked; yield the address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection:
                        connection.recv(65536)
                        connection.sendall(reply)

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)


def http(body: bytes, kind: str = "application/x-git-upload-pack-advertisement", status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x00\xff\n\n", id="no HTTP"),
        pytest.param(http(b"<html>", "text/html"), id="a web page"),
        pytest.param(http(b"zzzz"), id="no lines of Git"),
        pytest.param(http(b"001e# service=git-upload-pack\n0000" + b"00ff" + b"x"), id="cut off"),
        pytest.param(http(b"", status="500 Internal Server Error"), id="an error"),
    ],
)
def test_what_is_no_git_host_is_a_source_error(host: Host, reply: bytes) -> None:
    with answering(reply) as url, pytest.raises(SourceError, match=rf"Cannot clone {url}/project\.git: .+") as refused:
        host.clone(Source(f"{url}/project.git"))
    assert "Traceback" not in str(refused.value)


def test_a_host_that_cannot_be_reached_is_a_source_error(host: Host) -> None:
    with pytest.raises(SourceError, match=r"Cannot clone http://127\.0\.0\.1:1/project\.git.*base_url"):
        host.clone(Source("http://127.0.0.1:1/project.git"))


@pytest.mark.parametrize("host", ["child"], indirect=True)
def test_a_worker_that_dies_is_told_with_its_last_words(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    run: Callable[..., str] = Shell.run

    def die(self: Shell, command: yo.Command) -> str:
        return run(self, yo.Command(["sh", "-c", "echo last words; kill -KILL $$"], command.cwd))

    monkeypatch.setattr(Shell, "run", die)
    with pytest.raises(SourceError, match="the clone was killed, most likely for lack of memory(?s:.)*last words"):
        host.clone()
