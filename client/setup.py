"""Fill .venv, quickly: pip installs uv, and uv the rest.  Run by deploy.sh, before anything is installed.

Usage: python -m client.setup REQUIREMENT_FILE...        with the Python of .venv, in the checkout

What is installed are the pinned versions of these files, and every file is compared with its digest.  Standard
library only.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent

PIP_AND_UV = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
}
"""Where packages come from, by the names that pip and uv have for it: uv does not read what pip is told."""


class SetupFault(Exception):
    """Packages could not be installed.  The text says which, and why."""


PIP = [sys.executable, "-m", "pip"]


def ensure_pip() -> None:
    """Put pip into .venv: the wheel that every Python has for new virtualenvs.

    To unpack it is all that its installation comes to; ensurepip has pip itself do it, and takes ten times as long.
    """
    target = Path(sysconfig.get_path("purelib"))
    if (target / "pip").is_dir():
        return
    import ensurepip

    folders = [Path(ensurepip.__file__).with_name("_bundled"), Path(sysconfig.get_config_var("WHEEL_PKG_DIR") or "/-")]
    wheels = [wheel for folder in folders for wheel in sorted(folder.glob("pip-*.whl"))]
    if not wheels:
        raise SetupFault("this Python has no pip, and none for new virtualenvs. On Debian: apt install python3-venv.")
    with zipfile.ZipFile(wheels[0]) as wheel:
        wheel.extractall(target)


def uv_environ(pip: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which uv finds packages where pip does."""
    listed = subprocess.run([*pip, "config", "list"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    told: dict[str, str] = {}
    for section, name, value in re.findall(r"^(\S+?)\.([\w.-]+?)='(.*)'$", listed, re.MULTILINE):
        name = name.lstrip(".")
        if section in ("global", "install", ":env:") and name in PIP_AND_UV:
            told[PIP_AND_UV[name]] = value.replace("\\n", " ").strip()
    # pip passes over an index that is a folder which is not there; uv does not.
    for name in ("UV_INDEX", "UV_FIND_LINKS"):
        places = (place for place in told.pop(name, "").split() if is_there(place, links=name == "UV_FIND_LINKS"))
        if found := " ".join(places):
            told[name] = found.replace(" ", ",") if name == "UV_FIND_LINKS" else found
    # Digests decide what is right, so any index may have it.
    return {**told, "UV_INDEX_STRATEGY": "unsafe-best-match", **environ}


def is_there(place: str, *, links: bool) -> bool:
    """Say whether uv can look there: an address, or (for links) a folder that exists."""
    if re.match(r"https?://", place):
        return True
    return links and Path(place.removeprefix("file://")).is_dir()


def pins_of(text: str, name: str) -> str:
    """Return the lines of a requirement file that pin one package."""
    found = re.search(rf"^{re.escape(name)}==.*(?:\n[ \t]+--hash.*)*", text, re.MULTILINE)
    if not found:
        raise SetupFault(f"requirements.txt does not pin {name}.")
    return found[0] + "\n"


def install(files: Sequence[Path], *options: str, python: str | Path = sys.executable, compiled: bool = False) -> None:
    """Install requirement files, for a Python, where it or the options say; all that they need stands in them."""
    # A user's pip may be told to install into the home directory, or only into virtualenvs.
    environ = {**os.environ, "PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    environ.pop("PYTHONPATH", None)
    pip, uv = PIP, Path(sys.executable).with_name("uv")
    wanted = ["--no-deps", "--require-hashes", *options]
    for file in files:
        wanted += ["-r", str(file)]
    if uv.exists():
        uv_install = [str(uv), "pip", "install", "--quiet", "--python", str(python)]
        uv_install += ["--compile-bytecode"] if compiled else []
        if run([*uv_install, *wanted], uv_environ(pip, environ)).returncode == 0:
            return
    # uv may not know how this machine's pip reaches its index.
    pip = [*pip, "--python", str(python)] if python != sys.executable else pip
    ran = run([*pip, "install", "--quiet", *wanted], environ)
    if ran.returncode:
        ours = [os.path.relpath(file, CHECKOUT) for file in files if CHECKOUT in file.parents]
        said = ran.stdout.decode(errors="replace").strip()[-3000:]
        raise SetupFault(
            f"pip could not install {', '.join(ours) or 'what is pinned'}. Is the package index reachable?\n{said}"
        )


def run(command: Sequence[str], environ: Mapping[str, str]) -> subprocess.CompletedProcess[bytes]:
    """Run an installer."""
    return subprocess.run(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)  # noqa: S603


def install_uv(requirements: Path) -> None:
    """Let pip install uv, where uv is pinned."""
    text = requirements.read_text(encoding="utf-8")
    if not re.search("^uv==", text, re.MULTILINE) or Path(sys.executable).with_name("uv").exists():
        return
    pins = Path(sys.prefix, "uv.txt")
    pins.write_text(pins_of(text, "uv"), encoding="utf-8")
    install([pins], "--no-compile")


def main(*names: str) -> int:
    """Install the requirement files that .venv does not hold yet."""
    stamps = {name: Path(sys.prefix, f".installed-{name.replace('/', '-')}") for name in names}
    new = [name for name, stamp in stamps.items() if not same(CHECKOUT / name, stamp)]
    if not new:
        return 0
    print(f"-----> install {', '.join(new)} into .venv", file=sys.stderr, flush=True)
    try:
        ensure_pip()
        install_uv(CHECKOUT / "requirements.txt")
        install([CHECKOUT / name for name in new])
    except SetupFault as fault:
        print(f"deploy.sh: {fault}", file=sys.stderr)
        return 1
    for name in new:
        # A copy of what was installed last: the same again needs no installer, and so no time.
        stamps[name].write_bytes((CHECKOUT / name).read_bytes())
    return 0


def same(one: Path, other: Path) -> bool:
    """Say whether both files are there and have the same content."""
    return other.is_file() and one.read_bytes() == other.read_bytes()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
