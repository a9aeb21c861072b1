"""The Lambda API: what it refuses, in AWS's words, and the phases of an update."""

from __future__ import annotations

import base64
import hashlib
import json
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from local.aws import EmbeddedAWS
from local.code_store import UNZIPPED_LIMIT, ZIPPED_LIMIT
from local.lambda_api import REQUEST_LIMIT
from local.lambda_invoke import ASYNC_PAYLOAD_LIMIT, SYNC_PAYLOAD_LIMIT
from tests.local.support import Functions, configuration, package, refused

pytestmark = pytest.mark.embedded

CODE = package({"probe.py": "def handler(event, context): return 1"})
OTHER = package({"probe.py": "def handler(event, context): return 2"})
BUCKET = "lambda-api-packages"

STALE = (
    "The Revision Id provided does not match the latest Revision Id. "
    "Call the GetFunction/GetAlias API to retrieve the latest Revision Id"
)
NOT_A_ZIP = "Could not unzip uploaded file. Please check your file, then try to upload again."
EMPTY = "Uploaded file must be a non-empty zip"


def sha(code: bytes) -> str:
    return base64.b64encode(hashlib.sha256(code).digest()).decode()


@pytest.fixture(scope="module", autouse=True)
def bucket(aws: EmbeddedAWS) -> None:
    s3 = aws.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="other.zip", Body=OTHER)
    s3.put_object(Bucket=BUCKET, Key="no.zip", Body=b"no zip")


@pytest.fixture
def name(functions: Functions, name: str) -> Iterator[str]:
    """An active function."""
    with functions.active(name, CODE):
        yield name


# --- creation ---


def test_a_new_function_is_pending_then_active(functions: Functions) -> None:
    client = functions.client
    made = client.create_function(
        FunctionName="new",
        Runtime=functions.runtime,
        Handler="probe.handler",
        Role=functions.role,
        Code={"ZipFile": CODE},
    )
    assert (made["State"], made["StateReasonCode"], made["StateReason"]) == (
        "Pending",
        "Creating",
        "The function is being created.",
    )
    assert "LastUpdateStatus" not in made
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201
    state = "The operation cannot be performed at this time. The function is currently in the following state: Pending"
    assert refused(client.invoke, FunctionName="new") == (409, "ResourceConflictException", state)
    assert refused(client.update_function_code, FunctionName="new", ZipFile=OTHER) == (
        409,
        "ResourceConflictException",
        state,
    )
    functions.aws.finish_updates()
    active = configuration(functions, "new")
    assert (active["State"], active["LastUpdateStatus"]) == ("Active", "Successful")
    assert "StateReason" not in active
    assert active["RevisionId"] != made["RevisionId"]


def test_what_is_not_given_has_lambdas_defaults(functions: Functions, name: str) -> None:
    made = configuration(functions, name)
    assert {
        key: made[key] for key in ("MemorySize", "EphemeralStorage", "Architectures", "PackageType", "LoggingConfig")
    } == {
        "MemorySize": 128,
        "EphemeralStorage": {"Size": 512},
        "Architectures": ["x86_64"],
        "PackageType": "Zip",
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{name}"},
    }
    assert (made["CodeSha256"], made["CodeSize"]) == (sha(CODE), len(CODE))


def test_nothing_that_is_given_is_dropped(functions: Functions) -> None:
    layer = functions.client.publish_layer_version(LayerName="kept", Content={"ZipFile": OTHER})["LayerVersionArn"]
    given: dict[str, Any] = {
        "EphemeralStorage": {"Size": 1024},
        "Architectures": ["arm64"],
        "LoggingConfig": {
            "LogFormat": "JSON",
            "LogGroup": "/mine",
            "ApplicationLogLevel": "WARN",
            "SystemLogLevel": "INFO",
        },
        "Description": "kept",
        "TracingConfig": {"Mode": "Active"},
        "Environment": {"Variables": {"KEPT": "1"}},
    }
    functions.create("kept", CODE, Layers=[layer], Tags={"kept": "tag"}, **given)
    made = functions.client.get_function(FunctionName="kept")
    assert {key: made["Configuration"][key] for key in given} == given
    assert made["Configuration"]["Layers"] == [{"Arn": layer, "CodeSize": len(OTHER)}]
    assert made["Tags"] == {"kept": "tag"}


