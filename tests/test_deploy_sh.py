"""deploy.sh, run as a user runs it: a fake aws first on PATH records its arguments, and all else is real.

The checkout is a copy, in a folder whose name holds a space, with a requirements.txt whose "function"
group is one small wheel made here, so that no test needs the network.  PATH holds the few programs that
deploy.sh may count on, and nothing more.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from local import __main__ as local
from local.aws import EmbeddedAWS
from local.git_server import GitServer, make_repository

ROOT = Path(__file__).resolve().parent.parent
BASICS = ("bash", "cat", "cp", "dirname", "mktemp", "rm", "sh")
"""All that deploy.sh may start, beside python3 and aws."""

ACCOUNT = "123456789012"

FAKE_AWS = """
import json, os, shutil, sys
from pathlib import Path

here = Path(os.environ["FAKE_AWS"])
arguments = sys.argv[1:]
if arguments == ["--version"]:
    print(os.environ.get("FAKE_AWS_VERSION", "aws-cli/1.46.3 Python/3.11.7 Linux/6 botocore/1.44.5"))
    sys.exit()
call = {"arguments": arguments, "environ": dict(os.environ)}
for argument in arguments:
    if argument.startswith("file://"):
        call[argument] = Path(argument[7:]).read_text()
if "--body" in arguments:
    shutil.copy(arguments[arguments.index("--body") + 1], here / "body")
with (here / "calls").open("a") as calls:
    calls.write(json.dumps(call) + "\\n")
replies = json.loads((here / "replies").read_text())
reply = replies.get(" ".join(arguments[:2]), {})
if isinstance(reply, list):  # one after the other; the last one stays
    done = here / ("-".join(arguments[:2]) + ".done")
    count = int(done.read_text()) if done.exists() else 0
    done.write_text(str(count + 1))
    reply = reply[min(count, len(reply) - 1)]
if "answer" in reply:
    Path(arguments[-1]).write_text(reply["answer"])
sys.stdout.write(reply.get("out", ""))
sys.stderr.write(reply.get("error", ""))
sys.exit(reply.get("status", 255 if "error" in reply else 0))
"""


def program(path: Path, text: str) -> Path:
    """Write a program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def make_wheel(folder: Path, name: str, files: Mapping[str, str]) -> str:
    """Make a wheel; return the line of a requirement file that pins it."""
    info = f"{name}-1.0.dist-info"
    content = dict(files) | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in (*content, f"{info}/RECORD"))
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for member, text in (content | {f"{info}/RECORD": record}).items():
            wheel.writestr(zipfile.ZipInfo(member), text)
    return f"{name}==1.0 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


@dataclass
class Ran:
    """What became of a run."""

    status: int
    out: str
    error: str


@dataclass
class Checkout:
    """A checkout, the programs it finds, and the fake AWS."""

    root: Path
    bin: Path
    fake: Path
    config: Path
    environ: dict[str, str] = field(default_factory=dict)
    replies: dict[str, Any] = field(default_factory=dict)

    def run(self, *arguments: str, **environ: str | None) -> Ran:
        """Run deploy.sh in a folder that is not its own; an environment variable given as None is not set."""
        (self.fake / "replies").write_text(json.dumps(self.replies))
        given = {name: value for name, value in {**self.environ, **environ}.items() if value is not None}
        command = [str(self.root / "deploy.sh"), *arguments]
        ran = subprocess.run(command, env=given, cwd=self.fake, capture_output=True, text=True)
        return Ran(ran.returncode, ran.stdout, ran.stderr)

    def deploy(self, *arguments: str, **environ: str | None) -> Ran:
        """Run deploy.sh with this checkout's configuration."""
        return self.run("-c", str(self.config), *arguments, **environ)

    def calls(self) -> list[dict[str, Any]]:
        """Return what aws was called with."""
        path = self.fake / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def operations(self) -> list[str]:
        """Return which operations aws was called for."""
        return [" ".join(call["arguments"][:2]) for call in self.calls()]

    def call(self, operation: str) -> dict[str, Any]:
        """Return the one call of an operation."""
        [call] = (each for each in self.calls() if " ".join(each["arguments"][:2]) == operation)
        return call


def option(call: Mapping[str, Any], name: str) -> str:
    """Return the value of an option."""
    arguments = call["arguments"]
    return str(arguments[arguments.index(name) + 1])


CONFIG = """
[aws]
aws_profile = from-config
aws_region = {region}
deployment_bucket = artifacts

[builder]
timeout = 300
ephemeral_storage = 512
deployable_functions = project-to-build, other-*

[git]
base_url = https://git.example/me
"""

BOOTSTRAPPED = {
    "status": "bootstrapped",
    "toolchain": {"s3_uri": "s3://artifacts/yo-dawg/toolchain/00.zip", "sha256": "00", "packages": ["dulwich==1.2.21"]},
    "seconds": {"total": 12.3, "install": 10.1},
}
BUILT = {
    "status": "deployed",
    "function": "project",
    "function_arn": f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:project",
    "commit": "0123456789abcdef0123456789abcdef01234567",
    "ref": "main",
    "code_sha256": "c2hhMjU2",
    "version": "$LATEST",
    "alias": None,
    "package": {
        "zip_bytes": 2_100_000,
        "unzipped_bytes": 6_400_000,
        "files": 312,
        "s3_uri": "s3://artifacts/yo-dawg/packages/project/00.zip",
        "largest": [["cryptography", 4_100_000], ["requests", 90_000]],
    },
    "dependencies": [f"package-{number}==1.0" for number in range(8)],
    "pruned": {"files": 40, "bytes": 1_200_000, "reasons": {"tests": 40}, "kept": []},
    "warnings": ["requirements.txt pins nothing"],
    "log": "s3://artifacts/yo-dawg/builds/project/1.log",
    "seconds": {"total": 12.3, "clone": 0.4, "install": 3.2},
}
INVOKED = {"StatusCode": 200, "ExecutedVersion": "$LATEST"}


def invoked(answer: object, **metadata: str) -> dict[str, str]:
    """Return the fake's reply to "lambda invoke"."""
    return {"out": json.dumps(INVOKED | metadata), "answer": json.dumps(answer)}


PYTHON = shlex.quote(sys.executable)


def wrapper(path: Path, *arguments: str | Path) -> Path:
    """Write a program that runs the tests' own Python with these arguments before its own."""
    words = " ".join(shlex.quote(str(each)) for each in arguments)
    return program(path, f'#!/bin/sh\nexec {PYTHON} {words} "$@"\n')


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    root, tools, fake = tmp_path / "check out", tmp_path / "bin", tmp_path / "fake"
    fake.mkdir()
    (root / "local").mkdir(parents=True)
    for name in ("deploy.sh", "template.yaml", "lambda_function.py", "local/__init__.py", "local/config.py"):
        shutil.copy(ROOT / name, root / name)
    shutil.copy(ROOT / "local/deploy.py", root / "local")
    wheels = tmp_path / "wheels"
    passenger = {"passenger.py": "x = 1\n", "passenger-1.0.data/scripts/passenger": "#!python\nprint(1)\n"}
    (root / "requirements.txt").write_text(f"# --- function: travels ---\n{make_wheel(wheels, 'passenger', passenger)}")
    for name in BASICS:
        found = shutil.which(name)
        assert found
        tools.mkdir(exist_ok=True)
        (tools / name).symlink_to(found)
    wrapper(tools / "python3")
    wrapper(tools / "aws", program(tmp_path / "fake-aws.py", FAKE_AWS))
    config = tmp_path / "my config.ini"
    config.write_text(CONFIG.format(region="us-east-1"))
    result = Checkout(root, tools, fake, config)
    result.environ = {
        "PATH": str(tools),
        "HOME": str(tmp_path),
        "FAKE_AWS": str(fake),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": wheels.as_uri(),
    }
    return result


