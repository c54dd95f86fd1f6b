"""A critic that is kept from growing steep."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ganforge.batches import Images, ImageSpec, Points, PointSpec, Spec
from ganforge.errors import RequestError
from ganforge.game import Game, Move, Player, Preset, register
from ganforge.nets import dcgan, init, resnet
from ganforge.nets.mlp import mlp
from ganforge.nets.sizes import side
from ganforge.objectives import wasserstein
from ganforge.penalties import gradient_penalty
from ganforge.schedules import linear_decay

_MIXTURE: dict[str, Any] = {
    "rounds": 4000, "batch_size": 256, "width": 128, "latent_dim": 2,
    "penalty": 0.1, "n_critic": 2, "lr": 1e-3, "betas": (0.5, 0.9), "ema": 0.999,
}  # fmt: skip


@register("wgan-gp")
class WGANGP(Game):
    r"""Improved Training of Wasserstein GANs. Gulrajani, Ahmed, Arjovsky, Dumoulin, Courville. NeurIPS 2017, arXiv:1704.00028.

    Page and measured curves: docs/games/wgan-gp.md

    $L_f = E_z[f(G(z))] - E_x[f(x)] + \lambda E_{\hat x}[(\lVert\nabla_{\hat x} f(\hat x)\rVert_2 - 1)^2]$ with
    $\hat x = \epsilon x + (1 - \epsilon) G(z)$, and $L_G = -E_z[f(G(z))]$: "D" in the paper, here f as it gives scores and no logits.

    Defaults are Algorithm 1's with the networks of the authors' gan_mnist.py. Departures: pixels lie in [-1, 1] and G ends in tanh
    (there [0, 1] and a sigmoid); the preset "resnet" is not told the classes and adds no noise of one grey level to the real pictures;
    the mlp starts as torch does, not with gan_toy.py's larger He-uniform weights.

    Args:
        network: that of gan_mnist.py and gan_cifar.py (dcgan), gan_cifar_resnet.py (resnet) or gan_toy.py (mlp, which points always have).
        width: the feature maps of the finest layer (dcgan), of every layer (resnet), or the units of the three hidden layers (mlp).
        generator_norm: whether the convolutional generators have batch normalisation; a critic never has, its penalty is per sample.
        latent_dim: the dimension of z, which is N(0, 1).
        n_critic: the critic's steps per round.
        penalty: lambda, the weight of the gradient penalty.
        generator_batch: the generator's batch, as a multiple of the critic's.
        lr: the learning rate of both players.
        betas: how slowly Adam forgets the gradients and their squares.
        lr_end: the round at which the learning rate has fallen, linearly, to 0; 0 for a constant rate.
        ema: the decay of the averaged generator that samples after training; 0 for none.
    """

    rounds = 200_000
    batch_size = 64
    presets: ClassVar[dict[str, Preset]] = {
        "toy": Preset(
            "the authors' gan_toy.py: 8 Gaussians",
            data="ring", rounds=100_000, batch_size=256, width=512, latent_dim=2, penalty=0.1, betas=(0.5, 0.9),
        ),
        "ring": Preset("8 Gaussians in a minute: smaller networks, larger steps, averaged weights", data="ring", **_MIXTURE),
        "grid": Preset("25 Gaussians, the same way", data="grid", **_MIXTURE),
        "mnist": Preset("the authors' gan_mnist.py", size=28, channels=1, batch_size=50, betas=(0.5, 0.9)),
        "cifar": Preset("the authors' gan_cifar.py", size=32, channels=3, width=128, generator_norm=True, betas=(0.5, 0.9)),
        "resnet": Preset(
            "the authors' gan_cifar_resnet.py, without classes", size=32, channels=3, rounds=100_000,
            network="resnet", width=128, generator_norm=True, generator_batch=2, lr=2e-4, lr_end=100_000,
        ),
        "tiny": Preset("for tests", size=8, channels=1, batch_size=8, width=4, latent_dim=4, n_critic=2),
    }  # fmt: skip

    def __init__(
        self,
        data: Spec,
        *,
        network: Literal["mlp", "dcgan", "resnet"] = "dcgan",
        width: int = 64,
        generator_norm: bool = False,
        latent_dim: int = 128,
        n_critic: int = 5,
        penalty: float = 10.0,
        generator_batch: int = 1,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.0, 0.9),
        lr_end: int = 0,
        ema: float = 0.0,
    ) -> None:
        super().__init__()
        if n_critic < 1:
            raise RequestError(f"n_critic = {n_critic}: the critic needs at least one step per round")
        self.latent_dim, self.n_critic, self.penalty, self.generator_batch = latent_dim, n_critic, penalty, generator_batch
        self.adam, self.lr_end, self.ema = partial(torch.optim.Adam, lr=lr, betas=betas), lr_end, ema
        if isinstance(data, PointSpec) or network == "mlp":
            numbers, hidden = math.prod(data.shape), [width] * 3
            picture = [nn.Tanh(), nn.Unflatten(1, data.shape)] if isinstance(data, ImageSpec) else []
            self.generator: nn.Module = nn.Sequential(mlp(latent_dim, *hidden, numbers), *picture)
            self.critic: nn.Module = nn.Sequential(nn.Flatten(), mlp(numbers, *hidden, 1), nn.Flatten(0))
        elif network == "dcgan":
            side(data, (8, 16, 28, 32, 64, 128))
            self.generator = dcgan.generator(latent_dim, data.shape, width, norm=generator_norm, bias=True)
            self.critic = dcgan.discriminator(data.shape, width, norm=False, bias=True)
            init.convolutional(self.generator)
            init.convolutional(self.critic)
        else:
            side(data, (8, 16, 32, 64, 128))
            self.generator = resnet.generator(latent_dim, data.shape, width, norm=generator_norm)
            self.critic = resnet.critic(data.shape, width)

    def players(self) -> dict[str, Player]:
        """Adam for both."""
        schedule = linear_decay(0, self.lr_end) if self.lr_end else None
        return {"critic": Player(self.critic, self.adam, schedule), "generator": Player(self.generator, self.adam, schedule, self.ema)}

    def play(self, batches: Iterator[Images | Points]) -> Iterator[Move]:
        """Algorithm 1."""
        for _ in range(self.n_critic):  # line 2
            real = next(batches).x  # line 4: x ~ P_r, z ~ p(z)
            fake = self.sample(self.latent(len(real))).detach()  # line 5: x~ = G(z)
            on_real, on_fake = self.critic(real), self.critic(fake)
            penalty = gradient_penalty(self.critic, real, fake)  # lines 4 and 6: x^ = eps x + (1 - eps) x~
            loss = wasserstein.critic(on_real, on_fake) + self.penalty * penalty  # line 7
            yield Move("critic", loss, real=on_real, fake=on_fake, wasserstein=on_real - on_fake, penalty=penalty)  # line 9
        fake = self.sample(self.latent(self.generator_batch * len(real)))  # line 11
        yield Move("generator", wasserstein.generator(self.critic(fake)))  # line 12

    def latent(self, n: int) -> Tensor:
        """[n, latent_dim], N(0, 1)."""
        return torch.randn(n, self.latent_dim, device=self.device)

    def sample(self, latent: Tensor) -> Tensor:
        """[n, latent_dim] to pictures in [-1, 1] or to points, [n, *shape]."""
        made: Tensor = self.generator(latent)
        return made

    def judge(self, x: Tensor) -> Tensor:
        """[n, *shape] to the critic's scores, [n]; only their differences mean anything."""
        scores: Tensor = self.critic(x)
        return scores
