"""One generator for all attributes of a picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganforge.batches import Attributed, ImageSpec
from ganforge.errors import RequestError
from ganforge.game import Game, Move, Player, Preset, register
from ganforge.nets import translator
from ganforge.nets.blocks import joined
from ganforge.objectives import wasserstein
from ganforge.penalties import gradient_penalty
from ganforge.schedules import linear_decay


@register("stargan")
class StarGAN(Game):
    r"""StarGAN: Unified Generative Adversarial Networks for Multi-Domain Image-to-Image Translation. Choi, Choi, Kim, Ha, Kim, Choo.
    CVPR 2018, arXiv:1711.09020.

    Page and measured runs: docs/games/stargan.md

    $c'$ are the attributes that the picture x has, c those asked of G. D scores patches of a picture and names its attributes:
    $L_{adv} = E_x[D_{src}(x)] - E_{x,c}[D_{src}(G(x, c))] - \lambda_{gp} E_{\hat x}[(\lVert\nabla_{\hat x} D_{src}(\hat x)\rVert_2 - 1)^2]$
    with $\hat x = \epsilon x + (1 - \epsilon) G(x, c)$, $L_{cls}^r = E_{x,c'}[-\log D_{cls}(c' \mid x)]$,
    $L_{cls}^f = E_{x,c}[-\log D_{cls}(c \mid G(x, c))]$, $L_{rec} = E_{x,c,c'}[\lVert x - G(G(x, c), c')\rVert_1]$. D descends
    $L_D = -L_{adv} + \lambda_{cls} L_{cls}^r$ and G $L_G = L_{adv} + \lambda_{cls} L_{cls}^f + \lambda_{rec} L_{rec}$.
    $D_{src}$ is the mean of the patches' scores, in the penalty their sum; $-\log D_{cls}$ is summed over the attributes.

    Defaults are the authors' for CelebA, after yunjey/stargan: c are the labels of the batch in another order. Departures: the rates
    fall to 0, as the paper says, where the code lowers them by a thousandth; G normalises by the picture at hand in use too, as the
    code does without saying so; D has fewer layers for pictures below 128 pixels; no joint training on two sets of labels.

    Args:
        width: the feature maps of G at full size.
        blocks: the residual blocks of G.
        downs: how often G halves the picture.
        critic_width: the feature maps of D's first layer, doubled by each further one.
        layers: how often D halves the picture; 0: down to two or three pixels, six times at most.
        n_critic: D's steps per round.
        penalty: lambda_gp, the weight of the gradient penalty.
        classification: lambda_cls, the weight of the attributes.
        reconstruction: lambda_rec, the weight of the way back.
        lr: the learning rate of both players.
        betas: how slowly Adam forgets the gradients and their squares.
        decay_from: the round from which the rates fall.
        decay_to: the round at which they have fallen, linearly, to 0.
    """

    rounds = 40_000
    batch_size = 16
    couples_samples = True
    reading: ClassVar[dict[str, Any]] = {"size": 128, "flip": True}
    presets: ClassVar[dict[str, Preset]] = {
        "small": Preset(
            "32 pixels in a few minutes: narrow, shallow, two steps of D for one of G", size=32, flip=True, rounds=2000, batch_size=8,
            width=16, blocks=3, downs=1, critic_width=24, n_critic=2, reconstruction=30.0, lr=1e-3, decay_from=1000, decay_to=2000,
        ),
        "tiny": Preset("for tests", size=8, channels=1, batch_size=4, width=4, blocks=1, downs=1, critic_width=4, n_critic=2),
    }  # fmt: skip

    def __init__(
        self,
        data: ImageSpec,
        *,
        width: int = 64,
        blocks: int = 6,
        downs: int = 2,
        critic_width: int = 64,
        layers: int = 0,
        n_critic: int = 5,
        penalty: float = 10.0,
        classification: float = 1.0,
        reconstruction: float = 10.0,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        decay_from: int = 20_000,
        decay_to: int = 40_000,
    ) -> None:
        super().__init__()
        if not data.attributes:
            raise RequestError("data without attributes: this game needs pictures with a table of them, as CelebA's list_attr_celeba.txt")
        if n_critic < 1:
            raise RequestError(f"n_critic = {n_critic}: the discriminator needs at least one step per round")
        self.dials = dict.fromkeys(data.attributes, (0.0, 1.0))
        self.n_critic, self.penalty, self.classification, self.reconstruction = n_critic, penalty, classification, reconstruction
        self.adam, self.schedule = partial(torch.optim.Adam, lr=lr, betas=betas), linear_decay(decay_from, decay_to)
        # Not reflected at the edge: a label's map would stay constant, and the first normalisation take it away.
        self.generator = translator.generator(
            data.channels + len(data.attributes), data.channels, width, blocks, downs=downs,
            kernel=4, reflect=False, norm=partial(nn.InstanceNorm2d, affine=True), bias=False,
        )  # fmt: skip
        self.discriminator = Discriminator(data.shape, len(data.attributes), critic_width, layers)

    def players(self) -> dict[str, Player]:
        """Adam for both, at one rate."""
        return {
            "discriminator": Player(self.discriminator, self.adam, self.schedule),
            "generator": Player(self.generator, self.adam, self.schedule),
        }

    def play(self, batches: Iterator[Attributed]) -> Iterator[Move]:
        """D on a batch each time, then G on the last of them; the paper has no box, the order is that of the authors' code."""
        for _ in range(self.n_critic):
            batch = next(batches)
            x, own = batch.image, batch.attribute  # x, c'
            asked = own[torch.rand(len(own), device=own.device).argsort()]  # c: what other pictures of the batch have
            fake = self.generator(joined(x, asked)).detach()  # G(x, c)
            (on_real, read), (on_fake, _) = self.discriminator(x), self.discriminator(fake)
            penalty = gradient_penalty(lambda x: self.discriminator.forward(x)[0], x, fake)
            cls = naming(read, own)  # L_cls^r
            loss = wasserstein.critic(on_real, on_fake) + self.penalty * penalty + self.classification * cls  # L_D
            yield Move("discriminator", loss, real=on_real, fake=on_fake, penalty=penalty, cls_real=cls)
        fake = self.generator(joined(x, asked))
        on_fake, read = self.discriminator(fake)
        cls, rec = naming(read, asked), F.l1_loss(self.generator(joined(fake, own)), x)  # L_cls^f, L_rec
        loss = wasserstein.generator(on_fake) + self.classification * cls + self.reconstruction * rec  # L_G
        yield Move("generator", loss, cls_fake=cls, rec=rec)

    def edit(self, image: Tensor, values: Mapping[str, float]) -> Tensor:
        """[n, *spec.shape] to the same with these attributes, 0 to 1; any other is 1 where D reads it as more likely than not, else 0."""
        labels = self.encode(image).round()
        for name, value in values.items():
            labels[:, list(self.dials).index(name)] = value
        edited: Tensor = self.generator(joined(image, labels))
        return edited

    def encode(self, x: Tensor) -> Tensor:
        """[n, *spec.shape] to the probability of each attribute, D_cls, [n, k]."""
        _, read = self.discriminator(x)
        probabilities: Tensor = read.float().sigmoid()
        return probabilities

    def judge(self, x: Tensor) -> Tensor:
        """[n, *spec.shape] to D_src, the mean of the patches' scores, [n]; only their differences mean anything."""
        scores, _ = self.discriminator(x)
        mean: Tensor = scores.float().mean((1, 2, 3))
        return mean


