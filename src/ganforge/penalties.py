"""What papers add to a loss or to a discriminator: gradient penalties, minibatch discrimination."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, target: float = 1.0) -> Tensor:
    r"""$E[(\lVert\nabla_{\hat x} f(\hat x)\rVert_2 - t)^2]$ at $\hat x = \epsilon x + (1 - \epsilon) G(z)$; t is `target`.

    Improved Training of Wasserstein GANs. Gulrajani et al., NeurIPS 2017, arXiv:1704.00028, Algorithm 1, lines 6 and 7.
    `real` and `fake` are [n, ...] of equal shape, with one $\epsilon \sim U[0, 1]$ per sample; gradients reach the critic's parameters
    only. `critic` is differentiated twice: give `network.forward` where the network may be compiled, and no batch statistics (the norm
    is of each sample's own gradient). In float32 whatever autocast says. A linear critic of slope w has the penalty (|w| - t)^2.
    """
    with torch.autocast(real.device.type, enabled=False):
        real, fake = real.detach().float(), fake.detach().float()
        epsilon = torch.rand(len(real), *[1] * (real.ndim - 1), device=real.device)
        mixed = (epsilon * real + (1 - epsilon) * fake).requires_grad_()  # x^ = eps x + (1 - eps) G(z)
        # The gradient of the sum is every sample's own gradient, as no sample's score depends on another.
        (slopes,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
        # 1e-12: the root's own derivative is infinite at 0, where a dead critic would turn the weights to NaN.
        norms = (slopes.flatten(1).square().sum(1) + 1e-12).sqrt()
        return (norms - target).square().mean()


class MinibatchDiscrimination(nn.Module):
    r"""Shows a discriminator how close the samples of its batch are: [n, A] to [n, A + B].

    Improved Techniques for Training GANs. Salimans et al., NeurIPS 2016, arXiv:1606.03498. With $M_i = f(x_i) T$, T of A x B x C:
    $o_b(x_i) = \sum_j \exp(-\lVert M_{ib} - M_{jb}\rVert_1)$, appended to $f(x_i)$. n equal samples give n (n - 1 without self),
    samples far apart 1 (0). The features depend on n: train and score with the same batch size, real and fake in separate batches.

    Args:
        inputs: A, the features of a sample.
        kernels: B, the features appended.
        dimension: C, the dimension of the space in which samples are compared.
        with_self: whether the sum has j = i, which adds 1.
    """

    def __init__(self, inputs: int, kernels: int = 100, dimension: int = 5, *, with_self: bool = False) -> None:
        super().__init__()
        self.kernels, self.dimension, self.with_self = kernels, dimension, with_self
        self.tensor = nn.Linear(inputs, kernels * dimension, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """[n, A] to [n, A + B]; [n, n, B, C] in between."""
        m = self.tensor(features).float().unflatten(1, (self.kernels, self.dimension))  # M_i = f(x_i) T
        # Written out, as torch.cdist has no second derivative for the L1 norm.
        closeness = (m[:, None] - m[None]).abs().sum(3).neg().exp()  # exp(-|M_ib - M_jb|_1)
        statistics = closeness.sum(1) if self.with_self else closeness.sum(1) - 1
        return torch.cat([features, statistics], dim=1)
