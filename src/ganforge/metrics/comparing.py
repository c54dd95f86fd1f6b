"""Runs side by side: a row for each measure, a column for each run or for the seeds of one configuration, the best of a row marked."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, takewhile
from pathlib import Path
from re import IGNORECASE, sub
from statistics import fmean, stdev

from ganforge.batches import Batch, Images, Labelled, Pairs, SemiLabelled, TwoDomains, Unpaired
from ganforge.data import Finite, Source
from ganforge.data.layouts.serving import fingerprint
from ganforge.errors import RequestError
from ganforge.metrics.findings import Better, Score, Section
from ganforge.metrics.material import CHUNK, Part, as_kind


class MixedError(RequestError):
    """Two numbers of one measure were taken in the features of two extractors."""


@dataclass(frozen=True)
class Measured:
    """One run: what was found, on the data of which identity, and what it cost.

    Runs of equal `configuration` (None: of its own) that differ in their `seed` are one thing tried several times.
    """

    name: str
    sections: Sequence[Section]
    data: str = ""
    game: str = ""
    costs: Mapping[str, float] = field(default_factory=dict)
    configuration: Hashable = None
    seed: int = 0

    def scores(self) -> Iterator[tuple[str, Score]]:
        """Each score with the title of its section."""
        for section in self.sections:
            for score in section.scores:
                yield section.title, score


@dataclass(frozen=True)
class Column:
    """A run, or several seeds of one configuration: the names of its `runs`, and one for all."""

    name: str
    game: str
    runs: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """The mean over so many `runs`; `deviation` is the standard deviation of a sample (divided by runs - 1), None of a single run."""

    value: float
    deviation: float | None = None
    runs: int = 1
    best: bool = False


@dataclass(frozen=True)
class Row:
    """One measure, or one cost, of all columns, in their order; None where a column does not have it.

    `beside` is what the same measure gives for something known, as far as it is the same for all; the other fields are those of `Score`.
    """

    name: str
    cells: tuple[Cell | None, ...]
    unit: str = ""
    better: Better = ""
    space: str = ""
    beside: Mapping[str, float] = field(default_factory=dict)
    section: str = ""


@dataclass(frozen=True)
class Comparison:
    """The table: `about` says how all were measured. A notebook shows it as Markdown."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    costs: tuple[Row, ...]
    about: str = ""
    notes: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    """The names of runs that could not be measured; a note says why."""

    def row(self, name: str) -> Row:
        """The row of this measure or cost; RequestError where there is none."""
        known = {row.name: row for row in (*self.costs, *self.rows)}
        if name not in known:
            raise RequestError(f"no row {name!r}; there are {', '.join(known)}")
        return known[name]

    def cells(self, mark: Callable[[str], str]) -> list[list[str]]:
        """The table as text, its header first, each line as long; `mark` is put on the best of a row."""
        lines = [["", *(column.name for column in self.columns)], ["game", *(column.game for column in self.columns)]]
        if any(len(column.runs) > 1 for column in self.columns):
            lines.append(["runs", *(str(len(column.runs)) for column in self.columns)])
        numbers = [*self.rows, *self.costs]
        for row in numbers:
            texts = [self._shown(cell, column, mark) for cell, column in zip(row.cells, self.columns, strict=True)]
            lines.append([f"{row.name} [{row.unit}]" if row.unit else row.name, *texts])
        beside = [", ".join(f"{what} {shown(value)}" for what, value in row.beside.items()) for row in numbers]
        for title, words in (("better", [str(row.better) for row in numbers]), ("beside", beside)):
            if any(words):
                blank = [""] * (len(lines) - len(words) - 1)
                lines = [[*line, word] for line, word in zip(lines, [title, *blank, *words], strict=True)]
        return lines

    def markdown(self, picture: str = "") -> str:
        """The table, how it was measured, the notes, and a link to a picture where one is named."""
        header, *lines = [[text.replace("|", "\\|") for text in line] for line in self.cells(lambda text: f"**{text}**")]
        words = len(header) - 1 - len(self.columns)
        ruler = ["---", *["---:"] * len(self.columns), *["---"] * words]
        table = "\n".join(f"| {' | '.join(line)} |" for line in (header, ruler, *lines))
        parts = [self.about, table, "\n".join(f"- {note}" for note in self.notes), f"![side by side]({picture})" if picture else ""]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _repr_markdown_(self) -> str:
        return self.markdown()

    @staticmethod
    def _shown(cell: Cell | None, column: Column, mark: Callable[[str], str]) -> str:
        if cell is None:
            return "-"
        text = shown(cell.value) if not cell.deviation else f"{shown(cell.value)} ± {shown(cell.deviation)}"
        text += f" ({cell.runs} of {len(column.runs)})" if cell.runs < len(column.runs) else ""
        return mark(text) if cell.best else text


