"""The cache never serves what the files no longer hold, is shared between processes, and survives kills and full disks."""

from __future__ import annotations

import errno
import json
import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from ganforge.cli import main
from ganforge.data import cache, decoding, pixels
from ganforge.data.cache import cache_key, cache_root, clear_cache
from ganforge.data.folder import FolderShelf
from ganforge.data.pixels import Read, Stack, read_pixels
from ganforge.data.reading import Reading
from ganforge.errors import RequestError

KEY = "0123456789abcdef" * 4
FILES = st.lists(
    st.tuples(st.text("ab/", min_size=1, max_size=4), st.tuples(st.integers(0, 9), st.integers(0, 9))),
    max_size=5,
    unique_by=lambda file: file[0],
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "pictures"
    path.mkdir()
    for number in range(6):
        Image.new("L", (5, 4), number * 40).save(path / f"{number}.png")
    return path


def read(folder: Path, root: Path, **options: Any) -> Read:
    return read_pixels(FolderShelf(folder), Reading(**{"size": "2", "cache": str(root), **options}))


def levels(found: Read) -> list[int]:
    return [int(value) for value in found.pixels.take(np.arange(len(found.pixels)))[:, 0, 0, 0]]


def entries(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if len(path.name) == 64)


def left(root: Path) -> list[str]:
    """What lies in the cache beside locks, which are empty."""
    return sorted(path.name for path in root.iterdir() if not path.name.startswith(".lock-"))


@given(files=FILES, other=FILES)
def test_keys_are_equal_exactly_where_the_lists_of_files_are(files: list[Any], other: list[Any]) -> None:
    assert (cache_key("/a", 64, files) == cache_key("/a", 64, other)) == (files == other)


@given(
    one=st.tuples(st.sampled_from(["/a", "/b"]), st.tuples(st.integers(1, 3), st.sampled_from(["crop", "pad"])), st.just(())),
    other=st.tuples(st.sampled_from(["/a", "/b"]), st.tuples(st.integers(1, 3), st.sampled_from(["crop", "pad"])), st.just(())),
)
def test_keys_are_equal_exactly_where_the_place_and_the_wish_are(one: Any, other: Any) -> None:
    assert (cache_key(*one) == cache_key(*other)) == (one == other)


def test_every_way_to_read_has_an_entry_of_its_own_and_the_same_way_the_same(folder: Path, root: Path) -> None:
    ways: list[dict[str, Any]] = [{}, {"size": "3"}, {"size": "2x3"}, {"size": "3x2"}, {"channels": 3}, {"channels": 1}, {"jitter": 4}]
    ways += [{"fit": fit} for fit in ("pad", "stretch", "patch")]
    for way in [*ways, *ways, {"workers": 3}]:
        read(folder, root, **way)
    assert len(entries(root)) == len(ways)
    assert read(folder, root, size="6").pixels.height == 6
    assert len(entries(root)) == len(ways), "2 pixels and jitter 4 are the 6 decoded before"


def test_an_entry_says_what_it_is_and_lies_mapped_on_the_disk(folder: Path, root: Path) -> None:
    found = read(folder, root)
    (entry,) = entries(root)
    about = json.loads((entry / "about.json").read_text())
    expected = {
        "what": "pictures decoded by ganforge",
        "origin": str(folder),
        "height": 2,
        "width": 2,
        "fit": "crop",
        "count": 6,
        "channels": 1,
    }
    assert about == {**expected, "skipped": {}}
    assert isinstance(found.pixels, Stack)
    assert not found.pixels.pixels.flags.writeable
    base: object = found.pixels.pixels
    while isinstance(base, np.ndarray):
        base = base.base
    assert isinstance(base, mmap.mmap)


def test_a_second_reading_decodes_nothing(folder: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = levels(read(folder, root))
    monkeypatch.setattr(decoding, "decode", None)
    assert levels(read(folder, root)) == first == [0, 40, 80, 120, 160, 200]


def test_pictures_are_served_after_the_cache_and_the_folder_have_vanished(folder: Path, root: Path) -> None:
    found = read(folder, root)
    clear_cache(root)
    for file in folder.iterdir():
        file.unlink()
    assert levels(found) == [0, 40, 80, 120, 160, 200]


@pytest.mark.parametrize("name", ["pixels.npy", "about.json", "shapes.npy"])
@pytest.mark.parametrize("content", [None, b"", b"{}", b"[]", b"\x93NUMPY", "half"])
def test_a_damaged_entry_is_made_anew(folder: Path, root: Path, name: str, content: bytes | str | None) -> None:
    way = {"fit": "patch"} if name == "shapes.npy" else {}
    expected = levels(read(folder, root, **way))
    (entry,) = entries(root)
    whole = (entry / name).read_bytes()
    (entry / name).unlink()
    if content is not None:
        (entry / name).write_bytes(whole[: len(whole) - 7] if content == "half" else bytes(content))  # type: ignore[arg-type]
    assert cache.load(entry) is None
    assert levels(read(folder, root, **way)) == expected
    assert cache.load(entry) is not None
    assert left(root) == [entry.name]


def test_an_entry_of_other_numbers_than_it_says_is_made_anew(folder: Path, root: Path) -> None:
    read(folder, root)
    (entry,) = entries(root)
    for wrong in (
        np.zeros((5, 2, 2, 1), np.uint8),
        np.zeros((6, 2, 2, 3), np.uint8),
        np.zeros((6, 2, 2, 1), np.int16),
        np.zeros(24, np.uint8),
    ):
        np.save(entry / "pixels.npy", wrong)
        assert cache.load(entry) is None
    assert levels(read(folder, root))[1] == 40


def test_patches_of_other_shapes_than_it_says_are_made_anew(folder: Path, root: Path) -> None:
    expected = levels(read(folder, root, fit="patch"))
    (entry,) = entries(root)
    np.save(entry / "pixels.npy", np.zeros(119, np.uint8))
    assert cache.load(entry) is None
    assert levels(read(folder, root, fit="patch")) == expected
    np.save(entry / "shapes.npy", np.full((5, 2), 4))
    assert cache.load(entry) is None


def test_nothing_is_left_of_a_decoding_that_was_interrupted(folder: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(file: BinaryIO, *_: object) -> NDArray[np.uint8]:
        file.close()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(decoding, "decode", interrupted)
        with pytest.raises(KeyboardInterrupt):
            read(folder, root)
    assert left(root) == []
    assert levels(read(folder, root))[1] == 40


def test_strict_refuses_the_first_bad_file_whether_it_is_cached_or_not(folder: Path, root: Path) -> None:
    (folder / "1.png").write_bytes(b"")
    (folder / "3.png").write_bytes(b"no picture")
    for attempt in range(2):
        with pytest.raises(RequestError, match=r"pictures/1\.png: empty file; mend or remove it, or leave out --strict"):
            read(folder, root, strict=True)
        assert len(left(root)) == attempt
        found = read(folder, root)
        assert found.numbers.tolist() == [0, 2, 4, 5]
        assert found.notes == ["2 of 6 files skipped: 1.png (empty file), 3.png (not a picture, or of a format that is not read)"]
        assert list(found.skipped) == [1, 3]


# What the other process runs: it reads argv's folder into argv's cache, each picture slowly, and says when it has begun and ended.
OTHER = """
import sys, time
from pathlib import Path
from ganforge.data import cache, decoding
from ganforge.data.folder import FolderShelf
from ganforge.data.pixels import read_pixels
from ganforge.data.reading import Reading
folder, root, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
cache._PATIENCE = 0.05
shelf, whole = FolderShelf(folder), decoding.decode
def slow(*arguments):
    print("decoding", flush=True)
    time.sleep(seconds)
    return whole(*arguments)
decoding.decode = slow
print("ready", flush=True)
sys.stdin.readline()
found = read_pixels(shelf, Reading(size="2", cache=root, workers=1))
print("served", len(found.pixels), flush=True)
"""


@contextmanager
def another(folder: Path, root: Path, seconds: float) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", OTHER, str(folder), str(root), str(seconds)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def begin(process: subprocess.Popen[str]) -> None:
    """Lets it read; comes back when it decodes."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "decoding\n"


def test_of_two_processes_one_decodes_and_the_other_waits_and_says_so(folder: Path, root: Path) -> None:
    with another(folder, root, 0.15) as one, another(folder, root, 0.15) as two:
        begin(one)
        said, complained = two.communicate("\n", timeout=60)
        assert one.communicate(timeout=60) == ("decoding\n" * 5 + "served 6\n", "")
    assert said == "served 6\n"
    assert complained == "waiting for another process that decodes the same pictures\n"
    assert len(left(root)) == 1


def test_what_a_killed_process_left_is_removed_by_the_next_even_of_another_folder(folder: Path, root: Path, tmp_path: Path) -> None:
    with another(folder, root, 0.1) as process:
        begin(process)
        (draft,) = root.glob(".draft-*")
        (tmp_path / "other").mkdir()
        Image.new("L", (2, 2)).save(tmp_path / "other" / "a.png")
        read(tmp_path / "other", root)
        assert draft.is_dir(), "its maker lives"
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
    assert draft.is_dir()
    read(tmp_path / "other", root, size="3")
    assert not draft.exists()
    assert levels(read(folder, root))[1] == 40


def test_the_killed_process_itself_begins_anew(folder: Path, root: Path) -> None:
    with another(folder, root, 0.1) as process:
        begin(process)
        process.kill()
        process.wait(timeout=60)
    assert levels(read(folder, root)) == [0, 40, 80, 120, 160, 200]
    assert left(root) == [entries(root)[0].name]


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("fit", ["crop", "patch"])
def test_a_disk_that_is_full_leaves_a_few_pictures_in_memory(folder: Path, root: Path, monkeypatch: pytest.MonkeyPatch, fit: str) -> None:
    expected = levels(read(folder, root / "whole", fit=fit))
    monkeypatch.setattr(cache, "_write_header", full)
    found = read(folder, root, fit=fit)
    assert levels(found) == expected
    assert not found.pixels.slow
    assert found.notes == [f"decoded into memory: the cache {root} cannot be written (No space left on device)"]
    assert left(root) == ["whole"]


@pytest.mark.parametrize("fit", ["crop", "patch"])
def test_a_disk_that_is_full_leaves_many_pictures_to_be_decoded_as_they_are_drawn(
    folder: Path, root: Path, monkeypatch: pytest.MonkeyPatch, fit: str
) -> None:
    expected = levels(read(folder, root / "whole", fit=fit))
    monkeypatch.setattr(cache, "_write_header", full)
    monkeypatch.setattr(pixels, "_IN_MEMORY", 8)
    found = read(folder, root, fit=fit)
    assert found.pixels.slow
    assert levels(found) == expected
    (note,) = found.notes
    assert note.startswith("decoded as they are drawn, which is slower: the cache")


def test_room_that_is_missing_is_noticed_before_anything_is_decoded(folder: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_SPARE", 2**60)
    monkeypatch.setattr(pixels, "_IN_MEMORY", 0)
    found = read(folder, root)
    assert found.pixels.slow
    assert "GiB needed" in found.notes[0]
    assert left(root) == []


def test_a_small_disk_that_fills_up_is_survived(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        monkeypatch.setattr(cache, "check_room", lambda *_: None)
        found = read(folder, disk, size="128")
        assert found.notes == [f"decoded into memory: the cache {disk} cannot be written (No space left on device)"]
        assert levels(found) == [0, 40, 80, 120, 160, 200]
        assert left(disk) == []
        assert read(folder, disk, size="16").notes == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_cache_that_is_no_folder_is_done_without(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (folder / "1.png").write_bytes(b"")
    found = read(folder, tmp_path / "file" / "cache")
    assert levels(found) == [0, 80, 120, 160, 200]
    assert [note.partition(":")[0] for note in found.notes] == ["decoded into memory", "1 of 6 files skipped"]


def test_the_cache_is_where_the_option_the_environment_or_the_home_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("GANFORGE_CACHE", "/elsewhere")
    assert cache_root("~/here") == Path("/home/me/here")
    assert cache_root() == Path("/elsewhere")
    monkeypatch.delenv("GANFORGE_CACHE")
    assert cache_root() == Path("/home/me/.cache/ganforge")
    assert cache_root("none") is None


def test_clearing_removes_what_ganforge_made_and_nothing_else(folder: Path, root: Path) -> None:
    assert clear_cache(root) == (0, 0)
    read(folder, root)
    read(folder, root, fit="patch")
    (root / f".draft-{KEY}").mkdir()
    (root / f".draft-{KEY}" / "pixels.npy").write_bytes(b"x" * 100)
    (root / f"shard-{KEY}.json").write_text("{}")
    (root / f"reader-{KEY}.safetensors").write_bytes(b"x" * 10)
    size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    mine = [root / "photo.png", root / KEY[:-1], root / "f" / KEY, root / ("f" * 64), root / ("e" * 64) / "mine.txt", root / ".lock-mine"]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    (root / "empty").mkdir()
    (root / ("d" * 64)).symlink_to(root / "empty", target_is_directory=True)
    assert clear_cache(root) == (5, size)
    assert all(path.read_text() == "mine" for path in mine)
    assert (root / ("d" * 64)).is_symlink()
    assert {path.name for path in root.iterdir()} == {"photo.png", KEY[:-1], "empty", "f", "f" * 64, "e" * 64, "d" * 64, ".lock-mine"}
    assert clear_cache(root) == (0, 0)


def test_clearing_leaves_what_another_is_making(folder: Path, root: Path) -> None:
    read(folder, root)
    (root / f".draft-{KEY}").mkdir()
    with FileLock(root / f".lock-{KEY}"):
        assert clear_cache(root)[0] == 1
        assert {path.name for path in root.iterdir()} == {f".draft-{KEY}", f".lock-{KEY}"}
    assert clear_cache(root) == (1, 0)


def test_the_command_clears_the_folder_it_is_told_and_says_how_much(folder: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read(folder, root)
    assert main(["data", "--clear", "--cache", str(root)]) == 0
    assert capsys.readouterr().out == f"{root}: 1 entries removed, 0.0 MiB freed\n"
    assert list(root.iterdir()) == []
    for arguments in (["data", "--clear", "--cache", "none"], ["data", str(folder), "--clear"]):
        assert main(arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "clear" in line
