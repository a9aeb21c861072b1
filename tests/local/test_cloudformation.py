"""CloudFormation, as `aws cloudformation deploy` uses it: change sets that create, update, fail and are empty."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local.support import Functions, package, refused

pytestmark = pytest.mark.embedded

BUCKET = "cloudformation-packages"

ONE = package({"probe.py": "import os\ndef handler(event, context): return ['one', os.environ['SETTING']]"})
TWO = package({"probe.py": "import os\ndef handler(event, context): return ['two', os.environ['SETTING']]"})

TEMPLATE: dict[str, Any] = {
    "Parameters": {
        "Name": {"Type": "String"},
        "Key": {"Type": "String", "Default": "one.zip"},
        "Memory": {"Type": "Number", "Default": 256},
        "Names": {"Type": "CommaDelimitedList", "Default": "a,b"},
        "Secret": {"Type": "String", "Default": ""},
    },
    "Conditions": {"HasSecret": {"Fn::Not": [{"Fn::Equals": [{"Ref": "Secret"}, ""]}]}},
    "Resources": {
        "Role": {
            "Type": "AWS::IAM::Role",
            "Properties": {
                "AssumeRolePolicyDocument": {
                    "Version": "2012-10-17",
                    "Statement": [
                        {
                            "Effect": "Allow",
                            "Principal": {"Service": "lambda.amazonaws.com"},
                            "Action": "sts:AssumeRole",
                        }
                    ],
                }
            },
        },
        "Log": {
            "Type": "AWS::Logs::LogGroup",
            "Properties": {"LogGroupName": {"Fn::Sub": "/own/${Name}"}, "RetentionInDays": 30},
        },
        "Function": {
            "Type": "AWS::Lambda::Function",
            "Properties": {
                "FunctionName": {"Ref": "Name"},
                "Runtime": "RUNTIME",
                "Handler": "probe.handler",
                "Role": {"Fn::GetAtt": ["Role", "Arn"]},
                "Code": {"S3Bucket": BUCKET, "S3Key": {"Ref": "Key"}},
                "MemorySize": {"Ref": "Memory"},
                "EphemeralStorage": {"Size": 1024},
                "Architectures": ["x86_64"],
                "LoggingConfig": {"LogGroup": {"Ref": "Log"}},
                "Tags": [{"Key": "team", "Value": "yo-dawg"}],
                "Environment": {"Variables": {"SETTING": {"Fn::Join": ["+", {"Ref": "Names"}]}}},
            },
        },
        "Retries": {
            "Type": "AWS::Lambda::EventInvokeConfig",
            "Properties": {"FunctionName": {"Ref": "Function"}, "Qualifier": "$LATEST", "MaximumRetryAttempts": 0},
        },
        "Version": {"Type": "AWS::Lambda::Version", "Properties": {"FunctionName": {"Ref": "Function"}}},
        "Alias": {
            "Type": "AWS::Lambda::Alias",
            "Properties": {
                "FunctionName": {"Ref": "Function"},
                "Name": "live",
                "FunctionVersion": {"Fn::GetAtt": ["Version", "Version"]},
            },
        },
        "Permission": {
            "Type": "AWS::Lambda::Permission",
            "Properties": {
                "FunctionName": {"Ref": "Function"},
                "Action": "lambda:InvokeFunction",
                "Principal": "s3.amazonaws.com",
            },
        },
        "ReadSecret": {
            "Type": "AWS::IAM::Policy",
            "Condition": "HasSecret",
            "Properties": {
                "PolicyName": "secret",
                "Roles": [{"Ref": "Role"}],
                "PolicyDocument": {
                    "Version": "2012-10-17",
                    "Statement": [{"Effect": "Allow", "Action": "*", "Resource": {"Ref": "Secret"}}],
                },
            },
        },
    },
    "Outputs": {"Arn": {"Value": {"Fn::GetAtt": ["Function", "Arn"]}}},
}


class Stack:
    """A stack that is deployed as the AWS CLI does it."""

    def __init__(self, functions: Functions, name: str) -> None:
        self.functions, self.name = functions, name
        self.client = functions.aws.client("cloudformation")
        self.count = 0

    def deploy(self, template: dict[str, Any] | None = None, **parameters: str | None) -> str:
        """Deploy with these parameters (None: the previous value); return the stack's status."""
        self.count += 1
        change_set = f"{self.name}-change-{self.count}"
        answer = self.client.create_change_set(
            StackName=self.name,
            ChangeSetName=change_set,
            ChangeSetType="UPDATE" if self.status() else "CREATE",
            TemplateBody=json.dumps(template or TEMPLATE).replace("RUNTIME", self.functions.runtime),
            Capabilities=["CAPABILITY_IAM"],
            Parameters=[
                {"ParameterKey": key, "UsePreviousValue": True}
                if value is None
                else {"ParameterKey": key, "ParameterValue": value}
                for key, value in parameters.items()
            ],
        )
        made = self.client.describe_change_set(ChangeSetName=answer["Id"])
        if made["Status"] == "FAILED":
            return str(made["StatusReason"])
        self.client.execute_change_set(ChangeSetName=change_set, StackName=self.name)
        return self.status()

    def status(self) -> str:
        try:
            return str(self.client.describe_stacks(StackName=self.name)["Stacks"][0]["StackStatus"])
        except ClientError:
            return ""

    def describe(self) -> Any:
        return self.client.describe_stacks(StackName=self.name)["Stacks"][0]

    def resources(self) -> set[str]:
        found = self.client.list_stack_resources(StackName=self.name)["StackResourceSummaries"]
        return {resource["LogicalResourceId"] for resource in found}

    def reasons(self) -> str:
        events = self.client.describe_stack_events(StackName=self.name)["StackEvents"]
        return "\n".join(event.get("ResourceStatusReason") or "" for event in events)


