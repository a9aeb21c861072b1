"""deploy.sh bootstrap: make what is missing in AWS, change what differs, and have the toolchain made."""

from __future__ import annotations

from typing import Any

import click

from client import bucket, function, stack
from client.answers import summary
from client.aws import AwsError, reason
from client.faults import Fault
from client.invocation import invoke
from client.main import CHECKOUT, App
from client.package import Package, package


def run(app: App, *, quiet: bool = False) -> dict[str, Any]:
    """Do it all, in the order in which one thing needs the other; return the builder's answer."""
    config, aws, screen = app.config, app.aws, app.screen
    screen.say(f"account {aws.account}, region {aws.region}, function {config.function_name}")
    changed = bucket.ensure(app)
    code = package(tell=screen.say)
    changed |= upload(app, code)
    if problem := stack.ours_or_advice(app, stack.describe(aws, config.stack_name)):
        raise Fault(problem)
    screen.say(f"create or update the stack {config.stack_name}")
    parameters = config.parameters(function.code_key(config, code))
    tags = {"yo-dawg": config.function_name}
    changed |= stack.deploy(
        app, config.stack_name, (CHECKOUT / "template.yaml").read_text(encoding="utf-8"), parameters, tags
    )
    changed |= function.settle(app, code)
    if not changed:
        screen.say("bucket, code, stack and function are as they should be: nothing was changed")
    screen.say('invoke "bootstrap"')
    return invoke(app, {"action": "bootstrap"}, quiet=quiet)


def run_and_tell(app: App) -> None:
    """Do it all, and show a summary."""
    answer = run(app)
    if not app.as_json:
        app.screen.rows(summary(answer))


def upload(app: App, code: Package) -> bool:
    """Upload the builder's code, unless these bytes are there; say whether they were not."""
    key, s3 = function.code_key(app.config, code), app.aws.client("s3")
    try:
        stored = s3.head_object(**bucket.owned(app), Key=key, ChecksumMode="ENABLED").get("ChecksumSHA256")
    except AwsError:
        stored = None
    # Its name alone proves nothing: whoever may write there could have put something else.
    if stored == code.sha256:
        return False
    app.screen.say(f"upload the builder's code to s3://{app.config.deployment_bucket}/{key}")
    try:
        s3.put_object(
            **bucket.owned(app),
            Key=key,
            Body=code.content,
            ChecksumSHA256=code.sha256,
            ContentType="application/zip",
        )
    except AwsError as error:
        raise Fault(f"could not upload the builder's code: {reason(error)}") from None
    return True


@click.command("bootstrap")
@click.pass_obj
def command(app: App) -> None:
    """Create or update everything in AWS: bucket, stack, code, toolchain.  What is as it should be is left alone."""
    run_and_tell(app)
