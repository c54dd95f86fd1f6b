"""Augmentations against their papers' laws: ranges, probabilities, groups, and what must stay as it was."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ganforge.augmentations import (
    POLICIES,
    ada,
    adapted,
    blitting,
    color,
    cutout,
    diff_augment,
    geometry,
    recoloured,
    resampled,
    rotated_hue,
    translation,
)
from ganforge.errors import RequestError

ALWAYS, NEVER = torch.ones(()), torch.zeros(())
N = 20_000


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def pictures(n: int = 6, channels: int = 3, height: int = 9, width: int = 7) -> Tensor:
    return torch.rand(n, channels, height, width) * 2 - 1


def share(chosen: Tensor) -> float:
    return float(chosen.double().mean())


def near(p: float, n: int = N) -> object:
    """Within 4.5 standard deviations of a frequency."""
    return pytest.approx(p, abs=4.5 * math.sqrt(p * (1 - p) / n) + 1e-12)


def assert_normal(drawn: Tensor, deviation: float) -> None:
    """By its distribution function: Kolmogorov and Smirnov's distance, of which 2 / sqrt(n) is exceeded once in 1500 times."""
    ordered = drawn.double().flatten().sort().values
    expected = torch.special.ndtr(ordered / deviation)
    assert (expected - torch.linspace(0, 1, len(ordered))).abs().max() < 2 / math.sqrt(len(ordered))


def assert_uniform(drawn: Tensor, low: float, high: float) -> None:
    ordered = drawn.double().flatten().sort().values
    assert ordered[0] >= low - 1e-5
    assert ordered[-1] <= high + 1e-5
    assert ((ordered - low) / (high - low) - torch.linspace(0, 1, len(ordered))).abs().max() < 2 / math.sqrt(len(ordered))


OPERATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    **POLICIES,
    "diff_augment": diff_augment,
    "blitting": lambda x: resampled(x, blitting(len(x), x.shape[2], x.shape[3], ALWAYS)),
    "geometry": lambda x: resampled(x, geometry(len(x), x.shape[2], x.shape[3], ALWAYS)),
    "recoloured": lambda x: recoloured(x, ALWAYS),
    "ada": lambda x: ada(x, ALWAYS),
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("channels", [1, 2, 3, 6])
def test_shape_type_and_seed_decide_and_gradients_reach_every_picture(name: str, channels: int) -> None:
    operation, images = OPERATIONS[name], pictures(channels=channels).requires_grad_()
    torch.manual_seed(3)
    once = operation(images)
    torch.manual_seed(3)
    again = operation(images)
    assert once.shape == images.shape
    assert once.dtype == images.dtype
    assert torch.equal(once, again)
    assert not torch.equal(operation(images), once)
    (gradient,) = torch.autograd.grad(once.square().sum(), images)
    assert (gradient.flatten(1).norm(dim=1) > 0).all()


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != "ada"])
def test_gradients_are_those_of_finite_differences_twice_over(name: str) -> None:
    def fixed(x: Tensor) -> Tensor:
        torch.manual_seed(5)
        return OPERATIONS[name](x)

    images = pictures(2, height=4, width=4).double().requires_grad_()
    assert torch.autograd.gradcheck(fixed, images)
    assert torch.autograd.gradgradcheck(fixed, images)


def test_an_unknown_policy_is_named_and_the_known_ones_are_listed() -> None:
    with pytest.raises(RequestError, match="'colour' is unknown; DiffAugment has color, translation, cutout"):
        diff_augment(pictures(), ("translation", "colour"))


def test_a_policy_is_its_operations_in_order() -> None:
    images = pictures()
    torch.manual_seed(1)
    whole = diff_augment(images, ("cutout", "color"))
    torch.manual_seed(1)
    torch.testing.assert_close(whole, color(cutout(images)))
    assert torch.equal(diff_augment(images, ()), images)


def test_brightness_shifts_the_mean_uniformly_and_saturation_and_contrast_keep_it() -> None:
    images = pictures(1).expand(N, -1, -1, -1)
    shift = color(images).mean((1, 2, 3)) - images.mean((1, 2, 3))
    assert_uniform(shift, -0.5, 0.5)


