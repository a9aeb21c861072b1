"""The workshop, as the handler sees it: programs without credentials, which do all that touches foreign bytes.

The handler starts them, gives them their jobs and open files, and reads their answers: JSON, of a bounded size, in
which a project's code may have had a say, so every value is checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from yo_dawg import channel
from yo_dawg.control.archives import OpenFile
from yo_dawg.control.toolchain import fetch_toolchain
from yo_dawg.disk import refuse_if_disk_full
from yo_dawg.errors import ERRORS, ConfigError, YoDawgError
from yo_dawg.process import CommandFailed, program
from yo_dawg.text import printable

if TYPE_CHECKING:
    from yo_dawg.control.job import Job
    from yo_dawg.process import Child, Shell
    from yo_dawg.workspace import Workspace

PROGRAMS = {
    "look": "yo_dawg.workshop.git.look",
    "git": "yo_dawg.workshop.git",
    "package": "yo_dawg.workshop.package",
    "toolchain": "yo_dawg.workshop.toolchain",
}

MAX_MESSAGE_LENGTH = 20_000
"""Characters of an error that a program may have the caller see."""

MAX_ENTRIES = 10_000
"""How long a list in an answer may be; a longer one is cut."""


class Workshop:
    """The programs of one invocation, and what they are given.

    Threads: the main thread starts programs, asks them and ends them.  Downloads run aside, each into a file of its
    own, and touch nothing else.  The deadline interrupts the main thread only; at the end nobody waits for a download,
    which may hang.
    """

    def __init__(self, shell: Shell, space: Workspace) -> None:
        """Have no program yet."""
        self._shell, self._space = shell, space
        self._children: dict[str, Child] = {}
        self._downloads = ThreadPoolExecutor(3)

    def start(self, *names: str) -> None:
        """Start programs that will be needed: they get ready while the handler does something else."""
        for name in names:
            self._children[name] = self._shell.start(program(PROGRAMS[name], self._space))

    def close(self) -> None:
        """Wait for nothing that is still being fetched."""
        self._downloads.shutdown(wait=False, cancel_futures=True)

    def fetch(self, call: Any, *arguments: Any) -> Future[Any]:
        """Begin a download."""
        return self._downloads.submit(call, *arguments)

    def ask(
        self, name: str, job: Mapping[str, Any], files: Mapping[str, OpenFile], log: Any, error_type: type[YoDawgError]
    ) -> dict[str, Any]:
        """Give a program its job and return its answer; raise the error that it answers with.

        ``error_type`` is the error if it dies.  The files stay the handler's; the program gets their descriptors.
        """
        if name not in self._children:
            self.start(name)
        answer = OpenFile(self._space.root)
        descriptors = {**{each: file.fileno() for each, file in files.items()}, "answer": answer.fileno()}
        try:
            self._shell.ask(self._children.pop(name), job, descriptors, log.hear)
            said = channel.read_answer(answer.fileno())
        except CommandFailed as error:
            refuse_if_disk_full(error, self._space)
            raise error_type(f"The program that should do it {error.ending}.{error.quoted_tail}") from None
        except ValueError as error:
            raise error_type(f"The program that should do it gave no answer that can be read: {error}.") from None
        if "error" in said:
            message = printable_lines(log.mask(str(said.get("message", "")))[:MAX_MESSAGE_LENGTH])
            raise ERRORS.get(str(said["error"]), error_type)(message)
        return said


def printable_lines(text: str) -> str:
    """Take control characters out of a text of several lines."""
    return "\n".join(printable(line) for line in text.split("\n"))


def make_toolchain(parts: Sequence[str], job: Job) -> tuple[dict[str, OpenFile], list[str]]:
    """Have the toolchain made; return its zips, by what each is for, and the packages in it.

    Raises ConfigError, DependencyError.
    """
    files = {part: OpenFile(job.space.root) for part in parts}
    question = {"do": "make", "workspace": str(job.space.root)}
    said = job.workshop.ask("toolchain", question, files, job.log, ConfigError)
    packages = said.get("packages")
    return files, [printable(str(each)) for each in packages[:MAX_ENTRIES]] if isinstance(packages, list) else []


def try_toolchain(parts: Sequence[str], job: Job) -> str:
    """Have the stored toolchain unpacked and run; return what uv says of itself, or raise ConfigError."""
    files = {part: fetch_toolchain(part, job) for part in parts}
    question = {"do": "try", "workspace": str(job.space.root)}
    return printable(str(job.workshop.ask("toolchain", question, files, job.log, ConfigError).get("says")))
