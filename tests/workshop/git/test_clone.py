"""The whole job of the Git program: real Dulwich, against real repositories that are really served."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from local.git_server import GitServer
from tests.support.git_host import FILE, LINK, SCRIPT, Cloner, Project, git, needs_git, publish, push, server, tree
from tests.support.hand_made import BLOB, HandMade, serving
from yo_dawg.errors import SourceError
from yo_dawg.workspace import Workspace


def test_a_checkout_is_the_commits_files_and_nothing_of_git(project: Project) -> None:
    commit = project.commit(
        (b"app.py", FILE, b"x = 1\n"), (b"folder", 0o40000, b"y = 2\n"), (b"link", LINK, b"folder/inner.py"),
        (b"run.sh", SCRIPT, b"#!/bin/sh\n"),
    )  # fmt: skip
    checkout = project.clone()
    assert (checkout.commit, checkout.ref, checkout.warnings) == (commit, "main", ())
    names = sorted(path.relative_to(checkout.root).as_posix() for path in checkout.root.rglob("*"))
    assert names == ["app.py", "folder", "folder/inner.py", "link", "run.sh"]
    assert checkout.files == set(names)
    assert os.readlink(checkout.root / "link") == "folder/inner.py"
    assert [os.access(checkout.root / name, os.X_OK) for name in ("run.sh", "app.py")] == [True, False]
    assert not project.space.objects.exists(), "/tmp is small"


def test_a_hostile_repository_is_refused_by_a_program_too(space: Workspace) -> None:
    made = HandMade()
    commit = made.commit(made.tree((b"40000", b".git", made.tree((b"100644", b"config", made.add(BLOB, b"[core]"))))))
    with server(serving(commit, made.pack)) as url, pytest.raises(SourceError, match="holds a file named '.git'"):
        Cloner(space, {})(f"{url}/project.git")


@needs_git
def test_files_come_as_they_were_committed(host: GitServer, cloner: Cloner) -> None:
    work = publish(host.root, "files")
    (work / ".gitattributes").write_bytes(b"*.txt text eol=lf\n")
    (work / "crlf.txt").write_bytes(b"a\r\nb\n")
    (work / "empty").write_bytes(b"")
    Path(os.fsdecode(bytes(work) + b"/latin-\xe9.txt")).write_bytes(b"x")
    (work / "größe.txt").write_bytes(b"y")
    git(work, "-c", "core.autocrlf=false", "add", "--all")
    blob = git(work, "hash-object", "-w", "--stdin", "--no-filters", stdin=b"a\r\nb\n")
    git(work, "update-index", "--cacheinfo", f"100644,{blob},crlf.txt")
    git(work, "commit", "--quiet", "--message", "m")
    git(work, "push", "--quiet", str(host.root / "files.git"), "HEAD:refs/heads/main")
    root = cloner(f"{host.url}/files.git").root
    assert (root / "crlf.txt").read_bytes() == b"a\r\nb\n", "CRLF is left alone"
    assert {b"latin-\xe9.txt", "größe.txt".encode(), b"empty"} <= set(os.listdir(bytes(root)))


@needs_git
def test_a_repository_of_sha256(host: GitServer, cloner: Cloner) -> None:
    work = host.root / "work"
    git(host.root, "init", "--quiet", "--object-format=sha256", "work")
    git(host.root, "init", "--quiet", "--bare", "--object-format=sha256", "new.git")
    (work / "a").write_text("new")
    commit = push(work, host.root / "new.git")
    assert len(commit) == 64
    assert cloner(f"{host.url}/new.git").commit == commit


MANY = {"one/app.py": "1", "one/lib/x.py": "x", "two/app.py": "2", "shared/s.py": "s", "README.md": "r"}


def test_a_link_to_what_lies_beside_the_project(host: GitServer, cloner: Cloner) -> None:
    work = publish(host.root, "many", MANY)
    (work / "one" / "shared").symlink_to("../shared")
    push(work, host.root / "many.git")
    checkout = cloner(f"{host.url}/many.git", subdirectory="one")
    assert (checkout.project / "shared" / "s.py").read_text() == "s"


@needs_git
@pytest.mark.parametrize("subdirectory", ["", "one"])
def test_the_whole_tree_is_written_out(host: GitServer, cloner: Cloner, subdirectory: str) -> None:
    """Whatever archives leave out, and whatever lies beside the project: a build may look at it."""
    files = {**MANY, ".gitattributes": "/two export-ignore\nrequirements export-ignore\n", "requirements/a.txt": ""}
    publish(host.root, "many", files)
    assert set(tree(cloner(f"{host.url}/many.git", subdirectory=subdirectory).root)) == set(files)
