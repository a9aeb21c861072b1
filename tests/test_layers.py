"""A function that lives by its layers is built, and runs."""

from __future__ import annotations

import pytest

from tests.support.embedded import NEWEST, Builder, FunctionFailed, small_zip

pytestmark = pytest.mark.embedded

HANDLER = "def handler(event, context):\n    return answer\n"


@NEWEST
def test_a_function_that_lives_by_its_layers_is_built_and_runs(builder: Builder) -> None:
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
