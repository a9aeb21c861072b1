"""When two schedules are the same: each call of each builder finds what the same earlier calls have left.

Two calls that touch different objects may change places, and nobody can tell.  So what a run has come to is told by
its causes, not by its order: each actor has a digest of all that it has done and of what it found doing so, and each
object one of the actor who wrote it last, as that was then.  Two runs with the same digests, with the same actor's
turn, go on in the same way, whatever is chosen.  (Only the moments differ, by less than SAME_MOMENT seconds, where two
calls have changed places: nothing that control does hangs on so little, but for Lambda's short updates, and whether
one was met is part of the digest.)

An actor that died does nothing more, so of it only counts what it has left.  That is how a crash before a call and one
before the next are found to be the same, if the call between is a question.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tests.simulation.faults import LAMBDA_WRITES, S3_WRITES

if TYPE_CHECKING:
    from tests.simulation.world import Actor, Point

SAME_MOMENT = 1.0

WITHOUT_EFFECT = frozenset((
    "crash-before", "crash-before-warm", "denied", "broken", "throttled", "conflict", "conflict-for-long",
    "conflict-for-ever",
))  # fmt: skip
"""The faults of calls that do nothing; also an answer that comes too late, if the call had not been begun."""

Objects = tuple[tuple[str, ...], tuple[str, ...]]
"""Those that a call reads, and those that it writes."""


class Trace:
    """What a run has come to, as digests."""

    def __init__(self) -> None:
        """Begin where nobody has done anything."""
        self.written: dict[str, int] = {}
        self.together = 0
        """A digest of all that was written."""

    def add(self, actor: Actor, operation: str, resource: str, fault: str | None) -> None:
        """Note what an actor does, and with what luck."""
        reads, writes = touched(operation, resource)
        found = [self.written.get(each, 0) for each in (*reads, *writes)]
        actor.trace = hash((actor.trace, operation, resource, fault, *found))
        if fault not in WITHOUT_EFFECT:
            self.write(actor.trace, writes)

    def write(self, digest: int, objects: Sequence[str]) -> None:
        """Note who has written some objects."""
        for each in objects:
            if each in self.written:
                self.together ^= hash((each, self.written[each]))
            self.written[each] = digest
            self.together ^= hash((each, digest))

    def by_hand(self, actor: Actor) -> None:
        """Note that somebody has pushed, or changed something by hand: whatever it was."""
        for each in HAND:
            self.write(hash((actor.index, self.written.get(each, 0))), (each,))

    def state(self, actors: Sequence[Actor], current: Actor, now: float) -> int:
        """Return a digest of all from which a run goes on."""
        return hash((current.index, self.together, *(standing(each, now) for each in actors)))


def standing(actor: Actor, now: float) -> object:
    """Return what of an actor decides what it still does."""
    if actor.dead:
        return tuple(actor.faults), actor.ends > now
    if actor.finished or not actor.started:
        return actor.finished, actor.trace
    alarm = None if actor.alarm is None else (actor.alarm - now) // SAME_MOMENT
    busy = tuple(name for name, until in actor.busy_until.items() if until > now)
    return actor.trace, alarm, (actor.ends - now) // SAME_MOMENT, busy


def touched(operation: str, resource: str) -> Objects:
    """Return what a call reads and what it writes."""
    if (found := KNOWN.get((operation, resource))) is None:
        found = KNOWN[operation, resource] = look_up(operation, resource)
    return found


KNOWN: dict[tuple[str, str], Objects] = {}

HAND = "function:api", "alias:api", "refs", "answers"
"""What is written by who pushes, or does something by hand: whatever it was."""


def are_independent(some: Sequence[Point], others: Sequence[Point]) -> bool:
    """Say whether calls may come before others or after them, and nobody can tell."""
    touches = [[touched(each.operation, each.resource) for each in calls] for calls in (some, others)]
    reads, other_reads = ({name for read, _ in one for name in read} for one in touches)
    writes, other_writes = ({name for _, written in one for name in written} for one in touches)
    return not (writes & (other_reads | other_writes) or other_writes & reads)


def look_up(operation: str, resource: str) -> Objects:
    """Reckon what a call touches: rather too much than too little."""
    if operation == "by hand":
        return (), HAND
    if operation in ("look", "clone"):
        return ("refs",), ()
    if operation in ("begin", "answer"):
        return ("refs",), ("answers",)
    if operation == "package":
        return (), ()
    if operation == "download":
        return ("function:api", "function:web"), ()
    if "/" in resource:  # a key of S3
        return objects_of_key(operation, resource.split("/"))
    function, alias = f"function:{resource}", f"alias:{resource}"
    match operation:
        case "invoke":
            return (function,), (f"tests:{resource}",)
        case "create_alias" | "update_alias":
            return (function,), (alias,)
        case "get_alias" | "list_aliases":
            return (alias,), ()
        case "tag_resource":
            return (), ()
    return ((), (function,)) if operation in LAMBDA_WRITES else ((function,), ())


def objects_of_key(operation: str, parts: list[str]) -> Objects:
    """Reckon what a call of S3 touches: of packages all of a function's, of records those to be deleted together."""
    _, folder, name = parts[:3]
    writes = operation in S3_WRITES
    if folder == "builds":
        record, old = "/".join(parts), f"old:{name}"
        if operation == "delete_objects":
            return (), (old,)
        return ((), (record,)) if writes else ((record, old), ())
    kept = f"{'locks' if folder == 'locks' else 'packages'}:{name}"
    return ((), (kept,)) if writes else ((kept,), ())
