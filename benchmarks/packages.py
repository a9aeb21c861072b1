"""How fast is a package made, how large is it, and how fast does it start?  yo-dawg, and what one would take instead.

    .venv/bin/python -m benchmarks.packages [--rounds N] [--projects NAME …] [--only PACKAGER …] [--cache FOLDER]
                                            [--readme README.md] [--svg benchmarks/packages.svg]

Builds four projects on the embedded AWS with yo-dawg, with pip and zip, uv and zip, SAM (with pip, --cached, with
uv) and Chalice, in turns, and prints a table of what it took, and how that does against the limits that we set us.
--readme writes the table between the marks in that file, --svg draws a plot.  All tools are installed, pinned, into
the cache (by default a temporary folder).

A round is, for each packager: a cold build (empty caches; yo-dawg has a new execution environment and the toolchain
in S3 only), a build after a change of the handler, and one after no change, both with what the one before has left.
The times are medians; peaks of memory are the highest of all rounds.  One more round comes first: it warms up the
machine, and is the one in which the disk is watched.  yo-dawg's times include the clone, the upload and the update
of the function; SAM's the upload.  Packages are imported from a disk, by the runtime's interpreter, once their files
are out of the page cache (posix_fadvise; what the interpreter itself needs stays there).
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.chart import Panel, svg  # noqa: E402
from benchmarks.packagers import (  # noqa: E402
    CODE,
    COLD,
    NOTHING,
    PHASES,
    PINS,
    Packager,
    Place,
    Project,
    Sample,
    Script,
    Tools,
    YoDawg,
)
from benchmarks.recipes import recipes  # noqa: E402
from local.runtimes import available  # noqa: E402
from tests.support.embedded import RUNTIMES, Builder, embedded_aws  # noqa: E402

MB = 1_000_000
BEGIN, END = "<!-- Made by benchmarks.packages: begin -->", "<!-- end -->"

WITHOUT_BYTECODE = "yo-dawg, no .pyc"
"""The same package without its bytecode, which is only imported."""

MID_DIRECT = ("cryptography", "jinja2", "pydantic", "requests", "sqlalchemy", "pyyaml")
"""What "mid" requires itself; "loose" pins these only, as most people do: the rest may change at any time."""

HANDLER = "\n\ndef lambda_handler(event, context):\n    return {}\n\n\n"


def projects() -> dict[str, Project]:
    """Return the projects, by name."""
    pages = {
        f"pages/part{number // 50}/page{number % 50}.py": f'"""Page {number}."""\n\nTITLE = "page {number}"\n'
        for number in range(10_000)
    }
    firsts = [f"pages.part{number}.page0" for number in range(200)]
    mid = ["cryptography.fernet", "jinja2", "pydantic", "requests", "sqlalchemy", "yaml"]
    made = [
        project("mid", mid, 512),
        project("loose", mid, 512, pins="mid", only=MID_DIRECT),
        project("big", ["cryptography.fernet", "pandas", "pyarrow", "pydantic", "requests"], 2048),
        project("files", ["requests", *firsts], 1024, pages),
    ]
    return {each.name: each for each in made}


def project(
    name: str,
    imports: Sequence[str],
    tmp_megabytes: int,
    files: Mapping[str, str] | None = None,
    *,
    pins: str = "",
    only: Sequence[str] = (),
) -> Project:
    """Return a project whose handler imports these modules, and whose requirements (or only some) are pinned."""
    lines = (PINS / f"{pins or name}.txt").read_text().splitlines()
    requirements = [line for line in lines if not line.startswith("#")]
    if only:
        requirements = [line for line in requirements if line.partition("==")[0].lower() in only]
    code = "".join(f"import {module}\n" for module in imports) + HANDLER
    files = {"lambda_function.py": code, **(files or {})}
    return Project(name, "\n".join([*requirements, ""]), files, tmp_megabytes)


@dataclass
class Figures:
    """What was measured of one packager and one project."""

    samples: dict[str, list[Sample]] = field(default_factory=dict)
    """By phase; none of what is only imported."""
    imports: list[float] = field(default_factory=list)
    zip_bytes: int = 0
    disk_bytes: int = 0

    def seconds(self, phase: str) -> float:
        """Return the median of a phase."""
        return statistics.median(sample.seconds for sample in self.samples[phase])

    def import_seconds(self) -> float:
        """Return the median."""
        return statistics.median(self.imports)

    def peak(self, what: str) -> int:
        """Return the highest of all rounds."""
        return max((getattr(sample, what) for samples in self.samples.values() for sample in samples), default=0)


Results = dict[str, dict[str, Figures]]
"""By project, then by packager."""


# --- Measuring ------------------------------------------------------------------------------------------


def measure(packagers: Sequence[Packager], rounds: int, folder: Path, python: Path) -> dict[str, Figures]:
    """Build one project with each packager, in turns; each round begins with another one."""
    figures: dict[str, Figures] = defaultdict(Figures)
    trees: dict[str, Path] = {}
    for number in range(rounds + 1):
        first = number % len(packagers)
        for packager in [*packagers[first:], *packagers[:first]]:
            for phase in PHASES:
                packager.prepare(phase, number)
                sample = packager.build(watch_disk=number == 0)
                say(f"{number} {packager.name}: {phase} {sample.seconds:.2f} s  {sample.stages}".rstrip())
                ours = figures[packager.name]
                if number:
                    ours.samples.setdefault(phase, []).append(sample)
                else:
                    ours.disk_bytes = max(ours.disk_bytes, sample.disk_bytes)
            if number == 0:
                archive = packager.archive()
                ours.zip_bytes = len(archive)
                trees |= unpack(archive, folder, packager.name)
        if number:  # the first would else pay for what of the interpreter has left the page cache meanwhile
            import_seconds(next(iter(trees.values())), python)
        for name, tree in trees.items():
            if number:
                figures[name].imports.append(import_seconds(tree, python))
    return figures


def say(text: str) -> None:
    """Tell on stderr how far we are."""
    print(text, file=sys.stderr, flush=True)


def unpack(archive: bytes, folder: Path, name: str) -> dict[str, Path]:
    """Unpack a package with its dates; return its folder, and of ours also one of it without bytecode."""
    tree = folder / name
    with zipfile.ZipFile(io.BytesIO(archive)) as content:
        content.extractall(tree)
        for info in content.infolist():
            when = time.mktime((*info.date_time, 0, 0, -1))
            os.utime(tree / info.filename, (when, when))
    if name != YoDawg.name:
        return {name: tree}
    bare = folder / WITHOUT_BYTECODE
    shutil.copytree(tree, bare, ignore=shutil.ignore_patterns("*.pyc"))
    return {name: tree, WITHOUT_BYTECODE: bare}


def import_seconds(tree: Path, python: Path) -> float:
    """Return how long it takes to import the handler, with none of the package's files in the page cache."""
    for path in tree.rglob("*"):
        if path.is_file() and hasattr(os, "posix_fadvise"):
            with path.open("rb") as file:
                os.fsync(file.fileno())  # what is not on the disk yet cannot be dropped
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); began = time.perf_counter(); import lambda_function; "
        "print(time.perf_counter() - began)"
    )
    # -S and -I: from nowhere else.  -B: a package is read-only in Lambda.
    command = [str(python), "-I", "-S", "-B", "-c", code, str(tree)]
    return float(subprocess.run(command, capture_output=True, check=True).stdout)


