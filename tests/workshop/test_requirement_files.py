"""Which file of a project says what it needs, and which ones nobody reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from yo_dawg.errors import DependencyError
from yo_dawg.workshop.requirement_files import (
    dependency_groups,
    find_requirements,
    is_own_package,
    setup_cfg_requirements,
    unread_requirements,
)

POETRY = '[tool.poetry.dependencies]\npython = "^3.11"\nidna = "^3.6"\n'
POETRY_BUILD = '[build-system]\nrequires = ["poetry-core"]\nbuild-backend = "poetry.core.masonry.api"\n'


def lay(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "found"),
    [
        pytest.param({"requirements.txt": "", "pyproject.toml": "["}, "requirements.txt", id="the first counts"),
        pytest.param({"pyproject.toml": '[project]\ndependencies = ["idna"]'}, "pyproject.toml", id="a project"),
        pytest.param({"pyproject.toml": '[project]\ndynamic = ["dependencies"]'}, "pyproject.toml", id="dynamic"),
        pytest.param({"pyproject.toml": POETRY + POETRY_BUILD}, "pyproject.toml", id="Poetry's table"),
        pytest.param({"pyproject.toml": POETRY}, None, id="Poetry's table, no build"),
        pytest.param({"pyproject.toml": '[tool.poetry.dependencies]\npython = "3"\n' + POETRY_BUILD}, None, id="none"),
        pytest.param({"setup.py": "setup(install_requires=['idna'])"}, "setup.py", id="setup.py"),
        pytest.param({"setup.py": "setup()"}, None, id="setup.py without any"),
        pytest.param({"setup.py": "setup()", "setup.cfg": "[options]\ninstall_requires = idna"}, "setup.py", id="both"),
        pytest.param({"setup.cfg": "[options]\ninstall_requires = idna\n"}, "setup.cfg", id="setup.cfg"),
        pytest.param({"setup.cfg": "[flake8]\nmax-line-length = 100\n"}, None, id="setup.cfg of a tool"),
    ],
)
def test_the_file_that_counts(tmp_path: Path, files: dict[str, str], found: str | None) -> None:
    path = find_requirements(lay(tmp_path, files))
    assert (path and path.name) == found


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("install_requires =\n    idna>=3\n    a ; python_version > '3'\n", ["idna>=3", "a ; python_version > '3'"]),
        ("install_requires = idna", ["idna"]),
        ("install_requires = file: a.txt, b.txt", ["idna", "certifi"]),
    ],
)  # fmt: skip
def test_what_a_setup_cfg_requires(tmp_path: Path, text: str, lines: list[str]) -> None:
    lay(tmp_path, {"setup.cfg": f"[options]\n{text}", "a.txt": "idna\n", "b.txt": "certifi\n"})
    assert setup_cfg_requirements(tmp_path) == lines


@pytest.mark.parametrize("text", ["no section", "[options]\ninstall_requires = file: gone.txt"])
def test_a_setup_cfg_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    lay(tmp_path, {"setup.cfg": text})
    with pytest.raises(DependencyError, match=r"setup\.cfg"):
        find_requirements(tmp_path)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"poetry.lock": ""}, "poetry.lock is not read, and nothing was installed: export it"),
        ({"requirements/prod.txt": "", "requirements/dev.txt": ""}, "requirements/dev.txt, requirements/prod.txt are"),
        ({"requirements.in": ""}, "requirements.in is not read"),
        ({"Requirements.txt": ""}, "rename it to requirements.txt"),
        ({"src/requirements.txt": ""}, "src/requirements.txt is not read"),
        ({"requirements-prod.txt": ""}, "requirements-prod.txt is not read"),
        ({"pyproject.toml": POETRY}, "[build-system]"),
        ({"pyproject.toml": '[dependency-groups]\nprod = ["idna"]'}, "(prod) are not installed unless"),
    ],
)
def test_what_nobody_reads_is_told(tmp_path: Path, files: dict[str, str], words: str) -> None:
    (told,) = unread_requirements(lay(tmp_path, files))
    assert words in told
    lay(tmp_path, {"requirements.txt": ""})
    assert unread_requirements(tmp_path) == []


def test_a_group_that_the_project_names_is_installed(tmp_path: Path) -> None:
    text = '[dependency-groups]\nprod = ["idna"]\n[tool.yo-dawg]\ngroups = ["prod"]\n'
    assert dependency_groups(lay(tmp_path, {"pyproject.toml": text})) == ["prod"]
    assert unread_requirements(tmp_path) == []


OWN = '[project]\nname = "x"\nversion = "1"\n[build-system]\nrequires = ["setuptools"]\n'


@pytest.mark.parametrize(
    ("files", "is_own"),
    [
        ({"pyproject.toml": OWN, "src/x/app.py": ""}, True),
        ({"pyproject.toml": OWN, "src/x.py": ""}, True),
        ({"pyproject.toml": OWN, "src/x/app.py": "", "x/app.py": ""}, False),
        ({"pyproject.toml": OWN, "src/x/app.py": "", "make_dist.sh": ""}, False),
        ({"pyproject.toml": "[project]\nname = 'x'", "src/x/app.py": ""}, False),
        ({"pyproject.toml": "[", "src/x/app.py": ""}, False),
        ({"src/x/app.py": ""}, False),
    ],
)
def test_a_handler_in_the_projects_own_package(tmp_path: Path, files: dict[str, str], is_own: bool) -> None:
    assert is_own_package(lay(tmp_path, files), ["x.app" if "src/x.py" not in files else "x"]) is is_own
