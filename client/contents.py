"""What is in a package: its files, and the distributions that they are of.

A package holds what a project and its dependencies have put there, so nothing in it is believed: how much is read is
bounded, and names are made printable.
"""

from __future__ import annotations

import csv
import hashlib
import io
import posixpath
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO

from packaging.metadata import parse_email
from packaging.utils import canonicalize_name

from client.faults import Fault
from yo_dawg.text import printable
from yo_dawg.trees import source_of

MAX_DIRECTORY = 24_000_000
"""Bytes of a zip's central directory: more than a hundred thousand files with long names."""

MAX_MEMBER, MAX_MEMBERS = 8_000_000, 64_000_000
"""Bytes that are inflated of one METADATA or RECORD, and of all of them."""

MAX_DISTRIBUTIONS = 5_000

METADATA = re.compile(r"(?:.+/)?[^/]+\.dist-info/METADATA")

BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    NotImplementedError,
    struct.error,
)
"""What reading a zip raises if it is none, or is not as it should be."""


@dataclass(frozen=True)
class Distribution:
    """A distribution whose metadata is in the package."""

    name: str
    """Normalized."""
    version: str
    folder: str
    """Where its metadata is: its *.dist-info."""
    license_expression: str = ""
    license: str = ""
    classifiers: tuple[str, ...] = ()
    record_sha256: str = ""
    """In hex, of its RECORD in the package; "" if there is none."""
    files: frozenset[str] = field(default=frozenset(), repr=False)
    """Those that its RECORD names."""


@dataclass(frozen=True)
class Contents:
    """What is in a package."""

    sizes: Mapping[str, int]
    """For each file the bytes that it unzips to."""
    checksums: Mapping[str, int]
    """For each file its CRC-32: enough to see that it has changed."""
    distributions: tuple[Distribution, ...]
    """Sorted by name, and where their metadata is."""

    def owners(self) -> dict[str, str]:
        """Return for each file that a distribution has brought the name of that."""
        named = {name: each.name for each in self.distributions for name in each.files if name in self.sizes}
        return {name: owner for name in self.sizes if (owner := named.get(name) or named.get(source_of(name)))}


class Bounded(io.BufferedIOBase):
    """An open zip of which nobody reads more at once than a central directory may have: zipfile reads that whole."""

    def __init__(self, file: IO[bytes]) -> None:
        """Read from a file."""
        self.file = file

    def read(self, size: int | None = -1, /) -> bytes:
        """Read some bytes; raise BadZipFile if it is too many."""
        if size is not None and size > MAX_DIRECTORY:
            raise zipfile.BadZipFile(f"its table of contents has {size:,} bytes")
        found = self.file.read(MAX_DIRECTORY + 1 if size is None or size < 0 else size)
        if len(found) > MAX_DIRECTORY:
            raise zipfile.BadZipFile("it has no end that makes sense")
        return found

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a place."""
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        """Say where we are."""
        return self.file.tell()

    def seekable(self) -> bool:
        """Say that it is a file."""
        return True


def read_contents(file: IO[bytes], what: str) -> Contents:
    """Read a package; raise Fault, which calls it ``what``, if it cannot be read or holds more than makes sense."""
    try:
        with zipfile.ZipFile(Bounded(file)) as archive:  # as much of a file as it wants
            members = {info.filename: info for info in archive.infolist() if not info.is_dir()}
            return Contents(
                {name: info.file_size for name, info in members.items()},
                {name: info.CRC for name, info in members.items()},
                tuple(sorted(find_distributions(archive, members), key=lambda each: (each.name, each.folder))),
            )
    except BROKEN as error:
        raise Fault(f"{what} cannot be read as a zip: {printable(str(error))[:300]}.") from None


def find_distributions(archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo]) -> Iterator[Distribution]:
    """Yield the distributions whose metadata says what they are; raise ValueError if there are too many."""
    left = MAX_MEMBERS
    found = [name for name in members if METADATA.fullmatch(name)]
    if len(found) > MAX_DISTRIBUTIONS:
        raise ValueError(f"it holds {len(found):,} distributions")
    for name in found:
        folder = posixpath.dirname(name)
        metadata = read_member(archive, members[name], left)
        record = f"{folder}/RECORD"
        recorded = read_member(archive, members[record], left - len(metadata)) if record in members else b""
        left -= len(metadata) + len(recorded)
        raw = parse_email(metadata)[0]
        if not raw.get("name") or not raw.get("version"):
            continue
        yield Distribution(
            name=canonicalize_name(short(raw["name"])),
            version=short(raw["version"]),
            folder=folder,
            license_expression=raw.get("license_expression", ""),
            license=raw.get("license", ""),
            classifiers=tuple(raw.get("classifiers", ())),
            record_sha256=hashlib.sha256(recorded).hexdigest() if record in members else "",
            files=frozenset(recorded_files(recorded, posixpath.dirname(folder))),
        )


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, left: int) -> bytes:
    """Inflate a file; raise ValueError if it has more bytes than may be read of one, or are left for all."""
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others may want memory without bounds
        raise NotImplementedError(f"{info.filename} is compressed in a way that Lambda does not know")
    most = min(MAX_MEMBER, left)
    with archive.open(info) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"{info.filename} is too large")
    return content


def recorded_files(record: bytes, root: str) -> Iterator[str]:
    """Yield the paths in the package of the files that a RECORD names; of one that is none, nothing."""
    try:
        rows = [row[0] for row in csv.reader(io.StringIO(record.decode("utf-8", "replace"))) if row]
    except csv.Error:
        return
    for path in rows:
        yield posixpath.normpath(posixpath.join(root, path))


def short(text: str) -> str:
    """Cut a text to what a name or a version may have, and make it printable."""
    return printable(text)[:200]
