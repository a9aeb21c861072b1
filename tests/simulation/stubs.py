"""What is made up around the control code: its time, its alarm, its workshop, and how they get into its modules."""

from __future__ import annotations

import contextlib
import itertools
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import lambda_function
import local.functions
import local.lambda_functions
import yo_dawg.deadline
import yo_dawg.log
from tests.simulation.faults import suffer
from tests.simulation.notation import FastJson
from tests.simulation.s3 import buffer, stored
from yo_dawg.control import clients, deploy, functions, ledger, manifests, packages, records, store, trial
from yo_dawg.control.git import Cloned
from yo_dawg.control.job import Job
from yo_dawg.control.ledger import BuildRecord
from yo_dawg.control.manifests import Manifest, may_be_unchanged
from yo_dawg.control.package import BuildOutput
from yo_dawg.digests import base64_to_hex
from yo_dawg.events import BuildRequest
from yo_dawg.source import Source, is_full_id

KEPT_ENTRIES, KEPT_PACKAGES, KEPT_VERSIONS = 5, 3, 2
"""Less than in production, so that there is something to tidy up in each run."""


def commit_id(number: int) -> str:
    """Return the id of a commit."""
    return f"{number:040x}"


def package_of(commit: str) -> bytes:
    """Return the package that is built of a commit; of some, the code is bad."""
    return f"package of {commit} {'bad' if int(commit, 16) % 100 == 66 else 'good'}:end".encode()


def digest_of(commit: str) -> str:
    """Return the digest of the package of a commit, as Lambda writes it."""
    return stored(package_of(commit)).sha256


def nothing(*_: object, **__: object) -> None:
    """Do nothing."""


def unexpected(*_: object) -> Any:
    """Be called by nobody."""
    raise AssertionError("not a client that a build needs")


HERE = SimpleNamespace(world=None)
"""The world of this process' current run."""

RUNTIME, ARCHITECTURE = "python3.13", "x86_64"
SPACE = cast(Any, SimpleNamespace(root=Path("/nowhere")))
SHELL = SimpleNamespace(close=nothing)


class Clock:
    """The module ``time``, as one of ours sees it."""

    def __init__(self, real: Any, *, waiting: bool = False) -> None:
        """Know whether sleeping here is waiting for another builder."""
        self.waiting = waiting
        self.strftime, self.gmtime = real.strftime, real.gmtime

    def time(self) -> float:
        """Return the moment by this builder's own clock."""
        world = HERE.world
        return float(world.now + (world.current.skew if world.current else 0.0))

    def monotonic(self) -> float:
        """Return the moment."""
        return float(HERE.world.now)

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        HERE.world.sleep(seconds, waiting=self.waiting)


class Alarm:
    """The module ``signal``, as ``yo_dawg.deadline`` sees it."""

    SIGALRM = ITIMER_REAL = 0

    def signal(self, _signal: int, handler: Any) -> Any:
        """Say what is to be done when it rings."""
        actor = HERE.world.current
        before, actor.handler = actor.handler, handler
        return before

    def setitimer(self, _which: int, seconds: float) -> None:
        """Set it, or stop it."""
        world = HERE.world
        world.current.alarm = world.now + seconds if seconds else None


def look_at_ref(_source: Source, request: BuildRequest, _job: Job) -> Cloned | None:
    """Say at which commit a ref is."""
    ref = request.ref or "main"
    return Cloned(ref, ref) if is_full_id(ref) else in_workshop("look", 0.3, lambda: cloned(ref))


def clone(_source: Source, request: BuildRequest, _job: Job) -> Cloned:
    """Say which commit was cloned."""
    return cast(Cloned, in_workshop("clone", 2.0, lambda: cloned(request.ref or "main")))


def cloned(ref: str) -> Cloned:
    """Return the commit at which a ref is now."""
    return Cloned(ref if is_full_id(ref) else HERE.world.refs[ref], ref)


def in_workshop(operation: str, seconds: float, call: Callable[[], Any]) -> Any:
    """Have something done that takes a while."""
    world = HERE.world
    fault = world.point(operation, "workshop")
    world.take(seconds)
    return suffer(fault, operation, call, False, world.current, world) if fault else call()


def gather(_targets: Any, manifest: Manifest | None, _job: Job) -> Manifest | None:
    """Remember the manifest only."""
    return manifest


