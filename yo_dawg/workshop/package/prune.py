"""Taking out of the dependencies what Lambda has no use for.

Only what is certain goes; what the import of the handler looks for is put back, see ``prove``.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from yo_dawg.builder import RUNTIME_PROVIDES
from yo_dawg.text import size
from yo_dawg.trees import move
from yo_dawg.workshop.package.install import INSTALLER_FILES
from yo_dawg.workshop.package.mentions import Finder, may_name, opened
from yo_dawg.workshop.package.suites import TEST_MODULE, find_suites

if TYPE_CHECKING:
    from yo_dawg.trees import Listing
    from yo_dawg.workshop.package.install import Installed
    from yo_dawg.workshop.package.mentions import Content
    from yo_dawg.workshop.package.rules import Rules
    from yo_dawg.workspace import Workspace

DOCUMENT_FOLDERS = re.compile(r"docs?/|share/(?:doc|man)/")
"""Where documentation lies: beside the packages, never in one.  Some wheels leave theirs there."""

DOCUMENT_SUFFIXES = (
    ".rst", ".md", ".txt", ".html", ".css", ".js", ".png", ".svg", ".gif", ".jpg", ".ico", ".pdf", ".ipynb",
    ".woff", ".woff2", ".inv", *(f".{section}" for section in range(1, 10)), ".gz",
)  # fmt: skip

BUILD_SUFFIXES = (".pxd", ".pyx", ".pxi", ".a")
"""What only Cython and linkers read; Lambda has neither."""

HEADER_SUFFIXES = (".h", ".hh", ".hpp", ".hxx")

HEADER_FOLDERS = ("include", "includes")

GET_INCLUDE = (b"def get_include(", b"def include_paths(")
"""How a package offers its headers to compilers (numpy, pyarrow, lxml, pybind11, torch).  In pyarrow they are a tenth
of all files.  The headers of a package that does not may be data, for cffi or a compiler that it brings."""

STUB_SUFFIX = ".pyi"

SPEAKS_OF_STUBS = (b"attach_stub", b'.pyi"', b".pyi'")
"""Types, for tools.  A package whose code reads stubs (scikit-image does, by lazy_loader) keeps its own."""

CODE_SUFFIXES = (".py", ".pyc", ".pyi", ".so")
"""Of files that are no data."""

TESTS = "tests"
DROPPED = "dropped by the project"
LEFT_OUT = "left out of the project"
"""The reasons that others ask for.  What the project's own files are left out for is said in ``stage``."""


class PrunedFile(NamedTuple):
    """A file that was taken out of staging."""

    reason: str
    group: str
    """The folder or file, relative to staging, that went, and would be put back, as a whole."""
    bytes: int


@dataclass(frozen=True)
class Pruned:
    """What was taken out.  It lies in pruned/, in case it turns out to be needed."""

    taken: Mapping[str, PrunedFile]
    """For each file, relative to staging.  Of the project's own, see ``offer``, nothing is counted below."""
    kept: Mapping[str, str]
    """Groups that were kept, or put back, and why."""
    bring: Callable[[], object] | None = field(default=None, compare=False, repr=False)
    """Where it does not lie in pruned/: puts it there."""

    @property
    def of_dependencies(self) -> list[PrunedFile]:
        """What was taken out of the dependencies."""
        return [each for each in self.taken.values() if each.reason != LEFT_OUT]

    files = property(lambda self: len(self.of_dependencies))
    bytes = property(lambda self: sum(each.bytes for each in self.of_dependencies))

    @property
    def reasons(self) -> dict[str, int]:
        """Bytes by reason, the largest first."""
        counted: Counter[str] = Counter()
        for each in self.of_dependencies:
            counted[each.reason] += each.bytes
        return dict(counted.most_common())


