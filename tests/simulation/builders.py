"""Builders: the real control code, in a world of its own.

Real is all that ``lambda_function.run_action`` does: the stories of build and rollback, the ledger, preflight,
deploying, testing, putting back, versions, aliases, tidying and the records.  Made up are the time (as each module sees
it), the alarm, the clients, and the workshop: it is a stub that says at which commit a ref is, and returns a package.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import lambda_function
from tests.simulation.lambda_api import ACCOUNT, REGION, Api, Functions
from tests.simulation.s3 import S3, Stored, buffer
from tests.simulation.stubs import ARCHITECTURE, HERE, RUNTIME, SHELL, SPACE, nothing, unexpected
from tests.simulation.world import Actor, World
from yo_dawg.builder import Builder
from yo_dawg.control.clients import Aws
from yo_dawg.control.job import Job
from yo_dawg.control.store import Store
from yo_dawg.errors import YoDawgError
from yo_dawg.events import BuildRequest, RollbackRequest
from yo_dawg.log import Log
from yo_dawg.settings import Settings
from yo_dawg.source import is_full_id

if TYPE_CHECKING:
    from local.functions import Function

NAME, BUCKET, PREFIX = "yo-dawg", "bucket", "yo-dawg/"
SECONDS = 120.0
"""How long an invocation may take."""

SETTINGS = Settings(BUCKET, ("*",), "https://git.example", "", "", Path("/nowhere"), tmp_is_ours=False)


@dataclass
class Place:
    """What there is at a moment: it can be gone back to."""

    objects: dict[str, Stored]
    functions: dict[str, Function]
    refs: dict[str, str]
    now: float = 1_800_000_000.0


@dataclass
class Asked:
    """What a builder was asked, and what came of it."""

    request: BuildRequest | RollbackRequest
    request_id: str
    log_stream: str
    asked_at: float = 0.0
    answered_at: float | None = None
    result: dict[str, Any] | None = None
    error: BaseException | None = None
    heads: set[str] = field(default_factory=set)
    """The commits at which the ref was at some moment while it was at work."""
    built: int = 0
    """How many packages were made for it."""
    skew: float = 0.0
    first_seen: dict[str, int] = field(default_factory=dict)
    """Which of all that a function has run it ran when this one came."""


class Region(World):
    """A world with an S3, a Lambda API and a Git host in it."""

    def __init__(self, actors: list[Actor], choices: dict[int, str], place: Place) -> None:
        """Begin at a place."""
        super().__init__(actors, choices, place.now)
        self.s3 = S3(self, place.objects)
        self.api = Api(self.s3, place.functions)
        self.functions = Functions(self, self.api, place.functions)
        self.refs = dict(place.refs)
        self.asked: list[Actor] = []

    def place(self) -> Place:
        """Return what there is now."""
        return Place(dict(self.s3.objects), dict(self.api.functions), dict(self.refs), self.now)

    def push(self, commit: str, ref: str = "main") -> None:
        """Move a branch."""
        self.refs[ref] = commit
        for actor in self.asked:
            if actor.facts.answered_at is None:
                actor.facts.heads.add(commit)


# --- One builder ----------------------------------------------------------------------------------------------


def builder(
    name: str, request: BuildRequest | RollbackRequest, request_id: str = "", log_stream: str = ""
) -> Callable[[], Actor]:
    """Return what makes a builder that is asked this."""
    asked_as = request_id or f"request-{name}"

    def make() -> Actor:
        actor = Actor(name, act)
        actor.facts = Asked(request, asked_as, log_stream or f"environment-{name}")
        return actor

    return make


def act(actor: Actor) -> None:
    """Be invoked: do what the handler does once it has its clients."""
    world = cast(Region, HERE.world)
    asked: Asked = actor.facts
    actor.begins, actor.ends = world.now, world.now + SECONDS
    if fault := world.point("begin", actor.name):
        actor.skew = 5.0 if fault == "clock-ahead" else -5.0
        actor.begins, actor.ends = world.now, world.now + SECONDS
    asked.asked_at = world.now
    world.asked.append(actor)
    if world.watch:
        world.watch.begun(actor)
    request = asked.request
    if isinstance(request, BuildRequest):
        ref = request.ref or "main"
        asked.heads = {ref if is_full_id(ref) else world.refs[ref]}
    me = Builder(
        NAME, f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{NAME}", asked.request_id, RUNTIME, ARCHITECTURE,
        asked.log_stream, until=world.now + actor.skew + SECONDS, came=world.now + actor.skew,
    )  # fmt: skip
    aws = Aws(world.s3, world.functions, make=unexpected)
    workshop = SimpleNamespace(start=nothing, close=nothing)
    job = Job(
        SETTINGS, me, SPACE, QuietLog(), cast(Any, SHELL), aws, Store(world.s3, BUCKET, NAME, ACCOUNT),
        cast(Any, workshop),
    )  # fmt: skip
    context = SimpleNamespace(get_remaining_time_in_millis=lambda: max(1, int((actor.ends - world.now) * 1000)))
    try:
        asked.result = lambda_function.run_action(request, job, cast(Any, context))
    except YoDawgError as error:
        asked.error = error
    asked.answered_at = world.now
    world.trace.add(actor, "answer", actor.name, None)
    if world.watch:
        world.watch.answered(actor)


class QuietLog(Log):
    """A log that is neither printed nor kept: its file is empty."""

    def __init__(self) -> None:
        """Begin one."""
        super().__init__(())
        self.file = buffer()  # type: ignore[assignment]

    def info(self, text: str) -> None:
        """Say nothing."""
