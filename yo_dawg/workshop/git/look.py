"""A program that asks a Git host where refs are; it needs no toolchain."""

from __future__ import annotations

import http.client
import urllib.request
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from yo_dawg.errors import SourceError
from yo_dawg.workshop.program import serve

if TYPE_CHECKING:
    from yo_dawg.report import Report


def ask_refs(job: Mapping[str, Any], _files: Mapping[str, int], _report: Report) -> dict[str, Any]:
    """Ask a Git host which commits some refs are at; raise SourceError.

    It reads the list that a server sends without being told of a protocol version (gitprotocol-http(5)).
    By the standard library: urllib3 takes longer to be there than a server to answer.
    """

    class NoRedirects(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None:
            """Follow none: another host must not see the credentials."""

    request = urllib.request.Request(f"{job['url']}/info/refs?service=git-upload-pack")  # noqa: S310  # https or http
    if job["credentials"]:
        request.add_header("Authorization", f"Basic {job['credentials']}")
    try:
        opened = urllib.request.build_opener(NoRedirects).open(request, timeout=job["seconds"])
        with opened as reply:
            content = reply.read(10_000_000)
    except (OSError, http.client.HTTPException) as error:
        raise SourceError(f"It could not be asked: {type(error).__name__}") from None
    if reply.status != 200 or not content.startswith(b"001e# service=git-upload-pack\n0000"):
        raise SourceError(f"It did not say: HTTP {reply.status}")
    refs, head, at = {}, None, 34
    while (size := int(content[at : at + 4], 16)) > 0:  # Python reads "-004" too, and would go back for ever
        line, _, abilities = content[at + 4 : at + size].rstrip(b"\n").partition(b"\0")
        for each in abilities.split():
            if each.startswith(b"symref=HEAD:"):
                head = each.removeprefix(b"symref=HEAD:").decode()
        commit, _, name = line.partition(b" ")
        refs[name.decode(errors="replace")] = commit.decode()
        at += size
    found = [(name, refs.get(f"{name}^{{}}", refs[name])) for name in job["names"] if name in refs]
    return {"found": [(head or name if name == "HEAD" else name, commit) for name, commit in found]}


if __name__ == "__main__":
    serve(ask_refs)
