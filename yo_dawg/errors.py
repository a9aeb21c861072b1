"""The errors that the builder foresees: the class says who must act."""

from __future__ import annotations

from collections.abc import Mapping


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


class BuildInProgress(YoDawgError):
    """Another build of this function is running: wait for its end."""


class DeadlineError(YoDawgError):
    """The work would outlast the invocation."""


class OutOfTime(BaseException):
    """Raised by the alarm wherever the handler stands; a BaseException, so that no library eats it.

    It may say what was being waited for.
    """


ERRORS: Mapping[str, type[YoDawgError]] = {each.__name__: each for each in YoDawgError.__subclasses__()}
