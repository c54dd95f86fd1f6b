"""Decoded pictures kept on disk: a uint8 memory map per folder, size, channels and list of files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

# Part of every key: decoded by other rules, the same files are other pictures.
_RULES = "1"


@dataclass(frozen=True)
class PictureFile:
    """A file of a folder: its path within it (with "/"), its size in bytes, and when it was last written."""

    name: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Decoded:
    """The pictures of a folder in the order of its files: uint8 [n, H, W, C], and why each file that is missing was skipped."""

    pixels: NDArray[np.uint8]
    skipped: dict[str, str]


def cache_root() -> Path:
    """`$GANFORGE_CACHE`, or `~/.cache/ganforge` where that is not set."""
    return Path(os.environ.get("GANFORGE_CACHE") or "~/.cache/ganforge").expanduser()


def cache_key(folder: Path, files: Sequence[PictureFile], size: int, channels: int | None) -> str:
    """64 hexadecimal digits that change when a file is added, removed, renamed or written, or when other pictures are asked for."""
    digest = hashlib.sha256()
    listed = sorted((file.name, file.size, file.mtime_ns) for file in files)
    digest.update(repr((_RULES, str(folder.resolve()), size, channels, listed)).encode("utf-8", "backslashreplace"))
    return digest.hexdigest()


def load(key: str) -> Decoded | None:
    """What `store` kept under `key`, or None where there is nothing, or nothing whole."""
    entry = cache_root() / key
    try:
        about = json.loads((entry / "about.json").read_text(encoding="utf-8"))
        pixels = np.load(entry / "pixels.npy", mmap_mode="r", allow_pickle=False)
        return Decoded(pixels, dict(about["skipped"]))
    except (OSError, ValueError, EOFError, KeyError, TypeError):
        return None


def store(key: str, chunks: Iterable[NDArray[np.uint8]], about: dict[str, object], skipped: dict[str, str]) -> Decoded:
    """Writes the `chunks` ([k, H, W, C] each, at least one picture in all) under `key`, and gives them back mapped from the disk.

    `skipped` may fill while the chunks are drawn; `about` says in the entry what it holds. The entry appears whole or not at all.
    Raises OSError where the cache cannot be written.
    """
    root = cache_root()
    root.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=root))
    try:
        with (draft / "pixels.npy").open("wb") as file:
            _write_npy(file, chunks)
        (draft / "about.json").write_text(json.dumps({**about, "skipped": skipped}, indent=2) + "\n", encoding="utf-8")
        _publish(draft, root / key)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    stored = load(key)
    if stored is None:
        raise OSError(f"{root / key} cannot be read back")
    return stored


def _publish(draft: Path, entry: Path) -> None:
    if load(entry.name) is None:
        shutil.rmtree(entry, ignore_errors=True)
    try:
        draft.replace(entry)
    except OSError:
        # Another process decoded the same folder meanwhile and was first; its entry is equal.
        if load(entry.name) is None:
            raise


def _write_npy(file: BinaryIO, chunks: Iterable[NDArray[np.uint8]]) -> None:
    count, shape = 0, (0, 0, 0)
    for chunk in chunks:
        if count == 0:
            shape = chunk.shape[1:]
            _write_header(file, (0, *shape))
        count += len(chunk)
        file.write(np.ascontiguousarray(chunk).data)
    # numpy pads the header so that an array may grow along its first axis without moving.
    file.seek(0)
    _write_header(file, (count, *shape))
    file.flush()
    os.fsync(file.fileno())


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
