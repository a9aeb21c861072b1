"""Going through all of a scenario's schedules with so many switches and faults, and running no two that are equal.

A schedule's children make one more choice, later in its run than its own last one.  Three things are not run:
a crash that leaves what another leaves (``children``), a switch that may as well come later (``is_like_later``), and
what follows once a run has come to a state that another has been in (``Known``).  They are counted as what they are.
"""

from __future__ import annotations

import bisect
import functools
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.simulation.builders import Region
from tests.simulation.faults import LAMBDA_READS, S3_READS, WORKSHOP, faults_at
from tests.simulation.scenarios import Scenario
from tests.simulation.scheduler import Choices, Played, play
from tests.simulation.traces import are_independent
from tests.simulation.world import MOST_POINTS, Point, Violation

LOCAL = ("package", "download", "update_function_code(DryRun)", "invoke(DryRun)")
"""What nobody else can see: to be interrupted just before it is the same as just after it."""

HARMLESS = (*S3_READS, *LAMBDA_READS, *WORKSHOP)
"""Calls that change nothing, but for who makes them."""

LIGHT = ("crash-before", "crash-after", "denied", "slow-before", "slow-after", "lost", "lost-for-good", "conflict",
         "fails", "clock-ahead", "clock-behind")  # fmt: skip
"""The faults that are tried where a run has switches too: the rest differ from these in how often a call is made."""


def is_light(fault: str, operation: str) -> bool:
    """Say whether a fault is tried at a call where a run has switches too.

    That a question is never answered is tried without a switch: what follows is as if it had been refused, but later.
    """
    return fault in LIGHT and not (fault == "slow-before" and operation in HARMLESS)


def budget(*allowed: tuple[int, int]) -> int:
    """Return the set of what a run may still have: so many switches with so many faults, or so many of each, or …

    There is a bit for each pair of numbers, also for those that are less than what is allowed.
    """
    pairs = {(s, f) for switches, faults in allowed for s in range(switches + 1) for f in range(faults + 1)}
    return sum(1 << (MOST_FAULTS * switches + faults) for switches, faults in pairs)


MOST_FAULTS = 4
ONE_FAULT_LESS = sum(0b0111 << (MOST_FAULTS * switches) for switches in range(8))


@dataclass
class Child:
    """A schedule with one choice more than another."""

    choices: Choices
    allowed: int
    """What it may have beside it."""
    at: list[int]
    """The points at which the choice can be made with the same outcome."""
    is_switch: bool = False
    later: Child | None = None
    """Of a switch, the one that comes next to the same actor."""
    between: list[Point] = field(default_factory=list)
    """The calls between the two."""
    run: int = -1
    meanwhile: list[Point] | None = None
    """Of a switch that was run: what others did until it was this actor's turn again."""


class Known:
    """The states that the runs of a scenario have come to, each with what those that go on from it may have.

    A run that comes to one of them, and may have no more than that, is broken off: what follows is tried already.
    """

    def __init__(self) -> None:
        """Know none."""
        self.met: dict[int, dict[int, tuple[int, int]]] = {}
        """By state and by what may follow, which run has met it at which point."""
        self.allowed: list[int] = []
        """By run, what it may have beside its choices."""
        self.next: list[list[tuple[int, bool, int]]] = []
        """By run, those with one choice more: at which point, whether that is a switch, and their number."""
        self.equal: dict[int, tuple[int, int]] = {}
        """By run that was broken off, the one that has gone on from there, and from which of its points."""

    def begin(self, parent: int, child: Child) -> int:
        """Note a run; return its number."""
        number = len(self.allowed)
        self.allowed.append(child.allowed)
        self.next.append([])
        if parent >= 0:
            self.next[parent] += ((each, child.is_switch, number) for each in child.at)
        return number

    def watch(self, world: Region, choices: Choices, run: int) -> None:
        """Look at each state that a run comes to once its choices are made."""
        last, allowed = max(choices, default=-1), self.allowed[run]
        # Who has just been switched to is not interrupted at once: less is tried there than elsewhere.
        first_that_counts = last + 2 if choices.get(last, "").startswith(">") else last + 1

        def is_known(number: int) -> bool:
            if number < first_that_counts:
                return False
            met = self.met.setdefault(world.state(), {})
            for more, where in met.items():
                if allowed & ~more == 0:
                    self.equal[run] = where
                    return True
            met[allowed] = run, number
            return False

        world.is_known = is_known

    def is_like_later(self, child: Child, parent: int) -> bool:
        """Say whether a switch is the same as the later one, since the calls between may come before it or after.

        So it is if what others do meanwhile touches nothing that these touch.  With a fault to come it is run all the
        same: that may take so long that this actor's alarm rings at the first of its calls.
        """
        later = child.later
        if later is None or later.meanwhile is None or after(child.allowed, is_switch=False):
            return False
        if not are_independent(child.between, later.meanwhile):
            return False
        child.run, child.meanwhile = later.run, later.meanwhile
        self.next[parent].append((child.at[0], True, child.run))
        return True

    def count(self) -> int:
        """Return how many schedules there are, with those that were shown equal to one that was run."""
        ends: dict[tuple[int, int], tuple[list[int], list[int]]] = {}

        def from_point(run: int, number: int, allowed: int) -> int:
            if (run, allowed) not in ends:
                points, sums = [MOST_POINTS + 1], [from_point(*self.equal[run], allowed) if run in self.equal else 1]
                for at, is_switch, child in sorted(self.next[run], reverse=True):
                    if more := after(allowed, is_switch=is_switch):
                        points.append(at)
                        sums.append(sums[-1] + from_point(child, 0, more))
                ends[run, allowed] = points[::-1], sums[::-1]
            points, sums = ends[run, allowed]
            return sums[bisect.bisect_left(points, number)]

        return from_point(0, 0, self.allowed[0]) if self.allowed else 0


