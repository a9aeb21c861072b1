"""report: the page about a function, and that nothing in a package can do harm in it."""

from __future__ import annotations

import colorsys
import html.parser
import io
import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from client import treemap
from client.changes import Change, compare
from client.contents import Contents, read_contents
from client.treemap import Box, draw, make_tree, squarify
from tests.support.fake_aws import ACCOUNT, Desk, Refusal
from tests.support.packages import Bucket, make_package, metadata

EVIL = "<script>alert(1)</script>"

OLD = {
    "lambda_function.py": "import requests, six",
    "requests/__init__.py": "x" * 400,
    "requests-2.33.0.dist-info/METADATA": metadata("requests", "2.33.0"),
    "requests-2.33.0.dist-info/RECORD": "requests/__init__.py,,\nrequests-2.33.0.dist-info/METADATA,,\n",
    "six.py": "x" * 100,
    "six-1.17.0.dist-info/METADATA": metadata("six", "1.17.0"),
    "six-1.17.0.dist-info/RECORD": "six.py,,\n",
}

NEW = {
    "lambda_function.py": "import requests, cffi",
    f"static/{EVIL}": "y" * 5000,
    'static/"quotes"\' & \u202egnp.exe': "y" * 900,
    "requests/__init__.py": "x" * 3000,
    "requests/__pycache__/__init__.cpython-313.pyc": "c" * 3000,
    "requests/sessions.py": "x" * 800,
    "requests-2.34.2.dist-info/METADATA": metadata("requests", "2.34.2"),
    "requests-2.34.2.dist-info/RECORD": "requests/__init__.py,,\nrequests/sessions.py,,\n",
    "cffi/__init__.py": "z" * 9000,
    "cffi-2.1.1.dist-info/METADATA": metadata("cffi", "2.1.1"),
    "cffi-2.1.1.dist-info/RECORD": "cffi/__init__.py,,\n",
}

RESULT: dict[str, Any] = {
    "package": {"zip_bytes": 2_100_000, "unzipped_bytes": 6_400_000, "files": 312},
    "pruned": {"files": 3, "bytes": 4000, "reasons": {"tests": 3000, "<b>docs": 1000}},
    "imports": [["lambda_function", 312000], ["requests", 250000], [EVIL, 1500]],
}


def put_history(bucket: Bucket) -> None:
    """Store two packages, the ledger that tells of them, and a record."""
    old = bucket.store(make_package(OLD))
    new = bucket.store(make_package(NEW), **RESULT)
    began = 1795248000
    entry = {
        "began": began, "status": "deployed", "title": 'build project v"1\'<i>', "commit": "fedcba9876543210",
        "ref": 'v"1\'><img src=x onerror=alert(2)>', "version": "$LATEST", "code_sha256": new, "replaces": old,
        "record": "builds/project/1", "error": None, "asked_by": "<u>me",
    }  # fmt: skip
    failed = {
        "began": began + 9,
        "status": "failed",
        "title": "build project",
        "error": "SourceError: no",
        "record": "x",
    }
    bucket.put("locks/project", {"holder": None, "history": [failed, entry]})
    seconds = {"total": 4.5, "clone": 1.5, "install": 3.0}
    bucket.put("builds/project/1.json", {"result": {**RESULT, "code_sha256": new, "seconds": seconds}})


@pytest.fixture
def bucket(desk: Desk) -> Bucket:
    made = Bucket(desk.aws)
    put_history(made)
    return made


