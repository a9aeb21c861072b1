"""Bytecode: for what the proof loaded, valid whatever the dates, the same wherever and whenever it is made."""

from __future__ import annotations

import contextlib
import importlib.util
import marshal
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from yo_dawg.archives import Former, write_zip
from yo_dawg.builder import Builder
from yo_dawg.control.clients import Aws
from yo_dawg.control.job import Job
from yo_dawg.control.store import Store
from yo_dawg.errors import PackageError
from yo_dawg.log import Log
from yo_dawg.process import Shell, child_environ
from yo_dawg.settings import Settings
from yo_dawg.trees import Listing, identity, walk
from yo_dawg.workshop.package.bytecode import lay_former_bytecode, write_bytecode
from yo_dawg.workshop.package.install import Installed
from yo_dawg.workshop.package.prove import Proof
from yo_dawg.workshop.package.sizes import package_sizes
from yo_dawg.workspace import Workspace, put_python_on_path, workspace

BUILDER = Builder("yo-dawg", "arn:aws:lambda:eu-west-1:123456789012:function:yo-dawg", "id", "python3.13", "x86_64")
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
    settings = Settings("b", ("*",), "https://g", "", "", tmp, tmp_is_ours=False, proof=proof, bytecode=setting)
    log = Log(())
    with workspace(tmp, tmp_is_ours=False) as space, contextlib.ExitStack() as stack:
        put_python_on_path(space)
        for name, text in {**FILES, **(files or {})}.items():
            (space.staging / name).parent.mkdir(exist_ok=True)
            (space.staging / name).write_text(text, encoding="latin-1")
        shell = Shell(child_environ(space, settings), log)
        store = Store(None, "b", "yo-dawg", "123456789012")
        job = Job(settings, BUILDER, space, log, shell, Aws(None, None, lambda _: None), store)
        made_before = Former(stack.enter_context(former.open("rb"))) if former else None
        known = KNOWN[former] if former and setting != "none" else {}
        laid = lay_former_bytecode(walk(space.staging), made_before, known, INSTALLED)
        assert laid.keys() == known.keys()
        meddle(space.staging)
        made = write_bytecode(Proof(loaded=LOADED), laid, INSTALLED, job)
        assert made.warnings == ()
        assert same(made.files, walk(space.staging))
        sizes = package_sizes(made.files, {"pkg/__init__.py": "pkg"})
        assert (sizes["pkg"] > 100) == (setting != "none"), "bytecode counts as its source's distribution"
        write_zip(space.staging, package := tmp / "package.zip", made_before)
        KNOWN[package] = dict(made.digests)
        return package


def same(one: Listing, other: Listing) -> bool:
    """Say whether they list the same files; when these were read last does not matter."""
    return all(a[:2] == b[:2] and identity(a[2]) == identity(b[2]) for a, b in zip(one, other, strict=True))


KNOWN: dict[Path, dict[str, str]] = {}
"""What write_bytecode said of each package."""

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
    with former.open("rb") as file:
        laid = lay_former_bytecode(walk(space.staging), Former(file), KNOWN[former], INSTALLED)
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
    assert KNOWN[clean].keys() == bytecode(clean) & DEPENDENCIES
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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, space: Workspace, shell: Shell, log: Log
) -> None:
    settings = Settings("b", ("*",), "https://g", "", "", tmp_path, tmp_is_ours=False, bytecode="all")
    store = Store(None, "b", "yo-dawg", "123456789012")
    job = Job(settings, BUILDER, space, log, shell, Aws(None, None, lambda _: None), store)
    (space.staging / "app.py").write_text(FILES["app.py"])
    (space.staging / "mine.pyc").write_text("mine")
    (space.staging / "late.py").write_text("x = 1\n" * 1000)
    limit = len(FILES["app.py"]) + len("mine") + 6000
    monkeypatch.setattr("yo_dawg.control.doctor.MAX_UNZIPPED_BYTES", limit)
    monkeypatch.setattr("yo_dawg.control.package.MAX_UNZIPPED_BYTES", limit)
    monkeypatch.setattr("yo_dawg.workshop.package.bytecode.MAX_UNZIPPED_BYTES", limit)
    monkeypatch.setattr("yo_dawg.workshop.package.sizes.MAX_UNZIPPED_BYTES", limit)
    made = write_bytecode(Proof(loaded=LOADED), {}, INSTALLED, job)
    assert made.digests == {}
    assert "2 modules go without" in made.warnings[0]
    assert same(made.files, walk(space.staging))
    assert {path.name for path in space.staging.rglob("*") if path.is_file()} == {"app.py", "late.py", "mine.pyc"}
    monkeypatch.setattr("yo_dawg.control.doctor.MAX_UNZIPPED_BYTES", limit + 2000)
    monkeypatch.setattr("yo_dawg.control.package.MAX_UNZIPPED_BYTES", limit + 2000)
    monkeypatch.setattr("yo_dawg.workshop.package.bytecode.MAX_UNZIPPED_BYTES", limit + 2000)
    monkeypatch.setattr("yo_dawg.workshop.package.sizes.MAX_UNZIPPED_BYTES", limit + 2000)
    made = write_bytecode(Proof(loaded=LOADED), {}, INSTALLED, job)
    assert "1 modules go without" in made.warnings[0]
    assert [path.name for path in space.staging.glob("__pycache__/*")] == [f"app.{TAG}.pyc"]
    monkeypatch.setattr("yo_dawg.control.doctor.MAX_UNZIPPED_BYTES", limit + 100_000)
    monkeypatch.setattr("yo_dawg.control.package.MAX_UNZIPPED_BYTES", limit + 100_000)
    monkeypatch.setattr("yo_dawg.workshop.package.bytecode.MAX_UNZIPPED_BYTES", limit + 100_000)
    monkeypatch.setattr("yo_dawg.workshop.package.sizes.MAX_UNZIPPED_BYTES", limit + 100_000)
    shutil.rmtree(space.staging / "__pycache__")
    assert write_bytecode(Proof(loaded=LOADED), {}, INSTALLED, job).warnings == ()
    assert len([*space.staging.glob("__pycache__/*")]) == 2


def test_a_compiler_that_fails_says_so(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="the compiler ended with exit status 1") as refused:
        compiled(tmp_path / "a", "used", files={"pkg/__pycache__": "a file, where a folder should be"})
    assert "FileExistsError" in str(refused.value)
