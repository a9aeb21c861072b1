"""config.ini as a whole: values that do not go together, or are too many for AWS."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator, Mapping

from client.config_rules import split_names
from yo_dawg.host_keys import PUBLISHED_HOST_KEYS
from yo_dawg.source import is_loopback

MAX_ENVIRONMENT = 4096
"""Bytes that all environment variables of a function may take (the Lambda quotas page)."""

MAX_POLICY = 10_240
"""Characters that all policies in a role may have together, white space aside (the IAM quotas page)."""


def contradictions(values: Mapping[str, str]) -> Iterator[str]:
    """Say which values do not go together."""
    base_url = values["base_url"]
    if is_ssh(base_url):
        if not values["deploy_key_secret"]:
            yield "[git] deploy_key_secret is not set, but base_url is one of SSH"
        if not values["known_hosts"] and ssh_host(base_url) not in PUBLISHED_HOST_KEYS:
            yield "[git] known_hosts is not set, but base_url is one of SSH"
        if values["token_secret"]:
            yield "[git] token_secret is for https, but base_url is one of SSH: use deploy_key_secret"
    else:
        for name in ("deploy_key_secret", "known_hosts"):
            if values[name]:
                yield f"[git] {name} is for SSH, but base_url is not: use token_secret"
        host = urllib.parse.urlsplit(base_url).hostname or ""
        if values["token_secret"] and base_url.startswith("http://") and not is_loopback(host):
            yield "[git] token_secret is set, but base_url is plain http: anyone on the way could read it"
    if values["function_name"] in split_names(values["deployable_functions"]):
        yield "[builder] deployable_functions names the builder itself, which never updates itself"
    for one, other in (("vpc_subnets", "vpc_security_groups"), ("vpc_security_groups", "vpc_subnets")):
        if values[one] and not values[other]:
            yield f"[builder] {one} is set, but {other} is not: a VPC takes both"
    if (size := policy_size(values)) > MAX_POLICY:
        yield (
            f"[builder] deployable_functions names so many functions that the builder's role could not hold its policy "
            f"({size} characters; IAM takes {MAX_POLICY}). Use patterns, such as api-*, or a second builder"
        )
    names = ("deployment_bucket", "deployable_functions", "base_url", "known_hosts")
    if sum(len(values[name].encode()) for name in names) > MAX_ENVIRONMENT - 512:
        yield (
            f"{', '.join(names)} are too long together: Lambda takes {MAX_ENVIRONMENT} bytes of environment "
            "variables. Use patterns in deployable_functions"
        )


def policy_size(values: Mapping[str, str]) -> int:
    """Return how many characters the role's policies have, or a few more.

    What is always there has been counted; tests/test_template.py compares it with the template.
    """
    names = split_names(values["deployable_functions"])
    size = 4440 + 17 * len(values["function_name"]) + 11 * len(values["deployment_bucket"])
    size += sum(2 * (len(name) + 30) for name in names)
    size += 900 if values["vpc_subnets"] else 0
    if values["keep_versions"] not in ("", "all"):
        size += 260 + sum(len(name) + 30 for name in names)
    keys = split_names(values["kms_keys"])
    size += 350 + sum(len(key) + 3 for key in keys) if keys else 0
    secrets = (values[name] for name in ("token_secret", "deploy_key_secret", "index_secret") if values[name])
    return size + sum(250 + 2 * len(secret) for secret in secrets)


def is_ssh(base_url: str) -> bool:
    """Say whether an address is one of SSH."""
    return base_url.startswith("ssh://") or "://" not in base_url


def ssh_host(base_url: str) -> str:
    """Return the host of an SSH address, ssh://git@HOST/… or git@HOST:…."""
    if "://" in base_url:
        return urllib.parse.urlsplit(base_url).hostname or ""
    return base_url.partition("@")[2].partition(":")[0].lower()
