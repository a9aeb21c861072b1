"""What all tests share: nothing of the tester's own AWS, Git or package settings, and the builder fixture."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.loaders import JSONFileLoader, Loader
from hypothesis import settings as hypothesis_settings

from local.aws import EmbeddedAWS
from local.git_server import GitServer
from tests.support.account import Context
from tests.support.embedded import builder as builder
from tests.support.yard import TOKEN, Yard, lay_toolchain, put_toolchain
from yo_dawg.builder import Builder, own_digest, runtime_versions
from yo_dawg.control.archives import ARCHIVES
from yo_dawg.control.clients import Aws, make_clients
from yo_dawg.control.job import Job
from yo_dawg.control.store import Store
from yo_dawg.control.workshop import Workshop
from yo_dawg.log import Log
from yo_dawg.process import Shell, child_environ
from yo_dawg.settings import CLIENT_VARIABLES, Settings
from yo_dawg.workspace import Workspace, put_python_on_path, workspace

# A loaded machine is no defect: no example of a property test has a time to keep.
hypothesis_settings.register_profile("no deadline", deadline=None)
hypothesis_settings.load_profile("no deadline")


def read_models_once() -> None:
    """Have boto3's models read from the disk once in a run, not once for each session: that took most tests' time."""
    load, list_services = JSONFileLoader.load_file, Loader.list_available_services
    once = functools.cache(lambda path: load(JSONFileLoader(), path))
    listed: dict[tuple[str, ...], Any] = {}

    def list_once(self: Any, type_name: str) -> Any:
        key = (type_name, *self.search_paths)
        if key not in listed:
            listed[key] = list_services(self, type_name)
        return list(listed[key])

    JSONFileLoader.load_file = lambda _self, path: once(path)
    Loader.list_available_services = list_once


read_models_once()

LEAKS = ("AWS_", "YO_DAWG_", "GIT_")
"""What the names of variables begin with that would let a test reach a real account, or find other settings."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="let test_fifty.py build all its packages")
    parser.addoption("--kills", default=20, help="how often test_chaos.py kills a builder")
    parser.addoption("--crowd", default=4, help="how many clients test_chaos.py lets build at once")


KILLS_AT_A_TIME = 20


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make several tests of many kills: one that took hours would be taken for one that hangs."""
    if "kills" in metafunc.fixturenames:
        left = int(metafunc.config.getoption("--kills"))
        parts = [min(KILLS_AT_A_TIME, left - done) for done in range(0, left, KILLS_AT_A_TIME)]
        metafunc.parametrize(("seed", "kills"), [*enumerate(parts)])


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
def settings(space: Workspace) -> Settings:
    """What an operator may have decided."""
    return Settings("bucket", ("*",), "https://git.example", "", "", space.root.parent, tmp_is_ours=True)


@pytest.fixture
def shell(space: Workspace, log: Log, settings: Settings) -> Iterator[Shell]:
    """A shell whose children get what the children of a build get."""
    with contextlib.closing(Shell(child_environ(space, settings), log)) as made:
        yield made


# --- AWS -----------------------------------------------------------------------------------------


@pytest.fixture(scope="session", autouse=True)
def unmeasured_server() -> Iterator[None]:
    """Measure no coverage of what an embedded AWS does for a request: local/ is not asked about, and moto is large."""
    real = EmbeddedAWS.application

    def application(*arguments: Any) -> Any:
        sys.settrace(None)
        return real(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        if sys.gettrace():
            patch.setattr(EmbeddedAWS, "application", application)
        yield


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


@pytest.fixture
def context(account: EmbeddedAWS) -> Context:
    return Context(f"arn:aws:lambda:us-east-1:{account.account}:function:yo-dawg")


@pytest.fixture
def store(aws: Aws, account: EmbeddedAWS) -> Store:
    """The builder's corner of S3 there."""
    return Store(aws.s3, "bucket", "yo-dawg", account.account)


@pytest.fixture
def job(
    settings: Settings, context: Context, space: Workspace, log: Log, shell: Shell, aws: Aws, store: Store
) -> Iterator[Job]:
    """What an action works with."""
    with contextlib.closing(Workshop(shell, space)) as workshop:
        yield Job(settings, Builder.from_context(context), space, log, shell, aws, store, workshop)


# --- The whole handler -----------------------------------------------------------------------------------


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a builder; its /tmp is a folder of the test's."""
    for name in (*CLIENT_VARIABLES, "LAMBDA_TASK_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("YO_DAWG_DEPLOYMENT_BUCKET", "bucket")
    monkeypatch.setenv("YO_DAWG_DEPLOYABLE_FUNCTIONS", "api, other-*")
    monkeypatch.setenv("YO_DAWG_BASE_URL", "https://git.example")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    # A test runner that is not dumpable could not be debugged; tests/test_killing.py has what this does.
    monkeypatch.setattr("lambda_function.protect_process", lambda: True)


@pytest.fixture
def yard(
    aws: Aws, account: EmbeddedAWS, context: Context, setup: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Yard]:
    """A builder whose handler runs in this process."""
    store = Store(aws.s3, "bucket", "yo-dawg", account.account)
    put_toolchain(lay_toolchain(tmp_path / "toolchain"), Builder.from_context(context), store)
    (tmp_path / "repositories").mkdir()
    with GitServer(tmp_path / "repositories", users={"x-access-token": TOKEN}) as git:
        account.client("secretsmanager").create_secret(Name="git-token", SecretString=f"{TOKEN}\n")
        monkeypatch.setenv("YO_DAWG_BASE_URL", git.url)
        monkeypatch.setenv("YO_DAWG_TOKEN_SECRET", "git-token")
        yield Yard(account, aws, context, git, tmp_path / "tmp")
