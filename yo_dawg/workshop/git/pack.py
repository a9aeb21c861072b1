"""Packs: a repository's objects, each in a file of its own."""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import re
import shutil
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from yo_dawg.checkout import PIECE
from yo_dawg.errors import SourceError

OBJECT_KINDS = {1: "commit", 2: "tree", 3: "blob", 4: "tag"}

OFFSET_DELTA, NAMED_DELTA = 6, 7
"""gitformat-pack(5)."""

LFS_POINTER = re.compile(rb"version https?://(?:git-lfs|hawser)\.github\.com/spec/v1\r?\n")
"""How a pointer to a file in Git LFS begins; "hawser" was its first name."""


class Objects:
    """A pack's objects, each in a file of its own.

    Not Dulwich's object store: that inflates each object twice, to index it, and holds it in memory
    whole, however large.  Here a pack is read once, in pieces, and a file of the repository is made
    by moving an object to its place.  What a name stands for is verified by making the name.
    """

    def __init__(self, folder: Path, algorithm: str, room: int) -> None:
        """Keep objects, whose names this algorithm makes, in a folder that has room for so many bytes."""
        self._folder = os.fsencode(folder)
        self._algorithm = algorithm
        self._known: dict[bytes, tuple[int, int, bytes]] = {}
        """Of each name the kind, the size and the file."""
        self._moved: set[bytes] = set()
        self.pointers: dict[bytes, bytes] = {}
        """Those that are no more than pointers to Git LFS, with their content."""
        self._room = room
        self._files = 0

    def kind(self, name: bytes) -> str:
        """Return an object's kind; raise KeyError."""
        return OBJECT_KINDS[self._known[name][0]]

    def read(self, name: bytes, limit: int) -> bytes:
        """Return an object's content; raise KeyError, or SourceError if it is larger than the limit."""
        _, size, path = self._known[name]
        if size > limit:
            raise SourceError(f"The repository holds a {self.kind(name)} of {size:,} bytes: too large.")
        with open(path, "rb") as file:
            return file.read()

    def place(self, name: bytes, path: bytes) -> None:
        """Make a new file of an object's content; raise KeyError."""
        kind_, size_, source = self._known[name]
        if name in self._moved:
            shutil.copyfile(source, path)
        else:
            os.rename(source, path)
            self._known[name] = kind_, size_, path
            self._moved.add(name)

    def unpack(self, pack: IO[bytes]) -> None:
        """Read a pack; raise ValueError if it is damaged, or unpacks to more than there is room for."""
        check_pack(pack, self._algorithm)
        offsets: dict[int, bytes] = {}
        waiting: dict[int | bytes, list[tuple[int, int, int]]] = {}
        for begin, kind_, size_, base in pack_entries(pack, hashlib.new(self._algorithm).digest_size):
            content = inflated(pack, size_)
            if kind_ in OBJECT_KINDS:
                offsets[begin] = self._add(kind_, size_, content)
            elif base is not None:
                waiting.setdefault(base, []).append((begin, pack.tell(), size_))
                for _ in content:
                    pass  # it is read again when the object that it differs from is there
            else:
                raise ValueError(f"it holds an object of the unknown kind {kind_}")
        todo = [(begin, name) for begin, name in offsets.items() if begin in waiting or name in waiting]
        while todo:
            begin, name = todo.pop()
            for delta, data, its_size in [*waiting.pop(begin, ()), *waiting.pop(name, ())]:
                pack.seek(data)
                todo.append((delta, self._resolve(name, b"".join(inflated(pack, its_size)))))
        if waiting:
            raise ValueError("it holds a delta of an object that it does not hold")

    def _add(self, kind_: int, size_: int, pieces: Iterable[bytes]) -> bytes:
        """Keep an object; return its name."""
        self._room -= size_
        if self._room < 0:
            raise ValueError("it unpacks to more than /tmp has room for. Raise ephemeral_storage in config.ini")
        digest = hashlib.new(self._algorithm, f"{OBJECT_KINDS[kind_]} {size_}\0".encode(), usedforsecurity=False)
        path = b"%s/%d" % (self._folder, self._files)
        self._files += 1
        pointer = b""
        # Not through Path.open: a repository may have a hundred thousand files.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            for piece in pieces:
                digest.update(piece)
                if size_ < 1024 and LFS_POINTER.match(piece):
                    pointer = piece
                view = memoryview(piece)
                while view:
                    view = view[os.write(descriptor, view) :]
        finally:
            os.close(descriptor)
        name: bytes = digest.digest()
        if name in self._known:  # a pack may hold an object twice
            os.unlink(path)
            return name
        self._known[name] = kind_, size_, path
        if pointer:
            self.pointers[name] = pointer
        return name

    def _resolve(self, base: bytes, delta: bytes) -> bytes:
        """Make and keep the object that differs from a base by a delta; return its name."""
        kind_, base_size, path = self._known[base]
        declared, at = delta_size(delta, 0)
        size_, at = delta_size(delta, at)
        if declared != base_size:
            raise ValueError("it holds a delta of an object of another size")
        with open(path, "rb") as file:
            source: Any = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if base_size > PIECE else file.read()
        return self._add(kind_, size_, delta_pieces(source, delta, at, size_))


