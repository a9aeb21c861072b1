"""Taking dependencies over from the package before."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import tomllib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from yo_dawg.archives import MAX_SHELF_BYTES, SHELF, Kept
from yo_dawg.checkout import REQUIREMENT_FILES, find_requirements, uncommented, whole_lines
from yo_dawg.control.toolchain import builder_inputs
from yo_dawg.digests import digest_of, in_record
from yo_dawg.errors import PackageError
from yo_dawg.trees import entries_below, folders_above, make_folders, remove_empty_directories, since_when, walk
from yo_dawg.workshop.package.bytecode import bytecode_digest, source_of
from yo_dawg.workshop.package.install import Installed, normal
from yo_dawg.workshop.package.prune import Pruned, Taken
from yo_dawg.workspace import remove_tree

if TYPE_CHECKING:
    from yo_dawg.archives import Former
    from yo_dawg.control.job import Job
    from yo_dawg.control.package import Made
    from yo_dawg.trees import Identity, Listing
    from yo_dawg.workshop.package.install import Installer
    from yo_dawg.workspace import Workspace

PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)\s*(?:\[[^\]]*\])?\s*(===?[^\s;,]+)\s*(?:;|--hash|$)")
"""A line of a requirements file that allows one version only."""


@dataclass(frozen=True)
class Bundle:
    """The dependencies in a package, as they were before anything of the project's was there.

    It is stored beside each package (bundles/FUNCTION/SHA256.json).  A build that is to install the same
    takes the files from the function's last package, each of which must be what its distribution's
    RECORD says, and neither installs nor prunes.  They are no object that several functions share: what
    one project's build scripts have done to its dependencies can get into no other project's.
    """

    inputs: str
    """Digest of all that decides what is installed and pruned, other than what the package index has."""
    pinned: bool
    """Whether the index has no say: each version is spelled out."""
    installed: Installed
    pruned: Pruned
    compiled: Mapping[str, str] = field(default_factory=dict)
    """For each file of bytecode that we made for dependencies, what ``bytecode_digest`` says of it."""
    build: str = ""
    """Digest of all that decided what is in the package, see ``build_inputs``."""
    result: Mapping[str, Any] = field(default_factory=dict)
    """What was told of the package."""

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold of it."""
        installed = {**vars(self.installed), "provided": sorted(self.installed.provided)}
        pruned = {"taken": dict(self.pruned.taken), "kept": dict(self.pruned.kept)}
        return {**vars(self), "installed": installed, "pruned": pruned}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Bundle:
        """Read what ``to_json`` wrote; raise TypeError, ValueError or LookupError for what is of another version."""
        installed = {**value["installed"], "names": tuple(value["installed"]["names"])}
        installed["provided"] = frozenset(installed["provided"])
        taken = {name: Taken(*each) for name, each in value["pruned"]["taken"].items()}
        return cls(**{**value, "installed": Installed(**installed), "pruned": Pruned(taken, value["pruned"]["kept"])})


@dataclass(frozen=True)
class Inputs:
    """What decides what is installed and pruned, other than what the package index has."""

    digest: str
    """Of all of it; none if something of the repository, or at an address, may be built or installed."""
    pins: frozenset[str]
    """NAME==VERSION for all that the requirements allow one version of only."""


def install_inputs(installer: Installer, job: Job) -> Inputs:
    """Return what decides what is installed; read before anything is, since what is built then might rewrite it."""
    checkout, source = installer.checkout, find_requirements(installer.checkout.project)
    folders = [each for each in (checkout.project, *checkout.project.parents) if each.is_relative_to(checkout.root)]
    places = [folder / name for folder in folders for name in (*REQUIREMENT_FILES, "uv.toml", ".python-version")]
    texts = {
        str(path.relative_to(checkout.root)): path.read_text(errors="surrogateescape")
        for path in places
        if path.is_file()
    }
    required = [text for _, text in sorted(checkout.required.texts.items())]
    if source and installer.requirements and source.name == "uv.lock":
        required.append(installer.requirements.read_text())
    lines = [line for text in required for each in whole_lines(text) if (line := uncommented(each).strip())]
    pins = frozenset(normal("".join(found)) for line in lines for found in PIN.findall(line))
    try:
        from_indexes = not checkout.required.origins and all(map(FROM_INDEX.fullmatch, lines))
        for name, text in texts.items():
            from_indexes = from_indexes and is_from_indexes(PurePosixPath(name).name, text, source)
    except (ValueError, RecursionError, TypeError, AttributeError):
        from_indexes = False  # the next stage says what is wrong with it
    everything = [builder_inputs(job), installer.toolchain.indexes, sorted(texts.items()), required]
    return Inputs(digest_of(everything) if from_indexes else "", pins)


