"""Functions to try the embedded AWS with."""

from __future__ import annotations

import base64
import io
import json
import stat
import textwrap
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.aws import EmbeddedAWS

TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}

# A function that runs what it is sent: what can be seen from inside, is asked from inside.
PROBE = """
    import ctypes, glob, json, multiprocessing, os, pathlib, resource, shutil, signal, stat, subprocess, sys, time

    def handler(event, context):
        names = {"context": context, "event": event}
        exec(event["code"], globals() | names, names)
        return names.get("answer")
"""


def package(files: Mapping[str, str | bytes], *, links: Mapping[str, str] | None = None, mode: int = 0o644) -> bytes:
    """Return a zip of these files (of this mode) and symlinks."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (stat.S_IFREG | mode) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, textwrap.dedent(content) if isinstance(content, str) else content)
        for name, target in (links or {}).items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(entry, target)
    return buffer.getvalue()


@dataclass(frozen=True)
class Reply:
    """What an invocation answered."""

    payload: Any
    error: str | None
    log: str
    raw: Mapping[str, Any] = field(repr=False)


class Functions:
    """Functions of an embedded AWS."""

    def __init__(self, aws: EmbeddedAWS, runtime: str) -> None:
        self.aws = aws
        self.runtime = runtime
        self.client = aws.client("lambda")
        role = aws.client("iam").create_role(RoleName="tests", AssumeRolePolicyDocument=json.dumps(TRUST))
        self.role = role["Role"]["Arn"]

    def create(self, name: str, files: Mapping[str, str | bytes] | bytes | None = None, **settings: Any) -> str:
        """Make a function (the probe, unless it is given files) that can be invoked at once."""
        files = {"probe.py": PROBE} if files is None else files
        code = files if isinstance(files, bytes) else package(files)
        self.client.create_function(
            **{"FunctionName": name, "Runtime": self.runtime, "Handler": "probe.handler", "Role": self.role}
            | {"Code": {"ZipFile": code}, "Timeout": 20}
            | settings
        )
        self.aws.finish_updates()
        return name

    def of_this_account(self, values: Any) -> Any:
        """Return a text, or what JSON can hold, with this account's number for each ACCOUNT."""
        return json.loads(json.dumps(values).replace("ACCOUNT", self.aws.account))

    @contextmanager
    def active(self, name: str, code: bytes) -> Iterator[str]:
        """Have an active function for a while."""
        yield self.create(name, code)
        self.aws.finish_updates()
        self.client.delete_function(FunctionName=name)

    def invoke(self, name: str, event: object = None, **arguments: Any) -> Reply:
        """Invoke a function and read all of the answer."""
        answer = self.client.invoke(
            **{"FunctionName": name, "Payload": json.dumps(event or {}).encode(), "LogType": "Tail"} | arguments
        )
        body = answer["Payload"].read()
        return Reply(
            json.loads(body) if body else None,
            answer.get("FunctionError"),
            base64.b64decode(answer.get("LogResult", "")).decode(),
            answer,
        )

    def ask(self, name: str, code: str) -> Any:
        """Run code in the probe; return what it called answer."""
        reply = self.invoke(name, {"code": textwrap.dedent(code)})
        assert reply.error is None, reply.payload
        return reply.payload


def refused(call: Callable[..., Any], **parameters: Any) -> tuple[int, str, str]:
    """Make a call that is to fail; return the status, the error's class and its message."""
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    response = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"], response["Error"]["Message"]


def configuration(functions: Functions, name: str) -> dict[str, Any]:
    """Return a function's configuration."""
    answer: dict[str, Any] = functions.client.get_function_configuration(FunctionName=name)
    del answer["ResponseMetadata"]
    return answer


def log_of(functions: Functions, group: str) -> list[str]:
    """Return a log group's messages, oldest stream first."""
    logs = functions.aws.client("logs")
    streams = logs.describe_log_streams(logGroupName=group)["logStreams"]
    return [
        event["message"]
        for stream in sorted(streams, key=lambda stream: str(stream["creationTime"]))
        for event in logs.get_log_events(logGroupName=group, logStreamName=stream["logStreamName"])["events"]
    ]
