"""Making the toolchain: in a virtualenv, from pins with hashes, proved before anybody stores it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import deflate  # else the toolchain of these tests lends its own to all that come after
import pytest

from tests.support.yard import lay_toolchain
from yo_dawg.disk import refuse_if_disk_full
from yo_dawg.errors import ConfigError, DependencyError
from yo_dawg.process import Command, CommandFailed, Shell
from yo_dawg.report import Report
from yo_dawg.toolchain import TOOLCHAIN_PARTS
from yo_dawg.workshop.toolchain import collect_toolchain, install_toolchain, make, make_virtualenv
from yo_dawg.workshop.tools import Toolchain
from yo_dawg.workspace import Workspace


def test_a_toolchain_is_made_and_proved_in_parts_that_can_be_unpacked(
    space: Workspace, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def virtualenv(space: Workspace, shell: Shell) -> Path:
        return space.root / "virtualenv"

    def install(virtualenv: Path, space: Workspace, shell: Shell) -> None:
        """Lay out what pip would, less the download."""
        packages = virtualenv / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
        laid = lay_toolchain(tmp_path / "laid")
        packages.parent.mkdir(parents=True)
        laid.packages.rename(packages)
        files = {name: "" for name in ("client", "index", "object_store")}
        for name in (
            *(f"dulwich/{each}.py" for each in ("__init__", *files)),
            "paramiko.py",
            "urllib3.py",
            "pip/a.py",
            "b.pth",
        ):
            (packages / name).parent.mkdir(parents=True, exist_ok=True)
            (packages / name).write_text("")
        for name in ("METADATA", "RECORD", "INSTALLER"):
            (packages / "dulwich-1.dist-info").mkdir(exist_ok=True)
            (packages / "dulwich-1.dist-info" / name).write_text("Name: dulwich\nVersion: 1\n")
        (virtualenv / "bin").mkdir()
        (virtualenv / "bin/uv").write_text("#!/bin/sh\necho uv 1\n")
        (virtualenv / "bin/uv").chmod(0o755)

    monkeypatch.setitem(sys.modules, "deflate", deflate)
    monkeypatch.setattr("yo_dawg.workshop.toolchain.make_virtualenv", virtualenv)
    monkeypatch.setattr("yo_dawg.workshop.toolchain.install_toolchain", install)
    files = {part: os.open(tmp_path / part, os.O_RDWR | os.O_CREAT) for part in TOOLCHAIN_PARTS}
    try:
        assert make(files, space, shell, Report()) == {"packages": ["dulwich==1"]}
        toolchain = Toolchain(tmp_path / "unpacked")
        toolchain.unpack(files["git"])
        assert not toolchain.uv.exists()
        assert not (toolchain.packages / "paramiko.pyc").exists(), "what is for uv or SSH may never be needed"
        toolchain.unpack(files["uv"], files["ssh"])
    finally:
        for file in files.values():
            os.close(file)
    assert os.access(toolchain.uv, os.X_OK)
    names = {path.relative_to(toolchain.root).as_posix() for path in toolchain.root.rglob("*") if path.is_file()}
    assert {name for name in names if "/deflate/" not in name} == {
        "bin/uv",
        *(f"site-packages/dulwich/{name}.pyc" for name in ("__init__", "client", "index", "object_store")),
        "site-packages/dulwich-1.dist-info/METADATA",
        "site-packages/paramiko.pyc",
        "site-packages/urllib3.pyc",
    }, "no pip, no sources, and no paths of the virtualenv"


def test_a_toolchain_that_does_not_run_is_not_stored(space: Workspace, shell: Shell) -> None:
    packages = space.root / f"virtualenv/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    packages.mkdir(parents=True)
    uv = space.root / "virtualenv/bin/uv"
    uv.parent.mkdir()
    uv.write_text("#!/bin/sh\necho Illegal instruction; exit 132\n")
    uv.chmod(0o755)
    with pytest.raises(ConfigError, match="does not work here: it ended with exit status 132(?s:.)*Illegal"):
        collect_toolchain(space.root / "virtualenv", space, shell)


def test_the_virtualenv_is_one_with_pip_in_it(space: Workspace, shell: Shell) -> None:
    made = make_virtualenv(space, shell)
    said = shell.run(Command([made / "bin/python", "-m", "pip", "--version"], space.root))
    assert str(made) in said


def test_without_virtualenv_in_the_zip_the_operator_is_told(
    space: Workspace, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", sys.base_prefix + "/bin/python3")  # one without packages
    with pytest.raises(ConfigError, match=r"virtualenv ended with exit status 1.*deploy\.sh bootstrap(?s:.)*No module"):
        make_virtualenv(space, shell)


def test_a_toolchain_that_cannot_be_installed_says_what_pip_said(
    space: Workspace, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    pins = "--no-index\ndulwich==0 --hash=sha256:" + "0" * 64
    monkeypatch.setattr("yo_dawg.workshop.toolchain.toolchain_pins", lambda: pins)
    with pytest.raises(DependencyError, match="pip ended with exit status 1(?s:.)*No matching distribution"):
        install_toolchain(make_virtualenv(space, shell), space, shell)


def test_a_full_disk_is_told_by_all_stages_alike(space: Workspace) -> None:
    refuse_if_disk_full(CommandFailed(1, ["cp: cannot stat 'a'"]), space)
    for said in ("[Errno 28] No space left on device", "failed to write: os error 28", "ENOSPC"):
        with pytest.raises(ConfigError, match="ephemeral_storage"):
            refuse_if_disk_full(CommandFailed(1, ["a", said]), space)


def test_where_the_parts_of_a_toolchain_lie() -> None:
    toolchain = Toolchain(Path("/tmp/yo-dawg/toolchain"))
    assert (toolchain.packages.name, toolchain.uv.name) == ("site-packages", "uv")
