"""deploy.sh local: yo-dawg's whole story on this machine.

The embedded AWS and a Git server run in this process, and so does all that bootstrap and build do.  What takes time
is kept beside .venv for the next run: the builder's zip, and the toolchain that it made, compared by their digests.
"""

from __future__ import annotations

import ast
import base64
import configparser
import contextlib
import gc
import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from client.main import CHECKOUT, App

if TYPE_CHECKING:
    from local.aws import EmbeddedAWS

EXAMPLES = CHECKOUT / "examples"
KEPT = CHECKOUT / ".cache" / "toolchain"
BUCKET = "yo-dawg-local"
BUILDER = "yo-dawg"

CLIENT_VARIABLES = (
    "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY",
    "https_proxy", "http_proxy", "no_proxy",
)  # fmt: skip
"""The settings of package clients that the builder hands on to its children."""

TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
)


# --- The project ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Project:
    """A folder to build, and the function that it is built for."""

    folder: Path
    handler: str
    event: object = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    buckets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the name of the repository and of the function."""
        return re.sub(r"[^A-Za-z0-9_-]+", "-", self.folder.name).strip("-") or "project"


def find_project(name: str) -> Path:
    """Return the folder of an example, or the one that is named."""
    for path in (EXAMPLES / name, Path(name)):
        if path.is_dir():
            return path.resolve()
    examples = ", ".join(sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir()))
    raise click.UsageError(f"There is no project {name!r}: give a folder, or one of {examples}.")


def read_project(folder: Path, handler: str | None, event: str | None, env: tuple[str, ...]) -> Project:
    """Return what is known of a project: from the command line, else from its local.json, else from its code."""
    about: dict[str, Any] = {}
    path = folder / "local.json"
    if path.is_file():
        try:
            about = json.loads(path.read_bytes())
        except ValueError as error:
            raise click.UsageError(f"{path} is not JSON: {error}.") from None
    if not isinstance(about, dict) or (unknown := about.keys() - {"handler", "event", "env", "buckets"}):
        named = ", ".join(sorted(unknown)) if isinstance(about, dict) else "no JSON object"
        raise click.UsageError(f"{path} may say handler, event, env and buckets, but holds {named}.")
    return Project(
        folder,
        handler or about.get("handler") or find_handler(folder),
        about.get("event", {}) if event is None else read_event(event),
        {**about.get("env", {}), **read_env(env)},
        about.get("buckets", {}),
    )


def read_event(given: str) -> object:
    """Return the event of a file, or that was written out as JSON."""
    try:
        with contextlib.suppress(OSError):  # also if it is too long to be a name
            given = Path(given).read_text(encoding="utf-8")
        return json.loads(given)
    except ValueError as error:
        raise click.UsageError(f"--event is neither a file nor JSON: {error}.") from None


def read_env(pairs: tuple[str, ...]) -> dict[str, str]:
    """Return environment variables that are given as K=V."""
    for pair in pairs:
        if not re.match(r"[A-Za-z][A-Za-z0-9_]+=", pair):
            raise click.UsageError(f"--env wants NAME=VALUE (a name has two letters or more), not {pair!r}.")
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


def find_handler(folder: Path) -> str:
    """Return the one handler that a project's code has, at its root or in src/."""
    found = list(handlers(folder))
    if "lambda_function.lambda_handler" in found:  # the name that Lambda itself proposes
        return "lambda_function.lambda_handler"
    if not found:
        raise click.UsageError(
            f"No function of two parameters, event and context, is at the root of {folder} or in src/: "
            "say with --handler MODULE.FUNCTION which is to be run."
        )
    if len(found) > 1:
        raise click.UsageError(f"--handler must say which of these is to be run: {', '.join(found)}.")
    return found[0]


def handlers(folder: Path) -> Iterator[str]:
    """Yield the functions of a project that look like handlers, as MODULE.FUNCTION."""
    # What a make_dist.sh does with src/ nobody knows; the usual thing is to ship what is in it.
    above = folder / "src" if (folder / "make_dist.sh").is_file() else folder
    for root, pattern in ((folder, "*.py"), (folder / "src", "**/*.py")):
        for path in sorted(root.glob(pattern)):
            if path.name.startswith(("test_", "conftest")) or "tests" in path.relative_to(folder).parts:
                continue
            module = path.relative_to(above if above in path.parents else folder).with_suffix("")
            try:
                tree = ast.parse(path.read_bytes())
            except (SyntaxError, ValueError):
                continue
            for node in tree.body:
                if isinstance(node, ast.FunctionDef) and is_handler(node):
                    yield f"{'.'.join(module.parts)}.{node.name}"


