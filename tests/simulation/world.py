"""The simulated world: a virtual clock, builders that take turns, and the list of choices that a run follows.

Nothing here takes real time, touches a disk or opens a socket.  Every call that the control code makes of AWS or of
the workshop is a *point*, and points are numbered in the order in which a run meets them.  A run is told what to do
at some of them: let another actor go on (">1"), or have a fault ("lost").  At all others things go well and whoever
runs goes on.  So a run is its list of choices, and comes out the same each time.

Threads: each actor has one, of which exactly one runs at a time: who has the baton.  It is handed on at points only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

if TYPE_CHECKING:
    from tests.simulation.invariants import Watch

CALL_SECONDS = 0.01
"""How long a call of AWS takes."""

MOST_POINTS = 3000
"""A run that meets more of them goes round in circles."""


class Crash(BaseException):
    """The environment is gone: nothing that this builder still does reaches the world."""


class Violation(AssertionError):
    """An invariant does not hold."""


class Point(NamedTuple):
    """Where a choice can be made: what an actor is about to do, and to what."""

    actor: int
    operation: str
    resource: str
    others: tuple[int, ...]
    """Who else could go on."""


@dataclass(eq=False)
class Actor:
    """A builder's invocation, or somebody else who does something."""

    name: str
    body: Callable[[Actor], None]
    inline: bool = False
    """Whether it does one thing, only when it is chosen; such a one needs no thread."""
    is_builder: bool = True
    index: int = 0
    begins: float = 0.0
    ends: float = 0.0
    """When Lambda kills it."""
    skew: float = 0.0
    """By how many seconds its clock is ahead."""
    alarm: float | None = None
    handler: Any = None
    started: bool = False
    finished: bool = False
    dead: bool = False
    faults: list[str] = field(default_factory=list)
    """Those that it met."""
    busy_until: dict[str, float] = field(default_factory=dict)
    """Until when an operation conflicts with whatever AWS is at."""
    facts: Any = None
    """What a builder was asked, and what it answered."""
    baton: threading.Lock = field(default_factory=lambda: locked())
    failure: BaseException | None = None


def locked() -> threading.Lock:
    """Return a lock that is taken."""
    lock = threading.Lock()
    lock.acquire()
    return lock


class World:
    """One run: its clock, its actors, its choices."""

    def __init__(self, actors: Sequence[Actor], choices: Mapping[int, str], now: float = 1_800_000_000.0) -> None:
        """Begin, with nobody on the stage yet."""
        self.now = now
        self.actors = list(actors)
        for index, actor in enumerate(self.actors):
            actor.index = index
        self.choices = choices
        self.points: list[Point] = []
        self.exploring = True
        self.current: Actor | None = None
        self.watch: Watch | None = None

    # --- points ---

    def point(self, operation: str, resource: str) -> str | None:
        """Let others go on if that is chosen; return the fault that is chosen, if there is one."""
        actor = self.current
        assert actor is not None
        if actor.dead:
            raise Crash
        fault = None
        while self.exploring:
            number = len(self.points)
            if number > MOST_POINTS:
                raise Violation(f"{actor.name} goes round in circles at {operation} {resource}")
            self.points.append(Point(actor.index, operation, resource, self.others(actor)))
            choice = self.choices.get(number)
            if choice is None:
                break
            if not choice.startswith(">"):
                fault = choice
                actor.faults.append(choice)
                break
            self.give_way(self.actors[int(choice[1:])])
        self.check_time(actor)
        return fault

    def take(self, seconds: float = CALL_SECONDS) -> None:
        """Let a call take its time; the alarm may ring meanwhile."""
        self.now += seconds
        assert self.current is not None
        self.check_time(self.current)

    def check_time(self, actor: Actor) -> None:
        """Kill who overstays, and ring the alarm of whose time is over."""
        if actor.ends and self.now >= actor.ends:
            self.kill(actor)
        if actor.alarm is not None and self.now >= actor.alarm:
            actor.alarm = None
            actor.handler(0, None)

    def kill(self, actor: Actor) -> NoReturn:
        """End an actor where it stands."""
        actor.dead = True
        raise Crash

    def hang(self, actor: Actor) -> None:
        """Let an answer take until the alarm rings."""
        self.now = max(self.now, actor.alarm or 0.0, actor.begins + 1.0)
        self.check_time(actor)

    def sleep(self, seconds: float, *, waiting: bool = False) -> None:
        """Sleep; who waits for another builder lets that one go on meanwhile."""
        actor = self.current
        assert actor is not None
        if actor.dead:
            raise Crash
        wakes = self.now + seconds
        if waiting and self.exploring and (other := self.somebody_else(actor)):
            self.give_way(other)
        if actor.alarm is not None and actor.alarm < wakes:
            wakes = actor.alarm
        self.now = max(self.now, wakes)
        self.check_time(actor)

    # --- taking turns ---

    def others(self, actor: Actor) -> tuple[int, ...]:
        """Return who else could go on."""
        if len(self.actors) == 1:
            return ()
        return tuple(each.index for each in self.actors if each is not actor and not each.finished)

    def somebody_else(self, actor: Actor) -> Actor | None:
        """Return another builder that can go on."""
        others = (each for each in self.actors if each is not actor and not each.finished and not each.inline)
        return next(others, None)

    def give_way(self, other: Actor) -> None:
        """Let another actor go on; come back when it is this one's turn again."""
        me = self.current
        assert me is not None
        if other.finished or other is me:
            return
        if other.inline:
            other.finished = True
            self.current = other
            other.body(other)
            self.current = me
            return
        self.hand_to(other)
        me.baton.acquire()
        self.current = me

    def hand_to(self, other: Actor) -> None:
        """Hand the baton to an actor, which may begin with that."""
        if other.started:
            other.baton.release()
        else:
            other.started = True
            THREADS.run(lambda: self.play(other))

    def play(self, actor: Actor) -> None:
        """Let an actor do what it does, from its beginning to its end, and hand the baton on."""
        self.perform(actor)
        while following := self.somebody_else(actor):
            if following.started:
                self.hand_to(following)
                return
            following.started = True
            self.perform(following)
            actor = following
        self.over.release()

    def perform(self, actor: Actor) -> None:
        """Let an actor do what it does."""
        self.current = actor
        try:
            actor.body(actor)
        except Crash:
            pass
        except BaseException as error:
            actor.failure = error
        actor.finished = True

    def run(self) -> None:
        """Let all play, the first one first; raise what one of them failed with."""
        first = self.actors[0]
        first.started = True
        builders = [each for each in self.actors if not each.inline]
        if len(builders) == 1:
            self.perform(first)
        else:
            self.over = locked()
            self.play(first)
            self.over.acquire()
        for actor in self.actors:
            if actor.failure:
                raise actor.failure


class Threads:
    """Threads that are kept from one run to the next: to start one takes longer than a schedule."""

    def __init__(self) -> None:
        """Have none yet."""
        self.idle: list[tuple[threading.Lock, list[Callable[[], None]]]] = []

    def run(self, work: Callable[[], None]) -> None:
        """Have a thread do this."""
        if self.idle:
            bell, jobs = self.idle.pop()
            jobs.append(work)
            bell.release()
            return
        bell, jobs = locked(), [work]
        threading.Thread(target=self.serve, args=(bell, jobs), daemon=True).start()
        bell.release()

    def serve(self, bell: threading.Lock, jobs: list[Callable[[], None]]) -> None:
        """Do one job after another."""
        while True:
            bell.acquire()
            jobs.pop()()
            self.idle.append((bell, jobs))


THREADS = Threads()
