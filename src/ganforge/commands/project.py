"""`ganforge project`: the latents of pictures."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from ganforge import pictures
from ganforge.batches import ImageSpec, images_to_bytes
from ganforge.capabilities import Samples, SamplesClasses, able
from ganforge.commands.apply import Fit
from ganforge.commands.each import Each
from ganforge.commands.given import Writing, about_pictures, at_least_one, image_spec, run_and_pictures
from ganforge.data.decode import SUFFIXES
from ganforge.data.shelves import readable, split_suffix
from ganforge.errors import RequestError
from ganforge.files import atomic_write
from ganforge.game import Game
from ganforge.options import parse
from ganforge.use.conditions import class_number, latents
from ganforge.use.images import read_picture, write_picture
from ganforge.use.jobs import Job, find, plan
from ganforge.use.load import load
from ganforge.use.project import error_of, project

_EXAMPLES = """\
project runs/faces me.jpg --out found
project runs/digits scans --class 7 --out sevens"""
_TABLE = "latents.npz"
Latent = NDArray[np.float32]


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
    table = Path(options.out) / _TABLE
    done = _found_before(table, latents(game, 1).shape[1], options.writing)
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
            report=lambda step, steps, _: report(step, steps),
        )
        both = images_to_bytes(torch.cat([image, found.cpu()])).numpy()
        write_picture(found if options.alone else pictures.strip(both), job.outs[0])
        done[readable(job.name)] = latent[0].cpu().numpy(), error_of(found, image)
        _write(table, done)

    code = each.run(jobs, work)
    if done:
        mean = np.mean([error for _, error in done.values()])
        print(f"{len(done)} pictures, off by {mean:.1f} of 255 levels on average: {readable(str(table))}")
    return code


def _found_before(table: Path, width: int, writing: Writing) -> dict[str, tuple[Latent, float]]:
    """The latent, [width], and the error of each picture that was projected into this folder earlier, by its name."""
    if not table.exists() or (writing.force and not writing.resume):
        return {}
    if not writing.resume:
        raise RequestError(f"--out: {readable(str(table))} exists; --force overwrites it, --resume adds the pictures that are not in it")
    try:
        with np.load(table, allow_pickle=False) as stored:
            rows, files, errors = stored["latents"], stored["files"].tolist(), stored["errors"].tolist()
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise RequestError(f"--resume: {readable(str(table))} is no table of latents ({error}); --force makes it anew") from None
    if rows.shape != (len(files), width) or len(errors) != len(files):
        raise RequestError(
            f"--resume: {readable(str(table))} has latents {list(rows.shape)}; this game's are [n, {width}]; give another folder"
        )
    return {file: (row, error) for file, row, error in zip(files, rows, errors, strict=True)}


def _write(table: Path, done: dict[str, tuple[Latent, float]]) -> None:
    rows, errors = zip(*done.values(), strict=True)
    with atomic_write(table) as temporary:
        np.savez(temporary, latents=np.stack(rows), files=np.array(list(done)), errors=np.array(errors, dtype=np.float32))
