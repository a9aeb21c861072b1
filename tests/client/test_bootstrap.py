"""bootstrap: what is made, in which order; that a second run changes nothing; and what stops it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError, NoCredentialsError

from client import package
from client.config import Config
from client.main import CHECKOUT
from tests.support.answers import BOOTSTRAPPED
from tests.support.fake_aws import ACCOUNT, Desk, Refusal, invoked

CODE = package.Package(b"the function's zip")
CLOSED = {
    "PublicAccessBlockConfiguration": dict.fromkeys(
        ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
    )
}
NOT_FOUND = Refusal("404", "Not Found", 404)
NO_STACK = Refusal("ValidationError", "Stack with id yo-dawg does not exist")
STACK_ID = f"arn:aws:cloudformation:us-east-1:{ACCOUNT}:stack/yo-dawg/1"


def described(status: str, function: str | None = "yo-dawg") -> dict[str, Any]:
    """Return DescribeStacks' answer."""
    parameters = [{"ParameterKey": "FunctionName", "ParameterValue": function}] if function else []
    found = {"StackName": "yo-dawg", "StackId": STACK_ID, "StackStatus": status, "Parameters": parameters}
    return {"Stacks": [found]}


def as_asked(desk: Desk) -> dict[str, Any]:
    """Return GetFunctionConfiguration's answer for the function that config.ini asks for."""
    return {
        "FunctionName": "yo-dawg",
        "Runtime": "python3.13",
        "Handler": "lambda_function.lambda_handler",
        "MemorySize": 3008,
        "EphemeralStorage": {"Size": 512},
        "Timeout": 300,
        "Architectures": ["x86_64"],
        "CodeSha256": CODE.sha256,
        "State": "Active",
        "LastUpdateStatus": "Successful",
        "Environment": {"Variables": Config.read(desk.config).environment()},
    }


