"""The server as a whole: what it adds to moto, and that it leaves nothing behind."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import zlib
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local import sandbox, walls
from local.aws import EmbeddedAWS
from tests.local.support import Functions

pytestmark = pytest.mark.embedded

BUCKET = "checked-bucket"


@pytest.fixture(scope="module")
def s3(aws: EmbeddedAWS) -> Any:
    client = aws.client("s3")
    client.create_bucket(Bucket=BUCKET)
    client.put_object(Bucket=BUCKET, Key="there", Body=b"content")
    return client


# --- S3 ---


@pytest.mark.parametrize(
    ("operation", "more"),
    [
        ("get_object", {"Key": "there"}),
        ("head_object", {"Key": "there"}),
        ("put_object", {"Key": "new", "Body": b""}),
        ("delete_object", {"Key": "there"}),
        ("list_objects_v2", {}),
        ("head_bucket", {}),
    ],
)
def test_the_expected_owner_of_a_bucket_is_checked(
    aws: EmbeddedAWS, s3: Any, operation: str, more: dict[str, Any]
) -> None:
    with pytest.raises(ClientError) as caught:
        getattr(s3, operation)(Bucket=BUCKET, ExpectedBucketOwner="999999999999", **more)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert caught.value.response["Error"]["Code"] in ("AccessDenied", "403")  # HEAD has no body to say it
    if operation != "delete_object":
        getattr(s3, operation)(Bucket=BUCKET, ExpectedBucketOwner=aws.account, **more)
    assert s3.get_object(Bucket=BUCKET, Key="there")["Body"].read() == b"content"


def in_base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


@pytest.mark.parametrize(
    ("field", "right", "wrong"),
    [
        ("ChecksumSHA256", hashlib.sha256(b"body").digest(), hashlib.sha256(b"other").digest()),
        ("ChecksumSHA1", hashlib.sha1(b"body").digest(), hashlib.sha1(b"other").digest()),  # noqa: S324
        ("ChecksumCRC32", zlib.crc32(b"body").to_bytes(4, "big"), zlib.crc32(b"other").to_bytes(4, "big")),
        ("ContentMD5", hashlib.md5(b"body").digest(), hashlib.md5(b"other").digest()),  # noqa: S324
    ],
    ids=["SHA-256", "SHA-1", "CRC-32", "MD5"],
)
def test_what_was_damaged_on_the_way_is_refused(s3: Any, field: str, right: bytes, wrong: bytes) -> None:
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=BUCKET, Key="damaged", Body=b"body", **{field: in_base64(wrong)})
    assert caught.value.response["Error"]["Code"] == "BadDigest"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET, Prefix="damaged")
    s3.put_object(Bucket=BUCKET, Key="sound", Body=b"body", **{field: in_base64(right)})
    assert s3.get_object(Bucket=BUCKET, Key="sound")["Body"].read() == b"body"


def test_a_conditional_write_is_refused_when_the_object_is_there(s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="lock", Body=b"mine", IfNoneMatch="*")
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=BUCKET, Key="lock", Body=b"theirs", IfNoneMatch="*")
    assert caught.value.response["Error"]["Code"] == "PreconditionFailed"
    assert s3.get_object(Bucket=BUCKET, Key="lock")["Body"].read() == b"mine"


def test_checksums_come_back(s3: Any) -> None:
    digest = in_base64(hashlib.sha256(b"body").digest())
    s3.put_object(Bucket=BUCKET, Key="sum", Body=b"body", ChecksumSHA256=digest)
    assert s3.get_object(Bucket=BUCKET, Key="sum", ChecksumMode="ENABLED")["ChecksumSHA256"] == digest


# --- other services ---


def test_secrets_and_identity_are_served(aws: EmbeddedAWS) -> None:
    secrets = aws.client("secretsmanager")
    secrets.create_secret(Name="token", SecretString="value")
    assert secrets.get_secret_value(SecretId="token")["SecretString"] == "value"
    assert aws.client("sts").get_caller_identity()["Account"] == aws.account


def test_boto3_finds_it_by_the_environment(aws: EmbeddedAWS) -> None:
    code = "import boto3; print(boto3.client('sts').get_caller_identity()['Account'])"
    done = subprocess.run([sys.executable, "-c", code], env=aws.environ, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == aws.account


# --- several servers, and their end ---


def test_two_servers_know_nothing_of_each_other(aws: EmbeddedAWS, functions: Functions) -> None:
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="stays")
    s3.put_object(Bucket="stays", Key="key", Body=b"content")
    with EmbeddedAWS(update_seconds=0) as other:
        assert other.account != aws.account
        other.client("s3").create_bucket(Bucket="goes")
        other.client("s3").put_object(Bucket="goes", Key="key", Body=b"content")
        Functions(other, functions.runtime).create("only-there")
        assert other.client("lambda").list_functions()["Functions"]
        assert other.client("iam").list_roles()["Roles"][0]["Arn"].startswith(f"arn:aws:iam::{other.account}:")
    names = [f["FunctionName"] for f in aws.client("lambda").list_functions()["Functions"]]
    assert "only-there" not in names
    assert s3.get_object(Bucket="stays", Key="key")["Body"].read() == b"content", "after the other one's end, too"
    with EmbeddedAWS() as third:
        assert third.account == other.account, "what is closed is free again"
        assert third.client("iam").list_roles()["Roles"] == []


def parent_of(pid: int) -> int:
    """Return a process's parent; nought when it is gone."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def is_ours(pid: int) -> bool:
    """Say whether a process was begun by this one: other tests may run on this machine."""
    while pid > 1:
        pid = parent_of(pid)
        if pid == os.getpid():
            return True
    return False


