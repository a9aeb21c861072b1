"""local: which project and handler are meant, what is kept between runs, and that the real AWS is out of reach."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import click
import pytest

from client import local
from client.aws import connect_to
from client.main import CHECKOUT
from local.aws import EmbeddedAWS

HANDLER = "def handler(event, context):\n    return event\n"


def project(tmp_path: Path, files: Mapping[str, str]) -> Path:
    """Write a project."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


# --- The handler ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "handler"),
    [
        pytest.param({"main.py": HANDLER}, "main.handler", id="at the root"),
        pytest.param({"main.py": "def run(_event, _):\n    pass\n"}, "main.run", id="with other names"),
        pytest.param({"src/app.py": HANDLER}, "src.app.handler", id="in src, which is shipped as it is"),
        pytest.param(
            {"src/app/main.py": HANDLER, "make_dist.sh": ""}, "app.main.handler", id="in src, whose content is shipped"
        ),
        pytest.param(
            {"lambda_function.py": HANDLER.replace("handler", "lambda_handler"), "other.py": HANDLER},
            "lambda_function.lambda_handler",
            id="the name that Lambda proposes",
        ),
        pytest.param(
            {
                "main.py": HANDLER + "def helper(event):\n    pass\nclass X:\n    def f(self, event, context): ...\n",
                "test_main.py": HANDLER,
                "tests/x.py": HANDLER,
                "broken.py": "def (",
            },
            "main.handler",
            id="among others",
        ),
        pytest.param({"local.json": '{"handler": "a.b"}', "main.py": HANDLER}, "a.b", id="as local.json says"),
    ],
)
def test_the_handler_is_found(tmp_path: Path, files: dict[str, str], handler: str) -> None:
    folder = project(tmp_path, files)
    assert local.read_project(folder, None, None, ()).handler == handler
    assert local.read_project(folder, "mine.own", None, ()).handler == "mine.own"


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"main.py": "x = 1\n"}, "say with --handler MODULE.FUNCTION"),
        ({"a.py": HANDLER, "b.py": HANDLER}, "which of these is to be run: a.handler, b.handler"),
        ({"local.json": '{"handlr": "a.b"}'}, "may say handler, event, env and buckets, but holds handlr"),
        ({"local.json": "{"}, "local.json is not JSON"),
    ],
)
def test_what_cannot_be_told_is_asked_for(tmp_path: Path, files: dict[str, str], said: str) -> None:
    with pytest.raises(click.UsageError, match=said):
        local.read_project(project(tmp_path, files), None, None, ())


def test_event_and_variables_come_from_the_command_line_or_from_local_json(tmp_path: Path) -> None:
    about = {"handler": "a.b", "event": {"from": "local.json"}, "env": {"AA": "1", "BB": "2"}}
    folder = project(tmp_path / "my project", {"local.json": json.dumps(about), "event.json": '{"from": "file"}'})
    found = local.read_project(folder, None, None, ())
    assert (found.event, found.env, found.name) == ({"from": "local.json"}, {"AA": "1", "BB": "2"}, "my-project")
    assert local.read_project(folder, None, f"{folder}/event.json", ()).event == {"from": "file"}
    found = local.read_project(folder, None, '{"x": 1}', ("BB=3=3", "CC="))
    assert (found.event, found.env) == ({"x": 1}, {"AA": "1", "BB": "3=3", "CC": ""})
    with pytest.raises(click.UsageError, match="neither a file nor JSON"):
        local.read_project(folder, None, "{x", ())
    with pytest.raises(click.UsageError, match="--env wants NAME=VALUE"):
        local.read_project(folder, None, None, ("=x",))


def test_a_project_that_is_not_there_is_told_with_the_examples() -> None:
    with pytest.raises(click.UsageError, match="give a folder, or one of hello, report, thumbnail"):
        local.find_project("nothing")
    assert local.find_project("hello") == CHECKOUT / "examples/hello"


# --- What is kept ---------------------------------------------------------------------------------------------


