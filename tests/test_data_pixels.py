"""Pixels are the same whether they come from the cache, from memory or are decoded as they are drawn; and batches drawn ahead too."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image

from ganforge.data import cache, pixels
from ganforge.data.ahead import Ahead
from ganforge.data.decoding import grey_or_rgb
from ganforge.data.finding import find_shelf
from ganforge.data.folder import FolderShelf
from ganforge.data.pixels import Pixels, Ragged, Read, Stack, read_pixels
from ganforge.data.reading import Reading
from ganforge.errors import RequestError, TrainingError

SIZES = [(40, 30), (20, 50), (9, 9), (64, 64), (33, 17), (16, 16), (12, 40)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "pictures"
    path.mkdir()
    random = np.random.default_rng(0)
    for number, size in enumerate(SIZES):
        Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path / f"{number}.png")
    return path


def read(folder: Path, **options: Any) -> Read:
    return read_pixels(FolderShelf(folder), Reading(**options))


def corners(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(1).random((count, 2), dtype=np.float32)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch", "patch"])
@pytest.mark.parametrize("jitter", [0, 5])
def test_cached_in_memory_and_on_demand_are_the_same_pixels(
    folder: Path, fit: str, jitter: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"size": "16x12", "fit": fit, "jitter": jitter}
    kept, drawn = read(folder, **options), read(folder, **options, cache="none", workers=3)
    (tmp_path / "file").touch()
    memory = read(folder, **options, cache=str(tmp_path / "file" / "x"))
    assert (kept.pixels.slow, memory.pixels.slow, drawn.pixels.slow) == (False, False, True)
    indices = np.array([6, 0, 3, 3, 2, 5, 1, 4])
    for corner in (None, corners(len(indices))):
        taken = [found.pixels.take(indices, corner) for found in (kept, memory, drawn)]
        assert taken[0].shape == (8, 12, 16, 3)
        assert (taken[0] == taken[1]).all()
        assert (taken[0] == taken[2]).all()


@pytest.mark.parametrize("source", ["crop", "patch"])
def test_a_cut_lies_where_its_corner_says(folder: Path, source: str) -> None:
    """floor(corner * (places there are)) down and across: 0 is the first place, just below 1 the last."""
    found = read(folder, size="8", fit=source, jitter=3).pixels
    for number, size in enumerate(SIZES):
        whole = (
            np.asarray(Image.open(folder / f"{number}.png"))
            if source == "patch"
            else read(folder, size="11").pixels.take(np.array([number]))[0]
        )
        room = (size[0] - 8, size[1] - 8) if source == "patch" else (3, 3)
        for corner in ([0, 0], [0.999999, 0.999999], [0.3, 0.8]):
            top, left = (int(np.floor(np.float32(place) * (free + 1))) for place, free in zip(corner, room, strict=True))
            taken = found.take(np.array([number]), np.array([corner], dtype=np.float32))[0]
            assert (taken == whole[top : top + 8, left : left + 8]).all()
        taken = found.take(np.array([number]))[0]
        assert (taken == whole[room[0] // 2 : room[0] // 2 + 8, room[1] // 2 : room[1] // 2 + 8]).all()


@given(
    pictures=arrays.arrays(np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6), st.sampled_from([1, 3]))),
    data=st.data(),
)
def test_a_stack_and_a_ragged_row_of_the_same_pictures_cut_alike(pictures: NDArray[np.uint8], data: st.DataObject) -> None:
    count, height, width, channels = pictures.shape
    shape = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    indices = np.array(data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=5)))
    corner = np.array(
        data.draw(st.lists(st.tuples(*[st.floats(0, 1, exclude_max=True, width=32)] * 2), min_size=5, max_size=5)), dtype=np.float32
    )
    shapes = np.tile(np.array([[height, width]]), (count, 1))
    one, other = Stack(pictures, shape), Ragged(pictures.ravel(), shapes, channels, shape)
    assert len(one) == len(other) == count
    assert (one.take(indices, corner) == other.take(indices, corner)).all()
    assert (one.take(indices) == other.take(indices)).all()


def test_a_corner_next_to_one_still_lies_within_the_picture() -> None:
    """In 32 bits, 0.99999994 times 2^24 + 1 places rounds up to all of them."""
    just_below = np.nextafter(np.float32(1), np.float32(0))
    wide = Stack(np.broadcast_to(np.uint8(7), (1, 1, 2**24 + 1, 1)), (1, 1))
    assert wide.take(np.array([0]), np.array([[0, just_below]], dtype=np.float32)).tolist() == [[[[7]]]]


def test_what_is_taken_may_be_written_into(folder: Path) -> None:
    for options in ({}, {"jitter": 2}, {"fit": "patch"}, {"cache": "none"}):
        found = read(folder, size="8", **options).pixels
        first = found.take(np.array([0, 1]))
        kept = first.copy()
        first[:] = 0
        assert (found.take(np.array([0, 1])) == kept).all()


def test_the_size_is_the_readings_else_the_default_else_64(folder: Path) -> None:
    shelf = FolderShelf(folder)
    assert read_pixels(shelf, Reading()).pixels.take(np.array([0])).shape == (1, 64, 64, 3)
    assert read_pixels(shelf, Reading(), (6, 8)).pixels.take(np.array([0])).shape == (1, 6, 8, 3)
    assert read_pixels(shelf, Reading(size="10x5"), (6, 8)).pixels.take(np.array([0])).shape == (1, 5, 10, 3)


@pytest.mark.parametrize("where", [None, "none"])
def test_one_colour_picture_makes_all_rgb_and_channels_decides_otherwise(folder: Path, where: str | None) -> None:
    for number in range(6):
        Image.new("L", (5, 5), number).save(folder / f"{number}.png")
    shelf = FolderShelf(folder)
    assert read_pixels(shelf, Reading(cache=where)).pixels.channels == grey_or_rgb(shelf) == 3
    assert read_pixels(shelf, Reading(cache=where, channels=1)).pixels.channels == 1
    assert read_pixels(shelf.subset(range(6)), Reading(cache=where)).pixels.channels == grey_or_rgb(shelf.subset(range(6))) == 1


def test_any_number_of_workers_decodes_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(200):
        Image.new("L", (3, 3), number).save(folder / f"{number:03}.png")
    (folder / "100.png").write_bytes(b"")
    expected = [number for number in range(200) if number != 100]
    for workers in (1, 3):
        found = read(folder, size="2", workers=workers, cache=str(tmp_path / str(workers)))
        assert found.pixels.take(np.arange(199))[:, 0, 0, 0].tolist() == expected
        assert found.numbers.tolist() == expected


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "empty file"),
    "letter": (lambda path: path.write_text("Dear reader"), "not a picture"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:900]), "truncated"),
    "float": (lambda path: Image.new("F", (4, 4)).save(path, "TIFF"), "floating-point"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_skipped_and_noted_or_named_whatever_they_hold(folder: Path, kind: str) -> None:
    spoil, reason = BAD[kind]
    spoil(folder / "3.png")
    found = read(folder, size="8")
    assert found.numbers.tolist() == [0, 1, 2, 4, 5, 6]
    assert len(found.pixels) == 6
    assert found.notes[0].startswith("1 of 7 files skipped: 3.png (")
    assert reason in found.skipped[3]
    with pytest.raises(RequestError, match=rf"pictures/3\.png: .*{reason}"):
        read(folder, size="8", strict=True)


def test_the_notes_name_a_few_bad_files_and_count_the_rest(tmp_path: Path) -> None:
    Image.new("L", (3, 3)).save(tmp_path / "good.png")
    for number in range(9):
        (tmp_path / f"bad{number}.png").touch()
    (note,) = read(tmp_path).notes
    assert note.startswith("9 of 10 files skipped: bad0.png (empty file), ")
    assert note.endswith("bad4.png (empty file), and 4 more")


@pytest.mark.parametrize("where", [None, "none"])
def test_a_shelf_without_a_sound_picture_is_refused(tmp_path: Path, where: str | None) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()
    with pytest.raises(
        RequestError, match=r"none of its 2 pictures can be read; the first, a\.png: empty|a\.png and the 1 after it: no picture"
    ):
        read(tmp_path, cache=where)
    with pytest.raises(RequestError, match="no picture to read"):
        read_pixels(FolderShelf(tmp_path).subset([]), Reading(cache=where))
    assert not [path for path in (tmp_path / "cache").glob("*") if not path.name.startswith(".lock-")]


def test_on_demand_the_next_sound_picture_takes_a_bad_ones_place_which_is_said_once(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (2, 3, 6):
        (folder / f"{number}.png").write_bytes(b"")
    found = read(folder, size="8", cache="none", workers=1).pixels
    assert len(found) == 7
    for _ in range(2):
        taken = found.take(np.arange(7))
        assert (taken[[2, 3]] == taken[4]).all()
        assert (taken[6] == taken[0]).all()
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"{folder}/2.png: empty file: the next picture takes its place, as for all that cannot be decoded (said once)"


def test_on_demand_strict_names_the_bad_file_when_it_is_met(folder: Path) -> None:
    (folder / "3.png").write_bytes(b"")
    found = read(folder, size="8", cache="none", strict=True).pixels
    assert found.take(np.array([0, 1])).shape == (2, 8, 8, 3)
    with pytest.raises(TrainingError, match=r"pictures/3\.png: empty file; mend or remove it"):
        found.take(np.array([2, 3]))


@pytest.mark.parametrize("strict", [False, True])
def test_on_demand_a_file_that_vanished_is_named(folder: Path, strict: bool) -> None:
    found = read(folder, size="8", cache="none", strict=strict).pixels
    (folder / "3.png").unlink()
    with pytest.raises(TrainingError, match=r"pictures/3\.png: cannot be opened: No such file or directory; it was there"):
        found.take(np.array([3]))
    assert found.take(np.array([2])).shape == (1, 8, 8, 3)


def test_on_demand_gives_up_after_many_bad_pictures_in_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "_TRIES", 5)
    Image.new("L", (3, 3)).save(tmp_path / "a.png")
    for number in range(9):
        (tmp_path / f"b{number}.png").touch()
    found = read(tmp_path, cache="none").pixels
    with pytest.raises(TrainingError, match=r"b0\.png and the 4 after it: no picture that can be decoded"):
        found.take(np.array([1]))
    assert found.take(np.array([7])).shape == (1, 64, 64, 1)


def test_of_shards_the_first_thousand_say_whether_all_are_grey(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ganforge.data.decoding._LOOKED_AT", 3)
    for number in range(4):
        Image.new("L", (5, 5), number).save(folder / f"{number}.png")
    shelf = FolderShelf(folder)
    assert grey_or_rgb(shelf) == 3
    shelf.runs = (7,)
    assert grey_or_rgb(shelf) == 1


def test_warnings_about_odd_metadata_reach_nobody(folder: Path) -> None:
    image = Image.new("RGB", (9, 9))
    image.save(folder / "0.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert 0 in read(folder, size="8", strict=True).numbers


@pytest.mark.skipif(not (Path(__file__).parents[2] / "shared" / "data").is_dir(), reason="no data beside the project")
def test_known_pictures_are_served_whole(tmp_path: Path) -> None:
    shelf = find_shelf(str(Path(__file__).parents[2] / "shared" / "data" / "sr_photos" / "val"), Reading())
    assert shelf is not None
    found = read_pixels(shelf, Reading(size="96", fit="patch", strict=True))
    assert len(found.pixels) == 24
    whole = np.asarray(Image.open(shelf.open(5)).convert("RGB"))
    assert (found.pixels.take(np.array([5]))[0] == whole[80:176, 80:176]).all()


class Counted:
    """A function of (cursor, size, resolution) that notes its calls and in which thread they ran."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int, int | None]] = []
        self.threads: dict[tuple[int, int, int | None], str] = {}
        self.made = threading.Condition()

    def at(self, cursor: int, size: int, resolution: int | None) -> tuple[int, int, int | None]:
        with self.made:
            self.calls.append((cursor, size, resolution))
            self.threads[cursor, size, resolution] = threading.current_thread().name
            self.made.notify_all()
        if cursor == 13:
            raise TrainingError("13")
        return cursor, size, resolution

    def wait_for(self, count: int) -> list[tuple[int, int, int | None]]:
        with self.made:
            assert self.made.wait_for(lambda: len(self.calls) >= count, timeout=30)
        return self.calls