class Reader(html.parser.HTMLParser):
    """What a browser makes of a page: its elements, their attributes, and the text that is shown."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.attributes, self.text = Counter[str](), set[str](), ""
        self.policy = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes |= {name for name, _ in attrs}
        if dict(attrs).get("http-equiv") == "Content-Security-Policy":
            self.policy = dict(attrs)["content"] or ""

    def handle_data(self, data: str) -> None:
        self.text += data


def make_page(desk: Desk, tmp_path: Path, name: str = "page.html") -> tuple[Path, Reader]:
    target = tmp_path / name
    ran = desk.deploy("report", "project", "--output", str(target))
    assert (ran.status, ran.out, ran.error) == (0, f"{target}\n", "")
    return target, Reader(target.read_text())


def test_the_page_tells_of_the_package_the_build_and_the_history(bucket: Bucket, desk: Desk, tmp_path: Path) -> None:
    _, page = make_page(desk, tmp_path)
    for said in (
        "Deployed 2026-11-21 08:00:00Z", "fedcba9876543210", "2.1 MB zipped, 6.4 MB unzipped, 312 files",
        "requests/sessions.py — 0.8 kB", "cffi/__init__.py — 9.0 kB", "pruned: tests — 3.0 kB",
        "Grey is what pruning took: 4.0 kB", "requests: 250.0 ms", "install: 3.000 s",
        "build project: SourceError",
    ):  # fmt: skip
        assert said in page.text, said
    # Bytecode is of the distribution of its source, though no RECORD names it.
    tree = make_tree(*package_of(NEW), "the project's own", {})
    assert tree.children["requests"].bytes == 6800
    assert "the project's own" in tree.children
    assert bucket.objects


def package_of(files: dict[str, str]) -> tuple[dict[str, int], dict[str, str]]:
    contents = contents_of(files)
    return dict(contents.sizes), contents.owners()


def contents_of(files: dict[str, str]) -> Contents:
    return read_contents(io.BytesIO(make_package(files)), "it")


def test_what_changed_is_told_in_versions_and_bytes() -> None:
    now = {**OLD, "six.py": "y" * 100, "lambda_function.py": OLD["lambda_function.py"]}
    assert compare(contents_of(OLD), contents_of(OLD)) == []
    assert compare(contents_of(OLD), contents_of(now)) == [Change("changed", "six", "1.17.0", "1.17.0", 0)]
    found = {each.name: each for each in compare(contents_of(OLD), contents_of(NEW))}
    assert {name: (each.what, each.before, each.now) for name, each in found.items()} == {
        "cffi": ("added", "", "2.1.1"),
        "six": ("removed", "1.17.0", ""),
        "requests": ("updated", "2.33.0", "2.34.2"),
        "the project's own": ("changed", "", ""),
    }
    assert (found["six"].bytes, found["cffi"].bytes) == (-100, 9000)


def test_what_changed_is_on_the_page(bucket: Bucket, desk: Desk, tmp_path: Path) -> None:
    _, page = make_page(desk, tmp_path)
    assert re.search(r"updatedrequests2\.33\.02\.34\.2\+6\.\d kB", page.text)
    assert "removedsix1.17.0-" in page.text


def test_nothing_in_a_package_or_a_ref_can_be_markup(bucket: Bucket, desk: Desk, tmp_path: Path) -> None:
    target, page = make_page(desk, tmp_path)
    assert EVIL in page.text, "else this shows nothing"
    assert "v\"1'><img src=x onerror=alert(2)>" in page.text
    assert set(page.tags) == {
        "body", "code", "details", "div", "g", "h1", "h2", "head", "html", "meta", "p", "rect", "style", "summary",
        "svg", "table", "tbody", "td", "text", "th", "thead", "title", "tr",
    }  # fmt: skip
    assert page.attributes == {
        "charset", "class", "content", "fill", "height", "http-equiv", "lang", "name", "role", "viewbox", "width",
        "x", "y",
    }  # fmt: skip
    assert "\u202e" not in target.read_text(), "a name could be read as another"


def test_the_page_is_closed_to_the_network_and_to_scripts(bucket: Bucket, desk: Desk, tmp_path: Path) -> None:
    _, page = make_page(desk, tmp_path)
    rules = dict(rule.split(" ", 1) for rule in page.policy.split("; "))
    assert rules.pop("style-src").startswith("'sha256-")
    assert rules == {"default-src": "'none'", "base-uri": "'none'", "form-action": "'none'"}


def test_the_page_is_named_for_the_function_and_replaced_whole(
    bucket: Bucket, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = {*tmp_path.iterdir()}
    (tmp_path / "report-project.html").write_text("old")
    ran = desk.deploy("report", f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:project")
    assert (ran.status, ran.out) == (0, "report-project.html\n")
    first = (tmp_path / "report-project.html").read_text()
    assert first.startswith("<!DOCTYPE html>")
    ran = desk.deploy("--json", "report", "project")
    assert json.loads(ran.out) == {"status": "written", "function": "project", "path": "report-project.html"}
    assert (tmp_path / "report-project.html").read_text() == first
    assert {*tmp_path.iterdir()} - before == {tmp_path / "report-project.html"}


def test_what_cannot_be_had_is_told_on_the_page(bucket: Bucket, desk: Desk, tmp_path: Path) -> None:
    bucket.objects = {key: content for key, content in bucket.objects.items() if key.startswith("locks/")}
    desk.aws.replies["lambda.GetFunctionConfiguration"] = Refusal("AccessDeniedException", "you may not")
    _, page = make_page(desk, tmp_path)
    assert page.text.count("is not stored any more.") == 2
    assert "builds/project/1.json is not there any more." in page.text
    assert "cannot look at project" in page.text
    desk.aws.replies["lambda.GetFunctionConfiguration"] = {"CodeSha256": "other"}
    assert "project runs other now" in make_page(desk, tmp_path)[1].text


def test_records_of_other_kinds_do_no_harm(bucket: Bucket, desk: Desk, tmp_path: Path) -> None:
    told: dict[str, Any] = {"pruned": {"reasons": {"a": "b", "c": -1}}, "imports": [7, ["x"], ["y", "z"]], "package": 7}
    bucket.store(make_package(NEW), **told)
    bucket.put("builds/project/1.json", {"result": {"seconds": {"total": "x", "clone": None}}})
    _, page = make_page(desk, tmp_path)
    assert "Pruning took nothing." in page.text
    assert "Imports" not in page.text
    bucket.objects["builds/project/1.json"] = b"[" * 100_000
    assert "cannot read s3://artifacts/yo-dawg/builds/project/1.json" in make_page(desk, tmp_path)[1].text


def test_without_a_deployment_there_is_no_page(desk: Desk, tmp_path: Path) -> None:
    bucket = Bucket(desk.aws)
    target = tmp_path / "page.html"
    ran = desk.deploy("report", "project", "--output", str(target))
    assert (ran.status, ran.out) == (1, "")
    assert "nothing was built for project yet" in ran.error
    bucket.put("locks/project", {"holder": None, "history": [{"status": "failed", "code_sha256": "x"}]})
    ran = desk.deploy("report", "project", "--output", str(target))
    assert (ran.status, ran.out) == (1, "")
    assert "nothing was deployed to project yet" in ran.error
    assert "'../x' is no name of a function" in desk.deploy("report", "../x").error
    assert not target.exists()


# --- the treemap --------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=60))
def test_rectangles_have_their_share_of_the_area_and_fill_it(sizes: list[int]) -> None:
    sizes.sort(reverse=True)
    whole = Box(10, 20, 1200, 700)
    boxes = [*squarify(sizes, whole)]
    assert sum(box.area for box in boxes) == pytest.approx(whole.area)
    for size, box in zip(sizes, boxes, strict=True):
        assert box.area == pytest.approx(whole.area * size / sum(sizes), rel=1e-6, abs=1e-6)
        assert box.x >= whole.x - 1e-6
        assert box.y >= whole.y - 1e-6
        assert box.x + box.width <= whole.x + whole.width + 1e-6
        assert box.y + box.height <= whole.y + whole.height + 1e-6


def test_rectangles_are_nearly_square() -> None:
    boxes = [*squarify([6, 6, 4, 3, 2, 2, 1], Box(0, 0, 6, 4))]  # the example of the paper
    assert max(max(box.width / box.height, box.height / box.width) for box in boxes) < 3


def test_the_picture_is_bounded_however_many_files_and_however_deep() -> None:
    sizes = {f"{'a/' * (number % 400)}{number}": 1 + number % 7 for number in range(20_000)}
    drawn = draw(make_tree(sizes, {}, "own", {}))
    count = sum(1 for _ in drawn.iter("rect"))
    assert 100 < count < treemap.WIDTH * treemap.HEIGHT / treemap.LEAST_AREA
    assert [each for each in drawn.iter("title") if "smaller ones" in str(each.text)]
    assert not [*draw(make_tree({"empty": 0}, {}, "own", {})).iter("rect")]


# --- a real browser -----------------------------------------------------------------------------------------

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def browse(tmp_path: Path, page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Open a page in a browser without a window and without a network."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium here (chromium, chromium-browser or google-chrome on PATH)")
    command = [
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
        "--no-first-run", "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--window-size=1280,1400",
        *options, page.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, cwd=tmp_path)


def console(ran: subprocess.CompletedProcess[str]) -> list[str]:
    """Return what the browser has to say about a page."""
    return [line for line in ran.stderr.splitlines() if "CONSOLE" in line]


def test_a_browser_draws_the_map_and_has_nothing_to_complain_of(bucket: Bucket, desk: Desk, tmp_path: Path) -> None:
    target, _ = make_page(desk, tmp_path)
    shot = tmp_path / "shot.png"
    ran = browse(tmp_path, target, f"--screenshot={shot}")
    assert console(ran) == []
    with Image.open(shot) as image:
        pixels = image.convert("RGB").getcolors(1 << 24) or []
    drawn = [
        re.fullmatch(r"hsl\(([\d.]+) (\d+)% (\d+)%\)", fill)
        for fill in re.findall('fill="([^"]+)"', target.read_text())
    ]
    fills = {(float(each[1]), float(each[2]), float(each[3])) for each in drawn if each}
    assert len(fills) == 4, "three parts, and grey"
    for hue, saturation, lightness in fills:
        wanted = [round(255 * each) for each in colorsys.hls_to_rgb(hue / 360, lightness / 100, saturation / 100)]
        near = sum(count for count, rgb in pixels if isinstance(rgb, tuple) and is_near(rgb, wanted))
        assert near > 2000, f"hsl({hue}, {saturation}, {lightness}) is hardly to be seen"


def is_near(colour: Sequence[int], other: Sequence[int]) -> bool:
    return all(abs(one - two) < 3 for one, two in zip(colour, other, strict=True))


def test_a_browser_runs_nothing_of_the_page(bucket: Bucket, desk: Desk, tmp_path: Path) -> None:
    target, _ = make_page(desk, tmp_path)
    seen = Reader(browse(tmp_path, target, "--dump-dom").stdout)
    assert (seen.tags["script"], seen.tags["img"]) == (0, 0)
    assert seen.tags["rect"] > 10
    # Were there a script after all, the page's policy would stop it: so this test can see what goes wrong.
    target.write_text(target.read_text().replace("</body>", f"{EVIL}<script>document.title = 'run'</script></body>"))
    ran = browse(tmp_path, target, "--dump-dom")
    assert [line for line in console(ran) if "Content Security Policy" in line]
    assert "<title>run" not in ran.stdout