@pytest.fixture
def stack(functions: Functions, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """A stack, on an AWS where updates take no time."""
    s3 = functions.aws.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    for key, body in {"one.zip": ONE, "two.zip": TWO, "bad.zip": b"no zip"}.items():
        s3.put_object(Bucket=BUCKET, Key=key, Body=body)
    functions.aws.update_seconds = 0
    made = Stack(functions, request.node.name.replace("_", "-"))
    yield made
    if made.status():
        made.client.delete_stack(StackName=made.name)
    functions.aws.update_seconds = 3600


def test_a_stack_makes_all_of_a_function(stack: Stack) -> None:
    assert stack.deploy(Name="whole") == "CREATE_COMPLETE"
    client = stack.functions.client
    function = client.get_function(FunctionName="whole")
    configuration = function["Configuration"]
    assert {
        key: configuration[key] for key in ("MemorySize", "EphemeralStorage", "Architectures", "LoggingConfig")
    } == {
        "MemorySize": 256,
        "EphemeralStorage": {"Size": 1024},
        "Architectures": ["x86_64"],
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": "/own/whole"},
    }
    assert function["Tags"] == {"team": "yo-dawg"}
    assert client.get_function_event_invoke_config(FunctionName="whole")["MaximumRetryAttempts"] == 0
    assert client.get_alias(FunctionName="whole", Name="live")["FunctionVersion"] == "1"
    assert "s3.amazonaws.com" in client.get_policy(FunctionName="whole")["Policy"]
    assert [output["OutputValue"] for output in stack.describe()["Outputs"]] == [configuration["FunctionArn"]]
    assert stack.functions.invoke("whole").payload == ["one", "a+b"]


def test_an_update_changes_code_and_settings_and_keeps_the_function(stack: Stack) -> None:
    stack.deploy(Name="changing")
    assert stack.deploy(Name=None, Key="two.zip", Memory="512", Names="c,d") == "UPDATE_COMPLETE"
    configuration = stack.functions.client.get_function_configuration(FunctionName="changing")
    assert configuration["MemorySize"] == 512
    assert configuration["EphemeralStorage"] == {"Size": 1024}
    assert stack.functions.invoke("changing").payload == ["two", "c+d"]
    versions = stack.functions.client.list_versions_by_function(FunctionName="changing")["Versions"]
    assert [version["Version"] for version in versions] == ["$LATEST", "1"], "it is the same function"


def test_what_leaves_the_template_has_its_default_again(stack: Stack) -> None:
    stack.deploy(Name="shrinking")
    template = json.loads(json.dumps(TEMPLATE))
    for name in ("MemorySize", "EphemeralStorage", "LoggingConfig", "Tags"):
        del template["Resources"]["Function"]["Properties"][name]
    assert stack.deploy(template, Name=None) == "UPDATE_COMPLETE"
    function = stack.functions.client.get_function(FunctionName="shrinking")
    assert function["Configuration"]["MemorySize"] == 128
    assert function["Configuration"]["EphemeralStorage"] == {"Size": 512}
    assert function["Configuration"]["LoggingConfig"]["LogGroup"] == "/aws/lambda/shrinking"
    assert "Tags" not in function


def test_a_parameter_that_is_not_given_has_its_default_again(stack: Stack) -> None:
    stack.deploy(Name="defaults", Memory="512")
    assert stack.deploy(Name="defaults") == "UPDATE_COMPLETE"
    assert stack.functions.client.get_function_configuration(FunctionName="defaults")["MemorySize"] == 256


def test_the_same_again_is_an_empty_change_set(stack: Stack) -> None:
    stack.deploy(Name="same", Names="c,d", Memory="512")
    empty = "The submitted information didn't contain changes. Submit different information to create a change set."
    assert stack.deploy(Name="same", Names="c,d", Memory="512") == empty
    assert stack.deploy(Name=None, Names=None, Memory=None, Key=None) == empty


def test_parameters_are_shown_as_they_were_given(stack: Stack) -> None:
    stack.deploy(Name="shown", Names="c,d")
    shown = {p["ParameterKey"]: p["ParameterValue"] for p in stack.describe()["Parameters"]}
    assert shown == {"Name": "shown", "Key": "one.zip", "Memory": "256", "Names": "c,d", "Secret": ""}


def test_a_new_stack_that_fails_is_rolled_back_and_says_why(stack: Stack) -> None:
    assert stack.deploy(Name="failing", Key="bad.zip") == "ROLLBACK_COMPLETE"
    assert 'Resource handler returned message: "Could not unzip uploaded file.' in stack.reasons()
    names = [f["FunctionName"] for f in stack.functions.client.list_functions()["Functions"]]
    assert "failing" not in names


def test_an_update_that_fails_is_rolled_back_and_says_why(stack: Stack) -> None:
    stack.deploy(Name="surviving")
    assert stack.deploy(Name=None, Key="bad.zip", Memory="512", Names="c,d") == "UPDATE_ROLLBACK_COMPLETE"
    assert 'Resource handler returned message: "Could not unzip uploaded file.' in stack.reasons()
    assert stack.functions.client.get_function_configuration(FunctionName="surviving")["MemorySize"] == 256
    assert stack.functions.invoke("surviving").payload == ["one", "a+b"]
    assert stack.deploy(Name=None, Key="two.zip") == "UPDATE_COMPLETE"


def test_a_condition_decides_in_updates_too(stack: Stack) -> None:
    stack.deploy(Name="conditional")
    assert "ReadSecret" not in stack.resources()
    assert stack.deploy(Name=None, Secret="arn:aws:s3:::one") == "UPDATE_COMPLETE", stack.reasons()
    assert "ReadSecret" in stack.resources()
    assert stack.deploy(Name=None, Secret="arn:aws:s3:::two") == "UPDATE_COMPLETE"
    assert stack.deploy(Name=None, Secret="") == "UPDATE_COMPLETE"
    assert "ReadSecret" not in stack.resources()


def test_a_deleted_stack_takes_its_function_along(stack: Stack) -> None:
    stack.deploy(Name="going")
    stack.client.delete_stack(StackName=stack.name)
    names = [f["FunctionName"] for f in stack.functions.client.list_functions()["Functions"]]
    assert "going" not in names


def test_code_can_stand_in_the_template(stack: Stack) -> None:
    template = json.loads(json.dumps(TEMPLATE))
    properties = template["Resources"]["Function"]["Properties"]
    properties["Code"] = {"ZipFile": "def handler(event, context): return 'inline'"}
    properties["Handler"] = "index.handler"
    assert stack.deploy(template, Name="inline") == "CREATE_COMPLETE"
    assert stack.functions.invoke("inline").payload == "inline"


def test_stacks_without_change_sets_fail_in_the_same_way(stack: Stack) -> None:
    def parameters(key: str) -> list[dict[str, str]]:
        return [{"ParameterKey": "Name", "ParameterValue": "direct"}, {"ParameterKey": "Key", "ParameterValue": key}]

    body = json.dumps(TEMPLATE).replace("RUNTIME", stack.functions.runtime)
    stack.client.create_stack(StackName=stack.name, TemplateBody=body, Parameters=parameters("one.zip"))
    assert stack.status() == "CREATE_COMPLETE"
    stack.client.update_stack(StackName=stack.name, TemplateBody=body, Parameters=parameters("bad.zip"))
    assert stack.status() == "UPDATE_ROLLBACK_COMPLETE"
    with pytest.raises(ClientError, match="No updates are to be performed"):
        stack.client.update_stack(StackName=stack.name, TemplateBody=body, Parameters=parameters("one.zip"))
    assert stack.functions.invoke("direct").payload == ["one", "a+b"]


def test_another_name_is_another_function(stack: Stack) -> None:
    stack.deploy(Name="before")
    assert stack.deploy(Name="after") == "UPDATE_COMPLETE"
    names = [f["FunctionName"] for f in stack.functions.client.list_functions()["Functions"]]
    assert ("before" in names, "after" in names) == (False, True)


def test_layers_are_made_by_stacks_too(stack: Stack) -> None:
    template = json.loads(json.dumps(TEMPLATE))
    content = {"S3Bucket": BUCKET, "S3Key": "two.zip"}
    template["Resources"]["Layer"] = {"Type": "AWS::Lambda::LayerVersion", "Properties": {"Content": content}}
    template["Resources"]["Function"]["Properties"]["Layers"] = [{"Ref": "Layer"}]
    assert stack.deploy(template, Name="layered") == "CREATE_COMPLETE"
    assert len(stack.functions.client.get_function_configuration(FunctionName="layered")["Layers"]) == 1


def test_a_parameter_without_a_value_and_a_default_is_refused(functions: Functions) -> None:
    client = functions.aws.client("cloudformation")
    parameters = {
        "Given": {"Type": "String"},
        "Missing": {"Type": "String"},
        "Usual": {"Type": "String", "Default": ""},
    }
    body = {"Parameters": parameters, "Resources": {"Log": {"Type": "AWS::Logs::LogGroup"}}}
    given = {
        "StackName": "lacks-a-value",
        "TemplateBody": json.dumps(body),
        "Parameters": [{"ParameterKey": "Given", "ParameterValue": "1"}],
    }
    message = (400, "ValidationError", "Parameters: [Missing] must have values")
    assert refused(client.create_change_set, ChangeSetName="first", ChangeSetType="CREATE", **given) == message
    assert refused(client.create_stack, **given) == message
