"""Decoded pictures kept on disk: a uint8 memory map for each way to decode a list of files.

A cache folder holds, for a KEY of 64 hexadecimal digits: `KEY/` (about.json, pixels.npy and, where shapes differ, shapes.npy), `.lock-KEY`
(who decodes; freed by the operating system however the decoder dies), `.draft-KEY/` (half an entry), and `shard-KEY.json` (where the
members of a tar file lie). Nothing else in the folder is ever touched.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from rich.console import Console

# Part of every key: decoded by other rules, the same files are other pictures.
_RULES = "4"
_OURS = re.compile(r"(\.lock-|\.draft-|shard-|reader-|features-)?([0-9a-f]{64})(\.json|\.safetensors)?")
_FILES = frozenset(("about.json", "pixels.npy", "shapes.npy"))
_PATIENCE = 2.0  # seconds of waiting for another process before a person should know why nothing happens
_SPARE = 2**24  # bytes left free beside what is written


@dataclass(frozen=True)
class Decoded:
    """The sound pictures of a list in its order, and why each that is missing, by its number in the list, was skipped.

    `pixels` is uint8 [n, H, W, C]; or, where `shapes` [n, 2] gives (height, width) of each picture, flat: one after the other.
    """

    pixels: NDArray[np.uint8]
    skipped: dict[int, str]
    channels: int
    shapes: NDArray[np.int64] | None = None


def cache_root(cache: str | None = None) -> Path | None:
    """The folder that `cache` names; None (the argument): `$GANFORGE_CACHE`, or `~/.cache/ganforge`; "none": None, keep nothing."""
    if cache == "none":
        return None
    return Path(cache or os.environ.get("GANFORGE_CACHE") or "~/.cache/ganforge").expanduser()


def cache_key(identity: str, asked: object, listing: Iterable[tuple[str, tuple[int, int]]]) -> str:
    """64 hexadecimal digits that change when a file is added, removed, renamed, written or moved in the list, or asked for otherwise.

    `identity` says which shelf, `asked` how it is decoded, `listing` gives (name, (bytes, time of the last change)) in order.
    """
    digest = hashlib.sha256(repr((_RULES, identity, asked)).encode("utf-8", "backslashreplace"))
    for entry in listing:
        digest.update(repr(entry).encode("utf-8", "backslashreplace"))
    return digest.hexdigest()


def load(entry: Path) -> Decoded | None:
    """What `write` wrote into the folder `entry`, mapped; or None where there is nothing, or nothing whole."""
    try:
        about = json.loads((entry / "about.json").read_text(encoding="utf-8"))
        pixels = np.load(entry / "pixels.npy", mmap_mode="r", allow_pickle=False)
        count, channels, skipped = about["count"], about["channels"], {int(number): str(why) for number, why in about["skipped"].items()}
        if pixels.dtype != np.uint8 or channels not in (1, 3):
            return None
        if pixels.ndim == 4 and pixels.shape[0] == count and pixels.shape[3] == channels:
            return Decoded(pixels.view(np.ndarray), skipped, channels)
        shapes = np.load(entry / "shapes.npy", allow_pickle=False)
        whole = pixels.ndim == 1 and shapes.shape == (count, 2) and shapes.prod(axis=1).sum() * channels == len(pixels)
        return Decoded(pixels.view(np.ndarray), skipped, channels, shapes) if whole else None
    except (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError):
        return None


def write(
    draft: Path, chunks: Iterable[Sequence[NDArray[np.uint8]]], channels: int, skipped: dict[int, str], about: dict[str, object], flat: bool
) -> None:
    """Writes the pictures of all `chunks` (each [H, W, C]; at least one in all) into the folder `draft`, for `load`.

    `skipped` may fill while the chunks are drawn; `about` says in the entry what it holds; `flat` where shapes differ. OSError where the
    disk is full.
    """
    shapes: list[tuple[int, int]] = []
    with (draft / "pixels.npy").open("wb") as file:
        for chunk in chunks:
            if not shapes and chunk:
                _write_header(file, (0,) if flat else (0, *chunk[0].shape))
            for picture in chunk:
                shapes.append((picture.shape[0], picture.shape[1]))
                file.write(np.ascontiguousarray(picture).data)
        # numpy pads the header so that an array may grow along its first axis without moving.
        file.seek(0)
        total = sum(height * width for height, width in shapes) * channels
        _write_header(file, (total,) if flat else (len(shapes), *shapes[0], channels))
        file.flush()
        os.fsync(file.fileno())
    if flat:
        np.save(draft / "shapes.npy", np.array(shapes, dtype=np.int64))
    told = {"what": "pictures decoded by ganforge", **about, "count": len(shapes), "channels": channels, "skipped": skipped}
    (draft / "about.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def keep(root: Path, key: str, make: Callable[[Path], None]) -> Decoded:
    """What is kept under `key`; where there is nothing whole, `make` writes it into a folder, which then appears at once or not at all.

    Another process that makes the same is waited for. Raises OSError where the cache cannot be written, and what `make` raises.
    """
    found = load(root / key)
    if found is None:
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root, key):
            found = load(root / key) or _made(root, key, make)
    return found


def forget(root: Path, key: str) -> None:
    """Removes what is kept under `key`, where that can be done; what another process reads of it stays until it ends."""
    with _locked(root, key):
        shutil.rmtree(root / key, ignore_errors=True)


def _made(root: Path, key: str, make: Callable[[Path], None]) -> Decoded:
    _sweep(root)
    draft, entry = root / f".draft-{key}", root / key
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        make(draft)
        shutil.rmtree(entry, ignore_errors=True)
        draft.replace(entry)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    found = load(entry)
    if found is None:
        raise OSError(errno.EIO, "what was written cannot be read back", str(entry))
    return found


@contextmanager
def _locked(root: Path, key: str) -> Iterator[None]:
    lock = FileLock(root / f".lock-{key}")
    try:
        lock.acquire(timeout=_PATIENCE)
    except Timeout:
        Console(stderr=True).print("waiting for another process that decodes the same pictures", highlight=False)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _sweep(root: Path) -> None:
    """Removes half entries whose maker died."""
    for draft in root.glob(".draft-*"):
        key = _key_of(draft)
        if key is not None:
            with suppress(Timeout, OSError), FileLock(root / f".lock-{key}", blocking=False):
                shutil.rmtree(draft, ignore_errors=True)


def check_room(root: Path, needed: int) -> None:
    """OSError (no space left) where the disk of the folder `root` has no room for so many bytes."""
    free = shutil.disk_usage(root).free
    if needed + _SPARE > free:
        raise OSError(errno.ENOSPC, f"{needed / 2**30:.1f} GiB needed, {free / 2**30:.1f} GiB free", str(root))


def clear_cache(root: Path) -> tuple[int, int]:
    """Removes what ganforge keeps in the folder `root`, and nothing else there; what another process is making stays.

    Gives (entries, bytes) that were removed.
    """
    entries = freed = 0
    for path in sorted(root.iterdir()) if root.is_dir() else []:
        key = _key_of(path)
        if key is None or path.name.startswith(".lock-"):
            continue
        with suppress(Timeout), FileLock(root / f".lock-{key}", blocking=False):
            freed += path.stat().st_size if path.is_file() else sum(file.stat().st_size for file in path.iterdir())
            entries += 1
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    _remove_locks(root)
    return entries, freed


def _remove_locks(root: Path) -> None:
    for path in root.glob(".lock-*"):
        # Whoever opened the file meanwhile sees that it has no name any more, and locks a new one.
        with suppress(Timeout, OSError):
            if _key_of(path):
                with FileLock(path, blocking=False):
                    path.unlink()


def _key_of(path: Path) -> str | None:
    """The key of what ganforge keeps at `path`; None where it is none of ours."""
    match = _OURS.fullmatch(path.name)
    if match is None or path.is_symlink():
        return None
    kind, key, ending = match.groups()
    if path.is_dir():
        ours = kind in (None, ".draft-") and not ending and {file.name for file in path.iterdir()} <= _FILES
    else:
        ours = (kind, ending) in ((".lock-", None), ("shard-", ".json"), ("reader-", ".safetensors"), ("features-", ".safetensors"))
    return key if ours else None
