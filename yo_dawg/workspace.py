"""The workspace: the folders of one invocation below /tmp, made empty and removed at its end."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from yo_dawg.errors import ConfigError, YoDawgError

HERE = Path(__file__).resolve().parent.parent

WORKSPACE_NAME = "yo-dawg"
"""One fixed name below /tmp: builds that embed their path then do so identically each time."""


@dataclass(frozen=True)
class Workspace:
    """The directories of one invocation."""

    root: Path

    toolchain = property(lambda self: self.root / "toolchain")
    objects = property(lambda self: self.root / "objects")
    checkout = property(lambda self: self.root / "checkout")
    sources = property(lambda self: self.root / "sources")
    layers = property(lambda self: self.root / "layers")
    staging = property(lambda self: self.root / "staging")
    pruned = property(lambda self: self.root / "pruned")
    home = property(lambda self: self.root / "home")
    scratch = property(lambda self: self.root / "tmp")
    cache = property(lambda self: self.root / "cache")
    bin = property(lambda self: self.root / "bin")


@contextlib.contextmanager
def workspace(tmp: Path, *, tmp_is_ours: bool) -> Iterator[Workspace]:
    """Make an empty workspace below tmp; at the end remove it, and where tmp is ours all else in it.

    Lambda keeps /tmp from one invocation to the next, also after a crash or a time-out: what an
    earlier build left is swept out first.
    Elsewhere (a test on a laptop), others use it too.
    """
    sweep(tmp, everything=tmp_is_ours)
    space = Workspace(tmp / WORKSPACE_NAME)
    try:
        make_folders(space)
        yield space
    finally:
        with contextlib.suppress(ConfigError):  # the next invocation says so, before it does anything
            sweep(tmp, everything=tmp_is_ours)


def make_folders(space: Workspace) -> None:
    """Make the folders that a build begins with."""
    for directory in (space.root, space.home, space.scratch, space.cache, space.bin, space.staging, space.pruned):
        directory.mkdir(mode=0o700)


def empty_workspace(space: Workspace, *, everything: bool) -> None:
    """Have a workspace as it was at the beginning, whatever was done to it."""
    sweep(space.root.parent, everything=everything)
    make_folders(space)
    put_python_on_path(space)


def check_workspace(space: Workspace, error_type: type[YoDawgError]) -> None:
    """Raise an error if a project's code has moved, replaced or removed what the next stages work on.

    It runs as our user and may do so; but a link in the place of staging would ship the builder's files.
    """
    for path in (space.root, space.staging, space.checkout, space.pruned):
        if path.is_symlink() or not path.is_dir():
            raise error_type(
                f"The project's code removed or replaced the builder's directory {path.name!r}. It may change what is "
                "in the staging directory, $1, not the directory itself."
            )


def sweep(tmp: Path, *, everything: bool) -> None:
    """Remove our workspace, or everything in tmp, whatever modes and depths it has."""
    if everything and not os.access(tmp, os.R_OK | os.W_OK | os.X_OK):
        tmp.chmod(stat.S_IRWXU)  # a build has locked it
    for path in tmp.iterdir() if everything else [tmp / WORKSPACE_NAME]:
        if path.is_dir() and not path.is_symlink():
            remove_tree(path)
        else:
            # Another user's file in a sticky directory cannot be ours, and cannot be removed.
            with contextlib.suppress(PermissionError):
                path.unlink(missing_ok=True)


def remove_tree(path: Path) -> None:
    """Remove a directory, also one that a hostile project has locked, or made deeper than Python's stack.

    With coreutils, which can be counted on in Lambda (contract §6): shutil.rmtree recurses.
    """
    for command in (["rm", "-rf"], ["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
        if os.path.lexists(path):
            subprocess.run([*command, "--", path], env={"PATH": os.defpath}, stderr=subprocess.DEVNULL, check=False)  # noqa: S603
    if os.path.lexists(path):
        raise ConfigError(
            f"{path}, left by an earlier build, cannot be removed. Change the builder's configuration "
            "(its memory_size, say), so that Lambda starts it afresh."
        )


def put_python_on_path(space: Workspace) -> None:
    """Make python3 and python mean the interpreter that will run the function.

    A script, not a link: started through a link, a virtualenv's Python would not find its home.
    """
    for name in ("python3", "python"):
        wrapper = space.bin / name
        wrapper.write_text(f"#!/bin/sh\nexec '{sys.executable}' \"$@\"\n")
        wrapper.chmod(0o755)
