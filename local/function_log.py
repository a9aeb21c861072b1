"""What a function writes, on its way into its log: event by event, while it runs.

What it prints is an event a line. What it logs, and its errors, come in frames, each an event of as many lines as it
has: that is how the runtime's own client writes to Lambda.
"""

from __future__ import annotations

import os
import queue
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence

LOG_RESULT_BYTES = 4096

FRAME = b"\xa5\x5a\x00"
"""How a frame begins: a byte for its kind follows, its size in 4, a time in 8, and the message."""

FRAME_HEAD = 16


class LogPipe:
    """Reads what the runtime writes and passes it on.

    The server shares the writing end. It writes a mark there when an invocation is over; when the mark arrives at the
    reading end, everything that the function wrote before has arrived too.
    """

    def __init__(self, reading: int, writing: int, write: Callable[[Sequence[str]], None]) -> None:
        """Start to read."""
        self.reading, self.writing, self.write = reading, writing, write
        self.mark = b"\0" + secrets.token_hex(16).encode() + b"\0"
        self.closing = False
        self.marked: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.tail = bytearray()
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self.work, name="function-log", daemon=True)
        self.thread.start()

    def work(self) -> None:
        """Read until nobody can write any more."""
        pending = b""
        while not self.closing and (received := os.read(self.reading, 1 << 16)):
            *finished, pending = (pending + received).split(self.mark)
            for part in finished:
                self.events(list(messages(part, whole=True)))
                self.marked.put(None)
            taken = list(messages(pending))
            pending = pending[sum(size for _, size in taken) :]
            self.events(taken)
        self.events(list(messages(pending, whole=True)))
        os.close(self.reading)

    def events(self, taken: Sequence[tuple[bytes, int]]) -> None:
        """Pass on messages of the function."""
        self.add([message.decode("utf-8", "replace") for message, _ in taken])

    def add(self, events: Sequence[str], *, in_tail: bool = True) -> None:
        """Pass on events, but for those of white space only, and keep the last 4 KB of the invocation."""
        seen = [event for event in events if event.strip()]
        if not seen:
            return
        with self.lock:
            if in_tail:
                self.tail += "".join(event if event.endswith("\n") else event + "\n" for event in seen).encode()
                del self.tail[:-LOG_RESULT_BYTES]
            self.write(seen)

    def lines(self, lines: Sequence[str], *, in_tail: bool = True) -> None:
        """Pass on lines of Lambda's own; those about an environment are not in the invocation's tail."""
        self.add([line + "\n" for line in lines], in_tail=in_tail)

    def drain(self) -> None:
        """Wait until everything written so far has arrived."""
        os.write(self.writing, self.mark)
        self.marked.get()

    def close(self) -> None:
        """Stop to read, even if a process that outlived its sandbox could still write."""
        self.closing = True
        os.write(self.writing, self.mark)
        self.thread.join()

    def begin(self) -> None:
        """Begin the log of an invocation."""
        with self.lock:
            self.tail.clear()


def messages(data: bytes, *, whole: bool = False) -> Iterator[tuple[bytes, int]]:
    """Yield each message that is complete, and the bytes that it took; if this is the whole, what is left as well."""
    at = 0
    while at < len(data):
        frame = data.find(FRAME, at)
        if frame == at and (size := frame_size(data, at)):
            yield data[at + FRAME_HEAD : at + size], size
            at += size
            continue
        if frame == at and not whole:
            return
        # A broken frame, in the end, is text like any other.
        end = data.find(b"\n", at, frame if frame > at else None) + 1
        if not end:
            end = frame if frame > at else len(data)
            if frame <= at and not whole:
                return
        yield data[at:end].rstrip(b"\n") + b"\n", end - at
        at = end


def frame_size(data: bytes, at: int) -> int:
    """Return the size of the frame that begins here, head and all; nought if it is not complete."""
    size = FRAME_HEAD + int.from_bytes(data[at + 4 : at + 8], "big")
    return size if len(data) >= at + size and len(data) >= at + FRAME_HEAD else 0
