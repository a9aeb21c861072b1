"""The embedded AWS: one server on 127.0.0.1 that the AWS CLI, boto3 and functions talk to as they talk to AWS.

    with EmbeddedAWS() as aws:
        aws.client("s3").create_bucket(Bucket="my-bucket")

moto serves S3, IAM, STS, CloudFormation, Secrets Manager, CloudWatch Logs and what else it knows; Lambda is our own
(lambda_api.py), and its functions really run (environments.py).
"""

from __future__ import annotations

import io
import itertools
import os
import secrets
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, cast

from local import moto_mends, runtimes, sandbox, stacks, walls
from local.code_store import Code, CodeStore, remove_tree
from local.environments import Credentials, Environment, FunctionFacts, Host, Identity
from local.functions import Function, Unit, Version
from local.gatekeeper import Gatekeeper
from local.lambda_api import LambdaApi
from local.rest_json import Request, Response
from local.wsgi import (
    Environ,
    StartResponse,
    access_key_of,
    headers_of,
    lose,
    peek,
    request_of,
    send,
    service_of,
    swallow,
)

ACCOUNT = "123456789012"
REGION = "us-east-1"

# moto keeps the state of a whole process in one place, by account: a second server gets an account of its own.
_accounts: set[str] = set()


def free_account() -> str:
    """Return the first account that no other server of this process has."""
    account = next(str(number) for number in itertools.count(int(ACCOUNT)) if str(number) not in _accounts)
    _accounts.add(account)
    return account


Fault = Callable[[str, str], Response | Literal["lost"] | None]
"""What becomes of a request: this response instead; or it is served, and its answer gets lost; or nothing special."""


