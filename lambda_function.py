"""yo-dawg: a Lambda function that builds and deploys other Lambda functions.

The event's "action" says what to do:

bootstrap    Install the toolchain (Dulwich, a git in pure Python, and uv, an
             installer) into a virtualenv, and store it in S3.  Run it once,
             and again to upgrade.
build        Build one project and deploy it:
             1. get the toolchain      S3              -> toolchain/
             2. clone the repository   git host        -> checkout/
             3. install requirements   package index   -> staging/
             4. prune dependencies     staging/        -> pruned/ (tests, docs, leftovers)
             5. stage the project      make_dist.sh    -> staging/
             6. prove                  staging/        (the handler can be imported)
             7. compile and zip        staging/        -> package.zip
             8. deploy                 package.zip     -> S3 -> the function
                                       -> test event -> version -> alias
rollback     Put back a package that was deployed before.  Nothing is rebuilt.
doctor       Say what this environment is, and what is wrong with it.

Of each function there is one build at a time, over all environments: its
ledger in S3 (locks/FUNCTION) says who builds it now, and what was built.

Lambda has no git, no ssh and no compiler, and only /tmp can be written.  All
directories above lie in one workspace, /tmp/yo-dawg, which is made afresh for
each invocation and removed at its end.  What an environment keeps for its next
invocation, no project's code can change unseen: see ``Shelf``.

Who may do what.  This process, the handler, holds the role's credentials and
runs nothing but this file, the standard library and boto3.  All that touches
foreign bytes runs in children: Dulwich (this same file, started as a program:
see ``run_git_worker``), uv, make_dist.sh.  Children get an environment built from
nothing, cannot read this process's memory, and are killed, with everything
they started, before the next stage begins.

Errors are raised, not returned: their class and message are what the caller
sees as errorType and errorMessage.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import csv
import ctypes
import difflib
import errno
import fnmatch
import functools
import gc
import hashlib
import html
import importlib.machinery
import importlib.metadata
import importlib.util
import inspect
import io
import ipaddress
import json
import mmap
import os
import platform
import queue
import re
import resource
import select
import shlex
import shutil
import signal
import site
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
import urllib.parse
import urllib.request
import weakref
import zipfile
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import IO, Any, NamedTuple, NoReturn, Protocol, TypeVar, cast

# --- Constants ---------------------------------------------------------------------------

HERE = Path(__file__).resolve().parent
WORKSPACE_NAME = "yo-dawg"
"""One fixed name below /tmp: builds that embed their path then do so identically each time."""

KEPT_NAME = "yo-dawg-kept"
"""The folder beside it in which dependencies stay for a function's next build: see ``Kept``."""

MAX_UNZIPPED_BYTES = 262_143_999
"""The most that Lambda takes of a package, layers included: "Unzipped size must be smaller than 262144000 bytes"."""

ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest date a zip can hold: the same tree then gives the same bytes on any day."""

SECONDS_TO_REPORT = 10.0
"""Kept back from the invocation's time to kill, clean up and answer; less of a short one."""

SECONDS_TO_UNDO = 20.0
"""Kept back from a test event's time to put the old code back."""

TAIL_LINES = 20
TAIL_BYTES = 3500
"""How much of a tool's own output an error carries: contract §5 allows 4 KB."""

KEPT_LINES = 300
"""How much of it is searched for the reason of a failure."""

MAX_LINE = 2000
"""A longer line of a child's output is cut here, so that no child can fill our memory."""

MAX_LOG_BYTES = 20_000_000
"""What one build may log: CloudWatch charges by the byte, and a project can print for ever."""

TOOLCHAIN_FORMAT = "4"
"""Raise this when the layout of the toolchain's zips changes: stored ones then no longer match."""

TOOLCHAIN_PARTS = {
    "uv": ("bin/",),
    "ssh": tuple(
        f"site-packages/{name}"
        for name in ("_cffi_backend", "bcrypt", "cffi", "cryptography", "invoke", "nacl", "paramiko", "pycparser")
    ),
    "git": ("",),  # all else: last, since it begins every name
}
"""The zips that the toolchain is stored in, by what each is for: uv is nine tenths of it, and a change of code alone
does without."""

TOOLCHAIN_PROOF = "import deflate, dulwich.client, dulwich.index, paramiko, urllib3"

REQUIREMENT_FILES = ("requirements.txt", "pylock.toml", "uv.lock", "pyproject.toml")
"""Where a project may say what it needs; the first one found counts (contract §6)."""

OTHERS_FILES = ("poetry.lock", "Pipfile", "Pipfile.lock", "pdm.lock", "environment.yml")
"""In which other tools keep requirements, and from which each can export them."""

LARGEST = 10

MAX_FUNCTIONS = 50
"""How many functions one build may update."""

CLOCK_SKEW = 5.0
"""Seconds by which the clocks of two builders may differ; AWS keeps them within milliseconds."""

POLL_SECONDS = 1.0
"""How often one who waits for another invocation's answer looks."""

RETRY_SECONDS = 60.0
"""A request that comes again so soon after its answer is taken for a client's retry: the AWS CLI
loses patience after 60 seconds, and asks again."""

KEPT_ENTRIES, KEPT_PACKAGES, KEPT_VERSIONS = 100, 10, 10
"""How many of a function's last builds are remembered, how many of its last packages can be put back,
and how many of its last versions keep theirs."""

NOT_DEPLOYED = ("failed", "interrupted")
"""How a build ends of whose package nobody knows that it is any good."""

CHANGED = ("ResourceConflictException", "PreconditionFailedException")
"""Lambda's words for somebody else's change, under way or made since we looked."""

BUSY = (*CHANGED, "TooManyRequestsException")
"""Lambda's "not now"."""

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

PROOFS = ("warn", "require", "off")
"""What the import proof may be (proof in config.ini): see ``check_proof``."""

BYTECODES = ("used", "all", "none")
"""Which modules are shipped with bytecode (bytecode in config.ini): see ``write_bytecode``."""

SECONDS_TO_MATCH = 30
"""A pattern can be made to match for ever."""

SECONDS_TO_IMPORT = 30
"""Lambda itself gives an import 10 seconds before it starts it anew."""

MAX_ANSWER = 10_000_000
"""Bytes; more is not read of what a child, in which a project's code has run, says of itself."""

SECRET_NAME = re.compile(r"KEY|SECRET|TOKEN|PASS|CREDENTIAL|AUTH|DSN|_URL$|_URI$", re.IGNORECASE)
"""Environment variables of a function whose values no log may show."""

DEFAULT_USERNAME = "x-access-token"
"""What GitHub documents for tokens; other hosts that take any name take this one."""

MAX_NAME = 2000
"""A longer name in a package is refused: Linux opens no path of more than 4,095 bytes."""

CLIENT_VARIABLES = (
    "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY",
    "https_proxy", "http_proxy", "no_proxy",
)  # fmt: skip
"""The ordinary settings of package clients.  Of the environment, children get these and no more."""

CREDENTIAL_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN")
"""Where Lambda puts the role's credentials; the last one under SnapStart."""

# Pruning.  Applied to what the installer wrote, before the project puts anything there.  What a
# dependency looks for in vain when the handler is imported is put back (see ``prove``); so a group
# stands here only if nothing would look for it later, in the midst of an event.

TEST_DIRECTORIES = ("test", "tests")
"""Test suites of dependencies: often half of a package.  One that other code imports is kept."""

DOC_DIRECTORIES = ("doc", "docs", "man")
"""Documentation.  A folder of this name that holds a Python file is code (botocore.docs) and is kept."""

BUILD_SUFFIXES = (".h", ".hh", ".hpp", ".hxx", ".pxd", ".pyx", ".pxi", ".a")
"""What only compilers read; Lambda has none.  In pyarrow it is a tenth of all files."""

STUB_SUFFIX = ".pyi"
SPEAKS_OF_STUBS = ("attach_stub", '.pyi"', ".pyi'")
"""Types, for tools.  A package whose code reads stubs (scikit-image does, by lazy_loader) keeps its own."""

INSTALLER_FILES = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json")
"""The installer's own bookkeeping in *.dist-info: it names paths of this machine.  The rest of a
dist-info is read at run time (versions, entry points) and is kept."""

RUNTIME_PROVIDES = ("boto3", "botocore", "s3transfer", "jmespath", "python-dateutil", "six", "urllib3")
"""What Lambda's Python runtimes bring along: boto3 and what it needs.  All of it is left to them or none: AWS moves
the parts together, and warns of a runtime's botocore beside a package's urllib3."""

DROPPED = "dropped by the project"

# What of a project's tree is no use in Lambda, where no make_dist.sh says it better (contract §6).

PROJECT_ROOT_JUNK = (
    ".*",                                                          # VCS, CI, editors, .env
    "test", "tests", "test_*.py", "*_test.py", "conftest.py",      # tests
    "doc", "docs", "README*", "CHANGELOG*", "CHANGES*", "CONTRIBUTING*",
    "requirements*.txt", "requirements*.in", "constraints*.txt", "*.lock", "pylock*.toml", "Pipfile",
    "pyproject.toml", "setup.cfg", "tox.ini", "noxfile.py", "pytest.ini", "mypy.ini", "ruff.toml",
    "node_modules", "make_dist.sh",
)  # fmt: skip
"""Left out at the root of the project only: deeper down, the same name may be a module or data."""

PROJECT_JUNK = ("__pycache__", "*.py[co]", ".git", ".hg", ".svn", ".DS_Store", "*.egg-info")
"""Left out wherever it stands."""

# --- Errors ------------------------------------------------------------------------------


class YoDawgError(Exception):
    """Any failure that this function foresees.  The class says who must act; the text is for them."""


class RequestError(YoDawgError):
    """The event is wrong: the caller must change it."""


class ConfigError(YoDawgError):
    """The builder is set up wrong, or too small: its operator must change config.ini, run deploy.sh."""


class NotBootstrapped(YoDawgError):
    """S3 holds no toolchain that fits: the operator must run "deploy.sh bootstrap"."""


class SourceError(YoDawgError):
    """The repository, the ref or what is in it cannot be used."""


class DependencyError(YoDawgError):
    """The project's requirements cannot be installed."""


class BuildScriptError(YoDawgError):
    """The project's make_dist.sh failed."""


class PackageError(YoDawgError):
    """The package is not one that Lambda could run: too large, no handler, unsafe content."""


class DeployError(YoDawgError):
    """AWS refused, or the target is not one that this builder can serve."""


class NotRun(DeployError):
    """The function never saw its test event, so nothing is known of its code."""


class BuildInProgress(YoDawgError):
    """Another build of this function is running: wait for its end."""


class DeadlineError(YoDawgError):
    """The work would outlast the invocation."""


class CommandFailed(Exception):
    """A child ended badly.  Never leaves this file: the stage that ran it says what that means."""

    def __init__(self, status: int, lines: Sequence[str]) -> None:
        """Keep the exit status (negative: the signal) and the output, or its end if it was long."""
        super().__init__(status)
        self.status = status
        self.lines = lines

    @property
    def tail(self) -> str:
        """The last lines of the output, few enough for a message."""
        return "\n".join([*self.lines][-TAIL_LINES:]).encode()[-TAIL_BYTES:].decode(errors="ignore")

    @property
    def ending(self) -> str:
        """Say in words how the child ended."""
        if self.status == -signal.SIGKILL:
            return "was killed, most likely for lack of memory (raise memory_size in config.ini)"
        if self.status < 0:
            return f"was ended by {signal.Signals(-self.status).name}"
        return f"ended with exit status {self.status}"

    @property
    def quoted_tail(self) -> str:
        """The last lines of the output, on lines of their own."""
        return f"\nIts last lines:\n{self.tail}" if self.tail else "\nIt printed nothing."


class OutOfTime(BaseException):
    """Raised by the alarm wherever the handler stands; a BaseException, so that no library eats it.

    It may say what was being waited for.
    """


# --- Settings: the one reader of the environment ----------------------------------------------


@dataclass(frozen=True)
class Settings:
    """What the operator decided, read from the function's environment variables."""

    bucket: str
    """The S3 bucket of toolchains and packages."""
    deployable: tuple[str, ...]
    """Names or patterns of the functions that may be updated."""
    base_url: str
    """Repositories are cloned from base_url/REPO_NAME.git."""
    username: str
    """User name for the Git host, or ""."""
    token_secret: str
    """Name of the Secrets Manager secret that holds the Git host's token, or ""."""
    tmp: Path
    """The one directory that can be written."""
    tmp_is_ours: bool
    """Whether nobody else can have put files there: true in Lambda and in its likenesses."""
    client: Mapping[str, str] = field(default_factory=dict)
    """Settings of package clients to hand on to children."""
    library_path: str = ""
    """LD_LIBRARY_PATH: Lambda's Python finds its own shared library by it."""
    runtime_dir: str = ""
    """LAMBDA_RUNTIME_DIR: what else the runtime brings, for every function to import; or ""."""
    proof: str = PROOFS[0]
    """What an import that fails for reasons of its own means: see ``check_proof``."""
    bytecode: str = BYTECODES[0]
    """Which modules get bytecode: see ``write_bytecode``."""
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """Values that no log may show."""
    deploy_key_secret: str = ""
    """Name of the Secrets Manager secret that holds an SSH private key, or ""."""
    known_hosts: str = ""
    """SSH host keys, one a line, beside those that the large hosts publish."""
    index_secret: str = ""
    """Name of the Secrets Manager secret that holds addresses of private package indexes, or ""."""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Settings:
        """Read the settings; raise ConfigError that names everything that is missing or wrong."""
        wrong: list[str] = []

        def get(name: str, *, required: bool = False) -> str:
            value = environ.get(f"YO_DAWG_{name}", "").strip()
            if required and not value:
                wrong.append(f"{name.lower()} is not set")
            return value

        def choose(name: str, choices: Sequence[str]) -> str:
            value = get(name) or choices[0]
            if value not in choices:
                wrong.append(f"{name.lower()} is {value!r}, not one of {', '.join(choices)}")
            return value

        base_url = get("BASE_URL", required=True)
        token_secret = get("TOKEN_SECRET")
        if base_url:
            wrong += base_url_faults(base_url, with_token=bool(token_secret))
        deploy_key_secret, known_hosts = get("DEPLOY_KEY_SECRET"), get("KNOWN_HOSTS")
        if base_url and not wrong:
            wrong += ssh_faults(base_url, token_secret, deploy_key_secret, known_hosts)
        client = {name: environ[name] for name in CLIENT_VARIABLES if environ.get(name)}
        wrong += [
            f"{name} holds a password, which the code of every project could read"
            for name, value in client.items()
            if re.search(r"://[^/\s]*@", value)
        ]
        if environ.get("AWS_LAMBDA_MAX_CONCURRENCY"):
            wrong.append("this environment serves several invocations at a time, which would share one workspace")
        settings = cls(
            bucket=get("DEPLOYMENT_BUCKET", required=True),
            deployable=tuple(
                part.strip() for part in get("DEPLOYABLE_FUNCTIONS", required=True).split(",") if part.strip()
            ),
            base_url=base_url.rstrip("/"),
            username=get("USERNAME"),
            token_secret=token_secret,
            deploy_key_secret=deploy_key_secret,
            known_hosts=known_hosts,
            index_secret=get("INDEX_SECRET"),
            tmp=Path(environ.get("TMPDIR") or "/tmp"),  # noqa: S108  # Lambda's one writable directory
            tmp_is_ours=environ.get("LAMBDA_TASK_ROOT") == str(HERE) == "/var/task" and not os.access("/", os.W_OK),
            client=client,
            library_path=environ.get("LD_LIBRARY_PATH", ""),
            runtime_dir=environ.get("LAMBDA_RUNTIME_DIR", ""),
            proof=choose("PROOF", PROOFS),
            bytecode=choose("BYTECODE", BYTECODES),
            secrets=tuple(environ[name] for name in CREDENTIAL_VARIABLES if environ.get(name)),
        )
        if wrong:
            raise ConfigError(
                f'yo-dawg is not set up right: {"; ".join(wrong)}. Change config.ini and run "./deploy.sh bootstrap".'
            )
        return settings

    def repository_url(self, repo_name: str) -> str:
        """Return the URL to clone a project from; it holds no credentials."""
        separator = "" if self.base_url.endswith(":") else "/"  # git@host: is followed by the path
        return f"{self.base_url}{separator}{repo_name}.git"


def base_url_faults(base_url: str, *, with_token: bool) -> list[str]:
    """Say what is wrong with base_url, in config.ini's words."""
    if "://" not in base_url and SCP_BASE.fullmatch(base_url):
        return []
    url = urllib.parse.urlsplit(base_url)
    if url.scheme not in ("https", "http", "ssh") or not url.hostname:
        return [f"base_url {base_url!r} is not an address like https://HOST/ACCOUNT, ssh://git@HOST/… or git@HOST:…"]
    if url.password or (url.username and url.scheme != "ssh"):
        return ["base_url holds a user name or a password: use username and token_secret"]
    if url.query or url.fragment:
        return ["base_url has a query or a fragment"]
    if with_token and url.scheme == "http" and not is_loopback(url.hostname):
        return ["token_secret is set, but base_url is plain http, where anyone on the way can read the token"]
    return []


SCP_BASE = re.compile(r"[\w.-]+@[\w.-]+:(?!/)[\w./~-]*")
"""git@HOST:ACCOUNT, the short form of an SSH address."""


def ssh_faults(base_url: str, token_secret: str, deploy_key_secret: str, known_hosts: str) -> list[str]:
    """Say what does not go together: SSH takes a deploy key and a known host, https a token."""
    scheme, host, _ = origin(f"{base_url}/x")
    if scheme != "ssh":
        return (
            ["deploy_key_secret is set, but base_url is not one of SSH: use token_secret"] if deploy_key_secret else []
        )
    faults = ["token_secret is for https, but base_url is one of SSH: use deploy_key_secret"] if token_secret else []
    if not deploy_key_secret:
        faults.append("deploy_key_secret is not set, but base_url is one of SSH")
    if not known_hosts and host not in PUBLISHED_HOST_KEYS:
        faults.append(
            f'known_hosts is not set, and {host} is not one whose keys are built in: run "ssh-keyscan {host}"'
        )
    return faults


def is_loopback(host: str) -> bool:
    """Say whether a host name means this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


# --- The builder itself ---------------------------------------------------------------------


class LambdaContext(Protocol):
    """What this file uses of the context object that Lambda hands to a handler."""

    function_name: str
    invoked_function_arn: str
    aws_request_id: str
    log_stream_name: str
    client_context: Any

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds until Lambda ends the invocation."""


@dataclass(frozen=True)
class Builder:
    """This function, as AWS knows it, and the interpreter that it builds for: its own."""

    name: str
    arn: str
    request_id: str
    runtime: str
    architecture: str
    log_stream: str = ""
    """Where CloudWatch has what this environment logs: no two environments share one."""
    asked_by: str = ""
    """Who invoked us, as the client says (deploy.sh does): Lambda itself does not tell."""
    token: str = ""
    """What a client finds this invocation by in the log."""
    until: float = 0.0
    """When Lambda ends the invocation, in seconds since the epoch."""

    @classmethod
    def from_context(cls, context: LambdaContext) -> Builder:
        """Ask Lambda's context who we are, and the interpreter what it is."""
        machine = platform.machine()
        return cls(
            name=context.function_name,
            arn=context.invoked_function_arn,
            request_id=context.aws_request_id,
            runtime=f"python{sys.version_info.major}.{sys.version_info.minor}",
            architecture={"aarch64": "arm64"}.get(machine, machine),
            log_stream=context.log_stream_name,
            asked_by=client_says(context.client_context, "asked_by"),
            token=client_says(context.client_context, "token"),
            until=time.time() + context.get_remaining_time_in_millis() / 1000,
        )

    @property
    def account(self) -> str:
        """The AWS account's id: arn:aws:lambda:REGION:ACCOUNT:function:NAME."""
        return self.arn.split(":")[4]

    @property
    def platform(self) -> str:
        """What a build by this builder is good for, e.g. "python3.13-x86_64"."""
        return f"{self.runtime}-{self.architecture}"


def client_says(client_context: Any, key: str) -> str:
    """Return what the client says of itself, in {"custom": {"asked_by": …, "token": …}} of its client context."""
    custom = getattr(client_context, "custom", None)
    value = custom.get(key) if isinstance(custom, Mapping) else None
    return printable(value)[:200] if isinstance(value, str) else ""


# --- Requests ---------------------------------------------------------------------------------

FUNCTION = re.compile(
    r"(?:(?:arn:aws[a-z-]*:lambda:(?P<region>[a-z0-9-]+):)?(?P<account>\d{12}):function:)?"
    r"(?P<name>[A-Za-z0-9_][A-Za-z0-9_-]{0,63})"
)
REPO_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}(?:/[A-Za-z0-9_][A-Za-z0-9._-]{0,99}){0,5}")
REF = re.compile(r"(?!.*(?:\.\.|//|@\{|\.lock(?:/|$)|/\.))[^\x00-\x20\x7f~^:?*\[\\/.-][^\x00-\x20\x7f~^:?*\[\\]{0,249}")
"""git-check-ref-format(1), and no leading "-"."""


def function_fault(value: str) -> str | None:
    """Say what is wrong with the name of a function."""
    return None if FUNCTION.fullmatch(value) else "is not the name or ARN of a Lambda function (without a version)"


def repo_name_fault(value: str) -> str | None:
    """Say what is wrong with the name of a project."""
    if "://" in value or value.startswith("git@"):
        return "is a URL; give the project's name, the rest comes from base_url in config.ini"
    if value.endswith(".git"):
        return 'ends in ".git"; give the project\'s name without it'
    if not REPO_NAME.fullmatch(value) or ".." in value:
        return 'is not the name of a project ("project", or "group/project")'
    return None


def ref_fault(value: str) -> str | None:
    """Say what is wrong with the name of a branch, a tag or a commit."""
    if not REF.fullmatch(value) or value.endswith(("/", ".")):
        return "cannot be the name of a branch, a tag or a commit"
    return None


def subdirectory_fault(value: str) -> str | None:
    """Say what is wrong with a project's folder inside of its repository."""
    parts = PurePosixPath(value).parts
    if not parts or value.startswith("/") or ".." in parts or any(part.startswith("-") for part in parts):
        return 'is not a folder inside of the repository (no "..", no leading "/" or "-")'
    odd = not value.isprintable() or "\\" in value or "://" in value
    if odd or any(part.lower() == ".git" for part in parts):
        return "is not a folder's name that a project could have"
    return None


def alias_fault(value: str) -> str | None:
    """Say what is wrong with the name of an alias."""
    if not re.fullmatch(r"(?!\d+$)[A-Za-z0-9_-]{1,128}", value):
        return "cannot be the name of an alias (letters, digits, - and _; not a number)"
    return None


def to_fault(value: str) -> str | None:
    """Say what is wrong with the name of what a rollback is to put back."""
    if not (VERSION.fullmatch(value) or COMMIT.fullmatch(value) or DIGEST.fullmatch(value)):
        return "is not a version, a commit (at least 7 hexadecimal digits) or a package's digest"
    return None


VERSION = re.compile(r"[1-9][0-9]{0,5}")
COMMIT = re.compile(r"[0-9a-f]{7,64}")
"""A commit or a package's digest in hexadecimal, or how it begins."""
DIGEST = re.compile(r"[A-Za-z0-9+/]{43}=")
"""A package's digest as Lambda writes it in CodeSha256."""


@dataclass(frozen=True)
class BootstrapRequest:
    """{"action": "bootstrap"}."""

    force: bool = False


@dataclass(frozen=True)
class BuildRequest:
    """{"action": "build", …}: what to build and which functions to update."""

    function: str | list[str]
    repo_name: str
    ref: str | None = None
    subdirectory: str | None = None
    publish: bool = False
    alias: str | None = None
    test_event: object = None
    dry_run: bool = False
    force: bool = False

    @property
    def functions(self) -> tuple[str, ...]:
        """The functions, as they were named."""
        return (self.function,) if isinstance(self.function, str) else tuple(self.function)


@dataclass(frozen=True)
class RollbackRequest:
    """{"action": "rollback", …}: which function is to run what it ran before."""

    function: str
    to: str | None = None
    alias: str | None = None
    test_event: object = None

    publish = dry_run = force = False

    @property
    def functions(self) -> tuple[str, ...]:
        """The function, as it was named."""
        return (self.function,)


@dataclass(frozen=True)
class DoctorRequest:
    """{"action": "doctor"}."""


Request = BootstrapRequest | BuildRequest | RollbackRequest | DoctorRequest


def function_name(function: str) -> str:
    """Return a function's name, also where its ARN was given."""
    return function.rpartition(":")[2]


