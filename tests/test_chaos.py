"""What goes wrong at night: AWS that refuses, builders that are killed, crowds, and impatient clients.

    ./deploy.sh test tests/test_chaos.py --kills 1000 --crowd 20 -n 2

runs it as often as it takes to trust it; by default it is short.
"""

from __future__ import annotations

import base64
import json
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from local.rest_json import Response
from tests.support.embedded import BUCKET, NEWEST, Builder, FunctionFailed
from tests.support.yard import HANDLER as APP
from tests.support.yard import Yard
from yo_dawg.control.ledger import KEPT_ENTRIES, KEPT_PACKAGES, BuildRecord
from yo_dawg.errors import YoDawgError

HANDLER = "def lambda_handler(event, context):\n    return 'ok'\n"


def ledger_of(content: bytes) -> tuple[Any, list[BuildRecord]]:
    """Return who holds a ledger, and its history, the oldest first."""
    page = json.loads(content)
    return page["holder"], [BuildRecord.from_json(each) for each in reversed(page["history"])]


def ledger_in(builder: Builder, function: str) -> tuple[Any, list[BuildRecord]]:
    """Return what a function's ledger says on a builder's AWS."""
    key = f"{builder.name}/locks/{function}"
    return ledger_of(builder.stored(key)[key])


# --- AWS refuses ----------------------------------------------------------------------------------------------


def refusal(status: int, code: str, message: str) -> Response:
    """Return an error of the Lambda API."""
    body = json.dumps({"Type": "User", "Message": message, "message": message}).encode()
    return Response(status, body, {"Content-Type": "application/json", "x-amzn-ErrorType": code})


def s3_error(status: int, code: str) -> Response:
    """Return an error of S3."""
    return Response(status, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode())


BUSY = refusal(409, "ResourceConflictException", "An update is in progress for resource: arn")
STALE = refusal(412, "PreconditionFailedException", "The Revision Id provided does not match the latest Revision Id.")
THROTTLED = refusal(429, "TooManyRequestsException", "Rate exceeded")
FORBIDDEN = refusal(403, "AccessDeniedException", "not authorized to perform this")
GONE = refusal(404, "ResourceNotFoundException", "Function not found: arn")
BROKEN = refusal(500, "ServiceException", "Service failure")
UPDATE, LOOK, PUBLISH, ALIAS = "PUT /2015-03-31/functions/api/code", "/configuration", "/versions", "/aliases"
PACKAGE, LEDGER, RECORD = "PUT /bucket/yo-dawg/packages/", "PUT /bucket/yo-dawg/locks/", "PUT /bucket/yo-dawg/builds/"


