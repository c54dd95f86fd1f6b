"""`ganforge sample` and `interpolate`: new data from a trained run."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from torch import Tensor

from ganforge import pictures
from ganforge.batches import ImageSpec, Spec
from ganforge.capabilities import SamplesClasses, able, judge, sampler
from ganforge.commands.given import at_least_one, found_source, free_file, free_folder, image_spec, lasting, latents_alone, run_first
from ganforge.data.shelves import readable
from ganforge.data.text import load_encoder
from ganforge.errors import RequestError
from ganforge.game import Game
from ganforge.options import parse
from ganforge.pictures.animation import ANIMATED, FASTEST, check_animated
from ganforge.runs import RunFolder, RunRecord
from ganforge.use.conditions import class_number, latents, latents_of_class, latents_of_text, noise_columns, normal_columns, truncated
from ganforge.use.interpolate import latents_of_seeds, path_between
from ganforge.use.latents import read_latents, write_latents
from ganforge.use.load import load
from ganforge.use.sample import render, save_each
from ganforge.use.seeds import seeded

# Frames a second where they cost: a GIF of faces grows by 100 to 200 KB with each, twenty times as much as others, and plots take time.
_FEW = 10


@dataclass(frozen=True)
class SampleOptions:
    """Options of `sample`."""

    n: int | None = None
    """How many samples; None: 64, or with --class all 8 of each class."""
    class_: Annotated[str | None, tyro.conf.arg(name="class")] = None
    """Only of this class, by its name or its number; all: a row of each class, with the same noise."""
    text: str | None = None
    """Only of what this sentence says, where the run was trained on captions."""
    latents: str | None = None
    """Of the latents in this .npz, which --keep or `ganforge project` wrote."""
    pick: tuple[str, ...] = ()
    """Of these only among --latents, by their names or by their numbers from 0."""
    truncation: float = 1.0
    """Noise this much of its way from its mean: 1 none, 0.7 fewer odd samples and less variety, 0 the mean alone. Of every prior alike,
    and each seed's samples stay recognisable; what class or text is asked for is not touched."""
    seed: int = 0
    """The same seed gives the same samples."""
    out: str | None = None
    """The picture to write: a grid, or a plot for points and curves; None: samples.png in the run folder."""
    each: str | None = None
    """A folder for single files (PNG, or .npy for points) instead of one picture."""
    keep: str | None = None
    """An .npz to write the latents of the samples to, for --latents."""
    device: str = "cpu"
    """cpu, cuda, cuda:1, mps."""
    force: bool = False
    """Overwrite files that exist."""


@dataclass(frozen=True)
class InterpolateOptions:
    """Options of `interpolate`."""

    seeds: tuple[int, ...] | None = None
    """The way leads from seed to seed; None: 0 1 2 3, or with --classes 0."""
    class_: Annotated[str | None, tyro.conf.arg(name="class")] = None
    """Only of this class, by its name or its number."""
    classes: tuple[str, ...] = ()
    """The way leads from class to class, of one seed, or of a seed for each; all: through every class."""
    latents: str | None = None
    """The way leads through the latents in this .npz, which `ganforge project` or `sample --keep` wrote."""
    pick: tuple[str, ...] = ()
    """Through these only among --latents, by their names or by their numbers from 0."""
    way: Literal["auto", "slerp", "straight"] = "auto"
    """slerp: noise turns on a sphere; straight: all goes straight; auto: slerp where noise is normal, whose samples lie on a sphere.
    A class or a text goes straight in any case."""
    truncation: float = 1.0
    """As of `ganforge sample`."""
    n: int = 1
    """Walks side by side, each a row of the strip, or a moving picture of a grid; each goes through seeds of its own."""
    steps: int | None = None
    """Samples from one end to the next; None: 8 of a strip; 25 a second of an animation, 10 of a .gif or of plots."""
    seconds: float | None = None
    """How long an animation lasts; None: 2 for each way."""
    out: str | None = None
    """A .png strip, or a .gif, .webp or .mp4 (by ffmpeg) that returns to its beginning; None: interpolation.png in the run folder."""
    device: str = "cpu"
    """cpu, cuda, cuda:1, mps."""
    force: bool = False
    """Overwrite files that exist."""


