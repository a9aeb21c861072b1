"""The page of a report, section by section."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

from client.answers import history_row, join, megabytes, sizes
from client.changes import PROJECT, compare, sizes_by_owner, versions
from client.history import COLUMNS
from client.markup import bars, element, table, write_page
from client.treemap import draw, make_tree

if TYPE_CHECKING:
    from client.report import Report

STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1200px; padding: 0 1rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.2rem; }
svg { display: block; max-width: 100%; } svg svg { display: inline; }
.treemap { width: 100%; } .treemap rect { stroke: #fff; stroke-width: 1; } .treemap text { font-size: 11px; }
.bars rect { fill: #4682b4; } .bars text { fill: currentColor; font-size: 13px; }
.wide { overflow-x: auto; } table { border-collapse: collapse; }
th, td { border-bottom: 1px solid #8884; padding: .2rem .8rem .2rem 0; text-align: left; white-space: nowrap; }
.number { font-variant-numeric: tabular-nums; text-align: right; }
.note { background: #fc38; padding: .4rem .8rem; } .quiet { opacity: .75; }
code { overflow-wrap: anywhere; }
"""

MAX_ROWS = 500
"""Of the table of changes, and of distributions."""


def page(report: Report) -> str:
    """Return the page."""
    title = f"{report.function}: its package"
    return write_page(
        title,
        STYLE,
        element("h1", title),
        *head(report),
        *package(report),
        *changes(report),
        *stages(report),
        *imports(report),
        element("h2", "History"),
        table(list(COLUMNS), [list(history_row(each)) for each in report.history]),
    )


def head(report: Report) -> Iterator[Element]:
    """Yield what the package is, and what cannot be told."""
    entry = report.entry
    commit = join(entry.get("commit"), entry.get("ref"))
    when = history_row(entry)[0]
    yield element("p", f"{str(entry['status']).capitalize()} {when}: {entry['title']}")
    yield element("p", "commit ", element("code", commit or "?"), ", code ", element("code", str(entry["code_sha256"])))
    told = report.told.get("package")
    if isinstance(told, dict) and (text := sizes(told)):
        yield element("p", text)
    for note in report.notes:
        yield element("p", note, class_="note")


def package(report: Report) -> Iterator[Element]:
    """Yield the map of the package, and its distributions."""
    if report.contents is None:
        return
    contents = report.contents
    pruned = report.told.get("pruned")
    reasons = dict(numbers(pruned.get("reasons"))) if isinstance(pruned, dict) else {}
    taken = {name: int(count) for name, count in reasons.items() if count >= 1}
    tree = make_tree(contents.sizes, contents.owners(), PROJECT, taken)
    yield element("h2", "Package")
    yield element(
        "p",
        f"{len(contents.sizes)} files, {megabytes(sum(contents.sizes.values()))} unzipped. ",
        f"Grey is what pruning took: {megabytes(sum(taken.values()))}." if taken else "Pruning took nothing.",
        class_="quiet",
    )
    yield draw(tree)
    known = versions(contents)
    parts = sizes_by_owner(contents).most_common(MAX_ROWS)
    rows = [[name, known.get(name, ""), megabytes(count)] for name, count in parts]
    listed = element("details", element("summary", f"{len(rows)} parts"), table(["part", "version", "bytes"], rows, 1))
    yield listed


def changes(report: Report) -> Iterator[Element]:
    """Yield what changed since the package before."""
    if report.contents is None or report.before is None:
        return
    yield element("h2", "Since the package before")
    found = compare(report.before, report.contents)
    rows = [[each.what, each.name, each.before, each.now, signed(each.bytes)] for each in found[:MAX_ROWS]]
    more = sum(report.contents.sizes.values()) - sum(report.before.sizes.values())
    yield element("p", f"{len(found)} parts changed; {signed(more)} unzipped.")
    yield table(["", "part", "before", "now", "bytes"], rows, 1)


def stages(report: Report) -> Iterator[Element]:
    """Yield the stages of the last build."""
    spent = [(name, value, f"{value:.3f} s") for name, value in numbers(report.seconds) if name != "total"]
    if not spent:
        return
    yield element("h2", "Stages of the last build")
    total = dict(numbers(report.seconds)).get("total", sum(value for _, value, _ in spent))
    yield element("p", f"{history_row(report.built)[0]}: {total:.3f} s", class_="quiet")
    yield bars(spent, "Seconds of each stage")


def imports(report: Report) -> Iterator[Element]:
    """Yield how long the imports of the handler took."""
    told = report.told.get("imports")
    found = [
        (str(each[0]), each[1] / 1000, f"{each[1] / 1000:.1f} ms")
        for each in (told if isinstance(told, list) else [])
        if isinstance(each, list) and len(each) == 2 and isinstance(each[1], int)
    ]
    if not found:
        return
    yield element("h2", "Imports of the handler")
    yield element(
        "p",
        "What each module's import took in the builder, with all that it imports itself. "
        "A function with less memory takes longer.",
        class_="quiet",
    )
    yield bars(sorted(found, key=lambda each: (-each[1], each[0])), "Milliseconds of each import")


def numbers(value: object) -> Iterator[tuple[str, float]]:
    """Yield names and numbers of a JSON object, as far as that is what it holds."""
    for name, count in value.items() if isinstance(value, Mapping) else ():
        if isinstance(count, int | float) and 0 <= count < 1e15:
            yield str(name), float(count)


def signed(count: int) -> str:
    """Write a difference in bytes for people."""
    return f"{'-' if count < 0 else '+'}{megabytes(abs(count))}"
