"""What the package program is given of the functions that its package is proved for: their layers and variables."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tests.support.embedded import small_zip
from tests.support.yard import HANDLER, Yard
from yo_dawg.control.clients import Aws
from yo_dawg.control.job import Job
from yo_dawg.control.package import fetch_layers
from yo_dawg.errors import PackageError
from yo_dawg.log import Log
from yo_dawg.workspace import Workspace


class Given:
    """As much of a job as fetching layers takes."""

    def __init__(self, aws: Aws, space: Workspace, log: Log) -> None:
        """Keep it."""
        self.aws, self.space, self.log = aws, space, log


@pytest.fixture
def job(aws: Aws, space: Workspace, log: Log) -> Job:
    return cast(Job, Given(aws, space, log))


def publish(aws: Aws, content: bytes) -> str:
    """Publish a layer; return its ARN."""
    answer: dict[str, Any] = aws.functions.publish_layer_version(LayerName="layer", Content={"ZipFile": content})
    return str(answer["LayerVersionArn"])


def test_layers_are_fetched_into_open_files(job: Job, aws: Aws) -> None:
    contents = [small_zip({"python/one.py": "1"}), small_zip({"python/two.py": "2"})]
    files = fetch_layers([publish(aws, each) for each in contents], job)
    assert files
    for file, content in zip(files, contents, strict=True):
        file.file.seek(0)
        assert file.file.read() == content


def test_a_function_without_layers_has_all_of_them(job: Job) -> None:
    assert fetch_layers([], job) == []


def test_a_layer_of_other_bytes_than_lambda_says_is_not_used(
    job: Job, aws: Aws, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arn = publish(aws, small_zip({"python/shared.py": "answer = 1\n"}))
    monkeypatch.setattr("yo_dawg.control.package.fetch_from_aws", lambda place, archive: archive.write(small_zip()))
    assert fetch_layers([arn], job) is None
    assert f"{arn} cannot be read: it has another SHA-256" in capsys.readouterr().out


VARIABLES = {
    "TABLE": "users",
    "API_KEY": "canary-of-the-function",
    "DSN": "pg://u:canary-password@h",
    "WHERE": "https://me:canary-of-the-index@index.example/",
    "SIGNING_KEY": "-----BEGIN KEY-----\nfirst-canary-line\nsecond-canary-line\n-----END KEY-----\n",
}
TELLTALE = f"""
import os, sys
for name in {[*VARIABLES]}:
    print(name, os.environ[name])
    print(name, os.environ[name], file=sys.stderr)
"""


@pytest.mark.parametrize("fails", [False, True])
def test_a_functions_secrets_are_masked_in_what_its_import_says(
    yard: Yard, capsys: pytest.CaptureFixture[str], fails: bool
) -> None:
    yard.aws.functions.update_function_configuration(FunctionName="api", Environment={"Variables": VARIABLES})
    more = "raise ImportError(f'no {os.environ[\"API_KEY\"]} here')\n" if fails else ""
    yard.add_project({"app.py": f"{TELLTALE}{more}{HANDLER}"})
    if fails:
        with pytest.raises(PackageError, match=r"no \*\*\* here") as refused:
            yard.build()
    else:
        yard.build()
    said = capsys.readouterr().out
    assert said.count("TABLE users\n") == 2, "else this shows nothing"
    assert said.count("WHERE ***\n") == 2
    everything = [said, *(yard.read(key).decode() for key in yard.keys("builds/"))]
    assert [text for text in [*everything, str(refused.value) if fails else ""] if "canary" in text] == []
