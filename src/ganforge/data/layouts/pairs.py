"""Aligned pictures: two halves of one file (pix2pix), or two folders with equal names."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ganforge.batches import Batch, ImageSpec, Pairs
from ganforge.data.decode import BadPictureError, decode
from ganforge.data.layouts.albums import Album, Arrays, Files, read_alike, without_common_folders
from ganforge.data.layouts.request import Layout, Opened, Request
from ganforge.data.layouts.serving import Chance, Side
from ganforge.data.order import Window
from ganforge.data.shelves import Shelf, listed, readable, split_suffix
from ganforge.errors import RequestError


class Aligned(Opened):
    """Pictures of two sides that belong together: both are cut and mirrored alike."""

    def __init__(self, request: Request, sides: Sequence[Side], notes: Sequence[str], facts: Sequence[object]) -> None:
        height, width, channels = sides[0].shape
        super().__init__(request.text, ImageSpec(height, width, channels), (Pairs,), sides, notes, facts)
        self.count = len(sides[0])
        self.runs = sides[0].runs
        self._sides = sides
        self._reading = request.reading

    def gather(self, kind: type[Batch], indices: Tensor, device: torch.device, window: Window | None = None) -> Batch:
        """Both sides by the same indices and the same chance."""
        self.require(kind)
        chance = Chance.of(self._reading, window)
        a, b = (side.images(indices, device, chance) for side in self._sides)
        return Pairs(a, b)


class Halves(Shelf):
    """The left or the right half of each picture of a shelf, as pictures of their own."""

    def __init__(self, whole: Shelf, right: bool) -> None:
        self.origin = whole.origin
        self.identity = f"{whole.identity} ({'right' if right else 'left'} halves)"
        self.names = whole.names
        self.notes = []
        self.runs = whole.runs
        self._whole = whole
        self._right = right

    def open(self, number: int) -> BinaryIO:
        """The half as a file of bare pixels; BadPictureError where the picture is not twice as wide as high."""
        picture = decode(self._whole.open(number), place=self.place(number))
        height, width = picture.shape[:2]
        if not is_double((height, width)):
            raise BadPictureError(self.place(number), f"{width}x{height} pixels, not two squares side by side")
        half = picture[:, -(width // 2) :] if self._right else picture[:, : width // 2]
        file = io.BytesIO()
        Image.fromarray(half if half.shape[2] == 3 else half[..., 0]).save(file, "PPM")
        file.seek(0)
        return file

    def stamp(self, number: int) -> tuple[int, int]:
        """Of the whole picture."""
        return self._whole.stamp(number)

    def place(self, number: int) -> str:
        """Of the whole picture."""
        return self._whole.place(number)


def is_double(size: tuple[int, int] | None) -> bool:
    """Whether (height, width) is twice as wide as high, give or take a rounding."""
    return size is not None and abs(size[1] - 2 * size[0]) <= max(1, 0.01 * size[1])


def matched(albums: Sequence[Album], strict: bool) -> tuple[list[Album], list[str]]:
    """The pictures of two albums that have a name in common (suffix aside), in one order, and notes on the others.

    RequestError where there are none, or with `strict` where any is left over.
    """
    numbers = [{split_suffix(name)[0]: number for number, name in enumerate(without_common_folders(album.names))} for album in albums]
    common = [name for name in numbers[0] if name in numbers[1]]
    if not common:
        seen = " against ".join(readable(without_common_folders(album.names)[0]) for album in albums)
        raise RequestError(f"{albums[0].origin} and {albums[1].origin}: no picture of one has the name of one of the other ({seen})")
    notes = []
    for album, by_name in zip(albums, numbers, strict=True):
        left = [readable(album.paths[number]) for name, number in by_name.items() if name not in numbers[0] or name not in numbers[1]]
        if left and strict:
            raise RequestError(f"{album.origin}/{left[0]}: has no partner of the same name; add it, or leave out --strict to skip such")
        if left:
            notes.append(f"{len(left)} pictures of {album.origin} skipped because they have no partner: {listed(left)}")
    return [album.subset([by_name[name] for name in common]) for album, by_name in zip(albums, numbers, strict=True)], notes


def both(sides: Sequence[Side]) -> list[Side]:
    """The pictures that could be read on each of two sides, in one order."""
    common = np.intersect1d(sides[0].served, sides[1].served)
    if not len(common):
        raise RequestError("no pair of which both pictures can be read")
    return [side.subset(np.flatnonzero(np.isin(side.served, common))) for side in sides]


def folders_a_b(request: Request) -> list[Album]:
    """The pictures in folders A and B (or of trainA and trainB), where there are no others; else nothing."""
    bare = request.album.bare()
    if {top.lower() for top in bare.tops()} != {"a", "b"} or not all("/" in name for name in bare.names):
        return []
    return [side for side in (bare.below("a"), bare.below("b")) if side is not None]


def halves(album: Album) -> list[Album]:
    """The left and the right halves of pictures as two albums."""
    if isinstance(album, Files):
        return [Files(Halves(album.shelf, right), album.numbers, album.names) for right in (False, True)]
    assert isinstance(album, Arrays)
    middle = album.pixels.shape[2] // 2
    return [Arrays(album.origin, part) for part in (album.pixels[:, :, :middle], album.pixels[:, :, -middle:])]


def _no_halves(request: Request) -> str | None:
    album = request.album
    sizes = dict(zip(album.sample(), album.sizes(album.sample()), strict=True))
    odd = next((number for number, size in sizes.items() if size is not None and not is_double(size)), None)
    if odd is not None:
        height, width = sizes[odd] or (0, 0)
        return f"{readable(album.paths[odd])} is {width}x{height}, not two squares side by side"
    return None if any(sizes.values()) else "no picture can be read"


def _no_folders(request: Request) -> str | None:
    found = request.once(folders_a_b)
    return _no_names(found) if found else "there are no two folders A and B"


def _no_two(request: Request) -> str | None:
    if Pairs not in request.kinds and any(isinstance(album, Arrays) for album in request.albums):
        return "arrays have no names that could tell which pictures belong together"
    return _no_names(request.albums)


def _no_names(albums: Sequence[Album]) -> str | None:
    try:
        matched(albums, strict=False)
    except RequestError as error:
        return str(error)
    return None


def _open_halves(request: Request) -> Aligned:
    return _aligned(request, halves(request.album), [])


def _open_folders(request: Request) -> Aligned:
    return _aligned(request, *matched(request.once(folders_a_b), request.reading.strict))


def _open_two(request: Request) -> Aligned:
    return _aligned(request, *matched(request.albums, request.reading.strict))


def _aligned(request: Request, albums: Sequence[Album], notes: Sequence[str]) -> Aligned:
    albums = request.in_direction(albums)
    sides = both(read_alike(albums, request.reading, in_step=True))
    facts = [fact for album, side in zip(albums, sides, strict=True) for fact in album.stamps(side.served)]
    return Aligned(request, sides, notes, facts)


HALVES = Layout(Pairs, "files with two pictures side by side", _no_halves, _open_halves)
FOLDERS = Layout(Pairs, "folders A and B with equal names", _no_folders, _open_folders)
TWO = Layout(Pairs, "two sources X,Y with equal names", _no_two, _open_two, places=2)
