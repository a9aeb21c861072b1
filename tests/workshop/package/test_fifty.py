"""The packages that people put into Lambda functions, each built, proved and run: native code, odd layouts, plugins.

Some of them each time; all of them with --all, and -s to see what pruning took:
./deploy.sh test tests/workshop/package/test_fifty.py --all -s
"""

from __future__ import annotations

import pytest

from tests.support.embedded import NEWEST, Builder

pytestmark = [pytest.mark.embedded, NEWEST]

SAMPLE = {"numpy", "lxml", "opentelemetry-sdk", "jsonschema", "boto3", "setuptools"}

PACKAGES = {
    "numpy": ("numpy==2.4.6", "import numpy.testing as t\nt.assert_allclose(1, 1)\nassert t.assert_equal"),
    "scipy": ("scipy==1.17.1", "from scipy import linalg, stats\nassert linalg.det([[2.0]]) == 2"),
    "pandas": ("pandas==3.1.1", "import pandas\nassert pandas.DataFrame({'a': [1, 2]}).a.sum() == 3"),
    "pyarrow": ("pyarrow==26.0.1", "import pyarrow.parquet, pyarrow as pa\nassert pa.array([1, 2]).sum().as_py() == 3"),
    "matplotlib": (
        "matplotlib==3.11.2",
        "import io, os\nos.environ['MPLCONFIGDIR'] = '/tmp'\nimport matplotlib\nmatplotlib.use('agg')\n"
        "from matplotlib import pyplot\nfigure, axes = pyplot.subplots()\naxes.plot([1, 2])\n"
        "figure.savefig(io.BytesIO())",
    ),
    "pillow": (
        "pillow==13.0.0",
        "import io\nfrom PIL import Image\nImage.new('RGB', (9, 9)).save(io.BytesIO(), 'jpeg')",
    ),
    "lxml": ("lxml==6.1.3", "from lxml import etree, html\nassert html.fromstring('<p>a</p>').text == 'a'"),
    "psycopg2-binary": ("psycopg2-binary==2.9.13", "import psycopg2\nassert psycopg2.__libpq_version__"),
    "psycopg": ("psycopg[binary]==3.3.9", "import psycopg\nassert psycopg.pq.__impl__ == 'binary'"),
    "grpcio": ("grpcio==1.85.1", "import grpc\ngrpc.insecure_channel('localhost:1').close()"),
    "protobuf": (
        "protobuf==7.36.2",
        "from google.protobuf import timestamp_pb2 as t\nassert t.Timestamp(seconds=1).seconds",
    ),
    "google-cloud-storage": ("google-cloud-storage==3.17.1", "from google.cloud import storage\nassert storage.Client"),
    "google-cloud-pubsub": (
        "google-cloud-pubsub==2.44.0\ngoogle-cloud-storage==3.17.1",
        "from google.cloud import pubsub_v1, storage\nassert pubsub_v1.PublisherClient",
    ),
    "opentelemetry-sdk": (
        "opentelemetry-sdk==1.45.2",
        "from importlib.metadata import entry_points\nfrom opentelemetry import trace\n"
        "from opentelemetry.sdk.trace import TracerProvider\ntrace.set_tracer_provider(TracerProvider())\n"
        "assert entry_points(group='opentelemetry_tracer_provider')",
    ),
    "opentelemetry-exporter": (
        "opentelemetry-sdk==1.45.2\nopentelemetry-exporter-otlp-proto-http==1.45.2",
        "from importlib.metadata import entry_points\n"
        "[found] = entry_points(group='opentelemetry_traces_exporter', name='otlp_proto_http')\nassert found.load()",
    ),
    "opentelemetry-instrumentation": (
        "opentelemetry-instrumentation-requests==0.66b2\nrequests==2.34.2",
        "from opentelemetry.instrumentation.requests import RequestsInstrumentor\nRequestsInstrumentor().instrument()",
    ),
    "jsonschema": ("jsonschema==4.26.0", "import jsonschema\njsonschema.validate(1, {'type': 'integer'})"),
    "pydantic": (
        "pydantic[email]==2.14.3",
        "import pydantic\nassert pydantic.TypeAdapter(int).validate_python('1') == 1",
    ),
    "pydantic-settings": ("pydantic-settings==2.16.3", "from pydantic_settings import BaseSettings\nBaseSettings()"),
    "cryptography": ("cryptography==50.0.2", "from cryptography.fernet import Fernet\nFernet(Fernet.generate_key())"),
    "pynacl": ("pynacl==1.6.2", "from nacl.signing import SigningKey\nSigningKey.generate().sign(b'a')"),
    "sqlalchemy": ("sqlalchemy==2.1.9", "import sqlalchemy\nassert sqlalchemy.create_engine('sqlite://').connect()"),
    "networkx": ("networkx==3.6.1", "import networkx\nassert networkx.shortest_path(networkx.path_graph(3), 0, 2)"),
    "scikit-learn": (
        "scikit-learn==1.9.1",
        "from sklearn.linear_model import LinearRegression\nLinearRegression().fit([[1], [2]], [1, 2])",
    ),
    "scikit-image": (
        "scikit-image==0.26.0",
        "import skimage.filters, numpy\nskimage.filters.gaussian(numpy.ones((9, 9)))",
    ),
    "boto3": (
        "boto3",
        "import boto3\nassert not boto3.__file__.startswith(('/var/lang', '/var/runtime'))\n"
        "boto3.client('s3', region_name='us-east-1')",
    ),
    "boto3 of the runtime": (
        "boto3",
        "import boto3\nassert '/task/' not in boto3.__file__\nboto3.client('s3', region_name='us-east-1')",
    ),
    "boto3 pinned": (
        "boto3==1.40.0",
        "import boto3\nassert boto3.__version__ == '1.40.0'\nboto3.client('sqs', region_name='us-east-1')",
    ),
    "aiobotocore": (
        "aiobotocore==3.10.0",
        "from aiobotocore.session import get_session\nget_session().create_client('s3', region_name='us-east-1')",
    ),
    "aiohttp": ("aiohttp==3.14.5", "import aiohttp\nassert aiohttp.ClientSession"),
    "setuptools": ("setuptools==84.2.1", "import setuptools\nfrom setuptools import Distribution\nDistribution()"),
    "pip": ("pip==26.3", "import pip._internal.cli.main\nassert pip.__version__ == '26.3'"),
    "requests": (
        "requests==2.34.2",
        "import requests\nrequests.Request('GET', 'https://a/').prepare()\nrequests.certs.where()",
    ),
    "httpx": ("httpx[http2]==0.28.1", "import httpx\nhttpx.Client(http2=True).close()"),
    "fastapi": (
        "fastapi==0.165.0\nmangum==0.22.0",
        "from fastapi import FastAPI\nfrom mangum import Mangum\nMangum(FastAPI())\nFastAPI().openapi()",
    ),
    "flask": ("flask==3.1.3", "import flask\nassert flask.Flask('a').test_client().get('/').status_code == 404"),
    "django": (
        "django==5.2.19",
        "import django\nfrom django.conf import settings\n"
        "apps = ['django.contrib.auth', 'django.contrib.contenttypes', 'django.contrib.admin']\n"
        "settings.configured or settings.configure(INSTALLED_APPS=apps)\n"
        "django.setup()\nfrom django.core.management import get_commands\nassert 'migrate' in get_commands()",
    ),
    "jinja2": ("jinja2==3.1.6", "import jinja2\nassert jinja2.Template('{{ 1 }}').render() == '1'"),
    "pyyaml": ("pyyaml==6.0.3", "import yaml\nassert yaml.load('a: 1', yaml.CSafeLoader) == {'a': 1}"),
    "json": (
        "orjson==3.13.0\nujson==6.1.0\nmsgpack==1.2.4",
        "import orjson, ujson, msgpack\nmsgpack.packb(orjson.loads('1'))",
    ),
    "redis": ("redis[hiredis]==8.1.0", "import redis\nredis.Redis()"),
    "pymongo": ("pymongo==4.20.0", "import pymongo, bson\nassert bson.encode({'a': 1})"),
    "databases": ("asyncpg==0.32.0\npymysql==1.2.4", "import asyncpg, pymysql\nassert asyncpg.connect"),
    "openpyxl": ("openpyxl==3.1.5", "import io, openpyxl\nopenpyxl.Workbook().save(io.BytesIO())"),
    "reportlab": (
        "reportlab==5.1.0",
        "import io\nfrom reportlab.pdfgen.canvas import Canvas\n"
        "c = Canvas(io.BytesIO())\nc.drawString(1, 1, 'a')\nc.save()",
    ),
    "beautifulsoup4": (
        "beautifulsoup4[lxml]==4.15.0",
        "from bs4 import BeautifulSoup\nassert BeautifulSoup('<p>', 'lxml').p",
    ),
    "shapely": ("shapely==2.2.0", "from shapely.geometry import Point\nassert Point(0, 0).buffer(1).area > 3"),
    "polars": ("polars==2.1.0", "import polars\nassert polars.DataFrame({'a': [1]}).height == 1"),
    "duckdb": ("duckdb==2.0.0", "import duckdb\nassert duckdb.sql('select 42').fetchall() == [(42,)]"),
    "sympy": ("sympy==1.14.0", "import sympy\nassert sympy.integrate(sympy.Symbol('x'))"),
    "statsmodels": ("statsmodels==0.15.0", "import statsmodels.api as sm\nsm.OLS([1.0, 2.0], [1.0, 2.0]).fit()"),
    "tzdata": ("tzdata==2026.6", "import zoneinfo\nzoneinfo.reset_tzpath([])\nzoneinfo.ZoneInfo('Europe/Vienna')"),
    "aws-lambda-powertools": (
        "aws-lambda-powertools[all]==3.37.0",
        "import os\nos.environ['POWERTOOLS_TRACE_DISABLED'] = 'true'\n"
        "from aws_lambda_powertools import Logger, Tracer\n"
        "from aws_lambda_powertools.utilities.parser import BaseModel\n"
        "Logger(service='a').info('b')",
    ),
    "sentry-sdk": ("sentry-sdk==2.75.0", "import sentry_sdk\nsentry_sdk.init()"),
    "nltk": ("nltk==3.10.4", "from nltk.stem import PorterStemmer\nassert PorterStemmer().stem('running') == 'run'"),
    "zstandard": ("zstandard==0.25.0\nxmltodict==1.0.4", "import zstandard, xmltodict\nzstandard.compress(b'a')"),
    "python-docx": ("python-docx==1.2.0", "import docx, io\ndocx.Document().save(io.BytesIO())"),
    "faker": ("faker==40.54.0", "from faker import Faker\nassert Faker('de_AT').name()"),
}
"""What to require, and what a function does with it: at its start, and again in each event."""

