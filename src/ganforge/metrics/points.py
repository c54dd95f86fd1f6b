"""Scores of points and curves, against the truth that synthetic data carry, otherwise against real samples; and the distance of two laws.

A source is asked for what it knows: the law of a normal variable, the centres of a mixture, the bounds and the nearest of its curves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from scipy.stats import norm, wasserstein_distance
from torch import Tensor

from ganforge.batches import Points
from ganforge.data.source import Source
from ganforge.metrics.manifolds import MOST, as_features, least_share, manifold_scores, real_samples

_QUANTILES = 10_000
_ROWS = 1000


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
    """Scores of finite `samples`, [n, d], by name; what fresh real samples give in place of the game's is "NAME, other real".

    A normal law gives "mean", "std" and "W1"; a mixture the modes (`mode_scores`); curves their place (`curve_scores`). Points without
    a truth give precision, recall, density and coverage against real ones, and on the line "mean", "std" and "W1" as well. All give
    "energy distance" and "MMD" (`law_scores`).
    """
    real, other = _two_real(source, len(samples), seed)
    return _against_truth(samples, (real, other), source, seed, neighbours) | law_scores(samples, real, other)


def _two_real(source: Source, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Twice `n` real samples (at most 5,000, and at most half of what there is), none of them in both."""
    # Of its own seed, as a run of the same one has learned from what an endless source begins with.
    drawn = torch.cat([batch.x for batch in real_samples(source, Points, 2 * min(n, MOST), -1 - seed)])
    return drawn[: len(drawn) // 2], drawn[len(drawn) // 2 :]


def _against_truth(samples: Tensor, two: tuple[Tensor, Tensor], source: Source, seed: int, neighbours: int) -> dict[str, float]:
    if isinstance(source, _KnowsCurves):
        return curve_scores(samples, source)
    if isinstance(source, _KnowsCentres):
        return mode_scores(samples, source.centres)
    if samples.shape[1] == 1 and isinstance(source, _KnowsNormalLaw):
        places = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
        quantiles = torch.from_numpy(norm.ppf(places, source.mean, source.std))
        return line_scores(samples, quantiles) | {"W1, other real": line_scores(two[1], quantiles)["W1"]}
    real = torch.cat([batch.x for batch in real_samples(source, Points, MOST, seed)])
    count = min(len(samples), len(real))
    scores = manifold_scores(as_features(real[:count]), as_features(samples[:count]), neighbours)
    if samples.shape[1] > 1:
        return scores
    return scores | line_scores(samples, real) | {"W1, other real": line_scores(two[1], two[0])["W1"]}


def law_scores(samples: Tensor, real: Tensor, other: Tensor) -> dict[str, float]:
    """How far the law of `samples`, [n, d], is from that of `real`, [m, d]: "energy distance" and "MMD", at most 5,000 rows of each.

    Beside both what `other` real samples, [k, d], give, and "MMD, bandwidth": the median distance of two real samples (1 where that is 0).
    Nothing is given for less than two of each.
    """
    if min(len(samples), len(real), len(other)) < 2:
        return {}
    rows = {"": samples[:MOST].double(), ", other real": other[:MOST].double()}
    wanted = real[:MOST].double()
    bandwidth = torch.pdist(wanted).median().item() or 1.0
    found = {f"energy distance{what}": energy_distance(each, wanted) for what, each in rows.items()}
    found |= {f"MMD{what}": gaussian_mmd(each, wanted, bandwidth) for what, each in rows.items()}
    return found | {"MMD, bandwidth": bandwidth}


def energy_distance(x: Tensor, y: Tensor) -> float:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'| of samples [n, d] and [m, d], at least 2 rows each.

    Székely and Rizzo 2013 (J. Statistical Planning and Inference 143:8), its unbiased estimate (a U-statistic: no row is compared with
    itself): 0 in the mean where both laws are one, so that it may fall below, and more than 0 in the mean where they are not.
    """
    return 2 * _mean_between(x, y, _distance) - _mean_within(x, _distance) - _mean_within(y, _distance)


def gaussian_mmd(x: Tensor, y: Tensor, bandwidth: float) -> float:
    """The unbiased squared maximum mean discrepancy of [n, d] and [m, d], at least 2 rows each, with exp(-|x - y|^2 / (2 bandwidth^2)).

    Gretton et al. 2012 (JMLR 13:25): 0 in the mean where both laws are one, so that it may fall below; at most 2.
    """

    def kernel(distances: Tensor) -> Tensor:
        return torch.exp(distances.square() / (-2 * bandwidth**2))

    return _mean_within(x, kernel) + _mean_within(y, kernel) - 2 * _mean_between(x, y, kernel)


def _distance(distances: Tensor) -> Tensor:
    return distances


def _mean_within(x: Tensor, of: Callable[[Tensor], Tensor]) -> float:
    """The mean over all pairs of different rows."""
    return of(torch.pdist(x)).mean().item()


def _mean_between(x: Tensor, y: Tensor, of: Callable[[Tensor], Tensor]) -> float:
    """The mean over all pairs of a row of `x` and one of `y`, some rows at a time."""
    sums = [of(torch.cdist(part, y, compute_mode="donot_use_mm_for_euclid_dist")).sum() for part in x.split(_ROWS)]
    return torch.stack(sums).sum().item() / (len(x) * len(y))


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