def sample_command(arguments: list[str], about: str) -> int:
    """Writes samples of a run."""
    run, rest = run_first(arguments, "sample")
    options = parse(SampleOptions, rest, "sample RUN", about)
    at_least_one("--n", 1 if options.n is None else options.n)
    if options.class_ is not None and options.text is not None:
        raise RequestError("--class and --text: samples are of one or of the other")
    if options.out is not None and options.each is not None:
        raise RequestError("--out and --each: samples are written as one picture or as single files")
    latents_alone(options.latents, options.pick, {"--n": options.n, "--class": options.class_, "--text": options.text})
    return sample_run(load(run.path, device=options.device), run, options)


def sample_run(game: Game, run: RunFolder, options: SampleOptions) -> int:
    """Samples of whatever kind is asked for, as a picture or as files; the exit code."""
    out = Path(options.out or run.path / "samples.png")
    if options.each is None:
        free_file(out, (".png",), options.force or options.out is None)
    else:
        free_folder(Path(options.each), "--each")
    if options.keep is not None:
        free_file(options.keep, (".npz",), options.force, "--keep")
    spec = RunRecord.read(run.record).spec
    made = []
    for prefix, draw in _asked(game, run, spec, options):
        with seeded(options.seed, game.device):
            latent = truncated(game, spec, draw(), options.truncation)
            made.append((prefix, latent, render(sampler(game), latent)))
    if options.each is not None:
        paths = [path for prefix, _, of_it in made for path in save_each(of_it, Path(options.each), prefix, force=options.force)]
        print(f"{len(paths)} files in {options.each}")
    else:
        samples, of_classes = torch.cat([of_it for _, _, of_it in made]), _classes(game, run) if options.class_ == "all" else ()
        many = len(of_classes) < len(samples)
        _painter(game, run, spec)(out, samples, columns=len(made[0][1]) if of_classes and many else None)
        print(f"{out}: {'a row' if many else 'one'} of each class, {', '.join(of_classes)}" if of_classes else out)
    if options.keep is not None:
        suffix = ".png" if isinstance(spec, ImageSpec) else ""
        names = [f"{prefix}_{number:05d}{suffix}" for prefix, latent, _ in made for number in range(len(latent))]
        write_latents(Path(options.keep), torch.cat([latent for _, latent, _ in made]), names)
        print(options.keep)
    return 0


def _asked(game: Game, run: RunFolder, spec: Spec, options: SampleOptions) -> list[tuple[str, Callable[[], Tensor]]]:
    """What names the files of each kind of samples that is asked for, and what draws its latents."""
    seed, n = f"seed{options.seed}", options.n or 64
    if options.latents is not None:
        path = Path(options.latents)
        return [(path.stem, partial(read_latents, path, game, options.pick))]
    if options.text is not None:
        encoder = load_encoder(run.text)
        unknown = encoder.unknown(options.text)
        # Where nothing is known at all, that is refused below.
        if unknown and encoder.encode([options.text]).any():
            print(f"ganforge: not in the captions of the run, and of no effect: {', '.join(map(readable, unknown))}", file=sys.stderr)
        return [(seed, partial(latents_of_text, game, options.text, run.text, n, spec))]
    if options.class_ is None:
        return [(seed, partial(latents, game, n))]
    classes = _classes(game, run)
    if options.class_ != "all":
        return [(seed, partial(latents_of_class, game, class_number(options.class_, classes), n))]
    names = [f"{name.replace('/', '_')}_{seed}" for name in classes]
    return [(name, partial(latents_of_class, game, number, options.n or 8)) for number, name in enumerate(names)]


