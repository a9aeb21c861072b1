"""The stand-in for git, asked as uv asks; tests/workshop/git/test_requirements.py has uv itself ask it."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from yo_dawg.process import script
from yo_dawg.workshop.stand_in import MAX_ASKED, NO_REPOSITORY, SCRIPT, plain_url, read_asked, write_table

COMMIT = "0123456789abcdef0123456789abcdef01234567"
URL = "https://h.example/lib.git"


class Git:
    """The stand-in, which has a repository at v1."""

    def __init__(self, root: Path) -> None:
        """Write it, and what it reads."""
        self.root, self.asked = root, root / "asked.txt"
        (root / "lib").mkdir()
        (root / "lib" / "module.py").write_text("")
        write_table(root / "table.txt", [(URL, "v1", COMMIT, str(root / "lib"))])
        command = [*script("yo_dawg.workshop.stand_in", "-I", "-S"), root / "table.txt", self.asked]
        (root / "git").write_text(SCRIPT.format(command=shlex.join(map(str, command))))
        (root / "git").chmod(0o755)

    def __call__(self, folder: str, command: str) -> tuple[int, str]:
        """Run a command in a folder; return its exit status and output."""
        (self.root / folder).mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [self.root / "git", *command.split()], cwd=self.root / folder, stdout=subprocess.PIPE, text=True,
            env={"PATH": os.defpath}, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout.strip()


@pytest.fixture
def git(tmp_path: Path) -> Git:
    return Git(tmp_path)


DATABASE, CHECKOUT = "uv/git-v2/db/x", f"uv/git-v2/checkouts/x/{COMMIT}"


@pytest.mark.parametrize(
    "command", ["--version", "describe --tags", "rev-parse HEAD", "rev-parse", "init", "clone URL x", "fetch URL"]
)
def test_elsewhere_it_answers_as_git_does_outside_of_a_repository(git: Git, command: str) -> None:
    assert git("elsewhere", command) == (NO_REPOSITORY, "")


@pytest.mark.parametrize(
    "name", ["origin/v1^0", "refs/remotes/origin/tags/v1^0", "v1^0", f"{COMMIT}^0"],
)  # fmt: skip
def test_what_was_fetched_has_a_commit(git: Git, name: str) -> None:
    assert git(DATABASE, "init") == (0, "")
    assert git(DATABASE, f"fetch --force --update-head-ok {URL} +x:y") == (0, "")
    assert git(DATABASE, f"rev-parse {name}") == (0, COMMIT)
    assert read_asked(git.asked) == []


def test_what_was_not_fetched_is_written_down(git: Git) -> None:
    for url, name in ((URL, "refs/remotes/origin/HEAD"), (URL, "origin/feature/x^0"), ("ssh://git@h/b", "origin/v1^0")):
        git(DATABASE, f"fetch --tags --force --update-head-ok {url} +a:b +c:d")
        assert git(DATABASE, f"rev-parse {name}") == (NO_REPOSITORY, "")
    assert read_asked(git.asked) == [(URL, None), (URL, "feature/x"), ("ssh://git@h/b", "v1")]


def test_a_checkout_is_what_was_fetched(git: Git) -> None:
    git(DATABASE, f"fetch --force {URL} +x:y")
    assert git(DATABASE, f"rev-parse --short {COMMIT}") == (0, COMMIT)
    assert git(".", f"clone --local {DATABASE} {git.root / CHECKOUT}") == (0, "")
    assert os.listdir(git.root / CHECKOUT) == ["module.py"]
    for command in ("rev-parse", f"reset --hard {COMMIT}", "-c remote.origin.url=x submodule update --init"):
        assert git(CHECKOUT, command) == (0, "")
    assert git(CHECKOUT, "rev-parse HEAD") == (0, COMMIT)


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("https://${TOKEN}@h/b", "https://h/b"),
        ("https://x:$%7BTOKEN%7D@h/b", "https://h/b"),
        ("https://git@h/b", "https://h/b"),
        ("https://x:password@h/b", "https://x:password@h/b"),
        ("ssh://git@h/b", "ssh://git@h/b"),
        ("https://h/b@c", "https://h/b@c"),
        ("nonsense", "nonsense"),
    ],
)
def test_an_address_needs_no_user(url: str, plain: str) -> None:
    assert plain_url(url) == plain


def test_what_others_wrote_there_does_no_harm(tmp_path: Path) -> None:
    asked = tmp_path / "asked.txt"
    assert read_asked(asked) == []
    asked.write_bytes(b"\xff\n\n\t\na\tb\tc\nu\tv\nu\tv\n")
    assert read_asked(asked) == [("", None), ("u", "v")]
    asked.write_text("u\tv\n" + "x" * MAX_ASKED + "\ty\n")
    assert read_asked(asked) == [("u", "v")]
    asked.unlink()
    asked.mkdir()
    assert read_asked(asked) == []
