"""What the boto3 of this runtime knows of AWS.  It lags behind AWS, by a year and more in some runtimes."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

from yo_dawg.errors import ConfigError

NEEDED = ("IfMatch", "IfNoneMatch", "ChecksumSHA256", "ExpectedBucketOwner")
"""What PutObject must take: without conditional writes two builds of a function could not be kept apart."""

WANTED: Mapping[str, tuple[str, ...]] = {
    "UpdateFunctionCode": ("S3ObjectStorageMode", "SourceKMSKeyArn"),
    "PublishVersion": ("PublishTo",),
}
"""What some kinds of functions need Lambda's calls to take."""


def accepts(client: Any, operation: str, member: str) -> bool:
    """Say whether a client knows a parameter of an operation; one that it does not know it does not send."""
    shape = client.meta.service_model.operation_model(operation).input_shape
    return shape is not None and member in shape.members


def boto3_version() -> str:
    """Return the version of boto3 that is in use."""
    import boto3

    return str(boto3.__version__)


def too_old(what: str) -> str:
    """Say that boto3 is too old for something, and what to do."""
    return (
        f"boto3 {boto3_version()} of this runtime does not know {what}. Set a newer runtime in config.ini, which "
        'brings a newer boto3, and run "./deploy.sh bootstrap"; or ship a newer boto3 in a layer of this function.'
    )


def check_models(s3: Any) -> None:
    """Raise ConfigError if this boto3 cannot do what every action needs; it asks AWS nothing."""
    if lacking := ", ".join(each for each in NEEDED if not accepts(s3, "PutObject", each)):
        raise ConfigError(f"Nothing was done: {too_old(f'{lacking} of PutObject in S3')}")


def see_all(client: Any) -> None:
    """Let a client of Lambda hand out also what its model does not know: boto3 drops that.

    Else the code of a function that runs it from S3 could not be told from one that has a copy, and not told, an
    update would change that.
    """
    for operation in ("GetFunction", "GetFunctionConfiguration"):
        client.meta.events.register(f"after-call.lambda.{operation}", add_unknown)


def add_unknown(http_response: Any, parsed: dict[str, Any], **_: Any) -> None:
    """Add to boto3's reading of an answer what it has left out."""
    if http_response.status_code < 300:
        with contextlib.suppress(ValueError, AttributeError):  # the answer of a botocore Stubber has no content
            merge(parsed, json.loads(http_response.content))


def merge(known: dict[str, Any], said: Mapping[str, Any]) -> None:
    """Add what is said and not known, at every depth."""
    for name, value in said.items():
        if name not in known and value is not None:
            known[name] = value
        elif isinstance(value, Mapping) and isinstance(known.get(name), dict):
            merge(known[name], value)