@given(cursors=st.lists(st.integers(0, 12), max_size=12), size=st.integers(1, 3))
def test_drawn_ahead_or_not_the_batches_are_the_same(cursors: list[int], size: int) -> None:
    ahead = Ahead(Counted().at)
    assert [ahead.at(cursor, size) for cursor in cursors] == [(cursor, size, None) for cursor in cursors]


def test_after_two_calls_the_next_two_batches_are_made_in_the_background() -> None:
    made = Counted()
    ahead = Ahead(made.at)
    ahead.at(0, 4)
    ahead.at(8, 4)
    assert made.wait_for(4) == [(0, 4, None), (8, 4, None), (16, 4, None), (24, 4, None)]
    ahead.at(16, 4)
    assert made.wait_for(5)[4:] == [(32, 4, None)]
    assert list(made.threads.values()) == ["MainThread", "MainThread", "ahead", "ahead", "ahead"]


def test_no_more_than_two_batches_are_made_ahead() -> None:
    made = Counted()
    ahead = Ahead(made.at, depth=2)
    for cursor in (0, 1, 2, 3):
        ahead.at(cursor, 1)
    made.wait_for(6)
    time.sleep(0.05)
    assert sorted(made.calls) == [(cursor, 1, None) for cursor in range(6)]


def test_another_size_place_or_resolution_begins_to_learn_anew() -> None:
    made = Counted()
    ahead = Ahead(made.at)
    calls = [(0, 4, None), (4, 4, None), (8, 2, None), (12, 2, None), (99, 2, None), (101, 2, 7), (103, 2, 7), (90, 2, 7), (90, 2, 7)]
    assert [ahead.at(*call) for call in calls] == calls
    assert {made.threads[call] for call in calls} == {"MainThread"}
    assert [ahead.at(cursor, 2, 7) for cursor in (92, 94, 96)] == [(92, 2, 7), (94, 2, 7), (96, 2, 7)]
    assert [made.threads[cursor, 2, 7] for cursor in (92, 94, 96)] == ["MainThread", "ahead", "ahead"]


