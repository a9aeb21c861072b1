"""doctor: each probe says what is well, what is wrong and what to do, or that it may not look."""

from __future__ import annotations

import contextlib
import datetime
import functools
import http.server
import io
import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pip._internal.models.index import PyPI

from tests.support.scripted_aws import KEY, Refusal, ScriptedAws, configuration, job
from yo_dawg.control import probes_aws, probes_here, probes_network
from yo_dawg.control.doctor import ACCOUNT_CHECKS, CHECKS, examine
from yo_dawg.control.findings import finding, try_out
from yo_dawg.control.job import Job
from yo_dawg.control.probes_targets import deployable_names, examine_target
from yo_dawg.killing import is_dumpable

DENIED = Refusal("AccessDeniedException", "You may not", 403)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> ScriptedAws:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTSTESTSTESTS0")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return ScriptedAws()


def look(check: Callable[[Job], str], job: Job) -> tuple[bool | None, str]:
    """Return whether a check is content, and what it says."""
    found = try_out(job, ("name", check))
    return found["ok"], found["says"]


# --- Here -------------------------------------------------------------------------------------------------------


def test_what_this_machine_is_is_told(scripted: ScriptedAws, tmp_path: Path) -> None:
    found = {each["name"]: each for each in probes_here.look_around(job(scripted, tmp_path))}
    said = {name: each["says"] for name, each in found.items()}
    assert set(found) == {
        "interpreter", "runtime", "programs", "disk", "time", "system", "nameless files", "process", "shared memory",
        "search path", "certificates", "boto3", "runtime packages",
    }  # fmt: skip
    for word in ("uid ", "umask ", "Linux "):
        assert word in said["system"]
    assert "O_TMPFILE" in said["nameless files"]
    assert "they know all" in said["boto3"]
    assert "importlib.metadata finds boto3" in said["runtime packages"]
    assert "python" in said["search path"]
    assert "/proc shows" in said["process"]
    assert found["process"]["ok"] is (is_dumpable() is False), "the tests' own process is not closed"


def test_what_lambda_lacks_is_told_with_what_it_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no locks and no pools" in probes_here.shared_memory(tmp_path / "shm")["says"]
    monkeypatch.setattr(probes_here, "runtime_versions", dict)
    assert probes_here.boto3_metadata()["ok"] is None
    monkeypatch.delattr("os.O_TMPFILE")
    assert probes_here.nameless_files(tmp_path)["ok"] is True
    (tmp_path / "empty.pem").write_text("nothing")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "empty.pem"))
    assert "ca_bundle in config.ini" in str(probes_here.certificates()) or probes_here.certificates()["ok"]


@pytest.mark.parametrize(
    ("today", "ok", "words"),
    [
        ("2026-11-29", True, "AWS deprecates python3.11 on 2027-06-30, and from 2027-08-31"),
        ("2027-05-01", True, "move the functions"),
        ("2027-06-30", False, "move the functions, and this builder (runtime in config.ini)"),
    ],
)
def test_the_end_of_a_runtime_is_foretold(today: str, ok: bool, words: str) -> None:
    found = probes_here.end_of_life("python3.11", datetime.date.fromisoformat(today))
    assert (found["ok"], words in found["says"]) == (ok, True)
    assert probes_here.end_of_life("python3.99", datetime.date.fromisoformat(today))["ok"] is None


# --- The bucket -------------------------------------------------------------------------------------------------

WRITTEN = b'{"written by": "doctor", "may be deleted": true}'


def s3(**more: Any) -> dict[str, Any]:
    """Return the answers of an S3 in which all is well."""
    return {
        "PutObject": [{"ETag": "1"}, Refusal("PreconditionFailed", status=412)],
        "GetObject": lambda _: {"Body": io.BytesIO(WRITTEN), "ETag": "1"},
        "HeadObject": {"ServerSideEncryption": "AES256"},
        "DeleteObjects": {},
        **more,
    }


