"""The toolchain, unpacked: what the workshop's programs take from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from yo_dawg.workshop.deflater import ZLIB, Deflater
from yo_dawg.workshop.package_zip import PackageZip


@dataclass(frozen=True)
class Toolchain:
    """Dulwich, uv and a compressor, unpacked."""

    root: Path

    @property
    def packages(self) -> Path:
        """The directory to put on a child's PYTHONPATH."""
        return self.root / "site-packages"

    @property
    def uv(self) -> Path:
        """The uv program."""
        return self.root / "bin" / "uv"

    def unpack(self, *files: int, deflater: Deflater = ZLIB) -> None:
        """Unpack parts of the toolchain, which are open files."""
        for file in files:
            PackageZip(file, deflater).unpack(self.root)
