"""The handler, whole: what is refused before any work, and a build of which only AWS is emulated."""

from __future__ import annotations

import base64
import dataclasses
import errno
import hashlib
import io
import json
import os
import signal
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lambda_function
from lambda_function import lambda_handler
from local.git_server import GitServer
from local.rest_json import Response
from tests.support.account import Context
from tests.support.embedded import small_zip
from tests.support.yard import EVENT, HANDLER, LIBRARY, TOKEN, Yard, another_invocation, lay_toolchain, put_toolchain
from yo_dawg.builder import Builder
from yo_dawg.control.clients import Aws, clients_for, make_clients
from yo_dawg.control.store import Store
from yo_dawg.control.workshop import Workshop
from yo_dawg.errors import (
    BuildScriptError,
    ConfigError,
    DeadlineError,
    DeployError,
    NotBootstrapped,
    PackageError,
    RequestError,
    SourceError,
    YoDawgError,
)
from yo_dawg.log import Log
from yo_dawg.settings import Settings

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
    for name in ("clients_for", "workspace", "kill_leftovers", "protect_process", "Shell"):
        monkeypatch.setattr(lambda_function, name, lambda *_, **__: pytest.fail("some work was done"))
    with pytest.raises(error_type, match=words):
        lambda_handler(event, Context("arn:aws:lambda:us-east-1:123456789012:function:yo-dawg"))


# --- What an environment keeps ------------------------------------------------------------------------------


def test_an_environment_keeps_its_clients_until_an_invocation_fails(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Aws] = []

    def make() -> Aws:
        made.append(make_clients())
        return made[-1]

    monkeypatch.setattr("yo_dawg.control.clients.make_clients", make)
    yard.add_project({"app.py": HANDLER})
    yard.build()
    yard.build(force=True)
    assert len(made) == 1
    with pytest.raises(SourceError):
        yard.build(ref="nowhere")
    yard.build(force=True)
    assert len(made) == 2
    assert clients_for(os.environ["AWS_ENDPOINT_URL"]) is made[1]
    assert clients_for("http://127.0.0.1:1") is not made[1]


