"""The course of a run: its losses and scores over the rounds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ganforge.errors import RequestError
from ganforge.pictures.canvas import FAINT, INK, PAPER, SERIES, WIDTH, Array, blank, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Record = Mapping[str, float | int | str]

_BOOKKEEPING = {"round", "seconds", "speed", "phase", "peak_mib"}
_LOSSES, _SHARES, _OTHERS, _GRADIENTS, _SIGNS = "losses", "values between 0 and 1", "values", "norms of the gradients", "signs"
_SHOWN_SIGNS = ("spread", "coverage", "modes", "told")


def history(path: Path, records: Sequence[Record]) -> None:
    """Draws the rows of a run's `metrics.jsonl`: the losses (keys "loss/NAME") above, the other values below, over the key "round".

    Values that stay within [0, 1], such as probabilities, have a panel of their own beside those that do not. Scores ("score/NAME") have a
    panel each, those of shares one for each space, gradients ("grad/NAME") one on a scale of powers, and so have, of the signs of the watch
    ("health/NAME"), those that lie about 0 to 1. Where "phase" changes, a line says which begins. A round that was logged twice counts as
    it was logged last; what is not finite leaves a gap; of very many rounds, evenly chosen ones are drawn. RequestError where there is
    nothing to draw.
    """
    rows = sorted({int(record["round"]): record for record in records if "round" in record}.items())
    # More than two to a pixel cannot be told apart.
    rows = rows[:: len(rows) // (2 * WIDTH) + 1]
    names = [name for name in dict.fromkeys(key for _, row in rows for key in row) if name not in _BOOKKEEPING]
    lines = {name: np.array([_number(row.get(name)) for _, row in rows]) for name in names}
    lines = {name: values for name, values in lines.items() if np.isfinite(values).any()}
    if not lines:
        raise RequestError(f"{path}: none of the {len(records)} records has a round and a finite value; there is no history to draw yet")
    rounds = np.array([float(number) for number, _ in rows])
    panels = _panels(lines)
    figure, axes = blank(0.7 + 2.4 * len(panels), rows=len(panels))
    for each, (label, members) in zip(axes, panels.items(), strict=True):
        _panel(each, label, rounds, members)
    for each in axes:
        _phases(each, rows, named=each is axes[0])
    axes[-1].set_xlabel("round")
    save(figure, path)


def _number(value: float | int | str | None) -> float:
    return float(value) if isinstance(value, float | int) and math.isfinite(value) else math.nan


def _panels(lines: dict[str, Array]) -> dict[str, dict[str, Array]]:
    """The lines by the panel that they belong to, panels in reading order, empty ones left out."""
    panels: dict[str, dict[str, Array]] = {_LOSSES: {}, _SHARES: {}, _OTHERS: {}, _SIGNS: {}, _GRADIENTS: {}}
    for name, values in lines.items():
        kind, _, short = name.rpartition("/")
        share = np.nanmin(values) >= 0 and np.nanmax(values) <= 1
        if kind == "health":
            if short in _SHOWN_SIGNS:
                panels[_SIGNS][short] = values
        elif kind == "score":
            # Those of one space stand together: "recall (classifier)" with "precision (classifier)".
            space = short.partition(" (")[2]
            panels.setdefault(f"scores ({space}" if space and share else "scores" if share else short, {})[short] = values
        else:
            label = {"loss": _LOSSES, "grad": _GRADIENTS}.get(kind, _SHARES if share else _OTHERS)
            panels[label][short if kind in ("loss", "grad") else name] = values
    return {label: members for label, members in panels.items() if members}


def _panel(axes: Axes, label: str, rounds: Array, members: dict[str, Array]) -> None:
    """One panel: each value as a faint line with its smooth course upon it, where there are rounds enough to smooth."""
    for number, (name, values) in enumerate(members.items()):
        colour = SERIES[number % len(SERIES)]
        seen = np.isfinite(values)
        known = values[seen]
        if len(known) > 60:
            axes.plot(rounds, values, color=colour, linewidth=0.7, alpha=0.3)
            known = _smoothed(known, len(known) // 40)
        axes.plot(rounds[seen], known, color=colour, linewidth=1.8, label=name, marker="o" if len(known) == 1 else "")
    shown = np.concatenate(list(members.values()))
    if label == _GRADIENTS and (positive := shown[shown > 0]).size:
        axes.set_yscale("log")
        axes.set_ylim(max(positive.min(), 1e-8 * positive.max()) / 2, 2 * positive.max())
    else:
        axes.set_ylim(*((-0.03, 1.03) if label == _SHARES else _calm_limits(shown)))
    axes.set_xlim(rounds[0], max(rounds[-1], rounds[0] + 1))
    axes.set_ylabel(label)
    # Above the panel, where it hides nothing, in as many columns as fit side by side.
    columns = max(1, int(640 / (60 + 8.5 * max(map(len, members)))))
    axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1), ncols=columns, frameon=False, fontsize=10.5, labelcolor=INK, handlelength=1.6)


def _smoothed(values: Array, reach: int) -> Array:
    """The mean of medians over each value and its neighbours up to `reach` away, mirrored at the ends: a lone spike leaves no trace."""
    for middle in (np.median, np.mean):
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, reach, mode="reflect"), 2 * reach + 1)
        values = middle(windows, axis=1)
    return values


def _calm_limits(values: Array) -> tuple[float, float]:
    """Limits that a handful of spikes, as at the start of most games, cannot stretch."""
    low, high = np.nanquantile(values, [0.005, 0.995])
    room = 0.1 * (high - low) or 0.5
    return float(low - room), float(high + room)


def _phases(axes: Axes, rows: list[tuple[int, Record]], named: bool) -> None:
    """A dashed line where a phase begins, with its name beside it where `named`; nothing where there is but one."""
    begins: list[tuple[int, object]] = []
    for number, row in rows:
        if "phase" in row and (not begins or begins[-1][1] != row["phase"]):
            begins.append((number, row["phase"]))
    for index, (number, phase) in enumerate(begins if len(begins) > 1 else []):
        if index:
            axes.axvline(number, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
        if named:
            name = axes.text(number, 0.97, f" {phase}", color=INK, fontsize=10, va="top", transform=axes.get_xaxis_transform())
            name.set_bbox({"facecolor": PAPER, "edgecolor": "none", "pad": 1, "alpha": 0.8})
