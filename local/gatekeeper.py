"""Holds functions to their roles' policies: what a role does not allow is refused as AWS refuses it.

The operator's own credentials may do everything. So may a role that has no policy at all, as tests make them that are
about other things: the builder's role has policies, as it comes from the template.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

from local import moto_mends
from local.iam import Context, Decision, decide, refusal
from local.requests import Deed, Here, deeds
from local.rest_json import Request, Response


@dataclass(frozen=True)
class Principal:
    """Who a function is."""

    role: str
    """The role's ARN."""
    arn: str
    """Its own, as STS names it."""


class Gatekeeper:
    """Knows who has which keys, and what they may do."""

    def __init__(self, here: Here) -> None:
        """Begin with the operator only."""
        self.here = here
        self.principals: dict[str, Principal] = {}
        self.caller: ContextVar[Principal | None] = ContextVar("caller", default=None)

    def admit(self, access_key: str, role: str, session: str) -> None:
        """Take note of the keys of a function's role."""
        name = role.rpartition("/")[2]
        arn = f"arn:aws:sts::{self.here.account}:assumed-role/{name}/{session}"
        self.principals[access_key] = Principal(role, arn)

    def caller_arn(self) -> str:
        """Return who makes the request at hand."""
        caller = self.caller.get()
        return caller.arn if caller else f"arn:aws:iam::{self.here.account}:user/operator"

    def refuse(self, service: str, access_key: str, request: Callable[[], Request]) -> Response | None:
        """Return the answer to a request that its maker may not make; None for one that may go on."""
        principal = self.principals.get(access_key)
        self.caller.set(principal)
        if principal is None:
            return None
        statements = moto_mends.role_statements(self.here.account, principal.role)
        if not statements:
            return None
        made = request()
        wanted = [
            (deed, decide(statements, deed.action, deed.resource, self.context(deed, principal)))
            for deed in deeds(service, made, self.here)
        ]
        first = wanted[0][0] if wanted else None
        for deed, decision in wanted:
            if first and decision is not Decision.ALLOWED:
                if made.method == "POST" and deed.action == "s3:DeleteObject":
                    return self.delete_what_may_be(wanted, principal)
                return answer(service, refused(service, first, deed, decision, principal))
        if service == "s3" and first and first.action in ("s3:GetObject", "s3:GetObjectVersion"):
            return self.refuse_to_say_what_is_missing(first, statements, principal)
        return None

    def context(self, deed: Deed, principal: Principal) -> Context:
        """Return what conditions may ask about."""
        account = deed.resource.split(":")[4] if deed.resource.count(":") > 4 else ""
        return {
            "aws:RequestedRegion": self.here.region,
            "aws:ResourceAccount": account or self.here.account,
            "aws:PrincipalArn": principal.role,
            "aws:PrincipalAccount": self.here.account,
            "aws:SecureTransport": "false",
            **deed.context,
        }

    def delete_what_may_be(self, wanted: list[tuple[Deed, Decision]], principal: Principal) -> Response:
        """Delete those of many objects that may be deleted; S3 answers of each one by itself."""
        parts = []
        for deed, decision in wanted:
            bucket, _, key = deed.resource.removeprefix("arn:aws:s3:::").partition("/")
            if decision is Decision.ALLOWED:
                moto_mends.delete_object(self.here.account, bucket, key)
                parts.append(f"<Deleted><Key>{escape(key)}</Key></Deleted>")
            else:
                message = escape(refusal(decision, principal.arn, *quoted(deed)))
                error = f"<Key>{escape(key)}</Key><Code>AccessDenied</Code><Message>{message}</Message>"
                parts.append(f"<Error>{error}</Error>")
        body = f"<DeleteResult>{''.join(parts)}</DeleteResult>".encode()
        return Response(200, body, {"Content-Type": "application/xml"})

    def refuse_to_say_what_is_missing(
        self, deed: Deed, statements: list[dict[str, Any]], principal: Principal
    ) -> Response | None:
        """Return S3's answer about an object that is not there to who may not list the bucket: not that it is not."""
        bucket, _, key = deed.resource.removeprefix("arn:aws:s3:::").partition("/")
        if moto_mends.object_exists(self.here.account, bucket, key):
            return None
        listing = Deed("s3:ListBucket", f"arn:aws:s3:::{bucket}")
        decision = decide(statements, listing.action, listing.resource, self.context(listing, principal))
        if decision is Decision.ALLOWED:
            return None
        return answer("s3", refused("s3", listing, listing, decision, principal))


def refused(service: str, first: Deed, deed: Deed, decision: Decision, principal: Principal) -> str:
    """Say why a request is refused."""
    if service == "lambda" and deed is not first:
        return (
            "Your access has been denied by S3, please make sure your request credentials have permission to "
            f"{deed.action.partition(':')[2]} for {deed.resource.removeprefix('arn:aws:s3:::')}. "
            f"S3 Error Code: AccessDenied. S3 Error Message: {refusal(decision, principal.arn, *quoted(deed))}"
        )
    return refusal(decision, principal.arn, *(quoted(deed) if service == "s3" else (deed.action, deed.resource)))


def quoted(deed: Deed) -> tuple[str, str]:
    """Return an action and its resource as S3 writes them."""
    return deed.action, f'"{deed.resource}"'


def answer(service: str, message: str) -> Response:
    """Return a refusal in the shape that a service gives it."""
    if service == "s3":
        return Response(403, moto_mends.error_document("AccessDenied", message), {"Content-Type": "application/xml"})
    if service == "lambda":
        headers = {"Content-Type": "application/json", "x-amzn-ErrorType": "AccessDeniedException"}
        return Response(403, json.dumps({"Message": message}).encode(), headers)
    if service in ("sts", "iam", "cloudformation"):
        error = f"<Error><Type>Sender</Type><Code>AccessDenied</Code><Message>{message}</Message></Error>"
        return Response(403, f"<ErrorResponse>{error}</ErrorResponse>".encode(), {"Content-Type": "text/xml"})
    body = {"__type": "AccessDeniedException", "Message": message, "message": message}
    return Response(400, json.dumps(body).encode(), {"Content-Type": "application/x-amz-json-1.1"})
