"""The builder's own corner of S3."""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from yo_dawg.control.clients import error_code, is_denied, translate_aws_errors
from yo_dawg.digests import base64_to_hex, in_base64
from yo_dawg.errors import DeployError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


SECONDS_TO_BE_ALLOWED = 60.0
"""How long IAM may take until a new role's policies hold everywhere; a minute is far more than is usual."""


@dataclass(frozen=True)
class Store:
    """The builder's own corner of S3: BUCKET/PREFIX/…, in a bucket that must belong to this account."""

    s3: Any
    bucket: str
    prefix: str
    owner: str

    def uri(self, key: str) -> str:
        """Return the s3:// address of a key."""
        return f"s3://{self.bucket}/{self.prefix}/{key}"

    def _where(self, key: str) -> dict[str, str]:
        # ExpectedBucketOwner: a bucket of the same name in someone else's account is refused.
        return {"Bucket": self.bucket, "Key": f"{self.prefix}/{key}", "ExpectedBucketOwner": self.owner}

    def _says(self, doing: str) -> AbstractContextManager[None]:
        """Turn AWS's refusals into errors, see ``translate_aws_errors``."""
        return translate_aws_errors(doing, find_key=self._key)

    def _key(self) -> object:
        """Return the key of KMS with which the bucket encrypts, if S3 tells us."""
        found = self.s3.get_bucket_encryption(Bucket=self.bucket, ExpectedBucketOwner=self.owner)
        (rule,) = found["ServerSideEncryptionConfiguration"]["Rules"]
        return rule["ApplyServerSideEncryptionByDefault"].get("KMSMasterKeyID")

    def wait_until_allowed(self, key: str) -> None:
        """Wait until the role may read and list: what IAM was just told takes a while to hold everywhere."""
        until = time.monotonic() + SECONDS_TO_BE_ALLOWED
        pause = 1.0
        with self._says(f"read {self.uri(key)}"):
            while True:
                try:
                    self._ask(self.s3.head_object, key)
                    return
                except self.s3.exceptions.ClientError as error:
                    if not is_denied(error) or time.monotonic() + pause > until:
                        raise
                time.sleep(pause)
                pause = min(2 * pause, 10.0)

    def download(self, key: str, target: Path) -> str | None:
        """Copy an object to a file, in pieces, and return its SHA-256 in hex; None if there is no such object."""
        with target.open("wb") as file:
            return self.copy(key, file)

    def copy(self, key: str, file: IO[bytes]) -> str | None:
        """Copy an object to an open file; else as ``download``."""
        with self._says(f"read {self.uri(key)}"):
            found = self._ask(self.s3.get_object, key)
            if found is None:
                return None
            digest = hashlib.sha256()
            for chunk in found["Body"].iter_chunks(1 << 20):
                digest.update(chunk)
                file.write(chunk)
        return digest.hexdigest()

    def holds(self, key: str, sha256: str) -> bool:
        """Say whether there is such an object, with this SHA-256 (in hex) by S3's own reckoning.

        One without any is not ours: we store none without.
        """
        with self._says(f"look for {self.uri(key)}"):
            found = self._ask(self.s3.head_object, key, ChecksumMode="ENABLED")
        if found is None:
            return False
        return bool(base64_to_hex(found.get("ChecksumSHA256", "")) == sha256)

    def _ask(self, call: Callable[..., Any], key: str, **options: str) -> Any:
        """Make a call about an object; return its answer, or None if there is no such object."""
        try:
            return call(**self._where(key), **options)
        except self.s3.exceptions.ClientError as error:
            if self._is_missing(key, error):
                return None
            raise

    def _is_missing(self, key: str, error: Exception) -> bool:
        """Say whether S3 refused since there is no such object.

        To a role that may list only below a prefix, S3 answers 403 for an object that is not there,
        as for one that is forbidden; a listing tells the two apart.
        """
        if error_code(error) in ("AccessDenied", "403"):
            where = {"Bucket": self.bucket, "Prefix": f"{self.prefix}/{key}", "ExpectedBucketOwner": self.owner}
            # A key comes before those that it begins.
            first = self.s3.list_objects_v2(**where, MaxKeys=1).get("Contents") or [{}]
            return bool(first[0].get("Key") != where["Prefix"])
        return error_code(error) in ("NoSuchKey", "404")

    def read(self, key: str) -> tuple[bytes, str] | None:
        """Return a small object and its ETag; None if there is no such object."""
        with self._says(f"read {self.uri(key)}"):
            found = self._ask(self.s3.get_object, key)
            return found and (found["Body"].read(), found["ETag"])

    def replace(self, key: str, content: bytes, etag: str | None) -> str | None:
        """Store a small object if it is still the one with this ETag, or still missing (None).

        Returns its new ETag, "" if S3 does not say; None if it was not.  S3 compares and writes in one step (the S3
        user guide, "conditional writes").
        """
        condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
        with self._says(f"write {self.uri(key)}"):
            try:
                stored = self.s3.put_object(
                    **self._where(key), **condition, Body=content, ContentType="application/json",
                    ChecksumSHA256=in_base64(hashlib.sha256(content)),
                )  # fmt: skip
            except self.s3.exceptions.ClientError as error:
                if error_code(error) in ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"):
                    return None
                raise
        return str(stored.get("ETag", ""))

    def encryption(self, key: str) -> str:
        """Say how S3 encrypts an object."""
        with self._says(f"look for {self.uri(key)}"):
            found = self.s3.head_object(**self._where(key))
        how = found.get("SSEKMSKeyId") or found.get("ServerSideEncryption")
        return f"S3 encrypts with {how}" if how else "S3 does not say how it encrypts"

    def packages(self, function: str) -> list[str]:
        """Return the keys of a function's stored packages."""
        where = {"Bucket": self.bucket, "Prefix": f"{self.prefix}/packages/{function}/"}
        with self._says(f"list the packages of {function}"):
            found = self.s3.list_objects_v2(**where, ExpectedBucketOwner=self.owner)
        return [each["Key"].removeprefix(f"{self.prefix}/") for each in found.get("Contents", [])]

    def object_version(self, key: str) -> str:
        """Return the version of an object that Lambda is to go on reading; raise DeployError if there is none."""
        with self._says(f"look for {self.uri(key)}"):
            version = self.s3.head_object(**self._where(key)).get("VersionId")
        if version in (None, "null"):
            raise DeployError(
                f"The function runs its code from S3 (S3ObjectStorageMode), which wants a bucket that keeps versions: "
                f"turn versioning on for {self.bucket}, or give the function a copy of its code."
            )
        return str(version)

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects."""
        refused = []
        for start in range(0, len(keys), 1000):  # S3 takes no more at once
            objects = [{"Key": f"{self.prefix}/{key}"} for key in keys[start : start + 1000]]
            with self._says(f"delete {len(keys)} old objects"):
                answer = self.s3.delete_objects(
                    Bucket=self.bucket, ExpectedBucketOwner=self.owner, Delete={"Objects": objects, "Quiet": True}
                )
            refused += answer.get("Errors", [])
        if refused:
            raise DeployError(f"Cannot delete {len(refused)} of {len(keys)} old objects: {refused[0]['Code']}.")

    def upload(self, key: str, body: IO[bytes], content_type: str, sha256: str = "") -> None:
        """Store an open file, streamed; S3 compares the SHA-256, in base64 if it is known, before it keeps a byte."""
        body.seek(0)
        sha256 = sha256 or in_base64(hashlib.file_digest(cast(io.BufferedIOBase, body), "sha256"))
        body.seek(0)
        with self._says(f"write {self.uri(key)}"):
            self.s3.put_object(**self._where(key), Body=body, ChecksumSHA256=sha256, ContentType=content_type)

    def upload_json(self, key: str, value: object) -> None:
        """Store a value as JSON."""
        self.upload(key, io.BytesIO(json.dumps(value, indent=1).encode()), "application/json")
