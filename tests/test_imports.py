"""The handler stands outside of every package, so .importlinter cannot speak of it: this does."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from yo_dawg.workspace import HERE


def imported(text: str) -> set[str]:
    """Return the names of the modules that a source file imports, wherever in it."""
    nodes = [*ast.walk(ast.parse(text))]
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}


def test_the_handler_imports_nothing_of_the_workshop() -> None:
    names = imported((HERE / "lambda_function.py").read_text())
    assert "yo_dawg.control.workshop" in names, "else this shows nothing"
    assert [name for name in names if name.startswith("yo_dawg.workshop")] == []


@pytest.mark.parametrize("path", sorted((HERE / "yo_dawg").rglob("*.py")), ids=lambda path: path.name)
def test_nothing_imports_the_handler_nor_what_is_not_shipped(path: Path) -> None:
    names = {name.partition(".")[0] for name in imported(path.read_text())}
    assert names.isdisjoint({"lambda_function", "client", "local", "tests", "benchmarks"})


OURS = sorted(path for folder in ("yo_dawg", "client", "local") for path in (HERE / folder).rglob("*.py"))


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(HERE)))
def test_what_is_imported_by_a_dotted_name_is_used(path: Path) -> None:
    """A linter takes ``urllib.request`` for used where ``urllib.parse`` is, and each program takes longer to start."""
    tree = ast.parse(path.read_text())
    dotted = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if "." in alias.name and not alias.asname
    }
    used = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert dotted - used == set()