@pytest.fixture
def fresh(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """An account in which nothing is there yet."""
    monkeypatch.setattr("client.bootstrap.package", lambda **_: CODE)
    desk.aws.replies = {
        "sts.GetCallerIdentity": {"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:user/me"},
        "s3.HeadBucket": NOT_FOUND,
        "s3.HeadObject": NOT_FOUND,
        "cloudformation.DescribeStacks": [NO_STACK, NO_STACK, described("CREATE_COMPLETE")],
        "cloudformation.CreateChangeSet": {"Id": "change", "StackId": STACK_ID},
        "cloudformation.DescribeChangeSet": [{"Status": "CREATE_IN_PROGRESS"}, {"Status": "CREATE_COMPLETE"}],
        "cloudformation.DescribeStackEvents": {"StackEvents": []},
        "lambda.GetFunctionConfiguration": as_asked(desk),
        "lambda.GetFunction": {"Configuration": as_asked(desk)},
        "lambda.Invoke": invoked(BOOTSTRAPPED),
    }
    return desk


@pytest.fixture
def settled(fresh: Desk) -> Desk:
    """An account in which everything is as it should be."""
    nothing = "The submitted information didn't contain changes. Submit different information to create a change set."
    fresh.aws.replies |= {
        "s3.HeadBucket": {},
        "s3.GetBucketLocation": {"LocationConstraint": None},
        "s3.GetPublicAccessBlock": CLOSED,
        "s3.HeadObject": {"ChecksumSHA256": CODE.sha256},
        "cloudformation.DescribeStacks": described("UPDATE_COMPLETE"),
        "cloudformation.DescribeChangeSet": {"Status": "FAILED", "StatusReason": nothing},
        "lambda.Invoke": invoked({**BOOTSTRAPPED, "status": "unchanged"}),
    }
    return fresh


# --- What is made ----------------------------------------------------------------------------------------------


def test_bootstrap_makes_everything_in_order(fresh: Desk) -> None:
    ran = fresh.deploy()
    assert ran.status == 0, ran.error
    looking = {"DescribeStackEvents", "DescribeChangeSet", "FilterLogEvents"}
    made = [each for each in fresh.aws.operations() if each.split(".")[1] not in looking]
    assert made == [
        "sts.GetCallerIdentity",
        "s3.HeadBucket",
        "s3.CreateBucket",
        "s3.PutPublicAccessBlock",
        "s3.PutBucketEncryption",
        "s3.HeadObject",
        "s3.PutObject",
        "cloudformation.DescribeStacks",
        "cloudformation.DescribeStacks",
        "cloudformation.CreateChangeSet",
        "cloudformation.ExecuteChangeSet",
        "cloudformation.DescribeStacks",
        "lambda.GetFunctionConfiguration",
        "lambda.Invoke",
    ]
    assert "status        bootstrapped\n" in ran.out
    assert "nothing was changed" not in ran.error
    assert fresh.aws.call("lambda.Invoke").event == {"action": "bootstrap"}


def test_bootstrap_gives_the_stack_its_parameters(fresh: Desk) -> None:
    fresh.deploy("bootstrap")
    call = fresh.aws.call("cloudformation.CreateChangeSet")
    pairs = {each["ParameterKey"]: each["ParameterValue"] for each in call["Parameters"]}
    assert pairs == Config.read(fresh.config).parameters(f"yo-dawg/function/{CODE.hex}.zip")
    assert (call["ChangeSetType"], call["Capabilities"]) == ("CREATE", ["CAPABILITY_IAM"])
    assert call["TemplateBody"] == (CHECKOUT / "template.yaml").read_text()
    upload = fresh.aws.call("s3.PutObject")
    assert upload["Key"] == pairs["CodeKey"]
    assert upload["ChecksumSHA256"] == base64.b64encode(hashlib.sha256(upload["Body"]).digest()).decode()


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1"])
def test_the_bucket_is_made_in_the_region_encrypted_and_closed(fresh: Desk, region: str) -> None:
    fresh.deploy("bootstrap", AWS_REGION=region)
    made = fresh.aws.call("s3.CreateBucket").parameters
    if region == "us-east-1":  # the one region whose name S3 refuses here
        assert "CreateBucketConfiguration" not in made
    else:
        assert made["CreateBucketConfiguration"] == {"LocationConstraint": region}
    closed = fresh.aws.call("s3.PutPublicAccessBlock")
    assert list(closed["PublicAccessBlockConfiguration"].values()) == [True] * 4
    [rule] = fresh.aws.call("s3.PutBucketEncryption")["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"


@pytest.mark.parametrize(("account", "count"), [("fresh", 5), ("settled", 4)])
def test_every_call_on_the_bucket_says_whose_it_must_be(
    request: pytest.FixtureRequest, account: str, count: int
) -> None:
    desk: Desk = request.getfixturevalue(account)
    desk.deploy("bootstrap")
    calls = [call for call in desk.aws.calls if call.operation.startswith("s3.")]
    owned = [call for call in calls if call.operation != "s3.CreateBucket"]  # which makes it ours
    assert len(owned) == count
    assert {call["ExpectedBucketOwner"] for call in owned} == {ACCOUNT}


def test_a_second_bootstrap_changes_nothing_and_says_so(settled: Desk) -> None:
    ran = settled.deploy("bootstrap")
    assert ran.status == 0, ran.error
    assert "-----> bucket, code, stack and function are as they should be: nothing was changed\n" in ran.error
    assert "status        unchanged\n" in ran.out
    writing = [each for each in settled.aws.operations() if re.search(r"\.(Put|Create|Update|Delete|Execute)", each)]
    assert writing == ["cloudformation.CreateChangeSet", "cloudformation.DeleteChangeSet"]


def test_a_builders_code_that_was_changed_in_the_bucket_is_uploaded_again(settled: Desk) -> None:
    settled.aws.replies["s3.HeadObject"] = {"ChecksumSHA256": "c29tZXRoaW5nIGVsc2U="}
    assert settled.deploy().status == 0
    assert "s3.PutObject" in settled.aws.operations()


# --- The bucket ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Refusal("403", "Forbidden", 403), "belongs to somebody else"),
        (Refusal("301", "Moved Permanently", 301), "is not in us-east-1"),
        (
            EndpointConnectionError(endpoint_url="https://s3"),
            "cannot look at the bucket artifacts: Could not connect",
        ),
    ],
)
def test_a_bucket_that_cannot_be_used_ends_it(fresh: Desk, error: object, said: str) -> None:
    fresh.aws.replies["s3.HeadBucket"] = error
    ran = fresh.deploy("bootstrap")
    assert ran.status == 1
    assert said in ran.error
    assert fresh.aws.operations() == ["sts.GetCallerIdentity", "s3.HeadBucket"]


