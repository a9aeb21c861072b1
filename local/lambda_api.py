"""The Lambda API, as strict as AWS: what it refuses, in which words, and the phases that an update goes through.

moto's own Lambda takes almost anything (no RevisionId, no conflict, bad zips, missing objects), so none of it is used.
Messages are those that AWS was seen to give. What is not offered says so: event source mappings, function URLs,
provisioned concurrency, code signing, durable functions and capacity providers.

Here a request finds its operation; the operations themselves are in lambda_functions.py, lambda_versions.py,
lambda_layers.py, lambda_invoke.py, lambda_attachments.py and lambda_policies.py.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from local.code_store import CodeStore
from local.environments import Environment
from local.functions import Function
from local.lambda_account import Account, World
from local.lambda_attachments import AttachmentOperations
from local.lambda_functions import FunctionOperations
from local.lambda_invoke import InvokeOperations
from local.lambda_layers import LayerOperations
from local.lambda_packages import Packages
from local.lambda_policies import PolicyOperations
from local.lambda_versions import VersionOperations
from local.rest_json import ApiError, Request, Response, Service

REQUEST_LIMIT = 70_167_211

PATTERNS = {
    "TaggableResource": r"arn:(aws[a-zA-Z-]*):lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:"
    r"(function:[a-zA-Z0-9-_]+(:(\$LATEST|[a-zA-Z0-9-_]+))?|layer:([a-zA-Z0-9-_]+)|code-signing-config:csc-[a-z0-9]{17}|"
    r"event-source-mapping:[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}|"
    r"capacity-provider:[a-zA-Z0-9-_]+)",
    "LayerVersionArn": r"(arn:(aws[a-zA-Z-]*)?:lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:"
    r"layer:[a-zA-Z0-9-_]+:[0-9]+)|(arn:[a-zA-Z0-9-]+:lambda:::awslayer:[a-zA-Z0-9-_]+)",
}
"""Patterns that AWS was seen to apply where the description that clients have says a little otherwise."""


class LambdaApi:
    """The functions of one account in one region, and the operations on them."""

    def __init__(self, world: World, codes: CodeStore, update_seconds: float, retry_seconds: tuple[float, ...]) -> None:
        """Begin with no function."""
        self.world = world
        self.codes = codes
        self.service = Service("lambda", PATTERNS)
        self.account = Account(world, codes, update_seconds)
        packages = Packages(self.account)
        runtimes = self.service.model.shape_for("Runtime").metadata["enum"]
        self.layers = LayerOperations(self.account, packages)
        self.invocations = InvokeOperations(self.account, retry_seconds)
        self.attachments = AttachmentOperations(self.account)
        groups: tuple[object, ...] = (
            FunctionOperations(self.account, packages, self.layers, runtimes),
            VersionOperations(self.account),
            self.layers,
            self.invocations,
            self.attachments,
            PolicyOperations(self.account),
        )
        self.operations: dict[str, Callable[[dict[str, Any]], Mapping[str, Any]]] = {
            name: getattr(group, snake)
            for name in self.service.model.operation_names
            for group in groups
            if hasattr(group, snake := re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower())
        }

    @property
    def functions(self) -> dict[str, Function]:
        """Return the functions by their names."""
        return self.account.functions

    def handle(self, request: Request) -> Response:
        """Answer an HTTP request; each answer has an id of its own, that of Invoke is the invocation's."""
        request_id = str(uuid.uuid4())
        try:
            operation, parameters = self.service.parse(request)
            if len(request.body) > REQUEST_LIMIT:
                message = f"Request must be smaller than {REQUEST_LIMIT} bytes for the {operation} operation"
                raise ApiError("RequestEntityTooLargeException", 413, message, kind="")
            result = self.call(operation, parameters)
            request_id = result.get("RequestId", request_id)
            response = self.service.respond(operation, result)
        except ApiError as error:
            response = self.service.refuse(error)
        return Response(response.status, response.body, {**response.headers, "x-amzn-RequestId": request_id})

    def call(self, operation: str, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Carry out an operation."""
        if operation not in self.operations:
            raise ApiError("UnknownOperationException", 404, f"The embedded AWS does not offer lambda:{operation}.")
        self.service.check(operation, parameters)
        if operation == "Invoke":  # which may take long, and locks for itself
            return self.operations[operation](parameters)
        with self.account.lock:
            self.account.settle()
            return self.operations[operation](parameters)

    def find_tagged(self, request: Request) -> Response:
        """Answer the tagging API's GetResources."""
        return self.attachments.find_tagged(request)

    # --- what befalls functions, and what others have ---

    def deactivate(self, name: str) -> None:
        """Let a function be inactive, as AWS does with one that nobody invoked for long."""
        with self.account.lock:
            function, _ = self.account.find({"FunctionName": name})
            function.latest.state = "Inactive"
            if function.latest.pool:
                function.latest.pool.retire()
                function.latest.pool = None

    def share_layer(self, account: str, name: str, content: bytes, **about: Any) -> str:
        """Let another account share the next version of a layer; return its ARN."""
        arn = f"arn:aws:lambda:{self.world.region}:{account}:layer:{name}"
        with self.account.lock:
            return str(self.layers.add(arn, self.codes.add(content), about)["LayerVersionArn"])

    def finish_updates(self) -> None:
        """End every creation and update now."""
        self.account.finish_updates()

    def environments(self, name: str) -> list[Environment]:
        """Return the environments of a function that are alive."""
        return self.invocations.environments(name)

    def wait_for_events(self) -> None:
        """Wait until every event that was taken in has been served, retries and all."""
        self.invocations.wait_for_events()

    def close(self) -> None:
        """End all environments and wait for what ran in them."""
        self.invocations.close()
