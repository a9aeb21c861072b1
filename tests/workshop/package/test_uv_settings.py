"""What counts of a project's settings of uv: what is installed, never for what."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yo_dawg.errors import DependencyError
from yo_dawg.workshop.package.uv_settings import as_toml, read_uv_settings


def read(root: Path, folder: str = ".") -> dict[str, object]:
    return tomllib.loads(read_uv_settings(root / folder, root).with_build_variables({}))


@pytest.mark.parametrize(
    "setting",
    [
        'python-version = "3.9"', 'python-platform = "aarch64-unknown-linux-gnu"', 'target = "x"', 'prefix = "x"',
        "no-deps = true", 'python = "3.9"', "user = true", 'torch-backend = "cpu"', 'a-new-one = "x"',
    ],
)  # fmt: skip
@pytest.mark.parametrize("file", ["pyproject.toml", "uv.toml"])
def test_what_chooses_for_what_to_install_does_not_count_and_is_told(tmp_path: Path, file: str, setting: str) -> None:
    table = "tool.uv.pip" if file == "pyproject.toml" else "pip"
    (tmp_path / file).write_text(f'[{table}]\n{setting}\nprerelease = "allow"\n')
    assert read(tmp_path) == {"pip": {"prerelease": "allow"}}
    (warning,) = read_uv_settings(tmp_path, tmp_path).warnings
    assert f"pip.{setting.split()[0]} of this project do not count" in warning


def test_what_chooses_what_to_install_counts(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[tool.uv]\nconstraint-dependencies = ["idna<3.7"]\nexclude-newer = 2026-01-01T00:00:00Z\n'
        'index = [{name = "é", url = "https://a.example/simple", default = true}]\n'
        'dev-dependencies = ["pytest"]\n[tool.uv.sources]\nx = {path = "x"}\n'
    )
    assert read(tmp_path) == {
        "constraint-dependencies": ["idna<3.7"],
        "exclude-newer": "2026-01-01T00:00:00+00:00",
        "index": [{"name": "é", "url": "https://a.example/simple", "default": True}],
    }
    assert read_uv_settings(tmp_path, tmp_path).warnings == []


def test_folders_are_those_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "uv.toml").write_text(
        'find-links = ["./wheels", "https://x.example/y"]\nindex = [{url = "../up"}]\nextra-index-url = "simple"\n'
    )
    assert read(tmp_path, "app") == {
        "find-links": [f"{tmp_path}/wheels", "https://x.example/y"],
        "index": [{"url": f"{tmp_path.parent}/up"}],
        "extra-index-url": f"{tmp_path}/simple",
    }


def test_the_nearest_file_counts_and_uv_toml_before_pyproject(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "uv.toml").write_text("no-index = true\n")
    (tmp_path / "app/pyproject.toml").write_text('[tool.uv]\nprerelease = "allow"\n')
    assert read(tmp_path, "app") == {"prerelease": "allow"}
    (tmp_path / "app/uv.toml").write_text('resolution = "lowest"\n')
    assert read(tmp_path, "app") == {"resolution": "lowest"}
    assert read_uv_settings(tmp_path / "app", tmp_path / "app").counting == {"resolution": "lowest"}


def test_variables_for_builds_are_added_and_the_projects_own_win(tmp_path: Path) -> None:
    (tmp_path / "uv.toml").write_text('[extra-build-variables]\nx = {A = "1"}\n')
    text = read_uv_settings(tmp_path, tmp_path).with_build_variables({"x": {"A": "2", "B": "2"}, "y": {"C": "3"}})
    assert tomllib.loads(text) == {"extra-build-variables": {"x": {"A": "1", "B": "2"}, "y": {"C": "3"}}}


@pytest.mark.parametrize("text", ["[", "a = [" * 5000, "a = '\x00'"])
def test_a_file_that_is_no_toml_is_refused_in_words(tmp_path: Path, text: str) -> None:
    (tmp_path / "uv.toml").write_text(text)
    with pytest.raises(DependencyError, match="uv.toml is not valid TOML"):
        read(tmp_path)


values = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc-_é\x7f ", min_size=1), inner, max_size=3),
)


@given(st.dictionaries(st.sampled_from(["find-links", "extra"]), values))
def test_what_is_written_is_what_was_read(settings: dict[str, object]) -> None:
    text = "".join(f"{name} = {as_toml(value)}\n" for name, value in settings.items())
    assert tomllib.loads(text) == settings
