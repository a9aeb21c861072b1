"""The builder's corner of S3: what is there is told from what is not, and from what is refused."""

from __future__ import annotations

import base64
import hashlib
import io

import pytest
from botocore.stub import Stubber

from yo_dawg.control.store import Store
from yo_dawg.errors import DeployError
from yo_dawg.workspace import Workspace


@pytest.mark.parametrize("code", ["AccessDenied", "403"])
@pytest.mark.parametrize("listed", [True, False], ids=["there", "not there"])
def test_a_403_is_told_from_a_missing_object_by_a_listing(
    store: Store, space: Workspace, code: str, listed: bool
) -> None:
    """So S3 answers a role that may list below a prefix only."""
    where = {"Bucket": "bucket", "Prefix": "yo-dawg/key", "ExpectedBucketOwner": store.owner, "MaxKeys": 1}
    with Stubber(store.s3) as s3:
        for operation in ("get_object", "head_object"):
            s3.add_client_error(operation, code, "no")
            s3.add_response("list_objects_v2", {"Contents": [{"Key": "yo-dawg/key"}]} if listed else {}, where)
        if listed:
            with pytest.raises(DeployError, match="Cannot read s3://bucket/yo-dawg/key: AWS answered"):
                store.download("key", space.root / "x")
            with pytest.raises(DeployError, match="Cannot look for s3://bucket/yo-dawg/key: AWS answered"):
                store.holds("key", "0" * 64)
        else:
            assert store.download("key", space.root / "x") is None
            assert not store.holds("key", "0" * 64)
        s3.assert_no_pending_responses()


def test_s3_compares_what_arrives_with_the_checksum(store: Store) -> None:
    digest = hashlib.sha256(b"content").hexdigest()
    store.upload("key", io.BytesIO(b"content"), "text/plain")
    assert store.holds("key", digest)
    assert not store.holds("key", "0" * 64)
    assert not store.holds("other", "0" * 64)
    wrong = base64.b64encode(bytes(32)).decode()
    with pytest.raises(DeployError, match="Cannot write s3://bucket/yo-dawg/key"):
        store.upload("key", io.BytesIO(b"other"), "text/plain", wrong)
    assert store.holds("key", digest), "what was there is there"