class EmbeddedAWS:
    """An AWS account in one region, which lives as long as this object is open."""

    def __init__(
        self,
        *,
        client_environment: Mapping[str, str] | None = None,
        port: int = 0,
        walls: bool | Literal["auto"] = "auto",
        cache: Path | None = None,
        update_seconds: float = 0.3,
        retry_seconds: tuple[float, ...] = (0.2, 0.4),
        readable: Sequence[Path] = (),
    ) -> None:
        """Start to serve.

        client_environment is added to what functions find in their environment, for package indexes and proxies of
        this machine. walls=False runs functions without a sandbox, "auto" where there can be none. cache is where
        runtimes are kept. For update_seconds a created or updated function is Pending or InProgress (see also
        finish_updates), and retry_seconds pass before a failed event is tried again: a minute and two on AWS.
        readable are files and directories of this machine that functions may read at their own names.
        """
        self.walls = self.decide_walls(walls)
        # Tried before anything else is begun: a port that is taken is an error (werkzeug would end the process).
        socket.create_server(("127.0.0.1", port)).close()
        self.account, self.region = free_account(), REGION
        self.client_environment = dict(client_environment or {})
        self.cache = cache
        self.readable = tuple(readable)
        self.secrets: list[str] = []
        """Every secret that functions were given: what must never leak."""
        self.root = Path(tempfile.mkdtemp(prefix="embedded-aws-"))
        self.launcher = sandbox.Launcher()
        self.logs = moto_mends.LogGroups(self.account, self.region)
        self.api = LambdaApi(self, CodeStore(self.root / "code"), update_seconds, retry_seconds)
        self.gatekeeper = Gatekeeper(self)
        self.mended = False
        self.fault: Fault | None = None
        """Tests may have requests fail: it gets the service, and the method and address."""
        self.backend_lock = threading.Lock()
        self.condition_lock = threading.Lock()
        self.server = self.serve(port)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        """Where it is: the value for AWS_ENDPOINT_URL."""
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), name="embedded-aws", daemon=True)
        self.thread.start()

    def decide_walls(self, wanted: bool | Literal["auto"]) -> bool:
        """Say whether functions run behind walls; where they should and cannot, tell the reader once."""
        if wanted is False:
            return False
        problem = walls.walls_problem()
        if problem and wanted is True:
            raise sandbox.SandboxError(problem)
        if problem:
            print(f"embedded AWS: functions run without walls, as {problem}.", file=sys.stderr)
        return not problem

    # --- what clients use ---

    @property
    def environ(self) -> dict[str, str]:
        """Return the environment variables with which the AWS CLI and SDKs talk to this AWS."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "AKIAEMBEDDEDAWS00000",
            "AWS_SECRET_ACCESS_KEY": "embedded-aws-takes-any-key",
            "AWS_DEFAULT_REGION": self.region,
            "AWS_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            # Files of the user's could lead to the real AWS, or say that AWS_ENDPOINT_URL does not count.
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "false",
            # A proxy must not be asked for an address of this machine.
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def client(self, service: str, **config: Any) -> Any:
        """Return a boto3 client which waits as long as a function may run, and never tries twice."""
        import boto3
        from botocore.config import Config

        settings: dict[str, Any] = {
            "read_timeout": 905, "connect_timeout": 10, "retries": {"total_max_attempts": 1}, "proxies": {},
        }  # fmt: skip
        session = boto3.session.Session(
            aws_access_key_id=self.environ["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environ["AWS_SECRET_ACCESS_KEY"],
            region_name=self.region,
        )
        return session.client(service, endpoint_url=self.endpoint, config=Config(**(settings | config)))

    def environments(self, function: str) -> list[Environment]:
        """Return a function's execution environments that are alive."""
        return self.api.environments(function)

    def finish_updates(self) -> None:
        """End every creation and update of a function now, however long update_seconds is."""
        self.api.finish_updates()

    def wait_for_events(self) -> None:
        """Wait until every event of an asynchronous invocation has been served."""
        self.api.wait_for_events()

    @property
    def update_seconds(self) -> float:
        """Return how long an update takes."""
        return self.api.account.update_seconds

    @update_seconds.setter
    def update_seconds(self, seconds: float) -> None:
        """Set how long the next updates take."""
        self.api.account.update_seconds = seconds

    # --- what the Lambda API uses ---

    def caller_arn(self) -> str:
        """Return who makes the request at hand."""
        return self.gatekeeper.caller_arn()

    def lambda_operation(self, request: Request) -> tuple[str, dict[str, Any]]:
        """Return the Lambda operation that a request asks for, and its parameters."""
        return self.api.service.parse(request)

    def secret_arn(self, name: str) -> str:
        """Return the ARN of a secret by its name or ARN."""
        return moto_mends.secret_arn(self.account, self.region, name)

    def role_trusts_lambda(self, arn: str) -> bool:
        """Say whether a role exists and lets Lambda assume it."""
        return moto_mends.role_trusts_lambda(self.account, arn)

    def read_object(self, bucket: str, key: str, version: str | None) -> bytes:
        """Return an object's bytes, or raise ApiError as Lambda would."""
        return moto_mends.read_object(self.account, bucket, key, version)

    def make_environment(self, function: Function, version: Version, unit: Unit) -> Environment:
        """Make an execution environment for a version of a function."""
        config = unit.config
        code = cast(Code, unit.code)  # an image, which has none, is not run
        group = config["LoggingConfig"]["LogGroup"]
        facts = FunctionFacts(
            name=function.name,
            version=version.number,
            arn=function.arn,
            handler=config["Handler"],
            timeout=config["Timeout"],
            memory_mb=config["MemorySize"],
            log_group=group,
            log_format=config["LoggingConfig"]["LogFormat"],
            variables=config.get("Environment", {}).get("Variables", {}),
        )
        room = sandbox.Room(
            image=runtimes.prepare(config["Runtime"], self.cache),
            task=self.api.codes.tree(code),
            layers=self.api.codes.merged(unit.layers),
            tmp_bytes=config["EphemeralStorage"]["Size"] * 2**20,
            memory_bytes=config["MemorySize"] * 2**20,
            walls=self.walls,
            scratch=self.root,
            readable=self.readable,
        )
        identity = Identity(
            self.new_credentials(function.name, config["Role"]),
            {"AWS_ENDPOINT_URL": self.endpoint, **self.client_environment},
        )
        host = Host(self.launcher, lambda stream, lines: self.logs.write(group, stream, lines))
        return Environment(facts, identity, room, host)

    def new_credentials(self, session: str, role: str) -> Credentials:
        """Make up the temporary keys of a function's role, with secrets that can be recognised anywhere."""
        keys = (
            "ASIA" + secrets.token_hex(8).upper(),
            "canary-secret-key-" + secrets.token_hex(16),
            "canary-session-token-" + secrets.token_hex(32),
        )
        self.secrets.extend(keys[1:])
        moto_mends.assume_role(self.account, self.region, role, session, keys)
        self.gatekeeper.admit(keys[0], role, session)
        return Credentials(*keys)

    # --- the server ---

    def serve(self, port: int) -> Any:
        """Make the HTTP server."""
        moto_mends.stand_in_for_openapi()
        moto_mends.limit_inline_policies()
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
        from werkzeug.serving import make_server

        class Handler(MotoRequestHandler):
            def log(self, type: str, message: str, *args: Any) -> None:
                """Write no access log."""

        self.backend = DomainDispatcherApplication(create_backend_app)
        return make_server("127.0.0.1", port, self.application, threaded=True, request_handler=Handler)

    def moto(self, service: str) -> Any:
        """Return moto's application; CloudFormation, which takes a second to import, is mended when first asked for."""
        with self.backend_lock:
            if service == "cloudformation" and not self.mended:
                stacks.mend_cloudformation(self.api)
                self.mended = True
            return self.backend

    def application(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request: Lambda's here, all others by moto."""
        service = service_of(environ)
        environ["HTTP_X_MOTO_ACCOUNT_ID"] = self.account
        fault = self.fault(service, f"{environ['REQUEST_METHOD']} {environ['REQUEST_URI']}") if self.fault else None
        if isinstance(fault, Response):
            return send(start_response, fault)
        answer = self.answer(service, environ, start_response if fault is None else swallow)
        return answer if fault is None else lose(answer, start_response)

    def answer(self, service: str, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request: Lambda's here, all others by moto."""
        if environ["PATH_INFO"].startswith("/lambda-code/"):
            return send(start_response, self.code_archive(environ["PATH_INFO"].rpartition("/")[2]))
        if refusal := self.gatekeeper.refuse(service, access_key_of(environ), lambda: peek(environ)):
            return send(start_response, refusal)
        if service == "lambda":
            return send(start_response, self.api.handle(request_of(environ)))
        if service == "tagging":
            return send(start_response, self.api.find_tagged(request_of(environ)))
        if service == "s3":
            moto_mends.name_checksum(environ)
            problem = self.s3_problem(environ)
            if problem:
                status, code, message = problem
                body = moto_mends.error_document(code, message)
                return send(start_response, Response(status, body, {"Content-Type": "application/xml"}))
            if "HTTP_IF_MATCH" in environ or "HTTP_IF_NONE_MATCH" in environ:
                with self.condition_lock:  # S3 compares and writes in one step, moto in two
                    return list(self.moto(service)(environ, start_response))
        made: Iterable[bytes] = self.moto(service)(environ, start_response)
        return made

    def s3_problem(self, environ: Environ) -> tuple[int, str, str] | None:
        """Return why S3 refuses a request, reading its body if that is what is to be checked."""
        headers = headers_of(environ)
        body = None
        if not headers.get("x-amz-content-sha256", "").startswith("STREAMING") and environ["REQUEST_METHOD"] == "PUT":
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            environ["wsgi.input"] = io.BytesIO(body)
            environ["wsgi.input_terminated"] = True  # it ends by itself: werkzeug need not count it out in pieces
        return moto_mends.s3_problem(self.account, headers, body)

    def code_archive(self, name: str) -> Response:
        """Return a function's package, for the link that GetFunction gives."""
        code = self.api.codes.known.get(name.removesuffix(".zip"))
        if code is None:
            return Response(404, b"")
        return Response(200, code.archive.read_bytes(), {"Content-Type": "application/zip"})

    def close(self) -> None:
        """End everything: functions, server, files."""
        self.api.close()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
        self.launcher.close()
        moto_mends.forget(self.account)
        remove_tree(self.root)
        _accounts.discard(self.account)

    def __enter__(self) -> EmbeddedAWS:
        """Return this AWS."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()
