"""Lambda's Python runtimes, made from the interpreters of this machine.

For each runtime one directory is made, once: a root file system as small as Lambda's own, with

    /var/lang       the interpreter, its standard library, and boto3 in its site-packages
    /var/runtime    awslambdaric, the runtime's client
    /usr/bin        bash, coreutils, grep, sed and awk; no git, gcc, find, tar, ssh
    /usr/lib*       the libraries that those need, and a few that Amazon Linux always has

It is copied from the machine, so a sandbox needs one mount for all of it and can see nothing else of the host.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from client.setup import SetupFault, install

NAMES = ("python3.11", "python3.12", "python3.13", "python3.14")

# A change here makes every cached runtime anew.
LAYOUT = "3"

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
BOOTSTRAP = Path(__file__).with_name("bootstrap.py")

# What Lambda's own site-packages and /var/runtime hold. The versions and hashes are those of requirements.txt.
SITE_PACKAGES = ("boto3", "botocore", "jmespath", "python-dateutil", "s3transfer", "six", "urllib3")
RUNTIME_PACKAGES = ("awslambdaric", "simplejson", "snapshot-restore-py")

# Parts of a standard library that Lambda's has not, or that nothing can use there.
LEFT_OUT = ("test", "tests", "idlelib", "turtledemo", "tkinter", "site-packages", "dist-packages", "config-3*",
            "EXTERNALLY-MANAGED", "*.opt-?.pyc", "*.a")  # fmt: skip

# coreutils-single, bash, grep, sed and gawk of Amazon Linux 2023.
TOOLS = """
bash grep egrep fgrep sed awk gawk arch b2sum base32 base64 basename basenc cat chcon chgrp chmod chown chroot
cksum comm cp csplit cut date dd df dir dircolors dirname du echo env expand expr factor false fmt fold groups
head hostid id install join link ln logname ls md5sum mkdir mkfifo mknod mktemp mv nice nl nohup nproc numfmt
od paste pathchk pinky pr printenv printf ptx pwd readlink realpath rm rmdir runcon seq sha1sum sha224sum
sha256sum sha384sum sha512sum shred shuf sleep sort split stat stdbuf stty sum sync tac tail tee test timeout
touch tr true truncate tsort tty uname unexpand uniq unlink users vdir wc who whoami yes [
"""

# Wheels may need these without any of the tools above doing so.
LIBRARIES = (
    "libanl.so.1", "libc.so.6", "libcrypt.so.1", "libcrypt.so.2", "libdl.so.2", "libexpat.so.1", "libgcc_s.so.1",
    "libm.so.6", "libnss_dns.so.2", "libnss_files.so.2", "libpthread.so.0", "libresolv.so.2", "librt.so.1",
    "libstdc++.so.6", "libutil.so.1", "libz.so.1",
)  # fmt: skip

DEVICES = ("full", "null", "random", "tty", "urandom", "zero")

PROBE = """
import json, platform, ssl, sys, sysconfig
base = dict.fromkeys(("base", "platbase", "installed_base", "installed_platbase"), sys.base_prefix)
paths = sysconfig.get_paths(vars=base)
verify = ssl.get_default_verify_paths()
print(json.dumps({
    "version": list(sys.version_info[:3]), "implementation": platform.python_implementation(),
    "executable": sys._base_executable, "prefix": sys.base_prefix,
    "stdlib": paths["stdlib"], "platstdlib": paths["platstdlib"],
    "certificates": [verify.openssl_cafile, verify.openssl_capath],
}))
"""


class RuntimeUnavailable(Exception):
    """This machine has no interpreter for the runtime, or cannot be given its packages."""


@dataclass(frozen=True)
class Interpreter:
    """A Python that was run and told these things about itself."""

    version: tuple[int, int, int]
    executable: Path
    prefix: Path
    stdlib: Path
    platstdlib: Path
    certificates: tuple[str, ...]

    @property
    def runtime(self) -> str:
        """Return the name that Lambda has for it."""
        return f"python{self.version[0]}.{self.version[1]}"


@dataclass(frozen=True)
class RuntimeImage:
    """A runtime that is ready to be used."""

    name: str
    version: str
    root: Path

    @property
    def python(self) -> str:
        """Return the interpreter's name inside the root."""
        return f"/var/lang/bin/{self.name}"


def probe(executable: str | Path) -> Interpreter | None:
    """Run an interpreter and ask what it is; None when it does not run (pyenv's shims, a broken link)."""
    try:
        done = subprocess.run(  # noqa: S603 (the name comes from PATH or pyenv, and is only asked for its version)
            [executable, "-I", "-c", PROBE], capture_output=True, text=True, timeout=30, check=True
        )
        facts = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    if not isinstance(facts, dict) or facts["implementation"] != "CPython":
        return None
    return Interpreter(
        version=tuple(facts["version"]),
        executable=Path(facts["executable"]).resolve(),
        prefix=Path(facts["prefix"]).resolve(),
        stdlib=Path(facts["stdlib"]).resolve(),
        platstdlib=Path(facts["platstdlib"]).resolve(),
        certificates=tuple(facts["certificates"]),
    )


def candidates(name: str) -> Iterator[str]:
    """Name the places where an interpreter may be: this one, PATH, pyenv's versions, uv's."""
    if name == f"python{sys.version_info[0]}.{sys.version_info[1]}":
        yield sys.executable
    for directory in os.get_exec_path():
        yield os.path.join(directory, name)
    pyenv = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    if os.path.isabs(pyenv):
        found = Path(pyenv, "versions").glob(f"{name.removeprefix('python')}.*/bin/{name}")
        yield from sorted(map(str, found), key=lambda path: [int(n) for n in re.findall(r"\d+", path)], reverse=True)
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if uv:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            yield subprocess.run(  # noqa: S603
                [uv, "python", "find", "--no-python-downloads", name.removeprefix("python")],
                capture_output=True, text=True, timeout=30, check=True,
            ).stdout.strip()  # fmt: skip


@functools.cache
def find(name: str) -> Interpreter | None:
    """Return the first interpreter that really is the runtime's; None if there is none."""
    seen = set()
    for candidate in candidates(name):
        if candidate in seen or not os.access(candidate, os.X_OK):
            continue
        seen.add(candidate)
        interpreter = probe(candidate)
        if interpreter and interpreter.runtime == name:
            return interpreter
    return None


def available() -> dict[str, Path]:
    """Return the runtimes that can be run on this machine, with their interpreters."""
    return {name: found.executable for name in NAMES if (found := find(name))}


def default_cache() -> Path:
    """Return where runtimes are kept: in the virtualenv, else in the user's cache directory."""
    if sys.prefix != sys.base_prefix:
        return Path(sys.prefix, "lambda-runtimes")
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "yo-dawg", "lambda-runtimes")


