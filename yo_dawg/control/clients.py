"""boto3's clients, and what AWS's refusals mean."""

from __future__ import annotations

import contextlib
import functools
import gc
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from yo_dawg.control.models import see_all, too_old
from yo_dawg.errors import ConfigError, DeployError, OutOfTime

if TYPE_CHECKING:
    from yo_dawg.errors import YoDawgError

Answer = TypeVar("Answer")
"""Whatever a call returns."""

CHANGED = ("ResourceConflictException", "PreconditionFailedException")
"""Lambda's words for somebody else's change, under way or made since we looked."""

BUSY = (*CHANGED, "TooManyRequestsException")
"""Lambda's "not now"."""

DENIED = ("AccessDenied", "AccessDeniedException", "403")
"""What S3, the others, and a HEAD of S3 call a missing permission."""

KMS_KEY = re.compile(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:(?:key|alias)/[A-Za-z0-9/_-]+")

NOT_YET_RUN = """
TooManyRequests ResourceConflict ResourceNotReady CodeArtifactUserPending
SnapStartNotReady SnapStartTimeout SnapStartRegenerationFailure
ENINotReady ENILimitReached EC2Throttled EC2Unexpected SubnetIPAddressLimitReached
EFSMountConnectivity EFSMountTimeout S3FilesMountConnectivity S3FilesMountTimeout
"""
"""Why Invoke did not run a function, though it may soon: what it runs on is not ready, or there is too much of it."""

NOT_RUN = """
AccessDenied ResourceNotFound ServiceQuotaExceeded NoPublishedVersion ModeNotSupported
InvalidParameterValue InvalidRequestContent UnsupportedMediaType RequestTooLarge
SerializedRequestEntityTooLarge DurableExecutionAlreadyStarted
KMSAccessDenied KMSDisabled KMSInvalidState KMSNotFound
EC2AccessDenied InvalidSecurityGroupID InvalidSubnetID EFSMountFailure S3FilesMountFailure
InvalidRuntime RuntimeAliasDeleted RuntimeVersionDeleted CodeArtifactUserFailed CodeArtifactUserDeleted
"""
"""Why Invoke does not run a function before somebody mends something else than its code."""


@dataclass(frozen=True)
class Aws:
    """The clients."""

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


@functools.lru_cache(maxsize=1)
def clients_for(_endpoint: str) -> Aws:
    """Return the clients for AWS at this place, which an environment keeps, with their open connections.

    AWS advises so ("Initialize SDK clients outside of the function handler"): an environment has the same credentials
    for as long as it lives, and those of SnapStart boto3 fetches anew by itself.  Several threads may use them at a
    time.  An invocation that fails forgets them (``cache_clear``): what broke it off may have left them in disorder.
    """
    return make_clients()


def make_clients() -> Aws:
    """Make the clients.

    boto3 is imported here, not at the top: the workshop's programs get ready meanwhile.
    """
    gc.disable()  # it would go through all that is new, again and again, and find nothing to free
    try:
        import boto3
        from botocore.config import Config

        # Short time-outs and few tries: the deadline, not a hung socket, decides when we give up.
        config = Config(connect_timeout=5, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 4})
        make = functools.partial(boto3.client, config=config)
        made = Aws(s3=make("s3"), functions=make("lambda"), make=make)
        see_all(made.functions)
        return made
    finally:
        gc.enable()


def client_with_timeout(aws: Aws, seconds: float) -> Aws:
    """Return clients that wait this long for a function's answer, and never ask for it twice."""
    import boto3
    from botocore.config import Config

    config = Config(connect_timeout=5, read_timeout=seconds, retries={"total_max_attempts": 1})
    return replace(aws, functions=boto3.client("lambda", config=config))


@contextlib.contextmanager
def translate_aws_errors(
    doing: str, error_type: type[YoDawgError] = DeployError, find_key: Callable[[], object] = lambda: None
) -> Iterator[None]:
    """Turn AWS's refusals and network failures into an error that says what was being done.

    ``find_key`` says which key of KMS is in use there: it is asked where AWS refuses that and does not name it.
    """
    from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "unknown error")
        text = error.response.get("Error", {}).get("Message", "")
        hint = refusal_advice(str(code), str(text), find_key)
        raise error_type(f"Cannot {doing}: AWS answered {code}: {text.rstrip('.')}.{hint}") from None
    except ParamValidationError as error:
        raise ConfigError(f"Cannot {doing}: {too_old(f'what that takes ({error})')}") from None
    except BotoCoreError as error:
        raise error_type(f"Cannot {doing}: {error}.") from None


def refusal_advice(code: str, text: str, find_key: Callable[[], object] = lambda: None) -> str:
    """Return what to do about a refusal, as a sentence that follows it; "" if that is not known."""
    if re.search(r"\bkms\b", text, re.IGNORECASE) or code.startswith("KMS"):
        return kms_advice(code, text, find_key)
    if code in DENIED:
        return ' The builder\'s role lacks the permission: run "./deploy.sh bootstrap" to bring it up to date.'
    if code in ("CodeVerificationFailedException", "InvalidCodeSignatureException"):
        return (
            " It takes signed code only, and yo-dawg signs nothing: let its code signing configuration warn "
            "(UntrustedArtifactOnDeployment), or take that configuration away."
        )
    return ""


def kms_advice(code: str, text: str, find_key: Callable[[], object]) -> str:
    """Return what to do where KMS refuses a key, which it does not always name."""
    from botocore.exceptions import BotoCoreError, ClientError

    found = KMS_KEY.search(text)
    name = found[0] if found else ""
    # AWS's refusal is the news, not that of a question about it, nor an answer of another shape.
    with contextlib.suppress(ClientError, BotoCoreError, LookupError, ValueError, TypeError, AttributeError):
        name = name or str(find_key() or "")
    key = f"the key {name}" if name else "the customer key that it is encrypted with"
    if code not in DENIED and not re.search("AccessDenied|not authorized|access has been denied", f"{code} {text}"):
        return f" Look at {key} in KMS: it must be there, and enabled."
    add = f"add {name}" if KMS_KEY.fullmatch(name) else "add its ARN"
    return (
        f" KMS does not let the builder's role use {key}: {add} to kms_keys in config.ini and run "
        '"./deploy.sh bootstrap"; the policy of the key itself must allow this account or this role, too.'
    )


def is_denied(error: Exception) -> bool:
    """Say whether AWS refused for want of a permission."""
    return error_code(error) in DENIED


def may_still_run(error: Exception) -> bool | None:
    """Say whether a function that was not run may be run soon; None if it was run, or nobody knows."""
    from botocore.exceptions import ClientError, ConnectTimeoutError, EndpointConnectionError

    if not isinstance(error, ClientError):  # the request was not even sent, or there is no telling
        return True if isinstance(error, (ConnectTimeoutError, EndpointConnectionError)) else None
    code = error_code(error).removesuffix("Exception")
    return True if code in NOT_YET_RUN.split() else False if code in NOT_RUN.split() else None


def error_code(error: Exception) -> str:
    """Return AWS's code for a ClientError."""
    response = getattr(error, "response", {})
    return str(response.get("Error", {}).get("Code", ""))


def retry_while_busy(doing: str, call: Callable[[], Answer]) -> Answer:
    """Make a call again and again while Lambda is busy; the deadline ends that.  Raises DeployError."""
    from botocore.exceptions import ClientError

    pause = 0.2
    while True:
        with translate_aws_errors(doing):
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
