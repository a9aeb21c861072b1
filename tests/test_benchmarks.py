"""The benchmark of packages, with a project that is made in no time."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from benchmarks import packages
from benchmarks.packagers import CODE, COLD, NOTHING, PHASES, Place, Project, Sample, Script, Tools, YoDawg
from benchmarks.recipes import recipes
from local.runtimes import available
from tests.support.embedded import NEWEST, Builder

TINY = Project("tiny", "six==1.17.0\n", {"lambda_function.py": f"import six{packages.HANDLER}"}, 512)


@pytest.mark.embedded
@NEWEST
def test_a_round_measures_every_phase_of_each_packager(builder: Builder, tmp_path: Path) -> None:
    tools = Tools(tmp_path / "tools", available()[builder.runtime])
    place = Place(tmp_path / "place", tools, builder.aws)
    rival = Script("pip, zip", TINY, recipes(builder.runtime)["pip, zip"], place)
    figures = packages.measure([YoDawg(TINY, builder), rival], 1, tmp_path / "unpacked", tools.python)
    assert figures.keys() == {"yo-dawg", "pip, zip", packages.WITHOUT_BYTECODE}
    for name in ("yo-dawg", "pip, zip"):
        assert {phase: len(samples) for phase, samples in figures[name].samples.items()} == dict.fromkeys(PHASES, 1)
        assert figures[name].zip_bytes > 10_000  # six is in it
        assert figures[name].peak("memory_bytes") > packages.MB
        assert figures[name].disk_bytes > 30_000
    assert figures["yo-dawg"].peak("handler_bytes") > 10 * packages.MB
    text = packages.table({"tiny": figures})
    assert [line.count("|") for line in text.splitlines()] == [10] * 5
    picture = ElementTree.fromstring(packages.plot({"tiny": figures}))  # noqa: S314 (it is ours)
    assert len(picture.findall("{*}rect[@class='ours']")) == len(PHASES) + 4


def figures_of(seconds: dict[str, float], **more: int) -> packages.Figures:
    samples = {phase: [Sample(taken, 0, 150 * packages.MB, 0)] for phase, taken in seconds.items()}
    return packages.Figures(samples, [1.0], **more)


def test_each_limit_is_compared_with_what_was_measured() -> None:
    phases = {COLD: 1.0, CODE: 1.0, NOTHING: 1.0}
    rivals = {"SAM": 2.0, "SAM --cached": 10.0, "Chalice": 2.0, "pip, zip": 4.0}
    mid = {"yo-dawg": figures_of(phases, zip_bytes=115, disk_bytes=513 * 2**20)}
    mid |= {name: figures_of(dict.fromkeys(PHASES, taken), zip_bytes=100) for name, taken in rivals.items()}
    bare = packages.Figures(imports=[4.0])
    judged = [
        (limit, value)
        for _, limit, value in packages.judge({"mid": mid, "big": {**mid, packages.WITHOUT_BYTECODE: bare}})
    ]
    assert judged == [
        (0.35, 0.5), (0.7, 0.5), (0.25, 0.1), (0.08, 0.1), (0.33, 0.25), (0.4, 0.25), (1.2, 1.15), (1.2, 1.15),
        (200, 150.0), (512, 513.0),
    ]  # fmt: skip
    lines = packages.verdicts({"mid": mid}).splitlines()
    assert [line.split("|")[4].strip() for line in lines[2:]] == [
        "**missed**",
        "kept",
        "kept",
        "**missed**",
        "kept",
        "**missed**",
    ]


def test_what_was_not_measured_is_not_judged() -> None:
    assert list(packages.judge({"mid": {"yo-dawg": figures_of({COLD: 1.0})}})) == []


def test_the_table_stands_between_its_marks() -> None:
    text = f"before\n{packages.BEGIN}\nold\n{packages.END}\nafter\n"
    once = packages.put_between(text, "new")
    assert once == f"before\n{packages.BEGIN}\n\nnew\n\n{packages.END}\nafter\n"
    assert packages.put_between(once, "new") == once
    with pytest.raises(SystemExit, match="no marks"):
        packages.put_between("no marks here", "new")
