import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from ganforge.penalties import MinibatchDiscrimination, gradient_penalty


@pytest.mark.parametrize("slope", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("target", [0.0, 1.0])
def test_penalty_of_a_linear_critic_is_the_squared_distance_of_its_slope_from_the_target(slope: float, target: float) -> None:
    direction = F.normalize(torch.randn(3 * 8 * 8), dim=0)
    real, fake = torch.randn(2, 4, 3, 8, 8)
    penalty = gradient_penalty(lambda x: slope * (x.flatten(1) @ direction), real, fake, target)
    torch.testing.assert_close(penalty, torch.tensor((slope - target) ** 2))


def test_the_penaltys_gradient_pulls_a_linear_critic_towards_slope_one() -> None:
    w = torch.tensor([3.0, 4.0], requires_grad=True)
    gradient_penalty(lambda x: x @ w, *torch.randn(2, 16, 2)).backward()
    # d/dw (|w| - 1)^2 = 2 (|w| - 1) w / |w| with |w| = 5
    assert w.grad is not None
    torch.testing.assert_close(w.grad, 8 * torch.tensor([0.6, 0.8]))


def critic(x: Tensor) -> Tensor:
    """Scores whose gradient differs from place to place and depends on all pixels."""
    flat = x.flatten(1)
    return (flat**3).sum(1) / 3 + flat.prod(1)


def test_the_penalty_equals_a_loop_over_samples() -> None:
    real, fake = torch.randn(2, 5, 1, 2, 2)
    torch.manual_seed(7)
    penalty = gradient_penalty(critic, real, fake)
    torch.manual_seed(7)
    terms = []
    for x, g, eps in zip(real, fake, torch.rand(5), strict=True):
        mixed = (eps * x + (1 - eps) * g).requires_grad_()
        (slope,) = torch.autograd.grad(critic(mixed[None]).sum(), mixed)
        terms.append((slope.norm() - 1) ** 2)
    torch.testing.assert_close(penalty, torch.stack(terms).mean())


def test_a_constant_added_to_the_critic_costs_nothing() -> None:
    real, fake = torch.randn(2, 5, 4)
    torch.manual_seed(7)
    penalty = gradient_penalty(critic, real, fake)
    torch.manual_seed(7)
    assert torch.equal(penalty, gradient_penalty(lambda x: critic(x) + 100, real, fake))


def test_each_sample_is_mixed_in_one_proportion_from_zero_to_one() -> None:
    met: list[Tensor] = []
    gradient_penalty(lambda x: met.append(x) or x.sum(1), torch.ones(500, 6), torch.zeros(500, 6))  # type: ignore[func-returns-value]
    proportions = met[0][:, 0].detach()
    assert torch.equal(met[0].detach(), proportions[:, None].expand(500, 6))
    assert proportions.min() >= 0
    assert proportions.max() <= 1
    # The mean of 500 draws of U[0, 1] has the standard deviation 0.013.
    assert proportions.mean().item() == pytest.approx(0.5, abs=0.07)


def test_the_penalty_reaches_the_critic_but_not_the_samples() -> None:
    network, generator = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)), nn.Linear(3, 3)
    gradient_penalty(network, torch.randn(4, 3), generator(torch.randn(4, 3))).backward()
    assert all(p.grad is None for p in generator.parameters())
    hidden = network[0].weight.grad
    assert isinstance(hidden, Tensor)
    assert hidden.abs().sum() > 0


def written_out(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """The penalty with nothing but autograd."""
    epsilon = torch.rand(len(real), *[1] * (real.ndim - 1))
    mixed = (epsilon * real + (1 - epsilon) * fake).requires_grad_()
    (slopes,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
    return ((slopes.flatten(1).square().sum(1) + 1e-12).sqrt() - 1).square().mean()


class Wet(nn.Module):
    """What its ReLU does in place is seen by the short cut too."""

    def __init__(self, relu: nn.Module) -> None:
        super().__init__()
        self.linear, self.relu = nn.Linear(12, 12), relu

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x)
        sharp: Tensor = self.relu(y)
        return sharp + y.tanh()


def gradients(network: nn.Module) -> list[Tensor]:
    """Of all parameters; zeros where the loss does not depend on one."""
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in network.parameters()]


