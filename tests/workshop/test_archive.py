"""Zips hold the tree and nothing else, in the same bytes each time, whatever was compressed before."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import io
import os
import stat
import tempfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import deflate
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.embedded import lay_out
from tests.support.work import open_zip, zip_to
from yo_dawg.errors import PackageError
from yo_dawg.limits import MAX_UNZIPPED_BYTES
from yo_dawg.trees import Listing, walk
from yo_dawg.workshop.archive import (
    PIECE,
    CompressedCache,
    CompressingAhead,
    WrittenZip,
    digests_of,
    record_digest,
    write_zip,
)
from yo_dawg.workshop.deflater import ZLIB, Deflater
from yo_dawg.workshop.package_zip import PackageZip


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    made = tmp_path / "tree"
    made.mkdir()
    return made


LIBDEFLATE = Deflater(
    "libdeflate",
    lambda content: bytes(deflate.deflate_compress(content, 7)),
    lambda content, size: bytes(deflate.deflate_decompress(content, size)),
)


def spying() -> tuple[CompressedCache, list[bytes]]:
    """Return a cache that compresses as zlib does, and a list of what it was given."""
    given_it: list[bytes] = []

    def deflate_it(content: bytes) -> bytes:
        given_it.append(content)
        return ZLIB.deflate(content)

    return CompressedCache(dataclasses.replace(ZLIB, deflate=deflate_it)), given_it


def zip_tree(tree: Path, target: Path, cache: CompressedCache | None = None) -> bytes:
    """Zip a tree; return the zip."""
    zip_to(walk(tree), target, cache)
    return target.read_bytes()


# --- What is in a zip ------------------------------------------------------------------------------------


def test_the_same_tree_gives_the_same_bytes(tmp_path: Path) -> None:
    made = []
    for number, names in enumerate((["b.py", "a/c.py"], ["a/c.py", "b.py"])):
        root = tmp_path / str(number)
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(name)
            (root / name).chmod(0o600 if number else 0o666)
            os.utime(root / name, (number * 1e9, number * 1e9))
        made.append(zip_tree(root, tmp_path / f"{number}.zip"))
    assert made[0] == made[1]


def test_what_the_file_held_before_is_gone(tree: Path, tmp_path: Path) -> None:
    lay_out(tree, {"a.py": "a"})
    expected = zip_tree(tree, tmp_path / "clean.zip")
    (tmp_path / "used.zip").write_bytes(os.urandom(100_000))
    with (tmp_path / "used.zip").open("r+b") as file:
        file.seek(5000)
        zip_to(walk(tree), tmp_path / "used.zip")
    assert (tmp_path / "used.zip").read_bytes() == expected


def test_names_are_sorted_and_modes_are_ours(tree: Path, tmp_path: Path) -> None:
    for name, mode in (("z.sh", 0o700), ("a.py", 0o600), ("locked.py", 0o000), ("suid", 0o4755)):
        (tree / name).write_text("x")
        (tree / name).chmod(mode)
    written = zip_to(walk(tree)[::-1], tmp_path / "zip")
    with zipfile.ZipFile(tmp_path / "zip") as archive:
        modes = {info.filename: oct(info.external_attr >> 16) for info in archive.infolist()}
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert list(modes.items()) == [
        ("a.py", "0o100644"), ("locked.py", "0o100644"), ("suid", "0o100755"), ("z.sh", "0o100755"),
    ]  # fmt: skip
    assert written == WrittenZip(dict.fromkeys(modes, record_digest(b"x")), 4)


def test_links_are_shipped_as_what_they_lead_to(tree: Path, tmp_path: Path) -> None:
    lay_out(tree, {"lib/a.py": "content"})
    (tree / "b.py").symlink_to("lib/a.py")
    (tree / "also").symlink_to("lib", target_is_directory=True)
    zip_tree(tree, tmp_path / "zip")
    with zipfile.ZipFile(tmp_path / "zip") as written:
        assert written.namelist() == ["also/a.py", "b.py", "lib/a.py"]
        assert {written.read(name) for name in written.namelist()} == {b"content"}
        assert {stat.S_IFMT(info.external_attr >> 16) for info in written.infolist()} == {stat.S_IFREG}


def test_a_name_that_is_not_utf_8_is_refused(tree: Path, tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tree) + b"/caf\xe9.py")).write_text("")
    with pytest.raises(PackageError, match="not UTF-8"):
        zip_tree(tree, tmp_path / "zip")


def test_unpacking_keeps_the_executable_bit(tree: Path, tmp_path: Path) -> None:
    lay_out(tree, {"bin/uv": "uv", "lib/a.py": "a"})
    (tree / "bin/uv").chmod(0o755)
    zip_tree(tree, tmp_path / "zip")
    open_zip(tmp_path / "zip").unpack(tmp_path / "out")
    assert os.access(tmp_path / "out/bin/uv", os.X_OK)
    assert not (tmp_path / "out/lib/a.py").stat().st_mode & stat.S_IXUSR
    assert (tmp_path / "out/lib/a.py").read_text() == "a"


def test_unpacking_writes_over_nothing_that_is_there(tree: Path, tmp_path: Path) -> None:
    """Nor through a link that somebody has put there."""
    lay_out(tree, {"a.py": "a"})
    zip_tree(tree, tmp_path / "zip")
    (tmp_path / "elsewhere").write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.py").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        open_zip(tmp_path / "zip").unpack(tmp_path / "out")
    assert (tmp_path / "elsewhere").read_text() == "mine"


NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda name: name not in (".", "..") and len(name.encode()) < 100
)


@given(st.dictionaries(NAMES, st.tuples(NAMES, st.binary(max_size=3000)), max_size=8))
def test_what_goes_in_comes_out(files: dict[str, tuple[str, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "tree")
        for directory, (name, content) in files.items():
            (root / directory).mkdir(parents=True)
            (root / directory / name).write_bytes(content)
        root.mkdir(exist_ok=True)
        made = zip_to(walk(root), Path(folder, "zip"))
        expected = {f"{directory}/{name}": content for directory, (name, content) in files.items()}
        with zipfile.ZipFile(Path(folder, "zip")) as written:
            assert written.testzip() is None
            assert {name: written.read(name) for name in written.namelist()} == expected
        with Path(folder, "zip").open("rb") as file:
            ours = PackageZip(file.fileno())
            assert {name: ours.read(name) for name in ours.members} == expected
        assert made.unzipped_bytes == sum(map(len, expected.values()))
        assert made.members == {name: record_digest(content) for name, content in expected.items()}


# --- What a hostile project puts in the place of a file ------------------------------------------------------


@pytest.mark.parametrize(
    ("swap", "error"),
    [
        pytest.param(lambda path: path.symlink_to("/etc/passwd"), errno.ELOOP, id="a link"),
        pytest.param(lambda path: os.mkfifo(path), errno.ESTALE, id="a pipe"),
        pytest.param(lambda path: path.write_text("more than before"), errno.ESTALE, id="a longer file"),
        pytest.param(lambda path: path.write_text(""), errno.ESTALE, id="a shorter file"),
        pytest.param(lambda path: None, errno.ENOENT, id="nothing"),
    ],
)
def test_what_takes_a_files_place_is_not_shipped(
    tree: Path, tmp_path: Path, swap: Callable[[Path], object], error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at a file and its being read, which hangs at nothing either."""
    lay_out(tree, {"a.py": "a"})
    look = Path.stat

    def late(path: Path, **options: bool) -> os.stat_result:
        status = look(path, **options)
        if path.name == "a.py":
            path.unlink()
            swap(path)
        return status

    listing = walk(tree)
    monkeypatch.setattr(Path, "stat", late)
    with pytest.raises(OSError) as refused:  # noqa: PT011  # its number is what counts
        zip_to(listing, tmp_path / "zip")
    assert refused.value.errno == error