# --- Telling ---------------------------------------------------------------------------------------------


def table(results: Results) -> str:
    """Return what was measured, as Markdown."""
    lines = [
        "| project | | cold build | code changed | nothing changed | zip | import | memory | disk |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for project, by_packager in results.items():
        for name, figures in by_packager.items():
            cells = [seconds(figures.seconds(phase)) if figures.samples else "" for phase in PHASES]
            cells += [
                megabytes(figures.zip_bytes),
                seconds(figures.import_seconds()),
                megabytes(figures.peak("memory_bytes")),
                megabytes(figures.disk_bytes),
            ]
            lines.append(f"| {project} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def seconds(value: float) -> str:
    """Return seconds for a cell."""
    return f"{value:.2f} s"


def megabytes(value: int) -> str:
    """Return bytes for a cell; nothing if they are not known."""
    return f"{value / MB:,.1f} MB" if value else ""


def verdicts(results: Results) -> str:
    """Return how we did against our limits, as Markdown; what was not measured is left out."""
    lines = ["| | at most | measured | |", "|---|--:|--:|---|"]
    for title, limit, value in judge(results):
        digits = 0 if limit > 10 else 2
        verdict = "kept" if value <= limit else "**missed**"
        lines.append(f"| {title} | {limit:.{digits}f} | {value:.{digits}f} | {verdict} |")
    return "\n".join(lines)


def judge(results: Results) -> Iterable[tuple[str, float, float]]:
    """Yield each limit that can be told of: what it is on, the limit, what was measured."""

    def pick(project: str, *names: str) -> list[Figures]:
        by_packager = results.get(project, {})
        return [by_packager[name] for name in names] if by_packager.keys() >= set(names) else []

    for title, project, phase, rival, limit in (
        ("cold build of mid, against SAM", "mid", COLD, "SAM", 0.35),
        ("cold build of mid, against Chalice", "mid", COLD, "Chalice", 0.7),
        ("code of mid changed, against SAM --cached", "mid", CODE, "SAM --cached", 0.25),
        (
            "code of mid changed, only direct pins, against SAM --cached",
            "loose",
            CODE,
            "SAM --cached",
            0.4,
        ),
        ("nothing of mid changed, against SAM --cached", "mid", NOTHING, "SAM --cached", 0.08),
        ("cold build of big, against pip and zip", "big", COLD, "pip, zip", 0.33),
    ):
        if pair := pick(project, YoDawg.name, rival):
            yield title, limit, pair[0].seconds(phase) / pair[1].seconds(phase)
    if pair := pick("big", YoDawg.name, WITHOUT_BYTECODE):
        title = "import of the handler of big, against the same package without bytecode"
        yield title, 0.4, pair[0].import_seconds() / pair[1].import_seconds()
    for project in ("mid", "big"):
        if pair := pick(project, YoDawg.name, "SAM"):
            yield f"zip of {project}, bytecode included, against SAM", 1.2, pair[0].zip_bytes / pair[1].zip_bytes
    if ours := pick("big", YoDawg.name):
        yield "peak memory of the handler process on big, MB", 200, ours[0].peak("handler_bytes") / MB
    if (ours := pick("mid", YoDawg.name)) and ours[0].disk_bytes:
        yield "peak of /tmp for mid, MiB", 512, ours[0].disk_bytes / 2**20


def plot(results: Results) -> str:
    """Return everything but the limits as an SVG picture."""
    titles = {COLD: "cold build", CODE: "code changed", NOTHING: "nothing changed"}
    rows: list[list[Panel]] = []
    for project, by_packager in results.items():
        built = {name: figures for name, figures in by_packager.items() if figures.samples}
        times = [
            Panel(f"{project}: {title}", {name: each.seconds(phase) for name, each in built.items()}, "s")
            for phase, title in titles.items()
        ]
        imported = Panel("import", {name: each.import_seconds() for name, each in built.items()}, "s")
        sizes = [
            Panel("zip", {name: each.zip_bytes / MB for name, each in built.items()}, "MB"),
            Panel("memory", {name: each.peak("memory_bytes") / MB for name, each in built.items()}, "MB"),
            Panel("disk", {name: each.disk_bytes / MB for name, each in built.items()}, "MB"),
        ]
        rows += [[*times, imported], sizes]
    return svg("What each packager takes for each project", rows, YoDawg.name)


def put_between(text: str, new: str) -> str:
    """Return a text with something else between the marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"There are no marks: {BEGIN} and {END}")
    return f"{before}{begin}\n\n{new}\n\n{end}{after}"


# --- The command -----------------------------------------------------------------------------------------


def main(arguments: Sequence[str]) -> None:
    """Measure, print, and write where it was asked for."""
    everyone = [YoDawg.name, *recipes(RUNTIMES[-1])]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.packages", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="how often to measure everything (default: 3)")
    parser.add_argument("--projects", nargs="+", choices=projects(), default=list(projects()))
    parser.add_argument("--only", nargs="+", choices=everyone, default=everyone)
    parser.add_argument("--cache", type=Path, help="where to keep the tools (default: nowhere)")
    parser.add_argument("--readme", type=Path, help="write the tables between the marks of this file")
    parser.add_argument("--svg", type=Path, help="draw the plot into this file")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="yo-dawg-bench-") as scratch:
        results = measure_all(options, Path(scratch))
    about = f"{platform_name()}; {RUNTIMES[-1]}; rounds: {options.rounds}."
    text = f"{table(results)}\n\n{verdicts(results)}\n\n{about}"
    print(text)
    if options.readme:
        options.readme.write_text(put_between(options.readme.read_text(), text))
    if options.svg:
        options.svg.write_text(plot(results))


def measure_all(options: argparse.Namespace, scratch: Path) -> Results:
    """Install the tools, start an AWS, and measure one project after the other."""
    runtime = RUNTIMES[-1]
    tools = Tools((options.cache or scratch / "tools").absolute(), available()[runtime])
    chosen = {name: recipe for name, recipe in recipes(runtime).items() if name in options.only}
    for recipe in chosen.values():
        tools.path(recipe.tools)
    results: Results = {}
    with embedded_aws() as (aws, git):
        aws.update_seconds = 0  # the others update no function
        builder = Builder(aws, git, runtime)
        builder.install()
        builder.bootstrap()
        for project in (projects()[name] for name in options.projects):
            folder = scratch / project.name
            packagers: list[Packager] = [YoDawg(project, builder)] if YoDawg.name in options.only else []
            for number, (name, recipe) in enumerate(chosen.items()):
                packagers.append(Script(name, project, recipe, Place(folder / str(number), tools, aws)))
            results[project.name] = measure(packagers, options.rounds, folder / "unpacked", tools.python)
            say(table({project.name: results[project.name]}))
    return results


def platform_name() -> str:
    """Say what machine this is, as far as the figures depend on it."""
    return f"{os.cpu_count()} cores, {os.uname().sysname} {os.uname().machine}"


if __name__ == "__main__":
    main(sys.argv[1:])
