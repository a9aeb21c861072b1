"""Each invocation has a workspace of its own, and leaves nothing to the next."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from yo_dawg.errors import ConfigError
from yo_dawg.workspace import remove_tree, workspace


def test_a_tmp_that_a_build_has_locked_is_opened(tmp_path: Path) -> None:
    tmp_path.chmod(0)
    with workspace(tmp_path, tmp_is_ours=True) as space:
        assert space.root.is_dir()


def test_a_workspace_is_made_empty_and_removed(tmp_path: Path) -> None:
    with workspace(tmp_path, tmp_is_ours=True) as space:
        assert space.root == tmp_path / "yo-dawg"
        assert oct(space.root.stat().st_mode & 0o777) == "0o700"
        assert list(space.staging.iterdir()) == []
        (space.staging / "a").write_text("")
    assert list(tmp_path.iterdir()) == []


def test_it_is_removed_after_a_failure_too(tmp_path: Path) -> None:
    with contextlib.suppress(KeyboardInterrupt), workspace(tmp_path, tmp_is_ours=True):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_what_a_crashed_invocation_left_is_swept_out_first(tmp_path: Path) -> None:
    (tmp_path / "yo-dawg/staging").mkdir(parents=True)
    (tmp_path / "yo-dawg/staging/old.py").write_text("")
    (tmp_path / "elsewhere").write_text("")
    with workspace(tmp_path, tmp_is_ours=True) as space:
        assert list(space.staging.iterdir()) == []
        assert os.listdir(tmp_path) == ["yo-dawg"]


def test_where_tmp_is_shared_only_the_workspace_is_removed(tmp_path: Path) -> None:
    (tmp_path / "of somebody else").write_text("")
    (tmp_path / "yo-dawg").mkdir()
    with workspace(tmp_path, tmp_is_ours=False):
        (tmp_path / "of somebody else, too").write_text("")
    assert sorted(os.listdir(tmp_path)) == ["of somebody else", "of somebody else, too"]


def deep(path: Path, levels: int) -> None:
    """Make a directory deeper than Python's stack, and than a path may be long."""
    here = os.open(path, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


def test_a_tree_that_is_hard_to_remove_is_removed(tmp_path: Path) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    (outside / "kept").write_text("")
    with workspace(tmp_path, tmp_is_ours=True) as space:
        (space.staging / "locked/inner").mkdir(parents=True)
        (space.staging / "locked").chmod(0o000)
        deep(space.staging, 3000)
        os.mkfifo(space.staging / "pipe")
        (space.staging / "link").symlink_to(outside)
        (tmp_path / "link too").symlink_to(outside)
        (tmp_path / "-rf").write_text("")
    left = [path.name for path in tmp_path.iterdir()]
    for name in left:  # pytest's own cleaning would fail on it, in a later session
        remove_tree(tmp_path / name)
    assert left == []
    assert (outside / "kept").exists()


@pytest.mark.parametrize("replaced", ["removed", "by a file", "by a link"])
def test_a_workspace_that_is_no_directory_any_more_is_cleaned_up(tmp_path: Path, replaced: str) -> None:
    with workspace(tmp_path, tmp_is_ours=True) as space:
        space.root.rename(tmp_path / "moved")
        if replaced == "by a file":
            space.root.write_text("")
        elif replaced == "by a link":
            space.root.symlink_to("/etc")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_removed_at_the_end_is_told_by_the_next_invocation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was deployed by then is deployed."""

    def refuse(path: Path) -> None:
        raise ConfigError(f"{path} cannot be removed")

    with workspace(tmp_path, tmp_is_ours=True):
        monkeypatch.setattr("yo_dawg.workspace.remove_tree", refuse)
    with pytest.raises(ConfigError), workspace(tmp_path, tmp_is_ours=True):
        pass
