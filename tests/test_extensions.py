"""What is left of another build is killed; Lambda's extensions are spared, also those that are scripts."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from yo_dawg import killing

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="there is no /proc")

Start = Callable[[Sequence[str | Path]], subprocess.Popen[bytes]]


@pytest.fixture
def opt(tmp_path: Path) -> Path:
    """A folder like /opt, where Lambda unpacks layers."""
    (tmp_path / "opt" / "extensions").mkdir(parents=True)
    return tmp_path / "opt"


@pytest.fixture
def start() -> Iterator[Start]:
    """Start processes that end with the test; each is what its command line says by the time that this returns."""
    started = []

    def begin(command: Sequence[str | Path]) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        if "sleep" not in Path(command[0]).name:
            assert process.stdout.read(2) == b"up"
        else:
            time.sleep(0.2)
        return process

    yield begin
    for each in started:
        each.kill()
        each.communicate()


def script(path: Path, first_line: str) -> Path:
    """Write a script that says that it is up, and waits; return it."""
    is_python = "python" in first_line
    wait = "import time\nprint('up', flush=True)\ntime.sleep(60)\n" if is_python else "echo up\nread -r -t 60 <> <(:)\n"
    path.write_text(f"#!{first_line}\n{wait}")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    "first_line",
    ["/bin/bash", "/bin/bash -u", f"{sys.executable}", f"/usr/bin/env -S {sys.executable} -I -u"],
)
def test_an_extension_that_is_a_script_is_known_by_its_command_line(opt: Path, start: Start, first_line: str) -> None:
    process = start([script(opt / "extensions" / "watch", first_line)])
    assert not os.readlink(f"/proc/{process.pid}/exe").startswith(str(opt))
    assert killing.is_extension(process.pid, str(opt))


def test_an_extension_that_is_a_binary_is_known_by_where_it_is(opt: Path, start: Start) -> None:
    binary = Path(shutil.copy("/bin/sleep", opt / "sleep"))
    assert killing.is_extension(start([binary, "60"]).pid, str(opt))


def test_what_only_speaks_of_an_extension_is_none(opt: Path, tmp_path: Path, start: Start) -> None:
    left = script(tmp_path / "left", "/bin/bash")
    assert not killing.is_extension(start([left]).pid, str(opt))
    assert not killing.is_extension(start([left, opt / "extensions" / "nowhere"]).pid, str(opt))


def test_only_extensions_outlive_the_sweep(
    opt: Path, tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    extension = start([script(opt / "extensions" / "watch", "/bin/bash")])
    left = start([script(tmp_path / "left", "/bin/bash")])
    # Nothing else is seen, or it would be killed: the tests' own processes are no builder's.
    monkeypatch.setattr(killing, "parent_ids", lambda: {extension.pid: 1, left.pid: 1})
    monkeypatch.setattr(killing, "is_extension", functools.partial(killing.is_extension, opt=str(opt)))
    killing.kill_leftovers()
    assert left.wait(5) == -signal.SIGKILL
    assert extension.poll() is None
