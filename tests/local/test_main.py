"""What "./deploy.sh local" hands on to the AWS CLI."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from local.__main__ import client_environ
from local.aws import EmbeddedAWS


def test_nothing_of_the_users_leads_local_to_the_real_aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked from where everything points elsewhere, to an address that nobody serves."""
    elsewhere = "http://127.0.0.1:9"
    config, wrong = tmp_path / ".aws/config", tmp_path / "bin/aws"
    config.parent.mkdir()
    text = f"ignore_configured_endpoint_urls = true\nendpoint_url = {elsewhere}\nregion = eu-west-1\nservices = x\n"
    config.write_text(f"[default]\n{text}[profile mine]\n{text}[services x]\nsts =\n  endpoint_url = {elsewhere}\n")
    wrong.parent.mkdir()
    wrong.write_text("#!/bin/sh\nexit 99\n")
    wrong.chmod(0o755)
    hostile = {
        "HOME": str(tmp_path), "PATH": f"{wrong.parent}:{os.environ['PATH']}", "AWS_PROFILE": "mine",
        "AWS_CONFIG_FILE": str(config), "AWS_SHARED_CREDENTIALS_FILE": str(config), "AWS_SESSION_TOKEN": "mine",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true", "AWS_ENDPOINT_URL": elsewhere,
        "AWS_ENDPOINT_URL_STS": elsewhere, "AWS_ENDPOINT_URL_S3": elsewhere,
    }  # fmt: skip
    with EmbeddedAWS(walls=False) as aws:
        for given in (hostile, {name: value for name, value in hostile.items() if not name.startswith("AWS_")}):
            environ = client_environ(given, aws)
            aws_cli = shutil.which("aws", path=environ["PATH"])
            assert aws_cli
            command = [aws_cli, "sts", "get-caller-identity", "--query", "Account"]
            ran = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
            assert ran.stdout.strip() == f'"{aws.account}"', ran.stderr
