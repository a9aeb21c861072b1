"""Running a schedule: a scenario's name and a list of choices, "12:>1 30:lost".

``play`` runs one, then one more build that must succeed, and checks the invariants.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.simulation.builders import Asked, Region, builder
from tests.simulation.invariants import Watch
from tests.simulation.notation import FastJson
from tests.simulation.scenarios import Scenario, build, place
from tests.simulation.stubs import HERE
from tests.simulation.witness import EMPTY, demand
from tests.simulation.world import Actor, Point, Violation
from yo_dawg.errors import BuildInProgress

Choices = dict[int, str]


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
