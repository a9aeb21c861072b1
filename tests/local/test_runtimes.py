"""Runtimes: found by running them, made once, pinned."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local import runtimes
from local.runtimes import (
    REQUIREMENTS,
    RUNTIME_PACKAGES,
    SITE_PACKAGES,
    RuntimeUnavailable,
    available,
    find,
    prepare,
    probe,
    requirement_lines,
)

HERE = f"python{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.fixture
def empty_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A machine whose PATH holds nothing, and whose pyenv is empty."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None)  # nor is there a uv
    find.cache_clear()
    yield tmp_path
    find.cache_clear()


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_this_interpreter_is_one(empty_path: Path) -> None:
    assert list(available()) == [HERE]


def test_a_virtualenvs_python_is_known_by_its_base() -> None:
    found = probe(sys.executable)
    assert found
    assert found.prefix == Path(sys.base_prefix).resolve()
    assert found.stdlib.is_relative_to(found.prefix)
    assert found.version == sys.version_info[:3]


def test_a_name_on_the_path_that_does_not_run_is_none(empty_path: Path) -> None:
    script(empty_path / "python3.14", "echo 'pyenv: python3.14: command not found' >&2; exit 127")
    script(empty_path / "python3.99", "echo 3.99")
    assert find("python3.14") is None
    assert probe(empty_path / "python3.99") is None
    assert probe(empty_path / "nothing") is None


def test_a_name_that_runs_another_version_is_none(empty_path: Path) -> None:
    other = "python3.14" if HERE != "python3.14" else "python3.13"
    script(empty_path / other, f'exec {sys.executable} "$@"')
    assert find(other) is None


def test_pyenvs_newest_version_is_taken_first(empty_path: Path) -> None:
    for version in ("3.14.2", "3.14.10", "3.14.9"):
        script(empty_path / f"pyenv/versions/{version}/bin/python3.14", "exit 1")
    names = [Path(path).parts[-3] for path in runtimes.candidates("python3.14") if "/versions/" in path]
    assert names == ["3.14.10", "3.14.9", "3.14.2"]


def test_a_runtime_that_is_not_here_is_refused_by_name(empty_path: Path, tmp_path: Path) -> None:
    missing = "python3.14" if HERE != "python3.14" else "python3.13"
    with pytest.raises(RuntimeUnavailable, match=f"no interpreter for the runtime {missing} .it has: {HERE}"):
        prepare(missing, tmp_path)


def test_a_runtime_is_made_once(tmp_path: Path) -> None:
    cache = runtimes.default_cache()
    first = prepare(HERE)
    before = (first.root / "var/lang/bin" / HERE).stat().st_mtime_ns
    assert prepare(HERE) == first
    assert (first.root / "var/lang/bin" / HERE).stat().st_mtime_ns == before
    assert first.root.parent == cache
    assert not [path for path in cache.iterdir() if path.name.startswith(f".{HERE}")], "no half-made runtime is left"


def test_a_failed_installation_leaves_no_runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pins = tmp_path / "requirements.txt"
    pins.write_text(re.sub(r"sha256:[0-9a-f]{64}", "sha256:" + "0" * 64, REQUIREMENTS.read_text()))
    monkeypatch.setattr(runtimes, "REQUIREMENTS", pins)
    monkeypatch.setattr(runtimes, "copy_interpreter", lambda interpreter, root: None)
    with pytest.raises(RuntimeUnavailable, match="DO NOT MATCH THE HASHES"):
        prepare(HERE, tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [f"{HERE}.lock"]


def test_requirements_are_taken_with_their_hashes() -> None:
    text = "# comment\none==1 \\\n    --hash=sha256:a \\\n    --hash=sha256:b\n    # via two\n"
    text += "two==2 ; x < '3' \\\n    --hash=c\n"
    assert requirement_lines(["two"], text) == "two==2 ; x < '3' \\\n    --hash=c\n"
    assert requirement_lines(["one"], text) == "one==1 \\\n    --hash=sha256:a \\\n    --hash=sha256:b\n"


def test_all_that_a_runtime_needs_is_pinned() -> None:
    lines = requirement_lines(SITE_PACKAGES + RUNTIME_PACKAGES, REQUIREMENTS.read_text())
    pinned = re.findall(r"^([a-z0-9-]+)==", lines, re.MULTILINE)
    assert pinned == [*SITE_PACKAGES, *RUNTIME_PACKAGES]
    assert lines.count("--hash=sha256:") > len(pinned)


def test_outside_of_a_virtualenv_the_users_cache_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert runtimes.default_cache() == Path(sys.prefix, "lambda-runtimes")
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    assert runtimes.default_cache() == tmp_path / "yo-dawg/lambda-runtimes"
