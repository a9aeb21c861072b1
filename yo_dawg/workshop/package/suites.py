"""Which test suites of dependencies other code imports."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

IMPORT = re.compile(
    r"(?:^|[;:])[ \t]*(?:from[ \t]+([.\w]+)[ \t]+import[ \t]*(\([^)]*\)|(?:\\\n|[^\n;])*)|import[ \t]+([^\n;]*))",
    re.MULTILINE,
)

TEST_STRING = re.compile(r"""["']((?:\w*\.)+tests?(?:\.\w+)*|tests?(?=/))(?:/[^"'\n]*)?["']""")

TESTS = re.compile(r"tests?(?!\w)")

ENTRY_POINT = re.compile(r"^[^=\n]+=\s*([\w.]+)", re.MULTILINE)


def imported_suites(text: str, name: str, suites: set[str]) -> dict[str, str]:
    """Return the test suites that a source file imports, or names in a string, and why they are to be kept.

    numpy.testing needs numpy._core.tests, and not before it is called; networkx once imported its
    own tests: a folder's name alone proves nothing.
    """
    # Most files speak neither of tests nor of a package that has some: what they import need not be known.
    tops = {suite: suite.partition("/")[0] for suite in suites}
    near = [suite for suite, top in tops.items() if name.startswith(f"{top}/") or top in text]
    found = near and speaks_of_tests(text)
    mentioned = {each for each in mentioned_modules(text, name) if "test" in each} if found else set()
    return {suite: f"imported by {name}" for suite in near if is_mentioned(suite.replace("/", "."), mentioned)}


def speaks_of_tests(text: str) -> bool:
    """Say whether a text has the word.  What begins with it is found five times as quickly as what begins with \\b."""
    return any(not re.match(r"\w", text[found.start() - 1 : found.start()]) for found in TESTS.finditer(text))


def is_mentioned(suite: str, mentioned: set[str]) -> bool:
    """Say whether a module, or one inside it, is among those mentioned."""
    return any(each == suite or each.startswith(f"{suite}.") for each in mentioned)


def mentioned_modules(text: str, name: str) -> Iterator[str]:
    """Yield the dotted names, absolute, of modules that a source file imports or names in a string.

    A regular expression, since parsing all of pandas takes as long as installing it.
    """
    if name.endswith(".txt"):
        yield from ENTRY_POINT.findall(text)
        return
    yield from imported_modules(text, name)
    package = PurePosixPath(name).parent.parts
    for each in TEST_STRING.findall(text):
        # "dep.tests.data" as it is; ".tests" and "tests/data.json" are beside the file.
        yield each if "." in each.strip(".") else ".".join([*package, each.strip(".")])


def imported_modules(text: str, name: str) -> Iterator[str]:
    """Yield the dotted names, absolute, of what a source file imports, wherever in it: modules, and what is in them."""
    package = list(PurePosixPath(name).parent.parts)
    for origin, names, plain in IMPORT.findall(text):
        if plain:
            yield from (part.split(" as ")[0].strip() for part in plain.split("#")[0].split(","))
            continue
        stripped = origin.lstrip(".")
        up = len(origin) - len(stripped)
        base = package[: len(package) - (up - 1)] if up else []
        module = ".".join([*base, *([stripped] if stripped else [])])
        yield module
        for each in re.findall(r"\w+", re.sub(r"#.*", "", names)):
            yield f"{module}.{each}" if module else each
