"""What must hold once all is quiet, and once more after one more build (docs/invariants.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.simulation.builders import PREFIX, Asked, Region
from tests.simulation.stubs import KEPT_ENTRIES, KEPT_PACKAGES, digest_of
from tests.simulation.witness import EMPTY, GOOD, Witness, demand, signature
from yo_dawg.digests import base64_to_hex
from yo_dawg.errors import BuildInProgress
from yo_dawg.events import BuildRequest, RollbackRequest, function_name

if TYPE_CHECKING:
    from local.functions import Function
    from tests.simulation.world import Actor


class Watch(Witness):
    """Watches one run, and judges what it leaves."""

    def __init__(self, world: Region) -> None:
        """Be told of all that happens in a world."""
        super().__init__(world)
        world.watch = self

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
        # Whose code ran when the last deployment began counted then, though killed: what it replaced could be put back.
        overtaken = [each for each in history if each["code_sha256"] == (history[0]["replaces"] or runs)]
        told = [*good, *overtaken, *self.forgotten.get(name, ())]
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
