"""[tool.yo-dawg] of a project's pyproject.toml: what it may hold."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yo_dawg.errors import PackageError
from yo_dawg.text import nearest

KEYS: Mapping[str, type] = {"keep": list, "drop": list, "groups": list, "runtime_boto3": bool}
"""What [tool.yo-dawg] may hold."""


def read_table(project: Path) -> Mapping[str, Any]:
    """Read [tool.yo-dawg] of a project's pyproject.toml; raise PackageError for what makes no sense.

    What it may hold is in ``KEYS``: lists of patterns, of dependency groups, and the flag ``runtime_boto3``.
    """
    path = project / "pyproject.toml"
    text = path.read_bytes() if path.is_file() else b""
    if b"yo-dawg" not in text:
        return {}  # whatever else it may hold
    where = "[tool.yo-dawg] in pyproject.toml"
    try:
        tools = tomllib.loads(text.decode()).get("tool")
    except (ValueError, RecursionError) as error:
        raise PackageError(f"{where} cannot be read: that is not valid TOML: {error}.") from None
    table = tools.get("yo-dawg", {}) if isinstance(tools, dict) else {}
    if not isinstance(table, dict):
        raise PackageError(f"{where} is no table.")
    for name, value in table.items():
        if name not in KEYS:
            raise PackageError(f"{where} has no {name!r}{nearest(name, KEYS)}.")
        if KEYS[name] is bool and not isinstance(value, bool):
            raise PackageError(f"{name} in {where} must be true or false.")
        is_list = isinstance(value, list) and all(isinstance(each, str) and each.strip() for each in value)
        if KEYS[name] is list and not is_list:
            raise PackageError(f'{name} in {where} must be a list of texts, such as ["pkg/data/", "!*.json"].')
    return table
