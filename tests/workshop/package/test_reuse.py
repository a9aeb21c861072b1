"""Dependencies of the package before are taken over if the same would be installed, and only as they were installed."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local.git_server import make_repository
from local.rest_json import Response
from tests.support.distributions import BACKEND as LIB_BACKEND
from tests.support.distributions import LIB
from tests.support.embedded import lay_out
from tests.support.package_index import Index
from tests.support.wheels import UV, make_wheel
from tests.support.work import PLATFORM, package_job
from tests.support.yard import HANDLER, Yard
from yo_dawg.checkout import Checkout, Required
from yo_dawg.control.archives import ARCHIVES
from yo_dawg.process import Shell
from yo_dawg.workshop.package.install import Installer
from yo_dawg.workshop.package.reuse import Inputs, install_inputs, lock_of
from yo_dawg.workspace import Workspace

ALPHA = {
    "alpha/__init__.py": "a = 1\n",
    "alpha/idle.py": "i = 1\n",
    "alpha/tests/__init__.py": "",
    "alpha/tests/cases.py": "c = 3\n",
    "alpha/tests/test_a.py": "import alpha\n\n\ndef test_a():\n    assert alpha.a\n",
}
APP = f"import alpha, beta\n{HANDLER}"
TAKEN_OVER = "2 packages, as they were in the package before\n"


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """What the package index has."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    make_wheel(folder, "alpha", "1.0", ALPHA, ["beta>=1"])
    make_wheel(folder, "beta", "1.0", {"beta.py": "b = 1\n"})
    return folder


@pytest.fixture
def index(wheels: Path) -> Iterator[str]:
    """The package index's address."""
    with Index(wheels, private=False).serving() as url:
        yield f"{url}/team/simple/"


def project(
    index: str, requirements: str = "alpha==1.0\nbeta==1.0 ; python_version > '3'", **files: str
) -> dict[str, str]:
    names = {name.replace("__", "."): text for name, text in files.items()}
    return {"app.py": APP, "requirements.txt": f"--index-url {index}\n{requirements}\n", **names}


def cold(yard: Yard) -> dict[str, Any]:
    """Build as if nothing had been built before."""
    for key in [*yard.keys("packages/"), *yard.keys("bundles/")]:
        yard.aws.s3.delete_object(Bucket="bucket", Key=key)
    result = yard.build(force=True)
    assert "package before" not in yard.said(result)
    return result


# --- Dependencies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("pinned", [True, False])
def test_dependencies_are_not_installed_again_for_a_change_of_code(yard: Yard, index: str, pinned: bool) -> None:
    files = project(index, *[] if pinned else ["alpha"])
    yard.add_project(files)
    first = yard.build()
    assert TAKEN_OVER not in yard.said(first)
    yard.add_project({**files, "app.py": f"{APP}# changed\n"})
    warm = yard.build()
    assert TAKEN_OVER in yard.said(warm)
    anew = cold(yard)
    assert anew["code_sha256"] == warm["code_sha256"] != first["code_sha256"]
    same = ("package", "dependencies", "dependency_records", "pruned", "warnings")
    assert {name: anew[name] for name in same} == {name: warm[name] for name in same}


def test_where_each_version_is_spelled_out_the_index_is_not_asked(yard: Yard, wheels: Path) -> None:
    served = Index(wheels, private=False)
    with served.serving() as url:
        files = project(f"{url}/team/simple/")
        yard.add_project(files)
        yard.build()
        served.asked.clear()
        yard.add_project({**files, "app.py": f"{APP}# changed\n"})
        yard.build()
    assert served.asked == []


def test_a_new_release_is_found(yard: Yard, wheels: Path, index: str) -> None:
    yard.add_project(project(index, "alpha"))
    yard.build()
    make_wheel(wheels, "beta", "1.1", {"beta.py": "b = 2\n"})
    result = yard.build(ref="main")
    assert (result["status"], result["dependencies"]) == ("deployed", ["alpha==1.0", "beta==1.1"])


CHANGED_INPUTS: dict[str, Callable[[Path], object]] = {
    "a requirements file": lambda root: (root / "app/requirements.txt").write_text("beta"),
    "patterns above the project": lambda root: (root / "pyproject.toml").write_text("[tool.uv]"),
    "settings of uv": lambda root: (root / "app/uv.toml").write_text("no-index = true"),
}


