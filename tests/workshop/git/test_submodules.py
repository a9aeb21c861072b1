"""Submodules: where they are fetched from, and with whose credentials."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from local.git_server import GitServer
from tests.support.git_host import Cloner, add_submodule, git, publish, push, tree
from yo_dawg.errors import SourceError
from yo_dawg.source import Source, origin
from yo_dawg.workshop.git.addresses import related_source
from yo_dawg.workshop.git.checkout import TreeEntry
from yo_dawg.workshop.git.repository import Wanted, fetch_submodules


@pytest.mark.parametrize("url", ["ext::sh -c id", "file:///etc", "/etc", "--upload-pack=id", "http://other.example/x"])
def test_a_submodule_at_a_bad_place_is_refused(tmp_path: Path, url: str) -> None:
    modules = f'[submodule "x"]\npath = sub\nurl = "{url}"\n'.encode()
    outer = Wanted(None, tmp_path / "checkout", tmp_path)
    with pytest.raises(SourceError, match="submodule 'sub' is at"):
        fetch_submodules(Source("https://h/x.git"), outer, [TreeEntry(b"sub", 0o160000, b"1" * 20)], modules)
    assert os.listdir(tmp_path) in ([], ["checkout"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path = sub\nurl = https://not.there.example/x\nupdate = none", "the submodule 'sub' was not fetched: .*none"),
        ("path = sub\nurl = http://not.https.example/x\nupdate=none", "the submodule 'sub' was not fetched: .*none"),
        ("path = sub/\nurl = https://not.there.example/x", "'sub' is not in .gitmodules"),
        ("path = ./sub\nurl = https://not.there.example/x", "'sub' is not in .gitmodules"),
        ("path = ../../hooks\nurl = https://not.there.example/x", "'sub' is not in .gitmodules"),
        ("url = https://not.there.example/x", "'old' has no path or no url in .gitmodules: skipped"),
        ("path = sub", "'old' has no path or no url in .gitmodules: skipped"),
        ("", "'old' has no path or no url in .gitmodules: skipped"),
    ],
)
def test_a_submodule_that_git_leaves_out_is_left_out_and_told(
    host: GitServer, cloner: Cloner, text: str, words: str
) -> None:
    """What git 2.39 makes of each: "git clone --recurse-submodules" ends well, and the folder is empty."""
    inner = publish(host.root, "inner", {"inner.py": "i"})
    outer = publish(host.root, "outer", {"outer.py": "o"})
    add_submodule(outer, "../inner.git", "good", host.root / "inner.git")
    with (outer / ".gitmodules").open("a") as file:
        file.write(f'[submodule "old"]\n{text}\n')
    git(outer, "add", ".gitmodules")
    git(outer, "update-index", "--add", "--cacheinfo", f"160000,{git(inner, 'rev-parse', 'HEAD')},sub")
    git(outer, "commit", "--quiet", "--message", "submodule")
    git(outer, "push", "--quiet", str(host.root / "outer.git"), "main")
    checkout = cloner(f"{host.url}/outer.git")
    assert [each for each in tree(checkout.root) if each.endswith(".py")] == ["good/inner.py", "outer.py"]
    assert any(re.search(words, each) for each in checkout.warnings), checkout.warnings


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
    checkout = cloner(f"{host.url}/outer.git")
    assert list(checkout.outside_links) == ["out"]
    assert not (checkout.root / "out").is_symlink()
    assert checkout.warnings[0].startswith("links that lead out of the repository were left out: 'out' -> 'sub/a/b")


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
