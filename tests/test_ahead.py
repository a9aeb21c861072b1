"""What is done before it is known to be needed: compiled, compressed, unpacked and stored.  It changes no result."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import threading
import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.embedded import lay_out
from tests.test_bundle import project, shipped
from tests.test_bundle import wheels as wheels
from tests.test_handler import HANDLER, Yard
from tests.test_handler import setup as setup
from tests.test_handler import yard as yard
from tests.test_install import make_wheel
from yo_dawg.archives import ZLIB, Former, write_members
from yo_dawg.archives import unzip as unzip_
from yo_dawg.checkout import Checkout
from yo_dawg.control.clone import clone as clone_
from yo_dawg.control.functions import Target
from yo_dawg.control.job import Job
from yo_dawg.control.store import Store
from yo_dawg.digests import in_hex
from yo_dawg.errors import DeadlineError, PackageError, SourceError
from yo_dawg.log import Log
from yo_dawg.process import Command, Shell
from yo_dawg.trees import Listing, identity, tree_files, walk
from yo_dawg.workshop.package.bytecode import bytecode_digest, compile_ahead, run_compiler, source_of
from yo_dawg.workshop.package.compiler import imports_of
from yo_dawg.workshop.package.install import Installed
from yo_dawg.workshop.package.reuse import Inputs
from yo_dawg.workshop.package.reuse import install_inputs as install_inputs_
from yo_dawg.workshop.package.reuse import unpack_bundle as unpack_bundle_
from yo_dawg.workspace import Workspace


def target(handler: str) -> Target:
    return Target("api", "arn", handler, 3, "", None, (), "Active", busy=False, failure=None)


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
    "slower.py", "real.py", "last.py",
}  # fmt: skip


def compiled(space: Workspace, shell: Shell, files: dict[str, str], *handlers: str) -> set[str]:
    """Lay files out in staging, compile ahead of these handlers' import; return the names of what was compiled."""
    job = cast(Job, SimpleNamespace(space=space, shell=shell, log=Log(())))
    listing = walk(lay_out(space.staging, files))
    made = compile_ahead([*map(target, handlers)], listing, Installed((), {}), job)
    now = {name for name, _ in tree_files(space.staging)}
    assert made.keys() == {name for name in now if name.endswith(".pyc")} - files.keys()
    for name, digest in made.items():
        assert bytecode_digest(space.staging / source_of(name), (space.staging / name).read_bytes()) == digest
    return {*map(source_of, made)}


