"""What keeps a function from running: limits of concurrency, inactivity; and layers of other accounts."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from local.aws import EmbeddedAWS
from local.lambda_invoke import ACCOUNT_REACHED, RESERVED_REACHED
from tests.local.support import Functions, configuration, package, refused

pytestmark = pytest.mark.embedded

OTHERS = "999999999999"


@pytest.fixture
def narrow(functions: Functions) -> Iterator[Functions]:
    """An account as AWS makes new ones, but for two invocations at a time."""
    functions.aws.wait_for_events()  # which others may have left
    account = functions.aws.api.account
    before, account.concurrency = account.concurrency, 2 + account.reserved()
    yield functions
    account.concurrency = before


def reasons(functions: Functions, name: str, count: int) -> list[str | None]:
    """Invoke a function so often at a time; return why it was refused, or None."""

    def invoke(_: int) -> ClientError | None:
        try:
            functions.invoke(name, {"code": "time.sleep(3)"})
        except ClientError as error:
            return error
        return None

    with ThreadPoolExecutor(count) as pool:
        answers = [error and error.response for error in pool.map(invoke, range(count))]
    for answer in filter(None, answers):
        assert answer["Error"] == {"Code": "TooManyRequestsException", "Message": "Rate Exceeded."}
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 429
    return [answer and answer["Reason"] for answer in answers]


def test_an_account_runs_so_many_at_a_time(narrow: Functions, name: str) -> None:
    narrow.create(name)
    assert sorted(reasons(narrow, name, 3), key=str) == [ACCOUNT_REACHED, None, None]
    assert narrow.ask(name, "answer = 1") == 1


def test_a_function_runs_as_often_as_is_reserved_for_it(functions: Functions, name: str) -> None:
    functions.create(name)
    functions.client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    assert sorted(reasons(functions, name, 2), key=str) == [None, RESERVED_REACHED]
    functions.client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    assert reasons(functions, name, 1) == [RESERVED_REACHED]


def test_an_event_waits_for_its_turn(functions: Functions, name: str) -> None:
    functions.create(name)
    functions.client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    for _ in range(3):
        answer = functions.client.invoke(
            FunctionName=name, InvocationType="Event", Payload=json.dumps({"code": "time.sleep(0.2)"}).encode()
        )
        assert answer["StatusCode"] == 202
    functions.aws.wait_for_events()
    assert len(functions.aws.environments(name)) == 1


def test_an_inactive_function_is_brought_back_by_an_invocation_that_fails(functions: Functions, name: str) -> None:
    functions.create(name)
    functions.aws.api.deactivate(name)
    seen = configuration(functions, name)
    assert (seen["State"], seen["StateReasonCode"]) == ("Inactive", "Idle")
    status, kind, _ = refused(functions.client.invoke, FunctionName=name)
    assert (status, kind) == (502, "ResourceNotReadyException")
    seen = configuration(functions, name)
    assert (seen["State"], seen["StateReasonCode"]) == ("Pending", "Restoring")
    assert refused(functions.client.invoke, FunctionName=name)[1] == "ResourceConflictException"
    functions.aws.finish_updates()
    assert configuration(functions, name)["State"] == "Active"
    assert functions.ask(name, "answer = 1") == 1


def test_an_update_takes_as_long_as_it_is_set_to(functions: Functions, name: str) -> None:
    with EmbeddedAWS(update_seconds=0) as aws:
        other = Functions(aws, functions.runtime)
        other.create(name)
        aws.update_seconds = 1.5
        began = time.monotonic()
        other.client.update_function_code(FunctionName=name, ZipFile=package({"probe.py": "x = 1"}))
        while configuration(other, name)["LastUpdateStatus"] == "InProgress":
            time.sleep(0.05)
        assert 1.4 < time.monotonic() - began < 15


# --- layers of others ---


def test_a_layer_that_another_account_shares_can_be_used(functions: Functions, name: str) -> None:
    arn = functions.aws.api.share_layer(OTHERS, "tools", package({"python/tool.py": "name = 'theirs'"}))
    assert arn == f"arn:aws:lambda:us-east-1:{OTHERS}:layer:tools:1"
    found = functions.client.get_layer_version_by_arn(Arn=arn)
    assert (found["LayerVersionArn"], found["Version"]) == (arn, 1)
    functions.create(name, Layers=[arn])
    assert configuration(functions, name)["Layers"] == [{"Arn": arn, "CodeSize": found["Content"]["CodeSize"]}]
    assert functions.ask(name, "import tool; answer = tool.name") == "theirs"
    assert "tools" not in [layer["LayerName"] for layer in functions.client.list_layers()["Layers"]]


def test_a_layer_that_another_account_does_not_share_is_not_even_said_to_be_missing(functions: Functions) -> None:
    arn = f"arn:aws:lambda:us-east-1:{OTHERS}:layer:closed:1"
    assert refused(functions.client.get_layer_version_by_arn, Arn=arn) == (
        403,
        "AccessDeniedException",
        f"User: arn:aws:iam::{functions.aws.account}:user/operator is not authorized to perform: "
        f"lambda:GetLayerVersion on resource: {arn} because no resource-based policy allows the "
        "lambda:GetLayerVersion action",
    )
