"""Git hosts: tokens, HTTPS; hosts that redirect, forbid, stall and talk nonsense."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from local.git_server import GitServer
from tests.support.git_host import Answer, Cloner, Project, has_program, needs_git, publish, reply, server
from tests.support.hand_made import BLOB, HandMade, pack_answer, packet, refs_answer, serving
from yo_dawg.errors import SourceError
from yo_dawg.source import Source
from yo_dawg.workspace import Workspace

TOKEN = "canary-token-5e8a1f"


def test_a_repository_that_is_not_there_is_said_so(project: Project) -> None:
    with pytest.raises(SourceError, match="no such repository, or hides it.*repo_name.*base_url"):
        project.clone(Source(f"{project.server.url}/none.git"))


@pytest.mark.parametrize(
    ("username", "token", "words"),
    [
        pytest.param("me", TOKEN, None, id="right"),
        pytest.param("", TOKEN, "the token is refused", id="the default user name is another"),
        pytest.param("me", f"{TOKEN}x", "the token is refused", id="wrong"),
        pytest.param("", "", "the host wants a token", id="missing"),
    ],
)
def test_a_private_repository_wants_the_right_token(
    project: Project, capsys: pytest.CaptureFixture[str], username: str, token: str, words: str | None
) -> None:
    project.commit()
    with GitServer(project.server.root, users={"me": TOKEN}) as guarded:
        source = Source(f"{guarded.url}/project.git", username, token)
        assert TOKEN not in repr(source)
        if words is None:
            assert project.clone(source).ref == "main"
        else:
            with pytest.raises(SourceError, match=f"{words}.*token_secret and username") as refused:
                project.clone(source)
            assert "canary" not in str(refused.value)
    assert "canary" not in capsys.readouterr().out


@contextlib.contextmanager
def answering(reply: bytes) -> Iterator[str]:
    """Serve these bytes, whatever is asked; yield the address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection:
                        connection.recv(65536)
                        connection.sendall(reply)

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)


def http(body: bytes, kind: str = "application/x-git-upload-pack-advertisement", status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x00\xff\n\n", id="no HTTP"),
        pytest.param(http(b"<html>", "text/html"), id="a web page"),
        pytest.param(http(b"zzzz"), id="no lines of Git"),
        pytest.param(http(b"001e# service=git-upload-pack\n0000" + b"00ff" + b"x"), id="cut off"),
        pytest.param(http(b"", status="500 Internal Server Error"), id="an error"),
    ],
)
def test_what_is_no_git_host_is_a_source_error(project: Project, reply: bytes) -> None:
    with answering(reply) as url, pytest.raises(SourceError, match=rf"Cannot clone {url}/project\.git: .+") as refused:
        project.clone(Source(f"{url}/project.git"))
    assert "Traceback" not in str(refused.value)


def test_a_host_that_cannot_be_reached_is_a_source_error(project: Project) -> None:
    with pytest.raises(SourceError, match=r"Cannot clone http://127\.0\.0\.1:1/project\.git.*base_url"):
        project.clone(Source("http://127.0.0.1:1/project.git"))


OPENSSL = has_program("openssl")


