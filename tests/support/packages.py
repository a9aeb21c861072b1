"""Packages as the builder stores them, and a bucket of the fake AWS that holds them."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

from tests.support.fake_aws import FakeAws, Refusal


def metadata(name: str, version: str, *more: str) -> str:
    """Return a METADATA."""
    return "\n".join(["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *more, "", "Readme", ""])


def make_package(files: Mapping[str, str | bytes]) -> bytes:
    """Make a zip, the same one of the same files."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return made.getvalue()


def code_sha256(package: bytes) -> str:
    """Return a package's digest as Lambda reports it."""
    return base64.b64encode(hashlib.sha256(package).digest()).decode()


class Bucket:
    """What the builder has stored for a function, and which package the function runs."""

    def __init__(self, aws: FakeAws, function: str = "project") -> None:
        """Answer the fake AWS's calls."""
        self.function, self.objects = function, dict[str, bytes]()
        self.running: dict[str, Any] = {}
        aws.replies["s3.GetObject"] = self.get
        aws.replies["lambda.GetFunctionConfiguration"] = lambda _: self.running

    def get(self, parameters: Mapping[str, Any]) -> object:
        """Answer GetObject."""
        content = self.objects.get(parameters["Key"].removeprefix("yo-dawg/"))
        return Refusal("NoSuchKey", status=404) if content is None else {"Body": io.BytesIO(content)}

    def store(self, package: bytes, /, *, runs: bool = True, **told: Any) -> str:
        """Store a package, and what was told of it; return its digest in base64."""
        digest, code = hashlib.sha256(package).hexdigest(), code_sha256(package)
        self.objects[f"packages/{self.function}/{digest}.zip"] = package
        if told:
            self.put(f"bundles/{self.function}/{digest}.json", {"format": 3, "result": told})
        if runs:
            self.running = {"FunctionName": self.function, "CodeSha256": code}
        return code

    def put(self, key: str, value: object) -> None:
        """Store JSON."""
        self.objects[key] = json.dumps(value).encode()
