"""What doctor looks at, and in which order.  It changes nothing: the one object that it writes, it deletes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from yo_dawg.control import probes_aws, probes_here, probes_network, probes_targets
from yo_dawg.control.findings import try_out

if TYPE_CHECKING:
    from yo_dawg.control.findings import Check, Finding
    from yo_dawg.control.job import Job

CHECKS: Sequence[Check] = (
    ("bucket", probes_aws.check_bucket),
    ("bucket writes", probes_aws.check_writes),
    ("bucket versions", probes_aws.check_versioning),
    ("toolchain", probes_aws.check_toolchain),
    ("git token", probes_aws.check_token),
    ("git host", probes_network.check_git_host),
    ("package indexes", probes_aws.check_indexes),
)

ACCOUNT_CHECKS: Sequence[Check] = (
    ("concurrency", probes_aws.check_concurrency),
    ("code storage", probes_aws.check_code_storage),
    ("role", probes_aws.check_policies),
)


def examine(job: Job) -> Iterator[Finding]:
    """Yield finding after finding."""
    yield from probes_here.look_around(job)
    for check in (*CHECKS, *probes_network.index_checks(job), *ACCOUNT_CHECKS):
        yield try_out(job, check)
    for name in probes_targets.deployable_names(job):
        yield from probes_targets.examine_target(name, job)