def test_a_bucket_of_another_region_ends_it(settled: Desk) -> None:
    settled.aws.replies["s3.GetBucketLocation"] = {"LocationConstraint": "EU"}
    ran = settled.deploy("bootstrap")
    assert ran.status == 1
    assert "the bucket artifacts is not in us-east-1, where Lambda needs it" in ran.error


@pytest.mark.parametrize(
    "answer",
    [
        {"PublicAccessBlockConfiguration": {**CLOSED["PublicAccessBlockConfiguration"], "BlockPublicPolicy": False}},
        Refusal("NoSuchPublicAccessBlockConfiguration", status=404),
    ],
)
def test_an_open_bucket_that_was_there_before_is_told_but_left_alone(settled: Desk, answer: object) -> None:
    settled.aws.replies["s3.GetPublicAccessBlock"] = answer
    ran = settled.deploy("bootstrap")
    assert ran.status == 0
    assert "Warning: the bucket artifacts does not block public access" in ran.error
    assert "s3.PutPublicAccessBlock" not in settled.aws.operations()


def test_without_credentials_one_is_told_how_to_get_them(fresh: Desk) -> None:
    fresh.aws.replies["sts.GetCallerIdentity"] = NoCredentialsError()
    ran = fresh.deploy("bootstrap")
    assert ran.status == 1
    assert 'Unable to locate credentials\nAWS does not know who you are. Run "aws configure"' in ran.error


# --- The stack -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "function", "said"),
    [
        (
            "ROLLBACK_COMPLETE",
            "yo-dawg",
            "aws cloudformation delete-stack --region us-east-1 --stack-name yo-dawg",
        ),
        ("UPDATE_ROLLBACK_FAILED", "yo-dawg", "aws cloudformation continue-update-rollback"),
        ("UPDATE_IN_PROGRESS", "yo-dawg", "is being changed just now (UPDATE_IN_PROGRESS)"),
        ("CREATE_COMPLETE", None, "a stack yo-dawg that is not this builder's"),
        ("CREATE_COMPLETE", "yo_dawg", "a stack yo-dawg that is not this builder's (its function is: yo_dawg)"),
    ],
)
def test_a_stack_that_cannot_be_updated_is_left_alone_with_advice(
    settled: Desk, state: str, function: str | None, said: str
) -> None:
    settled.aws.replies["cloudformation.DescribeStacks"] = described(state, function)
    ran = settled.deploy("bootstrap")
    assert ran.status == 1
    assert said in ran.error
    assert "cloudformation.CreateChangeSet" not in settled.aws.operations()


def event(name: str, status: str, reason: str = "", kind: str = "AWS::IAM::Role") -> dict[str, Any]:
    """Return an event of a stack."""
    return {
        "EventId": f"{name} {status} {reason}",
        "StackId": STACK_ID,
        "StackName": "yo-dawg",
        "LogicalResourceId": name,
        "ResourceStatus": status,
        "ResourceStatusReason": reason,
        "ResourceType": kind,
        "Timestamp": datetime(2026, 11, 23, tzinfo=UTC),
    }


STACK = "AWS::CloudFormation::Stack"


