"""Whatever a program of the workshop answers, control makes of it a bounded answer, or an error in words.

The programs here are real ones; what they do at their job is the test's.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yo_dawg.builder import Builder
from yo_dawg.control.archives import OpenFile
from yo_dawg.control.functions import Target
from yo_dawg.control.git import MAX_REF, Cloned, clone, look_at_ref
from yo_dawg.control.job import Job
from yo_dawg.control.manifests import Manifest
from yo_dawg.control.package import MAX_NUMBER, BuildOutput, Materials, make_package, package_result
from yo_dawg.control.workshop import MAX_ENTRIES, MAX_MESSAGE_LENGTH, Workshop, make_toolchain, try_toolchain
from yo_dawg.errors import ERRORS, ConfigError, PackageError, SourceError, YoDawgError
from yo_dawg.events import BuildRequest
from yo_dawg.limits import LARGEST, MAX_MODULE_NAME, MOST_IMPORTS
from yo_dawg.log import Log
from yo_dawg.process import TAIL_BYTES, Command, Shell
from yo_dawg.settings import Settings
from yo_dawg.source import Source
from yo_dawg.text import MAX_LINE
from yo_dawg.workspace import HERE, Workspace

SECRET = "canary-secret"
COMMIT = "0123456789abcdef0123456789abcdef01234567"

Play = Callable[[str], None]
"""Lets each program of the workshop be one that does this at its job."""


@pytest.fixture
def log() -> Log:
    return Log((SECRET,))


@pytest.fixture
def job(settings: Settings, space: Workspace, log: Log, shell: Shell) -> Iterator[Job]:
    """An invocation that asks AWS nothing."""
    nobody: Any = None
    arn = "arn:aws:lambda:us-east-1:123456789012:function:yo-dawg"
    builder = Builder("yo-dawg", arn, "id", "python3.13", "x86_64")
    with contextlib.closing(Workshop(shell, space)) as workshop:
        yield Job(settings, builder, space, log, shell, nobody, nobody, workshop)


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Play:
    def play(does: str) -> None:
        (tmp_path / "program.py").write_text(f"""
