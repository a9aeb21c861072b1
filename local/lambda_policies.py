"""The resource policies of functions, which are kept and not enforced."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from local.functions import LATEST, Function, new_revision
from local.lambda_account import Account
from local.lambda_errors import conflict, invalid, not_found, stale_revision

CONDITIONS = {
    "SourceArn": ("ArnLike", "AWS:SourceArn"),
    "SourceAccount": ("StringEquals", "AWS:SourceAccount"),
    "EventSourceToken": ("StringEquals", "lambda:EventSourceToken"),
    "FunctionUrlAuthType": ("StringEquals", "lambda:FunctionUrlAuthType"),
    "PrincipalOrgID": ("StringEquals", "aws:PrincipalOrgID"),
}


class PolicyOperations:
    """What can be asked of functions' resource policies."""

    def __init__(self, account: Account) -> None:
        """Work on an account's functions."""
        self.account = account

    def owner(self, function: Function, qualifier: str | None) -> Any:
        """Return what has the policy, and with it the revision: the function, a version or an alias."""
        if qualifier in function.aliases:
            return function.aliases[qualifier]
        if qualifier and not qualifier.isdecimal() and re.fullmatch(r"[a-zA-Z0-9-_]+", qualifier):
            raise not_found(f"Cannot find alias arn: {function.arn}:{qualifier}")
        return function.version(qualifier)

    def add_permission(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Add a statement to a policy."""
        _, qualifier = self.account.parse_name(parameters)
        if qualifier == LATEST:
            raise invalid("We currently do not support adding policies for $LATEST.")
        function, qualifier = self.account.find(parameters)
        owner = self.owner(function, qualifier)
        principal = principal_of(parameters["Principal"])
        statements = function.policies.setdefault(qualifier or "", [])
        if parameters.get("RevisionId") not in (None, owner.revision):
            raise stale_revision("GetPolicy" if qualifier else "GetFunction/GetAlias")
        sid = parameters["StatementId"]
        if any(statement["Sid"] == sid for statement in statements):
            raise conflict(
                f"The statement id ({sid}) provided already exists. "
                "Please provide a new statement id, or remove the existing statement."
            )
        conditions: dict[str, dict[str, str]] = {}
        for name, (operator, key) in CONDITIONS.items():
            if name in parameters:
                conditions.setdefault(operator, {})[key] = parameters[name]
        statement = {
            "Sid": sid,
            "Effect": "Allow",
            "Principal": principal,
            "Action": parameters["Action"],
            "Resource": function.arn + (f":{qualifier}" if qualifier else ""),
        } | ({"Condition": conditions} if conditions else {})
        statements.append(statement)
        owner.revision = new_revision()
        return {"Statement": json.dumps(statement)}

    def remove_permission(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Remove a statement from a policy."""
        name, qualifier = self.account.parse_name(parameters)
        if name not in self.account.functions:
            raise not_found(f"No policy found for: {self.account.arn(name)}")
        function = self.account.functions[name]
        owner = self.owner(function, qualifier)
        statements = function.policies.get(qualifier or "", [])
        if not statements:
            raise not_found("No policy is associated with the given resource.")
        left = [statement for statement in statements if statement["Sid"] != parameters["StatementId"]]
        if len(left) == len(statements):
            raise not_found(f"Statement {parameters['StatementId']} is not found in resource policy.")
        if parameters.get("RevisionId") not in (None, owner.revision):
            raise stale_revision()
        function.policies[qualifier or ""] = left
        owner.revision = new_revision()
        return {}

    def get_policy(self, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """Return a policy."""
        name, qualifier = self.account.parse_name(parameters)
        function = self.account.functions.get(name)
        statements = function.policies.get(qualifier or "") if function else None
        if function is None or not statements:
            raise not_found("The resource you requested does not exist.")
        policy = {"Version": "2012-10-17", "Id": "default", "Statement": statements}
        return {"Policy": json.dumps(policy), "RevisionId": self.owner(function, qualifier).revision}


def principal_of(given: str) -> str | dict[str, str]:
    """Return a statement's principal."""
    if re.fullmatch(r"[a-z0-9.-]+\.(amazonaws\.com(\.cn)?|amazon\.com)", given):
        return {"Service": given}
    if given == "*":
        return given
    if re.fullmatch(r"\d{12}", given):
        return {"AWS": f"arn:aws:iam::{given}:root"}
    if re.match(r"arn:aws[a-z-]*:(iam|sts)::\d{12}:.", given):
        return {"AWS": given}
    raise invalid("The provided principal was invalid. Please check the principal and try again.")
