"""Laying the project over its dependencies.

With a make_dist.sh that decides.  Without one the project's files are linked into staging, but for what is no use
in Lambda: that is linked into pruned/, from where the proof puts back what the handler looks for.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from yo_dawg.disk import refuse_if_disk_full
from yo_dawg.errors import BuildScriptError, PackageError
from yo_dawg.process import Command, CommandFailed
from yo_dawg.trees import make_readable, tree_files
from yo_dawg.workshop.package.left_out import MAX_LEFT_OUT, SECRETS, Selection, handler_names, left_out_files
from yo_dawg.workshop.package.not_fetched import not_fetched, refuse_outside_links, refuse_pointers
from yo_dawg.workshop.package.prune import LEFT_OUT, PrunedFile
from yo_dawg.workspace import Workspace, check_workspace

if TYPE_CHECKING:
    from yo_dawg.checkout import Checkout
    from yo_dawg.process import Listener, Shell
    from yo_dawg.workshop.package.prune import Pruned
    from yo_dawg.workshop.package.rules import Rules


@dataclass(frozen=True)
class Staged:
    """What became of the project's files; all empty where a make_dist.sh decided."""

    copied: int = 0
    """How many of them are in staging."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """What was left out: what is told of it, and the group in ``offered`` that it is ("" where it is in none)."""
    offered: Mapping[str, PrunedFile] = field(default_factory=dict)
    """The files that lie in pruned/ for now, relative to it: see ``offer``."""
    warnings: tuple[str, ...] = ()


def stage(
    checkout: Checkout,
    rules: Rules,
    shell: Shell,
    log: Listener,
    handlers: Sequence[str] = (),
    doing: Callable[[str], object] = lambda what: None,
) -> Staged:
    """Lay the project over its dependencies: with its make_dist.sh, or else all but what is no use.

    ``handlers`` are those of the functions that get the package (module.function): what they lie in is never left
    out.  ``doing`` is told what begins that may take long, for the message of a build that runs out of time.
    Raises BuildScriptError, and PackageError for what cannot be shipped as it is.
    """
    script, space = checkout.project / "make_dist.sh", Workspace(checkout.root.parent)
    if script.is_file():
        doing("make_dist.sh")
        run_make_dist(checkout, space.staging, shell)
        refuse_pointers(checkout, space.staging)
        return Staged()
    staged = copy_project(checkout, space, rules, handlers)
    log.detail(f"no make_dist.sh: copied {staged.copied} files, left out {', '.join(staged.left_out) or 'none'}")
    return staged


def run_make_dist(checkout: Checkout, staging: Path, shell: Shell) -> None:
    """Run the project's make_dist.sh with the staging directory; raise BuildScriptError."""
    script = checkout.project / "make_dist.sh"
    lines = script.read_bytes().splitlines(keepends=True)
    has_windows_ends = [line.endswith(b"\r\n") for line in lines]
    if lines and all(has_windows_ends):
        raise BuildScriptError(f"make_dist.sh cannot be run: {WINDOWS_ENDS}")
    try:
        shell.run(
            Command(["bash", script, staging], cwd=checkout.project, environ={"COMMIT": checkout.commit}),
        )
    except CommandFailed as error:
        refuse_if_disk_full(error, Workspace(staging.parent))
        cause = f" Some of its lines end so: {WINDOWS_ENDS}" if any(has_windows_ends) else ""
        raise BuildScriptError(
            f"make_dist.sh {error.ending}. It runs with bash in the project's folder, and can count on bash, "
            f"coreutils, grep, sed and Python only.{cause}{error.quoted_tail}"
        ) from None
    check_workspace(Workspace(staging.parent), BuildScriptError)


WINDOWS_ENDS = (
    "its lines end as on Windows (CRLF), and bash takes the carriage return for a part of the last word. Write "
    '"*.sh text eol=lf" into .gitattributes, run "git add --renormalize .", and commit.'
)


