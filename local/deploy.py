"""The parts of deploy.sh that are easier in Python: config.ini, JSON, the function's zip, the answers.

deploy.sh calls the programs (aws, pip's virtualenv) and decides what happens when; this file reads and
writes what goes through them.  Each command prints what deploy.sh needs on standard output, words for
people on standard error, and exits with 1 if something is wrong.  Standard library only.

settings CONFIG                      what deploy.sh itself must know, NAME=VALUE, each ended by a NUL
parameters CONFIG CODE_KEY           the stack's parameters, likewise
payload NAME=VALUE… NAME:=JSON… NAME:=@FILE… NAME+=VALUE…
                                     an event
context WHO TOKEN                    the client context of an invocation
follow TOKEN LOG_GROUP AWS…          the stages of the invocation with this token, as the log tells them
package TARGET                       write the function's zip; print its SHA-256 in hex and in base64
differences CONFIG KEY SHA256 FOLDER
                                     compare FOLDER/function.json (GetFunctionConfiguration) with what is
                                     wanted; say what differs, write the updates as FOLDER/code.json and
                                     FOLDER/configuration.json
failures EVENTS                      the reasons in the answer of DescribeStackEvents
reply FOLDER                         an answer, FOLDER/answer.json, and Invoke's own words about it,
                                     FOLDER/invocation.json: a summary, or the error
findings FOLDER                      the same for doctor: its findings, a line each, in columns
history LEDGER                       a function's ledger as a table
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from local.config import Config, ConfigFault

CHECKOUT = Path(__file__).resolve().parent.parent

FORESEEN = (
    "RequestError", "ConfigError", "NotBootstrapped", "SourceError", "DependencyError", "BuildScriptError",
    "PackageError", "DeployError", "BuildInProgress", "DeadlineError",
)  # fmt: skip
"""Errors whose message stands alone (contract §5).  Any other one needs its traceback and the log."""

INSTALLER_FILES = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
"""pip's bookkeeping: it holds paths and digests of this machine's scripts, so no two machines agree."""


class Fault(Exception):
    """What deploy.sh was asked for failed; the text says why."""


# --- Configuration -----------------------------------------------------------------------------------


def settings(config: str) -> None:
    """Print what deploy.sh itself needs to know of config.ini."""
    read = Config.read(Path(config))
    names = ("aws_profile", "aws_region", "deployment_bucket", "function_name", "stack_name", "timeout")
    secrets = " ".join(filter(None, [read.token_secret, read.deploy_key_secret, read.index_secret]))
    print_pairs({name: getattr(read, name) for name in names} | {"secrets": secrets})


def parameters(config: str, code_key: str) -> None:
    """Print the stack's parameters."""
    print_pairs(Config.read(Path(config)).parameters(code_key))


def print_pairs(pairs: Mapping[str, object]) -> None:
    """Print NAME=VALUE, each ended by a NUL: a value may hold anything else."""
    sys.stdout.write("".join(f"{name}={value}\0" for name, value in pairs.items()))


def payload(*pairs: str) -> None:
    """Print an event: a value after ":=" is JSON, or @ and a file of it, one after "=" text; after "+=" come lists."""
    event: dict[str, Any] = {}
    lists: dict[str, list[str]] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        key = name.rstrip(":+")
        if name.endswith("+"):
            lists.setdefault(key, []).append(value)
        try:
            if name.endswith(":"):
                value = json.loads(Path(value[1:]).read_bytes() if value.startswith("@") else value)
            event[key] = value
        except (OSError, ValueError) as error:
            raise Fault(f"The {key.replace('_', ' ')} is not JSON: {error}.") from None
    print(json.dumps(event | {key: values for key, values in lists.items() if len(values) > 1}))


def context(who: str, token: str) -> None:
    """Print the client context that tells the function who asks, and what to print so that `follow` finds it."""
    content = {"custom": {"asked_by": plain(who), "token": token}}
    print(base64.b64encode(json.dumps(content).encode()).decode())


# --- The stages, as they happen ------------------------------------------------------------------------

PAUSE = 3.0
"""Seconds between two looks at the log.  A build that is quicker has no need to be watched."""


