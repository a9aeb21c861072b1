"""What a function runs, and what the builder has stored of it in S3: read whole, bounded, and compared with digests."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import tempfile
from collections.abc import Mapping
from typing import IO, Any

from client.aws import AwsError, code_of, reason
from client.faults import Fault
from client.main import App
from yo_dawg.digests import in_base64

MAX_JSON = 32_000_000
"""Bytes of a record; those of the largest projects have a tenth of it."""

MAX_ZIP = 300_000_000
"""Bytes of a package: a little more than Lambda takes unzipped."""


def function_name(function: str) -> str:
    """Return a function's name, also where its ARN was given; raise Fault for what is none."""
    name = function.rpartition(":")[2]
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        raise Fault(f"{function!r} is no name of a function. Give its name, or its ARN without a version.")
    return name


def describe_running(app: App, function: str) -> dict[str, Any]:
    """Return what Lambda says of a function; raise Fault."""
    try:
        found: dict[str, Any] = app.aws.quick("lambda").get_function_configuration(FunctionName=function)
    except AwsError as error:
        if code_of(error) == "ResourceNotFoundException":
            raise Fault(f"there is no function {function} in {app.aws.region}.") from None
        raise Fault(f"cannot look at {function}: {reason(error)}") from None
    return found


def address(app: App, key: str) -> str:
    """Return the s3:// address of a key of the builder's."""
    return f"s3://{app.config.deployment_bucket}/{app.config.function_name}/{key}"


def open_object(app: App, key: str) -> Any:
    """Return what an object's content can be read from; None if there is no such object.  Raises Fault."""
    try:
        found = app.aws.client("s3").get_object(
            Bucket=app.config.deployment_bucket, Key=f"{app.config.function_name}/{key}"
        )
    except AwsError as error:
        if code_of(error) in ("NoSuchKey", "404"):
            return None
        raise Fault(f"cannot read {address(app, key)}: {reason(error)}") from None
    return found["Body"]


def read_json(app: App, key: str) -> dict[str, Any] | None:
    """Return the JSON object that is stored under a key; None if there is none.  Raises Fault."""
    body = open_object(app, key)
    if body is None:
        return None
    try:
        content = body.read(MAX_JSON + 1)
        if len(content) > MAX_JSON:
            raise ValueError(f"it is larger than {MAX_JSON:,} bytes")
        value = json.loads(content)
        if not isinstance(value, dict):
            raise ValueError("it is no JSON object")
    except (*AwsError, OSError, ValueError, RecursionError) as error:
        raise Fault(f"cannot read {address(app, key)}: {reason(error)}") from None
    return value


def package_key(function: str, code_sha256: str) -> str:
    """Return the key of a function's package by its digest, in base64; raise Fault for what is no digest."""
    try:
        digest = base64.b64decode(code_sha256, validate=True)
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise Fault(f"{code_sha256!r} is no digest of a package of {function}.")
    return f"packages/{function}/{digest.hex()}.zip"


def fetch_package(app: App, function: str, code_sha256: str) -> IO[bytes] | None:
    """Return a function's package in an open file without a name; None if it is not stored.

    ``code_sha256`` is its digest, in base64.  Raises Fault, also if what is stored has another digest.
    """
    key = package_key(function, code_sha256)
    body = open_object(app, key)
    if body is None:
        return None
    digest, count = hashlib.sha256(), 0
    with contextlib.ExitStack() as unless_whole:
        zipped = unless_whole.enter_context(tempfile.TemporaryFile())
        try:
            while piece := body.read(1 << 20):
                count += len(piece)
                if count > MAX_ZIP:
                    raise Fault(f"{address(app, key)} is larger than any package of Lambda's ({MAX_ZIP:,} bytes).")
                digest.update(piece)
                zipped.write(piece)
        except AwsError as error:
            raise Fault(f"cannot read {address(app, key)}: {reason(error)}") from None
        if in_base64(digest) != code_sha256:
            raise Fault(
                f"{address(app, key)} has another SHA-256 than its name says: somebody has changed it. "
                "Delete it, and build the function again with --force."
            )
        unless_whole.pop_all()
    zipped.seek(0)
    return zipped


def told_of_package(app: App, function: str, code_sha256: str) -> Mapping[str, Any]:
    """Return what the build that made a package told of it; nothing where that is not known.  Raises Fault."""
    key = package_key(function, code_sha256).replace("packages/", "bundles/", 1).removesuffix(".zip")
    result = (read_json(app, f"{key}.json") or {}).get("result")
    return result if isinstance(result, dict) else {}
