"""A source in the order of a seed, batch by batch."""

from __future__ import annotations

import torch

from ganforge.batches import Batch, ImageSpec
from ganforge.data.order import Order
from ganforge.data.source import Source
from ganforge.errors import RequestError


class Stream:
    """Serves `source` as batches of type `kind` on `device`; holds no state but caches, so calls in any order give equal batches.

    The samples form one endless sequence (see `Order`). torch's global random state is neither read nor changed. Raises RequestError
    where the source cannot serve `kind`.
    """

    def __init__(self, source: Source, kind: type[Batch], *, seed: int, device: torch.device) -> None:
        source.require(kind)
        self.source = source
        self.kind = kind
        self.order = Order(seed)
        self.device = device

    def at(self, cursor: int, size: int, resolution: int | None = None) -> Batch:
        """The samples number `cursor` to `cursor + size - 1`; a batch may straddle epochs, so every sample is served equally often.

        `resolution` averages pictures down to that many pixels on their shorter side. RequestError where cursor, size or resolution make
        no sense.
        """
        if cursor < 0 or size < 1:
            raise RequestError(f"a batch of {size} samples at position {cursor}: the size must be at least 1, the position at least 0")
        batch = self.source.batch(self.kind, self.order.window(cursor, size), self.device)
        return batch if resolution is None else self._resized(batch, resolution)

    def _resized(self, batch: Batch, resolution: int) -> Batch:
        spec = self.source.spec
        if not isinstance(spec, ImageSpec):
            raise RequestError(f"size {resolution}: data {self.source.name!r} has no pictures to resize")
        shorter = min(spec.height, spec.width)
        if not 1 <= resolution <= shorter:
            raise RequestError(f"size {resolution}: pictures of {spec.width}x{spec.height} are averaged down to 1..{shorter}")
        return batch if shorter == resolution else batch.resized(resolution / shorter)