def request_digest(request: Request) -> str:
    """Return what is the same for the same request: a client's retry is known by it."""
    content = json.dumps([type(request).__name__, vars(request)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


FAULTS: Mapping[str, Callable[[str], str | None]] = {
    "function": function_fault,
    "repo_name": repo_name_fault,
    "ref": ref_fault,
    "subdirectory": subdirectory_fault,
    "alias": alias_fault,
    "to": to_fault,
}
OLDER_NAMES = {"branch": "ref"}


def parse_request(event: object) -> Request:
    """Turn an event into a request; raise RequestError that names everything wrong with it."""
    if not isinstance(event, Mapping):
        raise RequestError(f'The event must be a JSON object like {{"action": "build", …}}, not {kind(event)}.')
    action = event.get("action")
    if not isinstance(action, str) or action not in ACTIONS:
        known = ", ".join(f'"{name}"' for name in ACTIONS)
        reason = "has no action" if action is None else f"asks for the unknown action {action!r:.80}"
        raise RequestError(f"The event {reason}{nearest(action, ACTIONS)}; the actions are {known}.")
    request_type = ACTIONS[action].request
    types = {each.name: str(each.type) for each in fields(request_type)}
    wrong: list[str] = []
    given: dict[str, Any] = {}
    for name, value in event.items():
        field_name = OLDER_NAMES.get(name, name) if action == "build" else name
        if name == "action":
            continue
        if field_name not in types:
            wrong.append(f"unknown field {name!r:.80}{nearest(name, types)}")
        elif value is None:
            continue  # as if it were not there: what templates and typed clients send
        elif field_name in given:
            wrong.append(f'"{name}" and "{field_name}" mean the same; give one of them')
        else:
            given[field_name] = value
            wrong += field_faults(name, value, types[field_name], FAULTS.get(field_name))
    required = [each.name for each in fields(request_type) if each.default is MISSING]
    wrong += [f'"{name}" is missing' for name in required if name not in given]
    if wrong:
        raise RequestError(f'The event for "{action}" is wrong, and nothing was done: {"; ".join(wrong)}.')
    request: Request = request_type(**given)
    return request


def field_faults(name: str, value: object, annotation: str, fault: Callable[[str], str | None] | None) -> list[str]:
    """Say what is wrong with one field's type or content."""
    if annotation == "object":
        return []  # any JSON will do
    if isinstance(value, list) and "list" in annotation:
        return list_faults(name, value, fault)
    expected = bool if annotation == "bool" else str
    if not isinstance(value, expected):
        words = "true or false" if expected is bool else "a string"
        return [f'"{name}" must be {words}, not {kind(value)}']
    found = fault(value) if fault and isinstance(value, str) else None
    return [f'"{name}" {value!r:.120} {found}'] if found else []


def list_faults(name: str, values: list[object], fault: Callable[[str], str | None] | None) -> list[str]:
    """Say what is wrong with a field that names several things."""
    if not 1 <= len(values) <= MAX_FUNCTIONS:
        return [f'"{name}" must name at least one and at most {MAX_FUNCTIONS}, not {len(values)}']
    faults = [each for value in values for each in field_faults(name, value, "str", fault)]
    names = [function_name(value) for value in values if isinstance(value, str)]
    twice = sorted({each for each in names if names.count(each) > 1})
    return faults + [f'"{name}" names {each!r:.120} twice' for each in twice]


def nearest(name: object, known: Mapping[str, object]) -> str:
    """Name the known name that looks most like this one, if any does."""
    found = difflib.get_close_matches(str(name), known, n=1)
    return f' (did you mean "{found[0]}"?)' if found else ""


def kind(value: object) -> str:
    """Name a value's type as JSON does."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


# --- The log ----------------------------------------------------------------------------------


class Log:
    """The story of one invocation: printed for CloudWatch, and kept for the build's record.

    All text that comes from outside goes through here, so secrets are masked at this one door.
    """

    def __init__(self, secrets: Sequence[str], directory: Path | None = None) -> None:
        """Start a log that masks these secrets and is kept in a file without a name, if a directory is given.

        A project's code runs as our user: a file that had a name it could replace by a link.
        """
        self._secrets: list[str] = []
        for secret in secrets:
            self.hide(secret)
        # Without a buffer, so that nothing waits in it for room on a disk that is full.
        self.file = tempfile.TemporaryFile(dir=directory, buffering=0) if directory else None  # noqa: SIM115
        self._room = MAX_LOG_BYTES
        self.stage = "starting"
        self.aftermath: Callable[[], str] | None = None
        """Says what a failure leaves behind, once something is being changed."""
        self.seconds: dict[str, float] = {}

    def hide(self, secret: str) -> None:
        """Mask this text too from now on."""
        # The longest first: a secret that contains another would else leave its rest unmasked.
        self._secrets = sorted({*self._secrets, *secret_forms(secret)}, key=len, reverse=True)

    def mask(self, text: str) -> str:
        """Replace every secret in text."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def say(self, text: str) -> None:
        """Print text, and keep it."""
        text = self.mask(text).encode(errors="replace").decode()
        if self._room <= 0:
            return
        self._room -= len(text) + 1
        if self._room <= 0:
            text += f"\n(more than {MAX_LOG_BYTES:,} bytes of log: the rest is not kept)"
        print(text, flush=True)
        if self.file:
            # On a full disk the story goes on in CloudWatch.
            with contextlib.suppress(OSError):
                self.file.write(f"{text}\n".encode())

    def quote(self, text: str) -> None:
        """Print a line of a tool's output, indented under its stage."""
        self.say(f"      {text}")

    @contextlib.contextmanager
    def step(self, name: str, title: str) -> Iterator[None]:
        """Tell that a stage begins and, at its end, how long it took; keep its seconds under name."""
        self.stage = title
        self.say(f"{title} …")
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(time.monotonic() - started, 3)
        self.say(f"{title} … {self.seconds[name]:.1f} s")

    def close(self) -> None:
        """Close the file."""
        if self.file:
            with contextlib.suppress(OSError):
                self.file.close()


def secret_forms(secret: str) -> Iterator[str]:
    """Yield the spellings in which tools may print a secret: as it is, in a URL, in base64."""
    if len(secret) < 4:
        return  # masking so short a text would blot out the log and hide nothing
    yield secret
    yield urllib.parse.quote(secret, safe="")
    yield base64.b64encode(secret.encode()).decode()


# --- The workspace ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Workspace:
    """The directories of one invocation."""

    root: Path

    toolchain = property(lambda self: self.root / "toolchain")
    objects = property(lambda self: self.root / "objects")
    checkout = property(lambda self: self.root / "checkout")
    sources = property(lambda self: self.root / "sources")
    layers = property(lambda self: self.root / "layers")
    staging = property(lambda self: self.root / "staging")
    pruned = property(lambda self: self.root / "pruned")
    home = property(lambda self: self.root / "home")
    scratch = property(lambda self: self.root / "tmp")
    cache = property(lambda self: self.root / "cache")
    bin = property(lambda self: self.root / "bin")
    kept = property(lambda self: self.root.parent / KEPT_NAME)


@contextlib.contextmanager
def workspace(tmp: Path, *, tmp_is_ours: bool) -> Iterator[Workspace]:
    """Make an empty workspace below tmp; at the end remove it, and where tmp is ours all else in it.

    Lambda keeps /tmp from one invocation to the next, also after a crash or a time-out: what an
    earlier build left is swept out first, but for the dependencies that this process knows it has kept.
    Elsewhere (a test on a laptop), others use it too.
    """
    sweep(tmp, everything=tmp_is_ours)
    space = Workspace(tmp / WORKSPACE_NAME)
    try:
        for directory in (space.root, space.home, space.scratch, space.cache, space.bin, space.staging, space.pruned):
            directory.mkdir(mode=0o700)
        yield space
    finally:
        with contextlib.suppress(ConfigError):  # the next invocation says so, before it does anything
            sweep(tmp, everything=tmp_is_ours)


def clear(space: Workspace, keep: Callable[[], object]) -> None:
    """Remove, while AWS is at work, what nobody needs once there is a package, but for what is to be kept."""
    for folder in (space.cache, space.checkout, space.sources, space.pruned):
        remove_tree(folder)
    with contextlib.suppress(OSError, YoDawgError):
        keep()
    remove_tree(space.staging)


def check_workspace(space: Workspace, error_type: type[YoDawgError]) -> None:
    """Raise an error if a project's code has moved, replaced or removed what the next stages work on.

    It runs as our user and may do so; but a link in the place of staging would ship the builder's files.
    """
    for path in (space.root, space.staging, space.checkout, space.pruned):
        if path.is_symlink() or not path.is_dir():
            raise error_type(
                f"The project's code removed or replaced the builder's directory {path.name!r}. It may change what is "
                "in the staging directory, $1, not the directory itself."
            )


def sweep(tmp: Path, *, everything: bool) -> None:
    """Remove our workspace, or everything in tmp, whatever modes and depths it has."""
    if everything and not os.access(tmp, os.R_OK | os.W_OK | os.X_OK):
        tmp.chmod(stat.S_IRWXU)  # a build has locked it
    for path in tmp.iterdir() if everything else [tmp / WORKSPACE_NAME]:
        if path.name == KEPT_NAME and SHELF.kept:
            continue
        if path.is_dir() and not path.is_symlink():
            remove_tree(path)
        else:
            # Another user's file in a sticky directory cannot be ours, and cannot be removed.
            with contextlib.suppress(PermissionError):
                path.unlink(missing_ok=True)


def remove_tree(path: Path) -> None:
    """Remove a directory, also one that a hostile project has locked, or made deeper than Python's stack.

    With coreutils, which can be counted on in Lambda (contract §6): shutil.rmtree recurses.
    """
    for command in (["rm", "-rf"], ["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
        if os.path.lexists(path):
            subprocess.run([*command, "--", path], env={"PATH": os.defpath}, stderr=subprocess.DEVNULL, check=False)  # noqa: S603
    if os.path.lexists(path):
        raise ConfigError(
            f"{path}, left by an earlier build, cannot be removed. Change the builder's configuration "
            "(its memory_size, say), so that Lambda starts it afresh."
        )


# --- Children: the one door to subprocesses -------------------------------------------------------

PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 4, 36
"""prctl(2), linux/prctl.h."""

M_MMAP_THRESHOLD = -3
"""mallopt(3), malloc.h."""


@functools.cache
def libc() -> ctypes.CDLL:
    """Load the C library, for prctl and mallopt."""
    return ctypes.CDLL(None, use_errno=True)


def prctl(option: int, value: int) -> bool:
    """Set a property of this process; say whether the kernel took it (macOS has no prctl)."""
    function = getattr(libc(), "prctl", None)
    return function is not None and function(option, value, 0, 0, 0) == 0


def protect_process() -> bool:
    """Close this process to its children, and make it the one that orphans come back to.

    A child of the same user can read /proc/PID/environ and /proc/PID/mem of its parent, and the
    role's credentials there, unless the parent is "not dumpable".  As "subreaper" we inherit what a
    child leaves behind when it ends, and so can find and kill all of it.  Says whether both took.
    """
    return all([prctl(PR_SET_DUMPABLE, 0), prctl(PR_SET_CHILD_SUBREAPER, 1)])


def give_back_memory() -> None:
    """Have what a large file took in memory given back to the system at once, and not kept for the next one.

    mallopt(3): a fixed M_MMAP_THRESHOLD.  Else glibc raises it to the size of each large block that is freed.
    """
    function = getattr(libc(), "mallopt", None)
    if function is not None:  # macOS has none
        function(M_MMAP_THRESHOLD, 1 << 22)


def kill_leftovers() -> None:
    """Kill what a build left running whose handler Lambda killed: a reset spares other processes.

    Those are the processes of our user that did not start us, and are no extensions (these run from
    /opt, where no build can write).  One that has closed itself to us ("not dumpable") hides.
    """
    parents = parent_ids()
    spared = {os.getpid()}
    while above := {parents[pid] for pid in spared if pid in parents} - spared:
        spared |= above
    for pid in parents.keys() - spared:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            if os.stat(f"/proc/{pid}").st_uid != os.getuid():
                continue
            try:
                is_extension = os.readlink(f"/proc/{pid}/exe").startswith("/opt/")
            except PermissionError:
                is_extension = False
            if not is_extension:
                send_signal(pid, signal.SIGKILL)


@dataclass(frozen=True)
class Command:
    """A program to run."""

    argv: Sequence[str | Path]
    cwd: Path
    environ: Mapping[str, str] = field(default_factory=dict)
    """Variables beside those that every child gets."""
    stdin: bytes = field(default=b"", repr=False)
    is_ours: bool = False
    """No code of a project runs in it.  While any does, no prepared program may wait: it would be left alive."""


class Shell:
    """Runs programs, one at a time, and leaves nothing of them behind."""

    def __init__(self, environ: Mapping[str, str], log: Log) -> None:
        """Give each program this environment and no other; its output goes to the log."""
        self._environ = dict(environ)
        self._log = log
        self._spared = processes_below(os.getpid())
        self._prepared: dict[int, tuple[Command, subprocess.Popen[bytes]]] = {}

    def prepare(self, command: Command) -> None:
        """Start a program that will be run later; called again with its input, give it that.

        It gets ready until it wants its input.  Once a program runs that is not ours, it is killed.
        """
        process = self._take(replace(command, stdin=b"")) or self._start(command)
        if command.stdin:
            send(command.stdin, process)
        self._prepared[process.pid] = command, process

    def wake(self, command: Command) -> None:
        """Tell a prepared program, by an empty line, that it may go on getting ready: its input will follow."""
        for each, process in [*self._prepared.values()]:
            if each == command:
                with contextlib.suppress(BrokenPipeError, ValueError):  # it has ended, or has its input
                    os.write(cast(IO[bytes], process.stdin).fileno(), b"\n")

    def run(self, command: Command, meanwhile: Callable[[], object] = lambda: None) -> str:
        """Run a program to its end and return the tail of its output; raise CommandFailed.

        Once it goes on, something else may be begun.  When it ends, and also when the alarm interrupts it, all that it
        started is killed.
        """
        try:
            return self._run(command, meanwhile)
        except FileNotFoundError as error:
            raise CommandFailed(127, [str(error)]) from None

    def _start(self, command: Command) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603  # an argument list, no shell
            [str(part) for part in command.argv],
            cwd=command.cwd,
            env={**self._environ, **command.environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _run(self, command: Command, meanwhile: Callable[[], object]) -> str:
        kept: deque[str] = deque(maxlen=KEPT_LINES)
        told = self._take(command) if command.stdin else None
        ready = told or self._take(replace(command, stdin=b""))
        if not command.is_ours:
            self._drop_prepared()
        with ready or self._start(command) as process:
            try:
                if told is None:
                    send(command.stdin, process)
                meanwhile()
                for line in lines_of(process):
                    masked = self._log.mask(line)
                    kept.append(masked)
                    self._log.quote(masked)
                status = process.wait()
            finally:
                kill_group(process)
                kill_below(os.getpid(), self._spared | self._prepared.keys())
        if status != 0:
            raise CommandFailed(status, kept)
        return "\n".join(kept)

    def _take(self, command: Command) -> subprocess.Popen[bytes] | None:
        pid = next((pid for pid, (each, _) in [*self._prepared.items()] if each == command), 0)
        return self._prepared.pop(pid)[1] if pid else None

    def close(self) -> None:
        """Kill what may be left: what was not run, and more, should the alarm have rung in the midst of killing."""
        self._drop_prepared()
        kill_below(os.getpid(), self._spared)

    def _drop_prepared(self) -> None:
        while self._prepared:
            _, (_, process) = self._prepared.popitem()
            with process:
                kill_group(process)


def send(content: bytes, process: subprocess.Popen[bytes]) -> None:
    """Give a process its input, all that it gets, unless it has ended."""
    with contextlib.suppress(BrokenPipeError), cast(IO[bytes], process.stdin) as stdin:
        stdin.write(content)


source_text = functools.cache(inspect.getsource)


def own_program(
    program: Callable[[], None],
    *options: str,
    uses: Sequence[Callable[..., Any]] = (),
    begins: str = "from __future__ import annotations",
) -> list[str | Path]:
    """Return the arguments that run a function of this file, with others that it uses, in a new interpreter.

    That gets their sources, after some lines to begin with, and nothing else: so it starts at once.
    """
    sources = [source_text(each) for each in (*uses, program)]
    text = "\n\n".join([begins, *sources, f"{program.__name__}()"])
    return [sys.executable, "-P", *options, "-c", text]


def lines_of(process: subprocess.Popen[bytes]) -> Iterator[str]:
    """Yield the lines that a process prints, until it ends.

    Not until its output ends: what it left running in the background holds the pipe open, and
    would hold us for ever.
    """
    descriptor = cast(IO[bytes], process.stdout).fileno()
    pending = ""
    chunks_after_end = 16  # more than a pipe holds: what comes after that is of the background's making
    while chunks_after_end:
        ended = process.poll() is not None
        chunks_after_end -= ended
        if select.select([descriptor], [], [], 0 if ended else 0.05)[0]:
            chunk = os.read(descriptor, 65536)
            if not chunk:
                break
            *lines, pending = re.split(r"[\r\n]+", pending + chunk.decode(errors="replace"))
            yield from (printable(line) for line in lines if line)
            if len(pending) > MAX_LINE:
                yield printable(pending)
                pending = ""
        elif ended:
            break
    if pending:
        yield printable(pending)


def printable(line: str) -> str:
    """Cut a line to a sane length and take control characters out of it, so that it cannot forge another."""
    line = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line[:MAX_LINE]).replace("\xa0", " ")
    return "".join(char if char.isprintable() or char == "\t" else "�" for char in line)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and its group, ended or not."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def kill_below(pid: int, spared: frozenset[int]) -> None:
    """Kill and reap every descendant of pid but those spared.

    They are stopped first, until no new one shows up: a stopped process cannot fork away.
    """
    while True:
        stopped: set[int] = set()
        while found := processes_below(pid) - spared - stopped:
            for each in found:
                send_signal(each, signal.SIGSTOP)
            stopped |= found
        if not stopped:
            return
        for each in stopped:
            send_signal(each, signal.SIGKILL)
        for each in stopped:
            with contextlib.suppress(ChildProcessError):  # a grandchild: it is ours only once it is an orphan
                os.waitpid(each, 0)


def send_signal(pid: int, number: signal.Signals) -> None:
    """Signal a process that may just have ended."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def processes_below(pid: int) -> frozenset[int]:
    """Return the ids of all descendants of a process; none where there is no /proc (macOS)."""
    parents = parent_ids()
    below: set[int] = set()
    found = {pid}
    while found:
        found = {child for child, parent in parents.items() if parent in found} - below
        below |= found
    return frozenset(below)


def parent_ids() -> dict[int, int]:
    """Return the parent of each process that can be seen."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if entry.isdigit():
            with contextlib.suppress(OSError):  # it has just ended
                # proc(5): "PID (NAME) STATE PARENT …", and a NAME may hold spaces and brackets
                status = Path("/proc", entry, "stat").read_text(errors="replace")
                parents[int(entry)] = int(status.rpartition(")")[2].split()[1])
    return parents


def child_environ(space: Workspace, settings: Settings) -> dict[str, str]:
    """Return the environment of children: built from nothing, so it holds no credentials.

    Lambda sets no HOME; without one uv, virtualenv and many build backends fail.
    """
    system_path = "/usr/local/bin:/usr/bin:/bin:/opt/bin"
    environ = {
        "PATH": f"{space.bin}:{Path(sys.executable).parent}:{system_path}",
        "HOME": str(space.home),
        "TMPDIR": str(space.scratch),
        "XDG_CACHE_HOME": str(space.cache),
        "UV_CACHE_DIR": str(space.cache / "uv"),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PYTHON": sys.executable,
        "PYTHONDONTWRITEBYTECODE": "1",  # a .pyc that a build leaves would differ from run to run
        "PYTHONHASHSEED": "0",
        "PYTHONUNBUFFERED": "1",
        "NO_COLOR": "1",
        "UV_NO_PROGRESS": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_SYSTEM_CERTS": "1",  # trust what pip and the system trust, also behind a company's proxy
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        **settings.client,
    }
    for ours, theirs in (("PIP_INDEX_URL", "UV_DEFAULT_INDEX"), ("PIP_EXTRA_INDEX_URL", "UV_INDEX")):
        if ours in environ and theirs not in environ:
            environ[theirs] = environ[ours]
    if settings.library_path:
        environ["LD_LIBRARY_PATH"] = settings.library_path
    return environ


def put_python_on_path(space: Workspace) -> None:
    """Make python3 and python mean the interpreter that will run the function.

    A script, not a link: started through a link, a virtualenv's Python would not find its home.
    """
    for name in ("python3", "python"):
        wrapper = space.bin / name
        wrapper.write_text(f"#!/bin/sh\nexec '{sys.executable}' \"$@\"\n")
        wrapper.chmod(0o755)


# --- AWS --------------------------------------------------------------------------------------


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


@dataclass(frozen=True)
class Store:
    """The builder's own corner of S3: BUCKET/PREFIX/…, in a bucket that must belong to this account."""

    s3: Any
    bucket: str
    prefix: str
    owner: str

    def uri(self, key: str) -> str:
        """Return the s3:// address of a key."""
        return f"s3://{self.bucket}/{self.prefix}/{key}"

    def _where(self, key: str) -> dict[str, str]:
        # ExpectedBucketOwner: a bucket of the same name in someone else's account is refused.
        return {"Bucket": self.bucket, "Key": f"{self.prefix}/{key}", "ExpectedBucketOwner": self.owner}

    def download(self, key: str, target: Path) -> str | None:
        """Copy an object to a file, in pieces, and return its SHA-256 in hex; None if there is no such object."""
        with target.open("wb") as file:
            return self.copy(key, file)

    def copy(self, key: str, file: IO[bytes]) -> str | None:
        """Copy an object to an open file; else as ``download``."""
        with aws_says(f"read {self.uri(key)}"):
            found = self._ask(self.s3.get_object, key)
            if found is None:
                return None
            digest = hashlib.sha256()
            for chunk in found["Body"].iter_chunks(1 << 20):
                digest.update(chunk)
                file.write(chunk)
        return digest.hexdigest()

    def holds(self, key: str, sha256: str) -> bool:
        """Say whether there is such an object, with this SHA-256 (in hex) by S3's own reckoning.

        One without any is not ours: we store none without.
        """
        with aws_says(f"look for {self.uri(key)}"):
            found = self._ask(self.s3.head_object, key, ChecksumMode="ENABLED")
        if found is None:
            return False
        return bool(in_hex(found.get("ChecksumSHA256", "")) == sha256)

    def _ask(self, call: Callable[..., Any], key: str, **options: str) -> Any:
        """Make a call about an object; return its answer, or None if there is no such object."""
        try:
            return call(**self._where(key), **options)
        except self.s3.exceptions.ClientError as error:
            if self._is_missing(key, error):
                return None
            raise

    def _is_missing(self, key: str, error: Exception) -> bool:
        """Say whether S3 refused since there is no such object.

        To a role that may list only below a prefix, S3 answers 403 for an object that is not there,
        as for one that is forbidden; a listing tells the two apart.
        """
        if error_code(error) in ("AccessDenied", "403"):
            where = {"Bucket": self.bucket, "Prefix": f"{self.prefix}/{key}", "ExpectedBucketOwner": self.owner}
            # A key comes before those that it begins.
            first = self.s3.list_objects_v2(**where, MaxKeys=1).get("Contents") or [{}]
            return bool(first[0].get("Key") != where["Prefix"])
        return error_code(error) in ("NoSuchKey", "404")

    def read(self, key: str) -> tuple[bytes, str] | None:
        """Return a small object and its ETag; None if there is no such object."""
        with aws_says(f"read {self.uri(key)}"):
            found = self._ask(self.s3.get_object, key)
            return found and (found["Body"].read(), found["ETag"])

    def replace(self, key: str, content: bytes, etag: str | None) -> bool:
        """Store a small object if it is still the one with this ETag, or still missing (None); say whether it was.

        S3 compares and writes in one step (the S3 user guide, "conditional writes").
        """
        condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
        with aws_says(f"write {self.uri(key)}"):
            try:
                self.s3.put_object(
                    **self._where(key), **condition, Body=content, ContentType="application/json",
                    ChecksumSHA256=in_base64(hashlib.sha256(content)),
                )  # fmt: skip
            except self.s3.exceptions.ClientError as error:
                if error_code(error) in ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"):
                    return False
                raise
        return True

    def packages(self, function: str) -> list[str]:
        """Return the keys of a function's stored packages."""
        where = {"Bucket": self.bucket, "Prefix": f"{self.prefix}/packages/{function}/"}
        with aws_says(f"list the packages of {function}"):
            found = self.s3.list_objects_v2(**where, ExpectedBucketOwner=self.owner)
        return [each["Key"].removeprefix(f"{self.prefix}/") for each in found.get("Contents", [])]

    def object_version(self, key: str) -> str:
        """Return the version of an object that Lambda is to go on reading; raise DeployError if there is none."""
        with aws_says(f"look for {self.uri(key)}"):
            version = self.s3.head_object(**self._where(key)).get("VersionId")
        if version in (None, "null"):
            raise DeployError(
                f"The function runs its code from S3 (S3ObjectStorageMode), which wants a bucket that keeps versions: "
                f"turn versioning on for {self.bucket}, or give the function a copy of its code."
            )
        return str(version)

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects."""
        refused = []
        for start in range(0, len(keys), 1000):  # S3 takes no more at once
            objects = [{"Key": f"{self.prefix}/{key}"} for key in keys[start : start + 1000]]
            with aws_says(f"delete {len(keys)} old objects"):
                answer = self.s3.delete_objects(
                    Bucket=self.bucket, ExpectedBucketOwner=self.owner, Delete={"Objects": objects, "Quiet": True}
                )
            refused += answer.get("Errors", [])
        if refused:
            raise DeployError(f"Cannot delete {len(refused)} of {len(keys)} old objects: {refused[0]['Code']}.")

    def upload(self, key: str, body: IO[bytes], content_type: str, sha256: str = "") -> None:
        """Store an open file, streamed; S3 compares the SHA-256, in base64 if it is known, before it keeps a byte."""
        body.seek(0)
        sha256 = sha256 or in_base64(hashlib.file_digest(cast(io.BufferedIOBase, body), "sha256"))
        body.seek(0)
        with aws_says(f"write {self.uri(key)}"):
            self.s3.put_object(**self._where(key), Body=body, ChecksumSHA256=sha256, ContentType=content_type)

    def upload_archive(self, key: str, archive: Archive) -> None:
        """Store a zip."""
        self.upload(key, archive.zipped.file, "application/zip", archive.sha256)

    def upload_json(self, key: str, value: object) -> None:
        """Store a value as JSON."""
        self.upload(key, io.BytesIO(json.dumps(value, indent=1).encode()), "application/json")


# --- The ledger: one build of a function at a time ---------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """A build of a function, or a rollback: the one that runs now, or one that has ended."""

    request_id: str
    request: str
    """A digest of what was asked for."""
    title: str
    """The same in words."""
    began: float
    until: float
    """When Lambda ends it at the latest; both in seconds since the epoch."""
    record: str
    """Key of its record and its log, less ".json" and ".log"."""
    log_stream: str = ""
    asked_by: str = ""
    ended: float | None = None
    status: str = "running"
    """Then the status of its answer, or "failed", or "interrupted" (somebody killed it)."""
    error: str | None = None
    commit: str | None = None
    ref: str | None = None
    code_sha256: str | None = None
    version: str | None = None
    alias: str | None = None
    replaces: str | None = None
    """Of a build that changed something: the digest of the package that the function ran before."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Entry:
        """Read an entry, also one that a newer version wrote."""
        known = {each.name for each in fields(cls)}
        return cls(**{name: value[name] for name in value if name in known})


@dataclass(frozen=True)
class Page:
    """What a ledger says."""

    holder: Entry | None
    """Who builds the function now."""
    history: tuple[Entry, ...]
    """What was built, the newest first."""


class Ledger:
    """What S3 knows of a function: who builds it now, and what was built (locks/FUNCTION).

    It is one object, which each writes on the condition that nobody else has written it since he
    read it.  So it is a lock, and the end of a build and its entry in the history are one step: no
    crash can come between them.  A holder that died is overruled when Lambda must have ended it, or
    at once by the next invocation in the same environment, which has but one at a time.
    """

    def __init__(self, function: str, entry: Entry, store: Store) -> None:
        """Know the function, and with what to sign for it."""
        self.function = function
        self.entry = entry
        self.waited = False
        """Whether somebody who was asked the same had it when we came."""
        self.is_attached = False
        """Whether we answer with what he answered."""
        self.history: tuple[Entry, ...] = ()
        """What was built before, the newest first: who holds the ledger need not read it again."""
        self._store = store

    def read(self) -> tuple[Page, str | None]:
        """Return what it says, and the ETag with which it may be replaced."""
        found = self._store.read(ledger_key(self.function))
        if found is None:
            return Page(None, ()), None
        try:
            value = json.loads(found[0])
            holder = Entry.from_json(value["holder"]) if value["holder"] else None
            return Page(holder, tuple(Entry.from_json(each) for each in value["history"])), found[1]
        except (ValueError, TypeError, LookupError):
            raise ConfigError(
                f"The ledger {self._store.uri(ledger_key(self.function))} cannot be read. If nobody builds "
                f"{self.function} now, delete it: its history is lost then, its packages are not."
            ) from None

    def _rewrite(self, change: Callable[[Page], Page | None]) -> Page:
        """Change what it says, again and again until nobody got in between; return what it says then."""
        while True:
            page, etag = self.read()
            new = change(page)
            if new is None:
                return page
            value = {"holder": new.holder and vars(new.holder), "history": [vars(each) for each in new.history]}
            if self._store.replace(ledger_key(self.function), json.dumps(value, indent=1).encode(), etag):
                return new

    def take(self) -> Entry | None:
        """Sign as the holder and return None; or return the one who holds it."""

        def sign(page: Page) -> Page | None:
            if page.holder is None or self._is_ours(page):
                return Page(self.entry, page.history)
            if not self._is_dead(page.holder):
                return None
            left = replace(page.holder, status="interrupted", ended=min(time.time(), page.holder.until))
            return Page(self.entry, (left, *page.history))

        page = self._rewrite(sign)
        self.history = page.history
        return None if page.holder is self.entry else page.holder

    def note(self, **news: Any) -> None:
        """Write down what is about to be done; raise DeployError if somebody else holds it by now."""
        self.entry = replace(self.entry, **news)
        if not self._is_ours(
            self._rewrite(lambda page: Page(self.entry, page.history) if self._is_ours(page) else None)
        ):
            raise DeployError(
                f"Somebody else has begun to build {self.function}, as this build was taken for dead. Build again."
            )

    def release(self, **news: Any) -> list[str]:
        """Let the next one build; with news of how this build ended, enter it into the history.

        Returns the records of this function that are so old that the history has no room for them.
        """
        old: list[str] = []

        def sign_off(page: Page) -> Page | None:
            entry = (replace(self.entry, ended=time.time(), **news),) if news else ()
            history = (*entry, *page.history)
            old[:] = [each.record for each in history[KEPT_ENTRIES:]]
            return Page(None, history[:KEPT_ENTRIES]) if self._is_ours(page) else None

        self._rewrite(sign_off)
        return [each for each in old if each.startswith(f"builds/{self.function}/")]

    def _is_ours(self, page: Page) -> bool:
        # Lambda may deliver an asynchronous event twice, under one id: the moment tells the two apart.
        holder, ours = page.holder, self.entry
        return holder is not None and (holder.request_id, holder.began) == (ours.request_id, ours.began)

    def _is_dead(self, holder: Entry) -> bool:
        same_environment = holder.log_stream != "" and holder.log_stream == self.entry.log_stream
        return same_environment or time.time() > holder.until + CLOCK_SKEW


def ledger_key(function: str) -> str:
    """Return the key of a function's ledger."""
    return f"locks/{function}"


def utc(seconds: float) -> str:
    """Write a moment for people."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


# --- Deadline ---------------------------------------------------------------------------------


@contextlib.contextmanager
def deadline(milliseconds: int, log: Log) -> Iterator[None]:
    """Raise DeadlineError when the invocation's time, less what the answer takes, is over.

    Lambda kills a function that overstays, and then nobody cleans up and nobody answers.  An alarm
    interrupts whatever the handler is waiting for: a child, a socket, a lock.
    """
    available = milliseconds / 1000
    allowed = available - min(SECONDS_TO_REPORT, available / 5)
    started = time.monotonic()

    def ring(_signal: int, _frame: object) -> NoReturn:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(allowed, 0.001))
    try:
        yield
    except OutOfTime as error:
        spent = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in log.seconds.items())
        raise DeadlineError(
            f'Out of time in "{log.stage}": {time.monotonic() - started:.0f} s of the {available:.0f} s that this '
            f"invocation had are gone ({spent or 'none before it'}). If it did not hang, raise timeout "
            f'(at most 900) or memory_size, which buys CPU too, in config.ini and run "./deploy.sh bootstrap".{error}'
        ) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# --- Files: zips, trees, requirement groups --------------------------------------------------------


@dataclass(frozen=True)
class Archive:
    """A zip that was written."""

    zipped: Former
    sha256: str
    """Base64, as Lambda reports it in CodeSha256."""
    zip_bytes: int
    unzipped_bytes: int
    files: int

    @property
    def hex_digest(self) -> str:
        """The same SHA-256 in hex, as S3 keys carry it."""
        return in_hex(self.sha256)


Listing = Sequence[tuple[str, Path, os.stat_result]]
"""Files of a tree: the name relative to its root, the real path, and what it is."""


def tree_files(
    root: Path, boundary: Path | None = None, ignore: Callable[[Path], bool] = lambda path: False
) -> Iterator[tuple[str, Path]]:
    """Yield each file of a tree as (name relative to root, real path): see ``walk``."""
    return ((name, path) for name, path, _ in walk(root, boundary, ignore))


def walk(root: Path, boundary: Path | None = None, ignore: Callable[[Path], bool] = lambda path: False) -> Listing:
    """Return the files of a tree, in the order that a package has them in.

    Links are followed, as zip(1) does, but only inside of the boundary (default: the root).  Raises
    PackageError for a link that leaves it, for a loop of links, and for anything that is neither
    file nor directory.
    """
    limit = (boundary or root).resolve()
    device = limit.stat().st_dev
    found: list[tuple[str, Path, os.stat_result]] = []
    # A stack of our own: a hostile tree may be deeper than Python's.
    todo: list[tuple[Path, str, frozenset[Path]]] = [(root.resolve(), "", frozenset({root.resolve()}))]
    while todo:
        directory, prefix, links = todo.pop()
        if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
            directory.chmod(stat.S_IRWXU)
        with os.scandir(directory) as entries:
            listing = list(entries)
        for entry in listing:
            name, path, is_link = prefix + entry.name, Path(entry.path), entry.is_symlink()
            if ignore(path):
                continue
            if len(name) > MAX_NAME:
                raise PackageError(f"The package is nested too deep: {name[:80]!r}… has {len(name)} characters.")
            real = inside(limit, path, name) if is_link else path
            status = os.stat(real) if is_link else entry.stat(follow_symlinks=False)
            mode = status.st_mode
            if status.st_dev != device:
                raise PackageError(f"The package holds {name!r}, which lies outside of the package.")
            if stat.S_ISDIR(mode):
                if is_link and (real in links or directory.is_relative_to(real)):
                    raise PackageError(f"The package has a loop of links at {name!r}: remove the link.")
                todo.append((real, f"{name}/", links | {real} if is_link else links))
            elif stat.S_ISREG(mode):
                found.append((name, real, status))
            else:
                raise PackageError(f"The package holds {name!r}, which is no file but a pipe, a socket or a device.")
    return sorted(found, key=lambda each: (place_in_package(each[0]), each[0]))


LIBRARY = re.compile(r"\.so[.\d]*$")


def place_in_package(name: str) -> int:
    """Say when it is known of a file that it ships: libraries once they are installed, bytecode after the proof."""
    if LIBRARY.search(name) and not test_suite(name):
        return 0
    return 2 if name.endswith(".pyc") else 1


def entries_below(root: Path) -> Iterator[os.DirEntry[str]]:
    """Yield all that a folder holds, however deep; links are not followed."""
    todo = [str(root)]
    while todo:
        with os.scandir(todo.pop()) as entries:
            for entry in entries:
                yield entry
                if entry.is_dir(follow_symlinks=False):
                    todo.append(entry.path)


def inside(boundary: Path, link: Path, name: str) -> Path:
    """Return what a link points at; raise PackageError if that is not inside the boundary."""
    target = os.readlink(link)
    try:
        real = link.resolve(strict=True)
    except (OSError, RuntimeError):
        raise PackageError(f"The link {name!r} points at {target!r}, which is not there: remove or mend it.") from None
    if not real.is_relative_to(boundary):
        raise PackageError(
            f"The link {name!r} points at {target!r}, outside of the package: it would ship a file of the "
            "builder's. Copy what is needed into the package instead."
        )
    return real


ZIP_MADE = "made by yo-dawg, format 2, "
"""So begin the comments of our zips; with what each was compressed follows."""

MAX_PENDING, MAX_PENDING_BYTES = 100, 1 << 26
"""How many files, and how much of them, may wait for a slower one before them: they are in memory meanwhile."""

LEVELS = ((1 << 24, 5), (1 << 23, 6), (0, 7))
"""libdeflate's, by how large a file is at least: 7 is the highest that costs less than zlib's usual level 6.
In what is large, it gains nothing by the longer search: 1 % for half of the time."""

MAX_SHELF_BYTES = 1 << 27
"""How much of zips, and of dependencies, an environment keeps for its next invocation; of zips an eighth of /tmp."""

SMALL_ZIP = 1 << 23
"""Larger ones make room where dependencies are installed: what fits into a new environment must fit into this one."""

BATCH = 1 << 18
"""How much of small files is compressed by one thread at a time."""

BLOCK = 1 << 20
"""How much is read or inflated at a time."""


Packed = bytes | bytearray
"""A file as a zip holds it."""


@dataclass(frozen=True)
class Deflater:
    """What compresses the members of a zip.  Those of the same name give the same bytes."""

    name: str
    deflate: Callable[[bytes], Packed]

    @property
    def comment(self) -> bytes:
        """What a zip says in its comment if all its members were compressed with this."""
        return f"{ZIP_MADE}{self.name}".encode()


ZLIB = Deflater(f"zlib {zlib.ZLIB_RUNTIME_VERSION}", lambda content: zlib.compress(content, wbits=-15))
"""What is there before there is a toolchain.  It is the runtime's, and may be another tomorrow."""


class Owned:
    """An open file, which is closed once nobody has this any more."""

    def __init__(self, file: IO[bytes]) -> None:
        """Take care of a file."""
        self.file = file
        weakref.finalize(self, file.close)


def unnamed_file(space: Workspace) -> Owned:
    """Return a new file without a name in the workspace: no build can get at it."""
    return Owned(tempfile.TemporaryFile(dir=space.root))


class Former:
    """A package that was made before: what has not changed since need not be compressed again."""

    at_once = 1 << 23
    """How large a file is inflated as a whole: each processor may be at one."""

    def __init__(
        self,
        file: IO[bytes],
        unchanged: Mapping[str, Identity] = MappingProxyType({}),
        directory: zipfile.ZipFile | None = None,
    ) -> None:
        """Read the directory of a zip, unless it is known; raise BadZipFile.

        A file of which ``unchanged`` has the identity is what the member of its name holds.
        """
        self.file, self._unchanged = file, unchanged  # the file must not be closed
        self.owner: Owned | None = None
        """Who closes it, if that is to be when this is not needed any more."""
        self.grows: Owned | None = None
        """The same file, if more may be written to it."""
        self.written: dict[str, tuple[Identity, int]] = {}
        """For members that lie in files of ours: which they are, and since when."""
        with contextlib.nullcontext(directory) if directory else zipfile.ZipFile(file) as archive:
            self.comment = archive.comment
            ours = archive.comment.startswith(ZIP_MADE.encode())
            self._members = {info.filename: info for info in archive.filelist if ours}
            self.end = archive.start_dir

    @property
    def names(self) -> Iterable[str]:
        """The names of its members."""
        return self._members

    @property
    def size(self) -> int:
        """Its bytes."""
        return os.fstat(self.fileno()).st_size

    def fileno(self) -> int:
        """Return the descriptor of its file."""
        return self.file.fileno()

    def digest(self) -> Any:
        """Reckon its SHA-256."""
        digest = hashlib.sha256()
        for piece in self._pieces(0, self.size):
            digest.update(piece)
        return digest

    def read(self, name: str) -> bytes:
        """Return a member's content."""
        return b"".join(self._inflated(self._members[name]))

    def extract(self, name: str, target: str, show: Callable[[Packed], object] = lambda piece: None) -> None:
        """Write a member's content to a file that is not there yet, and show it to somebody else."""
        info = self._members[name]
        with open(target, "xb", buffering=0, opener=functools.partial(os.open, mode=read_only(info))) as file:
            for piece in self._inflated(info):
                write_all(file, piece)
                show(piece)
            self.written[name] = since_when(os.fstat(file.fileno()))

    def beginning(self, files: Sequence[Known]) -> list[zipfile.ZipInfo]:
        """Return all members before the first that is not the file in its place."""
        members = list(self._members.values())
        for number, (info, (name, path, _)) in enumerate(zip(members, files, strict=False)):
            status = path.stat()
            is_same = info.filename == name and self._unchanged.get(name) == identity(status)
            if not is_same or info.external_attr != zip_info(name, status).external_attr:
                return members[:number]
        return members[: len(files)]

    def copy_beginning(self, members: Sequence[zipfile.ZipInfo], target: IO[bytes]) -> None:
        """Write its first members."""
        count = len(members)
        end = [*self._members.values()][count].header_offset if count < len(self._members) else self.end
        target.writelines(self._pieces(0, end))

    def find(self, info: zipfile.ZipInfo, file: IO[bytes]) -> zipfile.ZipInfo | None:
        """Return the member that holds what this file holds; if there is none, the file is at its beginning.

        Compared byte by byte.  Not by the CRC: two files of the same size may have the same one.
        """
        ours = self._members.get(info.filename)
        if ours is None or ours.file_size != info.file_size:
            return None
        if all(file.read(len(piece)) == piece for piece in self._inflated(ours)):
            return ours
        file.seek(0)
        return None

    def find_known(self, info: zipfile.ZipInfo, status: os.stat_result) -> zipfile.ZipInfo | None:
        """Return the member that holds what a file of this status holds, if that is known without a look into it.

        It is, of a file that is unchanged, and of one that we wrote ourselves and nobody has touched since.
        """
        name = info.filename
        is_known = self._unchanged.get(name) == identity(status) or self.written.get(name) == since_when(status)
        return self._members[name] if is_known and name in self._members else None

    def compressed(self, info: zipfile.ZipInfo) -> bytes:
        """Return a member's content as it is in the zip; by offset, since several threads read."""
        return os.pread(self.fileno(), info.compress_size, self._start(info))

    def _start(self, info: zipfile.ZipInfo) -> int:
        name_size, extra_size = struct.unpack("<26x2H", os.pread(self.fileno(), 30, info.header_offset))
        return int(info.header_offset + 30 + name_size + extra_size)

    def _pieces(self, at: int, length: int) -> Iterator[bytes]:
        for start in range(0, length, BLOCK):
            yield os.pread(self.fileno(), min(BLOCK, length - start), at + start)

    def _inflated(self, info: zipfile.ZipInfo) -> Iterator[Packed]:
        if (quick := sys.modules.get("deflate")) and info.file_size <= self.at_once:
            yield quick.deflate_decompress(self.compressed(info), info.file_size)
            return
        inflater = zlib.decompressobj(-15)
        for piece in self._pieces(self._start(info), info.compress_size):
            rest = piece
            while rest:
                yield inflater.decompress(rest, BLOCK)
                rest = inflater.unconsumed_tail
        yield inflater.flush()


@dataclass(frozen=True)
class Kept:
    """A package's dependencies, laid out, that stay in /tmp for the function's next build.

    A project's code runs as our user, and can reach them.  But nobody may write to these files, and to give
    oneself that right, as to put another file in the place of one, is a change of which the kernel notes the
    moment (ctime, which nobody can set).  Files that are of the moment they were are what they were.
    """

    package: str
    """The digest of the package, in base64."""
    files: Mapping[str, tuple[Identity, int]]
    """For each file ``since_when`` it is as it is."""


class Shelf:
    """What this environment keeps from one invocation to the next: zips, the one used last last, and dependencies.

    The zips are in files without names, and who has them open is closed to its children: no project's code
    can get at them.
    """

    kept: Kept | None = None
    """What lies in /tmp beside the workspace."""

    def __init__(self) -> None:
        """Begin with none."""
        self._zips: dict[str, Former] = {}
        self._lock = threading.Lock()

    def __contains__(self, sha256: str) -> bool:
        """Say whether there is a zip with this digest, in hex."""
        return sha256 in self._zips

    def put(self, sha256: str, zipped: Former) -> None:
        """Keep a zip under its digest, in hex, and no more others than there is room for."""
        room = min(MAX_SHELF_BYTES, shutil.disk_usage(zipped.fileno()).total // 8)
        with self._lock:
            self._zips.pop(sha256, None)
            self._zips[sha256] = zipped
            while sum(each.size for each in self._zips.values()) > room:
                self._zips.pop(next(iter(self._zips)))

    def make_room(self, largest: int = SMALL_ZIP) -> None:
        """Keep none of the zips that are larger."""
        with self._lock:
            self._zips = {sha256: each for sha256, each in self._zips.items() if each.size <= largest}

    def get(self, sha256: str) -> Former | None:
        """Return the zip with this digest, which is reckoned again."""
        with self._lock:
            zipped = self._zips.pop(sha256, None)
        if zipped is None or zipped.digest().hexdigest() != sha256:
            return None
        self.put(sha256, zipped)
        return zipped


SHELF = Shelf()


def write_zip(tree: Path, target: Path, former: Former | None = None, deflater: Deflater = ZLIB) -> Archive:
    """Zip a tree reproducibly: the same tree and deflater give the same bytes; see ``write_members``."""
    target.unlink(missing_ok=True)  # a build may have put a link there, to have us write elsewhere
    formers = [former] if former else []
    return zip_files(walk(tree), lambda: Owned(target.open("x+b", buffering=BLOCK)), formers, deflater)


def zip_files(listing: Listing, target: Callable[[], Owned], formers: Sequence[Former], deflater: Deflater) -> Archive:
    """Zip files in the order in which they come, into a new file; else as ``write_zip``.

    Or into that of the first former zip, if that may grow and all of it is the beginning.
    """
    files = [(name, path, None) for name, path, _ in listing]
    alike = [former for former in formers if former.comment == deflater.comment]
    begun = alike[0].beginning(files) if alike else []
    grown = alike[0].grows if begun and len(begun) == len([*alike[0].names]) else None
    owned = grown or target()
    file = owned.file
    if grown:
        file.seek(alike[0].end)
    elif begun:
        alike[0].copy_beginning(begun, file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.filelist += begun
        archive.start_dir = file.tell()
        write_members(files[len(begun) :], archive, alike, deflater)
    file.truncate()
    file.flush()
    zipped = Former(file, directory=archive)
    zipped.owner = owned
    return Archive(
        zipped=zipped,
        sha256=in_base64(zipped.digest()),
        zip_bytes=zipped.size,
        unzipped_bytes=sum(info.file_size for info in archive.filelist),
        files=len(archive.filelist),
    )


def write_members(
    files: Iterable[Known], archive: zipfile.ZipFile, formers: Iterable[Former], deflater: Deflater
) -> None:
    """Write files into a zip, with one date and our own modes for all.

    On all processors: what compresses lets go of Python's lock.  Lambda runs code as a user other than
    the files' owner, so everything must be readable by all: 0644, or 0755 where the owner may execute.
    What a former zip holds is taken over, if the same deflater made it.
    A file that is not the one meant is left out: it may be gone, or a project's code has put a link or
    a pipe in its place.
    Raises PackageError for names that a zip cannot hold, and OSError where none is meant in particular.
    """
    alike = [former for former in formers if former.comment == deflater.comment]

    def pack(name: str, path: Path, meant: Identity | None) -> tuple[zipfile.ZipInfo, Packed] | None:
        try:
            status = make_readable(path)
            info = zip_info(name, status)
            for each in alike:
                if meant in (None, identity(status)) and (ours := each.find_known(info, status)):
                    info.CRC = ours.CRC
                    return info, each.compressed(ours)
            with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
                if meant and meant != identity(os.fstat(opened.fileno())):
                    raise OSError(errno.ESTALE, "it is another file than it was", str(path))
                for each in alike:
                    if ours := each.find(info, opened):
                        info.CRC = ours.CRC
                        return info, each.compressed(ours)
                content = opened.read(info.file_size + 1)  # and no more, should it grow
            if len(content) != info.file_size:
                raise OSError(errno.ESTALE, "it was written to meanwhile", str(path))
        except OSError:
            if meant is None:
                raise
            return None
        info.CRC = zlib.crc32(content)
        return info, deflater.deflate(content)

    archive.comment = deflater.comment
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        for packed in side_by_side(pool, pack, files):
            if packed:
                add_member(archive, *packed)
            del packed  # before the next one comes: they may be large
    finally:
        pool.shutdown(cancel_futures=True)


Answer = TypeVar("Answer")
"""Whatever a function that is handed on returns."""


def side_by_side(
    pool: ThreadPoolExecutor, pack: Callable[[str, Path, Identity | None], Answer], files: Iterable[Known]
) -> Iterator[Answer]:
    """Yield what pack makes of each file, in their order; as many are at work or wait as memory has room for.

    Small ones go in batches: to hand each of them to another thread takes longer than to compress it.
    """
    pending: deque[tuple[int, Future[list[Answer]]]] = deque()
    for batch, total in batches(files):
        while pending and (len(pending) == MAX_PENDING or total + sum(each for each, _ in pending) > MAX_PENDING_BYTES):
            yield from pending.popleft()[1].result()
        pending.append((total, pool.submit(lambda batch: [pack(*each) for each in batch], batch)))
    while pending:
        yield from pending.popleft()[1].result()


def batches(files: Iterable[Known]) -> Iterator[tuple[list[Known], int]]:
    """Yield large files, and as many small ones as make a large one, with their bytes."""
    batch: list[Known] = []
    total = 0
    for name, path, meant in files:
        size_ = meant[2] if meant else path.stat().st_size
        if batch and total + size_ > BATCH:
            yield batch, total
            batch, total = [], 0
        batch.append((name, path, meant))
        total += size_
    if batch:
        yield batch, total


Identity = tuple[int, int, int, int]
Known = tuple[str, Path, Identity | None]
"""A file's name in a package, where it is, and which one is meant."""


def identity(status: os.stat_result) -> Identity:
    """Return what a file does not keep when something is written to it, or another put in its place."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def since_when(status: os.stat_result) -> tuple[Identity, int]:
    """Return which file it is, and since when: that (ctime) nobody can set, other than the dates in ``identity``."""
    return identity(status), status.st_ctime_ns


def zip_info(name: str, status: os.stat_result) -> zipfile.ZipInfo:
    """Return what a zip says of a file."""
    info = zipfile.ZipInfo(zip_name(name), ZIP_EPOCH)
    info.create_system = 3  # Unix: the modes count
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = (stat.S_IFREG | (0o755 if status.st_mode & stat.S_IXUSR else 0o644)) << 16
    info.file_size, info.CRC = status.st_size, 0
    return info


def add_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, content: Packed) -> None:
    """Write a member that is compressed already, which zipfile itself has no call for."""
    file: Any = archive.fp
    info.header_offset, info.compress_size = file.tell(), len(content)
    file.write(info.FileHeader(zip64=False))
    file.write(content)
    archive.start_dir = file.tell()
    archive.filelist.append(info)


def zip_name(name: str) -> str:
    """Return a file's name as a zip can hold it, or raise PackageError."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise PackageError(f"The package holds a file whose name is not UTF-8: {name!r}. Rename it.") from None
    return name


def read_only(info: zipfile.ZipInfo) -> int:
    """Return the mode of a file that nobody may write to and all may read, executable if it is in the zip."""
    return 0o555 if info.external_attr >> 16 & stat.S_IXUSR else 0o444


def make_readable(path: Path) -> os.stat_result:
    """Let us read a file of ours, whatever mode a build gave it; return what it is."""
    status = path.stat()
    if not status.st_mode & stat.S_IRUSR:
        path.chmod(status.st_mode | stat.S_IRUSR)
    return status


def unzip(zipped: Former, names: Iterable[str], target: Path) -> None:
    """Unpack members of a zip that write_zip made, executable bits included; it must be known to be that zip."""
    names = list(names)
    make_folders(names, target)
    for name in names:
        zipped.extract(name, f"{target}/{name}")


def make_folders(names: Iterable[str], root: Path) -> None:
    """Make the folders that these files are in."""
    for folder in sorted({os.path.dirname(name) for name in names}):
        os.makedirs(root / folder, exist_ok=True)


def write_all(file: io.FileIO, content: Packed) -> None:
    """Write to a file that has no buffer."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


def requirement_group(text: str, name: str) -> str:
    """Return the lines of one group of our requirements.txt: those under its "# --- NAME: …" banner."""
    groups = re.split(r"^# --- ([a-z]+):.*$", text, flags=re.MULTILINE)
    found = dict(zip(groups[1::2], groups[2::2], strict=True))
    return found[name].strip() + "\n"


def in_base64(digest: Any) -> str:
    """Return a digest as Lambda and S3 write it."""
    return base64.b64encode(digest.digest()).decode()


def in_hex(sha256: str) -> str:
    """Return a digest in hex that Lambda or S3 writes in base64."""
    return base64.b64decode(sha256).hex()


def size(count: int) -> str:
    """Write a number of bytes for people."""
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1e3:.1f} kB"


# --- The toolchain --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Toolchain:
    """Dulwich, uv and a compressor, unpacked."""

    root: Path
    indexes: tuple[str, ...] = field(default=(), repr=False)
    """Addresses, with credentials, of private package indexes that uv asks first."""
    deflater: Deflater = ZLIB
    bring: Callable[[str], Future[Future[None]] | None] = field(default=lambda _: None, repr=False, compare=False)
    """Begins to fetch, and then to unpack, a part that a clone by HTTP does without, unless that was done before."""

    @property
    def packages(self) -> Path:
        """The directory to put on a child's PYTHONPATH."""
        return self.root / "site-packages"

    @property
    def bytecode(self) -> Path:
        """The directory that holds the bytecode of this very file, as Python caches it (sys.pycache_prefix)."""
        return self.root / "bytecode"

    def wait(self, part: str) -> None:
        """Wait until a part is there; raise NotBootstrapped."""
        if fetched := self.bring(part):
            fetched.result().result()

    @property
    def uv(self) -> Path:
        """The uv program, once it is there."""
        self.wait("uv")
        return self.root / "bin" / "uv"


def toolchain_pins() -> str:
    """Return the requirements of the toolchain, pinned and hashed, as they travel with this file."""
    return requirement_group((HERE / "requirements.txt").read_text(), "toolchain")


def toolchain_inputs(builder: Builder) -> str:
    """Return a digest of all that decides what is in the toolchain."""
    return hashlib.sha256(f"{TOOLCHAIN_FORMAT}\n{builder.platform}\n{toolchain_pins()}".encode()).hexdigest()


@functools.cache
def own_digest() -> str:
    """Return the SHA-256, in hex, of this file."""
    return hashlib.sha256((HERE / Path(__file__).name).read_bytes()).hexdigest()


def toolchain_pointer(builder: Builder) -> str:
    """Return the key of the small object that names the toolchain in use."""
    return f"toolchain/{builder.platform}.json"


def stored_toolchain(store: Store, builder: Builder, space: Workspace) -> dict[str, Any] | None:
    """Read which toolchain is stored for this builder; None if there is none, or one of other pins."""
    pointer = space.root / "toolchain.json"
    if store.download(toolchain_pointer(builder), pointer) is None:
        return None
    try:
        stored: dict[str, Any] = json.loads(pointer.read_bytes())
        parts = {part: str(stored["parts"][part]) for part in TOOLCHAIN_PARTS}
    except (ValueError, LookupError, TypeError):
        return None
    if stored.get("inputs") != toolchain_inputs(builder):
        return None
    return stored if all(re.fullmatch(r"[0-9a-f]{64}", sha256) for sha256 in parts.values()) else None


def toolchain_key(sha256: str) -> str:
    """Return the key of a toolchain's zip: its name is its content's digest."""
    return f"toolchain/{sha256}.zip"


def kept_toolchain(job: Job) -> Toolchain | None:
    """Unpack the toolchain, if what a clone by HTTP takes of it need not be fetched."""
    return lay_toolchain(job.toolchain, job) if job.toolchain and job.toolchain["parts"]["git"] in SHELF else None


def get_toolchain(job: Job, *soon: str) -> Toolchain:
    """Fetch, verify and unpack the toolchain; raise NotBootstrapped if there is none that fits."""
    if job.toolchain is None:
        raise NotBootstrapped(
            f"There is no toolchain for {job.builder.platform} and this version of yo-dawg at "
            f'{job.store.uri(toolchain_pointer(job.builder))}. Run "./deploy.sh bootstrap", or invoke '
            f'{job.builder.name} with {{"action": "bootstrap"}}.'
        )
    return lay_toolchain(job.toolchain, job, *soon)


def lay_toolchain(stored: Mapping[str, Any], job: Job, *soon: str) -> Toolchain:
    """Lay out what a clone by HTTP takes of a toolchain, and the rest aside, now or once it is needed."""
    space = job.space

    def fetch(part: str) -> Future[Former]:
        return job.aside.submit(fetch_toolchain, stored["parts"][part], job)

    def unpack(zipped: Future[Former]) -> Future[None]:
        return job.unpacking.submit(unzip, zipped.result(), zipped.result().names, space.toolchain)

    fetched = {part: fetch(part) for part in soon}
    toolchain, zipped = Toolchain(space.toolchain), fetch_toolchain(stored["parts"]["git"], job)
    first = [name for name in zipped.names if name.startswith("site-packages/deflate")]
    if "deflate" not in sys.modules:
        job.unpacking.submit(unzip, zipped, first, space.toolchain).result()
    deflater = load_deflater(toolchain)
    if (toolchain.packages / "deflate").exists():
        remove_tree(toolchain.packages / "deflate")  # a project's code must not find the file that we run
    bring = functools.cache(lambda part: job.aside.submit(unpack, fetched.get(part) or fetch(part)))
    for part in soon:
        bring(part)
    rest = [name for name in zipped.names if name not in first]
    job.unpacking.submit(unzip, zipped, rest, space.toolchain).result()
    job.shell.wake(git_worker_command(space))
    return replace(toolchain, deflater=deflater, bring=bring)


def fetch_toolchain(sha256: str, job: Job) -> Former:
    """Fetch one of the toolchain's zips; raise NotBootstrapped if it is not the one that was stored."""
    found, zipped = fetch_zip(toolchain_key(sha256), sha256, job)
    if zipped is None:
        problem = "is missing" if found is None else f"has been changed: its SHA-256 is {found}. It was not run"
        raise NotBootstrapped(
            f"The toolchain {job.store.uri(toolchain_key(sha256))} {problem}. Invoke {job.builder.name} with "
            '{"action": "bootstrap", "force": true} to make it again.'
        )
    zipped.at_once = MAX_PENDING_BYTES
    return zipped


def fetch_zip(key: str, sha256: str, job: Job) -> tuple[str | None, Former | None]:
    """Fetch a zip into a file without a name, or find it on the shelf; return its digest, in hex, and the zip.

    No zip if it has another digest than it should have, no digest if there is none.
    """
    if kept := SHELF.get(sha256):
        return sha256, kept
    owned = unnamed_file(job.space)
    found = job.store.copy(key, owned.file)
    if found != sha256:
        return found, None
    zipped = Former(owned.file)
    zipped.owner = owned
    SHELF.put(sha256, zipped)
    return found, zipped


def load_deflater(toolchain: Toolchain) -> Deflater:
    """Load libdeflate, which compresses better than zlib does and twice as fast, and is no other tomorrow.

    Its file is the one that was pinned, and nothing of a project has run by now.
    """
    loaded: Any = sys.modules.get("deflate")
    if loaded is None:
        # Not by sys.path: other threads import, too, and must not find Dulwich's urllib3.
        spec: Any = importlib.machinery.PathFinder.find_spec("deflate", [str(toolchain.packages), *sys.path])
        loaded = sys.modules["deflate"] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(loaded)
        except BaseException:
            del sys.modules["deflate"]
            raise
    compress = loaded.deflate_compress
    name = f"libdeflate {loaded.__version__}, level {'/'.join(str(level) for _, level in LEVELS)}"
    return Deflater(
        name, lambda content: compress(content, next(level for least, level in LEVELS if len(content) >= least))
    )


def make_virtualenv(space: Workspace, shell: Shell) -> Path:
    """Make a virtualenv in the workspace with the virtualenv that travels in the function's zip.

    Its pip is one that virtualenv embeds: Lambda promises none.
    """
    target = space.root / "virtualenv"
    options = ("--no-download", "--no-periodic-update", "--app-data", space.scratch / "virtualenv")
    command = [sys.executable, "-m", "virtualenv", *options, target]
    try:
        shell.run(Command(command, cwd=space.root, environ={"PYTHONPATH": str(HERE)}))
    except CommandFailed as error:
        refuse_if_disk_full(error, space)
        raise ConfigError(
            f"Cannot make a virtualenv: virtualenv {error.ending}. It must lie in this function's zip: "
            f'run "./deploy.sh bootstrap" to install it again.{error.quoted_tail}'
        ) from None
    return target


def install_toolchain(virtualenv: Path, space: Workspace, shell: Shell) -> None:
    """Install the pinned, hashed toolchain into the virtualenv; raise DependencyError."""
    pins = space.root / "toolchain.txt"
    pins.write_text(toolchain_pins())
    options = (
        "--require-hashes",
        "--only-binary",
        ":all:",
        "--no-compile",
        "--no-cache-dir",
        "--progress-bar",
        "off",
    )
    try:
        shell.run(Command([virtualenv / "bin" / "python", "-m", "pip", "install", *options, "-r", pins], space.root))
    except CommandFailed as error:
        refuse_if_disk_full(error, space)
        raise DependencyError(
            f"Cannot install the toolchain: pip {error.ending}. Can this function reach the package index, "
            f"and does that have these very files?{error.quoted_tail}"
        ) from None


def collect_toolchain(virtualenv: Path, space: Workspace, shell: Shell) -> Toolchain:
    """Lay out what a build needs of the virtualenv, and prove that it works by running it.

    Compiled with "unchecked" hashes: timestamps would not survive the zip, and each build would
    then compile Dulwich anew.  This file, which the git worker imports, is compiled too: with a hash
    that is checked, so that what another version of it has made does no harm.
    """
    toolchain = Toolchain(space.toolchain)
    (toolchain.root / "bin").mkdir(parents=True)
    shutil.move(virtualenv / "bin" / "uv", toolchain.uv)
    source = next((virtualenv / "lib").glob("python3.*")) / "site-packages"
    toolchain.packages.mkdir()
    unwanted = re.compile(r"(pip|setuptools|wheel|_virtualenv|__pycache__)\b|.*\.(pth|virtualenv)$|uv$")
    for path in sorted(source.iterdir()):
        if not unwanted.match(path.name):
            shutil.move(path, toolchain.packages / path.name)
    for path in toolchain.packages.glob("*.dist-info/*"):
        if path.name in INSTALLER_FILES:
            path.unlink()
    compiler = (sys.executable, "-m", "compileall", "-q", "--invalidation-mode")
    prefix = {"PYTHONPYCACHEPREFIX": str(toolchain.bytecode)}
    try:
        shell.run(Command([*compiler, "unchecked-hash", "-s", toolchain.root, toolchain.packages], cwd=space.root))
        shell.run(Command([*compiler, "checked-hash", HERE / Path(__file__).name], cwd=space.root, environ=prefix))
        shell.run(Command([toolchain.uv, "--version"], cwd=space.root))
        proof = Command([sys.executable, "-c", TOOLCHAIN_PROOF], space.root, {"PYTHONPATH": str(toolchain.packages)})
        shell.run(proof)
    except CommandFailed as error:
        raise ConfigError(f"The toolchain does not work here: it {error.ending}.{error.quoted_tail}") from None
    return toolchain


def zip_toolchain(toolchain: Toolchain, space: Workspace) -> dict[str, Archive]:
    """Take the toolchain apart, and zip each part."""
    deflater, archives = load_deflater(toolchain), {}
    for part, beginnings in TOOLCHAIN_PARTS.items():
        root = space.root / part
        root.mkdir()
        move([name for name, _ in tree_files(toolchain.root) if name.startswith(beginnings)], toolchain.root, root)
        archives[part] = write_zip(root, space.root / f"{part}.zip", deflater=deflater)
    return archives


def store_toolchain(
    archives: Mapping[str, Archive], packages: Sequence[str], builder: Builder, store: Store
) -> dict[str, Any]:
    """Store a toolchain as the one in use; return what ``stored_toolchain`` will read."""
    parts = {part: archive.hex_digest for part, archive in archives.items()}
    made = {"inputs": toolchain_inputs(builder), "code": own_digest(), "parts": parts, "packages": packages}
    for archive in archives.values():
        store.upload_archive(toolchain_key(archive.hex_digest), archive)
    # The pointer goes last: whoever reads it finds what it points at.
    store.upload_json(toolchain_pointer(builder), made)
    return made


def refuse_if_disk_full(error: CommandFailed, space: Workspace) -> None:
    """Raise ConfigError if what a child said means that /tmp is full."""
    if re.search(r"No space left on device|os error 28|ENOSPC", "\n".join(error.lines)):
        raise disk_full(space.root)


def disk_full(path: Path) -> ConfigError:
    """Return the error for a full /tmp, of which the next invocation gets all."""
    SHELF.make_room(0)
    total = shutil.disk_usage(path.parent).total
    return ConfigError(
        f"{path.parent} is full: this project needs more than its {size(total)}. Raise ephemeral_storage (MB, at most "
        '10240) in config.ini and run "./deploy.sh bootstrap".'
    )


# --- Stage: clone ---------------------------------------------------------------------------------

STALL_SECONDS = 30.0
"""A server that sends nothing for so long is given up."""

WORKER_MEMORY = 1 << 30
"""Address space of the git worker (RLIMIT_AS): it streams, so what wants more is a hostile repository."""

MAX_FILES = 300_000
MAX_PATH_BYTES = 3_000
MAX_SUBMODULES = 64
MAX_REQUIRED = 64
"""What a repository may consist of, and how many others a project may require.  A few nested trees
can else spell out more files than there are atoms."""

LFS_POINTER = re.compile(rb"version https?://(?:git-lfs|hawser)\.github\.com/spec/v1\r?\n")
"""How a pointer to a file in Git LFS begins; "hawser" was its first name."""

PIECE = 1 << 18
"""Bytes that are read or written at a time."""

PUBLISHED_HOST_KEYS = {
    # docs.github.com: "GitHub's SSH key fingerprints"; also https://api.github.com/meta
    "github.com": (
        "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU",  # ed25519
        "SHA256:p2QAMXNIC1TJYWeIOttrVc98/R1BUFWu3/LiyKgUfQM",  # ecdsa
        "SHA256:uNiVztksCsDhcc0u9e8BujQXVUpKZIDTMczCvj3tD2s",  # rsa, since March 2023
    ),
    # docs.gitlab.com: "GitLab.com settings", SSH host keys fingerprints
    "gitlab.com": (
        "SHA256:eUXGGm1YGsMAS7vkcx6JOJdOGHPem5gQp4taiCfCLB8",  # ed25519
        "SHA256:HbW3g8zUjNSksFbqTiUWPWg2Bq1x8xdGUrliXFzSnUw",  # ecdsa
        "SHA256:ROQFvPThGrW4RuWLoL9tq9I9zJ42fK4XywyRtbOz/EQ",  # rsa
    ),
    # support.atlassian.com: "Configure SSH and two-step verification", since June 2023
    "bitbucket.org": (
        "SHA256:ybgmFkzwOSotHTHLJgHO0QN8L0xErw6vd0VhFA9m3SM",  # ed25519
        "SHA256:FC73VB6C4OQLSCrjEayhMp9UMxS97caD/Yyi2bhW/J0",  # ecdsa
        "SHA256:46OSHA1Rmj8E8ERTC6xkNcmGOw9oFxYr0WF6zWW8l1E",  # rsa
    ),
}
"""Fingerprints of the SSH host keys that these hosts publish: good without a line in known_hosts."""


@dataclass(frozen=True)
class Required:
    """What a project requires from Git: pip and uv would need a git program for it."""

    origins: Mapping[str, str] = field(default_factory=dict)
    """For the address of each folder that was fetched (file://…), what it is: git+URL@COMMIT."""
    overrides: Sequence[str] = ()
    """Requirements that take the place of those of the same name, whoever has them."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """For each requirements file of the project, its text as uv is to see it."""
    failures: Sequence[str] = ()
    """What could not be fetched.  It matters only if uv asks for it: a marker may say no."""


@dataclass(frozen=True)
class Checkout:
    """A project's files, without any .git."""

    root: Path
    """The repository's files."""
    project: Path
    """The project's folder in it."""
    commit: str
    ref: str
    files: frozenset[str]
    """The repository's files, relative to root: builds of requirements may add others."""
    required: Required = field(default_factory=Required)
    warnings: tuple[str, ...] = ()


def read_secret(aws: Aws, name: str, key: str) -> str:
    """Read the secret that config.ini names under a key; "" if it names none."""
    if not name:
        return ""
    with aws_says(f"read the secret {name} ({key} in config.ini)", ConfigError):
        answer = aws.secrets.get_secret_value(SecretId=name)
    binary = answer.get("SecretBinary", b"").decode(errors="replace")
    return str(answer.get("SecretString") or binary)


def deploy_key(aws: Aws, settings: Settings) -> tuple[str, str]:
    """Read the SSH private key and its passphrase ("" if it has none).

    The secret is the key itself, as ssh-keygen wrote it, or JSON: {"private_key": …, "passphrase": …}.
    """
    text = read_secret(aws, settings.deploy_key_secret, "deploy_key_secret")
    passphrase = ""
    if text.lstrip().startswith("{"):
        try:
            fields_ = json.loads(text)
            text, passphrase = fields_["private_key"], fields_.get("passphrase") or ""
        except (ValueError, KeyError, AttributeError):
            text = ""
    if settings.deploy_key_secret and not ("-----BEGIN" in str(text) and isinstance(passphrase, str)):
        raise ConfigError(
            f"The secret {settings.deploy_key_secret} (deploy_key_secret in config.ini) holds no SSH private key: "
            'store the file that ssh-keygen wrote, or {"private_key": "-----BEGIN …", "passphrase": "…"}.'
        )
    return text, passphrase


@dataclass(frozen=True)
class Source:
    """A repository on a server, with the credentials that this server may see."""

    url: str
    username: str = ""
    token: str = field(default="", repr=False)
    deploy_key: str = field(default="", repr=False)
    passphrase: str = field(default="", repr=False)
    known_hosts: str = ""

    @classmethod
    def from_settings(cls, settings: Settings, aws: Aws, repo_name: str, log: Log) -> Source:
        """Say where a project is cloned from; read the secrets that it takes, and hide them in the log."""
        token = read_secret(aws, settings.token_secret, "token_secret").strip()
        key, passphrase = deploy_key(aws, settings)
        log.hide(token)
        log.hide(f"{settings.username or DEFAULT_USERNAME}:{token}" if token else "")  # as HTTP sends it, in base64
        log.hide(passphrase)
        for line in key.splitlines():  # logs are masked line by line
            log.hide("" if line.startswith("-----") else line.strip())
        return cls(settings.repository_url(repo_name), settings.username, token, key, passphrase, settings.known_hosts)


def look_command(source: Source, request: BuildRequest, space: Workspace) -> Command | None:
    """Return the command of the child that asks a Git host at which commit a ref is; it needs no toolchain.

    None where a plain question to an HTTP server does not tell.
    """
    if origin(source.url)[0] not in ("https", "http") or (request.ref and is_full_id(request.ref)):
        return None
    names = [name.decode() for name in ref_names(request.ref)] if request.ref else ["HEAD"]
    pair = f"{source.username or DEFAULT_USERNAME}:{source.token}"
    question = {
        "url": source.url,
        "credentials": base64.b64encode(pair.encode()).decode() if source.token else None,
        "names": names,
        "seconds": STALL_SECONDS,
        "answer": str(space.root / "refs.json"),
    }
    return replace(look_program(space), stdin=json.dumps(question).encode())


def look_program(space: Workspace) -> Command:
    """Return that command without a question."""
    return Command(own_program(ask_refs, "-s"), space.root, is_ours=True)


def look_at_ref(source: Source, request: BuildRequest, job: Job) -> tuple[str, str] | None:
    """Return the commit that is asked for and its ref, if that can be told without a clone.

    Else None: whatever is wrong, the clone finds it too, and says it in words.
    """
    if request.ref and is_full_id(request.ref):
        return request.ref, request.ref
    command = look_command(source, request, job.space)
    if command is None:
        return None
    with job.log.step("look", f"[1/8] look at {source.url}"), contextlib.suppress(CommandFailed, OSError):
        job.shell.run(command)
        found = json.loads((job.space.root / "refs.json").read_bytes())
        if len(found) == 1 and is_full_id(found[0][1]):
            return found[0][1], short_ref(found[0][0])
    return None


def http_client(url: str, seconds: float) -> Any:
    """Return an HTTP client for an address, through a proxy if the environment says so."""
    import urllib.parse
    import urllib.request

    import urllib3

    parts = urllib.parse.urlsplit(url)
    proxy = None if urllib.request.proxy_bypass(parts.netloc) else urllib.request.getproxies().get(parts.scheme)
    options: dict[str, Any] = {"timeout": seconds, "maxsize": 50, "cert_reqs": "CERT_REQUIRED"}
    return urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)


def ask_refs() -> None:
    """Ask a Git host which commits some refs are at, and write them down.  Runs as a program of its own.

    It reads the list that a server sends without being told of a protocol version (gitprotocol-http(5)).
    By the standard library: urllib3 takes longer to be there than a server to answer.
    """
    import http.client
    import json
    import sys
    import urllib.request

    class NoRedirects(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None:
            """Follow none: another host must not see the credentials."""

    job = json.load(sys.stdin)
    request = urllib.request.Request(f"{job['url']}/info/refs?service=git-upload-pack")  # noqa: S310  # https or http
    if job["credentials"]:
        request.add_header("Authorization", f"Basic {job['credentials']}")
    try:
        opened = urllib.request.build_opener(NoRedirects).open(request, timeout=job["seconds"])
        with opened as reply:
            content = reply.read(10_000_000)
    except (OSError, http.client.HTTPException) as error:
        sys.exit(f"It could not be asked: {type(error).__name__}")
    if reply.status != 200 or not content.startswith(b"001e# service=git-upload-pack\n0000"):
        sys.exit(f"It did not say: HTTP {reply.status}")
    refs, head, at = {}, None, 34
    while size := int(content[at : at + 4], 16):
        line, _, abilities = content[at + 4 : at + size].rstrip(b"\n").partition(b"\0")
        for each in abilities.split():
            if each.startswith(b"symref=HEAD:"):
                head = each.removeprefix(b"symref=HEAD:").decode()
        commit, _, name = line.partition(b" ")
        refs[name.decode(errors="replace")] = commit.decode()
        at += size
    found = [(name, refs.get(f"{name}^{{}}", refs[name])) for name in job["names"] if name in refs]
    with open(job["answer"], "x") as file:
        json.dump([(head or name if name == "HEAD" else name, commit) for name, commit in found], file)


def clone(source: Source, request: BuildRequest, toolchain: Toolchain, shell: Shell) -> Checkout:
    """Fetch one commit of the project and write out its files; raise SourceError."""
    space = Workspace(toolchain.root.parent)
    job = {
        "ref": request.ref,
        "project": request.subdirectory or "",
        "checkout": str(space.checkout),
        "sources": str(space.sources),
    }
    result = run_git_worker(source, job, toolchain, shell)
    return Checkout(
        root=space.checkout,
        project=project_folder(space.checkout, request),
        commit=result["commit"],
        ref=result["ref"],
        files=frozenset(os.path.relpath(entry.path, space.checkout) for entry in entries_below(space.checkout)),
        required=Required(**result["required"]),
        warnings=tuple(result["warnings"]),
    )


@functools.cache
def own_head() -> str:
    """Return how this file begins: what it imports."""
    return (HERE / Path(__file__).name).read_text().partition("\n# ---")[0]


def git_worker_command(space: Workspace) -> Command:
    """Return the command of a git worker, to be prepared before anything else: its imports take longest."""
    toolchain = Toolchain(space.toolchain)
    argv = own_program(start_git_worker, "-s", begins=own_head())
    return Command([*argv, HERE, toolchain.bytecode], space.root, {"PYTHONPATH": str(toolchain.packages)}, is_ours=True)


def start_git_worker() -> None:
    """Wait until there is a toolchain, import Dulwich, and do the job.  Runs as a program of its own.

    It begins with what this file imports, and only then imports this file: by the toolchain's bytecode of it,
    since to compile it takes longer than all the rest.
    """
    import select
    import sys

    select.select([sys.stdin], [], [])  # the toolchain is there
    sys.path.append(sys.argv[1])
    sys.pycache_prefix = sys.argv[2]
    import lambda_function

    sys.pycache_prefix = None
    lambda_function.limit_memory()
    lambda_function.git_worker()


def run_git_worker(source: Source, job: Mapping[str, Any], toolchain: Toolchain, shell: Shell) -> dict[str, Any]:
    """Let the git worker do a job; return its answer, or raise SourceError.

    Dulwich runs in a child: a hostile repository or server then meets a process that holds no
    credentials of AWS, that the deadline can kill, and whose memory is not ours.  The token or key
    goes through its standard input.
    """
    if source.deploy_key:
        toolchain.wait("ssh")
    space = Workspace(toolchain.root.parent)
    answer = space.root / "clone.json"
    # The alarm of ``deadline``: the worker gives up before it rings, and can say what it waited for.
    left = signal.getitimer(signal.ITIMER_REAL)[0] * 0.9
    until = time.monotonic() + left if left else 0.0
    whole_job = {**job, "source": vars(source), "objects": str(space.objects), "answer": str(answer), "until": until}
    try:
        shell.run(replace(git_worker_command(space), stdin=json.dumps(whole_job).encode()))
    except CommandFailed as error:
        refuse_if_disk_full(error, space)
        raise SourceError(f"Cannot clone {source.url}: the clone {error.ending}.{error.quoted_tail}") from None
    result: dict[str, Any] = json.loads(answer.read_bytes())
    shutil.rmtree(space.objects)
    if "error" in result:
        raise SourceError(result["error"])
    return result


def project_folder(root: Path, request: BuildRequest) -> Path:
    """Return the project's folder in the checkout; raise SourceError if there is none."""
    project = root / (request.subdirectory or ".")
    if not project.is_dir():
        folders = sorted(printable(path.name) for path in root.iterdir() if path.is_dir() and path.name[0] != ".")
        raise SourceError(
            f"{request.repo_name} has no folder {request.subdirectory!r} at this commit. "
            f"Its folders are: {', '.join(folders) or 'none'}."
        )
    if not project.resolve().is_relative_to(root.resolve()):
        raise SourceError(f"The folder {request.subdirectory!r} of {request.repo_name} is a link out of it.")
    return project


# --- The git worker: a program of its own, which ``run_git_worker`` starts ---------------------------


def limit_memory() -> None:
    """Bound the memory that this process may take."""
    with contextlib.suppress(ValueError, OSError):  # macOS knows no RLIMIT_AS; a lower limit stays
        resource.setrlimit(resource.RLIMIT_AS, (WORKER_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))


def limit_time(until: float) -> None:
    """Bound the time that this process may take, by the monotonic clock."""

    def give_up(_signal: int, _frame: object) -> NoReturn:
        raise SourceError(
            "Cannot clone: it was not done when nine tenths of this build's time were gone. Is the Git host slow, the "
            "repository large? Raise timeout in config.ini."
        )

    signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, max(until - time.monotonic(), 0.001))


def git_worker() -> None:
    """Do the job on standard input with Dulwich, and write down the answer."""
    importlib.invalidate_caches()  # Dulwich was not there when this process began
    for name in ("dulwich.client", "dulwich.index", "dulwich.pack", "urllib3"):  # the job may come later
        importlib.import_module(name)
    job = json.load(sys.stdin)
    importlib.invalidate_caches()  # nor what SSH takes
    try:
        if job["until"]:
            limit_time(job["until"])
        answer = fetch_checkout(job)
    except SourceError as error:
        answer = {"error": str(error)}
    except (MemoryError, RecursionError):
        url = job["source"]["url"]
        answer = {"error": f"Cannot clone {url}: what the server sent takes more memory than a repository may."}
    Path(job["answer"]).write_text(json.dumps(answer))


def fetch_checkout(job: Mapping[str, Any]) -> dict[str, Any]:
    """Fetch one commit, without its history, and write its tree out; fetch what it requires from Git."""
    os.mkdir(job["objects"])
    source, project = Source(**job["source"]), os.fsencode(job["project"])
    wanted = Wanted(job["ref"], Path(job["checkout"]), Path(job["objects"]), project)
    answer = check_out(source, wanted)
    check_links(wanted.root)
    return {**answer, "required": vars(fetch_required(source, answer, wanted, Path(job["sources"])))}


@dataclass(frozen=True)
class Wanted:
    """What is to be checked out, and where."""

    ref: str | None
    root: Path
    objects: Path
    """A folder for what is fetched; one folder in it for each repository."""
    project: bytes | None = None
    """The folder of the project that is built.  None: all is written out."""


def check_out(source: Source, wanted: Wanted) -> dict[str, Any]:
    """Fetch one commit and write its files out, those of submodules and of Git LFS too."""
    fetched = fetch(source, wanted.ref, wanted.objects)
    commit, tree = peel(fetched)
    entries = tree_entries(fetched.objects, tree)
    modules = small_file(fetched.objects, entries, b".gitmodules")
    if wanted.project is not None:
        folder = b"".join(part + b"/" for part in wanted.project.split(b"/") if part not in (b"", b"."))
        if folder + b"make_dist.sh" not in {entry.path for entry in entries}:  # which may want anything
            entries = without_ignored(fetched.objects, entries, folder)
            entries = without_others(fetched.objects, entries, folder)
    pointers = lfs_pointers(fetched.objects, entries)
    write_checkout(fetched.objects, entries, wanted.root)
    fetch_lfs(source, pointers, wanted.root)
    links = [entry for entry in entries if entry.is_submodule]
    warnings = fetch_submodules(source, wanted, links, modules) if links else []
    return {"commit": commit, "ref": fetched.ref, "tag": fetched.tag, "warnings": warnings}


# --- The git worker: servers --------------------------------------------------------------------------


SCP_ADDRESS = re.compile(r"(?:(?P<user>[\w.-]+)@)?(?P<host>[\w.-]+):(?P<path>(?!//|:).+)")
"""git@host:account, the short form of an SSH address."""


PORTS = {"https": 443, "http": 80, "ssh": 22}


def full_url(url: str) -> str:
    """Return an address of SSH's short form in its long one, and any other as it is."""
    short = None if "://" in url else SCP_ADDRESS.fullmatch(url)
    return f"ssh://{short['user'] or 'git'}@{short['host']}/{short['path']}" if short else url


def origin(url: str) -> tuple[str, str, int]:
    """Return what credentials are good for: scheme, host and port."""
    try:
        parts = urllib.parse.urlsplit(full_url(url))
        if "\\" in parts.netloc:  # where urllib3 ends the host's name, and urlsplit does not
            raise ValueError
        return parts.scheme, parts.hostname or "", parts.port or PORTS.get(parts.scheme, 0)
    except ValueError:
        raise SourceError(f"{printable(url.partition('?')[0])!r} is no address of a server.") from None


@dataclass(frozen=True)
class Fetched:
    """What a server sent."""

    objects: Objects
    id: str
    ref: str
    """As people write it."""
    tag: str = ""
    """The tag's name, if it is one."""


def fetch(source: Source, ref: str | None, folder: Path) -> Fetched:
    """Fetch one commit and its files' content into a folder; raise SourceError in words."""
    target = folder / str(len(os.listdir(folder)))
    target.mkdir()
    room = shutil.disk_usage(target).free - (8 << 20)
    with (target / "pack").open("w+b", buffering=1 << 20) as pack:

        def keep(data: bytes) -> None:
            if pack.write(data) and pack.tell() > room:
                raise SourceError(
                    f"Cannot clone {source.url}: the server sent more than the {size(room)} that /tmp has room for, "
                    "and went on. Raise ephemeral_storage in config.ini, if the repository is so large."
                )

        with server_says(source):
            found, name = fetch_pack(source, ref, keep)
        objects = Objects(target, "sha1" if len(found) == 40 else "sha256")
        with bad_pack():
            objects.unpack(pack)
    (target / "pack").unlink()
    return Fetched(
        objects, found, short_ref(name), name.removeprefix("refs/tags/") if name.startswith("refs/tags/") else ""
    )


@contextlib.contextmanager
def server_says(source: Source) -> Iterator[None]:
    """Turn a server's refusals, and what makes no sense, into words."""
    from dulwich.client import HTTPUnauthorized
    from dulwich.errors import GitProtocolError, HangupException, NotGitRepository

    cannot = f"Cannot clone {source.url}"
    try:
        yield
    except HangupException as error:
        said = printable(b" ".join(error.stderr_lines or ()).decode(errors="replace"))
        reason = said or "the server closed the connection before it had sent all"
        raise SourceError(f"{cannot}: {reason}. Check repo_name, base_url in config.ini, and the Git host.") from None
    except HTTPUnauthorized:
        reason = "the token is refused" if source.token else "the host wants a token"
        raise SourceError(
            f"{cannot}: {reason}. Check repo_name, and token_secret and username in config.ini."
        ) from None
    except NotGitRepository:
        raise SourceError(
            f"{cannot}: the host knows no such repository, or hides it from these credentials. "
            "Check repo_name, and base_url in config.ini."
        ) from None
    except (GitProtocolError, OSError, ValueError, AssertionError, LookupError, TypeError, EOFError) as error:
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise  # the handler reads it in the traceback's last line: see refuse_if_disk_full
        reason = (printable(str(error)) or type(error).__name__).rstrip(".")
        if reason.startswith("unexpected http resp 403"):
            reason = "the host forbids it (403): may the token read this repository"
        raise SourceError(f"{cannot}: {reason}. Check base_url in config.ini and the Git host.") from None


def fetch_pack(source: Source, wanted: str | None, keep: Callable[[bytes], object]) -> tuple[str, str]:
    """Ask the server for one ref, one commit deep; return the object's id and the ref's full name.

    Only the refs in question are asked for: a repository may have a hundred thousand.
    """
    from dulwich.errors import GitProtocolError, HangupException

    chosen: list[tuple[bytes, str]] = []

    def determine_wants(refs: Mapping[Any, Any], depth: int | None = None) -> list[Any]:
        if wanted is None:
            chosen.extend((refs[b"HEAD"], "HEAD") for _ in range(b"HEAD" in refs))
        elif is_full_id(wanted) or any(name in refs for name in ref_names(wanted)):
            chosen.append(choose_ref(refs, wanted))
        return [sha for sha, _ in chosen]

    heard = bytearray()
    client, path = connect(source, heard)
    prefixes = [b"HEAD"] if wanted is None else ref_names(wanted)
    try:
        result = client.fetch_pack(
            path, determine_wants, NothingYet(), keep, progress=RemoteProgress(), depth=1, ref_prefix=prefixes
        )
    except (GitProtocolError, HangupException) as error:
        if chosen and chosen[0][1] == wanted and is_full_id(wanted):
            raise SourceError(
                f"The server did not send the commit {wanted}: {refusal(heard) or printable(str(error)).rstrip('.')}. "
                "Is it pushed? Some servers hand out only what a branch or tag points at: give one of those as ref."
            ) from None
        raise
    if not chosen:
        refs = client.get_refs(path, ref_prefix=[b"refs/heads/", b"refs/tags/"]).refs
        known = {name: sha for name, sha in refs.items() if sha and not name.endswith(b"^{}")}
        if wanted is not None and known:
            choose_ref(known, wanted)
        raise SourceError(no_head(source.url, known))
    sha, ref = chosen[0]
    if wanted is None:
        symrefs: Mapping[Any, Any] = result.symrefs
        ref = symrefs.get(b"HEAD", b"HEAD").decode(errors="replace")
    return sha.decode(), ref


def refusal(heard: bytearray) -> str:
    """Return the reason that a server gave in its last words, which Dulwich overhears where it awaits a pack."""
    found = re.search(rb"[0-9a-f]{4}ERR ([^\n]*)\n?$", heard)
    return printable(found[1].decode(errors="replace")).rstrip(".") if found else ""


class NothingYet:
    """Tells a server that we have no commit yet (Dulwich's "graph walker")."""

    shallow: frozenset[bytes] = frozenset()

    def __next__(self) -> None:
        """Return the next commit that we have: there is none."""
        return

    def ack(self, sha: bytes) -> None:
        """Hear that the server has a commit too."""

    def nak(self) -> None:
        """Hear that it has none of ours."""


class RemoteProgress:
    """Prints what the server says, less its counters, which rewrite one line a hundred times."""

    def __call__(self, text: bytes) -> None:
        """Print the lines in this piece that are done."""
        for line in text.decode(errors="replace").split("\n"):
            if line.endswith("done."):
                print(f"remote: {printable(line.rpartition(chr(13))[2])}", flush=True)


def is_full_id(wanted: str) -> bool:
    """Say whether a ref is a full commit id."""
    return re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", wanted) is not None


def ref_names(wanted: str) -> list[bytes]:
    """Return the full names that a ref may mean."""
    name = wanted.encode()
    return [name] if name.startswith(b"refs/") else [b"refs/heads/" + name, b"refs/tags/" + name]


def choose_ref(refs: Mapping[bytes, bytes], wanted: str) -> tuple[bytes, str]:
    """Find the branch, tag or commit that was asked for; raise SourceError if there is no or no single one."""
    if is_full_id(wanted):  # whatever has that name: a branch may, to be taken for the commit
        return wanted.encode(), wanted
    found = [candidate for candidate in ref_names(wanted) if candidate in refs]
    if len(found) > 1:
        raise SourceError(f'"{wanted}" is a branch and a tag: ask for "refs/heads/{wanted}" or "refs/tags/{wanted}".')
    if found:
        return refs[found[0]], found[0].decode(errors="replace")
    names = {
        short_ref(ref.decode(errors="replace")): True for ref in refs if ref.startswith((b"refs/heads/", b"refs/tags/"))
    }
    hint = nearest(wanted, names)
    short = " A commit must be given by its full id." if re.fullmatch(r"[0-9a-f]{7,39}", wanted) else ""
    raise SourceError(f'The repository has no branch or tag "{wanted}"{hint}.{short}')


def short_ref(ref: str) -> str:
    """Return a ref's name as people write it."""
    return printable(ref.removeprefix("refs/heads/").removeprefix("refs/tags/"))


def no_head(url: str, refs: Mapping[bytes, bytes]) -> str:
    """Say why there is nothing to build where no ref was asked for."""
    if not refs:
        return f"{url} is empty: push a commit to it."
    branches = sorted(short_ref(ref.decode(errors="replace")) for ref in refs if ref.startswith(b"refs/heads/"))
    some = ", ".join(branches[:20])
    return f'The HEAD of {url} is a branch that does not exist. Give "ref"; its branches are: {some}.'


def connect(source: Source, heard: bytearray) -> tuple[Any, str]:
    """Return a client of Dulwich for a repository's server, and the repository's path there."""
    if origin(source.url)[0] == "ssh":
        return connect_ssh(source, heard)
    from dulwich.client import Urllib3HttpGitClient

    secret: dict[str, Any] = {}
    if source.token:
        secret = {"username": source.username or DEFAULT_USERNAME, "password": source.token}
    base, _, name = source.url.rpartition("/")
    return Urllib3HttpGitClient(f"{base}/", thin_packs=False, pool_manager=http_pool(source, heard), **secret), name


def http_pool(source: Source, heard: bytearray | None = None) -> Any:
    """Return an HTTP client that asks one server only, and notes what that said last."""
    from dulwich.client import default_urllib3_manager

    pool: Any = default_urllib3_manager(None, base_url=source.url, timeout=STALL_SECONDS, cert_reqs="CERT_REQUIRED")
    plain_urlopen = pool.urlopen

    def urlopen(method: str, url: str, redirect: bool = True, **options: Any) -> Any:
        # urllib3 comes back to this function for each redirect.
        if origin(url) != origin(source.url):
            scheme, host, port = origin(url)
            raise SourceError(
                f"Cannot clone {source.url}: the server redirects to another host, "
                f"{printable(f'{scheme}://{host}:{port}')}, "
                f"{'which may not see the token' if source.token else 'which config.ini does not name'}. If the "
                "repository has moved there, change base_url in config.ini."
            )
        response = plain_urlopen(method, url, redirect=redirect, **options)
        content = response.headers.get("Content-Type", "nothing that it names")
        if response.status == 200 and "/info/refs" in url and not content.startswith("application/x-git-"):
            raise SourceError(
                f"Cannot clone {source.url}: what answers there is no Git host by smart HTTP; it sends "
                f"{printable(content)!r}. Check base_url in config.ini."
            )
        if heard is not None:
            response.read = listen(response.read, heard)
        return response

    pool.urlopen = urlopen
    return pool


def listen(read: Callable[..., bytes], heard: bytearray) -> Callable[..., bytes]:
    """Return a function that reads, and keeps the end of what was read in heard."""

    def listening(*arguments: Any, **options: Any) -> bytes:
        data = read(*arguments, **options)
        heard[:] = (heard + data[-500:])[-500:]
        return data

    return listening


# --- The git worker: SSH ------------------------------------------------------------------------------


def connect_ssh(source: Source, heard: bytearray) -> tuple[Any, str]:
    """Return a client for a repository on an SSH server, and the repository's path there."""
    from dulwich.client import SSHGitClient

    short = None if "://" in source.url else SCP_ADDRESS.fullmatch(source.url)
    parts = urllib.parse.urlsplit(full_url(source.url))
    _, host, port = origin(source.url)
    path = short["path"] if short else parts.path  # the short form's is relative to the user's home
    if not source.deploy_key:
        raise SourceError(f"Cannot clone {source.url}: it is on an SSH server for which there is no deploy key.")
    vendor = SshVendor(source, private_key(source), heard)
    client = SSHGitClient(
        host, port, parts.username or source.username or "git", vendor=cast(Any, vendor), thin_packs=False
    )
    return client, path


def private_key(source: Source) -> Any:
    """Read the deploy key, from memory; raise SourceError.  paramiko is imported for SSH alone."""
    import paramiko

    where = "(deploy_key_secret in config.ini)"
    for kind_of_key in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        try:
            return kind_of_key.from_private_key(
                io.StringIO(source.deploy_key.strip() + "\n"), source.passphrase or None
            )
        except paramiko.PasswordRequiredException:
            raise SourceError(
                f'The deploy key {where} has a passphrase: store {{"private_key": …, "passphrase": …}} instead.'
            ) from None
        except (paramiko.SSHException, ValueError, TypeError, LookupError) as error:
            reason = str(error)
            if source.passphrase and re.search(r"check|decrypt|passphrase|password", reason, re.IGNORECASE):
                raise SourceError(f"The deploy key {where} cannot be read: its passphrase is wrong.") from None
    raise SourceError(
        f"The deploy key {where} cannot be read. It must be an ed25519, ECDSA or RSA key as ssh-keygen writes it."
    )


class SshVendor:
    """Runs a command on an SSH server, for Dulwich, which else would start the ssh program."""

    def __init__(self, source: Source, key: Any, heard: bytearray) -> None:
        """Log in with this key."""
        self._source = source
        self._heard = heard
        self._key = key

    def run_command(
        self,
        host: str,
        command: bytes,
        username: str | None = None,
        port: int | None = None,
        protocol_version: int | None = None,
        **_: object,
    ) -> SshChannel:
        """Connect, log in and start a command; raise SourceError."""
        import paramiko

        url = self._source.url
        client = paramiko.SSHClient()
        try:
            client.set_missing_host_key_policy(host_key_policy(self._source, client))
            client.connect(
                host, port or 22, username, pkey=self._key, look_for_keys=False, allow_agent=False,
                timeout=STALL_SECONDS, banner_timeout=STALL_SECONDS, auth_timeout=STALL_SECONDS,
            )  # fmt: skip
            channel = cast(Any, client.get_transport()).open_session(timeout=STALL_SECONDS)
            if protocol_version != 0:
                # Without waiting for an answer: a server that does not take it speaks version 0.
                channel.set_environment_variable("GIT_PROTOCOL", "version=2")
            channel.exec_command(command.decode())
        except paramiko.BadHostKeyException as error:
            client.close()
            raise SourceError(
                f"Cannot clone {url}: the host key of {host} has changed. known_hosts in config.ini has another "
                f"{error.key.get_name()} key for it than the one that it shows, {fingerprint(error.key)}. If its "
                "operator says that this is right, change known_hosts; else somebody stands in between."
            ) from None
        except paramiko.AuthenticationException:
            client.close()
            raise SourceError(
                f"Cannot clone {url}: {host} refuses the deploy key {fingerprint(self._key)}. Add its public half to "
                "the repository's deploy keys, or store the right one in deploy_key_secret (config.ini)."
            ) from None
        except (paramiko.SSHException, OSError, EOFError) as error:
            client.close()
            raise SourceError(f"Cannot clone {url}: no SSH with {host}: {printable(str(error))}.") from None
        made = SshChannel(client, channel)
        made.read = listen(made.read, self._heard)  # type: ignore[method-assign]
        return made


class SshChannel:
    """A command on an SSH server, as Dulwich wants to talk to it."""

    def __init__(self, client: Any, channel: Any) -> None:
        """Talk through this channel; close the client with it."""
        self._client = client
        self._channel = channel
        channel.settimeout(STALL_SECONDS)
        self.stderr = channel.makefile_stderr("rb")

    def read(self, count: int) -> bytes:
        """Return so many bytes, or fewer at the end."""
        pieces = []
        while count > 0 and (piece := self._channel.recv(count)):
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)

    def write(self, data: bytes) -> int:
        """Send all of data."""
        self._channel.sendall(data)
        return len(data)

    def can_read(self) -> bool:
        """Say whether something has come."""
        return bool(self._channel.recv_ready())

    def close(self) -> None:
        """Hang up."""
        self._channel.close()
        self._client.close()


def host_key_policy(source: Source, client: Any) -> Any:
    """Load known_hosts; return what decides about hosts that are not in it: only the published keys are good."""
    import paramiko

    for line in source.known_hosts.splitlines():
        if line.startswith("@"):
            raise SourceError("known_hosts in config.ini has a line with a marker (@…), which is not served.")
        try:
            entry = paramiko.hostkeys.HostKeyEntry.from_line(line)
        except paramiko.hostkeys.InvalidHostKey:
            raise SourceError(f"known_hosts in config.ini has a damaged line: {printable(line[:60])}…") from None
        if entry is not None and entry.key is not None:
            for name in entry.hostnames:
                client.get_host_keys().add(name, entry.key.get_name(), entry.key)

    class Policy(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]  # paramiko is not typed
        def missing_host_key(self, client: Any, hostname: str, key: Any) -> None:
            published = PUBLISHED_HOST_KEYS.get(hostname.lower(), ())
            if fingerprint(key) in published:
                return
            name, port = re.fullmatch(r"\[(.+)\]:(\d+)|(.+)", hostname).group(1, 2)  # type: ignore[union-attr]
            scan = f"ssh-keyscan -p {port} {name}" if port else f"ssh-keyscan {hostname}"
            problem = "has changed: it is none of those that it publishes" if published else "is not known"
            raise SourceError(
                f"Cannot clone {source.url}: the host key of {hostname}, {fingerprint(key)} ({key.get_name()}), "
                f'{problem}. Get its line with "{scan}", compare the fingerprint with what the host\'s operator '
                "publishes, and put the line into known_hosts in config.ini."
            )

    return Policy()


def fingerprint(key: Any) -> str:
    """Return an SSH key's fingerprint, as ssh-keygen -l prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")


# --- The git worker: packs ----------------------------------------------------------------------------

OBJECT_KINDS = {1: "commit", 2: "tree", 3: "blob", 4: "tag"}
OFFSET_DELTA, NAMED_DELTA = 6, 7
"""gitformat-pack(5)."""


class Objects:
    """A pack's objects, each in a file of its own.

    Not Dulwich's object store: that inflates each object twice, to index it, and holds it in memory
    whole, however large.  Here a pack is read once, in pieces, and a file of the repository is made
    by moving an object to its place.  What a name stands for is verified by making the name.
    """

    def __init__(self, folder: Path, algorithm: str) -> None:
        """Keep objects, whose names this algorithm makes, in a folder."""
        self._folder = os.fsencode(folder)
        self._algorithm = algorithm
        self._known: dict[bytes, tuple[int, int, bytes]] = {}
        """Of each name the kind, the size and the file."""
        self._moved: set[bytes] = set()
        self.pointers: dict[bytes, bytes] = {}
        """Those that are no more than pointers to Git LFS, with their content."""
        self._room = shutil.disk_usage(folder).free
        self._files = 0

    def kind(self, name: bytes) -> str:
        """Return an object's kind; raise KeyError."""
        return OBJECT_KINDS[self._known[name][0]]

    def read(self, name: bytes, limit: int) -> bytes:
        """Return an object's content; raise KeyError, or SourceError if it is larger than the limit."""
        _, size, path = self._known[name]
        if size > limit:
            raise SourceError(f"The repository holds a {self.kind(name)} of {size:,} bytes: too large.")
        with open(path, "rb") as file:
            return file.read()

    def place(self, name: bytes, path: bytes) -> None:
        """Make a new file of an object's content; raise KeyError."""
        kind_, size_, source = self._known[name]
        if name in self._moved:
            shutil.copyfile(source, path)
        else:
            os.rename(source, path)
            self._known[name] = kind_, size_, path
            self._moved.add(name)

    def unpack(self, pack: IO[bytes]) -> None:
        """Read a pack; raise ValueError if it is damaged, or unpacks to more than there is room for."""
        check_pack(pack, self._algorithm)
        offsets: dict[int, bytes] = {}
        waiting: dict[int | bytes, list[tuple[int, int, int]]] = {}
        for begin, kind_, size_, base in pack_entries(pack, hashlib.new(self._algorithm).digest_size):
            content = inflated(pack, size_)
            if kind_ in OBJECT_KINDS:
                offsets[begin] = self._add(kind_, size_, content)
            elif base is not None:
                waiting.setdefault(base, []).append((begin, pack.tell(), size_))
                for _ in content:
                    pass  # it is read again when the object that it differs from is there
            else:
                raise ValueError(f"it holds an object of the unknown kind {kind_}")
        todo = [(begin, name) for begin, name in offsets.items() if begin in waiting or name in waiting]
        while todo:
            begin, name = todo.pop()
            for delta, data, its_size in [*waiting.pop(begin, ()), *waiting.pop(name, ())]:
                pack.seek(data)
                todo.append((delta, self._resolve(name, b"".join(inflated(pack, its_size)))))
        if waiting:
            raise ValueError("it holds a delta of an object that it does not hold")

    def _add(self, kind_: int, size_: int, pieces: Iterable[bytes]) -> bytes:
        """Keep an object; return its name."""
        self._room -= size_
        if self._room < 0:
            raise ValueError("it unpacks to more than /tmp has room for. Raise ephemeral_storage in config.ini")
        digest = hashlib.new(self._algorithm, f"{OBJECT_KINDS[kind_]} {size_}\0".encode(), usedforsecurity=False)
        path = b"%s/%d" % (self._folder, self._files)
        self._files += 1
        pointer = b""
        # Not through Path.open: a repository may have a hundred thousand files.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            for piece in pieces:
                digest.update(piece)
                if size_ < 1024 and LFS_POINTER.match(piece):
                    pointer = piece
                view = memoryview(piece)
                while view:
                    view = view[os.write(descriptor, view) :]
        finally:
            os.close(descriptor)
        name: bytes = digest.digest()
        if name in self._known:  # a pack may hold an object twice
            os.unlink(path)
            return name
        self._known[name] = kind_, size_, path
        if pointer:
            self.pointers[name] = pointer
        return name

    def _resolve(self, base: bytes, delta: bytes) -> bytes:
        """Make and keep the object that differs from a base by a delta; return its name."""
        kind_, base_size, path = self._known[base]
        declared, at = delta_size(delta, 0)
        size_, at = delta_size(delta, at)
        if declared != base_size:
            raise ValueError("it holds a delta of an object of another size")
        with open(path, "rb") as file:
            source: Any = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if base_size > PIECE else file.read()
        return self._add(kind_, size_, delta_pieces(source, delta, at, size_))


@contextlib.contextmanager
def bad_pack() -> Iterator[None]:
    """Turn what is wrong in a pack into a SourceError."""
    try:
        yield
    except (zlib.error, IndexError, AssertionError):
        raise SourceError("The pack that the server sent is damaged. Try again.") from None
    except ValueError as error:
        raise SourceError(f"The pack that the server sent cannot be used: {error}.") from None


def check_pack(pack: IO[bytes], algorithm: str) -> None:
    """Compare a pack with the checksum at its end."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    left = pack.seek(0, os.SEEK_END) - digest.digest_size
    pack.seek(0)
    while left > 0 and (piece := pack.read(min(PIECE, left))):
        digest.update(piece)
        left -= len(piece)
    if left or pack.read() != digest.digest():
        raise ValueError("it is not whole: the connection was cut, or the server is broken. Try again")


def pack_entries(pack: IO[bytes], width: int) -> Iterator[tuple[int, int, int, int | bytes | None]]:
    """Yield of each object in a pack: where it begins, its kind, its size, and what it is a delta of.

    What is compressed follows, and is to be read before the next one is asked for.
    """
    from dulwich.pack import read_pack_header

    pack.seek(0)
    _, count = read_pack_header(pack.read)
    for _ in range(count):
        begin = pack.tell()
        first, *more = varint(pack)
        size_ = first & 15 | sum((byte & 0x7F) << 7 * place + 4 for place, byte in enumerate(more))
        base: int | bytes | None = None
        if first >> 4 & 7 == OFFSET_DELTA:
            back = -1
            for byte in varint(pack):
                back = (back + 1) << 7 | byte & 0x7F
            base = begin - back
        elif first >> 4 & 7 == NAMED_DELTA:
            base = pack.read(width)
        yield begin, first >> 4 & 7, size_, base


def varint(pack: IO[bytes]) -> bytes:
    """Read a number of several bytes, of which all but the last have their highest bit set."""
    found = bytearray()
    while not found or found[-1] & 0x80:
        found += pack.read(1) or b"\xff"
        if len(found) > 10:
            raise ValueError("it is damaged: it holds a number without an end")
    return bytes(found)


def inflated(pack: IO[bytes], size_: int) -> Iterator[bytes]:
    """Yield in pieces what is compressed in a pack from here on; leave the pack at its end."""
    inflater = zlib.decompressobj()
    left = size_
    fed = b""
    while not inflater.eof:
        fed = fed or pack.read(PIECE if left > PIECE else left + 4096)
        piece = inflater.decompress(fed, PIECE)
        if not fed and not piece:
            raise ValueError("it ends in the midst of an object")
        fed = inflater.unconsumed_tail
        left -= len(piece)
        if left < 0:
            break
        yield piece
    if left:
        raise ValueError("it holds an object that is not of the size that it declares")
    pack.seek(-len(inflater.unused_data), os.SEEK_CUR)


def delta_size(delta: bytes, at: int) -> tuple[int, int]:
    """Read a size at the head of a delta; return it and where it ends."""
    size_ = shift = 0
    while True:
        size_ |= (delta[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if delta[at - 1] < 0x80:
            return size_, at


def delta_pieces(base: bytes, delta: bytes, at: int, size_: int) -> Iterator[bytes]:
    """Yield what a delta makes of a base, of bytes that it holds and of bytes of the base."""
    left = size_
    made = bytearray()
    while at < len(delta):
        code = delta[at]
        at += 1
        if code & 0x80:
            begin = count = 0
            for bit in range(7):
                if code & 1 << bit:
                    if bit < 4:
                        begin |= delta[at] << 8 * bit
                    else:
                        count |= delta[at] << 8 * (bit - 4)
                    at += 1
            count = count or 0x10000
            piece = base[begin : begin + count]
        else:
            count = code
            piece = delta[at : at + count]
            at += count
        left -= count
        if len(piece) != count or not count or left < 0:
            raise ValueError("it holds a delta that makes no sense")
        made += piece
        if len(made) >= PIECE:
            yield bytes(made)
            made.clear()
    if left:
        raise ValueError("it holds a delta that makes an object of another size than it says")
    yield bytes(made)


# --- The git worker: the checkout ---------------------------------------------------------------------


def peel(fetched: Fetched) -> tuple[str, bytes]:
    """Follow a tag to its commit; return that and its tree, or raise SourceError if there is none at its end."""
    found, ref = fetched.id, fetched.ref
    try:
        for _ in range(10):
            name = bytes.fromhex(found)
            what = fetched.objects.kind(name)
            # The first line counts, whatever follows: a second "tree" could name another.
            first = fetched.objects.read(name, 1 << 20).split(b"\n", 1)[0]
            target = re.fullmatch(rb"(tree|object) ([0-9a-f]{40}|[0-9a-f]{64})", first)
            if what not in ("commit", "tag") or target is None:
                raise SourceError(f'"{ref}" is no commit but a {what}.')
            if what == "commit":
                return found, bytes.fromhex(target[2].decode())
            found = target[2].decode()
    except KeyError:
        raise SourceError(
            f'The server did not send "{ref}": it may not hand out commits that no branch or tag points at.'
        ) from None
    raise SourceError(f'"{ref}" is a tag of a tag of a tag without an end.')


@dataclass(frozen=True)
class TreeEntry:
    """A file, link or submodule of a tree."""

    path: bytes
    mode: int
    name: bytes
    """The name of its object."""

    is_link = property(lambda self: stat.S_ISLNK(self.mode))
    is_submodule = property(lambda self: stat.S_IFMT(self.mode) == 0o160000)


def tree_entries(objects: Objects, tree: bytes) -> list[TreeEntry]:
    """Return all files of a tree; raise SourceError for names and shapes that are unsafe."""
    from dulwich.errors import ObjectFormatException
    from dulwich.objects import parse_tree

    found: list[TreeEntry] = []
    todo, trees = [(b"", tree)], 0
    while todo:
        prefix, name = todo.pop()
        trees += 1
        if len(found) + trees > MAX_FILES:
            raise SourceError(f"The repository holds more than {MAX_FILES:,} files and folders: too many.")
        seen: set[bytes] = set()
        try:
            if objects.kind(name) != "tree":
                raise KeyError
            lines = list(parse_tree(objects.read(name, 64 << 20), len(name)))
        except KeyError:
            raise SourceError(f"The repository is not whole: the folder {shown(prefix)} is missing.") from None
        except (ObjectFormatException, ValueError):
            raise SourceError(f"The repository is malformed: the folder {shown(prefix)} is damaged.") from None
        for element, mode, hex_name in lines:
            path = prefix + element
            if element in seen:
                raise SourceError(f"The repository is malformed: it holds {shown(path)} twice.")
            seen.add(element)
            check_name(element, path)
            sha = bytes.fromhex(hex_name.decode())
            if stat.S_ISDIR(mode):
                todo.append((path + b"/", sha))
            elif stat.S_IFMT(mode) in (stat.S_IFREG, stat.S_IFLNK, 0o160000):
                found.append(TreeEntry(path, mode, sha))
            else:
                raise SourceError(f"The repository is malformed: {shown(path)} has the mode {mode:o}.")
    return found


SAFE_NAME = re.compile(rb"[A-Za-z0-9_-][A-Za-z0-9_.+@ -]{0,250}(?<![ .])")
"""Names without anything that needs a second look; nearly all are."""


def check_name(name: bytes, path: bytes) -> None:
    """Raise SourceError for the name of a file or folder that is unsafe, on any system."""
    from dulwich.index import validate_path_element_hfs, validate_path_element_ntfs

    if SAFE_NAME.fullmatch(name) and len(path) <= MAX_PATH_BYTES and b"it~" not in name.lower():
        return
    bad = not name or len(path) > MAX_PATH_BYTES or len(name) > 255 or re.search(rb"[\x00-\x1f\x7f/]|\xc0\x80", name)
    if not bad and validate_path_element_ntfs(name):
        try:
            name.decode()
        except UnicodeDecodeError:
            return  # a name that is not UTF-8 has no other spellings
        if validate_path_element_hfs(name):
            return
    raise SourceError(f"The repository is unsafe: it holds a file named {shown(path)}.")


def shown(path: bytes) -> str:
    """Return a path as a message can show it."""
    return repr(os.fsdecode(path)[:200])


def small_file(objects: Objects, entries: Iterable[TreeEntry], path: bytes) -> bytes:
    """Return the content of a file of the repository; nothing if it is not there, or is no file."""
    for entry in entries:
        if entry.path == path and stat.S_ISREG(entry.mode):
            with contextlib.suppress(KeyError):
                return objects.read(entry.name, 1 << 20)
    return b""


def without_ignored(objects: Objects, entries: list[TreeEntry], folder: bytes) -> list[TreeEntry]:
    """Leave out what .gitattributes marks as export-ignore, as "git archive" does.

    But never the files that say what to install, which many a project ignores since they are of no
    use in what it publishes.
    """
    from dulwich.attrs import Pattern, match_path, parse_git_attributes
    from dulwich.wildmatch import MalformedPattern

    files = [entry.path for entry in entries if entry.path.rpartition(b"/")[2] == b".gitattributes"]
    texts = {path: small_file(objects, entries, path) for path in sorted(files, key=lambda path: path.count(b"/"))}
    if not any(b"export-ignore" in text for text in texts.values()):
        return entries
    patterns = []
    for path, text in texts.items():
        for pattern, attributes in parse_git_attributes(io.BytesIO(text)):
            with contextlib.suppress(MalformedPattern, re.error):  # one that makes no sense matches nothing, as in git
                patterns.append((Pattern(pattern, path.rpartition(b"/")[0]), attributes))

    @functools.cache
    def ignored(path: bytes) -> bool:
        above = path.rpartition(b"/")[0]
        if above and ignored(above):
            return True
        return any(match_path(patterns, each).get(b"export-ignore") is True for each in (path, path + b"/"))

    needed = {folder + name.encode() for name in REQUIREMENT_FILES}
    return [entry for entry in entries if entry.path in needed or not ignored(entry.path)]


LOOKS_OUT = re.compile(rb"\.\.|file:|^\s*(?:-e|--editable|\.)|\[build-system\]|workspace", re.MULTILINE)
"""What in a file of requirements, or in a link, may lead out of a project's folder, or run a program that does."""


def without_others(objects: Objects, entries: list[TreeEntry], folder: bytes) -> list[TreeEntry]:
    """Leave out what lies beside the project's folder, in a repository of many, if nothing can look there."""
    ours = [entry for entry in entries if entry.path.startswith(folder)]
    for entry in ours:
        name = entry.path.rpartition(b"/")[2]
        if name == b"setup.py":
            return entries
        if entry.is_link or name.endswith((b".txt", b".in", b".toml", b".lock", b".cfg")):
            with contextlib.suppress(KeyError):
                if LOOKS_OUT.search(objects.read(entry.name, 64 << 20)):
                    return entries
    return ours or entries


def write_checkout(objects: Objects, entries: Sequence[TreeEntry], root: Path) -> None:
    """Write files below root, which must not exist.

    Nothing can be written elsewhere: names are checked, folders and files are made new, and links
    are made last, when nothing is written any more.
    """
    links: list[tuple[Path, bytes]] = []
    root.mkdir()
    top = os.fsencode(root) + b"/"
    made = {b""}
    for entry in entries:
        if entry.is_submodule:
            continue
        folder = entry.path.rpartition(b"/")[0]
        if folder not in made:
            os.makedirs(top + folder, exist_ok=True)
            made.add(folder)
        try:
            if objects.kind(entry.name) != "blob":
                raise KeyError
            if entry.is_link:
                links.append((root / os.fsdecode(entry.path), objects.read(entry.name, 4095)))
                continue
            objects.place(entry.name, top + entry.path)
        except KeyError:
            raise SourceError(f"The repository is not whole: the content of {shown(entry.path)} is missing.") from None
        if entry.mode & 0o100:
            os.chmod(top + entry.path, 0o755)  # noqa: S103  # as the repository says
    for path, target in links:
        make_link(path, target, root)


def make_link(path: Path, target: bytes, root: Path) -> None:
    """Make a symbolic link of a repository."""
    try:
        os.symlink(target, os.fsencode(path))
    except (OSError, ValueError):
        raise SourceError(
            f"The repository is malformed: {path.relative_to(root).as_posix()!r} is no link that could be."
        ) from None


def check_links(root: Path) -> None:
    """Raise SourceError if a link leads out of the repository, its submodules and all: one link may bend another."""
    top = root.resolve()
    for entry in entries_below(root):
        if entry.is_symlink():
            try:
                real = Path(entry.path).resolve()
            except (OSError, RuntimeError):
                continue  # a loop of links leads nowhere; packaging refuses it if it is shipped
            if not real.is_relative_to(top):
                raise SourceError(
                    f"The link {os.path.relpath(entry.path, root)!r} points at {os.readlink(entry.path)!r}, outside of "
                    "the repository. A build takes nothing from elsewhere: commit what is needed."
                )


# --- The git worker: what a checkout holds only by name: submodules, and files in Git LFS -----------


def fetch_submodules(source: Source, outer: Wanted, links: Sequence[TreeEntry], modules: bytes) -> list[str]:
    """Fetch the submodules of a checkout into their places; return warnings."""
    urls = submodule_urls(modules)
    warnings: list[str] = []
    for entry in links:
        if entry.path not in urls:
            # As "git clone" leaves it: somebody added a repository inside of this one by mistake.
            warnings.append(f"the submodule {shown(entry.path)} is not in .gitmodules, and was not fetched")
            continue
        if len(os.listdir(outer.objects)) > MAX_SUBMODULES:
            raise SourceError(f"The repository holds more than {MAX_SUBMODULES} submodules.")
        target = outer.root / os.fsdecode(entry.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        theirs = related_source(source, urls[entry.path], f"submodule {shown(entry.path)}")
        try:
            inner = check_out(theirs, Wanted(entry.name.hex(), target, outer.objects))
        except SourceError as error:
            raise SourceError(f"Cannot fetch the submodule {shown(entry.path)}. {error}") from None
        warnings += inner["warnings"]
    return warnings


def submodule_urls(text: bytes) -> dict[bytes, str]:
    """Read .gitmodules: the address for each path; raise SourceError for one that is unsafe."""
    from dulwich.config import ConfigFile

    found: dict[bytes, str] = {}
    try:
        config = ConfigFile.from_file(io.BytesIO(text))
        for section in config.sections():
            if section[0] == b"submodule" and len(section) == 2:
                path, url = config.get(section, b"path"), config.get(section, b"url")
                for name in path.split(b"/"):
                    check_name(name, path)
                found[path] = url.decode()
    except (ValueError, KeyError) as error:
        raise SourceError(f"The repository's .gitmodules cannot be read: {printable(str(error))}.") from None
    return found


def related_source(source: Source, url: str, what: str) -> Source:
    """Return where a submodule or a requirement is cloned from, with the credentials that its server may see."""
    if url.startswith(("./", "../")):
        url = beside(source.url, url)
    scheme, host, _ = origin(url)
    here = origin(source.url)
    if scheme == "ssh" and here[0] == "https" and host == here[1]:
        # git@HOST:account/project, as developers write it, is the same repository at https://HOST/account/project.
        short = SCP_ADDRESS.fullmatch(url)
        where = short["path"] if short else urllib.parse.urlsplit(url).path
        url = f"https://{urllib.parse.urlsplit(source.url).netloc}/{where.strip('/')}"
    elif scheme not in ("https", "ssh") and origin(url) != here:
        raise SourceError(
            f"The {what} is at {printable(url)!r}: only https:// and SSH addresses are fetched, and relative ones."
        )
    if "@" in urllib.parse.urlsplit(url).netloc and scheme in ("https", "http"):
        raise SourceError(f"The {what} has a user name or password in its address: take that out.")
    # The credentials go along to the same server only.
    return replace(source, url=url) if origin(url) == here else Source(url)


def beside(url: str, relative: str) -> str:
    """Resolve a submodule's relative address, as Git does: "../other" is beside the repository."""
    base, separator = url.rstrip("/"), "/"
    while relative.startswith(("./", "../")):
        up, _, relative = relative.partition("/")
        if up == "..":
            cut = max(base.rfind("/"), base.rfind(":") if "://" not in base else -1)
            if separator == ":" or cut < 0 or base[:cut].endswith(("/", ":/")):
                raise SourceError(f"The repository's .gitmodules leads out of {url}.")
            base, separator = base[:cut], base[cut]
    return f"{base}{separator}{relative}"


LFS_FIELDS = re.compile(rb"(?:ext-.*\n)*oid sha256:(?P<oid>[0-9a-f]{64})\nsize (?P<size>\d{1,12})\n?")


def lfs_pointers(objects: Objects, entries: Iterable[TreeEntry]) -> dict[bytes, tuple[str, int]]:
    """Return the files that are only pointers to Git LFS, with digest and size of what they stand for."""
    found: dict[bytes, tuple[str, int]] = {}
    for entry in entries:
        if entry.name in objects.pointers and stat.S_ISREG(entry.mode):
            fields_ = LFS_FIELDS.fullmatch(LFS_POINTER.sub(b"", objects.pointers[entry.name]).replace(b"\r", b""))
            if fields_ is None:
                raise SourceError(f"{shown(entry.path)} is a pointer to a file in Git LFS that makes no sense.")
            found[entry.path] = (fields_["oid"].decode(), int(fields_["size"]))
    return found


def fetch_lfs(source: Source, pointers: Mapping[bytes, tuple[str, int]], root: Path) -> None:
    """Put the real content in the place of pointers to Git LFS, or raise SourceError: none may be shipped."""
    if not pointers:
        return
    first = min(pointers)
    more = f" (and {len(pointers) - 1} more)" if len(pointers) > 1 else ""
    why = f"{shown(first)}{more} is only a pointer to a file in Git LFS, and the file cannot be fetched"
    wanted = sorted(set(pointers.values()))
    needed = sum(count for _, count in wanted)
    if needed > shutil.disk_usage(root).free:
        raise SourceError(f"{why}: it takes {size(needed)}, more than /tmp has left. Raise ephemeral_storage.")
    places: dict[str, list[bytes]] = {}
    for path, (oid, _) in sorted(pointers.items()):
        places.setdefault(oid, []).append(path)
    server = lfs_server(source, why)
    for start in range(0, len(wanted), 100):
        for oid, count, action in lfs_actions(server, wanted[start : start + 100], why):
            targets = [os.fsencode(root) + b"/" + path for path in places[oid]]
            download_lfs(server, action, (oid, count), targets[0], why)
            for other in targets[1:]:
                shutil.copyfile(targets[0], other, follow_symlinks=False)


@dataclass(frozen=True)
class LfsServer:
    """Where a repository's files in Git LFS are."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    """Credentials, for this server only."""


def lfs_server(source: Source, why: str) -> LfsServer:
    """Return a repository's server of Git LFS (git-lfs, docs/api/server-discovery.md); raise SourceError."""
    if origin(source.url)[0] != "ssh":
        url = f"{source.url.removesuffix('.git')}.git/info/lfs"
        pair = f"{source.username or DEFAULT_USERNAME}:{source.token}"
        basic = {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
        return LfsServer(url, basic if source.token else {})
    # The SSH server says where, and lends credentials for a while.
    client, path = connect_ssh(source, bytearray())
    command = f"git-lfs-authenticate {shlex.quote(path)} download".encode()
    channel = client.ssh_vendor.run_command(client.host, command, client.username, client.port, protocol_version=0)
    try:
        said = json.loads(channel.read(1 << 16))
        made = LfsServer(
            str(said["href"]).rstrip("/"), {str(name): str(said["header"][name]) for name in said["header"]}
        )
    except (ValueError, LookupError, TypeError, RecursionError):
        raise SourceError(
            f"{why}: the SSH server does not say where (git-lfs-authenticate). Commit the file itself."
        ) from None
    finally:
        channel.close()
    check_lfs_address(made.url, why)
    return made


def check_lfs_address(url: str, why: str) -> None:
    """Raise SourceError for an address of files in Git LFS that anyone on the way could change."""
    scheme, host, _ = origin(url)
    if scheme != "https" and not (scheme == "http" and is_loopback(host)):
        raise SourceError(f"{why}: the host names an address for it that is not https.")


def lfs_actions(
    server: LfsServer, wanted: Sequence[tuple[str, int]], why: str
) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
    """Ask the server where to get files of Git LFS; yield digest, size and the "download" action."""
    import urllib3

    question = {"operation": "download", "transfers": ["basic"], "objects": [{"oid": o, "size": s} for o, s in wanted]}
    kind_of_lfs = "application/vnd.git-lfs+json"
    headers = {**server.headers, "Accept": kind_of_lfs, "Content-Type": kind_of_lfs}
    try:
        answer = http_pool(Source(server.url)).request(
            "POST", f"{server.url}/objects/batch", body=json.dumps(question).encode(), headers=headers,
            preload_content=False,
        )  # fmt: skip
        text = answer.read(8 << 20)
        objects = {each["oid"]: each for each in json.loads(text)["objects"]} if answer.status == 200 else None
    except (urllib3.exceptions.HTTPError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise SourceError(f"{why}: {printable(str(error))}.") from None
    if objects is None:
        raise SourceError(
            f"{why}: the host answers {answer.status} to Git LFS. Commit the file itself, or use a host that has LFS."
        )
    for oid, count in wanted:
        found = objects.get(oid, {})
        action = found.get("actions", {}).get("download") if isinstance(found.get("actions"), dict) else None
        if not isinstance(action, dict) or not isinstance(action.get("href"), str):
            reason = found.get("error", {}) if isinstance(found.get("error"), dict) else {}
            raise SourceError(f"{why}: {printable(str(reason.get('message', 'the host does not have it')))}.")
        yield oid, count, action


def download_lfs(server: LfsServer, action: Mapping[str, Any], what: tuple[str, int], path: bytes, why: str) -> None:
    """Download one file of Git LFS over its pointer, and verify it."""
    import urllib3

    oid, count = what
    href, given = action["href"], action.get("header")
    headers = {str(name): str(value) for name, value in given.items()} if isinstance(given, dict) else {}
    if origin(href) == origin(server.url) and "authorization" not in {name.lower() for name in headers}:
        headers.update(server.headers)
    digest, left = hashlib.sha256(), count
    try:
        for _ in range(5):
            check_lfs_address(href, why)
            answer = http_pool(Source(href)).request(
                "GET", href, headers=headers, preload_content=False, redirect=False
            )
            if not answer.get_redirect_location():
                break
            there = urllib.parse.urljoin(href, answer.get_redirect_location())
            # GitLab sends one to its object storage, by a signed address: the credentials stay here.
            href, headers = there, headers if origin(there) == origin(href) else {}
        if answer.status != 200:
            raise SourceError(f"{why}: its download answers {answer.status}.")
        with open(os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW), "wb") as file:
            for piece in answer.stream(PIECE):
                left -= len(piece)
                if left < 0:
                    break
                digest.update(piece)
                file.write(piece)
    except (urllib3.exceptions.HTTPError, ValueError) as error:
        # Not its words: they name the whole address, which may be signed.
        raise SourceError(f"{why}: its download failed ({type(error).__name__}).") from None
    if left or digest.hexdigest() != oid:
        raise SourceError(f"{why}: what the host sent is not the file that the pointer names.")


# --- The git worker: what a project requires from Git -------------------------------------------------

GIT_REQUIREMENT = re.compile(
    r"""(?P<quote>["'])?(?:(?P<name>[A-Za-z0-9][\w.-]*)\s*(?P<extras>\[[^\]]*\])?\s*@\s*)?"""
    r"""git\+(?P<scheme>[a-z]+)://(?P<user>[^\s/@"']*@)?(?P<place>[^\s@#;"']+)"""
    r"""(?:@(?P<ref>[^\s#;"']+))?(?:\#(?P<fragment>[^\s;"']*))?"""
    r"""(?:\s*;\s*(?P<marker>(?:(?!(?P=quote)).)+))?"""
)
"""NAME[EXTRAS] @ git+URL@REF#subdirectory=… ; MARKER, also without a name, and within quotes."""

ASKS_GIT = re.compile(r"setuptools[_-]scm|use_scm_version|hatch-vcs")
"""What in a project's settings says that its build asks git for its version."""


@dataclass(frozen=True)
class GitRequirement:
    """A requirement that is a Git repository."""

    name: str
    extras: str
    url: str
    ref: str | None
    subdirectory: str
    marker: str

    @classmethod
    def find(cls, line: str) -> Iterator[GitRequirement]:
        """Yield those in a line of a requirements file, or of a program."""
        for found in GIT_REQUIREMENT.finditer(line) if "git+" in line and len(line) <= MAX_LINE else ():
            fragment = dict(urllib.parse.parse_qsl(found["fragment"] or ""))
            egg = re.match(r"([\w.-]*)(\[.*\])?", fragment.get("egg", ""))
            user = found["user"] or ""
            if found["scheme"] == "https" and (":" not in user or "${" in user):
                user = ""  # pip takes credentials from variables; here they come from the secret
            yield cls(
                name=found["name"] or (egg[1] if egg else ""),
                extras=found["extras"] or (egg[2] if egg else "") or "",
                url=f"{found['scheme']}://{user}{found['place']}",
                ref=found["ref"],
                subdirectory=fragment.get("subdirectory", "").strip("/"),
                marker=(found["marker"] or "").strip(),
            )

    def at(self, folder: str) -> str:
        """Return the requirement as one of the folder (file://…) that it was fetched into."""
        what = f"{self.name}{self.extras} @ {folder}" if self.name else f"{folder}{self.extras}"
        return f"{what} ; {self.marker}" if self.marker else what


@dataclass
class Requiring:
    """The files in which a project, and what it requires from Git, say what they require."""

    boundary: Path
    """The repository: nothing outside of it is read."""
    lines: dict[Path, list[str]] = field(default_factory=dict)
    asks_git: bool = False
    """Whether the build of one of them asks git for its version."""

    def read(self, path: Path, extras: str = "") -> None:
        """Read a file of requirements, and those that it includes, or a folder's settings."""
        path = Path(os.path.realpath(path))
        if path.is_dir():
            for name in ("pyproject.toml", "setup.py", "setup.cfg"):
                self.read(path / name, extras)
        elif path not in self.lines and path.is_relative_to(self.boundary) and path.is_file():
            text = path.read_text(errors="surrogateescape")
            self.asks_git = self.asks_git or ASKS_GIT.search(text) is not None
            self.lines[path] = (
                toml_requirements(text, extras) if path.suffix in (".toml", ".lock") else whole_lines(text)
            )
            for line in self.lines[path] if path.suffix in (".txt", ".in") else ():
                # What it names, if that is a file or folder here: -r FILE, -c FILE, -e FOLDER[EXTRAS], ./FOLDER.
                named = re.match(r"\s*(?:--?[a-z]+[\s=]*)?(?P<path>[^\s#;\[:]+)\s*(?P<extras>\[[^\]]*\])?", line)
                if named and os.path.exists(path.parent / named["path"]):
                    self.read(path.parent / named["path"], named["extras"] or "")

    @property
    def wanted(self) -> list[GitRequirement]:
        """What they require from Git."""
        return [
            each for lines in self.lines.values() for line in lines for each in GitRequirement.find(uncommented(line))
        ]


def whole_lines(text: str) -> list[str]:
    """Return the lines of a requirements file, those that go on in the next one as one."""
    return re.sub(r"\\\r?\n", " ", text).splitlines()


def uncommented(line: str) -> str:
    """Return a line of a requirements file without its comment; an address may hold a "#"."""
    return re.sub(r"(^|\s)#.*", "", line)


def toml_requirements(text: str, extras: str) -> list[str]:
    """Return what a pyproject.toml (with these extras) or uv.lock requires, as lines of a requirements file."""
    found: list[str] = []
    with contextlib.suppress(ValueError, RecursionError, AttributeError, TypeError, KeyError):  # uv will say it
        document = tomllib.loads(text)
        project = document.get("project", {})
        found += project.get("dependencies", [])
        for extra in re.findall(r"[\w.-]+", extras):
            found += project.get("optional-dependencies", {}).get(extra, [])
        for package in document.get("package", []):
            if address := package["source"].get("git"):
                parts = urllib.parse.urlsplit(address)
                folder = dict(urllib.parse.parse_qsl(parts.query)).get("subdirectory", "")
                url = urllib.parse.urlunsplit(parts._replace(query="", fragment=""))
                found.append(f"{package['name']} @ git+{url}@{parts.fragment}#subdirectory={folder}")
        for name, tables in document.get("tool", {}).get("uv", {}).get("sources", {}).items():
            for table in tables if isinstance(tables, list) else [tables]:
                if "git" in table:
                    # An override takes the place of the whole requirement, its extras included.
                    with_extras = re.search(rf"""["']{re.escape(name)}\s*(\[[^\]]*\])""", text)
                    ref = next((f"@{table[key]}" for key in ("rev", "tag", "branch") if key in table), "")
                    end = f"#subdirectory={table.get('subdirectory', '')} ; {table.get('marker', '')}"
                    what = f"{name}{with_extras[1] if with_extras else ''}"
                    found.append(f"{what} @ git+{table['git'].removeprefix('git+')}{ref}{end}")
    return [line for line in found if isinstance(line, str)]


def fetch_required(source: Source, checkout: Mapping[str, Any], wanted: Wanted, sources: Path) -> Required:
    """Fetch the repositories that a project requires and, in turn, those that they require, into sources."""
    root = Path(os.path.realpath(wanted.root))
    ours = Requiring(root)
    with contextlib.suppress(DependencyError):  # the next stage says it
        if start := find_requirements(root / os.fsdecode(wanted.project or b"")):
            ours.read(start)
    if ours.asks_git:
        tell_version(root, checkout)
    todo, folders = ours.wanted, dict[GitRequirement, str]()
    fetched: dict[tuple[str, str | None], tuple[Path, Mapping[str, Any]]] = {}
    origins: dict[str, str] = {}
    failures: list[str] = []
    for each in todo:  # which grows
        if each in folders:
            continue
        folders[each] = ""
        try:
            if (each.url, each.ref) not in fetched:
                if len(fetched) >= MAX_REQUIRED:
                    raise SourceError(f"The project requires more than {MAX_REQUIRED} Git repositories.")
                target = Wanted(each.ref, sources / str(len(fetched)), wanted.objects)
                fetched[each.url, each.ref] = target.root, fetch_requirement(source, each, target)
            top, answer = fetched[each.url, each.ref]
            folder = required_folder(each, top)
        except SourceError as error:
            failures.append(f"Cannot fetch the requirement {printable(each.name or each.url)!r}. {error}")
            continue
        theirs = Requiring(Path(os.path.realpath(top)))
        theirs.read(folder, each.extras)
        todo += theirs.wanted
        if theirs.asks_git:
            tell_version(top, answer)
        folders[each] = folder.as_uri()
        end = f"#subdirectory={each.subdirectory}" if each.subdirectory else ""
        origins[folder.as_uri()] = f"git+{each.url}@{answer['commit']}{end}"
    overrides = {each.at(folder): None for each, folder in folders.items() if each.name and folder}
    texts = {
        str(path): "".join(f"{at_folders(line, folders)}\n" for line in lines)
        for path, lines in ours.lines.items()
        if path.suffix in (".txt", ".in")
    }
    return Required(origins, list(overrides), texts, failures)


def at_folders(line: str, folders: Mapping[GitRequirement, str]) -> str:
    """Return a line of a requirements file, with the folder in the place of a repository that was fetched."""
    for each in GitRequirement.find(uncommented(line)):
        if folders.get(each):
            return each.at(folders[each])
    return line


def fetch_requirement(source: Source, requirement: GitRequirement, wanted: Wanted) -> dict[str, Any]:
    """Fetch the repository of one requirement."""
    theirs = related_source(source, requirement.url, f"requirement {requirement.name or requirement.url!r}")
    wanted.root.parent.mkdir(exist_ok=True)
    answer = check_out(theirs, wanted)
    check_links(wanted.root)
    print(f"{requirement.url} is required: {answer['ref']} is at commit {answer['commit']}", flush=True)
    return answer


def required_folder(requirement: GitRequirement, root: Path) -> Path:
    """Return the folder of a requirement in its repository; raise SourceError if there is none."""
    fault = subdirectory_fault(requirement.subdirectory) if requirement.subdirectory else None
    folder = root / requirement.subdirectory
    if fault or not folder.is_dir():
        raise SourceError(
            f"The repository has no folder {requirement.subdirectory!r}{f': it {fault}' if fault else ''}."
        )
    return folder


def tell_version(root: Path, answer: Mapping[str, Any]) -> None:
    """Write down what git would say of a checkout's version, where builds look for it in archives.

    setuptools-scm and hatch-vcs read .git_archival.txt where there is no .git
    (setuptools-scm.readthedocs.io, "Git archives").  Without a tag it is what they make of a clone one
    commit deep: 0.1.dev1+gCOMMIT.
    """
    path = root / ".git_archival.txt"
    if path.is_symlink() or (path.exists() and "$Format" not in path.read_text(errors="replace")):
        return
    path.unlink(missing_ok=True)
    name = answer["tag"] or f"v0.0-1-g{answer['commit'][:10]}"
    path.write_text(f"node: {answer['commit']}\ndescribe-name: {name}\n")


# --- Stage: install requirements ------------------------------------------------------------------


@dataclass(frozen=True)
class Installed:
    """What the installer wrote into staging."""

    names: tuple[str, ...]
    """"name==version", sorted."""
    owners: Mapping[str, str]
    """For each file, relative to staging, the distribution that it belongs to."""
    records: Mapping[str, str] = field(default_factory=dict)
    """For each of the names the SHA-256, in hex, of its RECORD, which holds the digests of its files."""
    provided: frozenset[str] = frozenset()
    """The distributions that the runtime has too, in versions that fit."""
    kept: Mapping[str, str] = field(default_factory=dict)
    """What might have been left to it and is not, and why."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """For each file, relative to staging, its SHA-256 as its distribution's RECORD has it: base64, for URLs."""

    @property
    def pins(self) -> frozenset[str]:
        """What was installed, as the installer resolves it."""
        return frozenset(normal(name) for name in self.records)


INSTALL_ADVICE = (
    (r"\.txt:\d+:\d+$|Couldn't parse requirement|Invalid URL in|failed to (decode|read from) file",
     "A requirements file cannot be read: it names a file that is not there, is not UTF-8, or has a line or option "
     "that uv does not know. Change or remove it."),
    (r"index URL .* could not be queried due to a lack of valid authentication",
     "A package index refuses its user name or password: see index_secret in config.ini."),
    (r"not found in the package registry|was not found in the|Because there are no versions of|there is no version of",
     "A requirement, or this version of it, does not exist: check its name and version."),
    (r"Git executable not found|Git operation failed",
     "A requirement is to be cloned with git, which Lambda has not. yo-dawg clones what requirements files, a "
     "pyproject.toml, uv.lock and setup.py spell out: write it there as NAME @ git+https://…"),
    (r"invalid package format|invalid metadata|metadata is invalid",
     "A requirement's file is damaged, or is no package: require another version."),
    (r"does not satisfy Python",
     "A requirement is not for {platform}: require a version that is."),
    (r"Failed to build|Call to `.*` failed|no wheels with a matching|no compatible wheels|has no usable wheels",
     "A requirement has no wheel for {platform}, and building it from source failed; Lambda has no compiler. "
     "Require a version that has such a wheel."),
    (r"conflict|are incompatible|we can conclude that|No solution found",
     "The requirements contradict each other: loosen or align their versions."),
    (r"hash",
     "A file's hash is not the one that the requirements name: pin the hashes again."),
    (r"dns error|error sending request|timed out|Connect",
     "The package index cannot be reached from this function: check its network (VPC, NAT)."),
)  # fmt: skip
"""What a text in uv's output means for the one who must act.  The first that is found counts."""


LACKING = re.compile(r"Failed to build `([\w.-]+)|([\w.-]+?)(?:==\S+)? (?:has|have) no (?:\w+ )?wheels")
"""How uv names a requirement that there is no wheel of, and that cannot be built."""

MAX_LACKING = 10
SECONDS_TO_LOOK_FURTHER = 60
"""How many of them are named, and what time has to be left to look for another."""


def lacking(lines: Iterable[str]) -> str | None:
    """Return the requirement in uv's output that there is no wheel of."""
    found = LACKING.search("\n".join(lines))
    return found and (found[1] or found[2])


def find_requirements(project: Path) -> Path | None:
    """Return the file in which a project says what it needs, or None."""
    for name in REQUIREMENT_FILES:
        path = project / name
        if path.is_file() and (name != "pyproject.toml" or has_dependencies(path)):
            return path
    return None


def unread_requirements(project: Path) -> list[str]:
    """Return a warning if a project only has requirements in files of tools that uv does not read."""
    found = [name for name in OTHERS_FILES if (project / name).is_file()]
    if not found or find_requirements(project):
        return []
    return [
        f"{found[0]} is not read, and nothing was installed: export it as requirements.txt, or name the dependencies "
        "in [project] of pyproject.toml"
    ]


def has_dependencies(path: Path) -> bool:
    """Say whether a pyproject.toml names dependencies, or has its build name them; raise DependencyError."""
    try:
        project = tomllib.loads(path.read_text()).get("project")
    except (ValueError, RecursionError) as error:
        raise DependencyError(f"{path.name} is not valid TOML: {error}.") from None
    if not isinstance(project, dict):
        return False
    return bool(project.get("dependencies")) or "dependencies" in project.get("dynamic", ())


@dataclass(frozen=True)
class Installer:
    """uv, at work for a project."""

    checkout: Checkout
    toolchain: Toolchain
    builder: Builder
    shell: Shell

    space = property(lambda self: Workspace(self.toolchain.root.parent))

    @functools.cached_property
    def requirements(self) -> Path | None:
        """The file in which the project says what it needs; of a uv.lock, what that says as requirements."""
        found = find_requirements(self.checkout.project)
        if found is None or found.name != "uv.lock":
            return found
        with self._troubles(found):
            return export_lock(self.checkout, self.toolchain, self.shell)

    def install(self, target: Path) -> None:
        """Install what the project requires into a folder; raise DependencyError."""
        if self.requirements:
            with self._troubles(self.requirements):
                self._run("install", "--target", target, "--no-editable", "--link-mode", "hardlink", "--requirements")
        check_workspace(self.space, DependencyError)

    def resolve(self, constraints: Iterable[str] = ()) -> frozenset[str] | None:
        """Return what would be installed now, NAME==VERSION each; None if that is not all, or cannot be."""
        limits, resolved = self.space.root / "constraints.txt", self.space.root / "resolved.txt"
        limits.write_text("\n".join(constraints))
        resolved.unlink(missing_ok=True)  # uv would prefer what it says
        options = ("--constraint", limits, "--quiet", "--no-header", "--no-annotate", "--output-file", resolved)
        with contextlib.suppress(CommandFailed):
            self._run("compile", *options)
            check_workspace(self.space, DependencyError)  # builds of requirements may have run
            return frozenset(map(normal, resolved.read_text(errors="replace").splitlines()))
        return None

    def others_lacking(self, lines: Iterable[str]) -> list[str]:
        """Return what there is no wheel of either, and no building: of such requirements uv names the first, and stops.

        Each that it names is left out, until it names no more or time is short.
        """
        found: list[str] = []
        while (name := lacking(lines)) and name not in found and len(found) < MAX_LACKING:
            found.append(name)
            if 0 < signal.getitimer(signal.ITIMER_REAL)[0] < SECONDS_TO_LOOK_FURTHER:
                break
            without = [f"{each} ; python_version < '0'" for each in found]
            required = replace(self.checkout.required, overrides=[*self.checkout.required.overrides, *without])
            trial = replace(self, checkout=replace(self.checkout, required=required))
            try:
                trial._run("install", "--target", self.space.scratch / "trial", "--requirements")
                break
            except CommandFailed as error:
                lines = error.lines
        return found[1:]

    def _run(self, *command: str | Path) -> None:
        options: list[str | Path] = []
        if self.checkout.required.overrides:
            options = ["--override", self.space.root / "overrides.txt"]
            (self.space.root / "overrides.txt").write_text("\n".join(self.checkout.required.overrides))
        argv = [self.toolchain.uv, "pip", command[0], "--python", sys.executable, *options, *command[1:]]
        run = Command(
            [*argv, self.requirements or os.devnull], self.checkout.project, {"SOURCE_DATE_EPOCH": "315532800"}
        )
        self.shell.run(prepared(run, self.checkout.required, self.toolchain))

    @contextlib.contextmanager
    def _troubles(self, requirements: Path) -> Iterator[None]:
        try:
            yield
        except CommandFailed as error:
            refuse_if_disk_full(error, self.space)
            failures = self.checkout.required.failures
            if failures and re.search("Git operation failed", "".join(error.lines)):
                raise SourceError("\n".join(failures)) from None
            others = self.others_lacking(error.lines)
            also = f"\nThe same goes for {', '.join(others)}." if others else ""
            raise DependencyError(
                f"Cannot install {requirements.name}: uv {error.ending}. "
                f"{install_advice(error.lines, self.builder)}{also}{error.quoted_tail}"
            ) from None


def look_at_requirements(installer: Installer) -> Installed:
    """List what was installed into staging, and say what of it the runtime has too.

    Whether the runtime's own boto3 satisfies all that asks for it is the installer's to say.
    """
    installed = look_at_installed(installer.space.staging, installer.checkout.required.origins)
    provided = provided_by_runtime(installed)
    if not provided:
        return installed
    pins = {**dict(name.split("==") for name in installed.names if "==" in name), **provided}
    if installer.resolve(f"{name}=={version}" for name, version in pins.items()) is None:
        own = ", ".join(f"{name} {version}" for name, version in provided.items())
        return replace(
            installed, kept={RUNTIME_PROVIDES[0]: f"not all that is required allows the runtime's own: {own}"}
        )
    shipped = tuple(name for name in installed.names if name.partition("==")[0].lower() not in provided)
    return replace(installed, names=shipped, provided=frozenset(provided))


def provided_by_runtime(installed: Installed) -> dict[str, str]:
    """Return what the runtime has too of what was installed, with its own versions."""
    names = {name.partition("==")[0].lower() for name in installed.names} & set(RUNTIME_PROVIDES)
    if "botocore" not in names:
        return {}  # what others need of the rest is theirs
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return {name: importlib.metadata.version(name) for name in sorted(names)}
    return {}


def prepared(command: Command, required: Required, toolchain: Toolchain) -> Command:
    """Return an installer's command as one of the install worker, if there is anything for that to do."""
    if not required.origins and not toolchain.indexes:
        return command
    job = {
        "argv": [str(part) for part in command.argv],
        "texts": dict(required.texts),
        "indexes": toolchain.indexes,
    }
    return replace(
        command,
        argv=[sys.executable, "-s", HERE / Path(__file__).name, "install-worker"],
        stdin=json.dumps(job).encode(),
    )


def package_indexes(aws: Aws, settings: Settings, log: Log) -> tuple[str, ...]:
    """Read the addresses of private package indexes, credentials included, and hide those in the log."""
    urls = read_secret(aws, settings.index_secret, "index_secret").split()
    for url in urls:
        with contextlib.suppress(ValueError):  # whose text would show the address
            parts = urllib.parse.urlsplit(url)
            password, user = parts.password or "", parts.username or ""
            for form in {password, urllib.parse.unquote(password)} - {""}:
                log.hide(form)
                log.hide(f"{urllib.parse.unquote(user)}:{form}")  # as HTTP sends it, in base64
            if parts.hostname and (parts.scheme == "https" or is_loopback(parts.hostname)):
                continue
        raise ConfigError(
            f"The secret {settings.index_secret} (index_secret in config.ini) holds something that is no address of "
            "a package index: store https://USER:PASSWORD@HOST/…/simple/, and if there are several, one a line."
        )
    return tuple(urls)


def export_lock(checkout: Checkout, toolchain: Toolchain, shell: Shell) -> Path:
    """Write a project's uv.lock as requirements, without what only developers need."""
    target = toolchain.root.parent / "uv.lock.txt"
    options = ("--frozen", "--no-dev", "--no-emit-project", "--no-header", "--quiet")
    shell.run(Command([toolchain.uv, "export", *options, "--output-file", target], cwd=checkout.project))
    return target


def install_advice(lines: Sequence[str], builder: Builder) -> str:
    """Say what uv's output means for the one who must act, with the line that says which requirement it is."""
    for pattern, advice in INSTALL_ADVICE:
        for line in lines:
            if re.search(pattern, line, re.IGNORECASE):
                return f"{advice.format(platform=builder.platform)}\n{line.strip()[:300]}"
    return "Does it install with uv on your own machine?"


def look_at_installed(staging: Path, origins: Mapping[str, str] = MappingProxyType({})) -> Installed:
    """List what was installed, and whose each file is; name what came from Git by its address and commit."""
    records: dict[str, str] = {}
    owners: dict[str, str] = {}
    digests: dict[str, str] = {}
    for distribution in importlib.metadata.distributions(path=[str(staging)]):
        # Metadata that is none: its files stay unowned.
        with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError, RecursionError, csv.Error):
            name = printable(distribution.name)
            content = distribution.read_text("RECORD") or ""
            address = json.loads(distribution.read_text("direct_url.json") or "{}").get("url")
            label = f"{name} @ {origins[address]}" if address in origins else f"{name}=={distribution.version}"
            records[printable(label)] = hashlib.sha256(content.encode()).hexdigest()
            for path, digest, *_ in csv.reader(content.splitlines()):
                owners[file := os.path.normpath(path)] = name
                if digest.startswith("sha256="):
                    digests[file] = digest.removeprefix("sha256=")
    return Installed(tuple(sorted(records, key=str.lower)), owners, records, digests=digests)


def normal(pin: str) -> str:
    """Return NAME==VERSION with its name in the one spelling of all that mean the same (PEP 503)."""
    name, equals, version = pin.partition("==")
    return re.sub(r"[-_.]+", "-", name.strip()).lower() + equals + version.strip()


# --- The install worker: a program of its own, which runs uv ------------------------------------------


def install_worker() -> NoReturn:
    """Run the installer's command on standard input, and lend it what it must not hold.

    Requirements files show the folders into which repositories were fetched while it runs, and are put
    back.  Private package indexes answer on loopback, where no credentials are needed: this process
    adds them, and is closed to its children, in which the code of source distributions runs.  For the
    same reason it imports nothing of the toolchain, which they could change.
    """
    job = json.load(sys.stdin)
    prctl(PR_SET_DUMPABLE, 0)
    local: dict[str, str] = {}
    """For the address of each private index, without credentials, the one on loopback."""
    for url in job["indexes"]:
        server = index_server(url)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        parts = urllib.parse.urlsplit(url.rstrip("/"))
        public = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        local[public] = parts._replace(scheme="http", netloc=f"127.0.0.1:{server.server_port}").geturl()
    texts = dict(job["texts"])
    for path in (Path("pyproject.toml"), Path("uv.toml")):
        if path.is_file():
            texts[str(path)] = path.read_text(errors="surrogateescape")
    for public, here in local.items():
        address = re.compile(
            re.escape(public).replace("://", r"://(?:[^\s/@\"']*@)?", 1) + r"(?=[/\s\"']|$)", re.MULTILINE
        )
        texts = {path: address.sub(here, text) for path, text in texts.items()}
    environ = dict(os.environ)
    for name in ("NO_PROXY", "no_proxy"):
        environ[name] = ",".join(filter(None, [environ.get(name), "127.0.0.1"]))
    environ["UV_INDEX"] = " ".join([*(f"{each}/" for each in local.values()), environ.get("UV_INDEX", "")]).strip()
    with replaced(texts):
        process = subprocess.Popen(  # noqa: S603  # an argument list, no shell
            job["argv"], env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        for line in process.stdout or ():
            text = line.decode(errors="replace")
            for public, here in local.items():
                text = text.replace(here, public)
            print(text, end="", flush=True)
        status = process.wait()
    sys.exit(status if status >= 0 else 128 - status)


@contextlib.contextmanager
def replaced(texts: Mapping[str, str]) -> Iterator[None]:
    """Let files hold these texts for a while."""
    before = {path: Path(path).read_bytes() for path in texts}
    try:
        for path, text in texts.items():
            Path(path).write_text(text, errors="surrogateescape")
        yield
    finally:
        for path, content in before.items():
            Path(path).write_bytes(content)


def index_server(url: str) -> Any:
    """Return a server on loopback that asks a package index, with the credentials in its address.

    It serves the index, and what its pages link to on the same host; nothing else that the
    credentials might open.
    """
    import http.server

    import urllib3

    parts = urllib.parse.urlsplit(url)
    upstream = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    top = parts.path.rstrip("/") + "/"
    pair = f"{urllib.parse.unquote(parts.username or '')}:{urllib.parse.unquote(parts.password or '')}"
    # urllib3 takes it out again where a redirect leads to another host.
    credentials = urllib3.make_headers(basic_auth=pair) if parts.username else {}
    pool = http_client(url, STALL_SECONDS)
    linked: set[str] = set()

    class Index(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            known = path.removesuffix(".metadata") in linked
            if ".." in urllib.parse.unquote(path) or not (known or path.startswith(top)):
                return self.send_error(403, "not of this package index")
            asked = {name: self.headers[name] for name in ASKED_HEADERS if name in self.headers}
            try:
                answer = pool.request(
                    self.command, upstream + self.path, headers={**asked, **credentials}, preload_content=False
                )
                self.pass_on(answer)
            except urllib3.exceptions.HTTPError as error:
                print(f"{upstream} cannot be asked for {path}: {printable(str(error))}", flush=True)
                self.send_error(502, "the package index cannot be reached")

        do_HEAD = do_GET

        def pass_on(self, answer: Any) -> None:
            here = f"http://127.0.0.1:{self.server.server_port}"  # type: ignore[attr-defined]
            headers = {name: answer.headers[name] for name in ANSWERED_HEADERS if name in answer.headers}
            pieces: Iterable[bytes]
            if re.search("html|json", answer.headers.get("Content-Type", "")):
                text = answer.read(decode_content=True).decode(errors="surrogateescape").replace(upstream, here)
                page = urllib.parse.urljoin(f"{here}{self.path}", answer.url or "")
                for link in re.findall(r"""(?:href=|"url":\s*)["']([^"'#]+)""", text):
                    linked.add(urllib.parse.urlsplit(urllib.parse.urljoin(page, html.unescape(link))).path)
                pieces = [text.encode(errors="surrogateescape")]
                headers["Content-Length"] = str(len(pieces[0]))
                headers.pop("Content-Encoding", None)
            else:
                pieces = answer.stream(PIECE, decode_content=False)
            self.send_response(answer.status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                for piece in pieces:
                    self.wfile.write(piece)

        def log_message(self, *_: object) -> None:
            """Say nothing: uv says what it fetches."""

    return http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index)


ASKED_HEADERS = ("Accept", "Accept-Encoding", "If-Modified-Since", "If-None-Match", "Range", "User-Agent")
ANSWERED_HEADERS = (
    "Accept-Ranges", "Cache-Control", "Content-Encoding", "Content-Length", "Content-Range", "Content-Type", "ETag",
    "Last-Modified",
)  # fmt: skip
"""What of a request to a package index, and of its answer, is passed on."""


# --- Stage: prune dependencies --------------------------------------------------------------------


class Taken(NamedTuple):
    """A file that was taken out of the dependencies."""

    reason: str
    group: str
    """The folder or file, relative to staging, that went, and would be put back, as a whole."""
    bytes: int


@dataclass(frozen=True)
class Pruned:
    """What was taken out of the dependencies.  It lies in pruned/, in case it turns out to be needed."""

    taken: Mapping[str, Taken]
    kept: Mapping[str, str]
    """Groups that were kept, or put back, and why."""
    bring: Callable[[], object] | None = field(default=None, compare=False, repr=False)
    """Where it does not lie in pruned/: puts it there."""

    files = property(lambda self: len(self.taken))
    bytes = property(lambda self: sum(each.bytes for each in self.taken.values()))

    @property
    def reasons(self) -> dict[str, int]:
        """Bytes by reason, the largest first."""
        counted: Counter[str] = Counter()
        for each in self.taken.values():
            counted[each.reason] += each.bytes
        return dict(counted.most_common())


@dataclass(frozen=True)
class Rules:
    """What a project itself says of its package, in [tool.yo-dawg] of its pyproject.toml."""

    keep: frozenset[str] = frozenset()
    """Files, relative to the package's root, that stay whatever we think of them."""
    drop: frozenset[str] = frozenset()
    """Files that go."""
    warnings: tuple[str, ...] = ()


def read_patterns(project: Path) -> dict[str, list[str]]:
    """Read the patterns in a project's pyproject.toml; raise PackageError for what makes no sense."""
    path = project / "pyproject.toml"
    text = path.read_bytes() if path.is_file() else b""
    if b"yo-dawg" not in text:
        return {}  # whatever else it may hold
    where = "[tool.yo-dawg] in pyproject.toml"
    try:
        tools = tomllib.loads(text.decode()).get("tool")
    except (ValueError, RecursionError) as error:
        raise PackageError(f"{where} cannot be read: that is not valid TOML: {error}.") from None
    table = tools.get("yo-dawg", {}) if isinstance(tools, dict) else {}
    if not isinstance(table, dict):
        raise PackageError(f"{where} is no table.")
    for name, value in table.items():
        if name not in ("keep", "drop"):
            raise PackageError(f"{where} has no {name!r}{nearest(name, dict.fromkeys(['keep', 'drop']))}.")
        if not isinstance(value, list) or not all(isinstance(each, str) and each.strip() for each in value):
            raise PackageError(f'{name} in {where} must be a list of patterns, such as ["pkg/data/", "!*.json"].')
    return table


def read_rules(installer: Installer, pruned: Iterable[str] = ()) -> Rules:
    """Find the files, installed (some are pruned already) or the project's, that its patterns match."""
    checkout, space = installer.checkout, installer.space
    patterns = read_patterns(checkout.project)
    if not any(patterns.values()):
        return Rules()
    top = "" if checkout.project == checkout.root else f"{checkout.project.relative_to(checkout.root).as_posix()}/"
    names = sorted({name for name, _ in tree_files(space.staging)} | set(pruned))
    names += [name.removeprefix(top) for name in checkout.files if name.startswith(top)]
    answer = space.root / "matched.json"
    job = {"patterns": patterns, "names": names, "answer": str(answer), "seconds": SECONDS_TO_MATCH}
    worker = Command(
        [sys.executable, "-s", HERE / Path(__file__).name, "match-worker"],
        cwd=space.root,
        environ={"PYTHONPATH": str(installer.toolchain.packages)},
        stdin=json.dumps(job).encode(),
    )
    try:
        installer.shell.run(worker)
        said = json.loads(answer.read_bytes())
    except (CommandFailed, OSError, ValueError) as error:
        how = f"the search {error.ending}.{error.quoted_tail}" if isinstance(error, CommandFailed) else str(error)
        raise PackageError(
            "The patterns in [tool.yo-dawg] in pyproject.toml cannot be matched; with several * in one name that may "
            f"take for ever: {how}"
        ) from None
    idle = [f"the pattern {printable(each)!r} in [tool.yo-dawg] matches nothing" for each in said["idle"]]
    return Rules(frozenset(said.get("keep", ())), frozenset(said.get("drop", ())), tuple(idle))


def match_worker() -> None:
    """Match names with patterns in gitignore's syntax, which Dulwich knows.  Runs as a program of its own."""
    from dulwich.ignore import IgnoreFilter

    job = json.load(sys.stdin)
    signal.alarm(job["seconds"])

    def matched(patterns: Sequence[str]) -> list[str]:
        rules = IgnoreFilter([os.fsencode(each) for each in patterns])
        return [name for name in job["names"] if rules.is_ignored(name) is True]

    answer: dict[str, list[str]] = {what: matched(patterns) for what, patterns in job["patterns"].items()}
    every = [each for patterns in job["patterns"].values() for each in patterns]
    answer["idle"] = [each for each in every if not matched([each.removeprefix("!")])]
    with open(job["answer"], "x") as file:
        json.dump(answer, file)


def prune(listing: Listing, installed: Installed, rules: Rules, space: Workspace) -> Pruned:
    """Move what dependencies bring that Lambda does not need out of staging, where nothing else is yet.

    The project's own rules come first.
    """
    files = {name: path for name, path, _ in listing}
    suite_of = {name: test_suite(name) for name in files}
    suites = {suite for suite in suite_of.values() if suite}
    stubbed: set[str] = set()
    kept = dict(installed.kept)
    for name, path in files.items():
        if name.endswith((".py", ".dist-info/entry_points.txt")) and not suite_of[name]:
            text = path.read_text(errors="replace")
            if any(word in text for word in SPEAKS_OF_STUBS):
                stubbed.add(name.partition("/")[0])
            if path.name != "conftest.py":  # which only pytest reads
                kept |= imported_suites(text, name, suites)
    going = {name: suite for name, suite in suite_of.items() if suite and suite not in kept}
    code_folders = {
        folder for name in files.keys() - going if name.endswith((".py", ".so")) for folder in folders_above(name)
    }
    provided = {name for name in files if installed.owners.get(name, "").lower() in installed.provided}
    if provided & rules.keep:
        provided = set()
    taken: dict[str, Taken] = {}
    for name, path, status in listing:
        found: tuple[str, str] | None
        if name in rules.keep:
            continue
        if name in rules.drop:
            found = DROPPED, name
        elif name in provided:
            found = "provided by the runtime", RUNTIME_PROVIDES[0]
        elif name in going:
            found = "tests", going[name]
        else:
            found = disposal(path, name, code_folders, stubbed)
        if found:
            taken[name] = Taken(*found, status.st_size)
    move(taken, space.staging, space.pruned)
    return Pruned(taken, kept)


def restore(space: Workspace, pruned: Pruned, groups: Mapping[str, str]) -> Pruned:
    """Move these groups back into staging, each for a reason."""
    back = {name: each for name, each in pruned.taken.items() if each.group in groups}
    if pruned.bring and not all(os.path.lexists(space.pruned / name) for name in back):
        pruned.bring()
    move(back, space.pruned, space.staging)
    sizes: Counter[str] = Counter()
    for each in back.values():
        sizes[each.group] += each.bytes
    kept = {group: f"{size(sizes[group])}: {groups[group]}" for group in sizes}
    left = {name: each for name, each in pruned.taken.items() if name not in back}
    return replace(pruned, taken=left, kept={**pruned.kept, **kept})


def move(names: Iterable[str], source: Path, target: Path) -> None:
    """Move files from one tree into another; what is there already stays, what is gone stays away."""
    there: set[str] = set()
    for name in names:
        path, folder = f"{target}/{name}", os.path.dirname(name)
        with contextlib.suppress(FileNotFoundError, FileExistsError, NotADirectoryError):
            if folder not in there:
                os.makedirs(target / folder, exist_ok=True)  # unless the project put a file there
                there.add(folder)
            if not os.path.lexists(path):
                os.rename(f"{source}/{name}", path)
    remove_empty_directories({source / folder for folder in {os.path.dirname(name) for name in names}}, source)


def remove_empty_directories(directories: set[Path], top: Path) -> None:
    """Remove directories that have been emptied, and their parents that this empties."""
    for directory in directories:
        while directory != top:
            try:
                directory.rmdir()
            except OSError:
                break  # not empty, or gone already
            directory = directory.parent


def disposal(path: Path, name: str, code_folders: set[str], stubbed: set[str]) -> tuple[str, str] | None:
    """Say why a file of a dependency, other than its tests, is of no use in Lambda, and what goes with it."""
    for folder in folders_above(name):
        if os.path.basename(folder) in DOC_DIRECTORIES and folder not in code_folders:
            return "documentation", folder
    parent, file = os.path.split(name)
    suffix = os.path.splitext(file)[1]
    if name == ".lock" or (parent.endswith(".dist-info") and file in INSTALLER_FILES):
        return "installer's records", name
    if name.startswith("bin/") and is_python_script(path):
        return "console scripts", name
    if suffix in (".pyc", ".pyo") and (os.path.basename(parent) == "__pycache__" or path.with_suffix(".py").exists()):
        return "stale bytecode", name
    if suffix in BUILD_SUFFIXES:
        return "what only compilers read", name
    if suffix == STUB_SUFFIX and name.partition("/")[0] not in stubbed:
        return "type stubs", name
    return None


def folders_above(name: str) -> Iterator[str]:
    """Yield the folders that a file is in, from the inside out."""
    while name := name.rpartition("/")[0]:
        yield name


def test_suite(name: str) -> str | None:
    """Return the outermost test directory that a dependency's file is in, relative to staging, or None."""
    return next(
        (folder for folder in [*folders_above(name)][::-1] if os.path.basename(folder) in TEST_DIRECTORIES), None
    )


def is_python_script(path: Path) -> bool:
    """Say whether a file is a script for Python, which names the builder's interpreter in its first line."""
    with path.open("rb") as file:
        first = file.readline(200)
    return first.startswith(b"#!") and (b"python" in first or first.startswith(b"#!/bin/sh"))


IMPORT = re.compile(
    r"(?:^|[;:])[ \t]*(?:from[ \t]+([.\w]+)[ \t]+import[ \t]*(\([^)]*\)|(?:\\\n|[^\n;])*)|import[ \t]+([^\n;]*))",
    re.MULTILINE,
)
TEST_STRING = re.compile(r"""["']((?:\w*\.)+tests?(?:\.\w+)*|tests?(?=/))(?:/[^"'\n]*)?["']""")
TESTS = re.compile(r"tests?(?!\w)")
ENTRY_POINT = re.compile(r"^[^=\n]+=\s*([\w.]+)", re.MULTILINE)


def imported_suites(text: str, name: str, suites: set[str]) -> dict[str, str]:
    """Return the test suites that a source file imports, or names in a string, and why they are to be kept.

    numpy.testing needs numpy._core.tests, and not before it is called; networkx once imported its
    own tests: a folder's name alone proves nothing.
    """
    # Most files speak neither of tests nor of a package that has some: what they import need not be known.
    tops = {suite: suite.partition("/")[0] for suite in suites}
    near = [suite for suite, top in tops.items() if name.startswith(f"{top}/") or top in text]
    found = near and speaks_of_tests(text)
    mentioned = {each for each in mentioned_modules(text, name) if "test" in each} if found else set()
    return {suite: f"imported by {name}" for suite in near if is_mentioned(suite.replace("/", "."), mentioned)}


def speaks_of_tests(text: str) -> bool:
    """Say whether a text has the word.  What begins with it is found five times as quickly as what begins with \\b."""
    return any(not re.match(r"\w", text[found.start() - 1 : found.start()]) for found in TESTS.finditer(text))


def keep_imported(listing: Listing, installed: Installed, pruned: Pruned, space: Workspace) -> Pruned:
    """Put back the test suites that the project's own code imports."""
    suites = {each.group for each in pruned.taken.values() if each.reason == "tests"}
    if not suites:
        return pruned
    found: dict[str, str] = {}
    for name, path, _ in listing:
        if name.endswith(".py") and name not in installed.owners:
            found |= imported_suites(path.read_text(errors="replace"), name, suites)
    return restore(space, pruned, found)


def is_mentioned(suite: str, mentioned: set[str]) -> bool:
    """Say whether a module, or one inside it, is among those mentioned."""
    return any(each == suite or each.startswith(f"{suite}.") for each in mentioned)


def mentioned_modules(text: str, name: str) -> Iterator[str]:
    """Yield the dotted names, absolute, of modules that a source file imports or names in a string.

    A regular expression, since parsing all of pandas takes as long as installing it.
    """
    if name.endswith(".txt"):
        yield from ENTRY_POINT.findall(text)
        return
    yield from imported_modules(text, name)
    package = PurePosixPath(name).parent.parts
    for each in TEST_STRING.findall(text):
        # "dep.tests.data" as it is; ".tests" and "tests/data.json" are beside the file.
        yield each if "." in each.strip(".") else ".".join([*package, each.strip(".")])


def imported_modules(text: str, name: str) -> Iterator[str]:
    """Yield the dotted names, absolute, of what a source file imports, wherever in it: modules, and what is in them."""
    package = list(PurePosixPath(name).parent.parts)
    for origin, names, plain in IMPORT.findall(text):
        if plain:
            yield from (part.split(" as ")[0].strip() for part in plain.split("#")[0].split(","))
            continue
        stripped = origin.lstrip(".")
        up = len(origin) - len(stripped)
        base = package[: len(package) - (up - 1)] if up else []
        module = ".".join([*base, *([stripped] if stripped else [])])
        yield module
        for each in re.findall(r"\w+", re.sub(r"#.*", "", names)):
            yield f"{module}.{each}" if module else each


# --- Dependencies from the former package -------------------------------------------------------------

PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)\s*(?:\[[^\]]*\])?\s*(===?[^\s;,]+)\s*(?:;|--hash|$)")
"""A line of a requirements file that allows one version only."""


@dataclass(frozen=True)
class Bundle:
    """The dependencies in a package, as they were before anything of the project's was there.

    It is stored beside each package (bundles/FUNCTION/SHA256.json).  A build that is to install the same
    takes the files from the function's last package, each of which must be what its distribution's
    RECORD says, and neither installs nor prunes.  They are no object that several functions share: what
    one project's build scripts have done to its dependencies can get into no other project's.
    """

    inputs: str
    """Digest of all that decides what is installed and pruned, other than what the package index has."""
    pinned: bool
    """Whether the index has no say: each version is spelled out."""
    installed: Installed
    pruned: Pruned
    compiled: Mapping[str, str] = field(default_factory=dict)
    """For each file of bytecode that we made for dependencies, what ``bytecode_digest`` says of it."""
    build: str = ""
    """Digest of all that decided what is in the package, see ``build_inputs``."""
    result: Mapping[str, Any] = field(default_factory=dict)
    """What was told of the package."""

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold of it."""
        installed = {**vars(self.installed), "provided": sorted(self.installed.provided)}
        pruned = {"taken": dict(self.pruned.taken), "kept": dict(self.pruned.kept)}
        return {**vars(self), "installed": installed, "pruned": pruned}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Bundle:
        """Read what ``to_json`` wrote; raise TypeError, ValueError or LookupError for what is of another version."""
        installed = {**value["installed"], "names": tuple(value["installed"]["names"])}
        installed["provided"] = frozenset(installed["provided"])
        taken = {name: Taken(*each) for name, each in value["pruned"]["taken"].items()}
        return cls(**{**value, "installed": Installed(**installed), "pruned": Pruned(taken, value["pruned"]["kept"])})


def bundle_key(package: str) -> str:
    """Return the key of the bundle of the package with this key."""
    return f"bundles/{package.removeprefix('packages/').removesuffix('.zip')}.json"


def read_bundle(target: Target, job: Job) -> Bundle | None:
    """Return the bundle of the package that a function runs; None if there is none that makes sense."""
    with contextlib.suppress(YoDawgError, ValueError, TypeError, LookupError, AttributeError):
        found = job.store.read(bundle_key(Package.of(target.name, target.code_sha256).key))
        return found and Bundle.from_json(json.loads(found[0]))
    return None


def store_bundle(package: Package, bundle: Bundle, job: Job) -> None:
    """Store what is known of a package's dependencies; without it the next build only takes longer."""
    try:
        job.store.upload_json(bundle_key(package.key), bundle.to_json())
    except DeployError as error:
        job.log.say(f"Warning: the next build cannot take over the dependencies of this one: {error}")


def digest_of(value: Any) -> str:
    """Return the SHA-256, in hex, of a value that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def builder_inputs(job: Job) -> list[Any]:
    """Return what of the builder itself has a say in what it makes: this file, its tools and settings."""
    ours, settings = [own_digest(), toolchain_inputs(job.builder)], job.settings
    return [*ours, sys.version, runtime_versions(), dict(settings.client), settings.index_secret]


@functools.cache
def runtime_versions() -> dict[str, str]:
    """Return the versions of what Lambda's runtime brings along."""
    found: dict[str, str] = {}
    for name in RUNTIME_PROVIDES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


@dataclass(frozen=True)
class Inputs:
    """What decides what is installed and pruned, other than what the package index has."""

    digest: str
    """Of all of it; none if something of the repository, or at an address, may be built or installed."""
    pins: frozenset[str]
    """NAME==VERSION for all that the requirements allow one version of only."""


def install_inputs(installer: Installer, job: Job) -> Inputs:
    """Return what decides what is installed; read before anything is, since what is built then might rewrite it."""
    checkout, source = installer.checkout, find_requirements(installer.checkout.project)
    folders = [each for each in (checkout.project, *checkout.project.parents) if each.is_relative_to(checkout.root)]
    places = [folder / name for folder in folders for name in (*REQUIREMENT_FILES, "uv.toml", ".python-version")]
    texts = {
        str(path.relative_to(checkout.root)): path.read_text(errors="surrogateescape")
        for path in places
        if path.is_file()
    }
    required = [text for _, text in sorted(checkout.required.texts.items())]
    if source and installer.requirements and source.name == "uv.lock":
        required.append(installer.requirements.read_text())
    lines = [line for text in required for each in whole_lines(text) if (line := uncommented(each).strip())]
    pins = frozenset(normal("".join(found)) for line in lines for found in PIN.findall(line))
    try:
        from_indexes = not checkout.required.origins and all(map(FROM_INDEX.fullmatch, lines))
        for name, text in texts.items():
            from_indexes = from_indexes and is_from_indexes(PurePosixPath(name).name, text, source)
    except (ValueError, RecursionError, TypeError, AttributeError):
        from_indexes = False  # the next stage says what is wrong with it
    everything = [builder_inputs(job), installer.toolchain.indexes, sorted(texts.items()), required]
    return Inputs(digest_of(everything) if from_indexes else "", pins)


FROM_INDEX = re.compile(
    r"""
    # A name and what versions of it; not a file, a folder or an address.
    (?!\S+\.(?:whl|zip|t[bglx]z|tar(?:\.\w+)?)(?:\s|$)) [A-Za-z0-9] [\w.-]* \s* (?:\[[\w\s.,-]*\])? [^/@:\\]*
        (?:--hash[=\s]\S+\s*)*
    | (?:-r|-c|--requirement|--constraint) [=\s]\s* (?!\S*:)\S+\.(?:txt|in)  # whose lines are looked at, too
    | (?:-i|-f|--index-url|--extra-index-url|--find-links) [=\s]\s* (?:https?://|/)\S+
    | --no-index | --pre | --prefer-binary | --require-hashes | (?:--only-binary|--no-binary|--trusted-host) [=\s].*
    """,
    re.VERBOSE,
)
"""A line of a requirements file that has nothing of the repository installed."""

UV_INDEXES = ("index", "index-url", "extra-index-url", "find-links")
UV_PLAIN = {
    *UV_INDEXES, "default-groups", "dev-dependencies", "exclude-newer", "index-strategy", "managed", "no-index",
    "package", "prerelease", "required-version", "resolution",
}  # fmt: skip
"""Settings of uv that have nothing of the repository installed, if the addresses of the first are addresses."""


def is_from_indexes(name: str, text: str, source: Path | None) -> bool:
    """Say whether a TOML file has nothing of the repository installed; raise ValueError or the like."""
    if name not in ("pyproject.toml", "uv.toml", "pylock.toml"):
        return True
    table = tomllib.loads(text)
    is_source = source is not None and source.name == name
    if name == "pylock.toml":
        packages = table["packages"]
        kept = [
            each for package in packages for each in (package, package.get("sdist", {}), *package.get("wheels", ()))
        ]
        return not is_source or not any(each.keys() & {"directory", "vcs", "archive", "path"} for each in kept)
    settings = table if name == "uv.toml" else table.get("tool", {}).get("uv", {})
    places = [settings.get(key, []) for key in UV_INDEXES]
    listed = [each for place in places for each in ([place] if isinstance(place, str) else place)]
    addresses = [each["url"] if isinstance(each, dict) else each for each in listed]
    if settings.keys() - UV_PLAIN or not all(re.match("https?://|/", each) for each in addresses):
        return False
    project = table.get("project", {}) if is_source else {}
    return "dependencies" not in project.get("dynamic", ()) and all(
        map(FROM_INDEX.fullmatch, project.get("dependencies", ()))
    )


def make_bundle(inputs: Inputs, installed: Installed, pruned: Pruned, listing: Listing) -> Bundle:
    """Describe what was installed, as listed, and pruned; without inputs if not all of it can be taken over."""
    left = {name for name, _, _ in listing} - pruned.taken.keys()
    whole = left <= installed.digests.keys() and all("==" in pin for pin in installed.pins)
    digests = {name: digest for name, digest in installed.digests.items() if name in left or name in pruned.taken}
    return Bundle(
        inputs=inputs.digest if whole else "",
        pinned=bool(inputs.digest) and whole and installed.pins <= inputs.pins,
        installed=replace(installed, digests=digests),
        pruned=pruned,
    )


def still_fits(bundle: Bundle, inputs: Inputs, installer: Installer, job: Job) -> bool:
    """Say whether what would be installed now is what the bundle holds."""
    if not inputs.digest or bundle.inputs != inputs.digest:
        return False
    if bundle.pinned:
        return True
    with job.log.step("resolve", "[3/8] look whether the requirements mean what they did"):
        return installer.resolve() == bundle.installed.pins


def unpack_bundle(bundle: Bundle, former: Former, space: Workspace) -> bool:
    """Write a bundle's files into staging, and into pruned/ what was put back; say whether they are what they were."""
    digests, taken = bundle.installed.digests, bundle.pruned.taken
    there = [name for name in former.names if name in digests]
    if digests.keys() - taken.keys() - set(there):
        return False

    make_folders((name for name in there if name not in taken), space.staging)
    make_folders((name for name in there if name in taken), space.pruned)

    def write(name: str) -> bool:
        target, digest = f"{space.pruned if name in taken else space.staging}/{name}", hashlib.sha256()
        former.extract(name, target, digest.update)
        if in_record(digest) == digests[name]:
            return True
        os.unlink(target)
        return name in taken

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return all([*pool.map(write, there)])


def take_kept(code_sha256: str, former: Former, space: Workspace) -> bool:
    """Let the kept dependencies of this package be staging; say whether they are what they were."""
    kept = SHELF.kept
    if kept is None or kept.package != code_sha256:
        return False
    SHELF.kept = None
    with contextlib.suppress(OSError, PackageError):  # it is gone, say
        os.rmdir(space.staging)
        os.rename(space.kept, space.staging)
        found = {name: since_when(status) for name, _, status in walk(space.staging)}
        folders = {
            entry.path for entry in entries_below(space.staging) if entry.is_dir()
        }  # an empty one can be imported
        meant = {f"{space.staging}/{folder}" for name in kept.files for folder in folders_above(name)}
        if (found, folders) == (kept.files, meant) and not space.staging.is_symlink():
            former.written |= kept.files
            return True
    return False


def drop_kept(space: Workspace) -> None:
    """Remove the dependencies that were kept."""
    SHELF.kept = None
    if os.path.lexists(space.kept):
        remove_tree(space.kept)


def keep_dependencies(made: Made, written: Mapping[str, tuple[Identity, int]], space: Workspace) -> None:
    """Keep a package's dependencies and their bytecode for the next build, each if it is what it was when it was made.

    Nothing of a project runs any more, or will before they are read-only.
    """
    bundle, there = made.bundle, {name: path for name, path, _ in made.files}
    digests, taken = bundle.installed.digests, bundle.pruned.taken
    total = sum(status.st_size for _, _, status in made.files)
    is_plain = not taken.keys() & there.keys() and not digests.keys() - taken.keys() - there.keys()
    if not (bundle.inputs and is_plain and total <= MAX_SHELF_BYTES):
        return
    files = {}
    for name, path, status in made.files:
        if source_of(name) not in digests:
            os.unlink(f"{space.staging}/{name}")  # the project's
            continue
        digest = bundle.compiled.get(name) or digests.get(name)
        if written.get(name) != since_when(status):
            content = path.read_bytes()
            is_ours = name in bundle.compiled
            found = bytecode_digest(there[source_of(name)], content) if is_ours else in_record(hashlib.sha256(content))
            if found != digest or str(path) != f"{space.staging}/{name}":
                return
        if status.st_mode & 0o222:
            path.chmod(0o555 if status.st_mode & stat.S_IXUSR else 0o444)
        files[name] = since_when(path.lstat())
    for entry in [*entries_below(space.staging)][::-1]:
        if entry.is_dir(follow_symlinks=False):
            with contextlib.suppress(OSError):  # it is not empty
                os.rmdir(entry.path)
    if files and not os.access(space.staging / next(iter(files)), os.W_OK):  # nobody is above such rights here
        os.rename(space.staging, space.kept)
        SHELF.kept = Kept(made.archive.sha256, files)


def open_dependencies(compiled: Iterable[str], staging: Path) -> None:
    """Let make_dist.sh find the dependencies of the package before as it finds new ones: writable, without bytecode."""
    for name in compiled:
        with contextlib.suppress(OSError):
            os.unlink(staging / name)
    remove_empty_directories({staging / os.path.dirname(name) for name in compiled}, staging)
    for _, path, status in walk(staging):
        path.chmod(stat.S_IMODE(status.st_mode) | stat.S_IWUSR)


# --- Stage: stage the project ---------------------------------------------------------------------


def stage(checkout: Checkout, rules: Rules, shell: Shell, log: Log) -> None:
    """Lay the project over its dependencies: with its make_dist.sh, or else all but what is no use."""
    script, staging = checkout.project / "make_dist.sh", Workspace(checkout.root.parent).staging
    if script.is_file():
        run_make_dist(checkout, staging, shell)
    else:
        copied, left_out = copy_project(checkout, staging, rules)
        log.quote(f"no make_dist.sh: copied {copied} files, left out {', '.join(left_out) or 'none'}")


def run_make_dist(checkout: Checkout, staging: Path, shell: Shell) -> None:
    """Run the project's make_dist.sh with the staging directory; raise BuildScriptError."""
    try:
        shell.run(
            Command(
                ["bash", checkout.project / "make_dist.sh", staging],
                cwd=checkout.project,
                environ={"COMMIT": checkout.commit},
            )
        )
    except CommandFailed as error:
        refuse_if_disk_full(error, Workspace(staging.parent))
        raise BuildScriptError(
            f"make_dist.sh {error.ending}. It runs with bash in the project's folder, and can count on bash, "
            f"coreutils, grep, sed and Python only.{error.quoted_tail}"
        ) from None
    check_workspace(Workspace(staging.parent), BuildScriptError)


def copy_project(checkout: Checkout, staging: Path, rules: Rules) -> tuple[int, list[str]]:
    """Link a project's files into staging; return how many, and the names at its root that were left out.

    Raises PackageError for links out of the repository: the build of a requirement may have made some.
    """
    copied = 0
    top, root = checkout.project.resolve(), checkout.root.resolve()
    if not top.is_relative_to(root):
        raise PackageError("The build of a requirement has replaced the project's folder by a link out of it.")
    kept = {top / each for name in rules.keep for each in [PurePosixPath(name), *PurePosixPath(name).parents]}

    def is_junk(path: Path) -> bool:
        return path not in kept and is_project_junk(path, top=path.parent == top)

    there: set[str] = set()
    for name, path in tree_files(top, root, is_junk):
        above = [top / each for each in folders_above(name)] if kept else []
        beside_kept = any(each in kept and is_project_junk(each, top=each.parent == top) for each in above)
        if name in rules.drop or (beside_kept and name not in rules.keep):
            continue
        if str(path).removeprefix(f"{root}/") not in checkout.files:
            continue  # the build of a requirement left it (setuptools' build/, say): it is not the project's
        folder = os.path.dirname(name)
        make_readable(path)
        try:
            if folder not in there:
                os.makedirs(staging / folder, exist_ok=True)
                there.add(folder)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{staging}/{name}")  # the project's file wins over a dependency's
            link(path, f"{staging}/{name}")
        except (IsADirectoryError, NotADirectoryError, FileExistsError):
            raise PackageError(
                f"The project's {name!r} collides with a dependency's file or folder: rename it."
            ) from None
        copied += 1
    return copied, [printable(path.name) for path in sorted(top.iterdir()) if is_project_junk(path, top=True)]


def link(path: Path, target: str) -> None:
    """Let a file have another name, too; copy it where that cannot be."""
    try:
        os.link(path, target)
    except OSError as error:
        if error.errno not in (errno.EMLINK, errno.EPERM, errno.EXDEV):
            raise
        shutil.copy2(path, target)


def is_project_junk(path: Path, *, top: bool) -> bool:
    """Say whether a file or folder of a project is of no use in Lambda."""
    return bool(junk_pattern(top=top).match(path.name)) or os.path.isfile(f"{path}/pyvenv.cfg")


@functools.cache
def junk_pattern(*, top: bool) -> re.Pattern[str]:
    """Return what matches the names of such files and folders, at a project's root or below it."""
    patterns = (*PROJECT_JUNK, *PROJECT_ROOT_JUNK) if top else PROJECT_JUNK
    return re.compile("|".join(map(fnmatch.translate, patterns)))


# --- Stage: prove --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Proof:
    """What importing the handler came to."""

    loaded: frozenset[str] = frozenset()
    """The modules' files that the import loaded, relative to staging."""
    sought: frozenset[str] = frozenset()
    """What it looked for and did not find: modules as paths without suffix, files as they are."""
    failure: str | None = None
    """What it failed with, in one line."""
    hopeless: bool = False
    """Whether it would fail in Lambda just so: a module that is missing, or is no Python."""
    tail: str = ""
    """The last lines of what it printed, the traceback among them."""
    with_layers: bool = True
    """Whether all of the function's layers were there."""
    layer_bytes: int = 0
    """What they unzip to."""
    intact: frozenset[str] = frozenset()
    """The files that nobody has touched since before the import."""
    listing: Listing | None = None
    """All that there is after it, if somebody has looked."""


NO_LAYERS = "none"
"""What is not there, for functions without layers: the builder's own are none of theirs."""


def fetch_layers(target: Target, job: Job) -> tuple[Path, int] | None:
    """Fetch a function's layers and unpack them over each other, as Lambda does in /opt.

    Returns the folder and the bytes of all of them, as Lambda counts; None if one cannot be had.
    """
    folder, total = job.space.layers / (target.name if target.layers else NO_LAYERS), 0
    archive = job.space.root / "layer.zip"
    for arn in target.layers:
        try:
            with aws_says(f"read the layer {arn}"):
                content = job.aws.functions.get_layer_version_by_arn(Arn=arn)["Content"]
            with archive.open("w+b") as file:
                fetch_from_aws(content["Location"], file)
                file.seek(0)
                if hashlib.file_digest(file, "sha256").hexdigest() != in_hex(content["CodeSha256"]):
                    raise OSError("it has another SHA-256 than Lambda says")
            # In a child, since it is another's.
            said = job.shell.run(Command([*own_program(unpack_layer, "-S"), archive, folder], job.space.root))
            total += int(said.split()[-2])
        except (YoDawgError, CommandFailed, OSError, LookupError, ValueError) as error:
            told = error.tail if isinstance(error, CommandFailed) else str(error)
            job.log.say(f"Warning: the layer {arn} cannot be read: {printable(told)}.")
            return None
    return folder, total


def fetch_from_aws(place: str, target: IO[bytes]) -> None:
    """Copy what an address that AWS gave us holds into an open file; raise OSError."""
    if urllib.parse.urlsplit(place).scheme not in ("https", "http"):
        raise OSError("AWS gives no address for it")
    with urllib.request.urlopen(place, timeout=60) as source:  # noqa: S310  # AWS's own
        shutil.copyfileobj(source, target, 1 << 20)


def unpack_layer() -> None:
    """Unpack a zip over what is there, links included.  Runs as a program of its own, like ``import_handler``."""
    import os
    import stat
    import sys
    import zipfile

    archive, folder = zipfile.ZipFile(sys.argv[1]), sys.argv[2]
    os.makedirs(folder, exist_ok=True)
    for info in archive.infolist():
        path = os.path.join(folder, info.filename)
        if os.path.islink(path):
            os.unlink(path)
        path = archive.extract(info, folder)
        if stat.S_ISLNK(info.external_attr >> 16):
            os.unlink(path)
            os.symlink(archive.read(info), os.fsencode(path))
    print(sum(info.file_size for info in archive.infolist()), "bytes")


def hide_environment(target: Target, log: Log) -> None:
    """Let no log show what a function's environment variables hold that look like secrets."""
    for name, value in target.environment.items():
        if SECRET_NAME.search(name) or re.search(r"://[^/\s]*@", value):
            log.hide(value)


def prove(
    pruned: Pruned, target: Target, job: Job, meanwhile: Callable[[], object] = lambda: None
) -> tuple[Proof, Pruned]:
    """Import the target's handler from staging; what pruning took and the import misses is put back.

    An import that fails without naming what it misses is tried once more with everything back: if
    that mends it, pruning broke it.  What the project drops stays away: many an import has a use for
    what it can do without.
    """
    if job.settings.proof == "off":
        return Proof(), pruned
    space = job.space
    hide_environment(target, job.log)
    layers = fetch_layers(target, job)
    while True:
        proof = try_import(target, layers, job, meanwhile)
        found = {name: each for name, each in pruned.taken.items() if is_sought(name, proof.sought)}
        groups = {each.group for each in found.values() if each.reason != DROPPED}
        if not groups:
            break
        pruned = restore(space, pruned, dict.fromkeys(sorted(groups), f"the import of {target.handler} looks for it"))
    if proof.failure and pruned.taken:
        reason = f"{target.handler} cannot be imported without it"
        ours = {each.group for each in pruned.taken.values() if each.reason != DROPPED}
        whole = restore(space, pruned, dict.fromkeys(ours, reason))
        again = try_import(target, layers, job, meanwhile)
        if not again.failure:
            return again, whole
        move(pruned.taken, space.staging, space.pruned)
    if proof.failure and found:
        told = f"{proof.failure} (it looks for {min(found)}, which drop in pyproject.toml takes away)"
        proof = replace(proof, failure=told)
    return proof, pruned


def prove_all(
    pruned: Pruned, targets: Sequence[Target], job: Job, meanwhile: Callable[[], object]
) -> tuple[list[tuple[Target, Proof]], Pruned]:
    """Prove the package for each function that gets it; once that goes on, begin something else."""
    proofs = []
    if job.settings.proof == "off":
        meanwhile()
    for target in targets:
        proof, pruned = prove(pruned, target, job, meanwhile)
        proofs.append((target, proof))
    remove_tree(job.space.layers)
    return proofs, pruned


def is_sought(name: str, sought: frozenset[str]) -> bool:
    """Say whether a file, or a folder that it is in, or the module that it is, is among what was sought."""
    path = PurePosixPath(name)
    return not sought.isdisjoint([name, name.partition(".")[0], *(str(folder) for folder in path.parents)])


def try_import(target: Target, layers: tuple[Path, int] | None, job: Job, meanwhile: Callable[[], object]) -> Proof:
    """Import the handler in a child that has the package, read-only, its layers, and the function's own variables."""
    space, staging = job.space, str(job.space.staging)
    answer = space.root / "proof.json"
    remove_tree(answer)
    module, _, function = target.handler.rpartition(".")
    opt, layer_bytes = layers or ("/opt", 0)
    runtime = job.settings.runtime_dir or "/var/runtime"
    prover = prover_command(str(opt), job)
    environ = {
        **dict.fromkeys(("AWS_REGION", "AWS_DEFAULT_REGION"), job.builder.arn.split(":")[3]),
        "AWS_EC2_METADATA_DISABLED": "true",  # there are no credentials, and none need be looked for
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{job.builder.runtime}",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(target.memory_mb),
        "AWS_LAMBDA_FUNCTION_NAME": target.name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": target.log_group,
        "AWS_LAMBDA_LOG_STREAM_NAME": f"{time.strftime('%Y/%m/%d', time.gmtime())}/[$LATEST]{'0' * 32}",
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "AWS_XRAY_DAEMON_ADDRESS": "169.254.100.1:2000",
        "LAMBDA_RUNTIME_DIR": runtime,
        "LAMBDA_TASK_ROOT": staging,
        "LANG": "en_US.UTF-8",
        **({} if job.builder.runtime == "python3.11" else {"LC_CTYPE": "C.UTF-8"}),
        **prover.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.defpath}:{opt}/bin",
        "PWD": staging,
        "PYTHONPATH": runtime,
        "SHLVL": "0",
        "TMPDIR": str(space.scratch),
        "TZ": ":UTC",
        "_AWS_XRAY_DAEMON_ADDRESS": "169.254.100.1",
        "_AWS_XRAY_DAEMON_PORT": "2000",
        "_HANDLER": target.handler,
        **{
            name: re.sub("(^|:)/opt(?=/|:|$)", rf"\g<1>{opt}", value.replace("/var/task", staging))
            for name, value in target.environment.items()
        },
    }
    # As Lambda's own /var/runtime/bootstrap.py does: layers come after the package, unless the function has a
    # PYTHONPATH of its own; the .pth files of both are read; and what the runtime brings comes last.
    has_own_path = bool(target.environment.get("PYTHONPATH"))
    own_path = [each for each in environ["PYTHONPATH"].split(":") if each] if has_own_path else []
    of_layers = [f"{opt}/python/lib/{job.builder.runtime}/site-packages", f"{opt}/python"]
    sites = [staging] if own_path else [staging, *of_layers]
    question = {
        "module": module.replace("/", "."),
        "function": function,
        "path": [*sites, *own_path, *site.getsitepackages(), runtime],
        "sites": sites,
        "environ": environ,
        "seconds": SECONDS_TO_IMPORT,
        "answer": str(answer),
    }
    trees = [tree for tree in (space.staging, space.layers) if tree.exists()]
    for tree in trees:
        close_tree(tree)
    try:
        printed = job.shell.run(replace(prover, stdin=json.dumps(question).encode()), meanwhile)
        ending = "ended the process"
    except CommandFailed as error:
        refuse_if_disk_full(error, space)
        printed, ending = error.tail, error.ending
    check_workspace(space, PackageError)
    for tree in trees:
        open_folders(tree)
    proof = read_proof(answer, CommandFailed(0, printed.splitlines()).tail, ending)
    return replace(
        proof,
        failure=proof.failure and job.log.mask(proof.failure),
        with_layers=layers is not None,
        layer_bytes=layer_bytes,
    )


def prover_command(opt: str, job: Job) -> Command:
    """Return the command of the child that imports a handler, with layers in a folder."""
    staging = job.space.staging
    libraries = ":".join(filter(None, [job.settings.library_path, f"{staging}", f"{staging}/lib", f"{opt}/lib"]))
    return Command(own_program(import_handler, "-s"), job.space.root, {"LD_LIBRARY_PATH": libraries})


def close_files(listing: Listing) -> Listing:
    """Make files read-only, as in Lambda; return what they are now."""
    closed = []
    for name, path, status in listing:
        if status.st_mode & 0o222:
            path.chmod(stat.S_IMODE(status.st_mode) & ~0o222)
            closed.append((name, path, path.stat()))
        else:
            closed.append((name, path, status))
    return closed


def outlast(listing: Listing, folder: Path) -> None:
    """Wait until a change of any of these files would be of another moment than what they are.

    The kernel's clock may tick only every 10 ms (before Linux 6.13).
    """
    last = max((status.st_ctime_ns for _, _, status in listing), default=0)
    with tempfile.TemporaryFile(dir=folder) as probe:
        while os.fstat(probe.fileno()).st_ctime_ns <= last:
            os.fchmod(probe.fileno(), stat.S_IRUSR)


def close_tree(root: Path) -> None:
    """Make all in a tree read-only."""
    folders = [str(root)]
    for entry in entries_below(root):
        if entry.is_dir(follow_symlinks=False):
            folders.append(entry.path)
        elif not entry.is_symlink() and (mode := entry.stat().st_mode) & 0o222:
            os.chmod(entry.path, stat.S_IMODE(mode) & ~0o222)
    for folder in folders:
        os.chmod(folder, stat.S_IRUSR | stat.S_IXUSR)


def open_folders(root: Path) -> None:
    """Let us change what is in the folders of a tree, whatever modes they have."""
    todo = [str(root)]
    while todo:
        folder = todo.pop()
        os.chmod(folder, stat.S_IRWXU)
        with os.scandir(folder) as entries:
            todo += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]


def read_proof(path: Path, tail: str, ending: str) -> Proof:
    """Read what the child says of an import; a project's code ran in it, and it may say anything."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            said = json.loads(file.read(MAX_ANSWER))
        return Proof(
            loaded=frozenset(str(name) for name in said["loaded"]),
            sought=frozenset(str(name) for name in said["sought"]),
            failure=said["failure"] and printable(str(said["failure"])),
            hopeless=said["hopeless"] is True,
            tail=tail,
        )
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return Proof(failure=f"the import {ending}", tail=tail)


def import_handler() -> None:
    """Import a handler as Lambda does, and write down what that took.  Runs as a program of its own.

    The program is this function's source and nothing else (see ``try_import``): the names of this
    file, and the modules that it loads, must not be there.
    """
    import gc
    import importlib
    import json
    import os
    import signal
    import site
    import sys
    import traceback

    gc.set_threshold(1_000_000)  # in what is all new there is no garbage, and to look for it takes a tenth of the time
    job = json.load(sys.stdin)
    task = job["path"][0] + "/"
    sought = set()

    class Misses:
        """The last of the finders: it is asked for a module when no other knows it."""

        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> None:
            sought.add(name.replace(".", "/"))

    def watch(event: str, args: tuple[object, ...]) -> None:
        if event in ("open", "os.listdir", "os.scandir") and isinstance(args[0], (str, bytes, os.PathLike)):
            name = os.path.join(task, os.fsdecode(args[0]))
            if name.startswith(task):
                sought.add(os.path.normpath(name)[len(task) :])

    os.chdir(task)
    os.environ.clear()
    os.environ.update(job["environ"])
    sys.path[:] = [*job["path"], *(each for each in sys.path if each not in job["path"])]
    sys.meta_path.append(Misses)
    sys.addaudithook(watch)
    signal.alarm(job["seconds"])
    failure, hopeless = None, False
    try:
        for each in job["sites"]:
            site.addsitedir(each)
        module = importlib.import_module(job["module"])
        if not hasattr(module, job["function"]):
            failure, hopeless = f"{job['module']} defines no {job['function']!r}", True
    except BaseException as error:
        traceback.print_exc()
        failure = traceback.format_exception_only(error)[-1].strip()
        hopeless = isinstance(error, (ImportError, SyntaxError))
    files = [str(getattr(each, "__file__", None)) for each in list(sys.modules.values())]
    loaded = [os.path.relpath(name, task) for name in files if name.startswith(task)]
    missed = [name for name in sought if not os.path.lexists(task + name)]
    said = {"loaded": loaded, "sought": missed, "failure": failure, "hopeless": hopeless}
    with open(job["answer"], "x") as file:
        json.dump(said, file)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # not held up by threads that the import has started


def check_proof(proof: Proof, target: Target, setting: str) -> list[str]:
    """Raise PackageError for an import that failed, or return a warning where it might work in Lambda.

    It might where the function has layers that could not be read; and, unless the operator set
    proof = require, where it failed for another reason than a missing module: it may want the
    network, or credentials.
    """
    if proof.failure is None:
        return []
    hopeless = proof.hopeless and proof.with_layers
    text = f"The handler {target.handler} of {target.name} cannot be imported from the package: {proof.failure}"
    if not hopeless and setting != "require":
        return [
            f"{text.rstrip('.')}. It may work in Lambda, with what the builder has not; its traceback is in the log"
        ]
    advice = (
        "Is it named in the requirements, or copied by make_dist.sh?"
        if hopeless
        else "The import has the function's environment variables, but no credentials; proof = warn in config.ini "
        "would deploy it all the same."
    )
    raise PackageError(f"{text.rstrip('.')}. {advice} The last lines of the import:\n{proof.tail}")


# --- Stage: compile --------------------------------------------------------------------------------


def compile_ahead(targets: Sequence[Target], listing: Listing, installed: Installed, job: Job) -> dict[str, str]:
    """Compile on all processors what the proof would else compile on one; return what ``bytecode_digest`` says of it.

    What that is is a guess: what the handlers' modules import, and what these do, as the bytecode says; but what has
    bytecode was loaded before, with all that it imports.  Only the proof can tell, and of what it does not load
    nothing stays.
    """
    there = {name for name, _, _ in listing}
    sizes = {name: status.st_size for name, _, status in listing if name.endswith(".py")}
    new = {name: size for name, size in sizes.items() if importlib.util.cache_from_source(name) not in there}
    modules = [target.handler.rpartition(".")[0].replace("/", ".") for target in targets]
    try:
        return run_compiler(new, modules, installed, job)
    except PackageError as error:
        job.log.quote(f"not compiled ahead: {error}")
        for path in (job.space.staging / importlib.util.cache_from_source(name) for name in new):
            with contextlib.suppress(OSError):  # where its folder is a file, say: the cause of it all
                path.unlink()
        return {}


def lay_former_bytecode(
    listing: Listing, former: Former | None, compiled: Mapping[str, str], installed: Installed
) -> dict[str, str]:
    """Lay the bytecode that we made for the former package beside sources that are the same; return the digests.

    The proof is quicker by it; what of it the package does not need is taken away again.  Bytecode is
    what runs, and nobody reads it: what the project's code made, or has put in the place of ours, must
    not come back once the project is clean.
    """
    laid: dict[str, str] = {}
    if former is None:
        return laid
    files = {name: (path, status) for name, path, status in listing}
    for name, digest in compiled.items():
        if source_of(name) not in files or source_of(name) not in installed.owners or name not in former.names:
            continue
        source, status = files[source_of(name)]
        is_ours = former.written.get(source_of(name)) == since_when(status)
        if name in files:  # kept, unless the project made it
            path, status = files[name]
            if former.written.get(name) == since_when(status):
                if is_ours:
                    laid[name] = digest
                else:
                    path.unlink()
            continue
        content, target = former.read(name), importlib.util.cache_from_source(str(source))
        is_of_this_python = os.path.basename(target) == os.path.basename(name)
        fits = is_of_this_python and content.startswith(importlib.util.MAGIC_NUMBER + b"\1\0\0\0")
        if fits and bytecode_digest(source, content) == digest and not os.path.islink(os.path.dirname(target)):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            former.extract(name, target)
            laid[name] = digest
    return laid


def source_of(name: str) -> str:
    """Return the name of the module that this bytecode was made of; of any other file, its own name."""
    return re.sub(r"__pycache__/([^/]+)\.[a-z]+-\d+\.pyc$", r"\1.py", name)


def in_record(digest: Any) -> str:
    """Return a digest as a RECORD has it."""
    return base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()


def bytecode_digest(source: Path, content: bytes) -> str:
    """Return the SHA-256, in hex, of a module and its bytecode."""
    return hashlib.sha256(hashlib.sha256(source.read_bytes()).digest() + content).hexdigest()


@dataclass(frozen=True)
class Compiled:
    """A package with its bytecode."""

    files: Listing
    digests: Mapping[str, str]
    """What ``bytecode_digest`` says of the bytecode that we made for dependencies, now or before."""
    warnings: tuple[str, ...] = ()


def write_bytecode(proof: Proof, laid: Mapping[str, str], installed: Installed, job: Job) -> Compiled:
    """Compile the modules that the handler's import has loaded, so that a first start is as quick as a second.

    Those are a third of all, in bytes; with bytecode = all, or without a proof, it is every one.
    What make_dist.sh compiled itself stays, and of what was laid that which is needed.  Of what bytecode
    would make too large for Lambda some goes without, with a warning.
    """
    space, setting = job.space, job.settings.bytecode
    listing = walk(space.staging) if proof.listing is None else proof.listing
    if setting == "none":
        return Compiled(listing, {})
    files = {name: (path, status) for name, path, status in listing}
    every = setting == "all" or job.settings.proof == "off"
    names = [name for name in files if name.endswith(".py") and (every or name in proof.loaded)]
    wanted = {importlib.util.cache_from_source(name): files[name][0] for name in names}
    digests: dict[str, str] = {}
    for name in laid.keys() & files.keys():
        is_intact = {name, source_of(name)} <= proof.intact
        if name in wanted and (is_intact or bytecode_digest(wanted[name], files[name][0].read_bytes()) == laid[name]):
            digests[name] = laid[name]
        else:
            files.pop(name)[0].unlink()
    before = files.keys() - laid.keys()
    missing = [name for name in names if importlib.util.cache_from_source(name) not in files]
    if missing:
        new = run_compiler({name: files[name][1].st_size for name in missing}, None, installed, job)
        digests |= {name: digest for name, digest in new.items() if source_of(name) in installed.owners}
        files = {name: (path, status) for name, path, status in walk(space.staging)}
    total = sum(status.st_size for _, status in files.values()) + proof.layer_bytes
    over, left_out = total - MAX_UNZIPPED_BYTES, 0
    for name in sorted(files.keys() - before, reverse=True):
        if over > 0:
            path, status = files.pop(name)
            path.unlink()
            over, left_out = over - status.st_size, left_out + 1
    for name in sorted(files.keys() & wanted.keys() - before):
        if source_of(name) in installed.owners and name not in digests:
            digests[name] = bytecode_digest(wanted[name], files[name][0].read_bytes())
    told = f"{total:,} bytes, more than Lambda takes: {left_out} modules go without"
    return Compiled(
        files=[(name, *each) for name, each in files.items()],
        digests={name: digests[name] for name in sorted(digests.keys() & files.keys())},
        warnings=(f"with all bytecode the package would unzip to {told}",) if left_out else (),
    )


def run_compiler(
    sizes: Mapping[str, int], modules: Sequence[str] | None, installed: Installed, job: Job
) -> dict[str, str]:
    """Compile modules in staging, by the bytes of each, or those of them that some of them import.

    Returns what ``bytecode_digest`` says of the bytecode.  Raises PackageError if that fails other than by what
    they hold.
    """
    answer = job.space.root / "compiled.json"
    answer.unlink(missing_ok=True)
    question = {
        "root": str(job.space.staging),
        "sizes": dict(sizes),
        "modules": modules,
        "checked": [name for name in sizes if name not in installed.owners],
        "workers": os.cpu_count(),
        "answer": str(answer),
    }
    if not sizes:
        return {}
    try:
        job.shell.run(replace(compiler_command(job.space), stdin=json.dumps(question).encode()))
        return dict(json.loads(answer.read_bytes()))
    except CommandFailed as error:
        refuse_if_disk_full(error, job.space)
        raise PackageError(f"Cannot compile the package: the compiler {error.ending}.{error.quoted_tail}") from None


def compiler_command(space: Workspace) -> Command:
    """Return the command of the child that compiles modules."""
    return Command(own_program(compile_modules, "-S", uses=[compile_module, imports_of]), space.root, is_ours=True)


def compile_modules() -> None:
    """Compile modules, on all processors, the largest first.  Runs as a program of its own, like ``import_handler``.

    All that are named, or, of these, some and what they import.  No process pool: there is no /dev/shm in Lambda.
    """
    import contextlib  # noqa: F401  # that it is there when it is needed
    import gc  # noqa: F401
    import hashlib  # noqa: F401
    import importlib.util  # noqa: F401
    import json
    import marshal  # noqa: F401
    import os
    import select
    import sys

    job = json.load(sys.stdin)
    sizes, checked = job["sizes"], set(job["checked"])
    workers: dict[int, int] = {}  # by the pipe that each answers through, the one that it is asked through
    for _ in range(job["workers"]):
        (asked, ask), (told, tell) = os.pipe(), os.pipe()
        if os.fork() == 0:
            for line in os.fdopen(asked):
                name = json.loads(line)
                if not name:
                    break
                answer = compile_module(job["root"], name, name in checked)
                os.write(tell, json.dumps([name, *answer]).encode() + b"\n")
            os._exit(0)
        os.close(tell)
        os.close(asked)
        workers[told] = ask
    todo: list[str] = [] if job["modules"] else [*sizes]
    unseen = set(sizes) if job["modules"] else set()
    made: dict[str, str] = {}

    def want(module: str) -> None:
        while module:  # and the packages that it is in
            path = module.replace(".", "/")
            for name in (f"{path}/__init__.py", f"{path}.py"):
                if name in unseen:
                    unseen.remove(name)
                    todo.append(name)
            module = module.rpartition(".")[0]

    for module in job["modules"] or ():
        want(module)
    idle, busy = [*workers], set[int]()
    pending = dict.fromkeys(workers, b"")
    while todo or busy:
        todo.sort(key=sizes.__getitem__)
        while todo and idle:
            worker = idle.pop()
            busy.add(worker)
            os.write(workers[worker], json.dumps(todo.pop()).encode() + b"\n")
        for worker in select.select([*busy], [], [])[0]:
            said = os.read(worker, 1 << 16)
            if not said:
                sys.exit(1)  # it has told why
            pending[worker] += said
            if said.endswith(b"\n"):
                name, target, digest, modules = json.loads(pending[worker])
                pending[worker] = b""
                busy.remove(worker)
                idle.append(worker)
                if digest:
                    made[target] = digest
                for module in modules:
                    want(module)
    for ask in workers.values():
        os.write(ask, b'""\n')
    with open(job["answer"], "x") as file:
        json.dump(made, file)
    for _ in workers:
        os.wait()  # or our output would stay open


def compile_module(root: str, name: str, is_checked: bool) -> tuple[str, str, list[str]]:
    """Compile a module in a folder; return its bytecode's name and ``bytecode_digest``, and what it imports.

    The bytecode of dependencies is never checked against its source ("unchecked"): a check by date would
    always fail, since all files in a package have one date.  That of the project's own modules is,
    by a hash: who edits one in the Lambda console must not edit in vain.  (PEP 552 has both.)  It
    names its source as Lambda will.  Version 2 of marshal writes no references: where a later one
    puts them depends on what else the process has compiled, and two builds would differ.
    """
    import contextlib
    import gc
    import hashlib
    import importlib.util
    import marshal
    import os

    gc.disable()  # there is nothing to find
    target = importlib.util.cache_from_source(name)
    with open(f"{root}/{name}", "rb") as file:
        text = file.read()
    try:
        code = compile(text, f"/var/task/{name}", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return target, "", []  # a template, or Python of another age: nobody imports it
    try:
        content = marshal.dumps(code, 2)
    except ValueError:
        content = marshal.dumps(code)  # Python 3.14 has constants that version 2 cannot write
    flags = b"\3\0\0\0" if is_checked else b"\1\0\0\0"
    content = importlib.util.MAGIC_NUMBER + flags + importlib.util.source_hash(text) + content
    os.makedirs(os.path.dirname(f"{root}/{target}"), exist_ok=True)
    with open(f"{root}/{target}", "xb") as file:
        file.write(content)
    imported: list[str] = []
    with contextlib.suppress(LookupError, TypeError):  # it is a guess, and another Python may write it otherwise
        imported = imports_of(code, name.rpartition("/")[0].replace("/", "."))
    return target, hashlib.sha256(hashlib.sha256(text).digest() + content).hexdigest(), imported


def imports_of(code: Any, package: str) -> list[str]:
    """Return the dotted names of what a module's bytecode imports once it is run: modules, and what is in them.

    Not what functions import when they are called, and nothing for type checkers.  An import is three instructions
    (see the dis module): how many packages up, which names, both constants but in Python 3.14, and IMPORT_NAME.
    """
    import sys
    from opcode import opmap

    operations, arguments, found = code.co_code[::2], code.co_code[1::2], []

    def instruction(at: int) -> tuple[int, int, int]:
        """Return an instruction, its whole argument, and where the one before it is."""
        argument, shift, before = arguments[at], 8, at - 1
        while before >= 0 and operations[before] == opmap["EXTENDED_ARG"]:
            argument |= arguments[before] << shift
            shift, before = shift + 8, before - 1
        return operations[at], argument, before

    def positions(name: str) -> list[int]:
        each, all_of_them = opmap.get(name, 256), []
        at = operations.find(each) if each < 256 else -1
        while at >= 0:
            all_of_them.append(at)
            at = operations.find(each, at + 1)
        return all_of_them

    typing = []  # where what is for type checkers begins and ends
    if "TYPE_CHECKING" in code.co_names:
        jumps = [*positions("POP_JUMP_IF_FALSE"), *positions("POP_JUMP_FORWARD_IF_FALSE")]
        loads = [("LOAD_NAME", 0), ("LOAD_ATTR", int(sys.version_info >= (3, 12)))]
        for name, shift in loads:
            for at in positions(name):
                argument = instruction(at)[1] >> shift
                if argument < len(code.co_names) and code.co_names[argument] == "TYPE_CHECKING":
                    typing += [(jump, jump + 1 + instruction(jump)[1]) for jump in jumps if at < jump < at + 16][:1]
    for at in positions("IMPORT_NAME"):
        _, argument, before = instruction(at)
        _, names_at, before = instruction(before)
        operation, level, _ = instruction(before)
        if any(begin < at < end for begin, end in typing):
            continue
        names = code.co_consts[names_at] or ()
        level = level if operation == opmap.get("LOAD_SMALL_INT") else code.co_consts[level]
        parts = package.split(".")
        above = ".".join(parts[: len(parts) - level + 1]) if level else ""
        module = ".".join(filter(None, [above, code.co_names[argument]]))
        found += [module, *(f"{module}.{each}" for each in names)]
    return found


# --- Stage: zip -----------------------------------------------------------------------------------


def check_handler(staging: Path, target: Target) -> list[str]:
    """Raise PackageError if the function's handler is not in the package; return warnings.

    Where the function has layers, the module may be in one of them, and only a warning is given.
    """
    module_name, _, function = target.handler.rpartition(".")
    module = staging / module_name.replace(".", "/")
    source = next(
        (path for path in (module.with_name(module.name + ".py"), module / "__init__.py") if path.is_file()),
        None,
    )
    if source is None:
        if any(module.parent.glob(f"{module.name}.*.so")):
            return []
        if target.layers:
            return [f"the handler {target.handler} is not in the package; it must be in one of the function's layers"]
        there = sorted(printable(path.name) for path in staging.glob("*.py"))
        raise PackageError(
            f"The handler of {target.name} is {target.handler!r}, but the package has no "
            f"{module.relative_to(staging)}.py. Python files at its root: {', '.join(there[:10]) or 'none'}. "
            "Change the function's Handler, or what make_dist.sh copies."
        )
    try:
        names = bound_names(source.read_bytes())
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        reason = f"{error.msg} (line {error.lineno})" if isinstance(error, SyntaxError) else str(error) or "too complex"
        raise PackageError(
            f"{source.relative_to(staging)}, which the handler {target.handler!r} is in, is not valid Python: {reason}."
        ) from None
    if function not in names and "*" not in names:
        raise PackageError(
            f"The handler of {target.name} is {target.handler!r}, but {source.relative_to(staging)} defines no "
            f"{function!r}{nearest(function, dict.fromkeys(names))}. Change the function's Handler or the module."
        )
    return []


def bound_names(source: bytes) -> set[str]:
    """Return the names that a module binds at its top level; "*" stands for a star import."""
    names: set[str] = set()
    todo: list[ast.AST] = list(ast.parse(source).body)
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Store):
                names.add(node.id)
        elif not isinstance(node, ast.Lambda):
            todo += ast.iter_child_nodes(node)
    return names


def package_sizes(listing: Listing, owners: Mapping[str, str]) -> Counter[str]:
    """Return the bytes of each distribution in a package; what no one owns is "(project)"."""
    sizes: Counter[str] = Counter()
    for name, _, status in listing:
        sizes[owners.get(source_of(name), "(project)")] += status.st_size
    return sizes


def check_size(sizes: Counter[str], layer_bytes: int, pruned: Pruned) -> None:
    """Raise PackageError if Lambda would not take a package of this size: before the work of zipping it."""
    total = sizes.total() + layer_bytes
    if total > MAX_UNZIPPED_BYTES:
        sizes = sizes + Counter({"(layers)": layer_bytes})
        table = "\n".join(f"  {size(count):>10}  {name}" for name, count in sizes.most_common(LARGEST))
        took = ", ".join(f"{reason} {size(count)}" for reason, count in pruned.reasons.items())
        kept = "".join(f"\nKept: {group}, {reason}" for group, reason in pruned.kept.items())
        raise PackageError(
            f"The package unzips to {total:,} bytes; Lambda takes less than {MAX_UNZIPPED_BYTES + 1:,} (250 MB), "
            "layers included. Take a dependency out of the requirements, or what it does not need out of the "
            f"package (drop, in [tool.yo-dawg] of pyproject.toml). Its largest parts:\n{table}\n"
            f"Pruned already: {took or 'nothing'}{kept}"
        )


# --- Stage: deploy --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Alias:
    """A name for a version, as Lambda describes it."""

    version: str
    revision: str | None
    is_weighted: bool
    """Whether it sends a share of the traffic to a second version."""


@dataclass(frozen=True)
class Target:
    """The function to update, as Lambda describes it."""

    name: str
    arn: str
    handler: str
    timeout: int
    """Seconds."""
    code_sha256: str
    revision: str | None
    layers: tuple[str, ...]
    """The ARNs of its layers' versions."""
    state: str
    busy: bool
    failure: str | None
    alias: Alias | None = None
    """The alias that the request names, if it is there."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Its environment variables."""
    architecture: str = "x86_64"
    memory_mb: int = 128
    log_group: str = ""

    @classmethod
    def from_configuration(cls, answer: Mapping[str, Any]) -> Target:
        """Read the answer of GetFunctionConfiguration."""
        status = answer.get("LastUpdateStatus")
        state = str(answer.get("State", "Active"))
        return cls(
            name=answer["FunctionName"],
            arn=answer["FunctionArn"],
            handler=answer.get("Handler", ""),
            timeout=int(answer.get("Timeout", 3)),
            code_sha256=answer.get("CodeSha256", ""),
            revision=answer.get("RevisionId"),
            layers=tuple(each["Arn"] for each in answer.get("Layers") or ()),
            state=state if state != "Failed" else f"Failed ({answer.get('StateReason', 'no reason given')})",
            busy=status == "InProgress" or state == "Pending",
            failure=str(answer.get("LastUpdateStatusReason", "no reason given")) if status == "Failed" else None,
            environment=answer.get("Environment", {}).get("Variables", {}),
            architecture=(answer.get("Architectures") or ["x86_64"])[0],
            memory_mb=int(answer.get("MemorySize", 128)),
            log_group=(answer.get("LoggingConfig") or {}).get("LogGroup", f"/aws/lambda/{answer['FunctionName']}"),
        )


def check_deployable(function: str, builder: Builder, settings: Settings) -> None:
    """Raise DeployError if the function is not one that this builder may update.  Asks AWS nothing."""
    name = function_name(function)
    parts = FUNCTION.fullmatch(function)
    account = parts and parts["account"]
    region = parts and parts["region"]
    if (account and account != builder.account) or (region and region != builder.arn.split(":")[3]):
        raise DeployError(f"{function} is in another account or region than this builder, {builder.arn}.")
    if name == builder.name:
        raise DeployError(f'{name} is this builder, and does not update itself: use "./deploy.sh bootstrap".')
    if not any(fnmatch.fnmatchcase(name, pattern) for pattern in settings.deployable):
        raise DeployError(
            f"{name} is not among the functions that {builder.name} may update ({', '.join(settings.deployable)}). "
            'Add it to deployable_functions in config.ini and run "./deploy.sh bootstrap".'
        )


def describe_function(aws: Aws, name: str, version: str | None = None) -> dict[str, Any]:
    """Ask Lambda about a function, or about a version of it; raise DeployError."""
    qualifier = {"Qualifier": version} if version else {}

    def ask() -> dict[str, Any]:
        try:
            return dict(aws.functions.get_function_configuration(FunctionName=name, **qualifier))
        except aws.functions.exceptions.ResourceNotFoundException:
            if version:
                raise DeployError(f"{name} has no version {version}.") from None
            raise DeployError(f"There is no function {name} in this account and region. Create it first.") from None

    return insist(f"look at the function {name}", ask)


def look_at_target(aws: Aws, name: str, builder: Builder) -> Target:
    """Ask Lambda about the target; raise DeployError if this builder cannot serve it."""
    answer = describe_function(aws, name)
    if answer.get("PackageType", "Zip") != "Zip":
        raise DeployError(f"{name} is a container image function; yo-dawg builds zip packages only.")
    runtime, target = answer.get("Runtime"), Target.from_configuration(answer)
    if (runtime, target.architecture) != (builder.runtime, builder.architecture):
        raise DeployError(
            f"{name} runs on {runtime}, {target.architecture}; this builder is {builder.runtime}, "
            f"{builder.architecture}, and what it builds fits only that. "
            f"{sibling_advice(aws, f'{runtime}-{target.architecture}')}"
        )
    if target.state not in ("Active", "Inactive", "Pending"):
        raise DeployError(f"{name} is {target.state}: mend it first, or delete it and create it anew.")
    return target


def sibling_advice(aws: Aws, platform: str) -> str:
    """Say which builder would fit a platform: template.yaml tags each with its own."""
    filters = [{"Key": "yo-dawg:platform", "Values": [platform]}]
    try:
        with aws_says("look for other builders"):
            found = aws.tags.get_resources(TagFilters=filters, ResourceTypeFilters=["lambda:function"])
    except DeployError:
        found = {}
    names = [function_name(each["ResourceARN"]) for each in found.get("ResourceTagMappingList", [])]
    if names:
        return f"Ask the builder {' or '.join(names)} instead."
    return (
        "Change the function, or deploy a second yo-dawg (a config.ini with another function_name, runtime and "
        "architecture)."
    )


def preflight(name: str, request: BuildRequest | RollbackRequest, builder: Builder, aws: Aws) -> Target:
    """Find out before the work whether the function can be deployed at its end; raise DeployError.

    Lambda is asked to do as if: DryRun checks the permissions and, for the code, whether it must be signed.
    """
    wait_until_updated(aws, name)
    target = look_at_target(aws, name, builder)
    insist(
        f"update the function {name}",
        lambda: aws.functions.update_function_code(
            FunctionName=name, ZipFile=rehearsal_zip(), Architectures=[target.architecture], DryRun=True
        ),
    )
    if request.test_event is not None:
        insist(
            f"invoke {name} with the test event",
            lambda: aws.functions.invoke(FunctionName=name, InvocationType="DryRun"),
        )
    return replace(target, alias=look_at_alias(name, request.alias, aws)) if request.alias else target


def rehearsal_zip() -> bytes:
    """Return the smallest package that Lambda could take."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        # Lambda takes a package whose files are all empty for an empty one.
        archive.writestr(zipfile.ZipInfo("rehearsal.txt", ZIP_EPOCH), "Not to be deployed\n")
    return content.getvalue()


def look_at_alias(name: str, alias: str, aws: Aws) -> Alias | None:
    """Ask Lambda about an alias; None if there is none of this name."""
    with aws_says(f"look at the alias {alias} of {name}"):
        try:
            answer = aws.functions.get_alias(FunctionName=name, Name=alias)
        except aws.functions.exceptions.ResourceNotFoundException:
            return None
    weights = (answer.get("RoutingConfig") or {}).get("AdditionalVersionWeights")
    return Alias(answer["FunctionVersion"], answer.get("RevisionId"), bool(weights))


def wait_until_updated(aws: Aws, name: str, version: str | None = None) -> Target:
    """Wait until Lambda is done with an update of the function, or with a new version; the deadline ends the wait."""
    pause = 0.1
    while (target := Target.from_configuration(describe_function(aws, name, version))).busy:
        time.sleep(pause)
        pause = min(2 * pause, 1.0)  # Lambda takes 15 such questions a second of a whole account
    return target


@dataclass(frozen=True)
class Package:
    """A package in S3, and what it was built from."""

    key: str
    code_sha256: str
    commit: str | None = None

    @classmethod
    def of(cls, function: str, code_sha256: str, commit: str | None = None) -> Package:
        """Return a function's package by its digest, in base64: that is its name, in hex."""
        return cls(f"packages/{function}/{in_hex(code_sha256)}.zip", code_sha256, commit)

    @property
    def hex_digest(self) -> str:
        """Its SHA-256 in hex."""
        return in_hex(self.code_sha256)


@dataclass(frozen=True)
class Deployment:
    """What became of one function."""

    status: str
    function: str
    function_arn: str
    code_sha256: str
    s3_uri: str
    version: str = "$LATEST"
    alias: str | None = None
    warnings: tuple[str, ...] = ()


def deploy(package: Package, target: Target, request: BuildRequest | RollbackRequest, job: Job) -> Deployment:
    """Let a function run a stored package: update, test, publish, move the alias; raise DeployError, PackageError."""
    changes = differs(package, target, request)
    if not changes and what_it_runs(target, job.aws) != target.code_sha256:
        raise DeployError(
            f"Somebody else has updated {target.name} since this build began. Build again if this commit is to win."
        )
    keeping = job.keeping.pop(target.name, None)
    warnings = []
    if changes:
        warnings = keeping.result() if keeping else keep_present(target, request, job)
    running = update_and_test(package, target, request, job)
    version = "$LATEST"
    if isinstance(request, RollbackRequest) and request.to and VERSION.fullmatch(request.to):
        version = request.to
    elif request.publish or request.alias:
        version = publish(running, package, job.aws)
    moved = request.alias is not None and point_alias(target, request.alias, version, job.aws)
    if moved or changes:
        tag(target, package, job)
    is_left = target.alias is not None and target.alias.is_weighted
    if target.alias and is_left:
        warnings.append(
            f"the alias {request.alias} shares its traffic between two versions, so it was left at version "
            f"{target.alias.version}; point it at version {version} when that is decided"
        )
    return Deployment(
        status="deployed" if changes or moved else "unchanged",
        function=target.name,
        function_arn=target.arn,
        code_sha256=package.code_sha256,
        s3_uri=job.store.uri(package.key),
        version=version,
        alias=None if is_left else request.alias,
        warnings=tuple(warnings),
    )


def differs(package: Package, target: Target, request: BuildRequest | RollbackRequest) -> bool:
    """Say whether a function has to be updated: what Lambda failed to take last is not there."""
    return package.code_sha256 != target.code_sha256 or request.force or target.failure is not None


def what_it_runs(target: Target, aws: Aws) -> str:
    """Return the digest of the code that a function runs now."""
    return Target.from_configuration(describe_function(aws, target.name)).code_sha256


def update_and_test(package: Package, target: Target, request: BuildRequest | RollbackRequest, job: Job) -> Target:
    """Give a function a package, unless it runs that already, and try it with the test event, if there is one.

    A package that fails is taken back, also when time runs out or Lambda's answer fails to come: what
    was not tested is not deployed.
    Raises PackageError, DeployError.
    """
    changes = differs(package, target, request)
    present = Package.of(target.name, target.code_sha256)
    try:
        running = put_code(package, target, job.store, job.aws) if changes else target
        problem = "" if request.test_event is None else run_test(running, request.test_event, job)
    except NotRun as error:
        undone = put_back(present, running, job) if changes else ""
        raise DeployError(f"{error}{undone}") from None
    except (OutOfTime, DeployError):
        if changes and request.test_event is not None:
            left = job.builder.until - time.time()
            with contextlib.suppress(DeadlineError), deadline(int(left * 1000), job.log):
                put_back(present, replace(target, code_sha256=package.code_sha256), job)
        raise
    if problem:
        undone = put_back(present, running, job) if changes else ""
        raise PackageError(f"The new code of {target.name} failed its test event: {problem}{undone}")
    return running


def put_code(package: Package, before: Target, store: Store, aws: Aws) -> Target:
    """Point a function at a stored package, wait until Lambda has taken it, and verify that; raise DeployError.

    Somebody else's change of its settings does not matter, a change of its code does: RevisionId
    guards the moment between our look and our update.
    """
    tried = False

    def update() -> None:
        nonlocal tried
        current = wait_until_updated(aws, before.name)
        if current.code_sha256 not in (before.code_sha256, package.code_sha256):
            raise DeployError(
                f"Somebody else has updated {before.name} since this build began. Build again if this commit is to win."
            )
        if tried and current.code_sha256 == package.code_sha256:
            return  # Lambda took it, and its answer was lost
        tried = True
        revision = {"RevisionId": current.revision} if current.revision else {}
        aws.functions.update_function_code(
            FunctionName=before.name, S3Bucket=store.bucket, S3Key=f"{store.prefix}/{package.key}",
            Architectures=[current.architecture],  # x86_64 is the default, whatever the function is
            **kept_settings(before.name, package, store, aws), **revision,
        )  # fmt: skip

    insist(f"update the function {before.name}", update)
    updated = wait_until_updated(aws, before.name)
    if updated.failure:
        raise DeployError(f"Lambda did not take the new code of {before.name}: {updated.failure}.")
    if updated.code_sha256 != package.code_sha256:
        raise DeployError(
            f"{before.name} runs code with the digest {updated.code_sha256}, not this build's {package.code_sha256}: "
            "somebody else updated it in the meantime. Build again if this commit is to win."
        )
    return updated


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


def kept_settings(name: str, package: Package, store: Store, aws: Aws) -> dict[str, str]:
    """Return what an update must say again so that it stays: the key that encrypts the code, and its place.

    Of these UpdateFunctionCode takes the default where they are not given (its API reference).
    """
    code = aws.functions.get_function(FunctionName=name)["Code"]
    kept: dict[str, str] = {}
    if code.get("SourceKMSKeyArn"):
        kept["SourceKMSKeyArn"] = code["SourceKMSKeyArn"]
    if code.get("ResolvedS3Object"):  # the function runs its code from S3, where it must stay as it is
        kept["S3ObjectStorageMode"] = "REFERENCE"
        kept["S3ObjectVersion"] = store.object_version(package.key)
    return kept


def keep_present(target: Target, request: BuildRequest | RollbackRequest, job: Job) -> list[str]:
    """Store the code that a function runs now, unless it is stored: then it can be put back.

    Returns a warning if it cannot be had; raises DeployError if a test event may ask for it.
    """
    package = Package.of(target.name, target.code_sha256)
    try:
        if not job.store.holds(package.key, package.hex_digest):
            fetch_code(package, target.name, job)
            job.log.quote("kept the code that it ran until now")
    except (DeployError, OSError) as error:
        problem = f"the code that {target.name} runs now could not be kept, and so cannot be put back: {error}"
        if request.test_event is not None:
            raise DeployError(f"A test event wants a way back, but {problem}") from None
        return [problem.rstrip(".")]
    return []


def fetch_code(package: Package, name: str, job: Job) -> None:
    """Copy the code that a function runs from Lambda into the store; raise DeployError, OSError."""
    with aws_says(f"look at the code of {name}"):
        place = job.aws.functions.get_function(FunctionName=name)["Code"].get("Location", "")
    with tempfile.TemporaryFile(dir=job.space.root) as body:  # without a name: a build may run meanwhile
        fetch_from_aws(place, body)
        body.seek(0)
        if hashlib.file_digest(body, "sha256").hexdigest() != package.hex_digest:
            raise DeployError("Lambda handed out another package.")
        job.store.upload(package.key, body, "application/zip", package.code_sha256)


def run_test(target: Target, event: object, job: Job) -> str:
    """Invoke the new code with the test event; return what is wrong with its answer, or "".

    It runs once only, since nobody knows what an event does twice; but it is asked to until it does,
    or until what time there is left is needed to undo.  Raises NotRun.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    hide_environment(target, job.log)
    pause = 0.2
    while True:
        left = job.builder.until - time.time() - SECONDS_TO_REPORT - SECONDS_TO_UNDO
        waiting = max(1.0, min(target.timeout + 5.0, left))
        functions = patient(job.aws, waiting).functions
        try:
            reply = functions.invoke(FunctionName=target.name, Payload=json.dumps(event).encode(), LogType="Tail")
            answer = reply["Payload"].read(TAIL_BYTES).decode(errors="replace")
            break
        except (ClientError, BotoCoreError) as error:
            may_run = may_still_run(error)
            if may_run is None:
                return f"it gave no answer within {waiting:.0f} s, or could not be invoked: {error}."
            left = job.builder.until - time.time() - SECONDS_TO_REPORT - SECONDS_TO_UNDO
            if not may_run or left < pause:
                raise NotRun(
                    f"The test event of {target.name} could not be run, so nothing is known of the code: {error}. "
                ) from None
        time.sleep(pause)
        pause = min(2 * pause, 5.0)
    if "FunctionError" not in reply:
        job.log.quote("passed its test event")
        return ""
    tail = base64.b64decode(reply.get("LogResult", "")).decode(errors="replace")[-TAIL_BYTES // 2 :]
    printed = "\n".join(printable(line) for line in tail.splitlines())
    return f"{told_error(answer)}\nThe end of its log:\n{printed}\n"


def may_still_run(error: Exception) -> bool | None:
    """Say whether a function that was not run may be run soon; None if it was run, or nobody knows."""
    from botocore.exceptions import ClientError, ConnectTimeoutError, EndpointConnectionError

    if not isinstance(error, ClientError):  # the request was not even sent, or there is no telling
        return True if isinstance(error, (ConnectTimeoutError, EndpointConnectionError)) else None
    code = error_code(error).removesuffix("Exception")
    return True if code in NOT_YET_RUN.split() else False if code in NOT_RUN.split() else None


def told_error(answer: str) -> str:
    """Return a function's error as people read it, from the JSON that it answered with."""
    try:
        error = json.loads(answer)
        return printable(f"{error['errorType']}: {error['errorMessage']}")
    except (ValueError, LookupError, TypeError):
        return printable(answer)


def put_back(package: Package, running: Target, job: Job) -> str:
    """Put back what a function ran before; return "", or why that failed."""
    try:
        put_code(package, running, job.store, job.aws)
    except DeployError as error:
        return f"The old code could not be put back: {error} "
    job.log.quote("put back the code that it ran before")
    return ""


def publish(running: Target, package: Package, aws: Aws) -> str:
    """Publish what the function runs as a version, and wait until that can be invoked; return its number.

    Lambda answers with the last version where neither code nor settings have changed since.
    """
    description = f"yo-dawg: {package.commit or package.hex_digest}"
    answer = insist(
        f"publish a version of {running.name}",
        lambda: aws.functions.publish_version(
            FunctionName=running.name, CodeSha256=running.code_sha256, Description=description
        ),
    )
    version = str(answer["Version"])
    published = wait_until_updated(aws, running.name, version)
    if published.state not in ("Active", "Inactive"):
        raise DeployError(f"Version {version} of {running.name} cannot be invoked: it is {published.state}.")
    return version


def point_alias(target: Target, name: str, version: str, aws: Aws) -> bool:
    """Point an alias at a version, if it is still as the preflight found it; say whether it was moved."""
    found, here = target.alias, {"FunctionName": target.name, "Name": name}
    if found and (found.is_weighted or found.version == version):
        return False
    revision = {"RevisionId": found.revision} if found and found.revision else {}

    def point() -> None:
        try:
            if found is None:
                aws.functions.create_alias(**here, FunctionVersion=version)
            else:
                aws.functions.update_alias(**here, FunctionVersion=version, **revision)
        except aws.functions.exceptions.ClientError as error:
            if error_code(error) not in CHANGED:
                raise
            now = look_at_alias(target.name, name, aws)
            if now == found:
                raise  # nobody has changed it: Lambda is at something else
            if now is None or now.version != version:  # else it was us, and the answer was lost
                raise DeployError(
                    f"Somebody else has changed the alias {name} of {target.name} since this build began, so it was "
                    f"left alone. Version {version} is published. Build again if the alias is to point at it."
                ) from None

    insist(f"point the alias {name} of {target.name} at version {version}", point)
    return True


def tag(target: Target, package: Package, job: Job) -> None:
    """Let the function itself say where its code comes from; a role that may not does no harm."""
    tags = {"yo-dawg:commit": package.commit or "unknown", "yo-dawg:build": job.builder.request_id}
    try:
        with aws_says(f"tag {target.name}"):
            job.aws.functions.tag_resource(Resource=target.arn, Tags=tags)
    except DeployError as error:
        job.log.quote(f"not tagged: {error}")


def what_runs(target: Target, package: Package, aws: Aws) -> str:
    """Say after a failure which code a function runs."""
    try:
        now = Target.from_configuration(describe_function(aws, target.name))
    except DeployError as error:
        return f"What {target.name} runs now cannot be told: {error}"
    if now.busy:
        return f"Lambda is still at an update of {target.name}: look at it again before you rely on it."
    if now.code_sha256 == package.code_sha256 != target.code_sha256:
        return f"{target.name} runs the new code."
    if now.code_sha256 == target.code_sha256:
        return f"{target.name} runs the code that it ran before."
    return f"{target.name} runs code of somebody else's, {now.code_sha256}."


def tidy(target: Target, ledger: Ledger, job: Job) -> None:
    """Delete packages of a function that nobody will put back any more.

    Those of its last builds stay, and those of its last versions and of versions that an alias names.
    """
    stored = job.store.packages(target.name)
    if len(stored) <= KEPT_PACKAGES:
        return
    entries = [each for each in (ledger.entry, *ledger.history) if each.status not in NOT_DEPLOYED]
    digests = [digest for each in entries for digest in (each.code_sha256, each.replaces) if digest]
    needed = {*list(dict.fromkeys(digests))[:KEPT_PACKAGES], target.code_sha256, *versions_code(target.name, job.aws)}
    keys = {Package.of(target.name, digest).key for digest in needed}
    if doomed := [key for key in stored if key not in keys]:
        job.store.delete([*doomed, *map(bundle_key, doomed)])
        job.log.quote(f"deleted {len(doomed)} old packages")


def versions_code(name: str, aws: Aws) -> set[str]:
    """Return the digests of the code of a function's last versions, and of those that an alias names."""
    with aws_says(f"list the versions of {name}"):
        versions = list(pages(aws.functions.list_versions_by_function, "Versions", name))
        aliases = list(pages(aws.functions.list_aliases, "Aliases", name))
    numbered = [each for each in versions if each["Version"] != "$LATEST"]
    last = sorted(numbered, key=lambda each: int(each["Version"]))[-KEPT_VERSIONS:]
    named = {
        version
        for each in aliases
        for version in (each["FunctionVersion"], *(each.get("RoutingConfig") or {}).get("AdditionalVersionWeights", {}))
    }
    return {each["CodeSha256"] for each in [*last, *(each for each in versions if each["Version"] in named)]}


def pages(call: Callable[..., Any], items: str, name: str) -> Iterator[Any]:
    """Yield what one of Lambda's lists holds, page after page."""
    marker: dict[str, str] = {}
    while True:
        answer = call(FunctionName=name, **marker)
        yield from answer.get(items, [])
        if not answer.get("NextMarker"):
            return
        marker = {"Marker": answer["NextMarker"]}


# --- Actions --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """What an action works with."""

    settings: Settings
    builder: Builder
    space: Workspace
    log: Log
    shell: Shell
    aws: Aws
    store: Store
    ledgers: list[Ledger] = field(default_factory=list)
    """Those that this invocation may hold; it lets go of them at its end."""
    keeping: dict[str, Future[list[str]]] = field(default_factory=dict)
    """By function, what keeps the code that it runs now, see ``keep_present``, if that has begun."""
    aside: Executor = field(default_factory=functools.partial(ThreadPoolExecutor, 3))
    """For work beside the main one.  Nobody waits for it at the end: a download may hang."""
    unpacking: Executor = field(default_factory=functools.partial(ThreadPoolExecutor, 2))
    """For what writes into the workspace: at the end that is waited for, or it would write into the next one."""

    @functools.cached_property
    def toolchain(self) -> dict[str, Any] | None:
        """Which toolchain is stored, read once, see ``stored_toolchain``."""
        return stored_toolchain(self.store, self.builder, self.space)

    @functools.cached_property
    def indexes(self) -> tuple[str, ...]:
        """The addresses of private package indexes, read once."""
        return package_indexes(self.aws, self.settings, self.log)


def bootstrap(request: BootstrapRequest, job: Job) -> dict[str, Any]:
    """Make the toolchain in a virtualenv, prove it, and store it; do nothing if the stored one fits."""
    space, store, log = job.space, job.store, job.log
    with log.step("look", "[1/5] look for a toolchain"):
        stored = None if request.force else stored_toolchain(store, job.builder, space)
        ours = stored is not None and stored.get("code") == own_digest()
        fits = ours and all(store.holds(toolchain_key(each), each) for each in (stored or {})["parts"].values())
    if stored is not None and fits:
        log.say("The stored toolchain fits.")
        return bootstrap_result("unchanged", stored, job)
    with log.step("virtualenv", "[2/5] make a virtualenv"):
        virtualenv = make_virtualenv(space, job.shell)
    with log.step("install", "[3/5] install the toolchain"):
        install_toolchain(virtualenv, space, job.shell)
        toolchain = collect_toolchain(virtualenv, space, job.shell)
        packages = list(look_at_installed(toolchain.packages).names)
    with log.step("zip", "[4/5] zip"):
        archives = zip_toolchain(toolchain, space)
        zipped = ", ".join(f"{size(archive.zip_bytes)} for {part}" for part, archive in archives.items())
        log.quote(f"{sum(archive.files for archive in archives.values())} files, zipped {zipped}")
    with log.step("upload", "[5/5] upload"):
        made = store_toolchain(archives, packages, job.builder, store)
    return bootstrap_result("bootstrapped", made, job)


def bootstrap_result(status: str, made: Mapping[str, Any], job: Job) -> dict[str, Any]:
    """Return bootstrap's answer (contract §5).  The zip that it names is the one with Dulwich."""
    return {
        "status": status,
        "toolchain": {
            "s3_uri": job.store.uri(toolchain_key(made["parts"]["git"])),
            "sha256": made["parts"]["git"],
            "packages": made["packages"],
        },
        "seconds": seconds(job.log),
    }


def build(request: BuildRequest, job: Job) -> dict[str, Any]:
    """Build one project, and deploy it to each of the functions; of what has not changed, do no more than is needed."""
    names = [function_name(each) for each in request.functions]
    # What a clone takes is laid out while AWS and the Git host are asked, if it need not be fetched for that.
    early = job.aside.submit(kept_toolchain, job)
    found = [look_at_target(job.aws, name, job.builder) for name in names]
    before = None if request.force else read_bundle(found[0], job)
    may_look = before is not None and before.pinned and not request.dry_run
    if may_look:  # its interpreter is there by the time that this is the only build
        job.shell.prepare(look_program(job.space))
    take_ledgers(names, request, job)
    source = Source.from_settings(job.settings, job.aws, request.repo_name, job.log)
    if may_look and (look := look_command(source, request, job.space)):
        job.shell.prepare(look)
    targets = [preflight(name, request, job.builder, job.aws) for name in names]
    if not request.force and found[0].code_sha256 != targets[0].code_sha256:
        before = read_bundle(targets[0], job)
    if before and before.pinned and not request.dry_run and (commit := look_at_ref(source, request, job)):
        note_commit(*commit, job)
        if answer := earlier_answer(request, targets, job) or unchanged(before, request, targets, job):
            return answer
    if SHELF.kept and SHELF.kept.package != targets[0].code_sha256:
        drop_kept(job.space)
    former = job.aside.submit(former_package, targets[0], job)
    lay = functools.cache(lambda: job.unpacking.submit(take_over, before, targets[0], former, job.space))
    # Where the index has no say, they are most likely those of this build, too.
    installer = fetch_project(source, request, Early(early, lay if before and before.pinned else None), job)
    note_commit(installer.checkout.commit, installer.checkout.ref, job)
    if answer := earlier_answer(request, targets, job):
        return answer
    inputs = install_inputs(installer, job)  # before any code runs that could change what is read for it
    fitting = before if before and still_fits(before, inputs, installer, job) else None
    if fitting and (answer := unchanged(fitting, request, targets, job)):
        return answer
    compiled = before.compiled if before and job.settings.bytecode != "none" else {}
    known = Before(former, lay, fitting, compiled, inputs, not request.dry_run)
    made = make_package(installer, targets, known, job)
    package_before, keeps = former.result(), not request.dry_run and job.settings.tmp_is_ours
    keep = functools.partial(keep_dependencies, made, package_before.written if package_before else {}, job.space)
    job.unpacking.submit(clear, job.space, keep if keeps else lambda: None)
    told = package_result(made)
    bundle = replace(made.bundle, build=build_inputs(made.checkout.commit, request, targets, job), result=told)
    packages = [Package.of(name, made.archive.sha256, made.checkout.commit) for name in names]
    SHELF.put(made.archive.hex_digest, made.archive.zipped)
    with job.log.step("deploy", f"[8/8] deploy {', '.join(names)}"):
        if request.dry_run:
            deployments = [rehearse(package, target, job) for package, target in zip(packages, targets, strict=True)]
        else:
            job.keeping[names[0]] = job.aside.submit(keep_present, targets[0], request, job)
            noted = [job.aside.submit(store_bundle, package, bundle, job) for package in packages]
            for package in packages if not made.is_stored else ():
                store_package(package, made.archive, job)
            for each in noted:
                each.result()
            deployments = deploy_all(packages, targets, request, job)
    return build_result(told, request, deployments, job)


def note_commit(commit: str, ref: str, job: Job) -> None:
    """Remember in the ledgers what is being built."""
    for ledger in job.ledgers:
        ledger.entry = replace(ledger.entry, commit=commit, ref=ref)


def build_inputs(commit: str, request: BuildRequest, targets: Sequence[Target], job: Job) -> str:
    """Return a digest of all that decides what is in the package, other than what the requirements resolve to."""
    proved = [[target.handler, dict(target.environment), target.layers] for target in targets]
    asked = [job.settings.repository_url(request.repo_name), request.subdirectory, commit]
    return digest_of([builder_inputs(job), job.indexes, job.settings.proof, job.settings.bytecode, proved, asked])


def unchanged(before: Bundle, request: BuildRequest, targets: Sequence[Target], job: Job) -> dict[str, Any] | None:
    """Deploy what the functions run already, if a build would make just that: publish, test, move the alias.

    None if it would make something else, or if that cannot be told.
    """
    told, digests = before.result, {target.code_sha256 for target in targets}
    if request.dry_run or request.force or digests != {told.get("code_sha256")}:
        return None
    commit = job.ledgers[0].entry.commit or ""
    packages = [Package.of(target.name, target.code_sha256, commit) for target in targets]
    if before.build != build_inputs(commit, request, targets, job):
        return None
    if not all(job.store.holds(package.key, package.hex_digest) for package in packages):
        return None
    job.log.say(f"{told['code_sha256']} was built from just this before.")
    with job.log.step("deploy", f"[8/8] deploy {', '.join(target.name for target in targets)}"):
        deployments = deploy_all(packages, targets, request, job)
    return build_result({**told, "ref": job.ledgers[0].entry.ref}, request, deployments, job)


@dataclass(frozen=True)
class Early:
    """What may have begun, or may begin, before there is a checkout."""

    toolchain: Future[Toolchain | None]
    lay: Callable[[], Future[bool]] | None
    """Lays the dependencies of the package before into staging."""


def fetch_project(source: Source, request: BuildRequest, early: Early, job: Job) -> Installer:
    """Get the toolchain, and with it the project.

    While the Git host is at work, uv is fetched, or that laid by which there is probably no need for uv.
    """
    log, lay = job.log, early.lay
    with log.step("toolchain", "[1/8] get the toolchain"):
        if lay:
            lay()
        toolchain = early.toolchain.result() or get_toolchain(job, *([] if lay else ["uv"]))
        if lay:
            get_ready(job, compiler=True, prover=False)
        else:
            toolchain.bring("uv")
    with log.step("clone", f"[2/8] clone {source.url}"):
        checkout = clone(source, request, toolchain, job.shell)
        log.quote(f"{checkout.ref} is at commit {checkout.commit}")
        read_patterns(checkout.project)  # what makes no sense is refused before the work
        if lay and lay().result():
            get_ready(job, compiler=False, prover=True)
    toolchain = replace(toolchain, indexes=job.indexes)
    return Installer(checkout, toolchain, job.builder, job.shell)


@dataclass(frozen=True)
class Made:
    """A package that is ready to be deployed, and how it came about."""

    checkout: Checkout
    installed: Installed
    pruned: Pruned
    sizes: Counter[str]
    archive: Archive
    warnings: tuple[str, ...]
    bundle: Bundle
    files: Listing
    """All that is in it, as it lies in staging."""
    is_stored: bool
    """Whether it is in S3 already."""


@dataclass(frozen=True)
class Before:
    """What there is of the build before."""

    former: Future[Former | None]
    """The package, which is being fetched."""
    lay: Callable[[], Future[bool]]
    """Lays the dependencies in it into staging, if they are not there yet; says whether they could be had."""
    bundle: Bundle | None
    """The dependencies in it, if they are those of this build too."""
    compiled: Mapping[str, str]
    """The bytecode in it that was ours, see ``Bundle``."""
    inputs: Inputs
    """What decides what is installed now."""
    stores: bool
    """Whether the package is to be stored."""


def former_package(target: Target, job: Job) -> Former | None:
    """Fetch what the function runs now; None if it is none of our packages, or cannot be had."""
    package = Package.of(target.name, target.code_sha256)
    with contextlib.suppress(YoDawgError, OSError, zipfile.BadZipFile):
        return fetch_zip(package.key, package.hex_digest, job)[1]
    return None


def make_package(installer: Installer, targets: Sequence[Target], before: Before, job: Job) -> Made:
    """Install, prune, stage, prove and zip; what has not changed is taken from the package before."""
    space, log, checkout, deflater = job.space, job.log, installer.checkout, installer.toolchain.deflater
    has_script = (checkout.project / "make_dist.sh").is_file()

    def zip_ahead(listing: Listing) -> None:
        ahead.add(listing)
        if is_known and before.stores:  # what was loaded before is loaded now, most likely, and all that ships
            ahead.store(listing, [target.name for target in targets])

    with Ahead(before.former, deflater, job) as ahead:
        with log.step("install", "[3/8] install requirements"):
            is_known = before.bundle is not None and before.lay().result()
            bundle = before.bundle if is_known else None
            if bundle is None:
                empty_staging(space)
                SHELF.make_room()
                installer.install(space.staging)
            elif has_script:
                open_dependencies(before.compiled, space.staging)
            listing = [] if bundle else walk(space.staging)
            if not (has_script or read_patterns(checkout.project)):
                ahead.add(entry for entry in listing if place_in_package(entry[0]) == 0)
            installed = bundle.installed if bundle else look_at_requirements(installer)
            log.quote(f"{len(installed.names)} packages{', as they were in the former package' if bundle else ''}")
        with log.step("prune", "[4/8] prune dependencies"):
            rules = read_rules(installer, bundle.pruned.taken if bundle else ())
            if bundle:
                pruned = replace(bundle.pruned, bring=functools.partial(installer.install, space.pruned))
            else:
                pruned = prune(listing, installed, rules, space)
                bundle = make_bundle(before.inputs, installed, pruned, listing)
            log.quote(f"{pruned.files} files, {size(pruned.bytes)}: {', '.join(pruned.reasons) or 'nothing'}")
            if installed.provided:
                log.quote(f"left to the runtime, whose own fit: {', '.join(sorted(installed.provided))}")
        with log.step("stage", "[5/8] stage the project"):
            stage(checkout, rules, job.shell, log)
            get_ready(job, compiler=True, prover=not targets[0].layers)
            listing = walk(space.staging)
            there, taken = {name for name, _, _ in listing}, pruned.taken
            pruned = keep_imported(listing, installed, pruned, space)
            laid = lay_former_bytecode(listing, before.former.result(), before.compiled, installed)
            if laid.keys() != there & before.compiled.keys() or len(pruned.taken) != len(taken):
                listing = walk(space.staging)
            warnings = [
                *checkout.warnings,
                *unread_requirements(checkout.project),
                *rules.warnings,
                *(each for target in targets for each in check_handler(space.staging, target)),
            ]
        with log.step("prove", f"[6/8] prove that {', '.join(target.handler for target in targets)} can be imported"):
            if not is_known:  # else it is all taken over, in no time
                ahead.add(entry for entry in listing if place_in_package(entry[0]) < 2)
            guesses = job.settings.bytecode != "none" and job.settings.proof != "off"
            with ahead.paused():  # the proof is waited for, and not what is compressed
                laid |= compile_ahead(targets, listing, installed, job) if guesses else {}
            listing = close_files(walk(space.staging))
            outlast(listing, space.root)
            proofs, pruned = prove_all(pruned, targets, job, functools.cache(lambda: zip_ahead(listing)))
            warnings += [each for target, proof in proofs for each in check_proof(proof, target, job.settings.proof)]
            closed, listing = listing, walk(space.staging)
        with log.step("zip", "[7/8] compile and zip"):
            proof = Proof(
                loaded=frozenset().union(*(each.loaded for _, each in proofs)),
                layer_bytes=max(each.layer_bytes for _, each in proofs),
                intact=same_files(closed, listing),
                listing=listing,
            )
            compiled = write_bytecode(proof, laid, installed, job)
            sizes = package_sizes(compiled.files, installed.owners)
            check_size(sizes, proof.layer_bytes, pruned)
            archive, is_stored = ahead.finish(compiled.files, proof.intact)
            log.quote(f"{archive.files} files, {size(archive.unzipped_bytes)}, zipped {size(archive.zip_bytes)}")
    bundle = replace(bundle, compiled=compiled.digests)
    return Made(
        checkout, installed, pruned, sizes, archive, (*warnings, *compiled.warnings), bundle, compiled.files, is_stored
    )


def same_files(before: Listing, now: Listing) -> frozenset[str]:
    """Return the names of the files that nobody has touched in between."""
    then = {name: since_when(status) for name, _, status in before}
    return frozenset(name for name, _, status in now if then.get(name) == since_when(status))


def get_ready(job: Job, *, compiler: bool, prover: bool) -> None:
    """Start the children that compile and that import the handler: their interpreters are there when they are needed.

    Should code of the project run before that, it finds them gone.
    """
    if compiler and job.settings.bytecode != "none":
        job.shell.prepare(compiler_command(job.space))
    if prover and job.settings.proof != "off":
        job.shell.prepare(prover_command(str(job.space.layers / NO_LAYERS), job))


class Ahead:
    """Compresses files that a package will hold while the rest of it is made, and the handler imported.

    Which file is meant is noted before a project's code runs; what is another by the end is compressed again.
    What was compressed is the package's beginning.  Bytecode goes into a file of its own, since only the proof tells
    which of it ships.  Neither file has a name: no build can change it.
    """

    def __init__(self, former: Future[Former | None], deflater: Deflater, job: Job) -> None:
        """Take over what is in the former package."""
        self._former, self._deflater, self._job = former, deflater, job
        self._parts = [Part(unnamed_file(job.space)) for _ in range(2)]
        self._total = 0
        self._goes_on, self._has_failed = threading.Event(), False
        self._likely: Future[Archive | None] | None = None
        self._stored: list[Package] = []
        self._shipped = ""

    def __enter__(self) -> Ahead:
        """Begin, aside."""
        self._goes_on.set()
        self._made = self._job.aside.submit(self._compress)
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """End, and delete what was stored and does not ship; where time has run out, a later build does that."""
        self._has_failed = error is not None
        self._end()
        if self._likely and (error is None or issubclass(error, Exception)):
            self._likely.result()
            wrong = [each.key for each in self._stored if each.code_sha256 != self._shipped]
            with contextlib.suppress(DeployError):
                self._job.store.delete(wrong)

    def add(self, entries: Iterable[tuple[str, Path, os.stat_result]]) -> None:
        """Compress these as well, in this order.  Once there is bytecode, there is no more of the rest."""
        known = [(name, path, identity(status)) for name, path, status in entries]
        rest, bytecode = (
            [each for each in known if (place_in_package(each[0]) == 2) == code] for code in (False, True)
        )
        for part, batch in zip(self._parts, (rest, bytecode), strict=True):
            if batch:
                part.batches.put(batch)
        if bytecode:
            self._parts[0].batches.put([])

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the processors to something else."""
        self._goes_on.clear()
        try:
            yield
        finally:
            self._goes_on.set()

    def store(self, listing: Listing, names: Sequence[str]) -> None:
        """Store the package of these files as that of these functions: most likely it is that."""
        self._end()
        self._likely = self._job.aside.submit(self._store, listing, names)

    def compressed(self) -> list[Former]:
        """Wait for what it makes of all that was added, or of as much as the disk has room for."""
        self._end()
        return self._made.result()

    def finish(self, listing: Listing, intact: frozenset[str]) -> tuple[Archive, bool]:
        """Return the package of these files, and whether it is stored already.

        What somebody has touched since the import began is compressed again, though it may look as it did: there may
        have been something else in it when it was.
        """
        made, likely = self.compressed(), self._likely and self._likely.result()
        for part in self._parts:
            for name in part.identities.keys() - intact:
                del part.identities[name]
        archive = likely if likely and self._is_of(likely, listing) else self._zip(listing, made)
        self._shipped = archive.sha256
        return archive, archive is likely

    def _end(self) -> None:
        for part in self._parts:
            part.batches.put([])

    def _zip(self, listing: Listing, made: list[Former]) -> Archive:
        """Zip files, after what is made already if all of that is the beginning."""
        formers = [*made, *filter(None, [self._former.result()])]
        return zip_files(listing, lambda: unnamed_file(self._job.space), formers, self._deflater)

    def _is_of(self, archive: Archive, listing: Listing) -> bool:
        """Say whether a package that it made is of just these files."""
        meant = self._parts[0].identities | self._parts[1].identities
        return [*archive.zipped.names] == [name for name, _, _ in listing] and all(
            meant.get(name) == identity(status) for name, _, status in listing
        )

    def _store(self, listing: Listing, names: Sequence[str]) -> Archive | None:
        with contextlib.suppress(Exception):  # it is stored again then, where that can be told
            made = self._made.result()
            archive = self._zip(listing, made) if made else None
            for package in (Package.of(name, archive.sha256) for name in names if archive):
                if archive and not (self._job.store.holds(package.key, package.hex_digest) or self._has_failed):
                    self._stored.append(package)
                    self._job.store.upload_archive(package.key, archive)
            return archive
        return None

    def _compress(self) -> list[Former]:
        made = []
        with contextlib.suppress(Exception):  # whatever it is, it is met again where it can be told
            former = self._former.result()
            deflater = replace(self._deflater, deflate=self._deflate)
            for part in self._parts:
                with zipfile.ZipFile(part.file, "w") as archive:
                    write_members(self._files(part), archive, [former] if former else [], deflater)
                part.file.flush()
                made.append(Former(part.file, part.identities, archive))
                made[-1].owner = part.owned
            made[0].grows = self._parts[0].owned
            return made
        return []

    def _deflate(self, content: bytes) -> Packed:
        self._goes_on.wait()
        return self._deflater.deflate(content)

    def _files(self, part: Part) -> Iterator[Known]:
        while batch := part.batches.get():
            new = [known for known in batch if known[0] not in part.identities]
            part.identities |= {name: meant for name, _, meant in new}
            self._total += sum(size for _, _, (_, _, size, _) in new)
            if self._total > MAX_UNZIPPED_BYTES or shutil.disk_usage(part.file.fileno()).free < 2 * self._total:
                return
            yield from new


class Part:
    """A part of a package that is made ahead."""

    def __init__(self, owned: Owned) -> None:
        """Make it in this file."""
        self.owned, self.file = owned, owned.file
        self.batches: queue.SimpleQueue[list[tuple[str, Path, Identity]]] = queue.SimpleQueue()
        self.identities: dict[str, Identity] = {}


def take_over(bundle: Bundle | None, target: Target, former: Future[Former | None], space: Workspace) -> bool:
    """Lay the dependencies of the package before into staging; say whether they could be had from it."""
    package = former.result()
    if bundle is None or package is None:
        return False
    if take_kept(target.code_sha256, package, space):
        return True
    empty_staging(space)
    return unpack_bundle(bundle, package, space)


def empty_staging(space: Workspace) -> None:
    """Take out of staging what turned out not to fit, and make room."""
    drop_kept(space)
    for folder in (space.staging, space.pruned):
        if folder.is_symlink() or not folder.is_dir() or any(folder.iterdir()):
            remove_tree(folder)
            folder.mkdir(mode=0o700)


def store_package(package: Package, archive: Archive, job: Job) -> None:
    """Upload a package, unless it is stored."""
    if not job.store.holds(package.key, archive.hex_digest):
        job.store.upload_archive(package.key, archive)


def rehearse(package: Package, target: Target, job: Job) -> Deployment:
    """Say what would be deployed."""
    return Deployment("built", target.name, target.arn, package.code_sha256, job.store.uri(package.key))


def deploy_all(
    packages: Sequence[Package], targets: Sequence[Target], request: BuildRequest | RollbackRequest, job: Job
) -> list[Deployment]:
    """Deploy to one function after another; an error leaves the rest alone and says which were updated."""
    done: list[Deployment] = []
    for package, target in zip(packages, targets, strict=True):
        job.log.aftermath = functools.partial(tell_aftermath, done, package, target, job)
        ledger = next(each for each in job.ledgers if each.function == target.name)
        is_new = isinstance(request, BuildRequest) and target.code_sha256 != package.code_sha256
        replaced = target.code_sha256 if is_new else None
        # Written before it is done: should we be killed, the next one reads here what we were at.
        ledger.note(commit=package.commit, code_sha256=package.code_sha256, replaces=replaced)
        deployment = deploy(package, target, request, job)
        ledger.entry = replace(
            ledger.entry, status=deployment.status, version=deployment.version, alias=deployment.alias
        )
        job.log.quote(f"{deployment.status}: {target.name} {deployment.version} {package.code_sha256}")
        tidy_up(target, ledger, job)
        done.append(deployment)
    return done


def tell_aftermath(done: Sequence[Deployment], package: Package, target: Target, job: Job) -> str:
    """Say after a failure which functions run what."""
    before = f" Already deployed: {', '.join(each.function for each in done)}." if done else ""
    rest = [each.function for each in job.ledgers if each.function != target.name]
    left = [name for name in rest if name not in {each.function for each in done}]
    after = f" Left alone: {', '.join(left)}." if left else ""
    return what_runs(target, package, job.aws) + before + after


def tidy_up(target: Target, ledger: Ledger, job: Job) -> None:
    """Tidy up, if it can be done: a deployment stands without it."""
    try:
        tidy(target, ledger, job)
    except DeployError as error:
        job.log.say(f"Warning: old packages were not deleted: {error}")


def package_result(made: Made) -> dict[str, Any]:
    """Return what build's answer says of the package (contract §5)."""
    return {
        "commit": made.checkout.commit,
        "ref": made.checkout.ref,
        "code_sha256": made.archive.sha256,
        "package": {
            "zip_bytes": made.archive.zip_bytes,
            "unzipped_bytes": made.archive.unzipped_bytes,
            "files": made.archive.files,
            "largest": [list(each) for each in made.sizes.most_common(LARGEST)],
        },
        "dependencies": list(made.installed.names),
        "dependency_records": dict(made.installed.records),
        "pruned": {
            "files": made.pruned.files,
            "bytes": made.pruned.bytes,
            "reasons": dict(made.pruned.reasons),
            "kept": dict(made.pruned.kept),
        },
        "warnings": list(made.warnings),
    }


def build_result(
    told: Mapping[str, Any], request: BuildRequest, deployments: Sequence[Deployment], job: Job
) -> dict[str, Any]:
    """Return build's answer (contract §5): what is told of the package, and what became of it."""
    warnings = [*told["warnings"], *(each for deployment in deployments for each in deployment.warnings)]
    for warning in warnings:
        job.log.say(f"Warning: {warning}.")
    return {
        **deployment_result(request, deployments),
        **told,
        "package": {**told["package"], "s3_uri": deployments[0].s3_uri},
        "warnings": warnings,
        "log": None,
        "seconds": seconds(job.log),
    }


def deployment_result(request: BuildRequest | RollbackRequest, deployments: Sequence[Deployment]) -> dict[str, Any]:
    """Return what an answer says of the function; of several, each has an outcome of its own."""
    changed = [each.status for each in deployments if each.status != "unchanged"]
    first = deployments[0]
    if isinstance(request.function, str):
        return {
            "status": first.status,
            "function": first.function,
            "function_arn": first.function_arn,
            "version": first.version,
            "alias": first.alias,
        }
    return {
        "status": changed[0] if changed else "unchanged",
        "function": [each.function for each in deployments],
        "functions": {
            each.function: {
                "status": each.status, "function_arn": each.function_arn, "version": each.version, "alias": each.alias,
            }
            for each in deployments
        },
    }  # fmt: skip


def rollback(request: RollbackRequest, job: Job) -> dict[str, Any]:
    """Put back a stored package; nothing is fetched and nothing is built."""
    name = function_name(request.function)
    look_at_target(job.aws, name, job.builder)
    take_ledgers([name], request, job)
    with job.log.step("preflight", f"[1/2] look at {name}"):
        target = preflight(name, request, job.builder, job.aws)
        if answer := earlier_answer(request, [target], job):
            return answer
        package = find_package(request.to, target, job)
    with job.log.step("deploy", f"[2/2] put back {package.commit or package.code_sha256}"):
        (deployment,) = deploy_all([package], [target], request, job)
    for warning in deployment.warnings:
        job.log.say(f"Warning: {warning}.")
    return {
        **deployment_result(request, [deployment]),
        "commit": package.commit,
        "code_sha256": package.code_sha256,
        "package": {"s3_uri": deployment.s3_uri},
        "warnings": list(deployment.warnings),
        "log": None,
        "seconds": seconds(job.log),
    }


def find_package(to: str | None, target: Target, job: Job) -> Package:
    """Find the stored package that a rollback means; raise DeployError.

    By default it is what the running one replaced: after a second rollback, the one before that.
    """
    history = job.ledgers[0].history
    if to is None:
        ran = (each.replaces for each in history if each.code_sha256 == target.code_sha256 and each.replaces)
        digest = next(ran, None)
        if digest is None:
            raise DeployError(
                f'Nothing is known of what {target.name} ran before. Name it by its commit, version or digest in "to".'
            )
    elif VERSION.fullmatch(to):
        digest = Target.from_configuration(describe_function(job.aws, target.name, to)).code_sha256
    else:
        digest = find_digest(to, target.name, history, job.store)
    commit = next((each.commit for each in history if each.code_sha256 == digest and each.commit), None)
    package = Package.of(target.name, digest, commit)
    if not job.store.holds(package.key, package.hex_digest):
        raise DeployError(
            f"The package {job.store.uri(package.key)} is not stored any more (the last {KEPT_PACKAGES} are), or was "
            "changed. Build that commit again."
        )
    return package


def find_digest(to: str, name: str, history: Sequence[Entry], store: Store) -> str:
    """Find the one package of this digest, or built from this commit; raise DeployError."""
    if DIGEST.fullmatch(to):
        return to
    ours = [each for each in history if (each.commit or "").startswith(to)]
    # Those that went well first: what failed its test event is of the same commit.
    best = sorted(ours, key=lambda each: each.status in NOT_DEPLOYED)
    built = {each.code_sha256: True for each in best if each.code_sha256}
    digests = [key.rpartition("/")[2].removesuffix(".zip") for key in store.packages(name)]
    found = [*built] or [base64.b64encode(bytes.fromhex(each)).decode() for each in digests if each.startswith(to)]
    if not found:
        commits = list(dict.fromkeys(each.commit[:12] for each in history if each.commit and each.code_sha256))
        raise DeployError(
            f"No package of {name} was built from the commit {to}, or has that digest. The last commits are: "
            f"{', '.join(commits[:KEPT_PACKAGES]) or 'none'}."
        )
    ids = {each.commit for each in history if (each.commit or "").startswith(to)}
    if len(ids) > 1 or (len(found) > 1 and not built):
        raise DeployError(f'"{to}" is the beginning of several commits or digests: give more of it.')
    return found[0]  # a commit that was built twice: what came of it last


def take_ledgers(names: Sequence[str], request: BuildRequest | RollbackRequest, job: Job) -> None:
    """Make this the only build of these functions; raise BuildInProgress if there is another.

    One that was asked the same is waited for: a client that lost patience asks again, and then means
    the build that runs.
    """
    if request.dry_run:
        return
    entry = new_entry(names[0], request, job.builder)
    for name in sorted(names):
        ledger = Ledger(name, entry, job.store)
        job.ledgers.append(ledger)
        while other := ledger.take():
            if other.request != entry.request:
                raise in_progress(name, other)
            if not ledger.waited:
                job.log.say(f"{other.request_id} has been doing the same since {utc(other.began)}: waiting for it …")
            ledger.waited = True
            try:
                time.sleep(POLL_SECONDS)
            except OutOfTime:  # it died, and we began too soon after it to see its time end
                raise in_progress(name, other) from None


def in_progress(name: str, other: Entry) -> BuildInProgress:
    """Return the error that says who builds a function."""
    return BuildInProgress(
        f"{name} is being built by another invocation, {other.request_id}: {other.title}, "
        f"{f'asked for by {other.asked_by}, ' if other.asked_by else ''}since {utc(other.began)}. "
        f"It ends by {utc(other.until)} at the latest. Ask again then."
    )


def new_entry(name: str, request: BuildRequest | RollbackRequest, builder: Builder) -> Entry:
    """Return this invocation's entry for ledgers; its record will stand with the function of this name."""
    title = f"rollback to {request.to or 'what ran before'}" if isinstance(request, RollbackRequest) else "build"
    if isinstance(request, BuildRequest):
        title = " ".join(filter(None, ("build", request.repo_name, request.ref, request.subdirectory)))
    began = time.time()
    return Entry(
        request_id=builder.request_id,
        request=request_digest(request),
        title=title,
        began=began,
        until=builder.until,
        record=f"builds/{name}/{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(began))}-{builder.request_id}",
        log_stream=builder.log_stream,
        asked_by=builder.asked_by,
    )


def earlier_answer(
    request: BuildRequest | RollbackRequest, targets: Sequence[Target], job: Job
) -> dict[str, Any] | None:
    """Return the answer of the same request if it was being served when this one came, or just before.

    What was done just before is "unchanged" now.  None if there is none, or if it is not true any
    more: the ref has moved on, or the function runs something else by now.  Raises the error that it
    ended with, if this one waited for it.
    """
    by_name = {ledger.function: next(iter(ledger.history), None) for ledger in job.ledgers}
    lasts = [by_name.get(target.name) for target in targets]
    entries = [each for each in lasts if each]
    last = entries[0] if entries else None
    if last is None or last.ended is None or {each and each.request_id for each in lasts} != {last.request_id}:
        return None
    ours, waited = job.ledgers[0].entry, any(ledger.waited for ledger in job.ledgers)
    is_recent = time.time() - last.ended < RETRY_SECONDS and not request.force
    is_same = last.request == ours.request and ours.commit in (None, last.commit)
    stored = job.store.read(f"{last.record}.json") if is_same and (waited or is_recent) else None
    if stored is None:
        return None
    result: dict[str, Any] = json.loads(stored[0])["result"]
    # The record's word: of several functions, one may be deployed by a build that failed.
    failed = result["status"] == "failed"
    is_true = failed or all(is_as_left(target, entry) for target, entry in zip(targets, entries, strict=True))
    if not is_true or (failed and not waited):
        return None
    for ledger in job.ledgers:
        ledger.is_attached = True
    job.log.say(f"{last.request_id} did the same until {utc(last.ended)}: this is its answer.")
    if failed:
        raise ERRORS.get(result["errorType"], DeployError)(result["errorMessage"])
    if waited:
        return result
    again = f"the same was done until {utc(last.ended)}: if it is to be done once more, ask in a minute"
    more = {"warnings": [*result["warnings"], again]} if isinstance(request, RollbackRequest) else {}
    return {**result, **more, "status": "unchanged", "seconds": seconds(job.log)}


def is_as_left(target: Target, entry: Entry) -> bool:
    """Say whether a function, and the alias, still are as a build has left them."""
    moved = entry.alias is not None and (target.alias is None or target.alias.version != entry.version)
    return target.code_sha256 == entry.code_sha256 and not moved


ERRORS: Mapping[str, type[YoDawgError]] = {each.__name__: each for each in YoDawgError.__subclasses__()}


def doctor(_request: DoctorRequest, job: Job) -> dict[str, Any]:
    """Say what this environment is, and what is wrong with it; change nothing."""
    settings, builder = job.settings, job.builder
    findings = [*look_around(job), *map(functools.partial(try_out, job), CHECKS)]
    for pattern in settings.deployable:
        if FUNCTION.fullmatch(pattern) and pattern != builder.name:
            findings.append(try_out(job, ("function", functools.partial(check_function, pattern))))
    for each in findings:
        job.log.say(f"{'ok' if each['ok'] else '!!'} {each['name']}: {each['says']}")
    return {"status": "well" if all(each["ok"] for each in findings) else "ill", "findings": findings}


def look_around(job: Job) -> list[dict[str, Any]]:
    """Return findings about the interpreter and the machine."""
    disk = shutil.disk_usage(job.space.root)
    lacking = [name for name in ("bash", "cat", "grep", "sed", "chmod", "rm") if not shutil.which(name)]
    left = job.builder.until - time.time()
    return [
        finding("interpreter", f"{sys.version.split()[0]} at {sys.executable}, {job.builder.platform}"),
        finding("programs", f"{', '.join(lacking)} cannot be found, so a make_dist.sh may fail", ok=False)
        if lacking
        else finding("programs", "all are there that a make_dist.sh can count on"),
        finding(
            "disk",
            f"{size(disk.free)} of {size(disk.total)} are free in {job.space.root.parent}; a build of Lambda's largest "
            "package needs about three times 250 MB (ephemeral_storage in config.ini)",
            ok=disk.free > MAX_UNZIPPED_BYTES,
        ),
        finding("time", f"{left:.0f} s for each invocation; a build may take minutes (timeout)", ok=left > 60),
    ]


def finding(name: str, says: str, *, ok: bool = True) -> dict[str, Any]:
    """Return a line of doctor's answer."""
    return {"name": name, "ok": ok, "says": says}


def try_out(job: Job, check: tuple[str, Callable[[Job], str]]) -> dict[str, Any]:
    """Return the finding of a check: what it says, or the error that it ends with."""
    name, look = check
    try:
        return finding(name, look(job))
    except YoDawgError as error:
        return finding(name, job.log.mask(str(error)), ok=False)


def check_bucket(job: Job) -> str:
    """Look whether the builder's corner of S3 can be listed and read."""
    job.store.packages("none")
    return f"{job.store.uri('')} can be read"


def check_toolchain(job: Job) -> str:
    """Fetch the toolchain, also if it was kept, and run it."""
    SHELF.make_room(0)
    toolchain = get_toolchain(job)
    toolchain.wait("ssh")
    try:
        said = job.shell.run(Command([toolchain.uv, "--version"], cwd=job.space.root))
    except CommandFailed as error:
        raise ConfigError(f"The toolchain does not work here: it {error.ending}.{error.quoted_tail}") from None
    return f"fits, {said.strip()}"


def check_token(job: Job) -> str:
    """Read the Git host's token or the deploy key, which is not shown."""
    settings = job.settings
    if settings.deploy_key_secret:
        deploy_key(job.aws, settings)
        return f"{settings.deploy_key_secret} can be read"
    if not settings.token_secret:
        return "none is configured: only public repositories can be cloned"
    if not read_secret(job.aws, settings.token_secret, "token_secret").strip():
        raise ConfigError(f"The secret {settings.token_secret} is empty, or is not text: store the token as text.")
    return f"{settings.token_secret} can be read"


def check_git_host(job: Job) -> str:
    """Open a connection to the Git host."""
    _, host, port = origin(f"{job.settings.base_url}/x")
    try:
        with socket.create_connection((host, port), timeout=10):
            return f"{host} can be reached"
    except OSError as error:
        raise ConfigError(f"{host} cannot be reached: {error}. Has this function a way out (VPC, NAT)?") from None


def check_indexes(job: Job) -> str:
    """Read the addresses of private package indexes, which are not shown."""
    count = len(package_indexes(job.aws, job.settings, job.log))
    return f"{job.settings.index_secret} names {count}" if count else "no private ones are configured"


def check_function(name: str, job: Job) -> str:
    """Look whether a function could be deployed now."""
    target = preflight(name, RollbackRequest(name), job.builder, job.aws)
    return f"{name} can be updated; it runs {target.code_sha256}"


CHECKS: Sequence[tuple[str, Callable[[Job], str]]] = (
    ("bucket", check_bucket),
    ("toolchain", check_toolchain),
    ("git token", check_token),
    ("git host", check_git_host),
    ("package indexes", check_indexes),
)


def seconds(log: Log) -> dict[str, float]:
    """Return the seconds of each stage, and of all of them."""
    return {"total": round(sum(log.seconds.values()), 3), **log.seconds}


@dataclass(frozen=True)
class Action:
    """A kind of event: what it may hold, and what is done for it."""

    request: type[Any]
    run: Callable[[Any, Job], dict[str, Any]]


ACTIONS: Mapping[str, Action] = {
    "bootstrap": Action(BootstrapRequest, bootstrap),
    "build": Action(BuildRequest, build),
    "rollback": Action(RollbackRequest, rollback),
    "doctor": Action(DoctorRequest, doctor),
}


def run_action(request: Request, job: Job, context: LambdaContext) -> dict[str, Any]:
    """Run the action within the deadline; of a build or a rollback keep a record, of a failed one too."""
    action = next(each for each in ACTIONS.values() if isinstance(request, each.request))
    result: dict[str, Any] = {}
    try:
        with deadline(context.get_remaining_time_in_millis(), job.log), disk_troubles(job.space):
            result = action.run(request, job)
    except YoDawgError as error:
        message = job.log.mask(f"{error}{aftermath(error, job, context)}")
        job.log.say(f"{type(error).__name__}: {message}")
        result = {} if isinstance(error, BuildInProgress) else failure(error, message)
        # The message stands alone: a traceback through this file would tell the caller nothing.
        raise type(error)(message) from None
    except Exception as error:
        result = failure(error, job.log.mask(str(error)))
        raise
    finally:
        job.shell.close()  # before the books are: what still runs could go on for ever
        job.aside.shutdown(wait=False, cancel_futures=True)
        job.unpacking.shutdown(cancel_futures=True)
        close_books(request, result, job, context)
    return result


def failure(error: Exception, message: str) -> dict[str, Any]:
    """Return what the record of a failed build holds in place of an answer."""
    return {"status": "failed", "errorType": type(error).__name__, "errorMessage": message}


def aftermath(error: YoDawgError, job: Job, context: LambdaContext) -> str:
    """Say what a failure leaves behind, where that may be asked."""
    if any(ledger.is_attached for ledger in job.ledgers):
        return ""  # it is another build's, and says this already
    if job.log.aftermath is None:
        return " Nothing was deployed." if isinstance(error, DeadlineError) else ""
    try:
        with deadline(context.get_remaining_time_in_millis(), job.log):
            return f" {job.log.aftermath()}"
    except DeadlineError:
        return " What runs now could not be told in time: look at the function before you rely on it."


def close_books(request: Request, result: dict[str, Any], job: Job, context: LambdaContext) -> None:
    """Keep a record of a build and its log, and let the next one begin.

    The build stands or fails without its record: what hinders it is only told.
    """
    if not job.ledgers:
        return
    is_news = bool(result) and not any(ledger.is_attached for ledger in job.ledgers)
    try:
        with deadline(context.get_remaining_time_in_millis(), job.log):
            try:
                if is_news:
                    record(request, result, job)
            finally:
                with contextlib.ExitStack() as each_of_them:  # whatever becomes of another
                    for ledger in job.ledgers:
                        each_of_them.callback(let_go, ledger, news(result, ledger.entry) if is_news else {}, job)
    except (YoDawgError, OSError) as error:
        job.log.say(f"Warning: the books could not be closed: {error}")


def let_go(ledger: Ledger, how: Mapping[str, Any], job: Job) -> None:
    """Release a ledger, and delete the records that are too old."""
    old = ledger.release(**how)
    job.store.delete([f"{key}{suffix}" for key in old for suffix in (".log", ".json")])


def news(result: Mapping[str, Any], entry: Entry) -> dict[str, Any]:
    """Return how a build ended, for its entry in a ledger."""
    if result["status"] != "failed":
        return {"status": entry.status}
    return {
        "status": entry.status if entry.status != "running" else "failed",
        "error": f"{result['errorType']}: {result['errorMessage']}"[:500],
    }


def record(request: Request, result: dict[str, Any], job: Job) -> None:
    """Store the build's log, whose address the result then names, and a record of what became of it."""
    entry = job.ledgers[0].entry
    asked = {**vars(request), "test_event": None}  # what it holds is nobody's business
    job.store.upload(f"{entry.record}.log", cast(IO[bytes], job.log.file), "text/plain; charset=utf-8")
    result["log"] = job.store.uri(f"{entry.record}.log")
    told = {"request_id": entry.request_id, "asked_by": entry.asked_by, "began": entry.began, "request": asked}
    job.store.upload_json(f"{entry.record}.json", {**told, "log_stream": entry.log_stream, "result": result})


@contextlib.contextmanager
def disk_troubles(space: Workspace) -> Iterator[None]:
    """Turn a full disk, or files that a project made unusable, into words wherever this process meets them."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise disk_full(space.root) from None
        if not str(error.filename).startswith(str(space.root)):
            raise
        name = os.path.relpath(str(error.filename), space.root)
        raise PackageError(f"Cannot work with what the project made: {error.strerror}: {name!r}.") from None


# --- The handler ----------------------------------------------------------------------------------


def lambda_handler(event: object, context: LambdaContext) -> dict[str, Any]:
    """Do the action that the event asks for, and return what was done; raise YoDawgError.

    What can be refused without any work is refused first.
    """
    request = parse_request(event)
    settings = Settings.from_environ(os.environ)
    builder = Builder.from_context(context)
    if isinstance(request, BuildRequest | RollbackRequest):
        for function in request.functions:
            check_deployable(function, builder, settings)
    protected = protect_process()
    give_back_memory()
    if settings.tmp_is_ours:
        kill_leftovers()
    if not isinstance(request, BuildRequest):
        SHELF.kept = None  # and so it is swept out
    with (
        workspace(settings.tmp, tmp_is_ours=settings.tmp_is_ours) as space,
        contextlib.closing(Log(settings.secrets, space.root)) as log,
    ):
        if not protected:
            log.say("Warning: this system does not let the handler close itself to the projects' code.")
        if builder.asked_by:
            log.say(f"Asked for by {builder.asked_by} ({builder.token}).")
        put_python_on_path(space)
        with contextlib.closing(Shell(child_environ(space, settings), log)) as shell:
            if isinstance(request, BuildRequest):  # it gets ready while boto3 is imported
                shell.prepare(git_worker_command(space))
            aws = make_clients()
            store = Store(aws.s3, settings.bucket, builder.name, builder.account)
            return run_action(request, Job(settings, builder, space, log, shell, aws, store), context)


if __name__ == "__main__" and sys.argv[1:] == ["match-worker"]:
    match_worker()
if __name__ == "__main__" and sys.argv[1:] == ["install-worker"]:
    install_worker()
