"""One rank beside two on the same machine, with the same total batch: equal losses, the share of communication, and what follows for GPUs.

    python benchmarks/scaling.py [--game dcgan] [--repeats 5] [--rounds 6]

Each rank has one thread, so that two ranks have twice the processors of one. Noise is drawn for the whole batch by every rank, which takes
its part: so the losses of one and of two ranks can be compared, round by round (batch normalisation over all ranks). They are compared
under plain descent as well, as Adam's first steps are the signs of gradients, of which some are rounding errors. The estimate for 8 and
64 GPUs is a model, printed with its inputs; nothing of it was measured on a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from ganforge import zoo
from ganforge.batches import Images
from ganforge.data import Stream, from_arrays
from ganforge.engine import Settings, Trainer
from ganforge.engine.ranks import joined
from ganforge.game import Game

CASES: dict[str, dict[str, Any]] = {
    "dcgan": {"size": 64, "channels": 3, "batch": 32, "hyper": {"architecture": "torch", "width": 64, "noise": "normal"}},
    "wgan-gp": {"size": 28, "channels": 1, "batch": 50, "hyper": {}},
    "gan": {"size": 28, "channels": 1, "batch": 100, "hyper": {"optimiser": "adam", "lr": 2e-4, "decay": 1.0}},
}
CPU = torch.device("cpu")


def take_part(game: Any, rank: int, world: int) -> None:
    """Every rank draws the noise of the whole batch and keeps its own rows."""
    whole = game.latent
    game.latent = lambda n: whole(n * world)[rank * n : (rank + 1) * n]


def descend_plainly(game: Game) -> None:
    """Steps that are proportional to the gradients, so that what is equal to rounding stays so."""
    players = {name: replace(player, optimiser=partial(torch.optim.SGD, lr=1e-4)) for name, player in game.players().items()}
    game.players = lambda: players  # type: ignore[method-assign]


def worker(name: str, rounds: int, out: Path, plain: bool) -> None:
    """One rank: seconds of each round and of its communication, and the losses of each round, averaged over ranks."""
    torch.set_num_threads(1)
    case = CASES[name]
    with joined(CPU) as ranks:
        pixels = torch.randint(0, 256, (500, case["size"], case["size"], case["channels"]), generator=torch.Generator().manual_seed(0))
        source = from_arrays(pixels.byte().numpy())
        torch.manual_seed(0)
        game: Game = zoo.find(name)(source.spec, **case["hyper"])
        take_part(game, ranks.rank, ranks.world)
        if plain:
            descend_plainly(game)
        settings = Settings(batch_size=case["batch"], rounds=10**6, sync_batchnorm=True)
        trainer = Trainer(game, Stream(source, Images, seed=0, device=CPU), settings, CPU, ranks)
        waiting = [0.0]
        averaged = ranks.averaged

        def timed() -> None:
            began = time.perf_counter()
            averaged()
            waiting[0] += time.perf_counter() - began

        ranks.averaged = timed  # type: ignore[method-assign]
        rows = []
        for _ in range(rounds + 1):
            waiting[0] = 0.0
            began = time.perf_counter()
            trainer.play_round()
            seconds = time.perf_counter() - began
            rows.append({"seconds": seconds, "waiting": waiting[0], "losses": trainer.ledger.read(ranks.mean)})
            trainer.ledger.clear()
        if ranks.rank == 0:
            sizes = [sum(p.numel() * p.element_size() for p in seat.parameters) for seat in trainer.seats.values()]
            moves = {seat.name: seat.steps / trainer.round for seat in trainer.seats.values()}
            sent = sum(size * moves[name] for size, name in zip(sizes, trainer.seats, strict=True))
            out.write_text(json.dumps({"rows": rows[1:], "bytes": sent, "messages": sum(moves.values())}))


def launched(name: str, world: int, rounds: int, *more: str) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        out = Path(folder) / "rows.json"
        start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world)]
        line = [*start, __file__, "--worker", str(out), "--game", name, "--rounds", str(rounds), *more]
        subprocess.run(line, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
        found: dict[str, Any] = json.loads(out.read_text())
        return found


def apart(one: dict[str, Any], two: dict[str, Any]) -> float:
    """The largest relative difference of a loss in any round."""
    pairs = [(a["losses"], b["losses"]) for a, b in zip(one["rows"], two["rows"], strict=True)]
    return max(float(abs(a[key] - b[key]) / max(1e-6, abs(a[key]))) for a, b in pairs for key in a if key.startswith("loss/"))


def compare(name: str, repeats: int, rounds: int) -> dict[str, Any]:
    runs: dict[int, list[dict[str, Any]]] = {1: [], 2: []}
    for repeat in range(repeats):
        for world in (1, 2) if repeat % 2 else (2, 1):
            runs[world].append(launched(name, world, rounds))
    medians = {world: [statistics.median(row["seconds"] for row in run["rows"]) for run in each] for world, each in runs.items()}
    shares = [sum(row["waiting"] for row in run["rows"]) / sum(row["seconds"] for row in run["rows"]) for run in runs[2]]
    exact = {world: launched(name, world, rounds, "--plain") for world in (1, 2)}
    speedup = statistics.median(a / b for a, b in zip(medians[1], medians[2], strict=True))
    print(f"\n{name}: total batch {CASES[name]['batch']}, {repeats} repeats of {rounds} rounds, one thread a rank")
    for world in (1, 2):
        print(f"  {world} rank{'s' * (world > 1)}  {1000 * statistics.median(medians[world]):8.1f} ms a round")
    print(f"  two ranks are {speedup:.2f}x one; waiting for averages is {100 * statistics.median(shares):.1f} % of their round")
    print(f"  losses of {rounds} rounds, relative: {apart(exact[1], exact[2]):.1e} apart with plain descent, ", end="")
    print(f"{apart(runs[1][0], runs[2][0]):.1e} with the game's optimisers")
    print(f"  a round sends {runs[2][0]['bytes'] / 2**20:.1f} MiB of gradients in {runs[2][0]['messages']:.0f} moves", flush=True)
    return runs[2][0]


def estimate(name: str, measured: dict[str, Any]) -> None:
    """Ring all-reduce without any overlap: each GPU sends 2 (n - 1) / n of the gradients' bytes, in 2 (n - 1) steps a message."""
    sent, messages = measured["bytes"], measured["messages"]
    print(f"\n{name} on GPUs, a model: t = 2 (n-1)/n bytes / bandwidth + 2 (n-1) latency x messages, nothing overlapped")
    print(f"  measured inputs: {sent / 2**20:.1f} MiB and {messages:.0f} messages a round")
    print("  assumed: 8 GPUs in one machine, 300 GB/s and 5 us a step; 64 in eight machines, 40 GB/s a GPU and 15 us a step")
    print("  round of one GPU (its share of the batch):      5 ms     20 ms    100 ms")
    for gpus, bandwidth, latency in ((8, 300e9, 5e-6), (64, 40e9, 15e-6)):
        seconds = 2 * (gpus - 1) / gpus * sent / bandwidth + 2 * (gpus - 1) * latency * messages
        efficiencies = "   ".join(f"{100 * compute / (compute + seconds):5.1f} %" for compute in (0.005, 0.02, 0.1))
        print(f"  {gpus:2} GPUs: {1000 * seconds:6.2f} ms of messages; efficiency   {efficiencies}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--game", choices=CASES, nargs="+", default=["dcgan"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--plain", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is not None:
        worker(arguments.game[0], arguments.rounds, arguments.worker, arguments.plain)
        return
    for name in arguments.game:
        estimate(name, compare(name, arguments.repeats, arguments.rounds))


if __name__ == "__main__":
    main()
