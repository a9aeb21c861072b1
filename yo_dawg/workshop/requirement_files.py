"""Where a project says what it needs: which file counts, and which ones nobody reads."""

from __future__ import annotations

import codecs
import configparser
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from yo_dawg.errors import DependencyError
from yo_dawg.workshop.own_settings import read_table

REQUIREMENT_FILES = ("requirements.txt", "pylock.toml", "uv.lock", "pyproject.toml", "setup.py", "setup.cfg")
"""Where a project may say what it needs; the first one that does counts (contract §6)."""

UNREAD = {
    "poetry.lock": "export it as requirements.txt",
    "Pipfile": "export it as requirements.txt",
    "Pipfile.lock": "export it as requirements.txt",
    "pdm.lock": "export it as requirements.txt",
    "environment.yml": "write a requirements.txt",
    "requirements.in": "compile it to requirements.txt",
    "src/requirements.txt": "move it to requirements.txt, or name it there with -r",
    "requirements/*.txt": "name the right one with -r in requirements.txt",
    "requirements-*.txt": "name the right one with -r in requirements.txt",
}
"""Files in which nobody looks for requirements, and what would make them count."""


def find_requirements(project: Path) -> Path | None:
    """Return the file in which a project says what it needs, or None; raise DependencyError."""
    return next(
        (project / name for name in REQUIREMENT_FILES if (project / name).is_file() and says(project, name)), None
    )


def says(project: Path, name: str) -> bool:
    """Say whether a file that may hold more than requirements holds some."""
    if name == "pyproject.toml":
        return has_dependencies(project / name)
    if name == "setup.py":
        texts = [
            (project / each).read_text(errors="replace") for each in (name, "setup.cfg") if (project / each).is_file()
        ]
        return any(re.search(r"\binstall_requires\b|\brequires\s*=", text) for text in texts)
    return name != "setup.cfg" or bool(setup_cfg_requirements(project))


def has_dependencies(path: Path) -> bool:
    """Say whether a pyproject.toml names dependencies, or has its build name them; raise DependencyError."""
    document = read_toml(path)
    project = document.get("project")
    if isinstance(project, dict):
        return bool(project.get("dependencies")) or "dependencies" in project.get("dynamic", ())
    return "build-system" in document and bool(poetry_dependencies(document))


def poetry_dependencies(document: dict[str, Any]) -> set[str]:
    """Return the names in Poetry's own table of dependencies, other than Python's."""
    tools = document.get("tool")
    poetry = tools.get("poetry") if isinstance(tools, dict) else None
    table = poetry.get("dependencies") if isinstance(poetry, dict) else None
    return set(table) - {"python"} if isinstance(table, dict) else set()


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; raise DependencyError."""
    try:
        return tomllib.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise DependencyError(f"{path.name} is not valid TOML: {str(error)[:300]}.") from None


def setup_cfg_requirements(project: Path) -> list[str]:
    """Return what a setup.cfg requires, as lines of a requirements file; raise DependencyError.

    Without a setup.py or pyproject.toml beside it, no installer takes it for a project.
    """
    config = configparser.ConfigParser(interpolation=None)
    try:
        config.read_string((project / "setup.cfg").read_text(errors="replace"))
    except configparser.Error as error:
        raise DependencyError(f"setup.cfg cannot be read: {str(error).splitlines()[0][:300]}.") from None
    text = config.get("options", "install_requires", fallback="").strip()
    if text.startswith("file:"):
        paths = [project / each.strip() for each in text.removeprefix("file:").split(",")]
        missing = [path.name for path in paths if not path.is_file()]
        if missing:
            raise DependencyError(f"setup.cfg reads its requirements from {missing[0]}, which is not there.")
        text = "\n".join(path.read_text(errors="replace") for path in paths)
    return [line.strip() for line in text.splitlines() if line.strip()]


def dependency_groups(project: Path) -> list[str]:
    """Return the dependency groups (PEP 735) that the project wants installed; raise PackageError."""
    return list(read_table(project).get("groups", []))


def unread_requirements(project: Path) -> list[str]:
    """Return warnings if a project says what it needs only where nobody reads it."""
    if find_requirements(project) or dependency_groups(project):
        return []
    found = [(path.relative_to(project).as_posix(), advice) for path, advice in unread_files(project)]
    if found:
        names = ", ".join(name for name, _ in found[:5])
        return [f"{names} {'is' if len(found) == 1 else 'are'} not read, and nothing was installed: {found[0][1]}"]
    path = project / "pyproject.toml"
    document = read_toml(path) if path.is_file() else {}
    if poetry_dependencies(document):
        return [
            "Poetry's table in pyproject.toml is not read without a [build-system], and nothing was installed: add it"
        ]
    if groups := document.get("dependency-groups"):
        return [
            f"the dependency groups in pyproject.toml ({', '.join(sorted(groups)[:5])}) are not installed unless "
            "[tool.yo-dawg] names them: groups = […]"
        ]
    return []


def unread_files(project: Path) -> Iterable[tuple[Path, str]]:
    """Yield the files in which nobody looks for requirements, and what would make each count."""
    for pattern, advice in UNREAD.items():
        yield from ((path, advice) for path in sorted(project.glob(pattern)) if path.is_file())
    for path in sorted(project.iterdir()):
        if path.name != "requirements.txt" and path.name.lower() == "requirements.txt" and path.is_file():
            yield path, "rename it to requirements.txt"


def is_own_package(project: Path, modules: Iterable[str]) -> bool:
    """Say whether a handler lies in the project's own package in src/, which has to be installed to be found.

    As ``pip install .`` would; where a make_dist.sh says what is shipped, that is not so.
    """
    path = project / "pyproject.toml"
    if (project / "make_dist.sh").is_file() or not path.is_file():
        return False
    try:
        document = read_toml(path)
    except DependencyError:
        return False  # whoever needs it says so
    tops = {module.replace("/", ".").partition(".")[0] for module in modules}

    def is_in(folder: Path) -> bool:
        return any((folder / top).is_dir() or (folder / f"{top}.py").is_file() for top in tops)

    return {"project", "build-system"} <= document.keys() and is_in(project / "src") and not is_in(project)


def uncommented(line: str) -> str:
    """Return a line of a requirements file without its comment; an address may hold a "#"."""
    return re.sub(r"(^|\s)#.*", "", line)


def read_requirements(path: Path) -> str:
    """Return the text of a requirements file, also of one in UTF-16, as PowerShell writes them."""
    content = path.read_bytes()
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16", errors="replace") if is_utf16 else content.decode(errors="surrogateescape")


def whole_lines(text: str) -> list[str]:
    """Return the lines of a requirements file, those that go on in the next one as one."""
    return re.sub(r"\\\r?\n", " ", text).splitlines()
