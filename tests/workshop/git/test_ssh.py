"""SSH with a deploy key: a real sshd on loopback, keys of each kind, hosts that are unknown or have changed."""

from __future__ import annotations

import base64
import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.support.git_host import DATA, Cloner, git, lfs_host, needs_git, pointer, publish, server
from tests.support.ssh_host import KEYGEN, SshHost, keygen, needs_sshd
from yo_dawg.errors import SourceError
from yo_dawg.host_keys import PUBLISHED_HOST_KEYS
from yo_dawg.source import Source
from yo_dawg.workshop.git.ssh import fingerprint, host_key_policy
from yo_dawg.workspace import HERE, Workspace

pytestmark = needs_git


@pytest.fixture
def cloner(space: Workspace, capfd: pytest.CaptureFixture[str]) -> Iterator[Cloner]:
    """Return what clones; in the end no key may be in anything that a clone left behind."""
    yield Cloner(space)
    files = [path for path in space.root.parent.rglob("*") if path.is_file() and not path.is_symlink()]
    assert not [path for path in files if b"PRIVATE KEY" in path.read_bytes()]
    assert "PRIVATE KEY" not in "".join(capfd.readouterr())


@pytest.fixture(scope="module")
def ssh_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHost]:
    """Serve a repository by SSH."""
    host = SshHost(tmp_path_factory.mktemp("ssh"))
    publish(host.folder, "project", {"app.py": "by ssh"})
    process = host.start()
    yield host
    process.terminate()
    process.wait()


@pytest.fixture(scope="module")
def key(ssh_host: SshHost) -> Path:
    """Return a deploy key that is let in."""
    made = keygen(ssh_host.folder / "deploy", "ed25519")
    ssh_host.allow(made)
    return made


def ssh_source(host: SshHost, key: Path, passphrase: str = "", known_hosts: str | None = None) -> Source:
    """Return what to clone."""
    known = host.known_hosts if known_hosts is None else known_hosts
    return Source(host.url, deploy_key=key.read_text(), passphrase=passphrase, known_hosts=known)


@needs_sshd
@pytest.mark.parametrize(
    ("kind", "passphrase", "more"),
    [
        pytest.param("ed25519", "", (), id="ed25519"),
        pytest.param("ed25519", "open sesame", (), id="ed25519 with passphrase"),
        pytest.param("rsa", "", ("-b", "2048"), id="rsa"),
        pytest.param("rsa", "open sesame", ("-b", "2048", "-m", "PEM"), id="rsa, old format, with passphrase"),
        pytest.param("ecdsa", "", (), id="ecdsa"),
    ],
)
def test_a_deploy_key_of_each_kind(
    ssh_host: SshHost, cloner: Cloner, tmp_path: Path, kind: str, passphrase: str, more: tuple[str, ...]
) -> None:
    made = keygen(tmp_path / "key", kind, passphrase, *more)
    ssh_host.allow(made)
    checkout = cloner(ssh_source(ssh_host, made, passphrase))
    assert (checkout.root / "app.py").read_text() == "by ssh"
    assert checkout.ref == "main"


@needs_sshd
def test_refs_by_ssh(ssh_host: SshHost, key: Path, cloner: Cloner) -> None:
    commit = git(ssh_host.folder / "project.git", "rev-parse", "main")
    assert cloner(ssh_source(ssh_host, key), ref=commit).commit == commit
    with pytest.raises(SourceError, match='no branch or tag "mian" \\(did you mean "main"'):
        cloner(ssh_source(ssh_host, key), ref="mian")


@needs_sshd
def test_files_in_lfs_by_ssh(ssh_host: SshHost, key: Path, cloner: Cloner) -> None:
    """The SSH server says where they are, and lends credentials for them."""
    publish(ssh_host.folder, "lfs", {"a.bin": pointer(DATA)})
    source = dataclasses.replace(ssh_source(ssh_host, key), url=ssh_host.url.replace("project", "lfs"))
    assert "the SSH server does not say where" in cloner(source).unfetched_lfs["a.bin"]

    def answer(handler: BaseHTTPRequestHandler) -> None:
        assert handler.headers["Authorization"] == "RemoteAuth canary"
        lfs_host("", DATA)(handler)

    with server(answer) as url:
        said = {"href": f"{url}/files/lfs.git/info/lfs", "header": {"Authorization": "RemoteAuth canary"}}
        script = ssh_host.folder / "git-lfs-authenticate"
        script.write_text(
            f"#!/bin/sh\n[ \"$1 $2\" = '{ssh_host.folder}/lfs.git download' ] && echo '{json.dumps(said)}'\n"
        )
        script.chmod(0o755)
        assert (cloner(source).root / "a.bin").read_bytes() == DATA


@needs_sshd
def test_a_server_that_falls_silent(ssh_host: SshHost, cloner: Cloner, tmp_path: Path) -> None:
    made = keygen(tmp_path / "key", "ed25519")
    line = f'restrict,command="exec sleep 600" {made.with_suffix(".pub").read_text()}'
    ssh_host.authorized.write_text(ssh_host.authorized.read_text() + line)
    program = (
        "import json, pathlib, sys\n"
        "from yo_dawg.source import Source\n"
        "from yo_dawg.errors import SourceError\n"
        "from yo_dawg.workshop.git import remote, ssh\n"
        "ssh.STALL_SECONDS = 0.5\n"
        "try: remote.fetch(Source(**json.load(sys.stdin)), None, pathlib.Path(sys.argv[1]))\n"
        "except SourceError as error: print(error)\n"
    )
    source = json.dumps(vars(ssh_source(ssh_host, made))).encode()
    ran = subprocess.run(
        [sys.executable, "-c", program, tmp_path], input=source, cwd=HERE, capture_output=True, timeout=60
    )
    assert b"Cannot clone" in ran.stdout, ran.stderr