# ACCOUNT stands for the account's number, which differs from one embedded AWS of a process to the next.
BAD_CREATIONS = [
    pytest.param(
        {"Role": "arn:aws:iam::ACCOUNT:role/nobody"},
        (400, "InvalidParameterValueException", "The role defined for the function cannot be assumed by Lambda."),
        id="no role",
    ),
    pytest.param(
        {"Role": "nobody"},
        (
            400,
            "ValidationException",
            "1 validation error detected: Value 'nobody' at 'role' failed to satisfy constraint: ",
        ),
        id="no arn",
    ),
    pytest.param(
        {"Runtime": "python9.9"},
        (400, "InvalidParameterValueException", "Value python9.9 at 'runtime' failed to satisfy constraint: "),
        id="runtime",
    ),
    pytest.param(
        {"Runtime": "python3.7"},
        (400, "InvalidParameterValueException", "The runtime parameter of python3.7 is no longer supported"),
        id="old runtime",
    ),
    pytest.param(
        {"Architectures": ["X86_64"]},
        (
            400,
            "ValidationException",
            "1 validation error detected: Value '[X86_64]' at 'architectures' failed to satisfy constraint: Member "
            "must satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64], Member must not be null]",
        ),
        id="architecture",
    ),
    pytest.param(
        {"Architectures": ["x86_64", "arm64"]},
        (
            400,
            "ValidationException",
            "1 validation error detected: Value '[x86_64, arm64]' at 'architectures' failed to satisfy constraint: "
            "Member must have length less than or equal to 1",
        ),
        id="two architectures",
    ),
    pytest.param(
        {"Timeout": 901},
        (
            400,
            "ValidationException",
            "1 validation error detected: Value '901' at 'timeout' failed to satisfy constraint: ",
        ),
        id="timeout",
    ),
    pytest.param(
        {"MemorySize": 10241},
        (400, "ValidationException", "1 validation error detected: Value '10241' at 'memorySize' failed"),
        id="memory",
    ),
    pytest.param(
        {"FunctionName": "no:such:thing"},
        (400, "ValidationException", "1 validation error detected: Value 'no:such:thing' at 'functionName' failed"),
        id="name",
    ),
    pytest.param(
        {"Environment": {"Variables": {"AWS_REGION": "x", "TZ": "y"}}},
        (
            400,
            "InvalidParameterValueException",
            "Lambda was unable to configure your environment variables because the environment variables you have "
            "provided contains reserved keys that are currently not supported for modification. Reserved keys used in "
            "this request: AWS_REGION, TZ",
        ),
        id="reserved variables",
    ),
    pytest.param(
        {"Environment": {"Variables": {"LARGE": "x" * 4096}}},
        (
            400,
            "InvalidParameterValueException",
            "Lambda was unable to configure your environment variables because the environment variables you have "
            'provided exceeded the 4KB limit. String measured: {"LARGE":"xxx',
        ),
        id="large variables",
    ),
    pytest.param(
        {"LoggingConfig": {"LogFormat": "Text", "ApplicationLogLevel": "INFO"}},
        (400, "InvalidParameterValueException", 'LogLevel is not supported when LogFormat is set to "Text".'),
        id="log level",
    ),
    pytest.param(
        {"Layers": [f"arn:aws:lambda:us-east-1:ACCOUNT:layer:none:{n}" for n in range(1, 7)]},
        (400, "InvalidParameterValueException", "Cannot reference more than 5 layers."),
        id="six layers",
    ),
    pytest.param(
        {"Layers": [f"arn:aws:lambda:us-east-1:ACCOUNT:layer:none:{n}" for n in range(1, 3)]},
        (400, "InvalidParameterValueException", "Two different versions of the same layer are not allowed"),
        id="a layer twice",
    ),
    pytest.param(
        {"Layers": ["arn:aws:lambda:us-east-1:ACCOUNT:layer:none:1"]},
        (
            400,
            "InvalidParameterValueException",
            "Layer version arn:aws:lambda:us-east-1:ACCOUNT:layer:none:1 does not",
        ),
        id="no such layer",
    ),
    pytest.param(
        {"Handler": None}, (400, "InvalidParameterValueException", "Runtime and Handler are mandatory"), id="handler"
    ),
    pytest.param(
        {"Code": {"ImageUri": "x"}},
        (
            400,
            "InvalidParameterValueException",
            "Please don't provide ImageUri when updating a function with packageType Zip.",
        ),
        id="image",
    ),
    pytest.param({"Code": {}}, (400, "InvalidParameterValueException", "Please provide a source"), id="no code"),
]