def shown(value: float) -> str:
    """Three digits after the point, or three that say something; of large numbers fewer."""
    if not math.isfinite(value):
        return str(value)
    if abs(value) >= 100:
        return f"{value:,.0f}" if abs(value) >= 1000 or float(value).is_integer() else f"{value:.1f}"
    if float(value).is_integer() and abs(value) > 1:
        return str(int(value))
    return f"{value:.3f}" if value == 0 or abs(value) >= 0.01 else f"{value:.2g}"


def compare(measured: Sequence[Measured], each: bool = False, about: str = "", notes: Iterable[str] = ()) -> Comparison:
    """What was measured of two runs or more as one table; with `each` several seeds of a configuration have a column each.

    RequestError where the names are not all different or two were measured on different data, MixedError where numbers of one measure
    come from the features of two extractors.
    """
    names = [run.name for run in measured]
    if len(set(names)) < len(names) or len(names) < 2:
        raise RequestError(f"to compare {', '.join(names) or 'nothing'}: give two runs or more, each once")
    for first, other in pairwise(measured):
        if first.data != other.data:
            raise RequestError(
                f"{first.name} was measured on data {first.data}, {other.name} on {other.data}; such numbers do not stand in one row"
            )
    groups = [[run] for run in measured] if each else _groups(measured)
    columns = tuple(Column(_name(group), group[0].game, tuple(run.name for run in group)) for group in groups)
    if len({column.name for column in columns}) < len(columns):
        columns = tuple(Column(", ".join(column.runs), column.game, column.runs) for column in columns)
    first_of: dict[tuple[str, str], Score] = {}
    for run in measured:
        for title, score in run.scores():
            first_of.setdefault((title, score.name), score)
    rows = tuple(_row(title, score, measured, groups) for (title, _), score in first_of.items())
    costs = dict.fromkeys(cost for run in sorted(measured, key=lambda run: -len(run.costs)) for cost in run.costs)
    return Comparison(
        columns,
        rows,
        tuple(Row(cost, tuple(_cell([run.costs[cost] for run in group if cost in run.costs]) for group in groups)) for cost in costs),
        about,
        (*notes, *_notes(measured)),
        tuple(run.name for run in measured if not run.sections),
    )


def names_of(paths: Sequence[Path]) -> list[str]:
    """The last part of each path, or as many as make all different; RequestError where one is given twice."""
    parts = [path.resolve().parts for path in paths]
    twice = next((path for path, own in zip(paths, parts, strict=True) if parts.count(own) > 1), None)
    if twice is not None:
        raise RequestError(f"{twice}: is named twice; name each run once")
    depth = next(depth for depth in range(1, max(map(len, parts)) + 1) if len({own[-depth:] for own in parts}) == len(parts))
    return ["/".join(own[-depth:]) for own in parts]


def _groups(measured: Sequence[Measured]) -> list[list[Measured]]:
    """Runs of one configuration together, in the order of their first; those that share a seed are no sample of seeds."""
    found: dict[Hashable, list[Measured]] = {}
    for run in measured:
        found.setdefault(("of its own", run.name) if run.configuration is None else run.configuration, []).append(run)
    return [
        part
        for group in found.values()
        for part in ([group] if len({run.seed for run in group}) == len(group) else [[run] for run in group])
    ]


