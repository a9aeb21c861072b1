"""Starting the Git program, and reading its answer."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yo_dawg.checkout import (
    DEFAULT_USERNAME,
    STALL_SECONDS,
    Checkout,
    Required,
    is_full_id,
    origin,
    ref_names,
    short_ref,
)
from yo_dawg.control.toolchain import git_worker_command
from yo_dawg.disk import refuse_if_disk_full
from yo_dawg.errors import SourceError
from yo_dawg.process import Command, CommandFailed, own_program
from yo_dawg.text import printable
from yo_dawg.trees import entries_below
from yo_dawg.workshop.git.look import ask_refs
from yo_dawg.workspace import Workspace

if TYPE_CHECKING:
    from yo_dawg.checkout import Source
    from yo_dawg.control.job import Job
    from yo_dawg.control.toolchain import Toolchain
    from yo_dawg.events import BuildRequest
    from yo_dawg.process import Shell


def look_command(source: Source, request: BuildRequest, space: Workspace) -> Command | None:
    """Return the command of the child that asks a Git host at which commit a ref is; it needs no toolchain.

    None where a plain question to an HTTP server does not tell.
    """
    if origin(source.url)[0] not in ("https", "http") or (request.ref and is_full_id(request.ref)):
        return None
    names = [name.decode() for name in ref_names(request.ref)] if request.ref else ["HEAD"]
    pair = f"{source.username or DEFAULT_USERNAME}:{source.token}"
    question = {
        "url": source.url,
        "credentials": base64.b64encode(pair.encode()).decode() if source.token else None,
        "names": names,
        "seconds": STALL_SECONDS,
        "answer": str(space.root / "refs.json"),
    }
    return replace(look_program(space), stdin=json.dumps(question).encode())


def look_program(space: Workspace) -> Command:
    """Return that command without a question."""
    return Command(own_program(ask_refs, "-s"), space.root, is_ours=True)


def look_at_ref(source: Source, request: BuildRequest, job: Job) -> tuple[str, str] | None:
    """Return the commit that is asked for and its ref, if that can be told without a clone.

    Else None: whatever is wrong, the clone finds it too, and says it in words.
    """
    if request.ref and is_full_id(request.ref):
        return request.ref, request.ref
    command = look_command(source, request, job.space)
    if command is None:
        return None
    with job.log.step("look", f"[1/8] look at {source.url}"), contextlib.suppress(CommandFailed, OSError):
        job.shell.run(command)
        found = json.loads((job.space.root / "refs.json").read_bytes())
        if len(found) == 1 and is_full_id(found[0][1]):
            return found[0][1], short_ref(found[0][0])
    return None


def clone(source: Source, request: BuildRequest, toolchain: Toolchain, shell: Shell) -> Checkout:
    """Fetch one commit of the project and write out its files; raise SourceError."""
    space = Workspace(toolchain.root.parent)
    job = {
        "ref": request.ref,
        "project": request.subdirectory or "",
        "checkout": str(space.checkout),
        "sources": str(space.sources),
    }
    result = run_git_worker(source, job, toolchain, shell)
    return Checkout(
        root=space.checkout,
        project=project_folder(space.checkout, request),
        commit=result["commit"],
        ref=result["ref"],
        files=frozenset(os.path.relpath(entry.path, space.checkout) for entry in entries_below(space.checkout)),
        required=Required(**result["required"]),
        warnings=tuple(result["warnings"]),
    )


def run_git_worker(source: Source, job: Mapping[str, Any], toolchain: Toolchain, shell: Shell) -> dict[str, Any]:
    """Let the git worker do a job; return its answer, or raise SourceError.

    Dulwich runs in a child: a hostile repository or server then meets a process that holds no
    credentials of AWS, that the deadline can kill, and whose memory is not ours.  The token or key
    goes through its standard input.
    """
    if source.deploy_key:
        toolchain.wait("ssh")
    space = Workspace(toolchain.root.parent)
    answer = space.root / "clone.json"
    # The alarm of ``deadline``: the worker gives up before it rings, and can say what it waited for.
    left = signal.getitimer(signal.ITIMER_REAL)[0] * 0.9
    until = time.monotonic() + left if left else 0.0
    whole_job = {**job, "source": vars(source), "objects": str(space.objects), "answer": str(answer), "until": until}
    try:
        shell.run(replace(git_worker_command(space), stdin=json.dumps(whole_job).encode()))
    except CommandFailed as error:
        refuse_if_disk_full(error, space)
        raise SourceError(f"Cannot clone {source.url}: the clone {error.ending}.{error.quoted_tail}") from None
    result: dict[str, Any] = json.loads(answer.read_bytes())
    shutil.rmtree(space.objects)
    if "error" in result:
        raise SourceError(result["error"])
    return result


def project_folder(root: Path, request: BuildRequest) -> Path:
    """Return the project's folder in the checkout; raise SourceError if there is none."""
    project = root / (request.subdirectory or ".")
    if not project.is_dir():
        folders = sorted(printable(path.name) for path in root.iterdir() if path.is_dir() and path.name[0] != ".")
        raise SourceError(
            f"{request.repo_name} has no folder {request.subdirectory!r} at this commit. "
            f"Its folders are: {', '.join(folders) or 'none'}."
        )
    if not project.resolve().is_relative_to(root.resolve()):
        raise SourceError(f"The folder {request.subdirectory!r} of {request.repo_name} is a link out of it.")
    return project