@pytest.mark.parametrize(("settings", "error"), BAD_CREATIONS)
def test_a_bad_creation_is_refused(functions: Functions, settings: dict[str, Any], error: tuple[int, str, str]) -> None:
    good = {"FunctionName": "bad", "Runtime": functions.runtime, "Handler": "probe.handler", "Role": functions.role}
    parameters = good | {"Code": {"ZipFile": CODE}} | functions.of_this_account(settings)
    status, kind, message = refused(
        functions.client.create_function, **{key: value for key, value in parameters.items() if value is not None}
    )
    assert (status, kind) == error[:2]
    assert message.startswith(functions.of_this_account(error[2]))
    assert "bad" not in [f["FunctionName"] for f in functions.client.list_functions()["Functions"]]


def test_a_role_must_trust_lambda(functions: Functions) -> None:
    trust = {
        "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}]
    }
    iam = functions.aws.client("iam")
    role = iam.create_role(RoleName="not-for-lambda", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    assert refused(
        functions.client.create_function,
        FunctionName="bad", Runtime=functions.runtime, Handler="probe.handler", Role=role, Code={"ZipFile": CODE},
    )[2] == "The role defined for the function cannot be assumed by Lambda."  # fmt: skip


def test_a_function_cannot_be_made_twice(functions: Functions, name: str) -> None:
    again = {"FunctionName": name, "Runtime": functions.runtime, "Handler": "probe.handler", "Role": functions.role}
    assert refused(functions.client.create_function, Code={"ZipFile": CODE}, **again) == (
        409,
        "ResourceConflictException",
        f"Function already exist: {name}",
    )


# --- packages, in creation and update ---


def bomb() -> bytes:
    """Return a small zip of too large a file."""
    return package({"probe.py": b"\0" * UNZIPPED_LIMIT})


BAD_CODES = [
    pytest.param(lambda: {"ZipFile": b"no zip"}, (400, "InvalidParameterValueException", NOT_A_ZIP), id="no zip"),
    pytest.param(lambda: {"ZipFile": CODE[:-30]}, (400, "InvalidParameterValueException", NOT_A_ZIP), id="cut off"),
    pytest.param(
        lambda: {"ZipFile": package({"../up.py": ""})},
        (400, "InvalidParameterValueException", NOT_A_ZIP),
        id="leads out",
    ),
    pytest.param(lambda: {"ZipFile": package({})}, (400, "InvalidParameterValueException", EMPTY), id="no files"),
    pytest.param(
        lambda: {"ZipFile": package({"app.py": "", "pkg/__init__.py": ""})},
        (400, "InvalidParameterValueException", EMPTY),
        id="empty files",
    ),
    pytest.param(
        lambda: {"ZipFile": bomb()},
        (400, "InvalidParameterValueException", f"Unzipped size must be smaller than {UNZIPPED_LIMIT} bytes"),
        id="large when unzipped",
    ),
    pytest.param(
        lambda: {"ZipFile": bytes(ZIPPED_LIMIT + 1)},
        (413, "RequestEntityTooLargeException", f"Zipped size must be smaller than {ZIPPED_LIMIT} bytes"),
        id="large",
    ),
    pytest.param(
        lambda: {"ZipFile": bytes(REQUEST_LIMIT * 3 // 4)},
        (413, "RequestEntityTooLargeException", f"Request must be smaller than {REQUEST_LIMIT} bytes for the "),
        id="very large",
    ),
    pytest.param(
        lambda: {"S3Bucket": BUCKET, "S3Key": "none"},
        (
            400,
            "InvalidParameterValueException",
            "Error occurred while GetObject. S3 Error Code: NoSuchKey. "
            "S3 Error Message: The specified key does not exist.",
        ),
        id="no key",
    ),
    pytest.param(
        lambda: {"S3Bucket": "no-such-bucket", "S3Key": "none"},
        (
            400,
            "InvalidParameterValueException",
            "Error occurred while GetObject. S3 Error Code: NoSuchBucket. "
            "S3 Error Message: The specified bucket does not exist",
        ),
        id="no bucket",
    ),
    pytest.param(
        lambda: {"S3Bucket": BUCKET, "S3Key": "no.zip"},
        (400, "InvalidParameterValueException", NOT_A_ZIP),
        id="no zip in S3",
    ),
]


@pytest.mark.parametrize(("make", "error"), BAD_CODES)
@pytest.mark.parametrize("operation", ["create", "update", "dry run"])
def test_a_bad_package_is_refused_and_nothing_changes(
    functions: Functions, name: str, make: Callable[[], dict[str, Any]], error: tuple[int, str, str], operation: str
) -> None:
    before = configuration(functions, name)
    if operation == "create":
        answer = refused(
            functions.client.create_function,
            FunctionName="bad", Runtime=functions.runtime, Handler="h.h", Role=functions.role, Code=make(),
        )  # fmt: skip
    else:
        dry = {"DryRun": True} if operation == "dry run" else {}
        answer = refused(functions.client.update_function_code, FunctionName=name, **make(), **dry)
    assert answer[:2] == error[:2]
    assert answer[2].startswith(error[2])
    assert configuration(functions, name) == before


# --- updates ---


def test_an_update_is_in_progress_and_others_are_refused(functions: Functions, name: str, arn: str) -> None:
    client = functions.client
    before = configuration(functions, name)
    during = client.update_function_code(FunctionName=name, ZipFile=OTHER)
    assert (during["LastUpdateStatus"], during["LastUpdateStatusReasonCode"], during["State"]) == (
        "InProgress",
        "Creating",
        "Active",
    )
    assert during["CodeSha256"] == sha(OTHER)
    conflict = (
        409,
        "ResourceConflictException",
        f"The operation cannot be performed at this time. An update is in progress for resource: {arn}",
    )
    assert refused(client.update_function_code, FunctionName=name, ZipFile=CODE) == conflict
    assert refused(client.update_function_configuration, FunctionName=name, Timeout=9) == conflict
    assert refused(client.publish_version, FunctionName=name) == conflict
    functions.aws.finish_updates()
    after = configuration(functions, name)
    assert after["LastUpdateStatus"] == "Successful"
    assert "LastUpdateStatusReason" not in after
    assert len({before["RevisionId"], during["RevisionId"], after["RevisionId"]}) == 3


def test_an_update_takes_its_time_and_ends_by_itself() -> None:
    with EmbeddedAWS(update_seconds=0.2) as aws:
        other = Functions(aws, "python3.13")
        other.client.create_function(
            FunctionName="timed", Runtime="python3.13", Handler="h.h", Role=other.role, Code={"ZipFile": CODE}
        )
        seen = [configuration(other, "timed")["State"]]
        while seen[-1] != "Active":
            seen.append(configuration(other, "timed")["State"])
    assert set(seen) == {"Pending", "Active"}


def test_boto3s_waiters_wait_for_it(functions: Functions, name: str) -> None:
    functions.aws.update_seconds = 0.5
    try:
        functions.client.update_function_code(FunctionName=name, ZipFile=OTHER)
        functions.client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
    finally:
        functions.aws.update_seconds = 3600
    assert configuration(functions, name)["LastUpdateStatus"] == "Successful"


def test_a_dry_run_changes_nothing(functions: Functions, name: str) -> None:
    before = configuration(functions, name)
    answer = functions.client.update_function_code(FunctionName=name, ZipFile=OTHER, DryRun=True)
    assert answer["CodeSha256"] == sha(OTHER)
    assert configuration(functions, name) == before


@pytest.mark.parametrize("operation", ["update_function_code", "update_function_configuration", "publish_version"])
def test_a_stale_revision_is_refused(functions: Functions, name: str, operation: str) -> None:
    call = getattr(functions.client, operation)
    code = {"ZipFile": OTHER} if operation == "update_function_code" else {}
    stale = configuration(functions, name)["RevisionId"]
    functions.client.update_function_configuration(FunctionName=name, Description="changed", RevisionId=stale)
    functions.aws.finish_updates()
    assert refused(call, FunctionName=name, RevisionId=stale, **code) == (412, "PreconditionFailedException", STALE)
    call(FunctionName=name, RevisionId=configuration(functions, name)["RevisionId"], **code)


def test_code_comes_from_the_named_version_of_an_object(functions: Functions, name: str) -> None:
    s3 = functions.aws.client("s3")
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    first = s3.put_object(Bucket=BUCKET, Key="versions.zip", Body=OTHER)["VersionId"]
    s3.put_object(Bucket=BUCKET, Key="versions.zip", Body=CODE)
    place = {"FunctionName": name, "S3Bucket": BUCKET, "S3Key": "versions.zip"}
    answer = functions.client.update_function_code(S3ObjectVersion=first, **place)
    assert answer["CodeSha256"] == sha(OTHER)
    functions.aws.finish_updates()
    assert functions.client.update_function_code(**place)["CodeSha256"] == sha(CODE)
    functions.aws.finish_updates()
    s3.delete_object(Bucket=BUCKET, Key="versions.zip")
    assert "NoSuchKey" in refused(functions.client.update_function_code, **place)[2]


def test_an_update_can_change_the_architecture(functions: Functions, name: str) -> None:
    functions.client.update_function_code(FunctionName=name, ZipFile=CODE, Architectures=["arm64"])
    functions.aws.finish_updates()
    assert configuration(functions, name)["Architectures"] == ["arm64"]
    functions.client.update_function_code(FunctionName=name, ZipFile=CODE)
    assert configuration(functions, name)["Architectures"] == ["arm64"], "what is not sent stays"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"Environment": {"Variables": {"TZ": "x"}}}, "reserved keys"),
        ({"Role": "arn:aws:iam::ACCOUNT:role/nobody"}, "cannot be assumed by Lambda"),
        ({"Runtime": "python9.9"}, "at 'runtime'"),
        ({"Description": "x" * 257}, "at 'description' failed to satisfy constraint: Member must have length less"),
    ],
)
def test_a_bad_configuration_is_refused(
    functions: Functions, name: str, settings: dict[str, Any], message: str
) -> None:
    before = configuration(functions, name)
    here = functions.of_this_account(settings)
    assert message in refused(functions.client.update_function_configuration, FunctionName=name, **here)[2]
    assert configuration(functions, name) == before


