"""A builder whose handler runs in the test's own process, with real programs, a real Git host and an embedded AWS."""

from __future__ import annotations

import base64
import dataclasses
import importlib.util
import io
import json
import os
import shutil
import sys
import uuid
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lambda_function import lambda_handler
from local.aws import EmbeddedAWS
from local.git_server import GitServer, make_repository
from tests.support.account import TRUST, Context
from tests.support.embedded import lay_out, small_zip
from yo_dawg.builder import Builder
from yo_dawg.control.archives import OpenFile
from yo_dawg.control.clients import Aws
from yo_dawg.control.ledger import Ledger
from yo_dawg.control.records import new_entry
from yo_dawg.control.store import Store
from yo_dawg.control.toolchain import store_toolchain
from yo_dawg.events import BuildRequest, parse_request
from yo_dawg.killing import processes_below
from yo_dawg.toolchain import TOOLCHAIN_PARTS
from yo_dawg.workshop.toolchain import zip_toolchain
from yo_dawg.workshop.tools import Toolchain

EVENT = {"action": "build", "function": "api", "repo_name": "project"}
HANDLER = "def handler(event, context):\n    return 'ok'\n"
TOKEN = "canary-token-of-the-git-host"

LIBRARY = {
    "library/__init__.py": "x = 1\n",
    "library/tests/test_a.py": "import unittest\n\n\nclass TestA(unittest.TestCase): ...\n",
    "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
    "backend.py": """
import os, zipfile

def build_wheel(directory, config_settings=None, metadata_directory=None):
    info = "library-1.0.dist-info/"
    with zipfile.ZipFile(os.path.join(directory, "library-1.0-py3-none-any.whl"), "w") as wheel:
        wheel.write("library/__init__.py")
        wheel.write("library/" + "tests/test_a.py")  # named as a whole, it would be kept
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: library\\nVersion: 1.0\\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "library/__init__.py,,\\nlibrary/tests/test_a.py,,\\n")
    return "library-1.0-py3-none-any.whl"
""",
}
"""A distribution that uv can build with nothing but itself."""


class Yard:
    """A builder with its AWS, its Git host, a toolchain, and the function that it builds."""

    def __init__(self, account: EmbeddedAWS, aws: Aws, context: Context, git: GitServer, tmp: Path) -> None:
        """Create the function."""
        self.account, self.aws, self.context, self.git, self.tmp = account, aws, context, git, tmp
        iam = account.client("iam")
        self.role = str(iam.create_role(RoleName="role", AssumeRolePolicyDocument=TRUST)["Role"]["Arn"])
        self.add_function("api")
        self.left_alone: list[str] = []
        """What a build may leave in tmp: what was there before, and is not ours."""

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
            assert os.listdir(self.tmp) == self.left_alone
            assert processes_below(os.getpid()) <= before  # the Git server's own may have ended

    def next_context(self) -> Context:
        """Each invocation is a request of its own, in an environment of its own."""
        self.context = dataclasses.replace(self.context, aws_request_id=str(uuid.uuid4()), log_stream_name="")
        return self.context

    @property
    def code_sha256(self) -> str:
        """The digest of what the function runs."""
        return str(self.aws.functions.get_function_configuration(FunctionName="api")["CodeSha256"])

    @property
    def store(self) -> Store:
        """The builder's corner of S3."""
        return Store(self.aws.s3, "bucket", "yo-dawg", self.account.account)

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys of what the builder stores."""
        found = self.aws.s3.list_objects_v2(Bucket="bucket", Prefix=f"yo-dawg/{prefix}")
        return [each["Key"] for each in found.get("Contents", [])]

    def read(self, key: str) -> bytes:
        """Return what is stored."""
        content: bytes = self.aws.s3.get_object(Bucket="bucket", Key=key)["Body"].read()
        return content

    def said(self, result: Mapping[str, Any]) -> str:
        """Return the log of a build."""
        return self.read(result["log"].removeprefix("s3://bucket/")).decode()

    def shipped(self) -> zipfile.ZipFile:
        """Return the package that the function runs."""
        key = next(key for key in self.keys("packages/") if base64.b64decode(self.code_sha256).hex() in key)
        return zipfile.ZipFile(io.BytesIO(self.read(key)))

    @property
    def record(self) -> dict[str, Any]:
        """The one record there is."""
        (key,) = (key for key in self.keys("builds/api/") if key.endswith(".json"))
        record: dict[str, Any] = json.loads(self.read(key))
        return record

    @property
    def outcome(self) -> dict[str, Any]:
        """What the one record says of how it ended."""
        result: dict[str, Any] = self.record["result"]
        return result


def lay_toolchain(root: Path) -> Toolchain:
    """Lay out a toolchain of uv and the compressor of the tests' own packages, where also Dulwich is found."""
    toolchain = Toolchain(root)
    toolchain.packages.mkdir(parents=True)
    spec = importlib.util.find_spec("deflate")
    assert spec is not None
    found = next(iter(spec.submodule_search_locations or ()))
    shutil.copytree(found, toolchain.packages / "deflate", ignore=shutil.ignore_patterns("__pycache__"))
    toolchain.uv.parent.mkdir()
    toolchain.uv.write_text(f"#!/bin/sh\nexec '{Path(sys.executable).with_name('uv')}' \"$@\"\n")
    toolchain.uv.chmod(0o755)
    return toolchain


def put_toolchain(toolchain: Toolchain, builder: Builder, store: Store) -> dict[str, str]:
    """Store a toolchain as bootstrap does; return the digests of its parts."""
    zips = {part: OpenFile(toolchain.root.parent) for part in TOOLCHAIN_PARTS}
    zip_toolchain(toolchain, {part: file.fileno() for part, file in zips.items()})
    parts: dict[str, str] = store_toolchain(zips, ["small==1"], builder, store)["parts"]
    return parts


def another_invocation(yard: Yard, **fields: Any) -> Ledger:
    """Return the ledger that another invocation holds, which was asked for this build of api."""
    builder = dataclasses.replace(Builder.from_context(yard.context), request_id="other-request", asked_by="somebody")
    request = parse_request({**EVENT, **fields})
    assert isinstance(request, BuildRequest)
    ledger = Ledger("api", new_entry("api", request, builder), yard.store)
    assert ledger.acquire() is None
    return ledger
