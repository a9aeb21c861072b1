"""Customer keys of KMS: refusals name the key and what to do, and variables that cannot be read prove nothing."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from tests.support.scripted_aws import KEY, Refusal, ScriptedAws, configuration, job
from yo_dawg.control.clients import translate_aws_errors
from yo_dawg.control.deploy import rehearse
from yo_dawg.control.functions import Target
from yo_dawg.control.git import Cloned
from yo_dawg.control.job import Job
from yo_dawg.control.package import Materials, package_job
from yo_dawg.control.packages import Package
from yo_dawg.control.secrets import read_secret
from yo_dawg.errors import ConfigError, DeployError, PackageError
from yo_dawg.events import BuildRequest
from yo_dawg.jobs import PackageJob, ProvenFunction
from yo_dawg.workshop.package.prove import Proof
from yo_dawg.workshop.package.verdict import check_proof

NOT_ALLOWED = (
    "User: arn:aws:sts::123456789012:assumed-role/yo-dawg/yo-dawg is not authorized to perform: {action} on resource: "
    f"{KEY} because no identity-based policy allows the {{action}} action"
)
CANNOT_DECRYPT = {
    "ErrorCode": "AccessDeniedException",
    "Message": "Lambda was unable to decrypt your environment variables because the KMS access was denied. Please "
    "check your KMS permissions. KMS Exception: AccessDeniedException",
}


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> ScriptedAws:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTSTESTSTESTS0")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return ScriptedAws()


def write(job: Job) -> None:
    job.store.upload("packages/api/x.zip", io.BytesIO(b"x"), "application/zip")


def read(job: Job) -> None:
    job.store.read("locks/api")


@pytest.mark.parametrize(
    ("operation", "action", "do"),
    [("PutObject", "kms:GenerateDataKey", write), ("GetObject", "kms:Decrypt", read)],
)
def test_s3_names_the_key(
    scripted: ScriptedAws, tmp_path: Path, operation: str, action: str, do: Callable[[Job], None]
) -> None:
    refusal = Refusal("AccessDenied", NOT_ALLOWED.format(action=action), 403)
    there = {"Contents": [{"Key": "yo-dawg/locks/api"}]}
    scripted.answers = {operation: refusal, "ListObjectsV2": there}
    with pytest.raises(DeployError) as raised:
        do(job(scripted, tmp_path))
    said = str(raised.value)
    assert f'add {KEY} to kms_keys in config.ini and run "./deploy.sh bootstrap"' in said
    assert "the policy of the key itself must allow" in said
    assert "lacks the permission" not in said, "bootstrap alone would not help"


def test_the_bucket_s_key_is_asked_for_where_s3_does_not_name_it(scripted: ScriptedAws, tmp_path: Path) -> None:
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY}}
    scripted.answers = {
        "PutObject": Refusal("AccessDenied", "The ciphertext refers to a key of KMS that you may not use", 403),
        "GetBucketEncryption": {"ServerSideEncryptionConfiguration": {"Rules": [rule]}},
    }
    with pytest.raises(DeployError, match=f"add {KEY} to kms_keys"):
        write(job(scripted, tmp_path))


@pytest.mark.parametrize(
    ("described", "words"),
    [({"KmsKeyId": KEY}, f"the key {KEY}: add {KEY} to kms_keys"), (Refusal("AccessDeniedException"), "add its ARN")],
)
def test_secrets_manager_does_not_name_the_key_but_the_secret_does(
    scripted: ScriptedAws, described: Any, words: str
) -> None:
    scripted.answers = {
        "GetSecretValue": Refusal("AccessDeniedException", "Access to KMS is not allowed"),
        "DescribeSecret": described,
    }
    with pytest.raises(ConfigError, match=words):
        read_secret(scripted.aws, "git", "token_secret")


def test_lambda_refuses_a_key_and_a_disabled_key_is_another_matter(scripted: ScriptedAws) -> None:
    for code, text, words in (
        ("KMSAccessDeniedException", NOT_ALLOWED.format(action="kms:Decrypt"), f"add {KEY} to kms_keys"),
        ("KMSDisabledException", f"the KMS key used is disabled: {KEY}", f"Look at the key {KEY} in KMS.*enabled"),
    ):
        scripted.answers = {"Invoke": Refusal(code, text)}
        with pytest.raises(DeployError, match=words), translate_aws_errors("invoke api"):
            scripted.aws.functions.invoke(FunctionName="api")


def test_lambda_passes_on_what_s3_says_of_a_key(scripted: ScriptedAws) -> None:
    words = f"Error occurred while GetObject. S3 Error Code: AccessDenied. {NOT_ALLOWED.format(action='kms:Decrypt')}"
    scripted.answers = {"UpdateFunctionCode": Refusal("InvalidParameterValueException", words)}
    with pytest.raises(DeployError, match=f"add {KEY} to kms_keys"), translate_aws_errors("update api"):
        scripted.aws.functions.update_function_code(FunctionName="api", S3Bucket="bucket", S3Key="x")


def test_another_missing_permission_is_not_taken_for_one_of_kms(scripted: ScriptedAws, tmp_path: Path) -> None:
    scripted.answers = {"PutObject": Refusal("AccessDenied", "Access Denied", 403)}
    with pytest.raises(DeployError, match="role lacks the permission"):
        write(job(scripted, tmp_path))


# --- Variables that cannot be decrypted -------------------------------------------------------------------------


def undecryptable(**more: Any) -> Target:
    return Target.from_configuration(configuration(Environment={"Error": CANNOT_DECRYPT}, KMSKeyArn=KEY, **more))


def test_a_target_whose_variables_cannot_be_decrypted_gets_a_warning(scripted: ScriptedAws, tmp_path: Path) -> None:
    target = undecryptable()
    assert target.environment == {}
    built = rehearse(Package.of("api", target.code_sha256), target, job(scripted, tmp_path))
    (warning,) = built.warnings
    assert f"add {KEY} to kms_keys" in warning.replace("Add", "add")
    assert "proves nothing" in warning
    assert Target.from_configuration(configuration(Environment={"Variables": {"A": "1"}})).warnings == []


def test_the_workshop_is_told_that_it_has_not_the_variables(
    scripted: ScriptedAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yo_dawg.control.package.builder_inputs", lambda job: "")
    nothing: Future[Any] = Future()
    nothing.set_result(None)
    materials = Materials(manifest=None, uv=nothing, previous=None, layers=[nothing, nothing])
    targets = [undecryptable(), Target.from_configuration(configuration("other"))]
    made = job(scripted, tmp_path)
    vars(made)["indexes"] = ()
    question, _ = package_job(BuildRequest("api", "api"), targets, Cloned("0" * 40, "main"), materials, made)
    assert [each.has_environment for each in PackageJob.from_json(question.to_json()).functions] == [False, True]


@pytest.mark.parametrize("hopeless", [False, True])
def test_a_proof_without_the_variables_refuses_nothing(hopeless: bool, tmp_path: Path) -> None:
    """Of proof = require, nor where a module is missing: PYTHONPATH may be one of the variables."""
    proof = Proof(failure="KeyError: 'TABLE'", hopeless=hopeless)
    (warning,) = check_proof(proof, ProvenFunction("api", "app.handler", has_environment=False), "require", tmp_path)
    assert "KeyError: 'TABLE'" in warning
    with pytest.raises(PackageError):
        check_proof(proof, ProvenFunction("api", "app.handler"), "require", tmp_path)
