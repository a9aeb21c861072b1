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
        b"x" * 256,
    ],
)  # fmt: skip
def test_an_unsafe_name_is_refused(tmp_path: Path, name: bytes, mode: bytes) -> None:
    made = HandMade()
    leaf = made.add(BLOB, b"evil")
    inner = leaf if mode == b"100644" else made.tree((b"100644", b"config", leaf))
    message = refused(made, made.commit(made.tree((mode, name, inner))), tmp_path)
    assert "unsafe: it holds a file named" in message
    assert message.isprintable()


@pytest.mark.parametrize(
    "name",
    [
        b"Icon\r", b"a\tb", b"new\nline", b"bell\x07", b"\x1b[31mred", b"delete\x7f", b"\xc2\x85", b"overlong\xc0\x80",
        b"\xe2\x80\xaeright to left", b"latin-\xe9", b"back\\slash", b"aux", b"a:b",
    ],
)  # fmt: skip
def test_a_name_that_is_only_odd_is_written_as_it_is(tmp_path: Path, name: bytes) -> None:
    made = HandMade()
    leaf = made.add(BLOB, b"x")
    inner = made.tree((b"100644", b"inner", leaf))
    write_out(made, made.commit(made.tree((b"100644", name, leaf), (b"40000", name + b"2", inner))), tmp_path)
    assert set(os.listdir(bytes(tmp_path / "checkout"))) == {name, name + b"2"}


@pytest.mark.parametrize("name", [b"Icon\r", b"\x1b[31mred", b"new\nline"])
def test_messages_show_odd_names_escaped(tmp_path: Path, name: bytes) -> None:
    made = HandMade()
    message = refused(made, made.commit(made.tree((b"100644", name, b"1" * 20))), tmp_path)
    assert "is missing" in message
    assert message.isprintable()


OUTSIDE: list[Any] = [
    pytest.param([(b"a", b"../x")], ["a"], id="out"),
    pytest.param([(b"a", b"/etc/passwd")], ["a"], id="absolute"),
    pytest.param([(b"a", b"/usr/bin/no-such-python")], ["a"], id="to what is not there"),
    pytest.param([(b"a", b"/proc/self/environ")], ["a"], id="to /proc"),
    pytest.param([(b"a", b"b/.."), (b"b", b"..")], ["a", "b"], id="through another link"),
    pytest.param([(b"a", b"b"), (b"b", b"c"), (b"c", b"/tmp")], ["a", "b", "c"], id="a chain"),
    pytest.param([(b"a", b"b"), (b"b", b"."), (b"odd\n", b"/")], ["odd\n"], id="beside good ones"),
]


@pytest.mark.parametrize(("links", "outside"), OUTSIDE)
def test_a_link_out_of_the_tree_is_not_written_and_told(
    tmp_path: Path, links: list[tuple[bytes, bytes]], outside: list[str]
) -> None:
    made = HandMade()
    leaf = made.add(BLOB, b"x")
    tree = made.tree(
        (b"100644", b"app.py", leaf), *((b"120000", name, made.add(BLOB, target)) for name, target in links)
    )
    targets = {os.fsdecode(name): os.fsdecode(target) for name, target in links}
    found = write_out(made, made.commit(tree), tmp_path)
    assert found == {name: targets[name] for name in outside}
    assert set(os.listdir(tmp_path / "checkout")) == {"app.py", *targets} - set(outside)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        pytest.param(b"\0", "malformed: 'a' is no link that could be", id="a NUL"),
        pytest.param(b"", "malformed", id="to nothing"),
        pytest.param(b"x" * 5000, "too large", id="longer than a path"),
    ],
)
def test_a_link_that_could_not_be_is_refused(tmp_path: Path, target: bytes, words: str) -> None:
    made = HandMade()
    assert words in refused(made, made.commit(made.tree((b"120000", b"a", made.add(BLOB, target)))), tmp_path)


def test_links_that_lead_out_together_are_not_written(tmp_path: Path) -> None:
    made = HandMade()
    inner = made.tree((b"120000", b"up", made.add(BLOB, b"..")))
    outer = made.tree((b"120000", b"zz", made.add(BLOB, b"a/up/../../..")), (b"40000", b"a", inner))
    assert write_out(made, made.commit(outer), tmp_path) == {"zz": "a/up/../../.."}
    assert os.listdir(tmp_path / "checkout") == ["a"]


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
