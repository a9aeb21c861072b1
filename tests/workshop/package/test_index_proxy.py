"""Private package indexes: uv asks them through a process that lends it the credentials."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.embedded import lay_out
from tests.support.package_index import ADDRESS, BASIC, PASSWORD, Index, address
from tests.support.wheels import UV, make_wheel
from tests.support.work import PLATFORM
from yo_dawg.checkout import Checkout, Required
from yo_dawg.control.clients import Aws
from yo_dawg.control.secrets import package_indexes
from yo_dawg.errors import ConfigError, DependencyError
from yo_dawg.log import Log
from yo_dawg.process import Shell, child_environ
from yo_dawg.settings import Settings
from yo_dawg.workshop.package.index_proxy import index_server
from yo_dawg.workshop.package.install import Installer, look_at_installed
from yo_dawg.workspace import Workspace


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """Of a package that is public too, where it has a higher version."""
    for folder, version in (("private", "1.0"), ("public", "9.0")):
        (tmp_path / folder).mkdir()
        make_wheel(tmp_path / folder, "alpha", version, {"alpha.py": ""}, ["beta"])
    make_wheel(tmp_path / "public", "beta", "1.0", {"beta.py": ""})
    return tmp_path


Start = Callable[..., Index]


@pytest.fixture
def start(wheels: Path) -> Iterator[Start]:
    """Return what starts an index."""
    with ExitStack() as stack:

        def run(folder: str, link: str = "../../files/") -> Index:
            index = Index(wheels / folder, private=folder == "private", link=link)
            stack.enter_context(index.serving())
            return index

        yield run


Install = Callable[..., tuple[str, ...]]


@pytest.fixture
def install(space: Workspace, log: Log, start: Start) -> Install:
    """What installs a project's requirements; the public index is one of ours."""
    public = start("public")
    settings = Settings(
        "b", ("*",), "https://git.example", "", "", space.root.parent, tmp_is_ours=True,
        client={"UV_DEFAULT_INDEX": f"{public.url}/team/simple/"},
    )  # fmt: skip
    shell = Shell(child_environ(space, settings) | {"UV_HTTP_RETRIES": "0"}, log)

    def run(files: Mapping[str, str], *indexes: str) -> tuple[str, ...]:
        lay_out(space.checkout, dict(files))
        paths = [path for path in space.checkout.rglob("*") if path.suffix in (".txt", ".toml")]
        texts = {str(path): path.read_text() for path in paths if path.suffix == ".txt"}
        required = Required(texts=texts)
        checkout = Checkout(space.checkout, space.checkout, "0" * 40, "main", frozenset(files), required)
        log.hide(PASSWORD)
        Installer(checkout, lambda: UV, PLATFORM, space, shell, indexes).install(space.staging)
        installed = look_at_installed(space.staging)
        for name in (each for each in files if each.endswith((".txt", ".toml"))):
            assert (space.checkout / name).read_text() == files[name], "put back"
        return installed.names

    return run


@pytest.mark.parametrize(
    "link", ["../../files/", "/elsewhere/files/", "{}/team/files/", "../../files/x&amp;y/"],
)  # fmt: skip
def test_a_private_package_is_installed_and_its_name_is_not_looked_for_elsewhere(
    install: Install, start: Start, link: str, capfd: pytest.CaptureFixture[str]
) -> None:
    private = start("private", link)
    assert install({"requirements.txt": "alpha\n"}, address(private)) == ("alpha==1.0", "beta==1.0")
    assert {given for _, given in private.asked} == {BASIC}
    assert "canary" not in "".join(capfd.readouterr())