FROM_INDEX = re.compile(
    r"""
    # A name and what versions of it; not a file, a folder or an address.
    (?!\S+\.(?:whl|zip|t[bglx]z|tar(?:\.\w+)?)(?:\s|$)) [A-Za-z0-9] [\w.-]* \s* (?:\[[\w\s.,-]*\])? [^/@:\\]*
        (?:--hash[=\s]\S+\s*)*
    | (?:-r|-c|--requirement|--constraint) [=\s]\s* (?!\S*:)\S+\.(?:txt|in)  # whose lines are looked at, too
    | (?:-i|-f|--index-url|--extra-index-url|--find-links) [=\s]\s* (?:https?://|/)\S+
    | --no-index | --pre | --prefer-binary | --require-hashes | (?:--only-binary|--no-binary|--trusted-host) [=\s].*
    """,
    re.VERBOSE,
)
"""A line of a requirements file that has nothing of the repository installed."""

UV_INDEXES = ("index", "index-url", "extra-index-url", "find-links")

UV_PLAIN = {
    *UV_INDEXES, "default-groups", "dev-dependencies", "exclude-newer", "index-strategy", "managed", "no-index",
    "package", "prerelease", "required-version", "resolution",
}  # fmt: skip
"""Settings of uv that have nothing of the repository installed, if the addresses of the first are addresses."""


def is_from_indexes(name: str, text: str, source: Path | None) -> bool:
    """Say whether a TOML file has nothing of the repository installed; raise ValueError or the like."""
    if name not in ("pyproject.toml", "uv.toml", "pylock.toml"):
        return True
    table = tomllib.loads(text)
    is_source = source is not None and source.name == name
    if name == "pylock.toml":
        packages = table["packages"]
        kept = [
            each for package in packages for each in (package, package.get("sdist", {}), *package.get("wheels", ()))
        ]
        return not is_source or not any(each.keys() & {"directory", "vcs", "archive", "path"} for each in kept)
    settings = table if name == "uv.toml" else table.get("tool", {}).get("uv", {})
    places = [settings.get(key, []) for key in UV_INDEXES]
    listed = [each for place in places for each in ([place] if isinstance(place, str) else place)]
    addresses = [each["url"] if isinstance(each, dict) else each for each in listed]
    if settings.keys() - UV_PLAIN or not all(re.match("https?://|/", each) for each in addresses):
        return False
    project = table.get("project", {}) if is_source else {}
    return "dependencies" not in project.get("dynamic", ()) and all(
        map(FROM_INDEX.fullmatch, project.get("dependencies", ()))
    )


def make_bundle(inputs: Inputs, installed: Installed, pruned: Pruned, listing: Listing) -> Bundle:
    """Describe what was installed, as listed, and pruned; without inputs if not all of it can be taken over."""
    left = {name for name, _, _ in listing} - pruned.taken.keys()
    whole = left <= installed.digests.keys() and all("==" in pin for pin in installed.pins)
    digests = {name: digest for name, digest in installed.digests.items() if name in left or name in pruned.taken}
    return Bundle(
        inputs=inputs.digest if whole else "",
        pinned=bool(inputs.digest) and whole and installed.pins <= inputs.pins,
        installed=replace(installed, digests=digests),
        pruned=pruned,
    )


def still_fits(bundle: Bundle, inputs: Inputs, installer: Installer, job: Job) -> bool:
    """Say whether what would be installed now is what the bundle holds."""
    if not inputs.digest or bundle.inputs != inputs.digest:
        return False
    if bundle.pinned:
        return True
    with job.log.step("resolve", "[3/8] look whether the requirements mean what they did"):
        return installer.resolve() == bundle.installed.pins


