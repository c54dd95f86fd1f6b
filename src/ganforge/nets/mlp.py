"""Fully connected networks, for points and for flattened pictures."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn


def mlp(*sizes: int, activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    """[n, sizes[0]] to [n, sizes[-1]]: linear layers with the activation between them, none after the last."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), activation()]
    return nn.Sequential(*layers[:-1])


class Maxout(nn.Module):
    """[n, inputs] to [n, units], each unit the largest of its `pieces` linear maps. Goodfellow et al., ICML 2013, arXiv:1302.4389."""

    def __init__(self, inputs: int, units: int, pieces: int) -> None:
        super().__init__()
        self.shape = (units, pieces)
        self.linear = nn.Linear(inputs, units * pieces)

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs] to [n, units]."""
        largest: Tensor = self.linear(x).unflatten(1, self.shape).amax(2)
        return largest


class Affine(nn.Module):
    """`scale` * x + `shift`, fixed: from [-1, 1] to a paper's own range of pixels and back."""

    def __init__(self, scale: float, shift: float) -> None:
        super().__init__()
        self.scale, self.shift = scale, shift

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, kept."""
        return self.scale * x + self.shift
