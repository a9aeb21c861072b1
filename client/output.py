"""Files that commands write: whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from client.faults import Fault
from client.main import App


def write_output(app: App, path: Path, text: str, **told: str) -> None:
    """Put a file in the place of what is there, and print its path; raise Fault if it cannot be written.

    With --json the path is printed as JSON, beside what else is ``told``.
    """
    try:
        descriptor, draft = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
        try:
            with open(descriptor, "w", encoding="utf-8", errors="replace", newline="\n") as file:
                file.write(text)
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(draft, 0o666 & ~umask)  # as any file that is written here
            os.replace(draft, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(draft)
            raise
    except OSError as error:
        raise Fault(f"cannot write {path}: {error.strerror or error}. Name another file with --output.") from None
    if app.as_json:
        app.screen.answer({"status": "written", **told, "path": str(path)})
    else:
        print(path, file=app.screen.out.file, flush=True)