@pytest.fixture
def ready(checkout: Checkout) -> Checkout:
    """A checkout whose .venv is there: the tests' own Python."""
    wrapper(checkout.root / ".venv/bin/python")
    shutil.copy(checkout.root / "requirements.txt", checkout.root / ".venv/.installed-requirements.txt")
    return checkout


# --- Usage ----------------------------------------------------------------------------------------------------


def test_help_is_the_header(checkout: Checkout) -> None:
    ran = checkout.run("help")
    assert ran.status == 0
    assert ran.out.startswith("Usage: ./deploy.sh [-c CONFIG] [COMMAND]\n")
    for command in (
        "bootstrap",
        "build REPO",
        "rollback FUNCTION",
        "history FUNCTION",
        "doctor",
        "local [--keep] [REPO]",
        "test [PYTEST ARGS]",
        "help",
    ):
        assert f"\n  {command}" in ran.out
    assert "#" not in ran.out
    assert checkout.run("--help") == checkout.run("-h") == ran


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["deplyo"], "there is no command deplyo"),
        (["-x"], "there is no option -x"),
        (["-c"], "-c wants a file"),
        (["bootstrap", "now"], "bootstrap takes no arguments, but got: now"),
        (["doctor", "--fix"], "doctor takes no arguments, but got: --fix"),
        (["build"], "build wants a REPO"),
        (["build", "--ref"], "--ref wants a value"),
        (["build", "one", "two"], "build takes one REPO, but got one and two"),
        (["build", "one", "--brnach", "x"], "build does not know the option --brnach"),
        (["build", "one", "--alias"], "--alias wants a value"),
        (["build", "one", "--publish=yes"], "build does not know the option --publish=yes"),
        (["build", "one", "--publish --force"], "build does not know the option --publish --force"),
        (["build", "one", "--"], "build does not know the option --"),
        (["build", "one", "-f"], "build does not know the option -f"),
        (["rollback", "one", "--"], "rollback does not know the option --"),
        (["rollback"], "rollback wants a FUNCTION"),
        (["rollback", "one", "two"], "rollback takes one FUNCTION, but got one and two"),
        (["rollback", "one", "--publish"], "rollback does not know the option --publish"),
        (["history"], "history wants a FUNCTION, and nothing else"),
        (["history", "--all"], "history does not know the option --all"),
    ],
)
def test_wrong_usage_exits_with_2_before_anything_is_done(checkout: Checkout, arguments: list[str], said: str) -> None:
    ran = checkout.run(*arguments)
    assert (ran.status, ran.out) == (2, "")
    assert ran.error == f'deploy.sh: {said}\nTry "./deploy.sh help".\n'
    assert not checkout.calls()
    assert not (checkout.root / ".venv").exists()


def test_shellcheck_finds_nothing_and_nothing_is_hidden_from_it() -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    ran = subprocess.run([shellcheck, ROOT / "deploy.sh"], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, "")
    text = (ROOT / "deploy.sh").read_text()
    assert "shellcheck disable" not in text
    assert text.endswith('\nmain "$@"\n')


def test_a_trace_can_be_had(ready: Checkout) -> None:
    assert "+ main help" in ready.run("help", YO_DAWG_TRACE="1").error


# --- config.ini and the environment -----------------------------------------------------------------------------


def test_what_is_wrong_with_config_ini_is_said_at_once_and_aws_is_not_asked(ready: Checkout) -> None:
    ready.config.write_text("[aws]\naws_secret_access_key = hunter2\n[builder]\ntimeout = soon\n")
    for command in (["bootstrap"], ["build", "x"]):
        ran = ready.deploy(*command)
        assert (ran.status, ran.out) == (1, "")
        for name in ("aws_secret_access_key", "timeout", "deployment_bucket", "deployable_functions", "base_url"):
            assert re.search(rf"^{re.escape(str(ready.config))}: \[\w+\] {name}\b", ran.error, re.MULTILINE), name
        assert "hunter2" not in ran.error
        assert "Traceback" not in ran.error
    assert not ready.calls()


def test_without_config_ini_one_is_told_to_copy_the_example(ready: Checkout) -> None:
    ran = ready.run("build", "x")
    assert ran.status == 1
    assert f"{ready.root}/config.ini is missing: copy config.ini.example to it" in ran.error


@pytest.mark.parametrize(
    ("given", "profile", "region"),
    [
        pytest.param({}, "from-config", "us-east-1", id="config.ini"),
        pytest.param({"AWS_PROFILE": "mine"}, "mine", "us-east-1", id="profile"),
        pytest.param({"AWS_PROFILE": ""}, "from-config", "us-east-1", id="an empty profile is none"),
        pytest.param({"AWS_PROFILE": "", "AWS_ACCESS_KEY_ID": "x"}, None, "us-east-1", id="nor is it handed on"),
        pytest.param({"AWS_DEFAULT_PROFILE": "mine"}, None, "us-east-1", id="its other name"),
        pytest.param({"AWS_ACCESS_KEY_ID": "x"}, None, "us-east-1", id="keys"),
        pytest.param({"AWS_REGION": "eu-west-1"}, "from-config", "eu-west-1", id="region"),
        pytest.param({"AWS_DEFAULT_REGION": "eu-west-1"}, "from-config", "eu-west-1", id="default region"),
        pytest.param({"AWS_REGION": "a", "AWS_DEFAULT_REGION": "b"}, "from-config", "a", id="both"),
    ],
)
def test_the_aws_environment_counts_more_than_config_ini(
    ready: Checkout, given: dict[str, str], profile: str | None, region: str
) -> None:
    ready.replies = {"lambda invoke": invoked(BUILT)}
    assert ready.deploy("build", "project", **given).status == 0
    environ = ready.call("lambda invoke")["environ"]
    assert environ.get("AWS_PROFILE") == profile
    # Version 1 of the CLI knows only the second name.
    assert (environ["AWS_REGION"], environ["AWS_DEFAULT_REGION"]) == (region, region)
    assert environ["AWS_PAGER"] == ""


# --- Python and the AWS CLI -------------------------------------------------------------------------------------


def test_a_python_name_counts_only_if_it_runs_and_is_new_enough(ready: Checkout) -> None:
    shutil.rmtree(ready.root / ".venv")
    ready.replies = {"lambda invoke": invoked(BUILT)}
    program(ready.bin / "python3", "#!/bin/sh\nexit 1\n")  # too old, or a shim for one that is not there
    program(ready.bin / "python3.13", "#!/bin/sh\nexit 127\n")
    ran = ready.deploy("build", "project")
    assert ran.status == 1
    assert "no Python 3.11 or newer runs here" in ran.error
    wrapper(ready.bin / "python3.12")
    assert ready.deploy("build", "project").status == 0


def test_a_python_that_cannot_make_virtualenvs_is_told_in_words(checkout: Checkout) -> None:
    refuse = f'case "$2" in *ensurepip*) exit 1;; esac\nexec {PYTHON} "$@"\n'
    program(checkout.bin / "python3", f"#!/bin/sh\n{refuse}")
    ran = checkout.deploy("bootstrap")
    assert ran.status == 1
    assert "apt install python3-venv" in ran.error
    assert not checkout.calls()


def test_a_broken_or_too_old_aws_on_path_is_passed_over(ready: Checkout) -> None:
    ready.replies = {"lambda invoke": invoked(BUILT)}
    broken = program(ready.bin.parent / "shims/aws", "#!/bin/sh\necho 'command not found' >&2\nexit 127\n")
    path = f"{broken.parent}:{ready.bin}"
    assert ready.deploy("build", "project", PATH=path).status == 0
    for said in ("this is something else", "aws-cli/1.22.34 Python/3.10.6 Linux/6 botocore/1.23.34"):
        program(broken, f"#!/bin/sh\necho '{said}'\n")
        assert ready.deploy("build", "project", PATH=path).status == 0


