"""Arrays in memory: what is served is what was given, and what cannot be understood is refused by field."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image

from ganforge.batches import (
    Attributed,
    Batch,
    Captioned,
    Images,
    ImageSpec,
    Labelled,
    LowHigh,
    Masked,
    Pairs,
    Points,
    PointSpec,
    TwoDomains,
    Unpaired,
    images_from_bytes,
    images_to_bytes,
)
from ganforge.data import Finite, Source, Stream, from_arrays, from_fields
from ganforge.data.fit import fit, luminance
from ganforge.errors import RequestError

PIXELS = arrays.arrays(np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 7), st.integers(1, 7), st.sampled_from([1, 3])))
NOISE = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)


def all_of(source: Source) -> Batch:
    assert isinstance(source, Finite)
    return source.gather(source.kinds[0], torch.arange(source.count), torch.device("cpu"))


def pixels_of(source: Source) -> NDArray[np.uint8]:
    return images_to_bytes(all_of(source).x).numpy()


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
    assert np.shares_memory(fit(NOISE, 8, 3), NOISE)


def test_pictures_in_memory_serve_every_kind_that_needs_no_more() -> None:
    assert from_arrays(NOISE).kinds == (Images, Masked, LowHigh)
    assert from_arrays(NOISE, np.arange(6)).kinds == (Labelled, Images, Masked, LowHigh)
    assert from_arrays(NOISE[:, :6]).kinds == (Images, Masked)


FIELDS: dict[type[Batch], tuple[dict[str, Any], Any]] = {
    Images: ({"image": NOISE}, ImageSpec(8, 8, 3)),
    Labelled: ({"image": NOISE, "label": np.arange(6) % 3}, ImageSpec(8, 8, 3, ("0", "1", "2"))),
    Pairs: ({"a": NOISE, "b": NOISE[::-1].copy()}, ImageSpec(8, 8, 3)),
    Unpaired: ({"a": NOISE, "b": NOISE[::-1].copy()}, ImageSpec(8, 8, 3)),
    LowHigh: ({"low": NOISE[:, ::2, ::2], "high": NOISE}, ImageSpec(8, 8, 3, factor=2)),
    Masked: ({"image": NOISE, "mask": NOISE[..., 0] // 128 * 255}, ImageSpec(8, 8, 3)),
    Attributed: ({"image": NOISE, "attribute": np.eye(6)[:, :2]}, ImageSpec(8, 8, 3, attributes=("0", "1"))),
    Captioned: ({"image": NOISE, "text": np.eye(6)[:, :4]}, ImageSpec(8, 8, 3, text=4)),
    TwoDomains: ({"source": NOISE, "label": np.arange(6) % 2, "target": NOISE}, ImageSpec(8, 8, 3, ("0", "1"))),
    Points: ({"point": np.eye(6)}, PointSpec(6)),
}


@pytest.mark.parametrize("kind", FIELDS)
def test_any_batch_can_be_given_by_its_fields(kind: type[Batch]) -> None:
    fields, spec = FIELDS[kind]
    source = from_fields(kind, **fields)
    assert (source.kinds, source.spec, source.count) == ((kind,), spec, 6)
    batch = all_of(source)
    assert type(batch) is kind
    for name, tensor in batch.tensors().items():
        given = np.asarray(fields[name])
        if name == "mask":
            assert (tensor[:, 0].numpy() == given / 255).all()
        elif tensor.ndim == 4:
            assert (images_to_bytes(tensor).numpy() == given).all()
        else:
            assert (tensor.numpy() == given).all()
    again = Stream(source, kind, seed=0, device=torch.device("cpu"))
    assert torch.equal(again.at(3, 4).x, again.at(3, 4).x)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"a": NOISE}, "Pairs has the fields a, b; given are a"),
        ({"a": NOISE, "c": NOISE}, "Pairs has the fields a, b; given are a, c"),
        ({"a": NOISE, "b": NOISE[:4]}, "b has 4 rows, a has 6"),
        ({"a": NOISE, "b": NOISE * 1.0}, r"b is float64 within \[0, 255\]"),
    ],
)
def test_fields_that_make_no_batch_are_refused_by_name(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        from_fields(Pairs, **fields)


def test_labels_given_as_a_field_are_integers_from_zero() -> None:
    with pytest.raises(RequestError, match=r"label is int64 .*labels are integers"):
        from_fields(Labelled, image=NOISE, label=np.arange(6) - 1)
