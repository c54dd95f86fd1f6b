"""A game that paints parabolas."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from ganforge import objectives
from ganforge.batches import Points, PointSpec
from ganforge.game import Game, Move, Player, Preset, register
from ganforge.nets.mlp import mlp


@register("curve-gan")
class CurveGAN(Game):
    r"""A GAN that paints curves, after Morvan Zhou's PyTorch tutorial, 2017, with the numbers of a course derived from it.
    There is no paper; the game is that of arXiv:1406.2661.

    Page and measured curves: docs/games/curve-gan.md

    $L_D = -E_x[\log D(x)] - E_z[\log(1 - D(G(z)))]$, $L_G = E_z[\log(1 - D(G(z)))]$. A painting x is a curve's heights at 15 fixed
    places: $y = a t^2 + (a - 1)$ with $a \sim U[1, 3]$. They are not normalised, so that D sees numbers up to 14.

    Both gradients are taken before either player steps, as the tutorial does. Departure: softplus of logits for its log of a sigmoid.

    Args:
        latent_dim: the dimension of z, which is N(0, 1); the tutorial calls it ideas.
        hidden: the width of the one hidden layer of both players.
        saturating: whether the generator plays the minimax game itself; otherwise it maximises log D(G(z)).
        simultaneous: whether both step at once; otherwise the generator answers the discriminator that has just moved.
        lr: the learning rate of both players.
        betas: how slowly Adam forgets the gradients and their squares.
        ema: the decay of the averaged generator that samples after training; 0 for none.
    """

    rounds = 2000
    batch_size = 64
    source = "curves"
    presets: ClassVar[dict[str, Preset]] = {
        "patient": Preset(
            "smoother curves: by turns, non-saturating, faster, averaged weights",
            rounds=10_000, lr=1e-3, betas=(0.5, 0.999), saturating=False, simultaneous=False, ema=0.999,
        ),
        "sine": Preset(
            "the same on sine curves",
            data="sine", rounds=10_000, lr=1e-3, betas=(0.5, 0.999), saturating=False, simultaneous=False, ema=0.999,
        ),
        "tiny": Preset("for tests", data="curves", batch_size=8, hidden=4),
    }  # fmt: skip

    def __init__(
        self,
        data: PointSpec,
        *,
        latent_dim: int = 5,
        hidden: int = 128,
        saturating: bool = True,
        simultaneous: bool = True,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        ema: float = 0.0,
    ) -> None:
        super().__init__()
        self.generator = mlp(latent_dim, hidden, data.dimension)
        self.discriminator = nn.Sequential(mlp(data.dimension, hidden, 1), nn.Flatten(0))
        self.latent_dim, self.simultaneous, self.ema = latent_dim, simultaneous, ema
        self.objective = objectives.saturating if saturating else objectives.nonsaturating
        self.adam = partial(torch.optim.Adam, lr=lr, betas=betas)

    def players(self) -> dict[str, Player]:
        """Adam for both."""
        return {"discriminator": Player(self.discriminator, self.adam), "generator": Player(self.generator, self.adam, ema=self.ema)}

    def play(self, batches: Iterator[Points]) -> Iterator[Move]:
        """One batch of the artists' paintings, one of the generator's, for both players."""
        real = next(batches).point
        fake = self.sample(self.latent(len(real)))
        on_real, on_fake = self.discriminator(real), self.discriminator(fake)
        loss = self.objective.discriminator(on_real, on_fake)  # -log D(x) - log(1 - D(G(z)))
        # The tutorial shows D(x) as the discriminator's accuracy, best at 0.5, and -L_D as its score, best for G at -2 ln 2 = -1.38.
        seen = {"real": on_real.sigmoid(), "fake": on_fake.sigmoid(), "accuracy": on_real.sigmoid(), "score": -loss}
        if self.simultaneous:
            yield Move.together(discriminator=loss, generator=self.objective.generator(on_fake)).saw(**seen)
        else:
            yield Move("discriminator", loss, **seen)
            yield Move("generator", self.objective.generator(self.discriminator(fake)))  # log(1 - D(G(z))), or -log D(G(z))

    def latent(self, n: int) -> Tensor:
        """[n, latent_dim], N(0, 1)."""
        return torch.randn(n, self.latent_dim, device=self.device)

    def sample(self, latent: Tensor) -> Tensor:
        """[n, latent_dim] to curves, the heights at the spec's abscissae, [n, dimension]."""
        curves: Tensor = self.generator(latent)
        return curves

    def judge(self, x: Tensor) -> Tensor:
        """[n, dimension] to D(x), [n]."""
        return torch.sigmoid(self.discriminator(x))
