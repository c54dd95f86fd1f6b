"""One file to bytes: every mode, every orientation, and every file that is no sound picture."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from ganforge.data.decode import BadPictureError, decode, is_grey, upright_size
from ganforge.data.decoding import calm
from ganforge.data.fit import Fit, crop_box, enlarged, fit, pad_box
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
    for side in (6, 4):
        pixels = decode(path, None if side == 6 else (side, side))
        assert pixels.dtype == np.uint8
        assert pixels.shape == (side, side, len(expected))
        assert (pixels == expected).all()
    assert is_grey(path) == (len(expected) == 1)


def test_a_transparent_palette_entry_shows_white(tmp_path: Path) -> None:
    path = saved(tmp_path / "clear.png", PALETTE, transparency=1)
    assert (decode(path) == 255).all()


def test_lossless_webp_and_jpeg_keep_a_flat_colour(tmp_path: Path) -> None:
    for name in ("a.webp", "a.jpg"):
        pixels = decode(saved(tmp_path / name, flat("RGB", (120, 120, 120), (64, 64)), quality=95), (16, 16))
        assert np.abs(pixels.astype(int) - 120).max() <= 2


def test_channels_follow_pillows_luminance_or_repeat_the_grey(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    colour, grey = saved(tmp_path / "c.png", noise), saved(tmp_path / "g.png", noise.convert("L"))
    assert (decode(colour, channels=1)[..., 0] == np.asarray(noise.convert("L"))).all()
    assert (decode(grey, channels=3) == np.asarray(noise.convert("L"))[..., None]).all()


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


UPRIGHT = np.arange(1, 7, dtype=np.uint8).reshape(2, 3) * 40
# What a camera stores so that, turned as the EXIF standard says of each orientation, UPRIGHT comes out.
STORED = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.T,
    6: UPRIGHT.T[::-1],
    7: UPRIGHT.T[::-1, ::-1],
    8: UPRIGHT.T[:, ::-1],
}


@pytest.mark.parametrize("orientation", STORED)
def test_a_picture_is_turned_as_its_exif_says(tmp_path: Path, orientation: int) -> None:
    image = Image.fromarray(np.ascontiguousarray(STORED[orientation]))
    path = saved(tmp_path / "turned.png", image, exif=oriented(orientation))
    assert (decode(path)[..., 0] == UPRIGHT).all()
    assert (decode(path, (2, 3))[..., 0] == UPRIGHT).all()
    assert upright_size(path) == (2, 3)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_a_turned_jpeg_is_drafted_no_smaller_than_needed(tmp_path: Path, fit: Fit) -> None:
    upright = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 320, 3), dtype=np.uint8)).resize((640, 80))
    straight = saved(tmp_path / "straight.jpg", upright, quality=95)
    turned = saved(tmp_path / "turned.jpg", upright.transpose(Image.Transpose.ROTATE_90), quality=95, exif=oriented(6))
    difference = decode(straight, (20, 160), fit=fit).astype(int) - decode(turned, (20, 160), fit=fit)
    assert np.abs(difference).mean() < 2


def test_metadata_that_cannot_be_read_spoil_no_picture(tmp_path: Path) -> None:
    calm()
    path = saved(tmp_path / "odd.jpg", flat("RGB", (9, 9, 9)), exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert decode(path).shape == (6, 6, 3)


def profile(swapped: bool) -> bytes:
    """sRGB; or, `swapped`, another space whose red is sRGB's green and the other way round."""
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    if not swapped:
        return made
    for name, other in {b"sRGB": b"swap", "sRGB".encode("utf-16-be"): "swap".encode("utf-16-be")}.items():
        made = made.replace(name, other)
    return made.replace(b"rXYZ", b"tmp.").replace(b"gXYZ", b"rXYZ").replace(b"tmp.", b"gXYZ")


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg"])
def test_an_embedded_profile_is_turned_into_srgb(tmp_path: Path, name: str) -> None:
    options: dict[str, Any] = {"quality": 100, "subsampling": 0} if name.endswith("jpg") else {}
    path = saved(tmp_path / name, flat("RGB", (250, 10, 60)), icc_profile=profile(swapped=True), **options)
    assert np.abs(decode(path).astype(int) - [10, 250, 60]).max() <= 3