def test_the_toolchain_is_kept_by_its_digests(account: EmbeddedAWS, tmp_path: Path) -> None:
    s3, kept = account.client("s3"), tmp_path / "kept"
    s3.create_bucket(Bucket=local.BUCKET)
    local.put_toolchain(s3, kept)  # nothing is there yet
    objects = {"yo-dawg/toolchain/a.zip": b"zip", "yo-dawg/toolchain/python.json": b"{}", "yo-dawg/locks/x": b"no"}
    for key, content in objects.items():
        s3.put_object(Bucket=local.BUCKET, Key=key, Body=content)
    (kept / "older").mkdir(parents=True)
    (kept / "older").rmdir()
    (kept / "older").write_text("of a toolchain that is gone")
    local.keep_toolchain(s3, kept)
    names = {hashlib.sha256(content).hexdigest() for content in (b"zip", b"{}")}
    assert {path.name for path in kept.iterdir()} == {"objects.json", *names}

    for key in objects:
        s3.delete_object(Bucket=local.BUCKET, Key=key)
    (kept / hashlib.sha256(b"zip").hexdigest()).write_bytes(b"something else")
    local.put_toolchain(s3, kept)
    stored = [each["Key"] for each in s3.list_objects_v2(Bucket=local.BUCKET)["Contents"]]
    assert stored == ["yo-dawg/toolchain/python.json"], "what was changed is not used"


# --- The real AWS ---------------------------------------------------------------------------------------------


def test_nothing_of_the_users_leads_local_to_the_real_aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked from where everything points elsewhere, to an address that nobody serves."""
    elsewhere = "http://127.0.0.1:9"
    config = tmp_path / ".aws/config"
    config.parent.mkdir()
    text = f"ignore_configured_endpoint_urls = true\nendpoint_url = {elsewhere}\nregion = eu-west-1\nservices = x\n"
    config.write_text(f"[default]\n{text}[profile mine]\n{text}[services x]\nsts =\n  endpoint_url = {elsewhere}\n")
    hostile = {
        "HOME": str(tmp_path), "AWS_PROFILE": "mine", "AWS_SESSION_TOKEN": "mine",
        "AWS_CONFIG_FILE": str(config), "AWS_SHARED_CREDENTIALS_FILE": str(config),
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true", "AWS_ENDPOINT_URL": elsewhere,
        "AWS_ENDPOINT_URL_STS": elsewhere, "AWS_ENDPOINT_URL_S3": elsewhere, "HTTP_PROXY": elsewhere,
    }  # fmt: skip
    for given in (hostile, {name: value for name, value in hostile.items() if not name.startswith("AWS_")}):
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        own = local.leave_own_account(os.environ)
        assert own == sorted(name for name in given if name.startswith("AWS_"))
        with EmbeddedAWS(walls=False) as aws:
            keys = aws.environ["AWS_ACCESS_KEY_ID"], aws.environ["AWS_SECRET_ACCESS_KEY"]
            found = connect_to(aws.endpoint, aws.region, *keys)
            assert found.account == aws.account
            assert found.client("s3").meta.endpoint_url == aws.endpoint


# --- The story ------------------------------------------------------------------------------------------------


@pytest.mark.embedded
def test_the_last_lines_are_the_answer_of_what_was_built(tmp_path: Path) -> None:
    code = "import os\ndef main(event, context):\n    return [event, os.environ['COLOUR']]\n"
    folder = project(tmp_path / "tiny", {"app.py": code})
    command = [sys.executable, "-P", "-m", "client", "local", str(folder), "--event", "[1]", "--env", "COLOUR=blue"]
    environ = {
        **os.environ,
        "PYTHONPATH": str(CHECKOUT),
        "AWS_PROFILE": "nobody",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    }
    ran = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("status ")
    assert json.loads(ran.stdout[ran.stdout.rindex("\n[") :]) == [[1], "blue"]
    assert ran.stderr.startswith("-----> start an embedded AWS and a Git host on this machine\n")
