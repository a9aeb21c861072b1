"""Events: what a caller may ask for, checked field by field before any work."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import PurePosixPath
from typing import Any

from yo_dawg.errors import RequestError
from yo_dawg.text import kind, nearest

MAX_FUNCTIONS = 50
"""How many functions one build may update."""

FUNCTION = re.compile(
    r"(?:(?:arn:aws[a-z-]*:lambda:(?P<region>[a-z0-9-]+):)?(?P<account>\d{12}):function:)?"
    r"(?P<name>[A-Za-z0-9_][A-Za-z0-9_-]{0,63})"
)

REPO_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}(?:/[A-Za-z0-9_][A-Za-z0-9._-]{0,99}){0,5}")

REF = re.compile(r"(?!.*(?:\.\.|//|@\{|\.lock(?:/|$)|/\.))[^\x00-\x20\x7f~^:?*\[\\/.-][^\x00-\x20\x7f~^:?*\[\\]{0,249}")
"""git-check-ref-format(1), and no leading "-"."""


def function_fault(value: str) -> str | None:
    """Say what is wrong with the name of a function."""
    return None if FUNCTION.fullmatch(value) else "is not the name or ARN of a Lambda function (without a version)"


def repo_name_fault(value: str) -> str | None:
    """Say what is wrong with the name of a project."""
    if "://" in value or value.startswith("git@"):
        return "is a URL; give the project's name, the rest comes from base_url in config.ini"
    if value.endswith(".git"):
        return 'ends in ".git"; give the project\'s name without it'
    if not REPO_NAME.fullmatch(value) or ".." in value:
        return 'is not the name of a project ("project", or "group/project")'
    return None


def ref_fault(value: str) -> str | None:
    """Say what is wrong with the name of a branch, a tag or a commit."""
    if not REF.fullmatch(value) or value.endswith(("/", ".")):
        return "cannot be the name of a branch, a tag or a commit"
    return None


def subdirectory_fault(value: str) -> str | None:
    """Say what is wrong with a project's folder inside of its repository."""
    parts = PurePosixPath(value).parts
    if not parts or value.startswith("/") or ".." in parts or any(part.startswith("-") for part in parts):
        return 'is not a folder inside of the repository (no "..", no leading "/" or "-")'
    odd = not value.isprintable() or "\\" in value or "://" in value
    if odd or any(part.lower() == ".git" for part in parts):
        return "is not a folder's name that a project could have"
    return None


def alias_fault(value: str) -> str | None:
    """Say what is wrong with the name of an alias."""
    if not re.fullmatch(r"(?!\d+$)[A-Za-z0-9_-]{1,128}", value):
        return "cannot be the name of an alias (letters, digits, - and _; not a number)"
    return None


def to_fault(value: str) -> str | None:
    """Say what is wrong with the name of what a rollback is to put back."""
    if not (VERSION.fullmatch(value) or COMMIT.fullmatch(value) or DIGEST.fullmatch(value)):
        return "is not a version, a commit (at least 7 hexadecimal digits) or a package's digest"
    return None


VERSION = re.compile(r"[1-9][0-9]{0,5}")

COMMIT = re.compile(r"[0-9a-f]{7,64}")
"""A commit or a package's digest in hexadecimal, or how it begins."""

DIGEST = re.compile(r"[A-Za-z0-9+/]{43}=")
"""A package's digest as Lambda writes it in CodeSha256."""


@dataclass(frozen=True)
class BootstrapRequest:
    """{"action": "bootstrap"}."""

    force: bool = False


@dataclass(frozen=True)
class BuildRequest:
    """{"action": "build", …}: what to build and which functions to update."""

    function: str | list[str]
    repo_name: str
    ref: str | None = None
    subdirectory: str | None = None
    publish: bool = False
    alias: str | None = None
    test_event: object = None
    dry_run: bool = False
    force: bool = False

    @property
    def functions(self) -> tuple[str, ...]:
        """The functions, as they were named."""
        return (self.function,) if isinstance(self.function, str) else tuple(self.function)


