"""Zips: written the same on any day, read member by member, kept between invocations."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import shutil
import stat
import struct
import sys
import tempfile
import threading
import weakref
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any, TypeVar

from yo_dawg.digests import in_base64, in_hex
from yo_dawg.errors import PackageError
from yo_dawg.trees import Identity, identity, make_folders, make_readable, since_when, walk, write_all

if TYPE_CHECKING:
    from yo_dawg.trees import Listing
    from yo_dawg.workspace import Workspace

MAX_UNZIPPED_BYTES = 262_143_999
"""The most that Lambda takes of a package, layers included: "Unzipped size must be smaller than 262144000 bytes"."""

ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest date a zip can hold: the same tree then gives the same bytes on any day."""


@dataclass(frozen=True)
class Archive:
    """A zip that was written."""

    zipped: Former
    sha256: str
    """Base64, as Lambda reports it in CodeSha256."""
    zip_bytes: int
    unzipped_bytes: int
    files: int

    @property
    def hex_digest(self) -> str:
        """The same SHA-256 in hex, as S3 keys carry it."""
        return in_hex(self.sha256)


ZIP_MADE = "made by yo-dawg, format 2, "
"""So begin the comments of our zips; with what each was compressed follows."""

MAX_PENDING, MAX_PENDING_BYTES = 100, 1 << 26
"""How many files, and how much of them, may wait for a slower one before them: they are in memory meanwhile."""

LEVELS = ((1 << 24, 5), (1 << 23, 6), (0, 7))
"""libdeflate's, by how large a file is at least: 7 is the highest that costs less than zlib's usual level 6.
In what is large, it gains nothing by the longer search: 1 % for half of the time."""

MAX_SHELF_BYTES = 1 << 27
"""How much of zips, and of dependencies, an environment keeps for its next invocation; of zips an eighth of /tmp."""

SMALL_ZIP = 1 << 23
"""Larger ones make room where dependencies are installed: what fits into a new environment must fit into this one."""

BATCH = 1 << 18
"""How much of small files is compressed by one thread at a time."""

BLOCK = 1 << 20
"""How much is read or inflated at a time."""

Packed = bytes | bytearray
"""A file as a zip holds it."""


@dataclass(frozen=True)
class Deflater:
    """What compresses the members of a zip.  Those of the same name give the same bytes."""

    name: str
    deflate: Callable[[bytes], Packed]

    @property
    def comment(self) -> bytes:
        """What a zip says in its comment if all its members were compressed with this."""
        return f"{ZIP_MADE}{self.name}".encode()


ZLIB = Deflater(f"zlib {zlib.ZLIB_RUNTIME_VERSION}", lambda content: zlib.compress(content, wbits=-15))
"""What is there before there is a toolchain.  It is the runtime's, and may be another tomorrow."""


class Owned:
    """An open file, which is closed once nobody has this any more."""

    def __init__(self, file: IO[bytes]) -> None:
        """Take care of a file."""
        self.file = file
        weakref.finalize(self, file.close)


def unnamed_file(space: Workspace) -> Owned:
    """Return a new file without a name in the workspace: no build can get at it."""
    return Owned(tempfile.TemporaryFile(dir=space.root))


