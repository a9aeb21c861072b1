"""deploy.sh rollback: put back what a function ran before."""

from __future__ import annotations

from pathlib import Path

import click

from client.build import read_test_event, run
from client.main import App


@click.command("rollback")
@click.argument("function", metavar="FUNCTION")
@click.option("--to", metavar="WHAT", help="Commit, version or digest; default: what the present package replaced.")
@click.option("--alias", metavar="ALIAS", help="Point this alias at it.")
@click.option("--test-event", type=click.Path(path_type=Path), metavar="FILE", help="Try it with this JSON.")
@click.pass_obj
def command(app: App, /, function: str, to: str | None, alias: str | None, test_event: Path | None) -> None:
    """Put back a package that FUNCTION ran before.  Nothing is built."""
    event = {"action": "rollback", "function": function, "to": to, "alias": alias, **read_test_event(test_event)}
    _ = app.config
    app.screen.say(f"roll back {function}")
    run(app, event)
