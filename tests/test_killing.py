"""Killing: whatever a child leaves is found and ended, and none of them can look into a protected process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from local.walls import bwrap, walls_problem
from yo_dawg.killing import kill_below, processes_below, quick_look_below
from yo_dawg.log import Log
from yo_dawg.process import Command, Shell
from yo_dawg.workspace import HERE

PATH = {"PATH": os.environ["PATH"]}


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("sleep 1000 &", id="in the background, holding the pipe"),
        pytest.param("setsid sleep 1000 &", id="in a session of its own"),
        pytest.param("(setsid setsid sleep 1000 &) &", id="forked twice"),
        pytest.param("yes > /dev/null &", id="busy"),
        pytest.param("yes &", id="writing to the pipe for ever"),
        pytest.param("trap '' TERM HUP; sleep 1000 & disown", id="deaf to signals"),
        pytest.param('f() { sleep 0.01; setsid bash -c "$(declare -f f); f" & }; f; sleep 0.1', id="forking away"),
    ],
)
def test_what_a_child_leaves_running_is_killed_and_does_not_hold_us(tmp_path: Path, log: Log, script: str) -> None:
    # In a process of its own: a test runner that is not dumpable cannot be debugged.
    code = f"""
        import os, sys, time
        sys.path.insert(0, {str(HERE)!r})
        from pathlib import Path
        from yo_dawg import killing
        from yo_dawg.killing import *
        from yo_dawg.log import Log
        from yo_dawg.process import *
        protect_process()
        all_parents = killing.parent_ids
        killing.parent_ids = lambda: [all_parents(), time.sleep(0.1)][0]  # as slow as among thousands of processes
        script = {script + chr(10) + "echo done"!r}
        Shell({PATH!r}, Log(())).run(Command(["bash", "-c", script], Path("/")))
        assert processes_below(os.getpid()) == frozenset(), processes_below(os.getpid())
        print("nobody is left")
    """
    output = Shell(PATH, log).run(Command([sys.executable, "-c", textwrap.dedent(code)], tmp_path))
    assert output.splitlines()[-1] == "nobody is left"


def test_the_quick_look_finds_what_the_thorough_one_finds(tmp_path: Path) -> None:
    with subprocess.Popen(["bash", "-c", "sleep 1000 & sleep 1000 & echo; wait"], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        assert len(quick_look_below(process.pid)) == 2
        assert quick_look_below(process.pid) == processes_below(process.pid)
        kill_below(os.getpid(), processes_below(os.getpid()) - {process.pid} - processes_below(process.pid))


THIEF = """
import os, re
loot = []
for name in ("environ", "mem"):
    try:
        with open(f"/proc/{os.getppid()}/{name}", "rb", 0) as file:
            loot.append(name)
    except OSError:
        pass
print(loot)
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
@pytest.mark.parametrize(("protected", "loot"), [(False, "['environ', 'mem']"), (True, "[]")])
def test_a_child_cannot_look_into_a_protected_process(tmp_path: Path, log: Log, protected: bool, loot: str) -> None:
    # As a user without rights: root may look anywhere.  tests/test_hostile.py tries it in the sandbox.
    code = f"""
        import os, sys
        sys.path.insert(0, {str(HERE)!r})
        from yo_dawg.killing import *
        from yo_dawg.log import Log
        from yo_dawg.process import *
        from pathlib import Path
        if os.getuid() == 0:
            os.setgroups([]); os.setgid(65534); os.setuid(65534)
            prctl(PR_SET_DUMPABLE, 1)  # changing the user has set it to 0
        if {protected}:
            protect_process()
        Shell({{}}, Log(())).run(Command([{PYTHON!r}, "-I", "-c", {THIEF!r}], Path("/")))
    """
    output = Shell(PATH, log).run(Command([sys.executable, "-c", textwrap.dedent(code)], Path("/")))
    assert output.splitlines()[-1].strip() == loot


def python_for_everybody() -> str:
    """Return a Python that a user without rights can start, wherever this one is installed."""
    for candidate in (sys.executable, "/usr/bin/python3"):
        if os.path.exists(candidate) and all(
            parent.stat().st_mode & 0o001 for parent in Path(candidate).resolve().parents
        ):
            return candidate
    return sys.executable


PYTHON = python_for_everybody()


LEFTOVERS = """
import ctypes, os, select, shutil, subprocess, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from yo_dawg.killing import kill_leftovers, parent_ids

assert os.getpid() < 100, "not in a process namespace of our own: this would kill everything"

def leave(program):
    # Start a program that outlives who started it, and runs by now; return what is readable as soon as it has ended.
    ours, theirs = os.pipe()
    start = "import subprocess, sys; subprocess.Popen(sys.argv[2:], pass_fds=[int(sys.argv[1])])"
    command = [sys.executable, "-c", start, str(theirs), program, "10000"]
    subprocess.run(command, pass_fds=[theirs], check=True)
    os.close(theirs)
    return ours

shutil.copy(shutil.which("sleep"), "/opt/extension")
extension, left = leave("/opt/extension"), leave("sleep")
assert not select.select([extension, left], [], [], 0)[0]
(told, tell), (hidden, held), (never, forever) = os.pipe(), os.pipe(), os.pipe()
if os.fork() == 0:
    # As a thief would: an orphan that has closed itself to the processes of its user.
    if os.fork() == 0:
        os.setsid()
        ctypes.CDLL(None).prctl(4, 0)
        os.close(told)
        os.write(tell, b".")
        os.close(hidden)
        os.read(never, 1)
    os._exit(0)
os.wait()
os.close(held)
os.read(told, 1)
kill_leftovers()
assert select.select([left], [], [], 600)[0], "what a build left is killed"
assert select.select([hidden], [], [], 600)[0], "and what hides"
assert not select.select([extension], [], [], 0)[0], "an extension of Lambda's is spared"
assert os.getppid() in parent_ids(), "and so is who started us"
print("as it should be")
"""


@pytest.mark.skipif(bool(walls_problem()), reason=walls_problem())
def test_what_a_killed_invocation_left_running_is_killed_and_nothing_else(tmp_path: Path, log: Log) -> None:
    # In a process namespace of its own: anywhere else this would end the tester's own processes.
    walls = [
        "--unshare-all",
        "--die-with-parent",
        "--ro-bind",
        "/",
        "/",
        "--dev",
        "/dev",
        "--proc",
        "/proc",
        "--tmpfs",
        "/opt",
    ]
    command = [str(bwrap()), *walls, "--", PYTHON, "-c", LEFTOVERS, str(HERE)]
    assert Shell(PATH, log).run(Command(command, tmp_path)).splitlines()[-1] == "as it should be"
