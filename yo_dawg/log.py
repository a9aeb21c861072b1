"""The log of one invocation: the one door through which foreign text leaves, so secrets are masked here."""

from __future__ import annotations

import base64
import contextlib
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from yo_dawg.report import message_in
from yo_dawg.text import printable

MAX_LOG_BYTES = 20_000_000
"""What one build may log: CloudWatch charges by the byte, and a project can print for ever."""

MAX_STAGES = 100
"""How many stages a program may tell of: they are part of the answer."""

MAX_STAGE_NAME = 100
"""Characters of a stage's name."""

MAX_SECONDS = 1_000_000.0
"""No stage takes as long; whoever tells of one invents it."""


class Log:
    """The story of one invocation: printed for CloudWatch, and kept for the build's record.

    All text that comes from outside goes through here, so secrets are masked at this one door.
    """

    def __init__(self, secrets: Sequence[str], directory: Path | None = None) -> None:
        """Start a log that masks these secrets and is kept in a file without a name, if a directory is given.

        A project's code runs as our user: a file that had a name it could replace by a link.
        """
        self._secrets: list[str] = []
        for secret in secrets:
            self.hide(secret)
        # Without a buffer, so that nothing waits in it for room on a disk that is full.
        self.file = tempfile.TemporaryFile(dir=directory, buffering=0) if directory else None  # noqa: SIM115
        self._room = MAX_LOG_BYTES
        self.stage = "starting"
        self.doing = ""
        """What the stage is at, where its title alone would not tell."""
        self._titles: dict[str, str] = {}
        self.aftermath: Callable[[], str] | None = None
        """Says what a failure leaves behind, once something is being changed."""
        self.seconds: dict[str, float] = {}

    def hide(self, secret: str) -> None:
        """Mask this text too from now on; of one of several lines, such as a key, each: tools print line by line."""
        # The longest first: a secret that contains another would else leave its rest unmasked.
        self._secrets = sorted({*self._secrets, *secret_forms(secret)}, key=len, reverse=True)

    def mask(self, text: str) -> str:
        """Replace every secret in text."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def info(self, text: str) -> None:
        """Print text, and keep it."""
        text = self.mask(text).encode(errors="replace").decode()
        if self._room <= 0:
            return
        self._room -= len(text) + 1
        if self._room <= 0:
            text += f"\n(more than {MAX_LOG_BYTES:,} bytes of log: the rest is not kept)"
        print(text, flush=True)
        if self.file:
            # On a full disk the story goes on in CloudWatch.
            with contextlib.suppress(OSError):
                self.file.write(f"{text}\n".encode())

    def detail(self, text: str) -> None:
        """Print a line of a tool's output, indented under its stage."""
        self.info(f"      {text}")

    def begin(self, name: str, title: str) -> None:
        """Tell that a stage begins."""
        self._titles[name], self.stage, self.doing = title, title, ""
        self.info(f"{title} …")

    def end(self, name: str, seconds: float) -> None:
        """Keep a stage's seconds under its name, and tell them."""
        self.seconds[name] = seconds
        self.info(f"{self._titles.get(name, name)} … {seconds:.1f} s")

    @contextlib.contextmanager
    def step(self, name: str, title: str) -> Iterator[None]:
        """Tell that a stage begins and, at its end, how long it took."""
        self.begin(name, title)
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(time.monotonic() - started, 3)
        self.end(name, self.seconds[name])

    def hear(self, line: str) -> bool:
        """Take down what a line of a workshop's program says, if it is a message; say whether it is.

        A project's code has run below that program, so a message may hold anything.
        """
        match message_in(line):
            case ["begin", str(name), str(title)] if len(self._titles) < MAX_STAGES and len(name) < MAX_STAGE_NAME:
                self.begin(self._clean(name), self._clean(title))
            case ["end", str(name), float() | int() as seconds] if name in self._titles and 0 <= seconds < MAX_SECONDS:
                self.end(name, float(seconds))
            case ["info", str(text)]:
                self.info(self._clean(text))
            case ["detail", str(text)]:
                self.detail(self._clean(text))
            case ["doing", str(text)]:
                self.doing = self._clean(text)
            case _:
                return False
        return True

    def _clean(self, text: str) -> str:
        return printable(self.mask(text))  # in this order: once it is cut or changed, a secret is not found in it

    def close(self) -> None:
        """Close the file."""
        if self.file:
            with contextlib.suppress(OSError):
                self.file.close()


def secret_forms(secret: str) -> Iterator[str]:
    """Yield the spellings in which tools may print a secret: as it is, in a URL, in base64."""
    lines = [line.strip() for line in secret.splitlines() if not line.startswith("-----")]
    for text in dict.fromkeys([secret, *lines]):
        if len(text) >= 4:  # masking so short a text would blot out the log and hide nothing
            yield text
            yield urllib.parse.quote(text, safe="")
            yield base64.b64encode(text.encode()).decode()
