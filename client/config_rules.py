"""config.ini, value by value: rules that take a value and say what is wrong with it, or None."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable
from typing import Any

USUAL_SECONDS = 900
"""The longest that any Lambda lets a function run; some take more."""


def one_of(*choices: str) -> Callable[[str], str | None]:
    """Make a rule that takes these words only."""
    return lambda value: None if value in choices else f"must be {' or '.join(choices)}"


def between(low: int, high: int, unit: str) -> Callable[[str], str | None]:
    """Make a rule that takes whole numbers from low to high."""

    def rule(value: str) -> str | None:
        fits = re.fullmatch(r"[0-9]{1,9}", value) and low <= int(value) <= high
        return None if fits else f"must be a whole number from {low} to {high} ({unit})"

    return rule


def like(pattern: str, meaning: str) -> Callable[[str], str | None]:
    """Make a rule that takes what matches the pattern."""
    return lambda value: None if re.fullmatch(pattern, value) else f"must be {meaning}"


def runtime_fault(value: str) -> str | None:
    """Say what is wrong with a runtime."""
    match = re.fullmatch(r"python3\.([1-9][0-9])", value)
    return None if match and int(match[1]) >= 11 else "must be python3.11 or newer, e.g. python3.13"


def most_seconds() -> int:
    """Return the longest time that Lambda lets a function run, as this boto3 knows it."""
    import botocore.session

    model = botocore.session.get_session().get_service_model("lambda").operation_model("CreateFunction")
    shape: Any = model.input_shape
    return int(shape.members["Timeout"].metadata.get("max", USUAL_SECONDS))


def timeout_fault(value: str) -> str | None:
    """Say what is wrong with a timeout.  The model, which takes its time, is asked only if that matters."""
    if between(1, USUAL_SECONDS, "seconds")(value) is None:
        return None
    return between(1, most_seconds(), "seconds")(value)


def keep_versions_fault(value: str) -> str | None:
    """Say what is wrong with how many versions are kept."""
    return None if value == "all" else between(1, 99_999, "versions, or all")(value)


def listed(pattern: str, meaning: str) -> Callable[[str], str | None]:
    """Make a rule that takes a list of what matches the pattern."""
    return lambda value: (
        None if all(re.fullmatch(pattern, name) for name in split_names(value)) else f"must be {meaning}"
    )


def address_fault(value: str) -> str | None:
    """Say what is wrong with an address of the network.  Never repeats it: a password may stand in it."""
    try:
        url = urllib.parse.urlsplit(value)
        host, _ = url.hostname, url.port
    except ValueError:
        return "is not an address"
    if url.username is not None or url.password is not None:
        return (
            "must not hold a user name or a password, which every project's code could read: "
            "for a private index use index_secret"
        )
    if url.scheme not in ("http", "https") or not host or re.search(r"[\s,]", value):
        return "must be an address, https://HOST/…"
    return None


def addresses_fault(value: str) -> str | None:
    """Say what is wrong with a list of addresses."""
    return next(filter(None, map(address_fault, split_names(value))), None)


def bucket_fault(value: str) -> str | None:
    """Say what is wrong with a bucket's name (the S3 page "General purpose bucket naming rules")."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", value):
        return "must be 3 to 63 small letters, digits, dots and hyphens, with a letter or digit at both ends"
    if ".." in value or re.fullmatch(r"[0-9]+(\.[0-9]+){3}", value):
        return "must not hold two dots in a row, nor look like an IP address"
    if value.startswith(("xn--", "sthree-", "amzn-s3-demo-")):
        return "begins with a prefix that S3 keeps for itself"
    if value.endswith(("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3", "-an")):
        return "ends with a suffix that S3 keeps for itself"
    return None


def deployable_fault(value: str) -> str | None:
    """Say what is wrong with a list of names and patterns."""
    names = split_names(value)
    if not names:
        return "must name at least one function"
    bad = [name for name in names if not re.fullmatch(r"[A-Za-z0-9_*?-]{1,64}", name)]
    if bad:
        return (
            f"holds {', '.join(repr(name) for name in bad)}: give names of functions (not ARNs), or patterns "
            "with * and ?, separated by commas"
        )
    return None


def base_url_fault(value: str) -> str | None:
    """Say what is wrong with base_url.  Never repeats it: a password may stand in it."""
    if re.search(r"[\s\x00-\x1f\x7f\\]", value):
        return "must not hold spaces, backslashes or control characters"
    if re.fullmatch(r"[\w.-]+@[\w.-]+:(?!/)[\w./~-]*", value):
        return None
    try:
        url = urllib.parse.urlsplit(value)
        host, _ = url.hostname, url.port
    except ValueError:
        return "is not an address"
    if url.scheme not in ("https", "http", "ssh") or not host:
        return "must be https://HOST/ACCOUNT (or ssh://git@HOST/ACCOUNT, or git@HOST:ACCOUNT)"
    if url.password is not None or (url.username is not None and url.scheme != "ssh"):
        return "must not hold a user name or a password: use username and token_secret"
    if url.query or url.fragment or value.endswith(("?", "#")):
        return "must not hold a query or a fragment"
    return None


def secret_fault(value: str) -> str | None:
    """Say what is wrong with the name of a secret."""
    arn = r"(arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:)?"
    if re.fullmatch(arn + r"[A-Za-z0-9/_+=.@-]{1,512}", value):
        return None
    return "must be the name of a secret in Secrets Manager, or its ARN"


def known_hosts_fault(value: str) -> str | None:
    """Say what is wrong with SSH host keys."""
    key = r"(@\S+ )?\S+ (ssh-|ecdsa-|sk-)\S+ [A-Za-z0-9+/]+=*( .*)?"
    bad = [line for line in value.splitlines() if line and not re.fullmatch(key, line)]
    if bad:
        return f"is neither a file nor a host key: {bad[0][:60]!r}; ssh-keyscan HOST prints them"
    return None


def split_names(value: str) -> tuple[str, ...]:
    """Split a list of names, separated by commas or line ends."""
    return tuple(name.strip() for name in re.split(r"[,\n]", value) if name.strip())
