"""What a program of the workshop tells while it works: stages as they begin and end, and lines for the log.

Each message is a line of JSON on the program's standard output.  The handler takes it down in its log, see
``Listener.hear``; whatever else is printed there is taken for a line of output.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

BEGINS = '{"yo-dawg": '
"""How each message begins."""


class Report:
    """Tells the handler what goes on.  Any thread may."""

    def __init__(self) -> None:
        """Tell it on the standard output."""
        self._lock = threading.Lock()

    def mask(self, text: str) -> str:
        """Leave a text as it is: the handler knows what to mask."""
        return text

    def info(self, text: str) -> None:
        """Have a line printed."""
        self._tell("info", text)

    def detail(self, text: str) -> None:
        """Have a line of a tool's output printed, indented under its stage."""
        self._tell("detail", text)

    def doing(self, what: str) -> None:
        """Name what a stage is at, for an error that would name the stage alone; "" is the stage itself."""
        self._tell("doing", what)

    @contextlib.contextmanager
    def step(self, name: str, title: str) -> Iterator[None]:
        """Tell that a stage begins and, if it goes well, how many seconds it took."""
        self._tell("begin", name, title)
        started = time.monotonic()
        yield
        self._tell("end", name, round(time.monotonic() - started, 3))

    def _tell(self, what: str, *details: Any) -> None:
        with self._lock:
            print(f"{BEGINS}{json.dumps([what, *details])}}}", flush=True)


def message_in(line: str) -> list[Any] | None:
    """Return the message that a line is; None for any other line."""
    if not line.startswith(BEGINS):
        return None
    try:
        message = json.loads(line)["yo-dawg"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return message if isinstance(message, list) and message else None
