"""`ganforge translate`, `upscale` and `inpaint`: pictures in, pictures out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from torch import Tensor

from ganforge.batches import ImageSpec
from ganforge.capabilities import Inpaints, Upscales, able
from ganforge.commands.each import Each, print_done
from ganforge.commands.given import Writing, about_pictures, at_least_one, image_spec, run_and_pictures
from ganforge.data import Reading
from ganforge.data.masks import centre
from ganforge.data.shelves import split_suffix
from ganforge.errors import RequestError
from ganforge.game import Game
from ganforge.options import parse
from ganforge.use.holes import inpaint
from ganforge.use.images import read_picture, write_picture
from ganforge.use.jobs import Found, Job, find, plan
from ganforge.use.load import load
from ganforge.use.tiles import upscale
from ganforge.use.translation import chosen_way, translate

_LONGEST = 2048
_TRANSLATE = """\
translate runs/horses horse.jpg --out zebra.png
translate runs/horses photos --out zebras --way b2a --size 256
translate runs/shoes sketch.png --out shoes/ --n 5"""
_UPSCALE = "upscale runs/srgan small.jpg --out large.png"
_INPAINT = """\
inpaint runs/faces face.jpg --mask scratch.png --out whole.png
inpaint runs/faces photos --mask centre --out filled"""
Fit = Literal["crop", "pad", "stretch"]


@dataclass(frozen=True)
class TranslateOptions:
    """Options of `translate`."""

    out: str
    """Where results go: a folder, or for one picture also a .png or .jpg file."""
    way: str | None = None
    """What is made of what, such as b2a; None: the game's usual way. For a wrong one it names those that there are."""
    n: int = 1
    """How many answers for each picture, where the game draws from many: NAME_0.png, NAME_1.png, ..."""
    seed: int = 0
    """The same seed gives the same answers, whatever other pictures are translated with it."""
    size: str | None = None
    """Bring pictures to this size first, 256 or 96x64; native: as they are, however large; None: as they are, up to 2048 a side."""
    fit: Fit = "crop"
    """How --size is reached: cut, padded with white, or stretched."""
    writing: Writing = field(default_factory=Writing)


@dataclass(frozen=True)
class UpscaleOptions:
    """Options of `upscale`."""

    out: str
    """Where results go: a folder, or for one picture also a .png or .jpg file."""
    tile: int = 256
    """Pixels of the small picture a side that are upscaled at a time: fewer take less memory, and the result is the same."""
    writing: Writing = field(default_factory=Writing)


@dataclass(frozen=True)
class InpaintOptions:
    """Options of `inpaint`."""

    out: str
    """Where results go: a folder, or for one picture also a .png or .jpg file."""
    mask: str
    """What is to be filled: a picture as large as IN in which it is white, a folder of such of the same names, or centre."""
    seed: int = 0
    """The same seed gives the same filling, where the game draws it."""
    writing: Writing = field(default_factory=Writing)


def translate_command(arguments: list[str], about: str) -> int:
    """Translates pictures."""
    run, given, rest = run_and_pictures(arguments, "translate")
    options = parse(TranslateOptions, rest, "translate RUN IN", about_pictures(about, _TRANSLATE))
    return translate_pictures(load(run.path, device=options.writing.device), image_spec(run), given, options)


def upscale_command(arguments: list[str], about: str) -> int:
    """Upscales pictures."""
    run, given, rest = run_and_pictures(arguments, "upscale")
    options = parse(UpscaleOptions, rest, "upscale RUN IN", about_pictures(about, _UPSCALE))
    return upscale_pictures(load(run.path, device=options.writing.device), image_spec(run), given, options)


def inpaint_command(arguments: list[str], about: str) -> int:
    """Fills holes in pictures."""
    run, given, rest = run_and_pictures(arguments, "inpaint")
    options = parse(InpaintOptions, rest, "inpaint RUN IN", about_pictures(about, _INPAINT))
    return inpaint_pictures(load(run.path, device=options.writing.device), image_spec(run), given, options)


