"""What a clone came to: a project's files, and what it requires from Git."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1"
"""How a file begins that stands for one in Git LFS (git-lfs, docs/spec.md)."""

MAX_LFS_POINTER = 1024
"""Bytes; the specification says that pointers are smaller."""


@dataclass(frozen=True)
class Repository:
    """A repository that a project requires, fetched."""

    url: str
    ref: str | None
    """What was asked for; None is its HEAD."""
    commit: str
    tag: str
    """The tag's name, if the ref is one, or ""."""
    folder: str


@dataclass(frozen=True)
class Required:
    """What a project requires from Git: pip and uv would need a git program for it."""

    repositories: Sequence[Repository] = ()
    failures: Sequence[tuple[str, str | None, str]] = ()
    """What could not be fetched: address, ref, and why.  It matters only if uv asks for it: a marker may say no."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """For each requirements file of the project, its text as uv is to see it."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Required:
        """Read what JSON kept of it."""
        return cls(
            repositories=[Repository(**each) for each in value["repositories"]],
            failures=[(url, ref, why) for url, ref, why in value["failures"]],
            texts=value["texts"],
        )


@dataclass(frozen=True)
class Checkout:
    """A project's files, without any .git."""

    root: Path
    """The repository's files."""
    project: Path
    """The project's folder in it."""
    commit: str
    ref: str
    files: frozenset[str]
    """The repository's files, relative to root: builds of requirements may add others."""
    required: Required = field(default_factory=Required)
    warnings: tuple[str, ...] = ()
    tag: str = ""
    """The tag that was asked for, or ""."""
    outside_links: Mapping[str, str] = field(default_factory=dict)
    """Links that lead out of the repository, by their path relative to root, with their targets.  None was written."""
    unfetched_lfs: Mapping[str, str] = field(default_factory=dict)
    """Files in Git LFS that are still pointers, by their path relative to root, with the reason."""
