"""deploy.sh report: a page about a function's package, its build and its history."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from client.contents import Contents, read_contents
from client.faults import Fault
from client.history import read_ledger
from client.main import App
from client.output import write_output
from client.stored import (
    address,
    describe_running,
    fetch_package,
    function_name,
    package_key,
    read_json,
    told_of_package,
)

NOT_DEPLOYED = ("failed", "interrupted", "running")
"""Outcomes after which a function does not run the package that was built."""


@dataclass
class Report:
    """What the page tells."""

    function: str
    history: Sequence[Mapping[str, Any]]
    """The newest first; who builds now before all."""
    entry: Mapping[str, Any]
    """Of the last deployment that stands."""
    contents: Contents | None = None
    """What is in its package; None if that cannot be had."""
    told: Mapping[str, Any] = field(default_factory=dict)
    """What the build that made the package told of it."""
    before: Contents | None = None
    """The package that it replaced."""
    built: Mapping[str, Any] = field(default_factory=dict)
    """The last build that stands."""
    seconds: Mapping[str, Any] = field(default_factory=dict)
    """Of each of its stages."""
    notes: list[str] = field(default_factory=list)
    """What cannot be told, and why."""


@click.command("report")
@click.argument("function", metavar="FUNCTION")
@click.option(
    "--output", type=click.Path(path_type=Path), metavar="FILE", help="Default: report-FUNCTION.html in this folder."
)
@click.pass_obj
def command(app: App, /, function: str, output: Path | None) -> None:
    """Write a page about FUNCTION: its package as a map, what changed in it, its build and its history.

    The page needs no network, and runs no code.  One that is there is replaced.
    """
    from client.page import page

    name = function_name(function)
    report = gather(app, function, name)
    write_output(app, output or Path(f"report-{name}.html"), page(report), function=name)


def gather(app: App, function: str, name: str) -> Report:
    """Return what is known of a function; raise Fault if nothing was ever deployed."""
    ledger = read_ledger(app, function)
    history: list[Mapping[str, Any]] = list(ledger["history"])
    standing = [each for each in history if each.get("code_sha256") and each.get("status") not in NOT_DEPLOYED]
    if not standing:
        raise Fault(
            f'nothing was deployed to {name} yet, so there is nothing to tell. "./deploy.sh history {name}" '
            "shows what was tried."
        )
    running = [ledger["holder"]] if ledger.get("holder") else []
    report = Report(name, [*running, *history], standing[0])
    code = str(standing[0]["code_sha256"])
    for step in (add_package, add_before, add_build, add_running):
        try:
            step(app, report, code, standing)
        except Fault as fault:
            report.notes.append(str(fault))
    return report


def add_package(app: App, report: Report, code: str, _: Sequence[Mapping[str, Any]]) -> None:
    """Add what is in the package."""
    report.contents = contents_of(app, report.function, code)
    report.told = told_of_package(app, report.function, code)


def add_before(app: App, report: Report, code: str, standing: Sequence[Mapping[str, Any]]) -> None:
    """Add what is in the package that ran before."""
    same = (each for each in standing if each["code_sha256"] == code and each.get("replaces") not in (None, code))
    if entry := next(same, None):
        report.before = contents_of(app, report.function, str(entry["replaces"]))


def contents_of(app: App, function: str, code: str) -> Contents:
    """Return what is in a package; raise Fault if it cannot be had."""
    zipped = fetch_package(app, function, code)
    where = address(app, package_key(function, code))
    if zipped is None:
        raise Fault(f"{where} is not stored any more.")
    with zipped:
        return read_contents(zipped, where)


def add_build(app: App, report: Report, code: str, standing: Sequence[Mapping[str, Any]]) -> None:
    """Add what the last build's record tells."""
    for entry in builds(standing):
        result = (read_json(app, f"{entry['record']}.json") or {}).get("result")
        if not isinstance(result, dict):
            raise Fault(f"the record {address(app, entry['record'])}.json is not there any more.")
        report.built, report.seconds = entry, mapping(result.get("seconds"))
        if result.get("code_sha256") == code:
            report.told = {**report.told, **result}


def builds(standing: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield the last entry that is no rollback, if there is one."""
    found = (each for each in standing if str(each.get("title", "")).startswith("build") and each.get("record"))
    yield from [*found][:1]


def add_running(app: App, report: Report, code: str, _: Sequence[Mapping[str, Any]]) -> None:
    """Add a note if the function runs something else."""
    runs = describe_running(app, report.function).get("CodeSha256")
    if runs != code:
        report.notes.append(f"{report.function} runs {runs} now, which somebody has deployed in another way.")


def mapping(value: object) -> Mapping[str, Any]:
    """Return a value of JSON if it is an object; else nothing."""
    return value if isinstance(value, dict) else {}