def test_an_image_function_refuses_a_zip(functions: Functions) -> None:
    functions.client.create_function(
        FunctionName="image", Role=functions.role, PackageType="Image", Code={"ImageUri": "1.dkr.ecr/x:y"}
    )
    functions.aws.finish_updates()
    assert refused(functions.client.update_function_code, FunctionName="image", ZipFile=CODE) == (
        400,
        "InvalidParameterValueException",
        "Please provide ImageUri when updating a function with packageType Image.",
    )


def test_the_configuration_has_no_link_to_the_code_and_get_function_has(functions: Functions, name: str) -> None:
    assert "Code" not in configuration(functions, name)
    link = functions.client.get_function(FunctionName=name)["Code"]["Location"]
    with urllib.request.urlopen(link) as answer:
        assert answer.read() == CODE


# --- versions and aliases ---


def test_update_with_publish_answers_with_the_version(functions: Functions, name: str) -> None:
    answer = functions.client.update_function_code(FunctionName=name, ZipFile=OTHER, Publish=True)
    assert (answer["Version"], answer["State"], "LastUpdateStatus" in answer) == ("1", "Pending", False)
    assert answer["FunctionArn"].endswith(f":{name}:1")


def test_a_version_is_published_once(functions: Functions, name: str) -> None:
    first = functions.client.publish_version(FunctionName=name, CodeSha256=sha(CODE))
    assert (first["Version"], first["ResponseMetadata"]["HTTPStatusCode"]) == ("1", 201)
    assert functions.client.publish_version(FunctionName=name)["Version"] == "1", "nothing has changed"
    functions.client.update_function_code(FunctionName=name, ZipFile=OTHER)
    functions.aws.finish_updates()
    assert functions.client.publish_version(FunctionName=name)["Version"] == "2"
    versions = functions.client.list_versions_by_function(FunctionName=name)["Versions"]
    assert [(v["Version"], v["CodeSha256"]) for v in versions] == [
        ("$LATEST", sha(OTHER)),
        ("1", sha(CODE)),
        ("2", sha(OTHER)),
    ]