def test_contrast_is_the_stretch_of_a_grey_picture() -> None:
    images = torch.tensor([-1.0, 1.0]).view(1, 1, 1, 2).expand(N, -1, -1, -1)
    seen = color(images).flatten(1)
    assert_uniform((seen[:, 1] - seen[:, 0]) / 2, 0.5, 1.5)


def test_saturation_stretches_colours_about_their_grey() -> None:
    # Two pixels, orange and its opposite: their luma is equal, so that contrast's part shows in nothing but the colour.
    orange = torch.tensor([0.6, 0.1, -0.7])
    images = torch.stack([orange + 0.5, -orange - 0.5], -1).view(1, 3, 1, 2).expand(N, -1, -1, -1)
    seen = color(images)
    luma = seen.mean(1, keepdim=True)
    contrast = (luma[..., 0] - luma[..., 1]).flatten()
    chroma = ((seen - luma)[..., 0] - (seen - luma)[..., 1])[:, :, 0] / 2
    assert_uniform((chroma @ orange) / orange.square().sum() / contrast, 0, 2)


def test_translation_moves_the_one_pixel_by_at_most_an_eighth_and_fills_with_grey() -> None:
    height, width = 16, 24
    images = torch.zeros(N, 1, height, width)
    images[:, :, 7, 11] = 1
    moved = translation(images)
    assert (moved.flatten(1).sum(1) == 1).all()
    at = moved.flatten(1).argmax(1)
    down, right = at // width - 7, at % width - 11
    for shift, most in ((down, 2), (right, 3)):
        assert shift.abs().max() == most
        for value in range(-most, most + 1):
            assert share(shift == value) == near(1 / (2 * most + 1))
    assert share((down == 2) & (right == 3)) == near(1 / 35)


