"""Large pictures in tiles: each sees as much of its neighbours as the network does, so that no seam shows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ganforge.batches import images_to_bytes
from ganforge.capabilities import Upscales, able
from ganforge.errors import RequestError
from ganforge.game import Game


def upscale(game: Game, image: Tensor, tile: int = 256, as_bytes: bool = False, report: Callable[[int, int], None] | None = None) -> Tensor:
    """[n, C, h, w] to [n, C, factor * h, factor * w] on the CPU, float in [-1, 1] or (`as_bytes`) uint8, a quarter of the memory.

    Tiles of `tile` low pixels a side are upscaled with `game.reach` pixels around them, which are then cut away: where the network is
    local, the same as the whole picture at once, to rounding. `report(done, all)` is called after each tile.
    """
    upscaler = able(game, Upscales)
    if tile < 1:
        raise RequestError(f"--tile {tile}: must be at least 1")
    height, width = image.shape[2:]
    corners = [(top, left) for top in range(0, height, tile) for left in range(0, width, tile)]
    large = torch.empty(0)
    for number, (top, left) in enumerate(corners):
        bottom, right = min(top + tile, height), min(left + tile, width)
        above, before = max(0, top - upscaler.reach), max(0, left - upscaler.reach)
        seen = image[:, :, above : bottom + upscaler.reach, before : right + upscaler.reach]
        with torch.no_grad():
            made = upscaler.upscale(seen.to(game.device))
        factor = made.shape[2] // seen.shape[2]
        inner = made[:, :, factor * (top - above) : factor * (bottom - above), factor * (left - before) : factor * (right - before)]
        inner = images_to_bytes(inner).permute(0, 3, 1, 2) if as_bytes else inner.float()
        if number == 0:
            large = torch.empty(len(image), inner.shape[1], factor * height, factor * width, dtype=inner.dtype)
        large[:, :, factor * top : factor * bottom, factor * left : factor * right] = inner.cpu()
        if report is not None:
            report(number + 1, len(corners))
    return large