@pytest.mark.parametrize(
    ("version", "knows_endpoints"),
    [("1.27.99", False), ("1.29.0", True), ("2.9.19", False), ("2.12.7", False), ("2.13.0", True), ("3.0.0", True)],
)
def test_where_an_endpoint_is_set_an_aws_that_does_not_know_it_is_passed_over(
    ready: Checkout, version: str, knows_endpoints: bool
) -> None:
    """It would ask the real AWS."""
    ready.replies = {"lambda invoke": invoked(BUILT)}
    first = ready.bin.parent / "shims/aws"
    used = ready.fake / "used"
    says = f"aws-cli/{version} Python/3.11.2 Linux/6"
    begins = f'[ "$1" != --version ] || {{ echo {says}; exit; }}\n: >{shlex.quote(str(used))}\n'
    program(first, f'#!/bin/sh\n{begins}exec {shlex.quote(str(ready.bin / "aws"))} "$@"\n')
    path = f"{first.parent}:{ready.bin}"
    assert ready.deploy("build", "project", PATH=path).status == 0
    assert used.exists(), "good enough for the real AWS"
    used.unlink()
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        assert ready.deploy("build", "project", PATH=path, **{name: "http://127.0.0.1:9"}).status == 0
        assert used.exists() == knows_endpoints
        used.unlink(missing_ok=True)


def test_without_an_aws_on_path_the_one_in_the_venv_is_used(ready: Checkout) -> None:
    ready.replies = {"lambda invoke": invoked(BUILT)}
    fake = (ready.bin / "aws").rename(ready.bin.parent / "moved")
    venv = f'case "$*" in "-P -m awscli"*) shift 3; exec {shlex.quote(str(fake))} "$@";; esac\nexec {PYTHON} "$@"\n'
    program(ready.root / ".venv/bin/python", f"#!/bin/sh\n{venv}")
    assert ready.deploy("build", "project").status == 0
    assert ready.operations() == ["lambda invoke"]


def test_the_venv_is_made_once_and_renewed_when_requirements_change(checkout: Checkout) -> None:
    """With the real venv and pip; "pytest" is a wheel that prints its arguments and where it runs."""
    wheels = checkout.bin.parent / "wheels"
    show = "import os, sys\nprint(os.getcwd(), sys.argv[1:])\n"
    (checkout.root / "tests").mkdir()
    (checkout.root / "local/requirements.txt").write_text("")
    (checkout.root / "tests/requirements.txt").write_text(make_wheel(wheels, "pytest", {"pytest/__main__.py": show}))
    first = checkout.run("test", "-k", "a b", HOME=None)
    assert (first.status, first.out) == (0, f"{checkout.root} ['-k', 'a b']\n"), first.error
    assert "-----> make .venv" in first.error
    installed = [f"-----> install {name} into .venv" for name in ("requirements.txt", "tests/requirements.txt")]
    assert all(line in first.error.splitlines() for line in installed)

    second = checkout.run("test", HOME="")
    assert (second.status, second.error) == (0, "")

    again = make_wheel(wheels, "pytest", {"pytest/__main__.py": "print('changed')\n"})
    (checkout.root / "tests/requirements.txt").write_text(f"# newer\n{again}")
    third = checkout.run("test")
    assert third.error == "-----> install tests/requirements.txt into .venv\n"

    (checkout.root / ".venv/bin/python").unlink()
    (checkout.root / ".venv/bin/python").symlink_to("/gone/python3")
    fourth = checkout.run("test")
    assert (fourth.status, fourth.out) == (0, "changed\n")
    assert "-----> make .venv" in fourth.error


def test_a_failed_installation_is_an_error_and_is_tried_again(checkout: Checkout) -> None:
    wrapper(checkout.root / ".venv/bin/python")
    (checkout.root / "requirements.txt").write_text(f"nobody-has-this==1.0 --hash=sha256:{'0' * 64}\n")
    for _ in range(2):
        ran = checkout.deploy("bootstrap")
        assert ran.status == 1
        assert "pip could not install requirements.txt" in ran.error
    assert not checkout.calls()


def test_local_is_started_with_its_arguments_in_the_users_folder(ready: Checkout) -> None:
    (ready.root / "local/requirements.txt").write_text("")
    shutil.copy(ready.root / "local/requirements.txt", ready.root / ".venv/.installed-local-requirements.txt")
    (ready.root / "local/__main__.py").write_text("import os, sys\nprint(os.getcwd(), sys.argv[1:])\nsys.exit(3)\n")
    (ready.fake / "local.py").write_text("raise SystemExit('the wrong module')\n")
    ran = ready.run("local", "--keep", "my project")
    assert (ran.status, ran.out) == (3, f"{ready.fake} ['--keep', 'my project']\n"), ran.error


# --- build ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "event"),
    [
        (["project"], {"function": "project", "repo_name": "project"}),
        (["group/project"], {"function": "project", "repo_name": "group/project"}),
        (["project", "--function", "other"], {"function": "other", "repo_name": "project"}),
        (
            ["--function=other", "--ref=v1.0", "project", "--subdirectory", "a/b"],
            {"function": "other", "repo_name": "project", "ref": "v1.0", "subdirectory": "a/b"},
        ),
        (
            ["project", "--dry-run", "--force"],
            {"function": "project", "repo_name": "project", "dry_run": True, "force": True},
        ),
        (
            ["project", "--publish", "--alias=live"],
            {"function": "project", "repo_name": "project", "publish": True, "alias": "live"},
        ),
        (
            ["project", "--function", "a", "--function=b"],
            {"function": ["a", "b"], "repo_name": "project"},
        ),
        (
            ["project", "--ref", '", "force": true, "x": "é = \\'],
            {"function": "project", "repo_name": "project", "ref": '", "force": true, "x": "é = \\'},
        ),
    ],
)
def test_build_sends_the_event(ready: Checkout, arguments: list[str], event: dict[str, object]) -> None:
    ready.replies = {"lambda invoke": invoked(BUILT)}
    ran = ready.deploy("build", *arguments)
    assert ran.status == 0, ran.error
    call = ready.call("lambda invoke")
    assert json.loads(call[option(call, "--payload")]) == {"action": "build", **event}
    assert option(call, "--function-name") == "yo-dawg"


@pytest.mark.parametrize(
    "content", ['{"a": [1, "é"]}', '["x"]', "0", pytest.param(f'["{"x" * 140_000}"]', id="larger than an argument")]
)
def test_the_test_event_comes_from_a_file(ready: Checkout, tmp_path: Path, content: str) -> None:
    (tmp_path / "my event.json").write_text(content)
    ready.replies = {"lambda invoke": invoked(BUILT)}
    ran = ready.deploy("build", "project", "--test-event", f"{tmp_path}/my event.json")
    assert ran.status == 0, ran.error
    call = ready.call("lambda invoke")
    assert json.loads(call[option(call, "--payload")])["test_event"] == json.loads(content)


def test_a_test_event_that_is_none_is_refused(ready: Checkout, tmp_path: Path) -> None:
    ran = ready.deploy("build", "project", f"--test-event={tmp_path}/none.json")
    assert (ran.status, ran.error) == (
        1,
        f"deploy.sh: there is no file {tmp_path}/none.json to read the test event from.\n",
    )
    (tmp_path / "event.json").write_text("{")
    ran = ready.deploy("build", "project", f"--test-event={tmp_path}/event.json")
    assert ran.status == 1
    assert "The test event is not JSON: " in ran.error
    assert not ready.calls()


@pytest.mark.parametrize(
    ("arguments", "event"),
    [
        (["api"], {"function": "api"}),
        (["api", "--to", "12", "--alias=live"], {"function": "api", "to": "12", "alias": "live"}),
    ],
)
def test_rollback_sends_the_event(ready: Checkout, arguments: list[str], event: dict[str, object]) -> None:
    ready.replies = {"lambda invoke": invoked(BUILT)}
    ran = ready.deploy("rollback", *arguments)
    assert ran.status == 0, ran.error
    call = ready.call("lambda invoke")
    assert json.loads(call[option(call, "--payload")]) == {"action": "rollback", **event}


