"""Mistakes, put into the control code one at a time: the invariants have to find each of them.

A mutant is a change of one function's text, made in memory only.  If the text that it changes is not there any more,
the test says so: then the mutant is to be written anew.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from yo_dawg.control import deploy, ledger, packages, records, recovery, rollback, store, tidying


@dataclass(frozen=True)
class Mutant:
    """One mistake."""

    name: str
    where: Any
    """The function, or the method."""
    before: str
    after: str
    found_by: str
    """The schedule in which it was found before: it is tried first."""


MUTANTS = (
    Mutant("release before the record", records.finish_build,
           "                if is_new:\n                    record(request, result, job)\n",
           "                for each in job.ledgers:\n                    each.release()\n"
           "                if is_new:\n                    record(request, result, job)\n", found_by="build:"),
    Mutant("update without RevisionId", deploy.put_code,
           '{"RevisionId": current.revision} if current.revision else {}', "{}", found_by="update by hand: 22:>1"),
    Mutant("alias without RevisionId", deploy.point_alias,
           '{"RevisionId": found.revision} if found and found.revision else {}', "{}",
           found_by="alias by hand: 30:>1"),
    Mutant("forget the put-back", deploy.take_back, "for _ in range(2):", "for _ in range(0):",
           found_by="build that fails its test event:"),
    Mutant("no put-back when time is over", deploy.update_and_test,
           "except (OutOfTime, DeployError):", "except DeployError:",
           found_by="build with test event and alias: 25:conflict-for-ever"),
    Mutant("lock without condition", store.Store.replace, "**condition, ", "", found_by="different commits: 4:>1"),
    Mutant("a lock that is refused is taken for ours", store.Store.replace, "return None", "return etag",
           found_by="different commits: 4:>1"),
    Mutant("trust a lost answer", deploy.put_code, "if updated.code_sha256 != package.code_sha256:", "if False:",
           found_by="update by hand: 24:>1"),
    Mutant("do not see a lost answer", deploy.point_alias, "if now is None or now.version != version:", "if True:",
           found_by="build with test event and alias: 30:lost"),
    Mutant("overwrite somebody else's update", deploy.put_code,
           "if current.code_sha256 not in (before.code_sha256, package.code_sha256):", "if False:",
           found_by="update by hand: 24:>1"),
    Mutant("tidy too much", tidying.tidy, "[:KEPT_PACKAGES], target.code_sha256,", "[:1], target.code_sha256,",
           found_by="build:"),
    Mutant("forget the versions when tidying", tidying.tidy, "*versions_code(target.name, job.aws)", "",
           found_by="build:"),
    Mutant("do not tidy", tidying.tidy, "if len(stored) <= KEPT_PACKAGES:", "if True:",
           found_by="build that fails its test event:"),
    Mutant("leave the manifests", tidying.tidy, "*map(bundle_key, doomed), ", "",
           found_by="build with test event and alias:"),
    Mutant("keep no copy", packages.back_up_current_code, "fetch_code(package, target.name, job)", "pass",
           found_by="update by hand: 0:>1"),
    Mutant("overrule the living", ledger.Ledger._is_dead, "time.time() > holder.until + CLOCK_SKEW", "True",
           found_by="different commits: 30:>1"),
    Mutant("trust the clock", ledger.Ledger._is_dead, " + CLOCK_SKEW", " - 5 * CLOCK_SKEW",
           found_by="two rollbacks: 21:slow-after 22:>1"),
    Mutant("overrule nobody", ledger.Ledger._is_dead, "time.time() > holder.until + CLOCK_SKEW", "False",
           found_by="build: 31:conflict-for-ever"),
    Mutant("do not know this environment", ledger.Ledger._is_dead, "return same_environment or ", "return ",
           found_by="build: 29:crash-after-warm"),
    Mutant("the id alone tells who holds it", ledger.Ledger._is_ours,
           "(holder.request_id, holder.began) == (ours.request_id, ours.began)",
           "holder.request_id == ours.request_id", found_by="delivered twice: 31:>1"),
    Mutant("release whoever holds it", ledger.Ledger.release, "if self._is_ours(state) else None", "",
           found_by="different commits: 62:conflict-for-ever"),
    Mutant("forget who died", ledger.Ledger.acquire, "LedgerState(self.entry, (left, *state.history))",
           "LedgerState(self.entry, state.history)", found_by="build: 31:conflict-for-ever"),
    Mutant("note nothing", deploy.deploy_all, "ledger.note(", "dict(", found_by="build:"),
    Mutant("note no way back", deploy.deploy_all, "target.code_sha256 if is_tested else None", "None",
           found_by="build with test event and alias: 24:crash-before-warm"),
    Mutant("do not recover", recovery.take_back_untested, "if running.code_sha256 != entry.code_sha256:", "if True:",
           found_by="build with test event and alias: 24:crash-before-warm"),
    Mutant("test before Lambda is done", deploy.put_code, "updated = wait_until_updated(aws, before.name)",
           "updated = Target.from_configuration(describe_function(aws, before.name))",
           found_by="build that fails its test event:"),
    Mutant("publish before the test", deploy.update_and_test, "if problem := run_test(",
           "if request.alias and (problem := publish(running, package, job.aws)) and (problem := run_test(",
           found_by="build that fails its test event:"),
    Mutant("a test that fails is no matter", deploy.update_and_test, "if problem := run_test(", "if not run_test(",
           found_by="build that fails its test event:"),
    Mutant("answer the retry whatever the commit", records.earlier_answer, "and ours.commit in (None, last.commit)",
           "", found_by="same request and push: 32:>2"),
    Mutant("build the retry again", records.earlier_answer, "if stored is None:", "if True:",
           found_by="two rollbacks:"),
    Mutant("answer the retry whatever runs", records.earlier_answer, "if not is_true or", "if",
           found_by="same request and update by hand: 32:>2"),
    Mutant("no answer for who was overtaken", records.awaited_or_last, "each.request_id in awaited", "False",
           found_by="same request, and a rollback: 29:>1 36:>2"),
    Mutant("roll back in circles", rollback.ran_before, "if pile[-1:] == [digest]:", "if False:",
           found_by="rollbacks, down to the bottom:"),
    Mutant("leave the records", records.release, 'for suffix in (".log", ".json")', 'for suffix in (".log",)',
           found_by="build:"),
    Mutant("release nothing", records.release, "ledger.release(forgotten, **how)", "pass", found_by="build:"),
    Mutant("tell a failure as deployed", records.outcome, 'else "failed"', 'else "deployed"',
           found_by="build that fails its test event:"),
)  # fmt: skip


@contextlib.contextmanager
def mutated(mutant: Mutant) -> Iterator[None]:
    """Have one mistake in the control code."""
    original = mutant.where
    text = textwrap.dedent(inspect.getsource(original))
    if text.count(mutant.before) != 1:
        raise LookupError(
            f"{mutant.name}: {text.count(mutant.before)} times in {original.__qualname__}: {mutant.before}"
        )
    text = text.replace(mutant.before, mutant.after)
    if mutant.after.count("(") > mutant.before.count("(") and mutant.name == "publish before the test":
        text = text.replace("request.test_event, job):", "request.test_event, job)):", 1)
    namespace: dict[str, Any] = {}
    exec(compile(text, f"<{mutant.name}>", "exec", dont_inherit=True, flags=FUTURE), original.__globals__, namespace)  # noqa: S102
    changed = namespace[original.__name__]
    owner_name = original.__qualname__.rpartition(".")[0]
    if owner_name:
        owners = [(original.__globals__[owner_name], original.__name__)]
    else:
        modules = [each for key, each in sys.modules.items() if key.startswith("yo_dawg") or key == "lambda_function"]
        owners = [(each, name) for each in modules for name, value in vars(each).items() if value is original]
    for owner, name in owners:
        setattr(owner, name, changed)
    try:
        yield
    finally:
        for owner, name in owners:
            setattr(owner, name, original)


FUTURE = __import__("__future__").annotations.compiler_flag
