"""Energy distance and MMD against plain loops, against scipy, and on laws whose distance is known."""

from __future__ import annotations

import math
from statistics import mean, median, stdev

import pytest
import torch
from scipy.stats import energy_distance as rooted
from torch import Tensor

from ganforge.batches import Points
from ganforge.data import Source, from_arrays
from ganforge.data.synthetic import Curves, Gaussian, Mixture
from ganforge.metrics import measure
from ganforge.metrics.manifolds import real_samples
from ganforge.metrics.points import energy_distance, gaussian_mmd, law_scores


def normal(n: int, d: int, seed: int = 0, shift: float = 0.0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def others(rows: list[list[float]]) -> list[tuple[list[float], list[float]]]:
    return [(x, y) for i, x in enumerate(rows) for j, y in enumerate(rows) if i != j]


@pytest.mark.parametrize(("n", "m", "d"), [(7, 5, 1), (4, 9, 3), (2, 2, 2)])
def test_both_are_the_formula_over_pairs_of_different_rows(n: int, m: int, d: int) -> None:
    x, y = normal(n, d), normal(m, d, seed=1, shift=0.5)
    between = [math.dist(a, b) for a in x.tolist() for b in y.tolist()]
    within = [[math.dist(a, b) for a, b in others(rows.tolist())] for rows in (x, y)]
    assert energy_distance(x, y) == pytest.approx(2 * mean(between) - mean(within[0]) - mean(within[1]))

    def kernel(distances: list[float]) -> float:
        return mean(math.exp(-(distance**2) / (2 * 0.7**2)) for distance in distances)

    assert gaussian_mmd(x, y, 0.7) == pytest.approx(kernel(within[0]) + kernel(within[1]) - 2 * kernel(between))


def test_on_the_line_it_is_scipys_square_but_for_pairs_of_a_row_with_itself() -> None:
    x, y = normal(40, 1), normal(40, 1, seed=1, shift=1)
    within = [torch.cdist(rows, rows).mean().item() for rows in (x, y)]
    # scipy's is a V-statistic, whose means hold the n pairs of a row with itself.
    expected = rooted(x.flatten().numpy(), y.flatten().numpy()) ** 2 - sum(within) / 39
    assert energy_distance(x, y) == pytest.approx(expected)


def test_both_are_nought_in_the_mean_for_equal_laws_and_fall_below_it_too() -> None:
    for of in (energy_distance, lambda x, y: gaussian_mmd(x, y, 1.0)):
        values = [of(normal(30, 2, seed=2 * seed), normal(30, 2, seed=2 * seed + 1)) for seed in range(300)]
        assert abs(mean(values)) < 3 * stdev(values) / math.sqrt(300)
        assert min(values) < 0 < max(values)


def test_both_grow_with_a_shift_to_what_mathematics_says() -> None:
    x, n = normal(2000, 1), 2000
    found = [(energy_distance(x, normal(n, 1, 1, s)), gaussian_mmd(x, normal(n, 1, 1, s), 1.0)) for s in (0.0, 0.5, 1.0, 2.0)]
    assert found == sorted(found)
    assert sorted(mmd for _, mmd in found) == [mmd for _, mmd in found]
    # X - Y is normal of variance 2 and mean s: E|X - Y| = 2/sqrt(pi) exp(-s^2/4) + s erf(s/2), E k(X, Y) = exp(-s^2/6) / sqrt(3).
    for s, (energy, mmd) in zip((0.0, 0.5, 1.0, 2.0), found, strict=True):
        apart = 2 / math.sqrt(math.pi) * math.exp(-(s**2) / 4) + s * math.erf(s / 2)
        assert energy == pytest.approx(2 * apart - 4 / math.sqrt(math.pi), abs=0.03 * (1 + s))
        assert mmd == pytest.approx(2 * (1 - math.exp(-(s**2) / 6)) / math.sqrt(3), abs=0.02 * (1 + s))


def test_the_order_of_rows_and_of_columns_does_not_matter() -> None:
    x, y, z = normal(50, 3), normal(60, 3, seed=1), normal(60, 3, seed=2)
    mixed = law_scores(x[torch.randperm(50)][:, [2, 0, 1]], y[torch.randperm(60)][:, [2, 0, 1]], z[torch.randperm(60)][:, [2, 0, 1]])
    assert mixed == pytest.approx(law_scores(x, y, z))


def test_the_bandwidth_is_the_median_distance_of_real_samples() -> None:
    real = normal(7, 2)
    expected = median(math.dist(a, b) for i, a in enumerate(real.tolist()) for b in real.tolist()[:i])
    assert law_scores(normal(5, 2, 1) * 100, real, real)["MMD, bandwidth"] == pytest.approx(expected)
    assert law_scores(normal(5, 2), torch.ones(9, 2), torch.ones(9, 2))["MMD, bandwidth"] == 1


def test_rows_taken_some_at_a_time_give_what_all_at_once_give() -> None:
    x, y = normal(2500, 2), normal(1500, 2, seed=1)
    between = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").mean().item()
    expected = 2 * between - torch.pdist(x).mean().item() - torch.pdist(y).mean().item()
    assert energy_distance(x, y) == pytest.approx(expected, abs=1e-12)


def test_no_more_than_five_thousand_rows_are_compared() -> None:
    x = torch.cat([normal(5000, 1), normal(50, 1, shift=1e6)])
    assert law_scores(x, normal(60, 1, 1), normal(60, 1, 2)) == law_scores(x[:5000], normal(60, 1, 1), normal(60, 1, 2))


def test_less_than_two_rows_have_no_distance() -> None:
    assert law_scores(normal(1, 2), normal(5, 2), normal(5, 2)) == {}


@pytest.mark.parametrize("source", [Gaussian(), Mixture.ring(), Curves(), from_arrays(normal(900, 2)), from_arrays(normal(900, 1))])
def test_what_two_real_samples_give_stands_beside_what_the_game_gives(source: Source) -> None:
    d = source.spec.shape[0]
    far, wanted = measure(normal(400, d, shift=30.0).float(), source), {"energy distance", "MMD"} | ({"W1"} if d == 1 else set())
    for name in wanted:
        assert abs(far[f"{name}, other real"]) < 0.15 * far[name]
    assert far == measure(normal(400, d, shift=30.0).float(), source)
    assert far["energy distance, other real"] != measure(normal(400, d, shift=30.0).float(), source, seed=1)["energy distance, other real"]


def test_real_samples_are_not_those_that_a_run_of_the_same_seed_learned_from() -> None:
    ring = Mixture.ring()
    learned = torch.cat([batch.x for batch in real_samples(ring, Points, 400, seed=0)])
    # Compared with the very same rows, pairs of a row with itself are in the mean between, but not in those within.
    of_the_same = -2 * torch.pdist(learned.double()).mean().item() / 400
    assert energy_distance(learned.double(), learned.double()) == pytest.approx(of_the_same)
    assert measure(learned, ring, seed=0)["energy distance"] != pytest.approx(of_the_same, rel=0.1)
