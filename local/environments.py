"""Execution environments: a sandbox with a runtime in it, which serves one invocation at a time.

Cold and warm starts are Lambda's: the runtime is initialised once and serves many invocations; after a crash or a
timeout only the runtime is started anew, and /tmp and detached processes stay.
"""

from __future__ import annotations

import hashlib
import json
import math
import queue
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from local.function_log import LogPipe
from local.runtime_api import Answered, Ended, Event, Exchange, Failed, Invocation, Ready, RuntimeApi
from local.sandbox import ANSWER_SECONDS, Exit, Inspection, Launcher, Room, Sandbox, SandboxError

READY_SECONDS = 1.0
"""For so long a runtime that has answered is waited for, before its environment is frozen."""

INIT_SECONDS = 10.0
"""After this long without a first request for an event, Lambda starts the runtime again, on the function's time."""


@dataclass(frozen=True)
class Credentials:
    """The temporary keys of a function's role."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)


@dataclass(frozen=True)
class FunctionFacts:
    """What an environment must know about the version of a function that it runs."""

    name: str
    version: str
    arn: str
    handler: str
    timeout: int
    memory_mb: int
    log_group: str
    log_format: str
    variables: Mapping[str, str]


@dataclass(frozen=True)
class Outcome:
    """What came out of an invocation."""

    payload: bytes
    error: str | None
    """What stands in the header X-Amz-Function-Error."""
    log_tail: bytes


@dataclass(frozen=True)
class Identity:
    """What an environment is given beside what it must know: who it is, and how it reaches this AWS."""

    credentials: Credentials
    client_environment: Mapping[str, str]


@dataclass(frozen=True)
class Host:
    """What an environment uses of the server."""

    launcher: Launcher
    write_log: Callable[[str, Sequence[str]], None]
    """Takes a log stream's name and lines for it."""


def runtime_error(request_id: str, kind: str, message: str) -> bytes:
    """Return an error in the words of Lambda itself."""
    return json.dumps({"errorType": kind, "errorMessage": f"RequestId: {request_id} Error: {message}"}).encode()


def exit_message(status: int) -> str:
    """Say how the runtime ended, as Lambda does."""
    if status == 0:
        return "Runtime exited without providing a reason"
    if status < 0:
        names = {-9: "killed", -11: "segmentation fault", -6: "aborted", -15: "terminated"}
        return f"Runtime exited with error: signal: {names.get(status, -status)}"
    return f"Runtime exited with error: exit status {status}"


