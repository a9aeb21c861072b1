"""The one door to other programs."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, cast

from yo_dawg import channel
from yo_dawg.killing import kill_below, kill_group, processes_below
from yo_dawg.text import MAX_LINE, printable
from yo_dawg.workspace import HERE

if TYPE_CHECKING:
    from yo_dawg.settings import Settings
    from yo_dawg.workspace import Workspace

TAIL_LINES = 20

TAIL_BYTES = 3500
"""How much of a tool's own output an error carries: contract §5 allows 4 KB."""

KEPT_LINES = 300
"""How much of it is searched for the reason of a failure."""

MAX_MESSAGE = 1 << 16
"""A longer line of a program's messages is cut here."""

PIPE_HOLDS = 1 << 16
"""Bytes: pipe(7)."""


class CommandFailed(Exception):
    """A child ended badly.  Whoever ran it says what that means: no caller of the handler sees it."""

    def __init__(self, status: int, lines: Sequence[str]) -> None:
        """Keep the exit status (negative: the signal) and the output, or its end if it was long."""
        super().__init__(status)
        self.status = status
        self.lines = lines

    @property
    def tail(self) -> str:
        """The last lines of the output, few enough for a message."""
        return "\n".join([*self.lines][-TAIL_LINES:]).encode()[-TAIL_BYTES:].decode(errors="ignore")

    @property
    def ending(self) -> str:
        """Say in words how the child ended."""
        if self.status == -signal.SIGKILL:
            return "was killed, most likely for lack of memory (raise memory_size in config.ini)"
        if self.status < 0:
            return f"was ended by {signal.Signals(-self.status).name}"
        return f"ended with exit status {self.status}"

    @property
    def quoted_tail(self) -> str:
        """The last lines of the output, on lines of their own."""
        return f"\nIts last lines:\n{self.tail}" if self.tail else "\nIt printed nothing."


@dataclass(frozen=True)
class Command:
    """A program to run."""

    argv: Sequence[str | Path]
    cwd: Path
    environ: Mapping[str, str] = field(default_factory=dict)
    """Variables beside those that every child gets."""
    stdin: bytes = field(default=b"", repr=False)


class Listener(Protocol):
    """Whoever hears what a program prints: the handler's log, or a program's report to it."""

    def mask(self, text: str) -> str:
        """Replace what nobody may see."""

    def detail(self, text: str) -> None:
        """Take down a line."""


@dataclass(frozen=True)
class Child:
    """A program of the workshop that was started, and waits for its job."""

    process: subprocess.Popen[bytes]
    channel: socket.socket
    """Where it gets its job, see ``channel.send``."""


