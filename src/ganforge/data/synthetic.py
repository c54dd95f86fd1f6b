"""Laws with a known truth: toy data on which a game can be judged exactly."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ganforge.batches import Points, PointSpec
from ganforge.data.source import Endless


class Gaussian(Endless):
    r"""The normal law $\mathcal N(\mu, \sigma^2)$ on the line; 4 and 0.5 as in AYLIEN's "An introduction to GANs"."""

    def __init__(self, mean: float = 4.0, std: float = 0.5, *, name: str = "gaussian") -> None:
        super().__init__(name, PointSpec(1), (Points,), [f"normal, mean {mean:g}, standard deviation {std:g}"])
        self.mean = mean
        self.std = std

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """[n, 1]."""
        return self.mean + self.std * torch.randn(n, 1, generator=generator)

    def density(self, x: Tensor) -> Tensor:
        r"""$\frac{1}{\sigma\sqrt{2\pi}}\exp(-(x-\mu)^2/2\sigma^2)$ at every element of `x`."""
        return torch.exp(-0.5 * ((x - self.mean) / self.std) ** 2) / (self.std * math.sqrt(2 * math.pi))


class Mixture(Endless):
    """Equally likely normal laws in the plane: `centres` is [k, 2], `std` the standard deviation of each along both axes."""

    def __init__(self, centres: Tensor, std: float, *, name: str = "mixture") -> None:
        super().__init__(name, PointSpec(2), (Points,), [f"{len(centres)} equal modes, standard deviation {std:.3g}"])
        self.centres = centres
        self.std = std

    @classmethod
    def ring(cls) -> Mixture:
        """Eight modes on a circle of radius 2, deviation 0.02, all divided by 1.414: "8 Gaussians" of Improved Training of WGANs' toys."""
        angles = torch.arange(8) * (math.tau / 8)
        return cls(2 * torch.stack([angles.cos(), angles.sin()], dim=1) / 1.414, 0.02 / 1.414, name="ring")

    @classmethod
    def grid(cls) -> Mixture:
        """25 modes at 2 * {-2..2}^2, deviation 0.05, all divided by 2.828: "25 Gaussians" of Improved Training of WGANs' toys."""
        steps = torch.arange(-2.0, 3.0)
        return cls(2 * torch.cartesian_prod(steps, steps) / 2.828, 0.05 / 2.828, name="grid")

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """[n, 2]."""
        modes = torch.randint(len(self.centres), (n,), generator=generator)
        return self.centres[modes] + self.std * torch.randn(n, 2, generator=generator)

    def density(self, x: Tensor) -> Tensor:
        r"""[n, 2] to [n]: $\frac1k\sum_j \frac{1}{2\pi\sigma^2}\exp(-\|x-c_j\|^2/2\sigma^2)$."""
        squares = torch.cdist(x, self.centres.to(x)).square()
        return torch.exp(-squares / (2 * self.std**2)).mean(dim=1) / (2 * math.pi * self.std**2)


class Curves(Endless):
    r"""Parabolas $y = a t^2 + (a - 1)$ at fixed abscissae, $a \sim U$ of the range `slope`: the curves of Morvan Zhou's painting GAN.

    Two slopes never cross ($y = a(t^2 + 1) - 1$ grows with $a$), so the real curves fill the band between the two extreme ones.
    """

    def __init__(
        self, abscissae: tuple[float, ...] | None = None, *, slope: tuple[float, float] = (1.0, 3.0), name: str = "curves"
    ) -> None:
        t = abscissae or tuple(torch.linspace(-2, 2, 15).tolist())
        super().__init__(name, PointSpec(len(t), t), (Points,), [f"y = a t^2 + (a - 1) at {len(t)} places, a uniform in {list(slope)}"])
        self.slope = slope
        self._shape = torch.tensor(t).square() + 1

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """[n, 15]: the ordinates of `n` curves."""
        low, high = self.slope
        return (low + (high - low) * torch.rand(n, 1, generator=generator)) * self._shape - 1

    def bounds(self) -> tuple[Tensor, Tensor]:
        """The lowest and the highest ordinate that a real curve has at each abscissa, [15] each."""
        return self.slope[0] * self._shape - 1, self.slope[1] * self._shape - 1

    def nearest(self, curves: Tensor) -> Tensor:
        """[n, 15] to [n]: the root mean square distance over the abscissae to the nearest real curve.

        The distance is a parabola in a, so clipping its minimiser (least squares) to the range gives the minimum over the range.
        """
        shape = self._shape.to(curves)
        slope = ((curves + 1) @ shape / shape.square().sum()).clamp(*self.slope)
        return (curves + 1 - slope[:, None] * shape).square().mean(dim=1).sqrt()