def is_handler(node: ast.FunctionDef) -> bool:
    """Say whether a function has the parameters of a handler."""
    names = [each.arg.strip("_") for each in (*node.args.posonlyargs, *node.args.args)]
    return len(names) == 2 and names[0] in ("event", "evt") and names[1] in ("context", "ctx", "")


# --- This machine -------------------------------------------------------------------------------------------


def leave_own_account(environ: dict[str, str] | os._Environ[str]) -> list[str]:
    """Take out of an environment all that would lead to the user's own AWS account; return the names."""
    own = sorted(name for name in environ if name.startswith("AWS_"))
    for name in own:
        del environ[name]
    nowhere = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    environ.update({**nowhere, "AWS_EC2_METADATA_DISABLED": "true"})
    return own


def client_environment() -> dict[str, str]:
    """Return how this machine's package clients are set up: the sandboxed ones need the same.

    In AWS none of this is set, and the public index is used.
    """
    found = {name: os.environ[name] for name in CLIENT_VARIABLES if os.environ.get(name)}
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603
    for option, variable in (("index-url", "PIP_INDEX_URL"), ("extra-index-url", "PIP_EXTRA_INDEX_URL")):
        told = re.search(rf"^global\.{option}='(.*)'$", listed, re.MULTILINE)
        # Folders of this machine cannot be seen from inside of the sandbox.
        urls = [url for url in (told[1] if told else "").replace("\\n", " ").split() if not url.startswith("file:")]
        if urls and variable not in found:
            found[variable] = " ".join(urls)
    return found


def runtime() -> str:
    """Return the runtime of the Python that runs this; if Lambda has none such, the newest one that is on this machine.

    To look for others takes its time: each that may be one must be started.
    """
    from local.runtimes import NAMES, available, find

    ours = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    return ours if ours in NAMES and find(ours) else max(available(), key=lambda name: int(name.rpartition(".")[2]))


def architecture() -> str:
    """Return this machine's architecture in Lambda's words."""
    return "arm64" if os.uname().machine in ("arm64", "aarch64") else "x86_64"


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
    with path.open("w", encoding="utf-8") as file:
        config.write(file)
    return path


# --- What is kept for the next run ---------------------------------------------------------------------------


def put_toolchain(s3: Any, kept: Path = KEPT) -> None:
    """Store the toolchain that was kept; the builder itself decides whether it fits."""
    try:
        digests: dict[str, str] = json.loads((kept / "objects.json").read_bytes())
        for key, digest in digests.items():
            content = (kept / digest).read_bytes()
            if hashlib.sha256(content).hexdigest() == digest:
                checksum = base64.b64encode(bytes.fromhex(digest)).decode()
                s3.put_object(Bucket=BUCKET, Key=key, Body=content, ChecksumSHA256=checksum)
    except (OSError, ValueError):
        return


def keep_toolchain(s3: Any, kept: Path = KEPT) -> None:
    """Keep the toolchain that is stored."""
    kept.mkdir(parents=True, exist_ok=True)
    digests = {}
    for each in s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{BUILDER}/toolchain/").get("Contents", []):
        content = s3.get_object(Bucket=BUCKET, Key=each["Key"])["Body"].read()
        digests[each["Key"]] = digest = hashlib.sha256(content).hexdigest()
        if not (kept / digest).is_file():
            (kept / digest).write_bytes(content)
    (kept / "objects.json").write_text(json.dumps(digests, indent=1), encoding="utf-8")
    for path in kept.iterdir():
        if path.name not in {"objects.json", *digests.values()}:
            path.unlink()


class Clients(Protocol):
    """An account, as far as its clients are concerned."""

    def client(self, service: str) -> Any:
        """Return a client."""


# --- The function -------------------------------------------------------------------------------------------


def make_function(aws: Clients, project: Project) -> None:
    """Create the function that is to be updated, with code that only says that it is not built yet."""
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
        Handler=project.handler,
        Code={"ZipFile": content.getvalue()},
        Environment={"Variables": dict(project.env)},
        MemorySize=1024,
        Timeout=60,
    )
    for bucket, files in project.buckets.items():
        aws.client("s3").create_bucket(Bucket=bucket)
        for key, source in files.items():
            aws.client("s3").put_object(Bucket=bucket, Key=key, Body=(project.folder / source).read_bytes())


