"""The toolchain: taken from S3 only if it is the one that was meant, and not a byte of it changed."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path

import pytest
from botocore.stub import Stubber

from lambda_function import bootstrap
from local.aws import EmbeddedAWS
from yo_dawg.builder import Builder
from yo_dawg.control.clients import Aws
from yo_dawg.control.job import Job
from yo_dawg.control.store import Store
from yo_dawg.control.toolchain import (
    TOOLCHAIN_PARTS,
    Toolchain,
    get_toolchain,
    store_toolchain,
    toolchain_inputs,
    toolchain_key,
    toolchain_pointer,
)
from yo_dawg.disk import refuse_if_disk_full
from yo_dawg.errors import ConfigError, DependencyError, DeployError, NotBootstrapped
from yo_dawg.events import BootstrapRequest
from yo_dawg.log import Log
from yo_dawg.process import Command, CommandFailed, Shell
from yo_dawg.settings import Settings
from yo_dawg.workshop.make_toolchain import collect_toolchain, install_toolchain, make_virtualenv, zip_toolchain
from yo_dawg.workspace import HERE, Workspace

BUILDER = Builder("yo-dawg", "arn:aws:lambda:us-east-1:123456789012:function:yo-dawg", "id", "python3.13", "x86_64")
INPUTS, DIGESTS = toolchain_inputs(BUILDER), dict.fromkeys(TOOLCHAIN_PARTS, "0" * 64)


@pytest.fixture
def store(aws: Aws, account: EmbeddedAWS) -> Store:
    return Store(aws.s3, "bucket", "yo-dawg", account.account)


@pytest.fixture
def job(store: Store, aws: Aws, space: Workspace, shell: Shell, log: Log) -> Job:
    settings = Settings("bucket", ("*",), "https://git.example", "", "", space.root.parent, tmp_is_ours=True)
    return Job(settings, BUILDER, space, log, shell, aws, store)


def fetch(job: Job) -> Toolchain:
    """Fetch all of a toolchain."""
    toolchain = get_toolchain(job)
    for part in set(TOOLCHAIN_PARTS) - {"git"}:
        toolchain.wait(part)
    return toolchain


def put_toolchain(store: Store, folder: Path) -> dict[str, str]:
    """Store a small toolchain as bootstrap does; return the digests of its parts."""
    space = Workspace(folder / "made")
    for name, mode in (("site-packages/small.py", 0o644), ("bin/uv", 0o755), ("site-packages/paramiko/a.py", 0o644)):
        path = space.toolchain / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x = 1\n")
        path.chmod(mode)
    archives = zip_toolchain(Toolchain(space.toolchain), space)
    parts: dict[str, str] = store_toolchain(archives, ["small==1"], BUILDER, store)["parts"]
    return parts


def test_a_stored_toolchain_is_unpacked_and_can_be_used(job: Job, tmp_path: Path) -> None:
    put_toolchain(job.store, tmp_path)
    toolchain = get_toolchain(job)
    assert [path.name for path in toolchain.root.iterdir()] == ["site-packages"]
    assert [path.name for path in toolchain.packages.iterdir()] == ["small.py"], "what is for uv or SSH may never come"
    assert os.access(toolchain.uv, os.X_OK)
    assert (toolchain.packages / "small.py").read_text() == "x = 1\n"
    toolchain.wait("ssh")
    assert (toolchain.packages / "paramiko/a.py").read_text() == "x = 1\n"
    assert not [*job.space.root.glob("*.zip")], "/tmp is small"


@pytest.mark.parametrize(
    "pointer",
    [
        pytest.param(None, id="nothing is stored"),
        pytest.param(b"no JSON", id="no JSON"),
        pytest.param(b'"a string"', id="no object"),
        pytest.param({"inputs": "0" * 64, "parts": DIGESTS}, id="made of other pins"),
        pytest.param({"inputs": INPUTS, "parts": DIGESTS | {"uv": "../../x"}}, id="a digest that is none"),
        pytest.param({"inputs": INPUTS, "parts": {"git": "0" * 64}}, id="a digest is missing"),
        pytest.param({"inputs": INPUTS, "parts": "0" * 64}, id="no digests"),
    ],
)
def test_without_a_toolchain_that_fits_the_operator_is_told_what_to_do(job: Job, pointer: object) -> None:
    if pointer is not None:
        body = pointer if isinstance(pointer, bytes) else json.dumps(pointer).encode()
        job.store.s3.put_object(Bucket="bucket", Key=f"yo-dawg/{toolchain_pointer(BUILDER)}", Body=body)
    with pytest.raises(NotBootstrapped) as refused:
        fetch(job)
    assert f"s3://bucket/yo-dawg/toolchain/{BUILDER.platform}.json" in str(refused.value)
    assert "./deploy.sh bootstrap" in str(refused.value)


@pytest.mark.parametrize("part", TOOLCHAIN_PARTS)
@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param(b"another zip", "has been changed: its SHA-256 is [0-9a-f]{64}. It was not run", id="changed"),
        pytest.param(None, "is missing", id="missing"),
    ],
)
def test_a_toolchain_that_is_not_the_one_that_was_made_is_not_unpacked(
    job: Job, tmp_path: Path, part: str, body: bytes | None, words: str
) -> None:
    parts = put_toolchain(job.store, tmp_path)
    key = f"yo-dawg/{toolchain_key(parts[part])}"
    job.store.s3.delete_object(Bucket="bucket", Key=key)
    if body:
        job.store.s3.put_object(Bucket="bucket", Key=key, Body=body)
    with pytest.raises(NotBootstrapped, match=words) as refused:
        fetch(job)
    assert '"force": true' in str(refused.value)
    files = {path.name for path in job.space.toolchain.rglob("*") if path.is_file()}
    assert not files & {"git": {"small.py", "a.py", "uv"}, "uv": {"uv"}, "ssh": {"a.py"}}[part]


def test_what_decides_what_is_in_a_toolchain_decides_its_inputs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = {toolchain_inputs(BUILDER), toolchain_inputs(dataclasses.replace(BUILDER, runtime="python3.99"))}
    seen.add(toolchain_inputs(dataclasses.replace(BUILDER, architecture="other")))
    pins = (HERE / "requirements.txt").read_text()
    monkeypatch.setattr("yo_dawg.builder.HERE", tmp_path)
    monkeypatch.setattr("yo_dawg.control.toolchain.HERE", tmp_path)
    monkeypatch.setattr("yo_dawg.settings.HERE", tmp_path)
    monkeypatch.setattr("yo_dawg.workshop.make_toolchain.HERE", tmp_path)
    monkeypatch.setattr("yo_dawg.workshop.package.install.HERE", tmp_path)
    monkeypatch.setattr("yo_dawg.workshop.package.rules.HERE", tmp_path)
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
        fetch(dataclasses.replace(job, store=dataclasses.replace(job.store, **change)))


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


def test_s3_compares_what_arrives_with_the_checksum(store: Store, tmp_path: Path) -> None:
    digest = put_toolchain(store, tmp_path)["uv"]
    assert store.holds(toolchain_key(digest), digest)
    assert not store.holds(toolchain_key(digest), "0" * 64)
    assert not store.holds(toolchain_key("0" * 64), "0" * 64)


# --- bootstrap ------------------------------------------------------------------------------------


def test_a_toolchain_that_fits_is_left_as_it_is(
    job: Job, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = put_toolchain(store, tmp_path)["git"]
    monkeypatch.setattr("lambda_function.make_virtualenv", lambda *_: pytest.fail("made anew"))
    answer = bootstrap(BootstrapRequest(), job)
    assert answer["status"] == "unchanged"
    assert answer["toolchain"] == {
        "s3_uri": f"s3://bucket/yo-dawg/toolchain/{digest}.zip", "sha256": digest, "packages": ["small==1"],
    }  # fmt: skip


@pytest.mark.parametrize("why", ["forced", "nothing stored", "zip is gone", "zip was changed"])
def test_a_toolchain_is_made_proved_and_stored(
    job: Job, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    def virtualenv(space: Workspace, shell: Shell) -> Path:
        return space.root / "virtualenv"

    def install(virtualenv: Path, space: Workspace, shell: Shell) -> None:
        """Lay out what pip would, less the download."""
        packages = virtualenv / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
        files = {name: "" for name in ("client", "index", "object_store")}
        for name in (
            *(f"dulwich/{each}.py" for each in ("__init__", *files)),
            "paramiko.py",
            "urllib3.py",
            "pip/a.py",
            "b.pth",
        ):
            (packages / name).parent.mkdir(parents=True, exist_ok=True)
            (packages / name).write_text("")
        for name in ("METADATA", "RECORD", "INSTALLER"):
            (packages / "dulwich-1.dist-info").mkdir(exist_ok=True)
            (packages / "dulwich-1.dist-info" / name).write_text("Name: dulwich\nVersion: 1\n")
        (virtualenv / "bin").mkdir()
        (virtualenv / "bin/uv").write_text("#!/bin/sh\necho uv 1\n")
        (virtualenv / "bin/uv").chmod(0o755)

    if why != "nothing stored":
        key = f"yo-dawg/{toolchain_key(put_toolchain(store, tmp_path)['uv'])}"
        if why != "forced":
            store.s3.delete_object(Bucket="bucket", Key=key)
        if why == "zip was changed":
            store.s3.put_object(Bucket="bucket", Key=key, Body=b"x", ChecksumAlgorithm="SHA256")
    monkeypatch.setattr("lambda_function.make_virtualenv", virtualenv)
    monkeypatch.setattr("lambda_function.install_toolchain", install)
    answer = bootstrap(BootstrapRequest(force=why == "forced"), job)
    assert answer["status"] == "bootstrapped"
    assert answer["toolchain"]["packages"] == ["dulwich==1"]
    for part in TOOLCHAIN_PARTS:
        (job.space.root / part).rename(job.space.root / f"{part}, as made")
    toolchain = fetch(job)
    names = {path.relative_to(toolchain.root).as_posix() for path in toolchain.root.rglob("*.*") if path.is_file()}
    assert {name for name in names if "__pycache__" not in name} == {
        *(f"site-packages/dulwich/{name}.py" for name in ("__init__", "client", "index", "object_store")),
        "site-packages/paramiko.py",
        "site-packages/urllib3.py",
    }
    tag = f"cpython-{sys.version_info.major}{sys.version_info.minor}.pyc"
    assert f"site-packages/__pycache__/urllib3.{tag}" in names, "compiled, and stays so in the zip"
    metadata = {path.name for path in (toolchain.packages / "dulwich-1.dist-info").iterdir()}
    assert metadata == {"METADATA"}, "no paths of the virtualenv"


def test_a_toolchain_that_does_not_run_is_not_stored(space: Workspace, shell: Shell) -> None:
    packages = space.root / f"virtualenv/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    packages.mkdir(parents=True)
    uv = space.root / "virtualenv/bin/uv"
    uv.parent.mkdir()
    uv.write_text("#!/bin/sh\necho Illegal instruction; exit 132\n")
    uv.chmod(0o755)
    with pytest.raises(ConfigError, match="does not work here: it ended with exit status 132(?s:.)*Illegal"):
        collect_toolchain(space.root / "virtualenv", space, shell)


def test_the_virtualenv_is_one_with_pip_in_it(space: Workspace, shell: Shell) -> None:
    made = make_virtualenv(space, shell)
    said = shell.run(Command([made / "bin/python", "-m", "pip", "--version"], space.root))
    assert str(made) in said


def test_without_virtualenv_in_the_zip_the_operator_is_told(
    space: Workspace, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", sys.base_prefix + "/bin/python3")  # one without packages
    with pytest.raises(ConfigError, match=r"virtualenv ended with exit status 1.*deploy\.sh bootstrap(?s:.)*No module"):
        make_virtualenv(space, shell)


def test_a_toolchain_that_cannot_be_installed_says_what_pip_said(
    space: Workspace, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "yo_dawg.control.toolchain.requirement_group",
        lambda text, name: "--no-index\ndulwich==0 --hash=sha256:" + "0" * 64,
    )
    with pytest.raises(DependencyError, match="pip ended with exit status 1(?s:.)*No matching distribution"):
        install_toolchain(make_virtualenv(space, shell), space, shell)


def test_a_full_disk_is_told_by_all_stages_alike(space: Workspace) -> None:
    refuse_if_disk_full(CommandFailed(1, ["cp: cannot stat 'a'"]), space)
    for said in ("[Errno 28] No space left on device", "failed to write: os error 28", "ENOSPC"):
        with pytest.raises(ConfigError, match="ephemeral_storage"):
            refuse_if_disk_full(CommandFailed(1, ["a", said]), space)


def test_where_the_parts_of_a_toolchain_lie() -> None:
    toolchain = Toolchain(Path("/tmp/yo-dawg/toolchain"))
    assert (toolchain.packages.name, toolchain.uv.name) == ("site-packages", "uv")