# --- What was compressed before ------------------------------------------------------------------------------

CONTENTS = st.sampled_from([b"", b"a", b"b", b"a" * 5000, b"a" * 4999 + b"b", bytes(300_000)])
FILES = st.sampled_from(["a.py", "b.py", "sub/c.so", "ü.txt", "sub/__pycache__/d.pyc"])
TREES = st.dictionaries(FILES, CONTENTS)


def write_files(folder: Path, files: dict[str, bytes]) -> list[Path]:
    """Write files below a folder; return where they are."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return [folder / name for name in files]


@given(before=TREES, after=TREES)
def test_the_bytes_are_the_same_whatever_was_compressed_before(
    before: dict[str, bytes], after: dict[str, bytes]
) -> None:
    """And what was, under whatever name, is not compressed again."""
    with tempfile.TemporaryDirectory() as folder:
        for number, files in enumerate([before, after]):
            root = Path(folder, str(number))
            root.mkdir()
            write_files(root, files)
        written = zip_to(walk(Path(folder, "0")), Path(folder, "0.zip"))
        expected = zip_tree(root, Path(folder, "1.zip"))
        cache, deflated = spying()
        with Path(folder, "0.zip").open("rb") as file:
            cache.add_package(PackageZip(file.fileno()), written.members)
            assert zip_tree(root, Path(folder, "again.zip"), cache) == expected
        assert set(deflated) == set(after.values()) - set(before.values())


@pytest.mark.parametrize("size", [(1 << 20) - 1, (1 << 20) + 1, 3 << 20])
def test_large_files_too_with_any_number_of_processors(
    tree: Path, tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yo_dawg.workshop.archive.MAX_PENDING_BYTES", 1 << 20)
    content = b"".join(b"%d " % number for number in range(500_000))[:size]
    (tree / "model.bin").write_bytes(content)
    lay_out(tree, {"a.py": "a", "z.py": "z"})
    written = zip_to(walk(tree), tmp_path / "many.zip")
    with zipfile.ZipFile(tmp_path / "many.zip") as archive:
        assert archive.testzip() is None
        assert archive.read("model.bin") == content
    cache, deflated = spying()
    cache.add_package(open_zip(tmp_path / "many.zip"), written.members)
    again = zip_tree(tree, tmp_path / "again.zip", cache)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    one = zip_tree(tree, tmp_path / "one.zip")
    assert (tmp_path / "many.zip").read_bytes() == one == again
    assert deflated == []


def test_members_of_a_zip_that_another_made_are_not_taken_over(tree: Path, tmp_path: Path) -> None:
    content = b"a = 1\n" * 100
    (tree / "a.py").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "other.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as other:
        other.write(tree / "a.py", "a.py")
    cache, deflated = spying()
    cache.add_package(open_zip(tmp_path / "other.zip"), {"a.py": record_digest(content)})
    zip_tree(tree, tmp_path / "zip", cache)
    assert deflated == [content]


def test_neither_are_those_that_were_compressed_with_something_else(tree: Path, tmp_path: Path) -> None:
    content = b"a = 1\n" * 100
    (tree / "a.py").write_bytes(content)
    written = zip_to(walk(tree), tmp_path / "zlib.zip")
    cache = CompressedCache(LIBDEFLATE)
    cache.add_package(open_zip(tmp_path / "zlib.zip", LIBDEFLATE), written.members)
    again = zip_tree(tree, tmp_path / "2.zip", cache)
    assert again == zip_tree(tree, tmp_path / "3.zip", CompressedCache(LIBDEFLATE))
    assert again != (tmp_path / "zlib.zip").read_bytes()
    assert open_zip(tmp_path / "2.zip", LIBDEFLATE).read("a.py") == content


def test_a_manifest_that_speaks_of_other_members_is_no_matter(tree: Path, tmp_path: Path) -> None:
    lay_out(tree, {"a.py": "a"})
    expected = zip_tree(tree, tmp_path / "zip")
    cache, deflated = spying()
    cache.add_package(open_zip(tmp_path / "zip"), {"gone.py": record_digest(b"a")})
    assert zip_tree(tree, tmp_path / "again.zip", cache) == expected
    assert deflated == [b"a"]


def test_what_is_known_by_its_digest_is_not_read_again(tree: Path, tmp_path: Path) -> None:
    lay_out(tree, {"a": "a", "b": "b" * 5000, "c": "c"})
    expected = zip_tree(tree, tmp_path / "1.zip")
    listing = walk(tree)
    digests = digests_of(listing)
    assert digests == {name: record_digest(path.read_bytes()) for name, path, _ in listing}
    cache, deflated = spying()
    cache.add_package(open_zip(tmp_path / "1.zip"), {name: digests[name] for name in "ab"})
    lay_out(tree, {"a": "changed since"})
    assert zip_to(listing, tmp_path / "2.zip", cache, digests).unzipped_bytes == 5002
    assert (tmp_path / "2.zip").read_bytes() == expected
    assert deflated == [b"c"]


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE])
def test_large_files_are_digested_piece_by_piece(tree: Path, size: int) -> None:
    content = os.urandom(size)
    (tree / "a").write_bytes(content)
    (tree / "a").chmod(0)
    listing = walk(tree)
    assert digests_of(listing) == {"a": record_digest(content)}
    for other in (size + 1, size - 1):
        if other >= 0:
            os.truncate(tree / "a", other)
            with pytest.raises(OSError, match="written to meanwhile"):
                digests_of(listing)


def test_a_zip_is_written_over_what_was_there(tree: Path, tmp_path: Path) -> None:
    lay_out(tree, {"a": "a"})
    with tempfile.TemporaryFile() as file:
        for _ in range(2):
            write_zip(walk(tree), file.fileno(), CompressedCache(ZLIB))
            os.lseek(file.fileno(), 0, os.SEEK_END)
        file.seek(0)
        assert file.read() == zip_tree(tree, tmp_path / "zip")


# --- Compressing while a project's code runs -------------------------------------------------------------------


class Ahead:
    """Compresses a tree ahead, to its end."""

    def __init__(self, tree: Path, cache: CompressedCache | None = None) -> None:
        """Compress the files that are in a tree now."""
        self.cache = cache or CompressedCache(ZLIB)
        self.compress(walk(tree))

    def compress(self, listing: Listing) -> None:
        """Compress files aside; have it done when this returns."""
        with tempfile.TemporaryFile() as spool:
            ahead = CompressingAhead(self.cache, os.dup(spool.fileno()))
            ahead.start(listing)
            if ahead._thread:
                ahead._thread.join()
            ahead.stop()
            self.failure = ahead.failure


@given(before=TREES, after=TREES, executable=st.sets(FILES))
def test_the_bytes_are_the_same_whatever_was_compressed_ahead(
    before: dict[str, bytes], after: dict[str, bytes], executable: set[str]
) -> None:
    """Files may have been added, changed, taken away, and made executable since."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "tree")
        root.mkdir()
        write_files(root, before)
        ahead = Ahead(root)
        for name in before.keys() - after.keys():
            (root / name).unlink()
        write_files(root, dict(after.items() - before.items()))
        for name in executable & after.keys():
            (root / name).chmod(0o755)
        assert zip_tree(root, Path(folder, "1.zip"), ahead.cache) == zip_tree(root, Path(folder, "2.zip"))


