"""What a function finds around it: Lambda, and nothing of this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from local.aws import EmbeddedAWS
from tests.local.support import PROBE, Functions, package

pytestmark = [pytest.mark.embedded, pytest.mark.walls]

# As recorded in Lambda (LC_CTYPE: not in python3.11).
ENVIRONMENT = """
AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_REGION AWS_DEFAULT_REGION AWS_EXECUTION_ENV
AWS_LAMBDA_FUNCTION_NAME AWS_LAMBDA_FUNCTION_VERSION AWS_LAMBDA_FUNCTION_MEMORY_SIZE AWS_LAMBDA_INITIALIZATION_TYPE
AWS_LAMBDA_LOG_GROUP_NAME AWS_LAMBDA_LOG_STREAM_NAME AWS_LAMBDA_RUNTIME_API AWS_XRAY_CONTEXT_MISSING
AWS_XRAY_DAEMON_ADDRESS _AWS_XRAY_DAEMON_ADDRESS _AWS_XRAY_DAEMON_PORT _X_AMZN_TRACE_ID _HANDLER LAMBDA_TASK_ROOT
LAMBDA_RUNTIME_DIR PWD SHLVL PATH LD_LIBRARY_PATH PYTHONPATH LANG TZ
"""


@pytest.fixture(scope="module")
def probe(functions: Functions) -> str:
    return functions.create("probe", MemorySize=512, EphemeralStorage={"Size": 600})


def test_each_runtime_of_this_machine_runs_its_own_python(functions: Functions, runtime: str) -> None:
    name = functions.create(f"runs-{runtime.replace('.', '')}", Runtime=runtime)
    answer = functions.ask(
        name,
        """
        import awslambdaric, boto3, ssl, sqlite3, lzma, bz2
        version = "python%d.%d" % sys.version_info[:2]
        answer = [version, sys.executable, boto3.__file__, awslambdaric.__file__]
        """,
    )
    assert answer == [
        runtime,
        f"/var/lang/bin/{runtime}",
        f"/var/lang/lib/{runtime}/site-packages/boto3/__init__.py",
        "/var/runtime/awslambdaric/__init__.py",
    ]


def test_the_environment_is_lambdas_and_two_things_more(aws: EmbeddedAWS, functions: Functions, runtime: str) -> None:
    name = functions.create(f"environ-{runtime.replace('.', '')}", Runtime=runtime, MemorySize=256)
    environ = functions.ask(name, "answer = dict(os.environ)")
    expected = {*ENVIRONMENT.split(), "AWS_ENDPOINT_URL", "SAMPLE_SETTING"}
    if runtime != "python3.11":
        expected.add("LC_CTYPE")
    assert set(environ) == expected
    assert {
        key: environ[key] for key in ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "LAMBDA_TASK_ROOT", "TZ", "PWD")
    } == {
        "PATH": "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
        "LD_LIBRARY_PATH": "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:"
        "/var/task:/var/task/lib:/opt/lib",
        "PYTHONPATH": "/var/runtime",
        "LAMBDA_TASK_ROOT": "/var/task",
        "TZ": ":UTC",
        "PWD": "/var/task",
    }
    assert environ["AWS_EXECUTION_ENV"] == f"AWS_Lambda_{runtime}"
    assert environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "256"
    assert environ["AWS_ENDPOINT_URL"] == aws.endpoint


def test_the_functions_own_variables_come_first(functions: Functions) -> None:
    name = functions.create("variables", Environment={"Variables": {"SAMPLE_SETTING": "mine", "LANG": "C"}})
    assert functions.ask(name, "answer = [os.environ['SAMPLE_SETTING'], os.environ['LANG']]") == ["mine", "C"]


@pytest.mark.parametrize("place", ["/", "/var/task", "/opt", "/var/runtime", "/usr/bin", "/etc", "/home", "/dev"])
def test_nothing_but_tmp_can_be_written(functions: Functions, probe: str, place: str) -> None:
    code = f"""
        import errno
        answer = "written"
        try:
            pathlib.Path({place!r}, "new").write_text("x")
        except OSError as error:
            answer = errno.errorcode[error.errno]
    """
    assert functions.ask(probe, code) in ("EROFS", "ENOENT")


def test_tmp_has_its_size_and_mode(functions: Functions, probe: str) -> None:
    code = "answer = [shutil.disk_usage('/tmp').total, stat.filemode(os.stat('/tmp').st_mode)]"
    assert functions.ask(probe, code) == [600 * 2**20, "drwxrwxrwt"]


def test_tmp_can_be_full(functions: Functions) -> None:
    name = functions.create("fills", EphemeralStorage={"Size": 512})
    code = """
        answer = "room for all"
        try:
            with open("/tmp/big", "wb") as big:
                for _ in range(513):
                    big.write(bytes(2**20))
        except OSError as error:
            answer = error.strerror
        finally:
            os.unlink("/tmp/big")
    """
    assert functions.ask(name, code) == "No space left on device"


@pytest.mark.parametrize("tool", ["bash", "sh", "cat", "cp", "mkdir", "install", "sort", "sha256sum", "grep", "sed"])
def test_the_tools_of_amazon_linux_are_there(functions: Functions, probe: str, tool: str) -> None:
    assert functions.ask(probe, f"answer = shutil.which({tool!r})")
    assert (
        functions.ask(probe, f"answer = subprocess.run([{tool!r}, '--version'], capture_output=True).returncode") == 0
    )


@pytest.mark.parametrize(
    "tool",
    ["git", "gcc", "cc", "ld", "make", "find", "xargs", "tar", "gzip", "unzip", "ssh", "pip", "curl", "ps", "perl"],
)
def test_the_tools_that_lambda_lacks_are_nowhere(functions: Functions, probe: str, tool: str) -> None:
    assert functions.ask(probe, f"answer = [shutil.which({tool!r}), glob.glob('/usr/**/{tool}', recursive=True)]") == [
        None,
        [],
    ]


def test_shell_commands_work_in_an_empty_environment(functions: Functions, probe: str) -> None:
    # A build script's environment is made from nothing: no LD_LIBRARY_PATH helps to find libraries.
    code = """
        script = "echo one two | sed s/two/2/ | grep 2 && python3 -c 'import ssl; print(ssl.OPENSSL_VERSION[:7])'"
        answer = subprocess.run(
            ["/bin/bash", "-ec", script], env={"PATH": "/usr/bin:/var/lang/bin"}, capture_output=True, text=True
        ).stdout
    """
    assert functions.ask(probe, code) == "one 2\nOpenSSL\n"


def test_the_user_is_lambdas(functions: Functions, probe: str) -> None:
    code = """
        import getpass
        home = os.path.expanduser("~")
        whoami = subprocess.run(["whoami"], capture_output=True, text=True).stdout.strip()
        answer = [os.getuid(), getpass.getuser(), whoami, home, os.path.exists(home)]
    """
    assert functions.ask(probe, code) == [993, "sbx_user1051", "sbx_user1051", "/home/sbx_user1051", False]


def test_there_is_no_shared_memory(functions: Functions, probe: str) -> None:
    code = """
        answer = "a lock was made"
        try:
            multiprocessing.Lock()
        except OSError as error:
            answer = type(error).__name__
        answer = [answer, os.path.exists("/dev/shm")]
    """
    assert functions.ask(probe, code) == ["FileNotFoundError", False]


def test_only_the_runtime_is_running(functions: Functions, probe: str) -> None:
    code = """
        answer = sorted(
            pathlib.Path(f"/proc/{pid}/cmdline").read_text().split("\\0")[-3:-1]
            for pid in os.listdir("/proc") if pid.isdecimal()
        )
    """
    [supervisor, runtime] = sorted(functions.ask(probe, code), key=lambda words: "/tmp" not in words)
    assert runtime == [f"/var/lang/bin/{functions.runtime}", "/var/runtime/bootstrap.py"]
    assert supervisor[-1] == "/tmp"


def test_this_machines_files_and_packages_are_not_there(functions: Functions, probe: str) -> None:
    here = [str(Path(__file__).parent), sys.prefix, os.path.expanduser("~"), "/etc/shadow", "/proc/1/root/etc/shadow"]
    code = f"""
        import importlib.util
        answer = [p for p in {here!r} if os.path.exists(p)] + [importlib.util.find_spec("pytest")]
    """
    assert functions.ask(probe, code) == [None]


def test_certificates_are_trusted_as_on_this_machine(functions: Functions, probe: str) -> None:
    import ssl

    here = len(ssl.create_default_context().get_ca_certs())
    if not here:
        pytest.skip("this machine trusts nobody by file")
    assert functions.ask(probe, "import ssl; answer = len(ssl.create_default_context().get_ca_certs())") > 0


def test_directories_that_are_made_readable_are_there_and_read_only(functions: Functions, tmp_path: Path) -> None:
    (tmp_path / "wheel").write_text("a wheel")
    tmp_path.chmod(0o755)
    with EmbeddedAWS(update_seconds=0, readable=[tmp_path, Path(__file__).parent]) as aws:
        other = Functions(aws, functions.runtime)
        other.create("reads")
        assert other.ask("reads", f"answer = os.path.exists({__file__!r})")
        code = f"""
            answer = [pathlib.Path({str(tmp_path)!r}, "wheel").read_text()]
            try:
                pathlib.Path({str(tmp_path)!r}, "new").touch()
            except OSError as error:
                answer.append(error.strerror)
        """
        assert other.ask("reads", code) == ["a wheel", "Read-only file system"]


# --- code ---


def test_modes_and_symlinks_of_the_package_are_kept(functions: Functions) -> None:
    code = package({"probe.py": PROBE, "run.sh": "#!/bin/bash\necho ran\n"}, links={"link.sh": "run.sh"}, mode=0o755)
    name = functions.create("modes", code)
    answer = functions.ask(
        name,
        """
        run = subprocess.run(["/var/task/link.sh"], capture_output=True, text=True).stdout
        answer = [run, os.readlink("/var/task/link.sh"), stat.filemode(os.stat("/var/task/run.sh").st_mode)]
        """,
    )
    assert answer == ["ran\n", "run.sh", "-rwxr-xr-x"]


def test_what_others_may_not_read_the_function_cannot(functions: Functions) -> None:
    name = functions.create("unreadable", package({"probe.py": PROBE}, mode=0o600))
    reply = functions.invoke(name)
    assert (reply.error, reply.payload["errorType"]) == ("Unhandled", "PermissionError")


def test_layers_are_in_opt_later_ones_over_earlier_ones(functions: Functions) -> None:
    arns = [
        functions.client.publish_layer_version(LayerName=name, Content={"ZipFile": package(files)})["LayerVersionArn"]
        for name, files in {
            "one": {"python/one.py": "name = 'one'", "python/both.py": "name = 'one'"},
            "two": {"python/both.py": "name = 'two'"},
        }.items()
    ]
    name = functions.create("layers", Layers=arns)
    code = "sys.path.insert(0, '/opt/python'); import one, both; answer = [one.name, both.name]"
    assert functions.ask(name, code) == ["one", "two"]


# --- secrets ---

THIEF = """
import glob, sys
secret, found = sys.argv[1].encode(), []
for name in glob.glob("/proc/[0-9]*"):
    for part in ("environ", "cmdline"):
        try:
            with open(f"{name}/{part}", "rb") as file:
                if secret in file.read():
                    found.append(f"{name}/{part}")
        except OSError:
            pass
    try:
        with open(f"{name}/maps") as maps, open(f"{name}/mem", "rb") as memory:
            for line in maps:
                start, end = (int(n, 16) for n in line.split()[0].split("-"))
                if line.split()[1].startswith("rw"):
                    memory.seek(start)
                    try:
                        if secret in memory.read(end - start):
                            found.append(f"{name}/mem")
                            break
                    except (OSError, ValueError, OverflowError):
                        pass
    except OSError:
        pass
