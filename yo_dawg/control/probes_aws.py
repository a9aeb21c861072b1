"""What doctor asks AWS about the builder's own things: bucket, toolchain, secrets, account, role."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from yo_dawg.control.archives import ARCHIVES
from yo_dawg.control.findings import Unknown, looking
from yo_dawg.control.secrets import deploy_key, read_secret
from yo_dawg.control.workshop import try_toolchain
from yo_dawg.errors import ConfigError, DeployError
from yo_dawg.text import size
from yo_dawg.toolchain import TOOLCHAIN_PARTS

if TYPE_CHECKING:
    from yo_dawg.control.job import Job

MAX_POLICY_LENGTH = 10_240
"""Characters that IAM lets the inline policies of a role have in all, white space aside (IAM's quotas)."""

NEW_ACCOUNT = 10
"""How many invocations at a time AWS lets a new account have, for all of its functions."""


def check_bucket(job: Job) -> str:
    """Look whether the builder's corner of S3 can be listed and read."""
    job.store.packages("none")
    return f"{job.store.uri('')} can be read"


def check_writes(job: Job) -> str:
    """Write an object, on conditions, read it, and delete it: only there can it be seen whether S3 and KMS let us.

    It lies among the records of builds of the builder itself, of which there are none.
    """
    store, key = job.store, f"builds/{job.builder.name}/doctor-{job.builder.request_id}.json"
    content = json.dumps({"written by": "doctor", "may be deleted": True}).encode()
    if store.replace(key, content, None) is None:
        raise ConfigError(f"S3 would not write {store.uri(key)}, which is not there, if it is not there (IfNoneMatch).")
    try:
        if store.replace(key, content, None) is not None:
            raise ConfigError(
                f"S3 has overwritten {store.uri(key)} though it was told not to (IfNoneMatch): two builds of a "
                "function could not be kept apart. Use a bucket of the real S3."
            )
        found = store.read(key)
        if found is None or found[0] != content:
            raise ConfigError(f"S3 does not hand out {store.uri(key)} as it was just written.")
        encryption = store.encryption(key)
    finally:
        left = delete_quietly(key, job)
    return f"an object below builds/ was written, not overwritten, and read{left}; {encryption}"


def delete_quietly(key: str, job: Job) -> str:
    """Delete an object; say that this was done, or why not."""
    try:
        job.store.delete([key])
    except DeployError as error:
        return f", but not deleted ({error})"
    return ", and deleted"


def check_versioning(job: Job) -> str:
    """Look whether old versions of objects pile up in the bucket: what the builder deletes there is only hidden."""
    s3, where = job.aws.s3, {"Bucket": job.store.bucket, "ExpectedBucketOwner": job.store.owner}
    with looking("the bucket's versioning", "s3:GetBucketVersioning"):
        versioning = s3.get_bucket_versioning(**where).get("Status")
    if versioning is None:
        return "the bucket keeps no old versions"
    with looking("the bucket's lifecycle rules", "s3:GetLifecycleConfiguration"):
        rules = lifecycle_rules(s3, where)
    if any(ends_old_versions(rule, f"{job.store.prefix}/") for rule in rules):
        return "the bucket keeps old versions, and a lifecycle rule ends them"
    raise Unknown(
        f"the bucket keeps old versions of all that the builder writes and deletes below {job.store.prefix}/, for "
        "ever. A lifecycle rule with NoncurrentVersionExpiration for this prefix ends that (not for packages/ of "
        "functions that run their code from S3: S3ObjectStorageMode)"
    )


def lifecycle_rules(s3: Any, where: dict[str, str]) -> list[dict[str, Any]]:
    """Return a bucket's lifecycle rules."""
    try:
        return list(s3.get_bucket_lifecycle_configuration(**where)["Rules"])
    except s3.exceptions.ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchLifecycleConfiguration":
            raise
        return []


def ends_old_versions(rule: dict[str, Any], prefix: str) -> bool:
    """Say whether a lifecycle rule ends old versions of objects below a prefix, or of some of them."""
    chosen = rule.get("Filter") or {}
    begins = str(chosen.get("Prefix") or (chosen.get("And") or {}).get("Prefix") or rule.get("Prefix") or "")
    ends = "NoncurrentVersionExpiration" in rule and rule.get("Status") == "Enabled"
    return ends and (prefix.startswith(begins) or begins.startswith(prefix))


def check_toolchain(job: Job) -> str:
    """Fetch the toolchain, also if it was kept, and run it."""
    ARCHIVES.make_room(0)
    return f"fits, {try_toolchain([*TOOLCHAIN_PARTS], job)}"


def check_token(job: Job) -> str:
    """Read the Git host's token or the deploy key, which is not shown."""
    settings = job.settings
    if settings.deploy_key_secret:
        deploy_key(job.aws, settings)
        return f"{settings.deploy_key_secret} can be read"
    if not settings.token_secret:
        return "none is configured: only public repositories can be cloned"
    if not read_secret(job.aws, settings.token_secret, "token_secret").strip():
        raise ConfigError(f"The secret {settings.token_secret} is empty, or is not text: store the token as text.")
    return f"{settings.token_secret} can be read"


def check_indexes(job: Job) -> str:
    """Read the addresses of private package indexes, which are not shown."""
    count = len(job.indexes)
    return f"{job.settings.index_secret} names {count}" if count else "no private ones are configured"


def check_concurrency(job: Job) -> str:
    """Look how many invocations the account may have at a time."""
    limits = account(job)["AccountLimit"]
    most, free = limits["ConcurrentExecutions"], limits["UnreservedConcurrentExecutions"]
    says = f"{most} invocations at a time in this account and region, {free} of them reserved for no function"
    if most <= NEW_ACCOUNT:
        says += (
            ": a build takes one, its test event another, and the functions need theirs; ask for more in Service Quotas"
        )
    return says


def check_code_storage(job: Job) -> str:
    """Look how much room is left for functions' code."""
    answer = account(job)
    used, most = answer["AccountUsage"]["TotalCodeSize"], answer["AccountLimit"]["TotalCodeSize"]
    says = f"{size(used)} of {size(most)} are taken by the code of all functions and versions"
    if used > 0.9 * most:
        raise ConfigError(
            f"{says}: updates will soon be refused. Delete old versions (keep_versions in config.ini does), or ask for "
            "more in Service Quotas."
        )
    return says


def account(job: Job) -> dict[str, Any]:
    """Return the account's limits and what of them is used."""
    with looking("the account's limits", "lambda:GetAccountSettings"):
        return dict(job.aws.functions.get_account_settings())


def check_policies(job: Job) -> str:
    """Look how much room is left in the policies of the builder's role, which name all deployable functions."""
    with looking("the role's name", "sts:GetCallerIdentity"):
        arn = str(job.aws.make("sts").get_caller_identity()["Arn"])
    if ":assumed-role/" not in arn:
        raise Unknown(f"the builder runs as {arn}, which is no role of Lambda's")
    role, iam = arn.split("/")[1], job.aws.make("iam")
    with looking("the role's policies", "iam:ListRolePolicies and iam:GetRolePolicy on itself"):
        names = iam.list_role_policies(RoleName=role)["PolicyNames"]
        documents = [iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"] for name in names]
    length = sum(len(json.dumps(each, separators=(",", ":"))) for each in documents)
    says = f"the inline policies of {role} have {length:,} of at most {MAX_POLICY_LENGTH:,} characters"
    if length > 0.9 * MAX_POLICY_LENGTH:
        raise ConfigError(f"{says}: use patterns like other-* in deployable_functions before it is full.")
    return says
