"""The repository as a whole: its pins are whole, and it tells nothing of the machine it was written on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import chain
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from yo_dawg.toolchain import requirement_group

ROOT = Path(__file__).resolve().parent.parent
PINS = ("requirements.txt", "local/requirements.txt", "tests/requirements.txt")
GROUPS = ("toolchain", "function", "client")


def pins(text: str) -> list[tuple[str, str, str, int]]:
    """Return name, version, marker and number of hashes of each requirement; fail on what is none."""
    found = []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            match = re.fullmatch(r"([a-z0-9.-]+)==(\S+)(?: ; (.+?))?((?: +--hash=sha256:[0-9a-f]{64})+) *", line)
            assert match, f"not pinned with hashes: {line[:100]}"
            found.append((match[1], match[2], match[3] or "", match[4].count("--hash")))
    return found


@pytest.mark.parametrize("name", PINS)
def test_each_requirement_is_pinned_once_with_hashes(name: str) -> None:
    found = pins((ROOT / name).read_text())
    assert found
    # One package may have two versions, each for other Pythons.
    keys = [(package, marker) for package, _, marker, _ in found]
    assert len(set(keys)) == len(keys)
    assert {package for package, marker in keys if not marker}.isdisjoint(p for p, marker in keys if marker)


def test_the_files_agree_on_versions() -> None:
    # .venv holds all three: a second version of a package would replace the first.
    chosen: dict[tuple[str, str], str] = {}
    for name in PINS:
        for package, version, marker, _ in pins((ROOT / name).read_text()):
            key = (package, marker if "python" in marker else "")
            assert chosen.setdefault(key, version) == version, f"{package} in {name}"


def test_the_groups_are_all_of_requirements_txt() -> None:
    text = (ROOT / "requirements.txt").read_text()
    groups = {name: [pin[0] for pin in pins(requirement_group(text, name))] for name in GROUPS}
    assert sorted(chain.from_iterable(groups.values())) == sorted(pin[0] for pin in pins(text))
    assert {"dulwich", "urllib3", "uv", "typing-extensions"} <= set(groups["toolchain"])
    assert "virtualenv" in groups["function"]
    assert {"boto3", "click", "cyclonedx-python-lib", "rich"} <= set(groups["client"])


def test_what_travels_with_the_function_fits_any_architecture() -> None:
    # A package with compiled code has a wheel for each platform, so many hashes; a pure one has its wheel's and
    # its source's.
    text = requirement_group((ROOT / "requirements.txt").read_text(), "function")
    assert {name: count for name, _, _, count in pins(text) if count > 2} == {}


# --- Traces -----------------------------------------------------------------------------------------


def repository_files() -> list[Path]:
    """Return what is committed or would be."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is not a Git checkout, or there is no Git")
    return [path for name in done.stdout.split(b"\0") if name and (path := ROOT / os.fsdecode(name)).is_file()]


def traces_of_this_machine() -> set[str]:
    """Return texts that only this machine knows: its paths, and where its packages come from."""
    pip = [sys.executable, "-m", "pip", "config", "list"]
    settings = subprocess.run(pip, capture_output=True, text=True, check=True).stdout
    settings += "\n".join(value for name, value in os.environ.items() if re.match("PIP_|UV_|.*_proxy$", name, re.I))
    ask = "from pip._internal.models.index import PyPI; print('https://' + PyPI.file_storage_domain, PyPI.url)"
    settings += subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout
    urls = [urlsplit(url) for url in re.findall(r"[a-z]+://[^\s'\"]+", settings)]
    hosts = {url.hostname for url in urls if url.hostname and re.search("[a-z].*[.]", url.hostname)}
    folders = {url.path for url in urls if url.scheme == "file"} | {str(ROOT), os.path.expanduser("~/")}
    # Short ones are the same on many machines.
    return hosts | {folder for folder in folders if len(folder) > 5}


def test_names_nothing_of_this_machine() -> None:
    traces = sorted(traces_of_this_machine())
    assert traces
    found = [
        f"{path.relative_to(ROOT)}: {trace}"
        for path in repository_files()
        for trace in traces
        # As words: a checkout in /srv/app must not find /srv/application.
        if re.search(rf"(?<![\w.-]){re.escape(trace)}(?:(?<=/)|(?![\w-]))".encode(), path.read_bytes())
    ]
    assert found == []
