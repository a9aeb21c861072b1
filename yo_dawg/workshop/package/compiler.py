"""Compiling modules, on all processors.

What parses them are processes that are forked: one that a module kills, or has fill the memory, ends alone.
"""

from __future__ import annotations

import contextlib
import gc
import heapq
import importlib.util
import json
import marshal
import os
import re
import select
import signal
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from yo_dawg.process import CommandFailed
from yo_dawg.workshop.archive import record_digest

TEXT = re.compile(rb"\"\"\".*?\"\"\"|'''.*?'''", re.DOTALL)
"""Examples in it import much."""

LATER = re.compile(rb"^([ \t]*)(?:async def|def|if (?:\w+\.)?TYPE_CHECKING)\b.*\n(?:(?:\1[ \t)].*)?\n)*", re.MULTILINE)
"""What is not run when a module is imported: functions, and what is there for type checkers."""

IMPORT = re.compile(
    r"^[ \t]*(?:import[ \t]+((?:\\\n|[^\n;])+)"
    r"|from[ \t]{1,9}(\.{0,9})[ \t]{0,9}([\w.]{0,200})[ \t]{1,9}import\b[ \t]*(\([^()]*\)|(?:\\\n|[^\n;])*))",
    re.MULTILINE,
)
"""With bounds, so that no text, however it was made, takes longer than its length."""

COMMENT = re.compile(r"#.*")

Digests = tuple[str, str]
"""Of a module and of its bytecode, see ``record_digest``."""


class Todo:
    """What is still to be compiled: all modules or, as they are found out, those that some of them import."""

    def __init__(self, sizes: Mapping[str, int], modules: Iterable[str] | None) -> None:
        """Take the bytes of each module's file, and the dotted names of those that are imported; None: all are."""
        self._sizes = sizes
        self._unseen = set(sizes)
        self._files = [(-size, name) for name, size in sizes.items()] if modules is None else []
        heapq.heapify(self._files)
        for module in modules or ():
            self.want(module)

    def want(self, module: str) -> None:
        """Have a module compiled, and the packages that it is in, if they are there and not yet asked for."""
        while module:
            path = module.replace(".", "/")
            for name in (f"{path}/__init__.py", f"{path}.py"):
                if name in self._unseen:
                    self._unseen.remove(name)
                    heapq.heappush(self._files, (-self._sizes[name], name))
            module = module.rpartition(".")[0]

    def take(self) -> str | None:
        """Return the largest."""
        return heapq.heappop(self._files)[1] if self._files else None


@dataclass(frozen=True)
class Worker:
    """A process that compiles one module after the other."""

    pid: int
    ask: int
    """The pipe that it is given names through, a line each."""
    told: int
    """The pipe that it answers through."""

    def give(self, name: str) -> None:
        """Have it compile a module."""
        with contextlib.suppress(BrokenPipeError):  # it has ended: so its answer tells
            os.write(self.ask, json.dumps(name).encode() + b"\n")

    def answer(self) -> Any:
        """Wait for its answer; raise CommandFailed if it ends instead, or says why it cannot give one."""
        said = bytearray()
        while not said.endswith(b"\n"):
            piece = os.read(self.told, 1 << 16)
            if not piece:
                _, status = os.waitpid(self.pid, 0)
                raise CommandFailed(os.waitstatus_to_exitcode(status), [])
            said += piece
        answer = json.loads(said)
        if isinstance(answer, str):
            raise CommandFailed(1, [answer])
        return answer

    def end(self) -> None:
        """End it, whatever it is at."""
        os.close(self.ask)
        os.close(self.told)
        with contextlib.suppress(ChildProcessError):  # it has ended, and we know that
            if os.waitpid(self.pid, os.WNOHANG) == (0, 0):
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)


