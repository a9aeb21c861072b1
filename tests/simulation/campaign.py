"""Many schedules on all cores: what is tried, how it is shared out, and what it came to."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import os
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from tests.simulation.builders import simulated
from tests.simulation.faults import faults_at
from tests.simulation.scenarios import ALONE, DISTURBED, SCENARIOS, TOGETHER, place
from tests.simulation.scheduler import Played, children, explore, play
from tests.simulation.world import Violation, World

CORES = min(os.cpu_count() or 1, 8)


@dataclass(frozen=True)
class Task:
    """A part of a scenario's schedules: those that begin with these choices."""

    scenario: str
    switches: int
    faults: int
    start: tuple[tuple[int, str], ...] = ()
    light: bool = False
    seed: int | None = None
    """Of a random part, which has so many ``switches``."""


@dataclass
class Outcome:
    """What became of many schedules."""

    schedules: int = 0
    by_scenario: Counter[str] = field(default_factory=Counter)
    covered: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """By scenario, operation and fault: how many schedules have it."""
    switched: int = 0
    violations: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, played: Played) -> None:
        """Count a schedule."""
        self.schedules += 1
        self.by_scenario[played.scenario] += 1
        for number, choice in played.choices.items():
            if choice.startswith(">"):
                self.switched += 1
            else:
                self.covered[(played.scenario, played.points[number].operation, choice)] += 1

    def merge(self, other: Outcome) -> None:
        """Add what another process has counted."""
        self.schedules += other.schedules
        self.by_scenario += other.by_scenario
        self.covered += other.covered
        self.switched += other.switched
        self.violations += other.violations

    def __str__(self) -> str:
        """Return the account that is printed."""
        calls = {each[:2] for each in self.covered}
        faults = sorted({each[2] for each in self.covered})
        lines = [
            f"{self.schedules:,} schedules in {self.seconds:.0f} s ({self.schedules / self.seconds:.0f} a second), "
            f"{self.switched:,} switches",
            f"coverage: {len(self.covered):,} of scenario x call x fault; {len({each[1] for each in calls})} calls, "
            f"{len(faults)} faults, {len(self.by_scenario)} scenarios",
            *(f"{count:9,} {name}" for name, count in self.by_scenario.items()),
            "faults: " + ", ".join(faults),
        ]
        return "\n".join(lines)


def tasks(*, everything: bool) -> Iterator[Task]:
    """Yield all that the exhaustive run does, in parts.

    One builder: every fault at every call.  Several actors: every interleaving with one switch; if everything is
    asked for, with two switches, and with two switches and one fault.
    """
    for scenario in ALONE:
        yield Task(scenario.name, 0, 1)
    for scenario in (*TOGETHER, *DISTURBED):
        yield from parts(Task(scenario.name, 2 if everything else 1, 0))
    if everything:
        for scenario in (*TOGETHER, *DISTURBED):
            yield from parts(Task(scenario.name, 2, 1, light=True))


def parts(task: Task) -> Iterator[Task]:
    """Yield a part for each first choice, and one for what has none."""
    yield Task(task.scenario, 0, 0)
    played = play(SCENARIOS[task.scenario], {})
    for choices, switches, faults in children(played, task.switches, task.faults, light=task.light):
        yield Task(task.scenario, switches, faults, tuple(choices.items()), task.light)


def perform(several: list[Task]) -> Outcome:
    """Do some parts; stop at the first violation of each."""
    outcome = Outcome()
    gc.freeze()
    with simulated():
        for task in several:
            try:
                for played in runs(task):
                    outcome.add(played)
            except Violation as error:
                outcome.violations.append(str(error))
    return outcome


def runs(task: Task) -> Iterable[Played]:
    """Run a part's schedules."""
    scenario = SCENARIOS[task.scenario]
    if task.seed is not None:
        return at_random(task.seed, task.switches)
    return explore(scenario, task.switches, task.faults, dict(task.start), light=task.light)


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


def at_random(seed: int, count: int) -> Iterator[Played]:
    """Run so many schedules of any scenarios, with any number of switches and up to three faults."""
    dice = random.Random(seed)  # noqa: S311  # no secret hangs on it
    scenarios = [*SCENARIOS.values()]
    for _ in range(count):
        yield play(dice.choice(scenarios), Dice(dice, dice.choice((0, 1, 1, 2, 3))))


def campaign(all_tasks: Iterable[Task]) -> Outcome:
    """Do all parts, on all cores."""
    began, total = time.monotonic(), Outcome()
    with simulated():
        place()
        waiting = iter(list(all_tasks))
    batches = iter(lambda: list(itertools.islice(waiting, 8)), [])
    with ProcessPoolExecutor(CORES, multiprocessing.get_context("spawn")) as pool:
        for outcome in pool.map(perform, batches):
            total.merge(outcome)
    total.seconds = time.monotonic() - began
    return total
