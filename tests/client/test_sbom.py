"""sbom: what a function runs, as CycloneDX."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from client import contents
from client.contents import read_contents
from client.faults import Fault
from tests.support.fake_aws import ACCOUNT, Desk, Refusal
from tests.support.packages import Bucket, make_package, metadata

RECORD = "requests/__init__.py,sha256=x,1\nrequests-2.34.2.dist-info/RECORD,,\n"

FILES = {
    "lambda_function.py": "import requests",
    "requests/__init__.py": "1",
    "requests-2.34.2.dist-info/METADATA": metadata("Requests", "2.34.2", "License: Apache-2.0"),
    "requests-2.34.2.dist-info/RECORD": RECORD,
    "zope_interface-8.0.dist-info/METADATA": metadata(
        "zope.interface", "8.0", "Classifier: License :: OSI Approved :: Zope Public License", "License: long\n  text"
    ),
    "cffi-2.1.1.dist-info/METADATA": metadata("cffi", "2.1.1", "License-Expression: MIT-0 OR MIT"),
    "cffi/_vendor/six-1.17.0.dist-info/METADATA": metadata("six", "1.17.0"),
}


def by_name(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in document["components"]}


def test_the_document_names_what_is_in_the_package(desk: Desk) -> None:
    package = make_package(FILES)
    Bucket(desk.aws).store(package, dependencies=["cffi @ git+https://git.example/cffi@0123", "pruned==1.0", 7])
    ran = desk.deploy("sbom", f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:project")
    assert (ran.status, ran.error) == (0, "")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(ran.out) is None
    document = json.loads(ran.out)
    root = document["metadata"]["component"]
    assert (root["name"], root["type"]) == ("project", "application")
    assert root["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(package).hexdigest()}]
    found = by_name(document)
    assert {name: (each["version"], each["purl"]) for name, each in found.items()} == {
        "requests": ("2.34.2", "pkg:pypi/requests@2.34.2"),
        "zope-interface": ("8.0", "pkg:pypi/zope-interface@8.0"),
        "cffi": ("2.1.1", "pkg:pypi/cffi@2.1.1?vcs_url=git%2Bhttps://git.example/cffi%400123"),
        "six": ("1.17.0", "pkg:pypi/six@1.17.0"),
        "pruned": ("1.0", "pkg:pypi/pruned@1.0"),
    }
    assert {name: each.get("licenses") for name, each in found.items()} == {
        "requests": [{"license": {"id": "Apache-2.0"}}],
        "zope-interface": [{"license": {"name": "Zope Public License"}}],
        "cffi": [{"expression": "MIT-0 OR MIT"}],
        "six": None,
        "pruned": None,
    }
    digest = hashlib.sha256(RECORD.encode()).hexdigest()
    assert found["requests"]["properties"] == [{"name": "yo-dawg:record:sha256", "value": digest}]
    assert found["six"]["evidence"]["occurrences"] == [{"location": "cffi/_vendor/six-1.17.0.dist-info"}]
    assert not any("hashes" in each for each in found.values()), "nobody has reckoned any of a distribution"
    [depends] = (each["dependsOn"] for each in document["dependencies"] if each["ref"] == root["bom-ref"])
    assert len(depends) == len(found)


def test_the_same_package_gives_the_same_bytes(desk: Desk, tmp_path: Path) -> None:
    Bucket(desk.aws).store(make_package(FILES))
    first = desk.deploy("sbom", "project").out
    assert desk.deploy("--json", "sbom", "project").out == first
    target = tmp_path / "sbom.json"
    target.write_text("old")
    ran = desk.deploy("sbom", "project", "--output", str(target))
    assert (ran.status, ran.out) == (0, f"{target}\n")
    assert target.read_text() == first
    told = json.loads(desk.deploy("--json", "sbom", "project", "--output", str(target)).out)
    assert told == {"status": "written", "function": "project", "path": str(target)}
    assert not [*tmp_path.glob(".sbom*")], "nothing is left beside it"


def test_what_yo_dawg_has_not_stored_is_told_with_the_next_step(desk: Desk) -> None:
    bucket = Bucket(desk.aws)
    bucket.store(make_package(FILES))
    bucket.objects.clear()
    ran = desk.deploy("sbom", "project")
    assert (ran.status, ran.out) == (1, "")
    assert "which yo-dawg has not stored" in ran.error
    assert './deploy.sh build REPO --function project"' in ran.error


def test_a_package_that_somebody_has_changed_is_not_read(desk: Desk) -> None:
    bucket = Bucket(desk.aws)
    bucket.store(make_package(FILES))
    [key] = bucket.objects
    bucket.objects[key] = make_package({"evil.py": ""})
    ran = desk.deploy("sbom", "project")
    assert (ran.status, ran.out) == (1, "")
    assert "has another SHA-256 than its name says" in ran.error


def test_what_aws_refuses_is_told(desk: Desk, tmp_path: Path) -> None:
    bucket = Bucket(desk.aws)
    bucket.store(make_package(FILES))
    assert "cannot write" in desk.deploy("sbom", "project", "--output", str(tmp_path / "none" / "x")).error
    desk.aws.replies["s3.GetObject"] = Refusal("AccessDenied", status=403)
    assert "cannot read s3://artifacts/yo-dawg/packages/project/" in desk.deploy("sbom", "project").error
    desk.aws.replies["lambda.GetFunctionConfiguration"] = Refusal("ResourceNotFoundException")
    assert "there is no function project in us-east-1" in desk.deploy("sbom", "project").error
    desk.aws.replies["lambda.GetFunctionConfiguration"] = Refusal("AccessDeniedException")
    ran = desk.deploy("sbom", "project")
    assert (ran.status, ran.out) == (1, "")
    assert "cannot look at project" in ran.error
    assert "Traceback" not in ran.error


def test_layers_are_told_to_be_left_out(desk: Desk) -> None:
    bucket = Bucket(desk.aws)
    bucket.store(make_package(FILES))
    bucket.running["Layers"] = [{"Arn": f"arn:aws:lambda:us-east-1:{ACCOUNT}:layer:x:1"}]
    ran = desk.deploy("sbom", "project")
    assert ran.status == 0
    assert ran.error == "Warning: the layers of project are not in this document.\n"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"\xff\xfe\x00", id="bytes"),
        pytest.param(metadata("\x1b[31m<b>", "1\x00\n"), id="control characters"),
        pytest.param(metadata("x" * 5000, "y" * 5000, "License-Expression: (("), id="long, and no expression"),
        pytest.param("Name: =?x?=?=\nVersion: =?utf-99?q?=00?=\nLicense: =?bogus?b?!!?=\n", id="encoded words"),
        pytest.param("Name: a\nName: b\nVersion: 1\nLicense: a\nLicense: b\n", id="twice"),
        pytest.param("", id="nothing"),
    ],
)
def test_hostile_metadata_gives_a_document_all_the_same(desk: Desk, text: str | bytes) -> None:
    Bucket(desk.aws).store(make_package({"x-1.dist-info/METADATA": text, "x-1.dist-info/RECORD": '"\x00' * 9}))
    ran = desk.deploy("sbom", "project")
    assert ran.status == 0, ran.error
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(ran.out) is None


def test_how_much_is_read_of_a_package_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(package: bytes) -> None:
        read_contents(io.BytesIO(package), "it")

    two = make_package({f"{name}-1.dist-info/METADATA": metadata(name, "1") + " " * 700 for name in "ab"})
    read(two)
    with pytest.raises(Fault, match="it cannot be read as a zip"):
        read(b"PK")
    for name, value, said in (
        ("MAX_MEMBER", 500, "is too large"),
        ("MAX_MEMBERS", 1200, "is too large"),
        ("MAX_DISTRIBUTIONS", 1, "holds 2 distributions"),
        ("MAX_DIRECTORY", 120, "its table of contents has"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(contents, name, value)
            with pytest.raises(Fault, match=said):
                read(two)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x-1.dist-info/METADATA", metadata("x", "1"))
    with pytest.raises(Fault, match="compressed in a way that Lambda does not know"):
        read(made.getvalue())
