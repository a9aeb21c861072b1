"""A stand-in for git, which Lambda has not: what uv calls where it would clone a requirement.

It gives uv the repositories that the Git program has fetched, and writes down what it was asked for and has not.  It
knows the commands that uv gives in its cache (uv, crates/uv-git/src/git.rs), and no others: to all else, that of build
scripts, too, it answers as git does outside of a repository.

uv runs it as a program of its own, in an interpreter that finds none of our modules.  It starts ten times for each
repository, and so imports next to nothing, and reads and writes lines with tabs in place of JSON.
"""

from __future__ import annotations

import os
import sys
import time

TOGETHER_SECONDS = 0.2
"""uv asks for several repositories at a time, and gives up at the first that it cannot have: the others are to be
asked for, too, by then."""

MAX_ASKED = 1 << 20
"""Characters of what it writes down that are read; more is none of uv's doing."""

NO_REPOSITORY = 128
"""The exit status of git for what is not there."""

URL_NOTE = "yo-dawg-url"
"""The file in a folder of uv's cache that says what was fetched into it."""

SCRIPT = """#!/bin/sh
case "$PWD $*" in
*/git-v2/*" init" | */git-v2/*" rev-parse" | */git-v2/*" reset --hard "* | */git-v2/*" submodule update "*) exit 0 ;;
*/git-v2/checkouts/*" rev-parse HEAD") exec echo "${{PWD##*/}}" ;;
*/git-v2/db/*" rev-parse --short "*) exec echo "$3" ;;
esac
exec {command} "$@"
"""
"""The program "git": it answers by itself what takes no table.  Whole commits serve as short ones, after which uv names
the folders of checkouts."""


def main(table: str, asked: str, arguments: list[str]) -> int:
    """Do one command of uv's; return git's exit status.

    The table is a file with a line for each repository that was fetched: see ``write_table``.  What is not in it is
    added to the file asked: see ``read_asked``.
    """
    with open(table) as file:
        repositories = [line.rstrip("\n").split("\t") for line in file]
    folders = {commit: folder for _, _, commit, folder in repositories}
    match arguments:
        case ["fetch", *options] if "/git-v2/db/" in os.getcwd():
            with open(URL_NOTE, "w") as file:  # what of it is wanted uv says later
                file.write(plain_url(next(each for each in options if "://" in each)))
            return 0
        case ["rev-parse", name] if os.path.exists(URL_NOTE):
            return say_commit(name, repositories, asked)
        case ["clone", *_, target] if (folder := folders.get(os.path.basename(target))) is not None:
            os.makedirs(target, exist_ok=True)
            os.execv("/bin/cp", ["cp", "-al", f"{folder}/.", target])  # noqa: S606  # links take no room
        case ["lfs", *_]:
            return 0  # its files were fetched, or else the whole repository was refused
    print("fatal: not a git repository (or any of the parent directories): .git", file=sys.stderr)
    return NO_REPOSITORY


def say_commit(name: str, repositories: list[list[str]], asked: str) -> int:
    """Say at which commit a ref is, by the name that uv has for it; write it down if it is unknown.

    These names are ``refs/remotes/origin/HEAD``; ``origin/X^0`` for a branch X and ``refs/remotes/origin/tags/X^0`` for
    a tag, one after the other where X may be either; ``X^0`` for a commit or another ref.
    """
    with open(URL_NOTE) as file:
        url = file.read()
    ref = "" if name == "refs/remotes/origin/HEAD" else name.removesuffix("^0")
    for beginning in ("refs/remotes/origin/tags/", "origin/"):
        ref = ref.removeprefix(beginning)
    for here, known, commit, _ in repositories:
        if here == url and ref in (known, commit):
            print(commit)
            return 0
    with open(asked, "a") as file:
        file.write(f"{url}\t{ref}\n")
    time.sleep(TOGETHER_SECONDS)
    print(f"{url} is not there yet", file=sys.stderr)
    return NO_REPOSITORY


def write_table(table: os.PathLike[str], repositories: list[tuple[str, str | None, str, str]]) -> None:
    """Write down what was fetched: address, the ref that was asked for ("" for its HEAD), the commit and the folder."""
    with open(table, "w") as file:
        file.writelines(f"{url}\t{ref or ''}\t{commit}\t{folder}\n" for url, ref, commit, folder in repositories)


def read_asked(asked: os.PathLike[str]) -> list[tuple[str, str | None]]:
    """Return what uv asked for and did not get, each address with its ref; builds may have written there, too."""
    if not os.path.isfile(asked):
        return []
    with open(asked, errors="replace") as file:
        pairs = [line.split("\t") for line in file.read(MAX_ASKED).splitlines()]
    return list(dict.fromkeys((pair[0], pair[1] or None) for pair in pairs if len(pair) == 2))


def plain_url(url: str) -> str:
    """Return an address without the user that https needs none for: here, credentials come from the secret.

    pip and uv take them from variables, ``https://${TOKEN}@…``; uv passes on what it finds no variable for.
    """
    scheme, separator, rest = url.partition("://")
    user, at, host = rest.partition("/")[0].rpartition("@")
    if at and scheme == "https" and (":" not in user or "${" in user or "$%7B" in user):
        return f"{scheme}{separator}{host}{rest[len(user) + len(at) + len(host) :]}"
    return url


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
