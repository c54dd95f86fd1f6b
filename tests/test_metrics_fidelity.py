"""PSNR, SSIM, MS-SSIM, luma and the simple ways to fill and enlarge: against closed forms, loops, and the reference where it is there."""

from __future__ import annotations

import math
from importlib import import_module

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.signal import convolve2d
from torch import Tensor

from ganforge.batches import Batch, LowHigh, Masked, Pairs, images_to_bytes
from ganforge.data import from_fields
from ganforge.metrics import Section, examine
from ganforge.metrics.fidelity import LEAST_SIDE, l1, levels, luma, ms_ssim, psnr, ssim
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


def plainly(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """MS-SSIM of two grey pictures as the paper's program has it: one window of two dimensions, edges mirrored where a side is odd."""
    bell = np.array([[math.exp(-((i - 5) ** 2 + (j - 5) ** 2) / (2 * 1.5**2)) for j in range(11)] for i in range(11)])
    bell /= bell.sum()

    def local(picture: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = convolve2d(picture, bell, mode="valid")
        return found

    value = 1.0
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        mx, my = local(x), local(y)
        vx, vy, cov = local(x * x) - mx * mx, local(y * y) - my * my, local(x * y) - mx * my
        contrast = (2 * cov + 58.5225) / (vx + vy + 58.5225)
        luminance = (2 * mx * my + 6.5025) / (mx * mx + my * my + 6.5025)
        value *= (luminance * contrast if scale == 4 else contrast).mean() ** weight
        x, y = (np.pad(p, [(0, side % 2) for side in p.shape], mode="symmetric") for p in (x, y))
        x, y = ((p[::2, ::2] + p[1::2, ::2] + p[::2, 1::2] + p[1::2, 1::2]) / 4 for p in (x, y))
    return float(value)


@pytest.mark.parametrize(("height", "width"), [(176, 192), (161, 175)])
@pytest.mark.parametrize("amount", [0.1, 0.6])
def test_ms_ssim_is_that_of_plain_arithmetic_mean_over_the_channels(height: int, width: int, amount: float) -> None:
    coarse = torch.nn.functional.interpolate(noise(1, 3, 12, 12), size=(height, width), mode="bilinear")
    x = 0.5 * coarse + 0.5 * noise(1, 3, height, width)
    y = (1 - amount) * x + amount * noise(1, 3, height, width, seed=1)
    expected = np.mean([plainly(x[0, channel].numpy(), y[0, channel].numpy()) for channel in range(3)])
    assert 0.1 < expected < 0.999
    assert ms_ssim(x, y).item() == pytest.approx(expected, abs=1e-9)


def test_ms_ssim_of_flat_pictures_is_the_luminance_term_to_the_last_power() -> None:
    a, b, c1 = 100.0, 140.0, (0.01 * 255) ** 2
    flat = torch.ones(2, 1, 176, 176).double()
    assert ms_ssim(a * flat, b * flat).tolist() == pytest.approx([((2 * a * b + c1) / (a**2 + b**2 + c1)) ** 0.1333] * 2)


def test_ms_ssim_of_a_picture_and_its_negative_is_nought_and_of_equal_ones_one() -> None:
    x = noise(2, 1, 161, 161)
    assert ms_ssim(255 - x, x).tolist() == [0, 0]
    assert ms_ssim(x, x).tolist() == pytest.approx([1, 1])


def test_ms_ssim_needs_five_scales() -> None:
    assert LEAST_SIDE == 161
    with pytest.raises(ValueError, match="200x160"):
        ms_ssim(noise(1, 1, 160, 200), noise(1, 1, 160, 200))


class Does:
    """Answers with the very picture, with noise, and, of holes, with what is there."""

    ways = ("a2b",)
    reach = 0

    def translate(self, image: Tensor, way: str) -> Tensor:
        return image

    def upscale(self, image: Tensor) -> Tensor:
        return image.repeat_interleave(2, 2).repeat_interleave(2, 3)

    def inpaint(self, image: Tensor, mask: Tensor) -> Tensor:
        return image


def section(kind: type[Batch], side: int, channels: int = 3) -> Section:
    """What is found of two pictures of this side, read as `kind`."""
    high = noise(2, channels, side, side) / 127.5 - 1
    pixels = images_to_bytes(high).numpy()
    small = images_to_bytes(torch.nn.functional.avg_pool2d(high, 2)).numpy()
    hole = np.zeros((2, side, side), dtype=np.float32)
    hole[:, :8, :8] = 1
    if kind is Pairs:
        source = from_fields(Pairs, a=pixels, b=255 - pixels)
    elif kind is LowHigh:
        source = from_fields(LowHigh, low=small, high=pixels)
    else:
        source = from_fields(Masked, image=pixels, mask=hole)
    return examine(Does(), source)[0]


@pytest.mark.parametrize(("kind", "side", "least"), [(Pairs, 162, 162), (LowHigh, 166, 162)])
def test_ms_ssim_stands_beside_ssim_where_what_is_compared_is_large_enough(kind: type[Batch], side: int, least: int) -> None:
    large, small = section(kind, side), section(kind, side - 2)
    names = [score.name for score in large.scores]
    assert any("MS-SSIM" in name for name in names)
    assert f"{least}x{least}" in large.notes[0]
    assert [score.name for score in small.scores] == [name for name in names if "MS-SSIM" not in name]
    assert "no MS-SSIM below 161" in small.notes[0]


@pytest.mark.parametrize(
    ("kind", "channels", "words"),
    [
        (Pairs, 3, ("RGB", "0 to 255", "no border", "Gaussian window of 11x11, sigma 1.5", "over 2 pictures")),
        (Pairs, 1, ("grey",)),
        (LowHigh, 3, ("Y of BT.601", "2 pixels at each border left out", "20x20", "Gaussian window of 11x11, sigma 1.5")),
        (Masked, 3, ("RGB", "in the hole alone", "over 2 pictures")),
    ],
)
def test_how_pictures_were_compared_is_said(kind: type[Batch], channels: int, words: tuple[str, ...]) -> None:
    found = section(kind, 24, channels)
    assert [word for word in words if word not in found.notes[0]] == []


@pytest.mark.parametrize("kind", [Pairs, LowHigh, Masked])
def test_every_score_says_which_way_is_better(kind: type[Batch]) -> None:
    for score in section(kind, 24).scores:
        assert score.better == ("lower" if "L1" in score.name else "higher"), score.name


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
