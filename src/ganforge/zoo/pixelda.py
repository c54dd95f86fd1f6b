"""Labels of one domain read pictures of another, because a generator repaints the first in the manner of the second."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganforge.batches import ImageSpec, TwoDomains
from ganforge.errors import RequestError
from ganforge.game import Game, Move, Player, Preset, register
from ganforge.nets import init
from ganforge.nets.blocks import conv, residual
from ganforge.objectives import nonsaturating
from ganforge.schedules import exponential


@register("pixelda")
class PixelDA(Game):
    r"""Unsupervised Pixel-Level Domain Adaptation with Generative Adversarial Networks. Bousmalis, Silberman, Dohan, Erhan, Krishnan.
    CVPR 2017, arXiv:1612.05424.

    Page and measured runs: docs/games/pixelda.md

    Labelled pictures $x^s, y^s$ of a source, others $x^t$ of a target, repainted ones $x^f = G(x^s, z)$; D tells target from repainted, T
    names the class. $\min_{G,T} \max_D \alpha L_d(D, G) + \beta L_t(T, G) + \gamma L_c(G)$ with
    $L_d = E[\log D(x^t)] + E[\log(1 - D(x^f))]$, $L_t = E[-\log T(y^s \mid x^f) - \log T(y^s \mid x^s)]$, both terms, so that G cannot
    exchange the classes, and for sources on black the content that G must keep, over the k places where the mask m is 1:
    $L_c = E[\frac1k \lVert (x^s - x^f) \circ m \rVert_2^2 - \frac1{k^2} ((x^s - x^f)^\top m)^2]$. G answers D non-saturating.

    Defaults are the authors' for MNIST to MNIST-M (tensorflow/models, research/domain_adaptation), where each player's step has weights
    of its own. Departures: batch normalisation has gains; D's noise is for training alone; G's step leaves out the loss of T on $x^s$, of
    which G has no gradient.

    Args:
        latent_dim: the dimension of z, uniform in [-1, 1].
        width: the feature maps of G, and of D's first layer.
        blocks: the residual blocks of G.
        dropout: the share of activations that D drops after each layer.
        noise: the standard deviation of what is added to D's activations.
        domain: alpha in D's step.
        style: alpha in G's step.
        task: beta in G's step; it is 1 in T's.
        content: gamma; above 0 only for sources on black.
        lr: the learning rate of all players.
        betas: how slowly Adam forgets the gradients and their squares.
        decay: the factor on the rates every 10,000 rounds.
    """

    rounds = 500_000
    batch_size = 32
    presets: ClassVar[dict[str, Preset]] = {
        "small": Preset(
            "digits on patches of photographs in a few minutes: narrow networks, more weight on the look",
            size=28, channels=3, rounds=1500, width=24, blocks=2, style=0.1, task=0.1,
        ),
        "tiny": Preset("for tests", size=8, channels=1, batch_size=8, width=4, blocks=1, latent_dim=2),
    }  # fmt: skip
    ways = ("source2target",)

    def __init__(
        self,
        data: ImageSpec,
        *,
        latent_dim: int = 10,
        width: int = 64,
        blocks: int = 6,
        dropout: float = 0.1,
        noise: float = 0.2,
        domain: float = 0.1356,
        style: float = 0.0113,
        task: float = 0.0101,
        content: float = 0.0,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.5, 0.999),
        decay: float = 0.95,
    ) -> None:
        super().__init__()
        if len(data.classes) < 2:
            raise RequestError(f"a source of {len(data.classes)} classes: this game learns to name two or more; give pictures with labels")
        self.latent_dim, self.domain, self.style, self.task, self.content = latent_dim, domain, style, task, content
        self.generator = Repainter(data.shape, latent_dim, width, blocks)
        self.discriminator = _discriminator(data.shape, width, dropout, noise)
        self.classifier = Classifier(data.shape, len(data.classes))
        for network in (self.generator, self.discriminator, self.classifier):
            init.weights(network, partial(nn.init.normal_, std=0.02))
        self.adam, self.schedule = partial(torch.optim.Adam, lr=lr, betas=betas, weight_decay=1e-5), exponential(decay, every=10_000)

    def players(self) -> dict[str, Player]:
        """Adam for all, gradients bounded."""
        networks = {"discriminator": self.discriminator, "classifier": self.classifier, "generator": self.generator}
        return {name: Player(network, self.adam, self.schedule, clip=5.0) for name, network in networks.items()}

    def play(self, batches: Iterator[TwoDomains]) -> Iterator[Move]:
        """D and T together, then G, each on a batch and a z of its own; the paper has no box, this is the order of the authors' code."""
        batch = next(batches)
        source, label = batch.source, batch.label  # x^s, y^s
        fake = self.translate(source).detach()  # x^f = G(x^s, z)
        on_target, on_fake = self.discriminator(batch.target), self.discriminator(fake)
        on_source, on_painted = self.classifier(source, of_source=True), self.classifier(fake)
        task = F.cross_entropy(on_painted, label) + F.cross_entropy(on_source, label)  # L_t
        loss = self.domain * nonsaturating.discriminator(on_target, on_fake) + task  # -alpha L_d + L_t
        right = (on_painted.argmax(1) == label).float()
        yield Move(("discriminator", "classifier"), loss, target=on_target.sigmoid(), fake=on_fake.sigmoid(), task=task, right=right)
        batch = next(batches)
        source, label = batch.source, batch.label
        fake = self.translate(source)
        loss = self.style * nonsaturating.generator(self.discriminator(fake))  # -alpha log D(x^f)
        loss = loss + self.task * F.cross_entropy(self.classifier(fake), label)  # beta L_t
        yield Move("generator", loss + self.content * content_error(source, fake, foreground(source)))  # gamma L_c

    def translate(self, image: Tensor, way: str = "source2target") -> Tensor:  # noqa: ARG002
        """[n, *spec.shape] of the source, repainted with a fresh z each: [n, *spec.shape]."""
        z = torch.rand(len(image), self.latent_dim, device=self.device) * 2 - 1
        painted: Tensor = self.generator(image, z)
        return painted

    def classify(self, x: Tensor) -> Tensor:
        """[n, *spec.shape] of the target to T(y | x), [n, K]."""
        probabilities: Tensor = self.classifier(x).softmax(1)
        return probabilities


