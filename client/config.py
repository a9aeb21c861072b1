"""config.ini: what may stand in it, its defaults, and what is wrong with it.

The table KEYS is the whole of it: a key that is not there is refused by name, and so is a value that
its rule does not take.  All that is wrong is said at once.
"""

from __future__ import annotations

import configparser
import difflib
import ipaddress
import os
import re
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.faults import ConfigFault

SECRET = re.compile(
    r"(?:AKIA|ASIA)[A-Z0-9]{16}|gh[opsur]_\w{20}|github_pat_\w{20}|glpat-[\w-]{16}|-----BEGIN|ATATT3\w{20}"
)
"""What keys and tokens of AWS and of Git hosts begin with: somebody pasted one into config.ini."""

MAX_ENVIRONMENT = 4096
"""Bytes that all environment variables of a function may take (the Lambda quotas page)."""


MAX_POLICY = 10_240
"""Characters that all policies in a role may have together, white space aside (the IAM quotas page)."""

NOT_BY_PROXY = "127.0.0.1,localhost,169.254.0.0/16"
"""What no proxy is asked for: the builder's own processes, and Lambda's."""

USUAL_SECONDS = 900
"""The longest that any Lambda lets a function run; some take more."""

ARN_OF_KEY = r"arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+"
ARN_OF_POLICY = r"arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/[\w+=,.@/-]+"

HOSTS_WITH_PUBLISHED_KEYS = ("github.com", "gitlab.com", "bitbucket.org")
"""Those of yo_dawg.host_keys.PUBLISHED_HOST_KEYS: they need no line in known_hosts."""


# --- Rules: each takes a value and says what is wrong with it, or None -----------------------------


def one_of(*choices: str) -> Callable[[str], str | None]:
    """Make a rule that takes these words only."""
    return lambda value: None if value in choices else f"must be {' or '.join(choices)}"


def between(low: int, high: int, unit: str) -> Callable[[str], str | None]:
    """Make a rule that takes whole numbers from low to high."""

    def rule(value: str) -> str | None:
        fits = re.fullmatch(r"[0-9]{1,9}", value) and low <= int(value) <= high
        return None if fits else f"must be a whole number from {low} to {high} ({unit})"

    return rule


def like(pattern: str, meaning: str) -> Callable[[str], str | None]:
    """Make a rule that takes what matches the pattern."""
    return lambda value: None if re.fullmatch(pattern, value) else f"must be {meaning}"


def runtime_fault(value: str) -> str | None:
    """Say what is wrong with a runtime."""
    match = re.fullmatch(r"python3\.([1-9][0-9])", value)
    return None if match and int(match[1]) >= 11 else "must be python3.11 or newer, e.g. python3.13"


def most_seconds() -> int:
    """Return the longest time that Lambda lets a function run, as this boto3 knows it."""
    import botocore.session

    model = botocore.session.get_session().get_service_model("lambda").operation_model("CreateFunction")
    shape: Any = model.input_shape
    return int(shape.members["Timeout"].metadata.get("max", USUAL_SECONDS))


def timeout_fault(value: str) -> str | None:
    """Say what is wrong with a timeout.  The model, which takes its time, is asked only if that matters."""
    if between(1, USUAL_SECONDS, "seconds")(value) is None:
        return None
    return between(1, most_seconds(), "seconds")(value)


def keep_versions_fault(value: str) -> str | None:
    """Say what is wrong with how many versions are kept."""
    return None if value == "all" else between(1, 99_999, "versions, or all")(value)


def listed(pattern: str, meaning: str) -> Callable[[str], str | None]:
    """Make a rule that takes a list of what matches the pattern."""
    return lambda value: (
        None if all(re.fullmatch(pattern, name) for name in split_names(value)) else f"must be {meaning}"
    )