import json, os, signal, socket, sys
from yo_dawg import channel
with socket.socket(fileno=os.dup(0)) as ours:
    job, files = channel.receive(ours)
{textwrap.dedent(does)}
""")

        def command(_module: str, space: Workspace) -> Command:
            return Command(
                [sys.executable, "-u", "-P", "-s", tmp_path / "program.py"], space.root, {"PYTHONPATH": str(HERE)}
            )

        monkeypatch.setattr("yo_dawg.control.workshop.program", command)

    return play


def ask(job: Job, error_type: type[YoDawgError] = PackageError) -> dict[str, Any]:
    return job.workshop.ask("package", {}, {}, job.log, error_type)


def answer_that_says(content: str | bytes) -> str:
    """Return what a program does that writes this into its answer."""
    return f"os.pwrite(files['answer'], {content if isinstance(content, bytes) else content.encode()!r}, 0)"


# --- What a program answers with, at all ----------------------------------------------------------------------


def test_an_answer_is_handed_on(job: Job, play: Play) -> None:
    play("channel.write_answer(files['answer'], {'a': [1]})")
    assert ask(job) == {"a": [1]}


@pytest.mark.parametrize(
    ("does", "words"),
    [
        pytest.param("pass", "gave no answer that can be read", id="nothing"),
        pytest.param(answer_that_says(b"{"), "gave no answer that can be read", id="no JSON"),
        pytest.param(answer_that_says(b"\xff\xfe\xfd"), "gave no answer that can be read", id="no text"),
        pytest.param(answer_that_says(b"[]"), "it is no object", id="no object"),
        pytest.param(
            "os.pwrite(files['answer'], b'[' * 1_000_000 + b']' * 1_000_000, 0)", "nested too deep", id="nested"
        ),
        pytest.param("os.ftruncate(files['answer'], 1 << 40)", "it is 1,099,511,627,776 bytes long", id="endless"),
        pytest.param("os.close(files['answer'])", "gave no answer that can be read", id="closed"),
    ],
)
def test_an_answer_that_cannot_be_read_is_an_error_of_the_stage(job: Job, play: Play, does: str, words: str) -> None:
    play(does)
    with pytest.raises(SourceError, match=f"The program that should do it .*{words}"):
        ask(job, SourceError)


@pytest.mark.parametrize(
    ("does", "words"),
    [
        pytest.param("sys.exit(3)", "ended with exit status 3", id="exit"),
        pytest.param("os.kill(os.getpid(), signal.SIGKILL)", "was killed, most likely for lack of memory", id="killed"),
        pytest.param("os.kill(os.getpid(), signal.SIGSEGV)", "was ended by SIGSEGV", id="crashed"),
        pytest.param("raise ValueError('what it was')", "(?s)exit status 1.*ValueError: what it was", id="traceback"),
        pytest.param(
            "channel.write_answer(files['answer'], {'a': 1}); sys.exit(1)", "ended with exit status 1", id="after all"
        ),
    ],
)
def test_a_program_that_dies_is_an_error_that_says_so(job: Job, play: Play, does: str, words: str) -> None:
    play(does)
    with pytest.raises(PackageError, match=words):
        ask(job)


def test_a_full_disk_is_the_operators_matter(job: Job, play: Play) -> None:
    play("sys.exit('OSError: [Errno 28] No space left on device')")
    with pytest.raises(ConfigError, match="ephemeral_storage"):
        ask(job)


def test_what_a_dying_program_prints_is_bounded_masked_and_printable(job: Job, play: Play) -> None:
    play(f"print('\\x1b[31m{SECRET}\\r\\x07' * 100_000); sys.exit(1)")
    with pytest.raises(PackageError) as failed:
        ask(job)
    assert len(str(failed.value)) < TAIL_BYTES + 200
    assert_harmless(str(failed.value))


def assert_harmless(text: str) -> None:
    assert SECRET not in text
    assert not [each for each in text if not each.isprintable() and each not in "\n\t"]


# --- Errors -----------------------------------------------------------------------------------------------------


def error(name: object, message: object = "What it was.") -> str:
    return answer_that_says(json.dumps({"error": name, "message": message}))


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_of_ours_is_raised_as_what_it_is(job: Job, play: Play, name: str) -> None:
    play(error(name))
    with pytest.raises(YoDawgError, match=r"^What it was\.$") as failed:
        ask(job)
    assert type(failed.value) is ERRORS[name]


@pytest.mark.parametrize(
    "name", ["", "ValueError", "SystemExit", "OutOfTime", "YoDawgError", None, 1, ["PackageError"], {}, "x" * 100_000]
)
def test_an_error_that_is_none_of_ours_is_one_of_the_stage(job: Job, play: Play, name: object) -> None:
    play(error(name))
    with pytest.raises(SourceError, match=r"^What it was\.$"):
        ask(job, SourceError)


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(f"{SECRET}\x1b[2J\n\r\0" * 100_000, id="long"),
        pytest.param("\x9b\u202e\ud800", id="not to be printed"),
        pytest.param(None, id="null"),
        pytest.param(["a\x1b"] * 100_000, id="a list"),
        pytest.param({"a\n": {"b": float("nan")}}, id="an object"),
    ],
)
def test_an_errors_message_is_bounded_and_printable(job: Job, play: Play, message: object) -> None:
    play(error("PackageError", message))
    with pytest.raises(PackageError) as failed:
        ask(job)
    said = job.log.mask(str(failed.value))  # as whoever reports it does
    assert len(said) <= MAX_MESSAGE_LENGTH
    assert max(len(line) for line in said.split("\n")) <= MAX_LINE
    assert_harmless(said)


def test_an_errors_message_that_is_nested_deep_is_an_error_too(job: Job, play: Play) -> None:
    for depth in (500, 900, 5000, 50_000):
        play(f"""
