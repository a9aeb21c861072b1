"""Reading a zip of ours, member by member, on all processors."""

from __future__ import annotations

import functools
import os
import stat
import struct
import zipfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from yo_dawg.trees import make_folders
from yo_dawg.workshop.deflater import ZIP_MADE, ZLIB, Deflater

T = TypeVar("T")


class PackageZip:
    """A zip of ours, read member by member; several threads may read at a time."""

    def __init__(self, file: int, deflater: Deflater = ZLIB) -> None:
        """Read the directory of a zip in an open file, which stays open; raise BadZipFile."""
        self._file, self._deflater = file, deflater
        with open(os.dup(file), "rb") as opened, zipfile.ZipFile(opened) as archive:
            self.comment = archive.comment
            ours = archive.comment.startswith(ZIP_MADE.encode())
            self.members = {info.filename: info for info in archive.filelist if ours}

    def compressed(self, name: str) -> bytes:
        """Return a member as it is in the zip."""
        info = self.members[name]
        header = os.pread(self._file, 30, info.header_offset)
        name_size, extra_size = struct.unpack("<26x2H", header)
        return os.pread(self._file, info.compress_size, info.header_offset + 30 + name_size + extra_size)

    def read(self, name: str) -> bytes:
        """Return a member's content."""
        return self._deflater.inflate(self.compressed(name), self.members[name].file_size)

    def extract(self, name: str, target: str) -> bytes:
        """Write a member to a file that is not there yet, executable if it is so in the zip; return its content."""
        content = self.read(name)
        mode = 0o755 if self.members[name].external_attr >> 16 & stat.S_IXUSR else 0o644
        with open(target, "xb", buffering=0, opener=functools.partial(os.open, mode=mode)) as file:
            rest = memoryview(content)
            while rest:
                rest = rest[file.write(rest) :]
        return content

    def unpack(self, root: Path) -> None:
        """Write all members below a folder, on all processors."""
        make_folders(self.members, root)
        on_all_processors(lambda name: self.extract(name, f"{root}/{name}"), self.members)


def on_all_processors(work: Callable[[T], object], items: Iterable[T]) -> bool:
    """Do something for each item, and say whether all of it came to something true; raise what it raises.

    Each thread takes the next item itself: for small files that takes less time than a pool's queue.
    """
    todo, threads = iter([*items]), os.cpu_count() or 1  # the next of a list is taken by one thread
    with ThreadPoolExecutor(threads) as pool:
        return all([*pool.map(lambda _: all([work(each) for each in todo]), range(threads))])
