"""keep_versions: old versions are deleted after a deployment, if we have published them and nobody needs them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.support.scripted_aws import Refusal, ScriptedAws, configuration, job
from yo_dawg.control.functions import Target
from yo_dawg.control.tidying import tidy_up
from yo_dawg.errors import ConfigError
from yo_dawg.settings import Settings

NEEDED = {
    "YO_DAWG_DEPLOYMENT_BUCKET": "bucket",
    "YO_DAWG_DEPLOYABLE_FUNCTIONS": "api",
    "YO_DAWG_BASE_URL": "https://git.example/me",
}


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> ScriptedAws:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTSTESTSTESTS0")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    numbered = [{"Version": str(each), "Description": "yo-dawg: 0123456", "CodeSha256": "x"} for each in range(1, 13)]
    numbered[2]["Description"] = "made by hand"
    others = [{"Version": "$LATEST", "CodeSha256": "x"}, {"Version": "$LATEST.PUBLISHED", "CodeSha256": "x"}]
    named = {"FunctionVersion": "5", "RoutingConfig": {"AdditionalVersionWeights": {"4": 0.1}}}
    return ScriptedAws(
        ListVersionsByFunction={"Versions": [*others, *reversed(numbered)]},
        ListAliases={"Aliases": [named]},
        DeleteFunction={},
        ListObjectsV2={},
    )


def tidy(scripted: ScriptedAws, folder: Path, keep: int | None) -> list[str]:
    """Tidy up after a deployment of version 6; return which versions were deleted."""
    ledger = SimpleNamespace(entry=SimpleNamespace(version="6"), history=())
    target = Target.from_configuration(configuration())
    tidy_up(target, cast("Any", ledger), job(scripted, folder, keep_versions=keep))
    deleted = scripted.asked("DeleteFunction")
    assert all(each["FunctionName"] == "api" for each in deleted)
    return [each["Qualifier"] for each in deleted]


def test_all_are_kept_unless_the_operator_says_otherwise(scripted: ScriptedAws, tmp_path: Path) -> None:
    assert tidy(scripted, tmp_path, None) == []


def test_what_is_old_goes_but_not_what_is_in_use_or_somebody_else_s(scripted: ScriptedAws, tmp_path: Path) -> None:
    assert tidy(scripted, tmp_path, 3) == ["1", "2", "7", "8", "9"]
    assert tidy(scripted, tmp_path, 100) == ["1", "2", "7", "8", "9"], "and nothing more"


def test_one_that_lambda_does_not_give_up_hinders_none_of_the_others(
    scripted: ScriptedAws, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    in_use = Refusal("ResourceConflictException", "it is in use", 409)
    scripted.answers["DeleteFunction"] = lambda asked: in_use if asked["Qualifier"] == "2" else {}
    assert tidy(scripted, tmp_path, 3) == ["1", "2", "7", "8", "9"]
    said = capsys.readouterr().out
    assert "Warning: old versions were not deleted: Cannot delete version 2 of api" in said
    assert "deleted version 9" in said


@pytest.mark.parametrize(("text", "number"), [("", None), ("all", None), ("1", 1), ("25", 25)])
def test_the_setting(text: str, number: int | None) -> None:
    assert Settings.from_environ({**NEEDED, "YO_DAWG_KEEP_VERSIONS": text}).keep_versions == number


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5"])
def test_a_setting_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=f"keep_versions is '{text}', neither a number from 1 on nor all"):
        Settings.from_environ({**NEEDED, "YO_DAWG_KEEP_VERSIONS": text})
