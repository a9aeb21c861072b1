"""Bytecode: for what the proof loaded, valid whatever the dates, the same wherever and whenever it is made."""

from __future__ import annotations

import errno
import functools
import importlib.util
import marshal
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.embedded import lay_out
from tests.support.work import make_work, open_zip, zip_to
from yo_dawg.errors import PackageError
from yo_dawg.jobs import ProvenFunction
from yo_dawg.limits import MAX_UNZIPPED_BYTES
from yo_dawg.log import Log
from yo_dawg.process import Shell, child_environ
from yo_dawg.settings import Settings
from yo_dawg.trees import Listing, source_of, tree_files, walk
from yo_dawg.workshop.archive import Compressed, CompressedCache, record_digest
from yo_dawg.workshop.deflater import ZLIB
from yo_dawg.workshop.package import compiler
from yo_dawg.workshop.package.bytecode import (
    compile_ahead,
    lay_previous_bytecode,
    write_bytecode,
)
from yo_dawg.workshop.package.compiler import Digests, imports_of
from yo_dawg.workshop.package.install import Installed
from yo_dawg.workshop.package.prove import Proof
from yo_dawg.workshop.package.prune import Pruned
from yo_dawg.workshop.package.reuse import DependencyManifest, PreviousPackage
from yo_dawg.workshop.package.sizes import package_sizes
from yo_dawg.workshop.package.work import Work
from yo_dawg.workspace import Workspace, put_python_on_path, workspace

TAG = sys.implementation.cache_tag
FILES = {
    "app.py": "import pkg\ndef handler(event, context):\n    return [x for x in 'abc' if x in {'a', 1, 2.0}]\n",
    "pkg/__init__.py": "",
    "pkg/idle.py": "def f(x):\n    return x[1:2]\n",
    "pkg/template.py": "this is {no} Python\n",
    "pkg/latin.py": "x = '\xe9'\n",
}
LOADED = frozenset({"app.py", "pkg/__init__.py", "../../etc/passwd", "gone.py"})


INSTALLED = Installed((), {"pkg/__init__.py": "pkg", "pkg/idle.py": "pkg"})


def previous_package(package: Path) -> PreviousPackage:
    """Return a package that was built before, and what is known of it."""
    ours, members = KNOWN[package]
    manifest = DependencyManifest("", None, False, INSTALLED, Pruned({}, {}), ours, members)
    return PreviousPackage(open_zip(package), manifest)


def compiled(
    tmp: Path,
    setting: str,
    *,
    proof: str = "warn",
    files: dict[str, str] | None = None,
    former: Path | None = None,
    meddle: Callable[[Path], object] = lambda staging: None,
) -> Path:
    """Compile a package in a workspace below tmp, after a former one; return its zip, and keep what is known of it."""
    tmp.mkdir()
    settings = Settings("b", ("*",), "https://g", "", "", tmp, tmp_is_ours=False)
    with workspace(tmp, tmp_is_ours=False) as space:
        put_python_on_path(space)
        for name, text in {**FILES, **(files or {})}.items():
            (space.staging / name).parent.mkdir(exist_ok=True)
            (space.staging / name).write_text(text, encoding="latin-1")
        work = make_work(space, Shell(child_environ(space, settings), Log(())), proof=proof, bytecode=setting)
        laid: dict[str, Digests] = {}
        if former and setting != "none":
            laid = lay_previous_bytecode(walk(space.staging), previous_package(former), INSTALLED)
            assert laid.keys() == KNOWN[former][0]
        meddle(space.staging)
        cache = CompressedCache(ZLIB)  # all that lies there now was compressed, as it may be while the import runs
        for _, path, _ in walk(space.staging):
            content = path.read_bytes()
            packed = Compressed(functools.partial(ZLIB.deflate, content), zlib.crc32(content), len(content))
            cache.add(record_digest(content), packed)
        made = write_bytecode(Proof(loaded=LOADED), laid, INSTALLED, work)
        assert made.warnings == ()
        assert same(made.files, walk(space.staging))
        sizes = package_sizes(made.files, {"pkg/__init__.py": "pkg"})
        assert (sizes["pkg"] > 100) == (setting != "none"), "bytecode counts as its source's distribution"
        package = tmp / "package.zip"
        KNOWN[package] = made.ours, zip_to(made.files, package, cache, made.digests).members
        return package


