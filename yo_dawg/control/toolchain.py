"""The toolchain in S3: which one is stored, fetching it and laying it out."""

from __future__ import annotations

import functools
import hashlib
import importlib.machinery
import importlib.metadata
import importlib.util
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yo_dawg.archives import LEVELS, MAX_PENDING_BYTES, SHELF, ZLIB, Deflater, Former, unnamed_file, unzip
from yo_dawg.builder import own_digest, runtime_versions
from yo_dawg.errors import NotBootstrapped
from yo_dawg.process import Command, program
from yo_dawg.workspace import HERE, remove_tree

if TYPE_CHECKING:
    from yo_dawg.archives import Archive
    from yo_dawg.builder import Builder
    from yo_dawg.control.job import Job
    from yo_dawg.control.store import Store
    from yo_dawg.workspace import Workspace

TOOLCHAIN_FORMAT = "4"
"""Raise this when the layout of the toolchain's zips changes: stored ones then no longer match."""

TOOLCHAIN_PARTS = {
    "uv": ("bin/",),
    "ssh": tuple(
        f"site-packages/{name}"
        for name in ("_cffi_backend", "bcrypt", "cffi", "cryptography", "invoke", "nacl", "paramiko", "pycparser")
    ),
    "git": ("",),  # all else: last, since it begins every name
}
"""The zips that the toolchain is stored in, by what each is for: uv is nine tenths of it, and a change of code alone
does without."""


@dataclass(frozen=True)
class Toolchain:
    """Dulwich, uv and a compressor, unpacked."""

    root: Path
    indexes: tuple[str, ...] = field(default=(), repr=False)
    """Addresses, with credentials, of private package indexes that uv asks first."""
    deflater: Deflater = ZLIB
    bring: Callable[[str], Future[Future[None]] | None] = field(default=lambda _: None, repr=False, compare=False)
    """Begins to fetch, and then to unpack, a part that a clone by HTTP does without, unless that was done before."""

    @property
    def packages(self) -> Path:
        """The directory to put on a child's PYTHONPATH."""
        return self.root / "site-packages"

    def wait(self, part: str) -> None:
        """Wait until a part is there; raise NotBootstrapped."""
        if fetched := self.bring(part):
            fetched.result().result()

    @property
    def uv(self) -> Path:
        """The uv program, once it is there."""
        self.wait("uv")
        return self.root / "bin" / "uv"


def requirement_group(text: str, name: str) -> str:
    """Return the lines of one group of our requirements.txt: those under its "# --- NAME: …" banner."""
    groups = re.split(r"^# --- ([a-z]+):.*$", text, flags=re.MULTILINE)
    found = dict(zip(groups[1::2], groups[2::2], strict=True))
    return found[name].strip() + "\n"


def toolchain_pins() -> str:
    """Return the requirements of the toolchain, pinned and hashed, as they travel with this file."""
    return requirement_group((HERE / "requirements.txt").read_text(), "toolchain")


def toolchain_inputs(builder: Builder) -> str:
    """Return a digest of all that decides what is in the toolchain."""
    return hashlib.sha256(f"{TOOLCHAIN_FORMAT}\n{builder.platform}\n{toolchain_pins()}".encode()).hexdigest()


def toolchain_pointer(builder: Builder) -> str:
    """Return the key of the small object that names the toolchain in use."""
    return f"toolchain/{builder.platform}.json"


def stored_toolchain(store: Store, builder: Builder, space: Workspace) -> dict[str, Any] | None:
    """Read which toolchain is stored for this builder; None if there is none, or one of other pins."""
    pointer = space.root / "toolchain.json"
    if store.download(toolchain_pointer(builder), pointer) is None:
        return None
    try:
        stored: dict[str, Any] = json.loads(pointer.read_bytes())
        parts = {part: str(stored["parts"][part]) for part in TOOLCHAIN_PARTS}
    except (ValueError, LookupError, TypeError):
        return None
    if stored.get("inputs") != toolchain_inputs(builder):
        return None
    return stored if all(re.fullmatch(r"[0-9a-f]{64}", sha256) for sha256 in parts.values()) else None


def toolchain_key(sha256: str) -> str:
    """Return the key of a toolchain's zip: its name is its content's digest."""
    return f"toolchain/{sha256}.zip"


def kept_toolchain(job: Job) -> Toolchain | None:
    """Unpack the toolchain, if what a clone by HTTP takes of it need not be fetched."""
    return lay_toolchain(job.toolchain, job) if job.toolchain and job.toolchain["parts"]["git"] in SHELF else None


def get_toolchain(job: Job, *soon: str) -> Toolchain:
    """Fetch, verify and unpack the toolchain; raise NotBootstrapped if there is none that fits."""
    if job.toolchain is None:
        raise NotBootstrapped(
            f"There is no toolchain for {job.builder.platform} and this version of yo-dawg at "
            f'{job.store.uri(toolchain_pointer(job.builder))}. Run "./deploy.sh bootstrap", or invoke '
            f'{job.builder.name} with {{"action": "bootstrap"}}.'
        )
    return lay_toolchain(job.toolchain, job, *soon)


