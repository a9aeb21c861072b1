"""What has not changed is not made again: which changes make a build, and what is done where there is none."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import forget_what_cannot_change
from tests.support.embedded import small_zip
from tests.support.package_index import Index
from tests.support.wheels import make_wheel
from tests.support.yard import HANDLER, Yard
from yo_dawg.control.clients import Aws
from yo_dawg.control.functions import Target
from yo_dawg.control.job import Job
from yo_dawg.control.manifests import Manifest, build_inputs, builder_inputs, may_be_unchanged
from yo_dawg.control.packages import Package
from yo_dawg.errors import NotBootstrapped, PackageError
from yo_dawg.events import BuildRequest
from yo_dawg.workspace import HERE

COMMIT = "0123456789" * 4
DIGEST = "qLsAkHjgYcPeA0LdwbPBX3tfTZ+RUXL/3k2qBdKx4sA="
REQUEST = BuildRequest(function="api", repo_name="project")


def target(name: str = "api", **changes: Any) -> Target:
    made = Target(name, f"arn:{name}", "app.handler", 3, DIGEST, "revision", (), "Active", busy=False, failure=None)
    return dataclasses.replace(made, **changes)


# --- What of the builder is compared ------------------------------------------------------------------------


def new_version(monkeypatch: pytest.MonkeyPatch) -> None:
    version = importlib.metadata.version
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.1" if name == "boto3" else version(name))


def new_code(monkeypatch: pytest.MonkeyPatch) -> None:
    read = Path.read_bytes
    room = HERE / "yo_dawg/workshop/package/prune.py"
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + (b"# more" if path == room else b""))


def new_settings(name: str, **changes: Any) -> Callable[[pytest.MonkeyPatch, Job], Job]:
    return lambda _, job: dataclasses.replace(job, settings=dataclasses.replace(job.settings, **{name: changes[name]}))


BUILDERS: dict[str, Callable[[pytest.MonkeyPatch, Job], object]] = {
    "its code": lambda patch, _: new_code(patch),
    "its toolchain": lambda patch, _: patch.setattr("yo_dawg.control.toolchain.toolchain_pins", lambda: "uv==0.0.1"),
    "its architecture": lambda _, job: dataclasses.replace(
        job, builder=dataclasses.replace(job.builder, architecture="another")
    ),
    "the interpreter": lambda patch, _: patch.setattr(sys, "version", f"{sys.version} and later"),
    "what the runtime brings": lambda patch, _: new_version(patch),
    "the package clients' settings": new_settings("client", client={"UV_INDEX": "https://index.example/simple/"}),
    "the secret of the indexes": new_settings("index_secret", index_secret="indexes"),
}


@pytest.mark.parametrize("change", BUILDERS)
def test_what_of_the_builder_decides_what_it_makes_is_compared(
    job: Job, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = builder_inputs(job)
    forget_what_cannot_change()
    assert builder_inputs(job) == before, "else this shows nothing"
    made = BUILDERS[change](monkeypatch, job)
    forget_what_cannot_change()
    assert builder_inputs(made if isinstance(made, Job) else job) != before


def test_what_of_the_builder_decides_nothing_is_not_compared(job: Job) -> None:
    builder = dataclasses.replace(
        job.builder, name="other", arn=job.builder.arn.replace("yo-dawg", "other"), request_id="another", asked_by="x",
        log_stream="another", token="x", until=1.0,
    )  # fmt: skip
    settings = dataclasses.replace(job.settings, bucket="other", deployable=("x",), tmp=Path("/elsewhere"))
    assert builder_inputs(dataclasses.replace(job, builder=builder, settings=settings)) == builder_inputs(job)


def test_a_runtime_without_metadata_can_build(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    before = builder_inputs(job)
    monkeypatch.setattr("importlib.metadata.version", none)
    forget_what_cannot_change()
    assert builder_inputs(job) != before


# --- What of a build is compared ----------------------------------------------------------------------------


@pytest.fixture
def inputs(job: Job) -> Callable[..., str]:
    """What returns a build's inputs: with other settings, of another request, of another function."""

    def run(commit: str = COMMIT, indexes: tuple[str, ...] = (), **changes: Any) -> str:
        parts: dict[str, dict[str, Any]] = {}
        for name, value in changes.items():
            whose, _, what = name.partition("__")
            parts.setdefault(whose, {})[what] = value
        made = dataclasses.replace(job, settings=dataclasses.replace(job.settings, **parts.get("settings", {})))
        vars(made)["indexes"] = indexes
        request = dataclasses.replace(REQUEST, **parts.get("request", {}))
        return build_inputs(commit, request, [target(**parts.get("target", {}))], made)

    return run


COMPARED: list[dict[str, Any]] = [
    {"commit": "f" * 40},
    {"request__repo_name": "other"},
    {"request__subdirectory": "folder"},
    {"settings__base_url": "https://other.example"},
    {"settings__proof": "require"},
    {"settings__bytecode": "all"},
    {"indexes": ("https://u:canary@two.example/simple/",)},
    {"target__handler": "main.run"},
    {"target__environment": {"STAGE": "b"}},
    {"target__layers": ("arn:aws:lambda:us-east-1:1:layer:shared:1",)},
]

