"""A folder of pictures: found, decoded once in parallel into the cache, served from there."""

from __future__ import annotations

import itertools
import os
import time
import warnings
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ganforge.data import cache
from ganforge.data.arrays import Pictures
from ganforge.data.cache import Decoded, PictureFile
from ganforge.data.decode import SUFFIXES, BadPictureError, decode, is_grey
from ganforge.errors import RequestError

_CHUNK = 64  # files that one thread takes at a time
_CHUNK_BYTES = 2**24  # fewer of them where pictures are large, so that waiting chunks fit in memory
_PATIENCE = 2.0  # seconds of decoding before a progress bar is worth its flicker
_Chunk = tuple[list[NDArray[np.uint8]], dict[str, str]]
_NAMED = 5  # bad files named in the notes; the rest are counted


def open_folder(
    folder: Path, *, size: int = 64, channels: int | None = None, labels: bool = False, workers: int = 0, strict: bool = False
) -> Pictures:
    """The pictures in `folder` and its sub-folders, as squares of `size` pixels; `channels` None: 1 where all are grey, else 3.

    Sub-folders are classes where `labels` asks for them, or where all pictures lie in two or more of them. Bad files are skipped
    and noted, or with `strict` refused. RequestError where no picture is found or none can be read.
    """
    files, notes = find_pictures(folder)
    if labels:
        files, outside = [file for file in files if "/" in file.name], [file.name for file in files if "/" not in file.name]
        if not files:
            raise RequestError(f"{folder}: labels are sub-folders, one a class; all {len(outside)} pictures lie in the folder itself")
        if outside and strict:
            raise RequestError(
                f"{folder / outside[0]}: lies in no sub-folder, so it has no class; move it, or leave out strict to skip such"
            )
        if outside:
            notes.append(
                f"{len(outside)} pictures skipped because they lie in no sub-folder: {_listed([_readable(name) for name in outside])}"
            )
    decoded = _Job(folder, files, size, channels, workers, strict).decoded(notes)
    if decoded.skipped:
        shown = [f"{_readable(name)} ({reason})" for name, reason in decoded.skipped.items()]
        notes.append(f"{len(shown)} of {len(files)} files skipped: {_listed(shown)}")
    tops = [_readable(file.name.partition("/")[0]) for file in files if file.name not in decoded.skipped]
    nested = all("/" in file.name for file in files)
    if labels or (nested and len(set(tops)) > 1):
        classes, indices = np.unique(tops, return_inverse=True)
        notes.insert(0, f"the {len(classes)} sub-folders are the classes")
        return Pictures(str(folder), decoded.pixels, indices.astype(np.int64), [str(each) for each in classes], notes)
    return Pictures(str(folder), decoded.pixels, notes=notes)


def find_pictures(folder: Path) -> tuple[list[PictureFile], list[str]]:
    """The picture files in `folder` and below, sorted by name, and notes on the others; hidden ones and loops of links are left out."""
    found: list[PictureFile] = []
    others: Counter[str] = Counter()
    seen: set[Path] = set()
    waiting = [""]
    while waiting:
        within = waiting.pop()
        here = (folder / within).resolve()
        if here in seen:
            continue
        seen.add(here)
        try:
            with os.scandir(here) as entries:
                for entry in entries:
                    name = f"{within}/{entry.name}" if within else entry.name
                    suffix = Path(entry.name).suffix.lower()
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir():
                        waiting.append(name)
                    elif suffix in SUFFIXES and entry.is_file():
                        stat = entry.stat()
                        found.append(PictureFile(name, stat.st_size, stat.st_mtime_ns))
                    else:
                        others[suffix or "no suffix"] += 1
        except OSError as error:
            raise RequestError(f"{folder / within}: the folder cannot be read ({error.strerror})") from None
    counts = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(_NAMED))
    if not found:
        raise RequestError(
            f"{folder}: no picture found (.jpg, .png, .webp, ...)" + (f"; it holds {counts}" if counts else "; it holds no file")
        )
    notes = [f"{others.total()} files that are no pictures ignored ({counts})"] if others else []
    return sorted(found, key=lambda file: file.name), notes