def after(allowed: int, *, is_switch: bool) -> int:
    """Return what a run may still have once it has had a switch, or a fault."""
    return allowed >> MOST_FAULTS if is_switch else allowed >> 1 & ONE_FAULT_LESS


def explore(
    scenario: Scenario,
    allowed: int,
    *,
    light: bool = False,
    known: Known | None = None,
    failures: list[str] | None = None,
) -> Iterator[Played]:
    """Yield every schedule that has no more switches and faults than are allowed, each once.

    The first that breaks an invariant ends it, unless there is a list for those.
    """
    known = known or Known()
    stack = [(-1, Child({}, allowed, []))]
    while stack:
        parent, child = stack.pop()
        if known.is_like_later(child, parent):
            continue
        run = child.run = known.begin(parent, child)
        try:
            played = play(scenario, child.choices, functools.partial(known.watch, run=run))
        except Violation as error:
            if failures is None:
                raise
            failures.append(str(error))
            continue
        child.meanwhile = meanwhile(played) if child.is_switch else None
        yield played
        stack += ((run, each) for each in children(played, child.allowed, light=light))


BY_HAND = Point(-1, "by hand", "", (), follows_at_once=False)
"""What stands for one who does a thing by hand: that is no point of a run."""


def meanwhile(played: Played) -> list[Point] | None:
    """Return what others did after a run's last choice, a switch, until that actor's turn; None if it never came."""
    last, found = max(played.choices), list[Point]()
    for point in played.points[last + 1 :]:
        if point.actor == played.points[last].actor:
            return found or [BY_HAND]
        found.append(point)
    return None


def children(played: Played, allowed: int, *, light: bool) -> list[Child]:
    """Return the schedules with one choice more than this."""
    last, found = max(played.choices, default=-1), list[Child]()
    with_fault, with_switch = after(allowed, is_switch=False), after(allowed, is_switch=True)
    crashes: dict[bool, Child] = {}
    switches: dict[int, Child] = {}
    # Where a run was broken off, another one has been, and has its children there.
    for number in range(last + 1, len(played.points) - played.broken_off):
        point = played.points[number]
        if not point.follows_at_once:
            crashes.clear()
            switches.clear()
        for fault in faults_at(point.operation) if with_fault else ():
            if light and not is_light(fault, point.operation):
                continue
            is_crash, is_warm = fault.startswith("crash-"), fault.endswith("-warm")
            # To die after a call is to die before the next one; and a question leaves nothing, whenever one dies.
            is_first = fault.startswith("crash-before")
            if is_crash and is_warm in crashes and (is_first or point.operation in HARMLESS):
                crashes[is_warm].at.append(number)
                continue
            child = Child({**played.choices, number: fault}, with_fault, [number])
            found.append(child)
            if is_crash:
                crashes[is_warm] = child
        has_just_switched = played.choices.get(number - 1, "").startswith(">")
        if with_switch and point.operation not in LOCAL and not has_just_switched:
            for each in point.others:
                child = Child({**played.choices, number: f">{each}"}, with_switch, [number], is_switch=True)
                found.append(child)
                if each in switches:
                    switches[each].later = child
                switches[each] = child
        for switch in switches.values():
            switch.between.append(point)
    return found
