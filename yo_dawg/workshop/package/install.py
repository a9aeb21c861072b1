"""Installing requirements with uv."""

from __future__ import annotations

import contextlib
import csv
import functools
import hashlib
import importlib.metadata
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yo_dawg.builder import RUNTIME_PROVIDES
from yo_dawg.disk import refuse_if_disk_full
from yo_dawg.errors import DependencyError, SourceError
from yo_dawg.process import Command, CommandFailed, program, script
from yo_dawg.text import printable
from yo_dawg.trees import entries_below
from yo_dawg.workshop import stand_in
from yo_dawg.workshop.package.uv_settings import UvSettings, read_uv_settings
from yo_dawg.workshop.package.versions import FILES as VERSION_FILES
from yo_dawg.workshop.package.versions import ToldVersion, told_version
from yo_dawg.workshop.requirement_files import dependency_groups, find_requirements, setup_cfg_requirements
from yo_dawg.workspace import Workspace, check_workspace

if TYPE_CHECKING:
    from yo_dawg.checkout import Checkout
    from yo_dawg.process import Shell

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
    """For each file, relative to staging, its SHA-256 as its distribution's RECORD had it: base64, for URLs."""

    @property
    def pins(self) -> frozenset[str]:
        """What was installed, as the installer resolves it."""
        return frozenset(normal(name) for name in self.records)


INSTALL_ADVICE = (
    (
        r"Failed to build|Call to `.*` failed|no wheels with a matching|no compatible wheels|has no usable wheels",
        "A requirement has no wheel for {platform}, and building it from source failed; Lambda has no compiler. "
        "Require a version that has such a wheel.",
    ),
    (
        r"lack of valid authentication",
        "A package index refuses its user name or password: see index_secret in config.ini.",
    ),
    (
        r"dns error|error sending request|timed out|Connect",
        "The package index cannot be reached from this function: check its network (VPC, NAT).",
    ),
)
"""What uv cannot know: that it runs in Lambda, and where the builder's settings are.  The first text that is found
in its output counts."""


class RepositoriesAsked(Exception):
    """uv asks for Git repositories that have not been fetched; the handler is to have that done, and to begin anew."""

    def __init__(self, asked: Sequence[tuple[str, str | None]]) -> None:
        """Keep their addresses and refs."""
        super().__init__(asked)
        self.asked = asked


@dataclass(frozen=True)
class Installer:
    """uv, at work for a project."""

    checkout: Checkout
    get_uv: Callable[[], Path]
    """Returns the uv program, and unpacks it first if need be."""
    platform: str
    space: Workspace
    shell: Shell
    indexes: tuple[str, ...] = field(default=(), repr=False)
    """Addresses, with credentials, of private package indexes that are asked first."""
    with_itself: bool = False
    """Whether the project itself is installed, too: its handler lies in its own package."""

    @functools.cached_property
    def requirements(self) -> Path | None:
        """The file in which the project says what it needs; of some, what these say, as requirements."""
        found = find_requirements(self.checkout.project)
        if found and found.name == "setup.cfg":
            lines = self.space.root / "setup.cfg.txt"
            lines.write_text("\n".join(setup_cfg_requirements(found.parent)))
            return lines
        if found is None or found.name != "uv.lock":
            return found
        target = self.space.root / "uv.lock.txt"
        options = ("--frozen", "--no-dev", "--no-emit-project", "--no-header", "--quiet")
        with self._troubles(found):
            self.shell.run(Command([self.get_uv(), "export", *options, "--output-file", target], self.checkout.project))
        return target

    @functools.cached_property
    def groups(self) -> list[str]:
        """The dependency groups that the project wants installed."""
        return dependency_groups(self.checkout.project)

    @functools.cached_property
    def settings(self) -> UvSettings:
        """The project's settings of uv; read before anything is built that might rewrite them."""
        return read_uv_settings(self.checkout.project, self.checkout.root)

    @functools.cached_property
    def told_versions(self) -> list[ToldVersion]:
        """What builds are told that would ask git for a version: the project's, and those of what it has from Git."""
        checkout = self.checkout
        told = [told_version(checkout.project, checkout.tag, checkout.commit)]
        for each in checkout.required.repositories:
            told += [told_version(folder, each.tag, each.commit) for folder in project_folders(Path(each.folder))]
        return [each for each in told if each]

    def install(self, target: Path) -> None:
        """Install what the project requires into a folder; raise DependencyError, SourceError, RepositoriesAsked."""
        own: list[str | Path] = [self.checkout.project] if self.with_itself else []
        if self.requirements or self.groups or own:
            with self._troubles(self.requirements or self.checkout.project / "pyproject.toml"):
                options = ("--target", target, "--no-editable", "--link-mode", "hardlink")
                self._run("install", *options, *own, "--requirements")
        check_workspace(self.space, DependencyError)

    def resolve(self, constraints: Iterable[str] = ()) -> str | None:
        """Return what would be installed now, as a pylock.toml; None if it cannot be told.  Raise RepositoriesAsked."""
        limits, resolved = self.space.root / "constraints.txt", self.space.root / "pylock.toml"
        limits.write_text("\n".join(constraints))
        resolved.unlink(missing_ok=True)  # uv would prefer what it says
        options = (
            "--constraint",
            limits,
            "--quiet",
            "--no-header",
            "--format",
            "pylock.toml",
            "--output-file",
            resolved,
        )
        with contextlib.suppress(CommandFailed):
            self._run("compile", *options)
            check_workspace(self.space, DependencyError)  # builds of requirements may have run
            return resolved.read_text(errors="replace")
        return None

    def _run(self, *command: str | Path) -> None:
        config = self.space.root / "uv.toml"
        variables = {each.name: dict(each.variables) for each in self.told_versions if each.name and each.variables}
        config.write_text(self.settings.with_build_variables(variables), errors="surrogateescape")
        unnamed = {name: text for each in self.told_versions if not each.name for name, text in each.variables.items()}
        options: list[str | Path] = ["--config-file", config, *(f"--group={each}" for each in self.groups)]
        argv = [self.get_uv(), "pip", command[0], "--python", sys.executable, *options, *command[1:]]
        run = Command(
            [*argv, self.requirements or os.devnull],
            self.checkout.project,
            {"SOURCE_DATE_EPOCH": "315532800", "UV_NO_GITHUB_FAST_PATH": "1", **unnamed},
        )
        with self._git():
            self.shell.run(self._lent(run))

    @contextlib.contextmanager
    def _git(self) -> Iterator[None]:
        """Let uv find a git that has what was fetched; raise RepositoriesAsked if it fails for want of others."""
        required, root = self.checkout.required, self.space.root
        table, asked, git = root / "repositories.txt", root / "asked.txt", self.space.bin / "git"
        stand_in.write_table(table, [(each.url, each.ref, each.commit, each.folder) for each in required.repositories])
        asked.unlink(missing_ok=True)
        command = [*script(stand_in.__name__, "-I", "-S"), table, asked]
        git.write_text(stand_in.SCRIPT.format(command=shlex.join(map(str, command))))
        git.chmod(0o755)
        try:
            yield
        except CommandFailed:
            wanted = stand_in.read_asked(asked)
            failed = [why for url, ref, why in required.failures if (url, ref) in wanted]
            if failed:
                raise SourceError("\n".join(failed)) from None
            if wanted:
                raise RepositoriesAsked(wanted) from None
            raise
        finally:
            git.unlink(missing_ok=True)

    def _lent(self, command: Command) -> Command:
        """Return uv's command as one of the index proxy, if there is anything for that to lend it."""
        required = self.checkout.required
        if not required.repositories and not required.failures and not self.indexes:
            return command
        job = {
            "argv": [str(part) for part in command.argv],
            "config": str(self.space.root / "uv.toml"),
            "texts": dict(required.texts),
            "indexes": self.indexes,
        }
        proxy = program("yo_dawg.workshop.package.index_proxy", self.space)
        environ = {**command.environ, **proxy.environ}
        return replace(command, argv=proxy.argv, environ=environ, stdin=json.dumps(job).encode())

    @contextlib.contextmanager
    def _troubles(self, requirements: Path) -> Iterator[None]:
        try:
            yield
        except CommandFailed as error:
            refuse_if_disk_full(error, self.space)
            raise DependencyError(
                f"Cannot install {requirements.name}: uv {error.ending}. "
                f"{install_advice(error.lines, self.platform)}{error.quoted_tail}"
            ) from None


