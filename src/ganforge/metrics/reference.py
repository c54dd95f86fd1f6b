"""Features of real pictures, which are the same for every game and every round: taken once, and kept with what else is kept of the data."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor

from ganforge.files import atomic_write
from ganforge.metrics.manifolds import Extractor, Features, TellsClasses
from ganforge.metrics.material import Part


def features_of(extractor: Extractor, part: Part) -> Features:
    """Those of all pictures of the part, [n, d]."""
    return _kept("features", extractor.identity, part, extractor.features)


def probabilities_of(classifier: TellsClasses, part: Part) -> Features:
    """The probabilities of classes of all pictures of the part, [n, k]."""
    return _kept("probabilities", classifier.identity, part, classifier.probabilities)


def _kept(what: str, identity: str, part: Part, of: Callable[[Tensor], Features]) -> Features:
    """From the cache, or else made and put there; where the pictures cannot be told from others, made anew each time."""
    path = None
    if part.cache is not None and part.fingerprint:
        key = hashlib.sha256(repr((what, identity, part.fingerprint)).encode()).hexdigest()
        path = part.cache / f"features-{key}.safetensors"
        known = _read(path)
        if known is not None and len(known) == len(part):
            return known
    made = np.concatenate([of(batch.x) for batch in part.batches(part.source.kinds[0])])
    if path is not None:
        # Without a cache they are made again next time.
        with suppress(OSError), atomic_write(path) as temporary:
            save_file({"rows": np.ascontiguousarray(made)}, temporary)
    return made


def _read(path: Path) -> Features | None:
    """What is kept there, if that is whole."""
    try:
        rows: Features = load_file(path)["rows"]
    except (OSError, SafetensorError, KeyError):
        return None
    return rows
