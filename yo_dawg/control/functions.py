"""The functions that are updated: what Lambda says of them, and whether they can be."""

from __future__ import annotations

import fnmatch
import io
import re
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from yo_dawg.control.clients import KMS_KEY, error_code, may_still_run, retry_while_busy, translate_aws_errors
from yo_dawg.control.kinds import LATEST_PUBLISHED, Kind, state_fault
from yo_dawg.control.models import accepts, too_old
from yo_dawg.errors import ConfigError, DeployError
from yo_dawg.events import FUNCTION, function_name

if TYPE_CHECKING:
    from yo_dawg.builder import Builder
    from yo_dawg.control.clients import Aws
    from yo_dawg.events import BuildRequest, RollbackRequest
    from yo_dawg.log import Log
    from yo_dawg.settings import Settings

SECRET_NAME = re.compile(r"KEY|SECRET|TOKEN|PASS|CREDENTIAL|AUTH|DSN|_URL$|_URI$", re.IGNORECASE)
"""Environment variables of a function whose values no log may show."""


@dataclass(frozen=True)
class Alias:
    """A name for a version, as Lambda describes it."""

    version: str
    revision: str | None
    is_weighted: bool
    """Whether it sends a share of the traffic to a second version."""


@dataclass(frozen=True)
class Target:
    """The function to update, as Lambda describes it."""

    name: str
    arn: str
    handler: str
    timeout: int
    """Seconds."""
    code_sha256: str
    revision: str | None
    layers: tuple[str, ...]
    """The ARNs of its layers' versions."""
    state: str
    busy: bool
    failure: str | None
    alias: Alias | None = None
    """The alias that the request names, if it is there."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Its environment variables."""
    environment_error: str | None = None
    """Why Lambda does not show us these."""
    kms_key: str = ""
    """The key that they are encrypted with, if it is one of the customer's."""
    architecture: str = "x86_64"
    memory_mb: int = 128
    log_group: str = ""
    kind: Kind = field(default_factory=Kind)
    snapshot: str | None = None
    """Of a version: On once its snapshot has been taken (SnapStart), else Off."""

    @property
    def warnings(self) -> list[str]:
        """What whoever builds it should know."""
        if self.environment_error is None:
            return []
        key = self.kms_key or (found[0] if (found := KMS_KEY.search(self.environment_error)) else "")
        return [
            f"the environment variables of {self.name} cannot be decrypted by the builder "
            f"({self.environment_error.rstrip('.')}): its import can only be tried without them, and that it fails "
            f'proves nothing. Add {key or "the ARN of their key"} to kms_keys in config.ini and run "./deploy.sh '
            'bootstrap"; the policy of the key itself must allow this account or this role, too'
        ]

    @classmethod
    def from_configuration(cls, answer: Mapping[str, Any]) -> Target:
        """Read the answer of GetFunctionConfiguration."""
        status = answer.get("LastUpdateStatus")
        state = str(answer.get("State", "Active"))
        variables = answer.get("Environment") or {}
        refusal = variables.get("Error")
        return cls(
            name=answer["FunctionName"],
            arn=answer["FunctionArn"],
            handler=answer.get("Handler", ""),
            timeout=int(answer.get("Timeout", 3)),
            code_sha256=answer.get("CodeSha256", ""),
            revision=answer.get("RevisionId"),
            layers=tuple(each["Arn"] for each in answer.get("Layers") or ()),
            state=state if state_fault(state) is None else f"{state} ({answer.get('StateReason', 'no reason given')})",
            busy=status == "InProgress" or state == "Pending",
            failure=str(answer.get("LastUpdateStatusReason", "no reason given")) if status == "Failed" else None,
            environment=variables.get("Variables") or {},
            environment_error=str(refusal.get("Message") or refusal.get("ErrorCode")) if refusal else None,
            kms_key=str(answer.get("KMSKeyArn") or ""),
            architecture=(answer.get("Architectures") or ["x86_64"])[0],
            memory_mb=int(answer.get("MemorySize", 128)),
            log_group=(answer.get("LoggingConfig") or {}).get("LogGroup", f"/aws/lambda/{answer['FunctionName']}"),
            kind=Kind.from_configuration(answer),
            snapshot=(answer.get("SnapStart") or {}).get("OptimizationStatus"),
        )


