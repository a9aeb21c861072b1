"""build, rollback and history: what is sent, and how what comes back is told."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ConnectionClosedError, EndpointConnectionError, ReadTimeoutError

from tests.support.answers import BUILT
from tests.support.fake_aws import ACCOUNT, Desk, Refusal, invoked


@pytest.fixture
def desk(desk: Desk) -> Desk:
    desk.aws.replies = {"lambda.Invoke": invoked(BUILT)}
    return desk


@pytest.mark.parametrize(
    ("arguments", "event"),
    [
        (["project"], {"function": "project", "repo_name": "project"}),
        (["group/project"], {"function": "project", "repo_name": "group/project"}),
        (["project", "--function", "other"], {"function": "other", "repo_name": "project"}),
        (
            ["--function=other", "--ref=v1.0", "project", "--subdirectory", "a/b"],
            {"function": "other", "repo_name": "project", "ref": "v1.0", "subdirectory": "a/b"},
        ),
        (
            ["project", "--dry-run", "--force"],
            {"function": "project", "repo_name": "project", "dry_run": True, "force": True},
        ),
        (
            ["project", "--publish", "--alias=live"],
            {"function": "project", "repo_name": "project", "publish": True, "alias": "live"},
        ),
        (["project", "--function", "a", "--function=b"], {"function": ["a", "b"], "repo_name": "project"}),
        (
            ["project", "--ref", '", "force": true, "x": "é = \\'],
            {"function": "project", "repo_name": "project", "ref": '", "force": true, "x": "é = \\'},
        ),
    ],
)
def test_build_sends_the_event(desk: Desk, arguments: list[str], event: dict[str, object]) -> None:
    ran = desk.deploy("build", *arguments)
    assert ran.status == 0, ran.error
    call = desk.aws.call("lambda.Invoke")
    assert call.event == {"action": "build", **event}
    assert call["FunctionName"] == "yo-dawg"


@pytest.mark.parametrize("content", ['{"a": [1, "é"]}', '["x"]', "0", "false"])
def test_the_test_event_comes_from_a_file(desk: Desk, tmp_path: Path, content: str) -> None:
    (tmp_path / "my event.json").write_text(content)
    ran = desk.deploy("build", "project", "--test-event", f"{tmp_path}/my event.json")
    assert ran.status == 0, ran.error
    assert desk.aws.call("lambda.Invoke").event["test_event"] == json.loads(content)


def test_a_test_event_that_is_none_is_refused(desk: Desk, tmp_path: Path) -> None:
    ran = desk.deploy("build", "project", f"--test-event={tmp_path}/none.json")
    assert ran.status == 1
    assert ran.error == f"deploy.sh: there is no file {tmp_path}/none.json to read the test event from.\n"
    (tmp_path / "event.json").write_text("{")
    ran = desk.deploy("build", "project", f"--test-event={tmp_path}/event.json")
    assert ran.status == 1
    assert "The test event is not JSON: " in ran.error
    assert not desk.aws.calls


@pytest.mark.parametrize(
    ("arguments", "event"),
    [
        (["api"], {"function": "api"}),
        (["api", "--to", "12", "--alias=live"], {"function": "api", "to": "12", "alias": "live"}),
    ],
)
def test_rollback_sends_the_event(desk: Desk, arguments: list[str], event: dict[str, object]) -> None:
    ran = desk.deploy("rollback", *arguments)
    assert ran.status == 0, ran.error
    assert desk.aws.call("lambda.Invoke").event == {"action": "rollback", **event}


def test_the_function_is_told_who_asks(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "here")
    for _ in range(2):
        desk.deploy("build", "project", LOGNAME="me")
    contexts = [
        json.loads(base64.b64decode(call["ClientContext"]))["custom"]
        for call in desk.aws.calls
        if call.operation == "lambda.Invoke"
    ]
    assert [each["asked_by"] for each in contexts] == ["me@here"] * 2
    assert len({each["token"] for each in contexts}) == 2


def test_a_long_build_is_never_started_twice(desk: Desk) -> None:
    desk.deploy("build", "project")
    assert desk.aws.operations("lambda") == ["lambda.Invoke"]
    assert desk.aws.call("lambda.Invoke")["InvocationType"] == "RequestResponse"


def test_with_json_the_raw_answer_is_all_that_stdout_has(desk: Desk) -> None:
    ran = desk.deploy("--json", "build", "project")
    assert json.loads(ran.out) == BUILT
    error = {"errorType": "SourceError", "errorMessage": "no such repository"}
    desk.aws.replies["lambda.Invoke"] = invoked(error, FunctionError="Unhandled")
    ran = desk.deploy("--json", "build", "project")
    assert ran.status == 1
    assert json.loads(ran.out) == error
    assert ran.error.endswith("SourceError: no such repository\n")


# --- What is told -------------------------------------------------------------------------------------------


def test_the_result_is_shown_on_one_screen(desk: Desk) -> None:
    ran = desk.deploy("build", "project")
    assert ran.out.splitlines() == [
        "status        deployed",
        "function      project",
        "commit        0123456789abcdef0123456789abcdef01234567 (main)",
        "code          c2hhMjU2",
        "version       $LATEST",
        "size          2.1 MB zipped, 6.4 MB unzipped, 312 files",
        "largest       cryptography 4.1 MB, requests 90.0 kB",
        "dependencies  8: package-0==1.0, package-1==1.0, package-2==1.0, package-3==1.0, package-4==1.0,"
        " package-5==1.0, …",
        "pruned        40 files, 1.2 MB",
        "package       s3://artifacts/yo-dawg/packages/project/00.zip",
        "log           s3://artifacts/yo-dawg/builds/project/1.log",
        "seconds       12.3 (clone 0.4, install 3.2)",
        "warning       requirements.txt pins nothing",
    ]
    assert ran.error == "-----> build project\n"


def test_what_became_of_several_functions_is_shown(desk: Desk) -> None:
    outcome = {"status": "deployed", "function_arn": "arn", "version": "3", "alias": "live"}
    several = {**BUILT, "function": ["a", "b"], "functions": {"a": outcome, "b": {**outcome, "status": "unchanged"}}}
    desk.aws.replies["lambda.Invoke"] = invoked(several)
    shown = desk.deploy("build", "project").out
    assert "function      a: deployed, version 3 (live)\nfunction      b: unchanged, version 3 (live)\n" in shown


def test_a_foreseen_error_is_told_in_its_own_words(desk: Desk) -> None:
    error = {
        "errorType": "SourceError",
        "errorMessage": "cannot clone nothing: no such repository.\n\x1b[31mIts last lines:\x1b[0m\n404\r",
        "requestId": "1",
        "stackTrace": ['  File "/var/task/lambda_function.py", line 1, in f\n'],
    }
    log = base64.b64encode(b"START RequestId\n").decode()
    desk.aws.replies["lambda.Invoke"] = invoked(error, FunctionError="Unhandled", LogResult=log)
    ran = desk.deploy("build", "nothing")
    assert (ran.status, ran.out) == (1, "")
    assert ran.error == (
        "-----> build nothing\nSourceError: cannot clone nothing: no such repository.\nIts last lines:\n404\n"
    )


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (
            {"errorType": "KeyError", "errorMessage": "'x'", "stackTrace": ["  File a, line 1\n", "    f()\n"]},
            ["KeyError: 'x'", "Traceback:", "  File a, line 1", "    f()"],
        ),
        (
            {"errorType": "Sandbox.Timedout", "errorMessage": "RequestId: 1 Error: Task timed out after 1.00 seconds"},
            ["Sandbox.Timedout: RequestId: 1 Error: Task timed out after 1.00 seconds"],
        ),
        ("no object", ["Unhandled: no object"]),
    ],
)
def test_an_unforeseen_error_is_told_with_the_end_of_the_log(desk: Desk, answer: object, told: list[str]) -> None:
    log = base64.b64encode("the last line é\n".encode()).decode()
    desk.aws.replies["lambda.Invoke"] = invoked(answer, FunctionError="Unhandled", LogResult=log)
    ran = desk.deploy("build", "project")
    assert (ran.status, ran.out) == (1, "")
    assert ran.error.splitlines()[1:] == [*told, "The end of its log:", "the last line é"]


@pytest.mark.parametrize("answer", [b"null", b"[]", b"{}", b"<html>", b""])
def test_an_answer_that_is_none_of_ours_is_a_failure(desk: Desk, answer: bytes) -> None:
    desk.aws.replies["lambda.Invoke"] = invoked(answer)
    ran = desk.deploy("build", "project")
    assert (ran.status, ran.out) == (1, "")
    assert "not one of yo-dawg's" in ran.error
    assert "Traceback" not in ran.error


MAY_RUN = (
    "It may be running all the same: the same command again waits for it and gets its answer. "
    "Its log is /aws/lambda/yo-dawg."
)


@pytest.mark.parametrize(
    ("error", "said", "advice"),
    [
        (
            Refusal("ResourceNotFoundException", "Function not found", 404),
            "(ResourceNotFoundException)",
            'There is no function yo-dawg in us-east-1. Run "./deploy.sh bootstrap" first.',
        ),
        (ReadTimeoutError(endpoint_url="https://lambda"), "Read timeout on endpoint URL", MAY_RUN),
        (ConnectionClosedError(endpoint_url="https://lambda"), "Connection was closed", MAY_RUN),
        (EndpointConnectionError(endpoint_url="https://lambda"), "Could not connect", ""),
    ],
)
def test_a_failed_invocation_is_told_with_what_to_do_and_not_repeated(
    desk: Desk, error: object, said: str, advice: str
) -> None:
    desk.aws.replies["lambda.Invoke"] = error
    ran = desk.deploy("build", "project")
    assert (ran.status, ran.out) == (1, "")
    first, *rest = ran.error.removeprefix("-----> build project\ndeploy.sh: ").splitlines()
    assert said in first
    assert "\n".join(rest) == advice
    assert desk.aws.operations("lambda") == ["lambda.Invoke"]


# --- history --------------------------------------------------------------------------------------------------

HISTORY: dict[str, Any] = {
    "holder": {
        "began": 1795420800, "status": "running", "title": "build project v2", "asked_by": "you@there", "error": None,
    },
    "history": [
        {
            "began": 1795334400, "status": "failed", "title": "build project main", "commit": "0123456789abcdef",
            "ref": "main", "error": "BuildScriptError: make_dist.sh \u001b[31m", "asked_by": "",
        },
        {
            "began": 1795248000, "status": "deployed", "title": "build project", "commit": "fedcba9876543210",
            "ref": "main", "version": "12", "alias": "live", "code_sha256": "abcdefghijklmnop", "asked_by": "me@here",
        },
    ],
}  # fmt: skip


def test_history_is_a_table(desk: Desk) -> None:
    desk.aws.replies = {"s3.GetObject": lambda _: {"Body": io.BytesIO(json.dumps(HISTORY).encode())}}
    ran = desk.deploy("history", f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:project")
    assert (ran.status, ran.error) == (0, "")
    assert ran.out.splitlines() == [
        "when                  status    commit        ref   version    code          asked for by  what",
        "2026-11-23 08:00:00Z  running   -             -     -          -             you@there     build project v2",
        "2026-11-22 08:00:00Z  failed    0123456789ab  main  -          -             -             "
        "build project main: BuildScriptError",
        "2026-11-21 08:00:00Z  deployed  fedcba987654  main  12 (live)  abcdefghijkl  me@here       build project",
    ]
    call = desk.aws.call("s3.GetObject")
    assert (call["Bucket"], call["Key"]) == ("artifacts", "yo-dawg/locks/project")
    assert json.loads(desk.deploy("--json", "history", "project").out) == HISTORY


def test_a_function_without_a_history_is_told(desk: Desk) -> None:
    desk.aws.replies = {"s3.GetObject": Refusal("NoSuchKey", status=404)}
    ran = desk.deploy("history", "project")
    assert (ran.status, ran.out) == (1, "")
    assert "nothing was built for project yet" in ran.error
    desk.aws.replies = {"s3.GetObject": Refusal("AccessDenied", status=403)}
    assert "cannot read s3://artifacts/yo-dawg/locks/project" in desk.deploy("history", "project").error
