"""The command line: what is wrong usage, what help says, and who AWS is asked as."""

from __future__ import annotations

import re

import pytest

from client.main import COMMANDS
from tests.support.answers import BUILT
from tests.support.fake_aws import Desk, Refusal, invoked


@pytest.mark.parametrize("arguments", [["help"], ["--help"], ["-h"]])
def test_help_names_every_command(desk: Desk, arguments: list[str]) -> None:
    ran = desk.run(*arguments)
    assert (ran.status, ran.error) == (0, "")
    assert ran.out.startswith("Usage: ./deploy.sh [OPTIONS] [COMMAND]")
    for name in COMMANDS:
        assert f"\n  {name} " in ran.out


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("help", "test")])
def test_each_command_has_its_own_help(desk: Desk, name: str) -> None:
    ran = desk.run(name, "--help")
    assert (ran.status, ran.error) == (0, "")
    assert ran.out.startswith(f"Usage: ./deploy.sh {name} ")
    assert desk.run("help", name).out == ran.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["deplyo"], "No such command 'deplyo'"),
        (["help", "deplyo"], "No such command 'deplyo'"),
        (["-x"], "No such option"),
        (["-c"], "'-c' requires an argument"),
        (["bootstrap", "now"], "unexpected extra argument (now)"),
        (["doctor", "--fix"], "No such option"),
        (["build"], "Missing argument 'REPO'"),
        (["build", "--ref"], "'--ref' requires an argument"),
        (["build", "one", "two"], "unexpected extra argument (two)"),
        (["build", "one", "--brnach", "x"], "No such option"),
        (["build", "one", "--publish=yes"], "'--publish' does not take a value"),
        (["build", "one", "--publish --force"], "No such option"),
        (["build", "one", "-f"], "No such option"),
        (["rollback"], "Missing argument 'FUNCTION'"),
        (["rollback", "one", "two"], "unexpected extra argument (two)"),
        (["rollback", "one", "--publish"], "No such option"),
        (["history"], "Missing argument 'FUNCTION'"),
        (["history", "--all"], "No such option"),
        (["report"], "Missing argument 'FUNCTION'"),
        (["report", "one", "two"], "unexpected extra argument (two)"),
        (["sbom"], "Missing argument 'FUNCTION'"),
        (["sbom", "one", "--output"], "'--output' requires an argument"),
    ],
)
def test_wrong_usage_exits_with_2_before_anything_is_done(desk: Desk, arguments: list[str], said: str) -> None:
    ran = desk.deploy(*arguments) if arguments[0] not in ("-c", "-x") else desk.run(*arguments)
    assert (ran.status, ran.out) == (2, "")
    assert said in ran.error
    assert "--help' for help" in ran.error
    assert not desk.aws.calls


def test_what_is_wrong_with_config_ini_is_said_at_once_and_aws_is_not_asked(desk: Desk) -> None:
    desk.config.write_text("[aws]\naws_secret_access_key = hunter2\n[builder]\ntimeout = soon\n")
    for command in ([], ["bootstrap"], ["build", "x"], ["history", "x"]):
        ran = desk.deploy(*command)
        assert (ran.status, ran.out) == (1, "")
        for name in ("aws_secret_access_key", "timeout", "deployment_bucket", "deployable_functions", "base_url"):
            assert re.search(rf"^{re.escape(str(desk.config))}: \[\w+\] {name}\b", ran.error, re.MULTILINE), name
        assert "hunter2" not in ran.error
        assert "Traceback" not in ran.error
    assert not desk.aws.sessions


def test_without_config_ini_one_is_told_to_copy_the_example(desk: Desk) -> None:
    ran = desk.run("-c", f"{desk.config}.none", "build", "x")
    assert ran.status == 1
    assert f"{desk.config}.none is missing: copy config.ini.example to it" in ran.error


KEYS = {"AWS_ACCESS_KEY_ID": "AKIDENVIRONMENT", "AWS_SECRET_ACCESS_KEY": "x"}


@pytest.mark.parametrize(
    ("given", "profile", "region"),
    [
        pytest.param({}, "from-config", "us-east-1", id="config.ini"),
        pytest.param({"AWS_PROFILE": "mine"}, "mine", "us-east-1", id="profile"),
        pytest.param({"AWS_PROFILE": ""}, "from-config", "us-east-1", id="an empty profile is none"),
        pytest.param({"AWS_PROFILE": "", **KEYS}, "default", "us-east-1", id="nor is it handed on"),
        pytest.param({"AWS_DEFAULT_PROFILE": "mine"}, "mine", "us-east-1", id="its other name"),
        pytest.param(KEYS, "default", "us-east-1", id="keys"),
        pytest.param({"AWS_REGION": "eu-west-1"}, "from-config", "eu-west-1", id="region"),
        pytest.param({"AWS_DEFAULT_REGION": "eu-west-1"}, "from-config", "eu-west-1", id="default region"),
        pytest.param(
            {"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-2"}, "from-config", "eu-west-1", id="both"
        ),
    ],
)
def test_the_aws_environment_counts_more_than_config_ini(
    desk: Desk, given: dict[str, str], profile: str, region: str
) -> None:
    desk.aws.replies = {"lambda.Invoke": invoked(BUILT)}
    ran = desk.deploy("build", "project", **given)
    assert ran.status == 0, ran.error
    [session] = desk.aws.sessions
    assert (session.profile_name, session.region_name) == (profile, region)


def test_keys_in_the_environment_are_used_whatever_the_profile_wants(desk: Desk) -> None:
    """A profile that wants a code from a token would ask for it."""
    keys = {**KEYS, "AWS_PROFILE": "mine"}
    desk.aws.replies = {"lambda.Invoke": invoked(BUILT)}
    with desk.monkeypatch.context() as patch:
        for name, value in keys.items():
            patch.setenv(name, value)
        assert desk.deploy("build", "project").status == 0
        [session] = desk.aws.sessions
        assert session.get_credentials().access_key == "AKIDENVIRONMENT"


def test_a_profile_that_is_not_there_is_told(desk: Desk) -> None:
    ran = desk.deploy("build", "project", AWS_PROFILE="nobody")
    assert ran.status == 1
    assert "profile (nobody) could not be found" in ran.error
    assert "or set AWS_PROFILE" in ran.error


def test_what_aws_refuses_is_told_without_a_traceback(desk: Desk) -> None:
    desk.aws.replies = {"lambda.Invoke": Refusal("AccessDeniedException", "you may not")}
    ran = desk.deploy("build", "project")
    assert (ran.status, ran.out) == (1, "")
    assert "AccessDeniedException" in ran.error
    assert "Traceback" not in ran.error
