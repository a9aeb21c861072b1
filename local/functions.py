"""Lambda functions as the API keeps them: configurations, versions, aliases, and the states they go through."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from local.code_store import Code
from local.lambda_errors import conflict, in_state, not_found, stale_revision
from local.pools import Pool

LATEST = "$LATEST"

CREATING = "The function is being created."

REASONS = {"Pending": (CREATING, "Creating"), "Inactive": ("The function is idle.", "Idle")}


def new_revision() -> str:
    """Return a RevisionId."""
    return str(uuid.uuid4())


def timestamp() -> str:
    """Return the time as LastModified has it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "+0000"


@dataclass(frozen=True)
class Unit:
    """What an environment is made from: a configuration with the code it was taken with."""

    config: Mapping[str, Any]
    code: Code | None
    layers: tuple[Code, ...]


@dataclass
class Version:
    """A version of a function, $LATEST too: its configuration and the state it is in."""

    unit: Unit
    arn: str
    number: str
    revision: str = field(default_factory=new_revision)
    state: str = "Pending"
    update: str | None = None
    """The LastUpdateStatus; AWS says none before a function was ever Active."""
    settles_at: float = 0.0
    live: Unit | None = None
    """What is run: during an update, still what was there before."""
    pool: Pool | None = None

    def settle(self) -> Pool | None:
        """End a creation or update whose time has come; return the environments that are of no use any more."""
        if not self.under_way or time.monotonic() < self.settles_at:
            return None
        self.state, self.update = "Active", "Successful"
        self.revision = new_revision()
        self.live = self.unit
        pool, self.pool = self.pool, None
        return pool

    @property
    def under_way(self) -> bool:
        """Say whether a creation or an update is in progress."""
        return self.state == "Pending" or self.update == "InProgress"

    def begin_update(self, unit: Unit, seconds: float) -> None:
        """Take a new configuration or new code, which will be there in a moment."""
        self.unit = unit
        self.update = "InProgress"
        self.revision = new_revision()
        self.settles_at = time.monotonic() + seconds

    def begin_restoring(self, seconds: float) -> None:
        """Bring an inactive version back, which takes a moment."""
        self.state = "Pending"
        self.settles_at = time.monotonic() + seconds

    def view(self, qualifier: str | None = None) -> dict[str, Any]:
        """Return the FunctionConfiguration, as every answer has it; its ARN ends as the request did."""
        view = dict(self.unit.config)
        ending = qualifier or (self.number if self.number != LATEST else None)
        view |= {
            "FunctionArn": f"{self.arn}:{ending}" if ending else self.arn,
            "Version": self.number,
            "RevisionId": self.revision,
            "State": self.state,
            "LastUpdateStatus": self.update,
        }
        if self.state in REASONS:
            view |= dict(zip(("StateReason", "StateReasonCode"), REASONS[self.state], strict=True))
            if self.state == "Pending" and self.live:
                view |= {"StateReason": "The function is being restored.", "StateReasonCode": "Restoring"}
        if self.update == "InProgress":
            view |= {"LastUpdateStatusReason": CREATING, "LastUpdateStatusReasonCode": "Creating"}
        return view

    def entry(self, qualifier: str | None = None) -> dict[str, Any]:
        """Return the FunctionConfiguration as an entry of a list: it does not say what state the function is in."""
        hidden = ("State", "StateReason", "StateReasonCode", "LastUpdateStatus", "LastUpdateStatusReason",
                  "LastUpdateStatusReasonCode", "RuntimeVersionConfig")  # fmt: skip
        return {name: value for name, value in self.view(qualifier).items() if name not in hidden}


@dataclass
class Alias:
    """A name for a version."""

    name: str
    version: str
    description: str
    weights: Mapping[str, float]
    revision: str = field(default_factory=new_revision)

    def view(self, function_arn: str) -> dict[str, Any]:
        """Return the AliasConfiguration."""
        return {
            "AliasArn": f"{function_arn}:{self.name}",
            "Name": self.name,
            "FunctionVersion": self.version,
            "Description": self.description,
            "RevisionId": self.revision,
            "RoutingConfig": {"AdditionalVersionWeights": dict(self.weights)} if self.weights else None,
        }


@dataclass
class Function:
    """A function, with everything that hangs on it."""

    name: str
    arn: str
    latest: Version
    versions: dict[str, Version] = field(default_factory=dict)
    counter: int = 0
    source: Unit | None = None
    """What $LATEST was when the last version was published: the version's own description may differ."""
    aliases: dict[str, Alias] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    storage: dict[str, Any] = field(default_factory=dict)
    """What GetFunction says of how the code is kept, beside where it can be downloaded."""
    signed_only: bool = False
    """Whether a code signing configuration lets it take signed code only: none here is signed."""
    event_invoke: dict[str, dict[str, Any]] = field(default_factory=dict)
    policies: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    reserved: int | None = None
    running: int = 0

    @property
    def everything(self) -> list[Version]:
        """Return $LATEST and the published versions."""
        return [self.latest, *self.versions.values()]

    def version(self, qualifier: str | None) -> Version:
        """Return the version that a qualifier names, be it a number or an alias."""
        if qualifier in (None, "", LATEST):
            return self.latest
        number = self.aliases[qualifier].version if qualifier in self.aliases else qualifier
        if number == LATEST:
            return self.latest
        if number not in self.versions:
            raise not_found(f"Function not found: {self.arn}:{qualifier}")
        return self.versions[number]

    def refuse_while_under_way(self) -> None:
        """Raise AWS's conflict while the function is created or updated."""
        if self.latest.state == "Pending":
            raise in_state("Pending")
        if self.latest.update == "InProgress":
            raise conflict(
                f"The operation cannot be performed at this time. An update is in progress for resource: {self.arn}"
            )

    def check_revision(self, revision: str | None) -> None:
        """Raise if a RevisionId was given that is not the latest."""
        if revision is not None and revision != self.latest.revision:
            raise stale_revision()

    def publish(self, description: str | None, seconds: float | None) -> Version:
        """Return a new version of what $LATEST is, or the last one if nothing changed since.

        It is Pending for so many seconds; None for a version that is active at once.
        """
        source = self.latest.unit
        if self.source and str(self.counter) in self.versions and comparable(self.source) == comparable(source):
            return self.versions[str(self.counter)]
        self.counter += 1
        self.source = source
        config = dict(source.config)
        if description is not None:
            config["Description"] = description
        version = Version(Unit(config, source.code, source.layers), self.arn, str(self.counter))
        if seconds is None:
            version.state, version.update, version.live = "Active", "Successful", version.unit
            self.latest.revision = new_revision()
        else:
            version.settles_at = time.monotonic() + seconds
        self.versions[version.number] = version
        return version


def comparable(unit: Unit) -> dict[str, Any]:
    """Return what must differ for a new version to be worth a number."""
    return {name: value for name, value in unit.config.items() if name != "LastModified"}


def runtime_version_arn(region: str, runtime: str, architecture: str) -> str:
    """Return a made-up ARN of the form that RuntimeVersionConfig has: each architecture has its own."""
    return f"arn:aws:lambda:{region}::runtime:{hashlib.sha256(f'{runtime} {architecture}'.encode()).hexdigest()}"
