"""Making the toolchain."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from yo_dawg.archives import write_zip
from yo_dawg.control.toolchain import TOOLCHAIN_PARTS, Toolchain, load_deflater, toolchain_pins
from yo_dawg.disk import refuse_if_disk_full
from yo_dawg.errors import ConfigError, DependencyError
from yo_dawg.process import Command, CommandFailed
from yo_dawg.trees import move, tree_files
from yo_dawg.workshop.package.install import INSTALLER_FILES
from yo_dawg.workspace import HERE

if TYPE_CHECKING:
    from yo_dawg.archives import Archive
    from yo_dawg.process import Shell
    from yo_dawg.workspace import Workspace

TOOLCHAIN_PROOF = "import deflate, dulwich.client, dulwich.index, paramiko, urllib3"


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
    options = (
        "--require-hashes",
        "--only-binary",
        ":all:",
        "--no-compile",
        "--no-cache-dir",
        "--progress-bar",
        "off",
    )
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

    Compiled with "unchecked" hashes: timestamps would not survive the zip, and each build would
    then compile Dulwich anew.
    """
    toolchain = Toolchain(space.toolchain)
    (toolchain.root / "bin").mkdir(parents=True)
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
    compiler = (sys.executable, "-m", "compileall", "-q", "--invalidation-mode")
    try:
        shell.run(Command([*compiler, "unchecked-hash", "-s", toolchain.root, toolchain.packages], cwd=space.root))
        shell.run(Command([toolchain.uv, "--version"], cwd=space.root))
        proof = Command([sys.executable, "-c", TOOLCHAIN_PROOF], space.root, {"PYTHONPATH": str(toolchain.packages)})
        shell.run(proof)
    except CommandFailed as error:
        raise ConfigError(f"The toolchain does not work here: it {error.ending}.{error.quoted_tail}") from None
    return toolchain


def zip_toolchain(toolchain: Toolchain, space: Workspace) -> dict[str, Archive]:
    """Take the toolchain apart, and zip each part."""
    deflater, archives = load_deflater(toolchain), {}
    for part, beginnings in TOOLCHAIN_PARTS.items():
        root = space.root / part
        root.mkdir()
        move([name for name, _ in tree_files(toolchain.root) if name.startswith(beginnings)], toolchain.root, root)
        archives[part] = write_zip(root, space.root / f"{part}.zip", deflater=deflater)
    return archives
