"""Asking for a commit, and having it cloned: the Git program's jobs and answers."""

from __future__ import annotations

import base64
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from yo_dawg.control.toolchain import fetch_toolchain
from yo_dawg.errors import SourceError
from yo_dawg.limits import STALL_SECONDS
from yo_dawg.source import DEFAULT_USERNAME, is_full_id, origin, ref_names, short_ref
from yo_dawg.text import printable
from yo_dawg.workspace import empty_workspace

if TYPE_CHECKING:
    from yo_dawg.control.job import Job
    from yo_dawg.events import BuildRequest
    from yo_dawg.source import Source

MAX_REF = 300
"""Characters of a ref's name; a server says it, and anybody may read it."""


MAX_ROUNDS = 10
"""How often a clone begins anew: so deep may requirements from Git lie in those that only their builds tell of."""

MAX_ASKED = 64
"""How many repositories a project's installer may ask for."""

MAX_ADDRESS = 2000
"""Characters of a repository's address, or of a ref that is asked for there."""


@dataclass(frozen=True)
class Cloned:
    """What was cloned; the files, and what is known of them, lie in the workspace."""

    commit: str
    ref: str
    source: Source | None = field(default=None, repr=False)
    """Where it was cloned from."""
    asked: tuple[tuple[str, str | None], ...] = ()
    """The repositories that the project's installer has asked for: address, and ref if any."""


def can_look(source_url: str, ref: str | None) -> bool:
    """Say whether a plain question to the Git host may tell at which commit a ref is."""
    return origin(source_url)[0] in ("https", "http") and not (ref and is_full_id(ref))


def prepare_to_look(request: BuildRequest, job: Job) -> None:
    """Have the program that looks get ready, if it may be asked."""
    if can_look(job.settings.base_url, request.ref):
        job.workshop.start("look")


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


def clone(source: Source, request: BuildRequest, job: Job, asked: tuple[tuple[str, str | None], ...] = ()) -> Cloned:
    """Fetch one commit of the project, and what it requires from Git, into the workspace.

    Raises SourceError, NotBootstrapped.

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
        "asked": asked,
        "until": time.monotonic() + left if left else 0.0,
    }
    with job.log.step("clone", f"[2/8] clone {source.url}"):
        job.workshop.start("package")  # it gets ready while the Git host is at work
        said = job.workshop.ask("git", question, files, job.log, SourceError)
        commit, ref = str(said.get("commit")), printable(str(said.get("ref")))[:MAX_REF]
        if not is_full_id(commit):
            raise SourceError(f"Cannot clone {source.url}: the clone named no commit.")
        job.log.detail(f"{ref} is at commit {commit}")
    return Cloned(commit, ref, source, asked)


def clone_again(cloned: Cloned, said: object, request: BuildRequest, job: Job) -> Cloned:
    """Clone once more, with the repositories that the project's installer asks for; raise SourceError.

    Builds of the project's requirements may have run by now, and have written anywhere in the workspace.  So that the
    Git program, which has credentials, meets nothing of theirs, all of it is removed before, as between two builds.
    """
    pairs = said[:MAX_ASKED] if isinstance(said, list) else []
    new = [(url, ref) for each in pairs if isinstance(each, list) and len(each) == 2 for url, ref in [each]]
    new = [each for each in new if is_address(*each) and each not in cloned.asked]
    asked = (*cloned.asked, *new)
    if cloned.source is None or not new:
        raise SourceError("The project's installer asks for Git repositories that it has, or that have no address.")
    if len(asked) > MAX_ASKED:
        raise SourceError(f"The project requires more than {MAX_ASKED} Git repositories.")
    job.log.info(f"uv asks for Git repositories ({len(new)}) that were not fetched: all begins anew, with these.")
    empty_workspace(job.space, everything=job.settings.tmp_is_ours)
    again = clone(cloned.source, request, job, asked)
    if again.commit != cloned.commit:
        raise SourceError(f'"{again.ref}" was moved from {cloned.commit} to {again.commit} meanwhile. Try again.')
    return again


def is_address(url: object, ref: object) -> bool:
    """Say whether these may be a repository's address and ref; whether they are, the Git program finds out."""
    texts = [url] if ref is None else [url, ref]
    return all(isinstance(each, str) and 0 < len(each) <= MAX_ADDRESS and each.isprintable() for each in texts)
