"""The main job on the embedded AWS: bootstrap, build, and invoke what was built."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.embedded import NEWEST, Builder, FunctionFailed, lay_out

pytestmark = pytest.mark.embedded

HANDLER = "def lambda_handler(event, context):\n    return {'hello': event.get('name', 'world')}\n"
LIMIT = 262_144_000


def test_a_second_bootstrap_changes_nothing(builder: Builder) -> None:
    before = builder.stored(f"{builder.name}/toolchain/")
    answer = builder.bootstrap()
    assert answer["status"] == "unchanged"
    assert re.fullmatch(r"s3://[^/]+/[^/]+/toolchain/[0-9a-f]{64}\.zip", answer["toolchain"]["s3_uri"])
    assert any(name.startswith("dulwich==") for name in answer["toolchain"]["packages"])
    assert builder.stored(f"{builder.name}/toolchain/") == before


def test_a_toolchain_that_is_made_again_has_the_same_bytes(builder: Builder) -> None:
    before = builder.bootstrap()
    again = builder.bootstrap(force=True)
    assert again["status"] == "bootstrapped"
    assert again["toolchain"] == before["toolchain"]


def test_the_seeds_own_payload_builds_a_project(builder: Builder) -> None:
    files = {"lambda_function.py": HANDLER, "requirements.txt": "six==1.17.0\n"}
    commit = builder.add_project("project-to-build", files)
    answer = builder.invoke(
        builder.name, {"action": "build", "function": "project-to-build", "repo_name": "project-to-build"}
    )
    assert next(iter(answer)) == "status"
    assert (answer["status"], answer["commit"], answer["ref"]) == ("deployed", commit, "main")
    assert answer["dependencies"] == ["six==1.17.0"]
    running = builder.functions.get_function_configuration(FunctionName="project-to-build")
    assert (running["CodeSha256"], running["LastUpdateStatus"]) == (answer["code_sha256"], "Successful")
    assert builder.invoke("project-to-build", {"name": "dawg"}) == {"hello": "dawg"}
    log = builder.stored(f"{builder.name}/builds/project-to-build/")
    text = next(content for key, content in log.items() if key.endswith(".log")).decode()
    assert re.search(r"^\[3/8\] install requirements … \d+\.\d s$", text, re.MULTILINE), text
    assert "+ six==1.17.0" in text


def test_the_same_commit_gives_the_same_bytes_and_is_not_deployed_again(builder: Builder) -> None:
    builder.add_project("again", {"lambda_function.py": HANDLER, "requirements.txt": "six==1.17.0\n"})
    first = builder.build("again")
    assert first["status"] == "deployed"
    second = builder.build("again")
    assert (second["status"], second["code_sha256"]) == ("unchanged", first["code_sha256"])
    assert builder.build("again", force=True)["status"] == "deployed"


def test_a_rehearsal_writes_nothing(builder: Builder) -> None:
    builder.add_project("rehearsed", {"lambda_function.py": HANDLER})
    before = (builder.stored(), builder.functions.get_function_configuration(FunctionName="rehearsed")["RevisionId"])
    answer = builder.build("rehearsed", dry_run=True)
    assert answer["status"] == "built"
    after = (builder.stored(), builder.functions.get_function_configuration(FunctionName="rehearsed")["RevisionId"])
    assert after == before


def test_an_update_that_is_under_way_is_waited_out(builder: Builder) -> None:
    builder.add_project("busy", {"lambda_function.py": HANDLER})
    builder.functions.update_function_configuration(FunctionName="busy", Description="changing")
    assert builder.build("busy")["status"] == "deployed"
    assert builder.invoke("busy", {}) == {"hello": "world"}


MAKE_DIST = """
set -euo pipefail
test -d "$1/six-1.17.0.dist-info"
cp app.py "$1/lambda_function.py"
rm "$1/six.py"
mkdir "$1/tests" && echo kept > "$1/tests/data.txt"
pwd > "$1/pwd.txt"
printf '%s' "$COMMIT" > "$1/commit.txt"
"$PYTHON" -c 'import sys; print(sys.version_info[:2])' > "$1/a.txt"
python3 -c 'import sys; print(sys.version_info[:2])' > "$1/b.txt"
env > "$1/env.txt"
"""


def test_make_dist_gets_what_it_was_promised(builder: Builder) -> None:
    files = {"app/app.py": HANDLER, "app/requirements.txt": "six==1.17.0\n", "app/make_dist.sh": MAKE_DIST}
    commit = builder.add_project("scripted", files)
    builder.build("scripted", subdirectory="app")
    package = builder.package("scripted")
    names = package.namelist()
    assert "six.py" not in names, "what it removed is not shipped"
    assert "tests/data.txt" in names, "what it added is shipped, whatever its name"
    assert "app.py" not in names, "what it did not copy is not shipped"
    assert package.read("pwd.txt").decode().strip().endswith("/app")
    assert package.read("commit.txt").decode() == commit
    assert package.read("a.txt") == package.read("b.txt")
    assert package.read("a.txt").decode().strip() == str(tuple(int(each) for each in builder.runtime[6:].split(".")))
    assert "AWS_" not in package.read("env.txt").decode()
    assert builder.invoke("scripted", {}) == {"hello": "world"}


LOOK_AROUND = """
import os, sys

import awslambdaric
import six
import snapshot_restore_py

try:
    open(os.path.join(os.environ["LAMBDA_TASK_ROOT"], "cache"), "w")
