"""The functions and layers of one account in one region, and how requests name them."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from local.code_store import Code, CodeStore
from local.environments import Environment
from local.functions import Function, Unit, Version
from local.lambda_errors import invalid, not_found, violation
from local.rest_json import ApiError

NAME_LIMIT = 64

FUNCTION_NAME = re.compile(
    r"(?:(?:arn:aws[a-zA-Z-]*:lambda:)?(?:(?P<region>[a-z]{2}(?:-gov|-iso[a-z]?)?-[a-z]+-\d):)?(?P<account>\d{12}):)?"
    r"(?:function:)?(?P<name>[a-zA-Z0-9-_]+)(?::(?P<qualifier>\$LATEST|[a-zA-Z0-9-_]+))?"
)

CONCURRENCY_LIMIT = 1000
UNRESERVED_LEAST = 100
"""What of an account's concurrency no function can reserve."""


class World(Protocol):
    """What the Lambda API needs of the rest of the embedded AWS."""

    account: str
    region: str
    endpoint: str

    def caller_arn(self) -> str:
        """Return who makes the request at hand."""

    def role_trusts_lambda(self, arn: str) -> bool:
        """Say whether a role exists and lets Lambda assume it."""

    def read_object(self, bucket: str, key: str, version: str | None) -> bytes:
        """Return an object's bytes, or raise ApiError as Lambda would."""

    def make_environment(self, function: Function, version: Version, unit: Unit) -> Environment:
        """Make an execution environment for a version of a function."""


@dataclass
class Layer:
    """A layer's versions; deleted ones leave a gap."""

    arn: str
    versions: dict[int, tuple[dict[str, Any], Code]] = field(default_factory=dict)
    counter: int = 0


@dataclass
class Account:
    """What all operations share."""

    world: World
    codes: CodeStore
    update_seconds: float
    """How long a creation or an update takes."""
    concurrency: int = CONCURRENCY_LIMIT
    """How many invocations may run at a time: 1,000, in new accounts of AWS 10."""
    functions: dict[str, Function] = field(default_factory=dict)
    layers: dict[str, Layer] = field(default_factory=dict)
    """By ARN: some are other accounts'."""
    lock: threading.RLock = field(default_factory=threading.RLock)

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

    def arn(self, name: str) -> str:
        """Return a function's ARN."""
        return f"arn:aws:lambda:{self.world.region}:{self.world.account}:function:{name}"

    def layer_arn(self, name: str) -> str:
        """Return the ARN of a layer of this account."""
        return f"arn:aws:lambda:{self.world.region}:{self.world.account}:layer:{name}"

    def parse_name(self, parameters: Mapping[str, Any]) -> tuple[str, str | None]:
        """Return a function's name and qualifier, whichever way they were given."""
        given = parameters["FunctionName"]
        match = FUNCTION_NAME.fullmatch(given)
        if not match:
            raise violation(
                f"Value '{given}' at 'functionName' failed to satisfy constraint: Member "
                "must satisfy regular expression pattern: (arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|"
                r"(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_]+)(:(\$LATEST|[a-zA-Z0-9-_]+))?",
            )
        if match["region"] and match["region"] != self.world.region:
            raise not_found(
                f"Functions from '{match['region']}' are not reachable in this region ('{self.world.region}')"
            )
        if match["account"] and match["account"] != self.world.account:
            raise ApiError("AccessDeniedException", 403, "", kind="")
        name, qualifier = match["name"], parameters.get("Qualifier")
        if match["qualifier"] and qualifier and match["qualifier"] != qualifier:
            raise invalid("The derived qualifier from the function name does not match the specified qualifier.")
        return name, match["qualifier"] or qualifier

    def find(self, parameters: Mapping[str, Any], shown: str | None = None) -> tuple[Function, str | None]:
        """Return the function that a request names, and the qualifier.

        shown is the qualifier in the message when there is no such function: what stands there differs by operation.
        """
        name, qualifier = self.parse_name(parameters)
        if name not in self.functions:
            suffix = qualifier if shown is None else shown
            raise not_found(f"Function not found: {self.arn(name)}" + (f":{suffix}" if suffix else ""))
        return self.functions[name], qualifier

    def reserved(self, but: Function | None = None) -> int:
        """Return the concurrency that functions have reserved, all together."""
        return sum(function.reserved or 0 for function in self.functions.values() if function is not but)


def page(items: list[Any], name: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return one page of a list; a marker is simply where the next one starts."""
    start = int(parameters.get("Marker") or 0)
    end = start + int(parameters.get("MaxItems") or 50)
    return {name: items[start:end], "NextMarker": str(end) if end < len(items) else None}
