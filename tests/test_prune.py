"""Pruning takes what Lambda does not need, and nothing that anybody imports; and it can be undone."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.embedded import lay_out
from yo_dawg.trees import walk
from yo_dawg.workshop.package.install import Installed
from yo_dawg.workshop.package.prune import Pruned, Taken, keep_imported, prune, restore
from yo_dawg.workshop.package.rules import Rules
from yo_dawg.workshop.package.suites import speaks_of_tests
from yo_dawg.workspace import Workspace

NOTHING = Installed((), {})
SCRIPT = "#!/tmp/yo-dawg/virtualenv/bin/python3\nprint('x')\n"


def pruned(root: Path, files: dict[str, str]) -> Pruned:
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
        pytest.param("pkg/tests/test_a.py", "", "tests", id="tests in a package"),
        pytest.param("pkg/sub/test/data.bin", "", "tests", id="test data"),
        pytest.param("pkg/testing/helper.py", "", None, id="testing is an API"),
        pytest.param("pkg/tests.py", "", None, id="a module named tests"),
        pytest.param("docs/index.rst", "", "documentation", id="docs"),
        pytest.param("pkg/doc/a/b.html", "", "documentation", id="docs in a package"),
        pytest.param("share/man/man1/tool.1", "", "documentation", id="a manual page"),
        pytest.param("pkg-1.0.dist-info/RECORD", "", "installer's records", id="RECORD names paths of the builder"),
        pytest.param("pkg-1.0.dist-info/direct_url.json", "", "installer's records", id="direct_url.json too"),
        pytest.param("pkg-1.0.dist-info/METADATA", "", None, id="METADATA holds the version"),
        pytest.param("pkg-1.0.dist-info/entry_points.txt", "", None, id="entry points are read at run time"),
        pytest.param("pkg-1.0.dist-info/top_level.txt", "", None, id="top_level.txt too"),
        pytest.param("pkg-1.0.dist-info/licenses/LICENSE", "", None, id="licences must be shipped"),
        pytest.param("pkg/RECORD", "", None, id="RECORD elsewhere is data"),
        pytest.param("bin/tool", SCRIPT, "console scripts", id="a console script"),
        pytest.param("bin/ffmpeg", "\x7fELF", None, id="a program that code may call"),
        pytest.param("pkg/bin/tool", SCRIPT, None, id="bin elsewhere is the package's"),
        pytest.param("pkg/__pycache__/a.cpython-313.pyc", "", "stale bytecode", id="bytecode"),
        pytest.param("pkg/include/api.h", "", "what only compilers read", id="a header"),
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
        pytest.param("def f():\n    from .core import (\n        a,  # b\n        tests,\n    )\n", id="in brackets"),
        pytest.param("def f():\n    from pkg.core import a, \\\n        tests\n", id="on two lines"),
        pytest.param("x = 1; from .core import tests\n", id="behind a semicolon"),
        pytest.param("try: from .core.tests import x\nexcept ImportError: x = None\n", id="in a line with try"),
    ],
)
def test_a_test_suite_that_other_code_imports_is_kept(tmp_path: Path, code: str) -> None:
    files = {"pkg/testing.py": code, "pkg/core/tests/natype.py": "", "pkg/other/tests/test_b.py": ""}
    result = pruned(tmp_path, files)
    assert names(tmp_path / "staging") == {"pkg/testing.py", "pkg/core/tests/natype.py"}
    assert result.kept == {"pkg/core/tests": "imported by pkg/testing.py"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param(
            "pkg/core/a.py", "def f():\n    import_module('.tests', 'pkg.core')\n", id="relative, by a string"
        ),
        pytest.param("pkg/core/a.py", "def f():\n    get_data('pkg.core', 'tests/data.json')\n", id="data"),
        pytest.param(
            "pkg-1.dist-info/entry_points.txt", "[plugins]\none = pkg.core.tests.natype:main\n", id="entry point"
        ),
    ],
)
def test_a_test_suite_that_is_named_is_kept(tmp_path: Path, name: str, text: str) -> None:
    pruned(tmp_path, {name: text, "pkg/core/tests/natype.py": "", "pkg/other/tests/test_b.py": ""})
    assert names(tmp_path / "staging") == {name, "pkg/core/tests/natype.py"}


def test_modules_of_which_there_is_only_bytecode_stay(tmp_path: Path) -> None:
    pruned(
        tmp_path, {"pkg/secret.pyc": "", "pkg/a.py": "", "pkg/a.pyc": "", "pkg/__pycache__/secret.cpython-313.pyc": ""}
    )
    assert names(tmp_path / "staging") == {"pkg/secret.pyc", "pkg/a.py"}


def test_a_package_that_loads_by_its_stubs_keeps_them(tmp_path: Path) -> None:
    lazy = "import lazy_loader\n__getattr__, _, _ = lazy_loader.attach_stub(__name__, __file__)\n"
    pruned(tmp_path, {"skimage/__init__.py": lazy, "skimage/io/__init__.pyi": "", "other/a.pyi": "", "other/a.py": ""})
    assert names(tmp_path / "staging") == {"skimage/__init__.py", "skimage/io/__init__.pyi", "other/a.py"}


def test_suites_that_the_project_imports_are_restore(tmp_path: Path) -> None:
    result = pruned(tmp_path, {"tests/__init__.py": "", "tests/helper.py": "x", "b/tests/b.py": "", "b/a.py": ""})
    space, installed = Workspace(tmp_path), Installed((), {"b/a.py": "b"})
    lay_out(space.staging, {"lambda_function.py": "from tests import helper\n", "tests/mine.py": ""})
    kept = keep_imported(walk(space.staging), installed, result, space)
    mine = {"lambda_function.py", "tests/mine.py"}
    assert names(space.staging) == {"tests/__init__.py", "tests/helper.py", "b/a.py"} | mine
    assert kept.kept == {"tests": "0.0 kB: imported by lambda_function.py"}
    assert kept.taken == {"b/tests/b.py": Taken("tests", "b/tests", 0)}


def test_suites_that_only_import_each_other_go(tmp_path: Path) -> None:
    files = {"a/tests/test_a.py": "from b.tests import x\n", "b/tests/x.py": "import a.tests\n", "a/__init__.py": ""}
    pruned(tmp_path, files)
    assert names(tmp_path / "staging") == {"a/__init__.py"}


@pytest.mark.parametrize("code", ["docs/__init__.py", "docs/deep/down/module.py", "docs/native.so"])
def test_a_docs_folder_that_holds_code_is_code(tmp_path: Path, code: str) -> None:
    pruned(tmp_path, {f"botocore/{code}": "", "botocore/docs/guide.rst": ""})
    assert names(tmp_path / "staging") == {f"botocore/{code}", "botocore/docs/guide.rst"}


def test_the_tests_of_a_documentation_do_not_make_it_code(tmp_path: Path) -> None:
    pruned(tmp_path, {"docs/tests/a.py": "", "docs/RECORD": "", "docs/index.rst": "", "a.py": ""})
    assert names(tmp_path / "staging") == {"a.py"}


def test_what_the_project_put_in_a_pruned_place_stays(tmp_path: Path) -> None:
    result = pruned(tmp_path, {"pkg/tests/data.txt": "theirs", "pkg/tests/more.txt": "more", "pkg/__init__.py": ""})
    space = Workspace(tmp_path)
    lay_out(space.staging, {"pkg/tests/data.txt": "mine"})
    after = restore(space, result, {"pkg/tests": "the tests of yo-dawg want it"})
    assert (space.staging / "pkg/tests/data.txt").read_text() == "mine"
    assert (space.staging / "pkg/tests/more.txt").read_text() == "more"
    assert (after.files, after.kept) == (0, {"pkg/tests": "0.0 kB: the tests of yo-dawg want it"})


def test_a_file_of_the_project_in_the_place_of_a_pruned_folder_stays(tmp_path: Path) -> None:
    result = pruned(tmp_path, {"pkg/tests/data.txt": "theirs", "pkg/__init__.py": ""})
    lay_out(tmp_path / "staging", {"pkg/tests": "mine"})
    restore(Workspace(tmp_path), result, {"pkg/tests": "the tests of yo-dawg want it"})
    assert (tmp_path / "staging/pkg/tests").read_text() == "mine"


PARTS = st.sampled_from(["pkg", "tests", "docs", "bin", "x-1.dist-info", "__pycache__", "a"])
FILES = st.sampled_from(["a.py", "RECORD", "METADATA", "b.pyc", "c.txt", "tool", "x.h"])
TREES = st.sets(st.tuples(st.lists(PARTS, max_size=3), FILES).map(lambda each: "/".join([*each[0], each[1]])))


@given(installed=TREES)
def test_pruning_is_done_once_and_can_be_undone(installed: set[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        space = Workspace(Path(folder))
        result = pruned(space.root, dict.fromkeys(sorted(installed), "x = 1\n"))
        left, taken = names(space.staging), names(space.pruned)
        assert (left | taken, left & taken) == (installed, set())
        assert (result.files, set(result.taken)) == (len(taken), taken)
        assert [path for path in space.staging.rglob("*") if path.is_dir() and not any(path.iterdir())] == []
        assert prune(walk(space.staging), NOTHING, Rules(), space).files == 0
        undone = restore(space, result, dict.fromkeys((each.group for each in result.taken.values()), "why not"))
        assert (names(space.staging), names(space.pruned), undone.files) == (installed, set(), 0)


@given(st.lists(st.sampled_from(["test", "tests", "s", "é", "_", "1", " ", ".", "\n"])).map("".join))
def test_the_word_is_found_as_a_word(text: str) -> None:
    assert speaks_of_tests(text) == bool(re.search(r"\btests?\b", text))
