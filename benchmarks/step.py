"""The engine's rounds per second beside a hand-written loop, on the same networks, batches and losses; and what each lever is worth alone.

    python benchmarks/step.py [--games gan dcgan wgan-gp gan-1d curve-gan] [--repeats 7] [--levers] [--compile]

- plain: what the usual public script does: fp32, NCHW, torch's default Adam, a DataLoader, gradients flowing into whatever they reach,
  `.item()` after every step.
- same levers: by hand, what the engine does: channels-last, fused Adam, gradients for the moving player alone, autocast, no `.item()`.
- engine: `Trainer.play_round`.
- with --levers: the plain loop with one lever switched on alone.

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
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from ganforge import zoo
from ganforge.batches import Images, Points
from ganforge.data import Endless, Finite, Source, Stream, from_arrays, open_source
from ganforge.engine import Settings, Trainer
from ganforge.engine.compiling import compile_networks
from ganforge.game import Game
from ganforge.objectives import nonsaturating, wasserstein
from ganforge.penalties import gradient_penalty

CASES: dict[str, dict[str, Any]] = {
    "gan": {"size": 28, "channels": 1, "batch": 100, "rounds": 20, "hyper": {"optimiser": "adam", "lr": 2e-4, "decay": 1.0}},
    "dcgan": {"size": 64, "channels": 3, "batch": 64, "rounds": 2, "hyper": {"architecture": "torch", "width": 64, "noise": "normal"}},
    "wgan-gp": {"size": 28, "channels": 1, "batch": 50, "rounds": 2, "hyper": {}},
    "gan-1d": {"source": "gaussian", "batch": 8, "rounds": 100, "hyper": {}},
    # By turns, so that the loop by hand does the same.
    "curve-gan": {"source": "curves", "batch": 64, "rounds": 100, "hyper": {"simultaneous": False, "saturating": False}},
}
CPU = torch.device("cpu")
LEVERS = {
    "channels-last": "convolutions in NHWC",
    "fused": "fused Adam",
    "movers": "gradients for the moving player alone: backward(inputs=)",
    "no item": "losses stay where they are",
    "bf16": "bfloat16 autocast",
    "one pass": "real and generated in one pass of D (only without batch statistics)",
    "compile": "Inductor",
}
BY_HAND = frozenset({"channels-last", "fused", "movers", "no item"})


def judges(game: Any) -> tuple[nn.Module, nn.Module, int, Callable[..., Any], Callable[..., Any], float]:
    """The discriminator or critic, the generator, steps of the first per round, both losses, the penalty's weight (0: none)."""
    if hasattr(game, "critic"):
        return game.critic, game.generator, game.n_critic, wasserstein.critic, wasserstein.generator, game.penalty
    return game.discriminator, game.generator, 1, nonsaturating.discriminator, nonsaturating.generator, 0.0


def batches(source: Source, batch: int, *, loader: bool) -> Iterator[Tensor]:
    """As scripts have them (a DataLoader over a tensor, draws of a law), or as the engine has."""
    if not loader:
        stream, cursor = Stream(source, Images if isinstance(source, Finite) else Points, seed=0, device=CPU), 0
        while True:
            yield stream.at(cursor, batch).x
            cursor += batch
    if isinstance(source, Endless):
        generator = torch.Generator().manual_seed(0)
        while True:
            yield source.draw(batch, generator)
    assert isinstance(source, Finite)
    pixels = source.gather(Images, torch.arange(source.count), CPU).x.contiguous()
    while True:
        for (real,) in DataLoader(TensorDataset(pixels), batch, shuffle=True, drop_last=True):
            yield real