def naming(logits: Tensor, labels: Tensor) -> Tensor:
    """-log D_cls of these labels, both [n, k]: the sum over attributes, the mean over pictures; k ln 2 where D cannot tell (logits 0)."""
    return F.binary_cross_entropy_with_logits(logits.float(), labels, reduction="sum") / len(labels)


class Discriminator(nn.Module):
    """One trunk, two heads: [n, *shape] to D_src, the scores of patches, [n, 1, h, w], and D_cls, logits of attributes, [n, attributes].

    The trunk has `layers` 4x4 convolutions of stride 2, `width` maps in the first and twice as many in each further one, LeakyReLU 0.01.
    Nothing is normalised, as the penalty is on each picture's own gradient. RequestError where no two pixels a side are left.
    """

    def __init__(self, shape: tuple[int, int, int], attributes: int, width: int, layers: int) -> None:
        super().__init__()
        maps, height, width_of_picture = shape
        deepest = min(height, width_of_picture).bit_length() - 2
        layers = layers or min(6, deepest)
        if layers > deepest or layers < 1:
            size, least = f"{width_of_picture}x{height}", 2 ** (max(layers, 1) + 1)
            raise RequestError(f"pictures of {size}: {layers} --layers need {least} pixels a side; take fewer, or a larger --size")
        trunk: list[nn.Module] = []
        for level in range(layers):
            trunk += [nn.Conv2d(maps, width * 2**level, 4, 2, 1), nn.LeakyReLU(0.01)]
            maps = width * 2**level
        self.trunk = nn.Sequential(*trunk)
        self.source = nn.Conv2d(maps, 1, 3, padding=1, bias=False)
        self.domain = nn.Conv2d(maps, attributes, (height >> layers, width_of_picture >> layers), bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[n, *shape] to [n, 1, h, w] and [n, attributes]."""
        features = self.trunk(x)
        return self.source(features), self.domain(features).flatten(1)