print(*sorted(set(found)))
"""


def steal(functions: Functions, name: str, prepare: str = "") -> tuple[list[str], int]:
    """Let a child of the handler look for the secret key; return the places and the handler's process id."""
    code = f"""
        {prepare}
        # The child is told half of the secret, so that it does not find its own command line.
        secret = os.environ["AWS_SECRET_ACCESS_KEY"]
        thief = {THIEF!r}.replace("sys.argv[1].encode()", "bytes.fromhex(sys.argv[1])[::-1]")
        child = subprocess.run(
            [sys.executable, "-c", thief, secret.encode()[::-1].hex()], env={{"LD_LIBRARY_PATH": "/var/lang/lib"}},
            capture_output=True, text=True,
        )
        answer = [child.stdout.split(), os.getpid(), child.stderr]
    """
    found, pid, complaint = functions.ask(name, code)
    assert not complaint
    return [place for place in found if not place.startswith("/proc/self")], pid


def test_a_child_can_read_the_handlers_secrets_and_they_are_nowhere_else(functions: Functions) -> None:
    name = functions.create("open-handler", MemorySize=1024)
    found, pid = steal(functions, name)
    mine = [place for place in found if place.startswith(f"/proc/{pid}/")]
    assert mine == [f"/proc/{pid}/environ", f"/proc/{pid}/mem"]
    # The child's own memory holds what it looks for; process 1, which started the handler, gives nothing away.
    assert not [place for place in found if place.startswith("/proc/1/")]
    assert len({place.split("/")[2] for place in found}) <= 2