def test_an_index_that_answers_in_json(install: Install, start: Start) -> None:
    private = start("private", "/deep/files/")
    private.kind = "json"
    assert "alpha==1.0" in install({"requirements.txt": "alpha\n"}, address(private))


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({"requirements.txt": "--extra-index-url {}\nalpha\n"}, id="extra index"),
        pytest.param({"requirements.txt": "--index-url {}\nalpha\n"}, id="index"),
        pytest.param({"requirements.txt": "-r more.txt\n", "more.txt": "--extra-index-url {}/\nalpha\n"}, id="-r"),
        pytest.param(
            {
                "pyproject.toml": '[project]\nname = "p"\nversion = "1"\ndependencies = ["alpha"]\n'
                '[[tool.uv.index]]\nname = "ours"\nurl = "{}"\n[tool.uv.sources]\nalpha = {index = "ours"}\n'
            },
            id="tool.uv.index",
        ),
    ],
)
@pytest.mark.parametrize("user", ["", "${USER}:${PASSWORD}@"])
def test_where_the_project_names_the_index_it_is_the_same_one(
    install: Install, start: Start, files: dict[str, str], user: str
) -> None:
    private = start("private")
    url = f"{private.url.replace('://', f'://{user}')}/team/simple"
    installed = install({name: text.replace("{}", url) for name, text in files.items()}, address(private))
    assert "alpha==1.0" in installed
    assert {given for _, given in private.asked} == {BASIC}


def test_a_file_that_lies_on_another_host_is_fetched_without_the_password(install: Install, start: Start) -> None:
    private, other = start("private", "/moved/"), start("private")
    other.private = False
    private.elsewhere = other.url
    assert "alpha==1.0" in install({"requirements.txt": "alpha\n"}, address(private))
    assert other.asked
    assert {given for _, given in other.asked} == {None}


def test_a_wrong_password_is_told_without_it(install: Install, start: Start) -> None:
    private = start("private")
    wrong = address(private).replace("5d1e", "canary")
    with pytest.raises(
        DependencyError, match="A package index refuses its user name or password: see index_secret"
    ) as refused:
        install({"requirements.txt": "alpha\n"}, wrong)
    assert "canary" not in str(refused.value)
    assert f"{private.url}/team/simple" in str(refused.value)


def test_an_index_that_is_not_there(install: Install) -> None:
    with pytest.raises(DependencyError, match="cannot be reached"):
        install({"requirements.txt": "alpha\n"}, "http://me:canary@127.0.0.1:9/simple/")


def test_only_the_index_and_what_it_links_to_can_be_asked(start: Start) -> None:
    private = start("private", "/deep/files/")
    local = index_server(address(private))
    threading.Thread(target=local.serve_forever, daemon=True).start()
    here = f"http://127.0.0.1:{local.server_port}"

    def get(path: str) -> int:
        try:
            with urllib.request.urlopen(f"{here}{path}") as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    file = "/deep/files/alpha-1.0-py3-none-any.whl"
    try:
        refused = ["/admin", "/team/simple/../../admin", "/team/simple/%2e%2e/%2e%2e/admin", "/team/simple2", file]
        assert [get(path) for path in refused] == [403] * len(refused)
        assert private.asked == []
        assert (get("/team/simple/alpha/"), get(file), get("/team/simple/none/")) == (200, 200, 404)
    finally:
        local.shutdown()
        local.server_close()


@pytest.mark.parametrize(
    "text", ["http://me:canary@index.example/simple", "index.example/simple", "https://[canary/simple", "https://"],
)  # fmt: skip
def test_a_secret_that_is_no_address_is_refused_and_not_shown(
    aws: Aws, log: Log, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    aws.secrets.create_secret(Name="index", SecretString=text)
    settings = Settings(
        "b", ("*",), "https://git.example", "", "", Path("/tmp"), tmp_is_ours=False, index_secret="index"
    )
    with pytest.raises(ConfigError, match="index_secret in config.ini") as refused:
        package_indexes(aws, settings, log)
    assert "canary" not in str(refused.value)


def test_the_password_is_hidden_in_the_log(aws: Aws, log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    aws.secrets.create_secret(
        Name="index", SecretString=f"https://{ADDRESS}index.example/simple\nhttps://free.example/\n"
    )
    settings = Settings(
        "b", ("*",), "https://git.example", "", "", Path("/tmp"), tmp_is_ours=False, index_secret="index"
    )
    assert len(package_indexes(aws, settings, log)) == 2
    log.info(f"{PASSWORD} {quote(PASSWORD, safe='')} {BASIC}")
    said = capsys.readouterr().out
    assert "canary" not in said
    assert BASIC not in said
