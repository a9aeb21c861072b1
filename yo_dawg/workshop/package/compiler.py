"""A program that compiles modules on all processors."""

from __future__ import annotations

from typing import Any


def compile_modules() -> None:
    """Compile modules, on all processors, the largest first.  Runs as a program of its own, like ``import_handler``.

    All that are named, or, of these, some and what they import.  No process pool: there is no /dev/shm in Lambda.
    """
    import contextlib  # noqa: F401  # that it is there when it is needed
    import gc  # noqa: F401
    import hashlib  # noqa: F401
    import importlib.util  # noqa: F401
    import json
    import marshal  # noqa: F401
    import os
    import select
    import sys

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
    import contextlib
    import gc
    import hashlib
    import importlib.util
    import marshal
    import os

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


def imports_of(code: Any, package: str) -> list[str]:
    """Return the dotted names of what a module's bytecode imports once it is run: modules, and what is in them.

    Not what functions import when they are called, and nothing for type checkers.  An import is three instructions
    (see the dis module): how many packages up, which names, both constants but in Python 3.14, and IMPORT_NAME.
    """
    import sys
    from opcode import opmap

    operations, arguments, found = code.co_code[::2], code.co_code[1::2], []

    def instruction(at: int) -> tuple[int, int, int]:
        """Return an instruction, its whole argument, and where the one before it is."""
        argument, shift, before = arguments[at], 8, at - 1
        while before >= 0 and operations[before] == opmap["EXTENDED_ARG"]:
            argument |= arguments[before] << shift
            shift, before = shift + 8, before - 1
        return operations[at], argument, before

    def positions(name: str) -> list[int]:
        each, all_of_them = opmap.get(name, 256), []
        at = operations.find(each) if each < 256 else -1
        while at >= 0:
            all_of_them.append(at)
            at = operations.find(each, at + 1)
        return all_of_them

    typing = []  # where what is for type checkers begins and ends
    if "TYPE_CHECKING" in code.co_names:
        jumps = [*positions("POP_JUMP_IF_FALSE"), *positions("POP_JUMP_FORWARD_IF_FALSE")]
        loads = [("LOAD_NAME", 0), ("LOAD_ATTR", int(sys.version_info >= (3, 12)))]
        for name, shift in loads:
            for at in positions(name):
                argument = instruction(at)[1] >> shift
                if argument < len(code.co_names) and code.co_names[argument] == "TYPE_CHECKING":
                    typing += [(jump, jump + 1 + instruction(jump)[1]) for jump in jumps if at < jump < at + 16][:1]
    for at in positions("IMPORT_NAME"):
        _, argument, before = instruction(at)
        _, names_at, before = instruction(before)
        operation, level, _ = instruction(before)
        if any(begin < at < end for begin, end in typing):
            continue
        names = code.co_consts[names_at] or ()
        level = level if operation == opmap.get("LOAD_SMALL_INT") else code.co_consts[level]
        parts = package.split(".")
        above = ".".join(parts[: len(parts) - level + 1]) if level else ""
        module = ".".join(filter(None, [above, code.co_names[argument]]))
        found += [module, *(f"{module}.{each}" for each in names)]
    return found
