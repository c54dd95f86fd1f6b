"""Albums: pictures by name that are not decoded yet, from files or arrays, whole or a part of others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ganforge.data.decode import BadPictureError, upright_size
from ganforge.data.fit import fit
from ganforge.data.layouts.serving import Side
from ganforge.data.pixels import Stack, read_pixels
from ganforge.data.reading import Reading
from ganforge.data.shelves import Shelf

DEFAULT = (64, 64)
"""(height, width) of pictures from files where nothing is asked for."""
_HASHED = 2**26  # bytes of an array that its fingerprint reads


class Album(ABC):
    """Pictures by number. `origin` is what messages call them, `names` are relative, with "/"; `paths` are those within the whole."""

    origin: str
    names: Sequence[str]
    paths: Sequence[str]
    classes: tuple[str, ...] = ()
    """The names of the classes that the container itself tells of; those by sub-folder are a layout's matter."""
    default_shape: tuple[int, int] | None = None
    """(height, width) that is served where nothing is asked for: arrays have one shape of their own, files rarely have."""

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def subset(self, numbers: Sequence[int] | NDArray[np.int64], names: Sequence[str] | None = None) -> Album:
        """The album of these pictures, in this order, under these names (None: their own)."""

    @abstractmethod
    def sizes(self, numbers: Iterable[int]) -> list[tuple[int, int] | None]:
        """(height, width) of these pictures as they are, upright, without decoding them; None where one is no sound picture."""

    @abstractmethod
    def read(self, reading: Reading) -> Side:
        """Decodes all; bad files are left out and noted, or with `reading.strict` refused."""

    @abstractmethod
    def stamps(self, numbers: NDArray[np.int64]) -> Iterable[object]:
        """What changes when one of these pictures does, for fingerprints."""

    @abstractmethod
    def given_labels(self) -> NDArray[np.int64] | None:
        """[n], indices into `classes` where it has names for them, as the container itself tells them; None where it does not."""

    def shape_for(self, reading: Reading) -> tuple[int, int]:
        """(height, width) that `read` will give."""
        return reading.shape() or self.default_shape or DEFAULT

    def below(self, *folders: str) -> Album | None:
        """The pictures in these top folders (any case), named from there; None where there are none."""
        wanted = {folder.lower() for folder in folders}
        found = [number for number, name in enumerate(self.names) if "/" in name and name.partition("/")[0].lower() in wanted]
        return self.subset(found, [self.names[number].partition("/")[2] for number in found]) if found else None

    def bare(self) -> Album:
        """The same pictures without the folders that all of them share."""
        names = without_common_folders(self.names)
        return self if names is self.names else self.subset(np.arange(len(self)), names)

    def tops(self) -> set[str]:
        """The names of the top folders that hold pictures."""
        return {name.partition("/")[0] for name in self.names if "/" in name}

    def sample(self, count: int = 32) -> list[int]:
        """Some numbers, spread over the album."""
        return [int(number) for number in np.unique(np.linspace(0, len(self) - 1, min(count, len(self))).astype(int))] if len(self) else []


class Files(Album):
    """Encoded pictures on a shelf."""

    def __init__(self, shelf: Shelf, numbers: NDArray[np.int64], names: Sequence[str]) -> None:
        self.shelf = shelf
        self.numbers = numbers
        self.origin = shelf.origin
        self.names = names
        self.paths = [shelf.names[number] for number in numbers]
        self.classes = shelf.classes

    def given_labels(self) -> NDArray[np.int64] | None:
        """Of the shelf's `.cls` files, where every picture has one."""
        found = self.sidecars(".cls")
        if not found or not all(each is not None and each.strip().isdigit() for each in found):
            return None
        return np.array([int(each or b"0") for each in found], dtype=np.int64)

    def subset(self, numbers: Sequence[int] | NDArray[np.int64], names: Sequence[str] | None = None) -> Album:
        """See `Album`."""
        chosen = np.asarray(numbers, dtype=np.int64)
        return Files(self.shelf, self.numbers[chosen], [self.names[number] for number in chosen] if names is None else names)

    def sizes(self, numbers: Iterable[int]) -> list[tuple[int, int] | None]:
        """From the headers."""
        return [self._size(int(self.numbers[number])) for number in numbers]

    def _size(self, number: int) -> tuple[int, int] | None:
        try:
            return upright_size(self.shelf.open(number))
        except (OSError, BadPictureError):
            return None

    def read(self, reading: Reading) -> Side:
        """Into the cache, or from it."""
        shelf = self.shelf.subset(self.numbers)
        found = read_pixels(shelf, reading, DEFAULT)
        bad = {shelf.place(number): why for number, why in found.skipped.items()}
        runs = shelf.subset(found.numbers).runs if found.pixels.slow else None
        return Side(found.pixels, np.arange(len(found.numbers)), found.numbers, found.notes, bad, runs)

    def stamps(self, numbers: NDArray[np.int64]) -> Iterable[object]:
        """Names and sizes in bytes. Not the times of change: a copy on another machine is the same data."""
        return ((self.paths[number], self.shelf.stamp(int(self.numbers[number]))[0]) for number in numbers)

    def sidecars(self, suffix: str) -> list[bytes | None]:
        """What lies beside each picture under its name with this suffix, see `Shelf`."""
        return self.shelf.subset(self.numbers).sidecars(suffix)


