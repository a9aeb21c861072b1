"""What the Git program leaves for the package program: a description of the checkout, before any project code runs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yo_dawg.checkout import Checkout, Required
from yo_dawg.errors import SourceError
from yo_dawg.text import printable
from yo_dawg.trees import entries_below

if TYPE_CHECKING:
    from yo_dawg.workspace import Workspace

FILE = "checkout.json"


def hand_over(answer: Mapping[str, Any], subdirectory: str, space: Workspace) -> None:
    """Write down what was cloned; raise SourceError if the project's folder is not in it."""
    project_folder(space.checkout, subdirectory)
    files = [os.path.relpath(entry.path, space.checkout) for entry in entries_below(space.checkout)]
    (space.root / FILE).write_text(json.dumps({**answer, "files": files}))


def take_over(subdirectory: str, space: Workspace) -> Checkout:
    """Read what ``hand_over`` wrote."""
    told = json.loads((space.root / FILE).read_bytes())
    known = {each.name for each in fields(Checkout)}
    return Checkout(
        **{
            **{name: value for name, value in told.items() if name in known},
            "root": space.checkout,
            "project": space.checkout / subdirectory,
            "files": frozenset(told["files"]),
            "required": Required.from_json(told["required"]),
            "warnings": tuple(told["warnings"]),
        }
    )


def project_folder(root: Path, subdirectory: str) -> Path:
    """Return the project's folder in the checkout; raise SourceError if there is none."""
    project = root / (subdirectory or ".")
    if not project.is_dir():
        folders = sorted(printable(path.name) for path in root.iterdir() if path.is_dir() and path.name[0] != ".")
        raise SourceError(
            f"The repository has no folder {subdirectory!r} at this commit. "
            f"Its folders are: {', '.join(folders) or 'none'}."
        )
    if not project.resolve().is_relative_to(root.resolve()):
        raise SourceError(f"The folder {subdirectory!r} of the repository is a link out of it.")
    return project
