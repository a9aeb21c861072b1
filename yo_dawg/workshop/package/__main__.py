"""The package program: of a checkout it makes the package that Lambda is to run.

``python -m yo_dawg.workshop.package`` holds no credentials of AWS.  What it writes its package and its answer into are
open files that the handler gave it: no code of the project can put others in their place, nor look into this process.
"""

from __future__ import annotations

import functools
import os
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yo_dawg.disk import disk_troubles
from yo_dawg.jobs import PackageJob
from yo_dawg.limits import LARGEST
from yo_dawg.process import Shell
from yo_dawg.report import Report
from yo_dawg.text import size
from yo_dawg.trees import walk
from yo_dawg.workshop.archive import CompressedCache, CompressingAhead, Deflater, WrittenZip, load_deflater, write_zip
from yo_dawg.workshop.handover import take_over
from yo_dawg.workshop.package.bytecode import compile_ahead, lay_previous_bytecode, write_bytecode
from yo_dawg.workshop.package.install import (
    Installed,
    Installer,
    leave_to_runtime,
    look_at_installed,
)
from yo_dawg.workshop.package.prove import Proof, prove_all
from yo_dawg.workshop.package.prune import Pruned, keep_imported, prune
from yo_dawg.workshop.package.reuse import (
    PreviousPackage,
    install_inputs,
    locked,
    make_manifest,
    still_fits,
    unpack_dependencies,
)
from yo_dawg.workshop.package.rules import read_patterns, read_rules
from yo_dawg.workshop.package.sizes import check_size, package_sizes
from yo_dawg.workshop.package.stage import stage
from yo_dawg.workshop.package.verdict import check_proof
from yo_dawg.workshop.package.work import Work
from yo_dawg.workshop.program import environment, serve
from yo_dawg.workshop.requirement_files import is_own_package, unread_requirements
from yo_dawg.workshop.toolchain import Toolchain
from yo_dawg.workspace import Workspace, remove_tree

if TYPE_CHECKING:
    from yo_dawg.checkout import Checkout


