"""Those who make a package for Lambda of a project, and what that takes: yo-dawg, and what one would take instead.

Each packager builds one project again and again: "cold" (nothing of it is there, all caches are empty), "code"
(one line of the handler was changed since) and "nothing" (nothing was).
"""

from __future__ import annotations

import contextlib
import functools
import glob
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.recipes import Recipe
from client.local import client_environment, leave_own_account
from local.aws import EmbeddedAWS
from local.supervisor import private_bytes, process_fields
from tests.support.embedded import BUCKET, Builder, lay_out

PINS = Path(__file__).parent / "pins"

COLD, CODE, NOTHING = PHASES = ("cold", "code", "nothing")

WATCH_SECONDS = 0.1
"""How often memory and disk are looked at: the embedded AWS looks at its sandboxes as often."""


@dataclass(frozen=True)
class Project:
    """A project to build, as its users would write it."""

    name: str
    requirements: str
    files: Mapping[str, str]
    """All but the requirements; the handler is lambda_function.lambda_handler."""
    tmp_megabytes: int
    """The /tmp that a yo-dawg for it gets."""

    def lay_out(self, folder: Path) -> None:
        """Write the project into a folder."""
        lay_out(folder, {"requirements.txt": self.requirements, **self.files})

    def change(self, folder: Path, number: int) -> None:
        """Change a line of the handler: another one for each number."""
        name = "lambda_function.py"
        (folder / name).write_text(f"{self.files[name]}# change {number}\n")


@dataclass(frozen=True)
class Sample:
    """What one build took."""

    seconds: float
    memory_bytes: int
    """The most that all processes together had as their own; 0: could not be seen."""
    handler_bytes: int
    """The same of yo-dawg's handler process alone, with the files that it maps."""
    disk_bytes: int
    """The most that lay in /tmp or, with the others, in all folders that they write to; 0: was not watched."""
    stages: str = ""
    """What the seconds went into, where that is known."""


class Packager(Protocol):
    """One way to make packages of one project."""

    name: str

    def prepare(self, phase: str, number: int) -> None:
        """Make things so that the next build is one of this phase."""

    def build(self, *, watch_disk: bool) -> Sample:
        """Build, and look what it takes."""

    def archive(self) -> bytes:
        """Return the zip that was built last."""


# --- yo-dawg -----------------------------------------------------------------------------------------


class YoDawg:
    """A builder on the embedded AWS, asked by its public API.

    The time is what the client waits for the answer: the start of an execution environment, the clone and the upload
    to S3 are in it, and UpdateFunctionCode, which nobody else's has.
    """

    name = "yo-dawg"

    def __init__(self, project: Project, builder: Builder) -> None:
        """Take a builder that is bootstrapped."""
        self.project, self.builder = project, builder
        self.event: dict[str, str] = {}
        self.expected = ""

    def prepare(self, phase: str, number: int) -> None:
        """For a cold build, have AWS forget all but the toolchain, and the builder its environment with its /tmp."""
        name, functions = self.project.name, self.builder.functions
        if phase == COLD:
            forget_objects(self.builder, f"{self.builder.name}/toolchain/")
            with contextlib.suppress(functions.exceptions.ResourceNotFoundException):
                functions.delete_function(FunctionName=name)
            self.builder.create_function(name)
            functions.update_function_configuration(
                FunctionName=self.builder.name,
                Description=f"round {number}",  # a change of any kind ends the environments
                EphemeralStorage={"Size": self.project.tmp_megabytes},
            )
            self.builder.aws.finish_updates()
        if phase != NOTHING:
            with tempfile.TemporaryDirectory() as folder:
                self.project.lay_out(Path(folder))
                self.project.change(Path(folder), number * 2 + (phase == CODE))
                self.builder.add_repository(name, Path(folder))
        # Without another word in it, the same request so soon would count as a client's retry.
        self.event = {"ref": "main"} if phase == NOTHING else {}
        self.expected = "unchanged" if phase == NOTHING else "deployed"

    def build(self, *, watch_disk: bool) -> Sample:
        """Invoke the build action."""
        began = time.perf_counter()
        answer = self.builder.build(self.project.name, **self.event)
        seconds = time.perf_counter() - began
        if answer["status"] != self.expected:
            raise SystemExit(f"yo-dawg: {self.project.name} is {answer['status']}, not {self.expected}")
        (environment,) = self.builder.aws.environments(self.builder.name)
        disk = environment.inspect().tmp_highest if watch_disk else 0
        stages = ", ".join(f"{stage} {taken:.2f}" for stage, taken in answer["seconds"].items())
        return Sample(seconds, environment.highest, environment.peak_rss_bytes, disk, stages)

    def archive(self) -> bytes:
        """Return what the function runs."""
        package = self.builder.package(self.project.name)
        assert package.fp is not None  # noqa: S101 (it is open)
        package.fp.seek(0)
        return package.fp.read()


def forget_objects(builder: Builder, kept: str) -> None:
    """Delete everything in the bucket but what begins like this."""
    for page in builder.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        for each in page.get("Contents", []):
            if not each["Key"].startswith(kept):
                builder.s3.delete_object(Bucket=BUCKET, Key=each["Key"])


