"""A build whose installer asks for Git repositories begins anew with those: what the handler makes of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from local.git_server import make_repository
from tests.support.embedded import lay_out
from tests.support.yard import HANDLER, LIBRARY, TOKEN, Yard
from yo_dawg.control.git import MAX_ADDRESS, MAX_ASKED, MAX_ROUNDS, Cloned, clone_again, is_address
from yo_dawg.control.workshop import Workshop
from yo_dawg.errors import SourceError
from yo_dawg.source import Source

SOURCE = Source("https://git.example/project.git")

HOSTILE_BACKEND = """
import os, pathlib, zipfile

def build_wheel(directory, config_settings=None, metadata_directory=None):
    root = pathlib.Path(os.environ["HOME"]).parent
    for folder in ("", "bin", "home", "objects", "sources/0", "toolchain/site-packages/dulwich"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name in ("deflate", "urllib3", "sitecustomize", "dulwich", "dulwich/__init__", "dulwich/client"):
        (root / "toolchain/site-packages" / f"{name}.py").write_text("open('PLANTED', 'a').write(__file__)")
    (root / "checkout.json").write_text("{}")
    info, url = "inner-1.0.dist-info/", open("address").read()
    with zipfile.ZipFile(os.path.join(directory, "inner-1.0-py3-none-any.whl"), "w") as wheel:
        needs = f"Requires-Dist: library @ git+{url}\\n"
        wheel.writestr(info + "METADATA", f"Metadata-Version: 2.1\\nName: inner\\nVersion: 1.0\\n{needs}")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "")
    return "inner-1.0-py3-none-any.whl"
"""
"""A build that alone tells what it requires.  All that the Git program might look at, were it still there, is its own:
that would be found in PLANTED."""


def serve_library(yard: Yard) -> str:
    """Serve a repository beside the project; return its commit."""
    return make_repository(lay_out(yard.tmp.parent / "lib", LIBRARY), yard.git.root / "lib.git")


def add_project(yard: Yard) -> str:
    """Serve a project that requires it by what a build tells; return its commit."""
    return yard.add_project({
        "app.py": HANDLER,
        "requirements.txt": "./in\n",
        "in/address": f"{yard.git.url}/lib.git",
        "in/pyproject.toml": LIBRARY["pyproject.toml"],
        "in/backend.py": HOSTILE_BACKEND.replace("PLANTED", str(yard.tmp.parent / "planted")),
    })  # fmt: skip


def test_a_build_begins_anew_with_what_its_installer_asks_for(
    yard: Yard, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commit = serve_library(yard)
    add_project(yard)
    result = yard.build()
    assert result["dependencies"] == ["inner==1.0", f"library @ git+{yard.git.url}/lib.git@{commit}"]
    assert "library/__init__.py" in yard.shipped().namelist()
    said = capsys.readouterr().out
    assert said.count("[2/8] clone") == 2 * 2, "each time it begins, and ends"
    assert "uv asks for Git repositories (1) that were not fetched: all begins anew" in said
    assert TOKEN not in said
    assert not (tmp_path / "planted").exists()
    assert yard.build(force=True)["code_sha256"] == result["code_sha256"]


def test_what_cannot_be_fetched_is_told_in_words(yard: Yard) -> None:
    add_project(yard)
    with pytest.raises(SourceError, match=r"Cannot fetch the requirement '.*/lib\.git'\. .* no such repository"):
        yard.build()


def test_a_branch_that_moves_meanwhile(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    serve_library(yard)
    first = add_project(yard)

    def move(*arguments: Any) -> Cloned:
        (yard.tmp.parent / "project" / "more.txt").write_text("more")
        shutil.rmtree(yard.git.root / "project.git")
        make_repository(yard.tmp.parent / "project", yard.git.root / "project.git")
        return clone_again(*arguments)

    monkeypatch.setattr("yo_dawg.control.package.clone_again", move)
    with pytest.raises(SourceError, match=f'"main" was moved from {first} to .* meanwhile. Try again.'):
        yard.build()


def test_a_build_that_asks_without_end(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = yard.add_project({"app.py": HANDLER})
    asked: list[Any] = []

    def ask(self: Workshop, name: str, *arguments: Any) -> dict[str, Any]:
        if name == "git":
            return {"commit": commit, "ref": "main"}
        asked.append([f"https://git.example/{len(asked)}", None])
        return {"asked": asked[-1:]}

    monkeypatch.setattr(Workshop, "ask", ask)
    with pytest.raises(SourceError, match="lie too deep in Git.*Name them in requirements.txt"):
        yard.build()
    assert len(asked) == MAX_ROUNDS + 1


@pytest.mark.parametrize(
    "said",
    [None, 1, "x", {}, [], [1], [[]], [["u"]], [["", None]], [["u", 1]], [["u", "\n"]], [["u", ""]], [["u", "v", 3]]],
)
def test_an_answer_that_makes_no_sense(said: object) -> None:
    nobody: Any = None
    with pytest.raises(SourceError, match="that it has, or that have no address"):
        clone_again(Cloned("0" * 40, "main", SOURCE), said, nobody, nobody)


def test_an_answer_is_bounded() -> None:
    nobody: Any = None
    asked = tuple((str(number), None) for number in range(MAX_ASKED))
    with pytest.raises(SourceError, match=f"more than {MAX_ASKED} Git repositories"):
        clone_again(Cloned("0" * 40, "main", SOURCE, asked), [["more", None]], nobody, nobody)
    assert not is_address("x" * (MAX_ADDRESS + 1), None)
    assert is_address("ssh://git@h/x", "v1")