def lay_toolchain(stored: Mapping[str, Any], job: Job, *soon: str) -> Toolchain:
    """Lay out what a clone by HTTP takes of a toolchain, and the rest aside, now or once it is needed."""
    space = job.space

    def fetch(part: str) -> Future[Former]:
        return job.aside.submit(fetch_toolchain, stored["parts"][part], job)

    def unpack(zipped: Future[Former]) -> Future[None]:
        return job.unpacking.submit(unzip, zipped.result(), zipped.result().names, space.toolchain)

    fetched = {part: fetch(part) for part in soon}
    toolchain, zipped = Toolchain(space.toolchain), fetch_toolchain(stored["parts"]["git"], job)
    first = [name for name in zipped.names if name.startswith("site-packages/deflate")]
    if "deflate" not in sys.modules:
        job.unpacking.submit(unzip, zipped, first, space.toolchain).result()
    deflater = load_deflater(toolchain)
    if (toolchain.packages / "deflate").exists():
        remove_tree(toolchain.packages / "deflate")  # a project's code must not find the file that we run
    bring = functools.cache(lambda part: job.aside.submit(unpack, fetched.get(part) or fetch(part)))
    for part in soon:
        bring(part)
    rest = [name for name in zipped.names if name not in first]
    job.unpacking.submit(unzip, zipped, rest, space.toolchain).result()
    job.shell.wake(git_worker_command(space))
    return replace(toolchain, deflater=deflater, bring=bring)


def fetch_toolchain(sha256: str, job: Job) -> Former:
    """Fetch one of the toolchain's zips; raise NotBootstrapped if it is not the one that was stored."""
    found, zipped = fetch_zip(toolchain_key(sha256), sha256, job)
    if zipped is None:
        problem = "is missing" if found is None else f"has been changed: its SHA-256 is {found}. It was not run"
        raise NotBootstrapped(
            f"The toolchain {job.store.uri(toolchain_key(sha256))} {problem}. Invoke {job.builder.name} with "
            '{"action": "bootstrap", "force": true} to make it again.'
        )
    zipped.at_once = MAX_PENDING_BYTES
    return zipped


def fetch_zip(key: str, sha256: str, job: Job) -> tuple[str | None, Former | None]:
    """Fetch a zip into a file without a name, or find it on the shelf; return its digest, in hex, and the zip.

    No zip if it has another digest than it should have, no digest if there is none.
    """
    if kept := SHELF.get(sha256):
        return sha256, kept
    owned = unnamed_file(job.space)
    found = job.store.copy(key, owned.file)
    if found != sha256:
        return found, None
    zipped = Former(owned.file)
    zipped.owner = owned
    SHELF.put(sha256, zipped)
    return found, zipped


def load_deflater(toolchain: Toolchain) -> Deflater:
    """Load libdeflate, which compresses better than zlib does and twice as fast, and is no other tomorrow.

    Its file is the one that was pinned, and nothing of a project has run by now.
    """
    loaded: Any = sys.modules.get("deflate")
    if loaded is None:
        # Not by sys.path: other threads import, too, and must not find Dulwich's urllib3.
        spec: Any = importlib.machinery.PathFinder.find_spec("deflate", [str(toolchain.packages), *sys.path])
        loaded = sys.modules["deflate"] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(loaded)
        except BaseException:
            del sys.modules["deflate"]
            raise
    compress = loaded.deflate_compress
    name = f"libdeflate {loaded.__version__}, level {'/'.join(str(level) for _, level in LEVELS)}"
    return Deflater(
        name, lambda content: compress(content, next(level for least, level in LEVELS if len(content) >= least))
    )


def store_toolchain(
    archives: Mapping[str, Archive], packages: Sequence[str], builder: Builder, store: Store
) -> dict[str, Any]:
    """Store a toolchain as the one in use; return what ``stored_toolchain`` will read."""
    parts = {part: archive.hex_digest for part, archive in archives.items()}
    made = {"inputs": toolchain_inputs(builder), "code": own_digest(), "parts": parts, "packages": packages}
    for archive in archives.values():
        store.upload_archive(toolchain_key(archive.hex_digest), archive)
    # The pointer goes last: whoever reads it finds what it points at.
    store.upload_json(toolchain_pointer(builder), made)
    return made


def git_worker_command(space: Workspace) -> Command:
    """Return the command of a git worker, to be prepared before anything else: its imports take longest."""
    toolchain = Toolchain(space.toolchain)
    return Command(
        program("yo_dawg.workshop.git"), space.root, {"PYTHONPATH": f"{HERE}:{toolchain.packages}"}, is_ours=True
    )


def builder_inputs(job: Job) -> list[Any]:
    """Return what of the builder itself has a say in what it makes: this file, its tools and settings."""
    ours, settings = [own_digest(), toolchain_inputs(job.builder)], job.settings
    return [*ours, sys.version, runtime_versions(), dict(settings.client), settings.index_secret]