needs_openssl = pytest.mark.skipif(OPENSSL is None, reason="needs openssl, to make a certificate")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a certificate for 127.0.0.1 that signs itself."""
    folder = tmp_path_factory.mktemp("certificate")
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    options = ["-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", "both.pem", "-out", "certificate.pem"]
    subprocess.run([str(OPENSSL), "req", "-x509", *options, *subject], cwd=folder, check=True, capture_output=True)
    with (folder / "both.pem").open("a") as file:
        file.write((folder / "certificate.pem").read_text())
    return folder / "both.pem"


def context(certificate: Path) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(certificate)
    return made


@pytest.fixture
def trusting(space: Workspace, certificate: Path) -> Cloner:
    """Clones as a builder whose operator trusts that certificate."""
    return Cloner(space, {"SSL_CERT_FILE": str(certificate.with_name("certificate.pem"))})


@pytest.fixture
def secure(tmp_path: Path, certificate: Path) -> Iterator[GitServer]:
    """Serve a private repository by HTTPS, with basic authentication."""
    (tmp_path / "repos").mkdir()
    publish(tmp_path / "repos", "private", {"app.py": "private"})
    users = {"x-access-token": TOKEN, "deploy": TOKEN}
    with GitServer(tmp_path / "repos", backend="git", users=users) as git_host:
        assert git_host._server is not None
        git_host._server.socket = context(certificate).wrap_socket(git_host._server.socket, server_side=True)
        yield git_host


def https(git_host: GitServer) -> str:
    return git_host.url.replace("http://", "https://") + "/private.git"


@needs_git
@needs_openssl
@pytest.mark.parametrize("username", ["", "deploy"])
def test_a_token_opens_a_private_repository_and_is_left_nowhere(
    secure: GitServer, trusting: Cloner, capfd: pytest.CaptureFixture[str], username: str
) -> None:
    checkout = trusting(Source(https(secure), username, TOKEN))
    assert (checkout.root / "app.py").read_text() == "private"
    files = [path for path in trusting.space.root.parent.rglob("*") if path.is_file() and not path.is_symlink()]
    assert files
    assert not [path for path in files if TOKEN.encode() in path.read_bytes()]
    assert TOKEN not in "".join(capfd.readouterr())


@needs_git
@needs_openssl
@pytest.mark.parametrize(
    ("token", "words"),
    [
        pytest.param("", "the host wants a token", id="missing"),
        pytest.param("wrong-canary-31", "the token is refused", id="wrong"),
    ],
)
def test_without_the_right_token(
    secure: GitServer, trusting: Cloner, capfd: pytest.CaptureFixture[str], token: str, words: str
) -> None:
    with pytest.raises(SourceError, match=words) as error:
        trusting(Source(https(secure), token=token))
    assert "canary" not in str(error.value) + "".join(capfd.readouterr())


@needs_git
@needs_openssl
def test_a_certificate_that_nobody_vouches_for(secure: GitServer, cloner: Cloner) -> None:
    with pytest.raises(SourceError, match=r"(?i)certificate"):
        cloner(Source(https(secure), token=TOKEN))
    assert secure.requests == []


@needs_openssl
@pytest.mark.parametrize("token", [TOKEN, ""])
def test_a_redirect_to_another_host_is_not_followed(trusting: Cloner, certificate: Path, token: str) -> None:
    seen: list[str] = []

    def other(handler: BaseHTTPRequestHandler) -> None:
        seen.append(str(handler.headers))
        reply(handler, b"")

    with server(other, context(certificate)) as elsewhere:

        def redirect(handler: BaseHTTPRequestHandler) -> None:
            reply(handler, b"", status=302, headers=[("Location", elsewhere + handler.path)])

        with server(redirect, context(certificate)) as url, pytest.raises(SourceError) as error:
            trusting(Source(f"{url}/private.git", token=token))
    assert f"redirects to another host, {elsewhere}" in str(error.value)
    assert ("may not see the token" in str(error.value)) == bool(token)
    assert seen == []


def test_a_redirect_on_the_same_host_is_followed(cloner: Cloner) -> None:
    """As hosts do for a repository that was renamed."""
    made = HandMade()
    commit = made.commit(made.tree((b"100644", b"app.py", made.add(BLOB, b"x"))))
    behind = serving(commit, made.pack)

    def renaming(handler: BaseHTTPRequestHandler) -> None:
        if "/old.git/" in handler.path:
            reply(handler, b"", status=301, headers=[("Location", handler.path.replace("/old.git/", "/new.git/"))])
        else:
            behind(handler)

    with server(renaming) as url:
        assert (cloner(f"{url}/old.git").root / "app.py").exists()


def begin(handler: BaseHTTPRequestHandler, kind: str, length: int | None = None) -> None:
    """Begin an answer of the Git protocol: an "advertisement" of refs, or a "result"."""
    handler.send_response(200)
    handler.send_header("Content-Type", f"application/x-git-upload-pack-{kind}")
    if length is not None:
        handler.send_header("Content-Length", str(length))
    handler.end_headers()


def stall(handler: BaseHTTPRequestHandler) -> None:
    """Say that something will come, and say no more."""
    begin(handler, "advertisement", 1000)
    handler.wfile.write(b"001e# service=git-upload-pack\n")
    handler.wfile.flush()
    handler.rfile.read(1)  # until the client hangs up


def garbage_pack(handler: BaseHTTPRequestHandler) -> None:
    """Send refs, and then what is no pack."""
    good = handler.command == "GET"
    reply(handler, refs_answer("12" * 20) if good else pack_answer("12" * 20, b"garbage" * 100))


def close_half_way(handler: BaseHTTPRequestHandler) -> None:
    """Hang up in the midst of the pack."""
    if handler.command == "GET":
        reply(handler, refs_answer("12" * 20))
        return
    begin(handler, "result", 100_000)
    handler.wfile.write(pack_answer("12" * 20, b"PACK" + bytes(5000))[:3000])


def flood(handler: BaseHTTPRequestHandler) -> None:
    """Send refs without an end."""
    begin(handler, "advertisement")
    handler.wfile.write(refs_answer("12" * 20)[:-4])
    number = 0
    while True:
        names = [b"%d-%s" % (number + each, b"x" * 50_000) for each in range(20)]
        handler.wfile.write(b"".join(packet(b"12" * 20 + b" refs/heads/%s\n" % name) for name in names))
        number += 20


def endless_pack(handler: BaseHTTPRequestHandler) -> None:
    """Send a pack without an end."""
    if handler.command == "GET":
        reply(handler, refs_answer("12" * 20))
        return
    begin(handler, "result")
    head = pack_answer("12" * 20, b"PACK")[:-4]
    handler.wfile.write(head)
    while True:
        handler.wfile.write(packet(b"\1" + bytes(60_000)) * 20)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(endless_pack, r"sent more than the 12.0 MB that /tmp has room for", id="without an end"),
        pytest.param(stall, "timed out", id="stalls"),
        pytest.param(lambda handler: reply(handler, b"<html>", "text/html"), "no Git host by smart HTTP", id="a page"),
        pytest.param(garbage_pack, "damaged .Invalid pack header", id="garbage for a pack"),
        pytest.param(close_half_way, "Cannot clone http", id="closes half way"),
        pytest.param(flood, "takes more memory", id="floods"),
        pytest.param(lambda handler: reply(handler, b"", status=403), r"forbids it \(403\)", id="forbids"),
    ],
)
def test_a_bad_server_is_given_up_in_words(space: Workspace, answer: Answer, words: str) -> None:
    """With less patience, memory and room on the disk than a build has: the test need not take as long."""
    limits = (
        "import resource, shutil\n"
        "from yo_dawg.workshop.git import remote\n"
        "resource.setrlimit(resource.RLIMIT_AS, (300_000_000, 300_000_000))\n"
        "remote.STALL_SECONDS = 1\n"
        "shutil.disk_usage = lambda path: type('Usage', (), {'free': 12_000_000 + (8 << 20)})\n"
    )
    with server(answer) as url, pytest.raises(SourceError, match=words) as error:
        Cloner(space, {}, limits)(f"{url}/x.git")
    assert "Traceback" not in str(error.value)
