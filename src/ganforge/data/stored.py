"""Array files: `.npz` and `.npy` of pictures or points, `.csv` of points. Nothing is unpickled."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ganforge.data.arrays import Pictures, Rows, as_labels, as_pixels, as_points
from ganforge.data.fit import fit
from ganforge.data.source import Finite
from ganforge.errors import RequestError

_UNREADABLE = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, MemoryError, NotImplementedError)


def open_npz(path: Path, size: int | None, channels: int | None, labels: bool) -> Pictures:
    """Pictures of the arrays `images` (and `labels`), or `train_images` (and `train_labels`), with optional `class_names`.

    `test_images` are never served. `size` None keeps the pictures' own. RequestError names the file, the field and the arrays found.
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
        notes = [f"{len(pixels)} pictures of {prefix}images"]
        unused = [name for name in found if name not in (f"{prefix}images", f"{prefix}labels", "class_names")]
        if unused:
            notes.append(f"not served: {', '.join(unused)}")
        if f"{prefix}labels" not in found:
            if labels:
                raise RequestError(f"{path}: labels are asked for, but there is no array '{prefix}labels'; it holds {', '.join(found)}")
            return Pictures(str(path), fit(pixels, size, channels), notes=notes)
        names = [_text(each) for each in _field(archive, "class_names", path).ravel()] if "class_names" in found else None
        marks, classes = as_labels(_field(archive, f"{prefix}labels", path), len(pixels), names, f"{path}: {prefix}labels")
    return Pictures(str(path), fit(pixels, size, channels), marks, classes, notes)


def open_npy(path: Path, size: int | None, channels: int | None, labels: bool) -> Finite:
    """Points where the array is [n, d]; pictures where it is uint8 [n, H, W] or [n, H, W, 1 or 3], mapped from the file."""
    if labels:
        raise RequestError(f"{path}: an .npy file holds one array and no labels; an .npz file holds both")
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except _UNREADABLE as error:
        raise RequestError(f"{path}: not an .npy file of numbers, or one that was cut short ({_first_line(error)})") from None
    if not isinstance(values, np.ndarray):
        raise RequestError(f"{path}: an archive, not one array; name it .npz")
    if values.ndim != 2:
        return Pictures(str(path), fit(as_pixels(values, str(path)), size, channels))
    return _rows(path, values, size, channels)


def open_csv(path: Path, size: int | None, channels: int | None, labels: bool) -> Rows:
    """Points, one a line, numbers separated by commas; a first line of names is skipped."""
    if labels:
        raise RequestError(f"{path}: a .csv file holds points, which have no labels")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        first = next((number for number, line in enumerate(lines) if line.strip()), None)
        if first is not None and not any(_is_number(cell) for cell in lines[first].split(",")):
            first = next((number for number in range(first + 1, len(lines)) if lines[number].strip()), None)
        if first is None:
            raise RequestError(f"{path}: no row of numbers")
        values = np.loadtxt(lines[first:], delimiter=",", dtype=np.float64, ndmin=2, comments=None)
    except RequestError:
        raise
    except (OSError, ValueError) as error:
        raise RequestError(f"{path}: not a table of numbers separated by commas ({_first_line(error)})") from None
    return _rows(path, values, size, channels)


def _rows(path: Path, values: NDArray[np.generic], size: int | None, channels: int | None) -> Rows:
    if size is not None or channels is not None:
        raise RequestError(f"{path}: holds points; size and channels belong to pictures")
    return Rows(str(path), as_points(values, str(path)))


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