def test_what_was_compressed_ahead_is_not_compressed_again(tree: Path, tmp_path: Path) -> None:
    lay_out(tree, {"a": "a", "b": "b", "sub/a": "a"})
    cache, deflated = spying()
    ahead = Ahead(tree, cache)
    assert sorted(deflated) == [b"a", b"b"]
    zip_tree(tree, tmp_path / "zip", ahead.cache)
    assert sorted(deflated) == [b"a", b"b"]


@pytest.mark.parametrize("name", ["a.py", "a.so", "__pycache__/a.pyc"])
def test_what_was_touched_meanwhile_ships_as_it_is_though_it_looks_the_same(tmp_path: Path, name: str) -> None:
    """Else an import could have something else shipped than what lies there, and is looked at, afterwards."""
    path = lay_out(tmp_path / "tree", {"0.py": "0", name: "evil", "z.py": "z"}) / name
    before = path.stat()
    ahead = Ahead(tmp_path / "tree")
    path.write_text("good")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with zipfile.ZipFile(io.BytesIO(zip_tree(tmp_path / "tree", tmp_path / "zip", ahead.cache))) as archive:
        assert archive.read(name) == b"good"
        assert archive.testzip() is None


def test_what_the_package_before_had_is_not_read_ahead(tree: Path, tmp_path: Path) -> None:
    """By name and size; where that is wrong it is compressed all the same, by who writes the zip."""
    lay_out(tree, {"same": "same", "changed": "before", "grown": "grown"})
    written = zip_to(walk(tree), tmp_path / "1.zip")
    lay_out(tree, {"changed": "after!", "grown": "has grown", "new": "new"})
    cache, deflated = spying()
    cache.add_package(open_zip(tmp_path / "1.zip"), written.members)
    Ahead(tree, cache)
    assert sorted(deflated) == [b"has grown", b"new"]
    assert zip_tree(tree, tmp_path / "2.zip", cache) == zip_tree(tree, tmp_path / "3.zip")
    assert sorted(deflated) == [b"after!", b"has grown", b"new"]


