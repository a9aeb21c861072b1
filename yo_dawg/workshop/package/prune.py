"""Taking out of the dependencies what Lambda has no use for."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from yo_dawg.builder import RUNTIME_PROVIDES
from yo_dawg.text import size
from yo_dawg.trees import folders_above, move, test_suite
from yo_dawg.workshop.package.install import INSTALLER_FILES
from yo_dawg.workshop.package.suites import imported_suites

if TYPE_CHECKING:
    from yo_dawg.trees import Listing
    from yo_dawg.workshop.package.install import Installed
    from yo_dawg.workshop.package.rules import Rules
    from yo_dawg.workspace import Workspace

DOC_DIRECTORIES = ("doc", "docs", "man")
"""Documentation.  A folder of this name that holds a Python file is code (botocore.docs) and is kept."""

BUILD_SUFFIXES = (".h", ".hh", ".hpp", ".hxx", ".pxd", ".pyx", ".pxi", ".a")
"""What only compilers read; Lambda has none.  In pyarrow it is a tenth of all files."""

STUB_SUFFIX = ".pyi"

SPEAKS_OF_STUBS = ("attach_stub", '.pyi"', ".pyi'")
"""Types, for tools.  A package whose code reads stubs (scikit-image does, by lazy_loader) keeps its own."""

DROPPED = "dropped by the project"


class Taken(NamedTuple):
    """A file that was taken out of the dependencies."""

    reason: str
    group: str
    """The folder or file, relative to staging, that went, and would be put back, as a whole."""
    bytes: int


@dataclass(frozen=True)
class Pruned:
    """What was taken out of the dependencies.  It lies in pruned/, in case it turns out to be needed."""

    taken: Mapping[str, Taken]
    kept: Mapping[str, str]
    """Groups that were kept, or put back, and why."""
    bring: Callable[[], object] | None = field(default=None, compare=False, repr=False)
    """Where it does not lie in pruned/: puts it there."""

    files = property(lambda self: len(self.taken))
    bytes = property(lambda self: sum(each.bytes for each in self.taken.values()))

    @property
    def reasons(self) -> dict[str, int]:
        """Bytes by reason, the largest first."""
        counted: Counter[str] = Counter()
        for each in self.taken.values():
            counted[each.reason] += each.bytes
        return dict(counted.most_common())


def prune(listing: Listing, installed: Installed, rules: Rules, space: Workspace) -> Pruned:
    """Move what dependencies bring that Lambda does not need out of staging, where nothing else is yet.

    The project's own rules come first.
    """
    files = {name: path for name, path, _ in listing}
    suite_of = {name: test_suite(name) for name in files}
    suites = {suite for suite in suite_of.values() if suite}
    stubbed: set[str] = set()
    kept = dict(installed.kept)
    for name, path in files.items():
        if name.endswith((".py", ".dist-info/entry_points.txt")) and not suite_of[name]:
            text = path.read_text(errors="replace")
            if any(word in text for word in SPEAKS_OF_STUBS):
                stubbed.add(name.partition("/")[0])
            if path.name != "conftest.py":  # which only pytest reads
                kept |= imported_suites(text, name, suites)
    going = {name: suite for name, suite in suite_of.items() if suite and suite not in kept}
    code_folders = {
        folder for name in files.keys() - going if name.endswith((".py", ".so")) for folder in folders_above(name)
    }
    provided = {name for name in files if installed.owners.get(name, "").lower() in installed.provided}
    if provided & rules.keep:
        provided = set()
    taken: dict[str, Taken] = {}
    for name, path, status in listing:
        found: tuple[str, str] | None
        if name in rules.keep:
            continue
        if name in rules.drop:
            found = DROPPED, name
        elif name in provided:
            found = "provided by the runtime", RUNTIME_PROVIDES[0]
        elif name in going:
            found = "tests", going[name]
        else:
            found = disposal(path, name, code_folders, stubbed)
        if found:
            taken[name] = Taken(*found, status.st_size)
    move(taken, space.staging, space.pruned)
    return Pruned(taken, kept)


def restore(space: Workspace, pruned: Pruned, groups: Mapping[str, str]) -> Pruned:
    """Move these groups back into staging, each for a reason."""
    back = {name: each for name, each in pruned.taken.items() if each.group in groups}
    if pruned.bring and not all(os.path.lexists(space.pruned / name) for name in back):
        pruned.bring()
    move(back, space.pruned, space.staging)
    sizes: Counter[str] = Counter()
    for each in back.values():
        sizes[each.group] += each.bytes
    kept = {group: f"{size(sizes[group])}: {groups[group]}" for group in sizes}
    left = {name: each for name, each in pruned.taken.items() if name not in back}
    return replace(pruned, taken=left, kept={**pruned.kept, **kept})


def disposal(path: Path, name: str, code_folders: set[str], stubbed: set[str]) -> tuple[str, str] | None:
    """Say why a file of a dependency, other than its tests, is of no use in Lambda, and what goes with it."""
    for folder in folders_above(name):
        if os.path.basename(folder) in DOC_DIRECTORIES and folder not in code_folders:
            return "documentation", folder
    parent, file = os.path.split(name)
    suffix = os.path.splitext(file)[1]
    if name == ".lock" or (parent.endswith(".dist-info") and file in INSTALLER_FILES):
        return "installer's records", name
    if name.startswith("bin/") and is_python_script(path):
        return "console scripts", name
    if suffix in (".pyc", ".pyo") and (os.path.basename(parent) == "__pycache__" or path.with_suffix(".py").exists()):
        return "stale bytecode", name
    if suffix in BUILD_SUFFIXES:
        return "what only compilers read", name
    if suffix == STUB_SUFFIX and name.partition("/")[0] not in stubbed:
        return "type stubs", name
    return None


def is_python_script(path: Path) -> bool:
    """Say whether a file is a script for Python, which names the builder's interpreter in its first line."""
    with path.open("rb") as file:
        first = file.readline(200)
    return first.startswith(b"#!") and (b"python" in first or first.startswith(b"#!/bin/sh"))


def keep_imported(listing: Listing, installed: Installed, pruned: Pruned, space: Workspace) -> Pruned:
    """Put back the test suites that the project's own code imports."""
    suites = {each.group for each in pruned.taken.values() if each.reason == "tests"}
    if not suites:
        return pruned
    found: dict[str, str] = {}
    for name, path, _ in listing:
        if name.endswith(".py") and name not in installed.owners:
            found |= imported_suites(path.read_text(errors="replace"), name, suites)
    return restore(space, pruned, found)
