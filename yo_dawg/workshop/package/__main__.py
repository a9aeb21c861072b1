"""The package program: of a checkout it makes the package that Lambda is to run.

``python -m yo_dawg.workshop.package`` holds no credentials of AWS.  What it writes its package and its answer into are
open files that the handler gave it: no code of the project can put others in their place, nor look into this process.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yo_dawg.channel import write_answer
from yo_dawg.disk import disk_troubles
from yo_dawg.jobs import PackageJob
from yo_dawg.process import Shell
from yo_dawg.report import Report
from yo_dawg.workshop.archive import CompressedCache, CompressingAhead
from yo_dawg.workshop.deflater import Deflater, load_deflater
from yo_dawg.workshop.handover import take_over
from yo_dawg.workshop.package.install import Installer, RepositoriesAsked, normal
from yo_dawg.workshop.package.reuse import PreviousPackage
from yo_dawg.workshop.package.rules import read_patterns
from yo_dawg.workshop.package.stages import bring_dependencies, prove_package, stage_project, summary, zip_package
from yo_dawg.workshop.package.work import Work
from yo_dawg.workshop.program import environment, serve
from yo_dawg.workshop.requirement_files import is_own_package, unread_requirements
from yo_dawg.workshop.tools import Toolchain
from yo_dawg.workspace import Workspace

if TYPE_CHECKING:
    from yo_dawg.checkout import Checkout


def make_package(work: Work, checkout: Checkout, deflater: Deflater) -> dict[str, Any]:
    """Install, prune, stage, prove, compile and zip; what has not changed is taken from the package before.

    Returns the handler's answer.  Raises DependencyError, BuildScriptError, PackageError, ConfigError.
    """
    read_patterns(checkout.project)  # what makes no sense is refused before the work
    unread = unread_requirements(checkout.project)
    if unread and work.job.proof == "warn":  # nobody installs these: it must be shown that they are not needed
        work = replace(work, job=replace(work.job, proof="require"))
    installer = make_installer(work, checkout, deflater)
    previous = PreviousPackage.read(work.files.get("previous"), work.files.get("known"), deflater)
    cache = CompressedCache(deflater)
    if previous:
        cache.add_package(previous.zipped, previous.manifest.members)

    with tempfile.TemporaryFile(dir=work.space.root) as spool, CompressingAhead(cache, spool.fileno()) as ahead:
        dependencies = bring_dependencies(work, installer, previous)
        if dependencies is None:
            return {"unchanged": True}
        staging = stage_project(work, checkout, dependencies, previous)
        proven = prove_package(work, dependencies, staging, ahead)
        written, sizes, manifest, more = zip_package(work, dependencies, proven, cache, ahead)

    write_answer(work.files["dependencies"], manifest.to_json())
    built = {normal(name.split()[0]) for name in dependencies.installed.names if " @ git+" in name} | {""}
    versions = [
        warning
        for told in installer.told_versions
        if told.folder == checkout.project or normal(told.name) in built
        for warning in told.warnings
    ]
    return {
        **summary(dependencies.installed, proven, staging, sizes, written),
        "warnings": [
            *checkout.warnings, *unread, *installer.settings.warnings, *versions, *dependencies.rules.warnings,
            *staging.told.warnings, *proven.warnings, *more,
        ],
        "pinned": manifest.pinned,
    }  # fmt: skip


def make_installer(work: Work, checkout: Checkout, deflater: Deflater) -> Installer:
    """Return uv, ready for the project; it is unpacked when it is needed, and a change of code alone does without."""
    toolchain = Toolchain(work.space.toolchain)

    @functools.cache
    def get_uv() -> Path:
        toolchain.unpack(work.files["uv"], deflater=deflater)
        return toolchain.uv

    modules = [target.handler.rpartition(".")[0] for target in work.job.functions]
    own = is_own_package(checkout.project, modules)
    return Installer(checkout, get_uv, work.job.platform, work.space, work.shell, work.job.indexes, own)


def work(message: Mapping[str, Any], files: Mapping[str, int], report: Report) -> dict[str, Any]:
    """Do the program's job, a ``PackageJob``."""
    job = PackageJob.from_json(message)
    space = Workspace(Path(job.workspace))
    # All that this process takes from the toolchain it loads now: what a project's code writes there comes too late.
    deflater = load_deflater(Toolchain(space.toolchain).packages)
    checkout = take_over(job.subdirectory, space)
    try:
        with disk_troubles(space):
            return make_package(Work(job, files, space, Shell(environment(), report), report), checkout, deflater)
    except RepositoriesAsked as error:
        return {"asked": error.asked}


if __name__ == "__main__":
    serve(work)