def foreground(image: Tensor) -> Tensor:
    """[n, C, H, W] to [n, 1, H, W]: 1 where a picture on black is not black."""
    return (image > -1).any(1, keepdim=True).float()


def content_error(x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    """L_c, a scalar: the variance of x - y where the mask [n, 1, H, W] is 1, so that one shift of all brightness there costs nothing."""
    difference = ((x - y) * mask).flatten(1).float()
    k = (mask.flatten(1).sum(1) * x.shape[1]).clamp(min=1)
    return (difference.square().sum(1) / k - (difference.sum(1) / k).square()).mean()


class Repainter(nn.Module):
    """G: a map of noise beside the picture, then residual blocks at full size. Nothing is made smaller, so nothing has to be invented."""

    def __init__(self, shape: tuple[int, int, int], latent_dim: int, width: int, blocks: int) -> None:
        super().__init__()
        channels, height, breadth = shape
        units = height * breadth
        noise = [nn.Linear(latent_dim, units, bias=False), nn.BatchNorm1d(units), nn.ReLU(), nn.Unflatten(1, (1, height, breadth))]
        self.noise = nn.Sequential(*noise)
        trunk = [residual(width, nn.BatchNorm2d) for _ in range(blocks)]
        self.paint = nn.Sequential(*conv(channels + 1, width, 3), nn.ReLU(), *trunk, *conv(width, channels, 1), nn.Tanh())

    def forward(self, image: Tensor, z: Tensor) -> Tensor:
        """[n, C, H, W] and [n, latent_dim] to [n, C, H, W] in [-1, 1]."""
        painted: Tensor = self.paint(torch.cat([image, self.noise(z)], 1))
        return painted


class Noisy(nn.Module):
    """Adds N(0, deviation^2) while training."""

    def __init__(self, deviation: float) -> None:
        super().__init__()
        self.deviation = deviation

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, kept."""
        return x + self.deviation * torch.randn_like(x) if self.training else x


def _discriminator(shape: tuple[int, int, int], width: int, dropout: float, noise: float) -> nn.Sequential:
    """[n, *shape] to [n] logits: 3x3 convolutions, halved until 4 pixels are left; after each some is dropped and noise added."""
    channels, height, breadth = shape
    layers = [*conv(channels, width, 3), nn.LeakyReLU(0.2), nn.Dropout(dropout), Noisy(noise)]
    while min(height, breadth) > 4:
        halve = nn.Conv2d(width, 2 * width, 3, 2, 1, bias=False)
        layers += [halve, nn.BatchNorm2d(2 * width), nn.LeakyReLU(0.2), nn.Dropout(dropout), Noisy(noise)]
        width, height, breadth = 2 * width, -(-height // 2), -(-breadth // 2)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * height * breadth, 1), nn.Flatten(0))


class Classifier(nn.Module):
    """T: the first layers are private to the source and to what looks like the target, the rest serves both."""

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        channels, height, breadth = shape
        self.source, self.target = (nn.Sequential(*conv(channels, 32, 5), nn.ReLU(), nn.MaxPool2d(2)) for _ in range(2))
        units = [nn.Linear(48 * (height // 4) * (breadth // 4), 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, classes)]
        self.shared = nn.Sequential(*conv(32, 48, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), *units)

    def forward(self, x: Tensor, of_source: bool = False) -> Tensor:
        """[n, C, H, W] to [n, K] logits."""
        logits: Tensor = self.shared(self.source(x) if of_source else self.target(x))
        return logits
