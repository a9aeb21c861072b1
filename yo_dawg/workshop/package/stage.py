"""Laying the project over its dependencies."""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import functools
import os
import re
import shutil
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from yo_dawg.disk import refuse_if_disk_full
from yo_dawg.errors import BuildScriptError, PackageError
from yo_dawg.process import Command, CommandFailed
from yo_dawg.text import printable
from yo_dawg.trees import folders_above, make_readable, tree_files
from yo_dawg.workspace import Workspace, check_workspace

if TYPE_CHECKING:
    from yo_dawg.checkout import Checkout
    from yo_dawg.process import Shell
    from yo_dawg.report import Report
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

PROJECT_JUNK = ("__pycache__", "*.py[co]", ".git", ".hg", ".svn", ".DS_Store", "*.egg-info")
"""Left out wherever it stands."""


def stage(checkout: Checkout, rules: Rules, shell: Shell, log: Report) -> None:
    """Lay the project over its dependencies: with its make_dist.sh, or else all but what is no use."""
    script, staging = checkout.project / "make_dist.sh", Workspace(checkout.root.parent).staging
    if script.is_file():
        run_make_dist(checkout, staging, shell)
    else:
        copied, left_out = copy_project(checkout, staging, rules)
        log.quote(f"no make_dist.sh: copied {copied} files, left out {', '.join(left_out) or 'none'}")


def run_make_dist(checkout: Checkout, staging: Path, shell: Shell) -> None:
    """Run the project's make_dist.sh with the staging directory; raise BuildScriptError."""
    try:
        shell.run(
            Command(
                ["bash", checkout.project / "make_dist.sh", staging],
                cwd=checkout.project,
                environ={"COMMIT": checkout.commit},
            )
        )
    except CommandFailed as error:
        refuse_if_disk_full(error, Workspace(staging.parent))
        raise BuildScriptError(
            f"make_dist.sh {error.ending}. It runs with bash in the project's folder, and can count on bash, "
            f"coreutils, grep, sed and Python only.{error.quoted_tail}"
        ) from None
    check_workspace(Workspace(staging.parent), BuildScriptError)


def copy_project(checkout: Checkout, staging: Path, rules: Rules) -> tuple[int, list[str]]:
    """Link a project's files into staging; return how many, and the names at its root that were left out.

    Raises PackageError for links out of the repository: the build of a requirement may have made some.
    """
    copied = 0
    top, root = checkout.project.resolve(), checkout.root.resolve()
    if not top.is_relative_to(root):
        raise PackageError("The build of a requirement has replaced the project's folder by a link out of it.")
    kept = {top / each for name in rules.keep for each in [PurePosixPath(name), *PurePosixPath(name).parents]}

    def is_junk(path: Path) -> bool:
        return path not in kept and is_project_junk(path, top=path.parent == top)

    there: set[str] = set()
    for name, path in tree_files(top, root, is_junk):
        above = [top / each for each in folders_above(name)] if kept else []
        beside_kept = any(each in kept and is_project_junk(each, top=each.parent == top) for each in above)
        if name in rules.drop or (beside_kept and name not in rules.keep):
            continue
        if str(path).removeprefix(f"{root}/") not in checkout.files:
            continue  # the build of a requirement left it (setuptools' build/, say): it is not the project's
        folder = os.path.dirname(name)
        make_readable(path)
        try:
            if folder not in there:
                os.makedirs(staging / folder, exist_ok=True)
                there.add(folder)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{staging}/{name}")  # the project's file wins over a dependency's
            link(path, f"{staging}/{name}")
        except (IsADirectoryError, NotADirectoryError, FileExistsError):
            raise PackageError(
                f"The project's {name!r} collides with a dependency's file or folder: rename it."
            ) from None
        copied += 1
    return copied, [printable(path.name) for path in sorted(top.iterdir()) if is_project_junk(path, top=True)]


def link(path: Path, target: str) -> None:
    """Let a file have another name, too; copy it where that cannot be."""
    try:
        os.link(path, target)
    except OSError as error:
        if error.errno not in (errno.EMLINK, errno.EPERM, errno.EXDEV):
            raise
        shutil.copy2(path, target)


def is_project_junk(path: Path, *, top: bool) -> bool:
    """Say whether a file or folder of a project is of no use in Lambda."""
    return bool(junk_pattern(top=top).match(path.name)) or os.path.isfile(f"{path}/pyvenv.cfg")


@functools.cache
def junk_pattern(*, top: bool) -> re.Pattern[str]:
    """Return what matches the names of such files and folders, at a project's root or below it."""
    patterns = (*PROJECT_JUNK, *PROJECT_ROOT_JUNK) if top else PROJECT_JUNK
    return re.compile("|".join(map(fnmatch.translate, patterns)))
