"""What a source file names: the modules that it imports, and the strings that may be paths or names of modules.

Which of these are of interest is said elsewhere: see ``suites`` for test suites, ``prune`` for what a project
left out of its own.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import mmap
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from yo_dawg.trees import folders_above

MAX_READ = 2_000_000
"""Bytes.  No larger source file is parsed."""

MAX_PARSED_FILE = 300_000
"""Tokens, at most, see ``weight``.  The tree of more may take 300 MB of memory, and seconds."""

MAX_PARSED = 6_000_000
"""Tokens, at most, of all files that are parsed for one package."""

MAX_HITS = 10_000
"""How often a word is looked at in one file before it is taken to be meant."""

MAX_STRING = 300
"""Characters.  A longer string is no path."""

ENTRY_POINT = re.compile(r"^[^=\n]+=[ \t]*([\w.]+)", re.MULTILINE)

Content = bytes | mmap.mmap


@contextlib.contextmanager
def opened(path: Path, size: int) -> Iterator[Content]:
    """Yield a file's content; one that is too large to be parsed is mapped, and not read into memory."""
    if size <= MAX_READ:
        yield path.read_bytes()
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        yield content


BEFORE = re.compile(rb"(?:[/\\\\\"'}(]|\.[ \t]*|\b(?:import|from)[ \t(]+|,[ \t]*|(?:^|\n)[ \t]*)\Z")

AFTER = re.compile(rb"[.:/\\\\\"'{]|[ \t]*(?:[#\\\\\r\n,;)]|\.|\Z)|[ \t]+(?:import|as)\b")


def may_name(content: Content, word: str) -> bool:
    """Say whether a text has a word where it may be imported, or a part of a path in a string.

    Most that speak of tests do so in a comment; to parse all of these takes as long as to install them.
    """
    encoded, end = word.encode(), 0
    for _ in range(MAX_HITS):
        start = content.find(encoded, end)
        if start < 0:
            return False
        end = start + len(encoded)
        if BEFORE.search(content[max(0, start - 40) : start]) and AFTER.match(content[end : end + 40]):
            return True
    return True


def has_word(content: Content, word: str) -> bool:
    """Say whether a text has a word, be it a part of another."""
    return content.find(word.encode()) >= 0


NO_TOKENS = bytes(range(ord("a"), ord("z") + 1)) + bytes(range(ord("A"), ord("Z") + 1)) + b"0123456789_ \t"


def weight(content: bytes) -> int:
    """Return a number of tokens that a source file has not more of: all of its marks and words, comments included."""
    return len(content.translate(None, NO_TOKENS)) + len(content.split())


@dataclass(frozen=True)
class Mentions:
    """What one source file names."""

    imports: frozenset[str]
    """What it imports, wherever in it: modules and what is in them, absolute, with slashes (pkg/tests/helper)."""
    strings: frozenset[str]
    """The strings in it that may be paths or dotted names."""


