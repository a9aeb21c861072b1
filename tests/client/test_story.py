"""The whole story on the embedded AWS, through deploy.sh as a user runs it; each step stands on the one before."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from client import local
from local.aws import EmbeddedAWS
from local.git_server import GitServer, make_repository
from tests.support.checkout import Checkout, make_checkout, use_our_venv
from tests.support.fake_aws import Ran


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Checkout, EmbeddedAWS, Path]]:
    """A checkout, an embedded AWS with a function to update, and a config.ini for both."""
    checkout = make_checkout(tmp_path)
    use_our_venv(checkout)
    folder = tmp_path / "shell-project"
    folder.mkdir()
    (folder / "lambda_function.py").write_text("def lambda_handler(event, context):\n    return 'by deploy.sh'\n")
    make_repository(folder, tmp_path / "repositories/shell-project.git")
    with (
        GitServer(tmp_path / "repositories") as git,
        EmbeddedAWS(client_environment=local.client_environment()) as aws,
    ):
        local.make_function(aws, local.Project(folder, "lambda_function.lambda_handler"))
        config = tmp_path / "config.ini"
        config.write_text(
            f"[aws]\ndeployment_bucket = deploy-sh\n[builder]\nruntime = {local.runtime()}\n"
            f"architecture = {local.architecture()}\ndeployable_functions = shell-*\n[git]\nbase_url = {git.url}\n"
        )
        pip = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_", "SSL_"))}
        checkout.environ = {"PATH": str(checkout.bin), **pip, **aws.environ}
        yield checkout, aws, config


def marks(ran: Ran) -> list[list[str]]:
    """Return the marks and names of doctor's findings."""
    return [line.split(maxsplit=2)[:2] for line in ran.out.splitlines()]


@pytest.mark.embedded
def test_bootstrap_build_and_doctor_on_the_embedded_aws(served: tuple[Checkout, EmbeddedAWS, Path]) -> None:
    checkout, aws, config = served

    def deploy(*arguments: str) -> Ran:
        return checkout.run("-c", str(config), *arguments)

    before = deploy("doctor")
    assert before.status == 0, before.out
    assert [name for mark, name in marks(before) if mark == "--"] == ["bucket", "stack"]

    first = deploy("bootstrap")
    assert (first.status, first.out.split()[:2]) == (0, ["status", "bootstrapped"]), first.error
    s3, functions = aws.client("s3"), aws.client("lambda")
    closed = s3.get_public_access_block(Bucket="deploy-sh")["PublicAccessBlockConfiguration"]
    assert set(closed.values()) == {True}
    [rule] = s3.get_bucket_encryption(Bucket="deploy-sh")["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    made = functions.get_function_configuration(FunctionName="yo-dawg")
    digest = base64.b64decode(made["CodeSha256"]).hex()
    s3.head_object(Bucket="deploy-sh", Key=f"yo-dawg/function/{digest}.zip")

    second = deploy("--json", "bootstrap")
    assert (second.status, json.loads(second.out)["status"]) == (0, "unchanged"), second.error
    assert "nothing was changed" in second.error
    assert "Warning" not in second.error
    assert functions.get_function_configuration(FunctionName="yo-dawg")["RevisionId"] == made["RevisionId"]

    config.write_text(config.read_text().replace("[git]", "timeout = 100\n[git]"))
    third = deploy("bootstrap")
    assert third.status == 0, third.error
    assert "nothing was changed" not in third.error
    assert functions.get_function_configuration(FunctionName="yo-dawg")["Timeout"] == 100

    rehearsal = deploy("build", "shell-project", "--dry-run")
    assert (rehearsal.status, rehearsal.out.split()[:2]) == (0, ["status", "built"]), rehearsal.error
    built = deploy("build", "shell-project")
    assert (built.status, built.out.split()[:2]) == (0, ["status", "deployed"]), built.error
    assert "] clone " in built.error
    answer = functions.invoke(FunctionName="shell-project")["Payload"].read()
    assert json.loads(answer) == "by deploy.sh"

    missing = deploy("build", "shell-nothing", "--function", "shell-project")
    assert (missing.status, missing.out) == (1, "")
    assert "\nSourceError: " in missing.error
    assert "Traceback" not in missing.error
    foreign = deploy("build", "shell-project", "--function", "somebody-elses")
    assert foreign.status == 1
    assert "\nDeployError: somebody-elses is not among the functions" in foreign.error

    history = deploy("history", "shell-project")
    assert (history.status, history.out.count("\n")) == (0, 3), history.error
    report = deploy("report", "shell-project")
    assert (report.status, report.out, report.error) == (0, "report-shell-project.html\n", "")
    page = (checkout.home / "report-shell-project.html").read_text()
    assert "lambda_function.py — " in page
    assert "Stages of the last build" in page
    assert "lambda_function: " in page.partition("Imports of the handler")[2]
    bill = deploy("sbom", "shell-project")
    assert bill.status == 0, bill.error
    runs = base64.b64decode(functions.get_function_configuration(FunctionName="shell-project")["CodeSha256"]).hex()
    assert json.loads(bill.out)["metadata"]["component"]["hashes"] == [{"alg": "SHA-256", "content": runs}]
    after = deploy("doctor")
    assert after.status == 0, after.out
    assert {mark for mark, _ in marks(after)} == {"ok", "--"}, "the embedded AWS cannot be asked everything"


def test_an_unreachable_aws_is_told_in_words(tmp_path: Path) -> None:
    checkout = make_checkout(tmp_path)
    use_our_venv(checkout)
    (tmp_path / "config.ini").write_text(
        "[aws]\ndeployment_bucket = x-y\n[builder]\ndeployable_functions = x\n[git]\nbase_url = https://git.example\n"
    )
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    ran = checkout.run("-c", str(tmp_path / "config.ini"), "doctor", **keys)
    assert ran.status == 1
    [line] = (line for line in ran.out.splitlines() if line.startswith("!!"))
    assert line.split()[1] == "identity"
    assert "Could not connect to the endpoint URL" in line
    assert "is AWS_ENDPOINT_URL right?" in line
