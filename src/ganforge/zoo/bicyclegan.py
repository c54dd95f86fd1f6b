"""A picture becomes many others, learnt from pairs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from ganforge.batches import ImageSpec, Pairs
from ganforge.errors import RequestError
from ganforge.game import Game, Move, Player, Preset, register
from ganforge.nets import init, patchgan, unet
from ganforge.objectives import kl_to_normal, leastsquares
from ganforge.schedules import linear_decay


@register("bicyclegan")
class BicycleGAN(Game):
    r"""Toward Multimodal Image-to-Image Translation. Zhu, Zhang, Pathak, Darrell, Efros, Wang, Shechtman. NIPS 2017, arXiv:1711.11586.

    Page and measured runs: docs/games/bicyclegan.md

    G makes of a picture A one of its many answers, which one the latent z says; E tells the latent of an answer, as
    $E(B) = N(\mu, \sigma^2)$. Two cycles share both, each with a discriminator of its own, all by least squares.

    From answer to latent and back (cVAE-GAN), $z = \mu + \sigma\epsilon$: $L_{VAE} = E[(D_{VAE}(G(A, z)) - 1)^2] + \lambda L_1 +
    \lambda_{KL} L_{KL}$, with $L_1 = E\lVert B - G(A, z)\rVert_1$ and
    $L_{KL} = E[\frac12 \sum (\sigma^2 + \mu^2 - 1 - \log \sigma^2)]$. From latent to answer and back (cLR-GAN), $z \sim N(0, I)$:
    $L_{LR} = E[(D_{LR}(G(A, z)) - 1)^2] + \lambda_{latent} E\lVert z - \mu(G(A, z))\rVert_1$. G descends $L_{VAE} + L_{LR}$, E only
    $L_{VAE}$: asked to find z in the answer too, it could agree with G to hide it there. Each discriminator descends
    $L_D = E[(D(B) - 1)^2] + E[D(G(A, z))^2]$, summed, as is what G wants of it, over two scales.

    Defaults are the authors' for facades, after junyanz/BicycleGAN: its discriminators judge answers without their inputs, unless
    `conditional`. A batch is one of the halves of theirs: two are drawn a round, the second for the real pictures of D_LR.
    Departures: L_KL is averaged over the batch, not summed (theirs has one picture); dropout follows the innermost three ups of the
    U-Net, of which theirs leaves out the first and has the fourth; pictures of other sizes have networks as deep as they allow.

    Args:
        latent_dim: the dimension of z, which G sees before each of its strided convolutions.
        width: the feature maps at full size of all networks.
        depth: how often the U-Net halves the picture; 0: as often as its side allows, 8 times at most.
        layers: strided convolutions of D, whose logits see patches of 16, 34 or 70 pixels for 1 to 3; 0: 3 from 256 pixels a side on, 2
            from 64 on, else 1.
        scales: how many discriminators make one of the two: the first sees whole pictures, each further one halves them again.
        conditional: whether the discriminators see the input beside the answer.
        dropout: whether G drops half of its innermost units in training.
        gain: how large the weights begin, beside those of Xavier's normal law; so few as the authors' take E a while to tell anything.
        l1: lambda, the weight of the distance between an answer and what G makes of its latent.
        kl: lambda_KL, the weight of the latents' divergence from N(0, I), in nats.
        latent: lambda_latent, the weight of the distance between a latent and what E reads from the answer.
        lr: the learning rate of all.
        betas: how slowly Adam forgets the gradients and their squares.
        decay: the rounds between which the rate falls, linearly, to 0.
    """

    rounds = 80_000  # 400 times the 400 facades, two a round
    batch_size = 1
    reading: ClassVar[dict[str, Any]] = {"size": 256, "flip": True}
    presets: ClassVar[dict[str, Preset]] = {
        "small": Preset(
            "64 pixels in a few minutes", size=64, flip=True, rounds=3000, batch_size=2,
            width=24, dropout=False, gain=0.3, lr=5e-4, decay=(2000, 3000),
        ),
        "tiny": Preset("for tests", size=16, channels=1, batch_size=4, width=4, latent_dim=3, layers=1),
    }  # fmt: skip
    ways = ("a2b",)

    def __init__(
        self,
        data: ImageSpec,
        *,
        latent_dim: int = 8,
        width: int = 64,
        depth: int = 0,
        layers: int = 0,
        scales: int = 2,
        conditional: bool = False,
        dropout: bool = True,
        gain: float = 0.02,
        l1: float = 10.0,
        kl: float = 0.01,
        latent: float = 0.5,
        lr: float = 2e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        decay: tuple[int, int] = (40_000, 80_000),
    ) -> None:
        super().__init__()
        if latent_dim < 1 or scales < 1:
            raise RequestError(f"latent_dim = {latent_dim}, scales = {scales}: both must be 1 or more")
        self.latent_dim, self.conditional, self.l1, self.kl, self.latent = latent_dim, conditional, l1, kl, latent
        self.adam, self.schedule = partial(torch.optim.Adam, lr=lr, betas=betas), linear_decay(*decay)
        channels, side = data.channels, min(data.height, data.width)
        self.generator = unet.generator(
            channels, channels, width, depth or unet.deepest(data.height, data.width),
            latent_dim=latent_dim, norm=nn.InstanceNorm2d, bias=True, noise=nn.Dropout if dropout else nn.Identity,
        )  # fmt: skip
        # Down to 8x8, as the authors' for 256 and for 128 pixels.
        self.encoder = Encoder(channels, latent_dim, width, max(1, side.bit_length() - 5))
        layers = layers or (3 if side >= 256 else 2 if side >= 64 else 1)

        def discriminator() -> patchgan.Pyramid:
            judged = channels * (1 + conditional)
            shapes = [(judged, -(-data.height // 2**scale), -(-data.width // 2**scale)) for scale in range(scales)]
            widths = [max(1, width // 2**scale) for scale in range(scales)]
            each = partial(patchgan.discriminator, layers=layers, norm=nn.InstanceNorm2d, bias=True)
            return patchgan.Pyramid(*map(each, shapes, widths))

        self.discriminator_vae, self.discriminator_lr = discriminator(), discriminator()
        init.weights(self, partial(nn.init.xavier_normal_, gain=gain))

    def players(self) -> dict[str, Player]:
        """Adam for all, at one rate."""
        names = ("generator", "encoder", "discriminator_vae", "discriminator_lr")
        return {name: Player(getattr(self, name), self.adam, self.schedule) for name in names}

    def play(self, batches: Iterator[Pairs]) -> Iterator[Move]:
        """G and E, then both discriminators, on what G had made before; the paper has no box, the order is that of the authors' code."""
        batch, other = next(batches), next(batches)
        a, b = batch.a, batch.b
        mean, log_variance = self.encoder(b)  # E(B)
        encoded = mean + (log_variance / 2).exp() * torch.randn_like(mean)  # z = mu + sigma epsilon
        drawn = torch.randn_like(mean)  # z ~ N(0, I)
        # One pass for both; a picture's two lie side by side, so that a batch in parts draws the dropout of the whole.
        latents = torch.stack([encoded, drawn], 1).flatten(0, 1)
        back, fresh = self.answer(a.repeat_interleave(2, 0), latents).unflatten(0, (-1, 2)).unbind(1)  # G(A, z), twice
        distance, divergence = l1_loss(back, b), kl_to_normal(mean, log_variance).mean()
        read, _ = self.encoder(fresh)  # mu(G(A, z))
        missed = l1_loss(read, drawn)
        vae = fooling(self.discriminator_vae(self.judged(a, back))) + self.l1 * distance + self.kl * divergence  # L_VAE
        lr = fooling(self.discriminator_lr(self.judged(a, fresh))) + self.latent * missed  # L_LR
        # One graph, two losses: that E gets no gradient of L_LR needs no freezing.
        yield Move.together(generator=vae + lr, encoder=vae).saw(l1=distance, kl=divergence, latent=missed)
        real, fake = self.judged(a, b), self.judged(a, back.detach())
        yield Move("discriminator_vae", telling(self.discriminator_vae, real, fake))  # L_D
        real, fake = self.judged(other.a, other.b), self.judged(a, fresh.detach())
        yield Move("discriminator_lr", telling(self.discriminator_lr, real, fake))  # L_D

    def judged(self, a: Tensor, b: Tensor) -> Tensor:
        """What a discriminator sees of an input and an answer, both [n, C, H, W]."""
        return torch.cat([a, b], 1) if self.conditional else b

    def translate(self, image: Tensor, way: str = "a2b") -> Tensor:  # noqa: ARG002
        """[n, C, H, W] in [-1, 1], any height and width, kept; each call draws the latent of each picture anew."""
        return self.answer(image, torch.randn(len(image), self.latent_dim, device=image.device))

    def answer(self, image: Tensor, latent: Tensor) -> Tensor:
        """[n, C, H, W] and [n, latent_dim] to the answer that the latent names, [n, C, H, W]; `encode` tells the latents of others."""
        made: Tensor = self.generator(image, latent)
        return made

    def encode(self, x: Tensor) -> Tensor:
        """Answers [n, C, H, W] to the means of their latents, [n, latent_dim]."""
        mean: Tensor = self.encoder(x)[0]
        return mean


