"""What compresses and inflates the members of our zips: libdeflate, or the standard library's zlib."""

from __future__ import annotations

import functools
import importlib.machinery
import importlib.util
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yo_dawg.errors import ConfigError

ZIP_MADE = "made by yo-dawg, format 3, "
"""So begin the comments of our zips; with what each was compressed follows."""

LEVELS = ((1 << 24, 5), (1 << 23, 6), (0, 7))
"""libdeflate's, by how many bytes a file has at least: 7 is the highest that costs less than zlib's usual level 6.
In what is large, it gains nothing by the longer search: 1 % for half of the time."""


@dataclass(frozen=True)
class Deflater:
    """What compresses the members of a zip.  Those of the same name give the same bytes."""

    name: str
    deflate: Callable[[bytes], bytes]
    inflate: Callable[[bytes, int], bytes]
    """Of the content's size, which must be known."""

    @property
    def comment(self) -> bytes:
        """What a zip says in its comment if all its members were compressed with this."""
        return f"{ZIP_MADE}{self.name}".encode()


@functools.cache
def load_deflater(packages: Path) -> Deflater:
    """Load libdeflate from the toolchain: it compresses better than zlib does, twice as fast, and is no other tomorrow.

    Its file is the one that was pinned, if nothing of a project has run by now.
    """
    # Not by sys.path: nothing else of the toolchain is to be found.
    spec: Any = importlib.machinery.PathFinder.find_spec("deflate", [str(packages)])
    if spec is None:
        raise ConfigError('The toolchain has no compressor. Run "./deploy.sh bootstrap" to make it again.')
    loaded: Any = importlib.util.module_from_spec(spec)
    sys.modules["deflate"] = loaded
    spec.loader.exec_module(loaded)
    name = f"libdeflate {loaded.__version__}, level {'/'.join(str(level) for _, level in LEVELS)}"

    def deflate(content: bytes) -> bytes:
        level = next(level for least, level in LEVELS if len(content) >= least)
        return bytes(loaded.deflate_compress(content, level))

    return Deflater(name, deflate, lambda content, size: bytes(loaded.deflate_decompress(content, size)))


ZLIB = Deflater(
    f"zlib {zlib.ZLIB_RUNTIME_VERSION}",
    lambda content: zlib.compress(content, wbits=-15),
    lambda content, size: zlib.decompress(content, wbits=-15, bufsize=max(size, 1)),
)
"""The standard library's: what is there before there is a toolchain."""
