"""The U-Net generator of pix2pix, and with a latent vector that of BicycleGAN.

Ronneberger et al., MICCAI 2015, arXiv:1505.04597, as changed by Isola et al., CVPR 2017, arXiv:1611.07004, and Zhu et al., NIPS 2017,
arXiv:1711.11586; layers as in phillipi/pix2pix, junyanz/pytorch-CycleGAN-and-pix2pix and junyanz/BicycleGAN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganforge.nets.blocks import AnySize, Norm, joined


class Noise(nn.Dropout):
    """Dropout that also works in evaluation: where a translator drops half of its units, that is its only source of chance."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, kept."""
        return F.dropout(x, self.p)


class UNet(nn.Module):
    """Halvings, then doublings of which each but the first also sees the halving of its size: sides must be multiples of 2^downs."""

    def __init__(self, downs: Iterable[nn.Module], ups: Iterable[nn.Module]) -> None:
        super().__init__()
        self.downs, self.ups = nn.ModuleList(downs), nn.ModuleList(ups)

    def forward(self, x: Tensor, latent: Tensor | None = None) -> Tensor:
        """[n, inputs, h, w], and [n, latent_dim] where the network has a latent, to [n, outputs, h, w]."""
        skips: list[Tensor] = []
        for down in self.downs:
            x = down(x if latent is None else joined(x, latent))
            skips.append(x)
        x = self.ups[0](skips.pop())
        for up in self.ups[1:]:
            x = up(torch.cat([x, skips.pop()], 1))
        return x


def generator(
    inputs: int,
    outputs: int,
    width: int = 64,
    downs: int = 8,
    *,
    widest: int = 8,
    latent_dim: int = 0,
    norm: Norm = nn.BatchNorm2d,
    bias: bool = False,
    noise: Callable[[], nn.Module] = Noise,
) -> nn.Module:
    """[n, inputs, h, w] (and a latent [n, latent_dim], if that is not 0) to [n, outputs, h, w] in [-1, 1], any height and width.

    Down: LeakyReLU 0.2, 4x4 convolution of stride 2, norm; up: ReLU, 4x4 transposed convolution of stride 2, norm. The maps double from
    `width` to `widest * width` at most. The first and the innermost convolution are not normalised (a map of one pixel would become
    zero), the first begins without activation, the last has a bias and ends in tanh; `bias` is for all others. `noise` follows the three
    innermost ups: Noise (pix2pix, in use too), nn.Dropout (training only) or nn.Identity. The latent enters before every convolution
    down. `deepest` says how many downs a size allows; sides that are no multiples of 2^downs are mirrored up to one and cropped back.

    In use pix2pix normalises by the statistics of the batch at hand, mostly of one picture: `partial(nn.BatchNorm2d,
    track_running_stats=False)`, or `partial(nn.InstanceNorm2d, affine=True)`, which is the same where batches hold one picture.
    """
    maps = [width * min(2**level, widest) for level in range(downs)]
    down = [nn.Sequential(nn.Conv2d(inputs + latent_dim, maps[0], 4, 2, 1, bias=bias))]
    for level in range(1, downs):
        halve = nn.Conv2d(maps[level - 1] + latent_dim, maps[level], 4, 2, 1, bias=bias)
        down += [nn.Sequential(nn.LeakyReLU(0.2), halve, *([norm(maps[level])] if level < downs - 1 else []))]
    up = []
    for level in reversed(range(downs)):
        below = maps[level] * (1 if level == downs - 1 else 2)
        if level == 0:
            up += [nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(below, outputs, 4, 2, 1), nn.Tanh())]
        else:
            double = nn.ConvTranspose2d(below, maps[level - 1], 4, 2, 1, bias=bias)
            up += [nn.Sequential(nn.ReLU(), double, norm(maps[level - 1]), *([noise()] if level >= downs - 3 else []))]
    return AnySize(UNet(down, up), 2**downs)


def deepest(height: int, width: int) -> int:
    """How often pictures of this size can be halved, 8 times at most, the paper's for 256 pixels."""
    return max(1, min(8, min(height, width).bit_length() - 1))
