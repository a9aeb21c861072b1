"""Every crash point and every interleaving of builders, in a simulated world.

    ./deploy.sh test tests/simulation                                      a fault; two switches; a switch and a fault
    SCHEDULES=all ./deploy.sh test tests/simulation/test_exhaustive.py     two switches *and* a fault; two faults
    SCHEDULES=1000000 ./deploy.sh test tests/simulation/test_random.py     so many at random
    SCHEDULE='build: 20:lost' ./deploy.sh test tests/simulation/test_exhaustive.py    one, as a failure has printed it

What holds is written in docs/invariants.md.
"""

from __future__ import annotations

import os

import pytest

from tests.simulation.campaign import campaign, tasks
from tests.simulation.scenarios import SCENARIOS
from tests.simulation.scheduler import play, read
from tests.simulation.stubs import simulated

pytestmark = pytest.mark.simulation

EVERYTHING = os.environ.get("SCHEDULES") == "all"


@pytest.mark.skipif("SCHEDULE" in os.environ, reason="one schedule is asked for")
def test_every_fault_and_every_interleaving(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = campaign(tasks(everything=EVERYTHING))
    with capsys.disabled():
        print(f"\nexhaustive: {outcome}")
    assert not outcome.violations, f"{len(outcome.violations)} fail; the first:\n{outcome.violations[0]}"


@pytest.mark.skipif("SCHEDULE" not in os.environ, reason="none is asked for: SCHEDULE='build: 20:lost'")
def test_the_schedule_that_is_asked_for() -> None:
    scenario, choices = read(os.environ["SCHEDULE"])
    with simulated():
        play(SCENARIOS[scenario], choices)
