"""Requests and responses, between the HTTP server and what answers."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from typing import Any

from local.rest_json import Request, Response

Environ = dict[str, Any]
StartResponse = Callable[..., Any]


def service_of(environ: Environ) -> str:
    """Return the service that a request is signed for; S3 where nothing says otherwise."""
    scope = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].split(",")[0].split("/")
    return scope[3].lower() if len(scope) == 5 else ""


def access_key_of(environ: Environ) -> str:
    """Return the access key that a request is signed with."""
    return str(environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].split("/")[0])


def headers_of(environ: Environ) -> dict[str, str]:
    """Return a request's headers with lower-case names."""
    headers = {name[5:].replace("_", "-").lower(): str(value) for name, value in environ.items() if name[:5] == "HTTP_"}
    return headers | {"content-type": environ.get("CONTENT_TYPE", "")}


def request_of(environ: Environ) -> Request:
    """Return a request as the Lambda API reads it."""
    return Request(
        method=environ["REQUEST_METHOD"],
        path=environ["REQUEST_URI"].partition("?")[0],
        query=environ.get("QUERY_STRING", ""),
        headers=headers_of(environ),
        body=environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)),
    )


def peek(environ: Environ) -> Request:
    """Return a request whose body can still be read; not that of an object, which nobody needs to look at."""
    if service_of(environ) == "s3" and environ["REQUEST_METHOD"] == "PUT":
        return request_of({**environ, "CONTENT_LENGTH": 0})
    request = request_of(environ)
    environ["wsgi.input"] = io.BytesIO(request.body)
    return request


def swallow(*_: Any, **__: Any) -> None:
    """Begin a response that nobody will get."""


def lose(answer: Iterable[bytes], start_response: StartResponse) -> Iterable[bytes]:
    """Let an answer get lost: the connection ends before it."""
    for _ in answer:
        pass
    start_response("200 -", [("Content-Length", "1000"), ("Connection", "close")])
    return []


def send(start_response: StartResponse, response: Response) -> Iterable[bytes]:
    """Send a response of ours."""
    headers = [("Content-Length", str(len(response.body))), *response.headers.items()]
    start_response(f"{response.status} -", headers)
    return [response.body]
