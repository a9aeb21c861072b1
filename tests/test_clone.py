"""Cloning: real Dulwich, against real repositories that are really served, and trees that no Git would make."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import re
import shutil
import socket
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from dulwich.objects import Blob, Commit, Tag, Tree
from dulwich.repo import Repo

from local.git_server import AUTHOR, NEW_YEAR_2025, GitServer
from tests.gitting import BLOB, COMMIT, NAMED_DELTA, OFFSET_DELTA, TREE, HandMade, header, sealed, server, serving
from yo_dawg.checkout import Checkout, Source
from yo_dawg.control.clone import clone
from yo_dawg.control.toolchain import Toolchain
from yo_dawg.errors import SourceError
from yo_dawg.events import BuildRequest
from yo_dawg.log import Log
from yo_dawg.process import Command, Shell
from yo_dawg.workshop.git.__main__ import git_worker
from yo_dawg.workshop.git.checkout import TreeEntry, check_links, peel, tree_entries, write_checkout
from yo_dawg.workshop.git.lfs import lfs_pointers
from yo_dawg.workshop.git.pack import Objects, bad_pack
from yo_dawg.workshop.git.remote import Fetched
from yo_dawg.workshop.git.repository import Wanted, fetch_submodules
from yo_dawg.workspace import Workspace

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

    def run(self, command: Command, meanwhile: Callable[[], object] = lambda: None) -> str:
        with mock.patch("sys.stdin", io.StringIO(command.stdin.decode())), warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # what a worker leaves open, its end closes
            git_worker()
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
        pytest.param("0" * 39 + "1", "did not send the commit 0+1: .*not our ref", id="a commit that is not there"),
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


# --- Repositories that no Git would make ------------------------------------------------------------------------


def write_out(made: HandMade, commit: str, folder: Path) -> None:
    """Unpack a pack and write out a commit's tree, as the worker does."""
    (folder / "objects").mkdir()
    objects = Objects(folder / "objects", "sha1")
    with bad_pack():
        objects.unpack(io.BytesIO(made.pack))
    _, tree = peel(Fetched(objects, commit, "main"))
    entries = tree_entries(objects, tree)
    lfs_pointers(objects, entries)
    write_checkout(objects, entries, folder / "checkout")
    check_links(folder / "checkout")


@pytest.mark.parametrize("again", ["blob", "tree"])
def test_what_stands_twice_in_a_pack_is_still_what_its_name_says(tmp_path: Path, again: str) -> None:
    made = HandMade()
    good = made.add(BLOB, b"good")
    folder = made.tree((b"100644", b"app.py", good))
    commit = made.commit(folder)
    if again == "blob":
        made.add(BLOB, b"good")
        made.add(BLOB, b"evil")
    else:
        evil = made.add(BLOB, b"evil")
        made.tree((b"100644", b"app.py", good))
        made.tree((b"100644", b"app.py", evil))
    write_out(made, commit, tmp_path)
    assert (tmp_path / "checkout" / "app.py").read_bytes() == b"good"


def refused(made: HandMade, commit: str, folder: Path) -> str:
    """Write out what must be refused, and must write nothing elsewhere; return the words."""
    (folder / "inner").mkdir()
    with pytest.raises(SourceError) as error:
        write_out(made, commit, folder / "inner")
    assert os.listdir(folder) == ["inner"]
    assert set(os.listdir(folder / "inner")) <= {"objects", "checkout"}
    return str(error.value)


def test_a_hand_made_repository_without_faults_is_written_out(tmp_path: Path) -> None:
    """All of the tests below would pass if none could be."""
    made = HandMade()
    leaf = made.add(BLOB, b"x = 1\n")
    tree = made.tree((b"100644", b"app.py", leaf), (b"100644", b"copy.py", leaf))
    write_out(made, made.commit(tree), tmp_path)
    (tmp_path / "checkout" / "app.py").write_text("changed")
    assert (tmp_path / "checkout" / "copy.py").read_bytes() == b"x = 1\n", "two files, not one of two names"


