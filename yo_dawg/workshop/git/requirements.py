"""What a project requires from Git.

uv says which repositories those are, and is given them: see ``workshop.stand_in``.  Each time that it asks for others,
all begins anew.  So what plainly stands in the files is fetched at once.  It need not be all that there is, nor be
needed.
"""

from __future__ import annotations

import contextlib
import os
import re
import tomllib
import urllib.parse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yo_dawg.checkout import Repository, Required
from yo_dawg.errors import DependencyError, SourceError
from yo_dawg.text import MAX_LINE, printable
from yo_dawg.workshop.git.addresses import related_source
from yo_dawg.workshop.git.checkout import remove_outside_links, summary
from yo_dawg.workshop.git.repository import Wanted, check_out
from yo_dawg.workshop.requirement_files import find_requirements, read_requirements, uncommented, whole_lines
from yo_dawg.workshop.stand_in import plain_url

if TYPE_CHECKING:
    from yo_dawg.source import Source

MAX_REQUIRED = 64
"""What a repository may consist of, and how many others a project may require.  A few nested trees
can else spell out more files than there are atoms."""

GIT_ADDRESS = re.compile(
    r"""git\+(?P<scheme>[a-z]+)://(?P<user>[^\s/@"']*@)?(?P<place>[^\s@#;"']+)"""
    r"""(?:@(?P<ref>[^\s#;"']+))?(?:\#(?P<fragment>[^\s;"']*))?"""
)
"""git+URL@REF#subdirectory=…"""

OF_OTHERS = frozenset({"optional-dependencies", "dependency-groups", "dev-dependencies", "group", "extras"})
"""Tables of a TOML file with what mostly is not installed."""


@dataclass(frozen=True)
class GitRequirement:
    """A repository that a file names."""

    url: str
    ref: str | None
    subdirectory: str = ""

    @classmethod
    def in_line(cls, line: str) -> Iterator[GitRequirement]:
        """Yield those in a line of a requirements file, or of a program."""
        for found in GIT_ADDRESS.finditer(line) if "git+" in line and len(line) <= MAX_LINE else ():
            fragment = dict(urllib.parse.parse_qsl(found["fragment"] or ""))
            url = plain_url(f"{found['scheme']}://{found['user'] or ''}{found['place']}")
            ref = urllib.parse.unquote(found["ref"]) if found["ref"] else None
            yield cls(url, ref, fragment.get("subdirectory", "").strip("/"))

    @classmethod
    def in_toml(cls, value: Any) -> Iterator[GitRequirement]:
        """Yield those in a pyproject.toml (of uv and Poetry, too), a uv.lock or a pylock.toml."""
        if isinstance(value, str):
            yield from cls.in_line(value)
        elif isinstance(value, list):
            for each in value:
                yield from cls.in_toml(each)
        elif isinstance(value, dict):
            address = value.get("git") or (value.get("url") if value.get("type") == "git" else None)
            if isinstance(address, str):
                parts = urllib.parse.urlsplit(address.removeprefix("git+"))
                said = {**dict(urllib.parse.parse_qsl(parts.query)), "rev": parts.fragment, **value}
                ref = next((said[key] for key in ("commit-id", "rev", "tag", "branch") if said.get(key)), None)
                url = urllib.parse.urlunsplit(parts._replace(query="", fragment=""))
                yield cls(plain_url(url), ref and str(ref), str(said.get("subdirectory", "")).strip("/"))
            for name, each in value.items():
                if name not in OF_OTHERS:
                    yield from cls.in_toml(each)


