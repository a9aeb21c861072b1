"""What the package program is given: the layers of the functions that its package is proved for."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tests.support.embedded import small_zip
from yo_dawg.control.clients import Aws
from yo_dawg.control.job import Job
from yo_dawg.control.package import fetch_layers
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
