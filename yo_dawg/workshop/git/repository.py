"""One repository, checked out: its files, those of its submodules and of Git LFS."""

from __future__ import annotations

import io
import os
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yo_dawg.checkout import SCP_ADDRESS, Source, origin
from yo_dawg.errors import SourceError
from yo_dawg.text import printable
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
    modules = small_file(fetched.objects, entries, b".gitmodules")
    pointers = lfs_pointers(fetched.objects, entries)
    write_checkout(fetched.objects, entries, wanted.root)
    fetch_lfs(source, pointers, wanted.root)
    links = [entry for entry in entries if entry.is_submodule]
    warnings: list[str] = []
    for inner in fetch_submodules(source, wanted, links, modules) if links else ():
        warnings += inner["warnings"]
    return {"commit": commit, "ref": fetched.ref, "tag": fetched.tag, "warnings": warnings}


MAX_SUBMODULES = 64


def fetch_submodules(source: Source, outer: Wanted, links: Sequence[TreeEntry], modules: bytes) -> list[dict[str, Any]]:
    """Fetch the submodules of a checkout into their places; return an answer for each.

    links are the places in the tree, modules is the text of .gitmodules.  A submodule that git would
    leave out ("git clone --recurse-submodules") is left out with a warning.
    """
    declared, warnings = read_gitmodules(modules)
    answers: list[dict[str, Any]] = [{"warnings": warnings}]
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
        answers.append(inner)
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


def related_source(source: Source, url: str, what: str) -> Source:
    """Return where a submodule or a requirement is cloned from, with the credentials that its server may see."""
    if url.startswith(("./", "../")):
        url = beside(source.url, url)
    scheme, host, _ = origin(url)
    here = origin(source.url)
    if scheme == "ssh" and here[0] == "https" and host == here[1]:
        # git@HOST:account/project, as developers write it, is the same repository at https://HOST/account/project.
        short = SCP_ADDRESS.fullmatch(url)
        where = short["path"] if short else urllib.parse.urlsplit(url).path
        url = f"https://{urllib.parse.urlsplit(source.url).netloc}/{where.strip('/')}"
    elif scheme not in ("https", "ssh") and origin(url) != here:
        raise SourceError(
            f"The {what} is at {printable(url)!r}: only https:// and SSH addresses are fetched, and relative ones."
        )
    if "@" in urllib.parse.urlsplit(url).netloc and scheme in ("https", "http"):
        raise SourceError(f"The {what} has a user name or password in its address: take that out.")
    # The credentials go along to the same server only.
    return replace(source, url=url) if origin(url) == here else Source(url)


def beside(url: str, relative: str) -> str:
    """Resolve a submodule's relative address, as Git does: "../other" is beside the repository."""
    base, separator = url.rstrip("/"), "/"
    while relative.startswith(("./", "../")):
        up, _, relative = relative.partition("/")
        if up == "..":
            cut = max(base.rfind("/"), base.rfind(":") if "://" not in base else -1)
            if separator == ":" or cut < 0 or base[:cut].endswith(("/", ":/")):
                raise SourceError(f"The repository's .gitmodules leads out of {url}.")
            base, separator = base[:cut], base[cut]
    return f"{base}{separator}{relative}"
