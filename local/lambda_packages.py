"""The packages that requests bring, or point to."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping
from typing import Any

from local.code_store import ZIPPED_LIMIT, BadPackage, Code
from local.lambda_account import Account
from local.lambda_errors import invalid
from local.rest_json import ApiError


class Packages:
    """Takes the packages of functions and layers."""

    def __init__(self, account: Account) -> None:
        """Take them into an account's store."""
        self.account = account

    def take(self, given: Mapping[str, Any], package_type: str) -> Code | None:
        """Return the checked package that a request brings or points to; None for an image."""
        if package_type == "Image":
            if not given.get("ImageUri") or given.get("ZipFile") or given.get("S3Bucket"):
                raise invalid("Please provide ImageUri when updating a function with packageType Image.")
            return None
        if given.get("ImageUri"):
            raise invalid("Please don't provide ImageUri when updating a function with packageType Zip.")
        return self.take_zip(given)

    def take_zip(self, given: Mapping[str, Any]) -> Code:
        """Return the checked zip that a request brings or points to."""
        content = given.get("ZipFile")
        if content is not None:
            if len(content) > ZIPPED_LIMIT:
                message = f"Zipped size must be smaller than {ZIPPED_LIMIT} bytes"
                raise ApiError("RequestEntityTooLargeException", 413, message)
        elif given.get("S3Bucket") and given.get("S3Key"):
            world = self.account.world
            content = world.read_object(given["S3Bucket"], given["S3Key"], given.get("S3ObjectVersion"))
        else:
            raise invalid("Please provide a source for function code.")
        try:
            return self.account.codes.add(content)
        except BadPackage as error:
            raise invalid(str(error)) from error

    def place(self, code: Code | None) -> dict[str, str]:
        """Return where a package can be downloaded."""
        if code is None:
            return {"RepositoryType": "ECR"}
        name = f"{base64.b64decode(code.sha256).hex()}.zip"
        return {"RepositoryType": "S3", "Location": f"{self.account.world.endpoint}/lambda-code/{name}"}


def code_facts(code: Code | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a configuration says about the code."""
    if code is None:
        digest = uuid.uuid5(uuid.NAMESPACE_URL, given["ImageUri"]).hex * 2
        return {"CodeSha256": digest, "CodeSize": 0}
    return {"CodeSha256": code.sha256, "CodeSize": code.size}


def storage(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what GetFunction says of how and where the code is kept; the default where nothing is given."""
    kept = {"SourceKMSKeyArn": given["SourceKMSKeyArn"]} if given.get("SourceKMSKeyArn") else {}
    if given.get("S3ObjectStorageMode") == "REFERENCE":
        if not given.get("S3ObjectVersion"):
            raise invalid("S3ObjectVersion is required when S3ObjectStorageMode is REFERENCE.")
        names = ("S3Bucket", "S3Key", "S3ObjectVersion")
        kept["ResolvedS3Object"] = {name: given[name] for name in names}
    return kept
