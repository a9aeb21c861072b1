"""Talking to a Git server."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yo_dawg.errors import SourceError
from yo_dawg.limits import STALL_SECONDS
from yo_dawg.source import DEFAULT_USERNAME, is_full_id, is_short_id, origin, ref_names, short_ref
from yo_dawg.text import nearest, printable, size
from yo_dawg.workshop.git.pack import Objects
from yo_dawg.workshop.git.ssh import connect_ssh, listen

if TYPE_CHECKING:
    from yo_dawg.source import Source


@dataclass(frozen=True)
class Fetched:
    """What a server sent."""

    objects: Objects
    id: str
    ref: str
    """As people write it."""
    tag: str = ""
    """The tag's name, if it is one."""


def fetch(source: Source, ref: str | None, folder: Path) -> Fetched:
    """Fetch one commit and its files' content into a folder; raise SourceError in words."""
    target = folder / str(len(os.listdir(folder)))
    target.mkdir()
    room = shutil.disk_usage(target).free - (8 << 20)
    with (target / "pack").open("w+b", buffering=1 << 20) as pack:

        def keep(data: bytes) -> None:
            if pack.write(data) and pack.tell() > room:
                raise SourceError(
                    f"Cannot clone {source.url}: the server sent more than the {size(room)} that /tmp has room for, "
                    "and went on. Raise ephemeral_storage in config.ini, if the repository is so large."
                )

        with translate_git_errors(source):
            found, name = fetch_pack(source, ref, keep)
    objects = Objects(target, "sha1" if len(found) == 40 else "sha256", shutil.disk_usage(target).free)
    objects.unpack(target / "pack")
    (target / "pack").unlink()
    return Fetched(
        objects, found, short_ref(name), name.removeprefix("refs/tags/") if name.startswith("refs/tags/") else ""
    )


@contextlib.contextmanager
def translate_git_errors(source: Source) -> Iterator[None]:
    """Turn a server's refusals, and what makes no sense, into words."""
    from dulwich.client import HTTPUnauthorized
    from dulwich.errors import GitProtocolError, HangupException, NotGitRepository
    from urllib3.exceptions import HTTPError
    from urllib3.exceptions import TimeoutError as NoAnswer

    cannot = f"Cannot clone {source.url}"
    try:
        yield
    except HangupException as error:
        said = printable(b" ".join(error.stderr_lines or ()).decode(errors="replace"))
        reason = said or "the server closed the connection before it had sent all"
        raise SourceError(f"{cannot}: {reason}. Check repo_name, base_url in config.ini, and the Git host.") from None
    except HTTPUnauthorized:
        reason = "the token is refused" if source.token else "the host wants a token"
        raise SourceError(
            f"{cannot}: {reason}. Check repo_name, and token_secret and username in config.ini."
        ) from None
    except NotGitRepository:
        raise SourceError(
            f"{cannot}: the host knows no such repository, or hides it from these credentials. "
            "Check repo_name, and base_url in config.ini."
        ) from None
    except (NoAnswer, TimeoutError):
        raise SourceError(
            f"{cannot}: timed out, the server sent nothing for {STALL_SECONDS:.0f} seconds. "
            "Try again, and check base_url in config.ini."
        ) from None
    except (
        GitProtocolError,
        HTTPError,
        OSError,
        ValueError,
        AssertionError,
        LookupError,
        TypeError,
        EOFError,
    ) as error:
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise  # the handler reads it in the traceback's last line: see refuse_if_disk_full
        reason = (printable(str(error)) or type(error).__name__).rstrip(".")
        if reason.startswith("unexpected http resp 403"):
            reason = "the host forbids it (403): may the token read this repository"
        raise SourceError(f"{cannot}: {reason}. Check base_url in config.ini and the Git host.") from None


