"""The versions of projects whose builds ask git for them: Lambda has no git, and a checkout here has no history.

Each of these builds can be told, by a variable or a file.  They are told the version of the tag that was asked for or,
where there was none, ``0.1.dev1+gCOMMIT``, which is what setuptools-scm makes of a clone one commit deep.
"""

from __future__ import annotations

import configparser
import contextlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCM, PBR, PDM = "SETUPTOOLS_SCM_PRETEND_VERSION", "PBR_VERSION", "PDM_BUILD_SCM_VERSION"

VARIABLES = {
    r"setuptools[_-]scm|use_scm_version|vcs[_-]versioning|hatch-vcs|flit_scm": SCM,
    r"(?<![\w.-])pbr(?![\w-])": PBR,
    r"""source["']?\s*=\s*["']scm""": PDM,
    r"uv-dynamic-versioning": "UV_DYNAMIC_VERSIONING_BYPASS",
    r"poetry-dynamic-versioning": "POETRY_DYNAMIC_VERSIONING_BYPASS",
}
"""What in a project's settings says that its build asks git, and the variable that tells it instead."""

BY_FILE = ("setuptools-git-versioning", "setuptools_git_versioning")
"""Which builds read a PKG-INFO beside the project instead (as in a source distribution)."""

TAG_VERSION = re.compile(
    r"(?:.*[-_/])?v?(\d+(?:\.\d+)*(?:[-_.]?(?:a|b|c|rc|alpha|beta|pre|preview|post|dev)[-_.]?\d*)*)$", re.IGNORECASE
)
"""The version in a tag: 1.4.2, v1.4.2, name-1.4.2, release/1.4.2rc1."""


@dataclass(frozen=True)
class ToldVersion:
    """What the build of a folder is told."""

    folder: Path
    name: str
    """The project's."""
    version: str
    variables: Mapping[str, str]
    is_tag: bool

    @property
    def warnings(self) -> list[str]:
        """Say so if the version is none of a tag."""
        if self.is_tag:
            return []
        names = " or ".join(dict.fromkeys(self.variables)) or "a PKG-INFO"
        return [
            f"{self.name or 'the project'} asks git for its version, and no tag was asked for: it was built as "
            f"{self.version}. Build a tag, or state the version ({names} tells it)"
        ]


def told_version(folder: Path, tag: str, commit: str) -> ToldVersion | None:
    """Return what the build of a folder is to be told, and write it down where a file tells it.

    None if it does not ask git.
    """
    texts = [path.read_text(errors="replace") for name in FILES if (path := folder / name).is_file()]
    marks = "\n".join(texts)
    asks = [variable for mark, variable in VARIABLES.items() if re.search(mark, marks)]
    by_file = any(mark in marks for mark in BY_FILE)
    if (not asks and not by_file) or describes_itself(folder):
        return None
    found = TAG_VERSION.match(tag)
    version = found[1] if found else f"0.1.dev1+g{commit[:10]}"
    name = project_name(folder)
    if by_file and not (folder / "PKG-INFO").exists():
        (folder / "PKG-INFO").write_text(f"Metadata-Version: 2.1\nName: {name or 'project'}\nVersion: {version}\n")
    return ToldVersion(folder, name, version, dict.fromkeys(asks, version), found is not None)


FILES = ("pyproject.toml", "setup.cfg", "setup.py")


def describes_itself(folder: Path) -> bool:
    """Say whether git wrote a description into an archive of the project: builds read that where there is no .git."""
    path = folder / ".git_archival.txt"
    return path.is_file() and "$Format" not in path.read_text(errors="replace")


def project_name(folder: Path) -> str:
    """Return a project's name as its settings say it; "" if they do not."""
    with contextlib.suppress(OSError, ValueError, RecursionError, AttributeError, TypeError):
        document: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text(errors="replace"))
        name = document.get("project", {}).get("name") or document.get("tool", {}).get("poetry", {}).get("name")
        if name:
            return str(name)
    with contextlib.suppress(configparser.Error, ValueError):
        config = configparser.ConfigParser(interpolation=None)
        config.read(folder / "setup.cfg")
        name = config.get("metadata", "name", fallback="")
        if name:
            return name
    with contextlib.suppress(OSError):
        found = re.search(r"""\bname\s*=\s*["']([\w.-]+)["']""", (folder / "setup.py").read_text(errors="replace"))
        return found[1] if found else ""
    return ""
