"""What a builder left that was killed, or ran out of time, between its update and its test event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yo_dawg.control.deploy import put_code
from yo_dawg.control.functions import wait_until_updated
from yo_dawg.control.packages import Package

if TYPE_CHECKING:
    from yo_dawg.control.job import Job
    from yo_dawg.control.ledger import Ledger


def recover(job: Job) -> list[str]:
    """Put back what functions ran before, where they run code that has not passed its test event.

    It is the first thing that the next holder of a ledger does, whoever he is and whatever he wants.
    Returns the names of the functions that had to be put right; raises DeployError.
    """
    return [ledger.function for ledger in job.ledgers if ledger.untested and take_back_untested(ledger, job)]


def take_back_untested(ledger: Ledger, job: Job) -> bool:
    """Say whether a function ran code that has not passed its test event, and put back what it ran before."""
    name = ledger.function
    running, found = wait_until_updated(job.aws, name), False
    for entry in ledger.untested:
        if running.code_sha256 != entry.code_sha256:
            continue  # it was put back in time, or somebody has deployed something else
        package = Package.of(name, entry.falls_back_to or "")
        if not job.store.holds(package.key, package.hex_digest):
            job.log.info(
                f"Warning: {name} runs code of {entry.request_id} that has not passed its test event, and what it ran "
                f"before, {job.store.uri(package.key)}, is not stored any more: it is left as it is."
            )
            continue
        job.log.info(f"{entry.request_id} has left {name} with code that has not passed its test event: going back.")
        running, found = put_code(package, running, job.store, job.aws), True
    ledger.settle()
    return found