NOT_COMPARED: list[dict[str, Any]] = [
    {"request__ref": "v1"},
    {"request__publish": True},
    {"request__alias": "live"},
    {"request__test_event": {}},
    {"target__timeout": 9},
    {"target__revision": "another"},
    {"settings__token_secret": "another"},
]


@pytest.mark.parametrize("change", COMPARED, ids=lambda change: next(iter(change)))
def test_what_decides_what_is_in_a_package_is_compared(inputs: Callable[..., str], change: dict[str, Any]) -> None:
    assert inputs(**change) != inputs()


@pytest.mark.parametrize("change", NOT_COMPARED, ids=lambda change: next(iter(change)))
def test_what_does_not_is_not(inputs: Callable[..., str], change: dict[str, Any]) -> None:
    assert inputs(**change) == inputs()


def test_each_of_several_functions_is_compared(job: Job) -> None:
    names = ("api", "other")
    same = build_inputs(COMMIT, REQUEST, [target(name) for name in names], job)
    assert same != build_inputs(COMMIT, REQUEST, [target()], job)
    another = [target(), target("other", handler="main.run")]
    assert same != build_inputs(COMMIT, REQUEST, another, job)


def test_nothing_has_changed_only_where_all_functions_run_the_stored_package(job: Job, aws: Aws) -> None:
    targets = [target(), target("other")]
    keys = [Package.of(each.name, each.code_sha256).key for each in targets]
    known = Manifest(build_inputs(COMMIT, REQUEST, targets, job), {"code_sha256": DIGEST}, True)

    def ask(request: BuildRequest = REQUEST, which: list[Target] = targets) -> bool:
        return may_be_unchanged(known, COMMIT, request, which, job)

    assert not ask(), "they are not stored"
    held: set[str] = set(keys)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("yo_dawg.control.store.Store.holds", lambda _, key, digest: key in held and digest in key)
        assert ask()
        assert not ask(dataclasses.replace(REQUEST, force=True))
        assert not ask(dataclasses.replace(REQUEST, dry_run=True))
        assert not ask(which=[target(), target("other", code_sha256="another")])
        assert not may_be_unchanged(known, "f" * 40, REQUEST, targets, job)
        held.remove(keys[1])
        assert not ask(), "one of them is gone"
    for key in keys:
        aws.s3.put_object(Bucket="bucket", Key=f"yo-dawg/{key}", Body=b"another")
    assert not ask(), "they are others than their names say"


# --- Nothing has changed ------------------------------------------------------------------------------------


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    """A package index, which has alpha, and beta, which that requires."""
    (tmp_path / "wheels").mkdir()
    make_wheel(tmp_path / "wheels", "alpha", "1.0", {"alpha.py": "a = 1\n"}, ["beta>=1"])
    make_wheel(tmp_path / "wheels", "beta", "1.0", {"beta.py": "b = 1\n"})
    served = Index(tmp_path / "wheels", private=False)
    with served.serving():
        yield served


def project(index: Index, requirements: str) -> dict[str, str]:
    lines = f"--index-url {index.url}/team/simple/\n{requirements}\n"
    return {"app.py": f"import alpha, beta\n{HANDLER}", "requirements.txt": lines}


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each build is asked for more than a minute after the one before: it is no client's retry."""
    monkeypatch.setattr("yo_dawg.control.records.RETRY_SECONDS", 0)


def lose_toolchain(yard: Yard) -> None:
    """Delete the toolchain: whoever would clone is told of that."""
    for key in yard.keys("toolchain/"):
        yard.aws.s3.delete_object(Bucket="bucket", Key=key)


def revision(yard: Yard) -> str:
    return str(yard.aws.functions.get_function_configuration(FunctionName="api")["RevisionId"])


@pytest.mark.usefixtures("later")
def test_a_commit_that_has_not_moved_is_asked_for_and_deployed_nowhere(yard: Yard, index: Index) -> None:
    yard.add_project(project(index, "alpha==1.0\nbeta==1.0 ; python_version > '3'"))
    first = yard.build()
    before = revision(yard)
    lose_toolchain(yard)
    yard.git.requests.clear()
    index.asked.clear()
    result = yard.build()
    assert list(result["seconds"]) == ["total", "look", "deploy"]
    assert (len(yard.git.requests), index.asked, revision(yard)) == (1, [], before)
    assert result == {**first, "status": "unchanged", "seconds": result["seconds"], "log": result["log"]}
    records = [json.loads(yard.read(key))["result"] for key in yard.keys("builds/api/") if key.endswith(".json")]
    assert sorted(each["status"] for each in records) == ["deployed", "unchanged"]


@pytest.mark.usefixtures("later")
def test_requirements_that_mean_what_they_did_are_not_installed(yard: Yard, index: Index) -> None:
    """The index has a say in them, so it is asked."""
    yard.add_project(project(index, "alpha"))
    first = yard.build()
    before = revision(yard)
    again = yard.build()
    assert (again["status"], again["code_sha256"], revision(yard)) == ("unchanged", first["code_sha256"], before)
    assert list(again["seconds"]) == ["total", "toolchain", "clone", "install", "deploy"]
    assert again["dependencies"] == ["alpha==1.0", "beta==1.0"]


