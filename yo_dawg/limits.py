"""Lambda's limits, and ours, that both sides know."""

from __future__ import annotations

MAX_UNZIPPED_BYTES = 262_143_999
"""The most that Lambda takes of a package, layers included: "Unzipped size must be smaller than 262144000 bytes"."""

LARGEST = 10
"""How many of a package's largest parts are told."""

MOST_IMPORTS = 50
"""How many of the modules that a handler's import loads are told, with the time they took: the slowest."""

MAX_MODULE_NAME = 200
"""Characters; a module with a longer name is not told."""

STALL_SECONDS = 30.0
"""A server that sends nothing for so long is given up."""

PIECE = 1 << 18
"""Bytes that are read or written at a time."""