@dataclass(frozen=True)
class RollbackRequest:
    """{"action": "rollback", …}: which function is to run what it ran before."""

    function: str
    to: str | None = None
    alias: str | None = None
    test_event: object = None

    publish = dry_run = force = False

    @property
    def functions(self) -> tuple[str, ...]:
        """The function, as it was named."""
        return (self.function,)


@dataclass(frozen=True)
class DoctorRequest:
    """{"action": "doctor"}."""


Request = BootstrapRequest | BuildRequest | RollbackRequest | DoctorRequest

REQUESTS: Mapping[str, type[Any]] = {
    "bootstrap": BootstrapRequest,
    "build": BuildRequest,
    "rollback": RollbackRequest,
    "doctor": DoctorRequest,
}


def function_name(function: str) -> str:
    """Return a function's name, also where its ARN was given."""
    return function.rpartition(":")[2]


def request_digest(request: Request) -> str:
    """Return what is the same for the same request: a client's retry is known by it."""
    content = json.dumps([type(request).__name__, vars(request)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


FAULTS: Mapping[str, Callable[[str], str | None]] = {
    "function": function_fault,
    "repo_name": repo_name_fault,
    "ref": ref_fault,
    "subdirectory": subdirectory_fault,
    "alias": alias_fault,
    "to": to_fault,
}

OLDER_NAMES = {"branch": "ref"}


def parse_request(event: object) -> Request:
    """Turn an event into a request; raise RequestError that names everything wrong with it."""
    if not isinstance(event, Mapping):
        raise RequestError(f'The event must be a JSON object like {{"action": "build", …}}, not {kind(event)}.')
    action = event.get("action")
    if not isinstance(action, str) or action not in REQUESTS:
        known = ", ".join(f'"{name}"' for name in REQUESTS)
        reason = "has no action" if action is None else f"asks for the unknown action {action!r:.80}"
        raise RequestError(f"The event {reason}{nearest(action, REQUESTS)}; the actions are {known}.")
    request_type = REQUESTS[action]
    types = {each.name: str(each.type) for each in fields(request_type)}
    wrong: list[str] = []
    given: dict[str, Any] = {}
    for name, value in event.items():
        field_name = OLDER_NAMES.get(name, name) if action == "build" else name
        if name == "action":
            continue
        if field_name not in types:
            wrong.append(f"unknown field {name!r:.80}{nearest(name, types)}")
        elif value is None:
            continue  # as if it were not there: what templates and typed clients send
        elif field_name in given:
            wrong.append(f'"{name}" and "{field_name}" mean the same; give one of them')
        else:
            given[field_name] = value
            wrong += field_faults(name, value, types[field_name], FAULTS.get(field_name))
    required = [each.name for each in fields(request_type) if each.default is MISSING]
    wrong += [f'"{name}" is missing' for name in required if name not in given]
    if wrong:
        raise RequestError(f'The event for "{action}" is wrong, and nothing was done: {"; ".join(wrong)}.')
    request: Request = request_type(**given)
    return request


def field_faults(name: str, value: object, annotation: str, fault: Callable[[str], str | None] | None) -> list[str]:
    """Say what is wrong with one field's type or content."""
    if annotation == "object":
        return []  # any JSON will do
    if isinstance(value, list) and "list" in annotation:
        return list_faults(name, value, fault)
    expected = bool if annotation == "bool" else str
    if not isinstance(value, expected):
        words = "true or false" if expected is bool else "a string"
        return [f'"{name}" must be {words}, not {kind(value)}']
    found = fault(value) if fault and isinstance(value, str) else None
    return [f'"{name}" {value!r:.120} {found}'] if found else []


def list_faults(name: str, values: list[object], fault: Callable[[str], str | None] | None) -> list[str]:
    """Say what is wrong with a field that names several things."""
    if not 1 <= len(values) <= MAX_FUNCTIONS:
        return [f'"{name}" must name at least one and at most {MAX_FUNCTIONS}, not {len(values)}']
    faults = [each for value in values for each in field_faults(name, value, "str", fault)]
    names = [function_name(value) for value in values if isinstance(value, str)]
    twice = sorted({each for each in names if names.count(each) > 1})
    return faults + [f'"{name}" names {each!r:.120} twice' for each in twice]
