"""Sources of single pictures: which pictures, and all that is known of every one of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from ganforge.batches import Attributed, Batch, Captioned, Images, Labelled, LowHigh, Masked
from ganforge.data.layouts.attributed import attributes_of
from ganforge.data.layouts.captioned import Captions, captions_of
from ganforge.data.layouts.images import Extra, Pictures, Plain, labels_of
from ganforge.data.layouts.lowhigh import shrunk_of
from ganforge.data.layouts.masked import DRAWN, holes_of
from ganforge.data.layouts.request import Layout, Request

_FINDERS: dict[type[Batch], tuple[str, Callable[[Request], Extra | str]]] = {
    Captioned: ("pictures with captions", captions_of),
    Attributed: ("pictures with attributes", attributes_of),
    Labelled: ("pictures in classes", labels_of),
    Images: ("pictures", lambda request: Plain(len(request.album))),
    Masked: ("pictures, with holes made in them", holes_of),
    LowHigh: ("pictures, made smaller", shrunk_of),
}
"""The richest first: what each is called, and how it is found, or why there is none."""


def _refusal(kind: type[Batch], request: Request) -> str | None:
    found = request.once(_FINDERS[kind][1])
    if isinstance(found, str):
        return found
    known = int(found.known.sum())
    # A few captions in a large folder are an accident, unless they are asked for.
    enough = 1 if kind in request.kinds else len(found.known) / 2
    return None if known >= enough else f"that is so for {known} of {len(found.known)} pictures"


def _open(kind: type[Batch], request: Request) -> Pictures:
    """The pictures of which it is known what `kind` takes. What else is known of all of them is served too."""
    place, album, reading = request.places[0], request.album, request.reading
    found = {other: request.once(find) for other, (_, find) in _FINDERS.items() if other is kind or _wanted(other, request)}
    there = {other: extra for other, extra in found.items() if not isinstance(extra, str)}
    numbers = np.flatnonzero(there[kind].known)
    side = album.subset(numbers).read(reading)
    numbers = numbers[side.served]
    extras = [extra.subset(numbers) for other, extra in there.items() if other is kind or extra.known[numbers].all()]
    notes = [*place.notes, *(note for extra in extras for note in extra.notes)]
    source = Pictures(request.text, side, extras, reading, notes, album.stamps(numbers), low=kind is LowHigh)
    captions = source.extras.get(Captioned)
    if isinstance(captions, Captions):
        source.encoder, source.texts = captions.encoder, captions.texts
    return source


def _wanted(kind: type[Batch], request: Request) -> bool:
    """Whether to look for it where it is not what is opened: all where nothing is asked for, else what takes no time to find."""
    if not request.kinds or kind in request.kinds:
        return True
    return kind not in (Captioned, Attributed) and (kind is not Masked or request.reading.mask in DRAWN)


SINGLE = tuple(Layout(kind, name, partial(_refusal, kind), partial(_open, kind)) for kind, (name, _) in _FINDERS.items())
"""The richest first."""


def open_single(request: Request) -> Pictures:
    """The pictures of the only place with all that is known of them, as the richest kind."""
    return _open(next(layout.kind for layout in SINGLE if layout.refusal(request) is None), request)
