"""The simulated world: a virtual clock, builders that take turns, and the list of choices that a run follows.

Nothing here takes real time, touches a disk or opens a socket.  Every call that the control code makes of AWS or of
the workshop is a *point*, and points are numbered in the order in which a run meets them.  A run is told what to do
at some of them: let another actor go on (">1"), or have a fault ("lost").  At all others things go well and whoever
runs goes on.  So a run is its list of choices, and comes out the same each time.

Each actor has a stack of its own, a greenlet: exactly one goes on at a time, and gives way at points only.  Threads
would do the same, but to hand on from one to another takes longer than all that happens between two points.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from greenlet import getcurrent, greenlet

from tests.simulation.traces import Trace

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
    follows_at_once: bool
    """Whether the same actor has made the call before this one, and has not slept since."""


@dataclass(eq=False)
class Actor:
    """A builder's invocation, or somebody else who does something."""

    name: str
    body: Callable[[Actor], None]
    inline: bool = False
    """Whether it does one thing, only when it is chosen; such a one needs no stack."""
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
    stack: greenlet | None = None
    failure: BaseException | None = None
    trace: int = 0
    """A digest of all that it has done, and found."""


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
        self.trace = Trace()
        self.is_known: Callable[[int], bool] | None = None
        """Whether all that can follow from a state is tried by other runs: then this one is broken off."""
        self.broken_off = False
        self.current: Actor | None = None
        self.others_of: dict[int, tuple[int, ...]] = {}
        """By actor, who else could go on: until somebody ends."""
        self.acted_last: Actor | None = None
        """Who has come to the last point, if he has not slept since."""
        self.stage: greenlet | None = None
        """To where one who ends goes back."""
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
            self.points.append(Point(actor.index, operation, resource, self.others(actor), self.acted_last is actor))
            self.acted_last = actor
            choice = self.choices.get(number)
            if choice is None:
                if self.is_known and self.is_known(number):
                    self.break_off()
                break
            if not choice.startswith(">"):
                fault = choice
                actor.faults.append(choice)
                break
            self.give_way(self.actors[int(choice[1:])])
            if actor.dead:
                raise Crash
        self.check_time(actor)
        self.trace.add(actor, operation, resource, fault)
        return fault

    def state(self) -> int:
        """Return a digest of all from which this run goes on."""
        assert self.current is not None
        return self.trace.state(self.actors, self.current, self.now)

    def break_off(self) -> NoReturn:
        """End everybody where they stand."""
        self.broken_off, self.exploring = True, False
        for each in self.actors:
            each.dead = True
            each.finished |= not each.started
        raise Crash

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
        self.acted_last = None
        if waiting and self.exploring and (other := self.somebody_else(actor)):
            self.give_way(other)
            if actor.dead:
                raise Crash
        if not waiting and actor.busy_until:  # what was refused is refused again until then: not each time is run
            wakes = max(wakes, min(actor.ends, *actor.busy_until.values()))
        if actor.alarm is not None and actor.alarm < wakes:
            wakes = actor.alarm
        self.now = max(self.now, wakes)
        self.check_time(actor)

    # --- taking turns ---

    def others(self, actor: Actor) -> tuple[int, ...]:
        """Return who else could go on."""
        if (found := self.others_of.get(actor.index)) is None:
            others = (each.index for each in self.actors if each is not actor and not each.finished)
            found = self.others_of[actor.index] = tuple(others)
        return found

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
            self.others_of.clear()
            self.current = other
            other.body(other)
            self.trace.by_hand(other)
            self.current = me
            return
        self.enter(other)
        self.current = me

    def enter(self, actor: Actor) -> None:
        """Let an actor go on, or begin; return when it ends, or when it is this one's turn again."""
        if actor.stack is None:
            actor.started, actor.stack = True, greenlet(self.perform, self.stage)
            actor.stack.switch(actor)
        else:
            actor.stack.switch()

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
        self.others_of.clear()

    def run(self) -> None:
        """Let all play, the first one first; raise what one of them failed with."""
        following: Actor | None = self.actors[0]
        self.stage = getcurrent()
        if all(each.inline for each in self.actors[1:]):
            self.actors[0].started, following = True, None
            self.perform(self.actors[0])
        while following:
            self.enter(following)  # whoever of them ends, ends here
            assert self.current
            following = self.somebody_else(self.current)
        for actor in self.actors:
            if actor.failure:
                raise actor.failure