def check_deployable(function: str, builder: Builder, settings: Settings) -> None:
    """Raise DeployError if the function is not one that this builder may update.  Asks AWS nothing."""
    name = function_name(function)
    parts = FUNCTION.fullmatch(function)
    account = parts and parts["account"]
    region = parts and parts["region"]
    if (account and account != builder.account) or (region and region != builder.arn.split(":")[3]):
        raise DeployError(f"{function} is in another account or region than this builder, {builder.arn}.")
    if name == builder.name:
        raise DeployError(f'{name} is this builder, and does not update itself: use "./deploy.sh bootstrap".')
    if not any(fnmatch.fnmatchcase(name, pattern) for pattern in settings.deployable):
        raise DeployError(
            f"{name} is not among the functions that {builder.name} may update ({', '.join(settings.deployable)}). "
            'Add it to deployable_functions in config.ini and run "./deploy.sh bootstrap".'
        )


def describe_function(aws: Aws, name: str, version: str | None = None) -> dict[str, Any]:
    """Ask Lambda about a function, or about a version of it; raise DeployError."""
    qualifier = {"Qualifier": version} if version else {}

    def ask() -> dict[str, Any]:
        try:
            return dict(aws.functions.get_function_configuration(FunctionName=name, **qualifier))
        except aws.functions.exceptions.ResourceNotFoundException:
            if version:
                raise DeployError(f"{name} has no version {version}.") from None
            raise DeployError(f"There is no function {name} in this account and region. Create it first.") from None

    return retry_while_busy(f"look at the function {name}", ask)


def look_at_target(aws: Aws, name: str, builder: Builder) -> Target:
    """Ask Lambda about the target; raise DeployError if this builder cannot serve it."""
    answer = describe_function(aws, name)
    if answer.get("PackageType", "Zip") != "Zip":
        raise DeployError(f"{name} is a container image function; yo-dawg builds zip packages only.")
    runtime, target = answer.get("Runtime"), Target.from_configuration(answer)
    if (runtime, target.architecture) != (builder.runtime, builder.architecture):
        raise DeployError(
            f"{name} runs on {runtime}, {target.architecture}; this builder is {builder.runtime}, "
            f"{builder.architecture}, and what it builds fits only that. "
            f"{sibling_advice(aws, f'{runtime}-{target.architecture}')}"
        )
    if fault := state_fault(target.state):
        raise DeployError(f"{name} {fault}.")
    if target.kind.on_capacity_provider and not accepts(aws.functions, "PublishVersion", "PublishTo"):
        raise ConfigError(
            f"{name} runs on a capacity provider, so what is built must be published for its callers: "
            f"{too_old('PublishTo of PublishVersion')}"
        )
    return target


def sibling_advice(aws: Aws, platform: str) -> str:
    """Say which builder would fit a platform: template.yaml tags each with its own."""
    filters = [{"Key": "yo-dawg:platform", "Values": [platform]}]
    try:
        with translate_aws_errors("look for other builders"):
            found = aws.tags.get_resources(TagFilters=filters, ResourceTypeFilters=["lambda:function"])
    except DeployError:
        found = {}
    names = [function_name(each["ResourceARN"]) for each in found.get("ResourceTagMappingList", [])]
    if names:
        return f"Ask the builder {' or '.join(names)} instead."
    return (
        "Change the function, or deploy a second yo-dawg (a config.ini with another function_name, runtime and "
        "architecture)."
    )


def preflight(name: str, request: BuildRequest | RollbackRequest, builder: Builder, aws: Aws) -> Target:
    """Find out before the work whether the function can be deployed at its end; raise DeployError.

    Lambda is asked to do as if: DryRun checks the permissions and, for the code, whether it must be signed.
    """
    wait_until_updated(aws, name)
    target = look_at_target(aws, name, builder)
    check_place(name, aws)
    retry_while_busy(
        f"update the function {name}",
        lambda: aws.functions.update_function_code(
            FunctionName=name, ZipFile=rehearsal_zip(), Architectures=[target.architecture], DryRun=True
        ),
    )
    if request.test_event is not None:
        if fault := target.kind.test_event_fault:
            raise DeployError(f"{name} cannot be tried with a test event: {fault}. Build it without test_event.")
        if target.state == "ActiveNonInvocable":
            raise DeployError(f"{name} cannot be tried with a test event: it is {target.state}.")
        retry_while_busy(f"invoke {name} with the test event", lambda: rehearse_invocation(target, aws))
    return replace(target, alias=look_at_alias(name, request.alias, aws)) if request.alias else target


PLACES = {"ResolvedS3Object": "S3ObjectStorageMode", "SourceKMSKeyArn": "SourceKMSKeyArn"}
"""What GetFunction says of where a function's code lies, and what an update must say so that it stays that way."""


