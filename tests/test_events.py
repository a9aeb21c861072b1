"""Bad events are refused before any work, with everything that is wrong with them."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yo_dawg.errors import RequestError
from yo_dawg.events import (
    BootstrapRequest,
    BuildRequest,
    DoctorRequest,
    RollbackRequest,
    function_name,
    parse_request,
    ref_fault,
    repo_name_fault,
    subdirectory_fault,
)

BUILD = {"action": "build", "function": "project", "repo_name": "project"}
ROLLBACK = {"action": "rollback", "function": "project"}
ARN = "arn:aws:lambda:eu-west-1:123456789012:function:project"


@pytest.mark.parametrize(
    ("event", "request_"),
    [
        pytest.param({"action": "bootstrap"}, BootstrapRequest(), id="bootstrap"),
        pytest.param({"action": "bootstrap", "force": True}, BootstrapRequest(force=True), id="bootstrap again"),
        pytest.param(BUILD, BuildRequest("project", "project"), id="the seed's own payload"),
        pytest.param({**BUILD, "ref": None}, BuildRequest("project", "project"), id="null is as if not there"),
        pytest.param({**BUILD, "branch": "x"}, BuildRequest("project", "project", ref="x"), id="ref's older name"),
        pytest.param(
            {**BUILD, "repo_name": "group/sub/my.app"}, BuildRequest("project", "group/sub/my.app"), id="group"
        ),
        pytest.param({**BUILD, "function": ARN}, BuildRequest(ARN, "project"), id="ARN"),
        pytest.param(
            {**BUILD, "ref": "feature/x", "subdirectory": "apps/api", "dry_run": True, "force": True},
            BuildRequest("project", "project", "feature/x", "apps/api", dry_run=True, force=True),
            id="everything",
        ),
        pytest.param(
            {**BUILD, "publish": True, "alias": "live", "test_event": {"a": [1]}},
            BuildRequest("project", "project", publish=True, alias="live", test_event={"a": [1]}),
            id="publish, alias and test event",
        ),
        pytest.param({**BUILD, "test_event": 0}, BuildRequest("project", "project", test_event=0), id="any test event"),
        pytest.param({**BUILD, "function": ["a", "b"]}, BuildRequest(["a", "b"], "project"), id="several functions"),
        pytest.param(ROLLBACK, RollbackRequest("project"), id="rollback"),
        pytest.param(
            {**ROLLBACK, "to": "12", "alias": "live", "test_event": {}},
            RollbackRequest("project", "12", "live", {}),
            id="rollback to a version",
        ),
        *(
            pytest.param({**ROLLBACK, "to": to}, RollbackRequest("project", to), id=f"rollback to {to[:9]}")
            for to in ("abcdef0", "a" * 40, "b" * 64, "A" * 43 + "=")
        ),
        pytest.param({"action": "doctor"}, DoctorRequest(), id="doctor"),
    ],
)
def test_a_good_event_is_understood(event: dict[str, Any], request_: object) -> None:
    assert parse_request(event) == request_


def test_a_functions_name_is_the_end_of_its_arn() -> None:
    assert function_name(ARN) == function_name("project") == "project"


@pytest.mark.parametrize(
    ("event", "words"),
    [
        pytest.param([], ["JSON object", "a list"], id="a list"),
        pytest.param("build", ["a string"], id="a string"),
        pytest.param(None, ["null"], id="null"),
        pytest.param({}, ["no action", '"bootstrap", "build"'], id="no action"),
        pytest.param({"action": "biuld"}, ["'biuld'", 'did you mean "build"'], id="misspelt action"),
        pytest.param({"action": ["build"]}, ["unknown action"], id="action of a wrong type"),
        pytest.param(
            {"action": "build"}, ['"function" is missing', '"repo_name" is missing'], id="all that is missing"
        ),
        pytest.param({**BUILD, "reff": "x"}, ["'reff'", 'did you mean "ref"'], id="misspelt field"),
        pytest.param({**BUILD, "reff": None}, ["'reff'"], id="misspelt field that is null"),
        pytest.param({**BUILD, "alias": "12"}, ["\"alias\" '12' cannot be the name of an alias"], id="alias"),
        pytest.param({**BUILD, "alias": "a b"}, ["name of an alias"], id="alias with a space"),
        pytest.param({**BUILD, "publish": "yes"}, ['"publish" must be true or false'], id="publish"),
        pytest.param({**BUILD, "function": []}, ["at least one and at most 50, not 0"], id="no functions"),
        pytest.param({**BUILD, "function": ["f"] * 51}, ["at most 50, not 51"], id="too many functions"),
        pytest.param({**BUILD, "function": ["a", 7]}, ['"function" must be a string, not a number'], id="not a name"),
        pytest.param({**BUILD, "function": ["project", ARN]}, ["names 'project' twice"], id="a function twice"),
        pytest.param({**BUILD, "repo_name": ["a", "b"]}, ['"repo_name" must be a string, not a list'], id="a list"),
        pytest.param(ROLLBACK | {"function": ["a"]}, ['"function" must be a string'], id="rollback of several"),
        pytest.param(ROLLBACK | {"to": "v1"}, ["\"to\" 'v1' is not a version, a commit"], id="to"),
        pytest.param(ROLLBACK | {"to": "abc123"}, ["at least 7 hexadecimal digits"], id="too short a commit"),
        pytest.param(ROLLBACK | {"ref": "main"}, ["unknown field 'ref'"], id="a field of build"),
        pytest.param({"action": "rollback"}, ['"function" is missing'], id="rollback of nothing"),
        pytest.param({"action": "doctor", "force": True}, ["unknown field 'force'"], id="doctor takes nothing"),
        pytest.param({"action": "bootstrap", "ref": "x"}, ["unknown field 'ref'"], id="a field of the other action"),
        pytest.param({**BUILD, "ref": 7}, ['"ref" must be a string, not a number'], id="wrong type"),
        pytest.param({**BUILD, "force": "yes"}, ['"force" must be true or false, not a string'], id="not a boolean"),
        pytest.param({**BUILD, "force": 1}, ["true or false, not a number"], id="1 is not true"),
        pytest.param({**BUILD, "ref": "a", "branch": "b"}, ["mean the same"], id="both names of ref"),
        pytest.param({**BUILD, "ref": "-x", "force": 0}, ["\"ref\" '-x'", '"force"'], id="all that is wrong"),
        pytest.param({**BUILD, "repo_name": "https://github.com/a/b"}, ["is a URL", "base_url"], id="URL"),
        pytest.param({**BUILD, "repo_name": "git@github.com:a/b"}, ["is a URL"], id="SSH address"),
        pytest.param({**BUILD, "repo_name": "project.git"}, ['ends in ".git"'], id=".git"),
        pytest.param({**BUILD, "function": "f:live"}, ["without a version"], id="a qualified function"),
        pytest.param({**BUILD, "function": "../f"}, ["is not the name or ARN"], id="no function's name"),
    ],
)
def test_a_bad_event_is_refused_with_all_that_is_wrong(event: object, words: list[str]) -> None:
    with pytest.raises(RequestError) as refused:
        parse_request(event)
    assert [word for word in words if word not in str(refused.value)] == [], refused.value


UNSAFE = [
    "", ".", "..", "../x", "x/../y", "/x", "/", "-x", "--upload-pack=x", "x\0y", "x\ny", "x\x1b[2J",
    "x\x7f", "x\\..\\y",
]  # fmt: skip


@pytest.mark.parametrize("value", UNSAFE)
@pytest.mark.parametrize("name", ["repo_name", "ref", "subdirectory", "function"])
def test_unsafe_names_are_refused(name: str, value: str) -> None:
    with pytest.raises(RequestError, match=name):
        parse_request({**BUILD, name: value})


@pytest.mark.parametrize(
    "value", ["a..b", "a b", "a~1", "a^", "a:b", "a?", "a*", "a[", "a@{1}", "a/.b", "a.lock", "a/", "a."]
)
def test_what_git_would_not_take_as_a_ref_is_refused(value: str) -> None:
    with pytest.raises(RequestError, match='"ref"'):
        parse_request({**BUILD, "ref": value})


@pytest.mark.parametrize(
    "value", ["main", "v1.2.3", "feature/JIRA-1_x", "refs/heads/main", "a" * 40, "日本", "a@b", "#1"]
)
def test_what_git_takes_as_a_ref_is_taken(value: str) -> None:
    assert parse_request({**BUILD, "ref": value}) == BuildRequest("project", "project", ref=value)


@given(st.text(max_size=40) | st.from_regex(r"[a-z./\\:-]{1,30}", fullmatch=True))
def test_no_accepted_name_can_lead_elsewhere(value: str) -> None:
    for fault in (repo_name_fault, ref_fault, subdirectory_fault):
        if fault(value) is None:
            assert value
            assert not value.startswith(("-", "/"))
            assert "://" not in value
            assert "\\" not in value
            assert not any(ord(char) < 32 or ord(char) == 127 for char in value)
            assert ".." not in value.split("/")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
)
FIELDS = st.sampled_from(
    [
        "function",
        "repo_name",
        "ref",
        "branch",
        "subdirectory",
        "dry_run",
        "force",
        "alias",
        "publish",
        "test_event",
        "to",
    ]
)
EVENTS = st.builds(
    lambda action, fields: {"action": action, **fields},
    st.sampled_from(["build", "rollback"]),
    st.dictionaries(FIELDS, JSON | st.just("project")),
)


@given(JSON | EVENTS)
def test_whatever_is_sent_is_understood_or_refused(event: object) -> None:
    with contextlib.suppress(RequestError):
        assert isinstance(parse_request(event), BuildRequest | RollbackRequest)