@dataclass
class Requiring:
    """The files in which a project, or what it requires from Git, says what it requires."""

    boundary: Path
    """The repository: nothing outside of it is read."""
    lines: dict[Path, list[str]] = field(default_factory=dict)
    """The lines of each file that was read."""
    wanted: list[GitRequirement] = field(default_factory=list)
    """What they require from Git."""

    def read(self, path: Path) -> None:
        """Read a file of requirements, and those that it includes, or a folder's settings."""
        path = Path(os.path.realpath(path))
        if path.is_dir():
            for name in ("pyproject.toml", "setup.py", "setup.cfg"):
                self.read(path / name)
        elif path not in self.lines and path.is_relative_to(self.boundary) and path.is_file():
            text = read_requirements(path)
            self.lines[path] = whole_lines(text)
            if path.suffix in (".toml", ".lock"):
                with contextlib.suppress(ValueError, RecursionError):  # uv will say it
                    self.wanted += GitRequirement.in_toml(tomllib.loads(text))
                return
            for line in self.lines[path]:
                self.wanted += GitRequirement.in_line(uncommented(line))
            for line in self.lines[path] if path.suffix in (".txt", ".in") else ():
                # What it names, if that is a file or folder here: -r FILE, -c FILE, -e FOLDER[EXTRAS], ./FOLDER.
                named = re.match(r"\s*(?:--?[a-z]+[\s=]*)?(?P<path>[^\s#;\[:]+)", line)
                if named and os.path.exists(path.parent / named["path"]):
                    self.read(path.parent / named["path"])

    @property
    def texts(self) -> dict[str, str]:
        """For each requirements file its text as uv is to see it: what comes from Git cannot be editable, says uv."""
        return {
            str(path): "".join(f"{EDITABLE_FROM_GIT.sub('', line)}\n" for line in lines)
            for path, lines in self.lines.items()
            if path.suffix in (".txt", ".in")
        }


EDITABLE_FROM_GIT = re.compile(r"^\s*(?:-e|--editable)[\s=]*(?=(?:[\w.-]+\s*(?:\[[^\]]*\])?\s*@\s*)?git\+)")
"""How a requirement begins that is a repository for developers to work in, before its address."""


def fetch_required(
    source: Source, wanted: Wanted, project: str, sources: Path, asked: Sequence[tuple[str, str | None]]
) -> Required:
    """Fetch the repositories that a project requires into sources: what uv asked for, and what the files say.

    The project is a folder of the checkout, relative to its root.  Of each repository that is fetched the files are
    looked at, too.  What cannot be fetched is told, not raised.
    """
    root = Path(os.path.realpath(wanted.root))
    ours = Requiring(root)
    with contextlib.suppress(DependencyError):  # the next stage says it
        if start := find_requirements(root / project):
            ours.read(start)
    todo = [*(GitRequirement(url, ref) for url, ref in asked), *ours.wanted]
    fetched: dict[tuple[str, str | None], Repository | SourceError] = {}
    looked: set[GitRequirement] = set()
    for each in todo:  # which grows
        if each in looked:
            continue
        looked.add(each)
        if (each.url, each.ref) not in fetched:
            target = Wanted(each.ref, sources / str(len(fetched)), wanted.objects)
            try:
                if len(fetched) >= MAX_REQUIRED:
                    raise SourceError(f"The project requires more than {MAX_REQUIRED} Git repositories.")
                fetched[each.url, each.ref] = fetch_requirement(source, each, target)
            except SourceError as error:
                fetched[each.url, each.ref] = error
        found = fetched[each.url, each.ref]
        if isinstance(found, Repository):
            theirs = Requiring(Path(os.path.realpath(found.folder)))
            theirs.read(Path(found.folder, each.subdirectory))
            todo += theirs.wanted
    return Required(
        repositories=[each for each in fetched.values() if isinstance(each, Repository)],
        failures=[
            (url, ref, f"Cannot fetch the requirement {printable(without_user(url))!r}. {error}")
            for (url, ref), error in fetched.items()
            if isinstance(error, SourceError)
        ],
        texts=ours.texts,
    )


def fetch_requirement(source: Source, requirement: GitRequirement, wanted: Wanted) -> Repository:
    """Fetch the repository of one requirement; raise SourceError."""
    url = without_user(requirement.url)
    theirs = related_source(source, requirement.url, f"requirement {url!r}")
    wanted.root.parent.mkdir(exist_ok=True)
    answer = check_out(theirs, wanted)
    if answer["unfetched_lfs"]:
        # A wheel is built from it, in which nobody would look for pointers.
        raise SourceError(f"{summary('Files in Git LFS cannot be fetched', answer['unfetched_lfs'], ': ')}.")
    for path, target in remove_outside_links(wanted.root).items():
        print(f"{url}: the link {path!r} leads out of the repository, to {target!r}: left out", flush=True)
    print(f"{url} is required: {answer['ref']} is at commit {answer['commit']}", flush=True)
    return Repository(requirement.url, requirement.ref, answer["commit"], answer["tag"], str(wanted.root))


def without_user(url: str) -> str:
    """Return an address without a user name and password, which nobody may see."""
    return re.sub(r"^([a-z]+://)[^/]*@", r"\1", url)
