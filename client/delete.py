"""deploy.sh delete: take away a function that `create` has made."""

from __future__ import annotations

import click

from client import create, stack
from client.faults import Fault
from client.main import App


@click.command("delete")
@click.argument("function", metavar="FUNCTION")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def command(app: App, /, function: str, yes: bool) -> None:
    """Delete the function FUNCTION, with its role and its log, if `create` has made it.

    What was built stays in the bucket.
    """
    name = create.stack_name(app, function)
    found = stack.describe(app.aws, name)
    if found is None or stack.parameter(found, "FunctionName") != function:
        why = "was not made by create: delete it where it was made" if create.exists(app, function) else "is not there"
        raise Fault(f"the function {function} {why} (there is no stack {name} of it).")
    if found["StackStatus"].endswith("_IN_PROGRESS"):
        raise Fault(f"the stack {name} is being changed just now ({found['StackStatus']}). Wait, then run this again.")
    if not create.confirm(f"Delete the function {function}, its role and its log?", yes=yes):
        raise Fault(f"nothing was deleted. Say --yes to delete {function} without being asked.")
    app.screen.say(f"delete {function}")
    stack.delete(app, found)
    told = {"status": "deleted", "function": function, "stack": name}
    if app.as_json:
        app.screen.answer(told)
    else:
        app.screen.rows(told.items())
