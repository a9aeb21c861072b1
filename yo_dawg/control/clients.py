"""boto3's clients, and what AWS's refusals mean."""

from __future__ import annotations

import contextlib
import functools
import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from yo_dawg.errors import DeployError, OutOfTime

if TYPE_CHECKING:
    from yo_dawg.errors import YoDawgError

Answer = TypeVar("Answer")
"""Whatever a call returns."""

CHANGED = ("ResourceConflictException", "PreconditionFailedException")
"""Lambda's words for somebody else's change, under way or made since we looked."""

BUSY = (*CHANGED, "TooManyRequestsException")
"""Lambda's "not now"."""


@dataclass(frozen=True)
class Aws:
    """The clients, made once per invocation."""

    s3: Any
    functions: Any
    make: Callable[[str], Any]
    """Makes those that few invocations ask for."""

    @functools.cached_property
    def secrets(self) -> Any:
        """Secrets Manager."""
        return self.make("secretsmanager")

    @functools.cached_property
    def tags(self) -> Any:
        """The tags of all that there is."""
        return self.make("resourcegroupstaggingapi")


def make_clients() -> Aws:
    """Make the clients.

    boto3 is imported here, not at the top, since the git worker runs this same file without it.
    """
    gc.disable()  # it would go through all that is new, again and again, and find nothing to free
    try:
        import boto3
        from botocore.config import Config

        # Short time-outs and few tries: the deadline, not a hung socket, decides when we give up.
        config = Config(connect_timeout=5, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 4})
        make = functools.partial(boto3.client, config=config)
        return Aws(s3=make("s3"), functions=make("lambda"), make=make)
    finally:
        gc.enable()


def patient(aws: Aws, seconds: float) -> Aws:
    """Return clients that wait this long for a function's answer, and never ask for it twice."""
    import boto3
    from botocore.config import Config

    config = Config(connect_timeout=5, read_timeout=seconds, retries={"total_max_attempts": 1})
    return replace(aws, functions=boto3.client("lambda", config=config))


@contextlib.contextmanager
def aws_says(doing: str, error_type: type[YoDawgError] = DeployError) -> Iterator[None]:
    """Turn AWS's refusals and network failures into an error that says what was being done."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "unknown error")
        text = error.response.get("Error", {}).get("Message", "")
        hint = ""
        if code in ("AccessDenied", "AccessDeniedException", "403"):
            hint = ' The builder\'s role lacks the permission: run "./deploy.sh bootstrap" to bring it up to date.'
        if code in ("CodeVerificationFailedException", "InvalidCodeSignatureException"):
            hint = (
                " It takes signed code only, and yo-dawg signs nothing: let its code signing configuration warn "
                "(UntrustedArtifactOnDeployment), or take that configuration away."
            )
        raise error_type(f"Cannot {doing}: AWS answered {code}: {text.rstrip('.')}.{hint}") from None
    except BotoCoreError as error:
        raise error_type(f"Cannot {doing}: {error}.") from None


def error_code(error: Exception) -> str:
    """Return AWS's code for a ClientError."""
    response = getattr(error, "response", {})
    return str(response.get("Error", {}).get("Code", ""))


def insist(doing: str, call: Callable[[], Answer]) -> Answer:
    """Make a call again and again while Lambda is busy; the deadline ends that.  Raises DeployError."""
    from botocore.exceptions import ClientError

    pause = 0.2
    while True:
        with aws_says(doing):
            try:
                return call()
            except ClientError as error:
                if error_code(error) not in BUSY:
                    raise
                said = f" Lambda would not {doing}: {error}"
        try:
            time.sleep(pause)
        except OutOfTime:
            raise OutOfTime(said) from None
        pause = min(2 * pause, 5.0)


def pages(call: Callable[..., Any], items: str, name: str) -> Iterator[Any]:
    """Yield what one of Lambda's lists holds, page after page."""
    marker: dict[str, str] = {}
    while True:
        answer = call(FunctionName=name, **marker)
        yield from answer.get(items, [])
        if not answer.get("NextMarker"):
            return
        marker = {"Marker": answer["NextMarker"]}
