"""The account: whose it is, its clients, and what its errors mean.

Who we are is decided as boto3 does, with the environment above config.ini.  Somewhere to connect to can be given
outright: then nothing of this machine's own AWS settings counts.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import boto3
import botocore.session
from botocore.config import Config as ClientConfig
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from client.config import Config
from client.faults import Fault

GIVEN = (
    "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)  # fmt: skip
"""Variables that say who we are.  Where one is set, the profile of config.ini does not count."""

UNKNOWN = 'AWS does not know who you are. Run "aws configure" (or "aws sso login"), or set AWS_PROFILE.'

AwsError = (ClientError, BotoCoreError)
"""What boto3 raises."""


@dataclass
class Aws:
    """An account in a region, and its clients."""

    session: boto3.Session
    region: str
    endpoint: str | None = None
    """Where all services are, if that is given outright."""
    clients: dict[tuple[str, str], Any] = field(default_factory=dict)

    def client(self, service: str, **settings: Any) -> Any:
        """Return a client, the same one for the same settings."""
        key = (service, repr(sorted(settings.items())))
        if key not in self.clients:
            usual = {"retries": {"mode": "standard", "total_max_attempts": 4}, "connect_timeout": 15}
            if self.endpoint:
                usual["proxies"] = {}
            config = ClientConfig(**{**usual, **settings})
            self.clients[key] = self.session.client(service, endpoint_url=self.endpoint, config=config)
        return self.clients[key]

    def quick(self, service: str) -> Any:
        """Return a client for what asking twice does not change, when someone waits at the terminal."""
        return self.client(service, connect_timeout=5, read_timeout=20, retries={"total_max_attempts": 2})

    @cached_property
    def account(self) -> str:
        """Return the number of the account; a Fault says that AWS does not know us."""
        try:
            return str(self.client("sts").get_caller_identity()["Account"])
        except AwsError as error:
            raise Fault(f"{reason(error)}\n{UNKNOWN}") from None


def connect(config: Config, environ: MutableMapping[str, str] = os.environ) -> Aws:
    """Return the account that the environment says, or else config.ini."""
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE"):
        if environ.get(name) == "":
            del environ[name]  # it would be looked up as a profile without a name
    profile = None if any(environ.get(name) for name in GIVEN) else config.aws_profile or None
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or config.aws_region
    try:
        return Aws(new_session(profile_name=profile, region_name=region), region)
    except BotoCoreError as error:  # a profile that is not there
        raise Fault(f"{reason(error)}\n{UNKNOWN}") from None


def connect_to(endpoint: str, region: str, key: str, secret: str) -> Aws:
    """Return an account at an address, by its own keys: the real AWS cannot be meant."""
    keys = {"aws_access_key_id": key, "aws_secret_access_key": secret}
    return Aws(new_session(region_name=region, **keys), region, endpoint)


def new_session(**settings: Any) -> boto3.Session:
    """Return a boto3 session."""
    return boto3.Session(botocore_session=botocore.session.get_session(), **settings)


def code_of(error: BaseException) -> str:
    """Return AWS's code for an error, "404" and the like where there is nothing else."""
    return str(error.response["Error"].get("Code", "")) if isinstance(error, ClientError) else ""


def reason(error: BaseException) -> str:
    """Return an error of boto3's in a line."""
    return " ".join(str(error).split())


def is_connection(error: BaseException) -> bool:
    """Say whether the network failed, and so nobody knows what AWS did."""
    return isinstance(error, HTTPClientError) or not isinstance(error, AwsError)