class Shell:
    """Runs programs, one at a time, and leaves nothing of them behind.

    One thread uses it.  When a program ends, and also when the alarm interrupts the wait for it, all that it started
    is killed: whatever is found below this process, but for programs that were started and still wait for their job.
    """

    def __init__(self, environ: Mapping[str, str], log: Listener) -> None:
        """Give each program this environment and no other; what it prints goes to the log."""
        self._environ = dict(environ)
        self._log = log
        self._spared = processes_below(os.getpid())
        self._waiting: dict[int, Child] = {}

    def run(self, command: Command) -> str:
        """Run a program to its end and return the tail of its output; raise CommandFailed."""
        try:
            process = self._start(command, subprocess.PIPE)
        except FileNotFoundError as error:
            raise CommandFailed(127, [str(error)]) from None
        return self._finish(process, lambda: write_all(command.stdin, process))

    def start(self, command: Command) -> Child:
        """Start a program that gets ready, and waits until it is asked."""
        ours, theirs = socket.socketpair()
        with theirs, contextlib.ExitStack() as unless_started:
            unless_started.enter_context(ours)
            child = Child(self._start(command, theirs.fileno()), ours)
            unless_started.pop_all()
        self._waiting[child.process.pid] = child
        return child

    def ask(
        self, child: Child, job: Mapping[str, Any], files: Mapping[str, int], hear: Callable[[str], object]
    ) -> None:
        """Give a program its job, and let it run to its end; raise CommandFailed.

        Each line that it prints is heard as it is: a program of ours prints messages, see ``report``.
        """
        del self._waiting[child.process.pid]

        def give() -> None:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError), child.channel:  # it has ended
                channel.send(child.channel, job, files)

        self._finish(child.process, give, hear)

    def close(self) -> None:
        """Kill what waits, and what may be left, should the alarm have rung in the midst of killing."""
        while self._waiting:
            _, child = self._waiting.popitem()
            with child.process, child.channel:
                kill_group(child.process)
        kill_below(os.getpid(), self._spared)

    def _start(self, command: Command, stdin: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603  # an argument list, no shell
            [str(part) for part in command.argv],
            cwd=command.cwd,
            env={**self._environ, **command.environ},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _finish(
        self, process: subprocess.Popen[bytes], give: Callable[[], object], hear: Callable[[str], object] | None = None
    ) -> str:
        kept: deque[str] = deque(maxlen=KEPT_LINES)
        with process:
            try:
                give()
                for line in lines_of(process, MAX_LINE if hear is None else MAX_MESSAGE):
                    if hear and hear(line):
                        continue
                    masked = printable(self._log.mask(line))
                    kept.append(masked)
                    self._log.detail(masked)
                status = process.wait()
            finally:
                # All below first: what it started is not found any more once it has ended, unless it comes back to us.
                kill_below(os.getpid(), self._spared | self._waiting.keys())
                kill_group(process)
        if status != 0:
            raise CommandFailed(status, kept)
        return "\n".join(kept)


def write_all(content: bytes, process: subprocess.Popen[bytes]) -> None:
    """Give a process its input, all that it gets, unless it has ended."""
    with contextlib.suppress(BrokenPipeError), cast(IO[bytes], process.stdin) as stdin:
        stdin.write(content)


def program(module: str, space: Workspace) -> Command:
    """Return the command of one of the workshop's programs, which finds the builder's code and no more."""
    return Command([sys.executable, "-P", "-s", "-m", module], space.root, {"PYTHONPATH": str(HERE)})


def script(module: str, *options: str) -> list[str | Path]:
    """Return the arguments that run a file of the workshop's by itself, in an interpreter that finds none of ours."""
    return [sys.executable, "-P", *options, HERE / f"{module.replace('.', '/')}.py"]


def lines_of(process: subprocess.Popen[bytes], longest: int) -> Iterator[str]:
    """Yield the lines that a process prints, until it ends; what of one is far beyond the longest is left out.

    Not until its output ends: what it left running in the background holds the pipe open, and
    would hold us for ever.
    """
    descriptor = cast(IO[bytes], process.stdout).fileno()
    pending = ""
    left_after_end = PIPE_HOLDS  # what comes after that is of the background's making
    while left_after_end:
        ended = process.poll() is not None
        if select.select([descriptor], [], [], 0 if ended else 0.05)[0]:
            chunk = os.read(descriptor, left_after_end)
            left_after_end -= len(chunk) if ended else 0
            if not chunk:
                break
            rest, *new = re.split(r"[\r\n]+", chunk.decode(errors="replace"))
            pending = (pending + rest)[: longest + PIPE_HOLDS]
            for line in new:
                if pending:
                    yield pending
                pending = line
        elif ended:
            break
    if pending:
        yield pending


def child_environ(space: Workspace, settings: Settings) -> dict[str, str]:
    """Return the environment of children: built from nothing, so it holds no credentials.

    Lambda sets no HOME; without one uv, virtualenv and many build backends fail.
    """
    system_path = "/usr/local/bin:/usr/bin:/bin:/opt/bin"
    environ = {
        "PATH": f"{space.bin}:{Path(sys.executable).parent}:{system_path}",
        "HOME": str(space.home),
        "TMPDIR": str(space.scratch),
        "XDG_CACHE_HOME": str(space.cache),
        "UV_CACHE_DIR": str(space.cache / "uv"),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PYTHON": sys.executable,
        "PYTHONDONTWRITEBYTECODE": "1",  # a .pyc that a build leaves would differ from run to run
        "PYTHONHASHSEED": "0",
        "PYTHONUNBUFFERED": "1",
        "NO_COLOR": "1",
        "UV_NO_PROGRESS": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_SYSTEM_CERTS": "1",  # trust what pip and the system trust, also behind a company's proxy
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        **settings.client,
    }
    for ours, theirs in (("PIP_INDEX_URL", "UV_DEFAULT_INDEX"), ("PIP_EXTRA_INDEX_URL", "UV_INDEX")):
        if ours in environ and theirs not in environ:
            environ[theirs] = environ[ours]
    if settings.library_path:
        environ["LD_LIBRARY_PATH"] = settings.library_path
    return environ
