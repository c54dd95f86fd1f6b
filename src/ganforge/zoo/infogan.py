"""Codes that mean something, found without labels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from ganforge.batches import Images, Points, PointSpec, Spec
from ganforge.errors import RequestError
from ganforge.game import Game, Move, Player, Preset, register
from ganforge.nets import init
from ganforge.nets.mlp import mlp
from ganforge.nets.sizes import side
from ganforge.objectives import nonsaturating


@register("infogan")
class InfoGAN(Game):
    r"""InfoGAN: Interpretable Representation Learning by Information Maximizing Generative Adversarial Nets.
    Chen, Duan, Houthooft, Schulman, Sutskever, Abbeel. NeurIPS 2016, arXiv:1606.03657.

    Page and measured curves: docs/games/infogan.md

    $\min_{G,Q} \max_D V(D, G) - \lambda L_I(G, Q)$, where the information between the codes c and the picture is bounded from below,
    $I(c; G(z, c)) \ge L_I(G, Q) = E_{c,z}[\log Q(c \mid G(z, c))] + H(c)$. As the authors' code trains it,
    $L_D = -E_x[\log D(x)] - E_{z,c}[\log(1 - D(G(z, c)))] - \lambda L_I$ and $L_G = -E_{z,c}[\log D(G(z, c))] - \lambda L_I$.

    Q, the recogniser, shares all but its last layers with D, and moves with it: the trunk is shaped by both tasks. Of a categorical code
    it tells the probabilities, $\log Q = \sum_k c_k \log q_k$ and $H = \log K$; of a continuous one, uniform on [-1, 1], a normal law,
    $\log Q = -\frac12 \log 2\pi\sigma^2 - \frac{(c - \mu)^2}{2\sigma^2}$ and $H = \log 2$.

    Defaults are those of the authors' launcher for MNIST, with its networks; points have ReLU networks. As there, D's leaky slope is 0.01
    (codes made after the paper's appendix have 0.1) and sigma is 1. Departures: pixels lie in [-1, 1] and G ends in tanh (there [0, 1]
    and a sigmoid); D's convolutions begin normal, not truncated at two deviations; trained games use running averages of batch
    normalisation (there, the batch's); the outputs for a fixed sigma, which nothing reads there, are left out.

    Args:
        latent_dim: the dimension of z, the noise that no code explains; uniform on [-1, 1].
        categorical: how many categorical codes there are.
        categories: the number of values of each categorical code.
        continuous: how many continuous codes there are.
        information: lambda, the weight of the information in both players' losses.
        learn_sigma: whether Q also tells the deviation of each continuous code; if not, it is 1.
        width: the feature maps at half the picture's size; twice as many at a quarter.
        units: the width of the fully connected layers; Q has one more, an eighth as wide.
        lr_discriminator: the learning rate of D and Q.
        lr_generator: the learning rate of G.
        betas: how slowly Adam forgets the gradients and their squares.
        ema: the decay of the averaged weights that are used after training; 0 for none.
    """

    rounds = 5000
    batch_size = 128
    presets: ClassVar[dict[str, Preset]] = {
        "mnist": Preset("the authors' launcher", size=28, channels=1),
        "small": Preset(
            "MNIST in four minutes on one core: narrow, small batches, faster steps, averaged weights", size=28, channels=1,
            width=16, units=256, batch_size=32, rounds=8000, lr_discriminator=6e-4, lr_generator=3e-3, ema=0.999,
        ),
        "ring": Preset(
            "8 Gaussians in a minute: eight categories, which should become the modes",
            data="ring", latent_dim=8, categories=8, continuous=0, units=128, rounds=4000,
        ),
        "tiny": Preset("for tests", size=8, channels=1, batch_size=8, width=4, latent_dim=4, categories=3, units=16),
    }  # fmt: skip

    def __init__(
        self,
        data: Spec,
        *,
        latent_dim: int = 62,
        categorical: int = 1,
        categories: int = 10,
        continuous: int = 2,
        information: float = 1.0,
        learn_sigma: bool = False,
        width: int = 64,
        units: int = 1024,
        lr_discriminator: float = 2e-4,
        lr_generator: float = 1e-3,
        betas: tuple[float, float] = (0.5, 0.999),
        ema: float = 0.0,
    ) -> None:
        super().__init__()
        if categorical + continuous < 1 or categories < 2:
            given = f"categorical = {categorical}, categories = {categories}, continuous = {continuous}"
            raise RequestError(f"{given}: needed are at least one code, and two values of each categorical one")
        self.latent_dim, self.categorical, self.categories, self.continuous = latent_dim, categorical, categories, continuous
        self.information, self.learn_sigma, self.ema = information, learn_sigma, ema
        self.adam_discriminator = partial(torch.optim.Adam, lr=lr_discriminator, betas=betas)
        self.adam_generator = partial(torch.optim.Adam, lr=lr_generator, betas=betas)
        names = ["category"] if categorical == 1 else [f"category{i + 1}" for i in range(categorical)]
        # Twice the prior's range, as far as the paper's pictures turn them.
        turned = {f"c{i + 1}": (-2.0, 2.0) for i in range(continuous)}
        self.dials = dict.fromkeys(names, (0.0, categories - 1.0)) | turned

        inputs, outputs = latent_dim + categorical * categories + continuous, categorical * categories + (1 + learn_sigma) * continuous
        if isinstance(data, PointSpec):
            self.generator: nn.Module = mlp(inputs, units, units, data.dimension)
            self.trunk: nn.Module = nn.Sequential(mlp(data.dimension, units, units, units), nn.ReLU())
        else:
            coarse, channels = side(data, (8, 16, 28, 32, 64)) // 4, data.channels
            self.generator = nn.Sequential(
                nn.Linear(inputs, units), nn.BatchNorm1d(units), nn.ReLU(),
                nn.Linear(units, 2 * width * coarse**2), nn.BatchNorm1d(2 * width * coarse**2), nn.ReLU(),
                nn.Unflatten(1, (2 * width, coarse, coarse)),
                nn.ConvTranspose2d(2 * width, width, 4, 2, 1), nn.BatchNorm2d(width), nn.ReLU(),
                nn.ConvTranspose2d(width, channels, 4, 2, 1), nn.Tanh(),
            )  # fmt: skip
            self.trunk = nn.Sequential(
                nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.01),
                nn.Conv2d(width, 2 * width, 4, 2, 1), nn.BatchNorm2d(2 * width), nn.LeakyReLU(0.01),
                nn.Flatten(), nn.Linear(2 * width * coarse**2, units), nn.BatchNorm1d(units), nn.LeakyReLU(0.01),
            )  # fmt: skip
        self.score = nn.Sequential(nn.Linear(units, 1), nn.Flatten(0))
        hidden = units // 8
        self.recogniser = nn.Sequential(
            nn.Linear(units, hidden), nn.BatchNorm1d(hidden), nn.LeakyReLU(0.01), nn.Linear(hidden, outputs)
        )  # fmt: skip
        if not isinstance(data, PointSpec):
            init.dcgan(self)

    def players(self) -> dict[str, Player]:
        """Q's parameters are the discriminator's."""
        discriminator = nn.ModuleList([self.trunk, self.score, self.recogniser])
        return {
            "discriminator": Player(discriminator, self.adam_discriminator, ema=self.ema),
            "generator": Player(self.generator, self.adam_generator, ema=self.ema),
        }

    def play(self, batches: Iterator[Images | Points]) -> Iterator[Move]:
        """D with Q, then G; each on codes of its own."""
        real = next(batches).x
        latent = self.latent(len(real))  # z, c ~ p(z) p(c)
        features = self.trunk(self.sample(latent).detach())
        on_real, on_fake = self.score(self.trunk(real)), self.score(features)
        categorical, continuous = self.bounds(self.recogniser(features), latent)
        loss = nonsaturating.discriminator(on_real, on_fake)  # -log D(x) - log(1 - D(G(z, c)))
        loss = loss - self.information * (categorical + continuous).mean()  # - lambda L_I, for Q and the trunk
        yield Move("discriminator", loss, real=on_real.sigmoid(), fake=on_fake.sigmoid(), categorical=categorical, continuous=continuous)

        latent = self.latent(len(real))
        features = self.trunk(self.sample(latent))
        loss = nonsaturating.generator(self.score(features))  # -log D(G(z, c))
        categorical, continuous = self.bounds(self.recogniser(features), latent)
        yield Move("generator", loss - self.information * (categorical + continuous).mean())  # - lambda L_I

    def bounds(self, told: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
        """L_I of the categorical and of the continuous codes in nats, [n] each: log Q(c|x) + H(c), from what Q told of G(latent)."""
        _, categories, codes = self._parts(latent)
        logits, mean, log_variance = self._posterior(told.float())
        categorical = (categories * logits.log_softmax(2)).sum((1, 2)) + self.categorical * math.log(self.categories)
        density = -0.5 * (math.log(2 * math.pi) + log_variance + (codes - mean).square() / log_variance.exp())
        return categorical, (density + math.log(2)).sum(1)

    def _posterior(self, told: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Q's outputs as logits [n, categorical, categories], means and logarithms of variances, both [n, continuous]."""
        logits, rest = told.tensor_split([self.categorical * self.categories], 1)
        mean, log_variance = rest.tensor_split(2, 1) if self.learn_sigma else (rest, torch.zeros_like(rest))
        return logits.unflatten(1, (self.categorical, self.categories)), mean, log_variance

    def _parts(self, latent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z [n, latent_dim], the categorical codes [n, categorical, categories] as one-hot rows, the continuous ones [n, continuous]."""
        z, categories, codes = latent.tensor_split([self.latent_dim, latent.shape[1] - self.continuous], 1)
        return z, categories.unflatten(1, (self.categorical, self.categories)), codes

    def latent(self, n: int) -> Tensor:
        """[n, latent_dim + categorical * categories + continuous]: z, the categorical codes as one-hot rows, the continuous codes."""
        z = torch.rand(n, self.latent_dim, device=self.device)
        drawn = torch.rand(n, self.categorical, self.categories, device=self.device).argmax(2)  # the largest of K is each equally often
        codes = torch.rand(n, self.continuous, device=self.device)
        one_hot = torch.eye(self.categories, device=self.device)[drawn]
        return torch.cat([2 * z - 1, one_hot.flatten(1), 2 * codes - 1], 1)

    def sample(self, latent: Tensor) -> Tensor:
        """Latents as of `latent` to pictures in [-1, 1] or to points, [n, *shape]."""
        made: Tensor = self.generator(latent)
        return made

    def steer(self, latent: Tensor, values: Mapping[str, float]) -> Tensor:
        """The same latents with these codes set, [n, ...] to [n, ...]; of a category the nearest whole number counts."""
        z, categories, codes = (part.clone() for part in self._parts(latent))
        for name, value in values.items():
            at = list(self.dials).index(name)
            if at < self.categorical:
                categories[:, at] = torch.eye(self.categories, device=latent.device)[round(value)]
            else:
                codes[:, at - self.categorical] = value
        return torch.cat([z, categories.flatten(1), codes], 1)

    def encode(self, x: Tensor) -> Tensor:
        """[n, *shape] to [n, categorical * categories + continuous]: the probability of each category, the mean of each continuous code."""
        logits, mean, _ = self._posterior(self.recogniser(self.trunk(x)))
        return torch.cat([logits.softmax(2).flatten(1), mean], 1)

    def cluster(self, x: Tensor) -> Tensor:
        """[n, *shape] to [n, categories]: the posterior of the (first) categorical code; RequestError where there is none."""
        if not self.categorical:
            raise RequestError("categorical = 0: without a categorical code there are no clusters; train with --categorical 1 or more")
        return self.encode(x)[:, : self.categories]

    def judge(self, x: Tensor) -> Tensor:
        """[n, *shape] to D(x), [n]."""
        return torch.sigmoid(self.score(self.trunk(x)))
