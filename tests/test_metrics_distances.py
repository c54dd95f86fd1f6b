"""FID and KID against formulas and loops, ranks and matchings against cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from ganforge.data import open_source
from ganforge.metrics.asked import ranks
from ganforge.metrics.distances import fid, kid, mmd, nearest
from ganforge.metrics.extractors import Pixels
from ganforge.metrics.labelled import majority_accuracy, matched_accuracy, neighbour_accuracy, probe_accuracy
from ganforge.metrics.manifolds import Features
from ganforge.metrics.material import Part


def rows(seed: int, n: int = 200, d: int = 6) -> Features:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)).astype(np.float32)


@pytest.fixture(scope="module")
def digits() -> Features:
    source = open_source("digits", cache="none")
    return Pixels().features(Part.of(source).first(1000).images())  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [200, 5])
def test_fid_is_the_formula_with_scipys_matrix_root(n: int) -> None:
    x, y = rows(0, n).astype(np.float64), rows(1, n).astype(np.float64)
    s, t = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s + t - 2 * sqrtm(s @ t + 1e-12 * np.eye(6)).real)
    assert fid(rows(0, n), rows(1, n)) == pytest.approx(expected, rel=1e-4)


def test_fid_of_a_shift_is_its_square_and_of_a_stretch_the_square_of_the_change_of_deviation() -> None:
    x = rows(2)
    shift = np.array([3, 0, 0, 4, 0, 0], dtype=np.float32)
    assert fid(x, x + shift) == pytest.approx(25, rel=1e-4)
    line = np.random.default_rng(0).normal(size=(500, 1)).astype(np.float32)
    assert fid(line, 3 * line) == pytest.approx(((2 * line.mean()) ** 2) + (2 * line.std(ddof=1)) ** 2, rel=1e-4)


def test_fid_and_kid_of_two_halves_are_small_and_of_noise_large(digits: Features) -> None:
    first, second = digits[:500], digits[500:]
    noise = np.random.default_rng(0).uniform(-1, 1, first.shape).astype(np.float32)
    assert 0 <= fid(first, second) < 0.05 * fid(first, noise)
    assert fid(first, first) == pytest.approx(0, abs=1e-6)
    assert abs(kid(first, second, 0)[0]) < 0.01 * kid(first, noise, 0)[0]


def test_mmd_is_the_double_sum_of_the_paper() -> None:
    x, y = rows(0, 7, 3).astype(np.float64), rows(1, 5, 3).astype(np.float64)

    def kernel(a: Features, b: Features) -> float:
        return float((a @ b / 3 + 1) ** 3)

    within_x = sum(kernel(x[i], x[j]) for i in range(7) for j in range(7) if i != j) / (7 * 6)
    within_y = sum(kernel(y[i], y[j]) for i in range(5) for j in range(5) if i != j) / (5 * 4)
    across = sum(kernel(a, b) for a in x for b in y) / (7 * 5)
    assert mmd(x, y) == pytest.approx(within_x + within_y - 2 * across)


def test_mmd_of_one_law_has_no_bias() -> None:
    rng = np.random.default_rng(0)
    values = np.array([mmd(rng.normal(size=(10, 4)), rng.normal(size=(10, 4))) for _ in range(600)])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(len(values))
    assert (values < 0).any()


def test_kid_depends_on_its_seed_alone_and_tells_its_spread() -> None:
    x, y = rows(0), rows(1)
    assert kid(x, y, 3) == kid(x, y, 3)
    mean, spread = kid(x, y, 3)
    assert mean == pytest.approx(mmd(x.astype(np.float64), y.astype(np.float64)), abs=spread)
    assert spread > 0


def test_the_nearest_of_a_shifted_grid_is_the_shift_away() -> None:
    grid = np.arange(0, 50, 5, dtype=np.float32)[:, None]
    assert nearest(grid + 2, grid) == pytest.approx(2)
    assert nearest(grid, grid) == 0


def test_renamed_classes_match_fully_and_constant_groups_only_the_commonest() -> None:
    labels = np.random.default_rng(0).integers(0, 6, 300)
    assert matched_accuracy(np.random.default_rng(1).permutation(6)[labels], labels) == 1
    assert matched_accuracy(np.zeros(300, dtype=np.int64), labels) == np.bincount(labels).max() / 300


def test_the_best_matching_is_better_than_a_greedy_one() -> None:
    # Greedy takes (0, 0) with 5 and is left with 0; the best is 4 + 4.
    groups = np.repeat([0, 0, 1, 1], [5, 4, 4, 0])
    labels = np.repeat([0, 1, 0, 1], [5, 4, 4, 0])
    assert matched_accuracy(groups, labels) == pytest.approx(8 / 13)


def test_groups_that_split_classes_are_right_by_majority_and_groups_of_one_are_not() -> None:
    labels = np.tile(np.arange(4), 50)
    assert majority_accuracy(2 * labels + np.repeat([0, 1], 100), labels) == 1
    # Counted where it was looked up, each group of one would be right.
    assert majority_accuracy(np.arange(200), labels) == 0
    assert majority_accuracy(np.random.default_rng(0).integers(0, 30, 200), labels) < 0.45


def test_codes_that_hold_the_class_are_read_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    labels, true = rng.integers(0, 4, 200), rng.integers(0, 4, 200)
    held = [np.eye(4, dtype=np.float32)[each] + 0.01 * rng.normal(size=(200, 4)).astype(np.float32) for each in (labels, true)]
    noise = [rng.normal(size=(200, 4)).astype(np.float32) for _ in range(2)]
    for accuracy in (probe_accuracy, neighbour_accuracy):
        assert accuracy(held[0], labels, held[1], true) == 1
        assert accuracy(noise[0], labels, noise[1], true) < 0.4


def test_a_reader_that_says_the_text_ranks_it_first_and_one_that_always_says_the_same_last() -> None:
    texts = torch.eye(150)[torch.arange(300) % 150]
    assert ranks(3 * texts, texts).max() == 0
    assert ranks(torch.zeros(300, 150), texts).min() == 99
    assert ranks(torch.full((300, 150), torch.nan), texts).min() == 99
    # Noise finds its own among 100 as often as any other.
    noise = torch.randn(300, 150, generator=torch.Generator().manual_seed(0))
    assert ranks(noise, texts).double().mean() == pytest.approx(49.5, abs=6)
