"""What people see: on a terminal with colours and a list of stages that lives, else plain text, a line at a time.

Answers go to standard output, everything else to standard error.  With --json standard output has the answer of the
builder, as it came, and nothing else.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text


def plain(text: str) -> str:
    """Take out what could steer a terminal: the words of a repository or a tool stand in a reply."""
    text = re.sub(r"\x1b\[[0-9;?]*[ -/]*[@-~]", "", text)
    return re.sub(r"[^\n\t\x20-\x7e\xa0-\U0010ffff]", "", text)


class Screen:
    """Standard output and standard error.  Its methods may be called from any thread."""

    def __init__(self, *, as_json: bool = False) -> None:
        """Look at what the two are."""
        self.as_json = as_json
        self.out = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
        self.error = Console(highlight=False, markup=False, emoji=False, soft_wrap=True, stderr=True)
        self.stages: Stages | None = None

    def tell(self, text: str, style: str = "", mark: str = "") -> None:
        """Write a line to standard error, with a mark before it."""
        if self.stages:
            self.stages.break_line()
        self.error.print(Text.assemble((mark, f"bold {style}".strip()), (plain(text), "" if mark else style)))

    def say(self, text: str) -> None:
        """Tell what happens next."""
        self.tell(text, "cyan", "-----> ")

    def warn(self, text: str) -> None:
        """Tell what somebody should know."""
        self.tell(text, "yellow", "Warning: ")

    def complain(self, text: str) -> None:
        """Tell why something failed."""
        self.tell(text, "red")

    def answer(self, value: object) -> None:
        """Write a raw answer to standard output."""
        print(json.dumps(value, indent=2, ensure_ascii=True), file=self.out.file, flush=True)

    def rows(self, rows: Iterable[tuple[str, object]]) -> None:
        """Write names and values, those that are there."""
        for name, value in rows:
            if value not in (None, ""):
                style = "yellow" if name == "warning" else ""
                self.out.print(Text.assemble((f"{name:<13} ", "bold"), (plain(str(value)), style)))

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Write a table."""
        told = [[plain(cell) for cell in row] for row in (columns, *rows)]
        if not self.out.is_terminal:
            widths = [max(len(row[column]) for row in told) for column in range(len(columns) - 1)]
            for row in told:
                self.out.print("  ".join((*map(str.ljust, row, widths), row[-1])).rstrip())
            return
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for number, name in enumerate(columns):
            table.add_column(name, overflow="fold", no_wrap=number == 0)
        for row in told[1:]:
            table.add_row(*row)
        self.out.print(table, soft_wrap=False)

    def finding(self, mark: str, name: str, text: str) -> None:
        """Write what doctor found: ok, -- (not there yet) or !!."""
        style = {"ok": "green", "--": "dim", "!!": "bold red"}[mark]
        self.out.print(Text.assemble((f"{mark:<3}", style), f" {plain(name):<11} {plain(text)}"))


class Stages:
    """Stages of something that takes time, one line each: with Stages(screen) as stages.

    On a terminal the present one moves and counts its seconds.  Elsewhere its line is written when it begins, and
    ended with its seconds if nothing else was written meanwhile.
    """

    def __init__(self, screen: Screen) -> None:
        """Begin with no stage."""
        self.screen, self.lock = screen, threading.RLock()
        self.present, self.began = "", 0.0
        self.seen: set[str] = set()
        self.line_is_open = self.closed = False
        fancy = screen.error.is_terminal and not screen.error.is_dumb_terminal
        self.live = Live(console=screen.error, get_renderable=self.render, refresh_per_second=8, transient=True)
        if not fancy:
            self.live = None  # type: ignore[assignment]

    def __enter__(self) -> Stages:
        """Show them."""
        self.screen.stages = self
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Show no more, whoever still tries."""
        with self.lock:
            self.end()
            self.break_line()
            self.closed, self.screen.stages = True, None
        if self.live:
            self.live.stop()

    def render(self) -> RenderableType:
        """Return the line of the present stage."""
        if not self.present:
            return Spinner("dots", Text("waiting …"))
        return Spinner("dots", Text(f"{self.present} {time.monotonic() - self.began:.0f} s"))

    def begin(self, name: str) -> None:
        """Show that a stage has begun, the first time that this is told."""
        with self.lock:
            if self.closed or name in self.seen:
                return
            self.end()
            self.seen.add(name)
            self.present, self.began = name, time.monotonic()
            if not self.live:
                self.write(plain(name))
                self.line_is_open = True

    def end(self, name: str = "", seconds: str = "") -> None:
        """Show that a stage has ended; which one, and how long it took, if that is known."""
        with self.lock:
            if name and name != self.present:
                if name in self.seen:
                    return
                self.begin(name)
            if self.closed or not self.present:
                return
            if self.live:
                spent = f" {seconds} s" if seconds else ""
                self.screen.error.print(Text.assemble(("✓ ", "green"), plain(self.present), (spent, "dim")))
            elif seconds and self.line_is_open:
                self.write(f" {seconds} s\n")
                self.line_is_open = False
            self.present = ""

    def note(self, text: str) -> None:
        """Show something else, once."""
        with self.lock:
            if not self.closed and text not in self.seen:
                self.seen.add(text)
                self.screen.warn(text)

    def break_line(self) -> None:
        """End the line of a stage, since something else is to be written."""
        with self.lock:
            if self.line_is_open:
                self.write("\n")
                self.line_is_open = False

    def write(self, text: str) -> None:
        """Write to standard error as it is."""
        file: Any = self.screen.error.file
        file.write(text)
        file.flush()
