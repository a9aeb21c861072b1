"""A function's layers: at hand when its handler is proved, and counted when its package is measured."""

from __future__ import annotations

import io
import sys
import zipfile

import pytest

from tests.embedded import NEWEST, FunctionFailed, lay_out, small_zip
from tests.embedded import Builder as EmbeddedBuilder
from yo_dawg.builder import Builder
from yo_dawg.control.clients import Aws
from yo_dawg.control.functions import Target
from yo_dawg.control.job import Job
from yo_dawg.control.store import Store
from yo_dawg.log import Log
from yo_dawg.process import Shell
from yo_dawg.settings import Settings
from yo_dawg.workshop.package.prove import fetch_layers, prove
from yo_dawg.workshop.package.prune import Pruned
from yo_dawg.workspace import Workspace

HANDLER = "def handler(event, context):\n    return answer\n"
RUNTIME = f"python{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def job(space: Workspace, shell: Shell, log: Log, aws: Aws) -> Job:
    settings = Settings("b", ("*",), "https://git.example", "", "", space.root.parent, tmp_is_ours=True)
    arn = "arn:aws:lambda:us-east-1:123456789012:function:yo-dawg"
    space.checkout.mkdir()
    builder = Builder("yo-dawg", arn, "id", RUNTIME, "x86_64")
    return Job(settings, builder, space, log, shell, aws, Store(None, "b", "yo-dawg", "123456789012"))


def layered(job: Job, *zips: bytes, handler: str = "app.handler", **environment: str) -> Target:
    """Return a function with layers of this content, as Lambda describes it."""
    arns = [
        job.aws.functions.publish_layer_version(LayerName=f"layer{number}", Content={"ZipFile": content})
        for number, content in enumerate(zips)
    ]
    return Target.from_configuration(
        {
            "FunctionName": "api", "FunctionArn": "arn", "Handler": handler,
            "Layers": [{"Arn": each["LayerVersionArn"]} for each in arns],
            "Environment": {"Variables": environment},
        }
    )  # fmt: skip


def faults(target: Target, job: Job, code: str = f"from shared import answer\n{HANDLER}") -> str:
    """Lay a handler out, import it, and return what that fails with, "" if it does not."""
    lay_out(job.space.staging, {"app.py": code})
    return prove(Pruned({}, {}), target, job)[0].failure or ""


@pytest.mark.parametrize("place", ["python", f"python/lib/{RUNTIME}/site-packages"])
def test_the_import_finds_what_is_in_a_layer(job: Job, place: str) -> None:
    assert faults(layered(job, small_zip({f"{place}/shared.py": "answer = 1\n"})), job) == ""


def test_the_package_comes_first_and_then_the_last_layer(job: Job) -> None:
    first = small_zip({"python/shared.py": "answer = 1\n", "python/mine.py": "answer = 1\n"})
    second = small_zip({"python/shared.py": "answer = 2\n", "python/mine.py": "answer = 2\n"})
    lay_out(job.space.staging, {"mine.py": "answer = 3\n"})
    code = f"import mine, shared\nassert (mine.answer, shared.answer) == (3, 2)\n{HANDLER}"
    assert faults(layered(job, first, second), job, code) == ""


def test_a_package_may_be_spread_over_layers(job: Job) -> None:
    """In Lambda they are one tree: a package's folder is the union of theirs."""
    first = small_zip({"python/shared/__init__.py": "", "python/shared/one.py": "answer = 1\n"})
    second = small_zip({"python/shared/two.py": "answer = 2\n"})
    code = f"import shared.one, shared.two\n{HANDLER}"
    assert faults(layered(job, first, second), job, code) == ""


def test_links_of_a_layer_are_links(job: Job) -> None:
    content = io.BytesIO(small_zip({"python/real.py": "answer = 1\n"}))
    with zipfile.ZipFile(content, "a") as archive:
        link = zipfile.ZipInfo("python/shared.py")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, "real.py")
    code = f"import os, shared\nassert os.path.islink(shared.__file__)\nfrom shared import answer\n{HANDLER}"
    assert faults(layered(job, content.getvalue()), job, code) == ""


def test_a_function_with_a_pythonpath_of_its_own_finds_layers_by_that(job: Job) -> None:
    """So it is in Lambda: its bootstrap then adds no paths."""
    content = small_zip({"python/shared.py": "answer = 1\n", "elsewhere/other.py": "answer = 1\n"})
    target = layered(job, content, PYTHONPATH="/var/task:/opt/elsewhere")
    assert faults(target, job, f"from other import answer\n{HANDLER}") == ""
    assert "No module named 'shared'" in faults(target, job)


def test_pth_files_are_read_in_the_package_and_in_layers(job: Job) -> None:
    lay_out(job.space.staging, {"own.pth": "vendor\n", "vendor/mine.py": "answer = 1\n"})
    layer = small_zip({"python/their.pth": "deep\n", "python/deep/shared.py": "answer = 1\n"})
    assert faults(layered(job, layer), job, f"import mine, shared\n{HANDLER}") == ""


def test_what_is_in_no_layer_either_stops_the_build(job: Job) -> None:
    target = layered(job, small_zip({"python/else.py": "x = 1"}))
    failure = faults(target, job)
    assert "No module named 'shared'" in failure


def test_a_layer_of_other_bytes_than_lambda_says_is_not_used(
    job: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = layered(job, small_zip({"python/shared.py": "answer = 1\n"}))
    monkeypatch.setattr("yo_dawg.control.packages.fetch_from_aws", lambda place, archive: archive.write(small_zip()))
    monkeypatch.setattr(
        "yo_dawg.workshop.package.prove.fetch_from_aws", lambda place, archive: archive.write(small_zip())
    )
    assert fetch_layers(target, job) is None
    assert f"{target.layers[0]} cannot be read: it has another SHA-256" in capsys.readouterr().out


@NEWEST
def test_a_function_that_lives_by_its_layers_is_built_and_runs(builder: EmbeddedBuilder) -> None:
    layer = builder.functions.publish_layer_version(
        LayerName="shared", Content={"ZipFile": small_zip({"python/shared.py": "answer = 'of the layer'\n"})}
    )["LayerVersionArn"]
    code = f"import missing_without_its_pth\nfrom shared import answer\n{HANDLER}"
    files = {"lambda_function.py": code.replace("def handler", "def lambda_handler"), "vendor.pth": "vendor\n"}
    files["vendor/missing_without_its_pth.py"] = ""
    builder.add_project("layered", files)
    with pytest.raises(FunctionFailed, match="No module named 'shared'"):
        builder.build("layered", dry_run=True)
    builder.functions.update_function_configuration(FunctionName="layered", Layers=[layer])
    builder.functions.get_waiter("function_updated_v2").wait(FunctionName="layered", WaiterConfig={"Delay": 1})
    assert builder.build("layered")["warnings"] == []
    assert builder.invoke("layered", {}) == "of the layer"