def test_translation_keeps_what_stays_in_view_and_shows_0_elsewhere() -> None:
    images = pictures(40, height=8, width=8) + 3
    for before, after in zip(images, translation(images), strict=True):
        candidates = [F.pad(before, (1, 1, 1, 1))[:, 1 - dy : 9 - dy, 1 - dx : 9 - dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        assert sum(torch.equal(after, candidate) for candidate in candidates) == 1


@pytest.mark.parametrize(("height", "width"), [(8, 8), (6, 10), (7, 5)])
def test_cutout_hides_a_rectangle_of_half_the_sides_that_may_hang_over_the_border(height: int, width: int) -> None:
    tall, wide = int(height / 2 + 0.5), int(width / 2 + 0.5)
    images = torch.ones(N, 2, height, width)
    hidden = cutout(images) == 0
    assert torch.equal(hidden[:, 0], hidden[:, 1])
    rows, columns = hidden[:, 0].any(2), hidden[:, 0].any(1)
    assert torch.equal(hidden[:, 0], rows[:, :, None] & columns[:, None, :])
    for stretch, size, side in ((rows, tall, height), (columns, wide, width)):
        assert stretch.sum(1).max() == size
        assert stretch.sum(1).min() == (size + 1) // 2
        # One run without a gap.
        assert (stretch.int().diff(dim=1).abs().sum(1) <= 2).all()
        centres = side + 1 - size % 2
        assert share(stretch[:, 0] & (stretch.sum(1) < size)) == near((size // 2) / centres)
        assert share(stretch.sum(1) == size) == near((side - size + 1) / centres)


def test_grey_pictures_have_no_saturation_to_draw() -> None:
    grey = pictures(4, channels=1)
    torch.manual_seed(2)
    seen = color(grey)
    torch.manual_seed(2)
    brightness, contrast = torch.rand(4, 1, 1, 1) - 0.5, torch.rand(4, 1, 1, 1) + 0.5
    mean = grey.mean((1, 2, 3), keepdim=True) + brightness
    torch.testing.assert_close(seen, mean + (grey + brightness - mean) * contrast)


@pytest.mark.parametrize("channels", [1, 3, 6])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (5, 9), (1, 1), (1, 4)])
def test_p_0_is_the_identity(channels: int, height: int, width: int) -> None:
    images = pictures(5, channels, height, width)
    torch.testing.assert_close(ada(images, NEVER), images, rtol=0, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3, 6])
def test_p_1_changes_every_picture(channels: int) -> None:
    images = pictures(200, channels)
    assert ((ada(images, ALWAYS) - images).flatten(1).abs().amax(1) > 1e-3).all()


def test_resampling_is_that_of_grid_sample() -> None:
    for height, width in ((8, 8), (5, 9), (2, 3)):
        images = pictures(50, height=height, width=width)
        # Far beyond the borders too, where the picture is reflected more than once.
        matrix = geometry(50, height, width, ALWAYS) @ torch.diag(torch.tensor([2.5, 2.5, 1]))
        halves = torch.tensor([(width - 1) / 2, (height - 1) / 2, 1])
        grid = F.affine_grid((matrix * halves / halves[:, None])[:, :2], list(images.shape), align_corners=True)
        expected = F.grid_sample(images, grid, padding_mode="reflection", align_corners=True)
        torch.testing.assert_close(resampled(images, matrix), expected, rtol=0, atol=2e-4)


def test_blitting_makes_the_eight_symmetries_of_a_square_and_whole_moves_exactly() -> None:
    image = pictures(1, height=8, width=8)
    seen = resampled(image.expand(4000, -1, -1, -1), blitting(4000, 8, 8, ALWAYS))
    symmetries = [turned for k in range(4) for turned in (image.rot90(k, (2, 3)), image.flip(3).rot90(k, (2, 3)))]
    reflected = [F.pad(symmetry, (1, 1, 1, 1), mode="reflect") for symmetry in symmetries]
    found = torch.stack(
        [
            (seen - picture[..., 1 - dy : 9 - dy, 1 - dx : 9 - dx]).flatten(1).abs().amax(1) < 1e-4
            for picture in reflected
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
        ]
    ).view(8, 3, 3, 4000)
    assert (found.flatten(0, 2).sum(0) == 1).all()
    for symmetry in found.any(2).any(1):
        assert share(symmetry) == near(1 / 8, 4000)
    # A move of U(-1, 1) pixels is rounded.
    for moves in (found.any(2).any(0), found.any(1).any(0)):
        assert [share(move) for move in moves] == [near(1 / 4, 4000), near(1 / 2, 4000), near(1 / 4, 4000)]


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_each_transformation_is_made_with_probability_p(p: float) -> None:
    identity, chance = torch.eye(3), torch.tensor(p)

    def untouched(matrix: Tensor) -> float:
        return share((matrix - identity).abs().amax((1, 2)) < 1e-6)

    # A mirroring shows half of the time, a turn three times of four; a move of up to 128 pixels nearly always.
    still = 1 - p + p * (1 / 256) ** 2
    assert untouched(blitting(N, 1024, 1024, chance)) == near((1 - p / 2) * (1 - 3 * p / 4) * still)
    # Scale, two turns of 1 - sqrt(1 - p) each, stretch, move.
    assert untouched(geometry(N, 64, 64, chance)) == near((1 - p) ** 4)
    # Luma flips half of the time.
    for channels, unchanged in ((6, (1 - p) ** 2), (1, (1 - p) ** 2 * (1 - p / 2)), (3, (1 - p) ** 4 * (1 - p / 2))):
        image = pictures(1, channels, 1, 2).expand(N, -1, -1, -1)
        assert share((recoloured(image, chance) - image).flatten(1).abs().amax(1) < 1e-6) == near(unchanged)


def test_geometry_scales_stretches_and_moves_by_its_laws_in_its_order() -> None:
    matrix = geometry(N, 32, 64, ALWAYS)
    linear = matrix[:, :2, :2].double()
    # Turns and stretches keep areas.
    assert_normal(torch.linalg.det(linear).log2() / 2, 0.2)
    singular = torch.linalg.svdvals(linear)
    stretch = (singular[:, 0] / singular[:, 1]).log2() / 2
    assert_normal(stretch * (torch.rand(N) < 0.5).double().mul(2).sub(1), 0.2)
    # The move is made last, in pixels of the new picture.
    moved = torch.linalg.solve(linear, matrix[:, :2, 2:].double())[:, :, 0]
    assert_normal(moved[:, 0], 64 / 8)
    assert_normal(moved[:, 1], 32 / 8)
    direction = torch.atan2(linear[:, 1, 0] - linear[:, 0, 1], linear[:, 0, 0] + linear[:, 1, 1])
    assert_uniform(direction, -math.pi, math.pi)


def test_grey_levels_are_lightened_then_stretched_then_negated() -> None:
    for channels in (1, 3):
        images = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2).expand(N, channels, -1, -1)
        seen = recoloured(images, ALWAYS)
        assert (seen - seen[:, :1]).abs().max() < 1e-6
        dark, light = seen[:, 0, 0].unbind(1)
        assert share(light < dark) == near(0.5)
        assert_normal((light - dark).abs().log2(), 0.5)
        assert_normal(dark / (light - dark), 0.2)


