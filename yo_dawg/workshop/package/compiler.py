"""A program that compiles modules on all processors.

It is started as a file by itself (see ``process.script``), and so is there in no time.
"""

from __future__ import annotations

import gc
import hashlib
import heapq
import importlib.util
import json
import marshal
import os
import re
import select
import sys
from collections.abc import Iterable, Iterator, Mapping

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


def compile_modules() -> None:
    """Compile modules, the largest first: all that are named or, of these, some and what they import.

    No process pool: there is no /dev/shm in Lambda.
    """
    job = json.load(sys.stdin)
    workers = dict(start_worker(job["root"], set(job["checked"])) for _ in range(job["workers"]))
    todo, made = Todo(job["sizes"], job["modules"]), dict[str, str]()
    idle, busy = [*workers], set[int]()
    pending = dict.fromkeys(workers, b"")
    while True:
        while idle and (name := todo.take()):
            worker = idle.pop()
            busy.add(worker)
            os.write(workers[worker], json.dumps(name).encode() + b"\n")
        if not busy:
            break
        for worker in select.select([*busy], [], [])[0]:
            said = os.read(worker, 1 << 16)
            if not said:
                sys.exit(1)  # it has told why
            pending[worker] += said
            if said.endswith(b"\n"):
                target, digest, modules = json.loads(pending[worker])
                pending[worker] = b""
                busy.remove(worker)
                idle.append(worker)
                if digest:
                    made[target] = digest
                if job["modules"] is not None:
                    for module in modules:
                        todo.want(module)
    for ask in workers.values():
        os.write(ask, b'""\n')
    with open(job["answer"], "x") as file:
        json.dump(made, file)
    for _ in workers:
        os.wait()  # or our output would stay open


def start_worker(root: str, checked: set[str]) -> tuple[int, int]:
    """Start a process that compiles one module after the other; return the pipes that it answers and is asked through.

    An empty name ends it.
    """
    (asked, ask), (told, tell) = os.pipe(), os.pipe()
    if os.fork() == 0:
        for line in os.fdopen(asked):
            name = json.loads(line)
            if not name:
                break
            answer = compile_module(root, name, name in checked)
            os.write(tell, json.dumps(answer).encode() + b"\n")
        os._exit(0)
    os.close(tell)
    os.close(asked)
    return told, ask


def compile_module(root: str, name: str, is_checked: bool) -> tuple[str, str, list[str]]:
    """Compile a module in a folder; return its bytecode's name and ``bytecode_digest``, and what it imports.

    The bytecode of dependencies is never checked against its source ("unchecked"): a check by date would
    always fail, since all files in a package have one date.  That of the project's own modules is,
    by a hash: who edits one in the Lambda console must not edit in vain.  (PEP 552 has both.)  It
    names its source as Lambda will.  Version 2 of marshal writes no references: where a later one
    puts them depends on what else the process has compiled, and two builds would differ.
    """
    gc.disable()  # there is nothing to find
    target = importlib.util.cache_from_source(name)
    with open(f"{root}/{name}", "rb") as file:
        text = file.read()
    try:
        code = compile(text, f"/var/task/{name}", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return target, "", []  # a template, or Python of another age: nobody imports it
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
    return target, hashlib.sha256(hashlib.sha256(text).digest() + content).hexdigest(), imported


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


if __name__ == "__main__":
    compile_modules()
