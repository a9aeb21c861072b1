"""What config.ini says, checked: the client's settings, the function's environment, the stack's parameters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.config_file import KEYS, check, parse
from client.config_whole import contradictions
from client.faults import ConfigFault

NOT_BY_PROXY = "127.0.0.1,localhost,169.254.0.0/16"
"""What no proxy is asked for: the builder's own processes, and Lambda's."""


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
        keys = {name: key for section in KEYS.values() for name, key in section.items()}
        parsed: dict[str, Any] = {name: key.means(values[name]) for name, key in keys.items()}
        return cls(**parsed)

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
        """Return the parameters of template.yaml: each key but the client's own, in CloudFormation's spelling."""
        values = {"code_key": code_key, **vars(self), "extra_index_url": " ".join(self.extra_index_url)}
        return {
            "".join(word.capitalize() for word in name.split("_")): ",".join(value)
            if isinstance(value, tuple)
            else str(value)
            for name, value in values.items()
            if name not in ("aws_profile", "aws_region")
        }
