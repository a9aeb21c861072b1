"""template.yaml: what the builder may do, shown by evaluating its policy, and that its names fit the rest.

moto cannot evaluate policies for Lambda functions (it knows no resources there), so local/iam.py does.
It is generous where IAM is strict (a "*" spans colons), so that what it refuses, IAM refuses too.
"""

from __future__ import annotations

import ast
import fnmatch
import io
import json
import re
import subprocess
import sys
import zipfile
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.config import Config
from client.config_file import KEYS
from client.config_whole import policy_size
from local.aws import EmbeddedAWS
from local.iam import Decision, decide, listed
from tests.support.template import ACCOUNT, BUCKET, REGION, TEMPLATE, Resolver, config, policy
from yo_dawg.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
# --- Evaluating it -----------------------------------------------------------------------------------------


def allowed(statements: list[dict[str, Any]], action: str, resource: str, **context: str) -> bool:
    """Say whether IAM allows it."""
    here = {"aws:RequestedRegion": REGION, "aws:ResourceAccount": ACCOUNT}
    given: dict[str, str | list[str]] = {name.replace("_", ":", 1): value for name, value in context.items()}
    if "aws:TagKeys" in given:
        given["aws:TagKeys"] = [key for key in context["aws_TagKeys"].split(",") if key]
    return decide(statements, action, resource, {**here, **given}) is Decision.ALLOWED


def function(name: str, region: str = REGION, account: str = ACCOUNT) -> str:
    return f"arn:aws:lambda:{region}:{account}:function:{name}"


def secret(name: str, suffix: str = "a1B2c3") -> str:
    return f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{name}-{suffix}"


