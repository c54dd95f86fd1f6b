"""Between latents: the way from one seed's sample to another's."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from ganforge.errors import RequestError
from ganforge.game import Game
from ganforge.use.conditions import latents, latents_of_class
from ganforge.use.seeds import seeded


def latents_of_seeds(game: Game, seeds: tuple[int, ...], label: int | None = None) -> Tensor:
    """One latent per seed, [len(seeds), ...], of the class of number `label` if given; a seed names the same latent in every call."""
    if not seeds:
        raise RequestError("--seeds: name at least two, e.g. --seeds 1 2")
    drawn = []
    for seed in seeds:
        with seeded(seed, game.device):
            drawn.append(latents(game, 1) if label is None else latents_of_class(game, label, 1))
    return torch.cat(drawn)


def path_between(latents: Tensor, steps: int, spherical: bool = False, closed: bool = False) -> Tensor:
    """`steps` latents from each to the next, the last one included: [(k - 1) * steps + 1, ...], or [k * steps, ...] when `closed`.

    `spherical` keeps the norm between two Gaussian latents where the straight line dips towards 0 (slerp, White 2016, arXiv:1609.04468).
    """
    if len(latents) < 2 or steps < 1:
        raise RequestError(f"{len(latents)} seeds and {steps} steps: a path needs at least two seeds and one step")
    ends = torch.cat([latents, latents[:1]]) if closed else latents
    mix = _slerp if spherical else torch.lerp
    parts = [mix(a, b, torch.tensor(i / steps, device=a.device)) for a, b in pairwise(ends) for i in range(steps)]
    return torch.stack(parts if closed else [*parts, ends[-1]])


def _slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    cosine = torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0).clamp(-1, 1)
    angle = torch.acos(cosine)
    if angle < 1e-4:
        return torch.lerp(a, b, t)
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)