def processes() -> set[int]:
    """Return the supervisors of sandboxes that are running."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if b"supervisor.py" in path.read_bytes():
                found.add(int(path.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc to see processes")
@pytest.mark.parametrize("walls", [pytest.param(True, marks=pytest.mark.walls), False])
def test_closing_leaves_no_process_thread_file_or_descriptor(
    functions: Functions, walls: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = processes(), threading.active_count(), len(os.listdir("/proc/self/fd"))
    with EmbeddedAWS(walls=walls, update_seconds=0) as aws:
        other = Functions(aws, functions.runtime)
        other.create("busy")
        other.ask("busy", "subprocess.Popen(['sleep', '1003'], start_new_session=True)")
        started = set(filter(is_ours, processes() - before[0]))
        assert started
        assert list(tmp_path.iterdir())
    del other, aws
    assert not started & processes()
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if is_sleeping(path)]
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() <= before[1]
    assert len(os.listdir("/proc/self/fd")) <= before[2] + 2  # the clients of this test may not be collected yet


def is_sleeping(cmdline: Path) -> bool:
    try:
        return cmdline.read_bytes() == b"sleep\x001003\0"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc to see processes")
@pytest.mark.parametrize("walls", [pytest.param("auto", marks=pytest.mark.walls), False])
def test_a_server_that_is_killed_takes_its_sandboxes_along(functions: Functions, walls: object, tmp_path: Path) -> None:
    script = f"""
import sys
from local.aws import EmbeddedAWS
from tests.local.support import Functions
with EmbeddedAWS(walls={walls!r}, update_seconds=0) as aws:
    functions = Functions(aws, {functions.runtime!r})
    functions.create("orphan")
    functions.ask("orphan", "subprocess.Popen(['sleep', '1004'], start_new_session=True)")
    print("running", flush=True)
    sys.stdin.read()
"""
    root = Path(__file__).resolve().parents[2]
    environ = {**os.environ, "PYTHONPATH": str(root), "TMPDIR": str(tmp_path)}
    before = processes()
    with subprocess.Popen(
        [sys.executable, "-c", script], env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout
        assert server.stdout.readline() == "running\n"
        started = set(filter(is_ours, processes() - before))
        assert started
        server.send_signal(signal.SIGKILL)
    for pid in started:  # the kernel ends them in its own time; a hanging test would show who stays
        while pid in processes():
            os.sched_yield()


def test_where_there_can_be_no_walls_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(walls, "walls_problem", lambda: "bubblewrap is not installed")
    with EmbeddedAWS() as aws:
        assert not aws.walls
    assert capsys.readouterr().err == "embedded AWS: functions run without walls, as bubblewrap is not installed.\n"
    with pytest.raises(sandbox.SandboxError, match="bubblewrap is not installed"):
        EmbeddedAWS(walls=True)


def test_the_port_can_be_chosen(aws: EmbeddedAWS) -> None:
    with EmbeddedAWS() as first:
        port = int(first.endpoint.rpartition(":")[2])
    with EmbeddedAWS(port=port) as second:
        assert second.endpoint == first.endpoint
        with pytest.raises(OSError, match="Address already in use"):
            EmbeddedAWS(port=port)
