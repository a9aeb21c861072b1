"""The documentation: its links lead somewhere, and what it names is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from yo_dawg.errors import YoDawgError
from yo_dawg.events import REQUESTS

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("local/*.md"))]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]


def anchors(text: str) -> set[str]:
    """Return the anchors that a page's headings have on a Git host."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), f"{target} is not there"
        if anchor:
            assert anchor in anchors(there.read_text()), f"{target} names no heading"


def commands(text: str) -> list[str]:
    """Return the commands in a page's code, those in running text among them."""
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line.split("  #")[0].strip() for line in [*lines, *re.findall(r"`([^`\n]+)`", text)] if line.strip()]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_what_commands_name_is_there(page: Path) -> None:
    for command in commands(page.read_text()):
        if not command.startswith(("./deploy.sh", ".ci/run", ".venv/bin/python -m benchmarks")):
            continue
        words = shlex.split(command)
        for word in words:
            if word.startswith("tests/"):
                assert (ROOT / word).exists(), command
            if word.startswith("benchmarks.") and "/" not in word:
                assert (ROOT / f"{word.replace('.', '/')}.py").exists(), command


def test_every_action_field_and_error_is_in_the_reference() -> None:
    text = (ROOT / "docs/reference.md").read_text()
    for action, request in REQUESTS.items():
        assert f"`{action}`" in text
        for name in getattr(request, "__dataclass_fields__", {}):
            assert f"`{name}`" in text, f"the field {name} of {action}"
    for error in YoDawgError.__subclasses__():
        assert f"`{error.__name__}`" in text
