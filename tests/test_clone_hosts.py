"""Cloning from hosts: git itself over HTTPS, with tokens; hosts that redirect, forbid, stall and talk nonsense."""

from __future__ import annotations

import os
import random
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from local.git_server import GitServer
from tests import gitting
from tests.gitting import Cloner, git, has_program, needs_git, publish, push, reply, server
from yo_dawg.checkout import Source
from yo_dawg.deadline import deadline
from yo_dawg.errors import SourceError
from yo_dawg.log import Log
from yo_dawg.process import Command, Shell, child_environ
from yo_dawg.settings import Settings
from yo_dawg.workspace import HERE, Workspace

TOKEN = "canary-token-5e8a1f"
OPENSSL = has_program("openssl")
needs_openssl = pytest.mark.skipif(OPENSSL is None, reason="needs openssl, to make a certificate")


@pytest.fixture
def cloner(space: Workspace, shell: Shell) -> Cloner:
    return Cloner(space, shell)


# --- What git stores and serves ------------------------------------------------------------------------


@pytest.fixture
def host(tmp_path: Path) -> Iterator[GitServer]:
    """Serve what lies in a folder, with git itself."""
    (tmp_path / "repos").mkdir()
    with GitServer(tmp_path / "repos", backend="git") as git_host:
        yield git_host


@needs_git
def test_files_come_as_they_were_committed(host: GitServer, cloner: Cloner) -> None:
    work = publish(host.root, "files")
    (work / ".gitattributes").write_bytes(b"*.txt text eol=lf\n")
    (work / "crlf.txt").write_bytes(b"a\r\nb\n")
    (work / "empty").write_bytes(b"")
    Path(os.fsdecode(bytes(work) + b"/latin-\xe9.txt")).write_bytes(b"x")
    (work / "größe.txt").write_bytes(b"y")
    git(work, "-c", "core.autocrlf=false", "add", "--all")
    blob = git(work, "hash-object", "-w", "--stdin", "--no-filters", stdin=b"a\r\nb\n")
    git(work, "update-index", "--cacheinfo", f"100644,{blob},crlf.txt")
    git(work, "commit", "--quiet", "--message", "m")
    git(work, "push", "--quiet", str(host.root / "files.git"), "HEAD:refs/heads/main")
    root = cloner(f"{host.url}/files.git").root
    assert (root / "crlf.txt").read_bytes() == b"a\r\nb\n", "CRLF is left alone"
    assert {b"latin-\xe9.txt", "größe.txt".encode(), b"empty"} <= set(os.listdir(bytes(root)))


@needs_git
def test_what_git_stored_as_deltas(host: GitServer, cloner: Cloner) -> None:
    """Small ones, large ones, and chains of them."""
    chance = random.Random(0)  # noqa: S311  # data, no secret
    work = publish(host.root, "deltas")
    contents: dict[str, bytes] = {}
    for shape, length in (("small", 3000), ("large", 1_000_000)):
        content = chance.randbytes(length)
        for number in range(12):
            cut = chance.randrange(length)
            content = content[:cut] + chance.randbytes(50) + content[cut + 20 :]
            contents[f"{shape}{number}"] = content
    for name, content in contents.items():
        (work / name).write_bytes(content)
    push(work, host.root / "deltas.git")
    git(host.root / "deltas.git", "repack", "-adfq", "--depth=50", "--window=50")
    packs = git(host.root / "deltas.git", "count-objects", "-v")
    assert int(packs.split("size-pack: ")[1].split()[0]) < 3000, "git did store them as deltas"
    root = cloner(f"{host.url}/deltas.git").root
    assert {path.name: path.read_bytes() for path in root.iterdir()} == contents


