"""A program that runs uv, and lends it private package indexes without their passwords."""

from __future__ import annotations

import contextlib
import html
import json
import re
import subprocess
import sys
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from yo_dawg.killing import PR_SET_DUMPABLE, prctl
from yo_dawg.limits import PIECE, STALL_SECONDS
from yo_dawg.text import printable
from yo_dawg.workshop.program import environment


def http_client(url: str, seconds: float) -> Any:
    """Return an HTTP client for an address, through a proxy if the environment says so."""
    import urllib.parse
    import urllib.request

    import urllib3

    parts = urllib.parse.urlsplit(url)
    proxy = None if urllib.request.proxy_bypass(parts.netloc) else urllib.request.getproxies().get(parts.scheme)
    options: dict[str, Any] = {"timeout": seconds, "maxsize": 50, "cert_reqs": "CERT_REQUIRED"}
    return urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)


def install_worker() -> NoReturn:
    """Run the installer's command on standard input, and lend it what it must not hold.

    Requirements files show the folders into which repositories were fetched while it runs, and are put
    back.  Private package indexes answer on loopback, where no credentials are needed: this process
    adds them, and is closed to its children, in which the code of source distributions runs.  For the
    same reason it imports nothing of the toolchain, which they could change.
    """
    job = json.load(sys.stdin)
    prctl(PR_SET_DUMPABLE, 0)
    local: dict[str, str] = {}
    """For the address of each private index, without credentials, the one on loopback."""
    for url in job["indexes"]:
        server = index_server(url)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        parts = urllib.parse.urlsplit(url.rstrip("/"))
        public = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        local[public] = parts._replace(scheme="http", netloc=f"127.0.0.1:{server.server_port}").geturl()
    texts = dict(job["texts"])
    for path in (Path("pyproject.toml"), Path(job["config"])):
        if path.is_file():
            texts[str(path)] = path.read_text(errors="surrogateescape")
    for public, here in local.items():
        address = re.compile(
            re.escape(public).replace("://", r"://(?:[^\s/@\"']*@)?", 1) + r"(?=[/\s\"']|$)", re.MULTILINE
        )
        texts = {path: address.sub(here, text) for path, text in texts.items()}
    environ = environment()
    for name in ("NO_PROXY", "no_proxy"):
        environ[name] = ",".join(filter(None, [environ.get(name), "127.0.0.1"]))
    environ["UV_INDEX"] = " ".join([*(f"{each}/" for each in local.values()), environ.get("UV_INDEX", "")]).strip()
    with replaced(texts):
        process = subprocess.Popen(  # noqa: S603  # an argument list, no shell
            job["argv"], env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        for line in process.stdout or ():
            text = line.decode(errors="replace")
            for public, here in local.items():
                text = text.replace(here, public)
            print(text, end="", flush=True)
        status = process.wait()
    sys.exit(status if status >= 0 else 128 - status)


@contextlib.contextmanager
def replaced(texts: Mapping[str, str]) -> Iterator[None]:
    """Let files hold these texts for a while."""
    before = {path: Path(path).read_bytes() for path in texts}
    try:
        for path, text in texts.items():
            Path(path).write_text(text, errors="surrogateescape")
        yield
    finally:
        for path, content in before.items():
            Path(path).write_bytes(content)


def index_server(url: str) -> Any:
    """Return a server on loopback that asks a package index, with the credentials in its address.

    It serves the index, and what its pages link to on the same host; nothing else that the
    credentials might open.
    """
    import http.server

    import urllib3

    parts = urllib.parse.urlsplit(url)
    upstream = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    top = parts.path.rstrip("/") + "/"
    pair = f"{urllib.parse.unquote(parts.username or '')}:{urllib.parse.unquote(parts.password or '')}"
    # urllib3 takes it out again where a redirect leads to another host.
    credentials = urllib3.make_headers(basic_auth=pair) if parts.username else {}
    pool = http_client(url, STALL_SECONDS)
    linked: set[str] = set()

    class Index(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            known = path.removesuffix(".metadata") in linked
            if ".." in urllib.parse.unquote(path) or not (known or path.startswith(top)):
                return self.send_error(403, "not of this package index")
            asked = {name: self.headers[name] for name in ASKED_HEADERS if name in self.headers}
            try:
                answer = pool.request(
                    self.command, upstream + self.path, headers={**asked, **credentials}, preload_content=False
                )
                self.pass_on(answer)
            except urllib3.exceptions.HTTPError as error:
                print(f"{upstream} cannot be asked for {path}: {printable(str(error))}", flush=True)
                self.send_error(502, "the package index cannot be reached")

        do_HEAD = do_GET

        def pass_on(self, answer: Any) -> None:
            here = f"http://127.0.0.1:{self.server.server_port}"  # type: ignore[attr-defined]
            headers = {name: answer.headers[name] for name in ANSWERED_HEADERS if name in answer.headers}
            pieces: Iterable[bytes]
            if re.search("html|json", answer.headers.get("Content-Type", "")):
                text = answer.read(decode_content=True).decode(errors="surrogateescape").replace(upstream, here)
                page = urllib.parse.urljoin(f"{here}{self.path}", answer.url or "")
                for link in re.findall(r"""(?:href=|"url":\s*)["']([^"'#]+)""", text):
                    linked.add(urllib.parse.urlsplit(urllib.parse.urljoin(page, html.unescape(link))).path)
                pieces = [text.encode(errors="surrogateescape")]
                headers["Content-Length"] = str(len(pieces[0]))
                headers.pop("Content-Encoding", None)
            else:
                pieces = answer.stream(PIECE, decode_content=False)
            self.send_response(answer.status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                for piece in pieces:
                    self.wfile.write(piece)

        def log_message(self, *_: object) -> None:
            """Say nothing: uv says what it fetches."""

    return http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index)


ASKED_HEADERS = ("Accept", "Accept-Encoding", "If-Modified-Since", "If-None-Match", "Range", "User-Agent")

ANSWERED_HEADERS = (
    "Accept-Ranges", "Cache-Control", "Content-Encoding", "Content-Length", "Content-Range", "Content-Type", "ETag",
    "Last-Modified",
)  # fmt: skip
"""What of a request to a package index, and of its answer, is passed on."""


if __name__ == "__main__":
    install_worker()
