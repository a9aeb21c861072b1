"""Invoke the builder: show its stages as they happen, and return its answer, even if that gets lost on the way.

Three threads: the main one waits and hears of signals; one has the connection that the answer comes by; one follows
the log and the ledger (`Follower`), which is how we know that a build has ended whose answer does not come.  Nobody
waits for the latter two when the command ends.
"""

from __future__ import annotations

import base64
import getpass
import json
import re
import secrets
import signal
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NoReturn

from client.answers import error_lines
from client.aws import AwsError, code_of, is_connection, reason
from client.faults import BuilderFault, Fault
from client.main import App, end_by
from client.screen import Stages, plain

PAUSE = 0.7
"""Seconds between two looks at the log: what begins is on the screen within a second."""

LEDGER_AFTER, LEDGER_PAUSE = 60.0, 10.0
"""Seconds after which the ledger is looked at too, and how often: for those who may not read the log."""

GRACE = 15.0
"""Seconds by which an answer may come later than the end of its build.  After 350 s of silence NAT gateways forget
a connection, and then it never comes."""

ATTEMPTS = 3

STAGE = re.compile(r"(\[\d+/\d+\] .* …)(?: (\d+\.\d) s)?")


class Answered(threading.Thread):
    """An invocation, from its request to its answer."""

    def __init__(self, app: App, event: Mapping[str, Any], context: str, patience: float) -> None:
        """Ask."""
        super().__init__(name="invocation", daemon=True)
        # One attempt: a second one would have to wait for the first.  More patience than the function has time.
        self.functions = app.aws.client(
            "lambda", read_timeout=patience, retries={"total_max_attempts": 1}, connect_timeout=15, tcp_keepalive=True
        )
        self.request = {
            "FunctionName": app.config.function_name,
            "InvocationType": "RequestResponse",
            "LogType": "Tail",
            "Payload": json.dumps(event).encode(),
            "ClientContext": context,
        }
        self.done = threading.Event()
        self.reply: dict[str, Any] = {}
        self.payload = b""
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Wait for the answer."""
        try:
            self.reply = self.functions.invoke(**self.request)
            self.payload = self.reply["Payload"].read()
        except BaseException as error:  # it is raised where somebody waits for the answer
            self.error = error
        self.done.set()


class Follower(threading.Thread):
    """Shows the stages of one invocation as its log tells them, and notices that it has ended.

    Its log stream is the one in which its token appears.  Whoever may not read the log sees nothing.
    """

    def __init__(self, app: App, event: Mapping[str, Any], token: str, stages: Stages) -> None:
        """Begin to follow."""
        super().__init__(name="follower", daemon=True)
        self.app, self.token, self.stages = app, token, stages
        # Made here: a session makes one client at a time.
        self.logs = app.aws.quick("logs")
        # Where all is on this machine, no answer gets lost.
        functions = [] if app.is_local else event.get("function") or []
        self.function = functions if isinstance(functions, str) else "".join(functions[:1])
        self.s3 = app.aws.quick("s3") if self.function else None
        self.since = int(time.time() * 1000) - 60_000
        self.stream, self.seen, self.begun = "", set[str](), False
        self.earlier: set[str] | None = None
        self.ended, self.stopped = False, threading.Event()
        self.outcome: dict[str, Any] | None = None
        """The ledger's entry, once the build has ended."""
        self.start()

    def run(self) -> None:
        """Look again and again; one failure may be a throttle, many are the end of it."""
        failures, began, looked = 0, time.monotonic(), 0.0
        while not self.stopped.is_set():
            if failures < 5:
                try:
                    self.look_at_log()
                    failures = 0
                except AwsError:
                    failures += 1
            now = time.monotonic()
            if self.function and (self.earlier is None or now > max(began + LEDGER_AFTER, looked + LEDGER_PAUSE)):
                looked = now
                with suppress(*AwsError, ValueError, KeyError):
                    self.look_at_ledger()
            self.stopped.wait(PAUSE)

    def look_at_log(self) -> None:
        """Show what is new in the log."""
        streams = {"logStreamNames": [self.stream]} if self.stream else {}
        pages = self.logs.get_paginator("filter_log_events")
        group = f"/aws/lambda/{self.app.config.function_name}"
        events = [
            event
            for page in pages.paginate(logGroupName=group, startTime=self.since, **streams)
            for event in page.get("events", [])
        ]
        for event in events:
            if self.token in event["message"]:
                self.stream = event["logStreamName"]
        for event in events:
            if event["logStreamName"] != self.stream or event["eventId"] in self.seen:
                continue
            self.seen.add(event["eventId"])
            self.since = max(self.since, event["timestamp"])
            # An environment's log holds older builds, too.
            self.begun = self.begun or self.token in event["message"]
            if self.begun and not self.stopped.is_set():
                self.read(event["message"])

    def read(self, text: str) -> None:
        """Show lines of the log that people want to see."""
        for line in plain(text).splitlines():
            if match := STAGE.fullmatch(line.rstrip()):
                if match[2]:
                    self.stages.end(match[1], match[2])
                else:
                    self.stages.begin(match[1])
            elif line.startswith("Warning: "):
                self.stages.note(line.removeprefix("Warning: ").rstrip())
            elif line.startswith("REPORT RequestId: "):
                self.ended = True

    def look_at_ledger(self) -> None:
        """Notice that our build has ended: an entry of the history that was not there, and that we asked for."""
        key = f"{self.app.config.function_name}/locks/{self.function.rpartition(':')[2]}"
        s3: Any = self.s3
        body = s3.get_object(Bucket=self.app.config.deployment_bucket, Key=key)["Body"]
        history = json.loads(body.read())["history"]
        if self.earlier is None:
            self.earlier = {entry["request_id"] for entry in history}
        for entry in history:
            ours = entry["log_stream"] == self.stream if self.stream else entry["asked_by"] == asked_by()
            if entry["request_id"] not in self.earlier and ours:
                self.outcome, self.ended = entry, True

    def stop(self, log_tail: str) -> None:
        """Look no more; the end of the log, which came with the answer, is shown."""
        self.stopped.set()
        self.join(2)
        _, token, own = log_tail.rpartition(self.token)
        # Where the log is longer than what came with the answer, all of that is ours.
        self.read(own if token else log_tail)


