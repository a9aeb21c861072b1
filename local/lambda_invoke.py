"""The Lambda API's Invoke: which version runs an event, whether it may now, and what its caller hears."""

from __future__ import annotations

import base64
import contextlib
import json
import platform
import random
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from local.environments import Environment, Outcome
from local.functions import LATEST, Function, Version
from local.lambda_account import Account
from local.lambda_errors import in_state, invalid, throttled
from local.pools import Pool
from local.rest_json import ApiError
from local.runtime_api import Invocation

SYNC_PAYLOAD_LIMIT = 6_291_456
ASYNC_PAYLOAD_LIMIT = 1_048_576

RESERVED_REACHED = "ReservedFunctionConcurrentInvocationLimitExceeded"
ACCOUNT_REACHED = "ConcurrentInvocationLimitExceeded"

INACTIVE = (
    "The function is inactive and its VPC connection is no longer available. "
    "Wait for the VPC connection to reestablish and try again."
)


class InvokeOperations:
    """Invoke, and the events that run in the background."""

    def __init__(self, account: Account, retry_seconds: tuple[float, ...]) -> None:
        """Run an account's functions."""
        self.account = account
        self.retry_seconds = retry_seconds
        self.room = threading.Condition(account.lock)
        """Notified when an invocation has ended, for events that wait for their turn."""
        self.background: set[threading.Thread] = set()
        self.closing = threading.Event()

    def invoke(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Run a function, now or in the background."""
        kind = parameters.get("InvocationType", "RequestResponse")
        payload = parameters.get("Payload") or b"{}"
        check_payload(payload, kind)
        with self.account.lock:
            self.account.settle()
            function, qualifier = self.account.find(parameters, shown=parameters.get("Qualifier") or LATEST)
            version = choose(function, qualifier)
            self.refuse_unless_ready(version)
            limit = self.limit_reached(function)
            if kind == "RequestResponse" and limit:
                raise throttled(limit)
            pool = self.pool(function, version)
            if kind == "RequestResponse":
                function.running += 1
        event = Invocation(
            request_id=str(uuid.uuid4()),
            payload=payload,
            deadline_ms=0,
            function_arn=function.arn + (f":{qualifier}" if qualifier else ""),
            trace_id=new_trace_id(),
            client_context=decode_client_context(parameters.get("ClientContext")),
        )
        answer: dict[str, Any] = {"StatusCode": 204, "RequestId": event.request_id}
        if kind == "DryRun":
            return answer
        if kind == "Event":
            self.run_in_background(function, event, qualifier or LATEST)
            return answer | {"StatusCode": 202, "Payload": b""}
        with self.running(function):
            outcome = run(pool, event)
        answer |= {
            "StatusCode": 200,
            "Payload": outcome.payload,
            "FunctionError": outcome.error,
            "ExecutedVersion": version.number,
        }
        if parameters.get("LogType") == "Tail":
            answer["LogResult"] = base64.b64encode(outcome.log_tail).decode()
        return answer

    def refuse_unless_ready(self, version: Version) -> None:
        """Raise unless a version can run; to ask for an inactive one is what brings it back."""
        if version.state == "Inactive":
            version.begin_restoring(self.account.update_seconds)
            raise ApiError("ResourceNotReadyException", 502, INACTIVE)
        if version.state == "Pending":
            raise in_state("Pending")

    def limit_reached(self, function: Function) -> str | None:
        """Return which limit keeps a function from running once more now."""
        if function.reserved is not None:
            return RESERVED_REACHED if function.running >= function.reserved else None
        unreserved = (each.running for each in self.account.functions.values() if each.reserved is None)
        at_most = self.account.concurrency - self.account.reserved()
        return ACCOUNT_REACHED if sum(unreserved) >= at_most else None

    @contextlib.contextmanager
    def running(self, function: Function) -> Iterator[None]:
        """Count an invocation, which was counted when it was let in, until it has ended."""
        try:
            yield
        finally:
            with self.room:
                function.running -= 1
                self.room.notify_all()

    def pool(self, function: Function, version: Version) -> Pool:
        """Return the environments of a version of a function."""
        unit = version.live or version.unit
        if unit.config["PackageType"] == "Image":
            raise invalid(
                f"The embedded AWS cannot run {function.name}: it is a container image, and only zips are run."
            )
        machine = this_architecture()
        if machine not in unit.config["Architectures"]:
            raise invalid(
                f"The embedded AWS cannot run {function.name}: it is for {unit.config['Architectures'][0]}, "
                f"and this machine is {machine}."
            )
        if version.pool is None:
            version.pool = Pool(lambda: self.account.world.make_environment(function, version, unit))
        return version.pool

    # --- events ---

    def run_in_background(self, function: Function, event: Invocation, qualifier: str) -> None:
        """Run an event, and again when it fails, as often as the function's EventInvokeConfig says."""
        attempts = 1 + function.event_invoke.get(qualifier, {}).get("MaximumRetryAttempts", 2)

        def work() -> None:
            for attempt in range(attempts):
                if attempt and self.closing.wait(self.retry_seconds[min(attempt, len(self.retry_seconds)) - 1]):
                    break
                pool = self.turn(function, qualifier)
                if pool is None:
                    break
                with self.running(function):
                    failed = run(pool, event).error is not None
                if not failed:
                    break
            with self.account.lock:
                self.background.discard(threading.current_thread())

        thread = threading.Thread(target=work, name=f"event-{event.request_id}", daemon=True)
        with self.account.lock:
            self.background.add(thread)
        thread.start()

    def turn(self, function: Function, qualifier: str) -> Pool | None:
        """Wait until an event may run; return what runs it: the code that is there by then, not when it was sent.

        None when the function is gone, or is let run nothing at all.
        """
        with self.room:
            while self.limit_reached(function) and function.reserved != 0:
                if self.closing.is_set():
                    return None
                self.room.wait(0.1)
            if function.reserved == 0 or self.account.functions.get(function.name) is not function:
                return None
            self.account.settle()
            pool = self.pool(function, choose(function, qualifier))
            function.running += 1
            return pool

    def wait_for_events(self) -> None:
        """Wait until every event that was taken in has been served, retries and all."""
        while self.background:
            with self.account.lock:
                threads = list(self.background)
            for thread in threads:
                thread.join()

    def environments(self, name: str) -> list[Environment]:
        """Return the environments of a function that are alive."""
        with self.account.lock:
            function, _ = self.account.find({"FunctionName": name})
            pools = [version.pool for version in function.everything if version.pool]
        return [environment for pool in pools for environment in pool.everyone]

    def close(self) -> None:
        """End all environments and wait for what ran in them."""
        self.closing.set()
        with self.account.lock:
            versions = [version for function in self.account.functions.values() for version in function.everything]
        pools = [version.pool for version in versions if version.pool]
        with ThreadPoolExecutor(max_workers=16) as workers:
            list(workers.map(Pool.close, pools))
        self.wait_for_events()


def choose(function: Function, qualifier: str | None) -> Version:
    """Return the version to run: an alias may have two."""
    alias = function.aliases.get(qualifier or "")
    if alias:
        for number, weight in alias.weights.items():
            if random.random() < weight:  # noqa: S311 (a share of traffic is no secret)
                return function.version(number)
    return function.version(qualifier)


def run(pool: Pool, event: Invocation) -> Outcome:
    """Let a pool serve an event."""
    from local.environments import runtime_error
    from local.runtimes import RuntimeUnavailable
    from local.sandbox import SandboxError

    try:
        return pool.invoke(lambda deadline: replace(event, deadline_ms=deadline))
    except (RuntimeUnavailable, SandboxError) as error:
        # Not a fault of the function: the message says what this machine lacks.
        return Outcome(runtime_error(event.request_id, type(error).__name__, str(error)), "Unhandled", b"")


def this_architecture() -> str:
    """Return the name that Lambda has for this machine's kind."""
    machine = platform.machine().lower()
    return {"aarch64": "arm64", "amd64": "x86_64"}.get(machine, machine)


def check_payload(payload: bytes, kind: str) -> None:
    """Raise for an event that is too large, or no JSON."""
    limit = ASYNC_PAYLOAD_LIMIT if kind == "Event" else SYNC_PAYLOAD_LIMIT
    if len(payload) > limit:
        raise ApiError(
            "RequestTooLargeException",
            413,
            f"{len(payload)} byte payload is too large for the {kind} invocation type (limit {limit} bytes)",
        )
    try:
        json.loads(payload)
    except ValueError as error:
        message = "Could not parse request body into json: Could not parse payload into json: "
        raise ApiError("InvalidRequestContentException", 400, message + problem_of(payload, error)) from error


def problem_of(payload: bytes, error: ValueError) -> str:
    """Say what is wrong with JSON, as AWS does where it was seen to: of bytes that are no UTF-8."""
    if not isinstance(error, UnicodeDecodeError):
        return str(error)
    at = error.start
    if at == 0:
        what = (
            f"Unexpected character ((CTRL-CHAR, code {payload[0]})): expected a valid value "
            "(JSON String, Number, Array, Object or token 'null', 'true' or 'false')"
        )
    else:
        what = f"Invalid UTF-8 start byte 0x{payload[at]:02x}"
    place = f"line: 1, column: {at + 2 if at else 1}"
    return f"{what}\n at [Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); {place}]"


def decode_client_context(given: str | None) -> str:
    """Return the client context as the runtime gets it: as JSON, not in base64."""
    with contextlib.suppress(ValueError):
        return base64.b64decode(given or "").decode()
    return ""


def new_trace_id() -> str:
    """Return what _X_AMZN_TRACE_ID is set to for an invocation."""
    root = f"1-{int(time.time()):08x}-{uuid.uuid4().hex[:24]}"
    return f"Root={root};Parent={uuid.uuid4().hex[:16]};Sampled=0;Lineage=1:{uuid.uuid4().hex[:8]}:0"