def now() -> str:
    """Return the time as Lambda's own log lines have it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


class Environment:
    """One execution environment of one version of a function."""

    def __init__(self, facts: FunctionFacts, identity: Identity, room: Room, host: Host) -> None:
        """Make the sandbox; the runtime is started by the first invocation."""
        self.facts = facts
        self.room = room
        self.log_stream = f"{datetime.now(UTC):%Y/%m/%d}/[{facts.version}]{secrets.token_hex(16)}"
        self.credentials = identity.credentials
        self.client_environment = identity.client_environment
        self.alive = False
        self.started_before = False
        self.highest = 0
        self.peak_rss = 0
        self.api = RuntimeApi()
        self.exchange: Exchange = self.api.exchange
        self.sandbox = Sandbox(room, host.launcher, self.on_exit)
        self.log = LogPipe(
            self.sandbox.reading, self.sandbox.output, lambda lines: host.write_log(self.log_stream, lines)
        )

    # --- what tests and the curious may ask ---

    @property
    def pid(self) -> int:
        """Return the runtime's process id, as its sandbox sees it."""
        return self.sandbox.runtime_pid

    @property
    def peak_rss_bytes(self) -> int:
        """Return the highest resident size (VmHWM) that a runtime process of this environment had."""
        return max(self.peak_rss, self.inspect().runtime_highest)

    def inspect(self, *, tmp: bool = False) -> Inspection:
        """Look at the memory and the processes and, if asked to, at the files in /tmp."""
        return self.sandbox.inspect(tmp=tmp)

    # --- the life of the runtime ---

    def on_exit(self, exit_: Exit) -> None:
        """Take note that the runtime ended."""
        self.alive = False
        self.highest = max(self.highest, exit_.highest)
        self.peak_rss = max(self.peak_rss, exit_.runtime_highest)
        self.exchange.events.put(Ended(exit_.status))

    def start(self) -> None:
        """Start a runtime process, and talk to no other from now on."""
        self.exchange = self.api.renew()
        inside = self.sandbox.inside
        argv = [inside(self.room.image.python), inside("/var/runtime/bootstrap.py")]
        if not self.room.walls:
            argv.append(inside("/opt"))
        wrapper = self.facts.variables.get("AWS_LAMBDA_EXEC_WRAPPER")
        self.alive = True
        self.sandbox.start(argv, self.environ(), inside(wrapper) if wrapper else None)

    def kill(self) -> None:
        """End the runtime, and wait until it has ended."""
        if not self.alive:
            return
        self.sandbox.kill()
        until = time.monotonic() + ANSWER_SECONDS
        while not isinstance(event := self.wait(until), Ended):
            if event is None:
                raise SandboxError(f"the runtime of {self.facts.name} does not end")

    def environ(self) -> dict[str, str]:
        """Return the environment block, as it was recorded in Lambda."""
        facts, inside = self.facts, self.sandbox.inside
        environ = {
            "AWS_ACCESS_KEY_ID": self.credentials.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.credentials.secret_access_key,
            "AWS_SESSION_TOKEN": self.credentials.session_token,
            "AWS_REGION": facts.arn.split(":")[3],
            "AWS_DEFAULT_REGION": facts.arn.split(":")[3],
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{self.room.image.name}",
            "AWS_LAMBDA_FUNCTION_NAME": facts.name,
            "AWS_LAMBDA_FUNCTION_VERSION": facts.version,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(facts.memory_mb),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": facts.log_group,
            "AWS_LAMBDA_LOG_STREAM_NAME": self.log_stream,
            "AWS_LAMBDA_RUNTIME_API": self.api.address,
            "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
            "AWS_XRAY_DAEMON_ADDRESS": "169.254.100.1:2000",
            "_AWS_XRAY_DAEMON_ADDRESS": "169.254.100.1",
            "_AWS_XRAY_DAEMON_PORT": "2000",
            "_HANDLER": facts.handler,
            "LAMBDA_TASK_ROOT": inside("/var/task"),
            "LAMBDA_RUNTIME_DIR": inside("/var/runtime"),
            "PWD": inside("/var/task"),
            "SHLVL": "0",
            "PATH": "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
            "LD_LIBRARY_PATH": "/var/lang/lib:/lib64:/usr/lib64:"
            "/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
            "PYTHONPATH": inside("/var/runtime"),
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
        }
        if self.room.image.name != "python3.11":
            environ["LC_CTYPE"] = "C.UTF-8"
        if facts.log_format == "JSON":
            environ["AWS_LAMBDA_LOG_FORMAT"] = "JSON"
        if not self.room.walls:
            environ |= self.environ_without_walls()
        return environ | dict(self.client_environment) | dict(facts.variables)

    def environ_without_walls(self) -> dict[str, str]:
        """Return what differs where the function sees this machine as it is: places, and a /tmp of its own."""
        inside = self.sandbox.inside
        site_packages = f"/var/lang/lib/{self.room.image.name}/site-packages"
        return {
            "TMPDIR": inside("/tmp"),  # noqa: S108
            "PATH": f"{inside('/var/lang/bin')}:/usr/local/bin:/usr/bin:/bin:{inside('/opt/bin')}",
            "LD_LIBRARY_PATH": ":".join(map(inside, ("/var/lang/lib", "/var/task", "/var/task/lib", "/opt/lib"))),
            "PYTHONPATH": f"{inside('/var/runtime')}:{inside(site_packages)}",
        }

    # --- invocations ---

    def invoke(self, make: Callable[[int], Invocation]) -> Outcome:
        """Initialise the runtime if it is not, and let it serve one invocation.

        make is called with the deadline (epoch milliseconds), which an initialisation moves: the first one is on
        Lambda's own time, one after a crash or a timeout on the function's.
        """
        self.log.begin()
        self.sandbox.thaw()
        began = time.monotonic()
        init_ms = 0.0
        event: Event | None = Ready()
        if not self.alive and self.started_before:
            event = self.initialise(began + self.facts.timeout)
        elif not self.alive:
            self.started_before = True
            event = self.initialise(began + INIT_SECONDS)
            if event is None:  # too slow: once more, on the function's time
                ms = INIT_SECONDS * 1000
                line = f"INIT_REPORT Init Duration: {ms:.2f} ms\tPhase: init\tStatus: timeout"
                self.log.lines([line], in_tail=False)
                began = time.monotonic()
                event = self.initialise(began + self.facts.timeout)
            else:
                init_ms, began = (time.monotonic() - began) * 1000, time.monotonic()
        left = began + self.facts.timeout - time.monotonic()
        invocation = make(int((time.time() + left) * 1000))
        self.log.lines([f"START RequestId: {invocation.request_id} Version: {self.facts.version}"])
        if isinstance(event, Ready):
            event = self.serve(invocation, began + self.facts.timeout)
        self.log.drain()
        payload, error = self.conclude(invocation, event)
        self.report(invocation, event, (time.monotonic() - began) * 1000, init_ms)
        if isinstance(event, Answered) or (isinstance(event, Failed) and self.alive):
            self.wait(time.monotonic() + READY_SECONDS)  # until it asks for the next event
        self.sandbox.freeze()
        return Outcome(payload, error, bytes(self.log.tail))

    def wait(self, until: float) -> Event | None:
        """Return the next event of the runtime; None when the time is over."""
        try:
            return self.exchange.events.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            return None

    def initialise(self, until: float) -> Event | None:
        """Start the runtime; return Ready, or what became of it, or None when it took too long."""
        image = self.room.image
        name = image.name.replace("python", "python:")
        arn = runtime_arn(self.facts.arn, image.version)
        line = f"INIT_START Runtime Version: {name}.v1\tRuntime Version ARN: {arn}"
        self.log.lines([line], in_tail=False)
        self.start()
        event = self.wait(until)
        # Too slow; or an import failed, after which the runtime ends by itself, but in its own time.
        if event is None or isinstance(event, Failed):
            self.kill()
        return event

    def serve(self, invocation: Invocation, until: float) -> Event | None:
        """Let the runtime serve an invocation; return None when it took too long."""
        self.exchange.hand_over(invocation)
        while True:
            event = self.wait(until)
            if event is None:
                self.kill()
            if isinstance(event, Failed) and event.fatal:
                self.kill()
            if not isinstance(event, Ready):  # Ready: done with the invocation before this
                return event

    def conclude(self, invocation: Invocation, event: Event | None) -> tuple[bytes, str | None]:
        """Return what the caller hears: the payload, and the kind of error."""
        if isinstance(event, Answered):
            return event.body, None
        if isinstance(event, Failed):
            return event.body, "Unhandled"
        if isinstance(event, Ended):
            message = exit_message(event.status)
            self.log.lines([f"RequestId: {invocation.request_id} Error: {message}", "Runtime.ExitError"])
            return runtime_error(invocation.request_id, "Runtime.ExitError", message), "Unhandled"
        message = f"Task timed out after {self.facts.timeout:.2f} seconds"
        self.log.lines([f"{now()} {invocation.request_id} {message}"])
        return runtime_error(invocation.request_id, "Sandbox.Timedout", message), "Unhandled"

    def report(self, invocation: Invocation, event: Event | None, ms: float, init_ms: float) -> None:
        """Write the last lines of an invocation's log."""
        seen = self.inspect()
        self.highest = max(self.highest, seen.highest, seen.runtime_highest)
        size = self.facts.memory_mb
        # Files that are mapped count as the process's here, so a sum may pass what Lambda would have given.
        used = min(size, math.ceil(self.highest / 2**20))
        line = (
            f"REPORT RequestId: {invocation.request_id}\tDuration: {ms:.2f} ms\t"
            f"Billed Duration: {math.ceil(ms + init_ms)} ms\tMemory Size: {size} MB\tMax Memory Used: {used} MB\t"
        )
        if init_ms:
            line += f"Init Duration: {init_ms:.2f} ms\t"
        if event is None:
            line += "Status: timeout"
        elif isinstance(event, Ended):
            line += "Status: error\tError Type: Runtime.ExitError"
        self.log.lines([f"END RequestId: {invocation.request_id}", line])

    def close(self) -> None:
        """End the sandbox and everything in it."""
        self.sandbox.end()
        self.log.close()
        self.sandbox.close()
        self.api.close()


def runtime_arn(function_arn: str, version: str) -> str:
    """Return a made-up ARN for a runtime's version, of the form that INIT_START has."""
    return f"arn:aws:lambda:{function_arn.split(':')[3]}::runtime:{hashlib.sha256(version.encode()).hexdigest()}"