def test_a_failed_stack_is_told_with_the_first_reasons(settled: Desk) -> None:
    old = [event("LogGroup", "CREATE_FAILED", "an old story")]
    new = [
        event("yo-dawg", "UPDATE_ROLLBACK_COMPLETE", kind=STACK),
        event("Function", "UPDATE_FAILED", "Resource update cancelled"),
        event("Role", "UPDATE_FAILED", "API: iam:PutRolePolicy is not authorized"),
        event("yo-dawg", "UPDATE_IN_PROGRESS", "User Initiated", kind=STACK),
    ]
    settled.aws.replies |= {
        "cloudformation.DescribeStacks": [
            *([described("CREATE_COMPLETE")] * 2),
            described("UPDATE_IN_PROGRESS"),
            described("UPDATE_ROLLBACK_COMPLETE"),
        ],
        "cloudformation.DescribeChangeSet": {"Status": "CREATE_COMPLETE"},
        "cloudformation.DescribeStackEvents": [{"StackEvents": old}, {"StackEvents": new + old}],
    }
    ran = settled.deploy("bootstrap")
    assert ran.status == 1
    assert "could not be created or updated:\nRole: API: iam:PutRolePolicy is not authorized\n" in ran.error
    assert "an old story" not in ran.error
    assert "cancelled" not in ran.error
    assert "lambda.Invoke" not in settled.aws.operations()


def test_resources_are_shown_as_they_are_made(fresh: Desk) -> None:
    began = event("Role", "CREATE_IN_PROGRESS")
    ended = event("Role", "CREATE_COMPLETE") | {"Timestamp": datetime(2026, 11, 23, 0, 0, 17, tzinfo=UTC)}
    fresh.aws.replies |= {
        "cloudformation.DescribeStacks": [
            NO_STACK,
            NO_STACK,
            described("CREATE_IN_PROGRESS"),
            described("CREATE_COMPLETE"),
        ],
        "cloudformation.DescribeStackEvents": [
            {"StackEvents": []},
            {"StackEvents": [began]},
            {"StackEvents": [ended, began]},
        ],
    }
    ran = fresh.deploy("bootstrap")
    assert ran.status == 0, ran.error
    assert "\n      Role … 17.0 s\n" in ran.error


EARLY = (
    "The following hook(s)/validation failed: [AWS::EarlyValidation::ResourceExistenceCheck]. To troubleshoot "
    "Early Validation errors, use the DescribeEvents API for detailed failure information."
)


@pytest.mark.parametrize("allowed", [True, False])
def test_what_early_validation_finds_is_told(fresh: Desk, allowed: bool) -> None:
    """No event of the stack says it: the change set was never made."""
    found = {
        "EventId": "1",
        "LogicalResourceId": "LogGroup",
        "PhysicalResourceId": "/aws/lambda/yo-dawg",
        "ValidationStatusReason": "Resource of type 'AWS::Logs::LogGroup' already exists.",
    }
    fresh.aws.replies |= {
        "cloudformation.DescribeChangeSet": {"Status": "FAILED", "StatusReason": EARLY, "ChangeSetId": "change"},
        "cloudformation.DescribeEvents": {"OperationEvents": [found, found]} if allowed else Refusal("AccessDenied"),
    }
    ran = fresh.deploy("bootstrap")
    assert ran.status == 1
    told = "LogGroup /aws/lambda/yo-dawg: Resource of type 'AWS::Logs::LogGroup' already exists.\n"
    assert ran.error.count(told) == (1 if allowed else 0)
    assert EARLY in ran.error
    assert "A log group, for one, stays behind when a function is deleted by hand." in ran.error
    assert "cloudformation.ExecuteChangeSet" not in fresh.aws.operations()


def test_a_template_that_is_refused_is_told(fresh: Desk) -> None:
    fresh.aws.replies["cloudformation.CreateChangeSet"] = Refusal("ValidationError", "Parameters: [X] must exist")
    ran = fresh.deploy("bootstrap")
    assert ran.status == 1
    assert "could not be created or updated:\nAn error occurred (ValidationError)" in ran.error


# --- The function ----------------------------------------------------------------------------------------------


