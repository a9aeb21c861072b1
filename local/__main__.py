"""What "./deploy.sh local" runs: yo-dawg's whole story on this machine.

Usage: python -m local [--keep] [REPO]

REPO is the name of a folder in examples/ (default: hello) or the path of a project of yours.
Starts the embedded AWS and a Git server, installs yo-dawg into the one with deploy.sh and has it
build REPO from the other, then invokes what was built and prints its answer.  With --keep it goes
on serving until it is interrupted.
"""

from __future__ import annotations

import argparse
import configparser
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from local.aws import EmbeddedAWS
from local.git_server import GitServer, make_repository
from local.runtimes import available
from yo_dawg.settings import CLIENT_VARIABLES

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
BUCKET = "yo-dawg-local"
BUILDER = "yo-dawg"


def say(text: str) -> None:
    """Tell on stderr what happens next; stdout is for answers."""
    print(f"-----> {text}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str]) -> int:
    """Run the story; return the exit status."""
    parser = argparse.ArgumentParser(prog="./deploy.sh local", description="The whole thing on this machine.")
    parser.add_argument("--keep", action="store_true", help="go on serving until interrupted")
    parser.add_argument("repo", nargs="?", default="hello", metavar="REPO", help="an example's name, or a folder")
    options = parser.parse_args(arguments)
    project = find_project(options.repo)
    if project is None:
        names = ", ".join(sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir()))
        print(f"local: there is no project {options.repo!r}: give a folder, or one of {names}", file=sys.stderr)
        return 2
    with (
        tempfile.TemporaryDirectory(prefix="yo-dawg-local-") as scratch,
        GitServer(Path(scratch)) as git,
        EmbeddedAWS(client_environment=client_environment()) as aws,
    ):
        say(f"an embedded AWS at {aws.endpoint}, a Git host at {git.url}")
        make_repository(project, Path(scratch, f"{project.name}.git"))
        config = write_config(Path(scratch, "config.ini"), git.url, project.name)
        make_function(aws, project)
        environ = client_environ(os.environ, aws)
        for step in (["bootstrap"], ["build", project.name]):
            command = ["bash", str(ROOT / "deploy.sh"), "-c", str(config), *step]
            status = subprocess.run(command, env=environ, check=False).returncode  # noqa: S603
            if status != 0:
                return status
        say(f"aws lambda invoke --function-name {project.name}")
        answer, failed = invoke(aws, project)
        print(json.dumps(answer, indent=2), flush=True)
        if options.keep:
            keep_serving(aws, git.url)
        return 1 if failed else 0


def without_own_account(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without anything that would lead to the user's own AWS account."""
    return {name: value for name, value in environ.items() if not name.startswith("AWS_")}


def client_environ(environ: Mapping[str, str], aws: EmbeddedAWS) -> dict[str, str]:
    """Return an environment in which nothing leads to the user's own AWS account, or to the real AWS at all.

    The AWS CLI of our own virtualenv comes first: who knows what another does, or what wraps it.
    """
    kept = without_own_account(environ)
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
    return {**kept, **aws.environ, "PATH": path}


def find_project(name: str) -> Path | None:
    """Return the folder of a project, or None."""
    for path in (EXAMPLES / name, Path(name)):
        if path.is_dir():
            return path.resolve()
    return None


def client_environment() -> dict[str, str]:
    """Return how this machine's package clients are set up: the sandboxed ones need the same.

    In AWS none of this is set, and the public index is used.
    """
    found = {name: os.environ[name] for name in CLIENT_VARIABLES if os.environ.get(name)}
    for option, variable in (("index-url", "PIP_INDEX_URL"), ("extra-index-url", "PIP_EXTRA_INDEX_URL")):
        if variable not in found:
            command = [sys.executable, "-m", "pip", "config", "get", f"global.{option}"]
            answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
            # Folders of this machine cannot be seen from inside of the sandbox.
            value = " ".join(url for url in answer.stdout.split() if not url.startswith("file:"))
            if answer.returncode == 0 and value:
                found[variable] = value
    return found


def write_config(path: Path, base_url: str, function: str) -> Path:
    """Write a config.ini for a builder of this machine's own runtime and architecture."""
    config = configparser.ConfigParser()
    config["aws"] = {"aws_region": "us-east-1", "deployment_bucket": BUCKET}
    config["builder"] = {
        "function_name": BUILDER,
        "runtime": runtime(),
        "architecture": architecture(),
        "deployable_functions": function,
    }
    config["git"] = {"base_url": base_url}
    with path.open("w") as file:
        config.write(file)
    return path


def runtime() -> str:
    """Return the newest runtime whose Python is on this machine."""
    return max(available(), key=lambda name: int(name.rpartition(".")[2]))


def architecture() -> str:
    """Return this machine's architecture in Lambda's words."""
    machine = os.uname().machine
    return "arm64" if machine in ("arm64", "aarch64") else "x86_64"


def manifest(project: Path) -> dict[str, Any]:
    """Return what a project says about its function in local.json: handler, environment, event."""
    path = project / "local.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return found


def make_function(aws: EmbeddedAWS, project: Path) -> None:
    """Create the function that is to be updated, with code that only says that it is not built yet."""
    about = manifest(project)
    role = aws.client("iam").create_role(RoleName=f"{project.name}-role", AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        info = zipfile.ZipInfo("placeholder.py")
        info.external_attr = 0o644 << 16
        archive.writestr(info, "raise SystemExit('not built yet')\n")
    aws.client("lambda").create_function(
        FunctionName=project.name,
        Runtime=runtime(),
        Architectures=[architecture()],
        Role=role,
        Handler=about.get("handler", "lambda_function.lambda_handler"),
        Code={"ZipFile": content.getvalue()},
        MemorySize=1024,
        Timeout=60,
    )
    for bucket, files in about.get("buckets", {}).items():
        aws.client("s3").create_bucket(Bucket=bucket)
        for key, source in files.items():
            aws.client("s3").put_object(Bucket=bucket, Key=key, Body=(project / source).read_bytes())


TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
)


def invoke(aws: EmbeddedAWS, project: Path) -> tuple[Any, bool]:
    """Invoke what was built; return its answer, and whether that is an error."""
    event = json.dumps(manifest(project).get("event", {})).encode()
    reply = aws.client("lambda").invoke(FunctionName=project.name, Payload=event)
    return json.loads(reply["Payload"].read()), "FunctionError" in reply


def keep_serving(aws: EmbeddedAWS, git_url: str) -> None:
    """Say how to talk to what is running, and wait for Ctrl-C."""
    say("still serving; in another terminal:")
    own = sorted(name for name in os.environ if name.startswith("AWS_") and name not in aws.environ)
    if own:
        print(f"unset {' '.join(own)}")
    for name, value in aws.environ.items():
        print(f"export {name}={value}")
    print(f"# {BUILDER} clones from {git_url}; press Ctrl-C here to end", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
