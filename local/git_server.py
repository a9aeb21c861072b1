"""A Git host on this machine: bare repositories in a folder, served by smart HTTP on loopback.

With Git installed it is Git itself that answers (``git http-backend``); else Dulwich's server, which
does less: it speaks version 0 of the protocol and hands out no commit that no ref points at.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import os
import shutil
import stat
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Literal
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from dulwich.errors import NotGitRepository
from dulwich.ignore import IgnoreFilter, IgnoreFilterManager
from dulwich.index import commit_tree
from dulwich.objects import Blob, Commit, ObjectID
from dulwich.refs import Ref
from dulwich.repo import Repo
from dulwich.server import Backend
from dulwich.web import make_wsgi_chain

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

NEW_YEAR_2025 = 1_735_689_600
"""The date of made commits: the same folder then gives the same commit on any day."""

AUTHOR = b"yo-dawg <yo-dawg@localhost>"

NEVER_COMMITTED = (b".git", b"__pycache__/")
"""Left out as well as what the folder's own .gitignore files name."""

GIT_CONFIG = {
    # Git's own defaults are stricter than the usual hosts, which allow both.
    "uploadpack.allowFilter": "true",
    "uploadpack.allowAnySHA1InWant": "true",
    # No pushes, which are otherwise on for who gave a password; and no dumb protocol.
    "http.receivepack": "false",
    "http.getanyfile": "false",
    # The folder may belong to somebody else than who runs the server.
    "safe.directory": "*",
}

PIECE = 1 << 16

CGI_VARIABLES = (
    "REQUEST_METHOD",
    "PATH_INFO",
    "QUERY_STRING",
    "CONTENT_TYPE",
    "CONTENT_LENGTH",
    "HTTP_CONTENT_ENCODING",
    "REMOTE_ADDR",
    "REMOTE_USER",
    "SERVER_PROTOCOL",
)
"""Of a request's environment, what git http-backend reads."""


# --- Repositories --------------------------------------------------------------------------------


def make_repository(
    source: Path, target: Path, *, branch: str = "main", message: str = "The project", when: int = NEW_YEAR_2025
) -> str:
    """Make a bare repository at target with one commit of a folder's files; return the commit's id.

    As with ``git add``, executable bits and symbolic links are kept, and what .gitignore names is left
    out.
    """
    target.mkdir(parents=True)
    with contextlib.closing(Repo.init_bare(str(target))) as repo:
        entries = []
        for path in project_files(source):
            blob, mode = read_blob(path)
            repo.object_store.add_object(blob)
            entries.append((os.fsencode(path.relative_to(source)), blob.id, mode))
        commit = Commit()
        commit.tree = commit_tree(repo.object_store, entries)
        commit.author = commit.committer = AUTHOR
        commit.author_time = commit.commit_time = when
        commit.author_timezone = commit.commit_timezone = 0
        commit.message = f"{message}\n".encode()
        repo.object_store.add_object(commit)
        ref = Ref(f"refs/heads/{branch}".encode())
        repo.refs[ref] = commit.id
        repo.refs.set_symbolic_ref(Ref(b"HEAD"), ref)
        return _text(commit.id)


def project_files(source: Path) -> Iterator[Path]:
    """Yield the files and links below a folder that Git would add, in order of their names."""
    ignored = IgnoreFilterManager(str(source), [IgnoreFilter(NEVER_COMMITTED)], False)
    for folder, folders, files in os.walk(source):
        links = [name for name in folders if Path(folder, name).is_symlink()]
        kept = []
        for name in sorted(set(folders) - set(links)):
            # The slash says that it is a directory, which some patterns ask for.
            if not ignored.is_ignored(f"{Path(folder, name).relative_to(source)}/"):
                kept.append(name)
        folders[:] = kept
        for name in sorted([*files, *links]):
            path = Path(folder, name)
            if not ignored.is_ignored(str(path.relative_to(source))) and (path.is_symlink() or path.is_file()):
                yield path


