"""Decoded pictures by number, all of one shape: mapped from the cache, in memory, or decoded as they are drawn."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from ganforge.data import cache
from ganforge.data.cache import Decoded
from ganforge.data.decode import BadPictureError
from ganforge.data.decoding import UNOPENED, Recipe, calm, decoded, grey_or_rgb
from ganforge.data.reading import Reading
from ganforge.data.shelves import Shelf, listed, readable
from ganforge.errors import RequestError, TrainingError

_IN_MEMORY = 2**28  # bytes of pictures that may stay in memory where the cache cannot be written
_TRIES = 100  # bad pictures in a row, as they are drawn, after which something else is wrong


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

    def taken(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """The numbers of the pictures that `take` gave for these `indices`, which another may have stood in for."""
        ...


class Stack:
    """Pixels of one array, uint8 [n, H, W, C], in memory or mapped; where it is larger than `shape` (height, width), each is cut."""

    slow = False

    def __init__(self, pixels: NDArray[np.uint8], shape: tuple[int, int] | None = None) -> None:
        # As a plain array: indexing a numpy.memmap pays for its subclass on every call.
        self.pixels = pixels.view(np.ndarray)
        self.height: int
        self.width: int
        self.height, self.width = shape or self.pixels.shape[1:3]
        self.channels = self.pixels.shape[3]

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, indices: NDArray[np.int64], corner: NDArray[np.float32] | None = None) -> NDArray[np.uint8]:
        """As of `Pixels`."""
        if self.pixels.shape[1:3] == (self.height, self.width):
            return self.pixels[indices]
        return _patches((self.pixels[index] for index in indices), self, len(indices), corner)

    def taken(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """As of `Pixels`: themselves."""
        return indices


class Ragged:
    """Pixels of pictures of different shapes that lie one after the other in one flat array; patches are cut from them."""

    slow = False

    def __init__(self, pixels: NDArray[np.uint8], shapes: NDArray[np.int64], channels: int, shape: tuple[int, int]) -> None:
        self.height, self.width = shape
        self.channels = channels
        self._pixels = pixels
        self._shapes = shapes
        self._ends = np.cumsum(shapes.prod(axis=1) * channels)

    def __len__(self) -> int:
        return len(self._shapes)

    def take(self, indices: NDArray[np.int64], corner: NDArray[np.float32] | None = None) -> NDArray[np.uint8]:
        """As of `Pixels`."""
        return _patches((self._whole(int(index)) for index in indices), self, len(indices), corner)

    def taken(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """As of `Pixels`: themselves."""
        return indices

    def _whole(self, index: int) -> NDArray[np.uint8]:
        end, (height, width) = self._ends[index], self._shapes[index]
        return self._pixels[end - height * width * self.channels : end].reshape(height, width, self.channels)


class OnDemand:
    """Pixels decoded as they are drawn, by `workers` threads, from the shelf itself.

    A bad picture is replaced by the next sound one of the shelf, which is said once; `strict`: TrainingError names it. What cannot be
    opened any more is a TrainingError always.
    """

    slow = True

    def __init__(self, shelf: Shelf, recipe: Recipe, shape: tuple[int, int], workers: int, strict: bool) -> None:
        calm()
        self.height, self.width = shape
        self.channels = recipe.channels
        self._shelf = shelf
        self._recipe = recipe
        self._strict = strict
        self._bad: set[int] = set()
        self._pool = ThreadPoolExecutor(workers or os.cpu_count() or 1)

    def __len__(self) -> int:
        return len(self._shelf)

    def take(self, indices: NDArray[np.int64], corner: NDArray[np.float32] | None = None) -> NDArray[np.uint8]:
        """As of `Pixels`."""
        return _patches(self._pool.map(self._sound, indices.tolist()), self, len(indices), corner)

    def taken(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """As of `Pixels`: where one is bad, the next that is not."""
        steps = range(len(self))
        sound = (
            next((index + step) % len(self) for step in steps if (index + step) % len(self) not in self._bad) for index in indices.tolist()
        )
        return np.fromiter(sound, dtype=np.int64, count=len(indices))

    def _sound(self, number: int) -> NDArray[np.uint8]:
        """The picture `number`, or the next one that can be decoded."""
        tried = [(number + step) % len(self) for step in range(min(_TRIES, len(self)))]
        for candidate in tried:
            if candidate in self._bad:
                continue
            try:
                return self._recipe.decode(self._shelf, candidate)
            except BadPictureError as error:
                if error.gone:
                    raise TrainingError(f"{error}; it was there when the data were opened: put it back, then go on with --resume") from None
                if self._strict:
                    raise TrainingError(f"{error}; mend or remove it, or leave out --strict to pass over such files") from None
                if not self._bad:
                    said = f"{error}: the next picture takes its place, as for all that cannot be decoded (said once)"
                    Console(stderr=True).print(said, highlight=False, markup=False, soft_wrap=True)
                self._bad.add(candidate)
        raise TrainingError(f"{self._shelf.place(number)} and the {len(tried) - 1} after it: no picture that can be decoded")


class Read(NamedTuple):
    """What `read_pixels` gives: the pixels, which `numbers` of the shelf they are, notes, and why others were `skipped`, by number."""

    pixels: Pixels
    numbers: NDArray[np.int64]
    notes: list[str]
    skipped: dict[int, str]


def read_pixels(shelf: Shelf, reading: Reading, default: tuple[int, int] = (64, 64)) -> Read:
    """The pictures of the shelf as `reading` asks, at `default` (height, width) where it names no size.

    They are decoded once into the cache, which is made in parallel and shared between processes. Where it cannot be written they are
    decoded into memory (up to 256 MiB), else, or with `--cache none`, as they are drawn. Bad ones are skipped and noted, or with
    `strict` refused; of pictures decoded as they are drawn that is not known yet. RequestError where no picture can be read.
    """
    if not len(shelf):
        raise RequestError(f"{shelf.origin}: no picture to read")
    job = _Job(shelf, reading, reading.shape() or default)
    root = cache.cache_root(reading.cache)
    if root is None:
        return Read(job.on_demand(), np.arange(len(shelf)), [], {})
    try:
        kept = cache.keep(root, job.key(), job.write)
        if any(why.startswith(UNOPENED) and _opens(shelf, number) for number, why in kept.skipped.items()):
            cache.forget(root, job.key())
            kept = cache.keep(root, job.key(), job.write)
        return job.served(kept)
    except OSError as error:
        why = f"the cache {root} cannot be written ({error.strerror or error})"
    found = job.in_memory()
    if found is None:
        return Read(job.on_demand(), np.arange(len(shelf)), [f"decoded as they are drawn, which is slower: {why}"], {})
    served = job.served(found)
    served.notes.insert(0, f"decoded into memory: {why}")
    return served


def _opens(shelf: Shelf, number: int) -> bool:
    try:
        shelf.open(number).close()
    except (OSError, BadPictureError):
        return False
    return True


@dataclass
class _Job:
    """What is decoded, and how; `shape` (height, width) is what is served."""

    shelf: Shelf
    reading: Reading
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        # Patches are cut at random anyway.
        more = 0 if self.reading.fit == "patch" else self.reading.jitter
        self.size = self.shape[0] + more, self.shape[1] + more

    def recipe(self) -> Recipe:
        return Recipe(*self.size, self.reading.channels or grey_or_rgb(self.shelf), self.reading.fit)

    def key(self) -> str:
        """Jitter counts in the size alone: 286 pixels decode alike, whether 256 are cut from them or not."""
        listing = ((name, self.shelf.stamp(number)) for number, name in enumerate(self.shelf.names))
        return cache.cache_key(self.shelf.identity, (self.size, self.reading.fit, self.reading.channels), listing)

    def write(self, draft: Path) -> None:
        """Decodes all into the folder of a cache entry."""
        recipe = self.recipe()
        flat = recipe.fit == "patch"
        if not flat:
            cache.check_room(draft, len(self.shelf) * recipe.bytes)
        skipped: dict[int, str] = {}
        about: dict[str, object] = {"origin": readable(self.shelf.origin), "height": self.size[0], "width": self.size[1], "fit": recipe.fit}
        cache.write(draft, self.sound(recipe, skipped), recipe.channels, skipped, about, flat)

    def in_memory(self) -> Decoded | None:
        """All decoded into memory; None where that takes more than 256 MiB."""
        recipe = self.recipe()
        if recipe.fit != "patch" and len(self.shelf) * recipe.bytes > _IN_MEMORY:
            return None
        skipped: dict[int, str] = {}
        pictures: list[NDArray[np.uint8]] = []
        taken = 0
        for chunk in self.sound(recipe, skipped):
            pictures.extend(chunk)
            taken += sum(picture.size for picture in chunk)
            if taken > _IN_MEMORY:
                return None
        if recipe.fit != "patch":
            return Decoded(np.stack(pictures), skipped, recipe.channels)
        shapes = np.array([picture.shape[:2] for picture in pictures], dtype=np.int64)
        return Decoded(np.concatenate([picture.ravel() for picture in pictures]), skipped, recipe.channels, shapes)

    def served(self, found: Decoded) -> Read:
        """What was decoded, and what is said of it."""
        self.refuse(found.skipped)
        count = len(self.shelf)
        shown = [f"{readable(self.shelf.names[number])} ({reason})" for number, reason in found.skipped.items()]
        notes = [f"{len(shown)} of {count} files skipped: {listed(shown)}"] if shown else []
        if found.shapes is None:
            pixels: Pixels = Stack(found.pixels, self.shape)
        else:
            pixels = Ragged(found.pixels, found.shapes, found.channels, self.shape)
        return Read(pixels, np.delete(np.arange(count), list(found.skipped)), notes, found.skipped)

    def on_demand(self) -> OnDemand:
        """Decoded as they are drawn; RequestError where already the first pictures cannot be."""
        pixels = OnDemand(self.shelf, self.recipe(), self.shape, self.reading.workers, self.reading.strict)
        try:
            pixels.take(np.zeros(1, dtype=np.int64))
        except TrainingError as error:
            raise RequestError(str(error)) from None
        return pixels

    def sound(self, recipe: Recipe, skipped: dict[int, str]) -> Iterator[list[NDArray[np.uint8]]]:
        """The sound pictures in order, at least one; RequestError at the first bad one where `strict`, or where all are bad."""
        found = 0
        for pictures in decoded(self.shelf, recipe, self.reading.workers, skipped):
            self.refuse(skipped)
            found += len(pictures)
            yield pictures
        if not found:
            number, reason = next(iter(skipped.items()))
            raise RequestError(
                f"{self.shelf.origin}: none of its {len(self.shelf)} pictures can be read; "
                f"the first, {readable(self.shelf.names[number])}: {reason}"
            )

    def refuse(self, skipped: dict[int, str]) -> None:
        """RequestError of the first bad file, where `strict` and there is one."""
        if self.reading.strict and skipped:
            number, reason = next(iter(skipped.items()))
            raise RequestError(f"{self.shelf.place(number)}: {reason}; mend or remove it, or leave out --strict to skip such files")


def _patches(pictures: Iterator[NDArray[np.uint8]], pixels: Pixels, count: int, corner: NDArray[np.float32] | None) -> NDArray[np.uint8]:
    """[count, height, width, channels] cut from pictures that are at least as large."""
    height, width = pixels.height, pixels.width
    patches = np.empty((count, height, width, pixels.channels), dtype=np.uint8)
    for number, picture in enumerate(pictures):
        room = picture.shape[0] - height, picture.shape[1] - width
        if corner is None:
            top, left = room[0] // 2, room[1] // 2
        else:
            # In 64 bits: in 32 the largest number below 1 could round up to the place after the last.
            top, left = (int(place * (free + 1)) for place, free in zip(corner[number].tolist(), room, strict=True))
        patches[number] = picture[top : top + height, left : left + width]
    return patches
