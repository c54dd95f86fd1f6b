"""Scores of points and curves, against the truth that synthetic data carry, otherwise against real samples.

A source is asked for what it knows: the law of a normal variable, the centres of a mixture, the bounds and the nearest of its curves.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import torch
from scipy.stats import norm, wasserstein_distance
from torch import Tensor

from ganforge.batches import Points
from ganforge.data.source import Source
from ganforge.metrics.manifolds import MOST, as_features, least_share, manifold_scores, real_samples

_QUANTILES = 10_000


@runtime_checkable
class _KnowsNormalLaw(Protocol):
    mean: float
    std: float


@runtime_checkable
class _KnowsCentres(Protocol):
    centres: Tensor


@runtime_checkable
class _KnowsCurves(Protocol):
    def bounds(self) -> tuple[Tensor, Tensor]: ...

    def nearest(self, curves: Tensor) -> Tensor: ...


def point_scores(samples: Tensor, source: Source, *, seed: int, neighbours: int) -> dict[str, float]:
    """Scores of finite `samples`, [n, d], by name.

    A normal law gives "mean", "std" and "W1"; a mixture the modes (`mode_scores`); curves their place (`curve_scores`). Points without
    a truth give precision, recall, density and coverage against real ones, and on the line "mean", "std" and "W1" as well.
    """
    if isinstance(source, _KnowsCurves):
        return curve_scores(samples, source)
    if isinstance(source, _KnowsCentres):
        return mode_scores(samples, source.centres)
    if samples.shape[1] == 1 and isinstance(source, _KnowsNormalLaw):
        places = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
        return line_scores(samples, torch.from_numpy(norm.ppf(places, source.mean, source.std)))
    real = torch.cat([batch.x for batch in real_samples(source, Points, MOST, seed)])
    count = min(len(samples), len(real))
    scores = manifold_scores(as_features(real[:count]), as_features(samples[:count]), neighbours)
    return scores | (line_scores(samples, real) if samples.shape[1] == 1 else {})


def line_scores(samples: Tensor, real: Tensor) -> dict[str, float]:
    """Of `samples`, [n, 1]: "mean", "std", and "W1", the 1-Wasserstein distance to `real`, [m] samples or quantiles at even steps."""
    line = samples.flatten().double().numpy()
    distance = wasserstein_distance(line, real.flatten().double().numpy())
    return {"mean": float(line.mean()), "std": float(line.std()), "W1": float(distance)}


def mode_scores(samples: Tensor, centres: Tensor) -> dict[str, float]:
    """Of `samples`, [n, d], around `centres`, [k, d]: "modes", "modes covered", and the shares within 0.2 and 0.1 of some centre.

    A mode is covered when at least 1 % of all samples (of 4,000: 40) lie within 0.2 of its centre and nearer to no other; of more than 25
    modes, a quarter of an even share.
    """
    distance, mode = torch.cdist(samples.double(), centres.to(samples).double()).min(dim=1)
    counts = torch.bincount(mode[distance <= 0.2], minlength=len(centres))
    return {
        "modes": float(len(centres)),
        "modes covered": float((counts >= least_share(len(centres)) * len(samples)).sum()),
        "share within 0.2": float((distance <= 0.2).double().mean()),
        "share within 0.1": float((distance <= 0.1).double().mean()),
    }


def curve_scores(samples: Tensor, source: _KnowsCurves) -> dict[str, float]:
    """Of `samples`, [n, d] ordinates: "share within bounds", "distance to the nearest curve".

    A curve is within the bounds when every ordinate is, to 5 % of the bounds' distance there. The distance is the mean over the samples
    of the root mean square difference to the nearest real curve.
    """
    lower, upper = (bound.to(samples) for bound in source.bounds())
    slack = 0.05 * (upper - lower)
    within = ((samples >= lower - slack) & (samples <= upper + slack)).all(dim=1)
    return {
        "share within bounds": float(within.double().mean()),
        "distance to the nearest curve": float(source.nearest(samples).double().mean()),
    }