nested = '[' * {depth} + ']' * {depth}
os.pwrite(files['answer'], ('{{"error": "PackageError", "message": ' + nested + '}}').encode(), 0)
""")
        with pytest.raises(PackageError):
            ask(job)


# --- The Git programs -------------------------------------------------------------------------------------------


REQUEST = BuildRequest("api", "project")
SOURCE = Source("https://git.example/project.git")


@pytest.mark.parametrize(
    "found",
    [
        None, 1, "x", [], [[]], [["refs/heads/main"]], [["refs/heads/main", "0123"]], [["main", COMMIT, "more"]],
        [["main", COMMIT], ["other", COMMIT]], [[1, COMMIT]], [["main", [COMMIT]]], {"main": COMMIT},
        [["main", COMMIT.upper()]],
    ],
)  # fmt: skip
def test_a_look_that_finds_what_makes_no_sense_finds_nothing(job: Job, play: Play, found: object) -> None:
    play(answer_that_says(json.dumps({"found": found})))
    assert look_at_ref(SOURCE, REQUEST, job) is None


def test_a_refs_name_is_bounded_and_printable(job: Job, play: Play) -> None:
    play(answer_that_says(json.dumps({"found": [["refs/heads/\x1b[2J\n" + "x" * 10_000, COMMIT]]})))
    seen = look_at_ref(SOURCE, REQUEST, job)
    assert seen is not None
    assert seen.commit == COMMIT
    assert len(seen.ref) <= MAX_REF
    assert seen.ref.isprintable()


@pytest.fixture
def with_toolchain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The programs are the tests': they need none of the toolchain's zips."""

    def fetch(_part: str, job: Job) -> OpenFile:
        return OpenFile(job.space.root)

    for room in ("git", "package", "workshop"):
        monkeypatch.setattr(f"yo_dawg.control.{room}.fetch_toolchain", fetch)


@pytest.mark.usefixtures("with_toolchain")
@pytest.mark.parametrize("commit", [None, 1, "main", "0" * 39, [COMMIT], "../../x"])
def test_a_clone_of_no_commit_is_an_error(job: Job, play: Play, commit: object) -> None:
    play(answer_that_says(json.dumps({"commit": commit, "ref": "main"})))
    with pytest.raises(SourceError, match=r"Cannot clone https://git\.example/project\.git: the clone named no commit"):
        clone(SOURCE, REQUEST, job)


@pytest.mark.usefixtures("with_toolchain")
def test_a_clones_ref_is_bounded_and_printable(job: Job, play: Play, capsys: pytest.CaptureFixture[str]) -> None:
    play(answer_that_says(json.dumps({"commit": COMMIT, "ref": "\x1b[2J\n[8/8] deploy" * 1000})))
    cloned = clone(SOURCE, REQUEST, job)
    assert (cloned.commit, len(cloned.ref)) == (COMMIT, MAX_REF)
    assert_harmless(capsys.readouterr().out)
    assert "\n[8/8]" not in cloned.ref


# --- The package program ------------------------------------------------------------------------------------------


TARGET = Target.from_configuration(
    {"FunctionName": "api", "FunctionArn": "arn:aws:lambda:us-east-1:1:function:api", "CodeSha256": "x" * 43 + "="}
)
MANIFEST = Manifest("build", {"code_sha256": "old"}, pinned=True)

GOOD: dict[str, Any] = {
    "unzipped_bytes": 7, "files": 1, "largest": [["(project)", 7]], "dependencies": ["a==1"],
    "dependency_records": {"a==1": "0" * 64}, "left_out": [], "warnings": ["one"], "pinned": True,
    "imports": [["app", 1500], ["a", 300]],
    "pruned": {"files": 1, "bytes": 2, "reasons": {"tests": 1}, "kept": {"b": "why"}},
}  # fmt: skip


