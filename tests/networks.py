"""Networks that several tests play against, and what is true of every network."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Constant(nn.Module):
    """A discriminator that says the same of everything."""

    def __init__(self, logit: float) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.tensor(logit))

    def forward(self, x: Tensor) -> Tensor:
        return self.logit.expand(len(x))


def assert_the_same_function_in_every_layout_and_precision(network: nn.Module, x: Tensor) -> None:
    """Channels-last and bf16 change what it gives by no more than they may, and its gradients stay float32."""
    expected = network(x)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = x.to(memory_format=torch.channels_last)
    torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        y = network(x)
    assert y.dtype == torch.bfloat16
    # Eight bits of mantissa, a dozen layers.
    assert (y.float() - expected).norm() < 0.1 * expected.norm()
    y.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in network.parameters())
