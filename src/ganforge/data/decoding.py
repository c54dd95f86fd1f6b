"""Many pictures of a shelf to arrays: in parallel, in order, the bad ones named."""

from __future__ import annotations

import itertools
import os
import time
import warnings
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ganforge.data.decode import BadPictureError, decode, is_grey
from ganforge.data.fit import Fit
from ganforge.data.shelves import Shelf

UNOPENED = "cannot be opened: "
"""How the reason begins why a file was left out that may be sound."""
_CHUNK = 64  # files that one thread takes at a time
_CHUNK_BYTES = 2**24  # fewer of them where pictures are large, so that waiting chunks fit in memory
_PATIENCE = 2.0  # seconds of decoding before a progress bar is worth its flicker
_LOOKED_AT = 1000  # pictures of shards that say whether all are grey
_PATCHED = 2**20  # pixels of a picture from which patches are cut, as far as nobody has looked


@dataclass(frozen=True)
class Recipe:
    """How each picture of a shelf is decoded: to `height` x `width` pixels with this `fit`; or (patch) as it is, but not smaller."""

    height: int
    width: int
    channels: int
    fit: Fit

    def decode(self, shelf: Shelf, number: int) -> NDArray[np.uint8]:
        """One picture, uint8 [H, W, channels]; BadPictureError where there is none."""
        place = shelf.place(number)
        try:
            file = shelf.open(number)
        except OSError as error:
            raise BadPictureError(place, f"{UNOPENED}{error.strerror or error}", gone=True) from None
        return decode(file, (self.height, self.width), self.channels, self.fit, place)

    @property
    def bytes(self) -> int:
        """What one picture takes; where patches are cut, a guess."""
        return (_PATCHED if self.fit == "patch" else self.height * self.width) * self.channels


def grey_or_rgb(shelf: Shelf) -> int:
    """1 where every picture of the shelf is grey by its header, else 3; of shards (they are long) the first 1,000 are looked at."""
    looked_at = min(len(shelf), _LOOKED_AT) if shelf.runs else len(shelf)
    calm()
    return 1 if all(_is_grey(shelf, number) for number in range(looked_at)) else 3


def _is_grey(shelf: Shelf, number: int) -> bool:
    try:
        return is_grey(shelf.open(number))
    except (OSError, BadPictureError):
        return True


def decoded(shelf: Shelf, recipe: Recipe, workers: int, skipped: dict[int, str]) -> Iterator[list[NDArray[np.uint8]]]:
    """The sound pictures in order, some at a time; why the others are `skipped` is noted there, by number, as it is found.

    `workers` threads decode (0: one per processor). Where a person is watching and waits long, a progress bar is shown.
    """
    calm()
    workers = workers or os.cpu_count() or 1
    length = max(1, min(_CHUNK, _CHUNK_BYTES // recipe.bytes))
    starts = iter(range(0, len(shelf), length))
    pool = ThreadPoolExecutor(workers)
    console = Console(stderr=True)
    columns = (TextColumn("decoding pictures"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = bar.add_task("decode", total=len(shelf))
    patience = time.monotonic() + _PATIENCE
    waiting: deque[Future[tuple[list[NDArray[np.uint8]], dict[int, str]]]] = deque()
    try:
        while True:
            # A few chunks ahead, so that a slow disk for the cache bounds the memory.
            for start in itertools.islice(starts, 2 * workers - len(waiting)):
                waiting.append(pool.submit(_chunk, shelf, recipe, range(start, min(start + length, len(shelf)))))
            if not waiting:
                break
            pictures, bad = waiting.popleft().result()
            skipped.update(bad)
            yield pictures
            bar.advance(task, length)
            if time.monotonic() > patience:
                bar.start()
    finally:
        bar.stop()
        pool.shutdown(cancel_futures=True)


def _chunk(shelf: Shelf, recipe: Recipe, numbers: range) -> tuple[list[NDArray[np.uint8]], dict[int, str]]:
    pictures, bad = [], {}
    for number in numbers:
        try:
            pictures.append(recipe.decode(shelf, number))
        except BadPictureError as error:
            bad[number] = error.reason
    return pictures, bad


def calm() -> None:
    """Pillow warns of odd metadata in pictures that decode well; thousands of such lines would help nobody.

    Set once for the process, not around the work: what `warnings.catch_warnings` puts back is not safe from several threads.
    """
    warnings.filterwarnings("ignore", module="PIL")
