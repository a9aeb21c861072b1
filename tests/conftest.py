"""What all tests share: nothing of the tester's own AWS, Git or package settings, and the builder fixture."""

from __future__ import annotations

import os

import pytest

from tests.embedded import builder as builder

LEAKS = ("AWS_", "YO_DAWG_", "GIT_")
"""What the names of variables begin with that would let a test reach a real account, or find other settings."""


@pytest.fixture(autouse=True)
def no_real_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(LEAKS):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTSTESTSTESTS0")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-secret-of-the-tests")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