@pytest.mark.parametrize("processors", [1, 2, 5])
@pytest.mark.parametrize("handler", ["pkg.app.handler", "pkg/app.handler"])
def test_what_the_import_will_load_is_guessed(
    space: Workspace, shell: Shell, handler: str, processors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    assert compiled(space, shell, MODULES, handler) == EXPECTED


def test_what_has_bytecode_is_not_looked_at(space: Workspace, shell: Shell) -> None:
    files = {**MODULES, importlib.util.cache_from_source("plain.py"): ""}
    assert compiled(space, shell, files, "pkg.app.handler") == EXPECTED - {"plain.py", "deep.py"}


def test_handlers_that_are_no_python_are_no_matter(space: Workspace, shell: Shell) -> None:
    files = {"app.py": "import broken\nimport deep\n", "broken.py": "def (", "deep.py": ""}
    assert compiled(space, shell, files, "app.handler", "gone.handler") == {"app.py", "deep.py"}


def test_imports_are_found_also_in_long_modules() -> None:
    """Where an argument of the bytecode is wider than one byte."""
    many = "".join(f"v{number} = {number}.5\n" for number in range(70_000))
    hints = "".join(f"    w{number} = {number}.25\n" for number in range(300))
    text = f"{many}from .far import away\nif TYPE_CHECKING:\n{hints}    import hint\nfrom .. import up\n"
    assert imports_of(compile(text, "x", "exec"), "a.b") == ["a.b.far", "a.b.far.away", "a", "a.up"]


# --- What the guess does to a package ---------------------------------------------------------------------------


def without_a_guess(yard: Yard, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    with patch.context() as none:
        none.setattr("yo_dawg.control.package.compile_ahead", lambda *_: {})
        return yard.build(force=True)


@pytest.mark.parametrize("guess", [["app.py", "alpha/idle.py"], ["alpha/__init__.py", "beta.py"]])
def test_a_wrong_guess_makes_the_same_package(
    yard: Yard, wheels: Path, guess: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    yard.add_project(project(wheels))
    expected = without_a_guess(yard, monkeypatch)

    def compile_guess(_: object, listing: Listing, installed: Installed, job: Job) -> dict[str, str]:
        sizes = {name: status.st_size for name, _, status in listing if name in guess}
        return run_compiler(sizes, None, installed, job)

    monkeypatch.setattr("yo_dawg.control.package.compile_ahead", compile_guess)
    assert yard.build(force=True)["code_sha256"] == expected["code_sha256"]


def test_where_it_cannot_be_compiled_and_need_not_be_there_is_no_harm(yard: Yard, wheels: Path) -> None:
    files = project(wheels, app__py=f"try:\n    import sub.lazy\nexcept ImportError:\n    pass\n{HANDLER}")
    script = 'cp -r app.py sub "$1"; echo a file > "$1/sub/__pycache__"\n'
    lazy = {"sub/__init__.py": "raise ImportError('not here')\n", "sub/lazy.py": "", "make_dist.sh": script}
    yard.add_project({**files, **lazy})
    assert yard.build()["status"] == "deployed"
    with shipped(yard) as archive:
        assert archive.read("sub/__pycache__") == b"a file\n"
        assert [name for name in archive.namelist() if name.endswith(".pyc")] == [
            importlib.util.cache_from_source("app.py")
        ]


MEDDLING = """
import importlib.util, os, pathlib, sys
beta = pathlib.Path(__file__).with_name("beta.py")
bytecode = pathlib.Path(importlib.util.cache_from_source(beta))
for folder in (beta.parent, bytecode.parent):
    folder.chmod(0o700)
WHAT
import beta
def handler(event, context):
    return {}
"""


@pytest.mark.parametrize(
    "what",
    [
        "forged = bytecode.read_bytes(); bytecode.unlink(); bytecode.write_bytes(forged.replace(b'b', b'c'))",
        "bytecode.unlink(); bytecode.write_bytes(b'')",
    ],
)
def test_bytecode_that_the_import_has_changed_is_made_again(
    yard: Yard, wheels: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YO_DAWG_PROOF", "warn")
    name = importlib.util.cache_from_source("beta.py")
    yard.add_project(project(wheels, app__py=f"import beta\n{HANDLER}"))
    yard.build()
    with shipped(yard) as archive:
        expected = archive.read(name)
    yard.add_project(project(wheels, app__py=MEDDLING.replace("WHAT", what)))
    yard.build(force=True)
    with shipped(yard) as archive:
        assert archive.read(name) == expected


PATCHER = """
f="$1/alpha/data.so"
touch -r "$f" ref
printf BBBB | dd of="$f" conv=notrunc
touch -r ref "$f"
cp app.py "$1"
"""


def test_what_make_dist_changed_ships_though_it_looks_the_same(yard: Yard, wheels: Path) -> None:
    make_wheel(wheels, "Alpha", "1.1", {"alpha/__init__.py": "", "alpha/data.so": "AAAA"})
    yard.add_project(project(wheels, "alpha", app__py=HANDLER, make_dist__sh=PATCHER))
    yard.build()
    with shipped(yard) as archive:
        assert archive.read("alpha/data.so") == b"BBBB"


def test_what_is_gone_by_the_time_does_not_hold_up_what_is_compressed_ahead(tmp_path: Path) -> None:
    """Bytecode of the guess, say, that the handler does not load."""
    paths = [tmp_path / name for name in ("gone", "pipe", "there")]
    for path in paths:
        path.write_text(path.name)
    meant = [(path.name, path, identity(path.stat())) for path in paths]
    for path in paths[:2]:
        path.unlink()
    os.mkfifo(paths[1])
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        write_members(meant, archive, [], ZLIB)
        assert archive.namelist() == ["there"]
        with pytest.raises(FileNotFoundError, match="gone"):
            write_members([("gone", paths[0], None)], archive, [], ZLIB)


# --- Interpreters that are there when they are needed -----------------------------------------------------------


def test_each_interpreter_is_started_once(yard: Yard, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is prepared is what is run."""
    started: list[str] = []
    start = Shell._start

    def noted(shell: Shell, command: Command) -> Any:
        text = " ".join(map(str, command.argv))
        started.extend(name for name in ("start_git_worker", "ask_refs", "compile_modules", "import_handler")
                       if f"{name}()" in text.splitlines()[-1])  # fmt: skip
        return start(shell, command)

    yard.add_project(project(wheels))
    yard.build()
    yard.add_project({**project(wheels), "app.py": f"import alpha\n{HANDLER}"})
    monkeypatch.setattr(Shell, "_start", noted)
    yard.build()
    assert sorted(started) == ["ask_refs", "compile_modules", "import_handler", "start_git_worker"]


# --- What is stored while the handler is imported ---------------------------------------------------------------


def refuse(*_: object) -> None:
    raise AssertionError("it was uploaded after the proof")


def test_a_change_of_code_is_stored_while_it_is_proved(
    yard: Yard, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = project(wheels)
    yard.add_project(files)
    yard.build()
    yard.add_project({**files, "app.py": f"{files['app.py']}# changed\n"})
    with monkeypatch.context() as patch:
        patch.setattr("lambda_function.store_package", refuse)
        result = yard.build()
    assert result["status"] == "deployed"
    assert yard.code_sha256 == result["code_sha256"]
    assert any(in_hex(result["code_sha256"]) in key for key in yard.keys("packages/"))


@pytest.mark.parametrize(
    ("app", "fails"),
    [
        pytest.param(f"import nowhere\n{HANDLER}", True, id="cannot be imported"),
        pytest.param(
            f"import importlib\nimportlib.import_module('alpha.idle')\n{HANDLER}", False, id="uses other modules"
        ),
        pytest.param(f"print(1)\n{HANDLER}", False, id="uses fewer modules"),
    ],
)
def test_what_was_stored_and_does_not_ship_is_deleted(yard: Yard, wheels: Path, app: str, fails: bool) -> None:
    files = project(wheels, app__py=f"import alpha\n{HANDLER}")
    yard.add_project(files)
    yard.build()
    before = set(yard.keys("packages/"))
    stored: list[str] = []
    delete = Store.delete

    def noted(self: Store, keys: Sequence[str]) -> None:
        stored.extend(key for key in keys if key.startswith("packages/"))
        delete(self, keys)

    yard.add_project({**files, "app.py": app})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "delete", noted)
        if fails:
            with pytest.raises(PackageError, match="nowhere"):
                yard.build()
            assert set(yard.keys("packages/")) == before
        else:
            digest = in_hex(yard.build()["code_sha256"])
            assert set(yard.keys("packages/")) - before == {f"yo-dawg/packages/api/{digest}.zip"}
    assert len(stored) == 1, "else this shows nothing"


def test_a_rehearsal_stores_nothing_ahead(yard: Yard, wheels: Path) -> None:
    files = project(wheels)
    yard.add_project(files)
    yard.build()
    before = yard.keys("packages/")
    yard.add_project({**files, "app.py": f"{files['app.py']}# changed\n"})
    assert yard.build(dry_run=True)["status"] == "built"
    assert yard.keys("packages/") == before


# --- What is unpacked aside --------------------------------------------------------------------------------------


def test_what_is_laid_and_does_not_fit_is_whole_before_it_is_taken_away(
    yard: Yard, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloned, laid = threading.Event(), threading.Event()
    unpack_bundle, clone, install_inputs = unpack_bundle_, clone_, install_inputs_

    def cloning(*arguments: Any) -> Checkout:
        checkout = clone(*arguments)
        cloned.set()
        return checkout

    def unpacking(*arguments: Any) -> bool:
        assert cloned.wait(60)
        is_laid = unpack_bundle(*arguments)
        laid.set()
        return is_laid

    def looking(*arguments: Any) -> Inputs:
        assert laid.is_set()
        return install_inputs(*arguments)

    yard.add_project(project(wheels))
    yard.build()
    monkeypatch.setattr("yo_dawg.control.package.clone", cloning)
    monkeypatch.setattr("yo_dawg.control.package.unpack_bundle", unpacking)
    monkeypatch.setattr("lambda_function.install_inputs", looking)
    yard.add_project(project(wheels, "beta==1.0", app__py=f"import beta\n{HANDLER}"))
    assert yard.build()["dependencies"] == ["beta==1.0"]
    with shipped(yard) as archive:
        assert not [name for name in archive.namelist() if name.startswith("alpha")]


def test_a_store_that_hangs_holds_up_no_answer(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is begun early is not waited for at the end."""
    yard.add_project({"app.py": HANDLER})
    yard.build()
    yard.add_project({"app.py": f"{HANDLER}# changed\n"})
    answered = threading.Event()
    monkeypatch.setattr("lambda_function.stored_toolchain", lambda *_: answered.wait(60))
    monkeypatch.setattr("yo_dawg.control.job.stored_toolchain", lambda *_: answered.wait(60))
    yard.context = dataclasses.replace(yard.context, remaining=3000)
    try:
        with pytest.raises(DeadlineError):
            yard.build()
    finally:
        was_over = answered.is_set()
        answered.set()
    assert not was_over


def test_what_writes_into_the_workspace_has_ended_when_the_answer_is_given(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lambda stops the process then, and lets it go on in the midst of the next invocation."""
    begun, closing, ended = threading.Event(), threading.Event(), threading.Event()
    unzip, close, clone = unzip_, Shell.close, clone_

    def slow(zipped: Former, names: Sequence[str], folder: Path) -> None:
        is_aside = any(name.startswith("bin/") for name in names)
        if is_aside:
            begun.set()
            assert closing.wait(60)
        unzip(zipped, names, folder)
        if is_aside:
            ended.set()

    def noted(shell: Shell) -> None:
        closing.set()
        close(shell)

    def late(*arguments: Any) -> Checkout:
        assert begun.wait(60)
        return clone(*arguments)

    monkeypatch.setattr("yo_dawg.control.package.clone", late)
    monkeypatch.setattr("yo_dawg.control.toolchain.unzip", slow)
    monkeypatch.setattr(Shell, "close", noted)
    yard.add_project({"app.py": HANDLER})
    with pytest.raises(SourceError):
        yard.build(ref="gone")
    assert ended.is_set()