BEHIND: dict[str, Callable[[], list[nn.Module]]] = {
    "relu": lambda: [nn.ReLU(), nn.Conv2d(3, 3, 1), nn.ReLU()],
    "leaky": lambda: [nn.LeakyReLU(0.2), nn.Conv2d(3, 3, 1), nn.LeakyReLU(0.1)],
    "smooth": lambda: [nn.Tanh(), nn.Conv2d(3, 3, 1), nn.Softplus(), nn.Conv2d(3, 3, 1), nn.LeakyReLU(0.2)],
    "in place": lambda: [nn.Flatten(), Wet(nn.ReLU(True)), Wet(nn.LeakyReLU(0.2, inplace=True))],
}


@pytest.mark.parametrize("kind", BEHIND)
def test_the_penalty_and_its_gradients_are_bit_for_bit_those_of_plain_autograd(kind: str) -> None:
    first = nn.Conv2d(1, 3, 3, bias=False)
    # One feature lies at the kink for every sample.
    nn.init.zeros_(first.weight[0])
    network = nn.Sequential(first, *BEHIND[kind](), nn.Flatten(), nn.Linear(12, 1))
    results = []
    for penalty in (written_out, gradient_penalty):
        torch.manual_seed(7)
        network.zero_grad()
        value = penalty(network, *torch.randn(2, 6, 1, 4, 4))
        value.backward()
        results.append([value, *gradients(network)])
    assert any(gradient.any() for gradient in results[0][1:])
    for expected, ours in zip(*results, strict=True):
        assert torch.equal(expected, ours)


class Counting(TorchDispatchMode):
    """Counts the convolutions, forward and backward."""

    convolutions = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.convolutions += "convolution" in func._schema.name
        return func(*args, **(kwargs or {}))


def test_backward_does_not_carry_the_zeros_of_a_relus_second_derivative_through_the_layers() -> None:
    layers = 5
    blocks = [block for _ in range(layers) for block in (nn.Conv2d(2, 2, 3, padding=1), nn.LeakyReLU(0.2))]
    network = nn.Sequential(*blocks, nn.Flatten(), nn.Linear(32, 1))
    counts = []
    for penalty in (written_out, gradient_penalty):
        value = penalty(network, *torch.randn(2, 3, 2, 4, 4))
        with Counting() as counting:  # type: ignore[no-untyped-call]
            value.backward()
        counts.append(counting.convolutions)
    # Each layer's slopes are differentiated by their weights and by what came to them; the zeros would meet each layer once more.
    assert counts[0] - counts[1] == layers


def test_hooks_do_not_come_between_the_critic_and_the_mixed_samples() -> None:
    network = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
    real, fake = torch.randn(2, 4, 3)
    torch.manual_seed(7)
    plain = gradient_penalty(network, real, fake)
    network.register_forward_pre_hook(lambda _module, inputs: 3 * inputs[0])
    torch.manual_seed(7)
    assert torch.equal(plain, gradient_penalty(network, real, fake))


def test_of_a_compiled_critic_the_whole_penalty_is_handed_to_the_compiler() -> None:
    network = nn.Sequential(nn.Linear(3, 8), nn.LeakyReLU(0.2), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))
    real, fake = torch.randn(2, 4, 3)

    class Compiled:
        """What the engine puts there, without a compiler."""

        asked = 0

        def whole(self, function: Callable[..., Tensor], *args: Any) -> Tensor:
            self.asked += 1
            return function(network.forward, *args)

    compiled, results = Compiled(), []
    for slot in (None, compiled):
        network._compiled_call_impl = slot  # type: ignore[assignment]
        torch.manual_seed(7)
        network.zero_grad()
        value = gradient_penalty(network, real, fake, target=0.5)
        value.backward()
        results.append([value, *gradients(network)])
    assert compiled.asked == 1
    for expected, ours in zip(*results, strict=True):
        torch.testing.assert_close(expected, ours)


def test_a_dead_critic_gets_finite_gradients() -> None:
    w = torch.zeros(3, requires_grad=True)
    gradient_penalty(lambda x: x @ w, *torch.randn(2, 4, 3)).backward()
    assert w.grad is not None
    assert w.grad.isfinite().all()


