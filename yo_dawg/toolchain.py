"""How the toolchain is laid out, and what it is made of: what both sides must know of it."""

from __future__ import annotations

import re

from yo_dawg.workspace import HERE

TOOLCHAIN_FORMAT = "6"
"""Raise this when the layout of the toolchain's zips changes: stored ones then no longer match."""

TOOLCHAIN_PARTS = {
    "uv": ("bin/", "site-packages/uv-"),
    "ssh": tuple(
        f"site-packages/{name}"
        for name in ("_cffi_backend", "bcrypt", "cffi", "cryptography", "invoke", "nacl", "paramiko", "pycparser")
    ),
    "git": ("",),  # all else: last, since it begins every name
}
"""The zips that the toolchain is stored in, by what each is for: uv is nine tenths of it, and a change of code alone
does without."""


def requirement_group(text: str, name: str) -> str:
    """Return the lines of one group of our requirements.txt: those under its "# --- NAME: …" banner."""
    groups = re.split(r"^# --- ([a-z]+):.*$", text, flags=re.MULTILINE)
    found = dict(zip(groups[1::2], groups[2::2], strict=True))
    return found[name].strip() + "\n"


def toolchain_pins() -> str:
    """Return the requirements of the toolchain, pinned and hashed, as they travel with the builder."""
    return requirement_group((HERE / "requirements.txt").read_text(), "toolchain")
