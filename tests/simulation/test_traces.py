"""What is not run is equal to what is: schedules that are broken off would have come to no other end."""

from __future__ import annotations

import pytest

from tests.simulation.builders import Region
from tests.simulation.exploring import Child, Known, budget, explore
from tests.simulation.scenarios import SCENARIOS, place
from tests.simulation.scheduler import SEEN, Choices
from tests.simulation.stubs import simulated

pytestmark = pytest.mark.simulation


Allowed = tuple[tuple[int, int], ...]


class Forgetful(Known):
    """Knows no state again."""

    def watch(self, world: Region, choices: Choices, run: int) -> None:
        """Look at nothing."""

    def is_like_later(self, child: Child, parent: int) -> bool:
        """Have each switch run."""
        return False


@pytest.mark.parametrize(
    ("scenario", "allowed"), [("two rollbacks", ((1, 0), (0, 1))), ("different functions", ((1, 0),))]
)
def test_what_is_broken_off_would_have_come_to_no_other_end(
    scenario: str, allowed: tuple[tuple[int, int], ...]
) -> None:
    ends, counts, runs = [], [], []
    for known in (Known(), Forgetful()):
        SEEN.clear()
        with simulated():
            place()
            played = list(explore(SCENARIOS[scenario], budget(*allowed), light=True, known=known))
        ends.append(frozenset(SEEN))
        counts.append(known.count())
        runs.append(sum(not each.broken_off for each in played))
    assert ends[0] == ends[1]
    assert counts[0] == counts[1], "those that are counted are those that there are"
    assert runs[0] < runs[1], "some were broken off, or were not run"