def requirement_lines(names: Iterable[str], text: str) -> str:
    """Return the lines of a requirements file, with their hashes, that pin these packages."""
    entries = {
        re.split(r"[=\[; ]", entry, maxsplit=1)[0]: entry
        for entry in re.findall(r"^[a-z0-9][^\n]*(?:\n[ \t]+--[^\n]*)*", text, re.MULTILINE)
    }
    return "".join(entries[name] + "\n" for name in names)


def prepare(name: str, cache: Path | None = None) -> RuntimeImage:
    """Return the runtime's image, making it if this is the first time."""
    interpreter = find(name) if name in NAMES else None
    if interpreter is None:
        known = ", ".join(available()) or "none"
        raise RuntimeUnavailable(
            f"This machine has no interpreter for the runtime {name} (it has: {known}). Make the function with one of "
            "these, or install a Python of that version, with pyenv or uv for example. "
            f"{', '.join(NAMES)} can be run."
        )
    cache = cache or default_cache()
    pins = requirement_lines(SITE_PACKAGES + RUNTIME_PACKAGES, REQUIREMENTS.read_text())
    version = ".".join(map(str, interpreter.version))
    facts = (LAYOUT, version, str(interpreter.executable), pins, BOOTSTRAP.read_text())
    key = hashlib.sha256(repr(facts).encode()).hexdigest()[:12]
    root = cache / f"{name}-{key}"
    if not root.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with open(cache / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not root.exists():
                with tempfile.TemporaryDirectory(dir=cache, prefix=f".{name}-") as scratch:
                    made = Path(scratch, "root")
                    make_root(interpreter, made)
                    made.rename(root)
    return RuntimeImage(name, version, root)


def make_root(interpreter: Interpreter, root: Path) -> None:
    """Lay out the root file system of a runtime."""
    for directory in ("dev", "etc", "opt", "proc", "tmp", "usr/bin", "usr/lib", "usr/lib64", "usr/local/bin",
                      "var/lang/bin", "var/lang/lib", "var/rapid", "var/runtime", "var/task"):  # fmt: skip
        (root / directory).mkdir(parents=True)
    for link, target in {"bin": "usr/bin", "sbin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64"}.items():
        (root / link).symlink_to(target)
    copy_interpreter(interpreter, root)
    if sys.platform == "linux":
        copy_tools(root)
        copy_libraries(interpreter, root)
        write_etc(interpreter, root)
        write_devices(root)
    (root / "var/rapid/supervisor.py").touch()
    entrypoint = root / "lambda-entrypoint.sh"  # which is there, and which no function runs
    entrypoint.write_text("#!/bin/sh\nexit 1\n")
    entrypoint.chmod(0o755)
    install_packages(interpreter, root)
    shutil.copy2(BOOTSTRAP, root / "var/runtime")


def copy_interpreter(interpreter: Interpreter, root: Path) -> None:
    """Copy the interpreter and its standard library to /var/lang."""
    lang = root / "var/lang"
    shutil.copy2(interpreter.executable, lang / "bin" / interpreter.runtime)
    (lang / "bin/python3").symlink_to(interpreter.runtime)
    for library in {interpreter.stdlib, interpreter.platstdlib}:
        target = lang / library.relative_to(interpreter.prefix)
        shutil.copytree(
            library, target, symlinks=False, dirs_exist_ok=True, ignore_dangling_symlinks=True,
            ignore=shutil.ignore_patterns(*LEFT_OUT),
        )  # fmt: skip
        (target / "site-packages").mkdir(exist_ok=True)
        # Debian's own interpreters look there instead.
        (target / "dist-packages").symlink_to("site-packages")


def copy_tools(root: Path) -> None:
    """Copy the commands that Amazon Linux has; sh is bash there."""
    for tool in TOOLS.split():
        found = shutil.which(tool, path="/usr/bin:/bin")
        if found:
            shutil.copy2(os.path.realpath(found), root / "usr/bin" / tool)
    (root / "usr/bin/sh").symlink_to("bash")


def shared_libraries(files: Iterable[Path]) -> dict[str, Path]:
    """Ask the dynamic linker which libraries these files load; by the name under which they do."""
    done = subprocess.run(  # noqa: S603
        ["ldd", *files],  # noqa: S607 (found on the system's own PATH)
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.defpath, "LC_ALL": "C"},
    )
    found = dict(re.findall(r"^\s+(\S+) => (/\S+) \(", done.stdout, re.MULTILINE))
    found |= {path: path for path in re.findall(r"^\s+(/\S+) \(", done.stdout, re.MULTILINE)}
    return {name: Path(path) for name, path in found.items()}