def log(name: str, stream: str = "2026/11/23/[$LATEST]0123") -> str:
    return f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda/{name}:log-stream:{stream}"


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("s3:GetObject", "arn:aws:s3:::artifacts/yo-dawg/toolchain/python3.13-x86_64.json"),
        ("s3:PutObject", "arn:aws:s3:::artifacts/yo-dawg/packages/project-to-build/00.zip"),
        ("lambda:GetFunctionConfiguration", function("project-to-build")),
        ("lambda:UpdateFunctionCode", function("project-to-build")),
        ("lambda:UpdateFunctionCode", function("other-one")),
        ("lambda:GetFunctionConfiguration", function("other-one:12")),
        ("lambda:InvokeFunction", function("other-one")),
        ("lambda:InvokeFunction", function("other-one:$LATEST")),
        ("lambda:InvokeFunction", function("project-to-build:$LATEST")),
        ("s3:DeleteObject", "arn:aws:s3:::artifacts/yo-dawg/packages/project-to-build/00.zip"),
        ("s3:PutObject", "arn:aws:s3:::artifacts/yo-dawg/locks/project-to-build"),
        ("tag:GetResources", "*"),
        ("logs:CreateLogStream", log("yo-dawg")),
        ("logs:PutLogEvents", log("yo-dawg")),
        ("secretsmanager:GetSecretValue", secret("git/token")),
    ],
)
def test_the_role_may_do_what_the_handler_does(action: str, resource: str) -> None:
    assert allowed(policy(token_secret="git/token"), action, resource)


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        pytest.param("s3:GetObject", "arn:aws:s3:::artifacts/other/x", id="another prefix"),
        pytest.param("s3:PutObject", "arn:aws:s3:::artifacts/yo-dawg-2/x", id="a prefix that begins alike"),
        pytest.param("s3:PutObject", "arn:aws:s3:::artifacts/x", id="no prefix"),
        pytest.param("s3:PutObject", "arn:aws:s3:::artifacts/yo-dawg/function/0.zip", id="the builder's own code"),
        pytest.param("s3:PutObject", "arn:aws:s3:::artifacts-2/yo-dawg/x", id="another bucket"),
        pytest.param("s3:DeleteObject", "arn:aws:s3:::artifacts/yo-dawg/toolchain/0.zip", id="deleting a toolchain"),
        pytest.param("s3:DeleteObject", "arn:aws:s3:::artifacts/yo-dawg/locks/api", id="deleting a ledger"),
        pytest.param("s3:PutBucketPolicy", "arn:aws:s3:::artifacts", id="the bucket itself"),
        pytest.param("s3:ListAllMyBuckets", "*", id="other buckets' names"),
        pytest.param("lambda:UpdateFunctionCode", function("somebody-elses"), id="another function"),
        pytest.param("lambda:UpdateFunctionCode", function("project-to-build-2"), id="a function that begins alike"),
        pytest.param("lambda:GetFunction", function("somebody-elses"), id="the code of another function"),
        pytest.param("lambda:UpdateFunctionConfiguration", function("project-to-build"), id="its configuration"),
        pytest.param("lambda:DeleteFunction", function("project-to-build"), id="deleting it"),
        pytest.param("lambda:InvokeFunction", function("somebody-elses"), id="invoking another function"),
        pytest.param("lambda:InvokeFunction", function("yo-dawg"), id="invoking itself"),
        pytest.param("lambda:InvokeFunction", function("project-to-build:live"), id="invoking what has traffic"),
        pytest.param("lambda:InvokeFunction", function("other-one:live"), id="the same of a pattern"),
        pytest.param("lambda:InvokeFunction", function("other-one:7"), id="invoking a version"),
        pytest.param("lambda:InvokeFunction", function("somebody-elses:$LATEST"), id="another's latest code"),
        pytest.param("lambda:UpdateFunctionCode", function("project-to-build:live"), id="updating by an alias"),
        pytest.param("lambda:DeleteAlias", function("project-to-build"), id="deleting an alias"),
        pytest.param("lambda:AddPermission", function("project-to-build"), id="letting others invoke it"),
        pytest.param("lambda:CreateFunction", function("other-new"), id="making functions"),
        pytest.param("lambda:PublishLayerVersion", f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:other-x", id="layers"),
        pytest.param("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/admin", id="passing a role"),
        pytest.param("iam:CreateUser", f"arn:aws:iam::{ACCOUNT}:user/me", id="IAM"),
        pytest.param("iam:PutRolePolicy", f"arn:aws:iam::{ACCOUNT}:role/yo-dawg-Role", id="widening its own role"),
        pytest.param("sts:AssumeRole", f"arn:aws:iam::{ACCOUNT}:role/admin", id="becoming another role"),
        pytest.param("cloudformation:UpdateStack", f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/x/1", id="stacks"),
        pytest.param("logs:PutLogEvents", log("project-to-build"), id="another function's log"),
        pytest.param("logs:PutLogEvents", log("yo-dawg-2"), id="a log that begins alike"),
        pytest.param("logs:CreateLogGroup", f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/x", id="log groups"),
        pytest.param("logs:DeleteLogStream", log("yo-dawg"), id="covering its tracks"),
        pytest.param("secretsmanager:GetSecretValue", secret("database"), id="another secret"),
        pytest.param("secretsmanager:GetSecretValue", secret("git/token-2"), id="a secret that begins alike"),
        pytest.param("secretsmanager:PutSecretValue", secret("git/token"), id="changing the secret"),
        pytest.param("ssm:GetParameter", f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/x", id="parameters"),
        pytest.param("ec2:RunInstances", "*", id="anything else"),
    ],
)
def test_the_role_may_not_do_its_neighbours(action: str, resource: str) -> None:
    assert not allowed(policy(token_secret="git/token"), action, resource)


@pytest.mark.parametrize("action", ["UpdateFunctionCode", "UpdateFunctionConfiguration", "DeleteFunction"])
@pytest.mark.parametrize("suffix", ["", ":live", ":7"])
def test_the_builder_never_changes_itself_not_even_when_all_functions_are_deployable(action: str, suffix: str) -> None:
    statements = policy(deployable_functions=("*",))
    assert allowed(statements, "lambda:UpdateFunctionCode", function("anything"))
    assert not allowed(statements, f"lambda:{action}", function(f"yo-dawg{suffix}"))


def test_the_ban_on_itself_is_explicit() -> None:
    """So no other policy that someone attaches to the role lifts it."""
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    statements = [*policy(), everything]
    assert allowed(statements, "lambda:UpdateFunctionCode", function("somebody-elses"))
    assert not allowed(statements, "lambda:UpdateFunctionCode", function("yo-dawg"))


def test_functions_of_other_regions_and_accounts_are_out_of_reach() -> None:
    """Their ARNs hold wildcards, so this hangs on the statement's condition."""
    action = "lambda:UpdateFunctionCode"
    elsewhere = function("project-to-build", region="us-east-1")
    assert not allowed(policy(), action, elsewhere, aws_RequestedRegion="us-east-1")
    foreign = function("project-to-build", account="999999999999")
    assert not allowed(policy(), action, foreign, aws_ResourceAccount="999999999999")


def test_the_bucket_can_be_listed_below_the_prefix_only() -> None:
    bucket = "arn:aws:s3:::artifacts"
    assert allowed(policy(), "s3:ListBucket", bucket, s3_prefix="yo-dawg/toolchain/python3.13-x86_64.json")
    assert not allowed(policy(), "s3:ListBucket", bucket, s3_prefix="")
    assert not allowed(policy(), "s3:ListBucket", bucket, s3_prefix="other/")
    assert not allowed(policy(), "s3:ListBucket", bucket)


def test_without_a_secret_no_secret_can_be_read() -> None:
    assert not [each for each in policy() if "secretsmanager" in json.dumps(each)]


@pytest.mark.parametrize("name", ["token_secret", "deploy_key_secret", "index_secret"])
def test_a_secret_can_be_named_by_its_arn(name: str) -> None:
    statements = policy(**{name: secret("git", "XyZ123")})
    assert allowed(statements, "secretsmanager:GetSecretValue", secret("git", "XyZ123"))
    assert not allowed(statements, "secretsmanager:GetSecretValue", secret("git", "000000"))
    partial = policy(**{name: secret("git").rpartition("-")[0]})
    assert allowed(partial, "secretsmanager:GetSecretValue", secret("git", "XyZ123"))
    assert not allowed(partial, "secretsmanager:GetSecretValue", secret("git-other", "XyZ123"))


def test_all_secrets_can_be_read_where_all_are_named() -> None:
    statements = policy(token_secret="token", deploy_key_secret="key", index_secret="index")
    for name in ("token", "key", "index"):
        assert allowed(statements, "secretsmanager:GetSecretValue", secret(name))


NAMES = st.text("abcxyz-_09", min_size=1, max_size=8)
PATTERNS = st.text("abcxyz-_09*?", min_size=1, max_size=6)


@given(st.lists(PATTERNS, min_size=1, max_size=5), NAMES)
def test_the_policy_means_by_deployable_what_the_handler_means(patterns: list[str], name: str) -> None:
    """check_deployable() asks fnmatchcase; both must agree, or the one would promise what the other refuses."""
    statements = policy(deployable_functions=tuple(patterns))
    expected = any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns) and name != "yo-dawg"
    for action in ("lambda:UpdateFunctionCode", "lambda:GetFunctionConfiguration", "lambda:InvokeFunction"):
        assert allowed(statements, action, function(name)) == expected


@given(st.text("abyo-dwg/.", max_size=20))
def test_no_key_outside_the_prefix_can_be_touched(key: str) -> None:
    assert allowed(policy(), "s3:GetObject", f"arn:aws:s3:::{BUCKET}/{key}") == key.startswith("yo-dawg/")
    written = key.startswith(
        tuple(f"yo-dawg/{each}/" for each in ("toolchain", "packages", "bundles", "builds", "locks"))
    )
    assert allowed(policy(), "s3:PutObject", f"arn:aws:s3:::{BUCKET}/{key}") == written
    deleted = key.startswith(("yo-dawg/packages/", "yo-dawg/bundles/", "yo-dawg/builds/"))
    assert allowed(policy(), "s3:DeleteObject", f"arn:aws:s3:::{BUCKET}/{key}") == deleted


@pytest.mark.parametrize(
    ("keys", "can"),
    [("yo-dawg:commit,yo-dawg:build", True), ("yo-dawg:commit", True), ("yo-dawg:commit,team", False), ("team", False)],
)
def test_only_its_own_tags_can_be_set(keys: str, can: bool) -> None:
    for name in ("project-to-build", "other-one"):
        assert allowed(policy(), "lambda:TagResource", function(name), aws_TagKeys=keys) == can


QUALIFIERS = st.from_regex(r"\A(\$LATEST|[A-Za-z0-9_-]{1,10})\Z")


@given(
    st.lists(st.text("abc*?", min_size=1, max_size=4), min_size=1, max_size=3), st.text("abc", min_size=1), QUALIFIERS
)
def test_whatever_the_patterns_nothing_that_has_traffic_can_be_invoked(
    patterns: list[str], name: str, qualifier: str
) -> None:
    """A pattern's * and ? fit colons, too: "a*" means "ab:live" as well, and "a?b" means "a:b"."""
    statements = policy(deployable_functions=tuple(patterns))
    deployable = any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    can = allowed(statements, "lambda:InvokeFunction", function(f"{name}:{qualifier}"))
    if qualifier == "$LATEST":
        assert can or not deployable
    else:
        assert not can


@given(
    st.lists(st.text("abc-*", min_size=1, max_size=64), min_size=1, max_size=40),
    st.sampled_from(["", "git", "a-long/name-of-a/secret", secret("key")]),
    st.integers(0, 3),
    st.booleans(),
)
def test_the_size_of_the_policies_is_known_before_iam_refuses_them(
    names: list[str], named: str, keys: int, in_vpc: bool
) -> None:
    kms = tuple(
        f"arn:aws:kms:{REGION}:{ACCOUNT}:key/0000000-0000-0000-0000-00000000000{number}" for number in range(keys)
    )
    changes: dict[str, Any] = {
        "deployable_functions": tuple(names), "token_secret": named, "index_secret": named, "kms_keys": kms,
    }  # fmt: skip
    if in_vpc:
        changes |= {"vpc_subnets": ("subnet-0",), "vpc_security_groups": ("sg-0",)}
    wanted = config(**changes)
    documents = [
        resource["Properties"]["PolicyDocument"]
        for _, resource in Resolver(wanted.parameters("key")).resources()
        if resource["Type"] == "AWS::IAM::Policy"
    ]
    size = sum(len(json.dumps(document, separators=(",", ":"))) for document in documents)
    values = {name: ",".join(value) if isinstance(value, tuple) else str(value) for name, value in vars(wanted).items()}
    assert size <= policy_size(values) <= size + 700


def test_customer_keys_serve_only_what_other_services_hold_under_them() -> None:
    key = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/00000000-0000-0000-0000-000000000000"
    statements = policy(kms_keys=(key,))
    for service in ("s3", "secretsmanager", "lambda"):
        assert allowed(statements, "kms:Decrypt", key, kms_ViaService=f"{service}.{REGION}.amazonaws.com")
        assert allowed(statements, "kms:GenerateDataKey", key, kms_ViaService=f"{service}.{REGION}.amazonaws.com")
    assert not allowed(statements, "kms:Decrypt", key)
    assert not allowed(statements, "kms:Decrypt", key, kms_ViaService=f"ssm.{REGION}.amazonaws.com")
    assert not allowed(statements, "kms:Decrypt", f"{key}1", kms_ViaService=f"s3.{REGION}.amazonaws.com")
    assert not [each for each in policy() if "kms" in json.dumps(each)]


def test_in_a_vpc_lambda_makes_interfaces_and_the_builders_code_does_not() -> None:
    wanted = config(vpc_subnets=("subnet-1", "subnet-2"), vpc_security_groups=("sg-1",))
    resolver = Resolver(wanted.parameters("key"))
    assert allowed(resolver.statements(), "ec2:CreateNetworkInterface", "*")
    ours = {"lambda_SourceFunctionArn": function("yo-dawg")}
    assert not allowed(resolver.statements(), "ec2:CreateNetworkInterface", "*", **ours)
    properties = dict(resolver.resources())["Function"]["Properties"]
    assert properties["VpcConfig"] == {"SubnetIds": ["subnet-1", "subnet-2"], "SecurityGroupIds": ["sg-1"]}
    assert "VpcConfig" not in dict(Resolver(config().parameters("key")).resources())["Function"]["Properties"]


def test_a_permissions_boundary_bounds_the_role() -> None:
    bound = f"arn:aws:iam::{ACCOUNT}:policy/bound"
    resources = dict(Resolver(config(permissions_boundary=bound).parameters("key")).resources())
    assert resources["Role"]["Properties"]["PermissionsBoundary"] == bound
    assert "PermissionsBoundary" not in dict(Resolver(config().parameters("key")).resources())["Role"]["Properties"]


def test_the_network_is_in_the_functions_variables_by_the_names_that_clients_know() -> None:
    wanted = config(
        proxy="http://proxy.example:3128",
        index_url="https://index.example/simple",
        extra_index_url=("https://a.example/simple", "https://b.example/simple"),
        ca_bundle="/opt/ca.pem",
    )
    properties = dict(Resolver(wanted.parameters("key")).resources())["Function"]["Properties"]
    assert properties["Environment"]["Variables"] == wanted.environment()
    assert Settings.from_environ(wanted.environment()).client == {
        name: value for name, value in wanted.network().items() if name != "AWS_CA_BUNDLE"
    }
    assert wanted.network()["NO_PROXY"].split(",")[:2] == ["127.0.0.1", "localhost"]


METHODS = {
    "head_object": "s3:GetObject", "list_objects_v2": "s3:ListBucket", "delete_objects": "s3:DeleteObject",
    "invoke": "lambda:InvokeFunction", "get_layer_version_by_arn": "lambda:GetLayerVersion",
    "get_bucket_encryption": "s3:GetEncryptionConfiguration",
    "get_bucket_lifecycle_configuration": "s3:GetLifecycleConfiguration",
}  # fmt: skip
SERVICES = {"s3": "s3", "functions": "lambda", "secrets": "secretsmanager", "tags": "tag", "iam": "iam"}


def aws_calls() -> set[str]:
    """Return the IAM actions of the AWS calls in the handler and control: the methods of clients that they name."""
    found = set()
    files = [ROOT / "lambda_function.py", *(ROOT / "yo_dawg/control").rglob("*.py")]
    for node in chain.from_iterable(ast.walk(ast.parse(file.read_text())) for file in files):
        match node:
            case (
                ast.Attribute(value=ast.Attribute(attr=client), attr=method)
                | ast.Call(func=ast.Attribute(value=ast.Name(id=client), attr=method))
            ) if client in SERVICES:
                if method in ("exceptions", "meta"):
                    continue
                name = "".join(word.capitalize() for word in method.split("_"))
                found.add(METHODS.get(method, f"{SERVICES[client]}:{name}"))
    return found


def test_the_policy_allows_what_the_code_calls_and_no_more() -> None:
    allows = (each["Action"] for each in policy(token_secret="x", keep_versions="10") if each["Effect"] == "Allow")
    granted = {action for actions in allows for action in listed(actions)}
    not_ours = {"logs:CreateLogStream", "logs:PutLogEvents", "s3:GetObjectVersion"}  # Lambda's, in the role's name
    assert granted - not_ours == aws_calls()


def test_only_lambda_may_take_the_role() -> None:
    trust = TEMPLATE["Resources"]["Role"]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert trust == [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}]


