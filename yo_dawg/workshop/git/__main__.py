"""The Git program: fetches one commit of a project, and what that requires from Git."""

from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.metadata
import importlib.util
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from yo_dawg.checkout import Source
from yo_dawg.errors import SourceError
from yo_dawg.workshop.git.checkout import check_links
from yo_dawg.workshop.git.clone import Wanted, check_out
from yo_dawg.workshop.git.requirements import fetch_required

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


def git_worker() -> None:
    """Do the job on standard input with Dulwich, and write down the answer."""
    importlib.invalidate_caches()  # Dulwich was not there when this process began
    for name in ("dulwich.client", "dulwich.index", "dulwich.pack", "urllib3"):  # the job may come later
        importlib.import_module(name)
    job = json.load(sys.stdin)
    importlib.invalidate_caches()  # nor what SSH takes
    try:
        if job["until"]:
            limit_time(job["until"])
        answer = fetch_checkout(job)
    except SourceError as error:
        answer = {"error": str(error)}
    except (MemoryError, RecursionError):
        url = job["source"]["url"]
        answer = {"error": f"Cannot clone {url}: what the server sent takes more memory than a repository may."}
    Path(job["answer"]).write_text(json.dumps(answer))


def fetch_checkout(job: Mapping[str, Any]) -> dict[str, Any]:
    """Fetch one commit, without its history, and write its tree out; fetch what it requires from Git."""
    os.mkdir(job["objects"])
    source, project = Source(**job["source"]), os.fsencode(job["project"])
    wanted = Wanted(job["ref"], Path(job["checkout"]), Path(job["objects"]), project)
    answer = check_out(source, wanted)
    check_links(wanted.root)
    return {**answer, "required": vars(fetch_required(source, answer, wanted, Path(job["sources"])))}


if __name__ == "__main__":
    select.select([sys.stdin], [], [])  # the toolchain is there
    limit_memory()
    git_worker()