def test_the_function_is_told_who_asks(ready: Checkout) -> None:
    ready.replies = {"lambda invoke": invoked(BUILT)}
    tokens = set()
    for _ in range(2):
        (ready.fake / "calls").unlink(missing_ok=True)
        ready.deploy("build", "project", USER="me", HOSTNAME="here")
        context = json.loads(base64.b64decode(option(ready.call("lambda invoke"), "--client-context")))
        assert context["custom"]["asked_by"] == "me@here"
        tokens.add(context["custom"]["token"])
    assert len(tokens) == 2


HISTORY = {
    "holder": {
        "began": 1795420800, "status": "running", "title": "build project v2", "asked_by": "you@there", "error": None,
    },
    "history": [
        {
            "began": 1795334400, "status": "failed", "title": "build project main", "commit": "0123456789abcdef",
            "ref": "main", "error": "BuildScriptError: make_dist.sh \u001b[31m", "asked_by": "",
        },
        {
            "began": 1795248000, "status": "deployed", "title": "build project", "commit": "fedcba9876543210",
            "ref": "main", "version": "12", "alias": "live", "code_sha256": "abcdefghijklmnop", "asked_by": "me@here",
        },
    ],
}  # fmt: skip


def test_history_is_a_table(ready: Checkout) -> None:
    ready.replies = {"s3api get-object": {"answer": json.dumps(HISTORY)}}
    ran = ready.deploy("history", f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:project")
    assert (ran.status, ran.error) == (0, "")
    assert ran.out.splitlines() == [
        "when                  status    commit        ref   version    code          asked for by  what",
        "2026-11-23 08:00:00Z  running   -             -     -          -             you@there     build project v2",
        "2026-11-22 08:00:00Z  failed    0123456789ab  main  -          -             -             "
        "build project main: BuildScriptError",
        "2026-11-21 08:00:00Z  deployed  fedcba987654  main  12 (live)  abcdefghijkl  me@here       build project",
    ]
    call = ready.call("s3api get-object")
    assert (option(call, "--bucket"), option(call, "--key")) == ("artifacts", "yo-dawg/locks/project")


def test_a_function_without_a_history_is_told(ready: Checkout) -> None:
    ready.replies = {"s3api get-object": {"error": "An error occurred (NoSuchKey) when calling GetObject"}}
    ran = ready.deploy("history", "project")
    assert (ran.status, ran.out) == (1, "")
    assert "nothing was built for project yet" in ran.error


def test_what_became_of_several_functions_is_shown(ready: Checkout) -> None:
    outcome = {"status": "deployed", "function_arn": "arn", "version": "3", "alias": "live"}
    several = {**BUILT, "function": ["a", "b"], "functions": {"a": outcome, "b": {**outcome, "status": "unchanged"}}}
    ready.replies = {"lambda invoke": invoked(several)}
    shown = ready.deploy("build", "project").out
    assert "function      a: deployed, version 3 (live)\nfunction      b: unchanged, version 3 (live)\n" in shown


PATIENT_AWS = """
import json, os, signal, sys, time
from pathlib import Path

here = Path(os.environ["FAKE_AWS"])
arguments = sys.argv[1:]
if arguments == ["--version"]:
    print("aws-cli/1.46.3 Python/3.11.7 Linux/6 botocore/1.44.5")
elif arguments[:2] == ["lambda", "invoke"]:
    context = arguments[arguments.index("--client-context") + 1]
    (here / "context").write_text(context)
    if "project" in Path(arguments[arguments.index("--payload") + 1][7:]).read_text():
        while not (here / "looked").exists():
            time.sleep(0.05)
    Path(arguments[-1]).write_text((here / "answer").read_text())
    print('{"StatusCode": 200}')
else:  # logs filter-log-events
    import base64
    token = json.loads(base64.b64decode((here / "context").read_text()))["custom"]["token"]
    def event(number, stream, message):
        return {"eventId": str(number), "logStreamName": stream, "timestamp": number, "message": message + "\\n"}
    print(json.dumps({"events": [
        event(1, "mine", "[1/7] of an older build \u2026"),
        event(2, "other", "[1/7] of somebody else \u2026"),
        event(3, "mine", f"Asked for by me ({token})."),
        event(4, "mine", "[1/7] get the toolchain \u2026"),
        event(5, "mine", "      what a tool printed"),
        event(6, "mine", "[1/7] get the toolchain \u2026 0.2 s"),
        event(7, "mine", "Warning: \u001b[31mit is late."),
    ]}))
    (here / "count").open("a").write("x")
    if (here / "count").stat().st_size == 2:
        (here / "looked").touch()
"""


@pytest.fixture
def slow(ready: Checkout, tmp_path: Path) -> Checkout:
    """A checkout whose invocation lasts until its log was looked at twice."""
    wrapper(ready.bin / "aws", program(tmp_path / "patient-aws.py", PATIENT_AWS))
    (ready.fake / "answer").write_text(json.dumps(BUILT))
    helper = ready.root / "local/deploy.py"
    helper.write_text(helper.read_text().replace("PAUSE = 3.0", "PAUSE = 0.1"))
    return ready


def test_the_stages_are_shown_while_they_happen(slow: Checkout) -> None:
    ran = slow.deploy("build", "project")
    assert ran.status == 0
    assert ran.error == "-----> build project\n[1/7] get the toolchain …\nWarning: it is late.\n"


@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_says_what_goes_on(slow: Checkout, ended_by: signal.Signals) -> None:
    """All that deploy.sh started ends with it, and the shell above sees that it was interrupted."""
    (slow.fake / "count").write_text("xxx")  # it is looked at for ever
    command = [str(slow.root / "deploy.sh"), "-c", str(slow.config), "build", "project"]
    scratch = slow.fake / "scratch"
    scratch.mkdir()
    environ = {**slow.environ, "TMPDIR": str(scratch)}
    with subprocess.Popen(
        command, env=environ, stderr=subprocess.PIPE, text=True, start_new_session=True,
        # Tests that run in the background ignore it, and so would the shell.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as running:  # fmt: skip
        assert running.stderr
        while "get the toolchain" not in running.stderr.readline():
            pass
        running.send_signal(ended_by)
        said = running.stderr.read()  # to its end: nothing holds it open any more
    assert running.returncode == -ended_by
    assert "goes on in AWS, for at most 300 s" in said
    assert "Run the same command again to get its answer" in said
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("version", ["aws-cli/1.46.3 Python/3.11.7", "aws-cli/2.35.0 Python/3.14.0 exe/x86_64"])
def test_a_long_build_is_never_started_twice(ready: Checkout, version: str) -> None:
    ready.replies = {"lambda invoke": invoked(BUILT)}
    ready.deploy("build", "project", FAKE_AWS_VERSION=version)
    assert ready.operations() == ["lambda invoke"]
    call = ready.call("lambda invoke")
    assert option(call, "--invocation-type") == "RequestResponse"
    assert call["environ"]["AWS_MAX_ATTEMPTS"] == "1"
    assert int(option(call, "--cli-read-timeout")) > 300
    # Version 2 would read the payload as base64; version 1 does not know the option.
    if version.startswith("aws-cli/2"):
        assert option(call, "--cli-binary-format") == "raw-in-base64-out"
    else:
        assert "--cli-binary-format" not in call["arguments"]


def test_the_result_is_shown_on_one_screen(ready: Checkout) -> None:
    ready.replies = {"lambda invoke": invoked(BUILT)}
    ran = ready.deploy("build", "project")
    assert ran.out.splitlines() == [
        "status        deployed",
        "function      project",
        "commit        0123456789abcdef0123456789abcdef01234567 (main)",
        "code          c2hhMjU2",
        "version       $LATEST",
        "size          2.1 MB zipped, 6.4 MB unzipped, 312 files",
        "largest       cryptography 4.1 MB, requests 90.0 kB",
        "dependencies  8: package-0==1.0, package-1==1.0, package-2==1.0, package-3==1.0, package-4==1.0,"
        " package-5==1.0, …",
        "pruned        40 files, 1.2 MB",
        "package       s3://artifacts/yo-dawg/packages/project/00.zip",
        "log           s3://artifacts/yo-dawg/builds/project/1.log",
        "seconds       12.3 (clone 0.4, install 3.2)",
        "warning       requirements.txt pins nothing",
    ]
    assert ran.error == "-----> build project\n"


def test_a_foreseen_error_is_told_in_its_own_words(ready: Checkout) -> None:
    error = {
        "errorType": "SourceError",
        "errorMessage": "cannot clone nothing: no such repository.\n\x1b[31mIts last lines:\x1b[0m\n404\r",
        "requestId": "1",
        "stackTrace": ['  File "/var/task/lambda_function.py", line 1, in f\n'],
    }
    log = base64.b64encode(b"START RequestId\n").decode()
    ready.replies = {"lambda invoke": invoked(error, FunctionError="Unhandled", LogResult=log)}
    ran = ready.deploy("build", "nothing")
    assert (ran.status, ran.out) == (1, "")
    assert ran.error == (
        "-----> build nothing\nSourceError: cannot clone nothing: no such repository.\nIts last lines:\n404\n"
    )


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (
            {"errorType": "KeyError", "errorMessage": "'x'", "stackTrace": ["  File a, line 1\n", "    f()\n"]},
            ["KeyError: 'x'", "Traceback:", "  File a, line 1", "    f()"],
        ),
        (
            {"errorType": "Sandbox.Timedout", "errorMessage": "RequestId: 1 Error: Task timed out after 1.00 seconds"},
            ["Sandbox.Timedout: RequestId: 1 Error: Task timed out after 1.00 seconds"],
        ),
        ("no object", ["Unhandled: no object"]),
    ],
)
def test_an_unforeseen_error_is_told_with_the_end_of_the_log(ready: Checkout, answer: object, told: list[str]) -> None:
    log = base64.b64encode("the last line é\n".encode()).decode()
    ready.replies = {"lambda invoke": invoked(answer, FunctionError="Unhandled", LogResult=log)}
    ran = ready.deploy("build", "project")
    assert (ran.status, ran.out) == (1, "")
    assert ran.error.splitlines()[1:] == [*told, "The end of its log:", "the last line é"]


