"""Many schedules on all cores: what is tried, how it is shared out, and what it came to."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from tests.simulation.exploring import Known, budget, explore
from tests.simulation.faults import faults_at
from tests.simulation.scenarios import ALONE, DISTURBED, IN_TURN, SCENARIOS, TOGETHER, Scenario, place
from tests.simulation.scheduler import SEEN, Played, play
from tests.simulation.stubs import simulated
from tests.simulation.world import Violation, World

IS_SHARED = "PYTEST_XDIST_WORKER" in os.environ
"""Whether other tests run at the same time, on all cores: so it is in CI."""

CORES = 1 if IS_SHARED else min(os.cpu_count() or 1, 8)


@dataclass(frozen=True)
class Task:
    """All of a scenario's schedules with so many switches and faults; or some at random, of any scenario."""

    scenario: str = ""
    allowed: tuple[tuple[int, int], ...] = ()
    light: bool = False
    seed: int = 0
    count: int = 0
    """How many at random."""


@dataclass
class Outcome:
    """What became of many schedules."""

    ended: int = 0
    """How many were run to their end."""
    broken_off: int = 0
    """How many were run until they came to a state that another had come to."""
    stand_for: int = 0
    """How many schedules there are: these, and those that begin as one that was broken off, which were not run."""
    by_scenario: Counter[str] = field(default_factory=Counter)
    covered: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """By scenario, operation and fault: how many schedules have it."""
    switched: int = 0
    violations: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, played: Played) -> None:
        """Count a schedule."""
        self.broken_off += played.broken_off
        self.ended += not played.broken_off
        self.by_scenario[played.scenario] += 1
        for number, choice in played.choices.items():
            if choice.startswith(">"):
                self.switched += 1
            else:
                self.covered[(played.scenario, played.points[number].operation, choice)] += 1

    def merge(self, other: Outcome) -> None:
        """Add what another process has counted."""
        self.ended += other.ended
        self.broken_off += other.broken_off
        self.stand_for += other.stand_for
        self.by_scenario += other.by_scenario
        self.covered += other.covered
        self.switched += other.switched
        self.violations += other.violations

    def __str__(self) -> str:
        """Return the account that is printed."""
        run = self.ended + self.broken_off
        lines = [
            f"{self.stand_for:,} schedules, of which {run:,} were run in {self.seconds:.0f} s "
            f"({run / self.seconds:.0f} a second), {self.switched:,} switches in them: {self.ended:,} to their end, "
            f"{self.broken_off:,} until they were shown equal to one of these",
            f"coverage: {len(self.covered):,} of scenario x call x fault; {len({each[1] for each in self.covered})} "
            f"calls, {len({each[2] for each in self.covered})} faults, {len(self.by_scenario)} scenarios",
            *(f"{count:9,} {name}" for name, count in self.by_scenario.items()),
            "faults: " + ", ".join(sorted({each[2] for each in self.covered})),
        ]
        return "\n".join(lines)


def tasks(*, everything: bool) -> list[Task]:
    """Return all that the exhaustive run does.

    One builder: every fault at every call.  Several actors: every interleaving with three switches, and with one switch
    and one fault (where the scenario is ``brief``, with a fault without a switch); if everything is asked for, with
    three switches, with two and one fault, and alone with two faults.  Beside other tests, one switch or one fault.
    """

    def allowed(scenario: Scenario) -> tuple[tuple[int, int], ...]:
        if IS_SHARED:
            return ((1, 0), (0, 1))
        most = 2 if len(scenario.actors) > 2 else 3
        return (most, 0), (2, 1) if everything else (0, 1) if scenario.brief else (1, 1)

    # The largest come last in these lists, and have to come first here: else one process works alone at the end.
    several = [Task(each.name, allowed(each), light=True) for each in (*reversed(DISTURBED), *reversed(TOGETHER))]
    alone = [Task(each.name, ((0, 1),)) for each in ALONE]
    twice = [Task(each.name, ((0, 2),), light=True) for each in ALONE] if everything else []
    return [*several, *alone, *twice, *(Task(each.name, ((0, 0),)) for each in IN_TURN)]


MOST_VIOLATIONS = 50
"""Of one task: then it ends."""


def perform(task: Task) -> Outcome:
    """Do a task."""
    outcome, known = Outcome(), Known()
    with simulated(), collecting_seldom():
        place()
        SEEN.clear()
        for played in at_random(task, outcome.violations) if task.count else of_scenario(task, known, outcome):
            outcome.add(played)
            if (outcome.ended + outcome.broken_off) % 100 == 0:
                gc.collect()
                gc.freeze()  # what is there now stays: it need not be looked at again
            if len(outcome.violations) >= MOST_VIOLATIONS:
                break
    outcome.stand_for = known.count() or outcome.ended
    return outcome


@contextlib.contextmanager
def collecting_seldom() -> Iterator[None]:
    """Let Python look for garbage between schedules only: in them it looks in vain."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def of_scenario(task: Task, known: Known, outcome: Outcome) -> Iterator[Played]:
    """Run a scenario's schedules."""
    scenario, allowed = SCENARIOS[task.scenario], budget(*task.allowed)
    return explore(scenario, allowed, light=task.light, known=known, failures=outcome.violations)


class Dice(dict[int, str]):
    """Choices that are made as the run goes, and kept: then they are a list like any other."""

    def __init__(self, dice: random.Random, faults: int) -> None:
        """Throw these dice, for so many faults at most."""
        super().__init__()
        self.dice, self.left = dice, faults
        self.world: World | None = None

    def get(self, number: int, _default: object = None) -> str | None:  # type: ignore[override]
        """Choose what is done at a point."""
        assert self.world
        point, dice = self.world.points[number], self.dice
        if point.others and dice.random() < 0.08:
            self[number] = f">{dice.choice(point.others)}"
        elif self.left and dice.random() < 0.02:
            self.left -= 1
            self[number] = dice.choice(faults_at(point.operation))
        return super().get(number)


def at_random(task: Task, failures: list[str]) -> Iterator[Played]:
    """Run so many schedules of any scenarios, with any number of switches and up to three faults, each once."""
    dice = random.Random(task.seed)  # noqa: S311  # no secret hangs on it
    scenarios, done = [*SCENARIOS.values()], set[object]()
    for _ in range(task.count):
        scenario, choices = dice.choice(scenarios), Dice(dice, dice.choice((0, 1, 1, 2, 3)))
        try:
            played = play(scenario, choices)
        except Violation as error:
            failures.append(str(error))
            continue
        if (which := (scenario.name, frozenset(choices.items()))) not in done:
            done.add(which)
            yield played


def campaign(all_tasks: Sequence[Task]) -> Outcome:
    """Do all tasks, on all cores."""
    began, total = time.monotonic(), Outcome()
    if CORES == 1:
        for task in all_tasks:
            total.merge(perform(task))
    else:
        with ProcessPoolExecutor(CORES, multiprocessing.get_context("spawn")) as pool:
            for outcome in pool.map(perform, all_tasks):
                total.merge(outcome)
    total.seconds = time.monotonic() - began
    return total
