"""From what the user wrote to a source of samples."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from pathlib import Path

from ganforge.batches import Batch, Labelled
from ganforge.data.bundled import digits
from ganforge.data.fit import check_fit
from ganforge.data.folder import open_folder
from ganforge.data.reading import Reading
from ganforge.data.source import Endless, Finite, Source
from ganforge.data.stored import open_csv, open_npy, open_npz
from ganforge.data.synthetic import Curves, Gaussian, Mixture, Sines
from ganforge.errors import RequestError

_LAWS: dict[str, Callable[[], Endless]] = {
    "gaussian": Gaussian,
    "ring": Mixture.ring,
    "grid": Mixture.grid,
    "curves": Curves,
    "sine": Sines,
}

_READERS: dict[str, Callable[[Path, int | None, int | None, bool], Finite]] = {".npz": open_npz, ".npy": open_npy, ".csv": open_csv}

BUNDLED: dict[str, str] = {
    "digits": "1,797 handwritten digits, 8x8 grey enlarged to 32x32, 10 classes",
    "gaussian": "numbers from N(4, 0.5^2)",
    "ring": "points of the plane: 8 narrow modes on a circle",
    "grid": "points of the plane: 25 narrow modes on a 5x5 grid",
    "curves": "parabolas y = a t^2 + (a - 1) at 15 places, a uniform in [1, 3]",
    "sine": "sine curves y = a sin(t + phi) at 15 places",
}
"""The sources that need no file, and what each is."""


def open_source(
    text: str,
    *,
    kinds: tuple[type[Batch], ...] = (),
    reading: Reading = Reading(),  # noqa: B008
    **options: Any,
) -> Source:
    """The source that `text` names: a name of `BUNDLED`, a folder of pictures, an `.npz`, `.npy` or `.csv` file.

    Pictures come as squares of `size` pixels a side (None: 32 for digits, 64 for folders, as stored in array files) with 1 or 3
    `channels` (None: as the data are). `labels` asks for classes (a folder's sub-folders). `workers` threads decode a folder (0: one
    per processor); `strict` refuses a folder with a bad picture, where the default skips it and notes why. A folder that is named like
    a bundled source is reached by "./digits". RequestError says what was wrong and what would be right.
    """
    if "size" in options and options["size"] is not None:
        options["size"] = str(options["size"])
    reading = replace(reading, **options)
    shape = reading.shape()
    size, channels, labels, workers, strict = (
        shape[0] if shape else None,
        reading.channels,
        Labelled in kinds,
        reading.workers,
        reading.strict,
    )
    check_fit(size, channels)
    if workers < 0:
        raise RequestError(f"workers = {workers}: threads that decode are 0 (one per processor) or more")
    if text in _LAWS:
        if size is not None or channels is not None or labels:
            raise RequestError(f"data {text!r} is points: size, channels and labels belong to pictures")
        return _LAWS[text]()
    if text == "digits":
        return digits(32 if size is None else size, channels)
    path = _existing(text)
    reader = _READERS.get(path.suffix.lower())
    source: Source
    if path.is_dir():
        source = open_folder(path, size=64 if size is None else size, channels=channels, labels=labels, workers=workers, strict=strict)
    elif reader is not None:
        source = reader(path, size, channels, labels)
    else:
        raise RequestError(f"data {text!r}: a single file is an .npz, .npy or .csv; pictures are read from a folder")
    source.name = text
    return source


def _existing(text: str) -> Path:
    try:
        path = Path(text).expanduser()
        if text and (path.is_dir() or path.is_file()):
            return path
    except (OSError, RuntimeError) as error:
        raise RequestError(f"data {text[:80]!r} cannot be looked up: {error}") from None
    nearest = difflib.get_close_matches(text.lower(), BUNDLED, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    raise RequestError(f"data {text!r} is neither a file or folder that exists nor bundled ({', '.join(BUNDLED)}){hint}")
