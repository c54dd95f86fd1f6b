"""Folders of pictures: classes, bad files, and a cache that never serves what the folder no longer holds."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from ganforge.batches import ImageSpec, images_to_bytes
from ganforge.data import Finite, Source, cache, describe, folder, open_source
from ganforge.data.cache import PictureFile, cache_key
from ganforge.errors import RequestError

FILES = st.lists(
    st.builds(PictureFile, st.text("ab/", min_size=1, max_size=4), st.integers(0, 9), st.integers(0, 9)),
    max_size=5,
    unique_by=lambda file: file.name,
)


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANFORGE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    path = tmp_path / "pictures"
    path.mkdir()
    return path


def paint(path: Path, colour: int | tuple[int, int, int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L" if isinstance(colour, int) else "RGB", (5, 4), colour).save(path)
    return path


def bytes_of(source: Source) -> NDArray[np.uint8]:
    assert isinstance(source, Finite)
    return images_to_bytes(source.gather(source.kinds[0], torch.arange(source.count), torch.device("cpu")).x).numpy()


def levels(source: Source) -> list[int]:
    """The first byte of each picture, which is all there is to a flat grey one."""
    return [int(value) for value in bytes_of(source)[:, 0, 0, 0]]


def test_pictures_come_in_the_order_of_their_names_however_deep(pictures: Path) -> None:
    for name, level in {"b.png": 20, "a/z/deep.png": 10, "c.bmp": 30}.items():
        paint(pictures / name, level)
    source = open_source(str(pictures), size=4)
    assert source.spec == ImageSpec(4, 4, 1)
    assert levels(source) == [10, 20, 30]


def test_folders_are_64_pixels_wide_unless_asked_otherwise(pictures: Path) -> None:
    paint(pictures / "a.png", (1, 2, 3))
    assert open_source(str(pictures)).spec == ImageSpec(64, 64, 3)


def test_one_colour_picture_makes_all_rgb_and_channels_decides_otherwise(pictures: Path) -> None:
    paint(pictures / "a.png", 50)
    paint(pictures / "b.png", (90, 90, 90))
    assert bytes_of(open_source(str(pictures), size=2))[:, 0, 0].tolist() == [[50] * 3, [90] * 3]
    assert levels(open_source(str(pictures), size=2, channels=1)) == [50, 90]


def test_sub_folders_are_classes_where_all_pictures_lie_in_them(pictures: Path) -> None:
    for name, level in {"dog/1.png": 1, "cat/1.png": 2, "dog/more/2.png": 3}.items():
        paint(pictures / name, level)
    source = open_source(str(pictures), size=2)
    assert source.spec == ImageSpec(2, 2, 1, ("cat", "dog"))
    assert isinstance(source, Finite)
    assert source.labels is not None
    assert dict(zip(levels(source), source.labels.tolist(), strict=True)) == {1: 1, 2: 0, 3: 1}
    assert describe(source)["classes"] == {"cat": 1, "dog": 2}


@pytest.mark.parametrize("names", [["one/1.png", "one/2.png"], ["cat/1.png", "dog/1.png", "stray.png"]])
def test_one_sub_folder_or_stray_pictures_make_no_classes_unless_asked(pictures: Path, names: list[str]) -> None:
    for name in names:
        paint(pictures / name, 7)
    assert [kind.__name__ for kind in open_source(str(pictures)).kinds] == ["Images"]
    asked = open_source(str(pictures), labels=True)
    assert [kind.__name__ for kind in asked.kinds] == ["Labelled", "Images"]
    assert isinstance(asked, Finite)
    assert asked.count == 2


def test_labels_skip_and_note_stray_pictures_or_strictly_refuse_them(pictures: Path) -> None:
    paint(pictures / "cat/1.png", 1)
    paint(pictures / "stray.png", 2)
    assert any("1 pictures skipped" in note and "stray.png" in note for note in open_source(str(pictures), labels=True).notes)
    with pytest.raises(RequestError, match=r"stray\.png: lies in no sub-folder"):
        open_source(str(pictures), labels=True, strict=True)
    (pictures / "cat/1.png").unlink()
    with pytest.raises(RequestError, match="labels are sub-folders"):
        open_source(str(pictures), labels=True)


@pytest.fixture
def spoiled(pictures: Path) -> Path:
    """Two sound pictures among an empty file, a truncated one, and a letter named like a picture."""
    paint(pictures / "a.png", 11)
    paint(pictures / "z.png", 22)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(pictures / "cut.jpg")
    (pictures / "cut.jpg").write_bytes((pictures / "cut.jpg").read_bytes()[:3000])
    (pictures / "empty.png").touch()
    (pictures / "letter.jpg").write_text("Dear reader, this is no picture.")
    return pictures


def test_bad_files_are_skipped_and_noted_the_second_time_too(spoiled: Path) -> None:
    for _ in range(2):
        source = open_source(str(spoiled), size=2, channels=1)
        assert levels(source) == [11, 22]
        note = next(note for note in source.notes if "skipped" in note)
        assert note.startswith("3 of 5 files skipped: cut.jpg (")
        assert "empty.png (empty file), letter.jpg (not a picture" in note


def test_strict_refuses_the_first_bad_file_by_name_whether_cached_or_not(spoiled: Path) -> None:
    for _ in range(2):
        with pytest.raises(RequestError, match=r"cut\.jpg: .*truncated"):
            open_source(str(spoiled), strict=True)
        open_source(str(spoiled))


def test_the_notes_name_a_few_bad_files_and_count_the_rest(pictures: Path) -> None:
    paint(pictures / "good.png", 1)
    for number in range(9):
        (pictures / f"bad{number}.png").touch()
    (note,) = (note for note in open_source(str(pictures)).notes if "skipped" in note)
    assert note.startswith("9 of 10 files skipped: bad0.png (empty file), ")
    assert note.endswith("bad4.png (empty file), and 4 more")


def test_classes_follow_their_pictures_when_others_are_skipped(pictures: Path) -> None:
    for name, level in {"cat/2.png": 5, "dog/1.png": 6, "eel/1.png": 7}.items():
        paint(pictures / name, level)
    (pictures / "cat/1.png").touch()
    (pictures / "eel/1.png").write_bytes(b"no picture")
    assert describe(open_source(str(pictures)))["classes"] == {"cat": 1, "dog": 1}


def test_a_folder_without_a_sound_picture_is_refused(pictures: Path) -> None:
    with pytest.raises(RequestError, match=r"no picture found .*; it holds no file"):
        open_source(str(pictures))
    (pictures / "notes.txt").write_text("hello")
    with pytest.raises(RequestError, match=r"no picture found .*; it holds 1 \.txt"):
        open_source(str(pictures))
    (pictures / "a.png").touch()
    with pytest.raises(RequestError, match=r"none of its 1 pictures can be read; the first, a\.png: empty file"):
        open_source(str(pictures))
    assert not list((pictures.parent / "cache").iterdir())


def test_hidden_files_other_files_pipes_and_loops_of_links_are_left_out(pictures: Path) -> None:
    paint(pictures / "a.png", 1)
    paint(pictures / "._a.png", 2)
    paint(pictures / ".thumbs/b.png", 3)
    (pictures / "notes.txt").touch()
    os.mkfifo(pictures / "pipe.png")
    (pictures / "loop").symlink_to(pictures, target_is_directory=True)
    (pictures / "nowhere.png").symlink_to(pictures / "absent.png")
    source = open_source(str(pictures), size=2)
    assert levels(source) == [1]
    assert source.notes == ["3 files that are no pictures ignored (2 .png, 1 .txt)"]


def test_names_that_are_no_utf8_are_served_and_noted_readably(pictures: Path) -> None:
    for directory, level in ((b"caf\xe9", 1), (b"tea", 2)):
        paint(pictures / os.fsdecode(directory) / "a.png", level)
    (pictures / os.fsdecode(b"tea/\xff.png")).touch()
    source = open_source(str(pictures), size=2)
    assert sorted(levels(source)) == [1, 2]
    json.dumps(describe(source), ensure_ascii=False).encode("utf-8")


def test_any_number_of_workers_decodes_the_same(pictures: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for number in range(130):
        paint(pictures / f"{number:03}.png", number)
    for workers in (1, 3):
        monkeypatch.setenv("GANFORGE_CACHE", str(tmp_path / f"cache{workers}"))
        assert levels(open_source(str(pictures), size=2, workers=workers)) == list(range(130))


def test_a_second_opening_decodes_nothing(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paint(pictures / "a.png", 9)
    first = bytes_of(open_source(str(pictures)))
    monkeypatch.setattr(folder, "decode", None)
    assert (bytes_of(open_source(str(pictures))) == first).all()


def test_pictures_are_served_from_a_read_only_map(pictures: Path, tmp_path: Path) -> None:
    paint(pictures / "a.png", 9)
    open_source(str(pictures), size=3)
    (entry,) = (tmp_path / "cache").iterdir()
    stored = np.load(entry / "pixels.npy", mmap_mode="r")
    assert stored.shape == (1, 3, 3, 1)
    assert (stored == 9).all()
    assert json.loads((entry / "about.json").read_text())["folder"] == str(pictures.resolve())


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
    assert levels(open_source(str(pictures), size=2)) == [1, 2]
    change(pictures)
    assert levels(open_source(str(pictures), size=2)) == after


@settings(deadline=None)
@given(files=FILES, other=FILES)
def test_cache_keys_are_equal_exactly_where_the_files_are(files: list[PictureFile], other: list[PictureFile]) -> None:
    here = Path("/pictures")
    assert cache_key(here, files, 64, None) == cache_key(here, files[::-1], 64, None)
    assert (cache_key(here, files, 64, None) == cache_key(here, other, 64, None)) == (set(files) == set(other))


def test_cache_keys_depend_on_the_folder_the_size_and_the_channels() -> None:
    asked = [(Path("/a"), 64, None), (Path("/b"), 64, None), (Path("/a"), 32, None), (Path("/a"), 64, 1), (Path("/a"), 64, 3)]
    assert len({cache_key(path, [], size, channels) for path, size, channels in asked}) == len(asked)


@pytest.mark.parametrize("name", ["pixels.npy", "about.json"])
@pytest.mark.parametrize("content", [None, b"", b"{}", b"\x93NUMPY"])
def test_a_damaged_cache_entry_is_made_anew(pictures: Path, tmp_path: Path, name: str, content: bytes | None) -> None:
    paint(pictures / "a.png", 9)
    open_source(str(pictures), size=2)
    (entry,) = (tmp_path / "cache").iterdir()
    (entry / name).unlink()
    if content is not None:
        (entry / name).write_bytes(content)
    assert levels(open_source(str(pictures), size=2)) == [9]
    assert cache.load(entry.name) is not None


def test_a_cache_that_cannot_be_written_leaves_the_pictures_in_memory(
    spoiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GANFORGE_CACHE", str(tmp_path / "file" / "cache"))
    source = open_source(str(spoiled), size=2, channels=1)
    assert levels(source) == [11, 22]
    assert any("decoded into memory" in note for note in source.notes)
    assert sum("3 of 5 files skipped" in note for note in source.notes) == 1


def test_a_cache_entry_is_whole_or_absent_when_decoding_is_interrupted(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(70):
        paint(pictures / f"{number:03}.png", number)

    def interrupted(path: Path, size: int, channels: int) -> NDArray[np.uint8]:
        if path.name == "069.png":
            raise KeyboardInterrupt
        return np.zeros((size, size, channels), np.uint8)

    with monkeypatch.context() as patch:
        patch.setattr(folder, "decode", interrupted)
        with pytest.raises(KeyboardInterrupt):
            open_source(str(pictures), size=2)
    assert not list((tmp_path / "cache").iterdir())
    assert levels(open_source(str(pictures), size=2)) == list(range(70))


def test_two_processes_that_decode_the_same_folder_agree_on_the_first_entry(tmp_path: Path) -> None:
    chunk = np.arange(12, dtype=np.uint8).reshape(3, 2, 2, 1)
    first = cache.store("key", [chunk], {}, {})
    second = cache.store("key", [chunk[:1], chunk[1:]], {}, {})
    assert (first.pixels == chunk).all()
    assert (second.pixels == chunk).all()
    assert [entry.name for entry in (tmp_path / "cache").iterdir()] == ["key"]
