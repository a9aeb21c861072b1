"""What a clone came to: a project's files, and what it requires from Git."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yo_dawg.errors import SourceError
from yo_dawg.text import printable

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


@dataclass(frozen=True)
class Source:
    """A repository on a server, with the credentials that this server may see."""

    url: str
    username: str = ""
    token: str = field(default="", repr=False)
    deploy_key: str = field(default="", repr=False)
    passphrase: str = field(default="", repr=False)
    known_hosts: str = ""


DEFAULT_USERNAME = "x-access-token"
"""What GitHub documents for tokens; other hosts that take any name take this one."""


def origin(url: str) -> tuple[str, str, int]:
    """Return what credentials are good for: scheme, host and port."""
    try:
        parts = urllib.parse.urlsplit(full_url(url))
        if "\\" in parts.netloc:  # where urllib3 ends the host's name, and urlsplit does not
            raise ValueError
        return parts.scheme, parts.hostname or "", parts.port or PORTS.get(parts.scheme, 0)
    except ValueError:
        raise SourceError(f"{printable(url.partition('?')[0])!r} is no address of a server.") from None


PORTS = {"https": 443, "http": 80, "ssh": 22}


def full_url(url: str) -> str:
    """Return an address of SSH's short form in its long one, and any other as it is."""
    short = None if "://" in url else SCP_ADDRESS.fullmatch(url)
    return f"ssh://{short['user'] or 'git'}@{short['host']}/{short['path']}" if short else url


SCP_ADDRESS = re.compile(r"(?:(?P<user>[\w.-]+)@)?(?P<host>[\w.-]+):(?P<path>(?!//|:).+)")
"""git@host:account, the short form of an SSH address."""


def is_full_id(wanted: str) -> bool:
    """Say whether a ref is a full commit id."""
    return re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", wanted) is not None


def ref_names(wanted: str) -> list[bytes]:
    """Return the full names that a ref may mean: "x" is refs/heads/x or refs/tags/x, "heads/x" also refs/heads/x."""
    name = wanted.encode()
    if name == b"HEAD" or name.startswith(b"refs/"):
        return [name]
    short = [b"refs/" + name] if name.startswith((b"heads/", b"tags/")) else []
    return [b"refs/heads/" + name, b"refs/tags/" + name, *short]


def is_short_id(wanted: str) -> bool:
    """Say whether a ref may be the beginning of a commit id: at least 7 hexadecimal digits, as git prints it."""
    return re.fullmatch(r"[0-9a-f]{7,63}", wanted) is not None and not is_full_id(wanted)


def short_ref(ref: str) -> str:
    """Return a ref's name as people write it."""
    return printable(ref.removeprefix("refs/heads/").removeprefix("refs/tags/"))


STALL_SECONDS = 30.0
"""A server that sends nothing for so long is given up."""

PIECE = 1 << 18
"""Bytes that are read or written at a time."""
