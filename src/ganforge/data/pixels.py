"""Decoded pictures by number, all of one shape: mapped from the cache, in memory, or decoded as they are drawn."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Pixels(Protocol):
    """`len` pictures that come as uint8 [n, height, width, channels]."""

    height: int
    width: int
    channels: int
    slow: bool
    """Whether taking decodes."""

    def __len__(self) -> int: ...

    def take(self, indices: NDArray[np.int64], corner: NDArray[np.float32] | None = None) -> NDArray[np.uint8]:
        """The pictures at `indices`, uint8 [n, height, width, channels]. Where pictures are larger than what is served (patches, jitter),
        `corner` [n, 2] in [0, 1) says where (down, across) each is cut; None: in the middle."""
        ...
