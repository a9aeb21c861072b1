"""What must hold after every step, whatever happens: the promise of README, spelled out (docs/invariants.md).

The watch sees what really happens in S3 and Lambda, and who does it; it asks nothing of the control code, and reckons
by rules of its own.  Each check raises Violation with a number of docs/invariants.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from tests.simulation.builders import KEPT_ENTRIES, KEPT_PACKAGES, PREFIX, Asked, FastJson, Region, digest_of
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


class Watch:
    """Watches one run."""

    def __init__(self, world: Region) -> None:
        """Begin with what there is."""
        self.world = world
        world.watch = self
        latest = {name: each.latest.unit.config["CodeSha256"] for name, each in world.api.functions.items()}
        self.first = dict(latest)
        self.whole = {each.sha256 for key, each in world.s3.objects.items() if "/packages/" in key} | {*latest.values()}
        self.kept = {each.sha256 for key, each in world.s3.objects.items() if "/packages/" in key}
        self.pages = {
            key.removeprefix(LOCKS): FastJson.loads(each.content)
            for key, each in world.s3.objects.items()
            if key.startswith(LOCKS)
        }
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

    def answered(self, actor: Actor) -> None:
        """Check an answer."""
        asked: Asked = actor.facts
        names = [function_name(each) for each in asked.request.functions]
        if asked.error is not None:
            message = str(asked.error)
            disturbed = any(each.faults for each in self.world.actors) or self.foreign
            if not isinstance(asked.error, BuildInProgress) and not self.is_bad(actor):
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
        if isinstance(asked.request, BuildRequest):
            demand(result["commit"] in asked.heads, 5, f"{actor.name} asked for {asked.heads}, got {result['commit']}")
            demand(result["code_sha256"] == digest_of(result["commit"]), 5, f"{actor.name} got another package")

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

    # --- when all is quiet ---

    def quiet(self) -> None:
        """Check what holds once nobody does anything."""
        disturbed = any(each.faults for each in self.world.actors)
        for name, function in self.world.api.functions.items():
            runs = function.latest.unit.config["CodeSha256"]
            demand(runs in self.whole, 1, f"{name} runs what nobody has built")
            holder = self.holders.get(name)
            demand(holder is None or holder.dead or disturbed, 6, f"{name} is held for ever by one who has ended")
            if name not in self.foreign and holder is None:
                self.check_last_word(name, runs)
        if not self.foreign and not disturbed:
            self.check_retries()

    def check_last_word(self, name: str, runs: str) -> None:
        """Compare what a function runs with what the history says."""
        possible = {self.first[name]}
        for entry in self.pages.get(name, EMPTY)["history"]:
            if entry["code_sha256"]:
                possible = {entry["code_sha256"]}
                if entry["status"] in GOOD:
                    break
                possible |= {entry["replaces"]}
        failed = [each for each in self.pages.get(name, EMPTY)["history"] if each["status"] not in GOOD]
        if not failed:
            demand(runs in possible, 5, f"{name} runs something else than the last builder deployed")
        told = [each.facts for each in self.world.asked if name in map(function_name, each.facts.request.functions)]
        good = [each for each in told if each.result and isinstance(each.request, BuildRequest)]
        all_good = len(good) == len(told)
        if all_good and good:
            last = max(each.asked_at for each in good)
            fine = {each.result["code_sha256"] for each in good if each.answered_at >= last}
            demand(runs in fine, 5, f"{name} runs what was asked for before")

    def check_retries(self) -> None:
        """Who asks the same again while the first is at work, or just after, gets the one build's answer.

        Just after, that is so only if nobody has asked for anything else meanwhile.
        """
        asked: list[Asked] = [each.facts for each in self.world.asked if not self.is_bad(each)]
        for first in asked:
            same = [each for each in asked if each.request == first.request]
            if not isinstance(first.request, BuildRequest) or same[0] is not first:
                continue
            heads = frozenset[str]().union(*(each.heads for each in same))
            late = 0
            if len(same) < len(asked):
                late = sum(each.asked_at >= (first.answered_at or 0.0) for each in same[1:])
            built = sum(each.built for each in same)
            demand(built <= len(heads) + late, 9, f"{len(heads)} commits were asked for, and {built} packages built")
        rollbacks = [each.facts for each in self.world.asked if isinstance(each.facts.request, RollbackRequest)]
        if len({repr(each.request) for each in rollbacks}) == 1 and len(rollbacks) == len(self.world.asked) > 1:
            done = {(each.result or {}).get("code_sha256") for each in rollbacks}
            demand(len(done) == 1, 9, "a rollback that was asked for twice was done twice")

    def settled(self, names: list[str]) -> None:
        """Check what holds after one more build of these functions that nothing disturbed."""
        for name in names:
            function = self.world.api.functions[name]
            runs = function.latest.unit.config["CodeSha256"]
            demand(name not in self.suspects or self.suspects[name][0] != runs, 2, f"{name} runs untested code")
            demand(runs == digest_of(self.world.refs["main"]), 6, f"{name} does not run what was built last")
            demand(self.pages[name]["holder"] is None, 6, f"{name} is still held")
            self.check_told(name)
            self.check_left(name, function)

    def check_told(self, name: str) -> None:
        """Look for each change in the history."""
        history = self.pages[name]["history"]
        entries_of: dict[Actor | None, list[Any]] = {}
        for each in history:
            entries_of.setdefault(self.signatures.get(signature(each)), []).append(each)
        for actor in self.world.asked:
            asked: Asked = actor.facts
            changed = [
                each for each in self.changes if each[:2] == (actor, name) and each[2] != each[3]
                and each not in self.recoveries
            ]  # fmt: skip
            entries = entries_of.get(actor, [])
            if len(history) >= KEPT_ENTRIES and not entries:
                continue
            if changed:
                demand(entries, 8, f"the history of {name} does not tell of {actor.name}")
            if asked.result and changed and not any(each.faults for each in self.world.actors):
                demand(entries[0]["status"] == "deployed", 8, f"{actor.name} is told as {entries[0]['status']}")
            if asked.error and entries and not isinstance(asked.error, BuildInProgress):
                is_told = entries[0]["status"] not in GOOD or entries[0]["error"]
                demand(is_told, 8, f"{actor.name} failed, and is told as good")

    def check_left(self, name: str, function: Function) -> None:
        """Look for what is left in S3 without a reason, and for what should be there."""
        objects = self.world.s3.objects
        history = self.pages[name]["history"]
        records = {f"{PREFIX}{each['record']}" for page in self.pages.values() for each in page["history"]}
        for key in objects:
            if key.startswith(f"{PREFIX}builds/{name}/"):
                demand(key.rpartition(".")[0] in records, 10, f"{key} is left, and no history tells of it")
        stored = {key.rpartition("/")[2][:-4] for key in objects if key.startswith(f"{PREFIX}packages/{name}/")}
        bundles = {
            key.rpartition("/")[2].partition(".")[0] for key in objects if key.startswith(f"{PREFIX}bundles/{name}/")
        }
        demand(bundles <= stored, 10, f"{name}: a manifest is left without its package")
        runs = function.latest.unit.config["CodeSha256"]
        good = [each for each in history if each["status"] in GOOD or each["code_sha256"] == runs]
        digests = dict.fromkeys(d for each in good for d in (each["code_sha256"], each["replaces"]) if d)
        versions = sorted(function.versions, key=int)[-2:]
        named = {function.version(number).unit.config["CodeSha256"] for number in versions}
        for each in function.aliases.values():
            if f"{name}:{each.name}" not in self.foreign:
                named.add(function.version(each.version).unit.config["CodeSha256"])
        wanted = {base64_to_hex(each) for each in [*list(digests)[:KEPT_PACKAGES], runs, *named]}
        told = [*good, *self.forgotten.get(name, ())]
        before = {base64_to_hex(d) for each in told for d in (each["code_sha256"], each["replaces"]) if d}
        surplus = stored - wanted - before
        demand(len(stored) <= KEPT_PACKAGES or not surplus, 10, f"{name}: packages are left that nobody needs")
        if len(good) < len(history) or any(each["status"] not in GOOD for each in good):
            # What was tidied up when a build was not yet known as interrupted may be gone; not what a rollback takes.
            wanted = {base64_to_hex(runs), *map(base64_to_hex, named)}
            wanted |= {base64_to_hex(each["replaces"]) for each in [each for each in good if each["replaces"]][:1]}
        lost = (wanted & {base64_to_hex(each) for each in self.kept}) - stored
        if not any("denied" in each.faults or "lost" in each.faults for each in self.world.actors):
            demand(not lost, 10, f"{name}: packages are gone that may be put back")


def demand(holds: object, number: int, otherwise: str) -> None:
    """Raise Violation unless something holds."""
    if not holds:
        raise Violation(f"invariant {number}: {otherwise}")


def signature(entry: dict[str, Any]) -> tuple[str, float]:
    """Return what tells one invocation from another."""
    return entry["request_id"], entry["began"]
