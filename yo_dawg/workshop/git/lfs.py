"""Files in Git LFS."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import shlex
import shutil
import stat
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yo_dawg.errors import SourceError
from yo_dawg.limits import PIECE
from yo_dawg.source import DEFAULT_USERNAME, Source, is_loopback, origin
from yo_dawg.text import printable, size
from yo_dawg.workshop.git.addresses import related_source
from yo_dawg.workshop.git.remote import http_pool
from yo_dawg.workshop.git.ssh import connect_ssh

if TYPE_CHECKING:
    from yo_dawg.workshop.git.checkout import TreeEntry
    from yo_dawg.workshop.git.pack import Objects

MAX_FAILURES = 3
"""So many downloads in a row that fail for the network, and the server is given up."""

Pointer = tuple[str, int]
"""The SHA-256 in hexadecimal, and the number of bytes, of what a pointer stands for."""


def lfs_pointers(objects: Objects, entries: Iterable[TreeEntry]) -> dict[bytes, Pointer | None]:
    """Return the files that are only pointers to Git LFS; None stands for a pointer that is malformed."""
    from dulwich.lfs import LFSPointer

    found: dict[bytes, Pointer | None] = {}
    for entry in entries:
        if entry.name in objects.pointers and stat.S_ISREG(entry.mode):
            pointer = LFSPointer.from_bytes(objects.pointers[entry.name])
            good = pointer is not None and re.fullmatch("[0-9a-f]{64}", pointer.oid) and pointer.size < 1 << 40
            found[entry.path] = (pointer.oid, pointer.size) if good and pointer else None
    return found


def fetch_lfs(
    source: Source, pointers: Mapping[bytes, Pointer | None], config: bytes, root: Path, spare: Path
) -> dict[str, str]:
    """Put the real content in the place of pointers to Git LFS; return why not, for each path that stays one.

    config is the text of the repository's .lfsconfig; spare is a folder for what is not yet verified.
    """
    failed = {path: "the pointer is malformed" for path, pointer in pointers.items() if pointer is None}
    places: dict[Pointer, list[bytes]] = {}
    for path, pointer in sorted(pointers.items()):
        if pointer is not None:
            places.setdefault(pointer, []).append(path)
    why: dict[Pointer, str] = {}
    try:
        if places:
            fetch_each(lfs_server(source, config), places, root, spare / "lfs", why)
    except SourceError as error:  # which concerns all that were not yet tried
        why = {pointer: str(error) for pointer in places} | why
    failed |= {path: why[pointer] for pointer in why for path in places[pointer] if why[pointer]}
    return {os.fsdecode(path): reason for path, reason in sorted(failed.items())}


def fetch_each(
    server: LfsServer, places: Mapping[Pointer, Sequence[bytes]], root: Path, spare: Path, why: dict[Pointer, str]
) -> None:
    """Fetch files into their places; note in why what became of each: "", or the reason why it was not fetched.

    Raises SourceError if it makes no sense to go on.
    """
    wanted, in_a_row = sorted(places), 0
    needed = sum(count for _, count in wanted)
    if needed > shutil.disk_usage(root).free:
        raise SourceError(f"it takes {size(needed)}, more than /tmp has left. Raise ephemeral_storage")
    for start in range(0, len(wanted), 100):
        for pointer, action in lfs_actions(server, wanted[start : start + 100]):
            try:
                if isinstance(action, str):
                    raise SourceError(action)
                download_lfs(server, action, pointer, spare)
            except SourceError as error:
                why[pointer] = str(error)
                in_a_row = in_a_row + 1 if isinstance(error, LfsUnreachable) else 0
                if in_a_row == MAX_FAILURES:
                    raise
            else:
                put_in_places(spare, [os.fsencode(root) + b"/" + path for path in places[pointer]])
                why[pointer], in_a_row = "", 0


def put_in_places(fetched: Path, targets: Sequence[bytes]) -> None:
    """Move a file over the first of some files, and copy it over the others; their modes stay."""
    for other in targets[1:]:
        shutil.copyfile(fetched, other, follow_symlinks=False)
    os.chmod(fetched, stat.S_IMODE(os.lstat(targets[0]).st_mode))
    os.replace(fetched, targets[0])


class LfsUnreachable(SourceError):
    """The network, or the server, failed."""


@dataclass(frozen=True)
class LfsServer:
    """Where a repository's files in Git LFS are."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    """Credentials, for this server only."""


