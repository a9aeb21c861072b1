"""AWS's rest-json protocol for one service, read from botocore's own description of it.

A request becomes an operation's name and its parameters, a result becomes a response; parameters are checked
against the description, with the messages that AWS has for it.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, unquote


class ApiError(Exception):
    """An answer that AWS would give instead of a result."""

    def __init__(self, code: str, status: int, message: str, kind: str = "User", **more: Any) -> None:
        """Take the error's code (its botocore class), HTTP status and message; kind is empty where AWS says none."""
        super().__init__(message)
        self.code, self.status, self.message, self.kind, self.more = code, status, message, kind, more


@dataclass(frozen=True)
class Request:
    """An HTTP request, as far as the protocol needs it."""

    method: str
    path: str
    """Still quoted: an ARN in it may hold quoted slashes."""
    query: str
    headers: Mapping[str, str]
    """With lower-case names."""
    body: bytes


@dataclass(frozen=True)
class Response:
    """An HTTP response."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Route:
    """How an operation is asked for."""

    method: str
    pattern: re.Pattern[str]
    query: str
    """What always stands in the query: find=LayerVersion."""
    operation: str


class Service:
    """The operations of a service: who they are, how they are asked for, how they answer."""

    def __init__(self, name: str, patterns: Mapping[str, str] | None = None) -> None:
        """Load botocore's description; patterns are those that AWS itself was seen to have for some shapes."""
        from botocore.model import ServiceModel
        from botocore.session import Session

        description = Session().get_service_data(name)
        for shape, pattern in (patterns or {}).items():
            description["shapes"][shape]["pattern"] = pattern
        self.model = ServiceModel(description, name)
        routes = [self.route(operation) for operation in self.model.operation_names]
        # The most specific first: the same path with a fixed query, then those with the fewest parameters.
        self.routes = sorted(routes, key=lambda route: (not route.query, route.pattern.groups))

    def route(self, operation: str) -> Route:
        """Return how an operation is asked for."""
        http = self.model.operation_model(operation).http
        path, _, query = http["requestUri"].partition("?")
        uri = path.rstrip("/")
        pattern = "".join(
            f"(?P<{part[1:-1].rstrip('+')}>{'.+' if part.endswith('+}') else '[^/]+'})"
            if part.startswith("{")
            else re.escape(part)
            for part in re.split(r"(\{[^}]+\})", uri)
        )
        return Route(http["method"], re.compile(pattern + "/?"), query, operation)

    def parse(self, request: Request) -> tuple[str, dict[str, Any]]:
        """Return the operation that a request asks for, and its parameters."""
        for route in self.routes:
            match = route.pattern.fullmatch(request.path)
            if match and route.method == request.method and route.query in request.query:
                return route.operation, self.parameters(route.operation, match.groupdict(), request)
        raise ApiError("UnknownOperationException", 404, f"no operation: {request.method} {request.path}")

    def parameters(self, operation: str, uri: Mapping[str, str], request: Request) -> dict[str, Any]:
        """Collect the parameters from path, query, headers and body."""
        shape = self.model.operation_model(operation).input_shape
        if shape is None:
            return {}
        query = parse_qs(request.query, keep_blank_values=True)
        payload = shape.serialization.get("payload")
        document = {} if payload else self.document(request.body)
        found: dict[str, Any] = {}
        for name, member in shape.members.items():
            place = member.serialization.get("location")
            wire = member.serialization.get("name", name)
            if name == payload:
                found[name] = request.body
            elif place == "uri" and wire in uri:
                found[name] = simple(member, unquote(uri[wire]))
            elif place == "querystring" and wire in query:
                found[name] = query[wire] if member.type_name == "list" else simple(member, query[wire][0])
            elif place == "header" and wire.lower() in request.headers:
                found[name] = request.headers[wire.lower()]
            elif place is None and document.get(wire) is not None:
                found[name] = decoded(member, document[wire])
        return found

    def document(self, body: bytes) -> dict[str, Any]:
        """Read a body of JSON."""
        try:
            document = json.loads(body) if body.strip() else {}
        except ValueError as error:
            raise ApiError("SerializationException", 400, f"Could not parse request body into json: {error}") from error
        if not isinstance(document, dict):
            raise ApiError("SerializationException", 400, "Start of structure or map found where not expected.")
        return document

    def check(self, operation: str, parameters: Mapping[str, Any]) -> None:
        """Raise AWS's ValidationException for parameters that the description does not allow."""
        shape = self.model.operation_model(operation).input_shape
        problems = list(violations(shape, parameters, "")) if shape else []
        # An unknown runtime is Lambda's own InvalidParameterValueException, with a message of its own.
        problems = [problem for problem in problems if " at 'runtime' " not in problem]
        if problems:
            count = f"{len(problems)} validation error{'s' if len(problems) > 1 else ''} detected: "
            raise ApiError("ValidationException", 400, count + "; ".join(problems))

    def respond(self, operation: str, result: Mapping[str, Any]) -> Response:
        """Make the response of an operation from its result."""
        model = self.model.operation_model(operation)
        status = model.http.get("responseCode", 200)
        headers = {"Content-Type": "application/json"}
        document: dict[str, Any] = {}
        shape = model.output_shape
        if shape is None:
            return Response(status, b"", headers)
        payload = shape.serialization.get("payload")
        for name, member in shape.members.items():
            value = result.get(name)
            if value is None or name == payload:
                continue
            place = member.serialization.get("location")
            if place == "statusCode":
                status = value
            elif place == "header":
                headers[member.serialization["name"]] = str(value)
            else:
                document[name] = encoded(member, value)
        if payload:
            return Response(status, result.get(payload) or b"", headers)
        return Response(status, b"" if status == 204 else json.dumps(document).encode(), headers)

    def refuse(self, error: ApiError) -> Response:
        """Make the response for an error, in the shape that AWS gives it."""
        shape = self.model.shape_for_error_code(error.code)
        members = shape.members if shape else {}
        document: dict[str, Any] = {"Type": error.kind} if error.kind and ("Type" in members or not shape) else {}
        document["message" if "message" in members else "Message"] = error.message or None
        document |= error.more
        headers = {"Content-Type": "application/json", "x-amzn-ErrorType": error.code}
        return Response(error.status, json.dumps(document).encode(), headers)


