"""config.ini: every rule, and that everything wrong is said at once, by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.config import Config
from client.config_file import KEYS
from client.config_rules import base_url_fault, most_seconds
from client.faults import ConfigFault
from yo_dawg.host_keys import PUBLISHED_HOST_KEYS
from yo_dawg.settings import base_url_faults

GOOD = {
    "deployment_bucket": "artifacts",
    "deployable_functions": "project-to-build",
    "base_url": "https://git.example/me",
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config.ini"


def write(path: Path, **values: str) -> Path:
    """Write a good config.ini, but for these values."""
    given = GOOD | values
    lines = []
    for section, keys in KEYS.items():
        lines.append(f"[{section}]")
        lines += [f"{name} = {given[name]}" for name in keys if name in given]
    path.write_text("\n".join(lines))
    return path


def faults(path: Path) -> list[str]:
    """Read a bad config.ini; return what is said about it, without the path."""
    with pytest.raises(ConfigFault) as caught:
        Config.read(path)
    return [line.removeprefix(f"{path}: ") for line in str(caught.value).splitlines()]


def test_what_is_left_out_has_its_default(path: Path) -> None:
    config = Config.read(write(path))
    assert (config.aws_region, config.function_name, config.runtime) == ("us-east-1", "yo-dawg", "python3.13")
    assert (config.memory_size, config.ephemeral_storage, config.timeout) == (3008, 4096, 900)
    assert (config.aws_profile, config.username, config.token_secret) == ("", "", "")


def test_comments_percent_signs_and_trailing_slashes_are_understood(path: Path) -> None:
    path.write_text(
        "; a comment\n# another\n[aws]\ndeployment_bucket = artifacts ; mine\n"
        "[builder]\ndeployable_functions = one, two-*,\n  three\n[git]\nBASE_URL = https://git.example/a%20b/\n"
    )
    config = Config.read(path)
    assert config.deployment_bucket == "artifacts"
    assert config.deployable_functions == ("one", "two-*", "three")
    assert config.base_url == "https://git.example/a%20b"


def test_a_byte_order_mark_does_not_matter(path: Path) -> None:
    write(path).write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert Config.read(path).deployment_bucket == "artifacts"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("aws_region", "Europe", "must be a region"),
        ("aws_region", "us-east", "must be a region"),
        ("deployment_bucket", "My_Bucket", "small letters"),
        ("deployment_bucket", "ab", "3 to 63"),
        ("deployment_bucket", "-bucket", "at both ends"),
        ("deployment_bucket", "a..b", "two dots"),
        ("deployment_bucket", "192.168.0.1", "IP address"),
        ("deployment_bucket", "xn--bucket", "prefix"),
        ("deployment_bucket", "bucket-s3alias", "suffix"),
        ("function_name", "yo dawg", "letters, digits"),
        ("function_name", "1st", "a letter, then"),
        ("function_name", "x" * 65, "at most 64"),
        ("runtime", "python3.10", "python3.11 or newer"),
        ("runtime", "python3.9", "python3.11 or newer"),
        ("runtime", "nodejs22.x", "python3.11 or newer"),
        ("architecture", "amd64", "x86_64 or arm64"),
        ("memory_size", "127", "from 128 to 10240 (MB)"),
        ("memory_size", "10241", "from 128 to 10240 (MB)"),
        ("memory_size", "3 GB", "whole number"),
        ("memory_size", "-512", "whole number"),
        ("memory_size", "١٢٨", "whole number"),
        ("ephemeral_storage", "511", "from 512 to 10240 (MB)"),
        ("timeout", str(most_seconds() + 1), f"from 1 to {most_seconds()} (seconds)"),
        ("timeout", "0", f"from 1 to {most_seconds()} (seconds)"),
        ("kms_keys", "arn:aws:kms:us-east-1:123456789012:alias/mine", "ARNs of keys of KMS (not of aliases)"),
        ("permissions_boundary", "mine", "the ARN of a policy"),
        ("vpc_subnets", "subnet-0, net", "ids of subnets"),
        ("vpc_subnets", "subnet-0", "vpc_security_groups is not: a VPC takes both"),
        ("vpc_security_groups", "sg-0", "vpc_subnets is not: a VPC takes both"),
        ("proxy", "proxy.example:3128", "must be an address"),
        ("index_url", "https://me:hunter2@index.example/simple", "must not hold a user name or a password"),
        ("extra_index_url", "https://a.example, ftp://b.example", "must be an address"),
        ("ca_bundle", "ca.pem", "the path of a file as the function sees it"),
        ("deployable_functions", "a b", "'a b'"),
        ("deployable_functions", "ok, arn:aws:lambda:us-east-1:123456789012:function:x", "not ARNs"),
        ("deployable_functions", "[ab]", "'[ab]'"),
        ("deployable_functions", ",", "at least one"),
        ("deployable_functions", "yo-dawg", "never updates itself"),
        ("base_url", "github.com/me", "must be https://HOST"),
        ("base_url", "ftp://git.example/me", "must be https://HOST"),
        ("base_url", "file:///srv/git", "must be https://HOST"),
        ("base_url", "https:///me", "must be https://HOST"),
        ("base_url", "https://git.example:port/me", "not an address"),
        ("base_url", "https://git.example/me?x=1", "query"),
        ("base_url", "https://git.example/a b", "spaces"),
        ("username", "a:b", "user name"),
        ("token_secret", "a secret", "Secrets Manager"),
        ("token_secret", "arn:aws:s3:::x/y", "Secrets Manager"),
        ("index_secret", "https://index.example/simple", "Secrets Manager"),
        ("deploy_key_secret", "key", "is for SSH"),
        ("known_hosts", "host ssh-ed25519 AAAA", "is for SSH"),
        ("known_hosts", "no-such-file", "neither a file nor a host key"),
    ],
)
def test_a_bad_value_is_refused_by_name(path: Path, name: str, value: str, said: str) -> None:
    [fault] = faults(write(path, **{name: value}))
    assert name in fault
    assert said in fault
    assert "hunter2" not in fault


@pytest.mark.parametrize("name", ["deployment_bucket", "deployable_functions", "base_url"])
def test_what_has_no_default_must_be_given(path: Path, name: str) -> None:
    [fault] = faults(write(path, **{name: ""}))
    assert name in fault
    assert "is not set" in fault


def test_all_that_is_wrong_is_said_at_once(path: Path) -> None:
    path.write_text("[aws]\naws_regoin = x\n[builder]\ntimeout = soon\n[gti]\nbase_url = x\n")
    assert faults(path) == [
        "[aws] aws_regoin is unknown; did you mean aws_region?",
        "[gti] is unknown; did you mean [git]?",
        "[aws] deployment_bucket is not set, and has no default",
        f"[builder] timeout = soon: must be a whole number from 1 to {most_seconds()} (seconds)",
        "[builder] deployable_functions is not set, and has no default",
        "[git] base_url is not set, and has no default",
    ]


def test_a_key_in_the_wrong_section_is_sent_to_its_own(path: Path) -> None:
    write(path).write_text(path.read_text().replace("[git]", "[git]\ntimeout = 60"))
    assert faults(path) == ["[git] timeout belongs in [builder]"]


@pytest.mark.parametrize("name", ["aws_access_key_id", "aws_secret_access_key", "aws_session_token"])
def test_aws_keys_are_refused_and_not_repeated(path: Path, name: str) -> None:
    write(path).write_text(path.read_text().replace("[aws]", f"[aws]\n{name} = hunter2"))
    [fault] = faults(path)
    assert name in fault
    assert "aws configure" in fault
    assert "hunter2" not in fault


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("token_secret", "ghp_abcdefghijklmnopqrstuvwxyz0123456789"),
        ("username", "github_pat_11ABCDEFG0abcdefghijklmnop"),
        ("deploy_key_secret", "-----BEGIN OPENSSH PRIVATE KEY-----"),
        ("aws_profile", "AKIAIOSFODNN7EXAMPLE"),
    ],
)
def test_a_pasted_secret_is_refused_and_not_repeated(path: Path, name: str, value: str) -> None:
    [fault] = faults(write(path, **{name: value}))
    assert name in fault
    assert "No secret may stand in this file" in fault
    assert value not in fault


@pytest.mark.parametrize("base_url", ["https://me:hunter2@git.example/me", "https://hunter2@git.example/me"])
def test_credentials_in_base_url_are_refused_and_not_repeated(path: Path, base_url: str) -> None:
    [fault] = faults(write(path, base_url=base_url))
    assert "user name or a password" in fault
    assert "hunter2" not in fault


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("aws_region = x\n", "line 1 stands before the first [section]"),
        ("[aws]\nhunter2\n", 'line 2 is neither a [section] nor "key = value"'),
        ("[aws]\naws_region = a\naws_region = b\n", "line 3: aws_region stands twice in [aws]"),
        ("[aws]\n[aws]\n", "line 2: [aws] stands twice"),
        ("[aws]\nx = \udcff\n", "not a text file in UTF-8"),
    ],
)
def test_a_file_that_is_no_ini_file_is_refused_in_words(path: Path, text: str, said: str) -> None:
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigFault) as caught:
        Config.read(path)
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_missing_file_says_what_to_do(path: Path) -> None:
    with pytest.raises(ConfigFault, match=r"is missing: copy config\.ini\.example to it"):
        Config.read(path)


def test_a_directory_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigFault, match="cannot be read: Is a directory"):
        Config.read(tmp_path)


HOST_KEY = "git.example ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ+x"


@pytest.mark.parametrize("base_url", ["ssh://git@git.example/me", "git@git.example:me"])
def test_ssh_needs_a_key_and_known_hosts(path: Path, base_url: str) -> None:
    assert faults(write(path, base_url=base_url, token_secret="token")) == [
        "[git] deploy_key_secret is not set, but base_url is one of SSH",
        "[git] known_hosts is not set, but base_url is one of SSH",
        "[git] token_secret is for https, but base_url is one of SSH: use deploy_key_secret",
    ]
    config = Config.read(write(path, base_url=base_url, deploy_key_secret="key", known_hosts=HOST_KEY))
    assert config.known_hosts == HOST_KEY


@pytest.mark.parametrize("host", PUBLISHED_HOST_KEYS)
def test_hosts_whose_keys_are_built_in_need_no_known_hosts(path: Path, host: str) -> None:
    for base_url in (f"ssh://git@{host}/me", f"git@{host}:me"):
        assert Config.read(write(path, base_url=base_url, deploy_key_secret="key")).known_hosts == ""


def test_known_hosts_may_be_a_file_beside_config_ini(path: Path) -> None:
    (path.parent / "hosts").write_text(f"# git.example:22 SSH-2.0\n{HOST_KEY}\n\n{HOST_KEY}\n")
    config = Config.read(write(path, base_url="git@git.example:me", deploy_key_secret="key", known_hosts="hosts"))
    assert config.known_hosts == f"{HOST_KEY}\n{HOST_KEY}"


@pytest.mark.parametrize(("host", "fits"), [("git.example", False), ("127.0.0.1:8080", True), ("localhost", True)])
def test_a_token_does_not_go_over_plain_http_except_on_this_machine(path: Path, host: str, fits: bool) -> None:
    write(path, base_url=f"http://{host}/me", token_secret="token")
    if fits:
        assert Config.read(path).token_secret == "token"
    else:
        [fault] = faults(path)
        assert "plain http" in fault


def test_what_lambda_could_not_hold_in_its_environment_is_refused(path: Path) -> None:
    key = f"git.example ssh-rsa {'A' * 4000}"
    [fault] = faults(write(path, base_url="git@git.example:me", deploy_key_secret="key", known_hosts=key))
    assert "too long together" in fault


def test_more_functions_than_a_role_can_name_are_refused_before_iam_does(path: Path) -> None:
    names = [f"a-function-of-mine-no-{number:03}" for number in range(80)]
    assert Config.read(write(path, deployable_functions=", ".join(names[:35]))).deployable_functions == tuple(
        names[:35]
    )
    [fault] = faults(write(path, deployable_functions=", ".join(names)))
    assert "deployable_functions names so many functions" in fault
    assert "Use patterns, such as api-*" in fault


def test_as_many_seconds_are_taken_as_this_boto3_knows_lambda_to_take(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert most_seconds() >= 900
    monkeypatch.setattr("client.config_rules.most_seconds", lambda: 1800)
    assert Config.read(write(path, timeout="1800")).timeout == 1800
    assert "from 1 to 1800" in faults(write(path, timeout="1801"))[0]


def test_a_stack_is_named_like_the_function_without_underscores(path: Path) -> None:
    assert Config.read(write(path, function_name="yo_dawg")).stack_name == "yo-dawg"


HOSTS = st.sampled_from(["git.example", "me@git.example", "me:pw@git.example", "127.0.0.1:80", "", "[::1]", "a:b"])
TAILS = st.sampled_from(["", "/", "/me", "/a/b/", "/me?x", "/me#x", "/a b"])


@given(st.sampled_from(["https", "http"]), HOSTS, TAILS)
def test_what_is_taken_here_the_handler_takes_too(scheme: str, host: str, tail: str) -> None:
    """Else bootstrap would install a builder that refuses to work."""
    base_url = f"{scheme}://{host}{tail}"
    if base_url_fault(base_url) is None:
        assert base_url_faults(base_url, with_token=False) == []
