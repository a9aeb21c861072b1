"""Kinds of functions: what Lambda does otherwise for some, and what that means for a build."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LATEST_PUBLISHED = "$LATEST.PUBLISHED"
"""What callers of a function on a capacity provider get: the version that was published last, under this name."""

MOST_SECONDS_TO_WAIT = 900
"""Lambda: "You cannot synchronously invoke a durable function with an executionTimeout greater than 15 minutes"."""


@dataclass(frozen=True)
class Kind:
    """What is special about a function; of most nothing is."""

    on_capacity_provider: bool = False
    """Lambda Managed Instances: $LATEST is never run, whoever names no version gets $LATEST.PUBLISHED."""
    durable_seconds: int | None = None
    """Of a durable function, which is invoked with a qualifier only: how long an execution may take."""
    is_per_tenant: bool = False
    """Whether each invocation must name a tenant."""
    has_snapshots: bool = False
    """SnapStart: a version can be invoked once its snapshot has been taken."""

    @classmethod
    def from_configuration(cls, answer: Mapping[str, Any]) -> Kind:
        """Read the answer of GetFunctionConfiguration."""
        durable = answer.get("DurableConfig")
        tenancy = answer.get("TenancyConfig") or {}
        return cls(
            on_capacity_provider=bool(answer.get("CapacityProviderConfig")),
            durable_seconds=int(durable.get("ExecutionTimeout") or 0) if durable else None,
            is_per_tenant=tenancy.get("TenantIsolationMode") == "PER_TENANT",
            has_snapshots=(answer.get("SnapStart") or {}).get("ApplyOn") == "PublishedVersions",
        )

    @property
    def qualifier(self) -> dict[str, str]:
        """Return by what name $LATEST is invoked: by none, which Lambda takes for $LATEST, unless it insists on one.

        The role may invoke no other version, and $LATEST by its name only where Lambda insists (template.yaml).
        """
        return {} if self.durable_seconds is None else {"Qualifier": "$LATEST"}

    @property
    def test_event_fault(self) -> str | None:
        """Say why no test event can reach the new code before it counts as deployed; None if it can."""
        if self.on_capacity_provider:
            return "it runs on a capacity provider, which runs published versions only, and so never untested code"
        if self.is_per_tenant:
            return "it keeps its tenants apart, so each invocation must be one of a tenant's, and the builder is none"
        if (self.durable_seconds or 0) > MOST_SECONDS_TO_WAIT:
            return (
                f"it is a durable function whose executions may take {self.durable_seconds} s, and Lambda lets nobody "
                f"wait for one that may take more than {MOST_SECONDS_TO_WAIT} s (ExecutionTimeout)"
            )
        return None


SERVED = ("Active", "Inactive", "Pending", "ActiveNonInvocable")
"""States (State in Lambda's service model) in which a function can be updated; Pending ends by itself, invoking an
Inactive one wakes it, and ActiveNonInvocable is what $LATEST is on a capacity provider."""

STATE_ADVICE: Mapping[str, str] = {
    "Deleting": "somebody is deleting it. Create it anew, then build again",
    "Deactivating": "Lambda is taking away what it runs on. Build again when it is Active",
    "Deactivated": "Lambda has taken away what it ran on. Activate it, then build again",
}


def state_fault(state: str) -> str | None:
    """Say of a function in this state why it cannot be updated, and what to do; None if it can."""
    name = state.partition(" ")[0]
    if name in SERVED:
        return None
    return f"is {state}: {STATE_ADVICE.get(name, 'mend it first, or delete it and create it anew')}"