def fetch_pack(source: Source, wanted: str | None, keep: Callable[[bytes], object]) -> tuple[str, str]:
    """Ask the server for one ref, one commit deep; return the object's id and the ref's full name.

    Only the refs in question are asked for: a repository may have a hundred thousand.
    """
    from dulwich.errors import GitProtocolError, HangupException

    wanted = None if wanted == "HEAD" else wanted
    chosen: list[tuple[bytes, str]] = []

    def determine_wants(refs: Mapping[Any, Any], depth: int | None = None) -> list[Any]:
        if wanted is None:
            chosen.extend((refs[b"HEAD"], "HEAD") for _ in range(b"HEAD" in refs))
        elif is_full_id(wanted) or any(name in refs for name in ref_names(wanted)):
            chosen.append(choose_ref(refs, wanted))
        return [sha for sha, _ in chosen]

    heard = bytearray()
    client, path = connect(source, heard)
    prefixes = [b"HEAD"] if wanted is None else ref_names(wanted)
    try:
        result = client.fetch_pack(
            path, determine_wants, NothingYet(), keep, progress=RemoteProgress(), depth=1, ref_prefix=prefixes
        )
    except (GitProtocolError, HangupException) as error:
        if chosen and chosen[0][1] == wanted and is_full_id(wanted):
            raise SourceError(
                f"The server did not send the commit {wanted}: {refusal(heard) or printable(str(error)).rstrip('.')}. "
                "Is it pushed? Some servers hand out only what a branch or tag points at: give one of those as ref."
            ) from None
        raise
    if not chosen:
        refs = client.get_refs(path, ref_prefix=[b"refs/heads/", b"refs/tags/"]).refs
        known = {name: sha for name, sha in refs.items() if sha and not name.endswith(b"^{}")}
        if wanted is None or not known:
            raise SourceError(no_head(source.url, known))
        commits = {name: refs.get(name + b"^{}") or sha for name, sha in known.items()}
        if is_short_id(wanted) and (name := ref_at(commits, wanted)):
            fetched, _ = fetch_pack(source, name.decode(errors="surrogateescape"), keep)
            if fetched.encode() != known[name]:
                raise SourceError(f'"{short_ref(name.decode(errors="replace"))}" was moved meanwhile. Try again.')
            return fetched, commits[name].decode()
        choose_ref(known, wanted)
    sha, ref = chosen[0]
    if wanted is None:
        symrefs: Mapping[Any, Any] = result.symrefs
        ref = symrefs.get(b"HEAD", b"HEAD").decode(errors="replace")
    return sha.decode(), ref


def refusal(heard: bytearray) -> str:
    """Return the reason that a server gave in its last words, which Dulwich overhears where it awaits a pack."""
    found = re.search(rb"[0-9a-f]{4}ERR ([^\n]*)\n?$", heard)
    return printable(found[1].decode(errors="replace")).rstrip(".") if found else ""


class NothingYet:
    """Tells a server that we have no commit yet (Dulwich's "graph walker")."""

    shallow: frozenset[bytes] = frozenset()

    def __next__(self) -> None:
        """Return the next commit that we have: there is none."""
        return

    def ack(self, sha: bytes) -> None:
        """Hear that the server has a commit too."""

    def nak(self) -> None:
        """Hear that it has none of ours."""


class RemoteProgress:
    """Prints what the server says, less its counters, which rewrite one line a hundred times."""

    def __call__(self, text: bytes) -> None:
        """Print the lines in this piece that are done."""
        for line in text.decode(errors="replace").split("\n"):
            if line.endswith("done."):
                print(f"remote: {printable(line.rpartition(chr(13))[2])}", flush=True)


