"""Deploying a stored package: put the code, test it, put it back, publish, move the alias."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from yo_dawg.control.clients import CHANGED, error_code, retry_while_busy, translate_aws_errors
from yo_dawg.control.functions import (
    Target,
    describe_function,
    look_at_alias,
    publish_latest,
    wait_until_published,
    wait_until_updated,
)
from yo_dawg.control.packages import Package, back_up_current_code
from yo_dawg.control.tidying import tidy_up
from yo_dawg.control.trial import NotRun, run_test
from yo_dawg.deadline import deadline
from yo_dawg.errors import DeadlineError, DeployError, OutOfTime, PackageError
from yo_dawg.events import VERSION, BuildRequest, RollbackRequest

if TYPE_CHECKING:
    from yo_dawg.control.clients import Aws
    from yo_dawg.control.job import Job
    from yo_dawg.control.store import Store


@dataclass(frozen=True)
class Deployment:
    """What became of one function."""

    status: str
    function: str
    function_arn: str
    code_sha256: str
    s3_uri: str
    version: str = "$LATEST"
    alias: str | None = None
    warnings: tuple[str, ...] = ()


def deploy(package: Package, target: Target, request: BuildRequest | RollbackRequest, job: Job) -> Deployment:
    """Let a function run a stored package: update, test, publish, move the alias; raise DeployError, PackageError."""
    changes = differs(package, target, request)
    if not changes and what_it_runs(target, job.aws) != target.code_sha256:
        raise DeployError(
            f"Somebody else has updated {target.name} since this build began. Build again if this commit is to win."
        )
    warnings = [*target.warnings, *(back_up_current_code(target, request, job) if changes else [])]
    running = update_and_test(package, target, request, job)
    version = "$LATEST"
    if isinstance(request, RollbackRequest) and request.to and VERSION.fullmatch(request.to):
        version = request.to
    elif request.publish or request.alias:
        version = publish(running, package, job.aws)
    if running.kind.on_capacity_provider:
        latest = publish_latest(running, job.aws)
        version = latest if version == "$LATEST" else version
    moved = request.alias is not None and point_alias(target, request.alias, version, job.aws)
    if moved or changes:
        tag(target, package, job)
    is_left = target.alias is not None and target.alias.is_weighted
    if target.alias and is_left:
        warnings.append(
            f"the alias {request.alias} shares its traffic between two versions, so it was left at version "
            f"{target.alias.version}; point it at version {version} when that is decided"
        )
    return Deployment(
        status="deployed" if changes or moved else "unchanged",
        function=target.name,
        function_arn=target.arn,
        code_sha256=package.code_sha256,
        s3_uri=job.store.uri(package.key),
        version=version,
        alias=None if is_left else request.alias,
        warnings=tuple(warnings),
    )


def differs(package: Package, target: Target, request: BuildRequest | RollbackRequest) -> bool:
    """Say whether a function has to be updated: what Lambda failed to take last is not there."""
    return package.code_sha256 != target.code_sha256 or request.force or target.failure is not None


def what_it_runs(target: Target, aws: Aws) -> str:
    """Return the digest of the code that a function runs now."""
    return Target.from_configuration(describe_function(aws, target.name)).code_sha256


def update_and_test(package: Package, target: Target, request: BuildRequest | RollbackRequest, job: Job) -> Target:
    """Give a function a package, unless it runs that already, and try it with the test event, if there is one.

    A package that fails is taken back, also when time runs out or Lambda's answer fails to come: what
    was not tested is not deployed.
    Raises PackageError, DeployError.
    """
    changes = differs(package, target, request)
    try:
        running = put_code(package, target, job.store, job.aws) if changes else target
        if request.test_event is None:
            return running
        if problem := run_test(running, request.test_event, job):
            raise PackageError(f"The new code of {target.name} failed its test event: {problem}")
    except (NotRun, PackageError) as error:
        undone = take_back(package, target, job) if changes else ""
        raise (PackageError if isinstance(error, PackageError) else DeployError)(f"{error}{undone}") from None
    except (OutOfTime, DeployError):
        if changes and request.test_event is not None:
            take_back(package, target, job)
        raise
    write_down_that_it_passed(target, job)
    return running


def take_back(package: Package, target: Target, job: Job) -> str:
    """Give a function what it ran before again; return "", or why that failed.

    It has a deadline of its own, since the other one may have rung, and leaves time to say so and to
    let the next one build.  Should even this fail, he does it, as the ledger says.
    """
    present = Package.of(target.name, target.code_sha256)
    for _ in range(2):  # where the test has left time for that, twice
        left = job.builder.until - time.time() - SECONDS_TO_RELEASE
        with contextlib.suppress(DeadlineError), deadline(max(1, int(left * 1000)), job.log):
            return restore_previous_code(present, replace(target, code_sha256=package.code_sha256), job)
    return "The old code could not be put back in time: the next build does it first. "


SECONDS_TO_RELEASE = 2.0
"""What putting back leaves at least."""


def write_down_that_it_passed(target: Target, job: Job) -> None:
    """Let nobody take back what a function runs now."""
    for ledger in job.ledgers:
        if ledger.function == target.name and ledger.entry.falls_back_to:
            ledger.note(falls_back_to=None)


def put_code(package: Package, before: Target, store: Store, aws: Aws) -> Target:
    """Point a function at a stored package, wait until Lambda has taken it, and verify that; raise DeployError.

    Somebody else's change of its settings does not matter, a change of its code does: RevisionId
    guards the moment between our look and our update.
    """
    tried = False

    def update() -> None:
        nonlocal tried
        current = wait_until_updated(aws, before.name)
        if current.code_sha256 not in (before.code_sha256, package.code_sha256):
            raise DeployError(
                f"Somebody else has updated {before.name} since this build began. Build again if this commit is to win."
            )
        if tried and current.code_sha256 == package.code_sha256:
            return  # Lambda took it, and its answer was lost
        tried = True
        revision = {"RevisionId": current.revision} if current.revision else {}
        aws.functions.update_function_code(
            FunctionName=before.name, S3Bucket=store.bucket, S3Key=f"{store.prefix}/{package.key}",
            Architectures=[current.architecture],  # x86_64 is the default, whatever the function is
            **kept_settings(before.name, package, store, aws), **revision,
        )  # fmt: skip

    retry_while_busy(f"update the function {before.name}", update)
    updated = wait_until_updated(aws, before.name)
    if updated.failure:
        raise DeployError(f"Lambda did not take the new code of {before.name}: {updated.failure}.")
    if updated.code_sha256 != package.code_sha256:
        raise DeployError(
            f"{before.name} runs code with the digest {updated.code_sha256}, not this build's {package.code_sha256}: "
            "somebody else updated it in the meantime. Build again if this commit is to win."
        )
    return updated


def kept_settings(name: str, package: Package, store: Store, aws: Aws) -> dict[str, str]:
    """Return what an update must say again so that it stays: the key that encrypts the code, and its place.

    Of these UpdateFunctionCode takes the default where they are not given (its API reference).
    """
    code = aws.functions.get_function(FunctionName=name)["Code"]
    kept: dict[str, str] = {}
    if code.get("SourceKMSKeyArn"):
        kept["SourceKMSKeyArn"] = code["SourceKMSKeyArn"]
    if code.get("ResolvedS3Object"):  # the function runs its code from S3, where it must stay as it is
        kept["S3ObjectStorageMode"] = "REFERENCE"
        kept["S3ObjectVersion"] = store.object_version(package.key)
    return kept


def restore_previous_code(package: Package, running: Target, job: Job) -> str:
    """Put back what a function ran before; return "", or why that failed."""
    try:
        put_code(package, running, job.store, job.aws)
    except DeployError as error:
        return f"The old code could not be put back: {error} "
    job.log.detail("put back the code that it ran before")
    for ledger in job.ledgers:
        if ledger.function == running.name:
            ledger.entry = replace(ledger.entry, falls_back_to=None)
    return ""


def publish(running: Target, package: Package, aws: Aws) -> str:
    """Publish what the function runs as a version, and wait until that can be invoked; return its number.

    Lambda answers with the last version where neither code nor settings have changed since.
    """
    description = f"yo-dawg: {package.commit or package.hex_digest}"
    answer = retry_while_busy(
        f"publish a version of {running.name}",
        lambda: aws.functions.publish_version(
            FunctionName=running.name, CodeSha256=running.code_sha256, Description=description
        ),
    )
    version = str(answer["Version"])
    wait_until_published(aws, running.name, version)
    return version


def point_alias(target: Target, name: str, version: str, aws: Aws) -> bool:
    """Point an alias at a version, if it is still as the preflight found it; say whether it was moved."""
    found, here = target.alias, {"FunctionName": target.name, "Name": name}
    if found and (found.is_weighted or found.version == version):
        return False
    revision = {"RevisionId": found.revision} if found and found.revision else {}

    def point() -> None:
        try:
            if found is None:
                aws.functions.create_alias(**here, FunctionVersion=version)
            else:
                aws.functions.update_alias(**here, FunctionVersion=version, **revision)
        except aws.functions.exceptions.ClientError as error:
            if error_code(error) not in CHANGED:
                raise
            now = look_at_alias(target.name, name, aws)
            if now == found:
                raise  # nobody has changed it: Lambda is at something else
            if now is None or now.version != version:  # else it was us, and the answer was lost
                raise DeployError(
                    f"Somebody else has changed the alias {name} of {target.name} since this build began, so it was "
                    f"left alone. Version {version} is published. Build again if the alias is to point at it."
                ) from None

    retry_while_busy(f"point the alias {name} of {target.name} at version {version}", point)
    return True


def tag(target: Target, package: Package, job: Job) -> None:
    """Let the function itself say where its code comes from; a role that may not does no harm."""
    tags = {"yo-dawg:commit": package.commit or "unknown", "yo-dawg:build": job.builder.request_id}
    try:
        with translate_aws_errors(f"tag {target.name}"):
            job.aws.functions.tag_resource(Resource=target.arn, Tags=tags)
    except DeployError as error:
        job.log.detail(f"not tagged: {error}")


def describe_running_code(target: Target, package: Package, aws: Aws) -> str:
    """Say after a failure which code a function runs."""
    try:
        now = Target.from_configuration(describe_function(aws, target.name))
    except DeployError as error:
        return f"What {target.name} runs now cannot be told: {error}"
    if now.busy:
        return f"Lambda is still at an update of {target.name}: look at it again before you rely on it."
    if now.code_sha256 == package.code_sha256 != target.code_sha256:
        return f"{target.name} runs the new code."
    if now.code_sha256 == target.code_sha256:
        return f"{target.name} runs the code that it ran before."
    return f"{target.name} runs code of somebody else's, {now.code_sha256}."


def rehearse(package: Package, target: Target, job: Job) -> Deployment:
    """Say what would be deployed."""
    uri = job.store.uri(package.key)
    return Deployment("built", target.name, target.arn, package.code_sha256, uri, warnings=tuple(target.warnings))


def deploy_all(
    packages: Sequence[Package], targets: Sequence[Target], request: BuildRequest | RollbackRequest, job: Job
) -> list[Deployment]:
    """Deploy to one function after another; an error leaves the rest alone and says which were updated."""
    done: list[Deployment] = []
    for package, target in zip(packages, targets, strict=True):
        job.log.aftermath = functools.partial(describe_state_after_failure, done, package, target, job)
        ledger = next(each for each in job.ledgers if each.function == target.name)
        is_new = isinstance(request, BuildRequest) and target.code_sha256 != package.code_sha256
        replaced = target.code_sha256 if is_new else None
        is_tested = request.test_event is not None and package.code_sha256 != target.code_sha256
        # Written before it is done: should we be killed, the next one reads here what we were at.
        ledger.note(
            commit=package.commit, code_sha256=package.code_sha256, replaces=replaced,
            falls_back_to=target.code_sha256 if is_tested else None,
        )  # fmt: skip
        deployment = deploy(package, target, request, job)
        ledger.entry = replace(
            ledger.entry, status=deployment.status, version=deployment.version, alias=deployment.alias
        )
        job.log.detail(f"{deployment.status}: {target.name} {deployment.version} {package.code_sha256}")
        tidy_up(target, ledger, job)
        done.append(deployment)
    return done


def describe_state_after_failure(done: Sequence[Deployment], package: Package, target: Target, job: Job) -> str:
    """Say after a failure which functions run what."""
    before = f" Already deployed: {', '.join(each.function for each in done)}." if done else ""
    rest = [each.function for each in job.ledgers if each.function != target.name]
    left = [name for name in rest if name not in {each.function for each in done}]
    after = f" Left alone: {', '.join(left)}." if left else ""
    return describe_running_code(target, package, job.aws) + before + after
