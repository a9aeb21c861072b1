"""The deployment bucket: made if it is missing, encrypted and closed to the public; looked at if it is there."""

from __future__ import annotations

from typing import Any

from client.aws import AwsError, code_of, reason
from client.config import Config
from client.faults import Fault
from client.main import App

CLOSED = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": True,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}


class Missing(Exception):
    """There is no such bucket."""


def owned(app: App) -> dict[str, str]:
    """Return what every call says of the bucket: which, and whose it must be."""
    return {"Bucket": app.config.deployment_bucket, "ExpectedBucketOwner": app.aws.account}


def ensure(app: App) -> bool:
    """Make the bucket if it is missing; say whether it was."""
    try:
        if problem := check(app):
            app.screen.warn(problem)
    except Missing:
        make(app)
        return True
    return False


def check(app: App) -> str:
    """Look at the bucket; return what is not as it should be, but can be lived with.

    Raises Missing where there is none, and Fault where it cannot be used.
    """
    config = app.config
    s3 = app.aws.client("s3")
    try:
        s3.head_bucket(**owned(app))
    except AwsError as error:
        match code_of(error):
            case "404" | "NoSuchBucket":
                raise Missing from None
            case "403":
                raise Fault(
                    f"the bucket {config.deployment_bucket} belongs to somebody else, or you may not use it: S3 "
                    f"answers 403. Choose another deployment_bucket in {app.path} (names are unique in the world)."
                ) from None
            case "301":
                raise Fault(elsewhere(app)) from None
        raise Fault(f"cannot look at the bucket {config.deployment_bucket}: {reason(error)}") from None
    try:
        where = s3.get_bucket_location(**owned(app)).get("LocationConstraint")
    except AwsError as error:
        raise Fault(f"cannot tell in which region the bucket {config.deployment_bucket} is: {reason(error)}") from None
    if {None: "us-east-1", "": "us-east-1", "EU": "eu-west-1"}.get(where, where) != app.aws.region:
        raise Fault(elsewhere(app))
    return "" if is_closed(app, s3) else is_open(config)


def is_closed(app: App, s3: Any) -> bool:
    """Say whether the bucket blocks public access."""
    try:
        found = s3.get_public_access_block(**owned(app))["PublicAccessBlockConfiguration"]
    except AwsError:
        return False
    return bool(found == CLOSED)


def elsewhere(app: App) -> str:
    """Say that the bucket is in another region."""
    return (
        f"the bucket {app.config.deployment_bucket} is not in {app.aws.region}, where Lambda needs it. "
        f"Choose another deployment_bucket or aws_region in {app.path}."
    )


def is_open(config: Config) -> str:
    """Say that the bucket is open, and how to close it."""
    return (
        f"the bucket {config.deployment_bucket} does not block public access; it was there before, so it is left as "
        f"it is. Close it with: aws s3api put-public-access-block --bucket {config.deployment_bucket} "
        f"--public-access-block-configuration {','.join(f'{name}=true' for name in CLOSED)}"
    )


def make(app: App) -> None:
    """Make the bucket."""
    name, region, s3 = app.config.deployment_bucket, app.aws.region, app.aws.client("s3")
    app.screen.say(f"make the bucket {name}: encrypted, public access blocked")
    # The name of this one region is refused here.
    where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    try:
        s3.create_bucket(Bucket=name, **where)
    except AwsError as error:
        raise Fault(
            f"could not make the bucket {name}: {reason(error)}\nNames are unique in the world: if it is taken, "
            f"choose another deployment_bucket in {app.path}."
        ) from None
    try:
        s3.put_public_access_block(**owned(app), PublicAccessBlockConfiguration=CLOSED)
        default = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
        s3.put_bucket_encryption(**owned(app), ServerSideEncryptionConfiguration={"Rules": [default]})
    except AwsError as error:
        raise Fault(f"could not close or encrypt the bucket {name}: {reason(error)}") from None