def address_fault(value: str) -> str | None:
    """Say what is wrong with an address of the network.  Never repeats it: a password may stand in it."""
    try:
        url = urllib.parse.urlsplit(value)
        host, _ = url.hostname, url.port
    except ValueError:
        return "is not an address"
    if url.username is not None or url.password is not None:
        return (
            "must not hold a user name or a password, which every project's code could read: "
            "for a private index use index_secret"
        )
    if url.scheme not in ("http", "https") or not host or re.search(r"[\s,]", value):
        return "must be an address, https://HOST/…"
    return None


def addresses_fault(value: str) -> str | None:
    """Say what is wrong with a list of addresses."""
    return next(filter(None, map(address_fault, split_names(value))), None)


def bucket_fault(value: str) -> str | None:
    """Say what is wrong with a bucket's name (the S3 page "General purpose bucket naming rules")."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", value):
        return "must be 3 to 63 small letters, digits, dots and hyphens, with a letter or digit at both ends"
    if ".." in value or re.fullmatch(r"[0-9]+(\.[0-9]+){3}", value):
        return "must not hold two dots in a row, nor look like an IP address"
    if value.startswith(("xn--", "sthree-", "amzn-s3-demo-")):
        return "begins with a prefix that S3 keeps for itself"
    if value.endswith(("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3", "-an")):
        return "ends with a suffix that S3 keeps for itself"
    return None


def deployable_fault(value: str) -> str | None:
    """Say what is wrong with a list of names and patterns."""
    names = split_names(value)
    if not names:
        return "must name at least one function"
    bad = [name for name in names if not re.fullmatch(r"[A-Za-z0-9_*?-]{1,64}", name)]
    if bad:
        return (
            f"holds {', '.join(repr(name) for name in bad)}: give names of functions (not ARNs), or patterns "
            "with * and ?, separated by commas"
        )
    return None


def base_url_fault(value: str) -> str | None:
    """Say what is wrong with base_url.  Never repeats it: a password may stand in it."""
    if re.search(r"[\s\x00-\x1f\x7f\\]", value):
        return "must not hold spaces, backslashes or control characters"
    if re.fullmatch(r"[\w.-]+@[\w.-]+:(?!/)[\w./~-]*", value):
        return None
    try:
        url = urllib.parse.urlsplit(value)
        host, _ = url.hostname, url.port
    except ValueError:
        return "is not an address"
    if url.scheme not in ("https", "http", "ssh") or not host:
        return "must be https://HOST/ACCOUNT (or ssh://git@HOST/ACCOUNT, or git@HOST:ACCOUNT)"
    if url.password is not None or (url.username is not None and url.scheme != "ssh"):
        return "must not hold a user name or a password: use username and token_secret"
    if url.query or url.fragment or value.endswith(("?", "#")):
        return "must not hold a query or a fragment"
    return None


def secret_fault(value: str) -> str | None:
    """Say what is wrong with the name of a secret."""
    arn = r"(arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:)?"
    if re.fullmatch(arn + r"[A-Za-z0-9/_+=.@-]{1,512}", value):
        return None
    return "must be the name of a secret in Secrets Manager, or its ARN"


def known_hosts_fault(value: str) -> str | None:
    """Say what is wrong with SSH host keys."""
    key = r"(@\S+ )?\S+ (ssh-|ecdsa-|sk-)\S+ [A-Za-z0-9+/]+=*( .*)?"
    bad = [line for line in value.splitlines() if line and not re.fullmatch(key, line)]
    if bad:
        return f"is neither a file nor a host key: {bad[0][:60]!r}; ssh-keyscan HOST prints them"
    return None


# --- The table ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Key:
    """One key of config.ini."""

    rule: Callable[[str], str | None]
    default: str | None = ""
    """None: there is no sensible default, so it must be given."""


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
        "memory_size": Key(between(128, 10240, "MB"), "3008"),
        "ephemeral_storage": Key(between(512, 10240, "MB"), "4096"),
        "timeout": Key(timeout_fault, "900"),
        "deployable_functions": Key(deployable_fault, None),
        "proof": Key(one_of("warn", "require", "off"), "warn"),
        "bytecode": Key(one_of("used", "all", "none"), "used"),
        "index_secret": Key(secret_fault),
        "keep_versions": Key(keep_versions_fault),
        "kms_keys": Key(listed(ARN_OF_KEY, "ARNs of keys of KMS (not of aliases)")),
        "permissions_boundary": Key(like(ARN_OF_POLICY, "the ARN of a policy of IAM")),
        "vpc_subnets": Key(listed(r"subnet-[0-9a-f]+", "ids of subnets")),
        "vpc_security_groups": Key(listed(r"sg-[0-9a-f]+", "ids of security groups")),
    },
    "network": {
        "proxy": Key(address_fault),
        "index_url": Key(address_fault),
        "extra_index_url": Key(addresses_fault),
        "ca_bundle": Key(like(r"/[^\s\x00-\x1f\x7f]+", "the path of a file as the function sees it, e.g. /opt/ca.pem")),
    },
    "git": {
        "base_url": Key(base_url_fault, None),
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


# --- Reading -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Config:
    """What config.ini says, checked, with the defaults filled in."""

    aws_profile: str
    aws_region: str
    deployment_bucket: str
    function_name: str
    runtime: str
    architecture: str
    memory_size: int
    ephemeral_storage: int
    timeout: int
    deployable_functions: tuple[str, ...]
    proof: str
    bytecode: str
    index_secret: str
    keep_versions: str
    kms_keys: tuple[str, ...]
    permissions_boundary: str
    vpc_subnets: tuple[str, ...]
    vpc_security_groups: tuple[str, ...]
    proxy: str
    index_url: str
    extra_index_url: tuple[str, ...]
    ca_bundle: str
    base_url: str
    username: str
    token_secret: str
    deploy_key_secret: str
    known_hosts: str

    @classmethod
    def read(cls, path: Path) -> Config:
        """Read config.ini; raise ConfigFault with everything that is wrong."""
        given = parse(path)
        values, faults = check(given, path.parent)
        if not faults:
            faults = list(contradictions(values))
        if faults:
            raise ConfigFault("\n".join(f"{path}: {fault}" for fault in faults))
        return cls(
            aws_profile=values["aws_profile"],
            aws_region=values["aws_region"],
            deployment_bucket=values["deployment_bucket"],
            function_name=values["function_name"],
            runtime=values["runtime"],
            architecture=values["architecture"],
            memory_size=int(values["memory_size"]),
            ephemeral_storage=int(values["ephemeral_storage"]),
            timeout=int(values["timeout"]),
            deployable_functions=split_names(values["deployable_functions"]),
            proof=values["proof"],
            bytecode=values["bytecode"],
            index_secret=values["index_secret"],
            keep_versions=values["keep_versions"].replace("all", ""),
            kms_keys=split_names(values["kms_keys"]),
            permissions_boundary=values["permissions_boundary"],
            vpc_subnets=split_names(values["vpc_subnets"]),
            vpc_security_groups=split_names(values["vpc_security_groups"]),
            proxy=values["proxy"],
            index_url=values["index_url"],
            extra_index_url=split_names(values["extra_index_url"]),
            ca_bundle=values["ca_bundle"],
            base_url=values["base_url"].rstrip("/"),
            username=values["username"],
            token_secret=values["token_secret"],
            deploy_key_secret=values["deploy_key_secret"],
            known_hosts=values["known_hosts"],
        )

    @property
    def secrets(self) -> list[str]:
        """The secrets that are named."""
        return [name for name in (self.token_secret, self.deploy_key_secret, self.index_secret) if name]

    @property
    def stack_name(self) -> str:
        """The CloudFormation stack: named like the function, but a stack's name holds no underscore."""
        return self.function_name.replace("_", "-")

    def environment(self) -> dict[str, str]:
        """Return the function's environment variables, as template.yaml sets them."""
        return {
            "YO_DAWG_DEPLOYMENT_BUCKET": self.deployment_bucket,
            "YO_DAWG_DEPLOYABLE_FUNCTIONS": ",".join(self.deployable_functions),
            "YO_DAWG_PROOF": self.proof,
            "YO_DAWG_BYTECODE": self.bytecode,
            "YO_DAWG_KEEP_VERSIONS": self.keep_versions,
            "YO_DAWG_INDEX_SECRET": self.index_secret,
            "YO_DAWG_BASE_URL": self.base_url,
            "YO_DAWG_USERNAME": self.username,
            "YO_DAWG_TOKEN_SECRET": self.token_secret,
            "YO_DAWG_DEPLOY_KEY_SECRET": self.deploy_key_secret,
            "YO_DAWG_KNOWN_HOSTS": self.known_hosts,
            **self.network(),
        }

    def network(self) -> dict[str, str]:
        """Return those variables that say how the network is reached, by the names that all clients know."""
        wanted = {
            "HTTPS_PROXY": self.proxy,
            "HTTP_PROXY": self.proxy,
            "NO_PROXY": self.proxy and NOT_BY_PROXY,
            "PIP_INDEX_URL": self.index_url,
            "PIP_EXTRA_INDEX_URL": " ".join(self.extra_index_url),
            "SSL_CERT_FILE": self.ca_bundle,
            "AWS_CA_BUNDLE": self.ca_bundle,
        }
        return {name: value for name, value in wanted.items() if value}

    def parameters(self, code_key: str) -> dict[str, str]:
        """Return the parameters of template.yaml."""
        return {
            "DeploymentBucket": self.deployment_bucket,
            "CodeKey": code_key,
            "FunctionName": self.function_name,
            "Runtime": self.runtime,
            "Architecture": self.architecture,
            "MemorySize": str(self.memory_size),
            "EphemeralStorage": str(self.ephemeral_storage),
            "Timeout": str(self.timeout),
            "DeployableFunctions": ",".join(self.deployable_functions),
            "Proof": self.proof,
            "Bytecode": self.bytecode,
            "IndexSecret": self.index_secret,
            "KeepVersions": self.keep_versions,
            "KmsKeys": ",".join(self.kms_keys),
            "PermissionsBoundary": self.permissions_boundary,
            "VpcSubnets": ",".join(self.vpc_subnets),
            "VpcSecurityGroups": ",".join(self.vpc_security_groups),
            "Proxy": self.proxy,
            "IndexUrl": self.index_url,
            "ExtraIndexUrl": " ".join(self.extra_index_url),
            "CaBundle": self.ca_bundle,
            "BaseUrl": self.base_url,
            "Username": self.username,
            "TokenSecret": self.token_secret,
            "DeployKeySecret": self.deploy_key_secret,
            "KnownHosts": self.known_hosts,
        }


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


def split_names(value: str) -> tuple[str, ...]:
    """Split a list of names, separated by commas or line ends."""
    return tuple(name.strip() for name in re.split(r"[,\n]", value) if name.strip())


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


def contradictions(values: Mapping[str, str]) -> Iterator[str]:
    """Say which values do not go together."""
    base_url = values["base_url"]
    if is_ssh(base_url):
        if not values["deploy_key_secret"]:
            yield "[git] deploy_key_secret is not set, but base_url is one of SSH"
        if not values["known_hosts"] and ssh_host(base_url) not in HOSTS_WITH_PUBLISHED_KEYS:
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


def is_ssh(base_url: str) -> bool:
    """Say whether an address is one of SSH."""
    return base_url.startswith("ssh://") or "://" not in base_url


def ssh_host(base_url: str) -> str:
    """Return the host of an SSH address, ssh://git@HOST/… or git@HOST:…."""
    if "://" in base_url:
        return urllib.parse.urlsplit(base_url).hostname or ""
    return base_url.partition("@")[2].partition(":")[0].lower()


def is_loopback(host: str) -> bool:
    """Say whether a host name means this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
