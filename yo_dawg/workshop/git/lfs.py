"""Files in Git LFS."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shlex
import shutil
import stat
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yo_dawg.checkout import DEFAULT_USERNAME, PIECE, Source, origin
from yo_dawg.errors import SourceError
from yo_dawg.settings import is_loopback
from yo_dawg.text import printable, size
from yo_dawg.workshop.git.checkout import shown
from yo_dawg.workshop.git.pack import LFS_POINTER
from yo_dawg.workshop.git.remote import http_pool
from yo_dawg.workshop.git.ssh import connect_ssh

if TYPE_CHECKING:
    from yo_dawg.workshop.git.checkout import TreeEntry
    from yo_dawg.workshop.git.pack import Objects

LFS_FIELDS = re.compile(rb"(?:ext-.*\n)*oid sha256:(?P<oid>[0-9a-f]{64})\nsize (?P<size>\d{1,12})\n?")


def lfs_pointers(objects: Objects, entries: Iterable[TreeEntry]) -> dict[bytes, tuple[str, int]]:
    """Return the files that are only pointers to Git LFS, with digest and size of what they stand for."""
    found: dict[bytes, tuple[str, int]] = {}
    for entry in entries:
        if entry.name in objects.pointers and stat.S_ISREG(entry.mode):
            fields_ = LFS_FIELDS.fullmatch(LFS_POINTER.sub(b"", objects.pointers[entry.name]).replace(b"\r", b""))
            if fields_ is None:
                raise SourceError(f"{shown(entry.path)} is a pointer to a file in Git LFS that makes no sense.")
            found[entry.path] = (fields_["oid"].decode(), int(fields_["size"]))
    return found


def fetch_lfs(source: Source, pointers: Mapping[bytes, tuple[str, int]], root: Path) -> None:
    """Put the real content in the place of pointers to Git LFS, or raise SourceError: none may be shipped."""
    if not pointers:
        return
    first = min(pointers)
    more = f" (and {len(pointers) - 1} more)" if len(pointers) > 1 else ""
    why = f"{shown(first)}{more} is only a pointer to a file in Git LFS, and the file cannot be fetched"
    wanted = sorted(set(pointers.values()))
    needed = sum(count for _, count in wanted)
    if needed > shutil.disk_usage(root).free:
        raise SourceError(f"{why}: it takes {size(needed)}, more than /tmp has left. Raise ephemeral_storage.")
    places: dict[str, list[bytes]] = {}
    for path, (oid, _) in sorted(pointers.items()):
        places.setdefault(oid, []).append(path)
    server = lfs_server(source, why)
    for start in range(0, len(wanted), 100):
        for oid, count, action in lfs_actions(server, wanted[start : start + 100], why):
            targets = [os.fsencode(root) + b"/" + path for path in places[oid]]
            download_lfs(server, action, (oid, count), targets[0], why)
            for other in targets[1:]:
                shutil.copyfile(targets[0], other, follow_symlinks=False)


@dataclass(frozen=True)
class LfsServer:
    """Where a repository's files in Git LFS are."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    """Credentials, for this server only."""


