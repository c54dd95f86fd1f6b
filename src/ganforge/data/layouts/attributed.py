"""Pictures with yes-or-no properties: CelebA's list_attr_celeba.txt, or a table with a column of 0 and 1 for each."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class _Told:
    """What a table tells: `values` [rows, k] of 0 and 1, a row for each of `files`, a column for each of `names`."""

    origin: str
    files: Sequence[object]
    names: Sequence[str]
    values: NDArray[np.uint8]


def attributes_of(request: Request) -> Attributes | str:
    """The properties of the pictures of the only place, those that `--attributes` names; or why there are none."""
    told = _told(request)
    if isinstance(told, str):
        return told
    names = _chosen(told, request.reading.attributes)
    columns = np.array([told.names.index(name) for name in names], dtype=np.int64)
    place, album = request.places[0], request.album
    number = {path: index for index, path in enumerate(album.paths)}
    paths = [place.lookup(file) for file in told.files]
    rows = np.array([row for row, path in enumerate(paths) if path in number], dtype=np.int64)
    if not len(rows):
        return f"no row of {told.origin} names one of the pictures" + (f", e.g. {told.files[0]}" if paths else "")
    at = np.array([number[path] for path in paths if path in number], dtype=np.int64)
    values = np.zeros((len(album), len(names)), dtype=np.uint8)
    values[at] = told.values[np.ix_(rows, columns)]
    known = np.zeros(len(album), dtype=bool)
    known[at] = True
    notes = [f"{len(names)} attributes of {told.origin}"]
    if not known.all():
        notes.append(f"{int((~known).sum())} pictures skipped because {told.origin} has no row for them")
    if astray := paths.count(None):
        notes.append(f"{astray} rows of {told.origin} name no picture here")
    return Attributes(values, names, known, notes)


def _told(request: Request) -> _Told | str:
    """What the table that lies with the pictures tells; or why there is none."""
    beside = request.places[0].beside or {}
    celeba = next((name for name in sorted(beside) if _is_celeba(name)), None)
    if celeba is not None:
        return _celeba(celeba, beside[celeba]())
    reasons = []
    for name, read in tables_beside(beside):
        try:
            table = read_table(name, read())
            yes = _yes_or_no(table)
            if yes:
                return _Told(name, table.cells[table.file], list(yes), np.array(list(yes.values()), dtype=np.uint8).T)
            reasons.append(f"{name} has no column of 0 and 1 (or -1 and 1, true and false)")
        except RequestError as error:
            reasons.append(str(error))
    return reasons[0] if reasons else "there is no list_attr_celeba.txt and no table of attributes"


def _is_celeba(name: str) -> bool:
    path = PurePosixPath(name)
    return path.name.startswith("list_attr") and path.suffix == ".txt"


def _celeba(origin: str, data: bytes) -> _Told:
    """CelebA's own format: a line with the number of pictures, a line with the names, then a file and its values (-1, 1) a line."""
    lines = data.decode("utf-8", "replace").splitlines()
    names = lines[1].split() if len(lines) > 1 else []
    if not lines or not lines[0].strip().isdigit() or not names:
        raise RequestError(f"{origin}: not CelebA's format: a line with the number of pictures, one with the names, then one a picture")
    files: list[str] = []
    values = np.zeros((len(lines) - 2, len(names)), dtype=np.uint8)
    for number, line in enumerate(lines[2:], 3):
        cells = line.split()
        if not cells:
            continue
        if len(cells) != len(names) + 1:
            raise RequestError(f"{origin}: line {number} has {len(cells) - 1} values, the second line {len(names)} names")
        try:
            values[len(files)] = [_MEANS[cell] for cell in cells[1:]]
        except KeyError as error:
            raise RequestError(f"{origin}: line {number} has the value {error}; values are -1 and 1") from None
        files.append(cells[0])
    return _Told(origin, files, names, values[: len(files)])


def _yes_or_no(table: Table) -> dict[str, list[int]]:
    """The columns that hold yes (1) or no (0) in every row."""
    left_out = {table.column(SPLIT_COLUMNS), table.file}
    found = {}
    for name, cells in table.cells.items():
        # Few distinct cells and perhaps millions of them.
        known = {cell: _MEANS.get(cell.strip().lower()) for cell in dict.fromkeys(map(str, cells))}
        if name not in left_out and known and None not in known.values():
            found[name] = [known[str(cell)] or 0 for cell in cells]
    return found


def _chosen(told: _Told, asked: str | None) -> list[str]:
    """The attributes that are asked for, in that order; RequestError where there is none of that name."""
    if asked is None:
        return list(told.names)
    names = [name.strip() for name in asked.split(",") if name.strip()]
    for name in names:
        if name not in told.names:
            near = difflib.get_close_matches(name, told.names, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(told.names)}"
            raise RequestError(f"--attributes {name}: {told.origin} has no such attribute; {hint}")
    if not names or len(set(names)) < len(names):
        raise RequestError(f"--attributes {asked!r}: name each attribute once, with commas: {','.join(told.names[:2])}")
    return names
