"""The Lambda API without HTTP: the embedded AWS's own operations, called as boto3 is called.

What an update, a version or an alias does, and what is refused in which words, is ``local.lambda_api``'s: what is
found wrong there is mended here too.  Only what runs a function's code is not: a test event passes, or fails by choice.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from botocore.exceptions import ClientError

from local.functions import Function, Unit, Version
from local.lambda_account import Account
from local.lambda_attachments import AttachmentOperations
from local.lambda_functions import FunctionOperations
from local.lambda_layers import LayerOperations
from local.lambda_packages import Packages
from local.lambda_versions import VersionOperations
from local.rest_json import ApiError
from tests.simulation.faults import LAMBDA_READS, NotFound, conflict, no_answer, refusal, suffer
from tests.simulation.s3 import S3, stored

if TYPE_CHECKING:
    from tests.simulation.world import World

T = TypeVar("T")

ACCOUNT, REGION = "123456789012", "us-east-1"
UPDATE_SECONDS = 0.05
"""How long an update is in progress: a builder has to wait for it, but not often."""


class Codes:
    """Takes packages; one that is not whole is refused, as a broken zip would be."""

    def add(self, content: bytes) -> Any:
        """Return a package's digest and sizes."""
        if not (content.startswith(b"PK") or content.endswith(b":end")):
            raise ApiError("InvalidParameterValueException", 400, "Could not unzip uploaded file.")
        return SimpleNamespace(sha256=stored(content).sha256, size=len(content), unzipped_size=1, content=content)


GROUPS = {
    operation: number
    for number, group in enumerate((FunctionOperations, VersionOperations, AttachmentOperations))
    for operation in vars(group)
}
"""Which class knows an operation."""


class Api:
    """The embedded AWS's functions, with nothing that would run them."""

    def __init__(self, s3: S3, functions: Mapping[str, Function]) -> None:
        """Begin with copies of these functions."""
        world = SimpleNamespace(
            account=ACCOUNT, region=REGION, endpoint="https://aws.example",
            read_object=lambda _bucket, key, _version: s3.objects[key].content,
        )  # fmt: skip
        self.codes = Codes()
        self.account = Account(cast(Any, world), cast(Any, self.codes), UPDATE_SECONDS)
        self.account.functions = {name: duplicate(each) for name, each in functions.items()}
        packages = Packages(self.account)
        layers = LayerOperations(self.account, packages)
        self.groups = (
            FunctionOperations(self.account, packages, layers, []), VersionOperations(self.account),
            AttachmentOperations(self.account),
        )  # fmt: skip

    @property
    def functions(self) -> dict[str, Function]:
        """Return the functions by their names."""
        return self.account.functions

    @functions.setter
    def functions(self, functions: dict[str, Function]) -> None:
        self.account.functions = functions

    def do(self, operation: str, parameters: dict[str, Any]) -> Any:
        """Carry out an operation."""
        return getattr(self.groups[GROUPS[operation]], operation)(parameters)


def duplicate(function: Function) -> Function:
    """Copy a function; what it is made from never changes and is shared."""
    copied = shallow(function)
    copied.latest = shallow(function.latest)
    copied.versions = {number: shallow(each) for number, each in function.versions.items()}
    copied.aliases = {name: shallow(each) for name, each in function.aliases.items()}
    copied.tags = dict(function.tags)
    return copied


def shallow(value: T) -> T:
    """Do what ``copy.copy`` does, which takes five times as long."""
    copied = object.__new__(type(value))
    vars(copied).update(vars(value))
    return copied


def new_function(name: str, content: bytes, runtime: str, architecture: str) -> Function:
    """Return a function as somebody has created it before."""
    code = Codes().add(content)
    config = {
        "FunctionName": name, "Description": "", "Timeout": 3, "MemorySize": 128, "PackageType": "Zip",
        "Runtime": runtime, "Handler": "app.handler", "Architectures": [architecture],
        "CodeSha256": code.sha256, "CodeSize": code.size,
    }  # fmt: skip
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"
    unit = Unit(config, code, ())
    latest = Version(unit, arn, "$LATEST", state="Active", update="Successful", live=unit)
    return Function(name, arn, latest)


