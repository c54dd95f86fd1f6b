"""From a sentence to a small picture, and from the small picture and the sentence to a large one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganforge.batches import Captioned, ImageSpec
from ganforge.errors import RequestError
from ganforge.game import Game, Move, Phase, Player, Preset, register
from ganforge.nets import init
from ganforge.nets.blocks import conv, joined, residual
from ganforge.objectives import kl_to_normal, nonsaturating
from ganforge.schedules import exponential


@register("stackgan")
class StackGAN(Game):
    r"""StackGAN: Text to Photo-realistic Image Synthesis with Stacked Generative Adversarial Networks. Zhang, Xu, Li, Zhang, Wang, Huang,
    Metaxas. ICCV 2017, arXiv:1612.03242.

    Page and measured runs: docs/games/stackgan.md

    A sentence is a fixed vector $\varphi$. Each stage makes of it a Gaussian and draws its condition from that,
    $\hat c = \mu(\varphi) + \sigma(\varphi) \odot \epsilon$ with $\epsilon \sim N(0, I)$, which fills the space between the few sentences
    that there are; it is kept near N(0, I) by $L_{KL} = D_{KL}(N(\mu, \mathrm{diag}\,\sigma^2) \Vert N(0, I))$, a mean over batch and
    dimensions in the code. Stage I makes a small picture, $\hat x = G_1(z, \hat c_1)$; stage II works on top of a stage I that moves no
    more, $\hat x = G_2(G_1(z, \hat c_1), \hat c_2)$. In both D sees a picture beside $\mu$, and must also refuse a real picture with the
    sentence of another, $\mu'$:
    $L_D = -E[\log D(x, \mu)] - \frac12 E[\log(1 - D(\hat x, \mu))] - \frac12 E[\log(1 - D(x, \mu'))]$,
    $L_G = -E[\log D(\hat x, \mu)] + \lambda L_{KL}$.

    Networks and numbers are those of hanzhanggit/StackGAN-Pytorch for birds. Departures: no ReLU before mu and the logarithm of
    sigma^2, whose sigma could then never be below 1; sentences' vectors are brought to mean 0 and variance 1, as encoders differ in scale;
    stage I rests in evaluation mode, so that its batch statistics rest too; stage II has the paper's conditional D alone.

    Args:
        latent_dim: the dimension of z, which is N(0, 1).
        condition: the dimension of c.
        width: the maps of the generators; stage I begins with eight times as many.
        judge_width: the maps of the discriminators' first layer.
        blocks: the residual blocks of stage II.
        enlarge: how many times larger the pictures of stage II are.
        kl: lambda, the weight of the divergence.
        stage1_rounds: the rounds of stage I; `rounds` are those of stage II.
        halve_every: after so many rounds of a stage the rates of its players halve.
        lr: the learning rate of all players.
        betas: how slowly Adam forgets the gradients and their squares.
        ema: the decay of the averaged generators that sample after training; 0 for none.
    """

    rounds = 83_000
    batch_size = 64
    couples_samples = True
    reading: ClassVar[dict[str, object]] = {"size": 256, "jitter": 48, "flip": True, "text_dim": 1024}
    presets: ClassVar[dict[str, Preset]] = {
        "small": Preset(
            "faces of 32 pixels from those of 16, in eight minutes of one core",
            size=32, jitter=0, flip=True, text_dim=32, batch_size=32, stage1_rounds=2000, rounds=1000,
            latent_dim=32, condition=16, width=24, judge_width=32, blocks=1, enlarge=2, halve_every=1500, lr=4e-4, ema=0.99,
        ),
        "tiny": Preset(
            "for tests", size=16, channels=1, jitter=0, batch_size=4, stage1_rounds=3, latent_dim=4, condition=3, width=4, judge_width=2,
            blocks=1, enlarge=2,
        ),
    }  # fmt: skip

    def __init__(
        self,
        data: ImageSpec,
        *,
        latent_dim: int = 100,
        condition: int = 128,
        width: int = 128,
        judge_width: int = 64,
        blocks: int = 4,
        enlarge: Literal[2, 4] = 4,
        kl: float = 2.0,
        stage1_rounds: int = 83_000,
        halve_every: int = 13_800,
        lr: float = 2e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        ema: float = 0.0,
    ) -> None:
        super().__init__()
        small, doublings = data.height // enlarge, int(math.log2(max(1, data.height // enlarge // 4)))
        if data.height != data.width or small != 4 * 2**doublings or doublings < 1 or not data.text:
            has = "without captions" if not data.text else f"of {data.width}x{data.height}, {enlarge} times the small ones"
            raise RequestError(
                f"pictures {has}: the small ones must be squares of 8, 16, 32, 64, ...; give pictures with captions and --size"
            )
        self.latent_dim, self.condition, self.kl, self.small = latent_dim, condition, kl, small
        self.generator1 = StageI(data.channels, latent_dim, data.text, condition, width, doublings)
        self.generator2 = StageII(data.channels, data.text, condition, width, blocks, small, enlarge)
        self.discriminator1 = Discriminator(data.channels, small, judge_width, condition)
        self.discriminator2 = Discriminator(data.channels, data.height, judge_width, condition)
        init.dcgan(self)
        for stage in (self.generator1, self.generator2):
            # By torch's own law, which is that of the rest for the authors' 1024 numbers; fewer would say next to nothing at first.
            stage.conditioning.linear.reset_parameters()
        self.stage1_rounds, self.ema = stage1_rounds, ema
        self.adam, self.schedule = partial(torch.optim.Adam, lr=lr, betas=betas), exponential(0.5, every=halve_every)
        self.texts: Tensor
        self.register_buffer("texts", torch.zeros(64, data.text))  # some of the last sentences read, for samples of none in particular
        self.begun: Tensor
        self.register_buffer("begun", torch.zeros((), dtype=torch.bool))  # whether stage II has

    def players(self) -> dict[str, Player]:
        """Adam for all four."""
        return {
            "discriminator1": Player(self.discriminator1, self.adam, self.schedule),
            "generator1": Player(self.generator1, self.adam, self.schedule, self.ema),
            "discriminator2": Player(self.discriminator2, self.adam, self.schedule),
            "generator2": Player(self.generator2, self.adam, self.schedule, self.ema),
        }

    def phases(self) -> list[Phase]:
        """Stage I on small pictures, then stage II."""
        return [
            Phase("stage1", partial(self.play, stage=1), rounds=self.stage1_rounds, size=self.small),
            Phase("stage2", self.play),
        ]

    def play(self, batches: Iterator[Captioned], stage: Literal[1, 2] = 2) -> Iterator[Move]:
        """A round of either stage: D on right pairs, fakes and wrong pairs, then G on the same fakes; the paper has no box."""
        batch = next(batches)
        x, text = batch.image, batch.text
        discriminator = self.discriminator1 if stage == 1 else self.discriminator2
        fake, mean, log_variance = self.paint(self.latent_of_text(text), stage)  # G_1(z, c^_1) or G_2(G_1(z, c^_1), c^_2)
        mu = mean.detach()  # the condition learns from what it makes, not from what helps D
        right, wrong = discriminator(x, mu), discriminator(x, mu.roll(1, 0))  # D(x, mu), D(x, mu')
        on_fake = discriminator(fake.detach(), mu)  # D(x^, mu)
        loss = nonsaturating.discriminator(right, torch.cat([on_fake, wrong]))  # the mean over both is the half of each
        yield Move(f"discriminator{stage}", loss, real=right.sigmoid(), fake=on_fake.sigmoid(), wrong=wrong.sigmoid())
        divergence = kl_to_normal(mean, log_variance).mean() / self.condition  # L_KL
        loss = nonsaturating.generator(discriminator(fake, mu)) + self.kl * divergence  # -log D(x^, mu) + lambda L_KL
        yield Move(f"generator{stage}", loss, kl=divergence)
        self.texts.copy_(torch.cat([text, self.texts])[: len(self.texts)])
        self.begun.fill_(stage == 2)

    def paint(self, latent: Tensor, stage: Literal[1, 2]) -> tuple[Tensor, Tensor, Tensor]:
        """[n, ...] to the pictures of a stage, [n, C, h, w], and mu and log sigma^2 of its condition, [n, condition]."""
        z, noise1, noise2, text = latent.split([self.latent_dim, self.condition, self.condition, self.texts.shape[1]], 1)
        if stage == 1:
            made: tuple[Tensor, Tensor, Tensor] = self.generator1(z, text, noise1)
            return made
        self.generator1.eval()
        with torch.no_grad():
            low, _, _ = self.generator1(z, text, noise1)
        finished: tuple[Tensor, Tensor, Tensor] = self.generator2(low, text, noise2)
        return finished

    def latent(self, n: int) -> Tensor:
        """`latent_of_text` of sentences that were lately read."""
        return self.latent_of_text(self.texts[torch.rand(n, len(self.texts), device=self.device).argmax(1)])

    def latent_of_text(self, text: Tensor) -> Tensor:
        """[n, spec.text] to [n, latent_dim + 2 * condition + spec.text]: z, epsilon of both stages, and the sentence's vector."""
        noise = torch.randn(len(text), self.latent_dim + 2 * self.condition, device=text.device)
        return torch.cat([noise, text], 1)

    def sample(self, latent: Tensor) -> Tensor:
        """Latents to pictures, [n, C, H, W] in [-1, 1]: those of stage I, enlarged, before stage II has begun."""
        low, _, _ = self.paint(latent, 1)
        high, _, _ = self.paint(latent, 2)
        return torch.where(self.begun, high, F.interpolate(low, size=high.shape[2:], mode="bilinear"))


class Conditioning(nn.Module):
    """Conditioning augmentation: of a sentence a Gaussian, and of that a draw."""

    def __init__(self, text: int, condition: int) -> None:
        super().__init__()
        self.normal = nn.LayerNorm(text, elementwise_affine=False)
        self.linear = nn.Linear(text, 2 * condition)

    def forward(self, text: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[n, text] and [n, condition] to c^, mu and log sigma^2, [n, condition] each."""
        mean, log_variance = self.linear(self.normal(text)).chunk(2, 1)
        return mean + (log_variance / 2).exp() * noise, mean, log_variance  # c^ = mu + sigma * epsilon


class StageI(nn.Module):
    """G_1: a linear layer to 8 * width maps of 4x4, doubled until the picture is small."""

    def __init__(self, channels: int, latent_dim: int, text: int, condition: int, width: int, doublings: int) -> None:
        super().__init__()
        self.conditioning = Conditioning(text, condition)
        units = 8 * width * 16
        first = [nn.Linear(latent_dim + condition, units, bias=False), nn.BatchNorm1d(units), nn.ReLU(), nn.Unflatten(1, (8 * width, 4, 4))]
        self.network = nn.Sequential(*first, *_doubled(8 * width, doublings, channels))

    def forward(self, z: Tensor, text: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[n, latent_dim], [n, text], [n, condition] to a picture in [-1, 1], mu and log sigma^2."""
        condition, mean, log_variance = self.conditioning(text, noise)
        return self.network(torch.cat([condition, z], 1)), mean, log_variance


class StageII(nn.Module):
    """G_2: the small picture halved to 16 pixels, twice at most, the condition at every place of it, residual blocks, and up again."""

    def __init__(self, channels: int, text: int, condition: int, width: int, blocks: int, small: int, enlarge: int) -> None:
        super().__init__()
        self.conditioning = Conditioning(text, condition)
        encode, side = [*conv(channels, width, 3, bias=False), nn.ReLU()], small
        for maps in (width, 2 * width):
            # Smaller still, and nothing of the picture would be left to work on.
            halve = side > 16
            encode += (
                _halved(maps, 2 * maps, nn.ReLU()) if halve else [*conv(maps, 2 * maps, 3, bias=False), nn.BatchNorm2d(2 * maps), nn.ReLU()]
            )
            side //= 2 if halve else 1
        self.encode = nn.Sequential(*encode)
        join = [*conv(4 * width + condition, 4 * width, 3, bias=False), nn.BatchNorm2d(4 * width), nn.ReLU()]
        trunk = [layer for _ in range(blocks) for layer in (residual(4 * width, nn.BatchNorm2d), nn.ReLU())]
        self.paint = nn.Sequential(*join, *trunk, *_doubled(4 * width, int(math.log2(enlarge * small // side)), channels))

    def forward(self, low: Tensor, text: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[n, C, h, w], [n, text], [n, condition] to a picture enlarged, in [-1, 1], mu and log sigma^2."""
        condition, mean, log_variance = self.conditioning(text, noise)
        return self.paint(joined(self.encode(low), condition)), mean, log_variance


class Discriminator(nn.Module):
    """D: a picture halved to 4x4, 8 times the width in maps, the condition beside them, a logit."""

    def __init__(self, channels: int, side: int, width: int, condition: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1, bias=False), nn.LeakyReLU(0.2)]
        maps, side = width, side // 2
        while side > 4:
            layers += _halved(maps, 2 * maps, nn.LeakyReLU(0.2))
            maps, side = 2 * maps, side // 2
        while maps > 8 * width:
            layers += [*conv(maps, maps // 2, 3, bias=False), nn.BatchNorm2d(maps // 2), nn.LeakyReLU(0.2)]
            maps //= 2
        self.features = nn.Sequential(*layers)
        join = [*conv(maps + condition, maps, 3, bias=False), nn.BatchNorm2d(maps), nn.LeakyReLU(0.2)]
        self.logit = nn.Sequential(*join, nn.Conv2d(maps, 1, 4), nn.Flatten(0))

    def forward(self, image: Tensor, condition: Tensor) -> Tensor:
        """[n, C, H, W] and [n, condition] to [n] logits."""
        logits: Tensor = self.logit(joined(self.features(image), condition))
        return logits


def _halved(inputs: int, outputs: int, activation: nn.Module) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs), activation]


def _doubled(maps: int, times: int, channels: int) -> list[nn.Module]:
    """So often: nearest neighbours, 3x3 to half the maps, BN, ReLU; then 3x3 and tanh."""
    layers: list[nn.Module] = []
    for _ in range(times):
        layers += [nn.Upsample(scale_factor=2), *conv(maps, maps // 2, 3, bias=False), nn.BatchNorm2d(maps // 2), nn.ReLU()]
        maps //= 2
    return [*layers, *conv(maps, channels, 3, bias=False), nn.Tanh()]