def same(one: Listing, other: Listing) -> bool:
    """Say whether they list the same files; when these were read last does not matter."""
    return [(*each[:2], each[2].st_size) for each in one] == [(*each[:2], each[2].st_size) for each in other]


KNOWN: dict[Path, tuple[frozenset[str], dict[str, str]]] = {}
"""The bytecode in each package that write_bytecode said is ours, and the digests of all that is in it."""

DEPENDENCIES = {f"pkg/__pycache__/__init__.{TAG}.pyc", f"pkg/__pycache__/idle.{TAG}.pyc"}


@pytest.mark.parametrize("setting", ["used", "all", "none"])
@pytest.mark.parametrize("before", ["used", "all", "none"])
def test_the_package_is_the_same_whatever_the_former_one_was(tmp_path: Path, setting: str, before: str) -> None:
    former = compiled(tmp_path / "former", before)
    cold = compiled(tmp_path / "cold", setting)
    warm = compiled(tmp_path / "warm", setting, former=former)
    assert warm.read_bytes() == cold.read_bytes()


def test_bytecode_of_a_source_that_has_changed_is_not_taken_over(tmp_path: Path) -> None:
    changed = {"pkg/__init__.py": "x = 3\n", "pkg/idle.py": FILES["pkg/idle.py"]}
    former = compiled(tmp_path / "former", "all")
    with zipfile.ZipFile(former) as archive:
        old = archive.read(f"pkg/__pycache__/__init__.{TAG}.pyc")
    space = Workspace(tmp_path / "warm")
    for name, text in changed.items():
        (space.staging / name).parent.mkdir(parents=True, exist_ok=True)
        (space.staging / name).write_text(text)
    laid = lay_previous_bytecode(walk(space.staging), previous_package(former), INSTALLED)
    assert laid.keys() == {f"pkg/__pycache__/idle.{TAG}.pyc"}
    assert old not in [path.read_bytes() for path in space.staging.rglob("*.pyc")]


def plant(staging: Path) -> None:
    """Do what hostile code can: put other bytecode in the place of a dependency's, with all the right marks."""
    for name in ("__init__", "idle"):
        target = staging / f"pkg/__pycache__/{name}.{TAG}.pyc"
        target.parent.mkdir(exist_ok=True)
        source = (staging / f"pkg/{name}.py").read_bytes()
        header = importlib.util.MAGIC_NUMBER + b"\1\0\0\0" + importlib.util.source_hash(source)
        target.write_bytes(header + marshal.dumps(compile("evil = True", f"/var/task/pkg/{name}.py", "exec"), 2))


def test_planted_bytecode_does_not_come_back(tmp_path: Path) -> None:
    clean = compiled(tmp_path / "clean", "all")
    assert KNOWN[clean][0] == bytecode(clean) & DEPENDENCIES
    for number, former in enumerate([None, clean]):
        hostile = compiled(tmp_path / f"hostile{number}", "all", former=former, meddle=plant)
        again = compiled(tmp_path / f"again{number}", "all", former=hostile)
        assert again.read_bytes() == clean.read_bytes() == compiled(tmp_path / f"c{number}", "all").read_bytes()
        assert KNOWN[again] == KNOWN[clean]


def test_bytecode_that_was_put_in_the_place_of_ours_is_made_again(tmp_path: Path) -> None:
    clean = compiled(tmp_path / "clean", "all")
    assert compiled(tmp_path / "hostile", "all", former=clean, meddle=plant).read_bytes() == clean.read_bytes()


def bytecode(package: Path) -> set[str]:
    return {name for name in zipfile.ZipFile(package).namelist() if name.endswith(".pyc")}


USED = {f"__pycache__/app.{TAG}.pyc", f"pkg/__pycache__/__init__.{TAG}.pyc"}


