"""Children: real processes, which see nothing of ours and of which nothing is left."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from yo_dawg.deadline import deadline
from yo_dawg.errors import DeadlineError
from yo_dawg.killing import processes_below
from yo_dawg.log import Log
from yo_dawg.process import MAX_MESSAGE, Command, CommandFailed, Shell, child_environ, program
from yo_dawg.settings import Settings
from yo_dawg.text import MAX_LINE
from yo_dawg.workspace import HERE, Workspace

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


def test_a_line_without_an_end_is_cut(tmp_path: Path, log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    bash("head -c 3000000 /dev/zero | tr '\\0' x", tmp_path, log)
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines) <= MAX_LINE + 6


@pytest.mark.parametrize("before", [MAX_LINE - 6, MAX_LINE + 65_536 - 6, 2 * 65_536 - 6])
@pytest.mark.parametrize("filler", ["x", " "])
def test_a_secret_is_masked_wherever_a_long_line_is_cut(
    tmp_path: Path, log: Log, capsys: pytest.CaptureFixture[str], before: int, filler: str
) -> None:
    bash(f"head -c {before} /dev/zero | tr '\\0' '{filler}'; echo canary-secret-and-more", tmp_path, log)
    report = f"report.detail({filler!r} * {before} + 'canary-secret-and-more')"
    shell = Shell(PATH, log)
    shell.ask(shell.start(program_that(report)), {}, {}, log.hear)
    out = capsys.readouterr().out
    assert not re.search("canar|secret|and-more", out)
    assert "…" in out, "and it is not cut silently"


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


def test_a_program_that_is_not_there_ends_like_one_that_failed(tmp_path: Path, log: Log) -> None:
    with pytest.raises(CommandFailed, match="127") as failed:
        Shell(PATH, log).run(Command([tmp_path / "none"], tmp_path))
    assert "No such file or directory" in failed.value.tail


def test_lambdas_python_is_found_by_children_too(tmp_path: Path) -> None:
    settings = Settings("b", ("f",), "https://h", "", "", tmp_path, tmp_is_ours=False, library_path="/var/lang/lib")
    assert child_environ(Workspace(tmp_path), settings)["LD_LIBRARY_PATH"] == "/var/lang/lib"


# --- Programs that wait for their jobs ---------------------------------------------------------------------


def program_that(does: str, first: str = "pass") -> Command:
    """Return a program that does this with its "job" and its open "files", and something before these come."""
    code = f"""
