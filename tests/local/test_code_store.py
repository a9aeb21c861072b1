"""Packages: what is refused, and that no package can write outside of its directory."""

from __future__ import annotations

import os
import stat
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.code_store import BadPackage, CodeStore, remove_tree, visible_mode
from tests.local.support import package


@pytest.fixture
def store(tmp_path: Path) -> CodeStore:
    return CodeStore(tmp_path / "store")


def test_the_same_package_is_unpacked_once(store: CodeStore) -> None:
    code = package({"a.py": "1", "deep/er/b.py": "2"})
    first = store.add(code)
    assert store.add(code) is first
    assert (store.tree(first) / "deep/er/b.py").read_text() == "2"
    assert first.archive.read_bytes() == code
    assert (first.size, first.unzipped_size) == (len(code), 2)


@pytest.mark.parametrize("name", ["../up", "/abs", "a/../../up", "a/.."])
def test_names_that_lead_out_are_refused(store: CodeStore, tmp_path: Path, name: str) -> None:
    with pytest.raises(BadPackage, match="Could not unzip uploaded file"):
        store.add(package({name: "x"}))
    assert not any(store.root.iterdir())
    assert not (tmp_path / "up").exists()


def test_no_file_is_written_through_a_symlink(store: CodeStore, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    code = package({"link/file": "x"}, links={"link": str(tmp_path / "outside")})
    with pytest.raises((BadPackage, OSError)):
        store.tree(store.add(code))
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_package_with_a_wrong_checksum_is_refused(store: CodeStore) -> None:
    code = bytearray(package({"a.py": os.urandom(1000)}))
    code[200] ^= 1
    with pytest.raises(BadPackage):
        store.add(bytes(code))
    assert not any(store.root.iterdir())


def test_an_entry_without_a_mode_can_be_read(store: CodeStore, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "dos.zip", "w") as archive:
        entry = zipfile.ZipInfo("a.py")
        entry.create_system = 0
        archive.writestr(entry, "x")
        archive.filelist[-1].external_attr = 0
    code = store.add((tmp_path / "dos.zip").read_bytes())
    assert stat.S_IMODE((store.tree(code) / "a.py").stat().st_mode) == 0o644


@pytest.mark.parametrize(
    ("mode", "visible"),
    [(0o644, 0o644), (0o755, 0o755), (0o600, 0o200), (0o700, 0o200), (0o640, 0o200), (0o604, 0o604), (0o4755, 0o755)],
)
def test_a_file_is_as_readable_as_for_lambdas_user(mode: int, visible: int) -> None:
    assert visible_mode(stat.S_IFREG | mode) == visible


@given(st.integers(0, 0o7777))
def test_modes_never_grow(mode: int) -> None:
    seen = visible_mode(mode)
    assert seen & ~mode & 0o777 == 0
    assert visible_mode(seen) == seen
    assert (seen & 0o500) >> 6 == (mode & 0o500 & (mode & 0o5) << 6) >> 6


def test_a_tree_without_permissions_can_be_removed(tmp_path: Path) -> None:
    (tmp_path / "tree/closed").mkdir(parents=True)
    (tmp_path / "tree/closed/file").touch()
    (tmp_path / "tree/closed").chmod(0)
    remove_tree(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()