def test_a_function_changed_by_hand_is_brought_in_line(settled: Desk) -> None:
    asked = as_asked(settled)
    changed = asked | {"CodeSha256": "b2xk", "MemorySize": 128, "Environment": {"Variables": {"MINE": "x"}}}
    settled.aws.replies["lambda.GetFunctionConfiguration"] = [changed, asked]
    ran = settled.deploy("bootstrap")
    assert ran.status == 0, ran.error
    assert dict(settled.aws.call("lambda.UpdateFunctionCode").parameters) == {
        "FunctionName": "yo-dawg",
        "Architectures": ["x86_64"],
        "S3Bucket": "artifacts",
        "S3Key": f"yo-dawg/function/{CODE.hex}.zip",
    }
    assert dict(settled.aws.call("lambda.UpdateFunctionConfiguration").parameters) == {
        "FunctionName": "yo-dawg",
        "MemorySize": 3008,
        "Environment": asked["Environment"],
    }
    operations = settled.aws.operations("lambda")
    for update in ("lambda.UpdateFunctionCode", "lambda.UpdateFunctionConfiguration"):
        assert operations[operations.index(update) + 1] == "lambda.GetFunction", "it is waited for"
    assert "MemorySize is 128, not 3008\n" in ran.error
    assert "nothing was changed" not in ran.error


def test_a_function_that_does_not_take_the_code_is_a_failure(settled: Desk) -> None:
    settled.aws.replies["lambda.GetFunctionConfiguration"] = as_asked(settled) | {"CodeSha256": "b2xk"}
    ran = settled.deploy("bootstrap")
    assert ran.status == 1
    assert "does not run the uploaded code" in ran.error
    assert "lambda.Invoke" not in settled.aws.operations()


# --- doctor ----------------------------------------------------------------------------------------------------

READING = {
    "sts.GetCallerIdentity",
    "s3.HeadBucket",
    "s3.GetBucketLocation",
    "s3.GetPublicAccessBlock",
    "cloudformation.DescribeStacks",
    "lambda.GetFunctionConfiguration",
    "secretsmanager.DescribeSecret",
    "lambda.Invoke",
    "logs.FilterLogEvents",
}

INSIDE = {"name": "git host", "ok": True, "says": "git.example can be\nreached"}


@pytest.fixture
def patient(settled: Desk) -> Desk:
    """An account in which everything is as it should be."""
    settled.aws.replies["lambda.Invoke"] = invoked({"status": "ok", "findings": [INSIDE]})
    return settled


def findings(out: str) -> list[list[str]]:
    """Return the findings: mark, subject, text."""
    return [line.split(maxsplit=2) for line in out.splitlines()]


@pytest.mark.parametrize("status", ["ok", "well"])
def test_doctor_finds_nothing_wrong_where_nothing_is(patient: Desk, status: str) -> None:
    patient.aws.replies["lambda.Invoke"] = invoked({"status": status, "findings": [INSIDE]})
    ran = patient.deploy("doctor")
    assert (ran.status, ran.error) == (0, "")
    names = ("python", "config", "region", "identity", "bucket", "stack", "function", "git-host")
    assert [each[:2] for each in findings(ran.out)] == [["ok", name] for name in names]
    assert findings(ran.out)[-1][2] == "git.example can be reached"
    assert patient.aws.call("lambda.Invoke").event == {"action": "doctor"}


@pytest.mark.parametrize(
    ("reply", "name", "said"),
    [
        pytest.param(
            invoked({"status": "problems", "findings": [INSIDE, {"name": "disk", "ok": False, "says": "full"}]}),
            "disk",
            "full",
            id="a finding",
        ),
        pytest.param(
            invoked({"errorType": "RequestError", "errorMessage": "unknown"}, FunctionError="Unhandled"),
            "inside",
            "RequestError: unknown",
            id="an older yo-dawg",
        ),
        pytest.param(Refusal("AccessDeniedException", "no"), "inside", "AccessDenied", id="not allowed"),
    ],
)
def test_doctor_asks_inside_of_lambda_too(patient: Desk, reply: object, name: str, said: str) -> None:
    patient.aws.replies["lambda.Invoke"] = reply
    ran = patient.deploy("doctor")
    assert (ran.status, ran.error) == (1, "")
    [finding] = (each for each in findings(ran.out) if each[0] == "!!")
    assert finding[1] == name
    assert said in finding[2]


