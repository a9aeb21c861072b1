"""Deploying without fear: preflight, test event, way back, version, alias, rollback, and what is kept for it."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import io
import json
import signal
import time
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.stub import Stubber

from lambda_function import rollback
from local.aws import EmbeddedAWS
from local.rest_json import Response
from tests.support.account import TRUST, Context, store_package
from tests.support.embedded import small_zip
from yo_dawg.control.clients import NOT_RUN, NOT_YET_RUN, Aws
from yo_dawg.control.deploy import Deployment, deploy, deploy_all, describe_running_code, put_code
from yo_dawg.control.functions import Target, preflight, rehearsal_zip, wait_until_published, wait_until_updated
from yo_dawg.control.job import Job
from yo_dawg.control.ledger import BuildRecord, Ledger
from yo_dawg.control.packages import Package, fetch_code
from yo_dawg.control.records import earlier_answer, failure, finish_build, take_ledgers
from yo_dawg.control.records import new_entry as new_entry_
from yo_dawg.control.results import deployment_result
from yo_dawg.control.trial import SECONDS_TO_UNDO
from yo_dawg.deadline import SECONDS_TO_REPORT, deadline
from yo_dawg.errors import BuildInProgress, DeadlineError, DeployError, OutOfTime, PackageError
from yo_dawg.events import BuildRequest, RollbackRequest
from yo_dawg.log import Log

GOOD = "def handler(event, context):\n    return event\n"
BAD = "def handler(event, context):\n    print('it was', event)\n    raise ValueError('no such thing')\n"


class Stage:
    """A function "api", the builder that may update it, and packages to deploy."""

    def __init__(self, account: EmbeddedAWS, job: Job) -> None:
        self.account, self.job = account, job
        self.functions = account.client("lambda")
        self.role = account.client("iam").create_role(RoleName="role", AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
        self.counter = 0
        self.create("api")

    def create(self, name: str, code: bytes | None = None, **options: Any) -> None:
        builder = self.job.builder
        # Lambda's longest time-out: on a machine with other things to do, a handler takes its time.
        settings = {"Runtime": builder.runtime, "Architectures": [builder.architecture], "Timeout": 900}
        self.functions.create_function(
            FunctionName=name, Role=self.role, Handler="app.handler",
            Code={"ZipFile": code or small_zip({"app.py": GOOD})}, **{**settings, **options},
        )  # fmt: skip

    def store(self, text: str = GOOD, function: str = "api", commit: str | None = None) -> Package:
        """Store a package that differs from all others; return it."""
        self.counter += 1
        return store_package(f"{text}# {self.counter}\n", self.job.store, function, commit or f"{self.counter:040x}")

    def begin(self, name: str = "api", **fields: Any) -> tuple[BuildRequest, Target]:
        """Ask for a build, as far as the deployment."""
        request = BuildRequest(name, "project", **fields)
        return request, preflight(name, request, self.job.builder, self.job.aws)

    def deploy(self, package: Package, **fields: Any) -> Deployment:
        request, target = self.begin(**fields)
        return deploy(package, target, request, self.job)

    def record(self, package: Package, **fields: Any) -> Deployment:
        """Deploy within the ledger, as an action does."""
        request, target = self.begin(**fields)
        job = self.another_job()
        take_ledgers(["api"], request, job)
        (deployment,) = deploy_all([package], [target], request, job)
        finish_build(request, {"status": deployment.status}, job, Context(job.builder.arn))
        return deployment

    def rollback(self, to: str | None = None, **fields: Any) -> dict[str, Any]:
        request, job = RollbackRequest("api", to, **fields), self.another_job()
        result = rollback(request, job)
        finish_build(request, result, job, Context(job.builder.arn))
        return result

    def another_job(self) -> Job:
        """Return the job of another invocation."""
        self.counter += 1
        builder = dataclasses.replace(self.job.builder, request_id=f"request-{self.counter}", came=time.time())
        return dataclasses.replace(self.job, builder=builder, ledgers=[])

    @property
    def runs(self) -> str:
        """The digest of the code that the function runs."""
        return str(self.functions.get_function_configuration(FunctionName="api")["CodeSha256"])

    def alias(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.functions.get_alias(FunctionName="api", Name=name)
        return found

    def versions(self) -> list[str]:
        found = self.functions.list_versions_by_function(FunctionName="api")["Versions"]
        return [each["Version"] for each in found if each["Version"] != "$LATEST"]


@pytest.fixture
def stage(account: EmbeddedAWS, job: Job) -> Iterator[Stage]:
    with contextlib.closing(Log((), job.space.root)) as log:
        yield Stage(account, dataclasses.replace(job, log=log))


# --- Preflight ----------------------------------------------------------------------------------------------


def test_a_function_that_takes_signed_code_only_is_refused_before_the_work(stage: Stage) -> None:
    stage.account.api.functions["api"].signed_only = True
    with pytest.raises(DeployError, match="signed code only.*UntrustedArtifactOnDeployment"):
        stage.begin()


def test_the_package_that_the_rehearsal_sends_is_one_that_lambda_takes() -> None:
    """Lambda refuses one whose files are all empty."""
    with zipfile.ZipFile(io.BytesIO(rehearsal_zip())) as archive:
        assert [each for each in archive.infolist() if each.file_size]


def test_a_function_that_is_broken_is_refused(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = stage.functions.get_function_configuration(FunctionName="api")
    broken = {**answer, "State": "Failed", "StateReason": "its key is gone"}
    monkeypatch.setattr("yo_dawg.control.deploy.describe_function", lambda *_: broken)
    monkeypatch.setattr("yo_dawg.control.functions.describe_function", lambda *_: broken)
    monkeypatch.setattr("yo_dawg.control.rollback.describe_function", lambda *_: broken)
    with pytest.raises(DeployError, match=r"api is Failed \(its key is gone\): mend it first"):
        stage.begin()


def test_what_another_builder_could_do_is_said_with_its_name(stage: Stage) -> None:
    stage.create("old", Runtime="python3.12")
    with pytest.raises(DeployError, match=r"old runs on python3\.12.*deploy a second yo-dawg"):
        stage.begin("old")
    stage.create("yo-dawg-312", Tags={"yo-dawg:platform": f"python3.12-{stage.job.builder.architecture}"})
    stage.create("yo-dawg-313", Tags={"yo-dawg:platform": f"python3.13-{stage.job.builder.architecture}"})
    with pytest.raises(DeployError, match=r"Ask the builder yo-dawg-312 instead\."):
        stage.begin("old")


def test_a_missing_permission_is_found_before_the_work(stage: Stage) -> None:
    with Stubber(stage.job.aws.functions) as lambda_:
        answer: dict[str, Any] = {"FunctionName": "api", "FunctionArn": "arn", "State": "Active"}
        answer |= {"Runtime": stage.job.builder.runtime, "Architectures": [stage.job.builder.architecture]}
        lambda_.add_response("get_function_configuration", answer)
        lambda_.add_response("get_function_configuration", answer)
        lambda_.add_client_error("update_function_code", "AccessDeniedException", "not authorized")
        with pytest.raises(DeployError, match="Cannot update the function api: .*role lacks the permission"):
            stage.begin()


def test_the_preflight_changes_nothing_and_runs_nothing(stage: Stage) -> None:
    before = stage.functions.get_function_configuration(FunctionName="api")
    _, target = stage.begin(test_event={}, alias="live")
    after = stage.functions.get_function_configuration(FunctionName="api")
    assert before["RevisionId"] == after["RevisionId"] == target.revision
    assert target.alias is None
    assert stage.account.environments("api") == []


@pytest.mark.parametrize("architecture", ["x86_64", "arm64"])
def test_each_update_names_the_functions_own_architecture(stage: Stage, architecture: str) -> None:
    """The API takes x86_64 where none is given."""
    builder = dataclasses.replace(stage.job.builder, architecture=architecture)
    stage.job = dataclasses.replace(stage.job, builder=builder)
    stage.create("other", Architectures=[architecture])
    said: list[dict[str, Any]] = []
    event = "provide-client-params.lambda.UpdateFunctionCode"
    stage.job.aws.functions.meta.events.register(event, lambda params, **_: said.append(params))
    request, target = stage.begin("other")
    deploy(stage.store(function="other"), target, request, stage.job)
    assert [each.get("DryRun", False) for each in said] == [True, False]
    assert [each.get("Architectures") for each in said] == [[architecture]] * 2


# --- Update: what is kept -----------------------------------------------------------------------------------


def test_the_code_that_ran_before_is_kept_in_the_store(stage: Stage) -> None:
    before = Package.of("api", stage.runs)
    assert not stage.job.store.holds(before.key, before.hex_digest)
    stage.deploy(stage.store())
    assert stage.job.store.holds(before.key, before.hex_digest)


def test_code_that_cannot_be_kept_is_a_warning_but_with_a_test_event_an_error(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("the network is down")

    monkeypatch.setattr("yo_dawg.control.packages.fetch_code", refuse)
    before, package = stage.runs, stage.store()
    with pytest.raises(DeployError, match="A test event wants a way back.*the network is down"):
        stage.deploy(package, test_event={})
    assert stage.runs == before
    (warning,) = stage.deploy(package).warnings
    assert "cannot be put back" in warning
    assert stage.runs == package.code_sha256


def test_another_package_than_lambda_claims_is_not_kept(stage: Stage) -> None:
    other = stage.functions.get_function_configuration(FunctionName="api")
    stage.create("other", small_zip({"app.py": "other = 1\n"}))
    claimed = Package.of("api", other["CodeSha256"])
    with pytest.raises(DeployError, match="handed out another package"):
        fetch_code(claimed, "other", stage.job)
    assert not stage.job.store.holds(claimed.key, claimed.hex_digest)


def test_the_key_that_encrypts_the_code_stays(stage: Stage) -> None:
    key = "arn:aws:kms:us-east-1:123456789012:key/0123"
    stage.functions.update_function_code(FunctionName="api", ZipFile=small_zip({"app.py": GOOD}), SourceKMSKeyArn=key)
    stage.deploy(stage.store())
    assert stage.functions.get_function(FunctionName="api")["Code"]["SourceKMSKeyArn"] == key


def test_a_function_that_runs_its_code_from_s3_goes_on_to(stage: Stage) -> None:
    s3 = stage.job.aws.s3
    with pytest.raises(DeployError, match="wants a bucket that keeps versions: turn versioning on for bucket"):
        stage.job.store.object_version(stage.store().key)
    s3.put_bucket_versioning(Bucket="bucket", VersioningConfiguration={"Status": "Enabled"})
    version = s3.put_object(Bucket="bucket", Key="own.zip", Body=small_zip({"app.py": GOOD}))["VersionId"]
    place = {"S3Bucket": "bucket", "S3Key": "own.zip", "S3ObjectVersion": version}
    stage.functions.update_function_code(FunctionName="api", S3ObjectStorageMode="REFERENCE", **place)
    package = stage.store()
    stage.deploy(package)
    found = stage.functions.get_function(FunctionName="api")["Code"]["ResolvedS3Object"]
    assert found["S3Key"] == f"yo-dawg/{package.key}"
    assert found["S3ObjectVersion"] == stage.job.store.object_version(package.key)


def test_a_lost_answer_is_no_failure(stage: Stage) -> None:
    """Lambda took the update, but the client only hears of a conflict, when it asks again."""
    lost: list[str] = []

    def lose_the_first_update(service: str, request: str) -> Any:
        if service == "lambda" and request.startswith("PUT") and request.endswith("/code") and len(lost) < 2:
            lost.append(request)
            return "lost" if len(lost) == 2 else None  # the first one is the preflight's
        return None

    package = stage.store()
    stage.account.fault = lose_the_first_update
    assert stage.deploy(package).status == "deployed"
    assert len(lost) == 2
    assert stage.runs == package.code_sha256


def test_what_runs_already_is_not_updated_again_unless_forced(stage: Stage) -> None:
    package = stage.store()
    stage.deploy(package)
    revision = stage.functions.get_function_configuration(FunctionName="api")["RevisionId"]
    assert stage.deploy(package).status == "unchanged"
    assert stage.functions.get_function_configuration(FunctionName="api")["RevisionId"] == revision
    assert stage.deploy(package, force=True).status == "deployed"
    assert stage.functions.get_function_configuration(FunctionName="api")["RevisionId"] != revision


def test_the_function_says_where_its_code_comes_from(stage: Stage) -> None:
    package = stage.store()
    arn = stage.functions.get_function_configuration(FunctionName="api")["FunctionArn"]
    stage.functions.tag_resource(Resource=arn, Tags={"team": "a"})
    stage.deploy(package)
    tags = stage.functions.list_tags(Resource=arn)["Tags"]
    assert tags == {"team": "a", "yo-dawg:commit": package.commit, "yo-dawg:build": stage.job.builder.request_id}


def test_a_role_that_may_not_tag_does_no_harm(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    def forbid(service: str, request: str) -> Any:
        if "/tags/" not in request:
            return None
        body = b'{"Message": "not authorized"}'
        return Response(403, body, {"x-amzn-ErrorType": "AccessDeniedException"})

    stage.account.fault = forbid
    assert stage.deploy(stage.store()).warnings == ()
    assert "not tagged: Cannot tag api: AWS answered AccessDenied" in capsys.readouterr().out


# --- The test event -----------------------------------------------------------------------------------------


def test_new_code_that_passes_its_test_event_stays(stage: Stage) -> None:
    package = stage.store()
    assert stage.deploy(package, test_event={"n": 1}).status == "deployed"
    assert stage.runs == package.code_sha256
    assert len(stage.account.environments("api")) == 1, "it ran"


def test_new_code_that_fails_its_test_event_is_taken_back(stage: Stage) -> None:
    stage.deploy(stage.store(), alias="live")
    before, alias = stage.runs, stage.alias("live")
    with pytest.raises(PackageError) as failed:
        stage.deploy(stage.store(BAD), test_event={"n": 1}, alias="live")
    said = str(failed.value)
    assert said.startswith("The new code of api failed its test event: ValueError: no such thing\n")
    assert "it was {'n': 1}" in said, "what it printed helps"
    assert stage.runs == before
    assert stage.alias("live")["RevisionId"] == alias["RevisionId"]
    assert stage.versions() == ["1"]


def test_code_that_was_there_before_is_not_taken_back(stage: Stage) -> None:
    bad = stage.store(BAD)
    stage.deploy(bad)
    with pytest.raises(PackageError, match="failed its test event"):
        stage.deploy(bad, test_event={})
    assert stage.runs == bad.code_sha256


def give_seconds_to_test(stage: Stage, seconds: float) -> None:
    until = time.time() + SECONDS_TO_REPORT + SECONDS_TO_UNDO + seconds
    builder = dataclasses.replace(stage.job.builder, until=until)
    stage.job = dataclasses.replace(stage.job, builder=builder)


class Clock:
    """The time, which passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = time.time()
        self.pauses: list[float] = []

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.pauses.append(seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that a test event goes by."""
    made = Clock()
    monkeypatch.setattr("yo_dawg.control.trial.time", made)
    return made


def test_a_function_that_is_not_run_until_time_is_over_is_not_said_to_have_failed(stage: Stage, clock: Clock) -> None:
    stage.functions.put_function_concurrency(FunctionName="api", ReservedConcurrentExecutions=0)
    give_seconds_to_test(stage, 60)
    before = stage.runs
    with pytest.raises(DeployError, match=r"test event of api could not be run, .*: .*Rate Exceeded") as failed:
        stage.deploy(stage.store(), test_event={})
    assert "failed its test" not in str(failed.value)
    assert 50 < sum(clock.pauses) <= 61, "it was tried again until then"
    assert stage.runs == before


def refuse_invocations(stage: Stage, refusals: list[Response]) -> None:
    """Answer with these first, whenever a function is asked to run."""
    left = iter(refusals)
    stage.account.fault = lambda service, request: (
        next(left, None) if service == "lambda" and "/invocations" in request and updated(stage) else None
    )


def updated(stage: Stage) -> bool:
    """Say whether the function runs other code than it was made with: the preflight is over."""
    code = base64.b64encode(hashlib.sha256(small_zip({"app.py": GOOD})).digest()).decode()
    return bool(stage.account.api.functions["api"].latest.unit.config["CodeSha256"] != code)


@pytest.mark.parametrize("code", ["TooManyRequestsException", "SnapStartNotReadyException", "ENINotReadyException"])
def test_a_test_event_that_was_not_run_is_sent_again(stage: Stage, code: str, clock: Clock) -> None:
    refuse_invocations(stage, [lambda_says(409, code)] * 8)
    package = stage.store()
    assert stage.deploy(package, test_event={}).status == "deployed"
    assert stage.runs == package.code_sha256
    assert (len(clock.pauses), clock.pauses[-1]) == (8, 5.0)


@pytest.mark.parametrize("code", ["KMSDisabledException", "InvalidSubnetIDException", "AccessDeniedException"])
def test_what_has_to_be_mended_first_is_not_waited_for_nor_blamed_on_the_code(stage: Stage, code: str) -> None:
    refuse_invocations(stage, [lambda_says(502, code, "It is gone")] * 100)
    before = stage.runs
    with pytest.raises(DeployError, match=rf"test event of api could not be run, .*{code}.*It is gone"):
        stage.deploy(stage.store(), test_event={})
    assert stage.runs == before


@pytest.mark.parametrize("code", ["ServiceException", "SnapStartException", "EFSIOException"])
def test_what_may_have_run_is_not_run_again(stage: Stage, code: str) -> None:
    refuse_invocations(stage, [lambda_says(500, code)])
    before = stage.runs
    with pytest.raises(PackageError, match="failed its test event: it gave no answer"):
        stage.deploy(stage.store(), test_event={})
    assert stage.runs == before
    assert stage.account.environments("api") == [], "not run again"


def test_every_error_that_invoke_is_known_to_have_is_known_here(stage: Stage) -> None:
    """Of these alone it is not sure that the code was not run, or it is the code's fault."""
    shapes = stage.functions.meta.service_model.operation_model("Invoke").error_shapes
    unsure = {"EFSIO", "InvalidZipFile", "RecursiveInvocation", "Service", "SnapStart"}
    known = {*NOT_YET_RUN.split(), *NOT_RUN.split(), *unsure}
    assert {shape.name.removesuffix("Exception") for shape in shapes} ^ known == {"AccessDenied"}


def test_a_test_is_given_no_more_time_than_leaves_enough_to_undo(stage: Stage) -> None:
    package = stage.store("import time\ndef handler(event, context):\n    time.sleep(600)\n")
    give_seconds_to_test(stage, 1)
    before = stage.runs
    with pytest.raises(PackageError, match="gave no answer within 1 s"):
        stage.deploy(package, test_event={})
    assert stage.runs == before


@pytest.mark.parametrize("asked", [True, False])
def test_when_time_is_over_what_was_not_tested_is_taken_back(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, asked: bool
) -> None:
    waited: list[str] = []

    def out_of_time(aws: Aws, name: str, version: str | None = None) -> Target:
        waited.append(name)
        if len(waited) == 2:  # the first look is before the update
            raise OutOfTime
        return real(aws, name, version)

    package, before = stage.store(), stage.runs
    request, target = stage.begin(test_event={} if asked else None)
    real = wait_until_updated
    monkeypatch.setattr("yo_dawg.control.deploy.wait_until_updated", out_of_time)
    monkeypatch.setattr("yo_dawg.control.functions.wait_until_updated", out_of_time)
    with pytest.raises(OutOfTime):
        deploy(package, target, request, stage.job)
    assert stage.runs == (before if asked else package.code_sha256)


def test_old_code_that_cannot_be_put_back_is_said(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    put, calls = put_code, []

    def once(*arguments: Any) -> Target:
        calls.append(arguments)
        if len(calls) > 1:
            raise DeployError("Cannot update the function api: AWS answered AccessDenied.")
        return put(*arguments)

    monkeypatch.setattr("yo_dawg.control.deploy.put_code", once)
    with pytest.raises(PackageError, match="(?s)failed its test.*The old code could not be put back: .*AccessDenied"):
        stage.deploy(stage.store(BAD), test_event={})


def test_a_test_event_is_sent_as_it_was_given_and_is_not_recorded(stage: Stage) -> None:
    package = stage.store("def handler(event, context):\n    assert event == 'canary-event', event\n")
    stage.deploy(package, test_event="canary-event")
    stage.record(stage.store(), test_event="canary-event")
    listing = stage.job.aws.s3.list_objects_v2(Bucket="bucket", Prefix="yo-dawg/builds/")["Contents"]
    records = [stage.job.aws.s3.get_object(Bucket="bucket", Key=each["Key"])["Body"].read() for each in listing]
    assert records
    assert [each for each in records if b"canary-event" in each] == []


# --- Versions and aliases -------------------------------------------------------------------------------------


def test_a_version_is_published_when_something_changed(stage: Stage) -> None:
    package = stage.store()
    assert stage.deploy(package, publish=True).version == "1"
    assert stage.deploy(package, publish=True).version == "1", "nothing changed"
    assert stage.deploy(stage.store(), publish=True).version == "2"
    assert stage.deploy(stage.store()).version == "$LATEST"
    found = stage.functions.get_function_configuration(FunctionName="api", Qualifier="1")
    assert (found["CodeSha256"], found["Description"]) == (package.code_sha256, f"yo-dawg: {package.commit}")


def test_a_version_that_lambda_takes_its_time_for_is_waited_for(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    package = stage.store()
    stage.account.update_seconds = 3600
    made = stage.functions.update_function_code(  # PublishVersion answers at once, this does not
        FunctionName="api",
        S3Bucket=stage.job.store.bucket,
        S3Key=f"{stage.job.store.prefix}/{package.key}",
        Publish=True,
    )
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        stage.account.finish_updates()

    monkeypatch.setattr(time, "sleep", sleep)
    assert wait_until_published(stage.job.aws, "api", made["Version"]).state == "Active"
    assert slept


def test_an_alias_is_made_and_then_moved(stage: Stage) -> None:
    first = stage.deploy(stage.store(), alias="live")
    assert (first.version, first.alias, stage.alias("live")["FunctionVersion"]) == ("1", "live", "1")
    second = stage.deploy(stage.store(), alias="live")
    assert (second.version, stage.alias("live")["FunctionVersion"]) == ("2", "2")


def test_an_alias_that_lags_behind_is_a_change(stage: Stage) -> None:
    package = stage.store()
    stage.deploy(package, publish=True)
    assert stage.deploy(package, alias="live").status == "deployed"
    assert stage.deploy(package, alias="live").status == "unchanged"


def test_an_alias_that_shares_its_traffic_is_left_alone(stage: Stage) -> None:
    stage.deploy(stage.store(), alias="live")
    stage.deploy(stage.store(), publish=True)
    weights = {"AdditionalVersionWeights": {"2": 0.1}}
    stage.functions.update_alias(FunctionName="api", Name="live", RoutingConfig=weights)
    deployment = stage.deploy(stage.store(), alias="live")
    assert (deployment.status, deployment.version, deployment.alias) == ("deployed", "3", None)
    (warning,) = deployment.warnings
    assert "the alias live shares its traffic between two versions, so it was left at version 1" in warning
    assert (stage.alias("live")["FunctionVersion"], stage.alias("live")["RoutingConfig"]) == ("1", weights)


@pytest.mark.parametrize("there", [True, False])
def test_an_alias_that_somebody_else_has_moved_in_the_meantime_is_left_alone(stage: Stage, there: bool) -> None:
    stage.deploy(stage.store(), publish=True)
    if there:
        stage.functions.create_alias(FunctionName="api", Name="live", FunctionVersion="$LATEST")
    request, target = stage.begin(alias="live")
    move = stage.functions.update_alias if there else stage.functions.create_alias
    move(FunctionName="api", Name="live", FunctionVersion="1")
    with pytest.raises(DeployError, match="Somebody else has changed the alias live of api.*Version 2 is published"):
        deploy(stage.store(), target, request, stage.job)
    assert stage.alias("live")["FunctionVersion"] == "1"


def test_an_alias_whose_move_was_answered_by_nobody_is_moved(stage: Stage) -> None:
    stage.deploy(stage.store(), alias="live")
    lost: list[str] = []

    def lose(service: str, request: str) -> Any:
        if "/aliases/live" in request and request.startswith("PUT") and not lost:
            lost.append(request)
            return "lost"
        return None

    stage.account.fault = lose
    assert stage.deploy(stage.store(), alias="live").alias == "live"
    assert (len(lost), stage.alias("live")["FunctionVersion"]) == (1, "2")


# --- Rollback -------------------------------------------------------------------------------------------------


def test_a_rollback_goes_back_one_by_one(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yo_dawg.control.records.RETRY_SECONDS", 0)  # the same request is meant again
    found = stage.runs
    packages = [stage.store() for _ in range(3)]
    for package in packages:
        stage.record(package)
    for package in (packages[1], packages[0]):
        result = stage.rollback()
        assert (result["status"], result["commit"], result["code_sha256"]) == (
            "deployed", package.commit, package.code_sha256,
        )  # fmt: skip
        assert stage.runs == package.code_sha256
    assert stage.rollback()["commit"] is None, "what ran before the first build, and was kept"
    assert stage.runs == found
    with pytest.raises(DeployError, match="Nothing is known of what api ran before"):
        stage.rollback()


def test_what_was_rolled_back_from_is_not_rolled_back_to(stage: Stage) -> None:
    first, bad, third = (stage.store() for _ in range(3))
    for package in (first, bad):
        stage.record(package)
    stage.rollback()
    stage.record(third)
    assert stage.rollback(None, alias="live")["code_sha256"] == first.code_sha256


def test_a_rollback_that_a_client_asks_for_twice_goes_back_once(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yo_dawg.control.records.RETRY_SECONDS", 3600)  # soon enough, however slow this machine is
    first, second, third = (stage.store() for _ in range(3))
    for package in (first, second, third):
        stage.record(package)
    assert stage.rollback()["status"] == "deployed"
    again = stage.rollback()
    assert (again["status"], again["commit"]) == ("unchanged", second.commit)
    assert "ask in a minute" in again["warnings"][0]
    assert stage.runs == second.code_sha256


@pytest.mark.parametrize("kind", ["commit", "short commit", "digest", "hex digest", "short digest", "version"])
def test_a_rollback_can_name_what_it_wants(stage: Stage, kind: str) -> None:
    wanted = stage.store(commit="ab" * 20)
    stage.record(wanted, publish=True)
    for _ in range(2):
        stage.record(stage.store(), publish=True)
    to = {
        "commit": "ab" * 20, "short commit": "abababa", "digest": wanted.code_sha256, "version": "1",
        "hex digest": wanted.hex_digest, "short digest": wanted.hex_digest[:10],
    }[kind]  # fmt: skip
    result = stage.rollback(to)
    assert (result["status"], result["commit"]) == ("deployed", wanted.commit)
    assert stage.runs == wanted.code_sha256


def test_a_rollback_to_a_version_points_the_alias_at_that_version(stage: Stage) -> None:
    stage.record(stage.store(), alias="live")
    stage.record(stage.store(), alias="live")
    result = stage.rollback("1", alias="live")
    assert (result["version"], result["alias"]) == ("1", "live")
    assert (stage.alias("live")["FunctionVersion"], stage.versions()) == ("1", ["1", "2"])


def test_a_rollback_is_tested_too(stage: Stage) -> None:
    stage.record(stage.store(BAD))
    good = stage.store()
    stage.record(good)
    with pytest.raises(PackageError, match="failed its test event"):
        stage.rollback(test_event={})
    assert stage.runs == good.code_sha256


def test_a_rollback_downloads_and_uploads_no_package(stage: Stage) -> None:
    for _ in range(2):
        stage.record(stage.store())
    asked: list[str] = []
    stage.account.fault = lambda service, request: asked.append(request)
    stage.rollback()
    assert [each for each in asked if "/packages/" in each and not each.startswith("HEAD")] == []
    assert [each for each in asked if "lambda-code" in each] == []


@pytest.mark.parametrize(
    ("to", "words"),
    [
        pytest.param("fedcba9", "No package of api .* commit fedcba9.*The last commits are: ", id="commit"),
        pytest.param("7", "api has no version 7", id="version"),
        pytest.param("A" * 43 + "=", r"is not stored any more \(the last 10 are\)", id="digest"),
        pytest.param("0000000", '"0000000" is the beginning of several commits', id="ambiguous"),
    ],
)  # fmt: skip
def test_what_cannot_be_found_is_said(stage: Stage, to: str, words: str) -> None:
    for _ in range(2):
        stage.record(stage.store())
    before = stage.runs
    with pytest.raises(DeployError, match=words):
        stage.rollback(to)
    assert stage.runs == before


def test_a_package_that_was_changed_is_not_put_back(stage: Stage) -> None:
    first = stage.store()
    stage.record(first)
    stage.record(stage.store())
    key = f"yo-dawg/{first.key}"
    changed = base64.b64encode(bytes(32)).decode()
    stage.job.aws.s3.put_object(Bucket="bucket", Key=key, Body=b"x")
    with Stubber(stage.job.aws.s3) as s3:
        s3.add_response("head_object", {"ChecksumSHA256": changed})
        assert not stage.job.store.holds(first.key, first.hex_digest)
    with pytest.raises(DeployError):  # Lambda would not take what is no zip, either
        stage.rollback()


# --- What is kept ---------------------------------------------------------------------------------------------


def test_old_packages_go_but_not_those_that_are_needed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yo_dawg.control.rollback.KEPT_PACKAGES", 3)
    monkeypatch.setattr("yo_dawg.control.tidying.KEPT_PACKAGES", 3)
    monkeypatch.setattr("yo_dawg.control.tidying.KEPT_VERSIONS", 1)
    found = Package.of("api", stage.runs)
    packages = []
    options: list[dict[str, Any]] = [{"alias": "old"}, {}, {"publish": True}, {"publish": True}, {}, {}, {}]
    for more in options:
        packages.append(stage.store())
        stage.record(packages[-1], **more)
    stage.record(stage.store())
    left = set(stage.job.store.packages("api"))
    kept = [packages[0], packages[3], packages[5], packages[6]]  # by an alias, a version, and as the last three
    assert {each.key for each in kept} <= left
    gone = [found, packages[1], packages[2], packages[4]]
    assert not {each.key for each in gone} & left


def test_old_records_go_with_their_logs(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yo_dawg.control.ledger.KEPT_ENTRIES", 2)
    for _ in range(4):
        stage.record(stage.store())
    listing = stage.job.aws.s3.list_objects_v2(Bucket="bucket", Prefix="yo-dawg/builds/")["Contents"]
    assert len(listing) == 4, "two records, two logs"
    history = Ledger("api", an_entry(), stage.job.store).read()[0].history
    assert len(history) == 2
    assert all(any(each["Key"] == f"yo-dawg/{entry.record}.json" for each in listing) for entry in history)


def an_entry() -> BuildRecord:
    return BuildRecord("id", "digest", "build", time.time(), time.time() + 60, "builds/api/x")


# --- Several functions, and what is said after a failure --------------------------------------------------------


def test_a_failure_of_one_of_several_says_what_became_of_each(stage: Stage) -> None:
    for name in ("b", "c"):
        stage.create(name)
    names = ["api", "b", "c"]
    request = BuildRequest(names, "project")
    take_ledgers(names, request, stage.job)
    targets = [preflight(name, request, stage.job.builder, stage.job.aws) for name in names]
    packages = [stage.store(function=name) for name in names]
    stage.functions.update_function_code(FunctionName="b", ZipFile=small_zip({"app.py": "other = 1"}))
    with pytest.raises(DeployError, match="Somebody else has updated b"):
        deploy_all(packages, targets, request, stage.job)
    assert stage.job.log.aftermath is not None
    said = stage.job.log.aftermath()
    assert said.startswith("b runs code of somebody else's")
    assert said.endswith("Already deployed: api. Left alone: c.")


def test_what_a_function_runs_is_told_after_a_failure(stage: Stage) -> None:
    package = stage.store()
    _, target = stage.begin()
    aws = stage.job.aws
    assert describe_running_code(target, package, aws) == "api runs the code that it ran before."
    stage.account.update_seconds = 3600
    stage.functions.update_function_code(FunctionName="api", S3Bucket="bucket", S3Key=f"yo-dawg/{package.key}")
    assert describe_running_code(target, package, aws).startswith("Lambda is still at an update of api")
    stage.account.finish_updates()
    assert describe_running_code(target, package, aws) == "api runs the new code."
    stage.functions.delete_function(FunctionName="api")
    assert describe_running_code(target, package, aws).startswith(
        "What api runs now cannot be told: There is no function api"
    )


# --- What a review found --------------------------------------------------------------------------------

DENIED = Response(403, b'{"message":"no"}', {"X-Amzn-ErrorType": "AccessDeniedException"})
S3_DENIED = Response(403, b"<Error><Code>AccessDenied</Code></Error>", {"Content-Type": "application/xml"})


def test_a_function_whose_name_begins_anothers_can_be_built_first(stage: Stage) -> None:
    """To this role S3 answers 403 for a key that is not there, and what is there begins like it."""
    stage.create("api-2")
    Ledger("api-2", dataclasses.replace(new_entry(stage), request_id="another"), stage.job.store).acquire()
    stage.account.fault = lambda service, request: (
        S3_DENIED if request.startswith("GET") and request.partition("?")[0].endswith("/locks/api") else None
    )
    request, _ = stage.begin()
    take_ledgers(["api"], request, stage.another_job())


def new_entry(stage: Stage) -> BuildRecord:
    request, _ = stage.begin()
    return new_entry_("api-2", request, stage.job.builder)


def test_a_build_of_several_that_failed_is_not_answered_as_unchanged(stage: Stage) -> None:
    stage.create("b")
    names = ["api", "b"]
    request = BuildRequest(names, "project", alias="live")

    def begin() -> tuple[Job, list[Target]]:
        job = stage.another_job()
        take_ledgers(names, request, job)
        for ledger in job.ledgers:
            ledger.entry = dataclasses.replace(ledger.entry, commit=first.commit, ref="main")
        return job, [preflight(name, request, job.builder, job.aws) for name in names]

    first = stage.store()
    second = Package.of("b", first.code_sha256, first.commit)
    where = {"Bucket": "bucket", "Key": f"yo-dawg/{second.key}", "ChecksumAlgorithm": "SHA256"}
    stage.job.aws.s3.copy_object(CopySource=f"bucket/yo-dawg/{first.key}", **where)
    job, targets = begin()
    stage.account.fault = lambda service, request: DENIED if "/functions/b/aliases" in request else None
    with pytest.raises(DeployError) as failed:
        deploy_all([first, second], targets, request, job)
    stage.account.fault = None
    finish_build(request, failure(failed.value, str(failed.value)), job, Context(job.builder.arn))
    job, targets = begin()
    assert earlier_answer(request, targets, job) is None


@pytest.mark.parametrize("status", [429, 500])
def test_what_was_not_tested_is_taken_back_when_lambda_does_not_answer(stage: Stage, status: int) -> None:
    left, updates = 4, 0

    def fault(service: str, request: str) -> Response | None:
        nonlocal left, updates
        updates += request.startswith("PUT") and request.partition("?")[0].endswith("/code")
        if service == "lambda" and updates == 2 and "/configuration" in request and left:  # the first is a rehearsal
            left -= 1
            return Response(status, b'{"message":"not now"}', {"X-Amzn-ErrorType": "TooManyRequestsException"})
        return None

    package, before = stage.store(BAD), stage.runs
    stage.account.fault = fault
    with pytest.raises((DeployError, PackageError)):
        stage.deploy(package, test_event={"n": 1})
    stage.account.fault = None
    assert stage.runs == before


def test_a_stored_package_that_somebody_has_replaced_is_not_put_back(stage: Stage) -> None:
    first, second = stage.store(), stage.store()
    stage.record(first)
    stage.record(second)
    stage.job.aws.s3.put_object(Bucket="bucket", Key=f"yo-dawg/{first.key}", Body=small_zip({"app.py": "evil = 1\n"}))
    with pytest.raises(DeployError, match="is not stored any more"):
        stage.rollback()
    assert stage.runs == second.code_sha256


def test_a_rollback_to_a_commit_does_not_take_what_failed_its_test(stage: Stage) -> None:
    commit = "ab" * 20
    good, other = stage.store(commit=commit), stage.store()
    stage.record(good)
    stage.record(other)
    bad = stage.store(BAD, commit=commit)  # the same commit, with newer dependencies
    request, target = stage.begin(test_event={})
    job = stage.another_job()
    take_ledgers(["api"], request, job)
    with pytest.raises(PackageError) as failed:
        deploy_all([bad], [target], request, job)
    finish_build(request, failure(failed.value, str(failed.value)), job, Context(job.builder.arn))
    stage.rollback(commit)
    assert stage.runs == good.code_sha256


def test_one_ledger_that_cannot_be_let_go_does_not_hold_the_others(stage: Stage) -> None:
    stage.create("b")
    request = BuildRequest(["api", "b"], "project")
    job = stage.another_job()
    take_ledgers(["api", "b"], request, job)
    stage.account.fault = lambda service, request: (
        S3_DENIED if request.startswith("PUT") and "/locks/api" in request else None
    )
    finish_build(request, {"status": "deployed"}, job, Context(job.builder.arn))
    stage.account.fault = None
    page = Ledger("b", job.ledgers[0].entry, job.store).read()[0]
    assert page.holder is None


# --- What somebody else does meanwhile, and what Lambda or S3 refuses ----------------------------------------


def lambda_says(status: int, code: str, message: str = "Not now") -> Response:
    return Response(status, json.dumps({"message": message}).encode(), {"X-Amzn-ErrorType": code})


def fail_test_event(stage: Stage, package: Package) -> None:
    """Build, as an action does, what then fails its test event."""
    request, target = stage.begin(test_event={})
    job = stage.another_job()
    take_ledgers(["api"], request, job)
    with pytest.raises(PackageError) as failed:
        deploy_all([package], [target], request, job)
    finish_build(request, failure(failed.value, str(failed.value)), job, Context(job.builder.arn))


def test_what_somebody_else_deployed_meanwhile_is_not_told_as_unchanged(stage: Stage) -> None:
    package = stage.store()
    stage.deploy(package)
    request, target = stage.begin()
    stage.functions.update_function_code(FunctionName="api", ZipFile=small_zip({"app.py": "other = 1"}))
    with pytest.raises(DeployError, match="Somebody else has updated api"):
        deploy(package, target, request, stage.job)


def test_what_lambda_failed_to_take_last_time_is_updated_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    package = stage.store()
    stage.deploy(package)
    request, target = stage.begin()
    failed = dataclasses.replace(target, failure="its key is disabled")
    assert deploy(package, failed, request, stage.job).status == "deployed"
    assert deploy(package, target, request, stage.job).status == "unchanged"


def test_an_alias_that_was_moved_since_is_moved_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yo_dawg.control.records.RETRY_SECONDS", 3600)
    stage.record(stage.store(), alias="live")
    package = stage.store()
    request, target = stage.begin(alias="live")
    for moved in (False, True):
        job = stage.another_job()
        take_ledgers(["api"], request, job)
        job.ledgers[0].entry = dataclasses.replace(job.ledgers[0].entry, commit=package.commit)
        (deployment,) = deploy_all([package], [target], request, job)
        result = {**deployment_result(request, [deployment]), "commit": package.commit}
        finish_build(request, result, job, Context(job.builder.arn))
        if moved:
            stage.functions.update_alias(FunctionName="api", Name="live", FunctionVersion="1")
        again = stage.another_job()
        take_ledgers(["api"], request, again)
        _, target = stage.begin(alias="live")
        again.ledgers[0].entry = dataclasses.replace(again.ledgers[0].entry, commit=package.commit)
        answer = earlier_answer(request, [target], again)
        assert (answer is None) == moved
        finish_build(request, {}, again, Context(again.builder.arn))


@pytest.mark.parametrize("code", ["TooManyRequestsException", "ResourceConflictException"])
def test_lambda_is_asked_again_to_move_an_alias(stage: Stage, code: str) -> None:
    stage.deploy(stage.store(), alias="live")
    refusals = iter([lambda_says(429 if code.startswith("Too") else 409, code)])
    stage.account.fault = lambda _, request: (
        next(refusals, None) if "PUT" in request and "/aliases/" in request else None
    )
    assert stage.deploy(stage.store(), alias="live").version == stage.alias("live")["FunctionVersion"] == "2"


def test_a_look_that_is_throttled_is_made_again(stage: Stage) -> None:
    refusals = iter([lambda_says(429, "TooManyRequestsException")] * 5)
    stage.account.fault = lambda _, request: next(refusals, None) if "/configuration" in request else None
    stage.begin()
    assert next(refusals, None) is None


class Alarm(Clock):
    """A clock whose alarm rings after so many pauses, as the deadline's does."""

    def __init__(self, pauses: int) -> None:
        super().__init__()
        self.left = pauses

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self.left -= 1
        if not self.left:
            signal.raise_signal(signal.SIGALRM)


def test_an_endless_conflict_is_told_in_lambdas_words(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    said = lambda_says(409, "ResourceConflictException", "It is being frobnicated")
    stage.account.fault = lambda service, request: said if service == "lambda" and "PUT" in request else None
    monkeypatch.setattr("yo_dawg.control.clients.time", Alarm(3))
    with pytest.raises(DeadlineError, match=r"Lambda would not .* frobnicated"), deadline(900_000, stage.job.log):
        stage.begin()


def test_who_waits_for_a_dead_builder_is_told_when_to_ask_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    request = BuildRequest("api", "project")
    dead = new_entry_("api", request, stage.job.builder)
    dead = dataclasses.replace(dead, request_id="dead", until=time.time() + 3600, log_stream="elsewhere")
    Ledger("api", dead, stage.job.store).acquire()
    job = stage.another_job()
    monkeypatch.setattr("yo_dawg.control.records.time.sleep", Alarm(3).sleep)
    with pytest.raises(BuildInProgress, match="Ask again then"), deadline(900_000, job.log):
        take_ledgers(["api"], request, job)


def test_the_secrets_of_a_function_are_masked_in_what_its_test_event_says(stage: Stage) -> None:
    leak = "import os\ndef handler(event, context):\n    raise ValueError(os.environ['DB_PASSWORD'])\n"
    variables = {"DB_PASSWORD": "canary-db-password"}
    stage.functions.update_function_configuration(FunctionName="api", Environment={"Variables": variables})
    stage.record(stage.store(leak))
    stage.record(stage.store())
    with pytest.raises(PackageError, match="ValueError") as failed:
        stage.rollback(test_event={})
    assert "canary-db-password" not in stage.job.log.mask(str(failed.value))


def test_failed_builds_do_not_use_up_the_packages_that_are_kept(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yo_dawg.control.rollback.KEPT_PACKAGES", 3)
    monkeypatch.setattr("yo_dawg.control.tidying.KEPT_PACKAGES", 3)
    packages = [stage.store(), stage.store()]
    for package in packages:
        stage.record(package)
    for _ in range(3):
        fail_test_event(stage, stage.store(BAD))
    stage.record(stage.store())
    assert {package.key for package in packages} <= {*stage.job.store.packages("api")}


def test_both_versions_of_a_weighted_alias_keep_their_packages(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yo_dawg.control.rollback.KEPT_PACKAGES", 2)
    monkeypatch.setattr("yo_dawg.control.tidying.KEPT_PACKAGES", 2)
    monkeypatch.setattr("yo_dawg.control.tidying.KEPT_VERSIONS", 1)
    packages = [stage.store()]
    stage.record(packages[0], alias="live")
    packages.append(stage.store())
    stage.record(packages[1], publish=True)
    weights = {"AdditionalVersionWeights": {"2": 0.1}}
    stage.functions.update_alias(FunctionName="api", Name="live", RoutingConfig=weights)
    for _ in range(5):
        stage.record(stage.store(), publish=True)
    assert {package.key for package in packages} <= {*stage.job.store.packages("api")}


def test_deletes_that_s3_refuses_are_told_as_refused(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("yo_dawg.control.rollback.KEPT_PACKAGES", 1)
    monkeypatch.setattr("yo_dawg.control.tidying.KEPT_PACKAGES", 1)
    error = b"<Error><Key>k</Key><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
    body = b"<DeleteResult>%s</DeleteResult>" % error
    refusal = Response(200, body, {"Content-Type": "application/xml"})
    stage.account.fault = lambda _, request: refusal if "POST" in request and "delete" in request else None
    for _ in range(4):
        stage.record(stage.store())
    said = capsys.readouterr().out
    assert "old packages were not deleted: Cannot delete" in said
    assert "deleted 1 old" not in said


def test_rollback_to_a_commit_prefers_what_did_not_fail(stage: Stage) -> None:
    commit = "ab" * 20
    good = stage.store(commit=commit)
    stage.record(good)
    stage.record(stage.store())
    fail_test_event(stage, stage.store(BAD, commit=commit))
    stage.rollback(commit)
    assert stage.runs == good.code_sha256
