"""Two domains whose pictures have nothing to do with each other: CycleGAN's trainA and trainB, or any two sources."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ganforge.batches import Batch, ImageSpec, Unpaired
from ganforge.data.layouts.albums import Album, read_alike
from ganforge.data.layouts.pairs import folders_a_b
from ganforge.data.layouts.request import Layout, Opened, Request
from ganforge.data.layouts.serving import Chance, Side
from ganforge.data.order import Window


class Apart(Opened):
    """Pictures of two sides, each with an order and a chance of its own; an epoch is as long as the longer side.

    `join` makes a batch of the numbers of the first side's pictures, these pictures, and those of the second side.
    """

    def __init__(
        self,
        request: Request,
        sides: Sequence[Side],
        spec: ImageSpec,
        kind: type[Batch],
        join: Callable[[Tensor, Tensor, Tensor], Batch],
        notes: Sequence[str],
        facts: Sequence[object],
    ) -> None:
        super().__init__(request.text, spec, (kind,), sides, notes, facts)
        self.count = max(len(side) for side in sides)
        self._sides = sides
        self._reading = request.reading
        self._join = join

    def batch(self, kind: type[Batch], window: Window, device: torch.device) -> Batch:
        """Each epoch of a side is a permutation of all its pictures."""
        self.require(kind)
        first, second = (window.indices(len(side), name, side.runs) for side, name in zip(self._sides, "ab", strict=True))
        return self._join(first, self._images(0, first, device, window), self._images(1, second, device, window))

    def gather(self, kind: type[Batch], indices: Tensor, device: torch.device, window: Window | None = None) -> Batch:
        """Number i is picture i of each side; the shorter one begins again."""
        self.require(kind)
        first, second = (indices % len(side) for side in self._sides)
        return self._join(first, self._images(0, first, device, window), self._images(1, second, device, window))

    def _images(self, side: int, indices: Tensor, device: torch.device, window: Window | None) -> Tensor:
        return self._sides[side].images(indices, device, Chance.of(self._reading, window, "ab"[side]))


def open_apart(request: Request, albums: Sequence[Album]) -> Apart:
    """An Unpaired source of two albums, both at one size and in one number of channels."""
    albums = request.in_direction(albums)
    sides = read_alike(albums, request.reading)
    height, width, channels = sides[0].shape
    facts = [fact for album, side in zip(albums, sides, strict=True) for fact in album.stamps(side.served)]
    notes = [f"{len(side)} pictures of {name}" for side, name in zip(sides, ("a", "b"), strict=True)]
    return Apart(request, sides, ImageSpec(height, width, channels), Unpaired, lambda _, a, b: Unpaired(a, b), notes, facts)


def _no_folders(request: Request) -> str | None:
    return None if request.once(folders_a_b) else "there are no two folders A and B (or trainA and trainB)"


def _not_cyclegan(request: Request) -> str | None:
    named = all(any(_FOLDER.fullmatch(part) for part in path.split("/")[:-1]) for path in request.album.paths)
    return _no_folders(request) if named else "there are no folders trainA and trainB"


_FOLDER = re.compile(r"(train|val|test)[_-]?[ab]", re.IGNORECASE)

CYCLEGAN = Layout(Unpaired, "folders trainA and trainB", _not_cyclegan, lambda request: open_apart(request, request.once(folders_a_b)))
FOLDERS = Layout(Unpaired, "folders A and B, unpaired", _no_folders, lambda request: open_apart(request, request.once(folders_a_b)))
TWO = Layout(Unpaired, "two sources X,Y, unpaired", lambda _: None, lambda request: open_apart(request, request.albums), places=2)
