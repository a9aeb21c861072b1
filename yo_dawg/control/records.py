"""Who builds now, the answer to a request that came twice, and the record of each build."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any, cast

from yo_dawg.control.ledger import BuildRecord, Ledger
from yo_dawg.deadline import deadline
from yo_dawg.errors import ERRORS, BuildInProgress, DeadlineError, DeployError, OutOfTime, YoDawgError
from yo_dawg.events import BuildRequest, RollbackRequest, request_digest
from yo_dawg.text import utc

if TYPE_CHECKING:
    from yo_dawg.builder import Builder, LambdaContext
    from yo_dawg.control.functions import Target
    from yo_dawg.control.job import Job
    from yo_dawg.events import Request
    from yo_dawg.log import Log

POLL_SECONDS = 1.0
"""How often one who waits for another invocation's answer looks."""

RETRY_SECONDS = 60.0
"""A request that comes again so soon after its answer is taken for a client's retry: the AWS CLI
loses patience after 60 seconds, and asks again."""


def take_ledgers(names: Sequence[str], request: BuildRequest | RollbackRequest, job: Job) -> None:
    """Make this the only build of these functions; raise BuildInProgress if there is another.

    One that was asked the same is waited for: a client that lost patience asks again, and then means
    the build that runs.
    """
    if request.dry_run:
        return
    entry = new_entry(min(names), request, job.builder)
    for name in sorted(names):
        ledger = Ledger(name, entry, job.store)
        job.ledgers.append(ledger)
        other: BuildRecord | None = None
        try:
            while other := ledger.acquire():
                if other.request == entry.request:
                    if other.request_id not in ledger.waited_for:
                        since = utc(other.began)
                        job.log.info(f"{other.request_id} has been doing the same since {since}: waiting for it …")
                    ledger.waited_for.add(other.request_id)
                elif not ledger.waited_for:  # who waits already goes on waiting when a third one gets in between
                    raise in_progress(name, other)
                time.sleep(POLL_SECONDS)
        except OutOfTime:  # it died, and we began too soon after it to see its time end
            if other is None:
                raise
            raise in_progress(name, other) from None


def in_progress(name: str, other: BuildRecord) -> BuildInProgress:
    """Return the error that says who builds a function."""
    return BuildInProgress(
        f"{name} is being built by another invocation, {other.request_id}: {other.title}, "
        f"{f'asked for by {other.asked_by}, ' if other.asked_by else ''}since {utc(other.began)}. "
        f"It ends by {utc(other.until)} at the latest. Ask again then."
    )


def new_entry(name: str, request: BuildRequest | RollbackRequest, builder: Builder) -> BuildRecord:
    """Return this invocation's entry for ledgers; its record will stand with the function of this name."""
    title = f"rollback to {request.to or 'what ran before'}" if isinstance(request, RollbackRequest) else "build"
    if isinstance(request, BuildRequest):
        title = " ".join(filter(None, ("build", request.repo_name, request.ref, request.subdirectory)))
    began = time.time()
    return BuildRecord(
        request_id=builder.request_id,
        request=request_digest(request),
        title=title,
        began=began,
        until=builder.until,
        record=f"builds/{name}/{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(began))}-{builder.request_id}",
        log_stream=builder.log_stream,
        asked_by=builder.asked_by,
    )


def earlier_answer(
    request: BuildRequest | RollbackRequest, targets: Sequence[Target], job: Job
) -> dict[str, Any] | None:
    """Return the answer of the same request if it was being served when this one came, or just before.

    What was done just before is "unchanged" now.  None if there is none, or if it is not true any
    more: the ref has moved on, or the function runs something else by now.  Raises the error that it
    ended with, if this one waited for it.

    Who waited gets that answer also if a third one built meanwhile: he asked before that one's answer,
    and to do the same again would undo what that one did.
    """
    awaited = frozenset[str]().union(*(ledger.waited_for | meanwhile(ledger, job) for ledger in job.ledgers))
    by_name = {ledger.function: awaited_or_last(ledger, awaited) for ledger in job.ledgers}
    lasts = [by_name.get(target.name) for target in targets]
    entries = [each for each in lasts if each]
    last = entries[0] if entries else None
    if last is None or last.ended is None or {each and each.request_id for each in lasts} != {last.request_id}:
        return None
    ours, waited = job.ledgers[0].entry, last.request_id in awaited
    is_recent = time.time() - last.ended < RETRY_SECONDS and not request.force
    is_same = last.request == ours.request and ours.commit in (None, last.commit)
    stored = job.store.read(f"{last.record}.json") if is_same and (waited or is_recent) else None
    if stored is None:
        return None
    result: dict[str, Any] = json.loads(stored[0])["result"]
    # The record's word: of several functions, one may be deployed by a build that failed.
    failed = result["status"] == "failed"
    overtaking = [ledger.history[0] for ledger in job.ledgers if ledger.history[0].request_id != last.request_id]
    is_true = (
        failed
        or (waited and overtaking)
        or all(is_as_left(target, entry) for target, entry in zip(targets, entries, strict=True))
    )
    if not is_true or (failed and not waited):
        return None
    for ledger in job.ledgers:
        ledger.is_attached = True
    job.log.info(f"{last.request_id} did the same until {utc(last.ended)}: this is its answer.")
    if failed:
        raise ERRORS.get(result["errorType"], DeployError)(result["errorMessage"])
    if waited:
        since = [f"since then there was {each.title} ({each.request_id}, {each.status})" for each in overtaking[:1]]
        return {**result, "warnings": [*result["warnings"], *since]}
    again = f"the same was done until {utc(last.ended)}: if it is to be done once more, ask in a minute"
    more = {"warnings": [*result["warnings"], again]} if isinstance(request, RollbackRequest) else {}
    return {**result, **more, "status": "unchanged", "seconds": seconds(job.log)}


