"""What an environment keeps: zips, as long as there is room, and only as they were."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from yo_dawg.control.archives import ArchiveCache, OpenFile


def zip_of(folder: Path, size: int) -> tuple[str, OpenFile]:
    """Return an open file of so many bytes, and its digest."""
    content, file = os.urandom(size), OpenFile(folder)
    file.file.write(content)
    return hashlib.sha256(content).hexdigest(), file


def test_zips_are_kept_as_long_as_there_is_room_the_one_used_last_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yo_dawg.control.archives.MAX_CACHE_BYTES", 7000)
    cache = ArchiveCache()
    (one, first), (two, second), (three, third) = (zip_of(tmp_path, size) for size in (2000, 3000, 4000))
    cache.put(one, first)
    cache.put(two, second)
    assert cache.get(one) is first
    cache.put(three, third)
    assert [cache.get(each) for each in (one, two, three)] == [first, None, third]
    cache.make_room(3000)
    assert [cache.get(each) for each in (one, two, three)] == [first, None, None]


def test_a_zip_is_not_kept_if_it_is_another(tmp_path: Path) -> None:
    cache, (name, zipped) = ArchiveCache(), zip_of(tmp_path, 2000)
    cache.put(name, zipped)
    os.pwrite(zipped.fileno(), b"xyz", 1000)
    assert cache.get(name) is None
    os.pwrite(zipped.fileno(), b"abc", 1000)
    assert cache.get(name) is None, "it is not asked for again"
