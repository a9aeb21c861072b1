"""The zip of the builder's own code."""

from __future__ import annotations

import stat
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from client import package
from client.faults import Fault
from tests.support.checkout import make_wheel

PASSENGER = {"passenger.py": "x = 1\n", "passenger-1.0.data/scripts/passenger": "#!python\nprint(1)\n"}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose "function" group is one small wheel."""
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", (tmp_path / "wheels").as_uri())
    root = tmp_path / "checkout"
    root.mkdir()
    (root / "lambda_function.py").write_text("print('handler')\n")
    write_requirements(root, make_wheel(tmp_path / "wheels", "passenger", PASSENGER))
    return root


def write_requirements(root: Path, pins: str) -> None:
    text = (
        f"# --- toolchain: inside ---\nx==1\n\n# --- function: travels ---\n{pins}\n# --- client: here ---\nclick==8\n"
    )
    (root / "requirements.txt").write_text(text)


def names(made: package.Package) -> list[str]:
    with zipfile.ZipFile(BytesIO(made.content)) as archive:
        assert archive.testzip() is None
        return archive.namelist()


def test_the_zip_is_the_same_on_every_machine_and_holds_no_trace_of_this_one(checkout: Path, tmp_path: Path) -> None:
    made = package.package(checkout, tmp_path / "kept")
    (checkout / "lambda_function.py").chmod(0o700)
    moved = checkout.rename(tmp_path / "elsewhere")
    assert package.package(moved, tmp_path / "other") == made
    with zipfile.ZipFile(BytesIO(made.content)) as archive:
        assert names(made) == [
            "lambda_function.py",
            "passenger-1.0.dist-info/METADATA",
            "passenger-1.0.dist-info/WHEEL",
            "passenger.py",
            "requirements.txt",
        ]
        assert archive.read("lambda_function.py") == b"print('handler')\n"
        assert all(stat.S_IMODE(each.external_attr >> 16) == 0o644 for each in archive.infolist())
        assert {each.date_time for each in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_what_only_the_client_needs_does_not_travel(checkout: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(BytesIO(package.package(checkout, tmp_path / "kept").content)) as archive:
        text = archive.read("requirements.txt").decode()
    assert "# --- toolchain: " in text
    assert "# --- function: " in text
    assert "click" not in text


def test_the_rooms_behind_the_handler_travel_where_there_are_some(checkout: Path, tmp_path: Path) -> None:
    before = package.package(checkout, tmp_path / "kept")
    (checkout / "yo_dawg/control/__pycache__").mkdir(parents=True)
    for name in ("__init__.py", "control/store.py", "control/notes.txt", "control/__pycache__/store.pyc"):
        (checkout / "yo_dawg" / name).write_text(name)
    made = package.package(checkout, tmp_path / "kept")
    assert sorted(set(names(made)) - set(names(before))) == ["yo_dawg/__init__.py", "yo_dawg/control/store.py"]


def test_it_is_kept_for_the_next_time_until_something_changes(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = package.package(checkout, tmp_path / "kept")
    with monkeypatch.context() as patch:
        patch.setattr(package, "travellers", lambda *_: pytest.fail("it is made again"))
        assert package.package(checkout, tmp_path / "kept") == made
    (tmp_path / "kept/function.zip").write_bytes(b"something else")
    assert package.package(checkout, tmp_path / "kept") == made, "what was put in its place does not count"
    (checkout / "lambda_function.py").write_text("changed")
    assert package.package(checkout, tmp_path / "kept") != made


def test_a_compiled_package_cannot_travel_in_the_zip(checkout: Path, tmp_path: Path) -> None:
    write_requirements(checkout, make_wheel(tmp_path / "wheels", "passenger", {"passenger.so": ""}))
    with pytest.raises(Fault, match=r"passenger\.so is compiled"):
        package.package(checkout, tmp_path / "kept")


def test_what_cannot_be_had_is_told(checkout: Path, tmp_path: Path) -> None:
    write_requirements(checkout, f"nobody-has-this==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(Fault, match="What travels in the function's zip cannot be had"):
        package.package(checkout, tmp_path / "kept")
