"""The ledger: one build of a function at a time, whoever dies, whatever gets lost."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from local.aws import EmbeddedAWS
from local.rest_json import Response
from yo_dawg.control.clients import Aws
from yo_dawg.control.ledger import BuildRecord, Ledger, ledger_key
from yo_dawg.control.store import Store
from yo_dawg.errors import ConfigError, DeployError


@pytest.fixture
def store(aws: Aws, account: EmbeddedAWS) -> Store:
    return Store(aws.s3, "bucket", "yo-dawg", account.account)


def entry(request_id: str, **news: Any) -> BuildRecord:
    now = time.time()
    made = BuildRecord(
        request_id, f"digest of {request_id}", "build project", now, now + 300, f"builds/api/{request_id}"
    )
    return dataclasses.replace(made, **news)


def ledger(store: Store, request_id: str, **news: Any) -> Ledger:
    return Ledger("api", entry(request_id, **news), store)


def history(store: Store) -> list[tuple[str, str]]:
    """Return the ids and statuses in the history, the oldest first."""
    page, _ = ledger(store, "reader").read()
    return [(each.request_id, each.status) for each in reversed(page.history)]


def test_who_comes_second_is_told_who_was_first(store: Store) -> None:
    first, second = ledger(store, "1", asked_by="me"), ledger(store, "2")
    assert first.acquire() is None
    assert second.acquire() == first.entry
    first.release(status="deployed")
    assert second.acquire() is None
    assert history(store) == [("1", "deployed")]


def test_each_function_has_a_ledger_of_its_own(store: Store) -> None:
    assert Ledger("a", entry("1"), store).acquire() is None
    assert Ledger("b", entry("2"), store).acquire() is None


def test_of_many_that_come_at_once_one_gets_it(store: Store) -> None:
    """And after it, one after the other, each of them, and no entry gets lost."""

    def build(number: int) -> None:
        mine = ledger(store, str(number))
        while mine.acquire():
            pass
        mine.note(code_sha256=f"code of {number}")
        mine.release(status="deployed")

    with ThreadPoolExecutor(8) as crowd:
        list(crowd.map(build, range(10)))
    assert sorted(history(store)) == sorted((str(number), "deployed") for number in range(10))


def test_who_is_dead_for_sure_is_overruled_and_remembered(store: Store) -> None:
    dead = ledger(store, "1", until=time.time() - 60)
    dead.acquire()
    dead.note(code_sha256="new code")
    assert ledger(store, "2").acquire() is None
    assert history(store) == [("1", "interrupted")]
    page, _ = ledger(store, "reader").read()
    assert page.history[0].code_sha256 == "new code", "what it was at is known"


def test_who_may_still_live_is_not_overruled(store: Store) -> None:
    """Not in the seconds by which two clocks may differ."""
    ledger(store, "1", until=time.time() - 2).acquire()
    assert ledger(store, "2").acquire() is not None


def test_who_died_in_this_environment_is_overruled_at_once(store: Store) -> None:
    """Lambda serves one invocation at a time in an environment: the one before this has ended."""
    ledger(store, "1", log_stream="here").acquire()
    assert ledger(store, "2", log_stream="there").acquire() is not None
    assert ledger(store, "3", log_stream="").acquire() is not None
    assert ledger(store, "4", log_stream="here").acquire() is None


def test_who_was_overruled_can_do_no_harm_any_more(store: Store) -> None:
    slow = ledger(store, "1", log_stream="here")
    slow.acquire()
    quick = ledger(store, "2", log_stream="here")
    quick.acquire()
    with pytest.raises(DeployError, match="Somebody else has begun to build api"):
        slow.note(code_sha256="late")
    slow.release(status="deployed")
    assert history(store) == [("1", "interrupted")]
    assert ledger(store, "3").acquire() == quick.entry


@pytest.mark.parametrize("step", ["acquire", "note", "release"])
def test_a_write_whose_answer_was_lost_counts_once(store: Store, account: EmbeddedAWS, step: str) -> None:
    """The client asks again, and S3 refuses: what it should replace is not there any more."""
    mine = ledger(store, "1")
    steps: dict[str, Callable[[], object]] = {
        "acquire": mine.acquire,
        "note": lambda: mine.note(ref="main"),
        "release": lambda: mine.release(status="ok"),
    }
    lost: list[str] = []
    for name, act in steps.items():

        def lose(service: str, request: str, name: str = name) -> Any:
            if service == "s3" and request.startswith("PUT") and name == step and not lost:
                lost.append(request)
                return "lost"
            return None

        account.fault = lose
        assert not act()
    assert len(lost) == 1
    assert history(store) == [("1", "ok")]
    assert ledger(store, "2").acquire() is None


def test_who_has_written_it_need_not_read_it_again(store: Store, account: EmbeddedAWS) -> None:
    asked: list[str] = []

    def note(service: str, request: str) -> None:
        if service == "s3":
            asked.append(request.partition(" ")[0])

    account.fault = note
    mine = ledger(store, "1")
    mine.acquire()
    mine.note(ref="main")
    mine.release(status="ok")
    assert asked == ["GET", "PUT", "PUT", "PUT"]
    assert history(store) == [("1", "ok")]


def test_s3_that_is_busy_with_another_writer_is_asked_again(store: Store, account: EmbeddedAWS) -> None:
    told: list[str] = []

    def conflict(service: str, request: str) -> Response | None:
        if service == "s3" and request.startswith("PUT") and len(told) < 3:
            told.append(request)
            body = b"<Error><Code>ConditionalRequestConflict</Code><Message>a write is under way</Message></Error>"
            return Response(409, body, {"Content-Type": "application/xml"})
        return None

    account.fault = conflict
    assert ledger(store, "1").acquire() is None
    assert len(told) == 3


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"holder": 7, "history": []}', b"\xff"])
def test_a_ledger_that_cannot_be_read_is_no_free_one(store: Store, content: bytes) -> None:
    store.s3.put_object(Bucket="bucket", Key=f"yo-dawg/{ledger_key('api')}", Body=content)
    with pytest.raises(ConfigError, match="s3://bucket/yo-dawg/locks/api cannot be read.*delete it"):
        ledger(store, "1").acquire()


def test_a_newer_versions_entries_can_be_read(store: Store) -> None:
    newer = {**vars(entry("1")), "mood": "good"}
    content = json.dumps({"holder": None, "history": [newer], "format": 2}).encode()
    assert store.replace(ledger_key("api"), content, None)
    assert history(store) == [("1", "running")]


def test_an_event_that_lambda_delivers_twice_is_built_once(store: Store) -> None:
    """Both deliveries have one request id."""
    first, second = ledger(store, "1", log_stream="here"), ledger(store, "1", log_stream="there")
    assert first.acquire() is None
    assert second.acquire() == first.entry
    first.release(status="deployed")
    assert second.acquire() is None
