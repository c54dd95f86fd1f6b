"""A folder of pictures, found file by file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ganforge.data.decode import SUFFIXES
from ganforge.data.shelves import Shelf, kinds_of, split_suffix
from ganforge.errors import RequestError


class FolderShelf(Shelf):
    """The picture files in `folder` and below, sorted by name; hidden ones and loops of links are left out, others counted in the notes.

    RequestError where no picture is found, or a folder cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.origin = str(folder)
        self.identity = str(folder.resolve())
        self._folder = folder
        found, others = _found(folder)
        counts = kinds_of(others)
        if not found:
            hint = f"; name shards by a pattern, '{folder}/*.tar'" if any(name.endswith(".tar") for name in others) else ""
            raise RequestError(f"{folder}: no picture found (.jpg, .png, .webp, ...); it holds {counts or 'no file'}{hint}")
        found.sort()
        self.names = [name for name, _, _ in found]
        self.others = sorted(others)
        self.notes = [f"{len(others)} files that are no pictures ignored ({counts})"] if others else []
        self._stamps = np.array([(size, mtime) for _, size, mtime in found], dtype=np.int64)

    def open(self, number: int) -> BinaryIO:
        """The file."""
        return (self._folder / self.names[number]).open("rb")

    def stamp(self, number: int) -> tuple[int, int]:
        """As it was when the folder was read."""
        size, mtime = self._stamps[number].tolist()
        return size, mtime

    def read_other(self, name: str) -> bytes:
        """The file."""
        return (self._folder / name).read_bytes()


def _found(folder: Path) -> tuple[list[tuple[str, int, int]], list[str]]:
    """(name, bytes, time of the last change) of each picture, and the names of the other files."""
    found: list[tuple[str, int, int]] = []
    others: list[str] = []
    seen: set[Path] = set()
    waiting = [""]
    while waiting:
        within = waiting.pop()
        here = (folder / within).resolve()
        if here in seen:
            continue
        seen.add(here)
        try:
            # A million files: no Path is made for any of them.
            with os.scandir(here) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    name = f"{within}/{entry.name}" if within else entry.name
                    try:
                        if split_suffix(entry.name)[1] in SUFFIXES and entry.is_file():
                            stat = entry.stat()
                            found.append((name, stat.st_size, stat.st_mtime_ns))
                        elif entry.is_dir():
                            waiting.append(name)
                        else:
                            others.append(name)
                    except OSError:  # A link to itself, or to where nobody may look; a file that went away just now.
                        others.append(name)
        except OSError as error:
            raise RequestError(f"{folder / within}: the folder cannot be read ({error.strerror})") from None
    return found, others