class Arrays(Album):
    """Pictures that are arrays already: `pixels` is uint8 [n, H, W, C], `labels` [n] or None."""

    def __init__(
        self,
        origin: str,
        pixels: NDArray[np.uint8],
        labels: NDArray[np.int64] | None = None,
        classes: Sequence[str] = (),
        default_shape: tuple[int, int] | None = None,
    ) -> None:
        self.origin = origin
        self.names = self.paths = [str(number) for number in range(len(pixels))]
        self._labels = labels
        self.classes = tuple(classes)
        self.default_shape = default_shape or (pixels.shape[1], pixels.shape[2])
        self.pixels = pixels

    def subset(self, numbers: Sequence[int] | NDArray[np.int64], names: Sequence[str] | None = None) -> Album:
        """See `Album`."""
        chosen = np.asarray(numbers, dtype=np.int64)
        # All of them in their order: no copy of what may be large, and mapped from a file.
        whole = np.array_equal(chosen, np.arange(len(self)))
        labels = None if self._labels is None else self._labels[chosen]
        part = Arrays(self.origin, self.pixels if whole else self.pixels[chosen], labels, self.classes, self.default_shape)
        part.names = [self.names[number] for number in chosen] if names is None else names
        part.paths = [self.paths[number] for number in chosen]
        return part

    def given_labels(self) -> NDArray[np.int64] | None:
        """Those given."""
        return self._labels

    def sizes(self, numbers: Iterable[int]) -> list[tuple[int, int] | None]:
        """Of the array."""
        return [(self.pixels.shape[1], self.pixels.shape[2]) for _ in numbers]

    def read(self, reading: Reading) -> Side:
        """All are resized at once, in memory; at their own size nothing is copied."""
        height, width = self.shape_for(reading)
        larger = 0 if reading.fit == "patch" else reading.jitter
        pixels = fit(self.pixels, (height + larger, width + larger), reading.channels, reading.fit)
        everything = np.arange(len(self))
        return Side(Stack(pixels, (height, width)), everything, everything)

    def stamps(self, numbers: NDArray[np.int64]) -> Iterable[object]:
        """The shape and the bytes; of a large array, pictures evenly spread over it."""
        each = int(np.prod(self.pixels.shape[1:]))
        spread = numbers[:: max(1, len(numbers) * each // _HASHED)]
        yield self.pixels.shape
        # A few at a time: all of them at once would be a copy of the array.
        for start in range(0, len(spread), 1024):
            yield np.ascontiguousarray(self.pixels[spread[start : start + 1024]]).tobytes()


def without_common_folders(names: Sequence[str]) -> Sequence[str]:
    """The names without the folders that all of them share."""
    while names and all("/" in name for name in names) and len({name.partition("/")[0] for name in names}) == 1:
        names = [name.partition("/")[2] for name in names]
    return names


def read_alike(albums: Sequence[Album], reading: Reading, in_step: bool = False) -> list[Side]:
    """All albums at one size (the one asked for, else the largest of their own) and in one number of channels (3 where one has colour)."""
    shape = reading.shape()
    if shape is None:
        own = [album.default_shape for album in albums if album.default_shape]
        shape = max(own, key=lambda each: each[0] * each[1]) if own else DEFAULT
    alike = replace(reading, size=f"{shape[1]}x{shape[0]}")
    return read_in_one_colour(albums, [alike] * len(albums), in_step)


def read_in_one_colour(albums: Sequence[Album], readings: Sequence[Reading], in_step: bool = False) -> list[Side]:
    """Each album as its reading says, all in as many channels as the most coloured has; `in_step` where numbers belong together."""
    sides = [album.read(reading) for album, reading in zip(albums, readings, strict=True)]
    if in_step and any(side.pixels.slow for side in sides):
        # Where pictures are decoded as they are drawn a bad one is replaced by its neighbour, here on one side alone.
        return read_in_one_colour(albums, [replace(reading, strict=True) for reading in readings])
    most = max(side.pixels.channels for side in sides)
    return [
        side if side.pixels.channels == most else album.read(replace(reading, channels=most))
        for side, album, reading in zip(sides, albums, readings, strict=True)
    ]
