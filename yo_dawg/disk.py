"""A full disk, and files that a project made unusable, in words."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from yo_dawg.errors import ConfigError, PackageError
from yo_dawg.text import size

if TYPE_CHECKING:
    from yo_dawg.process import CommandFailed
    from yo_dawg.workspace import Workspace


def refuse_if_disk_full(error: CommandFailed, space: Workspace) -> None:
    """Raise ConfigError if what a child said means that /tmp is full."""
    if re.search(r"No space left on device|os error 28|ENOSPC", "\n".join(error.lines)):
        raise disk_full(space.root)


def disk_full(path: Path) -> ConfigError:
    """Return the error for a full /tmp, of which the next invocation gets all."""
    total = shutil.disk_usage(path.parent).total
    return ConfigError(
        f"{path.parent} is full: this project needs more than its {size(total)}. Raise ephemeral_storage (MB, at most "
        '10240) in config.ini and run "./deploy.sh bootstrap".'
    )


@contextlib.contextmanager
def disk_troubles(space: Workspace) -> Iterator[None]:
    """Turn a full disk, or files that a project made unusable, into words wherever this process meets them."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise disk_full(space.root) from None
        if not str(error.filename).startswith(str(space.root)):
            raise
        name = os.path.relpath(str(error.filename), space.root)
        raise PackageError(f"Cannot work with what the project made: {error.strerror}: {name!r}.") from None