@pytest.mark.parametrize("answer", ["null", "[]", "{}", "<html>", ""])
def test_an_answer_that_is_none_of_ours_is_a_failure(ready: Checkout, answer: str) -> None:
    ready.replies = {"lambda invoke": {"out": json.dumps(INVOKED), "answer": answer}}
    ran = ready.deploy("build", "project")
    assert (ran.status, ran.out) == (1, "")
    assert "not one of yo-dawg's" in ran.error
    assert "Traceback" not in ran.error


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (
            "An error occurred (ResourceNotFoundException) when calling the Invoke operation: Function not found",
            'There is no function yo-dawg in us-east-1. Run "./deploy.sh bootstrap" first.',
        ),
        (
            'Read timeout on endpoint URL: "https://lambda"',
            "It may be running all the same: the same command again waits for it and gets its answer. "
            "Its log is /aws/lambda/yo-dawg.",
        ),
        (
            "Connection was closed before we received a valid response",
            "It may be running all the same: the same command again waits for it and gets its answer. "
            "Its log is /aws/lambda/yo-dawg.",
        ),
    ],
)
def test_a_failed_invocation_is_told_with_what_to_do_and_not_repeated(ready: Checkout, error: str, advice: str) -> None:
    ready.replies = {"lambda invoke": {"error": f"\n{error}\n"}}
    ran = ready.deploy("build", "project")
    assert (ran.status, ran.out) == (1, "")
    assert ran.error == f"-----> build project\ndeploy.sh: {error}\n{advice}\n"
    assert ready.operations() == ["lambda invoke"]


def test_what_lies_where_it_is_started_does_not_pass_for_a_part_of_it(ready: Checkout) -> None:
    ready.replies = {"lambda invoke": invoked(BUILT)}
    for name in ("json.py", "local.py", "boto3.py"):
        (ready.fake / name).write_text("raise SystemExit('the wrong module')\n")
    ran = ready.deploy("build", "project")
    assert ran.status == 0, ran.error


@pytest.mark.parametrize("home", ["", None])
def test_no_home_is_needed_and_nothing_is_left_behind(ready: Checkout, tmp_path: Path, home: str | None) -> None:
    ready.replies = {"lambda invoke": invoked(BUILT)}
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    assert ready.deploy("build", "project", HOME=home, TMPDIR=str(temporary)).status == 0
    assert not list(temporary.iterdir())


# --- bootstrap --------------------------------------------------------------------------------------------------

NOT_FOUND = {"error": "\nAn error occurred (404) when calling the HeadBucket operation: Not Found\n"}
NO_STACK = {"error": "\nAn error occurred (ValidationError): Stack with id yo-dawg does not exist\n"}


@pytest.fixture
def fresh(ready: Checkout) -> Checkout:
    """An account in which nothing is there yet."""
    ready.replies = {
        "sts get-caller-identity": {"out": f"{ACCOUNT}\n"},
        "s3api head-bucket": NOT_FOUND,
        "s3api head-object": {"error": "An error occurred (404) when calling the HeadObject operation: Not Found"},
        "cloudformation describe-stacks": NO_STACK,
        "cloudformation deploy": {"out": "Successfully created/updated stack - yo-dawg\n"},
        "lambda get-function-configuration": {"out": json.dumps(as_asked(ready))},
        "lambda invoke": invoked(BOOTSTRAPPED),
    }
    return ready


@pytest.fixture
def settled(fresh: Checkout) -> Checkout:
    """An account in which everything is as it should be."""
    fresh.replies |= {
        "s3api head-bucket": {},
        "s3api get-bucket-location": {"out": "None\n"},
        "s3api get-public-access-block": {"out": "True\tTrue\tTrue\tTrue\n"},
        "s3api head-object": {"out": f"{code_sha256(fresh)}\n"},
        "cloudformation describe-stacks": {"out": "UPDATE_COMPLETE\tyo-dawg\n"},
        "cloudformation deploy": {"out": "\nNo changes to deploy. Stack yo-dawg is up to date\n"},
        "lambda invoke": invoked({**BOOTSTRAPPED, "status": "unchanged"}),
    }
    return fresh


CODE_SHA256: list[str] = []


def code_sha256(checkout: Checkout) -> str:
    """Return the digest of the function's zip, as Lambda reports it; it is the same for all tests."""
    if not CODE_SHA256:
        ran = subprocess.run(
            [sys.executable, "-P", "-m", "local.deploy", "package", checkout.bin.parent / "function.zip"],
            env=checkout.environ | {"PYTHONPATH": str(checkout.root)},
            capture_output=True,
            text=True,
            check=True,
        )
        CODE_SHA256.append(ran.stdout.split()[1])
    return CODE_SHA256[0]


def as_asked(checkout: Checkout) -> dict[str, Any]:
    """Return GetFunctionConfiguration's answer for the function that CONFIG asks for."""
    return {
        "FunctionName": "yo-dawg",
        "Runtime": "python3.13",
        "Handler": "lambda_function.lambda_handler",
        "MemorySize": 3008,
        "EphemeralStorage": {"Size": 512},
        "Timeout": 300,
        "Architectures": ["x86_64"],
        "CodeSha256": code_sha256(checkout),
        "Environment": {
            "Variables": {
                "YO_DAWG_DEPLOYMENT_BUCKET": "artifacts",
                "YO_DAWG_DEPLOYABLE_FUNCTIONS": "project-to-build,other-*",
                "YO_DAWG_BASE_URL": "https://git.example/me",
                "YO_DAWG_USERNAME": "",
                "YO_DAWG_TOKEN_SECRET": "",
                "YO_DAWG_DEPLOY_KEY_SECRET": "",
                "YO_DAWG_KNOWN_HOSTS": "",
                "YO_DAWG_PROOF": "warn",
                "YO_DAWG_BYTECODE": "used",
                "YO_DAWG_INDEX_SECRET": "",
            }
        },
    }


