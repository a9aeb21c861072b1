"""config.ini as a file: what may stand in it, its defaults, and what is wrong with it.

The table KEYS is the whole of it: a key that is not there is refused by name, and so is a value that
its rule does not take.
"""

from __future__ import annotations

import configparser
import difflib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from client.config_rules import (
    address_fault,
    addresses_fault,
    base_url_fault,
    between,
    bucket_fault,
    deployable_fault,
    keep_versions_fault,
    known_hosts_fault,
    like,
    listed,
    one_of,
    runtime_fault,
    secret_fault,
    split_names,
    timeout_fault,
)
from client.faults import ConfigFault

SECRET = re.compile(
    r"(?:AKIA|ASIA)[A-Z0-9]{16}|gh[opsur]_\w{20}|github_pat_\w{20}|glpat-[\w-]{16}|-----BEGIN|ATATT3\w{20}"
)
"""What keys and tokens of AWS and of Git hosts begin with: somebody pasted one into config.ini."""

ARN_OF_KEY = r"arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+"
ARN_OF_POLICY = r"arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/[\w+=,.@/-]+"


@dataclass(frozen=True)
class Key:
    """One key of config.ini."""

    rule: Callable[[str], str | None]
    default: str | None = ""
    """None: there is no sensible default, so it must be given."""
    means: Callable[[str], object] = str
    """Turns the text, once it has passed the rule, into the value."""


NAME = like(r"[A-Za-z][A-Za-z0-9_-]{0,63}", "a letter, then letters, digits, - and _, at most 64 in all")

KEYS: Mapping[str, Mapping[str, Key]] = {
    "aws": {
        "aws_profile": Key(like(r"[^\x00-\x1f\x7f]+", "the name of a profile of the AWS CLI")),
        "aws_region": Key(like(r"[a-z]{2,5}(-[a-z]+)+-[1-9][0-9]?", "a region, e.g. eu-west-1"), "us-east-1"),
        "deployment_bucket": Key(bucket_fault, None),
    },
    "builder": {
        "function_name": Key(NAME, "yo-dawg"),
        "runtime": Key(runtime_fault, "python3.13"),
        "architecture": Key(one_of("x86_64", "arm64"), "x86_64"),
        "memory_size": Key(between(128, 10240, "MB"), "3008", int),
        "ephemeral_storage": Key(between(512, 10240, "MB"), "4096", int),
        "timeout": Key(timeout_fault, "900", int),
        "deployable_functions": Key(deployable_fault, None, split_names),
        "proof": Key(one_of("warn", "require", "off"), "warn"),
        "bytecode": Key(one_of("used", "all", "none"), "used"),
        "index_secret": Key(secret_fault),
        "keep_versions": Key(keep_versions_fault, means=lambda value: value.replace("all", "")),
        "kms_keys": Key(listed(ARN_OF_KEY, "ARNs of keys of KMS (not of aliases)"), means=split_names),
        "permissions_boundary": Key(like(ARN_OF_POLICY, "the ARN of a policy of IAM")),
        "vpc_subnets": Key(listed(r"subnet-[0-9a-f]+", "ids of subnets"), means=split_names),
        "vpc_security_groups": Key(listed(r"sg-[0-9a-f]+", "ids of security groups"), means=split_names),
    },
    "network": {
        "proxy": Key(address_fault),
        "index_url": Key(address_fault),
        "extra_index_url": Key(addresses_fault, means=split_names),
        "ca_bundle": Key(like(r"/[^\s\x00-\x1f\x7f]+", "the path of a file as the function sees it, e.g. /opt/ca.pem")),
    },
    "git": {
        "base_url": Key(base_url_fault, None, lambda value: value.rstrip("/")),
        "username": Key(like(r"[^\s:\x00-\x1f\x7f]+", "a user name, without spaces and colons")),
        "token_secret": Key(secret_fault),
        "deploy_key_secret": Key(secret_fault),
        "known_hosts": Key(known_hosts_fault),
    },
}
"""Contract §3, key by key."""

DISCREET = (base_url_fault, secret_fault, known_hosts_fault, deployable_fault, address_fault, addresses_fault)
"""Rules whose values are not repeated when they are refused."""

AWS_KEYS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")


