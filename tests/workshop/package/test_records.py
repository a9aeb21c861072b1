"""RECORD is true of the package that ships: importlib.metadata finds files and modules by it."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

import pytest

from tests.support.embedded import lay_out
from tests.support.wheels import digest, install, make_wheel
from yo_dawg.trees import walk
from yo_dawg.workshop.package.install import Installed, look_at_installed
from yo_dawg.workshop.package.prune import prune
from yo_dawg.workshop.package.records import same_files, write_records
from yo_dawg.workshop.package.rules import Rules
from yo_dawg.workspace import Workspace

CASE = "import unittest\n\n\nclass TestIt(unittest.TestCase): ...\n"
FILES = {
    "idn/__init__.py": "x = 1\n", "idn/data, \"é\".txt": "d", "idn/tests/test_a.py": CASE, "idn/a.pyi": "",
    "Idn_Na.Me-1.0.data/scripts/tool": "#!python\n", "Idn_Na.Me-1.0.data/data/etc/idn.conf": "c",
}  # fmt: skip
INFO = "Idn_Na.Me-1.0.dist-info"
RECORD = f"{INFO}/RECORD"

ASK = """
import importlib.metadata as m, json
files = m.files("idn-na-me")
print(json.dumps([
    m.packages_distributions().get("idn"),
    sorted(map(str, files)),
    all(file.locate().is_file() for file in files),
    all(file.hash is None or file.hash.mode == "sha256" for file in files),
]))
"""


@pytest.fixture
def installed(tmp_path: Path, space: Workspace) -> Installed:
    """Two distributions in staging, pruned."""
    wheels = [
        make_wheel(tmp_path, "Idn_Na.Me", "1.0", FILES),
        make_wheel(tmp_path, "other", "2.0", {"other.py": "", "idn_other.py": ""}),
    ]
    staging = install(space.staging, *wheels)
    found = look_at_installed(staging)
    prune(walk(staging), found, Rules(), space)
    return found


def write(
    space: Workspace, installed: Installed, intact: Collection[str] = (), ours: Collection[str] = ()
) -> frozenset[str]:
    return write_records(space.staging, walk(space.staging), installed, intact, ours)


def read(space: Workspace, name: str = RECORD) -> dict[str, list[str]]:
    with (space.staging / name).open(newline="") as file:
        return {path: rest for path, *rest in csv.reader(file)}


def shipped(space: Workspace, *tops: str) -> dict[str, list[str]]:
    """Return the lines that would be right, for the files below these."""
    lines = {
        name: [f"sha256={digest(path.read_text())}", str(path.stat().st_size)]
        for name, path, _ in walk(space.staging)
        if name.startswith(tops)
    }
    return lines | {name: ["", ""] for name in lines if name.endswith("/RECORD")}


def test_pythons_own_library_finds_files_and_modules(space: Workspace, installed: Installed) -> None:
    write(space, installed)
    said = subprocess.run([sys.executable, "-c", ASK], cwd=space.staging, capture_output=True, text=True, check=True)
    owners, files, are_there, have_hashes = json.loads(said.stdout)
    assert owners == ["Idn_Na.Me"]
    assert files == sorted(
        ["idn/__init__.py", 'idn/data, "é".txt', "etc/idn.conf"]
        + [f"{INFO}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt")]
    )
    assert are_there
    assert have_hashes


def test_each_line_is_right(space: Workspace, installed: Installed) -> None:
    assert write(space, installed) == {RECORD, "other-2.0.dist-info/RECORD"}
    assert read(space) == shipped(space, "idn/", "etc/", INFO)
    assert read(space, "other-2.0.dist-info/RECORD") == shipped(space, "other", "idn_other")
    assert [*read(space)] == sorted(read(space))


def test_nothing_of_the_builder_is_in_it(space: Workspace, installed: Installed) -> None:
    write(space, installed)
    text = (space.staging / RECORD).read_text()
    assert [
        word for word in ("bin/", "..", "__pycache__", "INSTALLER", "tests", ".pyi", "direct_url") if word in text
    ] == []
    assert all(not line.startswith("/") for line in text.splitlines())


def test_what_the_project_changed_removed_and_added_is_told_as_it_is(space: Workspace, installed: Installed) -> None:
    before = walk(space.staging)
    (space.staging / "idn/__init__.py").unlink()
    (space.staging / "idn/__init__.py").write_text("mine = 2\n")
    (space.staging / "etc/idn.conf").unlink()
    lay_out(space.staging, {"idn/mine.py": "", "app.py": ""})
    write(space, installed, same_files(before, walk(space.staging)))
    lines = read(space)
    assert lines["idn/__init__.py"] == ["sha256=" + digest("mine = 2\n"), "9"]
    assert lines.keys().isdisjoint({"etc/idn.conf", "idn/mine.py", "app.py"})


def test_what_is_intact_is_not_read_again(space: Workspace, installed: Installed) -> None:
    """Bytes changed behind its back show it: 200 MB would take a second."""
    (space.staging / "other.py").write_text("changed")
    write(space, installed, intact={"other.py"})
    assert read(space, "other-2.0.dist-info/RECORD")["other.py"] == [f"sha256={digest('')}", "7"]


def test_what_is_put_back_later_is_told_when_it_is_written_anew(space: Workspace, installed: Installed) -> None:
    ours = write(space, installed)
    lay_out(space.staging, {"idn/tests/test_a.py": CASE})
    assert write(space, installed, ours=ours) == ours
    assert read(space) == shipped(space, "idn/", "etc/", INFO)


def test_a_record_of_the_projects_own_is_left_as_it_is(space: Workspace, installed: Installed) -> None:
    lay_out(space.staging, {RECORD: "mine,,\n", "vendored-1.dist-info/METADATA": "Name: vendored\n"})
    assert write(space, installed) == {"other-2.0.dist-info/RECORD"}
    assert (space.staging / RECORD).read_text() == "mine,,\n"
    assert not (space.staging / "vendored-1.dist-info/RECORD").exists()


def test_a_distribution_whose_metadata_is_gone_gets_none(space: Workspace, installed: Installed) -> None:
    (space.staging / INFO / "METADATA").unlink()
    assert write(space, installed) == {"other-2.0.dist-info/RECORD"}


def test_the_same_files_give_the_same_bytes(space: Workspace, installed: Installed) -> None:
    written = []
    for mapping in (dict, lambda items: dict([*items][::-1])):
        ours = write(space, Installed(installed.names, mapping(installed.owners.items()), digests=installed.digests))
        content = {name: (space.staging / name).read_bytes() for name in ours}
        written.append({name: hashlib.sha256(each).hexdigest() for name, each in content.items()})
        for name in ours:
            (space.staging / name).unlink()
    assert written[0] == written[1]


@pytest.mark.parametrize(
    "owners",
    [
        {"other-2.0.dist-info/METADATA": "evil", "other-2.0.dist-info/RECORD": "evil"},
        {"../other-2.0.dist-info/METADATA": "other", "/etc/x.dist-info/METADATA": "x"},
    ],
)
def test_a_record_that_claims_what_is_anothers_gets_nothing(
    space: Workspace, installed: Installed, owners: Mapping[str, str]
) -> None:
    before = {path for path in space.root.rglob("*")}
    write(space, Installed((), owners))
    assert {path for path in space.root.rglob("*")} == before
