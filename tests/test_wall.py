"""The wall: what a project brings touches programs without credentials, and never the process that holds them."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.embedded import BUCKET, NEWEST, Builder, builder_zip
from tests.support.package_index import Index
from tests.support.wheels import make_wheel

pytestmark = [pytest.mark.embedded, NEWEST]

HANDLER = "def lambda_handler(event, context):\n    return 'ok'\n"

GLASS = '''
"""yo-dawg, and a look at the process that it runs in."""
import os, sys

import lambda_function

invocations = []

def handler(event, context):
    invocations.append(event)
    try:
        answer = lambda_function.lambda_handler(event, context)
    except Exception as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    with open("/proc/self/maps", errors="replace") as file:
        mapped = {line.split(maxsplit=5)[5].strip() for line in file if len(line.split()) > 5}
    return {
        "answer": answer,
        "modules": {name: str(getattr(module, "__file__", None)) for name, module in list(sys.modules.items())},
        "mapped": sorted(mapped),
        "path": sys.path,
        "invocations": len(invocations),
    }
'''


@dataclass
class Glass:
    """A builder whose handler's process can be looked at."""

    builder: Builder
    name: str
    index: Index
    wheels: Path
    invocations: int = 0

    def look(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Invoke it, and see that it is the process that it was; return what is loaded there, and its answer."""
        seen: dict[str, Any] = self.builder.invoke(self.name, event)
        self.invocations += 1
        assert seen["invocations"] == self.invocations, "another process: the last one did not survive"
        return seen

    def build(self, project: str, files: Mapping[str, str]) -> dict[str, Any]:
        """Have a project built; its requirements are in the index."""
        if "requirements.txt" in files:
            text = f"--index-url {self.index.url}/team/simple/\n{files['requirements.txt']}"
            files = {**files, "requirements.txt": text}
        self.builder.add_project(project, {"lambda_function.py": HANDLER, **files})
        # By force: the same request within a minute would be taken for a client's retry, and not be built.
        return self.look({"action": "build", "repo_name": project, "function": project, "force": True})


@pytest.fixture(scope="module")
def glass(builder: Builder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Glass]:
    """Yield such a builder, bootstrapped, and a package index for its projects."""
    name, code = f"glass-{builder.name}", io.BytesIO(builder_zip())
    with zipfile.ZipFile(code, "a") as archive:
        info = zipfile.ZipInfo("glass.py")
        info.external_attr = 0o644 << 16
        archive.writestr(info, GLASS)
    variables = {
        "YO_DAWG_DEPLOYMENT_BUCKET": BUCKET,
        "YO_DAWG_DEPLOYABLE_FUNCTIONS": "*",
        "YO_DAWG_BASE_URL": builder.git.url,
    }
    storage = {"Size": 1024}
    builder.create_function(
        name, handler="glass.handler", code=code.getvalue(), MemorySize=3008, EphemeralStorage=storage, Timeout=240,
        Environment={"Variables": variables}, Role=builder.make_builder_role(name, variables),
    )  # fmt: skip
    wheels = tmp_path_factory.mktemp("wheels")
    index = Index(wheels, private=False)
    with index.serving():
        made = Glass(builder, name, index, wheels)
        made.look({"action": "bootstrap"})
        yield made


TOOLS = ("bcrypt", "cffi", "cryptography", "deflate", "dulwich", "invoke", "nacl", "paramiko", "uv", "virtualenv")

HOSTILE = """
cp lambda_function.py "$1"
root=$(dirname "$1")
for folder in "$root" "$root/toolchain/site-packages" "$root/bin" "$HOME" "$TMPDIR" /tmp "$1"; do
  for name in sitecustomize usercustomize boto3 zipfile yo_dawg deflate; do
    echo "open('/tmp/planted', 'a').write(__name__)" > "$folder/$name.py" || true
  done
  echo "import os" > "$folder/evil.pth" || true
done
mkdir -p "$HOME/.aws" && printf '[default]\\ncredential_process = touch /tmp/planted\\n' > "$HOME/.aws/config"
"""


def test_the_process_with_the_credentials_loads_nothing_of_a_project_nor_of_the_toolchain(glass: Glass) -> None:
    make_wheel(glass.wheels, "harmless", "1.0", {"harmless.py": ""})
    files = {"make_dist.sh": HOSTILE, "requirements.txt": "harmless\n", "lambda_function.py": f"import os\n{HANDLER}"}
    seen = glass.build("hostile", files)
    assert seen["answer"]["status"] == "deployed", seen["answer"]
    seen = glass.build("hostile", {**files, "lambda_function.py": f"import harmless\n{HANDLER}"})
    assert seen["answer"]["status"] == "deployed", seen["answer"]
    modules = seen["modules"]
    assert {"boto3", "lambda_function", "yo_dawg.control.workshop"} <= modules.keys(), "else this shows nothing"
    assert [name for name in modules if name.startswith("yo_dawg.workshop")] == []
    assert [name for name in modules if name.partition(".")[0].lstrip("_") in TOOLS] == []
    assert [path for path in modules.values() if path.startswith("/tmp")] == []
    assert any("libc.so" in path or "libpython" in path for path in seen["mapped"]), "else this shows nothing"
    assert [path for path in seen["mapped"] if "/tmp" in path or any(f"/{name}" in path for name in TOOLS)] == []
    assert [path for path in seen["path"] if path.startswith("/tmp")] == []


# --- What is too much costs the workshop its life, or a clear error ---------------------------------------------


def add_member(archive: zipfile.ZipFile, name: str, deflated: bytes, size: int) -> None:
    """Add a member of which only the compressed content is there."""
    info = zipfile.ZipInfo(name)
    info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
    file: Any = archive.fp
    file.seek(archive.start_dir)
    info.header_offset, info.file_size, info.compress_size, info.CRC = file.tell(), size, len(deflated), 0
    file.write(info.FileHeader(zip64=True))
    file.write(deflated)
    archive.start_dir = file.tell()
    archive.filelist.append(info)
    archive.NameToInfo[info.filename] = info
    archive._didModify = True  # type: ignore[attr-defined]


def add_bomb(wheels: Path, name: str, gigabytes: int) -> None:
    """Add a wheel of zeros to the index."""
    wheel = make_wheel(wheels, name, "1.0", {f"{name}.py": ""})
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    chunk = compressor.compress(bytes(1 << 26)) + compressor.flush(zlib.Z_FULL_FLUSH)
    end = struct.pack("<BHH", 1, 0, 0xFFFF)  # a last block, stored, of no bytes
    with zipfile.ZipFile(wheel, "a") as archive:
        add_member(archive, "zeros.bin", chunk * (gigabytes * 16) + end, gigabytes << 30)


def rewrite(wheel: Path, name: str, content: str) -> None:
    """Put another content in the place of a member of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        members = {each: archive.read(each) for each in archive.namelist()}
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for each, old in members.items():
            archive.writestr(each, content if each == name else old)


def still_works(glass: Glass) -> None:
    """See that the next invocation, in the same process, works."""
    seen = glass.build("plain", {})
    assert seen["answer"]["status"] in ("deployed", "unchanged"), seen["answer"]


NESTED = f"x = {'[' * 100_000}{']' * 100_000}\n"
MINUSES = f"x = {'-' * 100_000}1\n"


@pytest.mark.parametrize("text", [NESTED, MINUSES], ids=["brackets", "signs"])
def test_a_handler_that_is_nested_very_deep_is_refused(glass: Glass, text: str) -> None:
    answer = glass.build("nested", {"lambda_function.py": HANDLER + text})["answer"]
    assert answer["error"] == "PackageError", answer
    assert "lambda_function.py" in answer["message"]
    assert "is not valid Python" in answer["message"]
    still_works(glass)


@pytest.mark.parametrize("text", [NESTED, MINUSES], ids=["brackets", "signs"])
def test_so_is_a_dependency_only_if_it_is_imported(glass: Glass, text: str) -> None:
    make_wheel(glass.wheels, "deep", "1.0", {"deep.py": text})
    answer = glass.build("deep", {"requirements.txt": "deep\n"})["answer"]
    assert answer.get("status") in ("deployed", "unchanged"), answer
    files = {"requirements.txt": "deep\n", "lambda_function.py": f"import deep\n{HANDLER}"}
    answer = glass.build("deep", files)["answer"]
    said = f"{answer.get('message')} {answer.get('warnings')}"
    assert "cannot be imported" in said, answer
    still_works(glass)


BAIT = {
    "open brackets": "from tests import (\n",
    "dots in quotes": "'" + ".tests" * 1000,
    "dots": ".tests",
    "backslashes": "from tests import \\\n",
    "quotes": "\"'tests/\n",
    "spaces": "import tests" + " " * 1000,
    "comments": "import a # tests ;" + "#" * 100,
}


@pytest.mark.parametrize("bait", BAIT.values(), ids=BAIT.keys())
def test_what_regular_expressions_choke_on_holds_nothing_up(glass: Glass, bait: str) -> None:
    """It is never imported, and ships."""
    text = "'" + bait * (50_000_000 // len(bait))
    wheel = make_wheel(glass.wheels, "bait", "1.0", {"bait.py": text, "bait2/__init__.py": "", "tests/__init__.py": ""})
    with zipfile.ZipFile(wheel) as archive:
        record = archive.read("bait-1.0.dist-info/RECORD").decode()
    rewrite(wheel, "bait-1.0.dist-info/RECORD", record)  # and so all of it is compressed
    answer = glass.build("bait", {"requirements.txt": "bait\n"})["answer"]
    assert answer.get("status") == "deployed", answer
    assert glass.builder.package("bait", builder=glass.name).read("bait.py") == text.encode()
    still_works(glass)


def test_a_wheel_that_unpacks_to_more_than_there_is_room_for_is_told_so(glass: Glass) -> None:
    add_bomb(glass.wheels, "bomb", 10)
    answer = glass.build("bomb", {"requirements.txt": "bomb\n"})["answer"]
    assert answer["error"] == "ConfigError", answer
    assert "/tmp is full: this project needs more than its" in answer["message"]
    still_works(glass)


def test_a_record_of_nonsense_does_no_harm(glass: Glass) -> None:
    wheel = make_wheel(glass.wheels, "record", "1.0", {"record.py": ""})
    lines = "".join(f"a{number}.py,sha256=x,1\n" for number in range(30_000_000 // 24))
    rewrite(wheel, "record-1.0.dist-info/RECORD", f"record.py,,\n{lines}")
    answer = glass.build("record", {"requirements.txt": "record\n"})["answer"]
    assert answer.get("status") == "deployed", answer
    still_works(glass)


def test_a_record_that_is_none_is_an_error_in_words(glass: Glass) -> None:
    wheel = make_wheel(glass.wheels, "broken", "1.0", {"broken.py": ""})
    rewrite(wheel, "broken-1.0.dist-info/RECORD", '",\x01"x' * 5_000_000)
    answer = glass.build("broken", {"requirements.txt": "broken\n"})["answer"]
    assert answer.get("status") == "deployed" or answer["error"] == "DependencyError", answer
    assert "RECORD" in answer.get("message", "RECORD"), answer
    still_works(glass)


@pytest.mark.parametrize("more", ["", "[tool.yo-dawg]\n"])
def test_settings_that_are_nested_very_deep_are_refused(glass: Glass, more: str) -> None:
    answer = glass.build("settings", {"pyproject.toml": more + NESTED})["answer"]
    assert answer["error"] in ("PackageError", "DependencyError", "SourceError"), answer
    assert "pyproject.toml" in answer["message"]
    assert "TOML" in answer["message"]
    still_works(glass)
