"""What functions were recorded to find around them in Lambda, what they leave in its logs, and what becomes of them."""

from __future__ import annotations

import re
import textwrap
import time
from typing import Any

import pytest

from local.walls import two_users
from tests.local.support import PROBE, Functions, log_of, package

pytestmark = pytest.mark.embedded


@pytest.fixture
def open_and_closed(request: pytest.FixtureRequest) -> Functions:
    functions: Functions = request.getfixturevalue(request.param)
    return functions


BOTH = pytest.mark.parametrize(
    "open_and_closed", [pytest.param("functions", marks=pytest.mark.walls), "open_functions"], indirect=True
)


# --- what is there ---


@pytest.mark.walls
def test_what_a_function_finds_is_roots(functions: Functions, name: str) -> None:
    if two_users() is None:
        pytest.skip("without root and newuidmap there is one user in a sandbox")
    layer = functions.client.publish_layer_version(
        LayerName=name, Content={"ZipFile": package({"python/x.py": "x = 1"})}
    )
    functions.create(name, Layers=[layer["LayerVersionArn"]])
    code = """
        places = ["/var/task", "/var/task/probe.py", "/opt", "/opt/python", "/tmp", "/lambda-entrypoint.sh", "/"]
        answer = [[os.stat(place).st_uid, os.stat(place).st_gid] for place in places] + [[os.getuid(), os.getgid()]]
    """
    assert functions.ask(name, code) == [*[[0, 0]] * 7, [993, 990]]


@pytest.mark.walls
def test_without_a_layer_opt_is_there_too(functions: Functions, name: str) -> None:
    functions.create(name)
    code = """
        places = ["/var/task", "/opt", "/tmp", "/lambda-entrypoint.sh"]
        answer = [stat.filemode(os.stat(place).st_mode) for place in places]
    """
    assert functions.ask(name, code) == ["drwxr-xr-x", "drwxr-xr-x", "drwxrwxrwt", "-rwxr-xr-x"]


@pytest.mark.walls
def test_rlimits_are_those_of_a_small_function(functions: Functions, name: str) -> None:
    functions.create(name)
    code = """
        names = "AS CORE CPU DATA FSIZE MEMLOCK NOFILE NPROC RSS STACK".split()
        answer = {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}")) for name in names}
    """
    unlimited = [-1, -1]
    assert functions.ask(name, code) == {
        "AS": unlimited,
        "CORE": [10 * 2**30] * 2,
        "CPU": unlimited,
        "DATA": unlimited,
        "FSIZE": unlimited,
        "MEMLOCK": [65536] * 2,
        "NOFILE": [1024] * 2,
        "NPROC": [742] * 2,
        "RSS": unlimited,
        "STACK": [8 * 2**20, -1],
    }


@pytest.mark.walls
def test_the_search_path_is_lambdas(functions: Functions, runtime: str) -> None:
    made = functions.create(f"search-path-{runtime.replace('.', '')}", Runtime=runtime)
    lang, version = f"/var/lang/lib/{runtime}", runtime.removeprefix("python").replace(".", "")
    assert functions.ask(made, "answer = sys.path") == [
        "/var/task",
        f"/opt/python/lib/{runtime}/site-packages",
        "/opt/python",
        f"{lang}/site-packages",
        "/var/runtime",
        f"/var/lang/lib/python{version}.zip",
        lang,
        f"{lang}/lib-dynload",
        f"{lang}/site-packages",
    ]


@pytest.mark.walls
def test_only_lambdas_own_words_start_the_runtime(functions: Functions, name: str) -> None:
    functions.create(name)
    code = "answer = pathlib.Path('/proc/self/cmdline').read_text().split('\\0')[:-1]"
    assert functions.ask(name, code) == [f"/var/lang/bin/{functions.runtime}", "/var/runtime/bootstrap.py"]


# --- wrappers ---


@BOTH
def test_a_wrapper_starts_the_runtime(open_and_closed: Functions, name: str) -> None:
    wrapper = '#!/bin/bash\nexport WRAPPED=yes\nargs=("$@")\nexec "${args[@]:0:$#-1}" -X dev "${args[@]: -1}"\n'
    if open_and_closed.aws.walls is False:  # where the place of the layers is an argument more
        wrapper = '#!/bin/bash\nexport WRAPPED=yes\ncommand=$1\nshift\nexec "$command" -X dev "$@"\n'
    code = package({"probe.py": PROBE, "wrapper": wrapper}, mode=0o755)
    open_and_closed.create(name, code, Environment={"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/wrapper"}})
    code_ = "answer = [os.environ['WRAPPED'], sys.flags.dev_mode]"
    assert open_and_closed.ask(name, code_) == ["yes", True]


@BOTH
@pytest.mark.parametrize(
    ("wrapper", "status", "says"),
    [("/var/task/none", 127, "does not exist"), ("/var/task/probe.py", 126, "is not an executable")],
)
def test_a_wrapper_that_cannot_be_run_ends_the_runtime(
    open_and_closed: Functions, name: str, wrapper: str, status: int, says: str
) -> None:
    open_and_closed.create(name, Environment={"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": wrapper}})
    reply = open_and_closed.invoke(name)
    assert (reply.error, reply.payload["errorType"]) == ("Unhandled", "Runtime.ExitError")
    assert reply.payload["errorMessage"].endswith(f" Error: Runtime exited with error: exit status {status}")
    assert any(says in message for message in log_of(open_and_closed, f"/aws/lambda/{name}"))


