"""Proving that the handler can be imported from the package."""

from __future__ import annotations

import json
import os
import re
import site
import stat
import sys
import time
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from yo_dawg.disk import refuse_if_disk_full
from yo_dawg.errors import PackageError
from yo_dawg.limits import MAX_MODULE_NAME, MOST_IMPORTS
from yo_dawg.process import Command, CommandFailed, script
from yo_dawg.text import printable
from yo_dawg.trees import close_tree, move, open_folders
from yo_dawg.workshop.package.prune import DROPPED, restore
from yo_dawg.workspace import check_workspace, remove_tree

if TYPE_CHECKING:
    from yo_dawg.jobs import ProvenFunction
    from yo_dawg.workshop.package.prune import Pruned
    from yo_dawg.workshop.package.work import Work

MAX_PROOF = 10_000_000
"""Bytes; more is not read of what the import, in which a project's code has run, says of itself."""

SECONDS_TO_IMPORT = 30
"""Lambda itself gives an import 10 seconds before it starts it anew."""


@dataclass(frozen=True)
class Proof:
    """What importing the handler came to."""

    loaded: frozenset[str] = frozenset()
    """The modules' files that the import loaded, relative to staging."""
    sought: frozenset[str] = frozenset()
    """What it looked for and did not find: modules as paths without suffix, files as they are."""
    failure: str | None = None
    """What it failed with, in one line."""
    hopeless: bool = False
    """Whether it would fail in Lambda just so: a module that is missing, or is no Python."""
    imports: tuple[tuple[str, int], ...] = ()
    """The modules that took longest, the slowest first, with their microseconds: all that they import is in them."""
    tail: str = ""
    """The last lines of what it printed, the traceback among them."""
    with_layers: bool = True
    """Whether all of the function's layers were there."""
    layer_bytes: int = 0
    """What they unzip to."""


NO_LAYERS = "none"
"""What is not there, for functions without layers: the builder's own are none of theirs."""


