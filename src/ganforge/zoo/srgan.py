"""Small photographs become large ones: first as near to the truth as can be, then as sharp as it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganforge.batches import ImageSpec, LowHigh
from ganforge.errors import RequestError
from ganforge.game import Game, Move, Phase, Player, Preset, register
from ganforge.nets import srresnet
from ganforge.nets.vgg import VGG19
from ganforge.objectives import nonsaturating
from ganforge.schedules import cosine, exponential


@register("srgan")
class SRGAN(Game):
    r"""Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network. Ledig, Theis, Huszár, Caballero, Cunningham,
    Acosta, Aitken, Tejani, Totz, Wang, Shi. CVPR 2017, arXiv:1609.04802.

    Page and measured runs: docs/games/srgan.md

    First G, the SRResNet, learns alone to make of $I^{LR}$ what is nearest to $I^{HR}$ on average, which is blurred:
    $l_{MSE} = \frac{1}{r^2WH} \sum_{x,y} (I^{HR}_{x,y} - G(I^{LR})_{x,y})^2$. Then it also has to pass for real,
    $l^{SR} = l_X + 10^{-3} l_{Gen}$ with $l_{Gen} = E[-\log D(G(I^{LR}))]$, against
    $L_D = -E[\log D(I^{HR})] - E[\log(1 - D(G(I^{LR})))]$. The content $l_X$ is compared in the features of a VGG19,
    $l_{VGG/i.j} = \frac{1}{W_{i,j}H_{i,j}} \sum_{x,y} (\phi_{i,j}(I^{HR})_{x,y} - \phi_{i,j}(G(I^{LR}))_{x,y})^2$, divided by 12.75
    first. Without such a network, which is no part of this package, it is $l_X = l_{MSE}$, the paper's SRGAN-MSE: sharper than SRResNet,
    less so than SRGAN.

    The authors published no code. Departures: a mean over the maps of phi, where the paper's sum names none; small pictures lie in
    [-1, 1], there in [0, 1]; the paper's total variation, of weight 2e-8 in some of its variants, is left out.

    Args:
        features: a file of the weights of a VGG19 in torchvision's layout, or vgg19, which downloads them; empty: l_MSE in place of l_VGG.
        layer: i_j, of which convolution phi are the maps, after its ReLU: 5_4, or 2_2 for finer things.
        adversarial: the weight of l_Gen.
        pretrain_rounds: the rounds of the first phase; --rounds are those of the second.
        width: the feature maps of G.
        blocks: the residual blocks of G.
        discriminator_width: the feature maps of D at full size.
        stages: how often D halves the picture.
        units: of the dense layer of D.
        pretrain_lr: the learning rate of the first phase.
        pretrain_cosine: whether it falls along a cosine to 0, as in XPixelGroup/BasicSR; the paper's stays.
        lr: the learning rate of both players in the second phase.
        lr_every: after how many rounds of the second phase its learning rate falls to a tenth.
        betas: how slowly Adam forgets the gradients and their squares.
    """

    rounds = 200_000
    batch_size = 16
    reading: ClassVar[dict[str, Any]] = {"size": 96, "fit": "patch", "factor": 4}
    presets: ClassVar[dict[str, Preset]] = {
        "vgg54": Preset("the paper's SRGAN: perceptual features, downloaded when it is first run", features="vgg19"),
        "small": Preset(
            "photographs twice as large, in minutes on one core", size=32, fit="patch", factor=2, flip=True, batch_size=4,
            pretrain_rounds=5000, rounds=1500, width=32, blocks=4, discriminator_width=16, stages=3, units=64,
            pretrain_lr=1e-3, pretrain_cosine=True,
        ),
        "tiny": Preset(
            "for tests", size=8, channels=1, batch_size=4, features="", pretrain_rounds=2,
            width=4, blocks=1, discriminator_width=4, stages=2, units=8,
        ),
    }  # fmt: skip

    def __init__(
        self,
        data: ImageSpec,
        *,
        features: str = "",
        layer: str = "5_4",
        adversarial: float = 1e-3,
        pretrain_rounds: int = 1_000_000,
        width: int = 64,
        blocks: int = 16,
        discriminator_width: int = 64,
        stages: int = 4,
        units: int = 1024,
        pretrain_lr: float = 1e-4,
        pretrain_cosine: bool = False,
        lr: float = 1e-4,
        lr_every: int = 100_000,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        super().__init__()
        if pretrain_rounds < 0 or lr_every < 1:
            raise RequestError(f"pretrain_rounds = {pretrain_rounds}, lr_every = {lr_every}: give at least 0 and at least 1")
        self.shape, self.features, self.layer, self.adversarial = data.shape, features, layer, adversarial
        self.pretrain_rounds = pretrain_rounds
        self.generator = srresnet.generator(data.channels, data.factor, width, blocks)
        self.discriminator = srresnet.discriminator(data.shape, discriminator_width, stages, units)
        self.perceptual: VGG19 | None = None
        self.pretrain_adam = partial(torch.optim.Adam, lr=pretrain_lr, betas=betas)
        self.pretrain_schedule = cosine(pretrain_rounds) if pretrain_cosine else None
        self.adam, self.schedule = partial(torch.optim.Adam, lr=lr, betas=betas), exponential(0.1, lr_every)
        self.reach = _reach(self.generator)

    def players(self) -> dict[str, Player]:
        """G sits twice: alone and against D it has a learning rate, and moments of Adam, of its own."""
        if self.features:
            # Here and not before: who only upscales needs no such file.
            self.perceptual = VGG19(self.features, self.layer).to(self.device)
            _, height, width = self.shape
            least = 2 ** self.perceptual.steps.count("pool")
            if min(height, width) < least:
                raise RequestError(
                    f"layer {self.layer} of pictures of {width}x{height}: it needs {least} pixels a side; take a larger --size"
                )
        return {
            "srresnet": Player(self.generator, self.pretrain_adam, self.pretrain_schedule),
            "discriminator": Player(self.discriminator, self.adam, self.schedule),
            "generator": Player(self.generator, self.adam, self.schedule),
        }

    def phases(self) -> list[Phase]:
        """Pre-training keeps G from the poor optima that it would find against D from scratch."""
        return [Phase("pretrain", self.pretrain, self.pretrain_rounds), Phase("play", self.play)]

    def pretrain(self, batches: Iterator[LowHigh]) -> Iterator[Move]:
        """SRResNet: one step on the mean squared error."""
        batch = next(batches)
        yield Move("srresnet", F.mse_loss(self.generator(batch.low), batch.high))  # l_MSE

    def play(self, batches: Iterator[LowHigh]) -> Iterator[Move]:
        """SRGAN: one step each, on one answer; the paper has no box."""
        batch = next(batches)
        fake = self.generator(batch.low)  # G(I^LR)
        on_real, on_fake = self.discriminator(batch.high), self.discriminator(fake.detach())
        loss = nonsaturating.discriminator(on_real, on_fake)  # -log D(I^HR) - log(1 - D(G(I^LR)))
        yield Move("discriminator", loss, real=on_real.sigmoid(), fake=on_fake.sigmoid())
        content = self.content(fake, batch.high)
        deceit = nonsaturating.generator(self.discriminator(fake))  # l_Gen = -log D(G(I^LR))
        yield Move("generator", content + self.adversarial * deceit, content=content)  # l^SR = l_X + 10^-3 l_Gen

    def content(self, made: Tensor, wanted: Tensor) -> Tensor:
        """l_X of pictures [n, C, H, W], a scalar: their distance in the features of the VGG19, or without one in pixels."""
        if self.perceptual is None:
            return F.mse_loss(made, wanted)  # l_MSE
        with torch.no_grad():
            wanted = self.perceptual(wanted)
        return F.mse_loss(self.perceptual(made), wanted) / 12.75**2  # l_VGG/i.j of phi / 12.75

    def notes(self) -> list[str]:
        """What a user should know of this setting before it is trained, a line each."""
        if self.features:
            return []
        return [
            "no --features: the content loss is the mean squared error, the paper's SRGAN-MSE; its SRGAN has --features vgg19, or a file"
        ]

    def upscale(self, image: Tensor) -> Tensor:
        """[n, C, h, w] in [-1, 1] to [n, C, factor * h, factor * w], any height and width; whoever shows it clips it to [-1, 1]."""
        large: Tensor = self.generator(image)
        return large


def _reach(network: nn.Module) -> int:
    """How many pixels of the input away from its own place a pixel of the output depends on, from the last layer back to the first."""
    reach = 0
    for layer in reversed(list(network.modules())):
        if isinstance(layer, nn.Conv2d):
            reach += layer.kernel_size[0] // 2
        elif isinstance(layer, nn.PixelShuffle):
            reach = -(-reach // layer.upscale_factor)
    return reach
