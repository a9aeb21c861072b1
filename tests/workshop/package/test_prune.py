"""Pruning takes what Lambda does not need, and nothing that anybody reads; and it can be undone."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.embedded import lay_out
from tests.support.wheels import install, make_wheel
from yo_dawg.trees import walk
from yo_dawg.workshop.package.install import Installed, look_at_installed
from yo_dawg.workshop.package.prune import Pruned, PrunedFile, is_python_script, keep_imported, prune, restore
from yo_dawg.workshop.package.rules import Rules
from yo_dawg.workspace import Workspace

NOTHING = Installed((), {})
SCRIPT = "#!/tmp/yo-dawg/virtualenv/bin/python3\nprint('x')\n"
CASE = "import unittest\n\n\nclass TestIt(unittest.TestCase): ...\n"
CODE = "x = 1\n"


def pruned(root: Path, files: Mapping[str, str]) -> Pruned:
    """Write files as an installer would, and prune them."""
    space = Workspace(root)
    space.pruned.mkdir(exist_ok=True)
    space.staging.mkdir(exist_ok=True)
    lay_out(space.staging, files)
    return prune(walk(space.staging), NOTHING, Rules(), space)


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        pytest.param("pkg/tests/test_a.py", CASE, "tests", id="tests in a package"),
        pytest.param("pkg/checks/a_test.py", CASE, "tests", id="of another name"),
        pytest.param("pkg/sub/test/data.bin", "", None, id="a folder named test without tests"),
        pytest.param("pkg/data/test/rows.json", "", None, id="data for tests, or of tests"),
        pytest.param("dbt/tests/generic/builtin.sql", "", None, id="SQL that dbt reads"),
        pytest.param("pkg/testing/helper.py", "", None, id="testing is an API"),
        pytest.param("pkg/tests.py", "", None, id="a module named tests"),
        pytest.param("docs/index.rst", "", "documentation", id="docs that a wheel left beside its package"),
        pytest.param("doc/a/b.html", "", "documentation", id="doc"),
        pytest.param("share/doc/pkg/manual.txt", "", "documentation", id="as on Debian"),
        pytest.param("share/man/man1/tool.1", "", "documentation", id="a manual page"),
        pytest.param("docs/data.json", "", None, id="docs that are no documents"),
        pytest.param("pkg/doc/a/b.html", "", None, id="docs in a package may be served"),
        pytest.param("pkg/docs/index.html", "", None, id="docs in a package"),
        pytest.param("pkg/locale/man/x.txt", "", None, id="a language"),
        pytest.param("locale/man/x.txt", "", None, id="a language at the root"),
        pytest.param("pkg-1.0.dist-info/RECORD", "", "installer's records", id="RECORD names paths of the builder"),
        pytest.param("pkg-1.0.dist-info/direct_url.json", "", "installer's records", id="direct_url.json too"),
        pytest.param("pkg-1.0.dist-info/METADATA", "", None, id="METADATA holds the version"),
        pytest.param("pkg-1.0.dist-info/entry_points.txt", "", None, id="entry points are read at run time"),
        pytest.param("pkg-1.0.dist-info/top_level.txt", "", None, id="top_level.txt too"),
        pytest.param("pkg-1.0.dist-info/licenses/LICENSE", "", None, id="licences must be shipped"),
        pytest.param("pkg/RECORD", "", None, id="RECORD elsewhere is data"),
        pytest.param("bin/tool", SCRIPT, "console scripts", id="a console script"),
        pytest.param("bin/convert", "#!/bin/sh\necho converted\n", None, id="a script for sh"),
        pytest.param("bin/ffmpeg", "\x7fELF", None, id="a program that code may call"),
        pytest.param("pkg/bin/tool", SCRIPT, None, id="bin elsewhere is the package's"),
        pytest.param("pkg/__pycache__/a.cpython-313.pyc", "", "stale bytecode", id="bytecode"),
        pytest.param("pkg/include/api.h", "", None, id="a header that cffi may read"),
        pytest.param("pkg/_libs/lib.pxd", "", "what only compilers read", id="Cython"),
        pytest.param("pkg/core.c", "", None, id="C that is no header may be data"),
        pytest.param("pkg/a.pyi", "", "type stubs", id="a stub"),
        pytest.param("pkg/py.typed", "", None, id="a marker"),
        pytest.param("pkg/a.py", "", None, id="code"),
        pytest.param("pkg/_native.so", "", None, id="native code"),
        pytest.param("pkg/README.md", "", None, id="a file that code may read"),
    ],
)
def test_what_goes_and_what_stays(tmp_path: Path, name: str, text: str, reason: str | None) -> None:
    result = pruned(tmp_path, {name: text, "other.py": ""})
    assert names(tmp_path / "staging") == {"other.py"} | ({name} if reason is None else set())
    assert names(tmp_path / "pruned") == ({name} if reason else set())
    assert list(result.reasons) == ([reason] if reason else [])


READER = """
import pathlib, subprocess, sys
HERE = pathlib.Path(__file__).parent

