"""An embedded AWS for the tests of its own."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest

from local.aws import EmbeddedAWS
from local.runtimes import available
from local.walls import walls_problem
from tests.local.support import Functions

NEWEST = max(available(), key=lambda name: int(name.partition(".")[2]))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "runtime" in metafunc.fixturenames:
        metafunc.parametrize("runtime", sorted(available()), scope="session")


@pytest.fixture(scope="session")
def aws() -> Iterator[EmbeddedAWS]:
    # An update takes until a test says finish_updates(): no test waits, and none is overtaken.
    with EmbeddedAWS(update_seconds=3600, client_environment={"SAMPLE_SETTING": "of this machine"}) as aws:
        yield aws


@pytest.fixture(scope="session")
def functions(aws: EmbeddedAWS) -> Functions:
    return Functions(aws, NEWEST)


@pytest.fixture(scope="session")
def open_functions() -> Iterator[Functions]:
    """Functions without walls."""
    with EmbeddedAWS(walls=False, update_seconds=0) as aws:
        yield Functions(aws, NEWEST)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name for a function of the test's."""
    return re.sub(r"\W+", "-", request.node.name)[-60:].strip("-")


@pytest.fixture
def arn(functions: Functions, name: str) -> str:
    return f"arn:aws:lambda:us-east-1:{functions.aws.account}:function:{name}"


@pytest.fixture(autouse=True)
def needs_walls(request: pytest.FixtureRequest) -> None:
    """Skip tests of the walls where there can be none; a machine that should have them says so in CI."""
    if request.node.get_closest_marker("walls") and walls_problem():
        assert not os.environ.get("CI"), walls_problem()
        pytest.skip(walls_problem())


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "walls: about what the sandbox keeps out")
