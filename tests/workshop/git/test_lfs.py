"""Files in Git LFS."""

from __future__ import annotations

import hashlib
import os
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from local.git_server import GitServer
from tests.support.git_host import (
    DATA,
    Cloner,
    add_submodule,
    git,
    lfs_host,
    needs_git,
    pointer,
    publish,
    push,
    reply,
    server,
)
from yo_dawg.source import Source


@pytest.mark.parametrize(
    "text",
    [b"oid sha256:0\nsize 1\n", b"oid sha256:" + b"0" * 64 + b"\nsize many\n", b"", b"size 5\noid sha256:" + b"G" * 64],
)
def test_a_pointer_that_makes_no_sense_stays_and_is_told(host: GitServer, cloner: Cloner, text: bytes) -> None:
    content = b"version https://git-lfs.github.com/spec/v1\n" + text
    publish(host.root, "lfs", {"a": content})
    checkout = cloner(f"{host.url}/lfs.git")
    assert checkout.unfetched_lfs == {"a": "the pointer is malformed"}
    assert (checkout.root / "a").read_bytes() == content


pytestmark = needs_git


@pytest.mark.parametrize(
    "text",
    [
        pointer(DATA),
        pointer(DATA).replace("\n", "\r\n"),
        pointer(DATA).replace("oid", "ext-0-foo sha256:" + "1" * 64 + "\noid"),
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
        pytest.param(None, "the host answers 404 to Git LFS", id="no LFS"),
        pytest.param(b"x" * len(DATA), "not the file that the pointer names", id="other content"),
        pytest.param(DATA + b"more", "not the file that the pointer names", id="longer"),
        pytest.param(DATA[:-1], "not the file that the pointer names", id="shorter"),
    ],
)
def test_what_cannot_be_fetched_stays_a_pointer_and_is_told(
    host: GitServer, cloner: Cloner, served: bytes | None, words: str
) -> None:
    publish(host.root, "lfs", {"app.py": "x", "docs/movie\r.mp4": pointer(DATA), "docs/again.mp4": pointer(DATA)})
    with server(lfs_host(host.url, served)) as url:
        checkout = cloner(f"{url}/lfs.git")
    assert list(checkout.unfetched_lfs) == ["docs/again.mp4", "docs/movie\r.mp4"]
    assert all(words in reason for reason in checkout.unfetched_lfs.values())
    assert (checkout.root / "docs/again.mp4").read_text() == pointer(DATA)
    [warning] = checkout.warnings
    assert words in warning
    assert "'docs/movie\\r.mp4'" in warning
    assert warning.isprintable()


def test_when_one_file_fails_the_others_are_fetched(host: GitServer, cloner: Cloner) -> None:
    """Whichever is asked for first."""
    digest = hashlib.sha256(DATA).hexdigest()
    others = [b"%d" % number for number in range(99)]
    before = next(each for each in others if hashlib.sha256(each).hexdigest() < digest)
    after = next(each for each in others if hashlib.sha256(each).hexdigest() > digest)
    work = publish(host.root, "lfs", {"a.bin": pointer(before), "b.sh": pointer(DATA), "c.bin": pointer(after)})
    (work / "b.sh").chmod(0o755)
    push(work, host.root / "lfs.git")
    with server(lfs_host(host.url, DATA)) as url:  # which sends the same for each
        checkout = cloner(f"{url}/lfs.git")
    assert list(checkout.unfetched_lfs) == ["a.bin", "c.bin"]
    assert (checkout.root / "b.sh").read_bytes() == DATA
    assert os.access(checkout.root / "b.sh", os.X_OK)
    assert (checkout.root / "a.bin").read_text() == pointer(before)


