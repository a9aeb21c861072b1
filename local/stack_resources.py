"""What CloudFormation's resources of Lambda share: whose they are, what is asked of the API, how moto asks them."""

from __future__ import annotations

import time
import uuid
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
