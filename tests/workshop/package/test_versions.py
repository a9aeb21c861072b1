"""What builds are told that would ask git for a version."""

from __future__ import annotations

from pathlib import Path

import pytest

from yo_dawg.workshop.package.versions import told_version

COMMIT = "0123456789abcdef0123456789abcdef01234567"

ASKING = {
    "SETUPTOOLS_SCM_PRETEND_VERSION": [
        ("pyproject.toml", '[build-system]\nrequires = ["setuptools", "setuptools-scm>=8"]\n[project]\nname = "x"\n'),
        ("pyproject.toml", '[build-system]\nrequires = ["hatchling", "hatch-vcs"]\n[project]\nname = "x"\n'),
        ("setup.py", 'setup(name="x", use_scm_version=True)'),
    ],
    "PBR_VERSION": [
        ("setup.cfg", "[metadata]\nname = x\n[pbr]\nskip = 1\n"),
        ("setup.py", 'setup(name="x", setup_requires=["pbr"], pbr=True)'),
    ],
    "PDM_BUILD_SCM_VERSION": [
        ("pyproject.toml", '[project]\nname = "x"\n[tool.pdm.version]\nsource = "scm"\n'),
        ("pyproject.toml", '[project]\nname = "x"\n[tool.pdm]\nversion = {source="scm"}\n'),
    ],
    "UV_DYNAMIC_VERSIONING_BYPASS": [
        ("pyproject.toml", '[project]\nname = "x"\n[build-system]\nrequires = ["hatchling", "uv-dynamic-versioning"]\n')
    ],
    "POETRY_DYNAMIC_VERSIONING_BYPASS": [
        ("pyproject.toml", '[tool.poetry]\nname = "x"\n[build-system]\nrequires = ["poetry-dynamic-versioning>=1"]\n')
    ],
}


@pytest.mark.parametrize(("variable", "file", "text"), [(v, *each) for v, files in ASKING.items() for each in files])
def test_the_variable_tells_the_tags_version(tmp_path: Path, variable: str, file: str, text: str) -> None:
    (tmp_path / file).write_text(text)
    told = told_version(tmp_path, "v1.4.2", COMMIT)
    assert told is not None
    assert (told.name, dict(told.variables), told.warnings) == ("x", {variable: "1.4.2"}, [])


def test_a_file_tells_it_where_no_variable_does(tmp_path: Path) -> None:
    (tmp_path / "setup.py").write_text('setup(name="x", setuptools_git_versioning={"enabled": True})')
    told_version(tmp_path, "1.4.2", COMMIT)
    assert "\nVersion: 1.4.2\n" in (tmp_path / "PKG-INFO").read_text()


def test_without_a_tag_a_warning_says_what_would_tell_it(tmp_path: Path) -> None:
    (tmp_path / "setup.py").write_text('setup(name="x", pbr=True)')
    told = told_version(tmp_path, "", COMMIT)
    assert told is not None
    assert told.version == "0.1.dev1+g0123456789"
    assert "PBR_VERSION tells it" in told.warnings[0]


@pytest.mark.parametrize(
    ("tag", "version"),
    [
        ("1.4.2", "1.4.2"), ("v1.4.2", "1.4.2"), ("x-1.4.2", "1.4.2"), ("release/v2.0rc1", "2.0rc1"),
        ("V3", "3"), ("1.0.0-beta.2", "1.0.0-beta.2"), ("nightly", "0.1.dev1+g0123456789"),
    ],
)  # fmt: skip
def test_the_version_in_a_tag(tmp_path: Path, tag: str, version: str) -> None:
    (tmp_path / "setup.py").write_text('setup(name="x", pbr=True)')
    told = told_version(tmp_path, tag, COMMIT)
    assert told is not None
    assert told.version == version


@pytest.mark.parametrize(
    "text",
    [
        '[build-system]\nrequires = ["pdm-backend"]\n[project]\nname = "x"\nversion = "1"\n',
        '[project]\nname = "pbrx"\n',
    ],
)
def test_who_does_not_ask_git_is_told_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    assert told_version(tmp_path, "v1", COMMIT) is None
    assert [path.name for path in tmp_path.iterdir()] == ["pyproject.toml"]