def by_hand(game: Any, source: Source, batch: int, levers: frozenset[str]) -> Callable[[int], None]:
    """The loop that a person would write, with these levers."""
    critic, generator, n_critic, loss_d, loss_g, weight = judges(game)
    if "channels-last" in levers:
        game.to(memory_format=torch.channels_last)
    if "compile" in levers:
        compile_networks(game, print)
    adam = partial(torch.optim.Adam, lr=2e-4, betas=(0.5, 0.999), fused=True if "fused" in levers else None)
    players = {network: (list(network.parameters()), adam(network.parameters())) for network in (critic, generator)}
    autocast = partial(torch.autocast, "cpu", torch.bfloat16) if "bf16" in levers else nullcontext
    reals = batches(source, batch, loader="no item" not in levers)
    # The DCGAN's round makes its fakes once; the others draw anew, as their papers do.
    same_fakes = type(game).__name__ == "DCGAN"

    def step(network: nn.Module, loss: Tensor) -> None:
        parameters, optimiser = players[network]
        optimiser.zero_grad()
        if "movers" in levers:
            loss.backward(inputs=parameters)
        else:
            loss.backward()
        optimiser.step()
        if "no item" not in levers:
            loss.item()

    def judged(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        if "one pass" in levers:
            on_real, on_fake = critic(torch.cat([real, fake])).chunk(2)
            return on_real, on_fake
        return critic(real), critic(fake)

    def rounds(n: int) -> None:
        for _ in range(n):
            for _ in range(n_critic):
                real = next(reals)
                with autocast():
                    fake = generator(game.latent(len(real)))
                    # WGAN-GP's usual script leaves the fakes attached; those of the others detach them.
                    shown = fake if weight and "movers" not in levers else fake.detach()
                    loss = loss_d(*judged(real, shown))
                    if weight:
                        loss = loss + weight * gradient_penalty(critic, real, shown)
                step(critic, loss)
            with autocast():
                if not same_fakes:
                    fake = generator(game.latent(len(real)))
                loss = loss_g(critic(fake))
            step(generator, loss)

    return rounds


def engine(game: Game, source: Source, batch: int, **settings: Any) -> Callable[[int], None]:
    """The engine's own rounds, read once at the end as between two logs."""
    stream = Stream(source, Images if isinstance(source, Finite) else Points, seed=0, device=CPU)
    trainer = Trainer(game, stream, Settings(batch_size=batch, rounds=1_000_000, **settings), CPU)

    def rounds(n: int) -> None:
        for _ in range(n):
            trainer.play_round()
        trainer.ledger.read()
        trainer.ledger.clear()

    return rounds


def has_statistics(game: Game) -> bool:
    """Whether D normalises by its batch: then real and generated pictures pass it apart."""
    critic = judges(game)[0]
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in critic.modules())


def contestants_of(name: str, levers: bool, compile: bool) -> dict[str, Callable[[int], None]]:
    case = CASES[name]
    if "source" in case:
        source: Source = open_source(case["source"])
    else:
        pixels = torch.randint(0, 256, (2000, case["size"], case["size"], case["channels"]), dtype=torch.uint8)
        source = from_arrays(pixels.numpy())

    def build() -> Game:
        torch.manual_seed(0)
        return zoo.find(name)(source.spec, **case["hyper"])

    batch = case["batch"]
    found = {"plain": by_hand(build(), source, batch, frozenset())}
    if levers:
        for lever in LEVERS:
            skipped = (lever == "one pass" and has_statistics(build())) or (lever == "compile" and not compile)
            if not skipped and not (lever == "channels-last" and "source" in case):
                found[f"plain + {lever}"] = by_hand(build(), source, batch, frozenset({lever}))
    found |= {
        "same levers fp32": by_hand(build(), source, batch, BY_HAND),
        "engine fp32": engine(build(), source, batch),
        "same levers bf16": by_hand(build(), source, batch, BY_HAND | {"bf16"}),
        "engine bf16": engine(build(), source, batch, precision="bf16"),
    }
    if compile:
        found["engine fp32, compiled"] = engine(build(), source, batch, compile=True)
    return found


def measure(name: str, repeats: int, levers: bool, compile: bool) -> None:
    case, contestants = CASES[name], contestants_of(name, levers, compile)
    seconds: dict[str, list[float]] = {contestant: [] for contestant in contestants}
    for repeat in range(repeats + 1):
        # Each repeat begins elsewhere, so that nobody always runs after the same neighbour.
        first = repeat % len(contestants)
        order = list(contestants)[first:] + list(contestants)[:first]
        for contestant in order:
            began = time.perf_counter()
            contestants[contestant](case["rounds"])
            if repeat:  # the first warms up
                seconds[contestant].append((time.perf_counter() - began) / case["rounds"])
    what = case.get("source") or f"{case['size']}x{case['size']}x{case['channels']}"
    print(f"\n{name}: {what}, batch {case['batch']}, {repeats} repeats of {case['rounds']} rounds")
    for contestant, times in seconds.items():
        speedup = statistics.median(p / t for p, t in zip(seconds["plain"], times, strict=True))
        line = f"  {contestant:22} {1000 * statistics.median(times):8.2f} ms a round   {speedup:5.2f}x plain"
        if contestant in ("engine fp32", "engine bf16"):
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
    parser.add_argument("--levers", action="store_true", help="the plain loop with each lever alone, too")
    parser.add_argument("--compile", action="store_true", help="compiled contestants, too; minutes of compiling")
    arguments = parser.parse_args()
    print(f"{platform.system()}, {processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for name in arguments.games:
        measure(name, arguments.repeats, arguments.levers, arguments.compile)


if __name__ == "__main__":
    main()
