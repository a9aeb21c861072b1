"""The channel: jobs and open files one way, bounded answers the other."""

from __future__ import annotations

import json
import os
import socket
import struct
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from yo_dawg import channel

Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def answer() -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile(buffering=0) as file:
        yield file


def test_a_job_arrives_with_the_files_that_belong_to_it(ends: Ends, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(f"content of {name}")
    with (tmp_path / "a").open() as a, (tmp_path / "b").open() as b:
        channel.send(ends[0], {"do": "it", "ü": [None, 1.5]}, {"first": a.fileno(), "second": b.fileno()})
    job, files = channel.receive(ends[1])
    assert job == {"do": "it", "ü": [None, 1.5]}
    read = {name: os.pread(file, 100, 0) for name, file in files.items()}
    for file in files.values():
        os.close(file)
    assert read == {"first": b"content of a", "second": b"content of b"}


def test_a_job_may_be_larger_than_a_socket_holds(ends: Ends) -> None:
    job = {"text": "x" * 20_000_000}
    sender = threading.Thread(target=channel.send, args=[ends[0], job, {}])
    sender.start()
    received, files = channel.receive(ends[1])
    sender.join()
    assert (received == job, files) == (True, {})


@pytest.mark.parametrize(
    "sent",
    [b"", b"\0", struct.pack("!QI", 10, 0), struct.pack("!QI", 10, 0) + b"{"],
    ids=["nothing", "half a header", "no content", "half of the content"],
)
def test_who_is_left_alone_before_the_job_is_whole_is_told_so(ends: Ends, sent: bytes) -> None:
    ends[0].sendall(sent)
    ends[0].shutdown(socket.SHUT_WR)
    with pytest.raises(EOFError):
        channel.receive(ends[1])


def test_a_job_that_nobody_can_take_is_an_oserror(ends: Ends) -> None:
    ends[1].close()
    with pytest.raises(OSError):  # noqa: PT011  # which one depends on the moment
        channel.send(ends[0], {}, {})


def test_an_answer_replaces_what_the_file_held(answer: IO[bytes]) -> None:
    os.write(answer.fileno(), b"x" * 1000)
    channel.write_answer(answer.fileno(), {"a": [1]})
    assert channel.read_answer(answer.fileno()) == {"a": [1]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"", "Expecting value", id="nothing"),
        pytest.param(b"{", "Expecting property name", id="no JSON"),
        pytest.param(b"\xff\xfe\xfd", "decode", id="no text"),
        pytest.param(b"[1]", "no object", id="a list"),
        pytest.param(b"null", "no object", id="null"),
        pytest.param(b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "nested too deep", id="nested"),
        pytest.param(b'{"a": ' + b"9" * 100_000 + b"}", "integer string conversion", id="a number without end"),
    ],
)
def test_what_is_no_answer_is_a_valueerror(answer: IO[bytes], content: bytes, words: str) -> None:
    answer.write(content)
    with pytest.raises(ValueError, match=words):
        channel.read_answer(answer.fileno())


def test_an_answer_that_is_too_large_is_not_read(answer: IO[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    os.ftruncate(answer.fileno(), channel.MAX_ANSWER + 1)
    monkeypatch.setattr(json, "loads", lambda _: pytest.fail("it was read"))
    with pytest.raises(ValueError, match="it is 4,000,001 bytes long"):
        channel.read_answer(answer.fileno())
