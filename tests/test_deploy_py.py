"""local/deploy.py, the parts of deploy.sh that are Python; test_deploy_sh.py shows them at work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local import deploy
from local.config import Config
from yo_dawg.errors import YoDawgError

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = str(ROOT / "config.ini.example")


@given(st.dictionaries(st.from_regex(r"\A[a-z_]+\Z"), st.text(), max_size=4))
def test_an_event_holds_what_was_given_whatever_it_is(fields: dict[str, str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        printed: list[str] = []
        patch.setattr("builtins.print", printed.append)
        deploy.payload(*(f"{name}={value}" for name, value in fields.items()))
    assert json.loads(printed[0]) == fields
    assert printed[0].isascii()


def test_in_an_event_a_later_field_wins_and_json_may_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    deploy.payload("function=a", "force:=true", "function=b")
    assert json.loads(capsys.readouterr().out) == {"function": "b", "force": True}


def test_pairs_survive_whatever_their_values_hold(capsys: pytest.CaptureFixture[str]) -> None:
    deploy.print_pairs({"a": "x=y\n z", "b": ""})
    assert capsys.readouterr().out.split("\0") == ["a=x=y\n z", "b=", ""]


def test_deploy_sh_learns_of_config_ini_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert deploy.main("settings", EXAMPLE) == 0
    pairs = dict(each.split("=", 1) for each in capsys.readouterr().out.split("\0") if each)
    assert pairs == {
        "aws_profile": "",
        "aws_region": "us-east-1",
        "deployment_bucket": "my-bucket",
        "function_name": "yo-dawg",
        "stack_name": "yo-dawg",
        "timeout": "900",
        "secrets": "",
    }


def test_the_parameters_are_printed_likewise(capsys: pytest.CaptureFixture[str]) -> None:
    assert deploy.main("parameters", EXAMPLE, "the/key") == 0
    pairs = dict(each.split("=", 1) for each in capsys.readouterr().out.split("\0") if each)
    assert pairs == Config.read(Path(EXAMPLE)).parameters("the/key")


def test_a_fault_is_words_and_a_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert deploy.main("settings", str(tmp_path / "none.ini")) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith("none.ini is missing: copy config.ini.example to it and fill it in.\n")


# --- What is deployed, against what is wanted --------------------------------------------------------------------


def found(**changes: Any) -> dict[str, Any]:
    """Return GetFunctionConfiguration's answer for the function that the example asks for."""
    return {
        "Runtime": "python3.13",
        "Handler": "lambda_function.lambda_handler",
        "MemorySize": 3008,
        "EphemeralStorage": {"Size": 4096},
        "Timeout": 900,
        "Architectures": ["x86_64"],
        "CodeSha256": "new",
        "Environment": {"Variables": Config.read(Path(EXAMPLE)).environment()},
    } | changes


VARIABLES = Config.read(Path(EXAMPLE)).environment()


@pytest.mark.parametrize(
    ("changes", "code", "configuration", "told"),
    [
        pytest.param({}, None, None, [], id="as asked"),
        pytest.param(
            {"CodeSha256": "old"},
            {"Architectures": ["x86_64"], "S3Bucket": "my-bucket", "S3Key": "key"},
            None,
            ["CodeSha256 is old, not new"],
            id="code",
        ),
        pytest.param(
            {"Architectures": ["arm64"]},
            {"Architectures": ["x86_64"], "S3Bucket": "my-bucket", "S3Key": "key"},
            None,
            ["Architectures is arm64, not x86_64"],
            id="architecture, which is changed with the code",
        ),
        pytest.param(
            {"EphemeralStorage": {"Size": 512}},
            None,
            {"EphemeralStorage": {"Size": 4096}},
            ["EphemeralStorage is 512, not 4096"],
            id="disk",
        ),
        pytest.param(
            {"Environment": {"Variables": VARIABLES | {"YO_DAWG_USERNAME": "x", "MINE": "y"}}},
            None,
            {"Environment": {"Variables": VARIABLES}},
            ["Environment differs in MINE, YO_DAWG_USERNAME"],
            id="environment",
        ),
        pytest.param(
            {"Environment": None},
            None,
            {"Environment": {"Variables": VARIABLES}},
            [f"Environment differs in {', '.join(sorted(VARIABLES))}"],
            id="no environment",
        ),
    ],
)
def test_what_differs_is_told_and_nothing_else_is_updated(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    code: dict[str, Any] | None,
    configuration: dict[str, Any] | None,
    told: list[str],
) -> None:
    (tmp_path / "function.json").write_text(json.dumps(found(**changes)))
    (tmp_path / "code.json").write_text("left over")
    assert deploy.main("differences", EXAMPLE, "key", "new", str(tmp_path)) == 0
    assert capsys.readouterr().out.splitlines() == told
    for name, update in (("code", code), ("configuration", configuration)):
        path = tmp_path / f"{name}.json"
        written = json.loads(path.read_text()) if path.exists() else None
        assert written == (update and {"FunctionName": "yo-dawg", **update})


