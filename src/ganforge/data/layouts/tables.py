"""Tables beside pictures: CSV, TSV, JSON Lines and JSON files whose rows name a picture each."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from ganforge.data.folder import FolderShelf
from ganforge.data.shelves import Shelf, split_suffix
from ganforge.data.zipped import ZipShelf
from ganforge.errors import RequestError

FILE_COLUMNS = (
    "file",
    "file_name",
    "filename",
    "image_id",
    "image",
    "image_path",
    "image_file",
    "img",
    "path",
    "filepath",
    "picture",
    "name",
)
"""What the column that names the picture may be called, in any case; the first that is there is taken."""
SPLIT_COLUMNS = ("split", "partition", "subset")
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "testing": "test"}
"""The words for the parts of a data set, and the part that each means."""
_NUMBERED = {"0": "train", "1": "val", "2": "test"}  # CelebA's list_eval_partition
_SAYS_SPLIT = re.compile(rb"(?<!\w)(?:split|partition|subset)(?!\w)", re.IGNORECASE)
_SHORT = 6
_SUFFIXES = (".csv", ".tsv", ".jsonl")

Beside = Mapping[str, Callable[[], bytes]]
"""The files that lie with the pictures and are none, by name: reading one gives its bytes."""


@dataclass(frozen=True)
class Table:
    """Columns of cells by name, and the file they are of, for messages. A cell that a row lacks is None."""

    origin: str
    cells: dict[str, list[Any]]

    @property
    def columns(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self.cells)

    def column(self, names: Sequence[str]) -> str | None:
        """The first of these columns that the table has, in any case."""
        known = {column.lower(): column for column in reversed(self.columns)}
        return next((known[name] for name in names if name in known), None)

    @property
    def file(self) -> str:
        """The column that names the picture; RequestError where there is none."""
        found = self.column(FILE_COLUMNS)
        if found is None:
            raise RequestError(f"{self.origin}: no column names the picture; call it 'file'. It has {_quoted(self.columns)}")
        return found


def files_beside(shelf: Shelf) -> Beside | None:
    """The files that lie among the pictures of a folder or a zip; None for shelves of which each picture is a row or a record."""
    if not isinstance(shelf, FolderShelf | ZipShelf):
        return None
    return {name: partial(shelf.read_other, name) for name in shelf.others}


def read_table(origin: str, data: bytes) -> Table:
    """The rows of a CSV, TSV, JSON Lines or JSON file (a list of objects), by the suffix of `origin`; RequestError names the bad line.

    The cells of a CSV lie between commas, or between semicolons where its first line has more of those.
    """
    suffix = PurePosixPath(origin).suffix.lower()
    text = _text(origin, data)
    if suffix in (".jsonl", ".json"):
        objects = list(_objects(origin, text, suffix))
        return Table(origin, {key: [row.get(key) for row in objects] for key in dict.fromkeys(key for row in objects for key in row)})
    delimiter = "\t" if suffix == ".tsv" else max(",;", key=text.partition("\n")[0].count)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        header = [cell.strip() for cell in next(lines, [])]
        if not any(header) or len(set(header)) < len(header):
            raise RequestError(f"{origin}: the first line must name the columns, each once; it is {_quoted(header)}")
        rows: list[list[str]] = []
        for cells in lines:
            if len(cells) != len(header) and cells:
                raise RequestError(f"{origin}: line {lines.line_num} has {len(cells)} cells, the first line has {len(header)}")
            if cells:
                # A table of 40 attributes has millions of short cells: one object for all that are equal.
                rows.append([sys.intern(cell) if len(cell) < _SHORT else cell for cell in cells])
    except csv.Error as error:
        raise RequestError(f"{origin}: line {lines.line_num}: {error}") from None
    columns = zip(*rows, strict=True) if rows else ([] for _ in header)
    return Table(origin, {name: list(column) for name, column in zip(header, columns, strict=True)})


def _objects(origin: str, text: str, suffix: str) -> Iterator[dict[str, Any]]:
    try:
        found = json.loads(text) if suffix == ".json" else None
    except json.JSONDecodeError as error:
        raise RequestError(f"{origin}: line {error.lineno} is no JSON ({error.msg})") from None
    except RecursionError:
        raise RequestError(f"{origin}: JSON that is nested too deep") from None
    if suffix == ".json":
        if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
            raise RequestError(f"{origin}: neither a list of objects, one a picture, nor COCO captions ('images' and 'annotations')")
        yield from found
        return
    # Not splitlines: JSON allows other separators of lines, as U+2028, within a string.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise RequestError(f"{origin}: line {number} is no JSON object ({error.msg})") from None
            except RecursionError:
                raise RequestError(f"{origin}: line {number} is nested too deep") from None
            if not isinstance(row, dict):
                raise RequestError(f"{origin}: line {number} is no JSON object but {line[:40]!r}")
            yield row


def tables_beside(beside: Beside) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """The files that are tables by their suffix, in the order of their names."""
    for name in sorted(beside):
        if PurePosixPath(name).suffix.lower() in _SUFFIXES:
            yield name, beside[name]


class Lookup:
    """From how a table names a picture to its path: the whole of it, the end of it, or either without the suffix, as long as it is one."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths: dict[str, str | None] = {}
        for path in paths:
            for key in dict.fromkeys([*_ends(path), *_ends(split_suffix(path)[0])]):
                self._paths[key] = None if key in self._paths else path
        self._paths |= {path: path for path in paths}

    def __call__(self, name: object) -> str | None:
        """The picture's path; None where there is none of this name, or more than one. Folders that a path lacks are passed over."""
        written = str(name).strip().removeprefix("./")
        keys = (*_ends(written), *_ends(split_suffix(written)[0]))
        return next((path for key in keys if (path := self._paths.get(key)) is not None), None)


