"""What earlier reviews asked, and what the simulation has found: each with its schedule, shown or refuted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from tests.simulation.builders import Region, builder
from tests.simulation.scenarios import BAD, NEW, SCENARIOS, TESTED, Scenario, build, place
from tests.simulation.scheduler import Choices, play
from tests.simulation.stubs import HERE, commit_id, digest_of, simulated
from yo_dawg.digests import base64_to_hex
from yo_dawg.errors import BuildInProgress
from yo_dawg.events import BuildRequest, RollbackRequest

pytestmark = pytest.mark.simulation


@pytest.fixture(autouse=True)
def world() -> Iterator[None]:
    with simulated():
        place()
        yield


def run(scenario: Scenario, *steps: tuple[str, str, int, str]) -> Region:
    """Run a schedule that is told by what is about to be done, not by numbers.

    Each step is an actor's name, an operation, which one of those after the step before (-1: the last), and what
    happens at it.
    """
    choices: Choices = {}
    for name, operation, which, choice in steps:
        points = play(scenario, choices).points
        names = [make().name for make in scenario.actors]
        last = max(choices, default=-1)
        found = [
            number
            for number, each in enumerate(points)
            if number > last and (names[each.actor], each.operation) == (name, operation)
        ]
        choices[found[which]] = choice
    play(scenario, choices)
    return cast(Region, HERE.world)


def runs(world: Region) -> str:
    return str(world.api.functions["api"].latest.unit.config["CodeSha256"])


def answers(world: Region) -> list[str]:
    told = [each.facts for each in world.actors if each.is_builder and not each.name.startswith("F")]
    return [each.result["status"] if each.result else type(each.error).__name__ for each in told]


def history(world: Region) -> list[tuple[str, str]]:
    """Return who built, and how that ended, the newest first, less the build that follows each schedule."""
    assert world.watch
    found = world.watch.pages["api"]["history"]
    return [
        (each["request_id"].removeprefix("request-"), each["status"]) for each in found if "F" not in each["request_id"]
    ]


ALONE_TESTED = SCENARIOS["build with test event and alias"]


# --- What reviews asked --------------------------------------------------------------------------------------


@pytest.mark.parametrize("crash", ["crash-before", "crash-before-warm"])
def test_untested_code_of_a_killed_builder_does_not_stay(crash: str) -> None:
    """Shown, and mended: the ledger says what to go back to, and who holds it next does that first."""
    world = run(ALONE_TESTED, ("A", "invoke", 0, crash))
    changes = [change[2:] for change in world.watch.changes] if world.watch else []
    assert changes[:2] == [(digest_of(commit_id(8)), digest_of(NEW)), (digest_of(NEW), digest_of(commit_id(8)))]


def test_a_rollback_after_untested_code_goes_back_to_what_ran_before_it() -> None:
    """And not one further: that is what was meant."""
    start = Scenario(
        "", (builder("A", TESTED, log_stream="same"), builder("B", RollbackRequest("api"), log_stream="same"))
    )
    world = run(start, ("A", "invoke", 0, "crash-before"))
    assert world.actors[1].facts.result["code_sha256"] == digest_of(commit_id(8))


@pytest.mark.parametrize("fault", ["slow-before", "slow-after"])
def test_putting_back_has_a_deadline_and_leaves_time_to_release(fault: str) -> None:
    """Shown, and mended: out of time while putting back, the bad code stayed."""
    failing = SCENARIOS["build that fails its test event"]
    world = run(failing, ("A", "update_function_code", 1, fault))
    assert answers(world) == ["PackageError"]
    assert history(world)[0] == ("A", "failed"), "released, and told"


def test_a_put_back_that_fails_too_is_the_next_ones_first_work() -> None:
    failing = SCENARIOS["build that fails its test event"]
    world = run(failing, ("A", "update_function_code", 1, "denied"))
    assert "could not be put back" in str(world.actors[0].facts.error)
    assert world.watch
    assert [change[3] for change in world.watch.changes[:2]] == [digest_of(BAD), digest_of(commit_id(8))]


def test_a_waiter_that_is_overtaken_gets_the_answer_that_it_waited_for() -> None:
    """Shown, and mended: it built again, and undid what the third one had done."""
    three = SCENARIOS["same request, and a rollback"]
    world = run(
        three,
        ("A", "clone", 0, ">1"),  # B asks the same, finds A at work, and waits
        ("A", "put_object", -1, ">2"),  # C comes just before A has released …
    )
    assert answers(world)[:2] == ["deployed", "deployed"]
    world = run(three, ("A", "clone", 0, ">1"), ("B", "get_object", 2, ">2"))
    assert world.actors[1].facts.built == 0


@pytest.mark.parametrize("at", range(1, 5))
def test_who_was_overtaken_before_he_had_seen_who_is_at_work_gets_the_answer_too(at: int) -> None:
    """Shown, and mended: B built all while A looked at the function, then C rolled back, and A undid that."""
    for turn in (37, 38, 39):
        play(SCENARIOS["same request, and a rollback"], {at: ">1", turn: ">2"})
        assert sum(each.facts.built for each in cast(Region, HERE.world).actors[:2]) == 1


def test_unchanged_is_not_said_of_what_somebody_has_changed_since_the_preflight() -> None:
    """Refuted: deploying looks again."""
    world = run(SCENARIOS["update by hand of what is unchanged"], ("A", "look", 0, ">1"))
    assert answers(world) == ["DeployError"]


def test_an_alias_that_was_moved_by_hand_since_the_preflight_is_left_there() -> None:
    """Refuted: its RevisionId guards it."""
    world = run(SCENARIOS["alias by hand"], ("A", "update_alias", 0, ">1"))
    assert answers(world) == ["DeployError"]
    assert world.api.functions["api"].aliases["live"].version == "1"


def test_who_waits_for_a_dead_builder_is_told_so_when_time_is_over() -> None:
    """Refuted as far as it slept; mended where the alarm rang while it asked."""
    same = SCENARIOS["same request"]
    world = run(same, ("A", "clone", 0, ">1"), ("A", "clone", 0, "crash-before"))
    assert isinstance(world.actors[1].facts.error, BuildInProgress)
    world = run(same, ("A", "clone", 0, ">1"), ("A", "clone", 0, "crash-before"), ("B", "get_object", 3, "slow-before"))
    assert isinstance(world.actors[1].facts.error, BuildInProgress)


def test_a_b_a_and_rollbacks_go_down_to_the_bottom() -> None:
    """Shown, and mended: they went to and fro between A and B."""
    where = place()
    wanted: list[tuple[Any, str | None]] = [
        (build(ref=commit_id(21)), commit_id(21)),
        (build(ref=commit_id(22)), commit_id(22)),
        (build(ref=commit_id(21)), commit_id(21)),
        (RollbackRequest("api"), commit_id(22)),
        (RollbackRequest("api"), commit_id(21)),
        (RollbackRequest("api"), commit_id(8)),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("yo_dawg.control.ledger.KEPT_ENTRIES", 20)
        patch.setattr("yo_dawg.control.tidying.KEPT_PACKAGES", 20)
        for number, (request, commit) in enumerate(wanted):
            where.now += 1000
            world = Region([builder(f"{number}", request)()], {}, where)
            HERE.world = world
            world.run()
            assert world.actors[0].facts.result["commit"] == commit
            where = world.place()


def test_failed_builds_are_not_among_the_packages_that_are_kept() -> None:
    """Refuted: tidying does not count them; but see the next one."""
    world = run(SCENARIOS["build that fails its test event"])
    assert digest_of(BAD) != runs(world)


# --- What the simulation found -------------------------------------------------------------------------------


def test_what_a_killed_builder_had_deployed_can_still_be_rolled_back() -> None:
    """It was tidied away, since its builder was "interrupted", though it ran."""
    world = run(SCENARIOS["update by hand"], ("A", "begin", 0, ">1"), ("A", "get_object", -1, "slow-before"))
    assert any(digest in key for key in world.s3.objects for digest in [hexadecimal(digest_of(commit_id(77)))])


def hexadecimal(digest: str) -> str:
    return base64_to_hex(digest)


@pytest.mark.parametrize("fault", ["throttled", "denied", "crash-before"])
def test_no_record_is_left_that_no_history_tells_of(fault: str) -> None:
    """It was forgotten first and deleted then: what came between left it for ever."""
    run(SCENARIOS["build"], ("A", "delete_objects", -1, fault))


@pytest.mark.parametrize("fault", ["throttled", "denied", "broken"])
def test_who_gets_no_lock_leaves_no_record(fault: str) -> None:
    run(SCENARIOS["build"], ("A", "put_object", 0, fault))


def test_a_ledger_that_s3_cannot_write_is_not_asked_for_without_a_pause() -> None:
    world = run(SCENARIOS["build"], ("A", "put_object", 0, "conflict-for-ever"))
    assert len(world.points) < 500
    assert answers(world) == ["DeadlineError"]


def test_an_event_that_is_delivered_twice_is_built_once() -> None:
    world = run(SCENARIOS["delivered twice"], ("A", "clone", 0, ">1"))
    assert answers(world) == ["deployed", "deployed"]
    assert sum(each.facts.built for each in world.actors[:2]) == 1


def test_who_rolls_back_further_than_the_history_reaches_is_told_so() -> None:
    """Found at random: a build that changed nothing had pushed the entry out that told of the one before."""
    requests: tuple[BuildRequest | RollbackRequest, ...] = (
        build(ref=commit_id(8)),
        RollbackRequest("api", None, "live"),
        RollbackRequest("api"),
        RollbackRequest("api", None, None, {}),
    )
    world = run(Scenario("", tuple(builder(name, each) for name, each in zip("ABCD", requests, strict=True))))
    assert answers(world) == ["unchanged", "deployed", "deployed", "DeployError"]
    assert "Nothing is known of what api ran before" in str(world.actors[3].facts.error)


def test_what_a_killed_builder_replaced_is_kept_while_its_code_may_be_gone_back_to() -> None:
    """Found at random: the next build, which replaces its code, keeps that package once more."""
    play(SCENARIOS["rollbacks, down to the bottom"], {19: "lost-for-good", 45: "crash-before", 50: ">4"})


def test_a_schedule_comes_out_the_same_each_time() -> None:
    scenario = SCENARIOS["build and rollback"]
    first = play(scenario, {9: ">1", 12: "lost"})
    assert play(scenario, dict(first.choices)).points == first.points
