"""Many pictures of which few have a class: for learning from the labels that one could afford."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from ganforge.batches import ImageSpec, SemiLabelled
from ganforge.data.layouts.albums import read_alike
from ganforge.data.layouts.images import Labels, find_labels
from ganforge.data.layouts.request import Layout, Request
from ganforge.data.layouts.serving import sent
from ganforge.data.layouts.unpaired import Apart
from ganforge.errors import RequestError


def _labels(request: Request) -> Labels | str:
    return find_labels(request.places[0], request.album, asked=SemiLabelled in request.kinds)


def _refusal(request: Request) -> str | None:
    found = request.once(_labels)
    return found if isinstance(found, str) else None


def _open(request: Request) -> Apart:
    labels = request.once(_labels)
    assert isinstance(labels, Labels)
    (everything,) = read_alike(request.albums, request.reading)
    labels = labels.subset(everything.served)
    kept = _kept(labels, request.reading.labels)
    height, width, channels = everything.shape
    known, few = labels.labels[torch.from_numpy(kept)], everything.subset(kept)
    if few.pixels.slow:
        # Another stands in for a picture that proves bad when it is drawn: here it must be one whose class is known.
        few = request.album.subset(everything.served[kept]).read(replace(request.reading, size=f"{width}x{height}", channels=channels))
    facts = [*request.album.stamps(everything.served), kept.tobytes(), *labels.facts()]
    notes = [*labels.notes, f"{len(kept)} of {len(everything)} pictures keep their class"]
    return Apart(
        request,
        [few, everything],
        ImageSpec(height, width, channels, labels.classes),
        SemiLabelled,
        lambda i, labelled, many: SemiLabelled(many, labelled, sent(known[few.taken(i)], many.device)),
        notes,
        facts,
    )


def _kept(labels: Labels, count: int | None) -> NDArray[np.int64]:
    """The numbers of the pictures that keep their class: `count` of them, as many of each class, and always the same ones."""
    there = np.flatnonzero(labels.known)
    if count is None or count == len(there):
        return there
    if count > len(there) or count < len(labels.classes):
        raise RequestError(f"--labels {count}: {len(there)} pictures in {len(labels.classes)} classes have one; give a number between")
    order = there[np.random.default_rng(0).permutation(len(there))]
    classes = labels.labels.numpy()[order]
    # How often its class came before: sorted by that, the first `count` are spread evenly over the classes.
    turn = np.empty(len(order), dtype=np.int64)
    for number in range(len(labels.classes)):
        turn[classes == number] = np.arange(int((classes == number).sum()))
    kept: NDArray[np.int64] = np.sort(order[np.argsort(turn, kind="stable")[:count]])
    return kept


SEMI = Layout(SemiLabelled, "pictures, few of them in classes", _refusal, _open)
