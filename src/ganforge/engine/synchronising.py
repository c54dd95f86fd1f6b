"""Batch normalisation over the batches of all ranks."""

from __future__ import annotations

from functools import partial

import torch
import torch.distributed.nn.functional as together
from torch import Tensor, nn


def synchronise(game: nn.Module) -> int:
    """Lets every batch normalisation of the game see the batches of all ranks; returns how many there are.

    In place and whatever the device (torch's own SyncBatchNorm needs a GPU and other modules). Averages of x and x^2 over ranks of equal
    batches are those of the whole batch; their gradients are averaged on the way back.
    """
    layers = [module for module in game.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for layer in layers:
        layer.forward = partial(_forward, layer)  # type: ignore[method-assign]
    return len(layers)


def _forward(layer: nn.modules.batchnorm._BatchNorm, x: Tensor) -> Tensor:
    if not layer.training:
        return type(layer).forward(layer, x)
    world = torch.distributed.get_world_size()
    with torch.autocast(x.device.type, enabled=False):
        values = x.float()
        others = [0, *range(2, x.ndim)]
        moments = torch.stack([values.mean(others), values.square().mean(others)])
        mean, square = (together.all_reduce(moments) / world).unbind()
        variance = square - mean.square()
        _remember(layer, mean, variance, x.numel() // x.shape[1] * world)
        shape = [1, -1] + [1] * (x.ndim - 2)
        scale = torch.rsqrt(variance + layer.eps) * (1 if layer.weight is None else layer.weight)
        shift = (0 if layer.bias is None else layer.bias) - mean * scale
        return torch.addcmul(shift.view(shape), values, scale.view(shape)).to(x.dtype)


@torch.no_grad()
def _remember(layer: nn.modules.batchnorm._BatchNorm, mean: Tensor, variance: Tensor, count: int) -> None:
    if layer.running_mean is None or layer.running_var is None or layer.num_batches_tracked is None:
        return
    layer.num_batches_tracked += 1
    # None is the cumulative average, as in torch.
    momentum = layer.momentum if layer.momentum is not None else 1 / layer.num_batches_tracked
    layer.running_mean.lerp_(mean.to(layer.running_mean), momentum)
    layer.running_var.lerp_((variance * (count / max(1, count - 1))).to(layer.running_var), momentum)