def test_doctor_only_notes_what_bootstrap_will_make(patient: Desk) -> None:
    patient.aws.replies |= {"s3.HeadBucket": NOT_FOUND, "cloudformation.DescribeStacks": NO_STACK}
    ran = patient.deploy("doctor")
    assert (ran.status, ran.error) == (0, "")
    assert [each[1] for each in findings(ran.out) if each[0] == "--"] == ["bucket", "stack"]


@pytest.mark.parametrize(
    ("operation", "answer", "subject", "said"),
    [
        ("sts.GetCallerIdentity", NoCredentialsError(), "identity", "aws configure"),
        (
            "sts.GetCallerIdentity",
            EndpointConnectionError(endpoint_url="http://x"),
            "identity",
            "is AWS_ENDPOINT_URL right?",
        ),
        ("s3.HeadBucket", Refusal("403", status=403), "bucket", "belongs to somebody else"),
        ("s3.HeadBucket", Refusal("500", "oops", 400), "bucket", "oops"),
        ("s3.GetBucketLocation", {"LocationConstraint": "EU"}, "bucket", "is not in us-east-1"),
        ("s3.GetPublicAccessBlock", Refusal("None", status=404), "bucket", "does not block public access"),
        ("cloudformation.DescribeStacks", described("ROLLBACK_COMPLETE"), "stack", "delete-stack"),
        ("cloudformation.DescribeStacks", Refusal("AccessDenied"), "stack", "AccessDenied"),
        ("lambda.GetFunctionConfiguration", Refusal("ResourceNotFound"), "function", "there is no function"),
    ],
)
def test_doctor_says_what_is_wrong(patient: Desk, operation: str, answer: object, subject: str, said: str) -> None:
    patient.aws.replies[operation] = answer
    ran = patient.deploy("doctor")
    assert (ran.status, ran.error) == (1, "")
    [finding] = (each for each in findings(ran.out) if each[0] == "!!")
    assert finding[1] == subject
    assert said in finding[2]
    assert set(patient.aws.operations()) <= READING


def test_doctor_says_how_the_function_differs(patient: Desk) -> None:
    changed = as_asked(patient) | {"MemorySize": 128, "Architectures": ["arm64"]}
    patient.aws.replies["lambda.GetFunctionConfiguration"] = changed
    ran = patient.deploy("doctor")
    assert ran.status == 1
    assert [each[2] for each in findings(ran.out) if each[0] == "!!"] == [
        'Architectures is arm64, not x86_64; run "./deploy.sh bootstrap"',
        'MemorySize is 128, not 3008; run "./deploy.sh bootstrap"',
    ]


@pytest.mark.parametrize("there", [True, False])
def test_doctor_looks_whether_the_secret_is_there_and_not_what_it_is(patient: Desk, there: bool) -> None:
    patient.config.write_text(patient.config.read_text() + "token_secret = git-token\n")
    patient.aws.replies |= {
        "lambda.GetFunctionConfiguration": as_asked(patient),
        "secretsmanager.DescribeSecret": {"ARN": "arn:secret"} if there else Refusal("ResourceNotFoundException"),
    }
    ran = patient.deploy("doctor")
    assert ran.status == (0 if there else 1)
    assert findings(ran.out)[-1][:2] == ["ok" if there else "!!", "secret"]
    assert set(patient.aws.operations()) <= READING


def test_doctor_names_every_fault_of_config_ini_and_leaves_aws_alone(patient: Desk) -> None:
    patient.config.write_text("[builder]\ntimeout = 0\n")
    ran = patient.deploy("doctor")
    assert ran.status == 1
    assert len([each for each in findings(ran.out) if each[:2] == ["!!", "config"]]) == 4
    assert not patient.aws.calls


def test_doctors_findings_can_be_had_as_json(patient: Desk) -> None:
    told = json.loads(patient.deploy("--json", "doctor").out)
    assert told["status"] == "ok"
    assert {each["mark"] for each in told["findings"]} == {"ok"}
