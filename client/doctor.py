"""deploy.sh doctor: what is missing or wrong, here and in AWS; it changes nothing."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator

import click

from client import bucket, function, stack
from client.aws import AwsError, reason
from client.faults import Fault
from client.invocation import invoke
from client.main import App

WELL, NOTE, WRONG = "ok", "--", "!!"
"""How it is: as it should be; not there yet, but bootstrap makes it; wrong."""

Finding = tuple[str, str, str]


def examine(app: App) -> Iterator[Finding]:
    """Yield what is found, as it is found; what cannot be looked at without something else comes after that."""
    yield WELL, "python", f"{platform.python_version()} at {sys.executable}"
    try:
        yield WELL, "config", str(app.path) if app.config else ""
    except Fault as fault:
        for line in str(fault).splitlines():
            yield WRONG, "config", line
        return
    try:
        region = app.aws.region
    except Fault as fault:
        yield WRONG, "identity", " ".join(str(fault).split())
        return
    yield WELL, "region", region
    identity = list(look_at_identity(app))
    yield from identity
    if identity[-1][0] == WELL:
        yield from look_at_bucket(app)
        yield from look_at_stack(app)
        yield from look_at_secrets(app)


def look_at_identity(app: App) -> Iterator[Finding]:
    """Find out who we are."""
    try:
        found = app.aws.quick("sts").get_caller_identity()
    except AwsError as error:
        advice = 'run "aws configure" or "aws sso login", or set AWS_PROFILE'
        if "connect" in str(error):
            advice = "is the network up, is AWS_ENDPOINT_URL right?"
        yield WRONG, "identity", f"{reason(error)}; {advice}"
    else:
        yield WELL, "identity", f"account {found['Account']}, {found['Arn']}"


def look_at_bucket(app: App) -> Iterator[Finding]:
    """Look at the bucket."""
    name = app.config.deployment_bucket
    try:
        problem = bucket.check(app)
    except bucket.Missing:
        yield NOTE, "bucket", f'{name} is not there yet; "./deploy.sh bootstrap" makes it'
    except Fault as fault:
        yield WRONG, "bucket", str(fault)
    else:
        yield (
            (WRONG, "bucket", problem)
            if problem
            else (
                WELL,
                "bucket",
                f"{name}, in {app.aws.region}, closed to the public",
            )
        )


def look_at_stack(app: App) -> Iterator[Finding]:
    """Look at the stack, and at what is in it."""
    name = app.config.stack_name
    try:
        found = stack.describe(app.aws, name)
    except Fault as fault:
        yield WRONG, "stack", str(fault)
        return
    if found is None or found["StackStatus"] == "REVIEW_IN_PROGRESS":
        yield NOTE, "stack", f'{name} is not there yet; "./deploy.sh bootstrap" makes it'
    elif problem := stack.ours_or_advice(app, found):
        yield WRONG, "stack", problem
    else:
        yield WELL, "stack", f"{name}, {found['StackStatus']}"
        yield from look_at_function(app)


def look_at_function(app: App) -> Iterator[Finding]:
    """Compare the function with config.ini; if it is right, ask it what it is like inside of Lambda."""
    try:
        found = list(function.differences(app.config, None, function.look(app)))
    except Fault as fault:
        yield WRONG, "function", " ".join(str(fault).split())
        return
    for line in found:
        yield WRONG, "function", f'{line}; run "./deploy.sh bootstrap"'
    if found:
        return
    yield WELL, "function", f"{app.config.function_name} is as {app.path} asks"
    try:
        answer = invoke(app, {"action": "doctor"}, quiet=True)
    except Fault as fault:
        yield WRONG, "inside", str(fault)
        return
    for each in answer.get("findings", []):
        mark = {True: WELL, False: WRONG}.get(each["ok"], NOTE)  # what it was not allowed to look at
        yield mark, each["name"].replace(" ", "-"), " ".join(each["says"].split())


def look_at_secrets(app: App) -> Iterator[Finding]:
    """See whether the secrets are there, not what they are."""
    for name in app.config.secrets:
        try:
            found = app.aws.quick("secretsmanager").describe_secret(SecretId=name)
        except AwsError as error:
            make = (
                f"aws secretsmanager create-secret --region {app.aws.region} --name {name} --secret-string file://FILE"
            )
            yield WRONG, "secret", f"{name}: {reason(error)}; make it with: {make}"
        else:
            yield WELL, "secret", found["ARN"]


@click.command("doctor")
@click.pass_context
def command(context: click.Context) -> None:
    """Say what is missing or wrong, here and in AWS, by asking the function too; change nothing."""
    app: App = context.obj
    found = []
    for finding in examine(app):
        found.append(finding)
        if not app.as_json:
            app.screen.finding(*finding)
    sick = any(mark == WRONG for mark, _, _ in found)
    if app.as_json:
        told = [{"mark": mark, "name": name, "says": says} for mark, name, says in found]
        app.screen.answer({"status": "problems" if sick else "ok", "findings": told})
    context.exit(1 if sick else 0)
