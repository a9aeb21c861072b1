"""The stages of a package, each of which takes values and returns values; ``__main__`` has them in their order."""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from yo_dawg.limits import LARGEST
from yo_dawg.text import printable, size
from yo_dawg.trees import walk
from yo_dawg.workshop.archive import CompressedCache, CompressingAhead, WrittenZip, write_zip
from yo_dawg.workshop.package.bytecode import compile_ahead, lay_previous_bytecode, write_bytecode
from yo_dawg.workshop.package.compiler import Digests
from yo_dawg.workshop.package.install import Installed, Installer, leave_to_runtime, look_at_installed
from yo_dawg.workshop.package.prove import Proof, prove_all
from yo_dawg.workshop.package.prune import Pruned, keep_imported, prune
from yo_dawg.workshop.package.records import same_files, write_records
from yo_dawg.workshop.package.reuse import (
    DependencyManifest,
    PreviousPackage,
    install_inputs,
    locked,
    make_manifest,
    still_fits,
    unpack_dependencies,
)
from yo_dawg.workshop.package.rules import Rules, read_rules
from yo_dawg.workshop.package.sizes import check_size, package_sizes
from yo_dawg.workshop.package.stage import Staged, offer, stage, still_left_out
from yo_dawg.workshop.package.verdict import check_proof
from yo_dawg.workspace import Workspace, remove_tree

if TYPE_CHECKING:
    from yo_dawg.checkout import Checkout
    from yo_dawg.trees import Listing
    from yo_dawg.workshop.package.work import Work


@dataclass(frozen=True)
class Dependencies:
    """What was installed, and what of it was pruned."""

    manifest: DependencyManifest
    installed: Installed
    pruned: Pruned
    rules: Rules
    listing: Listing
    """The files that stay, as they lie in staging."""


def bring_dependencies(work: Work, installer: Installer, previous: PreviousPackage | None) -> Dependencies | None:
    """Install what the project requires, or take it over from the package before; then prune it.

    None if the package before is the one that would be made.
    """
    space, report = work.space, work.report
    with report.step("install", "[3/8] install requirements"):
        inputs = install_inputs(installer, work.job)  # before any code runs that could change what is read for it
        fits = previous is not None and still_fits(previous.manifest, inputs, installer)
        if fits and work.job.may_be_unchanged:
            return None
        manifest = previous.manifest if previous and fits and unpack_dependencies(previous, space) else None
        if manifest:
            installed = manifest.installed
            report.detail(f"{len(installed.names)} packages, as they were in the package before")
        else:
            empty(space)
            lock = locked(installer)  # before any code runs, again
            installer.install(space.staging)
            installed = look_at_installed(space.staging)
            report.detail(f"{len(installed.names)} packages")
    with report.step("prune", "[4/8] prune dependencies"):
        rules = read_rules(installer, manifest.pruned.taken if manifest else ())
        if manifest:
            pruned = replace(manifest.pruned, bring=functools.partial(installer.install, space.pruned))
        else:
            listing = walk(space.staging)
            installed = leave_to_runtime(installer, installed) if rules.runtime_boto3 else installed
            pruned = prune(listing, installed, rules, space)
            manifest = make_manifest(inputs, lock, installed, pruned, (name for name, _, _ in listing))
        report.detail(f"{pruned.files} files, {size(pruned.bytes)}: {', '.join(pruned.reasons) or 'nothing'}")
    return Dependencies(manifest, installed, pruned, rules, walk(space.staging))


@dataclass(frozen=True)
class Staging:
    """The project over its dependencies."""

    pruned: Pruned
    """What lies aside, the project's own files that were left out among it."""
    laid: Mapping[str, Digests]
    """The bytecode of the package before that was laid, see ``lay_previous_bytecode``."""
    told: Staged
    """What is told of the project's files."""


def stage_project(
    work: Work, checkout: Checkout, dependencies: Dependencies, previous: PreviousPackage | None
) -> Staging:
    """Lay the project over its dependencies; raise BuildScriptError, PackageError."""
    space, report, installed = work.space, work.report, dependencies.installed
    has_script = (checkout.project / "make_dist.sh").is_file()
    with report.step("stage", f"[5/8] {'run make_dist.sh' if has_script else 'stage the project'}"):
        handlers = [target.handler for target in work.job.functions]
        staged = stage(checkout, dependencies.rules, work.shell, report, handlers, report.doing)
        report.doing("")
        pruned = offer(dependencies.pruned, staged)
        listing = walk(space.staging)
        pruned = keep_imported(listing, installed, pruned, space)
        keeps_bytecode = previous is not None and work.job.bytecode != "none"
        laid = lay_previous_bytecode(listing, previous, installed) if previous and keeps_bytecode else {}
    return Staging(pruned, laid, staged)


