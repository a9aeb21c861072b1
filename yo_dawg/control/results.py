"""The answers of build and rollback (contract §5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from yo_dawg.archives import LARGEST
from yo_dawg.control.records import seconds

if TYPE_CHECKING:
    from yo_dawg.control.deploy import Deployment
    from yo_dawg.control.job import Job
    from yo_dawg.control.package import Made
    from yo_dawg.events import BuildRequest, RollbackRequest


def package_result(made: Made) -> dict[str, Any]:
    """Return what build's answer says of the package (contract §5)."""
    return {
        "commit": made.checkout.commit,
        "ref": made.checkout.ref,
        "code_sha256": made.archive.sha256,
        "package": {
            "zip_bytes": made.archive.zip_bytes,
            "unzipped_bytes": made.archive.unzipped_bytes,
            "files": made.archive.files,
            "largest": [list(each) for each in made.sizes.most_common(LARGEST)],
        },
        "dependencies": list(made.installed.names),
        "dependency_records": dict(made.installed.records),
        "pruned": {
            "files": made.pruned.files,
            "bytes": made.pruned.bytes,
            "reasons": dict(made.pruned.reasons),
            "kept": dict(made.pruned.kept),
        },
        "warnings": list(made.warnings),
    }


def build_result(
    told: Mapping[str, Any], request: BuildRequest, deployments: Sequence[Deployment], job: Job
) -> dict[str, Any]:
    """Return build's answer (contract §5): what is told of the package, and what became of it."""
    warnings = [*told["warnings"], *(each for deployment in deployments for each in deployment.warnings)]
    for warning in warnings:
        job.log.say(f"Warning: {warning}.")
    return {
        **deployment_result(request, deployments),
        **told,
        "package": {**told["package"], "s3_uri": deployments[0].s3_uri},
        "warnings": warnings,
        "log": None,
        "seconds": seconds(job.log),
    }


def deployment_result(request: BuildRequest | RollbackRequest, deployments: Sequence[Deployment]) -> dict[str, Any]:
    """Return what an answer says of the function; of several, each has an outcome of its own."""
    changed = [each.status for each in deployments if each.status != "unchanged"]
    first = deployments[0]
    if isinstance(request.function, str):
        return {
            "status": first.status,
            "function": first.function,
            "function_arn": first.function_arn,
            "version": first.version,
            "alias": first.alias,
        }
    return {
        "status": changed[0] if changed else "unchanged",
        "function": [each.function for each in deployments],
        "functions": {
            each.function: {
                "status": each.status, "function_arn": each.function_arn, "version": each.version, "alias": each.alias,
            }
            for each in deployments
        },
    }  # fmt: skip
