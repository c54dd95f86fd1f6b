"""Filling a hole from what is around it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ganforge.batches import ImageSpec, Masked
from ganforge.errors import RequestError
from ganforge.game import Game, Move, Player, Preset, register
from ganforge.nets import init
from ganforge.nets.sizes import side
from ganforge.objectives import nonsaturating

_MEAN = (117.0, 104.0, 123.0)  # of 255, as the authors' train.lua fills its holes


@register("context-encoder")
class ContextEncoder(Game):
    r"""Context Encoders: Feature Learning by Inpainting. Pathak, Krahenbuhl, Donahue, Darrell, Efros. CVPR 2016, arXiv:1604.07379.

    Page and measured curves: docs/games/context-encoder.md

    The mask $\hat M$ is 1 where pixels are removed; F predicts them from the rest, D sees the prediction and not what is around it:
    $L_{rec} = \lVert \hat M \odot (x - F((1 - \hat M) \odot x)) \rVert_2^2$,
    $L_{adv} = \max_D E[\log D(x) + \log(1 - D(F((1 - \hat M) \odot x)))]$ and $L = \lambda_{rec} L_{rec} + \lambda_{adv} L_{adv}$.

    Networks and numbers are those of the authors' code, pathak22/context-encoder, from which also: removed pixels have a mean colour;
    norms are means over all pixels predicted, of which those that F was shown count `overlap_weight` times; F maximises log D.
    Departures: F answers the D that has just moved, where the code reuses D's earlier outputs; the code's options of a noise vector and
    of a discriminator that sees the context, and the paper's AlexNet for learning features, are left out.

    Args:
        region: what F predicts: the middle half of each side, whatever the data's masks say (centre), or the whole picture (any).
        overlap: by how many pixels on each side the hole is smaller than the region predicted, where that is the centre.
        overlap_weight: the weight of an error at a pixel that was shown, where one in the hole weighs 1.
        lambda_rec: the weight of the squared error.
        lambda_adv: the weight of the adversarial loss.
        width: the feature maps of the finest level of all networks.
        bottleneck: how many numbers F makes of the picture before it draws.
        lr: the discriminator's learning rate.
        lr_ratio: the generator's learning rate, as a multiple.
        betas: how slowly Adam forgets the gradients and their squares.
    """

    rounds = 100_000
    batch_size = 64
    presets: ClassVar[dict[str, Preset]] = {
        "centre": Preset("the authors' train.lua", size=128, channels=3),
        "random": Preset("the authors' train_random.lua", size=128, channels=3, region="any", overlap_weight=1.0, mask="free"),
        "small": Preset(
            "the centre of faces in minutes on one core",
            size=64, channels=3, flip=True, overlap=0, width=16, bottleneck=256, batch_size=32, rounds=3000,
        ),
        "tiny": Preset("for tests", size=16, channels=1, batch_size=8, width=4, bottleneck=8, overlap=1),
    }  # fmt: skip

    mean: Tensor
    hole: Tensor

    def __init__(
        self,
        data: ImageSpec,
        *,
        region: Literal["centre", "any"] = "centre",
        overlap: int = 4,
        overlap_weight: float = 10.0,
        lambda_rec: float = 0.999,
        lambda_adv: float = 0.001,
        width: int = 64,
        bottleneck: int = 4000,
        lr: float = 2e-4,
        lr_ratio: float = 10.0,
        betas: tuple[float, float] = (0.5, 0.999),
    ) -> None:
        super().__init__()
        size = side(data, (16, 32, 64, 128, 256))
        if not 0 <= overlap < size // 4:
            raise RequestError(
                f"overlap = {overlap}: of the centre of {size // 2} pixels a hole must be left; at least 0, at most {size // 4 - 1}"
            )
        quarter = size // 4 if region == "centre" else 0
        self.region, self.pixels = region, slice(quarter, size - quarter)
        self.overlap_weight, self.lambda_rec, self.lambda_adv = overlap_weight, lambda_rec, lambda_adv
        channels, part = data.channels, size - 2 * quarter
        self.encoder = nn.Sequential(_down(channels, size, width, bottleneck), nn.BatchNorm2d(bottleneck), nn.LeakyReLU(0.2))
        self.decoder = _up(bottleneck, part, width, channels)
        self.discriminator: nn.Module = nn.Sequential(_down(channels, part, width, 1), nn.Flatten(0))
        init.dcgan(self)
        adam = partial(torch.optim.Adam, betas=betas)
        self.adam_d, self.adam_g = partial(adam, lr=lr), partial(adam, lr=lr_ratio * lr)
        mean = torch.tensor(_MEAN if channels == 3 else (sum(_MEAN) / 3,)) / 127.5 - 1
        self.register_buffer("mean", mean[None, :, None, None])
        hole = torch.zeros(1, 1, size, size)
        hole[:, :, quarter + overlap : size - quarter - overlap, quarter + overlap : size - quarter - overlap] = 1
        self.register_buffer("hole", hole)

    def players(self) -> dict[str, Player]:
        """Adam for both, the generator's ten times faster."""
        generator = Player(nn.ModuleList([self.encoder, self.decoder]), self.adam_g)
        return {"discriminator": Player(self.discriminator, self.adam_d), "generator": generator}

    def play(self, batches: Iterator[Masked]) -> Iterator[Move]:
        """train.lua, and train_random.lua for any region; the paper has no box."""
        batch = next(batches)
        mask = self.hole.expand_as(batch.mask) if self.region == "centre" else batch.mask  # M
        real, removed = self.cut(batch.image), self.cut(mask)
        made = self.predict(batch.image, mask)  # F((1 - M) x)
        on_real, on_made = self.discriminator(real), self.discriminator(made.detach())
        loss = nonsaturating.discriminator(on_real, on_made)  # -log D(x) - log(1 - D(F((1 - M) x)))
        yield Move("discriminator", loss, real=on_real.sigmoid(), fake=on_made.sigmoid())
        error = (real - made.float()).square()
        weight = removed + self.overlap_weight * (1 - removed)
        adversarial = nonsaturating.generator(self.discriminator(made))  # -log D(F((1 - M) x))
        loss = self.lambda_rec * (weight * error).mean() + self.lambda_adv * adversarial  # L
        yield Move("generator", loss, error=error, adversarial=adversarial)

    def cut(self, x: Tensor) -> Tensor:
        """[n, C, H, W] to the region that is predicted, [n, C, h, w]."""
        return x[:, :, self.pixels, self.pixels]

    def predict(self, image: Tensor, mask: Tensor) -> Tensor:
        """The region [n, C, h, w], from pictures [n, C, H, W] without the pixels where the mask [n, 1, H, W] is 1."""
        made: Tensor = self.decoder(self.encoder(torch.where(mask > 0, self.mean, image)))
        return made

    def inpaint(self, image: Tensor, mask: Tensor) -> Tensor:
        """[n, C, H, W] and [n, 1, H, W] to the picture with its hole filled; beyond the region predicted with the mean colour."""
        hidden = torch.maximum(mask, self.hole) if self.region == "centre" else mask
        filled = self.mean.expand_as(image).clone()
        filled[:, :, self.pixels, self.pixels] = self.predict(image, hidden).to(filled.dtype)
        return torch.where(mask > 0, filled, image)

    def encode(self, x: Tensor) -> Tensor:
        """[n, C, H, W], whole, to the bottleneck, [n, bottleneck]."""
        code: Tensor = self.encoder(x)
        return code.flatten(1)