@dataclass(frozen=True)
class Proven:
    """A package whose handlers were imported."""

    proof: Proof
    """Of all of them together."""
    pruned: Pruned
    laid: Mapping[str, Digests]
    """Bytecode that lies in staging, and the digests of its source and of itself."""
    warnings: Sequence[str]


def prove_package(work: Work, dependencies: Dependencies, staging: Staging, ahead: CompressingAhead) -> Proven:
    """Import the handlers, while what will most likely ship is compressed; raise PackageError."""
    space, installed = work.space, dependencies.installed
    handlers = ", ".join(target.handler for target in work.job.functions)
    with work.report.step("prove", f"[6/8] prove that {handlers} can be imported"):
        listing = walk(space.staging)
        records = write_records(space.staging, listing, installed, same_files(dependencies.listing, listing))
        compiles = work.job.bytecode != "none" and work.job.proof != "off"
        laid = {**staging.laid, **(compile_ahead(listing, installed, work) if compiles else {})}
        ahead.start(listing)
        proofs, pruned = prove_all(staging.pruned, work)
        if pruned.taken.keys() != staging.pruned.taken.keys():
            now = walk(space.staging)
            write_records(space.staging, now, installed, same_files(dependencies.listing, now), records)
        warnings = [
            warning for target, proof in proofs for warning in check_proof(proof, target, work.job.proof, space.staging)
        ]
    loaded = frozenset().union(*(proof.loaded for _, proof in proofs))
    together = Proof(
        loaded=loaded,
        imports=proofs[0][1].imports,  # of several functions, those of the first
        layer_bytes=max(proof.layer_bytes for _, proof in proofs),
    )
    return Proven(together, pruned, laid, warnings)


def zip_package(
    work: Work, dependencies: Dependencies, proven: Proven, cache: CompressedCache, ahead: CompressingAhead
) -> tuple[WrittenZip, Counter[str], DependencyManifest, Sequence[str]]:
    """Compile what the import loaded, and zip; return what was written, the sizes, the manifest and warnings.

    Raises PackageError if Lambda would not take the package.
    """
    installed = dependencies.installed
    with work.report.step("zip", "[7/8] compile and zip"):
        ahead.stop()  # the compiler forks, which no thread may run beside
        compiled = write_bytecode(proven.proof, proven.laid, installed, work)
        sizes = package_sizes(compiled.files, installed.owners)
        check_size(sizes, proven.proof.layer_bytes, proven.pruned, compiled.files, installed.owners)
        if ahead.failure:
            work.report.detail(f"not compressed ahead: {type(ahead.failure).__name__}: {printable(str(ahead.failure))}")
        written = write_zip(compiled.files, work.files["package"], cache, compiled.digests)
        zipped = os.fstat(work.files["package"]).st_size
        work.report.detail(f"{len(written.members)} files, {size(written.unzipped_bytes)}, zipped {size(zipped)}")
    manifest = replace(dependencies.manifest, compiled=compiled.ours, members=written.members)
    return written, sizes, manifest, compiled.warnings


def summary(
    installed: Installed, proven: Proven, staging: Staging, sizes: Counter[str], written: WrittenZip
) -> dict[str, Any]:
    """Return what build's answer says of the package (contract §5)."""
    pruned = proven.pruned
    return {
        "unzipped_bytes": written.unzipped_bytes,
        "files": len(written.members),
        "largest": [list(each) for each in sizes.most_common(LARGEST)],
        "dependencies": list(installed.names),
        "dependency_records": dict(installed.records),
        "pruned": {
            "files": pruned.files,
            "bytes": pruned.bytes,
            "reasons": dict(pruned.reasons),
            "kept": dict(pruned.kept),
        },
        "imports": [list(each) for each in proven.proof.imports],
        "left_out": still_left_out(staging.told, proven.pruned),
    }


def empty(space: Workspace) -> None:
    """Take out of staging what turned out not to be whole."""
    for folder in (space.staging, space.pruned):
        if any(folder.iterdir()):
            remove_tree(folder)
            folder.mkdir(mode=0o700)