def test_an_object_is_written_and_not_overwritten_and_read_and_deleted(scripted: ScriptedAws, tmp_path: Path) -> None:
    scripted.answers = s3(HeadObject={"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": KEY})
    ok, says = look(probes_aws.check_writes, job(scripted, tmp_path))
    assert ok, says
    assert f"and deleted; S3 encrypts with {KEY}" in says
    first, second = scripted.asked("PutObject")
    assert first["Key"] == second["Key"] == "yo-dawg/builds/yo-dawg/doctor-request-1.json"
    assert first["IfNoneMatch"] == second["IfNoneMatch"] == "*"
    assert [each["Key"] for each in scripted.asked("DeleteObjects")[0]["Delete"]["Objects"]] == [first["Key"]]


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        pytest.param({"PutObject": {"ETag": "1"}}, "two builds of a function could not be", id="no conditions"),
        pytest.param(
            {"PutObject": Refusal("AccessDenied", f"not authorized to perform: kms:GenerateDataKey on {KEY}", 403)},
            f"add {KEY} to kms_keys",
            id="KMS",
        ),
        pytest.param({"GetObject": lambda _: {"Body": io.BytesIO(b"x"), "ETag": "1"}}, "as it was just", id="changed"),
    ],
)  # fmt: skip
def test_a_bucket_that_will_not_do(scripted: ScriptedAws, tmp_path: Path, answers: dict[str, Any], words: str) -> None:
    scripted.answers = s3(**answers)
    ok, says = look(probes_aws.check_writes, job(scripted, tmp_path))
    assert (ok, words in says) == (False, True), says


def test_what_may_not_be_deleted_is_told(scripted: ScriptedAws, tmp_path: Path) -> None:
    scripted.answers = s3(DeleteObjects={"Errors": [{"Code": "AccessDenied", "Key": "x"}]})
    ok, says = look(probes_aws.check_writes, job(scripted, tmp_path))
    assert (ok, "but not deleted" in says) == (True, True), says


ENDS = {"NoncurrentVersionExpiration": {"NoncurrentDays": 30}, "Status": "Enabled"}


@pytest.mark.parametrize(
    ("versioning", "rules", "ok", "words"),
    [
        ({}, None, True, "keeps no old versions"),
        ({"Status": "Enabled"}, Refusal("NoSuchLifecycleConfiguration"), None, "for ever. A lifecycle rule"),
        ({"Status": "Enabled"}, {"Rules": [{**ENDS, "Filter": {"Prefix": "other/"}}]}, None, "for ever"),
        ({"Status": "Enabled"}, {"Rules": [{**ENDS, "Status": "Disabled", "Filter": {}}]}, None, "for ever"),
        ({"Status": "Enabled"}, {"Rules": [{**ENDS, "Filter": {"Prefix": "yo-dawg/"}}]}, True, "rule ends them"),
        ({"Status": "Enabled"}, {"Rules": [{**ENDS, "Filter": {}}]}, True, "rule ends them"),
        ({"Status": "Enabled"}, DENIED, None, "lacks s3:GetLifecycleConfiguration"),
        (DENIED, None, None, "lacks s3:GetBucketVersioning"),
    ],
)  # fmt: skip
def test_old_versions_that_pile_up_are_told(
    scripted: ScriptedAws, tmp_path: Path, versioning: Any, rules: Any, ok: bool | None, words: str
) -> None:
    scripted.answers = {"GetBucketVersioning": versioning, "GetBucketLifecycleConfiguration": rules}
    assert (look(probes_aws.check_versioning, job(scripted, tmp_path))[0], words) == (ok, words)
    assert words in look(probes_aws.check_versioning, job(scripted, tmp_path))[1]


# --- The account ------------------------------------------------------------------------------------------------


def limits(most: int = 1000, used: int = 1 << 30) -> dict[str, Any]:
    return {
        "AccountLimit": {
            "ConcurrentExecutions": most, "UnreservedConcurrentExecutions": most, "TotalCodeSize": 75 << 30,
        },
        "AccountUsage": {"TotalCodeSize": used, "FunctionCount": 3},
    }  # fmt: skip


