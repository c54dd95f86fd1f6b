"""Holes in pictures, [n, 1, H, W] of 1 (hole) and 0: pure functions of chance, drawn on its device."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_STROKES = 4
_SEGMENTS = 6
BLOCK_COLUMNS = 4
"""How many numbers in [0, 1) a block takes: the columns of `chance`."""
FREE_COLUMNS = _STROKES * (5 + 2 * _SEGMENTS)
"""As many a mask of strokes takes."""


def centre(n: int, height: int, width: int, device: torch.device | None = None) -> Tensor:
    """The middle rectangle of half the height and half the width: the central region of Context Encoders, arXiv:1604.07379."""
    mask = torch.zeros(n, 1, height, width, device=device)
    mask[:, :, height // 4 : height // 4 + max(1, height // 2), width // 4 : width // 4 + max(1, width // 2)] = 1
    return mask


def block(chance: Tensor, height: int, width: int) -> Tensor:
    """One rectangle whose sides are a quarter to a half of the picture's, anywhere within it; `chance` is [n, 4] in [0, 1)."""
    inside = []
    for axis, side in enumerate((height, width)):
        length = (side * (0.25 + 0.25 * chance[:, axis])).round().clamp_min(1)
        start = (chance[:, 2 + axis] * (side - length + 1)).floor()
        place = torch.arange(side, device=chance.device)
        inside.append((place >= start[:, None]) & (place < (start + length)[:, None]))
    return (inside[0][:, None, :, None] & inside[1][:, None, None, :]).float()


def free(chance: Tensor, height: int, width: int) -> Tensor:
    """Strokes of a thick brush, in the manner of free-form masks (Yu et al., ICCV 2019, arXiv:1806.03589); `chance` is [n, 68] in [0, 1).

    Each of four strokes starts anywhere, has 1 to 6 straight pieces with round joints, and turns to alternating sides at the joints.
    The brush is 1/16 to 1/6 of the shorter side wide, a piece 1/16 to 1/3 of it long: a fifth of a square picture is hole on average.
    """
    side = min(height, width)
    fixed, pieces = chance.view(len(chance), _STROKES, -1).split([5, 2 * _SEGMENTS], dim=2)
    radius = (side * (1 / 16 + (1 / 6 - 1 / 16) * fixed[..., 2]) / 2).clamp_min(0.75)
    drawn = torch.arange(_SEGMENTS, device=chance.device) <= (fixed[..., 4:] * _SEGMENTS).floor()
    turn = math.radians(120) * pieces[..., :_SEGMENTS]
    turn[..., 1::2] *= -1
    heading = math.tau * fixed[..., 3:4] + turn.cumsum(dim=2)
    length = drawn * side * (1 / 16 + (1 / 3 - 1 / 16) * pieces[..., _SEGMENTS:])
    step = torch.stack([heading.sin(), heading.cos()], dim=3) * length[..., None]
    start = torch.stack([height * fixed[..., 0], width * fixed[..., 1]], dim=2)
    begin = start[:, :, None] + torch.cat([torch.zeros_like(step[:, :, :1]), step[:, :, :-1].cumsum(dim=2)], dim=2)

    down = torch.arange(height, device=chance.device)[:, None] + 0.5
    across = torch.arange(width, device=chance.device) + 0.5
    hole = torch.zeros(len(chance), height, width, dtype=torch.bool, device=chance.device)
    # Piece by piece: all at once would hold every distance of every pixel in memory.
    for stroke in range(_STROKES):
        for piece in range(_SEGMENTS):
            top, left = begin[:, stroke, piece, :, None, None].unbind(1)
            fall, run = step[:, stroke, piece, :, None, None].unbind(1)
            along = ((down - top) * fall + (across - left) * run) / (fall.square() + run.square()).clamp_min(1e-6)
            along = along.clamp(0, 1)
            distance = (down - top - along * fall).square() + (across - left - along * run).square()
            hole |= distance < radius[:, stroke, None, None].square()
    return hole[:, None].float()
