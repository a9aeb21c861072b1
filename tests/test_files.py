"""Zips hold the tree and nothing else, in the same bytes each time."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import os
import shutil
import socket
import stat
import tempfile
import threading
import zipfile
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import deflate
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.embedded import lay_out
from yo_dawg.archives import MAX_UNZIPPED_BYTES, ZLIB, Archive, Deflater, Former, Packed, Shelf, unzip, write_zip
from yo_dawg.control.job import Job
from yo_dawg.control.package import Ahead
from yo_dawg.control.toolchain import requirement_group
from yo_dawg.errors import PackageError
from yo_dawg.trees import identity, same_files, tree_files, walk
from yo_dawg.workspace import Workspace, remove_tree


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    made = tmp_path / "tree"
    made.mkdir()
    return made


def test_the_same_tree_gives_the_same_bytes(tmp_path: Path) -> None:
    made = []
    for number, names in enumerate((["b.py", "a/c.py"], ["a/c.py", "b.py"])):
        root = tmp_path / str(number)
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(name)
            (root / name).chmod(0o600 if number else 0o666)
            os.utime(root / name, (number * 1e9, number * 1e9))
        made.append(write_zip(root, tmp_path / f"{number}.zip"))
    first, second = (path_of(archive).read_bytes() for archive in made)
    assert first == second
    assert made[0].sha256 == made[1].sha256 == b64encode(hashlib.sha256(first).digest()).decode()
    assert made[0].hex_digest == hashlib.sha256(first).hexdigest()


def test_names_are_sorted_and_modes_are_ours(tree: Path, tmp_path: Path) -> None:
    for name, mode in (("z.sh", 0o700), ("a.py", 0o600), ("locked.py", 0o000), ("suid", 0o4755)):
        (tree / name).write_text("x")
        (tree / name).chmod(mode)
    archive = write_zip(tree, tmp_path / "zip")
    with zipfile.ZipFile(path_of(archive)) as written:
        modes = {info.filename: oct(info.external_attr >> 16) for info in written.infolist()}
        assert {info.date_time for info in written.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert list(modes.items()) == [
        ("a.py", "0o100644"), ("locked.py", "0o100644"), ("suid", "0o100755"), ("z.sh", "0o100755"),
    ]  # fmt: skip
    assert (archive.files, archive.unzipped_bytes) == (4, 4)


def test_a_directory_that_a_build_has_locked_is_opened(tree: Path) -> None:
    (tree / "locked").mkdir()
    (tree / "locked/a.py").write_text("x")
    (tree / "locked").chmod(0o000)
    assert [name for name, _ in tree_files(tree)] == ["locked/a.py"]


def test_links_inside_of_the_tree_are_followed(tree: Path, tmp_path: Path) -> None:
    (tree / "lib").mkdir()
    (tree / "lib/a.py").write_text("content")
    (tree / "b.py").symlink_to("lib/a.py")
    (tree / "also").symlink_to("lib", target_is_directory=True)
    write_zip(tree, tmp_path / "zip")
    with zipfile.ZipFile(tmp_path / "zip") as written:
        assert written.namelist() == ["also/a.py", "b.py", "lib/a.py"]
        assert {written.read(name) for name in written.namelist()} == {b"content"}
        assert {stat.S_IFMT(info.external_attr >> 16) for info in written.infolist()} == {stat.S_IFREG}


@pytest.mark.parametrize(
    ("target", "words"),
    [
        pytest.param("../secret", "outside of the package", id="out by .."),
        pytest.param("/etc/passwd", "outside of the package", id="absolute"),
        pytest.param("/proc/self/environ", "outside of the package", id="into /proc"),
        pytest.param("..", "outside of the package", id="the directory above"),
        pytest.param("inner", "outside of the package", id="through another link"),
        pytest.param("nowhere", "is not there", id="dangling"),
        pytest.param("link", "is not there", id="to itself"),
        pytest.param(".", "loop of links", id="a loop of directories"),
    ],
)
def test_a_link_that_leaves_the_tree_is_refused_by_name(tree: Path, target: str, words: str) -> None:
    (tree.parent / "secret").write_text("secret")
    (tree / "link").symlink_to(target)
    if target == "inner":
        (tree / "inner").symlink_to("../secret")
    with pytest.raises(PackageError, match=words) as refused:
        list(tree_files(tree))
    assert "'link'" in str(refused.value) or "'inner'" in str(refused.value)


def test_a_wider_boundary_lets_links_lead_to_its_edge(tmp_path: Path) -> None:
    for name in ("repo/app", "repo/common"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "repo/common/a.py").write_text("")
    (tmp_path / "repo/app/link").symlink_to("../common/a.py")
    assert [name for name, _ in tree_files(tmp_path / "repo/app", tmp_path / "repo")] == ["link"]
    with pytest.raises(PackageError):
        list(tree_files(tmp_path / "repo/app"))


def test_pipes_and_sockets_are_refused_not_read(tree: Path) -> None:
    os.mkfifo(tree / "pipe")
    with pytest.raises(PackageError, match="'pipe'"):
        list(tree_files(tree))
    (tree / "pipe").unlink()
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{short}/socket")
        with pytest.raises(PackageError, match="'socket'"):
            list(tree_files(Path(short)))


def test_a_tree_deeper_than_a_path_may_be_long_is_refused(tree: Path) -> None:
    here = os.open(tree, os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    try:
        with pytest.raises(PackageError, match="nested too deep"):
            list(tree_files(tree))
    finally:
        remove_tree(tree)  # pytest's own cleaning recurses, and would fail in a later session


def test_a_name_that_is_not_utf_8_is_refused(tree: Path, tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tree) + b"/caf\xe9.py")).write_text("")
    with pytest.raises(PackageError, match="not UTF-8"):
        write_zip(tree, tmp_path / "zip")


def test_unzip_keeps_the_executable_bit(tree: Path, tmp_path: Path) -> None:
    for name, mode in (("bin/uv", 0o755), ("lib/a.py", 0o644)):
        (tree / name).parent.mkdir()
        (tree / name).write_text(name)
        (tree / name).chmod(mode)
    write_zip(tree, tmp_path / "zip")
    with (tmp_path / "zip").open("rb") as file:
        unzip(Former(file), Former(file).names, tmp_path / "out")
    assert os.access(tmp_path / "out/bin/uv", os.X_OK)
    assert not (tmp_path / "out/lib/a.py").stat().st_mode & stat.S_IXUSR


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
        archive = write_zip(root, Path(folder, "zip"))
        with zipfile.ZipFile(path_of(archive)) as written:
            assert written.testzip() is None
            got = {name: written.read(name) for name in written.namelist()}
        assert got == {f"{directory}/{name}": content for directory, (name, content) in files.items()}
        assert archive.unzipped_bytes == sum(len(content) for _, content in files.values())
        assert archive.zip_bytes == path_of(archive).stat().st_size


def path_of(archive: Archive) -> Path:
    """Return where a zip was written to."""
    return Path(archive.zipped.file.name)


def spying() -> tuple[Deflater, list[bytes]]:
    """Return what compresses as zlib does, and a list of what it was given."""
    given_it: list[bytes] = []

    def deflate_it(content: bytes) -> Packed:
        given_it.append(content)
        return ZLIB.deflate(content)

    return Deflater(ZLIB.name, deflate_it), given_it


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
    with tempfile.TemporaryDirectory() as folder:
        zips = []
        for number, files in enumerate([before, after]):
            root = Path(folder, str(number))
            root.mkdir()
            write_files(root, files)
            zips.append(write_zip(root, Path(folder, f"{number}.zip")))
        with path_of(zips[0]).open("rb") as file:
            spy, deflated = spying()
            again = write_zip(root, Path(folder, "again.zip"), Former(file), spy)
        assert path_of(again).read_bytes() == path_of(zips[1]).read_bytes()
        assert len(deflated) == len(after.items() - before.items())


@pytest.mark.parametrize("size", [4 << 20, (4 << 20) + 1, (6 << 20) - 1, 6 << 20])
def test_large_files_too_with_any_number_of_processors(
    tree: Path, tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (b"".join(b"%d " % number for number in range(1_000_000)))[:size]
    (tree / "model.bin").write_bytes(content)
    (tree / "a.py").write_text("a")
    (tree / "z.py").write_text("z")
    many = write_zip(tree, tmp_path / "many.zip")
    with zipfile.ZipFile(path_of(many)) as written:
        assert written.testzip() is None
        assert written.read("model.bin") == content
    with path_of(many).open("rb") as file:
        spy, deflated = spying()
        again = write_zip(tree, tmp_path / "again.zip", Former(file), spy)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    one = write_zip(tree, tmp_path / "one.zip")
    assert path_of(many).read_bytes() == path_of(one).read_bytes() == path_of(again).read_bytes()
    assert deflated == []


def test_members_of_a_zip_that_another_made_are_not_taken_over(tree: Path, tmp_path: Path) -> None:
    (tree / "a.py").write_text("a = 1\n" * 100)
    with zipfile.ZipFile(tmp_path / "other.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as other:
        other.write(tree / "a.py", "a.py")
    with (tmp_path / "other.zip").open("rb") as file:
        spy, deflated = spying()
        write_zip(tree, tmp_path / "zip", Former(file), spy)
    assert deflated == [b"a = 1\n" * 100]


def test_neither_are_those_that_were_compressed_with_something_else(tree: Path, tmp_path: Path) -> None:
    (tree / "a.py").write_text("a = 1\n" * 100)
    libdeflate = Deflater("libdeflate", lambda content: bytes(deflate.deflate_compress(content, 7)))
    for target, former, deflater in (("1", None, ZLIB), ("2", "1", libdeflate), ("3", None, libdeflate)):
        with contextlib.ExitStack() as stack:
            before = Former(stack.enter_context((tmp_path / former).open("rb"))) if former else None
            write_zip(tree, tmp_path / target, before, deflater)
    assert (tmp_path / "2").read_bytes() == (tmp_path / "3").read_bytes() != (tmp_path / "1").read_bytes()
    with zipfile.ZipFile(tmp_path / "2") as written:
        assert written.read("a.py") == b"a = 1\n" * 100


def test_a_file_that_is_as_it_was_is_not_read_again(tree: Path, tmp_path: Path) -> None:
    """What was written since, or put in its place, is."""
    for name in ("a.py", "b.py", "c.py"):
        (tree / name).write_text(name)
    identities = {path.name: identity(path.stat()) for path in tree.iterdir()}
    write_zip(tree, tmp_path / "before.zip")
    (tree / "b.py").write_text("B.py")
    (tree / "new").write_text("C.py")
    (tree / "new").rename(tree / "c.py")
    (tree / "a.py").chmod(0o444)
    spy, deflated = spying()
    with (tmp_path / "before.zip").open("rb") as file:
        archive = write_zip(tree, tmp_path / "zip", Former(file, identities), spy)
    assert sorted(deflated) == [b"B.py", b"C.py"]
    with zipfile.ZipFile(path_of(archive)) as written:
        assert [written.read(name) for name in ("a.py", "b.py", "c.py")] == [b"a.py", b"B.py", b"C.py"]


# --- Compressing while a project's code runs --------------------------------------------------------------


@contextlib.contextmanager
def compressing(folder: Path, deflater: Deflater) -> Iterator[Ahead]:
    """Compress beside the caller, into files in this folder, without a former package."""
    former: Future[Former | None] = Future()
    former.set_result(None)
    with ThreadPoolExecutor(1) as aside:
        job = cast(Job, SimpleNamespace(aside=aside, space=Workspace(folder)))
        with Ahead(former, deflater, job) as ahead:
            yield ahead


def compress_ahead(tree: Path, deflater: Deflater, change: Callable[[], object] = lambda: None) -> bytes:
    """Compress the files that are in a tree now, ahead of a change; return the package of what is there then."""
    with compressing(tree.parent, deflater) as ahead:
        before = walk(tree)
        ahead.add(before)
        ahead.compressed()
        change()
        after = walk(tree)
        archive, _ = ahead.finish(after, same_files(before, after))
        archive.zipped.file.seek(0)
        return archive.zipped.file.read()


@given(before=TREES, after=TREES, executable=st.sets(FILES))
def test_the_bytes_are_the_same_whatever_was_compressed_ahead(
    before: dict[str, bytes], after: dict[str, bytes], executable: set[str]
) -> None:
    """Files may have been added, changed, taken away, and made executable since."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "tree")
        root.mkdir()
        write_files(root, before)

        def change() -> None:
            for name in before.keys() - after.keys():
                (root / name).unlink()
            for path in write_files(root, dict(after.items() - before.items())):
                os.utime(path, (1, 1))  # all of this may take less than a tick of the clock
            for name in executable & after.keys():
                (root / name).chmod(0o755)

        made = compress_ahead(root, ZLIB, change)
        assert made == path_of(write_zip(root, Path(folder, "2.zip"))).read_bytes()


