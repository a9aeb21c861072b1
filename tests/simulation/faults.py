"""What can go wrong at a call: for each fault what it does, and at which calls it can happen."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError, ReadTimeoutError

from yo_dawg.errors import PackageError, SourceError

if TYPE_CHECKING:
    from tests.simulation.world import Actor, World


class NotFound(ClientError):  # type: ignore[misc]
    """What boto3 raises for a function, a version or an alias that is not there."""


def refusal(code: str, message: str, operation: str) -> ClientError:
    """Return an error as boto3 raises it."""
    kind = NotFound if code == "ResourceNotFoundException" else ClientError
    return kind({"Error": {"Code": code, "Message": message}}, operation)


Call = Callable[[], Any]
"""What a call does if nothing goes wrong."""

S3_READS = ("get_object", "head_object", "list_objects_v2")
S3_WRITES = ("put_object", "delete_objects")
LAMBDA_READS = (
    "get_function_configuration", "get_function", "get_alias", "list_versions_by_function", "list_aliases",
    "update_function_code(DryRun)", "invoke(DryRun)",
)  # fmt: skip
LAMBDA_WRITES = ("update_function_code", "publish_version", "create_alias", "update_alias", "tag_resource")
CONFLICTING = ("update_function_code", "update_function_code(DryRun)", "publish_version", "create_alias",
               "update_alias", "invoke", "put_object")  # fmt: skip
LISTS = ("list_objects_v2", "list_versions_by_function", "list_aliases")
WORKSHOP = ("look", "clone", "package", "download")

OPERATIONS = (*S3_READS, *S3_WRITES, *LAMBDA_READS, *LAMBDA_WRITES, "invoke", *WORKSHOP, "begin")


@functools.cache
def faults_at(operation: str) -> tuple[str, ...]:
    """Return the faults that can happen at a call, those first that tell most."""
    if operation == "begin":
        return ("clock-ahead", "clock-behind")
    found = ["crash-before", "crash-before-warm", "crash-after", "crash-after-warm", "denied", "slow-before"]
    if operation in WORKSHOP:
        return (*found, "slow-after") if operation == "download" else (*found[:4], "slow-before", "fails")
    found += ["broken", "throttled"]
    if operation == "invoke":
        found += ["fails"]
    if operation in S3_WRITES or operation in LAMBDA_WRITES or operation == "invoke":
        found += ["slow-after", "lost", "lost-for-good"]
    if operation in CONFLICTING:
        found += ["conflict", "conflict-for-long", "conflict-for-ever"]
    if operation in LISTS:
        found += ["stale"]
    return tuple(found)


def conflict(operation: str) -> ClientError:
    """Return AWS's "not now"."""
    if operation == "put_object":
        return refusal("ConditionalRequestConflict", "A conflicting operation is under way", operation)
    return refusal("ResourceConflictException", "An update is in progress for resource", operation)


def throttled(operation: str) -> ClientError:
    """Return AWS's "not so fast", after the client's own retries."""
    is_s3 = operation in S3_READS or operation in S3_WRITES
    return refusal("SlowDown" if is_s3 else "TooManyRequestsException", "Rate exceeded", operation)


def no_answer() -> ReadTimeoutError:
    """Return the client's error when no answer came, not to its retries either."""
    return ReadTimeoutError(endpoint_url="https://aws.example")


def suffer(fault: str, operation: str, call: Call, retried: bool, actor: Actor, world: World) -> Any:
    """Let a call have a fault; ``retried`` says whether the client tries again by itself."""
    match fault:
        case "crash-before" | "crash-before-warm":
            world.kill(actor)
        case "crash-after" | "crash-after-warm":
            attempt(call)
            world.kill(actor)
        case "denied":
            raise refusal("AccessDeniedException", "not authorized", operation)
        case "broken":
            raise refusal("ServiceException", "Service failure", operation)
        case "throttled":
            raise throttled(operation)
        case "lost":
            attempt(call)
            if not retried:
                raise no_answer()
            return call()
        case "lost-for-good":
            attempt(call)
            if retried:
                attempt(call)
            raise no_answer()
        case "conflict":
            raise conflict(operation)
        case "conflict-for-long":
            actor.busy_until[operation] = world.now + 10.0
            raise conflict(operation)
        case "conflict-for-ever":
            actor.busy_until[operation] = float("inf")
            raise conflict(operation)
        case "slow-before":
            world.hang(actor)
            return call()
        case "slow-after":
            answer = call()
            world.hang(actor)
            return answer
        case "fails" if operation == "package":
            raise PackageError("The handler cannot be imported.")
        case "fails":
            raise SourceError("The Git host does not answer.")
    raise ValueError(f"no such fault: {fault}")


def attempt(call: Call) -> None:
    """Make a call whose answer nobody hears."""
    with contextlib.suppress(ClientError):
        call()
