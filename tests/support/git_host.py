"""Repositories made with git and with Dulwich, Git hosts that serve them, and what clones from them."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
import urllib.request
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from dulwich.objects import Blob, Commit, Tree
from dulwich.repo import Repo

from local.git_server import AUTHOR, NEW_YEAR_2025, GitServer, find_git
from yo_dawg.checkout import Checkout, Required
from yo_dawg.errors import SourceError
from yo_dawg.source import Source
from yo_dawg.trees import entries_below
from yo_dawg.workshop.git.clone import fetch_checkout
from yo_dawg.workspace import HERE, Workspace, remove_tree

needs_git = pytest.mark.skipif(find_git() is None, reason="needs git with http-backend")


class Cloner:
    """Does the Git program's job, each time into an empty checkout: in this process, or in a child."""

    def __init__(self, space: Workspace, environ: Mapping[str, str] | None = None, more: str = "pass") -> None:
        """Work in this workspace; given an environment, in a child that first runs some more lines."""
        self.space, self.environ, self.more = space, environ, more

    def __call__(self, source: Source | str, **fields: Any) -> Checkout:
        """Clone; fields are "ref", "subdirectory" and "asked"."""
        for left in (self.space.checkout, self.space.objects, self.space.sources):
            remove_tree(left)
        source = Source(source) if isinstance(source, str) else source
        folder = fields.get("subdirectory") or ""
        job = {
            "source": vars(source), "ref": fields.get("ref"), "project": folder, "objects": str(self.space.objects),
            "checkout": str(self.space.checkout), "sources": str(self.space.sources), "asked": fields.get("asked", []),
        }  # fmt: skip
        answer = self._fetch(job) if self.environ is None else self._fetch_in_child(job, self.environ)
        remove_tree(self.space.objects)
        root = self.space.checkout
        required = Required.from_json(answer.pop("required"))
        answer["warnings"] = tuple(answer["warnings"])
        files = frozenset(os.path.relpath(each.path, root) for each in entries_below(root))
        return Checkout(root, root / folder, files=files, required=required, **answer)

    def _fetch(self, job: Mapping[str, Any]) -> dict[str, Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # what the program leaves open, its end closes
            try:
                return cast(dict[str, Any], json.loads(json.dumps(fetch_checkout(job))))
            finally:
                gc.collect()

    def _fetch_in_child(self, job: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
        program = f"{self.more}\n{CHILD}"
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=HERE, env={"PATH": os.environ["PATH"], **environ},
            input=json.dumps(job).encode(), stdout=subprocess.PIPE, check=True,
        )  # fmt: skip
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        if "error" in answer:
            raise SourceError(answer["error"])
        return answer


CHILD = """
import json, sys
from yo_dawg.errors import SourceError
from yo_dawg.trees import entries_below
from yo_dawg.workshop.git.clone import fetch_checkout
try: answer = fetch_checkout(json.load(sys.stdin))
except SourceError as error: answer = {"error": str(error)}
print(json.dumps(answer))
"""


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
    settings = ("init.defaultBranch=main", "protocol.file.allow=always", "core.compression=1")
    command = ["git", *(part for each in settings for part in ("-c", each)), *arguments]
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


def add_submodule(work: Path, url: str, path: str, source: Path) -> None:
    """Add a submodule as "git submodule add" does, at the tip of a bare repository."""
    git(work, "config", "--file", ".gitmodules", f"submodule.{path}.path", path)
    git(work, "config", "--file", ".gitmodules", f"submodule.{path}.url", url)
    git(work, "add", ".gitmodules")
    git(work, "update-index", "--add", "--cacheinfo", f"160000,{git(source, 'rev-parse', 'main')},{path}")
    git(work, "commit", "--quiet", "--message", "submodule")


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


def has_program(name: str) -> str | None:
    """Return the path of a program, also of one for administrators."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


FILE, SCRIPT, LINK, SUBMODULE = 0o100644, 0o100755, 0o120000, 0o160000


Entries = Sequence[tuple[bytes, int, bytes]]


def add_commit(store: Any, entries: Entries) -> bytes:
    """Store a commit of these files, whatever their names; return its id."""
    commit = Commit()
    commit.tree = add_tree(store, entries)
    commit.author = commit.committer = AUTHOR
    commit.author_time = commit.commit_time = NEW_YEAR_2025
    commit.author_timezone = commit.commit_timezone = 0
    commit.message = b"x\n"
    store.add_object(commit)
    return bytes(commit.id)


def add_tree(store: Any, entries: Entries) -> Any:
    """Store one tree: its names are taken as they are, also twice; a directory's content is its first file's."""
    raw = b""
    for name, mode, content in entries:
        if mode == 0o40000:
            sha = add_tree(store, [(b"inner.py", FILE, content)])
        elif mode == SUBMODULE:
            sha = b"1" * 40
        else:
            blob = Blob.from_string(content)
            store.add_object(blob)
            sha = blob.id
        raw += b"%o %s\0" % (mode, name) + bytes.fromhex(sha.decode())
    tree = Tree.from_string(raw)
    store.add_object(tree)
    return tree.id


class Project:
    """A repository made with Dulwich, on a Git host, and what clones from it."""

    def __init__(self, server: GitServer, space: Workspace) -> None:
        """Make it empty, its HEAD at main."""
        self.server, self.space = server, space
        self.repo = Repo.init_bare(str(server.root / "project.git"), mkdir=True)
        self.repo.refs.set_symbolic_ref(b"HEAD", b"refs/heads/main")  # type: ignore[arg-type]
        self.source = Source(f"{server.url}/project.git")

    def clone(self, source: Source | None = None, **fields: Any) -> Checkout:
        """Clone it, or another."""
        return Cloner(self.space)(source or self.source, **fields)

    def commit(self, *entries: tuple[bytes, int, bytes]) -> str:
        """Make a commit the tip of main."""
        sha = add_commit(self.repo.object_store, entries or [(b"app.py", FILE, b"x = 1\n")])
        self.point(b"refs/heads/main", sha)
        return sha.decode()

    def point(self, ref: bytes, sha: bytes) -> None:
        """Let a ref point at an object."""
        self.repo.refs[ref] = sha  # type: ignore[index, assignment]  # Dulwich's own types of bytes


DATA = b"real data\n" * 1000


def pointer(data: bytes) -> str:
    """Return what is committed for a file in Git LFS."""
    oid = hashlib.sha256(data).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(data)}\n"


def lfs_host(git_url: str, served: bytes | None, action: dict[str, Any] | None = None) -> Answer:
    """Pass Git on to a real host by redirecting nothing: answer LFS ourselves, ask Git for the rest."""

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        url = f"http://{handler.headers['Host']}"
        if handler.path.endswith(".git/info/lfs/objects/batch") and served is not None:
            question = json.loads(handler.body)  # type: ignore[attr-defined]
            download = {"href": f"{url}/data", **(action or {})}
            found = [{**each, "actions": {"download": download}} for each in question["objects"]]
            reply(handler, json.dumps({"objects": found}).encode(), "application/vnd.git-lfs+json")
        elif handler.path == "/data" and served is not None:
            reply(handler, served, "application/octet-stream")
        elif "/info/lfs/" in handler.path:
            reply(handler, b"", "text/plain", 404)
        else:
            headers = {
                name: handler.headers[name] for name in ("Content-Type", "Git-Protocol") if handler.headers[name]
            }
            body = handler.body if handler.command == "POST" else None  # type: ignore[attr-defined]
            request = urllib.request.Request(git_url + handler.path, body, headers)
            with urllib.request.urlopen(request) as response:
                reply(handler, response.read(), response.headers["Content-Type"])

    return answer
