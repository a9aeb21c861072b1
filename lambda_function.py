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
each invocation and removed at its end.  What an environment keeps for its next
invocation, no project's code can change unseen: see ``Shelf``.

Who may do what.  This process, the handler, holds the role's credentials and
runs nothing but this file, the standard library and boto3.  All that touches
foreign bytes runs in children: Dulwich (this same file, started as a program:
see ``run_git_worker``), uv, make_dist.sh.  Children get an environment built from
nothing, cannot read this process's memory, and are killed, with everything
they started, before the next stage begins.

Errors are raised, not returned: their class and message are what the caller
sees as errorType and errorMessage.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from yo_dawg.archives import SHELF
from yo_dawg.builder import Builder, own_digest
from yo_dawg.control.clients import make_clients
from yo_dawg.control.clone import look_at_ref, look_command, look_program
from yo_dawg.control.deploy import deploy_all, rehearse
from yo_dawg.control.doctor import CHECKS, check_function, look_around, try_out
from yo_dawg.control.functions import check_deployable, look_at_target, preflight
from yo_dawg.control.job import Job
from yo_dawg.control.package import (
    Before,
    Early,
    build_inputs,
    fetch_project,
    former_package,
    make_package,
    read_bundle,
    store_bundle,
    take_over,
    unchanged,
)
from yo_dawg.control.packages import Package, keep_present, store_package
from yo_dawg.control.records import aftermath, close_books, earlier_answer, failure, note_commit, seconds, take_ledgers
from yo_dawg.control.results import build_result, deployment_result, package_result
from yo_dawg.control.rollback import find_package
from yo_dawg.control.secrets import source_from_settings
from yo_dawg.control.store import Store
from yo_dawg.control.toolchain import (
    git_worker_command,
    kept_toolchain,
    store_toolchain,
    stored_toolchain,
    toolchain_key,
)
from yo_dawg.deadline import deadline
from yo_dawg.disk import disk_troubles
from yo_dawg.errors import BuildInProgress, YoDawgError
from yo_dawg.events import (
    FUNCTION,
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
from yo_dawg.text import size
from yo_dawg.workshop.make_toolchain import collect_toolchain, install_toolchain, make_virtualenv, zip_toolchain
from yo_dawg.workshop.package.install import look_at_installed
from yo_dawg.workshop.package.reuse import drop_kept, install_inputs, keep_dependencies, still_fits
from yo_dawg.workspace import clear, put_python_on_path, workspace

if TYPE_CHECKING:
    from yo_dawg.builder import LambdaContext
    from yo_dawg.events import Request


def bootstrap(request: BootstrapRequest, job: Job) -> dict[str, Any]:
    """Make the toolchain in a virtualenv, prove it, and store it; do nothing if the stored one fits."""
    space, store, log = job.space, job.store, job.log
    with log.step("look", "[1/5] look for a toolchain"):
        stored = None if request.force else stored_toolchain(store, job.builder, space)
        ours = stored is not None and stored.get("code") == own_digest()
        fits = ours and all(store.holds(toolchain_key(each), each) for each in (stored or {})["parts"].values())
    if stored is not None and fits:
        log.say("The stored toolchain fits.")
        return bootstrap_result("unchanged", stored, job)
    with log.step("virtualenv", "[2/5] make a virtualenv"):
        virtualenv = make_virtualenv(space, job.shell)
    with log.step("install", "[3/5] install the toolchain"):
        install_toolchain(virtualenv, space, job.shell)
        toolchain = collect_toolchain(virtualenv, space, job.shell)
        packages = list(look_at_installed(toolchain.packages).names)
    with log.step("zip", "[4/5] zip"):
        archives = zip_toolchain(toolchain, space)
        zipped = ", ".join(f"{size(archive.zip_bytes)} for {part}" for part, archive in archives.items())
        log.quote(f"{sum(archive.files for archive in archives.values())} files, zipped {zipped}")
    with log.step("upload", "[5/5] upload"):
        made = store_toolchain(archives, packages, job.builder, store)
    return bootstrap_result("bootstrapped", made, job)


def bootstrap_result(status: str, made: Mapping[str, Any], job: Job) -> dict[str, Any]:
    """Return bootstrap's answer (contract §5).  The zip that it names is the one with Dulwich."""
    return {
        "status": status,
        "toolchain": {
            "s3_uri": job.store.uri(toolchain_key(made["parts"]["git"])),
            "sha256": made["parts"]["git"],
            "packages": made["packages"],
        },
        "seconds": seconds(job.log),
    }


def build(request: BuildRequest, job: Job) -> dict[str, Any]:
    """Build one project, and deploy it to each of the functions; of what has not changed, do no more than is needed."""
    names = [function_name(each) for each in request.functions]
    # What a clone takes is laid out while AWS and the Git host are asked, if it need not be fetched for that.
    early = job.aside.submit(kept_toolchain, job)
    found = [look_at_target(job.aws, name, job.builder) for name in names]
    before = None if request.force else read_bundle(found[0], job)
    may_look = before is not None and before.pinned and not request.dry_run
    if may_look:  # its interpreter is there by the time that this is the only build
        job.shell.prepare(look_program(job.space))
    take_ledgers(names, request, job)
    source = source_from_settings(job.settings, job.aws, request.repo_name, job.log)
    if may_look and (look := look_command(source, request, job.space)):
        job.shell.prepare(look)
    targets = [preflight(name, request, job.builder, job.aws) for name in names]
    if not request.force and found[0].code_sha256 != targets[0].code_sha256:
        before = read_bundle(targets[0], job)
    if before and before.pinned and not request.dry_run and (commit := look_at_ref(source, request, job)):
        note_commit(*commit, job)
        if answer := earlier_answer(request, targets, job) or unchanged(before, request, targets, job):
            return answer
    if SHELF.kept and SHELF.kept.package != targets[0].code_sha256:
        drop_kept(job.space)
    former = job.aside.submit(former_package, targets[0], job)
    lay = functools.cache(lambda: job.unpacking.submit(take_over, before, targets[0], former, job.space))
    # Where the index has no say, they are most likely those of this build, too.
    installer = fetch_project(source, request, Early(early, lay if before and before.pinned else None), job)
    note_commit(installer.checkout.commit, installer.checkout.ref, job)
    if answer := earlier_answer(request, targets, job):
        return answer
    inputs = install_inputs(installer, job)  # before any code runs that could change what is read for it
    fitting = before if before and still_fits(before, inputs, installer, job) else None
    if fitting and (answer := unchanged(fitting, request, targets, job)):
        return answer
    compiled = before.compiled if before and job.settings.bytecode != "none" else {}
    known = Before(former, lay, fitting, compiled, inputs, not request.dry_run)
    made = make_package(installer, targets, known, job)
    package_before, keeps = former.result(), not request.dry_run and job.settings.tmp_is_ours
    keep = functools.partial(keep_dependencies, made, package_before.written if package_before else {}, job.space)
    job.unpacking.submit(clear, job.space, keep if keeps else lambda: None)
    told = package_result(made)
    bundle = replace(made.bundle, build=build_inputs(made.checkout.commit, request, targets, job), result=told)
    packages = [Package.of(name, made.archive.sha256, made.checkout.commit) for name in names]
    SHELF.put(made.archive.hex_digest, made.archive.zipped)
    with job.log.step("deploy", f"[8/8] deploy {', '.join(names)}"):
        if request.dry_run:
            deployments = [rehearse(package, target, job) for package, target in zip(packages, targets, strict=True)]
        else:
            job.keeping[names[0]] = job.aside.submit(keep_present, targets[0], request, job)
            noted = [job.aside.submit(store_bundle, package, bundle, job) for package in packages]
            for package in packages if not made.is_stored else ():
                store_package(package, made.archive, job)
            for each in noted:
                each.result()
            deployments = deploy_all(packages, targets, request, job)
    return build_result(told, request, deployments, job)


def rollback(request: RollbackRequest, job: Job) -> dict[str, Any]:
    """Put back a stored package; nothing is fetched and nothing is built."""
    name = function_name(request.function)
    look_at_target(job.aws, name, job.builder)
    take_ledgers([name], request, job)
    with job.log.step("preflight", f"[1/2] look at {name}"):
        target = preflight(name, request, job.builder, job.aws)
        if answer := earlier_answer(request, [target], job):
            return answer
        package = find_package(request.to, target, job)
    with job.log.step("deploy", f"[2/2] put back {package.commit or package.code_sha256}"):
        (deployment,) = deploy_all([package], [target], request, job)
    for warning in deployment.warnings:
        job.log.say(f"Warning: {warning}.")
    return {
        **deployment_result(request, [deployment]),
        "commit": package.commit,
        "code_sha256": package.code_sha256,
        "package": {"s3_uri": deployment.s3_uri},
        "warnings": list(deployment.warnings),
        "log": None,
        "seconds": seconds(job.log),
    }


def doctor(_request: DoctorRequest, job: Job) -> dict[str, Any]:
    """Say what this environment is, and what is wrong with it; change nothing."""
    settings, builder = job.settings, job.builder
    findings = [*look_around(job), *map(functools.partial(try_out, job), CHECKS)]
    for pattern in settings.deployable:
        if FUNCTION.fullmatch(pattern) and pattern != builder.name:
            findings.append(try_out(job, ("function", functools.partial(check_function, pattern))))
    for each in findings:
        job.log.say(f"{'ok' if each['ok'] else '!!'} {each['name']}: {each['says']}")
    return {"status": "well" if all(each["ok"] for each in findings) else "ill", "findings": findings}


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
            result = ACTIONS[type(request)](request, job)
    except YoDawgError as error:
        message = job.log.mask(f"{error}{aftermath(error, job, context)}")
        job.log.say(f"{type(error).__name__}: {message}")
        result = {} if isinstance(error, BuildInProgress) else failure(error, message)
        # The message stands alone: a traceback through this file would tell the caller nothing.
        raise type(error)(message) from None
    except Exception as error:
        result = failure(error, job.log.mask(str(error)))
        raise
    finally:
        job.shell.close()  # before the books are: what still runs could go on for ever
        job.aside.shutdown(wait=False, cancel_futures=True)
        job.unpacking.shutdown(cancel_futures=True)
        close_books(request, result, job, context)
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
    if not isinstance(request, BuildRequest):
        SHELF.kept = None  # and so it is swept out
    with (
        workspace(settings.tmp, tmp_is_ours=settings.tmp_is_ours) as space,
        contextlib.closing(Log(settings.secrets, space.root)) as log,
    ):
        if not protected:
            log.say("Warning: this system does not let the handler close itself to the projects' code.")
        if builder.asked_by:
            log.say(f"Asked for by {builder.asked_by} ({builder.token}).")
        put_python_on_path(space)
        with contextlib.closing(Shell(child_environ(space, settings), log)) as shell:
            if isinstance(request, BuildRequest):  # it gets ready while boto3 is imported
                shell.prepare(git_worker_command(space))
            aws = make_clients()
            store = Store(aws.s3, settings.bucket, builder.name, builder.account)
            return run_action(request, Job(settings, builder, space, log, shell, aws, store), context)
