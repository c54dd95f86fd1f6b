"""How far the law of some features is from that of others: Fréchet's distance and the kernel distance."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import pairwise_distances_argmin_min
from sklearn.metrics.pairwise import polynomial_kernel

from ganforge.metrics.manifolds import Features

_SUBSETS = 50
_SUBSET = 1000


def fid(real: Features, generated: Features) -> float:
    """The squared Fréchet distance of two Gaussians with the means and covariances of features [n, d] and [m, d], both at least 2 rows.

    |mu_1 - mu_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^{1/2}), which Heusel et al. 2017, arXiv:1706.08500, take of Inception's features.
    """
    first, second = _root(real), _root(generated)
    # The roots of the eigenvalues of S_1 S_2 are the singular values of R_1 R_2', S = R'R: never complex, however few rows there are.
    overlap = np.linalg.svd(first @ second.T, compute_uv=False).sum()
    apart = real.mean(axis=0, dtype=np.float64) - generated.mean(axis=0, dtype=np.float64)
    return max(0.0, float(apart @ apart + (first**2).sum() + (second**2).sum() - 2 * overlap))


def _root(rows: Features) -> NDArray[np.float64]:
    """R of the covariance R'R of rows [n, d]: [min(n, d), d]."""
    centred = rows - rows.mean(axis=0, dtype=np.float64)
    # numpy's annotations know no mode of qr that gives an array.
    return cast("NDArray[np.float64]", np.linalg.qr(centred / np.sqrt(len(rows) - 1), mode="r"))


def kid(real: Features, generated: Features, seed: int) -> tuple[float, float]:
    """The kernel distance of features [n, d] and [m, d], at least 2 rows each: (mean, standard deviation) over 50 pairs of random subsets.

    Of each pair the unbiased squared maximum mean discrepancy with the kernel (x y / d + 1)^3, which may fall below 0 where both laws are
    one: the KID of Bińkowski et al. 2018, arXiv:1801.01401. Subsets have 1,000 rows, at most half of what there is.
    """
    rng = np.random.default_rng(seed)
    # Subsets of all that there is would be one and the same, with no spread.
    size = max(2, min(_SUBSET, len(real) // 2, len(generated) // 2))
    first, second = real.astype(np.float64), generated.astype(np.float64)
    values = [
        mmd(first[rng.choice(len(first), size, replace=False)], second[rng.choice(len(second), size, replace=False)])
        for _ in range(_SUBSETS)
    ]
    return float(np.mean(values)), float(np.std(values))


def mmd(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """The unbiased squared maximum mean discrepancy of [n, d] and [m, d] with the kernel (x y / d + 1)^3."""

    def among(rows: NDArray[np.float64]) -> float:
        kernel = polynomial_kernel(rows, degree=3)
        return float((kernel.sum() - np.trace(kernel)) / (len(rows) * (len(rows) - 1)))

    return among(x) + among(y) - 2 * float(polynomial_kernel(x, y, degree=3).mean())


def nearest(features: Features, others: Features) -> float:
    """The mean distance of [n, d] to the nearest of [m, d]."""
    _, distances = pairwise_distances_argmin_min(features, others)
    return float(distances.mean())
