"""What has not changed is not made again: neither the dependencies of a package nor the package itself."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import importlib.metadata
import io
import json
import os
import shutil
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from benchmarks.packages import projects
from lambda_function import lambda_handler
from local.git_server import make_repository
from local.rest_json import Response
from tests.conftest import forget_what_cannot_change
from tests.embedded import NEWEST, Builder, lay_out
from tests.support.git_host import git
from tests.test_handler import HANDLER, LIBRARY, TOKEN, Yard
from tests.test_handler import setup as setup
from tests.test_handler import yard as yard
from tests.test_install import BACKEND as LIB_BACKEND
from tests.test_install import LIB, make_wheel
from yo_dawg.archives import SHELF, Former, Shelf, write_zip
from yo_dawg.builder import Builder as Builder_
from yo_dawg.checkout import Checkout, Required, Source
from yo_dawg.control.clients import Aws
from yo_dawg.control.clone import look_at_ref
from yo_dawg.control.functions import rehearsal_zip
from yo_dawg.control.job import Job
from yo_dawg.control.package import Made, empty_staging
from yo_dawg.control.store import Store
from yo_dawg.control.toolchain import Toolchain, builder_inputs
from yo_dawg.digests import in_record
from yo_dawg.errors import NotBootstrapped, PackageError
from yo_dawg.events import BuildRequest
from yo_dawg.log import Log
from yo_dawg.process import Shell
from yo_dawg.settings import CLIENT_VARIABLES, Settings
from yo_dawg.trees import entries_below, outlast, tree_files, walk
from yo_dawg.workshop.package.bytecode import bytecode_digest
from yo_dawg.workshop.package.install import Installed, Installer
from yo_dawg.workshop.package.prune import Pruned, Taken
from yo_dawg.workshop.package.reuse import (
    FROM_INDEX,
    Bundle,
    Inputs,
    install_inputs,
    is_from_indexes,
    keep_dependencies,
    take_kept,
)
from yo_dawg.workspace import HERE, KEPT_NAME, Workspace, clear, sweep

ALPHA = {
    "alpha/__init__.py": "a = 1\n",
    "alpha/idle.py": "i = 1\n",
    "alpha/tests/__init__.py": "",
    "alpha/tests/cases.py": "c = 3\n",
}
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
    "the toolchain": lambda patch, _: patch.setattr("yo_dawg.control.toolchain.TOOLCHAIN_FORMAT", "0"),
    "the builder's rules": lambda patch, root: patch.setattr("yo_dawg.builder.HERE", with_a_remark(root)),
}


def with_a_remark(root: Path) -> Path:
    (root / "lambda_function.py").write_text((HERE / "lambda_function.py").read_text() + "\n# a remark\n")
    return root


@pytest.mark.parametrize("change", CHANGED_INPUTS)
def test_what_decides_what_is_installed_is_compared(
    space: Workspace, shell: Shell, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = space.checkout / "app"
    project.mkdir(parents=True)
    (project / "requirements.txt").write_text("alpha")
    required = Required(texts={"included.txt": "gamma"})
    checkout = Checkout(space.checkout, project, "0" * 40, "main", frozenset(), required)
    builder = Builder_("yo-dawg", "arn:aws:lambda:us-east-1:1:function:yo-dawg", "id", "python3.13", "x86_64")
    job = job_of(space, shell, builder)
    installer = Installer(checkout, Toolchain(space.toolchain), builder, shell)
    before = install_inputs(installer, job)
    assert install_inputs(installer, job) == before
    CHANGED_INPUTS[change](monkeypatch, space.checkout)
    forget_what_cannot_change()
    assert install_inputs(installer, job) != before


def test_indexes_and_included_files_are_compared_too(space: Workspace, shell: Shell) -> None:
    builder = Builder_("yo-dawg", "arn:aws:lambda:us-east-1:1:function:yo-dawg", "id", "python3.13", "x86_64")
    space.checkout.mkdir()

    def inputs(included: str, index: str, variable: str) -> Inputs:
        required = Required(texts={"included.txt": included})
        checkout = Checkout(space.checkout, space.checkout, "0" * 40, "main", frozenset(), required)
        installer = Installer(checkout, Toolchain(space.toolchain, (index,)), builder, shell)
        return install_inputs(installer, job_of(space, shell, builder, client={"UV_INDEX": variable}))

    assert len({inputs(*each) for each in ("aaa", "baa", "aba", "aab", "aaa")}) == 4


def job_of(space: Workspace, shell: Shell, builder: Builder_, **settings: Any) -> Job:
    made = Settings("b", ("*",), "https://g.example", "", "", space.root, tmp_is_ours=False, **settings)
    store = Store(None, "b", "yo-dawg", "123456789012")
    return Job(made, builder, space, Log(()), shell, Aws(None, None, lambda _: None), store)


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


def test_what_is_damaged_is_made_again(yard: Yard, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    yard.add_project(project(wheels))
    good = yard.build()
    for number, damage in enumerate(DAMAGES):
        for key in [*yard.keys("packages/"), *yard.keys("bundles/")]:  # those of before
            if base64.b64decode(yard.code_sha256).hex() not in key:
                yard.aws.s3.delete_object(Bucket="bucket", Key=key)
        DAMAGES[damage](yard)
        monkeypatch.setattr("lambda_function.SHELF", Shelf())
        monkeypatch.setattr("yo_dawg.control.doctor.SHELF", Shelf())
        monkeypatch.setattr("yo_dawg.control.package.SHELF", Shelf())
        monkeypatch.setattr("yo_dawg.control.toolchain.SHELF", Shelf())
        monkeypatch.setattr("yo_dawg.disk.SHELF", Shelf())
        monkeypatch.setattr("yo_dawg.workshop.package.reuse.SHELF", Shelf())
        monkeypatch.setattr("yo_dawg.workspace.SHELF", Shelf())  # another environment, which has not seen it whole
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
    monkeypatch.setattr("yo_dawg.control.rollback.KEPT_PACKAGES", 1)
    monkeypatch.setattr("yo_dawg.control.tidying.KEPT_PACKAGES", 1)
    for number in range(4):
        yard.add_project({**project(wheels), "app.py": f"{HANDLER}# {number}\n"})
        yard.build()
    names = [{Path(key).stem for key in yard.keys(prefix)} for prefix in ("packages/", "bundles/")]
    assert names[0] >= names[1]
    assert len(names[1]) == 2, "what runs now, and what ran before"


# --- What a hostile project did, and what the repository itself brings --------------------------------------


def shipped(yard: Yard) -> zipfile.ZipFile:
    key = next(key for key in yard.keys("packages/") if base64.b64decode(yard.code_sha256).hex() in key)
    return zipfile.ZipFile(io.BytesIO(yard.read(key)))


FORGE = """
cp app.py "$1"
python3 - "$1" <<'END'
import importlib.util, marshal, os, sys
root = sys.argv[1]
text = open(f"{root}/beta.py", "rb").read()
code = marshal.dumps(compile("b = 'FORGED'", "/var/task/beta.py", "exec"), 2)
target = importlib.util.cache_from_source(f"{root}/beta.py")
os.makedirs(os.path.dirname(target), exist_ok=True)
open(target, "wb").write(importlib.util.MAGIC_NUMBER + b"\\1\\0\\0\\0" + importlib.util.source_hash(text) + code)
END
"""


@pytest.mark.parametrize("force", [False, True])
def test_forged_bytecode_does_not_stay(yard: Yard, wheels: Path, force: bool) -> None:
    plain = project(wheels)
    yard.add_project(plain)
    untouched = yard.build()["code_sha256"]
    yard.add_project({**plain, "make_dist.sh": FORGE})
    yard.build()
    yard.add_project({**plain, "app.py": APP + "# next\n"})
    yard.build()
    yard.add_project(plain)
    result = yard.build(force=force)
    with shipped(yard) as archive:
        found = [name for name in archive.namelist() if name.endswith(".pyc") and b"FORGED" in archive.read(name)]
    assert found == []
    assert result["code_sha256"] == untouched


def serve(yard: Yard, files: dict[str, str], *made: tuple[str, str]) -> None:
    folder = yard.tmp.parent / "project"
    for target in (folder, yard.git.root / "project.git"):
        shutil.rmtree(target, ignore_errors=True)
    lay_out(folder, files)
    (folder / "vendor").mkdir()
    for name, text in made:
        make_wheel(folder / "vendor", name, "1.0", {f"{name}.py": text})
    make_repository(folder, yard.git.root / "project.git")


@pytest.mark.parametrize("requirement", ["beta==1.0", "beta"])
def test_a_wheel_in_the_repository_that_was_made_anew_is_installed(yard: Yard, requirement: str) -> None:
    files = {
        "app.py": f"import beta\n{HANDLER}",
        "requirements.txt": f"--no-index\n--find-links vendor\n{requirement}\n",
    }
    serve(yard, files, ("beta", "b = 1\n"))
    yard.build()
    serve(yard, files, ("beta", "b = 2\n"))
    yard.build()
    with shipped(yard) as archive:
        assert archive.read("beta.py") == b"b = 2\n"


DYNAMIC = """
[project]
name = "proj"
version = "1.0"
dynamic = ["dependencies"]
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[tool.uv]
no-index = true
find-links = ["WHEELS"]
"""
BACKEND = """
import os, zipfile
# before
def build_wheel(directory, config_settings=None, metadata_directory=None):
    name = "proj-1.0-py3-none-any.whl"
    needs = "".join(f"Requires-Dist: {line}\\n" for line in open("deps.txt").read().split())
    with zipfile.ZipFile(os.path.join(directory, name), "w") as wheel:
        wheel.writestr("proj-1.0.dist-info/METADATA",
            f"Metadata-Version: 2.2\\nName: proj\\nVersion: 1.0\\nDynamic: Requires-Dist\\n{needs}")
        wheel.writestr("proj-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("proj-1.0.dist-info/RECORD", "")
    return name
"""


def test_dependencies_that_a_build_names_are_found(yard: Yard, wheels: Path) -> None:
    files = {"app.py": HANDLER, "pyproject.toml": DYNAMIC.replace("WHEELS", str(wheels)), "backend.py": BACKEND}
    yard.add_project({**files, "deps.txt": "\n"})
    assert yard.build()["dependencies"] == []
    yard.add_project({**files, "deps.txt": "beta\n"})
    assert yard.build()["dependencies"] == ["beta==1.0"]


EVIL = """
import base64, hashlib, pathlib, re, shutil, signal, time
def evil(rewrite=None):
    root, uv = pathlib.Path(os.environ["HOME"]).parent, os.getppid()
    os.setpriority(os.PRIO_PROCESS, uv, 19)
    staging = root / "staging"
    if rewrite:
        pathlib.Path("../pyproject.toml").write_text(rewrite)
    if os.fork():
        return
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for each in range(3):
        os.dup2(null, each)
    end = time.time() + 20
    record = staging / "beta-1.0.dist-info/RECORD"
    records = [record, *[staging / "lib-1.0.dist-info/RECORD"][: bool(rewrite)]]
    while time.time() < end and not all(each.exists() and "INSTALLER" in each.read_text() for each in records):
        pass
    os.kill(uv, signal.SIGSTOP)
    text = b"b = 'EVIL'\\n"
    (staging / "beta.py").unlink()
    (staging / "beta.py").write_bytes(text)
    digest = base64.urlsafe_b64encode(hashlib.sha256(text).digest()).rstrip(b"=").decode()
    new = re.sub("beta.py,sha256=[^,]*", f"beta.py,sha256={digest}", record.read_text())
    record.unlink()
    record.write_text(new)
    if rewrite:
        shutil.rmtree(staging / "lib-1.0.dist-info")
        (staging / "lib.py").unlink()
    os.kill(uv, signal.SIGCONT)
    os._exit(0)
"""


def test_what_a_build_backend_did_does_not_stay(yard: Yard, wheels: Path) -> None:
    files = {
        "app.py": f"import beta\n{HANDLER}",
        "deps.txt": "beta\n",
        "pyproject.toml": DYNAMIC.replace("WHEELS", str(wheels)),
    }
    yard.add_project({**files, "backend.py": BACKEND.replace("# before", EVIL) + "\nevil()\n"})
    yard.build()
    with shipped(yard) as archive:
        assert archive.read("beta.py") == b"b = 'EVIL'\n", "else this shows nothing"
    yard.add_project({**files, "backend.py": BACKEND})
    yard.build()
    with shipped(yard) as archive:
        assert archive.read("beta.py") == b"b = 1\n"


def test_a_build_cannot_say_what_it_was_made_of(yard: Yard, wheels: Path) -> None:
    head = '[project]\nname = "proj"\nversion = "1.0"\ndependencies = [%s]\n'
    tail = f'[tool.uv]\nno-index = true\nfind-links = ["{wheels}"]\n'
    clean = head % '"beta"' + tail
    dirty = head % '"beta", "lib"' + tail + '[tool.uv.sources]\nlib = { path = "lib" }\n'
    app = f"import beta\n{HANDLER}"
    backend = LIB_BACKEND.replace("# before", f"evil({clean!r})") + EVIL
    yard.add_project({**LIB, "lib/backend.py": backend, "app.py": app, "pyproject.toml": dirty})
    yard.build()
    with shipped(yard) as archive:
        assert archive.read("beta.py") == b"b = 'EVIL'\n", "else this shows nothing"
    yard.add_project({"app.py": app, "pyproject.toml": clean})
    yard.build()
    with shipped(yard) as archive:
        assert archive.read("beta.py") == b"b = 1\n"


FROM_INDEXES = [
    "alpha", "alpha==1.0", "Alpha_b.c [x, y] >=1,<2 ; python_version > '3'", "alpha==1!2.0+local",
    "alpha==1.0 --hash=sha256:aa --hash=sha256:bb", "-r more/requirements.txt", "-c limits.in", "--no-index",
    "--index-url https://index.example/simple", "-f /wheels", "--only-binary :all:", "--pre",
]  # fmt: skip
FROM_ELSEWHERE = [
    ".", "-e .", "./lib", "lib/", "../lib", "alpha @ ./lib", "alpha @ https://host.example/alpha-1.0.zip",
    "https://host.example/alpha-1.0-py3-none-any.whl", "alpha-1.0-py3-none-any.whl", "alpha-1.0.tar.gz",
    "git+https://host.example/alpha", "file:lib", "-f vendor", "--find-links=vendor", "-i ./index", "-r reqs.lock",
    "-c https://host.example/limits.txt", "--extra-index-url file:///wheels", "alpha @ file:///lib", "--unknown x",
]  # fmt: skip


def test_lines_that_have_something_of_the_repository_installed_are_told_apart() -> None:
    assert [line for line in FROM_INDEXES if not FROM_INDEX.fullmatch(line)] == []
    assert [line for line in FROM_ELSEWHERE if FROM_INDEX.fullmatch(line)] == []


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("pyproject.toml", "", True),
        ("pyproject.toml", "[project]\ndependencies = ['alpha==1']", True),
        ("pyproject.toml", "[project]\ndependencies = ['alpha @ file:///x']", False),
        ("pyproject.toml", "[project]\ndynamic = ['dependencies']", False),
        ("pyproject.toml", "[tool.uv]\nindex-url = 'https://i.example'\n[tool.black]\npath = 'x'", True),
        ("pyproject.toml", "[[tool.uv.index]]\nname = 'i'\nurl = 'https://i.example'", True),
        ("pyproject.toml", "[[tool.uv.index]]\nname = 'i'\nurl = './index'", False),
        ("pyproject.toml", "[tool.uv]\nfind-links = ['vendor']", False),
        ("pyproject.toml", "[tool.uv.sources]\nalpha = { path = 'lib' }", False),
        ("uv.toml", "no-index = true", True),
        ("uv.toml", "find-links = ['vendor']", False),
        ("uv.toml", "[pip]\nfind-links = ['vendor']", False),
        ("pylock.toml", "[[packages]]\nname = 'a'\nwheels = [{ url = 'https://i.example/a.whl' }]", True),
        ("pylock.toml", "[[packages]]\nname = 'a'\nwheels = [{ path = 'vendor/a.whl' }]", False),
        ("pylock.toml", "[[packages]]\nname = 'a'\nsdist = { path = 'vendor/a.tar.gz' }", False),
        ("pylock.toml", "[[packages]]\nname = 'a'\ndirectory = { path = 'a' }", False),
        ("uv.lock", "nothing that is looked at here", True),
    ],
)
def test_so_are_settings_and_locks(name: str, text: str, expected: bool) -> None:
    assert is_from_indexes(name, text, Path(name)) == expected


def test_a_runtime_without_metadata_can_build(space: Workspace, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", none)
    builder = Builder_("yo-dawg", "arn:aws:lambda:us-east-1:1:function:yo-dawg", "id", "python3.13", "x86_64")
    builder_inputs(job_of(space, shell, builder))


def test_another_index_in_the_secret_makes_another_build(
    yard: Yard, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yo_dawg.control.records.RETRY_SECONDS", 0)
    monkeypatch.setenv("YO_DAWG_INDEX_SECRET", "indexes")
    secrets = yard.account.client("secretsmanager")
    secrets.create_secret(Name="indexes", SecretString="https://u:passw@one.example/simple/")
    yard.add_project(project(wheels))
    yard.build()
    secrets.put_secret_value(SecretId="indexes", SecretString="https://u:passw@two.example/simple/")
    assert "install" in yard.build()["seconds"]


TRUE_BACKEND = """
import base64, hashlib, os, zipfile
def build_wheel(directory, config_settings=None, metadata_directory=None):
    files = {"lib.py": open("lib.py").read(),
        "lib-1.0.dist-info/METADATA": "Metadata-Version: 2.1\\nName: lib\\nVersion: 1.0\\n",
        "lib-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"}
    digest = lambda text: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
    record = "".join(f"{name},sha256={digest(text)},{len(text)}\\n" for name, text in files.items())
    name = "lib-1.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(directory, name), "w") as wheel:
        for each, text in {**files, "lib-1.0.dist-info/RECORD": record}.items():
            wheel.writestr(each, text)
    return name
"""


@pytest.mark.parametrize("pinned", [False, True])
def test_a_folder_that_a_constraint_pins_is_built_anew(yard: Yard, pinned: bool) -> None:
    files = {
        **LIB,
        "lib/backend.py": TRUE_BACKEND,
        "app.py": f"import lib\n{HANDLER}",
        "requirements.txt": "--no-index\n./lib\n" + ("-c constraints.txt\n" if pinned else ""),
        "constraints.txt": "lib==1.0\n",
    }
    yard.add_project(files)
    yard.build()
    yard.add_project({**files, "lib/lib.py": "name = 'changed'\n"})
    yard.build()
    with shipped(yard) as archive:
        assert archive.read("lib.py") == b"name = 'changed'\n"


# --- Nothing has changed ------------------------------------------------------------------------------------


@pytest.fixture
def built(yard: Yard, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> Yard:
    """A yard whose project was built more than a minute ago; the toolchain is gone since."""
    monkeypatch.setattr("yo_dawg.control.records.RETRY_SECONDS", 0)
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


def built_package(yard: Yard) -> str:
    """Return the key of the package that was built, beside which its bundle lies."""
    (bundle,) = yard.keys("bundles/")
    return bundle.replace("/bundles/", "/packages/").replace(".json", ".zip")


CHANGES: dict[str, Callable[[Yard], object]] = {
    "code": lambda yard: yard.add_project({"app.py": HANDLER}),
    "another package runs": lambda yard: yard.aws.functions.update_function_code(
        FunctionName="api", ZipFile=rehearsal_zip()
    ),
    "the function's variables": set_variable,
    "the package is gone": lambda yard: yard.aws.s3.delete_object(Bucket="bucket", Key=built_package(yard)),
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
    monkeypatch.setattr("yo_dawg.control.records.RETRY_SECONDS", 0)
    yard.add_project({**project(wheels), "app.py": "def handler(event, context):\n    1 / 0\n"})
    for _ in range(2):
        with pytest.raises(PackageError, match="ZeroDivisionError"):
            yard.build(test_event={})


def test_requirements_that_mean_what_they_did_are_not_installed(
    yard: Yard, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yo_dawg.control.records.RETRY_SECONDS", 0)
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
    space = Workspace(tmp_path / "asked")
    space.root.mkdir()
    shell = Shell({"PATH": os.environ["PATH"]}, Log(()))
    made = job_of(space, shell, Builder_.from_context(yard.context))

    def ask(ref: str | None, token: str = TOKEN, name: str = "project") -> Any:
        (space.root / "refs.json").unlink(missing_ok=True)
        source = Source(f"{yard.git.url}/{name}.git", token=token)
        found = look_at_ref(source, BuildRequest(function="api", repo_name=name, ref=ref), made)
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


CLIENT = {name: os.environ[name] for name in CLIENT_VARIABLES if name in os.environ}


# --- Dependencies that stay in /tmp for the next build -----------------------------------------------------------

PYC = f"alpha/__pycache__/__init__.{sys.implementation.cache_tag}.pyc"
DIGEST = "a digest, in base64"


def made_of(space: Workspace, **changes: Any) -> Made:
    """Lay out a package in staging, a project's file and an empty folder beside the dependencies; return it."""
    files = {"alpha/__init__.py": "a = 1\n", "alpha/data": "d", PYC: "bytecode", "app.py": "import alpha\n"}
    lay_out(space.staging, files)
    (space.staging / "empty/deeper").mkdir(parents=True)
    names = ("alpha/__init__.py", "alpha/data")
    digests = {name: in_record(hashlib.sha256(files[name].encode())) for name in names}
    compiled = {PYC: bytecode_digest(space.staging / "alpha/__init__.py", b"bytecode")}
    bundle = Bundle("inputs", True, Installed((), {}, digests=digests), Pruned({}, {}), compiled)
    made = SimpleNamespace(
        bundle=dataclasses.replace(bundle, **changes),
        files=walk(space.staging),
        archive=SimpleNamespace(sha256=DIGEST),
    )
    return cast(Made, made)


@pytest.fixture
def as_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no more rights than the modes of a file give, though the tester may be root."""
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: bool(os.stat(path).st_mode & 0o222) if mode == os.W_OK else access(path, mode)
    )


def former_of(space: Workspace) -> Former:
    return write_zip(space.home, space.root / "former.zip").zipped


@pytest.mark.usefixtures("as_user")
def test_dependencies_stay_and_nothing_else(space: Workspace) -> None:
    keep_dependencies(made_of(space), {}, space)
    assert not space.staging.exists()
    assert {name for name, _ in tree_files(space.kept)} == {"alpha/__init__.py", "alpha/data", PYC}
    assert {entry.name for entry in entries_below(space.kept) if entry.is_dir()} == {"alpha", "__pycache__"}
    assert not [path for _, path in tree_files(space.kept) if path.stat().st_mode & 0o222]
    sweep(space.root.parent, everything=True)
    assert [path.name for path in space.root.parent.iterdir()] == [KEPT_NAME]
    space.staging.mkdir(parents=True)
    space.home.mkdir()
    former = former_of(space)
    assert not take_kept("another digest", former, space)
    assert take_kept(DIGEST, former, space)
    assert {name for name, _ in tree_files(space.staging)} == {"alpha/__init__.py", "alpha/data", PYC}
    assert former.written.keys() == {"alpha/__init__.py", "alpha/data", PYC}, "none of them need be read again"
    assert not take_kept(DIGEST, former, space), "they are where they were taken to"


def rewrite(path: Path) -> None:
    """Do to a file what one can do, and cover one's tracks."""
    before, mode = path.stat(), path.stat().st_mode
    path.chmod(0o644)
    path.write_bytes(b"x" * before.st_size)
    path.chmod(mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def substitute(path: Path) -> None:
    before = path.stat()
    path.rename(path.with_name("aside"))
    path.write_bytes(path.with_name("aside").read_bytes())
    path.with_name("aside").unlink()
    path.chmod(before.st_mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def substitute_link(path: Path) -> None:
    path.rename(path.parent.parent.parent / "aside")
    path.symlink_to(path.parent.parent.parent / "aside")


TAMPERING: dict[str, Callable[[Path], object]] = {
    "written to": rewrite,
    "another in its place": substitute,
    "a link in its place": substitute_link,
    "gone": lambda path: path.unlink(),
    "a folder more": lambda path: path.with_name("namespace").mkdir(),
    "one more": lambda path: path.with_name("more").write_text(""),
    "a pipe": lambda path: os.mkfifo(path.with_name("pipe")),
    "may be written to": lambda path: path.chmod(0o644),
    "has another name too": lambda path: os.link(path, path.parent.parent.parent / "other"),
}


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize("how", TAMPERING)
@pytest.mark.parametrize("name", ["alpha/__init__.py", PYC])
def test_what_is_not_as_it_was_is_not_taken(space: Workspace, how: str, name: str) -> None:
    keep_dependencies(made_of(space), {}, space)
    outlast(walk(space.kept), space.root)  # a project's next build does not begin within the same tick of a clock
    TAMPERING[how](space.kept / name)
    space.staging.mkdir(exist_ok=True)
    assert not take_kept(DIGEST, former_of(space), space)
    assert SHELF.kept is None
    empty_staging(space)
    assert not [*space.staging.iterdir()]


FOLDER_GONE: dict[str, Callable[[Path], object]] = {
    "gone": lambda folder: shutil.rmtree(folder),
    "elsewhere": lambda folder: folder.rename(folder.with_name("moved")),
    "a link to it": lambda folder: folder.symlink_to(folder.rename(folder.with_name("moved"))),
    "a file": lambda folder: folder.rename(folder.with_name("moved")) and folder.write_text(""),
}


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize("how", FOLDER_GONE)
def test_a_folder_that_is_not_there_any_more_does_no_harm(space: Workspace, how: str) -> None:
    keep_dependencies(made_of(space), {}, space)
    FOLDER_GONE[how](space.kept)
    space.staging.mkdir()
    assert not take_kept(DIGEST, former_of(space), space)
    empty_staging(space)
    assert (space.staging.is_symlink(), [*space.staging.iterdir()], os.path.lexists(space.kept)) == (False, [], False)


def spoil(name: str) -> Callable[[Workspace], object]:
    return lambda space: (space.staging / name).write_text("spoilt")


NOT_KEPT: dict[str, tuple[dict[str, Any], Callable[[Workspace], object]]] = {
    "a dependency that is not what its RECORD says": ({}, spoil("alpha/data")),
    "bytecode that we did not make": ({}, spoil(PYC)),
    "bytecode of another source": ({"compiled": {PYC: "another digest"}}, lambda _: None),
    "not all is from an index": ({"inputs": ""}, lambda _: None),
    "something was put back": (
        {"pruned": Pruned({"alpha/data": Taken("tests", "alpha", 1)}, {})},
        lambda _: None,
    ),
    "a dependency is gone": ({"installed": Installed((), {}, digests={"gone": "x"})}, lambda _: None),
}


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize("why", NOT_KEPT)
def test_what_may_not_be_taken_over_is_not_kept(space: Workspace, why: str) -> None:
    changes, spoils = NOT_KEPT[why]
    made = made_of(space, **changes)
    spoils(space)
    clear(space, lambda: keep_dependencies(made, {}, space))
    assert (SHELF.kept, space.kept.exists(), space.staging.exists()) == (None, False, False)


def test_dependencies_do_not_stay_where_modes_protect_nothing(
    space: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: True)
    keep_dependencies(made_of(space), {}, space)
    assert (SHELF.kept, space.kept.exists()) == (None, False)


def test_too_many_dependencies_do_not_stay(space: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yo_dawg.archives.MAX_SHELF_BYTES", 10)
    monkeypatch.setattr("yo_dawg.workshop.package.reuse.MAX_SHELF_BYTES", 10)
    keep_dependencies(made_of(space), {}, space)
    assert (SHELF.kept, space.kept.exists()) == (None, False)


VANDAL = """
import os
import idna.core

path = idna.core.__file__
before = os.stat(path)
os.chmod(path, 0o644)
with open(path, "r+") as file:
    text = file.read()
    file.seek(0)
    file.write(text.replace("Error", "Terro"))
os.chmod(path, 0o444)
os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
for folder in (os.path.dirname(path), os.path.dirname(path) + "/__pycache__"):
    os.chmod(folder, 0o755)
    with open(folder + "/planted.pyc", "w") as file:
        file.write("planted")
"""
RUN = "\n\ndef lambda_handler(event, context):\n    return idna.core.encode(event).decode()\n"


@pytest.mark.embedded
@NEWEST
def test_what_stays_in_a_warm_environment_is_what_was_made(builder: Builder) -> None:
    """The same bytes as ever, also after a build that has done to its dependencies what can be done."""
    name = f"staying-{builder.name}"
    requirements = {"requirements.txt": "idna==3.10\n"}

    def build(code: str, **fields: Any) -> str:
        builder.add_project(name, {**requirements, "lambda_function.py": code + RUN})
        return str(builder.build(name, **fields)["code_sha256"])

    def kept() -> set[str]:
        files = [file for each in builder.aws.environments(builder.name) for file in each.inspect(tmp=True).files]
        assert all(f"{file}/".startswith("/tmp/yo-dawg-kept/") for file in files), files
        return {file.removeprefix("/tmp/yo-dawg-kept/") for file in files} - {"/tmp/yo-dawg-kept"}

    first = build("import idna.core")
    there = kept()
    assert {"idna/__init__.py", "idna/core.py"} < there
    assert not [file for file in there if not file.startswith("idna")], "nothing of the project's"
    second = build("import idna.core  # changed")
    assert kept() == there
    assert build("import idna.core") == first != second
    vandal = build(VANDAL)
    assert kept() == set(), "what it was made of is not what was installed"
    assert build("import idna.core") == first != vandal
    assert kept() == there
    assert build("import idna.core  # changed", force=True) == second, "from nothing"
    assert builder.invoke(name, "ü.example") == "xn--tda.example"