def main():
    names = ("data/test/rows.json", "tests/sample.txt", "docs/index.html", "locale/man/x.txt", "include/api.h")
    return [(HERE / name).read_text() for name in names]

def convert():
    root = HERE.parent if HERE.name == "reader" else HERE
    return subprocess.check_output([root / "bin/convert"], text=True)
"""
DATA = {
    "data/test/rows.json": "[]", "tests/sample.txt": "sample", "docs/index.html": "<p>", "locale/man/x.txt": "x",
    "include/api.h": "int f();",
}  # fmt: skip


@pytest.mark.parametrize("is_package", [True, False])
def test_data_is_there_when_the_installed_module_reads_it(tmp_path: Path, space: Workspace, is_package: bool) -> None:
    """In a package, and beside a module at the root; a script for sh runs."""
    folder = "reader/" if is_package else ""
    files = {f"{folder}{name}": text for name, text in DATA.items()}
    files["reader/__init__.py" if is_package else "reader.py"] = READER
    files["reader-1.0.data/scripts/convert"] = "#!/bin/sh\necho converted\n"
    files[f"{folder}unit/test_a.py" if is_package else "test/test_a.py"] = CASE
    staging = install(space.staging, make_wheel(tmp_path, "reader", "1.0", files))
    result = prune(walk(staging), look_at_installed(staging), Rules(), space)
    assert {"tests", "console scripts"} <= result.reasons.keys()
    code = "import reader; print(reader.main(), reader.convert().strip())"
    said = subprocess.run([sys.executable, "-c", code], cwd=staging, capture_output=True, text=True, check=True)
    assert said.stdout == f"{list(DATA.values())} converted\n"


def test_tests_that_read_their_data_go_with_it(tmp_path: Path) -> None:
    code = "import os\nprint('tests passed')\n# tests/data.json is for the tests\n"
    files = {"pkg/__init__.py": code, "pkg/tests/test_a.py": CASE, "pkg/tests/data.json": "{}"}
    assert pruned(tmp_path, files).reasons.keys() == {"tests"}
    assert names(tmp_path / "staging") == {"pkg/__init__.py"}


def test_tests_whose_data_other_code_reads_stay(tmp_path: Path) -> None:
    code = "import os\ndef f(): return open(os.path.join(os.path.dirname(__file__), 'tests', 'data.json'))\n"
    files = {"pkg/a.py": code, "pkg/tests/test_a.py": CASE, "pkg/tests/data.json": "{}"}
    assert pruned(tmp_path, files).kept == {"pkg/tests": "named in pkg/a.py"}
    assert names(tmp_path / "staging") == files.keys()


@pytest.mark.parametrize("function", ["get_include", "include_paths"])
def test_headers_of_a_package_that_offers_them_to_compilers_go(tmp_path: Path, function: str) -> None:
    files = {
        "np/__init__.py": f"def {function}(): ...\n", "np/core/include/a.h": "", "np/include/a.hpp": "",
        "np/src/b.h": "", "other/include/c.h": "", "other/__init__.py": "def get_includes_of(): ...\n",
    }  # fmt: skip
    assert pruned(tmp_path, files).taken.keys() == {"np/core/include/a.h", "np/include/a.hpp"}


def test_documents_that_the_code_of_their_distribution_names_stay(tmp_path: Path, space: Workspace) -> None:
    wheels = [
        make_wheel(tmp_path, "serves", "1.0", {"serves.py": "PAGES = ['docs/index.html']\n", "docs/index.html": ""}),
        make_wheel(tmp_path, "leaves", "1.0", {"leaves.py": CODE, "doc/manual.txt": "", "share/man/man1/a.1": ""}),
    ]
    staging = install(space.staging, *wheels)
    result = prune(walk(staging), look_at_installed(staging), Rules(), space)
    gone = {name for name, each in result.taken.items() if each.reason == "documentation"}
    assert gone == {"doc/manual.txt", "share/man/man1/a.1"}


@pytest.mark.parametrize(
    ("text", "is_script"),
    [
        ("#!/tmp/yo-dawg/virtualenv/bin/python3\n", True),
        ("#!/var/lang/bin/python3.13 -s\n", True),
        ("#! /usr/bin/python\n", True),
        ("#!python\n", True),
        ("#!/bin/sh\n'''exec' '/tmp/a very long path/bin/python3' \"$0\" \"$@\"\n' '''\n", True),
        ("#!/bin/sh\n'''exec' /tmp/bin/python \"$0\" \"$@\"\n' '''\n", True),
        ("#!/bin/sh\necho python\n", False),
        ("#!/bin/sh\nexec python3 -m pkg\n", False),
        ("#!/bin/bash\n", False),
        ("#!/usr/bin/env python3\n", False),
        ("#!/opt/python/bin/perl\n", False),
        ("#!/usr/bin/pythonic\n", False),
        ("#!\n", False),
        ("", False),
        ("print('no script')\n", False),
        ("\x7fELF python", False),
    ],
)
def test_scripts_for_the_builders_python(tmp_path: Path, text: str, is_script: bool) -> None:
    (tmp_path / "tool").write_text(text)
    assert is_python_script(tmp_path / "tool") == is_script


def test_console_scripts_of_a_real_installer_are_known(tmp_path: Path, space: Workspace) -> None:
    """Also those that it writes for sh, since the interpreter's path is too long."""
    staging = install(space.staging, make_wheel(tmp_path, "tool", "1.0", {"tool.py": "def main(): ...\n"}))
    assert is_python_script(staging / "bin/tool"), (staging / "bin/tool").read_text()
    assert (
        prune(walk(staging), look_at_installed(staging), Rules(), space).taken["bin/tool"].reason == "console scripts"
    )