def leave_to_runtime(installer: Installer, installed: Installed) -> Installed:
    """Say what of what was installed the runtime has too, for a project that wants it so (``runtime_boto3``).

    Whether the runtime's own boto3 satisfies all that asks for it is the installer's to say.
    """
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


def install_advice(lines: Sequence[str], platform: str) -> str:
    """Say what uv's output means for the one who must act, with the line that says which requirement it is."""
    for pattern, advice in INSTALL_ADVICE:
        for line in lines:
            if re.search(pattern, line, re.IGNORECASE):
                return f"{advice.format(platform=platform)}\n{line.strip()[:300]}"
    return "Does it install with uv on your own machine?"


def look_at_installed(staging: Path) -> Installed:
    """List what was installed, and whose each file is; name what came from Git by its address and commit."""
    records: dict[str, str] = {}
    owners: dict[str, str] = {}
    digests: dict[str, str] = {}
    for distribution in importlib.metadata.distributions(path=[str(staging)]):
        # Metadata that is none: its files stay unowned.
        with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError, RecursionError, csv.Error):
            name = printable(distribution.name)
            content = distribution.read_text("RECORD") or ""
            came_from = git_origin(json.loads(distribution.read_text("direct_url.json") or "{}"))
            label = f"{name} @ {came_from}" if came_from else f"{name}=={distribution.version}"
            records[printable(label)] = hashlib.sha256(content.encode()).hexdigest()
            for path, digest, *_ in csv.reader(content.splitlines()):
                owners[file := os.path.normpath(path)] = name
                if digest.startswith("sha256="):
                    digests[file] = digest.removeprefix("sha256=")
    return Installed(tuple(sorted(records, key=str.lower)), owners, records, digests=digests)


def git_origin(direct_url: Mapping[str, Any]) -> str | None:
    """Return what a direct_url.json (PEP 610) says of a repository, as git+URL@COMMIT; None if it is of none."""
    commit = direct_url.get("vcs_info", {}).get("commit_id")
    end = f"#subdirectory={direct_url['subdirectory']}" if direct_url.get("subdirectory") else ""
    return f"git+{stand_in.plain_url(direct_url['url'])}@{commit}{end}" if commit else None


def project_folders(root: Path) -> list[Path]:
    """Return the folders of a repository in which something can be built, the repository itself first."""
    inner = {Path(entry.path).parent for entry in entries_below(root) if entry.name in VERSION_FILES}
    return [root, *sorted(inner - {root})]


def normal(pin: str) -> str:
    """Return NAME==VERSION with its name in the one spelling of all that mean the same (PEP 503)."""
    name, equals, version = pin.partition("==")
    return re.sub(r"[-_.]+", "-", name.strip()).lower() + equals + version.strip()
