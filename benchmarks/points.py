"""How well the games that fit points do, over seeds: the tables of docs/results.md.

    python benchmarks/points.py gan-1d [--seeds 5] [--processes 2]
    python benchmarks/points.py mixtures --seeds 3
    python benchmarks/points.py curves --seeds 3

Each row is a game with options, as `ganforge train` takes them. Runs use one thread each; seconds are of processor time, so that
a busy machine does not change what an equal budget means.
"""

from __future__ import annotations

import argparse
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch

from ganforge import zoo
from ganforge.batches import Points
from ganforge.capabilities import sampler
from ganforge.data import Stream, open_source
from ganforge.engine import Settings, Trainer
from ganforge.game import hyper_parameters
from ganforge.metrics import measure
from ganforge.use.sample import draw


@dataclass(frozen=True)
class Row:
    """One line of a table: a game, its preset, options over it, and where given the processor seconds to stop at."""

    label: str
    game: str
    preset: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    budget: float = 0.0
    samples: int = 4000


WGAN_SECONDS = 60.0
TABLES: dict[str, list[Row]] = {
    "gan-1d": [
        Row("current", "gan-1d", samples=10_000),
        Row("current, minibatch layer", "gan-1d", "minibatch", samples=10_000),
        Row("early, pre-trained", "gan-1d", "early", samples=10_000),
        Row("early, minibatch layer", "gan-1d", "early", {"minibatch": True}, samples=10_000),
        Row("reliable", "gan-1d", "reliable", samples=10_000),
    ],
    "mixtures": [
        Row(f"{game} on {data}", game, "ring", {"data": data, "rounds": 1_000_000}, budget=WGAN_SECONDS)
        for data in ("ring", "grid")
        for game in ("wgan-gp", "gan")
    ],
    "curves": [
        Row("the tutorial's", "curve-gan"),
        Row("patient", "curve-gan", "patient"),
        Row("sine, the tutorial's settings", "curve-gan", options={"data": "sine"}),
        Row("sine", "curve-gan", "sine"),
    ],
}


def play(row: Row, seed: int) -> tuple[dict[str, float], int, float]:
    """The scores of one run, its rounds and its seconds."""
    torch.set_num_threads(1)
    cls = zoo.find(row.game)
    options = {**(cls.presets[row.preset].options if row.preset else {}), **row.options}
    source = open_source(options.get("data", cls.source))
    torch.manual_seed(seed)
    game = cls(source.spec, **{key: value for key, value in options.items() if key in hyper_parameters(cls)})
    settings = Settings(seed=seed, rounds=options.get("rounds"), batch_size=options.get("batch_size"))
    trainer = Trainer(game, Stream(source, Points, seed=seed, device=torch.device("cpu")), settings, torch.device("cpu"))
    began = time.process_time()
    while trainer.round < trainer.rounds and not (row.budget and time.process_time() - began > row.budget):
        trainer.play_round()
        if trainer.round % 100 == 0:
            trainer.ledger.read()
            trainer.ledger.clear()
    seconds = time.process_time() - began
    with trainer.at_rest():
        torch.manual_seed(seed)
        samples = draw(sampler(game), row.samples)
    return measure(samples, source), trainer.round, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    seeds = range(arguments.seeds)
    with ProcessPoolExecutor(arguments.processes) as pool:
        runs = {row.label: [pool.submit(play, row, seed) for seed in seeds] for row in TABLES[arguments.table]}
        names: list[str] = []
        for label, futures in runs.items():
            results = [future.result() for future in futures]
            if not names:
                names = list(results[0][0])
                print(f"| setting | rounds | seconds | {' | '.join(names)} |\n|---|---|---|{'---|' * len(names)}")
            rounds = statistics.median(result[1] for result in results)
            seconds = statistics.median(result[2] for result in results)
            cells = [", ".join(f"{scores[name]:.3g}" for scores, _, _ in results) for name in names]
            print(f"| {label} | {rounds:,.0f} | {seconds:.0f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
