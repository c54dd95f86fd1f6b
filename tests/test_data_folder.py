"""Folders of pictures: what is found in them, what is left out, and what is said of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ganforge.data.decode import SUFFIXES
from ganforge.data.finding import find_shelf
from ganforge.data.folder import FolderShelf
from ganforge.data.pixels import read_pixels
from ganforge.data.reading import Reading
from ganforge.data.shelves import Part, Shelf, listed, readable, split_suffix
from ganforge.errors import RequestError


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    path = tmp_path / "pictures"
    path.mkdir()
    return path


def paint(path: Path, colour: int | tuple[int, int, int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L" if isinstance(colour, int) else "RGB", (5, 4), colour).save(path)
    return path


def levels(shelf: Shelf) -> list[int]:
    """The first byte of each picture served, which is all there is to a flat grey one."""
    pixels = read_pixels(shelf, Reading(size="2", channels=1)).pixels
    return [int(value) for value in pixels.take(np.arange(len(pixels)))[:, 0, 0, 0]]


def test_pictures_come_in_the_order_of_their_names_however_deep(pictures: Path) -> None:
    for name, level in {"b.png": 20, "a/z/deep.png": 10, "c.bmp": 30}.items():
        paint(pictures / name, level)
    shelf = FolderShelf(pictures)
    assert shelf.names == ["a/z/deep.png", "b.png", "c.bmp"]
    assert levels(shelf) == [10, 20, 30]
    assert shelf.notes == []


@given(names=st.lists(st.text("ab.jpgJPG", min_size=1, max_size=6), unique=True, max_size=6))
def test_a_suffix_is_what_stands_after_the_last_dot(names: list[str]) -> None:
    for name in names:
        if not name.startswith("."):
            assert split_suffix(f"a.b/{name}")[1] == (Path(name).suffix.lower() or ("." if name.endswith(".") else ""))


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_every_suffix_is_known_in_capitals_too(pictures: Path, suffix: str) -> None:
    (pictures / f"a{suffix.upper()}").touch()
    assert len(FolderShelf(pictures)) == 1


def test_hidden_files_other_files_pipes_and_loops_of_links_are_left_out(pictures: Path) -> None:
    paint(pictures / "a.png", 1)
    paint(pictures / "._a.png", 2)
    paint(pictures / ".thumbs/b.png", 3)
    (pictures / "notes.txt").write_text("hello")
    os.mkfifo(pictures / "pipe.png")
    (pictures / "loop").symlink_to(pictures, target_is_directory=True)
    (pictures / "nowhere.png").symlink_to(pictures / "absent.png")
    shelf = FolderShelf(pictures)
    assert levels(shelf) == [1]
    assert shelf.notes == ["3 files that are no pictures ignored (2 .png, 1 .txt)"]
    assert shelf.others == ["notes.txt", "nowhere.png", "pipe.png"]
    assert shelf.read_other("notes.txt") == b"hello"


def test_a_linked_folder_and_one_named_like_a_picture_are_looked_into(pictures: Path, tmp_path: Path) -> None:
    paint(tmp_path / "elsewhere" / "a.png", 1)
    paint(pictures / "odd.png" / "b.png", 2)
    (pictures / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert FolderShelf(pictures).names == ["link/a.png", "odd.png/b.png"]


def test_a_folder_without_a_picture_is_refused_with_what_it_holds(pictures: Path) -> None:
    with pytest.raises(RequestError, match=r"no picture found .*; it holds no file"):
        FolderShelf(pictures)
    for name in ("notes.txt", "a.npy", "b.npy", "README"):
        (pictures / name).touch()
    with pytest.raises(RequestError, match=r"no picture found .*; it holds 2 \.npy, 1 no suffix, 1 \.txt"):
        FolderShelf(pictures)


def test_a_sub_folder_that_cannot_be_read_is_named(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paint(pictures / "a.png", 1)
    (pictures / "locked").mkdir()
    scan = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(RequestError, match=r"pictures/locked: the folder cannot be read \(Permission denied\)"):
        FolderShelf(pictures)


def test_names_that_are_no_utf8_are_served_and_said_readably(pictures: Path) -> None:
    for directory, level in ((b"caf\xe9", 1), (b"tea", 2)):
        paint(pictures / os.fsdecode(directory) / "a.png", level)
    shelf = FolderShelf(pictures)
    assert sorted(levels(shelf)) == [1, 2]
    places = [shelf.place(number) for number in range(2)]
    assert "caf\ufffd/a.png" in "".join(places)
    "".join(places).encode("utf-8")


def test_sidecars_are_the_files_beside_the_pictures(pictures: Path) -> None:
    for name in ("a.png", "cat/b.png"):
        paint(pictures / name, 1)
    (pictures / "a.txt").write_text("a thing")
    (pictures / "cat/b.cls").write_text("3")
    shelf = FolderShelf(pictures)
    assert shelf.sidecars(".txt") == [b"a thing", None]
    assert shelf.sidecars(".cls") == [None, b"3"]
    assert shelf.subset([1, 0]).sidecars(".txt") == [None, b"a thing"]
    assert shelf.subset([1, 0]).sidecar(0, ".cls") == b"3"
    with pytest.raises(OSError, match="absent"):
        shelf.read_other("absent.txt")


def edited(path: Path) -> None:
    paint(path / "a.png", 99)
    os.utime(path / "a.png", ns=(0, 1))


def removed(path: Path) -> None:
    (path / "b.png").unlink()


def added(path: Path) -> None:
    paint(path / "c.png", 3)


def renamed(path: Path) -> None:
    (path / "a.png").rename(path / "d.png")


@pytest.mark.parametrize(("change", "after"), [(edited, [99, 2]), (removed, [1]), (added, [1, 2, 3]), (renamed, [2, 1])])
def test_a_folder_that_changed_is_decoded_anew(pictures: Path, change: Callable[[Path], None], after: list[int]) -> None:
    paint(pictures / "a.png", 1)
    paint(pictures / "b.png", 2)
    assert levels(FolderShelf(pictures)) == [1, 2]
    change(pictures)
    assert levels(FolderShelf(pictures)) == after


@given(numbers=st.lists(st.integers(0, 9), max_size=12), again=st.data())
def test_a_part_of_a_part_is_what_indexing_twice_gives(numbers: list[int], again: st.DataObject) -> None:
    part = Part(Runs(), numbers)
    names = [Runs.names[number] for number in numbers]
    assert part.names == names
    if numbers:
        second = again.draw(st.lists(st.integers(0, len(numbers) - 1), max_size=12))
        assert list(Part(part, second).names) == [names[number] for number in second]
        assert [Part(part, second).stamp(at)[0] for at in range(len(second))] == [numbers[number] for number in second]


@given(numbers=st.lists(st.integers(0, 9), unique=True).map(sorted))
def test_runs_of_a_part_count_what_is_left_of_each_run(numbers: list[int]) -> None:
    left = [sum(start <= number < end for number in numbers) for start, end in ((0, 3), (3, 4), (4, 10))]
    assert Part(Runs(), numbers).runs == tuple(count for count in left if count)


class Runs(Shelf):
    """Ten pictures in runs of 3, 1 and 6."""

    origin = identity = "runs"
    names = tuple("abcdefghij")
    runs = (3, 1, 6)

    def __init__(self) -> None:
        self.notes = []

    def open(self, number: int) -> BinaryIO:
        raise FileNotFoundError

    def stamp(self, number: int) -> tuple[int, int]:
        return number, 0


def test_a_list_of_names_is_cut_and_counted() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed(list("abcdefg")) == "a, b, c, d, e, and 2 more"
    assert readable("a\udce9") == "a\ufffd"


def test_what_is_no_shelf_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.npz").touch()
    for text in ("digits", str(tmp_path / "a.npz"), str(tmp_path / "absent"), "", "a\0b", "x" * 5000, "~no-such-user/x"):
        assert find_shelf(text, Reading()) is None
