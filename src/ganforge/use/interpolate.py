"""Between latents: the way from one seed's sample to another's, from class to class, between given ones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ganforge.errors import RequestError
from ganforge.game import Game
from ganforge.use.conditions import latents, latents_of_class
from ganforge.use.seeds import seeded


def latents_of_seeds(game: Game, seeds: Sequence[int], classes: Sequence[int] = ()) -> Tensor:
    """A latent for each seed, [n, ...], of the class of that number if classes are given; a seed names the same noise in every call.

    One class may serve all seeds, and one seed all classes. RequestError where they are of different numbers.
    """
    if not seeds:
        raise RequestError("--seeds: name at least two, e.g. --seeds 1 2")
    n = max(len(seeds), len(classes))
    if any(len(each) not in (1, n) for each in (seeds, classes or seeds)):
        raise RequestError(f"--seeds: {len(seeds)} seeds for {len(classes)} classes; give one for all, or one for each")
    drawn = []
    for number in range(n):
        with seeded(seeds[number % len(seeds)], game.device):
            drawn.append(latents_of_class(game, classes[number % len(classes)], 1) if classes else latents(game, 1))
    return torch.cat(drawn)


def path_between(ends: Tensor, steps: int, spherical: Tensor | None = None, closed: bool = False) -> Tensor:
    """`steps` latents from each end to the next, and the last end, [n, ...] to [(n - 1) * steps + 1, ...]; [n * steps, ...] if `closed`.

    The numbers that `spherical` says, [k] of bool, turn on a sphere, which keeps the norm where the straight way between two normal
    latents dips towards 0 (slerp, White 2016, arXiv:1609.04468); the others, or all, go straight. RequestError without a way.
    """
    if len(ends) < 2 or steps < 1:
        raise RequestError(f"a way needs at least two ends (seeds, classes or latents) and one step; here are {len(ends)} and {steps}")
    shape, ends = ends.shape[1:], torch.cat([ends, ends[:1]] if closed else [ends]).flatten(1)
    turning = None if spherical is None else spherical.to(ends.device)
    parts = torch.linspace(0, 1, steps + 1, device=ends.device)[:-1, None]
    ways = []
    for a, b in pairwise(ends):
        way = torch.lerp(a, b, parts)
        if turning is not None:
            way[:, turning] = _slerp(a[turning], b[turning], parts)
        ways.append(way)
    return torch.cat(ways if closed else [*ways, ends[-1:]]).reshape(-1, *shape)


def _slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Two of [k] and [n, 1] to [n, k]; straight where they point the same or the opposite way, between which no turn is the shortest."""
    angle = torch.acos(torch.nn.functional.cosine_similarity(a, b, dim=0).clamp(-1, 1))
    if not 1e-3 < angle < torch.pi - 1e-3:
        return torch.lerp(a, b, t)
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)
