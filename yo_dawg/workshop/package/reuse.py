"""Taking dependencies over from the package before, if the same would be installed now."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tomllib
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yo_dawg.channel import MAX_KNOWN, read_answer
from yo_dawg.trees import make_folders
from yo_dawg.workshop.archive import record_digest
from yo_dawg.workshop.deflater import Deflater
from yo_dawg.workshop.package.install import Installed, normal
from yo_dawg.workshop.package.prune import Pruned, PrunedFile
from yo_dawg.workshop.package_zip import PackageZip, on_all_processors
from yo_dawg.workshop.requirement_files import REQUIREMENT_FILES, find_requirements, uncommented, whole_lines

if TYPE_CHECKING:
    from yo_dawg.jobs import PackageJob
    from yo_dawg.workshop.package.install import Installer
    from yo_dawg.workspace import Workspace

PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)\s*(?:\[[^\]]*\])?\s*(===?[^\s;,]+)\s*(?:;|--hash|$)")
"""A line of a requirements file that allows one version only."""

Lock = list[list[Any]]
"""Of each distribution that is installed its name, its version, and the hashes of its files on the index."""


@dataclass(frozen=True)
class Inputs:
    """What decides what is installed and pruned, other than what the package index has."""

    digest: str
    """SHA-256, in hex, of all of it."""
    pins: frozenset[str]
    """NAME==VERSION for all that the requirements allow one version of only."""


@dataclass(frozen=True)
class DependencyManifest:
    """The dependencies in a package, as they were before anything of the project's was there.

    It is stored beside each package.  A build that is to install the same takes the files from the function's last
    package, each of which must be what its distribution's RECORD said, and neither installs nor prunes.  It is
    no object that several functions share: what one project's build scripts have done to its dependencies can get
    into no other project's.
    """

    inputs: str
    """``Inputs.digest``."""
    lock: Lock | None
    """What was installed; None if some of it came from elsewhere than an index, or cannot be taken over."""
    pinned: bool
    """Whether the index has no say: each version is spelled out."""
    installed: Installed
    pruned: Pruned
    compiled: frozenset[str] = frozenset()
    """The files of bytecode that we made for dependencies."""
    members: Mapping[str, str] = field(default_factory=dict)
    """For each file in the package the digest of its content, see ``record_digest``."""

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold of it."""
        installed = {**vars(self.installed), "provided": sorted(self.installed.provided)}
        pruned = {"taken": dict(self.pruned.taken), "kept": dict(self.pruned.kept)}
        return {**vars(self), "installed": installed, "pruned": pruned, "compiled": sorted(self.compiled)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> DependencyManifest:
        """Read what ``to_json`` wrote; raise TypeError, ValueError or LookupError for what is of another version."""
        installed = {**value["installed"], "names": tuple(value["installed"]["names"])}
        installed["provided"] = frozenset(installed["provided"])
        taken = {name: PrunedFile(*each) for name, each in value["pruned"]["taken"].items()}
        pruned = Pruned(taken, value["pruned"]["kept"])
        compiled = frozenset(value["compiled"])
        return cls(**{**value, "installed": Installed(**installed), "pruned": pruned, "compiled": compiled})


@dataclass(frozen=True)
class PreviousPackage:
    """The package that the function runs now, and what is known of the dependencies in it."""

    zipped: PackageZip
    manifest: DependencyManifest

    @classmethod
    def read(cls, file: int | None, known: int | None, deflater: Deflater) -> PreviousPackage | None:
        """Read a zip and its manifest in open files; None if there are none, or they make no sense."""
        if file is None or known is None:
            return None
        with contextlib.suppress(ValueError, TypeError, LookupError, AttributeError, zipfile.BadZipFile, OSError):
            return cls(PackageZip(file, deflater), DependencyManifest.from_json(read_answer(known, MAX_KNOWN)))
        return None


def install_inputs(installer: Installer, job: PackageJob) -> Inputs:
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
    if source and installer.requirements and source.name in ("uv.lock", "setup.cfg"):
        required.append(installer.requirements.read_text())
    lines = [line for text in required for each in whole_lines(text) if (line := uncommented(each).strip())]
    pins = frozenset(normal("".join(found)) for line in lines for found in PIN.findall(line))
    everything = [job.builder, installer.indexes, sorted(texts.items()), required]
    return Inputs(hashlib.sha256(json.dumps(everything).encode()).hexdigest(), pins)


def lock_of(text: str | None) -> Lock | None:
    """Return what a pylock.toml would install (PEP 751); None if some of it comes from elsewhere than an index.

    What lies in a folder, in a repository or at an address may be another tomorrow, under the same version.
    """
    try:
        packages = tomllib.loads(text or "").get("packages", [])
        lock = [[each["name"], each["version"], sorted(hashes(each))] for each in packages]
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
    return sorted(lock) if text and all(files for _, _, files in lock) else None


def hashes(package: Mapping[str, Any]) -> Iterable[str]:
    """Yield the hashes of a distribution's files; raise ValueError for one that is not on an index."""
    if package.keys() & {"directory", "vcs", "archive"}:
        raise ValueError("it is in the repository, or at an address")
    for each in (*package.get("wheels", ()), *filter(None, [package.get("sdist")])):
        if "path" in each or not str(each.get("url", "")).startswith(("https://", "http://")):
            raise ValueError("it is a file")
        yield json.dumps(each["hashes"], sort_keys=True)


def locked(installer: Installer) -> Lock | None:
    """Ask uv what it would install now; None if not all of that can be taken over.

    Nor can anything be where the project's own build says what it needs: it runs, and could change what is installed.
    """
    if installer.checkout.required.repositories or installer.with_itself:
        return None
    source = installer.requirements
    if source is None and not installer.groups:
        return []
    if source and source.name == "pylock.toml":
        return lock_of(source.read_text(errors="replace"))
    return None if source and is_built(source) else lock_of(installer.resolve())


def is_built(source: Path) -> bool:
    """Say whether the project's own build says what it needs."""
    if source.name == "pyproject.toml":
        project = tomllib.loads(source.read_text()).get("project")
        return not isinstance(project, dict) or "dynamic" in project
    return source.name == "setup.py"


def still_fits(manifest: DependencyManifest, inputs: Inputs, installer: Installer) -> bool:
    """Say whether what would be installed now is what the manifest holds."""
    if manifest.lock is None or manifest.inputs != inputs.digest:
        return False
    return manifest.pinned or locked(installer) == manifest.lock


def unpack_dependencies(previous: PreviousPackage, space: Workspace) -> bool:
    """Write a package's dependencies into staging, and into pruned/ what was put back; say whether they are whole."""
    digests, taken = previous.manifest.installed.digests, previous.manifest.pruned.taken
    there = [name for name in previous.zipped.members if name in digests]
    if digests.keys() - taken.keys() - set(there):
        return False
    make_folders((name for name in there if name not in taken), space.staging)
    make_folders((name for name in there if name in taken), space.pruned)

    def write(name: str) -> bool:
        target = f"{space.pruned if name in taken else space.staging}/{name}"
        if record_digest(previous.zipped.extract(name, target)) == digests[name]:
            return True
        os.unlink(target)
        return name in taken

    return on_all_processors(write, there)


def make_manifest(
    inputs: Inputs, lock: Lock | None, installed: Installed, pruned: Pruned, names: Iterable[str]
) -> DependencyManifest:
    """Describe what was installed (the names of its files) and pruned; without a lock if it cannot be taken over."""
    every = set(names)
    left = every - pruned.taken.keys()
    is_whole = left <= installed.digests.keys() and all("==" in pin for pin in installed.pins)
    digests = {name: digest for name, digest in installed.digests.items() if name in every}
    pins = {normal(f"{name}=={version}") for name, version, _ in lock or ()}
    return DependencyManifest(
        inputs=inputs.digest,
        lock=lock if is_whole else None,
        pinned=lock is not None and pins <= inputs.pins,
        installed=Installed(**{**vars(installed), "digests": digests}),
        pruned=pruned,
    )
