"""The first of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ganforge import objectives
from ganforge.batches import Images, Points, PointSpec, Spec
from ganforge.errors import RequestError
from ganforge.game import Game, Move, Player, Preset, register
from ganforge.nets import init
from ganforge.nets.mlp import Affine, Maxout, mlp
from ganforge.schedules import exponential


@register("gan")
class GAN(Game):
    r"""Generative Adversarial Networks. Goodfellow et al., NeurIPS 2014, arXiv:1406.2661.

    Page and measured curves: docs/games/gan.md

    $\min_G \max_D V(D, G) = E_x[\log D(x)] + E_z[\log(1 - D(G(z)))]$, eq. (1). For a fixed G the best D is $p / (p + q)$, where p is
    the density of the data and q that of G(z), and V is then $2\,\mathrm{JSD}(p \Vert q) - \log 4$. The generator maximises
    $E_z[\log D(G(z))]$ instead, as the paper advises and its code does, unless `saturating`.

    Networks and numbers for pictures are those of the authors' mnist.yaml; points have ReLU networks of three hidden layers.
    Departures from that file: a round is the paper's Algorithm 1 (the file halves D's loss and steps both players at once); the
    momentum keeps its first value (there it rises to 0.7 by epoch 250); G's output bias starts at 0, not at the mean picture.

    Args:
        latent_dim: the dimension of z.
        noise: the law of z; both have mean 0 and variance 1.
        k: the discriminator's steps per round.
        saturating: whether the generator plays the minimax game itself.
        units: the width of the generator's two hidden layers.
        maxout: the width of the discriminator's two hidden layers.
        pieces: how many linear maps compete in each maxout unit.
        dropout: whether the discriminator drops a fifth of the pixels and half of the hidden units.
        point_units: the width of all hidden layers where the data are points.
        optimiser: what both players step with.
        lr: the learning rate.
        momentum: the share of its last step that SGD repeats.
        betas: how slowly Adam forgets the gradients and their squares.
        decay: what divides the learning rate after every round.
    """

    rounds = 125_000  # 250 epochs of MNIST, the span of the file's momentum schedule; it names no end
    batch_size = 100
    presets: ClassVar[dict[str, Preset]] = {
        "adam": Preset("Adam and Gaussian noise, as most do now", optimiser="adam", lr=2e-4, decay=1.0, noise="normal"),
        "ring": Preset(
            "8 Gaussians in half a minute", data="ring", rounds=4000, batch_size=256, latent_dim=2, noise="normal",
            optimiser="adam", lr=1e-3, betas=(0.5, 0.9), decay=1.0,
        ),
        "tiny": Preset(
            "for tests", size=8, channels=1, batch_size=8, latent_dim=4, units=8, maxout=4, pieces=2, point_units=8, dropout=False,
        ),
    }  # fmt: skip

    def __init__(
        self,
        data: Spec,
        *,
        latent_dim: int = 100,
        noise: Literal["uniform", "normal"] = "uniform",
        k: int = 1,
        saturating: bool = False,
        units: int = 1200,
        maxout: int = 240,
        pieces: int = 5,
        dropout: bool = True,
        point_units: int = 128,
        optimiser: Literal["sgd", "adam"] = "sgd",
        lr: float = 0.1,
        momentum: float = 0.5,
        betas: tuple[float, float] = (0.5, 0.999),
        decay: float = 1.000004,
    ) -> None:
        super().__init__()
        if k < 1:
            raise RequestError(f"k = {k}: the discriminator needs at least one step per round")
        self.latent_dim, self.noise, self.k, self.decay = latent_dim, noise, k, decay
        self.objective = objectives.saturating if saturating else objectives.nonsaturating
        sgd, adam = partial(torch.optim.SGD, lr=lr, momentum=momentum), partial(torch.optim.Adam, lr=lr, betas=betas)
        self.optimiser = sgd if optimiser == "sgd" else adam
        if isinstance(data, PointSpec):
            hidden = [point_units] * 3
            self.generator = mlp(latent_dim, *hidden, data.dimension)
            self.discriminator = nn.Sequential(mlp(data.dimension, *hidden, 1), nn.Flatten(0))
            return
        pixels = math.prod(data.shape)
        # Inside the networks pixels lie in [0, 1] as in the file: what dropout hides is black.
        self.generator = nn.Sequential(mlp(latent_dim, units, units, pixels), nn.Sigmoid(), Affine(2, -1), nn.Unflatten(1, data.shape))
        pixel_drop, unit_drop = (0.2, 0.5) if dropout else (0.0, 0.0)
        layers = [nn.Dropout(pixel_drop), Maxout(pixels, maxout, pieces), nn.Dropout(unit_drop), Maxout(maxout, maxout, pieces)]
        score = [nn.Dropout(unit_drop), nn.Linear(maxout, 1), nn.Flatten(0)]
        self.discriminator = nn.Sequential(nn.Flatten(), Affine(0.5, 0.5), *layers, *score)
        init.weights(self.generator, partial(nn.init.uniform_, a=-0.05, b=0.05))
        init.weights(self.discriminator, partial(nn.init.uniform_, a=-0.005, b=0.005))

    def players(self) -> dict[str, Player]:
        """Two equals."""
        slower = exponential(1 / self.decay)
        return {
            "discriminator": Player(self.discriminator, self.optimiser, schedule=slower),
            "generator": Player(self.generator, self.optimiser, schedule=slower),
        }

    def play(self, batches: Iterator[Images | Points]) -> Iterator[Move]:
        """Algorithm 1."""
        for _ in range(self.k):  # for k steps do
            real = next(batches).x  # x ~ p_data
            fake = self.sample(self.latent(len(real))).detach()  # z ~ p_g(z)
            on_real, on_fake = self.discriminator(real), self.discriminator(fake)
            loss = self.objective.discriminator(on_real, on_fake)  # ascend log D(x) + log(1 - D(G(z)))
            yield Move("discriminator", loss, real=on_real.sigmoid(), fake=on_fake.sigmoid())
        fake = self.sample(self.latent(len(real)))  # z ~ p_g(z)
        yield Move("generator", self.objective.generator(self.discriminator(fake)))  # descend log(1 - D(G(z))), or ascend log D(G(z))

    def latent(self, n: int) -> Tensor:
        """[n, latent_dim]."""
        if self.noise == "normal":
            return torch.randn(n, self.latent_dim, device=self.device)
        return math.sqrt(3) * (2 * torch.rand(n, self.latent_dim, device=self.device) - 1)  # U[-sqrt 3, sqrt 3]

    def sample(self, latent: Tensor) -> Tensor:
        """[n, latent_dim] to pictures in [-1, 1] or to points, [n, *shape]."""
        made: Tensor = self.generator(latent)
        return made

    def judge(self, x: Tensor) -> Tensor:
        """[n, *shape] to D(x), [n]."""
        return torch.sigmoid(self.discriminator(x))
