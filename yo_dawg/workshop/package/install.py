"""Installing requirements with uv."""

from __future__ import annotations

import contextlib
import csv
import functools
import hashlib
import importlib.machinery
import importlib.metadata
import importlib.util
import json
import os
import re
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from yo_dawg.builder import RUNTIME_PROVIDES
from yo_dawg.checkout import find_requirements
from yo_dawg.disk import refuse_if_disk_full
from yo_dawg.errors import DependencyError, SourceError
from yo_dawg.process import Command, CommandFailed, program
from yo_dawg.text import printable
from yo_dawg.workspace import HERE, Workspace, check_workspace

if TYPE_CHECKING:
    from yo_dawg.builder import Builder
    from yo_dawg.checkout import Checkout, Required
    from yo_dawg.control.toolchain import Toolchain
    from yo_dawg.process import Shell

OTHERS_FILES = ("poetry.lock", "Pipfile", "Pipfile.lock", "pdm.lock", "environment.yml")
"""In which other tools keep requirements, and from which each can export them."""

INSTALLER_FILES = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json")
"""The installer's own bookkeeping in *.dist-info: it names paths of this machine.  The rest of a
dist-info is read at run time (versions, entry points) and is kept."""


@dataclass(frozen=True)
class Installed:
    """What the installer wrote into staging."""

    names: tuple[str, ...]
    """"name==version", sorted."""
    owners: Mapping[str, str]
    """For each file, relative to staging, the distribution that it belongs to."""
    records: Mapping[str, str] = field(default_factory=dict)
    """For each of the names the SHA-256, in hex, of its RECORD, which holds the digests of its files."""
    provided: frozenset[str] = frozenset()
    """The distributions that the runtime has too, in versions that fit."""
    kept: Mapping[str, str] = field(default_factory=dict)
    """What might have been left to it and is not, and why."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """For each file, relative to staging, its SHA-256 as its distribution's RECORD has it: base64, for URLs."""

    @property
    def pins(self) -> frozenset[str]:
        """What was installed, as the installer resolves it."""
        return frozenset(normal(name) for name in self.records)


INSTALL_ADVICE = (
    (r"\.txt:\d+:\d+$|Couldn't parse requirement|Invalid URL in|failed to (decode|read from) file",
     "A requirements file cannot be read: it names a file that is not there, is not UTF-8, or has a line or option "
     "that uv does not know. Change or remove it."),
    (r"index URL .* could not be queried due to a lack of valid authentication",
     "A package index refuses its user name or password: see index_secret in config.ini."),
    (r"not found in the package registry|was not found in the|Because there are no versions of|there is no version of",
     "A requirement, or this version of it, does not exist: check its name and version."),
    (r"Git executable not found|Git operation failed",
     "A requirement is to be cloned with git, which Lambda has not. yo-dawg clones what requirements files, a "
     "pyproject.toml, uv.lock and setup.py spell out: write it there as NAME @ git+https://…"),
    (r"invalid package format|invalid metadata|metadata is invalid",
     "A requirement's file is damaged, or is no package: require another version."),
    (r"does not satisfy Python",
     "A requirement is not for {platform}: require a version that is."),
    (r"Failed to build|Call to `.*` failed|no wheels with a matching|no compatible wheels|has no usable wheels",
     "A requirement has no wheel for {platform}, and building it from source failed; Lambda has no compiler. "
     "Require a version that has such a wheel."),
    (r"conflict|are incompatible|we can conclude that|No solution found",
     "The requirements contradict each other: loosen or align their versions."),
    (r"hash",
     "A file's hash is not the one that the requirements name: pin the hashes again."),
    (r"dns error|error sending request|timed out|Connect",
     "The package index cannot be reached from this function: check its network (VPC, NAT)."),
)  # fmt: skip
"""What a text in uv's output means for the one who must act.  The first that is found counts."""

LACKING = re.compile(r"Failed to build `([\w.-]+)|([\w.-]+?)(?:==\S+)? (?:has|have) no (?:\w+ )?wheels")
"""How uv names a requirement that there is no wheel of, and that cannot be built."""

MAX_LACKING = 10

SECONDS_TO_LOOK_FURTHER = 60
"""How many of them are named, and what time has to be left to look for another."""