def build(job: Job, manifest: Manifest | None = None) -> BuildOutput | Manifest:
    nothing = job.workshop.fetch(list)
    uv = job.workshop.fetch(OpenFile, job.space.root)
    materials = Materials(manifest, uv, None, [nothing])
    return make_package(REQUEST, [TARGET], Cloned(COMMIT, "main"), materials, job)


def package_that_says(answer: str, content: bytes = b"the zip") -> str:
    return f"os.write(files['package'], {content!r}); {answer_that_says(answer)}"


def test_what_a_package_is_said_to_be_is_told(job: Job, play: Play) -> None:
    play(package_that_says(json.dumps(GOOD)))
    made = build(job)
    assert isinstance(made, BuildOutput)
    told = {name: value for name, value in GOOD.items() if name not in ("unzipped_bytes", "files", "largest", "pinned")}
    package = {"zip_bytes": 7, "unzipped_bytes": 7, "files": 1, "largest": [["(project)", 7]]}
    head = {"commit": COMMIT, "ref": "main", "code_sha256": made.code_sha256}
    assert made.result == {**head, **told, "package": package}
    assert made.is_pinned
    assert made.code_sha256 == base64.b64encode(hashlib.sha256(b"the zip").digest()).decode()


def test_the_digest_is_of_what_is_there_and_not_what_is_said(job: Job, play: Play) -> None:
    play(package_that_says(json.dumps({**GOOD, "code_sha256": "said", "commit": "said", "zip_bytes": 10**9})))
    made = build(job)
    assert isinstance(made, BuildOutput)
    assert "said" not in (made.code_sha256, *made.result.values())
    assert made.result["package"]["zip_bytes"] == 7


@pytest.mark.parametrize("manifest", [None, MANIFEST], ids=["nothing is known", "something else was built"])
def test_unchanged_is_no_answer_where_it_was_not_asked(job: Job, play: Play, manifest: Manifest | None) -> None:
    play(answer_that_says(json.dumps({"unchanged": True})))
    with pytest.raises(PackageError, match="The program that should make the package made none"):
        build(job, manifest)


def test_unchanged_means_the_package_before_where_it_was_asked(
    job: Job, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yo_dawg.control.package.may_be_unchanged", lambda *_: True)
    play(answer_that_says(json.dumps({"unchanged": True})))
    assert build(job, MANIFEST) is MANIFEST
    for other in (1, "true", [True]):
        play(answer_that_says(json.dumps({"unchanged": other})))
        with pytest.raises(PackageError, match="made none"):
            build(job, MANIFEST)


def test_a_program_that_was_killed_made_no_package(job: Job, play: Play) -> None:
    play("os.write(files['package'], b'half'); os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(PackageError, match="was killed, most likely for lack of memory"):
        build(job)


@pytest.mark.parametrize("pinned", [None, 1, "true", [True]])
def test_only_true_is_pinned(job: Job, play: Play, pinned: object) -> None:
    play(package_that_says(json.dumps({**GOOD, "pinned": pinned})))
    made = build(job)
    assert isinstance(made, BuildOutput)
    assert not made.is_pinned


NAMES = sorted({*GOOD, "reasons", "kept", "files", "bytes"})
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(10**400) | st.just(SECRET),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text() | st.sampled_from(NAMES) | st.just(SECRET), inner, max_size=6)
    ),
)


@given(st.fixed_dictionaries({}, optional={name: JSON for name in GOOD}))
def test_whatever_is_said_of_a_package_is_told_in_the_kinds_of_the_contract(said: Mapping[str, Any]) -> None:
    told = told_of(said)
    text = json.dumps(told, allow_nan=False)
    assert SECRET not in text
    assert_kinds(told)


