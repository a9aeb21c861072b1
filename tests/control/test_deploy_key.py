"""A deploy key in the settings and in Secrets Manager."""

from __future__ import annotations

import json
from typing import Any

import pytest

from yo_dawg.control.clients import Aws
from yo_dawg.control.secrets import deploy_key, source_from_settings
from yo_dawg.errors import ConfigError
from yo_dawg.log import Log
from yo_dawg.settings import Settings

GOOD = {"YO_DAWG_DEPLOYMENT_BUCKET": "b", "YO_DAWG_DEPLOYABLE_FUNCTIONS": "*", "YO_DAWG_BASE_URL": "https://h/me"}


def settings(**values: str) -> Settings:
    """Read settings."""
    return Settings.from_environ({**GOOD, **{f"YO_DAWG_{key}": value for key, value in values.items()}})


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("git@github.com:me", "git@github.com:me/project.git"),
        ("git@github.com:", "git@github.com:project.git"),
        ("ssh://git@gitlab.com/group/", "ssh://git@gitlab.com/group/project.git"),
    ],
)
def test_an_address_of_ssh(base_url: str, url: str) -> None:
    assert settings(BASE_URL=base_url, DEPLOY_KEY_SECRET="key").repository_url("project") == url


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"BASE_URL": "git@github.com:me"}, "deploy_key_secret is not set"),
        ({"BASE_URL": "git@git.example.com:me", "DEPLOY_KEY_SECRET": "k"}, "known_hosts is not set.*ssh-keyscan"),
        ({"BASE_URL": "git@github.com:me", "DEPLOY_KEY_SECRET": "k", "TOKEN_SECRET": "t"}, "token_secret is for https"),
        ({"DEPLOY_KEY_SECRET": "k"}, "deploy_key_secret is set, but base_url is not one of SSH"),
        ({"BASE_URL": "ssh://git:pw@h/x", "DEPLOY_KEY_SECRET": "k"}, "holds a user name or a password"),
        ({"BASE_URL": "http://h.example/x", "TOKEN_SECRET": "t"}, "plain http"),
    ],
)
def test_settings_that_do_not_go_together(values: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        settings(**values)


class Secrets:
    """Secrets Manager with one secret."""

    def __init__(self, text: str) -> None:
        """Hold this text."""
        self.text = text

    def get_secret_value(self, **_: Any) -> dict[str, str]:
        """Return the secret."""
        return {"SecretString": self.text}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-----BEGIN KEY-----\nabc\n", ("-----BEGIN KEY-----\nabc\n", "")),
        (json.dumps({"private_key": "-----BEGIN KEY-----", "passphrase": "p"}), ("-----BEGIN KEY-----", "p")),
        (json.dumps({"private_key": "-----BEGIN KEY-----"}), ("-----BEGIN KEY-----", "")),
    ],
)
def test_how_a_deploy_key_is_stored(text: str, expected: tuple[str, str]) -> None:
    aws = Aws(s3=None, functions=None, make=lambda _: Secrets(text))
    given = settings(BASE_URL="git@github.com:me", DEPLOY_KEY_SECRET="key")
    assert deploy_key(aws, given) == expected


@pytest.mark.parametrize("text", ["", "ssh-ed25519 AAAA public", "{", '{"private_key": 1}', '{"key": "x"}', "[]"])
def test_a_secret_that_holds_no_key(text: str) -> None:
    aws = Aws(s3=None, functions=None, make=lambda _: Secrets(text))
    given = settings(BASE_URL="git@github.com:me", DEPLOY_KEY_SECRET="key")
    with pytest.raises(ConfigError, match=r"The secret key .* holds no SSH private key"):
        deploy_key(aws, given)


def test_all_secrets_are_hidden_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    body = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmU"
    text = json.dumps({"private_key": f"-----BEGIN KEY-----\n{body}\n-----END KEY-----", "passphrase": "canary phrase"})
    aws = Aws(s3=None, functions=None, make=lambda _: Secrets(text))
    log = Log([])
    given = settings(BASE_URL="git@github.com:me", DEPLOY_KEY_SECRET="key")
    source_from_settings(given, aws, "project", log)
    log.info(f"it printed {body} and canary phrase")
    assert capsys.readouterr().out == "it printed *** and ***\n"
