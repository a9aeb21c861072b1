"""How functions are run: starts, ends, answers and logs, each as Lambda has it."""

from __future__ import annotations

import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.aws import EmbeddedAWS
from local.runtime_api import RESPONSE_LIMIT
from tests.local.support import PROBE, Functions, log_of, package

pytestmark = pytest.mark.embedded

COUNTS = """
    calls = 0

    def handler(event, context):
        global calls
        calls += 1
        return calls
"""


@pytest.fixture(params=[pytest.param("walls", marks=pytest.mark.walls), "no walls"])
def both(request: pytest.FixtureRequest) -> Functions:
    """Functions behind walls, and without."""
    name = "functions" if request.param == "walls" else "open_functions"
    functions: Functions = request.getfixturevalue(name)
    return functions


# --- starts ---


def test_a_warm_environment_keeps_its_module_and_its_tmp(both: Functions, name: str) -> None:
    both.create(name)
    tmp = "import tempfile; tmp = tempfile.gettempdir()"
    both.ask(name, f"{tmp}; pathlib.Path(tmp, 'kept').touch(); sys.modules[__name__].seen = 1")
    assert both.ask(name, f"{tmp}; answer = [os.listdir(tmp), seen]") == [["kept"], 1]


def test_only_a_cold_start_has_an_init_duration(both: Functions, name: str) -> None:
    both.create(name)
    cold, warm = both.invoke(name, {"code": ""}).log, both.invoke(name, {"code": ""}).log
    assert "Init Duration: " in cold
    assert "Init Duration" not in warm


def test_invocations_at_the_same_time_have_an_environment_each(both: Functions, name: str) -> None:
    both.create(name, Timeout=60)
    # Each waits for the other: in one environment they would wait for ever.
    meet = """
        import boto3
        s3 = boto3.client("s3")
        s3.put_object(Bucket="meeting", Key=event["me"], Body=b"")
        while s3.list_objects_v2(Bucket="meeting")["KeyCount"] < 2:
            time.sleep(0.05)
        answer = context.log_stream_name
    """
    s3 = both.aws.client("s3")
    s3.create_bucket(Bucket="meeting")
    import textwrap

    events = [{"code": textwrap.dedent(meet), "me": me} for me in ("one", "two")]
    with ThreadPoolExecutor(2) as pool:
        streams = [reply.payload for reply in pool.map(lambda event: both.invoke(name, event), events)]
    for key in ("one", "two"):
        s3.delete_object(Bucket="meeting", Key=key)
    s3.delete_bucket(Bucket="meeting")
    assert len(set(streams)) == 2
    assert len(both.aws.environments(name)) == 2


@pytest.mark.parametrize("change", ["code", "configuration"])
def test_an_update_retires_the_environments(both: Functions, name: str, change: str) -> None:
    both.create(name, {"probe.py": COUNTS})
    assert [both.invoke(name).payload for _ in range(2)] == [1, 2]
    if change == "code":
        both.client.update_function_code(FunctionName=name, ZipFile=package({"probe.py": COUNTS, "more.py": ""}))
    else:
        both.client.update_function_configuration(FunctionName=name, Timeout=30)
    both.aws.finish_updates()
    assert both.invoke(name).payload == 1


def test_during_an_update_the_old_code_answers(functions: Functions, name: str) -> None:
    functions.create(name, {"probe.py": "def handler(event, context): return 'old'"})
    functions.client.update_function_code(
        FunctionName=name, ZipFile=package({"probe.py": "def handler(event, context): return 'new'"})
    )
    assert functions.invoke(name).payload == "old"
    functions.aws.finish_updates()
    assert functions.invoke(name).payload == "new"


# --- the context ---


