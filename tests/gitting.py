"""Repositories made with git, repositories that git itself would refuse to make, and servers for both."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import os
import shutil
import struct
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from local.git_server import find_git
from yo_dawg.checkout import Checkout, Source
from yo_dawg.control.clone import clone
from yo_dawg.control.toolchain import Toolchain
from yo_dawg.events import BuildRequest
from yo_dawg.process import Shell
from yo_dawg.workspace import Workspace, remove_tree

needs_git = pytest.mark.skipif(find_git() is None, reason="needs git with http-backend")


class Cloner:
    """Clones as a build does, the git worker in a child, each time into an empty checkout."""

    def __init__(self, space: Workspace, shell: Shell) -> None:
        self.space, self.shell = space, shell

    def __call__(self, source: Source | str, **fields: Any) -> Checkout:
        for left in (self.space.checkout, self.space.objects):
            remove_tree(left)
        source = Source(source) if isinstance(source, str) else source
        toolchain = Toolchain(self.space.toolchain)  # Dulwich is among the tests' own packages
        return clone(source, BuildRequest("f", "project", **fields), toolchain, self.shell)


def tree(root: Path) -> list[str]:
    """Return the names of all files and links below a folder."""
    return sorted(
        os.path.relpath(os.path.join(folder, name), root)
        for folder, folders, files in os.walk(root)
        for name in [*files, *(each for each in folders if os.path.islink(os.path.join(folder, each)))]
    )


GIT_ENVIRON = {
    "PATH": os.environ.get("PATH", os.defpath),
    "HOME": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@localhost", "GIT_AUTHOR_DATE": "2025-01-01T00:00:00Z",
    "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@localhost", "GIT_COMMITTER_DATE": "2025-01-01T00:00:00Z",
}  # fmt: skip


def git(folder: Path, *arguments: str, stdin: bytes = b"") -> str:
    """Run git; return what it prints."""
    command = ["git", "-c", "init.defaultBranch=main", "-c", "protocol.file.allow=always", *arguments]
    done = subprocess.run(command, cwd=folder, env=GIT_ENVIRON, input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode(errors="surrogateescape").strip()


def publish(root: Path, name: str, files: Mapping[str, str | bytes] | None = None) -> Path:
    """Make root/NAME.git, bare, with a work tree beside it that is pushed to it; return the work tree."""
    work = root / f"work-{name}"
    work.mkdir()
    git(work, "init", "--quiet")
    for path, content in (files or {}).items():
        (work / path).parent.mkdir(parents=True, exist_ok=True)
        (work / path).write_bytes(content.encode() if isinstance(content, str) else content)
    git(root, "init", "--quiet", "--bare", f"{name}.git")
    if files:
        push(work, root / f"{name}.git")
    return work


def push(work: Path, target: Path) -> str:
    """Commit all of a work tree and push everything; return the commit."""
    git(work, "add", "--all")
    git(work, "commit", "--quiet", "--allow-empty", "--message", "work")
    git(work, "push", "--quiet", "--force", "--all", str(target))
    git(work, "push", "--quiet", "--force", "--tags", str(target))
    return git(work, "rev-parse", "HEAD")


# --- Objects and packs, made by hand ------------------------------------------------------------------

COMMIT, TREE, BLOB, TAG, OFFSET_DELTA, NAMED_DELTA = 1, 2, 3, 4, 6, 7
KINDS = {COMMIT: b"commit", TREE: b"tree", BLOB: b"blob", TAG: b"tag"}


class HandMade:
    """A repository of objects that nobody has checked."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.objects: list[bytes] = []
        """As they stand in the pack."""

    def add(self, kind: int, content: bytes, *, declared: int | None = None) -> bytes:
        """Add an object, which may declare another size; return its name."""
        size = len(content) if declared is None else declared
        self.objects.append(header(kind, size) + zlib.compress(content, 1))
        return hashlib.sha1(KINDS[kind] + b" %d\0" % len(content) + content, usedforsecurity=False).digest()

    def tree(self, *entries: tuple[bytes, bytes, bytes]) -> bytes:
        """Add a tree of (mode, name, object); return its name."""
        return self.add(TREE, b"".join(mode + b" " + name + b"\0" + sha for mode, name, sha in entries))

    def commit(self, tree: bytes) -> str:
        """Add a commit; return its id."""
        text = b"tree %s\nauthor a <a> 1 +0000\ncommitter a <a> 1 +0000\n\nm\n" % tree.hex().encode()
        return self.add(COMMIT, text).hex()

    @property
    def pack(self) -> bytes:
        """The pack."""
        return sealed(b"PACK" + struct.pack(">II", 2, len(self.objects)) + b"".join(self.objects))


