"""What Lambda answers instead of a result, in the words that AWS was seen to use."""

from __future__ import annotations

from local.rest_json import ApiError


def invalid(message: str) -> ApiError:
    """Return the error for a request that Lambda will not carry out."""
    return ApiError("InvalidParameterValueException", 400, message)


def not_found(message: str) -> ApiError:
    """Return the error for something that does not exist."""
    return ApiError("ResourceNotFoundException", 404, message)


def conflict(message: str) -> ApiError:
    """Return the error for something that is under way, or exists."""
    return ApiError("ResourceConflictException", 409, message)


def violation(message: str) -> ApiError:
    """Return the error for one parameter that is outside of its constraint."""
    return ApiError("ValidationException", 400, f"1 validation error detected: {message}")


def stale_revision(call: str = "GetFunction/GetAlias") -> ApiError:
    """Return the error for a RevisionId that is not the latest; call is what would tell the latest one."""
    return ApiError(
        "PreconditionFailedException",
        412,
        "The Revision Id provided does not match the latest Revision Id. "
        f"Call the {call} API to retrieve the latest Revision Id",
    )


def throttled(reason: str) -> ApiError:
    """Return the error for an invocation too many; the reason says which limit it met."""
    return ApiError("TooManyRequestsException", 429, "Rate Exceeded.", Reason=reason)


def in_state(state: str) -> ApiError:
    """Return the error for what a function in this state cannot do."""
    return conflict(
        f"The operation cannot be performed at this time. The function is currently in the following state: {state}"
    )
