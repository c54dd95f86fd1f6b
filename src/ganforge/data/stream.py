"""The order of samples: a pure function of (seed, cursor), so that the position of a run is one integer."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import torch
from torch import Tensor

from ganforge.batches import Batch, ImageSpec, Points
from ganforge.data.source import Endless, Finite, Source
from ganforge.errors import RequestError

BLOCK = 4096
"""How many samples of an endless source one seed makes."""


class Stream:
    """Serves `source` as batches of type `kind` on `device`; holds no state but caches, so calls in any order give equal batches.

    The samples form one endless sequence cut into blocks. A block of a finite source is an epoch: a permutation of all its samples,
    seeded by (seed, epoch). A block of an endless source is `BLOCK` draws, seeded by (seed, block). torch's global random state is
    neither read nor changed. Raises RequestError where the source cannot serve `kind`.
    """

    def __init__(self, source: Source, kind: type[Batch], *, seed: int, device: torch.device) -> None:
        source.require(kind)
        self.source = source
        self.kind = kind
        self.seed = seed
        self.device = device
        self._period = source.count if isinstance(source, Finite) else BLOCK
        # Two, because a batch may straddle two blocks.
        self._block = lru_cache(maxsize=2)(self._make_block)

    def at(self, cursor: int, size: int, resolution: int | None = None) -> Batch:
        """The samples number `cursor` to `cursor + size - 1`; a batch may straddle epochs, so every sample is served equally often.

        `resolution` averages pictures down to that many pixels a side. RequestError where cursor, size or resolution make no sense.
        """
        if cursor < 0 or size < 1:
            raise RequestError(f"a batch of {size} samples at position {cursor}: the size must be at least 1, the position at least 0")
        rows = self._rows(cursor, size)
        batch = self.source.gather(self.kind, rows, self.device) if isinstance(self.source, Finite) else Points(rows)
        return batch if resolution is None else self._resized(batch, resolution)

    def _rows(self, cursor: int, size: int) -> Tensor:
        pieces = []
        while size > 0:
            number, start = divmod(cursor, self._period)
            piece = self._block(number)[start : start + size]
            pieces.append(piece)
            cursor += len(piece)
            size -= len(piece)
        # A copy even of a single piece: what the game writes into its batch must not reach the cached block.
        return torch.cat(pieces)

    def _make_block(self, number: int) -> Tensor:
        generator = torch.Generator().manual_seed(_mixed(self.seed, number))
        if isinstance(self.source, Endless):
            return self.source.draw(BLOCK, generator).to(self.device)
        return torch.randperm(self._period, generator=generator)

    def _resized(self, batch: Batch, resolution: int) -> Batch:
        spec = self.source.spec
        if not isinstance(spec, ImageSpec):
            raise RequestError(f"size {resolution}: data {self.source.name!r} has no pictures to resize")
        if not 1 <= resolution <= min(spec.height, spec.width):
            raise RequestError(
                f"size {resolution}: pictures of {spec.height}x{spec.width} are averaged down to 1..{min(spec.height, spec.width)}"
            )
        return batch if spec.height == spec.width == resolution else batch.resized(resolution)


def _mixed(seed: int, number: int) -> int:
    """One seed from two, so that neighbours share nothing; 32 bits, all that torch's generator on the CPU reads."""
    return int.from_bytes(hashlib.sha256(f"{seed} {number}".encode()).digest()[:4], "little")
