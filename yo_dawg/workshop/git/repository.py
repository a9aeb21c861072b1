"""One repository, checked out: its files, those of its submodules and of Git LFS."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yo_dawg.errors import SourceError
from yo_dawg.source import Source
from yo_dawg.text import printable
from yo_dawg.workshop.git.addresses import related_source
from yo_dawg.workshop.git.checkout import (
    peel,
    shown,
    small_file,
    tree_entries,
    write_checkout,
)
from yo_dawg.workshop.git.lfs import fetch_lfs, lfs_pointers
from yo_dawg.workshop.git.remote import fetch

if TYPE_CHECKING:
    from yo_dawg.workshop.git.checkout import TreeEntry


@dataclass(frozen=True)
class Wanted:
    """What is to be checked out, and where."""

    ref: str | None
    root: Path
    objects: Path
    """A folder for what is fetched; one folder in it for each repository."""


def check_out(source: Source, wanted: Wanted) -> dict[str, Any]:
    """Fetch one commit and write its files out, those of submodules and of Git LFS too."""
    fetched = fetch(source, wanted.ref, wanted.objects)
    commit, tree = peel(fetched)
    entries = tree_entries(fetched.objects, tree)
    modules, lfs_config = (small_file(fetched.objects, entries, name) for name in (b".gitmodules", b".lfsconfig"))
    pointers = lfs_pointers(fetched.objects, entries)
    write_checkout(fetched.objects, entries, wanted.root)
    unfetched = fetch_lfs(source, pointers, lfs_config, wanted.root, wanted.objects)
    links = [entry for entry in entries if entry.is_submodule]
    warnings: list[str] = []
    for inner in fetch_submodules(source, wanted, links, modules) if links else ():
        warnings += inner["warnings"]
        unfetched |= {f"{inner['path']}/{path}": reason for path, reason in inner["unfetched_lfs"].items()}
    return {
        "commit": commit, "ref": fetched.ref, "tag": fetched.tag, "warnings": warnings, "unfetched_lfs": unfetched,
    }  # fmt: skip


MAX_SUBMODULES = 64


def fetch_submodules(source: Source, outer: Wanted, links: Sequence[TreeEntry], modules: bytes) -> list[dict[str, Any]]:
    """Fetch the submodules of a checkout into their places; return an answer for each.

    links are the places in the tree, modules is the text of .gitmodules.  A submodule that git would
    leave out ("git clone --recurse-submodules") is left out with a warning.
    """
    declared, warnings = read_gitmodules(modules)
    answers: list[dict[str, Any]] = [{"warnings": warnings, "unfetched_lfs": {}}]
    for entry in links:
        what = f"the submodule {shown(entry.path)}"
        if entry.path not in declared:
            # As "git clone" leaves it: somebody added a repository inside of this one by mistake.
            warnings.append(f"{what} is not in .gitmodules, and was not fetched")
            continue
        url, update = declared[entry.path]
        if update == b"none":
            warnings.append(f"{what} was not fetched: .gitmodules says update = none")
            continue
        if len(os.listdir(outer.objects)) > MAX_SUBMODULES:
            raise SourceError(f"The repository holds more than {MAX_SUBMODULES} submodules.")
        target = outer.root / os.fsdecode(entry.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        theirs = related_source(source, url, f"submodule {shown(entry.path)}")
        try:
            inner = check_out(theirs, Wanted(entry.name.hex(), target, outer.objects))
        except SourceError as error:
            raise SourceError(f"Cannot fetch the submodule {shown(entry.path)}. {error}") from None
        answers.append({**inner, "path": os.fsdecode(entry.path)})
    return answers


def read_gitmodules(text: bytes) -> tuple[dict[bytes, tuple[str, bytes]], list[str]]:
    """Read .gitmodules: address and "update" by path as it is written there, as git takes it; and warnings."""
    from dulwich.config import ConfigFile, parse_submodules

    found: dict[bytes, tuple[str, bytes]] = {}
    names = set()
    try:
        config = ConfigFile.from_file(io.BytesIO(text))
        for path, url, name in parse_submodules(config):
            section = (b"submodule", name)
            update = config.get(section, b"update") if b"update" in config[section] else b""
            found[path] = url.decode(errors="replace"), update
            names.add(name)
        sections = [each[1] for each in config.sections() if each[0] == b"submodule" and len(each) == 2]
    except ValueError as error:
        raise SourceError(f"The repository's .gitmodules cannot be read: {printable(str(error))}.") from None
    left = [each for each in sections if each not in names]
    return found, [f"the submodule {shown(each)} has no path or no url in .gitmodules: skipped" for each in left]