@needs_sshd
def test_a_commit_that_ssh_does_not_hand_out(ssh_host: SshHost, key: Path, cloner: Cloner) -> None:
    with pytest.raises(SourceError, match=r"did not send the commit 1212.*: .*not our ref"):
        cloner(ssh_source(ssh_host, key), ref="12" * 20)


@needs_sshd
def test_a_wrong_key(ssh_host: SshHost, cloner: Cloner, tmp_path: Path) -> None:
    stranger = keygen(tmp_path / "stranger", "ed25519")
    with pytest.raises(SourceError, match=r"127.0.0.1 refuses the deploy key SHA256:.*Add its public half"):
        cloner(ssh_source(ssh_host, stranger))


@needs_sshd
@pytest.mark.parametrize(
    ("passphrase", "words"), [("", "has a passphrase: store"), ("wrong", "its passphrase is wrong")]
)
def test_a_wrong_passphrase(ssh_host: SshHost, cloner: Cloner, tmp_path: Path, passphrase: str, words: str) -> None:
    locked = keygen(tmp_path / "locked", "ed25519", "right")
    with pytest.raises(SourceError, match=words):
        cloner(ssh_source(ssh_host, locked, passphrase))


@needs_sshd
def test_what_is_no_key(ssh_host: SshHost, cloner: Cloner, tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n")
    with pytest.raises(SourceError, match=r"cannot be read. It must be an ed25519, ECDSA or RSA key"):
        cloner(ssh_source(ssh_host, tmp_path / "bad"))


@needs_sshd
def test_an_unknown_host(ssh_host: SshHost, key: Path, cloner: Cloner) -> None:
    words = (
        rf"host key of \[127.0.0.1\]:{ssh_host.port}, SHA256:.*is not known.*ssh-keyscan -p {ssh_host.port} 127.0.0.1"
    )
    for known_hosts in ("", ssh_host.known_hosts.replace("127.0.0.1", "127.0.0.2")):
        with pytest.raises(SourceError, match=words):
            cloner(ssh_source(ssh_host, key, known_hosts=known_hosts))


@needs_sshd
def test_a_changed_host(ssh_host: SshHost, key: Path, cloner: Cloner, tmp_path: Path) -> None:
    for kind in ("ed25519", "rsa"):
        other = keygen(tmp_path / kind, kind).with_suffix(".pub").read_text()
        known = f"[127.0.0.1]:{ssh_host.port} {other}"
        with pytest.raises(SourceError, match="has changed"):
            cloner(ssh_source(ssh_host, key, known_hosts=known))


@needs_sshd
def test_a_hashed_line_of_known_hosts(ssh_host: SshHost, key: Path, cloner: Cloner, tmp_path: Path) -> None:
    (tmp_path / "known").write_text(ssh_host.known_hosts)
    subprocess.run([str(KEYGEN), "-q", "-H", "-f", str(tmp_path / "known")], check=True, capture_output=True)
    hashed = (tmp_path / "known").read_text()
    assert hashed.startswith("|1|")
    assert cloner(ssh_source(ssh_host, key, known_hosts=hashed)).ref == "main"


@needs_sshd
@pytest.mark.filterwarnings("ignore:unclosed Protocol:ResourceWarning")  # Dulwich forgets it; our program just ends
def test_a_repository_that_ssh_does_not_know(ssh_host: SshHost, key: Path, cloner: Cloner) -> None:
    source = ssh_source(ssh_host, key)
    with pytest.raises(SourceError, match=r"nothing.git"):
        cloner(dataclasses.replace(source, url=source.url.replace("project.git", "nothing.git")))


@needs_sshd
def test_a_host_that_is_not_there(ssh_host: SshHost, key: Path, cloner: Cloner) -> None:
    with pytest.raises(SourceError, match=r"no SSH with 127.0.0.1"):
        cloner(dataclasses.replace(ssh_source(ssh_host, key), url="ssh://git@127.0.0.1:1/x.git"))


PUBLISHED = {
    # In full, from the same publications: the fingerprints in host_keys are of these.
    "github.com": "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl",
    "gitlab.com": "AAAAC3NzaC1lZDI1NTE5AAAAIAfuCHKVTjquxvt6CM6tdG4SLp1Btn/nOeHHE5UOzRdf",
    "bitbucket.org": "AAAAC3NzaC1lZDI1NTE5AAAAIIazEu89wgQZ4bqs3d63QSMzYVa0MuJ2e2gKTKqu+UUO",
}


@pytest.mark.parametrize("host", PUBLISHED)
def test_published_host_keys(host: str) -> None:
    import paramiko

    remote = Source(f"git@{host}:me/x.git")
    client = paramiko.SSHClient()
    policy = host_key_policy(remote, client)
    key = paramiko.PKey.from_type_string("ssh-ed25519", base64.b64decode(PUBLISHED[host]))
    policy.missing_host_key(client, host, key)
    assert fingerprint(key) == PUBLISHED_HOST_KEYS[host][0]
    other = paramiko.RSAKey.generate(1024)
    with pytest.raises(SourceError, match="has changed: it is none of those that it publishes"):
        policy.missing_host_key(client, host, other)
    with pytest.raises(SourceError, match="is not known"):
        policy.missing_host_key(client, f"evil.{host}", key)


def test_https_does_not_import_paramiko() -> None:
    imports = "import sys; from yo_dawg.source import Source; from yo_dawg.workshop.git.remote import connect"
    connect = f"{imports}; connect(Source('https://h/x.git'), bytearray()); "
    program = f"{connect} sys.exit('paramiko' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=HERE, check=True)
