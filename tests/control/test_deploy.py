"""Deploying: only what may be updated and can be served, and never without looking whether it worked."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from botocore.stub import Stubber

from local.aws import EmbeddedAWS
from tests.support.account import TRUST, store_package
from tests.support.embedded import small_zip
from yo_dawg.builder import Builder
from yo_dawg.control.clients import BUSY, Aws, make_clients, translate_aws_errors
from yo_dawg.control.deploy import put_code
from yo_dawg.control.functions import Target, check_deployable, look_at_target, wait_until_updated
from yo_dawg.control.packages import Package
from yo_dawg.control.store import Store
from yo_dawg.errors import ConfigError, DeployError
from yo_dawg.settings import Settings

ARN = "arn:aws:lambda:us-east-1:123456789012:function:"
BUILDER = Builder("yo-dawg", f"{ARN}yo-dawg", "id", "python3.13", "x86_64")


def deployable_are(*deployable: str) -> Settings:
    return Settings("bucket", deployable, "https://git.example", "", "", Path("/tmp"), tmp_is_ours=True)


# --- What may be updated ---------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["api", f"{ARN}api", "123456789012:function:api"])
@pytest.mark.parametrize("patterns", [("api",), ("other", "a*"), ("*",), ("ap[hi]",)])
def test_a_function_that_a_pattern_matches_may_be_updated(function: str, patterns: tuple[str, ...]) -> None:
    check_deployable(function, BUILDER, deployable_are(*patterns))


@pytest.mark.parametrize(
    ("function", "patterns", "words"),
    [
        pytest.param(
            "api", ("apix", "xapi", "API"), r"not among .*\(apix, xapi, API\).*deployable_functions", id="other"
        ),
        pytest.param("api", (), "not among", id="nothing"),
        pytest.param("yo-dawg", ("*",), "is this builder", id="itself"),
        pytest.param(f"{ARN}yo-dawg", ("*",), "is this builder", id="itself by its ARN"),
        pytest.param(f"{ARN}api".replace("1234", "9999"), ("*",), "another account or region", id="another account"),
        pytest.param("999999999999:function:api", ("*",), "another account or region", id="another account, short"),
        pytest.param(f"{ARN}api".replace("us-east-1", "eu-west-1"), ("*",), "account or region", id="another region"),
    ],
)
def test_any_other_function_is_refused(function: str, patterns: tuple[str, ...], words: str) -> None:
    with pytest.raises(DeployError, match=words):
        check_deployable(function, BUILDER, deployable_are(*patterns))


# --- What can be served -----------------------------------------------------------------------------


@pytest.fixture
def role(account: EmbeddedAWS) -> str:
    answer = account.client("iam").create_role(RoleName="role", AssumeRolePolicyDocument=TRUST)
    return str(answer["Role"]["Arn"])


def create(aws: Aws, role: str, **change: Any) -> None:
    options = {
        "Runtime": BUILDER.runtime,
        "Handler": "app.handler",
        "Architectures": ["x86_64"],
        "Code": {"ZipFile": small_zip()},
    }
    aws.functions.create_function(FunctionName="api", Role=role, **{**options, **change})


def test_a_target_is_what_lambda_says_of_it(aws: Aws, role: str) -> None:
    create(aws, role)
    target = look_at_target(aws, "api", BUILDER)
    assert (target.name, target.handler, target.layers, target.failure) == ("api", "app.handler", (), None)
    assert target.arn.endswith(":function:api")
    assert len(target.code_sha256) == 44


def test_a_function_that_is_not_there_is_said_so(aws: Aws) -> None:
    with pytest.raises(DeployError, match="There is no function api in this account and region"):
        look_at_target(aws, "api", BUILDER)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(
            {"Runtime": "python3.12"}, "api runs on python3.12, x86_64; this builder is python3.13", id="runtime"
        ),
        pytest.param({"Runtime": "nodejs22.x"}, "api runs on nodejs22.x", id="another language"),
        pytest.param({"Architectures": ["arm64"]}, "runs on python3.13, arm64.*second yo-dawg", id="architecture"),
    ],
)
def test_what_this_builder_cannot_serve_is_refused(aws: Aws, role: str, change: dict[str, Any], words: str) -> None:
    create(aws, role, **change)
    with pytest.raises(DeployError, match=words):
        look_at_target(aws, "api", BUILDER)


def test_a_container_image_is_refused(aws: Aws, role: str) -> None:
    code = {"ImageUri": "123456789012.dkr.ecr.us-east-1.amazonaws.com/x:latest"}
    aws.functions.create_function(FunctionName="api", Role=role, PackageType="Image", Code=code)
    with pytest.raises(DeployError, match="container image function"):
        look_at_target(aws, "api", BUILDER)


# --- Deploying ----------------------------------------------------------------------------------------


@pytest.fixture
def package(store: Store) -> Package:
    """A package that is stored."""
    return store_package("def handler(event, context): ...\n", store, commit="0123456789abcdef")


def test_the_function_then_runs_the_package_from_s3(aws: Aws, store: Store, role: str, package: Package) -> None:
    create(aws, role)
    target = look_at_target(aws, "api", BUILDER)
    assert put_code(package, target, store, aws).code_sha256 == package.code_sha256
    assert package.key == f"packages/api/{package.hex_digest}.zip"
    assert look_at_target(aws, "api", BUILDER).code_sha256 == package.code_sha256
    assert put_code(package, target, store, aws).code_sha256 == package.code_sha256, "again, from what is known no more"


def test_an_update_of_somebody_elses_in_between_is_seen_and_waited_for(
    account: EmbeddedAWS, aws: Aws, store: Store, role: str, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real API's 412 and 409, by updates that get in between each look and the update that follows it."""
    create(aws, role)
    target = look_at_target(aws, "api", BUILDER)
    looked: list[str | None] = []

    def look(aws: Aws, name: str) -> Target:
        """Look; then somebody else changes the function, at first quickly, then slowly."""
        found = wait_until_updated(aws, name)
        if len(looked) < 2:
            account.update_seconds = 3600 if looked else 0
            account.client("lambda").update_function_configuration(FunctionName="api", Description=str(looked))
            account.update_seconds = 0
        looked.append(found.revision)
        return found

    monkeypatch.setattr(time, "sleep", lambda _: account.finish_updates())
    monkeypatch.setattr("yo_dawg.control.deploy.wait_until_updated", look)
    monkeypatch.setattr("yo_dawg.control.functions.wait_until_updated", look)
    assert put_code(package, target, store, aws).code_sha256 == package.code_sha256
    assert len(set(looked)) == 4, "two looks in vain, one that was good, and one after the update"