def test_a_version_of_other_code_is_not_published(functions: Functions, name: str) -> None:
    assert refused(functions.client.publish_version, FunctionName=name, CodeSha256=sha(OTHER)) == (
        400,
        "InvalidParameterValueException",
        f"CodeSHA256 ({sha(OTHER)}) is different from current CodeSHA256 in $LATEST ({sha(CODE)}). "
        "Please try again with the CodeSHA256 in $LATEST.",
    )


def test_an_alias_moves_only_with_its_own_revision(functions: Functions, name: str, arn: str) -> None:
    client = functions.client
    client.publish_version(FunctionName=name)
    made = client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    assert refused(client.create_alias, FunctionName=name, Name="live", FunctionVersion="1") == (
        409,
        "ResourceConflictException",
        f"Alias already exists: {arn}:live",
    )
    moved = client.update_alias(
        FunctionName=name, Name="live", FunctionVersion="$LATEST", RevisionId=made["RevisionId"]
    )
    assert (moved["FunctionVersion"], moved["AliasArn"]) == ("$LATEST", f"{arn}:live")
    assert refused(
        client.update_alias, FunctionName=name, Name="live", FunctionVersion="1", RevisionId=made["RevisionId"]
    ) == (412, "PreconditionFailedException", STALE)
    assert client.get_alias(FunctionName=name, Name="live")["FunctionVersion"] == "$LATEST"
    assert refused(client.update_alias, FunctionName=name, Name="live", FunctionVersion="7") == (
        404,
        "ResourceNotFoundException",
        f"Function not found: {arn}:7",
    )
    client.delete_alias(FunctionName=name, Name="live")
    assert refused(client.get_alias, FunctionName=name, Name="live") == (
        404,
        "ResourceNotFoundException",
        f"Cannot find alias arn: {arn}:live",
    )


