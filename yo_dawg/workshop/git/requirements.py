"""What a project requires from Git."""

from __future__ import annotations

import contextlib
import os
import re
import tomllib
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yo_dawg.checkout import Required
from yo_dawg.errors import DependencyError, SourceError
from yo_dawg.events import subdirectory_fault
from yo_dawg.text import MAX_LINE, printable
from yo_dawg.workshop.git.addresses import related_source
from yo_dawg.workshop.git.checkout import remove_outside_links, summary
from yo_dawg.workshop.git.repository import Wanted, check_out
from yo_dawg.workshop.requirement_files import find_requirements, uncommented, whole_lines

if TYPE_CHECKING:
    from yo_dawg.checkout import Source

MAX_REQUIRED = 64
"""What a repository may consist of, and how many others a project may require.  A few nested trees
can else spell out more files than there are atoms."""

GIT_REQUIREMENT = re.compile(
    r"""(?P<quote>["'])?(?:(?P<name>[A-Za-z0-9][\w.-]*)\s*(?P<extras>\[[^\]]*\])?\s*@\s*)?"""
    r"""git\+(?P<scheme>[a-z]+)://(?P<user>[^\s/@"']*@)?(?P<place>[^\s@#;"']+)"""
    r"""(?:@(?P<ref>[^\s#;"']+))?(?:\#(?P<fragment>[^\s;"']*))?"""
    r"""(?:\s*;\s*(?P<marker>(?:(?!(?P=quote)).)+))?"""
)
"""NAME[EXTRAS] @ git+URL@REF#subdirectory=… ; MARKER, also without a name, and within quotes."""


@dataclass(frozen=True)
class GitRequirement:
    """A requirement that is a Git repository."""

    name: str
    extras: str
    url: str
    ref: str | None
    subdirectory: str
    marker: str

    @classmethod
    def find(cls, line: str) -> Iterator[GitRequirement]:
        """Yield those in a line of a requirements file, or of a program."""
        for found in GIT_REQUIREMENT.finditer(line) if "git+" in line and len(line) <= MAX_LINE else ():
            fragment = dict(urllib.parse.parse_qsl(found["fragment"] or ""))
            egg = re.match(r"([\w.-]*)(\[.*\])?", fragment.get("egg", ""))
            user = found["user"] or ""
            if found["scheme"] == "https" and (":" not in user or "${" in user):
                user = ""  # pip takes credentials from variables; here they come from the secret
            yield cls(
                name=found["name"] or (egg[1] if egg else ""),
                extras=found["extras"] or (egg[2] if egg else "") or "",
                url=f"{found['scheme']}://{user}{found['place']}",
                ref=found["ref"],
                subdirectory=fragment.get("subdirectory", "").strip("/"),
                marker=(found["marker"] or "").strip(),
            )

    def at(self, folder: str) -> str:
        """Return the requirement as one of the folder (file://…) that it was fetched into."""
        what = f"{self.name}{self.extras} @ {folder}" if self.name else f"{folder}{self.extras}"
        return f"{what} ; {self.marker}" if self.marker else what


@dataclass
class Requiring:
    """The files in which a project, and what it requires from Git, say what they require."""

    boundary: Path
    """The repository: nothing outside of it is read."""
    lines: dict[Path, list[str]] = field(default_factory=dict)

    def read(self, path: Path, extras: str = "") -> None:
        """Read a file of requirements, and those that it includes, or a folder's settings."""
        path = Path(os.path.realpath(path))
        if path.is_dir():
            for name in ("pyproject.toml", "setup.py", "setup.cfg"):
                self.read(path / name, extras)
        elif path not in self.lines and path.is_relative_to(self.boundary) and path.is_file():
            text = path.read_text(errors="surrogateescape")
            self.lines[path] = (
                toml_requirements(text, extras) if path.suffix in (".toml", ".lock") else whole_lines(text)
            )
            for line in self.lines[path] if path.suffix in (".txt", ".in") else ():
                # What it names, if that is a file or folder here: -r FILE, -c FILE, -e FOLDER[EXTRAS], ./FOLDER.
                named = re.match(r"\s*(?:--?[a-z]+[\s=]*)?(?P<path>[^\s#;\[:]+)\s*(?P<extras>\[[^\]]*\])?", line)
                if named and os.path.exists(path.parent / named["path"]):
                    self.read(path.parent / named["path"], named["extras"] or "")

    @property
    def wanted(self) -> list[GitRequirement]:
        """What they require from Git."""
        return [
            each for lines in self.lines.values() for line in lines for each in GitRequirement.find(uncommented(line))
        ]


