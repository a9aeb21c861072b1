"""AWS as a test writes it: boto3's own clients, whose calls are answered without a network.

boto3 checks the parameters and reads the answers, so both must be what its service model says.
"""

from __future__ import annotations

import functools
import io
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from yo_dawg.builder import Builder
from yo_dawg.control.clients import Aws, make_clients
from yo_dawg.control.job import Job
from yo_dawg.control.store import Store
from yo_dawg.log import Log
from yo_dawg.settings import Settings

ACCOUNT = "123456789012"
ARN = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:"
KEY = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/0a1b2c3d-0000-4000-8000-0123456789ab"


class Refusal:
    """An error that AWS answers with."""

    def __init__(self, code: str, message: str = "no", status: int = 400) -> None:
        self.code, self.message, self.status = code, message, status


Answer = Mapping[str, Any] | Refusal | Callable[[dict[str, Any]], Any]


class ScriptedAws:
    """Answers for operations by their names, and what was asked; a list of answers is used up, but for its last."""

    current: ScriptedAws
    """The one that was made last: making clients takes long, so all share them."""

    def __init__(self, **answers: Answer | list[Answer]) -> None:
        ScriptedAws.current = self
        self.answers: dict[str, Answer | list[Answer]] = dict(answers)
        self.calls: list[tuple[str, dict[str, Any]]] = []
        made = real_clients()
        self.aws = Aws(made.s3, made.functions, scripted_client)

    def note(self, params: dict[str, Any], model: Any) -> None:
        """Remember a call."""
        self.calls.append((model.name, dict(params)))

    def answer(self, model: Any, parser: Any) -> tuple[Any, dict[str, Any]]:
        """Return what boto3 takes for an HTTP response, and for what it has read in it."""
        found = self.answers.get(model.name, Refusal("NotScripted", model.name))
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        if callable(found):
            found = found(self.calls[-1][1])
        if isinstance(found, Refusal):
            error = {"Code": found.code, "Message": found.message}
            meta = {"HTTPStatusCode": found.status, "RequestId": "1", "HTTPHeaders": {}}
            return SimpleNamespace(status_code=found.status), {"Error": error, "ResponseMetadata": meta}
        said = cast("Mapping[str, Any]", found)
        if model.service_model.service_id != "Lambda" or model.has_streaming_output:
            return SimpleNamespace(status_code=200), {**said, "ResponseMetadata": {"HTTPStatusCode": 200}}
        content = json.dumps(said).encode()
        raw = {"body": content, "headers": {}, "status_code": 200}
        return (
            SimpleNamespace(status_code=200, content=content),
            parser.parse(raw, model.output_shape),
        )

    def asked(self, operation: str) -> list[dict[str, Any]]:
        """Return the parameters of each call of an operation."""
        return [params for name, params in self.calls if name == operation]


def script(client: Any) -> Any:
    """Let a client ask the present script instead of AWS."""
    service = client.meta.service_model.service_id.hyphenize()

    def note(params: dict[str, Any], model: Any, **_: Any) -> None:
        ScriptedAws.current.note(params, model)

    def answer(model: Any, **_: Any) -> tuple[Any, dict[str, Any]]:
        return ScriptedAws.current.answer(model, client._response_parser)

    client.meta.events.register_first(f"before-parameter-build.{service}", note)
    client.meta.events.register_first(f"before-call.{service}", answer)
    return client


@functools.cache
def real_clients() -> Aws:
    """Return clients as the handler makes them."""
    made = make_clients()
    return Aws(script(made.s3), script(made.functions), made.make)


@functools.cache
def scripted_client(name: str) -> Any:
    """Return the client of another service."""
    return script(real_clients().make(name))


def configuration(name: str = "api", **more: Any) -> dict[str, Any]:
    """Return what GetFunctionConfiguration says of a function."""
    return {
        "FunctionName": name, "FunctionArn": ARN + name, "Runtime": "python3.13", "Architectures": ["x86_64"],
        "Handler": "app.handler", "CodeSha256": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "RevisionId": "1",
        "State": "Active", "LastUpdateStatus": "Successful", "PackageType": "Zip", "Timeout": 3, "MemorySize": 128,
        **more,
    }  # fmt: skip


def invoked(payload: object = None) -> dict[str, Any]:
    """Return what Invoke says of a function that has answered."""
    return {"StatusCode": 200, "Payload": io.BytesIO(json.dumps(payload).encode())}


def builder() -> Builder:
    """Return the builder yo-dawg, with five minutes left."""
    return Builder(f"{'yo-dawg'}", f"{ARN}yo-dawg", "request-1", "python3.13", "x86_64", until=time.time() + 300)


def job(scripted: ScriptedAws, folder: Path, **settings: Any) -> Job:
    """Return a job that works with these answers; it has no programs."""
    space = SimpleNamespace(root=folder)
    given = {"deployable": ("*",), **settings}
    made = Settings("bucket", base_url="https://git.example", username="", tmp=folder, tmp_is_ours=True,
                    token_secret=given.pop("token_secret", ""), **given)  # fmt: skip
    store = Store(scripted.aws.s3, "bucket", "yo-dawg", ACCOUNT)
    nothing = cast("Any", None)
    return Job(made, builder(), cast("Any", space), Log(()), nothing, scripted.aws, store, nothing)