# --- names ---


def test_a_function_has_many_names(functions: Functions, name: str, arn: str) -> None:
    account = functions.aws.account
    for other in (name, arn, f"{account}:function:{name}", f"function:{name}", f"{name}:$LATEST", f"{arn}:$LATEST"):
        assert functions.client.get_function_configuration(FunctionName=other)["FunctionName"] == name
    assert functions.client.get_function_configuration(FunctionName=name)["FunctionArn"] == arn
    qualified = functions.client.get_function_configuration(FunctionName=name, Qualifier="$LATEST")
    assert qualified["FunctionArn"] == f"{arn}:$LATEST"


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"FunctionName": "none"}, (404, "ResourceNotFoundException", "Function not found: {arn}none")),
        (
            {"FunctionName": "none", "Qualifier": "7"},
            (404, "ResourceNotFoundException", "Function not found: {arn}none:7"),
        ),
        (
            {"FunctionName": "arn:aws:lambda:eu-west-1:{account}:function:x"},
            (
                404,
                "ResourceNotFoundException",
                "Functions from 'eu-west-1' are not reachable in this region ('us-east-1')",
            ),
        ),
        (
            {"FunctionName": "x:1", "Qualifier": "2"},
            (
                400,
                "InvalidParameterValueException",
                "The derived qualifier from the function name does not match the specified qualifier.",
            ),
        ),
    ],
)
@pytest.mark.parametrize("operation", ["get_function", "get_function_configuration", "invoke"])
def test_a_wrong_name_is_refused(
    functions: Functions, parameters: dict[str, str], error: tuple[int, str, str], operation: str
) -> None:
    account = functions.aws.account
    given = {key: value.replace("{account}", account) for key, value in parameters.items()}
    status, kind, message = error
    message = message.replace("{arn}", f"arn:aws:lambda:us-east-1:{account}:function:")
    if operation == "invoke" and message.endswith(":none"):  # AWS names the version that it would have run
        message += ":$LATEST"
    assert refused(getattr(functions.client, operation), **given) == (status, kind, message)


def test_errors_have_botocores_classes_and_lambdas_shape(functions: Functions) -> None:
    exceptions = functions.client.exceptions
    with pytest.raises(exceptions.ResourceNotFoundException) as caught:
        functions.client.get_function(FunctionName="none")
    assert caught.value.response["Type"] == "User"
    assert caught.value.response["Message"].startswith("Function not found")


# --- invoke ---


@pytest.mark.parametrize(("kind", "limit"), [("RequestResponse", SYNC_PAYLOAD_LIMIT), ("Event", ASYNC_PAYLOAD_LIMIT)])
def test_an_events_size_is_limited(functions: Functions, name: str, kind: str, limit: int) -> None:
    too_large = b'"' + b"x" * (limit - 1) + b'"'
    assert refused(functions.client.invoke, FunctionName=name, InvocationType=kind, Payload=too_large) == (
        413,
        "RequestTooLargeException",
        f"{limit + 1} byte payload is too large for the {kind} invocation type (limit {limit} bytes)",
    )
    functions.client.invoke(FunctionName=name, InvocationType=kind, Payload=too_large[:-2] + b'"')
    functions.aws.wait_for_events()


