"""Pictures, one after another, as one moving picture."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, cast

from PIL import Image

from ganforge.errors import RequestError, TrainingError
from ganforge.files import atomic_write
from ganforge.pictures.canvas import PAPER, WIDTH
from ganforge.pictures.grids import captioned

ANIMATED = (".gif", ".webp", ".mp4")
"""The endings of animations."""
FASTEST = 25
"""Frames a second, as films have; browsers slow a GIF down that asks for more than about 50."""


def check_animated(out: Path) -> None:
    """RequestError where no animation can be written to `out`: another ending, or .mp4 without the program `ffmpeg` on the PATH."""
    if out.suffix.lower() not in ANIMATED:
        raise RequestError(f"{out}: an animation ends in .gif, .webp or .mp4")
    if out.suffix.lower() == ".mp4" and shutil.which("ffmpeg") is None:
        raise RequestError(f"{out}: .mp4 needs the program ffmpeg; install ffmpeg, or end the name in .gif or .webp")


def animation(
    frames: Sequence[Path],
    out: Path,
    seconds: float = 8.0,
    *,
    hold: float = 2.0,
    width: int = WIDTH,
    captions: Sequence[str] = (),
) -> None:
    """The pictures, in order, as an endless .gif or .webp or as an .mp4 at `out`; the last is held `hold` seconds longer.

    They share `seconds` evenly; of more than 25 a second, evenly chosen ones are shown, the first and the last among them. Larger ones
    are shrunk to `width` pixels across and high, and those of a game that grows enlarged to the largest, without blur. `captions`, one
    for each frame, stand below them. RequestError where there is no frame, or `check_animated` says so; TrainingError where ffmpeg fails.
    """
    check_animated(out)
    if not frames:
        raise RequestError(f"{out}: no frames; an animation needs at least one picture")
    if not seconds > 0:
        raise RequestError(f"seconds = {seconds}: an animation lasts longer than 0")
    most = max(2, int(seconds * FASTEST))
    if len(frames) > most:
        chosen = [round(i * (len(frames) - 1) / (most - 1)) for i in range(most)]
        frames, captions = [frames[i] for i in chosen], [captions[i] for i in chosen if captions]
    mode, box = _mode_and_box(frames, width)
    texts = captions or [""] * len(frames)

    def pictures(numbers: Iterable[int]) -> Iterator[Image.Image]:
        # One at a time: a minute of them would fill the memory.
        return (captioned(_fitted(_opened(frames[i], mode), box), texts[i]) for i in numbers)

    every = pictures(range(len(frames)))
    rate = len(frames) / seconds
    durations = [round(1000 / rate)] * len(frames)
    durations[-1] += round(1000 * hold)
    with atomic_write(out) as temporary:
        if out.suffix.lower() == ".mp4":
            _film(every, rate, round(hold * rate), temporary)
        elif out.suffix.lower() == ".gif":
            palette = _palette(list(pictures(round(i * (len(frames) - 1) / 7) for i in range(8))))
            every = (
                every if palette is None else (picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for picture in every)
            )
            next(every).save(temporary, save_all=True, append_images=every, duration=durations, loop=0, optimize=False)
        else:
            next(every).save(temporary, save_all=True, append_images=every, duration=durations, loop=0, quality=85, method=4)


def _film(pictures: Iterator[Image.Image], rate: float, held: int, out: Path) -> None:
    """An H.264 film by ffmpeg, `rate` pictures a second, the last of them `held` times more."""
    first = next(pictures)
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{first.width}x{first.height}", "-framerate", f"{rate:.6f}"]
    # What browsers refuse or players stumble over: odd sizes, colours that are not 4:2:0, less than a picture a second.
    filters = f"fps={FASTEST},pad=ceil(iw/2)*2:ceil(ih/2)*2:color=white,format=yuv420p"
    coded = ["-vf", filters, "-c:v", "libx264", "-crf", "18", "-movflags", "+faststart"]
    words = ["ffmpeg", "-loglevel", "error", "-y", *source, "-i", "-", *coded, f"file:{out}"]
    pixels = b""
    with tempfile.TemporaryFile() as said:
        with (
            subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said) as process,
            # Where it stops early, it says why, and its exit code is not 0.
            contextlib.suppress(BrokenPipeError),
            cast(IO[bytes], process.stdin) as pipe,
        ):
            for picture in itertools.chain([first], pictures):
                pixels = picture.convert("RGB").tobytes()
                pipe.write(pixels)
            for _ in range(held):
                pipe.write(pixels)
        said.seek(0)
        complaint = " ".join(said.read().decode(errors="replace").split())
    if process.returncode:
        raise TrainingError(f"ffmpeg failed with exit code {process.returncode}: {complaint[:300] or 'it does not say why'}")


@contextlib.contextmanager
def _reading(frame: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(frame) as picture:
            yield picture
    except OSError as error:
        raise RequestError(f"{frame}: not a readable picture ({error})") from None


def _opened(frame: Path, mode: str) -> Image.Image:
    with _reading(frame) as picture:
        return picture.convert(mode)


def _mode_and_box(frames: Sequence[Path], width: int) -> tuple[str, tuple[int, int]]:
    """L where all are grey, else RGB; the size of the largest, shrunk to fit into a square of `width`."""
    modes, across, high = set(), 0, 0
    for frame in frames:
        with _reading(frame) as picture:
            modes.add(picture.mode)
            across, high = max(across, picture.width), max(high, picture.height)
    shrink = min(1.0, width / across, width / high)
    return "L" if modes <= {"1", "L"} else "RGB", (round(across * shrink) or 1, round(high * shrink) or 1)


def _fitted(picture: Image.Image, box: tuple[int, int]) -> Image.Image:
    """Brought to the size of the box: enlarged without blur, or shrunk, and centred on paper."""
    if picture.size == box:
        return picture
    factor = min(box[0] / picture.width, box[1] / picture.height)
    size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
    picture = picture.resize(size, Image.Resampling.NEAREST if factor > 1 else Image.Resampling.LANCZOS)
    sheet = Image.new(picture.mode, box, PAPER)
    sheet.paste(picture, ((box[0] - size[0]) // 2, (box[1] - size[1]) // 2))
    return sheet


def _palette(chosen: Sequence[Image.Image]) -> Image.Image | None:
    """One palette for all, from some of them: with one for each frame, colours that stand still would flicker. Grey needs none."""
    if chosen[0].mode == "L":
        return None
    montage = Image.new("RGB", (chosen[0].width, sum(picture.height for picture in chosen)))
    for row, picture in enumerate(chosen):
        montage.paste(picture, (0, row * picture.height))
    # An octree keeps the rare strong colours, which a median cut averages away; but it leaves paper a trace grey.
    palette = montage.quantize(256, method=Image.Quantize.FASTOCTREE)
    colours = palette.getpalette() or []
    lightest = max(range(0, len(colours), 3), key=lambda start: sum(colours[start : start + 3]))
    palette.putpalette([*colours[:lightest], 255, 255, 255, *colours[lightest + 3 :]])
    return palette
