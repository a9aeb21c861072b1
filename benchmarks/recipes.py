"""How one makes a package for Lambda without yo-dawg: for each packager what it needs, and what is typed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from client.local import architecture


@dataclass(frozen=True)
class Recipe:
    """How one packages without yo-dawg."""

    tools: tuple[str, ...]
    """What it needs, each in a virtualenv of its own; the first one's Python is python3."""
    script: str
    """For bash, in a folder that holds the project in src/."""
    code: str = "src"
    """Where the project's code belongs; its requirements.txt is in src/."""
    files: Mapping[str, str] = field(default_factory=dict)
    """What it wants beside the project."""
    result: str = "package.zip"
    """Where the zip is then, or what names it in S3."""


PIP = """
rm -rf build package.zip
pip install --quiet --target build --requirement src/requirements.txt
cp -R src/. build
cd build
python3 -m zipfile -c ../package.zip *
"""

SAM = """
sam build --template template.json {options}
sam package --template-file .aws-sam/build/template.yaml --output-template-file packaged.yaml \\
    --s3-bucket "$BUCKET" --s3-prefix "$PREFIX"
"""

CHALICE_APP = """
from chalice import Chalice

app = Chalice(app_name="project")


@app.lambda_function()
def run(event, context):
    import lambda_function

    return lambda_function.lambda_handler(event, context)
"""


def sam_template(runtime: str, **metadata: str) -> dict[str, str]:
    """Return the template that SAM wants."""
    function = {
        "Type": "AWS::Serverless::Function",
        "Metadata": metadata,
        "Properties": {
            "CodeUri": "src",
            "Handler": "lambda_function.lambda_handler",
            "Runtime": runtime,
            "Architectures": [architecture()],
        },
    }
    template = {"Transform": "AWS::Serverless-2016-10-31", "Resources": {"Function": function}}
    return {"template.json": json.dumps(template)}


def recipes(runtime: str) -> dict[str, Recipe]:
    """Return all recipes, for functions of this runtime."""
    config = {"version": "2.0", "app_name": "project", "stages": {"dev": {}}}
    sam, template, result = ("sam",), sam_template(runtime), "packaged.yaml"
    return {
        "pip, zip": Recipe(("pip",), PIP),
        "uv, zip": Recipe(("uv",), PIP.replace("pip install", "uv pip install --python python3")),
        "SAM": Recipe(sam, SAM.format(options=""), files=template, result=result),
        "SAM --cached": Recipe(sam, SAM.format(options="--cached"), files=template, result=result),
        "SAM, uv": Recipe(
            ("sam", "uv"),
            SAM.format(options="--beta-features"),
            files=sam_template(runtime, BuildMethod="python-uv"),
            result=result,
        ),
        "Chalice": Recipe(
            ("chalice",),
            "cd src && chalice package ../out",
            code="src/vendor",
            files={"src/app.py": CHALICE_APP, "src/.chalice/config.json": json.dumps(config)},
            result="out/deployment.zip",
        ),
    }
