"""S3 in memory: conditional writes, checksums, and listings in the order of the keys' bytes.

Unlike the embedded AWS's it does not go through HTTP, boto3 or moto: a call takes microseconds.
"""

from __future__ import annotations

import base64
import hashlib
import io
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from tests.simulation.faults import conflict, refusal, suffer

if TYPE_CHECKING:
    from tests.simulation.world import World


class Stored(NamedTuple):
    """An object."""

    content: bytes
    etag: str
    sha256: str


class Body:
    """What a GET hands out."""

    def __init__(self, content: bytes) -> None:
        """Hold it."""
        self.content = content

    def read(self) -> bytes:
        """Return all of it."""
        return self.content

    def iter_chunks(self, _size: int) -> list[bytes]:
        """Return it in one piece."""
        return [self.content]


class S3:
    """A client, and the one bucket that it sees.  Keys are given without the builder's prefix to who watches."""

    exceptions = SimpleNamespace(ClientError=ClientError)

    def __init__(self, world: World, objects: dict[str, Stored]) -> None:
        """Begin with these objects."""
        self.world, self.objects = world, dict(objects)
        self.at_first = dict(objects)

    def _call(self, operation: str, key: str, call: Any) -> Any:
        world = self.world
        fault = world.point(operation, key)
        actor = world.current
        assert actor is not None
        world.take()
        if actor.busy_until.get(operation, 0.0) > world.now and "ledger" not in key:
            raise conflict(operation)
        if fault is None:
            return call()
        if fault == "stale":
            return self._list(self.at_first, key)
        return suffer(fault, operation, call, True, actor, world)

    def get_object(self, *, Key: str, **_: Any) -> dict[str, Any]:
        """Return an object."""

        def get() -> dict[str, Any]:
            found = self._find(Key, "NoSuchKey")
            return {"Body": Body(found.content), "ETag": found.etag}

        return self._call("get_object", Key, get)  # type: ignore[no-any-return]

    def head_object(self, *, Key: str, **_: Any) -> dict[str, Any]:
        """Return what is known of an object."""
        return self._call(  # type: ignore[no-any-return]
            "head_object", Key, lambda: {"ChecksumSHA256": self._find(Key, "404").sha256}
        )

    def _find(self, key: str, code: str) -> Stored:
        if key not in self.objects:
            raise refusal(code, "there is no such object", "GetObject")
        return self.objects[key]

    def put_object(
        self, *, Key: str, Body: Any, ChecksumSHA256: str, IfMatch: str = "", IfNoneMatch: str = "", **_: Any
    ) -> dict[str, Any]:
        """Store an object, if it is still as the condition says."""

        def put() -> dict[str, Any]:
            before = self.objects.get(Key)
            if IfMatch and before is None:
                raise refusal("NoSuchKey", "there is no such object", "PutObject")
            if (IfMatch and before and before.etag != IfMatch) or (IfNoneMatch and before):
                raise refusal("PreconditionFailed", "it has changed", "PutObject")
            content = Body if isinstance(Body, bytes) else rewound(Body)
            after = stored(content)
            if after.sha256 != ChecksumSHA256:
                raise refusal("BadDigest", "another checksum", "PutObject")
            self.objects[Key] = after
            if self.world.watch:
                self.world.watch.stored(Key, before, after)
            return {"ETag": after.etag}

        return self._call("put_object", Key, put)  # type: ignore[no-any-return]

    def list_objects_v2(self, *, Prefix: str, **_: Any) -> dict[str, Any]:
        """Return the objects whose keys begin with a prefix."""
        return self._call("list_objects_v2", Prefix, lambda: self._list(self.objects, Prefix))  # type: ignore[no-any-return]

    def _list(self, objects: dict[str, Stored], prefix: str) -> dict[str, Any]:
        return {"Contents": [{"Key": key} for key in sorted(objects) if key.startswith(prefix)]}

    def delete_objects(self, *, Delete: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Delete objects."""

        def delete() -> dict[str, Any]:
            for each in Delete["Objects"]:
                self.objects.pop(each["Key"], None)
            return {}

        first = Delete["Objects"][0]["Key"] if Delete["Objects"] else ""
        return self._call("delete_objects", first, delete)  # type: ignore[no-any-return]


def rewound(body: Any) -> bytes:
    """Return all that an open file holds; the client rewinds it before it tries again."""
    body.seek(0)
    content: bytes = body.read()
    return content


def stored(content: bytes) -> Stored:
    """Return an object with its digests."""
    digest = hashlib.sha256(content).digest()
    return Stored(content, f'"{digest.hex()[:32]}"', base64.b64encode(digest).decode())


def buffer(content: bytes = b"") -> io.BytesIO:
    """Return an open file."""
    return io.BytesIO(content)