def translate_pictures(game: Game, spec: ImageSpec, given: str, options: TranslateOptions) -> int:
    """Each picture at its own size where the game takes it, else at the run's; the exit code."""
    way = chosen_way(game, options.way)
    at_least_one("--n", options.n)
    shape = None if options.size in (None, "native") else Reading(size=options.size).shape()
    longest = _LONGEST if options.size is None else None
    jobs = plan(find(given), options.out, options.n, options.writing.force, options.writing.resume)
    each = Each("translating")

    def answers(image: Tensor) -> Tensor:
        return translate(game, image, way, options.seed, options.n)

    def work(job: Job) -> None:
        image = read_picture(job.file, spec.channels, shape, options.fit, longest)
        try:
            made = answers(image)
        except (RequestError, RuntimeError):
            if shape is not None or image.shape[1:] == spec.shape:
                raise
            made = answers(read_picture(job.file, spec.channels, spec.shape[1:], options.fit))
            own, run = f"{image.shape[3]}x{image.shape[2]}", f"{spec.width}x{spec.height}"
            each.note(f"{job.place}: {own} is no size for this game; such pictures come out at the run's {run}")
        for path, answer in zip(job.outs, made, strict=True):
            write_picture(answer, path)

    code = each.run(jobs, work)
    print_done(jobs, each.failed, options.out)
    return code


def upscale_pictures(game: Game, spec: ImageSpec, given: str, options: UpscaleOptions) -> int:
    """Each picture in tiles; the exit code."""
    able(game, Upscales)
    at_least_one("--tile", options.tile)
    jobs = plan(find(given), options.out, 1, options.writing.force, options.writing.resume)
    each = Each("upscaling")

    def work(job: Job) -> None:
        low, grey = read_picture(job.file, _channels(spec)), spec.channels == 1
        large = upscale(game, low.transpose(0, 1) if grey else low, options.tile, as_bytes=True, report=each.parts(job))
        write_picture(large.transpose(0, 1) if grey else large, job.outs[0])

    code = each.run(jobs, work)
    print_done(jobs, each.failed, options.out)
    return code


def inpaint_pictures(game: Game, spec: ImageSpec, given: str, options: InpaintOptions) -> int:
    """Fills the holes of each picture, which otherwise stays bit for bit the same; the exit code."""
    able(game, Inpaints)
    found = find(given)
    jobs = plan(found, options.out, 1, options.writing.force, options.writing.resume)
    mask_of = _masks(options.mask, found)
    each = Each("filling")

    def work(job: Job) -> None:
        image = read_picture(job.file, _channels(spec))
        write_picture(inpaint(game, image, _hole(mask_of[job.file], image), spec, options.seed), job.outs[0])

    code = each.run(jobs, work)
    print_done(jobs, each.failed, options.out)
    return code


def _masks(mask: str, found: Found) -> dict[Path, Path | None]:
    """The file of each picture's mask, None for the centre; RequestError where there is none of its name."""
    if mask == "centre":
        return dict.fromkeys(map(found.file, found.names))
    masks = find(mask)
    if not masks.many:
        return dict.fromkeys(map(found.file, found.names), masks.file(masks.names[0]))
    by_stem = {split_suffix(name)[0]: masks.file(name) for name in masks.names}
    if not found.many:
        by_stem = {Path(stem).name: file for stem, file in by_stem.items()}
    without = next((name for name in found.names if split_suffix(name)[0] not in by_stem), None)
    if without is not None:
        raise RequestError(f"--mask {mask}: has no picture named as {without}; each picture needs one of the same name")
    return {found.file(name): by_stem[split_suffix(name)[0]] for name in found.names}


def _channels(spec: ImageSpec) -> int | None:
    """Of the pictures to read: a game of grey ones works on the colours one by one."""
    return None if spec.channels == 1 else 3


def _hole(mask: Path | None, image: Tensor) -> Tensor:
    if mask is None:
        return centre(1, image.shape[2], image.shape[3])
    # From 128 on white, as for the masks that a run is trained with.
    hole = (read_picture(mask, 1) > 0).float()
    if not hole.any():
        raise RequestError(f"{mask}: nothing in the mask is white, so there is nothing to fill")
    return hole
