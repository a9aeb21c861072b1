"""What the tests of the Git program share: a Git host, and what clones from it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.git_server import GitServer
from tests.support.git_host import Cloner, Project
from yo_dawg.workspace import Workspace


@pytest.fixture
def host(tmp_path: Path) -> Iterator[GitServer]:
    """Serve what lies in a folder, with git itself."""
    (tmp_path / "repos").mkdir()
    with GitServer(tmp_path / "repos", backend="git") as git_host:
        yield git_host


@pytest.fixture
def cloner(space: Workspace) -> Cloner:
    """Clone as a build does."""
    return Cloner(space)


@pytest.fixture
def project(tmp_path: Path, space: Workspace) -> Iterator[Project]:
    """Serve one repository."""
    (tmp_path / "repositories").mkdir()
    with GitServer(tmp_path / "repositories") as server:
        made = Project(server, space)
        with contextlib.closing(made.repo):
            yield made
