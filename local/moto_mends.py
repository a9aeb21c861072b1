"""What the embedded AWS does differently from moto, each with its reason. Lambda is in lambda_api.py, all of it;
CloudFormation's part is in stacks.py.

- API Gateway's import of OpenAPI files needs a package that pulls in twenty others; it is left out, so moto's
  CloudFormation, which imports all services, finds a stand-in.
- S3: ExpectedBucketOwner is checked, and so are the checksums that a client sends: moto stores what it is told, or
  forgets a checksum whose algorithm is not named as well. An account that is emptied keeps to itself: moto throws
  away the objects of all accounts.
- IAM: the inline policies of a role have a limit.
- Logs: PutLogEvents of the functions goes straight to moto's backend.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import threading
import time
import types
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from local.rest_json import ApiError

if TYPE_CHECKING:
    pass

PARTITION = "aws"

INLINE_POLICIES_LIMIT = 10_240
"""Of all inline policies of a role together, in characters."""


def stand_in_for_openapi() -> None:
    """Give moto's API Gateway models something to import."""
    try:
        import openapi_spec_validator  # noqa: F401
    except ImportError:
        names = ("openapi_spec_validator", "openapi_spec_validator.validation",
                 "openapi_spec_validator.validation.exceptions")  # fmt: skip
        modules = [types.ModuleType(name) for name in names]
        modules[0].validate = unavailable  # type: ignore[attr-defined]
        modules[2].OpenAPIValidationError = ValueError  # type: ignore[attr-defined]
        sys.modules.update(zip(names, modules, strict=True))


def unavailable(*arguments: object, **keywords: object) -> None:
    """Refuse to import an OpenAPI file."""
    raise ValueError("the embedded AWS does not import OpenAPI files")


# --- S3 ---


def read_object(account: str, bucket: str, key: str, version: str | None) -> bytes:
    """Return an object's bytes, or raise what Lambda says when it cannot read its code."""
    from moto.s3.exceptions import MissingBucket
    from moto.s3.models import FakeKey, s3_backends

    problem = "Error occurred while GetObject. S3 Error Code: {}. S3 Error Message: {}"
    backend = s3_backends[account][PARTITION]
    try:
        found = backend.get_object(bucket, key, version_id=version)
    except MissingBucket as error:
        text = problem.format("NoSuchBucket", "The specified bucket does not exist")
        raise ApiError("InvalidParameterValueException", 400, text) from error
    if not isinstance(found, FakeKey):  # nothing, or a delete marker
        code = ("NoSuchVersion", "The specified version does not exist.") if version else (
            "NoSuchKey", "The specified key does not exist.")  # fmt: skip
        raise ApiError("InvalidParameterValueException", 400, problem.format(*code))
    return bytes(found.value)


def object_exists(account: str, bucket: str, key: str) -> bool:
    """Say whether an object is there."""
    from moto.s3.models import FakeKey, s3_backends

    buckets = s3_backends[account][PARTITION].buckets
    return bucket not in buckets or isinstance(s3_backends[account][PARTITION].get_object(bucket, key), FakeKey)


def delete_object(account: str, bucket: str, key: str) -> None:
    """Delete an object."""
    from moto.s3.models import s3_backends

    s3_backends[account][PARTITION].delete_object(bucket, key)


def s3_problem(account: str, headers: Mapping[str, str], body: bytes | None) -> tuple[int, str, str] | None:
    """Return the status, code and message with which S3 refuses a request that moto would carry out; None if none.

    The body is None where it is sent in chunks with a trailer, whose checksum moto reads by itself.
    """
    owner = headers.get("x-amz-expected-bucket-owner")
    source_owner = headers.get("x-amz-source-expected-bucket-owner")
    if owner not in (None, account) or source_owner not in (None, account):
        return 403, "AccessDenied", "Access Denied"
    if body is None:
        return None
    md5 = headers.get("content-md5")
    if md5 and md5 != base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode():
        return 400, "BadDigest", "The Content-MD5 you specified did not match what we received."
    for name, algorithm in CHECKSUMS.items():
        sent = headers.get(f"x-amz-checksum-{name}")
        if sent and sent != base64.b64encode(algorithm(body)).decode():
            return 400, "BadDigest", f"The {name.upper()} you specified did not match the calculated checksum."
    return None


CHECKSUMS: dict[str, Callable[[bytes], bytes]] = {
    "sha256": lambda body: hashlib.sha256(body).digest(),
    "sha1": lambda body: hashlib.sha1(body, usedforsecurity=False).digest(),
    "crc32": lambda body: zlib.crc32(body).to_bytes(4, "big"),
}


def name_checksum(environ: dict[str, Any]) -> None:
    """Name the algorithm of a checksum that was sent by itself: moto keeps it only then."""
    for name in ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"):
        if f"HTTP_X_AMZ_CHECKSUM_{name}" in environ:
            environ.setdefault("HTTP_X_AMZ_SDK_CHECKSUM_ALGORITHM", name)


def error_document(code: str, message: str) -> bytes:
    """Return an S3 error."""
    error = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    return b"<?xml version='1.0' encoding='UTF-8'?>" + error.encode()


# --- IAM and STS ---


