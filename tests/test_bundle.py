"""What has not changed is not made again: neither the dependencies of a package nor the package itself."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import os
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lambda_function as yo
from benchmarks.packages import projects
from lambda_function import NotBootstrapped, PackageError, Source, lambda_handler
from local.rest_json import Response
from tests.gitting import git
from tests.test_handler import HANDLER, LIBRARY, TOKEN, Yard
from tests.test_handler import setup as setup
from tests.test_handler import yard as yard
from tests.test_install import make_wheel

ALPHA = {"alpha/__init__.py": "a = 1\n", "alpha/tests/__init__.py": "", "alpha/tests/cases.py": "c = 3\n"}
APP = f"import alpha, beta\n{HANDLER}"
TAKEN_OVER = "as they were in the former package\n"
FORMER = "2 packages, " + TAKEN_OVER


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """The package index."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    make_wheel(folder, "Alpha", "1.0", ALPHA, ["beta>=1"])
    make_wheel(folder, "beta", "1.0", {"beta.py": "b = 1\n"})
    return folder


def project(
    wheels: Path, requirements: str = "alpha==1.0\nbeta==1.0 ; python_version > '3'", **files: str
) -> dict[str, str]:
    names = {name.replace("__", "."): text for name, text in files.items()}
    return {"app.py": APP, "requirements.txt": f"--no-index\n--find-links {wheels}\n{requirements}\n", **names}


def said(yard: Yard, result: dict[str, Any]) -> str:
    return yard.read(result["log"].removeprefix("s3://bucket/")).decode()


def cold(yard: Yard) -> dict[str, Any]:
    """Build as if nothing had been built before."""
    for key in [*yard.keys("packages/"), *yard.keys("bundles/")]:
        yard.aws.s3.delete_object(Bucket="bucket", Key=key)
    result = yard.build(force=True)
    assert "former package" not in said(yard, result)
    return result


# --- Dependencies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("pinned", [True, False])
def test_dependencies_are_not_installed_again_for_a_change_of_code(yard: Yard, wheels: Path, pinned: bool) -> None:
    files = project(wheels, *[] if pinned else ["alpha"])
    yard.add_project(files)
    first = yard.build()
    assert FORMER not in said(yard, first)
    yard.add_project({**files, "app.py": f"{APP}# changed\n"})
    warm = yard.build()
    assert FORMER in said(yard, warm)
    assert ("resolve" in warm["seconds"]) != pinned, "if the index has no say, it is not asked"
    anew = cold(yard)
    assert anew["code_sha256"] == warm["code_sha256"] != first["code_sha256"]
    same = ("package", "dependencies", "dependency_records", "pruned", "warnings")
    assert {name: anew[name] for name in same} == {name: warm[name] for name in same}


def test_a_new_release_is_found(yard: Yard, wheels: Path) -> None:
    yard.add_project(project(wheels, "alpha"))
    yard.build()
    make_wheel(wheels, "beta", "1.1", {"beta.py": "b = 2\n"})
    result = yard.build(ref="main")
    assert (result["status"], result["dependencies"]) == ("deployed", ["Alpha==1.0", "beta==1.1"])


CHANGED_INPUTS: dict[str, Callable[[pytest.MonkeyPatch, Path], object]] = {
    "a requirements file": lambda _, root: (root / "app/requirements.txt").write_text("beta"),
    "patterns above the project": lambda _, root: (root / "pyproject.toml").write_text("[tool.uv]"),
    "settings of uv": lambda _, root: (root / "app/uv.toml").write_text("no-index = true"),
    "the interpreter": lambda patch, _: patch.setattr("sys.version", f"{sys.version} "),
    "the runtime's own boto3": lambda patch, _: patch.setattr("importlib.metadata.version", lambda name: "0"),
    "the toolchain": lambda patch, _: patch.setattr(yo, "TOOLCHAIN_FORMAT", "0"),
    "the builder's rules": lambda patch, root: patch.setattr(yo, "HERE", with_a_remark(root)),
}


