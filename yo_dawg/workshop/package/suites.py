"""Which folders of dependencies are test suites.

A folder is one if its modules are tests, whatever its name; the name alone proves nothing (django.test is an API,
dbt keeps SQL in a folder named tests).  Which of them are kept because other code means them is said in ``prune``.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from yo_dawg.trees import folders_above

TEST_MODULE = re.compile(r"(?:test_.*|.*_test)\.py")

TEST_CODE = re.compile(
    rb"^[ \t]*(?:(?:async[ \t]+)?def[ \t]+test|class[ \t]+\w*Test|(?:import|from)[ \t]+(?:unittest|pytest|nose)\b)",
    re.MULTILINE,
)
"""What a module of tests has, other than one which just happens to be named like them: load_test.py, ttest_test.py."""

TEST_FOLDERS = ("test", "tests")
"""In a folder of this name, helpers may stand beside the tests."""

MODULE = re.compile(r".*\.(?:py|so|pyd|pyc)")

CODE = re.compile(rb"^[ \t]*(?:async|class|def|from|import|[\w.]+[ \t]*[=(])", re.MULTILINE)
"""What an __init__.py does not have that only makes a folder a package."""

MAX_LOOK = 256_000
"""Bytes of a module that are looked at for tests."""


Look = Callable[[str], bool]
"""Looks into the module of this name."""


@dataclass
class Folder:
    """A folder's modules: the names of those directly in it, and the folders below it that have any."""

    modules: list[str] = field(default_factory=list)
    folders: set[str] = field(default_factory=set)


def find_suites(files: Mapping[str, Path], owners: Mapping[str, str]) -> dict[str, str]:
    """Return for each file that is in a test suite the outermost folder that is one.

    ``files`` are those of dependencies: the name in the package, and where it lies.  ``owners`` says which
    distribution a file belongs to; one that has nothing but tests is there for these, and has no suite.
    """
    folders: dict[str, Folder] = defaultdict(Folder)
    for name in files:
        if MODULE.fullmatch(os.path.basename(name)) and not is_stale(name, files):
            parent = os.path.dirname(name)
            folders[parent].modules.append(name)
            for folder in folders_above(name):
                folders[os.path.dirname(folder)].folders.add(folder)

    def has_tests(name: str) -> bool:
        with open(files[name], "rb") as file:
            return TEST_CODE.search(file.read(MAX_LOOK)) is not None

    def is_blank(name: str) -> bool:
        with open(files[name], "rb") as file:
            return CODE.search(file.read(MAX_LOOK)) is None

    suites = set(suites_below("", folders, has_tests, is_blank))
    suite_of = {name: folder for name in files for folder in folders_above(name) if folder in suites}
    modules = [name for folder in folders.values() for name in folder.modules]
    useful = {owners.get(name) for name in modules if name not in suite_of}
    alone = {suite_of[name] for name in modules if name in suite_of and owners.get(name) not in useful}
    return {name: suite for name, suite in suite_of.items() if suite not in alone}


def is_stale(name: str, files: Mapping[str, Path]) -> bool:
    """Say whether a file is bytecode that Python does not import: what it is made of lies beside it, or should."""
    folder, file = os.path.split(name)
    return file.endswith(".pyc") and (os.path.basename(folder) == "__pycache__" or name.removesuffix("c") in files)


def suites_below(top: str, folders: Mapping[str, Folder], has_tests: Look, is_blank: Look) -> Iterator[str]:
    """Yield the outermost test suites below a folder."""
    todo = [top]
    while todo:
        for folder in folders[todo.pop()].folders:
            if os.path.basename(folder) in TEST_FOLDERS:
                is_suite = is_named_suite(folder, folders, has_tests)
            else:
                is_suite = is_pure_suite(folder, folders, has_tests, is_blank)
            if is_suite:
                yield folder
            else:
                todo.append(folder)


def is_named_suite(top: str, folders: Mapping[str, Folder], has_tests: Look) -> bool:
    """Say whether a folder named tests holds tests, with their helpers, and nothing that stands apart from them.

    A helper is a module beside tests, or anywhere below such a folder.
    """
    found, todo = False, [top]
    while todo:
        folder = folders[todo.pop()]
        tests = [name for name in folder.modules if TEST_MODULE.fullmatch(os.path.basename(name))]
        if any(map(has_tests, tests)):
            found = True
        elif tests or any(not is_beside_tests(name) for name in folder.modules):
            return False
        else:
            todo += folder.folders
    return found


def is_pure_suite(top: str, folders: Mapping[str, Folder], has_tests: Look, is_blank: Look) -> bool:
    """Say whether a folder inside of a package, of whatever name, holds tests and nothing else that could be code."""
    modules = list(modules_below(top, folders))
    tests = [name for name in modules if TEST_MODULE.fullmatch(os.path.basename(name))]
    if "/" not in top or not any(os.path.dirname(name) == top for name in tests):
        return False
    others = set(modules).difference(tests)
    return all(is_beside_tests(name) and is_blank(name) for name in others) and all(map(has_tests, tests))


def is_beside_tests(name: str) -> bool:
    """Say whether a module has a name of those that are beside tests, and do nothing else."""
    return os.path.basename(name) in ("__init__.py", "conftest.py")


def modules_below(top: str, folders: Mapping[str, Folder]) -> Iterable[str]:
    """Yield all modules in a folder and below it."""
    todo = [top]
    while todo:
        folder = folders[todo.pop()]
        yield from folder.modules
        todo += folder.folders
