"""Pruning takes what Lambda does not need, and nothing that anybody wrote or imports."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lambda_function as yo
from lambda_function import Installed, prune

SCRIPT = "#!/tmp/yo-dawg/virtualenv/bin/python3\nprint('x')\n"


def lay_out(staging: Path, files: dict[str, str]) -> Installed:
    """Write files as an installer would; return what it would say of them."""
    for name, text in files.items():
        (staging / name).parent.mkdir(parents=True, exist_ok=True)
        (staging / name).write_text(text)
    return Installed((), {}, {name: yo.mark(staging / name) for name in files})


def names(staging: Path) -> set[str]:
    return {path.relative_to(staging).as_posix() for path in staging.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        pytest.param("pkg/tests/test_a.py", "", "tests", id="tests in a package"),
        pytest.param("pkg/sub/test/data.bin", "", "tests", id="test data"),
        pytest.param("pkg/testing/helper.py", "", None, id="testing is an API"),
        pytest.param("pkg/tests.py", "", None, id="a module named tests"),
        pytest.param("docs/index.rst", "", "documentation", id="docs"),
        pytest.param("pkg/doc/a/b.html", "", "documentation", id="docs in a package"),
        pytest.param("pkg-1.0.dist-info/RECORD", "", "installer's records", id="RECORD names paths of the builder"),
        pytest.param("pkg-1.0.dist-info/direct_url.json", "", "installer's records", id="direct_url.json too"),
        pytest.param("pkg-1.0.dist-info/METADATA", "", None, id="METADATA holds the version"),
        pytest.param("pkg-1.0.dist-info/entry_points.txt", "", None, id="entry points are read at run time"),
        pytest.param("pkg-1.0.dist-info/licenses/LICENSE", "", None, id="licences must be shipped"),
        pytest.param("pkg/RECORD", "", None, id="RECORD elsewhere is data"),
        pytest.param("bin/tool", SCRIPT, "console scripts", id="a console script"),
        pytest.param("bin/ffmpeg", "\x7fELF", None, id="a program that code may call"),
        pytest.param("pkg/bin/tool", SCRIPT, None, id="bin elsewhere is the package's"),
        pytest.param("pkg/__pycache__/a.cpython-313.pyc", "", "stale bytecode", id="bytecode"),
        pytest.param("pkg/a.py", "", None, id="code"),
        pytest.param("pkg/_native.so", "", None, id="native code"),
        pytest.param("pkg/README.md", "", None, id="a file that code may read"),
    ],
)
def test_what_goes_and_what_stays(tmp_path: Path, name: str, text: str, reason: str | None) -> None:
    pruned = prune(tmp_path, lay_out(tmp_path, {name: text, "other.py": ""}))
    assert (name in names(tmp_path)) == (reason is None)
    assert list(pruned.reasons) == ([reason] if reason else [])


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("import pkg.core.tests.natype\n", id="import"),
        pytest.param("import os, pkg.core.tests as t\n", id="import as, second in a line"),
        pytest.param("from pkg.core.tests.natype import pd_NA\n", id="from import, as numpy.testing does"),
        pytest.param("def f():\n    from pkg.core import tests\n", id="in a function"),
        pytest.param("from .core import tests\n", id="relative"),
        pytest.param("from .core.tests import natype\n", id="relative, deeper"),
        pytest.param("import importlib\nimportlib.import_module('pkg.core.tests.natype')\n", id="by a string"),
    ],
)
def test_a_test_suite_that_other_code_imports_is_kept(tmp_path: Path, code: str) -> None:
    files = {"pkg/testing.py": code, "pkg/core/tests/natype.py": "", "pkg/other/tests/test_b.py": ""}
    pruned = prune(tmp_path, lay_out(tmp_path, files))
    assert names(tmp_path) == {"pkg/testing.py", "pkg/core/tests/natype.py"}
    assert pruned.kept == ("pkg/core/tests",)


def test_the_projects_own_imports_count_too(tmp_path: Path) -> None:
    installed = lay_out(tmp_path, {"tests/__init__.py": "", "tests/helper.py": ""})
    (tmp_path / "lambda_function.py").write_text("from tests import helper\n")
    prune(tmp_path, installed)
    assert "tests/helper.py" in names(tmp_path)


def test_suites_that_only_import_each_other_go(tmp_path: Path) -> None:
    files = {"a/tests/test_a.py": "from b.tests import x\n", "b/tests/x.py": "import a.tests\n", "a/__init__.py": ""}
    prune(tmp_path, lay_out(tmp_path, files))
    assert names(tmp_path) == {"a/__init__.py"}


@pytest.mark.parametrize("code", ["docs/__init__.py", "docs/deep/down/module.py", "docs/native.so"])
def test_a_docs_folder_that_holds_code_is_code(tmp_path: Path, code: str) -> None:
    prune(tmp_path, lay_out(tmp_path, {f"botocore/{code}": "", "botocore/docs/guide.rst": ""}))
    assert names(tmp_path) == {f"botocore/{code}", "botocore/docs/guide.rst"}


def test_the_tests_of_a_documentation_do_not_make_it_code(tmp_path: Path) -> None:
    prune(tmp_path, lay_out(tmp_path, {"docs/tests/a.py": "", "docs/RECORD": "", "docs/index.rst": "", "a.py": ""}))
    assert names(tmp_path) == {"a.py"}


def test_what_make_dist_wrote_is_shipped_as_it_is(tmp_path: Path) -> None:
    installed = lay_out(tmp_path, {"pkg/tests/data.txt": "old", "pkg/tests/gone.txt": "", "pkg/tests/link.txt": ""})
    (tmp_path / "pkg/tests/data.txt").write_text("newer")
    (tmp_path / "pkg/tests/gone.txt").unlink()
    (tmp_path / "pkg/tests/link.txt").unlink()
    (tmp_path / "pkg/tests/link.txt").symlink_to("data.txt")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/mine.txt").write_text("mine")
    pruned = prune(tmp_path, installed)
    assert names(tmp_path) == {"pkg/tests/data.txt", "pkg/tests/link.txt", "tests/mine.txt"}
    assert pruned.files == 0


PARTS = st.sampled_from(["pkg", "tests", "docs", "bin", "x-1.dist-info", "__pycache__", "a"])
FILES = st.sampled_from(["a.py", "RECORD", "METADATA", "b.pyc", "c.txt", "tool"])
TREES = st.sets(st.tuples(st.lists(PARTS, max_size=3), FILES).map(lambda each: "/".join([*each[0], each[1]])))


@given(installed=TREES, written=TREES)
def test_pruning_is_done_once_and_touches_only_what_was_installed(installed: set[str], written: set[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        staging = Path(folder)
        seen = lay_out(staging, dict.fromkeys(sorted(installed), "x = 1\n"))
        lay_out(staging, dict.fromkeys(sorted(written - installed), "y = 1\n"))
        before = names(staging)
        first = prune(staging, seen)
        left = names(staging)
        assert written - installed <= left
        assert first.files == len(before - left)
        assert prune(staging, seen).files == 0
        assert names(staging) == left
        empty = [path for path in staging.rglob("*") if path.is_dir() and not any(path.iterdir())]
        assert empty == []
