"""Having a package made: what the package program is given, and what it answers.

The open files that it gets are fetched while the Git host is at work.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from yo_dawg.control.archives import ARCHIVES, OpenFile
from yo_dawg.control.clients import translate_aws_errors
from yo_dawg.control.functions import hide_environment
from yo_dawg.control.git import MAX_ROUNDS, clone_again
from yo_dawg.control.manifests import Manifest, builder_inputs, fetch_previous, may_be_unchanged
from yo_dawg.control.packages import fetch_from_aws
from yo_dawg.control.toolchain import fetch_toolchain
from yo_dawg.control.workshop import MAX_ENTRIES
from yo_dawg.digests import base64_to_hex, in_base64
from yo_dawg.errors import ConfigError, PackageError, SourceError, YoDawgError
from yo_dawg.jobs import PackageJob, ProvenFunction
from yo_dawg.limits import LARGEST, MAX_MODULE_NAME, MOST_IMPORTS
from yo_dawg.text import printable

if TYPE_CHECKING:
    from yo_dawg.control.functions import Target
    from yo_dawg.control.git import Cloned
    from yo_dawg.control.job import Job
    from yo_dawg.events import BuildRequest

MAX_NUMBER = 1 << 53
"""The largest that every reader of JSON takes for the same; no count or size of a package comes near."""


@dataclass(frozen=True)
class Materials:
    """The downloads that have begun; see ``Workshop`` for who may do what with threads."""

    manifest: Manifest | None
    uv: Future[OpenFile]
    previous: Future[dict[str, OpenFile]] | None
    layers: Sequence[Future[list[OpenFile] | None]]
    """For each function its layers; None if one cannot be had."""

    def files(self, targets: Sequence[Target]) -> tuple[dict[str, OpenFile], tuple[ProvenFunction, ...]]:
        """Wait for the downloads; return the open files, and the functions that the package is proved for."""
        files = {"uv": self.uv.result()}
        if self.previous:
            files |= self.previous.result()
        proven = []
        for target, fetched in zip(targets, self.layers, strict=True):
            layers = fetched.result()
            each = ProvenFunction(
                name=target.name,
                handler=target.handler,
                environment=dict(target.environment),
                has_environment=target.environment_error is None,
                memory_mb=target.memory_mb,
                log_group=target.log_group,
                layers=target.layers,
                has_layers=layers is not None,
            )
            files |= {each.layer_file(number): file for number, file in enumerate(layers or ())}
            proven.append(each)
        return files, tuple(proven)


def gather(targets: Sequence[Target], manifest: Manifest | None, job: Job) -> Materials:
    """Begin to fetch what a package is made with."""
    if manifest is None:
        ARCHIVES.make_room()  # dependencies will be installed
    is_proved = job.settings.proof != "off"
    return Materials(
        manifest=manifest,
        uv=job.workshop.fetch(fetch_toolchain, "uv", job),
        previous=job.workshop.fetch(fetch_previous, targets[0], job) if manifest else None,
        layers=[job.workshop.fetch(fetch_layers, target.layers if is_proved else (), job) for target in targets],
    )


def fetch_layers(arns: Sequence[str], job: Job) -> list[OpenFile] | None:
    """Fetch a function's layers; None if one cannot be had, which the log then says."""
    files = []
    for arn in arns:
        file = OpenFile(job.space.root)
        try:
            with translate_aws_errors(f"read the layer {arn}"):
                content = job.aws.functions.get_layer_version_by_arn(Arn=arn)["Content"]
            fetch_from_aws(content["Location"], file.file)
            if file.sha256().hexdigest() != base64_to_hex(content["CodeSha256"]):
                raise OSError("it has another SHA-256 than Lambda says")
        except (YoDawgError, OSError, LookupError, ValueError) as error:
            job.log.info(f"Warning: the layer {arn} cannot be read: {printable(str(error))}.")
            return None
        files.append(file)
    return files


def package_job(
    request: BuildRequest, targets: Sequence[Target], cloned: Cloned, materials: Materials, job: Job
) -> tuple[PackageJob, dict[str, Any]]:
    """Return what is asked of the package program, and the open files that go with it."""
    for target in targets:
        hide_environment(target, job.log)
    files, functions = materials.files(targets)
    manifest, settings = materials.manifest, job.settings
    question = PackageJob(
        workspace=str(job.space.root),
        subdirectory=request.subdirectory or "",
        functions=functions,
        platform=job.builder.platform,
        region=job.builder.arn.split(":")[3],
        proof=settings.proof,
        bytecode=settings.bytecode,
        runtime_dir=settings.runtime_dir,
        builder=builder_inputs(job),
        indexes=job.indexes,
        may_be_unchanged=manifest is not None and may_be_unchanged(manifest, cloned.commit, request, targets, job),
    )
    return question, files


