"""The paper that every plot is drawn on: size, palette, axes and the way to disk.

The palette is Okabe and Ito's, which the colour-blind tell apart. Figures are objects of their own, without pyplot's global state, so
that a trainer's thread and a web page's may draw at the same time. matplotlib is imported when the first plot is drawn and not
before: it takes a third of a second, which those who make only contact sheets should not pay.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ganforge.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

Array: TypeAlias = NDArray[np.float64]

WIDTH = 720
"""The width in pixels for which all pictures are made: a README's column, a notebook's cell."""
PAPER = "#ffffff"
INK = "#333333"
FAINT = "#8a8a8a"
REAL = "#0072B2"
GENERATED = "#D55E00"
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F5F3F", "#333333")
"""The colours of a history's lines, in order; they repeat."""
_DPI = 100


def blank(height: float, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure `WIDTH` pixels wide and `height` inches of 100 pixels tall, with `rows` tidy axes that share their x axis."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(WIDTH / _DPI, height), dpi=_DPI, facecolor=PAPER, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08))
    axes: list[Axes] = list(figure.subplots(rows, sharex=True, squeeze=False)[:, 0])
    for each in axes:
        tidy(each)
    return figure, axes


def tidy(axes: Axes) -> None:
    """A light grid below the data, no box around it, small grey ticks."""
    axes.set_axisbelow(True)
    axes.grid(color="#e4e4e4", linewidth=0.8)
    axes.spines[:].set_visible(False)
    axes.tick_params(colors=INK, labelsize=10, length=0)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set(color=INK, fontsize=11)


def verdict_colours() -> Colormap:
    """From pale vermilion (fake) through white (undecided) to pale blue (real): pale, so that points stand out on it."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("verdict", ["#f3c4a2", "#f9e6d9", "#ffffff", "#dbeaf4", "#a3cae3"])


def key(figure: Figure) -> None:
    """One legend below the plot, of all axes, where it can hide nothing."""
    named = {label: line for axes in figure.axes for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    marks, names = list(named.values()), list(named)
    figure.legend(marks, names, loc="outside lower center", ncols=4, frameon=False, fontsize=10.5, labelcolor=INK, handlelength=1.6)


def save(figure: Figure, path: Path, caption: str = "") -> None:
    """Writes the figure to `path`, atomically, with the caption above the upper left corner of its first axes."""
    if caption:
        figure.axes[0].set_title(caption, loc="left", fontsize=11.5, color=INK)
    with atomic_write(path) as temporary:
        figure.savefig(temporary)
