"""doctor says what is wrong and what to do, changes nothing, and shows no secret."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from lambda_function import lambda_handler
from tests.support.embedded import NEWEST, Builder
from tests.support.yard import TOKEN, Yard


def no_toolchain(yard: Yard) -> None:
    for key in yard.keys("toolchain/"):
        yard.aws.s3.delete_object(Bucket="bucket", Key=key)


def no_function(yard: Yard) -> None:
    yard.aws.functions.delete_function(FunctionName="api")


@pytest.fixture(autouse=True)
def no_index_but_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")


def doctor(yard: Yard) -> tuple[str, dict[str, tuple[bool, str]]]:
    """Ask doctor; return the status and, by name, whether each finding is good and what it says."""
    answer = lambda_handler({"action": "doctor"}, yard.next_context())
    return answer["status"], {each["name"]: (each["ok"], each["says"]) for each in answer["findings"]}


def test_doctor_finds_nothing_wrong_where_nothing_is_and_changes_nothing(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yo_dawg.control.probes_here.is_dumpable", lambda: False)  # the tests' process stays open
    monkeypatch.setenv("PIP_INDEX_URL", f"{yard.git.url}/simple")
    before = (yard.keys(), yard.aws.functions.get_function_configuration(FunctionName="api")["RevisionId"])
    status, findings = doctor(yard)
    assert (status, [name for name, (ok, _) in findings.items() if ok is False]) == ("ok", [])
    assert {
        "interpreter", "programs", "disk", "time", "bucket", "bucket writes", "toolchain", "git token", "git host",
        "package indexes", "index 127.0.0.1", "concurrency", "function api", "function api: code",
    } <= set(findings)  # fmt: skip
    assert before == (yard.keys(), yard.aws.functions.get_function_configuration(FunctionName="api")["RevisionId"])


def test_doctor_never_shows_the_token(yard: Yard, capsys: pytest.CaptureFixture[str]) -> None:
    assert TOKEN not in json.dumps(doctor(yard)) + capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "spoil", "words"),
    [
        pytest.param("toolchain", no_toolchain, "./deploy.sh bootstrap", id="no toolchain"),
        pytest.param("function api", no_function, "There is no function api", id="no function"),
    ],
)
def test_doctor_says_what_is_wrong_and_what_to_do(
    yard: Yard, name: str, spoil: Callable[[Yard], None], words: str
) -> None:
    spoil(yard)
    status, findings = doctor(yard)
    assert (status, findings[name][0]) == ("problems", False)
    assert words in findings[name][1]


@pytest.mark.parametrize(
    ("variable", "value", "name", "words"),
    [
        pytest.param("TOKEN_SECRET", "none", "git token", "ResourceNotFoundException", id="no secret"),
        pytest.param("BASE_URL", "http://127.0.0.1:1", "git host", "Has this function a way out", id="no network"),
        pytest.param("DEPLOYMENT_BUCKET", "no-such-bucket", "bucket", "NoSuchBucket", id="no bucket"),
    ],
)
def test_doctor_sees_what_the_settings_name(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, name: str, words: str
) -> None:
    monkeypatch.setenv(f"YO_DAWG_{variable}", value)
    status, findings = doctor(yard)
    assert (status, findings[name][0]) == ("problems", False)
    assert words in findings[name][1]


@NEWEST
@pytest.mark.embedded
def test_what_doctor_sees_where_functions_run(builder: Builder) -> None:
    """In the sandbox, which is as like Lambda as it can be made."""
    answer = builder.invoke(builder.name, {"action": "doctor"})
    found = {each["name"]: (each["ok"], each["says"]) for each in answer["findings"]}
    for name, words in {
        "system": "uid 993",
        "process": "closed to its children (prctl); /proc shows 2 processes, and the environment of 0",
        "shared memory": "not there, as usual in Lambda",
        "search path": "/opt/python",
        "runtime packages": "importlib.metadata finds boto3",
        "bucket writes": "written, not overwritten, and read, and deleted",
    }.items():
        assert (found[name][0], words in found[name][1]) == (True, True), found[name]