def lacking(lines: Iterable[str]) -> str | None:
    """Return the requirement in uv's output that there is no wheel of."""
    found = LACKING.search("\n".join(lines))
    return found and (found[1] or found[2])


def unread_requirements(project: Path) -> list[str]:
    """Return a warning if a project only has requirements in files of tools that uv does not read."""
    found = [name for name in OTHERS_FILES if (project / name).is_file()]
    if not found or find_requirements(project):
        return []
    return [
        f"{found[0]} is not read, and nothing was installed: export it as requirements.txt, or name the dependencies "
        "in [project] of pyproject.toml"
    ]


@dataclass(frozen=True)
class Installer:
    """uv, at work for a project."""

    checkout: Checkout
    toolchain: Toolchain
    builder: Builder
    shell: Shell

    space = property(lambda self: Workspace(self.toolchain.root.parent))

    @functools.cached_property
    def requirements(self) -> Path | None:
        """The file in which the project says what it needs; of a uv.lock, what that says as requirements."""
        found = find_requirements(self.checkout.project)
        if found is None or found.name != "uv.lock":
            return found
        with self._troubles(found):
            return export_lock(self.checkout, self.toolchain, self.shell)

    def install(self, target: Path) -> None:
        """Install what the project requires into a folder; raise DependencyError."""
        if self.requirements:
            with self._troubles(self.requirements):
                self._run("install", "--target", target, "--no-editable", "--link-mode", "hardlink", "--requirements")
        check_workspace(self.space, DependencyError)

    def resolve(self, constraints: Iterable[str] = ()) -> frozenset[str] | None:
        """Return what would be installed now, NAME==VERSION each; None if that is not all, or cannot be."""
        limits, resolved = self.space.root / "constraints.txt", self.space.root / "resolved.txt"
        limits.write_text("\n".join(constraints))
        resolved.unlink(missing_ok=True)  # uv would prefer what it says
        options = ("--constraint", limits, "--quiet", "--no-header", "--no-annotate", "--output-file", resolved)
        with contextlib.suppress(CommandFailed):
            self._run("compile", *options)
            check_workspace(self.space, DependencyError)  # builds of requirements may have run
            return frozenset(map(normal, resolved.read_text(errors="replace").splitlines()))
        return None

    def others_lacking(self, lines: Iterable[str]) -> list[str]:
        """Return what there is no wheel of either, and no building: of such requirements uv names the first, and stops.

        Each that it names is left out, until it names no more or time is short.
        """
        found: list[str] = []
        while (name := lacking(lines)) and name not in found and len(found) < MAX_LACKING:
            found.append(name)
            if 0 < signal.getitimer(signal.ITIMER_REAL)[0] < SECONDS_TO_LOOK_FURTHER:
                break
            without = [f"{each} ; python_version < '0'" for each in found]
            required = replace(self.checkout.required, overrides=[*self.checkout.required.overrides, *without])
            trial = replace(self, checkout=replace(self.checkout, required=required))
            try:
                trial._run("install", "--target", self.space.scratch / "trial", "--requirements")
                break
            except CommandFailed as error:
                lines = error.lines
        return found[1:]

    def _run(self, *command: str | Path) -> None:
        options: list[str | Path] = []
        if self.checkout.required.overrides:
            options = ["--override", self.space.root / "overrides.txt"]
            (self.space.root / "overrides.txt").write_text("\n".join(self.checkout.required.overrides))
        argv = [self.toolchain.uv, "pip", command[0], "--python", sys.executable, *options, *command[1:]]
        run = Command(
            [*argv, self.requirements or os.devnull], self.checkout.project, {"SOURCE_DATE_EPOCH": "315532800"}
        )
        self.shell.run(prepared(run, self.checkout.required, self.toolchain))

    @contextlib.contextmanager
    def _troubles(self, requirements: Path) -> Iterator[None]:
        try:
            yield
        except CommandFailed as error:
            refuse_if_disk_full(error, self.space)
            failures = self.checkout.required.failures
            if failures and re.search("Git operation failed", "".join(error.lines)):
                raise SourceError("\n".join(failures)) from None
            others = self.others_lacking(error.lines)
            also = f"\nThe same goes for {', '.join(others)}." if others else ""
            raise DependencyError(
                f"Cannot install {requirements.name}: uv {error.ending}. "
                f"{install_advice(error.lines, self.builder)}{also}{error.quoted_tail}"
            ) from None


