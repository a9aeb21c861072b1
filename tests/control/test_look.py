"""Which commit is it?  A plain question to the Git host tells; whatever is odd is left to the clone."""

from __future__ import annotations

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Literal

import pytest

from local.git_server import GitServer
from tests.support.git_host import git, needs_git, publish, push, reply, server
from yo_dawg.control.git import Cloned, look_at_ref
from yo_dawg.control.job import Job
from yo_dawg.events import BuildRequest
from yo_dawg.source import Source

TOKEN = "canary-token"

Ask = Callable[..., Cloned | None]


@pytest.fixture
def ask(job: Job) -> Ask:
    """Ask as a build does, by a program of its own."""

    def run(url: str, ref: str | None = None, token: str = TOKEN) -> Cloned | None:
        return look_at_ref(Source(url, token=token), BuildRequest("api", "project", ref=ref), job)

    return run


@needs_git
@pytest.mark.parametrize("backend", ["git", "dulwich"])
def test_a_plain_question_tells_the_commit(ask: Ask, tmp_path: Path, backend: Literal["git", "dulwich"]) -> None:
    work = publish(tmp_path, "project", {"app.py": ""})
    git(work, "branch", "twice")
    git(work, "tag", "twice")
    git(work, "tag", "v1")
    git(work, "tag", "-a", "-m", "m", "v2")
    tagged = git(work, "rev-parse", "HEAD")
    commit = push(work, tmp_path / "project.git")
    with GitServer(tmp_path, users={"x-access-token": TOKEN}, backend=backend) as host:
        url = f"{host.url}/project.git"
        told = {
            None: "main", "HEAD": "main", "main": "main", "heads/main": "main", "refs/heads/main": "main",
            "v1": "v1", "v2": "v2", "tags/v2": "v2", "refs/tags/v2": "v2",
        }  # fmt: skip
        for ref, name in told.items():
            assert ask(url, ref) == Cloned(commit if name == "main" else tagged, name), ref
        assert ask(url, "twice") is None, "a branch and a tag"
        assert ask(url, "none") is None
        assert ask(url, commit[:8]) is None, "the clone knows about short ones"
        assert ask(url, "main", token="wrong") is None
        assert ask(f"{host.url}/none.git", "main") is None
        host.requests.clear()
        assert ask(url, "f" * 40) == Cloned("f" * 40, "f" * 40)
        assert host.requests == [], "a commit needs no question"


def test_of_a_host_that_speaks_ssh_nothing_is_asked(ask: Ask) -> None:
    assert ask("git@git.example:project.git", "main") is None


REFS = b"001e# service=git-upload-pack\n0000"
ID = b"0123456789" * 4


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"<html>", id="a web page"),
        pytest.param(REFS, id="an end"),
        pytest.param(REFS + b"zzzz", id="no length"),
        pytest.param(REFS + b"0004-004", id="back and forth"),
        pytest.param(REFS + b"0042" + ID, id="cut off"),
        pytest.param(REFS + b"0012not an id main0000", id="no commit"),
        pytest.param(REFS + b"0000", id="an empty repository"),
    ],
)
def test_an_answer_that_makes_no_sense_is_left_to_the_clone(ask: Ask, content: bytes) -> None:
    with server(lambda handler: reply(handler, content)) as url:
        assert ask(f"{url}/project.git", "main") is None


def test_another_host_does_not_get_our_token(ask: Ask) -> None:
    asked: list[str | None] = []

    def note(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.headers["Authorization"])
        reply(handler, REFS)

    with server(note) as other:
        moved = [("Location", f"{other}/project.git/info/refs?service=git-upload-pack")]
        with server(lambda handler: reply(handler, b"", status=302, headers=moved)) as url:
            assert ask(f"{url}/project.git", "main") is None
    assert asked == []
