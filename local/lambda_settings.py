"""A function's configuration: what Lambda takes for one, and how it stands in the answers."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from typing import Any

from local.functions import runtime_version_arn, timestamp
from local.lambda_errors import invalid, violation

ENVIRONMENT_LIMIT = 4096

NAMED_RUNTIMES = """
nodejs20.x python3.14 provided.al2023 python3.12 python3.13 nodejs24.x nodejs22.x java25 python3.10 python3.11 java21
ruby3.3 ruby3.4 ruby3.2 python3.8 python3.9 java17 nodejs16.x dotnet10 dotnet8 java11 dotnet6 nodejs18.x provided.al2
java8.al2
"""
"""Those that the message about an unknown runtime names, in its order."""

BLOCKED_RUNTIMES = """
python2.7 python3.6 python3.7 python3.8 java8 go1.x provided ruby2.5 ruby2.7 nodejs10.x nodejs12.x nodejs14.x
dotnetcore2.1 dotnetcore3.1
"""
"""Those that AWS neither creates nor updates any more; python3.9 and python3.10 follow."""

RESERVED_VARIABLES = """
_HANDLER _X_AMZN_TRACE_ID AWS_DEFAULT_REGION AWS_REGION AWS_EXECUTION_ENV AWS_LAMBDA_FUNCTION_NAME
AWS_LAMBDA_FUNCTION_MEMORY_SIZE AWS_LAMBDA_FUNCTION_VERSION AWS_LAMBDA_INITIALIZATION_TYPE
AWS_LAMBDA_LOG_GROUP_NAME AWS_LAMBDA_LOG_STREAM_NAME AWS_ACCESS_KEY AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
AWS_SESSION_TOKEN AWS_LAMBDA_RUNTIME_API LAMBDA_TASK_ROOT LAMBDA_RUNTIME_DIR TZ
"""

NO_VPC = {"SubnetIds": [], "SecurityGroupIds": [], "VpcId": "", "Ipv6AllowedForDualStack": False}

# The settings that CreateFunction and UpdateFunctionConfiguration both take, as they stand in a configuration.
PLAIN_SETTINGS = ("Description", "Handler", "KMSKeyArn", "MemorySize", "Role", "Runtime", "Timeout", "EphemeralStorage",
                  "DeadLetterConfig", "FileSystemConfigs", "ImageConfigResponse")  # fmt: skip


def defaults(name: str) -> dict[str, Any]:
    """Return what a function's configuration is where nothing is given."""
    return {
        "FunctionName": name,
        "Description": "",
        "Timeout": 3,
        "MemorySize": 128,
        "EphemeralStorage": {"Size": 512},
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "TracingConfig": {"Mode": "PassThrough"},
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{name}"},
    }


def check_settings(parameters: Mapping[str, Any], runtimes: Container[str]) -> None:
    """Raise for settings that the API's description, which knows these runtimes, allows and Lambda does not."""
    runtime = parameters.get("Runtime")
    if runtime and runtime not in runtimes:
        raise invalid(
            f"Value {runtime} at 'runtime' failed to satisfy constraint: "
            f"Member must satisfy enum value set: [{', '.join(NAMED_RUNTIMES.split())}] or be a valid ARN"
        )
    if runtime in BLOCKED_RUNTIMES.split():
        raise invalid(
            f"The runtime parameter of {runtime} is no longer supported for creating or updating AWS Lambda "
            "functions. We recommend you use a supported runtime while creating or updating functions."
        )
    for name, limit in (("MemorySize", 10_240), ("Timeout", 900)):
        value = parameters.get(name)
        if value is not None and value > limit:
            raise violation(
                f"Value '{value}' at '{name[0].lower()}{name[1:]}' failed to satisfy "
                f"constraint: Member must have value less than or equal to {limit}"
            )
    check_variables(parameters.get("Environment", {}).get("Variables", {}))


def check_variables(variables: Mapping[str, str]) -> None:
    """Raise for environment variables that Lambda does not take."""
    reserved = sorted(variables.keys() & RESERVED_VARIABLES.split())
    start = "Lambda was unable to configure your environment variables because the environment variables you have "
    if reserved:
        raise invalid(
            f"{start}provided contains reserved keys that are currently not supported for modification. "
            f"Reserved keys used in this request: {', '.join(reserved)}"
        )
    measured = json.dumps(variables, separators=(",", ":"), ensure_ascii=False)
    if len(measured.encode()) > ENVIRONMENT_LIMIT:
        raise invalid(f"{start}provided exceeded the 4KB limit. String measured: {measured}")


def settings(parameters: Mapping[str, Any], before: Mapping[str, Any], region: str) -> dict[str, Any]:
    """Return the parts of a configuration that a request sets."""
    config = {name: parameters[name] for name in PLAIN_SETTINGS if name in parameters}
    if "Environment" in parameters:
        config["Environment"] = {"Variables": dict(parameters["Environment"].get("Variables", {}))}
    if "LoggingConfig" in parameters:
        config["LoggingConfig"] = logging(parameters["LoggingConfig"], before["LoggingConfig"])
    if "TracingConfig" in parameters:
        config["TracingConfig"] = {"Mode": parameters["TracingConfig"].get("Mode", "PassThrough")}
    if "SnapStart" in parameters:
        config["SnapStart"] = {"OptimizationStatus": "Off"} | parameters["SnapStart"]
    if "VpcConfig" in parameters:
        config["VpcConfig"] = NO_VPC | parameters["VpcConfig"]
    if "ImageConfig" in parameters:
        config["ImageConfigResponse"] = {"ImageConfig": parameters["ImageConfig"]}
    return config | runtime_version(dict(before) | config, region) | {"LastModified": timestamp()}


def runtime_version(config: Mapping[str, Any], region: str) -> dict[str, Any]:
    """Return which version of its runtime a function has: none, if it is an image."""
    if not config.get("Runtime"):
        return {}
    arn = runtime_version_arn(region, config["Runtime"], config["Architectures"][0])
    return {"RuntimeVersionConfig": {"RuntimeVersionArn": arn}}


def logging(given: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Return the LoggingConfig; levels are for JSON only."""
    log_format = given.get("LogFormat") or before["LogFormat"]
    if log_format == "Text" and (given.get("ApplicationLogLevel") or given.get("SystemLogLevel")):
        raise invalid(
            'LogLevel is not supported when LogFormat is set to "Text". Remove LogLevel from your request or '
            'change the LogFormat to "JSON" and try again.'
        )
    levels = {"ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO"} if log_format == "JSON" else {}
    kept = {name: value for name, value in before.items() if name == "LogGroup" or log_format == "JSON"}
    return levels | kept | dict(given) | {"LogFormat": log_format}