def look_at_requirements(installer: Installer) -> Installed:
    """List what was installed into staging, and say what of it the runtime has too.

    Whether the runtime's own boto3 satisfies all that asks for it is the installer's to say.
    """
    installed = look_at_installed(installer.space.staging, installer.checkout.required.origins)
    provided = provided_by_runtime(installed)
    if not provided:
        return installed
    pins = {**dict(name.split("==") for name in installed.names if "==" in name), **provided}
    if installer.resolve(f"{name}=={version}" for name, version in pins.items()) is None:
        own = ", ".join(f"{name} {version}" for name, version in provided.items())
        return replace(
            installed, kept={RUNTIME_PROVIDES[0]: f"not all that is required allows the runtime's own: {own}"}
        )
    shipped = tuple(name for name in installed.names if name.partition("==")[0].lower() not in provided)
    return replace(installed, names=shipped, provided=frozenset(provided))


def provided_by_runtime(installed: Installed) -> dict[str, str]:
    """Return what the runtime has too of what was installed, with its own versions."""
    names = {name.partition("==")[0].lower() for name in installed.names} & set(RUNTIME_PROVIDES)
    if "botocore" not in names:
        return {}  # what others need of the rest is theirs
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return {name: importlib.metadata.version(name) for name in sorted(names)}
    return {}


def prepared(command: Command, required: Required, toolchain: Toolchain) -> Command:
    """Return an installer's command as one of the install worker, if there is anything for that to do."""
    if not required.origins and not toolchain.indexes:
        return command
    job = {
        "argv": [str(part) for part in command.argv],
        "texts": dict(required.texts),
        "indexes": toolchain.indexes,
    }
    return replace(
        command,
        argv=program("yo_dawg.workshop.package.index_proxy"),
        environ={**command.environ, "PYTHONPATH": str(HERE)},
        stdin=json.dumps(job).encode(),
    )


def export_lock(checkout: Checkout, toolchain: Toolchain, shell: Shell) -> Path:
    """Write a project's uv.lock as requirements, without what only developers need."""
    target = toolchain.root.parent / "uv.lock.txt"
    options = ("--frozen", "--no-dev", "--no-emit-project", "--no-header", "--quiet")
    shell.run(Command([toolchain.uv, "export", *options, "--output-file", target], cwd=checkout.project))
    return target


def install_advice(lines: Sequence[str], builder: Builder) -> str:
    """Say what uv's output means for the one who must act, with the line that says which requirement it is."""
    for pattern, advice in INSTALL_ADVICE:
        for line in lines:
            if re.search(pattern, line, re.IGNORECASE):
                return f"{advice.format(platform=builder.platform)}\n{line.strip()[:300]}"
    return "Does it install with uv on your own machine?"


def look_at_installed(staging: Path, origins: Mapping[str, str] = MappingProxyType({})) -> Installed:
    """List what was installed, and whose each file is; name what came from Git by its address and commit."""
    records: dict[str, str] = {}
    owners: dict[str, str] = {}
    digests: dict[str, str] = {}
    for distribution in importlib.metadata.distributions(path=[str(staging)]):
        # Metadata that is none: its files stay unowned.
        with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError, RecursionError, csv.Error):
            name = printable(distribution.name)
            content = distribution.read_text("RECORD") or ""
            address = json.loads(distribution.read_text("direct_url.json") or "{}").get("url")
            label = f"{name} @ {origins[address]}" if address in origins else f"{name}=={distribution.version}"
            records[printable(label)] = hashlib.sha256(content.encode()).hexdigest()
            for path, digest, *_ in csv.reader(content.splitlines()):
                owners[file := os.path.normpath(path)] = name
                if digest.startswith("sha256="):
                    digests[file] = digest.removeprefix("sha256=")
    return Installed(tuple(sorted(records, key=str.lower)), owners, records, digests=digests)


def normal(pin: str) -> str:
    """Return NAME==VERSION with its name in the one spelling of all that mean the same (PEP 503)."""
    name, equals, version = pin.partition("==")
    return re.sub(r"[-_.]+", "-", name.strip()).lower() + equals + version.strip()
