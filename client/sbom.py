"""deploy.sh sbom: what a function runs, as a CycloneDX document.

The same package gives the same bytes: nothing in the document tells when, where or by whom it was made.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
from packaging.utils import canonicalize_name

from client.contents import Distribution, read_contents, short
from client.faults import Fault
from client.main import App
from client.output import write_output
from client.stored import address, describe_running, fetch_package, function_name, package_key, told_of_package

MAX_COMPONENTS = 5_000

REQUIREMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:==([^\s;@]+)| @ (\S+))")
"""A dependency as a build tells it: ``name==version``, or ``name @ git+URL@COMMIT``."""


@click.command("sbom")
@click.argument("function", metavar="FUNCTION")
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Write it into this file.")
@click.pass_obj
def command(app: App, /, function: str, output: Path | None) -> None:
    """Print what FUNCTION runs now as a CycloneDX document: names, versions, licences, digests.

    Layers and the runtime's own packages are not in it.
    """
    name = function_name(function)
    running = describe_running(app, function)
    code = str(running["CodeSha256"])
    zipped = fetch_package(app, name, code)
    if zipped is None:
        raise Fault(
            f"{name} runs {code}, which yo-dawg has not stored: there is no {address(app, package_key(name, code))}. "
            f'Somebody has deployed it in another way. Build it with "./deploy.sh build REPO --function {name}", '
            "then run this again."
        )
    with zipped:
        contents = read_contents(zipped, f"the package of {name}")
    told = told_of_package(app, name, code).get("dependencies")
    text = document(name, code, contents.distributions, told if isinstance(told, list) else [])
    if running.get("Layers"):
        app.screen.warn(f"the layers of {name} are not in this document.")
    if output:
        write_output(app, output, text, function=name)
    else:
        print(text, end="", file=app.screen.out.file, flush=True)


def document(function: str, code_sha256: str, shipped: Iterable[Distribution], told: Iterable[object]) -> str:
    """Return the document, validated; raise Fault for what CycloneDX does not allow.

    ``told`` is what the build said that it installed: it counts for what has no metadata in the package.
    """
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    digest = HashType(alg=HashAlgorithm.SHA_256, content=base64.b64decode(code_sha256).hex())
    root = Component(name=function, type=ComponentType.APPLICATION, bom_ref=f"function:{function}", hashes=[digest])
    bom = Bom()
    bom.metadata.component = root
    found: dict[str, Component] = {}
    installed = dict(installed_by(told))
    for each in shipped:
        found.setdefault(f"{each.name}=={each.version}", component_of(each, installed.get(each.name, ("", ""))[1]))
    for name in sorted(installed.keys() - {each.name for each in found.values()}):
        found[f"{name}=={installed[name][0]}"] = make_component(name, *installed[name])
    if len(found) > MAX_COMPONENTS:
        raise Fault(f"the package of {function} holds more than {MAX_COMPONENTS:,} distributions.")
    bom.components.update(found.values())
    bom.register_dependency(root, found.values())
    value = json.loads(JsonV1Dot6(bom).output_as_string())
    value.pop("serialNumber", None)  # these two would be new each time
    value["metadata"].pop("timestamp", None)
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=True) + "\n"
    if problem := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise Fault(f"what {function} runs cannot be written as CycloneDX: {str(problem.data)[:500]}")
    return text


def installed_by(told: Iterable[object]) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield for each dependency that a build tells of its name, its version and its address, as far as it has them."""
    for each in told:
        if found := REQUIREMENT.fullmatch(each) if isinstance(each, str) else None:
            yield canonicalize_name(short(found[1])), (short(found[2] or ""), found[3] or "")


def make_component(name: str, version: str, url: str, **more: Any) -> Any:
    """Return a component of the document; ``url`` is where it came from if that was no index."""
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    qualifiers = {"vcs_url": url} if url.startswith("git+") else {"download_url": url} if url else None
    return Component(
        name=name,
        version=version or None,
        type=ComponentType.LIBRARY,
        bom_ref=f"{name}=={version}",
        purl=PackageURL("pypi", None, name, version or None, qualifiers),
        **more,
    )


def component_of(distribution: Distribution, url: str) -> Any:
    """Return the component that a distribution in the package is."""
    from cyclonedx.model import Property
    from cyclonedx.model.component_evidence import ComponentEvidence, Occurrence

    digest = distribution.record_sha256
    return make_component(
        distribution.name,
        distribution.version,
        url,
        licenses=licenses_of(distribution),
        # Of the list of its files and their digests, as it is in the package: CycloneDX has no word for that.
        properties=[Property(name="yo-dawg:record:sha256", value=digest)] if digest else [],
        evidence=ComponentEvidence(occurrences=[Occurrence(location=short(distribution.folder))]),
    )


def licenses_of(distribution: Distribution) -> list[Any]:
    """Return what a distribution says of its licence: an SPDX expression, else a name, else its classifiers."""
    from cyclonedx.contrib.license.factories import LicenseFactory

    factory = LicenseFactory()
    line = short(distribution.license.strip()) if "\n" not in distribution.license.strip() else ""
    if text := short(distribution.license_expression.strip()) or (line if len(line) <= 100 else ""):
        return [factory.make_from_string(text)]
    named = {each.rpartition(" :: ")[2] for each in distribution.classifiers if each.startswith("License :: ")}
    return [factory.make_with_name(short(each)) for each in sorted(named - {"OSI Approved"}) if each]