def lfs_server(source: Source, why: str) -> LfsServer:
    """Return a repository's server of Git LFS (git-lfs, docs/api/server-discovery.md); raise SourceError."""
    if origin(source.url)[0] != "ssh":
        url = f"{source.url.removesuffix('.git')}.git/info/lfs"
        pair = f"{source.username or DEFAULT_USERNAME}:{source.token}"
        basic = {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
        return LfsServer(url, basic if source.token else {})
    # The SSH server says where, and lends credentials for a while.
    client, path = connect_ssh(source, bytearray())
    command = f"git-lfs-authenticate {shlex.quote(path)} download".encode()
    channel = client.ssh_vendor.run_command(client.host, command, client.username, client.port, protocol_version=0)
    try:
        said = json.loads(channel.read(1 << 16))
        made = LfsServer(
            str(said["href"]).rstrip("/"), {str(name): str(said["header"][name]) for name in said["header"]}
        )
    except (ValueError, LookupError, TypeError, RecursionError):
        raise SourceError(
            f"{why}: the SSH server does not say where (git-lfs-authenticate). Commit the file itself."
        ) from None
    finally:
        channel.close()
    check_lfs_address(made.url, why)
    return made


def check_lfs_address(url: str, why: str) -> None:
    """Raise SourceError for an address of files in Git LFS that anyone on the way could change."""
    scheme, host, _ = origin(url)
    if scheme != "https" and not (scheme == "http" and is_loopback(host)):
        raise SourceError(f"{why}: the host names an address for it that is not https.")


def lfs_actions(
    server: LfsServer, wanted: Sequence[tuple[str, int]], why: str
) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
    """Ask the server where to get files of Git LFS; yield digest, size and the "download" action."""
    import urllib3

    question = {"operation": "download", "transfers": ["basic"], "objects": [{"oid": o, "size": s} for o, s in wanted]}
    kind_of_lfs = "application/vnd.git-lfs+json"
    headers = {**server.headers, "Accept": kind_of_lfs, "Content-Type": kind_of_lfs}
    try:
        answer = http_pool(Source(server.url)).request(
            "POST", f"{server.url}/objects/batch", body=json.dumps(question).encode(), headers=headers,
            preload_content=False,
        )  # fmt: skip
        text = answer.read(8 << 20)
        objects = {each["oid"]: each for each in json.loads(text)["objects"]} if answer.status == 200 else None
    except (urllib3.exceptions.HTTPError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise SourceError(f"{why}: {printable(str(error))}.") from None
    if objects is None:
        raise SourceError(
            f"{why}: the host answers {answer.status} to Git LFS. Commit the file itself, or use a host that has LFS."
        )
    for oid, count in wanted:
        found = objects.get(oid, {})
        action = found.get("actions", {}).get("download") if isinstance(found.get("actions"), dict) else None
        if not isinstance(action, dict) or not isinstance(action.get("href"), str):
            reason = found.get("error", {}) if isinstance(found.get("error"), dict) else {}
            raise SourceError(f"{why}: {printable(str(reason.get('message', 'the host does not have it')))}.")
        yield oid, count, action


def download_lfs(server: LfsServer, action: Mapping[str, Any], what: tuple[str, int], path: bytes, why: str) -> None:
    """Download one file of Git LFS over its pointer, and verify it."""
    import urllib3

    oid, count = what
    href, given = action["href"], action.get("header")
    headers = {str(name): str(value) for name, value in given.items()} if isinstance(given, dict) else {}
    if origin(href) == origin(server.url) and "authorization" not in {name.lower() for name in headers}:
        headers.update(server.headers)
    digest, left = hashlib.sha256(), count
    try:
        for _ in range(5):
            check_lfs_address(href, why)
            answer = http_pool(Source(href)).request(
                "GET", href, headers=headers, preload_content=False, redirect=False
            )
            if not answer.get_redirect_location():
                break
            there = urllib.parse.urljoin(href, answer.get_redirect_location())
            # GitLab sends one to its object storage, by a signed address: the credentials stay here.
            href, headers = there, headers if origin(there) == origin(href) else {}
        if answer.status != 200:
            raise SourceError(f"{why}: its download answers {answer.status}.")
        with open(os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW), "wb") as file:
            for piece in answer.stream(PIECE):
                left -= len(piece)
                if left < 0:
                    break
                digest.update(piece)
                file.write(piece)
    except (urllib3.exceptions.HTTPError, ValueError) as error:
        # Not its words: they name the whole address, which may be signed.
        raise SourceError(f"{why}: its download failed ({type(error).__name__}).") from None
    if left or digest.hexdigest() != oid:
        raise SourceError(f"{why}: what the host sent is not the file that the pointer names.")
