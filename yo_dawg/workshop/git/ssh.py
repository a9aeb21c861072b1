"""Git by SSH, with paramiko."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import urllib.parse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from yo_dawg.errors import SourceError
from yo_dawg.host_keys import PUBLISHED_HOST_KEYS
from yo_dawg.limits import STALL_SECONDS
from yo_dawg.source import SCP_ADDRESS, full_url, origin
from yo_dawg.text import printable

if TYPE_CHECKING:
    from yo_dawg.source import Source


def connect_ssh(source: Source, heard: bytearray) -> tuple[Any, str]:
    """Return a client for a repository on an SSH server, and the repository's path there."""
    from dulwich.client import SSHGitClient

    short = None if "://" in source.url else SCP_ADDRESS.fullmatch(source.url)
    parts = urllib.parse.urlsplit(full_url(source.url))
    _, host, port = origin(source.url)
    path = short["path"] if short else parts.path  # the short form's is relative to the user's home
    if not source.deploy_key:
        raise SourceError(f"Cannot clone {source.url}: it is on an SSH server for which there is no deploy key.")
    vendor = SshVendor(source, private_key(source), heard)
    client = SSHGitClient(
        host, port, parts.username or source.username or "git", vendor=cast(Any, vendor), thin_packs=False
    )
    return client, path


def private_key(source: Source) -> Any:
    """Read the deploy key, from memory; raise SourceError.  paramiko is imported for SSH alone."""
    import paramiko

    where = "(deploy_key_secret in config.ini)"
    for kind_of_key in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        try:
            return kind_of_key.from_private_key(
                io.StringIO(source.deploy_key.strip() + "\n"), source.passphrase or None
            )
        except paramiko.PasswordRequiredException:
            raise SourceError(
                f'The deploy key {where} has a passphrase: store {{"private_key": …, "passphrase": …}} instead.'
            ) from None
        except (paramiko.SSHException, ValueError, TypeError, LookupError) as error:
            reason = str(error)
            if source.passphrase and re.search(r"check|decrypt|passphrase|password", reason, re.IGNORECASE):
                raise SourceError(f"The deploy key {where} cannot be read: its passphrase is wrong.") from None
    raise SourceError(
        f"The deploy key {where} cannot be read. It must be an ed25519, ECDSA or RSA key as ssh-keygen writes it."
    )


class SshVendor:
    """Runs a command on an SSH server, for Dulwich, which else would start the ssh program."""

    def __init__(self, source: Source, key: Any, heard: bytearray) -> None:
        """Log in with this key."""
        self._source = source
        self._heard = heard
        self._key = key

    def run_command(
        self,
        host: str,
        command: bytes,
        username: str | None = None,
        port: int | None = None,
        protocol_version: int | None = None,
        **_: object,
    ) -> SshChannel:
        """Connect, log in and start a command; raise SourceError."""
        import paramiko

        url = self._source.url
        client = paramiko.SSHClient()
        try:
            client.set_missing_host_key_policy(host_key_policy(self._source, client))
            client.connect(
                host, port or 22, username, pkey=self._key, look_for_keys=False, allow_agent=False,
                timeout=STALL_SECONDS, banner_timeout=STALL_SECONDS, auth_timeout=STALL_SECONDS,
            )  # fmt: skip
            channel = cast(Any, client.get_transport()).open_session(timeout=STALL_SECONDS)
            if protocol_version != 0:
                # Without waiting for an answer: a server that does not take it speaks version 0.
                channel.set_environment_variable("GIT_PROTOCOL", "version=2")
            channel.exec_command(command.decode())
        except paramiko.BadHostKeyException as error:
            client.close()
            raise SourceError(
                f"Cannot clone {url}: the host key of {host} has changed. known_hosts in config.ini has another "
                f"{error.key.get_name()} key for it than the one that it shows, {fingerprint(error.key)}. If its "
                "operator says that this is right, change known_hosts; else somebody stands in between."
            ) from None
        except paramiko.AuthenticationException:
            client.close()
            raise SourceError(
                f"Cannot clone {url}: {host} refuses the deploy key {fingerprint(self._key)}. Add its public half to "
                "the repository's deploy keys, or store the right one in deploy_key_secret (config.ini)."
            ) from None
        except (paramiko.SSHException, OSError, EOFError) as error:
            client.close()
            raise SourceError(f"Cannot clone {url}: no SSH with {host}: {printable(str(error))}.") from None
        made = SshChannel(client, channel)
        made.read = listen(made.read, self._heard)  # type: ignore[method-assign]
        return made


class SshChannel:
    """A command on an SSH server, as Dulwich wants to talk to it."""

    def __init__(self, client: Any, channel: Any) -> None:
        """Talk through this channel; close the client with it."""
        self._client = client
        self._channel = channel
        channel.settimeout(STALL_SECONDS)
        self.stderr = channel.makefile_stderr("rb")

    def read(self, count: int) -> bytes:
        """Return so many bytes, or fewer at the end."""
        pieces = []
        while count > 0 and (piece := self._channel.recv(count)):
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)

    def write(self, data: bytes) -> int:
        """Send all of data."""
        self._channel.sendall(data)
        return len(data)

    def can_read(self) -> bool:
        """Say whether something has come."""
        return bool(self._channel.recv_ready())

    def close(self) -> None:
        """Hang up."""
        self._channel.close()
        self._client.close()


def host_key_policy(source: Source, client: Any) -> Any:
    """Load known_hosts; return what decides about hosts that are not in it: only the published keys are good."""
    import paramiko

    for line in source.known_hosts.splitlines():
        if line.startswith("@"):
            raise SourceError("known_hosts in config.ini has a line with a marker (@…), which is not served.")
        try:
            entry = paramiko.hostkeys.HostKeyEntry.from_line(line)
        except paramiko.hostkeys.InvalidHostKey:
            raise SourceError(f"known_hosts in config.ini has a damaged line: {printable(line[:60])}…") from None
        if entry is not None and entry.key is not None:
            for name in entry.hostnames:
                client.get_host_keys().add(name, entry.key.get_name(), entry.key)

    class Policy(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]  # paramiko is not typed
        def missing_host_key(self, client: Any, hostname: str, key: Any) -> None:
            published = PUBLISHED_HOST_KEYS.get(hostname.lower(), ())
            if fingerprint(key) in published:
                return
            name, port = re.fullmatch(r"\[(.+)\]:(\d+)|(.+)", hostname).group(1, 2)  # type: ignore[union-attr]
            scan = f"ssh-keyscan -p {port} {name}" if port else f"ssh-keyscan {hostname}"
            problem = "has changed: it is none of those that it publishes" if published else "is not known"
            raise SourceError(
                f"Cannot clone {source.url}: the host key of {hostname}, {fingerprint(key)} ({key.get_name()}), "
                f'{problem}. Get its line with "{scan}", compare the fingerprint with what the host\'s operator '
                "publishes, and put the line into known_hosts in config.ini."
            )

    return Policy()


def fingerprint(key: Any) -> str:
    """Return an SSH key's fingerprint, as ssh-keygen -l prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")


def listen(read: Callable[..., bytes], heard: bytearray) -> Callable[..., bytes]:
    """Return a function that reads, and keeps the end of what was read in heard."""

    def listening(*arguments: Any, **options: Any) -> bytes:
        data = read(*arguments, **options)
        heard[:] = (heard + data[-500:])[-500:]
        return data

    return listening
