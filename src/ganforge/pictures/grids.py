"""Contact sheets: many small pictures on one, enlarged without blur so that each pixel can be told."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ganforge.errors import RequestError
from ganforge.pictures.canvas import INK, PAPER

_SHEET = 600
_GAP = 2


def grid(images: NDArray[np.uint8], columns: int | None = None, scale: int | None = None) -> Image.Image:
    """Pictures, uint8 [n, H, W, 1 or 3], row by row on one sheet with white lines between; grey ones give a grey sheet.

    `columns` is chosen so that the sheet is about square and, where n allows, full; `scale` is the whole factor of the nearest-neighbour
    enlargement, chosen so that the sheet is about 600 pixels wide. RequestError where a shape, a type or a number makes no sheet.
    """
    if images.ndim != 4 or 0 in images.shape or images.shape[-1] not in (1, 3) or images.dtype != np.uint8:
        raise RequestError(f"a grid of {images.dtype} {list(images.shape)}: pictures are uint8 [n, H, W, 1 or 3], at least one")
    n, height, width, channels = images.shape
    columns = _columns(n, height / width) if columns is None else columns
    if columns < 1:
        raise RequestError(f"columns = {columns}: a grid has at least 1")
    scale = max(1, round(_SHEET / (min(columns, n) * width))) if scale is None else scale
    if scale < 1:
        raise RequestError(f"scale = {scale}: pictures are enlarged 1 time or more")
    columns = min(columns, n)
    rows = math.ceil(n / columns)
    enlarged = images.repeat(scale, axis=1).repeat(scale, axis=2)
    tall, wide = height * scale + _GAP, width * scale + _GAP
    sheet = np.full((rows * tall + _GAP, columns * wide + _GAP, channels), 255, dtype=np.uint8)
    for index, picture in enumerate(enlarged):
        top, left = (index // columns) * tall + _GAP, (index % columns) * wide + _GAP
        sheet[top : top + height * scale, left : left + width * scale] = picture
    return Image.fromarray(sheet[..., 0] if channels == 1 else sheet)


def strip(images: NDArray[np.uint8]) -> Image.Image:
    """Pictures, uint8 [n, H, W, 1 or 3], in one row from left to right: the steps of an interpolation."""
    return grid(images, columns=max(1, len(images)))


def captioned(picture: Image.Image, caption: str) -> Image.Image:
    """The picture with a line of text below it; the picture itself where the text is empty. What is too long for its width is cut."""
    if not caption:
        return picture
    font = ImageFont.load_default(16)
    while len(caption) > 1 and font.getlength(caption) > picture.width - 12:
        caption = caption[:-2].rstrip() + "…"
    sheet = Image.new(picture.mode, (picture.width, picture.height + 26), PAPER)
    sheet.paste(picture)
    ImageDraw.Draw(sheet).text((6, picture.height + 3), caption, fill=INK, font=font)
    return sheet


def _columns(n: int, tallness: float) -> int:
    """The fewest columns that fill the last row and make the sheet no taller than it is wide, unless only a flat sheet could be full."""
    square = max(1, math.ceil(math.sqrt(n * tallness) - 1e-9))
    full = (columns for columns in range(square, min(n, 2 * square) + 1) if n % columns == 0)
    return next(full, min(n, square))