def test_the_context_is_lambdas(both: Functions, name: str) -> None:
    import base64

    both.create(name, MemorySize=192, Timeout=17)
    code = """
        answer = {
            "name": context.function_name, "version": context.function_version, "arn": context.invoked_function_arn,
            "memory": context.memory_limit_in_mb, "id": context.aws_request_id, "group": context.log_group_name,
            "client": context.client_context.custom, "left": context.get_remaining_time_in_millis(),
            "trace": os.environ["_X_AMZN_TRACE_ID"],
        }
    """
    import textwrap

    client = base64.b64encode(json.dumps({"custom": {"a": "b"}}).encode()).decode()
    reply = both.invoke(name, {"code": textwrap.dedent(code)}, ClientContext=client)
    answer = reply.payload
    assert 0 < answer.pop("left") <= 17_000
    assert re.fullmatch(r"Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=0;.*", answer.pop("trace"))
    assert f"START RequestId: {answer.pop('id')} Version: $LATEST\n" in reply.log
    assert answer == {
        "name": name,
        "version": "$LATEST",
        "arn": f"arn:aws:lambda:us-east-1:{both.aws.account}:function:{name}",
        "memory": "192",
        "group": f"/aws/lambda/{name}",
        "client": {"a": "b"},
    }
    assert reply.raw["ExecutedVersion"] == "$LATEST"
    assert reply.raw["StatusCode"] == 200


# --- errors ---


def test_an_exception_is_unhandled_and_has_its_class(both: Functions, name: str) -> None:
    both.create(name, {"probe.py": "class Mine(Exception): pass\ndef handler(event, context): raise Mine('why')"})
    reply = both.invoke(name)
    assert reply.error == "Unhandled"
    assert (reply.payload["errorType"], reply.payload["errorMessage"]) == ("Mine", "why")
    assert "[ERROR] Mine: why" in reply.log


@pytest.mark.parametrize(
    ("files", "handler", "kind", "message"),
    [
        pytest.param(
            {"probe.py": "import nowhere"},
            "probe.handler",
            "Runtime.ImportModuleError",
            "Unable to import module 'probe': No module named 'nowhere'",
            id="import",
        ),
        pytest.param(
            {"probe.py": "x = 1"},
            "probe.handler",
            "Runtime.HandlerNotFound",
            "Handler 'handler' missing on module 'probe'",
            id="no handler",
        ),
        pytest.param(
            {"probe.py": "def"},
            "probe.handler",
            "Runtime.UserCodeSyntaxError",
            "Syntax error in module 'probe'",
            id="syntax",
        ),
        pytest.param(
            {"probe.py": "import sys; sys.exit(4)"},
            "probe.handler",
            "Runtime.ExitError",
            "Runtime exited with error: exit status 4",
            id="exit",
        ),
    ],
)
def test_errors_of_the_init_phase_pass_through(
    functions: Functions, name: str, files: dict[str, str | bytes], handler: str, kind: str, message: str
) -> None:
    functions.create(name, files, Handler=handler)
    for _ in range(2):  # the second time in the same environment
        reply = functions.invoke(name)
        assert reply.error == "Unhandled"
        assert reply.payload["errorType"] == kind
        assert message in reply.payload["errorMessage"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        pytest.param("os._exit(0)", "Runtime exited without providing a reason", id="0"),
        pytest.param("sys.exit(0)", "Runtime exited without providing a reason", id="sys"),
        pytest.param("os._exit(127)", "Runtime exited with error: exit status 127", id="127"),
        pytest.param("os.kill(os.getpid(), 9)", "Runtime exited with error: signal: killed", id="killed"),
    ],
)
def test_a_runtime_that_exits_is_an_error_and_tmp_is_kept(both: Functions, code: str, message: str, name: str) -> None:
    both.create(name)
    both.ask(name, "import tempfile; pathlib.Path(tempfile.gettempdir(), 'kept').touch()")
    reply = both.invoke(name, {"code": code})
    assert reply.error == "Unhandled"
    assert reply.payload["errorType"] == "Runtime.ExitError"
    assert re.fullmatch(rf"RequestId: [0-9a-f-]{{36}} Error: {message}", reply.payload["errorMessage"])
    assert "Status: error\tError Type: Runtime.ExitError" in reply.log
    assert both.ask(name, "import tempfile; answer = os.listdir(tempfile.gettempdir())") == ["kept"]


