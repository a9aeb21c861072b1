"""Bytecode for what the handler's import loads."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from yo_dawg.disk import refuse_if_disk_full
from yo_dawg.errors import PackageError
from yo_dawg.limits import MAX_UNZIPPED_BYTES
from yo_dawg.process import CommandFailed
from yo_dawg.trees import source_of, walk
from yo_dawg.workshop.archive import digests_of, record_digest
from yo_dawg.workshop.package.compiler import Digests, compile_modules

if TYPE_CHECKING:
    from yo_dawg.trees import Listing
    from yo_dawg.workshop.package.install import Installed
    from yo_dawg.workshop.package.prove import Proof
    from yo_dawg.workshop.package.reuse import PreviousPackage
    from yo_dawg.workshop.package.work import Work


def compile_ahead(listing: Listing, installed: Installed, work: Work) -> dict[str, Digests]:
    """Compile on all processors what the proof would else compile on one; return its digests.

    What that is is a guess: what the handlers' modules import, and what these do, as the bytecode says; but what has
    bytecode was loaded before, with all that it imports.  Only the proof can tell, and of what it does not load
    nothing stays.
    """
    there = {name for name, _, _ in listing}
    sizes = {name: status.st_size for name, _, status in listing if name.endswith(".py")}
    new = {name: size for name, size in sizes.items() if importlib.util.cache_from_source(name) not in there}
    modules = [target.handler.rpartition(".")[0].replace("/", ".") for target in work.job.functions]
    try:
        return run_compiler(new, modules, installed, work)
    except PackageError as error:
        work.report.detail(f"not compiled ahead: {error}")
        for path in (work.space.staging / importlib.util.cache_from_source(name) for name in new):
            with contextlib.suppress(OSError):  # where its folder is a file, say: the cause of it all
                path.unlink()
        return {}


def lay_previous_bytecode(listing: Listing, previous: PreviousPackage, installed: Installed) -> dict[str, Digests]:
    """Lay the bytecode that we made for the previous package beside sources that are the same; return the digests.

    The proof is quicker by it; what of it the package does not need is taken away again.  Bytecode is
    what runs, and nobody reads it: what the project's code made, or has put in the place of ours, must
    not come back once the project is clean.
    """
    zipped, members = previous.zipped, previous.manifest.members
    files = {name: path for name, path, _ in listing}
    laid: dict[str, Digests] = {}
    for name in previous.manifest.compiled & zipped.members.keys() & members.keys() - files.keys():
        module = source_of(name)
        if module not in installed.owners or module not in files or module not in members:
            continue
        target = importlib.util.cache_from_source(str(files[module]))
        is_of_this_python = os.path.basename(target) == os.path.basename(name)
        if not is_of_this_python or os.path.islink(os.path.dirname(target)):
            continue
        content, digests = zipped.read(name), (members[module], members[name])
        is_unchecked = content.startswith(importlib.util.MAGIC_NUMBER + b"\1\0\0\0")
        if is_unchecked and (record_digest(files[module].read_bytes()), record_digest(content)) == digests:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "xb") as file:
                file.write(content)
            laid[name] = digests
    return laid


@dataclass(frozen=True)
class Compiled:
    """A package with its bytecode."""

    files: Listing
    digests: Mapping[str, str]
    """Of the files' content, see ``record_digest``, as far as it was reckoned."""
    ours: frozenset[str]
    """The bytecode that we made for dependencies, now or before."""
    warnings: tuple[str, ...] = ()


def write_bytecode(proof: Proof, laid: Mapping[str, Digests], installed: Installed, work: Work) -> Compiled:
    """Compile the modules that the handler's import has loaded, so that a first start is as quick as a second.

    Those are a third of all, in bytes; with bytecode = all, or without a proof, it is every one.
    What make_dist.sh compiled itself stays, and of what was laid that which is needed and as it was laid.
    Of what bytecode would make too large for Lambda some goes without, with a warning.
    """
    space, setting = work.space, work.job.bytecode
    listing = walk(space.staging)
    if setting == "none":
        return Compiled(listing, {}, frozenset())
    files = {name: (path, status) for name, path, status in listing}
    if sum(status.st_size for name, (_, status) in files.items() if name not in laid) > MAX_UNZIPPED_BYTES:
        return Compiled(listing, {}, frozenset())  # nothing of it ships: see ``check_size``
    every = setting == "all" or work.job.proof == "off"
    modules = [name for name in files if name.endswith(".py") and (every or name in proof.loaded)]
    wanted = {importlib.util.cache_from_source(name): name for name in modules}
    for name in (laid.keys() & files.keys()) - wanted.keys():
        files.pop(name)[0].unlink()
    digests = digests_of([(name, *each) for name, each in files.items()])
    ours = {name for name in laid.keys() & files.keys() if (digests[wanted[name]], digests[name]) == laid[name]}
    for name in (laid.keys() & files.keys()) - ours:  # the import has put others in their place
        files.pop(name)[0].unlink()
        del digests[name]
    before = files.keys() - laid.keys()
    missing = [name for target, name in wanted.items() if target not in files]
    if missing:
        ours |= run_compiler({name: files[name][1].st_size for name in missing}, None, installed, work).keys()
        files = {name: (path, status) for name, path, status in walk(space.staging)}
    total = sum(status.st_size for _, status in files.values()) + proof.layer_bytes
    over, left_out = total - MAX_UNZIPPED_BYTES, 0
    for name in sorted(files.keys() - before, reverse=True):
        if over > 0:
            path, status = files.pop(name)
            path.unlink()
            over, left_out = over - status.st_size, left_out + 1
    told = f"{total:,} bytes, more than Lambda takes: {left_out} modules go without"
    return Compiled(
        files=[(name, *each) for name, each in files.items()],
        digests=digests,
        ours=frozenset(name for name in ours & files.keys() if source_of(name) in installed.owners),
        warnings=(f"with all bytecode the package would unzip to {told}",) if left_out else (),
    )


def run_compiler(
    sizes: Mapping[str, int], modules: Sequence[str] | None, installed: Installed, work: Work
) -> dict[str, Digests]:
    """Compile modules in staging, by the bytes of each, or those of them that some of them import.

    Returns, for each file of bytecode, the digests of its source and of itself.  Raises PackageError if that fails
    other than by what they hold.
    """
    own = {name for name in sizes if name not in installed.owners}
    try:
        return compile_modules(str(work.space.staging), sizes, modules, own)
    except CommandFailed as error:
        refuse_if_disk_full(error, work.space)
        raise PackageError(f"Cannot compile the package: the compiler {error.ending}.{error.quoted_tail}") from None