def test_the_penalty_is_in_float32_under_autocast() -> None:
    network = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))
    real, fake = torch.randn(2, 8, 6)
    torch.manual_seed(7)
    plain = gradient_penalty(network, real, fake.bfloat16())
    torch.manual_seed(7)
    with torch.autocast("cpu", torch.bfloat16):
        cast = gradient_penalty(network, real, fake.bfloat16())
    assert cast.dtype == torch.float32
    assert torch.equal(plain, cast)


def test_the_best_slope_between_two_points_is_the_papers_tradeoff() -> None:
    # f(x) = s x, all real at d, all fake at 0: -s d + L (s - 1)^2 is least at s = 1 + d / 2L, where it is -(d + d^2 / 4L).
    d, weight = 1.0, 10.0
    slope = torch.tensor(0.3, requires_grad=True)
    real, fake = torch.full((8, 1), d), torch.zeros(8, 1)
    optimiser = torch.optim.SGD([slope], lr=1 / (2 * weight))  # Newton's step: the curvature is 2L
    for _ in range(2):
        loss = -slope * d + weight * gradient_penalty(lambda x: slope * x[:, 0], real, fake)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert slope.item() == pytest.approx(1.05, abs=1e-5)
    assert loss.item() == pytest.approx(-1.025, abs=1e-5)


def identity_layer(dimension: int, with_self: bool) -> MinibatchDiscrimination:
    """One kernel with T = 1, so that M_i = f(x_i)."""
    layer = MinibatchDiscrimination(dimension, 1, dimension, with_self=with_self)
    nn.init.eye_(layer.tensor.weight)
    return layer


def test_minibatch_features_of_the_worked_example() -> None:
    features = torch.tensor([[0.0], [math.log(2)], [math.log(4)]])  # closenesses 1/2, 1/2 and 1/4
    torch.testing.assert_close(identity_layer(1, with_self=False)(features)[:, 1], torch.tensor([0.75, 1.0, 0.75]))
    torch.testing.assert_close(identity_layer(1, with_self=True)(features)[:, 1], torch.tensor([1.75, 2.0, 1.75]))


@pytest.mark.parametrize(("with_self", "equal", "apart"), [(True, 6.0, 1.0), (False, 5.0, 0.0)])
def test_equal_samples_are_counted_and_far_ones_are_not(with_self: bool, equal: float, apart: float) -> None:
    layer = MinibatchDiscrimination(4, kernels=5, dimension=3, with_self=with_self)
    same = torch.randn(1, 4).expand(6, 4)
    torch.testing.assert_close(layer(same), torch.cat([same, torch.full((6, 5), equal)], 1))
    far = 1e6 * torch.randn(6, 4)
    torch.testing.assert_close(layer(far), torch.cat([far, torch.full((6, 5), apart)], 1))


def test_minibatch_features_equal_a_loop_over_pairs() -> None:
    layer = MinibatchDiscrimination(4, kernels=3, dimension=2)
    x = torch.randn(5, 4)
    m = (x @ layer.tensor.weight.T).view(5, 3, 2).detach()
    expected = [[sum(math.exp(-(m[i, b] - m[j, b]).abs().sum()) for j in range(5) if j != i) for b in range(3)] for i in range(5)]
    torch.testing.assert_close(layer(x)[:, 4:], torch.tensor(expected))


def test_minibatch_features_follow_a_permutation_and_ignore_a_shift() -> None:
    layer = MinibatchDiscrimination(4, kernels=3, dimension=2)
    x, order = torch.randn(5, 4), torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(layer(x[order]), layer(x)[order])
    torch.testing.assert_close(layer(x + torch.randn(4))[:, 4:], layer(x)[:, 4:])


def test_minibatch_features_pass_gradients_to_the_other_samples_twice() -> None:
    layer = MinibatchDiscrimination(4, kernels=3, dimension=2)
    x = torch.randn(5, 4, requires_grad=True)
    (slopes,) = torch.autograd.grad(layer(x)[0, 4:].sum(), x, create_graph=True)
    assert (slopes[1:].abs().sum(1) > 0).all()
    slopes.square().sum().backward()
    weight = layer.tensor.weight.grad
    assert weight is not None
    assert weight.abs().sum() > 0