def test_a_timeout_ends_the_runtime_but_not_what_left_its_group(both: Functions, name: str) -> None:
    both.create(name, Timeout=4)
    code = """
        import tempfile
        pathlib.Path(tempfile.gettempdir(), "kept").touch()
        subprocess.Popen(["sleep", "1001"])
        subprocess.Popen(["sleep", "1002"], start_new_session=True)
        time.sleep(60)
    """
    import textwrap

    reply = both.invoke(name, {"code": textwrap.dedent(code)})
    assert (reply.raw["StatusCode"], reply.error) == (200, "Unhandled")
    assert reply.payload["errorType"] == "Sandbox.Timedout"
    assert re.fullmatch(r"RequestId: \S+ Error: Task timed out after 4.00 seconds", reply.payload["errorMessage"])
    assert "Task timed out after 4.00 seconds\n" in reply.log
    assert "Status: timeout" in reply.log
    [environment] = both.aws.environments(name)
    assert list(environment.inspect().processes.values()) == ["sleep 1002"]
    assert [path.rpartition("/")[2] for path in environment.inspect(tmp=True).files] == ["kept"]
    assert both.ask(name, "import tempfile; answer = os.listdir(tempfile.gettempdir())") == ["kept"]


def test_a_slow_init_is_tried_again_on_the_functions_time(functions: Functions, name: str) -> None:
    slow = "import os, time\nif not os.path.exists('/tmp/second'): open('/tmp/second', 'w'); time.sleep(60)\n"
    functions.create(name, {"probe.py": slow + "def handler(event, context): return 'there'"})
    from local import environments

    before, environments.INIT_SECONDS = environments.INIT_SECONDS, 2.0
    try:
        reply = functions.invoke(name)
    finally:
        environments.INIT_SECONDS = before
    assert reply.payload == "there"
    line = "INIT_REPORT Init Duration: 2000.00 ms\tPhase: init\tStatus: timeout\n"
    assert line in log_of(functions, f"/aws/lambda/{name}")
    assert "Init Duration" not in reply.log.splitlines()[-1]


# --- answers ---


@pytest.mark.parametrize(
    ("size", "error"),
    [
        pytest.param(RESPONSE_LIMIT, None, id="at the limit"),
        pytest.param(
            RESPONSE_LIMIT + 1,
            {
                "errorType": "Function.ResponseSizeTooLarge",
                "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
            },
            id="over it",
        ),
    ],
)
def test_the_answers_size_is_limited(functions: Functions, name: str, size: int, error: dict[str, str] | None) -> None:
    functions.create(name, MemorySize=512)
    reply = functions.invoke(name, {"code": f"answer = 'x' * {size - 2}"})  # and two quotes
    if error:
        assert (reply.error, reply.payload) == ("Unhandled", error)
    else:
        assert (reply.error, len(reply.payload)) == (None, size - 2)
    assert functions.ask(name, "answer = 1") == 1


def test_what_is_no_json_is_a_marshal_error(functions: Functions, name: str) -> None:
    functions.create(name)
    assert functions.invoke(name, {"code": "answer = object()"}).payload["errorType"] == "Runtime.MarshalError"


def test_the_log_result_is_the_last_4_kb(functions: Functions, name: str) -> None:
    functions.create(name)
    reply = functions.invoke(name, {"code": "for n in range(2000): print(n)"})
    assert len(reply.log.encode()) == 4096
    assert re.search(r"1998\n1999\nEND RequestId: \S+\nREPORT RequestId: ", reply.log)
    assert "LogResult" not in functions.client.invoke(FunctionName=name, Payload=b'{"code": ""}')


# --- logs ---


def test_all_output_is_in_cloudwatch_logs(both: Functions, name: str) -> None:
    both.create(name)
    code = """
        print("from print")
        sys.stderr.write("half a ")
        sys.stderr.write("line")
        sys.stderr.flush()
        subprocess.run(["bash", "-c", "echo; echo from a child"])
    """
    import textwrap

    reply = both.invoke(name, {"code": textwrap.dedent(code)})
    messages = log_of(both, f"/aws/lambda/{name}")
    assert [re.sub(r"[0-9a-f-]{36}", "ID", message) for message in messages[1:-1]] == [
        "START RequestId: ID Version: $LATEST\n",
        "from print\n",
        "half a line\n",
        "from a child\n",
        "END RequestId: ID\n",
    ]
    assert messages[0].startswith("INIT_START Runtime Version: python:3.")
    assert re.fullmatch(
        r"REPORT RequestId: \S+\tDuration: [\d.]+ ms\tBilled Duration: \d+ ms\tMemory Size: 128 MB\t"
        r"Max Memory Used: \d+ MB\tInit Duration: [\d.]+ ms\t\n",
        messages[-1],
    )
    assert reply.log == "".join(messages[1:]), "the start of the environment is in the log, not in the answer"


