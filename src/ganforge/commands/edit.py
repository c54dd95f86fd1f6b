"""`ganforge edit`: named properties of pictures, or of samples, set to values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ganforge import pictures
from ganforge.batches import ImageSpec, images_to_bytes
from ganforge.capabilities import Edits, Samples, Steers, able
from ganforge.commands.apply import Fit
from ganforge.commands.each import Each, print_done
from ganforge.commands.given import Writing, about_pictures, at_least_one, image_spec, run_first
from ganforge.errors import RequestError
from ganforge.game import Game
from ganforge.options import parse
from ganforge.use.conditions import latents
from ganforge.use.dials import check, described, edit, parse_dials, steer, steps_of
from ganforge.use.images import read_picture, write_picture
from ganforge.use.jobs import Job, find, plan
from ganforge.use.load import load
from ganforge.use.sample import render
from ganforge.use.seeds import seeded

_WITHOUT = "Without it, samples are drawn, for games whose latents have dials."
_EXAMPLES = """\
edit runs/faces --list
edit runs/faces me.jpg --set smile=1,male=0 --out smiling.png
edit runs/faces photos --set smile=0..1 --steps 5 --out strips
edit runs/digits --set c1=-2..2 --n 6 --out slants.png"""


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
    seed: int = 0
    """The same seed gives the same samples."""
    fit: Fit = "crop"
    """How a picture comes to the run's size: cut, padded with white, or stretched."""
    writing: Writing = field(default_factory=Writing)


def edit_command(arguments: list[str], about: str) -> int:
    """Sets properties of pictures (games with `edit`) or of samples (games with `steer`)."""
    run, rest = run_first(arguments, "edit")
    given = rest.pop(0) if rest and not rest[0].startswith("-") else None
    options = parse(EditOptions, rest, "edit RUN [IN]", about_pictures(about, _EXAMPLES, _WITHOUT))
    return edit_pictures(load(run.path, device=options.writing.device), image_spec(run), given, options)


def edit_pictures(game: Game, spec: ImageSpec, given: str | None, options: EditOptions) -> int:
    """Each picture with its properties set, or a sheet of samples with theirs; the exit code."""
    if options.list:
        return _print_dials(game, given)
    dials = _dials(game, given)
    values = parse_dials(options.set or "")
    if not values:
        raise RequestError(f"--set: name a dial and its value, e.g. --set {_example(dials)}; this game has {described(dials)}")
    settings = steps_of(values, options.steps)
    for each in (settings[0], settings[-1]):
        check(dials, each)
    if options.out is None:
        raise RequestError("--out: say where the result goes, e.g. --out edited.png")
    if given is not None:
        return _edit(game, spec, given, settings, options, options.out)
    if not isinstance(game, Steers):
        raise RequestError("edit: this game edits pictures; name them after the run, e.g. ganforge edit RUN faces --set ... --out edited")
    return _steer(game, settings, options, Path(options.out))


def _edit(game: Game, spec: ImageSpec, given: str, settings: list[dict[str, float]], options: EditOptions, out: str) -> int:
    jobs = plan(find(given), out, 1, options.writing.force, options.writing.resume)
    loop = Each("editing")

    def work(job: Job) -> None:
        image = read_picture(job.file, spec.channels, spec.shape[1:], options.fit)
        made = torch.cat([edit(game, image, values, options.seed) for values in settings])
        write_picture(made if len(made) == 1 else pictures.strip(images_to_bytes(made).cpu().numpy()), job.outs[0])

    code = loop.run(jobs, work)
    print_done(jobs, loop.failed, out)
    return code


def _steer(game: Game, settings: list[dict[str, float]], options: EditOptions, out: Path) -> int:
    """A sheet: a row for each sample with a column for each step, or the samples alone where nothing moves."""
    at_least_one("--n", options.n)
    if out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise RequestError(f"--out {out}: must end in .png or .jpg")
    if out.exists() and not options.writing.force:
        raise RequestError(f"--out {out}: exists; --force overwrites it")
    columns = []
    for values in settings:
        # The same latents, and the same of whatever noise the game adds to them.
        with seeded(options.seed, game.device):
            columns.append(render(able(game, Samples), steer(game, latents(game, options.n), values)))
    sheet = torch.stack(columns, dim=1).flatten(0, 1)
    write_picture(pictures.grid(images_to_bytes(sheet).cpu().numpy(), columns=len(columns) if len(columns) > 1 else None), out)
    print(out)
    return 0


def _print_dials(game: Game, given: str | None) -> int:
    for name, (least, greatest) in _dials(game, given).items():
        print(f"{name:24} {least:g}..{greatest:g}")
    return 0


def _dials(game: Game, given: str | None) -> Mapping[str, tuple[float, float]]:
    """What can be set, of a given picture or of samples; RequestError where the game does the other, or neither."""
    if given is not None and isinstance(game, Steers) and not isinstance(game, Edits):
        raise RequestError(f"{given}: this game steers samples of its own and edits no pictures; leave it out")
    return game.dials if given is None and isinstance(game, Steers) else able(game, Edits).dials


def _example(dials: Mapping[str, tuple[float, float]]) -> str:
    return next((f"{name}={greatest:g}" for name, (_, greatest) in dials.items()), "smile=1")
