"""Packages in S3: their names, storing one, keeping a copy of the code that a function runs."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from yo_dawg.control.clients import translate_aws_errors
from yo_dawg.digests import base64_to_hex
from yo_dawg.errors import DeployError

if TYPE_CHECKING:
    from yo_dawg.control.archives import OpenFile
    from yo_dawg.control.functions import Target
    from yo_dawg.control.job import Job
    from yo_dawg.events import BuildRequest, RollbackRequest


@dataclass(frozen=True)
class Package:
    """A package in S3, and what it was built from."""

    key: str
    code_sha256: str
    commit: str | None = None

    @classmethod
    def of(cls, function: str, code_sha256: str, commit: str | None = None) -> Package:
        """Return a function's package by its digest, in base64: that is its name, in hex."""
        return cls(f"packages/{function}/{base64_to_hex(code_sha256)}.zip", code_sha256, commit)

    @property
    def hex_digest(self) -> str:
        """Its SHA-256 in hex."""
        return base64_to_hex(self.code_sha256)


def dependencies_key(package: str) -> str:
    """Return the key of what the workshop knows of the dependencies in the package with this key."""
    return f"{bundle_key(package).removesuffix('.json')}.dependencies"


def bundle_key(package: str) -> str:
    """Return the key of the bundle of the package with this key."""
    return f"bundles/{package.removeprefix('packages/').removesuffix('.zip')}.json"


def store_package(package: Package, zipped: OpenFile, job: Job) -> None:
    """Upload a package, unless it is stored."""
    if not job.store.holds(package.key, package.hex_digest):
        job.store.upload(package.key, zipped.file, "application/zip", package.code_sha256)


def back_up_current_code(target: Target, request: BuildRequest | RollbackRequest, job: Job) -> list[str]:
    """Store the code that a function runs now, unless it is stored: then it can be put back.

    Returns a warning if it cannot be had; raises DeployError if a test event may ask for it.
    """
    package = Package.of(target.name, target.code_sha256)
    try:
        if not job.store.holds(package.key, package.hex_digest):
            fetch_code(package, target.name, job)
            job.log.detail("kept the code that it ran until now")
    except (DeployError, OSError) as error:
        problem = f"the code that {target.name} runs now could not be kept, and so cannot be put back: {error}"
        if request.test_event is not None:
            raise DeployError(f"A test event wants a way back, but {problem}") from None
        return [problem.rstrip(".")]
    return []


def fetch_code(package: Package, name: str, job: Job) -> None:
    """Copy the code that a function runs from Lambda into the store; raise DeployError, OSError."""
    with translate_aws_errors(f"look at the code of {name}"):
        place = job.aws.functions.get_function(FunctionName=name)["Code"].get("Location", "")
    with tempfile.TemporaryFile(dir=job.space.root) as body:  # without a name: a build may run meanwhile
        fetch_from_aws(place, body)
        body.seek(0)
        if hashlib.file_digest(body, "sha256").hexdigest() != package.hex_digest:
            raise DeployError("Lambda handed out another package.")
        job.store.upload(package.key, body, "application/zip", package.code_sha256)


def fetch_from_aws(place: str, target: IO[bytes]) -> None:
    """Copy what an address that AWS gave us holds into an open file; raise OSError."""
    if urllib.parse.urlsplit(place).scheme not in ("https", "http"):
        raise OSError("AWS gives no address for it")
    with urllib.request.urlopen(place, timeout=60) as source:  # noqa: S310  # AWS's own
        shutil.copyfileobj(source, target, 1 << 20)
