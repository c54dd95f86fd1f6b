"""`ganforge evaluate`: how good a run is at what it can do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from ganforge.commands.given import free_file, run_first
from ganforge.commands.measured import Bench, MeasureOptions, console_for_tables, entry_of
from ganforge.data import Split
from ganforge.errors import TrainingError
from ganforge.metrics import Section
from ganforge.options import parse
from ganforge.use.load import load


@dataclass(frozen=True)
class EvaluateOptions(MeasureOptions):
    """Options of `evaluate`."""

    split: Split = "train"
    """The pictures to train on, or those to test on."""
    out: str | None = None
    """The JSON file to write; None: evaluation.json in the run folder, which has the last one."""


def evaluate_command(arguments: list[str], about: str) -> int:
    """Prints the measures of everything that a run's game can do, and writes them as JSON."""
    run, rest = run_first(arguments, "evaluate")
    options = parse(EvaluateOptions, rest, "evaluate RUN", about)
    out = run.evaluation if options.out is None else free_file(options.out, (".json",), options.force)
    game = load(run.path, device=options.device)
    entry, bench = entry_of(run, options), Bench.of(options)
    evaluation = bench.evaluation(entry, game)
    sections = evaluation.sections()
    _print(
        sections,
        f"{entry.source.name}, {options.split} part, {options.n} samples or pictures at most, seed {options.seed}",
        entry.source.notes,
    )
    try:
        evaluation.write(out, sections)
    except OSError as error:
        raise TrainingError(f"{out}: cannot be written ({error.strerror}); --out FILE.json writes elsewhere") from None
    evaluation.keep(sections)
    print(out)
    return 0


def _print(sections: list[Section], title: str, notes: Sequence[str]) -> None:
    console = console_for_tables()
    console.print(title)
    for note in notes:
        console.print(note, style="dim")
    for section in sections:
        table = Table(box=None, show_header=True, header_style="bold", pad_edge=False)
        table.add_column(section.title, no_wrap=True)
        table.add_column("", justify="right", no_wrap=True)
        table.add_column("", style="dim")
        for score in section.scores:
            unit = f" {score.unit}" if score.unit else ""
            table.add_row(
                score.name, _shown(score.value) + unit, ", ".join(f"{what} {_shown(each)}" for what, each in score.beside.items())
            )
        console.print()
        console.print(table, soft_wrap=False)
        for note in section.notes:
            console.print(note, style="dim")


def _shown(value: float) -> str:
    """Three digits after the point, or three that say something."""
    if float(value).is_integer() and abs(value) > 1:
        return str(int(value))
    return f"{value:.3f}" if value == 0 or abs(value) >= 0.01 else f"{value:.2g}"