def unpack_bundle(bundle: Bundle, former: Former, space: Workspace) -> bool:
    """Write a bundle's files into staging, and into pruned/ what was put back; say whether they are what they were."""
    digests, taken = bundle.installed.digests, bundle.pruned.taken
    there = [name for name in former.names if name in digests]
    if digests.keys() - taken.keys() - set(there):
        return False

    make_folders((name for name in there if name not in taken), space.staging)
    make_folders((name for name in there if name in taken), space.pruned)

    def write(name: str) -> bool:
        target, digest = f"{space.pruned if name in taken else space.staging}/{name}", hashlib.sha256()
        former.extract(name, target, digest.update)
        if in_record(digest) == digests[name]:
            return True
        os.unlink(target)
        return name in taken

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return all([*pool.map(write, there)])


def take_kept(code_sha256: str, former: Former, space: Workspace) -> bool:
    """Let the kept dependencies of this package be staging; say whether they are what they were."""
    kept = SHELF.kept
    if kept is None or kept.package != code_sha256:
        return False
    SHELF.kept = None
    with contextlib.suppress(OSError, PackageError):  # it is gone, say
        os.rmdir(space.staging)
        os.rename(space.kept, space.staging)
        found = {name: since_when(status) for name, _, status in walk(space.staging)}
        folders = {
            entry.path for entry in entries_below(space.staging) if entry.is_dir()
        }  # an empty one can be imported
        meant = {f"{space.staging}/{folder}" for name in kept.files for folder in folders_above(name)}
        if (found, folders) == (kept.files, meant) and not space.staging.is_symlink():
            former.written |= kept.files
            return True
    return False


def drop_kept(space: Workspace) -> None:
    """Remove the dependencies that were kept."""
    SHELF.kept = None
    if os.path.lexists(space.kept):
        remove_tree(space.kept)


def keep_dependencies(made: Made, written: Mapping[str, tuple[Identity, int]], space: Workspace) -> None:
    """Keep a package's dependencies and their bytecode for the next build, each if it is what it was when it was made.

    Nothing of a project runs any more, or will before they are read-only.
    """
    bundle, there = made.bundle, {name: path for name, path, _ in made.files}
    digests, taken = bundle.installed.digests, bundle.pruned.taken
    total = sum(status.st_size for _, _, status in made.files)
    is_plain = not taken.keys() & there.keys() and not digests.keys() - taken.keys() - there.keys()
    if not (bundle.inputs and is_plain and total <= MAX_SHELF_BYTES):
        return
    files = {}
    for name, path, status in made.files:
        if source_of(name) not in digests:
            os.unlink(f"{space.staging}/{name}")  # the project's
            continue
        digest = bundle.compiled.get(name) or digests.get(name)
        if written.get(name) != since_when(status):
            content = path.read_bytes()
            is_ours = name in bundle.compiled
            found = bytecode_digest(there[source_of(name)], content) if is_ours else in_record(hashlib.sha256(content))
            if found != digest or str(path) != f"{space.staging}/{name}":
                return
        if status.st_mode & 0o222:
            path.chmod(0o555 if status.st_mode & stat.S_IXUSR else 0o444)
        files[name] = since_when(path.lstat())
    for entry in [*entries_below(space.staging)][::-1]:
        if entry.is_dir(follow_symlinks=False):
            with contextlib.suppress(OSError):  # it is not empty
                os.rmdir(entry.path)
    if files and not os.access(space.staging / next(iter(files)), os.W_OK):  # nobody is above such rights here
        os.rename(space.staging, space.kept)
        SHELF.kept = Kept(made.archive.sha256, files)


def open_dependencies(compiled: Iterable[str], staging: Path) -> None:
    """Let make_dist.sh find the dependencies of the package before as it finds new ones: writable, without bytecode."""
    for name in compiled:
        with contextlib.suppress(OSError):
            os.unlink(staging / name)
    remove_empty_directories({staging / os.path.dirname(name) for name in compiled}, staging)
    for _, path, status in walk(staging):
        path.chmod(stat.S_IMODE(status.st_mode) | stat.S_IWUSR)