def follow(token: str, group: str, *aws: str) -> None:
    """Print the stages of an invocation as they appear in its log, until we are ended.

    Its log stream is the one in which the token appears.  Whoever may not read the log sees nothing.
    """
    since, seen, stream, failures = int(time.time() * 1000) - 60_000, set[str](), "", 0
    while failures < 5:  # one of them may be a throttle
        time.sleep(PAUSE)
        command = [*aws, "logs", "filter-log-events", "--log-group-name", group, "--start-time", str(since)]
        options = ["--log-stream-names", stream] if stream else []
        ran = subprocess.run([*command, *options, "--output", "json"], capture_output=True, text=True, check=False)  # noqa: S603
        failures = failures + 1 if ran.returncode else 0
        events = json.loads(ran.stdout or "{}").get("events", [])
        stream = stream or next((each["logStreamName"] for each in events if token in each["message"]), "")
        begun = not any(token in each["message"] for each in events)  # an environment's log holds older builds, too
        for event in events:
            begun = begun or token in event["message"]
            if stream and begun and event["logStreamName"] == stream and event["eventId"] not in seen:
                seen.add(event["eventId"])
                since = event["timestamp"]
                if re.match(r"\[\d+/\d+\] .* …$|Warning: ", event["message"].rstrip()):
                    print(plain(event["message"].rstrip()), file=sys.stderr, flush=True)


# --- The function's zip ------------------------------------------------------------------------------


def package(target: str) -> None:
    """Write the function's zip: lambda_function.py, its rooms and pins, and the packages that travel with it."""
    sys.path.insert(0, str(CHECKOUT))
    from yo_dawg.toolchain import requirement_group
    from yo_dawg.trees import walk
    from yo_dawg.workshop.archive import ZLIB, CompressedCache, write_zip

    with tempfile.TemporaryDirectory(prefix="yo-dawg-") as scratch:
        tree = Path(scratch, "tree")
        tree.mkdir()
        for name in ("lambda_function.py", "requirements.txt"):
            shutil.copyfile(CHECKOUT / name, tree / name)
        shutil.copytree(CHECKOUT / "yo_dawg", tree / "yo_dawg", ignore=shutil.ignore_patterns("__pycache__"))
        pins = Path(scratch, "function.txt")
        text = (CHECKOUT / "requirements.txt").read_text(encoding="utf-8")
        pins.write_text(requirement_group(text, "function"), encoding="utf-8")
        install(pins, tree)
        make_portable(tree)
        with open(target, "w+b") as file:
            write_zip(walk(tree), file.fileno(), CompressedCache(ZLIB))
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").digest()
    print(digest.hex(), base64.b64encode(digest).decode())


def install(pins: Path, target: Path) -> None:
    """Install pinned packages into a directory."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    options = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--no-compile"]
    # A user's pip may be told to install into the home directory; that does not go with --target.
    environ = os.environ | {"PIP_USER": "0"}
    command = [*pip, *options, "--target", str(target), "-r", str(pins)]
    ran = subprocess.run(command, env=environ, check=False, stdout=sys.stderr)  # noqa: S603  # no shell
    if ran.returncode:
        raise Fault(f"pip could not install what travels in the function's zip (exit status {ran.returncode}).")


def make_portable(tree: Path) -> None:
    """Remove what would make two machines' zips differ; refuse what would not run on every one."""
    shutil.rmtree(tree / "bin", ignore_errors=True)
    for path in sorted(tree.rglob("*")):
        if path.parent.suffix == ".dist-info" and path.name in INSTALLER_FILES:
            path.unlink()
        elif path.name == "__pycache__":
            shutil.rmtree(path)
        elif path.suffix in (".so", ".pyd", ".dylib"):
            raise Fault(f"{path.relative_to(tree)} is compiled, so the zip would fit one architecture only.")


# --- What is deployed, against what is wanted ------------------------------------------------------------


def differences(config: str, key: str, sha256: str, folder: str) -> None:
    """Say how the function differs from what config.ini and the zip ask for, and write the updates."""
    wanted, found = Config.read(Path(config)), load(Path(folder, "function.json"))
    code = code_updates(wanted, key, sha256, found)
    configuration = configuration_updates(wanted, found)
    for name, update in (("code", code), ("configuration", configuration)):
        path = Path(folder, f"{name}.json")
        path.unlink(missing_ok=True)
        if update:
            path.write_text(json.dumps({"FunctionName": wanted.function_name, **update}), encoding="utf-8")
    if "S3Key" in code and found.get("CodeSha256") != sha256:
        print(f"CodeSha256 is {found.get('CodeSha256') or 'unknown'}, not {sha256}")
    for name, value in (code | configuration).items():
        if name == "Environment":
            print(f"Environment differs in {', '.join(differing_variables(wanted, found))}")
        elif not name.startswith("S3") and found.get(name, ["x86_64"]) != value:
            print(f"{name} is {brief(found.get(name))}, not {brief(value)}")


