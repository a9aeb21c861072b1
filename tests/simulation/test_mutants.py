"""The invariants find mistakes: each mutant of the control code breaks one in the exhaustive run."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.simulation.builders import simulated
from tests.simulation.mutants import MUTANTS, Mutant, mutated
from tests.simulation.scenarios import ALONE, DISTURBED, SCENARIOS, TOGETHER, Scenario, place
from tests.simulation.scheduler import SEEN, explore
from tests.simulation.world import Violation

pytestmark = pytest.mark.simulation


def in_order(mutant: Mutant) -> Iterator[tuple[Scenario, int, int]]:
    """Yield what the exhaustive run does, beginning with where the mutant was found before."""
    if mutant.found_by:
        scenario = SCENARIOS[mutant.found_by]
        yield scenario, int(len(scenario.actors) > 1), 0
        yield scenario, int(len(scenario.actors) > 1), 1
    for each in (*DISTURBED, *TOGETHER):
        yield each, 1, 0
    for each in ALONE:
        yield each, 0, 1
    for each in (*TOGETHER, *DISTURBED):
        yield each, 1, 1


TRIED = [each for each in MUTANTS if each.found_by or os.environ.get("SCHEDULES") == "all"]
"""Those of which is known where they are found; the search for the others takes up to an hour each."""


@pytest.mark.parametrize("mutant", TRIED, ids=lambda each: each.name)
def test_each_mistake_breaks_an_invariant(mutant: Mutant) -> None:
    SEEN.clear()
    with simulated():
        place()
        with mutated(mutant), pytest.raises(Violation):
            try_everything(mutant)
    SEEN.clear()


def try_everything(mutant: Mutant) -> None:
    """Do what the exhaustive run does, until an invariant is broken."""
    for scenario, switches, faults in in_order(mutant):
        for _ in explore(scenario, switches, faults, light=switches > 0):
            pass
