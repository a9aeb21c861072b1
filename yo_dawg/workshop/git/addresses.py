"""Addresses that a repository names, and the credentials that their servers may see."""

from __future__ import annotations

import urllib.parse
from dataclasses import replace

from yo_dawg.errors import SourceError
from yo_dawg.source import SCP_ADDRESS, Source, origin
from yo_dawg.text import printable


def related_source(source: Source, url: str, what: str) -> Source:
    """Return where a submodule or a requirement is cloned from, with the credentials that its server may see."""
    if url.startswith(("./", "../")):
        url = beside(source.url, url)
    scheme, host, _ = origin(url)
    here = origin(source.url)
    if scheme == "ssh" and here[0] == "https" and host == here[1]:
        # git@HOST:account/project, as developers write it, is the same repository at https://HOST/account/project.
        short = SCP_ADDRESS.fullmatch(url)
        where = short["path"] if short else urllib.parse.urlsplit(url).path
        url = f"https://{urllib.parse.urlsplit(source.url).netloc}/{where.strip('/')}"
    elif scheme not in ("https", "ssh") and origin(url) != here:
        raise SourceError(
            f"The {what} is at {printable(url)!r}: only https:// and SSH addresses are fetched, and relative ones."
        )
    if "@" in urllib.parse.urlsplit(url).netloc and scheme in ("https", "http"):
        raise SourceError(f"The {what} has a user name or password in its address: take that out.")
    # The credentials go along to the same server only.
    return replace(source, url=url) if origin(url) == here else Source(url)


def beside(url: str, relative: str) -> str:
    """Resolve a submodule's relative address, as Git does: "../other" is beside the repository."""
    base, separator = url.rstrip("/"), "/"
    while relative.startswith(("./", "../")):
        up, _, relative = relative.partition("/")
        if up == "..":
            cut = max(base.rfind("/"), base.rfind(":") if "://" not in base else -1)
            if separator == ":" or cut < 0 or base[:cut].endswith(("/", ":/")):
                raise SourceError(f"The repository's .gitmodules leads out of {url}.")
            base, separator = base[:cut], base[cut]
    return f"{base}{separator}{relative}"
