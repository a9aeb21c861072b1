"""A runtime's boto3 may be a year old and more: what it cannot do is refused in words, before any work.

The handler runs with such a boto3 in processes of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from yo_dawg.control.models import NEEDED, WANTED, accepts, add_unknown

ROOT = Path(__file__).resolve().parent.parent.parent
PINS = ROOT / "tests" / "support" / "old_boto3.txt"

PRELUDE = """
import json, sys
sys.path[:0] = {path!r}
import boto3
assert boto3.__version__ == "1.34.145", boto3.__version__
from yo_dawg.errors import YoDawgError
def told(call):
    try:
        return [None, call()]
    except YoDawgError as error:
        return [type(error).__name__, str(error)]
"""


@pytest.fixture(scope="module")
def old_boto3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with that boto3."""
    folder = tmp_path_factory.mktemp("old-boto3")
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder), "-r", str(PINS)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "DO NOT MATCH THE HASHES" not in ran.stderr, ran.stderr
    if ran.returncode:
        pytest.skip(f"an old boto3 cannot be had here: {ran.stderr.strip().splitlines()[-1:]}")
    return folder


@pytest.fixture
def tell(old_boto3: Path, tmp_path: Path) -> Any:
    """Run code, which defines ``calls``, with the old boto3; return of each the error's class, and words or result."""

    def run(code: str) -> list[tuple[str | None, Any]]:
        environ = {
            "PATH": os.defpath,
            "TMPDIR": str(tmp_path),
            "AWS_ACCESS_KEY_ID": "AKIATESTSTESTSTESTS0",
            "AWS_SECRET_ACCESS_KEY": "canary",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
            "YO_DAWG_DEPLOYMENT_BUCKET": "bucket",
            "YO_DAWG_DEPLOYABLE_FUNCTIONS": "api",
            "YO_DAWG_BASE_URL": "https://git.example/me",
        }
        prelude = PRELUDE.format(path=[str(old_boto3), str(ROOT)])
        program = f"{prelude}{textwrap.dedent(code)}\nprint(json.dumps([*map(told, calls)]), file=sys.stderr)"
        command = [sys.executable, "-I", "-W", "ignore", "-c", program]
        ran = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=120)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return [(error, words) for error, words in json.loads(ran.stderr.splitlines()[-1])]

    return run


def test_without_conditional_writes_every_action_is_refused_before_any_work(tell: Any) -> None:
    events = [
        {"action": "bootstrap"},
        {"action": "build", "function": "api", "repo_name": "api"},
        {"action": "rollback", "function": "api"},
    ]
    told = tell(f"""
        from types import SimpleNamespace
        from lambda_function import lambda_handler
        context = SimpleNamespace(
            function_name="yo-dawg", invoked_function_arn="arn:aws:lambda:us-east-1:123456789012:function:yo-dawg",
            aws_request_id="request-1", log_stream_name="log", client_context=None,
            get_remaining_time_in_millis=lambda: 60_000,
        )
        calls = [lambda event=event: lambda_handler(event, context) for event in {events!r}]
    """)
    assert len(told) == len(events)
    for error, words in told:
        assert error == "ConfigError"
        assert "boto3 1.34.145 of this runtime does not know IfMatch, IfNoneMatch of PutObject in S3" in words
        assert "Set a newer runtime in config.ini" in words
        assert "in a layer of this function" in words


FUNCTION = """
from tests.support.scripted_aws import ScriptedAws, builder, configuration
from yo_dawg.control.functions import preflight
from yo_dawg.events import BuildRequest
def look(code, **more):
    scripted = ScriptedAws(
        GetFunctionConfiguration=configuration(**more), UpdateFunctionCode=configuration(),
        GetFunction={{"Configuration": configuration(), "Code": code}}, Invoke={{"StatusCode": 204}},
    )
    preflight("api", BuildRequest("api", "api", test_event={{}}), builder(), scripted.aws)
    return scripted.asked("Invoke")
calls = [lambda each=each: look(each[0], **each[1]) for each in {functions!r}]
"""


