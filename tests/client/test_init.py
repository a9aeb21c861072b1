"""init: config.ini is asked for, checked and written; a secret is stored and never shown."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from client.config import Config
from client.main import CHECKOUT
from tests.support.fake_aws import Desk, Refusal

OPTIONS = ("--bucket", "my-own", "--base-url", "https://git.example/me", "--functions", "api, web-*")


@pytest.fixture
def desk(desk: Desk) -> Desk:
    desk.config.unlink()
    return desk


def test_options_say_it_where_nobody_can_be_asked(desk: Desk) -> None:
    ran = desk.deploy("init", *OPTIONS, "--region", "eu-west-1")
    assert ran.status == 0, ran.error
    config = Config.read(desk.config)
    assert (config.deployment_bucket, config.aws_region) == ("my-own", "eu-west-1")
    assert (config.base_url, config.deployable_functions) == ("https://git.example/me", ("api", "web-*"))
    assert config.memory_size == 3008, "the rest is as in the example"
    assert "<--" not in desk.config.read_text()
    assert not desk.aws.sessions
    again = desk.deploy("init", *OPTIONS)
    assert again.status == 1
    assert "is there already" in again.error
    assert desk.deploy("init", *OPTIONS, "--force").status == 0


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--bucket", "My_Bucket"], "--bucket = My_Bucket: must be 3 to 63 small letters"),
        (["--base-url", "https://me:hunter2@git.example"], "--base-url must not hold a user name or a password"),
        (["--functions", "a b"], "--functions holds 'a b'"),
        (["--region", "Europe"], "--region = Europe: must be a region"),
    ],
)
def test_each_answer_is_checked(desk: Desk, more: list[str], said: str) -> None:
    ran = desk.deploy("init", *OPTIONS, *more)
    assert (ran.status, ran.out) == (2, "")
    assert said in ran.error
    assert "hunter2" not in ran.error
    assert list(desk.config.parent.glob("*.ini*")) == []


def test_what_is_missing_is_named_where_nobody_can_be_asked(desk: Desk) -> None:
    ran = desk.deploy("init")
    assert ran.status == 2
    assert "--bucket is needed, since nobody can be asked" in ran.error


@pytest.mark.parametrize("there", [False, True])
def test_a_token_is_stored_and_stands_nowhere_else(desk: Desk, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    if there:
        desk.aws.replies["secretsmanager.CreateSecret"] = Refusal("ResourceExistsException")
    monkeypatch.setattr(sys, "stdin", io.StringIO("canary-token\n"))
    ran = desk.deploy("init", *OPTIONS, "--private", "token", "--secret", "git/token", "--store")
    assert ran.status == 0, ran.error
    operation = "secretsmanager.PutSecretValue" if there else "secretsmanager.CreateSecret"
    assert desk.aws.call(operation)["SecretString"] == "canary-token"
    assert Config.read(desk.config).token_secret == "git/token"
    assert "canary" not in ran.out + ran.error + desk.config.read_text()


def test_ssh_takes_a_key_and_a_known_host(desk: Desk) -> None:
    ssh = ("--bucket", "my-own", "--functions", "api", "--base-url", "git@git.example:me")
    ran = desk.deploy("init", *ssh)
    assert ran.status == 2
    assert "--known-hosts is needed" in ran.error
    hosts = desk.config.parent / "hosts"
    hosts.write_text("git.example ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ+x\n")
    ran = desk.deploy("init", *ssh, "--known-hosts", str(hosts))
    assert ran.status == 0, ran.error
    config = Config.read(desk.config)
    assert config.deploy_key_secret == "yo-dawg/git-key"
    assert config.known_hosts.startswith("git.example ssh-ed25519")


def test_at_a_terminal_it_asks_again_until_the_answer_will_do(tmp_path: Path) -> None:
    """At a real one; a bad bucket first."""
    ours, theirs = pty.openpty()
    environ = {"PATH": os.defpath, "PYTHONPATH": str(CHECKOUT), "TERM": "dumb", "HOME": str(tmp_path)}
    command = [sys.executable, "-P", "-m", "client", "-c", str(tmp_path / "config.ini"), "init"]
    with subprocess.Popen(command, env=environ, stdin=theirs, stdout=theirs, stderr=theirs) as running:
        os.close(theirs)
        answers = {
            "Region": "", "Bucket": "My_Bucket", "letters": "good-bucket", "Repositories are": "https://git.example/me",
            "Functions that": "api", "private?": "n",
        }  # fmt: skip
        said, until = "", time.monotonic() + 120
        while time.monotonic() < until:
            if select.select([ours], [], [], 1)[0]:
                try:
                    said += os.read(ours, 4096).decode()
                except OSError:  # the other end is closed
                    break
            for prompt in [prompt for prompt in answers if prompt in said and said.rstrip(" ").endswith(":")]:
                said = ""
                os.write(ours, f"{answers.pop(prompt)}\n".encode())
    with contextlib.suppress(OSError):
        os.close(ours)
    assert running.returncode == 0, said
    assert Config.read(tmp_path / "config.ini").deployment_bucket == "good-bucket"
