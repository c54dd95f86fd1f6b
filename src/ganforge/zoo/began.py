"""A discriminator that is an auto-encoder, and a dial between variety and quality."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ganforge.batches import Images, ImageSpec
from ganforge.errors import RequestError
from ganforge.game import Game, Move, Player, Preset, Seen, register
from ganforge.nets import init
from ganforge.nets.blocks import conv
from ganforge.nets.sizes import side

Shape = tuple[int, int, int]


@register("began")
class BEGAN(Game):
    r"""BEGAN: Boundary Equilibrium Generative Adversarial Networks. Berthelot, Schumm, Metz. 2017, arXiv:1703.10717.

    Page and measured curves: docs/games/began.md

    D is an auto-encoder, and what it judges by is how badly it copies a picture, the mean over all pixels of
    $\mathcal L(v) = \lvert v - D(v) \rvert^\eta$. It learns to copy real pictures and, by a share k, not to copy generated ones:
    $\mathcal L_D = \mathcal L(x) - k_t \mathcal L(G(z_D))$ and $\mathcal L_G = \mathcal L(G(z_G))$. After each round
    $k_{t+1} = k_t + \lambda_k (\gamma \mathcal L(x) - \mathcal L(G(z_G)))$, kept in [0, 1], pulls towards the equilibrium
    $\gamma = E[\mathcal L(G(z))] / E[\mathcal L(x)]$: a low gamma asks for pictures that are copied well, a high one for varied ones.
    How far the game has come is told by $M = \mathcal L(x) + \lvert \gamma \mathcal L(x) - \mathcal L(G(z_G)) \rvert$.

    The paper prints no algorithm box and the authors' code is not public; layers, initialisation and length of the run are those of
    carpedm20/BEGAN-tensorflow, as is that both players step at once. The paper halves the learning rate when M stalls and does not say
    when that is: here, when its mean over `patience` rounds is above 0.99 of the mean over those before. Departures: the optional skip
    connections and vanishing residuals of the decoders are left out.

    Args:
        gamma: the diversity ratio that k holds the game to, above 0 and at most 1.
        lambda_k: by how much k follows.
        eta: the exponent of the pixels' errors.
        width: the feature maps of the decoders and of the encoder's finest level, of which each level below has as many more.
        latent_dim: the dimension of z, and of the auto-encoder's code.
        lr: the learning rate that both players begin with.
        betas: how slowly Adam forgets the gradients and their squares.
        patience: over how many rounds M is averaged before it is compared; whenever it has stalled, both learning rates are halved.
        ema: the decay of the averaged generator that samples after training; 0 for none.
    """

    rounds = 500_000
    batch_size = 16
    presets: ClassVar[dict[str, Preset]] = {
        "small": Preset(
            "faces in minutes on one core", size=32, channels=3, flip=True, rounds=4000,
            gamma=0.8, lambda_k=0.01, width=16, lr=4e-4, patience=1000,
        ),
        "tiny": Preset("for tests", size=8, channels=1, batch_size=8, width=4, latent_dim=4, patience=2),
    }  # fmt: skip

    k: Tensor
    rate: Tensor
    noted: Tensor
    measured: Tensor
    before: Tensor

    def __init__(
        self,
        data: ImageSpec,
        *,
        gamma: float = 0.5,
        lambda_k: float = 0.001,
        eta: Literal[1, 2] = 1,
        width: int = 128,
        latent_dim: int = 64,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        patience: int = 100_000,
        ema: float = 0.0,
    ) -> None:
        super().__init__()
        side(data, (8, 16, 32, 64, 128, 256))
        if not 0 < gamma <= 1:
            raise RequestError(f"gamma = {gamma}: the ratio of the errors on generated and on real pictures is above 0 and at most 1")
        if patience < 1:
            raise RequestError(f"patience = {patience}: M is averaged over at least one round")
        self.gamma, self.lambda_k, self.eta, self.latent_dim, self.patience, self.ema = gamma, lambda_k, eta, latent_dim, patience, ema
        self.generator = _decoder(latent_dim, data.shape, width)
        self.discriminator = nn.Sequential(_encoder(data.shape, width, latent_dim), _decoder(latent_dim, data.shape, width))
        init.weights(self, nn.init.xavier_uniform_)
        self.adam = partial(torch.optim.Adam, lr=lr, betas=betas)
        self.register_buffer("k", torch.zeros(()))  # k_0 = 0
        self.register_buffer("rate", torch.ones(()))
        self.register_buffer("noted", torch.zeros((), dtype=torch.int64))
        self.register_buffer("measured", torch.zeros(()))
        self.register_buffer("before", torch.tensor(torch.inf))

    def players(self) -> dict[str, Player]:
        """Adam for both, at a rate that falls when M stalls."""
        return {
            "discriminator": Player(self.discriminator, self.adam, schedule=lambda _round: self.rate),
            "generator": Player(self.generator, self.adam, schedule=lambda _round: self.rate, ema=self.ema),
        }

    def play(self, batches: Iterator[Images]) -> Generator[Move, Seen, None]:
        """Both step at once, from the losses at the round's beginning; then k, and the learning rate. The paper has no box."""
        real = next(batches).image
        on_real = self.error(real)  # L(x)
        on_fake = self.error(self.sample(self.latent(len(real))).detach())  # L(G(z_D))
        on_made = self.error(self.sample(self.latent(len(real))))  # L(G(z_G)); G is both what D is given and what it should have said
        loss = on_real.mean() - self.k * on_fake.mean()  # L_D = L(x) - k_t L(G(z_D))
        move = Move.together(discriminator=loss, generator=on_made.mean())  # L_G = L(G(z_G))
        measure = on_real.mean() + (self.gamma * on_real.mean() - on_made.mean()).abs()
        seen = yield move.saw(real=on_real, fake=on_made, M=measure, k=self.k, rate=self.rate)
        balance = self.gamma * seen["real"] - seen["fake"]
        self.k.add_(self.lambda_k * balance).clamp_(0, 1)  # k_{t+1} = k_t + lambda_k (gamma L(x) - L(G(z_G)))
        self.note(seen["real"] + balance.abs())

    def note(self, measure: Tensor) -> None:
        """Adds M of a round, a scalar, and halves the learning rate where M has stalled; every round by the same operations."""
        self.noted.add_(1)
        self.measured.add_(measure)
        over = self.noted == self.patience
        self.rate.mul_(torch.where(over & (self.measured > 0.99 * self.before), 0.5, 1.0))
        self.before.copy_(torch.where(over, self.measured, self.before))
        self.measured.mul_(~over)
        self.noted.mul_(~over)

    def error(self, v: Tensor) -> Tensor:
        r"""[n, C, H, W] to $\mathcal L(v)$, [n], in float32: one that saw fewer digits could not tell what k weighs."""
        copy: Tensor = self.discriminator(v)
        return (v.float() - copy.float()).abs().pow(self.eta).flatten(1).mean(1)

    def latent(self, n: int) -> Tensor:
        """[n, latent_dim], U[-1, 1]."""
        return 2 * torch.rand(n, self.latent_dim, device=self.device) - 1

    def sample(self, latent: Tensor) -> Tensor:
        """[n, latent_dim] to pictures, [n, C, H, W]; nothing bounds them, whoever shows them clips them to [-1, 1]."""
        pictures: Tensor = self.generator(latent)
        return pictures

    def judge(self, x: Tensor) -> Tensor:
        """[n, C, H, W] to minus the error with which D copies it, [n]."""
        return -self.error(x)

    def encode(self, x: Tensor) -> Tensor:
        """[n, C, H, W] to D's code of it, [n, latent_dim]."""
        code: Tensor = self.discriminator[0](x)
        return code


