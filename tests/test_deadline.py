"""The deadline: an alarm ends what would outlast the invocation."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest

from yo_dawg.deadline import deadline
from yo_dawg.errors import DeadlineError
from yo_dawg.killing import processes_below
from yo_dawg.log import Log
from yo_dawg.process import Command, Shell

PATH = {"PATH": os.environ["PATH"]}


def test_the_deadline_ends_a_child_and_names_the_stage(tmp_path: Path, log: Log) -> None:
    before = processes_below(os.getpid())
    ring = 'kill -ALRM "$PPID"; sleep 10000 & sleep 10000'  # as the alarm rings by itself after minutes
    with (
        contextlib.closing(Shell(PATH, log)) as shell,
        pytest.raises(DeadlineError) as ended,
        deadline(900_000, log),
        log.step("nap", "[1/1] nap"),
    ):
        shell.run(Command(["bash", "-c", ring], tmp_path))
    assert processes_below(os.getpid()) == before
    assert '"[1/1] nap"' in str(ended.value)
    assert "timeout" in str(ended.value)
    assert "nap" in log.seconds


def test_the_deadline_knows_no_largest_timeout(log: Log) -> None:
    """Lambda has raised it, and not for all functions alike: what it takes, CloudFormation says."""
    with pytest.raises(DeadlineError, match="raise timeout or memory_size") as ended, deadline(50, log):
        all(iter(lambda: True, False))
    assert "at most" not in str(ended.value)


def test_the_deadline_ends_python_too_and_sets_the_alarm_back(log: Log) -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(DeadlineError), deadline(50, log):
        all(iter(lambda: True, False))  # for ever
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_what_is_in_time_is_left_alone(log: Log) -> None:
    with deadline(900_000, log):
        remaining, _ = signal.getitimer(signal.ITIMER_REAL)
    assert 600 < remaining < 891, "ten seconds are kept back for the answer"
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_what_a_stage_is_at_is_named_too(log: Log) -> None:
    log.begin("stage", "[5/8] stage")
    log.doing = "make_dist.sh"
    said = r'Out of time in "\[5/8\] stage", at make_dist\.sh: '
    with pytest.raises(DeadlineError, match=said), deadline(900_000, log):
        signal.raise_signal(signal.SIGALRM)