def test_a_handler_that_is_not_dumpable_keeps_its_secrets(functions: Functions) -> None:
    name = functions.create("closed-handler", MemorySize=1024)
    found, pid = steal(functions, name, "ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)")
    assert not [place for place in found if place.startswith((f"/proc/{pid}/", "/proc/1/"))]
    assert not [place for place in found if not place.endswith("/mem")]


def test_secrets_that_were_given_out_are_known(aws: EmbeddedAWS, functions: Functions) -> None:
    name = functions.create("given")
    answer = functions.ask(name, "answer = [os.environ['AWS_SECRET_ACCESS_KEY'], os.environ['AWS_SESSION_TOKEN']]")
    assert answer == aws.secrets[-2:]


def test_a_function_is_its_role_and_can_use_this_aws(functions: Functions) -> None:
    name = functions.create("identity")
    arn = functions.ask(name, "import boto3; answer = boto3.client('sts').get_caller_identity()['Arn']")
    assert arn == f"arn:aws:sts::{functions.aws.account}:assumed-role/tests/identity"


# --- memory ---


def test_a_runtime_that_outgrows_its_memory_is_killed(functions: Functions) -> None:
    name = functions.create("grows", MemorySize=128)
    reply = functions.invoke(name, {"code": "answer = len(bytearray(os.urandom(400 * 2**20))); time.sleep(20)"})
    assert reply.error == "Unhandled"
    assert reply.payload["errorType"] == "Runtime.ExitError"
    assert reply.payload["errorMessage"].endswith("Error: Runtime exited with error: signal: killed")
    assert "Max Memory Used: 128 MB" in reply.log


