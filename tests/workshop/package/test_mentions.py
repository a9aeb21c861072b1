"""What source files name is found by parsing; what cannot be parsed is taken to name all that it has the words for."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import pytest

from yo_dawg.workshop.package.mentions import (
    MAX_PARSED,
    MAX_PARSED_FILE,
    MAX_READ,
    Finder,
    may_name,
    opened,
    read_mentions,
    weight,
)

SUITE = "pkg/core/tests"


def find(
    text: str | bytes, name: str = "pkg/a.py", *, at_root: bool = False, code_only: bool = False
) -> dict[str, str]:
    content = text.encode() if isinstance(text, str) else text
    return Finder({SUITE: SUITE}, frozenset({SUITE} if code_only else ()), at_root).find(name, content)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("import pkg.core.tests.natype\n", "pkg/a.py"),
        ("import os, pkg.core.tests as t\n", "pkg/a.py"),
        ("from pkg.core.tests.natype import pd_NA\n", "other.py"),
        ("def f():\n    from pkg.core import tests\n", "other.py"),
        ("from .core import tests\n", "pkg/a.py"),
        ("from .core.tests import natype\n", "pkg/a.py"),
        ("from ..core import tests as t\n", "pkg/deep/a.py"),
        ("from . import tests\n", "pkg/core/__init__.py"),
        ("def f():\n    from .core import (\n        a,  # b\n        tests\n    )\n", "pkg/a.py"),
        ("def f():\n    from pkg.core import a, \\\n        tests\n", "pkg/a.py"),
        ("x = 1; from .core import tests; y = 2\n", "pkg/a.py"),
        ("try: from .core.tests import x\nexcept ImportError: x = None\n", "pkg/a.py"),
        ("[plugins]\none = pkg.core.tests.natype:main\n", "pkg-1.dist-info/entry_points.txt"),
    ],
)
def test_imports(text: str, name: str) -> None:
    assert find(text, name, code_only=True) == {SUITE: f"imported by {name}"}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("import_module('pkg.core.tests.natype')\n", "other.py"),
        ("import_module('.tests', 'pkg.core')\n", "pkg/core/a.py"),
        ("TABLE = {'x': 'pkg.core.tests.natype:main'}\n", "pkg/a.py"),
        ("get_data('pkg.core', 'tests/data.json')\n", "other.py"),
        ("files('pkg.core') / 'tests' / 'data.json'\n", "other.py"),
        ("files('pkg').joinpath('core/tests/data.json')\n", "other.py"),
        ("open(os.path.join(HERE, 'tests', 'data.json'))\n", "pkg/core/a.py"),
        ("open(os.path.join(HERE, '..', 'tests', 'data.json'))\n", "pkg/core/deep/a.py"),
        ("open(f'{HERE}/core/tests/{name}')\n", "pkg/a.py"),
        ("import pkg.core\nopen(pkg.core.__path__[0] + '/tests/data.json')\n", "other.py"),
    ],
)
def test_strings(text: str, name: str) -> None:
    assert find(text, name) == {SUITE: f"named in {name}"}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("# from pkg.core import tests\n", "pkg/a.py"),
        ("'''In pkg.core, the tests are skipped.'''\n", "pkg/a.py"),
        ("import pkg.core.testing\n", "pkg/a.py"),
        ("import other.tests\n", "pkg/a.py"),
        ("from pkg import tests\n", "pkg/a.py"),
        ("x = ['train.txt', 'tests.txt']\n", "pkg/core/a.py"),
        ("import tests\n", "elsewhere.py"),
        ("from ..... import tests\n", "pkg/core/a.py"),
    ],
)
def test_what_means_something_else(text: str, name: str) -> None:
    assert find(text, name) == {}


def test_the_name_alone_asks_for_data_and_not_for_modules() -> None:
    text = "ours = os.path.join(os.path.dirname(pkg.core.__file__), 'tests')\n"
    assert find(text, "pkg/core/a.py") == {SUITE: "named in pkg/core/a.py"}
    assert find(text, "pkg/core/a.py", code_only=True) == {}


def test_relative_to_the_root_is_for_the_projects_code() -> None:
    assert find("open('pkg/core/tests/x')\n", "app.py", at_root=True)
    finder = Finder({"docs": "docs"}, at_root=True)
    assert finder.find("src/app.py", b"os.listdir('docs')\n") == {"docs": "named in src/app.py"}
    assert Finder({"docs": "docs"}).find("src/app.py", b"os.listdir('docs')\n") == {}


@pytest.mark.parametrize(
    "bait",
    [
        pytest.param(b"(" * 100_000, id="brackets"),
        pytest.param(b"x = " + b"-" * 100_000 + b"1", id="minuses"),
        pytest.param(b"a" + b".a" * 100_000, id="attributes"),
        pytest.param(b"a" + b"+a" * 100_000, id="sums"),
        pytest.param(b"\0", id="null bytes"),
        pytest.param(b"def (:\n", id="no Python"),
        pytest.param(b"# coding: nothing\n\xff\n", id="an encoding that there is not"),
        pytest.param(b"a\n" * (MAX_PARSED_FILE // 2 + 1), id="many statements"),
        pytest.param(b"x = [" + b"1," * MAX_PARSED_FILE + b"]", id="many numbers"),
        pytest.param(b"x = [" + b"...," * (MAX_PARSED_FILE // 3) + b"]", id="many marks"),
    ],
)
def test_what_cannot_be_parsed_keeps_what_it_might_import(bait: bytes) -> None:
    why = "may be imported by pkg/a.py, which cannot be parsed"
    assert find(b"from .core import tests\n" + bait) == {SUITE: why}
    assert find(b"import os\n" + bait) == {}


def test_fifty_megabytes_take_little_time_and_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_bytes(b"from .core import tests\n" + b"the tests of, " * (50_000_000 // 14))
    tracemalloc.start()
    started = time.process_time()
    with opened(path, path.stat().st_size) as content:
        assert Finder({SUITE: SUITE}).find("pkg/a.py", content)
        assert may_name(content, "tests")
        assert not may_name(content, "docs")
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    assert time.process_time() - started < 10


def test_all_files_together_have_a_limit_too() -> None:
    text = b"from .core import testing, tests_of\n" + b"a\n" * (MAX_PARSED_FILE // 3) + b"x = '/tests'\n"
    finder = Finder({SUITE: SUITE})
    finder.parsed = MAX_PARSED - weight(text)
    assert finder.find("pkg/a.py", text) == {}
    assert finder.find("pkg/b.py", text) == {SUITE: "may be imported by pkg/b.py, which cannot be parsed"}


def test_a_file_just_too_large_to_be_read_is_mapped(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    for count in (MAX_READ, MAX_READ + 1):
        path.write_bytes(b"#" * count)
        with opened(path, count) as content:
            assert isinstance(content, bytes) == (count == MAX_READ)


def test_warnings_of_the_parser_are_nobodys_matter() -> None:
    assert read_mentions("a.py", rb"x = '\d'; y = 1 is 1") is not None