def test_colours_are_turned_by_any_angle_and_stretched() -> None:
    # A grey pair tells contrast; a colour of luma 0 beside it tells the rest.
    colour = torch.tensor([1.0, -1.0, 0.0])
    images = torch.stack([torch.zeros(3), torch.ones(3), colour], -1).view(1, 3, 1, 3).expand(N, -1, -1, -1)
    seen = recoloured(images, ALWAYS)[:, :, 0]
    contrast = (seen[:, 0, 1] - seen[:, 0, 0]).abs()
    chroma = (seen[..., 2] - seen[..., 2].mean(1, keepdim=True)) / contrast[:, None]
    assert_normal((chroma.norm(dim=1) / colour.norm()).log2(), 1.0)
    across = torch.linalg.cross(torch.full((3,), 3**-0.5), colour)
    assert_uniform(torch.atan2(chroma @ across, chroma @ colour), -math.pi, math.pi)


def test_a_third_of_a_turn_of_the_hue_makes_red_green_and_any_turn_keeps_luma_and_saturation() -> None:
    red = torch.zeros(1, 3, 2, 2)
    red[:, 0] = 1
    torch.testing.assert_close(rotated_hue(red, torch.tensor([2 * math.pi / 3])), red.roll(1, 1), rtol=0, atol=1e-6)
    images, angle = pictures(8), torch.rand(8) * 6
    turned = rotated_hue(images, angle)
    torch.testing.assert_close(turned.mean(1), images.mean(1))
    torch.testing.assert_close(turned.norm(dim=1), images.norm(dim=1))
    torch.testing.assert_close(rotated_hue(turned, -angle), images, rtol=0, atol=1e-5)


def test_autocast_and_half_precision_do_not_coarsen_the_places() -> None:
    images = pictures(8, height=64, width=64)
    torch.manual_seed(4)
    expected = ada(images, ALWAYS)
    torch.manual_seed(4)
    with torch.autocast("cpu", torch.bfloat16):
        seen = ada(images, ALWAYS)
    assert torch.equal(seen, expected)
    assert ada(images.bfloat16(), ALWAYS).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("p", "sign", "images", "expected"),
    [
        (0.2, 0.7, 256, 0.2 + 256 / 500_000),  # above the target, however little
        (0.2, 1.0, 256, 0.2 + 256 / 500_000),
        (0.2, 0.59, 256, 0.2 - 256 / 500_000),
        (0.2, -1.0, 256, 0.2 - 256 / 500_000),
        (0.0, -1.0, 256, 0.0),
        (0.9999, 1.0, 256, 1.0),
        (0.0, 1.0, 500_000, 1.0),  # the whole way
        (0.3, 1.0, 0, 0.3),
    ],
)
def test_p_moves_by_a_fixed_step_towards_the_target(p: float, sign: float, images: int, expected: float) -> None:
    moved = adapted(torch.tensor(p), torch.tensor(sign), torch.tensor(float(images)))
    torch.testing.assert_close(moved, torch.tensor(expected))


def test_p_is_at_rest_on_the_target() -> None:
    assert adapted(torch.tensor(0.4), torch.tensor(0.5), torch.tensor(64.0), target=0.5) == torch.tensor(0.4)
    assert adapted(torch.tensor(0.4), torch.tensor(0.6), torch.tensor(64.0), target=0.5, span=640) == torch.tensor(0.5)
