"""What doctor looks at in the network: whether the Git host and the package indexes answer, and are who they say.

No credentials are sent: after the handshake the connection is closed.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import importlib.util
import re
import socket
import ssl
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yo_dawg.control.findings import Unknown
from yo_dawg.errors import ConfigError, YoDawgError
from yo_dawg.source import origin

if TYPE_CHECKING:
    from yo_dawg.control.findings import Check
    from yo_dawg.control.job import Job
    from yo_dawg.settings import Settings

SECONDS = 10.0

INSTEAD = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL")
"""Variables that name an index to ask instead of that, the first that is set."""

BESIDE = ("UV_INDEX", "UV_EXTRA_INDEX_URL", "PIP_EXTRA_INDEX_URL")
"""Variables that name more of them."""


def check_git_host(job: Job) -> str:
    """Shake hands with the Git host."""
    return greet(*origin(f"{job.settings.base_url}/x"), job.settings)


def index_checks(job: Job) -> list[Check]:
    """Return a check for each host that packages come from; their addresses may hold passwords, their names do not."""
    try:
        private = job.indexes
    except YoDawgError:
        private = ()  # whatever is wrong, the check of the secret says it
    hosts: dict[tuple[str, str, int], None] = {}
    for url in (*public_indexes(job.settings), *private):
        with contextlib.suppress(YoDawgError):  # it is no address, as every build will say
            hosts[origin(url)] = None
    return [(f"index {each[1]}", functools.partial(check_index, each)) for each in hosts if each[1]]


def check_index(place: tuple[str, str, int], job: Job) -> str:
    """Shake hands with a host that packages come from."""
    return greet(*place, job.settings)


def public_indexes(settings: Settings) -> Iterable[str]:
    """Return the addresses of package indexes that the function's variables name, or those of PyPI."""
    client = settings.client
    first = next((client[name].split() for name in INSTEAD if name in client), default_index())
    # uv takes NAME=URL, too
    return [each.partition("=")[2] if "=" in each.partition("://")[0] else each
            for each in (*first, *(each for name in BESIDE for each in client.get(name, "").split()))]  # fmt: skip


def default_index() -> list[str]:
    """Return where packages come from if nothing else is set, the index and its files, as pip has it.

    It is the pip that virtualenv brings along, of which only this text is read.  None where that is not so any more.
    """
    found = importlib.util.find_spec("virtualenv")
    wheels = sorted(Path(found.origin).parent.glob("seed/wheels/embed/pip-*.whl")) if found and found.origin else []
    with contextlib.suppress(OSError, LookupError, zipfile.BadZipFile), zipfile.ZipFile(wheels[-1]) as pip:
        text = pip.read("pip/_internal/models/index.py").decode()
        if said := re.search(r'^PyPI = PackageIndex\("([^"]+)", file_storage_domain="([^"]+)"', text, re.MULTILINE):
            return [said[1], f"https://{said[2]}/"]
    return []


def greet(scheme: str, host: str, port: int, settings: Settings) -> str:
    """Open a connection as a build would, by TLS where it is https; raise ConfigError, Unknown."""
    proxy = proxy_of(scheme, host, settings)
    way = f" through the proxy {proxy.hostname}" if proxy else ""
    try:
        if scheme == "https":
            return f"{host} can be reached{way}: {shake_hands(host, port, proxy)}"
        address = (proxy.hostname or "", proxy.port or 80) if proxy else (host, port)
        with socket.create_connection(address, timeout=SECONDS) as connection:
            if scheme == "ssh" and not connection.recv(4).startswith(b"SSH"):
                raise ConfigError(f"{host} answers at port {port}, but is no SSH server.")
        return f"{host} can be reached{way}"
    except ssl.SSLCertVerificationError as error:
        raise ConfigError(
            f"{host} can be reached{way}, but its certificate is not trusted: {error.verify_message}. If a proxy or a "
            'host of your company signs it, set ca_bundle in config.ini and run "./deploy.sh bootstrap".'
        ) from None
    except OSError as error:
        raise ConfigError(
            f"{host} cannot be reached{way}: {error}. Has this function a way out (VPC, NAT, proxy in config.ini)?"
        ) from None


def shake_hands(host: str, port: int, proxy: urllib.parse.SplitResult | None) -> str:
    """Connect by TLS; return what was agreed on, and who vouches for the host."""
    if proxy and proxy.scheme not in ("http", ""):
        raise Unknown(f"the way to {host} is a proxy of another kind than http://, which doctor does not take")
    context = ssl.create_default_context()  # it trusts what SSL_CERT_FILE names, as the package clients do
    address = (proxy.hostname or "", proxy.port or 80) if proxy else (host, port)
    connection = http.client.HTTPSConnection(*address, timeout=SECONDS, context=context)
    if proxy:
        connection.set_tunnel(host, port)
    try:
        connection.connect()
        assert isinstance(connection.sock, ssl.SSLSocket)  # noqa: S101  # for mypy
        certificate: Mapping[str, Any] = connection.sock.getpeercert() or {}
        issuer = {name: value for part in certificate.get("issuer", ()) for name, value in part}
        vouches = issuer.get("organizationName") or issuer.get("commonName") or "nobody known"
        return f"{connection.sock.version()}, vouched for by {vouches}"
    finally:
        connection.close()


def proxy_of(scheme: str, host: str, settings: Settings) -> urllib.parse.SplitResult | None:
    """Return the proxy by which a build reaches a host, as its environment says; None if it goes there directly."""
    client = {name.lower(): value for name, value in settings.client.items() if name.lower().endswith("_proxy")}
    address = client.get(f"{scheme}_proxy", "")
    exceptions = {"no": client.get("no_proxy", "")}
    if not address or urllib.request.proxy_bypass_environment(host, exceptions):  # type: ignore[attr-defined]
        return None
    return urllib.parse.urlsplit(address if "://" in address else f"http://{address}")