def test_a_test_suite_that_other_code_imports_is_kept_whole(tmp_path: Path) -> None:
    code = "def f():\n    from .core import (\n        a,  # b\n        tests,\n    )\n"
    files = {
        "pkg/testing.py": code, "pkg/core/tests/test_natype.py": CASE, "pkg/core/tests/d.txt": "",
        "pkg/other/tests/test_b.py": CASE,
    }  # fmt: skip
    result = pruned(tmp_path, files)
    assert names(tmp_path / "staging") == files.keys() - {"pkg/other/tests/test_b.py"}
    assert result.kept == {"pkg/core/tests": "imported by pkg/testing.py"}


def test_what_a_kept_suite_has_from_another_one_is_kept_too(tmp_path: Path) -> None:
    files = {
        "a/__init__.py": "from .tests import helper\n", "a/tests/helper.py": "import b.tests.more\n",
        "a/tests/test_a.py": CASE, "b/tests/test_b.py": CASE, "b/tests/more.py": "", "c/tests/test_c.py": CASE,
    }  # fmt: skip
    assert pruned(tmp_path, files).kept == {
        "a/tests": "imported by a/__init__.py",
        "b/tests": "imported by a/tests/helper.py",
    }


def test_what_only_pytest_reads_asks_for_nothing(tmp_path: Path) -> None:
    files = {"pkg/a.py": "", "pkg/conftest.py": "from pkg.tests import helper\n", "pkg/tests/test_a.py": CASE}
    assert pruned(tmp_path, files).kept == {}


def test_pathological_code_keeps_what_it_might_import(tmp_path: Path) -> None:
    deep = "from .core import tests\nx = " + "(" * 100_000
    files = {"pkg/a.py": deep, "pkg/core/tests/test_a.py": CASE, "pkg/other/test/test_b.py": CASE}
    result = pruned(tmp_path, files)
    assert result.kept == {"pkg/core/tests": "may be imported by pkg/a.py, which cannot be parsed"}
    assert result.taken.keys() == {"pkg/other/test/test_b.py"}


def test_modules_of_which_there_is_only_bytecode_stay(tmp_path: Path) -> None:
    pruned(
        tmp_path, {"pkg/secret.pyc": "", "pkg/a.py": "", "pkg/a.pyc": "", "pkg/__pycache__/secret.cpython-313.pyc": ""}
    )
    assert names(tmp_path / "staging") == {"pkg/secret.pyc", "pkg/a.py"}


