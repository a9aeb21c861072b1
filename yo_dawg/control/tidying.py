"""Deleting the packages that nobody will put back any more, and the versions that nobody wants to keep."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from yo_dawg.control.clients import pages, translate_aws_errors
from yo_dawg.control.ledger import KEPT_PACKAGES, KEPT_VERSIONS, NOT_DEPLOYED
from yo_dawg.control.packages import Package, bundle_key, dependencies_key
from yo_dawg.errors import DeployError
from yo_dawg.events import VERSION

if TYPE_CHECKING:
    from yo_dawg.control.clients import Aws
    from yo_dawg.control.functions import Target
    from yo_dawg.control.job import Job
    from yo_dawg.control.ledger import Ledger


OURS = "yo-dawg: "
"""How the description of a version begins that this program has published."""


def tidy(target: Target, ledger: Ledger, job: Job) -> None:
    """Delete packages of a function that nobody will put back any more.

    Those of its last builds stay, and those of its last versions and of versions that an alias names.
    """
    stored = job.store.packages(target.name)
    if len(stored) <= KEPT_PACKAGES:
        return
    # Who was killed after he had deployed counts too: it runs, and what it replaced may be put back.
    entries = [
        each
        for each in (ledger.entry, *ledger.history)
        if each.status not in NOT_DEPLOYED or each.code_sha256 == target.code_sha256
    ]
    digests = [digest for each in entries for digest in (each.code_sha256, each.replaces) if digest]
    needed = {*list(dict.fromkeys(digests))[:KEPT_PACKAGES], target.code_sha256, *versions_code(target.name, job.aws)}
    keys = {Package.of(target.name, digest).key for digest in needed}
    if doomed := [key for key in stored if key not in keys]:
        job.store.delete([*doomed, *map(bundle_key, doomed), *map(dependencies_key, doomed)])
        job.log.detail(f"deleted {len(doomed)} old packages")


def versions_code(name: str, aws: Aws) -> set[str]:
    """Return the digests of the code of a function's last versions, and of those that an alias names."""
    versions, named = look_at_versions(name, aws)
    last = published(versions)[-KEPT_VERSIONS:]
    return {each["CodeSha256"] for each in [*last, *(each for each in versions if each["Version"] in named)]}


def look_at_versions(name: str, aws: Aws) -> tuple[list[Mapping[str, Any]], set[str]]:
    """Return a function's versions, $LATEST among them, and which of them aliases name; raise DeployError."""
    with translate_aws_errors(f"list the versions of {name}"):
        versions = list(pages(aws.functions.list_versions_by_function, "Versions", name))
        aliases = list(pages(aws.functions.list_aliases, "Aliases", name))
    return versions, named_versions(aliases)


def published(versions: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return those versions that have a number, the oldest first."""
    return sorted(
        (each for each in versions if VERSION.fullmatch(each["Version"])), key=lambda each: int(each["Version"])
    )


def named_versions(aliases: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return the versions that aliases name, also those that get a share of the traffic."""
    return {
        version
        for each in aliases
        for version in (each["FunctionVersion"], *(each.get("RoutingConfig") or {}).get("AdditionalVersionWeights", {}))
    }


def tidy_versions(target: Target, ledger: Ledger, job: Job) -> None:
    """Delete what we have published of a function, but for the last versions (keep_versions) and what is in use.

    In use is what an alias names, and what was deployed last.  Versions of others stay.
    """
    kept, name = job.settings.keep_versions, target.name
    if kept is None:
        return
    versions, named = look_at_versions(name, job.aws)
    used = {*named, ledger.entry.version}
    doomed = [
        each["Version"]
        for each in published(versions)[:-kept]
        if each["Version"] not in used and str(each.get("Description", "")).startswith(OURS)
    ]
    refused = ""
    for version in doomed:
        try:
            with translate_aws_errors(f"delete version {version} of {name}"):
                job.aws.functions.delete_function(FunctionName=name, Qualifier=version)
            job.log.detail(f"deleted version {version}")
        except DeployError as error:  # what makes use of it, Lambda knows: the others can go all the same
            refused = str(error)
    if refused:
        raise DeployError(refused)


def tidy_up(target: Target, ledger: Ledger, job: Job) -> None:
    """Tidy up, if it can be done: a deployment stands without it."""
    for what, clean in (("versions", tidy_versions), ("packages", tidy)):
        try:
            clean(target, ledger, job)
        except DeployError as error:
            job.log.info(f"Warning: old {what} were not deleted: {error}")