import os, signal, socket, sys, time
from yo_dawg import channel
from yo_dawg.report import Report
report = Report()
{first}
with socket.socket(fileno=os.dup(0)) as ours:
    job, files = channel.receive(ours)
{does}
"""
    return Command([sys.executable, "-u", "-P", "-s", "-c", code], Path("/"), {"PYTHONPATH": str(HERE)})


@pytest.fixture
def shell(log: Log) -> Iterator[Shell]:
    with contextlib.closing(Shell(PATH, log)) as made:
        yield made


def test_a_program_gets_its_job_and_the_files_that_come_along(shell: Shell, log: Log, tmp_path: Path) -> None:
    child = shell.start(program_that("os.write(files['answer'], job['text'].encode() + os.read(files['given'], 100))"))
    (tmp_path / "given").write_bytes(b" and a file")
    with (tmp_path / "given").open("rb") as given, (tmp_path / "answer").open("wb") as answer:
        shell.ask(child, {"text": "a job"}, {"given": given.fileno(), "answer": answer.fileno()}, log.hear)
    assert (tmp_path / "answer").read_bytes() == b"a job and a file"


def test_a_program_has_no_open_file_but_those(shell: Shell, log: Log, tmp_path: Path) -> None:
    with (tmp_path / "ours").open("wb") as ours, (tmp_path / "answer").open("wb") as answer:
        os.set_inheritable(ours.fileno(), True)
        child = shell.start(program_that("os.write(files['answer'], repr(os.listdir('/proc/self/fd')).encode())"))
        shell.ask(child, {}, {"answer": answer.fileno()}, log.hear)
    standard, answer_, listing = 3, 1, 1
    assert len((tmp_path / "answer").read_text().split(",")) == standard + answer_ + listing


def test_what_it_tells_is_heard_and_what_else_it_prints_is_quoted(
    shell: Shell, log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    child = shell.start(
        program_that("report.info('told'); print('printed canary-secret'); print('oops', file=sys.stderr)")
    )
    shell.ask(child, {}, {}, log.hear)
    assert capsys.readouterr().out.splitlines() == ["told", "      printed ***", "      oops"]


def test_a_message_may_be_longer_than_a_line_of_output(shell: Shell, log: Log) -> None:
    heard: list[str] = []
    child = shell.start(program_that(f"report.doing('x' * {3 * MAX_LINE}); print('y' * {5 * MAX_MESSAGE})"))
    shell.ask(child, {}, {}, lambda line: heard.append(line))
    assert len(heard[0]) > 3 * MAX_LINE
    assert max(len(line) for line in heard) <= MAX_MESSAGE + 65_536, "and what a pipe holds"


def test_a_program_that_waits_is_spared_when_another_ends(shell: Shell, log: Log, tmp_path: Path) -> None:
    waiting, asked = shell.start(program_that("print('still here')")), shell.start(program_that("os.fork()"))
    shell.run(Command(["bash", "-c", "sleep 1000 & sleep 1000 &"], tmp_path))
    shell.ask(asked, {}, {}, log.hear)
    heard: list[str] = []
    shell.ask(waiting, {}, {}, lambda line: heard.append(line))
    assert heard == ["still here"]


def test_a_program_that_was_asked_is_not_spared_any_more(shell: Shell, log: Log) -> None:
    before = processes_below(os.getpid())
    shell.ask(shell.start(program_that("os.fork() or os.execvp('sleep', ['sleep', '10000'])")), {}, {}, log.hear)
    assert processes_below(os.getpid()) == before


@pytest.mark.parametrize("waited", [True, False], ids=["has died", "may be dying"])
@pytest.mark.parametrize("job", [{}, {"much": "x" * 5_000_000}], ids=["small job", "large job"])
def test_a_program_that_dies_before_its_job_has_failed(
    shell: Shell, log: Log, job: dict[str, str], waited: bool
) -> None:
    child = shell.start(program_that("pass", first="print('no'); sys.exit(3)"))
    if waited:
        os.waitid(os.P_PID, child.process.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(CommandFailed) as failed:
        shell.ask(child, job, {}, log.hear)
    assert failed.value.ending == "ended with exit status 3"
    assert failed.value.tail == "no"


def test_a_program_that_is_killed_at_its_job_has_failed(shell: Shell, log: Log) -> None:
    child = shell.start(program_that("print('so far', flush=True); os.kill(os.getpid(), signal.SIGKILL)"))
    with pytest.raises(CommandFailed) as failed:
        shell.ask(child, {}, {}, log.hear)
    assert "was killed" in failed.value.ending
    assert failed.value.tail == "so far"


def test_the_deadline_ends_a_program_that_was_asked(shell: Shell, log: Log) -> None:
    before = processes_below(os.getpid())
    child = shell.start(program_that("os.kill(os.getppid(), signal.SIGALRM); time.sleep(10000)"))
    with pytest.raises(DeadlineError), deadline(900_000, log):
        shell.ask(child, {}, {}, log.hear)
    assert processes_below(os.getpid()) == before


def test_programs_that_nobody_asks_are_killed_at_the_end(log: Log) -> None:
    before = processes_below(os.getpid())
    shell = Shell(PATH, log)
    children = [shell.start(program_that("pass")) for _ in range(3)]
    assert len(processes_below(os.getpid()) - before) == 3
    shell.close()
    assert processes_below(os.getpid()) == before
    assert [child.channel.fileno() for child in children] == [-1] * 3, "no socket is left"
    shell.close()


def test_the_workshops_programs_find_the_builders_code_and_no_more(
    shell: Shell, space: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not what lies where they start, which is where a project can write."""
    (space.root / "json.py").write_text("print('a module of the project')")
    command = program("yo_dawg.workshop.git.look", space)
    assert command.cwd == space.root
    look = dataclasses.replace(command, argv=[*command.argv[:3], "-c", "import json, yo_dawg; print(yo_dawg.__path__)"])
    assert shell.run(look) == str([f"{HERE}/yo_dawg"])
