"""How a picture of one shape comes to another: the geometry, and arrays of pictures brought to a shape and to channels."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

Fit = Literal["crop", "pad", "stretch", "patch"]
_CHUNK = 1024


class Box(NamedTuple):
    """A rectangle of pixels within a picture."""

    top: int
    left: int
    height: int
    width: int


def crop_box(height: int, width: int, shape: tuple[int, int]) -> Box:
    """The largest rectangle of the aspect of `shape` (height, width) in a picture of height x width, in its middle."""
    if height * shape[1] > width * shape[0]:
        cut = max(1, _ratio(width * shape[0], shape[1])), width
    else:
        cut = height, max(1, _ratio(height * shape[1], shape[0]))
    return Box((height - cut[0]) // 2, (width - cut[1]) // 2, *cut)


def pad_box(height: int, width: int, shape: tuple[int, int]) -> Box:
    """Where a whole picture of height x width lies, scaled, in the middle of `shape` (height, width)."""
    if height * shape[1] > width * shape[0]:
        scaled = shape[0], max(1, _ratio(width * shape[0], height))
    else:
        scaled = max(1, _ratio(height * shape[1], width)), shape[1]
    return Box((shape[0] - scaled[0]) // 2, (shape[1] - scaled[1]) // 2, *scaled)


def enlarged(height: int, width: int, shape: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a picture scaled just so much that it holds a patch of `shape`; as it is where it does already."""
    if height >= shape[0] and width >= shape[1]:
        return height, width
    if shape[0] * width > shape[1] * height:
        return shape[0], max(shape[1], _ratio(width * shape[0], height))
    return max(shape[0], _ratio(height * shape[1], width)), shape[1]


def _ratio(numerator: int, denominator: int) -> int:
    """Rounded, halves up."""
    return (2 * numerator + denominator) // (2 * denominator)


def fit(
    pixels: NDArray[np.uint8], shape: int | tuple[int, int] | None, channels: int | None = None, how: Fit = "crop"
) -> NDArray[np.uint8]:
    """uint8 [n, H, W, C] to the channels asked for, and to `shape`, (height, width) or the side of a square; bicubic. None changes nothing.

    `how` cuts the middle, pads with white, stretches, or (patch) only enlarges what is smaller than `shape` and cuts nothing.
    """
    if channels == 1 and pixels.shape[-1] == 3:
        pixels = luminance(pixels)
    if shape is not None:
        pixels = _shaped(pixels, (shape, shape) if isinstance(shape, int) else shape, how)
    return np.repeat(pixels, 3, axis=-1) if channels == 3 and pixels.shape[-1] == 1 else pixels


def _shaped(pixels: NDArray[np.uint8], shape: tuple[int, int], how: Fit) -> NDArray[np.uint8]:
    height, width = pixels.shape[1:3]
    if how == "patch":
        return _resized(pixels, enlarged(height, width, shape))
    if how == "pad":
        box = pad_box(height, width, shape)
        padded = np.full((len(pixels), *shape, pixels.shape[-1]), 255, dtype=np.uint8)
        padded[:, box.top : box.top + box.height, box.left : box.left + box.width] = _resized(pixels, (box.height, box.width))
        return padded
    if how == "crop":
        box = crop_box(height, width, shape)
        pixels = pixels[:, box.top : box.top + box.height, box.left : box.left + box.width]
    return _resized(pixels, shape)


def _resized(pixels: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    if pixels.shape[1:3] == shape:
        return pixels
    resized = np.empty((len(pixels), *shape, pixels.shape[-1]), dtype=np.uint8)
    for start in range(0, len(pixels), _CHUNK):
        chunk = torch.from_numpy(pixels[start : start + _CHUNK].astype(np.float32)).permute(0, 3, 1, 2)
        smooth = F.interpolate(chunk, size=shape, mode="bicubic", antialias=True)
        resized[start : start + _CHUNK] = smooth.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return resized


def luminance(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB [..., 3] to grey [..., 1]: the luma of ITU-R 601-2 in Pillow's fixed-point rounding, so that arrays and files agree."""
    red, green, blue = np.moveaxis(pixels.astype(np.uint32), -1, 0)
    grey: NDArray[np.uint8] = ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).astype(np.uint8)
    return grey[..., None]
