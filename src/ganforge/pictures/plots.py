"""Plots of points and curves: what the toy games are judged by at a glance.

The colours tell one thing throughout: blue is real, vermilion is generated, dark is the judge. The axes follow the real data where
there are any, never the generated, so that the pictures of a run make a calm animation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ganforge.pictures.canvas import FAINT, GENERATED, INK, PAPER, REAL, Array, blank, key, save, tidy, verdict_colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Judge = Callable[[Tensor], Tensor]
"""[n, d] to [n]: the probability of being real, or a critic's score."""


def density(path: Path, samples: Tensor, *, real: Tensor | None, truth: Judge | None, judge: Judge | None, caption: str) -> None:
    """The real and the generated density on the line, with the judge's verdict at each place, as AYLIEN's gan-intro shows them.

    `samples` and `real` are [n, 1]; the real density is the curve of `truth` ([m] to [m]) where it is known, otherwise estimated from
    `real`. The verdict has its own axis on the right.
    """
    figure, (axes,) = blank(4.4)
    generated = _numbers(samples)[:, 0]
    known = generated if real is None else _numbers(real)[:, 0]
    low, high = _limits(known, 0.75)
    axis = np.linspace(low, high, 481)
    places = torch.from_numpy(axis).to(samples)
    peak = 0.0
    if real is not None:
        height = _numbers(truth(places)) if truth else _smoothed(known, axis)
        peak = float(height.max())
        axes.fill_between(axis, height, color=REAL, alpha=0.15, linewidth=0)
        axes.plot(axis, height, color=REAL, linewidth=2, label="real")
    height = _smoothed(generated, axis)
    counts, edges = np.histogram(generated, bins=int(np.clip(3 * len(generated) ** 0.5, 24, 96)), range=(low, high))
    bars = counts / max(1, len(generated)) / (edges[1] - edges[0])
    axes.stairs(bars, edges, fill=True, color=GENERATED, alpha=0.25)
    axes.plot(axis, height, color=GENERATED, linewidth=2, label="generated")
    # A collapsed generator is a needle: it may leave the picture at the top, the real density must stay readable.
    axes.set_ylim(0, 2.2 * peak if peak else 1.15 * max(float(height.max()), 1e-9))
    axes.set_xlim(low, high)
    axes.set_xlabel("x")
    axes.set_ylabel("density")
    _strays(axes, generated, low, high)
    if judge is not None:
        _verdicts(axes, axis, _judged(judge, places[:, None]))
    key(figure)
    save(figure, path, caption)


def curves(
    path: Path, samples: Tensor, abscissae: tuple[float, ...], *, real: Tensor | None, bounds: tuple[Tensor, Tensor] | None, caption: str
) -> None:
    """Generated curves, [n, d] ordinates at `abscissae`, painted between the bounds of the real ones, as in Morvan Zhou's painting GAN.

    Without bounds the real curves themselves are painted faintly; at most 200 curves of each kind.
    """
    figure, (axes,) = blank(4.6)
    t = np.asarray(abscissae)
    painted = _numbers(samples)[:200]
    known = painted if real is None else _numbers(real)[:200]
    if bounds is not None:
        lower, upper = (_numbers(bound) for bound in bounds)
        known = np.stack([lower, upper])
        axes.fill_between(t, lower, upper, color=REAL, alpha=0.1, linewidth=0)
        axes.plot(t, lower, color=REAL, linewidth=2, label="bounds of the real curves")
        axes.plot(t, upper, color=REAL, linewidth=2)
    elif real is not None:
        _bundle(axes, t, known, REAL, "real")
    _bundle(axes, t, painted, GENERATED, "generated")
    axes.set_ylim(*_limits(known, 0.2))
    axes.set_xlim(t.min(), t.max())
    axes.set_xlabel("t")
    axes.set_ylabel("y")
    key(figure)
    save(figure, path, caption)


def plane(path: Path, samples: Tensor, *, real: Tensor | None, judge: Judge | None, caption: str) -> None:
    """Generated points, [n, d], over faint real ones and the judge's verdict at each place; of more dimensions than two, the first two.

    The verdict is drawn only where d = 2: elsewhere a place in the picture is no point.
    """
    judged = judge is not None and samples.shape[1] == 2
    # The heights at which the square axes, with and without a scale beside them, fill the width.
    figure, (axes,) = blank(6.5 if judged else 7.0)
    generated = _numbers(samples)[:, :2]
    known = generated if real is None else _numbers(real)[:, :2]
    middle = (known.max(axis=0) + known.min(axis=0)) / 2 if len(known) else np.zeros(2)
    reach = (0.68 * float(np.ptp(known, axis=0).max()) if len(known) else 0.0) or 1.0
    if judge is not None and judged:
        _surface(figure, axes, judge, samples, middle, reach)
    axes.scatter(generated[:2000, 0], generated[:2000, 1], s=14, color=GENERATED, alpha=0.6, edgecolors=PAPER, linewidths=0.3)
    if real is not None:
        # On top and smaller: a good generator would hide the real points, small ones hide nothing.
        axes.scatter(known[:1000, 0], known[:1000, 1], s=4, color=REAL, alpha=0.45, linewidths=0, zorder=3)
        axes.scatter([], [], s=30, color=REAL, label="real")
    axes.scatter([], [], s=30, color=GENERATED, label="generated")
    axes.set_xlim(middle[0] - reach, middle[0] + reach)
    axes.set_ylim(middle[1] - reach, middle[1] + reach)
    axes.set_aspect("equal")
    axes.set_xlabel("$x_1$")
    axes.set_ylabel("$x_2$")
    key(figure)
    save(figure, path, caption)