def _name(group: Sequence[Measured]) -> str:
    """What the names of the runs begin with, without the word for seed at its end; the first and how many more where that is nothing."""
    if len(group) == 1:
        return group[0].name
    names = [run.name for run in group]
    prefix = "".join(letters[0] for letters in takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False)))
    if any(name[len(prefix) :][:1].isdigit() for name in names):
        prefix = prefix.rstrip("0123456789")
    prefix = sub(r"[\W_]*(seed|s)?[\W_]*$", "", prefix, flags=IGNORECASE)
    return prefix or f"{names[0]} and {len(group) - 1} more"


def _row(title: str, of: Score, measured: Sequence[Measured], groups: Sequence[Sequence[Measured]]) -> Row:
    found = {run.name: score for run in measured for where, score in run.scores() if (where, score.name) == (title, of.name)}
    for (first, score), (other, another) in pairwise(found.items()):
        if score.space != another.space:
            raise MixedError(
                f"{of.name}: {first} was measured in the features of {score.space or 'no extractor'}, {other} in those of "
                f"{another.space or 'no extractor'}; such numbers do not stand in one row"
            )
    cells = [_cell([found[run.name].value for run in group if run.name in found]) for group in groups]
    scores = list(found.values())
    beside = {what: value for what, value in of.beside.items() if all(_near(score.beside.get(what), value) for score in scores)}
    return Row(of.name, _marked(cells, of.better), of.unit, of.better, of.space, beside, title)


def _cell(values: Sequence[float]) -> Cell | None:
    if not values:
        return None
    return Cell(fmean(values), stdev(values) if len(values) > 1 else None, len(values))


def _marked(cells: Sequence[Cell | None], better: Better) -> tuple[Cell | None, ...]:
    """The same with the best marked, where there is a better and a worse."""
    values = {cell.value for cell in cells if cell is not None and math.isfinite(cell.value)}
    best = None if len(values) < 2 or not better else min(values) if better == "lower" else max(values)
    return tuple(None if cell is None else Cell(cell.value, cell.deviation, cell.runs, cell.value == best) for cell in cells)


def _near(value: float | None, other: float) -> bool:
    return value is not None and math.isclose(value, other, rel_tol=1e-9, abs_tol=1e-12)


def _notes(measured: Sequence[Measured]) -> list[str]:
    """Each note of an evaluation once, with the runs of which it is true unless that is all of them."""
    found: dict[str, list[str]] = {}
    for run in measured:
        for section in run.sections:
            for note in section.notes:
                found.setdefault(f"{section.title}: {note}", []).append(run.name)
    return [note if len(set(names)) == len(measured) else f"{', '.join(dict.fromkeys(names))}: {note}" for note, names in found.items()]


def identity(source: Source, kind: type[Batch] | None = None) -> str:
    """Equal for sources of which the same samples would be measured: of finite ones 16 digits, of a law its name.

    Other than the fingerprint it knows how pictures come to their size, and what of a batch of `kind` (None: the richest) belongs to each,
    a hole or a smaller copy; and it does not know of their labels. It is of all files, and of some of the pictures that are made of them.
    """
    if not isinstance(source, Finite):
        return source.name
    kind, plain = kind or source.kinds[0], source
    if {Pairs, Unpaired, TwoDomains}.isdisjoint(source.kinds):
        plain = as_kind(source, Labelled) or as_kind(source, Images) or source
    if kind is SemiLabelled:
        source, kind = plain, plain.kinds[0]
    (batch,) = Part.of(source).first(CHUNK).batches(kind)
    fields = {name: tensor for name, tensor in batch.tensors().items() if tensor.ndim == 4 or len(source.spec.shape) == 1}
    facts = [(name, tuple(tensor.shape), tensor.contiguous().numpy().tobytes()) for name, tensor in fields.items()]
    return fingerprint([plain.fingerprint, plain.count, *(part for fact in facts for part in fact)])
