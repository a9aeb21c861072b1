"""What is done before it is known to be needed, or by somebody else elsewhere, changes no byte of a package."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import io
import os
import threading
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.embedded import lay_out
from tests.support.package_index import Index
from tests.support.wheels import UV, make_wheel
from tests.support.work import make_work, open_file
from tests.support.yard import HANDLER, Yard
from yo_dawg.checkout import Checkout
from yo_dawg.control.archives import OpenFile
from yo_dawg.errors import PackageError, SourceError
from yo_dawg.log import Log
from yo_dawg.process import Shell, child_environ
from yo_dawg.settings import Settings
from yo_dawg.trees import Listing
from yo_dawg.workshop.archive import CompressingAhead
from yo_dawg.workshop.deflater import ZLIB, Deflater
from yo_dawg.workshop.package.__main__ import make_package
from yo_dawg.workshop.package.bytecode import run_compiler
from yo_dawg.workshop.package.compiler import Digests
from yo_dawg.workshop.package.install import Installed
from yo_dawg.workshop.package.work import Work
from yo_dawg.workspace import put_python_on_path, workspace

ALPHA = {"alpha/__init__.py": "a = 1\n", "alpha/idle.py": "i = 1\n", "alpha/data.so": "AAAA"}
APP = f"import alpha, beta\n{HANDLER}"


class Packer:
    """Makes packages as the package program does, in this process, each from nothing, in a folder of its own."""

    def __init__(self, root: Path) -> None:
        """Have two wheels to install."""
        self.root, self.wheels, self.count = root, root / "wheels", 0
        self.wheels.mkdir()
        make_wheel(self.wheels, "alpha", "1.0", ALPHA, ["beta>=1"])
        make_wheel(self.wheels, "beta", "1.0", {"beta.py": "b = 1\n"})

    def __call__(self, files: Mapping[str, str], deflater: Deflater = ZLIB, **changes: Any) -> bytes:
        """Make the package of a project of these files; return it."""
        self.count += 1
        tmp = self.root / str(self.count)
        tmp.mkdir()
        lines = f"--no-index\n--find-links {self.wheels}\nalpha\n"
        with workspace(tmp, tmp_is_ours=True) as space, contextlib.closing(Log(())) as log:
            put_python_on_path(space)
            settings = Settings("b", ("*",), "https://git.example", "", "", tmp, tmp_is_ours=True)
            space.checkout.mkdir()
            space.toolchain.joinpath("bin").mkdir(parents=True)
            space.toolchain.joinpath("bin/uv").symlink_to(UV)
            lay_out(space.checkout, {"requirements.txt": lines, **files})
            checkout = Checkout(space.checkout, space.checkout, "0" * 40, "main", frozenset(files))
            package = open_file(b"")
            with contextlib.closing(Shell(child_environ(space, settings), log)) as shell:
                opened = {"package": package, "dependencies": open_file(b""), "uv": open_file(NOTHING)}
                work = make_work(space, shell, opened, **changes)
                make_package(work, checkout, deflater)
            return os.pread(package, 1 << 20, 0)


def empty_zip() -> bytes:
    content = io.BytesIO()
    zipfile.ZipFile(content, "w").close()
    return content.getvalue()


NOTHING = empty_zip()


@pytest.fixture
def pack(tmp_path: Path) -> Packer:
    return Packer(tmp_path)


def read(package: bytes, name: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        return archive.read(name)


def names(package: bytes) -> list[str]:
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        return archive.namelist()


# --- Compiled ahead -------------------------------------------------------------------------------------------


def test_a_wrong_guess_makes_the_same_package(pack: Packer, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"app.py": APP}
    expected = pack(files)
    assert read(expected, importlib.util.cache_from_source("beta.py"))
    guesses: list[Sequence[str]] = [[], ["app.py", "alpha/idle.py"], ["alpha/__init__.py", "beta.py"]]
    for guess in guesses:

        def compile_guess(
            listing: Listing, installed: Installed, work: Work, guess: Sequence[str] = guess
        ) -> dict[str, Digests]:
            sizes = {name: status.st_size for name, _, status in listing if name in guess}
            assert len(sizes) == len(guess), "else this shows nothing"
            return run_compiler(sizes, None, installed, work)

        monkeypatch.setattr("yo_dawg.workshop.package.stages.compile_ahead", compile_guess)
        assert pack(files) == expected, guess


def test_what_cannot_be_compiled_and_need_not_be_there_does_no_harm(pack: Packer) -> None:
    files = {
        "app.py": f"try:\n    import sub.lazy\nexcept ImportError:\n    pass\n{HANDLER}",
        "sub/__init__.py": "raise ImportError('not here')\n",
        "sub/lazy.py": "",
        "template.py": "def {{ name }}():\n",
        "make_dist.sh": 'cp -r app.py template.py sub "$1"; echo a file > "$1/sub/__pycache__"\n',
    }
    package = pack(files)
    assert read(package, "sub/__pycache__") == b"a file\n"
    assert [name for name in names(package) if name.endswith(".pyc")] == [importlib.util.cache_from_source("app.py")]


MEDDLING = """
import importlib.util, os, pathlib, sys
beta = pathlib.Path(__file__).with_name("beta.py")
bytecode = pathlib.Path(importlib.util.cache_from_source(beta))
for folder in (beta.parent, bytecode.parent):
    folder.chmod(0o700)