def unpack_layers(target: ProvenFunction, work: Work) -> tuple[Path, int] | None:
    """Unpack a function's layers over each other, as Lambda does in /opt.

    Returns the folder and the bytes of all of them, as Lambda counts; None if one cannot be had.
    """
    folder, total = work.space.layers / (target.name if target.layers else NO_LAYERS), 0
    if not target.has_layers:
        return None
    for number, arn in enumerate(target.layers):
        try:
            total += unpack_layer(work.files[target.layer_file(number)], folder)
        except (OSError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
            work.report.info(f"Warning: the layer {arn} cannot be read: {printable(str(error))}.")
            return None
    return folder, total


def unpack_layer(file: int, folder: Path) -> int:
    """Unpack a zip over what is there, links included; return the bytes that it unzips to."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(os.dup(file), "rb") as opened, zipfile.ZipFile(opened) as archive:
        for info in archive.infolist():
            path = os.path.join(folder, info.filename)
            if os.path.islink(path):
                os.unlink(path)
            path = archive.extract(info, folder)
            if stat.S_ISLNK(info.external_attr >> 16):
                os.unlink(path)
                os.symlink(archive.read(info), os.fsencode(path))
        return sum(info.file_size for info in archive.infolist())


def prove(pruned: Pruned, target: ProvenFunction, work: Work) -> tuple[Proof, Pruned]:
    """Import the target's handler from staging; what pruning took and the import misses is put back.

    An import that fails without naming what it misses is tried once more with everything back: if
    that mends it, pruning broke it.  What the project drops stays away: many an import has a use for
    what it can do without.
    """
    if work.job.proof == "off":
        return Proof(), pruned
    space, layers = work.space, unpack_layers(target, work)
    while True:
        proof = try_import(target, layers, work)
        found = {name: each for name, each in pruned.taken.items() if is_sought(name, proof.sought)}
        groups = {each.group for each in found.values() if each.reason != DROPPED}
        if not groups:
            break
        pruned = restore(space, pruned, dict.fromkeys(sorted(groups), f"the import of {target.handler} looks for it"))
    if proof.failure and pruned.taken:
        reason = f"{target.handler} cannot be imported without it"
        ours = {each.group for each in pruned.taken.values() if each.reason != DROPPED}
        whole = restore(space, pruned, dict.fromkeys(ours, reason))
        again = try_import(target, layers, work)
        if not again.failure:
            return again, whole
        move(pruned.taken, space.staging, space.pruned)
    if proof.failure and found:
        told = f"{proof.failure} (it looks for {min(found)}, which drop in pyproject.toml takes away)"
        proof = replace(proof, failure=told)
    return proof, pruned


def prove_all(pruned: Pruned, work: Work) -> tuple[list[tuple[ProvenFunction, Proof]], Pruned]:
    """Prove the package for each function that gets it."""
    proofs = []
    for target in work.job.functions:
        proof, pruned = prove(pruned, target, work)
        proofs.append((target, proof))
    remove_tree(work.space.layers)
    return proofs, pruned


def is_sought(name: str, sought: frozenset[str]) -> bool:
    """Say whether a file, or a folder that it is in, or the module that it is, is among what was sought."""
    path = PurePosixPath(name)
    return not sought.isdisjoint([name, name.partition(".")[0], *(str(folder) for folder in path.parents)])


def lambda_environment(
    target: ProvenFunction, runtime: str, opt: str | Path, libraries: str, work: Work
) -> dict[str, str]:
    """Return the variables that Lambda gives a function, its own among them; of /opt they name where its layers are."""
    job, space, staging = work.job, work.space, str(work.space.staging)
    return {
        **dict.fromkeys(("AWS_REGION", "AWS_DEFAULT_REGION"), job.region),
        "AWS_EC2_METADATA_DISABLED": "true",  # there are no credentials, and none need be looked for
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{job.runtime}",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(target.memory_mb),
        "AWS_LAMBDA_FUNCTION_NAME": target.name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": target.log_group,
        "AWS_LAMBDA_LOG_STREAM_NAME": f"{time.strftime('%Y/%m/%d', time.gmtime())}/[$LATEST]{'0' * 32}",
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "AWS_XRAY_DAEMON_ADDRESS": "169.254.100.1:2000",
        "LAMBDA_RUNTIME_DIR": runtime,
        "LAMBDA_TASK_ROOT": staging,
        "LANG": "en_US.UTF-8",
        **({} if job.runtime == "python3.11" else {"LC_CTYPE": "C.UTF-8"}),
        "LD_LIBRARY_PATH": libraries,
        "PATH": f"{Path(sys.executable).parent}:{os.defpath}:{opt}/bin",
        "PWD": staging,
        "PYTHONPATH": runtime,
        "SHLVL": "0",
        "TMPDIR": str(space.scratch),
        "TZ": ":UTC",
        "_AWS_XRAY_DAEMON_ADDRESS": "169.254.100.1",
        "_AWS_XRAY_DAEMON_PORT": "2000",
        "_HANDLER": target.handler,
        **{
            name: re.sub("(^|:)/opt(?=/|:|$)", rf"\g<1>{opt}", value.replace("/var/task", staging))
            for name, value in target.environment.items()
        },
    }


def try_import(target: ProvenFunction, layers: tuple[Path, int] | None, work: Work) -> Proof:
    """Import the handler in a child that has the package, read-only, its layers, and the function's own variables."""
    job, space, staging = work.job, work.space, str(work.space.staging)
    answer = space.root / "proof.json"
    remove_tree(answer)
    module, _, function = target.handler.rpartition(".")
    opt, layer_bytes = layers or ("/opt", 0)
    runtime = job.runtime_dir or "/var/runtime"
    given = os.environ.get("LD_LIBRARY_PATH")
    libraries = ":".join(filter(None, [given, staging, f"{staging}/lib", f"{opt}/lib"]))
    environ = lambda_environment(target, runtime, opt, libraries, work)
    # As Lambda's own /var/runtime/bootstrap.py does: layers come after the package, unless the function has a
    # PYTHONPATH of its own; the .pth files of both are read; and what the runtime brings comes last.
    has_own_path = bool(target.environment.get("PYTHONPATH"))
    own_path = [each for each in environ["PYTHONPATH"].split(":") if each] if has_own_path else []
    of_layers = [f"{opt}/python/lib/{job.runtime}/site-packages", f"{opt}/python"]
    sites = [staging] if own_path else [staging, *of_layers]
    question = {
        "module": module.replace("/", "."),
        "function": function,
        "path": [*sites, *own_path, *site.getsitepackages(), runtime],
        "sites": sites,
        "environ": environ,
        "seconds": SECONDS_TO_IMPORT,
        "answer": str(answer),
        "most_imports": MOST_IMPORTS,
    }
    trees = [tree for tree in (space.staging, space.layers) if tree.exists()]
    for tree in trees:
        close_tree(tree)
    try:
        argv = script("yo_dawg.workshop.package.importer", "-s")
        environ_now = {"LD_LIBRARY_PATH": libraries}
        printed = work.shell.run(Command(argv, space.root, environ_now, json.dumps(question).encode()))
        ending = "ended the process"
    except CommandFailed as error:
        refuse_if_disk_full(error, space)
        printed, ending = error.tail, error.ending
    check_workspace(space, PackageError)
    for tree in trees:
        open_folders(tree)
    proof = read_proof(answer, CommandFailed(0, printed.splitlines()).tail, ending)
    return replace(proof, with_layers=layers is not None, layer_bytes=layer_bytes)


def read_imports(said: list[object]) -> Iterator[tuple[str, int]]:
    """Yield what of the child's list of imports is a name and a number; what else it holds makes no difference."""
    for each in said[:MOST_IMPORTS]:
        name, spent = each if isinstance(each, list) and len(each) == 2 else (None, None)
        if isinstance(name, str) and isinstance(spent, int) and len(name) <= MAX_MODULE_NAME:
            yield printable(name), spent


def read_proof(path: Path, tail: str, ending: str) -> Proof:
    """Read what the child says of an import; a project's code ran in it, and it may say anything."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            said = json.loads(file.read(MAX_PROOF))
        return Proof(
            loaded=frozenset(str(name) for name in said["loaded"]),
            sought=frozenset(str(name) for name in said["sought"]),
            failure=said["failure"] and printable(str(said["failure"])),
            hopeless=said["hopeless"] is True,
            imports=tuple(read_imports(said["imports"])),
            tail=tail,
        )
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return Proof(failure=f"the import {ending}", tail=tail)