def copy_project(checkout: Checkout, space: Workspace, rules: Rules, handlers: Sequence[str]) -> Staged:
    """Link a project's files into staging, and what is left out of them into pruned/.

    Raises PackageError for links out of the repository: the build of a requirement may have made some.
    """
    top, root = checkout.project.resolve(), checkout.root.resolve()
    if not top.is_relative_to(root):
        raise PackageError("The build of a requirement has replaced the project's folder by a link out of it.")
    kept = {top / each for name in rules.keep for each in [PurePosixPath(name), *PurePosixPath(name).parents]}
    selection = Selection(top, root, frozenset(kept), rules, handler_names(handlers))
    shipped = Placer(space.staging)
    for name, path in tree_files(top, root, selection.ignores):
        repository_name = str(path).removeprefix(f"{root}/")
        if not selection.ships(name) or repository_name not in checkout.files:
            continue  # the build of a requirement left it (setuptools' build/, say): it is not the project's
        if reason := checkout.unfetched_lfs.get(repository_name):
            raise PackageError(not_fetched(name, reason))
        try:
            shipped.place(name, path)
        except (IsADirectoryError, NotADirectoryError, FileExistsError):
            raise PackageError(
                f"The project's {name!r} collides with a dependency's file or folder: rename it."
            ) from None
    refuse_outside_links(checkout, selection)
    offered = offer_left_out(checkout, space, selection)
    groups = {each.group for each in offered.values()}
    told = sorted(selection.told(groups).items())
    secrets = [name for name, _ in told if SECRETS.fullmatch(name)]
    warnings = [f"{name} is not shipped: {NO_SECRETS}" for name in secrets]
    if len(told) > MAX_LEFT_OUT:
        told = [*told[: MAX_LEFT_OUT - 1], (f"and {len(told) - MAX_LEFT_OUT + 1} more", "")]
    return Staged(shipped.count, dict(told), offered, tuple(warnings))


NO_SECRETS = (
    "it mostly holds passwords. Give the function environment variables, or read a secret when it runs; keep, in "
    "[tool.yo-dawg] of pyproject.toml, ships the file"
)


@dataclass
class Placer:
    """Links files into a tree."""

    target: Path
    count: int = 0
    _folders: set[str] = field(default_factory=set)

    def place(self, name: str, path: Path) -> None:
        """Let a file have this name in the tree, too, in the place of what is there."""
        folder = os.path.dirname(name)
        make_readable(path)
        if folder not in self._folders:
            os.makedirs(self.target / folder, exist_ok=True)
            self._folders.add(folder)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self.target}/{name}")  # the project's file wins over a dependency's
        link(path, f"{self.target}/{name}")
        self.count += 1


def offer_left_out(checkout: Checkout, space: Workspace, selection: Selection) -> dict[str, PrunedFile]:
    """Link what is left out at the project's root into pruned/; return what lies there now."""
    offered = {}
    placer = Placer(space.pruned)
    for name, path in left_out_files(selection):
        repository_name = str(path).removeprefix(f"{selection.root}/")
        if name in selection.rules.drop or repository_name not in checkout.files.difference(checkout.unfetched_lfs):
            continue
        with contextlib.suppress(IsADirectoryError, NotADirectoryError, FileExistsError):  # a dependency's is there
            placer.place(name, path)
            offered[name] = PrunedFile(LEFT_OUT, name.partition("/")[0], path.stat().st_size)
    return offered


def offer(pruned: Pruned, staged: Staged) -> Pruned:
    """Return what was pruned with what was left out of the project: proof and ``keep_imported`` put back of both."""
    return replace(pruned, taken={**pruned.taken, **staged.offered})


def still_left_out(staged: Staged, pruned: Pruned) -> list[str]:
    """Return what is told of the project's files that are left out, but for what was put back meanwhile."""
    there = {each.group for each in pruned.taken.values() if each.reason == LEFT_OUT}
    return [told for told, group in staged.left_out.items() if not group or group in there]


def link(path: Path, target: str) -> None:
    """Let a file have another name, too; copy it where that cannot be."""
    try:
        os.link(path, target)
    except OSError as error:
        if error.errno not in (errno.EMLINK, errno.EPERM, errno.EXDEV):
            raise
        shutil.copy2(path, target)
