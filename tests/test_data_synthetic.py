"""The toy laws carry their truth: densities, bounds and distances are checked against mathematics and brute force."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ganforge.data.synthetic import Curves, Gaussian, Mixture, Sines

N = 20_000


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rms(curves: Tensor) -> Tensor:
    return curves.square().mean(dim=-1).sqrt()


def test_gaussian_draws_have_its_mean_and_deviation() -> None:
    drawn = Gaussian().draw(N, generator())
    assert drawn.shape == (N, 1)
    assert abs(drawn.mean().item() - 4) < 5 * 0.5 / math.sqrt(N)
    assert abs(drawn.std().item() - 0.5) < 5 * 0.5 / math.sqrt(2 * N)


def test_gaussian_density_integrates_to_one_and_peaks_at_its_mean() -> None:
    law = Gaussian(mean=-1, std=0.25)
    x = torch.linspace(-4, 2, 2001, dtype=torch.float64)
    assert torch.trapezoid(law.density(x), x).item() == pytest.approx(1, abs=1e-9)
    assert law.density(torch.tensor(-1.0)).item() == pytest.approx(1 / (0.25 * math.sqrt(math.tau)), rel=1e-6)


@pytest.mark.parametrize(("law", "modes", "std"), [(Mixture.ring(), 8, 0.02 / 1.414), (Mixture.grid(), 25, 0.05 / 2.828)])
def test_mixture_modes_are_equally_likely_and_as_wide_as_said(law: Mixture, modes: int, std: float) -> None:
    assert law.centres.shape == (modes, 2)
    assert law.std == std
    distance, mode = torch.cdist(law.draw(N, generator()), law.centres).min(dim=1)
    shares = torch.bincount(mode, minlength=modes) / N
    assert (shares - 1 / modes).abs().max() < 5 * math.sqrt(1 / modes / N)
    # The squared distance to the own centre is std^2 times chi-squared with 2 degrees of freedom: mean 2, deviation 2.
    assert abs((distance / std).square().mean().item() - 2) < 5 * 2 / math.sqrt(N)


def test_ring_lies_on_one_circle_and_grid_on_one_lattice() -> None:
    torch.testing.assert_close(Mixture.ring().centres.norm(dim=1), torch.full((8,), 2 / 1.414))
    lattice = sorted({round(value, 4) for value in Mixture.grid().centres.flatten().tolist()})
    assert lattice == pytest.approx([step * 2 / 2.828 for step in (-2, -1, 0, 1, 2)], abs=1e-4)
    assert len(torch.unique(Mixture.grid().centres, dim=0)) == 25


def test_mixture_density_integrates_to_one() -> None:
    law = Mixture(torch.tensor([[0.0, 0.0], [1.0, 0.5]]), std=0.2)
    axis = torch.linspace(-2, 3, 251)
    density = law.density(torch.cartesian_prod(axis, axis)).reshape(251, 251)
    assert torch.trapezoid(torch.trapezoid(density, axis), axis).item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("law", [Curves(), Sines()])
def test_real_curves_lie_within_the_bounds_and_at_no_distance_from_the_truth(law: Curves | Sines) -> None:
    drawn = law.draw(N, generator())
    low, high = law.bounds()
    assert drawn.shape == (N, 15)
    assert ((drawn >= low - 1e-5) & (drawn <= high + 1e-5)).all()
    assert law.nearest(drawn).max() < 2e-4


def test_parabolas_have_slopes_uniform_over_their_range() -> None:
    slope = Curves().draw(N, generator())[:, 7] + 1  # t = 0 in the middle, where y = a - 1
    assert 1 <= slope.min() <= slope.max() <= 3
    assert abs(slope.mean().item() - 2) < 5 * 0.578 / math.sqrt(N)
    assert slope.std().item() == pytest.approx(2 / math.sqrt(12), rel=0.03)


def test_bounds_of_parabolas_are_the_extreme_ones() -> None:
    t = torch.linspace(-2, 2, 15)
    low, high = Curves().bounds()
    torch.testing.assert_close(low, t**2)
    torch.testing.assert_close(high, 3 * t**2 + 2)


def test_bounds_of_sines_are_those_of_a_fine_grid_of_their_parameters() -> None:
    t = torch.linspace(-math.pi, math.pi, 15)
    a, phi = torch.meshgrid(torch.tensor([0.5, 1.5]), torch.linspace(0, math.pi / 2, 4001), indexing="ij")
    curves = a[..., None] * torch.sin(t + phi[..., None])
    low, high = Sines().bounds()
    torch.testing.assert_close(low, curves.amin(dim=(0, 1)), atol=1e-5, rtol=0)
    torch.testing.assert_close(high, curves.amax(dim=(0, 1)), atol=1e-5, rtol=0)


@settings(deadline=None)
@given(beyond=st.floats(0, 5))
def test_a_parabola_too_steep_is_as_far_as_from_the_steepest(beyond: float) -> None:
    t = torch.linspace(-2, 2, 15)
    steep = (3 + beyond) * t**2 + (2 + beyond)
    torch.testing.assert_close(Curves().nearest(steep[None]), beyond * rms(t**2 + 1)[None], atol=1e-5, rtol=1e-5)


@settings(deadline=None)
@given(slope=st.floats(1, 3), size=st.floats(0, 2))
def test_an_odd_wobble_is_all_distance_because_parabolas_are_even(slope: float, size: float) -> None:
    t = torch.linspace(-2, 2, 15)
    curve = slope * t**2 + (slope - 1) + size * torch.sin(3 * t)
    torch.testing.assert_close(Curves().nearest(curve[None]), size * rms(torch.sin(3 * t))[None], atol=1e-5, rtol=1e-5)


def test_a_flat_line_is_half_a_sine_away() -> None:
    # |sin(t + phi)|^2 sums to 7 cos^2 phi + 8 sin^2 phi over the 15 places, so phi = 0 and the smallest amplitude are nearest.
    assert Sines().nearest(torch.zeros(1, 15)).item() == pytest.approx(0.5 * math.sqrt(7 / 15), abs=1e-6)


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), size=st.floats(0, 3))
def test_no_sine_of_a_fine_grid_is_nearer_than_the_nearest(seed: int, size: float) -> None:
    curve = size * torch.randn(15, generator=generator(seed))
    t = torch.linspace(-math.pi, math.pi, 15)
    a, phi = torch.meshgrid(torch.linspace(0.5, 1.5, 101), torch.linspace(0, math.pi / 2, 158), indexing="ij")
    brute = rms(a[..., None] * torch.sin(t + phi[..., None]) - curve).min().item()
    found = Sines().nearest(curve[None]).item()
    # A grid point lies within (.005, .005) of the nearest curve, which moves its ordinates by at most .005 + 1.5 * .005.
    assert brute - 0.0125 <= found <= brute + 2e-4


def test_other_abscissae_and_slopes_are_arguments() -> None:
    law = Curves((-1.0, 0.0, 1.0), slope=(1.0, 2.0))
    low, high = law.bounds()
    assert law.spec.shape == (3,)
    assert low.tolist() == [1, 0, 1]
    assert high.tolist() == [3, 1, 3]