def test_an_event_must_be_json(functions: Functions, name: str) -> None:
    status, kind, message = refused(functions.client.invoke, FunctionName=name, Payload=b"{no json")
    assert (status, kind) == (400, "InvalidRequestContentException")
    assert message.startswith("Could not parse request body into json: ")


def test_no_payload_is_an_empty_event(functions: Functions) -> None:
    functions.create("empty", {"probe.py": "def handler(event, context): return event"})
    assert functions.client.invoke(FunctionName="empty")["Payload"].read() == b"{}"


def test_a_function_without_concurrency_is_throttled(functions: Functions, name: str) -> None:
    functions.client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    assert refused(functions.client.invoke, FunctionName=name) == (429, "TooManyRequestsException", "Rate Exceeded.")
    functions.client.delete_function_concurrency(FunctionName=name)
    assert functions.invoke(name).payload == 1


# --- the rest ---


def test_event_invoke_configs(functions: Functions, name: str, arn: str) -> None:
    client = functions.client
    missing = (404, "ResourceNotFoundException", f"The function {arn}:$LATEST doesn't have an EventInvokeConfig")
    assert refused(client.get_function_event_invoke_config, FunctionName=name) == missing
    assert refused(client.put_function_event_invoke_config, FunctionName=name) == (
        400,
        "InvalidParameterValueException",
        "You must specify at least one of error handling or destination setting.",
    )
    client.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0)
    client.update_function_event_invoke_config(FunctionName=name, MaximumEventAgeInSeconds=60)
    found = client.get_function_event_invoke_config(FunctionName=name, Qualifier="$LATEST")
    assert (found["FunctionArn"], found["MaximumRetryAttempts"], found["MaximumEventAgeInSeconds"]) == (
        f"{arn}:$LATEST",
        0,
        60,
    )
    assert len(client.list_function_event_invoke_configs(FunctionName=name)["FunctionEventInvokeConfigs"]) == 1
    client.delete_function_event_invoke_config(FunctionName=name)
    assert refused(client.get_function_event_invoke_config, FunctionName=name) == missing


def test_tags(functions: Functions, name: str, arn: str) -> None:
    functions.client.tag_resource(Resource=arn, Tags={"one": "1", "two": "2"})
    functions.client.untag_resource(Resource=arn, TagKeys=["one"])
    assert functions.client.list_tags(Resource=arn)["Tags"] == {"two": "2"}


def test_permissions(functions: Functions, name: str) -> None:
    client = functions.client
    statement = {
        "FunctionName": name, "StatementId": "s", "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com",
        "SourceArn": "arn:aws:s3:::bucket",
    }  # fmt: skip
    client.add_permission(**statement)
    assert refused(client.add_permission, **statement)[:2] == (409, "ResourceConflictException")
    [found] = json.loads(client.get_policy(FunctionName=name)["Policy"])["Statement"]
    assert (found["Principal"], found["Condition"]) == (
        {"Service": "s3.amazonaws.com"},
        {"ArnLike": {"AWS:SourceArn": "arn:aws:s3:::bucket"}},
    )
    client.remove_permission(FunctionName=name, StatementId="s")
    assert refused(client.get_policy, FunctionName=name)[:2] == (404, "ResourceNotFoundException")


def test_functions_are_listed_in_pages(functions: Functions, name: str) -> None:
    pages = functions.client.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 1})
    names = [f["FunctionName"] for page in pages for f in page["Functions"]]
    assert name in names
    assert names == sorted(names)


def test_the_account_has_quotas(functions: Functions, name: str) -> None:
    settings = functions.client.get_account_settings()
    assert settings["AccountLimit"]["CodeSizeUnzipped"] == UNZIPPED_LIMIT
    assert settings["AccountUsage"]["FunctionCount"] >= 1


def test_what_is_not_offered_says_so(functions: Functions, name: str) -> None:
    status, _, message = refused(functions.client.create_function_url_config, FunctionName=name, AuthType="NONE")
    assert (status, message) == (404, "The embedded AWS does not offer lambda:CreateFunctionUrlConfig.")


