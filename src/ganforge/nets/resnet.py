"""The residual networks of WGAN-GP's CIFAR-10 script: Gulrajani et al., NeurIPS 2017, arXiv:1704.00028, gan_cifar_resnet.py."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor, nn

from ganforge.nets.init import fan_average


class ResidualBlock(nn.Module):
    """shortcut(x) + conv(relu(conv(relu(x)))), [n, inputs, s, s] to [n, outputs, s', s']: s' is 2s ("up"), s/2 ("down") or s.

    `norm` batch-normalises before each ReLU. `bare` leaves the first of them out, for a block that reads pixels. Enlarging is by nearest
    neighbour and shrinking by the mean of 2x2; a 1x1 convolution commutes with both, so the shortcut takes it where the map is small.
    """

    def __init__(
        self, inputs: int, outputs: int, resize: Literal["up", "down", "keep"] = "keep", *, norm: bool = False, bare: bool = False
    ) -> None:
        super().__init__()
        up = [nn.Upsample(scale_factor=2)] if resize == "up" else []
        down = [nn.AvgPool2d(2)] if resize == "down" else []
        first, second = conv(inputs, outputs), conv(outputs, outputs)
        self.residual = nn.Sequential(*([] if bare else relu(inputs, norm)), *up, first, *relu(outputs, norm), second, *down)
        identity = inputs == outputs and resize == "keep"
        self.shortcut = nn.Identity() if identity else nn.Sequential(*down, conv(inputs, outputs, kernel=1, gain=1), *up)

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, s, s] to [n, outputs, s', s']."""
        both: Tensor = self.shortcut(x) + self.residual(x)
        return both


def generator(latent_dim: int, shape: tuple[int, int, int], width: int, *, norm: bool = True) -> nn.Module:
    """[n, latent_dim] to [n, *shape] in [-1, 1]: from 4x4 by one block of `width` maps per doubling; sides of 2^p, 8 or more."""
    channels, size, _ = shape
    project = nn.Linear(latent_dim, 16 * width)
    fan_average(project)
    blocks = [ResidualBlock(width, width, "up", norm=norm) for _ in range(int(math.log2(size)) - 2)]
    output = conv(width, channels, gain=1)
    return nn.Sequential(project, nn.Unflatten(1, (width, 4, 4)), *blocks, *relu(width, norm), output, nn.Tanh())


def critic(shape: tuple[int, int, int], width: int) -> nn.Module:
    """[n, *shape] to [n] scores, without normalisation: down to 8x8 (4x4 for a side of 8), then two blocks and the mean over places."""
    channels, size, _ = shape
    down = [ResidualBlock(width, width, "down") for _ in range(int(math.log2(size)) - 4)]
    score = nn.Linear(width, 1)
    fan_average(score)
    keep = [ResidualBlock(width, width) for _ in range(2)]
    mean = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(ResidualBlock(channels, width, "down", bare=True), *down, *keep, nn.ReLU(), *mean, score, nn.Flatten(0))


def conv(inputs: int, outputs: int, kernel: int = 3, gain: float = math.sqrt(2)) -> nn.Conv2d:
    """A convolution that keeps the side, with the script's initialisation; gain 1 where no ReLU follows."""
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
    fan_average(layer, gain)
    return layer


def relu(maps: int, norm: bool) -> list[nn.Module]:
    """ReLU, after batch normalisation if asked."""
    return [nn.BatchNorm2d(maps), nn.ReLU()] if norm else [nn.ReLU()]