def check_place(name: str, aws: Aws) -> None:
    """Raise ConfigError if an update would move a function's code, since this boto3 is too old to say where it lies."""
    unknown = {said: each for said, each in PLACES.items() if not accepts(aws.functions, "UpdateFunctionCode", each)}
    if not unknown:
        return
    with translate_aws_errors(f"look at the code of {name}"):
        code = aws.functions.get_function(FunctionName=name)["Code"]
    if lost := ", ".join(each for said, each in unknown.items() if code.get(said)):
        raise ConfigError(
            f"{name} runs its code from S3, or has it under a key of its own, and an update would end that: "
            f"{too_old(f'{lost} of UpdateFunctionCode')}"
        )


def rehearse_invocation(target: Target, aws: Aws) -> None:
    """Ask Lambda whether we may invoke a function, also one that is not ready to be invoked: it would wake then."""
    from botocore.exceptions import ClientError

    try:
        aws.functions.invoke(FunctionName=target.name, InvocationType="DryRun", **target.kind.qualifier)
    except ClientError as error:
        if not may_still_run(error) or error_code(error) == "TooManyRequestsException":
            raise


def rehearsal_zip() -> bytes:
    """Return the smallest package that Lambda could take."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        # Lambda takes a package whose files are all empty for an empty one.
        archive.writestr(zipfile.ZipInfo("rehearsal.txt"), "Not to be deployed\n")
    return content.getvalue()


def look_at_alias(name: str, alias: str, aws: Aws) -> Alias | None:
    """Ask Lambda about an alias; None if there is none of this name."""
    with translate_aws_errors(f"look at the alias {alias} of {name}"):
        try:
            answer = aws.functions.get_alias(FunctionName=name, Name=alias)
        except aws.functions.exceptions.ResourceNotFoundException:
            return None
    weights = (answer.get("RoutingConfig") or {}).get("AdditionalVersionWeights")
    return Alias(answer["FunctionVersion"], answer.get("RevisionId"), bool(weights))


def wait_until_updated(aws: Aws, name: str, version: str | None = None) -> Target:
    """Wait until Lambda is done with an update of the function, or with a new version; the deadline ends the wait."""
    pause = 0.1
    while (target := Target.from_configuration(describe_function(aws, name, version))).busy:
        time.sleep(pause)
        pause = min(2 * pause, 1.0)  # Lambda takes 15 such questions a second of a whole account
    return target


SECONDS_FOR_SNAPSHOT = 60.0
"""How long to wait for the word that a version has a snapshot, once it can be invoked."""


def wait_until_published(aws: Aws, name: str, version: str) -> Target:
    """Wait until a version can be invoked, and has its snapshot if it is to have one (SnapStart); raise DeployError."""
    published = wait_until_updated(aws, name, version)
    until = time.monotonic() + SECONDS_FOR_SNAPSHOT
    while published.kind.has_snapshots and published.snapshot == "Off" and time.monotonic() < until:
        if state_fault(published.state):
            break
        time.sleep(1.0)
        published = wait_until_updated(aws, name, version)
    if published.state not in ("Active", "Inactive"):
        what = "Its snapshot could not be taken (SnapStart)" if published.kind.has_snapshots else "It cannot be invoked"
        raise DeployError(f"Version {version} of {name} is of no use. {what}: it is {published.state}.")
    return published


def publish_latest(running: Target, aws: Aws) -> str:
    """Let those who name no version of a function on a capacity provider get what $LATEST is now; raise DeployError.

    That is what UpdateFunctionCode alone does for any other function.  Returns by what name they get it.
    """
    name = running.name
    try:
        published = Target.from_configuration(
            aws.functions.get_function_configuration(FunctionName=name, Qualifier=LATEST_PUBLISHED)
        )
    except aws.functions.exceptions.ClientError:  # there is none yet, or the refusal below says more
        published = None
    if published is None or published.code_sha256 != running.code_sha256:
        retry_while_busy(
            f"publish {name} as {LATEST_PUBLISHED}",
            lambda: aws.functions.publish_version(
                FunctionName=name, CodeSha256=running.code_sha256, PublishTo="LATEST_PUBLISHED"
            ),
        )
    wait_until_published(aws, name, LATEST_PUBLISHED)
    return LATEST_PUBLISHED


def hide_environment(target: Target, log: Log) -> None:
    """Let no log show what a function's environment variables hold that look like secrets."""
    for name, value in target.environment.items():
        if SECRET_NAME.search(name) or re.search(r"://[^/\s]*@", value):
            log.hide(value)
