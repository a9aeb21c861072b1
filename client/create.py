"""deploy.sh create: make a function that this builder can serve, by a small stack of its own, in the user's name."""

from __future__ import annotations

import fnmatch
import json
import re
import sys
from pathlib import Path
from typing import Any

import click

from client import stack
from client.aws import AwsError, code_of, reason
from client.faults import Fault
from client.main import App

TEMPLATE = Path(__file__).with_name("function.yaml")


def stack_name(app: App, function: str) -> str:
    """Return the name of a function's stack; a stack's name holds no underscore, and 128 characters at most."""
    return f"{app.config.stack_name}-{function.replace('_', '-')}"[:128]


def template(env: dict[str, str]) -> str:
    """Return the template, with the function's variables; JSON is YAML."""
    text = TEMPLATE.read_text(encoding="utf-8")
    return re.sub(r"Environment: \{\}.*", lambda _: f"Environment: {json.dumps({'Variables': env})}", text)


def exists(app: App, function: str) -> bool:
    """Say whether there is a function of this name."""
    try:
        app.aws.client("lambda").get_function_configuration(FunctionName=function)
    except AwsError as error:
        if code_of(error) == "ResourceNotFoundException":
            return False
        raise Fault(f"cannot tell whether there is a function {function}: {reason(error)}") from None
    return True


def confirm(question: str, *, yes: bool) -> bool:
    """Ask a question, if somebody is there to answer it and has not done so."""
    return yes or (sys.stdin.isatty() and click.confirm(question, err=True))


def add_to_deployable(app: App, function: str) -> None:
    """Write a function's name into config.ini, where everything else stays as it is."""
    text = app.path.read_text(encoding="utf-8-sig")
    changed, count = re.subn(
        r"^(\s*deployable_functions\s*[=:][^;\n]*?)([ \t]*(?:;.*)?)$",
        lambda match: f"{match[1].rstrip().rstrip(',')}, {function}{match[2]}",
        text,
        count=1,
        flags=re.MULTILINE | re.IGNORECASE,
    )
    if not count:
        raise Fault(f"cannot find deployable_functions in {app.path}: add {function} there yourself.")
    app.path.write_text(changed, encoding="utf-8")
    del app.config
    if not is_deployable(app, function):
        app.path.write_text(text, encoding="utf-8")
        raise Fault(f"cannot add {function} to deployable_functions in {app.path}: do it yourself.")


def is_deployable(app: App, function: str) -> bool:
    """Say whether the builder may update a function, as config.ini says."""
    return any(fnmatch.fnmatchcase(function, pattern) for pattern in app.config.deployable_functions)


def make_deployable(app: App, function: str, *, yes: bool) -> None:
    """See to it that the builder may update a function; a Fault says that it may not."""
    if is_deployable(app, function):
        return
    if not confirm(f"{function} is not in deployable_functions. Add it to {app.path}?", yes=yes):
        raise Fault(
            f"{function} is not in deployable_functions, so the builder could not update it. Add it in {app.path} and "
            'run "./deploy.sh bootstrap", or say --yes to have that done.'
        )
    from client import bootstrap

    add_to_deployable(app, function)
    app.screen.say(f"{function} is now in deployable_functions; let the builder know")
    bootstrap.run(app, quiet=True)


def read_env(context: click.Context, parameter: click.Parameter, pairs: tuple[str, ...]) -> dict[str, str]:
    """Read environment variables that are given as K=V."""
    for pair in pairs:
        if not re.match(r"[A-Za-z][A-Za-z0-9_]+=", pair):
            raise click.BadParameter(
                f"{pair!r} is not NAME=VALUE (a name has two letters or more).", context, parameter
            )
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


def clear(app: App, name: str, function: str) -> None:
    """Take away what is left of a stack of this function that was never created whole; refuse to touch another."""
    left = stack.describe(app.aws, name)
    if left is None or left["StackStatus"] == "REVIEW_IN_PROGRESS":
        return
    ours = stack.parameter(left, "FunctionName") == function
    if not ours or left["StackStatus"] not in stack.NEVER_WHOLE:
        raise Fault(
            f"there is a stack {name} already ({left['StackStatus']}): look at it in the console, or delete it."
        )
    stack.delete(app, left)


@click.command("create")
@click.argument("function", metavar="FUNCTION")
@click.option("--handler", metavar="MODULE.FUNCTION", default="lambda_function.lambda_handler", show_default=True)
@click.option("--memory", metavar="MB", type=click.IntRange(128, 10240), default=512, show_default=True)
@click.option("--timeout", metavar="SECONDS", type=click.IntRange(1), default=30, show_default=True)
@click.option("--env", metavar="K=V", multiple=True, callback=read_env, help="A variable; may be given again.")
@click.option("--role", metavar="ARN", default="", help="Run with this role; default: one that may write its log.")
@click.option("--from", "repo", metavar="REPO", help="Build this project at once.")
@click.option("-y", "--yes", is_flag=True, help="Add it to deployable_functions without asking.")
@click.pass_obj
def command(app: App, /, function: str, repo: str | None, yes: bool, env: dict[str, str], **asked: Any) -> None:
    """Make the function FUNCTION, which this builder can serve, with a role and a log group.

    It is a small CloudFormation stack of its own.  `delete` takes it away.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", function):
        raise click.UsageError("FUNCTION is 1 to 64 letters, digits, - and _.")
    if function == app.config.function_name:
        raise Fault(f"{function} is the builder itself.")
    if exists(app, function):
        raise Fault(
            f'there is a function {function} already. Build it: "./deploy.sh build REPO --function {function}".'
        )
    make_deployable(app, function, yes=yes)
    app.screen.say(f"create {function}")
    parameters = {
        "FunctionName": function,
        "Runtime": app.config.runtime,
        "Architecture": app.config.architecture,
        "Handler": asked["handler"],
        "MemorySize": str(asked["memory"]),
        "Timeout": str(asked["timeout"]),
        "RoleArn": asked["role"],
    }
    name = stack_name(app, function)
    clear(app, name, function)
    stack.deploy(app, name, template(env), parameters, {"yo-dawg": app.config.function_name}, temporary=True)
    made = app.aws.client("lambda").get_function_configuration(FunctionName=function)
    if repo:
        from client import build

        app.screen.say(f"build {repo}")
        build.run(app, {"action": "build", "function": function, "repo_name": repo})
        return
    told = {"status": "created", "function": function, "function_arn": made["FunctionArn"], "stack": name}
    if app.as_json:
        app.screen.answer(told)
        return
    app.screen.rows([*told.items(), ("role", made["Role"]), ("log", f"/aws/lambda/{function}")])
    app.screen.say(f'next: "./deploy.sh build REPO --function {function}"')
