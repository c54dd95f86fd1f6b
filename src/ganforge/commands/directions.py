"""`ganforge directions`: directions of a run's latents, learnt from labels, as dials of `edit`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rich.console import Console
from rich.table import Table

from ganforge.batches import Attributed, ImageSpec, Labelled
from ganforge.capabilities import Samples, able
from ganforge.commands.given import at_least_one, image_spec, run_first, source_of
from ganforge.data import Reading, Source, open_source
from ganforge.errors import RequestError
from ganforge.options import parse
from ganforge.runs import RunFolder, RunRecord
from ganforge.use.directions import Learnt, learn_directions, write_directions
from ganforge.use.load import load

_TOLD = 5
_COLUMNS = ("direction", "reader on real", "AUC", "+2 confirmed", "a random step")


@dataclass(frozen=True)
class DirectionsOptions:
    """Options of `directions`."""

    data: str | None = None
    """SOURCE with attributes or classes, from which a reader learns to say what samples show; None: what the run was trained on."""
    n: int = 2000
    """How many samples are read."""
    seed: int = 0
    """The same seed gives the same directions."""
    without: tuple[str, ...] = ()
    """Attributes or classes that all other directions are to leave as they are, e.g. --without Male Young."""
    device: str = "cpu"
    """cpu, cuda, cuda:1, mps."""
    force: bool = False
    """Learn anew where directions are there already."""


def directions_command(arguments: list[str], about: str) -> int:
    """Learns directions, writes them into the run folder, and prints how good they are."""
    run, rest = run_first(arguments, "directions")
    options = parse(DirectionsOptions, rest, "directions RUN", about)
    at_least_one("--n", options.n)
    spec, game = image_spec(run), load(run.path, device=options.device)
    able(game, Samples)
    if run.directions.exists() and not options.force:
        raise RequestError(f"{run.directions}: exists; --force learns directions anew, `ganforge edit {run.path} --list` names them")
    learnt = learn_directions(game, spec, _source(run, spec, options.data), options.n, options.seed, options.without)
    if not learnt.directions:
        reasons = [f"{name}: {why}" for name, why in learnt.left_out.items()]
        more = f"; and {len(reasons) - _TOLD} more" if len(reasons) > _TOLD else ""
        raise RequestError(f"{run.path}: no direction was found; {'; '.join(reasons[:_TOLD])}{more}")
    write_directions(run, learnt)
    _print(learnt)
    print(f"{run.directions}: {len(learnt.directions)} directions; ganforge edit {run.path} --set {_example(learnt)} --out strip.png")
    return 0


def _source(run: RunFolder, spec: ImageSpec, data: str | None) -> Source:
    """The run's data, or pictures with attributes or classes in the shape of the run's."""
    if data is None:
        return source_of(run)
    reading = replace(Reading.stored(RunRecord.read(run.record).data), size=f"{spec.width}x{spec.height}", channels=spec.channels)
    return open_source(data, kinds=(Attributed, Labelled), reading=reading)


def _example(learnt: Learnt) -> str:
    return f"{max(learnt.directions, key=lambda name: learnt.directions[name].confirmed)}=-3..3"


def _print(learnt: Learnt) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for number, column in enumerate(_COLUMNS):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for name, each in learnt.directions.items():
        table.add_row(name, f"{each.read:.2f}", f"{each.auc:.2f}", f"{each.confirmed:.0%}", f"{each.by_chance:.0%}")
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(table, soft_wrap=False)
    for name, why in learnt.left_out.items():
        console.print(f"{name}: left out, {why}")