def test_what_is_not_asked_for_any_more_is_not_made() -> None:
    made, busy = Counted(), threading.Event()

    def slow(cursor: int, size: int, resolution: int | None) -> tuple[int, int, int | None]:
        if threading.current_thread().name == "ahead":
            assert busy.wait(timeout=30)
        return made.at(cursor, size, resolution)

    ahead, other = Ahead(slow), Ahead(slow)
    for cursor in (0, 4, 100, 101):
        ahead.at(cursor, 1)
        other.at(cursor + 200, 1)
    del other
    gc.collect()
    busy.set()
    assert ahead.at(102, 1) == (102, 1, None)
    assert ahead.at(103, 1) == (103, 1, None)
    made.wait_for(12)
    # 8 was being made when 100 was asked for; 12, 196 and 292 waited behind it.
    assert not {12, 196, 292, 212, 396, 492, 302, 303} & {cursor for cursor, _, _ in made.calls}


def test_an_error_is_raised_where_its_batch_is_asked_for_and_only_there() -> None:
    ahead = Ahead(Counted().at)
    assert [ahead.at(cursor, 1)[0] for cursor in (9, 10, 11, 12)] == [9, 10, 11, 12]
    with pytest.raises(TrainingError, match="13"):
        ahead.at(13, 1)
    assert ahead.at(14, 1)[0] == 14