def asked_by() -> str:
    """Return who asks, for the ledger."""
    try:
        who = getpass.getuser()
    except (KeyError, OSError):
        who = "somebody"
    return plain(f"{who}@{socket.gethostname() or 'somewhere'}")


def invoke(app: App, event: Mapping[str, Any], *, quiet: bool = False) -> dict[str, Any]:
    """Invoke the builder once, show its stages as they happen, and return its answer.

    Raises BuilderFault with its own words if that is an error, and Fault if nobody knows what became of it.
    """
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        with Stages(app.screen) as stages:
            answered = ask(app, dict(event), stages)
    except (Interrupted, KeyboardInterrupt) as error:
        if app.is_local:  # where nothing goes on
            raise KeyboardInterrupt from None
        tell_interrupted(app, error.number if isinstance(error, Interrupted) else signal.SIGINT)
    finally:
        signal.signal(signal.SIGTERM, before)
    if answered.error:
        raise Fault(advice(app, answered.error)) from None
    return read_answer(app, answered.payload, answered.reply, quiet=quiet)


def ask(app: App, event: dict[str, Any], stages: Stages) -> Answered:
    """Ask until there is an answer: again only if the build has ended whose answer did not come."""
    timeout = app.config.timeout
    for attempt in range(ATTEMPTS):
        token = secrets.token_hex(12)
        custom = {"custom": {"asked_by": asked_by(), "token": token}}
        context = base64.b64encode(json.dumps(custom).encode()).decode()
        answered = Answered(app, event, context, timeout + 60)
        follower = Follower(app, event, token, stages)
        ended = 0.0
        while not answered.done.wait(0.1):
            ended = ended or (time.monotonic() if follower.ended else 0.0)
            if ended and time.monotonic() - ended > GRACE and attempt + 1 < ATTEMPTS:
                break
        tail = base64.b64decode(answered.reply.get("LogResult") or "").decode("utf-8", "replace")
        follower.stop(tail)
        if answered.done.is_set():
            return answered
        failed = follower.outcome and follower.outcome.get("status") in ("failed", "interrupted")
        if failed:
            raise BuilderFault(
                f"{(follower.outcome or {}).get('error') or 'The build failed, and its answer is lost.'}"
            )
        # Whoever asks again soon gets the same answer; but not if it is to be done in any case.
        event.pop("force", None)
        app.screen.say("it has ended, but its answer was lost on the way: ask for it again")
    raise AssertionError("the last attempt waits until it is answered")


class Interrupted(Exception):
    """A signal came that ends this."""

    def __init__(self, number: int) -> None:
        """Take which one."""
        super().__init__(number)
        self.number = number


def interrupt(number: int, _frame: object) -> NoReturn:
    """Raise what a signal means."""
    raise Interrupted(number)


def tell_interrupted(app: App, number: int) -> NoReturn:
    """Say what Ctrl-C, or a CI that cancels, ends, and what not; then end by it."""
    app.screen.error.print()
    app.screen.warn(
        f"what was asked for goes on in AWS, for at most {app.config.timeout} s; only the waiting for it has ended. "
        'Run the same command again to get its answer, or "./deploy.sh history FUNCTION" to see what became of it. '
        f"Its log is in CloudWatch, /aws/lambda/{app.config.function_name}."
    )
    end_by(number)


def advice(app: App, error: BaseException) -> str:
    """Say why an invocation failed, and what to do."""
    name = app.config.function_name
    if code_of(error) == "ResourceNotFoundException":
        more = f'\nThere is no function {name} in {app.aws.region}. Run "./deploy.sh bootstrap" first.'
    elif is_connection(error):
        more = (
            "\nIt may be running all the same: the same command again waits for it and gets its answer. "
            f"Its log is /aws/lambda/{name}."
        )
    else:
        more = ""
    return reason(error) + more


def read_answer(app: App, payload: bytes, reply: Mapping[str, Any], *, quiet: bool = False) -> dict[str, Any]:
    """Return the builder's answer, printed as it came if that is wanted; raise BuilderFault if it is an error."""
    text = payload.decode("utf-8", "replace")
    try:
        answer = json.loads(text)
    except ValueError:
        answer = text[:1000]
    if app.screen.as_json and not quiet:
        app.screen.answer(answer)
    if reply.get("FunctionError"):
        raise BuilderFault("\n".join(error_lines(answer, reply)))
    if not isinstance(answer, dict) or "status" not in answer:
        raise BuilderFault(f"The function's answer is not one of yo-dawg's: {text[:1000]}")
    return answer