def lfs_server(source: Source, config: bytes) -> LfsServer:
    """Return a repository's server of Git LFS (git-lfs, docs/api/server-discovery.md); raise SourceError.

    An address in .lfsconfig counts first.  It sees the credentials if it is on the repository's own server.
    """
    given = configured_url(config)
    if given:
        source = related_source(source, given, "server of Git LFS in .lfsconfig")
        check_lfs_address(source.url)
    if origin(source.url)[0] != "ssh":
        has_own = given and origin(given)[0] != "ssh"
        url = source.url.rstrip("/") if has_own else f"{source.url.removesuffix('.git')}.git/info/lfs"
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
        raise SourceError("the SSH server does not say where it is (git-lfs-authenticate)") from None
    finally:
        channel.close()
    check_lfs_address(made.url)
    return made


def configured_url(config: bytes) -> str:
    """Return the address that .lfsconfig names, or ""; raise SourceError."""
    from dulwich.config import ConfigFile

    try:
        parsed = ConfigFile.from_file(io.BytesIO(config))
        for section, name in (((b"lfs",), b"url"), ((b"remote", b"origin"), b"lfsurl")):
            if section in parsed and name in parsed[section]:
                return parsed.get(section, name).decode()
    except ValueError as error:
        raise SourceError(f".lfsconfig cannot be read: {printable(str(error))}") from None
    return ""


def check_lfs_address(url: str) -> None:
    """Raise SourceError for an address of files in Git LFS that anyone on the way could change."""
    scheme, host, _ = origin(url)
    if scheme not in ("https", "ssh") and not (scheme == "http" and is_loopback(host)):
        raise SourceError("its address is not https")


def lfs_actions(server: LfsServer, wanted: Sequence[Pointer]) -> Iterator[tuple[Pointer, Mapping[str, Any] | str]]:
    """Ask the server where to get files of Git LFS; yield for each the "download" action, or why there is none."""
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
        raise SourceError(f"the host makes no sense of Git LFS ({printable(str(error))})") from None
    if objects is None:
        raise SourceError(f"the host answers {answer.status} to Git LFS")
    for pointer in wanted:
        found = objects.get(pointer[0], {})
        action = found.get("actions", {}).get("download") if isinstance(found.get("actions"), dict) else None
        if isinstance(action, dict) and isinstance(action.get("href"), str):
            yield pointer, action
        else:
            said = found.get("error", {}) if isinstance(found.get("error"), dict) else {}
            yield pointer, printable(str(said.get("message", "the host does not have it")))


def download_lfs(server: LfsServer, action: Mapping[str, Any], pointer: Pointer, path: Path) -> None:
    """Download one file of Git LFS into a new file, and verify it; raise SourceError."""
    import urllib3

    oid, count = pointer
    href, given = action["href"], action.get("header")
    headers = {str(name): str(value) for name, value in given.items()} if isinstance(given, dict) else {}
    if origin(href) == origin(server.url) and "authorization" not in {name.lower() for name in headers}:
        headers.update(server.headers)
    digest, left = hashlib.sha256(), count
    try:
        for _ in range(5):
            check_lfs_address(href)
            answer = http_pool(Source(href)).request(
                "GET", href, headers=headers, preload_content=False, redirect=False
            )
            if not answer.get_redirect_location():
                break
            there = urllib.parse.urljoin(href, answer.get_redirect_location())
            # GitLab sends one to its object storage, by a signed address: the credentials stay here.
            href, headers = there, headers if origin(there) == origin(href) else {}
        if answer.status != 200:
            raise SourceError(f"its download answers {answer.status}")
        with path.open("wb") as file:
            for piece in answer.stream(PIECE):
                left -= len(piece)
                if left < 0:
                    break
                digest.update(piece)
                file.write(piece)
    except (urllib3.exceptions.HTTPError, ValueError) as error:
        # Not its words: they name the whole address, which may be signed.
        raise LfsUnreachable(f"its download failed ({type(error).__name__})") from None
    if left or digest.hexdigest() != oid:
        raise SourceError("what the host sent is not the file that the pointer names")
