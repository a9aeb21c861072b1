"""What fails, fails with the right error, in words that say what to do, and leaves the target alone."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.embedded import NEWEST, Builder, FunctionFailed

pytestmark = [pytest.mark.embedded, NEWEST]

HANDLER = "def lambda_handler(event, context):\n    return 'ok'\n"
GOOD = {"lambda_function.py": HANDLER}
TEN = ("six", "idna", "attrs", "iniconfig", "pluggy", "colorama", "packaging", "certifi", "sqlparse", "urllib3")
EXTENSION = {
    "requirements.txt": "./native\n",
    "native/pyproject.toml": '[build-system]\nrequires = ["setuptools==80.9.0"]\n'
    'build-backend = "setuptools.build_meta"\n',
    "native/setup.py": "from setuptools import Extension, setup\n"
    "setup(name='native', version='1', ext_modules=[Extension('native', ['native.c'])])\n",
    "native/native.c": "int main(void) { return 0; }\n",
}


@pytest.mark.parametrize(
    ("files", "fields", "error_type", "words"),
    [
        pytest.param(GOOD, {"repo_name": "none"}, "SourceError", ["no such repository", "base_url"], id="repository"),
        pytest.param(GOOD, {"ref": "mian"}, "SourceError", ['no branch or tag "mian"', '"main"'], id="ref"),
        pytest.param(GOOD, {"subdirectory": "app"}, "SourceError", ["no folder 'app'"], id="subdirectory"),
        pytest.param(
            {**GOOD, "requirements.txt": "no-such-distribution-of-anyone==1\n"},
            {},
            "DependencyError",
            ["no-such-distribution-of-anyone was not found in the package registry"],
            id="requirement does not exist",
        ),
        pytest.param(
            {**GOOD, "requirements.txt": "requests==2.32.5\nurllib3==1.20\n"},
            {},
            "DependencyError",
            ["you require urllib3==1.20", "requirements are unsatisfiable"],
            id="requirements conflict",
        ),
        pytest.param({**GOOD, **EXTENSION}, {}, "DependencyError", ["no compiler", "native"], id="compiler"),
        pytest.param(
            {"app.py": HANDLER}, {}, "PackageError", ["lambda_function.lambda_handler", "app.py"], id="no module"
        ),
        pytest.param(
            {"lambda_function.py": "def handler(e, c): ...\n"},
            {},
            "PackageError",
            ["'lambda_handler'", "defines no"],
            id="no handler",
        ),
        pytest.param(
            {**GOOD, "make_dist.sh": "echo one\necho two >&2\nexit 3\n"},
            {},
            "BuildScriptError",
            ["exit status 3", "one\ntwo"],
            id="make_dist.sh fails",
        ),
        pytest.param(
            {
                **GOOD,
                "requirements.txt": "\n".join(TEN),
                "make_dist.sh": 'cp *.py "$1"\nhead -c 270000000 /dev/zero > "$1/model.bin"\n',
            },
            {},
            "PackageError",
            ["262,144,000", "270.0 MB  (project)", "attrs", "sqlparse"],
            id="too large",
        ),
        pytest.param(
            {**GOOD, "make_dist.sh": 'cp *.py "$1"\nhead -c 4000000000 /dev/zero > "$1/model.bin"\n'},
            {},
            "ConfigError",
            ["/tmp is full", "ephemeral_storage"],
            id="disk full",
        ),
    ],
)
def test_a_failed_build_says_why_and_leaves_the_function_alone(
    builder: Builder, files: dict[str, str], fields: dict[str, Any], error_type: str, words: list[str]
) -> None:
    builder.add_project("refused", files)
    before = builder.functions.get_function_configuration(FunctionName="refused")
    with pytest.raises(FunctionFailed) as failed:
        builder.build(**{"repo_name": "refused", "function": "refused", **fields})
    assert failed.value.type == error_type, failed.value
    assert [word for word in words if word not in failed.value.message] == [], failed.value.message
    assert len(failed.value.message) < 5000
    after = builder.functions.get_function_configuration(FunctionName="refused")
    assert (after["CodeSha256"], after["RevisionId"]) == (before["CodeSha256"], before["RevisionId"])


@pytest.mark.parametrize(
    ("target", "words"),
    [
        pytest.param(None, ["There is no function", "Create it first"], id="missing"),
        pytest.param({"Runtime": "python3.14"}, ["runs on python3.14", "second yo-dawg"], id="another runtime"),
        pytest.param({"Architectures": ["arm64"]}, ["arm64", "second yo-dawg"], id="another architecture"),
        pytest.param("image", ["container image"], id="image"),
    ],
)
def test_a_target_that_cannot_be_served_is_refused_before_any_work(
    builder: Builder, target: Any, words: list[str], request: pytest.FixtureRequest
) -> None:
    name = f"target-{abs(hash((request.node.name, builder.name)))}"
    if target == "image":
        builder.functions.create_function(
            FunctionName=name, Role=builder.role, PackageType="Image", Code={"ImageUri": "1.dkr/x:latest"}
        )
    elif target:
        builder.create_function(name, **target)
    with pytest.raises(FunctionFailed) as failed:
        builder.build("never-cloned", name)
    assert failed.value.type == "DeployError"
    assert [word for word in words if word not in failed.value.message] == [], failed.value.message


def test_without_a_toolchain_a_build_says_so(builder: Builder) -> None:
    name = builder.install(name=f"{builder.name}-fresh")
    builder.add_project("refused", GOOD)
    with pytest.raises(FunctionFailed) as failed:
        builder.build("refused", builder=name)
    assert failed.value.type == "NotBootstrapped"
    assert "./deploy.sh bootstrap" in failed.value.message


def test_a_bucket_that_is_not_there_is_said_by_name(builder: Builder) -> None:
    name = builder.install(name=f"{builder.name}-lost", variables={"YO_DAWG_DEPLOYMENT_BUCKET": "no-such-bucket"})
    with pytest.raises(FunctionFailed) as failed:
        builder.invoke(name, {"action": "bootstrap"})
    assert failed.value.type == "DeployError"
    assert "NoSuchBucket" in failed.value.message
    assert "s3://no-such-bucket/" in failed.value.message


def test_a_changed_toolchain_is_refused_not_run(builder: Builder) -> None:
    name = builder.install(name=f"{builder.name}-changed")
    made = builder.share_toolchain(name)
    bucket, key = made["toolchain"]["s3_uri"].removeprefix("s3://").split("/", 1)
    builder.s3.put_object(Bucket=bucket, Key=key, Body=b"something else")
    builder.add_project("refused", GOOD)
    with pytest.raises(FunctionFailed) as failed:
        builder.build("refused", builder=name)
    assert failed.value.type == "NotBootstrapped"
    assert "has been changed" in failed.value.message
    again = builder.invoke(name, {"action": "bootstrap", "force": True})
    assert again["status"] == "bootstrapped"
    assert builder.build("refused", builder=name)["status"] == "deployed"
