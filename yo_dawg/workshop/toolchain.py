"""The toolchain program, ``python -m yo_dawg.workshop.toolchain``: makes the toolchain's zips, or tries stored ones."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yo_dawg.disk import refuse_if_disk_full
from yo_dawg.errors import ConfigError, DependencyError
from yo_dawg.process import Command, CommandFailed, Shell
from yo_dawg.toolchain import TOOLCHAIN_PARTS, toolchain_pins
from yo_dawg.trees import walk
from yo_dawg.workshop.archive import CompressedCache, write_zip
from yo_dawg.workshop.deflater import load_deflater
from yo_dawg.workshop.package.install import INSTALLER_FILES, look_at_installed
from yo_dawg.workshop.program import environment, serve
from yo_dawg.workshop.tools import Toolchain
from yo_dawg.workspace import HERE, Workspace

if TYPE_CHECKING:
    from yo_dawg.report import Report

TOOLCHAIN_PROOF = "import deflate, dulwich.client, dulwich.index, paramiko, urllib3"


def make(files: Mapping[str, int], space: Workspace, shell: Shell, report: Report) -> dict[str, Any]:
    """Make the toolchain in a virtualenv, prove it, and zip each part of it into its file."""
    with report.step("virtualenv", "[2/5] make a virtualenv"):
        virtualenv = make_virtualenv(space, shell)
    with report.step("install", "[3/5] install the toolchain"):
        install_toolchain(virtualenv, space, shell)
        toolchain = collect_toolchain(virtualenv, space, shell)
        packages = list(look_at_installed(toolchain.packages).names)
    with report.step("zip", "[4/5] zip"):
        told = zip_toolchain(toolchain, files)
        report.detail(told)
    return {"packages": packages}


def make_virtualenv(space: Workspace, shell: Shell) -> Path:
    """Make a virtualenv in the workspace with the virtualenv that travels in the function's zip.

    Its pip is one that virtualenv embeds: Lambda promises none.
    """
    target = space.root / "virtualenv"
    options = ("--no-download", "--no-periodic-update", "--app-data", space.scratch / "virtualenv")
    command = [sys.executable, "-m", "virtualenv", *options, target]
    try:
        shell.run(Command(command, cwd=space.root, environ={"PYTHONPATH": str(HERE)}))
    except CommandFailed as error:
        refuse_if_disk_full(error, space)
        raise ConfigError(
            f"Cannot make a virtualenv: virtualenv {error.ending}. It must lie in this function's zip: "
            f'run "./deploy.sh bootstrap" to install it again.{error.quoted_tail}'
        ) from None
    return target


def install_toolchain(virtualenv: Path, space: Workspace, shell: Shell) -> None:
    """Install the pinned, hashed toolchain into the virtualenv; raise DependencyError."""
    pins = space.root / "toolchain.txt"
    pins.write_text(toolchain_pins())
    options = ("--require-hashes", "--only-binary", ":all:", "--no-compile", "--no-cache-dir", "--progress-bar", "off")
    try:
        shell.run(Command([virtualenv / "bin" / "python", "-m", "pip", "install", *options, "-r", pins], space.root))
    except CommandFailed as error:
        refuse_if_disk_full(error, space)
        raise DependencyError(
            f"Cannot install the toolchain: pip {error.ending}. Can this function reach the package index, "
            f"and does that have these very files?{error.quoted_tail}"
        ) from None


def collect_toolchain(virtualenv: Path, space: Workspace, shell: Shell) -> Toolchain:
    """Lay out what a build needs of the virtualenv, and prove that it works by running it.

    Of its modules only the bytecode is kept: half as much is to be unpacked for each build.
    """
    toolchain = Toolchain(space.toolchain)
    toolchain.uv.parent.mkdir(parents=True)
    shutil.move(virtualenv / "bin" / "uv", toolchain.uv)
    source = next((virtualenv / "lib").glob("python3.*")) / "site-packages"
    toolchain.packages.mkdir()
    unwanted = re.compile(r"(pip|setuptools|wheel|_virtualenv|__pycache__)\b|.*\.(pth|virtualenv)$|uv$")
    for path in sorted(source.iterdir()):
        if not unwanted.match(path.name):
            shutil.move(path, toolchain.packages / path.name)
    for path in toolchain.packages.glob("*.dist-info/*"):
        if path.name in INSTALLER_FILES:
            path.unlink()
    compiler = (sys.executable, "-m", "compileall", "-q", "-b", "--invalidation-mode", "unchecked-hash")
    try:
        shell.run(Command([*compiler, "-s", toolchain.root, toolchain.packages], cwd=space.root))
    except CommandFailed as error:
        raise broken(error) from None
    for path in toolchain.packages.rglob("*.py"):
        path.unlink()
    try_out(toolchain, space, shell)
    return toolchain


def try_out(toolchain: Toolchain, space: Workspace, shell: Shell) -> str:
    """Run the toolchain; return what uv says of itself, or raise ConfigError."""
    proof = Command([sys.executable, "-c", TOOLCHAIN_PROOF], space.root, {"PYTHONPATH": str(toolchain.packages)})
    try:
        shell.run(proof)
        return shell.run(Command([toolchain.uv, "--version"], cwd=space.root)).strip()
    except CommandFailed as error:
        raise broken(error) from None


def broken(error: CommandFailed) -> ConfigError:
    """Return the error for a toolchain that does not work."""
    return ConfigError(f"The toolchain does not work here: it {error.ending}.{error.quoted_tail}")


def zip_toolchain(toolchain: Toolchain, files: Mapping[str, int]) -> str:
    """Zip each part of the toolchain into its file; return in words what came of it."""
    deflater, rest, told = load_deflater(toolchain.packages), list(walk(toolchain.root)), []
    for part, beginnings in TOOLCHAIN_PARTS.items():
        ours = [entry for entry in rest if entry[0].startswith(beginnings)]
        rest = [entry for entry in rest if not entry[0].startswith(beginnings)]
        made = write_zip(ours, files[part], CompressedCache(deflater))
        told.append(f"{len(made.members)} files for {part}")
    return ", ".join(told)


def work(job: Mapping[str, Any], files: Mapping[str, int], report: Report) -> dict[str, Any]:
    """Do the program's job: "make", or "try"."""
    space = Workspace(Path(job["workspace"]))
    shell = Shell(environment(), report)
    if job["do"] == "make":
        return make(files, space, shell, report)
    toolchain = Toolchain(space.toolchain)
    toolchain.unpack(*(files[part] for part in TOOLCHAIN_PARTS))
    return {"says": try_out(toolchain, space, shell)}


if __name__ == "__main__":
    os.umask(0o022)
    serve(work)