WHAT
import beta
"""


@pytest.mark.parametrize(
    "what",
    [
        "forged = bytecode.read_bytes(); bytecode.unlink(); bytecode.write_bytes(forged.replace(b'b', b'c'))",
        "bytecode.unlink(); bytecode.write_bytes(b'')",
        "bytecode.unlink()",
    ],
)
def test_bytecode_that_the_import_has_changed_is_made_again(pack: Packer, what: str) -> None:
    name = importlib.util.cache_from_source("beta.py")
    expected = read(pack({"app.py": f"import beta\n{HANDLER}"}), name)
    assert read(pack({"app.py": MEDDLING.replace("WHAT", what) + HANDLER}), name) == expected


PATCHER = """
f="$1/alpha/data.so"
touch -r "$f" ref
printf BBBB | dd of="$f" conv=notrunc 2>/dev/null
touch -r ref "$f"
cp app.py "$1"
"""

LATE_PATCHER = """
import os, pathlib
data = pathlib.Path(__file__).parent / "alpha/data.so"
before = data.stat()
data.chmod(0o600)
data.write_bytes(b"BBBB")
os.utime(data, ns=(before.st_atime_ns, before.st_mtime_ns))
"""


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({"app.py": HANDLER, "make_dist.sh": PATCHER}, id="by make_dist.sh"),
        pytest.param({"app.py": LATE_PATCHER + HANDLER}, id="by the import, while it is compressed"),
    ],
)
def test_what_was_changed_under_its_old_date_ships_as_it_is(pack: Packer, files: dict[str, str]) -> None:
    assert read(pack(files), "alpha/data.so") == b"BBBB"


# --- Compressed ahead -----------------------------------------------------------------------------------------


def test_what_goes_wrong_in_it_is_told_and_the_package_is_the_same(
    pack: Packer, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = pack({"app.py": APP})
    assert "not compressed ahead" not in capsys.readouterr().out

    def deflate(content: bytes) -> bytes:
        if threading.current_thread().name.endswith("(_compress)"):
            raise ValueError("a defect")
        return ZLIB.deflate(content)

    assert pack({"app.py": APP}, Deflater(ZLIB.name, deflate, ZLIB.inflate)) == expected
    assert "not compressed ahead: ValueError: a defect" in capsys.readouterr().out


def test_it_has_ended_when_the_program_answers(pack: Packer, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[CompressingAhead] = []
    start = CompressingAhead.start

    def noted(ahead: CompressingAhead, listing: Listing) -> None:
        start(ahead, listing)
        made.append(ahead)

    monkeypatch.setattr(CompressingAhead, "start", noted)
    with pytest.raises(PackageError, match="nowhere"):
        pack({"app.py": f"import nowhere\n{HANDLER}"}, proof="require")
    (ahead,) = made
    assert ahead._thread
    assert not ahead._thread.is_alive()


# --- Whole builds -----------------------------------------------------------------------------------------------


def test_what_writes_into_the_workspace_has_ended_when_the_answer_is_given(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lambda stops the process then, and lets it go on in the midst of the next invocation.

    A download is not waited for, since it may hang: it writes into no file that has a name.
    """
    answered, ended = threading.Event(), threading.Event()

    def slow(part: str, job: Any) -> OpenFile:
        try:
            zipped = OpenFile(job.space.root)
            assert answered.wait(60)
            zipped.file.write(b"late")
            with contextlib.suppress(OSError):
                return OpenFile(job.space.root)
            return zipped
        finally:
            ended.set()

    monkeypatch.setattr("yo_dawg.control.package.fetch_toolchain", slow)
    yard.add_project({"app.py": HANDLER})
    with pytest.raises(SourceError):
        yard.build(ref="gone")  # which looks for what is left, processes too
    answered.set()
    assert ended.wait(60)
    assert os.listdir(yard.tmp) == []


def test_two_builders_in_different_places_at_different_times_make_the_same_package(
    yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each by programs of its own; and the second from nothing, where the first took its dependencies over."""
    (tmp_path / "wheels").mkdir()
    make_wheel(tmp_path / "wheels", "alpha", "1.0", ALPHA)
    with Index(tmp_path / "wheels", private=False).serving() as url:
        files = {"app.py": f"import alpha\n{HANDLER}", "requirements.txt": f"--index-url {url}/team/simple/\nalpha\n"}
        yard.add_project(files)
        yard.build()
        yard.add_project({**files, "app.py": f"import alpha, json\n{HANDLER}"})
        here = yard.build()
        assert "as they were in the package before" in yard.said(here)
        elsewhere = tmp_path / "another place, with a longer name" / "tmp"
        elsewhere.mkdir(parents=True)
        monkeypatch.setenv("TMPDIR", str(elsewhere))
        yard.tmp = elsewhere
        now = time.time
        monkeypatch.setattr(time, "time", lambda: now() + 366 * 86400)
        yard.context = dataclasses.replace(
            yard.context, function_name="other-builder",
            invoked_function_arn=yard.context.invoked_function_arn.replace("yo-dawg", "other-builder"),
        )  # fmt: skip
        for key in yard.keys("toolchain/"):
            copy = key.replace("yo-dawg/", "other-builder/", 1)
            yard.aws.s3.copy_object(Bucket="bucket", Key=copy, CopySource={"Bucket": "bucket", "Key": key})
        there = yard.build()
    assert "as they were in the package before" not in yard.said(there)
    assert (there["status"], there["code_sha256"]) == ("unchanged", here["code_sha256"])