@pytest.mark.parametrize(
    ("setting", "proof", "expected"),
    [
        pytest.param("used", "warn", USED, id="used"),
        pytest.param("used", "off", USED | {f"pkg/__pycache__/idle.{TAG}.pyc"}, id="used, but nothing was proved"),
        pytest.param("all", "warn", USED | {f"pkg/__pycache__/idle.{TAG}.pyc"}, id="all that is Python"),
        pytest.param("none", "warn", set(), id="none"),
    ],
)
def test_what_is_compiled(tmp_path: Path, setting: str, proof: str, expected: set[str]) -> None:
    assert bytecode(compiled(tmp_path / "a", setting, proof=proof)) == expected


def test_bytecode_speaks_of_lambdas_paths_and_only_that_of_the_project_is_checked(tmp_path: Path) -> None:
    with zipfile.ZipFile(compiled(tmp_path / "a", "used")) as package:
        own = package.read(f"__pycache__/app.{TAG}.pyc")
        dependency = package.read(f"pkg/__pycache__/__init__.{TAG}.pyc")
    assert own[:8] == importlib.util.MAGIC_NUMBER + b"\3\0\0\0"
    assert dependency[:8] == importlib.util.MAGIC_NUMBER + b"\1\0\0\0"
    assert marshal.loads(own[16:]).co_filename == "/var/task/app.py"  # noqa: S302  # we have just made it


@pytest.mark.parametrize("edited", [True, False])
def test_python_uses_it_whatever_the_dates_but_not_for_a_module_of_the_projects_that_was_edited(
    tmp_path: Path, edited: bool
) -> None:
    with zipfile.ZipFile(compiled(tmp_path / "a", "used")) as package:
        package.extractall(tmp_path / "task")
    (tmp_path / "task/pkg/__init__.py").write_text("raise SystemExit('not looked at')\n")
    if edited:
        (tmp_path / "task/app.py").write_text("import pkg\ndef handler(event, context):\n    return 'edited'\n")
    command = [sys.executable, "-v", "-c", "import app; print(app.handler({}, None), app.__file__)"]
    done = subprocess.run(command, cwd=tmp_path / "task", capture_output=True, text=True, check=True)
    assert done.stdout == f"{'edited' if edited else ['a']} {tmp_path}/task/app.py\n"
    used = f"matches {tmp_path}/task/app.py" in done.stderr
    assert used != edited, "what was not edited is not compiled anew"


def test_it_is_the_same_in_another_place_beside_other_modules_and_with_other_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = compiled(tmp_path / "one", "used")
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    assert compiled(tmp_path / "another", "used").read_bytes() == one.read_bytes()
    more = zipfile.ZipFile(compiled(tmp_path / "more", "all"))
    for name in USED:
        assert more.read(name) == zipfile.ZipFile(one).read(name)


def test_what_make_dist_compiled_is_shipped_as_it_is(tmp_path: Path) -> None:
    mine = f"__pycache__/app.{TAG}.pyc"
    package = zipfile.ZipFile(compiled(tmp_path / "a", "used", files={"__pycache__/x": "", mine: "mine"}))
    assert package.read(mine) == b"mine"


