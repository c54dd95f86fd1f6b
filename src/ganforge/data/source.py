"""What the data room hands to the engine: a source of samples, finite (counted, gathered by index) or endless (drawn from a law)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor

from ganforge.batches import Batch, Spec
from ganforge.errors import RequestError


class Source:
    """Samples of one shape.

    `name` is what the user wrote, `spec` the shape of a sample, `kinds` the batch types that it can serve, the richest first, and
    `notes` lines for a person: what was found, what was skipped and why.
    """

    def __init__(self, name: str, spec: Spec, kinds: tuple[type[Batch], ...], notes: Iterable[str] = ()) -> None:
        self.name = name
        self.spec = spec
        self.kinds = kinds
        self.notes = list(notes)

    def require(self, kind: type[Batch]) -> None:
        """RequestError where batches of type `kind` cannot be made of this source."""
        if kind not in self.kinds:
            served = ", ".join(each.__name__ for each in self.kinds)
            raise RequestError(f"data {self.name!r} serves {served}, not {kind.__name__}")


class Finite(Source, ABC):
    """`count` samples, each with an index."""

    count: int
    labels: Tensor | None = None
    """The class of each sample, [count], int64, an index into the spec's `classes`; None where nothing is labelled."""

    @abstractmethod
    def gather(self, kind: type[Batch], indices: Tensor, device: torch.device) -> Batch:
        """The samples at `indices` ([n], int64, on the CPU) as a batch of type `kind`, one of `kinds`, on `device`."""


class Endless(Source, ABC):
    """A law to draw points from; no sample ever comes twice."""

    @abstractmethod
    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """`n` independent samples, [n, d], float32, on the CPU; a function of the generator's state alone."""