def test_pointers_in_a_submodule_are_told_where_they_lie(host: GitServer, cloner: Cloner) -> None:
    publish(host.root, "inner", {"data/x.bin": pointer(DATA)})
    outer = publish(host.root, "outer", {"outer.py": ""})
    add_submodule(outer, "../inner.git", "libs/inner", host.root / "inner.git")
    git(outer, "push", "--quiet", str(host.root / "outer.git"), "main")
    assert list(cloner(f"{host.url}/outer.git").unfetched_lfs) == ["libs/inner/data/x.bin"]


@pytest.mark.parametrize("setting", ["[lfs]\n\turl = URL\n", '[remote "origin"]\n\tlfsurl = URL\n'])
def test_lfsconfig_says_where_the_files_are(host: GitServer, cloner: Cloner, setting: str) -> None:
    """And that server sees the credentials, if it is the repository's own."""
    seen: list[tuple[str, str | None]] = []
    inner = lfs_host(host.url, DATA)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if "batch" in handler.path:
            seen.append((handler.path, handler.headers.get("Authorization")))
            handler.path = "/x.git/info/lfs/objects/batch"
        inner(handler)

    with server(answer) as url:
        publish(host.root, "lfs", {"a.bin": pointer(DATA), ".lfsconfig": setting.replace("URL", f"{url}/other/lfs/")})
        checkout = cloner(Source(f"{url}/lfs.git", token="canary-token-0123"))
    assert (checkout.root / "a.bin").read_bytes() == DATA
    assert [path for path, _ in seen] == ["/other/lfs/objects/batch"]
    assert all(credentials for _, credentials in seen)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://other.example/lfs", "only https"),
        ("http://127.0.0.1:9/lfs", "only https"),
        ("file:///etc", "only https"),
        ("https://me:canary@127.0.0.1:9/lfs", "user name or password"),
        ("ssh://git@127.0.0.1:9/lfs", "no deploy key"),
        ("https://127.0.0.1:9/lfs", "no sense"),
    ],
)
def test_an_lfsconfig_that_leads_astray(host: GitServer, cloner: Cloner, address: str, words: str) -> None:
    publish(host.root, "lfs", {"a.bin": pointer(DATA), ".lfsconfig": f"[lfs]\n\turl = {address}\n"})
    url = host.url.replace("127.0.0.1", "localhost")
    checkout = cloner(Source(f"{url}/lfs.git", token="canary-token-0123"))
    assert words in checkout.unfetched_lfs["a.bin"]
    assert "canary" not in str(checkout)


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
    with server(lfs_host(host.url, DATA, action)) as url:
        checkout = cloner(f"{url}/lfs.git")
    assert list(checkout.unfetched_lfs) == ["a.bin"]
    assert (checkout.root / "a.bin").read_text() == pointer(DATA)


def test_an_address_that_two_libraries_read_in_two_ways(host: GitServer, cloner: Cloner) -> None:
    publish(host.root, "lfs", {"a.bin": pointer(DATA)})
    seen: list[str] = []

    def evil(handler: BaseHTTPRequestHandler) -> None:
        seen.append(handler.path)
        reply(handler, DATA, "application/octet-stream")

    with (
        server(evil) as there,
        server(lfs_host(host.url, DATA, {"href": f"{there}\\@127.0.0.1/x"})) as url,
    ):
        checkout = cloner(Source(f"{url}/lfs.git", token="canary-token-0123"))
    assert "no address" in checkout.unfetched_lfs["a.bin"]
    assert seen == []


def test_a_server_whose_downloads_fail_is_given_up(host: GitServer, cloner: Cloner) -> None:
    """Each may take as long as a stalled server is waited for."""
    publish(host.root, "lfs", {f"{number}.bin": pointer(b"%d" % number) for number in range(9)})
    seen = 0

    def cut(handler: BaseHTTPRequestHandler) -> None:
        nonlocal seen
        seen += 1
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()

    with server(cut) as there, server(lfs_host(host.url, DATA, {"href": f"{there}/x"})) as url:
        checkout = cloner(f"{url}/lfs.git")
    assert len(checkout.unfetched_lfs) == 9
    assert seen == 3
