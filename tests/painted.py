"""Flat grey pictures, known again by their level, and the sources that are opened of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ganforge.batches import Batch, images_to_bytes
from ganforge.data import Finite, open_source
from ganforge.data.layouts.images import Pictures

CPU = torch.device("cpu")


def paint(path: Path, level: int, size: int = 4) -> Path:
    """Saves a flat grey square, known again by its level."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (size, size), level).save(path)
    return path


def opened(path: Path | str, *kinds: type[Batch], **options: Any) -> Pictures:
    """The source, of pictures of 4x4 where nothing else is asked."""
    source = open_source(str(path), kinds=kinds, **{"size": 4, **options})
    assert isinstance(source, Pictures)
    return source


def everything(source: Finite, kind: type[Batch]) -> Any:
    """All samples in their order, nothing random."""
    return source.gather(kind, torch.arange(source.count), CPU)


def levels(batch: Any) -> list[int]:
    """The first byte of each picture, which is all there is to a flat grey one."""
    return [int(value) for value in images_to_bytes(batch.image)[:, 0, 0, 0]]
