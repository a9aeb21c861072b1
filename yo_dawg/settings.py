"""What the operator decided: the one reader of the environment."""

from __future__ import annotations

import os
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from yo_dawg.errors import ConfigError
from yo_dawg.host_keys import PUBLISHED_HOST_KEYS
from yo_dawg.source import is_loopback, origin
from yo_dawg.workspace import HERE

PROOFS = ("warn", "require", "off")
"""What the import proof may be (proof in config.ini): see ``check_proof``."""

BYTECODES = ("used", "all", "none")
"""Which modules are shipped with bytecode (bytecode in config.ini): see ``write_bytecode``."""

CLIENT_VARIABLES = (
    "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY",
    "https_proxy", "http_proxy", "no_proxy",
)  # fmt: skip
"""The ordinary settings of package clients.  Of the environment, children get these and no more."""

CREDENTIAL_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN")
"""Where Lambda puts the role's credentials; the last one under SnapStart."""


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
    endpoint: str = ""
    """Where AWS is, if it is not at its usual addresses."""
    keep_versions: int | None = None
    """How many of a function's published versions stay, beside those that an alias names; None: all."""

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

        def count(name: str) -> int | None:
            value = get(name) or "all"
            if value != "all" and not re.fullmatch(r"[1-9][0-9]{0,5}", value):
                wrong.append(f"{name.lower()} is {value!r}, neither a number from 1 on nor all")
                return None
            return None if value == "all" else int(value)

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
            keep_versions=count("KEEP_VERSIONS"),
            tmp=Path(environ.get("TMPDIR") or "/tmp"),  # noqa: S108  # Lambda's one writable directory
            tmp_is_ours=environ.get("LAMBDA_TASK_ROOT") == str(HERE) == "/var/task" and not os.access("/", os.W_OK),
            client=client,
            library_path=environ.get("LD_LIBRARY_PATH", ""),
            runtime_dir=environ.get("LAMBDA_RUNTIME_DIR", ""),
            proof=choose("PROOF", PROOFS),
            bytecode=choose("BYTECODE", BYTECODES),
            secrets=tuple(environ[name] for name in CREDENTIAL_VARIABLES if environ.get(name)),
            endpoint=environ.get("AWS_ENDPOINT_URL", ""),
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
