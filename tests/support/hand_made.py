"""Objects and packs made by hand, which git itself would refuse to make, and a server of them."""

from __future__ import annotations

import hashlib
import http.server
import os
import struct
import zlib
from pathlib import Path

import pytest

from tests.support.git_host import Answer, reply
from yo_dawg.errors import SourceError
from yo_dawg.workshop.git.checkout import peel, remove_outside_links, tree_entries, write_checkout
from yo_dawg.workshop.git.lfs import lfs_pointers
from yo_dawg.workshop.git.pack import Objects
from yo_dawg.workshop.git.remote import Fetched

COMMIT, TREE, BLOB, TAG, OFFSET_DELTA, NAMED_DELTA = 1, 2, 3, 4, 6, 7


KINDS = {COMMIT: b"commit", TREE: b"tree", BLOB: b"blob", TAG: b"tag"}


class HandMade:
    """A repository of objects that nobody has checked."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.objects: list[bytes] = []
        """As they stand in the pack."""

    def add(self, kind: int, content: bytes, *, declared: int | None = None) -> bytes:
        """Add an object, which may declare another size; return its name."""
        size = len(content) if declared is None else declared
        self.objects.append(header(kind, size) + zlib.compress(content, 1))
        return hashlib.sha1(KINDS[kind] + b" %d\0" % len(content) + content, usedforsecurity=False).digest()

    def tree(self, *entries: tuple[bytes, bytes, bytes]) -> bytes:
        """Add a tree of (mode, name, object); return its name."""
        return self.add(TREE, b"".join(mode + b" " + name + b"\0" + sha for mode, name, sha in entries))

    def commit(self, tree: bytes) -> str:
        """Add a commit; return its id."""
        text = b"tree %s\nauthor a <a> 1 +0000\ncommitter a <a> 1 +0000\n\nm\n" % tree.hex().encode()
        return self.add(COMMIT, text).hex()

    @property
    def pack(self) -> bytes:
        """The pack."""
        return sealed(b"PACK" + struct.pack(">II", 2, len(self.objects)) + b"".join(self.objects))


def sealed(pack: bytes) -> bytes:
    """Put the checksum at the end of a pack."""
    return pack + hashlib.sha1(pack, usedforsecurity=False).digest()


def header(kind: int, size: int) -> bytes:
    """Return the head of an object in a pack."""
    first, size = kind << 4 | size & 15, size >> 4
    out = []
    while size:
        out.append(first | 0x80)
        first, size = size & 0x7F, size >> 7
    return bytes([*out, first])


def packet(text: bytes) -> bytes:
    """Return a line of Git's protocol."""
    return b"%04x" % (len(text) + 4) + text


def refs_answer(commit: str) -> bytes:
    """Return what a server of protocol version 0 says that it has: main, at this commit."""
    capabilities = b"multi_ack thin-pack side-band-64k ofs-delta shallow no-progress symref=HEAD:refs/heads/main"
    return b"".join(
        [
            packet(b"# service=git-upload-pack\n"), b"0000",
            packet(commit.encode() + b" HEAD\0" + capabilities + b"\n"),
            packet(commit.encode() + b" refs/heads/main\n"), b"0000",
        ]
    )  # fmt: skip


def pack_answer(commit: str, pack: bytes) -> bytes:
    """Return what a server sends when that commit is wanted."""
    pieces = [packet(b"\1" + pack[start : start + 60000]) for start in range(0, len(pack), 60000)]
    return b"".join([packet(b"shallow " + commit.encode()), b"0000", packet(b"NAK\n"), *pieces, b"0000"])


def serving(commit: str, pack: bytes) -> Answer:
    """Return a server of one commit, whose pack nobody has checked."""

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        reply(handler, pack_answer(commit, pack) if handler.command == "POST" else refs_answer(commit))

    return answer


def write_out(made: HandMade, commit: str, folder: Path, room: int = 1 << 30) -> dict[str, str]:
    """Unpack a pack and write out a commit's tree, as the program does; return the links that lead out."""
    (folder / "objects").mkdir()
    objects = Objects(folder / "objects", "sha1", room)
    (folder / "pack").write_bytes(made.pack)
    objects.unpack(folder / "pack")
    (folder / "pack").unlink()
    _, tree = peel(Fetched(objects, commit, "main"))
    entries = tree_entries(objects, tree)
    lfs_pointers(objects, entries)
    write_checkout(objects, entries, folder / "checkout")
    return remove_outside_links(folder / "checkout")


def refused(made: HandMade, commit: str, folder: Path, room: int = 1 << 30) -> str:
    """Write out what must be refused, and must write nothing elsewhere; return the words."""
    (folder / "inner").mkdir()
    with pytest.raises(SourceError) as error:
        write_out(made, commit, folder / "inner", room)
    assert os.listdir(folder) == ["inner"]
    assert set(os.listdir(folder / "inner")) <= {"pack", "objects", "checkout"}
    return str(error.value)
