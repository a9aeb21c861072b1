"""Finding the stored package that a rollback means."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING

from yo_dawg.control.functions import Target, describe_function
from yo_dawg.control.ledger import KEPT_PACKAGES, NOT_DEPLOYED
from yo_dawg.control.packages import Package
from yo_dawg.errors import DeployError
from yo_dawg.events import DIGEST, VERSION

if TYPE_CHECKING:
    from yo_dawg.control.job import Job
    from yo_dawg.control.ledger import BuildRecord
    from yo_dawg.control.store import Store


def find_package(to: str | None, target: Target, job: Job) -> Package:
    """Find the stored package that a rollback means; raise DeployError.

    By default it is what the running one replaced: after a second rollback, the one before that.
    """
    history = job.ledgers[0].history
    if to is None:
        digest = ran_before(target.code_sha256, history)
        if digest is None:
            raise DeployError(
                f'Nothing is known of what {target.name} ran before. Name it by its commit, version or digest in "to".'
            )
    elif VERSION.fullmatch(to):
        digest = Target.from_configuration(describe_function(job.aws, target.name, to)).code_sha256
    else:
        digest = find_digest(to, target.name, history, job.store)
    commit = next((each.commit for each in history if each.code_sha256 == digest and each.commit), None)
    package = Package.of(target.name, digest, commit)
    if not job.store.holds(package.key, package.hex_digest):
        raise DeployError(
            f"The package {job.store.uri(package.key)} is not stored any more (the last {KEPT_PACKAGES} are), or was "
            "changed. Build that commit again."
        )
    return package


def ran_before(digest: str, history: Sequence[BuildRecord]) -> str | None:
    """Return the digest of what a function ran before it came to run this; None if nobody knows.

    Builds pile up, and a rollback takes away all above what it went back to: also where one package
    was deployed twice (A, B, A), rollbacks go down to the bottom and do not turn back.
    """
    pile: list[str] = []
    for entry in reversed([each for each in history if each.status not in NOT_DEPLOYED and each.code_sha256]):
        if entry.replaces and entry.code_sha256:
            if pile[-1:] != [entry.replaces]:
                pile.append(entry.replaces)
            pile.append(entry.code_sha256)
        else:
            while pile and pile[-1] != entry.code_sha256:
                pile.pop()
    if pile[-1:] == [digest]:
        return pile[-2] if len(pile) > 1 else None
    # What failed after its update, or was killed, may run all the same.
    return next((each.replaces for each in history if each.code_sha256 == digest and each.replaces), None)


def find_digest(to: str, name: str, history: Sequence[BuildRecord], store: Store) -> str:
    """Find the one package of this digest, or built from this commit; raise DeployError."""
    if DIGEST.fullmatch(to):
        return to
    ours = [each for each in history if (each.commit or "").startswith(to)]
    # Those that went well first: what failed its test event is of the same commit.
    best = sorted(ours, key=lambda each: each.status in NOT_DEPLOYED)
    built = {each.code_sha256: True for each in best if each.code_sha256}
    digests = [key.rpartition("/")[2].removesuffix(".zip") for key in store.packages(name)]
    found = [*built] or [base64.b64encode(bytes.fromhex(each)).decode() for each in digests if each.startswith(to)]
    if not found:
        commits = list(dict.fromkeys(each.commit[:12] for each in history if each.commit and each.code_sha256))
        raise DeployError(
            f"No package of {name} was built from the commit {to}, or has that digest. The last commits are: "
            f"{', '.join(commits[:KEPT_PACKAGES]) or 'none'}."
        )
    ids = {each.commit for each in history if (each.commit or "").startswith(to)}
    if len(ids) > 1 or (len(found) > 1 and not built):
        raise DeployError(f'"{to}" is the beginning of several commits or digests: give more of it.')
    return found[0]  # a commit that was built twice: what came of it last