def test_the_account_s_limits_are_told(scripted: ScriptedAws, tmp_path: Path) -> None:
    made = job(scripted, tmp_path)
    scripted.answers["GetAccountSettings"] = limits()
    assert look(probes_aws.check_concurrency, made) == (
        True, "1000 invocations at a time in this account and region, 1000 of them reserved for no function",
    )  # fmt: skip
    assert look(probes_aws.check_code_storage, made)[0] is True
    scripted.answers["GetAccountSettings"] = limits(most=10, used=74 << 30)
    assert "ask for more in Service Quotas" in look(probes_aws.check_concurrency, made)[1]
    ok, says = look(probes_aws.check_code_storage, made)
    assert (ok, "keep_versions in config.ini" in says) == (False, True)
    scripted.answers["GetAccountSettings"] = DENIED
    for check in (probes_aws.check_concurrency, probes_aws.check_code_storage):
        ok, says = look(check, made)
        assert (ok, "the builder's role lacks lambda:GetAccountSettings, which only doctor" in says) == (None, True)


ROLE = {"Arn": "arn:aws:sts::123456789012:assumed-role/yo-dawg-Role-ABC/yo-dawg"}


@pytest.mark.parametrize(("names", "ok"), [(10, True), (300, False)])
def test_a_role_that_is_nearly_full_is_told(scripted: ScriptedAws, tmp_path: Path, names: int, ok: bool) -> None:
    statement = {
        "Effect": "Allow",
        "Action": "lambda:*",
        "Resource": [f"arn:aws:lambda:::function:{each:08d}" for each in range(names)],
    }
    scripted.answers = {
        "GetCallerIdentity": ROLE,
        "ListRolePolicies": {"PolicyNames": ["builder"]},
        "GetRolePolicy": {"PolicyDocument": json.dumps({"Version": "2012-10-17", "Statement": [statement]})},
    }
    found, says = look(probes_aws.check_policies, job(scripted, tmp_path))
    assert (found, "yo-dawg-Role-ABC have" in says, "use patterns" in says) == (ok, True, not ok)
    assert scripted.asked("GetRolePolicy") == [{"RoleName": "yo-dawg-Role-ABC", "PolicyName": "builder"}]
    scripted.answers["ListRolePolicies"] = DENIED
    found, says = look(probes_aws.check_policies, job(scripted, tmp_path))
    assert (found, "lacks iam:ListRolePolicies" in says) == (None, True)


# --- Targets ----------------------------------------------------------------------------------------------------


def target(**more: Any) -> dict[str, Any]:
    """Return the answers of Lambda about a function with which all is well."""
    return {
        "GetFunctionConfiguration": configuration(Environment={"Variables": {"A": "1"}}),
        "UpdateFunctionCode": configuration(),
        "Invoke": {"StatusCode": 204},
        "GetFunction": {"Configuration": configuration(), "Code": {"Location": "https://x"}},
        "GetFunctionCodeSigningConfig": Refusal("ResourceNotFoundException", status=404),
        "GetLayerVersionByArn": {},
        **more,
    }


def examined(scripted: ScriptedAws, folder: Path) -> dict[str, tuple[bool | None, str]]:
    found = examine_target("api", job(scripted, folder))
    return {each["name"].removeprefix("function api").removeprefix(": "): (each["ok"], each["says"]) for each in found}


def test_a_function_with_which_all_is_well(scripted: ScriptedAws, tmp_path: Path) -> None:
    scripted.answers = target()
    found = examined(scripted, tmp_path)
    assert set(found) == {"", "variables", "test event", "code", "layers", "code signing"}
    assert {ok for ok, _ in found.values()} == {True}, found
    assert all(each["DryRun"] for each in scripted.asked("UpdateFunctionCode")), "nothing is changed"
    assert {each["InvocationType"] for each in scripted.asked("Invoke")} == {"DryRun"}


CONFIG = {"CodeSigningConfig": {"CodeSigningPolicies": {"UntrustedArtifactOnDeployment": "Enforce"}}}
SIGNING = {"FunctionName": "api", "CodeSigningConfigArn": "arn:aws:lambda:us-east-1:123456789012:code-signing-config:x"}
LAYER = "arn:aws:lambda:us-east-1:999999999999:layer:theirs:1"


