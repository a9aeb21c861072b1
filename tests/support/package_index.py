"""A package index on loopback, which may want a password."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

PASSWORD = "canary/p%ss:5d1e"
ADDRESS = f"me:{quote(PASSWORD, safe='')}@"
BASIC = "Basic " + base64.b64encode(f"me:{PASSWORD}".encode()).decode()


class Index:
    """A package index, below /team/simple/; it wants a password if it is private."""

    def __init__(self, wheels: Path, *, private: bool, link: str = "../../files/") -> None:
        """Serve a folder of wheels; its pages link to files like this."""
        self.wheels, self.private, self.link = wheels, private, link
        self.asked: list[tuple[str, str | None]] = []
        self.url = ""
        self.kind = "text/html"
        self.tells_hashes = True

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer a request."""
        given = handler.headers.get("Authorization")
        self.asked.append((handler.path, given))
        top, _, name = handler.path.rstrip("/").rpartition("/")
        files = sorted(self.wheels.glob(f"{name}-*"))
        if self.private and given != BASIC:
            reply(handler, b"who are you?", "text/html", 401)
        elif top == "/team/simple" and files and self.kind == "text/html":
            links = "".join(
                f'<a href="{self.link.format(self.url)}{each.name}{self.fragment(each)}">{each.name}</a>'
                for each in files
            )
            reply(handler, f"<html>{links}</html>".encode(), "text/html")
        elif top == "/team/simple" and files:
            each = files[0]
            listed = f'{{"filename": "{each.name}", "url": "{self.link.format(self.url)}{each.name}", "hashes": {{}}}}'
            page = f'{{"meta": {{"api-version": "1.0"}}, "name": "{name}", "files": [{listed}]}}'
            reply(handler, page.encode(), "application/vnd.pypi.simple.v1+json")
        elif "/files/" in handler.path and (self.wheels / name).is_file():
            reply(handler, (self.wheels / name).read_bytes(), "application/octet-stream")
        elif "/moved/" in handler.path:
            reply(handler, b"", "text/html", 302, [("Location", f"{self.elsewhere}/team/files/{name}")])
        elif handler.path == "/admin":
            reply(handler, b"everything", "text/html")
        else:
            reply(handler, b"nothing", "text/html", 404)

    elsewhere = ""

    def fragment(self, wheel: Path) -> str:
        """Return what a link ends with, to tell a file's digest."""
        return f"#sha256={hashlib.sha256(wheel.read_bytes()).hexdigest()}" if self.tells_hashes else ""

    @contextlib.contextmanager
    def serving(self) -> Iterator[str]:
        """Serve it, and set its address; yield that."""
        answer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer(self)

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                pass

        httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        httpd.daemon_threads = True
        threading.Thread(target=httpd.serve_forever, args=(0.05,), daemon=True).start()
        try:
            self.url = f"http://127.0.0.1:{httpd.server_address[1]}"
            yield self.url
        finally:
            httpd.shutdown()
            httpd.server_close()


def reply(
    handler: BaseHTTPRequestHandler, body: bytes, kind: str, status: int = 200, headers: Sequence[tuple[str, str]] = ()
) -> None:
    """Answer a request."""
    handler.send_response(status)
    for name, value in [("Content-Type", kind), ("Content-Length", str(len(body))), *headers]:
        handler.send_header(name, value)
    handler.end_headers()
    with contextlib.suppress(OSError):  # the client may have heard enough
        handler.wfile.write(b"" if handler.command == "HEAD" else body)


def address(index: Index) -> str:
    """Return an index's address with the credentials, as the secret holds it."""
    return f"{index.url.replace('://', f'://{ADDRESS}')}/team/simple/"