@pytest.mark.parametrize("mode", [b"100644", b"40000"])
@pytest.mark.parametrize(
    "name",
    [
        b"..", b".", b"", b"a/b", b"/etc/passwd", b"../../evil", b"a/../../x", b".git/config",
        b".git", b".GIT", b".Git", b".git.", b".git ", b"git~1", b"GIT~1", b".git::$INDEX_ALLOCATION", b".git\\config",
        b".g\xe2\x80\x8cit", b"\xef\xbb\xbf.git",
        b"new\nline", b"bell\x07", b"\x1b[31mred", b"delete\x7f", b"nul-like\xc0\x80", b"x" * 256,
    ],
)  # fmt: skip
def test_an_unsafe_name_is_refused(tmp_path: Path, name: bytes, mode: bytes) -> None:
    made = HandMade()
    leaf = made.add(BLOB, b"evil")
    inner = leaf if mode == b"100644" else made.tree((b"100644", b"config", leaf))
    message = refused(made, made.commit(made.tree((mode, name, inner))), tmp_path)
    assert "unsafe: it holds a file named" in message
    assert message.isprintable()


LINKS: list[Any] = [
    pytest.param([(b"a", b"../x")], "'a' points at '../x', outside", id="out"),
    pytest.param([(b"a", b"/etc/passwd")], "outside of the repository", id="absolute"),
    pytest.param([(b"a", b"/proc/self/environ")], "outside of the repository", id="to /proc"),
    pytest.param([(b"a", b"b/.."), (b"b", b"..")], "outside of the repository", id="through another link"),
    pytest.param([(b"a", b"\0")], "malformed: 'a' is no link that could be", id="a NUL"),
    pytest.param([(b"a", b"")], "malformed", id="to nothing"),
    pytest.param([(b"a", b"x" * 5000)], "too large", id="longer than a path"),
]


@pytest.mark.parametrize(("links", "words"), LINKS)
def test_a_link_out_of_the_tree_is_refused(tmp_path: Path, links: list[tuple[bytes, bytes]], words: str) -> None:
    made = HandMade()
    tree = made.tree(*((b"120000", name, made.add(BLOB, target)) for name, target in links))
    assert words in refused(made, made.commit(tree), tmp_path)


def test_links_that_lead_out_together_are_refused(tmp_path: Path) -> None:
    made = HandMade()
    inner = made.tree((b"120000", b"up", made.add(BLOB, b"..")))
    outer = made.tree((b"120000", b"zz", made.add(BLOB, b"a/up/../../..")), (b"40000", b"a", inner))
    assert "outside of the repository" in refused(made, made.commit(outer), tmp_path)


def test_a_file_through_a_linked_folder_is_refused(tmp_path: Path) -> None:
    """CVE-2021-21300's way: a folder that is a link too, for what then goes elsewhere."""
    made = HandMade()
    inner = made.tree((b"100644", b"evil", made.add(BLOB, b"evil")))
    tree = made.tree((b"120000", b"d", made.add(BLOB, bytes(tmp_path))), (b"40000", b"d", inner))
    assert "holds 'd' twice" in refused(made, made.commit(tree), tmp_path)


@pytest.mark.parametrize("second", [b"100644", b"40000", b"120000"])
def test_an_entry_that_is_there_twice_is_refused(tmp_path: Path, second: bytes) -> None:
    made = HandMade()
    leaf = made.add(BLOB, b"x")
    other = made.tree((b"100644", b"y", leaf)) if second == b"40000" else leaf
    assert "holds 'a' twice" in refused(
        made, made.commit(made.tree((b"100644", b"a", leaf), (second, b"a", other))), tmp_path
    )


def test_a_loop_of_links_and_a_link_to_nothing_are_for_packaging_to_judge(tmp_path: Path) -> None:
    made = HandMade()
    links = [(b"a", b"b"), (b"b", b"a"), (b"c", b"nothing")]
    tree = made.tree(*((b"120000", name, made.add(BLOB, target)) for name, target in links))
    write_out(made, made.commit(tree), tmp_path)
    assert sorted(os.listdir(tmp_path / "checkout")) == ["a", "b", "c"]


def test_a_second_tree_in_a_commit_is_not_followed(tmp_path: Path) -> None:
    made = HandMade()
    good, bad = (made.tree((b"100644", name, made.add(BLOB, name))) for name in (b"good", b"bad"))
    commit = made.add(COMMIT, b"tree %s\ntree %s\n\n" % (good.hex().encode(), bad.hex().encode())).hex()
    write_out(made, commit, tmp_path)
    assert os.listdir(tmp_path / "checkout") == ["good"]


@pytest.mark.parametrize("mode", [b"060000", b"020000", b"010000", b"140000", b"9", b"", b"-100644"])
def test_an_entry_that_is_no_file_is_refused(tmp_path: Path, mode: bytes) -> None:
    made = HandMade()
    assert "malformed" in refused(made, made.commit(made.tree((mode, b"dev", made.add(BLOB, b"")))), tmp_path)


