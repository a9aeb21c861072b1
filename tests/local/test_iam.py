"""IAM: what policies mean, and that functions can do what their roles' policies allow and no more."""

from __future__ import annotations

import json
from typing import Any

import pytest

from local.iam import Context, Decision, decide
from tests.local.support import TRUST, Functions, package, refused

BUCKET = "held-to-policies"

CODE = package({"probe.py": "def handler(event, context): return 1"})


def statement(effect: str = "Allow", action: Any = "s3:GetObject", resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": effect, "Action": action, "Resource": resource} | more


# --- what policies mean ---


def test_nothing_is_allowed_unless_something_allows_it_and_a_denial_wins() -> None:
    allow, deny = statement(), statement("Deny", "s3:*")
    assert decide([], "s3:GetObject", "*", {}) is Decision.NOT_ALLOWED
    assert decide([allow], "s3:GetObject", "*", {}) is Decision.ALLOWED
    assert decide([deny, allow], "s3:GetObject", "*", {}) is Decision.DENIED


@pytest.mark.parametrize(
    ("action", "resource", "fits"),
    [
        ("s3:Get*", "arn:aws:s3:::bucket/*", True),
        ("S3:getobject", "arn:aws:s3:::bucket/a/b", True),
        ("s3:PutObject", "*", False),
        (["s3:PutObject", "*"], "*", True),
        ("*", "arn:aws:s3:::bucket", False),
        ("*", ["arn:aws:s3:::other", "arn:aws:s3:::bucket/a/?"], True),
    ],
)
def test_actions_and_resources_are_patterns(action: Any, resource: Any, fits: bool) -> None:
    decision = decide([statement(action=action, resource=resource)], "s3:GetObject", "arn:aws:s3:::bucket/a/b", {})
    assert (decision is Decision.ALLOWED) == fits


@pytest.mark.parametrize(
    ("condition", "context", "holds"),
    [
        ({"StringEquals": {"aws:RequestedRegion": "eu-west-1"}}, {"aws:requestedregion": "eu-west-1"}, True),
        ({"StringEquals": {"aws:RequestedRegion": "eu-west-1"}}, {}, False),
        ({"StringLike": {"s3:prefix": ["a/*", "b/*"]}}, {"s3:prefix": "b/1"}, True),
        ({"StringLike": {"s3:prefix": "a/*"}}, {"s3:prefix": "b/1"}, False),
        ({"StringNotEquals": {"s3:prefix": "a"}}, {"s3:prefix": "a"}, False),
        ({"StringEqualsIfExists": {"s3:prefix": "a"}}, {}, True),
        ({"ArnLike": {"aws:SourceArn": "arn:aws:s3:::*"}}, {"aws:SourceArn": "arn:aws:s3:::bucket"}, True),
        ({"ArnLike": {"aws:SourceArn": "arn:*:bucket"}}, {"aws:SourceArn": "arn:aws:s3:::bucket"}, False),
        ({"Bool": {"aws:SecureTransport": True}}, {"aws:SecureTransport": "true"}, True),
        ({"Bool": {"aws:SecureTransport": "true"}}, {"aws:SecureTransport": "false"}, False),
        ({"StringEquals": {"kms:ViaService": "s3.us-east-1.amazonaws.com"}}, {}, False),
        ({"ForAllValues:StringEquals": {"aws:TagKeys": ["a", "b"]}}, {"aws:TagKeys": ["a"]}, True),
        ({"ForAllValues:StringEquals": {"aws:TagKeys": ["a", "b"]}}, {"aws:TagKeys": ["a", "c"]}, False),
        ({"ForAllValues:StringEquals": {"aws:TagKeys": ["a"]}}, {}, True),
        ({"ForAnyValue:StringEquals": {"aws:TagKeys": ["a"]}}, {"aws:TagKeys": ["a", "c"]}, True),
        ({"Null": {"aws:TagKeys": "true"}}, {}, True),
    ],
)
def test_conditions(condition: dict[str, Any], context: Context, holds: bool) -> None:
    decision = decide([statement(Condition=condition)], "s3:GetObject", "*", context)
    assert (decision is Decision.ALLOWED) == holds


def test_an_operator_that_is_not_known_is_an_error() -> None:
    with pytest.raises(KeyError, match="NumericLessThan"):
        decide(
            [statement(Condition={"NumericLessThan": {"s3:max-keys": "1"}})], "s3:GetObject", "*", {"s3:max-keys": "1"}
        )


# --- that they hold ---

POLICY = [
    statement(action=["s3:GetObject", "s3:PutObject"], resource=f"arn:aws:s3:::{BUCKET}/mine/*"),
    statement(action="s3:ListBucket", resource=f"arn:aws:s3:::{BUCKET}",
              Condition={"StringLike": {"s3:prefix": "mine/*"}}),
    statement(action=["lambda:UpdateFunctionCode", "lambda:GetFunctionConfiguration", "lambda:InvokeFunction"],
              resource="arn:aws:lambda:*:*:function:target"),
    statement(action="lambda:TagResource", resource="*",
              Condition={"ForAllValues:StringEquals": {"aws:TagKeys": ["ours"]}}),
    statement(action="secretsmanager:GetSecretValue", resource="arn:aws:secretsmanager:*:*:secret:allowed-??????"),
    statement(action="logs:CreateLogStream", resource="arn:aws:logs:*:*:log-group:/mine:*"),
    statement("Deny", "lambda:*", "arn:aws:lambda:*:*:function:held"),
]  # fmt: skip


@pytest.fixture(scope="module")
def held(functions: Functions) -> str:
    """A function whose role has a policy."""
    aws = functions.aws
    iam, s3, secrets, logs = (aws.client(each) for each in ("iam", "s3", "secretsmanager", "logs"))
    role = iam.create_role(RoleName="held", AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]["Arn"]
    document = json.dumps({"Version": "2012-10-17", "Statement": POLICY})
    iam.put_role_policy(RoleName="held", PolicyName="held", PolicyDocument=document)
    s3.create_bucket(Bucket=BUCKET)
    for key in ("mine/1", "others/1"):
        s3.put_object(Bucket=BUCKET, Key=key, Body=CODE)
    for name in ("allowed", "other"):
        secrets.create_secret(Name=name, SecretString="secret")
    for group in ("/mine", "/others"):
        logs.create_log_group(logGroupName=group)
    for name in ("target", "other-target"):
        functions.create(name, CODE)
    return functions.create("held", Role=role, MemorySize=512)


TRY = """
    import boto3
    from botocore.exceptions import ClientError
    account = context.invoked_function_arn.split(":")[4]
    arn = f"arn:aws:lambda:us-east-1:{account}:function:"
    try:
        boto3.client(event["service"]).CALL
        answer = None
    except ClientError as error:
        http = error.response["ResponseMetadata"]["HTTPStatusCode"]
        answer = [http, error.response["Error"]["Code"], error.response["Error"]["Message"]]
"""


def attempt(functions: Functions, name: str, service: str, call: str) -> Any:
    """Let a function make a call; return what it was refused with, or None."""
    import textwrap

    reply = functions.invoke(name, {"service": service, "code": textwrap.dedent(TRY).replace("CALL", call)})
    assert reply.error is None, reply.payload
    return reply.payload


ALLOWED = [
    ("s3", f"get_object(Bucket='{BUCKET}', Key='mine/1')"),
    ("s3", f"put_object(Bucket='{BUCKET}', Key='mine/2', Body=b'x')"),
    ("s3", f"list_objects_v2(Bucket='{BUCKET}', Prefix='mine/')"),
    ("lambda", "get_function_configuration(FunctionName='target')"),
    ("lambda", f"update_function_code(FunctionName='target', S3Bucket='{BUCKET}', S3Key='mine/1', DryRun=True)"),
    ("lambda", "invoke(FunctionName=arn + 'target')"),
    ("lambda", "tag_resource(Resource=arn + 'target', Tags={'ours': '1'})"),
    ("secretsmanager", "get_secret_value(SecretId='allowed')"),
    ("logs", "create_log_stream(logGroupName='/mine', logStreamName='one')"),
    ("sts", "get_caller_identity()"),
]

REFUSED = [
    ("s3", f"get_object(Bucket='{BUCKET}', Key='others/1')", 403, "AccessDenied", "s3:GetObject"),
    ("s3", f"put_object(Bucket='{BUCKET}', Key='others/2', Body=b'x')", 403, "AccessDenied", "s3:PutObject"),
    ("s3", f"delete_object(Bucket='{BUCKET}', Key='mine/1')", 403, "AccessDenied", "s3:DeleteObject"),
    ("s3", f"copy_object(Bucket='{BUCKET}', Key='mine/3', CopySource='{BUCKET}/others/1')", 403, "AccessDenied",
     "s3:GetObject"),
    ("s3", f"list_objects_v2(Bucket='{BUCKET}')", 403, "AccessDenied", "s3:ListBucket"),
    ("s3", f"list_objects_v2(Bucket='{BUCKET}', Prefix='others/')", 403, "AccessDenied", "s3:ListBucket"),
    ("s3", "create_bucket(Bucket='another-bucket')", 403, "AccessDenied", "s3:CreateBucket"),
    ("lambda", "get_function_configuration(FunctionName='other-target')", 403, "AccessDeniedException",
     "lambda:GetFunctionConfiguration"),
    ("lambda", "invoke(FunctionName='target', Qualifier='7')", 403, "AccessDeniedException", "lambda:InvokeFunction"),
    ("lambda", "update_function_configuration(FunctionName='target', Timeout=9)", 403, "AccessDeniedException",
     "lambda:UpdateFunctionConfiguration"),
    ("lambda", "tag_resource(Resource=arn + 'target', Tags={'ours': '1', 'theirs': '2'})", 403,
     "AccessDeniedException", "lambda:TagResource"),
    ("secretsmanager", "get_secret_value(SecretId='other')", 400, "AccessDeniedException",
     "secretsmanager:GetSecretValue"),
    ("logs", "create_log_stream(logGroupName='/others', logStreamName='one')", 400, "AccessDeniedException",
     "logs:CreateLogStream"),
    ("sts", "assume_role(RoleArn=f'arn:aws:iam::{account}:role/tests', RoleSessionName='session')", 403, "AccessDenied",
     "sts:AssumeRole"),
    ("resourcegroupstaggingapi", "get_resources()", 400, "AccessDeniedException", "tag:GetResources"),
]  # fmt: skip


@pytest.mark.embedded
@pytest.mark.parametrize(("service", "call"), ALLOWED)
def test_what_the_policy_allows_is_done(functions: Functions, held: str, service: str, call: str) -> None:
    assert attempt(functions, held, service, call) is None


@pytest.mark.embedded
@pytest.mark.parametrize(("service", "call", "status", "code", "action"), REFUSED)
def test_what_no_policy_allows_is_refused_as_aws_words_it(
    functions: Functions, held: str, service: str, call: str, status: int, code: str, action: str
) -> None:
    answer = attempt(functions, held, service, call)
    assert answer is not None
    assert answer[:2] == [status, code]
    who = f"arn:aws:sts::{functions.aws.account}:assumed-role/held/held"
    assert answer[2].startswith(f"User: {who} is not authorized to perform: {action} on resource: ")
    assert answer[2].endswith(f" because no identity-based policy allows the {action} action")


@pytest.mark.embedded
def test_an_explicit_deny_says_so(functions: Functions, held: str) -> None:
    answer = attempt(functions, held, "lambda", "update_function_code(FunctionName='held', ZipFile=b'')")
    assert answer[1] == "AccessDeniedException"
    assert answer[2].endswith(":function:held with an explicit deny in an identity-based policy")


@pytest.mark.embedded
def test_lambda_reads_a_package_in_its_callers_name(functions: Functions, held: str) -> None:
    call = f"update_function_code(FunctionName='target', S3Bucket='{BUCKET}', S3Key='others/1')"
    answer = attempt(functions, held, "lambda", call)
    assert answer[:2] == [403, "AccessDeniedException"]
    assert answer[2].startswith("Your access has been denied by S3, please make sure your request credentials have ")


@pytest.mark.embedded
@pytest.mark.parametrize("operation", ["get_object", "head_object"])
def test_who_may_not_list_a_bucket_is_not_told_what_is_missing(functions: Functions, held: str, operation: str) -> None:
    """A condition on the prefix does not help: a request for an object carries none."""
    answer = attempt(functions, held, "s3", f"{operation}(Bucket='{BUCKET}', Key='mine/none')")
    assert answer[0] == 403


@pytest.mark.embedded
def test_the_operator_and_roles_without_a_policy_may_do_everything(functions: Functions, held: str) -> None:
    free = functions.create("free", MemorySize=512)
    assert attempt(functions, free, "s3", f"get_object(Bucket='{BUCKET}', Key='others/1')") is None
    functions.aws.client("s3").get_object(Bucket=BUCKET, Key="others/1")


@pytest.mark.embedded
def test_of_many_objects_those_are_deleted_that_may_be(functions: Functions, held: str) -> None:
    s3 = functions.aws.client("s3")
    iam = functions.aws.client("iam")
    may = {
        "Version": "2012-10-17",
        "Statement": [statement(action="s3:DeleteObject", resource="arn:aws:s3:::*/mine/gone")],
    }
    iam.put_role_policy(RoleName="held", PolicyName="deletes", PolicyDocument=json.dumps(may))
    for key in ("mine/gone", "mine/kept"):
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"")
    code = f"""
        import boto3
        keys = [{{"Key": "mine/gone"}}, {{"Key": "mine/kept"}}]
        done = boto3.client("s3").delete_objects(Bucket="{BUCKET}", Delete={{"Objects": keys}})
        answer = [[e["Key"] for e in done["Deleted"]], [[e["Key"], e["Code"]] for e in done["Errors"]]]
    """
    assert functions.ask(held, code) == [["mine/gone"], [["mine/kept", "AccessDenied"]]]
    iam.delete_role_policy(RoleName="held", PolicyName="deletes")
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket=BUCKET, Prefix="mine/")["Contents"]]
    assert "mine/kept" in keys
    assert "mine/gone" not in keys


# --- limits ---


@pytest.mark.embedded
def test_the_inline_policies_of_a_role_have_a_limit_together(functions: Functions) -> None:
    iam = functions.aws.client("iam")
    iam.create_role(RoleName="large", AssumeRolePolicyDocument=json.dumps(TRUST))

    def put(name: str, count: int) -> Any:
        many = statement(resource=[f"arn:aws:s3:::bucket/{n:04}" for n in range(count)])
        document = json.dumps({"Version": "2012-10-17", "Statement": [many]}, indent=8)  # white space does not count
        return {"RoleName": "large", "PolicyName": name, "PolicyDocument": document}

    iam.put_role_policy(**put("one", 150))
    iam.put_role_policy(**put("two", 150))
    iam.put_role_policy(**put("two", 180))
    message = "Maximum policy size of 10240 bytes exceeded for role large"
    assert refused(iam.put_role_policy, **put("three", 50)) == (409, "LimitExceeded", message)
    assert iam.list_role_policies(RoleName="large")["PolicyNames"] == ["one", "two"]