@pytest.mark.parametrize("name", ["a.py", "a.so", "__pycache__/a.pyc"])
def test_what_was_touched_meanwhile_is_compressed_again_though_it_looks_the_same(tmp_path: Path, name: str) -> None:
    """Else an import could have something else shipped than what lies there, and is looked at, afterwards."""
    path = lay_out(tmp_path / "tree", {"0.py": "0", name: "evil", "z.py": "z"}) / name
    before = path.stat()

    def cover_up() -> None:
        while path.stat().st_ctime_ns == before.st_ctime_ns:  # a clock of the kernel's may tick every 4 ms only
            path.write_text("good")
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert identity(path.stat()) == identity(before)

    with zipfile.ZipFile(io.BytesIO(compress_ahead(tmp_path / "tree", ZLIB, cover_up))) as archive:
        assert archive.read(name) == b"good"
        assert archive.testzip() is None


def test_libraries_come_first_in_a_package_and_bytecode_last(tree: Path, tmp_path: Path) -> None:
    names = ["a/__init__.py", "a/b.so", "a/__pycache__/b.pyc", "a.libs/c.so.1.2", "z.so", "z/tests/d.so", "so/e.txt"]
    lay_out(tree, dict.fromkeys(names, "x"))
    write_zip(tree, tmp_path / "zip")
    with zipfile.ZipFile(tmp_path / "zip") as archive:
        assert archive.namelist() == [
            "a.libs/c.so.1.2", "a/b.so", "z.so", "a/__init__.py", "so/e.txt", "z/tests/d.so", "a/__pycache__/b.pyc",
        ]  # fmt: skip