except OSError as error:
    print("writing:", error.strerror)
print("variables:", *sorted(os.environ))
print("table:", os.environ["TABLE"])
print("builder's:", sorted(name for name in sys.modules if "virtualenv" in name or "dulwich" in name))
try:
    import virtualenv
except ImportError:
    print("no virtualenv")
try:
    import boto3
    boto3.client("sts").get_caller_identity()
except Exception as error:
    print("boto3:", type(error).__name__)


def lambda_handler(event, context):
    return "proved"
"""


def test_a_handler_is_proved_with_what_its_function_has_and_without_the_builders_rights(builder: Builder) -> None:
    files = {"lambda_function.py": LOOK_AROUND, "requirements.txt": "six==1.17.0\n"}
    builder.add_project("proved", files)
    builder.functions.update_function_configuration(FunctionName="proved", Environment={"Variables": {"TABLE": "t-1"}})
    answer = builder.build("proved")
    assert (answer["status"], answer["warnings"]) == ("deployed", [])
    (log,) = (body for key, body in builder.stored(f"{builder.name}/builds/proved/").items() if key.endswith(".log"))
    said = dict(line.strip().split(": ", 1) for line in log.decode().splitlines() if ": " in line)
    assert said["writing"] == "Permission denied"
    assert {"AWS_REGION", "LAMBDA_TASK_ROOT", "TABLE", "_HANDLER"} <= set(said["variables"].split())
    assert not [
        name for name in said["variables"].split() if re.search("ACCESS|SECRET|SESSION|YO_DAWG|RUNTIME_API", name)
    ]
    assert (said["table"], said["builder's"], said["boto3"]) == ("t-1", "[]", "NoCredentialsError")
    assert "no virtualenv" in log.decode()
    assert builder.invoke("proved", {}) == "proved"
    names = builder.package("proved").namelist()
    assert "cache" not in names
    assert len([name for name in names if name.endswith(".pyc")]) == 2, "lambda_function and six"


def test_a_handler_that_cannot_be_imported_is_not_deployed(builder: Builder) -> None:
    builder.add_project("unproved", {"lambda_function.py": f"import reqests\n{HANDLER}"})
    before = builder.functions.get_function_configuration(FunctionName="unproved")["CodeSha256"]
    with pytest.raises(FunctionFailed, match="No module named 'reqests'") as failed:
        builder.build("unproved")
    assert failed.value.type == "PackageError"
    assert builder.functions.get_function_configuration(FunctionName="unproved")["CodeSha256"] == before


@NEWEST
def test_a_package_of_nearly_250_mb_is_built_in_little_memory(builder: Builder) -> None:
    name = builder.install(name=f"{builder.name}-big")
    builder.share_toolchain(name)
    script = 'cp *.py "$1"\nfor i in 1 2 3 4 5; do head -c 50000000 /dev/urandom > "$1/model-$i.bin"; done\n'
    builder.add_project("large", {"lambda_function.py": HANDLER, "make_dist.sh": script})
    answer = builder.build("large", builder=name)
    assert 250_000_000 < answer["package"]["unzipped_bytes"] < LIMIT
    (environment,) = builder.aws.environments(name)
    print(f"peak memory of the handler process: {environment.peak_rss_bytes / 1e6:.0f} MB")
    assert environment.peak_rss_bytes < 200_000_000


def test_the_aws_cli_is_a_client(builder: Builder, tmp_path: object) -> None:
    builder.add_project("by-cli", {"lambda_function.py": HANDLER})
    reply = f"{tmp_path}/reply.json"
    for function, payload, expected in (
        (builder.name, {"action": "build", "function": "by-cli", "repo_name": "by-cli"}, "deployed"),
        ("by-cli", {"name": "you"}, "you"),
    ):
        command = ["aws", "lambda", "invoke", "--function-name", function, "--cli-read-timeout", "0"]
        version = subprocess.run(["aws", "--version"], capture_output=True, text=True, check=True).stdout
        raw = ["--cli-binary-format", "raw-in-base64-out"] if version.startswith("aws-cli/2") else []
        subprocess.run(
            [*command, *raw, "--payload", json.dumps(payload), reply], env=builder.client_environ(), check=True
        )
        with open(reply) as file:
            assert expected in file.read()


@NEWEST
def test_what_is_required_from_git_is_had_without_a_git_also_where_only_a_build_tells(
    builder: Builder, tmp_path: Path
) -> None:
    setup = "from setuptools import setup\nsetup(name={0!r}, version='1', py_modules=[{0!r}], install_requires={1})\n"
    inner = f"['inner @ ' + 'gi' + 't+{builder.git.url}/inner.git']"
    for name, requires in {"inner": "[]", "outer": inner}.items():
        files = {"setup.py": setup.format(name, requires), f"{name}.py": f"NAME = {name!r}\n"}
        builder.add_repository(name, lay_out(tmp_path / name, files))
    builder.add_project(
        "from-git",
        {
            "requirements.txt": f"outer @ git+{builder.git.url}/outer.git\n",
            "lambda_function.py": "import inner, outer\n\n"
            "def lambda_handler(event, context):\n    return [inner.NAME, outer.NAME]\n",
        },
    )
    answer = builder.build("from-git")
    assert builder.invoke("from-git", {}) == ["inner", "outer"]
    assert [each.partition(" @ git+")[0] for each in answer["dependencies"]] == ["inner", "outer"]
