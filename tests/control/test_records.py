"""One build of a function at a time, and requests that come again."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.support.embedded import small_zip
from tests.support.yard import HANDLER, Yard, another_invocation
from yo_dawg.control.ledger import Ledger
from yo_dawg.errors import BuildInProgress, BuildScriptError
from yo_dawg.text import utc


def end(ledger: Ledger, yard: Yard, result: dict[str, Any], **news: Any) -> None:
    """Let the other invocation end with this result."""
    yard.store.upload_json(f"{ledger.entry.record}.json", {"result": result})
    ledger.release(status=result["status"], **news)


def test_a_second_build_of_a_function_is_told_who_is_at_it(yard: Yard) -> None:
    yard.add_project({"app.py": HANDLER})
    other = another_invocation(yard, ref="v1")
    with pytest.raises(BuildInProgress) as refused:
        yard.build()
    said = str(refused.value)
    assert said.startswith(
        "api is being built by another invocation, other-request: build project v1, asked for by som"
    )
    assert utc(other.entry.began) in said
    assert utc(other.entry.until) in said
    assert (yard.git.requests, yard.keys("builds/")) == ([], [])
    other.release()
    assert yard.build()["status"] == "deployed"


def test_a_rehearsal_disturbs_nobody(yard: Yard) -> None:
    yard.add_project({"app.py": HANDLER})
    another_invocation(yard, ref="v1")
    assert yard.build(dry_run=True)["status"] == "built"


def test_who_asks_again_while_it_is_built_gets_that_answer(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = yard.add_project({"app.py": HANDLER})
    other = another_invocation(yard)
    answer = {"status": "deployed", "commit": commit, "log": "s3://other", "warnings": []}

    def sleep(_: float) -> None:
        end(other, yard, answer, commit=commit, code_sha256=yard.code_sha256)

    monkeypatch.setattr(time, "sleep", sleep)
    before = yard.code_sha256
    assert yard.build() == answer
    assert (yard.code_sha256, yard.keys("packages/")) == (before, [])
    assert [key for key in yard.keys("builds/") if "other-request" not in key] == []


def test_who_asks_again_while_it_is_built_gets_its_error(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = yard.add_project({"app.py": HANDLER})
    other = another_invocation(yard)
    failed = {"status": "failed", "errorType": "BuildScriptError", "errorMessage": "make_dist.sh failed."}
    monkeypatch.setattr(time, "sleep", lambda _: end(other, yard, failed, commit=commit))
    with pytest.raises(BuildScriptError, match=r"^make_dist\.sh failed\.$"):
        yard.build()
    assert yard.keys("packages/") == []


def test_what_was_pushed_in_the_meantime_is_built(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = yard.add_project({"app.py": HANDLER})
    other = another_invocation(yard)
    answer = {"status": "deployed", "commit": "0" * 40, "log": "s3://other", "warnings": []}
    monkeypatch.setattr(
        time, "sleep", lambda _: end(other, yard, answer, commit="0" * 40, code_sha256=yard.code_sha256)
    )
    result = yard.build()
    assert (result["status"], result["commit"], result["code_sha256"]) == ("deployed", commit, yard.code_sha256)


def test_who_asks_again_just_after_it_was_built_is_not_built_again(
    yard: Yard, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yo_dawg.control.records.RETRY_SECONDS", 3600)  # "just after", however long a build takes here
    yard.add_project({"app.py": HANDLER})
    first = yard.build()
    capsys.readouterr()
    again = yard.build()
    assert {**again, "seconds": 0} == {**first, "seconds": 0, "status": "unchanged"}
    assert "[3/8]" not in capsys.readouterr().out
    assert len(yard.keys("builds/")) == 2, "one record and one log"


@pytest.mark.parametrize("change", ["pushed", "deployed by hand", "forced"])
def test_who_means_another_build_gets_one(yard: Yard, change: str, capsys: pytest.CaptureFixture[str]) -> None:
    yard.add_project({"app.py": HANDLER})
    yard.build()
    capsys.readouterr()
    fields: dict[str, Any] = {}
    if change == "pushed":
        yard.add_project({"app.py": f"{HANDLER}# new\n"})
    elif change == "deployed by hand":
        yard.aws.functions.update_function_code(FunctionName="api", ZipFile=small_zip())
    else:
        fields = {"force": True}
    yard.build(**fields)
    assert "[3/8]" in capsys.readouterr().out
    assert len(yard.keys("builds/")) == 4


def test_an_error_is_not_repeated_to_who_asks_again_after_it(yard: Yard) -> None:
    """He may have mended what was wrong with the world."""
    yard.add_project({"app.py": HANDLER, "make_dist.sh": "exit 1\n"})
    for _ in range(2):
        with pytest.raises(BuildScriptError):
            yard.build()
    assert len(yard.keys("builds/")) == 4, "it was tried twice"