def test_code_that_somebody_else_has_deployed_in_the_meantime_is_not_overwritten(
    account: EmbeddedAWS, aws: Aws, store: Store, role: str, package: Package
) -> None:
    create(aws, role)
    target = look_at_target(aws, "api", BUILDER)
    newer = small_zip({"app.py": "newer = True"})
    account.client("lambda").update_function_code(FunctionName="api", ZipFile=newer)
    with pytest.raises(DeployError, match="Somebody else has updated api since this build began"):
        put_code(package, target, store, aws)
    assert look_at_target(aws, "api", BUILDER).code_sha256 not in (target.code_sha256, package.code_sha256)


LOOK: dict[str, Any] = {
    "FunctionName": "api", "FunctionArn": f"{ARN}api", "Handler": "app.handler", "CodeSha256": "old",
    "RevisionId": "r", "LastUpdateStatus": "Successful", "State": "Active",
}  # fmt: skip


@pytest.fixture
def target() -> Target:
    return Target.from_configuration(LOOK)


@pytest.mark.parametrize("code", [*BUSY])
def test_a_storm_of_refusals_is_outlasted(
    aws: Aws, store: Store, package: Package, target: Target, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a few tries, but as long as there is time: the deadline ends it (test_handler.py)."""
    paused: list[float] = []
    monkeypatch.setattr(time, "sleep", paused.append)
    monkeypatch.setattr("yo_dawg.control.deploy.kept_settings", lambda *_: {})
    with Stubber(aws.functions) as lambda_:
        for _ in range(20):
            lambda_.add_response("get_function_configuration", LOOK)
            lambda_.add_client_error("update_function_code", code, "busy", http_status_code=409)
        lambda_.add_response("get_function_configuration", {**LOOK, "CodeSha256": package.code_sha256})
        lambda_.add_response("get_function_configuration", {**LOOK, "CodeSha256": package.code_sha256})
        assert put_code(package, target, store, aws).code_sha256 == package.code_sha256
        lambda_.assert_no_pending_responses()
    assert len(paused) == 20
    assert max(paused) == 5.0, "patiently"


@pytest.mark.parametrize(
    ("after", "words"),
    [
        pytest.param({"CodeSha256": "other"}, "runs code with the digest other.*somebody else", id="other code"),
        pytest.param(
            {"LastUpdateStatus": "Failed", "LastUpdateStatusReason": "InvalidZipFile"},
            "did not take the new code of api: InvalidZipFile",
            id="failed",
        ),
        pytest.param({"LastUpdateStatus": "Failed"}, "no reason given", id="failed without a reason"),
    ],
)
def test_an_update_that_lambda_did_not_take_is_no_deployment(
    aws: Aws,
    store: Store,
    package: Package,
    target: Target,
    after: dict[str, str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("yo_dawg.control.deploy.kept_settings", lambda *_: {})
    with Stubber(aws.functions) as lambda_:
        lambda_.add_response("get_function_configuration", LOOK)
        expected = {
            "FunctionName": "api", "S3Bucket": "bucket", "S3Key": f"yo-dawg/{package.key}", "RevisionId": "r",
            "Architectures": ["x86_64"],
        }  # fmt: skip
        lambda_.add_response("update_function_code", {}, expected)
        lambda_.add_response("get_function_configuration", {**LOOK, **after})
        with pytest.raises(DeployError, match=words):
            put_code(package, target, store, aws)


@pytest.mark.parametrize("busy", [{"State": "Pending"}, {"LastUpdateStatus": "InProgress"}])
def test_what_lambda_is_still_at_is_waited_for(aws: Aws, monkeypatch: pytest.MonkeyPatch, busy: dict[str, str]) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    with Stubber(aws.functions) as lambda_:
        for _ in range(3):
            lambda_.add_response("get_function_configuration", {**LOOK, **busy})
        lambda_.add_response("get_function_configuration", {**LOOK, "RevisionId": "last"})
        assert wait_until_updated(aws, "api").revision == "last"
    assert len(slept) == 3


# --- What AWS refuses, in words ---------------------------------------------------------------------


@pytest.mark.parametrize("code", ["AccessDenied", "AccessDeniedException", "403"])
def test_a_missing_permission_is_the_operators(aws: Aws, code: str) -> None:
    with Stubber(aws.s3) as s3:
        s3.add_client_error("get_object", code, "not authorized to perform: s3:GetObject")
        with pytest.raises(DeployError) as refused, translate_aws_errors("read it"):
            aws.s3.get_object(Bucket="b", Key="k")
    assert str(refused.value) == (
        f"Cannot read it: AWS answered {code}: not authorized to perform: s3:GetObject. "
        'The builder\'s role lacks the permission: run "./deploy.sh bootstrap" to bring it up to date.'
    )


def test_any_other_refusal_is_told_as_it_is(aws: Aws) -> None:
    with pytest.raises(ConfigError, match="Cannot read it: AWS answered ResourceNotFoundException: .+"):  # noqa: SIM117
        with translate_aws_errors("read it", ConfigError):
            aws.secrets.get_secret_value(SecretId="none")


def test_an_aws_that_cannot_be_reached_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with pytest.raises(DeployError, match="Cannot look at the function api: Could not connect to the endpoint URL"):
        look_at_target(make_clients(), "api", BUILDER)


def test_an_error_of_ours_is_not_taken_for_one_of_aws() -> None:
    with pytest.raises(ValueError, match="ours"), translate_aws_errors("do it"):
        raise ValueError("ours")
