"""Writing out a tree, with names that are safe to write."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from yo_dawg.errors import SourceError
from yo_dawg.trees import entries_below

if TYPE_CHECKING:
    from yo_dawg.workshop.git.pack import Objects
    from yo_dawg.workshop.git.remote import Fetched

MAX_FILES = 300_000

MAX_PATH_BYTES = 3_000


def peel(fetched: Fetched) -> tuple[str, bytes]:
    """Follow a tag to its commit; return that and its tree, or raise SourceError if there is none at its end."""
    found, ref = fetched.id, fetched.ref
    try:
        for _ in range(10):
            name = bytes.fromhex(found)
            what = fetched.objects.kind(name)
            # The first line counts, whatever follows: a second "tree" could name another.
            first = fetched.objects.read(name, 1 << 20).split(b"\n", 1)[0]
            target = re.fullmatch(rb"(tree|object) ([0-9a-f]{40}|[0-9a-f]{64})", first)
            if what not in ("commit", "tag") or target is None:
                raise SourceError(f'"{ref}" is no commit but a {what}.')
            if what == "commit":
                return found, bytes.fromhex(target[2].decode())
            found = target[2].decode()
    except KeyError:
        raise SourceError(
            f'The server did not send "{ref}": it may not hand out commits that no branch or tag points at.'
        ) from None
    raise SourceError(f'"{ref}" is a tag of a tag of a tag without an end.')


@dataclass(frozen=True)
class TreeEntry:
    """A file, link or submodule of a tree."""

    path: bytes
    mode: int
    name: bytes
    """The name of its object."""

    is_link = property(lambda self: stat.S_ISLNK(self.mode))
    is_submodule = property(lambda self: stat.S_IFMT(self.mode) == 0o160000)


def tree_entries(objects: Objects, tree: bytes) -> list[TreeEntry]:
    """Return all files of a tree; raise SourceError for names and shapes that are unsafe."""
    from dulwich.errors import ObjectFormatException
    from dulwich.objects import parse_tree

    found: list[TreeEntry] = []
    todo, trees = [(b"", tree)], 0
    while todo:
        prefix, name = todo.pop()
        trees += 1
        if len(found) + trees > MAX_FILES:
            raise SourceError(f"The repository holds more than {MAX_FILES:,} files and folders: too many.")
        seen: set[bytes] = set()
        try:
            if objects.kind(name) != "tree":
                raise KeyError
            lines = list(parse_tree(objects.read(name, 64 << 20), len(name)))
        except KeyError:
            raise SourceError(f"The repository is not whole: the folder {shown(prefix)} is missing.") from None
        except (ObjectFormatException, ValueError):
            raise SourceError(f"The repository is malformed: the folder {shown(prefix)} is damaged.") from None
        for element, mode, hex_name in lines:
            path = prefix + element
            if element in seen:
                raise SourceError(f"The repository is malformed: it holds {shown(path)} twice.")
            seen.add(element)
            check_name(element, path)
            sha = bytes.fromhex(hex_name.decode())
            if stat.S_ISDIR(mode):
                todo.append((path + b"/", sha))
            elif stat.S_IFMT(mode) in (stat.S_IFREG, stat.S_IFLNK, 0o160000):
                found.append(TreeEntry(path, mode, sha))
            else:
                raise SourceError(f"The repository is malformed: {shown(path)} has the mode {mode:o}.")
    return found


SAFE_NAME = re.compile(rb"[A-Za-z0-9_-][A-Za-z0-9_.+@ -]{0,250}(?<![ .])")
"""Names without anything that needs a second look; nearly all are."""


def check_name(name: bytes, path: bytes) -> None:
    """Raise SourceError for the name of a file or folder that is unsafe to write, on any system.

    Control characters are not: messages and logs show names escaped.
    """
    from dulwich.index import validate_path_element_hfs, validate_path_element_ntfs

    if SAFE_NAME.fullmatch(name) and len(path) <= MAX_PATH_BYTES and b"it~" not in name.lower():
        return
    bad = not name or len(path) > MAX_PATH_BYTES or len(name) > 255 or re.search(rb"[\x00/]", name)
    if not bad and validate_path_element_ntfs(name):
        try:
            name.decode()
        except UnicodeDecodeError:
            return  # a name that is not UTF-8 has no other spellings
        if validate_path_element_hfs(name):
            return
    raise SourceError(f"The repository is unsafe: it holds a file named {shown(path)}.")


def shown(path: bytes) -> str:
    """Return a path as a message can show it."""
    return repr(os.fsdecode(path)[:200])


def small_file(objects: Objects, entries: Iterable[TreeEntry], path: bytes) -> bytes:
    """Return the content of a file of the repository; nothing if it is not there, or is no file."""
    for entry in entries:
        if entry.path == path and stat.S_ISREG(entry.mode):
            with contextlib.suppress(KeyError):
                return objects.read(entry.name, 1 << 20)
    return b""


def write_checkout(objects: Objects, entries: Sequence[TreeEntry], root: Path) -> None:
    """Write files below root, which must not exist.

    Nothing can be written elsewhere: names are checked, folders and files are made new, and links
    are made last, when nothing is written any more.
    """
    links: list[tuple[Path, bytes]] = []
    root.mkdir()
    top = os.fsencode(root) + b"/"
    made = {b""}
    for entry in entries:
        if entry.is_submodule:
            continue
        folder = entry.path.rpartition(b"/")[0]
        if folder not in made:
            os.makedirs(top + folder, exist_ok=True)
            made.add(folder)
        try:
            if objects.kind(entry.name) != "blob":
                raise KeyError
            if entry.is_link:
                links.append((root / os.fsdecode(entry.path), objects.read(entry.name, 4095)))
                continue
            objects.place(entry.name, top + entry.path)
        except KeyError:
            raise SourceError(f"The repository is not whole: the content of {shown(entry.path)} is missing.") from None
        if entry.mode & 0o100:
            os.chmod(top + entry.path, 0o755)  # noqa: S103  # as the repository says
    for path, target in links:
        make_link(path, target, root)


def make_link(path: Path, target: bytes, root: Path) -> None:
    """Make a symbolic link of a repository."""
    try:
        os.symlink(target, os.fsencode(path))
    except (OSError, ValueError):
        raise SourceError(
            f"The repository is malformed: {path.relative_to(root).as_posix()!r} is no link that could be."
        ) from None


def remove_outside_links(root: Path) -> dict[str, str]:
    """Remove the links that lead out of a checkout; return the target of each, by its path relative to root.

    To be called when all is written, submodules too: one link may bend another.
    """
    top = root.resolve()
    found: dict[str, str] = {}
    for entry in entries_below(root):
        if entry.is_symlink():
            try:
                real = Path(entry.path).resolve()
            except (OSError, RuntimeError):
                continue  # a loop of links leads nowhere; packaging refuses it if it is shipped
            if not real.is_relative_to(top):
                found[os.path.relpath(entry.path, root)] = os.readlink(entry.path)
    for path in found:
        os.unlink(root / path)
    return dict(sorted(found.items()))


def summary(what: str, why: Mapping[str, str], sign: str) -> str:
    """Name the first few paths of many, each with what there is to say of it."""
    some = ", ".join(f"{path!r:.200}{sign}{reason:.300}" for path, reason in list(why.items())[:5])
    more = f" and {len(why) - 5} more" if len(why) > 5 else ""
    return f"{what}: {some}{more}"
