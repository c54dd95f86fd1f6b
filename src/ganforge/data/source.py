"""What the data room hands to the engine: a source of samples, finite (counted, gathered by index) or endless (drawn from a law)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor

from ganforge.batches import Batch, Points, Spec
from ganforge.data.order import BLOCK, Window
from ganforge.errors import RequestError


class Source(ABC):
    """Samples of one shape.

    `name` is what the user wrote, `spec` the shape of a sample, `kinds` the batch types that it can serve, the richest first, and
    `notes` lines for a person: what was found, what was skipped and why.
    """

    slow: bool = False
    """Whether a batch is decoded as it is drawn, so that drawing ahead in the background pays."""

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

    @abstractmethod
    def batch(self, kind: type[Batch], window: Window, device: torch.device) -> Batch:
        """The samples of the window as a batch of type `kind`, one of `kinds`, on `device`: a function of the arguments alone."""


class Finite(Source):
    """`count` samples, each with an index."""

    count: int
    labels: Tensor | None = None
    """The class of each sample, [count], int64, an index into the spec's `classes`; None where nothing is labelled."""
    fingerprint: str = ""
    """Changes when a sample is edited, added, removed or renamed; "" where that cannot be known."""
    runs: tuple[int, ...] | None = None
    """Lengths of the stretches that are best read in order (shards); None: every order is as fast."""

    def batch(self, kind: type[Batch], window: Window, device: torch.device) -> Batch:
        """Each epoch is a permutation of all samples."""
        return self.gather(kind, window.indices(self.count, runs=self.runs), device, window)

    @abstractmethod
    def gather(self, kind: type[Batch], indices: Tensor, device: torch.device, window: Window | None = None) -> Batch:
        """The samples at `indices` ([n], int64, on the CPU) as a batch of type `kind`, one of `kinds`, on `device`.

        `window` gives chance to what is random (flips, cuts, masks, which caption); without it nothing is.
        """


class Endless(Source):
    """A law to draw points from; no sample ever comes twice."""

    def batch(self, kind: type[Batch], window: Window, device: torch.device) -> Batch:  # noqa: ARG002
        """`BLOCK` draws are made at once."""
        return Points(window.pieces(BLOCK, "", self._draw_block).to(device))

    def _draw_block(self, generator: torch.Generator) -> Tensor:
        return self.draw(BLOCK, generator)

    @abstractmethod
    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """`n` independent samples, [n, d], float32, on the CPU; a function of the generator's state alone."""
