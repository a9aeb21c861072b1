"""Schedules: running one, and going through all of a scenario's.

A schedule is a scenario's name and a list of choices, "12:>1 30:lost".  ``play`` runs one and checks the invariants;
``explore`` yields every schedule with so many switches and faults, each exactly once: a schedule's children make one
more choice, later in its run than its own last one.
"""

from __future__ import annotations

import bisect
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.simulation.builders import Asked, Region, builder
from tests.simulation.faults import LAMBDA_READS, S3_READS, WORKSHOP, faults_at
from tests.simulation.invariants import Watch
from tests.simulation.notation import FastJson
from tests.simulation.scenarios import Scenario, build, place
from tests.simulation.stubs import HERE
from tests.simulation.witness import EMPTY, demand
from tests.simulation.world import MOST_POINTS, Actor, Point, Violation
from yo_dawg.errors import BuildInProgress

Choices = dict[int, str]

LOCAL = ("package", "download", "update_function_code(DryRun)", "invoke(DryRun)")
"""What nobody else can see: to be interrupted just before it is the same as just after it."""

HARMLESS = (*S3_READS, *LAMBDA_READS, *WORKSHOP)
"""Calls that change nothing, but for who makes them."""

LIGHT = ("crash-before", "crash-after", "denied", "slow-before", "slow-after", "lost", "lost-for-good", "conflict",
         "fails", "clock-ahead", "clock-behind")  # fmt: skip
"""The faults that are tried where a run has switches too: the rest differ from these in how often a call is made."""


@dataclass(frozen=True)
class Played:
    """What became of a schedule."""

    scenario: str
    choices: Choices
    points: list[Point]
    facts: tuple[Asked, ...]
    broken_off: bool
    """Whether it came to a state from which another run has gone on: so it was shown equal to that one."""


def written(scenario: str, choices: Choices) -> str:
    """Write a schedule as ``read`` reads it."""
    return f"{scenario}: {' '.join(f'{number}:{each}' for number, each in sorted(choices.items()))}".strip()


def read(text: str) -> tuple[str, Choices]:
    """Read a schedule."""
    name, _, rest = text.partition(":")
    pairs = (each.partition(":") for each in rest.split())
    return name, {int(number): choice for number, _, choice in pairs}


def play(scenario: Scenario, choices: Choices, watch_states: Callable[[Region, Choices], None] | None = None) -> Played:
    """Run a schedule, and then one more build that must succeed; raise Violation."""
    start = place()
    actors = [make() for make in scenario.actors]
    world = Region(actors, choices, start)
    if hasattr(choices, "world"):
        choices.world = world  # dice
    world.refs["main"] = scenario.main
    HERE.world, HERE.pinned = world, scenario.pinned
    FastJson.forget()
    watch = Watch(world)
    if watch_states:
        watch_states(world, choices)
    try:
        world.run()
        points = world.points
        if not world.broken_off:
            watch.quiet()
        if not world.broken_off and (state := fingerprint(scenario, world, watch)) not in SEEN:
            follow(scenario, world, watch)
            SEEN.add(state)
    except Exception as error:
        told = "".join(
            f"\n  {number}: {world.actors[each.actor].name} {each.operation} {each.resource}"
            f"{'   <- ' + choices[number] if number in choices else ''}"
            for number, each in enumerate(world.points)
        )
        raise Violation(f"{written(scenario.name, choices)}\n{type(error).__name__}: {error}{told}") from error
    facts = tuple(each.facts for each in actors if each.is_builder)
    return Played(scenario.name, choices, points, facts, world.broken_off)


SEEN: set[object] = set()
"""The states, as runs have left them, after which one more build was seen to go well.

What that build does hangs on the state alone, not on how it came about; few schedules end in one of their own.
"""