def simple(shape: Any, text: str) -> Any:
    """Return a value of the path or the query string in its own type."""
    if shape.type_name in ("integer", "long"):
        return int(text)
    return text == "true" if shape.type_name == "boolean" else text


def decoded(shape: Any, value: Any) -> Any:
    """Return a value of the document in Python's types: blobs as bytes, no nulls."""
    if shape.type_name == "blob":
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise ApiError("SerializationException", 400, "Unable to decode base64 value") from error
    if shape.type_name == "structure" and isinstance(value, dict):
        return {
            name: decoded(member, value[wire])
            for name, member in shape.members.items()
            if value.get(wire := member.serialization.get("name", name)) is not None
        }
    if shape.type_name == "list" and isinstance(value, list):
        return [decoded(shape.member, item) for item in value]
    return value


def encoded(shape: Any, value: Any) -> Any:
    """Return a value as the document has it: only what the shape knows, and no nulls."""
    if shape.type_name == "structure":
        return {
            name: encoded(member, value[name]) for name, member in shape.members.items() if value.get(name) is not None
        }
    if shape.type_name == "list":
        return [encoded(shape.member, item) for item in value]
    if shape.type_name == "map":
        return {key: encoded(shape.value, item) for key, item in value.items()}
    if shape.type_name == "blob":
        return base64.b64encode(value).decode()
    return value.timestamp() if isinstance(value, datetime) else value


TYPES: dict[str, tuple[type[Any], ...]] = {
    "string": (str,), "integer": (int,), "long": (int,), "boolean": (bool,), "float": (int, float),
    "double": (int, float), "list": (list,), "map": (dict,), "structure": (dict,), "blob": (bytes,),
}  # fmt: skip


