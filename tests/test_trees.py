"""Trees of files, however a hostile project has made them: links out of them, loops, pipes, depth."""

from __future__ import annotations

import importlib.util
import os
import socket
import stat
import tempfile
from pathlib import Path

import pytest

from yo_dawg.errors import PackageError
from yo_dawg.trees import source_of, tree_files, walk
from yo_dawg.workspace import remove_tree


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    made = tmp_path / "tree"
    made.mkdir()
    return made


def test_a_directory_that_a_build_has_locked_is_opened(tree: Path) -> None:
    (tree / "locked").mkdir()
    (tree / "locked/a.py").write_text("x")
    (tree / "locked").chmod(0o000)
    assert [name for name, _ in tree_files(tree)] == ["locked/a.py"]


def test_links_inside_of_the_tree_are_followed(tree: Path) -> None:
    (tree / "lib").mkdir()
    (tree / "lib/a.py").write_text("content")
    (tree / "b.py").symlink_to("lib/a.py")
    (tree / "also").symlink_to("lib", target_is_directory=True)
    found = walk(tree)
    assert [name for name, _, _ in found] == ["also/a.py", "b.py", "lib/a.py"]
    assert {path for _, path, _ in found} == {(tree / "lib/a.py").resolve()}
    assert all(stat.S_ISREG(status.st_mode) for _, _, status in found)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        pytest.param("../secret", "outside of the package", id="out by .."),
        pytest.param("/etc/passwd", "outside of the package", id="absolute"),
        pytest.param("/proc/self/environ", "outside of the package", id="into /proc"),
        pytest.param("..", "outside of the package", id="the directory above"),
        pytest.param("inner", "outside of the package", id="through another link"),
        pytest.param("nowhere", "is not there", id="dangling"),
        pytest.param("link", "is not there", id="to itself"),
        pytest.param(".", "loop of links", id="a loop of directories"),
    ],
)
def test_a_link_that_leaves_the_tree_is_refused_by_name(tree: Path, target: str, words: str) -> None:
    (tree.parent / "secret").write_text("secret")
    (tree / "link").symlink_to(target)
    if target == "inner":
        (tree / "inner").symlink_to("../secret")
    with pytest.raises(PackageError, match=words) as refused:
        list(tree_files(tree))
    assert "'link'" in str(refused.value) or "'inner'" in str(refused.value)


def test_a_wider_boundary_lets_links_lead_to_its_edge(tmp_path: Path) -> None:
    for name in ("repo/app", "repo/common"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "repo/common/a.py").write_text("")
    (tmp_path / "repo/app/link").symlink_to("../common/a.py")
    assert [name for name, _ in tree_files(tmp_path / "repo/app", tmp_path / "repo")] == ["link"]
    with pytest.raises(PackageError):
        list(tree_files(tmp_path / "repo/app"))


def test_pipes_and_sockets_are_refused_not_read(tree: Path) -> None:
    os.mkfifo(tree / "pipe")
    with pytest.raises(PackageError, match="'pipe'"):
        list(tree_files(tree))
    (tree / "pipe").unlink()
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{short}/socket")
        with pytest.raises(PackageError, match="'socket'"):
            list(tree_files(Path(short)))


def test_a_tree_deeper_than_a_path_may_be_long_is_refused(tree: Path) -> None:
    here = os.open(tree, os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    try:
        with pytest.raises(PackageError, match="nested too deep"):
            list(tree_files(tree))
    finally:
        remove_tree(tree)  # pytest's own cleaning recurses, and would fail in a later session


@pytest.mark.parametrize("optimization", ["", "1", "2"])
@pytest.mark.parametrize("name", ["a.py", "a/b.py", "a/__init__.py", "a/with.dots.py", "a/opt-1.py"])
def test_bytecode_is_led_back_to_its_module(name: str, optimization: str) -> None:
    assert source_of(importlib.util.cache_from_source(name, optimization=optimization)) == name


@pytest.mark.parametrize("name", ["a.py", "a.pyc", "a/b.cpython-313.pyc", "a/__pycache__/b.txt", "a/__pycache__/b.pyc"])
def test_whatever_else_there_is_is_its_own(name: str) -> None:
    assert source_of(name) == name