def with_a_remark(root: Path) -> Path:
    for name in ("lambda_function.py", "requirements.txt"):
        (root / name).write_text((yo.HERE / name).read_text() + "\n# a remark\n")
    return root


@pytest.mark.parametrize("change", CHANGED_INPUTS)
def test_what_decides_what_is_installed_is_compared(
    space: yo.Workspace, shell: yo.Shell, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = space.checkout / "app"
    project.mkdir(parents=True)
    (project / "requirements.txt").write_text("alpha")
    required = yo.Required(texts={"included.txt": "gamma"})
    checkout = yo.Checkout(space.checkout, project, "0" * 40, "main", frozenset(), required)
    builder = yo.Builder("yo-dawg", "arn:aws:lambda:us-east-1:1:function:yo-dawg", "id", "python3.13", "x86_64")
    job = job_of(space, shell, builder)
    installer = yo.Installer(checkout, yo.Toolchain(space.toolchain), builder, shell)
    before = yo.install_inputs(installer, job)
    assert yo.install_inputs(installer, job) == before
    CHANGED_INPUTS[change](monkeypatch, space.checkout)
    assert yo.install_inputs(installer, job) != before


def test_indexes_and_included_files_are_compared_too(space: yo.Workspace, shell: yo.Shell) -> None:
    builder = yo.Builder("yo-dawg", "arn:aws:lambda:us-east-1:1:function:yo-dawg", "id", "python3.13", "x86_64")
    space.checkout.mkdir()

    def inputs(included: str, index: str, variable: str) -> str:
        required = yo.Required(texts={"included.txt": included})
        checkout = yo.Checkout(space.checkout, space.checkout, "0" * 40, "main", frozenset(), required)
        installer = yo.Installer(checkout, yo.Toolchain(space.toolchain, (index,)), builder, shell)
        return yo.install_inputs(installer, job_of(space, shell, builder, client={"UV_INDEX": variable}))

    assert len({inputs(*each) for each in ("aaa", "baa", "aba", "aab", "aaa")}) == 4


def job_of(space: yo.Workspace, shell: yo.Shell, builder: yo.Builder, **settings: Any) -> yo.Job:
    made = yo.Settings("b", ("*",), "https://g.example", "", "", space.root, tmp_is_ours=False, **settings)
    store = yo.Store(None, "b", "yo-dawg", "123456789012")
    return yo.Job(made, builder, space, yo.Log(()), shell, yo.Aws(None, None, None, None), store)


DAMAGES: dict[str, Callable[[Yard], object]] = {
    "the package is gone": lambda yard: yard.aws.s3.delete_object(Bucket="bucket", Key=yard.keys("packages/")[0]),
    "the package was changed": lambda yard: replace_object(yard, yard.keys("packages/")[0], b"no zip"),
    "the bundle is gone": lambda yard: yard.aws.s3.delete_object(Bucket="bucket", Key=yard.keys("bundles/")[0]),
    "the bundle is no JSON": lambda yard: replace_object(yard, yard.keys("bundles/")[0], b"[1, "),
    "the bundle is of another version": lambda yard: replace_object(yard, yard.keys("bundles/")[0], b'{"inputs": ""}'),
    "the bundle speaks of other files": lambda yard: change_digests(yard, "beta.py", "x"),
    "the bundle speaks of more files": lambda yard: change_digests(yard, "more.py", "x"),
}


def replace_object(yard: Yard, key: str, content: bytes) -> None:
    yard.aws.s3.put_object(Bucket="bucket", Key=key, Body=content)


def change_digests(yard: Yard, name: str, digest: str) -> None:
    (key,) = yard.keys("bundles/")
    value = json.loads(yard.read(key))
    value["installed"]["digests"][name] = digest
    replace_object(yard, key, json.dumps(value).encode())


def test_what_is_damaged_is_made_again(yard: Yard, wheels: Path) -> None:
    yard.add_project(project(wheels))
    good = yard.build()
    for number, damage in enumerate(DAMAGES):
        for key in [*yard.keys("packages/"), *yard.keys("bundles/")]:  # those of before
            if base64.b64decode(yard.code_sha256).hex() not in key:
                yard.aws.s3.delete_object(Bucket="bucket", Key=key)
        DAMAGES[damage](yard)
        yard.add_project({**project(wheels), "app.py": f"{APP}# {number}\n"})
        assert FORMER not in said(yard, yard.build()), damage
    yard.add_project(project(wheels))
    again = yard.build()
    assert FORMER in said(yard, again)
    assert again["code_sha256"] == good["code_sha256"]


MEDDLING = [
    {"make_dist.sh": 'cp app.py "$1"\necho "# mine" >> "$1/beta.py"\n'},
    {"make_dist.sh": 'cp app.py "$1"\nrm "$1/beta.py"\necho b = 2 > "$1/gamma.py"\n'},
    {"beta.py": "b = 'mine'\n"},
    {"alpha/tests/cases.py": "c = 'mine'\n"},
    {"app.py": f"import alpha.tests.cases\n{APP}"},
]


def test_what_a_project_did_to_its_dependencies_does_not_stay(yard: Yard, wheels: Path) -> None:
    plain = {**project(wheels), "app.py": HANDLER}
    yard.add_project(plain)
    untouched = yard.build()["code_sha256"]
    for files in MEDDLING:
        yard.add_project({**plain, **files})
        assert yard.build()["code_sha256"] != untouched
        yard.add_project(plain)
        assert yard.build()["code_sha256"] == untouched, files


@pytest.mark.parametrize("code", ["import alpha.tests.cases", "__import__('alpha.tests.' + 'cases')"])
def test_what_was_pruned_is_put_back_also_where_it_is_not_at_hand(yard: Yard, wheels: Path, code: str) -> None:
    files = project(wheels)
    yard.add_project(files)
    yard.build()
    for remark in ("# needs it", "# needs it still"):
        yard.add_project({**files, "app.py": f"{code}\n{APP}{remark}\n"})
        warm = yard.build()
        assert FORMER in said(yard, warm)
        assert list(warm["pruned"]["kept"]) == ["alpha/tests"]
    anew = cold(yard)
    assert (anew["code_sha256"], anew["pruned"]) == (warm["code_sha256"], warm["pruned"])


def test_patterns_match_what_was_pruned_before(yard: Yard, wheels: Path) -> None:
    rules = '[tool.yo-dawg]\nkeep = ["alpha/tests/cases.py"]\ndrop = ["beta.py", "*.txt"]\n'
    files = {**project(wheels), "app.py": HANDLER, "pyproject.toml": rules}
    yard.add_project(files)
    yard.build()
    yard.add_project({**files, "app.py": f"{HANDLER}# changed\n", "notes.txt": "mine"})
    warm = yard.build()
    assert FORMER in said(yard, warm)
    assert warm["warnings"] == []
    assert cold(yard)["code_sha256"] == warm["code_sha256"]


def test_requirements_in_folders_are_installed_each_time(yard: Yard) -> None:
    files = {"app.py": HANDLER, "requirements.txt": "./lib\n", **{f"lib/{name}": LIBRARY[name] for name in LIBRARY}}
    yard.add_project(files)
    yard.build()
    changed = files["lib/library/__init__.py"] + "x = 2\n"
    yard.add_project({**files, "lib/library/__init__.py": changed})
    yard.build()
    (key,) = (key for key in yard.keys("packages/") if base64.b64decode(yard.code_sha256).hex() in key)
    with zipfile.ZipFile(io.BytesIO(yard.read(key))) as archive:
        assert archive.read("library/__init__.py").decode() == changed


def test_a_bundle_that_cannot_be_stored_hinders_nothing(yard: Yard, wheels: Path) -> None:
    refusal = Response(403, b"<Error><Code>AccessDenied</Code></Error>", {"Content-Type": "application/xml"})
    yard.account.fault = lambda _, request: refusal if request.startswith("PUT") and "/bundles/" in request else None
    yard.add_project(project(wheels))
    result = yard.build()
    assert result["status"] == "deployed"
    assert "Warning: the next build cannot take over the dependencies" in said(yard, result)


def test_bundles_go_with_their_packages(yard: Yard, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yo, "KEPT_PACKAGES", 1)
    for number in range(4):
        yard.add_project({**project(wheels), "app.py": f"{HANDLER}# {number}\n"})
        yard.build()
    names = [{Path(key).stem for key in yard.keys(prefix)} for prefix in ("packages/", "bundles/")]
    assert names[0] >= names[1]
    assert len(names[1]) == 2, "what runs now, and what ran before"


# --- Nothing has changed ------------------------------------------------------------------------------------


@pytest.fixture
def built(yard: Yard, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> Yard:
    """A yard whose project was built more than a minute ago; the toolchain is gone since."""
    monkeypatch.setattr(yo, "RETRY_SECONDS", 0)
    yard.add_project(project(wheels))
    yard.build()
    for key in yard.keys("toolchain/"):
        yard.aws.s3.delete_object(Bucket="bucket", Key=key)
    yard.git.requests.clear()
    return yard


def test_that_nothing_has_changed_is_found_without_a_toolchain(built: Yard) -> None:
    record = next(json.loads(built.read(key)) for key in built.keys("builds/") if key.endswith(".json"))["result"]
    revision = built.aws.functions.get_function_configuration(FunctionName="api")["RevisionId"]
    result = built.build()
    assert list(result["seconds"]) == ["total", "look", "deploy"]
    assert len(built.git.requests) == 1
    apart = {"status": "unchanged", "seconds": result["seconds"], "log": result["log"]}
    assert result == {**record, **apart}
    assert built.aws.functions.get_function_configuration(FunctionName="api")["RevisionId"] == revision


def test_it_is_published_and_gets_its_alias_all_the_same(built: Yard) -> None:
    result = built.build(publish=True, alias="live")
    assert (result["status"], result["version"], result["alias"]) == ("deployed", "1", "live")
    assert built.aws.functions.get_alias(FunctionName="api", Name="live")["FunctionVersion"] == "1"


def set_variable(yard: Yard) -> None:
    yard.aws.functions.update_function_configuration(FunctionName="api", Environment={"Variables": {"STAGE": "b"}})


CHANGES: dict[str, Callable[[Yard], object]] = {
    "code": lambda yard: yard.add_project({"app.py": HANDLER}),
    "another package runs": lambda yard: yard.aws.functions.update_function_code(
        FunctionName="api", ZipFile=yo.rehearsal_zip()
    ),
    "the function's variables": set_variable,
    "the package is gone": lambda yard: yard.aws.s3.delete_object(Bucket="bucket", Key=yard.keys("packages/")[0]),
    "the Git host hangs up": lambda yard: (yard.git.root / "project.git/HEAD").unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_otherwise_it_is_built(built: Yard, change: str) -> None:
    CHANGES[change](built)
    with pytest.raises(NotBootstrapped):
        built.build()


def test_another_request_and_other_settings_make_another_build(built: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    for fields in ({"force": True}, {"dry_run": True}):
        with pytest.raises(NotBootstrapped):
            built.build(**fields)
    for name, value in (("YO_DAWG_BYTECODE", "all"), ("YO_DAWG_PROOF", "require")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            with pytest.raises(NotBootstrapped):
                built.build()
    assert built.build()["status"] == "unchanged"


def test_what_failed_is_built_again(yard: Yard, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its package was stored, but is not what runs."""
    monkeypatch.setattr(yo, "RETRY_SECONDS", 0)
    yard.add_project({**project(wheels), "app.py": "def handler(event, context):\n    1 / 0\n"})
    for _ in range(2):
        with pytest.raises(PackageError, match="ZeroDivisionError"):
            yard.build(test_event={})


def test_requirements_that_mean_what_they_did_are_not_installed(
    yard: Yard, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yo, "RETRY_SECONDS", 0)
    yard.add_project(project(wheels, "alpha"))
    first = yard.build()
    again = yard.build()
    assert (again["status"], again["code_sha256"]) == ("unchanged", first["code_sha256"])
    assert list(again["seconds"]) == ["total", "toolchain", "clone", "resolve", "deploy"]


# --- Which commit is it? ------------------------------------------------------------------------------------


@pytest.fixture
def asked(yard: Yard, tmp_path: Path) -> Any:
    """A repository with a few refs, and what asks about them."""
    commit = yard.add_project({"app.py": HANDLER})
    bare = yard.git.root / "project.git"
    git(bare, "branch", "twice", "main")
    git(bare, "tag", "twice", "main")
    git(bare, "-c", "user.name=x", "-c", "user.email=x@x", "tag", "-a", "-m", "x", "v1", "main")
    space = yo.Workspace(tmp_path / "asked")
    space.root.mkdir()
    shell = yo.Shell({"PATH": os.environ["PATH"]}, yo.Log(()))
    made = job_of(space, shell, yo.Builder.from_context(yard.context))

    def ask(ref: str | None, token: str = TOKEN, name: str = "project") -> Any:
        (space.root / "refs.json").unlink(missing_ok=True)
        source = Source(f"{yard.git.url}/{name}.git", token=token)
        found = yo.look_at_ref(source, yo.BuildRequest(function="api", repo_name=name, ref=ref), made)
        return found and ("it" if found[0] == commit else found[0], found[1])

    return ask


@pytest.mark.parametrize(
    ("ref", "found"),
    [
        pytest.param(None, ("it", "main"), id="HEAD"),
        pytest.param("main", ("it", "main"), id="a branch"),
        pytest.param("refs/heads/main", ("it", "main"), id="a ref's full name"),
        pytest.param("v1", ("it", "v1"), id="a tag with a message"),
        pytest.param("f" * 40, ("f" * 40, "f" * 40), id="a commit needs no question"),
        pytest.param("twice", None, id="a branch and a tag"),
        pytest.param("none", None, id="nothing of that name"),
    ],
)
def test_a_plain_question_tells_the_commit(asked: Any, ref: str | None, found: tuple[str, str] | None) -> None:
    assert asked(ref) == found


def test_what_goes_wrong_then_is_left_to_the_clone(asked: Any) -> None:
    assert asked("main", token="wrong") is None
    assert asked("main", name="none") is None


# --- The same bytes ------------------------------------------------------------------------------------------


def test_two_builders_in_different_places_at_different_times_make_the_same_package(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in CLIENT.items():
        monkeypatch.setenv(name, value)
    mid = projects()["mid"]
    yard.add_project(
        {**mid.files, "app.py": f"from lambda_function import *\n{HANDLER}", "requirements.txt": mid.requirements}
    )
    here = yard.build()
    elsewhere = tmp_path / "another place, with a longer name" / "tmp"
    elsewhere.mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(elsewhere))
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 366 * 86400)
    context = dataclasses.replace(yard.next_context(), function_name="other-builder")
    for key in yard.keys("toolchain/"):
        copy = key.replace("yo-dawg/", "other-builder/", 1)
        yard.aws.s3.copy_object(Bucket="bucket", Key=copy, CopySource={"Bucket": "bucket", "Key": key})
    there = lambda_handler({"action": "build", "function": "api", "repo_name": "project"}, context)
    assert "install" in there["seconds"]
    assert (there["status"], there["code_sha256"]) == ("unchanged", here["code_sha256"])


CLIENT = {name: os.environ[name] for name in yo.CLIENT_VARIABLES if name in os.environ}
