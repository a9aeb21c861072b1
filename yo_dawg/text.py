"""How names, sizes and moments are written for people."""

from __future__ import annotations

import difflib
import re
import time
from collections.abc import Mapping

MAX_LINE = 2000
"""A longer line of a child's output is cut here, so that no child can fill our memory."""


def printable(line: str) -> str:
    """Cut a line to a sane length and take control characters out of it, so that it cannot forge another.

    A word is cut out whole: half a secret would not be masked.  Mask before, where the secrets are known.
    """
    if len(line) > MAX_LINE:
        line = re.sub(r"\S+$", "", line[: MAX_LINE - 1]) + "…"
    line = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).replace("\xa0", " ")
    return "".join(char if char.isprintable() or char == "\t" else "�" for char in line)


def size(count: int) -> str:
    """Write a number of bytes for people."""
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1e3:.1f} kB"


def utc(seconds: float) -> str:
    """Write a moment for people."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def nearest(name: object, known: Mapping[str, object]) -> str:
    """Name the known name that looks most like this one, if any does."""
    found = difflib.get_close_matches(str(name), known, n=1)
    return f' (did you mean "{found[0]}"?)' if found else ""


def kind(value: object) -> str:
    """Name a value's type as JSON does."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
