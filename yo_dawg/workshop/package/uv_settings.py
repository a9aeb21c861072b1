"""uv's settings in a project: those that choose what is installed count, those that choose for what do not.

A package is for the builder's own interpreter and platform.  A project's [tool.uv.pip] may well name another Python,
for its developers' lock files; wheels of that would be deployed, and fail.  So uv gets a file with the settings that
count, which takes the place of all that it would find by itself (uv's reference, "Configuration files").
"""

from __future__ import annotations

import datetime
import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yo_dawg.errors import DependencyError

PLACES = frozenset({"find-links", "index-url", "extra-index-url", "index"})
"""Settings that may name a folder, relative to the file that they stand in."""

COUNTING = PLACES | {
    "all-extras", "allow-insecure-host", "build-constraint-dependencies", "config-settings", "config-settings-package",
    "constraint-dependencies", "dependency-metadata", "exclude-dependencies", "exclude-newer", "exclude-newer-package",
    "extra", "extra-build-dependencies", "extra-build-variables", "fork-strategy", "index-strategy", "no-binary",
    "no-binary-package", "no-build", "no-build-isolation", "no-build-isolation-package", "no-build-package", "no-extra",
    "no-index", "no-sources", "no-sources-package", "no-verify-hashes", "only-binary", "override-dependencies",
    "prerelease", "prerelease-package", "require-hashes", "resolution", "verify-hashes",
}  # fmt: skip
"""Settings that say what is installed, and from where."""

OF_DEVELOPERS = frozenset({
    "cache-dir", "cache-keys", "concurrent-builds", "concurrent-downloads", "concurrent-installs", "compile-bytecode",
    "conflicts", "default-groups", "dependency-groups", "dev-dependencies", "environments", "generate-hashes",
    "keyring-provider", "link-mode", "managed", "native-tls", "offline", "package", "pip", "preview",
    "preview-features", "publish-url", "python-downloads", "python-install-mirror", "python-preference",
    "pypy-install-mirror", "reinstall", "reinstall-package", "required-environments", "required-version", "sources",
    "system-certs", "trusted-publishing", "upgrade", "upgrade-package", "workspace", "build-backend", "check-url",
    "emit-build-options", "emit-find-links", "emit-index-annotation", "emit-index-url", "emit-marker-expression",
    "annotation-style", "custom-compile-command", "no-annotate", "no-emit-package", "no-header", "no-strip-extras",
    "no-strip-markers", "output-file", "strict", "system", "break-system-packages", "no-cache",
})  # fmt: skip
"""Settings that have no say in what a package holds, or that uv reads from the project itself: nobody need be told."""


BUILD_VARIABLES = "extra-build-variables"


@dataclass(frozen=True)
class UvSettings:
    """A project's settings of uv, less those that do not count."""

    counting: Mapping[str, Any]
    """What counts."""
    ignored: tuple[str, ...] = ()
    """The names of what does not count."""

    def with_build_variables(self, variables: Mapping[str, Mapping[str, str]]) -> str:
        """Return what counts, as a uv.toml, with more variables for the builds of some projects, by their names."""
        own = self.counting.get(BUILD_VARIABLES, {})
        merged = {name: {**each, **(own.get(name, {}))} for name, each in variables.items()}
        everything = {**self.counting, BUILD_VARIABLES: {**own, **merged}} if variables else self.counting
        return "".join(f"{json.dumps(name)} = {as_toml(value)}\n" for name, value in sorted(everything.items()))

    @property
    def warnings(self) -> list[str]:
        """Say what does not count."""
        if not self.ignored:
            return []
        return [
            f"uv's settings {', '.join(self.ignored)} of this project do not count here: packages are installed for "
            "the builder's own Python and platform"
        ]


def read_uv_settings(project: Path, boundary: Path) -> UvSettings:
    """Read the settings that uv would find for a project, in its folder or above it, up to the boundary.

    Raises DependencyError for a file that is no TOML.
    """
    for folder in [each for each in (project, *project.parents) if each.is_relative_to(boundary)]:
        for path in (folder / "uv.toml", folder / "pyproject.toml"):
            table = uv_table(path)
            if table is not None:
                return filtered(table, folder)
    return UvSettings({})


def uv_table(path: Path) -> Mapping[str, Any] | None:
    """Return uv's settings in a file; None if there are none."""
    if not path.is_file():
        return None
    try:
        table: Any = tomllib.loads(path.read_text(errors="surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise DependencyError(f"{path.name} is not valid TOML: {str(error)[:300]}.") from None
    if path.name == "pyproject.toml":
        tools = table.get("tool")
        table = tools.get("uv") if isinstance(tools, dict) else None
    return table if isinstance(table, dict) else None


def filtered(table: Mapping[str, Any], folder: Path) -> UvSettings:
    """Keep of uv's settings, which stand in a folder, those that count."""
    ignored = set()

    def kept(settings: Mapping[str, Any], where: str) -> dict[str, Any]:
        counting = {}
        for name, value in settings.items():
            if name in COUNTING:
                counting[name] = from_root(value, folder) if name in PLACES else value
            elif name not in OF_DEVELOPERS:
                ignored.add(f"{where}{name}")
        return counting

    pip = table.get("pip")
    everything = kept(table, "")
    if isinstance(pip, dict):
        everything["pip"] = kept(pip, "pip.")
    return UvSettings(everything, tuple(sorted(ignored)))


def from_root(value: Any, folder: Path) -> Any:
    """Return the addresses and folders in a setting's value, folders from the root on."""
    if isinstance(value, list):
        return [from_root(each, folder) for each in value]
    if isinstance(value, dict):
        return {name: from_root(each, folder) if name == "url" else each for name, each in value.items()}
    if isinstance(value, str) and "://" not in value:
        return os.path.normpath(folder / value)
    return value


def as_toml(value: Any) -> str:
    """Write a value that tomllib has read as TOML, on one line."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{json.dumps(name)} = {as_toml(each)}' for name, each in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(as_toml, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return str(value)
    text = value.isoformat() if isinstance(value, datetime.date) else str(value)  # a date is a text to uv
    # JSON's escapes are TOML's, but for this one, which JSON leaves as it is.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
