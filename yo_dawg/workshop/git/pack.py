"""Packs: a repository's objects, unpacked to a file each.  Dulwich reads the format."""

from __future__ import annotations

import hashlib
import os
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from yo_dawg.checkout import LFS_POINTER, MAX_LFS_POINTER
from yo_dawg.errors import SourceError
from yo_dawg.text import printable

if TYPE_CHECKING:
    from dulwich.pack import PackData

OBJECT_KINDS = {1: "commit", 2: "tree", 3: "blob", 4: "tag"}
"""gitformat-pack(5)."""

NONSENSE = (ValueError, AssertionError, LookupError, TypeError, OverflowError)
"""What Dulwich raises, beside its own errors, for what makes no sense."""


class Objects:
    """A pack's objects, each in a file of its own.

    Not Dulwich's object store: here a file of the repository is made by moving an object to its
    place.  What a name stands for is verified by making the name.
    """

    def __init__(self, folder: Path, algorithm: str, room: int) -> None:
        """Keep objects in a folder that has room for so many bytes; the algorithm ("sha1", "sha256") makes names."""
        self._folder = os.fsencode(folder)
        self._algorithm = algorithm
        self._known: dict[bytes, tuple[int, int, bytes]] = {}
        """Of each name the kind, the size and the file."""
        self._moved: set[bytes] = set()
        self.pointers: dict[bytes, bytes] = {}
        """Those that are no more than pointers to Git LFS, with their content."""
        self._room = room

    def kind(self, name: bytes) -> str:
        """Return an object's kind; raise KeyError."""
        return OBJECT_KINDS[self._known[name][0]]

    def read(self, name: bytes, limit: int) -> bytes:
        """Return an object's content; raise KeyError, or SourceError if it has more bytes than the limit."""
        _, size, path = self._known[name]
        if size > limit:
            raise SourceError(f"The repository holds a {self.kind(name)} of {size:,} bytes: too large.")
        with open(path, "rb") as file:
            return file.read()

    def place(self, name: bytes, path: bytes) -> None:
        """Make a new file of an object's content; raise KeyError."""
        kind_number, size, source = self._known[name]
        if name in self._moved:
            shutil.copyfile(source, path)
        else:
            os.rename(source, path)
            self._known[name] = kind_number, size, path
            self._moved.add(name)

    def unpack(self, path: Path) -> None:
        """Unpack a pack; raise SourceError if it is damaged, or unpacks to more than there is room or memory for."""
        from dulwich.errors import ApplyDeltaError, ChecksumMismatch
        from dulwich.object_format import OBJECT_FORMATS
        from dulwich.pack import PackData, UnresolvedDeltas

        fault = None
        with path.open("rb") as file:
            pack = None
            try:
                pack = PackData("the pack", OBJECT_FORMATS[self._algorithm], file)
                self._unpack(pack)
            except (
                NoRoom,
                MemoryError,
                ChecksumMismatch,
                UnresolvedDeltas,
                ApplyDeltaError,
                zlib.error,
                *NONSENSE,
            ) as error:
                fault = FAULTS.get(type(error).__name__) or f"is damaged ({printable(str(error)[:200])}). Try again"
            if pack is not None:
                pack.close()  # not within: an error holds on to the pieces that it came from
        if fault:
            raise SourceError(f"The pack that the server sent {fault}.")

    def _unpack(self, pack: PackData) -> None:
        """Add all objects of a pack."""
        from dulwich.pack import DELTA_TYPES, UnpackedObject, UnpackedObjectIterator

        pack.check()
        deltas = UnpackedObjectIterator(None, pack.object_format.hash_func)
        deltas.set_pack_data(pack)
        whole: list[tuple[int, int, bytes]] = []
        bases: set[int | bytes | None] = set()
        for each in pack.iter_unpacked():
            offset, base = each.offset or 0, each.delta_base
            if each.pack_type_num in DELTA_TYPES:
                bases.add(offset - base if isinstance(base, int) else base)
                deltas.record(each)
            else:
                whole.append((offset, each.pack_type_num, self._add(each.pack_type_num, each.decomp_chunks)))
        for offset, kind_number, name in whole:
            if offset in bases or name in bases:  # the others need not be inflated again
                deltas.record(UnpackedObject(kind_number, offset=offset))
        for each in deltas:  # resolved, and the bases once more
            self._add(each.obj_type_num or 0, each.obj_chunks or ())

    def _add(self, kind_number: int, pieces: Sequence[bytes]) -> bytes:
        """Keep an object; return its name."""
        if kind_number not in OBJECT_KINDS:
            raise ValueError(f"it holds an object of the unknown kind {kind_number}")
        size = sum(map(len, pieces))
        if size > self._room:
            raise NoRoom
        digest = hashlib.new(self._algorithm, f"{OBJECT_KINDS[kind_number]} {size}\0".encode(), usedforsecurity=False)
        for piece in pieces:
            digest.update(piece)
        name = digest.digest()
        if name in self._known:  # a pack may hold an object twice
            return name
        self._room -= size
        path = b"%s/%d" % (self._folder, len(self._known))
        # Not through Path.open: a repository may have a hundred thousand files.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            for piece in pieces:
                view = memoryview(piece)
                while view:
                    view = view[os.write(descriptor, view) :]
        finally:
            os.close(descriptor)
        self._known[name] = kind_number, size, path
        if size < MAX_LFS_POINTER and (content := b"".join(pieces)).startswith(LFS_POINTER):
            self.pointers[name] = content
        return name


class NoRoom(Exception):
    """A pack unpacks to more than there is room for on the disk."""


FAULTS = {
    "NoRoom": "unpacks to more than /tmp has room for. Raise ephemeral_storage in config.ini",
    "MemoryError": "takes more memory to unpack than a clone may take: does it hold a very large file",
    "ChecksumMismatch": "is not whole: the connection was cut, or the server is broken. Try again",
    "UnresolvedDeltas": "is damaged: it holds a delta of an object that it does not hold",
}
"""What is wrong with a pack, by the name of the error."""
