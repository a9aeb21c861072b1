"""CloudFormation's AWS::Lambda::* resources, made by our own Lambda API.

CloudFormation's properties are the API's parameters, nearly by name; a resource is stable when its creation or update
has settled, as CloudFormation waits for that too.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

from local.stack_resources import Resource, arguments, call, tags_of, wait


class FunctionResource(Resource):
    """AWS::Lambda::Function."""

    TYPE = "AWS::Lambda::Function"
    NAME_PROPERTY = "FunctionName"
    ATTRIBUTES = ("Arn",)

    @classmethod
    def code(cls, properties: Mapping[str, Any]) -> dict[str, Any]:
        """Return the code; an inline ZipFile is the text of index.py."""
        given = dict(properties["Code"])
        if isinstance(given.get("ZipFile"), str):
            given["ZipFile"] = zip_of("index.py", given["ZipFile"])
        return given

    @classmethod
    def make(cls, name: str, properties: dict[str, Any]) -> Resource:
        """Create the function, and wait until it is active."""
        plain = {key: value for key, value in properties.items() if key not in ("Code", "Tags")}
        parameters = arguments("CreateFunction", plain) | {"FunctionName": name, "Code": cls.code(properties)}
        if tags := tags_of(properties):
            parameters["Tags"] = tags
        call("CreateFunction", parameters)
        wait(name)
        cls.reserve(name, properties)
        return cls.made(name)

    @classmethod
    def made(cls, name: str) -> Resource:
        """Return the resource for a function that is there."""
        return cls(name, {"Arn": call("GetFunctionConfiguration", {"FunctionName": name})["FunctionArn"]})

    @classmethod
    def reserve(cls, name: str, properties: Mapping[str, Any]) -> None:
        """Set or remove the reserved concurrency."""
        if "ReservedConcurrentExecutions" in properties:
            reserved = int(properties["ReservedConcurrentExecutions"])
            call("PutFunctionConcurrency", {"FunctionName": name, "ReservedConcurrentExecutions": reserved})
        else:
            call("DeleteFunctionConcurrency", {"FunctionName": name})

    @classmethod
    def change(cls, before: Resource, name: str, properties: dict[str, Any]) -> Resource:
        """Update settings and code; a property that is gone from the template gets its default again."""
        old = before.physical_resource_id
        if properties.get("FunctionName", old) != old:  # another name: another function
            made = cls.make(name, properties)
            cls.remove(old, properties)
            return made
        defaults: dict[str, Any] = {
            "Description": "", "Timeout": 3, "MemorySize": 128, "EphemeralStorage": {"Size": 512},
            "Environment": {"Variables": {}}, "Layers": [], "TracingConfig": {"Mode": "PassThrough"},
            "LoggingConfig": {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{old}"},
        }  # fmt: skip
        logging = {"LoggingConfig": defaults["LoggingConfig"] | properties.get("LoggingConfig", {})}
        plain = {key: value for key, value in properties.items() if key not in ("Code", "Tags")}
        settings = arguments("UpdateFunctionConfiguration", defaults | plain | logging)
        call("UpdateFunctionConfiguration", settings | {"FunctionName": old})
        wait(old)
        architectures = {"Architectures": properties.get("Architectures", ["x86_64"])}
        code = arguments("UpdateFunctionCode", cls.code(properties) | architectures)
        call("UpdateFunctionCode", code | {"FunctionName": old})
        wait(old)
        cls.reserve(old, properties)
        cls.tag(old, tags_of(properties))
        return cls.made(old)

    @classmethod
    def tag(cls, name: str, tags: dict[str, str]) -> None:
        """Give the function these tags and no others."""
        arn = call("GetFunctionConfiguration", {"FunctionName": name})["FunctionArn"]
        gone = [key for key in call("ListTags", {"Resource": arn})["Tags"] if key not in tags]
        if gone:
            call("UntagResource", {"Resource": arn, "TagKeys": gone})
        if tags:
            call("TagResource", {"Resource": arn, "Tags": tags})

    @classmethod
    def remove(cls, physical_id: str, properties: dict[str, Any]) -> None:
        """Delete the function."""
        call("DeleteFunction", {"FunctionName": physical_id})


class VersionResource(Resource):
    """AWS::Lambda::Version."""

    TYPE = "AWS::Lambda::Version"
    ATTRIBUTES = ("FunctionArn", "Version")

    @classmethod
    def make(cls, name: str, properties: dict[str, Any]) -> Resource:
        """Publish a version."""
        view = call("PublishVersion", arguments("PublishVersion", properties))
        wait(view["FunctionName"], view["Version"])
        return cls(view["FunctionArn"], {"Version": view["Version"], "FunctionArn": view["FunctionArn"]})

    @classmethod
    def change(cls, before: Resource, name: str, properties: dict[str, Any]) -> Resource:
        """Publish another version; the old one stays, as aliases may need it."""
        return cls.make(name, properties)


class AliasResource(Resource):
    """AWS::Lambda::Alias."""

    TYPE = "AWS::Lambda::Alias"
    ATTRIBUTES = ("AliasArn",)

    @classmethod
    def parameters(cls, operation: str, properties: Mapping[str, Any]) -> dict[str, Any]:
        """Return the API's parameters; CloudFormation has the weights as a list."""
        given = dict(properties)
        routing = given.pop("RoutingConfig", {}).get("AdditionalVersionWeights", [])
        weights = {entry["FunctionVersion"]: float(entry["FunctionWeight"]) for entry in routing}
        return arguments(operation, given) | {"RoutingConfig": {"AdditionalVersionWeights": weights}}

    @classmethod
    def make(cls, name: str, properties: dict[str, Any]) -> Resource:
        """Create the alias."""
        view = call("CreateAlias", cls.parameters("CreateAlias", properties))
        return cls(view["AliasArn"], {"AliasArn": view["AliasArn"]})

    @classmethod
    def change(cls, before: Resource, name: str, properties: dict[str, Any]) -> Resource:
        """Point the alias elsewhere."""
        if before.physical_resource_id.rpartition(":")[2] != properties["Name"]:
            return super().change(before, name, properties)
        call("UpdateAlias", cls.parameters("UpdateAlias", properties))
        return before

    @classmethod
    def remove(cls, physical_id: str, properties: dict[str, Any]) -> None:
        """Delete the alias."""
        function, _, name = physical_id.rpartition(":")
        call("DeleteAlias", {"FunctionName": function, "Name": name})