def test_a_profile_applies_to_palettes_and_beneath_transparency(tmp_path: Path) -> None:
    palette = saved(tmp_path / "p.png", PALETTE, icc_profile=profile(swapped=True))
    assert np.abs(decode(palette).astype(int) - [200, 10, 30]).max() <= 3
    half = saved(tmp_path / "h.png", flat("RGBA", (250, 10, 60, 128)), icc_profile=profile(swapped=True))
    assert np.abs(decode(half).astype(int) - [132, 252, 157]).max() <= 3


@pytest.mark.parametrize("embedded", [profile(swapped=False), b"no profile at all", profile(swapped=True)[:200]])
def test_an_srgb_profile_and_a_damaged_one_change_nothing(tmp_path: Path, embedded: bytes) -> None:
    path = saved(tmp_path / "a.png", flat("RGB", (250, 10, 60)), icc_profile=embedded)
    assert (decode(path) == [250, 10, 60]).all()


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
        assert (decode(path, (size, size)) == [0, 0, 255]).all()


def test_a_single_pixel_grows_to_any_size(tmp_path: Path) -> None:
    assert (decode(saved(tmp_path / "dot.png", flat("L", 42, (1, 1))), (64, 64)) == np.full((64, 64, 1), 42)).all()


def test_a_large_jpeg_reduced_keeps_its_quadrants(tmp_path: Path) -> None:
    image = Image.new("L", (1024, 1024))
    for place, value in {(0, 0): 0, (512, 0): 80, (0, 512): 160, (512, 512): 240}.items():
        image.paste(value, (*place, place[0] + 512, place[1] + 512))
    pixels = decode(saved(tmp_path / "large.jpg", image, quality=95), (32, 32))[..., 0].astype(int)
    assert [pixels[8, 8], pixels[8, 24], pixels[24, 8], pixels[24, 24]] == pytest.approx([0, 80, 160, 240], abs=2)


SIDES = st.integers(1, 300)


@given(height=SIDES, width=SIDES, shape=st.tuples(SIDES, SIDES))
def test_a_cut_is_the_largest_middle_part_of_the_aspect(height: int, width: int, shape: tuple[int, int]) -> None:
    box = crop_box(height, width, shape)
    assert box.height == height or box.width == width
    assert abs(box.height * shape[1] - box.width * shape[0]) <= max(shape) or 1 in (box.height, box.width)
    assert 0 <= height - box.height - 2 * box.top <= 1
    assert 0 <= width - box.width - 2 * box.left <= 1
    if shape[0] * width == shape[1] * height:
        assert box == (0, 0, height, width)


@given(height=SIDES, width=SIDES, shape=st.tuples(SIDES, SIDES))
def test_a_padded_picture_touches_two_borders_and_keeps_its_aspect(height: int, width: int, shape: tuple[int, int]) -> None:
    box = pad_box(height, width, shape)
    assert box.height == shape[0] or box.width == shape[1]
    assert 1 <= box.height <= shape[0]
    assert 1 <= box.width <= shape[1]
    assert abs(box.height * width - box.width * height) <= max(height, width) or 1 in (box.height, box.width)
    assert 0 <= shape[0] - box.height - 2 * box.top <= 1
    assert 0 <= shape[1] - box.width - 2 * box.left <= 1


@given(height=SIDES, width=SIDES, shape=st.tuples(SIDES, SIDES))
def test_a_picture_is_enlarged_just_so_much_that_it_holds_the_patch(height: int, width: int, shape: tuple[int, int]) -> None:
    large = enlarged(height, width, shape)
    assert large[0] >= shape[0]
    assert large[1] >= shape[1]
    if height >= shape[0] and width >= shape[1]:
        assert large == (height, width)
    else:
        assert large[0] == shape[0] or large[1] == shape[1]
        assert abs(large[0] * width - large[1] * height) <= max(height, width)


