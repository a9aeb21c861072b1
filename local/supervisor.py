"""The process that stands at the head of a sandbox: it starts the runtime, watches it and buries it.

It runs inside the sandbox (as process 1 where there are walls) with the runtime's own interpreter, so it uses
the standard library only. The server talks to it in lines of JSON over a socket:

    {"do": "start", "argv": […], "environ": {…}, "directory": "…", "limits": {"NOFILE": 1024}, "memory": bytes}
    {"do": "kill"}      ends the runtime's process group, as Lambda does after a timeout
    {"do": "freeze"}    stops every process, as Lambda does between invocations; {"do": "thaw"} lets them go on
    {"do": "inspect"}   asks for memory, processes and what /tmp holds

and hears {"event": "started" | "exited" | "frozen" | "thawed" | "inspected", …}. When the socket closes, everything
ends: the server can die any way it likes and leaves nothing behind.

The credentials arrive over the socket, not by environment or argv, and this process is not dumpable: what
runs beside the runtime can read them in the runtime (as on AWS), and nowhere else.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36

# Where the runtime's client writes what is logged, in frames: to the pipe that its stdout is.
TELEMETRY = 3

# How often the memory of the sandbox is added up while a runtime works. Two processes cost 0.1 ms.
WATCH_SECONDS = 0.1

# Seconds that threads may take to stop, which a disk may hold up.
LONGEST_STOP = 5.0


def prctl(option: int, value: int) -> None:
    """Call prctl where there is one (not on macOS); it is a protection, not a need."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def process_fields(pid: int) -> dict[str, int]:
    """Return the numbers of /proc/PID/status (memory in bytes); empty when the process is gone."""
    fields = {}
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as status:
            for line in status:
                name, _, value = line.partition(":")
                words = value.split()
                if words and words[0].isdecimal():
                    fields[name] = int(words[0]) * (1024 if words[-1] == "kB" else 1)
    except OSError:
        return {}
    return fields


def has_stopped(pid: int) -> bool:
    """Say whether no thread of a process runs, or will once it has a processor.

    One that waits for what cannot be interrupted (D) may wait for a process that was stopped: see vfork(2).
    """
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/status", encoding="utf-8", errors="replace") as status:
                if any(line.startswith("State:") and line.split()[1] in "RS" for line in status):
                    return False
    except OSError:  # it is gone, or this is macOS
        pass
    return True


def descendants() -> dict[int, dict[str, int]]:
    """Return the fields of every process below this one, by its pid."""
    try:
        names = os.listdir("/proc")
    except OSError:  # macOS
        return {}
    everyone = {int(name): process_fields(int(name)) for name in names if name.isdecimal()}
    below = {os.getpid()}
    while more := {pid for pid, fields in everyone.items() if fields.get("PPid") in below} - below:
        below |= more
    below.remove(os.getpid())
    return {pid: everyone[pid] for pid in sorted(below)}


def private_bytes(fields: dict[str, int]) -> int:
    """Return the memory that is a process's own: files that it maps (its libraries) are not counted."""
    return fields.get("RssAnon", 0) + fields.get("RssShmem", 0)


def command_of(pid: int) -> str:
    """Return a process's command line; empty for a zombie."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as cmdline:
            return cmdline.read().rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""


def tree_of(root: str) -> tuple[list[str], int]:
    """Return the names of everything below a directory, and the bytes of its files."""
    names: list[str] = []
    size = 0
    for directory, folders, files in os.walk(root):
        names += [os.path.join(directory, name) for name in folders + files]
        for name in files:
            with contextlib.suppress(OSError):
                size += os.lstat(os.path.join(directory, name)).st_size
    return sorted(names), size


def used_bytes(mount: str) -> int:
    """Return what a file system of its own holds, as its own blocks count it; 0 of a folder of the host's."""
    if not os.path.ismount(mount):
        return 0
    seen = os.statvfs(mount)
    return (seen.f_blocks - seen.f_bfree) * seen.f_frsize


def wrapped(argv: list[str], wrapper: str | None) -> list[str]:
    """Return the command that starts the runtime; end with a shell's status where its wrapper cannot be run."""
    if wrapper is None:
        return argv
    status, problem = 0, ""
    if not os.path.isfile(wrapper):
        status, problem = 127, "does not exist"
    elif not os.access(wrapper, os.X_OK):
        status, problem = 126, "is not an executable"
    if status:
        os.write(2, f"{wrapper}: {problem}\n".encode())
        os._exit(status)
    return [wrapper, *argv]


