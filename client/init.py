"""deploy.sh init: ask what config.ini needs, check each answer, and write it."""

from __future__ import annotations

import os
import re
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from client.aws import Aws, AwsError, code_of, connect, reason
from client.config import Config
from client.config_file import KEYS, value_fault
from client.config_whole import is_ssh, ssh_host
from client.faults import ConfigFault, Fault
from client.main import CHECKOUT, App
from yo_dawg.host_keys import PUBLISHED_HOST_KEYS

EXAMPLE = CHECKOUT / "config.ini.example"

SECTION = {key: section for section, keys in KEYS.items() for key in keys}


@dataclass(frozen=True)
class Question:
    """A question for a key of config.ini, and the option that answers it beforehand."""

    key: str
    option: str
    text: str
    default: str | None = None


def answer(question: Question, given: str | None) -> str:
    """Return an answer that config.ini takes: the one that was given, or what somebody says."""
    key = KEYS[SECTION[question.key]][question.key]
    if given is not None:
        if fault := value_fault(given, key):
            raise click.UsageError(f"{question.option} {fault}")
        return given
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question.option} is needed, since nobody can be asked.")
    while True:
        said: str = click.prompt(question.text, default=question.default, err=True)
        if not (fault := value_fault(said, key)):
            return said
        click.echo(f"  That {fault}.", err=True)


def written(values: Mapping[str, str]) -> str:
    """Return config.ini.example with these values."""
    text = EXAMPLE.read_text(encoding="utf-8")
    text = re.sub(r"\A(?:;.*\n)+", "; yo-dawg's settings; config.ini.example explains them.\n", text)
    for key, value in values.items():
        told = value.replace("\n", "\n    ").replace("\\", r"\\")
        line = rf"^{key} =[^;\n]*(?:;(?: <--)?(.*))?$"
        note = re.search(line, text, re.MULTILINE)
        after = f"  ;{note[1]}" if note and note[1] else ""
        text = re.sub(line, f"{key} = {told}{after}", text, flags=re.MULTILINE)
    return text


def store(aws: Aws, name: str, content: str) -> str:
    """Store a secret, or a new version of it; say what was done."""
    client = aws.client("secretsmanager")
    try:
        client.create_secret(Name=name, SecretString=content, Description="For yo-dawg: how it reads the Git host")
    except AwsError as error:
        if code_of(error) != "ResourceExistsException":
            raise Fault(f"could not store the secret {name}: {reason(error)}") from None
    else:
        return f"stored the secret {name}"
    try:
        client.put_secret_value(SecretId=name, SecretString=content)
    except AwsError as error:
        raise Fault(f"could not change the secret {name}: {reason(error)}") from None
    return f"stored a new version of the secret {name}"


def read_secret(private: str) -> str:
    """Read a token without showing it, or a key from its file; from standard input where nobody can be asked."""
    if not sys.stdin.isatty():
        content = sys.stdin.read()
    elif private == "token":
        content = click.prompt("Token (it is not shown)", hide_input=True, err=True)
    else:
        path = click.prompt("File of the private key", err=True, type=click.Path(exists=True, dir_okay=False))
        content = Path(str(path)).read_text(encoding="utf-8")
    content = content.strip() + ("\n" if private == "key" else "")
    if not content.strip() or (private == "key" and "-----BEGIN" not in content):
        raise Fault("that is no private key, as ssh-keygen writes it." if private == "key" else "the token is empty.")
    return content


