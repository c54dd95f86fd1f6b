"""The residual generator of CycleGAN and StarGAN, after the style transfer of Johnson et al., ECCV 2016, arXiv:1603.08155.

CycleGAN: Zhu et al., ICCV 2017, arXiv:1703.10593, junyanz/pytorch-CycleGAN-and-pix2pix.
StarGAN: Choi et al., CVPR 2018, arXiv:1711.09020, yunjey/stargan.
"""

from __future__ import annotations

from typing import Literal

from torch import nn

from ganforge.nets.blocks import AnySize, Norm, conv, residual


def generator(
    inputs: int,
    outputs: int,
    width: int = 64,
    blocks: int = 9,
    *,
    downs: int = 2,
    kernel: Literal[3, 4] = 3,
    reflect: bool = True,
    norm: Norm = nn.InstanceNorm2d,
    bias: bool = True,
) -> nn.Module:
    """[n, inputs, h, w] to [n, outputs, h, w] in [-1, 1], any height and width.

    7x7 convolution to `width` maps; `downs` convolutions of stride 2, each to twice as many; `blocks` residual blocks of 3x3; as many
    transposed convolutions back; 7x7 convolution, tanh. Each but the last is followed by norm and ReLU; all have a bias if `bias`.

    CycleGAN: the defaults, and 6 blocks for 128 pixels. StarGAN: 6 blocks, `kernel=4` (the convolutions that resize), `reflect=False`,
    `norm=partial(nn.InstanceNorm2d, affine=True)`, `bias=False`; its inputs are the picture and a constant map per label, which with
    `reflect` the first normalisation would take away. Sides that are no multiples of 2^downs are mirrored up to one and cropped back.
    """
    layers = [*conv(inputs, width, 7, reflect=reflect, bias=bias), norm(width), nn.ReLU()]
    maps = width
    for _ in range(downs):
        layers += [nn.Conv2d(maps, 2 * maps, kernel, 2, 1, bias=bias), norm(2 * maps), nn.ReLU()]
        maps *= 2
    layers += [residual(maps, norm, reflect=reflect, bias=bias) for _ in range(blocks)]
    for _ in range(downs):
        double = nn.ConvTranspose2d(maps, maps // 2, kernel, 2, 1, output_padding=4 - kernel, bias=bias)
        layers += [double, norm(maps // 2), nn.ReLU()]
        maps //= 2
    layers += [*conv(maps, outputs, 7, reflect=reflect, bias=bias), nn.Tanh()]
    # A map of one pixel has no variance to normalise by.
    return AnySize(nn.Sequential(*layers), 2**downs, least=2 * 2**downs)