def prune(listing: Listing, installed: Installed, rules: Rules, space: Workspace) -> Pruned:
    """Move what dependencies bring that Lambda does not need out of staging, where nothing else is yet.

    The project's own rules come first.
    """
    suite_of = find_suites({name: path for name, path, _ in listing}, installed.owners)
    code = Code(listing, suite_of, installed.owners)
    kept = {**(installed.kept if rules.runtime_boto3 else {}), **code.wanted}
    provided = set()
    if rules.runtime_boto3:
        provided = {name for name, _, _ in listing if installed.owners.get(name, "").lower() in installed.provided}
    if provided & rules.keep:
        provided = set()
    taken: dict[str, PrunedFile] = {}
    for name, path, status in listing:
        found: tuple[str, str] | None
        if name in rules.keep:
            continue
        if name in rules.drop:
            found = DROPPED, name
        elif name in provided:
            found = "provided by the runtime", RUNTIME_PROVIDES[0]
        elif suite_of.get(name, name) not in {name, *kept}:
            found = TESTS, suite_of[name]
        else:
            found = disposal(path, name, code)
        if found:
            taken[name] = PrunedFile(*found, status.st_size)
    move(taken, space.staging, space.pruned)
    return Pruned(taken, kept)


class Code:
    """What the code of dependencies says of their other files; it is read once."""

    def __init__(self, listing: Listing, suite_of: Mapping[str, str], owners: Mapping[str, str]) -> None:
        """Read all code that is in no test suite, and what is used of the suites."""
        self.stubbed: set[str] = set()
        """Top folders of packages that read their own stubs."""
        self.offers_headers: set[str] = set()
        """Top folders of packages that say where compilers find their headers."""
        self.wanted: dict[str, str] = {}
        """Test suites that other code means, and why they are to be kept."""
        self.named: set[str] = set()
        """Folders of documents that the code of their own distribution names, or that hold code themselves."""
        with_data = {suite for name, suite in suite_of.items() if not name.endswith(CODE_SUFFIXES)}
        suites = sorted(set(suite_of.values()))
        self._finder = Finder({suite: suite for suite in suites}, frozenset(suites) - with_data)
        self._documents = documents(listing, owners)
        files = {name: (path, status.st_size) for name, path, status in listing}
        sources = [name for name in files if is_source(name)]
        helpers: defaultdict[str, list[str]] = defaultdict(list)
        todo = []
        for name in sources:
            if name not in suite_of:
                todo.append(name)
            elif not TEST_MODULE.fullmatch(os.path.basename(name)):
                helpers[suite_of[name]].append(name)
        while todo:
            name = todo.pop(0)
            with opened(*files[name]) as content:
                found = self._read(name, content, owners.get(name))
            for suite in sorted(found.keys() - self.wanted.keys()):
                self.wanted[suite] = found[suite]
                todo += helpers[suite]  # what these import is wanted, too

    def _read(self, name: str, content: Content, owner: str | None) -> dict[str, str]:
        top = name.partition("/")[0]
        if own_folder := document_folder(name):
            self.named.add(own_folder)
        if any(content.find(word) >= 0 for word in SPEAKS_OF_STUBS):
            self.stubbed.add(top)
        if any(content.find(word) >= 0 for word in GET_INCLUDE):
            self.offers_headers.add(top)
        for folder in self._documents.get(owner, ()):
            if may_name(content, folder.rpartition("/")[2]):
                self.named.add(folder)
        return {suite: why for suite, why in self._finder.find(name, content).items() if not is_inside(name, suite)}


def is_source(name: str) -> bool:
    """Say whether a file says what it imports; conftest.py is read by pytest only."""
    return name.endswith((".py", ".dist-info/entry_points.txt")) and os.path.basename(name) != "conftest.py"


def is_inside(name: str, folder: str) -> bool:
    """Say whether a file is in a folder."""
    return name.startswith(f"{folder}/")


def document_folder(name: str) -> str | None:
    """Return the folder of documents that a file is in."""
    found = DOCUMENT_FOLDERS.match(name)
    return found and found[0].rstrip("/")


def documents(listing: Listing, owners: Mapping[str, str]) -> dict[str | None, set[str]]:
    """Return for each distribution which folders of documents it has put files into."""
    found: defaultdict[str | None, set[str]] = defaultdict(set)
    for name, _, _ in listing:
        if folder := document_folder(name):
            found[owners.get(name)].add(folder)
    return dict(found)


