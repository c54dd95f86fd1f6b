"""`ganforge edit`: named properties of pictures, or of samples, set to values."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ganforge import pictures
from ganforge.batches import ImageSpec, images_to_bytes
from ganforge.capabilities import Edits, Samples, able
from ganforge.commands.apply import Fit
from ganforge.commands.each import Each, print_done
from ganforge.commands.given import Writing, about_pictures, at_least_one, free_file, image_spec, latents_alone, run_first
from ganforge.errors import RequestError
from ganforge.game import Game
from ganforge.options import parse
from ganforge.runs import RunFolder
from ganforge.use.conditions import latents
from ganforge.use.dials import REACH, check, described, dials_of, edit, parse_dials, steer, steps_of
from ganforge.use.directions import Direction, directions, read_directions
from ganforge.use.images import read_picture, write_picture
from ganforge.use.jobs import Job, find, plan
from ganforge.use.latents import read_latents
from ganforge.use.load import load
from ganforge.use.sample import render
from ganforge.use.seeds import seeded

_WITHOUT = "Without it, samples are drawn, or latents read, and moved along directions of the latent."
_EXAMPLES = """\
edit runs/faces --list
edit runs/faces me.jpg --set smile=1,male=0 --out smiling.png
edit runs/faces photos --set smile=0..1 --steps 5 --out strips
edit runs/digits --set c1=-2..2 --n 6 --out slants.png
edit runs/portraits --set Smiling=-3..3,Male=1 --latents found/latents.npz --out mine.png"""


@dataclass(frozen=True)
class EditOptions:
    """Options of `edit`."""

    set: str | None = None
    """Values of dials: smile=1,male=0. From one to another, smile=0..1, makes a strip of pictures."""
    list: bool = False
    """Print the dials with their ranges, and nothing else."""
    out: str | None = None
    """Where results go: a folder, or for one picture, and for samples, a .png or .jpg file."""
    steps: int = 8
    """Pictures of a strip, where --set goes from one value to another."""
    n: int = 8
    """How many samples, without IN: a row each."""
    latents: str | None = None
    """Instead of samples the latents of this .npz, as `project` and `sample --keep` write it: a row each."""
    pick: tuple[str, ...] = ()
    """Of --latents only these, by their names or by number from 0."""
    seed: int = 0
    """The same seed gives the same samples."""
    fit: Fit = "crop"
    """How a picture comes to the run's size: cut, padded with white, or stretched."""
    writing: Writing = field(default_factory=Writing)


def edit_command(arguments: list[str], about: str) -> int:
    """Sets properties of pictures (games with `edit`) or moves samples (games with `sample`) along directions of the latent."""
    run, rest = run_first(arguments, "edit")
    given = rest.pop(0) if rest and not rest[0].startswith("-") else None
    options = parse(EditOptions, rest, "edit RUN [IN]", about_pictures(about, _EXAMPLES, _WITHOUT))
    spec, game = image_spec(run), load(run.path, device=options.writing.device)
    if given is not None or not isinstance(game, Samples):
        return edit_pictures(game, spec, given, options)
    return edit_samples(game, spec, run, options)


def edit_pictures(game: Game, spec: ImageSpec, given: str | None, options: EditOptions) -> int:
    """Each picture with its properties set; the exit code."""
    if not isinstance(game, Edits) and isinstance(game, Samples):
        way = "`ganforge project RUN IN --out found` finds their latents, and `edit RUN --latents found/latents.npz` edits those"
        raise RequestError(f"{given}: this game steers samples of its own and edits no pictures; {way}")
    dials = able(game, Edits).dials
    if options.list:
        return _print_dials(dials)
    if options.latents is not None:
        raise RequestError("--latents: this game edits pictures, name them after the run; latents are of games that sample")
    settings, out = _settings(dials, options)
    if given is None:
        raise RequestError("edit: this game edits pictures; name them after the run, e.g. ganforge edit RUN faces --set ... --out edited")
    jobs = plan(find(given), out, 1, options.writing.force, options.writing.resume)
    loop = Each("editing")

    def work(job: Job) -> None:
        image = read_picture(job.file, spec.channels, spec.shape[1:], options.fit)
        made = [edit(game, image, values, options.seed) for values in settings]
        write_picture(made[0] if len(made) == 1 else _sheet(made, settings), job.outs[0])

    code = loop.run(jobs, work)
    print_done(jobs, loop.failed, out)
    return code


