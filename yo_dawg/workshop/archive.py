"""Zips: written the same on any day, with what was compressed before taken over by its content's digest."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import shutil
import stat
import threading
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from yo_dawg.digests import in_record
from yo_dawg.errors import PackageError
from yo_dawg.limits import MAX_UNZIPPED_BYTES
from yo_dawg.trees import Listing, make_readable
from yo_dawg.workshop.package_zip import on_all_processors

if TYPE_CHECKING:
    from yo_dawg.workshop.deflater import Deflater
    from yo_dawg.workshop.package_zip import PackageZip

ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest date a zip can hold: the same tree then gives the same bytes on any day."""

MAX_PENDING_BYTES = 1 << 26
"""How much of the files' content may wait for a slower one before them: it is in memory meanwhile."""

PIECE = 1 << 20
"""Bytes of a file that are read at a time where it is not needed whole."""

BATCH_BYTES = 1 << 18
"""How much of small files one thread takes at a time: to hand each of them over takes longer than to compress it."""


@dataclass(frozen=True)
class Compressed:
    """Where a file's compressed content is."""

    read: Callable[[], bytes]
    crc: int
    size: int
    """Of the content itself, in bytes."""


class CompressedCache:
    """Compressed files by the digest of their content: whatever was compressed once need not be again.

    Names and sizes tell only what is worth to be compressed ahead, never what is shipped.  One thread at a time adds to
    it; when it is asked, nobody adds any more (see ``CompressingAhead``).
    """

    def __init__(self, deflater: Deflater) -> None:
        """Begin with nothing; what is to be compressed, this does."""
        self.deflater = deflater
        self._known: dict[str, Compressed] = {}
        self._sizes: dict[str, int] = {}

    def add_package(self, package: PackageZip, digests: Mapping[str, str]) -> None:
        """Add the members of a zip, of which the digests are known, if the same deflater made it."""
        if package.comment == self.deflater.comment:
            for name in digests.keys() & package.members.keys():
                info, read = package.members[name], functools.partial(package.compressed, name)
                self._known[digests[name]] = Compressed(read, info.CRC, info.file_size)
                self._sizes[name] = info.file_size

    def add(self, digest: str, compressed: Compressed) -> None:
        """Add one compressed content."""
        self._known[digest] = compressed

    def is_likely(self, name: str, size: int) -> bool:
        """Say whether a package that was added has a file of this name and size: most likely it is the same one."""
        return self._sizes.get(name) == size

    def get(self, digest: str) -> Compressed | None:
        """Return the compressed content of this digest."""
        return self._known.get(digest)


class CompressingAhead:
    """Compresses files into a cache while something else is done, such as the handler's import.

    One thread does it, from ``start`` to ``stop``, which the end of a ``with`` is too.  A file that changes meanwhile
    does no harm: what is in the cache goes by the content that was read.  One that cannot be read is left to whoever
    writes the zip, and so is all that is left when anything else goes wrong.
    """

    failure: Exception | None = None
    """What went wrong, other than that a file could not be read."""

    def __init__(self, cache: CompressedCache, spool: int) -> None:
        """Fill a cache; the compressed content goes into an open file that nobody else can reach."""
        self._cache, self._spool = cache, spool
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> CompressingAhead:
        """Have it stopped at the end, whatever comes of it: the spool's descriptor may be another file's then."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    def start(self, listing: Listing) -> None:
        """Begin with those of these files that are likely new, the largest first.

        Not with more than Lambda takes, or than the disk has room for.
        """
        new = [entry for entry in listing if not self._cache.is_likely(entry[0], entry[2].st_size)]
        files = sorted(new, key=lambda entry: -entry[2].st_size)
        total = sum(status.st_size for _, _, status in files)
        if total > MAX_UNZIPPED_BYTES or shutil.disk_usage(self._spool).free < 2 * total:
            return
        self._thread = threading.Thread(target=self._compress, args=[files], daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the file that is being compressed."""
        self._is_over.set()
        if self._thread:
            self._thread.join()

    def _compress(self, files: Listing) -> None:
        try:
            self._compress_each(files)
        except Exception as error:  # whatever it is, the zip can be written without
            self.failure = error

    def _compress_each(self, files: Listing) -> None:
        at = 0
        for _, path, status in files:
            if self._is_over.is_set():
                return
            with contextlib.suppress(OSError):
                content = read_file(path, status.st_size)
                digest = record_digest(content)
                if self._cache.get(digest):
                    continue
                packed = self._cache.deflater.deflate(content)
                if os.pwrite(self._spool, packed, at) == len(packed):
                    read = functools.partial(os.pread, self._spool, len(packed), at)
                    self._cache.add(digest, Compressed(read, zlib.crc32(content), len(content)))
                at += len(packed)


@dataclass(frozen=True)
class WrittenZip:
    """What was written into a zip."""

    members: dict[str, str] = field(default_factory=dict)
    """For each name the digest of its content, see ``record_digest``."""
    unzipped_bytes: int = 0


