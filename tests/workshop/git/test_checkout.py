"""Trees that no Git would make: what is unsafe is not written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.hand_made import BLOB, COMMIT, TREE, HandMade, refused, write_out


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
