"""A program that imports a handler as Lambda does.

It is started as a file by itself (see ``process.script``): neither the builder's modules nor its folder can be found
in it, and this file imports nothing before it is asked to.
"""

from __future__ import annotations


def import_handler() -> None:
    """Import a handler as Lambda does, and write down what that took."""
    import gc
    import importlib
    import importlib.machinery
    import json
    import os
    import signal
    import site
    import sys
    import time
    import traceback
    import types

    gc.set_threshold(1_000_000)  # in what is all new there is no garbage, and to look for it takes a tenth of the time
    job = json.load(sys.stdin)
    task = job["path"][0] + "/"
    sought = set()
    spent = {}

    class Misses:
        """The last of the finders: it is asked for a module when no other knows it."""

        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> None:
            sought.add(name.replace(".", "/"))

    def watch(event: str, args: tuple[object, ...]) -> None:
        if event in ("open", "os.listdir", "os.scandir") and isinstance(args[0], (str, bytes, os.PathLike)):
            name = os.path.join(task, os.fsdecode(args[0]))
            if name.startswith(task):
                sought.add(os.path.normpath(name)[len(task) :])

    def measure(loader: type[importlib.machinery.SourceFileLoader]) -> None:
        """Have a kind of loader note how long each module takes, with all that it imports itself."""
        load = loader.exec_module

        def timed(self: importlib.machinery.SourceFileLoader, module: types.ModuleType) -> None:
            name, began = str(getattr(module, "__name__", "")), time.perf_counter_ns()
            try:
                load(self, module)
            finally:
                spent[name] = (time.perf_counter_ns() - began) // 1000

        # Python leaves the lines of its import system out of tracebacks: it knows them by this file and this name.
        timed.__code__ = timed.__code__.replace(
            co_filename="<frozen importlib._bootstrap>", co_name="_call_with_frames_removed"
        )
        loader.exec_module = timed  # type: ignore[assignment]

    os.chdir(task)
    os.environ.clear()
    os.environ.update(job["environ"])
    sys.path[:] = [*job["path"], *(each for each in sys.path if each not in job["path"])]
    sys.meta_path.append(Misses)
    sys.addaudithook(watch)
    signal.alarm(job["seconds"])
    for each in ("SourceFileLoader", "SourcelessFileLoader", "ExtensionFileLoader"):
        measure(getattr(importlib.machinery, each))
    failure, hopeless, took = None, False, dict(spent)
    try:
        for each in job["sites"]:
            site.addsitedir(each)
        try:
            module = importlib.import_module(job["module"])
        finally:
            took = dict(spent)  # without what a traceback imports
        if not hasattr(module, job["function"]):
            failure, hopeless = f"{job['module']} defines no {job['function']!r}", True
    except BaseException as error:
        traceback.print_exc()
        failure = traceback.format_exception_only(error)[-1].strip()
        hopeless = isinstance(error, (ImportError, SyntaxError)) or is_nested_too_deep(error, job["module"])
    files = [str(getattr(each, "__file__", None)) for each in list(sys.modules.values())]
    loaded = [os.path.relpath(name, task) for name in files if name.startswith(task)]
    missed = [name for name in sought if not os.path.lexists(task + name)]
    slowest = sorted(took.items(), key=lambda each: -each[1])[: job["most_imports"]]
    said = {"loaded": loaded, "sought": missed, "failure": failure, "hopeless": hopeless, "imports": slowest}
    with open(job["answer"], "x") as file:
        json.dump(said, file)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # not held up by threads that the import has started


def is_nested_too_deep(error: BaseException, module: str) -> bool:
    """Say whether Python's parser has given up on code, which it says by a MemoryError; of 3.11, without a word."""
    if not isinstance(error, MemoryError):
        return False
    if "Parser stack overflowed" in str(error):
        return True
    import importlib.util

    spec = importlib.util.find_spec(module)
    if spec is None or not str(spec.origin).endswith(".py"):
        return False
    try:
        with open(str(spec.origin), "rb") as file:
            compile(file.read(), "<handler>", "exec")
    except MemoryError:
        return True
    return False


if __name__ == "__main__":
    import_handler()
