"""Before anything is uploaded: the handler is there, and Lambda would take the size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.support.embedded import lay_out
from yo_dawg.errors import PackageError
from yo_dawg.jobs import ProvenFunction
from yo_dawg.limits import MAX_UNZIPPED_BYTES
from yo_dawg.trees import walk
from yo_dawg.workshop.package.prune import Pruned, PrunedFile
from yo_dawg.workshop.package.sizes import check_size, package_sizes
from yo_dawg.workshop.package.verdict import check_unproved, look_for_handler


def target(
    handler: str, environment: Mapping[str, str] = MappingProxyType({}), *, has_layers: bool = False
) -> ProvenFunction:
    return ProvenFunction("f", handler, environment, layers=("layer",) if has_layers else ())


@pytest.mark.parametrize(
    ("handler", "name", "text"),
    [
        pytest.param("app.handler", "app.py", "def handler(e, c): ...", id="a function"),
        pytest.param("app.handler", "app.py", "async def handler(e, c): ...", id="a coroutine"),
        pytest.param("app.handler", "app.py", "handler = Mangum(app)", id="an assignment"),
        pytest.param("app.handler", "app.py", "handler: object = 1", id="an annotated assignment"),
        pytest.param("app.handler", "app.py", "from web import app as handler", id="an import"),
        pytest.param(
            "app.handler", "app.py", "try:\n    from a import handler\nexcept ImportError:\n    x = 1", id="in try"
        ),
        pytest.param("app.handler", "app.py", "if 1:\n    def handler(e, c): ...", id="in if"),
        pytest.param("app.handler", "app.py", "from web import *", id="perhaps by a star"),
        pytest.param("pkg.app.handler", "pkg/app.py", "def handler(e, c): ...", id="in a package"),
        pytest.param("pkg/app.handler", "pkg/app.py", "def handler(e, c): ...", id="with a slash"),
        pytest.param("pkg.handler", "pkg/__init__.py", "def handler(e, c): ...", id="of a package"),
        pytest.param("app.handler", "app.cpython-313-x86_64-linux-gnu.so", "", id="in native code"),
    ],
)
def test_a_handler_is_found(tmp_path: Path, handler: str, name: str, text: str) -> None:
    assert look_for_handler(target(handler), lay_out(tmp_path, {name: text})) == ""


@pytest.mark.parametrize(
    ("files", "words"),
    [
        pytest.param({"main.py": ""}, ["'app.handler'", "no app.py", "main.py"], id="no module"),
        pytest.param({}, ["at its root: none"], id="no Python at all"),
    ],
)
def test_a_handler_that_is_not_there_is_named(tmp_path: Path, files: dict[str, str], words: list[str]) -> None:
    with pytest.raises(PackageError) as refused:
        check_unproved(target("app.handler"), lay_out(tmp_path, files))
    assert [word for word in words if word not in str(refused.value)] == [], refused.value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("def handlr(e, c): ...", ['did you mean "handlr"'], id="misspelt"),
        pytest.param("def f():\n    handler = 1", ["defines no 'handler'"], id="only inside of a function"),
        pytest.param("def handler(:\n", ["not valid Python", "line 1"], id="no Python"),
    ],
)
def test_a_module_that_seems_to_lack_its_handler_is_told(tmp_path: Path, text: str, words: list[str]) -> None:
    """A module can get its handler in ways that a look does not see."""
    (warning,) = check_unproved(target("app.handler"), lay_out(tmp_path, {"app.py": text}))
    assert [word for word in words if word not in warning] == [], warning


def test_a_handler_may_come_from_a_layer(tmp_path: Path) -> None:
    (warning,) = check_unproved(target("datadog_lambda.handler.handler", has_layers=True), tmp_path)
    assert warning.endswith("since proof is off")


@pytest.mark.parametrize("variable", ["PYTHONPATH", "AWS_LAMBDA_EXEC_WRAPPER"])
def test_a_handler_may_be_found_by_the_functions_own_variables(tmp_path: Path, variable: str) -> None:
    (warning,) = check_unproved(target("app.handler", {variable: "/var/task/src"}), tmp_path)
    assert "no app.py" in warning


def test_a_package_that_is_too_large_names_who_is_to_blame(tmp_path: Path) -> None:
    owners = {}
    for number in range(12):
        with (tmp_path / f"{number}.bin").open("wb") as file:
            file.truncate((number + 1) * 5_000_000)
        owners[f"{number}.bin"] = f"dist-{number}"
    sizes = package_sizes(walk(tmp_path), owners)
    assert [name for name, _ in sizes.most_common(10)] == [f"dist-{number}" for number in range(11, 1, -1)]
    with pytest.raises(PackageError) as refused:
        check_size(
            sizes, 0, Pruned({"a/tests/b.py": PrunedFile("tests", "a/tests", 2_000_000)}, {"c/tests": "imported"})
        )
    assert "less than 262,144,000" in str(refused.value)
    assert str(refused.value).count("dist-") == 10
    assert str(refused.value).endswith("\nPruned already: tests 2.0 MB\nKept: c/tests, imported")
    (tmp_path / "11.bin").unlink()
    (tmp_path / "10.bin").unlink()
    (tmp_path / "9.bin").unlink()
    check_size(package_sizes(walk(tmp_path), {}), 0, Pruned({}, {}))


def test_a_package_that_is_too_large_names_the_projects_largest_files(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    for number in range(12):
        with (folder / f"{number}.bin").open("wb") as file:
            file.truncate((number + 1) * 5_000_000)
    with (tmp_path / "owned\x1b.so").open("wb") as file:
        file.truncate(90_000_000)
    owners, listing = {"owned\x1b.so": "dist"}, walk(tmp_path)
    sizes = package_sizes(listing, owners)
    with pytest.raises(PackageError) as refused:
        check_size(sizes, 0, Pruned({}, {}), listing, owners)
    parts, _, files = str(refused.value).partition("The project's largest files:\n")
    assert [line.split() for line in parts.splitlines()[1:]] == [["390.0", "MB", "(project)"], ["90.0", "MB", "dist"]]
    named = [line.split()[-1] for line in files.splitlines()[:-1]]
    assert named == [f"models/{number}.bin" for number in range(11, 1, -1)]


def test_a_package_without_files_of_the_project_names_none(tmp_path: Path) -> None:
    with (tmp_path / "a.so").open("wb") as file:
        file.truncate(MAX_UNZIPPED_BYTES + 1)
    with pytest.raises(PackageError) as refused:
        check_size(package_sizes(walk(tmp_path), {"a.so": "a"}), 0, Pruned({}, {}), walk(tmp_path), {"a.so": "a"})
    assert "largest files" not in str(refused.value)


def test_the_limit_itself_is_not_over_the_limit(tmp_path: Path) -> None:
    with (tmp_path / "a.bin").open("wb") as file:
        file.truncate(MAX_UNZIPPED_BYTES)
    check_size(package_sizes(walk(tmp_path), {}), 0, Pruned({}, {}))
    (tmp_path / "b.bin").write_bytes(b"1")
    with pytest.raises(PackageError):
        check_size(package_sizes(walk(tmp_path), {}), 0, Pruned({}, {}))