def parse(path: Path) -> dict[str, dict[str, str]]:
    """Read an INI file into sections of keys; raise ConfigFault if it is not one."""
    # No interpolation: a "%" in an address is a "%".  Comments as in config.ini.example.
    parser = configparser.ConfigParser(
        interpolation=None, inline_comment_prefixes=(";",), default_section="", empty_lines_in_values=False
    )
    try:
        with path.open(encoding="utf-8-sig") as file:
            parser.read_file(file, str(path))
    except FileNotFoundError:
        raise ConfigFault(f"{path} is missing: copy config.ini.example to it and fill it in.") from None
    except OSError as error:
        raise ConfigFault(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigFault(f"{path} is not a text file in UTF-8.") from None
    except configparser.DuplicateOptionError as error:
        twice = f"{error.option} stands twice in [{error.section}]"
        raise ConfigFault(f"{path}: line {error.lineno}: {twice}.") from None
    except configparser.DuplicateSectionError as error:
        raise ConfigFault(f"{path}: line {error.lineno}: [{error.section}] stands twice.") from None
    except configparser.MissingSectionHeaderError as error:
        raise ConfigFault(f"{path}: line {error.lineno} stands before the first [section].") from None
    except configparser.ParsingError as error:
        # The line itself is not shown: it may hold anything.
        lines = ", ".join(str(number) for number, _ in error.errors)
        raise ConfigFault(f'{path}: line {lines} is neither a [section] nor "key = value".') from None
    return {name: dict(parser[name]) for name in parser.sections()}


def check(given: Mapping[str, Mapping[str, str]], folder: Path) -> tuple[dict[str, str], list[str]]:
    """Fill in defaults and apply each key's rule; return the values, and what is wrong with them."""
    faults = [fault for section, keys in given.items() for fault in unknown_names(section, keys)]
    values: dict[str, str] = {}
    for section, keys in KEYS.items():
        for name, key in keys.items():
            value = given.get(section, {}).get(name, "").strip() or key.default
            if value is None:
                faults.append(f"[{section}] {name} is not set, and has no default")
                continue
            if name == "known_hosts":
                value = host_keys(value, folder)
            values[name] = value
            fault = value_fault(value, key) if value else None
            if fault:
                faults.append(f"[{section}] {name} {fault}")
    return values, faults


def unknown_names(section: str, keys: Mapping[str, str]) -> Iterator[str]:
    """Say which names nobody reads: the section's, or those of keys in it."""
    known = {key: name for name, its_keys in KEYS.items() for key in its_keys}
    if section not in KEYS:
        near = difflib.get_close_matches(section, KEYS, 1)
        known_sections = ", ".join(f"[{name}]" for name in KEYS)
        hint = f"did you mean [{near[0]}]?" if near else f"known are {known_sections}"
        yield f"[{section}] is unknown; {hint}"
        return
    for key in keys:
        if key in KEYS[section]:
            continue
        if key in AWS_KEYS:
            yield (
                f"[{section}] {key}: no secret may stand in this file. Remove it (and if this file was ever "
                'shared, revoke the key), run "aws configure", and name the profile in aws_profile'
            )
        elif key in known:
            yield f"[{section}] {key} belongs in [{known[key]}]"
        else:
            near = difflib.get_close_matches(key, known, 1)
            yield f"[{section}] {key} is unknown" + (f"; did you mean {near[0]}?" if near else "")


def value_fault(value: str, key: Key) -> str | None:
    """Say what is wrong with a value, and repeat it only where it cannot be a secret."""
    if SECRET.search(value):
        return (
            "holds what looks like a key or a token. No secret may stand in this file: store it in Secrets "
            "Manager (aws secretsmanager create-secret), and give the secret's name here"
        )
    fault = key.rule(value)
    if fault and key.rule not in DISCREET:
        return f"= {value}: {fault}"
    return fault


def host_keys(value: str, folder: Path) -> str:
    """Return SSH host keys: those given, or those in the file that is named (beside config.ini)."""
    if "\n" not in value and value and os.path.isfile(folder / value):  # False, too, if it is too long to be a name
        value = (folder / value).read_text(encoding="utf-8", errors="replace")
    lines = (line.strip() for line in value.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("#"))
