"""CloudFormation's AWS::Lambda::* resources, made by our own Lambda API.

CloudFormation's properties are the API's parameters, nearly by name; a resource is stable when its creation or update
has settled, as CloudFormation waits for that too.
"""

from __future__ import annotations

import io
import time
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar

from moto.core.common_models import CloudFormationModel

from local.rest_json import ApiError

if TYPE_CHECKING:
    from local.lambda_api import LambdaApi

# moto's resources are classes, and know an account but no server.
_apis: dict[str, LambdaApi] = {}
_current: ContextVar[LambdaApi] = ContextVar("current")


def connect(account: str, api: LambdaApi) -> None:
    """Say whose functions CloudFormation makes in an account."""
    _apis[account] = api


def disconnect(account: str) -> None:
    """Forget an account whose server is gone."""
    _apis.pop(account, None)


def call(operation: str, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """Carry out an operation of the Lambda API."""
    return _current.get().call(operation, dict(parameters))


class ResourceFailed(Exception):
    """A resource could not be made or changed; says which, and why."""

    def __init__(self, logical_id: str, kind: str, status: str, error: ApiError) -> None:
        """Take the resource's names, the status it gets, and what the API said."""
        super().__init__(
            f'Resource handler returned message: "{error.message}" '
            f"(Service: Lambda, Status Code: {error.status}, Request ID: {uuid.uuid4()})"
        )
        self.logical_id, self.kind, self.status = logical_id, kind, status


@contextmanager
def working(account: str, logical_id: str, kind: str, status: str) -> Iterator[None]:
    """Work on a resource of an account, whose name is added to what goes wrong with it."""
    token = _current.set(_apis[account])
    try:
        yield
    except ApiError as error:
        raise ResourceFailed(logical_id, kind, status, error) from error
    finally:
        _current.reset(token)


def wait(function: str, qualifier: str | None = None) -> None:
    """Wait until a function's creation or update has settled."""
    parameters = {"FunctionName": function} | ({"Qualifier": qualifier} if qualifier else {})
    while True:
        view = call("GetFunctionConfiguration", parameters)
        if view["State"] != "Pending" and view.get("LastUpdateStatus") != "InProgress":
            return
        time.sleep(0.02)


def typed(shape: Any, value: Any) -> Any:
    """Return a property as the API wants it: parameters of a template may be strings where numbers are meant."""
    if shape.type_name in ("integer", "long") and isinstance(value, str):
        return int(value)
    if shape.type_name == "string" and isinstance(value, int | float):
        return str(value).lower() if isinstance(value, bool) else str(value)
    if shape.type_name == "boolean" and isinstance(value, str):
        return value == "true"
    if shape.type_name == "structure":
        return {name: typed(member, value[name]) for name, member in shape.members.items() if name in value}
    if shape.type_name == "list":
        return [typed(shape.member, item) for item in value]
    if shape.type_name == "map":
        return {key: typed(shape.value, item) for key, item in value.items()}
    return value


def arguments(operation: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return those properties that an operation takes."""
    members = _current.get().service.model.operation_model(operation).input_shape.members
    return {name: typed(members[name], properties[name]) for name in properties if name in members}


def tags_of(properties: Mapping[str, Any]) -> dict[str, str]:
    """Return CloudFormation's list of tags as the API has them."""
    return {tag["Key"]: str(tag["Value"]) for tag in properties.get("Tags", [])}


class Resource(CloudFormationModel):
    """What all of them share: a physical id, and attributes for Fn::GetAtt."""

    TYPE: ClassVar[str] = "AWS::Lambda::*"
    NAME_PROPERTY: ClassVar[str] = ""
    ATTRIBUTES: ClassVar[tuple[str, ...]] = ()

    def __init__(self, physical_resource_id: str, attributes: Mapping[str, Any] | None = None) -> None:
        """Take what was made."""
        self.physical_resource_id = physical_resource_id
        self.attributes = dict(attributes or {})

    @classmethod
    def cloudformation_name_type(cls) -> str:
        """Return the property that names the resource."""
        return cls.NAME_PROPERTY

    @classmethod
    def cloudformation_type(cls) -> str:
        """Return the type's name in a template."""
        return cls.TYPE

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        """Say whether Fn::GetAtt may ask for an attribute."""
        return attr in cls.ATTRIBUTES

    def get_cfn_attribute(self, name: str) -> Any:
        """Return an attribute for Fn::GetAtt."""
        from moto.cloudformation.exceptions import UnformattedGetAttTemplateException

        if name not in self.attributes:
            raise UnformattedGetAttTemplateException()
        return self.attributes[name]

    def is_created(self) -> bool:
        """Say that it is there: making one waits for that."""
        return True

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: dict[str, Any], account_id: str, region_name: str, **kwargs: Any
    ) -> Any:
        """Make the resource."""
        with working(account_id, kwargs["LogicalId"], cls.TYPE, "CREATE_FAILED"):
            return cls.make(resource_name, cloudformation_json["Properties"])

    @classmethod
    def update_from_cloudformation_json(
        cls,
        original_resource: Any,
        new_resource_name: str,
        cloudformation_json: dict[str, Any],
        account_id: str,
        region_name: str,
    ) -> Any:
        """Change the resource, or replace it where CloudFormation does."""
        with working(account_id, original_resource.logical_resource_id, cls.TYPE, "UPDATE_FAILED"):
            return cls.change(original_resource, new_resource_name, cloudformation_json["Properties"])

    @classmethod
    def delete_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: dict[str, Any], account_id: str, region_name: str
    ) -> None:
        """Delete the resource; one that went with its function, which moto may delete first, is gone already."""
        with working(account_id, resource_name, cls.TYPE, "DELETE_FAILED"):
            try:
                cls.remove(resource_name, cloudformation_json.get("Properties", {}))
            except ApiError as error:
                if error.status != 404:
                    raise

    @classmethod
    def make(cls, name: str, properties: dict[str, Any]) -> Resource:
        """Make the resource."""
        raise NotImplementedError

    @classmethod
    def change(cls, before: Resource, name: str, properties: dict[str, Any]) -> Resource:
        """Replace the resource, which is what most of these do."""
        cls.remove(before.physical_resource_id, properties)
        return cls.make(name, properties)

    @classmethod
    def remove(cls, physical_id: str, properties: dict[str, Any]) -> None:
        """Delete the resource."""


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
