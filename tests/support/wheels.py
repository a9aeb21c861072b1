"""Wheels that are made here, and installed by the real uv without a network."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

UV = Path(sys.executable).with_name("uv")


def make_wheel(
    folder: Path,
    name: str,
    version: str,
    files: Mapping[str, str],
    requires: Sequence[str] = (),
    tag: str = "py3-none-any",
) -> Path:
    """Write a wheel of these files, given by their text, with an entry point; return it.

    What is for bin/ stands under NAME-VERSION.data/scripts/.
    """
    info = f"{name}-{version}.dist-info"
    lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {each}" for each in requires)]
    content = {
        **files,
        f"{info}/METADATA": "\n".join(["Metadata-Version: 2.1", *lines, ""]),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
    }
    lines_of_record = io.StringIO()
    writer = csv.writer(lines_of_record, lineterminator="\n")
    writer.writerows([path, f"sha256={digest(text)}", len(text.encode())] for path, text in content.items())
    writer.writerow([f"{info}/RECORD", "", ""])
    content[f"{info}/RECORD"] = lines_of_record.getvalue()
    wheel = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in content.items():
            archive.writestr(path, text)
    return wheel


def digest(text: str) -> str:
    """Return a text's SHA-256 as a RECORD has it."""
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def install(target: Path, *wheels: Path) -> Path:
    """Install wheels into a folder, as a build does; return the folder."""
    options = ("--target", target, "--python", sys.executable, "--no-index", "--no-deps", "--quiet", "--no-cache")
    subprocess.run([UV, "pip", "install", *options, *wheels], check=True)
    return target
