"""IAM's evaluation of identity policies: an explicit Deny wins, else an Allow that fits, else no.

It knows what policies of roles use: Action and Resource and their negations, patterns, and the operators below. An
operator that it does not know is an error: a condition that is skipped would allow what AWS refuses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any

Context = Mapping[str, str | Sequence[str]]


class Decision(Enum):
    """What IAM says, and why."""

    ALLOWED = "allowed"
    DENIED = "explicitly denied"
    NOT_ALLOWED = "allowed by no policy"


def decide(statements: Iterable[Mapping[str, Any]], action: str, resource: str, context: Context) -> Decision:
    """Say what these statements say of an action on a resource."""
    effects = {statement["Effect"] for statement in statements if fits(statement, action, resource, context)}
    if "Deny" in effects:
        return Decision.DENIED
    return Decision.ALLOWED if "Allow" in effects else Decision.NOT_ALLOWED


def fits(statement: Mapping[str, Any], action: str, resource: str, context: Context) -> bool:
    """Say whether a statement is about this request."""

    def named(key: str, matches: Callable[[str], bool]) -> bool:
        if key in statement:
            return any(matches(pattern) for pattern in listed(statement[key]))
        return not any(matches(pattern) for pattern in listed(statement[f"Not{key}"]))

    return (
        named("Action", lambda pattern: glob(pattern.lower(), action.lower()))
        and named("Resource", lambda pattern: glob(pattern, resource))
        and holds(statement.get("Condition", {}), context)
    )


def listed(value: Any) -> list[str]:
    """Return a list of texts: where one thing stands, IAM takes it for a list of one."""
    values = value if isinstance(value, list | tuple) else [value]
    return [str(each).lower() if isinstance(each, bool) else str(each) for each in values]


def glob(pattern: str, text: str) -> bool:
    """Say whether an IAM pattern fits: * for anything, ? for one character."""
    parts = ({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in pattern)
    return re.fullmatch("".join(parts), text, re.DOTALL) is not None


def arn_like(pattern: str, arn: str) -> bool:
    """Say whether an ARN fits a pattern, part by part: a * does not go beyond a colon, but in the last part."""
    parts, values = pattern.split(":", 5), arn.split(":", 5)
    return len(parts) == len(values) and all(map(glob, parts, values))


OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": str.__eq__,
    "StringEqualsIgnoreCase": lambda wanted, value: wanted.lower() == value.lower(),
    "StringLike": glob,
    "ArnEquals": arn_like,
    "ArnLike": arn_like,
    "Bool": lambda wanted, value: wanted.lower() == value.lower(),
}

NEGATIONS = {"StringNotEquals": "StringEquals", "StringNotLike": "StringLike", "ArnNotLike": "ArnLike",
             "ArnNotEquals": "ArnEquals"}  # fmt: skip


def holds(conditions: Mapping[str, Mapping[str, Any]], context: Context) -> bool:
    """Say whether all conditions hold; one about what the request does not carry does not."""
    keys = {key.lower(): value for key, value in context.items()}
    return all(
        condition(operator, listed(wanted), keys.get(key.lower()))
        for operator, tests in conditions.items()
        for key, wanted in tests.items()
    )


def condition(operator: str, wanted: list[str], value: str | Sequence[str] | None) -> bool:
    """Say whether one condition holds for a key's value, or values, or its absence."""
    quantifier, _, name = operator.rpartition(":")
    if name == "Null":
        return (value is None) == (wanted == ["true"])
    optional = name.endswith("IfExists")
    name = name.removesuffix("IfExists")
    negated = name in NEGATIONS
    test = OPERATORS[NEGATIONS.get(name, name)]
    if value is None:
        return optional or negated or quantifier == "ForAllValues"
    found = [any(test(each, given) for each in wanted) != negated for given in listed(value)]
    return any(found) if quantifier == "ForAnyValue" else all(found)


def refusal(decision: Decision, who: str, action: str, resource: str) -> str:
    """Say that somebody may not do something, as AWS does."""
    start = f"User: {who} is not authorized to perform: {action} on resource: {resource}"
    if decision is Decision.DENIED:
        return f"{start} with an explicit deny in an identity-based policy"
    return f"{start} because no identity-based policy allows the {action} action"