def write_zip(
    listing: Listing, file: int, cache: CompressedCache, digests: Mapping[str, str] = MappingProxyType({})
) -> WrittenZip:
    """Zip files into an open file, in the order of their names, with one date and our own modes for all.

    Of what the digests are given, and the cache knows, no more is read; the rest is read and compressed on all
    processors, since what compresses lets go of Python's lock.  Lambda runs code as a user other than the files'
    owner, so everything must be readable by all: 0644, or 0755 where the owner may execute.
    Raises PackageError for names that a zip cannot hold, and OSError.
    """
    files = sorted(listing, key=lambda entry: entry[0])
    known = {name: found for name, digest in digests.items() if (found := cache.get(digest))}
    members, total = dict[str, str](), 0
    os.ftruncate(file, 0)
    os.lseek(file, 0, os.SEEK_SET)
    with open(os.dup(file), "wb", buffering=1 << 20) as opened, zipfile.ZipFile(opened, "w") as archive:
        archive.comment = cache.deflater.comment
        pool = ThreadPoolExecutor(os.cpu_count())
        packing = in_turn(pool, functools.partial(pack, cache), [entry for entry in files if entry[0] not in known])
        try:
            for name, _, status in files:
                if found := known.get(name):
                    info, digest, content = zip_info(name, status, found), digests[name], found.read()
                else:
                    info, digest, content = next(packing)
                add_member(archive, info, content)
                members[info.filename] = digest
                total += info.file_size
        finally:
            pool.shutdown(cancel_futures=True)
    return WrittenZip(members, total)


Packed = tuple[zipfile.ZipInfo, str, bytes]


def pack(cache: CompressedCache, entry: tuple[str, Path, os.stat_result]) -> Packed:
    """Return what a zip says of a file, its digest, and its compressed content."""
    name, path, _ = entry
    status = make_readable(path)
    content = read_file(path, status.st_size)
    digest = record_digest(content)
    known = cache.get(digest)
    if known is None:
        packed = cache.deflater.deflate(content)
        known = Compressed(lambda: packed, zlib.crc32(content), len(content))
    return zip_info(name, status, known), digest, known.read()


def digests_of(listing: Listing) -> dict[str, str]:
    """Return the digest of each file's content, see ``record_digest``; raise OSError.

    On all processors, and piece by piece: a file may be larger than the memory.
    """

    def reckon(entry: tuple[str, Path, os.stat_result]) -> str:
        name, path, status = entry
        if not status.st_mode & stat.S_IRUSR:
            make_readable(path)
        digest = hashlib.sha256()
        for piece in pieces(path, status.st_size):
            digest.update(piece)
        return digests.setdefault(name, in_record(digest))

    digests = dict[str, str]()
    on_all_processors(reckon, listing)
    return digests


def read_file(path: Path, expected: int) -> bytes:
    """Return a file's content, which is to have so many bytes; raise OSError."""
    return b"".join([*pieces(path, expected, most=expected + 1)])


def pieces(path: Path, expected: int, most: int = PIECE) -> Iterator[bytes]:
    """Yield a file's content, which is to have so many bytes, in pieces of no more than so many; raise OSError."""
    # A project's code may have put a link or a pipe in its place: neither is followed.
    file, count = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), 0
    try:
        while count <= expected and (piece := os.read(file, min(most, expected + 1 - count))):  # no more, if it grows
            count += len(piece)
            yield piece
            if count == expected and len(piece) < most:  # that was all: one more byte was asked for
                break
    finally:
        os.close(file)
    if count != expected:
        raise OSError(errno.ESTALE, "it was written to meanwhile", str(path))


def in_turn(
    pool: ThreadPoolExecutor, work: Callable[[tuple[str, Path, os.stat_result]], Packed], listing: Listing
) -> Iterator[Packed]:
    """Yield what work makes of each file, in their order; as many wait as memory has room for."""
    pending: deque[tuple[int, Future[list[Packed]]]] = deque()
    for batch, total in batches(listing):
        while pending and total + sum(each for each, _ in pending) > MAX_PENDING_BYTES:
            yield from pending.popleft()[1].result()
        pending.append((total, pool.submit(lambda batch: [work(each) for each in batch], batch)))
    while pending:
        yield from pending.popleft()[1].result()


def batches(listing: Listing) -> Iterator[tuple[Listing, int]]:
    """Yield large files, and as many small ones as make a large one, with their bytes."""
    batch: list[tuple[str, Path, os.stat_result]] = []
    total = 0
    for entry in listing:
        if batch and total + entry[2].st_size > BATCH_BYTES:
            yield batch, total
            batch, total = [], 0
        batch.append(entry)
        total += entry[2].st_size
    if batch:
        yield batch, total


def record_digest(content: bytes) -> str:
    """Return the SHA-256 of a content as a distribution's RECORD has it (PEP 376): base64, for URLs, unpadded."""
    return in_record(hashlib.sha256(content))


def zip_info(name: str, status: os.stat_result, content: Compressed) -> zipfile.ZipInfo:
    """Return what a zip says of a file of this mode and content; raise PackageError for a name that it cannot hold."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise PackageError(f"The package holds a file whose name is not UTF-8: {name!r}. Rename it.") from None
    info = zipfile.ZipInfo(name, ZIP_EPOCH)
    info.create_system = 3  # Unix: the modes count
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = (stat.S_IFREG | (0o755 if status.st_mode & stat.S_IXUSR else 0o644)) << 16
    info.file_size, info.CRC = content.size, content.crc
    return info


def add_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, content: bytes) -> None:
    """Write a member that is compressed already, which zipfile itself has no call for."""
    file: Any = archive.fp
    info.header_offset, info.compress_size = archive.start_dir, len(content)
    header = info.FileHeader(zip64=False)
    file.write(header)
    file.write(content)
    archive.start_dir += len(header) + len(content)
    archive.filelist.append(info)
