"""The invocation's time: an alarm ends what would outlast it."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

from yo_dawg.errors import DeadlineError, OutOfTime

if TYPE_CHECKING:
    from yo_dawg.log import Log

SECONDS_TO_REPORT = 10.0
"""Kept back from the invocation's time to kill, clean up and answer; less of a short one."""


@contextlib.contextmanager
def deadline(milliseconds: int, log: Log) -> Iterator[None]:
    """Raise DeadlineError when the invocation's time, less what the answer takes, is over.

    Lambda kills a function that overstays, and then nobody cleans up and nobody answers.  An alarm
    interrupts whatever the handler is waiting for: a child, a socket, a lock.
    """
    available = milliseconds / 1000
    allowed = available - min(SECONDS_TO_REPORT, available / 5)
    started = time.monotonic()

    def ring(_signal: int, _frame: object) -> NoReturn:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(allowed, 0.001))
    try:
        yield
    except OutOfTime as error:
        spent = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in log.seconds.items())
        at = f", at {log.doing}" if log.doing else ""
        raise DeadlineError(
            f'Out of time in "{log.stage}"{at}: {time.monotonic() - started:.0f} s of the {available:.0f} s that this '
            f"invocation had are gone ({spent or 'none before it'}). If it did not hang, raise timeout "
            f'or memory_size, which buys CPU too, in config.ini and run "./deploy.sh bootstrap".{error}'
        ) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