def make_package(request: BuildRequest, targets: Any, cloned: Cloned, manifest: Any, job: Job) -> Any:
    """Return the package of a commit, or the manifest of the present one if it would be the same."""

    def make() -> BuildOutput | Manifest:
        if manifest and may_be_unchanged(manifest, cloned.commit, request, targets, job):
            return cast(Manifest, manifest)
        HERE.world.current.facts.built += 1
        digest = digest_of(cloned.commit)
        told = {"commit": cloned.commit, "ref": cloned.ref, "code_sha256": digest, "package": {}, "warnings": []}
        file = SimpleNamespace(file=buffer(package_of(cloned.commit)))
        dependencies = SimpleNamespace(file=buffer(b"{}"), size=2)
        return BuildOutput(cast(Any, file), digest, told, HERE.pinned, cast(Any, dependencies))

    return in_workshop("package", 5.0, make)


def fetch_from_aws(place: str, target: Any) -> None:
    """Copy what an address holds."""
    world = HERE.world
    hexadecimal = place.rpartition("/")[2].removesuffix(".zip")
    fault = world.point("download", hexadecimal[:8])
    world.take(0.2)

    def fetch() -> None:
        for function in world.api.functions.values():
            for version in function.everything:
                code = version.unit.code
                if base64_to_hex(code.sha256) == hexadecimal:
                    target.write(code.content)
                    return

    if fault == "denied":
        raise OSError("the address is not valid any more")
    if fault:
        suffer(fault, "download", fetch, False, world.current, world)
    else:
        fetch()


HERE.pinned = True
REVISIONS = itertools.count()


@contextlib.contextmanager
def simulated() -> Iterator[None]:
    """Put the made-up parts into the modules of the control code, and the real ones back at the end."""
    import time

    changes: list[tuple[Any, str, Any]] = []

    def change(module: Any, name: str, value: Any) -> None:
        changes.append((module, name, vars(module).get(name, changes)))
        setattr(module, name, value)

    clock = Clock(time)
    for module in (clients, deploy, functions, ledger, trial, yo_dawg.deadline, yo_dawg.log, local.functions):
        if "time" in vars(module):
            change(module, "time", clock)
    change(records, "time", Clock(time, waiting=True))
    change(records, "POLL_SECONDS", 5.0)
    change(yo_dawg.deadline, "signal", Alarm())
    for module in (ledger, manifests, records, store):
        change(module, "json", FastJson)
    for module in (ledger, *users_of("KEPT_ENTRIES")):
        change(module, "KEPT_ENTRIES", KEPT_ENTRIES)
    for module in (ledger, *users_of("KEPT_PACKAGES")):
        change(module, "KEPT_PACKAGES", KEPT_PACKAGES)
    for module in (ledger, *users_of("KEPT_VERSIONS")):
        change(module, "KEPT_VERSIONS", KEPT_VERSIONS)
    change(lambda_function, "source_from_settings", lambda *_: Source("https://git.example/project.git"))
    for stub in (look_at_ref, clone, gather, make_package):
        change(lambda_function, stub.__name__, stub)
    change(lambda_function, "ARCHIVES", SimpleNamespace(put=nothing))
    change(lambda_function, "check_models", nothing)
    change(BuildRecord, "from_json", FastJson.record)
    change(manifests, "builder_inputs", lambda _job: "these")
    for module in (local.functions, local.lambda_functions):
        change(module, "timestamp", lambda: "2027-01-15T08:00:00.000+0000")
        if module is local.lambda_functions:
            continue
        change(module, "new_revision", lambda: f"revision-{next(REVISIONS)}")
    change(local.functions, "CREATING", "")
    rehearsal = functions.rehearsal_zip()
    change(functions, "rehearsal_zip", lambda: rehearsal)
    change(packages, "fetch_from_aws", fetch_from_aws)
    change(packages, "tempfile", SimpleNamespace(TemporaryFile=lambda **_: buffer()))
    for module in users_of("accepts"):
        change(module, "accepts", lambda *_: True)
    change(trial, "client_with_timeout", lambda aws, _seconds: aws)
    try:
        yield
    finally:
        for module, name, value in reversed(changes):
            if value is changes:
                delattr(module, name)
            else:
                setattr(module, name, value)


def users_of(name: str) -> list[types.ModuleType]:
    """Return the modules of the control code that have imported a name."""
    found = [each for key, each in sys.modules.items() if key.startswith("yo_dawg.control.") and name in vars(each)]
    return [each for each in found if each is not ledger]