# --- The rest of the template ----------------------------------------------------------------------------------


def test_cfn_lint_finds_nothing() -> None:
    cfn_lint = Path(sys.executable).with_name("cfn-lint")
    templates = [ROOT / "template.yaml", ROOT / "client/function.yaml"]
    ran = subprocess.run([cfn_lint, *templates], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


@pytest.mark.embedded
def test_the_embedded_aws_reads_the_template_as_this_file_does() -> None:
    """Its CloudFormation is moto's; two readings that agree are unlikely to be wrong alike."""
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("lambda_function.py", "# not run\n")
    with EmbeddedAWS(client_environment={}) as aws:
        here = {"AWS::AccountId": aws.account, "AWS::Region": aws.region}
        wanted = config(
            deployment_bucket="template-test",
            architecture="x86_64",
            token_secret="git/token",
            deploy_key_secret=secret("key"),
            index_secret="index",
        )
        parameters = wanted.parameters("yo-dawg/function/0.zip")
        s3, stacks, iam = aws.client("s3"), aws.client("cloudformation"), aws.client("iam")
        s3.create_bucket(Bucket="template-test")
        s3.put_object(Bucket="template-test", Key=parameters["CodeKey"], Body=code.getvalue())
        stacks.create_stack(
            StackName="yo-dawg",
            TemplateBody=(ROOT / "template.yaml").read_text(),
            Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()],
            Capabilities=["CAPABILITY_IAM"],
        )
        [stack] = stacks.describe_stacks(StackName="yo-dawg")["Stacks"]
        outputs = {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}
        role = outputs["RoleArn"].rpartition("/")[2]
        documents = [
            iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
            for name in iam.list_role_policies(RoleName=role)["PolicyNames"]
        ]
        made = aws.client("lambda").get_function_configuration(FunctionName="yo-dawg")
        [group] = aws.client("logs").describe_log_groups(logGroupNamePrefix="/aws/lambda/yo-dawg")["logGroups"]
    found = [statement for document in documents for statement in document["Statement"]]
    for statement in found:
        if statement.get("Sid") == "LookAtItsRole":
            assert statement["Resource"].endswith(f":role/{role}")
            statement["Resource"] = "<Role.Arn>"
    assert sorted(found, key=str) == sorted(Resolver(parameters, here).statements(), key=str)
    arn = function("yo-dawg", region=here["AWS::Region"], account=here["AWS::AccountId"])
    assert (outputs["FunctionName"], outputs["FunctionArn"]) == ("yo-dawg", arn)
    assert made["Environment"]["Variables"] == wanted.environment()
    assert (made["MemorySize"], made["Timeout"], made["Runtime"]) == (1000, 300, "python3.13")
    assert made["EphemeralStorage"] == {"Size": 600}
    assert (group["logGroupName"], group["retentionInDays"]) == ("/aws/lambda/yo-dawg", 90)


