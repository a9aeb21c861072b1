"""Deployment packages: checked as Lambda checks them, and unpacked, modes and symlinks and all, once they are run."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import os
import shutil
import stat
import struct
import tempfile
import threading
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import deflate

UNZIPPED_LIMIT = 262_144_000
ZIPPED_LIMIT = 52_428_800
"""The limit of a package inside a request; one from S3 has only the unzipped limit."""


class BadPackage(Exception):
    """Lambda would not take this package; the message is Lambda's own."""


@dataclass(frozen=True)
class Code:
    """A package that was taken."""

    sha256: str
    """In base64, as CodeSha256 has it."""
    size: int
    unzipped_size: int
    archive: Path


class CodeStore:
    """Packages by their content, below one directory of the server's."""

    def __init__(self, root: Path) -> None:
        """Begin with none."""
        self.root = root
        self.lock = threading.Lock()
        self.known: dict[str, Code] = {}

    def add(self, content: bytes) -> Code:
        """Check and keep a package, or raise BadPackage."""
        digest = hashlib.sha256(content)
        with self.lock:
            if digest.hexdigest() not in self.known:
                self.root.mkdir(parents=True, exist_ok=True)
                archive = self.root / f"{digest.hexdigest()}.zip"
                try:
                    with ThreadPoolExecutor(1) as pool:
                        writing = pool.submit(archive.write_bytes, content)
                        size = unzipped_size(content)
                    writing.result()
                except BadPackage:
                    archive.unlink(missing_ok=True)
                    raise
                sha256 = base64.b64encode(digest.digest()).decode()
                self.known[digest.hexdigest()] = Code(sha256, len(content), size, archive)
            return self.known[digest.hexdigest()]

    def tree(self, code: Code) -> Path:
        """Return the folder in which a package is unpacked."""
        target = code.archive.with_suffix("")
        with self.lock:
            if not target.exists():
                scratch = Path(tempfile.mkdtemp(dir=self.root))
                with zipfile.ZipFile(code.archive) as archive:
                    unpack(archive, scratch)
                scratch.chmod(0o755)
                scratch.rename(target)
        return target

    def merged(self, layers: Sequence[Code]) -> Path | None:
        """Return a tree that holds these layers, later ones over earlier ones; None if there is no layer."""
        if len(layers) < 2:
            return self.tree(layers[0]) if layers else None
        name = hashlib.sha256("".join(layer.sha256 for layer in layers).encode()).hexdigest()
        target, trees = self.root / f"layers-{name}", [self.tree(layer) for layer in layers]
        with self.lock:
            if not target.exists():
                scratch = Path(tempfile.mkdtemp(dir=self.root))
                for tree in trees:
                    shutil.copytree(tree, scratch, symlinks=True, dirs_exist_ok=True)
                scratch.chmod(0o755)
                scratch.rename(target)
        return target


def unzipped_size(content: bytes) -> int:
    """Return the bytes that a package unzips to, once each of its members was read; raise BadPackage."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(info.file_size for info in archive.infolist())
            if size >= UNZIPPED_LIMIT:
                raise BadPackage(f"Unzipped size must be smaller than {UNZIPPED_LIMIT} bytes")
            list(entries(archive))  # which refuses bad names
            read_all(content, sorted(archive.infolist(), key=lambda info: -info.file_size))
    except (
        zipfile.BadZipFile,
        deflate.DeflateError,
        struct.error,
        NotImplementedError,
        RuntimeError,
        ValueError,
    ) as error:
        raise BadPackage("Could not unzip uploaded file. Please check your file, then try to upload again.") from error
    if size == 0:
        raise BadPackage("Uploaded file must be a non-empty zip")
    return size


def read_all(content: bytes, members: Sequence[zipfile.ZipInfo]) -> None:
    """Read members whole on all processors, the next one each; see ``read_through``."""
    todo, threads = iter(members), os.cpu_count() or 1

    def read(_: int) -> None:
        for info in todo:
            read_through(content, info)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(read, range(threads)))  # which raises what they have raised


def read_through(content: bytes, info: zipfile.ZipInfo) -> None:
    """Read a member whole, which checks it; raise BadZipFile, DeflateError, NotImplementedError, struct.error.

    Without Python's lock, and with libdeflate: zipfile would have a client wait longer than Lambda does.
    """
    name_size, extra_size = struct.unpack_from("<26x2H", content, info.header_offset)
    at = info.header_offset + 30 + name_size + extra_size
    packed = memoryview(content)[at : at + info.compress_size]
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise NotImplementedError(f"compression method {info.compress_type}")
    is_stored = info.compress_type == zipfile.ZIP_STORED
    member = packed if is_stored else deflate.deflate_decompress(packed, info.file_size)
    if len(member) != info.file_size or deflate.crc32(member) != info.CRC:
        raise zipfile.BadZipFile(f"bad content of {info.filename}")


def entries(archive: zipfile.ZipFile) -> Iterator[tuple[PurePosixPath, zipfile.ZipInfo, int]]:
    """Yield the entries with their modes; refuse names that lead out of the tree."""
    for info in archive.infolist():
        name = PurePosixPath(info.filename)
        if name.is_absolute() or ".." in name.parts or "\0" in info.filename:
            raise ValueError(f"unsafe name: {info.filename}")
        if name.parts:
            yield name, info, info.external_attr >> 16


def unpack(archive: zipfile.ZipFile, target: Path) -> None:
    """Unpack into an empty directory: files first, so that no symlink can lead one of them elsewhere."""
    links = []
    for name, info, mode in entries(archive):
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if info.is_dir():
            path.mkdir(exist_ok=True)
        elif stat.S_ISLNK(mode):
            links.append((path, os.fsdecode(archive.read(info))))
        else:
            with archive.open(info) as source, open(path, "wb") as copy:
                shutil.copyfileobj(source, copy, 1 << 20)
            path.chmod(visible_mode(mode) if mode else 0o644)
    for path, destination in links:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        os.symlink(destination, path)


def visible_mode(mode: int) -> int:
    """Return the mode a file gets here, so that its owner has no more than Lambda's user would.

    In Lambda the files are root's, and the function reads them as "other". In a sandbox there is one user, who owns
    them: where "other" may not read or execute a file, its owner may not either.
    """
    others = mode & 0o5
    return mode & 0o777 & ~(0o550 & ~(others << 6 | others << 3))


def remove_tree(tree: Path) -> None:
    """Remove a directory tree, if need be against its modes."""
    for directory, folders, _ in os.walk(tree):
        for folder in folders:
            path = os.path.join(directory, folder)
            if not os.path.islink(path):
                os.chmod(path, 0o700)
    shutil.rmtree(tree, ignore_errors=True)
