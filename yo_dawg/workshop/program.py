"""How a program of the workshop runs: it gets one job, does it, and writes down the answer, or the error in words."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from yo_dawg import channel
from yo_dawg.errors import ConfigError, PackageError, YoDawgError
from yo_dawg.killing import protect_process
from yo_dawg.report import Report

Work = Callable[[Mapping[str, Any], Mapping[str, int], Report], Mapping[str, Any]]
"""Does a job with its open files, tells what goes on, and returns the answer."""


def serve(work: Work) -> None:
    """Wait for the job, which comes on standard input, do it, and write the answer into the file that comes along.

    An error that is foreseen is the answer, too.  Whatever else is raised ends the program with a traceback.
    """
    protect_process()
    gc.set_threshold(100_000)  # most of what it does is to make what is new, in which there is no garbage
    # Should memory run out, the kernel is to take this process before the handler: proc(5).  macOS has none.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    try:
        with socket.socket(fileno=os.dup(0)) as ours:
            job, files = channel.receive(ours)
    except EOFError:
        leave()  # it is not needed
    try:
        answer = work(job, files, Report())
    except YoDawgError as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    except (MemoryError, RecursionError) as error:
        answer = {
            "error": PackageError.__name__,
            "message": f"What this project holds is more than can be worked with ({type(error).__name__}). Is one of "
            "its files very large, or nested very deep? Leave it out, or raise memory_size in config.ini.",
        }
    try:
        channel.write_answer(files["answer"], answer)
    except OSError:
        full = {"error": ConfigError.__name__, "message": "The disk is full. Raise ephemeral_storage in config.ini."}
        channel.write_answer(files["answer"], full)
    leave()


def leave() -> NoReturn:
    """End at once: the handler waits, and Python would first take everything apart."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def environment() -> dict[str, str]:
    """Return the environment that the handler built for this program, less what makes it find the builder's code."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