def test_a_child_that_outgrows_the_memory_is_killed_alone(functions: Functions) -> None:
    name = functions.create("child-grows", MemorySize=256)
    code = """
        grow = "import os, time; kept = os.urandom(500 * 2**20); time.sleep(20)"
        answer = subprocess.run([sys.executable, "-c", grow]).returncode
    """
    assert functions.ask(name, code) == -9


def test_the_peak_of_the_runtimes_memory_is_known(aws: EmbeddedAWS, functions: Functions) -> None:
    name = functions.create("peak", MemorySize=512)
    functions.ask(name, "kept = os.urandom(100 * 2**20); del kept")
    [environment] = aws.environments(name)
    assert 100 * 2**20 < environment.peak_rss_bytes < 200 * 2**20


def test_the_most_that_tmp_held_is_known(aws: EmbeddedAWS, functions: Functions) -> None:
    name = functions.create("peak-of-tmp")
    functions.ask(name, "pathlib.Path('/tmp/filled').write_bytes(bytes(5 * 2**20))")
    functions.ask(name, "os.remove('/tmp/filled')")
    [environment] = aws.environments(name)
    seen = environment.inspect(tmp=True)
    assert seen.tmp_bytes == 0
    assert 5 * 2**20 <= seen.tmp_highest < 6 * 2**20
