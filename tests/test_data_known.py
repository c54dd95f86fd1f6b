"""What is known of single pictures: classes and attributes belong to the right picture, and what is wrong is said."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from painted import everything, levels, opened, paint
from PIL import Image

from ganforge.batches import Attributed, Captioned, Images, ImageSpec, Labelled, LowHigh, Masked, images_to_bytes
from ganforge.data import Finite, describe, open_source, served_kinds
from ganforge.data.layouts.images import Pictures
from ganforge.errors import RequestError

SHARED = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="no data beside the project")


def labels(source: Pictures) -> dict[int, str]:
    assert isinstance(source.spec, ImageSpec)
    batch = everything(source, Labelled)
    return dict(zip(levels(batch), (source.spec.classes[label] for label in batch.label.tolist()), strict=True))


def test_sub_folders_are_classes_where_all_pictures_lie_in_them(root: Path) -> None:
    for name, level in {"dog/1.png": 1, "cat/1.png": 2, "dog/more/2.png": 3}.items():
        paint(root / name, level)
    source = opened(root)
    assert source.kinds == (Labelled, Images, Masked, LowHigh)
    assert labels(source) == {1: "dog", 2: "cat", 3: "dog"}
    assert describe(source)["classes"] == {"cat": 1, "dog": 2}


def test_folders_around_the_classes_are_no_classes(root: Path) -> None:
    paint(root / "images/all/cat/1.png", 1)
    paint(root / "images/all/dog/1.png", 2)
    assert labels(opened(root)) == {1: "cat", 2: "dog"}


@pytest.mark.parametrize("names", [["one/1.png", "one/2.png"], ["cat/1.png", "dog/1.png", "stray.png"]])
def test_one_sub_folder_or_stray_pictures_make_no_classes_unless_asked(root: Path, names: list[str]) -> None:
    for name in names:
        paint(root / name, 7)
    assert opened(root).kinds[0] is Images
    assert Labelled not in served_kinds(opened(root))
    asked = opened(root, Labelled)
    assert asked.kinds[0] is Labelled
    assert asked.count == 2


def test_labels_skip_and_note_stray_pictures_or_strictly_refuse_them(root: Path) -> None:
    paint(root / "cat/1.png", 1)
    paint(root / "stray.png", 2)
    assert any("1 pictures lie in no sub-folder" in note and "stray.png" in note for note in opened(root, Labelled).notes)
    with pytest.raises(RequestError, match=r"stray\.png: lies in no sub-folder"):
        opened(root, Labelled, strict=True)
    assert opened(root, Images, strict=True).count == 2
    (root / "cat/1.png").unlink()
    with pytest.raises(RequestError, match="cannot serve Labelled; pictures in classes: all 1 pictures lie in one folder"):
        opened(root, Labelled)


def test_classes_follow_their_pictures_when_others_are_bad(root: Path) -> None:
    for name, level in {"cat/2.png": 5, "dog/1.png": 6}.items():
        paint(root / name, level)
    (root / "cat/1.png").touch()
    (root / "dog/0.png").write_bytes(b"no picture")
    source = opened(root)
    assert labels(source) == {5: "cat", 6: "dog"}
    assert {Path(name).name: why for name, why in source.bad.items()} == {
        "1.png": "empty file",
        "0.png": "not a picture, or of a format that is not read",
    }


def test_a_zip_and_shards_have_classes_as_folders_have(root: Path, tmp_path: Path) -> None:
    import tarfile
    import zipfile

    for name, level in {"dog/1.png": 1, "cat/2.png": 2}.items():
        paint(root / name, level)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive, tarfile.open(tmp_path / "a.tar", "w") as shard:
        for name in ("dog/1.png", "cat/2.png"):
            archive.write(root / name, f"top/{name}")
            shard.add(root / name, name)
    assert labels(opened(tmp_path / "a.zip")) == labels(opened(tmp_path / "a.tar")) == {1: "dog", 2: "cat"}


def test_the_cls_files_of_shards_are_labels_and_their_txt_files_captions(tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(tmp_path / "a.tar", "w") as shard:
        for number, label in enumerate((2, 0, 2)):
            (tmp_path / f"{number}.cls").write_text(str(label))
            (tmp_path / f"{number}.txt").write_text(f"the picture number {number}\nanother sentence\n")
            for suffix in ("cls", "txt"):
                shard.add(tmp_path / f"{number}.{suffix}", f"{number}.{suffix}")
            shard.add(paint(tmp_path / f"{number}.png", 10 * number), f"{number}.png")
    source = opened(tmp_path / "a.tar")
    assert source.kinds[:2] == (Captioned, Labelled)
    assert labels(source) == {0: "2", 10: "0", 20: "2"}
    assert source.captions(1) == ["the picture number 1", "another sentence"]


@pytest.mark.skipif(importlib.util.find_spec("datasets") is None, reason="the extra `hub` (datasets) is not installed")
def test_a_saved_data_set_serves_its_labels_captions_and_splits(tmp_path: Path) -> None:
    datasets = importlib.import_module("datasets")
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"]), "text": datasets.Value("string")}

    def rows(levels: list[int]) -> Any:
        pictures = [Image.new("L", (4, 4), level) for level in levels]
        told = {"image": pictures, "label": [level % 2 for level in levels], "text": [f"the number {level}" for level in levels]}
        return datasets.Dataset.from_dict(told, features=datasets.Features(features))

    datasets.DatasetDict(train=rows([2, 5, 9]), test=rows([4, 7])).save_to_disk(str(tmp_path / "saved"))
    train, test = opened(tmp_path / "saved"), opened(tmp_path / "saved", split="test")
    assert train.kinds[:2] == (Captioned, Labelled)
    assert labels(train) == {2: "cat", 5: "dog", 9: "dog"}
    assert labels(test) == {4: "cat", 7: "dog"}
    assert test.captions(1) == ["the number 7"]


def celeba(root: Path, rows: dict[str, str], header: str = "Smiling Male Young", count: int | str | None = None) -> Path:
    lines = [str(len(rows) if count is None else count), header, *(f"{name}  {values}" for name, values in rows.items())]
    (root / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    return root


ROWS = {"1.jpg": "1 -1  1", "2.jpg": "-1 -1  1", "3.jpg": "1  1 -1"}


def test_celebas_table_gives_each_picture_its_attributes(root: Path) -> None:
    for number in (1, 2, 3):
        paint(root / f"img_align_celeba/{number}.jpg", 10 * number)
    source = opened(celeba(root, ROWS))
    assert isinstance(source.spec, ImageSpec)
    assert (source.kinds[0], source.spec.attributes) == (Attributed, ("Smiling", "Male", "Young"))
    batch = everything(source, Attributed)
    assert levels(batch) == [10, 20, 30]
    assert batch.attribute.tolist() == [[1, 0, 1], [0, 0, 1], [1, 1, 0]]
    assert describe(source)["attributes"] == {"Smiling": 2, "Male": 1, "Young": 2}


def test_attributes_are_chosen_by_name_in_the_order_asked(root: Path) -> None:
    for number in (1, 2, 3):
        paint(root / f"{number}.jpg", 10 * number)
    source = opened(celeba(root, ROWS), Attributed, attributes="Young, Smiling")
    assert isinstance(source.spec, ImageSpec)
    assert source.spec.attributes == ("Young", "Smiling")
    assert everything(source, Attributed).attribute.tolist() == [[1, 1], [1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("Smilling", "did you mean Smiling"),
        ("smiling", "did you mean Smiling"),
        ("Hat", "there are Smiling, Male, Young"),
        ("Male,Male", "once"),
        (" ,", "once"),
    ],
)
def test_an_attribute_that_is_not_there_is_answered_with_the_nearest(root: Path, asked: str, message: str) -> None:
    paint(root / "1.jpg", 1)
    with pytest.raises(RequestError, match=rf"--attributes .*{message}"):
        opened(celeba(root, {"1.jpg": "1 1 1"}), Attributed, attributes=asked)


def test_pictures_without_a_row_and_rows_without_a_picture_are_counted(root: Path) -> None:
    for number in (1, 2, 8):
        paint(root / f"{number}.jpg", 10 * number)
    source = opened(celeba(root, ROWS), Attributed)
    assert levels(everything(source, Attributed)) == [10, 20]
    assert any("1 pictures skipped because list_attr_celeba.txt has no row" in note for note in source.notes)
    assert any("1 rows of list_attr_celeba.txt name no picture" in note for note in source.notes)
    assert opened(root, Images).count == 3


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "not CelebA's format"),
        ("two\nA B\n1.jpg 1 1\n", "not CelebA's format"),
        ("1\nA B\n1.jpg 1\n", "line 3 has 1 values, the second line 2 names"),
        ("1\nA B\n1.jpg 1 2\n", "line 3 has the value '2'"),
        ("1\nA B\n7.jpg 1 1\n", "no row of list_attr_celeba.txt names one of the pictures"),
    ],
)
def test_a_damaged_table_of_attributes_is_refused_by_line(root: Path, table: str, message: str) -> None:
    paint(root / "1.jpg", 1)
    (root / "list_attr_celeba.txt").write_text(table)
    with pytest.raises(RequestError, match=message):
        opened(root, Attributed)


@pytest.mark.parametrize(
    "text",
    [
        "file,glasses,age,hat\n1.png,1,30,0\n2.png,0,41,1\n",
        "image_id,glasses,hat\n1,1,-1\n2,-1,1\n",
        "Filename,age,glasses,hat\nsub/1.png,3,true,False\nsub/2.png,4,FALSE,true\n",
        "file,glasses,hat,split\n1.png,yes,no,train\n2.png,no,yes,train\n",
    ],
)
def test_the_yes_or_no_columns_of_a_csv_are_attributes(root: Path, text: str) -> None:
    paint(root / "sub/1.png", 10)
    paint(root / "sub/2.png", 20)
    (root / "about.csv").write_text(text)
    source = opened(root)
    assert isinstance(source.spec, ImageSpec)
    assert source.spec.attributes == ("glasses", "hat")
    assert everything(source, Attributed).attribute.tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,hat\n1.png,1\n2.png\n", "line 3 has 1 cells, the first line has 2"),
        ("hat,scarf\n1,0\n", r"no column names the picture; call it 'file'"),
        ("file,hat,hat\n1.png,1,1\n", "must name the columns, each once"),
        ("file,size\n1.png,30\n", "has no column of 0 and 1"),
    ],
)
def test_a_csv_that_gives_no_attributes_is_refused_with_the_reason(root: Path, text: str, message: str) -> None:
    paint(root / "1.png", 10)
    (root / "about.csv").write_text(text)
    with pytest.raises(RequestError, match=message):
        opened(root, Attributed)


@pytest.mark.parametrize("name", ["list_eval_partition.txt", "Eval/list_eval_partition.txt"])
def test_celebas_partition_keeps_test_pictures_out_of_training(root: Path, name: str) -> None:
    for number in (1, 2, 3):
        paint(root / f"img_align_celeba/{number}.jpg", 10 * number)
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text("1.jpg 0\n2.jpg 1\n3.jpg 2\n")
    celeba(root, ROWS)
    assert levels(everything(opened(root, Images), Images)) == [10]
    assert levels(everything(opened(root, Images, split="test"), Images)) == [30]
    assert everything(opened(root, Attributed, split="test"), Attributed).attribute.tolist() == [[1, 1, 0]]
    assert describe(opened(root))["splits"] == {"train": 1, "val": 1, "test": 1}


def test_a_column_split_keeps_test_pictures_out_of_training(root: Path) -> None:
    for number in range(4):
        paint(root / f"{number}.png", 10 * number)
    (root / "captions.csv").write_text(
        "file,caption,split\n" + "".join(f"{n}.png,it is the number {n},{'test' if n > 1 else 'train'}\n" for n in range(4))
    )
    train, test = opened(root, Captioned), opened(root, Captioned, split="test")
    assert levels(everything(train, Images)) == [0, 10]
    assert levels(everything(test, Images)) == [20, 30]
    # The encoder has learnt from the pictures to train on alone, and means the same for both.
    assert train.encoder is not None
    assert test.encoder is not None
    assert (train.encoder.encode(["it is the number 1"]) == test.encoder.encode(["it is the number 1"])).all()
    assert not (train.encoder.encode(["3"])).any()


@needs_data
@pytest.mark.parametrize(
    ("name", "count", "tested"),
    [("mnist/mnist.npz", 10_000, 2_000), ("cifar10/cifar10.npz", 10_000, 2_000), ("faces/faces.npz", 2_000, 400)],
)
def test_the_test_arrays_of_known_sets_share_no_picture_with_those_to_train_on(name: str, count: int, tested: int) -> None:
    trained: set[bytes] = set()
    held = 0
    for split in ("train", "test"):
        source = open_source(str(SHARED / name), kinds=(Images,), split=split)
        assert isinstance(source, Finite)
        assert source.count == (count if split == "train" else tested)
        pictures = {picture.tobytes() for picture in images_to_bytes(everything(source, Images).x).numpy()}
        held += len(pictures & trained)
        trained |= pictures
    assert held == 0
