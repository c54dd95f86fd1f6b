"""Samples of a trained game, as tensors, as a picture, as single files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ganforge.batches import images_to_bytes
from ganforge.capabilities import Samples
from ganforge.errors import RequestError
from ganforge.files import atomic_write


def draw(game: Samples, n: int, chunk: int = 256) -> Tensor:
    """`n` samples from fresh latents, [n, ...], on the game's device. The latents are drawn at once, so `chunk` changes no sample."""
    return render(game, game.latent(n), chunk)


def render(game: Samples, latent: Tensor, chunk: int = 256) -> Tensor:
    """The sample of each latent, [n, ...] to [n, ...], `chunk` at a time."""
    with torch.no_grad():
        return torch.cat([game.sample(part).float() for part in torch.split(latent, chunk)])


def save_each(samples: Tensor, folder: Path, prefix: str, force: bool = False) -> list[Path]:
    """Single files: a PNG per picture, or one .npy of all points. What is there is overwritten only with `force`."""
    pictures = [folder / f"{prefix}_{number:05d}.png" for number in range(len(samples))]
    paths = pictures if samples.ndim == 4 else [folder / f"{prefix}.npy"]
    taken = next((path for path in paths if path.exists()), None)
    if taken is not None and not force:
        raise RequestError(f"{taken} exists; give another folder, or --force")
    if samples.ndim != 4:
        with atomic_write(paths[0]) as temporary:
            np.save(temporary, samples.cpu().numpy())
        return paths
    for path, pixels in zip(paths, images_to_bytes(samples).cpu().numpy(), strict=True):
        with atomic_write(path) as temporary:
            Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(temporary)
    return paths