def fingerprint(scenario: Scenario, world: Region, watch: Watch) -> object:
    """Return all that a run has left, and what its actors were told, but for the exact times."""
    functions = tuple(
        (
            each.latest.unit.config["CodeSha256"], each.latest.update, tuple(each.versions),
            tuple((alias.name, alias.version) for alias in each.aliases.values()),
        )
        for each in world.api.functions.values()
    )  # fmt: skip
    pages = tuple(
        (name, said(page["holder"]), tuple(map(said, page["history"]))) for name, page in sorted(watch.pages.items())
    )
    keys = frozenset(key if "/builds/" not in key else key.partition("Z-")[2] for key in world.s3.objects)
    actors = tuple(
        (
            each.dead, *troubles(each), each.skew,
            each.facts and ((each.facts.result or {}).get("status"), type(each.facts.error), each.facts.built),
        )
        for each in world.actors
    )  # fmt: skip
    changes = tuple((actor.index, *rest) for actor, *rest in watch.changes)
    suspects = tuple((name, code, min(2, watch.troubles(name))) for name, (code, _) in watch.suspects.items())
    others = frozenset(watch.foreign), suspects
    return scenario.name, functions, pages, keys, actors, changes, others, world.refs["main"]


def troubles(actor: Actor) -> tuple[object, ...]:
    """Return what of an actor's faults makes a difference to what is checked later."""
    faults = actor.faults
    return bool(faults), bool(faults) and faults[-1].endswith("-warm"), "denied" in faults or "lost" in faults


def said(entry: dict[str, Any] | None) -> object:
    """Return what an entry of a ledger says, but for the times."""
    if entry is None:
        return None
    names = ("request_id", "log_stream", "status", "commit", "code_sha256", "version", "alias", "replaces")
    return *(entry[name] for name in names), entry["error"] is None, entry.get("falls_back_to")


def follow(scenario: Scenario, world: Region, watch: Watch) -> None:
    """Build once more, undisturbed: at once, and again once whoever died must be overruled."""
    world.exploring = False
    warm = [each for each in world.actors if each.faults and each.faults[-1].endswith("-warm") and each.dead]
    names = list(scenario.functions)
    request = build(function=names if len(names) > 1 else names[0], ref="main")
    for number in range(3):
        stream = warm[0].facts.log_stream if warm and number == 0 else ""
        actor = builder(f"F{number}", request, log_stream=stream)()
        actor.index = len(world.actors)
        world.actors.append(actor)
        world.perform(actor)
        asked: Asked = actor.facts
        if actor.failure:
            raise actor.failure
        if isinstance(asked.error, BuildInProgress):
            demand(number == 0, 6, f"nobody can build {names}, though all have ended: {asked.error}")
            if warm and not any(each.faults for each in world.actors if each is not warm[0]):
                demand(False, 6, f"the next invocation in the same environment has to wait: {asked.error}")
            world.now = max(each.ends for each in world.actors if each.ends) + 10.5
            continue
        demand(asked.error is None, 6, f"the build that follows fails: {asked.error}")
        history = watch.pages.get(names[0], EMPTY)["history"]
        if history and history[0]["request_id"] == asked.request_id:
            break
        world.now += 61.0
    watch.settled(names)


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
            is_switch = child.choices[child.at[0]].startswith(">")
            self.next[parent] += ((each, is_switch, number) for each in child.at)
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
        run = known.begin(parent, child)
        try:
            played = play(scenario, child.choices, functools.partial(known.watch, run=run))
        except Violation as error:
            if failures is None:
                raise
            failures.append(str(error))
            continue
        yield played
        stack += ((run, each) for each in children(played, child.allowed, light=light))


def children(played: Played, allowed: int, *, light: bool) -> list[Child]:
    """Return the schedules with one choice more than this."""
    last, found = max(played.choices, default=-1), list[Child]()
    with_fault, with_switch = after(allowed, is_switch=False), after(allowed, is_switch=True)
    crashes: dict[bool, Child] = {}
    # Where a run was broken off, another one has been, and has its children there.
    for number in range(last + 1, len(played.points) - played.broken_off):
        point = played.points[number]
        if not point.follows_at_once:
            crashes.clear()
        for fault in faults_at(point.operation) if with_fault else ():
            if light and fault not in LIGHT:
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
            found += (Child({**played.choices, number: f">{each}"}, with_switch, [number]) for each in point.others)
    return found
