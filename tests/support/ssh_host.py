"""An SSH server on loopback that serves Git to deploy keys."""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.git_host import has_program

SSHD, KEYGEN = has_program("sshd"), has_program("ssh-keygen")


needs_sshd = pytest.mark.skipif(SSHD is None or KEYGEN is None, reason="needs an SSH server: install openssh-server")


class SshHost:
    """An sshd on loopback that serves Git to one key."""

    def __init__(self, folder: Path) -> None:
        """Make its keys; ``with`` starts it."""
        self.folder = folder
        self.port = 0
        self.host_key = keygen(folder / "host", "ed25519")
        self.authorized = folder / "authorized_keys"
        self.authorized.write_text("")

    def allow(self, key: Path) -> None:
        """Let a key in, as a deploy key: to read with Git and for nothing else."""
        command = f"cd {self.folder} && PATH={self.folder}:$PATH && eval $SSH_ORIGINAL_COMMAND"
        line = f'restrict,command="{command}" {key.with_suffix(".pub").read_text()}'
        self.authorized.write_text(self.authorized.read_text() + line)

    @property
    def url(self) -> str:
        """The address of the repository."""
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}{self.folder}/project.git"

    @property
    def known_hosts(self) -> str:
        """The line for known_hosts."""
        return f"[127.0.0.1]:{self.port} {self.host_key.with_suffix('.pub').read_text()}"

    def start(self) -> subprocess.Popen[bytes]:
        """Start the server on a free port."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        settings = {
            "ListenAddress": "127.0.0.1", "Port": self.port, "HostKey": self.host_key, "UsePAM": "no",
            "AuthorizedKeysFile": self.authorized, "PidFile": "none", "StrictModes": "no", "AcceptEnv": "GIT_PROTOCOL",
            "PasswordAuthentication": "no", "KbdInteractiveAuthentication": "no", "PermitRootLogin": "yes",
        }  # fmt: skip
        config = self.folder / "sshd_config"
        config.write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd goes before it knows who is there
        log = (self.folder / "sshd.log").open("wb")
        process = subprocess.Popen([str(SSHD), "-D", "-e", "-f", str(config)], stderr=log)
        log.close()
        while process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                if connection.recv(4) == b"SSH-":
                    return process
        raise AssertionError((self.folder / "sshd.log").read_text())


def keygen(path: Path, kind: str, passphrase: str = "", *more: str) -> Path:
    """Make an SSH key."""
    command = [str(KEYGEN), "-q", "-t", kind, "-N", passphrase, "-C", "test", "-f", str(path), *more]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path
