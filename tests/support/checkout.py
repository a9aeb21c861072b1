"""A checkout of its own, with the few programs that deploy.sh may count on, and wheels made here."""

from __future__ import annotations

import hashlib
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.fake_aws import Ran

ROOT = Path(__file__).resolve().parent.parent.parent
BASICS = ("bash", "cat", "dirname", "readlink", "sh")
"""All that deploy.sh may start, beside python3."""

PYTHON = shlex.quote(sys.executable)


def program(path: Path, text: str) -> Path:
    """Write a program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def wrapper(path: Path, *arguments: str | Path) -> Path:
    """Write a program that runs the tests' own Python with these arguments before its own."""
    words = " ".join(shlex.quote(str(each)) for each in arguments)
    return program(path, f'#!/bin/sh\nexec {PYTHON} {words} "$@"\n')


def make_wheel(folder: Path, name: str, files: Mapping[str, str]) -> str:
    """Make a wheel; return the line of a requirement file that pins it."""
    info = f"{name}-1.0.dist-info"
    content = dict(files) | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in (*content, f"{info}/RECORD"))
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for member, text in (content | {f"{info}/RECORD": record}).items():
            wheel.writestr(zipfile.ZipInfo(member), text)
    return f"{name}==1.0 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


@dataclass
class Checkout:
    """A checkout, the programs it finds, and where it is started."""

    root: Path
    bin: Path
    home: Path
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def wheels(self) -> Path:
        """Where wheels are looked for."""
        return self.bin.parent / "wheels"

    def run(self, *arguments: str, **environ: str | None) -> Ran:
        """Run deploy.sh in a folder that is not its own; an environment variable given as None is not set."""
        return self.start([str(self.root / "deploy.sh"), *arguments], environ)

    def start(self, command: Sequence[str], environ: Mapping[str, str | None] | None = None, given: str = "") -> Ran:
        """Run a command there, with something on its standard input."""
        chosen = {name: value for name, value in {**self.environ, **(environ or {})}.items() if value is not None}
        ran = subprocess.run(command, env=chosen, cwd=self.home, capture_output=True, text=True, input=given)
        return Ran(ran.returncode, ran.stdout, ran.stderr)


def make_checkout(tmp_path: Path) -> Checkout:
    """Copy what deploy.sh starts, in a folder whose name holds a space and a letter that is not ASCII."""
    root, tools, home = tmp_path / "check öut", tmp_path / "bin", tmp_path / "home"
    home.mkdir()
    tools.mkdir()
    for name in ("deploy.sh", "lambda_function.py", "template.yaml", "requirements.txt"):
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    for name in ("client", "yo_dawg"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in BASICS:
        found = shutil.which(name)
        assert found
        (tools / name).symlink_to(found)
    wrapper(tools / "python3")
    environ = {
        "PATH": str(tools),
        "HOME": str(home),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": (tmp_path / "wheels").as_uri(),
    }
    return Checkout(root, tools, home, environ)


def use_our_venv(checkout: Checkout) -> None:
    """Let a checkout use the tests' own .venv, in which everything is installed already."""
    (checkout.root / ".venv").symlink_to(sys.prefix)
