"""A discriminator that learns classes from few labels and many pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from ganforge.batches import ImageSpec, SemiLabelled
from ganforge.errors import RequestError
from ganforge.game import Game, Move, Player, Preset, register
from ganforge.nets import dcgan, init
from ganforge.nets.mlp import Affine
from ganforge.nets.sizes import side
from ganforge.objectives import nonsaturating
from ganforge.schedules import linear_decay


@register("sgan")
class SGAN(Game):
    r"""Improved Techniques for Training GANs. Salimans, Goodfellow, Zaremba, Cheung, Radford, Chen. NeurIPS 2016, arXiv:1606.03498.

    With `generator_loss` "fool" the generator is that of Semi-Supervised Learning with Generative Adversarial Networks. Odena. ICML
    2016 workshop, arXiv:1606.01583. Page and measured curves: docs/games/sgan.md

    A classifier of K classes with logits $l_k(x)$ has one more class, "generated", whose logit is 0, so that
    $D(x) = \frac{Z(x)}{Z(x) + 1}$ with $Z(x) = \sum_{k=1}^K \exp l_k(x)$. It learns classes from the few pictures with labels and to tell
    real from generated from all: $L_D = L_{labelled} + w L_{unlabelled}$ with
    $L_{labelled} = -E_{x,y}[\log p(y \mid x, y \leq K)]$ and
    $L_{unlabelled} = -\frac{1}{2} (E_x[\log D(x)] + E_z[\log(1 - D(G(z)))])$.
    The generator matches the mean of D's last hidden layer f, by $L_G = \frac{1}{n} \lVert E_x f(x) - E_z f(G(z)) \rVert_2^2$ where f has
    n units, or by the mean absolute difference instead, or it fools D: $L_G = -E_z[\log D(G(z))]$.

    Networks and numbers are those of openai/improved-gan, mnist_svhn_cifar10; the factor 1/2 is that code's. Departures: weight
    normalisation has learned scales in every layer and starts from He's weights (there 500 pictures set the scales, and only the last
    layer's learn); batch normalisation has gains; the convolutional generator starts as DCGAN's does and its last layer is not
    weight-normalised; Adam's epsilon stands outside the root; D's average starts at the weights, not at 0; the two players take turns
    at one order of the pictures, where the scripts have an order for each. Minibatch discrimination is left out.

    Args:
        network: that of the authors' MNIST script (mlp) or of their CIFAR-10 and SVHN scripts (conv).
        generator_loss: whether G matches D's features by the mean square (MNIST) or the mean absolute difference (l1), or fools D.
        weight: w, what the unlabelled loss counts beside the labelled one.
        units: the hidden layers of the discriminator mlp; the last is f.
        maps: the feature maps of the first three convolutions, and of the six after them; the last, averaged over the picture, are f.
        generator_units: the width of the two hidden layers of the generator mlp.
        generator_maps: the feature maps at half the picture's size of the convolutional generator, doubled at each level below.
        latent_dim: the dimension of z, which is uniform on [0, 1].
        lr: the learning rate of both players.
        betas: how slowly Adam forgets the gradients and their squares.
        decay: the rounds between which the learning rate falls, linearly, to 0; 0 0 for a constant rate.
        ema: the decay of the averaged discriminator that classifies after training; 0 for none.
    """

    rounds = 180_000  # 300 epochs of 60,000 pictures
    batch_size = 100
    couples_samples = True
    presets: ClassVar[dict[str, Preset]] = {
        "mnist": Preset("the authors' train_mnist_feature_matching.py", size=28, channels=1, labels=100),
        "cifar": Preset(
            "the authors' train_cifar_feature_matching.py", size=32, channels=3, labels=4000, network="conv",
            generator_loss="feature-matching-l1", lr=3e-4, rounds=600_000, decay=(400_000, 600_000),
        ),
        "svhn": Preset(
            "the authors' train_svhn_feature_matching.py", size=32, channels=3, labels=1000, network="conv", maps=(64, 128),
            generator_loss="feature-matching-l1", lr=3e-4, rounds=658_800, decay=(439_200, 658_800),
        ),
        "fool": Preset("Odena's generator loss, the rest as the default", generator_loss="fool"),
        "small": Preset(
            "100 labels of MNIST in a few minutes on one core: narrow", size=28, channels=1, labels=100, rounds=6000,
            units=(500, 250, 250), generator_units=250,
        ),
        "tiny": Preset(
            "for tests", size=16, channels=1, batch_size=8, units=(16, 8), maps=(4, 8), generator_units=8, generator_maps=4, latent_dim=4,
        ),
    }  # fmt: skip

    def __init__(
        self,
        data: ImageSpec,
        *,
        network: Literal["mlp", "conv"] = "mlp",
        generator_loss: Literal["feature-matching", "feature-matching-l1", "fool"] = "feature-matching",
        weight: float = 1.0,
        units: tuple[int, ...] = (1000, 500, 250, 250, 250),
        maps: tuple[int, int] = (96, 192),
        generator_units: int = 500,
        generator_maps: int = 128,
        latent_dim: int = 100,
        lr: float = 3e-3,
        betas: tuple[float, float] = (0.5, 0.999),
        decay: tuple[int, int] = (0, 0),
        ema: float = 0.9999,
    ) -> None:
        super().__init__()
        if len(data.classes) < 2:
            raise RequestError(f"data of {len(data.classes)} classes: this game needs two or more; give pictures of which some have labels")
        if not units:
            raise RequestError("units: the discriminator needs at least one hidden layer, from which its features are read")
        self.generator_loss, self.weight, self.latent_dim, self.ema = generator_loss, weight, latent_dim, ema
        self.adam, self.schedule = partial(torch.optim.Adam, lr=lr, betas=betas), linear_decay(*decay) if any(decay) else None
        if network == "mlp":
            self.generator: nn.Module = _mlp_generator(latent_dim, generator_units, data.shape)
            self.features = _mlp_features(math.prod(data.shape), units)
            self.classifier = nn.Sequential(Noise(0.5), nn.Linear(units[-1], len(data.classes)))
        else:
            side(data, (16, 28, 32, 64, 128))
            self.generator = dcgan.generator(latent_dim, data.shape, generator_maps)
            init.dcgan(self.generator)
            self.features = _conv_features(data.channels, *maps)
            self.classifier = nn.Sequential(nn.Linear(maps[1], len(data.classes)))
        for part in (self.features, self.classifier):
            # He's weights: the scales begin where the signal keeps its size beside the noise, from layer to layer.
            init.weights(part, nn.init.kaiming_normal_)
            for layer in list(init.weighted(part)):
                weight_norm(layer)

    def players(self) -> dict[str, Player]:
        """Adam for both; the classifier and what it rests on are the discriminator."""
        discriminator = nn.ModuleList([self.features, self.classifier])
        return {
            "discriminator": Player(discriminator, self.adam, self.schedule, self.ema),
            "generator": Player(self.generator, self.adam, self.schedule),
        }

    def play(self, batches: Iterator[SemiLabelled]) -> Iterator[Move]:
        """A step of the authors' scripts; the paper has no box."""
        batch = next(batches)
        fake = self.sample(self.latent(len(batch))).detach()
        # One pass, as no sample meets another in D.
        of_labelled, of_real, of_fake = self.logits(torch.cat([batch.labelled, batch.image, fake])).chunk(3)
        labelled = F.cross_entropy(of_labelled, batch.label)  # L_labelled
        on_real, on_fake = of_real.logsumexp(1), of_fake.logsumexp(1)  # log Z, the logit of D
        unlabelled = nonsaturating.discriminator(on_real, on_fake) / 2  # L_unlabelled
        seen = {"labelled": labelled, "unlabelled": unlabelled, "real": on_real.sigmoid(), "fake": on_fake.sigmoid()}
        yield Move("discriminator", labelled + self.weight * unlabelled, **seen)  # L_D
        image = next(batches).image  # the generator has a batch of its own
        yield Move("generator", self.generator_objective(image, self.sample(self.latent(len(image)))))  # L_G

    def generator_objective(self, real: Tensor, fake: Tensor) -> Tensor:
        """Pictures [n, C, H, W] and [m, C, H, W] to L_G; its gradient reaches the fakes alone."""
        if self.generator_loss == "fool":
            return nonsaturating.generator(self.logits(fake).logsumexp(1))  # -log D(G(z))
        apart = self.encode(real).detach().float().mean(0) - self.encode(fake).float().mean(0)  # E f(x) - E f(G(z))
        return apart.square().mean() if self.generator_loss == "feature-matching" else apart.abs().mean()

    def logits(self, x: Tensor) -> Tensor:
        """[n, C, H, W] to those of the K classes, [n, K]; that of a generated picture is 0."""
        logits: Tensor = self.classifier(self.features(x)).float()
        return logits

    def latent(self, n: int) -> Tensor:
        """[n, latent_dim], U[0, 1]."""
        return torch.rand(n, self.latent_dim, device=self.device)

    def sample(self, latent: Tensor) -> Tensor:
        """[n, latent_dim] to pictures, [n, C, H, W]."""
        pictures: Tensor = self.generator(latent)
        return pictures

    def classify(self, x: Tensor) -> Tensor:
        """[n, C, H, W] to the probability of each class, given that x is real, [n, K]."""
        return self.logits(x).softmax(1)

    def encode(self, x: Tensor) -> Tensor:
        """[n, C, H, W] to f(x), what the classes are read from: [n, units of f]."""
        features: Tensor = self.features(x)
        return features

    def judge(self, x: Tensor) -> Tensor:
        """[n, C, H, W] to D(x), [n]."""
        return self.logits(x).logsumexp(1).sigmoid()


