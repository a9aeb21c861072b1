"""The import proof: the real handler, imported as Lambda would; what pruning took too much of comes back."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.embedded import lay_out, small_zip
from tests.support.work import open_file
from yo_dawg.errors import PackageError
from yo_dawg.jobs import ProvenFunction
from yo_dawg.limits import MAX_MODULE_NAME, MOST_IMPORTS
from yo_dawg.trees import walk
from yo_dawg.workshop.package.install import Installed
from yo_dawg.workshop.package.prove import Proof, prove, prove_all
from yo_dawg.workshop.package.prune import Pruned, prune
from yo_dawg.workshop.package.rules import Rules
from yo_dawg.workshop.package.verdict import check_proof
from yo_dawg.workshop.package.work import Work
from yo_dawg.workspace import Workspace

HANDLER = "def handler(event, context): ...\n"
INFO = "pkg-1.0.dist-info"
CASE = "import unittest\n"


def target(handler: str = "app.handler", **environment: str) -> ProvenFunction:
    return ProvenFunction("api", handler, environment, memory_mb=512, log_group="/its/own")


Prove = Callable[..., tuple[Proof, Pruned]]


@pytest.fixture
def attempt(make: Callable[..., Work], space: Workspace) -> Prove:
    """What installs and prunes some files, lays a project over them, and proves it."""

    def run(project: dict[str, str], installed: dict[str, str] | None = None, **options: str) -> tuple[Proof, Pruned]:
        space.checkout.mkdir()
        lay_out(space.staging, {"pkg/__init__.py": "", **(installed or {})})
        pruned = prune(walk(space.staging), Installed((), {}), Rules(drop=frozenset({options.pop("drop", "")})), space)
        lay_out(space.staging, project)
        work = make(proof=options.pop("proof", "warn"), runtime_dir=options.pop("runtime_dir", ""))
        return prove(pruned, target(options.pop("handler", "app.handler"), **options), work)

    return run


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_what_a_script_installed_for_its_user_is_not_in_the_package(
    attempt: Prove, space: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As "pip install" does without "--target", where it may not write to site-packages."""
    python = str(Path(sys.base_prefix) / "bin" / "python3")
    monkeypatch.setattr(sys, "executable", python)  # in a virtualenv, a user's packages do not count anyway
    program = [python, "-m", "site", "--user-site"]
    site = subprocess.run(program, env={"HOME": str(space.home)}, stdout=subprocess.PIPE, text=True, check=False).stdout
    lay_out(Path(site.strip()), {"foo.py": ""})
    proof, _ = attempt({"app.py": f"import foo\n{HANDLER}"})
    assert "No module named 'foo'" in str(proof.failure)


def test_what_the_import_loads_is_known(attempt: Prove) -> None:
    proof, pruned = attempt({"app.py": f"import pkg.used\n{HANDLER}"}, {"pkg/used.py": "", "pkg/idle.py": ""})
    assert proof.failure is None
    assert proof.loaded == {"app.py", "pkg/__init__.py", "pkg/used.py"}
    assert pruned.kept == {}


def test_what_the_imports_took_is_known(attempt: Prove) -> None:
    project = {
        "app.py": f"import time, pkg.used\ntime.sleep(0.02)\n{HANDLER}",
        **{f"many/m{number}.py": "" for number in range(MOST_IMPORTS)},
        "many/__init__.py": f"from . import {', '.join(f'm{number}' for number in range(MOST_IMPORTS))}",
    }
    project["app.py"] = f"import many\n{project['app.py']}"
    slow = "import time\ntime.sleep(0.1)\nimport sys\ndel __name__, sys.modules['pkg.used'].__spec__\n"
    proof, _ = attempt(project, {"pkg/used.py": slow})
    assert proof.failure is None
    assert len(proof.imports) == MOST_IMPORTS
    (first, whole), (second, part) = proof.imports[:2]
    assert (first, second) == ("app", "pkg.used")
    assert part >= 100_000
    assert whole >= part + 20_000, "what it imports is in it"
    assert [spent for _, spent in proof.imports] == sorted((spent for _, spent in proof.imports), reverse=True)


