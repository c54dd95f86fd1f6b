"""Which pictures a network of strided convolutions can make."""

from __future__ import annotations

from collections.abc import Sequence

from ganforge.batches import ImageSpec
from ganforge.errors import RequestError


def side(data: ImageSpec, allowed: Sequence[int]) -> int:
    """The side of square pictures; RequestError where they are not square or the network has no such size."""
    if data.height != data.width or data.height not in allowed:
        sides = f"{', '.join(map(str, allowed[:-1]))} or {allowed[-1]}"
        raise RequestError(f"pictures of {data.height}x{data.width}: this network makes squares, {sides} pixels a side; choose with --size")
    return data.height


def halvings(size: int) -> list[int]:
    """The sides of the feature maps, finest first: halved, rounding up, until 4 or less, and twice at least. 28: [28, 14, 7, 4]."""
    sides = [size]
    while sides[-1] > 4 or len(sides) < 3:
        sides.append((sides[-1] + 1) // 2)
    return sides
