"""What /var/runtime/bootstrap.py does in Lambda: lay out the search path, then run the runtime's client.

Lambda's own finds modules in the task's folder first, then in the layers' (unless the function sets a PYTHONPATH of
its own), then among what the runtime brings; and it reads the .pth files of the task and of the layers.
"""

from __future__ import annotations

import os
import site
import sys


def main(opt: str = "/opt") -> None:
    """Serve the function; its layers lie at opt."""
    runtime = os.environ["LAMBDA_RUNTIME_DIR"]
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site_packages = f"{os.path.dirname(runtime)}/lang/lib/{version}/site-packages"
    places = [os.environ["LAMBDA_TASK_ROOT"]]
    if os.environ["PYTHONPATH"].startswith(runtime):  # Lambda's own, as it is recorded
        places += [f"{opt}/python/lib/{version}/site-packages", f"{opt}/python"]
    sys.path[:] = [*places, site_packages, runtime, *(path for path in sys.path if path != runtime)]
    for place in filter(os.path.isdir, places):
        site.addsitedir(place)
    from awslambdaric.__main__ import main as serve

    serve(["bootstrap.py", os.environ["_HANDLER"]])


if __name__ == "__main__":
    main(*sys.argv[1:])
