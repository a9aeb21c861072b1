"""What is known of what was installed."""

from __future__ import annotations

import json
from pathlib import Path

from yo_dawg.workshop.package.install import look_at_installed


def test_the_records_of_what_was_installed_are_digests(tmp_path: Path) -> None:
    info = tmp_path / "a-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: a\nVersion: 1.0\n")
    (info / "RECORD").write_text("a.py,sha256=0,1\n")
    first = look_at_installed(tmp_path)
    (info / "RECORD").write_text("a.py,sha256=1,1\n")
    second = look_at_installed(tmp_path)
    assert list(first.records) == list(second.records) == ["a==1.0"]
    assert first.records["a==1.0"] != second.records["a==1.0"]
    json.dumps(dict(first.records))