@contextlib.contextmanager
def bad_pack() -> Iterator[None]:
    """Turn what is wrong in a pack into a SourceError."""
    try:
        yield
    except (zlib.error, IndexError, AssertionError):
        raise SourceError("The pack that the server sent is damaged. Try again.") from None
    except ValueError as error:
        raise SourceError(f"The pack that the server sent cannot be used: {error}.") from None


def check_pack(pack: IO[bytes], algorithm: str) -> None:
    """Compare a pack with the checksum at its end."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    left = pack.seek(0, os.SEEK_END) - digest.digest_size
    pack.seek(0)
    while left > 0 and (piece := pack.read(min(PIECE, left))):
        digest.update(piece)
        left -= len(piece)
    if left or pack.read() != digest.digest():
        raise ValueError("it is not whole: the connection was cut, or the server is broken. Try again")


def pack_entries(pack: IO[bytes], width: int) -> Iterator[tuple[int, int, int, int | bytes | None]]:
    """Yield of each object in a pack: where it begins, its kind, its size, and what it is a delta of.

    What is compressed follows, and is to be read before the next one is asked for.
    """
    from dulwich.pack import read_pack_header

    pack.seek(0)
    _, count = read_pack_header(pack.read)
    for _ in range(count):
        begin = pack.tell()
        first, *more = varint(pack)
        size_ = first & 15 | sum((byte & 0x7F) << 7 * place + 4 for place, byte in enumerate(more))
        base: int | bytes | None = None
        if first >> 4 & 7 == OFFSET_DELTA:
            back = -1
            for byte in varint(pack):
                back = (back + 1) << 7 | byte & 0x7F
            base = begin - back
        elif first >> 4 & 7 == NAMED_DELTA:
            base = pack.read(width)
        yield begin, first >> 4 & 7, size_, base


def varint(pack: IO[bytes]) -> bytes:
    """Read a number of several bytes, of which all but the last have their highest bit set."""
    found = bytearray()
    while not found or found[-1] & 0x80:
        found += pack.read(1) or b"\xff"
        if len(found) > 10:
            raise ValueError("it is damaged: it holds a number without an end")
    return bytes(found)


def inflated(pack: IO[bytes], size_: int) -> Iterator[bytes]:
    """Yield in pieces what is compressed in a pack from here on; leave the pack at its end."""
    inflater = zlib.decompressobj()
    left = size_
    fed = b""
    while not inflater.eof:
        fed = fed or pack.read(PIECE if left > PIECE else left + 4096)
        piece = inflater.decompress(fed, PIECE)
        if not fed and not piece:
            raise ValueError("it ends in the midst of an object")
        fed = inflater.unconsumed_tail
        left -= len(piece)
        if left < 0:
            break
        yield piece
    if left:
        raise ValueError("it holds an object that is not of the size that it declares")
    pack.seek(-len(inflater.unused_data), os.SEEK_CUR)


def delta_size(delta: bytes, at: int) -> tuple[int, int]:
    """Read a size at the head of a delta; return it and where it ends."""
    size_ = shift = 0
    while True:
        size_ |= (delta[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if delta[at - 1] < 0x80:
            return size_, at


def delta_pieces(base: bytes, delta: bytes, at: int, size_: int) -> Iterator[bytes]:
    """Yield what a delta makes of a base, of bytes that it holds and of bytes of the base."""
    left = size_
    made = bytearray()
    while at < len(delta):
        code = delta[at]
        at += 1
        if code & 0x80:
            begin = count = 0
            for bit in range(7):
                if code & 1 << bit:
                    if bit < 4:
                        begin |= delta[at] << 8 * bit
                    else:
                        count |= delta[at] << 8 * (bit - 4)
                    at += 1
            count = count or 0x10000
            piece = base[begin : begin + count]
        else:
            count = code
            piece = delta[at : at + count]
            at += count
        left -= count
        if len(piece) != count or not count or left < 0:
            raise ValueError("it holds a delta that makes no sense")
        made += piece
        if len(made) >= PIECE:
            yield bytes(made)
            made.clear()
    if left:
        raise ValueError("it holds a delta that makes an object of another size than it says")
    yield bytes(made)
