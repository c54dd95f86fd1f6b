"""What is known of single pictures: classes, attributes, captions and holes belong to the right picture, and what is wrong is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from ganforge.batches import Attributed, Batch, Captioned, Images, ImageSpec, Labelled, LowHigh, Masked, images_to_bytes
from ganforge.data import Finite, Stream, describe, masks, open_source, served_kinds
from ganforge.data.layouts.images import Pictures
from ganforge.errors import RequestError

CPU = torch.device("cpu")
SHARED = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="no data beside the project")


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANFORGE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "pictures"
    path.mkdir()
    return path


def paint(path: Path, level: int, size: int = 4) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (size, size), level).save(path)
    return path


def opened(path: Path | str, *kinds: type[Batch], **options: Any) -> Pictures:
    source = open_source(str(path), kinds=kinds, **{"size": 4, **options})
    assert isinstance(source, Pictures)
    return source


def everything(source: Finite, kind: type[Batch]) -> Any:
    return source.gather(kind, torch.arange(source.count), CPU)


def levels(batch: Any) -> list[int]:
    """The first byte of each picture, which is all there is to a flat grey one."""
    return [int(value) for value in images_to_bytes(batch.image)[:, 0, 0, 0]]


def labels(source: Pictures) -> dict[int, str]:
    assert isinstance(source.spec, ImageSpec)
    batch = everything(source, Labelled)
    return dict(zip(levels(batch), (source.spec.classes[label] for label in batch.label.tolist()), strict=True))


# Classes


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
    assert any("1 pictures skipped" in note and "stray.png" in note for note in opened(root, Labelled).notes)
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


# Attributes


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


# Captions


def told(root: Path, count: int = 3) -> Path:
    for number in range(count):
        paint(root / f"{number}.png", 10 * number)
    return root


WRITTEN = {
    "captions.jsonl": "\n".join(json.dumps({"file": f"{n}.png", "captions": [f"number {n} of three", f"this is {n}"]}) for n in range(3)),
    "captions.csv": "file,caption\n" + "\n".join(f"{n}.png,{text}" for n in range(3) for text in (f"number {n} of three", f"this is {n}")),
    "metadata.jsonl": "\n".join(json.dumps({"file_name": f"{n}.png", "text": [f"number {n} of three", f"this is {n}"]}) for n in range(3)),
    "captions.tsv": "image\tdescription\n"
    + "\n".join(f"{n}\t{text}" for n in range(3) for text in (f"number {n} of three", f"this is {n}")),
    "captions_train.json": json.dumps(
        {
            "images": [{"id": 7 + n, "file_name": f"{n}.png"} for n in range(3)],
            "annotations": [{"image_id": 7 + n, "caption": text} for n in range(3) for text in (f"number {n} of three", f"this is {n}")],
        }
    ),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_captions_belong_to_their_picture_however_they_are_written(root: Path, name: str) -> None:
    (told(root) / name).write_text(WRITTEN[name])
    source = opened(root)
    assert source.kinds[0] is Captioned
    assert [source.captions(index) for index in range(3)] == [[f"number {n} of three", f"this is {n}"] for n in range(3)]
    assert describe(source)["caption"] == "number 0 of three"
    batch = everything(source, Captioned)
    assert source.encoder is not None
    np.testing.assert_array_equal(batch.text.numpy(), source.encoder.encode([f"number {n} of three" for n in range(3)]))


@pytest.mark.parametrize("name", WRITTEN)
def test_a_file_of_captions_may_lie_elsewhere(root: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(WRITTEN[name])
    assert opened(told(root)).kinds[0] is Images
    assert opened(root, captions=str(tmp_path / name)).captions(2) == ["number 2 of three", "this is 2"]


@pytest.mark.parametrize("folder", ["text", "text_c10"])
def test_cubs_text_folder_gives_a_caption_a_line_and_its_split_is_kept(root: Path, folder: str) -> None:
    names = ["001.Gull/gull_1", "001.Gull/gull_2", "002.Tern/tern_1"]
    for number, name in enumerate(names):
        paint(root / f"images/{name}.jpg", 10 * number)
        (root / folder / name).parent.mkdir(parents=True, exist_ok=True)
        (root / folder / f"{name}.txt").write_text(f"a bird of number {number}\nit has two wings\n")
    (root / "images.txt").write_text("\n".join(f"{number} {name}.jpg" for number, name in enumerate(names, 1)))
    (root / "train_test_split.txt").write_text("1 1\n2 0\n3 1\n")
    source = opened(root)
    assert isinstance(source.spec, ImageSpec)
    assert source.kinds[:2] == (Captioned, Labelled)
    assert source.spec.classes == ("001.Gull", "002.Tern")
    assert levels(everything(source, Images)) == [0, 20]
    assert source.captions(1) == ["a bird of number 2", "it has two wings"]
    assert levels(everything(opened(root, Captioned, split="test"), Images)) == [10]


def test_every_caption_of_a_picture_is_served_about_equally_often(root: Path) -> None:
    (told(root, 1) / "captions.jsonl").write_text(json.dumps({"file": "0.png", "captions": ["red bird", "blue bird", "green bird"]}))
    source = opened(root, Captioned)
    assert source.encoder is not None
    vectors = source.encoder.encode(["red bird", "blue bird", "green bird"])
    batch: Any = Stream(source, Captioned, seed=0, device=CPU).at(0, 600)
    nearest = (batch.text.numpy() @ vectors.T).argmax(axis=1)
    assert all(150 < count < 250 for count in np.bincount(nearest, minlength=3))


def test_pictures_without_a_caption_are_skipped_and_counted(root: Path) -> None:
    lines = [{"file": "1.png", "caption": "the only one"}, {"file": "9.png", "caption": "nobody"}, {"file": "2.png", "caption": "  "}]
    (told(root) / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    source = opened(root, Captioned)
    assert levels(everything(source, Captioned)) == [10]
    assert any("2 pictures skipped because captions.jsonl has no caption" in note for note in source.notes)
    assert any("1 lines of captions.jsonl name no picture" in note for note in source.notes)
    # One in three is too few to call the folder captioned where nobody asked for it.
    assert opened(root).kinds[0] is Images


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.csv", "file,words\n1.png,hello\n", r"no column of captions; call it 'caption'. It has 'file', 'words'"),
        ("c.csv", "caption\nhello\n", "no column names the picture"),
        ("c.csv", "file,caption\n1.png,hello, you\n", "line 2 has 3 cells, the first line has 2"),
        ("c.jsonl", '{"file": "1.png", "caption": "x"}\n{"file": \n', "line 2 is no JSON object"),
        ("c.jsonl", "[1]\n", "line 1 is no JSON object"),
        ("c.jsonl", '{"file": "1.png", "caption": 3}\n', "a caption is text or a list of texts, not '3'"),
        ("c.json", '{"images": []}', "COCO captions have 'images' and 'annotations'; 'annotations' missing"),
        ("c.json", '{"images": [{"id": 1, "file_name": "1.png"}], "annotations": [{"image_id": 1, "bbox": []}]}', "instances"),
        ("c.json", "{", "no JSON"),
        ("c.json", "[1, 2]", "neither a list of objects"),
        ("c.xml", "<a/>", "captions are read from a CSV"),
        ("c.csv", b"\xff\xfe", "not UTF-8 text"),
        ("c.csv", "file,caption\n7.png,hello\n", "no line names one of the pictures, e.g. 7.png"),
    ],
)
def test_a_file_without_captions_is_refused_with_the_reason(
    root: Path, tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    told(root)
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RequestError, match=message) as caught:
        opened(root, Captioned, captions=str(tmp_path / name))
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_a_missing_file_of_captions_is_refused(root: Path) -> None:
    with pytest.raises(RequestError, match=r"--captions nowhere\.csv: no such file"):
        opened(told(root), Captioned, captions="nowhere.csv")


def test_boxes_and_keys_beside_pictures_are_not_taken_for_captions(root: Path) -> None:
    for number in range(3):
        (told(root) / f"{number}.txt").write_text("0 0.5 0.5 0.25 0.125\n1 0.1 0.2 0.3 0.4\n")
    assert opened(root).kinds[0] is Images


def test_a_text_file_beside_each_picture_holds_its_captions(root: Path) -> None:
    for number in range(3):
        (told(root) / f"{number}.txt").write_text(f"number {number} of three\n\n")
    assert opened(root).captions(2) == ["number 2 of three"]


# Holes


def test_the_centre_hole_is_the_middle_half_of_each_side() -> None:
    mask = masks.centre(2, 8, 12)
    expected = np.zeros((8, 12))
    expected[2:6, 3:9] = 1
    assert (mask.numpy() == expected).all()
    assert mask.shape == (2, 1, 8, 12)


def test_a_block_is_one_rectangle_of_a_quarter_to_a_half_of_each_side_anywhere_within() -> None:
    mask = masks.block(torch.rand(2000, masks.BLOCK_COLUMNS, generator=torch.Generator().manual_seed(0)), 16, 32)[:, 0]
    rows, columns = mask.amax(dim=2), mask.amax(dim=1)
    assert torch.equal(mask, rows[:, :, None] * columns[:, None, :])
    for side, length in ((rows, 16), (columns, 32)):
        assert ((side.sum(dim=1) >= length / 4) & (side.sum(dim=1) <= length / 2)).all()
        assert ((side.diff(dim=1) != 0).sum(dim=1) <= 2).all()
        assert side[:, 0].any()
        assert side[:, -1].any()


def test_extreme_chance_keeps_a_block_within_the_picture() -> None:
    largest = float(np.nextafter(np.float32(1), np.float32(0)))
    for chance in (0.0, largest):
        assert masks.block(torch.full((1, masks.BLOCK_COLUMNS), chance), 9, 5).sum() >= 2


def strokes(chance: NDArray[np.float32], height: int, width: int) -> NDArray[np.bool_]:
    """One mask, stroke by stroke and pixel by pixel, from the words of `masks.free`."""
    side = min(height, width)
    hole = np.zeros((height, width), dtype=bool)
    for stroke in chance.reshape(4, -1).astype(np.float64):
        y, x, radius = stroke[0] * height, stroke[1] * width, max(0.75, side * (1 / 16 + (1 / 6 - 1 / 16) * stroke[2]) / 2)
        heading = 2 * np.pi * stroke[3]
        for piece in range(int(stroke[4] * 6) + 1):
            heading += np.radians(120) * stroke[5 + piece] * (-1) ** piece
            length = side * (1 / 16 + (1 / 3 - 1 / 16) * stroke[11 + piece])
            down, across = np.sin(heading) * length, np.cos(heading) * length
            for i in range(height):
                for j in range(width):
                    along = np.clip(((i + 0.5 - y) * down + (j + 0.5 - x) * across) / length**2, 0, 1)
                    hole[i, j] |= (i + 0.5 - y - along * down) ** 2 + (j + 0.5 - x - along * across) ** 2 < radius**2
            y, x = y + down, x + across
    return hole


def test_strokes_are_what_a_slow_loop_draws() -> None:
    chance = torch.rand(3, masks.FREE_COLUMNS, generator=torch.Generator().manual_seed(1))
    for height, width in ((16, 16), (12, 20)):
        drawn = masks.free(chance, height, width)[:, 0].numpy() > 0
        slow = np.stack([strokes(row.numpy(), height, width) for row in chance])
        # A pixel on the very edge may fall to either side in single precision.
        assert (drawn != slow).mean() < 0.005


def test_strokes_leave_most_of_a_picture_and_always_take_some() -> None:
    mask = masks.free(torch.rand(500, masks.FREE_COLUMNS, generator=torch.Generator().manual_seed(0)), 64, 64)
    share = mask.mean(dim=(1, 2, 3))
    assert share.min() > 0.01
    assert share.max() < 0.6
    assert 0.15 < share.mean() < 0.25
    tiny = masks.free(torch.rand(200, masks.FREE_COLUMNS, generator=torch.Generator().manual_seed(0)), 4, 4)
    assert (tiny.sum(dim=(1, 2, 3)) > 0).all()


@pytest.mark.parametrize("how", ["block", "free"])
def test_random_holes_differ_between_pictures_and_epochs_but_not_when_nothing_is_random(root: Path, how: str) -> None:
    source = opened(told(root), Masked, mask=how, size=16)
    drawn: Any = Stream(source, Masked, seed=0, device=CPU).at(0, 9)
    assert len({mask.numpy().tobytes() for mask in drawn.mask}) == 9
    fixed = everything(source, Masked)
    assert torch.equal(fixed.mask, everything(source, Masked).mask)
    assert len({mask.numpy().tobytes() for mask in fixed.mask}) == 3


def stencil(path: Path, seed: int, size: int = 20) -> NDArray[np.bool_]:
    path.parent.mkdir(parents=True, exist_ok=True)
    hole = np.random.default_rng(seed).random((size, size)) > 0.6
    Image.fromarray((hole * 255).astype(np.uint8)).save(path)
    return hole


@pytest.mark.parametrize("options", [{"jitter": 4}, {"fit": "patch"}])
def test_mask_files_with_the_names_of_the_pictures_are_cut_and_mirrored_with_them(
    root: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    for seed in range(4):
        hole = stencil(tmp_path / f"holes/{seed}.png", seed)
        Image.fromarray((hole * 200).astype(np.uint8)).save(root / f"{seed}.png")
    source = opened(root, Masked, mask=str(tmp_path / "holes"), size=16, flip=True, **options)
    batch: Any = Stream(source, Masked, seed=0, device=CPU).at(0, 40)
    assert torch.equal(batch.mask, (batch.image > -1).float())
    assert len({mask.numpy().tobytes() for mask in batch.mask}) > 20


def test_mask_files_with_other_names_are_chosen_by_chance(root: Path, tmp_path: Path) -> None:
    holes = {stencil(tmp_path / f"holes/m{seed}.png", seed, 16).tobytes(): seed for seed in range(5)}
    source = opened(told(root), Masked, mask=str(tmp_path / "holes"), size=16)
    batch: Any = Stream(source, Masked, seed=0, device=CPU).at(0, 200)
    chosen = [holes[(mask[0].numpy() > 0).tobytes()] for mask in batch.mask]
    assert all(20 < count < 65 for count in np.bincount(chosen, minlength=5))


def test_a_mask_that_is_nothing_is_refused_where_holes_are_wanted(root: Path) -> None:
    with pytest.raises(RequestError, match="--mask center: neither centre, block, free nor a folder"):
        opened(told(root), Masked, mask="center")
    assert opened(root, Images, mask="center").kinds == (Images, LowHigh)


# Real data


@needs_data
def test_celeba_serves_all_that_is_known_of_its_faces() -> None:
    source = open_source(str(SHARED / "celeba_attr"), size=16, strict=True)
    assert isinstance(source, Pictures)
    assert source.kinds == served_kinds(source) == (Captioned, Attributed, Images, Masked, LowHigh)
    assert source.count == 3000
    male = source.spec.attributes.index("Male") if isinstance(source.spec, ImageSpec) else -1
    batch = everything(source, Attributed)
    said = torch.tensor(
        [any(word in {"man", "he", "his", "boy"} for word in " ".join(source.captions(i)).replace(";", "").split()) for i in range(3000)]
    )
    assert ((batch.attribute[:, male] > 0) == said).float().mean() > 0.99


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
