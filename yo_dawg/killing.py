"""Processes: closing this one to its children, finding what they started, and killing all of it."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess

PR_GET_DUMPABLE, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 3, 4, 36
"""prctl(2), linux/prctl.h."""

M_MMAP_THRESHOLD = -3
"""mallopt(3), malloc.h."""

LOOKS_BEFORE_KILLING = 100


@functools.cache
def libc() -> ctypes.CDLL:
    """Load the C library, for prctl and mallopt."""
    return ctypes.CDLL(None, use_errno=True)


def prctl(option: int, value: int) -> bool:
    """Set a property of this process; say whether the kernel took it (macOS has no prctl)."""
    function = getattr(libc(), "prctl", None)
    return function is not None and function(option, value, 0, 0, 0) == 0


def protect_process() -> bool:
    """Close this process to its children, and make it the one that orphans come back to.

    A child of the same user can read /proc/PID/environ and /proc/PID/mem of its parent, and the
    role's credentials there, unless the parent is "not dumpable".  As "subreaper" we inherit what a
    child leaves behind when it ends, and so can find and kill all of it.  Says whether both took.
    """
    return all([prctl(PR_SET_DUMPABLE, 0), prctl(PR_SET_CHILD_SUBREAPER, 1)])


def is_dumpable() -> bool | None:
    """Say whether children can read this process's memory; None where nobody can tell (macOS has no prctl)."""
    function = getattr(libc(), "prctl", None)
    return None if function is None else function(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0


def give_back_memory() -> None:
    """Have what a large file took in memory given back to the system at once, and not kept for the next one.

    mallopt(3): a fixed M_MMAP_THRESHOLD.  Else glibc raises it to the size of each large block that is freed.
    """
    function = getattr(libc(), "mallopt", None)
    if function is not None:  # macOS has none
        function(M_MMAP_THRESHOLD, 1 << 22)


def kill_leftovers() -> None:
    """Kill what a build left running whose handler Lambda killed: a reset spares other processes.

    Those are the processes of our user that did not start us, and are no extensions.  One that has closed itself
    to us ("not dumpable") hides.
    """
    parents = parent_ids()
    spared = {os.getpid()}
    while above := {parents[pid] for pid in spared if pid in parents} - spared:
        spared |= above
    for pid in parents.keys() - spared:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            if os.stat(f"/proc/{pid}").st_uid != os.getuid():
                continue
            if not is_extension(pid):
                send_signal(pid, signal.SIGKILL)


def is_extension(pid: int, opt: str = "/opt") -> bool:
    """Say whether a process is one of Lambda's extensions: these run from /opt, where no build can write.

    One that is a script is run by an interpreter from elsewhere: its command line names it, first or after that and
    the interpreter's options.
    """
    try:
        if os.readlink(f"/proc/{pid}/exe").startswith(f"{opt}/"):
            return True
        arguments = Path("/proc", str(pid), "cmdline").read_bytes().split(b"\0")[:4]
    except PermissionError:
        return False
    place = re.compile(re.escape(os.fsencode(opt)) + rb"/extensions/[^/]+")
    return any(place.fullmatch(each) and os.path.isfile(each) for each in arguments)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and its group, ended or not."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def kill_below(pid: int, spared: frozenset[int]) -> None:
    """Kill and reap every descendant of pid but those spared.

    They are stopped first, until no new one shows up: a stopped process cannot fork away.  One that starts its
    successor and ends, again and again, is caught because the quick look takes less time than a program's start; it
    leaves dead ones behind, which have to be reaped now and then.
    """
    while found := processes_below(pid) - spared:
        stopped: set[int] = set()
        for _ in range(LOOKS_BEFORE_KILLING):
            for each in found:
                send_signal(each, signal.SIGSTOP)
            stopped |= found
            found = quick_look_below(pid) - spared - stopped
            if not found:
                break
        for each in stopped:
            send_signal(each, signal.SIGKILL)
        for each in stopped:
            with contextlib.suppress(ChildProcessError):  # a grandchild: it is ours only once it is an orphan
                os.waitpid(each, 0)


def send_signal(pid: int, number: signal.Signals) -> None:
    """Signal a process that may just have ended."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def processes_below(pid: int) -> frozenset[int]:
    """Return the ids of all descendants of a process; none where there is no /proc (macOS)."""
    parents = parent_ids()
    below: set[int] = set()
    found = {pid}
    while found:
        found = {child for child, parent in parents.items() if parent in found} - below
        below |= found
    return frozenset(below)


def quick_look_below(pid: int) -> frozenset[int]:
    """Return descendants of a process in a fraction of the time, but maybe not all: proc(5) on "children".

    Where the kernel has no such file (CONFIG_PROC_CHILDREN) it is ``processes_below``.
    """
    if not os.path.exists(f"/proc/{pid}/task/{pid}/children"):
        return processes_below(pid)
    below: set[int] = set()
    parents = {pid}
    while parents:
        children: set[int] = set()
        for parent in parents:
            with contextlib.suppress(OSError):  # it has just ended
                for thread in os.listdir(f"/proc/{parent}/task"):
                    children.update(map(int, Path(f"/proc/{parent}/task/{thread}/children").read_text().split()))
        parents = children - below
        below |= children
    return frozenset(below)


def parent_ids() -> dict[int, int]:
    """Return the parent of each process that can be seen."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if entry.isdigit():
            with contextlib.suppress(OSError):  # it has just ended
                # proc(5): "PID (NAME) STATE PARENT …", and a NAME may hold spaces and brackets
                status = Path("/proc", entry, "stat").read_text(errors="replace")
                parents[int(entry)] = int(status.rpartition(")")[2].split()[1])
    return parents
