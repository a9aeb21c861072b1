"""What the handler and the workshop's programs tell each other.

A job goes over a socket, with the open files that belong to it; the answer comes in an open file that the handler
passes along, so that nobody can put another in its place.  Both are JSON.  The handler reads no more of an answer
than ``MAX_ANSWER``: a project's code has run below the program that wrote it.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Mapping
from typing import Any

HEADER = struct.Struct("!QI")
"""The bytes of a job, and how many files come with it."""

MAX_FILES = 200
"""Open files with one job; Linux takes 253 at once (SCM_MAX_FD, unix(7))."""

MAX_ANSWER = 4_000_000
"""Bytes that the handler reads of an answer: once parsed, the worst of it takes 25 times as much memory."""

MAX_KNOWN = 64_000_000
"""Bytes that the workshop reads of what it once knew of a package; of 300,000 files it is less."""


def send(channel: socket.socket, job: Mapping[str, Any], files: Mapping[str, int]) -> None:
    """Send a job, and descriptors of open files by their names in it; raise OSError if nobody is there to take it."""
    content = json.dumps({"job": job, "files": list(files)}).encode()
    socket.send_fds(channel, [HEADER.pack(len(content), len(files))], [*files.values()])
    channel.sendall(content)


def receive(channel: socket.socket) -> tuple[dict[str, Any], dict[str, int]]:
    """Wait for a job, and return it with its open files; raise EOFError if none comes any more."""
    header, descriptors, _, _ = socket.recv_fds(channel, HEADER.size, MAX_FILES)
    if len(header) != HEADER.size:
        raise EOFError
    length, _ = HEADER.unpack(header)
    content = bytearray()
    while len(content) < length:
        piece = channel.recv(min(1 << 20, length - len(content)))
        if not piece:
            raise EOFError
        content += piece
    message = json.loads(content)
    return message["job"], dict(zip(message["files"], descriptors, strict=True))


def write_answer(file: int, answer: Mapping[str, Any]) -> None:
    """Write an answer into an open file, in place of what it may hold."""
    os.ftruncate(file, 0)
    with open(os.dup(file), "wb") as opened:
        opened.seek(0)
        opened.write(json.dumps(answer).encode())


def read_answer(file: int, limit: int = MAX_ANSWER) -> dict[str, Any]:
    """Read an answer of no more bytes than the limit; raise ValueError if it is none."""
    size = os.fstat(file).st_size
    if size > limit:
        raise ValueError(f"it is {size:,} bytes long")
    try:
        answer = json.loads(os.pread(file, size, 0))
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if not isinstance(answer, dict):
        raise ValueError("it is no object")
    return answer
