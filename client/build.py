"""deploy.sh build: have a project built and deployed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from client.answers import summary
from client.faults import Fault
from client.invocation import invoke
from client.main import App


def read_test_event(path: Path | None) -> dict[str, Any]:
    """Return the field of an event that holds the test event of a file."""
    if path is None:
        return {}
    try:
        return {"test_event": json.loads(path.read_bytes())}
    except OSError:
        raise Fault(f"there is no file {path} to read the test event from.") from None
    except ValueError as error:
        raise Fault(f"The test event is not JSON: {error}.") from None


def run(app: App, event: dict[str, Any]) -> dict[str, Any]:
    """Send an event, and show a summary of the answer."""
    given = {name: value for name, value in event.items() if name == "test_event" or value not in (None, False)}
    answer = invoke(app, given)
    if not app.as_json:
        app.screen.rows(summary(answer))
    return answer


@click.command("build")
@click.argument("repo", metavar="REPO")
@click.option("--function", "functions", multiple=True, metavar="F", help="Function to update; may be given again.")
@click.option("--ref", metavar="REF", help="Branch, tag or commit; default: the repository's HEAD.")
@click.option("--subdirectory", metavar="DIR", help="The project's folder inside of the repository.")
@click.option("--publish", is_flag=True, help="Publish a version.")
@click.option("--alias", metavar="ALIAS", help="Publish a version, and point this alias at it.")
@click.option("--test-event", type=click.Path(path_type=Path), metavar="FILE", help="Try the new code with this JSON.")
@click.option("--dry-run", is_flag=True, help="Everything up to the upload; nothing is written anywhere.")
@click.option("--force", is_flag=True, help="Deploy although nothing has changed.")
@click.pass_obj
def command(app: App, /, repo: str, functions: tuple[str, ...], test_event: Path | None, **fields: Any) -> None:
    """Build the project REPO and deploy it to the function of that name, or to those that are given."""
    names = functions or (repo.rpartition("/")[2],)
    function = names[0] if len(names) == 1 else list(names)
    event = {"action": "build", "function": function, "repo_name": repo, **fields, **read_test_event(test_event)}
    _ = app.config
    app.screen.say(f"build {repo}")
    run(app, event)
