"""Making a package."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import queue
import shutil
import threading
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yo_dawg.archives import MAX_UNZIPPED_BYTES, SHELF, Former, unnamed_file, write_members, zip_files
from yo_dawg.control.clone import clone
from yo_dawg.control.deploy import deploy_all
from yo_dawg.control.packages import Package, bundle_key
from yo_dawg.control.results import build_result
from yo_dawg.control.toolchain import builder_inputs, fetch_zip, get_toolchain
from yo_dawg.digests import digest_of
from yo_dawg.errors import DeployError, YoDawgError
from yo_dawg.text import size
from yo_dawg.trees import close_files, identity, outlast, place_in_package, same_files, walk
from yo_dawg.workshop.package.bytecode import compile_ahead, compiler_command, lay_former_bytecode, write_bytecode
from yo_dawg.workshop.package.install import Installer, look_at_requirements, unread_requirements
from yo_dawg.workshop.package.prove import NO_LAYERS, Proof, check_handler, check_proof, prove_all, prover_command
from yo_dawg.workshop.package.prune import keep_imported, prune
from yo_dawg.workshop.package.reuse import Bundle, drop_kept, make_bundle, open_dependencies, take_kept, unpack_bundle
from yo_dawg.workshop.package.rules import read_patterns, read_rules
from yo_dawg.workshop.package.sizes import check_size, package_sizes
from yo_dawg.workshop.package.stage import stage
from yo_dawg.workspace import remove_tree

if TYPE_CHECKING:
    from yo_dawg.archives import Archive, Deflater, Known, Owned, Packed
    from yo_dawg.checkout import Checkout, Source
    from yo_dawg.control.functions import Target
    from yo_dawg.control.job import Job
    from yo_dawg.control.toolchain import Toolchain
    from yo_dawg.events import BuildRequest
    from yo_dawg.trees import Identity, Listing
    from yo_dawg.workshop.package.install import Installed
    from yo_dawg.workshop.package.prune import Pruned
    from yo_dawg.workshop.package.reuse import Inputs
    from yo_dawg.workspace import Workspace


def read_bundle(target: Target, job: Job) -> Bundle | None:
    """Return the bundle of the package that a function runs; None if there is none that makes sense."""
    with contextlib.suppress(YoDawgError, ValueError, TypeError, LookupError, AttributeError):
        found = job.store.read(bundle_key(Package.of(target.name, target.code_sha256).key))
        return found and Bundle.from_json(json.loads(found[0]))
    return None


def store_bundle(package: Package, bundle: Bundle, job: Job) -> None:
    """Store what is known of a package's dependencies; without it the next build only takes longer."""
    try:
        job.store.upload_json(bundle_key(package.key), bundle.to_json())
    except DeployError as error:
        job.log.say(f"Warning: the next build cannot take over the dependencies of this one: {error}")


def build_inputs(commit: str, request: BuildRequest, targets: Sequence[Target], job: Job) -> str:
    """Return a digest of all that decides what is in the package, other than what the requirements resolve to."""
    proved = [[target.handler, dict(target.environment), target.layers] for target in targets]
    asked = [job.settings.repository_url(request.repo_name), request.subdirectory, commit]
    return digest_of([builder_inputs(job), job.indexes, job.settings.proof, job.settings.bytecode, proved, asked])


def unchanged(before: Bundle, request: BuildRequest, targets: Sequence[Target], job: Job) -> dict[str, Any] | None:
    """Deploy what the functions run already, if a build would make just that: publish, test, move the alias.

    None if it would make something else, or if that cannot be told.
    """
    told, digests = before.result, {target.code_sha256 for target in targets}
    if request.dry_run or request.force or digests != {told.get("code_sha256")}:
        return None
    commit = job.ledgers[0].entry.commit or ""
    packages = [Package.of(target.name, target.code_sha256, commit) for target in targets]
    if before.build != build_inputs(commit, request, targets, job):
        return None
    if not all(job.store.holds(package.key, package.hex_digest) for package in packages):
        return None
    job.log.say(f"{told['code_sha256']} was built from just this before.")
    with job.log.step("deploy", f"[8/8] deploy {', '.join(target.name for target in targets)}"):
        deployments = deploy_all(packages, targets, request, job)
    return build_result({**told, "ref": job.ledgers[0].entry.ref}, request, deployments, job)


@dataclass(frozen=True)
class Early:
    """What may have begun, or may begin, before there is a checkout."""

    toolchain: Future[Toolchain | None]
    lay: Callable[[], Future[bool]] | None
    """Lays the dependencies of the package before into staging."""