def _maps(size: int, width: int) -> list[int]:
    """The feature maps at half of `size`, at a quarter, ... at 4 pixels: the last four levels double. 128: 64, 64, 128, 256, 512."""
    levels = size.bit_length() - 3
    return [width * 2 ** max(0, level - max(0, levels - 4)) for level in range(levels)]


def _down(channels: int, size: int, width: int, outputs: int) -> nn.Module:
    """[n, channels, size, size] to [n, outputs, 1, 1]."""
    layers: list[nn.Module] = []
    for level, maps in enumerate(_maps(size, width)):
        # The code sets all biases of convolutions to 0 before each step, which is to have none.
        layers += [nn.Conv2d(channels, maps, 4, 2, 1, bias=False), *([nn.BatchNorm2d(maps)] if level else []), nn.LeakyReLU(0.2)]
        channels = maps
    return nn.Sequential(*layers, nn.Conv2d(channels, outputs, 4, bias=False))


def _up(inputs: int, size: int, width: int, channels: int) -> nn.Module:
    """[n, inputs, 1, 1] to [n, channels, size, size] in [-1, 1]."""
    *finer, maps = _maps(size, width)
    layers: list[nn.Module] = [nn.ConvTranspose2d(inputs, maps, 4, bias=False), nn.BatchNorm2d(maps), nn.ReLU()]
    for fewer in reversed(finer):
        layers += [nn.ConvTranspose2d(maps, fewer, 4, 2, 1, bias=False), nn.BatchNorm2d(fewer), nn.ReLU()]
        maps = fewer
    return nn.Sequential(*layers, nn.ConvTranspose2d(maps, channels, 4, 2, 1, bias=False), nn.Tanh())
