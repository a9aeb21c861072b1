"""What a checkout could not give: links out of the repository, and files whose content is in Git LFS.

They matter only where they would ship.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from yo_dawg.checkout import LFS_POINTER, MAX_LFS_POINTER
from yo_dawg.errors import PackageError
from yo_dawg.text import printable
from yo_dawg.trees import make_readable, tree_files

if TYPE_CHECKING:
    from yo_dawg.checkout import Checkout
    from yo_dawg.workshop.package.left_out import Selection


def refuse_outside_links(checkout: Checkout, selection: Selection) -> None:
    """Raise PackageError if a link out of the repository, which was not written, would be in the package."""
    top = selection.top
    for repository_name, target in sorted(checkout.outside_links.items()):
        path = selection.root / repository_name
        above = [path, *path.parents]
        inside = above[: above.index(top)] if top in above else above[:1]
        if path.parent != top and not selection.visited.intersection(above[1:]):
            continue
        name = str(path.relative_to(top)) if top in above else repository_name
        is_left_out = any(each not in selection.kept and selection.pattern(each) for each in inside)
        if not is_left_out and selection.ships(name):
            raise PackageError(
                f"The link {printable(name)!r} points at {printable(target)!r}, outside of the repository: it would "
                "ship a file of the builder's. Replace it by a copy of the file, remove it, or name it in drop, in "
                "[tool.yo-dawg] of pyproject.toml."
            )


def refuse_pointers(checkout: Checkout, staging: Path) -> None:
    """Raise PackageError if make_dist.sh has put a pointer into Git LFS, whose file could not be had, into staging."""
    contents = {}
    for name, reason in checkout.unfetched_lfs.items():
        with contextlib.suppress(OSError), (checkout.root / name).open("rb") as file:
            contents[file.read(MAX_LFS_POINTER)] = reason
    if not contents:
        return
    for name, path in tree_files(staging):
        if path.stat().st_size > MAX_LFS_POINTER:
            continue
        make_readable(path)
        content = path.read_bytes()
        if content in contents or content.startswith(LFS_POINTER):
            raise PackageError(not_fetched(name, contents.get(content, "it was not fetched")))


def not_fetched(name: str, reason: str) -> str:
    """Say that a file would be shipped as a pointer into Git LFS."""
    return (
        f"{printable(name)!r} is a pointer into Git LFS, and the file that it stands for could not be had: "
        f"{printable(reason)}. Push it to the server's LFS store, commit it without LFS, or name it in drop, in "
        "[tool.yo-dawg] of pyproject.toml."
    )