def test_the_clock_is_in_no_traceback(attempt: Prove) -> None:
    proof, _ = attempt({"app.py": "import pkg.used\n"}, {"pkg/used.py": "import pkg.more", "pkg/more.py": "1 / 0"})
    assert proof.failure == "ZeroDivisionError: division by zero"
    lines = [line for line in proof.tail.splitlines() if line.lstrip().startswith("File")]
    ours = lines.index(next(line for line in lines if "/app.py" in line))
    assert [line.rpartition("/")[2].partition('"')[0] for line in lines[ours:]] == ["app.py", "used.py", "more.py"]
    assert "timed" not in proof.tail
    assert {name for name, _ in proof.imports} == {"app", "pkg", "pkg.used", "pkg.more"}


@pytest.mark.parametrize("handler", ["app.handler", "in_a_folder/app.handler", "in_a_folder.app.handler"])
def test_handlers_are_found_where_lambda_finds_them(attempt: Prove, handler: str) -> None:
    proof, _ = attempt({"app.py": HANDLER, "in_a_folder/app.py": HANDLER}, handler=handler)
    assert proof.failure is None


HIDDEN = "name = 'te' + 'sts'\n"
"""Hides from the search in the sources that tests are imported."""


@pytest.mark.parametrize(
    ("code", "file", "group", "alone"),
    [
        pytest.param(
            f"import importlib\n{HIDDEN}importlib.import_module(f'pkg.{{name}}.helper')\n",
            "pkg/tests/helper.py",
            "pkg/tests",
            True,
            id="a module",
        ),
        pytest.param(
            f"{HIDDEN}try:\n    __import__(f'pkg.{{name}}')\nexcept ImportError:\n    pass\n",
            "pkg/tests/helper.py",
            "pkg/tests",
            True,
            id="a module, its absence tolerated",
        ),
        pytest.param(
            "import pathlib\npathlib.Path('docs/usage.txt').read_text()\n",
            "docs/usage.txt",
            "docs",
            True,
            id="a file",
        ),
        pytest.param(
            "import os\nassert os.listdir('docs')\n",
            "docs/a.txt",
            "docs",
            True,
            id="a folder",
        ),
        pytest.param(
            "import importlib.metadata\nassert importlib.metadata.files('pkg')\n",
            f"{INFO}/RECORD",
            f"{INFO}/RECORD",
            True,
            id="metadata",
        ),
        pytest.param(
            "import os, pkg\nif not os.path.exists(pkg.__path__[0] + '/a.pxd'):\n    1 / 0\n",
            "pkg/a.pxd",
            "pkg/a.pxd",
            False,
            id="what is only asked for",
        ),
    ],
)
def test_what_pruning_broke_is_put_back(
    attempt: Prove, space: Workspace, code: str, file: str, group: str, alone: bool
) -> None:
    installed = {
        file: "" if file.endswith(".py") else "pkg/__init__.py,,",
        f"{INFO}/METADATA": "Name: pkg\nVersion: 1.0\n",
        "pkg/more/tests/test_a.py": CASE,
        **({"pkg/tests/test_a.py": CASE} if group == "pkg/tests" else {}),
    }
    proof, pruned = attempt({"app.py": code + HANDLER}, installed)
    assert proof.failure is None
    assert file in names(space.staging)
    assert "app.handler" in pruned.kept[group]
    assert alone == (pruned.kept.keys() == {group})
    assert file not in pruned.taken


def test_what_is_put_back_may_want_more(attempt: Prove, space: Workspace) -> None:
    installed = {
        "pkg/tests/__init__.py": f"{HIDDEN}__import__(f'pkg.more.{{name}}.helper')\n",
        "pkg/tests/test_a.py": CASE,
        "pkg/more/__init__.py": "",
        "pkg/more/tests/helper.py": "",
        "pkg/more/tests/test_a.py": CASE,
        "pkg/other/tests/test_a.py": CASE,
    }
    proof, pruned = attempt({"app.py": f"{HIDDEN}__import__(f'pkg.{{name}}')\n{HANDLER}"}, installed)
    assert proof.failure is None
    assert pruned.kept.keys() == {"pkg/tests", "pkg/more/tests"}
    assert names(space.pruned) == pruned.taken.keys() == {"pkg/other/tests/test_a.py"}


