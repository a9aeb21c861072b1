"""What the real Lambda API was recorded to answer (November 2025 to February 2026), fact by fact.

Each test states one fact that a builder may rely on. local/README.md says which recordings these are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from local.lambda_account import CONCURRENCY_LIMIT
from tests.local.support import Functions, configuration, package, refused

pytestmark = pytest.mark.embedded

CODE = package({"probe.py": "def handler(event, context): return context.aws_request_id"})
OTHER = package({"probe.py": "def handler(event, context): return 2"})

INVALID = "InvalidParameterValueException"


@pytest.fixture
def name(functions: Functions, name: str) -> Iterator[str]:
    """An active function."""
    with functions.active(name, CODE):
        yield name


def creation(functions: Functions, name: str, **settings: Any) -> dict[str, Any]:
    """Return what CreateFunction takes."""
    return {
        "FunctionName": name,
        "Runtime": functions.runtime,
        "Handler": "probe.handler",
        "Role": functions.role,
        "Code": {"ZipFile": CODE},
    } | settings


# --- versions ---


def test_a_changed_description_gives_a_new_version(functions: Functions, name: str) -> None:
    client = functions.client
    assert client.publish_version(FunctionName=name)["Version"] == "1"
    client.update_function_configuration(FunctionName=name, Description="another")
    functions.aws.finish_updates()
    assert client.publish_version(FunctionName=name)["Version"] == "2"


def test_the_description_of_a_version_alone_gives_no_new_one(functions: Functions, name: str) -> None:
    first = functions.client.publish_version(FunctionName=name, Description="one")
    again = functions.client.publish_version(FunctionName=name, Description="another")
    assert (again["Version"], again["Description"]) == ("1", "one")
    assert again["RevisionId"] == first["RevisionId"]


def test_publishing_changes_the_revision_of_latest(functions: Functions, name: str) -> None:
    before = configuration(functions, name)["RevisionId"]
    functions.client.publish_version(FunctionName=name)
    after = configuration(functions, name)["RevisionId"]
    assert after != before
    assert refused(functions.client.update_function_code, FunctionName=name, ZipFile=OTHER, RevisionId=before)[0] == 412


def test_an_alias_changes_no_revision_of_the_function(functions: Functions, name: str) -> None:
    functions.client.publish_version(FunctionName=name)
    before = configuration(functions, name)["RevisionId"]
    functions.client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    assert configuration(functions, name)["RevisionId"] == before


def test_a_version_is_active_as_soon_as_it_is_published(functions: Functions, name: str) -> None:
    made = functions.client.publish_version(FunctionName=name)
    assert (made["State"], made["LastUpdateStatus"]) == ("Active", "Successful")
    functions.aws.finish_updates()
    later = functions.client.get_function_configuration(FunctionName=name, Qualifier="1")
    assert later["RevisionId"] == made["RevisionId"]
    assert functions.invoke(name, Qualifier="1").raw["ExecutedVersion"] == "1"


def test_a_version_that_comes_with_new_code_is_pending(functions: Functions, name: str) -> None:
    made = functions.client.update_function_code(FunctionName=name, ZipFile=OTHER, Publish=True)
    assert (made["Version"], made["State"]) == ("1", "Pending")


def test_a_function_made_with_a_version_answers_without_it_in_the_arn(functions: Functions) -> None:
    made = functions.client.create_function(**creation(functions, "published-at-once", Publish=True))
    assert made["FunctionArn"].endswith(":function:published-at-once")
    assert made["Version"] == "1"
    functions.aws.finish_updates()
    functions.client.delete_function(FunctionName="published-at-once")


def test_lists_do_not_say_what_state_a_function_is_in(functions: Functions, name: str) -> None:
    functions.client.publish_version(FunctionName=name)
    listed = functions.client.list_versions_by_function(FunctionName=name)["Versions"]
    listed += [each for each in functions.client.list_functions()["Functions"] if each["FunctionName"] == name]
    assert len(listed) == 3
    for entry in listed:
        assert not {"State", "LastUpdateStatus", "RuntimeVersionConfig"} & entry.keys()


def test_a_function_asked_for_by_an_alias_has_it_in_its_arn(functions: Functions, name: str, arn: str) -> None:
    functions.client.publish_version(FunctionName=name)
    functions.client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    found = functions.client.get_function(FunctionName=name, Qualifier="live")["Configuration"]
    assert (found["FunctionArn"], found["Version"]) == (f"{arn}:live", "1")


# --- aliases ---


@pytest.mark.parametrize("weight", [2.0, -1.0])
def test_the_share_of_a_version_is_between_nought_and_one(functions: Functions, name: str, weight: float) -> None:
    functions.client.publish_version(FunctionName=name)
    client = functions.aws.client("lambda", parameter_validation=False)  # boto3 itself would refuse one of them
    assert refused(
        client.create_alias, FunctionName=name, Name="live", FunctionVersion="1",
        RoutingConfig={"AdditionalVersionWeights": {"2": weight}},
    ) == (
        400,
        "ValidationException",
        f"1 validation error detected: Value '{{2={weight}}}' at 'routingConfig.additionalVersionWeights' failed to "
        "satisfy constraint: Map value must satisfy constraint: [Member must have value less than or equal to 1.0, "
        "Member must have value greater than or equal to 0.0, Member must not be null]",
    )  # fmt: skip


def test_an_alias_that_is_missing_is_told_in_other_words_by_each_call(
    functions: Functions, name: str, arn: str
) -> None:
    asked = {"FunctionName": name, "Name": "none"}
    assert refused(functions.client.get_alias, **asked)[2] == f"Cannot find alias arn: {arn}:none"
    assert refused(functions.client.update_alias, **asked)[2] == f"Alias not found: {arn}:none"


# --- names ---


def test_the_message_about_a_missing_function_ends_as_the_call_wants(functions: Functions, arn: str) -> None:
    client, none = functions.client, f"Function not found: {arn.rpartition(':')[0]}:none"
    asked: dict[str, Any] = {"FunctionName": "none"}
    assert refused(client.get_function, **asked)[2] == none
    assert refused(client.invoke, **asked)[2] == f"{none}:$LATEST"
    assert refused(client.put_function_concurrency, ReservedConcurrentExecutions=1, **asked)[2] == f"{none}:$LATEST"
    assert refused(client.create_alias, Name="live", FunctionVersion="1", **asked)[2] == f"{none}:1"
    assert refused(client.delete_function, Qualifier="3", **asked)[2] == none
    assert refused(client.delete_function, Qualifier="$LATEST", **asked)[1] == INVALID


def test_a_name_has_no_more_than_64_characters(functions: Functions) -> None:
    long = "a" * 65
    assert refused(functions.client.create_function, **creation(functions, long)) == (
        400,
        INVALID,
        f"1 validation error detected: Value '{long}' at 'functionName' failed to satisfy constraint: "
        "Member must have length less than or equal to 64",
    )
    assert refused(functions.client.get_function, FunctionName=long)[1] == "ResourceNotFoundException"


# --- layers ---


def test_a_layer_that_is_missing_is_a_missing_resource(functions: Functions) -> None:
    missing = (404, "ResourceNotFoundException", "The resource you requested does not exist.")
    arn = f"arn:aws:lambda:us-east-1:{functions.aws.account}:layer:none:1"
    assert refused(functions.client.get_layer_version_by_arn, Arn=arn) == missing
    assert refused(functions.client.get_layer_version, LayerName="none", VersionNumber=1) == missing


@pytest.mark.parametrize("operation", ["get_layer_version", "delete_layer_version"])
@pytest.mark.parametrize("number", [0, -1])
def test_a_layers_version_is_at_least_one(functions: Functions, operation: str, number: int) -> None:
    answer = refused(getattr(functions.client, operation), LayerName="none", VersionNumber=number)
    assert answer == (400, INVALID, "Layer Version Cannot be less than 1")


def test_a_layer_of_another_region_is_refused_before_the_name_is_looked_at(functions: Functions, name: str) -> None:
    layer = f"arn:aws:lambda:eu-west-1:{functions.aws.account}:layer:none:1"
    assert refused(functions.client.create_function, **creation(functions, name, Layers=[layer])) == (
        400,
        INVALID,
        "Layers are not in the same region as the function. Layers are expected to be in region us-east-1.",
    )


# --- tags ---


@pytest.mark.parametrize("qualifier", ["$LATEST", "1", "live"])
@pytest.mark.parametrize("operation", ["tag_resource", "untag_resource", "list_tags"])
def test_versions_and_aliases_have_no_tags(functions: Functions, arn: str, qualifier: str, operation: str) -> None:
    more: dict[str, Any] = {"tag_resource": {"Tags": {"a": "b"}}, "untag_resource": {"TagKeys": ["a"]}}
    assert refused(getattr(functions.client, operation), Resource=f"{arn}:{qualifier}", **more.get(operation, {})) == (
        400,
        INVALID,
        "Tags on function aliases and versions are not supported. Please specify a function ARN.",
    )


def test_no_tags_and_too_many_tags_are_refused(functions: Functions, name: str, arn: str) -> None:
    tag = functions.client.tag_resource
    assert refused(tag, Resource=arn, Tags={}) == (
        400, INVALID, "An error occurred and the request cannot be processed.",
    )  # fmt: skip
    limit = (400, INVALID, "Number of tags exceeds resource tag limit.")
    assert refused(tag, Resource=arn, Tags={f"k{n}": "v" for n in range(51)}) == limit
    tag(Resource=arn, Tags={f"k{n}": "v" for n in range(50)})
    assert refused(tag, Resource=arn, Tags={"one": "more"}) == limit
    tag(Resource=arn, Tags={"k1": "another"})
    tags = {f"k{n}": "v" for n in range(51)}
    assert refused(functions.client.create_function, **creation(functions, "tagged", Tags=tags)) == limit


def test_tags_change_the_revision_of_the_function(functions: Functions, name: str, arn: str) -> None:
    seen = [configuration(functions, name)["RevisionId"]]
    functions.client.tag_resource(Resource=arn, Tags={"a": "b"})
    seen.append(configuration(functions, name)["RevisionId"])
    functions.client.untag_resource(Resource=arn, TagKeys=["a"])
    seen.append(configuration(functions, name)["RevisionId"])
    assert len(set(seen)) == 3


# --- runtimes ---


@pytest.mark.parametrize("old", ["java8", "go1.x", "provided", "ruby2.7", "nodejs14.x", "dotnetcore3.1"])
def test_old_runtimes_are_refused(functions: Functions, old: str) -> None:
    status, kind, message = refused(functions.client.create_function, **creation(functions, "old", Runtime=old))
    assert (status, kind) == (400, INVALID)
    assert message.startswith(f"The runtime parameter of {old} is no longer supported for creating or updating")


def test_each_architecture_has_a_version_of_the_runtime_of_its_own(functions: Functions, name: str) -> None:
    before = configuration(functions, name)["RuntimeVersionConfig"]
    functions.client.update_function_code(FunctionName=name, ZipFile=CODE, Architectures=["arm64"])
    assert configuration(functions, name)["RuntimeVersionConfig"] != before


# --- concurrency ---


def test_reserved_concurrency_is_a_functions_own_and_leaves_some_to_the_others(
    functions: Functions, name: str, arn: str
) -> None:
    put = functions.client.put_function_concurrency
    assert refused(put, FunctionName=f"{arn}:$LATEST", ReservedConcurrentExecutions=1) == (
        400,
        INVALID,
        "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. "
        "Please specify either a function name or an unqualified function ARN.",
    )
    assert refused(put, FunctionName=name, ReservedConcurrentExecutions=CONCURRENCY_LIMIT - 99) == (
        400,
        INVALID,
        "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below "
        "its minimum value of [100].",
    )


# --- events ---


def test_an_events_destination_must_be_one(functions: Functions, name: str, arn: str) -> None:
    put = functions.client.put_function_event_invoke_config

    def answer(destination: str) -> str:
        config = {"OnFailure": {"Destination": destination}}
        return refused(put, FunctionName=name, DestinationConfig=config)[2]

    assert answer(arn) == "You can't specify the function as a destination for itself."
    assert answer(f"{arn}-none") == f"The destination ARN {arn}-none is invalid."
    elsewhere = arn.replace(":lambda:", ":iam:")
    assert answer(elsewhere) == (
        f"The provided destination config DestinationConfig(onSuccess=null, onFailure=OnFailure(destination={elsewhere}"
        ")) is invalid."
    )


def test_a_function_without_an_event_invoke_config_has_none_even_if_it_is_missing(
    functions: Functions, arn: str
) -> None:
    none = arn.rpartition(":")[0] + ":none"
    for qualifier, shown in ((None, "$LATEST"), ("7", "7")):
        asked = {"FunctionName": "none"} | ({"Qualifier": qualifier} if qualifier else {})
        assert refused(functions.client.get_function_event_invoke_config, **asked) == (
            404,
            "ResourceNotFoundException",
            f"The function {none}:{shown} doesn't have an EventInvokeConfig",
        )


# --- invoke ---


def test_each_answer_of_invoke_has_the_id_of_its_invocation(functions: Functions, name: str) -> None:
    reply = functions.invoke(name)
    headers = reply.raw["ResponseMetadata"]["HTTPHeaders"]
    assert headers["x-amzn-requestid"] == reply.payload
    event = functions.client.invoke(FunctionName=name, InvocationType="Event")
    assert re.fullmatch(r"[0-9a-f-]{36}", event["ResponseMetadata"]["RequestId"])
    functions.aws.wait_for_events()


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        (
            b"\x99\xeb",
            "Unexpected character ((CTRL-CHAR, code 153)): expected a valid value (JSON String, Number, Array, Object "
            "or token 'null', 'true' or 'false')",
        ),
        (b"n\x87r", "Invalid UTF-8 start byte 0x87"),
    ],
)
def test_what_is_no_text_is_refused_in_awss_words(
    functions: Functions, name: str, payload: bytes, problem: str
) -> None:
    status, kind, message = refused(functions.client.invoke, FunctionName=name, Payload=payload)
    assert (status, kind) == (400, "InvalidRequestContentException")
    start = "Could not parse request body into json: Could not parse payload into json: "
    assert message.startswith(f"{start}{problem}\n at [Source: ")