@pytest.mark.parametrize("change", CHANGED_INPUTS)
def test_what_decides_what_is_installed_is_compared(space: Workspace, shell: Shell, change: str) -> None:
    project = lay_out(space.checkout / "app", {"requirements.txt": "alpha"})
    required = Required(texts={"included.txt": "gamma"})
    checkout = Checkout(space.checkout, project, "0" * 40, "main", frozenset(), required)
    installer, job = Installer(checkout, lambda: UV, PLATFORM, space, shell), package_job(space)
    before = install_inputs(installer, job)
    assert install_inputs(installer, job) == before
    CHANGED_INPUTS[change](space.checkout)
    assert install_inputs(installer, job) != before


def test_indexes_and_included_files_and_the_builder_are_compared_too(space: Workspace, shell: Shell) -> None:
    space.checkout.mkdir()

    def inputs(included: str, index: str, builder: str) -> Inputs:
        required = Required(texts={"included.txt": included})
        checkout = Checkout(space.checkout, space.checkout, "0" * 40, "main", frozenset(), required)
        installer = Installer(checkout, lambda: UV, PLATFORM, space, shell, (index,))
        return install_inputs(installer, package_job(space, builder=builder))

    assert len({inputs(*each) for each in ("aaa", "baa", "aba", "aab", "aaa")}) == 4


DAMAGES: dict[str, Callable[[Yard], object]] = {
    "the package is gone": lambda yard: yard.aws.s3.delete_object(Bucket="bucket", Key=yard.keys("packages/")[0]),
    "the package was changed": lambda yard: replace_object(yard, yard.keys("packages/")[0], b"no zip"),
    "the bundle is gone": lambda yard: yard.aws.s3.delete_object(Bucket="bucket", Key=known(yard)),
    "the bundle is no JSON": lambda yard: replace_object(yard, known(yard), b"[1, "),
    "the bundle is of another version": lambda yard: replace_object(yard, known(yard), b'{"inputs": ""}'),
    "the bundle speaks of other files": lambda yard: change_digests(yard, "beta.py", "x"),
    "the bundle speaks of more files": lambda yard: change_digests(yard, "more.py", "x"),
}


def known(yard: Yard) -> str:
    """The key of what the workshop knows of the dependencies."""
    return next(key for key in yard.keys("bundles/") if key.endswith(".dependencies"))


def replace_object(yard: Yard, key: str, content: bytes) -> None:
    yard.aws.s3.put_object(Bucket="bucket", Key=key, Body=content)


def change_digests(yard: Yard, name: str, digest: str) -> None:
    key = known(yard)
    value = json.loads(yard.read(key))
    value["installed"]["digests"][name] = digest
    replace_object(yard, key, json.dumps(value).encode())


def test_what_is_damaged_is_made_again(yard: Yard, index: str) -> None:
    yard.add_project(project(index))
    good = yard.build()
    for number, damage in enumerate(DAMAGES):
        for key in [*yard.keys("packages/"), *yard.keys("bundles/")]:  # those of before
            if base64.b64decode(yard.code_sha256).hex() not in key:
                yard.aws.s3.delete_object(Bucket="bucket", Key=key)
        DAMAGES[damage](yard)
        ARCHIVES.make_room(0)  # another environment, which has not seen it whole
        yard.add_project({**project(index), "app.py": f"{APP}# {number}\n"})
        assert TAKEN_OVER not in yard.said(yard.build()), damage
    yard.add_project(project(index))
    again = yard.build()
    assert TAKEN_OVER in yard.said(again)
    assert again["code_sha256"] == good["code_sha256"]


MEDDLING = [
    {"make_dist.sh": 'cp app.py "$1"\necho "# mine" >> "$1/beta.py"\n'},
    {"make_dist.sh": 'cp app.py "$1"\nrm "$1/beta.py"\necho b = 2 > "$1/gamma.py"\n'},
    {"beta.py": "b = 'mine'\n"},
    {"alpha/tests/cases.py": "c = 'mine'\n"},
    {"app.py": f"import alpha.tests.cases\n{APP}"},
]


def test_what_a_project_did_to_its_dependencies_does_not_stay(yard: Yard, index: str) -> None:
    plain = {**project(index), "app.py": HANDLER}
    yard.add_project(plain)
    untouched = yard.build()["code_sha256"]
    for files in MEDDLING:
        yard.add_project({**plain, **files})
        assert yard.build()["code_sha256"] != untouched
        yard.add_project(plain)
        assert yard.build()["code_sha256"] == untouched, files


