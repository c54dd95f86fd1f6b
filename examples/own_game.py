"""A GAN of one's own: players, and the algorithm box as a generator of moves. The engine does the rest."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ganforge import Game, Move, Player, Points, Settings, train
from ganforge.nets.mlp import mlp
from ganforge.objectives import nonsaturating


class MyGAN(Game):
    """The textbook's game on points of the plane."""

    def __init__(self, data: Any, *, width: int = 64, lr: float = 1e-3) -> None:
        super().__init__()
        self.g, self.d = mlp(2, width, width, 2), mlp(data.dimension, width, width, 1)
        self.adam = partial(torch.optim.Adam, lr=lr, betas=(0.5, 0.9))

    def players(self) -> dict[str, Player]:
        return {"discriminator": Player(self.d, self.adam), "generator": Player(self.g, self.adam)}

    def play(self, batches: Iterator[Points]) -> Iterator[Move]:
        real = next(batches).point
        fake = self.g(torch.randn(len(real), 2))
        yield Move("discriminator", nonsaturating.discriminator(self.d(real), self.d(fake.detach())))
        yield Move("generator", nonsaturating.generator(self.d(fake)))

    def latent(self, n: int) -> Tensor:
        return torch.randn(n, 2)

    def sample(self, latent: Tensor) -> Tensor:
        points: Tensor = self.g(latent)
        return points


if __name__ == "__main__":
    game = train(MyGAN, "ring", Settings(rounds=2000, batch_size=256), out="runs/mine")  # curves, samples, checkpoints: runs/mine
    print(game.sample(game.latent(5)))
