"""Two domains become each other, learnt without pairs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from ganforge.batches import ImageSpec, Unpaired
from ganforge.errors import RequestError
from ganforge.game import Game, Move, Player, Preset, register
from ganforge.nets import init, patchgan, translator
from ganforge.objectives import leastsquares
from ganforge.schedules import linear_decay


@register("cyclegan")
class CycleGAN(Game):
    r"""Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks.
    Zhu, Park, Isola, Efros. ICCV 2017, arXiv:1703.10593.

    Page and measured runs: docs/games/cyclegan.md

    G makes of x a picture of the domain of y, F the other way, and each domain has a discriminator. With least squares for the paper's
    logarithms, as it trains, $L_{GAN} = E_x[(D_Y(G(x)) - 1)^2] + E_y[(D_X(F(y)) - 1)^2]$. What went there must come back:
    $L_{cyc} = E_x\lVert F(G(x)) - x\rVert_1 + E_y\lVert G(F(y)) - y\rVert_1$. Paintings that become photographs keep their
    colours by $L_{idt} = E_y\lVert G(y) - y\rVert_1 + E_x\lVert F(x) - x\rVert_1$. Both generators move at once, by
    $L_{G,F} = L_{GAN} + \lambda (L_{cyc} + \lambda_{idt} L_{idt})$, then both discriminators, by
    $L_D = \frac12 E_y[(D_Y(y) - 1)^2] + \frac12 E_x[D_Y(G(x))^2] + \frac12 E_x[(D_X(x) - 1)^2] + \frac12 E_y[D_X(F(y))^2]$, where half of
    the generated pictures, drawn at random, are older ones from a pool.

    Defaults are the paper's, for horses and zebras, with the networks of junyanz/pytorch-CycleGAN-and-pix2pix. Where the two authors'
    codes differ it is as in that one: junyanz/CycleGAN asks for 0.9 where the formulas have 1, its instance normalisation is affine, and
    G, D_Y, F and D_X step in turns. Departure: pictures of less than 64 pixels have smaller networks, as the paper says nothing of them.

    Args:
        width: the feature maps at full size of all networks.
        blocks: the residual blocks of G and F; 0: 9 from 256 pixels a side on, 6 from 64 on, else 3.
        layers: strided convolutions of D_X and D_Y, whose logits see patches of 16, 34 or 70 pixels for 1 to 3; 0: 3 from 64 pixels a
            side on, 2 from 24 on, else 1.
        cycle: lambda, the weight of the way there and back.
        identity: lambda_idt, the weight, beside that of the cycle, of leaving pictures of the wanted domain as they are.
        pool: how many generated pictures of each domain are kept for the discriminators; 0: none, they see the newest.
        lr: the learning rate of all.
        betas: how slowly Adam forgets the gradients and their squares.
        decay: the rounds between which the rate falls, linearly, to 0.
    """

    rounds = 266_800  # 200 epochs of 1,334 zebras
    batch_size = 1
    # A pool gives a picture made from one sample to a later one.
    couples_samples = True
    reading: ClassVar[dict[str, Any]] = {"size": 256, "jitter": 30, "flip": True}
    presets: ClassVar[dict[str, Preset]] = {
        "painting": Preset("the authors' for paintings that become photographs: colours are kept", identity=0.5),
        "small": Preset(
            "digits of 32 pixels in a few minutes on one core", size=32, channels=3, jitter=0, flip=False, rounds=4000, batch_size=2,
            width=16, lr=5e-4, decay=(2000, 4000),
        ),
        "pets": Preset(
            "64 pixels in a few minutes on one core", size=64, jitter=8, rounds=2800, width=16, blocks=3, lr=5e-4, decay=(1400, 2800),
        ),
        "tiny": Preset("for tests", size=8, channels=1, jitter=0, batch_size=4, width=4, blocks=1, layers=1, pool=3),
    }  # fmt: skip
    ways = ("a2b", "b2a")

    def __init__(
        self,
        data: ImageSpec,
        *,
        width: int = 64,
        blocks: int = 0,
        layers: int = 0,
        cycle: float = 10.0,
        identity: float = 0.0,
        pool: int = 50,
        lr: float = 2e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        decay: tuple[int, int] = (133_400, 266_800),
    ) -> None:
        super().__init__()
        if pool < 0:
            raise RequestError(f"pool = {pool}: must be 0, for none, or the number of pictures to keep")
        self.cycle, self.identity, self.couples_samples = cycle, identity, pool > 0
        self.adam, self.schedule = partial(torch.optim.Adam, lr=lr, betas=betas), linear_decay(*decay)
        side = min(data.height, data.width)
        blocks = blocks or (9 if side >= 256 else 6 if side >= 64 else 3)
        layers = layers or (3 if side >= 64 else 2 if side >= 24 else 1)
        self.generators = nn.ModuleDict({way: translator.generator(data.channels, data.channels, width, blocks) for way in self.ways})
        self.discriminators = nn.ModuleDict(
            {domain: patchgan.discriminator(data.shape, width, layers, norm=nn.InstanceNorm2d, bias=True) for domain in ("a", "b")}
        )
        self.pools = nn.ModuleDict({domain: Pool(pool, data.shape) for domain in ("a", "b")})
        init.dcgan(self)

    def players(self) -> dict[str, Player]:
        """Adam for both pairs, at one rate."""
        return {
            "generators": Player(self.generators, self.adam, self.schedule),
            "discriminators": Player(self.discriminators, self.adam, self.schedule),
        }

    def play(self, batches: Iterator[Unpaired]) -> Iterator[Move]:
        """A step of the generators, then one of the discriminators on what the generators had made before it; the paper has no box."""
        batch = next(batches)
        x, y = batch.a, batch.b
        fake_y, fake_x = self.translate(x, "a2b"), self.translate(y, "b2a")  # G(x), F(y)
        cycle = l1_loss(self.translate(fake_y, "b2a"), x) + l1_loss(self.translate(fake_x, "a2b"), y)  # L_cyc
        judge_x, judge_y = self.discriminators["a"], self.discriminators["b"]
        fooling = 2 * (leastsquares.generator(judge_y(fake_y)) + leastsquares.generator(judge_x(fake_x)))  # L_GAN
        loss = fooling + self.cycle * cycle
        if self.identity:
            kept = l1_loss(self.translate(y, "a2b"), y) + l1_loss(self.translate(x, "b2a"), x)  # L_idt
            loss = loss + self.cycle * self.identity * kept
        yield Move("generators", loss, cycle=cycle / 2)  # L_{G,F}
        past_y, past_x = self.pools["b"](fake_y.detach()), self.pools["a"](fake_x.detach())
        # One pass each, as no picture meets another in D.
        on_y, on_past_y = judge_y(torch.cat([y, past_y])).chunk(2)
        on_x, on_past_x = judge_x(torch.cat([x, past_x])).chunk(2)
        loss = leastsquares.discriminator(on_y, on_past_y) + leastsquares.discriminator(on_x, on_past_x)  # L_D
        yield Move("discriminators", loss, real=torch.cat([on_y, on_x]), fake=torch.cat([on_past_y, on_past_x]))

    def translate(self, image: Tensor, way: str = "a2b") -> Tensor:
        """[n, C, H, W] in [-1, 1], any height and width, kept: G(image) for the way a2b, F(image) for b2a."""
        made: Tensor = self.generators[way](image)
        return made


class Pool(nn.Module):
    """Generated pictures of the past, for a discriminator that is not to forget: Shrivastava et al., CVPR 2017, arXiv:1612.07828.

    The authors' rule for each picture: as long as there is room it is kept and comes out at once; after that, by the toss of a coin,
    either it comes out, or it takes the place of one drawn at random, which does. All is decided on the device; nothing is read back.
    """

    pictures: Tensor
    held: Tensor

    def __init__(self, size: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("pictures", torch.zeros(size, *shape))
        self.register_buffer("held", torch.zeros(1, dtype=torch.int64))

    def forward(self, fresh: Tensor) -> Tensor:
        """[n, *shape] to as many, each the fresh one of its place or an older one. Without a size they are the fresh ones."""
        return torch.cat([self._exchange(one) for one in fresh.split(1)]) if self.size else fresh

    # Not put off to the end of the round, as accumulated rounds are to keep their pictures too, each once.
    def _exchange(self, fresh: Tensor) -> Tensor:
        room = self.held < self.size
        place = torch.where(room, self.held, torch.randint(self.size, (1,), device=fresh.device))
        swap, old = torch.rand(1, device=fresh.device) < 0.5, self.pictures[place]
        self.pictures.index_copy_(0, place, _chosen(room | swap, fresh, old))
        self.held.add_(room)
        return _chosen(room | ~swap, fresh, old)


def _chosen(which: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """The first picture where `which`, [1], says so, else the second."""
    return torch.where(which.view(-1, *[1] * (first.ndim - 1)), first, second)
