"""The builder's function against what is wanted: what differs, and how it is brought in line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import WaiterError

from client.aws import AwsError, reason
from client.config import Config
from client.faults import Fault
from client.main import App
from client.package import Package


def code_key(config: Config, package: Package) -> str:
    """Return where the builder's code lies in the bucket."""
    return f"{config.function_name}/function/{package.hex}.zip"


def look(app: App) -> dict[str, Any]:
    """Return the function's configuration."""
    try:
        found: dict[str, Any] = app.aws.client("lambda").get_function_configuration(
            FunctionName=app.config.function_name
        )
    except AwsError as error:
        raise Fault(
            f"{reason(error)}\nthere is no function {app.config.function_name}, although the stack "
            f"{app.config.stack_name} is there. If somebody deleted it, delete the stack too, then run this again."
        ) from None
    return found


def code_updates(wanted: Config, package: Package | None, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what to send to UpdateFunctionCode; nothing about the code where no package is given."""
    update: dict[str, Any] = {}
    if found.get("Architectures", ["x86_64"]) != [wanted.architecture]:
        update["Architectures"] = [wanted.architecture]
    if package and (update or found.get("CodeSha256") != package.sha256):
        # Without Architectures Lambda would take it for x86_64.
        update = {
            "Architectures": [wanted.architecture],
            "S3Bucket": wanted.deployment_bucket,
            "S3Key": code_key(wanted, package),
        }
    return update


def configuration_updates(wanted: Config, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what to send to UpdateFunctionConfiguration."""
    asked: dict[str, Any] = {
        "Runtime": wanted.runtime,
        "Handler": "lambda_function.lambda_handler",
        "MemorySize": wanted.memory_size,
        "EphemeralStorage": {"Size": wanted.ephemeral_storage},
        "Timeout": wanted.timeout,
    }
    update = {name: value for name, value in asked.items() if found.get(name) != value}
    if differing_variables(wanted, found):
        update["Environment"] = {"Variables": wanted.environment()}
    return update


def differing_variables(wanted: Config, found: Mapping[str, Any]) -> list[str]:
    """Name the environment variables that are not as they should be."""
    there = (found.get("Environment") or {}).get("Variables") or {}
    asked = wanted.environment()
    return sorted(name for name in there.keys() | asked if there.get(name) != asked.get(name))


def differences(wanted: Config, package: Package | None, found: Mapping[str, Any]) -> Iterator[str]:
    """Say how the function differs from what is wanted."""
    code, configuration = code_updates(wanted, package, found), configuration_updates(wanted, found)
    if package and found.get("CodeSha256") != package.sha256:
        yield f"CodeSha256 is {found.get('CodeSha256') or 'unknown'}, not {package.sha256}"
    for name, value in (code | configuration).items():
        if name == "Environment":
            yield f"Environment differs in {', '.join(differing_variables(wanted, found))}"
        elif not name.startswith("S3") and found.get(name) != value:
            yield f"{name} is {brief(found.get(name))}, not {brief(value)}"


def brief(value: object) -> str:
    """Write a property of a function for people."""
    match value:
        case {"Size": size}:
            return str(size)
        case [only]:
            return str(only)
    return str(value)


def settle(app: App, package: Package) -> bool:
    """Bring the function in line; say whether anything had to be changed.

    What differs is a change made by hand, or what an imitation of CloudFormation does not know.
    """
    found = look(app)
    before = list(differences(app.config, package, found))
    if not before:
        return False
    app.screen.say("update the function:\n" + "\n".join(before))
    update(app, "update_function_code", code_updates(app.config, package, found))
    update(app, "update_function_configuration", configuration_updates(app.config, found))
    after = list(differences(app.config, package, look(app)))
    name = app.config.function_name
    if any(each.startswith("CodeSha256") for each in after):
        raise Fault(f"the function {name} does not run the uploaded code: {'; '.join(after)}")
    if after:
        app.screen.warn(f"the function {name} took the update, but still: {'; '.join(after)}")
    return after != before


def update(app: App, operation: str, changes: Mapping[str, Any]) -> None:
    """Send an update, if there is something to change, when no other one is under way; wait until it is done."""
    if not changes:
        return
    functions, name = app.aws.client("lambda"), app.config.function_name
    waiter = functions.get_waiter("function_updated_v2")
    try:
        waiter.wait(FunctionName=name)
        getattr(functions, operation)(FunctionName=name, **changes)
        waiter.wait(FunctionName=name)
    except WaiterError as error:
        raise Fault(
            f"the function {name} does not come out of an update; look at it in the Lambda console. {reason(error)}"
        ) from None
    except AwsError as error:
        raise Fault(f"could not update the function {name}: {reason(error)}") from None