def meanwhile(ledger: Ledger, job: Job) -> set[str]:
    """Return the ids of those who were asked the same and were done after this one came, but before it had the ledger.

    It need not have seen them at work: to look at the function first takes as long as a short build.
    """
    came, asked = job.builder.came or ledger.entry.began, ledger.entry.request
    since = [each for each in ledger.history if each.ended and each.ended > came and each.status != "interrupted"]
    return {each.request_id for each in since if each.request == asked}


def awaited_or_last(ledger: Ledger, awaited: Collection[str]) -> BuildRecord | None:
    """Return the build that this one has waited for, if there is one; else the last one."""
    return next((each for each in ledger.history if each.request_id in awaited), next(iter(ledger.history), None))


def is_as_left(target: Target, entry: BuildRecord) -> bool:
    """Say whether a function, and the alias, still are as a build has left them."""
    moved = entry.alias is not None and (target.alias is None or target.alias.version != entry.version)
    return target.code_sha256 == entry.code_sha256 and not moved


def note_commit(commit: str, ref: str, job: Job) -> None:
    """Remember in the ledgers what is being built."""
    for ledger in job.ledgers:
        ledger.entry = replace(ledger.entry, commit=commit, ref=ref)


def failure(error: Exception, message: str) -> dict[str, Any]:
    """Return what the record of a failed build holds in place of an answer."""
    return {"status": "failed", "errorType": type(error).__name__, "errorMessage": message}


def aftermath(error: YoDawgError, job: Job, context: LambdaContext) -> str:
    """Say what a failure leaves behind, where that may be asked."""
    if any(ledger.is_attached for ledger in job.ledgers):
        return ""  # it is another build's, and says this already
    if job.log.aftermath is None:
        return " Nothing was deployed." if isinstance(error, DeadlineError) else ""
    try:
        with deadline(context.get_remaining_time_in_millis(), job.log):
            return f" {job.log.aftermath()}"
    except DeadlineError:
        return " What runs now could not be told in time: look at the function before you rely on it."


def finish_build(request: Request, result: dict[str, Any], job: Job, context: LambdaContext) -> None:
    """Keep a record of a build and its log, and let the next one begin.

    The build stands or fails without its record: what hinders it is only told.
    """
    if not job.ledgers:
        return
    # Who got no ledger has done nothing; and no history would tell of his record.
    is_new = bool(result) and job.ledgers[0].is_held and not any(ledger.is_attached for ledger in job.ledgers)
    try:
        with deadline(context.get_remaining_time_in_millis(), job.log):
            try:
                if is_new:
                    record(request, result, job)
            finally:
                with contextlib.ExitStack() as each_of_them:  # whatever becomes of another
                    for ledger in job.ledgers:
                        how = outcome(result, ledger.entry) if is_new and ledger.is_held else {}
                        each_of_them.callback(release, ledger, how, job)
    except (YoDawgError, OSError) as error:
        job.log.info(f"Warning: the end of the build could not be recorded: {error}")


def release(ledger: Ledger, how: Mapping[str, Any], job: Job) -> None:
    """Delete the records that are too old, and release a ledger.

    In this order: of what the history has forgotten, nobody would find the record any more.
    """
    forgotten = 0
    try:
        old = ledger.outdated(1 if how else 0)
        ours = [each.record for each in old if each.record.startswith(f"builds/{ledger.function}/")]
        job.store.delete([f"{key}{suffix}" for key in ours for suffix in (".log", ".json")])
        forgotten = len(old)
    except DeployError as error:
        job.log.info(f"Warning: old records were not deleted: {error}")
    finally:
        ledger.release(forgotten, **how)


def outcome(result: Mapping[str, Any], entry: BuildRecord) -> dict[str, Any]:
    """Return how a build ended, for its entry in a ledger."""
    if result["status"] != "failed":
        return {"status": entry.status}
    return {
        "status": entry.status if entry.status != "running" else "failed",
        "error": f"{result['errorType']}: {result['errorMessage']}"[:500],
    }


def record(request: Request, result: dict[str, Any], job: Job) -> None:
    """Store the build's log, whose address the result then names, and a record of what became of it."""
    entry = job.ledgers[0].entry
    asked = {**vars(request), "test_event": None}  # what it holds is nobody's business
    job.store.upload(f"{entry.record}.log", cast(IO[bytes], job.log.file), "text/plain; charset=utf-8")
    result["log"] = job.store.uri(f"{entry.record}.log")
    told = {"request_id": entry.request_id, "asked_by": entry.asked_by, "began": entry.began, "request": asked}
    job.store.upload_json(f"{entry.record}.json", {**told, "log_stream": entry.log_stream, "result": result})


def seconds(log: Log) -> dict[str, float]:
    """Return the seconds of each stage, and of all of them."""
    return {"total": round(sum(log.seconds.values()), 3), **log.seconds}
