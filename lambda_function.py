"""yo-dawg: a Lambda function that builds and deploys other Lambda functions.

The event's "action" says what to do:

bootstrap    Install the toolchain (Dulwich, a git in pure Python, and uv, an
             installer) into a virtualenv, and store it in S3.  Run it once,
             and again to upgrade.
build        Build one project and deploy it:
             1. get the toolchain      S3              -> toolchain/
             2. clone the repository   git host        -> checkout/
             3. install requirements   package index   -> staging/
             4. prune dependencies     staging/        -> pruned/ (tests, docs, leftovers)
             5. stage the project      make_dist.sh    -> staging/
             6. prove                  staging/        (the handler can be imported)
             7. compile and zip        staging/        -> package.zip
             8. deploy                 package.zip     -> S3 -> the function
                                       -> test event -> version -> alias
rollback     Put back a package that was deployed before.  Nothing is rebuilt.
doctor       Say what this environment is, and what is wrong with it.

Of each function there is one build at a time, over all environments: its
ledger in S3 (locks/FUNCTION) says who builds it now, and what was built.

Lambda has no git, no ssh and no compiler, and only /tmp can be written.  All
directories above lie in one workspace, /tmp/yo-dawg, which is made afresh for
each invocation and removed at its end.

Where things are.  This file tells what each action does, stage by stage; how it
is done stands in the rooms of yo_dawg/:

control/     runs in this process, which holds the role's credentials: AWS, the
             ledger, deploying, rolling back.  It neither parses, imports,
             inflates nor scans anything that somebody else made.
workshop/    holds no credentials of AWS: programs that control starts, gives
             open files, and reads short answers of.  git/ clones with Dulwich
             and ends; package/ makes 3 to 7 of the above.  They get an
             environment built from nothing, cannot read this process's memory,
             and are killed with everything that they started.

Errors are raised, not returned: their class and message are what the caller
sees as errorType and errorMessage.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from yo_dawg.builder import Builder
from yo_dawg.control.archives import ARCHIVES
from yo_dawg.control.clients import clients_for
from yo_dawg.control.deploy import deploy_all, rehearse
from yo_dawg.control.doctor import examine
from yo_dawg.control.functions import check_deployable, look_at_target, preflight
from yo_dawg.control.git import clone, look_at_ref, prepare_to_look
from yo_dawg.control.job import Job
from yo_dawg.control.manifests import Manifest, build_inputs, may_be_unchanged, read_manifest, store_manifest
from yo_dawg.control.models import check_models
from yo_dawg.control.package import gather, make_package
from yo_dawg.control.packages import Package, store_package
from yo_dawg.control.records import aftermath, earlier_answer, failure, finish_build, note_commit, take_ledgers
from yo_dawg.control.recovery import recover
from yo_dawg.control.results import bootstrap_result, build_result, rollback_result
from yo_dawg.control.rollback import find_package
from yo_dawg.control.secrets import source_from_settings
from yo_dawg.control.store import Store
from yo_dawg.control.toolchain import is_stored, store_toolchain, stored_toolchain, toolchain_pointer
from yo_dawg.control.workshop import Workshop, make_toolchain
from yo_dawg.deadline import deadline
from yo_dawg.disk import disk_troubles
from yo_dawg.errors import BuildInProgress, YoDawgError
from yo_dawg.events import (
    BootstrapRequest,
    BuildRequest,
    DoctorRequest,
    RollbackRequest,
    function_name,
    parse_request,
)
from yo_dawg.killing import give_back_memory, kill_leftovers, protect_process
from yo_dawg.log import Log
from yo_dawg.process import Shell, child_environ
from yo_dawg.settings import Settings
from yo_dawg.toolchain import TOOLCHAIN_PARTS
from yo_dawg.workspace import put_python_on_path, workspace

if TYPE_CHECKING:
    from yo_dawg.builder import LambdaContext
    from yo_dawg.control.functions import Target
    from yo_dawg.control.git import Cloned
    from yo_dawg.events import Request


def bootstrap(request: BootstrapRequest, job: Job) -> dict[str, Any]:
    """Make the toolchain in a virtualenv, prove it, and store it; do nothing if the stored one fits."""
    with job.log.step("look", "[1/5] look for a toolchain"):
        job.store.wait_until_allowed(toolchain_pointer(job.builder))  # the role may be a few seconds old
        stored = None if request.force else stored_toolchain(job.store, job.builder)
        fits = stored is not None and is_stored(stored, job.store)
    if stored is not None and fits:
        job.log.info("The stored toolchain fits.")
        return bootstrap_result("unchanged", stored, job)
    zips, packages = make_toolchain([*TOOLCHAIN_PARTS], job)  # stages 2 to 4
    with job.log.step("upload", "[5/5] upload"):
        made = store_toolchain(zips, packages, job.builder, job.store)
    return bootstrap_result("bootstrapped", made, job)


def build(request: BuildRequest, job: Job) -> dict[str, Any]:
    """Build one project, and deploy it to each of the functions; of what has not changed, do no more than is needed."""
    names = [function_name(each) for each in request.functions]
    found = [look_at_target(job.aws, name, job.builder) for name in names]
    manifest = None if request.force else read_manifest(found[0], job)
    if manifest and manifest.pinned and not request.dry_run:
        prepare_to_look(request, job)

    take_ledgers(names, request, job)
    recover(job)
    source = source_from_settings(job.settings, job.aws, request.repo_name, job.log)
    targets = [preflight(name, request, job.builder, job.aws) for name in names]
    if not request.force and found[0].code_sha256 != targets[0].code_sha256:
        manifest = read_manifest(targets[0], job)

    # Where the index has no say, the commit alone tells whether there is anything to build.
    if manifest and manifest.pinned and not request.dry_run and (seen := look_at_ref(source, request, job)):
        note_commit(seen.commit, seen.ref, job)
        if answer := earlier_answer(request, targets, job):
            return answer
        if may_be_unchanged(manifest, seen.commit, request, targets, job):
            return deploy_unchanged(manifest, seen, request, targets, job)

    materials = gather(targets, manifest, job)
    cloned = clone(source, request, job)
    note_commit(cloned.commit, cloned.ref, job)
    if answer := earlier_answer(request, targets, job):
        return answer
    made = make_package(request, targets, cloned, materials, job)  # and clones anew, if uv asks for more from Git
    if isinstance(made, Manifest):
        return deploy_unchanged(made, cloned, request, targets, job)

    packages = [Package.of(name, made.code_sha256, cloned.commit) for name in names]
    ARCHIVES.put(packages[0].hex_digest, made.file)
    with job.log.step("deploy", f"[8/8] deploy {', '.join(names)}"):
        if request.dry_run:
            deployments = [rehearse(package, target, job) for package, target in zip(packages, targets, strict=True)]
        else:
            known = Manifest(
                build=build_inputs(cloned.commit, request, targets, job),
                result=made.result,
                pinned=made.is_pinned,
            )
            for package in packages:
                store_package(package, made.file, job)
                store_manifest(package, known, made.dependencies, job)
            deployments = deploy_all(packages, targets, request, job)
    return build_result(made.result, request, deployments, job)


def deploy_unchanged(
    manifest: Manifest, cloned: Cloned, request: BuildRequest, targets: Sequence[Target], job: Job
) -> dict[str, Any]:
    """Deploy what the functions run already, since a build would make just that: publish, test, move the alias."""
    job.log.info(f"{targets[0].code_sha256} was built from just this before.")
    packages = [Package.of(target.name, target.code_sha256, cloned.commit) for target in targets]
    with job.log.step("deploy", f"[8/8] deploy {', '.join(target.name for target in targets)}"):
        deployments = deploy_all(packages, targets, request, job)
    return build_result({**manifest.result, "ref": cloned.ref}, request, deployments, job)


def rollback(request: RollbackRequest, job: Job) -> dict[str, Any]:
    """Put back a stored package; nothing is fetched and nothing is built."""
    name = function_name(request.function)
    look_at_target(job.aws, name, job.builder)
    take_ledgers([name], request, job)
    recovered = recover(job)
    with job.log.step("preflight", f"[1/2] look at {name}"):
        target = preflight(name, request, job.builder, job.aws)
        if answer := earlier_answer(request, [target], job):
            return answer
        to = target.code_sha256 if recovered and request.to is None else request.to  # that was what was meant
        package = find_package(to, target, job)
    with job.log.step("deploy", f"[2/2] put back {package.commit or package.code_sha256}"):
        (deployment,) = deploy_all([package], [target], request, job)
    return rollback_result(package, deployment, request, job)


def doctor(_request: DoctorRequest, job: Job) -> dict[str, Any]:
    """Say what this environment is, and what is wrong with it; change nothing, but for an object that is deleted."""
    findings = []
    for each in examine(job):
        mark = {True: "ok", False: "!!", None: "--"}[each["ok"]]
        job.log.info(f"{mark} {each['name']}: {each['says']}")
        findings.append(each)
    return {"status": "problems" if any(each["ok"] is False for each in findings) else "ok", "findings": findings}


ACTIONS: Mapping[type[Any], Callable[[Any, Job], dict[str, Any]]] = {
    BootstrapRequest: bootstrap,
    BuildRequest: build,
    RollbackRequest: rollback,
    DoctorRequest: doctor,
}


def run_action(request: Request, job: Job, context: LambdaContext) -> dict[str, Any]:
    """Run the action within the deadline; of a build or a rollback keep a record, of a failed one too."""
    result: dict[str, Any] = {}
    try:
        with deadline(context.get_remaining_time_in_millis(), job.log), disk_troubles(job.space):
            if not isinstance(request, DoctorRequest):  # which tells of an old boto3 beside all else
                check_models(job.aws.s3)
            result = ACTIONS[type(request)](request, job)
    except YoDawgError as error:
        message = job.log.mask(f"{error}{aftermath(error, job, context)}")
        job.log.info(f"{type(error).__name__}: {message}")
        result = {} if isinstance(error, BuildInProgress) else failure(error, message)
        # The message stands alone: a traceback through this file would tell the caller nothing.
        raise type(error)(message) from None
    except Exception as error:
        result = failure(error, job.log.mask(str(error)))
        raise
    finally:
        job.shell.close()  # before the end is recorded: what still runs could go on for ever
        job.workshop.close()
        finish_build(request, result, job, context)
    return result


def lambda_handler(event: object, context: LambdaContext) -> dict[str, Any]:
    """Do the action that the event asks for, and return what was done; raise YoDawgError.

    What can be refused without any work is refused first.
    """
    request = parse_request(event)
    settings = Settings.from_environ(os.environ)
    builder = Builder.from_context(context)
    if isinstance(request, BuildRequest | RollbackRequest):
        for function in request.functions:
            check_deployable(function, builder, settings)
    protected = protect_process()
    give_back_memory()
    if settings.tmp_is_ours:
        kill_leftovers()
    with (
        workspace(settings.tmp, tmp_is_ours=settings.tmp_is_ours) as space,
        contextlib.closing(Log(settings.secrets, space.root)) as log,
    ):
        if not protected:
            log.info("Warning: this system does not let the handler close itself to the projects' code.")
        if builder.asked_by:
            log.info(f"Asked for by {builder.asked_by} ({builder.token}).")
        put_python_on_path(space)
        with contextlib.closing(Shell(child_environ(space, settings), log)) as shell:
            workshop = Workshop(shell, space)
            if isinstance(request, BuildRequest):  # it gets ready while boto3 is imported
                workshop.start("git")
            aws = clients_for(settings.endpoint)
            store = Store(aws.s3, settings.bucket, builder.name, builder.account)
            job = Job(settings, builder, space, log, shell, aws, store, workshop)
            try:
                return run_action(request, job, context)
            except BaseException:
                clients_for.cache_clear()
                raise
