"""The RECORD of each distribution, true of the package that ships.

What the installer wrote names files that are not shipped, and paths of the builder; so it is taken away with the
other records of the installer, and one is written anew: ``importlib.metadata`` reads there which files a distribution
has, and which distribution a module is of.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import os
import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from yo_dawg.digests import in_record
from yo_dawg.trees import make_readable
from yo_dawg.workshop.package.install import normal

if TYPE_CHECKING:
    from yo_dawg.trees import Listing
    from yo_dawg.workshop.package.install import Installed

RECORD = re.compile(r"[^/]+\.dist-info/RECORD")


def write_records(
    staging: Path,
    listing: Listing,
    installed: Installed,
    intact: Collection[str] = frozenset(),
    ours: Collection[str] = frozenset(),
) -> frozenset[str]:
    """Write a RECORD into each *.dist-info in staging that dependencies brought; return the names of those.

    ``listing`` is all that is in staging.  ``intact`` names the files whose digests in ``installed`` are still
    right; of the others the SHA-256 is computed.  ``ours`` is what an earlier call returned, if anything was put
    into staging or taken out of it since: these are written anew.  Any other RECORD that is there is the project's
    own, and is left as it is.  Bytecode that is made later need not be listed, and is not.

    The same files give the same bytes: lines are sorted, and each has a SHA-256 and a size in bytes, but for that
    of the RECORD itself.  Raises OSError.
    """
    files = {name: (path, status.st_size) for name, path, status in listing}
    folders = folders_of(installed.owners, files)
    lines: defaultdict[str, list[tuple[str, str, int | str]]] = defaultdict(list)
    for name in sorted(files):
        owner = installed.owners.get(name)
        if owner not in folders or RECORD.fullmatch(name):
            continue
        path, count = files[name]
        known = installed.digests.get(name) if name in intact else None
        lines[owner].append((name, f"sha256={known or digest_of_file(path)}", count))
    written = set()
    for owner, folder in folders.items():
        record = f"{folder}/RECORD"
        if record in files and record not in ours:
            continue
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(sorted([*lines[owner], (record, "", "")]))
        path = staging / record
        with contextlib.suppress(FileNotFoundError):
            path.unlink()  # whatever has it by another name, too, keeps it
        path.write_text(text.getvalue(), encoding="utf-8", errors="surrogateescape", newline="")
        written.add(record)
    return frozenset(written)


def same_files(before: Listing, now: Listing) -> frozenset[str]:
    """Return the names of the files that nobody has written to, or put others in the place of, in between."""
    then = {name: as_it_was(status) for name, _, status in before}
    return frozenset(name for name, _, status in now if then.get(name) == as_it_was(status))


def as_it_was(status: os.stat_result) -> tuple[int, ...]:
    """Return what a file does not keep when something is written to it, or another put in its place."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def folders_of(owners: Mapping[str, str], files: Collection[str]) -> dict[str, str]:
    """Return for each distribution that has its metadata in staging the folder of that."""
    found: dict[str, str] = {}
    for name, owner in owners.items():
        folder = name.partition("/")[0]
        if folder.endswith(".dist-info") and f"{folder}/METADATA" in files:
            own_name = folder.removesuffix(".dist-info").rpartition("-")[0]
            if normal(own_name) == normal(owner):  # whatever another distribution's RECORD says
                found[owner] = folder
    return dict(sorted(found.items()))


def digest_of_file(path: Path) -> str:
    """Return a file's SHA-256 as a RECORD has it."""
    make_readable(path)
    with path.open("rb") as file:
        return in_record(hashlib.file_digest(file, "sha256"))
