"""The builder itself: which function it is, for what it builds, and what it is made of."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from yo_dawg.text import printable
from yo_dawg.workspace import HERE


class LambdaContext(Protocol):
    """What this file uses of the context object that Lambda hands to a handler."""

    function_name: str
    invoked_function_arn: str
    aws_request_id: str
    log_stream_name: str
    client_context: Any

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds until Lambda ends the invocation."""


@dataclass(frozen=True)
class Builder:
    """This function, as AWS knows it, and the interpreter that it builds for: its own."""

    name: str
    arn: str
    request_id: str
    runtime: str
    architecture: str
    log_stream: str = ""
    """Where CloudWatch has what this environment logs: no two environments share one."""
    asked_by: str = ""
    """Who invoked us, as the client says (deploy.sh does): Lambda itself does not tell."""
    token: str = ""
    """What a client finds this invocation by in the log."""
    until: float = 0.0
    """When Lambda ends the invocation, in seconds since the epoch."""
    came: float = 0.0
    """When it began."""

    @classmethod
    def from_context(cls, context: LambdaContext) -> Builder:
        """Ask Lambda's context who we are, and the interpreter what it is."""
        machine, now = platform.machine(), time.time()
        return cls(
            name=context.function_name,
            arn=context.invoked_function_arn,
            request_id=context.aws_request_id,
            runtime=f"python{sys.version_info.major}.{sys.version_info.minor}",
            architecture={"aarch64": "arm64"}.get(machine, machine),
            log_stream=context.log_stream_name,
            asked_by=client_says(context.client_context, "asked_by"),
            token=client_says(context.client_context, "token"),
            until=now + context.get_remaining_time_in_millis() / 1000,
            came=now,
        )

    @property
    def account(self) -> str:
        """The AWS account's id: arn:aws:lambda:REGION:ACCOUNT:function:NAME."""
        return self.arn.split(":")[4]

    @property
    def platform(self) -> str:
        """What a build by this builder is good for, e.g. "python3.13-x86_64"."""
        return f"{self.runtime}-{self.architecture}"


def client_says(client_context: Any, key: str) -> str:
    """Return what the client says of itself, in {"custom": {"asked_by": …, "token": …}} of its client context."""
    custom = getattr(client_context, "custom", None)
    value = custom.get(key) if isinstance(custom, Mapping) else None
    return printable(value)[:200] if isinstance(value, str) else ""


TESTED_RUNTIMES = ("python3.11", "python3.12", "python3.13", "python3.14")
"""Those whose toolchain, as requirements.txt pins it, yo-dawg is tested with.  A newer one may do as well."""

RUNTIME_PROVIDES = ("boto3", "botocore", "s3transfer", "jmespath", "python-dateutil", "six", "urllib3")
"""What Lambda's Python runtimes bring along: boto3 and what it needs.  All of it is left to them or none: AWS moves
the parts together, and warns of a runtime's botocore beside a package's urllib3."""


@functools.cache
def runtime_versions() -> dict[str, str]:
    """Return the versions of what Lambda's runtime brings along."""
    found: dict[str, str] = {}
    for name in RUNTIME_PROVIDES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


@functools.cache
def own_digest() -> str:
    """Return the SHA-256, in hex, of the builder's own code: the handler and its rooms."""
    digest = hashlib.sha256()
    for path in [HERE / "lambda_function.py", *sorted((HERE / "yo_dawg").rglob("*.py"))]:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(HERE).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()