def test_the_function_is_what_config_ini_asks_for() -> None:
    wanted = config()
    resources = dict(Resolver(wanted.parameters("yo-dawg/function/0.zip")).resources())
    properties = resources["Function"]["Properties"]
    assert properties["Environment"]["Variables"] == wanted.environment()
    assert properties["Code"] == {"S3Bucket": BUCKET, "S3Key": "yo-dawg/function/0.zip"}
    assert properties["Architectures"] == ["arm64"]
    assert properties["EphemeralStorage"] == {"Size": "600"}
    assert properties["LoggingConfig"] == {"LogGroup": "<LogGroup>"}
    assert properties["Tags"] == [{"Key": "yo-dawg:platform", "Value": "python3.13-arm64"}], "others find it by this"


def test_a_failed_build_is_not_run_again_by_lambda() -> None:
    properties = TEMPLATE["Resources"]["AsynchronousInvocations"]["Properties"]
    assert (properties["FunctionName"], properties["Qualifier"]) == ({"Ref": "Function"}, "$LATEST")
    assert properties["MaximumRetryAttempts"] == 0


# --- Names that must fit: parameters, config.ini.example, environment variables ----------------------------------


def test_deploy_sh_gives_every_parameter_and_no_other() -> None:
    assert set(config().parameters("key")) == set(TEMPLATE["Parameters"])


