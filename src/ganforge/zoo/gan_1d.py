"""A game on the line, small enough to be looked at whole."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ganforge.batches import Points, PointSpec
from ganforge.errors import RequestError
from ganforge.game import Game, Move, Phase, Player, Preset, register
from ganforge.nets.init import weights
from ganforge.nets.mlp import mlp
from ganforge.objectives import nonsaturating
from ganforge.penalties import MinibatchDiscrimination
from ganforge.schedules import exponential


@register("gan-1d")
class GAN1D(Game):
    r"""An introduction to Generative Adversarial Networks. AYLIEN, 2016, github.com/AYLIEN/gan-intro, after a blog post by Eric Jang.

    Page and measured curves: docs/games/gan-1d.md

    The game of arXiv:1406.2661: $L_D = -E_x[\log D(x)] - E_z[\log(1 - D(G(z)))]$, $L_G = -E_z[\log D(G(z))]$, on N(4, 0.5^2), with
    the minibatch layer of arXiv:1606.03498 if asked. The defaults are the repository's; its early version (preset "early") first fits
    the discriminator to the density p of the data: $L_{pre} = E_{u \sim U[-5, 5]}[(D(u) - p(u))^2]$.

    Expect collapse: a generator this small often ends narrower than the data, or in the wrong place, as the seed decides.
    Departures: softplus of logits for logarithms clamped at 1e-5; the batches are not sorted, as no loss depends on their order.

    Args:
        hidden: the width of the generator's hidden layer, half of that of the discriminator's.
        activation: of the discriminator.
        minibatch: whether the discriminator's third hidden layer is minibatch discrimination of 5 kernels of dimension 3.
        init: unit draws the weights from N(0, 1) whatever the width, as the tutorial does; torch is torch's default.
        noise_range: z lies in [-noise_range, noise_range].
        stratified: whether the z of a batch are an even grid, each moved by U[0, 0.01), or independent.
        optimiser: what both players step with.
        lr: the learning rate.
        betas: how slowly Adam forgets the gradients and their squares.
        decay: what the learning rate is multiplied by every 150 rounds.
        pretrain: the rounds for which the discriminator is first fitted to the density; then optimisers and rates start anew.
        mean: of the normal density to which it is fitted.
        ema: the decay of the averaged generator that samples after training; 0 for none.
        std: of the same density; below 0.4 its peak is above 1, which no probability fits.
    """

    rounds = 5000
    batch_size = 8
    source = "gaussian"
    couples_samples = True
    presets: ClassVar[dict[str, Preset]] = {
        "early": Preset(
            "the tutorial's early version, pre-trained; most seeds fail", rounds=1200, batch_size=12, pretrain=1000,
            activation="tanh", optimiser="sgd", lr=0.03, decay=0.95,
        ),
        "minibatch": Preset("with the minibatch layer, as the tutorial's --minibatch", minibatch=True),
        "reliable": Preset(
            "six small changes that make the game forgiving: see the page",
            batch_size=64, hidden=32, init="torch", noise_range=1.0, betas=(0.5, 0.999), ema=0.999,
        ),
        "tiny": Preset("for tests", data="gaussian", batch_size=8, hidden=2, pretrain=2),
    }  # fmt: skip

    def __init__(
        self,
        data: PointSpec,
        *,
        hidden: int = 4,
        activation: Literal["relu", "tanh"] = "relu",
        minibatch: bool = False,
        init: Literal["unit", "torch"] = "unit",
        noise_range: float = 8.0,
        stratified: bool = True,
        optimiser: Literal["adam", "sgd"] = "adam",
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        decay: float = 1.0,
        pretrain: int = 0,
        mean: float = 4.0,
        std: float = 0.5,
        ema: float = 0.0,
    ) -> None:
        super().__init__()
        if data.dimension != 1:
            raise RequestError(f"points of dimension {data.dimension}: gan-1d plays on the line; give it one column, or another game")
        if pretrain and std * math.sqrt(2 * math.pi) < 1:
            raise RequestError(
                f"std = {std}: pre-training fits a probability to a density, so its peak must not exceed 1; give 0.4 or more"
            )
        self.noise_range, self.stratified, self.decay, self.ema = noise_range, stratified, decay, ema
        self.pretrain, self.mean, self.std = pretrain, mean, std
        sgd, adam = partial(torch.optim.SGD, lr=lr), partial(torch.optim.Adam, lr=lr, betas=betas)
        self.optimiser = sgd if optimiser == "sgd" else adam
        act = nn.Tanh if activation == "tanh" else nn.ReLU
        wide, kernels = 2 * hidden, 5
        self.generator = mlp(1, hidden, 1, activation=nn.Softplus)
        third: list[nn.Module] = [nn.Linear(wide, wide), act(), nn.Linear(wide, 1)]
        if minibatch:
            third = [MinibatchDiscrimination(wide, kernels, dimension=3, with_self=True), nn.Linear(wide + kernels, 1)]
        self.discriminator = nn.Sequential(mlp(1, wide, wide, activation=act), act(), *third, nn.Flatten(0))
        if init == "unit":
            weights(self.generator, nn.init.normal_)
            weights(self.discriminator, nn.init.normal_)
        if minibatch:
            weights(third[0], partial(nn.init.normal_, std=0.02))

    def players(self) -> dict[str, Player]:
        """Two equals."""
        staircase = exponential(self.decay, every=150)
        return {
            "discriminator": Player(self.discriminator, self.optimiser, schedule=staircase),
            "generator": Player(self.generator, self.optimiser, schedule=staircase, ema=self.ema),
        }

    def phases(self) -> list[Phase]:
        """The early version pre-trains the discriminator, and forgets how fast it was moving."""
        fit = [Phase("pretrain", self.fit_density, rounds=self.pretrain)] if self.pretrain else []
        return [*fit, Phase("play", self.play, fresh=bool(fit))]

    def fit_density(self, batches: Iterator[Points]) -> Iterator[Move]:
        """One step of D towards the density of the data. The batch says no more than how many points to take."""
        u = 10 * torch.rand(len(next(batches)), 1, device=self.device) - 5  # u ~ U[-5, 5]
        density = torch.exp(-(((u[:, 0] - self.mean) / self.std) ** 2) / 2) / (self.std * math.sqrt(2 * math.pi))
        yield Move("discriminator", (self.judge(u).float() - density).square().mean())  # (D(u) - p(u))^2

    def play(self, batches: Iterator[Points]) -> Iterator[Move]:
        """A step of D, then of G with new z."""
        real = next(batches).point
        fake = self.sample(self.latent(len(real))).detach()
        on_real, on_fake = self.discriminator(real), self.discriminator(fake)
        loss = nonsaturating.discriminator(on_real, on_fake)  # -log D(x) - log(1 - D(G(z)))
        yield Move("discriminator", loss, real=on_real.sigmoid(), fake=on_fake.sigmoid())
        fake = self.sample(self.latent(len(real)))
        yield Move("generator", nonsaturating.generator(self.discriminator(fake)))  # -log D(G(z))

    def latent(self, n: int) -> Tensor:
        """[n, 1]; stratified, the n draws cover the range together and in order, so draw all that is wanted at once."""
        if self.stratified:
            grid = torch.linspace(-self.noise_range, self.noise_range, n, device=self.device)
            return grid[:, None] + 0.01 * torch.rand(n, 1, device=self.device)
        return self.noise_range * (2 * torch.rand(n, 1, device=self.device) - 1)

    def sample(self, latent: Tensor) -> Tensor:
        """[n, 1] to points of the line, [n, 1]."""
        points: Tensor = self.generator(latent)
        return points

    def judge(self, x: Tensor) -> Tensor:
        """[n, 1] to D(x), [n]; with the minibatch layer it is of the x as one batch."""
        return torch.sigmoid(self.discriminator(x))
