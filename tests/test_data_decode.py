"""One file to bytes: every mode, every orientation, and every file that is no sound picture."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ganforge.data.decode import BadPictureError, decode, is_grey
from ganforge.errors import RequestError


def saved(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def flat(mode: str, colour: int | tuple[int, ...], size: tuple[int, int] = (6, 6)) -> Image.Image:
    return Image.new(mode, size, colour)


PALETTE = Image.new("P", (6, 6), 1)
PALETTE.putpalette([0, 0, 0, 10, 200, 30])
GREY_PALETTE = Image.new("P", (6, 6), 1)
GREY_PALETTE.putpalette([0, 0, 0, 70, 70, 70])


@pytest.mark.parametrize(
    ("name", "image", "expected"),
    [
        ("grey.png", flat("L", 77), [77]),
        ("colour.png", flat("RGB", (1, 2, 3)), [1, 2, 3]),
        ("bit.png", flat("1", 1), [255]),
        ("deep.png", flat("I;16", 257 * 99), [99]),
        ("deep.tif", flat("I;16", 65535), [255]),
        ("half_clear_grey.png", flat("LA", (100, 51)), [round(100 * 0.2 + 255 * 0.8)]),
        ("clear.png", flat("RGBA", (9, 9, 9, 0)), [255, 255, 255]),
        ("opaque.png", flat("RGBA", (9, 8, 7, 255)), [9, 8, 7]),
        ("palette.png", PALETTE, [10, 200, 30]),
        ("grey_palette.png", GREY_PALETTE, [70]),
        ("ink.tif", flat("CMYK", (0, 255, 255, 0)), [255, 0, 0]),
        ("paper.jpg", flat("CMYK", (0, 0, 0, 0)), [255, 255, 255]),
        ("colour.gif", flat("RGB", (200, 0, 0)), [200, 0, 0]),
        ("colour.bmp", flat("RGB", (5, 6, 7)), [5, 6, 7]),
        ("colour.ppm", flat("RGB", (5, 6, 7)), [5, 6, 7]),
    ],
)
def test_every_mode_becomes_grey_or_rgb_bytes(tmp_path: Path, name: str, image: Image.Image, expected: list[int]) -> None:
    path = saved(tmp_path / name, image)
    for size in (None, 4):
        pixels = decode(path, size)
        side = size or 6
        assert pixels.dtype == np.uint8
        assert pixels.shape == (side, side, len(expected))
        assert (pixels == expected).all()
    assert is_grey(path) == (len(expected) == 1)


def test_a_transparent_palette_entry_shows_white(tmp_path: Path) -> None:
    path = saved(tmp_path / "clear.png", PALETTE, transparency=1)
    assert (decode(path) == 255).all()


def test_lossless_webp_and_jpeg_keep_a_flat_colour(tmp_path: Path) -> None:
    for name in ("a.webp", "a.jpg"):
        pixels = decode(saved(tmp_path / name, flat("RGB", (120, 120, 120), (64, 64)), quality=95), 16)
        assert np.abs(pixels.astype(int) - 120).max() <= 2


def test_channels_follow_pillows_luminance_or_repeat_the_grey(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    colour, grey = saved(tmp_path / "c.png", noise), saved(tmp_path / "g.png", noise.convert("L"))
    assert (decode(colour, channels=1)[..., 0] == np.asarray(noise.convert("L"))).all()
    assert (decode(grey, channels=3) == np.asarray(noise.convert("L"))[..., None]).all()


@pytest.mark.parametrize(("orientation", "black"), [(1, "left"), (3, "right"), (6, "top"), (8, "bottom")])
def test_a_picture_is_turned_as_its_exif_says(tmp_path: Path, orientation: int, black: str) -> None:
    stored = Image.new("L", (32, 32), 255)
    stored.paste(0, (0, 0, 16, 32))
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = decode(saved(tmp_path / "turned.jpg", stored, exif=exif), 16)[..., 0]
    halves = {"left": pixels[:, :8], "right": pixels[:, 8:], "top": pixels[:8], "bottom": pixels[8:]}
    assert min(halves, key=lambda side: halves[side].mean()) == black


def test_an_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [flat("RGB", (250, 0, 0)), flat("RGB", (0, 250, 0))]
    path = saved(tmp_path / "moves.gif", frames[0], save_all=True, append_images=frames[1:])
    assert (decode(path) == [250, 0, 0]).all()


@pytest.mark.parametrize("shape", [(48, 16), (16, 48)])
def test_the_centre_square_is_what_remains(tmp_path: Path, shape: tuple[int, int]) -> None:
    image = flat("RGB", (255, 0, 0), shape)
    left, top = (shape[0] - 16) // 2, (shape[1] - 16) // 2
    image.paste((0, 0, 255), (left, top, left + 16, top + 16))
    path = saved(tmp_path / "wide.png", image)
    for size in (16, 8, 32):
        assert (decode(path, size) == [0, 0, 255]).all()


def test_a_single_pixel_grows_to_any_size(tmp_path: Path) -> None:
    assert (decode(saved(tmp_path / "dot.png", flat("L", 42, (1, 1))), 64) == np.full((64, 64, 1), 42)).all()


def test_a_large_jpeg_reduced_keeps_its_quadrants(tmp_path: Path) -> None:
    image = Image.new("L", (1024, 1024))
    for place, value in {(0, 0): 0, (512, 0): 80, (0, 512): 160, (512, 512): 240}.items():
        image.paste(value, (*place, place[0] + 512, place[1] + 512))
    pixels = decode(saved(tmp_path / "large.jpg", image, quality=95), 32)[..., 0].astype(int)
    assert [pixels[8, 8], pixels[8, 24], pixels[24, 8], pixels[24, 24]] == pytest.approx([0, 80, 160, 240], abs=2)


def huge_png() -> bytes:
    """A PNG of a few bytes whose header promises 50,000 x 50,000 pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def truncated_jpeg(tmp_path: Path) -> bytes:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    return saved(tmp_path / "whole.jpg", noise).read_bytes()[:2000]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.png", b"", "empty file"),
        ("letter.jpg", b"Dear reader, this is no picture.\n", "not a picture"),
        ("header.png", b"\x89PNG\r\n\x1a\n", "not a picture|truncated|broken"),
        ("bomb.png", huge_png(), "2500000000 pixels"),
        ("postscript.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
    ],
)
def test_a_bad_file_is_refused_by_name(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadPictureError, match=f"{name}: .*({reason})"):
        decode(path, 16)


def test_a_truncated_jpeg_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "cut.jpg"
    path.write_bytes(truncated_jpeg(tmp_path))
    with pytest.raises(BadPictureError, match=r"cut\.jpg: .*truncated"):
        decode(path, 16)


def test_a_picture_just_above_pillows_limit_is_refused_and_not_only_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "wide.png", flat("L", 0, (11, 10)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(BadPictureError, match="11x10 pixels, more than 100"):
        decode(path, 4)


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "float.tif", flat("F", 1))
    with pytest.raises(RequestError, match="floating-point pixels"):
        decode(path, 4)


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadPictureError, match=r"absent\.png"):
        decode(tmp_path / "absent.png")
