"""What all tests share: nothing of the tester's own AWS, Git or package settings, and the builder fixture."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from local.aws import EmbeddedAWS
from tests.embedded import builder as builder
from yo_dawg.builder import own_digest, runtime_versions
from yo_dawg.control.archives import ARCHIVES
from yo_dawg.control.clients import Aws, make_clients
from yo_dawg.log import Log
from yo_dawg.process import Shell, child_environ
from yo_dawg.settings import Settings
from yo_dawg.workspace import Workspace, put_python_on_path, workspace

# A loaded machine is no defect: no example of a property test has a time to keep.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

LEAKS = ("AWS_", "YO_DAWG_", "GIT_")
"""What the names of variables begin with that would let a test reach a real account, or find other settings."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="let test_fifty.py build all its packages")
    parser.addoption("--kills", default=6, help="how often test_chaos.py kills a builder")
    parser.addoption("--crowd", default=4, help="how many clients test_chaos.py lets build at once")


@pytest.fixture(autouse=True)
def no_real_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(LEAKS):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTSTESTSTESTS0")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-secret-of-the-tests")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(autouse=True)
def fresh_environment() -> Iterator[None]:
    """Let nothing be kept from another test's invocations."""
    ARCHIVES.make_room(0)
    yield
    ARCHIVES.make_room(0)
    forget_what_cannot_change()


def forget_what_cannot_change() -> None:
    """Let the builder look again at what no environment changes, but tests do."""
    for each in (own_digest, runtime_versions):
        each.cache_clear()


# --- What a stage of a build works with ----------------------------------------------------------


@pytest.fixture
def log() -> Log:
    return Log(())


@pytest.fixture
def space(tmp_path: Path) -> Iterator[Workspace]:
    """The workspace of one invocation."""
    (tmp_path / "tmp").mkdir()
    with workspace(tmp_path / "tmp", tmp_is_ours=True) as made:
        put_python_on_path(made)
        yield made


@pytest.fixture
def shell(space: Workspace, log: Log) -> Shell:
    """A shell whose children get what the children of a build get."""
    settings = Settings("bucket", ("*",), "https://git.example", "", "", space.root.parent, tmp_is_ours=True)
    return Shell(child_environ(space, settings), log)


# --- AWS -----------------------------------------------------------------------------------------


@pytest.fixture
def account() -> Iterator[EmbeddedAWS]:
    """An AWS account of the test's own, with nothing in it, in which nothing takes time."""
    with EmbeddedAWS(update_seconds=0) as made:
        yield made


@pytest.fixture
def aws(account: EmbeddedAWS, monkeypatch: pytest.MonkeyPatch) -> Aws:
    """Clients of that account, made as the handler makes them; there is a bucket named "bucket"."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", account.endpoint)
    made = make_clients()
    made.s3.create_bucket(Bucket="bucket")
    return made


@dataclass
class Context:
    """Lambda's context object, as far as the handler looks at it."""

    invoked_function_arn: str
    function_name: str = "yo-dawg"
    aws_request_id: str = "5f5e7c2a-0000-4000-8000-000000000001"
    remaining: int = 300_000
    log_stream_name: str = "2026/11/23/[$LATEST]0123456789abcdef"
    client_context: Any = None

    def get_remaining_time_in_millis(self) -> int:
        return self.remaining


@pytest.fixture
def context(account: EmbeddedAWS) -> Context:
    return Context(f"arn:aws:lambda:us-east-1:{account.account}:function:yo-dawg")