def toml_requirements(text: str, extras: str) -> list[str]:
    """Return what a pyproject.toml (with these extras) or uv.lock requires, as lines of a requirements file."""
    found: list[str] = []
    with contextlib.suppress(ValueError, RecursionError, AttributeError, TypeError, KeyError):  # uv will say it
        document = tomllib.loads(text)
        project = document.get("project", {})
        found += project.get("dependencies", [])
        for extra in re.findall(r"[\w.-]+", extras):
            found += project.get("optional-dependencies", {}).get(extra, [])
        for package in document.get("package", []):
            if address := package["source"].get("git"):
                parts = urllib.parse.urlsplit(address)
                folder = dict(urllib.parse.parse_qsl(parts.query)).get("subdirectory", "")
                url = urllib.parse.urlunsplit(parts._replace(query="", fragment=""))
                found.append(f"{package['name']} @ git+{url}@{parts.fragment}#subdirectory={folder}")
        for name, tables in document.get("tool", {}).get("uv", {}).get("sources", {}).items():
            for table in tables if isinstance(tables, list) else [tables]:
                if "git" in table:
                    # An override takes the place of the whole requirement, its extras included.
                    with_extras = re.search(rf"""["']{re.escape(name)}\s*(\[[^\]]*\])""", text)
                    ref = next((f"@{table[key]}" for key in ("rev", "tag", "branch") if key in table), "")
                    end = f"#subdirectory={table.get('subdirectory', '')} ; {table.get('marker', '')}"
                    what = f"{name}{with_extras[1] if with_extras else ''}"
                    found.append(f"{what} @ git+{table['git'].removeprefix('git+')}{ref}{end}")
    return [line for line in found if isinstance(line, str)]


def fetch_required(source: Source, wanted: Wanted, project: str, sources: Path) -> Required:
    """Fetch the repositories that a project requires and, in turn, those that they require, into sources.

    The project is a folder of the checkout, relative to its root.
    """
    root = Path(os.path.realpath(wanted.root))
    ours = Requiring(root)
    with contextlib.suppress(DependencyError):  # the next stage says it
        if start := find_requirements(root / project):
            ours.read(start)
    todo, folders = ours.wanted, dict[GitRequirement, str]()
    fetched: dict[tuple[str, str | None], tuple[Path, Mapping[str, Any]]] = {}
    origins: dict[str, str] = {}
    tags: dict[str, str] = {}
    failures: list[str] = []
    for each in todo:  # which grows
        if each in folders:
            continue
        folders[each] = ""
        try:
            if (each.url, each.ref) not in fetched:
                if len(fetched) >= MAX_REQUIRED:
                    raise SourceError(f"The project requires more than {MAX_REQUIRED} Git repositories.")
                target = Wanted(each.ref, sources / str(len(fetched)), wanted.objects)
                fetched[each.url, each.ref] = target.root, fetch_requirement(source, each, target)
            top, answer = fetched[each.url, each.ref]
            folder = required_folder(each, top)
        except SourceError as error:
            failures.append(f"Cannot fetch the requirement {printable(each.name or each.url)!r}. {error}")
            continue
        theirs = Requiring(Path(os.path.realpath(top)))
        theirs.read(folder, each.extras)
        todo += theirs.wanted
        folders[each] = folder.as_uri()
        end = f"#subdirectory={each.subdirectory}" if each.subdirectory else ""
        tags[folder.as_uri()] = answer["tag"]
        origins[folder.as_uri()] = f"git+{each.url}@{answer['commit']}{end}"
    overrides = {each.at(folder): None for each, folder in folders.items() if each.name and folder}
    texts = {
        str(path): "".join(f"{at_folders(line, folders)}\n" for line in lines)
        for path, lines in ours.lines.items()
        if path.suffix in (".txt", ".in")
    }
    return Required(origins, list(overrides), texts, failures, tags)


def at_folders(line: str, folders: Mapping[GitRequirement, str]) -> str:
    """Return a line of a requirements file, with the folder in the place of a repository that was fetched."""
    for each in GitRequirement.find(uncommented(line)):
        if folders.get(each):
            return each.at(folders[each])
    return line


def fetch_requirement(source: Source, requirement: GitRequirement, wanted: Wanted) -> dict[str, Any]:
    """Fetch the repository of one requirement."""
    theirs = related_source(source, requirement.url, f"requirement {requirement.name or requirement.url!r}")
    wanted.root.parent.mkdir(exist_ok=True)
    answer = check_out(theirs, wanted)
    if answer["unfetched_lfs"]:
        # A wheel is built from it, in which nobody would look for pointers.
        raise SourceError(f"{summary('Files in Git LFS cannot be fetched', answer['unfetched_lfs'], ': ')}.")
    for path, target in remove_outside_links(wanted.root).items():
        print(f"{requirement.url}: the link {path!r} leads out of the repository, to {target!r}: left out", flush=True)
    print(f"{requirement.url} is required: {answer['ref']} is at commit {answer['commit']}", flush=True)
    return answer


def required_folder(requirement: GitRequirement, root: Path) -> Path:
    """Return the folder of a requirement in its repository; raise SourceError if there is none."""
    fault = subdirectory_fault(requirement.subdirectory) if requirement.subdirectory else None
    folder = root / requirement.subdirectory
    if fault or not folder.is_dir():
        raise SourceError(
            f"The repository has no folder {requirement.subdirectory!r}{f': it {fault}' if fault else ''}."
        )
    return folder
