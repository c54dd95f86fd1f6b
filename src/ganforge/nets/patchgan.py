"""PatchGAN: discriminators that judge every patch of a picture.

Isola et al., CVPR 2017, arXiv:1611.07004, as in phillipi/pix2pix; without the condition that of CycleGAN, arXiv:1703.10593, and of
BicycleGAN, arXiv:1711.11586.
"""

from __future__ import annotations

from torch import Tensor, nn

from ganforge.errors import RequestError
from ganforge.nets.blocks import Norm


def discriminator(
    shape: tuple[int, int, int], width: int = 64, layers: int = 3, *, norm: Norm = nn.BatchNorm2d, bias: bool = False
) -> nn.Sequential:
    """[n, *shape] to [n, 1, h', w'] logits; each sees a patch of 1, 16, 34, 70, 142, 286 pixels a side for 0, 1, ..., 5 `layers`.

    `layers` 4x4 convolutions of stride 2 with `width` maps, doubled to 8 * width at most, one more of stride 1, and one of stride 1 to
    the logits; zero padding of 1, so that 256 pixels give 30x30 logits with three layers. All but the first and the last are normalised,
    and have a bias if `bias`; LeakyReLU 0.2. With `layers` 0 the convolutions are 1x1, to width, 2 * width and 1 maps: the PixelGAN.
    A conditional one judges both pictures as one of `shape[0]` channels in all. It also takes pictures of other sizes than `shape`'s.
    RequestError where the pictures are so small that no patch is left.
    """
    channels, *sides = shape
    if layers and min(sides) < 3 * 2**layers:
        size, least = "x".join(map(str, reversed(sides))), 3 * 2**layers
        raise RequestError(f"pictures of {size}: a PatchGAN of {layers} layers needs {least} pixels a side; take fewer, or a larger --size")
    kernel, stride, padding = (4, 2, 1) if layers else (1, 1, 0)
    network: list[nn.Module] = [nn.Conv2d(channels, width, kernel, stride, padding), nn.LeakyReLU(0.2)]
    maps = width
    for level in range(1, max(layers, 1) + 1):
        wider = width * min(2**level, 8)
        network += [nn.Conv2d(maps, wider, kernel, 2 if level < layers else 1, padding, bias=bias), norm(wider), nn.LeakyReLU(0.2)]
        maps = wider
    return nn.Sequential(*network, nn.Conv2d(maps, 1, kernel, 1, padding))


class Pyramid(nn.Module):
    """Discriminators of one picture at several scales: the first sees it whole, each further one at half the size of the one before.

    BicycleGAN, arXiv:1711.11586, UNIT, arXiv:1703.00848, and MUNIT, arXiv:1804.04732: halved by the mean of 3x3 pixels, at the edge of
    those that there are; odd sides are rounded up.
    """

    def __init__(self, *networks: nn.Module) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.halve = nn.AvgPool2d(3, 2, 1, count_include_pad=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """[n, c, h, w] to what each of them says."""
        said = [self.networks[0](x)]
        for network in self.networks[1:]:
            x = self.halve(x)
            said.append(network(x))
        return said
