"""What a program tells arrives in the handler's log, and whatever a hostile one tells does no harm there."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yo_dawg.log import Log
from yo_dawg.report import BEGINS, Report, message_in


def message(*parts: Any) -> str:
    return f"{BEGINS}{json.dumps(parts)}}}"


def said_by(report: Report, capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_what_a_program_tells_is_what_the_log_says(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report()
    with report.step("install", "[3/8] install requirements"):
        report.info("a warning: ü")
        report.detail("2 packages")
        report.doing("make_dist.sh")
    lines = said_by(report, capsys)
    log = Log(("canary-secret",))
    assert all(log.hear(line) for line in lines)
    told = capsys.readouterr().out.splitlines()
    assert told[:3] == ["[3/8] install requirements …", "a warning: ü", "      2 packages"]
    assert told[3].startswith("[3/8] install requirements … ")
    assert told[3].endswith(" s")
    assert (list(log.seconds), log.stage, log.doing) == (["install"], "[3/8] install requirements", "make_dist.sh")


def test_a_stage_that_fails_has_no_end(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report()
    with pytest.raises(ValueError, match="x"), report.step("a", "A"):
        raise ValueError("x")
    assert [message_in(line) for line in said_by(report, capsys)] == [["begin", "a", "A"]]


def test_what_a_program_prints_without_being_asked_is_no_message() -> None:
    for line in ("", "hello", "{}", '{"yo-dawg"', ' {"yo-dawg": ["info", "x"]}'):
        assert message_in(line) is None


def test_secrets_are_masked_in_messages(capsys: pytest.CaptureFixture[str]) -> None:
    log = Log(("canary-secret",))
    for what in ("info", "detail"):
        assert log.hear(message(what, "a canary-secret, and canary-\x1b[0msecret"))
    assert log.hear(message("begin", "x", "canary-secret"))
    assert "canary" not in capsys.readouterr().out


@pytest.mark.parametrize("what", ["info", "detail", "begin", "doing"])
def test_no_message_can_forge_a_line(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    log = Log(())
    text = "a\n[8/8] deploy api\r\x1b[2J\x07\x9b"
    assert log.hear(message(what, *(["x"] if what == "begin" else []), text))
    said = capsys.readouterr().out
    assert said.count("\n") == (0 if what == "doing" else 1)
    assert not {*said, *log.doing, *log.stage} & {"\r", "\x1b", "\x07", "\x9b"}


@pytest.mark.parametrize("what", ["info", "detail", "begin", "doing"])
def test_no_message_is_long(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    log = Log(())
    assert log.hear(message(what, *(["x"] if what == "begin" else []), "x" * 60_000))
    assert len(capsys.readouterr().out) < 2100
    assert len(log.stage) <= 2000
    assert len(log.doing) <= 2000


@pytest.mark.parametrize(
    "line",
    [
        message(),
        message("info"),
        message("info", 1),
        message("info", None),
        message("info", ["x"]),
        message("info", "x", "y"),
        message("shout", "x"),
        message("begin", "x"),
        message("begin", 1, "x"),
        message("end", "x", "1"),
        message("end", "x", None),
        message("end", "x", float("nan")),
        message("end", "x", float("inf")),
        message("end", "x", -1),
        message("end", "x", 10**400),
        message("end", "never begun", 1.0),
        message({"info": "x"}),
        f"{BEGINS}null}}",
        f"{BEGINS}[]}}",
        f'{BEGINS}"info"}}',
        f'{BEGINS}["info", "x"]',
        BEGINS + "[" * 30_000,
        BEGINS + "[" * 30_000 + "]" * 30_000 + "}",
    ],
)
def test_what_makes_no_sense_is_not_heard(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    log = Log(())
    log.begin("x", "X")
    capsys.readouterr()
    assert not log.hear(line)
    assert (capsys.readouterr().out, log.stage, log.seconds) == ("", "X", {})


def test_a_program_cannot_invent_stages_without_end(capsys: pytest.CaptureFixture[str]) -> None:
    log = Log(())
    for number in range(1000):
        log.hear(message("begin", f"{number}{'x' * 5000}", "t"))
        log.hear(message("end", f"{number}{'x' * 5000}", 1))
    assert len(json.dumps(log.seconds)) < 20_000, "they are part of the answer"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(st.sampled_from(["begin", "end", "info", "detail", "doing"]), st.lists(JSON, max_size=3))
def test_no_message_makes_the_handler_fail(what: str, details: list[Any]) -> None:
    log = Log(())
    log.hear(message("begin", "x", "X"))
    log.hear(message(what, *details))
    json.dumps(log.seconds, allow_nan=False)


@given(st.text())
def test_no_line_makes_the_handler_fail(line: str) -> None:
    Log(()).hear(line)
    Log(()).hear(BEGINS + line)