def invoke(aws: Clients, project: Project) -> tuple[Any, bool]:
    """Invoke what was built; return its answer, and whether that is an error."""
    reply = aws.client("lambda").invoke(FunctionName=project.name, Payload=json.dumps(project.event).encode())
    return json.loads(reply["Payload"].read()), "FunctionError" in reply


# --- The story ---------------------------------------------------------------------------------------------


def run(app: App, project: Project, *, keep: bool) -> int:
    """Tell it from the beginning to the end; return the exit status."""
    app.screen.say("start an embedded AWS and a Git host on this machine")
    own = leave_own_account(os.environ)
    pool = ThreadPoolExecutor()
    package_settings = pool.submit(client_environment)
    # moto has many classes, which are never garbage: to look for some takes longer than to work.
    gc.set_threshold(100_000)
    from client import bootstrap, bucket, build
    from client.aws import connect_to
    from local import runtimes
    from local.aws import EmbeddedAWS
    from local.git_server import GitServer, make_repository

    with (
        tempfile.TemporaryDirectory(prefix="yo-dawg-local-") as scratch,
        GitServer(Path(scratch)) as git,
        EmbeddedAWS(client_environment=package_settings.result()) as aws,
    ):
        app.screen.say(f"an embedded AWS at {aws.endpoint}, a Git host at {git.url}")
        image = pool.submit(runtimes.prepare, runtime())  # while other things are made
        make_repository(project.folder, Path(scratch, f"{project.name}.git"))
        config = write_config(Path(scratch, "config.ini"), git.url, project.name)
        keys = aws.environ["AWS_ACCESS_KEY_ID"], aws.environ["AWS_SECRET_ACCESS_KEY"]
        account = connect_to(aws.endpoint, aws.region, *keys)
        make_function(account, project)
        inner = App(config, app.as_json, account, quiet=app.as_json)
        bucket.ensure(inner)
        if not image.done():
            app.screen.say(f"make {runtime()} as Lambda has it, once")
            image.result()
        put_toolchain(account.client("s3"))
        bootstrap.run_and_tell(inner)
        keep_toolchain(account.client("s3"))
        inner.screen.say(f"build {project.name}")
        build.run(inner, {"action": "build", "function": project.name, "repo_name": project.name})
        app.screen.say(f"aws lambda invoke --function-name {project.name}")
        answer, failed = invoke(account, project)
        app.screen.answer(answer)
        if keep:
            keep_serving(app, aws, git.url, own, config)
        return 1 if failed else 0


def keep_serving(app: App, aws: EmbeddedAWS, git_url: str, own: list[str], config: Path) -> None:
    """Say how to talk to what is running, and wait for Ctrl-C."""
    app.screen.say("still serving; in another terminal:")
    if unset := [name for name in own if name not in aws.environ]:
        print(f"unset {' '.join(unset)}")
    for name, value in aws.environ.items():
        print(f"export {name}={value}")
    print(f"# {BUILDER} clones from {git_url}; its config.ini is {config}; press Ctrl-C here to end", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()


def end(*_: object) -> None:
    """End as Ctrl-C does, so that everything is put away."""
    raise KeyboardInterrupt


@click.command("local")
@click.option("--keep", is_flag=True, help="Go on serving until Ctrl-C, and say how to talk to it.")
@click.option("--handler", metavar="MODULE.FUNCTION", help="Default: what local.json says, or the one that is there.")
@click.option("--event", metavar="JSON|FILE", help="What the function is invoked with.")
@click.option("--env", multiple=True, metavar="K=V", help="Environment variable of the function; may be given again.")
@click.argument("repo", metavar="[REPO]", default="hello")
@click.pass_obj
def command(app: App, /, keep: bool, handler: str | None, event: str | None, env: tuple[str, ...], repo: str) -> None:
    """The whole thing on this machine, without an AWS account: an embedded AWS, bootstrap, build, run what was built.

    REPO is an example (hello, report, thumbnail) or a folder of yours, whose local.json may say "handler", "event",
    "env" and "buckets" (buckets to make, with files of the folder by their keys).
    """
    project = read_project(find_project(repo), handler, event, env)
    signal.signal(signal.SIGTERM, end)
    status = run(app, project, keep=keep)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)  # all is closed; to take every module apart again takes seconds
