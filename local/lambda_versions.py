"""The Lambda API's versions and aliases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from local.functions import LATEST, Alias, Function, new_revision
from local.lambda_account import Account, page
from local.lambda_errors import conflict, invalid, not_found, stale_revision
from local.rest_json import ApiError


class VersionOperations:
    """What can be asked of versions and aliases."""

    def __init__(self, account: Account) -> None:
        """Work on an account's functions."""
        self.account = account

    def publish_version(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Freeze what $LATEST is, under the next number; it is active at once."""
        function, _ = self.account.find(parameters)
        function.refuse_while_under_way()
        function.check_revision(parameters.get("RevisionId"))
        wanted, present = parameters.get("CodeSha256"), function.latest.unit.config["CodeSha256"]
        if wanted and wanted != present:
            raise invalid(
                f"CodeSHA256 ({wanted}) is different from current CodeSHA256 in $LATEST ({present}). "
                "Please try again with the CodeSHA256 in $LATEST."
            )
        return function.publish(parameters.get("Description"), None).view()

    def list_versions_by_function(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Return $LATEST and the published versions."""
        function, _ = self.account.find(parameters)
        return page([version.entry(version.number) for version in function.everything], "Versions", parameters)

    def create_alias(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Name a version."""
        function, _ = self.account.find(parameters, shown=parameters["FunctionVersion"])
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
            message = "$LATEST is not supported for an alias pointing to more than 1 version"
            raise ApiError("InvalidParameterValueException", 400, message, kind="")
        return dict(weights)

    def alias(self, parameters: Mapping[str, Any], missing: str = "Cannot find alias arn:") -> tuple[Function, Alias]:
        """Return the alias that a request names; missing begins the message when there is none."""
        function, _ = self.account.find(parameters)
        name = parameters["Name"]
        if name not in function.aliases:
            raise not_found(f"{missing} {function.arn}:{name}")
        return function, function.aliases[name]

    def get_alias(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Return an alias."""
        function, alias = self.alias(parameters)
        return alias.view(function.arn)

    def update_alias(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Point an alias at another version."""
        function, alias = self.alias(parameters, "Alias not found:")
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
        function, _ = self.account.find(parameters)
        function.aliases.pop(parameters["Name"], None)
        return {}

    def list_aliases(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Return a function's aliases."""
        function, _ = self.account.find(parameters)
        wanted = parameters.get("FunctionVersion")
        views = [a.view(function.arn) for _, a in sorted(function.aliases.items()) if wanted in (None, a.version)]
        return page(views, "Aliases", parameters)
