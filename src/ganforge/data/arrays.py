"""Sources from arrays in memory or on disk: `from_arrays`, `.npz`, `.npy` and `.csv`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ganforge.batches import Batch, Images, ImageSpec, Labelled, Points, PointSpec, images_from_bytes
from ganforge.data.order import Window
from ganforge.data.source import Finite
from ganforge.errors import RequestError


class Pictures(Finite):
    """Pictures kept as bytes: `pixels` is uint8 [n, H, W, C], in memory or mapped from a file; `labels` [n], indices into `classes`."""

    def __init__(
        self,
        name: str,
        pixels: NDArray[np.uint8],
        labels: NDArray[np.int64] | None = None,
        classes: Sequence[str] = (),
        notes: Iterable[str] = (),
    ) -> None:
        count, height, width, channels = pixels.shape
        kinds: tuple[type[Batch], ...] = (Images,) if labels is None else (Labelled, Images)
        super().__init__(name, ImageSpec(height, width, channels, tuple(classes)), kinds, notes)
        self.count = count
        self.labels = None if labels is None else torch.from_numpy(labels)
        # As a plain array: indexing a numpy.memmap pays for its subclass on every call.
        self._pixels = pixels.view(np.ndarray)

    def gather(self, kind: type[Batch], indices: Tensor, device: torch.device, window: Window | None = None) -> Batch:
        """Bytes are gathered and sent; the conversion to floats runs on the device."""
        self.require(kind)
        images = images_from_bytes(_sent(torch.from_numpy(self._pixels[indices.numpy()]), device))
        if kind is Images or self.labels is None:
            return Images(images)
        return Labelled(images, _sent(self.labels[indices], device))


class Rows(Finite):
    """Points kept as float32 [n, d]."""

    def __init__(self, name: str, points: NDArray[np.float32], notes: Iterable[str] = ()) -> None:
        super().__init__(name, PointSpec(points.shape[1]), (Points,), notes)
        self.count = len(points)
        self._points = torch.from_numpy(points)

    def gather(self, kind: type[Batch], indices: Tensor, device: torch.device, window: Window | None = None) -> Batch:
        """The rows at `indices`."""
        self.require(kind)
        return Points(_sent(self._points[indices], device))


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    # Only from pinned memory does the copy run beside the device's work.
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def from_arrays(
    samples: ArrayLike | Tensor, labels: ArrayLike | Tensor | None = None, name: str = "arrays", classes: Sequence[str] | None = None
) -> Finite:
    """A source from arrays in memory, for notebooks and tests.

    `samples` is uint8 [n, H, W] or [n, H, W, 1 or 3] (pictures), float of the same shapes within [0, 1] or [-1, 1] (pictures), or
    [n, d] (points, any real numbers). `labels` [n] are integers from 0 where `classes` names them, otherwise any integers or strings:
    their sorted distinct values are the classes. RequestError says which field is wrong and what would be right.
    """
    values = np.asarray(samples.cpu() if isinstance(samples, Tensor) else samples)
    if values.ndim == 2:
        if labels is not None or classes is not None:
            raise RequestError(f"{name}: labels belong to pictures; points [n, d] have none")
        return Rows(name, as_points(values, f"{name}: samples"))
    pixels = as_pixels(values, f"{name}: samples")
    if labels is None:
        if classes is not None:
            raise RequestError(f"{name}: classes are named but there are no labels")
        return Pictures(name, pixels)
    marks = np.asarray(labels.cpu() if isinstance(labels, Tensor) else labels)
    return Pictures(name, pixels, *as_labels(marks, len(pixels), classes, f"{name}: labels"))


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
