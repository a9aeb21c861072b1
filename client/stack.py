"""CloudFormation stacks, changed by change sets: what is wanted, its events while it works, and why it failed."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from client.aws import Aws, AwsError, code_of, reason
from client.faults import Fault
from client.main import App
from client.screen import Stages, plain

PAUSE = 1.0
"""Seconds between two looks at a stack that is being changed."""

NEVER_WHOLE = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED")


def describe(aws: Aws, name: str) -> dict[str, Any] | None:
    """Return a stack; None if there is none of this name."""
    try:
        [found] = aws.client("cloudformation").describe_stacks(StackName=name)["Stacks"]
    except AwsError as error:
        if code_of(error) == "ValidationError" and "does not exist" in str(error):
            return None
        raise Fault(f"cannot look at the stack {name}: {reason(error)}") from None
    return dict(found)


def parameter(stack: Mapping[str, Any], name: str) -> str | None:
    """Return the value of a stack's parameter."""
    return next((each["ParameterValue"] for each in stack.get("Parameters", []) if each["ParameterKey"] == name), None)


def advice(stack: Mapping[str, Any], region: str) -> str:
    """Say what is to be done about a stack that cannot be updated in this state; nothing if it can."""
    status, name = stack["StackStatus"], stack["StackName"]
    if status in NEVER_WHOLE:
        return (
            f"the stack {name} was never created whole ({status}), and cannot be updated. Delete it, then run this "
            f"again: aws cloudformation delete-stack --region {region} --stack-name {name}"
        )
    if status == "UPDATE_ROLLBACK_FAILED":
        return (
            f"the last update of the stack {name} could not be rolled back. Look at it in the console, and run: "
            f"aws cloudformation continue-update-rollback --region {region} --stack-name {name}"
        )
    if status.endswith("_IN_PROGRESS") and status != "REVIEW_IN_PROGRESS":
        return f"the stack {name} is being changed just now ({status}). Wait, then run this again."
    return ""


def ours_or_advice(app: App, stack: Mapping[str, Any] | None) -> str:
    """Say what is wrong with the builder's stack, if anything is."""
    if stack is None or stack["StackStatus"] == "REVIEW_IN_PROGRESS":
        return ""
    owner = parameter(stack, "FunctionName")
    if problem := advice(stack, app.aws.region):
        return problem
    if owner != app.config.function_name:
        return (
            f"there is a stack {stack['StackName']} that is not this builder's (its function is: {owner}). Choose "
            f"another function_name in {app.path}."
        )
    return ""


def deploy(
    app: App,
    name: str,
    template: str,
    parameters: Mapping[str, str],
    tags: Mapping[str, str],
    *,
    temporary: bool = False,
) -> bool:
    """Create or update a stack; say whether anything was changed.  A Fault says why it failed.

    Of a temporary one nothing is left if it cannot be created.
    """
    stacks = app.aws.client("cloudformation")
    there = describe(app.aws, name)
    new = there is None or there["StackStatus"] == "REVIEW_IN_PROGRESS"
    change = f"yo-dawg-{int(time.time() * 1000)}"
    try:
        made = stacks.create_change_set(
            StackName=name,
            ChangeSetName=change,
            ChangeSetType="CREATE" if new else "UPDATE",
            TemplateBody=template,
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
            Capabilities=["CAPABILITY_IAM"],
            **({"OnStackFailure": "DELETE"} if new and temporary else {}),
        )
        reviewed = review(stacks, made["Id"], made["StackId"])
        if reviewed["Status"] == "FAILED":
            if is_empty(reviewed):
                stacks.delete_change_set(ChangeSetName=made["Id"], StackName=made["StackId"])
                return False
            why = list(refusals(stacks, reviewed))
            if new:  # an empty stack is there now, waiting for another change set
                stacks.delete_stack(StackName=made["StackId"])
            raise Fault(failed(name, "\n".join(why)))
        since = {event["EventId"] for event in events(stacks, made["StackId"])}
        stacks.execute_change_set(ChangeSetName=made["Id"], StackName=made["StackId"])
        with Stages(app.screen) as stages:
            final = watch(stacks, made["StackId"], since, stages)
    except AwsError as error:
        raise Fault(failed(name, reason(error))) from None
    if final not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        told = [event for event in events(stacks, made["StackId"]) if event["EventId"] not in since]
        raise Fault(failed(name, "\n".join(failures(told))))
    return True


def delete(app: App, found: Mapping[str, Any]) -> None:
    """Delete a stack; a Fault says why it failed."""
    stacks, name = app.aws.client("cloudformation"), found["StackName"]
    try:
        since = {event["EventId"] for event in events(stacks, found["StackId"])}
        stacks.delete_stack(StackName=found["StackId"])
        with Stages(app.screen) as stages:
            final = watch(stacks, found["StackId"], since, stages)
    except AwsError as error:
        raise Fault(f"the stack {name} could not be deleted: {reason(error)}") from None
    if final != "DELETE_COMPLETE":
        told = [event for event in events(stacks, found["StackId"]) if event["EventId"] not in since]
        raise Fault(f"the stack {name} could not be deleted:\n{plain(chr(10).join(failures(told)))}")


