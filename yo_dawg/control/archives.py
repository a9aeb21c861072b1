"""Zips, as the handler has them: whole, in files without names, by their digests.  It never looks into one."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import threading
import weakref
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yo_dawg.control.store import Store

MAX_CACHE_BYTES = 1 << 27
"""How much of zips an environment keeps for its next invocation, and no more than an eighth of /tmp."""

SMALL_ZIP = 1 << 23
"""Larger ones make room where dependencies are installed: what fits into a new environment must fit into this one."""


class OpenFile:
    """A file without a name, which no build can get at; it is closed once nobody has this any more."""

    def __init__(self, folder: Path) -> None:
        """Make an empty one on the disk of a folder."""
        self.file: IO[bytes] = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        weakref.finalize(self, self.file.close)

    def fileno(self) -> int:
        """Return its descriptor."""
        return self.file.fileno()

    @property
    def size(self) -> int:
        """Its bytes."""
        return os.fstat(self.fileno()).st_size

    def sha256(self) -> Any:
        """Reckon its digest; return a hash object, see ``digests``."""
        digest, at = hashlib.sha256(), 0
        while piece := os.pread(self.fileno(), 1 << 20, at):
            digest.update(piece)
            at += len(piece)
        return digest


class ArchiveCache:
    """Zips that this environment keeps from one invocation to the next, the one used last last.

    Several threads may use it at a time.  Each zip is verified whenever it is taken out.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._zips: dict[str, OpenFile] = {}
        self._lock = threading.Lock()

    def put(self, sha256: str, zipped: OpenFile) -> None:
        """Keep a zip under its digest, in hex, and no more others than there is room for."""
        room = min(MAX_CACHE_BYTES, shutil.disk_usage(zipped.fileno()).total // 8)
        with self._lock:
            self._zips.pop(sha256, None)
            self._zips[sha256] = zipped
            while sum(each.size for each in self._zips.values()) > room:
                self._zips.pop(next(iter(self._zips)))

    def make_room(self, largest: int = SMALL_ZIP) -> None:
        """Keep none of the zips that are larger, in bytes."""
        with self._lock:
            self._zips = {sha256: each for sha256, each in self._zips.items() if each.size <= largest}

    def get(self, sha256: str) -> OpenFile | None:
        """Return the zip with this digest, in hex, which is reckoned again; None if there is none."""
        with self._lock:
            zipped = self._zips.pop(sha256, None)
        if zipped is None or zipped.sha256().hexdigest() != sha256:
            return None
        self.put(sha256, zipped)
        return zipped


ARCHIVES = ArchiveCache()
"""This environment's."""


def fetch_archive(key: str, sha256: str, store: Store, folder: Path) -> tuple[str | None, OpenFile | None]:
    """Take a zip out of the cache, or fetch it from S3; return its digest, in hex, and the zip.

    No zip if it has another digest than it should have, no digest if there is none.  Raises DeployError.
    """
    if cached := ARCHIVES.get(sha256):
        return sha256, cached
    zipped = OpenFile(folder)
    found = store.copy(key, zipped.file)
    if found != sha256:
        return found, None
    ARCHIVES.put(sha256, zipped)
    return found, zipped