@pytest.mark.parametrize(
    ("answers", "name", "ok", "words"),
    [
        pytest.param(
            {"GetFunctionConfiguration": configuration(
                Environment={"Error": {"ErrorCode": "AccessDeniedException", "Message": "KMS"}}, KMSKeyArn=KEY)},
            "variables", False, f"Add {KEY} to kms_keys", id="variables",
        ),
        pytest.param(
            {"GetFunction": {"Code": {"Error": {"ErrorCode": "AccessDenied", "Message": "no such object"}}}},
            "code", False, "cannot hand out the code of api", id="code",
        ),
        pytest.param({"GetFunction": DENIED}, "code", None, "lacks lambda:GetFunction", id="code, denied"),
        pytest.param(
            {"GetFunctionConfiguration": configuration(Layers=[{"Arn": LAYER}]), "GetLayerVersionByArn": DENIED},
            "layers", None, LAYER, id="a layer",
        ),
        pytest.param(
            {"GetFunctionCodeSigningConfig": SIGNING, "GetCodeSigningConfig": CONFIG},
            "code signing", False, "UntrustedArtifactOnDeployment", id="code signing",
        ),
        pytest.param(
            {"GetFunctionCodeSigningConfig": DENIED},
            "code signing", None, "lacks lambda:GetFunctionCodeSigningConfig", id="code signing, denied",
        ),
        pytest.param(
            {"GetFunctionCodeSigningConfig": Refusal("UnknownOperationException", status=404)},
            "code signing", None, "this AWS does not offer that", id="code signing, elsewhere",
        ),
        pytest.param({"Invoke": DENIED}, "test event", False, "./deploy.sh bootstrap", id="may not be invoked"),
        pytest.param(
            {"GetFunctionConfiguration": configuration(TenancyConfig={"TenantIsolationMode": "PER_TENANT"})},
            "test event", None, "keeps its tenants apart", id="tenants",
        ),
        pytest.param(
            {"GetFunctionConfiguration": configuration(State="Inactive")},
            "test event", True, "it is asleep", id="asleep",
        ),
        pytest.param(
            {"UpdateFunctionCode": DENIED}, "", False, "./deploy.sh bootstrap", id="may not be updated",
        ),
        pytest.param(
            {"GetFunctionConfiguration": configuration(State="Failed", StateReason="so")},
            "", False, "api is Failed (so): mend it", id="failed",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_function_is_told(
    scripted: ScriptedAws, tmp_path: Path, answers: dict[str, Any], name: str, ok: bool | None, words: str
) -> None:
    scripted.answers = target(**answers)
    found, says = examined(scripted, tmp_path)[name]
    assert (found, words in says) == (ok, True), says


def test_patterns_and_the_builder_itself_name_no_function(scripted: ScriptedAws, tmp_path: Path) -> None:
    assert deployable_names(job(scripted, tmp_path, deployable=("api", "other-*", "yo-dawg"))) == ["api"]


def test_everything_is_asked_in_one_invocation(
    scripted: ScriptedAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is refused: there is a finding for each, and no error."""
    monkeypatch.setattr("yo_dawg.control.probes_network.SECONDS", 0.1)
    monkeypatch.setattr("yo_dawg.control.probes_aws.try_toolchain", lambda parts, job: "uv 1")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    made = job(scripted, tmp_path, deployable=("api",), client={"PIP_INDEX_URL": "http://127.0.0.1:1/simple"})
    names = [each["name"] for each in examine(made)]
    assert {name for name, _ in (*CHECKS, *ACCOUNT_CHECKS)} <= {*names}
    assert names[-1] == "function api"
    assert "index 127.0.0.1" in names
    assert finding("x", "y") == {"name": "x", "ok": True, "says": "y"}


# --- The network ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost, with its key."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = [
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/O=Tests Inc/CN=localhost",
        "-addext", "subjectAltName=DNS:localhost", "-keyout", str(path), "-out", f"{path}.crt",
    ]  # fmt: skip
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"there is no openssl that could make a certificate: {error}")
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


@contextmanager
def served(certificate: Path | None, seen: list[bytes]) -> Iterator[int]:
    """Serve connections, over TLS if there is a certificate; note what clients send.  Yields the port."""

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                if certificate:
                    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                    context.load_cert_chain(certificate)
                    connection = context.wrap_socket(connection, server_side=True)
                else:
                    connection.sendall(b"SSH-2.0-tests\r\n")
                seen.append(connection.recv(1000))
            except OSError:
                continue
            finally:
                connection.close()

    with socket.create_server(("localhost", 0)) as listener:
        thread = threading.Thread(target=serve, args=[listener], daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def test_the_git_host_is_greeted_by_tls_and_told_nothing(
    scripted: ScriptedAws, tmp_path: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []
    with served(certificate, seen) as port:
        made = job(scripted, tmp_path, deployable=("*",))
        host = ("https", "localhost", port)
        ok, says = greeted(host, made)
        assert (ok, "its certificate is not trusted: self-signed" in says.replace("self signed", "self-signed")) == (
            False, True,
        ), says  # fmt: skip
        assert "set ca_bundle in config.ini" in says
        monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
        ok, says = greeted(host, made)
        assert ok, says
        assert "localhost can be reached: TLSv1." in says
        assert "vouched for by Tests Inc" in says
    assert b"".join(seen) == b"", "after the handshake nothing is sent"


def test_a_host_that_does_not_answer_is_told(scripted: ScriptedAws, tmp_path: Path) -> None:
    ok, says = greeted(("https", "127.0.0.1", 1), job(scripted, tmp_path))
    assert (ok, "Has this function a way out (VPC, NAT, proxy in config.ini)?" in says) == (False, True)


def test_a_host_of_ssh_is_greeted_by_its_banner(scripted: ScriptedAws, tmp_path: Path) -> None:
    seen: list[bytes] = []
    with served(None, seen) as port:
        ok, says = greeted(("ssh", "localhost", port), job(scripted, tmp_path))
        assert (ok, says) == (True, "localhost can be reached")
    with http_server() as port:
        ok, says = greeted(("ssh", "127.0.0.1", port), job(scripted, tmp_path))
        assert ok is False


def greeted(place: tuple[str, str, int], job: Job) -> tuple[bool | None, str]:
    """Greet a host; return whether that went well, and what was said."""
    return look(functools.partial(probes_network.check_index, place), job)


def pump(source: socket.socket, target: socket.socket) -> None:
    """Copy what comes to where it goes."""
    with contextlib.suppress(OSError):
        while piece := source.recv(1 << 16):
            target.sendall(piece)


@contextmanager
def http_server(asked: list[str] | None = None, to: int = 0) -> Iterator[int]:
    """Serve a proxy that notes what it is asked to connect to, and connects to a port of this machine."""

    class Proxy(http.server.BaseHTTPRequestHandler):
        timeout = 2

        def do_CONNECT(self) -> None:
            (asked if asked is not None else []).append(self.path + str(self.headers.get("Proxy-Authorization", "")))
            self.send_response(200)
            self.end_headers()
            with socket.create_connection(("localhost", to)) as there:
                back = threading.Thread(target=pump, args=(there, self.connection), daemon=True)
                back.start()
                pump(self.connection, there)
                there.shutdown(socket.SHUT_RDWR)
                back.join(5)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def test_a_proxy_is_gone_through_as_builds_do(
    scripted: ScriptedAws, tmp_path: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
    asked: list[str] = []
    with served(certificate, []) as port, http_server(asked, port) as proxy:
        host = ("https", "localhost", port)
        address = f"http://127.0.0.1:{proxy}"
        made = job(scripted, tmp_path, client={"HTTPS_PROXY": address})
        ok, says = greeted(host, made)
        assert asked == [f"localhost:{port}"]
        assert (ok, "localhost can be reached through the proxy 127.0.0.1: TLSv1." in says) == (True, True), says
        made = job(scripted, tmp_path, client={"https_proxy": address, "no_proxy": "localhost"})
        ok, says = greeted(host, made)
        assert (ok, "proxy" in says) == (True, False), says
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("client", "private", "hosts"),
    [
        ({}, (), [urlsplit(PyPI.url).hostname, PyPI.file_storage_domain]),
        ({"PIP_INDEX_URL": "https://mirror.example/simple"}, (), ["mirror.example"]),
        (
            {"UV_DEFAULT_INDEX": "ours=https://a.example/simple", "PIP_EXTRA_INDEX_URL": "https://b.example/x https://a.example/y"},
            ("https://user:pass@c.example/simple/",),
            ["a.example", "b.example", "c.example"],
        ),
    ],
)  # fmt: skip
def test_which_indexes_are_greeted(
    scripted: ScriptedAws, tmp_path: Path, client: dict[str, str], private: tuple[str, ...], hosts: list[str]
) -> None:
    made = job(scripted, tmp_path, client=client)
    vars(made)["indexes"] = private
    assert [name for name, _ in probes_network.index_checks(made)] == [f"index {each}" for each in hosts]