class Supervisor:
    """One runtime process at a time, and what it leaves."""

    def __init__(self, control: socket.socket, output: int, tmp: str) -> None:
        """Take the socket to the server, the pipe that becomes the runtime's stdout and stderr, and /tmp's name."""
        self.control = control
        self.output = output
        self.tmp = tmp
        self.runtime = 0
        self.watching = False
        self.limit = 0
        self.highest = 0
        self.runtime_highest = 0
        self.tmp_highest = 0
        self.pending = b""

    def tell(self, event: str, **facts: Any) -> None:
        """Send one event to the server."""
        with contextlib.suppress(OSError):  # a closed socket is noticed by the loop
            self.control.sendall(json.dumps({"event": event, **facts}).encode() + b"\n")

    def run(self) -> None:
        """Serve the socket until it closes."""
        read_end, write_end = os.pipe()
        for end in (read_end, write_end):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        control = self.control.fileno()
        while True:
            timeout = WATCH_SECONDS if self.runtime and self.watching else None
            ready, _, _ = select.select([control, read_end], [], [], timeout)
            if read_end in ready:
                os.read(read_end, 4096)
            self.reap()
            self.watch()
            if control in ready and not self.listen():
                return

    def listen(self) -> bool:
        """Read from the socket and do what it says; False when it is closed."""
        received = self.control.recv(1 << 20)
        if not received:
            return False
        *lines, self.pending = (self.pending + received).split(b"\n")
        for line in lines:
            order = json.loads(line)
            if order["do"] == "start":
                self.start(order)
            elif order["do"] == "freeze":
                self.freeze()
            elif order["do"] == "thaw":
                self.thaw()
            elif order["do"] == "kill":
                self.kill()
            elif order["do"] == "inspect":
                self.inspect(tmp=order.get("tmp", False))
        return True

    def start(self, order: dict[str, Any]) -> None:
        """Start the runtime as the leader of a session of its own."""
        self.watching = True
        self.limit = order["memory"]
        self.highest = self.runtime_highest = 0
        child = os.fork()
        if child == 0:
            self.become(order)
        self.runtime = child
        self.tell("started", pid=child)

    def become(self, order: dict[str, Any]) -> None:
        """Turn this forked child into the runtime; never returns."""
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            null = os.open(os.devnull, os.O_RDONLY)
            os.dup2(null, 0)
            os.dup2(self.output, 1)
            os.dup2(self.output, 2)
            os.dup2(self.output, TELEMETRY)
            os.closerange(TELEMETRY + 1, 256)
            if order["user"]:
                self.become_user(*order["user"])
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # which a change of the user would take back
            os.chdir(order["directory"])
            for name, limits in order["limits"].items():
                number = getattr(resource, f"RLIMIT_{name}", None)
                if number is not None:
                    with contextlib.suppress(OSError, ValueError):  # a host's own lower limit stays
                        resource.setrlimit(number, tuple(limits))
            argv = wrapped(order["argv"], order["wrapper"])
            environ = {**order["environ"], "_LAMBDA_TELEMETRY_LOG_FD": str(TELEMETRY)}
            os.execve(argv[0], argv, environ)  # noqa: S606 (the server's own, or the function's wrapper)
        except BaseException as error:  # whatever it is, this process must not go on as a second supervisor
            with contextlib.suppress(OSError):
                os.write(2, f"cannot start the runtime: {error}\n".encode())
        os._exit(127)

    def become_user(self, uid: int, gid: int) -> None:
        """Become the function's user, who may open its own output by name too (echo > /dev/stderr)."""
        os.fchown(1, uid, gid)
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)

    def reap(self) -> None:
        """Collect the dead: orphans silently, the runtime with a word to the server."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self.runtime:
                    self.runtime = 0
                    # Kilobytes, but on macOS bytes.
                    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
                    self.runtime_highest = max(self.runtime_highest, peak)
                    self.tell("exited", status=os.waitstatus_to_exitcode(status), **self.memory())

    def watch(self) -> None:
        """Add up the memory; above the limit, end the largest process as the kernel would."""
        if not self.runtime:
            return
        everyone = descendants()
        used = sum(private_bytes(fields) for fields in everyone.values())
        self.highest = max(self.highest, used)
        self.runtime_highest = max(self.runtime_highest, everyone.get(self.runtime, {}).get("VmHWM", 0))
        self.tmp_highest = max(self.tmp_highest, used_bytes(self.tmp))
        if self.limit and used > self.limit:
            largest = max(everyone, key=lambda pid: private_bytes(everyone[pid]))
            with contextlib.suppress(ProcessLookupError):
                os.kill(largest, signal.SIGKILL)

    def freeze(self) -> None:
        """Stop every process; one that was just made by another is found in the next round."""
        stopped: set[int] = set()
        while more := descendants().keys() - stopped:
            for pid in more:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGSTOP)
            stopped |= more
        # A thread that is in the midst of a write ends that first, and may wait for a processor to do so.
        until = time.monotonic() + LONGEST_STOP
        while not all(map(has_stopped, stopped)) and time.monotonic() < until:
            time.sleep(0.001)
        self.watching = False
        self.tell("frozen")

    def thaw(self) -> None:
        """Let every process go on."""
        for pid in descendants():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGCONT)
        self.watching = True
        self.tell("thawed")

    def memory(self) -> dict[str, int]:
        """Return the highest sums seen since the runtime was started."""
        return {"highest": self.highest, "runtime_highest": self.runtime_highest}

    def kill(self) -> None:
        """End the runtime's process group; a process that called setsid lives on, as on AWS."""
        if self.runtime:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.runtime, signal.SIGKILL)

    def inspect(self, *, tmp: bool) -> None:
        """Tell the server about memory, processes and (as it takes time) the files of /tmp."""
        self.watch()
        processes = {pid: command for pid in descendants() if (command := command_of(pid))}
        files, size = tree_of(self.tmp) if tmp else ([], 0)
        sizes = {"tmp_bytes": size, "tmp_highest": self.tmp_highest}
        self.tell("inspected", processes=processes, files=files, **sizes, **self.memory())

    def end(self) -> None:
        """End every process below this one; as process 1 the kernel does it anyway."""
        self.kill()
        while everyone := [pid for pid in descendants() if command_of(pid)]:
            for pid in everyone:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            self.reap()


def main() -> None:
    """Serve the socket whose number is the first argument."""
    control, output, tmp = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    prctl(PR_SET_DUMPABLE, 0)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    # A terminal's Ctrl-C is for the server, which then closes the socket.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    supervisor = Supervisor(socket.socket(fileno=control), output, tmp)
    try:
        supervisor.run()
    finally:
        supervisor.end()


if __name__ == "__main__":
    main()
