"""What changed from one package to the next: distributions, their versions, their bytes."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

from client.contents import Contents

PROJECT = "the project's own"
"""What is of no distribution."""


@dataclass(frozen=True)
class Change:
    """What became of a distribution, or of the project's own files."""

    what: str
    """Added, removed, updated (another version), or changed (the same version with other files)."""
    name: str
    before: str
    now: str
    """The versions; "" where there is none."""
    bytes: int
    """How many more there are now."""


def compare(before: Contents, now: Contents) -> list[Change]:
    """Return what changed, the largest change in bytes first."""
    versions_before, versions_now = versions(before), versions(now)
    files_before, files_now = by_owner(before), by_owner(now)
    sizes_before, sizes_now = sizes_by_owner(before), sizes_by_owner(now)
    changes = []
    for name in files_before.keys() | files_now.keys() | versions_before.keys() | versions_now.keys():
        old, new = versions_before.get(name, ""), versions_now.get(name, "")
        was, is_now = name in files_before or old, name in files_now or new
        if was and is_now and old == new and files_before.get(name) == files_now.get(name):
            continue
        what = "added" if not was else "removed" if not is_now else "updated" if old != new else "changed"
        changes.append(Change(what, name, old, new, sizes_now[name] - sizes_before[name]))
    return sorted(changes, key=lambda each: (-abs(each.bytes), each.name))


def versions(contents: Contents) -> dict[str, str]:
    """Return the versions of the distributions in a package, of those that it has twice both."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for each in contents.distributions:
        found[each.name].add(each.version)
    return {name: ", ".join(sorted(several)) for name, several in found.items()}


def by_owner(contents: Contents) -> dict[str, frozenset[tuple[str, int, int]]]:
    """Return for each distribution, and for the project, its files with their sizes and checksums."""
    owners, found = contents.owners(), defaultdict[str, set[tuple[str, int, int]]](set)
    for name, count in contents.sizes.items():
        found[owners.get(name, PROJECT)].add((name, count, contents.checksums[name]))
    return {owner: frozenset(files) for owner, files in found.items()}


def sizes_by_owner(contents: Contents) -> Counter[str]:
    """Return the bytes of each distribution, and of the project."""
    owners, found = contents.owners(), Counter[str]()
    for name, count in contents.sizes.items():
        found[owners.get(name, PROJECT)] += count
    return found