# --- logs ---


@BOTH
def test_the_start_of_an_environment_is_in_the_log_and_not_in_the_answer(open_and_closed: Functions, name: str) -> None:
    open_and_closed.create(name)
    reply = open_and_closed.invoke(name, {"code": ""})
    assert reply.log.startswith("START RequestId: ")
    assert log_of(open_and_closed, f"/aws/lambda/{name}")[0].startswith("INIT_START Runtime Version: python:3.")


@BOTH
def test_an_error_is_one_event_of_many_lines(open_and_closed: Functions, name: str) -> None:
    open_and_closed.create(name, {"probe.py": "def handler(event, context):\n    raise OSError('why')\n"})
    open_and_closed.invoke(name)
    [error] = [each for each in log_of(open_and_closed, f"/aws/lambda/{name}") if each.startswith("[ERROR]")]
    first, second, third, fourth = error.split("\n")
    assert (first, second) == ("[ERROR] OSError: why", "Traceback (most recent call last):")
    assert re.fullmatch(r"\xa0\xa0File \".*/probe.py\", line 2, in handler", third)
    assert fourth == "\xa0\xa0\xa0\xa0raise OSError('why')"


def test_what_is_logged_is_one_event_and_what_is_printed_one_a_line(functions: Functions, name: str) -> None:
    functions.create(name)
    code = """
        import logging
        print("one\\ntwo")
        print("  \\n\\t\\n")
        logging.getLogger().warning("three\\nfour")
        os.write(1, b"\\xa5\\x5a\\x00 no frame\\nfive")
    """
    functions.invoke(name, {"code": textwrap.dedent(code)})
    seen = [re.sub(r"\t\S+Z\t\S+\t", " ", each) for each in log_of(functions, f"/aws/lambda/{name}")[2:-2]]
    assert seen == ["one\n", "two\n", "[WARNING] three\nfour\n", "\ufffdZ\0 no frame\n", "five\n"]


# --- between invocations ---

TICKS = """
    import os, tempfile, threading, time

    path = os.path.join(tempfile.gettempdir(), "ticks")

    def tick():
        while True:
            with open(path, "a") as file:
                file.write("x")
            time.sleep(0.01)

    def handler(event, context):
        if event.get("begin"):
            threading.Thread(target=tick, daemon=True).start()
            if os.fork() == 0:
                os.setsid()
                tick()
            while not os.path.exists(path):
                time.sleep(0.01)
        time.sleep(event.get("wait", 0))
        return os.path.getsize(path)
"""


@BOTH
def test_what_is_left_at_the_end_of_an_invocation_is_frozen_until_the_next(
    open_and_closed: Functions, name: str
) -> None:
    open_and_closed.create(name, {"probe.py": TICKS})
    open_and_closed.invoke(name, {"begin": True})
    [environment] = open_and_closed.aws.environments(name)
    before = environment.inspect(tmp=True).tmp_bytes
    time.sleep(1)
    assert environment.inspect(tmp=True).tmp_bytes == before, "nobody ticks"
    assert open_and_closed.invoke(name, {"wait": 1}).payload > before


def test_a_frozen_environment_can_still_be_looked_at_and_ended(functions: Functions, name: str) -> None:
    functions.create(name, {"probe.py": TICKS})
    functions.invoke(name, {"begin": True})
    [environment] = functions.aws.environments(name)
    assert len(environment.inspect().processes) == 2
    functions.client.delete_function(FunctionName=name)
    assert environment.sandbox.gone


# --- events ---


def test_an_event_that_waits_is_run_by_the_code_that_is_new_by_then(functions: Functions, name: str) -> None:
    def probe(version: str) -> dict[str, Any]:
        text = f"import time\ndef handler(event, context): time.sleep(event); print('ran {version}')\n"
        return {"probe.py": text}

    functions.create(name, probe("old"))
    functions.client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    functions.client.invoke(FunctionName=name, InvocationType="Event", Payload=b"3")
    while not log_of_started(functions, name):
        time.sleep(0.05)
    functions.client.invoke(FunctionName=name, InvocationType="Event", Payload=b"0")
    functions.client.update_function_code(FunctionName=name, ZipFile=package(probe("new")))
    functions.aws.finish_updates()
    functions.aws.wait_for_events()
    ran = [each for each in log_of(functions, f"/aws/lambda/{name}") if each.startswith("ran")]
    assert ran == ["ran old\n", "ran new\n"]


def log_of_started(functions: Functions, name: str) -> bool:
    """Say whether a function has begun to run."""
    logs = functions.aws.client("logs")
    groups = logs.describe_log_groups(logGroupNamePrefix=f"/aws/lambda/{name}")["logGroups"]
    return bool(groups) and any(each.startswith("START") for each in log_of(functions, f"/aws/lambda/{name}"))