@pytest.mark.parametrize(
    ("mode", "kind", "words"),
    [
        pytest.param(b"100644", None, "content of 'a' is missing", id="no file"),
        pytest.param(b"40000", None, "folder 'a/' is missing", id="no folder"),
        pytest.param(b"40000", BLOB, "folder 'a/' is missing", id="a file in the place of a folder"),
        pytest.param(b"100644", TREE, "content of 'a' is missing", id="a folder in the place of a file"),
    ],
)
def test_what_the_server_left_out_is_told(tmp_path: Path, mode: bytes, kind: int | None, words: str) -> None:
    made = HandMade()
    name = made.add(kind, b"") if kind else b"\1" * 20
    assert words in refused(made, made.commit(made.tree((mode, b"a", name))), tmp_path)


def test_a_bomb_of_trees_is_refused(tmp_path: Path) -> None:
    """Ten levels of ten times the same folder: ten thousand million files."""
    made = HandMade()
    leaf = made.add(BLOB, b"x")
    tree = made.tree(*((b"100644", b"f%d" % number, leaf) for number in range(10)))
    for _ in range(10):
        tree = made.tree(*((b"40000", b"d%d" % number, tree) for number in range(10)))
    assert "files and folders: too many" in refused(made, made.commit(tree), tmp_path)


def test_trees_nested_without_an_end_are_refused(tmp_path: Path) -> None:
    made = HandMade()
    tree = made.tree((b"100644", b"f", made.add(BLOB, b"x")))
    for _ in range(2000):
        tree = made.tree((b"40000", b"d", tree))
    assert "unsafe: it holds a file named" in refused(made, made.commit(tree), tmp_path)


@pytest.mark.parametrize("text", [b"oid sha256:0\n", b"oid sha256:" + b"0" * 64 + b"\nsize many\n"])
def test_a_pointer_to_lfs_that_makes_no_sense_is_refused(tmp_path: Path, text: bytes) -> None:
    made = HandMade()
    pointer = made.add(BLOB, b"version https://git-lfs.github.com/spec/v1\n" + text)
    assert "'a' is a pointer to a file in Git LFS that" in refused(
        made, made.commit(made.tree((b"100644", b"a", pointer))), tmp_path
    )


@pytest.mark.parametrize(
    ("path", "url", "words"),
    [
        pytest.param("../../hooks", "https://localhost/x", "unsafe: it holds a file named '../../hooks'", id="path"),
        *(
            pytest.param("sub", url, "submodule 'sub' is at", id=url)
            for url in ("ext::sh -c id", "file:///etc", "/etc", "--upload-pack=id", "http://other.example/x")
        ),
    ],
)
def test_a_submodule_at_a_bad_place_is_refused(tmp_path: Path, path: str, url: str, words: str) -> None:
    modules = f'[submodule "x"]\npath = {path}\nurl = "{url}"\n'.encode()
    outer = Wanted(None, tmp_path / "checkout", tmp_path)
    with pytest.raises(SourceError, match=words):
        fetch_submodules(Source("https://h/x.git"), outer, [TreeEntry(b"sub", 0o160000, b"1" * 20)], modules)
    assert os.listdir(tmp_path) in ([], ["checkout"])


# --- Packs ------------------------------------------------------------------------------------------------------


def varint(number: int) -> bytes:
    """Write a size as deltas do."""
    out = []
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def delta_of(base: bytes, delta: bytes) -> Callable[[HandMade], None]:
    """Return what adds a blob, and a delta of it."""

    def add(made: HandMade) -> None:
        name = made.add(BLOB, base)
        made.objects.append(header(NAMED_DELTA, len(delta)) + name + zlib.compress(delta))

    return add


def raw(content: bytes) -> Callable[[HandMade], None]:
    """Return what adds bytes to a pack as if they were an object."""
    return lambda made: made.objects.append(content)


BOMB = zlib.compress(bytes(64 << 20), 9)
COPIES = b"\x80" * 5_000_000  # offset 0, size 0: that is 65,536 bytes, each time