def test_the_log_can_be_read_while_the_function_runs(functions: Functions, name: str) -> None:
    functions.create(name, Timeout=60)
    code = """
        import boto3
        print("so far", flush=True)
        logs, found = boto3.client("logs"), []
        while not found:
            events = logs.get_log_events(logGroupName=context.log_group_name, logStreamName=context.log_stream_name)
            found = [e["message"] for e in events["events"] if e["message"].startswith("so far")]
        answer = found
    """
    assert functions.ask(name, code) == ["so far\n"]


def test_the_functions_own_log_group_is_honoured(functions: Functions, name: str) -> None:
    functions.create(name, LoggingConfig={"LogGroup": "/somewhere/else"})
    assert functions.ask(name, "print('here'); answer = os.environ['AWS_LAMBDA_LOG_GROUP_NAME']") == "/somewhere/else"
    assert "here\n" in log_of(functions, "/somewhere/else")


# --- other ways to invoke ---


def test_a_dry_run_runs_nothing(functions: Functions, name: str) -> None:
    functions.create(name)
    assert functions.client.invoke(FunctionName=name, InvocationType="DryRun")["StatusCode"] == 204
    assert functions.aws.environments(name) == []


@pytest.mark.parametrize(("retries", "runs"), [(None, 3), (1, 2), (0, 1)])
def test_a_failed_event_is_run_again_as_often_as_configured(
    both: Functions, name: str, retries: int | None, runs: int
) -> None:
    both.create(name, {"probe.py": "def handler(event, context): print('ran', context.aws_request_id); raise OSError"})
    if retries is not None:
        both.client.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=retries)
    answer = both.client.invoke(FunctionName=name, InvocationType="Event", Payload=b"{}")
    assert (answer["StatusCode"], answer["Payload"].read()) == (202, b"")
    both.aws.wait_for_events()
    ran = [message for message in log_of(both, f"/aws/lambda/{name}") if message.startswith("ran")]
    assert len(ran) == runs
    assert len(set(ran)) == 1, "a retry has the same request id"


def test_an_event_that_succeeds_is_run_once(functions: Functions, name: str) -> None:
    functions.create(name)
    functions.client.invoke(FunctionName=name, InvocationType="Event", Payload=b'{"code": "print(\'ran\')"}')
    functions.aws.wait_for_events()
    assert log_of(functions, f"/aws/lambda/{name}").count("ran\n") == 1


def test_versions_and_aliases_run_what_they_name(functions: Functions, name: str) -> None:
    functions.create(name, {"probe.py": "def handler(event, context): return ['one', context.invoked_function_arn]"})
    functions.client.publish_version(FunctionName=name)
    functions.aws.finish_updates()
    functions.client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    functions.client.update_function_code(
        FunctionName=name, ZipFile=package({"probe.py": "def handler(event, context): return ['two', '']"})
    )
    functions.aws.finish_updates()
    assert functions.invoke(name).payload[0] == "two"
    code, arn = functions.invoke(name, Qualifier="live").payload
    assert (code, arn.split(":")[-2:]) == ("one", [name, "live"])
    assert functions.invoke(f"{name}:1").raw["ExecutedVersion"] == "1"


# --- what cannot be run ---


def other_architecture() -> str:
    from local.lambda_invoke import this_architecture

    return "arm64" if this_architecture() == "x86_64" else "x86_64"


def test_a_function_for_another_architecture_is_refused_by_name(functions: Functions, name: str) -> None:
    functions.create(name, Architectures=[other_architecture()])
    with pytest.raises(ClientError, match=f"cannot run {name}: it is for {other_architecture()}, and this machine is"):
        functions.invoke(name)


def test_an_image_is_refused_by_name(functions: Functions, name: str) -> None:
    functions.client.create_function(
        FunctionName=name, Role=functions.role, PackageType="Image", Code={"ImageUri": "1.dkr.ecr/x:y"}
    )
    functions.aws.finish_updates()
    with pytest.raises(ClientError, match=f"cannot run {name}: it is a container image"):
        functions.invoke(name)


