"""Checkpoints: written whole or not at all, known by their checksums, read without unpickling anything."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ganforge.errors import RequestError
from ganforge.files import atomic_write, flush_to_disk, write_json
from ganforge.runs import read_json
from ganforge.weights import load_weights, save_weights

_SUMS = "sha256.json"
_FILES = {"game.safetensors", "trainer.pt"}
_STATE = {"round": int, "cursor": int, "seats": dict}


class DamagedError(RequestError):
    """A checkpoint is not what was written."""


def write_checkpoint(path: Path, game: nn.Module, trainer: dict[str, Any]) -> None:
    """Writes `path`/ with the live weights and the trainer's state; a kill leaves no `path` or a whole one, OSError none."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    # A killed process may have left one behind; in a container even its number comes again.
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        save_weights(game, temporary / "game.safetensors")
        with atomic_write(temporary / "trainer.pt") as file:
            try:
                torch.save(trainer, file)
            except RuntimeError as error:
                # How torch says that the disk is full.
                raise OSError(f"{file}: {str(error).splitlines()[0]}") from None
        write_json(temporary / _SUMS, {file.name: _sum(file) for file in sorted(temporary.iterdir())})
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    flush_to_disk(path.parent)


def read_checkpoint(path: Path, game: nn.Module) -> dict[str, Any]:
    """Loads the weights into `game` and returns the trainer's state. DamagedError, before anything is loaded, where a file has changed."""
    _check(path)
    try:
        state = torch.load(path / "trainer.pt", weights_only=True, map_location="cpu")
        if not isinstance(state, dict) or not all(isinstance(state.get(key), kind) for key, kind in _STATE.items()):
            raise ValueError(f"it lacks {', '.join(_STATE)}")
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise DamagedError(f"{path / 'trainer.pt'}: not a whole trainer state ({' '.join(str(error).split())[:200]})") from None
    load_weights(game, path / "game.safetensors")
    return state


def read_newest(checkpoints: list[Path], game: nn.Module, say: Callable[[str], None]) -> dict[str, Any]:
    """The state of the last checkpoint that is whole. Damaged ones are set aside under another name, and `say` is told."""
    for path in reversed(checkpoints):
        try:
            return read_checkpoint(path, game)
        except DamagedError as error:
            aside = path.with_name(f"damaged-{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
            say(f"{error}; set aside as {aside.name}, going on from the checkpoint before it")
    raise RequestError(f"{checkpoints[0].parent}: no checkpoint is whole; begin anew with --overwrite")


def _check(path: Path) -> None:
    sums = path / _SUMS
    # Checkpoints had none before version 0.2; a directory without one is of such a run, since all files appear at once.
    if not sums.exists():
        return
    try:
        expected = read_json(sums)
        if not isinstance(expected, dict) or set(expected) != _FILES or not all((path / name).is_file() for name in _FILES):
            raise ValueError(f"{_SUMS} does not name {' and '.join(sorted(_FILES))}, or they are no files")
        wrong = next((name for name, digest in expected.items() if _sum(path / name) != digest), None)
    except (OSError, ValueError) as error:
        raise DamagedError(f"{path}: damaged ({error})") from None
    if wrong is not None:
        raise DamagedError(f"{path / wrong}: damaged, its checksum is not the one that was written")


def _sum(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def prune(checkpoints: list[Path], keep: int) -> None:
    """Removes all but the last `keep`, and what killed writers left behind."""
    for old in checkpoints[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    if checkpoints:
        for torn in checkpoints[-1].parent.glob(".[0-9]*"):
            shutil.rmtree(torn, ignore_errors=True)
