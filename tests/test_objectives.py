import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from ganforge.objectives import kl_to_normal, leastsquares, nonsaturating, saturating, wasserstein

Loss = type[nonsaturating]


def normal_quantiles(mean: float, n: int = 4001) -> Tensor:
    """An even sample of N(mean, 1), without the noise of a random one."""
    quantiles: Tensor = torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n)
    return quantiles.float() + mean


def test_a_discriminator_that_cannot_tell_pays_2_ln_2() -> None:
    zero = torch.zeros(5)
    assert nonsaturating.discriminator(zero, zero).item() == pytest.approx(2 * math.log(2))
    assert nonsaturating.generator(zero).item() == pytest.approx(math.log(2))
    assert saturating.generator(zero).item() == pytest.approx(-math.log(2))


def test_losses_are_the_papers_formulas_of_probabilities() -> None:
    real, fake = torch.randn(2, 7).tolist()
    on_real, on_fake = ([1 / (1 + math.exp(-a)) for a in logits] for logits in (real, fake))
    value = sum(math.log(d) for d in on_real) / 7 + sum(math.log(1 - d) for d in on_fake) / 7
    a, b = torch.tensor(real), torch.tensor(fake)
    assert nonsaturating.discriminator(a, b).item() == pytest.approx(-value, rel=1e-5)
    assert saturating.discriminator(a, b).item() == pytest.approx(-value, rel=1e-5)
    assert nonsaturating.generator(b).item() == pytest.approx(-sum(math.log(d) for d in on_fake) / 7, rel=1e-5)
    assert saturating.generator(b).item() == pytest.approx(sum(math.log(1 - d) for d in on_fake) / 7, rel=1e-5)


@pytest.mark.parametrize("logit", [-6.0, 0.0, 2.5])
def test_the_generators_gradients_are_those_of_a_winning_or_losing_discriminator(logit: float) -> None:
    sigmoid = 1 / (1 + math.exp(-logit))
    for loss, slope in ((nonsaturating, sigmoid - 1), (saturating, -sigmoid)):
        a = torch.tensor([logit], requires_grad=True)
        loss.generator(a).backward()
        assert a.grad is not None
        assert a.grad.item() == pytest.approx(slope, rel=1e-5)


def test_the_best_discriminator_of_two_gaussians_is_a_line_and_its_loss_tells_their_divergence() -> None:
    # p = N(0, 1), q = N(2, 1): log p/q = 2 - 2x, and the loss is ln 4 - 2 JSD(p, q).
    p, q = normal_quantiles(0.0), normal_quantiles(2.0)

    def loss(line: Tensor) -> Tensor:
        return nonsaturating.discriminator(line[0] + line[1] * p, line[0] + line[1] * q)

    line = torch.zeros(2, requires_grad=True)
    for _ in range(8):  # Newton's steps
        (slope,) = torch.autograd.grad(loss(line), line, create_graph=True)
        curvature = torch.stack([torch.autograd.grad(s, line, retain_graph=True)[0] for s in slope])
        line = (line - torch.linalg.solve(curvature, slope)).detach().requires_grad_()
    torch.testing.assert_close(line.detach(), torch.tensor([2.0, -2.0]), atol=0.01, rtol=0)
    x = torch.linspace(-8, 10, 20001, dtype=torch.float64)
    on_p, on_q = (torch.exp(-((x - m) ** 2) / 2) / math.sqrt(2 * math.pi) for m in (0, 2))
    middle = (on_p + on_q) / 2
    twice_jsd = torch.trapezoid(on_p * (on_p / middle).log() + on_q * (on_q / middle).log(), x).item()
    assert loss(line).item() == pytest.approx(math.log(4) - twice_jsd, abs=1e-3)


@pytest.mark.parametrize("loss", [nonsaturating, saturating])
def test_hopeless_logits_give_finite_losses_and_gradients(loss: Loss) -> None:
    real, fake = torch.tensor([-1e4, 1e4], requires_grad=True), torch.tensor([1e4, -1e4], requires_grad=True)
    total = loss.discriminator(real, fake) + loss.generator(fake)
    total.backward()
    assert total.isfinite()
    assert real.grad is not None
    assert fake.grad is not None
    assert real.grad.isfinite().all()
    assert fake.grad.isfinite().all()


def test_the_critics_loss_is_minus_the_distance_that_it_sees() -> None:
    real, fake = torch.tensor([3.0, 5.0]), torch.tensor([1.0, 2.0])
    assert wasserstein.critic(real, fake).item() == 1.5 - 4.0
    assert wasserstein.critic(real + 7, fake + 7).item() == 1.5 - 4.0
    assert wasserstein.generator(fake).item() == -1.5


def test_bf16_logits_are_averaged_in_float32() -> None:
    # The mean of 255 ones and a two, 257/256, has no bf16: it would come back as 1.
    scores = torch.ones(256, dtype=torch.bfloat16)
    scores[0] = 2
    assert wasserstein.generator(scores).item() == -257 / 256
    logits = torch.randn(64).bfloat16()
    for half, whole in (
        (nonsaturating.discriminator(logits, -logits), nonsaturating.discriminator(logits.float(), -logits.float())),
        (nonsaturating.generator(logits), nonsaturating.generator(logits.float())),
        (saturating.generator(logits), saturating.generator(logits.float())),
        (wasserstein.critic(logits, -logits), wasserstein.critic(logits.float(), -logits.float())),
    ):
        assert half.dtype == torch.float32
        assert torch.equal(half, whole)


def test_least_squares_of_a_discriminator_that_says_one_half() -> None:
    half = torch.full((3, 4), 0.5)
    assert leastsquares.discriminator(half, half).item() == 0.25
    assert leastsquares.generator(half).item() == 0.125
    assert leastsquares.discriminator(torch.ones(2), torch.zeros(2)).item() == 0
    assert leastsquares.generator(torch.ones(2)).item() == 0


def test_divergences_from_the_normal_law_are_those_of_torch() -> None:
    zero, one = torch.zeros(5, 8), torch.ones(5, 8)
    assert torch.equal(kl_to_normal(zero, zero), torch.zeros(5))
    torch.testing.assert_close(kl_to_normal(one, zero), torch.full((5,), 4.0))
    torch.testing.assert_close(kl_to_normal(zero, one), torch.full((5,), 4 * (math.e - 2)))
    mean, log_variance = torch.randn(2, 6, 8)
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(torch.zeros(()), torch.ones(()))).sum(1)
    torch.testing.assert_close(kl_to_normal(mean, log_variance), expected)