def test_the_program_that_looks_is_started_if_it_will_be_asked(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    start = Workshop.start

    def note(workshop: Workshop, *names: str) -> None:
        started.extend(names)
        start(workshop, *names)

    monkeypatch.setattr(Workshop, "start", note)
    commit = yard.add_project({"app.py": HANDLER})
    builds: list[tuple[dict[str, Any], list[str]]] = [
        ({}, ["git", "package"]),
        ({"ref": "main"}, ["git", "look"]),
        ({"ref": commit}, ["git"]),
        ({"dry_run": True}, ["git", "package"]),
        ({"force": True}, ["git", "package"]),
    ]
    for fields, programs in builds:
        started.clear()
        yard.build(**fields)
        assert started == programs, fields


# --- A build ----------------------------------------------------------------------------------------------


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
    assert not {"README.md", "requirements.txt", "library/tests/test_a.py"} & set(names)
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
    assert result["imports"][0][0] == "app"
    assert all(spent >= 0 for _, spent in result["imports"])
    assert set(result["pruned"]["reasons"]) == {"tests", "installer's records"}
    assert list(result["seconds"]) == [
        "total",
        "toolchain",
        "clone",
        "install",
        "prune",
        "stage",
        "prove",
        "zip",
        "deploy",
    ]
    json.dumps(result)  # Lambda will

    log = yard.read(result["log"].removeprefix("s3://bucket/")).decode()
    stages = [line.rpartition(" …")[0] for line in log.splitlines() if line.startswith("[") and line.endswith(" …")]
    assert stages == [
        "[1/8] get the toolchain", f"[2/8] clone {yard.git.url}/project.git", "[3/8] install requirements",
        "[4/8] prune dependencies", "[5/8] stage the project", "[6/8] prove that app.handler can be imported",
        "[7/8] compile and zip", "[8/8] deploy api",
    ]  # fmt: skip
    assert log in capsys.readouterr().out
    record = yard.record
    assert record.pop("request") == {
        "function": "api", "repo_name": "project", "ref": None, "subdirectory": None, "dry_run": False, "force": False,
        "publish": False, "alias": None, "test_event": None,
    }  # fmt: skip
    assert record.pop("request_id") == yard.context.aws_request_id
    assert record["result"] == result


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
    assert (result["function"], result["package"]["files"]) == ("api", 2), "the module and its bytecode"
    assert yard.outcome["function_arn"] == arn


def test_warnings_are_in_the_result_and_in_the_log(yard: Yard, capsys: pytest.CaptureFixture[str]) -> None:
    yard.add_project({"app.py": HANDLER, "Pipfile": ""})
    (warning,) = yard.build()["warnings"]
    assert "Pipfile is not read" in warning
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
    assert {name: yard.outcome[name] for name in expected} == expected
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


def ring_when(monkeypatch: pytest.MonkeyPatch, heard: str) -> None:
    """Have the time be over when a program tells this: the alarm rings, as it does by itself after minutes."""
    hear = Log.hear

    def hear_and_ring(log: Log, line: str) -> bool:
        known = hear(log, line)
        if heard in line:
            signal.raise_signal(signal.SIGALRM)
        return known

    monkeypatch.setattr(Log, "hear", hear_and_ring)


def test_out_of_time_names_the_stage_and_leaves_nothing(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    ring_when(monkeypatch, '"all are asleep"')
    script = "sleep 10000 & setsid sleep 10000 & echo all are asleep; sleep 10000\n"
    yard.add_project({"app.py": HANDLER, "make_dist.sh": script})
    before = yard.code_sha256
    with pytest.raises(DeadlineError) as ended:
        yard.build()
    said = str(ended.value)
    assert said.startswith('Out of time in "[5/8] run make_dist.sh", at make_dist.sh: ')
    assert "of the 900 s" in said
    assert "install" in said.partition("are gone (")[2]
    assert "Nothing was deployed." in said
    assert yard.code_sha256 == before
    assert yard.outcome["errorType"] == "DeadlineError"


def test_out_of_time_while_deploying_does_not_say_that_nothing_was_deployed(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ring(*_: object) -> None:
        signal.raise_signal(signal.SIGALRM)

    monkeypatch.setattr("yo_dawg.control.deploy.deploy", ring)
    yard.add_project({"app.py": HANDLER})
    with pytest.raises(DeadlineError, match=r"config\.ini .* api runs the code that it ran before\.$") as ended:
        yard.build()
    assert '"[8/8] deploy api"' in str(ended.value)
    assert "Nothing was deployed" not in str(ended.value)


def test_a_full_disk_is_the_operators_matter(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("lambda_function.make_package", full)
    yard.add_project({"app.py": HANDLER})
    with pytest.raises(ConfigError, match="is full.*ephemeral_storage"):
        yard.build()
    assert yard.outcome["errorType"] == "ConfigError"


def test_a_file_that_the_project_made_unusable_is_named(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: Any) -> None:
        path = arguments[-1].space.staging / "a.py"
        raise PermissionError(errno.EPERM, "Operation not permitted", str(path))  # as after chattr +i

    monkeypatch.setattr("lambda_function.make_package", refused)
    yard.add_project({"app.py": HANDLER})
    with pytest.raises(PackageError, match=r"what the project made: Operation not permitted: 'staging/a\.py'"):
        yard.build()


def test_what_is_not_foreseen_is_not_dressed_up_and_the_next_build_can_begin(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("lambda_function.make_package", broken)
    yard.add_project({"app.py": HANDLER})
    with pytest.raises(OSError, match="Input/output error"):
        yard.build()
    page, _ = another_invocation(yard, ref="v1").read()
    assert [(each.status, each.error) for each in page.history] == [("failed", "OSError: [Errno 5] Input/output error")]


def test_a_build_stands_without_its_record(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    upload = Store.upload

    def refuse_records(self: Store, key: str, *rest: Any) -> None:
        if key.startswith("builds/"):
            raise DeployError("Cannot write it: AWS answered AccessDenied.")
        upload(self, key, *rest)

    monkeypatch.setattr(Store, "upload", refuse_records)
    yard.add_project({"app.py": HANDLER})
    result = yard.build()
    assert (result["status"], result["log"]) == ("deployed", None)
    assert "Warning: the end of the build could not be recorded: Cannot write it" in capsys.readouterr().out
    assert yard.code_sha256 == result["code_sha256"]


@pytest.mark.parametrize("ours", [True, False], ids=["in Lambda", "elsewhere"])
def test_what_a_killed_invocation_left_is_ended_and_swept_out_first(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, ours: bool
) -> None:
    settings = dataclasses.replace(Settings.from_environ(os.environ), tmp_is_ours=ours)
    monkeypatch.setattr(Settings, "from_environ", lambda _: settings)
    killed: list[list[str]] = []
    # What it kills, tests/test_killing.py has: here it would take the tests with it.
    monkeypatch.setattr("lambda_function.kill_leftovers", lambda: killed.append(os.listdir(yard.tmp)))
    yard.add_project({"app.py": HANDLER, "make_dist.sh": f'cp app.py "$1"; ls -A "{yard.tmp}" > "$1/seen"\n'})
    (yard.tmp / "yo-dawg/staging").mkdir(parents=True)
    (yard.tmp / "yo-dawg/staging/left.py").write_text("")
    (yard.tmp / "elsewhere").write_text("")
    yard.left_alone = [] if ours else ["elsewhere"]
    yard.build()
    assert [sorted(each) for each in killed] == ([["elsewhere", "yo-dawg"]] if ours else [])
    digest = base64.b64decode(yard.code_sha256).hex()
    with zipfile.ZipFile(io.BytesIO(yard.read(f"yo-dawg/packages/api/{digest}.zip"))) as archive:
        assert [name for name in archive.namelist() if not name.endswith(".pyc")] == ["app.py", "seen"]
        assert sorted(archive.read("seen").decode().split()) == sorted(["yo-dawg", *yard.left_alone])


@pytest.mark.parametrize("protected", [True, False])
def test_a_system_on_which_the_handler_stays_open_is_told_of(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], protected: bool
) -> None:
    monkeypatch.setattr("lambda_function.protect_process", lambda: protected)
    yard.add_project({"app.py": HANDLER})
    yard.build(dry_run=True)
    assert ("does not let the handler close itself" in capsys.readouterr().out) != protected


# --- What is deployed ------------------------------------------------------------------------------------------


def test_several_functions_are_deployed_from_one_build(yard: Yard, capsys: pytest.CaptureFixture[str]) -> None:
    yard.add_project({"app.py": HANDLER})
    for name in ("other-a", "other-b"):
        yard.add_function(name)
    result = yard.build(function=["other-b", "api", "other-a"], publish=True)
    assert (result["status"], result["function"]) == ("deployed", ["other-b", "api", "other-a"])
    assert "function_arn" not in result
    for name, outcome in result["functions"].items():
        found = yard.aws.functions.get_function_configuration(FunctionName=name)
        assert found["CodeSha256"] == result["code_sha256"]
        assert outcome == {
            "status": "deployed", "function_arn": found["FunctionArn"], "version": "1", "alias": None,
        }  # fmt: skip
    assert capsys.readouterr().out.count("[2/8] clone") == 2, "begun and ended once"
    again = yard.build(function=["api", "other-a"], force=False)
    assert (again["status"], {each["status"] for each in again["functions"].values()}) == ("unchanged", {"unchanged"})


def test_a_handler_that_one_of_several_functions_lacks_is_found_before_any_is_updated(yard: Yard) -> None:
    yard.add_project({"app.py": HANDLER})
    yard.add_function("other-a", "main.run")
    before = yard.code_sha256
    with pytest.raises(PackageError, match=r"main\.run"):
        yard.build(function=["api", "other-a"])
    assert yard.code_sha256 == before


def test_a_rollback_is_an_action_like_any(yard: Yard) -> None:
    commit = yard.add_project({"app.py": HANDLER})
    first = yard.build()
    yard.add_project({"app.py": f"{HANDLER}# new\n"})
    yard.build()
    requests = len(yard.git.requests)
    event = {"action": "rollback", "function": "api"}
    result = lambda_handler(event, yard.next_context())
    assert (result["status"], result["commit"], result["code_sha256"]) == ("deployed", commit, first["code_sha256"])
    assert result["log"].startswith("s3://bucket/yo-dawg/builds/api/")
    assert yard.code_sha256 == first["code_sha256"]
    assert len(yard.git.requests) == requests


def test_a_build_that_lacks_its_secret_is_in_the_books(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    yard.add_project({"app.py": HANDLER})
    monkeypatch.setenv("YO_DAWG_TOKEN_SECRET", "nothing-here")
    with pytest.raises(ConfigError, match="nothing-here"):
        yard.build()
    assert [key.rpartition(".")[2] for key in sorted(yard.keys("builds/"))] == ["json", "log"]
    assert yard.keys("locks/")


SPY = """
_compress = deflate_compress

def deflate_compress(content, level):
    import hashlib
    with open({log!r}, "a") as log:
        log.write(hashlib.sha256(content).hexdigest() + "\\n")
    return _compress(content, level)
"""
"""Has a toolchain's compressor tell what it compresses."""


def test_what_has_not_changed_is_taken_from_the_previous_package(yard: Yard, tmp_path: Path) -> None:
    log = tmp_path / "deflated"
    toolchain = lay_toolchain(tmp_path / "spying/toolchain")
    with (toolchain.packages / "deflate/__init__.py").open("a") as module:
        module.write(SPY.format(log=str(log)))
    put_toolchain(toolchain, Builder.from_context(yard.context), yard.store)

    def deflated() -> set[str]:
        found = set(log.read_text().split())
        log.unlink()
        return found

    files = {
        "app.py": HANDLER,
        "requirements.txt": "./lib\n",
        **{f"lib/{name}": text for name, text in LIBRARY.items()},
    }
    yard.add_project(files)
    yard.build()
    cold = deflated()
    assert hashlib.sha256(HANDLER.encode()).hexdigest() in cold
    assert len(cold) > 3
    changed = f"# changed\n{HANDLER}"
    yard.add_project({**files, "app.py": changed})
    warm = yard.build()
    again = deflated()
    assert hashlib.sha256(changed.encode()).hexdigest() in again
    assert len(again) == 2, "and its bytecode"
    for key in yard.keys("packages/"):
        yard.aws.s3.delete_object(Bucket="bucket", Key=key)
    assert yard.build(force=True)["code_sha256"] == warm["code_sha256"]


LAYERED = "import shared\nfrom deeper import name\n" + HANDLER


@pytest.fixture
def layered(yard: Yard) -> list[str]:
    """Two layers of the function "api", the second over the first."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    first = small_zip({"python/shared.py": "1 / 0\n", f"python/lib/{version}/site-packages/deeper.py": "name = 1\n"})
    second = small_zip({"python/shared.py": "ok = 1\n"})
    arns = [
        yard.aws.functions.publish_layer_version(LayerName=name, Content={"ZipFile": content})["LayerVersionArn"]
        for name, content in (("first", first), ("second", second))
    ]
    yard.aws.functions.update_function_configuration(FunctionName="api", Layers=arns)
    return arns


def test_layers_are_there_in_the_proof(yard: Yard, layered: list[str]) -> None:
    yard.add_project({"app.py": LAYERED})
    assert yard.build()["warnings"] == []
    yard.add_project({"app.py": f"import nowhere\n{LAYERED}"})
    with pytest.raises(PackageError, match="No module named 'nowhere'"):
        yard.build()


def test_layers_that_cannot_be_read_are_told(
    yard: Yard, layered: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(service: str, what: str) -> Response | None:
        denied = json.dumps({"message": "no", "__type": "AccessDeniedException"}).encode()
        return Response(403, denied, {"X-Amzn-ErrorType": "AccessDeniedException"}) if "/layers" in what else None

    yard.add_project({"app.py": LAYERED})
    monkeypatch.setattr(yard.account, "fault", fault)
    (warning,) = yard.build()["warnings"]
    assert "No module named 'shared'" in warning
    assert f"the layer {layered[0]} cannot be read" in capsys.readouterr().out


def test_layers_count(yard: Yard) -> None:
    large = small_zip({"python/large.txt": "0" * 250_000_000})
    layer = yard.aws.functions.publish_layer_version(LayerName="large", Content={"ZipFile": large})
    yard.aws.functions.update_function_configuration(FunctionName="api", Layers=[layer["LayerVersionArn"]])
    script = 'cp app.py "$1"; head -c 20000000 /dev/zero > "$1/model"\n'
    yard.add_project({"app.py": HANDLER, "make_dist.sh": script})
    with pytest.raises(PackageError, match=r"The package unzips to [^$]*250\.0 MB  \(layers\)"):
        yard.build()
