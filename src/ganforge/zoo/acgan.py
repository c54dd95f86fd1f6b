"""A discriminator that also names the class."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganforge.batches import ImageSpec, Labelled
from ganforge.errors import RequestError
from ganforge.game import Game, Move, Player, Preset, register
from ganforge.nets import init
from ganforge.objectives import nonsaturating


@register("acgan")
class ACGAN(Game):
    r"""Conditional Image Synthesis with Auxiliary Classifier GANs. Odena, Olah, Shlens. ICML 2017, arXiv:1610.09585.

    Page and measured curves: docs/games/acgan.md

    A fake is $X_{fake} = G(c, z)$ with a class $c \sim p_c$. D says of a picture whether it is real, S, and of which class, C:
    $L_S = E[\log P(S = real \mid X_{real})] + E[\log P(S = fake \mid X_{fake})]$,
    $L_C = E[\log P(C = c \mid X_{real})] + E[\log P(C = c \mid X_{fake})]$.
    D maximises $L_S + L_C$ and G maximises $L_C - L_S$, here both as losses to be minimised: $L_D = -L_S - L_C$ and, non-saturating,
    $L_G = -E[\log P(S = real \mid X_{fake})] - E[\log P(C = c \mid X_{fake})]$.

    Defaults are the paper's networks and numbers for CIFAR-10, with the middle one of the three learning rates that it searched.
    Departures: no noise is added to D's activations (0 is one of the paper's three values); the fakes' classes are those of the real
    pictures beside them, so that p_c is the data's own law; G answers non-saturating; G reuses the z that D saw.

    Args:
        latent_dim: the dimension of z, which is N(0, 1); the class follows it as a one-hot vector.
        maps: the generator's feature maps, from the coarsest on; each step doubles the side.
        width: the feature maps of the discriminator's first convolution, doubled by each of the five that follow.
        dropout: the share of activations that the discriminator drops after each convolution.
        lr: the learning rate of both players.
        betas: how slowly Adam forgets the gradients and their squares.
        ema: the decay of the averaged generator that samples after training; 0 for none.
    """

    rounds = 50_000
    batch_size = 100
    presets: ClassVar[dict[str, Preset]] = {
        "imagenet": Preset(
            "the paper's for ImageNet, of which each of its 100 games saw ten classes", size=128, channels=3, maps=(768, 384, 256, 192, 64),
        ),
        "small": Preset(
            "MNIST in five minutes on one core: narrow, less dropout, faster steps, averaged weights",
            size=28, channels=1, latent_dim=32, maps=(64, 32), width=8, dropout=0.2, batch_size=64, rounds=2000, lr=5e-4, ema=0.999,
        ),
        "tiny": Preset("for tests", size=8, channels=1, batch_size=8, latent_dim=4, maps=(8, 4), width=2),
    }  # fmt: skip

    def __init__(
        self,
        data: ImageSpec,
        *,
        latent_dim: int = 100,
        maps: tuple[int, ...] = (384, 192, 96),
        width: int = 16,
        dropout: float = 0.5,
        lr: float = 2e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        ema: float = 0.0,
    ) -> None:
        super().__init__()
        if len(data.classes) < 2:
            raise RequestError(f"data of {len(data.classes)} classes: this game needs two or more; give pictures with labels")
        self.latent_dim, self.classes = latent_dim, len(data.classes)
        self.generator = _generator(latent_dim + self.classes, data.shape, maps)
        self.discriminator = _discriminator(data.shape, width, dropout, 1 + self.classes)
        for network in (self.generator, self.discriminator):
            init.weights(network, partial(nn.init.normal_, std=0.02))
        self.adam, self.ema = partial(torch.optim.Adam, lr=lr, betas=betas), ema

    def players(self) -> dict[str, Player]:
        """Adam for both."""
        return {"discriminator": Player(self.discriminator, self.adam), "generator": Player(self.generator, self.adam, ema=self.ema)}

    def play(self, batches: Iterator[Labelled]) -> Iterator[Move]:
        """D on a batch of each kind, then G on the same fakes through the D that has just moved; the paper has no box."""
        batch = next(batches)
        c = batch.label  # c ~ p_c: the classes of real pictures
        fake = self.sample(self.latent_of_class(c))  # X_fake = G(c, z)
        real_source, real_class = self.source_and_class(batch.image)
        fake_source, fake_class = self.source_and_class(fake.detach())
        source_loss = nonsaturating.discriminator(real_source, fake_source)  # -L_S
        class_loss = F.cross_entropy(real_class, c) + F.cross_entropy(fake_class, c)  # -L_C
        move = Move("discriminator", source_loss + class_loss, real=real_source.sigmoid(), fake=fake_source.sigmoid())  # L_D = -L_S - L_C
        yield move.saw(right_on_real=(real_class.argmax(1) == c).float(), right_on_fake=(fake_class.argmax(1) == c).float())
        fake_source, fake_class = self.source_and_class(fake)
        yield Move("generator", nonsaturating.generator(fake_source) + F.cross_entropy(fake_class, c))  # L_G

    def source_and_class(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[n, C, H, W] to D's logits: of being real, [n], and of each class, [n, K]."""
        logits = self.discriminator(x).float()
        return logits[:, 0], logits[:, 1:]

    def latent(self, n: int) -> Tensor:
        """[n, latent_dim + K], the class drawn uniformly."""
        return self.latent_of_class(torch.rand(n, self.classes, device=self.device).argmax(1))

    def latent_of_class(self, label: Tensor) -> Tensor:
        """[n] to [n, latent_dim + K]: z of N(0, 1), and the class as a one-hot vector behind it."""
        z = torch.randn(len(label), self.latent_dim, device=self.device)
        return torch.cat([z, torch.eye(self.classes, device=self.device)[label]], dim=1)

    def sample(self, latent: Tensor) -> Tensor:
        """[n, latent_dim + K] to pictures, [n, C, H, W]; between two one-hot vectors lie mixtures of classes."""
        pictures: Tensor = self.generator(latent)
        return pictures

    def classify(self, x: Tensor) -> Tensor:
        """[n, C, H, W] to P(C | X), [n, K]."""
        return self.source_and_class(x)[1].softmax(1)

    def judge(self, x: Tensor) -> Tensor:
        """[n, C, H, W] to P(S = real | X), [n]."""
        return self.source_and_class(x)[0].sigmoid()