def test_a_deleted_function_is_gone(functions: Functions) -> None:
    functions.create("gone", CODE)
    functions.invoke("gone")
    assert functions.client.delete_function(FunctionName="gone")["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert refused(functions.client.invoke, FunctionName="gone")[:2] == (404, "ResourceNotFoundException")


def test_an_alias_can_share_its_calls_between_two_versions(functions: Functions, name: str) -> None:
    client = functions.client
    for code in (CODE, OTHER):
        client.update_function_code(FunctionName=name, ZipFile=code)
        functions.aws.finish_updates()
        client.publish_version(FunctionName=name)
    functions.aws.finish_updates()

    def share(**weights: float) -> dict[str, Any]:
        weighted = {number.removeprefix("v"): weight for number, weight in weights.items()}
        return {"FunctionName": name, "Name": "split", "RoutingConfig": {"AdditionalVersionWeights": weighted}}

    client.create_alias(FunctionVersion="1", **share(v2=1.0))
    assert functions.invoke(f"{name}:split").raw["ExecutedVersion"] == "2"
    client.update_alias(**share(v2=0.0))
    assert functions.invoke(f"{name}:split").raw["ExecutedVersion"] == "1"
    assert "cannot be greater than 1" in refused(client.update_alias, **share(v1=0.1, v2=0.1))[2]
    assert "already included in routing" in refused(client.update_alias, **share(v1=0.1))[2]
    assert "$LATEST is not supported" in refused(client.update_alias, FunctionVersion="$LATEST", **share(v2=0.1))[2]
    assert [alias["Name"] for alias in client.list_aliases(FunctionName=name, FunctionVersion="1")["Aliases"]] == [
        "split"
    ]
    assert "aliases is not currently supported" in refused(client.delete_function, FunctionName=f"{name}:split")[2]


def test_layers_are_listed_and_forgotten(functions: Functions) -> None:
    client = functions.client
    for code in (CODE, OTHER):
        made = client.publish_layer_version(LayerName="listed", Content={"ZipFile": code}, Description="a layer")
    assert (made["Version"], made["Content"]["CodeSha256"]) == (2, sha(OTHER))
    assert [v["Version"] for v in client.list_layer_versions(LayerName="listed")["LayerVersions"]] == [2, 1]
    [layer] = [layer for layer in client.list_layers()["Layers"] if layer["LayerName"] == "listed"]
    assert layer["LatestMatchingVersion"]["Version"] == 2
    client.delete_layer_version(LayerName="listed", VersionNumber=2)
    assert refused(client.get_layer_version, LayerName="listed", VersionNumber=2)[:2] == (
        404,
        "ResourceNotFoundException",
    )
    arn = client.get_layer_version(LayerName="listed", VersionNumber=1)["LayerVersionArn"]
    assert client.get_layer_version_by_arn(Arn=arn)["Content"]["CodeSha256"] == sha(CODE)


def test_reserved_concurrency_limits_what_runs_at_a_time(functions: Functions) -> None:
    functions.create("narrow", Timeout=60)
    functions.client.put_function_concurrency(FunctionName="narrow", ReservedConcurrentExecutions=1)
    assert functions.client.get_function_concurrency(FunctionName="narrow")["ReservedConcurrentExecutions"] == 1
    inner = """
        import boto3
        from botocore.config import Config
        client = boto3.client("lambda", config=Config(retries={"total_max_attempts": 1}))
        try:
            client.invoke(FunctionName="narrow", Payload=b'{"code": ""}')
        except client.exceptions.TooManyRequestsException as error:
            answer = error.response["Reason"]
    """
    assert functions.ask("narrow", inner) == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert functions.ask("narrow", "answer = 'free again'") == "free again"


def test_package_and_layers_together_have_a_limit(functions: Functions, name: str) -> None:
    half = package({"python/big": b"\0" * (UNZIPPED_LIMIT * 3 // 5)})
    layer = functions.client.publish_layer_version(LayerName="half", Content={"ZipFile": half})["LayerVersionArn"]
    functions.client.update_function_configuration(FunctionName=name, Layers=[layer])
    functions.aws.finish_updates()
    assert (
        "combined with layers exceeds"
        in refused(functions.client.update_function_code, FunctionName=name, ZipFile=half)[2]
    )