@needs_git
def test_a_large_file_is_streamed(host: GitServer, cloner: Cloner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of 150 MB goes through a worker that may take no more than 130 of address space."""
    work = publish(host.root, "large")
    with (work / "data.bin").open("wb") as file:
        for number in range(150):
            file.write(number.to_bytes(4, "big") * 250_000)
    push(work, host.root / "large.git")
    limited = ["sh", "-c", 'ulimit -v 130000 && exec "$@"', "sh"]
    run = Shell.run
    monkeypatch.setattr(
        Shell,
        "run",
        lambda self, command: run(
            self, Command([*limited, *command.argv], command.cwd, command.environ, command.stdin)
        ),
    )
    assert (cloner(f"{host.url}/large.git").root / "data.bin").stat().st_size == 150_000_000


@needs_git
def test_a_detached_head_is_cloned(host: GitServer, cloner: Cloner) -> None:
    work = publish(host.root, "project", {"a": "1"})
    first = git(work, "rev-parse", "HEAD")
    (work / "a").write_text("2")
    push(work, host.root / "project.git")
    git(host.root / "project.git", "update-ref", "--no-deref", "HEAD", first)
    assert cloner(f"{host.url}/project.git").commit == first


@needs_git
def test_only_the_refs_in_question_are_asked_for(host: GitServer, cloner: Cloner) -> None:
    work = publish(host.root, "project", {"a": "1"})
    git(work, "tag", "light")
    push(work, host.root / "project.git")
    cloner(f"{host.url}/project.git", ref="light")
    assert [each.split()[0] for each in host.requests] == ["GET", "POST", "POST"], "no look-up for a hint"


@needs_git
def test_a_repository_of_sha256(host: GitServer, cloner: Cloner) -> None:
    work = host.root / "work"
    git(host.root, "init", "--quiet", "--object-format=sha256", "work")
    git(host.root, "init", "--quiet", "--bare", "--object-format=sha256", "new.git")
    (work / "a").write_text("new")
    commit = push(work, host.root / "new.git")
    assert len(commit) == 64
    assert cloner(f"{host.url}/new.git").commit == commit


# --- HTTPS with a token --------------------------------------------------------------------------------


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
def trusting(space: Workspace, log: Log, certificate: Path) -> Cloner:
    """Clones as a builder whose operator trusts that certificate."""
    client = {"SSL_CERT_FILE": str(certificate.with_name("certificate.pem"))}
    settings = Settings("b", ("*",), "https://h", "", "", space.root.parent, tmp_is_ours=True, client=client)
    return Cloner(space, Shell(child_environ(space, settings), log))


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
    made = gitting.HandMade()
    commit = made.commit(made.tree((b"100644", b"app.py", made.add(gitting.BLOB, b"x"))))
    behind = gitting.serving(commit, made.pack)

    def renaming(handler: BaseHTTPRequestHandler) -> None:
        if "/old.git/" in handler.path:
            reply(handler, b"", status=301, headers=[("Location", handler.path.replace("/old.git/", "/new.git/"))])
        else:
            behind(handler)

    with server(renaming) as url:
        assert (cloner(f"{url}/old.git").root / "app.py").exists()


# --- Servers that mean harm, or nothing -----------------------------------------------------------------


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
    reply(handler, gitting.refs_answer("12" * 20) if good else gitting.pack_answer("12" * 20, b"garbage" * 100))


def close_half_way(handler: BaseHTTPRequestHandler) -> None:
    """Hang up in the midst of the pack."""
    if handler.command == "GET":
        reply(handler, gitting.refs_answer("12" * 20))
        return
    begin(handler, "result", 100_000)
    handler.wfile.write(gitting.pack_answer("12" * 20, b"PACK" + bytes(5000))[:3000])


def flood(handler: BaseHTTPRequestHandler) -> None:
    """Send refs without an end."""
    begin(handler, "advertisement")
    handler.wfile.write(gitting.refs_answer("12" * 20)[:-4])
    number = 0
    while True:
        names = [b"%d-%s" % (number + each, b"x" * 50_000) for each in range(20)]
        handler.wfile.write(b"".join(gitting.packet(b"12" * 20 + b" refs/heads/%s\n" % name) for name in names))
        number += 20


def endless_pack(handler: BaseHTTPRequestHandler) -> None:
    """Send a pack without an end."""
    if handler.command == "GET":
        reply(handler, gitting.refs_answer("12" * 20))
        return
    begin(handler, "result")
    head = gitting.pack_answer("12" * 20, b"PACK")[:-4]
    handler.wfile.write(head)
    while True:
        handler.wfile.write(gitting.packet(b"\1" + bytes(60_000)) * 20)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(endless_pack, r"sent more than the 12.0 MB that /tmp has room for", id="without an end"),
        pytest.param(stall, "timed out", id="stalls"),
        pytest.param(lambda handler: reply(handler, b"<html>", "text/html"), "no Git host by smart HTTP", id="a page"),
        pytest.param(garbage_pack, "not whole", id="garbage for a pack"),
        pytest.param(close_half_way, "Cannot clone http", id="closes half way"),
        pytest.param(flood, "takes more memory", id="floods"),
        pytest.param(lambda handler: reply(handler, b"", status=403), r"forbids it \(403\)", id="forbids"),
    ],
)
def test_a_bad_server_is_given_up_in_words(
    cloner: Cloner, monkeypatch: pytest.MonkeyPatch, answer: gitting.Answer, words: str
) -> None:
    limits = "remote.STALL_SECONDS = 1; program.WORKER_MEMORY = 300_000_000; "
    limits += "shutil.disk_usage = lambda path: type('Usage', (), {'free': 12_000_000 + (8 << 20)})"
    imports = "import shutil; from yo_dawg.workshop.git import remote, __main__ as program"
    worker = f"{imports}; {limits}; program.limit_memory(); program.git_worker()"
    run = Shell.run

    def hurried(self: Shell, command: Command) -> str:
        """Start the worker with less patience and less memory: the test need not take as long as a build."""
        environ = {**command.environ, "PYTHONPATH": str(HERE)}
        return run(self, Command([command.argv[0], "-c", worker], command.cwd, environ, command.stdin))

    monkeypatch.setattr(Shell, "run", hurried)
    with server(answer) as url, pytest.raises(SourceError, match=words) as error:
        cloner(f"{url}/x.git")
    assert "Traceback" not in str(error.value)


def test_a_server_that_drips_is_given_up_before_the_deadline(cloner: Cloner, log: Log) -> None:
    """It sends a byte now and then, so that no socket ever times out."""
    hung_up = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        if handler.command == "GET":
            reply(handler, gitting.refs_answer("12" * 20))
            return
        begin(handler, "result")
        for byte in gitting.pack_answer("12" * 20, b"PACK" + bytes(100_000)):
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()
            if hung_up.wait(0.05):
                return

    with (
        server(drip) as url,
        deadline(6000, log),
        pytest.raises(SourceError, match="nine tenths of this build's time"),
    ):
        cloner(f"{url}/x.git")
    hung_up.set()