def read_mentions(name: str, content: bytes) -> Mentions | None:
    """Return what a Python file or an entry_points.txt names; None if it cannot be parsed.

    ``name`` is its path in the package, which tells what its relative imports mean.
    """
    if name.endswith(".txt"):
        found = ENTRY_POINT.findall(content.decode(errors="replace"))
        return Mentions(frozenset(each.replace(".", "/") for each in found), frozenset())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid escape in a string, say
            tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError, SystemError):
        return None
    imports: set[str] = set()
    strings: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports.update(each.name.replace(".", "/") for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            imports.update(imported_from(node, name))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and 0 < len(node.value) <= MAX_STRING:
            strings.add(node.value)
    return Mentions(frozenset(imports), frozenset(strings))


def imported_from(node: ast.ImportFrom, name: str) -> Iterator[str]:
    """Yield what "from … import …" in the file of this name may import: the module, and what is in it."""
    package = PurePosixPath(name).parent.parts
    base = package[: max(0, len(package) - (node.level - 1))] if node.level else ()
    module = "/".join([*base, *(node.module.split(".") if node.module else ())])
    yield module
    for each in node.names:
        yield f"{module}/{each.name}" if module else each.name


@dataclass
class Finder:
    """Finds which of some paths source files name.

    Paths are those of folders, modules (without suffix) and files in the package.  It counts what it has parsed,
    so that the time and the memory that it takes are bounded whatever is in the files: one that is not parsed
    is taken to import all that its text has the words for.  For one thread.
    """

    targets: Mapping[str, str]
    """For each path what it stands for; several may stand for the same."""
    code_only: frozenset[str] = frozenset()
    """Those of them with nothing but modules in them: their name alone, "tests", does not ask for these.  (pandas looks
    which of its callers are in its tests: these are 15 MB.)"""
    at_root: bool = False
    """Whether a path in a string may be relative to the package's root, which is the working directory in Lambda."""
    parsed: int = field(default=0, init=False)
    """Tokens of all that has been parsed, at most."""

    def find(self, name: str, content: Content) -> dict[str, str]:
        """Return which of what the targets stand for a source file names, and how: in words, with the file's name."""
        near = self._near(name, content)
        if not near:
            return {}
        mentions = None
        tokens = weight(content) if isinstance(content, bytes) else MAX_PARSED
        if tokens <= MAX_PARSED_FILE and self.parsed + tokens <= MAX_PARSED:
            self.parsed += tokens
            mentions = read_mentions(name, content[:])
        if mentions is None:
            return {self.targets[path]: f"may be imported by {name}, which cannot be parsed" for path in near}
        parents = {folder for path in near for folder in folders_above(path)}
        dotted = {each.replace(".", "/") for each in mentions.strings}
        top = name.partition("/")[0]
        others = {each for each in mentions.imports if each.partition("/")[0] != top}
        bases = {*folders_above(name), *((others | dotted) & parents)}
        named = {path for each in mentions.strings for path in self._paths(each, name, bases)}
        bare = {
            path for each in mentions.strings if re.fullmatch(r"\w+[/\\]*", each) for path in self._bare(each, bases)
        }
        found = {}
        for path in near:
            if is_among(path, mentions.imports):
                found[self.targets[path]] = f"imported by {name}"
            elif is_among(path, named) or (path in bare and path not in self.code_only):
                found.setdefault(self.targets[path], f"named in {name}")
        return found

    def _near(self, name: str, content: Content) -> list[str]:
        """Return the paths for which a text has the words: the last part, and the first unless it is its own."""
        tops = {path: path.partition("/")[0] for path in self.targets}
        tail = functools.cache(functools.partial(may_name, content))
        head = functools.cache(functools.partial(has_word, content))
        return [
            path
            for path, top in tops.items()
            if tail(path.rpartition("/")[2]) and (self.at_root or name.startswith(f"{top}/") or head(top))
        ]

    def _bare(self, text: str, bases: Iterable[str]) -> Iterator[str]:
        """Yield the paths that a single name may mean: in a folder above its file, or in a package that it names."""
        if re.fullmatch(r"\w+", part := text.strip("/\\")):
            yield from (f"{base}/{part}" for base in bases)
            if self.at_root:
                yield part

    def _paths(self, text: str, name: str, bases: Iterable[str]) -> Iterator[str]:
        """Yield the paths that a string of several parts may mean, and dotted names."""
        parts = [part for part in re.split(r"[/\\]", text) if part.strip(".")]
        if len(parts) > 1 or (parts and "." in parts[0]):
            path = "/".join(parts)
            yield from (f"{base}/{path}" for base in bases)
            if len(parts) > 1 or self.at_root or "/" not in name:
                yield path
        dotted = [part for part in re.split(r"[.:]", text) if part]
        if text.startswith("."):
            yield from ("/".join([base, *dotted]) for base in bases)
        elif len(dotted) > 1:
            yield "/".join(dotted)


def is_among(path: str, mentioned: Set[str]) -> bool:
    """Say whether a path, or one below it, is among those mentioned."""
    return path in mentioned or any(each.startswith(f"{path}/") for each in mentioned)
