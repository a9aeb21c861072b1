"""Lambda's limits, and ours, that both sides know."""

from __future__ import annotations

MAX_UNZIPPED_BYTES = 262_143_999
"""The most that Lambda takes of a package, layers included: "Unzipped size must be smaller than 262144000 bytes"."""

LARGEST = 10
"""How many of a package's largest parts are told."""
