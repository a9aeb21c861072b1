"""Kinds of functions: what each makes of a test event, of publishing, and of an update, in each of its states."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import botocore.session
import pytest

from tests.support.scripted_aws import Answer, Refusal, ScriptedAws, builder, configuration, invoked, job
from yo_dawg.control.deploy import publish
from yo_dawg.control.functions import Target, look_at_target, preflight, publish_latest
from yo_dawg.control.kinds import SERVED, STATE_ADVICE, Kind, state_fault
from yo_dawg.control.packages import Package
from yo_dawg.control.trial import NotRun, run_test
from yo_dawg.errors import ConfigError, DeployError
from yo_dawg.events import BuildRequest

PROVIDER: dict[str, Any] = {
    "CapacityProviderConfig": {
        "LambdaManagedInstancesCapacityProviderConfig": {
            "CapacityProviderArn": "arn:aws:lambda:us-east-1:123456789012:capacity-provider:mine"
        }
    },
    "State": "ActiveNonInvocable",
}
DURABLE = {"DurableConfig": {"ExecutionTimeout": 900, "RetentionPeriodInDays": 14}}
SLOW = {"DurableConfig": {"ExecutionTimeout": 901, "RetentionPeriodInDays": 14}}
TENANTS = {"TenancyConfig": {"TenantIsolationMode": "PER_TENANT"}}
SNAPSHOTS: dict[str, Any] = {"SnapStart": {"ApplyOn": "PublishedVersions", "OptimizationStatus": "Off"}}


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> ScriptedAws:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTSTESTSTESTS0")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    made = ScriptedAws(UpdateFunctionCode=configuration(), Invoke={"StatusCode": 204})
    monkeypatch.setattr("yo_dawg.control.trial.client_with_timeout", lambda aws, seconds: aws)
    return made


def look(scripted: ScriptedAws, test_event: object = None, **more: Any) -> Target:
    """Do a build's preflight with a function that is like this."""
    scripted.answers["GetFunctionConfiguration"] = configuration(**more)
    return preflight("api", BuildRequest("api", "api", test_event=test_event), builder(), scripted.aws)


# --- The test event ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        pytest.param(PROVIDER, "capacity provider, which runs published versions only", id="capacity provider"),
        pytest.param(TENANTS, "keeps its tenants apart", id="tenants"),
        pytest.param(SLOW, "durable function whose executions may take 901 s", id="durable, and slow"),
        pytest.param({"State": "ActiveNonInvocable"}, "it is ActiveNonInvocable", id="not invocable"),
    ],
)
def test_a_test_event_that_cannot_reach_the_new_code_is_refused_before_the_work(
    scripted: ScriptedAws, kind: dict[str, Any], words: str
) -> None:
    with pytest.raises(DeployError, match=f"api cannot be tried with a test event: .*{words}"):
        look(scripted, {}, **kind)
    assert not scripted.asked("Invoke")
    look(scripted, **kind)  # without one it can be built


def test_a_durable_function_is_invoked_as_latest_by_that_name(scripted: ScriptedAws, tmp_path: Path) -> None:
    """Lambda: "You cannot invoke a durable function using an unqualified ARN"."""
    target = look(scripted, {}, **DURABLE)
    scripted.answers["Invoke"] = invoked()
    assert run_test(target, {"x": 1}, job(scripted, tmp_path)) == ""
    rehearsed, run = scripted.asked("Invoke")
    assert (rehearsed["Qualifier"], rehearsed["InvocationType"]) == ("$LATEST", "DryRun")
    assert (run["Qualifier"], json.loads(run["Payload"])) == ("$LATEST", {"x": 1})


def test_any_other_is_invoked_by_its_name_alone(scripted: ScriptedAws, tmp_path: Path) -> None:
    """The role may invoke no qualified ARN, and $LATEST as a qualifier makes it one."""
    target = look(scripted, {}, **SNAPSHOTS)
    scripted.answers["Invoke"] = invoked()
    run_test(target, {}, job(scripted, tmp_path))
    assert [each.get("Qualifier") for each in scripted.asked("Invoke")] == [None, None]


# --- Capacity providers: whoever names no version gets $LATEST.PUBLISHED ----------------------------------------


@pytest.mark.parametrize(
    ("before", "publishes"),
    [
        pytest.param(Refusal("ResourceNotFoundException"), 1, id="there is none yet"),
        pytest.param(configuration(**{**PROVIDER, "State": "Active", "CodeSha256": "old"}), 1, id="it is older"),
        pytest.param(configuration(**{**PROVIDER, "State": "Active"}), 0, id="it is this"),
    ],
)
def test_on_a_capacity_provider_a_build_is_published_for_its_callers(
    scripted: ScriptedAws, before: Answer, publishes: int
) -> None:
    running = Target.from_configuration(configuration(**PROVIDER))
    after = configuration(**{**PROVIDER, "State": "Active"})
    scripted.answers |= {
        "GetFunctionConfiguration": [before, {**after, "State": "Pending"}, after],
        "PublishVersion": {**after, "Version": "$LATEST.PUBLISHED"},
    }
    assert publish_latest(running, scripted.aws) == "$LATEST.PUBLISHED"
    published = {"FunctionName": "api", "CodeSha256": running.code_sha256, "PublishTo": "LATEST_PUBLISHED"}
    assert scripted.asked("PublishVersion") == [published] * publishes
    assert {each["Qualifier"] for each in scripted.asked("GetFunctionConfiguration")} == {"$LATEST.PUBLISHED"}


