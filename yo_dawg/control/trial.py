"""The test event: what the new code answers, or why it was never run."""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING

from yo_dawg.control.clients import client_with_timeout, may_still_run
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


class NotRun(DeployError):
    """The function never saw its test event, so nothing is known of its code."""


def run_test(target: Target, event: object, job: Job) -> str:
    """Invoke the new code with the test event; return what is wrong with its answer, or "".

    It runs once only, since nobody knows what an event does twice; but it is asked to until it does,
    or until what time there is left is needed to undo: the first invocation wakes a function that Lambda has let
    fall asleep (Inactive), and is not run itself.  Raises NotRun.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    hide_environment(target, job.log)
    pause = 0.2
    while True:
        waiting = max(1.0, min(target.timeout + 5.0, seconds_left(job)))
        functions = client_with_timeout(job.aws, waiting).functions
        try:
            reply = functions.invoke(
                FunctionName=target.name,
                Payload=json.dumps(event).encode(),
                LogType="Tail",
                **target.kind.qualifier,
            )
            answer = reply["Payload"].read(TAIL_BYTES).decode(errors="replace")
            break
        except (ClientError, BotoCoreError) as error:
            may_run = may_still_run(error)
            if may_run is None:
                return f"it gave no answer within {waiting:.0f} s, or could not be invoked: {error}."
            if not may_run or seconds_left(job) < pause:
                raise NotRun(
                    f"The test event of {target.name} could not be run, so nothing is known of the code: {error}. "
                ) from None
        time.sleep(pause)
        pause = min(2 * pause, 5.0)
    if "FunctionError" not in reply:
        job.log.detail("passed its test event")
        return ""
    tail = base64.b64decode(reply.get("LogResult", "")).decode(errors="replace")[-TAIL_BYTES // 2 :]
    printed = "\n".join(printable(line) for line in tail.splitlines())
    return f"{error_summary(answer)}\nThe end of its log:\n{printed}\n"


def seconds_left(job: Job) -> float:
    """Return how many seconds a test event has, if its function is then to be given the old code again."""
    return job.builder.until - time.time() - SECONDS_TO_REPORT - SECONDS_TO_UNDO


def error_summary(answer: str) -> str:
    """Return a function's error as people read it, from the JSON that it answered with."""
    try:
        error = json.loads(answer)
        return printable(f"{error['errorType']}: {error['errorMessage']}")
    except (ValueError, LookupError, TypeError):
        return printable(answer)