def test_a_runtime_that_this_machine_lacks_is_refused_by_name(functions: Functions, name: str) -> None:
    functions.create(name, Runtime="python3.10")
    reply = functions.invoke(name)
    assert reply.payload["errorType"] == "RuntimeUnavailable"
    assert "This machine has no interpreter for the runtime python3.10" in reply.payload["errorMessage"]


# --- without walls ---


def test_without_walls_tmp_is_private(open_functions: Functions, name: str) -> None:
    open_functions.create(name)
    code = "import tempfile; pathlib.Path(tempfile.gettempdir(), 'mine').touch(); answer = tempfile.gettempdir()"
    tmp = open_functions.ask(name, code)
    [environment] = open_functions.aws.environments(name)
    assert environment.inspect(tmp=True).files == [f"{tmp}/mine"]


def test_without_walls_other_packages_are_not_seen(open_functions: Functions, name: str) -> None:
    open_functions.create(name)
    code = "import importlib.util as i; answer = [i.find_spec('boto3') is None, i.find_spec('pytest') is None]"
    assert open_functions.ask(name, code) == [False, True]


# --- the Runtime API ---


@pytest.fixture
def invoked(functions: Functions, name: str) -> Any:
    """A way to ask the Runtime API from within a handler."""
    functions.create(name, {"probe.py": PROBE})

    def ask(method: str, path: str, body: str = "") -> Any:
        code = f"""
            import http.client
            connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
            connection.request({method!r}, {path!r}.replace("ID", context.aws_request_id), {body!r})
            response = connection.getresponse()
            answer = [response.status, response.read().decode()]
        """
        return functions.ask(name, code)

    return ask


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/2018-06-01/runtime/invocation/next", 403, "InvalidStateTransition"),
        ("POST", "/2018-06-01/runtime/invocation/other/response", 400, "InvalidRequestID"),
        ("GET", "/2018-06-01/elsewhere", 404, "no such path"),
        ("POST", "/2018-06-01/elsewhere", 404, "no such path"),
    ],
)
def test_the_runtime_api_refuses_what_is_out_of_turn(
    invoked: Any, method: str, path: str, status: int, text: str
) -> None:
    answer = invoked(method, path)
    assert answer[0] == status
    assert text in answer[1]


def test_whoever_knows_the_request_id_can_answer_as_on_aws(functions: Functions, name: str) -> None:
    functions.create(name)
    code = """
        import http.client
        connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
        connection.request("POST", f"/2018-06-01/runtime/invocation/{context.aws_request_id}/response", '"stolen"')
        connection.getresponse().read()
        answer = "the handler's own"
    """
    assert functions.ask(name, code) == "stolen"


def test_no_thread_is_left_by_invocations(open_functions: Functions, name: str) -> None:
    open_functions.create(name)
    open_functions.ask(name, "")
    before = own_threads()
    for _ in range(5):
        open_functions.ask(name, "")
    assert own_threads() <= before


def own_threads() -> set[threading.Thread]:
    """Return the threads, less those that answer a request and are about to end."""
    return {thread for thread in threading.enumerate() if "process_request" not in thread.name}


def test_an_environment_that_was_ended_from_outside_is_replaced(both: Functions, name: str) -> None:
    both.create(name)
    both.ask(name, "")
    [environment] = both.aws.environments(name)
    environment.sandbox.process.kill()
    environment.sandbox.process.wait()
    assert both.ask(name, "answer = 1") == 1
    assert both.aws.environments(name) != [environment]


def test_closing_ends_a_function_that_still_runs(functions: Functions, name: str) -> None:
    with EmbeddedAWS(update_seconds=0) as aws:
        other = Functions(aws, functions.runtime)
        other.create(name, Timeout=900)
        aws.client("s3").create_bucket(Bucket="closing-started")
        code = "import boto3; boto3.client('s3').put_object(Bucket='closing-started', Key='k'); time.sleep(900)"
        other.client.invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps({"code": code}).encode())
        s3 = aws.client("s3")
        s3.get_waiter("object_exists").wait(Bucket="closing-started", Key="k", WaiterConfig={"Delay": 1})
