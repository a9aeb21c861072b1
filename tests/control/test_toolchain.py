"""The toolchain: taken from S3 only if it is the one that was meant, and not a byte of it changed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lambda_function import bootstrap
from tests.support.yard import lay_toolchain
from tests.support.yard import put_toolchain as put
from yo_dawg.builder import TESTED_RUNTIMES, Builder
from yo_dawg.control.archives import ARCHIVES, OpenFile
from yo_dawg.control.job import Job
from yo_dawg.control.probes_here import END_OF_LIFE
from yo_dawg.control.toolchain import (
    fetch_toolchain,
    toolchain_inputs,
    toolchain_key,
    toolchain_pointer,
)
from yo_dawg.control.workshop import try_toolchain
from yo_dawg.errors import DeployError, NotBootstrapped
from yo_dawg.events import BootstrapRequest
from yo_dawg.toolchain import TOOLCHAIN_PARTS
from yo_dawg.workspace import HERE

BUILDER = Builder("yo-dawg", "arn:aws:lambda:us-east-1:123456789012:function:yo-dawg", "id", "python3.13", "x86_64")
DIGESTS = dict.fromkeys(TOOLCHAIN_PARTS, "0" * 64)


def put_toolchain(job: Job, folder: Path) -> dict[str, str]:
    """Store a toolchain as bootstrap does; return the digests of its parts."""
    return put(lay_toolchain(folder / "made/toolchain"), job.builder, job.store)


def test_a_stored_toolchain_is_fetched_once_and_can_be_used(job: Job, tmp_path: Path) -> None:
    parts = put_toolchain(job, tmp_path)
    for part in TOOLCHAIN_PARTS:
        assert fetch_toolchain(part, job).sha256().hexdigest() == parts[part]
        assert ARCHIVES.get(parts[part]) is not None, "the next invocation need not fetch it"
    assert [path.name for path in job.space.root.iterdir() if path.is_file()] == [], "no project can get at it"
    assert try_toolchain([*TOOLCHAIN_PARTS], job).startswith("uv ")


@pytest.mark.parametrize(("runtime", "warns"), [("python3.14", False), ("python3.15", True)])
def test_a_runtime_newer_than_what_is_tested_gets_a_warning(
    job: Job, tmp_path: Path, runtime: str, warns: bool
) -> None:
    job = dataclasses.replace(job, builder=dataclasses.replace(job.builder, runtime=runtime))
    put_toolchain(job, tmp_path)
    answer = bootstrap(BootstrapRequest(), job)
    assert answer["status"] == "unchanged"
    assert bool(answer["warnings"]) is warns
    assert all(
        "python3.15 is not among the runtimes that this yo-dawg is tested with" in each for each in answer["warnings"]
    )


def test_when_a_tested_runtime_ends_is_known() -> None:
    assert set(TESTED_RUNTIMES) == set(END_OF_LIFE)


@pytest.mark.parametrize(
    "pointer",
    [
        pytest.param(None, id="nothing is stored"),
        pytest.param(b"no JSON", id="no JSON"),
        pytest.param(b'"a string"', id="no object"),
        pytest.param({"inputs": "0" * 64, "parts": DIGESTS}, id="made of other pins"),
        pytest.param({"inputs": "OURS", "parts": DIGESTS | {"uv": "../../x"}}, id="a digest that is none"),
        pytest.param({"inputs": "OURS", "parts": {"git": "0" * 64}}, id="a digest is missing"),
        pytest.param({"inputs": "OURS", "parts": "0" * 64}, id="no digests"),
    ],
)
def test_without_a_toolchain_that_fits_the_operator_is_told_what_to_do(job: Job, pointer: object) -> None:
    if pointer is not None:
        body = pointer if isinstance(pointer, bytes) else json.dumps(pointer).encode()
        body = body.replace(b"OURS", toolchain_inputs(job.builder).encode())
        job.store.s3.put_object(Bucket="bucket", Key=f"yo-dawg/{toolchain_pointer(job.builder)}", Body=body)
    with pytest.raises(NotBootstrapped) as refused:
        fetch_toolchain("git", job)
    assert f"s3://bucket/yo-dawg/toolchain/{job.builder.platform}.json" in str(refused.value)
    assert "./deploy.sh bootstrap" in str(refused.value)


@pytest.mark.parametrize("part", TOOLCHAIN_PARTS)
@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param(b"another zip", "has been changed: its SHA-256 is [0-9a-f]{64}. It was not run", id="changed"),
        pytest.param(None, "is missing", id="missing"),
    ],
)
def test_a_toolchain_that_is_not_the_one_that_was_made_is_not_handed_out(
    job: Job, tmp_path: Path, part: str, body: bytes | None, words: str
) -> None:
    parts = put_toolchain(job, tmp_path)
    key = f"yo-dawg/{toolchain_key(parts[part])}"
    job.store.s3.delete_object(Bucket="bucket", Key=key)
    if body:
        job.store.s3.put_object(Bucket="bucket", Key=key, Body=body)
    with pytest.raises(NotBootstrapped, match=words) as refused:
        fetch_toolchain(part, job)
    assert '"force": true' in str(refused.value)
    assert ARCHIVES.get(parts[part]) is None


def test_what_decides_what_is_in_a_toolchain_decides_its_inputs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = {toolchain_inputs(BUILDER), toolchain_inputs(dataclasses.replace(BUILDER, runtime="python3.99"))}
    seen.add(toolchain_inputs(dataclasses.replace(BUILDER, architecture="other")))
    pins = (HERE / "requirements.txt").read_text()
    monkeypatch.setattr("yo_dawg.toolchain.HERE", tmp_path)
    for text in (pins.replace("dulwich==", "dulwich==9"), pins.replace("boto3==", "boto3==9")):
        (tmp_path / "requirements.txt").write_text(text)
        seen.add(toolchain_inputs(BUILDER))
    assert len(seen) == 4, "boto3 is not of the toolchain"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"bucket": "no-such-bucket"}, "NoSuchBucket", id="no bucket"),
        pytest.param({"owner": "999999999999"}, "AccessDenied", id="a bucket of somebody else's"),
    ],
)
def test_a_refusal_is_not_taken_for_a_missing_toolchain(job: Job, change: dict[str, str], words: str) -> None:
    with pytest.raises(DeployError, match=words):
        fetch_toolchain("git", dataclasses.replace(job, store=dataclasses.replace(job.store, **change)))


# --- bootstrap ------------------------------------------------------------------------------------


def test_a_toolchain_that_fits_is_left_as_it_is(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = put_toolchain(job, tmp_path)["git"]
    monkeypatch.setattr(job.workshop, "ask", lambda *_: pytest.fail("made anew"))
    answer = bootstrap(BootstrapRequest(), job)
    assert answer["status"] == "unchanged"
    assert answer["toolchain"] == {
        "s3_uri": f"s3://bucket/yo-dawg/toolchain/{digest}.zip", "sha256": digest, "packages": ["small==1"],
    }  # fmt: skip


@pytest.mark.parametrize("why", ["forced", "nothing stored", "zip is gone", "zip was changed"])
def test_a_toolchain_is_made_and_stored(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    """How it is made, tests/workshop/test_toolchain.py has, and with the real pins tests/test_embedded.py."""

    def make(name: str, _question: Any, files: Mapping[str, OpenFile], *_: Any) -> dict[str, Any]:
        assert name == "toolchain"
        for part, file in files.items():
            file.file.write(f"the zip for {part}".encode())
        return {"packages": ["dulwich==1", "\x1b[31mred"]}

    if why != "nothing stored":
        key = f"yo-dawg/{toolchain_key(put_toolchain(job, tmp_path)['uv'])}"
        if why != "forced":
            job.store.s3.delete_object(Bucket="bucket", Key=key)
        if why == "zip was changed":
            job.store.s3.put_object(Bucket="bucket", Key=key, Body=b"x", ChecksumAlgorithm="SHA256")
    monkeypatch.setattr(job.workshop, "ask", make)
    answer = bootstrap(BootstrapRequest(force=why == "forced"), job)
    assert answer["status"] == "bootstrapped"
    assert answer["toolchain"]["packages"] == ["dulwich==1", "red"]
    later = dataclasses.replace(job)  # of the next invocation, which reads the pointer anew
    for part in TOOLCHAIN_PARTS:
        file = fetch_toolchain(part, later)
        assert Path(f"/proc/self/fd/{file.fileno()}").read_bytes() == f"the zip for {part}".encode()
