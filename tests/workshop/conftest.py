"""What tests of the workshop share."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest

from tests.support.work import make_work
from yo_dawg.process import Shell
from yo_dawg.workshop.package.work import Work
from yo_dawg.workspace import Workspace


@pytest.fixture
def make(space: Workspace, shell: Shell) -> Callable[..., Work]:
    """What makes a ``Work``: see ``make_work``."""
    return functools.partial(make_work, space, shell)


@pytest.fixture
def work(make: Callable[..., Work]) -> Work:
    """What the stages of a package work with."""
    return make()
