"""What several games make of the same, below each other: a row of pictures for each, or their plots, with their names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from ganforge.batches import images_to_bytes
from ganforge.pictures.canvas import INK, PAPER
from ganforge.pictures.grids import grid

_SHEET = 720
_LONGEST = 240
_PAD = 8


def labelled(rows: Sequence[tuple[str, Tensor]]) -> Image.Image:
    """A sheet of rows of pictures, [n, C, H, W] in [-1, 1] with the same n in each, with the name of each at its left.

    Small pictures are enlarged without blur to the largest, by whole factors; grey rows may stand among coloured ones.
    """
    font = ImageFont.load_default(16)
    labels = [_cut(label, font) for label, _ in rows]
    margin = round(max(font.getlength(label) for label in labels)) + 2 * _PAD
    height = max(pictures.shape[2] for _, pictures in rows)
    across = max(pictures.shape[3] * (height // pictures.shape[2]) * len(pictures) for _, pictures in rows)
    scale = max(1, round(_SHEET / across))
    strips = [_strip(pictures, scale * (height // pictures.shape[2])) for _, pictures in rows]
    sheet = Image.new("RGB", (margin + max(strip.width for strip in strips), sum(strip.height for strip in strips)), PAPER)
    pen, top = ImageDraw.Draw(sheet), 0
    for label, strip in zip(labels, strips, strict=True):
        sheet.paste(strip, (margin, top))
        pen.text((margin - _PAD, top + strip.height // 2), label, fill=INK, font=font, anchor="rm")
        top += strip.height
    return sheet


def tiled(pictures: Sequence[Image.Image], columns: int = 2) -> Image.Image:
    """Pictures of any size on one white sheet, row by row, each in a field as large as the largest."""
    width, height = max(each.width for each in pictures), max(each.height for each in pictures)
    columns = min(columns, len(pictures))
    sheet = Image.new("RGB", (columns * width, -(-len(pictures) // columns) * height), PAPER)
    for number, each in enumerate(pictures):
        sheet.paste(each, (number % columns * width, number // columns * height))
    return sheet


def _strip(pictures: Tensor, scale: int) -> Image.Image:
    shown = F.interpolate(pictures.expand(-1, 3, -1, -1), scale_factor=scale, mode="nearest")
    pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = images_to_bytes(shown).cpu().numpy()
    return grid(pixels, columns=len(pixels), scale=1)


def _cut(label: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """What is too long loses its beginning: names of runs differ at their ends."""
    while len(label) > 1 and font.getlength(label) > _LONGEST:
        label = "…" + label[2:]
    return label