@dataclass(frozen=True)
class BuildOutput:
    """A package that is ready to be deployed, and what the workshop tells of it."""

    file: OpenFile
    code_sha256: str
    """Reckoned here, of what is in the file."""
    result: Mapping[str, Any]
    """What build's answer says of it (contract §5)."""
    is_pinned: bool
    """Whether the package index has no say in what is installed."""
    dependencies: OpenFile
    """What the next build's workshop wants to know; nobody else reads it."""


def make_package(
    request: BuildRequest, targets: Sequence[Target], cloned: Cloned, materials: Materials, job: Job
) -> BuildOutput | Manifest:
    """Have the package made; if it would be the one that the functions run, return the manifest of that.

    Where uv asks for Git repositories that were not cloned with the project, all begins anew, with those.
    Raises SourceError, DependencyError, BuildScriptError, PackageError, ConfigError.
    """
    question, files = package_job(request, targets, cloned, materials, job)
    output, dependencies = OpenFile(job.space.root), OpenFile(job.space.root)
    files |= {"package": output, "dependencies": dependencies}
    try:
        said = job.workshop.ask("package", question.to_json(), files, job.log, PackageError)
        for _ in range(MAX_ROUNDS):
            if "asked" not in said:
                break
            cloned = clone_again(cloned, said["asked"], request, job)
            said = job.workshop.ask("package", question.to_json(), files, job.log, PackageError)
    except ConfigError:
        ARCHIVES.make_room(0)  # the disk may be full: the next invocation gets all of it
        raise
    if "asked" in said:
        raise SourceError(
            f"The project's requirements lie too deep in Git: its installer was given those that it asked for "
            f"{MAX_ROUNDS} times, and still asks for more. Name them in requirements.txt."
        )
    if said.get("unchanged") is True and question.may_be_unchanged and materials.manifest:
        return materials.manifest
    if not output.size:
        raise PackageError("The program that should make the package made none.")
    digest = in_base64(output.sha256())
    told = package_result(said, job)
    told["package"]["zip_bytes"] = output.size
    result = {"commit": cloned.commit, "ref": cloned.ref, "code_sha256": digest, **told}
    return BuildOutput(output, digest, result, said.get("pinned") is True, dependencies)


def package_result(said: Mapping[str, Any], job: Job) -> dict[str, Any]:
    """Return what build's answer says of a package, of the kinds that the contract names, whatever the answer holds."""

    def text(value: object) -> str:
        return printable(job.log.mask(value)) if isinstance(value, str) else "?"

    def number(value: object) -> int:
        return int(value) if isinstance(value, (int, float)) and 0 <= value <= MAX_NUMBER else 0

    def texts(value: object) -> list[str]:
        return [text(each)[:2000] for each in value[:MAX_ENTRIES]] if isinstance(value, list) else []

    def pairs(value: object) -> dict[str, Any]:
        return {text(key): each for key, each in list(value.items())[:MAX_ENTRIES]} if isinstance(value, dict) else {}

    def counted(value: object, most: int) -> list[list[Any]]:
        few = value[:most] if isinstance(value, list) else ()
        return [[text(each[0]), number(each[1])] for each in few if isinstance(each, list) and len(each) == 2]

    pruned = pairs(said.get("pruned"))
    return {
        "package": {
            "zip_bytes": 0,
            "unzipped_bytes": number(said.get("unzipped_bytes")),
            "files": number(said.get("files")),
            "largest": counted(said.get("largest"), LARGEST),
        },
        "dependencies": texts(said.get("dependencies")),
        "dependency_records": {
            name: digest
            for name, digest in pairs(said.get("dependency_records")).items()
            if isinstance(digest, str) and re.fullmatch(r"[0-9a-f]{64}", digest)
        },
        "pruned": {
            "files": number(pruned.get("files")),
            "bytes": number(pruned.get("bytes")),
            "reasons": {name: number(count) for name, count in pairs(pruned.get("reasons")).items()},
            "kept": {name: text(why) for name, why in pairs(pruned.get("kept")).items()},
        },
        "imports": [[name[:MAX_MODULE_NAME], spent] for name, spent in counted(said.get("imports"), MOST_IMPORTS)],
        "left_out": texts(said.get("left_out")),
        "warnings": texts(said.get("warnings")),
    }
