"""Arrays in memory and array files: what is served is what was stored, and what cannot be understood is refused by field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image

from ganforge.batches import Batch, ImageSpec, Labelled, images_from_bytes, images_to_bytes
from ganforge.data import Finite, Source, from_arrays, open_source
from ganforge.data.fit import fit, luminance
from ganforge.errors import RequestError

PIXELS = arrays.arrays(np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 7), st.integers(1, 7), st.sampled_from([1, 3])))
NOISE = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)


def all_of(source: Source) -> Batch:
    assert isinstance(source, Finite)
    return source.gather(source.kinds[0], torch.arange(source.count), torch.device("cpu"))


def pixels_of(source: Source) -> NDArray[np.uint8]:
    return images_to_bytes(all_of(source).x).numpy()


def npz(path: Path, **fields: Any) -> str:
    np.savez(path, **fields)
    return str(path)


@settings(deadline=None)
@given(pixels=PIXELS)
def test_bytes_to_images_to_bytes_is_the_identity(pixels: NDArray[np.uint8]) -> None:
    images = images_from_bytes(torch.from_numpy(pixels))
    assert images.shape == (len(pixels), pixels.shape[3], *pixels.shape[1:3])
    assert images.min() >= -1
    assert images.max() <= 1
    assert (images_to_bytes(images).numpy() == pixels).all()


@settings(deadline=None)
@given(pixels=PIXELS)
def test_a_source_of_bytes_serves_exactly_them(pixels: NDArray[np.uint8]) -> None:
    assert (pixels_of(from_arrays(pixels)) == pixels).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_within_0_and_1_or_minus_1_and_1_become_the_bytes_they_came_from(dtype: type) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    assert (pixels_of(from_arrays(levels.astype(dtype) / 255)) == levels).all()
    assert (pixels_of(from_arrays(levels.astype(dtype) / 127.5 - 1)) == levels).all()


def test_torch_tensors_serve_as_arrays() -> None:
    source = from_arrays(torch.from_numpy(NOISE), torch.arange(6))
    assert (pixels_of(source) == NOISE).all()
    assert source.spec == ImageSpec(8, 8, 3, ("0", "1", "2", "3", "4", "5"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (NOISE.astype(np.float32), r"samples is float32 within \[0, 255\]; store uint8"),
        (NOISE.astype(np.int64), r"samples is int64 within \[0, 255\]; store uint8"),
        (np.full((2, 3, 3), np.nan), r"within \[nan, nan\]"),
        (np.full((2, 3, 3), -1.5), r"within \[-1\.5, -1\.5\]"),
        (np.zeros((2, 3, 3), bool), "samples is bool; store uint8"),
        (NOISE.transpose(0, 3, 1, 2), r"shape \[6, 3, 8, 8\].*channels-first, transpose\(0, 2, 3, 1\)"),
        (np.zeros((2, 8, 8, 4), np.uint8), r"shape \[2, 8, 8, 4\]; pictures are"),
        (np.zeros((0, 8, 8, 3), np.uint8), "holds no picture"),
        (np.zeros(5), r"shape \[5\]; pictures are"),
        (np.zeros((0, 3)), "at least one row"),
        (np.array([["a", "b"]]), "points are numbers"),
        (np.array([[0.0, 1.0], [np.inf, 2.0]]), "row 1 holds a value that is not a finite number"),
        (np.array([[1e300]]), "row 0 holds a value that is not a finite number"),
    ],
)
def test_arrays_of_another_kind_are_refused_with_what_was_seen(values: NDArray[Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        from_arrays(values)


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (np.arange(5), None, r"shape \[5\]; 6 pictures need"),
        (np.eye(6, dtype=int), None, r"shape \[6, 6\]"),
        (np.linspace(0, 1, 6), None, "labels is float64"),
        (np.arange(6) - 1, list("abcdef"), r"within \[-1, 4\]; 6 class names need integers 0\.\.5"),
        (np.arange(6), ["a", "b"], r"within \[0, 5\]; 2 class names"),
        (np.array(["a"] * 6), ["a"], "class names need integers"),
        (np.zeros(6, int), ["a", "a"], "same name"),
        (None, ["a"], "no labels"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: NDArray[Any] | None, classes: list[str] | None, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        from_arrays(NOISE, labels, classes=classes)


def test_points_take_no_labels() -> None:
    with pytest.raises(RequestError, match="labels belong to pictures"):
        from_arrays(np.zeros((3, 2)), np.arange(3))


@pytest.mark.parametrize(
    ("labels", "classes", "indices"),
    [
        ([3, 7, 3, 7, 7, 3], ("3", "7"), [0, 1, 0, 1, 1, 0]),
        (["cat", "ant", "cat", "bee", "ant", "cat"], ("ant", "bee", "cat"), [2, 0, 2, 1, 0, 2]),
        ([[0], [1], [0], [1], [0], [1]], ("0", "1"), [0, 1, 0, 1, 0, 1]),
    ],
)
def test_distinct_labels_are_the_classes_in_order(labels: list[Any], classes: tuple[str, ...], indices: list[int]) -> None:
    source = from_arrays(NOISE, np.array(labels))
    assert isinstance(source.spec, ImageSpec)
    assert source.spec.classes == classes
    assert source.labels is not None
    assert source.labels.tolist() == indices


@settings(deadline=None)
@given(colours=arrays.arrays(np.uint8, (5, 7, 3)))
def test_grey_of_arrays_is_pillows_grey(colours: NDArray[np.uint8]) -> None:
    assert (luminance(colours)[..., 0] == np.asarray(Image.fromarray(colours).convert("L"))).all()


@settings(deadline=None)
@given(value=st.integers(0, 255), height=st.integers(1, 9), width=st.integers(1, 9), size=st.integers(1, 20))
def test_a_flat_picture_stays_flat_at_every_size(value: int, height: int, width: int, size: int) -> None:
    fitted = fit(np.full((2, height, width, 1), value, np.uint8), size, 3)
    assert fitted.shape == (2, size, size, 3)
    assert (fitted == value).all()


def test_more_pictures_than_one_chunk_are_resized_alike() -> None:
    values = (np.arange(2500) % 256).astype(np.uint8)
    fitted = fit(np.broadcast_to(values[:, None, None, None], (2500, 2, 2, 1)), 3, None)
    assert (fitted == values[:, None, None, None]).all()


def test_the_centre_square_is_what_resizing_keeps() -> None:
    wide = np.zeros((1, 4, 12, 1), np.uint8)
    wide[:, :, 4:8] = 200
    assert (fit(wide, 4, None) == 200).all()


def test_nothing_asked_changes_nothing() -> None:
    assert fit(NOISE, None, None) is NOISE
    assert fit(NOISE, 8, 3) is NOISE


def test_an_npz_serves_its_own_size_labels_and_class_names(tmp_path: Path) -> None:
    labels = np.array([0, 1, 0, 2, 2, 1])
    source = open_source(npz(tmp_path / "a.npz", images=NOISE[:, :5], labels=labels, class_names=np.array(["x", "y", "z"])))
    assert source.spec == ImageSpec(5, 8, 3, ("x", "y", "z"))
    batch = all_of(source)
    assert isinstance(batch, Labelled)
    assert batch.label.tolist() == labels.tolist()
    assert (pixels_of(source) == NOISE[:, :5]).all()


def test_test_arrays_are_never_served(tmp_path: Path) -> None:
    fields = {"train_images": NOISE[:2], "test_images": NOISE[2:], "train_labels": np.arange(2), "test_labels": np.arange(4)}
    source = open_source(npz(tmp_path / "a.npz", **fields))
    assert (pixels_of(source) == NOISE[:2]).all()
    assert any("not served: test_images, test_labels" in note for note in source.notes)
    with pytest.raises(RequestError, match="no array 'images' or 'train_images'; it holds test_images"):
        open_source(npz(tmp_path / "b.npz", test_images=NOISE))


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
        ({"images": NOISE, "test_labels": np.arange(3)}, True, "no array 'labels'; it holds images, test_labels"),
    ],
)
def test_an_npz_that_is_not_understood_is_refused_with_the_arrays_found(
    tmp_path: Path, fields: dict[str, Any], labels: bool, message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        open_source(npz(tmp_path / "a.npz", **fields), labels=labels)


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


@pytest.mark.parametrize(
    ("options", "message"),
    [({"size": 8}, "belong to pictures"), ({"channels": 1}, "belong to pictures"), ({"labels": True}, "labels")],
)
@pytest.mark.parametrize("suffix", ["npy", "csv"])
def test_points_in_files_have_no_size_channels_or_labels(tmp_path: Path, suffix: str, options: dict[str, Any], message: str) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 2)))
    (tmp_path / "a.csv").write_text("1,2\n")
    with pytest.raises(RequestError, match=message):
        open_source(str(tmp_path / f"a.{suffix}"), **options)


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
