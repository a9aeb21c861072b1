"""What doctor finds: lines with a name, whether all is well, and what to do if not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from yo_dawg.control.clients import error_code, is_denied, translate_aws_errors
from yo_dawg.errors import YoDawgError

if TYPE_CHECKING:
    from yo_dawg.control.job import Job

Finding = dict[str, Any]
"""{"name", "ok", "says"}; ok is None where it cannot be told, which is no failure."""

Check = tuple[str, Callable[["Job"], str]]
"""A name, and what looks: it returns what to say, or raises YoDawgError, or Unknown."""


NOT_OFFERED = ("UnknownOperationException", "UnknownOperation", "NotImplemented", "InvalidAction")
"""What an AWS answers to a question that it does not know: not every region, and no imitation, has all."""


class Unknown(Exception):
    """A check that cannot be made, and why; nothing is wrong by that."""


def finding(name: str, says: str, *, ok: bool | None = True) -> Finding:
    """Return a line of doctor's answer."""
    return {"name": name, "ok": ok, "says": says}


def try_out(job: Job, check: Check) -> Finding:
    """Return the finding of a check: what it says, or the error that it ends with."""
    name, look = check
    try:
        return finding(name, job.log.mask(look(job)))
    except Unknown as reason:
        return finding(name, job.log.mask(str(reason)), ok=None)
    except YoDawgError as error:
        return finding(name, job.log.mask(str(error)), ok=False)


@contextmanager
def looking(at: str, permission: str) -> Iterator[None]:
    """Turn AWS's refusals into errors, but that of a permission which only doctor wants into Unknown."""
    from botocore.exceptions import ClientError

    with translate_aws_errors(f"look at {at}"):
        try:
            yield
        except ClientError as error:
            if error_code(error) in NOT_OFFERED:
                raise Unknown(f"{at} cannot be looked at: this AWS does not offer that ({error_code(error)})") from None
            if not is_denied(error):
                raise
            raise Unknown(
                f"{at} cannot be looked at: the builder's role lacks {permission}, which only doctor would use"
            ) from None
