"""What the handler asks of the workshop: values only, as they travel over the channel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class ProvenFunction:
    """A function whose handler is to be imported from the package, as Lambda would import it."""

    name: str
    handler: str
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Its environment variables."""
    has_environment: bool = True
    """Whether these could be read: without them it proves nothing that an import fails."""
    memory_mb: int = 128
    log_group: str = ""
    layers: tuple[str, ...] = ()
    """The ARNs of its layers' versions."""
    has_layers: bool = True
    """Whether all of them could be fetched; each is then an open file, see ``layer_file``."""

    def layer_file(self, number: int) -> str:
        """Return the name that the open file of a layer has in the job."""
        return f"layer {number} of {self.name}"


@dataclass(frozen=True)
class PackageJob:
    """A package to make of a project that was cloned."""

    workspace: str
    subdirectory: str
    """The project's folder in the repository; "" is the repository itself."""
    functions: tuple[ProvenFunction, ...]
    platform: str
    """E.g. "python3.13-x86_64"."""
    region: str
    proof: str
    bytecode: str
    """Settings, see config.ini."""
    runtime_dir: str
    """LAMBDA_RUNTIME_DIR."""
    builder: str
    """A digest of what of the builder decides what is installed and pruned."""
    indexes: tuple[str, ...] = field(default=(), repr=False)
    """Addresses, with credentials, of private package indexes."""
    may_be_unchanged: bool = False
    """Whether all but the dependencies is as it was: if these are too, there is nothing to make."""

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold of it."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PackageJob:
        """Read what ``to_json`` wrote."""
        functions = tuple(ProvenFunction(**{**each, "layers": tuple(each["layers"])}) for each in value["functions"])
        return cls(**{**value, "functions": functions, "indexes": tuple(value["indexes"])})

    @property
    def runtime(self) -> str:
        """E.g. "python3.13"."""
        return self.platform.partition("-")[0]
