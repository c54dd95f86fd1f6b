"""`ganforge sample` and `interpolate`: new data from a trained run."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ganforge import pictures
from ganforge.batches import ImageSpec, images_to_bytes
from ganforge.capabilities import judge, sampler
from ganforge.commands.given import at_least_one, run_first, source_of
from ganforge.errors import RequestError
from ganforge.files import atomic_write
from ganforge.game import Game
from ganforge.options import parse
from ganforge.runs import RunFolder, RunRecord
from ganforge.use.interpolate import latents_of_seeds, path_between
from ganforge.use.load import load
from ganforge.use.sample import draw, save_each


@dataclass(frozen=True)
class SampleOptions:
    """Options of `sample`."""

    n: int = 64
    """How many samples."""
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
    at_least_one("--n", options.n)
    out = Path(options.out or run.path / "samples.png")
    if options.each is None:
        _free(out, options.force or options.out is None, (".png",))
    game = load(run.path, device=options.device)
    torch.manual_seed(options.seed)
    samples = draw(sampler(game), options.n)
    if options.each is not None:
        paths = save_each(samples, Path(options.each), f"seed{options.seed}", force=options.force)
        print(f"{len(paths)} files in {options.each}")
        return 0
    _portrait(out, samples, game, run)
    print(out)
    return 0


def interpolate_command(arguments: list[str], about: str) -> int:
    """Writes a strip or an animation between seeds."""
    run, rest = run_first(arguments, "interpolate")
    options = parse(InterpolateOptions, rest, "interpolate RUN", about)
    out = Path(options.out or run.path / "interpolation.png")
    _free(out, options.force or options.out is None, (".png", ".gif", ".webp"))
    game = load(run.path, device=options.device)
    able, moving = sampler(game), out.suffix != ".png"
    latents = path_between(latents_of_seeds(able, options.seeds), options.steps, options.spherical, closed=moving)
    with torch.no_grad():
        samples = able.sample(latents).float()
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


def _free(path: Path, force: bool, suffixes: tuple[str, ...]) -> None:
    if path.suffix not in suffixes:
        raise RequestError(f"--out {path}: must end in {' or '.join(suffixes)}")
    if path.exists() and not force:
        raise RequestError(f"--out {path}: exists; --force overwrites it")