def test_without_a_digest_the_code_is_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "function.json").write_text(json.dumps(found(CodeSha256="anything")))
    assert deploy.main("differences", EXAMPLE, "", "", str(tmp_path)) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("text", ["", "no JSON", "[]"])
def test_an_answer_of_the_cli_that_is_no_object_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (tmp_path / "function.json").write_text(text)
    assert deploy.main("differences", EXAMPLE, "", "", str(tmp_path)) == 1
    assert capsys.readouterr().err == "The AWS CLI's answer (function.json) is not a JSON object.\n"


# --- Answers -----------------------------------------------------------------------------------------------------


def told(tmp_path: Path, answer: object, **invocation: str) -> int:
    """Have an answer told."""
    (tmp_path / "answer.json").write_text(json.dumps(answer))
    (tmp_path / "invocation.json").write_text(json.dumps({"StatusCode": 200, **invocation}))
    return deploy.main("reply", str(tmp_path))


def test_a_result_with_little_in_it_has_few_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(tmp_path, {"status": "built", "dependencies": [], "pruned": {"files": 0}, "seconds": {"total": 1}}) == 0
    assert capsys.readouterr().out.splitlines() == ["status        built", "dependencies  0", "seconds       1"]


@pytest.mark.parametrize("error_type", deploy.FORESEEN)
def test_every_foreseen_error_comes_without_traceback_and_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], error_type: str
) -> None:
    error = {"errorType": error_type, "errorMessage": "because", "stackTrace": ["  File x\n"]}
    assert told(tmp_path, error, FunctionError="Unhandled", LogResult="bG9n") == 1
    assert capsys.readouterr().err == f"{error_type}: because\n"


def test_the_foreseen_errors_are_those_that_the_handler_raises() -> None:
    def subclasses(error: type[BaseException]) -> set[str]:
        return {error.__name__} | {name for each in error.__subclasses__() for name in subclasses(each)}

    assert subclasses(YoDawgError) - {"YoDawgError"} <= set(deploy.FORESEEN)


@given(st.text())
def test_nothing_that_is_told_can_steer_a_terminal(text: str) -> None:
    plain = deploy.plain(text)
    assert all(char in "\n\t" or char.isprintable() or ord(char) >= 0xA0 for char in plain)
    assert "\x1b" not in plain
    assert deploy.plain(plain) == plain


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("progress\rdone", "progressdone"),
        ("tab\tline\nünïcödé …", "tab\tline\nünïcödé …"),
        ("\x9b31mred\x07", "31mred"),
    ],
)
def test_colours_and_control_characters_are_taken_out(text: str, plain: str) -> None:
    assert deploy.plain(text) == plain


@pytest.mark.parametrize(
    ("events", "reasons"),
    [
        ([], "CloudFormation gives no reason.\n"),
        (
            [{"LogicalResourceId": "Role", "ResourceStatus": "CREATE_FAILED", "ResourceStatusReason": "no"}],
            "Role: no\n",
        ),
    ],
)
def test_why_a_stack_failed_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], events: list[dict[str, str]], reasons: str
) -> None:
    (tmp_path / "events.json").write_text(json.dumps({"StackEvents": events}))
    assert deploy.main("failures", str(tmp_path / "events.json")) == 0
    assert capsys.readouterr().out == reasons