def violations(shape: Any, value: Any, path: str) -> Iterator[str]:
    """Yield what is wrong with a value, in AWS's words."""
    boolean = isinstance(value, bool) and shape.type_name != "boolean"  # which Python takes for a number
    if boolean or not isinstance(value, TYPES[shape.type_name]):
        raise ApiError("SerializationException", 400, f"{path or 'request'} can not be converted to {shape.type_name}")
    if shape.type_name == "structure":
        for name in shape.required_members:
            if value.get(name) is None:
                yield f"Value null at '{below(path, name)}' failed to satisfy constraint: Member must not be null"
        for name, member in shape.members.items():
            if value.get(name) is not None:
                yield from violations(member, value[name], below(path, name))
        return
    shown = f"Value '{display(shape, value)}' at '{path}' failed to satisfy constraint: "
    for problem in constraints(shape, value):
        yield shown + problem
    if shape.type_name == "list" and any(problem for item in value for problem in constraints(shape.member, item)):
        rules = [*all_rules(shape.member), *NOT_NULL[path.rpartition(".")[2] in NULLABLE]]
        yield shown + f"Member must satisfy constraint: [{', '.join(rules)}]"
    if shape.type_name == "map":
        if any(problem for key in value for problem in constraints(shape.key, key)):
            yield shown + f"Map keys must satisfy constraint: [{', '.join(all_rules(shape.key))}]"
        elif any(problem for item in value.values() for problem in constraints(shape.value, item)):
            rules = [*all_rules(shape.value), "Member must not be null"]
            yield shown + f"Map value must satisfy constraint: [{', '.join(rules)}]"


NOT_NULL = (("Member must not be null",), ())
NULLABLE = ("subnetIds", "securityGroupIds")
"""Lists whose members may be null, as far as the messages say."""


def below(path: str, name: str) -> str:
    """Return a member's name as the messages have it: functionName, code.s3Bucket."""
    name = name[0].lower() + name[1:]
    return f"{path}.{name}" if path else name


def display(shape: Any, value: Any) -> str:
    """Return a value as the messages show it."""
    if shape.metadata.get("sensitive"):
        return "***"
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}={display(shape.value, item)}" for key, item in value.items()) + "}"
    if shape.type_name in ("float", "double"):
        return str(float(value))
    return str(value)


def constraints(shape: Any, value: Any) -> Iterator[str]:
    """Yield the rules of a shape that a single value breaks."""
    rules = shape.metadata
    size = value if isinstance(value, int | float) else len(value)
    if shape.type_name != "blob":
        if "max" in rules and size > rules["max"]:
            yield size_rule(shape, "less", rules["max"])
        if "min" in rules and size < rules["min"]:
            yield size_rule(shape, "greater", rules["min"])
    if isinstance(value, str):
        if rules.get("pattern") and not matches(rules["pattern"], value):
            yield f"Member must satisfy regular expression pattern: {rules['pattern']}"
        if "enum" in rules and value not in rules["enum"]:
            yield f"Member must satisfy enum value set: [{', '.join(rules['enum'])}]"


def size_rule(shape: Any, word: str, limit: float) -> str:
    """Return the rule about the largest or the smallest size."""
    if shape.type_name in ("float", "double"):
        return f"Member must have value {word} than or equal to {float(limit)}"
    what = "value" if shape.type_name in ("integer", "long") else "length"
    return f"Member must have {what} {word} than or equal to {limit}"


def all_rules(shape: Any) -> list[str]:
    """Return all rules of a shape, as a list or a map that breaks one of them is told."""
    rules = shape.metadata
    found = [size_rule(shape, word, rules[key]) for key, word in (("max", "less"), ("min", "greater")) if key in rules]
    if rules.get("pattern"):
        found.append(f"Member must satisfy regular expression pattern: {rules['pattern']}")
    if "enum" in rules:
        found.append(f"Member must satisfy enum value set: [{', '.join(rules['enum'])}]")
    return found


def matches(pattern: str, value: str) -> bool:
    """Say whether a value fits a pattern; one that Python cannot read is taken to fit."""
    try:
        return bool(re.fullmatch(pattern, value))
    except re.error:
        return True
