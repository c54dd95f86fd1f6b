"""An autoencoder whose codes are draws from a prior."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganforge.batches import Images, ImageSpec, Points, SemiLabelled, Spec
from ganforge.errors import RequestError
from ganforge.game import Game, Move, Player, Preset, register
from ganforge.nets import init
from ganforge.nets.mlp import Affine, mlp
from ganforge.objectives import nonsaturating

_SMALL: dict[str, Any] = {"width": 256, "init_std": 0.0, "prior_std": 1.0}


@register("aae")
class AAE(Game):
    r"""Adversarial Autoencoders. Makhzani, Shlens, Jaitly, Goodfellow, Frey. ICLR 2016 workshop, arXiv:1511.05644.

    Page and measured curves: docs/games/aae.md

    An encoder $q$ and a decoder $p$ reconstruct, $L_{rec} = \frac{1}{2} E_x[\lVert x - p(q(x)) \rVert^2]$. In the space of codes an
    adversary makes the codes of all data together look like the prior $p(z) = N(0, s^2 I)$:
    $L_D = -E_{z \sim p(z)}[\log D(z)] - E_x[\log(1 - D(q(x)))]$ and, for the encoder, $L_q = -E_x[\log D(q(x))]$.

    Beside z the decoder can be given a one-hot y of K: the known class (supervised: z keeps the style), or what the encoder infers as a
    softmax $q(y | x)$, whose own adversary has one-hots of $p(y) = 1 / K$ for real. Then $L_D$ and $L_q$ have a term for each adversary.
    Where few classes are known (semi-supervised), the encoder also descends $L_y = -E_{x, y}[\log q(y | x)]$; where none are
    (clustering), K is free. A phase has its own optimiser, and its own momentum, for the encoder that all of them share.

    Departures: reconstruction is descended by Adam, where the paper has SGD in all phases; both adversaries move at once, and the
    encoder answers both in one step; pixels lie in [-1, 1], which makes $L_{rec}$ four times that of [0, 1]. `noise` is not the paper's.
    Left out: stochastic encoders, labels in the adversary (with a mixture for a prior), cluster heads in the plane.

    Args:
        variant: what y is: absent, the known class (supervised), inferred with the help of few labels (semi-supervised), or of none.
        latent_dim: the dimension of z.
        prior_std: s, the standard deviation of z.
        groups: K of the variant clustering; the others have as many as there are classes.
        width: the units of both hidden layers of every network.
        dropout: the share of the encoder's inputs that training hides from it.
        noise: the standard deviation of what y's adversary sees added to y; it else tells a softmax from a one-hot by its last digits.
        init_std: the standard deviation of the first weights; 0 for torch's own initialisation.
        lr: the learning rate of the reconstruction phase, Adam's.
        adversarial_lr: that of the regularisation phase, of SGD with momentum 0.1.
        label_lr: that of the classification phase, of SGD with momentum 0.9.
        lr_drop: the round from which all three are a tenth; 0 for never.
    """

    rounds = 600_000  # 1000 epochs of MNIST
    batch_size = 100
    presets: ClassVar[dict[str, Preset]] = {
        "discrete": Preset(
            "the paper's where there is y: 16 groups, or --variant semi-supervised or supervised",
            variant="clustering", latent_dim=10, prior_std=1.0, dropout=0.2,
        ),
        "map": Preset("MNIST on a plane in a minute: z has two numbers", latent_dim=2, rounds=3000, lr_drop=2500, **_SMALL),
        "small": Preset(
            "MNIST in 30 groups in two minutes, or with --variant semi-supervised --labels 100 --dropout 0.2",
            variant="clustering", groups=30, latent_dim=5, noise=0.3, rounds=5000, lr_drop=4000, **_SMALL,
        ),
        "tiny": Preset("for tests", size=8, channels=1, batch_size=8, width=8, latent_dim=2, groups=3, init_std=0.0, lr_drop=3),
    }  # fmt: skip

    def __init__(
        self,
        data: Spec,
        *,
        variant: Literal["unsupervised", "supervised", "semi-supervised", "clustering"] = "unsupervised",
        latent_dim: int = 8,
        prior_std: float = 5.0,
        groups: int = 16,
        width: int = 1000,
        dropout: float = 0.0,
        noise: float = 0.0,
        init_std: float = 0.01,
        lr: float = 1e-3,
        adversarial_lr: float = 0.1,
        label_lr: float = 0.1,
        lr_drop: int = 30_000,
    ) -> None:
        super().__init__()
        classes = len(data.classes) if isinstance(data, ImageSpec) else 0
        if variant in ("supervised", "semi-supervised") and not classes:
            raise RequestError(f"variant = {variant}: the data have no classes; give pictures with labels, or take variant = clustering")
        if variant == "clustering" and groups < 2:
            raise RequestError(f"groups = {groups}: to sort, there must be at least two")
        self.setting, self.latent_dim, self.prior_std, self.lr_drop = variant, latent_dim, prior_std, lr_drop
        self.kinds = {"unsupervised": 0, "clustering": groups}.get(variant, classes)
        self.infers = variant in ("semi-supervised", "clustering")
        self.reconstructing = partial(torch.optim.Adam, lr=lr)
        self.regularising = partial(torch.optim.SGD, lr=adversarial_lr, momentum=0.1)
        self.classifying = partial(torch.optim.SGD, lr=label_lr, momentum=0.9)
        if variant in ("supervised", "semi-supervised"):
            # On the instance, as the class cannot: who draws a run asks it whether it can be asked for a class.
            self.latent_of_class = self._latent_of_class
        numbers, hidden = math.prod(data.shape), (width, width)
        # Inside the networks pixels lie in [0, 1], as in the paper: what dropout hides is black.
        before = [Affine(0.5, 0.5)] if isinstance(data, ImageSpec) else []
        after = [nn.Sigmoid(), Affine(2, -1), nn.Unflatten(1, data.shape)] if isinstance(data, ImageSpec) else []
        inferred = latent_dim + (self.kinds if self.infers else 0)
        self.encoder = nn.Sequential(nn.Flatten(), *before, nn.Dropout(dropout), mlp(numbers, *hidden, inferred))
        self.decoder = nn.Sequential(mlp(self.kinds + latent_dim, *hidden, numbers), *after)
        self.discriminators = nn.ModuleDict(
            {"z_discriminator": nn.Sequential(_Columns(slice(-latent_dim, None)), mlp(latent_dim, *hidden, 1), nn.Flatten(0))}
        )
        if self.infers:
            y = _Columns(slice(None, -latent_dim), noise)
            self.discriminators["y_discriminator"] = nn.Sequential(y, mlp(self.kinds, *hidden, 1), nn.Flatten(0))
        if init_std:
            init.weights(self, partial(nn.init.normal_, std=init_std))

    def players(self) -> dict[str, Player]:
        """A player for each phase in which the encoder moves, and the discriminators."""
        drop = (lambda round: 0.1 if round >= self.lr_drop else 1.0) if self.lr_drop else None
        players = {"autoencoder": Player(nn.ModuleList([self.encoder, self.decoder]), self.reconstructing, drop)}
        players |= {name: Player(network, self.regularising, drop) for name, network in self.discriminators.items()}
        players["encoder"] = Player(self.encoder, self.regularising, drop)
        return players | ({"classifier": Player(self.encoder, self.classifying, drop)} if self.setting == "semi-supervised" else {})

    def play(self, batches: Iterator[SemiLabelled | Images | Points]) -> Iterator[Move]:
        """The phases of the paper on one mini-batch; it prints no box."""
        batch, known = next(batches), self.setting == "supervised"
        fields = batch.tensors()
        x = fields["labelled"] if known else batch.x
        # Reconstruction phase: encoder and decoder.
        code = self.encode(x)
        made = self.sample(torch.cat([self.one_hot(fields["label"]), code], 1) if known else code)
        yield Move("autoencoder", 0.5 * (x - made).square().flatten(1).sum(1).mean())  # L_rec
        # Regularisation phase: first the discriminators, of which each looks at its part of the code, then the encoder.
        real, fake = self.latent(len(x)), self.encode(x)
        adversaries = self.discriminators.items()
        yield Move.together(**{name: nonsaturating.discriminator(D(real), D(fake.detach())) for name, D in adversaries})  # L_D
        yield Move("encoder", torch.stack([nonsaturating.generator(D(fake)) for _, D in adversaries]).sum())  # L_q
        # Semi-supervised classification phase: the encoder.
        if self.setting == "semi-supervised":
            said = self.encoder(fields["labelled"])[:, : self.kinds]
            yield Move("classifier", F.cross_entropy(said, fields["label"]), right=(said.argmax(1) == fields["label"]).float())  # L_y

    def one_hot(self, label: Tensor) -> Tensor:
        """[n] int64 to y, [n, K]."""
        return torch.eye(self.kinds, device=label.device)[label]

    def latent(self, n: int) -> Tensor:
        """z from N(0, s^2), and before it, where there is y, a random one: [n, K + latent_dim]."""
        if self.kinds:
            return self._latent_of_class(torch.rand(n, self.kinds, device=self.device).argmax(1))
        return self.prior_std * torch.randn(n, self.latent_dim, device=self.device)

    def _latent_of_class(self, label: Tensor) -> Tensor:
        """[n] int64 to [n, K + latent_dim]: this y, and z from N(0, s^2)."""
        z = self.prior_std * torch.randn(len(label), self.latent_dim, device=self.device)
        return torch.cat([self.one_hot(label), z], 1)

    def sample(self, latent: Tensor) -> Tensor:
        """[n, K + latent_dim] to pictures in [-1, 1] or to points, [n, *shape]: the decoder."""
        made: Tensor = self.decoder(latent)
        return made

    def encode(self, x: Tensor) -> Tensor:
        """[n, *shape] to q(x): z, [n, latent_dim], and before it, where it is inferred, q(y|x): [n, K + latent_dim]."""
        code: Tensor = self.encoder(x)
        return torch.cat([code[:, : self.kinds].softmax(1), code[:, self.kinds :]], 1) if self.infers else code

    def classify(self, x: Tensor) -> Tensor:
        """[n, *shape] to q(y|x), [n, classes]; RequestError unless the run is of the variant semi-supervised."""
        return self._inferred(x, "semi-supervised")

    def cluster(self, x: Tensor) -> Tensor:
        """[n, *shape] to q(y|x), [n, groups]; RequestError unless the run is of the variant clustering."""
        return self._inferred(x, "clustering")

    def _inferred(self, x: Tensor, variant: str) -> Tensor:
        if self.setting != variant:
            raise RequestError(f"this game is of the variant {self.setting}; train one with --variant {variant} for that")
        return self.encode(x)[:, : self.kinds]


class _Columns(nn.Module):
    """[n, k] to these of its columns; in training with noise."""

    def __init__(self, columns: slice, noise: float = 0.0) -> None:
        super().__init__()
        self.columns, self.noise = columns, noise

    def forward(self, code: Tensor) -> Tensor:
        """[n, k] to [n, columns]."""
        part = code[:, self.columns]
        return part + self.noise * torch.randn_like(part) if self.training and self.noise else part