def test_what_is_gone_by_the_time_holds_up_nothing(tree: Path) -> None:
    """Bytecode of the guess, say, that the handler does not load; and nobody ever writes into the pipe."""
    lay_out(tree, {"folder": "folder", "gone": "gone", "grown": "grown", "pipe": "pipe", "there": "there"})
    listing = walk(tree)
    for name in ("folder", "gone", "pipe"):
        (tree / name).unlink()
    (tree / "folder").mkdir()
    os.mkfifo(tree / "pipe")
    os.truncate(tree / "grown", 10_000_000_000)
    ahead = Ahead(lay_out(tree.parent / "empty", {"x": ""}))
    ahead.compress(listing)
    assert ahead.cache.get(record_digest(b"there"))
    assert not ahead.cache.get(record_digest(b"gone"))


@pytest.mark.parametrize("way", ["link", "folder"])
def test_a_file_from_elsewhere_is_not_shipped(tmp_path: Path, way: str) -> None:
    """It may be compressed, but is found by what it holds only."""
    tree = lay_out(tmp_path / "tree", {"a": "a", "b/c": "mine!!"})
    lay_out(tmp_path / "elsewhere", {"c": "secret"})
    spot = tree / "b/c" if way == "link" else tree / "b"
    listing = walk(tree)
    spot.rename(tmp_path / "aside")
    spot.symlink_to(tmp_path / "elsewhere" / ("c" if way == "link" else ""))
    ahead = Ahead(tmp_path / "elsewhere")
    ahead.compress(listing)
    spot.unlink()
    (tmp_path / "aside").rename(spot)
    with zipfile.ZipFile(io.BytesIO(zip_tree(tree, tmp_path / "zip", ahead.cache))) as archive:
        assert archive.read("b/c") == b"mine!!"