def test_a_builders_code_that_was_changed_in_the_bucket_is_uploaded_again(settled: Checkout) -> None:
    settled.replies["s3api head-object"] = {"out": "c29tZXRoaW5nIGVsc2U=\n"}
    assert settled.deploy().status == 0
    assert "s3api put-object" in settled.operations()


def test_bootstrap_makes_everything_in_order(fresh: Checkout) -> None:
    ran = fresh.deploy()
    assert ran.status == 0, ran.error
    assert fresh.operations() == [
        "sts get-caller-identity",
        "s3api head-bucket",
        "s3api create-bucket",
        "s3api put-public-access-block",
        "s3api put-bucket-encryption",
        "s3api head-object",
        "s3api put-object",
        "cloudformation describe-stacks",
        "cloudformation deploy",
        "lambda get-function-configuration",
        "lambda invoke",
    ]
    assert "status        bootstrapped\n" in ran.out
    assert "nothing was changed" not in ran.error
    invocation = fresh.call("lambda invoke")
    assert json.loads(invocation[option(invocation, "--payload")]) == {"action": "bootstrap"}


def test_bootstrap_gives_the_stack_its_parameters(fresh: Checkout) -> None:
    fresh.deploy("bootstrap")
    call = fresh.call("cloudformation deploy")
    arguments = call["arguments"]
    first = arguments.index("--parameter-overrides") + 1
    pairs = dict(each.split("=", 1) for each in arguments[first : arguments.index("--capabilities")])
    digest = hashlib.sha256((fresh.fake / "body").read_bytes())
    assert pairs["CodeKey"] == f"yo-dawg/function/{digest.hexdigest()}.zip"
    assert pairs["DeployableFunctions"] == "project-to-build,other-*"
    assert (pairs["Timeout"], pairs["Username"]) == ("300", "")
    assert option(call, "--template-file") == str(fresh.root / "template.yaml")
    assert option(call, "--capabilities") == "CAPABILITY_IAM"
    assert "--no-fail-on-empty-changeset" in arguments
    upload = fresh.call("s3api put-object")
    assert option(upload, "--key") == pairs["CodeKey"]
    assert option(upload, "--checksum-sha256") == base64.b64encode(digest.digest()).decode()


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1"])
def test_the_bucket_is_made_in_the_region_encrypted_and_closed(fresh: Checkout, region: str) -> None:
    fresh.deploy("bootstrap", AWS_REGION=region)
    made = fresh.call("s3api create-bucket")
    if region == "us-east-1":  # the one region whose name S3 refuses here
        assert "--create-bucket-configuration" not in made["arguments"]
    else:
        assert option(made, "--create-bucket-configuration") == f"LocationConstraint={region}"
    closed = fresh.call("s3api put-public-access-block")
    assert option(closed, "--public-access-block-configuration").count("=true") == 4
    assert "AES256" in option(fresh.call("s3api put-bucket-encryption"), "--server-side-encryption-configuration")


@pytest.mark.parametrize(("account", "count"), [("fresh", 5), ("settled", 4)])
def test_every_call_on_the_bucket_says_whose_it_must_be(
    request: pytest.FixtureRequest, account: str, count: int
) -> None:
    checkout: Checkout = request.getfixturevalue(account)
    checkout.deploy("bootstrap")
    calls = [call for call in checkout.calls() if call["arguments"][0] == "s3api"]
    owned = [call for call in calls if call["arguments"][1] != "create-bucket"]  # which makes it ours
    assert len(owned) == count
    assert {option(call, "--expected-bucket-owner") for call in owned} == {ACCOUNT}


def test_a_second_bootstrap_changes_nothing_and_says_so(settled: Checkout) -> None:
    ran = settled.deploy("bootstrap")
    assert ran.status == 0, ran.error
    assert "-----> bucket, code, stack and function are as they should be: nothing was changed\n" in ran.error
    assert "status        unchanged\n" in ran.out
    writing = [each for each in settled.operations() if re.search(r" (put|create|update|delete)-", each)]
    assert not writing


def test_the_zip_is_the_same_on_every_machine_and_holds_no_trace_of_this_one(fresh: Checkout, tmp_path: Path) -> None:
    fresh.deploy("bootstrap")
    body = (fresh.fake / "body").read_bytes()
    moved = fresh.root.rename(tmp_path / "elsewhere")
    (moved / "lambda_function.py").chmod(0o700)
    fresh.root = moved
    fresh.deploy("bootstrap")
    assert (fresh.fake / "body").read_bytes() == body
    with zipfile.ZipFile(fresh.fake / "body") as archive:
        assert sorted(archive.namelist()) == [
            "lambda_function.py",
            "passenger-1.0.dist-info/METADATA",
            "passenger-1.0.dist-info/WHEEL",
            "passenger.py",
            "requirements.txt",
        ]
        assert archive.read("lambda_function.py") == (ROOT / "lambda_function.py").read_bytes()
        assert all(stat.S_IMODE(each.external_attr >> 16) & 0o444 == 0o444 for each in archive.infolist())


def test_a_compiled_package_cannot_travel_in_the_zip(fresh: Checkout) -> None:
    wheel = make_wheel(fresh.bin.parent / "wheels", "passenger", {"passenger.so": ""})
    (fresh.root / "requirements.txt").write_text(f"# --- function: travels ---\n{wheel}")
    shutil.copy(fresh.root / "requirements.txt", fresh.root / ".venv/.installed-requirements.txt")
    ran = fresh.deploy("bootstrap")
    assert ran.status == 1
    assert "passenger.so is compiled" in ran.error
    assert "cloudformation deploy" not in fresh.operations()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("An error occurred (403) when calling the HeadBucket operation: Forbidden", "belongs to somebody else"),
        ("An error occurred (301) when calling the HeadBucket operation", "is not in us-east-1"),
        ("Could not connect to the endpoint URL", "cannot look at the bucket artifacts: Could not connect"),
    ],
)
def test_a_bucket_that_cannot_be_used_ends_it(fresh: Checkout, error: str, said: str) -> None:
    fresh.replies["s3api head-bucket"] = {"error": error}
    ran = fresh.deploy("bootstrap")
    assert ran.status == 1
    assert said in ran.error
    assert fresh.operations() == ["sts get-caller-identity", "s3api head-bucket"]


def test_a_bucket_of_another_region_ends_it(settled: Checkout) -> None:
    settled.replies["s3api get-bucket-location"] = {"out": "eu-west-1\n"}
    ran = settled.deploy("bootstrap")
    assert ran.status == 1
    assert "the bucket artifacts is not in us-east-1, where Lambda needs it" in ran.error


@pytest.mark.parametrize(
    "answer",
    [{"out": "True\tFalse\tTrue\tTrue\n"}, {"error": "NoSuchPublicAccessBlockConfiguration"}],
)
def test_an_open_bucket_that_was_there_before_is_told_but_left_alone(settled: Checkout, answer: dict[str, str]) -> None:
    settled.replies["s3api get-public-access-block"] = answer
    ran = settled.deploy("bootstrap")
    assert ran.status == 0
    assert "Warning: the bucket artifacts does not block public access" in ran.error
    assert "s3api put-public-access-block" not in settled.operations()