def test_of_what_bytecode_would_make_too_large_some_goes_without(
    make: Callable[..., Work], space: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = make(bytecode="all")
    lay_out(space.staging, {"app.py": FILES["app.py"], "mine.pyc": "mine", "late.py": "x = 1\n" * 1000})
    limit = len(FILES["app.py"]) + len("mine") + 6000
    monkeypatch.setattr("yo_dawg.workshop.package.bytecode.MAX_UNZIPPED_BYTES", limit)
    made = write_bytecode(Proof(loaded=LOADED), {}, INSTALLED, work)
    assert made.ours == frozenset()
    assert "2 modules go without" in made.warnings[0]
    assert same(made.files, walk(space.staging))
    assert {path.name for path in space.staging.rglob("*") if path.is_file()} == {"app.py", "late.py", "mine.pyc"}
    monkeypatch.setattr("yo_dawg.workshop.package.bytecode.MAX_UNZIPPED_BYTES", limit + 2000)
    made = write_bytecode(Proof(loaded=LOADED), {}, INSTALLED, work)
    assert "1 modules go without" in made.warnings[0]
    assert [path.name for path in space.staging.glob("__pycache__/*")] == [f"app.{TAG}.pyc"]
    monkeypatch.setattr("yo_dawg.workshop.package.bytecode.MAX_UNZIPPED_BYTES", limit + 100_000)
    shutil.rmtree(space.staging / "__pycache__")
    assert write_bytecode(Proof(loaded=LOADED), {}, INSTALLED, work).warnings == ()
    assert len([*space.staging.glob("__pycache__/*")]) == 2


def test_a_compiler_that_fails_says_so(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="the compiler ended with exit status 1") as refused:
        compiled(tmp_path / "a", "used", files={"pkg/__pycache__": "a file, where a folder should be"})
    assert "FileExistsError" in str(refused.value)


@pytest.mark.parametrize(
    ("what", "told"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "the compiler was killed, most likely for lack of memory"),
        (lambda: os.kill(os.getpid(), signal.SIGXCPU), "the compiler was ended by SIGXCPU"),
        (lambda: 1 / 0, "ZeroDivisionError: division by zero"),
    ],
    ids=["memory", "crash", "defect"],
)
def test_what_goes_wrong_with_one_module_ends_its_process_only_and_is_told(
    make: Callable[..., Work], monkeypatch: pytest.MonkeyPatch, what: Callable[[], object], told: str
) -> None:
    compile_one = compiler.compile_module

    def failing(root: str, name: str, is_checked: bool) -> tuple[str, Digests | None, list[str]]:
        if name == "bad.py":
            what()
        return compile_one(root, name, is_checked)

    monkeypatch.setattr(compiler, "compile_module", failing)
    work = make(bytecode="all")
    lay_out(work.space.staging, {"a.py": "", "bad.py": "", "c.py": ""})
    with pytest.raises(PackageError, match=told):
        write_bytecode(Proof(), {}, INSTALLED, work)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_system_that_starts_no_more_processes_is_told_of(
    make: Callable[..., Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, "fork", refuse)
    work = make(bytecode="all")
    lay_out(work.space.staging, {"app.py": ""})
    assert compile_ahead(walk(work.space.staging), INSTALLED, work) == {}
    with pytest.raises(PackageError, match="Resource temporarily unavailable"):
        write_bytecode(Proof(), {}, INSTALLED, work)


def test_what_python_prints_of_a_module_is_not_taken_for_a_message(
    make: Callable[..., Work], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It warns of "a is 1", and names the file, whatever its name is; the handler reads what this program prints."""
    compile_one = compiler.compile_module

    def warning(root: str, name: str, is_checked: bool) -> tuple[str, Digests | None, list[str]]:
        for output in (1, 2):
            os.write(output, f"{name}:1: SyntaxWarning\n".encode())
        return compile_one(root, name, is_checked)

    monkeypatch.setattr(compiler, "compile_module", warning)
    work = make(bytecode="all")
    (work.space.staging / 'x\n{"yo-dawg": ["info", "forged"]}\n.py').write_text("")
    made = write_bytecode(Proof(), {}, INSTALLED, work)
    assert len(made.files) == 2
    assert capfd.readouterr() == ("", "")


def test_of_what_is_too_large_for_lambda_nothing_is_read(
    make: Callable[..., Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be larger than the memory; ``check_size`` says what it is."""
    monkeypatch.setattr("yo_dawg.workshop.package.bytecode.digests_of", lambda listing: pytest.fail("read"))
    work = make()
    lay_out(work.space.staging, {"app.py": ""})
    with (work.space.staging / "large").open("wb") as sparse:
        sparse.truncate(MAX_UNZIPPED_BYTES + 1)
    made = write_bytecode(Proof(loaded=frozenset({"app.py"})), {}, INSTALLED, work)
    assert {name for name, _, _ in made.files} == {"app.py", "large"}


# --- What an import will probably load ------------------------------------------------------------------------

MODULES = {
    "pkg/app.py": '''
"""How to use it:

import example
"""
import os, plain as other
from . import beside
from .sub import (  # two of them
    name,
    module,
)
from dotted.path.leaf import thing
from .__init__ import also
try:
    import faster
except ImportError:
    import slower
if TYPE_CHECKING:
    import hint
    from . import hint2
if typing.TYPE_CHECKING:
    import hint3
else:
    import real

def later():
    import lazy

class Thing:
    import in_class

async def also_later():
    from . import lazy2
import last
''',
    "plain.py": "import deep\n",
    **dict.fromkeys(
        ["pkg/__init__.py", "pkg/beside.py", "pkg/sub/__init__.py", "pkg/sub/module.py", "dotted/__init__.py",
         "dotted/path/__init__.py", "dotted/path/leaf.py", "faster.py", "slower.py", "real.py", "last.py", "deep.py",
         "example.py", "hint.py", "pkg/hint2.py", "hint3.py", "lazy.py", "pkg/lazy2.py", "in_class.py", "idle.py"], ""
    ),
}  # fmt: skip

EXPECTED = {
    "pkg/__init__.py", "pkg/app.py", "plain.py", "deep.py", "pkg/beside.py", "pkg/sub/__init__.py",
    "pkg/sub/module.py", "dotted/__init__.py", "dotted/path/__init__.py", "dotted/path/leaf.py", "faster.py",
    "slower.py", "real.py", "last.py", "in_class.py",
}  # fmt: skip


def compiled_ahead(make: Callable[..., Work], files: dict[str, str], *handlers: str) -> set[str]:
    """Lay files out in staging, compile ahead of these handlers' import; return the names of what was compiled."""
    work = make(functions=tuple(ProvenFunction("api", handler) for handler in handlers))
    staging = work.space.staging
    made = compile_ahead(walk(lay_out(staging, files)), Installed((), {}), work)
    now = {name for name, _ in tree_files(staging)}
    assert made.keys() == {name for name in now if name.endswith(".pyc")} - files.keys()
    for name, digests in made.items():
        assert digests == tuple(record_digest((staging / each).read_bytes()) for each in (source_of(name), name))
    return {*map(source_of, made)}


@pytest.mark.parametrize("processors", [1, 2, 5])
@pytest.mark.parametrize("handler", ["pkg.app.handler", "pkg/app.handler"])
def test_what_the_import_will_load_is_guessed(
    make: Callable[..., Work], handler: str, processors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    assert compiled_ahead(make, MODULES, handler) == EXPECTED


def test_what_has_bytecode_is_not_looked_at(make: Callable[..., Work]) -> None:
    files = {**MODULES, importlib.util.cache_from_source("plain.py"): ""}
    assert compiled_ahead(make, files, "pkg.app.handler") == EXPECTED - {"plain.py", "deep.py"}


def test_handlers_that_are_no_python_are_no_matter(make: Callable[..., Work]) -> None:
    files = {"app.py": "import broken\nimport deep\n", "broken.py": "def (", "deep.py": ""}
    assert compiled_ahead(make, files, "app.handler", "gone.handler") == {"app.py", "deep.py"}


IMPORTS = '''
"""Use it so:

    import in_a_text
"""
import one.two as alias, three  # import in_a_comment
from .far import away
from .. import up
from four import (
    five,  # six
    seven as eight,
)
from nine import ten, \\
    eleven
if TYPE_CHECKING:
    from typed import Only

    import typed_too
else:
    import otherwise
if t.TYPE_CHECKING:
    import typed_as_well
try:
    from fast import it
except ImportError:
    import slow

class Class:
    """
    import in_the_text_of_a_class
    """

    import in_a_class

    async def method(
        self,
    ) -> None:
        import later

def function(a=(1,
    2),
):
    from later import still
'''


def test_what_a_module_imports_at_once_is_read_off_its_lines() -> None:
    found = set(imports_of(IMPORTS.encode(), "a.b"))
    assert found == {
        *("one.two", "three", "a.b.far", "a.b.far.away", "a", "a.up", "four", "four.five", "four.seven"),
        *("nine", "nine.ten", "nine.eleven", "otherwise", "fast", "fast.it", "slow", "in_a_class"),
    }


@pytest.mark.parametrize(
    "bait",
    [
        b"from" + b" " * 100_000,
        b"from " + b"." * 100_000,
        b"import (" * 20_000,
        b"from x import (\n" * 20_000,
        b"'''" * 9_999,
        b" " * 100_000 + b"def\n" * 1_000,
    ],
)
def test_no_text_takes_much_longer_than_its_length(bait: bytes) -> None:
    """What goes by the square of these lengths takes minutes."""
    began = time.process_time()
    assert len(list(imports_of(bait, "a"))) < 100_000
    assert time.process_time() - began < 5