def failed(name: str, why: str) -> str:
    """Say that a stack could not be changed, and why."""
    return f"the stack {name} could not be created or updated:\n{plain(why)}"


def review(stacks: Any, change_set: str, stack: str) -> dict[str, Any]:
    """Wait until a change set is made; return what it is."""
    while True:
        found: dict[str, Any] = stacks.describe_change_set(ChangeSetName=change_set, StackName=stack)
        if found["Status"] in ("CREATE_COMPLETE", "FAILED"):
            return found
        time.sleep(PAUSE)


def is_empty(change_set: Mapping[str, Any]) -> bool:
    """Say whether a change set failed only because there is nothing to change."""
    why = change_set.get("StatusReason", "")
    return re.search("didn't contain changes|No updates are to be performed", why) is not None


def refusals(stacks: Any, change_set: Mapping[str, Any]) -> Iterator[str]:
    """Say why a change set could not be made.  What early validation finds stands in no event of the stack."""
    found = []
    if hasattr(stacks, "describe_events"):
        try:
            told = stacks.describe_events(ChangeSetName=change_set["ChangeSetId"], Filters={"FailedEvents": True})
        except AwsError:  # not allowed to, or an AWS that does not know it
            told = {}
        for event in told.get("OperationEvents", []):
            why = (
                event.get("ValidationStatusReason")
                or event.get("ResourceStatusReason")
                or event.get("HookStatusReason")
            )
            if why:
                what = " ".join(filter(None, (event.get("LogicalResourceId"), event.get("PhysicalResourceId"))))
                found.append(f"{what or event.get('ValidationPath') or 'the template'}: {why}")
    yield from dict.fromkeys(found)
    yield change_set.get("StatusReason") or "CloudFormation gives no reason."
    if "EarlyValidation::ResourceExistenceCheck" in change_set.get("StatusReason", ""):
        yield (
            "Something of the same name is there already, outside of the stack: delete it, or choose another name. "
            "A log group, for one, stays behind when a function is deleted by hand."
        )


def events(stacks: Any, stack: str) -> list[dict[str, Any]]:
    """Return the last events of a stack, the oldest first; none if they may not be read."""
    try:
        found: list[dict[str, Any]] = stacks.describe_stack_events(StackName=stack)["StackEvents"]
    except AwsError:
        return []
    return found[::-1]


def watch(stacks: Any, stack: str, since: set[str], stages: Stages) -> str:
    """Show each resource as it is made or changed, until the stack is done; return the state that it is in."""
    seen, began = set(since), dict[str, float]()
    while True:
        status = state(stacks, stack)
        for event in events(stacks, stack):
            if event["EventId"] not in seen:
                seen.add(event["EventId"])
                show(event, began, stages)
        if not status.endswith("_IN_PROGRESS") or status.endswith("_CLEANUP_IN_PROGRESS"):
            # What is left after an update, the removal of what was replaced, nobody need wait for.
            return status.replace("_CLEANUP_IN_PROGRESS", "").replace("UPDATE_COMPLETE_", "UPDATE_COMPLETE")
        time.sleep(PAUSE)


def state(stacks: Any, stack: str) -> str:
    """Return the state that a stack is in, also if it is gone."""
    try:
        return str(stacks.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"])
    except AwsError as error:
        if "does not exist" in str(error):
            return "DELETE_COMPLETE"
        raise


def show(event: Mapping[str, Any], began: dict[str, float], stages: Stages) -> None:
    """Show what an event says of a resource."""
    name, status = event["LogicalResourceId"], event["ResourceStatus"]
    if is_stack(event):
        return
    label = f"      {name} …"
    if status.endswith("_IN_PROGRESS"):
        began.setdefault(name, event["Timestamp"].timestamp())
        stages.begin(label)
    elif status.endswith("_COMPLETE"):
        stages.end(label, f"{event['Timestamp'].timestamp() - began.get(name, event['Timestamp'].timestamp()):.1f}")


def failures(told: list[dict[str, Any]]) -> list[str]:
    """Return why a stack failed: the first reasons, without those that only follow from them."""
    found: list[str] = []
    for event in told:
        why = str(event.get("ResourceStatusReason", ""))
        followed = re.match("Resource (creation|update) cancelled", why)
        if event.get("ResourceStatus", "").endswith("_FAILED") and why and not followed:
            found.append(f"{event.get('LogicalResourceId')}: {why}")
    return found[:5] or ["CloudFormation gives no reason."]


def is_stack(event: Mapping[str, Any]) -> bool:
    """Say whether an event is about the stack itself, not about a resource in it."""
    return event.get("ResourceType") == "AWS::CloudFormation::Stack"