def read_blob(path: Path) -> tuple[Blob, int]:
    """Read a file or link as Git stores it: its content and its mode."""
    if path.is_symlink():
        return Blob.from_string(os.fsencode(os.readlink(path))), stat.S_IFLNK
    executable = path.stat().st_mode & stat.S_IXUSR
    return Blob.from_string(path.read_bytes()), stat.S_IFREG | (0o755 if executable else 0o644)


def _text(sha: ObjectID) -> str:
    return sha.decode("ascii")


# --- The server ----------------------------------------------------------------------------------


class GitServer:
    """Serves root/NAME.git at url/NAME.git, to those of the users alone if any are given."""

    def __init__(
        self,
        root: Path,
        *,
        backend: Literal["auto", "git", "dulwich"] = "auto",
        users: Mapping[str, str] | None = None,
    ) -> None:
        """Choose who answers; nothing is served before the ``with`` block.

        Raises RuntimeError if Git is asked for and not there.
        """
        git = None if backend == "dulwich" else find_git()
        if backend == "git" and git is None:
            raise RuntimeError('There is no Git with http-backend on PATH: install Git, or use backend="dulwich".')
        self.root = root
        self.backend = "git" if git else "dulwich"
        application = GitBackend(git, root) if git else dulwich_backend(root)
        guarded = require_user(application, users) if users else application
        self.requests: list[str] = []
        """What was asked and answered so far: "GET /hello.git/info/refs?service=git-upload-pack 200"."""
        self._application = note_requests(guarded, self.requests)
        self._server: _Server | None = None

    def __enter__(self) -> GitServer:
        """Begin to serve."""
        self._server = _Server(("127.0.0.1", 0), _Request)
        self._server.set_app(self._application)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="git-server", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop serving."""
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()
        self._server = None

    @property
    def url(self) -> str:
        """Where it is served: what config.ini calls base_url."""
        if self._server is None:
            raise RuntimeError("This GitServer is not serving: use it in a with statement.")
        return f"http://127.0.0.1:{self._server.server_address[1]}"


class _Server(ThreadingMixIn, WSGIServer):
    """A WSGI server with a thread for each request, and none left when it is closed."""

    def server_bind(self) -> None:
        """Bind without http.server's look-up of the host's name, which can hang where DNS does."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]
        self.setup_environ()


