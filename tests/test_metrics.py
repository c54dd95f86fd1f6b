"""The scores against loops written from the papers, and against cases whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import norm
from torch import Tensor

from ganforge.data import Finite, from_arrays
from ganforge.data.synthetic import Curves, Gaussian, Mixture, Sines
from ganforge.errors import RequestError, TrainingError
from ganforge.metrics import measure
from ganforge.metrics.images import evenness
from ganforge.metrics.manifolds import least_share, manifold_scores
from ganforge.metrics.points import mode_scores

Rows = list[list[float]]


def radius(points: Rows, index: int, k: int) -> float:
    """The distance of a point to its k-th nearest neighbour among the others."""
    return sorted(math.dist(points[index], other) for place, other in enumerate(points) if place != index)[k - 1]


def scores_from_the_papers(real: Rows, fake: Rows, k: int) -> dict[str, float]:
    """Precision and recall of arXiv:1904.06991, density and coverage of arXiv:2002.09797, one ball and one point at a time."""
    real_radii = [radius(real, i, k) for i in range(len(real))]
    fake_radii = [radius(fake, j, k) for j in range(len(fake))]
    inside = [[math.dist(x, y) < r for y in fake] for x, r in zip(real, real_radii, strict=True)]
    return {
        "precision": sum(any(inside[i][j] for i in range(len(real))) for j in range(len(fake))) / len(fake),
        "recall": sum(any(math.dist(x, y) < r for y, r in zip(fake, fake_radii, strict=True)) for x in real) / len(real),
        "density": sum(inside[i][j] for i in range(len(real)) for j in range(len(fake))) / (k * len(fake)),
        "coverage": sum(any(row) for row in inside) / len(real),
    }


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("shift", [0.0, 0.7, 2.0])
def test_the_four_scores_agree_with_loops_written_from_the_papers(k: int, shift: float) -> None:
    rng = np.random.default_rng(k)
    real = rng.normal(size=(31, 3)).astype(np.float32)
    fake = (0.8 * rng.normal(size=(24, 3)) + shift).astype(np.float32)
    assert manifold_scores(real, fake, k) == pytest.approx(scores_from_the_papers(real.tolist(), fake.tolist(), k))


def test_real_against_itself_scores_one_four_times() -> None:
    # An open ball to the k-th neighbour holds its centre and k - 1 others: k points, so the density is exactly 1.
    points = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    assert manifold_scores(points, points, 5) == pytest.approx({"precision": 1, "recall": 1, "density": 1, "coverage": 1})


def test_far_away_noise_scores_nought_four_times() -> None:
    rng = np.random.default_rng(0)
    real, far = rng.normal(size=(50, 4)).astype(np.float32), rng.normal(size=(50, 4)).astype(np.float32) + 1000
    assert manifold_scores(real, far, 5) == {"precision": 0, "recall": 0, "density": 0, "coverage": 0}


def test_measuring_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    points = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    manifold_scores(points, points, 5)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("shift", [-1.5, 0.0, 0.25])
def test_w1_of_a_shifted_gaussian_is_the_shift(shift: float) -> None:
    quantiles = norm.ppf((np.arange(1000) + 0.5) / 1000, 4 + shift, 0.5)
    scores = measure(torch.tensor(quantiles).float()[:, None], Gaussian(4.0, 0.5))
    assert scores["W1"] == pytest.approx(abs(shift), abs=1e-3)
    assert scores["mean"] == pytest.approx(4 + shift, abs=1e-3)
    assert scores["std"] == pytest.approx(0.5, abs=1e-2)


def test_w1_of_a_point_mass_at_the_mean_is_the_mean_absolute_deviation() -> None:
    scores = measure(torch.full((100, 1), 4.0), Gaussian(4.0, 0.5))
    assert scores["W1"] == pytest.approx(0.5 * math.sqrt(2 / math.pi), abs=1e-3)


@pytest.mark.parametrize(("mixture", "modes"), [(Mixture.ring(), 8), (Mixture.grid(), 25)])
def test_the_exact_mixture_covers_all_its_modes(mixture: Mixture, modes: int) -> None:
    scores = mode_scores(mixture.draw(4000, torch.Generator().manual_seed(0)), mixture.centres)
    assert scores == {"modes": modes, "modes covered": modes, "share within 0.2": 1, "share within 0.1": 1}


@pytest.mark.parametrize(("few", "covered"), [(39, 1), (40, 2)])
def test_a_mode_counts_from_forty_samples_of_four_thousand(few: int, covered: int) -> None:
    ring = Mixture.ring()
    samples = ring.centres[torch.tensor([0] * (4000 - few) + [3] * few)]
    assert mode_scores(samples, ring.centres)["modes covered"] == covered


def test_the_shares_count_the_samples_within_their_distance() -> None:
    ring = Mixture.ring()
    outwards = ring.centres[0] / ring.centres[0].norm()
    samples = ring.centres[0] + torch.tensor([0.05, 0.09, 0.15, 0.5])[:, None] * outwards
    scores = measure(samples, ring)
    assert (scores["share within 0.1"], scores["share within 0.2"]) == (0.5, 0.75)
    assert measure(samples[3:].expand(100, 2), ring)["modes covered"] == 0


@pytest.mark.parametrize(("kinds", "share"), [(8, 0.01), (25, 0.01), (100, 0.0025)])
def test_the_share_that_covers_is_one_percent_and_less_for_many_kinds(kinds: int, share: float) -> None:
    assert least_share(kinds) == pytest.approx(share)


@pytest.mark.parametrize("truth", [Curves(), Sines()])
def test_true_curves_lie_within_the_bounds_at_distance_nought(truth: Curves | Sines) -> None:
    scores = measure(truth.draw(500, torch.Generator().manual_seed(0)), truth)
    assert scores["share within bounds"] == 1
    assert scores["distance to the nearest curve"] == pytest.approx(0, abs=1e-3)


def test_a_curve_too_steep_is_its_excess_away_from_the_steepest() -> None:
    # y = 4 t^2 + 3 differs from the steepest real curve, 3 t^2 + 2, by t^2 + 1.
    t = torch.linspace(-2, 2, 15)
    scores = measure((4 * t**2 + 3).expand(3, 15), Curves())
    assert scores["share within bounds"] == 0
    assert scores["distance to the nearest curve"] == pytest.approx((t**2 + 1).square().mean().sqrt().item(), rel=1e-5)


def test_bounds_forgive_five_percent_of_their_distance_at_each_place() -> None:
    truth = Curves()
    lower, upper = truth.bounds()
    width = upper - lower
    one_place = torch.zeros(15).index_fill(0, torch.tensor([7]), 1.0)
    samples = torch.stack([upper + 0.04 * width, lower - 0.04 * width, upper + 0.06 * width * one_place, lower - 0.06 * width * one_place])
    assert measure(samples, truth)["share within bounds"] == 0.5


def test_points_without_a_truth_are_compared_with_real_ones() -> None:
    real = torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
    scores = measure(real, from_arrays(real))
    assert [scores[name] for name in ("precision", "recall", "density", "coverage")] == pytest.approx([1, 1, 1, 1])


def test_a_table_of_one_column_is_measured_on_the_line_too() -> None:
    real = torch.randn(200, 1, generator=torch.Generator().manual_seed(0))
    scores = measure(real + 3, from_arrays(real))
    assert scores["W1"] == pytest.approx(3, abs=1e-5)
    assert scores["mean"] == pytest.approx(real.mean().item() + 3, abs=1e-5)
    assert {"precision", "recall", "density", "coverage"} < scores.keys()


def patches(classes: list[int], each: int, side: int = 8) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Grey pictures with one bright quarter, which says the class, under a little noise: uint8 [n, side, side, 1] and labels [n]."""
    rng = np.random.default_rng(len(classes))
    labels = np.repeat(np.array(classes), each)
    pixels = rng.integers(0, 60, (len(labels), side, side, 1))
    half = side // 2
    for picture, label in zip(pixels, labels, strict=True):
        top, left = half * (label // 2), half * (label % 2)
        picture[top : top + half, left : left + half] += 150
    return pixels.astype(np.uint8), labels


def as_samples(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1


@pytest.fixture(scope="module")
def quarters() -> Finite:
    pixels, labels = patches([0, 1, 2, 3], 60)
    return from_arrays(pixels, labels)


def test_the_real_pictures_against_themselves_score_one_and_cover_their_classes_evenly(quarters: Finite) -> None:
    pixels, _ = patches([0, 1, 2, 3], 60)
    scores = measure(as_samples(pixels), quarters)
    assert [scores[name] for name in ("precision", "recall", "density", "coverage")] == pytest.approx([1, 1, 1, 1])
    assert scores["classifier accuracy"] == 1
    assert (scores["classes"], scores["classes covered"]) == (4, 4)
    assert scores["class entropy"] == pytest.approx(1, abs=0.01)
    assert scores["share confident"] > 0.95


def test_dropped_classes_are_seen(quarters: Finite) -> None:
    pixels, _ = patches([1, 3], 50)
    scores = measure(as_samples(pixels), quarters)
    assert scores["classes covered"] == 2
    assert scores["class entropy"] == pytest.approx(math.log(2) / math.log(4), abs=0.01)
    assert scores["recall"] < 0.6
    assert scores["class recall"] < 0.6


def test_pictures_of_noise_are_of_no_class(quarters: Finite) -> None:
    noise = 2 * torch.rand(100, 1, 8, 8, generator=torch.Generator().manual_seed(0)) - 1
    scores = measure(noise, quarters)
    assert scores["share confident"] < 0.05
    assert (scores["precision"], scores["classes covered"]) == (0, 0)


def test_pictures_without_labels_have_no_classes() -> None:
    pixels, _ = patches([0, 1], 20)
    assert measure(as_samples(pixels), from_arrays(pixels)).keys() == {"precision", "recall", "density", "coverage"}


def finer(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Twice as many pixels a side, with a random detail that averages to nothing over each block of four."""
    detail = np.random.default_rng(7).integers(0, 40, pixels.shape).repeat(2, axis=1).repeat(2, axis=2)
    detail[:, ::2, ::2] *= -1
    detail[:, 1::2, 1::2] *= -1
    return (pixels.repeat(2, axis=1).repeat(2, axis=2) + detail).astype(np.uint8)


def test_large_pictures_are_compared_at_thirty_two_pixels() -> None:
    real, other = (patches(classes, 15, side=32)[0] // 2 + 60 for classes in ([0, 1], [2, 1, 0]))
    assert measure(as_samples(finer(other)), from_arrays(finer(real))) == measure(as_samples(other), from_arrays(real))


def test_the_seed_alone_decides(quarters: Finite) -> None:
    samples = as_samples(patches([0, 2], 40)[0])
    state = torch.get_rng_state()
    assert measure(samples, quarters, seed=3) == measure(samples, quarters, seed=3)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("shares", "expected"), [([1, 0, 0, 0], 0), ([0, 0, 0, 0], 0), ([0.25] * 4, 1), ([0.1, 0.1, 0, 0], 0.5), ([1], 0)])
def test_evenness_is_the_entropy_over_its_maximum(shares: list[float], expected: float) -> None:
    assert evenness(np.array(shares, dtype=np.float64)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("samples", "options", "error", "words"),
    [
        (torch.zeros(9, 3), {}, RequestError, r"\[9, 3\].*\[n, 2\]"),
        (torch.zeros(0, 2), {}, RequestError, "at least 1"),
        (torch.full((9, 2), math.nan), {}, TrainingError, "9 of 9 samples"),
        (torch.zeros(9, 2), {"neighbours": 0}, RequestError, "neighbours = 0"),
        (torch.zeros(5, 2), {}, RequestError, "5 samples .* 6 of each"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(
    samples: Tensor, options: dict[str, int], error: type[Exception], words: str
) -> None:
    source = from_arrays(torch.randn(50, 2, generator=torch.Generator().manual_seed(0)))
    with pytest.raises(error, match=words) as raised:
        measure(samples, source, **options)
    assert "\n" not in str(raised.value)
