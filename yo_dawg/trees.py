"""Trees of files: walking them without following links out of them."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from yo_dawg.errors import PackageError

MAX_NAME = 2000
"""A longer name in a package is refused: Linux opens no path of more than 4,095 bytes."""

BYTECODE = re.compile(r"((?:.*/)?)__pycache__/([^/]+?)\.[^./]+(?:\.opt-[12])?\.pyc")
"""PEP 3147, PEP 488.  ``importlib.util.source_from_cache`` knows no modules with a dot in their names."""

Listing = Sequence[tuple[str, Path, os.stat_result]]
"""Files of a tree: the name relative to its root, the real path, and what it is."""


def tree_files(
    root: Path, boundary: Path | None = None, ignore: Callable[[Path], bool] = lambda path: False
) -> Iterator[tuple[str, Path]]:
    """Yield each file of a tree as (name relative to root, real path): see ``walk``."""
    return ((name, path) for name, path, _ in walk(root, boundary, ignore))


def walk(root: Path, boundary: Path | None = None, ignore: Callable[[Path], bool] = lambda path: False) -> Listing:
    """Return the files of a tree, in the order of their names.

    Links are followed, as zip(1) does, but only inside of the boundary (default: the root).  Raises
    PackageError for a link that leaves it, for a loop of links, and for anything that is neither
    file nor directory.
    """
    limit = (boundary or root).resolve()
    device = limit.stat().st_dev
    found: list[tuple[str, Path, os.stat_result]] = []
    # A stack of our own: a hostile tree may be deeper than Python's.
    todo: list[tuple[Path, str, frozenset[Path]]] = [(root.resolve(), "", frozenset({root.resolve()}))]
    while todo:
        directory, prefix, links = todo.pop()
        if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
            directory.chmod(stat.S_IRWXU)
        with os.scandir(directory) as entries:
            listing = list(entries)
        for entry in listing:
            name, path, is_link = prefix + entry.name, Path(entry.path), entry.is_symlink()
            if ignore(path):
                continue
            if len(name) > MAX_NAME:
                raise PackageError(f"The package is nested too deep: {name[:80]!r}… has {len(name)} characters.")
            real = inside(limit, path, name) if is_link else path
            status = os.stat(real) if is_link else entry.stat(follow_symlinks=False)
            mode = status.st_mode
            if status.st_dev != device:
                raise PackageError(f"The package holds {name!r}, which lies outside of the package.")
            if stat.S_ISDIR(mode):
                if is_link and (real in links or directory.is_relative_to(real)):
                    raise PackageError(f"The package has a loop of links at {name!r}: remove the link.")
                todo.append((real, f"{name}/", links | {real} if is_link else links))
            elif stat.S_ISREG(mode):
                found.append((name, real, status))
            else:
                raise PackageError(f"The package holds {name!r}, which is no file but a pipe, a socket or a device.")
    return sorted(found, key=lambda each: each[0])


def entries_below(root: Path) -> Iterator[os.DirEntry[str]]:
    """Yield all that a folder holds, however deep; links are not followed."""
    todo = [str(root)]
    while todo:
        with os.scandir(todo.pop()) as entries:
            for entry in entries:
                yield entry
                if entry.is_dir(follow_symlinks=False):
                    todo.append(entry.path)


def inside(boundary: Path, link: Path, name: str) -> Path:
    """Return what a link points at; raise PackageError if that is not inside the boundary."""
    target = os.readlink(link)
    try:
        real = link.resolve(strict=True)
    except (OSError, RuntimeError):
        raise PackageError(f"The link {name!r} points at {target!r}, which is not there: remove or mend it.") from None
    if not real.is_relative_to(boundary):
        raise PackageError(
            f"The link {name!r} points at {target!r}, outside of the package: it would ship a file of the "
            "builder's. Copy what is needed into the package instead."
        )
    return real


def folders_above(name: str) -> Iterator[str]:
    """Yield the folders that a file is in, from the inside out."""
    while name := name.rpartition("/")[0]:
        yield name


def move(names: Iterable[str], source: Path, target: Path) -> None:
    """Move files from one tree into another; what is there already stays, what is gone stays away."""
    there: set[str] = set()
    for name in names:
        path, folder = f"{target}/{name}", os.path.dirname(name)
        with contextlib.suppress(FileNotFoundError, FileExistsError, NotADirectoryError):
            if folder not in there:
                os.makedirs(target / folder, exist_ok=True)  # unless the project put a file there
                there.add(folder)
            if not os.path.lexists(path):
                os.rename(f"{source}/{name}", path)
    remove_empty_directories({source / folder for folder in {os.path.dirname(name) for name in names}}, source)


def remove_empty_directories(directories: set[Path], top: Path) -> None:
    """Remove directories that have been emptied, and their parents that this empties."""
    for directory in directories:
        while directory != top:
            try:
                directory.rmdir()
            except OSError:
                break  # not empty, or gone already
            directory = directory.parent


def source_of(name: str) -> str:
    """Return the name of the module that bytecode was made of; of any other file, its own name."""
    found = BYTECODE.fullmatch(name)
    return f"{found[1]}{found[2]}.py" if found else name


def make_readable(path: Path) -> os.stat_result:
    """Let us read a file of ours, whatever mode a build gave it; return what it is."""
    status = path.stat()
    if not status.st_mode & stat.S_IRUSR:
        path.chmod(status.st_mode | stat.S_IRUSR)
    return status


def make_folders(names: Iterable[str], root: Path) -> None:
    """Make the folders that these files are in."""
    for folder in sorted({os.path.dirname(name) for name in names}):
        os.makedirs(root / folder, exist_ok=True)


def open_folders(root: Path) -> None:
    """Let us change what is in the folders of a tree, whatever modes they have."""
    todo = [str(root)]
    while todo:
        folder = todo.pop()
        os.chmod(folder, stat.S_IRWXU)
        with os.scandir(folder) as entries:
            todo += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]


def close_tree(root: Path) -> None:
    """Make all in a tree read-only."""
    folders = [str(root)]
    for entry in entries_below(root):
        if entry.is_dir(follow_symlinks=False):
            folders.append(entry.path)
        elif not entry.is_symlink() and (mode := entry.stat().st_mode) & 0o222:
            os.chmod(entry.path, stat.S_IMODE(mode) & ~0o222)
    for folder in folders:
        os.chmod(folder, stat.S_IRUSR | stat.S_IXUSR)
