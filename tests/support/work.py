"""What the stages of a package work with, made for tests."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yo_dawg.jobs import PackageJob, ProvenFunction
from yo_dawg.process import Shell
from yo_dawg.report import Report
from yo_dawg.trees import Listing
from yo_dawg.workshop.archive import CompressedCache, WrittenZip, write_zip
from yo_dawg.workshop.deflater import ZLIB, Deflater
from yo_dawg.workshop.package.work import Work
from yo_dawg.workshop.package_zip import PackageZip
from yo_dawg.workspace import Workspace

PLATFORM = "python3.13-x86_64"


def package_job(space: Workspace, **changes: Any) -> PackageJob:
    """Return a job for one function, api, whose handler is app.handler."""
    job: dict[str, Any] = {
        "workspace": str(space.root),
        "subdirectory": "",
        "functions": (ProvenFunction("api", "app.handler"),),
        "platform": PLATFORM,
        "region": "eu-west-1",
        "proof": "warn",
        "bytecode": "used",
        "runtime_dir": "",
        "builder": "a digest of the builder",
    }
    return PackageJob(**{**job, **changes})


def make_work(space: Workspace, shell: Shell, files: Mapping[str, int] | None = None, **changes: Any) -> Work:
    """Return what a stage works with: a job with these changes, and open files."""
    return Work(package_job(space, **changes), files or {}, space, shell, Report())


def zip_to(
    listing: Listing, target: Path, cache: CompressedCache | None = None, digests: Mapping[str, str] | None = None
) -> WrittenZip:
    """Zip files into a new file of this name, with zlib unless a cache says otherwise."""
    with target.open("wb") as file:
        return write_zip(listing, file.fileno(), cache or CompressedCache(ZLIB), digests or {})


def open_zip(path: Path, deflater: Deflater = ZLIB) -> PackageZip:
    """Open a zip of ours; it stays open for as long as the process lives."""
    return PackageZip(os.open(path, os.O_RDONLY), deflater)


def open_file(content: bytes) -> int:
    """Return the descriptor of an open file without a name that holds this."""
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        return os.dup(file.fileno())
