"""What doctor looks at."""

from __future__ import annotations

import shutil
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from yo_dawg.checkout import origin
from yo_dawg.control.archives import ARCHIVES
from yo_dawg.control.functions import preflight
from yo_dawg.control.secrets import deploy_key, package_indexes, read_secret
from yo_dawg.control.workshop import try_toolchain
from yo_dawg.errors import ConfigError, YoDawgError
from yo_dawg.events import RollbackRequest
from yo_dawg.limits import MAX_UNZIPPED_BYTES
from yo_dawg.text import size
from yo_dawg.toolchain import TOOLCHAIN_PARTS

if TYPE_CHECKING:
    from yo_dawg.control.job import Job


def look_around(job: Job) -> list[dict[str, Any]]:
    """Return findings about the interpreter and the machine."""
    disk = shutil.disk_usage(job.space.root)
    lacking = [name for name in ("bash", "cat", "grep", "sed", "chmod", "rm") if not shutil.which(name)]
    left = job.builder.until - time.time()
    return [
        finding("interpreter", f"{sys.version.split()[0]} at {sys.executable}, {job.builder.platform}"),
        finding("programs", f"{', '.join(lacking)} cannot be found, so a make_dist.sh may fail", ok=False)
        if lacking
        else finding("programs", "all are there that a make_dist.sh can count on"),
        finding(
            "disk",
            f"{size(disk.free)} of {size(disk.total)} are free in {job.space.root.parent}; a build of Lambda's largest "
            "package needs about three times 250 MB (ephemeral_storage in config.ini)",
            ok=disk.free > MAX_UNZIPPED_BYTES,
        ),
        finding("time", f"{left:.0f} s for each invocation; a build may take minutes (timeout)", ok=left > 60),
    ]


def finding(name: str, says: str, *, ok: bool = True) -> dict[str, Any]:
    """Return a line of doctor's answer."""
    return {"name": name, "ok": ok, "says": says}


def try_out(job: Job, check: tuple[str, Callable[[Job], str]]) -> dict[str, Any]:
    """Return the finding of a check: what it says, or the error that it ends with."""
    name, look = check
    try:
        return finding(name, look(job))
    except YoDawgError as error:
        return finding(name, job.log.mask(str(error)), ok=False)


def check_bucket(job: Job) -> str:
    """Look whether the builder's corner of S3 can be listed and read."""
    job.store.packages("none")
    return f"{job.store.uri('')} can be read"


def check_toolchain(job: Job) -> str:
    """Fetch the toolchain, also if it was kept, and run it."""
    ARCHIVES.make_room(0)
    return f"fits, {try_toolchain([*TOOLCHAIN_PARTS], job)}"


def check_token(job: Job) -> str:
    """Read the Git host's token or the deploy key, which is not shown."""
    settings = job.settings
    if settings.deploy_key_secret:
        deploy_key(job.aws, settings)
        return f"{settings.deploy_key_secret} can be read"
    if not settings.token_secret:
        return "none is configured: only public repositories can be cloned"
    if not read_secret(job.aws, settings.token_secret, "token_secret").strip():
        raise ConfigError(f"The secret {settings.token_secret} is empty, or is not text: store the token as text.")
    return f"{settings.token_secret} can be read"


def check_git_host(job: Job) -> str:
    """Open a connection to the Git host."""
    _, host, port = origin(f"{job.settings.base_url}/x")
    try:
        with socket.create_connection((host, port), timeout=10):
            return f"{host} can be reached"
    except OSError as error:
        raise ConfigError(f"{host} cannot be reached: {error}. Has this function a way out (VPC, NAT)?") from None


def check_indexes(job: Job) -> str:
    """Read the addresses of private package indexes, which are not shown."""
    count = len(package_indexes(job.aws, job.settings, job.log))
    return f"{job.settings.index_secret} names {count}" if count else "no private ones are configured"


def check_function(name: str, job: Job) -> str:
    """Look whether a function could be deployed now."""
    target = preflight(name, RollbackRequest(name), job.builder, job.aws)
    return f"{name} can be updated; it runs {target.code_sha256}"


CHECKS: Sequence[tuple[str, Callable[[Job], str]]] = (
    ("bucket", check_bucket),
    ("toolchain", check_toolchain),
    ("git token", check_token),
    ("git host", check_git_host),
    ("package indexes", check_indexes),
)