def test_the_thread_is_a_daemon_and_ends_with_the_object() -> None:
    before = set(threading.enumerate())
    ahead = Ahead(Counted().at)
    (thread,) = set(threading.enumerate()) - before
    assert thread.daemon
    ahead.at(0, 1)
    ahead.at(1, 1)
    del ahead
    gc.collect()
    thread.join(timeout=30)
    assert not thread.is_alive()


def test_drawing_ahead_reads_no_global_random_state(folder: Path) -> None:
    found: Pixels = read(folder, size="8", cache="none").pixels
    ahead = Ahead(lambda cursor, size, _: found.take(np.arange(cursor, cursor + size) % 7))
    torch.manual_seed(3)
    before = torch.get_rng_state()
    plain = [found.take(np.arange(cursor, cursor + 2) % 7) for cursor in range(0, 20, 2)]
    for cursor, expected in zip(range(0, 20, 2), plain, strict=True):
        assert (ahead.at(cursor, 2) == expected).all()
    assert torch.equal(before, torch.get_rng_state())


def test_an_entry_of_another_size_of_patch_is_not_taken_for_this_one(folder: Path) -> None:
    for size in ("8", "48"):
        assert read(folder, size=size, fit="patch").pixels.take(np.arange(7)).shape == (7, int(size), int(size), 3)
    assert len([path for path in (cache.cache_root() or Path()).iterdir() if len(path.name) == 64]) == 2
