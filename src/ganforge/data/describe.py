"""What is in a source, for a person who is about to train on it."""

from __future__ import annotations

import torch
from torch import Tensor

from ganforge.batches import ImageSpec, spec_to_json
from ganforge.data.source import Finite, Source
from ganforge.data.stream import Stream


def describe(source: Source) -> dict[str, object]:
    """A JSON object that says what `source` holds.

    `name`, `summary` (the spec in words), `spec` (as `spec_to_json` writes it), `kinds` (names of the batch types served), `count` (None:
    endless), `classes` (pictures by the name of their class; empty where nothing is labelled) and `notes`.
    """
    classes: dict[str, int] = {}
    if isinstance(source, Finite) and isinstance(source.spec, ImageSpec) and source.labels is not None:
        counts = torch.bincount(source.labels, minlength=len(source.spec.classes)).tolist()
        classes = dict(zip(source.spec.classes, counts, strict=True))
    return {
        "name": source.name,
        "summary": str(source.spec),
        "spec": spec_to_json(source.spec),
        "kinds": [kind.__name__ for kind in source.kinds],
        "count": source.count if isinstance(source, Finite) else None,
        "classes": classes,
        "notes": list(source.notes),
    }


def contact_sheet_images(source: Source, n: int = 64) -> Tensor:
    """The first `n` samples of the source's order with seed 0, [n, *spec.shape]; all of them where it holds fewer."""
    shown = min(n, source.count) if isinstance(source, Finite) else n
    return Stream(source, source.kinds[0], seed=0, device=torch.device("cpu")).at(0, shown).x