def test_a_failure_that_is_not_ours_leaves_the_package_pruned(attempt: Prove, space: Workspace) -> None:
    proof, pruned = attempt({"app.py": "import os\nos.environ['TABLE']\n"}, {"pkg/tests/test_a.py": CASE})
    assert proof.failure == "KeyError: 'TABLE'"
    assert not proof.hopeless
    assert (pruned.kept, names(space.pruned)) == ({}, {"pkg/tests/test_a.py"})


@pytest.mark.parametrize(
    ("files", "failure"),
    [
        pytest.param({"app.py": "import pgk\n"}, "ModuleNotFoundError: No module named 'pgk'", id="no module"),
        pytest.param({"app.py": "from pkg import x\n"}, "ImportError: cannot import name 'x' from 'pkg'", id="no name"),
        pytest.param({"app.py": "import b\n", "b.py": "def"}, "SyntaxError", id="no Python"),
        pytest.param({"app.py": "from pkg import *\n"}, "app defines no 'handler'", id="no handler"),
    ],
)
@pytest.mark.parametrize("setting", ["warn", "require"])
def test_what_cannot_work_in_lambda_either_always_stops_the_build(
    attempt: Prove, space: Workspace, files: dict[str, str], failure: str, setting: str
) -> None:
    proof, _ = attempt(files, proof=setting)
    with pytest.raises(PackageError, match="app.handler of api cannot be imported") as refused:
        check_proof(proof, target(), setting, space.staging)
    assert failure in str(refused.value)
    if "defines no" not in failure:
        assert "Traceback (most recent call last)" in str(refused.value)
        assert 'app.py", line 1' in str(refused.value)


def test_with_layers_that_cannot_be_read_a_missing_module_is_only_a_warning(attempt: Prove) -> None:
    proof, _ = attempt({"app.py": "import from_a_layer\n"})
    (warning,) = check_proof(replace(proof, with_layers=False), target(), "warn", Path())
    assert "No module named 'from_a_layer'" in warning


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        pytest.param("1 / 0\n", "ZeroDivisionError: division by zero", id="an exception"),
        pytest.param("import sys\nsys.exit('no')\n", "SystemExit: no", id="exit"),
        pytest.param("import os\nos._exit(0)\n", "the import ended the process", id="exit without a word"),
        pytest.param("import os\nos.kill(os.getpid(), 11)\n", "the import was ended by SIGSEGV", id="a crash"),
        pytest.param("import os\nos.kill(os.getpid(), 14)\n", "the import was ended by SIGALRM", id="too long"),
    ],
)
def test_other_failures_warn_or_stop_as_the_operator_decides(attempt: Prove, code: str, failure: str) -> None:
    proof, _ = attempt({"app.py": code})
    assert proof.failure == failure
    (warning,) = check_proof(proof, target(), "warn", Path())
    assert failure in warning
    with pytest.raises(PackageError, match="proof = warn") as refused:
        check_proof(proof, target(), "require", Path())
    assert failure in str(refused.value)


def test_what_the_project_drops_stays_away_though_the_import_looks_for_it(attempt: Prove) -> None:
    optional = "try:\n    import pkg.heavy\nexcept ImportError:\n    pass\n"
    proof, pruned = attempt({"app.py": optional + HANDLER}, {"pkg/heavy.py": ""}, drop="pkg/heavy.py")
    assert (proof.failure, list(pruned.taken)) == (None, ["pkg/heavy.py"])


def test_who_drops_what_the_import_needs_is_told_so(attempt: Prove, space: Workspace) -> None:
    proof, pruned = attempt({"app.py": f"import pkg.heavy\n{HANDLER}"}, {"pkg/heavy.py": ""}, drop="pkg/heavy.py")
    assert list(pruned.taken) == ["pkg/heavy.py"]
    with pytest.raises(PackageError, match=r"pkg/heavy\.py, which drop in pyproject\.toml takes away"):
        check_proof(proof, target(), "warn", space.staging)


