"""What must hold after every step, whatever happens: the promise of README, spelled out (docs/invariants.md).

The witness sees what really happens in S3 and Lambda, and who does it; it asks nothing of the control code, and reckons
by rules of its own.  Each check raises Violation with a number of docs/invariants.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from tests.simulation.builders import PREFIX, Asked, Region
from tests.simulation.notation import FastJson
from tests.simulation.stubs import KEPT_ENTRIES, digest_of
from tests.simulation.world import Actor, Violation
from yo_dawg.digests import base64_to_hex
from yo_dawg.errors import BuildInProgress
from yo_dawg.events import BuildRequest, RollbackRequest, function_name

if TYPE_CHECKING:
    from local.functions import Function
    from tests.simulation.s3 import Stored

GOOD = ("deployed", "unchanged")
LOCKS = f"{PREFIX}locks/"
EMPTY: dict[str, Any] = {"holder": None, "history": []}


class Witness:
    """Watches one run while it goes on."""

    def __init__(self, world: Region) -> None:
        """Begin with what there is."""
        self.world = world
        latest = {name: each.latest.unit.config["CodeSha256"] for name, each in world.api.functions.items()}
        self.first = dict(latest)
        self.ran = {name: [digest] for name, digest in latest.items()}
        """What each function has run, in order."""
        self.whole = {each.sha256 for key, each in world.s3.objects.items() if "/packages/" in key} | {*latest.values()}
        # What was stored, or had to be before it was replaced.
        self.kept = {each.sha256 for key, each in world.s3.objects.items() if "/packages/" in key}
        self.pages = {
            key.removeprefix(LOCKS): FastJson.loads(each.content)
            for key, each in world.s3.objects.items()
            if key.startswith(LOCKS)
        }
        self.piles = {name: pile(page["history"]) for name, page in self.pages.items()}
        """By function, what it ran before, and before that: a build puts one on top, a rollback takes one away."""
        self.holders: dict[str, Actor] = {}
        """Who is between lock and release, by function."""
        self.signatures: dict[tuple[str, float], Actor] = {}
        self.forgotten: dict[str, list[Any]] = {}
        """What histories have lost last: when its builder tidied up, they still told of it."""
        self.suspects: dict[str, tuple[str, Actor]] = {}
        """By function, code that it runs and that was to be tested, but has not passed."""
        self.faults_before: dict[str, int] = {}
        """How many faults its builder had met when it came."""
        self.failed: set[tuple[int, str, str]] = set()
        self.passed: set[tuple[int, str, str]] = set()
        """Which builder saw which function's code pass."""
        self.foreign: dict[str, int] = {}
        """At which point somebody else has changed a function, or "function:alias"."""
        self.looked: dict[tuple[int, str], int] = {}
        """At which point a builder has looked at a function, or "function:alias"."""
        self.known: set[tuple[int, str]] = set()
        """Which of these looks were the last before the work."""
        self.changes: list[tuple[Actor, str, str, str]] = []
        """Who changed which function's code from what to what."""
        self.recoveries: list[tuple[Actor, str, str, str]] = []
        """Those that put back what ran before another's untested code: the history tells of that one."""

    # --- while it runs ---

    def actor(self) -> Actor:
        """Return who does it."""
        return cast(Actor, self.world.current)

    def stored(self, key: str, before: Stored | None, after: Stored) -> None:
        """Look at what was written to S3."""
        if key.startswith(f"{PREFIX}packages/"):
            self.whole.add(after.sha256)
            self.kept.add(after.sha256)
            demand(base64_to_hex(after.sha256) in key, 1, f"{key} holds another package than its name says")
        elif key.startswith(LOCKS):
            self.ledger_written(key.removeprefix(LOCKS), before, after)

    def ledger_written(self, name: str, before: Stored | None, after: Stored) -> None:
        """Look at who holds a function now, and at its history."""
        old = self.pages.get(name, EMPTY)
        new = self.pages[name] = FastJson.loads(after.content)
        actor, was, now = self.actor(), old["holder"], new["holder"]
        previous = self.holders.get(name)
        if now:
            self.signatures[signature(now)] = actor
            demand(now["request_id"] == actor.facts.request_id, 4, f"{actor.name} signs for somebody else")
            if previous not in (None, actor):
                demand(self.is_over(previous), 4, f"{actor.name} takes {name} from one who is alive")
            if previous is not actor:
                self.known = {each for each in self.known if each[0] != actor.index}
            self.holders[name] = actor
        else:
            demand(previous in (None, actor), 4, f"{actor.name} releases {name}, which another holds")
            if was and previous is actor:
                self.released(name, actor, new["history"])
            self.holders.pop(name, None)
        self.compare_histories(name, old["history"], new["history"])

    def is_over(self, actor: Actor) -> bool:
        """Say whether a builder can do nothing any more."""
        return actor.dead or actor.finished or self.world.now >= actor.ends

    def compare_histories(self, name: str, old: list[Any], new: list[Any]) -> None:
        """Let nothing vanish but what is old."""
        added = len(new) - len(old) if len(new) <= KEPT_ENTRIES else 0
        kept = {signature(each) for each in new}
        lost = [each for each in old if signature(each) not in kept]
        if lost:
            self.forgotten[name] = lost
            demand(len(new) >= KEPT_ENTRIES, 8, f"the history of {name} forgets {lost[0]['request_id']}")
            demand(lost == old[-len(lost) :], 8, f"the history of {name} forgets what is not the oldest")
        demand(added <= 1, 8, f"the history of {name} grows by more than one")
        demand(len(kept) == len(new), 8, f"the history of {name} has an entry twice")

    def released(self, name: str, actor: Actor, history: list[Any]) -> None:
        """Check what holds once a function is free."""
        function = self.world.api.functions[name]
        runs = function.latest.unit.config["CodeSha256"]
        suspect = self.suspects.get(name)
        if suspect and suspect[0] == runs:
            noted = any(each.get("falls_back_to") and each["code_sha256"] == runs for each in history)
            demand(
                noted and self.troubles(name) > 1,
                2,
                f"{name} is free, and runs code that has not passed its test event",
            )
        entry = history[0] if history else None
        if entry and self.signatures.get(signature(entry)) is actor and entry["status"] in GOOD:
            if self.foreign.get(name) is None:
                demand(entry["code_sha256"] == runs, 8, f"the history of {name} tells of other code than it runs")
            if entry["alias"] and f"{name}:{entry['alias']}" not in self.foreign:
                alias = function.aliases.get(entry["alias"])
                demand(alias and alias.version == entry["version"], 8, f"the history lies about {name}'s alias")
            if entry["replaces"] and name not in self.foreign:
                mine = [each for each in self.changes if each[0] is actor and each[1] == name]
                demand(mine and mine[-1][2] == entry["replaces"], 8, f"{name}: not what was replaced")

    def troubles(self, name: str) -> int:
        """Count what befell the builder of untested code: with one trouble, it has to put the old code back."""
        digest, actor = self.suspects[name]
        at_update = self.faults_before[name]
        later = sum(each != "fails" for each in actor.faults[at_update:])
        in_it = bool(at_update) and actor.faults[at_update - 1] in ("lost", "lost-for-good", "slow-after")
        return later + in_it + ((actor.index, name, digest) in self.failed)

    def called(self, operation: str, parameters: dict[str, Any], function: Function, before: str) -> None:
        """Look at what was changed in Lambda."""
        actor, name = self.actor(), function.name
        after = function.latest.unit.config["CodeSha256"]
        if not actor.is_builder:
            return
        demand(self.holders.get(name) is actor, 4, f"{actor.name} does {operation} to {name}, and does not hold it")
        if operation == "update_function_code":
            self.updated(actor, function, before, after)
        elif operation in ("create_alias", "update_alias"):
            self.pointed(actor, function, parameters)
        elif operation == "publish_version":
            demand(after == self.noted(name), 3, f"{name}: a version of what this builder did not deploy")
            suspect = self.suspects.get(name)
            demand(not suspect or suspect[0] != after, 3, f"{name}: a version of what was not tested")

    def updated(self, actor: Actor, function: Function, before: str, after: str) -> None:
        """Look at an update."""
        name, request = function.name, actor.facts.request
        demand(after in self.whole, 1, f"{name} runs what nobody has built")
        changed_at, known_at = self.foreign.get(name, -1), self.looked.get((actor.index, name), -1)
        demand(changed_at <= known_at, 7, f"{actor.name} overwrites what somebody else gave {name} meanwhile")
        self.changes.append((actor, name, before, after))
        if after == before:
            return
        self.ran[name].append(after)
        self.pile_up(actor, name, before, after)
        if not actor.faults:  # a copy that cannot be had is only told of
            self.kept.add(before)
        wanted = request.test_event is not None and (actor.index, name, after) not in self.passed
        restored = any(each[0] is actor and each[1] == name and each[2] == after for each in self.changes)
        if name in self.suspects and self.suspects[name][1] is not actor and self.is_former(name, after):
            self.recoveries.append(self.changes[-1])
        if name in self.suspects and after != self.suspects[name][0]:
            restored = restored or not wanted or self.is_former(name, after)
        if wanted and not restored:
            self.suspects[name] = (after, actor)
            self.faults_before[name] = len(actor.faults)
        else:
            self.suspects.pop(name, None)

    def pile_up(self, actor: Actor, name: str, before: str, after: str) -> None:
        """Check where a rollback goes that was not told, and remember what is below what runs now."""
        below, request = self.piles.setdefault(name, [before]), actor.facts.request
        if isinstance(request, RollbackRequest):
            is_calm = not self.foreign and not any(each.faults for each in self.world.actors)
            if is_calm and request.to is None and request.test_event is None and len(below) > 1:
                demand(after == below[-2], 5, f"a rollback of {name} does not go to what ran before")
            while len(below) > 1 and below[-1] != after:
                below.pop()
        elif below[-2:-1] == [after] and (actor.index, name, before) in self.failed:
            below.pop()  # it was put back
        else:
            below.append(after)

    def is_former(self, name: str, digest: str) -> bool:
        """Say whether a function ran this code before the suspect came."""
        _, suspect = self.suspects[name]
        return any(each[0] is suspect and each[1] == name and each[2] == digest for each in self.changes)

    def pointed(self, actor: Actor, function: Function, parameters: dict[str, Any]) -> None:
        """Look at an alias that was moved."""
        name, label = function.name, f"{function.name}:{parameters['Name']}"
        code = function.version(parameters["FunctionVersion"]).unit.config["CodeSha256"]
        demand(code == self.noted(name), 3, f"{label} points at what this builder did not deploy")
        if actor.facts.request.test_event is not None:
            demand((actor.index, name, code) in self.passed, 3, f"{label} points at code that has not passed")
        suspect = self.suspects.get(name)
        demand(not suspect or suspect[0] != code, 3, f"{label} points at code that has not passed")
        demand(
            self.foreign.get(label, -1) <= self.looked.get((actor.index, label), -1), 7,
            f"{actor.name} overwrites where somebody else pointed {label} meanwhile",
        )  # fmt: skip

    def noted(self, name: str) -> object:
        """Return the code that the ledger says is being deployed."""
        return (self.pages[name]["holder"] or {}).get("code_sha256")

    def rehearsed(self, function: Function) -> None:
        """Note that a builder's preflight is over: what it has seen of a function is what it will replace."""
        self.known.add((self.actor().index, function.name))

    def saw(self, label: str) -> None:
        """Note that a builder has looked at a function, or for the first time at an alias."""
        key = self.actor().index, label
        if key not in self.known:
            self.looked[key] = len(self.world.points)
            if ":" in label:
                self.known.add(key)

    def interfered(self, label: str, digest: str | None = None) -> None:
        """Somebody else has changed a function, or an alias."""
        self.foreign[label] = len(self.world.points)
        if digest:
            self.whole.add(digest)
            self.ran[label].append(digest)
            self.suspects.pop(label, None)

    def tested(self, name: str, digest: str, passed: bool) -> None:
        """A test event was run."""
        actor = self.actor()
        if not passed:
            self.failed.add((actor.index, name, digest))
        else:
            self.passed.add((actor.index, name, digest))
            if name in self.suspects and self.suspects[name] == (digest, actor):
                del self.suspects[name]

    def begun(self, actor: Actor) -> None:
        """Remember what functions run when somebody asks."""
        actor.facts.first_seen = {name: len(digests) - 1 for name, digests in self.ran.items()}

    def answered(self, actor: Actor) -> None:
        """Check an answer."""
        asked: Asked = actor.facts
        names = [function_name(each) for each in asked.request.functions]
        if asked.error is not None:
            message = str(asked.error)
            disturbed = any(each.faults for each in self.world.actors) or self.foreign
            if not isinstance(asked.error, BuildInProgress) and not self.is_bad(actor) and not self.is_bottom(asked):
                demand(disturbed, 6, f"{actor.name} fails for no reason: {message}")
            if "Somebody else has changed the alias" in message:
                demand(any(":" in each for each in self.foreign), 5, f"{actor.name} blames somebody else: {message}")
            for name in names:
                if self.holders.get(name, actor) is actor and name not in self.foreign:
                    self.check_words(name, message, actor)
            return
        result = asked.result
        assert result is not None
        demand(result["status"] in GOOD, 6, f"{actor.name} is answered {result['status']}")
        for name in names:
            since = self.ran[name][asked.first_seen[name] :]
            # By clocks that differ, one that was done before he came may pass for one that was at work.
            is_told = result["code_sha256"] in since or any(each.skew for each in self.world.actors)
            demand(is_told, 5, f"{actor.name} is told of code that {name} has not run since")
        if isinstance(asked.request, BuildRequest):
            demand(result["commit"] in asked.heads, 5, f"{actor.name} asked for {asked.heads}, got {result['commit']}")
            demand(result["code_sha256"] == digest_of(result["commit"]), 5, f"{actor.name} got another package")

    def is_bottom(self, asked: Asked) -> bool:
        """Say whether a rollback fails since the history, of so many entries, does not say what ran before."""
        is_to_before = isinstance(asked.request, RollbackRequest) and asked.request.to is None
        if not is_to_before or "Nothing is known of what" not in str(asked.error):
            return False
        (function,) = asked.request.functions
        name = function_name(function)
        runs, history = self.ran[name][-1], self.pages[name]["history"]
        return len(history) >= KEPT_ENTRIES and not any(
            each["code_sha256"] == runs and each["replaces"] for each in history
        )

    def check_words(self, name: str, message: str, actor: Actor) -> None:
        """Compare what an error says of a function with what that runs."""
        runs = self.world.api.functions[name].latest.unit.config["CodeSha256"]
        mine = [each for each in self.changes if each[0] is actor and each[1] == name]
        if f"{name} runs the code that it ran before" in message and mine:
            demand(runs == mine[0][2], 5, f"{actor.name} says that {name} runs what it ran before: {message}")
        if f"{name} runs the new code" in message and mine:  # else it is another's answer
            demand(runs == mine[-1][3], 5, f"{actor.name} says that {name} runs the new code: {message}")

    def is_bad(self, actor: Actor) -> bool:
        """Say whether what was asked for cannot go well: the code fails its test event."""
        asked: Asked = actor.facts
        is_tested = asked.request.test_event is not None
        return is_tested and any(int(each, 16) % 100 == 66 for each in asked.heads)


def demand(holds: object, number: int, otherwise: str) -> None:
    """Raise Violation unless something holds."""
    if not holds:
        raise Violation(f"invariant {number}: {otherwise}")


def pile(history: list[Any]) -> list[str]:
    """Return what a function has run one after another, if all that its history tells of are builds that went well."""
    builds = [each for each in reversed(history) if each["replaces"]]
    return [*(each["replaces"] for each in builds[:1]), *(each["code_sha256"] for each in builds)]


def signature(entry: dict[str, Any]) -> tuple[str, float]:
    """Return what tells one invocation from another."""
    return entry["request_id"], entry["began"]