def test_what_is_too_large_is_not_compressed_ahead(tree: Path) -> None:
    lay_out(tree, {"small": "small"})
    with (tree / "large").open("wb") as sparse:
        sparse.truncate(MAX_UNZIPPED_BYTES)
    cache, deflated = spying()
    Ahead(tree, cache)
    assert deflated == []


def test_neither_is_what_the_disk_has_no_room_for(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(tree, {"a": "a" * 1000})
    cache, deflated = spying()
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1999))
    Ahead(tree, cache)
    assert deflated == []
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=2000))
    Ahead(tree, cache)
    assert deflated == [b"a" * 1000]


def test_it_ends_after_the_file_that_it_is_at(tree: Path, tmp_path: Path) -> None:
    lay_out(tree, {"large": "x" * 1000, "small": "y"})
    begun, may_go_on = threading.Event(), threading.Event()

    def slow(content: bytes) -> bytes:
        begun.set()
        assert may_go_on.wait(60)
        return ZLIB.deflate(content)

    cache = CompressedCache(dataclasses.replace(ZLIB, deflate=slow))
    with tempfile.TemporaryFile() as spool:
        ahead = CompressingAhead(cache, spool.fileno())
        ahead.start(walk(tree))
        assert begun.wait(60)
        ahead._is_over.set()
        may_go_on.set()
        ahead.stop()
        assert cache.get(record_digest(b"x" * 1000))
        assert not cache.get(record_digest(b"y"))
        assert zip_tree(tree, tmp_path / "1.zip", cache) == zip_tree(tree, tmp_path / "2.zip")


def test_what_is_left_when_something_goes_wrong_is_compressed_by_who_writes_the_zip(tree: Path, tmp_path: Path) -> None:
    """Memory may run out, say: the package is the same, and the trouble is known."""
    lay_out(tree, {"large": "x" * 3000, "middle": "y" * 2000, "small": "z"})
    given_it: list[bytes] = []

    def failing(content: bytes) -> bytes:
        given_it.append(content[:1])
        if given_it == [b"x", b"y"]:
            raise MemoryError
        return ZLIB.deflate(content)

    ahead = Ahead(tree, CompressedCache(dataclasses.replace(ZLIB, deflate=failing)))
    assert given_it == [b"x", b"y"], "it ends there"
    assert isinstance(ahead.failure, MemoryError)
    assert zip_tree(tree, tmp_path / "1.zip", ahead.cache) == zip_tree(tree, tmp_path / "2.zip")
    assert sorted(given_it[2:]) == [b"y", b"z"]


def test_it_has_ended_when_what_it_was_done_beside_fails(tree: Path) -> None:
    """The spool is closed then, and its number may be that of another file."""
    lay_out(tree, {"a": "a"})
    begun, may_go_on = threading.Event(), threading.Event()

    def slow(content: bytes) -> bytes:
        begun.set()
        assert may_go_on.wait(60)
        return ZLIB.deflate(content)

    cache = CompressedCache(dataclasses.replace(ZLIB, deflate=slow))
    failing = contextlib.suppress(PackageError)
    with tempfile.TemporaryFile() as spool, failing, CompressingAhead(cache, spool.fileno()) as ahead:
        ahead.start(walk(tree))
        assert begun.wait(60)
        threading.Timer(0.1, may_go_on.set).start()
        raise PackageError("cannot be imported")
    assert ahead._thread
    assert not ahead._thread.is_alive()
    assert cache.get(record_digest(b"a"))
