"""The pictures of a run as one moving picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ganforge.errors import RequestError
from ganforge.files import atomic_write
from ganforge.pictures.canvas import PAPER, WIDTH

_FASTEST = 20
"""Frames a second: browsers slow a GIF down that asks for more than about 50, and the eye follows no more than this."""
_HOLD = 2000


def animation(frames: Sequence[Path], out: Path, seconds: float = 8.0) -> None:
    """The pictures, in order, as an endless .gif or .webp at `out`, at most 720 pixels wide and tall; the last is held two seconds longer.

    They share `seconds` evenly; of more than 20 a second, evenly chosen ones are shown, the first and the last among them. Pictures of
    several sizes are enlarged to the largest without blur. RequestError where there is no frame, or another ending than these two.
    """
    if out.suffix.lower() not in (".gif", ".webp"):
        raise RequestError(f"{out}: an animation ends in .gif or .webp")
    if not frames:
        raise RequestError(f"{out}: no frames; an animation needs at least one picture")
    if not seconds > 0:
        raise RequestError(f"seconds = {seconds}: an animation lasts longer than 0")
    most = max(2, int(seconds * _FASTEST))
    if len(frames) > most:
        frames = [frames[round(i * (len(frames) - 1) / (most - 1))] for i in range(most)]
    pictures = _of_one_size([_opened(frame) for frame in frames])
    durations = [round(1000 * seconds / len(pictures))] * len(pictures)
    durations[-1] += _HOLD
    with atomic_write(out) as temporary:
        if out.suffix.lower() == ".gif":
            pictures = _of_one_palette(pictures)
            pictures[0].save(temporary, save_all=True, append_images=pictures[1:], duration=durations, loop=0, optimize=False)
        else:
            pictures[0].save(temporary, save_all=True, append_images=pictures[1:], duration=durations, loop=0, quality=85, method=4)


def _opened(frame: Path) -> Image.Image:
    try:
        with Image.open(frame) as picture:
            return picture.convert("L" if picture.mode in ("1", "L") else "RGB")
    except OSError as error:
        raise RequestError(f"{frame}: not a readable picture ({error})") from None


def _of_one_size(pictures: list[Image.Image]) -> list[Image.Image]:
    """All of the size of the largest, shrunk to fit; smaller ones (a game that grows) enlarged and centred on paper."""
    width, height = max(p.width for p in pictures), max(p.height for p in pictures)
    shrink = min(1.0, WIDTH / width, WIDTH / height)
    box = round(width * shrink), round(height * shrink)
    return [_fitted(picture, box) for picture in pictures]


def _fitted(picture: Image.Image, box: tuple[int, int]) -> Image.Image:
    if picture.size == box:
        return picture
    factor = min(box[0] / picture.width, box[1] / picture.height)
    size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
    picture = picture.resize(size, Image.Resampling.NEAREST if factor > 1 else Image.Resampling.LANCZOS)
    sheet = Image.new(picture.mode, box, PAPER)
    sheet.paste(picture, ((box[0] - size[0]) // 2, (box[1] - size[1]) // 2))
    return sheet


def _of_one_palette(pictures: list[Image.Image]) -> list[Image.Image]:
    """One palette for all, from some of them: with one for each frame, colours that stand still would flicker. Grey needs none."""
    if all(picture.mode == "L" for picture in pictures):
        return pictures
    chosen = [pictures[round(i * (len(pictures) - 1) / 7)] for i in range(8)]
    montage = Image.new("RGB", (pictures[0].width, 8 * pictures[0].height))
    for row, picture in enumerate(chosen):
        montage.paste(picture, (0, row * picture.height))
    # An octree keeps the rare strong colours, which a median cut averages away; but it leaves paper a trace grey.
    palette = montage.quantize(256, method=Image.Quantize.FASTOCTREE)
    colours = palette.getpalette() or []
    lightest = max(range(0, len(colours), 3), key=lambda start: sum(colours[start : start + 3]))
    palette.putpalette([*colours[:lightest], 255, 255, 255, *colours[lightest + 3 :]])
    return [picture.convert("RGB").quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for picture in pictures]