def test_off_means_off(attempt: Prove, space: Workspace) -> None:
    proof, _ = attempt({"app.py": f"open('/proc/self/cwd/ran', 'w')\nimport nothing\n{HANDLER}"}, proof="off")
    assert check_proof(proof, target(), "off", space.staging) == []
    assert "ran" not in names(space.staging)


RECORDED = """
AWS_DEFAULT_REGION AWS_EXECUTION_ENV AWS_LAMBDA_FUNCTION_MEMORY_SIZE AWS_LAMBDA_FUNCTION_NAME
AWS_LAMBDA_FUNCTION_VERSION AWS_LAMBDA_INITIALIZATION_TYPE AWS_LAMBDA_LOG_GROUP_NAME AWS_LAMBDA_LOG_STREAM_NAME
AWS_REGION AWS_XRAY_CONTEXT_MISSING AWS_XRAY_DAEMON_ADDRESS LAMBDA_RUNTIME_DIR LAMBDA_TASK_ROOT LANG LC_CTYPE
LD_LIBRARY_PATH PATH PWD PYTHONPATH SHLVL TZ _AWS_XRAY_DAEMON_ADDRESS _AWS_XRAY_DAEMON_PORT _HANDLER
"""
"""What Lambda sets, but for the credentials and the address of its API, as it was recorded."""


def test_the_import_has_the_variables_that_lambda_sets(attempt: Prove, capsys: pytest.CaptureFixture[str]) -> None:
    show = "import os\nfor each in sorted(os.environ.items()):\n    print('%s=%s' % each)\n"
    proof, _ = attempt({"app.py": show + HANDLER})
    assert proof.failure is None
    said = dict(line.strip().split("=", 1) for line in capsys.readouterr().out.splitlines() if "=" in line)
    assert said.keys() - {"TMPDIR", "AWS_EC2_METADATA_DISABLED"} == {*RECORDED.split()}
    assert (said["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"], said["AWS_LAMBDA_LOG_GROUP_NAME"]) == ("512", "/its/own")
    assert (said["LAMBDA_RUNTIME_DIR"], said["PYTHONPATH"]) == ("/var/runtime", "/var/runtime")


@pytest.mark.parametrize("own_path", ["", "/var/task/lib"])
def test_what_the_runtime_brings_can_be_imported_after_all_else(attempt: Prove, tmp_path: Path, own_path: str) -> None:
    runtime = tmp_path / "runtime"
    lay_out(runtime, {"snapshot_restore_py.py": "", "pkg/__init__.py": "1 / 0\n", "iniconfig.py": "1 / 0\n"})
    options = {"PYTHONPATH": own_path} if own_path else {}
    look = f"import sys\nhere = sys.path.index({str(runtime)!r})\nassert sys.path[here + 1].endswith('.zip')\n"
    code = f"import pkg, iniconfig, snapshot_restore_py\n{look}assert 'site-packages' in sys.path[here - 1]\n"
    proof, _ = attempt({"app.py": code + HANDLER}, runtime_dir=str(runtime), **options)
    assert proof.failure is None
    assert proof.loaded == {"app.py", "pkg/__init__.py"}


LOOK = """
import json, os, sys
for each in sorted(os.environ), sorted(sys.modules), [os.getcwd(), sys.path[0]]:
    print(json.dumps(each))
"""