def sealed(pack: bytes) -> bytes:
    """Put the checksum at the end of a pack."""
    return pack + hashlib.sha1(pack, usedforsecurity=False).digest()


def header(kind: int, size: int) -> bytes:
    """Return the head of an object in a pack."""
    first, size = kind << 4 | size & 15, size >> 4
    out = []
    while size:
        out.append(first | 0x80)
        first, size = size & 0x7F, size >> 7
    return bytes([*out, first])


def packet(text: bytes) -> bytes:
    """Return a line of Git's protocol."""
    return b"%04x" % (len(text) + 4) + text


def refs_answer(commit: str) -> bytes:
    """Return what a server of protocol version 0 says that it has: main, at this commit."""
    capabilities = b"multi_ack thin-pack side-band-64k ofs-delta shallow no-progress symref=HEAD:refs/heads/main"
    return b"".join(
        [
            packet(b"# service=git-upload-pack\n"), b"0000",
            packet(commit.encode() + b" HEAD\0" + capabilities + b"\n"),
            packet(commit.encode() + b" refs/heads/main\n"), b"0000",
        ]
    )  # fmt: skip


def pack_answer(commit: str, pack: bytes) -> bytes:
    """Return what a server sends when that commit is wanted."""
    pieces = [packet(b"\1" + pack[start : start + 60000]) for start in range(0, len(pack), 60000)]
    return b"".join([packet(b"shallow " + commit.encode()), b"0000", packet(b"NAK\n"), *pieces, b"0000"])


Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


@contextlib.contextmanager
def server(answer: Answer, context: Any = None) -> Iterator[str]:
    """Serve HTTP on loopback; yield the URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = 20

        def do_GET(self) -> None:
            answer(self)

        do_HEAD = do_GET

        def do_POST(self) -> None:
            self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer(self)

        def log_message(self, *_: object) -> None:
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    if context is not None:
        httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
    threading.Thread(target=httpd.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"{'https' if context else 'http'}://127.0.0.1:{httpd.server_address[1]}"
    finally:
        httpd.shutdown()
        httpd.server_close()


def reply(
    handler: http.server.BaseHTTPRequestHandler,
    body: bytes,
    kind: str = "",
    status: int = 200,
    headers: Sequence[tuple[str, str]] = (),
) -> None:
    """Answer a request."""
    handler.send_response(status)
    service = "upload-pack-result" if handler.command == "POST" else "upload-pack-advertisement"
    handler.send_header("Content-Type", kind or f"application/x-git-{service}")
    handler.send_header("Content-Length", str(len(body)))
    for name, value in headers:
        handler.send_header(name, value)
    handler.end_headers()
    with contextlib.suppress(OSError):  # the client may have heard enough
        handler.wfile.write(b"" if handler.command == "HEAD" else body)


def serving(commit: str, pack: bytes) -> Answer:
    """Return a server of one commit, whose pack nobody has checked."""

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        reply(handler, pack_answer(commit, pack) if handler.command == "POST" else refs_answer(commit))

    return answer


def has_program(name: str) -> str | None:
    """Return the path of a program, also of one for administrators."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
