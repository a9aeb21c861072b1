"""Who asks for what: the scenarios whose every schedule is tried."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from tests.simulation.builders import Place, Region, builder
from tests.simulation.lambda_api import new_function
from tests.simulation.stubs import ARCHITECTURE, HERE, RUNTIME, commit_id, digest_of, package_of
from tests.simulation.world import Actor
from yo_dawg.events import BuildRequest, RollbackRequest

if TYPE_CHECKING:
    from tests.simulation.builders import Asked

Make = Callable[[], Actor]

NEW, NEWER, BAD = commit_id(10), commit_id(11), commit_id(66)
"""What is asked for: main is at the first; the code of the last fails its test event."""


@dataclass(frozen=True)
class Scenario:
    """Who acts, and where."""

    name: str
    actors: tuple[Make, ...]
    functions: tuple[str, ...] = ("api",)
    """What the build that follows builds."""
    pinned: bool = True
    """Whether the commit alone decides what is in a package."""
    main: str = NEW
    """Where the branch is at first."""
    brief: bool = False
    """Whether its interleavings are tried with faults only where everything is: others make the same calls."""


def build(**asked: object) -> BuildRequest:
    """Return a request for a build."""
    request = BuildRequest("api", "project")
    for name, value in asked.items():
        object.__setattr__(request, name, value)
    return request


@functools.cache
def place() -> Place:
    """Return a place with a past: some builds, versions, an alias, and as much in S3 as is kept."""
    names = ("api", "web")
    functions = {name: new_function(name, package_of(commit_id(0)), RUNTIME, ARCHITECTURE) for name in names}
    here = Place({}, functions, {"main": commit_id(1)})
    past = [
        build(alias="live"), build(), build(publish=True), build(alias="live", test_event={}), build(),
        build(function="web", alias="live"), build(function="web"), build(),
    ]  # fmt: skip
    for number, request in enumerate(past, 1):
        here.refs["main"] = commit_id(number if request.function == "api" else number - 5)
        here.now += 1000
        world = Region([builder(f"past-{number}", request)()], {}, here)
        HERE.world = world
        world.run()
        asked: Asked = world.actors[0].facts
        assert asked.result, asked.error
        here = world.place()
    here.now += 1000
    return here


# --- Others who act -----------------------------------------------------------------------------------------


def push(commit: str) -> Make:
    """Return somebody who pushes a commit."""
    return lambda: Actor("push", lambda _: region().push(commit), inline=True, is_builder=False)


def update_by_hand() -> Actor:
    """Return somebody who updates the function by hand."""

    def update(_: Actor) -> None:
        world, content = region(), package_of(commit_id(77))
        function = world.api.functions["api"]
        function.latest.settle()
        if not function.latest.under_way:  # else Lambda refuses it
            code = world.api.codes.add(content)
            config = {**function.latest.unit.config, "CodeSha256": code.sha256}
            function.latest.begin_update(type(function.latest.unit)(config, code, ()), 0.0)
            function.latest.settle()
            assert world.watch
            world.watch.interfered("api", digest_of(commit_id(77)))

    return Actor("hand", update, inline=True, is_builder=False)


def configure_by_hand() -> Actor:
    """Return somebody who changes the function's settings by hand, not its code."""

    def update(_: Actor) -> None:
        latest = region().api.functions["api"].latest
        latest.settle()
        if not latest.under_way:
            config = {**latest.unit.config, "MemorySize": 256}
            latest.begin_update(type(latest.unit)(config, latest.unit.code, ()), 0.05)

    return Actor("hand", update, inline=True, is_builder=False)


def move_by_hand() -> Actor:
    """Return somebody who points the alias elsewhere by hand."""

    def move(_: Actor) -> None:
        world = region()
        function = world.api.functions["api"]
        world.api.do("update_alias", {"FunctionName": "api", "Name": "live", "FunctionVersion": min(function.versions)})
        assert world.watch
        world.watch.interfered("api:live")

    return Actor("hand", move, inline=True, is_builder=False)