def marked(height: int, width: int) -> Image.Image:
    """Red, with a blue middle of a third of both sides."""
    pixels = np.full((height, width, 3), (255, 0, 0), dtype=np.uint8)
    pixels[height // 3 : -(height // 3), width // 3 : -(width // 3)] = (0, 0, 255)
    return Image.fromarray(pixels)


def test_each_fit_brings_a_wide_picture_to_a_tall_shape(tmp_path: Path) -> None:
    path = saved(tmp_path / "wide.png", marked(30, 90))
    crop, pad, stretch = (decode(path, (40, 20), fit=fit) for fit in ("crop", "pad", "stretch"))
    assert crop.shape == pad.shape == stretch.shape == (40, 20, 3)
    # 15 of 90 columns remain, all of them blue in the middle third of the rows.
    assert (crop[20] == [0, 0, 255]).all()
    assert (crop[[2, 37]] == [255, 0, 0]).all()
    # 90 columns become 20, so 30 rows become 7, below 16 white ones.
    assert (pad[:16] == 255).all()
    assert (pad[23:] == 255).all()
    assert (pad[16:23].min(axis=(1, 2)) < 255).all()
    assert (stretch[20, [0, 19]] == [255, 0, 0]).all()
    assert (stretch[20, 9:11].argmax(axis=1) == 2).all()


def test_arrays_and_files_are_fitted_alike(tmp_path: Path) -> None:
    smooth = marked(60, 90).resize((45, 30), Image.Resampling.BOX).resize((90, 60), Image.Resampling.BICUBIC)
    path, array = saved(tmp_path / "a.png", smooth), np.asarray(smooth)[None]
    fits: tuple[Fit, ...] = ("crop", "pad", "stretch", "patch")
    for how in fits:
        for shape in ((24, 20), (20, 48), (100, 30)):
            file, arrays = decode(path, shape, fit=how), fit(array, shape, how=how)[0]
            assert file.shape == arrays.shape
            assert np.abs(file.astype(int) - arrays).mean() < 4, (how, shape)


def test_a_patch_is_cut_from_pixels_that_nobody_resized(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    path = saved(tmp_path / "a.png", Image.fromarray(noise))
    assert (decode(path, (16, 16), fit="patch") == noise).all()
    assert decode(path, (60, 16), fit="patch").shape == (60, 45, 3)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("shape", [(1, 1), (2, 30_000), (30_000, 2)])
def test_a_dot_and_lines_of_30000_pixels_are_served(tmp_path: Path, fit: Fit, shape: tuple[int, int]) -> None:
    path = saved(tmp_path / "thin.png", flat("L", 42, (shape[1], shape[0])))
    pixels = decode(path, (64, 48), fit=fit)
    assert pixels.shape == (64, 48, 1)
    assert set(np.unique(pixels)) <= ({42, 255} if fit == "pad" else {42})
    assert 42 in pixels


def test_a_line_that_a_patch_would_blow_up_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "thin.png", flat("L", 42, (30_000, 2)))
    with pytest.raises(BadPictureError, match=r"thin\.png: 30000x2 pixels: to hold a patch of 64x64 it would be 960000x64"):
        decode(path, (64, 64), fit="patch")
    assert decode(path, (2, 64), fit="patch").shape == (2, 30_000, 1)


def test_bytes_in_memory_are_decoded_and_named_as_told(tmp_path: Path) -> None:
    stored = saved(tmp_path / "a.png", flat("RGB", (1, 2, 3))).read_bytes()
    assert (decode(io.BytesIO(stored), (4, 4)) == [1, 2, 3]).all()
    assert not is_grey(io.BytesIO(stored))
    for content in (b"", stored[:50], b"no picture"):
        with pytest.raises(BadPictureError, match=r"^x\.zip/a\.png: ") as caught:
            decode(io.BytesIO(content), (4, 4), place="x.zip/a.png")
        assert str(caught.value) == f"x.zip/a.png: {caught.value.reason}"
        assert "BytesIO" not in str(caught.value)
    assert is_grey(io.BytesIO(b"no picture"))
    assert upright_size(io.BytesIO(b"no picture")) is None


@given(
    content=st.binary(max_size=64),
    start=st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"BM", b"II*\0", b"P6 "]),
)
def test_no_bytes_bring_anything_but_a_picture_or_a_refusal(content: bytes, start: bytes) -> None:
    with suppress(BadPictureError):
        assert decode(io.BytesIO(start + content), (4, 4), place="x").shape in ((4, 4, 1), (4, 4, 3))


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
        decode(path, (16, 16))


def test_a_truncated_jpeg_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "cut.jpg"
    path.write_bytes(truncated_jpeg(tmp_path))
    with pytest.raises(BadPictureError, match=r"cut\.jpg: .*truncated"):
        decode(path, (16, 16))


def test_a_picture_just_above_pillows_limit_is_refused_and_not_only_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "wide.png", flat("L", 0, (11, 10)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(BadPictureError, match="11x10 pixels, more than 100"):
        decode(path, (4, 4))


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "float.tif", flat("F", 1))
    with pytest.raises(RequestError, match="floating-point pixels"):
        decode(path, (4, 4))


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadPictureError, match=r"absent\.png"):
        decode(tmp_path / "absent.png")