def _ends(path: str) -> Iterator[str]:
    """a/b/c: itself, b/c and c."""
    yield path
    while "/" in path:
        path = path.partition("/")[2]
        yield path


def splits_by_table(beside: Beside, paths: Sequence[str]) -> list[str] | None:
    """The split of each picture as a table tells it, "train" where it says nothing, "" where it says another word; None: no table does.

    CelebA's list_eval_partition.txt, CUB's images.txt with train_test_split.txt, or a table with a column `split`. A picture that is
    told twice is to train on only where both say so. RequestError where a table that tells of splits cannot be read.
    """
    told = list(_partition(beside)) or list(_cub(beside)) or list(_column(beside))
    if not told:
        return None
    lookup = Lookup(paths)
    by_path: dict[str | None, str] = {}
    for name, split in told:
        if by_path.get(path := lookup(name), "train") == "train":
            by_path[path] = split
    return [by_path.get(path, "train") for path in paths]


def _named(beside: Beside, name: str) -> str | None:
    found = min((path for path in beside if PurePosixPath(path).name == name), default=None)
    return None if found is None else beside[found]().decode("utf-8", "replace")


def _partition(beside: Beside) -> Iterator[tuple[str, str]]:
    for line in (_named(beside, "list_eval_partition.txt") or "").splitlines():
        cells = line.rsplit(maxsplit=1)
        if len(cells) == 2 and cells[1] in _NUMBERED:
            yield cells[0].strip(), _NUMBERED[cells[1]]


def _cub(beside: Beside) -> Iterator[tuple[str, str]]:
    names, trained = _named(beside, "images.txt"), _named(beside, "train_test_split.txt")
    if names is None or trained is None:
        return
    by_id = dict(line.split(maxsplit=1) for line in names.splitlines() if len(line.split()) == 2)
    for line in trained.splitlines():
        number, _, flag = line.strip().partition(" ")
        if number in by_id and flag in ("0", "1"):
            yield by_id[number], "train" if flag == "1" else "test"


def _column(beside: Beside) -> Iterator[tuple[str, str]]:
    for name, read in tables_beside(beside):
        data = read()
        if not _SAYS_SPLIT.search(data.partition(b"\n")[0]):
            continue
        # An error is raised and not passed over: the pictures to test on would come into training.
        table = read_table(name, data)
        column, file = table.column(SPLIT_COLUMNS), table.column(FILE_COLUMNS)
        if column is None or file is None:
            continue
        said = ["" if cell is None else str(cell).strip().lower() for cell in table.cells[column]]
        splits = [SPLITS.get(word) or _NUMBERED.get(word) for word in said]
        if any(splits):
            for path, word, split in zip(table.cells[file], said, splits, strict=True):
                # Names count from the table's folder first: 1.png of u/split.csv is u/1.png, whatever v holds.
                yield str(PurePosixPath(name).parent / str(path).strip()), split or ("" if word else "train")


def _text(origin: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(f"{origin}: not UTF-8 text (byte {error.start})") from None


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