def region() -> Region:
    """Return the world of the current run."""
    return cast(Region, HERE.world)


# --- The scenarios ------------------------------------------------------------------------------------------

TESTED = build(test_event={"n": 1}, alias="live")

ALONE: Sequence[Scenario] = (
    Scenario("build", (builder("A", build()),)),
    Scenario("build with test event and alias", (builder("A", TESTED),)),
    Scenario("build that fails its test event", (builder("A", build(test_event={}, alias="live", ref=BAD)),)),
    Scenario("several functions", (builder("A", build(function=["web", "api"])),), ("api", "web")),
    Scenario("several functions with test event",
             (builder("A", build(function=["web", "api"], test_event={}, publish=True)),), ("api", "web")),
    Scenario("rollback", (builder("A", RollbackRequest("api")),)),
    Scenario("rollback with test event and alias", (builder("A", RollbackRequest("api", "2", "live", {})),)),
    Scenario("unchanged", (builder("A", build()),), main=commit_id(8)),
    Scenario("unchanged with alias", (builder("A", build(alias="live")),), main=commit_id(8)),
    Scenario("unchanged, as the index says", (builder("A", build()),), main=commit_id(8), pinned=False),
    Scenario("forced", (builder("A", build(force=True, test_event={})),), main=commit_id(8)),
)  # fmt: skip

TOGETHER: Sequence[Scenario] = (
    Scenario("same request", (builder("A", build()), builder("B", build()))),
    Scenario("same request with test event", (builder("A", TESTED), builder("B", TESTED))),
    Scenario("delivered twice", (builder("A", build(), "twice"), builder("B", build(), "twice")), brief=True),
    Scenario("different commits", (builder("A", build(ref=NEW)), builder("B", build(ref=NEWER)))),
    Scenario("tested and plain", (builder("A", TESTED), builder("B", build(ref=NEWER))), brief=True),
    Scenario("build and rollback", (builder("A", build(alias="live")), builder("B", RollbackRequest("api")))),
    Scenario("two rollbacks", (builder("A", RollbackRequest("api")), builder("B", RollbackRequest("api")))),
    Scenario("different functions", (builder("A", build()), builder("B", build(function="web"))), ("api", "web")),
    Scenario("several and one",
             (builder("A", build(function=["web", "api"])), builder("B", build(function="web"))), ("api", "web"),
             brief=True),
)  # fmt: skip

DISTURBED: Sequence[Scenario] = (
    Scenario("update by hand", (builder("A", TESTED), update_by_hand)),
    Scenario("update by hand of what is unchanged", (builder("A", build()), update_by_hand), main=commit_id(8)),
    Scenario("settings by hand", (builder("A", TESTED), configure_by_hand), brief=True),
    Scenario("alias by hand", (builder("A", TESTED), move_by_hand)),
    Scenario("rollback and alias by hand", (builder("A", RollbackRequest("api", None, "live")), move_by_hand)),
    Scenario("push", (builder("A", build()), push(NEWER))),
    Scenario("same request and push", (builder("A", build()), builder("B", build()), push(NEWER)), brief=True),
    Scenario("same request and update by hand",
             (builder("A", build()), builder("B", build()), update_by_hand), brief=True),
    Scenario("same request, and a rollback",
             (builder("A", build()), builder("B", build()), builder("C", RollbackRequest("api"))), brief=True),
)  # fmt: skip

IN_TURN: Sequence[Scenario] = (
    Scenario("rollbacks, down to the bottom",  # which differ, or one would be taken for a retry of the other
             (builder("A", build(ref=NEWER)), builder("B", build(ref=commit_id(8))),
              builder("C", RollbackRequest("api", None, None, {})), builder("D", RollbackRequest("api")),
              builder("E", RollbackRequest("api", None, "live")))),
)  # fmt: skip
"""Those in which one comes after another: they are long, and are run as they are, or at random."""

SCENARIOS = {each.name: each for each in (*ALONE, *TOGETHER, *DISTURBED, *IN_TURN)}
