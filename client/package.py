"""The zip of the builder's own code: the same bytes on every machine, so that what is there need not be sent again."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import deflate

from client.faults import Fault
from client.main import CHECKOUT
from client.setup import SetupFault, install

INSTALLER_FILES = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json")
"""The installer's bookkeeping: it holds paths and digests of this machine's scripts, so no two machines agree."""

KEPT = CHECKOUT / ".cache" / "function"
"""Where the zip is kept between runs, beside .venv."""

LAYOUT = "1"
"""A change of how the zip is made makes it anew."""


@dataclass(frozen=True)
class Package:
    """The zip."""

    content: bytes

    @property
    def digest(self) -> bytes:
        """Return its SHA-256."""
        return hashlib.sha256(self.content).digest()

    @property
    def hex(self) -> str:
        """Return its SHA-256 as its key has it."""
        return self.digest.hex()

    @property
    def sha256(self) -> str:
        """Return its SHA-256 as Lambda and S3 report it."""
        return base64.b64encode(self.digest).decode()


def package(
    checkout: Path = CHECKOUT, kept: Path = KEPT, *, tell: Callable[[str], None] = lambda text: None
) -> Package:
    """Return the function's zip: made now, or kept from the last time if everything in it is the same."""
    own = dict(own_files(checkout))
    key = hashlib.sha256(LAYOUT.encode())
    for name, content in own.items():
        key.update(f"\0{name}\0{len(content)}\0".encode() + content)
    try:
        found = Package((kept / "function.zip").read_bytes())
        if json.loads((kept / "function.json").read_bytes()) == {"of": key.hexdigest(), "sha256": found.hex}:
            return found
    except (OSError, ValueError):
        pass
    tell("make the zip of the builder's own code")
    with tempfile.TemporaryDirectory(prefix="yo-dawg-") as scratch:
        made = Package(write_zip({**own, **travellers(own["requirements.txt"].decode(), Path(scratch))}))
    kept.mkdir(parents=True, exist_ok=True)
    (kept / "function.zip").write_bytes(made.content)
    (kept / "function.json").write_text(json.dumps({"of": key.hexdigest(), "sha256": made.hex}))
    return made


def own_files(checkout: Path) -> Iterator[tuple[str, bytes]]:
    """Yield what is our own: the handler, its rooms, and the pins of what bootstrap installs and what travels."""
    yield "lambda_function.py", (checkout / "lambda_function.py").read_bytes()
    pins = (checkout / "requirements.txt").read_text(encoding="utf-8")
    yield "requirements.txt", re.split(r"^# --- client: ", pins, flags=re.MULTILINE)[0].rstrip().encode() + b"\n"
    for path in sorted((checkout / "yo_dawg").rglob("*.py")):
        yield path.relative_to(checkout).as_posix(), path.read_bytes()


def travellers(pins: str, scratch: Path) -> dict[str, bytes]:
    """Return the files of the packages that travel with the function."""
    group = re.search(r"^# --- function: .*\n((?:.*\n)*?)(?=# --- |\Z)", pins, re.MULTILINE)
    if not group:
        raise Fault("requirements.txt has no group of what travels in the function's zip.")
    (scratch / "pins.txt").write_text(group[1], encoding="utf-8")
    tree = scratch / "tree"
    try:
        install([scratch / "pins.txt"], "--only-binary", ":all:", "--target", str(tree))
    except SetupFault as fault:
        raise Fault(f"What travels in the function's zip cannot be had: {fault}") from None
    shutil.rmtree(tree / "bin", ignore_errors=True)
    found = {}
    for path in sorted(each for each in tree.rglob("*") if each.is_file() and "__pycache__" not in each.parts):
        name = path.relative_to(tree).as_posix()
        if path.suffix in (".so", ".pyd", ".dylib"):
            raise Fault(f"{name} is compiled, so the zip would fit one architecture only.")
        bookkeeping = path.parent.suffix == ".dist-info" and path.name in INSTALLER_FILES
        if not bookkeeping and name != ".lock":
            found[name] = path.read_bytes()
    return found


def write_zip(files: dict[str, bytes]) -> bytes:
    """Return a zip of these files: sorted, with one date and one mode, compressed by a library that is pinned."""
    with tempfile.TemporaryFile() as target:
        with zipfile.ZipFile(target, "w") as archive:
            for name, content in sorted(files.items()):
                info = zipfile.ZipInfo(name)
                info.create_system, info.external_attr = 3, 0o100644 << 16
                info.compress_type, info.header_offset = zipfile.ZIP_DEFLATED, target.tell()
                packed = deflate.deflate_compress(content, 6)
                info.file_size, info.compress_size, info.CRC = len(content), len(packed), zlib.crc32(content)
                target.write(info.FileHeader(zip64=False))
                target.write(packed)
                archive.filelist.append(info)
                archive.start_dir = target.tell()
        target.seek(0, 2)
        size = target.tell()
        target.seek(0)
        return target.read(size)