@pytest.mark.parametrize("code", ["import alpha.tests.cases", "__import__('alpha.tests.' + 'cases')"])
def test_what_was_pruned_is_put_back_also_where_it_is_not_at_hand(yard: Yard, index: str, code: str) -> None:
    files = project(index)
    yard.add_project(files)
    yard.build()
    for remark in ("# needs it", "# needs it still"):
        yard.add_project({**files, "app.py": f"{code}\n{APP}{remark}\n"})
        warm = yard.build()
        assert TAKEN_OVER in yard.said(warm)
        assert list(warm["pruned"]["kept"]) == ["alpha/tests"]
    anew = cold(yard)
    assert (anew["code_sha256"], anew["pruned"]) == (warm["code_sha256"], warm["pruned"])


def test_patterns_match_what_was_pruned_before(yard: Yard, index: str) -> None:
    rules = '[tool.yo-dawg]\nkeep = ["alpha/tests/cases.py"]\ndrop = ["beta.py", "*.txt"]\n'
    files = {**project(index), "app.py": HANDLER, "pyproject.toml": rules}
    yard.add_project(files)
    yard.build()
    yard.add_project({**files, "app.py": f"{HANDLER}# changed\n", "notes.txt": "mine"})
    warm = yard.build()
    assert TAKEN_OVER in yard.said(warm)
    assert warm["warnings"] == []
    assert cold(yard)["code_sha256"] == warm["code_sha256"]


def test_requirements_in_folders_are_installed_each_time(yard: Yard) -> None:
    files = {"app.py": HANDLER, "requirements.txt": "./lib\n", **LIB, "lib/backend.py": TRUE_BACKEND}
    yard.add_project(files)
    yard.build()
    changed = files["lib/lib.py"] + "x = 2\n"
    yard.add_project({**files, "lib/lib.py": changed})
    yard.build()
    with yard.shipped() as archive:
        assert archive.read("lib.py").decode() == changed


def test_a_bundle_that_cannot_be_stored_hinders_nothing(yard: Yard, index: str) -> None:
    refusal = Response(403, b"<Error><Code>AccessDenied</Code></Error>", {"Content-Type": "application/xml"})
    yard.account.fault = lambda _, request: refusal if request.startswith("PUT") and "/bundles/" in request else None
    yard.add_project(project(index))
    result = yard.build()
    assert result["status"] == "deployed"
    assert "Warning: the next build cannot take over the dependencies" in yard.said(result)


