"""What a request to AWS means to IAM: actions on resources, with what conditions may ask about."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote
from xml.etree import ElementTree

from local.iam import Context
from local.rest_json import ApiError, Request

LAMBDA_ACTIONS = {"Invoke": "InvokeFunction", "GetLayerVersionByArn": "GetLayerVersion"}
QUALIFIED = ("Invoke", "GetFunction", "GetFunctionConfiguration", "GetFunctionEventInvokeConfig", "GetPolicy")
"""Operations whose resource is the version or the alias that is asked about, if one is named."""

BUCKET_ACTIONS = {
    "location": "GetBucketLocation", "versioning": "GetBucketVersioning", "encryption": "GetEncryptionConfiguration",
    "publicAccessBlock": "GetBucketPublicAccessBlock", "policy": "GetBucketPolicy", "tagging": "GetBucketTagging",
    "lifecycle": "GetLifecycleConfiguration", "uploads": "ListBucketMultipartUploads",
}  # fmt: skip


@dataclass(frozen=True)
class Deed:
    """One action on one resource."""

    action: str
    resource: str
    context: Context = field(default_factory=dict)


class Here(Protocol):
    """What must be known of an account to name its resources."""

    account: str
    region: str

    def lambda_operation(self, request: Request) -> tuple[str, dict[str, Any]]:
        """Return the Lambda operation that a request asks for, and its parameters."""

    def secret_arn(self, name: str) -> str:
        """Return the ARN of a secret by its name or ARN."""


def deeds(service: str, request: Request, here: Here) -> list[Deed]:
    """Return all that a request wants to do."""
    match service:
        case "lambda":
            return list(lambda_deeds(request, here))
        case "s3":
            return list(s3_deeds(request))
        case "secretsmanager" | "logs" | "tagging":
            return [json_deed(service, request, here)]
    parameters = {key: values[0] for key, values in parse_qs(request.body.decode("utf-8", "replace")).items()}
    target = request.headers.get("x-amz-target", "").rpartition(".")[2]
    operation = target or parameters.get("Action") or parse_qs(request.query).get("Action", ["Unknown"])[0]
    if service == "sts" and operation == "GetCallerIdentity":
        return []  # which nobody needs to be allowed
    return [Deed(f"{service}:{operation}", parameters.get("RoleArn", "*"))]


def lambda_deeds(request: Request, here: Here) -> Iterator[Deed]:
    """Yield what a request to Lambda wants to do, with what Lambda does in its name."""
    try:
        operation, parameters = here.lambda_operation(request)
    except ApiError:
        return  # which Lambda refuses by itself
    resource = "*"
    start = f"arn:aws:lambda:{here.region}:{here.account}"
    if "FunctionName" in parameters and operation != "ListFunctions":
        given = re.sub(r"^(arn:aws[a-z-]*:lambda:[a-z0-9-]+:)?(\d{12}:)?(function:)?", "", parameters["FunctionName"])
        name, _, qualifier = given.partition(":")
        qualifier = qualifier or parameters.get("Qualifier", "")
        resource = f"{start}:function:{name}" + (f":{qualifier}" if qualifier and operation in QUALIFIED else "")
    elif "LayerName" in parameters:
        resource = f"{start}:layer:{parameters['LayerName']}"
        resource += f":{parameters['VersionNumber']}" if "VersionNumber" in parameters else ""
    else:
        resource = parameters.get("Arn") or parameters.get("Resource") or "*"
    tags = [*parameters.get("Tags", {}), *parameters.get("TagKeys", [])] if "Resource" in parameters else []
    yield Deed(f"lambda:{LAMBDA_ACTIONS.get(operation, operation)}", resource, {"aws:TagKeys": tags} if tags else {})
    code = parameters.get("Code") or parameters.get("Content") or parameters
    if isinstance(code, Mapping) and code.get("S3Bucket") and code.get("S3Key"):
        action = "s3:GetObjectVersion" if code.get("S3ObjectVersion") else "s3:GetObject"
        yield Deed(action, f"arn:aws:s3:::{code['S3Bucket']}/{code['S3Key']}")


def s3_deeds(request: Request) -> Iterator[Deed]:
    """Yield what a request to S3 wants to do."""
    bucket, _, key = unquote(request.path).lstrip("/").partition("/")
    query = parse_qs(request.query, keep_blank_values=True)
    arn = f"arn:aws:s3:::{bucket}"
    if not bucket:
        yield Deed("s3:ListAllMyBuckets", "*")
    elif key:
        yield Deed(f"s3:{object_action(request.method, query)}", f"{arn}/{key}")
        if source := request.headers.get("x-amz-copy-source"):
            yield Deed("s3:GetObject", f"arn:aws:s3:::{unquote(source).lstrip('/').partition('?')[0]}")
    elif request.method == "POST" and "delete" in query:
        for element in ElementTree.fromstring(request.body).iter():  # noqa: S314 (from a function under test)
            if element.tag.rpartition("}")[2] == "Key":
                yield Deed("s3:DeleteObject", f"{arn}/{element.text}")
    elif request.method in ("GET", "HEAD"):
        action = next((BUCKET_ACTIONS[name] for name in query if name in BUCKET_ACTIONS), None)
        listing = "ListBucketVersions" if "versions" in query else "ListBucket"
        prefix = {"s3:prefix": query["prefix"][0]} if "prefix" in query else {}
        yield Deed(f"s3:{action or listing}", arn, {} if action else prefix)
    else:
        what = next((name[0].upper() + name[1:] for name in query), "")
        verb = {"PUT": "Put" if what else "Create", "DELETE": "Delete"}.get(request.method, request.method.title())
        yield Deed(f"s3:{verb}Bucket{what}", arn)


def object_action(method: str, query: Mapping[str, Any]) -> str:
    """Return the action of a request about an object."""
    if method in ("GET", "HEAD"):
        if "uploadId" in query:
            return "ListMultipartUploadParts"
        return "GetObject" + ("Tagging" if "tagging" in query else "Version" if "versionId" in query else "")
    if method == "DELETE":
        if "uploadId" in query:
            return "AbortMultipartUpload"
        return "DeleteObject" + ("Tagging" if "tagging" in query else "Version" if "versionId" in query else "")
    return "PutObject" + ("Tagging" if "tagging" in query else "")


def json_deed(service: str, request: Request, here: Here) -> Deed:
    """Return what a request in JSON, whose operation a header names, wants to do."""
    operation = request.headers.get("x-amz-target", "").rpartition(".")[2]
    if service == "tagging":
        return Deed(f"tag:{operation}", "*")
    parameters = json.loads(request.body or b"{}")
    if service == "secretsmanager":
        name = parameters.get("SecretId") or parameters.get("Name")
        return Deed(f"secretsmanager:{operation}", here.secret_arn(name) if name else "*")
    group, stream = parameters.get("logGroupName"), parameters.get("logStreamName", "")
    arn = f"arn:aws:logs:{here.region}:{here.account}:log-group:{group}:log-stream:{stream}"
    return Deed(f"logs:{operation}", arn if group else "*")
