"""The log is a story that shows no secret and that nobody can forge."""

from __future__ import annotations

import os
from base64 import b64encode
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yo_dawg.log import Log


@pytest.mark.parametrize(
    "text",
    ["canary-s/cret", "canary-s%2Fcret", b64encode(b"canary-s/cret").decode(), "xxcanary-s/cretxx"],
    ids=["plain", "in a URL", "base64", "inside of a word"],
)
def test_secrets_are_masked_in_every_spelling(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    Log(("canary-s/cret",)).info(f"a {text} b")
    said = capsys.readouterr().out
    assert "***" in said
    assert text not in said


def test_a_secret_that_holds_another_is_masked_whole() -> None:
    log = Log(("abcd",))
    log.hide("abcdefgh")
    assert log.mask("x abcdefgh abcd y") == "x *** *** y"


def test_of_a_secret_of_several_lines_each_is_masked_but_not_what_every_key_has() -> None:
    key = "-----BEGIN KEY-----\n  canary-one\ncanary-two\n-----END KEY-----\n"
    log = Log((key,))
    assert log.mask("-----BEGIN KEY-----") == "-----BEGIN KEY-----"
    assert [log.mask(line) for line in ("a canary-one", f"a {b64encode(b'canary-two').decode()}")] == ["a ***", "a ***"]


def test_a_text_too_short_to_be_a_secret_is_not_masked() -> None:
    assert Log(("", "abc")).mask("abc") == "abc"


@given(st.text(min_size=4, max_size=20), st.text(max_size=30), st.text(max_size=30))
def test_no_secret_comes_through(secret: str, before: str, after: str) -> None:
    if "*" not in secret:
        assert secret not in Log((secret,)).mask(before + secret + after).replace("***", "\0")


def test_a_stage_tells_its_name_and_its_time_also_when_it_fails(capsys: pytest.CaptureFixture[str]) -> None:
    log = Log(())
    with log.step("one", "[1/2] one"):
        log.detail("detail")
    with pytest.raises(ValueError, match="x"), log.step("two", "[2/2] two"):
        raise ValueError("x")
    assert capsys.readouterr().out == "[1/2] one …\n      detail\n[1/2] one … 0.0 s\n[2/2] two …\n"
    assert set(log.seconds) == {"one", "two"}
    assert log.stage == "[2/2] two"


def test_what_was_said_is_kept_in_a_file_without_a_name(tmp_path: Path) -> None:
    log = Log((), tmp_path)
    log.info("hello")
    log.info("a name that is not UTF-8: \udcff")
    assert list(tmp_path.iterdir()) == []
    assert log.file is not None
    log.file.seek(0)
    assert log.file.read() == b"hello\na name that is not UTF-8: ?\n"
    log.close()


def test_a_project_that_prints_for_ever_is_cut_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("yo_dawg.log.MAX_LOG_BYTES", 100)
    log = Log((), tmp_path)
    for _ in range(100):
        log.info("x" * 19)
    assert log.file is not None
    log.file.seek(0)
    text = log.file.read().decode()
    assert text.count("x" * 19) == 5
    assert text.endswith("the rest is not kept)\n")
    log.close()


def test_a_full_disk_does_not_silence_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = Log((), tmp_path)
    assert log.file is not None
    with open("/dev/full", "wb") as full:
        os.dup2(full.fileno(), log.file.fileno())
    log.info("x" * 100_000)  # more than a buffer holds
    log.info("still here")
    log.close()
    assert capsys.readouterr().out.endswith("\nstill here\n")
