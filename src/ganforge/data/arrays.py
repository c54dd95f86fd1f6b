"""Sources from arrays in memory, and what an array must be to be pictures, labels or points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields as dataclass_fields

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ganforge.batches import Batch, ImageSpec, Points, PointSpec, Spec, images_from_bytes
from ganforge.data.layouts.albums import Arrays
from ganforge.data.layouts.places import Place
from ganforge.data.layouts.request import Request
from ganforge.data.layouts.serving import fingerprint, sent
from ganforge.data.layouts.single import open_single
from ganforge.data.order import Window
from ganforge.data.reading import Reading
from ganforge.data.source import Finite
from ganforge.errors import RequestError


class Given(Finite):
    """Samples of one kind whose fields are given, a row of each of `tensors` a sample; pictures are uint8 [n, H, W, C] there."""

    def __init__(self, name: str, kind: type[Batch], spec: Spec, tensors: dict[str, Tensor]) -> None:
        super().__init__(name, spec, (kind,), [])
        self.count = len(next(iter(tensors.values())))
        self.labels = tensors.get("label")
        self.fingerprint = fingerprint((key, tuple(value.shape), value.numpy().tobytes()) for key, value in tensors.items())
        self._tensors = tensors

    def gather(self, kind: type[Batch], indices: Tensor, device: torch.device, window: Window | None = None) -> Batch:  # noqa: ARG002
        """The rows at `indices`; nothing is random."""
        self.require(kind)
        rows = {key: sent(value[indices], device) for key, value in self._tensors.items()}
        return kind(**{key: images_from_bytes(value) if value.dtype == torch.uint8 else value for key, value in rows.items()})


def rows(name: str, values: NDArray[np.generic], where: str) -> Given:
    """A source of points, numbers [n, d]; RequestError where they are not."""
    points = torch.from_numpy(as_points(values, where))
    return Given(name, Points, PointSpec(points.shape[1]), {"point": points})


def from_arrays(
    samples: ArrayLike | Tensor, labels: ArrayLike | Tensor | None = None, name: str = "arrays", classes: Sequence[str] | None = None
) -> Finite:
    """A source from arrays in memory, for notebooks and tests.

    `samples` is uint8 [n, H, W] or [n, H, W, 1 or 3] (pictures), float of the same shapes within [0, 1] or [-1, 1] (pictures), or
    [n, d] (points, any real numbers). `labels` [n] are integers from 0 where `classes` names them, otherwise any integers or strings:
    their sorted distinct values are the classes. RequestError says which field is wrong and what would be right. `from_fields` makes
    sources of other kinds.
    """
    values = _array(samples)
    if values.ndim == 2:
        if labels is not None or classes is not None:
            raise RequestError(f"{name}: labels belong to pictures; points [n, d] have none")
        return rows(name, values, f"{name}: samples")
    pixels = as_pixels(values, f"{name}: samples")
    if labels is None and classes is not None:
        raise RequestError(f"{name}: classes are named but there are no labels")
    named = (None, ()) if labels is None else as_labels(_array(labels), len(pixels), classes, f"{name}: labels")
    album = Arrays(name, pixels, *named)
    return open_single(Request(name, [Place(name, {"train": lambda: album})], "train", Reading()))


def from_fields(
    kind: type[Batch], name: str = "arrays", classes: Sequence[str] = (), attributes: Sequence[str] = (), **values: ArrayLike | Tensor
) -> Finite:
    """A source of any batch type from its fields, each an array with a row for each sample: `from_fields(Pairs, a=..., b=...)`.

    Pictures are as of `from_arrays`, labels integers from 0, attributes and masks ([n, H, W] or [n, H, W, 1]) 0 and 1, text and points
    numbers. Classes and attributes are named by their numbers where no names are given. RequestError names the field that is wrong.
    """
    wanted = [field.name for field in dataclass_fields(kind)]
    if sorted(values) != sorted(wanted):
        raise RequestError(f"{name}: {kind.__name__} has the fields {', '.join(wanted)}; given are {', '.join(values) or 'none'}")
    arrays = {key: _array(values[key]) for key in wanted}
    tensors = {key: _field(key, value, f"{name}: {key}") for key, value in arrays.items()}
    first = tensors[wanted[0]]
    short = next((key for key in wanted if len(tensors[key]) != len(first)), None)
    if short is not None:
        raise RequestError(f"{name}: {short} has {len(tensors[short])} rows, {wanted[0]} has {len(first)}; every sample needs both")
    if first.ndim == 2:
        return Given(name, kind, PointSpec(first.shape[1]), tensors)
    pictures = [tensors[key] for key in wanted if key not in ("label", "attribute", "text", "mask")]
    _, height, width, channels = max(pictures, key=lambda each: each.shape[1]).shape
    label, attribute, text = (tensors.get(key) for key in ("label", "attribute", "text"))
    spec = ImageSpec(
        height,
        width,
        channels,
        classes=tuple(classes) or _numbered(0 if label is None else int(label.max()) + 1),
        attributes=tuple(attributes) or _numbered(0 if attribute is None else attribute.shape[1]),
        text=0 if text is None else text.shape[1],
        factor=height // pictures[0].shape[1],
    )
    return Given(name, kind, spec, tensors)


def _array(values: ArrayLike | Tensor) -> NDArray[np.generic]:
    return np.asarray(values.cpu() if isinstance(values, Tensor) else values)


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(str(number) for number in range(count))


def _field(key: str, values: NDArray[np.generic], where: str) -> Tensor:
    if key == "label":
        if values.ndim != 1 or values.dtype.kind not in "iu" or values.size == 0 or values.min() < 0:
            raise RequestError(f"{where} is {values.dtype} of shape {list(values.shape)}; labels are integers [n] from 0")
        return torch.from_numpy(values.astype(np.int64))
    if key == "mask":
        holes = values[..., 0] if values.ndim == 4 else values
        return torch.from_numpy(as_pixels(holes, where)[..., 0] > 127).float()[:, None]
    if key in ("attribute", "text", "point"):
        return torch.from_numpy(as_points(values, where))
    return torch.from_numpy(as_pixels(values, where))


def as_pixels(values: NDArray[np.generic], where: str) -> NDArray[np.uint8]:
    """Pictures as uint8 [n, H, W, C], from bytes or from floats within [0, 1] or [-1, 1]; RequestError names `where` and the range seen."""
    if values.ndim == 3:
        values = values[..., None]
    if values.ndim != 4 or values.shape[-1] not in (1, 3):
        hint = "; this looks channels-first, transpose(0, 2, 3, 1)" if values.ndim == 4 and values.shape[1] in (1, 3) else ""
        raise RequestError(f"{where} has shape {list(values.shape)}; pictures are [n, H, W] or [n, H, W, 1 or 3]{hint}")
    if 0 in values.shape:
        raise RequestError(f"{where} has shape {list(values.shape)}: it holds no picture")
    if values.dtype == np.uint8:
        return values.view(np.uint8)
    rule = "store uint8 0..255, or floats within [0, 1] or [-1, 1]"
    if values.dtype.kind not in "iuf":
        raise RequestError(f"{where} is {values.dtype}; {rule}")
    low, high = float(values.min()), float(values.max())
    if values.dtype.kind != "f" or not -1 <= low <= high <= 1:
        raise RequestError(f"{where} is {values.dtype} within [{low:g}, {high:g}]; {rule}")
    unit = values.astype(np.float32) if low >= 0 else (values.astype(np.float32) + 1) / 2
    bytes_: NDArray[np.uint8] = np.rint(unit * 255).astype(np.uint8)
    return bytes_


def as_points(values: NDArray[np.generic], where: str) -> NDArray[np.float32]:
    """Points as float32 [n, d]; RequestError where they are not finite numbers."""
    if values.ndim != 2 or 0 in values.shape or values.dtype.kind not in "biuf":
        raise RequestError(f"{where} is {values.dtype} of shape {list(values.shape)}; points are numbers [n, d], at least one row")
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, and is named below
        points = np.array(values, dtype=np.float32, order="C")
    bad = np.flatnonzero(~np.isfinite(points).all(axis=1))
    if len(bad):
        raise RequestError(f"{where}: row {bad[0]} holds a value that is not a finite number ({len(bad)} such rows); remove or fill them")
    return points


def as_labels(
    values: NDArray[np.generic], count: int, classes: Sequence[str] | None, where: str
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels as indices [n] and the names of the classes; RequestError where their number, type or range is wrong."""
    if values.shape == (count, 1):
        values = values[:, 0]
    if values.shape != (count,) or values.dtype.kind not in "iuUS":
        raise RequestError(f"{where} is {values.dtype} of shape {list(values.shape)}; {count} pictures need integers or strings [{count}]")
    if classes is None:
        distinct, indices = np.unique(values, return_inverse=True)
        return indices.astype(np.int64), tuple(str(each) for each in distinct.tolist())
    known = f"{len(classes)} class names need integers 0..{len(classes) - 1}"
    if values.dtype.kind in "US":
        raise RequestError(f"{where} is {values.dtype}; {known}")
    if values.min() < 0 or values.max() >= len(classes):
        raise RequestError(f"{where} lies within [{values.min()}, {values.max()}]; {known}")
    if len(set(classes)) < len(classes):
        raise RequestError(f"{where}: two classes have the same name in {list(classes)}")
    return values.astype(np.int64), tuple(classes)