RULES = {"boto3 of the runtime": {"pyproject.toml": "[tool.yo-dawg]\nruntime_boto3 = true\n"}}
"""Of those that have some."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Take the sample, or all."""
    every = metafunc.config.getoption("--all")
    metafunc.parametrize("package", [each for each in PACKAGES if every or each in SAMPLE])


def test_it_is_built_proved_and_runs(package: str, builder: Builder) -> None:
    requirements, code = PACKAGES[package]
    name = "fifty-" + package.replace(" ", "-")
    indented = "\n".join(f"    {line}" for line in code.splitlines())
    handler = f"{code}\n\n\ndef lambda_handler(event, context):\n{indented}\n    return 'ran'\n"
    files = {"requirements.txt": requirements, "lambda_function.py": handler, **RULES.get(package, {})}
    builder.add_project(name, files)
    result = builder.build(name)
    assert result["warnings"] == []
    assert builder.invoke(name, {}) == "ran"
    size, pruned = result["package"]["unzipped_bytes"], result["pruned"]
    kept = "; ".join(f"{group}: {why}" for group, why in pruned["kept"].items())
    reasons = ", ".join(f"{reason} {count / 1e6:.1f}" for reason, count in pruned["reasons"].items() if count > 50_000)
    print(f"\n| {package} | {size / 1e6:.1f} | {pruned['bytes'] / 1e6:.1f} | {reasons} | {kept} |", flush=True)
