"""Where pictures are compared: a space of features in which near means alike."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ganforge.metrics.findings import NotMeasuredError
from ganforge.metrics.manifolds import Features, as_features
from ganforge.metrics.material import Material, Part
from ganforge.metrics.readers import reader_of

_SIDE = 16


class Extractor(Protocol):
    """Makes features of pictures; scores name it, as those of two extractors cannot be compared."""

    name: str

    def features(self, images: Tensor) -> Features:
        """[n, C, H, W] in [-1, 1] to [n, d]; a row depends on its own picture alone."""
        ...


class Pixels:
    """The pixels themselves, averaged down to at most 16 a side: alike is what has the same layout of light and colour."""

    name = "pixels"

    def features(self, images: Tensor) -> Features:
        """See `Extractor`."""
        size = min(_SIDE, images.shape[2]), min(_SIDE, images.shape[3])
        return as_features(F.interpolate(images.float().cpu(), size=size, mode="area"))


def extractor_of(material: Material, side: int = 0) -> Extractor:
    """The extractor that is asked for; "auto" is that of a classifier taught on labelled pictures, where there are such, else pixels."""
    if material.features == "pixels":
        return Pixels()
    try:
        learn, _ = material.labelled(side)
        return reader_of("classes", learn, len(classes_of(learn)))
    except NotMeasuredError:
        if material.features == "classifier":
            raise
        return Pixels()


def classes_of(part: Part) -> tuple[str, ...]:
    """The names of the classes of labelled pictures."""
    classes: tuple[str, ...] = getattr(part.source.spec, "classes", ())
    return classes


def places_of(part: Part, names: tuple[str, ...]) -> Tensor:
    """For each class of labelled pictures its place in `names`, [k] int64; -1 for a class that is none of them."""
    return torch.tensor([names.index(name) if name in names else -1 for name in classes_of(part)], dtype=torch.int64)


def features_of(extractor: Extractor, part: Part) -> Features:
    """Those of all pictures of the part, [n, d]."""
    return np.concatenate([extractor.features(batch.x) for batch in part.batches(part.source.kinds[0])])
