"""Deleting the packages that nobody will put back any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yo_dawg.control.clients import aws_says, pages
from yo_dawg.control.ledger import KEPT_PACKAGES, KEPT_VERSIONS, NOT_DEPLOYED
from yo_dawg.control.packages import Package, bundle_key, dependencies_key
from yo_dawg.errors import DeployError

if TYPE_CHECKING:
    from yo_dawg.control.clients import Aws
    from yo_dawg.control.functions import Target
    from yo_dawg.control.job import Job
    from yo_dawg.control.ledger import Ledger


def tidy(target: Target, ledger: Ledger, job: Job) -> None:
    """Delete packages of a function that nobody will put back any more.

    Those of its last builds stay, and those of its last versions and of versions that an alias names.
    """
    stored = job.store.packages(target.name)
    if len(stored) <= KEPT_PACKAGES:
        return
    entries = [each for each in (ledger.entry, *ledger.history) if each.status not in NOT_DEPLOYED]
    digests = [digest for each in entries for digest in (each.code_sha256, each.replaces) if digest]
    needed = {*list(dict.fromkeys(digests))[:KEPT_PACKAGES], target.code_sha256, *versions_code(target.name, job.aws)}
    keys = {Package.of(target.name, digest).key for digest in needed}
    if doomed := [key for key in stored if key not in keys]:
        job.store.delete([*doomed, *map(bundle_key, doomed), *map(dependencies_key, doomed)])
        job.log.quote(f"deleted {len(doomed)} old packages")


def versions_code(name: str, aws: Aws) -> set[str]:
    """Return the digests of the code of a function's last versions, and of those that an alias names."""
    with aws_says(f"list the versions of {name}"):
        versions = list(pages(aws.functions.list_versions_by_function, "Versions", name))
        aliases = list(pages(aws.functions.list_aliases, "Aliases", name))
    numbered = [each for each in versions if each["Version"] != "$LATEST"]
    last = sorted(numbered, key=lambda each: int(each["Version"]))[-KEPT_VERSIONS:]
    named = {
        version
        for each in aliases
        for version in (each["FunctionVersion"], *(each.get("RoutingConfig") or {}).get("AdditionalVersionWeights", {}))
    }
    return {each["CodeSha256"] for each in [*last, *(each for each in versions if each["Version"] in named)]}


def tidy_up(target: Target, ledger: Ledger, job: Job) -> None:
    """Tidy up, if it can be done: a deployment stands without it."""
    try:
        tidy(target, ledger, job)
    except DeployError as error:
        job.log.say(f"Warning: old packages were not deleted: {error}")
