"""create and delete: a function in a small stack of its own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from client import create
from client.config import Config
from local.aws import EmbeddedAWS
from tests.support.answers import BUILT
from tests.support.fake_aws import Desk, Refusal, invoked

MISSING = Refusal("ResourceNotFoundException", "Function not found", 404)
NO_STACK = Refusal("ValidationError", "Stack with id x does not exist")
MADE = {"FunctionName": "other-one", "FunctionArn": "arn:function", "Role": "arn:role", "State": "Active"}


def described(status: str) -> dict[str, Any]:
    parameters = [{"ParameterKey": "FunctionName", "ParameterValue": "other-one"}]
    name = "yo-dawg-other-one"
    return {"Stacks": [{"StackName": name, "StackId": "id", "StackStatus": status, "Parameters": parameters}]}


@pytest.fixture
def desk(desk: Desk) -> Desk:
    desk.aws.replies = {
        "lambda.GetFunctionConfiguration": [MISSING, MADE],
        "cloudformation.DescribeStacks": [NO_STACK, NO_STACK, described("CREATE_COMPLETE")],
        "cloudformation.CreateChangeSet": {"Id": "change", "StackId": "id"},
        "cloudformation.DescribeChangeSet": {"Status": "CREATE_COMPLETE"},
        "cloudformation.DescribeStackEvents": {"StackEvents": []},
        "lambda.Invoke": invoked(BUILT),
    }
    return desk


def test_a_function_is_made_that_this_builder_can_serve(desk: Desk) -> None:
    ran = desk.deploy(
        "create", "other-one", "--memory", "256", "--env", "AA=1=2", "--env", "BB=${x}", "--handler", "m.h"
    )
    assert ran.status == 0, ran.error
    assert ran.out.splitlines()[:2] == ["status        created", "function      other-one"]
    call = desk.aws.call("cloudformation.CreateChangeSet")
    assert (call["StackName"], call["OnStackFailure"]) == ("yo-dawg-other-one", "DELETE")
    assert {each["ParameterKey"]: each["ParameterValue"] for each in call["Parameters"]} == {
        "FunctionName": "other-one", "Runtime": "python3.13", "Architecture": "x86_64", "Handler": "m.h",
        "MemorySize": "256", "Timeout": "30", "RoleArn": "",
    }  # fmt: skip
    assert 'Environment: {"Variables": {"AA": "1=2", "BB": "${x}"}}\n' in call["TemplateBody"]
    assert not desk.aws.operations("lambda").count("lambda.Invoke")


def test_it_can_be_built_at_once(desk: Desk) -> None:
    ran = desk.deploy("create", "other-one", "--from", "group/project")
    assert ran.status == 0, ran.error
    event = {"action": "build", "function": "other-one", "repo_name": "group/project"}
    assert desk.aws.call("lambda.Invoke").event == event
    assert "status        deployed\n" in ran.out


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["nobody-may"], 1, "nobody-may is not in deployable_functions, so the builder could not update it."),
        (["yo-dawg"], 1, "yo-dawg is the builder itself"),
        (["a b"], 2, "1 to 64 letters"),
        (["other-one", "--env", "x"], 2, "'x' is not NAME=VALUE"),
        (["other-one", "--memory", "1"], 2, "is not in the range"),
    ],
)
def test_what_cannot_be_made_is_refused_in_words(desk: Desk, arguments: list[str], status: int, said: str) -> None:
    ran = desk.deploy("create", *arguments)
    assert (ran.status, ran.out) == (status, "")
    assert said in ran.error
    assert "cloudformation.CreateChangeSet" not in desk.aws.operations()


def test_what_is_left_of_a_stack_that_was_never_whole_is_taken_away_first(desk: Desk) -> None:
    left = [described("ROLLBACK_COMPLETE"), described("DELETE_COMPLETE"), NO_STACK, described("CREATE_COMPLETE")]
    desk.aws.replies["cloudformation.DescribeStacks"] = left
    ran = desk.deploy("create", "other-one")
    assert ran.status == 0, ran.error
    changes = [each.split(".")[1] for each in desk.aws.operations("cloudformation") if "Describe" not in each]
    assert changes == ["DeleteStack", "CreateChangeSet", "ExecuteChangeSet"]
    desk.aws.replies |= {
        "cloudformation.DescribeStacks": described("CREATE_COMPLETE"),
        "lambda.GetFunctionConfiguration": MISSING,
    }
    assert "there is a stack yo-dawg-other-one already" in desk.deploy("create", "other-one").error


def test_what_exists_is_not_made_again(desk: Desk) -> None:
    desk.aws.replies["lambda.GetFunctionConfiguration"] = MADE
    ran = desk.deploy("create", "other-one")
    assert ran.status == 1
    assert (
        'there is a function other-one already. Build it: "./deploy.sh build REPO --function other-one".' in ran.error
    )


def test_a_name_is_added_to_config_ini_if_that_is_wanted(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    text = desk.config.read_text().replace("other-*", "other-* ; mine")
    desk.config.write_text(text)
    told: list[tuple[str, ...]] = []
    monkeypatch.setattr("client.bootstrap.run", lambda app, quiet: told.append(app.config.deployable_functions))
    ran = desk.deploy("create", "new-one", "--yes")
    assert ran.status == 0, ran.error
    assert desk.config.read_text() == text.replace("other-* ; mine", "other-*, new-one ; mine")
    assert told == [("project-to-build", "other-*", "new-one")]
    assert Config.read(desk.config).deployable_functions == told[0]


# --- delete --------------------------------------------------------------------------------------------------


def test_what_create_has_made_is_deleted_after_asking(desk: Desk) -> None:
    desk.aws.replies["cloudformation.DescribeStacks"] = [described("CREATE_COMPLETE")]
    ran = desk.deploy("delete", "other-one")
    assert ran.status == 1
    assert "nothing was deleted. Say --yes" in ran.error
    assert "cloudformation.DeleteStack" not in desk.aws.operations()
    desk.aws.replies["cloudformation.DescribeStacks"] = [described("CREATE_COMPLETE"), described("DELETE_COMPLETE")]
    ran = desk.deploy("--json", "delete", "other-one", "--yes")
    assert (ran.status, json.loads(ran.out)["status"]) == (0, "deleted"), ran.error
    assert desk.aws.call("cloudformation.DeleteStack")["StackName"] == "id"


@pytest.mark.parametrize(("function", "said"), [(MADE, "was not made by create"), (MISSING, "is not there")])
def test_what_create_has_not_made_is_left_alone(desk: Desk, function: object, said: str) -> None:
    desk.aws.replies |= {"cloudformation.DescribeStacks": NO_STACK, "lambda.GetFunctionConfiguration": function}
    ran = desk.deploy("delete", "other-one", "--yes")
    assert ran.status == 1
    assert f"the function other-one {said}" in ran.error
    assert "cloudformation.DeleteStack" not in desk.aws.operations()


def test_the_stacks_name_fits_cloudformation(desk: Desk) -> None:
    from client.main import App

    name = create.stack_name(App(desk.config), "a_b" * 40)
    assert name.startswith("yo-dawg-a-ba-b")
    assert len(name) <= 128


@pytest.mark.embedded
def test_a_function_comes_and_goes_on_the_embedded_aws(
    account: EmbeddedAWS, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    environ = dict(account.environ)
    desk.config.write_text(desk.config.read_text().replace("aws_profile = from-config", ""))
    made = desk.deploy("--json", "create", "other-one", "--env", "COLOUR=blue", "--timeout", "7", **environ)
    assert made.status == 0, made.error
    functions, logs = account.client("lambda"), account.client("logs")
    found = functions.get_function_configuration(FunctionName="other-one")
    assert json.loads(made.out)["function_arn"] == found["FunctionArn"]
    assert (found["Environment"]["Variables"], found["Timeout"], found["MemorySize"]) == ({"COLOUR": "blue"}, 7, 512)
    assert len(logs.describe_log_groups(logGroupNamePrefix="/aws/lambda/other-one")["logGroups"]) == 1
    gone = desk.deploy("delete", "other-one", "--yes", **environ)
    assert gone.status == 0, gone.error
    with pytest.raises(functions.exceptions.ResourceNotFoundException):
        functions.get_function_configuration(FunctionName="other-one")
