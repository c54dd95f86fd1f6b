"""Where encoded pictures lie: a folder, a zip, tar shards, a Hugging Face data set; each a numbered shelf of files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import BinaryIO


class Shelf(ABC):
    """Encoded pictures by number, sorted by name. Reading one is safe from several threads.

    `origin` is what messages call the shelf, `names` the pictures' names within it (with "/"), `notes` what was left out and why.
    """

    origin: str
    names: Sequence[str]
    notes: list[str]
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

    @abstractmethod
    def subset(self, numbers: Sequence[int]) -> Shelf:
        """The shelf of these pictures, in this order."""
