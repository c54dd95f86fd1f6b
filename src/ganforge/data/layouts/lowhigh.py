"""Super-resolution: pictures and their smaller copies, made here or given as a second folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ganforge.batches import Batch, ImageSpec, LowHigh, images_from_bytes, images_to_bytes
from ganforge.data.fit import enlarged
from ganforge.data.layouts.albums import Album, Arrays, read_in_one_colour
from ganforge.data.layouts.images import Extra
from ganforge.data.layouts.pairs import both, matched
from ganforge.data.layouts.request import Layout, Opened, Request
from ganforge.data.layouts.serving import Chance, Side, Taken
from ganforge.data.order import Window
from ganforge.data.reading import Reading
from ganforge.data.shelves import readable, split_suffix
from ganforge.errors import RequestError

_FACTORS = (2, 3, 4, 8)
_HIGH, _LOW = ("hr", "high", "highres"), ("lr", "low", "lowres")


def shrunk(high: Tensor, factor: int) -> Tensor:
    """[n, C, H, W] in [-1, 1] to [n, C, H / factor, W / factor]: antialiased bicubic (a = -0.5, as Pillow and MATLAB have it).

    Rounded to bytes, as if it had been saved: a network must not find the original in the decimals.
    """
    smooth = F.interpolate(high, size=[side // factor for side in high.shape[2:]], mode="bicubic", antialias=True)
    return images_from_bytes(images_to_bytes(smooth))


class Shrunk(Extra):
    """Smaller copies made on the device."""

    kind = LowHigh

    def __init__(self, count: int, factor: int) -> None:
        self.known = np.ones(count, dtype=bool)
        self.factor = factor

    def spec(self) -> dict[str, Any]:
        """See `Extra`."""
        return {"factor": self.factor}

    def subset(self, numbers: NDArray[np.int64]) -> Shrunk:
        """See `Extra`."""
        return Shrunk(len(numbers), self.factor)

    def batch(self, taken: Taken) -> LowHigh:
        """See `Extra`."""
        return LowHigh(shrunk(taken.image, self.factor), taken.image)


def shrunk_of(request: Request) -> Shrunk | str:
    """Smaller copies of the pictures of the only place; or why they cannot be made."""
    shape, factor = request.album.shape_for(request.reading), request.reading.factor
    return _indivisible(shape, factor) or Shrunk(len(request.album), factor)


def _indivisible(shape: tuple[int, int], factor: int) -> str | None:
    if shape[0] % factor == shape[1] % factor == 0:
        return None
    near = "x".join(str(max(factor, side // factor * factor)) for side in (shape[1], shape[0]))
    return f"pictures of {shape[1]}x{shape[0]} cannot be made {factor} times smaller; --size {near} can, or another --factor"


class Measured(Opened):
    """Low and high pictures of two albums, cut at the same place and mirrored alike."""

    def __init__(
        self,
        request: Request,
        sides: Sequence[Side],
        rooms: NDArray[np.int64],
        factor: int,
        notes: Sequence[str],
        facts: Sequence[object],
    ) -> None:
        height, width, channels = sides[1].shape
        super().__init__(request.text, ImageSpec(height, width, channels, factor=factor), (LowHigh,), sides, notes, facts)
        self.count = len(sides[1])
        self._sides = sides
        self._rooms = rooms
        self._factor = factor
        self._reading = request.reading

    def gather(self, kind: type[Batch], indices: Tensor, device: torch.device, window: Window | None = None) -> Batch:
        """A corner is chosen among the pixels of the low picture; the high one is cut at that pixel times the factor."""
        self.require(kind)
        chance = Chance.of(self._reading, window)
        places = np.full((len(indices), 2), 0.5) if chance.corner is None else chance.corner
        low_room, high_room = self._rooms[:, indices.numpy()]
        # Where the high picture is a little smaller than the factor says, its room is the narrower one.
        room = np.minimum(low_room, high_room // self._factor)
        start = np.minimum((places * (room + 1)).astype(np.int64), room)
        low, high = (
            side.images(indices, device, Chance(((start * scale + 0.5) / (room + 1)).astype(np.float32), chance.flip))
            for side, room, scale in zip(self._sides, (low_room, high_room), (1, self._factor), strict=True)
        )
        return LowHigh(low, high)


def _folders(request: Request) -> list[Album] | None:
    """The two albums of low and high pictures, in any order; None where there are no two."""
    if len(request.places) == 2:
        return request.albums
    bare = request.album.bare()
    found = [bare.below(*_LOW), bare.below(*_HIGH)]
    return [album for album in found if album is not None] if None not in found else None


def _ordered(request: Request) -> tuple[Album, Album, int, list[str]]:
    """The low and the high album, matched by name, the factor between them, and notes; RequestError where they do not fit."""
    found = request.once(_folders)
    if found is None:
        raise RequestError("there are no two folders of pictures, LR and HR")
    small, large = sorted((album.bare() for album in found), key=lambda album: sum(album.sizes([0])[0] or (0, 0)))
    # 0801x4.png is the usual name of what is 4 times smaller than 0801.png.
    plain = [split_suffix(name)[0] for name in small.names]
    if not set(plain) & {split_suffix(name)[0] for name in large.names}:
        for factor in _FACTORS:
            if all(name.endswith(f"x{factor}") for name in plain):
                small = small.subset(np.arange(len(small)), [name.removesuffix(f"x{factor}") for name in plain])
    (small, large), notes = matched([small, large], request.reading.strict)
    return small, large, _factor(small, large, small.sample()), notes


def _factor(small: Album, large: Album, numbers: Sequence[int]) -> int:
    """How many times smaller the small pictures are; RequestError names a pair that is not in such a ratio."""
    for factor in _FACTORS:
        pairs = list(zip(small.sizes(numbers), large.sizes(numbers), strict=True))
        if all(low is None or high is None or _in_ratio(low, high, factor) for low, high in pairs) and any(map(all, pairs)):
            return factor
    number = numbers[0]
    (low_height, low_width), (height, width) = (album.sizes([number])[0] or (0, 0) for album in (small, large))
    raise RequestError(
        f"{readable(large.names[number])}: {low_width}x{low_height} and {width}x{height} pixels; "
        "low pictures are 2, 3, 4 or 8 times smaller"
    )


def _in_ratio(low: tuple[int, int], high: tuple[int, int], factor: int) -> bool:
    return all(abs(high[axis] - factor * low[axis]) < factor for axis in (0, 1))


def _no_folders(request: Request) -> str | None:
    if LowHigh not in request.kinds and any(isinstance(album, Arrays) for album in request.albums):
        return "arrays have no names that could tell which pictures belong together"
    try:
        request.once(_ordered)
    except RequestError as error:
        return str(error)
    return None


def _open_folders(request: Request) -> Measured:
    small, large, factor, notes = request.once(_ordered)
    reading = request.reading
    shape = large.shape_for(reading)
    if wrong := _indivisible(shape, factor):
        raise RequestError(wrong)
    if reading.jitter % factor:
        raise RequestError(f"--jitter {reading.jitter}: must be divisible by {factor}, or low and high pictures could not be cut alike")
    asked = [replace(reading, size=f"{shape[1] // scale}x{shape[0] // scale}", jitter=reading.jitter // scale) for scale in (factor, 1)]
    sides = both(read_in_one_colour((small, large), asked, in_step=True))
    rooms = np.stack([_rooms(album, side, each) for album, side, each in zip((small, large), sides, asked, strict=True)])
    facts = [fact for album, side in zip((small, large), sides, strict=True) for fact in album.stamps(side.served)]
    notes = [*notes, f"the pictures of {small.origin} are {factor} times smaller than those of {large.origin}"]
    return Measured(request, sides, rooms, factor, notes, facts)


def _rooms(album: Album, side: Side, reading: Reading) -> NDArray[np.int64]:
    """[n, 2]: by how many pixels each picture of the side is higher and wider than what is served."""
    shape = album.shape_for(reading)
    if reading.fit != "patch":
        return np.full((len(side), 2), reading.jitter, dtype=np.int64)
    sizes = [enlarged(*(size or shape), shape) for size in album.sizes(side.served.tolist())]
    return np.array(sizes, dtype=np.int64) - shape


FOLDERS = Layout(LowHigh, "folders LR and HR", _no_folders, _open_folders)
TWO = Layout(LowHigh, "two sources LOW,HIGH with equal names", _no_folders, _open_folders, places=2)
