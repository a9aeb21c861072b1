"""deploy.sh itself, run as a user runs it: how it finds Python, makes .venv, and starts what it is about."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from client import setup
from tests.support.checkout import PYTHON, ROOT, Checkout, make_checkout, make_wheel, program, wrapper

SHOW = "import os, sys\nprint(os.getcwd(), sys.argv[1:], sys.stdin.read())\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A checkout whose client only prints how it was started, and needs one wheel."""
    made = make_checkout(tmp_path)
    (made.root / "client/__main__.py").write_text(SHOW)
    (made.root / "requirements.txt").write_text(make_wheel(made.wheels, "needed", {"needed.py": ""}))
    return made


@pytest.fixture
def ready(checkout: Checkout) -> Checkout:
    """A checkout whose .venv is there."""
    ran = checkout.run()
    assert ran.status == 0, ran.error
    return checkout


def test_it_is_small_and_shellcheck_finds_nothing() -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    ran = subprocess.run([shellcheck, ROOT / "deploy.sh"], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, "")
    text = (ROOT / "deploy.sh").read_text()
    assert "shellcheck disable" not in text
    assert text.endswith('\nmain "$@"\n')
    assert len(text.splitlines()) <= 85


def test_a_trace_can_be_had(ready: Checkout) -> None:
    assert "+ main help" in ready.run("help", YO_DAWG_TRACE="1").error


def test_arguments_and_stdin_arrive_as_they_are_in_the_users_folder(ready: Checkout) -> None:
    script = str(ready.root / "deploy.sh")
    ran = ready.start([script, "-c", "a b", "build", "", "*"], given="typed")
    assert (ran.status, ran.out) == (0, f"{ready.home} ['-c', 'a b', 'build', '', '*'] typed\n"), ran.error


@pytest.mark.parametrize("environ", [{"LANG": "C"}, {"LC_ALL": "C"}, {"LANG": None}, {"HOME": None}, {"HOME": ""}])
def test_it_works_in_any_locale_and_without_a_home(ready: Checkout, environ: dict[str, str | None]) -> None:
    (ready.root / "client/__main__.py").write_text("print(__file__, '…')\n")
    ran = ready.run(**environ)
    assert (ran.status, ran.out) == (0, f"{ready.root}/client/__main__.py …\n"), ran.error


def test_it_can_be_started_through_links(ready: Checkout, tmp_path: Path) -> None:
    """Through one whose target is relative, and one to that, as people have in ~/bin."""
    (tmp_path / "near").symlink_to(f"{ready.root.name}/deploy.sh")
    (tmp_path / "far away").mkdir()
    (tmp_path / "far away/deploy").symlink_to(tmp_path / "near")
    (ready.root / "client/__main__.py").write_text("print(__file__)\n")
    for script in (tmp_path / "near", tmp_path / "far away/deploy"):
        assert ready.start([str(script)]).out == f"{ready.root}/client/__main__.py\n"
    path = f"{tmp_path / 'far away'}:{ready.bin}"
    ran = subprocess.run(["bash", "-c", "deploy"], env={**ready.environ, "PATH": path}, capture_output=True, text=True)
    assert ran.stdout == f"{ready.root}/client/__main__.py\n"


def test_what_lies_where_it_is_started_does_not_pass_for_a_part_of_it(ready: Checkout) -> None:
    for name in ("json.py", "client.py", "boto3.py"):
        (ready.home / name).write_text("raise SystemExit('the wrong module')\n")
    assert ready.run().status == 0


# --- Python and .venv ------------------------------------------------------------------------------------------


def test_a_python_name_counts_only_if_it_runs_and_is_new_enough(checkout: Checkout) -> None:
    program(checkout.bin / "python3", "#!/bin/sh\nexit 1\n")  # too old, or a shim for one that is not there
    program(checkout.bin / "python3.13", "#!/bin/sh\nexit 127\n")
    ran = checkout.run("help")
    assert ran.status == 1
    assert "no Python 3.11 or newer runs here" in ran.error
    wrapper(checkout.bin / "python3.12")
    assert checkout.run("help").status == 0


def test_a_python_that_cannot_make_virtualenvs_is_told_in_words(checkout: Checkout) -> None:
    refuse = f'case "$2" in *ensurepip*) exit 1;; esac\nexec {PYTHON} "$@"\n'
    program(checkout.bin / "python3", f"#!/bin/sh\n{refuse}")
    ran = checkout.run()
    assert ran.status == 1
    assert "apt install python3-venv" in ran.error


