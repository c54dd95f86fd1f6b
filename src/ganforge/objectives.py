"""Adversarial losses: pure functions of logits (or of a critic's scores) of any shape, each a scalar to be minimised; a divergence.

Everything is computed in float32, also under autocast: the mean of many bf16 losses would lose what one step changes.
"""

# ruff: noqa: N801 - these classes are namespaces and read as words: nonsaturating.generator(fake)

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


class nonsaturating:
    """Generative Adversarial Networks. Goodfellow et al., NeurIPS 2014, arXiv:1406.2661. Logits in, a scalar out.

    The generator's loss is the one that the paper advises for training: the gradient stays strong while the discriminator wins.
    """

    @staticmethod
    def discriminator(real: Tensor, fake: Tensor) -> Tensor:
        r"""$-E[\log D(x)] - E[\log(1 - D(G(z)))]$, eq. (1) with its sign changed; 2 ln 2 where D cannot tell (logits 0)."""
        return F.softplus(-real.float()).mean() + F.softplus(fake.float()).mean()

    @staticmethod
    def generator(fake: Tensor) -> Tensor:
        r"""$-E[\log D(G(z))]$; ln 2 at logits 0, where the slope in each logit is -1/2 and goes to -1 as D wins."""
        return F.softplus(-fake.float()).mean()


class saturating(nonsaturating):
    """The minimax game of the same paper, as its Algorithm 1 prints it; the discriminator's loss is the same."""

    @staticmethod
    def generator(fake: Tensor) -> Tensor:
        r"""$E[\log(1 - D(G(z)))]$; -ln 2 at logits 0, where the slope in each logit is -1/2 and goes to 0 as D wins."""
        return -F.softplus(fake.float()).mean()


class leastsquares:
    """Least Squares GAN. Mao et al., ICCV 2017, arXiv:1611.04076, with the labels 1 (real, and what the generator wants) and 0 (fake).

    CycleGAN, BicycleGAN and others play it with a generator's loss twice as large.
    """

    @staticmethod
    def discriminator(real: Tensor, fake: Tensor) -> Tensor:
        r"""$\frac12 E[(D(x) - 1)^2] + \frac12 E[D(G(z))^2]$; 1/4 where D says 1/2 to everything, which is then its best."""
        return ((real.float() - 1).square().mean() + fake.float().square().mean()) / 2

    @staticmethod
    def generator(fake: Tensor) -> Tensor:
        r"""$\frac12 E[(D(G(z)) - 1)^2]$."""
        return (fake.float() - 1).square().mean() / 2


class wasserstein:
    """Wasserstein GAN. Arjovsky, Chintala, Bottou, ICML 2017, arXiv:1701.07875. Scores in, a scalar out.

    The critic must be kept from growing steep, e.g. by `penalties.gradient_penalty`.
    """

    @staticmethod
    def critic(real: Tensor, fake: Tensor) -> Tensor:
        """$E[f(G(z))] - E[f(x)]$, minus the estimate of the Wasserstein-1 distance; shifting f changes nothing."""
        return fake.float().mean() - real.float().mean()

    @staticmethod
    def generator(fake: Tensor) -> Tensor:
        """$-E[f(G(z))]$."""
        return -fake.float().mean()


def kl_to_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    r"""$D_{KL}(N(\mu, \mathrm{diag}\,\sigma^2) \Vert N(0, I))$ in nats, [n, d] and [n, d] to [n].

    Kingma and Welling, ICLR 2014, arXiv:1312.6114: $\frac12 \sum (\sigma^2 + \mu^2 - 1 - \log \sigma^2)$.
    """
    mean, log_variance = mean.float(), log_variance.float()
    return (log_variance.exp() + mean.square() - 1 - log_variance).sum(1) / 2