def _classes(game: Game, run: RunFolder) -> tuple[str, ...]:
    """The names of the classes of which the game can make samples; RequestError where it cannot."""
    able(game, SamplesClasses)
    return image_spec(run).classes


def _painter(game: Game, run: RunFolder, spec: Spec) -> Callable[..., None]:
    """`pictures.portrait` of the run; a picture of samples needs no data, a plot of points shows the real ones too."""
    critic = judge(game)
    source = None if isinstance(spec, ImageSpec) else found_source(run)
    return partial(pictures.portrait, spec=spec, source=source, judge=critic.judge if critic else None)


def interpolate_command(arguments: list[str], about: str) -> int:
    """Writes a strip or an animation of the way between seeds, classes or given latents."""
    run, rest = run_first(arguments, "interpolate")
    options = parse(InterpolateOptions, rest, "interpolate RUN", about)
    at_least_one("--n", options.n)
    if options.class_ is not None and options.classes:
        raise RequestError("--class and --classes: the way is within one class or leads from class to class")
    others = {"--seeds": options.seeds, "--class": options.class_, "--classes": options.classes, "--n": options.n > 1}
    latents_alone(options.latents, options.pick, others)
    out = Path(options.out or run.path / "interpolation.png")
    free_file(out, (".png", *ANIMATED), options.force or options.out is None)
    moving = out.suffix.lower() != ".png"
    if moving:
        check_animated(out)
    elif options.seconds is not None:
        raise RequestError(f"--seconds {options.seconds:g}: a strip does not move; end --out in {' or '.join(ANIMATED)}")
    if options.seconds is not None:
        lasting(options.seconds)
    game, spec = load(run.path, device=options.device), RunRecord.read(run.record).spec
    walks = _walks(game, run, options)
    ways = len(walks[0][1])
    seconds = options.seconds or 2.0 * ways
    rate = FASTEST if isinstance(spec, ImageSpec) and out.suffix.lower() != ".gif" else _FEW
    steps = options.steps if options.steps is not None else max(1, round(seconds * rate / ways)) if moving else 8
    turning = {"auto": normal_columns, "slerp": noise_columns}.get(options.way)
    spherical = turning(game, spec) if turning else None
    rows = []
    for seed, ends in walks:
        latent = path_between(truncated(game, spec, ends, options.truncation), steps, spherical, closed=moving)
        with seeded(seed, game.device):
            rows.append(render(sampler(game), latent))
    samples, paint = torch.stack(rows), _painter(game, run, spec)
    if not moving:
        # A single long walk is folded: a row for each way, which begins where the one above it ends.
        strips = samples if len(samples) > 1 else samples[0].unfold(0, steps + 1, steps).movedim(-1, 1)
        paint(out, strips.flatten(0, 1), columns=strips.shape[1])
    else:
        with tempfile.TemporaryDirectory() as folder:
            frames = [Path(folder) / f"{number:05d}.png" for number in range(samples.shape[1])]
            for number, frame in enumerate(frames):
                paint(frame, samples[:, number])
            pictures.animation(frames, out, seconds, hold=0)
    print(out)
    return 0


def _walks(game: Game, run: RunFolder, options: InterpolateOptions) -> list[tuple[int, Tensor]]:
    """The ends of each walk, [k, ...], with its first seed: each walk goes through the seeds after those of the one before."""
    if options.latents is not None:
        return [(0, read_latents(Path(options.latents), game, options.pick))]
    asked = options.classes if options.class_ is None else (options.class_,)
    known = _classes(game, run) if asked else ()
    numbers = range(len(known)) if options.classes == ("all",) else [class_number(name, known) for name in asked]
    seeds = options.seeds if options.seeds is not None else (0,) if options.classes else (0, 1, 2, 3)
    apart = max(seeds, default=0) - min(seeds, default=0) + 1
    rows = [[seed + row * apart for seed in seeds] for row in range(options.n)]
    return [(row[0] if row else 0, latents_of_seeds(game, row, numbers)) for row in rows]
