"""Checkpoints: written whole or not at all, read without unpickling anything."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ganforge.errors import RequestError
from ganforge.files import atomic_write, flush_to_disk
from ganforge.weights import load_weights, save_weights


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
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    flush_to_disk(path.parent)


def read_checkpoint(path: Path, game: nn.Module) -> dict[str, Any]:
    """Loads the weights into `game` and returns the trainer's state."""
    load_weights(game, path / "game.safetensors")
    try:
        state: dict[str, Any] = torch.load(path / "trainer.pt", weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise RequestError(f"{path / 'trainer.pt'}: not a whole trainer state ({' '.join(str(error).split())[:200]})") from None
    return state


def prune(checkpoints: list[Path], keep: int) -> None:
    """Removes all but the last `keep`, and what killed writers left behind."""
    for old in checkpoints[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    if checkpoints:
        for torn in checkpoints[-1].parent.glob(".[0-9]*"):
            shutil.rmtree(torn, ignore_errors=True)