def disposal(path: Path, name: str, code: Code) -> tuple[str, str] | None:
    """Say why a file of a dependency, other than its tests, is of no use in Lambda, and what goes with it."""
    parent, file = os.path.split(name)
    suffix, top = os.path.splitext(file)[1], name.partition("/")[0]
    folder = document_folder(name)
    if folder and folder not in code.named and suffix in DOCUMENT_SUFFIXES:
        return "documentation", folder
    if name == ".lock" or (parent.endswith(".dist-info") and file in INSTALLER_FILES):
        return "installer's records", name
    if name.startswith("bin/") and is_python_script(path):
        return "console scripts", name
    if suffix in (".pyc", ".pyo") and (os.path.basename(parent) == "__pycache__" or path.with_suffix(".py").exists()):
        return "stale bytecode", name
    if suffix in BUILD_SUFFIXES:
        return "what only compilers read", name
    if suffix in HEADER_SUFFIXES and top in code.offers_headers and not {*HEADER_FOLDERS}.isdisjoint(parent.split("/")):
        return "what only compilers read", name
    if suffix == STUB_SUFFIX and top not in code.stubbed:
        return "type stubs", name
    return None


def is_python_script(path: Path) -> bool:
    """Say whether a file is a script for a Python that it names by its path, which is the builder's.

    Installers write the path of the interpreter into the first line; if that is too long for one, it is for sh,
    and a string to Python.  A script that asks env for its Python runs in Lambda, too.
    """
    with path.open("rb") as file:
        first, second = file.readline(1000), file.readline(1000)
    words = first.removeprefix(b"#!").split()
    if not first.startswith(b"#!") or not words:
        return False
    if re.fullmatch(rb"(?:.*/)?(?:python|pypy)[\d.]*w?", words[0]):
        return True
    return words[0] == b"/bin/sh" and re.match(rb"'''exec' .*python", second) is not None


def restore(space: Workspace, pruned: Pruned, groups: Mapping[str, str]) -> Pruned:
    """Move these groups back into staging, each for a reason."""
    back = {name: each for name, each in pruned.taken.items() if each.group in groups}
    if pruned.bring and not all(os.path.lexists(space.pruned / name) for name in back):
        pruned.bring()
    move(back, space.pruned, space.staging)
    sizes: Counter[str] = Counter()
    for each in back.values():
        sizes[each.group] += each.bytes
    kept = {group: f"{size(sizes[group])}: {groups[group]}" for group in sizes}
    left = {name: each for name, each in pruned.taken.items() if name not in back}
    return replace(pruned, taken=left, kept={**pruned.kept, **kept})


def keep_imported(listing: Listing, installed: Installed, pruned: Pruned, space: Workspace) -> Pruned:
    """Put back what the project's own code, as it is shipped, imports or names.

    That are test suites of dependencies and, of the project's own files that were left out, modules and what is
    named in a string: it may be asked for in an event only, which no proof of an import shows.
    """
    with_data = {each.group for name, each in pruned.taken.items() if not name.endswith(CODE_SUFFIXES)}
    code_only = {each.group for each in pruned.taken.values() if each.reason == TESTS} - with_data
    finder = Finder(dict(project_targets(pruned)), frozenset(code_only), at_root=True)
    found: dict[str, str] = {}
    for name, path, status in listing:
        if finder.targets and is_source(name) and name not in installed.owners and name not in BUILD_FILES:
            with opened(path, status.st_size) as content:
                found |= {group: why for group, why in finder.find(name, content).items() if group not in found}
    return restore(space, pruned, found) if found else pruned


BUILD_FILES = ("setup.py", "noxfile.py", "conftest.py", "tasks.py", "fabfile.py")
"""Python at a project's root that names other files of it, and does not run in Lambda."""


def project_targets(pruned: Pruned) -> Iterator[tuple[str, str]]:
    """Yield the paths by which a project's code may name what was pruned, each with its group."""
    for name, each in pruned.taken.items():
        if each.reason == TESTS or (each.reason == LEFT_OUT and each.group != name):
            yield each.group, each.group
        elif each.reason == LEFT_OUT:
            yield name, each.group
            yield name.removesuffix(".py"), each.group
