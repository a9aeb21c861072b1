"""The command line: which command is run, and how one ends.

Exit status: 0 done, 1 failed, 2 wrong usage.  Who interrupts a command sees it end by that signal.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from client.config import Config
from client.faults import Fault

if TYPE_CHECKING:
    from client.aws import Aws
    from client.screen import Screen

CHECKOUT = Path(__file__).resolve().parent.parent

COMMANDS = {
    "bootstrap": "Create or update everything in AWS, then make the toolchain (the default).",
    "init": "Ask what config.ini needs, and write it.",
    "create": "Make a function that this builder can serve.",
    "delete": "Delete a function that create has made.",
    "build": "Build a project and deploy it.",
    "rollback": "Put back a package that was deployed before.",
    "history": "Show who builds a function now, and its last builds.",
    "report": "Write a page about the package of a function, its build and its history.",
    "sbom": "Print what a function runs as a CycloneDX document.",
    "doctor": "Say what is missing or wrong, here and in AWS; change nothing.",
    "local": "The whole thing on this machine, without an AWS account.",
    "test": "Set up and run the test suite.",
    "help": "Show this, or the help of a command.",
}
"""Each command with its help; it lies in the module of its name, which is imported only when it is run."""


@dataclass
class App:
    """What the options before the command say, and what follows from them."""

    path: Path
    as_json: bool = False
    embedded: Aws | None = None
    """The account to use whatever the environment says, if this is `local`."""
    quiet: bool = False
    """The answers in between are not printed: only the last one counts."""

    @property
    def is_local(self) -> bool:
        """Say whether it all takes place on this machine, and ends with us."""
        return self.embedded is not None

    @cached_property
    def screen(self) -> Screen:
        """What people see."""
        from client.screen import Screen

        return Screen(as_json=self.as_json and not self.quiet)

    @cached_property
    def config(self) -> Config:
        """What config.ini says; a ConfigFault says what is wrong with it."""
        return Config.read(self.path)

    @cached_property
    def aws(self) -> Aws:
        """The account."""
        from client.aws import connect

        return self.embedded or connect(self.config)


class Commands(click.Group):
    """The commands, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name in ("help", "test"):
            return {"help": show_help, "test": run_tests}[cmd_name]
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"client.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-c", "--config", metavar="FILE", help="Read this file instead of config.ini.")
@click.option("--json", "as_json", is_flag=True, help="Print the raw answer, and nothing else, on standard output.")
@click.pass_context
def cli(context: click.Context, config: str | None, as_json: bool) -> None:
    """Build and deploy Lambda functions inside of Lambda.

    Settings come from config.ini (see config.ini.example); the AWS environment variables (AWS_PROFILE, AWS_REGION,
    AWS_ENDPOINT_URL, ...) count more.  Exit status: 0 done, 1 failed, 2 wrong usage.
    """
    context.obj = App(Path(config) if config else CHECKOUT / "config.ini", as_json)
    if context.invoked_subcommand is None:
        context.invoke(importlib.import_module("client.bootstrap").command)


@click.command("help")
@click.argument("name", metavar="[COMMAND]", required=False)
@click.pass_context
def show_help(context: click.Context, name: str | None) -> None:
    """Show the help of deploy.sh, or of a command."""
    parent = context.parent or context
    found = cli.get_command(parent, name) if name else cli
    if found is None:
        raise click.UsageError(f"No such command {name!r}.", parent)
    click.echo(found.get_help(parent if found is cli else click.Context(found, parent, name)))


@click.command("test", context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[PYTEST ARGUMENTS]...")
def run_tests(arguments: tuple[str, ...]) -> NoReturn:
    """Set up and run the test suite."""
    os.chdir(CHECKOUT)
    os.environ.pop("PYTHONPATH", None)
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *arguments])  # noqa: S606  # our own interpreter


def end_by(number: int) -> NoReturn:
    """End as who is interrupted does, so that who started this knows."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    raise SystemExit(128 + number)  # where the signal is blocked


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run deploy.sh's command."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # no character is worth a traceback
    try:
        status: Any = cli.main(arguments, prog_name="./deploy.sh", standalone_mode=False)
    except click.ClickException as error:
        if isinstance(error, click.UsageError):  # an option before the command
            error.ctx = error.ctx or click.Context(cli, info_name="./deploy.sh", help_option_names=["-h", "--help"])
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        end_by(signal.SIGINT)
    except Fault as fault:
        complain(fault)
        sys.exit(1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        from client.aws import AwsError, reason

        if not isinstance(error, AwsError):
            raise
        complain(Fault(reason(error)))
        sys.exit(1)
    sys.exit(status if isinstance(status, int) else 0)


def complain(fault: Fault) -> None:
    """Say why a command failed."""
    from client.faults import BuilderFault, ConfigFault
    from client.screen import Screen

    ours = not isinstance(fault, BuilderFault | ConfigFault)
    Screen().complain(f"deploy.sh: {fault}" if ours else str(fault))
