"""What a project itself says of its package, in [tool.yo-dawg]."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from yo_dawg.errors import PackageError
from yo_dawg.process import Command, CommandFailed, program
from yo_dawg.text import printable
from yo_dawg.trees import tree_files
from yo_dawg.workshop.own_settings import read_table

if TYPE_CHECKING:
    from yo_dawg.workshop.package.install import Installer

SECONDS_TO_MATCH = 30
"""A pattern can be made to match for ever."""


@dataclass(frozen=True)
class Rules:
    """What a project itself says of its package, in [tool.yo-dawg] of its pyproject.toml."""

    keep: frozenset[str] = frozenset()
    """Files, relative to the package's root, that stay whatever we think of them."""
    drop: frozenset[str] = frozenset()
    """Files that go."""
    runtime_boto3: bool = False
    """Whether boto3, and what it needs, is left to the runtime where the runtime's own versions fit."""
    warnings: tuple[str, ...] = ()


def read_patterns(project: Path) -> dict[str, list[str]]:
    """Return the patterns, by "keep" and "drop", in a project's pyproject.toml; raise PackageError."""
    return {name: value for name, value in read_table(project).items() if name in ("keep", "drop")}


def read_rules(installer: Installer, pruned: Iterable[str] = ()) -> Rules:
    """Find the files, installed (some are pruned already) or the project's, that its patterns match."""
    checkout, space = installer.checkout, installer.space
    patterns = read_patterns(checkout.project)
    runtime_boto3 = read_table(checkout.project).get("runtime_boto3", False)
    if not any(patterns.values()):
        return Rules(runtime_boto3=runtime_boto3)
    top = "" if checkout.project == checkout.root else f"{checkout.project.relative_to(checkout.root).as_posix()}/"
    names = sorted({name for name, _ in tree_files(space.staging)} | set(pruned))
    own = checkout.files | checkout.outside_links.keys()
    names += [name.removeprefix(top) for name in own if name.startswith(top)]
    answer = space.root / "matched.json"
    job = {"patterns": patterns, "names": names, "answer": str(answer), "seconds": SECONDS_TO_MATCH}
    matcher = program("yo_dawg.workshop.package.rules", space)
    worker = Command(
        matcher.argv,
        cwd=space.root,
        environ={"PYTHONPATH": f"{matcher.environ['PYTHONPATH']}:{space.toolchain / 'site-packages'}"},
        stdin=json.dumps(job).encode(),
    )
    try:
        installer.shell.run(worker)
        said = json.loads(answer.read_bytes())
    except (CommandFailed, OSError, ValueError) as error:
        how = f"the search {error.ending}.{error.quoted_tail}" if isinstance(error, CommandFailed) else str(error)
        raise PackageError(
            "The patterns in [tool.yo-dawg] in pyproject.toml cannot be matched; with several * in one name that may "
            f"take for ever: {how}"
        ) from None
    idle = [f"the pattern {printable(each)!r} in [tool.yo-dawg] matches nothing" for each in said["idle"]]
    keep, drop = frozenset(said.get("keep", ())), frozenset(said.get("drop", ()))
    return Rules(keep, drop, runtime_boto3, tuple(idle))


def match_worker() -> None:
    """Match names with patterns in gitignore's syntax, which Dulwich knows.  Runs as a program of its own."""
    from dulwich.ignore import IgnoreFilter

    job = json.load(sys.stdin)
    signal.alarm(job["seconds"])

    def matched(patterns: Sequence[str]) -> list[str]:
        rules = IgnoreFilter([os.fsencode(each) for each in patterns])
        return [name for name in job["names"] if rules.is_ignored(name) is True]

    answer: dict[str, list[str]] = {what: matched(patterns) for what, patterns in job["patterns"].items()}
    every = [each for patterns in job["patterns"].values() for each in patterns]
    answer["idle"] = [each for each in every if not matched([each.removeprefix("!")])]
    with open(job["answer"], "x") as file:
        json.dump(answer, file)


if __name__ == "__main__":
    match_worker()
