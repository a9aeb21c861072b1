"""What doctor looks at without asking AWS: the interpreter, the machine, and what a build can count on."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import ssl
import sys
import time
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from yo_dawg.builder import runtime_versions
from yo_dawg.control.findings import finding
from yo_dawg.control.models import NEEDED, WANTED, accepts, boto3_version, too_old
from yo_dawg.killing import is_dumpable, parent_ids
from yo_dawg.limits import MAX_UNZIPPED_BYTES
from yo_dawg.text import size

if TYPE_CHECKING:
    from yo_dawg.control.findings import Finding
    from yo_dawg.control.job import Job

END_OF_LIFE = {
    "python3.11": (date(2027, 6, 30), date(2027, 8, 31)),
    "python3.12": (date(2028, 10, 31), date(2029, 1, 10)),
    "python3.13": (date(2029, 6, 30), date(2029, 8, 31)),
    "python3.14": (date(2029, 6, 30), date(2029, 8, 31)),
}
"""When AWS deprecates a runtime, and from when on its functions cannot be updated any more.

https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtimes.html, as of November 2026.
"""

WARNING_DAYS = 180
"""How long before its end a runtime is worth a word."""


def look_around(job: Job) -> list[Finding]:
    """Return findings about the interpreter and the machine."""
    disk = shutil.disk_usage(job.space.root)
    lacking = [name for name in ("bash", "cat", "grep", "sed", "chmod", "rm") if not shutil.which(name)]
    left = job.builder.until - time.time()
    return [
        finding("interpreter", f"{sys.version.split()[0]} at {sys.executable}, {job.builder.platform}"),
        end_of_life(job.builder.runtime, datetime.now(UTC).date()),
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
        system(),
        nameless_files(job.space.root),
        process(),
        shared_memory(Path("/dev/shm")),  # noqa: S108  # only looked at
        finding("search path", ", ".join(sys.path)),
        certificates(),
        boto3_models(job),
        boto3_metadata(),
    ]


def end_of_life(runtime: str, today: date) -> Finding:
    """Say how long AWS lets this runtime live."""
    if runtime not in END_OF_LIFE:
        return finding("runtime", f"when AWS will deprecate {runtime} is not known here", ok=None)
    deprecated, blocked = END_OF_LIFE[runtime]
    says = f"AWS deprecates {runtime} on {deprecated}, and from {blocked} on its functions cannot be updated"
    if (deprecated - today).days < WARNING_DAYS:
        says += ": move the functions, and this builder (runtime in config.ini), to a newer one"
    return finding("runtime", says, ok=today < deprecated)


def system() -> Finding:
    """Say what the machine is; who asks for help is asked for this."""
    umask = os.umask(0o077)
    os.umask(umask)
    libc = " ".join(platform.libc_ver()).strip() or "an unknown C library"
    kernel = os.uname()
    return finding(
        "system", f"{kernel.sysname} {kernel.release}, {libc}, uid {os.getuid()}, umask {umask:03o}, pid {os.getpid()}"
    )


def nameless_files(folder: Path) -> Finding:
    """Say whether files without a name can be made, which no build can get at."""
    try:
        os.close(os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600))
    except (OSError, AttributeError) as error:
        says = f"O_TMPFILE does not work here ({error}): such a file has a name for a moment, then it is removed"
        return finding("nameless files", says)
    return finding("nameless files", "O_TMPFILE works")


def process() -> Finding:
    """Say whether this process is closed to its children, and what /proc shows."""
    seen = parent_ids()
    with_environ = 0
    for pid in seen:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as environ:
            with_environ += bool(environ.read(1))
    shown = f"/proc shows {len(seen)} processes, and the environment of {with_environ}"
    if is_dumpable() is False:
        return finding("process", f"closed to its children (prctl); {shown}")
    return finding(
        "process",
        f"prctl does not let this process close itself to the code of the projects that it builds, which could read "
        f"the role's credentials; {shown}. Build nothing here that you would not give the role to",
        ok=False,
    )


def shared_memory(folder: Path) -> Finding:
    """Say whether there is shared memory, which Lambda has none of."""
    if folder.is_dir() and os.access(folder, os.W_OK):
        return finding("shared memory", f"{folder} is there")
    return finding(
        "shared memory",
        f"{folder} is not there, as usual in Lambda: Python's multiprocessing has no locks and no pools in a "
        "make_dist.sh, or in the function",
    )


def certificates() -> Finding:
    """Say which certificate authorities are trusted."""
    paths = ssl.get_default_verify_paths()
    chosen = os.environ.get(paths.openssl_cafile_env)
    where = chosen or paths.cafile or paths.capath or "nowhere"
    try:
        count = ssl.create_default_context().cert_store_stats()["x509_ca"]
    except OSError as error:
        return finding("certificates", f"{where} cannot be read: {error} (ca_bundle in config.ini)", ok=False)
    if count == 0 and not paths.capath:
        says = f"there are no certificate authorities in {where}, so no host can be trusted (ca_bundle in config.ini)"
        return finding("certificates", says, ok=False)
    return finding("certificates", f"{count or 'the'} certificate authorities of {where} are trusted")


def boto3_models(job: Job) -> Finding:
    """Say what boto3 is in use, and what of AWS it does not know."""
    import boto3
    import botocore

    lacking = [each for each in NEEDED if not accepts(job.aws.s3, "PutObject", each)]
    if lacking:
        return finding("boto3", too_old(f"{', '.join(lacking)} of PutObject in S3, so nothing can be built"), ok=False)
    says = f"boto3 {boto3_version()} and botocore {botocore.__version__} at {Path(boto3.__file__).parent}"
    unknown = [
        f"{member} of {operation}"
        for operation, members in WANTED.items()
        for member in members
        if not accepts(job.aws.functions, operation, member)
    ]
    if not unknown:
        return finding("boto3", f"{says}; they know all that the builder asks for")
    return finding("boto3", f"{says}; functions that need it are refused: {too_old(', '.join(unknown))}")


def boto3_metadata() -> Finding:
    """Say whether the runtime's packages can be told."""
    versions = runtime_versions()
    if "boto3" in versions:
        told = ", ".join(f"{name} {version}" for name, version in versions.items())
        return finding("runtime packages", f"importlib.metadata finds {told}")
    return finding(
        "runtime packages",
        "importlib.metadata does not find boto3, so a project cannot leave it to the runtime: it is always shipped",
        ok=None,
    )
