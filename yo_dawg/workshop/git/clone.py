"""What the Git program does: one commit of a project, and what that requires from Git, in folders."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yo_dawg.checkout import Source
from yo_dawg.workshop.git.checkout import check_links
from yo_dawg.workshop.git.repository import Wanted, check_out
from yo_dawg.workshop.git.requirements import fetch_required


def fetch_checkout(job: Mapping[str, Any]) -> dict[str, Any]:
    """Fetch one commit, without its history, and write its tree out; fetch what it requires from Git."""
    os.mkdir(job["objects"])
    source, project = Source(**job["source"]), os.fsencode(job["project"])
    wanted = Wanted(job["ref"], Path(job["checkout"]), Path(job["objects"]), project)
    answer = check_out(source, wanted)
    check_links(wanted.root)
    return {**answer, "required": vars(fetch_required(source, answer, wanted, Path(job["sources"])))}
