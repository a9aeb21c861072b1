"""The builder's function against what is wanted."""

from __future__ import annotations

from typing import Any

import pytest

from client.config import Config
from client.function import code_updates, configuration_updates, differences
from client.main import CHECKOUT
from client.package import Package

WANTED = Config.read(CHECKOUT / "config.ini.example")
VARIABLES = WANTED.environment()
NEW = Package(b"new")
NEW_CODE = {
    "Architectures": ["x86_64"],
    "S3Bucket": "my-bucket",
    "S3Key": f"yo-dawg/function/{NEW.hex}.zip",
}


def found(**changes: Any) -> dict[str, Any]:
    """Return GetFunctionConfiguration's answer for the function that the example asks for."""
    return {
        "Runtime": "python3.13",
        "Handler": "lambda_function.lambda_handler",
        "MemorySize": 3008,
        "EphemeralStorage": {"Size": 4096},
        "Timeout": 900,
        "Architectures": ["x86_64"],
        "CodeSha256": NEW.sha256,
        "Environment": {"Variables": VARIABLES},
    } | changes


@pytest.mark.parametrize(
    ("changes", "code", "configuration", "told"),
    [
        pytest.param({}, {}, {}, [], id="as asked"),
        pytest.param({"CodeSha256": "old"}, NEW_CODE, {}, [f"CodeSha256 is old, not {NEW.sha256}"], id="code"),
        pytest.param(
            {"Architectures": ["arm64"]},
            NEW_CODE,
            {},
            ["Architectures is arm64, not x86_64"],
            id="architecture, which is changed with the code",
        ),
        pytest.param(
            {"EphemeralStorage": {"Size": 512}},
            {},
            {"EphemeralStorage": {"Size": 4096}},
            ["EphemeralStorage is 512, not 4096"],
            id="disk",
        ),
        pytest.param(
            {"Environment": {"Variables": VARIABLES | {"YO_DAWG_USERNAME": "x", "MINE": "y"}}},
            {},
            {"Environment": {"Variables": VARIABLES}},
            ["Environment differs in MINE, YO_DAWG_USERNAME"],
            id="environment",
        ),
        pytest.param(
            {"Environment": None},
            {},
            {"Environment": {"Variables": VARIABLES}},
            [f"Environment differs in {', '.join(sorted(VARIABLES))}"],
            id="no environment",
        ),
    ],
)
def test_what_differs_is_told_and_nothing_else_is_updated(
    changes: dict[str, Any], code: dict[str, Any], configuration: dict[str, Any], told: list[str]
) -> None:
    there = found(**changes)
    assert list(differences(WANTED, NEW, there)) == told
    assert code_updates(WANTED, NEW, there) == code
    assert configuration_updates(WANTED, there) == configuration


def test_without_a_package_the_code_is_not_compared() -> None:
    assert list(differences(WANTED, None, found(CodeSha256="anything"))) == []