@dataclass(frozen=True)
class _Job:
    """What is decoded, and how."""

    folder: Path
    files: list[PictureFile]
    size: int
    channels: int | None
    workers: int
    strict: bool

    def decoded(self, notes: list[str]) -> Decoded:
        """From the cache, else decoded into it, else (noted) into memory."""
        key = cache.cache_key(self.folder, self.files, self.size, self.channels)
        kept = cache.load(key)
        if kept is None:
            skipped: dict[str, str] = {}
            about = {"folder": str(self.folder.resolve()), "size": self.size, "channels": self.channels}
            try:
                return cache.store(key, self.chunks(skipped), about, skipped)
            except OSError as error:
                notes.append(f"decoded into memory: the cache {cache.cache_root()} cannot be written ({error.strerror or error})")
            skipped.clear()
            return Decoded(np.concatenate(list(self.chunks(skipped))), skipped)
        if self.strict:
            self.refuse(kept.skipped)
        return kept

    def refuse(self, skipped: dict[str, str]) -> None:
        """RequestError that names the first bad file, if there is one."""
        for name, reason in skipped.items():
            raise RequestError(f"{self.folder / name}: {reason}; mend or remove it, or leave out strict to skip such files")

    def chunks(self, skipped: dict[str, str]) -> Iterator[NDArray[np.uint8]]:
        """The sound pictures in order, uint8 [k, H, W, C] at a time; why the others are `skipped` is noted there as it is found."""
        with warnings.catch_warnings():
            # Pillow warns of odd metadata in pictures that decode well; thousands of such lines would help nobody.
            warnings.simplefilter("ignore")
            channels = self.channels or (1 if all(is_grey(self.folder / file.name) for file in self.files) else 3)
            found = 0
            for pixels, bad in self._in_parallel(channels):
                skipped.update(bad)
                if self.strict:
                    self.refuse(bad)
                found += len(pixels)
                if pixels:
                    yield np.stack(pixels)
        if not found:
            name, reason = next(iter(skipped.items()))
            raise RequestError(f"{self.folder}: none of its {len(self.files)} pictures can be read; the first, {name}: {reason}")

    def _in_parallel(self, channels: int) -> Iterator[_Chunk]:
        """Chunks in the order of the files, with a progress bar where a person is watching and waits long."""
        workers = self.workers or os.cpu_count() or 1
        length = max(1, min(_CHUNK, _CHUNK_BYTES // (self.size**2 * channels)))
        starts = iter(range(0, len(self.files), length))
        pool = ThreadPoolExecutor(workers)
        console = Console(stderr=True)
        columns = (TextColumn("decoding pictures"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        task = bar.add_task("decode", total=len(self.files))
        patience = time.monotonic() + _PATIENCE
        waiting: deque[Future[_Chunk]] = deque()
        try:
            while True:
                # A few chunks ahead, so that a slow disk for the cache bounds the memory.
                for start in itertools.islice(starts, 2 * workers - len(waiting)):
                    waiting.append(pool.submit(self._chunk, self.files[start : start + length], channels))
                if not waiting:
                    break
                yield waiting.popleft().result()
                bar.advance(task, length)
                if time.monotonic() > patience:
                    bar.start()
        finally:
            bar.stop()
            pool.shutdown(cancel_futures=True)

    def _chunk(self, files: list[PictureFile], channels: int) -> _Chunk:
        pixels, bad = [], {}
        for file in files:
            try:
                pixels.append(decode(self.folder / file.name, self.size, channels))
            except BadPictureError as error:
                bad[file.name] = error.reason
        return pixels, bad


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f", and {more} more" if more > 0 else "")


def _readable(name: str) -> str:
    """The name with bytes that are no UTF-8 replaced, so that it can be printed and written."""
    return os.fsencode(name).decode("utf-8", "replace")
