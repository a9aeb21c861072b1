"""How long does it take to go back?  A rollback of a package of 100 MB against a build of the commit before.

    .venv/bin/python -m benchmarks.rollback [ROUNDS]

Runs yo-dawg on the embedded AWS, builds two commits of a project whose package is 100 MB of noise, and then
goes back to the first one, in turns by "rollback" and by building that commit again.  Both are what a client
waits for; both end when Lambda has taken the code.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.embedded import RUNTIMES, Builder, embedded_aws  # noqa: E402

SCRIPT = """cp *.py "$1"
"$PYTHON" -c 'import random, sys; open(sys.argv[1], "wb").write(random.Random(1).randbytes(100_000_000))' "$1/noise.bin"
"""


def timed(act: Callable[[], object]) -> float:
    """Return the seconds that something takes."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def main(rounds: int = 3) -> None:
    """Measure, and print a table."""
    with embedded_aws() as (aws, git):
        builder = Builder(aws, git, RUNTIMES[-1])
        builder.install()
        builder.bootstrap()
        commits = [
            builder.add_project(
                name,
                {"lambda_function.py": f"def lambda_handler(event, context): ...  # {name}\n", "make_dist.sh": SCRIPT},
            )
            for name in ("before", "after")
        ]
        seconds: dict[str, list[float]] = {"rollback": [], "build again": []}
        for _ in range(rounds):
            for way, times in seconds.items():
                for name in ("before", "after"):
                    builder.build(name, "before", force=True)
                if way == "rollback":
                    event = {"action": "rollback", "function": "before", "to": commits[0]}
                    times.append(timed(lambda event=event: builder.invoke(builder.name, event)))  # type: ignore[misc]
                else:
                    times.append(timed(lambda: builder.build("before", force=True)))
    print(f"{'way back':<14}{'median':>9}{'of':>6}")
    for way, times in seconds.items():
        print(f"{way:<14}{statistics.median(times):>7.2f} s{len(times):>6}")
    print(f"ratio {statistics.median(seconds['rollback']) / statistics.median(seconds['build again']):.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
