"""The builder's answers, written for people."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

FORESEEN = (
    "RequestError", "ConfigError", "NotBootstrapped", "SourceError", "DependencyError", "BuildScriptError",
    "PackageError", "DeployError", "BuildInProgress", "DeadlineError",
)  # fmt: skip
"""Errors whose message stands alone (contract §5).  Any other one needs its traceback and the log."""


def error_lines(answer: object, invocation: Mapping[str, Any]) -> Iterator[str]:
    """Write an error for people: its message, and what was not foreseen with all there is to know."""
    error = answer if isinstance(answer, dict) else {"errorMessage": answer}
    error_type = error.get("errorType") or invocation["FunctionError"]
    yield f"{error_type}: {error.get('errorMessage') or 'no message'}"
    if error_type in FORESEEN:
        return
    trace = error.get("stackTrace")
    if isinstance(trace, list) and trace:
        yield "Traceback:"
        yield "".join(str(line) for line in trace).rstrip()
    log = base64.b64decode(invocation.get("LogResult") or "").decode("utf-8", "replace").strip()
    if log:
        yield f"The end of its log:\n{log}"


def summary(answer: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """Write a result (contract §5) so that it fits a screen."""
    toolchain, package = answer.get("toolchain") or {}, answer.get("package") or {}
    rows: list[tuple[str, object]] = [
        ("status", answer["status"]),
        ("function", answer.get("function") if "functions" not in answer else None),
        *(("function", told_outcome(name, each)) for name, each in answer.get("functions", {}).items()),
        ("commit", join(answer.get("commit"), answer.get("ref"))),
        ("code", answer.get("code_sha256")),
        ("version", join(answer.get("version"), answer.get("alias"))),
        ("size", sizes(package)),
        ("largest", ", ".join(f"{name} {megabytes(each)}" for name, each in package.get("largest", [])[:4])),
        ("dependencies", counted(answer.get("dependencies"))),
        ("pruned", pruned(answer.get("pruned") or {})),
        ("package", package.get("s3_uri")),
    ]
    rows += [
        ("toolchain", toolchain.get("s3_uri")),
        ("packages", counted(toolchain.get("packages"))),
        ("log", answer.get("log")),
        ("seconds", seconds(answer.get("seconds") or {})),
    ]
    rows += [("warning", warning) for warning in answer.get("warnings") or []]
    yield from rows


def told_outcome(name: str, outcome: Mapping[str, Any]) -> str:
    """Write what became of one of several functions."""
    return f"{name}: {outcome['status']}, version {join(outcome['version'], outcome['alias'])}"


def history_row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Write an entry of a ledger."""
    when = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(entry["began"]))
    error = f": {entry['error'].partition(':')[0]}" if entry.get("error") else ""
    return (
        when,
        entry["status"],
        (entry.get("commit") or "-")[:12],
        entry.get("ref") or "-",
        join(entry.get("version"), entry.get("alias")) or "-",
        (entry.get("code_sha256") or "-")[:12],
        entry.get("asked_by") or "-",
        entry["title"] + error,
    )


def join(value: object, more: object) -> str:
    """Write a value with another one in brackets after it, if they are there."""
    return f"{value} ({more})" if value and more else str(value or "")


def sizes(package: Mapping[str, Any]) -> str:
    """Write a package's sizes."""
    if "zip_bytes" not in package:
        return ""
    zipped, unzipped = megabytes(package.get("zip_bytes")), megabytes(package.get("unzipped_bytes"))
    return f"{zipped} zipped, {unzipped} unzipped, {package.get('files', 0)} files"


def megabytes(count: object) -> str:
    """Write a number of bytes for people."""
    if not isinstance(count, int | float):
        return "?"
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1e3:.1f} kB"


def counted(names: Sequence[str] | None) -> str:
    """Write a list with its length; a long one without its end."""
    if names is None:
        return ""
    shown = ", ".join(map(str, names[:6]))
    return f"{len(names)}" + (f": {shown}" if names else "") + (", …" if len(names) > 6 else "")


def pruned(what: Mapping[str, Any]) -> str:
    """Write what was pruned."""
    return f"{what['files']} files, {megabytes(what.get('bytes'))}" if what.get("files") else ""


def seconds(spent: Mapping[str, Any]) -> str:
    """Write the seconds of all stages, and of each."""
    parts = ", ".join(f"{name} {value}" for name, value in spent.items() if name != "total")
    return join(spent.get("total"), parts)