def _generator(inputs: int, shape: tuple[int, int, int], maps: tuple[int, ...]) -> nn.Module:
    """[n, inputs] to [n, *shape]: a linear layer to `maps[0]` maps, then 5x5 transposed convolutions of stride 2; sides are multiples."""
    channels, height, width = shape
    times = 2 ** len(maps)
    if height % times or width % times or not maps:
        raise RequestError(
            f"pictures of {height}x{width}: {len(maps)} maps double so often, from a multiple of {times}; choose with --size or --maps"
        )
    coarsest = (maps[0], height // times, width // times)
    layers: list[nn.Module] = [nn.Linear(inputs, coarsest[0] * coarsest[1] * coarsest[2]), nn.ReLU(), nn.Unflatten(1, coarsest)]
    for coarse, fine in pairwise(maps):
        layers += [_double(coarse, fine), nn.BatchNorm2d(fine), nn.ReLU()]
    return nn.Sequential(*layers, _double(maps[-1], channels), nn.Tanh())


def _double(inputs: int, outputs: int) -> nn.Module:
    return nn.ConvTranspose2d(inputs, outputs, 5, stride=2, padding=2, output_padding=1)


def _discriminator(shape: tuple[int, int, int], width: int, dropout: float, outputs: int) -> nn.Module:
    """[n, *shape] to [n, outputs]: six 3x3 convolutions, every other one of stride 2, and a linear layer."""
    maps, *sides = shape
    layers: list[nn.Module] = []
    for level in range(6):
        wider, stride = width * 2**level, 2 - level % 2
        norm = [nn.BatchNorm2d(wider)] if level else []
        layers += [nn.Conv2d(maps, wider, 3, stride, padding=1), *norm, nn.LeakyReLU(0.2), nn.Dropout(dropout)]
        maps, sides = wider, [-(-side // stride) for side in sides]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(maps * sides[0] * sides[1], outputs))
