"""What an action works with."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from yo_dawg.control.secrets import package_indexes
from yo_dawg.control.toolchain import stored_toolchain

if TYPE_CHECKING:
    from yo_dawg.builder import Builder
    from yo_dawg.control.clients import Aws
    from yo_dawg.control.ledger import Ledger
    from yo_dawg.control.store import Store
    from yo_dawg.control.workshop import Workshop
    from yo_dawg.log import Log
    from yo_dawg.process import Shell
    from yo_dawg.settings import Settings
    from yo_dawg.workspace import Workspace


@dataclass(frozen=True)
class Job:
    """What an action works with."""

    settings: Settings
    builder: Builder
    space: Workspace
    log: Log
    shell: Shell
    aws: Aws
    store: Store
    workshop: Workshop
    ledgers: list[Ledger] = field(default_factory=list)
    """Those that this invocation may hold; it lets go of them at its end."""

    @functools.cached_property
    def toolchain(self) -> dict[str, Any] | None:
        """Which toolchain is stored, read once, see ``stored_toolchain``."""
        return stored_toolchain(self.store, self.builder)

    @functools.cached_property
    def indexes(self) -> tuple[str, ...]:
        """The addresses of private package indexes, read once."""
        return package_indexes(self.aws, self.settings, self.log)