def test_parameters_are_named_like_the_keys_of_config_ini() -> None:
    keys = {name for section in KEYS.values() for name in section} - {"aws_profile", "aws_region"}
    assert {camel(name) for name in keys} | {"CodeKey"} == set(TEMPLATE["Parameters"])


def camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


def test_defaults_are_the_same_in_the_template_and_in_config_ini() -> None:
    for section in KEYS.values():
        for name, key in section.items():
            declared = TEMPLATE["Parameters"].get(camel(name), {})
            if declared:
                default = declared.get("Default")
                assert (None if default is None else str(default)) == key.default, name


def test_limits_are_the_same_in_the_template_and_in_config_ini() -> None:
    for name, key in KEYS["builder"].items():
        declared = TEMPLATE["Parameters"][camel(name)]
        for limit, beyond in (("MinValue", -1), ("MaxValue", 1)):
            if limit in declared:
                assert key.rule(str(declared[limit])) is None
                assert key.rule(str(declared[limit] + beyond))
        for value in declared.get("AllowedValues", []):
            assert key.rule(value) is None


def test_the_handler_reads_only_variables_that_the_template_sets() -> None:
    class Witness(dict[str, str]):
        asked: ClassVar[set[str]] = set()

        def get(self, name: str, default: Any = None) -> Any:
            self.asked.add(name)
            return super().get(name, default)

    Settings.from_environ(Witness(config().environment()))
    read = {name for name in Witness.asked if name.startswith("YO_DAWG_")}
    assert "YO_DAWG_BASE_URL" in read
    assert read <= set(config().environment())


def test_config_ini_example_names_every_key_and_its_default(tmp_path: Path) -> None:
    example = (ROOT / "config.ini.example").read_text()
    read = Config.read(ROOT / "config.ini.example")
    assert re.findall(r"^(\w+) *=", example, re.MULTILINE) == [name for keys in KEYS.values() for name in keys]
    assert re.findall(r"^\[(\w+)\]", example, re.MULTILINE) == list(KEYS)
    least = tmp_path / "config.ini"
    least.write_text(
        "[aws]\ndeployment_bucket = my-bucket\n[builder]\ndeployable_functions = project-to-build, other-*\n"
        "[git]\nbase_url = https://github.com/my-account\n"
    )
    assert Config.read(least) == read
