"""Arrays of pictures brought to the channels and the size that were asked for."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from ganforge.errors import RequestError

LARGEST = 4096
"""The largest side of a picture that is served."""
_CHUNK = 1024


def check_fit(size: int | None, channels: int | None) -> None:
    """RequestError unless `size` is 1..4096 and `channels` 1 or 3, where they are given."""
    if size is not None and not 1 <= size <= LARGEST:
        raise RequestError(f"size = {size}: pictures are squares of 1 to {LARGEST} pixels a side")
    if channels not in (None, 1, 3):
        raise RequestError(f"channels = {channels}: pictures have 1 channel (grey) or 3 (RGB)")


def fit(pixels: NDArray[np.uint8], size: int | None, channels: int | None) -> NDArray[np.uint8]:
    """uint8 [n, H, W, C] to the channels asked for, and to `size` x `size`: centre square, bicubic. None changes nothing."""
    if channels == 1 and pixels.shape[-1] == 3:
        pixels = luminance(pixels)
    if size is not None and pixels.shape[1:3] != (size, size):
        pixels = _resized(pixels, size)
    return np.repeat(pixels, 3, axis=-1) if channels == 3 and pixels.shape[-1] == 1 else pixels


def _resized(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    height, width = pixels.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = pixels[:, top : top + side, left : left + side]
    fitted = np.empty((len(pixels), size, size, pixels.shape[-1]), dtype=np.uint8)
    for start in range(0, len(pixels), _CHUNK):
        chunk = torch.from_numpy(square[start : start + _CHUNK].astype(np.float32)).permute(0, 3, 1, 2)
        resized = F.interpolate(chunk, size=(size, size), mode="bicubic", antialias=True)
        fitted[start : start + _CHUNK] = resized.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return fitted


def luminance(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB [..., 3] to grey [..., 1]: the luma of ITU-R 601-2 in Pillow's fixed-point rounding, so that arrays and files agree."""
    red, green, blue = np.moveaxis(pixels.astype(np.uint32), -1, 0)
    grey: NDArray[np.uint8] = ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).astype(np.uint8)
    return grey[..., None]
