"""What lies in Secrets Manager: tokens, keys and the addresses of private indexes."""

from __future__ import annotations

import contextlib
import json
import urllib.parse
from typing import TYPE_CHECKING

from yo_dawg.control.clients import translate_aws_errors
from yo_dawg.errors import ConfigError
from yo_dawg.source import DEFAULT_USERNAME, Source, is_loopback

if TYPE_CHECKING:
    from yo_dawg.control.clients import Aws
    from yo_dawg.log import Log
    from yo_dawg.settings import Settings


def read_secret(aws: Aws, name: str, key: str) -> str:
    """Read the secret that config.ini names under a key; "" if it names none."""
    if not name:
        return ""

    def find_key() -> object:
        return aws.secrets.describe_secret(SecretId=name).get("KmsKeyId")

    with translate_aws_errors(f"read the secret {name} ({key} in config.ini)", ConfigError, find_key):
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


def source_from_settings(settings: Settings, aws: Aws, repo_name: str, log: Log) -> Source:
    """Say where a project is cloned from; read the secrets that it takes, and hide them in the log."""
    token = read_secret(aws, settings.token_secret, "token_secret").strip()
    key, passphrase = deploy_key(aws, settings)
    log.hide(token)
    log.hide(f"{settings.username or DEFAULT_USERNAME}:{token}" if token else "")  # as HTTP sends it, in base64
    log.hide(passphrase)
    log.hide(key)
    return Source(settings.repository_url(repo_name), settings.username, token, key, passphrase, settings.known_hosts)


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
