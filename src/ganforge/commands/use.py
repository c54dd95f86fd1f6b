"""`ganforge sample` and `interpolate`: new data from a trained run."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from torch import Tensor

from ganforge import pictures
from ganforge.batches import ImageSpec, images_to_bytes
from ganforge.capabilities import SamplesClasses, able, judge, sampler
from ganforge.commands.given import at_least_one, free_file, image_spec, run_first, source_of
from ganforge.errors import RequestError
from ganforge.files import atomic_write
from ganforge.game import Game
from ganforge.options import parse
from ganforge.runs import RunFolder, RunRecord
from ganforge.use.conditions import class_number, latents, latents_of_class, latents_of_text
from ganforge.use.interpolate import latents_of_seeds, path_between
from ganforge.use.load import load
from ganforge.use.sample import render, save_each
from ganforge.use.seeds import seeded


@dataclass(frozen=True)
class SampleOptions:
    """Options of `sample`."""

    n: int | None = None
    """How many samples; None: 64, or with --class all 8 of each class."""
    class_: Annotated[str | None, tyro.conf.arg(name="class")] = None
    """Only of this class, by its name or its number; all: a row of each class, with the same noise."""
    text: str | None = None
    """Only of what this sentence says, where the run was trained on captions."""
    seed: int = 0
    """The same seed gives the same samples."""
    out: str | None = None
    """The picture to write: a grid, or a plot for points and curves; None: samples.png in the run folder."""
    each: str | None = None
    """A folder for single files (PNG, or .npy for points) instead of one picture."""
    device: str = "cpu"
    """cpu, cuda, cuda:1, mps."""
    force: bool = False
    """Overwrite files that exist."""


@dataclass(frozen=True)
class InterpolateOptions:
    """Options of `interpolate`."""

    seeds: tuple[int, ...] = (0, 1, 2, 3)
    """The way leads from seed to seed."""
    steps: int = 8
    """Samples from one seed to the next."""
    out: str | None = None
    """A .png strip, or a .gif or .webp animation that returns to its beginning; None: interpolation.png in the run folder."""
    class_: Annotated[str | None, tyro.conf.arg(name="class")] = None
    """Only of this class, by its name or its number."""
    spherical: bool = False
    """Along the sphere (slerp), which suits Gaussian latents, instead of the straight line."""
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
    return sample_run(load(run.path, device=options.device), run, options)


def sample_run(game: Game, run: RunFolder, options: SampleOptions) -> int:
    """Samples of whatever kind is asked for, as a picture or as files; the exit code."""
    out = Path(options.out or run.path / "samples.png")
    if options.each is None:
        free_file(out, (".png",), options.force or options.out is None)
    if options.class_ == "all":
        return _of_all_classes(game, run, options, out)
    with seeded(options.seed, game.device):
        samples = render(sampler(game), _latents(game, run, options, options.n or 64))
    if options.each is not None:
        paths = save_each(samples, Path(options.each), f"seed{options.seed}", force=options.force)
        print(f"{len(paths)} files in {options.each}")
        return 0
    _portrait(out, samples, game, run)
    print(out)
    return 0


def _latents(game: Game, run: RunFolder, options: SampleOptions, n: int) -> Tensor:
    if options.text is not None:
        return latents_of_text(game, options.text, run.text, n)
    if options.class_ is not None:
        return latents_of_class(game, class_number(options.class_, _classes(game, run)), n)
    return latents(game, n)


def _of_all_classes(game: Game, run: RunFolder, options: SampleOptions, out: Path) -> int:
    classes, n = _classes(game, run), options.n or 8
    samples = []
    for number in range(len(classes)):
        with seeded(options.seed, game.device):
            samples.append(render(sampler(game), latents_of_class(game, number, n)))
    if options.each is not None:
        folder = Path(options.each)
        for name, of_class in zip(classes, samples, strict=True):
            save_each(of_class, folder, f"{name.replace('/', '_')}_seed{options.seed}", force=options.force)
        print(f"{n * len(classes)} files in {folder}")
        return 0
    sheet = pictures.grid(images_to_bytes(torch.cat(samples)).cpu().numpy(), columns=n)
    with atomic_write(out) as temporary:
        sheet.save(temporary)
    print(f"{out}: a row of each class, {', '.join(classes)}")
    return 0


def _classes(game: Game, run: RunFolder) -> tuple[str, ...]:
    """The names of the classes of which the game can make samples; RequestError where it cannot."""
    able(game, SamplesClasses)
    return image_spec(run).classes


def interpolate_command(arguments: list[str], about: str) -> int:
    """Writes a strip or an animation between seeds."""
    run, rest = run_first(arguments, "interpolate")
    options = parse(InterpolateOptions, rest, "interpolate RUN", about)
    out = Path(options.out or run.path / "interpolation.png")
    free_file(out, (".png", ".gif", ".webp"), options.force or options.out is None)
    game = load(run.path, device=options.device)
    moving = out.suffix != ".png"
    label = None if options.class_ is None else class_number(options.class_, _classes(game, run))
    ends = latents_of_seeds(game, options.seeds, label)
    with seeded(options.seeds[0], game.device):
        samples = render(sampler(game), path_between(ends, options.steps, options.spherical, closed=moving))
    if not moving:
        if isinstance(RunRecord.read(run.record).spec, ImageSpec):
            _save(out, samples)
        else:
            _portrait(out, samples, game, run)
    else:
        _animate(out, samples, game, run)
    print(out)
    return 0


def _portrait(out: Path, samples: Tensor, game: Game, run: RunFolder) -> None:
    """A picture of samples needs no data; a plot of points shows the real ones too."""
    spec = RunRecord.read(run.record).spec
    critic = judge(game)
    source = None if isinstance(spec, ImageSpec) else source_of(run)
    pictures.portrait(out, samples, spec, source=source, judge=critic.judge if critic else None)


def _save(out: Path, samples: Tensor) -> None:
    """Pictures side by side."""
    with atomic_write(out) as temporary:
        pictures.strip(images_to_bytes(samples).cpu().numpy()).save(temporary)


def _animate(out: Path, samples: Tensor, game: Game, run: RunFolder) -> None:
    images = isinstance(RunRecord.read(run.record).spec, ImageSpec)
    with tempfile.TemporaryDirectory() as folder:
        frames = []
        for number, sample in enumerate(samples):
            frames.append(Path(folder) / f"{number:05d}.png")
            if images:
                _save(frames[-1], sample[None])
            else:
                _portrait(frames[-1], sample[None], game, run)
        pictures.animation(frames, out)
