"""`ganforge evaluate`: how good a run is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from ganforge.capabilities import sampler
from ganforge.commands.given import at_least_one, run_first, source_of
from ganforge.files import write_json
from ganforge.metrics import measure
from ganforge.options import parse
from ganforge.use.load import load
from ganforge.use.sample import draw


@dataclass(frozen=True)
class EvaluateOptions:
    """Options of `evaluate`."""

    data: str | None = None
    """SOURCE to compare with; None: what the run was trained on."""
    n: int = 2000
    """How many samples."""
    seed: int = 0
    """The same seed gives the same samples."""
    out: str | None = None
    """The JSON file to write; None: evaluation.json in the run folder."""
    device: str = "cpu"
    """cpu, cuda, cuda:1, mps."""


def evaluate_command(arguments: list[str], about: str) -> int:
    """Prints the measures of a run's samples against real data."""
    run, rest = run_first(arguments, "evaluate")
    options = parse(EvaluateOptions, rest, "evaluate RUN", about)
    at_least_one("--n", options.n)
    game = load(run.path, device=options.device)
    source = source_of(run, options.data)
    torch.manual_seed(options.seed)
    values = measure(draw(sampler(game), options.n).cpu(), source, seed=options.seed)
    out = Path(options.out or run.path / "evaluation.json")
    write_json(out, {"run": str(run.path), "data": source.name, "samples": options.n, "seed": options.seed, "measures": values})
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column(f"{options.n} samples against {source.name}")
    table.add_column("", justify="right")
    for name, value in values.items():
        table.add_row(name, str(int(value)) if float(value).is_integer() and value > 1 else f"{value:.3f}")
    Console(highlight=False, markup=False).print(table)
    print(out)
    return 0
