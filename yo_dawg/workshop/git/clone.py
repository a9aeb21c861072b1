"""What the Git program does: one commit of a project, and what that requires from Git, in folders."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from yo_dawg.errors import SourceError
from yo_dawg.source import Source
from yo_dawg.workshop.git.checkout import remove_outside_links, summary
from yo_dawg.workshop.git.repository import Wanted, check_out
from yo_dawg.workshop.git.requirements import fetch_required


def fetch_checkout(job: Mapping[str, Any]) -> dict[str, Any]:
    """Fetch one commit, without its history, and write its tree out; fetch what it requires from Git.

    Raises SourceError, also where the server sends what takes more memory than this program has.
    """
    try:
        return fetch_all(job)
    except (MemoryError, RecursionError):
        pass  # what fills the memory goes with this error
    url = job["source"]["url"]
    raise SourceError(f"Cannot clone {url}: what the server sent takes more memory than a repository may.")


def fetch_all(job: Mapping[str, Any]) -> dict[str, Any]:
    """Do a job in its order."""
    os.mkdir(job["objects"])
    source = Source(**job["source"])
    wanted = Wanted(job["ref"], Path(job["checkout"]), Path(job["objects"]))
    answer = check_out(source, wanted)
    outside = remove_outside_links(wanted.root)
    if outside:
        text = "links that lead out of the repository were left out"
        answer["warnings"].append(summary(text, {path: repr(target) for path, target in outside.items()}, " -> "))
    if answer["unfetched_lfs"]:
        text = "files in Git LFS could not be fetched and are still pointers"
        answer["warnings"].append(summary(text, answer["unfetched_lfs"], ": "))
    asked = [(url, ref) for url, ref in job.get("asked", ())]
    required = fetch_required(source, wanted, job["project"], Path(job["sources"]), asked)
    return {**answer, "outside_links": outside, "required": asdict(required)}
