"""Two processes play every game: started by test_ranks.py through torchrun, which compares what they leave in the folder given."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import ranks_trouble
import torch
from noise import with_noise_per_sample, with_plain_descent
from torch import Tensor, nn
from variants import Variant, variants

from ganforge.engine import Settings, Trainer
from ganforge.engine import ranks as engine_ranks
from ganforge.engine.buckets import Buckets
from ganforge.engine.ranks import Alone, joined, seeded
from ganforge.game import Game

BATCH = 8
CPU = torch.device("cpu")


def weights(game: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in game.state_dict().items()}


def quiet(game: Game, parts: list[int], *, keep_statistics: bool) -> Game:
    """Noise by sample, plain descent, and unless asked no batch statistics."""
    with_plain_descent(game)
    for module in game.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not keep_statistics:
            module.eval()
    with_noise_per_sample(game, parts)
    return game


def played(trainer: Trainer, rounds: int) -> dict[str, Tensor]:
    for _ in range(rounds):
        trainer.play_round()
    return weights(trainer.game)


def share(variant: Variant, ranks: Alone, parts: list[int], *, sync: bool = False, **settings: Any) -> dict[str, Tensor]:
    """The weights after two rounds of this process's parts of the batch."""
    game = quiet(variant.build(), parts, keep_statistics=sync)
    made = variant.trainer(game, batch_size=BATCH, sync_batchnorm=sync, **settings)
    trainer = Trainer(game, made.stream, made.settings, CPU, ranks)
    return played(trainer, 2)


def has_statistics(variant: Variant) -> bool:
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in variant.build().modules())


def interrupted(variant: Variant, ranks: Alone) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(uninterrupted, stopped after two rounds and resumed): five rounds with each rank's own noise and batch statistics."""

    def fresh() -> Trainer:
        made = variant.trainer(batch_size=BATCH)
        torch.manual_seed(seeded(0, ranks.rank))
        return Trainer(made.game, made.stream, made.settings, CPU, ranks)

    whole = played(fresh(), 5)
    first = fresh()
    played(first, 2)
    state, stored = ranks.shared(first.state()), ranks.shared(weights(first.game))
    second = fresh()
    torch.manual_seed(99)
    second.game.load_state_dict(stored)
    second.load(state)
    return whole, played(second, 3)


def main(out: Path) -> None:
    torch.set_num_threads(1)
    with joined(CPU) as ranks:
        assert ranks.world == 2
        for variant in variants():
            found: dict[str, Any] = {}
            if not variant.cls.couples_samples:
                found["share"] = share(variant, ranks, [ranks.rank])
                found["accumulated"] = share(variant, ranks, [ranks.rank, ranks.rank + 2], accumulate=2)
                if has_statistics(variant):
                    found["synchronised"] = share(variant, ranks, [ranks.rank], sync=True)
            if variant.preset == "tiny":
                found["whole"], found["resumed"] = interrupted(variant, ranks)
            torch.save(found, out / f"{variant}-{ranks.rank}.pt")
        overlapping(out, ranks)
    # Each with ranks of its own, in the same processes.
    ranks_trouble.main(out, ranks.rank)


def overlapping(out: Path, ranks: Alone) -> None:
    """Averages of known gradients, with buckets of a few numbers that leave while backward runs."""
    torch.manual_seed(ranks.rank)
    network = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 4), nn.Linear(4, 1))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.1)
    unused = nn.Parameter(torch.ones(3))
    parameters = [*network.parameters(), unused]
    x = torch.randn(6, 3)
    results = []
    for overlap in (False, True):
        buckets = Buckets(parameters, ranks.world, overlap=overlap, size=40)
        with buckets.launching():
            network(x).square().mean().backward(inputs=parameters)
        buckets.finish()
        results.append([None if p.grad is None else p.grad.clone() for p in parameters])
        for parameter in parameters:
            parameter.grad = None
    torch.save({"x": x, "plain": results[0], "overlapped": results[1]}, out / f"buckets-{ranks.rank}.pt")


if __name__ == "__main__":
    assert engine_ranks.expected() == 2
    assert Settings().seed == 0
    main(Path(sys.argv[1]))
