"""Generators and discriminators of strided convolutions: DCGAN's, and the plain ones of WGAN-GP, which have its shape.

Radford, Metz, Chintala, ICLR 2016, arXiv:1511.06434. `kernel` 5 is the paper's network (Newmu/dcgan_code): a linear projection, then
5x5 convolutions; 4 is that of soumith/dcgan.torch: 4x4 convolutions from end to end. At every level the side doubles and the number
of feature maps halves, down to `width` maps.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from ganforge.nets.sizes import halvings

Kernel = Literal[4, 5]


def generator(
    latent_dim: int, shape: tuple[int, int, int], width: int, *, kernel: Kernel = 5, norm: bool = True, bias: bool = False
) -> nn.Module:
    """[n, latent_dim] to [n, *shape] in [-1, 1]: `norm` batch-normalises all but the output; sides other than 2^p need kernel 5."""
    channels, size, _ = shape
    *sides, base = halvings(size)
    maps = width * 2 ** (len(sides) - 1)
    layers: list[nn.Module] = []
    if kernel == 5:
        # Normalised before it is a map: each of the maps * base^2 units has its own statistics, gain and shift.
        units = maps * base**2
        layers += [
            nn.Linear(latent_dim, units, bias),
            *([nn.BatchNorm1d(units)] if norm else []),
            nn.ReLU(),
            nn.Unflatten(1, (maps, base, base)),
        ]
    else:
        layers += [
            nn.Unflatten(1, (latent_dim, 1, 1)),
            nn.ConvTranspose2d(latent_dim, maps, base, bias=bias),
            *_norm(maps, norm),
            nn.ReLU(),
        ]
    reached = base
    for side in reversed(sides[1:]):
        layers += [*_double(maps, maps // 2, kernel, bias, reached, side), *_norm(maps // 2, norm), nn.ReLU()]
        maps, reached = maps // 2, side
    return nn.Sequential(*layers, *_double(maps, channels, kernel, bias, reached, size), nn.Tanh())


def discriminator(shape: tuple[int, int, int], width: int, *, kernel: Kernel = 5, norm: bool = True, bias: bool = False) -> nn.Module:
    """[n, *shape] to [n] logits: `norm` batch-normalises all but the first and the last layer; LeakyReLU of slope 0.2."""
    channels, size, _ = shape
    *sides, base = halvings(size)
    layers: list[nn.Module] = []
    for level in range(len(sides)):
        maps = width * 2**level
        layers += [nn.Conv2d(channels, maps, kernel, stride=2, padding=(kernel - 1) // 2, bias=bias)]
        layers += [*_norm(maps, norm and level > 0), nn.LeakyReLU(0.2)]
        channels = maps
    if kernel == 5:
        layers += [nn.Flatten(), nn.Linear(channels * base**2, 1, bias)]
    else:
        layers += [nn.Conv2d(channels, 1, base, bias=bias)]
    return nn.Sequential(*layers, nn.Flatten(0))


class Crop(nn.Module):
    """[n, c, h, w] to [n, c, side, side], the top left: how gan_mnist.py of igul222/improved_wgan_training gets from 8 to 7."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] to [n, c, side, side]."""
        return x[:, :, : self.side, : self.side]


def _double(inputs: int, outputs: int, kernel: Kernel, bias: bool, reached: int, side: int) -> list[nn.Module]:
    """A transposed convolution that doubles the side exactly, cropped where the side wanted is odd."""
    double = nn.ConvTranspose2d(inputs, outputs, kernel, stride=2, padding=(kernel - 1) // 2, output_padding=kernel - 4, bias=bias)
    return [double] if 2 * reached == side else [double, Crop(side)]


def _norm(maps: int, norm: bool) -> list[nn.Module]:
    return [nn.BatchNorm2d(maps)] if norm else []
