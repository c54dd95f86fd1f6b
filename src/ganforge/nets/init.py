"""Initialisations that the papers' codes use and torch does not have. All act in place, on every layer of a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from torch import Tensor, nn

Weighted = nn.Linear | nn.Conv2d | nn.ConvTranspose2d


def weighted(network: nn.Module) -> Iterator[Weighted]:
    """Its linear and convolutional layers, from the input to the output."""
    return (layer for layer in network.modules() if isinstance(layer, Weighted))


def weights(network: nn.Module, fill: Callable[[Tensor], Tensor]) -> None:
    """Fills all weights, zeroes all biases: `weights(network, partial(nn.init.normal_, std=0.02))`. Normalisation stays as it is."""
    for layer in weighted(network):
        fill(layer.weight)
        _no_bias(layer)


def dcgan(network: nn.Module) -> None:
    """Weights N(0, 0.02^2), gains of batch normalisation N(1, 0.02^2), biases 0. Radford et al., arXiv:1511.06434, and its code."""
    weights(network, lambda weight: nn.init.normal_(weight, std=0.02))
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(layer.weight, mean=1, std=0.02)


def convolutional(network: nn.Module) -> None:
    """Convolutions with gain sqrt(2), linear layers with 1: the plain networks of igul222/improved_wgan_training."""
    for layer in weighted(network):
        fan_average(layer, gain=1 if isinstance(layer, nn.Linear) else math.sqrt(2))


def fan_average(layer: Weighted, gain: float = 1.0) -> None:
    """Weights uniform with the standard deviation gain * sqrt(2 / (fan in + fan out)), bias 0.

    Glorot and Bengio, AISTATS 2010, with the fans of igul222/improved_wgan_training: of the k^2 taps of a convolution with stride s, a
    pixel of the finer side meets only k^2 / s^2.
    """
    if isinstance(layer, nn.Linear):
        fans = float(layer.in_features + layer.out_features)
    else:
        coarse, fine = layer.out_channels, layer.in_channels
        if isinstance(layer, nn.ConvTranspose2d):
            coarse, fine = fine, coarse
        fans = math.prod(layer.kernel_size) * (fine + coarse / math.prod(layer.stride))
    bound = math.sqrt(3) * gain * math.sqrt(2 / fans)
    nn.init.uniform_(layer.weight, -bound, bound)
    _no_bias(layer)


def _no_bias(layer: Weighted) -> None:
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