def code_updates(wanted: Config, key: str, sha256: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what to send to UpdateFunctionCode; nothing about the code where no digest is given."""
    architectures = {"Architectures": [wanted.architecture]}
    differs = found.get("Architectures", ["x86_64"]) != [wanted.architecture]
    if sha256 and (differs or found.get("CodeSha256") != sha256):
        return {**architectures, "S3Bucket": wanted.deployment_bucket, "S3Key": key}
    return architectures if differs else {}


def configuration_updates(wanted: Config, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what to send to UpdateFunctionConfiguration."""
    asked: dict[str, Any] = {
        "Runtime": wanted.runtime,
        "Handler": "lambda_function.lambda_handler",
        "MemorySize": wanted.memory_size,
        "EphemeralStorage": {"Size": wanted.ephemeral_storage},
        "Timeout": wanted.timeout,
    }
    update = {name: value for name, value in asked.items() if found.get(name) != value}
    if differing_variables(wanted, found):
        update["Environment"] = {"Variables": wanted.environment()}
    return update


def differing_variables(wanted: Config, found: Mapping[str, Any]) -> list[str]:
    """Name the environment variables that are not as they should be."""
    there = (found.get("Environment") or {}).get("Variables") or {}
    asked = wanted.environment()
    return sorted(name for name in there.keys() | asked if there.get(name) != asked.get(name))


def brief(value: object) -> str:
    """Write a property of a function for people."""
    match value:
        case {"Size": size}:
            return str(size)
        case [only]:
            return str(only)
    return str(value)


def failures(events: str) -> None:
    """Print why a stack failed: the first reasons, without those that only follow from them."""
    told: list[str] = []
    for event in reversed(load(Path(events)).get("StackEvents", [])):
        status, reason = str(event.get("ResourceStatus", "")), str(event.get("ResourceStatusReason", ""))
        if status in ("CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS") and is_stack(event):
            told.clear()  # what came before was another attempt
        followed = re.match("Resource (creation|update) cancelled", reason)
        if status.endswith("_FAILED") and reason and not followed:
            told.append(f"{event.get('LogicalResourceId')}: {reason}")
    print(plain("\n".join(told[:5]) or "CloudFormation gives no reason."))


def is_stack(event: Mapping[str, Any]) -> bool:
    """Say whether an event is about the stack itself, not about a resource in it."""
    return event.get("ResourceType") == "AWS::CloudFormation::Stack"


# --- Answers --------------------------------------------------------------------------------------------


def reply(folder: str) -> None:
    """Print a summary of the function's answer; raise Fault if it is an error."""
    print(plain("\n".join(summary(answer_of(folder)))))


def findings(folder: str) -> None:
    """Print what the function's doctor found: a mark, a name and a text, in columns."""
    for each in answer_of(folder)["findings"]:
        print("\t".join(("ok" if each["ok"] else "!!", each["name"].replace(" ", "-"), " ".join(each["says"].split()))))


def answer_of(folder: str) -> dict[str, Any]:
    """Return the function's answer; raise Fault if it is an error."""
    invocation = load(Path(folder, "invocation.json"))
    text = Path(folder, "answer.json").read_text("utf-8", "replace")
    try:
        answer = json.loads(text)
    except ValueError:
        answer = text[:1000]
    if invocation.get("FunctionError"):
        raise Fault("\n".join(error_lines(answer, invocation)))
    if not isinstance(answer, dict) or "status" not in answer:
        raise Fault(f"The function's answer is not one of yo-dawg's: {text[:1000]}")
    return answer


def error_lines(answer: object, invocation: Mapping[str, Any]) -> Iterator[str]:
    """Write an error for people: its message, and what was not foreseen with all there is to know."""
    error = answer if isinstance(answer, dict) else {"errorMessage": answer}
    error_type = error.get("errorType") or invocation["FunctionError"]
    yield f"{error_type}: {error.get('errorMessage') or 'no message'}"
    if error_type in FORESEEN:
        return
    trace = error.get("stackTrace")
    if isinstance(trace, list) and trace:
        yield "Traceback:"
        yield "".join(str(line) for line in trace).rstrip()
    log = base64.b64decode(invocation.get("LogResult") or "").decode("utf-8", "replace").strip()
    if log:
        yield f"The end of its log:\n{log}"


def summary(answer: Mapping[str, Any]) -> Iterator[str]:
    """Write a result (contract §5) so that it fits a screen."""
    toolchain, package = answer.get("toolchain") or {}, answer.get("package") or {}
    rows: list[tuple[str, object]] = [
        ("status", answer["status"]),
        ("function", answer.get("function") if "functions" not in answer else None),
        *(("function", told_outcome(name, each)) for name, each in answer.get("functions", {}).items()),
        ("commit", join(answer.get("commit"), answer.get("ref"))),
        ("code", answer.get("code_sha256")),
        ("version", join(answer.get("version"), answer.get("alias"))),
        ("size", sizes(package)),
        ("largest", ", ".join(f"{name} {megabytes(each)}" for name, each in package.get("largest", [])[:4])),
        ("dependencies", counted(answer.get("dependencies"))),
        ("pruned", pruned(answer.get("pruned") or {})),
        ("package", package.get("s3_uri")),
    ]
    rows += [
        ("toolchain", toolchain.get("s3_uri")),
        ("packages", counted(toolchain.get("packages"))),
        ("log", answer.get("log")),
        ("seconds", seconds(answer.get("seconds") or {})),
    ]
    rows += [("warning", warning) for warning in answer.get("warnings") or []]
    for name, value in rows:
        if value not in (None, ""):
            yield f"{name:<13} {value}"


def told_outcome(name: str, outcome: Mapping[str, Any]) -> str:
    """Write what became of one of several functions."""
    return f"{name}: {outcome['status']}, version {join(outcome['version'], outcome['alias'])}"


def history(ledger: str) -> None:
    """Print a function's builds, the newest first, and who builds it now."""
    page = load(Path(ledger))
    columns = ("when", "status", "commit", "ref", "version", "code", "asked for by", "what")
    entries = [page["holder"]] if page.get("holder") else []
    rows = [columns, *(history_row(each) for each in [*entries, *page["history"]])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(columns) - 1)]
    for row in rows:
        print(plain("  ".join((*map(str.ljust, row, widths), row[-1])).rstrip()))