def role_trusts_lambda(account: str, arn: str) -> bool:
    """Say whether a role exists and its trust policy names Lambda."""
    from moto.iam.models import iam_backends

    roles = {role.arn: role for role in iam_backends[account][PARTITION].get_roles()}
    if arn not in roles:
        return False
    document = roles[arn].assume_role_policy_document
    statements = (json.loads(document) if isinstance(document, str) else document).get("Statement", [])
    for statement in [statements] if isinstance(statements, dict) else statements:
        principal = statement.get("Principal", {})
        services = principal.get("Service", []) if isinstance(principal, dict) else []
        if statement.get("Effect") == "Allow" and "lambda.amazonaws.com" in (
            [services] if isinstance(services, str) else services
        ):
            return True
    return False


def role_statements(account: str, arn: str) -> list[dict[str, Any]]:
    """Return what a role's own and attached policies say."""
    from moto.iam.models import iam_backends

    role = next((role for role in iam_backends[account][PARTITION].get_roles() if role.arn == arn), None)
    if role is None:
        return []
    versions = [version for policy in role.managed_policies.values() for version in policy.versions]
    documents = [*role.policies.values(), *(version.document for version in versions if version.is_default)]
    found: list[dict[str, Any]] = []
    for document in documents:
        statements = (json.loads(document) if isinstance(document, str) else document)["Statement"]
        found.extend([statements] if isinstance(statements, dict) else statements)
    return found


def limit_inline_policies() -> None:
    """Let IAM refuse inline policies of a role that are too large together: white space does not count."""
    from moto.iam.exceptions import LimitExceededException
    from moto.iam.models import IAMBackend

    if hasattr(IAMBackend, "limited"):  # the class is the process's
        return
    put = IAMBackend.put_role_policy

    def size(document: Any) -> int:
        read = json.loads(document) if isinstance(document, str) else document
        return len(json.dumps(read, separators=(",", ":"), ensure_ascii=False))

    def put_role_policy(self: Any, role_name: str, policy_name: str, policy_json: str) -> None:
        others = (text for name, text in self.get_role(role_name).policies.items() if name != policy_name)
        if size(policy_json) + sum(map(size, others)) > INLINE_POLICIES_LIMIT:
            message = f"Maximum policy size of {INLINE_POLICIES_LIMIT} bytes exceeded for role {role_name}"
            raise LimitExceededException(message)
        put(self, role_name, policy_name, policy_json)

    IAMBackend.put_role_policy = put_role_policy  # type: ignore[method-assign]
    IAMBackend.limited = True  # type: ignore[attr-defined]


def secret_arn(account: str, region: str, name: str) -> str:
    """Return a secret's ARN by its name or ARN; of one that is missing, without the six characters at the end."""
    from moto.secretsmanager.models import secretsmanager_backends

    secret = secretsmanager_backends[account][region].secrets.get(name)
    if secret is not None:
        return str(secret.arn)
    return name if name.startswith("arn:") else f"arn:aws:secretsmanager:{region}:{account}:secret:{name}"


def assume_role(account: str, region: str, role_arn: str, session: str, keys: tuple[str, str, str]) -> None:
    """Tell moto's STS about a function's credentials, so that GetCallerIdentity knows them."""
    from moto.sts.models import sts_backends

    assumed = sts_backends[account][PARTITION].assume_role(region, session, role_arn, None, 3600, None)  # type: ignore[arg-type]
    assumed.access_key_id, assumed.secret_access_key, assumed.session_token = keys


def forget(account: str) -> None:
    """Empty an account in all of moto's backends, which are the process's and not a server's."""
    from moto.core.base_backend import BackendDict

    with others_objects_hidden(account):
        for backends in BackendDict._instances:  # type: ignore[misc]
            if account in backends:
                backends[account].reset()
                del backends[account]
    if stack_resources := sys.modules.get("local.stack_resources"):
        stack_resources.disconnect(account)


@contextmanager
def others_objects_hidden(account: str) -> Iterator[None]:
    """Let moto's S3 see an account's own objects only: to empty one account, it throws away those of all."""
    from moto.s3.models import FakeKey, FakeMultipart

    kinds: tuple[Any, ...] = (FakeKey, FakeMultipart)
    kept = {}
    for kind in kinds:
        tracked = kind.instances_tracked
        kept[kind] = [each for each in tracked if each.account_id != account]
        kind.instances_tracked = [each for each in tracked if each.account_id == account]
    try:
        yield
    finally:
        for kind, others in kept.items():
            kind.instances_tracked = others


# --- Logs ---


class LogGroups:
    """Writes to CloudWatch Logs, making groups and streams when they are missing."""

    def __init__(self, account: str, region: str) -> None:
        """Write to moto's backend of an account and region."""
        self.account, self.region = account, region
        self.lock = threading.Lock()

    def write(self, group: str, stream: str, lines: Sequence[str]) -> None:
        """Add lines to a stream."""
        from moto.logs.models import logs_backends

        now = int(time.time() * 1000)
        events = [{"timestamp": now, "message": line} for line in lines]
        with self.lock:  # two environments may want to make the same group
            backend = logs_backends[self.account][self.region]
            if group not in backend.groups:
                backend.create_log_group(group, {})
            if stream not in backend.groups[group].streams:
                backend.create_log_stream(group, stream)
            backend.put_log_events(group, stream, events)
