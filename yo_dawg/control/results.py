"""The answers of bootstrap, build and rollback (contract §5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from yo_dawg.builder import TESTED_RUNTIMES
from yo_dawg.control.records import seconds
from yo_dawg.control.toolchain import toolchain_key

if TYPE_CHECKING:
    from yo_dawg.control.deploy import Deployment
    from yo_dawg.control.job import Job
    from yo_dawg.control.packages import Package
    from yo_dawg.events import BuildRequest, RollbackRequest


def bootstrap_result(status: str, made: Mapping[str, Any], job: Job) -> dict[str, Any]:
    """Return bootstrap's answer.  The zip that it names is the one with Dulwich."""
    warnings = []
    if job.builder.runtime not in TESTED_RUNTIMES:
        warnings.append(
            f"{job.builder.runtime} is not among the runtimes that this yo-dawg is tested with "
            f"({TESTED_RUNTIMES[0]} to {TESTED_RUNTIMES[-1]}): try dry_run first, or a newer yo-dawg"
        )
    for warning in warnings:
        job.log.info(f"Warning: {warning}.")
    return {
        "status": status,
        "toolchain": {
            "s3_uri": job.store.uri(toolchain_key(made["parts"]["git"])),
            "sha256": made["parts"]["git"],
            "packages": made["packages"],
        },
        "warnings": warnings,
        "seconds": seconds(job.log),
    }


def build_result(
    told: Mapping[str, Any], request: BuildRequest, deployments: Sequence[Deployment], job: Job
) -> dict[str, Any]:
    """Return build's answer (contract §5): what is told of the package, and what became of it."""
    warnings = [*told["warnings"], *(each for deployment in deployments for each in deployment.warnings)]
    for warning in warnings:
        job.log.info(f"Warning: {warning}.")
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


def rollback_result(package: Package, deployment: Deployment, request: RollbackRequest, job: Job) -> dict[str, Any]:
    """Return rollback's answer: like build's, with the commit that runs now."""
    for warning in deployment.warnings:
        job.log.info(f"Warning: {warning}.")
    return {
        **deployment_result(request, [deployment]),
        "commit": package.commit,
        "code_sha256": package.code_sha256,
        "package": {"s3_uri": deployment.s3_uri},
        "warnings": list(deployment.warnings),
        "log": None,
        "seconds": seconds(job.log),
    }
