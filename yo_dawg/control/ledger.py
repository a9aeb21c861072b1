"""The ledger: one build of a function at a time, and the history of all."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from yo_dawg.errors import ConfigError, DeployError

if TYPE_CHECKING:
    from yo_dawg.control.store import Store

CLOCK_SKEW = 5.0
"""Seconds by which the clocks of two builders may differ; AWS keeps them within milliseconds."""

KEPT_ENTRIES, KEPT_PACKAGES, KEPT_VERSIONS = 100, 10, 10
"""How many of a function's last builds are remembered, how many of its last packages can be put back,
and how many of its last versions keep theirs."""

NOT_DEPLOYED = ("failed", "interrupted")
"""Outcomes after which the package of a build must not be trusted."""


@dataclass(frozen=True)
class BuildRecord:
    """A build of a function, or a rollback: the one that runs now, or one that has ended."""

    request_id: str
    request: str
    """A digest of what was asked for."""
    title: str
    """The same in words."""
    began: float
    until: float
    """When Lambda ends it at the latest; both in seconds since the epoch."""
    record: str
    """Key of its record and its log, less ".json" and ".log"."""
    log_stream: str = ""
    asked_by: str = ""
    ended: float | None = None
    status: str = "running"
    """Then the status of its answer, or "failed", or "interrupted" (somebody killed it)."""
    error: str | None = None
    commit: str | None = None
    ref: str | None = None
    code_sha256: str | None = None
    version: str | None = None
    alias: str | None = None
    replaces: str | None = None
    """Of a build that changed something: the digest of the package that the function ran before."""
    falls_back_to: str | None = None
    """The digest of the package that the function has to run again, unless this one passes its test event."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> BuildRecord:
        """Read an entry, also one that a newer version wrote."""
        return cls(**{name: value[name] for name in value if name in FIELDS})


FIELDS = frozenset(each.name for each in fields(BuildRecord))


@dataclass(frozen=True)
class LedgerState:
    """What a ledger says."""

    holder: BuildRecord | None
    """Who builds the function now."""
    history: tuple[BuildRecord, ...]
    """What was built, the newest first."""


class Ledger:
    """What S3 knows of a function: who builds it now, and what was built (locks/FUNCTION).

    It is one object, which each writes on the condition that nobody else has written it since he
    read it.  So it is a lock, and the end of a build and its entry in the history are one step: no
    crash can come between them.  A holder that died is overruled when Lambda must have ended it, or
    at once by the next invocation in the same environment, which has but one at a time.
    """

    def __init__(self, function: str, entry: BuildRecord, store: Store) -> None:
        """Know the function, and with what to sign for it."""
        self.function = function
        self.entry = entry
        self.is_held = False
        """Whether we have it."""
        self.waited_for: set[str] = set()
        """The ids of those who were asked the same and had it when we came."""
        self.is_attached = False
        """Whether we answer with what he answered."""
        self.history: tuple[BuildRecord, ...] = ()
        """What was built before, the newest first: who holds the ledger need not read it again."""
        self._store = store
        self._written: tuple[LedgerState, str] | None = None
        """What we wrote last, and its ETag: unless somebody else has written since, which S3 tells, it says that."""

    def read(self) -> tuple[LedgerState, str | None]:
        """Return what it says, and the ETag with which it may be replaced."""
        found = self._store.read(ledger_key(self.function))
        if found is None:
            return LedgerState(None, ()), None
        try:
            value = json.loads(found[0])
            holder = BuildRecord.from_json(value["holder"]) if value["holder"] else None
            return LedgerState(holder, tuple(BuildRecord.from_json(each) for each in value["history"])), found[1]
        except (ValueError, TypeError, LookupError):
            raise ConfigError(
                f"The ledger {self._store.uri(ledger_key(self.function))} cannot be read. If nobody builds "
                f"{self.function} now, delete it: its history is lost then, its packages are not."
            ) from None

    def _rewrite(self, change: Callable[[LedgerState], LedgerState | None]) -> LedgerState:
        """Change what it says, again and again until nobody got in between; return what it says then."""
        pause = 0.05
        while True:
            state, etag = self._written or self.read()
            self._written = None
            new = change(state)
            if new is None:
                return state
            value = {"holder": new.holder and vars(new.holder), "history": [vars(each) for each in new.history]}
            stored = self._store.replace(ledger_key(self.function), json.dumps(value, indent=1).encode(), etag)
            if stored is not None:
                self._written = (new, stored) if stored else None
                return new
            time.sleep(pause)  # S3 may be at another write of it
            pause = min(2 * pause, 1.0)

    def acquire(self) -> BuildRecord | None:
        """Sign as the holder and return None; or return the one who holds it."""

        def sign(state: LedgerState) -> LedgerState | None:
            if state.holder is None or self._is_ours(state):
                return LedgerState(self.entry, state.history)
            if not self._is_dead(state.holder):
                return None
            left = replace(state.holder, status="interrupted", ended=min(time.time(), state.holder.until))
            return LedgerState(self.entry, (left, *state.history))

        state = self._rewrite(sign)
        self.history = state.history
        self.is_held = state.holder is self.entry
        return None if self.is_held else state.holder

    @property
    def untested(self) -> list[BuildRecord]:
        """The builds, the newest first, whose code may run although it has not passed its test event."""
        return [each for each in self.history if each.falls_back_to]

    def note(self, **changes: Any) -> None:
        """Write down what is about to be done; raise DeployError if somebody else holds it by now."""
        self.entry = replace(self.entry, **changes)
        self._write_down()

    def settle(self) -> None:
        """Write down that no untested code runs any more; raise DeployError if somebody else holds it by now."""
        self.history = tuple(replace(each, falls_back_to=None) for each in self.history)
        self._write_down()

    def _write_down(self) -> None:
        if not self._is_ours(
            self._rewrite(lambda state: LedgerState(self.entry, self.history) if self._is_ours(state) else None)
        ):
            raise DeployError(
                f"Somebody else has begun to build {self.function}, as this build was taken for dead. Build again."
            )

    def outdated(self, more: int) -> list[BuildRecord]:
        """Return the builds for which the history has no room any more once there are so many more."""
        return [*self.history[max(0, KEPT_ENTRIES - more) :]]

    def release(self, forget: int = 0, /, **outcome: Any) -> None:
        """Let the next one build, and forget so many of the oldest builds.

        Given how this build ended, enter it into the history.
        """

        def sign_off(state: LedgerState) -> LedgerState | None:
            entry = (replace(self.entry, ended=time.time(), **outcome),) if outcome else ()
            history = (*entry, *state.history[: len(state.history) - forget])
            return LedgerState(None, history) if self._is_ours(state) else None

        self._rewrite(sign_off)
        self.is_held = False

    def _is_ours(self, state: LedgerState) -> bool:
        # Lambda may deliver an asynchronous event twice, under one id: the moment tells the two apart.
        holder, ours = state.holder, self.entry
        return holder is not None and (holder.request_id, holder.began) == (ours.request_id, ours.began)

    def _is_dead(self, holder: BuildRecord) -> bool:
        same_environment = holder.log_stream != "" and holder.log_stream == self.entry.log_stream
        return same_environment or time.time() > holder.until + CLOCK_SKEW


def ledger_key(function: str) -> str:
    """Return the key of a function's ledger."""
    return f"locks/{function}"