def test_functions_that_it_cannot_serve_are_recognised_though_its_model_drops_what_tells_them(tell: Any) -> None:
    """Else an update would move the code of a function that runs it from S3, and nobody would know."""
    copied = {"RepositoryType": "S3", "Location": "https://example"}
    from_s3 = {"ResolvedS3Object": {"S3Bucket": "b", "S3Key": "k", "S3ObjectVersion": "v"}}
    with_key = {"SourceKMSKeyArn": "arn:aws:kms:us-east-1:123456789012:key/x"}
    durable = {"DurableConfig": {"ExecutionTimeout": 60, "RetentionPeriodInDays": 1}}
    tenants = {"TenancyConfig": {"TenantIsolationMode": "PER_TENANT"}}
    provider: dict[str, Any] = {"CapacityProviderConfig": {"LambdaManagedInstancesCapacityProviderConfig": {}}}
    kinds: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (copied, {}), (copied, durable), (copied, tenants), (copied, provider), (from_s3, {}), (with_key, {}),
    ]  # fmt: skip
    ordinary, of_durable, *refused = tell(FUNCTION.format(functions=kinds))
    asked = {"FunctionName": "api", "InvocationType": "DryRun"}
    assert ordinary == (None, [asked])
    assert of_durable == (None, [{**asked, "Qualifier": "$LATEST"}])
    for (error, said), (expected, words) in zip(
        refused,
        [
            ("DeployError", "keeps its tenants apart"),
            ("ConfigError", "does not know PublishTo of PublishVersion"),
            ("ConfigError", "does not know S3ObjectStorageMode of UpdateFunctionCode"),
            ("ConfigError", "does not know SourceKMSKeyArn of UpdateFunctionCode"),
        ],
        strict=True,
    ):
        assert (error, words in said) == (expected, True), said


def test_any_other_parameter_that_it_does_not_know_is_told_and_doctor_tells_of_it_all(tell: Any) -> None:
    (error, words), (_, found) = tell("""
        from pathlib import Path
        from tests.support.scripted_aws import ScriptedAws, job
        from yo_dawg.control.clients import translate_aws_errors
        from yo_dawg.control.probes_here import boto3_models
        scripted = ScriptedAws()
        def invoke():
            with translate_aws_errors("invoke api"):
                scripted.aws.functions.invoke(FunctionName="api", TenantId="x")
        calls = [invoke, lambda: boto3_models(job(scripted, Path("/nowhere")))]
    """)
    assert error == "ConfigError"
    assert "Cannot invoke api: boto3 1.34.145 of this runtime does not know what that takes (" in words
    assert '"TenantId"' in words
    assert (found["name"], found["ok"]) == ("boto3", False)
    assert "so nothing can be built. Set a newer runtime" in found["says"]


# --- The boto3 of the tests -------------------------------------------------------------------------------------


def test_the_boto3_that_is_pinned_knows_everything() -> None:
    import boto3

    clients = {name: boto3.client(name, region_name="us-east-1") for name in ("s3", "lambda")}
    assert all(accepts(clients["s3"], "PutObject", each) for each in NEEDED)
    assert all(accepts(clients["lambda"], name, each) for name, members in WANTED.items() for each in members)


def test_what_a_model_does_not_know_is_added_and_nothing_else_is_touched() -> None:
    parsed: dict[str, Any] = {"Code": {"Location": "x"}, "Layers": [1]}
    said = {"Code": {"Location": "y", "New": {"A": 1}}, "Layers": [2], "Null": None, "Other": 3}
    add_unknown(SimpleNamespace(status_code=200, content=json.dumps(said).encode()), parsed)
    assert parsed == {"Code": {"Location": "x", "New": {"A": 1}}, "Layers": [1], "Other": 3}
