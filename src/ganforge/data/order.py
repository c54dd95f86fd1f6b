"""The order of samples and all chance in the data: functions of (seed, sample number) alone, so that a position is one integer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor

BLOCK = 4096
"""How many samples of an endless source, or rows of chance, one seed makes."""
BUFFER = 8192
"""How many neighbours are shuffled together where samples lie in shards that are best read in order."""


class Order:
    """The samples of a stream form one endless sequence; every purpose has chance of its own, and torch's global state is not touched."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        # A window may straddle two blocks, and a source may ask for several purposes.
        self._block = lru_cache(maxsize=16)(self._make_block)

    def block(self, purpose: str, number: int, make: Callable[[torch.Generator], Tensor]) -> Tensor:
        """What `make` draws for block `number` of a purpose; kept for the next call, so it must not be written to."""
        return self._block(purpose, number, make)

    def _make_block(self, purpose: str, number: int, make: Callable[[torch.Generator], Tensor]) -> Tensor:
        return make(torch.Generator().manual_seed(mixed(self.seed, number, purpose)))

    def window(self, cursor: int, size: int) -> Window:
        """The samples number `cursor` to `cursor + size - 1`."""
        return Window(self, cursor, size)


class Window:
    """A stretch of an order. Two windows of 8 that follow each other hold what one of 16 holds."""

    def __init__(self, order: Order, cursor: int, size: int) -> None:
        self.order = order
        self.cursor = cursor
        self.size = size

    def indices(self, count: int, purpose: str = "", runs: Sequence[int] | None = None) -> Tensor:
        """[size] int64: which of `count` samples comes when; each epoch is a permutation of all, and a window may straddle epochs.

        `runs` are the lengths of stretches that are best read in order (shards): then an epoch is a permutation of the runs, shuffled
        within buffers of `BUFFER`.
        """
        make = _Permutation(count, tuple(runs) if runs else None)
        return self.pieces(count, purpose, make)

    def uniform(self, columns: int, purpose: str) -> Tensor:
        """[size, columns] float32 in [0, 1): chance that belongs to each sample, whatever batch it comes in."""
        return self.pieces(BLOCK, purpose, _Uniform(columns))

    def pieces(self, period: int, purpose: str, make: Callable[[torch.Generator], Tensor]) -> Tensor:
        """The rows of this window where `make` gives `period` rows a block. A copy: what is written into it reaches no block."""
        found, cursor, left = [], self.cursor, self.size
        while left > 0:
            number, start = divmod(cursor, period)
            piece = self.order.block(purpose, number, make)[start : start + left]
            found.append(piece)
            cursor += len(piece)
            left -= len(piece)
        return torch.cat(found)


class _Permutation:
    """Equal where it makes the same, so that blocks are found again."""

    def __init__(self, count: int, runs: tuple[int, ...] | None) -> None:
        self._key = (count, runs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Permutation) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __call__(self, generator: torch.Generator) -> Tensor:
        count, runs = self._key
        if runs is None:
            return torch.randperm(count, generator=generator)
        starts = torch.tensor([0, *runs]).cumsum(0)
        in_order = torch.cat([torch.arange(int(starts[i]), int(starts[i + 1])) for i in torch.randperm(len(runs), generator=generator)])
        buffers = [buffer[torch.randperm(len(buffer), generator=generator)] for buffer in in_order.split(BUFFER)]
        return torch.cat(buffers)


class _Uniform:
    def __init__(self, columns: int) -> None:
        self._columns = columns

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Uniform) and self._columns == other._columns

    def __hash__(self) -> int:
        return hash(self._columns)

    def __call__(self, generator: torch.Generator) -> Tensor:
        return torch.rand(BLOCK, self._columns, generator=generator)


def mixed(seed: int, number: int, purpose: str = "") -> int:
    """One seed from two (and a purpose), so that neighbours share nothing; 32 bits, all that torch's generator on the CPU reads."""
    return int.from_bytes(hashlib.sha256(f"{seed} {number}{' ' * bool(purpose)}{purpose}".encode()).digest()[:4], "little")