def history_row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Write an entry of a ledger."""
    when = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(entry["began"]))
    error = f": {entry['error'].partition(':')[0]}" if entry.get("error") else ""
    return (
        when,
        entry["status"],
        (entry.get("commit") or "-")[:12],
        entry.get("ref") or "-",
        join(entry.get("version"), entry.get("alias")) or "-",
        (entry.get("code_sha256") or "-")[:12],
        entry.get("asked_by") or "-",
        entry["title"] + error,
    )


def join(value: object, more: object) -> str:
    """Write a value with another one in brackets after it, if they are there."""
    return f"{value} ({more})" if value and more else str(value or "")


def sizes(package: Mapping[str, Any]) -> str:
    """Write a package's sizes."""
    if "zip_bytes" not in package:
        return ""
    zipped, unzipped = megabytes(package.get("zip_bytes")), megabytes(package.get("unzipped_bytes"))
    return f"{zipped} zipped, {unzipped} unzipped, {package.get('files', 0)} files"


def megabytes(count: object) -> str:
    """Write a number of bytes for people."""
    if not isinstance(count, int | float):
        return "?"
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1e3:.1f} kB"


def counted(names: Sequence[str] | None) -> str:
    """Write a list with its length; a long one without its end."""
    if names is None:
        return ""
    shown = ", ".join(map(str, names[:6]))
    return f"{len(names)}" + (f": {shown}" if names else "") + (", …" if len(names) > 6 else "")


def pruned(what: Mapping[str, Any]) -> str:
    """Write what was pruned."""
    return f"{what['files']} files, {megabytes(what.get('bytes'))}" if what.get("files") else ""


def seconds(spent: Mapping[str, Any]) -> str:
    """Write the seconds of all stages, and of each."""
    parts = ", ".join(f"{name} {value}" for name, value in spent.items() if name != "total")
    return join(spent.get("total"), parts)


def plain(text: str) -> str:
    """Take out what could steer a terminal: the words of a repository or a tool stand in a reply."""
    text = re.sub(r"\x1b\[[0-9;?]*[ -/]*[@-~]", "", text)
    return re.sub(r"[^\n\t\x20-\x7e\xa0-\U0010ffff]", "", text)


def load(path: Path) -> dict[str, Any]:
    """Read a JSON object; one that cannot be read is a Fault."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        value = None
    if not isinstance(value, dict):
        raise Fault(f"The AWS CLI's answer ({path.name}) is not a JSON object.")
    return value


# --- The command line -------------------------------------------------------------------------------------

COMMANDS: Mapping[str, Callable[..., None]] = {
    "settings": settings,
    "parameters": parameters,
    "payload": payload,
    "context": context,
    "follow": follow,
    "package": package,
    "differences": differences,
    "failures": failures,
    "reply": reply,
    "findings": findings,
    "history": history,
}


def main(name: str, *arguments: str) -> int:
    """Run one command; say in words why it failed."""
    try:
        COMMANDS[name](*arguments)
    except (ConfigFault, Fault) as fault:
        print(plain(str(fault)), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
