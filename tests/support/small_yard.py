"""A builder whose handler runs in the test's own process; AWS alone is emulated, the workshop's programs are real."""

from __future__ import annotations

import base64
import dataclasses
import importlib.util
import io
import json
import os
import shutil
import sys
import tempfile
import uuid
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lambda_function import lambda_handler
from local.aws import EmbeddedAWS
from local.git_server import GitServer, make_repository
from tests.support.embedded import lay_out, small_zip
from tests.support.work import zip_to
from yo_dawg.builder import Builder
from yo_dawg.control.archives import OpenFile
from yo_dawg.control.clients import Aws
from yo_dawg.control.store import Store
from yo_dawg.control.toolchain import store_toolchain
from yo_dawg.killing import processes_below
from yo_dawg.settings import CLIENT_VARIABLES
from yo_dawg.trees import walk

EVENT = {"action": "build", "function": "api", "repo_name": "project"}
HANDLER = "def handler(event, context):\n    return 'ok'\n"
TOKEN = "canary-token-of-the-git-host"
TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
)
CLIENT = {name: os.environ[name] for name in CLIENT_VARIABLES if name in os.environ}
"""Where the tester's own package index is, for tests that need it."""


class Yard:
    """A builder with its AWS, its Git host, a toolchain, and the function that it builds."""

    def __init__(self, account: EmbeddedAWS, aws: Aws, context: Any, git: GitServer, tmp: Path) -> None:
        """Create the function, api; the builder's /tmp is tmp."""
        self.account, self.aws, self.context, self.git, self.tmp = account, aws, context, git, tmp
        iam = account.client("iam")
        self.role = str(iam.create_role(RoleName="role", AssumeRolePolicyDocument=TRUST)["Role"]["Arn"])
        self.add_function("api")

    def add_project(self, files: Mapping[str, str]) -> str:
        """Serve files as the repository; return the commit."""
        folder = self.tmp.parent / "project"
        for target in (folder, self.git.root / "project.git"):
            shutil.rmtree(target, ignore_errors=True)
        return make_repository(lay_out(folder, files), self.git.root / "project.git")

    def add_function(self, name: str, handler: str = "app.handler") -> None:
        """Create a function that the builder can serve."""
        builder = Builder.from_context(self.context)
        self.aws.functions.create_function(
            FunctionName=name, Role=self.role, Handler=handler, Runtime=builder.runtime,
            Architectures=[builder.architecture], Code={"ZipFile": small_zip()},
        )  # fmt: skip

    def build(self, **fields: Any) -> dict[str, Any]:
        """Call the handler; whatever comes of it, nothing may be left."""
        before = processes_below(os.getpid())
        try:
            return lambda_handler({**EVENT, **fields}, self.next_context())
        finally:
            assert os.listdir(self.tmp) == []
            assert processes_below(os.getpid()) <= before  # the Git server's own may have ended

    def next_context(self) -> Any:
        """Each invocation is a request of its own, in an environment of its own."""
        self.context = dataclasses.replace(self.context, aws_request_id=str(uuid.uuid4()), log_stream_name="")
        return self.context

    @property
    def code_sha256(self) -> str:
        """What the function runs."""
        return str(self.aws.functions.get_function_configuration(FunctionName="api")["CodeSha256"])

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys of what the builder stored."""
        found = self.aws.s3.list_objects_v2(Bucket="bucket", Prefix=f"yo-dawg/{prefix}")
        return [each["Key"] for each in found.get("Contents", [])]

    def read(self, key: str) -> bytes:
        """Return an object."""
        content: bytes = self.aws.s3.get_object(Bucket="bucket", Key=key)["Body"].read()
        return content

    def said(self, result: Mapping[str, Any]) -> str:
        """Return the log of a build."""
        return self.read(result["log"].removeprefix("s3://bucket/")).decode()

    def shipped(self) -> zipfile.ZipFile:
        """Return the package that the function runs."""
        key = next(key for key in self.keys("packages/") if base64.b64decode(self.code_sha256).hex() in key)
        return zipfile.ZipFile(io.BytesIO(self.read(key)))


def give_toolchain(aws: Aws, account: str, builder: Builder) -> None:
    """Store a toolchain: Dulwich and Paramiko are among the tests' own packages, and so is uv."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        compressor = importlib.util.find_spec("deflate")
        assert compressor
        assert compressor.submodule_search_locations
        for part in ("uv/bin", "ssh", "git/site-packages"):
            (root / part).mkdir(parents=True)
        leave = shutil.ignore_patterns("__pycache__")
        shutil.copytree(compressor.submodule_search_locations[0], root / "git/site-packages/deflate", ignore=leave)
        uv = root / "uv/bin/uv"
        uv.write_text(f"#!/bin/sh\nexec '{Path(sys.executable).with_name('uv')}' \"$@\"\n")
        uv.chmod(0o755)
        zips = {}
        for part in ("uv", "ssh", "git"):
            zip_to(walk(root / part), root / f"{part}.zip")
            zips[part] = OpenFile(root)
            zips[part].file.write((root / f"{part}.zip").read_bytes())
        store_toolchain(zips, [], builder, Store(aws.s3, "bucket", "yo-dawg", account))
