"""Hugging Face data sets: a folder that `datasets` saved, or a name on the hub. Needs the extra `hub`."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ganforge.data.shelves import Shelf
from ganforge.errors import RequestError

_MARKS = ("dataset_dict.json", "state.json")  # files that `save_to_disk` leaves, of several splits and of one


class HubShelf(Shelf):
    """The pictures in the first column of type Image of each split, as "0000012", or where there are several splits "train/0000012".

    Sidecars: `.cls` is the first column of type ClassLabel, whose names are `classes`; `.txt` the first column of strings, or of lists
    of strings; `.json` all columns but the pictures. RequestError where no column holds pictures.
    """

    def __init__(self, origin: str, splits: Mapping[str, Any]) -> None:
        datasets = _datasets()
        self.origin = origin
        self.notes = []
        features = next(iter(splits.values())).features
        images = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
        if not images:
            raise RequestError(f"{origin}: no column holds pictures (the feature Image); it has {', '.join(features) or 'no column'}")
        if len(images) > 1:
            self.notes.append(f"pictures of the column {images[0]!r}; not served: {', '.join(images[1:])}")
        self._image = images[0]
        self._label = next((name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)), None)
        self._text = next((name for name, feature in features.items() if _is_text(feature)), None)
        self.classes = () if self._label is None else tuple(features[self._label].names or ())
        # The bytes as they were stored: decoding is ours, with its limits and its names of bad pictures.
        self._pictures = [
            split.select_columns([images[0]]).cast_column(images[0], datasets.Image(decode=False)) for split in splits.values()
        ]
        self._columns = [split.remove_columns(images) for split in splits.values()]
        self._ends = np.cumsum([len(split) for split in splits.values()])
        self.names = [f"{name}/{row:07}" if len(splits) > 1 else f"{row:07}" for name, split in splits.items() for row in range(len(split))]
        files = [_files_of(split) for split in splits.values()]
        self.identity = repr([(name, [(str(path), stat.st_size) for path, stat in each]) for name, each in zip(splits, files, strict=True)])
        self._written = [max((stat.st_mtime_ns for _, stat in each), default=0) for each in files]

    def _row(self, number: int) -> tuple[int, int]:
        """(split, row within it)."""
        split = int(np.searchsorted(self._ends, number, side="right"))
        return split, number - (int(self._ends[split - 1]) if split else 0)

    def open(self, number: int) -> BinaryIO:
        """The bytes in the table, or the file that it names."""
        split, row = self._row(number)
        cell = self._pictures[split][row][self._image] or {}
        if cell.get("bytes") is not None:
            return io.BytesIO(cell["bytes"])
        if not cell.get("path"):
            return io.BytesIO()
        return Path(cell["path"]).open("rb")

    def stamp(self, number: int) -> tuple[int, int]:
        """(0, when the newest file of its split was written): the rows of a data set are never edited in place."""
        return 0, self._written[self._row(number)[0]]

    def sidecar(self, number: int, suffix: str) -> bytes | None:
        """See the class."""
        if suffix not in (".cls", ".txt", ".json"):
            return None
        split, row = self._row(number)
        return self._sidecar(self._columns[split][row], suffix)

    def sidecars(self, suffix: str) -> list[bytes | None]:
        """See the class."""
        column = {".cls": self._label, ".txt": self._text}.get(suffix)
        if suffix != ".json" and column is None:
            return [None] * len(self)
        tables = self._columns if column is None else [table.select_columns([column]) for table in self._columns]
        return [self._sidecar(row, suffix) for table in tables for row in table]

    def _sidecar(self, row: Mapping[str, Any], suffix: str) -> bytes | None:
        if suffix == ".json":
            return json.dumps(row, default=str).encode()
        value = row.get((self._label if suffix == ".cls" else self._text) or "")
        if value is None:
            return None
        if suffix == ".cls":
            return str(value).encode()
        lines = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        return "\n".join(" ".join(line.split()) for line in lines).encode()


def is_saved(folder: Path) -> bool:
    """Whether `datasets` saved a data set into the folder."""
    return any((folder / mark).is_file() for mark in _MARKS)


def saved_shelf(folder: Path) -> HubShelf:
    """The data set that `datasets.save_to_disk` wrote into the folder. RequestError where it cannot be read."""
    datasets = _datasets()
    try:
        found = datasets.load_from_disk(str(folder))
    except Exception as error:  # Whatever pyarrow and json say of damaged files.
        raise RequestError(f"{folder}: not a data set that `datasets` can load ({_first_line(error)})") from None
    return HubShelf(str(folder), found if isinstance(found, Mapping) else {"": found})


def hub_shelf(text: str) -> HubShelf:
    """The data set `hub:NAME` or `hub:NAME:SPLIT`, fetched by `datasets`, or from the folder NAME. RequestError where there is none."""
    name, _, split = text.removeprefix("hub:").partition(":")
    if not name:
        raise RequestError(f"{text}: name a data set of the Hugging Face hub: hub:NAME or hub:NAME:SPLIT")
    datasets = _datasets()
    try:
        found = datasets.load_dataset(name, split=split or None)
    except Exception as error:  # Of the network, of the name, of the split: `datasets` has no common base for them.
        raise RequestError(f"{text}: `datasets` cannot load it ({_first_line(error)})") from None
    return HubShelf(text, found if isinstance(found, Mapping) else {"": found})


def _datasets() -> Any:
    try:
        return import_module("datasets")
    except ImportError:
        raise RequestError("data sets of the Hugging Face hub need the extra `hub`: pip install 'ganforge[hub]'") from None


def _is_text(feature: Any) -> bool:
    """Whether a column holds strings, or lists of them."""
    inner = feature[0] if isinstance(feature, list) else getattr(feature, "feature", feature)
    return getattr(inner, "dtype", None) in ("string", "large_string")


def _files_of(split: Any) -> list[tuple[Path, os.stat_result]]:
    paths = [Path(file["filename"]).resolve() for file in split.cache_files]
    return [(path, path.stat()) for path in paths]


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
