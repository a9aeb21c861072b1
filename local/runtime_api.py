"""Lambda's Runtime API 2018-06-01, as the runtime's own client (awslambdaric) speaks it.

One small HTTP server per execution environment. As on AWS it has no authentication: whatever runs in the sandbox can
ask for the next event, or answer an invocation whose request id it knows.
"""

from __future__ import annotations

import json
import queue
import re
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

RESPONSE_LIMIT = 6_291_556
"""The bytes of the largest answer that Lambda passes on."""

PREFIX = "/2018-06-01/runtime/"


@dataclass(frozen=True)
class Invocation:
    """One event on its way to the function."""

    request_id: str
    payload: bytes
    deadline_ms: int
    function_arn: str
    trace_id: str
    client_context: str = ""

    def headers(self) -> dict[str, str]:
        """Return the headers that come with the event."""
        headers = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": self.request_id,
            "Lambda-Runtime-Deadline-Ms": str(self.deadline_ms),
            "Lambda-Runtime-Invoked-Function-Arn": self.function_arn,
            "Lambda-Runtime-Trace-Id": self.trace_id,
        }
        if self.client_context:
            headers["Lambda-Runtime-Client-Context"] = self.client_context
        return headers


@dataclass(frozen=True)
class Ready:
    """The runtime asked for an event: it is initialised, or done with the last one."""


@dataclass(frozen=True)
class Answered:
    """The function's answer."""

    body: bytes


@dataclass(frozen=True)
class Failed:
    """The error of a handler or (init) of the module's import, as the runtime reports it."""

    body: bytes
    init: bool = False
    fatal: bool = False
    """The runtime will not survive it, as awslambdaric does not survive a refused answer."""


@dataclass(frozen=True)
class Ended:
    """The runtime process ended, with a status as subprocess has it."""

    status: int


Event = Ready | Answered | Failed | Ended


class Exchange:
    """What one runtime process and its environment tell each other."""

    def __init__(self) -> None:
        """Begin with nothing to do."""
        self.invocations: queue.SimpleQueue[Invocation | None] = queue.SimpleQueue()
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.current: Invocation | None = None
        self.lock = threading.Lock()

    def next(self) -> Invocation | None:
        """Wait for the next invocation; None when the runtime it was for is gone."""
        self.events.put(Ready())
        invocation = self.invocations.get()
        if invocation is None:
            self.invocations.put(None)  # for whoever else waits
            return None
        with self.lock:
            self.current = invocation
        return invocation

    def hand_over(self, invocation: Invocation) -> None:
        """Give an event to the first who asks for one."""
        self.invocations.put(invocation)

    def finish(self, request_id: str) -> bool:
        """Say whether this is the invocation that is under way, and count it as answered."""
        with self.lock:
            if self.current is None or self.current.request_id != request_id:
                return False
            self.current = None
            return True

    def close(self) -> None:
        """Let go of everyone who waits for an event."""
        self.invocations.put(None)


class Handler(BaseHTTPRequestHandler):
    """One request of the runtime's client."""

    protocol_version = "HTTP/1.1"
    # Headers and body in one packet: else the kernel waits 40 ms for an acknowledgement between them.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: RuntimeApi

    def log_message(self, format: str, *args: Any) -> None:
        """Write no access log."""

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Send an answer."""
        self.send_response(status)
        for name, value in (headers or {"Content-Type": "application/json"}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, status: int, kind: str, message: str) -> None:
        """Send an error as AWS words it."""
        self.answer(status, json.dumps({"errorMessage": message, "errorType": kind}).encode())

    def do_GET(self) -> None:
        """Hand out the next invocation."""
        if self.path != PREFIX + "invocation/next":
            self.refuse(404, "NotFound", f"no such path: {self.path}")
            return
        exchange = self.server.exchange
        if exchange.current is not None:
            self.refuse(403, "InvalidStateTransition", "State transition is not allowed")
            return
        invocation = exchange.next()
        if invocation is None:
            self.close_connection = True
            return
        self.answer(200, invocation.payload, invocation.headers())

    def do_POST(self) -> None:
        """Take an answer or an error."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = self.read_chunks()
        exchange = self.server.exchange
        if self.path == PREFIX + "init/error":
            exchange.events.put(Failed(body, init=True))
            self.answer(202, b'{"status":"OK"}\n')
            return
        match = re.fullmatch(re.escape(PREFIX) + r"invocation/([^/]+)/(response|error)", self.path)
        if not match:
            self.refuse(404, "NotFound", f"no such path: {self.path}")
        elif not exchange.finish(match[1]):
            self.refuse(400, "InvalidRequestID", "Invalid request ID")
        elif match[2] == "error":
            exchange.events.put(Failed(body))
            self.answer(202, b'{"status":"OK"}\n')
        elif len(body) > RESPONSE_LIMIT:
            message = f"Response payload size exceeded maximum allowed payload size ({RESPONSE_LIMIT} bytes)."
            error = {"errorType": "Function.ResponseSizeTooLarge", "errorMessage": message}
            exchange.events.put(Failed(json.dumps(error).encode(), fatal=True))
            self.refuse(413, "RequestEntityTooLarge", message)
        else:
            exchange.events.put(Answered(body))
            self.answer(202, b'{"status":"OK"}\n')

    def read_chunks(self) -> bytes:
        """Read a body of unknown length."""
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():  # trailers
            pass
        return b"".join(chunks)


class RuntimeApi(ThreadingHTTPServer):
    """The Runtime API of one execution environment, on a port of its own."""

    daemon_threads = True
    # Closing must not wait for a runtime's long poll; Exchange.close ends that.
    block_on_close = False

    def __init__(self) -> None:
        """Start to serve."""
        super().__init__(("127.0.0.1", 0), Handler)
        self.exchange = Exchange()
        self.thread = threading.Thread(target=self.serve_forever, args=(0.05,), name="runtime-api", daemon=True)
        self.thread.start()

    @property
    def address(self) -> str:
        """Return what AWS_LAMBDA_RUNTIME_API says."""
        return f"127.0.0.1:{self.server_address[1]}"

    def renew(self) -> Exchange:
        """Begin a new exchange, for a new runtime process; requests of the old one get no event any more."""
        self.exchange.close()
        self.exchange = Exchange()
        return self.exchange

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing when a killed runtime breaks its connection."""

    def close(self) -> None:
        """Stop serving."""
        self.exchange.close()
        self.shutdown()
        self.server_close()
        self.thread.join()