def test_a_boto3_that_cannot_publish_there_is_refused_before_the_work(
    scripted: ScriptedAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yo_dawg.control.functions.accepts", lambda client, operation, member: member != "PublishTo")
    with pytest.raises(ConfigError, match=r"capacity provider.*boto3 \d.*PublishTo.*newer runtime"):
        look(scripted, **PROVIDER)
    assert not scripted.asked("UpdateFunctionCode")


# --- SnapStart --------------------------------------------------------------------------------------------------


def version(**more: Any) -> dict[str, Any]:
    return configuration(Version="3", **{**SNAPSHOTS, **more})


ON = {"SnapStart": {"ApplyOn": "PublishedVersions", "OptimizationStatus": "On"}}


def publish_it(scripted: ScriptedAws, *seen: dict[str, Any]) -> str:
    scripted.answers |= {"PublishVersion": version(State="Pending"), "GetFunctionConfiguration": [*seen]}
    running = Target.from_configuration(configuration(**SNAPSHOTS))
    return publish(running, Package.of("api", running.code_sha256), scripted.aws)


def test_a_version_is_published_when_its_snapshot_is_there(scripted: ScriptedAws) -> None:
    seen = (version(State="Pending"), version(State="Active"), version(State="Active", **ON))
    assert publish_it(scripted, *seen) == "3"
    assert len(scripted.asked("GetFunctionConfiguration")) == 3


def test_a_snapshot_that_could_not_be_taken_is_an_error_in_words(scripted: ScriptedAws) -> None:
    failed = version(State="Failed", StateReason="the handler's import raised", StateReasonCode="FunctionError")
    with pytest.raises(DeployError, match=r"Version 3 of api .* snapshot could not be taken.*the handler's import"):
        publish_it(scripted, version(State="Pending"), failed)


def test_a_version_whose_snapshot_never_comes_is_not_waited_for_for_ever(
    scripted: ScriptedAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yo_dawg.control.functions.SECONDS_FOR_SNAPSHOT", 0.2)
    assert publish_it(scripted, version(State="Active")) == "3"


# --- States -----------------------------------------------------------------------------------------------------


def test_each_state_of_the_service_model_has_its_answer() -> None:
    model = botocore.session.get_session().get_service_model("lambda")
    assert {*model.shape_for("State").enum} == {*SERVED, *STATE_ADVICE, "Failed"}


@pytest.mark.parametrize("state", ["Failed", *STATE_ADVICE])
def test_a_function_that_cannot_be_updated_is_refused_with_what_to_do(scripted: ScriptedAws, state: str) -> None:
    scripted.answers["GetFunctionConfiguration"] = configuration(State=state, StateReason="that is why")
    with pytest.raises(DeployError, match=rf"api is {state} \(that is why\): \w+"):
        look_at_target(scripted.aws, "api", builder())
    assert state_fault(state)


@pytest.mark.parametrize("code", ["ResourceNotReadyException", "ResourceConflictException", "ENINotReadyException"])
def test_a_function_that_is_asleep_is_updated_and_woken(scripted: ScriptedAws, tmp_path: Path, code: str) -> None:
    """The first invocation fails, and Lambda makes the function ready; the test event is sent until it is run."""
    not_ready = Refusal(code, "The function is asleep", 409)
    scripted.answers["Invoke"] = not_ready
    target = look(scripted, {}, State="Inactive", StateReasonCode="Idle")
    assert scripted.asked("Invoke")[0]["InvocationType"] == "DryRun"
    scripted.answers["Invoke"] = [not_ready, not_ready, invoked()]
    assert run_test(target, {}, job(scripted, tmp_path)) == ""
    assert len(scripted.asked("Invoke")) == 4


def test_a_snapshot_that_is_not_ready_is_waited_for(scripted: ScriptedAws, tmp_path: Path) -> None:
    target = look(scripted, **SNAPSHOTS)
    scripted.answers["Invoke"] = [Refusal("SnapStartNotReadyException", status=409), invoked()]
    assert run_test(target, {}, job(scripted, tmp_path)) == ""


def test_what_the_function_may_not_do_is_not_taken_for_its_sleep(scripted: ScriptedAws, tmp_path: Path) -> None:
    scripted.answers["Invoke"] = Refusal("AccessDeniedException", "no", 403)
    with pytest.raises(DeployError, match="invoke api with the test event"):
        look(scripted, {})
    with pytest.raises(NotRun):
        run_test(Target.from_configuration(configuration()), {}, job(scripted, tmp_path))


def test_an_ordinary_function_is_nothing_special() -> None:
    ordinary = configuration(SnapStart={"ApplyOn": "None", "OptimizationStatus": "Off"}, Environment={})
    assert Target.from_configuration(ordinary).kind == Kind()
