"""A batch of data as one contact sheet: whatever pictures belong to a sample stand side by side."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ganforge.batches import Batch, Masked, images_to_bytes
from ganforge.errors import RequestError
from ganforge.pictures.grids import grid


def sheet(batch: Batch) -> Image.Image:
    """All pictures of each sample beside each other: a and b, the low one (enlarged) and the high one, the whole and that with its hole.

    RequestError where the batch has no pictures.
    """
    return _grid([side_by_side(batch)])


def compared(groups: Sequence[Sequence[Tensor]]) -> Image.Image:
    """Groups of pictures [n, C, H, W] in [-1, 1] that belong together by their number: number i of each stand side by side on one sheet.

    The groups follow each other, and must come to the same width; small pictures are enlarged, grey ones may stand beside coloured.
    """
    return _grid([beside(group) for group in groups])


def side_by_side(batch: Batch) -> Tensor:
    """[n, C, H, W of all] in [-1, 1]: the picture fields of a batch in their order; holes are grey."""
    fields = [tensor for tensor in batch.tensors().values() if tensor.ndim == 4]
    if not fields:
        raise RequestError(f"{type(batch).__name__} holds no pictures to show")
    if isinstance(batch, Masked):
        fields = [batch.image, batch.image * (1 - batch.mask)]
    return beside(fields)


def beside(fields: Sequence[Tensor]) -> Tensor:
    """[n, C, H, W of all] in [-1, 1]: pictures in their order, small ones enlarged to the highest."""
    channels, height = max(field.shape[1] for field in fields), max(field.shape[2] for field in fields)
    shown = [F.interpolate(field, scale_factor=height // field.shape[2], mode="nearest") for field in fields]
    return torch.cat([field.expand(-1, channels, -1, -1) for field in shown], dim=3)


def _grid(sheets: Sequence[Tensor]) -> Image.Image:
    channels = max(each.shape[1] for each in sheets)
    return grid(images_to_bytes(torch.cat([each.expand(-1, channels, -1, -1) for each in sheets])).cpu().numpy())