def choose_ref(refs: Mapping[bytes, bytes], wanted: str) -> tuple[bytes, str]:
    """Find the branch, tag or commit that was asked for; raise SourceError if there is no or no single one."""
    if is_full_id(wanted):  # whatever has that name: a branch may, to be taken for the commit
        return wanted.encode(), wanted
    found = [candidate for candidate in ref_names(wanted) if candidate in refs]
    if len(found) > 1:
        names = " or ".join(f'"{each.decode(errors="replace")}"' for each in found)
        kinds = "a branch and a tag" if found == ref_names(wanted)[:2] else "the name of several refs"
        raise SourceError(f'"{wanted}" is {kinds}: ask for {names}.')
    if found:
        return refs[found[0]], found[0].decode(errors="replace")
    known = {
        short_ref(ref.decode(errors="replace")): True for ref in refs if ref.startswith((b"refs/heads/", b"refs/tags/"))
    }
    hint = nearest(wanted, known)
    short = " A commit that no branch or tag points at must be given by its full id." if is_short_id(wanted) else ""
    raise SourceError(f'The repository has no branch or tag "{wanted}"{hint}.{short}')


def ref_at(commits: Mapping[bytes, bytes], begin: str) -> bytes | None:
    """Return a branch or tag at the one commit whose id begins so; None if there is none.

    Raises SourceError if there are several.
    """
    found: dict[bytes, bytes] = {}
    for name, commit in sorted(commits.items()):
        if commit.startswith(begin.encode()):
            found.setdefault(commit, name)
    if len(found) > 1:
        some = ", ".join(
            f"{commit.decode()} ({short_ref(name.decode(errors='replace'))})" for commit, name in [*found.items()][:10]
        )
        raise SourceError(f'"{begin}" is how several commits begin: {some}. Give more digits.')
    return next(iter(found.values()), None)


def no_head(url: str, refs: Mapping[bytes, bytes]) -> str:
    """Say why there is nothing to build where no ref was asked for."""
    if not refs:
        return f"{url} is empty: push a commit to it."
    branches = sorted(short_ref(ref.decode(errors="replace")) for ref in refs if ref.startswith(b"refs/heads/"))
    some = ", ".join(branches[:20])
    return f'The HEAD of {url} is a branch that does not exist. Give "ref"; its branches are: {some}.'


def connect(source: Source, heard: bytearray) -> tuple[Any, str]:
    """Return a client of Dulwich for a repository's server, and the repository's path there."""
    if origin(source.url)[0] == "ssh":
        return connect_ssh(source, heard)
    from dulwich.client import Urllib3HttpGitClient

    secret: dict[str, Any] = {}
    if source.token:
        secret = {"username": source.username or DEFAULT_USERNAME, "password": source.token}
    base, _, name = source.url.rpartition("/")
    return Urllib3HttpGitClient(f"{base}/", thin_packs=False, pool_manager=http_pool(source, heard), **secret), name


def http_pool(source: Source, heard: bytearray | None = None) -> Any:
    """Return an HTTP client that asks one server only, and notes what that said last."""
    from dulwich.client import default_urllib3_manager

    pool: Any = default_urllib3_manager(None, base_url=source.url, timeout=STALL_SECONDS, cert_reqs="CERT_REQUIRED")
    plain_urlopen = pool.urlopen

    def urlopen(method: str, url: str, redirect: bool = True, **options: Any) -> Any:
        # urllib3 comes back to this function for each redirect.
        if origin(url) != origin(source.url):
            scheme, host, port = origin(url)
            raise SourceError(
                f"Cannot clone {source.url}: the server redirects to another host, "
                f"{printable(f'{scheme}://{host}:{port}')}, "
                f"{'which may not see the token' if source.token else 'which config.ini does not name'}. If the "
                "repository has moved there, change base_url in config.ini."
            )
        response = plain_urlopen(method, url, redirect=redirect, **options)
        content = response.headers.get("Content-Type", "nothing that it names")
        if response.status == 200 and "/info/refs" in url and not content.startswith("application/x-git-"):
            raise SourceError(
                f"Cannot clone {source.url}: what answers there is no Git host by smart HTTP; it sends "
                f"{printable(content)!r}. Check base_url in config.ini."
            )
        if heard is not None:
            response.read = listen(response.read, heard)
        return response

    pool.urlopen = urlopen
    return pool