def _elu(inputs: int, outputs: int) -> list[nn.Module]:
    return [*conv(inputs, outputs, 3), nn.ELU()]


def _levels(shape: Shape) -> int:
    """How many sides there are from the picture's down to 8."""
    return shape[1].bit_length() - 3


def _encoder(shape: Shape, width: int, latent_dim: int) -> nn.Module:
    """[n, *shape] to [n, latent_dim]: the maps grow by `width` per level."""
    layers, maps = _elu(shape[0], width), width
    for level in range(1, _levels(shape) + 1):
        if level > 1:
            layers += [nn.Conv2d(maps, maps, 3, stride=2, padding=1), nn.ELU()]
        layers += [*_elu(maps, level * width), *_elu(level * width, level * width)]
        maps = level * width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * maps, latent_dim))


def _decoder(latent_dim: int, shape: Shape, width: int) -> nn.Module:
    """[n, latent_dim] to [n, *shape], unbounded: the generator is one, and so is the second half of the discriminator."""
    layers: list[nn.Module] = [nn.Linear(latent_dim, 64 * width), nn.Unflatten(1, (width, 8, 8))]
    for level in range(_levels(shape)):
        layers += [*([nn.Upsample(scale_factor=2)] if level else []), *_elu(width, width), *_elu(width, width)]
    return nn.Sequential(*layers, *conv(width, shape[0], 3))
