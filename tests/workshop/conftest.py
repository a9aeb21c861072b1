"""What tests of the workshop share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.work import make_work
from yo_dawg.process import Shell
from yo_dawg.workshop.package.work import Work
from yo_dawg.workspace import Workspace


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what has whole builds: of their programs, which are what the tests here are about, nobody sees coverage."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent) and "yard" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.builds)


@pytest.fixture
def make(space: Workspace, shell: Shell) -> Callable[..., Work]:
    """What makes a ``Work``: see ``make_work``."""
    return functools.partial(make_work, space, shell)


@pytest.fixture
def work(make: Callable[..., Work]) -> Work:
    """What the stages of a package work with."""
    return make()
