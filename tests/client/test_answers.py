"""How answers are told."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.answers import FORESEEN, error_lines, summary
from client.screen import plain
from yo_dawg.errors import YoDawgError


def test_a_result_with_little_in_it_has_few_lines() -> None:
    answer = {"status": "built", "dependencies": [], "pruned": {"files": 0}, "seconds": {"total": 1}}
    told = [(name, value) for name, value in summary(answer) if value not in (None, "")]
    assert told == [("status", "built"), ("dependencies", "0"), ("seconds", "1")]


@pytest.mark.parametrize("error_type", FORESEEN)
def test_every_foreseen_error_comes_without_traceback_and_log(error_type: str) -> None:
    error = {"errorType": error_type, "errorMessage": "because", "stackTrace": ["  File x\n"]}
    invocation = {"FunctionError": "Unhandled", "LogResult": base64.b64encode(b"log").decode()}
    assert list(error_lines(error, invocation)) == [f"{error_type}: because"]


def test_the_foreseen_errors_are_those_that_the_handler_raises() -> None:
    assert {each.__name__ for each in YoDawgError.__subclasses__()} == set(FORESEEN)


@given(st.text())
def test_nothing_that_is_told_can_steer_a_terminal(text: str) -> None:
    told = plain(text)
    assert all(char in "\n\t" or char.isprintable() or ord(char) >= 0xA0 for char in told)
    assert "\x1b" not in told
    assert plain(told) == told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("progress\rdone", "progressdone"),
        ("tab\tline\nünïcödé …", "tab\tline\nünïcödé …"),
        ("\x9b31mred\x07", "31mred"),
    ],
)
def test_colours_and_control_characters_are_taken_out(text: str, told: str) -> None:
    assert plain(text) == told
