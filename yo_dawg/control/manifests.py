"""What is known of a function's last package: what it was built from, and what the next build can take over.

The first is the handler's own (bundles/FUNCTION/SHA256.json).  The second is the workshop's: the handler stores it and
hands it on, and never looks into it (bundles/FUNCTION/SHA256.dependencies).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from yo_dawg.builder import own_digest, runtime_versions
from yo_dawg.channel import MAX_KNOWN
from yo_dawg.control.archives import OpenFile, fetch_archive
from yo_dawg.control.packages import Package, bundle_key, dependencies_key
from yo_dawg.control.toolchain import toolchain_inputs
from yo_dawg.digests import digest_of
from yo_dawg.errors import DeployError, YoDawgError

if TYPE_CHECKING:
    from yo_dawg.control.functions import Target
    from yo_dawg.control.job import Job
    from yo_dawg.events import BuildRequest

FORMAT = 4
"""Of the stored object; one of another format is not read."""


@dataclass(frozen=True)
class Manifest:
    """What is known of a package, stored beside it."""

    build: str
    """Digest of all that decided what is in it, see ``build_inputs``."""
    result: Mapping[str, Any]
    """What was told of it."""
    pinned: bool
    """Whether the package index has no say in what is installed: each version is spelled out."""


def read_manifest(target: Target, job: Job) -> Manifest | None:
    """Return the manifest of the package that a function runs; None if there is none that makes sense."""
    with contextlib.suppress(YoDawgError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        found = job.store.read(bundle_key(Package.of(target.name, target.code_sha256).key))
        value = json.loads(found[0]) if found else {}
        if value.pop("format", None) == FORMAT:
            return Manifest(**value)
    return None


def store_manifest(package: Package, manifest: Manifest, dependencies: OpenFile, job: Job) -> None:
    """Store what is known of a package; without it the next build only takes longer."""
    if dependencies.size > MAX_KNOWN:  # nobody would read it
        return
    try:
        job.store.upload(dependencies_key(package.key), dependencies.file, "application/json")
        job.store.upload_json(bundle_key(package.key), {"format": FORMAT, **vars(manifest)})
    except DeployError as error:
        job.log.info(f"Warning: the next build cannot take over the dependencies of this one: {error}")


def fetch_previous(target: Target, job: Job) -> dict[str, OpenFile]:
    """Fetch what a function runs now, and what the workshop knows of it; nothing if it cannot be had."""
    package = Package.of(target.name, target.code_sha256)
    known = OpenFile(job.space.root)
    with contextlib.suppress(YoDawgError, OSError):
        if job.store.copy(dependencies_key(package.key), known.file) is None:
            return {}
        zipped = fetch_archive(package.key, package.hex_digest, job.store, job.space.root)[1]
        return {"previous": zipped, "known": known} if zipped else {}
    return {}


def builder_inputs(job: Job) -> str:
    """Return a digest of what of the builder itself has a say in what it makes: its code, its tools and settings."""
    import sys

    ours, settings = [own_digest(), toolchain_inputs(job.builder)], job.settings
    return digest_of([*ours, sys.version, runtime_versions(), dict(settings.client), settings.index_secret])


def build_inputs(commit: str, request: BuildRequest, targets: Sequence[Target], job: Job) -> str:
    """Return a digest of all that decides what is in the package, other than what the requirements resolve to."""
    proved = [[target.handler, dict(target.environment), target.layers] for target in targets]
    asked = [job.settings.repository_url(request.repo_name), request.subdirectory, commit]
    return digest_of([builder_inputs(job), job.indexes, job.settings.proof, job.settings.bytecode, proved, asked])


def may_be_unchanged(
    manifest: Manifest, commit: str, request: BuildRequest, targets: Sequence[Target], job: Job
) -> bool:
    """Say whether the functions run what a build of this commit would make, if it installed the same."""
    digests = {target.code_sha256 for target in targets}
    if request.dry_run or request.force or digests != {manifest.result.get("code_sha256")}:
        return False
    if manifest.build != build_inputs(commit, request, targets, job):
        return False
    packages = [Package.of(target.name, target.code_sha256) for target in targets]
    return all(job.store.holds(package.key, package.hex_digest) for package in packages)