class Former:
    """A package that was made before: what has not changed since need not be compressed again."""

    at_once = 1 << 23
    """How large a file is inflated as a whole: each processor may be at one."""

    def __init__(
        self,
        file: IO[bytes],
        unchanged: Mapping[str, Identity] = MappingProxyType({}),
        directory: zipfile.ZipFile | None = None,
    ) -> None:
        """Read the directory of a zip, unless it is known; raise BadZipFile.

        A file of which ``unchanged`` has the identity is what the member of its name holds.
        """
        self.file, self._unchanged = file, unchanged  # the file must not be closed
        self.owner: Owned | None = None
        """Who closes it, if that is to be when this is not needed any more."""
        self.grows: Owned | None = None
        """The same file, if more may be written to it."""
        self.written: dict[str, tuple[Identity, int]] = {}
        """For members that lie in files of ours: which they are, and since when."""
        with contextlib.nullcontext(directory) if directory else zipfile.ZipFile(file) as archive:
            self.comment = archive.comment
            ours = archive.comment.startswith(ZIP_MADE.encode())
            self._members = {info.filename: info for info in archive.filelist if ours}
            self.end = archive.start_dir

    @property
    def names(self) -> Iterable[str]:
        """The names of its members."""
        return self._members

    @property
    def size(self) -> int:
        """Its bytes."""
        return os.fstat(self.fileno()).st_size

    def fileno(self) -> int:
        """Return the descriptor of its file."""
        return self.file.fileno()

    def digest(self) -> Any:
        """Reckon its SHA-256."""
        digest = hashlib.sha256()
        for piece in self._pieces(0, self.size):
            digest.update(piece)
        return digest

    def read(self, name: str) -> bytes:
        """Return a member's content."""
        return b"".join(self._inflated(self._members[name]))

    def extract(self, name: str, target: str, show: Callable[[Packed], object] = lambda piece: None) -> None:
        """Write a member's content to a file that is not there yet, and show it to somebody else."""
        info = self._members[name]
        with open(target, "xb", buffering=0, opener=functools.partial(os.open, mode=read_only(info))) as file:
            for piece in self._inflated(info):
                write_all(file, piece)
                show(piece)
            self.written[name] = since_when(os.fstat(file.fileno()))

    def beginning(self, files: Sequence[Known]) -> list[zipfile.ZipInfo]:
        """Return all members before the first that is not the file in its place."""
        members = list(self._members.values())
        for number, (info, (name, path, _)) in enumerate(zip(members, files, strict=False)):
            status = path.stat()
            is_same = info.filename == name and self._unchanged.get(name) == identity(status)
            if not is_same or info.external_attr != zip_info(name, status).external_attr:
                return members[:number]
        return members[: len(files)]

    def copy_beginning(self, members: Sequence[zipfile.ZipInfo], target: IO[bytes]) -> None:
        """Write its first members."""
        count = len(members)
        end = [*self._members.values()][count].header_offset if count < len(self._members) else self.end
        target.writelines(self._pieces(0, end))

    def find(self, info: zipfile.ZipInfo, file: IO[bytes]) -> zipfile.ZipInfo | None:
        """Return the member that holds what this file holds; if there is none, the file is at its beginning.

        Compared byte by byte.  Not by the CRC: two files of the same size may have the same one.
        """
        ours = self._members.get(info.filename)
        if ours is None or ours.file_size != info.file_size:
            return None
        if all(file.read(len(piece)) == piece for piece in self._inflated(ours)):
            return ours
        file.seek(0)
        return None

    def find_known(self, info: zipfile.ZipInfo, status: os.stat_result) -> zipfile.ZipInfo | None:
        """Return the member that holds what a file of this status holds, if that is known without a look into it.

        It is, of a file that is unchanged, and of one that we wrote ourselves and nobody has touched since.
        """
        name = info.filename
        is_known = self._unchanged.get(name) == identity(status) or self.written.get(name) == since_when(status)
        return self._members[name] if is_known and name in self._members else None

    def compressed(self, info: zipfile.ZipInfo) -> bytes:
        """Return a member's content as it is in the zip; by offset, since several threads read."""
        return os.pread(self.fileno(), info.compress_size, self._start(info))

    def _start(self, info: zipfile.ZipInfo) -> int:
        name_size, extra_size = struct.unpack("<26x2H", os.pread(self.fileno(), 30, info.header_offset))
        return int(info.header_offset + 30 + name_size + extra_size)

    def _pieces(self, at: int, length: int) -> Iterator[bytes]:
        for start in range(0, length, BLOCK):
            yield os.pread(self.fileno(), min(BLOCK, length - start), at + start)

    def _inflated(self, info: zipfile.ZipInfo) -> Iterator[Packed]:
        if (quick := sys.modules.get("deflate")) and info.file_size <= self.at_once:
            yield quick.deflate_decompress(self.compressed(info), info.file_size)
            return
        inflater = zlib.decompressobj(-15)
        for piece in self._pieces(self._start(info), info.compress_size):
            rest = piece
            while rest:
                yield inflater.decompress(rest, BLOCK)
                rest = inflater.unconsumed_tail
        yield inflater.flush()


