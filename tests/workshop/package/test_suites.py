"""A test suite is a folder whose modules are tests, whatever its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.embedded import lay_out
from yo_dawg.trees import walk
from yo_dawg.workshop.package.suites import find_suites

CASE = "import unittest\n\n\nclass TestIt(unittest.TestCase):\n    def test_it(self): ...\n"
CODE = "def work():\n    return 1\n"


def suites(root: Path, files: dict[str, str], owners: dict[str, str] | None = None) -> set[str]:
    """Return the suites among these files and one module that is no test."""
    lay_out(root, {"other.py": CODE, **files})
    return set(find_suites({name: path for name, path, _ in walk(root)}, owners or {}).values())


@pytest.mark.parametrize(
    ("files", "found"),
    [
        pytest.param({"pkg/tests/test_a.py": CASE}, {"pkg/tests"}, id="tests"),
        pytest.param({"tests/test_a.py": CASE}, {"tests"}, id="tests at the root, as some wheels leave them"),
        pytest.param({"pkg/tests/a_test.py": CASE, "pkg/tests/data/a.bin": ""}, {"pkg/tests"}, id="with their data"),
        pytest.param({"pkg/tests/test_a.py": CASE, "pkg/tests/util.py": CODE}, {"pkg/tests"}, id="with helpers"),
        pytest.param(
            {"pkg/tests/__init__.py": "", "pkg/tests/io/test_a.py": CASE, "pkg/tests/io/data/b.py": CODE},
            {"pkg/tests"},
            id="in folders, with helpers below them",
        ),
        pytest.param({"pkg/unit/__init__.py": "", "pkg/unit/test_a.py": CASE}, {"pkg/unit"}, id="of another name"),
        pytest.param({"pkg/checks/a_test.py": "def test_one(): ...\n"}, {"pkg/checks"}, id="functions"),
        pytest.param({"pkg/a/test/test_a.py": CASE, "pkg/a/data.txt": ""}, {"pkg/a/test"}, id="deep"),
        pytest.param({"pkg/tests/sample.txt": ""}, set(), id="data only"),
        pytest.param({"pkg/tests/generic/builtin.sql": ""}, set(), id="SQL, as dbt has it"),
        pytest.param({"pkg/test/client.py": CODE, "pkg/test/__init__.py": ""}, set(), id="an API, as django.test"),
        pytest.param(
            {"pkg/test/client.py": CODE, "pkg/test/more/test_a.py": CASE},
            {"pkg/test/more"},
            id="an API with tests below",
        ),
        pytest.param({"pkg/core.py": CODE, "pkg/test_core.py": CASE}, set(), id="a test beside code"),
        pytest.param({"pkg/tests/__init__.py": CODE}, set(), id="no module that is a test"),
        pytest.param({"pkg/tests/conftest.py": CASE}, set(), id="fixtures only"),
        pytest.param({"pkg/commands/load_test.py": CODE}, set(), id="a command named like a test"),
        pytest.param({"pkg/tests/ttest_test.py": CODE}, set(), id="statistics named like a test"),
        pytest.param({"pkg/unit/__init__.py": CODE, "pkg/unit/test_a.py": CASE}, set(), id="a package with a test"),
        pytest.param({"pkg/unit/test_a.py": CASE, "pkg/unit/x.so": ""}, set(), id="native code beside tests"),
        pytest.param({"pkg/unit/test_a.py": CASE, "pkg/unit/x.pyc": ""}, set(), id="bytecode only beside tests"),
        pytest.param({"pkg/unit/test_a.py": CASE, "pkg/unit/more/x.py": CODE}, set(), id="code below them"),
        pytest.param({"pkg/test_a.py": CASE}, set(), id="a whole top package"),
    ],
)
def test_what_is_a_suite(tmp_path: Path, files: dict[str, str], found: set[str]) -> None:
    assert suites(tmp_path, files) == found


def test_a_distribution_of_nothing_but_tests_is_there_for_them(tmp_path: Path) -> None:
    files = {"base/tests/adapter/test_a.py": CASE, "pkg/tests/test_b.py": CASE, "pkg/a.py": CODE}
    owners = {"base/tests/adapter/test_a.py": "base-tests", "pkg/tests/test_b.py": "pkg", "pkg/a.py": "pkg"}
    assert suites(tmp_path, files, owners) == {"pkg/tests"}


def test_a_module_of_white_space_takes_no_time(tmp_path: Path) -> None:
    bait = "\n" * 300_000 + " " * 300_000
    assert suites(tmp_path, {"pkg/tests/test_a.py": bait, "pkg/unit/test_b.py": bait}) == set()