@pytest.fixture
def built(yard: Yard, later: None, monkeypatch: pytest.MonkeyPatch) -> Yard:
    """A yard whose project was built; the toolchain is gone since."""
    yard.account.client("secretsmanager").create_secret(Name="indexes", SecretString=SECRETS[0])
    monkeypatch.setenv("YO_DAWG_INDEX_SECRET", "indexes")
    give_time(yard)
    yard.add_project({"app.py": HANDLER})
    yard.build()
    lose_toolchain(yard)
    return yard


def give_time(yard: Yard) -> None:
    """On a machine with other things to do, a handler takes its time."""
    yard.aws.functions.update_function_configuration(FunctionName="api", Timeout=900)


SECRETS = [f"https://u:canary@{name}.example/simple/" for name in ("one", "two")]


def is_built(yard: Yard, **fields: Any) -> bool:
    """Say whether a build begins, which does not come far."""
    try:
        result = yard.build(**fields)
    except NotBootstrapped:
        return True
    assert list(result["seconds"]) == ["total", "look", "deploy"]
    return False


def test_it_is_published_tested_and_gets_its_alias_all_the_same(built: Yard) -> None:
    assert built.build()["status"] == "unchanged"
    result = built.build(publish=True, alias="live", test_event={})
    assert (result["status"], result["version"], result["alias"]) == ("deployed", "1", "live")
    assert built.aws.functions.get_alias(FunctionName="api", Name="live")["FunctionVersion"] == "1"


def set_variables(yard: Yard, **variables: str) -> None:
    yard.aws.functions.update_function_configuration(FunctionName="api", Environment={"Variables": variables})


def set_secret(yard: Yard, value: str) -> None:
    yard.account.client("secretsmanager").put_secret_value(SecretId="indexes", SecretString=value)


def run_package(yard: Yard, **code: Any) -> None:
    yard.aws.functions.update_function_code(FunctionName="api", **code)


def test_otherwise_it_is_built(built: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    head, package = built.git.root / "project.git/HEAD", f"yo-dawg/{Package.of('api', built.code_sha256).key}"
    content, ref = built.read(package), head.read_text()
    changes: dict[str, list[Callable[[], object]]] = {
        "the ref has moved": [
            lambda: built.add_project({"app.py": f"{HANDLER}# moved\n"}),
            lambda: built.add_project({"app.py": HANDLER}),
        ],
        "another handler": [
            lambda: built.aws.functions.update_function_configuration(FunctionName="api", Handler="app.other"),
            lambda: built.aws.functions.update_function_configuration(FunctionName="api", Handler="app.handler"),
        ],
        "the function's variables": [lambda: set_variables(built, STAGE="b"), lambda: set_variables(built)],
        "another index in the secret": [lambda: set_secret(built, SECRETS[1]), lambda: set_secret(built, SECRETS[0])],
        "another package runs": [
            lambda: run_package(built, ZipFile=small_zip()),
            lambda: run_package(built, S3Bucket="bucket", S3Key=package),
        ],
        "the Git host hangs up": [head.unlink, lambda: head.write_text(ref)],
        "the package is gone": [
            lambda: built.aws.s3.delete_object(Bucket="bucket", Key=package),
            lambda: built.store.upload(package.partition("/")[2], io.BytesIO(content), "application/zip"),
        ],
    }
    for name, (change, undo) in changes.items():
        change()
        assert is_built(built), name
        undo()
        assert not is_built(built), f"{name}, undone"
    for variable, value in (("YO_DAWG_BYTECODE", "all"), ("YO_DAWG_PROOF", "require"), ("UV_INDEX", "https://i/")):
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            assert is_built(built), variable
    assert is_built(built, force=True)
    assert is_built(built, dry_run=True)
    assert not is_built(built)


@pytest.mark.usefixtures("later")
def test_of_several_functions_each_must_run_it(yard: Yard) -> None:
    yard.add_function("other-a")
    yard.add_project({"app.py": HANDLER})
    several = ["api", "other-a"]
    yard.build(function=several)
    lose_toolchain(yard)
    assert not is_built(yard, function=several)
    run_package(yard, ZipFile=small_zip())
    assert is_built(yard, function=several)
    assert is_built(yard, function=several[::-1])
    assert is_built(yard, function="other-a"), "what the other imports had a say in what it runs"


@pytest.mark.usefixtures("later")
def test_what_failed_its_test_event_is_built_again(yard: Yard) -> None:
    """Its package was stored, but is not what runs."""
    yard.add_project({"app.py": "def handler(event, context):\n    1 / 0\n"})
    give_time(yard)
    before = yard.code_sha256
    for _ in range(2):
        with pytest.raises(PackageError, match="ZeroDivisionError"):
            yard.build(test_event={})
        assert yard.code_sha256 == before
    assert len(yard.keys("packages/api/")) == 2, "the one before, and the one that failed"
