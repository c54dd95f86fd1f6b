"""What several networks are made of: residual blocks, edges continued by their mirror image, pictures of any size, vectors over maps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Norm = Callable[[int], nn.Module]
"""From a number of maps to what normalises them: nn.BatchNorm2d, nn.InstanceNorm2d, `partial(nn.InstanceNorm2d, affine=True)`, or
nn.Identity for nothing. Only batch normalisation ties the pictures of a batch together."""


class Residual(nn.Module):
    """x + layers(x), of the shape of x. He et al., CVPR 2016, arXiv:1512.03385."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape that the layers keep."""
        both: Tensor = x + self.layers(x)
        return both


def residual(
    maps: int, norm: Norm, activation: Callable[[], nn.Module] = nn.ReLU, *, reflect: bool = False, bias: bool = False
) -> Residual:
    """[n, maps, h, w], kept: x + norm(conv(activation(norm(conv(x))))), 3x3, and nothing after the sum.

    That of Johnson et al., arXiv:1603.08155, CycleGAN, UNIT, MUNIT (`reflect`), StarGAN, SRGAN and PixelDA; StackGAN puts a ReLU behind.
    """
    first, second = (conv(maps, maps, 3, reflect=reflect, bias=bias) for _ in range(2))
    return Residual(*first, norm(maps), activation(), *second, norm(maps))


def conv(inputs: int, outputs: int, kernel: int, *, reflect: bool = False, bias: bool = True) -> list[nn.Module]:
    """A convolution of odd `kernel` that keeps height and width; beyond the edge it sees zeros, or with `reflect` the mirror image."""
    if reflect:
        return [Mirror(kernel // 2), nn.Conv2d(inputs, outputs, kernel, bias=bias)]
    return [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias)]


class Mirror(nn.Module):
    """[n, c, h, w] to [n, c, h + 2 * width, w + 2 * width]: continued on every side by its mirror image."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] to [n, c, h + 2 * width, w + 2 * width]."""
        return mirrored(x, (self.width, self.width), (self.width, self.width))


class AnySize(nn.Module):
    """Pictures of any height and width for a network that keeps the size of those whose sides are multiples of `multiple`.

    Others are continued by their mirror image to the next multiple, to `least` at least, and cropped back. What else is given to the
    network is passed on as it is.
    """

    def __init__(self, network: nn.Module, multiple: int, least: int = 1) -> None:
        super().__init__()
        self.network, self.multiple, self.least = network, multiple, least

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        """[n, c, h, w] and the rest to [n, c', h, w]."""
        height, width = x.shape[2:]
        rows, columns = self._margins(height), self._margins(width)
        y: Tensor = self.network(mirrored(x, rows, columns), *others)
        return y[:, :, rows[0] : rows[0] + height, columns[0] : columns[0] + width]

    def _margins(self, side: int) -> tuple[int, int]:
        missing = max(-(-side // self.multiple) * self.multiple, self.least) - side
        return missing // 2, missing - missing // 2


def mirrored(x: Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    """[n, c, h, w] with `rows` more above and below and `columns` more left and right: its mirror image, again and again if need be."""
    height, width = x.shape[2:]
    if not any(rows + columns):
        return x
    # Torch's own padding is faster, but ends at the far edge, and on a GPU it has no deterministic gradient.
    if max(rows) < height and max(columns) < width and not (x.is_cuda and torch.are_deterministic_algorithms_enabled()):
        return F.pad(x, (*columns, *rows), mode="reflect")
    return x.index_select(2, _back_and_forth(height, rows, x.device)).index_select(3, _back_and_forth(width, columns, x.device))


def _back_and_forth(side: int, margins: tuple[int, int], device: torch.device) -> Tensor:
    """0, 1, ..., side - 1, side - 2, ..., 1, 0, 1, ...: from -margins[0] on, to margins[1] beyond the end."""
    period = max(2 * (side - 1), 1)
    place = torch.arange(-margins[0], side + margins[1], device=device) % period
    return torch.minimum(place, period - place)


def joined(x: Tensor, vector: Tensor) -> Tensor:
    """[n, c, h, w] and [n, k] to [n, c + k, h, w]: the vector at every place, as BicycleGAN, StarGAN and StackGAN do."""
    return torch.cat([x, vector[:, :, None, None].expand(-1, -1, *x.shape[2:])], 1)
