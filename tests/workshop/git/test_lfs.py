"""Files in Git LFS."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from local.git_server import GitServer
from tests.support.git_host import DATA, Cloner, lfs_host, needs_git, pointer, publish, reply, server
from tests.support.hand_made import BLOB, HandMade, refused
from yo_dawg.checkout import Source
from yo_dawg.errors import SourceError


@pytest.mark.parametrize("text", [b"oid sha256:0\n", b"oid sha256:" + b"0" * 64 + b"\nsize many\n"])
def test_a_pointer_to_lfs_that_makes_no_sense_is_refused(tmp_path: Path, text: bytes) -> None:
    made = HandMade()
    pointer = made.add(BLOB, b"version https://git-lfs.github.com/spec/v1\n" + text)
    assert "'a' is a pointer to a file in Git LFS that" in refused(
        made, made.commit(made.tree((b"100644", b"a", pointer))), tmp_path
    )


pytestmark = needs_git


@pytest.mark.parametrize(
    "text",
    [
        pointer(DATA),
        pointer(DATA).replace("\n", "\r\n"),
        pointer(DATA).replace("git-lfs", "hawser"),
    ],
)
def test_files_in_lfs_are_fetched(host: GitServer, cloner: Cloner, text: str) -> None:
    publish(host.root, "lfs", {"a.bin": text, "copy/b.bin": pointer(DATA), "plain": "version 1\n"})
    with server(lfs_host(host.url, DATA)) as url:
        root = cloner(f"{url}/lfs.git").root
    assert (root / "a.bin").read_bytes() == (root / "copy/b.bin").read_bytes() == DATA
    assert (root / "plain").read_bytes() == b"version 1\n"


@pytest.mark.parametrize(
    ("served", "words"),
    [
        pytest.param(None, "'a.bin' is only a pointer to a file in Git LFS.*answers 404", id="no LFS"),
        pytest.param(b"x" * len(DATA), "not the file that the pointer names", id="other content"),
        pytest.param(DATA + b"more", "not the file that the pointer names", id="longer"),
    ],
)
def test_a_pointer_is_never_shipped(host: GitServer, cloner: Cloner, served: bytes | None, words: str) -> None:
    publish(host.root, "lfs", {"a.bin": pointer(DATA)})
    with server(lfs_host(host.url, served)) as url, pytest.raises(SourceError, match=words):
        cloner(f"{url}/lfs.git")


def test_a_file_in_lfs_that_lies_in_an_object_storage(host: GitServer, cloner: Cloner) -> None:
    """GitLab sends one there by a signed address; the token is not for it."""
    publish(host.root, "lfs", {"a.bin": pointer(DATA)})
    seen: list[str | None] = []

    def storage(handler: BaseHTTPRequestHandler) -> None:
        seen.append(handler.headers.get("Authorization"))
        reply(handler, DATA, "application/octet-stream")

    with server(storage) as there:
        inner = lfs_host(host.url, DATA)

        def answer(handler: BaseHTTPRequestHandler) -> None:
            if handler.path == "/data":
                assert handler.headers.get("Authorization")
                reply(handler, b"", "text/plain", 302, [("Location", f"{there}/signed?by=them")])
            else:
                inner(handler)

        with server(answer) as url:
            root = cloner(Source(f"{url}/lfs.git", token="canary-token-0123")).root
    assert (root / "a.bin").read_bytes() == DATA
    assert seen == [None]


@pytest.mark.parametrize(
    "action",
    [
        {"href": "https://h:abc/x"},
        {"href": "http://elsewhere.example/x"},
        {"header": {"A\r\nB": "x"}},
        {"header": {"A": "x\nB: y"}},
        {"header": {"A": "€"}},
    ],
)
def test_an_answer_of_lfs_that_makes_no_sense(host: GitServer, cloner: Cloner, action: dict[str, Any]) -> None:
    publish(host.root, "lfs", {"a.bin": pointer(DATA)})
    with server(lfs_host(host.url, DATA, action)) as url, pytest.raises(SourceError) as refused:
        cloner(f"{url}/lfs.git")
    assert "Traceback" not in str(refused.value)


def test_an_address_that_two_libraries_read_in_two_ways(host: GitServer, cloner: Cloner) -> None:
    publish(host.root, "lfs", {"a.bin": pointer(DATA)})
    seen: list[str] = []

    def evil(handler: BaseHTTPRequestHandler) -> None:
        seen.append(handler.path)
        reply(handler, DATA, "application/octet-stream")

    with (
        server(evil) as there,
        server(lfs_host(host.url, DATA, {"href": f"{there}\\@127.0.0.1/x"})) as url,
        pytest.raises(SourceError, match="no address"),
    ):
        cloner(Source(f"{url}/lfs.git", token="canary-token-0123"))
    assert seen == []
