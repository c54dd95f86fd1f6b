"""PSNR, SSIM, luma and the simple ways to fill and enlarge, against closed forms, loops and the reference where it is installed."""

from __future__ import annotations

import math
from importlib import import_module

import numpy as np
import pytest
import torch
from torch import Tensor

from ganforge.metrics.fidelity import l1, levels, luma, psnr, ssim
from ganforge.metrics.restored import enlarged, mean_colour


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed)).double()


def test_levels_are_those_of_a_file() -> None:
    assert levels(torch.tensor([-1.0, 0.0, 1.0, 1.7]).view(1, 1, 1, 4)).flatten().tolist() == [0, 128, 255, 255]


@pytest.mark.parametrize("step", [1.0, 10.0, 51.0])
def test_psnr_of_a_constant_difference_is_its_share_of_255_in_decibels(step: float) -> None:
    x = noise(3, 3, 5, 7)
    assert psnr(x + step, x).tolist() == pytest.approx([20 * math.log10(255 / step)] * 3)
    assert l1(x + step, x).tolist() == pytest.approx([step] * 3)


def test_equal_pictures_have_100_decibels() -> None:
    assert psnr(noise(2, 1, 4, 4), noise(2, 1, 4, 4)).tolist() == [100, 100]


def test_only_the_hole_counts() -> None:
    x = noise(1, 3, 4, 4)
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1
    made = x + 5 * mask + 99 * (1 - mask)
    assert l1(made, x, mask).item() == pytest.approx(5)
    assert psnr(made, x, mask).item() == pytest.approx(20 * math.log10(51))


def test_ssim_of_flat_pictures_is_the_luminance_term() -> None:
    a, b, c1 = 100.0, 140.0, (0.01 * 255) ** 2
    expected = (2 * a * b + c1) / (a**2 + b**2 + c1)
    assert ssim(torch.full((2, 3, 16, 20), a).double(), torch.full((2, 3, 16, 20), b).double()).tolist() == pytest.approx([expected] * 2)


def test_ssim_of_a_picture_of_one_window_is_the_formula_with_gaussian_weights() -> None:
    x, y = noise(1, 1, 11, 11), noise(1, 1, 11, 11, seed=1)
    bell = np.array([[math.exp(-((i - 5) ** 2 + (j - 5) ** 2) / (2 * 1.5**2)) for j in range(11)] for i in range(11)])
    bell /= bell.sum()
    p, q = x[0, 0].numpy(), y[0, 0].numpy()
    mp, mq = (bell * p).sum(), (bell * q).sum()
    vp, vq, cov = (bell * (p - mp) ** 2).sum(), (bell * (q - mq) ** 2).sum(), (bell * (p - mp) * (q - mq)).sum()
    c1, c2 = 6.5025, 58.5225
    expected = (2 * mp * mq + c1) * (2 * cov + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2))
    assert ssim(x, y).item() == pytest.approx(expected)


def test_ssim_of_equal_pictures_is_one_also_below_the_window() -> None:
    for side in (4, 11, 24):
        x = noise(2, 3, side, side)
        assert ssim(x, x).tolist() == pytest.approx([1, 1])


def test_ssim_is_that_of_scikit_image() -> None:
    metrics = pytest.importorskip("skimage.metrics")
    x, y = noise(1, 3, 24, 31), noise(1, 3, 24, 31, seed=1) / 2 + noise(1, 3, 24, 31) / 2
    expected = metrics.structural_similarity(
        *(z[0].permute(1, 2, 0).numpy() for z in (x, y)),
        channel_axis=-1,
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert ssim(x, y).item() == pytest.approx(expected, rel=1e-6)
    assert psnr(x, y).item() == pytest.approx(metrics.peak_signal_noise_ratio(x.numpy(), y.numpy(), data_range=255))


@pytest.mark.parametrize(
    ("colour", "y"), [((0, 0, 0), 16), ((255, 255, 255), 235), ((255, 0, 0), 81.481), ((0, 255, 0), 144.553), ((0, 0, 255), 40.966)]
)
def test_luma_of_the_pure_colours_is_matlabs(colour: tuple[int, int, int], y: float) -> None:
    assert luma(torch.tensor(colour).double().view(1, 3, 1, 1)).item() == pytest.approx(y, abs=1e-3)


def test_grey_pictures_are_their_own_luma() -> None:
    x = noise(2, 1, 4, 4)
    assert torch.equal(luma(x), x)


def test_bicubic_enlargement_keeps_a_slope_straight() -> None:
    slope = (torch.arange(16) * 8 / 127.5 - 1).expand(1, 3, 16, 16)
    large = levels(enlarged(slope, 4))
    assert large.shape == (1, 3, 64, 64)
    # Pixel centres: place i of the large one is (i + 0.5) / 4 - 0.5 of the small one, and a level is rounded.
    expected = ((torch.arange(64) + 0.5) / 4 - 0.5) * 8
    assert (large[0, 0, 0] - expected)[8:-8].abs().max() <= 0.5 + 1e-6


def test_the_mean_colour_is_that_of_everything_around_the_hole() -> None:
    image = torch.rand(2, 3, 6, 6)
    mask = torch.zeros(2, 1, 6, 6)
    mask[:, :, 2:4, 2:4] = 1
    filled = mean_colour(image, mask)
    around = [image[0, 1, i, j].item() for i in range(6) for j in range(6) if not (2 <= i < 4 and 2 <= j < 4)]
    assert filled[0, 1, 2, 3].item() == pytest.approx(sum(around) / 32, abs=1e-6)
    assert torch.equal(filled * (1 - mask), image * (1 - mask))


def test_biharmonic_inpainting_continues_a_slope() -> None:
    pytest.importorskip("skimage.restoration")
    biharmonic = import_module("ganforge.metrics.restored").biharmonic
    image = torch.linspace(-0.8, 0.8, 16).expand(1, 3, 16, 16).contiguous()
    mask = torch.zeros(1, 1, 16, 16)
    mask[:, :, 5:11, 5:11] = 1
    assert (biharmonic(image * (1 - mask), mask) - image).abs().max() < 0.01