# --- The others --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tools:
    """Virtualenvs with the tools, made where they are not there yet."""

    folder: Path
    python: Path

    def bin(self, name: str) -> Path:
        """Return the folder of a tool's programs."""
        pins = PINS / f"{name}.txt"
        key = hashlib.sha256(f"{self.python}\n{pins.read_text()}".encode()).hexdigest()[:12]
        virtualenv = self.folder / f"{name}-{key}"
        ready = virtualenv / "ready"
        if not ready.exists():
            print(f"installing {name} into {virtualenv}", file=sys.stderr, flush=True)
            subprocess.run([self.python, "-m", "venv", "--clear", virtualenv], check=True)
            subprocess.run([virtualenv / "bin/pip", "install", "--quiet", "--requirement", pins], check=True)
            ready.touch()
        return virtualenv / "bin"

    def path(self, names: Sequence[str]) -> str:
        """Return the PATH with which these tools are found."""
        return os.pathsep.join([*(str(self.bin(name)) for name in names), str(self.python.parent), os.defpath])


class Script:
    """A recipe, run in a folder of its own, in which are also its caches and its TMPDIR."""

    def __init__(self, name: str, project: Project, recipe: Recipe, place: Place) -> None:
        """Take a folder that this one may empty."""
        self.name, self.project, self.recipe, self.place = name, project, recipe, place
        self.folder = place.folder
        self.prefix = ""

    def prepare(self, phase: str, number: int) -> None:
        """For a cold build, begin with an empty folder, but for the project."""
        code = self.folder / self.recipe.code
        if phase == COLD:
            shutil.rmtree(self.folder, ignore_errors=True)
            (self.folder / "tmp").mkdir(parents=True)
            self.project.lay_out(code)
            (code / "requirements.txt").replace(self.folder / "src/requirements.txt")
            lay_out(self.folder, self.recipe.files)
            self.prefix = f"{self.folder.name}-{number}"
        if phase != NOTHING:
            self.project.change(code, number * 2 + (phase == CODE))

    def build(self, *, watch_disk: bool) -> Sample:
        """Run the script."""
        environ = self.environ()
        with (self.folder.parent / "output").open("w+") as output:
            began = time.perf_counter()
            process = subprocess.Popen(
                ["bash", "-e", "-c", self.recipe.script],
                cwd=self.folder, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
            with watching(process.pid, self.folder if watch_disk else None) as seen:
                status = process.wait()
            seconds = time.perf_counter() - began
            if status != 0:
                output.seek(0)
                raise SystemExit(f"{self.name} failed with {self.project.name}:\n{output.read()[-4000:]}")
        return Sample(seconds, seen.memory, 0, seen.disk)

    def environ(self) -> dict[str, str]:
        """Return an environment with the user's own settings for package indexes, but for no other AWS."""
        return {
            **own_settings(),
            **client_settings(),
            **self.place.aws.environ,
            "PATH": self.place.tools.path(self.recipe.tools),
            "BUCKET": BUCKET,
            "PREFIX": self.prefix,
            "TMPDIR": str(self.folder / "tmp"),
            "PIP_CACHE_DIR": str(self.folder / "cache/pip"),
            "UV_CACHE_DIR": str(self.folder / "cache/uv"),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "SAM_CLI_TELEMETRY": "0",
            "__SAM_CLI_APP_DIR": str(self.folder / "cache/sam"),
        }

    def archive(self) -> bytes:
        """Return the zip, which SAM has put into S3."""
        result = self.folder / self.recipe.result
        if result.suffix == ".zip":
            return result.read_bytes()
        found = re.search(rf"s3://{BUCKET}/(\S+)", result.read_text())
        if not found:
            raise SystemExit(f"{self.name}: {result} names no package in S3")
        body: bytes = self.place.aws.client("s3").get_object(Bucket=BUCKET, Key=found[1])["Body"].read()
        return body


@functools.cache
def own_settings() -> dict[str, str]:
    """Return this machine's environment, less what leads to an AWS account."""
    environ = dict(os.environ)
    leave_own_account(environ)
    return environ


def client_settings() -> dict[str, str]:
    """Return where packages come from, the same for all: uv does not read pip's own settings."""
    found = client_environment()
    if "PIP_INDEX_URL" in found:
        found.setdefault("UV_DEFAULT_INDEX", found["PIP_INDEX_URL"])
    return {**found, "UV_SYSTEM_CERTS": "1"}


@dataclass(frozen=True)
class Place:
    """What a script works with."""

    folder: Path
    tools: Tools
    aws: EmbeddedAWS


# --- Looking on ----------------------------------------------------------------------------------------


@dataclass
class Seen:
    """The most that was seen, in bytes."""

    memory: int = 0
    disk: int = 0


@contextlib.contextmanager
def watching(pid: int, folder: Path | None) -> Iterator[Seen]:
    """Look at the memory of a process and its children, and at what is in a folder, until the end of the block."""
    seen, done = Seen(), threading.Event()

    def look() -> None:
        while not done.wait(WATCH_SECONDS):
            seen.memory = max(seen.memory, sum(private_bytes(process_fields(each)) for each in tree(pid)))
            if folder:
                seen.disk = max(seen.disk, folder_bytes(folder))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def tree(pid: int) -> list[int]:
    """Return a process and all below it."""
    found = [pid]
    for each in found:
        for children in glob.glob(f"/proc/{each}/task/*/children"):  # pathlib's raises an error if it has ended
            with contextlib.suppress(OSError):
                found += map(int, Path(children).read_text().split())
    return found


def folder_bytes(folder: str | Path) -> int:
    """Return the bytes that a folder takes on its disk."""
    total = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                total += entry.stat(follow_symlinks=False).st_blocks * 512
                if entry.is_dir(follow_symlinks=False):
                    total += folder_bytes(entry.path)
    return total
