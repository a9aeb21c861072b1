"""What a ref may be, and what commit it stands for."""

from __future__ import annotations

import pytest
from dulwich.objects import Blob, Commit, Tag

from local.git_server import AUTHOR, NEW_YEAR_2025, GitServer
from tests.support.git_host import FILE, Cloner, Project, git, needs_git, publish, push
from yo_dawg.errors import SourceError


@pytest.fixture
def refs(project: Project) -> dict[str, str]:
    """Refs of all kinds; the commits by name."""
    first = project.commit((b"a", FILE, b"1"))
    second = project.commit((b"a", FILE, b"2"))
    tag = Tag()
    tag.name, tag.tagger, tag.tag_time, tag.tag_timezone, tag.message = b"v2", AUTHOR, NEW_YEAR_2025, 0, b"x\n"
    tag.object = (Commit, first.encode())
    project.repo.object_store.add_object(tag)
    blob = Blob.from_string(b"1")
    for ref, sha in (("heads/feature/x", first), ("tags/v1", first), ("heads/both", first), ("tags/both", second)):
        project.point(f"refs/{ref}".encode(), sha.encode())
    project.point(b"refs/tags/v2", tag.id)
    project.point(b"refs/tags/file", blob.id)
    return {"first": first, "second": second}


@pytest.mark.parametrize(
    ("wanted", "commit", "ref"),
    [
        pytest.param(None, "second", "main", id="default branch"),
        pytest.param("main", "second", "main", id="branch"),
        pytest.param("feature/x", "first", "feature/x", id="branch with a slash"),
        pytest.param("v1", "first", "v1", id="light tag"),
        pytest.param("v2", "first", "v2", id="annotated tag"),
        pytest.param("refs/heads/both", "first", "both", id="full name of a branch"),
        pytest.param("refs/tags/both", "second", "both", id="full name of a tag"),
        pytest.param("first", "first", "first", id="commit"),
        pytest.param("second", "second", "second", id="commit at a tip"),
    ],
)
def test_what_is_asked_for_is_what_is_got(
    project: Project, refs: dict[str, str], wanted: str | None, commit: str, ref: str
) -> None:
    checkout = project.clone(ref=refs.get(wanted or "", wanted))
    assert (checkout.commit, checkout.ref) == (refs[commit], refs.get(ref, ref))
    assert (checkout.root / "a").read_text() == {"first": "1", "second": "2"}[commit]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        pytest.param("mian", 'no branch or tag "mian" .did you mean "main"', id="misspelt"),
        pytest.param("both", '"both" is a branch and a tag: ask for "refs/heads/both"', id="ambiguous"),
        pytest.param("0123abcd", "A commit must be given by its full id", id="abbreviated"),
        pytest.param("refs/heads/none", 'no branch or tag "refs/heads/none"', id="full name of nothing"),
        pytest.param("file", '"file" is no commit but a blob', id="a tag of a file"),
        pytest.param("0" * 39 + "1", "did not send the commit 0+1: .*not our ref", id="a commit that is not there"),
    ],
)
@pytest.mark.usefixtures("refs")
def test_a_ref_that_is_none_is_refused(project: Project, wanted: str, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        project.clone(ref=wanted)


def test_an_empty_repository_is_said_so(project: Project) -> None:
    with pytest.raises(SourceError, match="is empty: push a commit"):
        project.clone()


def test_a_head_without_a_branch_names_the_branches(project: Project) -> None:
    project.commit()
    project.point(b"refs/heads/develop", project.repo.refs[b"refs/heads/main"])  # type: ignore[index]
    del project.repo.refs[b"refs/heads/main"]  # type: ignore[arg-type]
    with pytest.raises(SourceError, match="is a branch that does not exist.*its branches are: develop"):
        project.clone()


@needs_git
def test_a_detached_head_is_cloned(host: GitServer, cloner: Cloner) -> None:
    work = publish(host.root, "project", {"a": "1"})
    first = git(work, "rev-parse", "HEAD")
    (work / "a").write_text("2")
    push(work, host.root / "project.git")
    git(host.root / "project.git", "update-ref", "--no-deref", "HEAD", first)
    assert cloner(f"{host.url}/project.git").commit == first


@needs_git
def test_only_the_refs_in_question_are_asked_for(host: GitServer, cloner: Cloner) -> None:
    work = publish(host.root, "project", {"a": "1"})
    git(work, "tag", "light")
    push(work, host.root / "project.git")
    cloner(f"{host.url}/project.git", ref="light")
    assert [each.split()[0] for each in host.requests] == ["GET", "POST", "POST"], "no look-up for a hint"