@dataclass(frozen=True)
class Kept:
    """A package's dependencies, laid out, that stay in /tmp for the function's next build.

    A project's code runs as our user, and can reach them.  But nobody may write to these files, and to give
    oneself that right, as to put another file in the place of one, is a change of which the kernel notes the
    moment (ctime, which nobody can set).  Files that are of the moment they were are what they were.
    """

    package: str
    """The digest of the package, in base64."""
    files: Mapping[str, tuple[Identity, int]]
    """For each file ``since_when`` it is as it is."""


class Shelf:
    """What this environment keeps from one invocation to the next: zips, the one used last last, and dependencies.

    The zips are in files without names, and who has them open is closed to its children: no project's code
    can get at them.
    """

    kept: Kept | None = None
    """What lies in /tmp beside the workspace."""

    def __init__(self) -> None:
        """Begin with none."""
        self._zips: dict[str, Former] = {}
        self._lock = threading.Lock()

    def __contains__(self, sha256: str) -> bool:
        """Say whether there is a zip with this digest, in hex."""
        return sha256 in self._zips

    def put(self, sha256: str, zipped: Former) -> None:
        """Keep a zip under its digest, in hex, and no more others than there is room for."""
        room = min(MAX_SHELF_BYTES, shutil.disk_usage(zipped.fileno()).total // 8)
        with self._lock:
            self._zips.pop(sha256, None)
            self._zips[sha256] = zipped
            while sum(each.size for each in self._zips.values()) > room:
                self._zips.pop(next(iter(self._zips)))

    def make_room(self, largest: int = SMALL_ZIP) -> None:
        """Keep none of the zips that are larger."""
        with self._lock:
            self._zips = {sha256: each for sha256, each in self._zips.items() if each.size <= largest}

    def get(self, sha256: str) -> Former | None:
        """Return the zip with this digest, which is reckoned again."""
        with self._lock:
            zipped = self._zips.pop(sha256, None)
        if zipped is None or zipped.digest().hexdigest() != sha256:
            return None
        self.put(sha256, zipped)
        return zipped


SHELF = Shelf()


def write_zip(tree: Path, target: Path, former: Former | None = None, deflater: Deflater = ZLIB) -> Archive:
    """Zip a tree reproducibly: the same tree and deflater give the same bytes; see ``write_members``."""
    target.unlink(missing_ok=True)  # a build may have put a link there, to have us write elsewhere
    formers = [former] if former else []
    return zip_files(walk(tree), lambda: Owned(target.open("x+b", buffering=BLOCK)), formers, deflater)


def zip_files(listing: Listing, target: Callable[[], Owned], formers: Sequence[Former], deflater: Deflater) -> Archive:
    """Zip files in the order in which they come, into a new file; else as ``write_zip``.

    Or into that of the first former zip, if that may grow and all of it is the beginning.
    """
    files = [(name, path, None) for name, path, _ in listing]
    alike = [former for former in formers if former.comment == deflater.comment]
    begun = alike[0].beginning(files) if alike else []
    grown = alike[0].grows if begun and len(begun) == len([*alike[0].names]) else None
    owned = grown or target()
    file = owned.file
    if grown:
        file.seek(alike[0].end)
    elif begun:
        alike[0].copy_beginning(begun, file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.filelist += begun
        archive.start_dir = file.tell()
        write_members(files[len(begun) :], archive, alike, deflater)
    file.truncate()
    file.flush()
    zipped = Former(file, directory=archive)
    zipped.owner = owned
    return Archive(
        zipped=zipped,
        sha256=in_base64(zipped.digest()),
        zip_bytes=zipped.size,
        unzipped_bytes=sum(info.file_size for info in archive.filelist),
        files=len(archive.filelist),
    )


def write_members(
    files: Iterable[Known], archive: zipfile.ZipFile, formers: Iterable[Former], deflater: Deflater
) -> None:
    """Write files into a zip, with one date and our own modes for all.

    On all processors: what compresses lets go of Python's lock.  Lambda runs code as a user other than
    the files' owner, so everything must be readable by all: 0644, or 0755 where the owner may execute.
    What a former zip holds is taken over, if the same deflater made it.
    A file that is not the one meant is left out: it may be gone, or a project's code has put a link or
    a pipe in its place.
    Raises PackageError for names that a zip cannot hold, and OSError where none is meant in particular.
    """
    alike = [former for former in formers if former.comment == deflater.comment]

    def pack(name: str, path: Path, meant: Identity | None) -> tuple[zipfile.ZipInfo, Packed] | None:
        try:
            status = make_readable(path)
            info = zip_info(name, status)
            for each in alike:
                if meant in (None, identity(status)) and (ours := each.find_known(info, status)):
                    info.CRC = ours.CRC
                    return info, each.compressed(ours)
            with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
                if meant and meant != identity(os.fstat(opened.fileno())):
                    raise OSError(errno.ESTALE, "it is another file than it was", str(path))
                for each in alike:
                    if ours := each.find(info, opened):
                        info.CRC = ours.CRC
                        return info, each.compressed(ours)
                content = opened.read(info.file_size + 1)  # and no more, should it grow
            if len(content) != info.file_size:
                raise OSError(errno.ESTALE, "it was written to meanwhile", str(path))
        except OSError:
            if meant is None:
                raise
            return None
        info.CRC = zlib.crc32(content)
        return info, deflater.deflate(content)

    archive.comment = deflater.comment
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        for packed in side_by_side(pool, pack, files):
            if packed:
                add_member(archive, *packed)
            del packed  # before the next one comes: they may be large
    finally:
        pool.shutdown(cancel_futures=True)


Answer = TypeVar("Answer")
"""Whatever a function that is handed on returns."""


def side_by_side(
    pool: ThreadPoolExecutor, pack: Callable[[str, Path, Identity | None], Answer], files: Iterable[Known]
) -> Iterator[Answer]:
    """Yield what pack makes of each file, in their order; as many are at work or wait as memory has room for.

    Small ones go in batches: to hand each of them to another thread takes longer than to compress it.
    """
    pending: deque[tuple[int, Future[list[Answer]]]] = deque()
    for batch, total in batches(files):
        while pending and (len(pending) == MAX_PENDING or total + sum(each for each, _ in pending) > MAX_PENDING_BYTES):
            yield from pending.popleft()[1].result()
        pending.append((total, pool.submit(lambda batch: [pack(*each) for each in batch], batch)))
    while pending:
        yield from pending.popleft()[1].result()


def batches(files: Iterable[Known]) -> Iterator[tuple[list[Known], int]]:
    """Yield large files, and as many small ones as make a large one, with their bytes."""
    batch: list[Known] = []
    total = 0
    for name, path, meant in files:
        size_ = meant[2] if meant else path.stat().st_size
        if batch and total + size_ > BATCH:
            yield batch, total
            batch, total = [], 0
        batch.append((name, path, meant))
        total += size_
    if batch:
        yield batch, total


Known = tuple[str, Path, Identity | None]
"""A file's name in a package, where it is, and which one is meant."""


def zip_info(name: str, status: os.stat_result) -> zipfile.ZipInfo:
    """Return what a zip says of a file."""
    info = zipfile.ZipInfo(zip_name(name), ZIP_EPOCH)
    info.create_system = 3  # Unix: the modes count
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = (stat.S_IFREG | (0o755 if status.st_mode & stat.S_IXUSR else 0o644)) << 16
    info.file_size, info.CRC = status.st_size, 0
    return info


def add_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, content: Packed) -> None:
    """Write a member that is compressed already, which zipfile itself has no call for."""
    file: Any = archive.fp
    info.header_offset, info.compress_size = file.tell(), len(content)
    file.write(info.FileHeader(zip64=False))
    file.write(content)
    archive.start_dir = file.tell()
    archive.filelist.append(info)


def zip_name(name: str) -> str:
    """Return a file's name as a zip can hold it, or raise PackageError."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise PackageError(f"The package holds a file whose name is not UTF-8: {name!r}. Rename it.") from None
    return name


def read_only(info: zipfile.ZipInfo) -> int:
    """Return the mode of a file that nobody may write to and all may read, executable if it is in the zip."""
    return 0o555 if info.external_attr >> 16 & stat.S_IXUSR else 0o444


def unzip(zipped: Former, names: Iterable[str], target: Path) -> None:
    """Unpack members of a zip that write_zip made, executable bits included; it must be known to be that zip."""
    names = list(names)
    make_folders(names, target)
    for name in names:
        zipped.extract(name, f"{target}/{name}")


LARGEST = 10
