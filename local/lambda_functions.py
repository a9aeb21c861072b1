"""The Lambda API's functions: creation, updates, and what is said of them."""

from __future__ import annotations

import time
from collections.abc import Container, Mapping
from dataclasses import replace
from typing import Any

from local.functions import LATEST, Function, Unit, Version, timestamp
from local.lambda_account import NAME_LIMIT, Account, page
from local.lambda_attachments import check_tags
from local.lambda_errors import conflict, invalid
from local.lambda_layers import LayerOperations, check_unzipped
from local.lambda_packages import Packages, code_facts, storage
from local.lambda_settings import check_settings, defaults, runtime_version, settings
from local.rest_json import ApiError


class FunctionOperations:
    """What can be asked of functions."""

    def __init__(self, account: Account, packages: Packages, layers: LayerOperations, runtimes: Container[str]) -> None:
        """Work on an account's functions; runtimes are those that the API's description knows."""
        self.account = account
        self.packages = packages
        self.layers = layers
        self.runtimes = runtimes

    def create_function(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Make a function; it is Pending for a moment."""
        name, _ = self.account.parse_name(parameters)
        check_length(name)
        package_type = parameters.get("PackageType", "Zip")
        check_settings(parameters, self.runtimes)
        if package_type == "Zip" and not (parameters.get("Runtime") and parameters.get("Handler")):
            raise invalid(
                "Runtime and Handler are mandatory parameters for functions created with deployment packages."
            )
        self.layers.check(parameters.get("Layers", []))
        if name in self.account.functions:
            raise conflict(f"Function already exist: {name}")
        self.check_role(parameters["Role"])
        tags = dict(parameters.get("Tags", {}))
        check_tags(tags)
        code = self.packages.take(parameters["Code"], package_type)
        config = defaults(name) | {
            "PackageType": package_type,
            "Architectures": parameters.get("Architectures") or ["x86_64"],
        }
        config |= settings(parameters, config, self.account.world.region) | code_facts(code, parameters["Code"])
        layers = self.layers.take(parameters.get("Layers", []), config, code)
        latest = Version(Unit(config, code, layers), self.account.arn(name), LATEST)
        latest.settles_at = time.monotonic() + self.account.update_seconds
        function = Function(name, self.account.arn(name), latest, tags=tags)
        function.storage = storage(parameters["Code"])
        self.account.functions[name] = function
        if parameters.get("Publish"):
            version = function.publish(None, self.account.update_seconds)
            return version.view() | {"FunctionArn": function.arn}
        return latest.view()

    def check_role(self, role: str) -> None:
        """Raise unless Lambda can be the role."""
        if not self.account.world.role_trusts_lambda(role):
            raise invalid("The role defined for the function cannot be assumed by Lambda.")

    def get_function(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Return a function's configuration, a place to download its code, and its tags."""
        function, qualifier = self.account.find(parameters)
        version = function.version(qualifier)
        reserved = {"ReservedConcurrentExecutions": function.reserved}
        place = self.packages.place(version.unit.code)
        return {
            "Configuration": version.view(qualifier),
            "Code": place | (function.storage if version.unit.code else {}),
            "Tags": function.tags or None,
            "Concurrency": reserved if function.reserved is not None else None,
        }

    def get_function_configuration(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Return a function's configuration."""
        function, qualifier = self.account.find(parameters)
        return function.version(qualifier).view(qualifier)

    def list_functions(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Return all functions, with all their versions if asked to."""
        functions = [function for _, function in sorted(self.account.functions.items())]
        if parameters.get("FunctionVersion") == "ALL":
            views = [version.entry(version.number) for function in functions for version in function.everything]
        else:
            views = [function.latest.entry() for function in functions]
        return page(views, "Functions", parameters)

    def delete_function(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Delete a function, or one of its versions."""
        _, qualifier = self.account.parse_name(parameters)
        if qualifier == LATEST:
            raise invalid("$LATEST version cannot be deleted without deleting the function.")
        function, _ = self.account.find(parameters, shown="")
        if qualifier in function.aliases:
            raise invalid("Deletion of aliases is not currently supported.")
        if qualifier:
            gone = [function.versions.pop(qualifier)] if qualifier in function.versions else []
        else:
            gone = function.everything
            del self.account.functions[function.name]
        for version in gone:
            if version.pool:
                version.pool.retire()
        return {"StatusCode": 204}

    # --- updates ---

    def update_function_code(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Give a function other code; it is InProgress for a moment."""
        function, _ = self.account.find(parameters)
        function.refuse_while_under_way()
        function.check_revision(parameters.get("RevisionId"))
        unit = function.latest.unit
        code = self.packages.take(parameters, unit.config["PackageType"])
        config = dict(unit.config) | code_facts(code, parameters) | {"LastModified": timestamp()}
        if parameters.get("Architectures"):
            config["Architectures"] = list(parameters["Architectures"])
            config |= runtime_version(config, self.account.world.region)
        check_unzipped(code, unit.layers)
        if function.signed_only:
            raise ApiError(
                "CodeVerificationFailedException",
                400,
                "Lambda cannot deploy the function. The function or layer might be signed using a signature that the "
                "client is not configured to accept. Check the provided signature for unsigned.",
            )
        if parameters.get("DryRun"):
            return function.latest.view() | {name: config[name] for name in ("CodeSha256", "CodeSize", "Architectures")}
        function.storage = storage(parameters)
        function.latest.begin_update(replace(unit, config=config, code=code), self.account.update_seconds)
        if parameters.get("Publish"):
            return function.publish(None, self.account.update_seconds).view()
        return function.latest.view()

    def update_function_configuration(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Change a function's settings; it is InProgress for a moment."""
        function, _ = self.account.find(parameters)
        function.refuse_while_under_way()
        function.check_revision(parameters.get("RevisionId"))
        check_settings(parameters, self.runtimes)
        if "Role" in parameters:
            self.check_role(parameters["Role"])
        unit = function.latest.unit
        config = dict(unit.config) | settings(parameters, unit.config, self.account.world.region)
        layers = unit.layers
        if "Layers" in parameters:
            layers = self.layers.take(parameters["Layers"], config, unit.code)
        function.latest.begin_update(replace(unit, config=config, layers=layers), self.account.update_seconds)
        return function.latest.view()


def check_length(name: str) -> None:
    """Raise for a name that is too long, in the words that creation has for it."""
    if len(name) > NAME_LIMIT:
        raise invalid(
            f"1 validation error detected: Value '{name}' at 'functionName' failed to satisfy constraint: "
            f"Member must have length less than or equal to {NAME_LIMIT}"
        )
