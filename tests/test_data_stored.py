"""Array files: what is served is what was stored, test arrays are never trained on, and what is not understood is refused by field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ganforge.batches import Batch, Images, ImageSpec, Labelled, images_to_bytes
from ganforge.data import Finite, Source, open_source
from ganforge.errors import RequestError

NOISE = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)


def all_of(source: Source) -> Batch:
    assert isinstance(source, Finite)
    return source.gather(source.kinds[0], torch.arange(source.count), torch.device("cpu"))


def pixels_of(source: Source) -> NDArray[np.uint8]:
    return images_to_bytes(all_of(source).x).numpy()


def npz(path: Path, **fields: Any) -> str:
    np.savez(path, **fields)
    return str(path)


def test_an_npz_serves_its_own_size_labels_and_class_names(tmp_path: Path) -> None:
    labels = np.array([0, 1, 0, 2, 2, 1])
    source = open_source(npz(tmp_path / "a.npz", images=NOISE[:, :5], labels=labels, class_names=np.array(["x", "y", "z"])))
    assert source.spec == ImageSpec(5, 8, 3, ("x", "y", "z"))
    batch = all_of(source)
    assert isinstance(batch, Labelled)
    assert batch.label.tolist() == labels.tolist()
    assert (pixels_of(source) == NOISE[:, :5]).all()


def test_test_arrays_are_never_trained_on_and_can_be_asked_for(tmp_path: Path) -> None:
    fields = {"train_images": NOISE[:2], "test_images": NOISE[2:], "train_labels": np.array([5, 7]), "test_labels": np.array([7, 5, 9, 5])}
    path = npz(tmp_path / "a.npz", **fields, more=np.arange(3))
    train, test = open_source(path), open_source(path, split="test")
    assert (pixels_of(train) == NOISE[:2]).all()
    assert "not served: more" in train.notes
    # What is a 1 when training is a 1 when testing; a class that was never trained on has no number, so its picture has no label.
    assert isinstance(test, Finite)
    assert test.labels is not None
    assert test.spec == train.spec == ImageSpec(8, 8, 3, ("5", "7"))
    assert test.labels.tolist() == [1, 0, 0]
    assert (pixels_of(open_source(path, kinds=(Images,), split="test")) == NOISE[2:]).all()
    with pytest.raises(RequestError, match="no array 'images' or 'train_images'; it holds test_images"):
        open_source(npz(tmp_path / "b.npz", test_images=NOISE))


def test_test_labels_beyond_the_class_names_are_refused(tmp_path: Path) -> None:
    fields = {"train_images": NOISE, "train_labels": np.arange(6) % 2, "test_images": NOISE, "test_labels": np.arange(6)}
    path = npz(tmp_path / "a.npz", **fields, class_names=np.array(["x", "y"]))
    with pytest.raises(RequestError, match=r"test_labels lies within \[0, 5\]; 2 class names"):
        open_source(path, split="test")


def test_validation_arrays_are_tested_on_where_there_are_no_test_arrays(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", images=NOISE[:4], val_images=NOISE[4:])
    assert (pixels_of(open_source(path, split="test")) == NOISE[4:]).all()


def test_an_npz_is_brought_to_size_and_channels(tmp_path: Path) -> None:
    source = open_source(npz(tmp_path / "a.npz", images=np.full((3, 6, 9, 3), 90, np.uint8)), size=4, channels=1)
    assert source.spec == ImageSpec(4, 4, 1)
    assert (pixels_of(source) == 90).all()


@pytest.mark.parametrize(
    ("fields", "labels", "message"),
    [
        ({}, False, "it holds nothing"),
        ({"pictures": NOISE, "y": np.arange(6)}, False, "no array 'images' or 'train_images'; it holds pictures, y"),
        ({"images": NOISE * 1.0}, False, r"a\.npz: images is float64 within \[0, 255\]"),
        ({"images": np.array([{"a": 1}], dtype=object)}, False, "'images' cannot be read"),
        ({"images": NOISE, "labels": np.array([None] * 6)}, False, "'labels' cannot be read"),
        ({"images": NOISE, "labels": np.arange(3)}, False, r"a\.npz: labels is int64 of shape \[3\]"),
        ({"images": NOISE, "test_labels": np.arange(3)}, True, "cannot serve Labelled; .*there are no labels beside the pictures"),
    ],
)
def test_an_npz_that_is_not_understood_is_refused_with_the_arrays_found(
    tmp_path: Path, fields: dict[str, Any], labels: bool, message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        open_source(npz(tmp_path / "a.npz", **fields), kinds=(Labelled,) if labels else ())


@pytest.mark.parametrize("kept", [0, 10, 400, -30])
def test_a_truncated_npz_is_refused_by_name(tmp_path: Path, kept: int) -> None:
    whole = Path(npz(tmp_path / "whole.npz", images=NOISE)).read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[:kept])
    with pytest.raises(RequestError, match=r"cut\.npz: not an \.npz file, or one that was cut short"):
        open_source(str(tmp_path / "cut.npz"))


def test_an_npz_with_damaged_bytes_is_refused_by_field(tmp_path: Path) -> None:
    whole = bytearray(Path(npz(tmp_path / "whole.npz", images=NOISE)).read_bytes())
    whole[600:620] = bytes(20)
    (tmp_path / "bad.npz").write_bytes(whole)
    with pytest.raises(RequestError, match=r"bad\.npz: the array 'images' cannot be read"):
        open_source(str(tmp_path / "bad.npz"))


def test_an_npy_of_rows_is_points_and_of_bytes_is_pictures(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(5, 3))
    np.save(tmp_path / "rows.npy", rows)
    np.save(tmp_path / "pictures.npy", NOISE)
    points, pictures = open_source(str(tmp_path / "rows.npy")), open_source(str(tmp_path / "pictures.npy"))
    assert points.spec.shape == (3,)
    torch.testing.assert_close(all_of(points).x, torch.from_numpy(rows).float())
    assert (pixels_of(pictures) == NOISE).all()


def test_a_table_of_pictures_named_by_itself_is_answered_with_its_folder(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("file,hat\n1.png,1\n")
    with pytest.raises(RequestError, match=r"a table of pictures \(column 'file'\); name the folder"):
        open_source(str(tmp_path / "a.csv"))


def test_points_have_no_part_to_test_on(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 2)))
    with pytest.raises(RequestError, match="points have no part to test on"):
        open_source(str(tmp_path / "a.npy"), split="test")


def test_bad_npy_files_are_refused_by_name(tmp_path: Path) -> None:
    np.save(tmp_path / "whole.npy", np.zeros((50, 2)))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:300])
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "text.npy").write_text("no array")
    np.save(tmp_path / "objects.npy", np.array([{}, {}]))
    npz(tmp_path / "archive.npz", images=NOISE)
    (tmp_path / "archive.npz").rename(tmp_path / "archive.npy")
    for name in ("cut", "empty", "text", "objects", "archive"):
        with pytest.raises(RequestError, match=rf"{name}\.npy: (not an \.npy|an archive)"):
            open_source(str(tmp_path / f"{name}.npy"))


@pytest.mark.parametrize("text", ["1,2\n3.5,-4e-1\n", "x,y\n1,2\n3.5,-.4\n", "\ufeffx,y\r\n1,2\r\n\r\n3.5,-.4", "\n\n1, 2\n3.5, -.4\n"])
def test_a_csv_is_its_rows_with_or_without_a_line_of_names(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    source = open_source(str(tmp_path / "a.csv"))
    torch.testing.assert_close(all_of(source).x, torch.tensor([[1, 2], [3.5, -0.4]]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no row of numbers"),
        (b"x,y\n", "no row of numbers"),
        (b"1,2\n3\n", "not a table of numbers"),
        (b"1,2\n3,four\n", "not a table of numbers"),
        (b"1;2\n3;4\n", "not a table of numbers|no row of numbers"),
        (b"1,2\n3,nan\n", "row 1 holds a value that is not a finite number"),
        (b"\xff\xfe\x00", "not a table of numbers"),
    ],
)
def test_a_csv_that_is_no_table_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(RequestError, match=rf"a\.csv.*({message})"):
        open_source(str(tmp_path / "a.csv"))
