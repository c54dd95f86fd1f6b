"""The way back: from a picture to the latent of which a generator makes what comes nearest to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ganforge.batches import ImageSpec
from ganforge.capabilities import Encodes, Samples, able
from ganforge.errors import RequestError
from ganforge.game import Game
from ganforge.use.conditions import latents, latents_of_class, noise_columns
from ganforge.use.seeds import seeded

# Of the first the ranges are taken, of the second pictures are made.
_DRAWS = 2048
_LOOKED_AT = 256
_CHUNK = 32
_RATE = 0.1
_COARSEST = 8

Report = Callable[[int, int, float], None]
"""Told after each step how many are done, of how many, and the root of the least loss, in levels of 255."""


def project(
    game: Game,
    image: Tensor,
    spec: ImageSpec,
    *,
    steps: int = 300,
    restarts: int = 4,
    seed: int = 0,
    label: int | None = None,
    report: Report | None = None,
) -> tuple[Tensor, Tensor]:
    """A picture, [1, *spec.shape] in [-1, 1], to the latent [1, k] whose sample comes nearest to it, and that sample, [1, *spec.shape].

    Of 256 draws the `restarts` nearest, each of another condition where there are conditions, descend the squared error of pixels, averaged
    over sizes halved down to 8 pixels; after a third of the `steps` the best goes on. Only noise moves, by Adam: a condition stays one that
    the game draws, or the class of number `label`. The latent stays where draws lie, each number within their range and the norm within
    theirs: from farther away a generator may come nearer, but such latents are none of its own. The same seed gives the same latent.

    Gradient descent to a given picture: Zhu et al. 2016, arXiv:1609.03552; numbers clipped to their range: Lipton and Tripathi 2017,
    arXiv:1702.04782. RequestError where the game does not sample, or the picture has another shape.
    """
    sampler = able(game, Samples)
    if image.shape != (1, *spec.shape):
        raise RequestError(f"a picture of shape {list(image.shape)}: this game's are {[1, *spec.shape]}")
    if steps < 1 or restarts < 1:
        raise RequestError(f"{steps} steps from {restarts} starts: must be at least 1 of each")
    noise = noise_columns(game, spec).to(game.device)
    with seeded(seed, game.device):
        drawn = latents(game, _DRAWS) if label is None else latents_of_class(game, label, _DRAWS)
    law = _Law.of(drawn[:, noise])
    aim = _Aim(sampler, image.to(game.device).float(), noise, law, seed)
    drawn = drawn[:_LOOKED_AT]
    chosen = drawn[_spread(aim.losses(drawn), drawn[:, ~noise])[:restarts]]
    if isinstance(game, Encodes) and noise.all():
        chosen = _with_code(game, chosen, aim)
    first = 0 if len(chosen) == 1 else -(-steps // 3)
    chosen = aim.descended(chosen, range(first), steps, report)
    best = aim.descended(chosen[aim.losses(chosen).argmin()][None], range(first, steps), steps, report)
    with torch.no_grad():
        return best, aim.sample(best)


def error_of(picture: Tensor, image: Tensor) -> float:
    """How far pictures [n, C, H, W] are from each other: the root of the mean squared difference, in levels of 255."""
    difference = picture.detach().cpu().clamp(-1, 1) - image.cpu().clamp(-1, 1)
    return 127.5 * float(difference.square().mean().sqrt())


@dataclass(frozen=True)
class _Law:
    """What draws say of noise [n, k]: each column's mean, deviation and range, [k], and the range of the norms of standardised rows."""

    mean: Tensor
    deviation: Tensor
    least: Tensor
    most: Tensor
    norms: tuple[float, float]

    @classmethod
    def of(cls, drawn: Tensor) -> _Law:
        mean, deviation = drawn.mean(dim=0), drawn.std(dim=0)
        standard = (drawn - mean) / deviation
        norms = standard.norm(dim=1)
        return cls(mean, deviation, standard.amin(dim=0), standard.amax(dim=0), (norms.min().item(), norms.max().item()))

    def standard(self, noise: Tensor) -> Tensor:
        """Noise without its mean, in deviations."""
        return (noise - self.mean) / self.deviation

    def within(self, standard: Tensor) -> Tensor:
        """What is nearest to standardised noise, [n, k], among what could be drawn."""
        norm: Tensor = standard.norm(dim=1, keepdim=True).clamp_min(1e-12)
        return (standard * (norm.clamp(*self.norms) / norm)).clamp(self.least, self.most)


@dataclass(frozen=True)
class _Aim:
    """A picture to come near to, [1, C, H, W], by the noise of a game's latents."""

    sampler: Samples
    image: Tensor
    noise: Tensor
    law: _Law
    seed: int

    def sample(self, latent: Tensor) -> Tensor:
        """[n, k] to [n, C, H, W]; noise that the game adds of its own is the same at every step."""
        with seeded(self.seed, latent.device):
            return self.sampler.sample(latent).float()

    def loss(self, latent: Tensor) -> Tensor:
        """[n, k] to [n]: the mean squared error of the pictures, averaged over sizes."""
        difference = self.sample(latent) - self.image
        errors = [difference.square().mean(dim=(1, 2, 3))]
        while min(difference.shape[2:]) >= 2 * _COARSEST:
            difference = F.avg_pool2d(difference, 2)
            errors.append(difference.square().mean(dim=(1, 2, 3)))
        return torch.stack(errors).mean(dim=0)

    def losses(self, latent: Tensor) -> Tensor:
        """The same without a gradient, a few at a time."""
        with torch.no_grad():
            return torch.cat([self.loss(part) for part in latent.split(_CHUNK)])

    def descended(self, latent: Tensor, course: range, steps: int, report: Report | None) -> Tensor:
        """Latents [n, k] after the steps of this `course`, of `steps` in all; each row as if it were alone."""
        if not course:
            return latent
        moving = self.law.standard(latent[:, self.noise]).requires_grad_()
        optimiser = torch.optim.Adam([moving], lr=_RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, len(course))
        for step in course:
            with torch.enable_grad():
                losses = self.loss(self._placed(latent, moving))
                # With respect to the latent alone, also of a game whose weights still want gradients.
                (moving.grad,) = torch.autograd.grad(losses.sum(), moving)
            optimiser.step()
            schedule.step()
            with torch.no_grad():
                moving.copy_(self.law.within(moving))
            if report is not None:
                report(step + 1, steps, 127.5 * float(losses.detach().min().sqrt()))
        return self._placed(latent, moving.detach())

    def _placed(self, latent: Tensor, standard: Tensor) -> Tensor:
        placed = latent.clone()
        placed[:, self.noise] = self.law.mean + self.law.deviation * standard
        return placed


def _spread(losses: Tensor, conditions: Tensor) -> Tensor:
    """The numbers of draws from the least loss on, the best of each condition [n, c] before the second of any."""
    order = losses.argsort(stable=True)
    met: Counter[tuple[float, ...]] = Counter()
    turns = []
    for condition in map(tuple, conditions[order].tolist()):
        turns.append(met[condition])
        met[condition] += 1
    return order[torch.tensor(turns).argsort(stable=True).to(order.device)]


def _with_code(game: Encodes, chosen: Tensor, aim: _Aim) -> Tensor:
    """One more start, where codes of pictures are as long as latents: those of an autoencoder are latents, others will lose."""
    with torch.no_grad():
        code = game.encode(aim.image).float()
    if code.shape[1:] != chosen.shape[1:]:
        return chosen
    law = aim.law
    return torch.cat([chosen, law.mean + law.deviation * law.within(law.standard(code))])
