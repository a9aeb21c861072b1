"""What a ref may be, and what commit it stands for."""

from __future__ import annotations

import pytest
from dulwich.objects import Blob, Commit, Tag

from local.git_server import AUTHOR, NEW_YEAR_2025, GitServer
from tests.support.git_host import FILE, Cloner, Project, git, needs_git, publish, push
from yo_dawg.errors import SourceError
from yo_dawg.events import parse_request
from yo_dawg.report import Report
from yo_dawg.source import ref_names, short_ref
from yo_dawg.workshop.git.look import ask_refs
from yo_dawg.workshop.git.remote import ref_at


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
        pytest.param("HEAD", "second", "main", id="HEAD"),
        pytest.param("heads/main", "second", "main", id="heads/"),
        pytest.param("heads/both", "first", "both", id="heads/ of a name that is a tag too"),
        pytest.param("tags/both", "second", "both", id="tags/"),
        pytest.param("tags/v2", "first", "v2", id="tags/ of an annotated tag"),
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
        pytest.param("0123abcd", "that no branch or tag points at must be given by its full id", id="abbreviated"),
        pytest.param("heads/none", 'no branch or tag "heads/none"', id="heads/ of nothing"),
        pytest.param("tags/main", 'no branch or tag "tags/main"', id="tags/ of a branch"),
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


@needs_git
@pytest.mark.parametrize("digits", [7, 12, 39])
@pytest.mark.parametrize("kind", ["branch", "light", "annotated"])
def test_a_short_commit_at_a_branch_or_tag(host: GitServer, cloner: Cloner, digits: int, kind: str) -> None:
    work = publish(host.root, "project", {"a": "1"})
    first = git(work, "rev-parse", "HEAD")
    more = {"branch": ["branch"], "light": ["tag"], "annotated": ["tag", "-a", "-m", "m"]}[kind]
    git(work, *more, "old")
    git(work, *more, "same-commit")
    (work / "a").write_text("2")
    push(work, host.root / "project.git")
    checkout = cloner(f"{host.url}/project.git", ref=first[:digits])
    assert (checkout.commit, checkout.ref) == (first, first)
    assert (checkout.root / "a").read_text() == "1"


@needs_git
def test_a_short_commit_that_no_branch_or_tag_points_at(host: GitServer, cloner: Cloner) -> None:
    work = publish(host.root, "project", {"a": "1"})
    first = git(work, "rev-parse", "HEAD")
    (work / "a").write_text("2")
    push(work, host.root / "project.git")
    with pytest.raises(SourceError, match="no branch or tag .* must be given by its full id"):
        cloner(f"{host.url}/project.git", ref=first[:9])
    git(work, "branch", first[:9])
    push(work, host.root / "project.git")
    assert cloner(f"{host.url}/project.git", ref=first[:9]).ref == first[:9], "a branch of that name comes first"


def test_a_short_commit_of_several() -> None:
    commits = {b"refs/heads/a": b"1234567a" * 5, b"refs/tags/b": b"1234567b" * 5, b"refs/heads/c": b"1234567a" * 5}
    with pytest.raises(SourceError, match=r'"1234567" is how several commits begin: .*\(a\), .*\(b\)'):
        ref_at(commits, "1234567")
    assert ref_at(commits, "1234567a") == b"refs/heads/a"
    assert ref_at(commits, "7654321") is None


@needs_git
def test_a_name_of_several_refs_names_them(host: GitServer, cloner: Cloner) -> None:
    work = publish(host.root, "project", {"a": "1"})
    git(work, "branch", "heads/main")
    push(work, host.root / "project.git")
    with pytest.raises(SourceError, match='ask for "refs/heads/heads/main" or "refs/heads/main"'):
        cloner(f"{host.url}/project.git", ref="heads/main")


@needs_git
@pytest.mark.parametrize("ref", ["HEAD", "main", "heads/main", "refs/heads/main", "v1", "tags/v1", "v2", "tags/v2"])
def test_looking_and_cloning_agree(host: GitServer, cloner: Cloner, ref: str) -> None:
    work = publish(host.root, "project", {"a": "1"})
    git(work, "tag", "v1")
    git(work, "tag", "-a", "-m", "m", "v2")
    (work / "a").write_text("2")
    push(work, host.root / "project.git")
    assert parse_request({"action": "build", "function": "f", "repo_name": "project", "ref": ref})
    names = [name.decode() for name in ref_names(ref)]
    job = {"url": f"{host.url}/project.git", "credentials": None, "names": names, "seconds": 30}
    [(name, commit)] = ask_refs(job, {}, Report())["found"]
    checkout = cloner(f"{host.url}/project.git", ref=ref)
    assert (short_ref(name), commit) == (checkout.ref, checkout.commit)
