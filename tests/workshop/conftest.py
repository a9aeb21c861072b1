"""What tests of the workshop share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local.aws import EmbeddedAWS
from local.git_server import GitServer
from tests.support.small_yard import TOKEN, Yard, give_toolchain
from tests.support.work import make_work
from yo_dawg.builder import Builder
from yo_dawg.control.clients import Aws
from yo_dawg.process import Shell
from yo_dawg.settings import CLIENT_VARIABLES
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


@pytest.fixture
def yard(
    aws: Aws, account: EmbeddedAWS, context: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Yard]:
    """A whole builder, its handler in this process; its /tmp is a folder of the test's."""
    for name in (*CLIENT_VARIABLES, "LAMBDA_TASK_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("YO_DAWG_DEPLOYMENT_BUCKET", "bucket")
    monkeypatch.setenv("YO_DAWG_DEPLOYABLE_FUNCTIONS", "api, other-*")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    # A test runner that is not dumpable could not be debugged.
    monkeypatch.setattr("lambda_function.protect_process", lambda: True)
    give_toolchain(aws, account.account, Builder.from_context(context))
    (tmp_path / "repositories").mkdir()
    with GitServer(tmp_path / "repositories", users={"x-access-token": TOKEN}) as git:
        account.client("secretsmanager").create_secret(Name="git-token", SecretString=f"{TOKEN}\n")
        monkeypatch.setenv("YO_DAWG_BASE_URL", git.url)
        monkeypatch.setenv("YO_DAWG_TOKEN_SECRET", "git-token")
        yield Yard(account, aws, context, git, tmp_path / "tmp")
