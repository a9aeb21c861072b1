"""The operator's settings: read in one place, refused with every fault at once."""

from __future__ import annotations

import pytest

from yo_dawg.errors import ConfigError
from yo_dawg.settings import CLIENT_VARIABLES, Settings

GOOD = {
    "YO_DAWG_DEPLOYMENT_BUCKET": "bucket",
    "YO_DAWG_DEPLOYABLE_FUNCTIONS": "project-to-build, other-*",
    "YO_DAWG_BASE_URL": "https://github.com/my-account/",
    "YO_DAWG_USERNAME": "",
    "YO_DAWG_TOKEN_SECRET": "",
    "YO_DAWG_DEPLOY_KEY_SECRET": "",
    "YO_DAWG_KNOWN_HOSTS": "",
    "YO_DAWG_PROOF": "warn",
    "YO_DAWG_BYTECODE": "used",
    "YO_DAWG_INDEX_SECRET": "",
}


def test_what_the_template_sets_is_understood() -> None:
    settings = Settings.from_environ(GOOD)
    assert settings.bucket == "bucket"
    assert settings.deployable == ("project-to-build", "other-*")
    assert settings.repository_url("group/project") == "https://github.com/my-account/group/project.git"
    assert (settings.username, settings.token_secret, str(settings.tmp)) == ("", "", "/tmp")


def test_everything_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as refused:
        Settings.from_environ({})
    for name in ("deployment_bucket", "deployable_functions", "base_url"):
        assert f"{name} is not set" in str(refused.value)
    assert "./deploy.sh bootstrap" in str(refused.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"BASE_URL": "git@github.com:me"}, "deploy_key_secret is not set", id="ssh"),
        pytest.param({"BASE_URL": "ssh://git@github.com/me"}, "deploy_key_secret is not set", id="ssh URL"),
        pytest.param({"BASE_URL": "https://me:pw@github.com/me"}, "use username and token_secret", id="password"),
        pytest.param({"BASE_URL": "https://github.com/me?x=1"}, "query", id="query"),
        pytest.param({"BASE_URL": "http://git.example/me", "TOKEN_SECRET": "s"}, "plain http", id="token over http"),
        pytest.param({"DEPLOY_KEY_SECRET": "s"}, "use token_secret", id="deploy key"),
        pytest.param({"BYTECODE": "on"}, "bytecode is 'on', not one of used, all, none", id="bytecode"),
        pytest.param({"PROOF": "on"}, "proof is 'on', not one of warn, require, off", id="proof"),
        pytest.param({"DEPLOYABLE_FUNCTIONS": " "}, "deployable_functions is not set", id="nothing deployable"),
    ],
)
def test_what_is_wrong_is_said(change: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        Settings.from_environ({**GOOD, **{f"YO_DAWG_{name}": value for name, value in change.items()}})
    assert "pw" not in str(refused.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_a_token_may_go_over_http_within_the_machine(host: str) -> None:
    environ = {**GOOD, "YO_DAWG_BASE_URL": f"http://{host}:8080/me", "YO_DAWG_TOKEN_SECRET": "s"}
    assert Settings.from_environ(environ).token_secret == "s"


def test_credentials_are_secrets_and_in_no_repr() -> None:
    environ = {**GOOD, "AWS_SECRET_ACCESS_KEY": "canary-1", "AWS_SESSION_TOKEN": "canary-2"}
    settings = Settings.from_environ(environ)
    assert settings.secrets == ("canary-1", "canary-2")
    assert "canary" not in repr(settings)


def test_only_the_settings_of_package_clients_are_handed_on() -> None:
    environ = {**GOOD, "PIP_INDEX_URL": "https://index.example/simple", "AWS_REGION": "x", "PYTHONPATH": "/var/runtime"}
    assert Settings.from_environ(environ).client == {"PIP_INDEX_URL": "https://index.example/simple"}


@pytest.mark.parametrize("name", CLIENT_VARIABLES)
def test_a_password_for_an_index_or_a_proxy_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} holds a password") as refused:
        Settings.from_environ({**GOOD, name: "https://me:canary@index.example/simple"})
    assert "canary" not in str(refused.value)


def test_an_environment_that_serves_several_invocations_is_refused() -> None:
    with pytest.raises(ConfigError, match="share one workspace"):
        Settings.from_environ({**GOOD, "AWS_LAMBDA_MAX_CONCURRENCY": "8"})
