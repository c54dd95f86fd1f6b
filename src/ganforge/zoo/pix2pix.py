"""A picture becomes another one, learnt from pairs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganforge.batches import ImageSpec, Pairs
from ganforge.game import Game, Move, Player, Preset, register
from ganforge.nets import init, patchgan, unet
from ganforge.nets.blocks import Norm
from ganforge.objectives import nonsaturating
from ganforge.schedules import linear_decay


@register("pix2pix")
class Pix2Pix(Game):
    r"""Image-to-Image Translation with Conditional Adversarial Networks. Isola, Zhu, Zhou, Efros. CVPR 2017, arXiv:1611.07004.

    Page and measured runs: docs/games/pix2pix.md

    D sees the input x beside the answer: $L_D = \frac12 E_{x,y}[-\log D(x, y)] + \frac12 E_{x,z}[-\log(1 - D(x, G(x, z)))]$, half of the
    sum so that D does not learn too fast for G. $L_G = E_{x,z}[-\log D(x, G(x, z))] + \lambda E\lVert y - G(x, z)\rVert_1$. The noise z
    is dropout, which stays on in use; so does normalisation by the statistics of the picture at hand.

    Defaults are the authors' for facades, after phillipi/pix2pix and junyanz/pytorch-CycleGAN-and-pix2pix: dropout follows the three
    innermost ups, of which the latter leaves out the first. Departure: pictures smaller than 256 pixels have a U-Net as deep as their
    side can be halved.

    Args:
        width: the feature maps at full size of both networks.
        depth: how often the U-Net halves the picture; 0: as often as its side allows, 8 times at most.
        layers: strided convolutions of D, whose logits see patches of 1, 16, 34 or 70 pixels for 0 to 3.
        norm: by the statistics of the batch, which the paper's batch of 1 makes those of a picture, or of each picture.
        l1: lambda, the weight of the distance.
        lr: the learning rate of both players.
        betas: how slowly Adam forgets the gradients and their squares.
        decay_from: the round from which the rates fall.
        decay_to: the round at which they have fallen, linearly, to 0.
    """

    rounds = 80_000
    batch_size = 1
    reading: ClassVar[dict[str, Any]] = {"size": 256, "jitter": 30, "flip": True}
    presets: ClassVar[dict[str, Preset]] = {
        "small": Preset(
            "64 pixels in a few minutes", size=64, jitter=6, flip=True, rounds=6000, width=32, layers=2, decay_from=4000, decay_to=6000,
        ),
        "tiny": Preset("for tests", size=16, channels=1, jitter=0, batch_size=4, width=4, layers=1, norm="instance"),
    }  # fmt: skip
    ways = ("a2b",)

    def __init__(
        self,
        data: ImageSpec,
        *,
        width: int = 64,
        depth: int = 0,
        layers: int = 3,
        norm: Literal["batch", "instance"] = "batch",
        l1: float = 100.0,
        lr: float = 2e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        decay_from: int = 40_000,
        decay_to: int = 80_000,
    ) -> None:
        super().__init__()
        self.norm, self.l1 = norm, l1
        self.adam, self.schedule = partial(torch.optim.Adam, lr=lr, betas=betas), linear_decay(decay_from, decay_to)
        normalised: Norm = partial(nn.BatchNorm2d, track_running_stats=False)
        if norm == "instance":
            normalised = partial(nn.InstanceNorm2d, affine=True)
        downs = depth or unet.deepest(data.height, data.width)
        self.generator = unet.generator(data.channels, data.channels, width, downs, norm=normalised)
        self.discriminator = patchgan.discriminator((2 * data.channels, data.height, data.width), width, layers, norm=normalised)
        init.dcgan(self.generator)
        init.dcgan(self.discriminator)

    def players(self) -> dict[str, Player]:
        """Adam for both, at one rate."""
        return {
            "discriminator": Player(self.discriminator, self.adam, self.schedule),
            "generator": Player(self.generator, self.adam, self.schedule),
        }

    def play(self, batches: Iterator[Pairs]) -> Iterator[Move]:
        """One step each, on one answer; the paper has no box (its section 3.3 tells the order)."""
        batch = next(batches)
        x, y = batch.a, batch.b
        fake = self.generator(x)  # G(x, z)
        on_real, on_fake = self.judge_pair(x, y), self.judge_pair(x, fake.detach())
        loss = nonsaturating.discriminator(on_real, on_fake) / 2  # half of -log D(x, y) - log(1 - D(x, G(x, z)))
        yield Move("discriminator", loss, real=on_real.sigmoid(), fake=on_fake.sigmoid())
        distance = F.l1_loss(fake, y)  # |y - G(x, z)|_1
        loss = nonsaturating.generator(self.judge_pair(x, fake)) + self.l1 * distance  # -log D(x, G(x, z)) + lambda L1
        yield Move("generator", loss, l1=distance)

    def judge_pair(self, x: Tensor, y: Tensor) -> Tensor:
        """D(x, y): two pictures [n, C, H, W] to a logit for each patch, [n, 1, h, w]."""
        logits: Tensor = self.discriminator(torch.cat([x, y], 1))
        return logits

    def translate(self, image: Tensor, way: str = "a2b") -> Tensor:  # noqa: ARG002
        """[n, C, H, W] in [-1, 1], any height and width, kept; each picture is normalised alone, and each call has its own dropout."""
        if self.norm == "instance":
            made: Tensor = self.generator(image)
            return made
        return torch.cat([self.generator(one) for one in image.split(1)])
