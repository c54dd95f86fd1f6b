"""The engine's rounds per second beside two hand-written loops, on the same networks, batches and losses.

    python benchmarks/step.py [--games gan dcgan wgan-gp] [--repeats 7]

- plain: what the usual public script does: fp32, NCHW, torch's default Adam, a DataLoader, gradients flowing into whatever they reach,
  `.item()` after every step.
- same levers: by hand, what the engine does: channels-last, fused Adam, gradients for the moving player alone, autocast, no `.item()`.
- engine: `Trainer.play_round`.

All contestants take turns within each repeat; the figures are medians over repeats of the ratios within a repeat.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from ganforge import zoo
from ganforge.batches import Images
from ganforge.data import Finite, Stream, from_arrays
from ganforge.engine import Settings, Trainer
from ganforge.game import Game
from ganforge.objectives import nonsaturating, wasserstein
from ganforge.penalties import gradient_penalty

CASES: dict[str, dict[str, Any]] = {
    "gan": {"size": 28, "channels": 1, "batch": 100, "rounds": 20, "hyper": {"optimiser": "adam", "lr": 2e-4, "decay": 1.0}},
    "dcgan": {"size": 64, "channels": 3, "batch": 64, "rounds": 2, "hyper": {"architecture": "torch", "width": 64, "noise": "normal"}},
    "wgan-gp": {"size": 28, "channels": 1, "batch": 50, "rounds": 2, "hyper": {}},
}
Precision = Literal["fp32", "bf16"]


def judges(game: Any) -> tuple[nn.Module, nn.Module, int, Callable[..., Any], Callable[..., Any], float]:
    """The discriminator or critic, the generator, steps of the first per round, both losses, the penalty's weight (0: none)."""
    if hasattr(game, "critic"):
        return game.critic, game.generator, game.n_critic, wasserstein.critic, wasserstein.generator, game.penalty
    return game.discriminator, game.generator, 1, nonsaturating.discriminator, nonsaturating.generator, 0.0


def plain(game: Any, source: Finite, batch: int) -> Callable[[int], None]:
    critic, generator, n_critic, loss_d, loss_g, weight = judges(game)
    adam_d, adam_g = (torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999)) for network in (critic, generator))
    pixels = source.gather(Images, torch.arange(source.count), torch.device("cpu")).x.contiguous()
    loader = DataLoader(TensorDataset(pixels), batch, shuffle=True, drop_last=True)

    def endless() -> Iterator[torch.Tensor]:
        while True:
            for (real,) in loader:
                yield real

    batches = endless()

    def rounds(n: int) -> None:
        for _ in range(n):
            for _ in range(n_critic):
                real = next(batches)
                adam_d.zero_grad()
                fake = generator(game.latent(len(real)))
                # WGAN-GP's usual script leaves the fakes attached; those of the others detach them.
                loss = loss_d(critic(real), critic(fake if weight else fake.detach()))
                if weight:
                    loss = loss + weight * gradient_penalty(critic, real, fake)
                loss.backward()
                adam_d.step()
                loss.item()
            adam_g.zero_grad()
            loss = loss_g(critic(generator(game.latent(len(real)))))
            loss.backward()
            adam_g.step()
            loss.item()

    return rounds


def same_levers(game: Any, source: Finite, batch: int, precision: Precision) -> Callable[[int], None]:
    game.to(memory_format=torch.channels_last)
    critic, generator, n_critic, loss_d, loss_g, weight = judges(game)
    parameters_d, parameters_g = list(critic.parameters()), list(generator.parameters())
    adam_d, adam_g = (torch.optim.Adam(p, lr=2e-4, betas=(0.5, 0.999), fused=True) for p in (parameters_d, parameters_g))
    stream = Stream(source, Images, seed=0, device=torch.device("cpu"))
    autocast = partial(torch.autocast, "cpu", torch.bfloat16) if precision == "bf16" else nullcontext
    cursor = 0

    def rounds(n: int) -> None:
        nonlocal cursor
        for _ in range(n):
            for _ in range(n_critic):
                with autocast():
                    real = stream.at(cursor, batch).x
                    cursor += batch
                    fake = generator(game.latent(batch))
                    detached = fake.detach()
                    loss = loss_d(critic(real), critic(detached))
                    if weight:
                        loss = loss + weight * gradient_penalty(critic, real, detached)
                loss.backward(inputs=parameters_d)
                adam_d.step()
                adam_d.zero_grad()
            with autocast():
                # The DCGAN's round makes its fakes once; the other two draw anew, as their papers do.
                fake = fake if type(game).__name__ == "DCGAN" else generator(game.latent(batch))
                loss = loss_g(critic(fake))
            loss.backward(inputs=parameters_g)
            adam_g.step()
            adam_g.zero_grad()

    return rounds


def engine(game: Game, source: Finite, batch: int, precision: Precision) -> Callable[[int], None]:
    stream = Stream(source, Images, seed=0, device=torch.device("cpu"))
    trainer = Trainer(game, stream, Settings(batch_size=batch, precision=precision, rounds=1_000_000), torch.device("cpu"))

    def rounds(n: int) -> None:
        for _ in range(n):
            trainer.play_round()
        trainer.ledger.read()
        trainer.ledger.clear()

    return rounds


def measure(name: str, repeats: int) -> None:
    case = CASES[name]
    pixels = torch.randint(0, 256, (2000, case["size"], case["size"], case["channels"]), dtype=torch.uint8)
    source = from_arrays(pixels.numpy())

    def build() -> Game:
        torch.manual_seed(0)
        return zoo.find(name)(source.spec, **case["hyper"])

    batch = case["batch"]
    contestants = {
        "plain": plain(build(), source, batch),
        "same levers fp32": same_levers(build(), source, batch, "fp32"),
        "engine fp32": engine(build(), source, batch, "fp32"),
        "same levers bf16": same_levers(build(), source, batch, "bf16"),
        "engine bf16": engine(build(), source, batch, "bf16"),
    }
    seconds: dict[str, list[float]] = {contestant: [] for contestant in contestants}
    for repeat in range(repeats + 1):
        # Each repeat begins elsewhere, so that nobody always runs after the same neighbour.
        order = list(contestants)[repeat % 5 :] + list(contestants)[: repeat % 5]
        for contestant in order:
            began = time.perf_counter()
            contestants[contestant](case["rounds"])
            if repeat:  # the first warms up
                seconds[contestant].append((time.perf_counter() - began) / case["rounds"])
    print(f"\n{name}: {case['size']}x{case['size']}x{case['channels']}, batch {batch}, {repeats} repeats of {case['rounds']} rounds")
    for contestant, times in seconds.items():
        speedup = statistics.median(p / t for p, t in zip(seconds["plain"], times, strict=True))
        line = f"  {contestant:18} {1000 * statistics.median(times):8.1f} ms a round   {speedup:5.2f}x plain"
        if contestant.startswith("engine"):
            twin = seconds[contestant.replace("engine", "same levers")]
            overhead = statistics.median(t / h for t, h in zip(times, twin, strict=True)) - 1
            line += f"   {100 * overhead:+.1f} % against the same levers by hand"
        print(line, flush=True)


def processor() -> str:
    lines = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith(("model name", "flags"))]
    flags = lines[1].split() if len(lines) > 1 else []
    extras = [flag for flag in ("avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    return f"{lines[0].partition(':')[2].strip()} ({', '.join(extras) or 'no AVX-512'})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    print(f"{platform.system()}, {processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for name in arguments.games:
        measure(name, arguments.repeats)


if __name__ == "__main__":
    main()
