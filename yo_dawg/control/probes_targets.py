"""What doctor asks AWS about the functions that the builder may update."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from yo_dawg.control.clients import retry_while_busy
from yo_dawg.control.findings import Unknown, finding, looking, try_out
from yo_dawg.control.functions import look_at_target, preflight, rehearse_invocation
from yo_dawg.errors import DeployError, YoDawgError
from yo_dawg.events import FUNCTION, RollbackRequest

if TYPE_CHECKING:
    from yo_dawg.control.findings import Check, Finding
    from yo_dawg.control.functions import Target
    from yo_dawg.control.job import Job


def deployable_names(job: Job) -> list[str]:
    """Return the functions that config.ini names one by one; a pattern names whatever there will be."""
    return [each for each in job.settings.deployable if FUNCTION.fullmatch(each) and each != job.builder.name]


def examine_target(name: str, job: Job) -> list[Finding]:
    """Return findings about one function; one that cannot be looked at gives one."""

    def check_update(job: Job) -> str:
        target = preflight(name, RollbackRequest(name), job.builder, job.aws)
        return f"{name} can be updated; it is {target.state}{kind_in_words(target)}, and runs {target.code_sha256}"

    first = try_out(job, (f"function {name}", check_update))
    try:
        target = look_at_target(job.aws, name, job.builder)
    except YoDawgError:
        return [first]  # which says why
    return [first, variables(target), *(try_out(job, each) for each in more_checks(target))]


def kind_in_words(target: Target) -> str:
    """Say what is special about a function."""
    kind = target.kind
    words = {
        "on a capacity provider": kind.on_capacity_provider,
        "durable": kind.durable_seconds is not None,
        "one environment for each tenant": kind.is_per_tenant,
        "with snapshots (SnapStart)": kind.has_snapshots,
    }
    said = ", ".join(each for each, is_so in words.items() if is_so)
    return f" ({said})" if said else ""


def variables(target: Target) -> Finding:
    """Say whether the builder sees a function's environment variables."""
    name = f"function {target.name}: variables"
    if target.warnings:
        return finding(name, " ".join(target.warnings), ok=False)
    return finding(name, f"{len(target.environment)} can be read")


def more_checks(target: Target) -> list[Check]:
    """Return the checks of a function that can be looked at."""

    def check_test_event(job: Job) -> str:
        if fault := target.kind.test_event_fault:
            raise Unknown(f"a test event is not possible: {fault}")
        retry_while_busy(f"invoke {target.name}", lambda: rehearse_invocation(target, job.aws))
        sleeps = "; it is asleep, and the first invocation will only wake it" if target.state == "Inactive" else ""
        return f"{target.name} can be invoked{sleeps}"

    def check_code(job: Job) -> str:
        with looking(f"the code of {target.name}", "lambda:GetFunction"):
            code = job.aws.functions.get_function(FunctionName=target.name).get("Code") or {}
        if error := code.get("Error"):
            raise DeployError(
                f"Lambda cannot hand out the code of {target.name}, so it could not be put back: "
                f"{error.get('ErrorCode')}: {error.get('Message')}"
            )
        if code.get("ResolvedS3Object"):
            return f"it runs from s3://{code['ResolvedS3Object'].get('S3Bucket')}, which must keep versions"
        return "can be fetched, and so put back"

    def check_layers(job: Job) -> str:
        for arn in target.layers:
            with looking(f"the layer {arn}", "lambda:GetLayerVersion"):
                job.aws.functions.get_layer_version_by_arn(Arn=arn)
        return f"{len(target.layers)} can be read" if target.layers else "it has none"

    def check_signing(job: Job) -> str:
        policy = signing_policy(target.name, job.aws.functions)
        if policy == "Enforce":
            raise DeployError(
                f"{target.name} takes signed code only, and yo-dawg signs nothing: let its code signing configuration "
                "warn (UntrustedArtifactOnDeployment), or take that configuration away."
            )
        return f"code that is not signed gets a word in its log ({policy})" if policy else "none is asked for"

    name = f"function {target.name}"
    return [
        (f"{name}: test event", check_test_event),
        (f"{name}: code", check_code),
        (f"{name}: layers", check_layers),
        (f"{name}: code signing", check_signing),
    ]


def signing_policy(name: str, functions: Any) -> str:
    """Return what Lambda does with unsigned code of a function: Enforce, Warn, or "" for nothing."""
    with looking(f"the code signing of {name}", "lambda:GetFunctionCodeSigningConfig"):
        try:
            arn = functions.get_function_code_signing_config(FunctionName=name).get("CodeSigningConfigArn")
        except functions.exceptions.ResourceNotFoundException:
            arn = None
    if not arn:
        return ""
    with looking(f"the code signing configuration of {name}", "lambda:GetCodeSigningConfig"):
        found = functions.get_code_signing_config(CodeSigningConfigArn=arn)["CodeSigningConfig"]
    return str((found.get("CodeSigningPolicies") or {}).get("UntrustedArtifactOnDeployment", "Warn"))