def test_the_venv_is_made_once_and_renewed_when_requirements_change(checkout: Checkout) -> None:
    """With the real venv and pip; each command has its own requirement files."""
    show = "print('old')\n"
    for name in ("local", "tests"):
        (checkout.root / name).mkdir()
    (checkout.root / "local/requirements.txt").write_text("")
    (checkout.root / "tests/requirements.txt").write_text(make_wheel(checkout.wheels, "later", {"later.py": show}))
    (checkout.root / "client/__main__.py").write_text("import needed, later\n")
    first = checkout.run("-c", "local", "build", HOME=None)
    assert first.status == 1, "later is not asked for"
    assert "-----> make .venv with Python 3." in first.error
    assert "-----> install requirements.txt into .venv\n" in first.error

    second = checkout.run("test", "-k", "a b")
    assert (second.status, second.out) == (0, "old\n")
    assert second.error == "-----> install local/requirements.txt, tests/requirements.txt into .venv\n"
    third = checkout.run("test", HOME="")
    assert (third.status, third.error) == (0, "")

    again = make_wheel(checkout.wheels, "later", {"later.py": "print('new')\n"})
    (checkout.root / "tests/requirements.txt").write_text(f"# newer\n{again}")
    fourth = checkout.run("test")
    assert fourth.error == "-----> install tests/requirements.txt into .venv\n"

    (checkout.root / ".venv/bin/python").unlink()
    (checkout.root / ".venv/bin/python").symlink_to("/gone/python3")
    fifth = checkout.run("--json", "test")
    assert (fifth.status, fifth.out) == (0, "new\n")
    assert "-----> make .venv" in fifth.error


def test_a_failed_installation_is_an_error_and_is_tried_again(checkout: Checkout) -> None:
    (checkout.root / "requirements.txt").write_text(f"nobody-has-this==1.0 --hash=sha256:{'0' * 64}\n")
    for _ in range(2):
        ran = checkout.run()
        assert (ran.status, ran.out) == (1, "")
        assert "pip could not install requirements.txt. Is the package index reachable?" in ran.error


def test_a_file_that_is_not_the_one_that_is_pinned_is_not_installed(checkout: Checkout) -> None:
    make_wheel(checkout.wheels, "needed", {"needed.py": "changed = True\n"})
    ran = checkout.run()
    assert ran.status == 1
    assert "pip could not install requirements.txt" in ran.error


# --- uv -------------------------------------------------------------------------------------------------------


def test_uv_looks_for_packages_where_pip_does(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    listed = (
        ":env:.cert='/etc/ssl/mine.pem'\n"
        "global.index-url='https://index.example/simple'\n"
        f"global.extra-index-url='file:///nowhere https://more.example/simple'\n"
        f"install.find-links='/gone {tmp_path}/wheels'\n"
        "global.timeout='60'\n"
        "download.no-index='true'\n"
    )
    program(tmp_path / "pip", f"#!/bin/sh\ncat <<'END'\n{listed}END\n")
    found = setup.uv_environ([f"{tmp_path}/pip"], {"PATH": os.defpath, "UV_INDEX": "https://mine.example"})
    assert found == {
        "PATH": os.defpath,
        "SSL_CERT_FILE": "/etc/ssl/mine.pem",
        "UV_DEFAULT_INDEX": "https://index.example/simple",
        "UV_FIND_LINKS": f"{tmp_path}/wheels",
        "UV_INDEX": "https://mine.example",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }


def test_pip_installs_uv_and_uv_the_rest(checkout: Checkout) -> None:
    """This uv notes what it is asked for, and lets pip do it."""
    script = (
        "import subprocess, sys\n"
        "def main():\n"
        "    print('uv', *sys.argv[1:4], file=open(sys.prefix + '/uv.log', 'a'))\n"
        "    at = sys.argv.index('--python')\n"
        "    return subprocess.call([sys.executable, '-m', 'pip', *sys.argv[2:at], *sys.argv[at + 2:]])\n"
    )
    entry = {"uv_fake.py": script, "uv-1.0.dist-info/entry_points.txt": "[console_scripts]\nuv = uv_fake:main\n"}
    uv = make_wheel(checkout.wheels, "uv", entry)
    with (checkout.root / "requirements.txt").open("a") as file:
        file.write(uv)
    (checkout.root / "client/__main__.py").write_text("import needed\n")
    ran = checkout.run()
    assert ran.status == 0, ran.error
    log = (checkout.root / ".venv/uv.log").read_text().splitlines()
    assert log == ["uv pip install --quiet"]


def test_where_uv_cannot_pip_does(checkout: Checkout) -> None:
    entry = {
        "uv_fake.py": "def main():\n    return 2\n",
        "uv-1.0.dist-info/entry_points.txt": "[console_scripts]\nuv = uv_fake:main\n",
    }
    with (checkout.root / "requirements.txt").open("a") as file:
        file.write(make_wheel(checkout.wheels, "uv", entry))
    (checkout.root / "client/__main__.py").write_text("import needed\n")
    ran = checkout.run()
    assert ran.status == 0, ran.error