class _Request(WSGIRequestHandler):
    """Does not log on stderr, and gives up on a client that says nothing."""

    timeout = 60

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: GitServer.requests has it."""


# --- Around both backends --------------------------------------------------------------------------


def note_requests(application: WSGIApplication, notes: list[str]) -> WSGIApplication:
    """Note each request with its status, before the client sees the answer."""

    def noting(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        query = f"?{environ['QUERY_STRING']}" if environ["QUERY_STRING"] else ""

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Callable[[bytes], object]:
            notes.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}{query} {status.partition(' ')[0]}")
            return start_response(status, headers, *error)

        return application(environ, start)

    return noting


def require_user(application: WSGIApplication, users: Mapping[str, str]) -> WSGIApplication:
    """Put basic authentication in front of an application."""
    allowed = ["Basic " + base64.b64encode(f"{name}:{password}".encode()).decode() for name, password in users.items()]

    def guarded(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        given = environ.get("HTTP_AUTHORIZATION", "")
        if any(hmac.compare_digest(given.encode(), each.encode()) for each in allowed):
            return application(environ, start_response)
        start_response("401 Unauthorized", [("WWW-Authenticate", 'Basic realm="git"'), ("Content-Length", "0")])
        return []

    return guarded


# --- Git's own backend ---------------------------------------------------------------------------


def find_git() -> str | None:
    """Return the path of a Git that has http-backend, or None.

    It is run, not only looked for: on a Mac without developer tools, git is a program that only says so.
    """
    git = shutil.which("git")
    if git is None:
        return None
    done = subprocess.run([git, "--exec-path"], capture_output=True, text=True, check=False)  # noqa: S603
    backend = Path(done.stdout.strip(), "git-http-backend")
    return git if done.returncode == 0 and os.access(backend, os.X_OK) else None


class GitBackend:
    """``git http-backend`` as a WSGI application."""

    def __init__(self, git: str, root: Path) -> None:
        """Serve the repositories below root with this git."""
        self.command = [git, "http-backend"]
        self.environ = {
            "PATH": os.environ.get("PATH", os.defpath),
            "GIT_PROJECT_ROOT": str(root.resolve()),
            "GIT_HTTP_EXPORT_ALL": "1",
            # Nothing of how this machine or this user has set up Git.
            "HOME": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_COUNT": str(len(GIT_CONFIG)),
        }
        for number, (key, value) in enumerate(GIT_CONFIG.items()):
            self.environ[f"GIT_CONFIG_KEY_{number}"] = key
            self.environ[f"GIT_CONFIG_VALUE_{number}"] = value

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        """Run Git for one request and pass on what it says, as it says it."""
        if environ.get("HTTP_TRANSFER_ENCODING"):
            start_response("411 Length Required", [("Content-Length", "0")])
            return
        with request_body(environ) as body, self.start(environ, body) as process:
            assert process.stdout is not None
            try:
                start_response(*read_cgi_head(process.stdout))
                while piece := process.stdout.read(PIECE):
                    yield piece
            except BaseException:
                process.kill()  # the client went away
                raise

    def start(self, environ: WSGIEnvironment, body: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start Git with a CGI environment made of its own settings and the request's."""
        request = {name: str(environ[name]) for name in CGI_VARIABLES if environ.get(name)}
        request["GIT_PROTOCOL"] = str(environ.get("HTTP_GIT_PROTOCOL", ""))
        return subprocess.Popen(  # noqa: S603
            self.command,
            stdin=body,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**self.environ, **request},
        )


@contextlib.contextmanager
def request_body(environ: WSGIEnvironment) -> Iterator[IO[bytes]]:
    """Put a request's body into a file: Git may answer before it has read all, and must not wait for us."""
    left = int(environ.get("CONTENT_LENGTH") or 0)
    with tempfile.TemporaryFile() as file:
        while left > 0 and (piece := environ["wsgi.input"].read(min(left, PIECE))):
            file.write(piece)
            left -= len(piece)
        file.seek(0)
        yield file


def read_cgi_head(output: IO[bytes]) -> tuple[str, list[tuple[str, str]]]:
    """Read a CGI program's status and headers, up to the empty line."""
    status, headers = "200 OK", []
    for line in iter(lambda: output.readline().decode("latin-1").strip(), ""):
        name, _, value = line.partition(": ")
        if name.lower() == "status":
            status = value
        else:
            headers.append((name, value))
    return (status, headers) if headers else ("500 Internal Server Error", [])


# --- Dulwich's backend ---------------------------------------------------------------------------


def dulwich_backend(root: Path) -> WSGIApplication:
    """Serve the repositories below root with Dulwich."""

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        if "git-receive-pack" in environ["PATH_INFO"] + environ["QUERY_STRING"]:
            start_response("403 Forbidden", [("Content-Length", "0")])
            return
        with contextlib.closing(_Repositories(root)) as repositories:
            yield from make_wsgi_chain(repositories)(environ, start_response)

    return application


class _Repositories(Backend):
    """The repositories of a folder, opened for one request."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._opened = contextlib.ExitStack()

    def close(self) -> None:
        self._opened.close()

    def open_repository(self, path: str) -> Repo:
        """Open a repository by its path in the URL; raise NotGitRepository."""
        folder = (self.root / os.fsdecode(path).lstrip("/")).resolve()
        if not folder.is_relative_to(self.root):
            raise NotGitRepository(f"{path} is outside of what is served")
        return self._opened.enter_context(contextlib.closing(Repo(str(folder))))
