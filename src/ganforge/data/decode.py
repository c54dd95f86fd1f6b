"""One picture file to an array of bytes, whatever its mode; a file that is no sound picture is refused by name."""

from __future__ import annotations

import io
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, UnidentifiedImageError

from ganforge.data.fit import Fit, crop_box, enlarged, pad_box
from ganforge.errors import RequestError

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".webp", ".avif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".tga")
)
"""What names of picture files end in."""

# Named, so that a file cannot choose a decoder that starts other programs (EPS does).
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "AVIF", "TIFF", "PPM", "JPEG2000", "TGA")
_GREY = frozenset({"1", "L", "LA", "La"})
_LONGEST = 16_384  # the side of a picture enlarged to hold a patch; a line of 30,000x2 would become half a gigabyte
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TURNED = (5, 6, 7, 8)


class BadPictureError(RequestError):
    """`place` holds no picture that can be served; `reason` says why, without the place; `gone` where it cannot even be opened."""

    def __init__(self, place: object, reason: str, gone: bool = False) -> None:
        super().__init__(f"{place}: {reason}")
        self.reason = reason
        self.gone = gone


def decode(
    file: Path | BinaryIO,
    shape: tuple[int, int] | None = None,
    channels: int | None = None,
    fit: Fit = "crop",
    place: object = None,
) -> NDArray[np.uint8]:
    """The picture in `file` as uint8 [H, W, C], turned upright as its EXIF says, in sRGB; the first frame of an animation.

    `shape` (height, width) is what `fit` brings it to (antialiased bicubic): crop cuts the largest middle part of that aspect, pad adds
    white, stretch distorts, patch enlarges a picture that is smaller and leaves others as they are. None keeps it as it is. `channels`
    is 1 (Pillow's luminance), 3 or None: 1 for a grey picture, else 3. What is transparent shows white; 16-bit greys keep their high
    byte's range. Raises BadPictureError, of `place` (the path), for what is empty, truncated, no picture, too large to be honest, or of
    floating-point pixels.
    """
    place = file if place is None else place
    try:
        stream = _stream(file)
        with stream, Image.open(stream, formats=_FORMATS) as image:
            if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise ValueError(f"{image.width}x{image.height} pixels, more than {Image.MAX_IMAGE_PIXELS} (decompression bomb?)")
            orientation = _orientation(image)
            if shape is not None and fit != "patch":
                _draft(image, shape, orientation in _TURNED)
            upright = image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image
            cut = _cut(upright, shape) if shape is not None and fit == "crop" else upright
            flat = _flattened(_in_srgb(cut, image.info.get("icc_profile")))
            if channels is not None:
                flat = flat.convert("L" if channels == 1 else "RGB")
            if shape is not None:
                flat = _shaped(flat, shape, fit)
            pixels = np.asarray(flat, dtype=np.uint8)
    except UnidentifiedImageError:
        raise BadPictureError(place, "not a picture, or of a format that is not read") from None
    except Exception as error:  # Decoders fail on hostile bytes in every way that Python has: SyntaxError, struct.error, EOFError, ...
        raise BadPictureError(place, _reason(error)) from None
    return pixels[..., None] if pixels.ndim == 2 else pixels


def is_grey(file: Path | BinaryIO) -> bool:
    """Whether the picture in `file` has no colour by its mode or palette, from its header alone; True too where it is no sound picture."""
    try:
        stream = _stream(file)
        with stream, Image.open(stream, formats=_FORMATS) as image:
            return _lacks_colour(image)
    except Exception:  # As in `decode`, which will say what is wrong.
        return True


def upright_size(file: Path | BinaryIO) -> tuple[int, int] | None:
    """(height, width) of the picture in `file` as it will be turned, from its header alone; None where it is no sound picture."""
    try:
        stream = _stream(file)
        with stream, Image.open(stream, formats=_FORMATS) as image:
            return image.size if _orientation(image) in _TURNED else (image.height, image.width)
    except Exception:  # As in `decode`, which will say what is wrong.
        return None


def _stream(file: Path | BinaryIO) -> BinaryIO:
    stream = file.open("rb") if isinstance(file, Path) else file
    if stream.seek(0, io.SEEK_END) == 0:
        stream.close()
        raise ValueError("empty file")
    stream.seek(0)
    return stream


def _reason(error: Exception) -> str:
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error).partition("\n")[0]
    return said or type(error).__name__


def _orientation(image: Image.Image) -> int:
    with suppress(Exception):  # Metadata that cannot be read spoil no picture.
        return int(image.getexif().get(_ORIENTATION, 1))
    return 1


def _draft(image: Image.Image, shape: tuple[int, int], turned: bool) -> None:
    """JPEGs decode at a half, quarter or eighth of their size almost for free; from 1.5 times the target on it shows by one grey level."""
    height, width = (3 * side // 2 for side in shape)
    image.draft(None, (height, width) if turned else (width, height))


def _cut(image: Image.Image, shape: tuple[int, int]) -> Image.Image:
    # Cut out and not given to resize as its box: there the filter reaches beyond the box's edge.
    top, left, height, width = crop_box(image.height, image.width, shape)
    return image if image.size == (width, height) else image.crop((left, top, left + width, top + height))


def _shaped(image: Image.Image, shape: tuple[int, int], fit: Fit) -> Image.Image:
    if fit == "patch":
        height, width = enlarged(image.height, image.width, shape)
        if (height, width) != (image.height, image.width) and max(height, width) > _LONGEST:
            raise ValueError(f"{image.width}x{image.height} pixels: to hold a patch of {shape[1]}x{shape[0]} it would be {width}x{height}")
        return _resized(image, height, width)
    if fit == "pad":
        top, left, height, width = pad_box(image.height, image.width, shape)
        canvas = Image.new(image.mode, (shape[1], shape[0]), "white")
        canvas.paste(_resized(image, height, width), (left, top))
        return canvas
    return _resized(image, *shape)


def _resized(image: Image.Image, height: int, width: int) -> Image.Image:
    same = image.size == (width, height)
    return image if same else image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Colours as the embedded profile means them; unchanged where it is sRGB already, or cannot be used."""
    if not profile or b"sRGB" in profile or "sRGB".encode("utf-16-be") in profile:
        return image
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if image.mode not in ("RGB", "RGBA", "CMYK"):
        return image
    with suppress(ImageCms.PyCMSError, OSError, ImportError):  # Of another colour space, damaged, or Pillow comes without LittleCMS.
        converted = ImageCms.applyTransform(image, _transform(profile, image.mode))
        return image if converted is None else converted
    return image


@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform:
    out = "RGBA" if mode == "RGBA" else "RGB"
    # Without its one-pixel cache a transform may serve several threads.
    return ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), mode, out, flags=ImageCms.Flags.NOCACHE
    )


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
