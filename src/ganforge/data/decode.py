"""One picture file to an array of bytes, whatever its mode; a file that is no sound picture is refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from ganforge.errors import RequestError

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".webp", ".avif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".tga")
)
"""What names of picture files end in."""

# Named, so that a file cannot choose a decoder that starts other programs (EPS does).
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "AVIF", "TIFF", "PPM", "JPEG2000", "TGA")
_GREY = frozenset({"1", "L", "LA", "La"})


class BadPictureError(RequestError):
    """The file `path` is no picture that can be served; `reason` says why, without the path."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.reason = reason


def decode(path: Path, size: int | None = None, channels: int | None = None) -> NDArray[np.uint8]:
    """The picture in `path` as uint8 [H, W, C], turned upright as its EXIF says; the first frame of an animation.

    `size` crops the centre square and resizes it (Lanczos); None keeps the picture as it is. `channels` is 1 (Pillow's luminance), 3
    or None: 1 for a grey picture, else 3. What is transparent shows white; 16-bit greys keep their high byte's range. Raises
    BadPictureError for what is empty, truncated, no picture, too large to be honest, or of floating-point pixels.
    """
    try:
        if path.stat().st_size == 0:
            raise BadPictureError(path, "empty file")
        with Image.open(path, formats=_FORMATS) as image:
            if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise BadPictureError(
                    path, f"{image.width}x{image.height} pixels, more than {Image.MAX_IMAGE_PIXELS} (decompression bomb?)"
                )
            if size is not None:
                # JPEGs decode at a half, quarter or eighth of their size almost for free; twice the target loses nothing visible.
                image.draft(None, (2 * size, 2 * size))
            ImageOps.exif_transpose(image, in_place=True)
            flat = _flattened(image if size is None else _centre_square(image))
            if channels is not None:
                flat = flat.convert("L" if channels == 1 else "RGB")
            if size is not None:
                flat = flat.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=3.0)
            pixels = np.asarray(flat, dtype=np.uint8)
    except BadPictureError:
        raise
    except UnidentifiedImageError:
        raise BadPictureError(path, "not a picture, or of a format that is not read") from None
    except Exception as error:  # Decoders fail on hostile bytes in every way that Python has: SyntaxError, struct.error, EOFError, ...
        raise BadPictureError(path, str(error).partition("\n")[0] or type(error).__name__) from None
    return pixels[..., None] if pixels.ndim == 2 else pixels


def is_grey(path: Path) -> bool:
    """Whether the picture in `path` has no colour by its mode or palette, from its header alone; True too where it is no sound picture."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            return _lacks_colour(image)
    except Exception:  # As in `decode`, which will say what is wrong.
        return True


def _flattened(image: Image.Image) -> Image.Image:
    """The same picture in mode L or RGB, transparency over white."""
    if image.mode.startswith("I"):
        # Pillow's own conversion clips 16-bit greys at 255, which is nearly white everywhere.
        return Image.fromarray(np.rint(np.clip(np.asarray(image, dtype=np.float32), 0, 65535) / 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range; store 8 or 16 bits")
    mode = "L" if _lacks_colour(image) else "RGB"
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert(mode)


def _lacks_colour(image: Image.Image) -> bool:
    palette = image.getpalette("RGB") if image.mode in ("P", "PA") else None
    if palette:
        return palette[0::3] == palette[1::3] == palette[2::3]
    return image.mode in _GREY or image.mode.startswith("I")


def _centre_square(image: Image.Image) -> Image.Image:
    # Cut out and not given to resize as its box: there the filter reaches beyond the box's edge.
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image if image.width == image.height else image.crop((left, top, left + side, top + side))
