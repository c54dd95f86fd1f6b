"""Convolutions that train."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ganforge.batches import Images, ImageSpec
from ganforge.game import Game, Move, Player, Preset, register
from ganforge.nets import dcgan, init
from ganforge.nets.sizes import side
from ganforge.objectives import nonsaturating


@register("dcgan")
class DCGAN(Game):
    r"""Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks.
    Radford, Metz, Chintala. ICLR 2016, arXiv:1511.06434.

    Page and measured curves: docs/games/dcgan.md

    $L_D = -E_x[\log D(x)] - E_z[\log(1 - D(G(z)))]$, $L_G = -E_z[\log D(G(z))]$.

    The paper's guidelines: strided convolutions for pooling; batch normalisation in both networks, but not on G's output and D's
    input; no hidden fully connected layers; ReLU in G with tanh at its end, LeakyReLU of slope 0.2 in D; weights from N(0, 0.02^2).
    Real and generated pictures pass D apart, each normalised by its own statistics.

    The default is the authors' Theano code at 64 pixels, 1024-512-256-128 maps of 5x5; other sizes have more or fewer doublings.
    Departures from it: it updates the players by turns, each on a batch of its own, here a round is one batch for D, then G; it
    normalises by batch statistics with epsilon 1e-8 even when it samples, here epsilon is 1e-5 and trained games use running averages
    of momentum 0.1, as dcgan.torch does. Its L2 penalty is not in the paper: see the preset "faces".

    Args:
        architecture: paper (linear projection, then 5x5 kernels) or torch (that of dcgan.torch, 4x4 kernels throughout).
        width: the feature maps at half the picture's size, doubled at each level below.
        latent_dim: the dimension of z.
        noise: the law of z, uniform on [-1, 1] or N(0, 1).
        lr: the learning rate of both players.
        betas: how slowly Adam forgets the gradients and their squares.
        weight_decay: the L2 penalty on all weights of both players.
        ema: the decay of the averaged generator that samples after training; 0 for none.
    """

    rounds = 34_000  # 25 epochs of 350,000 faces, two batches a round, in the authors' script
    batch_size = 128
    presets: ClassVar[dict[str, Preset]] = {
        "faces": Preset("the authors' script for faces: as the paper, with an L2 penalty", size=64, channels=3, weight_decay=1e-5),
        "torch": Preset("dcgan.torch's", architecture="torch", size=64, channels=3, width=64, noise="normal", batch_size=64),
        "small": Preset(
            "digits in a minute on two cores: narrow, few latents, small batches, faster steps, averaged weights",
            data="digits", size=32, width=16, latent_dim=12, noise="normal", batch_size=32, rounds=3500, lr=5e-4, ema=0.999,
        ),
        "tiny": Preset("for tests", size=8, channels=1, batch_size=8, width=4, latent_dim=4),
    }  # fmt: skip

    def __init__(
        self,
        data: ImageSpec,
        *,
        architecture: Literal["paper", "torch"] = "paper",
        width: int = 128,
        latent_dim: int = 100,
        noise: Literal["uniform", "normal"] = "uniform",
        lr: float = 2e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        weight_decay: float = 0.0,
        ema: float = 0.0,
    ) -> None:
        super().__init__()
        side(data, (8, 16, 32, 64, 128, 256))
        kernel: Literal[4, 5] = 5 if architecture == "paper" else 4
        self.generator = dcgan.generator(latent_dim, data.shape, width, kernel=kernel)
        self.discriminator = dcgan.discriminator(data.shape, width, kernel=kernel)
        init.dcgan(self.generator)
        init.dcgan(self.discriminator)
        self.latent_dim, self.noise, self.ema = latent_dim, noise, ema
        self.adam = partial(torch.optim.Adam, lr=lr, betas=betas, weight_decay=weight_decay)

    def players(self) -> dict[str, Player]:
        """Adam for both."""
        return {"discriminator": Player(self.discriminator, self.adam), "generator": Player(self.generator, self.adam, ema=self.ema)}

    def play(self, batches: Iterator[Images]) -> Iterator[Move]:
        """D on a batch of each kind, then G on the same z through the D that has just moved; the paper has no box."""
        real = next(batches).image
        fake = self.sample(self.latent(len(real)))
        on_real, on_fake = self.discriminator(real), self.discriminator(fake.detach())
        right = torch.cat([on_real > 0, on_fake < 0]).float()
        loss = nonsaturating.discriminator(on_real, on_fake)  # -log D(x) - log(1 - D(G(z)))
        yield Move("discriminator", loss, real=on_real.sigmoid(), fake=on_fake.sigmoid(), accuracy=right)
        yield Move("generator", nonsaturating.generator(self.discriminator(fake)))  # -log D(G(z))

    def latent(self, n: int) -> Tensor:
        """[n, latent_dim]."""
        if self.noise == "normal":
            return torch.randn(n, self.latent_dim, device=self.device)
        return 2 * torch.rand(n, self.latent_dim, device=self.device) - 1  # U[-1, 1]

    def sample(self, latent: Tensor) -> Tensor:
        """[n, latent_dim] to pictures, [n, C, H, W]."""
        pictures: Tensor = self.generator(latent)
        return pictures

    def judge(self, x: Tensor) -> Tensor:
        """[n, C, H, W] to D(x), [n]."""
        return torch.sigmoid(self.discriminator(x))