def known_libraries() -> dict[str, Path]:
    """Return the libraries that the host's linker knows by name."""
    ldconfig = shutil.which("ldconfig", path="/sbin:/usr/sbin:/bin:/usr/bin")
    if not ldconfig:
        return {}
    done = subprocess.run([ldconfig, "-p"], capture_output=True, text=True, check=False)  # noqa: S603
    # The first of a name is the one for the machine's own word size.
    pairs = re.findall(r"^\s+(\S+) \(libc6,(?:x86-64|AArch64)[^)]*\) => (\S+)", done.stdout, re.MULTILINE)
    return {name: Path(path) for name, path in reversed(pairs)}


def copy_libraries(interpreter: Interpreter, root: Path) -> None:
    """Copy the libraries beside libc, where the linker looks without being told."""
    programs = [path for path in (root / "usr/bin").iterdir() if not path.is_symlink()]
    extensions = list(interpreter.platstdlib.glob("lib-dynload/*.so"))
    known = known_libraries()
    libraries = {name: known[name] for name in LIBRARIES if name in known}
    libraries |= shared_libraries([interpreter.executable, *extensions, *programs])
    libraries |= shared_libraries(libraries.values()) | libraries
    beside = inside(root, libraries["libc.so.6"].parent)
    beside.mkdir(parents=True, exist_ok=True)
    for name, path in libraries.items():
        if name.startswith("/"):  # the linker itself, whose place is written into every program
            target = inside(root, path)
            target.parent.mkdir(parents=True, exist_ok=True)
        elif interpreter.prefix in path.resolve().parents and interpreter.prefix != Path("/usr"):
            target = root / "var/lang/lib" / name
            (beside / name).symlink_to(f"/var/lang/lib/{name}")
        else:
            target = beside / name
        shutil.copy2(path.resolve(), target)