@pytest.mark.parametrize(
    ("request_", "skip", "faults", "words", "runs"),
    [
        pytest.param(UPDATE, 1, [BUSY] * 4, None, "new", id="an update of somebody else's"),
        pytest.param(UPDATE, 1, [STALE] * 3, None, "new", id="stale revision"),
        pytest.param(UPDATE, 1, [THROTTLED] * 3, None, "new", id="throttled"),
        pytest.param(UPDATE, 1, [BROKEN] * 2, None, "new", id="a failure of Lambda's that passes"),
        pytest.param(UPDATE, 1, ["lost"], None, "new", id="the update's answer is lost"),
        pytest.param(PACKAGE, 0, [s3_error(500, "InternalError")] * 2, None, "new", id="a failure of S3's that passes"),
        pytest.param(LEDGER, 0, ["lost"], None, "new", id="the lock's answer is lost"),
        pytest.param(RECORD, 0, [s3_error(403, "AccessDenied")] * 9, None, "new", id="no record can be written"),
        pytest.param(UPDATE, 1, [BROKEN] * 9, "ServiceException.*runs the code that it ran before", "old", id="broken"),
        pytest.param(UPDATE, 1, [FORBIDDEN], "lacks the permission.*runs the code that it ran", "old", id="withdrawn"),
        pytest.param(UPDATE, 1, [GONE], "ResourceNotFound.*runs the code that it ran before", "old", id="deleted"),
        pytest.param(PACKAGE, 0, [s3_error(403, "AccessDenied")], "Cannot write s3://", "old", id="no upload"),
        pytest.param(PACKAGE, 0, [s3_error(500, "InternalError")] * 9, "InternalError", "old", id="S3 is broken"),
        pytest.param(PUBLISH, 0, [FORBIDDEN], "Cannot publish.*api runs the new code", "new", id="no version"),
        pytest.param(ALIAS, 1, [FORBIDDEN], "Cannot point the alias.*api runs the new code", "new", id="no alias"),
    ],
)
def test_what_aws_refuses_leaves_the_old_code_or_the_new_and_says_which(
    yard: Yard, request_: str, skip: int, faults: Sequence[Any], words: str | None, runs: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(time, "sleep", lambda _: None)
    yard.add_project({"app.py": APP})
    before, left, passed = yard.code_sha256, list(faults), [0]

    def fault(service: str, request: str) -> Any:
        if request_ in request and (request_ != PUBLISH or request.startswith("POST")):
            passed[0] += 1
            if passed[0] > skip and left:
                return left.pop(0)
        return None

    yard.account.fault = fault
    options = {"publish": True} if request_ == PUBLISH else {"alias": "live"} if request_ == ALIAS else {}
    if words is None:
        assert yard.build(**options)["status"] == "deployed"
        assert not left or request_ == RECORD
    else:
        with pytest.raises(YoDawgError, match=f"(?s){words}"):
            yard.build(**options)
    yard.account.fault = None
    assert (yard.code_sha256 == before) == (runs == "old")
    holder, history = ledger_of(yard.read("yo-dawg/locks/api"))
    assert holder is None, "the lock is released"
    assert [each.status for each in history] == (["deployed"] if words is None else ["failed"]) or request_ == RECORD
    assert yard.build(force=True)["status"] == "deployed"


def test_a_function_that_is_deleted_half_way_is_told(yard: Yard) -> None:
    yard.add_project({"app.py": APP})

    def fault(service: str, request: str) -> None:
        if request.startswith(PACKAGE):
            yard.account.client("lambda").delete_function(FunctionName="api")

    yard.account.fault = fault
    with pytest.raises(YoDawgError, match="There is no function api.*cannot be told"):
        yard.build()
    assert ledger_of(yard.read("yo-dawg/locks/api"))[0] is None


# --- Builders that are killed -----------------------------------------------------------------------------------


@pytest.fixture
def chaos(builder: Builder) -> Iterator[Builder]:
    """A builder on whose AWS tests may play havoc."""
    yield builder
    builder.aws.fault = None


class Killer:
    """Kills the builder's runtime when it has done so many things: AWS requests, or lines of log."""

    def __init__(self, builder: Builder, kind: str, count: int) -> None:
        self.builder, self.kind, self.left = builder, kind, count
        self.lock = threading.Lock()

    def tick(self, kind: str) -> None:
        with self.lock:
            self.left -= kind == self.kind
            due, self.left = self.left == 0, self.left if self.left else -1
        if due:
            for environment in self.builder.aws.environments(self.builder.name):
                environment.sandbox.kill()

    def on_request(self, service: str, request: str) -> None:
        if self.builder.name in request or service == "lambda":
            self.tick("request")


@NEWEST
@pytest.mark.embedded
def test_a_killed_builder_leaves_a_whole_function_and_the_next_build_succeeds(
    chaos: Builder, seed: int, kills: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = random.Random(seed)  # noqa: S311  # no secret hangs on it
    write = chaos.aws.logs.write
    ends: dict[str, int] = {}
    chaos.add_project("victim", {"lambda_function.py": HANDLER})
    known = {running(chaos, "victim")}
    for number in range(kills):
        chaos.add_project("victim", {"lambda_function.py": f"{HANDLER}# {seed} {number}\n"})
        kind = dice.choice(["request", "line"])
        killer = Killer(chaos, kind, dice.randrange(1, 32 if kind == "request" else 24))

        def write_and_tick(group: str, stream: str, lines: Any, killer: Killer = killer) -> None:
            write(group, stream, lines)
            if group.endswith(chaos.name):
                for _ in lines:
                    killer.tick("line")

        monkeypatch.setattr(chaos.aws.logs, "write", write_and_tick)
        chaos.aws.fault = killer.on_request
        options: dict[str, Any] = {"publish": True, "alias": "live"} if number % 2 else {}
        try:
            chaos.build("victim", **options)
            ended = "survived"
        except FunctionFailed as failed:
            ended = str(failed.type)
        ends[ended] = ends.get(ended, 0) + 1
        chaos.aws.fault = None
        monkeypatch.setattr(chaos.aws.logs, "write", write)
        now = running(chaos, "victim")
        assert now in known or chaos.package("victim").testzip() is None, "the old package, or the new one, whole"
        answer = chaos.build("victim", **options)
        assert answer["status"] in ("deployed", "unchanged")
        assert running(chaos, "victim") == answer["code_sha256"]
        known.add(answer["code_sha256"])
    print(f"{kills} kills: {ends}")
    assert ends.keys() <= {"survived", "Runtime.ExitError"}
    assert ends.get("Runtime.ExitError", 0) > kills // 3, "most builds were really killed"
    assert chaos.invoke("victim", {}) == "ok"
    check_what_is_left(chaos, "victim")


def check_what_is_left(builder: Builder, function: str) -> None:
    """Nothing is left in S3 but what the history names."""
    holder, history = ledger_in(builder, function)
    assert holder is None
    assert len(history) <= KEPT_ENTRIES
    assert len(builder.stored(f"{builder.name}/packages/{function}/")) <= 3 * KEPT_PACKAGES
    records = {f"{builder.name}/{each.record}{suffix}" for each in history for suffix in (".json", ".log")}
    assert builder.stored(f"{builder.name}/builds/{function}/").keys() <= records


def running(builder: Builder, function: str) -> str:
    """Return the digest of the code that a function runs."""
    return str(builder.functions.get_function_configuration(FunctionName=function)["CodeSha256"])


# --- Crowds -----------------------------------------------------------------------------------------------------


def at_once(count: int, build: Callable[[int], dict[str, Any]]) -> list[dict[str, Any]]:
    """Let so many clients build at the same time."""
    start = threading.Barrier(count)

    def client(number: int) -> dict[str, Any]:
        start.wait()
        return build(number)

    with ThreadPoolExecutor(count) as crowd:
        return list(crowd.map(client, range(count)))


@NEWEST
@pytest.mark.embedded
def test_a_crowd_that_builds_one_function_is_served_one_after_the_other(
    chaos: Builder, request: pytest.FixtureRequest
) -> None:
    count = int(request.config.getoption("--crowd"))
    chaos.add_project("crowded", {"lambda_function.py": HANDLER})
    commits = [
        chaos.add_project(f"crowd-{number}", {"lambda_function.py": f"{HANDLER}# {number}\n"})
        for number in range(count)
    ]
    refused: list[str] = []

    def build(number: int) -> dict[str, Any]:
        while True:  # as a client does who is told to wait
            try:
                answer: dict[str, Any] = chaos.build(f"crowd-{number}", "crowded")
                return answer
            except FunctionFailed as failed:
                if failed.type != "BuildInProgress":
                    raise
                refused.append(failed.message)

    before = running(chaos, "crowded")
    answers = at_once(count, build)
    assert [(each["status"], each["commit"]) for each in answers] == [("deployed", commit) for commit in commits]
    _, history = ledger_in(chaos, "crowded")
    assert sorted(str(each.commit) for each in history) == sorted(commits), "each was built, and none twice"
    order = [before, *(each.code_sha256 for each in history)]
    assert [each.replaces for each in history] == order[:-1], "each has replaced the one before it"
    assert running(chaos, "crowded") == order[-1], "and the last one runs"
    assert refused, "they did meet"
    print(f"{count} builds, {len(refused)} refusals")


@NEWEST
@pytest.mark.embedded
def test_builds_of_different_functions_do_not_meet(chaos: Builder, request: pytest.FixtureRequest) -> None:
    count = int(request.config.getoption("--crowd"))
    commits = [
        chaos.add_project(f"alone-{number}", {"lambda_function.py": f"{HANDLER}# {number}\n"})
        for number in range(count)
    ]
    answers = at_once(count, lambda number: dict(chaos.build(f"alone-{number}")))
    assert [(each["status"], each["commit"]) for each in answers] == [("deployed", commit) for commit in commits]
    for number, answer in enumerate(answers):
        assert running(chaos, f"alone-{number}") == answer["code_sha256"]


# --- Clients without patience -------------------------------------------------------------------------------------


@NEWEST
@pytest.mark.embedded
def test_a_client_that_asks_again_and_again_gets_one_build_and_its_answer(chaos: Builder, tmp_path: Path) -> None:
    script = 'cp *.py "$1"; sleep 5\n'
    commit = chaos.add_project("slow", {"lambda_function.py": HANDLER, "make_dist.sh": script})
    updates: list[str] = []

    def count_updates(service: str, request: str) -> None:
        if request == "PUT /2015-03-31/functions/slow/code":
            updates.append(request)

    chaos.aws.fault = count_updates
    event = {"action": "build", "function": "slow", "repo_name": "slow"}
    (tmp_path / "event.json").write_text(json.dumps(event))
    command = ["aws", "lambda", "invoke", "--function-name", chaos.name, "--payload", f"file://{tmp_path}/event.json"]
    environ = {**chaos.client_environ(), "AWS_MAX_ATTEMPTS": "4", "AWS_RETRY_MODE": "standard"}
    subprocess.run(
        [*command, "--cli-read-timeout", "1", f"{tmp_path}/a"], env=environ, capture_output=True, check=False
    )
    subprocess.run([*command, "--cli-read-timeout", "0", f"{tmp_path}/b"], env=environ, check=True)
    answer = json.loads((tmp_path / "b").read_text())
    assert answer["status"] in ("deployed", "unchanged"), "by an invocation that waited, or that came just after it"
    assert answer["commit"] == commit
    assert answer["code_sha256"] == running(chaos, "slow")
    chaos.aws.wait_for_events()
    records = [key for key in chaos.stored(f"{chaos.name}/builds/slow/") if key.endswith(".json")]
    assert len(records) == 1, "one build"
    dry, real = 5, 1  # each of the five invocations looked whether it may update, and one did
    assert 2 < len(updates) <= dry + real, "it did ask more than once"
    assert base64.b64decode(answer["code_sha256"]).hex() in "".join(chaos.stored(f"{chaos.name}/packages/slow/"))
    assert BUCKET in answer["log"]
