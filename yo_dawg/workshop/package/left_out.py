"""Which of a project's files are left out of its package, where no make_dist.sh says it better."""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from yo_dawg.errors import PackageError
from yo_dawg.text import printable
from yo_dawg.trees import tree_files

if TYPE_CHECKING:
    from yo_dawg.workshop.package.rules import Rules

# What of a project's tree is no use in Lambda, where no make_dist.sh says it better (contract §6).
PROJECT_ROOT_JUNK = (
    ".*",                                                          # VCS, CI, editors, .env
    "test", "tests", "test_*.py", "*_test.py", "conftest.py",      # tests
    "doc", "docs", "README*", "CHANGELOG*", "CHANGES*", "CONTRIBUTING*",
    "requirements*.txt", "requirements*.in", "constraints*.txt", "*.lock", "pylock*.toml", "Pipfile",
    "pyproject.toml", "setup.cfg", "tox.ini", "noxfile.py", "pytest.ini", "mypy.ini", "ruff.toml",
    "node_modules", "make_dist.sh",
)  # fmt: skip
"""Left out at the root of the project only: deeper down, the same name may be a module or data."""

PROJECT_JUNK = ("__pycache__", ".git", ".hg", ".svn", ".DS_Store", "*.egg-info")
"""Left out wherever it stands, as are bytecode whose source is there, and virtualenvs."""

NEVER_PUT_BACK = (*PROJECT_JUNK, ".env", ".env.*", ".envrc", ".git*", "node_modules", "make_dist.sh")
"""What no code of the project is given back although it asks for it: secrets of developers, and what no code reads."""

SECRETS = re.compile(r"\.env(?:rc|\.(?!example|sample|template|dist)[\w.-]+)?")
"""Files that mostly hold passwords; their absence is told in a warning."""

MAX_LEFT_OUT = 100
"""Names that a result lists."""

MODULE_SUFFIXES = (".py", ".pyc", ".so")


def handler_names(handlers: Sequence[str]) -> frozenset[str]:
    """Return the names at the project's root that handlers lie in: "tests.app.handler" in tests or tests.py."""
    first = {re.split(r"[./]", handler.rpartition(".")[0])[0] for handler in handlers} - {""}
    return frozenset(f"{name}{suffix}" for name in first if name for suffix in ("", *MODULE_SUFFIXES))


@dataclass(frozen=True)
class Selection:
    """Which of a project's files are left out."""

    top: Path
    """The project's folder."""
    root: Path
    """The repository's."""
    kept: frozenset[Path]
    """What the project's rules keep, and all folders above."""
    rules: Rules
    handlers: frozenset[str]
    """Names at the root that hold a handler."""
    deeper: Counter[str] = field(default_factory=Counter)
    """How often which pattern was met below the root."""
    visited: set[Path] = field(default_factory=set)
    """The folders that were looked into."""

    def ignores(self, path: Path) -> bool:
        """Say whether a file or folder, which the walk through the project meets, is left out."""
        self.visited.add(path.parent)
        pattern = None if path in self.kept else self.pattern(path)
        if pattern and path.parent != self.top:
            self.deeper[pattern] += 1
        return pattern is not None

    def pattern(self, path: Path) -> str | None:
        """Return the pattern for which a file or folder is left out, by its own name; None if it is not."""
        at_root = path.parent == self.top
        if at_root and path.name in self.handlers:
            return None
        return project_junk(path, top=at_root)

    def ships(self, name: str) -> bool:
        """Say whether a file that is not ignored ships: it is not dropped, nor in a folder only a part of which is."""
        if name in self.rules.drop:
            return False
        if not self.kept or name in self.rules.keep:
            return True
        above = [self.top / each for each in PurePosixPath(name).parents if each.name]
        return not any(each in self.kept and self.pattern(each) for each in above)

    def told(self, groups: set[str]) -> dict[str, str]:
        """Return what was left out: names at the root, and patterns of what is deeper, and which of them are groups."""
        names = [path.name for path in self.top.iterdir() if path not in self.kept and self.pattern(path)]
        partly = [path.name for path in self.top.iterdir() if path in self.kept and self.pattern(path)]
        root = {printable(name): name if name in groups else "" for name in names}
        some = {f"{printable(name)} (but for what is kept)": name for name in partly if name in groups}
        return {**root, **some, **{f"**/{pattern} ({count})": "" for pattern, count in self.deeper.items()}}


def left_out_files(selection: Selection) -> Iterator[tuple[str, Path]]:
    """Yield the files in what is left out at the project's root, but for what is never put back."""
    never = re.compile("|".join(map(fnmatch.translate, NEVER_PUT_BACK)))

    def is_never(path: Path) -> bool:
        return never.match(path.name) is not None or os.path.isfile(f"{path}/pyvenv.cfg") or path in selection.kept

    for path in selection.top.iterdir():
        if not selection.pattern(path) or never.match(path.name) or path.is_symlink():
            continue
        if path.is_dir() and not os.path.isfile(f"{path}/pyvenv.cfg"):
            with contextlib.suppress(PackageError):  # it has a link out of it: none of it is put back
                yield from [(f"{path.name}/{name}", each) for name, each in tree_files(path, selection.root, is_never)]
        elif path.is_file() and path not in selection.kept:
            yield path.name, path


def project_junk(path: Path, *, top: bool) -> str | None:
    """Return the pattern by which a file or folder of a project is of no use in Lambda; None if it may be."""
    if junk_pattern(top=top).match(path.name):
        return next(each for each in junk_names(top=top) if fnmatch.fnmatchcase(path.name, each))
    if path.suffix in (".pyc", ".pyo") and path.with_suffix(".py").is_file():
        return "*.py[co]"
    return path.name if os.path.isfile(f"{path}/pyvenv.cfg") else None


def junk_names(*, top: bool) -> tuple[str, ...]:
    """Return the patterns of such files and folders, at a project's root or below it."""
    return (*PROJECT_JUNK, *PROJECT_ROOT_JUNK) if top else PROJECT_JUNK


@functools.cache
def junk_pattern(*, top: bool) -> re.Pattern[str]:
    """Return what matches the names of such files and folders, at a project's root or below it."""
    return re.compile("|".join(map(fnmatch.translate, junk_names(top=top))))
