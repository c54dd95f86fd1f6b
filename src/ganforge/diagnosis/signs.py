"""The signs that are measured of a game at rest: a few numbers that the rules read, each near a known value where all is well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import pairwise_distances
from torch import Tensor

from ganforge.metrics.distances import nearest
from ganforge.metrics.features import Pixels
from ganforge.metrics.manifolds import Features, as_features
from ganforge.metrics.points import mode_scores

_NEIGHBOURS = 5
PREFIX = "health/"
"""What the keys of signs begin with in metrics.jsonl."""

SIGNS = {
    "low": "the least value of real data; of pictures near -1",
    "high": "the greatest; of pictures near 1",
    "scale": "the root mean square of real data; about 1",
    "spread": "the mean distance between two samples over that between two real ones; about 1",
    "coverage": "the share of real samples in whose neighbourhood something is made (arXiv:2002.09797); towards 1",
    "modes": "of a known mixture the share of its modes that are made; 1",
    "drift": "how far the mean of what is made has moved since the last look, over the real standard deviation; towards 0",
    "told": "the share of pairs, one real and one made, of which the discriminator gives the real one the higher score; 0.5 is chance",
    "known": "the same of pairs of a sample that it learned from and a held-out one; about 0.5, towards 1 where it knows them by heart",
    "frame": "the share of the gap between the scores of real and made that closes when what never changes in real pictures, such as a "
    "margin, is put right in the made; about 0",
    "idle": "the largest share of a player's parameters that never got a gradient; about 0",
    "average": "the mean distance of samples to the nearest real one with averaged weights, over that with the live ones; about 1",
    "batchwise": "how far samples move when batch normalisation takes the statistics of their own batch, over the real standard deviation; "
    "about 0",
}
"""What is measured, and its value where all is well."""


@dataclass(frozen=True)
class Seen:
    """What is looked at, all [n, ...] alike and on the CPU: pictures in [-1, 1] or points.

    `real` are samples that the game learns from, `held` others that it never sees; `made` is what users would get, `live` the same with
    the weights as they are played (without averages), `batchwise` with the statistics of small batches instead of the running ones.
    `judge` is the discriminator as it is played, [n, ...] to [n], higher for more real; `before` the mean of what was made last time;
    `centres` [k, d] those of a known mixture.
    """

    real: Tensor
    made: Tensor
    live: Tensor | None = None
    batchwise: Tensor | None = None
    held: Tensor | None = None
    before: Tensor | None = None
    centres: Tensor | None = None
    judge: Callable[[Tensor], Tensor] | None = None


def signs(seen: Seen) -> dict[str, float]:
    """The signs of `SIGNS` that samples show, by name, each with `PREFIX` before it; those of which nothing was seen are left out."""
    real, made = _rows(seen.real), _rows(seen.made)
    found = {"low": float(seen.real.min()), "high": float(seen.real.max()), "scale": float(seen.real.double().square().mean().sqrt())}
    if not np.isfinite(made).all():
        return {PREFIX + name: value for name, value in found.items()}
    deviation = float(real.std(axis=0).astype(np.float64) @ real.std(axis=0)) ** 0.5 or 1e-12
    found["spread"] = _apart(made) / max(_apart(real), 1e-12)
    found["coverage"] = _covered(real, made)
    if seen.centres is not None:
        found["modes"] = mode_scores(seen.made, seen.centres)["modes covered"] / len(seen.centres)
    if seen.before is not None:
        found["drift"] = float((seen.made.double().mean(0) - seen.before).norm() / _deviation(seen.real))
    if seen.judge is not None:
        played = seen.made if seen.live is None else seen.live
        on_real = seen.judge(seen.real)
        found["told"] = higher(on_real, seen.judge(played))
        if seen.held is not None:
            found["known"] = higher(on_real, seen.judge(seen.held))
        fixed = _unchanging(seen.real)
        if fixed is not None:
            found["frame"] = _closed(on_real, seen.judge(played), seen.judge(torch.where(fixed, seen.real[:1], played)))
    if seen.live is not None and torch.isfinite(seen.live).all():
        found["average"] = nearest(made, real) / max(nearest(_rows(seen.live), real), 1e-12)
    if seen.batchwise is not None:
        found["batchwise"] = float(np.linalg.norm(_rows(seen.batchwise) - made, axis=1).mean()) / deviation
    return {PREFIX + name: value for name, value in found.items()}


def higher(first: Tensor, second: Tensor) -> float:
    """The share of pairs, one of [n] and one of [m] scores, in which the first is higher; of equals a half counts."""
    ahead = first.double()[:, None] - second.double()[None]
    return float((ahead > 0).double().mean() + 0.5 * (ahead == 0).double().mean())


def _closed(real: Tensor, made: Tensor, mended: Tensor) -> float:
    """How much nearer the scores of what is mended, [n], are in the mean to those of real samples than those of what was made are."""
    ends = real.double().mean(), made.double().mean()
    # Where there is no gap, none can close.
    return float((mended.double().mean() - ends[1]) / max(float(ends[0] - ends[1]), 1e-3 + float(real.double().std())))


def _rows(samples: Tensor) -> Features:
    """Pictures as few pixels, points as they are, [n, d]."""
    return Pixels().features(samples) if samples.ndim == 4 else as_features(samples.float())


def _apart(rows: Features) -> float:
    """The mean distance between two of [n, d]."""
    return float(pairwise_distances(rows).sum() / (len(rows) * (len(rows) - 1)))


def _covered(real: Features, made: Features) -> float:
    """The share of real samples nearer to something made than to their k-th real neighbour."""
    # The nearest of a sample's own kind is itself.
    reach = np.partition(pairwise_distances(real), min(_NEIGHBOURS, len(real) - 1), axis=1)[:, min(_NEIGHBOURS, len(real) - 1)]
    return float((pairwise_distances(real, made).min(axis=1) < reach).mean())


def _deviation(samples: Tensor) -> float:
    """The root of the summed variances of [n, ...]."""
    return max(float(samples.double().var(0).sum().sqrt()), 1e-12)


def _unchanging(real: Tensor) -> Tensor | None:
    """Of pictures the pixels that are alike in all of them, [1, C, H, W] of bool; None where there are none, or nothing else."""
    if real.ndim != 4:
        return None
    fixed = (real.amax(0, keepdim=True) - real.amin(0, keepdim=True)) < 1e-3
    return fixed if 0 < fixed.double().mean() < 1 else None
