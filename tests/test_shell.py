"""Children: real processes, which see nothing of ours and of which nothing is left."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import textwrap
from pathlib import Path

import pytest

from local.sandbox import bwrap, walls_problem
from yo_dawg.deadline import deadline
from yo_dawg.errors import DeadlineError
from yo_dawg.killing import processes_below
from yo_dawg.log import Log
from yo_dawg.process import Command, CommandFailed, Shell, child_environ
from yo_dawg.settings import Settings
from yo_dawg.text import MAX_LINE
from yo_dawg.workspace import Workspace

PATH = {"PATH": os.environ["PATH"]}


@pytest.fixture
def log() -> Log:
    return Log(("canary-secret",))


@pytest.fixture(autouse=True)
def no_process_is_left() -> object:
    """Whatever a test does, it leaves no child behind."""
    before = processes_below(os.getpid())
    yield
    assert processes_below(os.getpid()) - before == frozenset()


def bash(script: str, tmp_path: Path, log: Log) -> str:
    return Shell(PATH, log).run(Command(["bash", "-c", script], tmp_path))


def test_output_is_logged_and_returned(tmp_path: Path, log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    assert bash("echo out; echo err >&2; pwd", tmp_path, log).splitlines() == ["out", "err", str(tmp_path)]
    assert "      out\n      err\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("script", "words"),
    [
        pytest.param("exit 3", "ended with exit status 3", id="status"),
        pytest.param("kill -TERM $$", "was ended by SIGTERM", id="signal"),
        pytest.param("kill -KILL $$", "lack of memory", id="killed"),
    ],
)
def test_a_bad_end_is_told_in_words(tmp_path: Path, log: Log, script: str, words: str) -> None:
    with pytest.raises(CommandFailed) as failed:
        bash(f"echo last words; {script}", tmp_path, log)
    assert words in failed.value.ending
    assert failed.value.tail == "last words"


def test_the_tail_is_the_end_and_not_too_long(tmp_path: Path, log: Log) -> None:
    with pytest.raises(CommandFailed) as failed:
        bash(f"for i in $(seq 50); do printf '%0{MAX_LINE}d\\n' $i; done; exit 1", tmp_path, log)
    assert failed.value.tail.endswith("50")
    assert len(failed.value.tail) <= 3500


def test_secrets_are_masked_in_the_log_and_in_the_tail(
    tmp_path: Path, log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CommandFailed) as failed:
        bash("echo a canary-secret b; exit 1", tmp_path, log)
    assert failed.value.tail == "a *** b"
    assert "canary" not in capsys.readouterr().out


def test_a_child_gets_the_given_environment_and_nothing_else(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    command = Command([sys.executable, "-c", "import os; print(sorted(os.environ))"], tmp_path, {"B": "2"})
    (seen,) = Shell({"A": "1"}, log).run(command).splitlines()
    assert set(eval(seen)) - {"LC_CTYPE"} == {"A", "B"}  # noqa: S307  # Python sets LC_CTYPE itself


def test_what_children_get_is_built_from_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SESSION_TOKEN", "GITHUB_TOKEN", "PYTHONPATH", "HOME", "USER"):
        monkeypatch.setenv(name, "canary")
    client = {"PIP_INDEX_URL": "https://index.example/simple"}
    settings = Settings("b", ("f",), "https://h", "", "", tmp_path, tmp_is_ours=False, client=client)
    environ = child_environ(Workspace(tmp_path), settings)
    assert "canary" not in str(environ)
    assert environ["HOME"].startswith(str(tmp_path))
    assert environ["UV_DEFAULT_INDEX"] == environ["PIP_INDEX_URL"] == client["PIP_INDEX_URL"]


def test_standard_input_is_given_and_a_child_that_does_not_read_it_is_no_error(tmp_path: Path, log: Log) -> None:
    assert Shell(PATH, log).run(Command(["cat"], tmp_path, stdin=b"hello")) == "hello"
    assert Shell(PATH, log).run(Command(["true"], tmp_path, stdin=b"x" * 1000)) == ""


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
        import os, sys
        sys.path.insert(0, {str(Path(__file__).resolve().parent.parent)!r})
        from pathlib import Path
        from yo_dawg.killing import *
        from yo_dawg.log import Log
        from yo_dawg.process import *
        protect_process()
        script = {script + chr(10) + "echo done"!r}
        Shell({PATH!r}, Log(())).run(Command(["bash", "-c", script], Path("/")))
        assert processes_below(os.getpid()) == frozenset(), processes_below(os.getpid())
        print("nobody is left")
    """
    output = Shell(PATH, log).run(Command([sys.executable, "-c", textwrap.dedent(code)], tmp_path))
    assert output.splitlines()[-1] == "nobody is left"


def test_a_line_without_an_end_is_cut(tmp_path: Path, log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    bash("head -c 3000000 /dev/zero | tr '\\0' x", tmp_path, log)
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines) <= MAX_LINE + 6