def test_without_credentials_one_is_told_how_to_get_them(fresh: Checkout) -> None:
    fresh.replies["sts get-caller-identity"] = {"error": "Unable to locate credentials\n"}
    ran = fresh.deploy("bootstrap")
    assert ran.status == 1
    assert 'Unable to locate credentials\ndeploy.sh: AWS does not know who you are. Run "aws configure"' in ran.error


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("ROLLBACK_COMPLETE\tyo-dawg", "aws cloudformation delete-stack --region us-east-1 --stack-name yo-dawg"),
        ("UPDATE_ROLLBACK_FAILED\tyo-dawg", "aws cloudformation continue-update-rollback"),
        ("UPDATE_IN_PROGRESS\tyo-dawg", "is being changed just now (UPDATE_IN_PROGRESS)"),
        ("CREATE_COMPLETE\tNone", "a stack yo-dawg that is not this builder's"),
        ("CREATE_COMPLETE\tyo_dawg", "a stack yo-dawg that is not this builder's (its function is: yo_dawg)"),
    ],
)
def test_a_stack_that_cannot_be_updated_is_left_alone_with_advice(settled: Checkout, state: str, said: str) -> None:
    settled.replies["cloudformation describe-stacks"] = {"out": f"{state}\n"}
    ran = settled.deploy("bootstrap")
    assert ran.status == 1
    assert said in ran.error
    assert "cloudformation deploy" not in settled.operations()


def test_a_failed_stack_is_told_with_the_first_reasons(settled: Checkout) -> None:
    def event(name: str, status: str, reason: str = "", kind: str = "AWS::IAM::Role") -> dict[str, str]:
        return {
            "LogicalResourceId": name,
            "ResourceStatus": status,
            "ResourceStatusReason": reason,
            "ResourceType": kind,
        }

    stack = "AWS::CloudFormation::Stack"
    events = [
        event("yo-dawg", "UPDATE_ROLLBACK_COMPLETE", kind=stack),
        event("Function", "UPDATE_FAILED", "Resource update cancelled"),
        event("Role", "UPDATE_FAILED", "API: iam:PutRolePolicy is not authorized"),
        event("yo-dawg", "UPDATE_IN_PROGRESS", "User Initiated", kind=stack),
        event("LogGroup", "CREATE_FAILED", "an old story"),
    ]
    settled.replies |= {
        "cloudformation deploy": {"error": "Failed to create/update the stack."},
        "cloudformation describe-stack-events": {"out": json.dumps({"StackEvents": events})},
    }
    ran = settled.deploy("bootstrap")
    assert ran.status == 1
    assert "could not be created or updated:\nRole: API: iam:PutRolePolicy is not authorized\n" in ran.error
    assert "an old story" not in ran.error
    assert "cancelled" not in ran.error
    assert "lambda invoke" not in settled.operations()


def test_a_function_changed_by_hand_is_brought_in_line(settled: Checkout) -> None:
    asked = as_asked(settled)
    changed = asked | {"CodeSha256": "b2xk", "MemorySize": 128, "Environment": {"Variables": {"MINE": "x"}}}
    settled.replies["lambda get-function-configuration"] = [{"out": json.dumps(changed)}, {"out": json.dumps(asked)}]
    ran = settled.deploy("bootstrap")
    assert ran.status == 0, ran.error
    code, configuration = (settled.call(f"lambda update-function-{name}") for name in ("code", "configuration"))
    digest = base64.b64decode(asked["CodeSha256"]).hex()
    assert json.loads(code[option(code, "--cli-input-json")]) == {
        "FunctionName": "yo-dawg",
        "S3Bucket": "artifacts",
        "S3Key": f"yo-dawg/function/{digest}.zip",
        "Architectures": ["x86_64"],
    }
    assert json.loads(configuration[option(configuration, "--cli-input-json")]) == {
        "FunctionName": "yo-dawg",
        "MemorySize": 3008,
        "Environment": asked["Environment"],
    }
    operations = settled.operations()
    for update in ("lambda update-function-code", "lambda update-function-configuration"):
        assert operations[operations.index(update) + 1] == "lambda wait"
    assert "MemorySize is 128, not 3008\n" in ran.error
    assert "nothing was changed" not in ran.error


def test_a_function_that_does_not_take_the_code_is_a_failure(settled: Checkout) -> None:
    stuck = as_asked(settled) | {"CodeSha256": "b2xk"}
    settled.replies["lambda get-function-configuration"] = {"out": json.dumps(stuck)}
    ran = settled.deploy("bootstrap")
    assert ran.status == 1
    assert "does not run the uploaded code" in ran.error
    assert "lambda invoke" not in settled.operations()


# --- doctor -----------------------------------------------------------------------------------------------------

READING = {
    "sts get-caller-identity",
    "s3api head-bucket",
    "s3api get-bucket-location",
    "s3api get-public-access-block",
    "cloudformation describe-stacks",
    "lambda get-function-configuration",
    "secretsmanager describe-secret",
    "lambda invoke",
}


@pytest.fixture
def patient(settled: Checkout) -> Checkout:
    """An account in which everything is as it should be, and whose user has a name."""
    settled.replies["sts get-caller-identity"] = {"out": f"{ACCOUNT}\tarn:aws:iam::{ACCOUNT}:user/me\n"}
    settled.replies["lambda invoke"] = invoked({"status": "well", "findings": [INSIDE]})
    return settled


INSIDE = {"name": "git host", "ok": True, "says": "git.example can be\nreached"}


def findings(ran: Ran) -> list[list[str]]:
    """Return the findings: mark, subject, text."""
    return [line.split(maxsplit=2) for line in ran.out.splitlines()]


def test_doctor_finds_nothing_wrong_where_nothing_is(patient: Checkout) -> None:
    ran = patient.deploy("doctor")
    assert (ran.status, ran.error) == (0, "")
    assert [each[:2] for each in findings(ran)] == [
        ["ok", name]
        for name in (
            "python",
            ".venv",
            "aws",
            "config",
            "region",
            "identity",
            "bucket",
            "stack",
            "function",
            "git-host",
        )
    ]
    assert findings(ran)[-1][2] == "git.example can be reached"
    call = patient.call("lambda invoke")
    assert json.loads(call[option(call, "--payload")]) == {"action": "doctor"}


@pytest.mark.parametrize(
    ("reply", "name", "said"),
    [
        pytest.param(
            invoked({"status": "ill", "findings": [INSIDE, {"name": "disk", "ok": False, "says": "full"}]}),
            "disk", "full", id="a finding",
        ),
        pytest.param(
            invoked({"errorType": "RequestError", "errorMessage": "unknown"}, FunctionError="Unhandled"),
            "inside", "RequestError: unknown", id="an older yo-dawg",
        ),
        pytest.param({"error": "AccessDeniedException: no\n"}, "inside", "AccessDenied", id="not allowed"),
    ],
)  # fmt: skip
def test_doctor_asks_inside_of_lambda_too(patient: Checkout, reply: dict[str, str], name: str, said: str) -> None:
    patient.replies["lambda invoke"] = reply
    ran = patient.deploy("doctor")
    assert (ran.status, ran.error) == (1, "")
    [finding] = (each for each in findings(ran) if each[0] == "!!")
    assert finding[1] == name
    assert said in finding[2]


def test_doctor_only_notes_what_bootstrap_will_make(patient: Checkout) -> None:
    shutil.rmtree(patient.root / ".venv")
    patient.replies |= {"s3api head-bucket": NOT_FOUND, "cloudformation describe-stacks": NO_STACK}
    ran = patient.deploy("doctor")
    assert (ran.status, ran.error) == (0, "")
    assert [each[1] for each in findings(ran) if each[0] == "--"] == [".venv", "bucket", "stack"]
    assert not (patient.root / ".venv").exists()


