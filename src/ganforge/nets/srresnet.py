"""SRResNet, the generator of SRGAN, and SRGAN's discriminator, which ESRGAN keeps.

Ledig et al., CVPR 2017, arXiv:1609.04802; Wang et al., ECCV Workshops 2018, arXiv:1809.00219, XPixelGroup/BasicSR.
"""

from __future__ import annotations

from torch import nn

from ganforge.errors import RequestError
from ganforge.nets.blocks import Residual, conv, residual


def generator(channels: int, factor: int, width: int = 64, blocks: int = 16) -> nn.Sequential:
    """[n, channels, h, w] to [n, channels, factor * h, factor * w], any height and width; no activation at the end.

    9x9 convolution and PReLU; `blocks` residual blocks with PReLU, a convolution and a normalisation, around which all goes once more;
    for each prime of `factor` a convolution, a pixel shuffle and PReLU (twice by 2 for 4, once by 3 for 3); 9x9 convolution. Convolutions
    are 3x3 where nothing else is said, and have a bias where no batch normalisation follows. A PReLU has one slope for all its
    maps, on which the paper says nothing. RequestError for a factor below 2.
    """
    if factor < 2:
        raise RequestError(f"factor {factor}: super-resolution makes pictures 2, 3, 4 or more times larger; give the data a --factor")
    trunk = [residual(width, nn.BatchNorm2d, nn.PReLU) for _ in range(blocks)]
    layers = [*conv(channels, width, 9), nn.PReLU(), Residual(*trunk, *conv(width, width, 3, bias=False), nn.BatchNorm2d(width))]
    for prime in _primes(factor):
        layers += [*conv(width, width * prime**2, 3), nn.PixelShuffle(prime), nn.PReLU()]
    return nn.Sequential(*layers, *conv(width, channels, 9))


def discriminator(shape: tuple[int, int, int], width: int = 64, stages: int = 4, units: int = 1024, *, kernel: int = 3) -> nn.Sequential:
    """[n, *shape] to [n] logits, for pictures of this one size: the paper's dense layers know every place.

    `stages` times a 3x3 convolution and one of stride 2, with `width` maps, doubled to 8 * width at most; then `units` dense ones and the
    logit. All convolutions but the first are batch-normalised, and have no bias; LeakyReLU 0.2. SRGAN: the defaults, for crops of 96.
    ESRGAN: 5 stages, 100 units and `kernel` 4 for the convolutions of stride 2, for crops of 128. RequestError for smaller pictures than
    can be halved so often.
    """
    channels, height, breadth = shape
    if min(height, breadth) < 2**stages:
        raise RequestError(f"pictures of {breadth}x{height}: this discriminator needs {2**stages} pixels a side; take a larger --size")
    layers: list[nn.Module] = []
    maps = channels
    for stage in range(stages):
        wider = width * min(2**stage, 8)
        layers += [*conv(maps, wider, 3, bias=stage == 0), *([nn.BatchNorm2d(wider)] if stage else []), nn.LeakyReLU(0.2)]
        layers += [nn.Conv2d(wider, wider, kernel, 2, 1, bias=False), nn.BatchNorm2d(wider), nn.LeakyReLU(0.2)]
        maps, height, breadth = wider, (height + 2 - kernel) // 2 + 1, (breadth + 2 - kernel) // 2 + 1
    dense = [nn.Linear(maps * height * breadth, units), nn.LeakyReLU(0.2), nn.Linear(units, 1)]
    return nn.Sequential(*layers, nn.Flatten(), *dense, nn.Flatten(0))


def _primes(number: int) -> list[int]:
    """The prime factors, smallest first: 12 is [2, 2, 3]."""
    least = next((p for p in range(2, number) if number % p == 0), number)
    return [least, *_primes(number // least)] if number > 1 else []