def test_the_import_sees_what_lambda_would_show_it(
    attempt: Prove, space: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    proof, _ = attempt({"app.py": f"{LOOK}{HANDLER}"})
    assert proof.failure is None
    said = capsys.readouterr().out
    assert '"AWS_REGION"' in said
    assert "AWS_SECRET" not in said
    assert "AWS_ACCESS" not in said
    assert '"HOME"' not in said
    assert '"lambda_function"' not in said
    assert f'"{space.staging}", "{space.staging}"' in said


def test_the_functions_own_variables_are_there(attempt: Prove, capsys: pytest.CaptureFixture[str]) -> None:
    code = "import os, helper\nfor name in ('TABLE', 'WHERE'):\n    print(name, os.environ[name])\n"
    proof, _ = attempt(
        {"app.py": code + HANDLER, "lib/helper.py": ""},
        TABLE="users", WHERE="/var/task/lib", PYTHONPATH="/var/task/lib",
    )  # fmt: skip
    assert proof.failure is None
    said = capsys.readouterr().out
    assert "TABLE users\n" in said
    assert "/staging/lib\n" in said


FORGERIES = {
    "nonsense": "print('[', file=open(ANSWER, 'w'))",
    "another shape": "print('[]', file=open(ANSWER, 'w'))",
    "no list": "print(json.dumps({**GOOD, 'imports': [], 'loaded': 1}), file=open(ANSWER, 'w'))",
    "no list of imports": "print(json.dumps({**GOOD, 'imports': {'a': 1}}), file=open(ANSWER, 'w'))",
    "deep": "print('[' * 100_000, file=open(ANSWER, 'w'))",
    "a pipe": "os.mkfifo(ANSWER)",
    "a link": "os.symlink('/etc/passwd', ANSWER)",
    "a folder": "os.mkdir(ANSWER)",
}


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES.keys())
def test_a_forged_answer_is_no_answer(attempt: Prove, space: Workspace, forgery: str) -> None:
    proof, _ = attempt({"app.py": forged(space, forgery)}, {"pkg/tests/test_a.py": CASE})
    assert proof.failure == "the import ended the process"


def forged(space: Workspace, forgery: str) -> str:
    """Return a module that answers in the importer's place."""
    good: dict[str, object] = {"loaded": [], "sought": [], "failure": None, "hopeless": False}
    answer = str(space.root / "proof.json")
    return f"import json, os\nANSWER = {answer!r}\nGOOD = {good}\n{forgery}\nos._exit(0)\n"


def test_forged_times_are_names_and_numbers_all_the_same(attempt: Prove, space: Workspace) -> None:
    said = [["a\x1b[2J\n", 1], ["b" * (MAX_MODULE_NAME + 1), 1], 7, [], [1, 2], ["c", "d"], ["e", 2.5], [["f"], 1]]
    more = [["g", 5]] * MOST_IMPORTS
    forgery = f"print(json.dumps({{**GOOD, 'imports': {said + more}}}), file=open(ANSWER, 'w'))"
    proof, _ = attempt({"app.py": forged(space, forgery)})
    assert proof.failure is None
    assert proof.imports[:2] == (("a�", 1), ("g", 5))
    assert len(proof.imports) == MOST_IMPORTS - 7


def test_an_import_that_replaces_the_package_is_refused(attempt: Prove, space: Workspace) -> None:
    code = f"import os\nos.rename({str(space.staging)!r}, '/tmp/yo-dawg-gone')\n".replace(
        "/tmp/yo-dawg-gone", str(space.scratch / "gone")
    )
    with pytest.raises(PackageError, match="removed or replaced the builder's directory"):
        attempt({"app.py": code + HANDLER})


def test_threads_of_the_import_do_not_hold_the_build(attempt: Prove) -> None:
    code = "import threading\nthreading.Thread(target=threading.Event().wait).start()\n"
    proof, _ = attempt({"app.py": code + HANDLER})
    assert proof.failure is None


def test_the_package_is_read_only(attempt: Prove, space: Workspace) -> None:
    """By its modes, which root does not heed; tests/test_embedded.py has it with the user that Lambda has."""
    look = "import os\nassert not any(os.stat(name).st_mode & 0o222 for name in ('.', 'app.py'))\n"
    proof, _ = attempt({"app.py": f"{look}def handler(event, context): ...\n"})
    assert proof.failure is None
    (space.staging / "x").write_text("and is ours again afterwards")


# --- Layers ---------------------------------------------------------------------------------------------

RUNTIME = f"python{sys.version_info.major}.{sys.version_info.minor}"
USES_LAYER = f"from shared import answer\n{HANDLER}"
Layered = Callable[..., str]