@pytest.mark.parametrize(
    ("operation", "answer", "subject", "said"),
    [
        ("sts get-caller-identity", {"error": "\nUnable to locate credentials\n"}, "identity", "aws configure"),
        ("s3api head-bucket", {"error": "An error occurred (403)"}, "bucket", "belongs to somebody else"),
        ("s3api head-bucket", {"error": "An error occurred (500): oops\n"}, "bucket", "oops"),
        ("s3api get-bucket-location", {"out": "EU\n"}, "bucket", "is not in us-east-1"),
        ("s3api get-public-access-block", {"error": "none"}, "bucket", "does not block public access"),
        ("cloudformation describe-stacks", {"out": "ROLLBACK_COMPLETE\tyo-dawg\n"}, "stack", "delete-stack"),
        ("cloudformation describe-stacks", {"error": "AccessDenied"}, "stack", "AccessDenied"),
        ("lambda get-function-configuration", {"error": "ResourceNotFound"}, "function", "there is no function"),
    ],
)
def test_doctor_says_what_is_wrong(
    patient: Checkout, operation: str, answer: dict[str, str], subject: str, said: str
) -> None:
    patient.replies[operation] = answer
    ran = patient.deploy("doctor")
    assert (ran.status, ran.error) == (1, "")
    [finding] = (each for each in findings(ran) if each[0] == "!!")
    assert finding[1] == subject
    assert said in finding[2]
    assert set(patient.operations()) <= READING


def test_doctor_says_how_the_function_differs(patient: Checkout) -> None:
    changed = as_asked(patient) | {"MemorySize": 128, "Architectures": ["arm64"]}
    patient.replies["lambda get-function-configuration"] = {"out": json.dumps(changed)}
    ran = patient.deploy("doctor")
    assert ran.status == 1
    wrong = [each[2] for each in findings(ran) if each[0] == "!!"]
    assert wrong == [
        'Architectures is arm64, not x86_64; run "./deploy.sh bootstrap"',
        'MemorySize is 128, not 3008; run "./deploy.sh bootstrap"',
    ]


@pytest.mark.parametrize("there", [True, False])
def test_doctor_looks_whether_the_secret_is_there_and_not_what_it_is(patient: Checkout, there: bool) -> None:
    patient.config.write_text(patient.config.read_text() + "token_secret = git-token\n")
    asked = as_asked(patient)
    asked["Environment"]["Variables"]["YO_DAWG_TOKEN_SECRET"] = "git-token"
    patient.replies |= {
        "lambda get-function-configuration": {"out": json.dumps(asked)},
        "secretsmanager describe-secret": {"out": "arn:secret\n"} if there else {"error": "ResourceNotFound"},
    }
    ran = patient.deploy("doctor")
    assert ran.status == (0 if there else 1)
    assert findings(ran)[-1][:2] == ["ok" if there else "!!", "secret"]
    assert set(patient.operations()) <= READING


def test_doctor_names_every_fault_of_config_ini_and_leaves_aws_alone(patient: Checkout) -> None:
    patient.config.write_text("[builder]\ntimeout = 0\n")
    ran = patient.deploy("doctor")
    assert ran.status == 1
    assert len([each for each in findings(ran) if each[:2] == ["!!", "config"]]) == 4
    assert not patient.calls()


def test_doctor_does_not_install_an_aws_cli(checkout: Checkout) -> None:
    (checkout.bin / "aws").unlink()
    ran = checkout.deploy("doctor")
    assert ran.status == 1
    assert [each[1] for each in findings(ran) if each[0] == "!!"] == ["aws"]
    assert not (checkout.root / ".venv").exists()


# --- The real AWS CLI -----------------------------------------------------------------------------------------


@pytest.fixture
def real(ready: Checkout) -> Checkout:
    """A checkout that finds the tests' own AWS CLI, and an AWS that nobody serves."""
    wrapper(ready.bin / "aws", "-m", "awscli")
    ready.environ |= {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    return ready


def test_an_unreachable_aws_is_told_in_words(real: Checkout) -> None:
    ran = real.deploy("doctor")
    assert ran.status == 1
    [finding] = (each for each in findings(ran) if each[0] == "!!")
    assert finding[1] == "identity"
    assert "Could not connect to the endpoint URL" in finding[2]
    assert "is AWS_ENDPOINT_URL right?" in finding[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that needs nothing."""
    folder = tmp_path / "shell-project"
    folder.mkdir()
    (folder / "lambda_function.py").write_text("def lambda_handler(event, context):\n    return 'by deploy.sh'\n")
    return folder


@pytest.fixture
def served(real: Checkout, project: Path, tmp_path: Path) -> Iterator[tuple[Checkout, EmbeddedAWS]]:
    """The real CLI, pins and repository, and an embedded AWS with a function to update."""
    shutil.copy(ROOT / "requirements.txt", real.root)
    shutil.copy(ROOT / "requirements.txt", real.root / ".venv/.installed-requirements.txt")
    repositories = tmp_path / "repositories"
    make_repository(project, repositories / "shell-project.git")
    with GitServer(repositories) as git, EmbeddedAWS(client_environment=local.client_environment()) as aws:
        local.make_function(aws, project)
        real.config.write_text(
            f"[aws]\ndeployment_bucket = deploy-sh\n[builder]\nruntime = {local.runtime()}\n"
            f"architecture = {local.architecture()}\ndeployable_functions = shell-*\n[git]\nbase_url = {git.url}\n"
        )
        pip = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))}
        real.environ = {"PATH": str(real.bin), **pip, **aws.environ}
        yield real, aws


@pytest.mark.embedded
def test_bootstrap_build_and_doctor_on_the_embedded_aws(served: tuple[Checkout, EmbeddedAWS]) -> None:
    """One long story, since each step stands on the one before."""
    checkout, aws = served
    before = checkout.deploy("doctor")
    assert (before.status, before.error) == (0, ""), before.out
    assert [each[1] for each in findings(before) if each[0] == "--"] == ["bucket", "stack"]

    first = checkout.deploy("bootstrap")
    assert (first.status, first.out.split()[:2]) == (0, ["status", "bootstrapped"]), first.error
    s3, functions = aws.client("s3"), aws.client("lambda")
    closed = s3.get_public_access_block(Bucket="deploy-sh")["PublicAccessBlockConfiguration"]
    assert set(closed.values()) == {True}
    [rule] = s3.get_bucket_encryption(Bucket="deploy-sh")["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    made = functions.get_function_configuration(FunctionName="yo-dawg")
    digest = base64.b64decode(made["CodeSha256"]).hex()
    s3.head_object(Bucket="deploy-sh", Key=f"yo-dawg/function/{digest}.zip")

    second = checkout.deploy("bootstrap")
    assert (second.status, second.out.split()[:2]) == (0, ["status", "unchanged"]), second.error
    assert "nothing was changed" in second.error
    assert "Warning" not in second.error
    assert functions.get_function_configuration(FunctionName="yo-dawg")["RevisionId"] == made["RevisionId"]

    checkout.config.write_text(checkout.config.read_text().replace("[git]", "timeout = 100\n[git]"))
    third = checkout.deploy("bootstrap")
    assert third.status == 0, third.error
    assert "nothing was changed" not in third.error
    assert functions.get_function_configuration(FunctionName="yo-dawg")["Timeout"] == 100

    rehearsal = checkout.deploy("build", "shell-project", "--dry-run")
    assert (rehearsal.status, rehearsal.out.split()[:2]) == (0, ["status", "built"]), rehearsal.error
    built = checkout.deploy("build", "shell-project")
    assert (built.status, built.out.split()[:2]) == (0, ["status", "deployed"]), built.error
    answer = functions.invoke(FunctionName="shell-project")["Payload"].read()
    assert json.loads(answer) == "by deploy.sh"

    missing = checkout.deploy("build", "shell-nothing", "--function", "shell-project")
    assert (missing.status, missing.out) == (1, "")
    assert "\nSourceError: " in missing.error
    assert "Traceback" not in missing.error
    foreign = checkout.deploy("build", "shell-project", "--function", "somebody-elses")
    assert foreign.status == 1
    assert "\nDeployError: somebody-elses is not among the functions" in foreign.error

    after = checkout.deploy("doctor")
    assert (after.status, after.error) == (0, ""), after.out
    assert not [each for each in findings(after) if each[0] != "ok"]
