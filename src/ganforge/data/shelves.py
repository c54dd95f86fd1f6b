"""Where encoded pictures lie: a folder, a zip, tar shards, a Hugging Face data set; each a numbered shelf of files."""

from __future__ import annotations

import errno
import os
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_NAMED = 5  # names, or kinds of files, that a note lists; the rest are counted


class Shelf(ABC):
    """Encoded pictures by number, in the order of their names (shards: as they lie). Reading is safe from several threads.

    `origin` is what messages call the shelf, `identity` what tells it from others in the cache, `names` the pictures' names within it
    (with "/"; shards may repeat a name), `others` those of files that are no pictures, where they can be read by name, `notes` what was
    left out and why, `classes` the names of its labels where it knows them.
    """

    origin: str
    identity: str
    names: Sequence[str]
    others: Sequence[str] = ()
    notes: list[str]
    classes: tuple[str, ...] = ()
    runs: tuple[int, ...] | None = None
    """Lengths of the stretches that are best read in order (shards), or None."""

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def open(self, number: int) -> BinaryIO:
        """The bytes of one picture, as a file to read; OSError where it cannot be read."""

    @abstractmethod
    def stamp(self, number: int) -> tuple[int, int]:
        """(size in bytes, time of the last change in ns) of one picture: it differs where the picture was edited."""

    def place(self, number: int) -> str:
        """Where one picture lies, for messages."""
        return readable(f"{self.origin}/{self.names[number]}")

    def read_other(self, name: str) -> bytes:
        """One of `others`; OSError where there is none of this name."""
        raise FileNotFoundError(errno.ENOENT, "no such file", f"{self.origin}/{name}")

    def sidecar(self, number: int, suffix: str) -> bytes | None:
        """What lies beside a picture under the same name with another suffix (".cls", ".txt", ".json"), or None.

        `.cls` is a class's number in digits, an index into `classes` where those are known; `.txt` captions, one a line.
        """
        try:
            return self.read_other(split_suffix(self.names[number])[0] + suffix)
        except OSError:
            return None

    def sidecars(self, suffix: str) -> list[bytes | None]:
        """`sidecar` of every picture, in less time than one by one."""
        return [self.sidecar(number, suffix) for number in range(len(self))]

    def subset(self, numbers: Sequence[int] | NDArray[np.int64]) -> Shelf:
        """The shelf of these pictures, in this order; its notes are its own."""
        return Part(self, numbers)


class Part(Shelf):
    """Some pictures of another shelf, in an order of their own."""

    def __init__(self, whole: Shelf, numbers: Sequence[int] | NDArray[np.int64]) -> None:
        self._whole = whole
        self._numbers = np.asarray(numbers, dtype=np.int64)
        self.origin = whole.origin
        self.identity = whole.identity
        self.classes = whole.classes
        self.names = [whole.names[number] for number in self._numbers.tolist()]
        self.others = whole.others
        self.notes = list(whole.notes)
        self.runs = None if whole.runs is None else _runs_left(whole.runs, self._numbers)

    def open(self, number: int) -> BinaryIO:
        """As of the whole shelf."""
        return self._whole.open(int(self._numbers[number]))

    def stamp(self, number: int) -> tuple[int, int]:
        """As of the whole shelf."""
        return self._whole.stamp(int(self._numbers[number]))

    def place(self, number: int) -> str:
        """As of the whole shelf."""
        return self._whole.place(int(self._numbers[number]))

    def read_other(self, name: str) -> bytes:
        """As of the whole shelf."""
        return self._whole.read_other(name)

    def sidecar(self, number: int, suffix: str) -> bytes | None:
        """As of the whole shelf."""
        return self._whole.sidecar(int(self._numbers[number]), suffix)

    def sidecars(self, suffix: str) -> list[bytes | None]:
        """As of the whole shelf."""
        found = self._whole.sidecars(suffix)
        return [found[number] for number in self._numbers]


def _runs_left(runs: Sequence[int], numbers: NDArray[np.int64]) -> tuple[int, ...]:
    """How many of `numbers` follow each other within one run, again and again."""
    within = np.searchsorted(np.cumsum(runs), numbers, side="right")
    borders = np.flatnonzero(np.diff(within)) + 1
    return tuple(np.diff([0, *borders, len(numbers)]).tolist()) if len(numbers) else ()


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f", and {more} more" if more > 0 else "")


def readable(name: str) -> str:
    """The name with bytes that are no UTF-8 and ends of lines replaced, so that it can be printed and written on one line."""
    return _CONTROL.sub("\ufffd", os.fsencode(name).decode("utf-8", "replace"))


def split_suffix(name: str) -> tuple[str, str]:
    """("cat/1", ".jpg") of "cat/1.JPG": the suffix in small letters, "" where there is none."""
    stem, dot, suffix = name.rpartition(".")
    return (stem, f".{suffix.lower()}") if dot and "/" not in suffix else (name, "")


def hidden(name: str) -> bool:
    """Whether a part of the name begins with a dot, or is the folder in which macOS hides such files within a zip."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/") if part != ".")


def kinds_of(names: Iterable[str]) -> str:
    """How many names there are of each suffix, the most common first: 2 .png, 1 .txt."""
    kinds = Counter(split_suffix(name)[1] for name in names)
    return ", ".join(f"{count} {suffix or 'no suffix'}" for suffix, count in kinds.most_common(_NAMED))