def test_a_pipe_in_the_place_of_a_file_does_not_hang(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    victim = tmp_path / "tree/b"
    victim.write_text("b")
    usage = shutil.disk_usage

    def compress() -> None:
        with compressing(tmp_path, ZLIB) as ahead:
            ahead.add(walk(tmp_path / "tree"))
            ahead.compressed()

    def late(path: Any) -> Any:  # between the look and the read
        victim.unlink()
        os.mkfifo(victim)
        return usage(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "disk_usage", late)
        thread = threading.Thread(target=compress, daemon=True)
        thread.start()
        thread.join(3)
        hangs = thread.is_alive()
        if hangs:
            os.close(os.open(victim, os.O_WRONLY | os.O_NONBLOCK))
            thread.join()
    assert not hangs


@pytest.mark.parametrize("way", ["link", "folder"])
def test_a_file_from_elsewhere_is_not_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    tree = tmp_path / "tree"
    lay_out(tree, {"a": "a", "b/c": "mine!!"})
    lay_out(tmp_path / "elsewhere", {"c": "secret"})
    spot = tree / "b/c" if way == "link" else tree / "b"

    def deflate_and_swap(content: bytes) -> Packed:
        if content == b"a":
            spot.rename(tmp_path / "aside")
            spot.symlink_to(tmp_path / "elsewhere" / ("c" if way == "link" else ""))
        elif spot.is_symlink():
            spot.unlink()
            (tmp_path / "aside").rename(spot)
        return ZLIB.deflate(content)

    def swap_back() -> None:
        if spot.is_symlink():
            spot.unlink()
            (tmp_path / "aside").rename(spot)

    package = compress_ahead(tree, dataclasses.replace(ZLIB, deflate=deflate_and_swap), swap_back)
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        assert archive.read("b/c") == b"mine!!"


def test_what_is_too_large_is_not_compressed_ahead(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    with (tmp_path / "tree/a").open("wb") as sparse:
        sparse.truncate(MAX_UNZIPPED_BYTES + 1)
    spy, deflated = spying()
    with compressing(tmp_path, spy) as ahead:
        ahead.add(walk(tmp_path / "tree"))
        assert not [*ahead.compressed()[0].names]
    assert deflated == []


def test_what_was_compressed_before_there_was_too_much_counts(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yo_dawg.control.doctor.MAX_UNZIPPED_BYTES", 1500)
    monkeypatch.setattr("yo_dawg.control.package.MAX_UNZIPPED_BYTES", 1500)
    monkeypatch.setattr("yo_dawg.workshop.package.bytecode.MAX_UNZIPPED_BYTES", 1500)
    monkeypatch.setattr("yo_dawg.workshop.package.sizes.MAX_UNZIPPED_BYTES", 1500)
    lay_out(tree, {"a": "a" * 1000})
    with compressing(tree.parent, ZLIB) as ahead:
        ahead.add(walk(tree))
        lay_out(tree, {"b": "b" * 1000})
        ahead.add(walk(tree))
        assert list(ahead.compressed()[0].names) == ["a"]


def test_a_file_that_grows_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/a").write_text("a")
    usage = shutil.disk_usage

    def late(path: Any) -> Any:
        os.truncate(tmp_path / "tree/a", 100_000_000)
        return usage(path)

    monkeypatch.setattr(shutil, "disk_usage", late)
    spy, deflated = spying()
    with compressing(tmp_path, spy) as ahead:
        ahead.add(walk(tmp_path / "tree"))
        ahead.compressed()
    assert deflated == []


@pytest.mark.parametrize("error", [MemoryError, zipfile.LargeZipFile, RuntimeError])
def test_whatever_goes_wrong_ahead_is_done_again(tmp_path: Path, error: type[Exception]) -> None:
    lay_out(tmp_path / "tree", {"a": "a"})

    def fail(_: bytes) -> bytes:
        raise error

    with compressing(tmp_path, Deflater("bad", fail)) as ahead:
        ahead.add(walk(tmp_path / "tree"))
        assert ahead.compressed() == []
        with pytest.raises(error):
            ahead.finish(walk(tmp_path / "tree"), frozenset())


# --- What an environment keeps ---------------------------------------------------------------------------------


def zip_of(folder: Path, size: int) -> tuple[str, Former]:
    """Return a zip of about so many bytes, and its digest."""
    (folder / str(size)).mkdir()
    (folder / str(size) / "a").write_bytes(os.urandom(size))
    archive = write_zip(folder / str(size), folder / f"{size}.zip")
    return archive.hex_digest, archive.zipped


def test_zips_are_kept_as_long_as_there_is_room_the_one_used_last_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yo_dawg.archives.MAX_SHELF_BYTES", 7000)
    monkeypatch.setattr("yo_dawg.workshop.package.reuse.MAX_SHELF_BYTES", 7000)
    shelf = Shelf()
    (one, first), (two, second), (three, third) = (zip_of(tmp_path, size) for size in (2000, 3000, 4000))
    shelf.put(one, first)
    shelf.put(two, second)
    assert shelf.get(one) is first
    shelf.put(three, third)
    assert [each in shelf for each in (one, two, three)] == [True, False, True]
    shelf.make_room(3000)
    assert [each in shelf for each in (one, two, three)] == [True, False, False]


def test_a_zip_is_not_kept_if_it_is_another(tmp_path: Path) -> None:
    shelf, (name, zipped) = Shelf(), zip_of(tmp_path, 2000)
    shelf.put(name, zipped)
    os.pwrite(zipped.fileno(), b"x", 1000)
    assert shelf.get(name) is None
    assert name not in shelf


# --- Requirement groups --------------------------------------------------------------------------------------


def test_requirement_groups_are_told_apart() -> None:
    text = "# why\n# --- one: first ---\na==1 \\\n    --hash=sha256:0\n# --- two: second ---\nb==2\n"
    assert requirement_group(text, "one") == "a==1 \\\n    --hash=sha256:0\n"
    assert requirement_group(text, "two") == "b==2\n"
