"""The Lambda API's layers."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from local.code_store import UNZIPPED_LIMIT, Code
from local.functions import timestamp
from local.lambda_account import Account, Layer, page
from local.lambda_errors import invalid, not_found
from local.lambda_packages import Packages
from local.rest_json import ApiError

LAYERS_LIMIT = 5

MISSING = "The resource you requested does not exist."


class LayerOperations:
    """What can be asked of layers."""

    def __init__(self, account: Account, packages: Packages) -> None:
        """Work on an account's layers."""
        self.account = account
        self.packages = packages

    def publish_layer_version(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Store a layer's next version."""
        arn = self.account.layer_arn(parameters["LayerName"].rpartition(":")[2])
        code = self.packages.take_zip(parameters["Content"])
        return self.add(arn, code, parameters)

    def add(self, arn: str, code: Code, about: Mapping[str, Any]) -> dict[str, Any]:
        """Store a layer's next version, which may be another account's."""
        layer = self.account.layers.setdefault(arn, Layer(arn))
        layer.counter += 1
        facts = {
            "LayerArn": arn,
            "LayerVersionArn": f"{arn}:{layer.counter}",
            "Description": about.get("Description", ""),
            "CreatedDate": timestamp(),
            "Version": layer.counter,
            "CompatibleRuntimes": about.get("CompatibleRuntimes"),
            "CompatibleArchitectures": about.get("CompatibleArchitectures"),
            "LicenseInfo": about.get("LicenseInfo"),
            "Content": {
                "CodeSha256": code.sha256,
                "CodeSize": code.size,
                "Location": f"{self.account.world.endpoint}/lambda-code/{base64.b64decode(code.sha256).hex()}.zip",
            },
        }
        layer.versions[layer.counter] = facts, code
        return facts

    def get_layer_version(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Return a layer's version."""
        arn = self.account.layer_arn(parameters["LayerName"].rpartition(":")[2])
        return self.described(arn, parameters["VersionNumber"])

    def get_layer_version_by_arn(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Return a layer's version."""
        layer, _, number = parameters["Arn"].rpartition(":")
        self.refuse_what_is_not_shared(layer, int(number))
        return self.described(layer, int(number))

    def described(self, arn: str, number: int) -> dict[str, Any]:
        """Return what is said of a layer's version."""
        check_number(number)
        found = self.look_up(arn, number)
        if found is None:
            raise not_found(MISSING)
        return found[0]

    def look_up(self, arn: str, number: int) -> tuple[dict[str, Any], Code] | None:
        """Return a layer's version, if there is one."""
        layer = self.account.layers.get(arn)
        return layer.versions.get(number) if layer else None

    def refuse_what_is_not_shared(self, arn: str, number: int) -> None:
        """Raise for another account's layer that it does not share: AWS does not say whether there is one."""
        world = self.account.world
        if arn.split(":")[4] != world.account and self.look_up(arn, number) is None:
            raise ApiError(
                "AccessDeniedException",
                403,
                f"User: {world.caller_arn()} is not authorized to perform: lambda:GetLayerVersion on resource: "
                f"{arn}:{number} because no resource-based policy allows the lambda:GetLayerVersion action",
                kind="",
            )

    def list_layers(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Return the account's layers with their latest versions."""
        own = self.account.layer_arn("")
        layers = [layer for layer in self.account.layers.values() if layer.versions and layer.arn.startswith(own)]
        views = [
            {"LayerName": layer.arn.rpartition(":")[2], "LayerArn": layer.arn,
             "LatestMatchingVersion": layer.versions[max(layer.versions)][0]}
            for layer in layers
        ]  # fmt: skip
        return page(views, "Layers", parameters)

    def list_layer_versions(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Return a layer's versions, the newest first."""
        layer = self.account.layers.get(self.account.layer_arn(parameters["LayerName"].rpartition(":")[2]))
        views = [facts for facts, _ in reversed(layer.versions.values())] if layer else []
        return page(views, "LayerVersions", parameters)

    def delete_layer_version(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Forget a layer's version; functions that have it keep it."""
        check_number(parameters["VersionNumber"])
        layer = self.account.layers.get(self.account.layer_arn(parameters["LayerName"].rpartition(":")[2]))
        if layer:
            layer.versions.pop(parameters["VersionNumber"], None)
        return {}

    # --- what a function takes of them ---

    def check(self, arns: list[str]) -> None:
        """Raise for a list of layers that no function can have, whatever there is."""
        if len(arns) > LAYERS_LIMIT:
            raise invalid(f"Cannot reference more than {LAYERS_LIMIT} layers.")
        region = self.account.world.region
        if any(arn.split(":")[3] != region for arn in arns):
            raise invalid(
                f"Layers are not in the same region as the function. Layers are expected to be in region {region}."
            )
        for index, arn in enumerate(arns):
            for other in arns[:index]:
                if other.rpartition(":")[0] == arn.rpartition(":")[0]:
                    raise invalid(
                        "Two different versions of the same layer are not allowed to be referenced in the same "
                        f"function. {other} and {arn} are versions of the same layer."
                    )

    def take(self, arns: list[str], config: dict[str, Any], code: Code | None) -> tuple[Code, ...]:
        """Put layers into a configuration, and return their code."""
        self.check(arns)
        layers, views = [], []
        for arn in arns:
            layer, _, number = arn.rpartition(":")
            self.refuse_what_is_not_shared(layer, int(number))
            found = self.look_up(layer, int(number))
            if found is None:
                raise invalid(f"Layer version {arn} does not exist.")
            layers.append(found[1])
            views.append({"Arn": arn, "CodeSize": found[1].size})
        config["Layers"] = views or None
        check_unzipped(code, tuple(layers))
        return tuple(layers)


def check_number(number: int) -> None:
    """Raise for what cannot be a layer's version."""
    if number < 1:
        raise invalid("Layer Version Cannot be less than 1")


def check_unzipped(code: Code | None, layers: tuple[Code, ...]) -> None:
    """Raise if a package with its layers is too large."""
    if sum(part.unzipped_size for part in (code, *layers) if part) >= UNZIPPED_LIMIT:
        raise invalid(f"Function code combined with layers exceeds the maximum allowed size of {UNZIPPED_LIMIT} bytes.")
