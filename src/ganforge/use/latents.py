"""Latents in files: an .npz of `latents`, [n, k] float32, `files`, the name of each, and, of pictures, `errors`, how far each is off."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganforge.errors import RequestError
from ganforge.files import atomic_write
from ganforge.game import Game
from ganforge.use.conditions import latents
from ganforge.use.seeds import seeded

_MOST = 2**30
_GREATEST = np.finfo(np.float32).max


@dataclass(frozen=True)
class Stored:
    """What such a file holds: `latents` [n, k], finite; `files` and `errors` with one for each, or empty."""

    latents: NDArray[np.float32]
    files: list[str]
    errors: list[float]


def write_latents(path: Path, latent: Tensor, files: Sequence[str], errors: Sequence[float] = ()) -> None:
    """Writes latents, [n, ...], as [n, k] with the name of each, and how far it is off if that is known, atomically."""
    rows, names = latent.flatten(1).float().cpu().numpy(), np.array(files, dtype=np.str_)
    with atomic_write(path) as temporary:
        if errors:
            np.savez(temporary, latents=rows, files=names, errors=np.array(errors, dtype=np.float32))
        else:
            np.savez(temporary, latents=rows, files=names)


def stored_latents(path: Path, width: int) -> Stored:
    """What a file of latents holds, which a stranger may have written: nothing is unpickled, nor read above 1 GiB.

    RequestError where it is none, or its latents are not rows of `width` finite numbers, with a name and an error for each or for none.
    """
    try:
        # By a file of our own: numpy leaves open one that is torn.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            if sum(part.file_size for part in stored.zip.infolist()) > _MOST:
                raise RequestError(f"{path}: not read, as it would take more than {_MOST >> 30} GiB of memory")
            rows, files, errors = stored["latents"], *(stored[name] if name in stored else np.zeros(0) for name in ("files", "errors"))
    except RequestError:
        raise
    except (
        OSError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        EOFError,
        NotImplementedError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        what = "there is no such file" if isinstance(error, FileNotFoundError) else "holds no latents; give an .npz that has them"
        raise RequestError(f"{path}: {what}") from None
    if rows.ndim != 2 or rows.shape[1] != width or not len(rows) or rows.dtype.kind not in "fiu" or not (abs(rows) <= _GREATEST).all():
        wanted = f"this game's are [n, {width}], finite, n at least 1"
        raise RequestError(f"{path}: {rows.dtype} latents of shape {list(rows.shape)}; {wanted}")
    if any(each.shape not in ((0,), (len(rows),)) for each in (files, errors)) or errors.dtype.kind != "f":
        raise RequestError(f"{path}: has {files.size} names and {errors.size} errors for {len(rows)} latents; there is one for each")
    return Stored(rows.astype(np.float32), [str(name) for name in files], errors.tolist())


def read_latents(path: Path, game: Game, pick: Sequence[str] = ()) -> Tensor:
    """The latents of a file, [n, ...], on the game's device; only those of `pick`, names or numbers from 0, in that order, if given.

    RequestError where the file holds none, they are of another width than the game's, or one that is picked is not there.
    """
    with seeded(0, game.device):
        shape = latents(game, 1).shape[1:]
    stored = stored_latents(path, shape.numel())
    found = stored.latents
    if pick:
        found = found[[_place(path, each, stored.files, len(found)) for each in pick]]
    return torch.from_numpy(found).reshape(-1, *shape).to(game.device)


def _place(path: Path, asked: str, names: Sequence[str], n: int) -> int:
    if asked in names:
        return names.index(asked)
    if asked.isdecimal() and int(asked) < n:
        return int(asked)
    known = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    raise RequestError(f"--pick {asked}: is none of the {n} latents of {path}, by number from 0{f' or by name: {known}' if names else ''}")
