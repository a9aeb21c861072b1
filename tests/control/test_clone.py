"""Starting the Git program, and what becomes of its answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from local.git_server import GitServer
from tests.support.git_host import (
    git,
    needs_git,
    publish,
    reply,
    server,
)
from tests.support.hand_made import pack_answer, refs_answer
from tests.support.yard import lay_toolchain, put_toolchain
from yo_dawg.control.git import Cloned, clone
from yo_dawg.control.job import Job
from yo_dawg.deadline import deadline
from yo_dawg.errors import SourceError
from yo_dawg.events import BuildRequest
from yo_dawg.log import Log
from yo_dawg.process import Command
from yo_dawg.source import Source
from yo_dawg.workspace import Workspace

pytestmark = needs_git


@pytest.fixture
def host(tmp_path: Path) -> Iterator[GitServer]:
    (tmp_path / "repos").mkdir()
    with GitServer(tmp_path / "repos", backend="git") as git_host:
        yield git_host


Door = Callable[..., Cloned]


@pytest.fixture
def cloner(job: Job, tmp_path: Path) -> Door:
    """What clones as a build does, by a program of its own."""
    put_toolchain(lay_toolchain(tmp_path / "toolchain"), job.builder, job.store)

    def run(url: str, **fields: Any) -> Cloned:
        return clone(Source(url), BuildRequest("f", "project", **fields), job)

    return run


FILES = {"app.py": "", "folder/inner.py": "", "other/x": ""}


@pytest.mark.parametrize(
    ("subdirectory", "words"),
    [
        pytest.param("flder", "no folder 'flder' at this commit. Its folders are: folder, other", id="missing"),
        pytest.param("app.py", "no folder 'app.py'", id="a file"),
        pytest.param("folder", None, id="there"),
    ],
)
def test_the_projects_folder_is_found(host: GitServer, cloner: Door, subdirectory: str, words: str | None) -> None:
    work = publish(host.root, "project", FILES)
    if words is None:
        assert cloner(f"{host.url}/project.git", subdirectory=subdirectory).commit == git(work, "rev-parse", "HEAD")
    else:
        with pytest.raises(SourceError, match=words):
            cloner(f"{host.url}/project.git", subdirectory=subdirectory)


def test_a_program_that_dies_is_told_with_its_last_words(cloner: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    def dying(module: str, space: Workspace) -> Command:
        return Command(["sh", "-c", "echo last words; kill -KILL $$"], space.root)

    monkeypatch.setattr("yo_dawg.control.workshop.program", dying)
    with pytest.raises(SourceError, match="was killed, most likely for lack of memory(?s:.)*last words"):
        cloner("https://git.example/project.git")


def test_a_server_that_drips_is_given_up_before_the_deadline(cloner: Door, log: Log) -> None:
    """It sends a byte now and then, so that no socket ever times out."""
    hung_up = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        if handler.command == "GET":
            reply(handler, refs_answer("12" * 20))
            return
        handler.send_response(200)
        handler.send_header("Content-Type", "application/x-git-upload-pack-result")
        handler.end_headers()
        for byte in pack_answer("12" * 20, b"PACK" + bytes(100_000)):
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()
            if hung_up.wait(0.05):
                return

    with (
        server(drip) as url,
        deadline(20_000, log),
        pytest.raises(SourceError, match="nine tenths of this build's time"),
    ):
        cloner(f"{url}/x.git")
    hung_up.set()