def make_package(work: Work, checkout: Checkout, deflater: Deflater) -> dict[str, Any]:
    """Install, prune, stage, prove, compile and zip; what has not changed is taken from the package before.

    Returns the handler's answer.  Raises DependencyError, BuildScriptError, PackageError, ConfigError.
    """
    job, space, report = work.job, work.space, work.report
    read_patterns(checkout.project)  # what makes no sense is refused before the work
    get_uv = functools.cache(lambda: unpacked_uv(work))
    modules = [target.handler.rpartition(".")[0] for target in job.functions]
    own = is_own_package(checkout.project, modules)
    installer = Installer(checkout, get_uv, job.platform, space, work.shell, job.indexes, own)
    unread = unread_requirements(checkout.project)
    if unread and job.proof == "warn":  # what is not installed must not be missing
        work = replace(work, job=replace(job, proof="require"))
        job = work.job
    previous = PreviousPackage.read(work.files.get("previous"), job.manifest, deflater)
    cache = CompressedCache(deflater)
    if previous:
        cache.add_package(previous.zipped, previous.manifest.members)
    with tempfile.TemporaryFile(dir=space.root) as spool:
        ahead = CompressingAhead(cache, spool.fileno())

        with report.step("install", "[3/8] install requirements"):
            inputs = install_inputs(installer, job)  # before any code runs that could change what is read for it
            fits = previous is not None and still_fits(previous.manifest, inputs, installer)
            if fits and job.may_be_unchanged:
                return {"unchanged": True}
            if previous and fits and unpack_dependencies(previous, space):
                manifest = previous.manifest
                installed = manifest.installed
                report.quote(f"{len(installed.names)} packages, as they were in the package before")
            else:
                empty(space)
                lock = locked(installer)  # before any code runs that could change what is read for it
                installer.install(space.staging)
                manifest, installed = None, look_at_installed(space.staging, checkout.required.origins)
                report.quote(f"{len(installed.names)} packages")

        with report.step("prune", "[4/8] prune dependencies"):
            rules = read_rules(installer, manifest.pruned.taken if manifest else ())
            if manifest:
                bring = functools.partial(installer.install, space.pruned)
                pruned = replace(manifest.pruned, bring=bring)
            else:
                listing = walk(space.staging)
                installed = leave_to_runtime(installer, installed)
                pruned = prune(listing, installed, rules, space)
                manifest = make_manifest(inputs, lock, installed, pruned, (name for name, _, _ in listing))
            report.quote(f"{pruned.files} files, {size(pruned.bytes)}: {', '.join(pruned.reasons) or 'nothing'}")

        has_script = (checkout.project / "make_dist.sh").is_file()
        title = "run make_dist.sh" if has_script else "stage the project"
        with report.step("stage", f"[5/8] {title}"):
            if has_script:
                report.doing("make_dist.sh")
            stage(checkout, rules, work.shell, report)
            report.doing("")
            listing = walk(space.staging)
            pruned = keep_imported(listing, installed, pruned, space)
            laid = lay_previous_bytecode(listing, previous, installed) if previous and job.bytecode != "none" else {}
            warnings = [
                *checkout.warnings,
                *unread,
                *installer.settings.warnings,
                *(each for told in installer.told_versions for each in told.warnings),
                *rules.warnings,
            ]

        handlers = ", ".join(target.handler for target in job.functions)
        with report.step("prove", f"[6/8] prove that {handlers} can be imported"):
            listing = walk(space.staging)
            ahead.start(listing)
            if job.bytecode != "none" and job.proof != "off":
                laid |= compile_ahead(listing, installed, work)
            proofs, pruned = prove_all(pruned, work)
            warnings += [
                each for target, proof in proofs for each in check_proof(proof, target, job.proof, space.staging)
            ]

        with report.step("zip", "[7/8] compile and zip"):
            proof = Proof(
                loaded=frozenset().union(*(each.loaded for _, each in proofs)),
                layer_bytes=max(each.layer_bytes for _, each in proofs),
            )
            compiled = write_bytecode(proof, laid, installed, work)
            sizes = package_sizes(compiled.files, installed.owners)
            check_size(sizes, proof.layer_bytes, pruned)
            ahead.stop()
            written = write_zip(compiled.files, work.files["package"], cache)
            zipped = os.fstat(work.files["package"]).st_size
            report.quote(f"{len(written.members)} files, {size(written.unzipped_bytes)}, zipped {size(zipped)}")

    manifest = replace(manifest, compiled=compiled.digests, members=written.members)
    warnings += compiled.warnings
    return {**told(installed, pruned, sizes, written, warnings), "manifest": manifest.to_json()}


def unpacked_uv(work: Work) -> Path:
    """Unpack uv, which a change of code alone does without."""
    toolchain = Toolchain(work.space.toolchain)
    toolchain.unpack(work.files["uv"])
    return toolchain.uv


def told(
    installed: Installed, pruned: Pruned, sizes: Counter[str], written: WrittenZip, warnings: list[str]
) -> dict[str, Any]:
    """Return what build's answer says of the package (contract §5)."""
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
        "warnings": warnings,
    }


def empty(space: Workspace) -> None:
    """Take out of staging what turned out not to be whole."""
    for folder in (space.staging, space.pruned):
        if any(folder.iterdir()):
            remove_tree(folder)
            folder.mkdir(mode=0o700)


def work(message: Mapping[str, Any], files: Mapping[str, int], report: Report) -> dict[str, Any]:
    """Do the program's job, a ``PackageJob``."""
    job = PackageJob.from_json(message)
    space = Workspace(Path(job.workspace))
    # All that this process takes from the toolchain it loads now: what a project's code writes there comes too late.
    deflater = load_deflater(Toolchain(space.toolchain).packages)
    checkout = take_over(job.subdirectory, space)
    with disk_troubles(space):
        return make_package(Work(job, files, space, Shell(environment(), report), report), checkout, deflater)


if __name__ == "__main__":
    serve(work)
