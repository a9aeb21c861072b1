"""The ways in which a command fails that are told in words, without a traceback."""

from __future__ import annotations


class Fault(Exception):
    """What was asked for failed; the text says what, why, and what to do.  Exit status 1."""


class ConfigFault(Fault):
    """config.ini cannot be used.  The text names every reason, each on a line of its own."""


class BuilderFault(Fault):
    """The builder answered with an error, whose own words these are."""