class Sines(Endless):
    r"""Sine curves $y = a \sin(t + \varphi)$ at fixed abscissae, $a \sim U[0.5, 1.5]$, $\varphi \sim U[0, \pi/2]$."""

    amplitude = (0.5, 1.5)
    phase = (0.0, math.pi / 2)

    def __init__(self, abscissae: tuple[float, ...] | None = None, *, name: str = "sine") -> None:
        t = abscissae or tuple(torch.linspace(-math.pi, math.pi, 15).tolist())
        law = f"y = a sin(t + phi) at {len(t)} places, a uniform in [0.5, 1.5], phi in [0, pi/2]"
        super().__init__(name, PointSpec(len(t), t), (Points,), [law])
        self._t = torch.tensor(t)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """[n, 15]: the ordinates of `n` curves."""
        amplitude, phase = (0.5 + torch.rand(n, 1, generator=generator), math.pi / 2 * torch.rand(n, 1, generator=generator))
        return amplitude * torch.sin(self._t + phase)

    def bounds(self) -> tuple[Tensor, Tensor]:
        """The lowest and the highest ordinate that a real curve has at each abscissa, [15] each.

        Over the phases, sin(t + phi) is extreme at an end of the range or at a crest between; then the amplitude scales it.
        """
        low, high = torch.sin(self._t), torch.cos(self._t)
        low, high = torch.minimum(low, high), torch.maximum(low, high)
        # A crest pi/2 + 2 pi k lies in [t, t + pi/2] where t mod 2 pi is in [0, pi/2]; a trough where it is in [pi, 3 pi/2].
        turn = self._t.remainder(math.tau)
        high = torch.where(turn <= math.pi / 2, 1.0, high)
        low = torch.where((turn >= math.pi) & (turn <= 1.5 * math.pi), -1.0, low)
        small, large = self.amplitude
        return torch.minimum(small * low, large * low), torch.maximum(small * high, large * high)

    def nearest(self, curves: Tensor) -> Tensor:
        """[n, 15] to [n]: the root mean square distance over the abscissae to the nearest real curve, to about 1e-4.

        At a fixed phase the best amplitude is a clipped least-squares fit; the phase is searched on a grid, then on a finer one.
        """
        y = curves.double()
        coarse = torch.linspace(0, math.pi / 2, 129, dtype=torch.float64, device=y.device)
        best = coarse[self._squares(y, coarse.expand(len(y), -1)).argmin(dim=1)]
        fine = best[:, None] + torch.linspace(-1, 1, 129, dtype=torch.float64, device=y.device) * coarse[1]
        return self._squares(y, fine.clamp(*self.phase)).amin(dim=1).sqrt().to(curves.dtype)

    def _squares(self, y: Tensor, phases: Tensor) -> Tensor:
        """[n, 15] and [n, m] to [n, m]: mean squared distance to the nearest curve of each phase.

        sin(t + phi) = sin t cos phi + cos t sin phi, so moments with sin t and cos t are all that is needed of the 15 ordinates.
        """
        t = self._t.to(y)
        s, c = t.sin(), t.cos()
        cos, sin = phases.cos(), phases.sin()
        product = (y @ s)[:, None] * cos + (y @ c)[:, None] * sin
        norm = (s @ s) * cos**2 + 2 * (s @ c) * cos * sin + (c @ c) * sin**2
        a = (product / norm).clamp(*self.amplitude)
        return (y.square().sum(dim=1, keepdim=True) - 2 * a * product + a**2 * norm).clamp_min(0) / len(t)
