"""The groups of requirements.txt, of which one is the toolchain."""

from __future__ import annotations

from yo_dawg.toolchain import requirement_group, toolchain_pins


def test_requirement_groups_are_told_apart() -> None:
    text = "# why\n# --- one: first ---\na==1 \\\n    --hash=sha256:0\n# --- two: second ---\nb==2\n"
    assert requirement_group(text, "one") == "a==1 \\\n    --hash=sha256:0\n"
    assert requirement_group(text, "two") == "b==2\n"


def test_the_toolchain_is_pinned() -> None:
    assert {"deflate", "dulwich", "uv"} <= {line.partition("==")[0] for line in toolchain_pins().splitlines()}
