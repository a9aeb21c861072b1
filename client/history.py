"""deploy.sh history: a function's ledger as a table."""

from __future__ import annotations

import json
from typing import Any

import click

from client.answers import history_row
from client.aws import AwsError, code_of, reason
from client.faults import Fault
from client.main import App

COLUMNS = ("when", "status", "commit", "ref", "version", "code", "asked for by", "what")


def read_ledger(app: App, function: str) -> dict[str, Any]:
    """Return what a function's ledger says."""
    bucket, key = app.config.deployment_bucket, f"{app.config.function_name}/locks/{function.rpartition(':')[2]}"
    try:
        ledger: dict[str, Any] = json.loads(app.aws.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())
    except AwsError as error:
        if code_of(error) in ("NoSuchKey", "404"):
            raise Fault(f"nothing was built for {function} yet: there is no s3://{bucket}/{key}.") from None
        raise Fault(f"cannot read s3://{bucket}/{key}: {reason(error)}") from None
    return ledger


@click.command("history")
@click.argument("function", metavar="FUNCTION")
@click.pass_obj
def command(app: App, function: str) -> None:
    """Show who builds FUNCTION now, and its last builds, the newest first."""
    ledger = read_ledger(app, function)
    if app.as_json:
        app.screen.answer(ledger)
        return
    running = [ledger["holder"]] if ledger.get("holder") else []
    app.screen.table(COLUMNS, [history_row(entry) for entry in [*running, *ledger["history"]]])