class Encoder(nn.Module):
    """A strided convolution, `blocks` residual blocks that halve, the mean over places, and a linear layer each for mu and log sigma^2."""

    def __init__(self, channels: int, latent_dim: int, width: int, blocks: int) -> None:
        super().__init__()
        maps = [width * min(level + 1, 4) for level in range(blocks + 1)]
        self.trunk = nn.Sequential(nn.Conv2d(channels, width, 4, 2, 1), *map(Halving, maps, maps[1:]), nn.LeakyReLU(0.2))
        self.mean, self.log_variance = nn.Linear(maps[-1], latent_dim), nn.Linear(maps[-1], latent_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[n, channels, h, w] to two of [n, latent_dim], in float32 also under autocast."""
        features = self.trunk(x).mean((2, 3))
        return self.mean(features).float(), self.log_variance(features).float()


class Halving(nn.Module):
    """[n, inputs, h, w] to [n, outputs, h / 2, w / 2]: a pre-activation residual block, halved by the mean of 2x2 at its end."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.InstanceNorm2d(inputs), nn.LeakyReLU(0.2), nn.Conv2d(inputs, inputs, 3, padding=1),
            nn.InstanceNorm2d(inputs), nn.LeakyReLU(0.2), nn.Conv2d(inputs, outputs, 3, padding=1), nn.AvgPool2d(2),
        )  # fmt: skip
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(inputs, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, h, w] to [n, outputs, h / 2, w / 2]."""
        both: Tensor = self.residual(x) + self.shortcut(x)
        return both


def fooling(said: list[Tensor]) -> Tensor:
    """E[(D(G(A, z)) - 1)^2], summed over the scales; 1/4 for each that says 1/2."""
    return 2 * torch.stack([leastsquares.generator(logits) for logits in said]).sum()


def telling(discriminator: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """E[(D(B) - 1)^2] + E[D(G(A, z))^2], summed over the scales; 1/2 for each that says 1/2 to everything."""
    # One pass, as no picture meets another in D.
    said = (logits.chunk(2) for logits in discriminator(torch.cat([real, fake])))
    return 2 * torch.stack([leastsquares.discriminator(on_real, on_fake) for on_real, on_fake in said]).sum()
