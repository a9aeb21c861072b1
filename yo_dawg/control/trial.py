"""The test event: what the new code answers, or why it was never run."""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING

from yo_dawg.control.clients import error_code, patient
from yo_dawg.control.functions import hide_environment
from yo_dawg.deadline import SECONDS_TO_REPORT
from yo_dawg.errors import DeployError
from yo_dawg.process import TAIL_BYTES
from yo_dawg.text import printable

if TYPE_CHECKING:
    from yo_dawg.control.functions import Target
    from yo_dawg.control.job import Job

SECONDS_TO_UNDO = 20.0
"""Kept back from a test event's time to put the old code back."""

NOT_YET_RUN = """
TooManyRequests ResourceConflict ResourceNotReady CodeArtifactUserPending
SnapStartNotReady SnapStartTimeout SnapStartRegenerationFailure
ENINotReady ENILimitReached EC2Throttled EC2Unexpected SubnetIPAddressLimitReached
EFSMountConnectivity EFSMountTimeout S3FilesMountConnectivity S3FilesMountTimeout
"""
"""Why Invoke did not run a function, though it may soon: what it runs on is not ready, or there is too much of it."""

NOT_RUN = """
AccessDenied ResourceNotFound ServiceQuotaExceeded NoPublishedVersion ModeNotSupported
InvalidParameterValue InvalidRequestContent UnsupportedMediaType RequestTooLarge
SerializedRequestEntityTooLarge DurableExecutionAlreadyStarted
KMSAccessDenied KMSDisabled KMSInvalidState KMSNotFound
EC2AccessDenied InvalidSecurityGroupID InvalidSubnetID EFSMountFailure S3FilesMountFailure
InvalidRuntime RuntimeAliasDeleted RuntimeVersionDeleted CodeArtifactUserFailed CodeArtifactUserDeleted
"""
"""Why Invoke does not run a function before somebody mends something else than its code."""


class NotRun(DeployError):
    """The function never saw its test event, so nothing is known of its code."""


def run_test(target: Target, event: object, job: Job) -> str:
    """Invoke the new code with the test event; return what is wrong with its answer, or "".

    It runs once only, since nobody knows what an event does twice; but it is asked to until it does,
    or until what time there is left is needed to undo.  Raises NotRun.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    hide_environment(target, job.log)
    pause = 0.2
    while True:
        left = job.builder.until - time.time() - SECONDS_TO_REPORT - SECONDS_TO_UNDO
        waiting = max(1.0, min(target.timeout + 5.0, left))
        functions = patient(job.aws, waiting).functions
        try:
            reply = functions.invoke(FunctionName=target.name, Payload=json.dumps(event).encode(), LogType="Tail")
            answer = reply["Payload"].read(TAIL_BYTES).decode(errors="replace")
            break
        except (ClientError, BotoCoreError) as error:
            may_run = may_still_run(error)
            if may_run is None:
                return f"it gave no answer within {waiting:.0f} s, or could not be invoked: {error}."
            left = job.builder.until - time.time() - SECONDS_TO_REPORT - SECONDS_TO_UNDO
            if not may_run or left < pause:
                raise NotRun(
                    f"The test event of {target.name} could not be run, so nothing is known of the code: {error}. "
                ) from None
        time.sleep(pause)
        pause = min(2 * pause, 5.0)
    if "FunctionError" not in reply:
        job.log.quote("passed its test event")
        return ""
    tail = base64.b64decode(reply.get("LogResult", "")).decode(errors="replace")[-TAIL_BYTES // 2 :]
    printed = "\n".join(printable(line) for line in tail.splitlines())
    return f"{told_error(answer)}\nThe end of its log:\n{printed}\n"


def may_still_run(error: Exception) -> bool | None:
    """Say whether a function that was not run may be run soon; None if it was run, or nobody knows."""
    from botocore.exceptions import ClientError, ConnectTimeoutError, EndpointConnectionError

    if not isinstance(error, ClientError):  # the request was not even sent, or there is no telling
        return True if isinstance(error, (ConnectTimeoutError, EndpointConnectionError)) else None
    code = error_code(error).removesuffix("Exception")
    return True if code in NOT_YET_RUN.split() else False if code in NOT_RUN.split() else None


def told_error(answer: str) -> str:
    """Return a function's error as people read it, from the JSON that it answered with."""
    try:
        error = json.loads(answer)
        return printable(f"{error['errorType']}: {error['errorMessage']}")
    except (ValueError, LookupError, TypeError):
        return printable(answer)
