"""Latents in files: an .npz of `latents`, [n, k] float32, and `files`, the name of each."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ganforge.errors import RequestError
from ganforge.files import atomic_write
from ganforge.game import Game
from ganforge.use.conditions import latents
from ganforge.use.seeds import seeded


def write_latents(path: Path, latent: Tensor, files: Sequence[str]) -> None:
    """Writes latents, [n, ...], as [n, k] with the name of each, atomically."""
    with atomic_write(path) as temporary:
        np.savez(temporary, latents=latent.flatten(1).float().cpu().numpy(), files=np.array(files, dtype=np.str_))


def read_latents(path: Path, game: Game, pick: Sequence[str] = ()) -> Tensor:
    """The latents of a file, [n, ...], on the game's device; only those of `pick`, names or numbers from 0, in that order, if given.

    RequestError where the file holds none, they are of another width than the game's, or one that is picked is not there.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            found = np.asarray(stored["latents"], dtype=np.float32)
            names = [str(name) for name in stored["files"]] if "files" in stored else []
    except (OSError, KeyError, ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        what = "there is no such file" if isinstance(error, FileNotFoundError) else "holds no latents; give an .npz that has them"
        raise RequestError(f"{path}: {what}") from None
    with seeded(0, game.device):
        shape = latents(game, 1).shape[1:]
    if found.ndim != 2 or found.shape[1] != shape.numel() or not len(found) or not np.isfinite(found).all():
        raise RequestError(f"{path}: latents of shape {list(found.shape)}; this game's are [n, {shape.numel()}], finite, n at least 1")
    if pick:
        found = found[[_place(path, each, names, len(found)) for each in pick]]
    return torch.from_numpy(found).reshape(-1, *shape).to(game.device)


def _place(path: Path, asked: str, names: Sequence[str], n: int) -> int:
    if asked in names:
        return names.index(asked)
    if asked.isdecimal() and int(asked) < n:
        return int(asked)
    known = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    raise RequestError(f"--pick {asked}: is none of the {n} latents of {path}, by number from 0{f' or by name: {known}' if names else ''}")
