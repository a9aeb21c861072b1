"""Packs: deltas, large files, and packs that are damaged or meant to do harm."""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from local.git_server import GitServer
from tests.support.git_host import Cloner, git, needs_git, publish, push
from tests.support.hand_made import BLOB, NAMED_DELTA, OFFSET_DELTA, HandMade, header, refused, sealed, write_out
from yo_dawg.errors import SourceError
from yo_dawg.workshop.git.pack import Objects
from yo_dawg.workspace import Workspace


@pytest.mark.parametrize("again", ["blob", "tree"])
def test_what_stands_twice_in_a_pack_is_still_what_its_name_says(tmp_path: Path, again: str) -> None:
    made = HandMade()
    good = made.add(BLOB, b"good")
    folder = made.tree((b"100644", b"app.py", good))
    commit = made.commit(folder)
    if again == "blob":
        made.add(BLOB, b"good")
        made.add(BLOB, b"evil")
    else:
        evil = made.add(BLOB, b"evil")
        made.tree((b"100644", b"app.py", good))
        made.tree((b"100644", b"app.py", evil))
    write_out(made, commit, tmp_path)
    assert (tmp_path / "checkout" / "app.py").read_bytes() == b"good"


def varint(number: int) -> bytes:
    """Write a size as deltas do."""
    out = []
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def delta_of(base: bytes, delta: bytes) -> Callable[[HandMade], None]:
    """Return what adds a blob, and a delta of it."""

    def add(made: HandMade) -> None:
        name = made.add(BLOB, base)
        made.objects.append(header(NAMED_DELTA, len(delta)) + name + zlib.compress(delta))

    return add


def raw(content: bytes) -> Callable[[HandMade], None]:
    """Return what adds bytes to a pack as if they were an object."""
    return lambda made: made.objects.append(content)


def bomb(number: int) -> bytes:
    """An object of 64 MB of zeros, and so many more: the same object twice would be kept once."""
    size = (64 << 20) + number
    return header(BLOB, size) + zlib.compress(bytes(size))


COPIES = b"\x80" * 5_000_000  # offset 0, size 0: that is 65,536 bytes, each time


@pytest.mark.parametrize(
    ("add", "words"),
    [
        pytest.param(delta_of(b"abc", varint(9) + varint(1) + b"\1x"), "source buffer size", id="wrong base"),
        pytest.param(delta_of(b"abc", varint(3) + varint(9) + b"\1x"), "dest size incorrect", id="wrong result"),
        pytest.param(delta_of(b"abc", varint(3) + varint(1) + b"\1xyz"), "delta not empty", id="too much"),
        pytest.param(delta_of(b"abc", varint(3) + varint(9) + b"\x91\2\x09"), "dest size", id="beyond its base"),
        pytest.param(delta_of(b"abc", varint(3) + varint(1) + b"\0"), "Invalid opcode 0", id="instruction 0"),
        pytest.param(delta_of(b"abc", varint(3) + varint(5) + b"\5x"), "damaged", id="insert too short"),
        pytest.param(delta_of(b"abc", b"\xff" * 12), "is damaged", id="size without an end"),
        pytest.param(delta_of(b"abc", b""), "is damaged", id="empty"),
        pytest.param(raw(header(NAMED_DELTA, 2) + b"\7" * 20 + zlib.compress(b"\0\0")), "does not hold", id="no base"),
        pytest.param(raw(header(OFFSET_DELTA, 2) + b"\x7f" + zlib.compress(b"\0\0")), "damaged", id="before it"),
        pytest.param(raw(header(5, 1) + zlib.compress(b"x")), "unknown kind", id="kind"),
        pytest.param(raw(header(BLOB, 5) + b"garbage!"), "is damaged", id="not zlib"),
        pytest.param(raw(b"\xbf" + b"\xff" * 20), "damaged|more than /tmp", id="size without an end, of an object"),
        pytest.param(raw(header(BLOB, 1000)), "damaged|declares|ends", id="cut"),
        pytest.param(
            raw(header(BLOB, 4 << 30) + zlib.compress(b"small")), "expected size|more than /tmp", id="declares 4 GB"
        ),
        pytest.param(raw(header(BLOB, 10) + zlib.compress(bytes(10_000_000))), "exceeds", id="declares less"),
        pytest.param(lambda made: made.objects.extend(map(bomb, range(4))), "unpacks to more than", id="a bomb"),
        pytest.param(
            delta_of(b"x" * 65536, varint(65536) + varint(65536 * len(COPIES)) + COPIES),
            "takes more memory",
            id="a bomb of deltas",
        ),
    ],
)
def test_a_damaged_pack_is_refused(tmp_path: Path, add: Callable[[HandMade], None], words: str) -> None:
    made = HandMade()
    commit = made.commit(made.tree())
    add(made)
    # 200 MB are left: a bomb that fills a real /tmp would take the test as long.
    message = refused(made, commit, tmp_path, room=200_000_000)
    assert message.startswith("The pack that the server sent")
    assert re.search(words, message)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        pytest.param(lambda pack: pack[:-1] + b"!", "not whole", id="changed on the way"),
        pytest.param(lambda pack: pack[:-30], "not whole", id="cut off"),
        pytest.param(lambda _: b"", "damaged", id="empty"),
        pytest.param(lambda pack: sealed(pack[:8] + b"\xff" * 4 + pack[12:-20]), "damaged", id="too many objects"),
        pytest.param(lambda pack: sealed(b"KCAP" + pack[4:-20]), "damaged", id="no pack"),
    ],
)
def test_what_is_no_whole_pack_is_refused(tmp_path: Path, spoil: Callable[[bytes], bytes], words: str) -> None:
    made = HandMade()
    made.commit(made.tree())
    objects = Objects(tmp_path, "sha1", 1 << 30)
    (tmp_path / "pack").write_bytes(spoil(made.pack))
    with pytest.raises(SourceError, match=words):
        objects.unpack(tmp_path / "pack")


