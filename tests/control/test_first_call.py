"""The first call of a fresh role: IAM takes a while until what it was told holds everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.scripted_aws import Refusal, ScriptedAws, job
from yo_dawg.control import store
from yo_dawg.errors import DeployError

DENIED = Refusal("AccessDenied", "is not authorized to perform: s3:ListBucket", 403)


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTSTESTSTESTS0")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    pauses: list[float] = []
    monkeypatch.setattr("yo_dawg.control.store.time.sleep", pauses.append)
    monkeypatch.setattr("yo_dawg.control.store.time.monotonic", lambda: sum(pauses))
    return pauses


def test_what_is_denied_at_first_is_asked_for_again(slept: list[float], tmp_path: Path) -> None:
    scripted = ScriptedAws(HeadObject=[DENIED, DENIED, Refusal("404", status=404)], ListObjectsV2=DENIED)
    job(scripted, tmp_path).store.wait_until_allowed("toolchain/x.json")
    assert slept == [1.0, 2.0]


def test_what_stays_denied_is_an_error_in_words(slept: list[float], tmp_path: Path) -> None:
    scripted = ScriptedAws(HeadObject=DENIED, ListObjectsV2=DENIED)
    with pytest.raises(DeployError, match=r"Cannot read s3://bucket/yo-dawg/toolchain/x.json.*lacks the permission"):
        job(scripted, tmp_path).store.wait_until_allowed("toolchain/x.json")
    assert 40 < sum(slept) <= store.SECONDS_TO_BE_ALLOWED


def test_what_else_is_wrong_is_told_at_once(slept: list[float], tmp_path: Path) -> None:
    scripted = ScriptedAws(HeadObject=Refusal("NoSuchBucket", status=404))
    with pytest.raises(DeployError, match="NoSuchBucket"):
        job(scripted, tmp_path).store.wait_until_allowed("toolchain/x.json")
    assert slept == []