@pytest.mark.parametrize(
    ("add", "words"),
    [
        pytest.param(delta_of(b"abc", varint(9) + varint(1) + b"\1x"), "of another size", id="wrong base"),
        pytest.param(delta_of(b"abc", varint(3) + varint(9) + b"\1x"), "another size than it says", id="wrong result"),
        pytest.param(delta_of(b"abc", varint(3) + varint(1) + b"\1xyz"), "makes no sense", id="too much"),
        pytest.param(delta_of(b"abc", varint(3) + varint(9) + b"\x91\2\x09"), "makes no sense", id="beyond its base"),
        pytest.param(delta_of(b"abc", varint(3) + varint(1) + b"\0"), "makes no sense", id="instruction 0"),
        pytest.param(delta_of(b"abc", varint(3) + varint(5) + b"\5x"), "makes no sense", id="insert too short"),
        pytest.param(delta_of(b"abc", b"\xff" * 12), "is damaged", id="size without an end"),
        pytest.param(delta_of(b"abc", b""), "is damaged", id="empty"),
        pytest.param(raw(header(NAMED_DELTA, 2) + b"\7" * 20 + zlib.compress(b"\0\0")), "does not hold", id="no base"),
        pytest.param(raw(header(OFFSET_DELTA, 2) + b"\x7f" + zlib.compress(b"\0\0")), "does not hold", id="before it"),
        pytest.param(raw(header(5, 1) + zlib.compress(b"x")), "unknown kind", id="kind"),
        pytest.param(raw(header(BLOB, 5) + b"garbage!"), "is damaged", id="not zlib"),
        pytest.param(raw(b"\xbf" + b"\xff" * 20), "damaged|more than /tmp", id="size without an end, of an object"),
        pytest.param(raw(header(BLOB, 1000)), "damaged|declares|ends", id="cut"),
        pytest.param(
            raw(header(BLOB, 4 << 30) + zlib.compress(b"small")), "declares|more than /tmp", id="declares 4 GB"
        ),
        pytest.param(raw(header(BLOB, 10) + zlib.compress(bytes(10_000_000))), "that it declares", id="declares less"),
        pytest.param(
            lambda made: made.objects.extend([header(BLOB, 64 << 20) + BOMB] * 20), "unpacks to more than", id="a bomb"
        ),
        pytest.param(
            delta_of(b"x" * 65536, varint(65536) + varint(65536 * len(COPIES)) + COPIES),
            "unpacks to more than",
            id="a bomb of deltas",
        ),
    ],
)
def test_a_damaged_pack_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, add: Callable[[HandMade], None], words: str
) -> None:
    # A /tmp of 200 MB is left: a bomb that fills a real one would take the test as long.
    monkeypatch.setattr(shutil, "disk_usage", lambda _: mock.Mock(free=200_000_000))
    made = HandMade()
    commit = made.commit(made.tree())
    add(made)
    message = refused(made, commit, tmp_path)
    assert message.startswith("The pack that the server sent")
    assert re.search(words, message)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        pytest.param(lambda pack: pack[:-1] + b"!", "not whole", id="changed on the way"),
        pytest.param(lambda pack: pack[:-30], "not whole", id="cut off"),
        pytest.param(lambda _: b"", "not whole", id="empty"),
        pytest.param(lambda pack: sealed(pack[:8] + b"\xff" * 4 + pack[12:-20]), "unknown kind", id="too many objects"),
        pytest.param(lambda pack: sealed(b"KCAP" + pack[4:-20]), "damaged", id="no pack"),
    ],
)
def test_what_is_no_whole_pack_is_refused(tmp_path: Path, spoil: Callable[[bytes], bytes], words: str) -> None:
    made = HandMade()
    made.commit(made.tree())
    objects = Objects(tmp_path, "sha1")
    with pytest.raises(SourceError, match=words), bad_pack():
        objects.unpack(io.BytesIO(spoil(made.pack)))


def test_another_commit_than_the_one_asked_for_is_refused(tmp_path: Path) -> None:
    made = HandMade()
    made.commit(made.tree())
    assert "did not send" in refused(made, "12" * 20, tmp_path)


@pytest.mark.parametrize("host", ["child"], indirect=True)
def test_a_hostile_repository_is_refused_through_the_worker_too(host: Host) -> None:
    made = HandMade()
    commit = made.commit(made.tree((b"40000", b".git", made.tree((b"100644", b"config", made.add(BLOB, b"[core]"))))))
    with server(serving(commit, made.pack)) as url, pytest.raises(SourceError, match="holds a file named '.git'"):
        host.clone(Source(f"{url}/project.git"))


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

    def die(self: Shell, command: Command) -> str:
        return run(self, Command(["sh", "-c", "echo last words; kill -KILL $$"], command.cwd))

    monkeypatch.setattr(Shell, "run", die)
    with pytest.raises(SourceError, match="the clone was killed, most likely for lack of memory(?s:.)*last words"):
        host.clone()
