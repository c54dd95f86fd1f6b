"""Scores of samples, against a known truth where the data have one, otherwise against real samples."""

from __future__ import annotations

import torch
from torch import Tensor

from ganforge.batches import ImageSpec
from ganforge.data.source import Finite, Source
from ganforge.errors import RequestError, TrainingError
from ganforge.metrics.extractors import identity_of
from ganforge.metrics.findings import Better, Score, Space
from ganforge.metrics.images import image_scores
from ganforge.metrics.points import point_scores

MANIFOLD = ("precision", "recall", "density", "coverage")
"""What `manifold_scores` gives."""

_BETTER: dict[str, Better] = {
    **dict.fromkeys((*MANIFOLD, "share confident", "classes covered", "entropy"), "higher"),
    **dict.fromkeys(("modes covered", "share within 0.2", "share within 0.1", "share within bounds"), "higher"),
    **dict.fromkeys(("W1", "distance to the nearest curve", "energy distance", "MMD"), "lower"),
}


def measure(samples: Tensor, source: Source, *, seed: int = 0, neighbours: int = 5) -> dict[str, float]:
    """Scores of `samples`, [n, *spec.shape], by name; which ones there are follows from the source (see `images` and `points`).

    `seed` chooses the real samples that are compared with; equal arguments give equal scores. `neighbours` is the k of precision,
    recall, density and coverage. RequestError where the samples have another shape than the source's or are too few, TrainingError
    where they hold a value that is no finite number.
    """
    if neighbours < 1:
        raise RequestError(f"neighbours = {neighbours}: precision and recall look at 1 neighbour or more, 5 is usual")
    check(samples, source)
    scores = image_scores if isinstance(source.spec, ImageSpec) else point_scores
    return scores(samples.detach().float().cpu(), source, seed=seed, neighbours=neighbours)


def check(samples: Tensor, source: Source) -> None:
    """RequestError and TrainingError as in `measure`."""
    shape = source.spec.shape
    if samples.shape[1:] != shape or len(samples) == 0:
        wanted = ", ".join(map(str, shape))
        raise RequestError(f"samples of shape {list(samples.shape)}: data {source.name!r} needs [n, {wanted}], n at least 1")
    bad = int((~torch.isfinite(samples).flatten(1).all(dim=1)).sum())
    if bad:
        raise TrainingError(f"{bad} of {len(samples)} samples hold a value that is no finite number: the game that made them has diverged")


def measured(samples: Tensor, source: Source, seed: int) -> tuple[list[Score], list[Space]]:
    """The scores of `measure`, what is called "NAME, other real" beside NAME, and the spaces that they were taken in."""
    values = measure(samples, source, seed=seed)
    own = [name for name in values if name.rpartition(", ")[0] not in values]
    spaces = _spaces(source, seed) if isinstance(source.spec, ImageSpec) else {}
    scores = []
    for name in own:
        beside = {other.removeprefix(f"{name}, "): value for other, value in values.items() if other.startswith(f"{name}, ")}
        space = spaces["pixels" if name in MANIFOLD else "classes"].identity if spaces else ""
        scores.append(Score(name, values[name], beside=beside, better=_BETTER.get(name.removeprefix("class "), ""), space=space))
    used = {score.space for score in scores}
    return scores, [space for space in spaces.values() if space.identity in used]


def _spaces(source: Source, seed: int) -> dict[str, Space]:
    """Of pictures: that of their pixels, and that of a classifier of pixels which follows from the labelled pictures and the seed."""
    taught = source.fingerprint if isinstance(source, Finite) and source.fingerprint else source.name
    pixels, classes = "means of pixels, at most 32 a side, in [-1, 1]", "logits of a classifier taught on those pixels"
    return {
        "pixels": Space("pixels", identity_of("pixels", pixels), pixels),
        "classes": Space("classes of pixels", identity_of("classes of pixels", classes, taught, seed), classes),
    }
