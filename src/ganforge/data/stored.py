"""Array files: `.npz` and `.npy` of pictures or points, `.csv` of points. Nothing is unpickled."""

from __future__ import annotations

import zipfile
import zlib
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ganforge.data.arrays import Given, as_labels, as_pixels, rows
from ganforge.data.layouts.albums import Arrays
from ganforge.data.layouts.places import Place
from ganforge.data.layouts.tables import FILE_COLUMNS
from ganforge.errors import RequestError

_UNREADABLE = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, MemoryError, NotImplementedError)


def open_npz(path: Path) -> Place:
    """Pictures of the arrays `images` (and `labels`), or `train_images` (and `train_labels`), with optional `class_names`.

    `test_images` (and `test_labels`), or `val_images`, are the pictures to test on. RequestError names the file, the field and the arrays
    found.
    """
    if not zipfile.is_zipfile(path):
        raise RequestError(f"{path}: not an .npz file, or one that was cut short; write it with numpy.savez(path, images=...)")
    try:
        archive = np.load(path, allow_pickle=False)
    except _UNREADABLE as error:
        raise RequestError(f"{path}: {_first_line(error)}") from None
    with archive:
        found = archive.files
        prefix = next((prefix for prefix in ("", "train_") if f"{prefix}images" in found), None)
        if prefix is None:
            raise RequestError(f"{path}: no array 'images' or 'train_images'; it holds {', '.join(found) or 'nothing'}")
        pixels = as_pixels(_field(archive, f"{prefix}images", path), f"{path}: {prefix}images")
        marks: NDArray[np.int64] | None = None
        classes: tuple[str, ...] = ()
        if f"{prefix}labels" in found:
            names = [_text(each) for each in _field(archive, "class_names", path).ravel()] if "class_names" in found else None
            marks, classes = as_labels(_field(archive, f"{prefix}labels", path), len(pixels), names, f"{path}: {prefix}labels")
    album = Arrays(str(path), pixels, marks, classes)
    splits = [split for split in ("val", "test") if f"{split}_images" in found]
    known = {f"{part}{what}" for part in (prefix, *(f"{split}_" for split in splits)) for what in ("images", "labels")}
    unused = [name for name in found if name not in known | {"class_names"}]
    notes = [f"not served: {', '.join(unused)}"] if unused else []
    return Place(str(path), {"train": lambda: album} | {split: partial(_tested, path, split, album) for split in splits}, notes)


def _tested(path: Path, split: str, trained: Arrays) -> Arrays:
    """The pictures to test on, their labels among the classes of those to train on (-1 for any other)."""
    with np.load(path, allow_pickle=False) as archive:
        pixels = as_pixels(_field(archive, f"{split}_images", path), f"{path}: {split}_images")
        if f"{split}_labels" not in archive.files or not trained.classes:
            return Arrays(str(path), pixels)
        named = "class_names" in archive.files
        where = f"{path}: {split}_labels"
        labels = _field(archive, f"{split}_labels", path)
    marks, classes = as_labels(labels, len(pixels), trained.classes if named else None, where)
    number = {name: index for index, name in enumerate(trained.classes)}
    return Arrays(str(path), pixels, np.array([number.get(name, -1) for name in classes], dtype=np.int64)[marks], trained.classes)


def open_npy(path: Path) -> Place | Given:
    """Points where the array is [n, d]; pictures where it is uint8 [n, H, W] or [n, H, W, 1 or 3], mapped from the file."""
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except _UNREADABLE as error:
        raise RequestError(f"{path}: not an .npy file of numbers, or one that was cut short ({_first_line(error)})") from None
    if not isinstance(values, np.ndarray):
        raise RequestError(f"{path}: an archive, not one array; name it .npz")
    if values.ndim == 2:
        return rows(str(path), values, str(path))
    # As a plain array: indexing a numpy.memmap pays for its subclass on every call.
    album = Arrays(str(path), as_pixels(values, str(path)).view(np.ndarray))
    return Place(str(path), {"train": lambda: album})


def open_csv(path: Path) -> Given:
    """Points, one a line, numbers separated by commas; a first line of names is skipped."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        first = next((number for number, line in enumerate(lines) if line.strip()), None)
        if first is not None and not any(_is_number(cell) for cell in lines[first].split(",")):
            named = set(lines[first].lower().replace('"', "").split(",")) & set(FILE_COLUMNS)
            if named:
                raise RequestError(f"{path}: a table of pictures (column {named.pop()!r}); name the folder that holds them and the table")
            first = next((number for number in range(first + 1, len(lines)) if lines[number].strip()), None)
        if first is None:
            raise RequestError(f"{path}: no row of numbers")
        values = np.loadtxt(lines[first:], delimiter=",", dtype=np.float64, ndmin=2, comments=None)
    except RequestError:
        raise
    except (OSError, ValueError) as error:
        raise RequestError(f"{path}: not a table of numbers separated by commas ({_first_line(error)})") from None
    return rows(str(path), values, str(path))


def _field(archive: np.lib.npyio.NpzFile, name: str, path: Path) -> NDArray[np.generic]:
    try:
        values = archive[name]
    except _UNREADABLE as error:
        raise RequestError(f"{path}: the array {name!r} cannot be read ({_first_line(error)})") from None
    if not isinstance(values, np.ndarray):
        raise RequestError(f"{path}: {name!r} is no numpy array")
    return values


def _text(name: object) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
