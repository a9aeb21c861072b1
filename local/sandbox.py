"""Sandboxes: where functions run, with walls (bubblewrap) or, where there can be none, without.

With walls a function sees what it sees in Lambda: a read-only root without git, gcc or tar, its code in /var/task,
a /tmp of its own, its own processes, one user. Nothing else of this machine is there but its network.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from local.runtimes import RuntimeImage
from local.walls import GID, SUPERVISOR, UID, Door, bwrap, two_users, wall_arguments

# As recorded in Lambda. Threads and processes are counted per user namespace, so only walls can have NPROC.
GB = 2**30
UNLIMITED = -1
LIMITS = {
    "NOFILE": (1024, 1024),
    "MEMLOCK": (64 * 1024, 64 * 1024),
    "STACK": (8 * 1024 * 1024, UNLIMITED),
    "CORE": (10 * GB, 10 * GB),
}
LIMITS_WITH_WALLS = LIMITS | {"NPROC": (742, 742)}

# A supervisor that does not answer within this time is broken, or the machine is.
ANSWER_SECONDS = 30.0


class SandboxError(Exception):
    """A sandbox could not be started, or does not answer."""


@dataclass(frozen=True)
class Room:
    """What a sandbox is made of."""

    image: RuntimeImage
    task: Path
    """The unpacked code, which becomes /var/task."""
    layers: Path | None
    """The unpacked layers, which become /opt."""
    tmp_bytes: int
    memory_bytes: int
    walls: bool
    scratch: Path
    """A directory of the server's, for /tmp where there are no walls."""
    readable: Sequence[Path] = ()
    """Further files and directories of the host that the function may read, at their own names (not below /usr, /var,
    /etc and /dev, which are Lambda's), if they may be read by anybody."""


@dataclass(frozen=True)
class Inspection:
    """What a supervisor says about its sandbox."""

    processes: Mapping[int, str]
    files: Sequence[str]
    tmp_bytes: int
    tmp_highest: int
    """The most that /tmp was seen to hold, in bytes; 0 where it is a folder of this machine's."""
    highest: int
    runtime_highest: int


@dataclass(frozen=True)
class Exit:
    """How the runtime ended: its status as subprocess has it (negative: a signal)."""

    status: int
    highest: int
    runtime_highest: int


class Launcher:
    """The one thread that starts sandboxes.

    bubblewrap can tie a sandbox's life to the thread that started it (PR_SET_PDEATHSIG does so for any child):
    a sandbox that is to survive a request must not be started by that request's thread.
    """

    def __init__(self) -> None:
        """Start the thread."""
        self.orders: queue.SimpleQueue[tuple[Callable[[], Any], queue.SimpleQueue[Any]] | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self.work, name="sandbox-launcher", daemon=True)
        self.thread.start()

    def work(self) -> None:
        """Carry out the orders until there are no more."""
        while (order := self.orders.get()) is not None:
            action, answer = order
            try:
                answer.put((action(), None))
            except OSError as error:
                answer.put((None, error))

    def popen(self, command: Sequence[str], descriptors: Sequence[int]) -> subprocess.Popen[bytes]:
        """Start a process with an empty environment, which holds only these descriptors of ours."""

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(  # noqa: S603 (the command is bubblewrap or our supervisor)
                command, env={}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                pass_fds=descriptors, start_new_session=True,
            )  # fmt: skip

        answer: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.orders.put((start, answer))
        process, error = answer.get()
        if error:
            raise SandboxError(f"cannot start {command[0]}: {error}") from error
        return process  # type: ignore[no-any-return]

    def close(self) -> None:
        """End the thread."""
        self.orders.put(None)
        self.thread.join()


