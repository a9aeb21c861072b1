"""Answers of the builder, as it gives them."""

from __future__ import annotations

from typing import Any

from tests.support.fake_aws import ACCOUNT

BOOTSTRAPPED: dict[str, Any] = {
    "status": "bootstrapped",
    "toolchain": {"s3_uri": "s3://artifacts/yo-dawg/toolchain/00.zip", "sha256": "00", "packages": ["dulwich==1.2.21"]},
    "seconds": {"total": 12.3, "install": 10.1},
}
BUILT: dict[str, Any] = {
    "status": "deployed",
    "function": "project",
    "function_arn": f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:project",
    "commit": "0123456789abcdef0123456789abcdef01234567",
    "ref": "main",
    "code_sha256": "c2hhMjU2",
    "version": "$LATEST",
    "alias": None,
    "package": {
        "zip_bytes": 2_100_000,
        "unzipped_bytes": 6_400_000,
        "files": 312,
        "s3_uri": "s3://artifacts/yo-dawg/packages/project/00.zip",
        "largest": [["cryptography", 4_100_000], ["requests", 90_000]],
    },
    "dependencies": [f"package-{number}==1.0" for number in range(8)],
    "pruned": {"files": 40, "bytes": 1_200_000, "reasons": {"tests": 40}, "kept": []},
    "warnings": ["requirements.txt pins nothing"],
    "log": "s3://artifacts/yo-dawg/builds/project/1.log",
    "seconds": {"total": 12.3, "clone": 0.4, "install": 3.2},
}