@pytest.mark.parametrize(
    ("printed", "logged"),
    [
        pytest.param(r"a\rb", ["a", "b"], id="carriage return"),
        pytest.param(r"\033[31mred\033[0m", ["red"], id="colour"),
        pytest.param(r"a\007\010b", ["a��b"], id="control characters"),
        pytest.param(r"\377\376", ["��"], id="not UTF-8"),
    ],
)
def test_a_child_cannot_play_tricks_on_the_reader(tmp_path: Path, log: Log, printed: str, logged: list[str]) -> None:
    assert bash(f"printf '{printed}\\n'", tmp_path, log).splitlines() == logged


def test_the_deadline_ends_a_child_and_names_the_stage(tmp_path: Path, log: Log) -> None:
    with pytest.raises(DeadlineError) as ended, deadline(500, log), log.step("nap", "[1/1] nap"):
        bash("sleep 10000 & sleep 10000", tmp_path, log)
    assert '"[1/1] nap"' in str(ended.value)
    assert "timeout" in str(ended.value)
    assert "nap" in log.seconds


def test_the_deadline_ends_python_too_and_sets_the_alarm_back(log: Log) -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(DeadlineError), deadline(50, log):
        all(iter(lambda: True, False))  # for ever
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_what_is_in_time_is_left_alone(log: Log) -> None:
    with deadline(60_000, log):
        remaining, _ = signal.getitimer(signal.ITIMER_REAL)
    assert 40 < remaining < 51, "ten seconds are kept back for the answer"
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


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
        sys.path.insert(0, {str(Path(__file__).resolve().parent.parent)!r})
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
    # Start a program that outlives who started it; return what is readable as soon as it has ended.
    ours, theirs = os.pipe()
    script = f"{program} 10000 & "
    subprocess.run(["sh", "-c", script], pass_fds=[theirs], check=True)
    os.close(theirs)
    return ours

shutil.copy(shutil.which("sleep"), "/opt/extension")
extension, left = leave("/opt/extension"), leave("exec sleep")
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
assert select.select([left], [], [], 60)[0], "what a build left is killed"
assert select.select([hidden], [], [], 60)[0], "and what hides"
assert not select.select([extension], [], [], 0)[0], "an extension of Lambda's is spared"
assert os.getppid() in parent_ids(), "and so is who started us"
print("as it should be")
"""


@pytest.mark.skipif(bool(walls_problem()), reason=walls_problem())
def test_what_a_killed_invocation_left_running_is_killed_and_nothing_else(tmp_path: Path, log: Log) -> None:
    # In a process namespace of its own: anywhere else this would end the tester's own processes.
    root = Path(__file__).resolve().parent.parent
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
    command = [str(bwrap()), *walls, "--", PYTHON, "-c", LEFTOVERS, str(root)]
    assert Shell(PATH, log).run(Command(command, tmp_path)).splitlines()[-1] == "as it should be"


def test_a_program_that_is_not_there_ends_like_one_that_failed(tmp_path: Path, log: Log) -> None:
    with pytest.raises(CommandFailed, match="127") as failed:
        Shell(PATH, log).run(Command([tmp_path / "none"], tmp_path))
    assert "No such file or directory" in failed.value.tail


def test_lambdas_python_is_found_by_children_too(tmp_path: Path) -> None:
    settings = Settings("b", ("f",), "https://h", "", "", tmp_path, tmp_is_ours=False, library_path="/var/lang/lib")
    assert child_environ(Workspace(tmp_path), settings)["LD_LIBRARY_PATH"] == "/var/lang/lib"


# --- Programs that wait for their input ----------------------------------------------------------------------


CAT = Command(["cat"], Path("/"))


def test_a_prepared_program_outlives_others_and_gets_its_input_late(tmp_path: Path, log: Log) -> None:
    shell = Shell(PATH, log)
    program = Command(["sh", "-c", "echo $$; exec cat"], tmp_path)
    before = processes_below(os.getpid())
    shell.prepare(program)
    (prepared,) = processes_below(os.getpid()) - before
    assert shell.run(Command(["echo", "another"], tmp_path, is_ours=True)) == "another"
    elsewhere = shell.run(dataclasses.replace(program, cwd=Path("/"), is_ours=True))
    assert elsewhere != str(prepared), "it is for a program that begins in the same way only"
    assert shell.run(dataclasses.replace(program, stdin=b"hello")) == f"{prepared}\nhello"
    assert shell.run(dataclasses.replace(program, stdin=b"again")).endswith("\nagain"), "it was prepared for once only"


def test_a_prepared_program_does_not_outlive_one_in_which_a_projects_code_runs(log: Log) -> None:
    shell = Shell(PATH, log)
    before = processes_below(os.getpid())
    shell.prepare(CAT)
    (prepared,) = processes_below(os.getpid()) - before
    look = Command(["sh", "-c", f"kill -0 {prepared} && echo alive || echo dead"], Path("/"))
    assert shell.run(dataclasses.replace(look, is_ours=True)) == "alive"
    assert shell.run(look).endswith("dead")


def test_one_that_nobody_runs_is_killed_at_the_end(log: Log) -> None:
    shell = Shell(PATH, log)
    before = processes_below(os.getpid())
    shell.prepare(CAT)
    assert len(processes_below(os.getpid()) - before) == 1
    shell.close()
    assert processes_below(os.getpid()) == before
