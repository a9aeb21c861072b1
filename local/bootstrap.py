"""What /var/runtime/bootstrap.py does in Lambda: lay out the search path, then run the runtime's client.

Lambda's own finds modules in the task's folder first, then in the layers' (unless the function sets a PYTHONPATH of
its own), then among what the runtime brings; and it reads the .pth files of the task and of the layers.
"""

from __future__ import annotations

import os
import site
import sys


def main(handler: str, opt: str) -> None:
    """Serve a function whose layers lie at opt."""
    from awslambdaric.__main__ import main as serve

    places = [os.environ["LAMBDA_TASK_ROOT"]]
    if os.environ["PYTHONPATH"].startswith(os.environ["LAMBDA_RUNTIME_DIR"]):  # Lambda's own, as it is recorded
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        places += [f"{opt}/python/lib/{version}/site-packages", f"{opt}/python"]
    sys.path[:0] = places
    for place in places:
        site.addsitedir(place)
    serve(["bootstrap.py", handler])


if __name__ == "__main__":
    main(*sys.argv[1:])
