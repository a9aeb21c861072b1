"""An AWS that says what a test wants: real boto3 clients, which check what they are given, but no network."""

from __future__ import annotations

import contextlib
import io
import json
import os
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse

from client import aws, invocation, main, package, stack

ACCOUNT = "123456789012"

CONFIG = """
[aws]
aws_profile = from-config
aws_region = {region}
deployment_bucket = artifacts

[builder]
timeout = 300
ephemeral_storage = 512
deployable_functions = project-to-build, other-*

[git]
base_url = https://git.example/me
"""


@dataclass(frozen=True)
class Refusal:
    """An error that AWS answers with."""

    code: str
    message: str = ""
    status: int = 400


@dataclass(frozen=True)
class Call:
    """A call that was made."""

    operation: str
    """As in "s3.HeadBucket"."""
    parameters: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.parameters[name]

    @property
    def event(self) -> Any:
        """The event of an invocation."""
        return json.loads(self.parameters["Payload"])


class FakeAws:
    """Answers calls with `replies`: an answer, a Refusal, an exception, a function of the parameters, or a list.

    Of a list each call takes one; the last one stays.  What has no reply is answered with nothing.
    """

    def __init__(self) -> None:
        self.replies: dict[str, Any] = {}
        self.calls: list[Call] = []
        self.sessions: list[boto3.Session] = []

    def session(self, **settings: Any) -> boto3.Session:
        """Make a session whose clients ask here."""
        made = boto3.Session(**settings)
        made.events.register("provide-client-params", self.record)
        made.events.register("before-call", self.answer)
        made.profile_name, made.get_credentials()  # read now, while the environment is what it is
        self.sessions.append(made)
        return made

    def record(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        """Remember what was asked."""
        self.calls.append(Call(f"{model.service_model.service_name}.{model.name}", dict(params)))

    def answer(self, model: Any, **_: Any) -> tuple[AWSResponse, dict[str, Any]]:
        """Return what boto3 takes for an answer of AWS."""
        operation = f"{model.service_model.service_name}.{model.name}"
        reply = self.replies.get(operation, {})
        if isinstance(reply, list):
            reply = reply.pop(0) if len(reply) > 1 else reply[0]
        if callable(reply) and not isinstance(reply, type):
            parameters = next(each for each in reversed(self.calls) if each.operation == operation).parameters
            reply = reply(parameters)
        if isinstance(reply, BaseException):
            raise reply
        status = reply.status if isinstance(reply, Refusal) else 200
        if isinstance(reply, Refusal):
            reply = {"Error": {"Code": reply.code, "Message": reply.message}}
        made = AWSResponse("https://aws.test", status, {}, None)
        return made, {**reply, "ResponseMetadata": {"HTTPStatusCode": status, "RetryAttempts": 0}}

    def operations(self, *services: str) -> list[str]:
        """Return which operations were called, of these services or of all."""
        return [each.operation for each in self.calls if not services or each.operation.split(".")[0] in services]

    def call(self, operation: str) -> Call:
        """Return the one call of an operation."""
        [found] = (each for each in self.calls if each.operation == operation)
        return found


def invoked(answer: object, **more: str) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Return the reply to lambda.Invoke with this answer of the function's."""
    payload = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return lambda _: {"StatusCode": 200, "Payload": io.BytesIO(payload), **more}


@dataclass
class Ran:
    """What became of a run."""

    status: int
    out: str
    error: str


@dataclass
class Desk:
    """Where deploy.sh's commands are run, in this process, with a config.ini and a fake AWS."""

    config: Path
    aws: FakeAws
    monkeypatch: pytest.MonkeyPatch
    environ: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, **environ: str | None) -> Ran:
        """Run a command; an environment variable given as None is not set."""
        out, error = io.StringIO(), io.StringIO()
        with self.monkeypatch.context() as patch:
            for name, value in {**self.environ, **environ}.items():
                patch.delenv(name, raising=False) if value is None else patch.setenv(name, value)
            with (
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(error),
                pytest.raises(SystemExit) as ended,
            ):
                main.main(arguments)
        return Ran(int(ended.value.code or 0), out.getvalue(), error.getvalue())

    def deploy(self, *arguments: str, **environ: str | None) -> Ran:
        """Run a command with this desk's configuration."""
        return self.run("-c", str(self.config), *arguments, **environ)


def make_desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """Make a desk with two profiles, which boto3 knows, and nothing in the environment that says who we are."""
    fake = FakeAws()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    profiles = tmp_path / "aws-config"
    keys = "aws_access_key_id = x\naws_secret_access_key = y\n"
    profiles.write_text("".join(f"[profile {name}]\n{keys}" for name in ("from-config", "mine")))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(profiles))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(aws, "new_session", fake.session)
    monkeypatch.setattr(stack, "PAUSE", 0.0)
    monkeypatch.setattr(invocation, "PAUSE", 0.02)
    monkeypatch.setattr(package, "KEPT", tmp_path / "kept")
    path = tmp_path / "my config.ini"
    path.write_text(textwrap.dedent(CONFIG).format(region="us-east-1"))
    yield Desk(path, fake, monkeypatch)
