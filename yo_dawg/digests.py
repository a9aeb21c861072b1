"""SHA-256 in the spellings of Lambda, S3 and a wheel's RECORD."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any


def in_base64(digest: Any) -> str:
    """Return a digest as Lambda and S3 write it."""
    return base64.b64encode(digest.digest()).decode()


def base64_to_hex(sha256: str) -> str:
    """Return a digest in hex that Lambda or S3 writes in base64."""
    return base64.b64decode(sha256).hex()


def in_record(digest: Any) -> str:
    """Return a digest as a RECORD has it."""
    return base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()


def digest_of(value: Any) -> str:
    """Return the SHA-256, in hex, of a value that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