class Noise(nn.Module):
    """x + `deviation` * N(0, 1) while it trains, x at rest."""

    def __init__(self, deviation: float) -> None:
        super().__init__()
        self.deviation = deviation

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, kept."""
        return x + self.deviation * torch.randn_like(x) if self.training else x


def _mlp_features(pixels: int, units: tuple[int, ...]) -> nn.Sequential:
    """[n, ...] to [n, units[-1]]: noise before every layer, of 0.3 on pixels from 0 to 1 and 0.5 on what follows."""
    layers: list[nn.Module] = [nn.Flatten(), Affine(0.5, 0.5), Noise(0.3), nn.Linear(pixels, units[0]), nn.ReLU()]
    for inputs, outputs in pairwise(units):
        layers += [Noise(0.5), nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers)


def _mlp_generator(latent_dim: int, units: int, shape: tuple[int, int, int]) -> nn.Sequential:
    """[n, latent_dim] to [n, *shape]; inside, pixels lie in [0, 1] as in the authors' script."""
    layers: list[nn.Module] = []
    for inputs in (latent_dim, units):
        layers += [nn.Linear(inputs, units, bias=False), nn.BatchNorm1d(units), nn.Softplus()]
    pixels = weight_norm(nn.Linear(units, math.prod(shape)))
    return nn.Sequential(*layers, pixels, nn.Sigmoid(), Affine(2, -1), nn.Unflatten(1, shape))


def _conv_features(channels: int, few: int, many: int) -> nn.Sequential:
    """[n, channels, h, w] to [n, many], h and w at least 9: nine convolutions, dropout before the 1st, the 4th and the 7th."""
    layers: list[nn.Module] = []
    for group, (maps, kernels, last) in enumerate([(few, (3, 3, 3), 2), (many, (3, 3, 3), 2), (many, (3, 1, 1), 1)]):
        layers += [nn.Dropout(0.5 if group else 0.2)]
        for kernel, stride in zip(kernels, (1, 1, last), strict=True):
            layers += [nn.Conv2d(channels, maps, kernel, stride, padding=int(group < 2)), nn.LeakyReLU(0.2)]
            channels = maps
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