class Functions:
    """A client of the Lambda API."""

    exceptions = SimpleNamespace(ClientError=ClientError, ResourceNotFoundException=NotFound)

    def __init__(self, world: World, api: Api, at_first: dict[str, Function]) -> None:
        """Ask this API; what is old is as it was at first."""
        self.world, self.api = world, api
        self.at_first = at_first

    def _call(self, operation: str, parameters: dict[str, Any], name: str = "") -> Any:
        world, label = self.world, name or operation
        resource = parameters.get("FunctionName") or parameters["Resource"].rpartition(":")[2]
        fault = world.point(label, resource)
        actor = world.current
        assert actor is not None
        world.take()
        if actor.busy_until.get(label, 0.0) > world.now:
            raise conflict(operation)
        if fault is None:
            return self._do(operation, parameters)
        if fault == "stale":
            return self._stale(operation, parameters)
        return suffer(fault, label, lambda: self._do(operation, parameters), True, actor, world)

    def _do(self, operation: str, parameters: dict[str, Any]) -> Any:
        api, watch = self.api, self.world.watch
        name = parameters.get("FunctionName") or parameters["Resource"].rpartition(":")[2]
        function = api.functions[name]
        if function.latest.under_way:
            function.latest.settle()
            if function.latest.under_way:
                self.world.current.trace += 1  # type: ignore[union-attr]  # whether an update is met hangs on the moment
        before = function.latest.unit.config["CodeSha256"]
        try:
            answer = api.do(operation, parameters)
        except ApiError as error:
            raise refusal(error.code, error.message, operation) from None
        if operation in LAMBDA_READS:
            return answer
        if watch and not parameters.get("DryRun"):
            watch.called(operation, parameters, function, before)
        elif watch:
            watch.rehearsed(function)
        return answer

    def _stale(self, operation: str, parameters: dict[str, Any]) -> Any:
        now, self.api.functions = self.api.functions, self.at_first
        try:
            return self._do(operation, parameters)
        finally:
            self.api.functions = now

    def get_function_configuration(self, **parameters: Any) -> Any:
        """Ask the API."""
        answer = self._call("get_function_configuration", parameters)
        if self.world.watch:
            self.world.watch.saw(parameters["FunctionName"])
        return answer

    def get_function(self, **parameters: Any) -> Any:
        """Ask the API."""
        return self._call("get_function", parameters)

    def update_function_code(self, **parameters: Any) -> Any:
        """Ask the API; a rehearsal counts as another operation."""
        label = "update_function_code(DryRun)" if parameters.get("DryRun") else ""
        return self._call("update_function_code", parameters, label)

    def publish_version(self, **parameters: Any) -> Any:
        """Ask the API."""
        return self._call("publish_version", parameters)

    def get_alias(self, **parameters: Any) -> Any:
        """Ask the API."""
        try:
            return self._call("get_alias", parameters)
        finally:
            if self.world.watch:
                self.world.watch.saw(f"{parameters['FunctionName']}:{parameters['Name']}")

    def create_alias(self, **parameters: Any) -> Any:
        """Ask the API."""
        return self._call("create_alias", parameters)

    def update_alias(self, **parameters: Any) -> Any:
        """Ask the API."""
        return self._call("update_alias", parameters)

    def list_versions_by_function(self, **parameters: Any) -> Any:
        """Ask the API."""
        return self._call("list_versions_by_function", parameters)

    def list_aliases(self, **parameters: Any) -> Any:
        """Ask the API."""
        return self._call("list_aliases", parameters)

    def tag_resource(self, **parameters: Any) -> Any:
        """Ask the API."""
        return self._call("tag_resource", parameters)

    def invoke(self, **parameters: Any) -> Any:
        """Run a test event: it passes, or fails by choice."""
        world, name = self.world, parameters["FunctionName"]
        if parameters.get("InvocationType") == "DryRun":
            fault = world.point("invoke(DryRun)", name)
            world.take()
            return suffer(fault, "invoke(DryRun)", dict, True, world.current, world) if fault else {}  # type: ignore[arg-type]
        fault = world.point("invoke", name)
        actor = world.current
        assert actor is not None
        world.take()
        if actor.busy_until.get("invoke", 0.0) > world.now:
            raise conflict("invoke")
        latest = self.api.functions[name].latest
        latest.settle()
        actor.trace += latest.under_way
        code = ((latest.live if latest.under_way else None) or latest.unit).code
        assert code is not None
        world.take(0.5)  # what was there at its beginning is run, whatever comes meanwhile
        is_good = fault != "fails" and b"bad" not in code.content  # type: ignore[attr-defined]

        def run() -> dict[str, Any]:
            if world.watch:
                world.watch.tested(name, code.sha256, is_good)
            if is_good:
                return {"Payload": io.BytesIO(b"{}")}
            log = base64.b64encode(b"no such thing\n").decode()
            answer = json.dumps({"errorType": "ValueError", "errorMessage": "no such thing"}).encode()
            return {"Payload": io.BytesIO(answer), "FunctionError": "Unhandled", "LogResult": log}

        if fault in (None, "fails"):
            return run()
        if fault in ("lost", "lost-for-good"):
            run()
            raise no_answer()
        return suffer(fault, "invoke", run, False, actor, world)
