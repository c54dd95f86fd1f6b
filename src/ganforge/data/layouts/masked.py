"""Pictures with holes: in the middle, at random, or from mask files (white: hole)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from ganforge.batches import Masked
from ganforge.data import masks
from ganforge.data.finding import find_shelf
from ganforge.data.layouts.albums import Files, without_common_folders
from ganforge.data.layouts.images import Extra
from ganforge.data.layouts.request import Request
from ganforge.data.layouts.serving import Chance, Side, Taken, drawn
from ganforge.data.reading import Reading
from ganforge.data.shelves import split_suffix
from ganforge.errors import RequestError

DRAWN = ("centre", "block", "free")
"""The holes that are drawn, not read."""


class Drawn(Extra):
    """Holes drawn on the device: `how` is centre, block or free."""

    kind = Masked

    def __init__(self, count: int, how: str) -> None:
        self.known = np.ones(count, dtype=bool)
        self.how = how

    def subset(self, numbers: NDArray[np.int64]) -> Drawn:
        """See `Extra`."""
        return Drawn(len(numbers), self.how)

    def batch(self, taken: Taken) -> Masked:
        """See `Extra`. Without a window each picture has a hole of its own, always the same."""
        n, _, height, width = taken.image.shape
        device = taken.image.device
        if self.how == "centre":
            return Masked(taken.image, masks.centre(n, height, width, device))
        columns, draw = (masks.BLOCK_COLUMNS, masks.block) if self.how == "block" else (masks.FREE_COLUMNS, masks.free)
        return Masked(taken.image, draw(drawn(taken.window, taken.indices, columns, "mask", device), height, width))


class Stencils(Extra):
    """Holes from files: those of `side`, picture by picture (cut and mirrored as it is) where `aligned`, else any, by chance."""

    kind = Masked

    def __init__(self, side: Side, aligned: NDArray[np.int64] | None, count: int, stamps: Sequence[object]) -> None:
        self.known = np.ones(count, dtype=bool) if aligned is None else aligned >= 0
        self.side = side
        self.aligned = aligned
        self._stamps = stamps

    def facts(self) -> Iterable[object]:
        """See `Extra`: the files of the holes."""
        return self._stamps

    def subset(self, numbers: NDArray[np.int64]) -> Stencils:
        """See `Extra`."""
        return Stencils(self.side, None if self.aligned is None else self.aligned[numbers], len(numbers), self._stamps)

    def batch(self, taken: Taken) -> Masked:
        """See `Extra`."""
        if self.aligned is not None:
            chosen, chance = torch.from_numpy(self.aligned[taken.indices.numpy()]), taken.chance
        else:
            place = drawn(taken.window, taken.indices, 1, "mask", torch.device("cpu"))[:, 0]
            chosen, chance = (place * len(self.side)).long().clamp_max(len(self.side) - 1), Chance()
        white = self.side.bytes(chosen, taken.image.device, chance) >= 128
        return Masked(taken.image, white.permute(0, 3, 1, 2).float())


def holes_of(request: Request) -> Drawn | Stencils:
    """Holes as `--mask` asks in the pictures of the only place; RequestError where it names no folder and no way to draw."""
    how, album, reading = request.reading.mask, request.album, request.reading
    if how in DRAWN:
        return Drawn(len(album), how)
    shelf = find_shelf(how, Reading())
    if shelf is None:
        raise RequestError(f"--mask {how}: neither {', '.join(DRAWN)} nor a folder of mask files (white: hole)")
    files = Files(shelf, np.arange(len(shelf)), shelf.names)
    by_name = {split_suffix(name)[0]: number for number, name in enumerate(without_common_folders(files.names))}
    partner = np.array([by_name.get(split_suffix(name)[0], -1) for name in without_common_folders(album.names)], dtype=np.int64)
    height, width = album.shape_for(reading)
    reading = replace(reading, size=f"{width}x{height}", channels=1)
    if (partner < 0).any():
        side = files.read(replace(reading, jitter=0, fit="crop"))
        return Stencils(side, None, len(album), list(files.stamps(side.served)))
    if reading.fit == "pad":
        raise RequestError(f"--mask {how}: mask files go with --fit crop, stretch or patch; padded, the border would be a hole")
    side = files.read(reading)
    served = np.full(len(files), -1, dtype=np.int64)
    served[side.served] = np.arange(len(side))
    return Stencils(side, served[partner], len(album), list(files.stamps(side.served)))
