"""Scores of samples, against a known truth where the data have one, otherwise against real samples."""

from __future__ import annotations

import torch
from torch import Tensor

from ganforge.batches import ImageSpec
from ganforge.data.source import Source
from ganforge.errors import RequestError, TrainingError
from ganforge.metrics.images import image_scores
from ganforge.metrics.points import point_scores


def measure(samples: Tensor, source: Source, *, seed: int = 0, neighbours: int = 5) -> dict[str, float]:
    """Scores of `samples`, [n, *spec.shape], by name; which ones there are follows from the source (see `images` and `points`).

    `seed` chooses the real samples that are compared with; equal arguments give equal scores. `neighbours` is the k of precision,
    recall, density and coverage. RequestError where the samples have another shape than the source's or are too few, TrainingError
    where they hold a value that is no finite number.
    """
    shape = source.spec.shape
    if samples.shape[1:] != shape or len(samples) == 0:
        wanted = ", ".join(map(str, shape))
        raise RequestError(f"samples of shape {list(samples.shape)}: data {source.name!r} needs [n, {wanted}], n at least 1")
    if neighbours < 1:
        raise RequestError(f"neighbours = {neighbours}: precision and recall look at 1 neighbour or more, 5 is usual")
    bad = int((~torch.isfinite(samples).flatten(1).all(dim=1)).sum())
    if bad:
        raise TrainingError(f"{bad} of {len(samples)} samples hold a value that is no finite number: the game that made them has diverged")
    scores = image_scores if isinstance(source.spec, ImageSpec) else point_scores
    return scores(samples.detach().float().cpu(), source, seed=seed, neighbours=neighbours)
