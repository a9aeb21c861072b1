"""The toolchain in S3: which one is stored, and its zips, which only the workshop unpacks."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from yo_dawg.builder import own_digest
from yo_dawg.control.archives import fetch_archive
from yo_dawg.errors import NotBootstrapped
from yo_dawg.toolchain import TOOLCHAIN_FORMAT, TOOLCHAIN_PARTS, toolchain_pins

if TYPE_CHECKING:
    from yo_dawg.builder import Builder
    from yo_dawg.control.archives import OpenFile
    from yo_dawg.control.job import Job
    from yo_dawg.control.store import Store


def toolchain_inputs(builder: Builder) -> str:
    """Return a digest of all that decides what is in the toolchain."""
    return hashlib.sha256(f"{TOOLCHAIN_FORMAT}\n{builder.platform}\n{toolchain_pins()}".encode()).hexdigest()


def toolchain_pointer(builder: Builder) -> str:
    """Return the key of the small object that names the toolchain in use."""
    return f"toolchain/{builder.platform}.json"


def stored_toolchain(store: Store, builder: Builder) -> dict[str, Any] | None:
    """Read which toolchain is stored for this builder; None if there is none, or one of other pins."""
    found = store.read(toolchain_pointer(builder))
    if found is None:
        return None
    try:
        stored: dict[str, Any] = json.loads(found[0])
        parts = {part: str(stored["parts"][part]) for part in TOOLCHAIN_PARTS}
    except (ValueError, LookupError, TypeError):
        return None
    if stored.get("inputs") != toolchain_inputs(builder):
        return None
    return stored if all(re.fullmatch(r"[0-9a-f]{64}", sha256) for sha256 in parts.values()) else None


def is_stored(stored: Mapping[str, Any], store: Store) -> bool:
    """Say whether a toolchain was made by this very code, and all its zips are there and whole."""
    ours = stored.get("code") == own_digest()
    return ours and all(store.holds(toolchain_key(each), each) for each in stored["parts"].values())


def toolchain_key(sha256: str) -> str:
    """Return the key of a toolchain's zip: its name is its content's digest."""
    return f"toolchain/{sha256}.zip"


def fetch_toolchain(part: str, job: Job) -> OpenFile:
    """Fetch one of the toolchain's zips; raise NotBootstrapped if it is not there as it was stored."""
    if job.toolchain is None:
        raise NotBootstrapped(
            f"There is no toolchain for {job.builder.platform} and this version of yo-dawg at "
            f'{job.store.uri(toolchain_pointer(job.builder))}. Run "./deploy.sh bootstrap", or invoke '
            f'{job.builder.name} with {{"action": "bootstrap"}}.'
        )
    sha256 = job.toolchain["parts"][part]
    found, zipped = fetch_archive(toolchain_key(sha256), sha256, job.store, job.space.root)
    if zipped is None:
        problem = "is missing" if found is None else f"has been changed: its SHA-256 is {found}. It was not run"
        raise NotBootstrapped(
            f"The toolchain {job.store.uri(toolchain_key(sha256))} {problem}. Invoke {job.builder.name} with "
            '{"action": "bootstrap", "force": true} to make it again.'
        )
    return zipped


def store_toolchain(
    zips: Mapping[str, OpenFile], packages: Sequence[str], builder: Builder, store: Store
) -> dict[str, Any]:
    """Store a toolchain as the one in use; return what ``stored_toolchain`` will read."""
    parts = {part: zipped.sha256().hexdigest() for part, zipped in zips.items()}
    made = {"inputs": toolchain_inputs(builder), "code": own_digest(), "parts": parts, "packages": packages}
    for part, zipped in zips.items():
        store.upload(toolchain_key(parts[part]), zipped.file, "application/zip")
    # The pointer goes last: whoever reads it finds what it points at.
    store.upload_json(toolchain_pointer(builder), made)
    return made
