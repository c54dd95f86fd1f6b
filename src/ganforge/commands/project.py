"""`ganforge project`: the latents of pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
import tyro
from torch import Tensor

from ganforge import pictures
from ganforge.batches import ImageSpec, images_to_bytes
from ganforge.capabilities import Samples, SamplesClasses, able
from ganforge.commands.apply import Fit
from ganforge.commands.each import Each
from ganforge.commands.given import Writing, about_pictures, at_least_one, free_folder, image_spec, run_and_pictures
from ganforge.data.decode import SUFFIXES
from ganforge.data.shelves import readable, split_suffix
from ganforge.errors import RequestError
from ganforge.game import Game
from ganforge.options import parse
from ganforge.use.conditions import class_number, latents
from ganforge.use.images import read_picture, write_picture
from ganforge.use.jobs import Job, find, plan
from ganforge.use.latents import stored_latents, write_latents
from ganforge.use.load import load
from ganforge.use.project import error_of, project
from ganforge.use.seeds import seeded

_EXAMPLES = """\
project runs/faces me.jpg --out found
project runs/digits scans --class 7 --out sevens"""
_TABLE = "latents.npz"


@dataclass(frozen=True)
class ProjectOptions:
    """Options of `project`."""

    out: str
    """A folder for NAME.png, the picture given beside what the game makes nearest to it, and latents.npz: latents, files, errors."""
    steps: int = 300
    """Steps of gradient descent: more come nearer, and take longer."""
    restarts: int = 4
    """How many starts descend at first; the best goes on after a third of the steps."""
    seed: int = 0
    """The same seed gives the same latents, whatever other pictures are projected beside."""
    class_: Annotated[str | None, tyro.conf.arg(name="class")] = None
    """Only among samples of this class, by its name or its number; None: of whichever class comes nearest."""
    alone: bool = False
    """Write only what the game makes, without the picture given."""
    fit: Fit = "crop"
    """How a picture comes to the run's size: cut, padded with white, or stretched."""
    writing: Writing = field(default_factory=Writing)


def project_command(arguments: list[str], about: str) -> int:
    """Finds the latents of pictures."""
    run, given, rest = run_and_pictures(arguments, "project")
    options = parse(ProjectOptions, rest, "project RUN IN", about_pictures(about, _EXAMPLES))
    spec = image_spec(run)
    return project_pictures(load(run.path, device=options.writing.device), spec, given, options)


def project_pictures(game: Game, spec: ImageSpec, given: str, options: ProjectOptions) -> int:
    """A picture for each, and the latents of all in one file, written anew after each; the exit code."""
    able(game, Samples)
    at_least_one("--steps", options.steps)
    at_least_one("--restarts", options.restarts)
    label = None
    if options.class_ is not None:
        able(game, SamplesClasses)
        label = class_number(options.class_, spec.classes)
    if split_suffix(options.out)[1] in SUFFIXES:
        raise RequestError(f"--out {options.out}: give a folder; the latents are written beside the pictures")
    table = free_folder(Path(options.out)) / _TABLE
    done = _found_before(game, table, options.writing)
    jobs = plan(find(given), f"{options.out}/", 1, options.writing.force or options.writing.resume)
    if options.writing.resume:
        jobs = [job for job in jobs if not (job.outs[0].exists() and readable(job.name) in done)]
    each = Each("projecting")

    def work(job: Job) -> None:
        image = read_picture(job.file, spec.channels, spec.shape[1:], options.fit)
        report = each.parts(job)
        latent, found = project(
            game,
            image,
            spec,
            steps=options.steps,
            restarts=options.restarts,
            seed=options.seed,
            label=label,
            report=lambda step, steps, error: report(step, steps, f"off by {error:.1f} of 255"),
        )
        both = images_to_bytes(torch.cat([image, found.cpu()])).numpy()
        write_picture(found if options.alone else pictures.strip(both), job.outs[0])
        done[readable(job.name)] = latent[0].cpu(), error_of(found, image)
        rows, errors = zip(*done.values(), strict=True)
        write_latents(table, torch.stack(rows), list(done), errors)

    code = each.run(jobs, work)
    if done:
        mean = sum(error for _, error in done.values()) / len(done)
        print(f"{len(done)} picture{'s' if len(done) > 1 else ''}, off by {mean:.1f} of 255 levels on average: {readable(str(table))}")
    return code


def _found_before(game: Game, table: Path, writing: Writing) -> dict[str, tuple[Tensor, float]]:
    """The latent, [k], and the error of each picture that was projected into this folder earlier, by its name."""
    if not table.exists() or (writing.force and not writing.resume):
        return {}
    if not writing.resume:
        raise RequestError(f"--out: {readable(str(table))} exists; --force overwrites it, --resume adds the pictures that are not in it")
    try:
        with seeded(0, game.device):
            width = latents(game, 1).shape[1]
        stored = stored_latents(table, width)
        if not stored.files or not stored.errors:
            raise RequestError(f"{table}: has no names, or no errors, of its latents")
    except RequestError as error:
        raise RequestError(f"--resume: {error}; --force makes the table anew, or give another folder") from None
    return {name: (row, off) for name, row, off in zip(stored.files, torch.from_numpy(stored.latents), stored.errors, strict=True)}
