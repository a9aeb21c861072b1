"""A builder on the embedded AWS, and what tests do with it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import inspect
import io
import json
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from client import local, package
from client.config import Config
from local.aws import EmbeddedAWS
from local.git_server import GitServer, make_repository
from local.runtimes import available
from tests.support.template import Resolver, config

ROOT = Path(__file__).resolve().parent.parent.parent
BUCKET = "yo-dawg-tests"


class FunctionFailed(Exception):
    """An invocation's FunctionError, as a client sees it."""

    def __init__(self, payload: Mapping[str, Any], log: str) -> None:
        """Keep the reply and the log's tail."""
        super().__init__(f"{payload.get('errorType')}: {payload.get('errorMessage')}")
        self.type = payload.get("errorType")
        self.message = str(payload.get("errorMessage"))
        self.payload = payload
        self.log = log


class Builder:
    """yo-dawg on an embedded AWS, driven through the AWS API."""

    def __init__(self, aws: EmbeddedAWS, git: GitServer, runtime: str) -> None:
        """Install yo-dawg of this runtime; it is not bootstrapped yet."""
        self.aws, self.git, self.runtime = aws, git, runtime
        self.functions, self.s3 = aws.client("lambda"), aws.client("s3")
        self.name = f"yo-dawg-{runtime.replace('.', '')}"
        self.role = self.make_role("functions")

    def make_role(self, name: str, statements: Sequence[Mapping[str, Any]] = ()) -> str:
        """Make a role that may do what these statements say, or everything without any; return its ARN."""
        iam = self.aws.client("iam")
        role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=local.TRUST)["Role"]
        if statements:
            document = json.dumps({"Version": "2012-10-17", "Statement": statements})
            iam.put_role_policy(RoleName=name, PolicyName="as-template-yaml-has-it", PolicyDocument=document)
        return str(role["Arn"])

    def make_builder_role(self, name: str, variables: Mapping[str, str]) -> str:
        """Make the role that template.yaml gives a builder of this name with these variables; return its ARN.

        So a permission that the template lacks fails the test that needs it.
        """
        keys = inspect.signature(Config).parameters
        given = {key: variables[f"YO_DAWG_{key.upper()}"] for key in keys if f"YO_DAWG_{key.upper()}" in variables}
        here = {"function_name": name, "aws_region": self.aws.region, "deployable_functions": ("*",)}
        settings = config(**{**given, **here})
        role = f"{name}-role"
        pseudo = {
            "AWS::AccountId": self.aws.account,
            "AWS::Region": self.aws.region,
            "Role.Arn": f"arn:aws:iam::{self.aws.account}:role/{role}",
        }
        return self.make_role(role, Resolver(settings.parameters("code.zip"), pseudo).statements())

    def install(self, *, name: str | None = None, **options: Any) -> str:
        """Create a function that is yo-dawg; return its name."""
        name = name or self.name
        variables = {
            "YO_DAWG_DEPLOYMENT_BUCKET": BUCKET,
            "YO_DAWG_BASE_URL": self.git.url,
            **options.pop("variables", {}),
        }
        self.create_function(
            name,
            handler="lambda_function.lambda_handler",
            code=builder_zip(),
            MemorySize=options.pop("MemorySize", 3008),
            EphemeralStorage=options.pop("EphemeralStorage", {"Size": 2048}),
            Timeout=options.pop("Timeout", 900),  # a loaded machine is no defect
            Environment={"Variables": {"YO_DAWG_DEPLOYABLE_FUNCTIONS": "*", **variables}},
            Role=self.make_builder_role(name, variables),
            **options,
        )
        return name

    def create_function(
        self,
        name: str,
        handler: str = "lambda_function.lambda_handler",
        code: bytes | None = None,
        **options: Any,
    ) -> None:
        """Create a function and wait until it is active."""
        settings = {
            "Role": self.role,
            "Runtime": self.runtime,
            "Architectures": [local.architecture()],
            "Timeout": 900,
            "MemorySize": 1024,
        }
        self.functions.create_function(
            FunctionName=name,
            Handler=handler,
            Code={"ZipFile": code or small_zip()},
            **{**settings, **options},
        )
        self.functions.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})

    def invoke(self, function: str, event: object) -> Any:
        """Invoke a function; raise FunctionFailed."""
        reply = self.functions.invoke(FunctionName=function, Payload=json.dumps(event).encode(), LogType="Tail")
        payload = json.loads(reply["Payload"].read())
        if "FunctionError" in reply:
            raise FunctionFailed(payload, reply.get("LogResult", ""))
        return payload

    def bootstrap(self, **fields: Any) -> dict[str, Any]:
        """Invoke the bootstrap action."""
        answer: dict[str, Any] = self.invoke(self.name, {"action": "bootstrap", **fields})
        return answer

    def share_toolchain(self, name: str) -> dict[str, Any]:
        """Give another builder our toolchain, since making one takes a while; return what its bootstrap answers."""
        for key, content in self.stored(f"{self.name}/toolchain/").items():
            self.store_toolchain(key.removeprefix(f"{self.name}/"), content, name)
        answer: dict[str, Any] = self.invoke(name, {"action": "bootstrap"})
        assert answer["status"] == "unchanged"
        return answer

    def store_toolchain(self, key: str, content: bytes, name: str | None = None) -> None:
        """Store an object of a toolchain, as bootstrap does."""
        key = f"{name or self.name}/{key}"
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=content, ChecksumAlgorithm="SHA256")

    def bootstrap_once(self, folder: Path) -> None:
        """Bootstrap; or, if another test process of this run has done so, take what that has left in a folder."""
        for path in folder.glob("toolchain/*"):
            self.store_toolchain(path.relative_to(folder).as_posix(), path.read_bytes())
        self.bootstrap()
        if not folder.exists():
            for key, content in self.stored(f"{self.name}/toolchain/").items():
                path = folder / key.removeprefix(f"{self.name}/")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)

    def build(self, repo_name: str, function: str | None = None, *, builder: str | None = None, **fields: Any) -> Any:
        """Invoke the build action; the function has the project's name unless another is given."""
        event = {"action": "build", "repo_name": repo_name, "function": function or repo_name, **fields}
        return self.invoke(builder or self.name, event)

    def add_repository(self, name: str, folder: Path) -> str:
        """Serve a folder as a Git repository; return its commit.  An older one of the name is replaced."""
        target = self.git.root / f"{name}.git"
        shutil.rmtree(target, ignore_errors=True)
        return make_repository(folder, target)

    def add_project(self, name: str, files: Mapping[str, str]) -> str:
        """Serve files, given by their text, as a repository, and create the function of that name."""
        with tempfile.TemporaryDirectory() as folder:
            commit = self.add_repository(name, lay_out(Path(folder), files))
        with contextlib.suppress(self.functions.exceptions.ResourceConflictException):
            self.create_function(name)
        return commit

    def package(self, function: str, *, builder: str | None = None) -> zipfile.ZipFile:
        """Return the zip that a function runs."""
        answer = self.functions.get_function_configuration(FunctionName=function)
        for page in self.s3.get_paginator("list_objects_v2").paginate(
            Bucket=BUCKET, Prefix=f"{builder or self.name}/packages/"
        ):
            for each in page.get("Contents", []):
                body = self.s3.get_object(Bucket=BUCKET, Key=each["Key"])["Body"].read()
                if base64.b64encode(hashlib.sha256(body).digest()).decode() == answer["CodeSha256"]:
                    return zipfile.ZipFile(io.BytesIO(body))
        raise AssertionError(f"no stored package is what {function} runs")

    def client_environ(self) -> dict[str, str]:
        """Return the environment for an AWS CLI that is to talk to this AWS, with the tests' own aws on PATH."""
        return {"PATH": f"{Path(sys.executable).parent}:{os.defpath}", **self.aws.environ}

    def logs(self, function: str) -> str:
        """Return everything that a function has logged."""
        logs = self.aws.client("logs")
        group = f"/aws/lambda/{function}"
        pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group)
        return "\n".join(event["message"] for page in pages for event in page["events"])

    def stored(self, prefix: str = "") -> dict[str, bytes]:
        """Return all objects of the bucket whose keys begin like this."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        keys = [each["Key"] for page in pages for each in page.get("Contents", [])]
        return {key: self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}


def lay_out(folder: Path, files: Mapping[str, str]) -> Path:
    """Write files, given by their text, below a folder; return that."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def small_zip(files: Mapping[str, str] | None = None) -> bytes:
    """Return a zip of these files, or of a module that does nothing yet."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in (files or {"placeholder.py": "raise SystemExit('not built yet')\n"}).items():
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o644 << 16  # by default nobody but its owner could read it
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, text)
    return content.getvalue()


_BUILDER_ZIP: list[bytes] = []


def builder_zip() -> bytes:
    """Return yo-dawg's own zip, made as deploy.sh makes it."""
    if not _BUILDER_ZIP:
        _BUILDER_ZIP.append(package.package().content)
    return _BUILDER_ZIP[0]


@contextlib.contextmanager
def embedded_aws() -> Iterator[tuple[EmbeddedAWS, GitServer]]:
    """Start an embedded AWS with the tests' bucket, and a Git host."""
    with (
        tempfile.TemporaryDirectory(prefix="yo-dawg-tests-") as root,
        GitServer(Path(root)) as git,
        EmbeddedAWS(client_environment=local.client_environment()) as aws,
    ):
        aws.client("s3").create_bucket(Bucket=BUCKET)
        yield aws, git


RUNTIMES = sorted({"python3.12", "python3.13", "python3.14"} & available().keys()) or [local.runtime()]


NEWEST = pytest.mark.parametrize("builder", RUNTIMES[-1:], indirect=True)
"""For tests of what is no matter of the interpreter's: once is enough."""


@pytest.fixture(scope="session", params=RUNTIMES)
def builder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    """Yield a bootstrapped builder of each runtime, on an AWS of its own."""
    folder = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):  # one of several processes of pytest-xdist: the folder above is theirs
        folder = folder.parent
    with embedded_aws() as (aws, git):
        made = Builder(aws, git, request.param)
        made.install()
        with FileLock(folder / f"{request.param}.lock"):
            made.bootstrap_once(folder / request.param)
        yield made
