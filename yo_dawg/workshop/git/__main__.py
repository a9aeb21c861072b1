"""The Git program: fetches one commit of a project, and what that requires from Git.

``python -m yo_dawg.workshop.git`` holds the Git host's credentials, and ends before any code of the project runs.
"""

from __future__ import annotations

import contextlib
import resource
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from yo_dawg.errors import SourceError
from yo_dawg.workshop.git.clone import fetch_checkout
from yo_dawg.workshop.handover import hand_over
from yo_dawg.workshop.program import serve
from yo_dawg.workshop.tools import Toolchain
from yo_dawg.workspace import Workspace

if TYPE_CHECKING:
    from yo_dawg.report import Report

WORKER_MEMORY = 1 << 30
"""Address space of the git worker (RLIMIT_AS): it streams, so what wants more is a hostile repository."""


def limit_memory() -> None:
    """Bound the memory that this process may take."""
    with contextlib.suppress(ValueError, OSError):  # macOS knows no RLIMIT_AS; a lower limit stays
        resource.setrlimit(resource.RLIMIT_AS, (WORKER_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))


def limit_time(until: float) -> None:
    """Bound the time that this process may take, by the monotonic clock."""

    def give_up(_signal: int, _frame: object) -> NoReturn:
        raise SourceError(
            "Cannot clone: it was not done when nine tenths of this build's time were gone. Is the Git host slow, the "
            "repository large? Raise timeout in config.ini."
        )

    signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, max(until - time.monotonic(), 0.001))


def work(job: Mapping[str, Any], files: Mapping[str, int], _report: Report) -> dict[str, Any]:
    """Do the program's job: clone, and leave a description of the checkout for the package program."""
    space = Workspace(Path(job["workspace"]))
    toolchain = Toolchain(space.toolchain)
    toolchain.unpack(*(files[part] for part in ("git", "ssh") if part in files))
    sys.path.insert(0, str(toolchain.packages))
    limit_memory()
    try:
        if job["until"]:
            limit_time(job["until"])
        answer = fetch_checkout(job)
        hand_over(answer, job["project"], space)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    shutil.rmtree(space.objects)
    return {"commit": answer["commit"], "ref": answer["ref"]}


if __name__ == "__main__":
    serve(work)