def edit_samples(game: Game, spec: ImageSpec, run: RunFolder, options: EditOptions) -> int:
    """A sheet: a row for each sample with a column for each step, or the samples alone where nothing moves; the exit code."""
    at_least_one("--n", options.n)
    latents_alone(options.latents, options.pick)
    given = None if options.latents is None else read_latents(Path(options.latents), game, options.pick)
    learnt, fits = read_directions(run)
    steps = {name: each.step for name, each in learnt.items()}
    asked = parse_dials(options.set or "")
    # To find them takes seconds, which those that are there need not wait for.
    if options.list or not asked or not asked.keys() <= {*dials_of(game), *steps}:
        steps |= {name: step for name, step in directions(game, spec).items() if name not in steps}
    dials = {**dials_of(game), **{name: REACH for name in steps if name not in dials_of(game)}}
    if options.list:
        return _print_dials(dials, learnt)
    settings, out = _settings(dials, options)
    sheet = free_file(out, (".png", ".jpg", ".jpeg"), options.writing.force)
    if not fits and not learnt.keys().isdisjoint(asked):
        print(f"ganforge: {run.directions}: learnt of earlier weights; `ganforge directions RUN --force` learns anew", file=sys.stderr)
    columns = []
    for values in settings:
        # The same latents, and the same of whatever noise the game adds to them.
        with seeded(options.seed, game.device):
            start = latents(game, options.n) if given is None else given
            columns.append(render(able(game, Samples), steer(game, start, values, steps)))
    write_picture(_sheet(columns, settings), sheet)
    print(sheet)
    return 0


def _settings(dials: Mapping[str, tuple[float, float]], options: EditOptions) -> tuple[list[dict[str, float]], str]:
    """The values of each step, and where the result goes; RequestError where either is missing or wrong."""
    values = parse_dials(options.set or "")
    if not values:
        raise RequestError(f"--set: name a dial and its value, e.g. --set {_example(dials)}; this game has {described(dials)}")
    settings = steps_of(values, options.steps)
    for each in (settings[0], settings[-1]):
        check(dials, each)
    if options.out is None:
        raise RequestError("--out: say where the result goes, e.g. --out edited.png")
    return settings, options.out


def _sheet(columns: list[Tensor], settings: list[dict[str, float]]) -> Image.Image:
    """The columns side by side, below each the values of what moves, below all the names and what is set once."""
    pixels = images_to_bytes(torch.stack(columns, dim=1).flatten(0, 1)).cpu().numpy()
    if len(columns) == 1:
        return pictures.captioned(pictures.grid(pixels), ", ".join(f"{name} = {value:g}" for name, value in settings[0].items()))
    moving = [name for name in settings[0] if settings[0][name] != settings[-1][name]]
    sheet = pictures.grid(pixels, columns=len(columns))
    wide, parts = sheet.width // len(columns), []
    for number, values in enumerate(settings):
        part = sheet.crop((number * wide, 0, sheet.width if number == len(settings) - 1 else (number + 1) * wide, sheet.height))
        for name in moving:
            part = pictures.captioned(part, f"{values[name]:.2g}")
        parts.append(part)
    whole = Image.new(sheet.mode, (sheet.width, parts[0].height))
    for number, part in enumerate(parts):
        whole.paste(part, (number * wide, 0))
    said = ", ".join(name if name in moving else f"{name} = {value:g}" for name, value in settings[0].items())
    return pictures.captioned(whole, said)


def _print_dials(dials: Mapping[str, tuple[float, float]], learnt: Mapping[str, Direction] | None = None) -> int:
    for name, (least, greatest) in dials.items():
        line = f"{name:24} {least:g}..{greatest:g}"
        said = (learnt or {}).get(name)
        print(line if said is None else f"{line:34} learnt: two steps are seen in {said.confirmed:.0%} of samples without it")
    return 0


def _example(dials: Mapping[str, tuple[float, float]]) -> str:
    return next((f"{name}={greatest:g}" for name, (_, greatest) in dials.items()), "smile=1")