@pytest.fixture
def layered(make: Callable[..., Work], space: Workspace) -> Layered:
    """What imports a handler with layers of this content; returns what that fails with, "" if it does not."""
    space.checkout.mkdir()

    def run(*zips: bytes, code: str = USES_LAYER, handler: str = "app.handler", **environment: str) -> str:
        arns = tuple(f"arn:layer:{number}" for number, _ in enumerate(zips))
        function = replace(target(handler, **environment), layers=arns)
        files = {function.layer_file(number): open_file(content) for number, content in enumerate(zips)}
        lay_out(space.staging, {"app.py": code})
        work = make(files, functions=(function,), platform=f"{RUNTIME}-x86_64")
        ((_, proof),), _ = prove_all(Pruned({}, {}), work)
        assert proof.with_layers
        return proof.failure or ""

    return run


@pytest.mark.parametrize("place", ["python", f"python/lib/{RUNTIME}/site-packages"])
def test_the_import_finds_what_is_in_a_layer(layered: Layered, place: str) -> None:
    assert layered(small_zip({f"{place}/shared.py": "answer = 1\n"})) == ""


def test_the_package_comes_first_and_then_the_last_layer(layered: Layered, space: Workspace) -> None:
    first = small_zip({"python/shared.py": "answer = 1\n", "python/mine.py": "answer = 1\n"})
    second = small_zip({"python/shared.py": "answer = 2\n", "python/mine.py": "answer = 2\n"})
    lay_out(space.staging, {"mine.py": "answer = 3\n"})
    code = f"import mine, shared\nassert (mine.answer, shared.answer) == (3, 2)\n{HANDLER}"
    assert layered(first, second, code=code) == ""


def test_a_package_may_be_spread_over_layers(layered: Layered) -> None:
    """In Lambda they are one tree: a package's folder is the union of theirs."""
    first = small_zip({"python/shared/__init__.py": "", "python/shared/one.py": "answer = 1\n"})
    second = small_zip({"python/shared/two.py": "answer = 2\n"})
    assert layered(first, second, code=f"import shared.one, shared.two\n{HANDLER}") == ""


def test_links_of_a_layer_are_links(layered: Layered) -> None:
    content = io.BytesIO(small_zip({"python/real.py": "answer = 1\n"}))
    with zipfile.ZipFile(content, "a") as archive:
        link = zipfile.ZipInfo("python/shared.py")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, "real.py")
    code = f"import os, shared\nassert os.path.islink(shared.__file__)\n{USES_LAYER}"
    assert layered(content.getvalue(), code=code) == ""


def test_a_function_with_a_pythonpath_of_its_own_finds_layers_by_that(layered: Layered) -> None:
    """So it is in Lambda: its bootstrap then adds no paths."""
    content = small_zip({"python/shared.py": "answer = 1\n", "elsewhere/other.py": "answer = 1\n"})
    path = "/var/task:/opt/elsewhere"
    assert layered(content, code=f"from other import answer\n{HANDLER}", PYTHONPATH=path) == ""
    assert "No module named 'shared'" in layered(content, PYTHONPATH=path)


def test_pth_files_are_read_in_the_package_and_in_layers(layered: Layered, space: Workspace) -> None:
    lay_out(space.staging, {"own.pth": "vendor\n", "vendor/mine.py": "answer = 1\n"})
    layer = small_zip({"python/their.pth": "deep\n", "python/deep/shared.py": "answer = 1\n"})
    assert layered(layer, code=f"import mine, shared\n{HANDLER}") == ""


def test_what_is_in_no_layer_either_stops_the_build(layered: Layered) -> None:
    assert "No module named 'shared'" in layered(small_zip({"python/else.py": "x = 1"}))


def test_a_layer_that_is_no_zip_is_a_warning(
    make: Callable[..., Work], space: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    space.checkout.mkdir()
    function = replace(target(), layers=("arn:layer",))
    lay_out(space.staging, {"app.py": USES_LAYER})
    work = make({function.layer_file(0): open_file(b"no zip")}, functions=(function,))
    ((_, proof),), _ = prove_all(Pruned({}, {}), work)
    assert not proof.with_layers
    assert "Warning: the layer arn:layer cannot be read: File is not a zip file." in capsys.readouterr().out