class PermissionResource(Resource):
    """AWS::Lambda::Permission."""

    TYPE = "AWS::Lambda::Permission"

    @classmethod
    def make(cls, name: str, properties: dict[str, Any]) -> Resource:
        """Add the statement."""
        call("AddPermission", arguments("AddPermission", properties) | {"StatementId": name})
        # When it is deleted, moto gives the template's properties, whose references nobody has resolved.
        return cls(f"{properties['FunctionName']}|{name}")

    @classmethod
    def change(cls, before: Resource, name: str, properties: dict[str, Any]) -> Resource:
        """Replace the statement."""
        made = cls.make(name, properties)
        cls.remove(before.physical_resource_id, properties)
        return made

    @classmethod
    def remove(cls, physical_id: str, properties: dict[str, Any]) -> None:
        """Remove the statement."""
        function, _, statement = physical_id.partition("|")
        call("RemovePermission", {"FunctionName": function, "StatementId": statement})


class EventInvokeConfigResource(Resource):
    """AWS::Lambda::EventInvokeConfig, which moto does not know."""

    TYPE = "AWS::Lambda::EventInvokeConfig"

    @classmethod
    def make(cls, name: str, properties: dict[str, Any]) -> Resource:
        """Set the configuration."""
        parameters = arguments("PutFunctionEventInvokeConfig", properties)
        call("PutFunctionEventInvokeConfig", parameters)
        return cls(f"{parameters['FunctionName']}|{parameters.get('Qualifier', '$LATEST')}")

    @classmethod
    def remove(cls, physical_id: str, properties: dict[str, Any]) -> None:
        """Forget the configuration."""
        function, _, qualifier = physical_id.partition("|")
        call("DeleteFunctionEventInvokeConfig", {"FunctionName": function, "Qualifier": qualifier})


class LayerVersionResource(Resource):
    """AWS::Lambda::LayerVersion."""

    TYPE = "AWS::Lambda::LayerVersion"
    NAME_PROPERTY = "LayerName"
    ATTRIBUTES = ("LayerVersionArn",)

    @classmethod
    def make(cls, name: str, properties: dict[str, Any]) -> Resource:
        """Publish a version of the layer."""
        view = call("PublishLayerVersion", arguments("PublishLayerVersion", properties) | {"LayerName": name})
        return cls(view["LayerVersionArn"], {"LayerVersionArn": view["LayerVersionArn"]})

    @classmethod
    def remove(cls, physical_id: str, properties: dict[str, Any]) -> None:
        """Delete the version of the layer."""
        layer, _, number = physical_id.rpartition(":")
        call("DeleteLayerVersion", {"LayerName": layer, "VersionNumber": int(number)})


RESOURCES: tuple[type[Resource], ...] = (
    FunctionResource,
    VersionResource,
    AliasResource,
    PermissionResource,
    EventInvokeConfigResource,
    LayerVersionResource,
)


def zip_of(name: str, text: str) -> bytes:
    """Return a zip with one file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        entry = zipfile.ZipInfo(name)
        entry.external_attr = 0o644 << 16
        archive.writestr(entry, text)
    return buffer.getvalue()
