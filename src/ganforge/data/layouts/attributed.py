"""Pictures with yes-or-no properties: CelebA's list_attr_celeba.txt, or a table with a column of 0 and 1 for each."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ganforge.batches import Attributed
from ganforge.data.layouts.images import Extra
from ganforge.data.layouts.request import Request
from ganforge.data.layouts.serving import Taken, sent
from ganforge.data.layouts.tables import SPLIT_COLUMNS, Table, read_table, tables_beside
from ganforge.errors import RequestError

_MEANS = {"1": 1, "0": 0, "-1": 0, "true": 1, "false": 0, "yes": 1, "no": 0, "1.0": 1, "0.0": 0, "-1.0": 0}


class Attributes(Extra):
    """Properties of each picture: `values` [n, k], uint8 of 0 and 1, in the order of `names`."""

    kind = Attributed

    def __init__(self, values: NDArray[np.uint8], names: Sequence[str], known: NDArray[np.bool_], notes: Sequence[str] = ()) -> None:
        self.values = torch.from_numpy(values)
        self.names = tuple(names)
        self.known = known
        self.notes = notes

    def spec(self) -> dict[str, Any]:
        """See `Extra`."""
        return {"attributes": self.names}

    def facts(self) -> Iterable[object]:
        """See `Extra`."""
        return self.names, self.values.numpy().tobytes()

    def subset(self, numbers: NDArray[np.int64]) -> Attributes:
        """See `Extra`."""
        return Attributes(self.values.numpy()[numbers], self.names, self.known[numbers], self.notes)

    def batch(self, taken: Taken) -> Attributed:
        """See `Extra`."""
        return Attributed(taken.image, sent(self.values[taken.indices], taken.image.device).float())


def attributes_of(request: Request) -> Attributes | str:
    """The properties of the pictures of the only place, those that `--attributes` names; or why there are none."""
    table = _table(request)
    if isinstance(table, str):
        return table
    file, names = table.file, _chosen(table, request.reading.attributes)
    place, album = request.places[0], request.album
    number = {path: index for index, path in enumerate(album.paths)}
    values = np.zeros((len(album), len(names)), dtype=np.uint8)
    known = np.zeros(len(album), dtype=bool)
    astray = 0
    for row in table.rows:
        path = place.lookup(row.get(file))
        if path is None:
            astray += 1
        elif path in number:
            values[number[path]] = [_MEANS[str(row[name]).strip().lower()] for name in names]
            known[number[path]] = True
    if not known.any():
        return (
            f"no row of {table.origin} names one of the pictures, e.g. {table.rows[0].get(file)!r}"
            if table.rows
            else f"{table.origin}: empty"
        )
    notes = [f"{len(names)} attributes of {table.origin}"]
    if not known.all():
        notes.append(f"{int((~known).sum())} pictures skipped because {table.origin} has no row for them")
    if astray:
        notes.append(f"{astray} rows of {table.origin} name no picture here")
    return Attributes(values, names, known, notes)


def _table(request: Request) -> Table | str:
    """The table that lies with the pictures; a table of which only some columns are properties is cut down to them."""
    beside = request.places[0].beside or {}
    celeba = next((name for name in sorted(beside) if _is_celeba(name)), None)
    if celeba is not None:
        return read_celeba(celeba, beside[celeba]())
    reasons = []
    for name, read in tables_beside(beside):
        try:
            table = read_table(name, read())
            if _properties(table) and table.file:
                return table
            reasons.append(f"{name} has no column of 0 and 1 (or -1 and 1, true and false)")
        except RequestError as error:
            reasons.append(str(error))
    return reasons[0] if reasons else "there is no list_attr_celeba.txt and no table of attributes"


def _is_celeba(name: str) -> bool:
    path = PurePosixPath(name)
    return path.name.startswith("list_attr") and path.suffix == ".txt"


def read_celeba(origin: str, data: bytes) -> Table:
    """CelebA's own format: a line with the number of pictures, a line with the names, then a file and its values (-1, 1) a line."""
    lines = data.decode("utf-8", "replace").splitlines()
    names = lines[1].split() if len(lines) > 1 else []
    if not lines or not lines[0].strip().isdigit() or not names:
        raise RequestError(f"{origin}: not CelebA's format: a line with the number of pictures, one with the names, then one a picture")
    rows = []
    for number, line in enumerate(lines[2:], 3):
        cells = line.split()
        if cells and len(cells) != len(names) + 1:
            raise RequestError(f"{origin}: line {number} has {len(cells) - 1} values, the second line {len(names)} names")
        wrong = next((cell for cell in cells[1:] if cell not in _MEANS), None)
        if wrong is not None:
            raise RequestError(f"{origin}: line {number} has the value {wrong!r}; values are -1 and 1")
        if cells:
            rows.append(dict(zip(["file", *names], cells, strict=True)))
    return Table(origin, ("file", *names), rows)


def _properties(table: Table) -> list[str]:
    """The columns that hold yes or no in every row."""
    left_out = {table.column(SPLIT_COLUMNS), table.file}
    return [
        column
        for column in table.columns
        if column not in left_out and table.rows and all(str(row.get(column)).strip().lower() in _MEANS for row in table.rows)
    ]


def _chosen(table: Table, asked: str | None) -> list[str]:
    """The attributes that are asked for, in that order; RequestError where there is none of that name."""
    there = _properties(table)
    if asked is None:
        return there
    names = [name.strip() for name in asked.split(",") if name.strip()]
    for name in names:
        if name not in there:
            near = difflib.get_close_matches(name, there, n=1, cutoff=0.4) or [each for each in there if each.lower() == name.lower()]
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(there)}"
            raise RequestError(f"--attributes {name}: {table.origin} has no such attribute; {hint}")
    if not names or len(set(names)) < len(names):
        raise RequestError(f"--attributes {asked!r}: name each attribute once, with commas: {','.join(there[:2])}")
    return names
