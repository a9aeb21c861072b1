"""How fast and how large is our clone?  git, Dulwich's porcelain.clone and yo-dawg's, side by side.

    .venv/bin/python -m benchmarks.clone [ROUNDS [SHAPE …]]

Makes four repositories of different shapes, serves them by smart HTTP on loopback (git http-backend),
and clones each several times with each of the three, in turns, one commit deep.  Prints the median, the
ratio to git, and the peak memory of the process that clones.  Needs git, and packages that are
compiled to bytecode, as the toolchain's are (python -m compileall).
"""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from local.git_server import GitServer  # noqa: E402

ENVIRON = {**os.environ, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "PYTHONDONTWRITEBYTECODE": "1"}
ENVIRON["PYTHONPATH"] = str(ROOT)

PORCELAIN = """
import io, sys
from dulwich import porcelain
porcelain.clone(sys.argv[1], sys.argv[2], depth=1, errstream=io.BytesIO()).close()
"""

OURS = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
from yo_dawg.workshop.git.clone import fetch_checkout
fetch_checkout(json.load(sys.stdin))
"""
"""What the Git program does, under its limit of memory."""


def git(folder: Path, *arguments: str, stdin: bytes = b"") -> str:
    """Run git, and return what it prints."""
    identity = ["-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "init.defaultBranch=main"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, env=ENVIRON, input=stdin, capture_output=True, check=True
    )
    return done.stdout.decode().strip()


def many_refs(folder: Path) -> None:
    """Commit 700 files of text, and change some of them on 180 branches and tags: about 30 MB."""
    chance = random.Random(1)
    words = [bytes(chance.choices(b"abcdefghijklmnopqrstuvwxyz ", k=40)) for _ in range(3000)]
    write_files(folder, 700, lambda number: b"\n".join(chance.choices(words, k=chance.randint(20, 400))))
    commit(folder)
    for number in range(180):
        (folder / f"changed{number}.bin").write_bytes(chance.randbytes(120_000))
        commit(folder)
        git(folder, "branch" if number % 2 else "tag", f"release-{number}")


def many_files(folder: Path) -> None:
    """Commit 10,000 small files in 200 folders."""
    chance = random.Random(2)
    write_files(
        folder, 10_000, lambda number: b"# %d\n" % number + chance.randbytes(chance.randint(100, 2000)).hex().encode()
    )
    commit(folder)


def large_blobs(folder: Path) -> None:
    """Commit four files of 60 MB, two of which do not compress."""
    chance = random.Random(3)
    for number in range(4):
        content = chance.randbytes(60_000_000) if number % 2 else b"%064d\n" % number * 923_077
        (folder / f"large{number}.bin").write_bytes(content)
    commit(folder)


def one_blob(folder: Path) -> None:
    """Commit one file of 100 MB that does not compress."""
    (folder / "data.bin").write_bytes(random.Random(4).randbytes(100_000_000))
    commit(folder)


def write_files(folder: Path, count: int, content: Callable[[int], bytes]) -> None:
    """Write so many files, fifty to a folder."""
    for number in range(count):
        path = folder / f"package{number // 50}" / f"module{number}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content(number))


def commit(folder: Path) -> None:
    """Commit everything."""
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "work")


def make(root: Path, name: str, fill: Callable[[Path], None]) -> None:
    """Make a bare repository, packed as hosts keep them."""
    with tempfile.TemporaryDirectory(dir=root) as work:
        git(Path(work), "init", "--quiet")
        fill(Path(work))
        git(root, "clone", "--quiet", "--bare", work, f"{name}.git")
    git(root / f"{name}.git", "repack", "-a", "-d", "--quiet")


def make_apart(root: Path, name: str, fill: Callable[[Path], None]) -> None:
    """Make a repository in another process: what this one takes counts as the peak memory of its children."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            make(root, name, fill)
            status = 0
        finally:
            os._exit(status)
    if os.waitpid(child, 0)[1] != 0:
        raise SystemExit(f"Cannot make the repository {name}.")


def worker_job(url: str, target: Path) -> bytes:
    """Return what the git worker reads from its standard input."""
    paths = {name: str(target / name) for name in ("objects", "checkout", "sources")}
    return json.dumps({"source": {"url": url}, "ref": None, "project": "", **paths}).encode()


def measure(command: Sequence[str], target: Path, stdin: bytes = b"") -> tuple[float, float]:
    """Run a clone; return its seconds and its peak memory in MB."""
    with tempfile.TemporaryFile() as file:
        file.write(stdin)
        file.seek(0)
        started = time.perf_counter()
        process = subprocess.Popen(
            command, env=ENVIRON, stdin=file, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if status != 0 or not any(target.iterdir()):
        raise SystemExit(f"{command[0]} failed: {status}")
    shutil.rmtree(target)
    return seconds, usage.ru_maxrss / (1024 if sys.platform == "linux" else 1024 * 1024)


def main(rounds: int, wanted: Sequence[str]) -> None:
    """Make, clone, print."""
    shapes = {"many refs": many_refs, "10,000 files": many_files, "large blobs": large_blobs, "100 MB blob": one_blob}
    shapes = {name: fill for name, fill in shapes.items() if name in wanted or not wanted}
    with tempfile.TemporaryDirectory(prefix="yo-dawg-bench-") as folder:
        for name, fill in shapes.items():
            make_apart(Path(folder), repository_name(name), fill)
        compare(Path(folder), list(shapes), rounds)


def repository_name(shape: str) -> str:
    """Return the name of the repository of a shape."""
    return shape.replace(" ", "-").replace(",", "")


def compare(folder: Path, shapes: Sequence[str], rounds: int) -> None:
    """Clone each repository with each program, in turns, and print what it took."""
    with GitServer(folder, backend="git") as server:
        print(f"{'':14}{'':18}{'median':>9}{'ratio':>8}{'peak memory':>14}   ({rounds} rounds, interleaved)")
        for name in shapes:
            repository = repository_name(name)
            url = f"{server.url}/{repository}.git"
            target = folder / "target"
            commands = {
                "git --depth 1": ["git", "clone", "--quiet", "--depth", "1", url, str(target)],
                "porcelain.clone": [sys.executable, "-c", PORCELAIN, url, str(target)],
                "yo-dawg": [sys.executable, "-c", OURS],
            }
            taken: dict[str, list[tuple[float, float]]] = {each: [] for each in commands}
            for _ in range(rounds):
                for each, command in commands.items():
                    if each == "yo-dawg":
                        target.mkdir()
                    taken[each].append(measure(command, target, worker_job(url, target)))
            base = statistics.median(seconds for seconds, _ in taken["git --depth 1"])
            for each, figures in taken.items():
                median = statistics.median(seconds for seconds, _ in figures)
                peak = max(memory for _, memory in figures)
                print(f"{name:14}{each:18}{median:7.2f} s{median / base:7.2f}x{peak:11.0f} MB", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 5, sys.argv[2:])
