"""A program that compiles modules on all processors.

It is started as a file by itself (see ``process.script``), and so is there in no time.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import importlib.util
import json
import marshal
import modulefinder
import os
import select
import sys
from types import CodeType

FINDER = modulefinder.ModuleFinder(path=[])


def compile_modules() -> None:
    """Compile modules, the largest first: all that are named or, of these, some and what they import.

    No process pool: there is no /dev/shm in Lambda.
    """
    job = json.load(sys.stdin)
    sizes, checked = job["sizes"], set(job["checked"])
    workers: dict[int, int] = {}  # by the pipe that each answers through, the one that it is asked through
    for _ in range(job["workers"]):
        (asked, ask), (told, tell) = os.pipe(), os.pipe()
        if os.fork() == 0:
            for line in os.fdopen(asked):
                name = json.loads(line)
                if not name:
                    break
                answer = compile_module(job["root"], name, name in checked)
                os.write(tell, json.dumps([name, *answer]).encode() + b"\n")
            os._exit(0)
        os.close(tell)
        os.close(asked)
        workers[told] = ask
    todo: list[str] = [] if job["modules"] else [*sizes]
    unseen = set(sizes) if job["modules"] else set()
    made: dict[str, str] = {}

    def want(module: str) -> None:
        while module:  # and the packages that it is in
            path = module.replace(".", "/")
            for name in (f"{path}/__init__.py", f"{path}.py"):
                if name in unseen:
                    unseen.remove(name)
                    todo.append(name)
            module = module.rpartition(".")[0]

    for module in job["modules"] or ():
        want(module)
    idle, busy = [*workers], set[int]()
    pending = dict.fromkeys(workers, b"")
    while todo or busy:
        todo.sort(key=sizes.__getitem__)
        while todo and idle:
            worker = idle.pop()
            busy.add(worker)
            os.write(workers[worker], json.dumps(todo.pop()).encode() + b"\n")
        for worker in select.select([*busy], [], [])[0]:
            said = os.read(worker, 1 << 16)
            if not said:
                sys.exit(1)  # it has told why
            pending[worker] += said
            if said.endswith(b"\n"):
                name, target, digest, modules = json.loads(pending[worker])
                pending[worker] = b""
                busy.remove(worker)
                idle.append(worker)
                if digest:
                    made[target] = digest
                for module in modules:
                    want(module)
    for ask in workers.values():
        os.write(ask, b'""\n')
    with open(job["answer"], "x") as file:
        json.dump(made, file)
    for _ in workers:
        os.wait()  # or our output would stay open


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
    imported: list[str] = []
    with contextlib.suppress(LookupError, TypeError):  # it is a guess, and another Python may write it otherwise
        imported = imports_of(code, name.rpartition("/")[0].replace("/", "."))
    return target, hashlib.sha256(hashlib.sha256(text).digest() + content).hexdigest(), imported


def imports_of(code: CodeType, package: str) -> list[str]:
    """Return the dotted names of what a module imports once it is run: modules, and what is in them.

    Not what functions import when they are called.
    """
    found = []
    for what, arguments in FINDER.scan_opcodes(code):
        if what not in ("absolute_import", "relative_import"):
            continue
        level, names, module = (0, *arguments) if what == "absolute_import" else arguments
        parts = package.split(".")
        above = ".".join(parts[: len(parts) - level + 1]) if level else ""
        imported = ".".join(filter(None, [above, module]))
        found += [imported, *(f"{imported}.{each}" for each in names or ())]
    return found


if __name__ == "__main__":
    compile_modules()
