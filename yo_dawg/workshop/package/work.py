"""What the stages of a package work with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from yo_dawg.jobs import PackageJob
from yo_dawg.process import Shell
from yo_dawg.report import Report
from yo_dawg.workspace import Workspace


@dataclass(frozen=True)
class Work:
    """A job, and with what it is done."""

    job: PackageJob
    files: Mapping[str, int]
    """Descriptors of the open files that came with it, by name: "uv", "previous" and what is "known" of it, layers; and
    to write into, "package" and "dependencies"."""
    space: Workspace
    shell: Shell
    report: Report
