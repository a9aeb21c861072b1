"""Asking for a commit, and having it cloned: the Git program's jobs and answers."""

from __future__ import annotations

import base64
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from yo_dawg.checkout import DEFAULT_USERNAME, STALL_SECONDS, is_full_id, origin, ref_names, short_ref
from yo_dawg.control.toolchain import fetch_toolchain
from yo_dawg.errors import SourceError
from yo_dawg.text import printable

if TYPE_CHECKING:
    from yo_dawg.checkout import Source
    from yo_dawg.control.job import Job
    from yo_dawg.events import BuildRequest

MAX_REF = 300
"""Characters of a ref's name; a server says it, and anybody may read it."""


@dataclass(frozen=True)
class Cloned:
    """What was cloned; the files, and what is known of them, lie in the workspace."""

    commit: str
    ref: str


def can_look(source_url: str, ref: str | None) -> bool:
    """Say whether a plain question to the Git host may tell at which commit a ref is."""
    return origin(source_url)[0] in ("https", "http") and not (ref and is_full_id(ref))


def look_at_ref(source: Source, request: BuildRequest, job: Job) -> Cloned | None:
    """Return the commit that is asked for and its ref, if that can be told without a clone.

    Else None: whatever is wrong, the clone finds it too, and says it in words.
    """
    if request.ref and is_full_id(request.ref):
        return Cloned(request.ref, request.ref)
    if not can_look(source.url, request.ref):
        return None
    names = [name.decode() for name in ref_names(request.ref)] if request.ref else ["HEAD"]
    pair = f"{source.username or DEFAULT_USERNAME}:{source.token}"
    question = {
        "url": source.url,
        "credentials": base64.b64encode(pair.encode()).decode() if source.token else None,
        "names": names,
        "seconds": STALL_SECONDS,
    }
    with job.log.step("look", f"[1/8] look at {source.url}"), suppress(SourceError):
        found = job.workshop.ask("look", question, {}, job.log, SourceError).get("found")
        match found:
            case [[str(name), str(commit)]] if is_full_id(commit):
                return Cloned(commit, printable(short_ref(name))[:MAX_REF])
    return None


def clone(source: Source, request: BuildRequest, job: Job) -> Cloned:
    """Fetch one commit of the project into the workspace; raise SourceError, NotBootstrapped.

    Dulwich runs in a program: a hostile repository or server then meets a process that holds no credentials of AWS,
    that the deadline can kill, and whose memory is not ours.
    """
    with job.log.step("toolchain", "[1/8] get the toolchain"):
        parts = ["git", "ssh"] if source.deploy_key else ["git"]
        files = {part: fetch_toolchain(part, job) for part in parts}
    # The alarm of ``deadline``: the program gives up before it rings, and can say what it waited for.
    left = signal.getitimer(signal.ITIMER_REAL)[0] * 0.9
    space = job.space
    question = {
        "workspace": str(space.root),
        "ref": request.ref,
        "project": request.subdirectory or "",
        "checkout": str(space.checkout),
        "sources": str(space.sources),
        "objects": str(space.objects),
        "source": vars(source),
        "until": time.monotonic() + left if left else 0.0,
    }
    with job.log.step("clone", f"[2/8] clone {source.url}"):
        said = job.workshop.ask("git", question, files, job.log, SourceError)
        commit, ref = str(said.get("commit")), printable(str(said.get("ref")))[:MAX_REF]
        if not is_full_id(commit):
            raise SourceError(f"Cannot clone {source.url}: the clone named no commit.")
        job.log.detail(f"{ref} is at commit {commit}")
    return Cloned(commit, ref)