@dataclass
class Sandbox:
    """A running sandbox, in which a runtime can be started, ended and started again."""

    room: Room
    launcher: Launcher
    on_exit: Callable[[Exit], None]
    output: int = -1
    """The end of the pipe that the runtime writes to; the server may write marks to it."""
    reading: int = -1
    """The other end, which its owner reads and closes."""
    tmp: Path = Path("/tmp")  # noqa: S108
    runtime_pid: int = 0
    closing: bool = False
    answers: queue.SimpleQueue[dict[str, Any] | None] = field(default_factory=queue.SimpleQueue)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """Start the supervisor, in its walls if it is to have some."""
        self.reading, self.output = os.pipe()
        if not self.room.walls:
            self.tmp = Path(tempfile.mkdtemp(dir=self.room.scratch, prefix="tmp-"))
        self.control, inner = socket.socketpair()
        users = two_users() if self.room.walls else None
        door = Door(users) if users else None
        self.user = (UID, GID) if users else None
        with inner:
            arguments = [str(inner.fileno()), str(self.output), str(self.tmp)]
            given = (inner.fileno(), self.output, *(door.given if door else ()))
            try:
                self.process = self.launcher.popen(self.command(arguments, door), given)
            finally:
                if door:
                    door.close_given()
        if door:
            door.open()
        self.errors = cast(IO[bytes], self.process.stderr)
        self.thread = threading.Thread(target=self.listen, name="sandbox-events", daemon=True)
        self.thread.start()

    def command(self, arguments: list[str], door: Door | None) -> list[str]:
        """Return the command that starts the supervisor."""
        if not self.room.walls:
            return [self.inside(self.room.image.python), "-I", "-S", str(SUPERVISOR), *arguments]
        walls = [*(door.arguments if door else ()), *wall_arguments(self.room), "--chdir", "/var/task"]
        supervisor = [self.room.image.python, "-I", "-S", "/var/rapid/supervisor.py"]
        return [str(bwrap()), *walls, "--", *supervisor, *arguments]

    def inside(self, path: str) -> str:
        """Return the name that a path of Lambda's has for the function: its own, if there are walls."""
        if self.room.walls:
            return path
        if path == "/tmp":  # noqa: S108
            return str(self.tmp)
        for place, real in (("/var/task", self.room.task), ("/opt", self.room.layers)):
            if path == place or path.startswith(place + "/"):
                return f"{real}{path[len(place) :]}" if real else path
        return f"{self.room.image.root}{path}"

    def listen(self) -> None:
        """Pass on what the supervisor says, until it ends."""
        # A supervisor that was killed with an order unread resets the connection instead of closing it.
        with contextlib.suppress(ConnectionResetError), self.control.makefile("rb") as lines:
            for line in lines:
                event = json.loads(line)
                if event.pop("event") == "exited":
                    self.on_exit(Exit(**event))
                else:
                    self.answers.put(event)
        self.answers.put(None)
        if not self.closing:  # the supervisor itself ended, and its runtime with it
            self.on_exit(Exit(-9, 0, 0))

    def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        """Send an order and wait for the answer."""
        with self.lock:
            try:
                self.control.sendall(json.dumps(order).encode() + b"\n")
                answer = self.answers.get(timeout=ANSWER_SECONDS)
            except (OSError, queue.Empty) as error:
                raise SandboxError(f"the sandbox does not answer: {error!r}") from error
        if answer is None:
            self.answers.put(None)
            raise SandboxError(f"the sandbox ended: {self.complaint()}")
        return answer

    def complaint(self) -> str:
        """Return what bubblewrap or the supervisor wrote before it ended."""
        self.process.wait()
        with contextlib.suppress(ValueError):  # closed in the meantime
            return self.errors.read().decode("utf-8", "replace").strip()
        return "it was closed"

    def start(self, argv: Sequence[str], environ: Mapping[str, str], wrapper: str | None = None) -> None:
        """Start the runtime, by a wrapper if it is to have one."""
        self.runtime_pid = self.ask(
            {
                "do": "start",
                "argv": list(argv),
                "wrapper": wrapper,
                "environ": dict(environ),
                "directory": self.inside("/var/task"),
                "limits": LIMITS_WITH_WALLS if self.room.walls else LIMITS,
                "user": self.user,
                "memory": self.room.memory_bytes,
            }
        )["pid"]

    @property
    def gone(self) -> bool:
        """Say whether the whole sandbox has ended, which only something outside of it can bring about."""
        return self.process.poll() is not None

    def freeze(self) -> None:
        """Stop every process, until thaw: so it is between invocations."""
        self.ask({"do": "freeze"})

    def thaw(self) -> None:
        """Let every process go on, and have the memory watched."""
        self.ask({"do": "thaw"})

    def kill(self) -> None:
        """End the runtime's process group; on_exit is called when it is done."""
        with self.lock, contextlib.suppress(OSError):
            self.control.sendall(b'{"do": "kill"}\n')

    def inspect(self, *, tmp: bool = False) -> Inspection:
        """Look at the sandbox's memory and processes and, if asked to, at its /tmp."""
        answer = self.ask({"do": "inspect", "tmp": tmp})
        return Inspection(**(answer | {"processes": {int(pid): line for pid, line in answer["processes"].items()}}))

    def abandon(self) -> None:
        """End everything in the sandbox, while someone else still waits for its answer."""
        with contextlib.suppress(OSError):
            self.control.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """End everything in the sandbox, and wait until it has ended."""
        self.closing = True
        self.abandon()
        try:
            self.process.wait(ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.thread.join()

    def close(self) -> None:
        """Forget a sandbox that has ended, and its /tmp."""
        self.control.close()
        self.errors.close()
        os.close(self.output)
        if not self.room.walls:
            shutil.rmtree(self.tmp, ignore_errors=True)
