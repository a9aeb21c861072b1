"""The one door to subprocesses."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import re
import select
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from yo_dawg.killing import kill_below, kill_group, processes_below
from yo_dawg.text import MAX_LINE, printable

if TYPE_CHECKING:
    from yo_dawg.log import Log
    from yo_dawg.settings import Settings
    from yo_dawg.workspace import Workspace

TAIL_LINES = 20

TAIL_BYTES = 3500
"""How much of a tool's own output an error carries: contract §5 allows 4 KB."""

KEPT_LINES = 300
"""How much of it is searched for the reason of a failure."""

MAX_ANSWER = 10_000_000
"""Bytes; more is not read of what a child, in which a project's code has run, says of itself."""


class CommandFailed(Exception):
    """A child ended badly.  Never leaves this file: the stage that ran it says what that means."""

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
    is_ours: bool = False
    """No code of a project runs in it.  While any does, no prepared program may wait: it would be left alive."""


class Shell:
    """Runs programs, one at a time, and leaves nothing of them behind."""

    def __init__(self, environ: Mapping[str, str], log: Log) -> None:
        """Give each program this environment and no other; its output goes to the log."""
        self._environ = dict(environ)
        self._log = log
        self._spared = processes_below(os.getpid())
        self._prepared: dict[int, tuple[Command, subprocess.Popen[bytes]]] = {}

    def prepare(self, command: Command) -> None:
        """Start a program that will be run later; called again with its input, give it that.

        It gets ready until it wants its input.  Once a program runs that is not ours, it is killed.
        """
        process = self._take(replace(command, stdin=b"")) or self._start(command)
        if command.stdin:
            send(command.stdin, process)
        self._prepared[process.pid] = command, process

    def wake(self, command: Command) -> None:
        """Tell a prepared program, by an empty line, that it may go on getting ready: its input will follow."""
        for each, process in [*self._prepared.values()]:
            if each == command:
                with contextlib.suppress(BrokenPipeError, ValueError):  # it has ended, or has its input
                    os.write(cast(IO[bytes], process.stdin).fileno(), b"\n")

    def run(self, command: Command, meanwhile: Callable[[], object] = lambda: None) -> str:
        """Run a program to its end and return the tail of its output; raise CommandFailed.

        Once it goes on, something else may be begun.  When it ends, and also when the alarm interrupts it, all that it
        started is killed.
        """
        try:
            return self._run(command, meanwhile)
        except FileNotFoundError as error:
            raise CommandFailed(127, [str(error)]) from None

    def _start(self, command: Command) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603  # an argument list, no shell
            [str(part) for part in command.argv],
            cwd=command.cwd,
            env={**self._environ, **command.environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _run(self, command: Command, meanwhile: Callable[[], object]) -> str:
        kept: deque[str] = deque(maxlen=KEPT_LINES)
        told = self._take(command) if command.stdin else None
        ready = told or self._take(replace(command, stdin=b""))
        if not command.is_ours:
            self._drop_prepared()
        with ready or self._start(command) as process:
            try:
                if told is None:
                    send(command.stdin, process)
                meanwhile()
                for line in lines_of(process):
                    masked = self._log.mask(line)
                    kept.append(masked)
                    self._log.quote(masked)
                status = process.wait()
            finally:
                kill_group(process)
                kill_below(os.getpid(), self._spared | self._prepared.keys())
        if status != 0:
            raise CommandFailed(status, kept)
        return "\n".join(kept)

    def _take(self, command: Command) -> subprocess.Popen[bytes] | None:
        pid = next((pid for pid, (each, _) in [*self._prepared.items()] if each == command), 0)
        return self._prepared.pop(pid)[1] if pid else None

    def close(self) -> None:
        """Kill what may be left: what was not run, and more, should the alarm have rung in the midst of killing."""
        self._drop_prepared()
        kill_below(os.getpid(), self._spared)

    def _drop_prepared(self) -> None:
        while self._prepared:
            _, (_, process) = self._prepared.popitem()
            with process:
                kill_group(process)


def send(content: bytes, process: subprocess.Popen[bytes]) -> None:
    """Give a process its input, all that it gets, unless it has ended."""
    with contextlib.suppress(BrokenPipeError), cast(IO[bytes], process.stdin) as stdin:
        stdin.write(content)


source_text = functools.cache(inspect.getsource)


def program(module: str) -> list[str | Path]:
    """Return the arguments that run one of the workshop's programs; its PYTHONPATH must name the builder's folder."""
    return [sys.executable, "-P", "-s", "-m", module]


def own_program(
    program: Callable[[], None],
    *options: str,
    uses: Sequence[Callable[..., Any]] = (),
    begins: str = "from __future__ import annotations",
) -> list[str | Path]:
    """Return the arguments that run a function of this file, with others that it uses, in a new interpreter.

    That gets their sources, after some lines to begin with, and nothing else: so it starts at once.
    """
    sources = [source_text(each) for each in (*uses, program)]
    text = "\n\n".join([begins, *sources, f"{program.__name__}()"])
    return [sys.executable, "-P", *options, "-c", text]


def lines_of(process: subprocess.Popen[bytes]) -> Iterator[str]:
    """Yield the lines that a process prints, until it ends.

    Not until its output ends: what it left running in the background holds the pipe open, and
    would hold us for ever.
    """
    descriptor = cast(IO[bytes], process.stdout).fileno()
    pending = ""
    chunks_after_end = 16  # more than a pipe holds: what comes after that is of the background's making
    while chunks_after_end:
        ended = process.poll() is not None
        chunks_after_end -= ended
        if select.select([descriptor], [], [], 0 if ended else 0.05)[0]:
            chunk = os.read(descriptor, 65536)
            if not chunk:
                break
            *lines, pending = re.split(r"[\r\n]+", pending + chunk.decode(errors="replace"))
            yield from (printable(line) for line in lines if line)
            if len(pending) > MAX_LINE:
                yield printable(pending)
                pending = ""
        elif ended:
            break
    if pending:
        yield printable(pending)


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
