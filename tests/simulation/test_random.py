"""Schedules at random: with any number of switches, and up to three faults.

    SCHEDULES=1000000 ./deploy.sh test tests/simulation/test_random.py

SEED=7 begins with other ones.  A failure prints its choices, with which test_exhaustive.py runs it again.
"""

from __future__ import annotations

import os

import pytest

from tests.simulation.campaign import Task, campaign

pytestmark = pytest.mark.simulation

COUNT = int(os.environ.get("SCHEDULES", "1000").replace("all", "1000"))
SEED = int(os.environ.get("SEED", "1"))
PART = 250


def test_schedules_at_random(capsys: pytest.CaptureFixture[str]) -> None:
    parts = range(-(-COUNT // PART))
    outcome = campaign([Task(seed=SEED * 1_000_003 + number, count=min(PART, COUNT)) for number in parts])
    with capsys.disabled():
        print(f"\nat random: {outcome}")
    assert not outcome.violations, f"{len(outcome.violations)} fail; the first:\n{outcome.violations[0]}"
