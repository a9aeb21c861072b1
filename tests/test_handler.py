"""The handler, whole: what is refused before any work, and a build of which only AWS is emulated."""

from __future__ import annotations

import base64
import dataclasses
import errno
import hashlib
import io
import json
import os
import shutil
import signal
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import lambda_function as yo
from lambda_function import (
    Aws,
    Builder,
    BuildScriptError,
    ConfigError,
    DeadlineError,
    DeployError,
    NotBootstrapped,
    PackageError,
    RequestError,
    SourceError,
    YoDawgError,
    lambda_handler,
    processes_below,
)
from local.aws import EmbeddedAWS
from local.git_server import GitServer, make_repository
from tests.conftest import Context
from tests.embedded import small_zip
from tests.test_deploy import TRUST

EVENT = {"action": "build", "function": "api", "repo_name": "project"}
HANDLER = "def handler(event, context):\n    return 'ok'\n"
TOKEN = "canary-token-of-the-git-host"


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a builder; its /tmp is a folder of the test's."""
    for name in (*yo.CLIENT_VARIABLES, "LAMBDA_TASK_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("YO_DAWG_DEPLOYMENT_BUCKET", "bucket")
    monkeypatch.setenv("YO_DAWG_DEPLOYABLE_FUNCTIONS", "api, other-*")
    monkeypatch.setenv("YO_DAWG_BASE_URL", "https://git.example")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    # A test runner that is not dumpable could not be debugged; tests/test_shell.py has what this does.
    monkeypatch.setattr(yo, "protect_process", lambda: True)


# --- What is refused before any work --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "environ", "error_type", "words"),
    [
        pytest.param({"action": "biuld"}, {}, RequestError, 'mean "build"', id="event"),
        pytest.param({**EVENT, "reff": "x"}, {"BASE_URL": ""}, RequestError, 'mean "ref"', id="event before settings"),
        pytest.param(EVENT, {"BASE_URL": ""}, ConfigError, "base_url is not set", id="settings"),
        pytest.param(
            {**EVENT, "function": "x"}, {"BASE_URL": ""}, ConfigError, "base_url", id="settings before target"
        ),
        pytest.param({**EVENT, "function": "x"}, {}, DeployError, "not among", id="target"),
        pytest.param(
            {**EVENT, "function": "yo-dawg"}, {"DEPLOYABLE_FUNCTIONS": "*"}, DeployError, "this builder", id="itself"
        ),
    ],
)
@pytest.mark.usefixtures("setup")
def test_a_refusal_costs_nothing(
    monkeypatch: pytest.MonkeyPatch, event: object, environ: dict[str, str], error_type: type[Exception], words: str
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(f"YO_DAWG_{name}", value)
    for name in ("make_clients", "workspace", "kill_leftovers", "protect_process"):
        monkeypatch.setattr(yo, name, lambda *_, **__: pytest.fail("some work was done"))
    with pytest.raises(error_type, match=words):
        lambda_handler(event, Context("arn:aws:lambda:us-east-1:123456789012:function:yo-dawg"))


# --- A build ----------------------------------------------------------------------------------------------


class Yard:
    """A builder with its AWS, its Git host, a toolchain, and the function that it builds."""

    def __init__(self, aws: Aws, context: Context, git: GitServer, tmp: Path) -> None:
        self.aws, self.context, self.git, self.tmp = aws, context, git, tmp
        self.left_alone: list[str] = []
        """What a build may leave in tmp: what was there before, and is not ours."""

    def add_project(self, files: Mapping[str, str]) -> str:
        """Serve files as the repository; return the commit."""
        folder = self.tmp.parent / "project"
        for target in (folder, self.git.root / "project.git"):
            shutil.rmtree(target, ignore_errors=True)
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        return make_repository(folder, self.git.root / "project.git")

    def build(self, **fields: Any) -> dict[str, Any]:
        """Call the handler; whatever comes of it, nothing may be left."""
        before = processes_below(os.getpid())
        try:
            return lambda_handler({**EVENT, **fields}, self.context)
        finally:
            assert os.listdir(self.tmp) == self.left_alone
            assert processes_below(os.getpid()) == before

    @property
    def code_sha256(self) -> str:
        return str(self.aws.functions.get_function_configuration(FunctionName="api")["CodeSha256"])

    def keys(self, prefix: str = "") -> list[str]:
        found = self.aws.s3.list_objects_v2(Bucket="bucket", Prefix=f"yo-dawg/{prefix}")
        return [each["Key"] for each in found.get("Contents", [])]

    def read(self, key: str) -> bytes:
        content: bytes = self.aws.s3.get_object(Bucket="bucket", Key=key)["Body"].read()
        return content

    @property
    def record(self) -> dict[str, Any]:
        """The one record there is."""
        (key,) = (key for key in self.keys("builds/api/") if key.endswith(".json"))
        record: dict[str, Any] = json.loads(self.read(key))
        return record


@pytest.fixture
def yard(
    aws: Aws, account: EmbeddedAWS, context: Context, setup: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Yard]:
    builder = Builder.from_context(context)
    uv = tmp_path / "toolchain/bin/uv"
    uv.parent.mkdir(parents=True)
    uv.write_text(f"#!/bin/sh\nexec '{Path(sys.executable).with_name('uv')}' \"$@\"\n")
    uv.chmod(0o755)
    (tmp_path / "toolchain/site-packages").mkdir()  # Dulwich is among the tests' own
    archive = yo.write_zip(tmp_path / "toolchain", tmp_path / "toolchain.zip")
    store = yo.Store(aws.s3, "bucket", "yo-dawg", account.account)
    store.upload_archive(yo.toolchain_key(archive.hex_digest), archive)
    pointer = {"inputs": yo.toolchain_inputs(builder), "sha256": archive.hex_digest, "packages": []}
    store.upload_json(yo.toolchain_pointer(builder), pointer)
    role = account.client("iam").create_role(RoleName="role", AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
    aws.functions.create_function(
        FunctionName="api", Role=role, Handler="app.handler", Runtime=builder.runtime,
        Architectures=[builder.architecture], Code={"ZipFile": small_zip()},
    )  # fmt: skip
    (tmp_path / "repositories").mkdir()
    with GitServer(tmp_path / "repositories", users={"x-access-token": TOKEN}) as git:
        account.client("secretsmanager").create_secret(Name="git-token", SecretString=f"{TOKEN}\n")
        monkeypatch.setenv("YO_DAWG_BASE_URL", git.url)
        monkeypatch.setenv("YO_DAWG_TOKEN_SECRET", "git-token")
        yield Yard(aws, context, git, tmp_path / "tmp")


def test_a_project_is_built_and_deployed(yard: Yard, capsys: pytest.CaptureFixture[str]) -> None:
    commit = yard.add_project(
        {
            "app.py": HANDLER,
            "README.md": "",
            "requirements.txt": "./lib\n",
            **{f"lib/{name}": text for name, text in LIBRARY.items()},
        }
    )
    result = yard.build()
    package = yard.read(f"yo-dawg/packages/api/{base64.b64decode(result['code_sha256']).hex()}.zip")
    assert result["code_sha256"] == base64.b64encode(hashlib.sha256(package).digest()).decode() == yard.code_sha256
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        names = archive.namelist()
    assert {"app.py", "library/__init__.py", "library-1.0.dist-info/METADATA"} <= set(names)
    assert not {"README.md", "requirements.txt", "library/tests/a.py", "library-1.0.dist-info/RECORD"} & set(names)
    assert next(iter(result)) == "status"
    expected = {
        "status": "deployed", "function": "api", "commit": commit, "ref": "main", "version": "$LATEST", "alias": None,
        "dependencies": ["library==1.0"], "warnings": [],
    }  # fmt: skip
    assert {name: result[name] for name in expected} == expected
    assert result["function_arn"].endswith(":function:api")
    assert result["package"]["files"] == len(names)
    assert result["package"]["zip_bytes"] == len(package)
    assert dict(result["package"]["largest"]).keys() == {"library", "(project)"}
    assert set(result["pruned"]["reasons"]) == {"tests", "installer's records"}
    assert list(result["seconds"]) == ["total", "toolchain", "clone", "install", "stage", "prune", "zip", "deploy"]
    json.dumps(result)  # Lambda will

    log = yard.read(result["log"].removeprefix("s3://bucket/")).decode()
    stages = [line.rpartition(" …")[0] for line in log.splitlines() if line.startswith("[") and line.endswith(" …")]
    assert stages == [
        "[1/7] get the toolchain", f"[2/7] clone {yard.git.url}/project.git", "[3/7] install requirements",
        "[4/7] stage the project", "[5/7] prune dependencies", "[6/7] zip", "[7/7] deploy api",
    ]  # fmt: skip
    assert log in capsys.readouterr().out
    record = yard.record
    assert record.pop("request") == {
        "function": "api", "repo_name": "project", "ref": None, "subdirectory": None, "dry_run": False, "force": False,
    }  # fmt: skip
    assert record.pop("request_id") == yard.context.aws_request_id
    assert {**record, "log": result["log"]} == result


LIBRARY = {
    "library/__init__.py": "x = 1\n",
    "library/tests/a.py": "y = 2\n",
    "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
    "backend.py": """
import os, zipfile

def build_wheel(directory, config_settings=None, metadata_directory=None):
    info = "library-1.0.dist-info/"
    with zipfile.ZipFile(os.path.join(directory, "library-1.0-py3-none-any.whl"), "w") as wheel:
        wheel.write("library/__init__.py")
        wheel.write("library/tests/a.py")
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: library\\nVersion: 1.0\\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "library/__init__.py,,\\nlibrary/tests/a.py,,\\n")
    return "library-1.0-py3-none-any.whl"
""",
}


def test_what_runs_already_is_not_deployed_again(yard: Yard) -> None:
    yard.add_project({"app.py": HANDLER})
    first = yard.build()
    revision = yard.aws.functions.get_function_configuration(FunctionName="api")["RevisionId"]
    second = yard.build()
    assert (first["status"], second["status"]) == ("deployed", "unchanged")
    assert second["code_sha256"] == first["code_sha256"]
    assert yard.aws.functions.get_function_configuration(FunctionName="api")["RevisionId"] == revision
    assert yard.build(force=True)["status"] == "deployed"
    assert yard.aws.functions.get_function_configuration(FunctionName="api")["RevisionId"] != revision


def test_a_rehearsal_writes_nothing(yard: Yard) -> None:
    yard.add_project({"app.py": HANDLER})
    before = (yard.keys(), yard.code_sha256)
    result = yard.build(dry_run=True)
    assert result["status"] == "built"
    assert result["log"] is None
    assert (yard.keys(), yard.code_sha256) == before
    assert yard.build()["code_sha256"] == result["code_sha256"], "and what it built is what would be deployed"


def test_the_function_may_be_named_by_its_arn_and_the_project_lie_in_a_folder(yard: Yard) -> None:
    yard.add_project({"apps/api/app.py": HANDLER, "apps/api/requirements.txt": "# none\n", "other/app.py": ""})
    arn = yard.context.invoked_function_arn.replace("yo-dawg", "api")
    result = yard.build(function=arn, subdirectory="apps/api", branch="main")
    assert (result["function"], result["package"]["files"]) == ("api", 1)
    assert yard.record["function_arn"] == arn


def test_warnings_are_in_the_result_and_in_the_log(yard: Yard, capsys: pytest.CaptureFixture[str]) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    yard.add_project({"app.py": HANDLER, "model.bin": pointer})
    (warning,) = yard.build()["warnings"]
    assert "'model.bin'" in warning
    assert f"\nWarning: {warning}.\n" in capsys.readouterr().out


# --- Failures ---------------------------------------------------------------------------------------------


def no_toolchain(yard: Yard) -> None:
    for key in yard.keys("toolchain/"):
        yard.aws.s3.delete_object(Bucket="bucket", Key=key)


def no_function(yard: Yard) -> None:
    yard.aws.functions.delete_function(FunctionName="api")


@pytest.mark.parametrize(
    ("files", "fields", "error_type", "words"),
    [
        pytest.param({}, {"repo_name": "none"}, SourceError, "none.git", id="clone"),
        pytest.param({"app.py": "x"}, {"ref": "x"}, SourceError, 'no branch or tag "x"', id="ref"),
        pytest.param(
            {"app.py": HANDLER, "make_dist.sh": "echo oh no\nexit 3\n"},
            {},
            BuildScriptError,
            "oh no",
            id="make_dist.sh",
        ),
        pytest.param({"main.py": HANDLER}, {}, PackageError, "app.py", id="handler"),
    ],
)
def test_a_failed_build_is_recorded_and_deploys_nothing(
    yard: Yard, files: dict[str, str], fields: dict[str, Any], error_type: type[YoDawgError], words: str
) -> None:
    yard.add_project(files or {"app.py": ""})
    before = yard.code_sha256
    with pytest.raises(error_type, match=words) as failed:
        yard.build(**fields)
    assert failed.value.__cause__ is None
    assert failed.value.__suppress_context__
    assert (yard.code_sha256, yard.keys("packages/")) == (before, [])
    expected = {"status": "failed", "errorType": error_type.__name__, "errorMessage": str(failed.value)}
    assert {name: yard.record[name] for name in expected} == expected
    (log,) = (key for key in yard.keys("builds/api/") if key.endswith(".log"))
    assert yard.read(log).decode().endswith(f"{error_type.__name__}: {failed.value}\n")


@pytest.mark.parametrize(
    ("spoil", "error_type", "words"),
    [
        pytest.param(no_toolchain, NotBootstrapped, r"deploy\.sh bootstrap", id="no toolchain"),
        pytest.param(no_function, DeployError, "There is no function api", id="no function"),
    ],
)
def test_what_is_missing_in_aws_is_seen_before_anything_is_cloned(
    yard: Yard, spoil: Callable[[Yard], None], error_type: type[YoDawgError], words: str
) -> None:
    yard.add_project({"app.py": HANDLER})
    spoil(yard)
    with pytest.raises(error_type, match=words):
        yard.build()
    assert yard.git.requests == []


def test_a_token_that_cannot_be_read_is_the_operators_matter(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YO_DAWG_TOKEN_SECRET", "no-such-secret")
    with pytest.raises(ConfigError, match="secret no-such-secret .token_secret in config.ini.*ResourceNotFound"):
        yard.build()


def test_a_public_repository_needs_no_token(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    yard.add_project({"app.py": HANDLER})
    monkeypatch.delenv("YO_DAWG_TOKEN_SECRET")
    with GitServer(yard.git.root) as public:
        monkeypatch.setenv("YO_DAWG_BASE_URL", public.url)
        assert yard.build()["status"] == "deployed"


def test_no_secret_gets_out(yard: Yard, capsys: pytest.CaptureFixture[str]) -> None:
    """A project that knows the secrets, and prints them in each spelling, does not get them into anything."""
    spellings = [TOKEN, base64.b64encode(TOKEN.encode()).decode(), os.environ["AWS_SECRET_ACCESS_KEY"]]
    script = "\n".join(f"echo '{each}'" for each in spellings)
    yard.add_project({"app.py": HANDLER, "make_dist.sh": f"{script}\nexit 1\n"})
    with pytest.raises(BuildScriptError) as failed:
        yard.build()
    everything = [yard.read(key).decode() for key in yard.keys("builds/")]
    for text in (str(failed.value), capsys.readouterr().out, *everything):
        assert [each for each in spellings if each in text] == []
    assert str(failed.value).endswith("***\n***\n***")


ALARM = 'kill -ALRM "$PPID"; sleep 10000 & setsid sleep 10000 & sleep 10000\n'
"""Has the time be over at this point: the handler's alarm rings, as it does by itself after minutes."""


def test_out_of_time_names_the_stage_and_leaves_nothing(yard: Yard) -> None:
    yard.add_project({"app.py": HANDLER, "make_dist.sh": ALARM})
    before = yard.code_sha256
    with pytest.raises(DeadlineError) as ended:
        yard.build()
    said = str(ended.value)
    assert said.startswith('Out of time in "[4/7] stage the project": ')
    assert "of the 300 s" in said
    assert "install" in said.partition("are gone (")[2]
    assert "Nothing was deployed." in said
    assert yard.code_sha256 == before
    assert yard.record["errorType"] == "DeadlineError"


def test_out_of_time_while_deploying_does_not_say_that_nothing_was_deployed(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ring(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGALRM)

    monkeypatch.setattr(yo, "deploy", ring)
    yard.add_project({"app.py": HANDLER})
    with pytest.raises(DeadlineError, match="may have been given the new code of api: build again") as ended:
        yard.build()
    assert '"[7/7] deploy api"' in str(ended.value)
    assert "Nothing was deployed" not in str(ended.value)


def test_a_full_disk_is_the_operators_matter(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(yo, "write_zip", full)
    yard.add_project({"app.py": HANDLER})
    with pytest.raises(ConfigError, match="is full.*ephemeral_storage"):
        yard.build()
    assert yard.record["errorType"] == "ConfigError"


def test_a_file_that_the_project_made_unusable_is_named(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(staging: Path, installed: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", str(staging / "a.py"))  # as after chattr +i

    monkeypatch.setattr(yo, "prune", refused)
    yard.add_project({"app.py": HANDLER})
    with pytest.raises(PackageError, match=r"what the project made: Operation not permitted: 'staging/a\.py'"):
        yard.build()


def test_what_is_not_foreseen_is_not_dressed_up(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(yo, "write_zip", broken)
    yard.add_project({"app.py": HANDLER})
    with pytest.raises(OSError, match="Input/output error"):
        yard.build()


def test_a_build_stands_without_its_record(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    upload = yo.Store.upload

    def refuse_records(self: yo.Store, key: str, *rest: Any) -> None:
        if key.startswith("builds/"):
            raise DeployError("Cannot write it: AWS answered AccessDenied.")
        upload(self, key, *rest)

    monkeypatch.setattr(yo.Store, "upload", refuse_records)
    yard.add_project({"app.py": HANDLER})
    result = yard.build()
    assert (result["status"], result["log"]) == ("deployed", None)
    assert "Warning: no record was kept: Cannot write it" in capsys.readouterr().out
    assert yard.code_sha256 == result["code_sha256"]


@pytest.mark.parametrize("ours", [True, False], ids=["in Lambda", "elsewhere"])
def test_what_a_killed_invocation_left_is_ended_and_swept_out_first(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, ours: bool
) -> None:
    settings = dataclasses.replace(yo.Settings.from_environ(os.environ), tmp_is_ours=ours)
    monkeypatch.setattr(yo.Settings, "from_environ", lambda _: settings)
    killed: list[list[str]] = []
    # What it kills, tests/test_shell.py has: here it would take the tests with it.
    monkeypatch.setattr(yo, "kill_leftovers", lambda: killed.append(os.listdir(yard.tmp)))
    yard.add_project({"app.py": HANDLER, "make_dist.sh": f'cp app.py "$1"; ls -A "{yard.tmp}" > "$1/seen"\n'})
    (yard.tmp / "yo-dawg/staging").mkdir(parents=True)
    (yard.tmp / "yo-dawg/staging/left.py").write_text("")
    (yard.tmp / "elsewhere").write_text("")
    yard.left_alone = [] if ours else ["elsewhere"]
    yard.build()
    assert [sorted(each) for each in killed] == ([["elsewhere", "yo-dawg"]] if ours else [])
    with zipfile.ZipFile(io.BytesIO(yard.read(yard.keys("packages/")[0]))) as archive:
        assert archive.namelist() == ["app.py", "seen"]
        assert sorted(archive.read("seen").decode().split()) == sorted(["yo-dawg", *yard.left_alone])


@pytest.mark.parametrize("protected", [True, False])
def test_a_system_on_which_the_handler_stays_open_is_told_of(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], protected: bool
) -> None:
    monkeypatch.setattr(yo, "protect_process", lambda: protected)
    yard.add_project({"app.py": HANDLER})
    yard.build(dry_run=True)
    assert ("does not let the handler close itself" in capsys.readouterr().out) != protected
