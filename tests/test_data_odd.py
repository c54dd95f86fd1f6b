"""Odd tables, names and files: none brings test pictures into training, gives a picture what is not its own, or ends in a traceback."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch
from PIL import Image

from ganforge.batches import Captioned, Images, Labelled, Masked, images_to_bytes
from ganforge.data import Finite, describe, open_source
from ganforge.data import folder as folders
from ganforge.data.finding import find_shelf
from ganforge.data.reading import Reading
from ganforge.errors import RequestError

CPU = torch.device("cpu")
_SPLITS = "file,split\n1.png,test\n2.png,train\n3.png,train\n"


def painted(folder: Path, *levels: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for level in levels:
        Image.new("L", (4, 4), level).save(folder / f"{level}.png")
    return folder


def served(path: Path, **options: Any) -> list[int]:
    source = open_source(str(path), size=4, **options)
    assert isinstance(source, Finite)
    return [int(each) for each in images_to_bytes(source.gather(Images, torch.arange(source.count), CPU).x)[:, 0, 0, 0]]


@pytest.mark.parametrize("table", [_SPLITS.replace(",", ";"), _SPLITS + "1.png,train\n", _SPLITS.replace("3.png,train", "3.png,extra")])
def test_no_table_of_splits_brings_a_test_picture_into_training(tmp_path: Path, table: str) -> None:
    root = painted(tmp_path / "p", 1, 2, 3)
    (root / "s.csv").write_text(table)
    assert served(root) == ([2] if "extra" in table else [2, 3])
    assert served(root, split="test") == [1]


def test_pictures_of_an_unknown_split_are_counted(tmp_path: Path) -> None:
    root = painted(tmp_path / "p", 1, 2, 3)
    (root / "s.csv").write_text(_SPLITS.replace("3.png,train", "3.png,extra"))
    assert any(note.startswith("1 pictures are not served") for note in open_source(str(root)).notes)


@pytest.mark.parametrize("table", [(_SPLITS + "4.png,train,x\n").encode(), _SPLITS.encode() + b"\xe9.png,train\n"])
def test_a_table_of_splits_that_cannot_be_read_is_refused(tmp_path: Path, table: bytes) -> None:
    root = painted(tmp_path / "p", 1, 2, 3)
    (root / "s.csv").write_bytes(table)
    with pytest.raises(RequestError, match=r"s\.csv"):
        open_source(str(root))


def test_a_column_of_other_words_is_no_split(tmp_path: Path) -> None:
    root = painted(tmp_path / "p", 1, 2)
    (root / "s.csv").write_text("file,subset\n1.png,beach\n2.png,sunset\n")
    assert served(root) == [1, 2]


def test_a_table_in_a_sub_folder_speaks_of_the_pictures_there(tmp_path: Path) -> None:
    for level, folder in enumerate("uv"):
        Image.new("L", (4, 4), 10 + level).save(painted(tmp_path / "p" / folder, 2 + level) / "1.png")
        (tmp_path / "p" / folder / "s.csv").write_text(f"file,split\n1.png,{'train' if level else 'test'}\n")
    assert served(tmp_path / "p", split="test") == [10]


def test_celebas_partition_may_be_aligned_with_tabs(tmp_path: Path) -> None:
    root = painted(tmp_path / "p", 1, 2, 3)
    (root / "list_eval_partition.txt").write_text("1.png\t2\n2.png\t0\n3.png  0\n")
    assert served(root) == [2, 3]


def test_a_line_of_json_may_hold_every_separator_but_its_own(tmp_path: Path) -> None:
    root = painted(tmp_path / "p", 1, 2)
    rows = [{"file": f"{level}.png", "caption": f"a grey\u2028square {level}"} for level in (1, 2)]
    (root / "c.jsonl").write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    assert describe(open_source(str(root), kinds=(Captioned,)))["caption"] == "a grey square 1"


def test_captions_of_a_single_word_are_told_from_none(tmp_path: Path) -> None:
    root = painted(tmp_path / "p", 1, 2)
    (root / "c.csv").write_text("file,caption\n1.png,red\n2.png,red\n")
    source = open_source(str(root), kinds=(Captioned,), size=4)
    assert isinstance(source, Finite)
    assert source.gather(Captioned, torch.arange(2), CPU).tensors()["text"].tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize("name", ["c.jsonl", "captions.json"])
def test_json_that_is_nested_too_deep_is_refused(tmp_path: Path, name: str) -> None:
    root = painted(tmp_path / "p", 1)
    (root / name).write_text('{"file": "1.png", "caption": ' + "[" * 100_000)
    with pytest.raises(RequestError, match=name):
        open_source(str(root), kinds=(Captioned,))


def test_a_caption_of_coco_that_is_null_is_none(tmp_path: Path) -> None:
    root = painted(tmp_path / "p", 1, 2)
    notes = [{"image_id": 1, "caption": None}, {"image_id": 2, "caption": "a grey square"}]
    images = [{"id": level, "file_name": f"{level}.png"} for level in (1, 2)]
    (root / "captions.json").write_text(json.dumps({"images": images, "annotations": notes}))
    assert describe(open_source(str(root), kinds=(Captioned,)))["count"] == 1


def test_a_link_to_itself_spoils_no_folder(tmp_path: Path) -> None:
    root = painted(tmp_path / "p", 1, 2)
    (root / "self.png").symlink_to("self.png")
    assert served(root) == [1, 2]


@pytest.mark.parametrize("pattern", ["s{0..99999999999}.tar", "s{0..9999}{0..9999}.tar", "s{3..0}.tar"])
def test_a_range_that_names_far_too_many_shards_or_none_is_refused(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(RequestError, match="shards; a range counts up"):
        find_shelf(str(tmp_path / pattern), Reading())


def test_a_message_is_one_line_whatever_a_file_is_called(tmp_path: Path) -> None:
    root = painted(tmp_path / "p", 1)
    (root / "two\nlines\x1b[31m.png").write_text("no picture")
    with pytest.raises(RequestError) as caught:
        open_source(str(root), strict=True)
    assert str(caught.value).isprintable()


def test_the_picture_that_stands_in_for_a_bad_one_brings_its_own_label(tmp_path: Path) -> None:
    root = tmp_path / "p"
    (painted(root / "a", 1) / "2.png").write_text("no picture")
    painted(root / "b", 3)
    source = open_source(str(root), kinds=(Labelled,), size=4, cache="none")
    assert isinstance(source, Finite)
    batch = source.gather(Labelled, torch.arange(3), CPU)
    assert images_to_bytes(batch.tensors()["image"])[:, 0, 0, 0].tolist() == [1, 3, 3]
    assert batch.tensors()["label"].tolist() == [0, 1, 1]


@pytest.mark.parametrize("names", [(1, 2), (7, 8)])
def test_other_files_of_holes_are_other_data(tmp_path: Path, names: tuple[int, ...]) -> None:
    root, holes = painted(tmp_path / "p", 1, 2), painted(tmp_path / "m", *names)

    def fingerprint() -> str:
        source = open_source(str(root), kinds=(Masked,), size=4, mask=str(holes))
        assert isinstance(source, Finite)
        return source.fingerprint

    before = fingerprint()
    assert fingerprint() == before
    Image.new("L", (9, 9), 255).save(holes / f"{names[0]}.png")
    assert fingerprint() != before


def test_a_file_that_could_not_be_opened_is_served_as_soon_as_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = painted(tmp_path / "p", 1, 2)
    found = folders.FolderShelf.open

    def forbidden(shelf: folders.FolderShelf, number: int) -> BinaryIO:
        if shelf.names[number] == "1.png":
            raise PermissionError(errno.EACCES, "Permission denied")
        return found(shelf, number)

    with monkeypatch.context() as patch:
        patch.setattr(folders.FolderShelf, "open", forbidden)
        assert served(root) == served(root) == [2]
    assert served(root) == [1, 2]