def inside(root: Path, path: Path) -> Path:
    """Return where a path of the host stands in the root, whose /lib and /bin are links into /usr."""
    first, *rest = path.parts[1:]
    return root.joinpath(*(("usr", first) if first in ("bin", "lib", "lib64") else (first,)), *rest)


def write_etc(interpreter: Interpreter, root: Path) -> None:
    """Write the few files of /etc that name services and certificates need."""
    etc = root / "etc"
    (etc / "passwd").write_text(
        "root:x:0:0:root:/root:/bin/bash\nsbx_user1051:x:993:990::/home/sbx_user1051:/sbin/nologin\n"
    )
    (etc / "group").write_text("root:x:0:\nsbx_user1051:x:990:\n")
    (etc / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")
    # Places for what a sandbox mounts from the host, as it may change there.
    for name in ("resolv.conf", "hosts"):
        (etc / name).touch()
    (etc / "ssl/certs").mkdir(parents=True)
    (etc / "pki").mkdir()
    for name in ("ca-certificates", "local/share/ca-certificates", "share/ca-certificates"):
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
    link_certificates(interpreter, root)


def link_certificates(interpreter: Interpreter, root: Path) -> None:
    """Put links to the host's certificates where the interpreter's OpenSSL looks for them."""
    for name in interpreter.certificates:
        place = inside(root, Path(name))
        real = os.path.realpath(name)
        if os.path.lexists(place) or not os.path.exists(real) or name.startswith(("/etc/ssl/certs", "/etc/pki")):
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if real.startswith(("/etc/ssl/certs", "/etc/pki")):
            place.symlink_to(real)
        elif os.path.isfile(real):  # a certificate file of the interpreter's own
            shutil.copy2(real, place)


def write_devices(root: Path) -> None:
    """Make places for the device files; there is no /dev/shm in Lambda."""
    for name in DEVICES:
        (root / "dev" / name).touch()
    for name, target in {"fd": "fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}.items():
        (root / "dev" / name).symlink_to(f"/proc/self/{target}")


def install_packages(interpreter: Interpreter, root: Path) -> None:
    """Install boto3 and the runtime's client, for this interpreter."""
    text = REQUIREMENTS.read_text()
    site_packages = root / "var/lang" / interpreter.stdlib.relative_to(interpreter.prefix) / "site-packages"
    for names, target in ((SITE_PACKAGES, site_packages), (RUNTIME_PACKAGES, root / "var/runtime")):
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as pins:
            pins.write(requirement_lines(names, text))
            pins.flush()
            options = ("--only-binary=:all:", "--target", str(target))
            try:
                install([Path(pins.name)], *options, python=interpreter.executable, compiled=True)
            except SetupFault as fault:
                raise RuntimeUnavailable(
                    f"Cannot install {', '.join(names)} for {interpreter.runtime}: {fault}"
                ) from None
