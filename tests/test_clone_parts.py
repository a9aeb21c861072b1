"""What a checkout holds only by name, and what it leaves out: submodules, files in Git LFS, export-ignore."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from local.git_server import GitServer
from tests.gitting import Answer, Cloner, git, needs_git, publish, push, reply, server, tree
from yo_dawg.checkout import Source, origin
from yo_dawg.errors import SourceError
from yo_dawg.process import Shell
from yo_dawg.workshop.git.repository import related_source
from yo_dawg.workspace import Workspace

pytestmark = needs_git


@pytest.fixture
def host(tmp_path: Path) -> Iterator[GitServer]:
    (tmp_path / "repos").mkdir()
    with GitServer(tmp_path / "repos", backend="git") as git_host:
        yield git_host


@pytest.fixture
def cloner(space: Workspace, shell: Shell) -> Cloner:
    return Cloner(space, shell)


# --- .gitattributes --------------------------------------------------------------------------------------


def test_export_ignore_is_honoured(host: GitServer, cloner: Cloner) -> None:
    files = {
        ".gitattributes": "/big export-ignore\n*.psd export-ignore\nrequirements.txt export-ignore\n",
        "big/a.bin": "a", "src/logo.psd": "p", "src/app.py": "x", "requirements.txt": "requests",
        "src/.gitattributes": "keep.psd -export-ignore\n", "src/keep.psd": "k",
    }  # fmt: skip
    publish(host.root, "attributes", files)
    left = set(files) - {"big/a.bin", "src/logo.psd"}
    assert set(tree(cloner(f"{host.url}/attributes.git").root)) == left, "what says what to install is kept"
    publish(host.root, "scripted", {**files, "make_dist.sh": "true"})
    assert set(tree(cloner(f"{host.url}/scripted.git").root)) == {*files, "make_dist.sh"}, "a script decides"


# --- One project of many ---------------------------------------------------------------------------------

MANY = {"one/app.py": "1", "one/lib/x.py": "x", "two/app.py": "2", "shared/s.py": "s", "README.md": "r"}


@pytest.mark.parametrize(
    ("more", "alone"),
    [
        pytest.param({}, True, id="code"),
        pytest.param({"one/requirements.txt": "requests==2.32.5\n-r dev.txt\n"}, True, id="requirements"),
        pytest.param({"one/pyproject.toml": '[project]\nname = "one"\nversion = "1"\n'}, True, id="pyproject.toml"),
        pytest.param({"one/make_dist.sh": "cp -r ../shared $1"}, False, id="make_dist.sh"),
        pytest.param({"one/requirements.txt": "-e ../shared\n"}, False, id="a folder beside it"),
        pytest.param({"one/req/base.txt": "-r ../../two/requirements.txt\n"}, False, id="in a file below"),
        pytest.param({"one/requirements.txt": ".\n"}, False, id="its own build"),
        pytest.param({"one/setup.py": "import pathlib"}, False, id="setup.py"),
        pytest.param({"one/pyproject.toml": '[build-system]\nrequires = ["hatchling"]\n'}, False, id="a build"),
        pytest.param({"one/pyproject.toml": "[tool.uv.sources]\nshared = {workspace = true}\n"}, False, id="workspace"),
    ],
)
def test_of_many_projects_only_the_one_is_written_out_unless_it_looks_around(
    host: GitServer, cloner: Cloner, more: dict[str, str], alone: bool
) -> None:
    publish(host.root, "many", {**MANY, **more})
    found = set(tree(cloner(f"{host.url}/many.git", subdirectory="one").root))
    whole = {*MANY, *more}
    assert found == ({name for name in whole if name.startswith("one/")} if alone else whole)


@pytest.mark.parametrize("pattern", ["[", "[z-a]"])
def test_a_pattern_that_makes_no_sense_matches_nothing(host: GitServer, cloner: Cloner, pattern: str) -> None:
    files = {".gitattributes": f"{pattern} export-ignore\n", "app.py": "", "docs/a": ""}
    publish(host.root, "odd", files)
    assert set(tree(cloner(f"{host.url}/odd.git").root)) == set(files)


def test_a_link_to_what_lies_beside_the_project(host: GitServer, cloner: Cloner) -> None:
    work = publish(host.root, "many", MANY)
    (work / "one" / "shared").symlink_to("../shared")
    push(work, host.root / "many.git")
    checkout = cloner(f"{host.url}/many.git", subdirectory="one")
    assert (checkout.project / "shared" / "s.py").read_text() == "s"


def test_a_folder_that_is_not_there_is_told_with_those_that_are(host: GitServer, cloner: Cloner) -> None:
    publish(host.root, "many", MANY)
    with pytest.raises(SourceError, match="no folder 'three' .*Its folders are: one, shared, two"):
        cloner(f"{host.url}/many.git", subdirectory="three")


# --- Submodules -----------------------------------------------------------------------------------------


def add_submodule(work: Path, url: str, path: str, source: Path) -> None:
    """Add a submodule as "git submodule add" does, at the tip of a bare repository."""
    git(work, "config", "--file", ".gitmodules", f"submodule.{path}.path", path)
    git(work, "config", "--file", ".gitmodules", f"submodule.{path}.url", url)
    git(work, "add", ".gitmodules")
    git(work, "update-index", "--add", "--cacheinfo", f"160000,{git(source, 'rev-parse', 'main')},{path}")
    git(work, "commit", "--quiet", "--message", "submodule")


def test_submodules_are_fetched(host: GitServer, cloner: Cloner) -> None:
    publish(host.root, "inner", {"inner.py": "i"})
    middle = publish(host.root, "middle", {"middle.py": "m"})
    add_submodule(middle, "../inner.git", "vendor/inner", host.root / "inner.git")
    git(middle, "push", "--quiet", str(host.root / "middle.git"), "main")
    outer = publish(host.root, "outer", {"outer.py": "o"})
    add_submodule(outer, f"{host.url}/middle.git", "libs/middle", host.root / "middle.git")
    git(outer, "push", "--quiet", str(host.root / "outer.git"), "main")
    checkout = cloner(f"{host.url}/outer.git")
    assert checkout.warnings == ()
    assert [name for name in tree(checkout.root) if name.endswith(".py")] == [
        "libs/middle/middle.py", "libs/middle/vendor/inner/inner.py", "outer.py",
    ]  # fmt: skip


def test_credentials_go_to_submodules_of_the_same_host_alone(tmp_path: Path, cloner: Cloner) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "public").mkdir()
    seen: list[str] = []
    with (
        GitServer(tmp_path / "private", backend="git", users={"x-access-token": "canary-token-0123"}) as private,
        GitServer(tmp_path / "public", backend="git") as public,
    ):
        publish(private.root, "ours", {"ours.py": "1"})
        publish(public.root, "theirs", {"theirs.py": "2"})
        work = publish(private.root, "outer", {"outer.py": "0"})
        add_submodule(work, "../ours.git", "ours", private.root / "ours.git")
        git(work, "push", "--quiet", str(private.root / "outer.git"), "main")
        checkout = cloner(Source(f"{private.url}/outer.git", token="canary-token-0123"))
        assert (checkout.root / "ours" / "ours.py").exists()
        add_submodule(work, f"{public.url}/theirs.git", "theirs", public.root / "theirs.git")
        git(work, "push", "--quiet", str(private.root / "outer.git"), "main")
        # Plain http to another host is refused, whoever it is.
        with pytest.raises(SourceError, match=r"submodule 'theirs' is at .* only https"):
            cloner(Source(f"{private.url}/outer.git", token="canary-token-0123"))
        assert public.requests == seen


def test_a_submodule_that_nobody_declared_is_a_warning(host: GitServer, cloner: Cloner) -> None:
    work = publish(host.root, "outer", {"outer.py": "o"})
    git(work, "update-index", "--add", "--cacheinfo", f"160000,{'12' * 20},oops")
    git(work, "commit", "--quiet", "--message", "oops")
    git(work, "push", "--quiet", str(host.root / "outer.git"), "main")
    assert cloner(f"{host.url}/outer.git").warnings == (
        "the submodule 'oops' is not in .gitmodules, and was not fetched",
    )


def test_a_link_that_leads_out_by_those_of_a_submodule(host: GitServer, cloner: Cloner) -> None:
    """Each is harmless as long as the other is not there."""
    inner = publish(host.root, "inner", {"inner.py": "i"})
    for name in "abcdefgh":
        (inner / name).symlink_to(".")
    push(inner, host.root / "inner.git")
    outer = publish(host.root, "outer", {"outer.py": "o"})
    (outer / "out").symlink_to(f"sub/{'/'.join('abcdefgh')}/{'../' * 9}secret")
    git(outer, "add", "out")
    add_submodule(outer, "../inner.git", "sub", host.root / "inner.git")
    git(outer, "push", "--quiet", str(host.root / "outer.git"), "main")
    with pytest.raises(SourceError, match="The link 'out' points at .* outside of the repository"):
        cloner(f"{host.url}/outer.git")


def test_a_submodule_is_the_commit_that_is_pinned_whatever_has_its_name(host: GitServer, cloner: Cloner) -> None:
    inner = publish(host.root, "inner", {"app.py": "good"})
    pinned = git(inner, "rev-parse", "HEAD")
    outer = publish(host.root, "outer", {"outer.py": "o"})
    add_submodule(outer, "../inner.git", "sub", host.root / "inner.git")
    git(outer, "push", "--quiet", str(host.root / "outer.git"), "main")
    (inner / "app.py").write_text("evil")
    git(inner, "commit", "--quiet", "--all", "--message", "evil")
    for kind in ("heads", "tags"):
        git(inner, "push", "--quiet", str(host.root / "inner.git"), f"HEAD:refs/{kind}/{pinned}")
    assert (cloner(f"{host.url}/outer.git").root / "sub/app.py").read_text() == "good"
    assert cloner(f"{host.url}/inner.git", ref=pinned).commit == pinned


@pytest.mark.parametrize("url", ["https://host:abc/x.git", "https://[bad/x.git", "https://h\\@127.0.0.1/x", "", "/abs"])
def test_a_submodule_at_no_address(host: GitServer, cloner: Cloner, url: str) -> None:
    inner = publish(host.root, "inner", {"inner.py": "i"})
    outer = publish(host.root, "outer", {"outer.py": "o"})
    git(outer, "update-index", "--add", "--cacheinfo", f"160000,{git(inner, 'rev-parse', 'HEAD')},sub")
    (outer / ".gitmodules").write_text(f'[submodule "sub"]\n\tpath = sub\n\turl = "{url}"\n')
    git(outer, "add", ".gitmodules")
    git(outer, "commit", "--quiet", "--message", "submodule")
    git(outer, "push", "--quiet", str(host.root / "outer.git"), "main")
    with pytest.raises(SourceError, match="sub|address") as refused:
        cloner(f"{host.url}/outer.git")
    assert "Traceback" not in str(refused.value)


@pytest.mark.parametrize(
    ("base", "url", "expected"),
    [
        ("https://h/a/b.git", "../c.git", "https://h/a/c.git"),
        ("https://h/a/b.git", "./c.git", "https://h/a/b.git/c.git"),
        ("git@h:a/b.git", "../../x/c.git", "git@h:x/c.git"),
        ("https://h/a/b.git", "git@h:x/c.git", "https://h/x/c.git"),
        ("https://h/a/b.git", "https://other/c.git", "https://other/c.git"),
    ],
)
def test_addresses_of_submodules(base: str, url: str, expected: str) -> None:
    theirs = related_source(Source(base, token="t"), url, "sub")
    assert theirs.url == expected
    assert bool(theirs.token) == (origin(expected) == origin(base))


# --- Git LFS ----------------------------------------------------------------------------------------------

DATA = b"real data\n" * 1000


def pointer(data: bytes) -> str:
    """Return what is committed for a file in Git LFS."""
    oid = hashlib.sha256(data).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(data)}\n"


def lfs_host(git_url: str, served: bytes | None, action: dict[str, Any] | None = None) -> Answer:
    """Pass Git on to a real host by redirecting nothing: answer LFS ourselves, ask Git for the rest."""
    import urllib.request

    def answer(handler: BaseHTTPRequestHandler) -> None:
        url = f"http://{handler.headers['Host']}"
        if handler.path.endswith(".git/info/lfs/objects/batch") and served is not None:
            question = json.loads(handler.body)  # type: ignore[attr-defined]
            download = {"href": f"{url}/data", **(action or {})}
            found = [{**each, "actions": {"download": download}} for each in question["objects"]]
            reply(handler, json.dumps({"objects": found}).encode(), "application/vnd.git-lfs+json")
        elif handler.path == "/data" and served is not None:
            reply(handler, served, "application/octet-stream")
        elif "/info/lfs/" in handler.path:
            reply(handler, b"", "text/plain", 404)
        else:
            headers = {
                name: handler.headers[name] for name in ("Content-Type", "Git-Protocol") if handler.headers[name]
            }
            body = handler.body if handler.command == "POST" else None  # type: ignore[attr-defined]
            request = urllib.request.Request(git_url + handler.path, body, headers)
            with urllib.request.urlopen(request) as response:
                reply(handler, response.read(), response.headers["Content-Type"])

    return answer


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
