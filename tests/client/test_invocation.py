"""Waiting for an answer: stages as they happen, answers that get lost on the way, and what is interrupted."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from client import invocation
from client.main import CHECKOUT
from tests.support.answers import BUILT
from tests.support.fake_aws import Desk, Refusal, invoked


def token_of(parameters: Mapping[str, Any]) -> str:
    """Return the token that an invocation is known by."""
    return str(json.loads(base64.b64decode(parameters["ClientContext"]))["custom"]["token"])


def log_event(number: int, stream: str, message: str) -> dict[str, Any]:
    return {"eventId": str(number), "logStreamName": stream, "timestamp": number, "message": message + "\n"}


def log_of(token: str) -> list[dict[str, Any]]:
    """Return a log in which a build of ours goes on, beside others."""
    return [
        log_event(1, "mine", "[1/7] of an older build …"),
        log_event(2, "other", "[1/7] of somebody else …"),
        log_event(3, "mine", f"Asked for by me ({token})."),
        log_event(4, "mine", "[1/7] get the toolchain …"),
        log_event(5, "mine", "      what a tool printed"),
        log_event(6, "mine", "[1/7] get the toolchain … 0.2 s"),
        log_event(7, "mine", "[2/7] clone …"),
        log_event(8, "mine", "Warning: \u001b[31mit is late."),
    ]


class Story:
    """An invocation that lasts until its log was looked at twice."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.token, self.looks = desk, "", 0
        self.looked = threading.Event()
        desk.aws.replies |= {"lambda.Invoke": self.invoke, "logs.FilterLogEvents": self.log}

    def invoke(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        self.token = token_of(parameters)
        assert self.looked.wait(20)
        return invoked(BUILT)(parameters)

    def log(self, _: Mapping[str, Any]) -> dict[str, Any]:
        self.looks += 1
        if self.looks > 2:
            self.looked.set()
        return {"events": log_of(self.token)}


def test_the_stages_are_shown_while_they_happen_each_with_its_time(desk: Desk) -> None:
    Story(desk)
    ran = desk.deploy("build", "project")
    assert ran.status == 0, ran.error
    assert ran.error == ("-----> build project\n[1/7] get the toolchain … 0.2 s\n[2/7] clone …\nWarning: it is late.\n")


def test_stages_of_a_build_that_was_too_quick_for_us_are_in_the_tail_that_comes_with_the_answer(desk: Desk) -> None:
    def reply(parameters: Mapping[str, Any]) -> dict[str, Any]:
        lines = ["[1/7] of an older build … 9.9 s", f"Asked for by me ({token_of(parameters)}).", "[1/7] clone … 0.2 s"]
        return invoked(BUILT, LogResult=base64.b64encode("\n".join(lines).encode()).decode())(parameters)

    desk.aws.replies["lambda.Invoke"] = reply
    assert desk.deploy("build", "project").error == "-----> build project\n[1/7] clone … 0.2 s\n"


def test_who_may_not_read_the_log_gets_the_answer_all_the_same(desk: Desk) -> None:
    desk.aws.replies |= {"lambda.Invoke": invoked(BUILT), "logs.FilterLogEvents": Refusal("AccessDeniedException")}
    assert desk.deploy("build", "project").status == 0


# --- Lost answers -----------------------------------------------------------------------------------------


@pytest.fixture
def impatient(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A desk at which all goes quickly; invocations that never come back end with the test."""
    monkeypatch.setattr(invocation, "GRACE", 0.2)
    monkeypatch.setattr(invocation, "LEDGER_AFTER", 0.0)
    monkeypatch.setattr(invocation, "LEDGER_PAUSE", 0.02)
    yield desk
    for thread in threading.enumerate():
        if thread.name == "invocation":
            thread.join(5)


def lost_then(answer: Callable[[Mapping[str, Any]], Any]) -> list[Any]:
    """Return replies of which the first does not come before everything is over."""

    def never(_: Mapping[str, Any]) -> dict[str, Any]:
        time.sleep(2)
        return {"StatusCode": 200, "Payload": io.BytesIO(b"{}")}

    return [never, answer]


@pytest.mark.parametrize("known_by", ["log", "ledger"])
def test_a_build_that_has_ended_without_an_answer_is_asked_for_it_again(impatient: Desk, known_by: str) -> None:
    """After 350 s of silence a NAT gateway forgets the connection."""
    desk = impatient
    entry = {"request_id": "1", "log_stream": "mine", "asked_by": invocation.asked_by(), "status": "deployed"}
    looks = [0]

    def ledger(_: object) -> dict[str, Any]:
        looks[0] += 1
        old = {**entry, "request_id": "0", "status": "failed"}
        history = [entry, old] if known_by == "ledger" and looks[0] > 1 else [old]
        return {"Body": io.BytesIO(json.dumps({"holder": None, "history": history}).encode())}

    def log(_: object) -> dict[str, Any]:
        tokens = [token_of(each.parameters) for each in desk.aws.calls if each.operation == "lambda.Invoke"]
        ended = [log_event(2, "mine", "REPORT RequestId: 1\tDuration: 5 ms")] if known_by == "log" else []
        return {"events": [log_event(1, "mine", f"Asked for by me ({tokens[-1] if tokens else '-'})."), *ended]}

    desk.aws.replies |= {
        "lambda.Invoke": lost_then(invoked({**BUILT, "status": "unchanged"})),
        "logs.FilterLogEvents": log if known_by == "log" else Refusal("AccessDeniedException"),
        "s3.GetObject": ledger,
    }
    ran = desk.deploy("build", "project", "--force")
    assert ran.status == 0, ran.error
    assert "-----> it has ended, but its answer was lost on the way: ask for it again\n" in ran.error
    first, second = (call for call in desk.aws.calls if call.operation == "lambda.Invoke")
    assert first.event == {**second.event, "force": True}, "to force it once more would be another build"


def test_a_failed_build_whose_answer_is_lost_is_told_from_the_ledger_and_not_repeated(impatient: Desk) -> None:
    desk = impatient
    entry = {
        "request_id": "1", "log_stream": "x", "asked_by": invocation.asked_by(), "status": "failed",
        "error": "SourceError: no such repository",
    }  # fmt: skip
    looks = iter([[], *([[entry]] * 1000)])
    desk.aws.replies |= {
        "lambda.Invoke": lost_then(invoked(BUILT)),
        "s3.GetObject": lambda _: {"Body": io.BytesIO(json.dumps({"holder": None, "history": next(looks)}).encode())},
    }
    ran = desk.deploy("build", "project")
    assert (ran.status, ran.out) == (1, "")
    assert ran.error.endswith("SourceError: no such repository\n")
    assert desk.aws.operations("lambda") == ["lambda.Invoke"]


# --- Signals ----------------------------------------------------------------------------------------------


class Silent(BaseHTTPRequestHandler):
    """An AWS that begins to work and does not answer; its log says so."""

    token = ""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if "/invocations" in self.path:
            context = json.loads(base64.b64decode(self.headers["X-Amz-Client-Context"]))
            Silent.token = context["custom"]["token"]
            time.sleep(60)
            return
        assert b"logGroupName" in body
        events = [
            log_event(1, "mine", f"Asked for by me ({Silent.token})."),
            log_event(2, "mine", "[1/7] get the toolchain … 0.1 s"),
        ]
        content = json.dumps({"events": events if Silent.token else []}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def silent() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Silent)
    server.daemon_threads, server.block_on_close = True, False
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_says_what_goes_on(desk: Desk, silent: str, ended_by: signal.Signals, tmp_path: Path) -> None:
    """Nothing is left, and who started it sees that it was interrupted."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environ = {
        "PATH": os.defpath, "PYTHONPATH": str(CHECKOUT), "TMPDIR": str(scratch), "AWS_ENDPOINT_URL": silent,
        "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "NO_PROXY": "127.0.0.1",
    }  # fmt: skip
    command = [sys.executable, "-P", "-m", "client", "-c", str(desk.config), "build", "project"]
    with subprocess.Popen(
        command, env=environ, stderr=subprocess.PIPE, text=True, start_new_session=True,
        # Tests that run in the background ignore it, and so would Python.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as running:  # fmt: skip
        assert running.stderr
        while "get the toolchain" not in (line := running.stderr.readline()):
            assert line, "it has ended"
        running.send_signal(ended_by)
        said = running.stderr.read()  # to its end: nothing holds it open any more
    assert running.returncode == -ended_by
    assert "goes on in AWS, for at most 300 s" in said
    assert "Run the same command again to get its answer" in said
    assert "Traceback" not in said
    assert list(scratch.iterdir()) == []
