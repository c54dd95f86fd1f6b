"""What papers add to a loss or to a discriminator: gradient penalties, minibatch discrimination."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, target: float = 1.0) -> Tensor:
    r"""$E[(\lVert\nabla_{\hat x} f(\hat x)\rVert_2 - t)^2]$ at $\hat x = \epsilon x + (1 - \epsilon) G(z)$; t is `target`.

    Improved Training of Wasserstein GANs. Gulrajani et al., NeurIPS 2017, arXiv:1704.00028, Algorithm 1, lines 6 and 7.
    `real` and `fake` are [n, ...] of equal shape, with one $\epsilon \sim U[0, 1]$ per sample; gradients reach the critic's parameters
    only. `critic` is a network without batch statistics, as the norm is of each sample's own gradient; its `forward` is taken, so that
    no hook comes between f and x^, and the penalty is compiled where the network is. A function of one's own must do the same: a
    compiled network cannot be differentiated twice. In float32 whatever autocast says. A linear critic of slope w has (|w| - t)^2.
    """
    with torch.autocast(real.device.type, enabled=False):
        real, fake = real.detach().float(), fake.detach().float()
        epsilon = torch.rand(len(real), *[1] * (real.ndim - 1), device=real.device)
        mixed = epsilon * real + (1 - epsilon) * fake  # x^ = eps x + (1 - eps) G(z)
        compiled = getattr(getattr(critic, "_compiled_call_impl", None), "whole", None)
        if compiled is not None:
            penalty: Tensor = compiled(_penalty_in_a_graph, mixed, target)
            return penalty
        scores = _with_fixed_kinks(critic.forward if isinstance(critic, nn.Module) else critic, mixed.requires_grad_())
        # The gradient of the sum is every sample's own gradient, as no sample's score depends on another.
        (slopes,) = torch.autograd.grad(scores.sum(), mixed, create_graph=True)
        return _distance(slopes, target)


def _distance(slopes: Tensor, target: float) -> Tensor:
    # 1e-12: the root's own derivative is infinite at 0, where a dead critic would turn the weights to NaN.
    norms = (slopes.flatten(1).square().sum(1) + 1e-12).sqrt()
    return (norms - target).square().mean()


def _penalty_in_a_graph(forward: Callable[[Tensor], Tensor], mixed: Tensor, target: float) -> Tensor:
    """The same for a compiler, which can follow torch.func and not torch.autograd.grad."""
    slopes = torch.func.grad(lambda x: _with_fixed_kinks(forward, x).sum())(mixed)
    return _distance(slopes, target)


def _with_fixed_kinks(forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`forward(x)`, with the slopes of (leaky) ReLUs as factors that do not depend on x.

    Nor do they, wherever they have a derivative. Torch's own second derivative of a ReLU is a tensor of zeros, with which backward goes
    once more through all layers: a third of the penalty's time. The numbers are the same.
    """
    with _FixedKinks():
        return forward(x)


def _relu(x: Tensor, inplace: bool = False) -> Tensor:
    return F.relu(x, inplace) if inplace else x * (x > 0).to(x.dtype)


def _leaky_relu(x: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    return F.leaky_relu(x, negative_slope, inplace) if inplace else x * torch.where(x > 0, x.new_ones(()), negative_slope)


class _FixedKinks(TorchFunctionMode):
    INSTEAD: ClassVar[dict[Callable[..., Any], Callable[..., Any]]] = {F.relu: _relu, F.leaky_relu: _leaky_relu}

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        called: Callable[..., Any] = self.INSTEAD.get(func, func)
        return called(*args, **(kwargs or {}))


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
