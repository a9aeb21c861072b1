"""Where a project is cloned from: addresses of servers, who may see which credentials, and names of commits."""

from __future__ import annotations

import ipaddress
import re
import urllib.parse
from dataclasses import dataclass, field

from yo_dawg.errors import SourceError
from yo_dawg.text import printable


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


def is_loopback(host: str) -> bool:
    """Say whether a host name means this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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
