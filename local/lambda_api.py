"""The Lambda API, as strict as AWS: what it refuses, in which words, and the phases that an update goes through.

moto's own Lambda takes almost anything (no RevisionId, no conflict, bad zips, missing objects), so none of it is used.
Messages are those that AWS was seen to give. What is not offered says so: event source mappings, function URLs,
provisioned concurrency, code signing, durable functions and capacity providers.
"""

from __future__ import annotations

import base64
import contextlib
import json
import platform
import random
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Protocol, cast

from local.code_store import UNZIPPED_LIMIT, ZIPPED_LIMIT, BadPackage, Code, CodeStore
from local.environments import Environment, Outcome, Pool
from local.functions import (
    LATEST,
    Alias,
    Function,
    Unit,
    Version,
    conflict,
    invalid,
    new_revision,
    not_found,
    runtime_version_arn,
    stale_revision,
    timestamp,
)
from local.rest_json import ApiError, Request, Response, Service
from local.runtime_api import Invocation

REQUEST_LIMIT = 70_167_211
SYNC_PAYLOAD_LIMIT = 6_291_456
ASYNC_PAYLOAD_LIMIT = 1_048_576
ENVIRONMENT_LIMIT = 4096
CONCURRENCY_LIMIT = 1000

BLOCKED_RUNTIMES = ("python2.7", "python3.6", "python3.7", "python3.8")
"""Those that AWS neither creates nor updates any more; python3.9 and python3.10 follow."""

RESERVED_VARIABLES = """
_HANDLER _X_AMZN_TRACE_ID AWS_DEFAULT_REGION AWS_REGION AWS_EXECUTION_ENV AWS_LAMBDA_FUNCTION_NAME
AWS_LAMBDA_FUNCTION_MEMORY_SIZE AWS_LAMBDA_FUNCTION_VERSION AWS_LAMBDA_INITIALIZATION_TYPE
AWS_LAMBDA_LOG_GROUP_NAME AWS_LAMBDA_LOG_STREAM_NAME AWS_ACCESS_KEY AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
AWS_SESSION_TOKEN AWS_LAMBDA_RUNTIME_API LAMBDA_TASK_ROOT LAMBDA_RUNTIME_DIR TZ
"""

FUNCTION_NAME = re.compile(
    r"(?:(?:arn:aws[a-zA-Z-]*:lambda:)?(?:(?P<region>[a-z]{2}(?:-gov|-iso[a-z]?)?-[a-z]+-\d):)?(?P<account>\d{12}):)?"
    r"(?:function:)?(?P<name>[a-zA-Z0-9-_]+)(?::(?P<qualifier>\$LATEST|[a-zA-Z0-9-_]+))?"
)

# The settings that CreateFunction and UpdateFunctionConfiguration both take, as they stand in a configuration.
PLAIN_SETTINGS = ("Description", "Handler", "KMSKeyArn", "MemorySize", "Role", "Runtime", "Timeout", "EphemeralStorage",
                  "DeadLetterConfig", "FileSystemConfigs", "ImageConfigResponse")  # fmt: skip


class World(Protocol):
    """What the Lambda API needs of the rest of the embedded AWS."""

    account: str
    region: str
    endpoint: str

    def role_trusts_lambda(self, arn: str) -> bool:
        """Say whether a role exists and lets Lambda assume it."""

    def read_object(self, bucket: str, key: str, version: str | None) -> bytes:
        """Return an object's bytes, or raise ApiError as Lambda would."""

    def make_environment(self, function: Function, version: Version, unit: Unit) -> Environment:
        """Make an execution environment for a version of a function."""


@dataclass
class Layer:
    """A layer's versions; deleted ones leave a gap."""

    name: str
    versions: dict[int, tuple[dict[str, Any], Code]] = field(default_factory=dict)
    counter: int = 0