def _numbers(values: Tensor) -> Array:
    """On the CPU as float64, rows that hold a NaN or an infinity left out: they have no place in a picture."""
    numbers: Array = values.detach().double().cpu().numpy()
    return numbers[np.isfinite(numbers).reshape(len(numbers), -1).all(axis=1)]


def _limits(values: Array, margin: float) -> tuple[float, float]:
    """All but the last thousandth at either end, widened by `margin` of that range on both sides."""
    low, high = (float(edge) for edge in np.quantile(values, [0.001, 0.999])) if values.size else (0.0, 0.0)
    room = margin * (high - low) or 1.0
    return low - room, high + room


def _smoothed(values: Array, axis: Array) -> Array:
    """A kernel density estimate by Silverman's rule, the kernel never narrower than a stroke of the pen."""
    width = max(0.9 * float(values.std()) * len(values) ** -0.2, (axis[-1] - axis[0]) / 240) if len(values) else 1.0
    total = np.zeros_like(axis)
    for piece in np.array_split(values, max(1, len(values) // 1000)):
        total += np.exp(-0.5 * ((axis[:, None] - piece) / width) ** 2).sum(axis=1)
    return total / (max(1, len(values)) * width * math.sqrt(2 * math.pi))


def _judged(judge: Judge, places: Tensor) -> Array:
    """The verdicts at `places`, a few thousand at a time, without gradients."""
    with torch.no_grad():
        return np.concatenate([judge(piece).detach().double().cpu().numpy().reshape(-1) for piece in torch.split(places, 4096)])


def _is_probability(verdicts: Array) -> bool:
    return bool(verdicts.min() >= 0 and verdicts.max() <= 1)


def _verdicts(axes: Axes, axis: Array, verdicts: Array) -> None:
    """The judge's line over a second axis on the right: 0 to 1 for a probability, with the line of doubt at one half."""
    right = axes.twinx()
    tidy(right)
    right.grid(visible=False)
    sure = _is_probability(verdicts)
    right.plot(axis, verdicts, color=INK, linewidth=1.8, linestyle=(0, (5, 1.6)), label="judge")
    if sure:
        right.axhline(0.5, color=FAINT, linewidth=0.8, linestyle=":")
        right.set_ylim(0, 1.02)
    right.set_ylabel("probability of being real, D(x)" if sure else "critic's score")


def _strays(axes: Axes, values: Array, low: float, high: float) -> None:
    """Says at either edge how much of the generated lies beyond it: without that a generator far off would look like none."""
    before, after = (float(np.mean(beyond)) if len(values) else 0.0 for beyond in (values < low, values > high))
    for share, side, text in ((before, 0.012, f"← {before:.0%} beyond"), (after, 0.988, f"{after:.0%} beyond →")):
        if share > 0.005:
            note = axes.text(side, 0.97, text, color=GENERATED, fontsize=10, va="top", transform=axes.transAxes)
            note.set(
                horizontalalignment="left" if side < 0.5 else "right",
                bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 2, "alpha": 0.85},
            )


def _bundle(axes: Axes, t: Array, ordinates: Array, colour: str, label: str) -> None:
    """Many curves as thin strokes, fainter the more there are, and one solid line for the legend."""
    axes.plot(t, ordinates.T, color=colour, linewidth=0.9, alpha=min(0.9, 0.12 + 8 / max(1, len(ordinates))))
    axes.plot([], [], color=colour, linewidth=2, label=label)


def _surface(figure: Figure, axes: Axes, judge: Judge, samples: Tensor, middle: Array, reach: float) -> None:
    """The judge's verdict as a tinted relief with its scale: vermilion where it sees a fake, blue where it believes."""
    side = np.linspace(-reach, reach, 121)
    across, up = np.meshgrid(middle[0] + side, middle[1] + side)
    verdicts = _judged(judge, torch.from_numpy(np.stack([across, up], axis=-1).reshape(-1, 2)).to(samples)).reshape(across.shape)
    lowest, highest = float(verdicts.min()), float(verdicts.max())
    sure = _is_probability(verdicts)
    if not (np.isfinite(verdicts).all() and (sure or highest > lowest)):
        return
    # A number lets matplotlib choose round levels.
    relief = axes.contourf(across, up, verdicts, levels=np.linspace(0, 1, 21) if sure else 20, cmap=verdict_colours(), zorder=0)
    lines = [level for level in np.asarray(relief.levels)[2::4] if lowest < level < highest]
    if lines:
        axes.contour(across, up, verdicts, levels=lines, colors=FAINT, linewidths=0.5, alpha=0.6, zorder=0)
    scale = figure.colorbar(relief, ax=axes, fraction=0.045, pad=0.02, ticks=[0, 0.25, 0.5, 0.75, 1] if sure else None)
    tidy(scale.ax)
    scale.ax.grid(visible=False)
    scale.set_label("probability of being real, D(x)" if sure else "critic's score")