@click.command("init")
@click.option("--bucket", metavar="NAME", help="The deployment bucket; bootstrap makes it if it is missing.")
@click.option("--region", metavar="REGION", help="Default: AWS_REGION, or us-east-1.")
@click.option("--base-url", metavar="URL", help="Where the repositories are: https://HOST/ACCOUNT, git@HOST:ACCOUNT.")
@click.option("--functions", metavar="NAMES", help="Names or patterns of the functions that may be updated.")
@click.option("--private", type=click.Choice(["no", "token", "key"]), help="How private repositories are read.")
@click.option("--secret", metavar="NAME", help="The secret that holds the token or the key.")
@click.option("--known-hosts", metavar="LINE|FILE", help="Host keys, for SSH to a host whose keys are not built in.")
@click.option("--store/--no-store", default=None, help="Store the token or key, read from standard input, in it.")
@click.option("--force", is_flag=True, help="Write over a config.ini that is there.")
@click.pass_obj
def command(
    app: App,
    /,
    bucket: str | None,
    region: str | None,
    base_url: str | None,
    functions: str | None,
    private: str | None,
    secret: str | None,
    known_hosts: str | None,
    store: bool | None,
    force: bool,
) -> None:
    """Ask what config.ini needs, and write it.  Where nobody can be asked, options say it.

    A token or a key is read without being shown, and stored in Secrets Manager; it never stands in config.ini.
    """
    if app.path.exists() and not force:
        raise Fault(f"{app.path} is there already. Change it with an editor, or say --force to write it anew.")
    here = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    suggested = f"yo-dawg-{secrets.token_hex(4)}"
    values = {"aws_region": answer(Question("aws_region", "--region", "Region"), region or here)}
    bucket_question = Question("deployment_bucket", "--bucket", "Bucket, made if it is missing", suggested)
    values["deployment_bucket"] = answer(bucket_question, bucket)
    url_question = Question("base_url", "--base-url", "Repositories are at (https://HOST/ACCOUNT, git@HOST:ACCOUNT)")
    values["base_url"] = answer(url_question, base_url)
    functions_question = Question("deployable_functions", "--functions", "Functions that may be updated (api, web-*)")
    values["deployable_functions"] = answer(functions_question, functions)
    if private is None:
        private = "key" if is_ssh(values["base_url"]) else "no"
        if private == "no" and sys.stdin.isatty():
            private = "token" if click.confirm("Are the repositories private?", default=False, err=True) else "no"
    if private != "no":
        key = {"token": "token_secret", "key": "deploy_key_secret"}[private]
        name = f"yo-dawg/git-{private}"
        given = secret if secret or sys.stdin.isatty() else name
        values[key] = answer(Question(key, "--secret", f"Secret that holds the {private}", name), given)
        if is_ssh(values["base_url"]) and ssh_host(values["base_url"]) not in PUBLISHED_HOST_KEYS:
            host = ssh_host(values["base_url"])
            text = f"Host key of {host} (what ssh-keyscan {host} prints, or a file)"
            values["known_hosts"] = answer_hosts(Question("known_hosts", "--known-hosts", text), known_hosts, app.path)
    draft = app.path.with_name(f".{app.path.name}.new")
    draft.write_text(written(values), encoding="utf-8")
    try:
        config = Config.read(draft)
        if private != "no" and wants_to_store(store, values):
            app.screen.say(keep(connect(config), values, private))
        draft.replace(app.path)
    except ConfigFault as fault:
        raise Fault(str(fault).replace(str(draft), str(app.path))) from None
    finally:
        draft.unlink(missing_ok=True)
    app.screen.say(f'wrote {app.path}; next: "./deploy.sh bootstrap"')


def answer_hosts(question: Question, given: str | None, path: Path) -> str:
    """Return known hosts; a file, given or named, is put into config.ini by its path."""
    if given and os.path.isfile(given):
        return os.path.relpath(given, path.parent)
    return answer(question, given)


def wants_to_store(store: bool | None, values: Mapping[str, str]) -> bool:
    """Say whether the secret is to be stored now."""
    if store is not None or not sys.stdin.isatty():
        return bool(store)
    name = values.get("token_secret") or values.get("deploy_key_secret")
    return click.confirm(f"Store the secret {name} now?", default=True, err=True)


def keep(aws: Aws, values: Mapping[str, str], private: str) -> str:
    """Read the token or key and store it; say what was done."""
    return store(aws, values["token_secret" if private == "token" else "deploy_key_secret"], read_secret(private))