def fetch_project(source: Source, request: BuildRequest, early: Early, job: Job) -> Installer:
    """Get the toolchain, and with it the project.

    While the Git host is at work, uv is fetched, or that laid by which there is probably no need for uv.
    """
    log, lay = job.log, early.lay
    with log.step("toolchain", "[1/8] get the toolchain"):
        if lay:
            lay()
        toolchain = early.toolchain.result() or get_toolchain(job, *([] if lay else ["uv"]))
        if lay:
            get_ready(job, compiler=True, prover=False)
        else:
            toolchain.bring("uv")
    with log.step("clone", f"[2/8] clone {source.url}"):
        checkout = clone(source, request, toolchain, job.shell)
        log.quote(f"{checkout.ref} is at commit {checkout.commit}")
        read_patterns(checkout.project)  # what makes no sense is refused before the work
        if lay and lay().result():
            get_ready(job, compiler=False, prover=True)
    toolchain = replace(toolchain, indexes=job.indexes)
    return Installer(checkout, toolchain, job.builder, job.shell)


@dataclass(frozen=True)
class Made:
    """A package that is ready to be deployed, and how it came about."""

    checkout: Checkout
    installed: Installed
    pruned: Pruned
    sizes: Counter[str]
    archive: Archive
    warnings: tuple[str, ...]
    bundle: Bundle
    files: Listing
    """All that is in it, as it lies in staging."""
    is_stored: bool
    """Whether it is in S3 already."""


@dataclass(frozen=True)
class Before:
    """What there is of the build before."""

    former: Future[Former | None]
    """The package, which is being fetched."""
    lay: Callable[[], Future[bool]]
    """Lays the dependencies in it into staging, if they are not there yet; says whether they could be had."""
    bundle: Bundle | None
    """The dependencies in it, if they are those of this build too."""
    compiled: Mapping[str, str]
    """The bytecode in it that was ours, see ``Bundle``."""
    inputs: Inputs
    """What decides what is installed now."""
    stores: bool
    """Whether the package is to be stored."""


def former_package(target: Target, job: Job) -> Former | None:
    """Fetch what the function runs now; None if it is none of our packages, or cannot be had."""
    package = Package.of(target.name, target.code_sha256)
    with contextlib.suppress(YoDawgError, OSError, zipfile.BadZipFile):
        return fetch_zip(package.key, package.hex_digest, job)[1]
    return None


