"""Between files, Pillow's pictures and tensors, by the data room's decoder."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from ganforge.batches import images_from_bytes, images_to_bytes
from ganforge.data.decode import decode, upright_size
from ganforge.data.decoding import calm
from ganforge.data.fit import Fit
from ganforge.errors import RequestError
from ganforge.files import atomic_write

WRITTEN = (".png", ".jpg", ".jpeg")
"""What names of written pictures end in."""
_LOSSLESS = frozenset(("1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA"))  # modes that PNG has; TIFF has the others


def read_pixels(
    picture: str | Path | Image.Image,
    channels: int | None,
    shape: tuple[int, int] | None = None,
    fit: Fit = "crop",
    longest: int | None = None,
) -> NDArray[np.uint8]:
    """A picture, or the file that holds one, as uint8 [H, W, channels] (None: 1 of a grey one, else 3).

    `shape` (height, width) is what `fit` brings it to; without it, its own size, reduced where a side is longer than `longest` pixels.
    RequestError (BadPictureError) where there is no sound picture; what is made of odd ones says `data.decode.decode`.
    """
    calm()
    place = picture if isinstance(picture, str | Path) else "the picture"
    if shape is None and longest is not None:
        shape, fit = _reduced(upright_size(_file(picture)), longest), "stretch"
    return decode(_file(picture), shape, channels, fit, place)


def read_picture(
    picture: str | Path | Image.Image,
    channels: int | None,
    shape: tuple[int, int] | None = None,
    fit: Fit = "crop",
    longest: int | None = None,
) -> Tensor:
    """The same as float [1, channels, H, W] in [-1, 1]."""
    return images_from_bytes(torch.tensor(read_pixels(picture, channels, shape, fit, longest))[None])


def as_picture(image: Tensor) -> Image.Image:
    """One picture, [1, C, H, W] or [C, H, W], float in [-1, 1] or uint8, as Pillow's: mode L or RGB."""
    batch = image[None] if image.ndim == 3 else image
    if batch.ndim != 4 or len(batch) != 1 or batch.shape[1] not in (1, 3):
        raise RequestError(f"a picture of shape {list(image.shape)}: must be [1, C, H, W] or [C, H, W] with C 1 or 3")
    pixels = (batch.permute(0, 2, 3, 1) if batch.dtype == torch.uint8 else images_to_bytes(batch))[0].cpu().numpy()
    return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels))


def write_picture(image: Tensor | Image.Image, path: Path) -> None:
    """Writes one picture, whole or not at all: .png without loss, .jpg with little (quality 95, colours at full resolution)."""
    drawn = image if isinstance(image, Image.Image) else as_picture(image)
    with atomic_write(path) as temporary:
        if path.suffix.lower() == ".png":
            drawn.save(temporary)
        else:
            drawn.save(temporary, quality=95, subsampling=0)


def _file(picture: str | Path | Image.Image) -> Path | io.BytesIO:
    if not isinstance(picture, Image.Image):
        return Path(picture)
    # Through a file, so that one decoder decides what becomes of modes, profiles and transparency.
    stored = io.BytesIO()
    ImageOps.exif_transpose(picture).save(stored, "PNG" if picture.mode in _LOSSLESS else "TIFF")
    return stored


def _reduced(size: tuple[int, int] | None, longest: int) -> tuple[int, int] | None:
    """(height, width) with the longer side cut to `longest`; None where nothing is to be done."""
    if size is None or max(size) <= longest:
        return None
    height, width = (max(1, round(side * longest / max(size))) for side in size)
    return height, width
