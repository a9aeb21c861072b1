"""The invariants find mistakes: each mutant of the control code breaks one, in a schedule of the exhaustive run.

    SCHEDULES=all ./deploy.sh test tests/simulation/test_mutants.py    looks for each anew: prints where it is found

Else the schedule that found a mutant before is tried first.  Where calls have moved since, so that it finds nothing
any more, all of its scenario is gone through.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.simulation.campaign import Task, tasks
from tests.simulation.exploring import budget, explore
from tests.simulation.mutants import MUTANTS, Mutant, mutated
from tests.simulation.scenarios import ALONE, DISTURBED, SCENARIOS, TOGETHER, Scenario, place
from tests.simulation.scheduler import SEEN, play, read
from tests.simulation.stubs import simulated
from tests.simulation.world import Violation

pytestmark = pytest.mark.simulation

ANEW = os.environ.get("SCHEDULES") == "all"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda each: each.name)
def test_each_mistake_breaks_an_invariant(mutant: Mutant, capsys: pytest.CaptureFixture[str]) -> None:
    SEEN.clear()
    with simulated():
        place()
        with mutated(mutant), pytest.raises(Violation) as found:
            search(mutant)
    SEEN.clear()
    if ANEW:
        with capsys.disabled():
            print(f"\n{mutant.name}: {str(found.value).splitlines()[:2]}")


def test_the_schedules_that_find_mistakes_are_right_without_them() -> None:
    with simulated():
        place()
        for mutant in MUTANTS:
            name, choices = read(mutant.found_by)
            play(SCENARIOS[name], choices)


def search(mutant: Mutant) -> None:
    """Go through what the exhaustive run does, beginning where the mutant was found before."""
    name, choices = read(mutant.found_by)
    if not ANEW:
        play(SCENARIOS[name], choices)
    for task in in_order(SCENARIOS[name]):
        for _ in explore(SCENARIOS[task.scenario], budget(*task.allowed), light=task.light):
            pass


def in_order(first: Scenario) -> Iterator[Task]:
    """Yield what the exhaustive run does, those tasks first that take least time."""
    for each in (first, *ALONE, *TOGETHER, *DISTURBED):
        yield Task(each.name, ((1, 0), (0, 1)), light=each not in ALONE)
    yield from tasks(everything=False)
