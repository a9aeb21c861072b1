"""What hangs on a function: its tags, its reserved concurrency, what becomes of its failed events."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from local.code_store import UNZIPPED_LIMIT, ZIPPED_LIMIT
from local.functions import LATEST, Function, new_revision
from local.lambda_account import UNRESERVED_LEAST, Account, page
from local.lambda_errors import invalid, not_found
from local.rest_json import ApiError, Request, Response

TAGS_LIMIT = 50

DESTINATIONS = ("lambda", "sqs", "sns", "events", "s3")


class AttachmentOperations:
    """What can be asked of what hangs on a function."""

    def __init__(self, account: Account) -> None:
        """Work on an account's functions."""
        self.account = account

    # --- events ---

    def event_invoke_key(self, parameters: Mapping[str, Any]) -> tuple[Function, str]:
        """Return the function and qualifier that an EventInvokeConfig is to be for."""
        name, qualifier = self.account.parse_name(parameters)
        function = self.account.functions.get(name)
        if function is None or qualifier not in (None, LATEST, *function.versions, *function.aliases):
            raise not_found("The function doesn't exist.")
        return function, qualifier or LATEST

    def put_function_event_invoke_config(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Say what becomes of events that were taken in and failed."""
        names = ("MaximumRetryAttempts", "MaximumEventAgeInSeconds", "DestinationConfig")
        given = {name: parameters[name] for name in names if name in parameters}
        if not given:
            raise invalid("You must specify at least one of error handling or destination setting.")
        function, qualifier = self.event_invoke_key(parameters)
        destinations = given.pop("DestinationConfig", {})
        self.check_destinations(function, destinations)
        function.event_invoke[qualifier] = {
            "FunctionArn": f"{function.arn}:{qualifier}",
            "LastModified": datetime.now(UTC),
            "DestinationConfig": {
                when: {"Destination": arn} if (arn := destinations.get(when, {}).get("Destination")) else {}
                for when in ("OnSuccess", "OnFailure")
            },
        } | given
        return function.event_invoke[qualifier]

    def check_destinations(self, function: Function, destinations: Mapping[str, Any]) -> None:
        """Raise for a destination that is none, or that would send events round in a circle."""
        arns = {when: destinations.get(when, {}).get("Destination") for when in ("OnSuccess", "OnFailure")}
        for arn in filter(None, arns.values()):
            service, name = arn.split(":")[2], arn.rpartition(":function:")[2].partition(":")[0]
            if service not in DESTINATIONS:
                shown = (
                    f"{when[0].lower()}{when[1:]}=" + (f"{when}(destination={given})" if given else "null")
                    for when, given in arns.items()
                )
                text = f"DestinationConfig({', '.join(shown)})"
                raise invalid(f"The provided destination config {text} is invalid.")
            if service == "lambda" and name == function.name:
                raise invalid("You can't specify the function as a destination for itself.")
            if service == "lambda" and name not in self.account.functions:
                raise invalid(f"The destination ARN {arn} is invalid.")

    def update_function_event_invoke_config(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Change parts of an EventInvokeConfig."""
        self.event_invoke_key(parameters)
        before = self.get_function_event_invoke_config(parameters)
        return self.put_function_event_invoke_config(dict(before) | parameters)

    def get_function_event_invoke_config(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Return an EventInvokeConfig."""
        name, qualifier = self.account.parse_name(parameters)
        function, qualifier = self.account.functions.get(name), qualifier or LATEST
        if function is None or qualifier not in function.event_invoke:
            raise not_found(f"The function {self.account.arn(name)}:{qualifier} doesn't have an EventInvokeConfig")
        return function.event_invoke[qualifier]

    def delete_function_event_invoke_config(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Forget an EventInvokeConfig."""
        self.get_function_event_invoke_config(parameters)
        function, qualifier = self.event_invoke_key(parameters)
        del function.event_invoke[qualifier]
        return {}

    def list_function_event_invoke_configs(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Return a function's EventInvokeConfigs."""
        function, _ = self.event_invoke_key(parameters)
        return page(list(function.event_invoke.values()), "FunctionEventInvokeConfigs", parameters)

    # --- concurrency ---

    def put_function_concurrency(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Reserve concurrency; nought stops a function."""
        function, qualifier = self.account.find(parameters, shown=LATEST)
        if qualifier:
            raise invalid(
                "This operation is permitted on Lambda functions only. Aliases and versions do not support this "
                "operation. Please specify either a function name or an unqualified function ARN."
            )
        wanted = parameters["ReservedConcurrentExecutions"]
        least = min(UNRESERVED_LEAST, self.account.concurrency)
        if wanted and self.account.concurrency - self.account.reserved(function) - wanted < least:
            message = (
                "Specified ReservedConcurrentExecutions for function decreases account's "
                f"UnreservedConcurrentExecution below its minimum value of [{least}]."
            )
            raise ApiError("InvalidParameterValueException", 400, message, kind="")
        function.reserved = wanted
        return {"ReservedConcurrentExecutions": wanted}

    def get_function_concurrency(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Return the reserved concurrency."""
        function, _ = self.account.find(parameters)
        return {"ReservedConcurrentExecutions": function.reserved}

    def delete_function_concurrency(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Reserve nothing any more."""
        function, _ = self.account.find(parameters)
        function.reserved = None
        return {}

    def get_account_settings(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Return the quotas, and how much is used."""
        functions = self.account.functions.values()
        own = self.account.layer_arn("")
        layers = [layer for arn, layer in self.account.layers.items() if arn.startswith(own)]
        sizes = [version.unit.config["CodeSize"] for function in functions for version in function.everything]
        sizes += [code.size for layer in layers for _, code in layer.versions.values()]
        return {
            "AccountLimit": {
                "TotalCodeSize": 300 * 10**9,
                "CodeSizeUnzipped": UNZIPPED_LIMIT,
                "CodeSizeZipped": ZIPPED_LIMIT,
                "ConcurrentExecutions": self.account.concurrency,
                "UnreservedConcurrentExecutions": self.account.concurrency - self.account.reserved(),
            },
            "AccountUsage": {"TotalCodeSize": sum(sizes), "FunctionCount": len(functions)},
        }

    def get_function_code_signing_config(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Return which code signing configuration a function has: none, as there are none here."""
        function, _ = self.account.find(parameters)
        return {"CodeSigningConfigArn": "", "FunctionName": function.name}

    # --- tags ---

    def tagged(self, parameters: Mapping[str, Any]) -> Function:
        """Return the function whose tags a request means."""
        arn = parameters["Resource"]
        kind = arn.split(":")[5]
        if kind != "function":
            raise not_found(f"{kind.replace('-', ' ').capitalize()} not found: {arn}")
        if arn.count(":") > 6:
            raise invalid("Tags on function aliases and versions are not supported. Please specify a function ARN.")
        return self.account.find({"FunctionName": arn})[0]

    def tag_resource(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Add tags."""
        function = self.tagged(parameters)
        if not parameters["Tags"]:
            raise invalid("An error occurred and the request cannot be processed.")
        tags = function.tags | parameters["Tags"]
        check_tags(tags)
        function.tags = tags
        function.latest.revision = new_revision()
        return {}

    def untag_resource(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Remove tags."""
        function = self.tagged(parameters)
        for name in parameters["TagKeys"]:
            function.tags.pop(name, None)
        function.latest.revision = new_revision()
        return {}

    def list_tags(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Return the tags."""
        return {"Tags": self.tagged(parameters).tags}

    def find_tagged(self, request: Request) -> Response:
        """Answer the tagging API's GetResources: the functions that have these tags."""
        wanted = json.loads(request.body).get("TagFilters", [])
        with self.account.lock:
            found = [
                {"ResourceARN": each.arn, "Tags": [{"Key": key, "Value": value} for key, value in each.tags.items()]}
                for each in self.account.functions.values()
                if all(each.tags.get(tag["Key"]) in tag.get("Values", [each.tags.get(tag["Key"])]) for tag in wanted)
            ]
        body = json.dumps({"ResourceTagMappingList": found, "PaginationToken": ""}).encode()
        return Response(200, body, {"Content-Type": "application/x-amz-json-1.1"})


def check_tags(tags: Mapping[str, str]) -> None:
    """Raise for more tags than a function can have."""
    if len(tags) > TAGS_LIMIT:
        raise invalid("Number of tags exceeds resource tag limit.")