def test_another_commit_than_the_one_asked_for_is_refused(tmp_path: Path) -> None:
    made = HandMade()
    made.commit(made.tree())
    assert "did not send" in refused(made, "12" * 20, tmp_path)


@needs_git
def test_what_git_stored_as_deltas(host: GitServer, cloner: Cloner) -> None:
    """Small ones, large ones, and chains of them."""
    chance = random.Random(0)  # noqa: S311  # data, no secret
    work = publish(host.root, "deltas")
    contents: dict[str, bytes] = {}
    for shape, length in (("small", 3000), ("large", 1_000_000)):
        content = chance.randbytes(length)
        for number in range(12):
            cut = chance.randrange(length)
            content = content[:cut] + chance.randbytes(50) + content[cut + 20 :]
            contents[f"{shape}{number}"] = content
    for name, content in contents.items():
        (work / name).write_bytes(content)
    push(work, host.root / "deltas.git")
    git(host.root / "deltas.git", "repack", "-adfq", "--depth=50", "--window=50")
    packs = git(host.root / "deltas.git", "count-objects", "-v")
    assert int(packs.split("size-pack: ")[1].split()[0]) < 3000, "git did store them as deltas"
    root = cloner(f"{host.url}/deltas.git").root
    assert {path.name: path.read_bytes() for path in root.iterdir()} == contents


@needs_git
def test_large_files_fit_into_the_memory_of_the_program(host: GitServer, space: Workspace) -> None:
    """Two of 50 MB, one of them stored as a delta of the other, in half a GiB of address space."""
    work = publish(host.root, "large")
    content = random.Random(1).randbytes(1_000_000) * 50  # noqa: S311  # data, no secret
    (work / "one.bin").write_bytes(content)
    (work / "two.bin").write_bytes(b"another beginning" + content)
    push(work, host.root / "large.git")
    git(host.root / "large.git", "-c", "core.bigFileThreshold=1g", "repack", "-adfq", "--depth=5", "--window=5")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))"
    root = Cloner(space, {}, limit)(f"{host.url}/large.git").root
    assert (root / "one.bin").read_bytes() == content
    assert (root / "two.bin").read_bytes() == b"another beginning" + content


@needs_git
def test_a_file_that_takes_more_memory_is_refused_in_words(host: GitServer, space: Workspace) -> None:
    work = publish(host.root, "large")
    with (work / "data.bin").open("wb") as file:
        file.truncate(300_000_000)
    push(work, host.root / "large.git")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (300_000_000, 300_000_000))"
    with pytest.raises(SourceError, match="takes more memory to unpack"):
        Cloner(space, {}, limit)(f"{host.url}/large.git")
