"""What a test's own AWS account holds, and what Lambda tells a handler there."""

from __future__ import annotations

import base64
import hashlib
import io
from dataclasses import dataclass
from typing import Any

from tests.support.embedded import small_zip
from yo_dawg.control.packages import Package
from yo_dawg.control.store import Store

TRUST = (
    '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", '
    '"Principal": {"Service": "lambda.amazonaws.com"}}]}'
)
"""The trust policy of a role for functions."""


@dataclass
class Context:
    """Lambda's context object, as far as the handler looks at it."""

    invoked_function_arn: str
    function_name: str = "yo-dawg"
    aws_request_id: str = "5f5e7c2a-0000-4000-8000-000000000001"
    remaining: int = 900_000
    """Milliseconds: Lambda's most, which no test waits for."""
    log_stream_name: str = "2026/11/23/[$LATEST]0123456789abcdef"
    client_context: Any = None

    def get_remaining_time_in_millis(self) -> int:
        """Return them."""
        return self.remaining


def store_package(text: str, store: Store, function: str = "api", commit: str | None = None) -> Package:
    """Store a package of this module, app.py; return it."""
    content = small_zip({"app.py": text})
    package = Package.of(function, base64.b64encode(hashlib.sha256(content).digest()).decode(), commit)
    store.upload(package.key, io.BytesIO(content), "application/zip", package.code_sha256)
    return package
