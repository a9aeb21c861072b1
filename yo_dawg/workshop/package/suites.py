"""Which test suites of dependencies other code imports."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

# A hostile file is made to be searched for ever: no part of these matches twice what a part before it may have matched
# (*+ and ++ take all or nothing), so each takes time in proportion to the text.
IMPORT = re.compile(
    r"(?:^|[;:])[ \t]*+(?:from[ \t]++([.\w]++)[ \t]++import[ \t]*+(\([^()]*+\)|(?:\\\n|[^\n;])*+)"
    r"|import[ \t]++([^\n;]*+))",
    re.MULTILINE,
)

COMMENT = re.compile(r"#[^\n]*+")

STRING = re.compile(r"""["']([\w.]*+)(/[^"'\n]*+)?+(?=["'])""")

MAX_NAME = 300
"""A longer dotted name is no module's."""

MAX_SOURCE = 2_000_000
"""Characters; nobody writes longer modules, and what follows is data, or bait."""

TESTS = re.compile(r"tests?(?!\w)")

ENTRY_POINT = re.compile(r"^[^=\n]+=\s*([\w.]+)", re.MULTILINE)


def imported_suites(text: str, name: str, suites: set[str]) -> dict[str, str]:
    """Return the test suites that a source file imports, or names in a string, and why they are to be kept.

    numpy.testing needs numpy._core.tests, and not before it is called; networkx once imported its
    own tests: a folder's name alone proves nothing.
    """
    text = text[:MAX_SOURCE]
    # Most files speak neither of tests nor of a package that has some: what they import need not be known.
    tops = {suite: suite.partition("/")[0] for suite in suites}
    near = [suite for suite, top in tops.items() if name.startswith(f"{top}/") or top in text]
    found = near and speaks_of_tests(text)
    modules = {suite.replace("/", "."): suite for suite in near}
    kept: dict[str, str] = {}
    for each in mentioned_modules(text, name) if found else ():
        if "test" in each and len(each) <= MAX_NAME:
            parts = each.split(".")
            above = (".".join(parts[:count]) for count in range(1, len(parts) + 1))
            kept |= {modules[module]: f"imported by {name}" for module in above if module in modules}
    return kept


def speaks_of_tests(text: str) -> bool:
    """Say whether a text has the word.  What begins with it is found five times as quickly as what begins with \\b."""
    return any(not re.match(r"\w", text[found.start() - 1 : found.start()]) for found in TESTS.finditer(text))


def mentioned_modules(text: str, name: str) -> Iterator[str]:
    """Yield the dotted names, absolute, of modules that a source file imports or names in a string.

    A regular expression, since parsing all of pandas takes as long as installing it.
    """
    if name.endswith(".txt"):
        yield from ENTRY_POINT.findall(text)
        return
    yield from imported_modules(text, name)
    package = PurePosixPath(name).parent.parts
    for each, path in STRING.findall(text):
        if len(each) <= MAX_NAME and names_tests(each, bool(path)):
            # "dep.tests.data" as it is; ".tests" and "tests/data.json" are beside the file.
            yield each if "." in each.strip(".") else ".".join([*package, each.strip(".")])


def names_tests(text: str, is_path: bool) -> bool:
    """Say whether a string may name a test suite: "dep.tests.data" does, ".tests", and the "tests" of "tests/data"."""
    parts = text.split(".")
    last = max((place for place, part in enumerate(parts) if part in ("test", "tests")), default=-1)
    return (last > 0 and all(parts[last + 1 :])) or (is_path and last == 0 and len(parts) == 1)


def imported_modules(text: str, name: str) -> Iterator[str]:
    """Yield the dotted names, absolute, of what a source file imports, wherever in it: modules, and what is in them."""
    package = list(PurePosixPath(name).parent.parts)
    for found in IMPORT.finditer(COMMENT.sub("", text)):
        origin, names, plain = found.groups(default="")
        if plain:
            yield from (part.split(" as ")[0].strip() for part in plain.split(","))
            continue
        stripped = origin.lstrip(".")
        up = len(origin) - len(stripped)
        base = package[: len(package) - (up - 1)] if up else []
        module = ".".join([*base, *([stripped] if stripped else [])])
        yield module
        for each in re.findall(r"\w+", names):
            yield f"{module}.{each}" if module else each