def make_package(installer: Installer, targets: Sequence[Target], before: Before, job: Job) -> Made:
    """Install, prune, stage, prove and zip; what has not changed is taken from the package before."""
    space, log, checkout, deflater = job.space, job.log, installer.checkout, installer.toolchain.deflater
    has_script = (checkout.project / "make_dist.sh").is_file()

    def zip_ahead(listing: Listing) -> None:
        ahead.add(listing)
        if is_known and before.stores:  # what was loaded before is loaded now, most likely, and all that ships
            ahead.store(listing, [target.name for target in targets])

    with Ahead(before.former, deflater, job) as ahead:
        with log.step("install", "[3/8] install requirements"):
            is_known = before.bundle is not None and before.lay().result()
            bundle = before.bundle if is_known else None
            if bundle is None:
                empty_staging(space)
                SHELF.make_room()
                installer.install(space.staging)
            elif has_script:
                open_dependencies(before.compiled, space.staging)
            listing = [] if bundle else walk(space.staging)
            if not (has_script or read_patterns(checkout.project)):
                ahead.add(entry for entry in listing if place_in_package(entry[0]) == 0)
            installed = bundle.installed if bundle else look_at_requirements(installer)
            log.quote(f"{len(installed.names)} packages{', as they were in the former package' if bundle else ''}")
        with log.step("prune", "[4/8] prune dependencies"):
            rules = read_rules(installer, bundle.pruned.taken if bundle else ())
            if bundle:
                pruned = replace(bundle.pruned, bring=functools.partial(installer.install, space.pruned))
            else:
                pruned = prune(listing, installed, rules, space)
                bundle = make_bundle(before.inputs, installed, pruned, listing)
            log.quote(f"{pruned.files} files, {size(pruned.bytes)}: {', '.join(pruned.reasons) or 'nothing'}")
            if installed.provided:
                log.quote(f"left to the runtime, whose own fit: {', '.join(sorted(installed.provided))}")
        with log.step("stage", "[5/8] stage the project"):
            stage(checkout, rules, job.shell, log)
            get_ready(job, compiler=True, prover=not targets[0].layers)
            listing = walk(space.staging)
            there, taken = {name for name, _, _ in listing}, pruned.taken
            pruned = keep_imported(listing, installed, pruned, space)
            laid = lay_former_bytecode(listing, before.former.result(), before.compiled, installed)
            if laid.keys() != there & before.compiled.keys() or len(pruned.taken) != len(taken):
                listing = walk(space.staging)
            warnings = [
                *checkout.warnings,
                *unread_requirements(checkout.project),
                *rules.warnings,
                *(each for target in targets for each in check_handler(space.staging, target)),
            ]
        with log.step("prove", f"[6/8] prove that {', '.join(target.handler for target in targets)} can be imported"):
            if not is_known:  # else it is all taken over, in no time
                ahead.add(entry for entry in listing if place_in_package(entry[0]) < 2)
            guesses = job.settings.bytecode != "none" and job.settings.proof != "off"
            with ahead.paused():  # the proof is waited for, and not what is compressed
                laid |= compile_ahead(targets, listing, installed, job) if guesses else {}
            listing = close_files(walk(space.staging))
            outlast(listing, space.root)
            proofs, pruned = prove_all(pruned, targets, job, functools.cache(lambda: zip_ahead(listing)))
            warnings += [each for target, proof in proofs for each in check_proof(proof, target, job.settings.proof)]
            closed, listing = listing, walk(space.staging)
        with log.step("zip", "[7/8] compile and zip"):
            proof = Proof(
                loaded=frozenset().union(*(each.loaded for _, each in proofs)),
                layer_bytes=max(each.layer_bytes for _, each in proofs),
                intact=same_files(closed, listing),
                listing=listing,
            )
            compiled = write_bytecode(proof, laid, installed, job)
            sizes = package_sizes(compiled.files, installed.owners)
            check_size(sizes, proof.layer_bytes, pruned)
            archive, is_stored = ahead.finish(compiled.files, proof.intact)
            log.quote(f"{archive.files} files, {size(archive.unzipped_bytes)}, zipped {size(archive.zip_bytes)}")
    bundle = replace(bundle, compiled=compiled.digests)
    return Made(
        checkout, installed, pruned, sizes, archive, (*warnings, *compiled.warnings), bundle, compiled.files, is_stored
    )


def get_ready(job: Job, *, compiler: bool, prover: bool) -> None:
    """Start the children that compile and that import the handler: their interpreters are there when they are needed.

    Should code of the project run before that, it finds them gone.
    """
    if compiler and job.settings.bytecode != "none":
        job.shell.prepare(compiler_command(job.space))
    if prover and job.settings.proof != "off":
        job.shell.prepare(prover_command(str(job.space.layers / NO_LAYERS), job))


