"""For those who ask for more schedules than usual."""

from __future__ import annotations

import faulthandler
import os

import pytest


@pytest.fixture(autouse=True)
def without_limit() -> None:
    """Let take hours what is asked for: .pytest.ini ends what takes longer as a test that hangs."""
    if "SCHEDULES" in os.environ:
        faulthandler.cancel_dump_traceback_later()
