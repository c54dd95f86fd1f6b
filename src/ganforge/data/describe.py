"""What is in a source, for a person who is about to train on it."""

from __future__ import annotations

import torch

from ganforge.batches import Attributed, Batch, spec_to_json
from ganforge.data.layouts.attributed import Attributes
from ganforge.data.layouts.images import Pictures
from ganforge.data.layouts.request import Opened
from ganforge.data.opening import served_kinds
from ganforge.data.shelves import readable
from ganforge.data.source import Finite, Source
from ganforge.data.stream import Stream

_EXAMPLES = 20


def describe(source: Source) -> dict[str, object]:
    """A JSON object that says what `source` holds.

    `name`, `layout` (what was found), `summary` (the spec in words), `spec` (as `spec_to_json` writes it), `kinds` (names of the batch
    types served), `could_serve` (those that the same SOURCE could be opened as), `count` (None: endless), `splits` (pictures of each),
    `classes` and `attributes` (pictures by name), `caption` (an example), `bad` (files left out, and why; at most 20) with their number
    `bad_count`, and `notes`. What does not apply is empty.
    """
    opened = source if isinstance(source, Opened) else None
    request = None if opened is None else opened.request
    bad = {} if opened is None else opened.bad
    return {
        "name": source.name,
        "layout": "" if opened is None else opened.layout,
        "summary": str(source.spec),
        "spec": spec_to_json(source.spec),
        "kinds": [kind.__name__ for kind in source.kinds],
        "could_serve": [kind.__name__ for kind in served_kinds(source)],
        "count": source.count if isinstance(source, Finite) else None,
        "splits": {} if request is None or len(request.places) != 1 else request.places[0].counts,
        "classes": _classes(source),
        "attributes": _attributes(source),
        "caption": next(iter(source.captions(0)), "") if isinstance(source, Pictures) and source.count else "",
        "bad": {readable(file): why for file, why in list(bad.items())[:_EXAMPLES]},
        "bad_count": len(bad),
        "notes": list(source.notes),
    }


def contact_sheet(source: Source, kind: type[Batch] | None = None, n: int = 64) -> Batch:
    """The first `n` samples of the source's order with seed 0, or all, as a batch of `kind` (None: the richest)."""
    shown = min(n, source.count) if isinstance(source, Finite) else n
    return Stream(source, kind or source.kinds[0], seed=0, device=torch.device("cpu")).at(0, shown)


def _classes(source: Source) -> dict[str, int]:
    if not isinstance(source, Finite) or source.labels is None:
        return {}
    names: tuple[str, ...] = getattr(source.spec, "classes", ())
    counts = torch.bincount(source.labels, minlength=len(names)).tolist()
    return dict(zip(names, counts, strict=True))


def _attributes(source: Source) -> dict[str, int]:
    found = source.extras.get(Attributed) if isinstance(source, Pictures) else None
    if not isinstance(found, Attributes):
        return {}
    return dict(zip(found.names, found.values.long().sum(dim=0).tolist(), strict=True))