class Ahead:
    """Compresses files that a package will hold while the rest of it is made, and the handler imported.

    Which file is meant is noted before a project's code runs; what is another by the end is compressed again.
    What was compressed is the package's beginning.  Bytecode goes into a file of its own, since only the proof tells
    which of it ships.  Neither file has a name: no build can change it.
    """

    def __init__(self, former: Future[Former | None], deflater: Deflater, job: Job) -> None:
        """Take over what is in the former package."""
        self._former, self._deflater, self._job = former, deflater, job
        self._parts = [Part(unnamed_file(job.space)) for _ in range(2)]
        self._total = 0
        self._goes_on, self._has_failed = threading.Event(), False
        self._likely: Future[Archive | None] | None = None
        self._stored: list[Package] = []
        self._shipped = ""

    def __enter__(self) -> Ahead:
        """Begin, aside."""
        self._goes_on.set()
        self._made = self._job.aside.submit(self._compress)
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """End, and delete what was stored and does not ship; where time has run out, a later build does that."""
        self._has_failed = error is not None
        self._end()
        if self._likely and (error is None or issubclass(error, Exception)):
            self._likely.result()
            wrong = [each.key for each in self._stored if each.code_sha256 != self._shipped]
            with contextlib.suppress(DeployError):
                self._job.store.delete(wrong)

    def add(self, entries: Iterable[tuple[str, Path, os.stat_result]]) -> None:
        """Compress these as well, in this order.  Once there is bytecode, there is no more of the rest."""
        known = [(name, path, identity(status)) for name, path, status in entries]
        rest, bytecode = (
            [each for each in known if (place_in_package(each[0]) == 2) == code] for code in (False, True)
        )
        for part, batch in zip(self._parts, (rest, bytecode), strict=True):
            if batch:
                part.batches.put(batch)
        if bytecode:
            self._parts[0].batches.put([])

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the processors to something else."""
        self._goes_on.clear()
        try:
            yield
        finally:
            self._goes_on.set()

    def store(self, listing: Listing, names: Sequence[str]) -> None:
        """Store the package of these files as that of these functions: most likely it is that."""
        self._end()
        self._likely = self._job.aside.submit(self._store, listing, names)

    def compressed(self) -> list[Former]:
        """Wait for what it makes of all that was added, or of as much as the disk has room for."""
        self._end()
        return self._made.result()

    def finish(self, listing: Listing, intact: frozenset[str]) -> tuple[Archive, bool]:
        """Return the package of these files, and whether it is stored already.

        What somebody has touched since the import began is compressed again, though it may look as it did: there may
        have been something else in it when it was.
        """
        made, likely = self.compressed(), self._likely and self._likely.result()
        for part in self._parts:
            for name in part.identities.keys() - intact:
                del part.identities[name]
        archive = likely if likely and self._is_of(likely, listing) else self._zip(listing, made)
        self._shipped = archive.sha256
        return archive, archive is likely

    def _end(self) -> None:
        for part in self._parts:
            part.batches.put([])

    def _zip(self, listing: Listing, made: list[Former]) -> Archive:
        """Zip files, after what is made already if all of that is the beginning."""
        formers = [*made, *filter(None, [self._former.result()])]
        return zip_files(listing, lambda: unnamed_file(self._job.space), formers, self._deflater)

    def _is_of(self, archive: Archive, listing: Listing) -> bool:
        """Say whether a package that it made is of just these files."""
        meant = self._parts[0].identities | self._parts[1].identities
        return [*archive.zipped.names] == [name for name, _, _ in listing] and all(
            meant.get(name) == identity(status) for name, _, status in listing
        )

    def _store(self, listing: Listing, names: Sequence[str]) -> Archive | None:
        with contextlib.suppress(Exception):  # it is stored again then, where that can be told
            made = self._made.result()
            archive = self._zip(listing, made) if made else None
            for package in (Package.of(name, archive.sha256) for name in names if archive):
                if archive and not (self._job.store.holds(package.key, package.hex_digest) or self._has_failed):
                    self._stored.append(package)
                    self._job.store.upload_archive(package.key, archive)
            return archive
        return None

    def _compress(self) -> list[Former]:
        made = []
        with contextlib.suppress(Exception):  # whatever it is, it is met again where it can be told
            former = self._former.result()
            deflater = replace(self._deflater, deflate=self._deflate)
            for part in self._parts:
                with zipfile.ZipFile(part.file, "w") as archive:
                    write_members(self._files(part), archive, [former] if former else [], deflater)
                part.file.flush()
                made.append(Former(part.file, part.identities, archive))
                made[-1].owner = part.owned
            made[0].grows = self._parts[0].owned
            return made
        return []

    def _deflate(self, content: bytes) -> Packed:
        self._goes_on.wait()
        return self._deflater.deflate(content)

    def _files(self, part: Part) -> Iterator[Known]:
        while batch := part.batches.get():
            new = [known for known in batch if known[0] not in part.identities]
            part.identities |= {name: meant for name, _, meant in new}
            self._total += sum(size for _, _, (_, _, size, _) in new)
            if self._total > MAX_UNZIPPED_BYTES or shutil.disk_usage(part.file.fileno()).free < 2 * self._total:
                return
            yield from new


class Part:
    """A part of a package that is made ahead."""

    def __init__(self, owned: Owned) -> None:
        """Make it in this file."""
        self.owned, self.file = owned, owned.file
        self.batches: queue.SimpleQueue[list[tuple[str, Path, Identity]]] = queue.SimpleQueue()
        self.identities: dict[str, Identity] = {}


def take_over(bundle: Bundle | None, target: Target, former: Future[Former | None], space: Workspace) -> bool:
    """Lay the dependencies of the package before into staging; say whether they could be had from it."""
    package = former.result()
    if bundle is None or package is None:
        return False
    if take_kept(target.code_sha256, package, space):
        return True
    empty_staging(space)
    return unpack_bundle(bundle, package, space)


def empty_staging(space: Workspace) -> None:
    """Take out of staging what turned out not to fit, and make room."""
    drop_kept(space)
    for folder in (space.staging, space.pruned):
        if folder.is_symlink() or not folder.is_dir() or any(folder.iterdir()):
            remove_tree(folder)
            folder.mkdir(mode=0o700)