def test_a_package_that_loads_by_its_stubs_keeps_them(tmp_path: Path) -> None:
    lazy = "import lazy_loader\n__getattr__, _, _ = lazy_loader.attach_stub(__name__, __file__)\n"
    pruned(tmp_path, {"skimage/__init__.py": lazy, "skimage/io/__init__.pyi": "", "other/a.pyi": "", "other/a.py": ""})
    assert names(tmp_path / "staging") == {"skimage/__init__.py", "skimage/io/__init__.pyi", "other/a.py"}


def test_suites_that_the_project_imports_are_put_back(tmp_path: Path) -> None:
    files = {"tests/__init__.py": "", "tests/helper.py": "x", "tests/test_t.py": CASE, "b/tests/test_b.py": CASE}
    result = pruned(tmp_path, {**files, "b/a.py": ""})
    space, installed = Workspace(tmp_path), Installed((), {"b/a.py": "b"})
    lay_out(space.staging, {"lambda_function.py": "from tests import helper\n", "tests/mine.py": ""})
    kept = keep_imported(walk(space.staging), installed, result, space)
    mine = {"lambda_function.py", "tests/mine.py"}
    assert names(space.staging) == {"tests/__init__.py", "tests/helper.py", "tests/test_t.py", "b/a.py"} | mine
    assert kept.kept == {"tests": "0.1 kB: imported by lambda_function.py"}
    assert kept.taken == {"b/tests/test_b.py": PrunedFile("tests", "b/tests", len(CASE))}


def test_suites_that_only_import_each_other_go(tmp_path: Path) -> None:
    files = {"a/tests/test_a.py": f"from b.tests import x\n{CASE}", "b/tests/test_x.py": f"import a.tests\n{CASE}"}
    pruned(tmp_path, {**files, "a/__init__.py": ""})
    assert names(tmp_path / "staging") == {"a/__init__.py"}


@pytest.mark.parametrize("code", ["docs/__init__.py", "docs/deep/down/module.py"])
def test_a_docs_folder_that_holds_code_is_code(tmp_path: Path, code: str) -> None:
    pruned(tmp_path, {code: "", "docs/guide.rst": ""})
    assert names(tmp_path / "staging") == {code, "docs/guide.rst"}


SUITE = {"pkg/tests/test_a.py": CASE, "pkg/tests/data.txt": "theirs", "pkg/tests/more.txt": "more", "pkg/a.py": ""}


def test_what_the_project_put_in_a_pruned_place_stays(tmp_path: Path) -> None:
    result = pruned(tmp_path, SUITE)
    space = Workspace(tmp_path)
    lay_out(space.staging, {"pkg/tests/data.txt": "mine"})
    after = restore(space, result, {"pkg/tests": "the tests of yo-dawg want it"})
    assert (space.staging / "pkg/tests/data.txt").read_text() == "mine"
    assert (space.staging / "pkg/tests/more.txt").read_text() == "more"
    assert (after.files, after.kept) == (0, {"pkg/tests": "0.1 kB: the tests of yo-dawg want it"})


def test_a_file_of_the_project_in_the_place_of_a_pruned_folder_stays(tmp_path: Path) -> None:
    result = pruned(tmp_path, SUITE)
    lay_out(tmp_path / "staging", {"pkg/tests": "mine"})
    restore(Workspace(tmp_path), result, {"pkg/tests": "the tests of yo-dawg want it"})
    assert (tmp_path / "staging/pkg/tests").read_text() == "mine"


PARTS = st.sampled_from(["pkg", "tests", "docs", "bin", "x-1.dist-info", "__pycache__", "a"])
FILES = st.sampled_from(["a.py", "test_a.py", "RECORD", "METADATA", "b.pyc", "c.txt", "tool", "x.h"])
TREES = st.sets(st.tuples(st.lists(PARTS, max_size=3), FILES).map(lambda each: "/".join([*each[0], each[1]])))


@given(installed=TREES)
def test_pruning_is_done_once_and_can_be_undone(installed: set[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        space = Workspace(Path(folder))
        result = pruned(space.root, dict.fromkeys(sorted(installed), "import unittest\n"))
        left, taken = names(space.staging), names(space.pruned)
        assert (left | taken, left & taken) == (installed, set())
        assert (result.files, set(result.taken)) == (len(taken), taken)
        assert [path for path in space.staging.rglob("*") if path.is_dir() and not any(path.iterdir())] == []
        assert prune(walk(space.staging), NOTHING, Rules(), space).files == 0
        undone = restore(space, result, dict.fromkeys((each.group for each in result.taken.values()), "why not"))
        assert (names(space.staging), names(space.pruned), undone.files) == (installed, set(), 0)
