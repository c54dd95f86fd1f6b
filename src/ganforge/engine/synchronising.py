"""Batch normalisation over the batches of all ranks."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ganforge.engine.compiling import forward_replaced


def synchronise(game: nn.Module) -> int:
    """Lets every batch normalisation of the game see the batches of all ranks; returns how many there are.

    In place and whatever the device (torch's own SyncBatchNorm needs a GPU and other modules). Means over ranks of equal batches are
    those of the whole batch; their gradients are averaged on the way back.
    """
    layers = _layers(game)
    for layer in layers:
        layer.forward = partial(_forward, layer)  # type: ignore[method-assign]
    return len(layers)


def apart(game: nn.Module) -> AbstractContextManager[None]:
    """Within the block every rank is for itself: what only one of them draws must not wait for the others."""
    return forward_replaced({layer: partial(type(layer).forward, layer) for layer in _layers(game)})


def _layers(game: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    return [module for module in game.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def _forward(layer: nn.modules.batchnorm._BatchNorm, x: Tensor) -> Tensor:
    if not layer.training:
        return type(layer).forward(layer, x)
    world = dist.get_world_size()
    with torch.autocast(x.device.type, enabled=False):
        values = x.float()
        others, shape = [0, *range(2, x.ndim)], [1, -1] + [1] * (x.ndim - 2)
        mean = _sum(values.mean(others)) / world
        centred = values - mean.view(shape)
        # Not E[x^2] - E[x]^2 in one message: far from zero nothing would be left of it.
        variance = _sum(centred.square().mean(others)) / world
        _remember(layer, mean, variance, x.numel() // x.shape[1] * world)
        scale = torch.rsqrt(variance + layer.eps) * (1 if layer.weight is None else layer.weight)
        scaled = centred * scale.view(shape)
        return (scaled if layer.bias is None else scaled + layer.bias.view(shape)).to(x.dtype)


class _Sum(torch.autograd.Function):
    """The sum over ranks of a tensor; its gradient is the sum over ranks of theirs."""

    @staticmethod
    def forward(_context: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:
        return _sum(gradient)


def _sum(values: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return total


@torch.no_grad()
def _remember(layer: nn.modules.batchnorm._BatchNorm, mean: Tensor, variance: Tensor, count: int) -> None:
    if layer.running_mean is None or layer.running_var is None or layer.num_batches_tracked is None:
        return
    layer.num_batches_tracked += 1
    # None is the cumulative average, as in torch.
    momentum = layer.momentum if layer.momentum is not None else 1 / layer.num_batches_tracked
    layer.running_mean.lerp_(mean.to(layer.running_mean), momentum)
    layer.running_var.lerp_((variance * (count / max(1, count - 1))).to(layer.running_var), momentum)