def told_of(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is told of a package; of the job, it takes the log only."""

    class OnlyLog:
        log = Log((SECRET,))

    job: Any = OnlyLog()
    return package_result(said, job)


def assert_kinds(told: Mapping[str, Any]) -> None:
    numbers = [told["package"]["unzipped_bytes"], told["package"]["files"], *told["pruned"]["reasons"].values()]
    numbers += [count for _, count in told["imports"]]
    numbers += [told["pruned"]["files"], told["pruned"]["bytes"], *(count for _, count in told["package"]["largest"])]
    assert all(type(each) is int and 0 <= each <= MAX_NUMBER for each in numbers)
    texts = [*told["dependencies"], *told["left_out"], *told["warnings"], *told["dependency_records"]]
    texts += [*told["pruned"]["reasons"], *told["pruned"]["kept"], *told["pruned"]["kept"].values()]
    texts += [name for name, _ in [*told["package"]["largest"], *told["imports"]]]
    assert all(len(name) <= MAX_MODULE_NAME for name, _ in told["imports"])
    assert all(isinstance(each, str) and len(each) <= MAX_LINE for each in texts)
    for each in texts:
        assert_harmless(each)


@pytest.mark.parametrize("name", ["dependencies", "left_out", "warnings", "largest", "imports", "dependency_records"])
def test_lists_have_an_end(name: str) -> None:
    records = {f"{each}": "0" * 64 for each in range(100_000)}
    item: Any = ["x\0" * 500, 7] if name in ("largest", "imports") else "x\0" * 5000
    told = told_of({name: records if name == "dependency_records" else [item, *[item] * 100_000]})
    listing = told["package"]["largest"] if name == "largest" else told[name]
    assert 0 < len(listing) <= {"largest": LARGEST, "imports": MOST_IMPORTS}.get(name, MAX_ENTRIES)
    assert_kinds(told)


@pytest.mark.parametrize("depth", [100, 900])
def test_what_is_nested_deep_is_told_in_short(job: Job, play: Play, depth: int) -> None:
    nested = "[" * depth + "]" * depth
    said = ", ".join(f'"{name}": [{nested}]' for name in GOOD if name != "pruned")
    play(package_that_says(f'{{{said}, "pruned": {{"kept": {{"a": {nested}}}, "reasons": {{"a": {nested}}}}}}}'))
    made = build(job)
    assert isinstance(made, BuildOutput)
    assert len(json.dumps(made.result)) < 2000


def test_a_message_of_a_program_that_was_taken_over_does_no_harm(
    job: Job, play: Play, capsys: pytest.CaptureFixture[str]
) -> None:
    play(f"""
print(json.dumps({{"yo-dawg": ["info", "{SECRET} \\x1b[2J\\n[8/8] deploy api"]}}))
print(json.dumps({{"yo-dawg": ["end", "clone", float("nan")]}}))
print('{{"yo-dawg": ["info", "x" * 1000000')
channel.write_answer(files["answer"], {{}})
""")
    assert ask(job) == {}
    said = capsys.readouterr().out
    assert_harmless(said)
    assert "\n[8/8]" not in said
    assert job.log.seconds == {}


# --- The toolchain program ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packages", [None, 1, "dulwich", {"a": 1}, [1, None, "a\x1b[2J\n", ["x"] * 10]])
def test_what_a_toolchain_is_said_to_hold_is_texts(job: Job, play: Play, packages: object) -> None:
    play(answer_that_says(json.dumps({"packages": packages})))
    files, said = make_toolchain(["git"], job)
    assert list(files) == ["git"]
    for each in said:
        assert_harmless(each)


@pytest.mark.usefixtures("with_toolchain")
def test_what_a_toolchain_says_of_itself_is_a_line(job: Job, play: Play) -> None:
    play(answer_that_says(json.dumps({"says": "uv 1\x1b[2J\n" * 10_000})))
    said = try_toolchain(["git"], job)
    assert len(said) <= MAX_LINE
    assert "\n" not in said
    assert_harmless(said)
