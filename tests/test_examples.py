"""The examples, each built by yo-dawg and then run: what counts is what it answers."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
from collections import defaultdict
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from PIL import Image

from tests.support.embedded import NEWEST, ROOT, Builder, FunctionFailed

EXAMPLES = ROOT / "examples"

USELESS = ("tests/", "README", "requirements", "make_dist", "pytest.ini", ".")
"""What the names of a project's files begin with that have no place in its package."""

pytestmark = [pytest.mark.embedded, NEWEST]


class Example:
    """An example, built and deployed."""

    def __init__(self, builder: Builder, name: str) -> None:
        """Serve it as a repository, make its function and what it needs, and build it."""
        self.builder, self.folder = builder, EXAMPLES / name
        # A function keeps its runtime, and the builders of all runtimes share one AWS.
        self.name = f"{name}-on-{builder.runtime.replace('.', '')}"
        about = json.loads((self.folder / "local.json").read_text())
        self.event = about["event"]
        self.commit = builder.add_repository(name, self.folder)
        builder.create_function(self.name, handler=about.get("handler", "lambda_function.lambda_handler"))
        for bucket, objects in about.get("buckets", {}).items():
            make_empty_bucket(builder.s3, bucket)
            for key, file in objects.items():
                builder.s3.put_object(Bucket=bucket, Key=key, Body=(self.folder / file).read_bytes())
        self.built = builder.build(repo_name=name, function=self.name)

    def invoke(self, event: object | None = None) -> Any:
        """Invoke what was built, with its own event unless another is given."""
        return self.builder.invoke(self.name, self.event if event is None else event)

    def files(self) -> set[str]:
        """Return the names of all files in the package."""
        with self.builder.package(self.name) as package:
            return set(package.namelist())

    def requirements(self) -> dict[str, str]:
        """Return the versions that its requirements.txt pins."""
        lines = (self.folder / "requirements.txt").read_text().split()
        return dict(line.split("==") for line in lines)


def make_empty_bucket(s3: Any, name: str) -> None:
    """Make a bucket, or empty the one that another runtime's test left."""
    with contextlib.suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        s3.create_bucket(Bucket=name)
    for each in s3.list_objects_v2(Bucket=name).get("Contents", []):
        s3.delete_object(Bucket=name, Key=each["Key"])


def assert_built(example: Example) -> None:
    """What is true of each: it was deployed, from this commit, with what it pins and without what it does not need."""
    assert example.built["status"] == "deployed"
    assert example.built["commit"] == example.commit
    pinned = {f"{name}=={version}" for name, version in example.requirements().items()}
    assert pinned <= set(example.built["dependencies"])
    names = example.files()
    assert len(names) == example.built["package"]["files"]
    own = {str(path.relative_to(example.folder)) for path in example.folder.rglob("*") if path.is_file()}
    useless = {name for name in own if name.startswith(USELESS)}
    assert {"tests", "README.md"} <= {PurePosixPath(name).parts[0] for name in useless}
    assert not useless & names
    assert not {name for name in names if "/tests/test_" in name}


@pytest.fixture(scope="module")
def hello(builder: Builder) -> Example:
    return Example(builder, "hello")


@pytest.fixture(scope="module")
def thumbnail(builder: Builder) -> Example:
    return Example(builder, "thumbnail")


@pytest.fixture(scope="module")
def report(builder: Builder) -> Example:
    return Example(builder, "report")


# --- hello ------------------------------------------------------------------------------------------


def test_hello_is_built(hello: Example) -> None:
    assert_built(hello)
    assert "lambda_function.py" in hello.files()


def test_hello_greets_with_the_libraries_it_pins(hello: Example) -> None:
    answer = hello.invoke({"name": "Ada & Co"})
    assert answer["greeting"] == "Hello, Ada & Co!"
    assert answer["link"] == "https://example.com/search?q=Ada+%26+Co"
    assert {name: answer["versions"][name] for name in ("requests", "cryptography")} == hello.requirements()
    assert re.match(r"OpenSSL \d+\.", answer["versions"]["openssl"])
    assert f"python{answer['versions']['python']}".startswith(f"{hello.builder.runtime}.")


