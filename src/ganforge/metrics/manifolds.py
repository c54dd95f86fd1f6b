"""Features, and what makes them; precision, recall, density and coverage: do samples lie where real ones lie, and the other way round?"""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from prdc import compute_prdc
from torch import Tensor

from ganforge.batches import Batch
from ganforge.data.source import Finite, Source
from ganforge.data.stream import Stream
from ganforge.errors import RequestError

Features = NDArray[np.float32]

MOST = 5000
"""The most real and the most generated samples that are compared; time and memory grow with the square."""


class ExtractorError(RequestError):
    """The extractor that is asked for makes no features of these pictures."""


class Extractor(Protocol):
    """Makes features of pictures: a space in which near means alike. Numbers that were taken in two such spaces are never compared."""

    @property
    def name(self) -> str:
        """Short, for people: it stands in the names of scores."""
        ...

    @property
    def identity(self) -> str:
        """The name and a hash of everything that the features depend on: two extractors of one identity are one function."""
        ...

    @property
    def about(self) -> str:
        """In words, how pictures are brought to it: size, way of resizing, range."""
        ...

    def features(self, images: Tensor) -> Features:
        """[n, C, H, W] in [-1, 1] to [n, d]; a row depends on its own picture alone."""
        ...


@runtime_checkable
class TellsClasses(Extractor, Protocol):
    """An extractor that knows classes too."""

    def probabilities(self, images: Tensor) -> Features:
        """[n, C, H, W] in [-1, 1] to the probability of each class, [n, k]."""
        ...


def manifold_scores(real: Features, generated: Features, neighbours: int, prefix: str = "") -> dict[str, float]:
    """The four scores of two sets of features, [n, d] and [m, d], by name after `prefix`.

    A sample's ball reaches to its k-th neighbour in its own set. Precision is the share of the generated within some real ball, recall
    the share of the real within some generated one (Kynkäänniemi et al. 2019, arXiv:1904.06991, eqs. (1) and (2)); density counts the real
    balls around a generated sample, over k, and coverage is the share of real balls that hold one (Naeem et al. 2020, arXiv:2002.09797,
    eqs. (4) and (5)). Balls are open, as in the authors' package `prdc`, which computes. RequestError for k samples or fewer.
    """
    fewest = min(len(real), len(generated))
    if fewest <= neighbours:
        raise RequestError(
            f"{len(generated)} samples against {len(real)} real ones: {neighbours} neighbours need {neighbours + 1} of each or more"
        )
    # The package announces its counts with print, which would end up in a command's output.
    with redirect_stdout(io.StringIO()):
        scores = compute_prdc(real, generated, nearest_k=neighbours)
    return {prefix + name: float(score) for name, score in scores.items()}


def real_samples(source: Source, kind: type[Batch], most: int, seed: int) -> list[Batch]:
    """`most` real samples, or as many as there are, in batches of 256, shuffled by `seed`."""
    count = min(most, source.count) if isinstance(source, Finite) else most
    stream = Stream(source, kind, seed=seed, device=torch.device("cpu"))
    return [stream.at(start, min(256, count - start)) for start in range(0, count, 256)]


def least_share(kinds: int) -> float:
    """The share of all samples from which a mode or a class counts as covered: 1 %, or a quarter of an even share where that is less."""
    return min(0.01, 0.25 / kinds)


def as_features(values: Tensor) -> Features:
    """[n, ...] as rows of float32."""
    rows: Features = values.flatten(1).numpy()
    return rows