class LambdaApi:
    """The functions of one account in one region, and the operations on them."""

    def __init__(self, world: World, codes: CodeStore, update_seconds: float, retry_seconds: tuple[float, ...]) -> None:
        """Begin with no function."""
        self.world = world
        self.codes = codes
        self.update_seconds = update_seconds
        self.retry_seconds = retry_seconds
        self.service = Service("lambda")
        self.functions: dict[str, Function] = {}
        self.layers: dict[str, Layer] = {}
        self.lock = threading.RLock()
        self.background: set[threading.Thread] = set()
        self.closing = threading.Event()
        self.operations: dict[str, Callable[[dict[str, Any]], Mapping[str, Any]]] = {
            name: getattr(self, snake)
            for name in self.service.model.operation_names
            if hasattr(self, snake := re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower())
        }

    # --- requests ---

    def handle(self, request: Request) -> Response:
        """Answer an HTTP request."""
        try:
            operation, parameters = self.service.parse(request)
            if len(request.body) > REQUEST_LIMIT:
                message = f"Request must be smaller than {REQUEST_LIMIT} bytes for the {operation} operation"
                raise ApiError("RequestEntityTooLargeException", 413, message)
            return self.service.respond(operation, self.call(operation, parameters))
        except ApiError as error:
            return self.service.refuse(error)

    def call(self, operation: str, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Carry out an operation."""
        if operation not in self.operations:
            raise ApiError("UnknownOperationException", 404, f"The embedded AWS does not offer lambda:{operation}.")
        self.service.check(operation, parameters)
        if operation == "Invoke":  # which may take long, and locks for itself
            return self.invoke(parameters)
        with self.lock:
            self.settle()
            return self.operations[operation](parameters)

    def settle(self) -> None:
        """End the creations and updates whose time has come."""
        for function in self.functions.values():
            for version in function.everything:
                if pool := version.settle():
                    pool.retire()

    def finish_updates(self) -> None:
        """End every creation and update now."""
        with self.lock:
            for function in self.functions.values():
                for version in function.everything:
                    version.settles_at = 0.0
            self.settle()

    # --- names ---

    def arn(self, name: str) -> str:
        """Return a function's ARN."""
        return f"arn:aws:lambda:{self.world.region}:{self.world.account}:function:{name}"

    def parse_name(self, parameters: Mapping[str, Any]) -> tuple[str, str | None]:
        """Return a function's name and qualifier, whichever way they were given."""
        given = parameters["FunctionName"]
        match = FUNCTION_NAME.fullmatch(given)
        if not match:
            raise ApiError(
                "ValidationException",
                400,
                f"1 validation error detected: Value '{given}' at 'functionName' failed to satisfy constraint: Member "
                "must satisfy regular expression pattern: (arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|"
                r"(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_]+)(:(\$LATEST|[a-zA-Z0-9-_]+))?",
            )
        if match["region"] and match["region"] != self.world.region:
            raise not_found(
                f"Functions from '{match['region']}' are not reachable in this region ('{self.world.region}')"
            )
        if match["account"] and match["account"] != self.world.account:
            raise ApiError("AccessDeniedException", 403, f"User is not authorized to access {given}")
        name, qualifier = match["name"], parameters.get("Qualifier")
        if match["qualifier"] and qualifier and match["qualifier"] != qualifier:
            raise invalid("The derived qualifier from the function name does not match the specified qualifier.")
        return name, match["qualifier"] or qualifier

    def find(self, parameters: Mapping[str, Any]) -> tuple[Function, str | None]:
        """Return the function that a request names, and the qualifier."""
        name, qualifier = self.parse_name(parameters)
        if name not in self.functions:
            raise not_found(f"Function not found: {self.arn(name)}" + (f":{qualifier}" if qualifier else ""))
        return self.functions[name], qualifier

    # --- functions ---

    def create_function(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Make a function; it is Pending for a moment."""
        name, _ = self.parse_name(parameters)
        package_type = parameters.get("PackageType", "Zip")
        self.check_settings(parameters)
        if package_type == "Zip" and not (parameters.get("Runtime") and parameters.get("Handler")):
            raise invalid(
                "Runtime and Handler are mandatory parameters for functions created with deployment packages."
            )
        if name in self.functions:
            raise conflict(f"Function already exist: {name}")
        self.check_role(parameters["Role"])
        code = self.take_code(parameters["Code"], package_type)
        config = {
            "FunctionName": name,
            "Description": "",
            "Timeout": 3,
            "MemorySize": 128,
            "EphemeralStorage": {"Size": 512},
            "PackageType": package_type,
            "Architectures": parameters.get("Architectures") or ["x86_64"],
            "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
            "TracingConfig": {"Mode": "PassThrough"},
            "LoggingConfig": {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{name}"},
        }
        config |= self.settings(parameters, config) | self.code_facts(code, parameters["Code"])
        layers = self.take_layers(parameters.get("Layers", []), config, code)
        latest = Version(Unit(config, code, layers), self.arn(name), LATEST)
        latest.settles_at = time.monotonic() + self.update_seconds
        function = Function(name, self.arn(name), latest, tags=dict(parameters.get("Tags", {})))
        function.storage = self.storage(parameters["Code"])
        self.functions[name] = function
        if parameters.get("Publish"):
            return function.publish(None, self.update_seconds).view()
        return latest.view()

    def check_settings(self, parameters: Mapping[str, Any]) -> None:
        """Raise for settings that the API's description allows and Lambda does not."""
        runtime = parameters.get("Runtime")
        known = self.service.model.shape_for("Runtime").metadata["enum"]
        if runtime and runtime not in known:
            raise invalid(
                f"Value {runtime} at 'runtime' failed to satisfy constraint: "
                f"Member must satisfy enum value set: [{', '.join(known)}] or be a valid ARN"
            )
        if runtime in BLOCKED_RUNTIMES:
            raise invalid(
                f"The runtime parameter of {runtime} is no longer supported for creating or updating AWS Lambda "
                "functions. We recommend you use a supported runtime while creating or updating functions."
            )
        for name, limit in (("MemorySize", 10_240), ("Timeout", 900)):
            value = parameters.get(name)
            if value is not None and value > limit:
                raise ApiError(
                    "ValidationException",
                    400,
                    f"1 validation error detected: Value '{value}' at '{name[0].lower()}{name[1:]}' failed to satisfy "
                    f"constraint: Member must have value less than or equal to {limit}",
                )
        self.check_variables(parameters.get("Environment", {}).get("Variables", {}))

    def check_variables(self, variables: Mapping[str, str]) -> None:
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

    def check_role(self, role: str) -> None:
        """Raise unless Lambda can be the role."""
        if not self.world.role_trusts_lambda(role):
            raise invalid("The role defined for the function cannot be assumed by Lambda.")

    def take_code(self, given: Mapping[str, Any], package_type: str) -> Code | None:
        """Return the checked package that a request brings or points to; None for an image."""
        if package_type == "Image":
            if not given.get("ImageUri") or given.get("ZipFile") or given.get("S3Bucket"):
                raise invalid("Please provide ImageUri when updating a function with packageType Image.")
            return None
        if given.get("ImageUri"):
            raise invalid("Please don't provide ImageUri when updating a function with packageType Zip.")
        content = given.get("ZipFile")
        if content is not None:
            if len(content) > ZIPPED_LIMIT:
                message = f"Zipped size must be smaller than {ZIPPED_LIMIT} bytes"
                raise ApiError("RequestEntityTooLargeException", 413, message)
        elif given.get("S3Bucket") and given.get("S3Key"):
            content = self.world.read_object(given["S3Bucket"], given["S3Key"], given.get("S3ObjectVersion"))
        else:
            raise invalid("Please provide a source for function code.")
        try:
            return self.codes.add(content)
        except BadPackage as error:
            raise invalid(str(error)) from error

    def code_facts(self, code: Code | None, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a configuration says about the code."""
        if code is None:
            digest = uuid.uuid5(uuid.NAMESPACE_URL, given["ImageUri"]).hex * 2
            return {"CodeSha256": digest, "CodeSize": 0}
        return {"CodeSha256": code.sha256, "CodeSize": code.size}

    def settings(self, parameters: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parts of a configuration that a request sets."""
        config = {name: parameters[name] for name in PLAIN_SETTINGS if name in parameters}
        if "Environment" in parameters:
            config["Environment"] = {"Variables": dict(parameters["Environment"].get("Variables", {}))}
        if "LoggingConfig" in parameters:
            config["LoggingConfig"] = self.logging(parameters["LoggingConfig"], before["LoggingConfig"])
        if "TracingConfig" in parameters:
            config["TracingConfig"] = {"Mode": parameters["TracingConfig"].get("Mode", "PassThrough")}
        if "SnapStart" in parameters:
            config["SnapStart"] = {"OptimizationStatus": "Off"} | parameters["SnapStart"]
        if "VpcConfig" in parameters:
            config["VpcConfig"] = {"SubnetIds": [], "SecurityGroupIds": [], "VpcId": ""} | parameters["VpcConfig"]
        if "ImageConfig" in parameters:
            config["ImageConfigResponse"] = {"ImageConfig": parameters["ImageConfig"]}
        runtime = config.get("Runtime") or before.get("Runtime")
        if runtime:
            config["RuntimeVersionConfig"] = {"RuntimeVersionArn": runtime_version_arn(self.world.region, runtime)}
        return config | {"LastModified": timestamp()}

    def logging(self, given: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
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

    def get_function(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Return a function's configuration, a place to download its code, and its tags."""
        function, qualifier = self.find(parameters)
        version = function.version(qualifier)
        code = version.unit.code
        place: dict[str, Any] = {"RepositoryType": "ECR"}
        if code:
            name = f"{base64.b64decode(code.sha256).hex()}.zip"
            place = {"RepositoryType": "S3", "Location": f"{self.world.endpoint}/lambda-code/{name}"} | function.storage
        reserved = {"ReservedConcurrentExecutions": function.reserved}
        return {
            "Configuration": version.view(qualified=qualifier == LATEST),
            "Code": place,
            "Tags": function.tags or None,
            "Concurrency": reserved if function.reserved is not None else None,
        }

    def get_function_configuration(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Return a function's configuration."""
        function, qualifier = self.find(parameters)
        return function.version(qualifier).view(qualified=qualifier == LATEST)

    def list_functions(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Return all functions, with all their versions if asked to."""
        functions = [function for _, function in sorted(self.functions.items())]
        if parameters.get("FunctionVersion") == "ALL":
            views = [version.view(qualified=True) for function in functions for version in function.everything]
        else:
            views = [function.latest.view() for function in functions]
        return page(views, "Functions", parameters)

    def delete_function(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Delete a function, or one of its versions."""
        function, qualifier = self.find(parameters)
        if qualifier == LATEST:
            raise invalid("$LATEST version cannot be deleted without deleting the function.")
        if qualifier in function.aliases:
            raise invalid("Deletion of aliases is not currently supported.")
        if qualifier:
            gone = [function.versions.pop(qualifier)] if qualifier in function.versions else []
        else:
            gone = function.everything
            del self.functions[function.name]
        for version in gone:
            if version.pool:
                version.pool.retire()
        return {"StatusCode": 204}

    # --- updates ---

    def update_function_code(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Give a function other code; it is InProgress for a moment."""
        function, _ = self.find(parameters)
        function.refuse_while_under_way()
        function.check_revision(parameters.get("RevisionId"))
        unit = function.latest.unit
        code = self.take_code(parameters, unit.config["PackageType"])
        config = dict(unit.config) | self.code_facts(code, parameters) | {"LastModified": timestamp()}
        if parameters.get("Architectures"):
            config["Architectures"] = list(parameters["Architectures"])
        self.check_unzipped(code, unit.layers)
        if function.signed_only:
            raise ApiError(
                "CodeVerificationFailedException",
                400,
                "Lambda cannot deploy the function. The function or layer might be signed using a signature that the "
                "client is not configured to accept. Check the provided signature for unsigned.",
            )
        if parameters.get("DryRun"):
            return function.latest.view() | {name: config[name] for name in ("CodeSha256", "CodeSize", "Architectures")}
        function.storage = self.storage(parameters)
        function.latest.begin_update(replace(unit, config=config, code=code), self.update_seconds)
        if parameters.get("Publish"):
            return function.publish(None, self.update_seconds).view()
        return function.latest.view()

    def storage(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return what GetFunction says of how and where the code is kept; the default where nothing is given."""
        storage = {"SourceKMSKeyArn": given["SourceKMSKeyArn"]} if given.get("SourceKMSKeyArn") else {}
        if given.get("S3ObjectStorageMode") == "REFERENCE":
            if not given.get("S3ObjectVersion"):
                raise invalid("S3ObjectVersion is required when S3ObjectStorageMode is REFERENCE.")
            names = ("S3Bucket", "S3Key", "S3ObjectVersion")
            storage["ResolvedS3Object"] = {name: given[name] for name in names}
        return storage

    def update_function_configuration(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Change a function's settings; it is InProgress for a moment."""
        function, _ = self.find(parameters)
        function.refuse_while_under_way()
        function.check_revision(parameters.get("RevisionId"))
        self.check_settings(parameters)
        if "Role" in parameters:
            self.check_role(parameters["Role"])
        unit = function.latest.unit
        config = dict(unit.config) | self.settings(parameters, unit.config)
        layers = unit.layers
        if "Layers" in parameters:
            layers = self.take_layers(parameters["Layers"], config, unit.code)
        function.latest.begin_update(replace(unit, config=config, layers=layers), self.update_seconds)
        return function.latest.view()

    # --- versions and aliases ---

    def publish_version(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Freeze what $LATEST is, under the next number."""
        function, _ = self.find(parameters)
        function.refuse_while_under_way()
        function.check_revision(parameters.get("RevisionId"))
        wanted, present = parameters.get("CodeSha256"), function.latest.unit.config["CodeSha256"]
        if wanted and wanted != present:
            raise invalid(
                f"CodeSHA256 ({wanted}) is different from current CodeSHA256 in $LATEST ({present}). "
                "Please try again with the CodeSHA256 in $LATEST."
            )
        return function.publish(parameters.get("Description"), self.update_seconds).view()

    def list_versions_by_function(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Return $LATEST and the published versions."""
        function, _ = self.find(parameters)
        return page([version.view(qualified=True) for version in function.everything], "Versions", parameters)

    def create_alias(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Name a version."""
        function, _ = self.find(parameters)
        name = parameters["Name"]
        function.version(parameters["FunctionVersion"])
        if name in function.aliases:
            raise conflict(f"Alias already exists: {function.arn}:{name}")
        weights = self.weights(function, parameters, parameters["FunctionVersion"])
        alias = Alias(name, parameters["FunctionVersion"], parameters.get("Description", ""), weights)
        function.aliases[name] = alias
        return alias.view(function.arn)

    def weights(self, function: Function, parameters: Mapping[str, Any], version: str) -> dict[str, float]:
        """Return an alias's further versions and their shares."""
        weights: dict[str, float] = parameters.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})
        if len(weights) > 1:
            raise invalid("Number of items in AdditionalVersionWeights cannot be greater than 1")
        for number in weights:
            if number == version:
                raise invalid(
                    f"Invalid function version {number}. Function version {number} is already included in routing "
                    "configuration."
                )
            function.version(number)
        if weights and version == LATEST:
            raise invalid("$LATEST is not supported for an alias pointing to more than 1 version")
        return dict(weights)

    def alias(self, parameters: Mapping[str, Any]) -> tuple[Function, Alias]:
        """Return the alias that a request names."""
        function, _ = self.find(parameters)
        name = parameters["Name"]
        if name not in function.aliases:
            raise not_found(f"Cannot find alias arn: {function.arn}:{name}")
        return function, function.aliases[name]

    def get_alias(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Return an alias."""
        function, alias = self.alias(parameters)
        return alias.view(function.arn)

    def update_alias(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Point an alias at another version."""
        function, alias = self.alias(parameters)
        if parameters.get("RevisionId") not in (None, alias.revision):
            raise stale_revision()
        version = parameters.get("FunctionVersion", alias.version)
        function.version(version)
        if "RoutingConfig" in parameters:
            alias.weights = self.weights(function, parameters, version)
        alias.version = version
        alias.description = parameters.get("Description", alias.description)
        alias.revision = new_revision()
        return alias.view(function.arn)

    def delete_alias(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Forget an alias; AWS does not mind if there is none."""
        function, _ = self.find(parameters)
        function.aliases.pop(parameters["Name"], None)
        return {}

    def list_aliases(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Return a function's aliases."""
        function, _ = self.find(parameters)
        wanted = parameters.get("FunctionVersion")
        views = [a.view(function.arn) for _, a in sorted(function.aliases.items()) if wanted in (None, a.version)]
        return page(views, "Aliases", parameters)

    # --- layers ---

    def layer_arn(self, name: str) -> str:
        """Return a layer's ARN."""
        return f"arn:aws:lambda:{self.world.region}:{self.world.account}:layer:{name}"

    def publish_layer_version(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Store a layer's next version."""
        name = parameters["LayerName"].rpartition(":")[2]
        code = cast(Code, self.take_code(parameters["Content"], "Zip"))
        layer = self.layers.setdefault(name, Layer(name))
        layer.counter += 1
        facts = {
            "LayerArn": self.layer_arn(name),
            "LayerVersionArn": f"{self.layer_arn(name)}:{layer.counter}",
            "Description": parameters.get("Description", ""),
            "CreatedDate": timestamp(),
            "Version": layer.counter,
            "CompatibleRuntimes": parameters.get("CompatibleRuntimes"),
            "CompatibleArchitectures": parameters.get("CompatibleArchitectures"),
            "LicenseInfo": parameters.get("LicenseInfo"),
            "Content": {
                "CodeSha256": code.sha256,
                "CodeSize": code.size,
                "Location": f"{self.world.endpoint}/lambda-code/{base64.b64decode(code.sha256).hex()}.zip",
            },
        }
        layer.versions[layer.counter] = facts, code
        return facts

    def get_layer_version(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Return a layer's version."""
        name = parameters["LayerName"].rpartition(":")[2]
        return self.layer_version(f"{self.layer_arn(name)}:{parameters['VersionNumber']}", not_found)[0]

    def get_layer_version_by_arn(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Return a layer's version."""
        return self.layer_version(parameters["Arn"], not_found)[0]

    def layer_version(self, arn: str, missing: Callable[[str], ApiError]) -> tuple[dict[str, Any], Code]:
        """Return a layer's version by its ARN."""
        prefix, _, number = arn.rpartition(":")
        layer = self.layers.get(prefix.rpartition(":")[2])
        if not layer or self.layer_arn(layer.name) != prefix or int(number) not in layer.versions:
            raise missing(f"Layer version {arn} does not exist.")
        return layer.versions[int(number)]

    def list_layers(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Return the layers with their latest versions."""
        layers = [layer for layer in self.layers.values() if layer.versions]
        views = [
            {"LayerName": layer.name, "LayerArn": self.layer_arn(layer.name),
             "LatestMatchingVersion": layer.versions[max(layer.versions)][0]}
            for layer in layers
        ]  # fmt: skip
        return page(views, "Layers", parameters)

    def list_layer_versions(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Return a layer's versions, the newest first."""
        layer = self.layers.get(parameters["LayerName"].rpartition(":")[2])
        views = [facts for facts, _ in reversed(layer.versions.values())] if layer else []
        return page(views, "LayerVersions", parameters)

    def delete_layer_version(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Forget a layer's version; functions that have it keep it."""
        layer = self.layers.get(parameters["LayerName"].rpartition(":")[2])
        if layer:
            layer.versions.pop(parameters["VersionNumber"], None)
        return {}

    def take_layers(self, arns: list[str], config: dict[str, Any], code: Code | None) -> tuple[Code, ...]:
        """Put layers into a configuration, and return their code."""
        if len(arns) > 5:
            raise invalid("Cannot reference more than 5 layers.")
        for index, arn in enumerate(arns):
            for other in arns[:index]:
                if other.rpartition(":")[0] == arn.rpartition(":")[0]:
                    raise invalid(
                        "Two different versions of the same layer are not allowed to be referenced in the same "
                        f"function. {other} and {arn} are versions of the same layer."
                    )
        found = [self.layer_version(arn, invalid) for arn in arns]
        config["Layers"] = [{"Arn": facts["LayerVersionArn"], "CodeSize": layer.size} for facts, layer in found] or None
        layers = tuple(layer for _, layer in found)
        self.check_unzipped(code, layers)
        return layers

    def check_unzipped(self, code: Code | None, layers: tuple[Code, ...]) -> None:
        """Raise if a package with its layers is too large."""
        if sum(part.unzipped_size for part in (code, *layers) if part) >= UNZIPPED_LIMIT:
            raise invalid(
                f"Function code combined with layers exceeds the maximum allowed size of {UNZIPPED_LIMIT} bytes."
            )

    # --- what hangs on a function ---

    def event_invoke_key(self, parameters: Mapping[str, Any]) -> tuple[Function, str]:
        """Return the function and qualifier that an EventInvokeConfig is for."""
        name, qualifier = self.parse_name(parameters)
        if name not in self.functions:
            raise not_found("The function doesn't exist.")
        self.functions[name].version(qualifier)
        return self.functions[name], qualifier or LATEST

    def put_function_event_invoke_config(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Say what becomes of events that were taken in and failed."""
        function, qualifier = self.event_invoke_key(parameters)
        names = ("MaximumRetryAttempts", "MaximumEventAgeInSeconds", "DestinationConfig")
        given = {name: parameters[name] for name in names if name in parameters}
        if not given:
            raise invalid("You must specify at least one of error handling or destination setting.")
        function.event_invoke[qualifier] = {
            "FunctionArn": f"{function.arn}:{qualifier}",
            "LastModified": datetime.now(UTC),
            "DestinationConfig": {"OnSuccess": {}, "OnFailure": {}},
        } | given
        return function.event_invoke[qualifier]

    def update_function_event_invoke_config(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Change parts of an EventInvokeConfig."""
        before = self.get_function_event_invoke_config(parameters)
        return self.put_function_event_invoke_config(dict(before) | parameters)

    def get_function_event_invoke_config(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Return an EventInvokeConfig."""
        function, qualifier = self.event_invoke_key(parameters)
        if qualifier not in function.event_invoke:
            raise not_found(f"The function {function.arn}:{qualifier} doesn't have an EventInvokeConfig")
        return function.event_invoke[qualifier]

    def delete_function_event_invoke_config(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Forget an EventInvokeConfig."""
        self.get_function_event_invoke_config(parameters)
        function, qualifier = self.event_invoke_key(parameters)
        del function.event_invoke[qualifier]
        return {}

    def list_function_event_invoke_configs(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Return a function's EventInvokeConfigs."""
        function, _ = self.find(parameters)
        return page(list(function.event_invoke.values()), "FunctionEventInvokeConfigs", parameters, "MaxItems")

    def put_function_concurrency(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Reserve concurrency; nought stops a function."""
        function, _ = self.find(parameters)
        function.reserved = parameters["ReservedConcurrentExecutions"]
        return {"ReservedConcurrentExecutions": function.reserved}

    def get_function_concurrency(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Return the reserved concurrency."""
        function, _ = self.find(parameters)
        return {"ReservedConcurrentExecutions": function.reserved}

    def delete_function_concurrency(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Reserve nothing any more."""
        function, _ = self.find(parameters)
        function.reserved = None
        return {}

    def tagged(self, parameters: Mapping[str, Any]) -> Function:
        """Return the function whose tags a request means."""
        return self.find({"FunctionName": parameters["Resource"]})[0]

    def tag_resource(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Add tags."""
        self.tagged(parameters).tags.update(parameters["Tags"])
        return {}

    def untag_resource(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Remove tags."""
        tags = self.tagged(parameters).tags
        for name in parameters["TagKeys"]:
            tags.pop(name, None)
        return {}

    def list_tags(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Return the tags."""
        return {"Tags": self.tagged(parameters).tags}

    def find_tagged(self, request: Request) -> Response:
        """Answer the tagging API's GetResources: the functions that have these tags."""
        wanted = json.loads(request.body).get("TagFilters", [])
        with self.lock:
            found = [
                {"ResourceARN": each.arn, "Tags": [{"Key": key, "Value": value} for key, value in each.tags.items()]}
                for each in self.functions.values()
                if all(each.tags.get(tag["Key"]) in tag.get("Values", [each.tags.get(tag["Key"])]) for tag in wanted)
            ]
        body = json.dumps({"ResourceTagMappingList": found, "PaginationToken": ""}).encode()
        return Response(200, body, {"Content-Type": "application/x-amz-json-1.1"})

    def add_permission(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Add a statement to a function's policy, which is kept and not enforced."""
        function, qualifier = self.find(parameters)
        if qualifier == LATEST:
            raise invalid("We currently do not support adding policies for $LATEST.")
        function.version(qualifier)
        statements = function.policies.setdefault(qualifier or "", [])
        sid = parameters["StatementId"]
        if any(statement["Sid"] == sid for statement in statements):
            raise conflict(
                f"The statement id ({sid}) provided already exists. "
                "Please provide a new statement id, or remove the existing statement."
            )
        principal = parameters["Principal"]
        conditions: dict[str, Any] = {}
        if "SourceArn" in parameters:
            conditions["ArnLike"] = {"AWS:SourceArn": parameters["SourceArn"]}
        if "SourceAccount" in parameters:
            conditions["StringEquals"] = {"AWS:SourceAccount": parameters["SourceAccount"]}
        statement = {
            "Sid": sid,
            "Effect": "Allow",
            "Principal": {"Service": principal} if "." in principal else {"AWS": principal},
            "Action": parameters["Action"],
            "Resource": function.arn + (f":{qualifier}" if qualifier else ""),
        } | ({"Condition": conditions} if conditions else {})
        statements.append(statement)
        return {"Statement": json.dumps(statement)}

    def remove_permission(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Remove a statement from a function's policy."""
        function, qualifier = self.find(parameters)
        statements = function.policies.get(qualifier or "", [])
        left = [statement for statement in statements if statement["Sid"] != parameters["StatementId"]]
        if len(left) == len(statements):
            raise not_found(f"Statement {parameters['StatementId']} is not found in resource policy.")
        function.policies[qualifier or ""] = left
        return {}

    def get_policy(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Return a function's policy."""
        function, qualifier = self.find(parameters)
        statements = function.policies.get(qualifier or "")
        if not statements:
            raise not_found("The resource you requested does not exist.")
        policy = {"Version": "2012-10-17", "Id": "default", "Statement": statements}
        return {"Policy": json.dumps(policy), "RevisionId": function.latest.revision}

    def get_account_settings(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Return the quotas, and how much is used."""
        sizes = [v.unit.config["CodeSize"] for function in self.functions.values() for v in function.everything]
        return {
            "AccountLimit": {
                "TotalCodeSize": 300 * 10**9,
                "CodeSizeUnzipped": UNZIPPED_LIMIT,
                "CodeSizeZipped": ZIPPED_LIMIT,
                "ConcurrentExecutions": CONCURRENCY_LIMIT,
                "UnreservedConcurrentExecutions": CONCURRENCY_LIMIT
                - sum(function.reserved or 0 for function in self.functions.values()),
            },
            "AccountUsage": {"TotalCodeSize": sum(sizes), "FunctionCount": len(self.functions)},
        }

    # --- invoke ---

    def invoke(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Run a function, now or in the background."""
        kind = parameters.get("InvocationType", "RequestResponse")
        payload = parameters.get("Payload") or b"{}"
        check_payload(payload, kind)
        with self.lock:
            self.settle()
            function, qualifier = self.find(parameters)
            version = self.choose(function, qualifier)
            if version.state == "Pending":
                raise conflict(
                    "The operation cannot be performed at this time. "
                    "The function is currently in the following state: Pending"
                )
            if kind == "RequestResponse" and function.reserved is not None and function.running >= function.reserved:
                raise ApiError(
                    "TooManyRequestsException", 429, "Rate Exceeded.", retryAfterSeconds=None,
                    Reason="ReservedFunctionConcurrentInvocationLimitExceeded",
                )  # fmt: skip
            pool = self.pool(function, version)
        arn = function.arn + (f":{qualifier}" if qualifier else "")
        event = Invocation(
            request_id=str(uuid.uuid4()),
            payload=payload,
            deadline_ms=0,
            function_arn=arn,
            trace_id=new_trace_id(),
            client_context=decode_client_context(parameters.get("ClientContext")),
        )
        if kind == "DryRun":
            return {"StatusCode": 204}
        if kind == "Event":
            self.run_in_background(function, version, event, qualifier or LATEST)
            return {"StatusCode": 202, "Payload": b"", "RequestId": event.request_id}
        with self.counted(function):
            outcome = run(pool, event)
        answer: dict[str, Any] = {
            "StatusCode": 200,
            "Payload": outcome.payload,
            "FunctionError": outcome.error,
            "ExecutedVersion": version.number,
        }
        if parameters.get("LogType") == "Tail":
            answer["LogResult"] = base64.b64encode(outcome.log_tail).decode()
        return answer

    @contextlib.contextmanager
    def counted(self, function: Function) -> Iterator[None]:
        """Count an invocation while it runs."""
        with self.lock:
            function.running += 1
        try:
            yield
        finally:
            with self.lock:
                function.running -= 1

    def choose(self, function: Function, qualifier: str | None) -> Version:
        """Return the version to run: an alias may have two."""
        alias = function.aliases.get(qualifier or "")
        if alias:
            for number, weight in alias.weights.items():
                if random.random() < weight:  # noqa: S311 (a share of traffic is no secret)
                    return function.version(number)
        return function.version(qualifier)

    def pool(self, function: Function, version: Version) -> Pool:
        """Return the environments of a version of a function."""
        unit = version.live or version.unit
        if unit.config["PackageType"] == "Image":
            raise invalid(
                f"The embedded AWS cannot run {function.name}: it is a container image, and only zips are run."
            )
        machine = this_architecture()
        if machine not in unit.config["Architectures"]:
            raise invalid(
                f"The embedded AWS cannot run {function.name}: it is for {unit.config['Architectures'][0]}, "
                f"and this machine is {machine}."
            )
        if version.pool is None:
            version.pool = Pool(lambda: self.world.make_environment(function, version, unit))
        return version.pool

    def run_in_background(self, function: Function, version: Version, event: Invocation, qualifier: str) -> None:
        """Run an event, and again when it fails, as often as the function's EventInvokeConfig says."""
        attempts = 1 + function.event_invoke.get(qualifier, {}).get("MaximumRetryAttempts", 2)

        def work() -> None:
            for attempt in range(attempts):
                if attempt and self.closing.wait(self.retry_seconds[min(attempt, len(self.retry_seconds)) - 1]):
                    break
                with self.lock:
                    self.settle()
                    pool = self.pool(function, version)
                if run(pool, event).error is None:
                    break
            with self.lock:
                self.background.discard(threading.current_thread())

        thread = threading.Thread(target=work, name=f"event-{event.request_id}", daemon=True)
        with self.lock:
            self.background.add(thread)
        thread.start()

    def wait_for_events(self) -> None:
        """Wait until every event that was taken in has been served, retries and all."""
        while self.background:
            with self.lock:
                threads = list(self.background)
            for thread in threads:
                thread.join()

    def environments(self, name: str) -> list[Environment]:
        """Return the environments of a function that are alive."""
        with self.lock:
            function, _ = self.find({"FunctionName": name})
            pools = [version.pool for version in function.everything if version.pool]
        return [environment for pool in pools for environment in pool.everyone]

    def close(self) -> None:
        """End all environments and wait for what ran in them."""
        self.closing.set()
        with self.lock:
            versions = [version for function in self.functions.values() for version in function.everything]
        pools = [version.pool for version in versions if version.pool]
        with ThreadPoolExecutor(max_workers=16) as workers:
            list(workers.map(Pool.close, pools))
        self.wait_for_events()


def run(pool: Pool, event: Invocation) -> Outcome:
    """Let a pool serve an event."""
    from local.environments import runtime_error
    from local.runtimes import RuntimeUnavailable
    from local.sandbox import SandboxError

    try:
        return pool.invoke(lambda deadline: replace(event, deadline_ms=deadline))
    except (RuntimeUnavailable, SandboxError) as error:
        # Not a fault of the function: the message says what this machine lacks.
        return Outcome(runtime_error(event.request_id, type(error).__name__, str(error)), "Unhandled", b"")


def this_architecture() -> str:
    """Return the name that Lambda has for this machine's kind."""
    machine = platform.machine().lower()
    return {"aarch64": "arm64", "amd64": "x86_64"}.get(machine, machine)


def check_payload(payload: bytes, kind: str) -> None:
    """Raise for an event that is too large, or no JSON."""
    limit = ASYNC_PAYLOAD_LIMIT if kind == "Event" else SYNC_PAYLOAD_LIMIT
    if len(payload) > limit:
        raise ApiError(
            "RequestTooLargeException",
            413,
            f"{len(payload)} byte payload is too large for the {kind} invocation type (limit {limit} bytes)",
        )
    try:
        json.loads(payload)
    except ValueError as error:
        raise ApiError(
            "InvalidRequestContentException",
            400,
            f"Could not parse request body into json: Could not parse payload into json: {error}",
        ) from error


def decode_client_context(given: str | None) -> str:
    """Return the client context as the runtime gets it: as JSON, not in base64."""
    with contextlib.suppress(ValueError):
        return base64.b64decode(given or "").decode()
    return ""


def new_trace_id() -> str:
    """Return what _X_AMZN_TRACE_ID is set to for an invocation."""
    root = f"1-{int(time.time()):08x}-{uuid.uuid4().hex[:24]}"
    return f"Root={root};Parent={uuid.uuid4().hex[:16]};Sampled=0;Lineage=1:{uuid.uuid4().hex[:8]}:0"


def page(items: list[Any], name: str, parameters: Mapping[str, Any], limit: str = "MaxItems") -> dict[str, Any]:
    """Return one page of a list; a marker is simply where the next one starts."""
    start = int(parameters.get("Marker") or 0)
    end = start + int(parameters.get(limit) or 50)
    return {name: items[start:end], "NextMarker": str(end) if end < len(items) else None}