def compile_modules(
    root: str, sizes: Mapping[str, int], modules: Iterable[str] | None, checked: Collection[str]
) -> dict[str, Digests]:
    """Compile modules in a folder, the largest first: all that are named or, of these, some and what they import.

    Returns, for each file of bytecode, the digests of its source and of itself.  ``checked``: see ``compile_module``.
    Raises CommandFailed.
    No thread may run beside it, since it forks.  It takes no process pool: there is no /dev/shm in Lambda.
    """
    todo, made = Todo(sizes, modules), dict[str, Digests]()
    idle, busy = list[Worker](), dict[int, Worker]()
    most = os.cpu_count() or 1
    try:
        while True:
            while (idle or len(busy) < most) and (name := todo.take()):
                worker = idle.pop() if idle else start_worker(root, checked)
                busy[worker.told] = worker
                worker.give(name)
            if not busy:
                return made
            for told in select.select([*busy], [], [])[0]:
                target, digests, imported = busy[told].answer()
                idle.append(busy.pop(told))
                if digests:
                    made[target] = (digests[0], digests[1])
                for module in imported if modules is not None else ():
                    todo.want(module)
    finally:
        for worker in (*idle, *busy.values()):
            worker.end()


def start_worker(root: str, checked: Collection[str]) -> Worker:
    """Start a process that compiles one module after the other; raise CommandFailed if the system has no room."""
    try:
        (asked, ask), (told, tell) = os.pipe(), os.pipe()
        pid = os.fork()
    except OSError as error:
        raise CommandFailed(1, [str(error)]) from None
    if pid == 0:
        try:
            os.close(ask)
            os.close(told)
            compile_what_is_asked(asked, tell, root, checked)
        finally:  # whatever happens, it does not go on as another package program
            os._exit(1)
    os.close(tell)
    os.close(asked)
    return Worker(pid, ask, told)


def compile_what_is_asked(asked: int, tell: int, root: str, checked: Collection[str]) -> None:
    """Compile until nobody asks any more; of an error tell in one line."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for output in (1, 2):  # which the handler reads: Python warns there, and names the file, whatever its name is
        os.dup2(nowhere, output)
    gc.disable()  # there is nothing to find
    try:
        for line in os.fdopen(asked):
            name = json.loads(line)
            os.write(tell, json.dumps(compile_module(root, name, name in checked)).encode() + b"\n")
    except BaseException as error:
        os.write(tell, json.dumps(f"{type(error).__name__}: {error}").encode() + b"\n")


def compile_module(root: str, name: str, is_checked: bool) -> tuple[str, Digests | None, list[str]]:
    """Compile a module in a folder; return its bytecode's name, the digests of both, and what it imports.

    The bytecode of dependencies is never checked against its source ("unchecked"): a check by date would
    always fail, since all files in a package have one date.  That of the project's own modules is,
    by a hash: who edits one in the Lambda console must not edit in vain.  (PEP 552 has both.)  It
    names its source as Lambda will.  Version 2 of marshal writes no references: where a later one
    puts them depends on what else the process has compiled, and two builds would differ.
    """
    target = importlib.util.cache_from_source(name)
    with open(f"{root}/{name}", "rb") as file:
        text = file.read()
    try:
        code = compile(text, f"/var/task/{name}", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return target, None, []  # a template, or Python of another age: nobody imports it
    try:
        content = marshal.dumps(code, 2)
    except ValueError:
        content = marshal.dumps(code)  # Python 3.14 has constants that version 2 cannot write
    flags = b"\3\0\0\0" if is_checked else b"\1\0\0\0"
    content = importlib.util.MAGIC_NUMBER + flags + importlib.util.source_hash(text) + content
    os.makedirs(os.path.dirname(f"{root}/{target}"), exist_ok=True)
    with open(f"{root}/{target}", "xb") as file:
        file.write(content)
    imported = [*imports_of(text, name.rpartition("/")[0].replace("/", "."))]
    return target, (record_digest(text), record_digest(content)), imported


def imports_of(text: bytes, package: str) -> Iterator[str]:
    """Yield the dotted names of what a module imports once it is run, as far as its lines tell: modules, and in them.

    Not what functions import when they are called, nor what is there for type checkers only.
    """
    parts = package.split(".")
    for plain, dots, module, names in IMPORT.findall(LATER.sub(b"", TEXT.sub(b"", text)).decode(errors="replace")):
        above = ".".join(parts[: len(parts) - len(dots) + 1]) if dots else ""
        imported = ".".join(filter(None, [above, module]))
        if imported:
            yield imported
        for each in COMMENT.sub("", plain or names).strip("()").split(","):
            name = each.partition(" as ")[0].strip(" \t\r\n\\")
            yield ".".join(filter(None, [imported, name]))