# --- thumbnail --------------------------------------------------------------------------------------


def test_thumbnail_is_built(thumbnail: Example) -> None:
    assert_built(thumbnail)
    names = thumbnail.files()
    assert "lambda_function.py" in names
    assert "sample.jpg" not in names, "make_dist.sh does not copy it"
    assert "PIL/Image.py" in names
    assert not {name for name in names if re.match(r"PIL/(_imagingtk.*\.so|ImageTk\.py)$", name)}, "make_dist.sh's rm"


def test_thumbnail_puts_a_small_upright_picture_beside_the_large_one(thumbnail: Example) -> None:
    answer = thumbnail.invoke()
    assert answer == {
        "made": [
            {
                "key": "thumbnails/beach 2025.jpg",
                "size": [192, 256],
                "of": {"key": "beach 2025.jpg", "size": [480, 640]},
            }
        ],
        "skipped": [],
    }
    stored = thumbnail.builder.s3.get_object(Bucket="pictures", Key="thumbnails/beach 2025.jpg")
    assert stored["ContentType"] == "image/jpeg"
    with Image.open(io.BytesIO(stored["Body"].read())) as picture:
        assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (192, 256))
        assert not picture.getexif()
        # The camera lay on its side.  Upright, the sun is at the top right, and the sand at the bottom.
        assert_color(picture, (140, 44), (255, 225, 90))
        assert_color(picture, (40, 240), (222, 196, 140))
        assert_color(picture, (56, 130), (70, 110, 80))


def assert_color(picture: Image.Image, at: tuple[int, int], expected: tuple[int, int, int]) -> None:
    """Compare a pixel, as nearly as JPEG keeps it."""
    found = picture.getpixel(at)
    assert isinstance(found, tuple)
    assert all(abs(a - b) <= 8 for a, b in zip(found, expected, strict=True)), f"{found} at {at}, not {expected}"


def test_thumbnail_says_what_it_skips(thumbnail: Example) -> None:
    thumbnail.builder.s3.put_object(Bucket="pictures", Key="notes.txt", Body=b"no picture")
    event = json.loads(json.dumps(thumbnail.event))
    event["Records"][0]["s3"]["object"]["key"] = "notes.txt"
    skipped = [{"key": "notes.txt", "reason": "it is no picture that Pillow knows"}]
    assert thumbnail.invoke(event) == {"made": [], "skipped": skipped}


# --- report -----------------------------------------------------------------------------------------


def test_report_is_built(report: Example) -> None:
    assert_built(report)
    names = report.files()
    assert {"report/app.py", "report/data/sales.csv", "pandas/__init__.py", "numpy/__init__.py"} <= names
    assert not {name for name in names if name.startswith(("tzdata/zoneinfo/", "numpy/f2py/", "src/"))}


@pytest.mark.parametrize("by", ["region", "product", "month"])
def test_report_sums_up_the_file_that_it_ships(report: Example, by: str) -> None:
    sums = sums_of(report.folder / "data" / "sales.csv", by)
    answer = report.invoke({"by": by})
    assert answer["by"] == by
    assert answer["revenue"] == pytest.approx(sum(sums.values()), abs=0.01)
    assert [group[by] for group in answer["groups"]] == sorted(sums, key=lambda name: -sums[name])
    assert {group[by]: group["revenue"] for group in answer["groups"]} == pytest.approx(sums, abs=0.01)


def sums_of(path: Path, by: str) -> dict[str, float]:
    """Sum up a file of sales, without pandas."""
    sums: dict[str, float] = defaultdict(float)
    with path.open() as file:
        for row in csv.DictReader(file):
            row["month"] = row["date"][:7]
            sums[row[by]] += int(row["quantity"]) * float(row["price"])
    return dict(sums)


def test_report_refuses_what_it_cannot_group_by(report: Example) -> None:
    with pytest.raises(FunctionFailed, match="ValueError: cannot report by 'color': choose one of region, product"):
        report.invoke({"by": "color"})
