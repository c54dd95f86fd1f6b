"""From what the user wrote to a source of samples."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ganforge.batches import Batch
from ganforge.data.arrays import Given
from ganforge.data.bundled import digits
from ganforge.data.finding import find_shelf
from ganforge.data.layouts import domains, lowhigh, pairs, semi, unpaired
from ganforge.data.layouts.places import Place
from ganforge.data.layouts.request import Layout, Opened, Request
from ganforge.data.layouts.single import SINGLE
from ganforge.data.reading import Reading, Split
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

_READERS: dict[str, Callable[[Path], Place | Given]] = {".npz": open_npz, ".npy": open_npy, ".csv": open_csv}

BUNDLED: dict[str, str] = {
    "digits": "1,797 handwritten digits, 8x8 grey enlarged to 32x32, 10 classes",
    "gaussian": "numbers from N(4, 0.5^2)",
    "ring": "points of the plane: 8 narrow modes on a circle",
    "grid": "points of the plane: 25 narrow modes on a 5x5 grid",
    "curves": "parabolas y = a t^2 + (a - 1) at 15 places, a uniform in [1, 3]",
    "sine": "sine curves y = a sin(t + phi) at 15 places",
}
"""The sources that need no file, and what each is."""

LAYOUTS: tuple[Layout, ...] = (
    unpaired.CYCLEGAN,
    pairs.FOLDERS,
    unpaired.FOLDERS,
    pairs.HALVES,
    lowhigh.FOLDERS,
    *SINGLE,
    semi.SEMI,
    lowhigh.TWO,
    pairs.TWO,
    domains.DOMAINS,
    unpaired.TWO,
)
"""What a SOURCE can mean: the first that fits is taken where nothing is asked for."""


def open_source(
    text: str,
    *,
    kinds: tuple[type[Batch], ...] = (),
    split: Split = "train",
    reading: Reading | None = None,
    usual_size: int | None = None,
    **options: Any,
) -> Source:
    """The source that `text` names: one of `BUNDLED`, a folder, a file or shards of pictures, `hub:NAME`, or two of them, "A,B".

    `kinds` are the batch types that a game reads, the best liked first: the SOURCE is opened as the first of them that it can serve; with
    none, as the richest that it shows itself. `split` chooses the pictures to train on or those to test on, where there is such a part.
    `reading` says how pictures are decoded and served; `options` replace its fields (size=64). `usual_size` is the size of pictures
    where neither they (arrays have one) nor the reading say one. Points have no use for all that; whether the caller can read points is
    the caller's matter. RequestError says what was wrong and what would be right.
    """
    read_as = _with(reading or Reading(), options)
    found = _places(text, read_as)
    if isinstance(found, Source):
        if isinstance(found, Finite) and split == "test":
            raise RequestError(f"data {text!r}: points have no part to test on")
        found.name = text
        return found
    if usual_size is not None and read_as.size is None and not any(place.album(split).default_shape for place in found):
        read_as = replace(read_as, size=str(usual_size))
    request = Request(text, found, split, read_as, kinds)
    layout = _layout(request)
    source = layout.open(request)
    source.layout, source.request = layout.name, request
    return source


def served_kinds(source: Source) -> tuple[type[Batch], ...]:
    """All batch types as which the SOURCE of `source` could be opened, whatever it was opened for."""
    if not isinstance(source, Opened) or source.request is None:
        return source.kinds
    asked = source.request
    request = asked if not asked.kinds else Request(asked.text, asked.places, asked.split, asked.reading)
    return tuple(dict.fromkeys(layout.kind for layout in LAYOUTS if _refusal(layout, request) is None))


def _layout(request: Request) -> Layout:
    """The layout to open: of the earliest of the kinds that are asked for, or the first that fits; RequestError says why there is none."""
    wanted = [layout for kind in request.kinds for layout in LAYOUTS if layout.kind is kind] if request.kinds else list(LAYOUTS)
    reasons = []
    for layout in wanted:
        reason = _refusal(layout, request)
        if reason is None:
            return layout
        if len(request.places) == layout.places:
            reasons.append(f"{layout.name}: {reason}")
    names = " or ".join(kind.__name__ for kind in request.kinds)
    if not reasons:
        reasons = [f"{layout.name}: give {'two, with a comma' if layout.places == 2 else 'one source'}" for layout in wanted]
        reasons = reasons or ["it holds pictures"]
    raise RequestError(f"data {request.text!r} cannot serve {names}; {'; '.join(reasons)}")


def _refusal(layout: Layout, request: Request) -> str | None:
    if len(request.places) != layout.places:
        return "another number of sources is named"
    return layout.refusal(request)


def _with(reading: Reading, options: dict[str, Any]) -> Reading:
    """The reading with these fields replaced; RequestError for what it does not have, or a word that is none of its words."""
    known = get_type_hints(Reading)
    for name, value in options.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}"
            raise RequestError(f"open_source has no option {name!r}; {hint}")
        if get_origin(known[name]) is Literal and value not in get_args(known[name]):
            raise RequestError(f"--{name} {value}: must be {' or '.join(get_args(known[name]))}")
    if isinstance(options.get("size"), int):
        options = {**options, "size": str(options["size"])}
    return replace(reading, **options)


def _places(text: str, reading: Reading) -> tuple[Place, ...] | Source:
    """The one or two places of pictures that `text` names, or points."""
    whole = _place(text, reading)
    if whole is not None:
        return (whole,) if isinstance(whole, Place) else whole
    parts = [part.strip() for part in text.split(",")]
    if len(parts) == 1:
        raise RequestError(_unknown(text))
    if len(parts) != 2:
        raise RequestError(f"data {text!r}: {len(parts)} sources; a comma joins two")
    found = []
    for part in parts:
        place = _place(part, reading)
        if place is None:
            raise RequestError(_unknown(part))
        if not isinstance(place, Place):
            raise RequestError(f"data {part!r} is points; a comma joins two sources of pictures")
        found.append(place)
    return tuple(found)


def _place(text: str, reading: Reading) -> Place | Source | None:
    """What one name means; None where there is no such thing."""
    if text in _LAWS:
        return _LAWS[text]()
    if text == "digits":
        return Place(text, {"train": digits})
    try:
        shelf = find_shelf(text, reading) if text else None
        path = Path(text).expanduser()
        there = bool(text) and path.is_file()
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(f"data {text[:80]!r} cannot be looked up: {error}") from None
    if shelf is not None:
        return Place.of_shelf(text, shelf)
    if there and path.suffix.lower() not in _READERS:
        raise RequestError(f"data {text!r}: a single file is an .npz, .npy, .csv, .zip or .tar; pictures are read from a folder")
    return _READERS[path.suffix.lower()](path) if there else None


def _unknown(text: str) -> str:
    nearest = difflib.get_close_matches(text.lower(), BUNDLED, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return f"data {text[:80]!r} is neither a file or folder that exists nor bundled ({', '.join(BUNDLED)}){hint}"
