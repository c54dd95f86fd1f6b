"""Captions belong to their picture however they are written, and a file without captions is refused with the reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from painted import CPU, everything, levels, opened, paint

from ganforge.batches import Attributed, Captioned, Images, ImageSpec, Labelled, LowHigh, Masked
from ganforge.data import Stream, describe, open_source, served_kinds
from ganforge.data.layouts.images import Pictures
from ganforge.errors import RequestError

SHARED = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="no data beside the project")


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