def test_bundles_go_with_their_packages(yard: Yard, index: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yo_dawg.control.tidying.KEPT_PACKAGES", 1)
    for number in range(4):
        yard.add_project({**project(index), "app.py": f"{HANDLER}# {number}\n"})
        yard.build()
    names = [{Path(key).stem for key in yard.keys(prefix)} for prefix in ("packages/", "bundles/")]
    assert names[0] >= names[1]
    assert len(names[1]) == 2, "what runs now, and what ran before"


# --- What a hostile project did, and what the repository itself brings --------------------------------------


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
def test_forged_bytecode_does_not_stay(yard: Yard, index: str, force: bool) -> None:
    plain = project(index)
    yard.add_project(plain)
    untouched = yard.build()["code_sha256"]
    yard.add_project({**plain, "make_dist.sh": FORGE})
    yard.build()
    yard.add_project({**plain, "app.py": APP + "# next\n"})
    yard.build()
    yard.add_project(plain)
    result = yard.build(force=force)
    with yard.shipped() as archive:
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
    with yard.shipped() as archive:
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
index-url = "INDEX"
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


def test_dependencies_that_a_build_names_are_found(yard: Yard, index: str) -> None:
    files = {"app.py": HANDLER, "pyproject.toml": DYNAMIC.replace("INDEX", index), "backend.py": BACKEND}
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
    if os.fork():
        return
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for each in range(3):
        os.dup2(null, each)
    end = time.time() + 60
    record = staging / "beta-1.0.dist-info/RECORD"
    records = [record, *[staging / "lib-1.0.dist-info/RECORD"][: bool(rewrite)]]
    while time.time() < end and not all(each.exists() and "INSTALLER" in each.read_text() for each in records):
        pass
    os.kill(uv, signal.SIGSTOP)
    if rewrite:
        pathlib.Path("../pyproject.toml").write_text(rewrite)
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


def build_until_evil(yard: Yard) -> None:
    """Build until the evil one, which races with the installer, has won; else a test would show nothing."""
    for _ in range(10):
        yard.build(force=True)
        with yard.shipped() as archive:
            if archive.read("beta.py") == b"b = 'EVIL'\n":
                return
    pytest.fail("it never wins")


def test_what_a_build_backend_did_does_not_stay(yard: Yard, index: str) -> None:
    files = {
        "app.py": f"import beta\n{HANDLER}",
        "deps.txt": "beta\n",
        "pyproject.toml": DYNAMIC.replace("INDEX", index),
    }
    yard.add_project({**files, "backend.py": BACKEND.replace("# before", EVIL) + "\nevil()\n"})
    build_until_evil(yard)
    yard.add_project({**files, "backend.py": BACKEND})
    yard.build()
    with yard.shipped() as archive:
        assert archive.read("beta.py") == b"b = 1\n"


def test_a_build_cannot_say_what_it_was_made_of(yard: Yard, index: str) -> None:
    head = '[project]\nname = "proj"\nversion = "1.0"\ndependencies = [%s]\n'
    tail = f'[tool.uv]\nindex-url = "{index}"\n'
    clean = head % '"beta"' + tail
    dirty = head % '"beta", "lib"' + tail + '[tool.uv.sources]\nlib = { path = "lib" }\n'
    app = f"import beta\n{HANDLER}"
    backend = LIB_BACKEND.replace("# before", f"evil({clean!r})") + EVIL
    # Its metadata stand in a file, or it would be built, and its build would be over, before anything is installed.
    static = '[project]\nname = "lib"\nversion = "1.0"\n' + LIB["lib/pyproject.toml"]
    files = {**LIB, "lib/pyproject.toml": static, "lib/backend.py": backend}
    yard.add_project({**files, "app.py": app, "pyproject.toml": dirty})
    build_until_evil(yard)
    yard.add_project({"app.py": app, "pyproject.toml": clean})
    yard.build()
    with yard.shipped() as archive:
        assert archive.read("beta.py") == b"b = 1\n"


PURE = "name = 'a'\nversion = '1'\n"
WHEEL = "wheels = [{url = 'https://i.example/a.whl', hashes = {sha256 = '00'}}]\n"


@pytest.mark.parametrize(
    ("package", "expected"),
    [
        pytest.param(PURE + WHEEL, True, id="a wheel on an index"),
        pytest.param(f"{PURE}sdist = {{url = 'https://i.example/a.tar.gz', hashes = {{}}}}\n", True, id="its source"),
        pytest.param(f"{PURE}wheels = [{{path = 'vendor/a.whl', hashes = {{}}}}]\n", False, id="a wheel in a folder"),
        pytest.param(f"{PURE}wheels = [{{url = 'file:///a.whl', hashes = {{}}}}]\n", False, id="by its address"),
        pytest.param(f"{PURE}sdist = {{path = 'vendor/a.tar.gz', hashes = {{}}}}\n", False, id="source in a folder"),
        pytest.param(f"{PURE}{WHEEL}directory = {{path = 'a'}}\n", False, id="a folder"),
        pytest.param(f"{PURE}vcs = {{type = 'git', url = 'https://g.example'}}\n", False, id="a repository"),
        pytest.param(f"{PURE}archive = {{url = 'https://g.example/a.zip', hashes = {{}}}}\n", False, id="an address"),
        pytest.param(PURE, False, id="from nowhere"),
        pytest.param(f"name = 'a'\n{WHEEL}", False, id="without a version"),
        pytest.param("name = ", False, id="no TOML"),
        pytest.param("x = " + "[" * 10_000, False, id="nested too deep"),
    ],
)
def test_what_comes_from_an_index_is_told_apart(package: str, expected: bool) -> None:
    assert (lock_of(f"lock-version = '1.0'\n[[packages]]\n{package}") is not None) == expected
    assert lock_of(None) is None
    assert lock_of("lock-version = '1.0'\n") == []


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
    with yard.shipped() as archive:
        assert archive.read("lib.py") == b"name = 'changed'\n"


def test_a_wheel_on_the_index_that_was_made_anew_is_installed(
    yard: Yard, wheels: Path, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yo_dawg.control.records.RETRY_SECONDS", 0)
    yard.add_project(project(index, "beta", app__py=f"import beta\n{HANDLER}"))
    yard.build()
    make_wheel(wheels, "beta", "1.0", {"beta.py": "b = 2\n"})
    yard.build()
    with yard.shipped() as archive:
        assert archive.read("beta.py") == b"b = 2\n"
